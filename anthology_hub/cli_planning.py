"""Commands that plan a study and put its few human answers to use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from anthology_hub.cli_cluster import RUN_PLACE
from anthology_hub.cli_comparing import humans_of
from anthology_hub.console import human_options, json_option, load_humans, load_survey, print_json, seed_option
from anthology_hub.errors import OptionError
from anthology_hub.power import ERRORS, Assumed, Contest, Piloted, Population, PowerOptions, plan_power
from anthology_hub.rectification import MODELS, SIMULATED, RectifyOptions, rectify
from anthology_hub.schema import Result, Survey, read_json
from anthology_hub.simulation import load_run

FILE = click.Path(path_type=Path)


@click.command("power")
@click.option("--survey", help="A name of `list surveys`, or a file; the humans' own, if not given.")
@click.option("--question", "questions", multiple=True, metavar="KEY", help="Only this one; may be repeated.")
@human_options
@click.option("--result", type=FILE, help="JSON of `evaluate --json`, whose human shares stand in for --humans.")
@click.option(
    "--people", type=float, help="Plan for so many humans; inf: their shares are exact. As there are, if not given."
)
@click.option("--difference", type=float, help="Of the two methods' mean normalised WD; the pilots' own, if not given.")
@click.option("--level", type=float, help="Mean normalised WD of the better one; half way to uniform, if not given.")
@click.option("--toward", type=click.Choice(ERRORS), default="uniform", show_default=True, help="What methods err to.")
@click.option("--alike", type=float, default=Assumed.alike, show_default=True,
              help="About the correlation of the two methods' answers for one respondent.")  # fmt: skip
@click.option("--runs", nargs=2, type=RUN_PLACE,
              help="Two pilot runs to plan from, instead of --level, --toward, --alike.")  # fmt: skip
@click.option("--unpaired", is_flag=True, help="The methods stand in for different respondents.")
@click.option("--alpha", type=float, default=PowerOptions.alpha, show_default=True, help="Two-sided level of the test.")
@click.option("--power", "targets", type=float, multiple=True, help="Power to reach; 0.8 and 0.9, if not given.")
@click.option("--size", "sizes", type=int, multiple=True, help="Personas of each method to show the power for.")
@click.option("--replicates", type=int, default=PowerOptions.replicates, show_default=True, help="Casts for each size.")
@seed_option
@json_option
def power_command(
    alpha: float, targets: tuple[float, ...], sizes: tuple[int, ...], replicates: int, seed: int, as_json: bool,
    **given: Any,  # noqa: ANN401 - click hands over what the options are
) -> None:  # fmt: skip
    """Tell how many personas it takes to tell two methods apart.

    Example: anthology-hub power --survey gss-national-spending --humans gss-2018 --difference 0.02
    """
    options = PowerOptions(alpha=alpha, targets=targets or PowerOptions.targets, replicates=replicates, seed=seed)
    plan = plan_power(_contest(given), sizes=sizes, options=options)
    print_json(plan.to_dict()) if as_json else click.echo("\n".join(plan.lines()))


@click.command("rectify")
@click.argument("run", type=RUN_PLACE)
@click.option("--humans", help="A source, a folder or a file; the one of the run, if not given.")
@click.option("--wave", type=int, help="Year, where a file has several.")
@click.option("--question", required=True, metavar="KEY", help="What to estimate an answer to.")
@click.option("--option", help="Its text: estimate its share; without it, the mean position.")
@click.option("--trait", "traits", multiple=True, help="Regress on this trait of the respondents; may be repeated.")
@click.option("--labelled", metavar="N|FILE", help="Whose human answers to use: so many at random, or ids, one a line.")
@click.option("--model", type=click.Choice(MODELS), default="linear", show_default=True)
@click.option("--simulated", type=click.Choice(SIMULATED), default="probs", show_default=True,
              help="The simulated answer: expected under the option probabilities, or the pick.")  # fmt: skip
@click.option("--tuning", type=float, help="Lambda: 0 humans alone, 1 plain PPI; the best one, if not given.")
@click.option("--level", type=float, default=RectifyOptions.level, show_default=True, help="Of the intervals.")
@seed_option
@json_option
def rectify_command(
    run: Path | str, humans: str | None, wave: int | None, question: str, option: str | None, traits: tuple[str, ...],
    labelled: str | None, as_json: bool,
    **options: Any,  # noqa: ANN401 - the fields of RectifyOptions
) -> None:  # fmt: skip
    """Combine few human answers with the simulated ones of RUN into an estimate with a valid interval.

    Example: anthology-hub rectify runs/first --question natenvir --labelled 200
    """
    answers = load_run(run)
    found = rectify(
        answers,
        load_humans(humans or humans_of(answers, run), wave),
        question,
        option=option,
        traits=traits,
        labelled=None if labelled is None else _labelled(labelled),
        options=RectifyOptions(**options),
    )
    print_json(found.to_dict()) if as_json else click.echo("\n".join(found.lines()))


def _contest(given: dict[str, Any]) -> Contest:
    if not given["runs"]:
        if given["difference"] is None:
            raise OptionError("give the --difference to find, such as 0.02, or two pilot --runs that show one")
        assumed = {name: given[name] for name in ("difference", "level", "toward", "alike")}
        return Assumed(population=_population(given, _survey(given)), paired=not given["unpaired"], **assumed)
    first, second = (load_run(run) for run in given["runs"])
    return Piloted.of(
        (first, second),
        lambda survey: _population(given, survey),
        difference=given["difference"],
        paired=not given["unpaired"],
    )


def _survey(given: dict[str, Any]) -> Survey | None:
    named, questions = given["survey"], given["questions"]
    if not named and questions and not given["result"]:
        named_survey = load_humans(given["humans"], given["wave"]).survey
        if named_survey is None:
            raise OptionError(f"{given['humans']} has no survey: give one with --survey")
        return named_survey.select(questions)
    if questions and not named:
        raise OptionError("--question beside --result needs the --survey of the result")
    survey = load_survey(named) if named else None
    return survey.select(questions) if survey and questions else survey


def _population(given: dict[str, Any], survey: Survey | None) -> Population:
    if given["result"]:
        return Population.of(Result.from_dict(read_json(given["result"])), survey, people=given["people"])
    return Population.of(load_humans(given["humans"], given["wave"]), survey, people=given["people"])


def _labelled(told: str) -> int | list[str]:
    if told.isdigit():
        return int(told)
    if not Path(told).is_file():
        raise OptionError(f"--labelled {told!r} is neither a number nor a file: give a file with one id a line")
    return [line.strip() for line in Path(told).read_text(encoding="utf-8").splitlines() if line.strip()]
