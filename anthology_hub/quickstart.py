"""The whole way once, on real input: personas, respondents, a model, the humans, a leaderboard and a report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from anthology_hub.collection import Anthology
from anthology_hub.errors import OptionError
from anthology_hub.evaluation import evaluate
from anthology_hub.humans import Respondents
from anthology_hub.leaderboard import HUMANS, MAJORITY, UNIFORM, Row, publish, rank, read_results
from anthology_hub.matching import match, unmatched
from anthology_hub.models import open_model
from anthology_hub.report import check_extras, write_report
from anthology_hub.schema import Matching, Result, Survey
from anthology_hub.simulation import Progress, SimulateOptions, simulate

HUMAN_SOURCE, SURVEY, MODEL = "gss-2018", "gss-national-spending", "local:smollm2"
ITEMS = ("natenvir", "natheal", "nateduc", "natcrime", "natarms", "nataid", "natfare", "natrace")
"""Eight spending items on which the parties differ most."""
WARNING = (
    "These numbers prove the loop, not the method. The embedded model is a small instruct model (135 million "
    "parameters) with no persona signal: its answers follow the order of the options more than the person. For science "
    "use a large base model; the README says which."
)


@dataclass(frozen=True, kw_only=True)
class Walk:
    """What a quickstart leaves."""

    rows: tuple[Row, ...]
    verdict: str
    """What the leaderboard says, in words."""
    folder: Path
    reports: tuple[Path, ...]


def quickstart(
    folder: str | Path,
    *,
    respondents: int = 40,
    items: Sequence[str] = ITEMS,
    model: str = MODEL,
    seed: int = 0,
    say: Callable[[str], None] = lambda _line: None,
    progress: Callable[[str], Progress] | None = None,
) -> Walk:
    """Compare four ways to tell a model who answers, on real respondents, and publish the results into a folder.

    Run it again and it goes on where it stopped.

    Args:
        folder: Where runs, results and reports go.
        respondents: How many people to stand in for, at least 2.
        items: Keys of the survey's questions.
        model: See `open_model`.
        seed: For the sample of people and all draws.
        say: Called with a line of text at each step.
        progress: From the name of a run to its progress callback.

    Raises:
        OptionError: If there are fewer than two respondents.
    """
    if respondents < 2:
        raise OptionError(f"the quickstart needs at least 2 respondents, got {respondents}")
    check_extras()
    root = Path(folder)
    people, humans = Anthology.load(), Respondents.load(HUMAN_SOURCE)
    survey = Survey.load(SURVEY).select(items)
    say(f"1. Personas: {people!r}; {len(humans)} people of {humans.source}")
    _show_search(people, say)
    sample = humans.sample(respondents, seed=seed)
    say(f"3. Matching: {len(sample)} random respondents, on the traits they share with the personas")
    casts = _casts(people, sample, seed, say)
    asked = f"{len(survey.questions)} questions of '{survey.title}' asked in series"
    say(f"4. Simulation: {asked}, model {model} (its first use may convert it)")
    opened, runs = open_model(model), {}
    for name, (cast, conditioning) in casts.items():
        options, callback = SimulateOptions(conditioning=conditioning), progress(name) if progress else None
        run = root / "runs" / name
        answers = simulate(cast, survey, opened, seed=seed, options=options, folder=run, progress=callback)
        runs[name] = evaluate(answers, humans), answers
        publish(runs[name][0], root / "results", answers=answers)
        say(f"   {name}: {_in_words(runs[name][0])}")
    rows = tuple(rank(read_results(root / "results")))
    reports = (
        write_report(
            result,
            root / "reports" / name,
            answers=answers,
            humans=humans,
            cast=casts[name][0],
            rows=rows,
            intro=WARNING,
        )
        for name, (result, answers) in runs.items()
    )
    return Walk(rows=rows, verdict=verdict(rows), folder=root, reports=tuple(reports))


def verdict(rows: Sequence[Row]) -> str:
    """Say in words what a leaderboard of one survey shows.

    A method beats a baseline only if its whole interval lies below the baseline.
    """
    runs = [row for row in rows if row.rank is not None]
    if not runs:
        return "There is no run to judge."
    reference = {row.method: row.wd_normalised for row in rows if row.rank is None}
    beaten = []
    for name in (UNIFORM, MAJORITY):
        bar = reference.get(name)
        winners = [row.method for row in runs if bar is not None and row.high is not None and row.high < bar]
        beaten.append(f"{', '.join(winners) if winners else 'no method'} clearly beats the {name} baseline")
    best, told = runs[0], ""
    others = [row for row in runs[1:] if row.low is not None and best.high is not None and row.low <= best.high]
    if others:
        told = f" The lead is no finding: the intervals of {', '.join(row.method for row in others)} overlap it."
    floor = reference.get(HUMANS)
    noise = f" Real people would score {floor:.3f}." if floor is not None else ""
    lead = f"Nearest to the humans: {best.method} (normalised WD {best.wd_normalised:.3f})."
    return f"{lead}{noise} Against the baselines: {'; '.join(beaten)}.{told}"


def _show_search(people: Anthology, say: Callable[[str], None]) -> None:
    query = "sings in the church choir"
    say(f"2. Search: people of the Midwest, '{query}'")
    for persona in people.where(region="Midwest").search(query, k=3):
        excerpt = " ".join((persona.passage or "").split())[:90]
        say(f"   {persona.score:.2f}  {persona.persona_id[:8]}  {excerpt}...")


def _casts(
    people: Anthology, sample: Respondents, seed: int, say: Callable[[str], None]
) -> dict[str, tuple[Matching, str]]:
    bare = unmatched(sample)
    casts = {"nothing": (bare, "nothing"), "bio": (bare, "bio")}
    # One-to-one needs as many personas as people; a larger sample is still served by greedy.
    for method in ("greedy", "optimal") if len(people) >= len(sample) else ("greedy",):
        cast = match(people, sample, method=method, seed=seed)
        figures = cast.diagnostics
        say(
            f"   {method}: mean weight {figures['mean_weight']:.3f}, {figures['zero_weight_share']:.0%} of pairs differ"
            f" outright in some trait, {figures['distinct_personas']:.0f} personas, one used at most "
            f"{figures['maximum_reuse']:.0f} times"
        )
        casts[f"anthology-{method}"] = (cast, "anthology")
    return casts


def _in_words(result: Result) -> str:
    wd = result.metric("wd_normalised")
    return f"normalised WD {wd.value:.3f} [{wd.low:.3f}, {wd.high:.3f}], coverage {result.coverage['answered']:.0%}"
