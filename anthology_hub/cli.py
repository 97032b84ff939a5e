"""The command line: every command parses, makes one library call and prints."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from anthology_hub import __version__, weights
from anthology_hub.cli_annotating import annotate_command
from anthology_hub.cli_comparing import compare_command, evaluate_command
from anthology_hub.cli_embedding import embed_command
from anthology_hub.cli_humans import humans_group
from anthology_hub.cli_interviewing import interview_command
from anthology_hub.cli_making import generate_command
from anthology_hub.cli_planning import power_command, rectify_command
from anthology_hub.cli_sharing import COMMANDS
from anthology_hub.cli_simulating import match_command, simulate_command
from anthology_hub.cli_studies import reproduce_command
from anthology_hub.cli_surveys import survey_group
from anthology_hub.console import (
    Bars,
    json_option,
    load_people,
    one_line,
    people_options,
    print_board,
    print_json,
    print_tree,
    seed_option,
)
from anthology_hub.diagnostics import in_words
from anthology_hub.errors import AnthologyError
from anthology_hub.humans import sources
from anthology_hub.labhub.commands import hub_group, serve_command
from anthology_hub.places import is_uri
from anthology_hub.pools import kinds
from anthology_hub.quickstart import MODEL, WARNING, quickstart
from anthology_hub.schema import Codebook, Persona, Survey, shipped
from anthology_hub.simulation import load_run

EXIT_CODES = "Exit codes: 0 done; 1 an error, told in one line; 2 wrong usage; 130 interrupted."


class _Group(click.Group):
    """Turns the library's errors into one line and exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - click's own type
        _quiet()
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # Whoever reads has seen enough, as in `| head`: click ends quietly then.
            raise
        except (AnthologyError, OSError) as error:
            click.echo(f"error: {one_line(str(error))}", err=True)
            ctx.exit(1)
        except KeyboardInterrupt:
            click.echo("interrupted: the same command goes on where it stopped, if it keeps a run folder", err=True)
            ctx.exit(130)


@click.group(cls=_Group, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="anthology-hub")
def main() -> None:
    """Virtual personas: search, match, simulate, evaluate, rank, share.

    Example: anthology-hub quickstart
    """


@main.command("quickstart")
@click.option("--out", default="anthology-quickstart", show_default=True, type=click.Path(path_type=Path))
@click.option("--respondents", default=40, show_default=True, help="People to stand in for.")
@click.option("--model", default=MODEL, show_default=True)
@seed_option
@json_option
def quickstart_command(out: Path, respondents: int, model: str, seed: int, as_json: bool) -> None:
    """Walk the whole way once, on real input; run again to go on.

    Example: anthology-hub quickstart --respondents 4
    """
    say = _nothing if as_json else click.echo
    with Bars(quiet=as_json) as bars:
        walk = quickstart(out, respondents=respondents, model=model, seed=seed, say=say, progress=bars.start)
    if as_json:
        print_json(
            {
                "rows": [asdict(row) for row in walk.rows],
                "verdict": walk.verdict,
                "folder": str(walk.folder),
                "token": walk.token,
            }
        )
        return
    click.echo("5. Leaderboard\n")
    print_board(walk.rows)
    click.echo(f"\n{walk.verdict}\n\n{WARNING}\n\nWhere everything lies:")
    for name, what in (("runs", "runs, resumable"), ("hub", "the private hub"), ("reports", "one page per run")):
        click.echo(f"  {walk.folder / name}  {what}")
    click.echo("  " + "\n  ".join(str(page) for page in walk.reports))
    click.echo(f"\nBrowse the hub: anthology-hub serve {walk.folder / 'hub'}  and sign in with {walk.token}")
    click.echo('\nTry next:\n  anthology-hub search "raised by a grandmother" --where region=South')
    click.echo(f"  anthology-hub show {walk.folder / 'runs' / 'bio'}")


@main.command("search")
@click.argument("text")
@click.option("-k", default=5, show_default=True, help="Number of personas.")
@people_options
@json_option
def search_command(
    text: str, k: int, collection: str, revision: str | None, conditions: tuple[str, ...], as_json: bool
) -> None:
    """Find personas by meaning, among those that fit the conditions.

    Example: anthology-hub search "grew up on a farm" --where "age=50-64|65+" --where region=South
    """
    found = load_people(collection, revision, conditions).search(text, k=k)
    if as_json:
        print_json([persona.to_dict() for persona in found])
        return
    for persona in found:
        traits = ", ".join(
            persona.traits[name] or "?" for name in ("age", "gender", "region") if name in persona.traits
        )
        click.echo(
            f"{persona.score:6.3f}  {persona.persona_id}  {traits}\n        {one_line(persona.passage or '')[:200]}"
        )
    if found.shortfall:
        click.echo(f"{found.shortfall} fewer than asked: no more personas fit the conditions", err=True)


@main.command("list")
@click.argument(
    "kind", required=False, type=click.Choice(["surveys", "humans", "codebooks", "crosswalks", "pools", "models"])
)
@json_option
def list_command(kind: str | None, as_json: bool) -> None:
    """List what comes with the package.

    Example: anthology-hub list surveys
    """
    found = {name: entries for name, entries in _catalogue().items() if kind in (None, name)}
    if as_json:
        print_json(found)
        return
    for name, entries in found.items():
        click.echo(name)
        for entry, about in entries.items():
            click.echo(f"  {entry:28} {about}")


@main.command("show")
@click.argument("name")
@people_options
@json_option
def show_command(name: str, collection: str, revision: str | None, conditions: tuple[str, ...], as_json: bool) -> None:
    """Show a survey, a codebook, a run folder or its URI, or a persona by its id (or the first digits of it).

    Example: anthology-hub show gss-national-spending
    """
    if is_uri(name) or Path(name).is_dir():
        shown = _run_summary(name)
    elif name in shipped("surveys"):
        shown = Survey.load(name).to_dict()
    elif name in shipped("codebooks"):
        shown = Codebook.load(name).to_dict()
    else:
        people = load_people(collection, revision, conditions)
        persona = people.get(name)
        if not as_json:
            _print_persona(persona, people.annotations_of(persona.persona_id))
            return
        shown = {**persona.to_dict(), "annotations": people.annotations_of(persona.persona_id)}
    if as_json:
        print_json(shown)
    else:
        print_tree(shown)


# -- what the commands share -----------------------------------------------------------------------------------------


def _catalogue() -> dict[str, dict[str, str]]:
    surveys = {name: Survey.load(name) for name in shipped("surveys")}
    return {
        "surveys": {name: f"{survey.title}, {len(survey.questions)} questions" for name, survey in surveys.items()},
        "humans": sources(),
        "codebooks": {name: ", ".join(t.name for t in Codebook.load(name).traits) for name in shipped("codebooks")},
        "crosswalks": {name: "persona levels to survey levels" for name in shipped("crosswalks")},
        "pools": kinds(),
        "models": {f"local:{name}": package["title"] for name, package in weights.packages().items()}
        | {"scripted:uniform": "every option as likely", "scripted:first": "always the first option shown"},
    }


def _run_summary(folder: str) -> dict[str, Any]:
    answers = load_run(folder)
    inputs = answers.provenance["inputs"]
    told = in_words(inputs["matching"])
    return {
        "run_id": answers.provenance["run_id"],
        "started": answers.provenance["started"],
        **{
            name: inputs[name]
            for name in ("humans", "collection", "cast", "matching", "survey", "model", "options", "seed")
        },
        **({"matching_notes": " ".join(told)} if told else {}),
        "coverage": answers.coverage,
    }


def _nothing(_line: str) -> None:
    return None


def _quiet() -> None:
    """Keep other libraries' progress bars out of the output."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def _print_persona(persona: Persona, annotations: list[dict[str, Any]]) -> None:
    click.echo(f"{persona.persona_id}\n\n{persona.backstory}\n")
    for annotation in annotations:
        best = max(range(len(annotation["probs"])), key=annotation["probs"].__getitem__)
        quote = f'  "{annotation["evidence"]}"' if annotation["evidence"] else ""
        level, prob = annotation["levels"][best], annotation["probs"][best]
        click.echo(f"  {annotation['trait']:18} {level:28} {prob:.2f} {annotation['method']}{quote}")


for _command in (
    match_command,
    simulate_command,
    evaluate_command,
    compare_command,
    power_command,
    rectify_command,
    embed_command,
    generate_command,
    annotate_command,
    reproduce_command,
    interview_command,
    *COMMANDS,
    humans_group,
    survey_group,
    serve_command,
    hub_group,
):
    main.add_command(_command)


if __name__ == "__main__":
    main()
