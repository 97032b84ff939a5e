"""The command line: every command parses, makes one library call and prints."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from anthology_hub import __version__, weights
from anthology_hub.collection import STARTER, Anthology
from anthology_hub.errors import AnthologyError, OptionError
from anthology_hub.evaluation import WEIGHTINGS, EvaluateOptions, evaluate
from anthology_hub.humans import Respondents, sources
from anthology_hub.leaderboard import SMALLEST_CELL, Row, publish, rank, read_results
from anthology_hub.matching import METHODS, match, unmatched
from anthology_hub.models import open_model
from anthology_hub.prompts import CONDITIONINGS
from anthology_hub.quickstart import MODEL, WARNING, quickstart
from anthology_hub.report import check_extras, write_report
from anthology_hub.schema import Codebook, Matching, Metric, Persona, Result, Survey, shipped
from anthology_hub.simulation import MODES, Progress, SimulateOptions, load_run, simulate

EXIT_CODES = "Exit codes: 0 done; 1 an error, told in one line; 2 wrong usage; 130 interrupted."


class _Group(click.Group):
    """Turns the library's errors into one line and exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - click's own type
        _quiet()
        try:
            return super().invoke(ctx)
        except (AnthologyError, OSError) as error:
            click.echo(f"error: {_one_line(str(error))}", err=True)
            ctx.exit(1)
        except KeyboardInterrupt:
            click.echo("interrupted: the same simulate or quickstart command goes on where it stopped", err=True)
            ctx.exit(130)


@click.group(cls=_Group, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="anthology-hub")
def main() -> None:
    """Virtual personas: search, match, simulate, evaluate, rank.

    Example: anthology-hub quickstart
    """


_Command = Callable[..., None]
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_seed = click.option("--seed", default=0, show_default=True, help="Seed of every draw.")


def _people_options(command: _Command) -> _Command:
    for option in (
        click.option(
            "--where",
            "conditions",
            multiple=True,
            metavar="TRAIT=LEVEL[|LEVEL]",
            help="Keep personas with these levels.",
        ),
        click.option(
            "--collection", default=STARTER, show_default=True, help="starter, a folder, or a dataset repository."
        ),
        click.option("--revision", help="Branch, tag or commit of a repository."),
    ):
        command = option(command)
    return command


def _human_options(command: _Command) -> _Command:
    for option in (
        click.option(
            "--humans", default="gss-2018", show_default=True, help="A source of `list humans`, or a GSS file."
        ),
        click.option("--wave", type=int, help="Year, where a file has several."),
    ):
        command = option(command)
    return command


def _cast_options(command: _Command) -> _Command:
    for option in (
        click.option(
            "--sample", "size", type=int, help="Stand in for this many random respondents; all, if not given."
        ),
        click.option("--method", type=click.Choice(METHODS), default="optimal", show_default=True),
        click.option("--trait", "traits", multiple=True, help="Match on this trait; all shared ones, if not given."),
    ):
        command = option(command)
    return command


@main.command("quickstart")
@click.option("--out", default="anthology-quickstart", show_default=True, type=click.Path(path_type=Path))
@click.option("--respondents", default=40, show_default=True, help="People to stand in for.")
@click.option("--model", default=MODEL, show_default=True)
@_seed
@_json
def quickstart_command(out: Path, respondents: int, model: str, seed: int, as_json: bool) -> None:
    """Walk the whole way once, on real input; run again to go on.

    Example: anthology-hub quickstart --respondents 4
    """
    say = _nothing if as_json else click.echo
    with _Bars(quiet=as_json) as bars:
        walk = quickstart(out, respondents=respondents, model=model, seed=seed, say=say, progress=bars.start)
    if as_json:
        _print_json({"rows": [asdict(row) for row in walk.rows], "verdict": walk.verdict, "folder": str(walk.folder)})
        return
    click.echo("5. Leaderboard\n")
    _print_board(walk.rows)
    click.echo(f"\n{walk.verdict}\n\n{WARNING}\n\nWhere everything lies:")
    for name, what in (("runs", "runs, resumable"), ("results", "the results folder"), ("reports", "one page per run")):
        click.echo(f"  {walk.folder / name}  {what}")
    click.echo("  " + "\n  ".join(str(page) for page in walk.reports))
    click.echo('\nTry next:\n  anthology-hub search "raised by a grandmother" --where region=South')
    click.echo(
        f"  anthology-hub leaderboard {walk.folder / 'results'}\n  anthology-hub show {walk.folder / 'runs' / 'bio'}"
    )


@main.command("search")
@click.argument("text")
@click.option("-k", default=5, show_default=True, help="Number of personas.")
@_people_options
@_json
def search_command(
    text: str, k: int, collection: str, revision: str | None, conditions: tuple[str, ...], as_json: bool
) -> None:
    """Find personas by meaning, among those that fit the conditions.

    Example: anthology-hub search "grew up on a farm" --where "age=50-64|65+" --where region=South
    """
    found = _people(collection, revision, conditions).search(text, k=k)
    if as_json:
        _print_json([persona.to_dict() for persona in found])
        return
    for persona in found:
        traits = ", ".join(
            persona.traits[name] or "?" for name in ("age", "gender", "region") if name in persona.traits
        )
        click.echo(
            f"{persona.score:6.3f}  {persona.persona_id}  {traits}\n        {_one_line(persona.passage or '')[:200]}"
        )
    if found.shortfall:
        click.echo(f"{found.shortfall} fewer than asked: no more personas fit the conditions", err=True)


@main.command("match")
@_human_options
@_cast_options
@_people_options
@_seed
@_json
def match_command(as_json: bool, **given: Any) -> None:  # noqa: ANN401 - click hands over what the options are
    """Match personas to respondents and show how well they fit.

    Example: anthology-hub match --sample 40 --method greedy
    """
    cast = _cast(conditioning="anthology", **given)
    if as_json:
        pairs = [
            {"respondent": role.respondent_id, "persona": role.persona.persona_id, "log_weight": role.log_weight}
            for role in cast.roles
            if role.persona
        ]
        _print_json(
            {"method": cast.method, "traits": cast.traits, "diagnostics": dict(cast.diagnostics), "pairs": pairs}
        )
        return
    click.echo(f"{len(cast)} respondents of {cast.humans}, method {cast.method}, on {', '.join(cast.traits)}")
    for name, value in cast.diagnostics.items():
        click.echo(f"  {name.replace('_', ' '):28} {value:.4g}")


@main.command("simulate")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--survey", help="Name or JSON file; the respondents' own, if not given.")
@click.option("--question", "questions", multiple=True, help="Ask only these.")
@click.option("--model", default=MODEL, show_default=True)
@click.option("--conditioning", type=click.Choice(CONDITIONINGS), default="anthology", show_default=True)
@click.option("--mode", type=click.Choice(MODES), default="letters", show_default=True)
@click.option("--batch-size", default=SimulateOptions.batch_size, show_default=True)
@_human_options
@_cast_options
@_people_options
@_seed
@_json
def simulate_command(
    folder: Path,
    survey: str | None,
    questions: tuple[str, ...],
    model: str,
    conditioning: str,
    mode: str,
    batch_size: int,
    as_json: bool,
    **given: Any,  # noqa: ANN401
) -> None:
    """Ask a cast a survey and keep the answers in FOLDER; the same command goes on where it stopped.

    Example: anthology-hub simulate runs/a --sample 40 --question natenvir --question nataid
    """
    options = SimulateOptions(conditioning=conditioning, mode=mode, batch_size=batch_size)
    asked = Survey.load(survey or _humans(given["humans"], given["wave"]).survey)
    cast = _cast(conditioning=conditioning, **given)
    with _Bars(quiet=as_json) as bars:
        answers = simulate(
            cast,
            asked.select(questions) if questions else asked,
            open_model(model),
            seed=given["seed"],
            options=options,
            folder=folder,
            progress=bars.start(folder.name),
        )
    summary = {"folder": str(folder), "run_id": answers.provenance["run_id"], "coverage": answers.coverage}
    if as_json:
        _print_json(summary)
        return
    click.echo(f"{answers.picks.size} answers in {folder}, run {summary['run_id']}")
    click.echo("  " + ", ".join(f"{status} {share:.1%}" for status, share in answers.coverage.items()))
    click.echo(f"Next: anthology-hub evaluate {folder}")


@main.command("evaluate")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--humans", help="A source or a GSS file; the one of the run, if not given.")
@click.option("--wave", type=int, help="Year, where a file has several.")
@click.option("--reference", type=click.Choice(["all", "cast"]), default="all", show_default=True,
              help="Compare with all respondents, or with those who were stood in for.")  # fmt: skip
@click.option("--weighting", type=click.Choice(WEIGHTINGS), default="weighted", show_default=True)
@click.option("--publish", "target", help="Add the result to this results folder, or hf://namespace/name.")
@click.option("--smallest-cell", default=SMALLEST_CELL, show_default=True, help="Publish no cell of fewer humans.")
@click.option("--report", type=click.Path(path_type=Path), help="Write a report page into this folder.")
@_json
def evaluate_command(
    folder: Path,
    humans: str | None,
    wave: int | None,
    reference: str,
    weighting: str,
    target: str | None,
    smallest_cell: int,
    report: Path | None,
    as_json: bool,
) -> None:
    """Compare a finished run with the humans.

    Example: anthology-hub evaluate runs/a --publish results --report reports/a
    """
    if report:
        check_extras()
    answers = load_run(folder)
    played = answers.provenance["inputs"]["humans"]
    if humans is None and played not in sources():
        raise OptionError(f"the respondents {played!r} of {folder} came from a file: give it with --humans and --wave")
    people = _humans(humans or played, wave)
    if reference == "cast":
        place = {respondent: row for row, respondent in enumerate(people.ids)}
        if strange := [respondent for respondent in answers.respondent_ids if respondent not in place]:
            raise OptionError(
                f"{people.name} has no respondent {strange[0]!r}: the run stands in for {played}, give that as --humans"
            )
        people = people.take([place[respondent] for respondent in answers.respondent_ids])
    result = evaluate(answers, people, options=EvaluateOptions(weighting=weighting))
    if target:
        publish(result, target, answers=answers, smallest_cell=smallest_cell)
    rows = rank(read_results(target)) if target and report else ()
    intro = WARNING if f"{result.developer}/{result.model}" in _embedded() else ""
    page = write_report(result, report, answers=answers, humans=people, rows=rows, intro=intro) if report else None
    if as_json:
        _print_json(result.to_dict())
        return
    _print_result(result)
    if page:
        click.echo(f"Report: {page}")


@main.command("leaderboard")
@click.argument("target")
@_json
def leaderboard_command(target: str, as_json: bool) -> None:
    """Rank the results of a results folder or repository.

    Example: anthology-hub leaderboard results
    """
    rows = rank(read_results(target))
    if as_json:
        _print_json([asdict(row) for row in rows])
    else:
        _print_board(rows)


@main.command("list")
@click.argument("kind", required=False, type=click.Choice(["surveys", "humans", "codebooks", "crosswalks", "models"]))
@_json
def list_command(kind: str | None, as_json: bool) -> None:
    """List what comes with the package.

    Example: anthology-hub list surveys
    """
    found = {name: entries for name, entries in _catalogue().items() if kind in (None, name)}
    if as_json:
        _print_json(found)
        return
    for name, entries in found.items():
        click.echo(name)
        for entry, about in entries.items():
            click.echo(f"  {entry:28} {about}")


@main.command("show")
@click.argument("name")
@_people_options
@_json
def show_command(name: str, collection: str, revision: str | None, conditions: tuple[str, ...], as_json: bool) -> None:
    """Show a survey, a codebook, a run folder, or a persona by its id (or the first digits of it).

    Example: anthology-hub show gss-national-spending
    """
    if Path(name).is_dir():
        shown = _run_summary(Path(name))
    elif name in shipped("surveys"):
        shown = Survey.load(name).to_dict()
    elif name in shipped("codebooks"):
        shown = Codebook.load(name).to_dict()
    else:
        people = _people(collection, revision, conditions)
        persona = people.get(name)
        if not as_json:
            _print_persona(persona, people.annotations_of(persona.persona_id))
            return
        shown = {**persona.to_dict(), "annotations": people.annotations_of(persona.persona_id)}
    if as_json:
        _print_json(shown)
    else:
        _print_tree(shown)


# -- what the commands share -----------------------------------------------------------------------------------------


def _people(collection: str, revision: str | None, conditions: Sequence[str]) -> Anthology:
    people = Anthology.load(collection, revision=revision)
    wanted: dict[str, Any] = {}
    for condition in conditions:
        trait, sign, levels = condition.partition("=")
        if not sign or not levels:
            raise OptionError(f"--where {condition!r} is not TRAIT=LEVEL, such as region=South or 'age=50-64|65+'")
        wanted[trait] = levels.split("|")
    return people.where(**wanted) if wanted else people


def _humans(name: str, wave: int | None) -> Respondents:
    return Respondents.from_gss(name, wave=wave) if Path(name).suffix else Respondents.load(name)


def _cast(
    *,
    humans: str,
    wave: int | None,
    size: int | None,
    method: str,
    traits: tuple[str, ...],
    collection: str,
    revision: str | None,
    conditions: tuple[str, ...],
    seed: int,
    conditioning: str,
) -> Matching:
    respondents = _humans(humans, wave)
    respondents = respondents if size is None else respondents.sample(size, seed=seed)
    if conditioning != "anthology":
        return unmatched(respondents)
    people = _people(collection, revision, conditions)
    return match(people, respondents, method=method, traits=traits or None, seed=seed)


def _catalogue() -> dict[str, dict[str, str]]:
    surveys = {name: Survey.load(name) for name in shipped("surveys")}
    return {
        "surveys": {name: f"{survey.title}, {len(survey.questions)} questions" for name, survey in surveys.items()},
        "humans": sources(),
        "codebooks": {name: ", ".join(t.name for t in Codebook.load(name).traits) for name in shipped("codebooks")},
        "crosswalks": {name: "persona levels to survey levels" for name in shipped("crosswalks")},
        "models": {f"local:{name}": package["title"] for name, package in weights.packages().items()}
        | {"scripted:uniform": "every option as likely", "scripted:first": "always the first option shown"},
    }


def _embedded() -> set[str]:
    return {package["title"] for package in weights.packages().values()}


def _run_summary(folder: Path) -> dict[str, Any]:
    answers = load_run(folder)
    inputs = answers.provenance["inputs"]
    return {
        "run_id": answers.provenance["run_id"],
        "started": answers.provenance["started"],
        **{
            name: inputs[name]
            for name in ("humans", "collection", "cast", "matching", "survey", "model", "options", "seed")
        },
        "coverage": answers.coverage,
    }


class _Bars:
    """Progress bars with answers per second and the time left."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet, self._bars = quiet, []  # type: ignore[var-annotated]

    def __enter__(self) -> _Bars:
        return self

    def __exit__(self, *_: object) -> None:
        for bar in self._bars:
            bar.close()

    def start(self, name: str) -> Progress:
        from tqdm import tqdm

        bar = tqdm(desc=f"   {name}", unit=" answers", disable=self._quiet or not sys.stderr.isatty(), leave=False)
        self._bars.append(bar)

        def update(done: int, total: int) -> None:
            if bar.total is None:
                # What an earlier call answered does not count towards the rate of this one.
                bar.total, bar.initial, bar.n = total, done, done
            bar.update(done - bar.n)
            if done >= total:
                bar.close()

        return update


def _nothing(_line: str) -> None:
    return None


def _quiet() -> None:
    """Keep other libraries' progress bars out of the output."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def _print_json(value: object) -> None:
    click.echo(json.dumps(value, indent=1, ensure_ascii=False))


def _print_tree(value: dict[str, Any], indent: str = "") -> None:
    for name, entry in value.items():
        if isinstance(entry, dict):
            click.echo(f"{indent}{name}")
            _print_tree(entry, f"{indent}  ")
        elif isinstance(entry, list) and entry and isinstance(entry[0], dict):
            click.echo(f"{indent}{name}")
            for item in entry:
                click.echo(f"{indent}  " + ", ".join(f"{key}: {field}" for key, field in item.items()))
        elif isinstance(entry, list | tuple):
            click.echo(f"{indent}{name:20} {', '.join(map(str, entry))}")
        else:
            click.echo(f"{indent}{name:20} {entry}")


def _print_persona(persona: Persona, annotations: list[dict[str, Any]]) -> None:
    click.echo(f"{persona.persona_id}\n\n{persona.backstory}\n")
    for annotation in annotations:
        best = max(range(len(annotation["probs"])), key=annotation["probs"].__getitem__)
        quote = f'  "{annotation["evidence"]}"' if annotation["evidence"] else ""
        level, prob = annotation["levels"][best], annotation["probs"][best]
        click.echo(f"  {annotation['trait']:18} {level:28} {prob:.2f} {annotation['method']}{quote}")


def _print_result(result: Result) -> None:
    click.echo(f"{result.method}, {result.developer}/{result.model}, {result.survey}")
    click.echo(f"{result.n} simulated people against {result.n_humans} humans")
    click.echo(f"{'metric':22}{'value':>8}  {'95% interval':18}{'floor':>8}{'floor n':>9}{'uniform':>9}{'majority':>9}")
    for metric in result.metrics:
        _print_metric(metric)
    click.echo("coverage: " + ", ".join(f"{status} {share:.1%}" for status, share in result.coverage.items()))
    for note in result.notes:
        click.echo(f"note: {note}")


def _print_metric(metric: Metric) -> None:
    figures = (metric.floor, metric.floor_equal_n, metric.uniform, metric.majority)
    cells = "".join(f"{_figure(value):>{width}}" for value, width in zip(figures, (8, 9, 9, 9), strict=True))
    label = {"wd": "WD (option steps)", "wd_normalised": "WD normalised", "fro": "Fro", "alpha": "alpha"}[metric.name]
    human = f"  humans {metric.human:.3f}" if metric.human is not None else ""
    between = f"[{_figure(metric.low)}, {_figure(metric.high)}]" if metric.low is not None else ""
    click.echo(f"{label:22}{_figure(metric.value):>8}  {between:18}{cells}{human}")
    if metric.note:
        click.echo(f"  {metric.note}")


def _print_board(rows: Sequence[Row]) -> None:
    head = f"{'':>4} {'method':26} {'WD norm.':>8}  {'95% interval':16} {'WD steps':>8} {'Fro':>6} {'alpha':>6}"
    head += f" {'cover':>6} {'n':>5}  model"
    for group in dict.fromkeys(row.group for row in rows):
        click.echo(f"{group}\n{head}")
        for row in (row for row in rows if row.group == group):
            place = f"{row.rank}{'=' if row.tied else ''}" if row.rank else "-"
            between = f"[{_figure(row.low)}, {_figure(row.high)}]" if row.low is not None else ""
            cover = "" if row.coverage is None else f"{row.coverage:.0%}"
            click.echo(
                f"{place:>4} {row.method:26} {_figure(row.wd_normalised):>8}  {between:16} {_figure(row.wd):>8} "
                f"{_figure(row.fro, 2):>6} {_figure(row.alpha, 2):>6} {cover:>6} {row.n or '':>5}  {row.model}"
            )
    click.echo(
        "WD: Wasserstein distance, lower is better; = marks an interval that overlaps the one above; alpha is to be"
    )
    click.echo("compared with the humans' own. Lines with - are references, not runs.")


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _figure(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


if __name__ == "__main__":
    main()
