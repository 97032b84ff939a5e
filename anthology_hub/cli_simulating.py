"""Commands that cast personas and put a survey to them: match, simulate."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import Any

import click

from anthology_hub.cli_cluster import RUN_PLACE, cluster_of, cluster_options, last_folder
from anthology_hub.cli_models import model_options, opened
from anthology_hub.conditioning import APPENDS, STORIED
from anthology_hub.console import (
    Bars,
    Command,
    human_options,
    json_option,
    load_humans,
    load_people,
    load_survey,
    people_options,
    print_json,
    seed_option,
)
from anthology_hub.crosswalks import Crosswalk
from anthology_hub.diagnostics import Diagnosis, diagnose
from anthology_hub.errors import OptionError, RunError
from anthology_hub.matching import METHODS, match, unmatched
from anthology_hub.prompts import CONDITIONINGS, LABELS
from anthology_hub.quickstart import MODEL
from anthology_hub.report import draw_diagnosis
from anthology_hub.runs import EVENTS
from anthology_hub.schema import Matching, Survey
from anthology_hub.simulation import (
    HISTORIES,
    MODES,
    OPTION_ORDERS,
    SimulateOptions,
    gaps_of,
    load_run,
    plan_simulation,
    simulate,
)

FOLDER = click.Path(path_type=Path)
CASTING = ("method", "capacity", "top_k", "partial", "rounds")
"""Options that `match` takes as they are."""
ASKING = ("conditioning", "append", "mode", "history", "options_order", "labels", "grounding", "tries", "batch_size")
"""Options that `SimulateOptions` takes as they are."""


def cast_options(command: Command) -> Command:
    """Add the options that say who stands in for whom."""
    for option in (
        click.option(
            "--sample", "size", type=int, help="Stand in for this many random respondents; all, if not given."
        ),
        click.option("--method", type=click.Choice(METHODS), default="optimal", show_default=True),
        click.option("--capacity", type=int, help="With --method capacity: most respondents per persona."),
        click.option("--top-k", default=1, show_default=True, help="With --method greedy: one of the k best, drawn."),
        click.option("--partial", is_flag=True, help="One-to-one though personas are fewer: some stay without a role."),
        click.option("--possible-only", is_flag=True, help="Cast no persona that cannot have one of the respondent's "
                     "levels: some stay without a role."),
        click.option("--rounds", default=50, show_default=True, help="Most rounds of the search for an assignment too "
                     "large for scipy; stopped early, it says how far from the best it may be."),
        click.option("--trait", "traits", multiple=True, help="Match on this trait; all shared ones, if not given."),
        click.option("--crosswalk", help="From persona levels to the respondents'; the one they name, if not given."),
    ):  # fmt: skip
        command = option(command)
    return command


def asking_options(command: Command) -> Command:
    """Add the options that say how a cast is asked."""
    defaults = SimulateOptions()
    for option in (
        click.option("--conditioning", type=click.Choice(CONDITIONINGS), default="anthology", show_default=True,
                     help="What the model is told of who answers."),
        click.option("--append", type=click.Choice(APPENDS), default=defaults.append, show_default=True,
                     help="How the respondent's own traits follow a backstory."),
        click.option("--mode", type=click.Choice(MODES), default=defaults.mode, show_default=True),
        click.option("--history", type=click.Choice(HISTORIES), default=defaults.history, show_default=True,
                     help="Questions in series, or each alone."),
        click.option("--options-order", type=click.Choice(OPTION_ORDERS), default=defaults.options_order,
                     show_default=True, help="Order in which options are shown."),
        click.option("--labels", type=click.Choice(LABELS), default=defaults.labels, show_default=True),
        click.option("--grounding", default="", help="A line that says when it is, as 'It is July 2021.'"),
        click.option("--tries", default=defaults.tries, show_default=True, help="Most replies until one is an answer."),
        click.option("--keep-order", is_flag=True, help="Ask the questions in the survey's order; shuffled, if not."),
        click.option("--paper", is_flag=True, help="Ask as the paper did; with it only --conditioning, --append, "
                     "--grounding and --batch-size count."),
        click.option("--batch-size", default=defaults.batch_size, show_default=True, help="Roles asked at once."),
    ):  # fmt: skip
        command = option(command)
    return command


@click.command("match")
@human_options
@cast_options
@people_options
@click.option("--plots", type=FOLDER, help="Folder for pictures of how well they fit.")
@seed_option
@json_option
def match_command(plots: Path | None, as_json: bool, **given: Any) -> None:  # noqa: ANN401 - click hands over what the options are
    """Match personas to respondents and show how well they fit.

    Example: anthology-hub match --sample 40 --method greedy
    """
    cast, found = _matched(given)
    if plots:
        draw_diagnosis(found, plots)
    if as_json:
        pairs = [
            {"respondent": role.respondent_id, "persona": role.persona.persona_id, "log_weight": role.log_weight}
            for role in cast.roles
            if role.persona
        ]
        head = {"method": cast.method, "traits": cast.traits, "diagnostics": dict(cast.diagnostics)}
        print_json({**head, "diagnosis": found.to_dict(), "pairs": pairs})
        return
    click.echo(f"{len(cast)} respondents of {cast.humans}, method {cast.method}, on {', '.join(cast.traits)}")
    for name, value in cast.diagnostics.items():
        click.echo(f"  {name.replace('_', ' '):28} {value:.4g}")
    click.echo(f"\n{found}")


@click.command("simulate")
@click.argument("folder", type=RUN_PLACE)
@click.option("--survey", help="Name or JSON file; the respondents' own, if not given.")
@click.option("--question", "questions", multiple=True, help="Ask only these.")
@click.option("--model", default=MODEL, show_default=True, help="As local:smollm2, or http://HOST:PORT/v1.")
@model_options
@cluster_options
@asking_options
@click.option("--as-wave", default="", help="Name of this wave, where the same cast is asked again.")
@click.option("--earlier", multiple=True, type=RUN_PLACE, help="Run of an earlier wave that the cast remembers.")
@click.option("--dry-run", is_flag=True, help="Count answers and tokens; ask nothing.")
@human_options
@cast_options
@people_options
@seed_option
@json_option
def simulate_command(
    folder: Path | str,
    survey: str | None,
    questions: tuple[str, ...],
    model: str,
    ray: str | None,
    workers: int | None,
    gpus: float | None,
    as_wave: str,
    earlier: tuple[Path | str, ...],
    dry_run: bool,
    as_json: bool,
    **given: Any,  # noqa: ANN401
) -> None:
    """Ask a cast a survey and keep the answers in FOLDER; the same command goes on where it stopped.

    Example: anthology-hub simulate runs/a --sample 40 --question natenvir --question nataid
    """
    options, asked, cluster = _asking(given), _survey(survey, questions, given), cluster_of(ray, workers, gpus)
    cast = _matched(given)[0] if options.conditioning in STORIED else _unmatched(given)
    speaker, waves = opened(model), [load_run(run) for run in earlier]
    if dry_run:
        planned = plan_simulation(
            cast, asked, speaker, seed=given["seed"], options=options, earlier=waves, wave=as_wave
        )
        print_json(planned.to_dict()) if as_json else click.echo("\n".join(planned.lines()))
        return
    with Bars(quiet=as_json) as bars:
        answers = simulate(
            cast,
            asked,
            speaker,
            seed=given["seed"],
            options=options,
            folder=folder,
            progress=bars.start(last_folder(folder)),
            earlier=waves,
            wave=as_wave,
            ray=cluster,
        )
    summary = {"folder": str(folder), "run_id": answers.provenance["run_id"], "coverage": answers.coverage}
    if as_json:
        print_json({**summary, "gaps": gaps_of(answers)})
        _stop_at(gaps_of(answers), folder)
        return
    click.echo(f"{answers.picks.size} answers in {folder}, run {summary['run_id']}")
    click.echo("  " + ", ".join(f"{status} {share:.1%}" for status, share in answers.coverage.items()))
    _stop_at(gaps_of(answers), folder)
    click.echo(f"Next: anthology-hub evaluate {quote(str(folder))}")


def _stop_at(gaps: int, folder: Path | str) -> None:
    if gaps:
        raise RunError(
            f"{gaps} answers are missing, counted as failed: the server did not give them in time ({folder}/{EVENTS} "
            "says why); run the same command again, only they are asked"
        )


def _asking(given: dict[str, Any]) -> SimulateOptions:
    if not given["paper"]:
        return SimulateOptions(shuffle_questions=not given["keep_order"], **{name: given[name] for name in ASKING})
    kept = {name: given[name] for name in ("conditioning", "append", "grounding", "batch_size")}
    return replace(SimulateOptions.paper(), **kept)


def _survey(name: str | None, questions: tuple[str, ...], given: dict[str, Any]) -> Survey:
    asked = load_survey(name) if name else load_humans(given["humans"], given["wave"]).survey
    if asked is None:
        raise OptionError(f"{given['humans']} has no survey: give one with --survey")
    return asked.select(questions) if questions else asked


def _unmatched(given: dict[str, Any]) -> Matching:
    respondents = load_humans(given["humans"], given["wave"])
    return unmatched(respondents if given["size"] is None else respondents.sample(given["size"], seed=given["seed"]))


def _matched(given: dict[str, Any]) -> tuple[Matching, Diagnosis]:
    respondents = load_humans(given["humans"], given["wave"])
    size = given["size"]
    respondents = respondents if size is None else respondents.sample(size, seed=given["seed"])
    people = load_people(given["collection"], given["revision"], given["conditions"])
    walk = Crosswalk.load(given["crosswalk"]) if given["crosswalk"] else None
    how = {name: given[name] for name in CASTING} | {"impossible": not given["possible_only"]}
    cast = match(people, respondents, traits=given["traits"] or None, crosswalk=walk, seed=given["seed"], **how)
    return cast, diagnose(people, respondents, cast, crosswalk=walk)
