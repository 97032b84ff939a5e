"""Commands that hold finished runs against the humans: one of them (evaluate), or several side by side (compare)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import NormalDist
from typing import Any

import click

from anthology_hub import weights
from anthology_hub.cli_cluster import RUN_PLACE, last_folder
from anthology_hub.comparison import Comparison, compare
from anthology_hub.console import Command, figure, json_option, load_humans, load_people, print_json
from anthology_hub.diagnostics import Diagnosis, diagnose
from anthology_hub.errors import OptionError, UnknownNameError
from anthology_hub.evaluation import RESAMPLES, WEIGHTINGS, EvaluateOptions, evaluate
from anthology_hub.hub import write_file
from anthology_hub.humans import sources
from anthology_hub.leaderboard import publish, read_board
from anthology_hub.measures import DISTANCE, MEASURES
from anthology_hub.places import place_of
from anthology_hub.quickstart import WARNING
from anthology_hub.ranking import rank
from anthology_hub.report import check_extras, write_report
from anthology_hub.report_tables import (
    COMPANY,
    HEADLINES,
    PAPER,
    csv_table,
    families,
    latex,
    markdown,
    short,
    way,
    written,
)
from anthology_hub.resampling import ADJUSTMENTS, Pooled, pool_seeds
from anthology_hub.runs import RunFolder
from anthology_hub.schema import (
    MISSING,
    SMALLEST_CELL,
    Answers,
    Matching,
    Metric,
    Persona,
    Respondents,
    Result,
    Role,
    Subgroup,
)
from anthology_hub.simulation import CAST_FILE, load_run
from anthology_hub.standins import stood_for

FILE = click.Path(path_type=Path)
FORMATS = ("table", "markdown", "latex", "csv", "json")
HEADS = {
    "floor": "floor",
    "floor_equal_n": "floor n",
    "uniform": "uniform",
    "majority": "majority",
    "margins": "margins",
    "cells": "cells",
    "previous": "previous",
    "human": "humans",
    "attained": "attained",
}
"""Field of a metric -> its column in the terminal."""
STARTER = "starter"
"""The collection that is shipped, and so always there."""
STARTER_NAME = "anthology-starter"
UNCUT = 0.01
"""Level of intervals from which standard errors are taken: so narrow that they are not cut at the end of a range."""
Tables: dict[str, Callable[..., str]] = {"markdown": markdown, "latex": latex, "csv": csv_table}


def judging_options(command: Command) -> Command:
    """Add the options that say whom runs are compared with, and how."""
    usual = EvaluateOptions()
    for option in (
        click.option("--humans", help="A source or a GSS file; the one of the run, if not given."),
        click.option("--wave", type=int, help="Year, where a file has several."),
        click.option("--reference", type=click.Choice(["all", "cast"]), default="all", show_default=True,
                     help="Compare with all respondents, or with those who were stood in for."),
        click.option("--weighting", type=click.Choice(WEIGHTINGS), default=usual.weighting, show_default=True),
        click.option("--resample", type=click.Choice(RESAMPLES), default=usual.resample, show_default=True,
                     help="Whose chance the intervals tell."),
        click.option("--bootstraps", default=usual.bootstraps, show_default=True, help="Draws for the intervals."),
    ):  # fmt: skip
        command = option(command)
    return command


@click.command("evaluate")
@click.argument("folder", type=RUN_PLACE)
@judging_options
@click.option(
    "--by",
    multiple=True,
    metavar="TRAIT",
    help="Figures for each level of this trait; may be repeated; all: every trait that the humans have.",
)
@click.option("--previous", help="An earlier wave of the survey: a source, a folder or a file.")
@click.option("--previous-wave", type=int, help="Year of it, where a file has several.")
@click.option("--polychoric", is_flag=True, help="Compare polychoric correlations, too; takes seconds.")
@click.option("--publish", "target", help="Add the result to this results folder, or hf://namespace/name.")
@click.option("--smallest-cell", default=SMALLEST_CELL, show_default=True, help="Publish no cell of fewer humans.")
@click.option(
    "--report",
    type=FILE,
    help="Write a report page into this folder; with the subgroups of all traits, if --by is not given.",
)
@click.option(
    "--collection",
    help="The personas of the run, for the pictures of the matching in the report; the starter, if it is they.",
)
@click.option("--revision", help="Of the collection: a tag, branch or commit.")
@click.option("--markdown", type=FILE, help="Write the table of the paper to this file.")
@click.option("--latex", type=FILE, help="The same as a LaTeX table.")
@click.option("--csv", type=FILE, help="Write every figure to this file.")
@click.option("--all", "everything", is_flag=True, help="Print every figure, not the headline ones alone.")
@json_option
def evaluate_command(
    folder: Path | str, humans: str | None, wave: int | None, reference: str, by: tuple[str, ...], previous: str | None,
    previous_wave: int | None, target: str | None, smallest_cell: int, report: Path | None, everything: bool,
    collection: str | None, revision: str | None, as_json: bool, **given: Any,  # noqa: ANN401 - click hands over what the options are
) -> None:  # fmt: skip
    """Compare a finished run with the humans; FOLDER may be the URI of an object store.

    Example: anthology-hub evaluate runs/a --publish results --report reports/a
    """
    if report:
        check_extras()
    files = {name: given.pop(name) for name in Tables}
    answers = load_run(folder)
    people = _reference(answers, load_humans(humans or humans_of(answers, folder), wave), reference)
    earlier = load_humans(previous, previous_wave) if previous else None
    asked = ("all",) if report and not by else by
    options = EvaluateOptions(by=tuple(people.levels) if "all" in asked else asked, **given)
    result = evaluate(answers, people, options=options, previous=earlier)
    shared = result if by else _whole(result)
    published = publish(shared, target, answers=answers, smallest_cell=smallest_cell) if target else None
    # What waits in a pull request is not on the board yet.
    shown = target and report and published and published.pull_request is None
    rows = rank(read_board(str(target)).entries) if shown else ()
    intro = WARNING if f"{result.developer}/{result.model}" in _embedded() else ""
    page = None
    if report:
        fit, why = _diagnosed(folder, answers, people, collection, revision)
        page = write_report(result, report, answers=answers, humans=people, diagnosis=fit, rows=rows, intro=intro)
    for name, file in files.items():
        if file:
            write_file(file, Tables[name]([result]).encode())
    if as_json:
        print_json(result.to_dict())
        return
    _print_result(result, everything=everything, parts=bool(by))
    if report and why:
        click.echo(f"note: {why}")
    if published:
        waits = f", waits in pull request {published.pull_request}" if published.pull_request else ""
        click.echo(f"Published: {published.path} ({published.url}){waits}")
    for what, file in {"Report": page, **{name.title(): file for name, file in files.items()}}.items():
        if file:
            click.echo(f"{what}: {file}")


@click.command("compare")
@click.argument("folders", nargs=-1, required=True, type=RUN_PLACE, metavar="RUN RUN ...")
@judging_options
@click.option(
    "--measure",
    "measures",
    multiple=True,
    metavar="NAME",
    help="Show this figure; may be repeated; all: every one. The headline figures, if not given; in the tables "
    "markdown and latex those of the paper.",
)
@click.option(
    "--adjust",
    type=click.Choice(ADJUSTMENTS),
    default="holm",
    show_default=True,
    help="Allow for the number of questions and pairs of runs: hardly ever one false finding (holm), or few among the "
    "findings (bh).",
)
@click.option("--pool", is_flag=True, help="The runs are one design with other seeds: pool their figures.")
@click.option("--format", "form", type=click.Choice(FORMATS), default="table", show_default=True)
@click.option("--out", type=FILE, help="Write into this file instead of the terminal.")
@json_option
def compare_command(
    folders: tuple[Path | str, ...], humans: str | None, wave: int | None, reference: str, measures: tuple[str, ...],
    adjust: str, pool: bool, form: str, out: Path | None, as_json: bool, **given: Any,  # noqa: ANN401
) -> None:  # fmt: skip
    """Put several runs side by side: which is closer to the humans, how sure that is, and where they differ.

    Example: anthology-hub compare runs/a runs/b
    """
    wanted = _wanted(measures)
    runs = _runs(folders)
    first, answers = next(iter(runs.items()))
    if reference == "cast" and len({run.respondent_ids for run in runs.values()}) > 1:
        raise OptionError("--reference cast needs runs that stand in for the same respondents: leave it out")
    people = _reference(answers, load_humans(humans or humans_of(answers, first), wave), reference)
    options = EvaluateOptions(**given)
    side_by_side = _pooled if pool else _compared
    found = side_by_side(runs, people, options, wanted, adjust)
    text = found.written("json" if as_json else form)
    if out:
        write_file(out, text.encode())
        click.echo(f"{form.title()}: {out}")
    else:
        click.echo(text.rstrip("\n"))


# -- whom ------------------------------------------------------------------------------------------------------------


def humans_of(answers: Answers, folder: Path | str) -> str:
    """Return the source of the people that a run stands in for.

    Raises:
        OptionError: If they came from a file.
    """
    played = str(answers.provenance["inputs"]["humans"])
    if played not in sources():
        raise OptionError(f"the respondents {played!r} of {folder} came from a file: give it with --humans and --wave")
    return played


def _reference(answers: Answers, people: Respondents, reference: str) -> Respondents:
    if reference == "all":
        return people
    place = {respondent: row for row, respondent in enumerate(people.ids)}
    if strange := [respondent for respondent in answers.respondent_ids if respondent not in place]:
        played = answers.provenance["inputs"]["humans"]
        raise OptionError(
            f"{people.name} has no respondent {strange[0]!r}: the run stands in for {played}, give that as --humans"
        )
    return people.take([place[respondent] for respondent in answers.respondent_ids])


def _whole(result: Result) -> Result:
    """The result as it is without subgroups, which nobody asked to publish."""
    judged = {**result.provenance["evaluation"], "by": []}
    return replace(result, subgroups=(), provenance={**result.provenance, "evaluation": judged})


def _diagnosed(
    folder: Path | str, answers: Answers, humans: Respondents, collection: str | None, revision: str | None
) -> tuple[Diagnosis | None, str]:
    """Return how well the cast of a run fits, or why that cannot be told; nothing of runs without a matching."""
    inputs = answers.provenance["inputs"]
    cast, played = inputs.get("cast", {}), str(inputs.get("collection", ""))
    if not cast.get("traits") or not all(answers.persona_ids):
        return None, ""
    if (stood_for(answers, humans) == MISSING).any():
        return None, "The pictures of the matching need the people of the run: they are not all among these humans."
    if not collection and not played.startswith(f"{STARTER_NAME}@"):
        return None, f"The pictures of the matching need the personas, {played}: give them with --collection."
    people = load_people(collection or STARTER, revision, ())
    if people.identity != played:
        if collection:
            raise OptionError(f"the personas of {folder} are {played}, those of {collection} are {people.identity}")
        return None, f"The pictures of the matching need the personas, {played}: give them with --collection."
    matched = Matching(
        roles=tuple(
            Role(
                respondent_id=seat["respondent_id"],
                weight=seat["weight"],
                traits={},
                persona=Persona(persona_id=seat["persona_id"], backstory=""),
                log_weight=seat["log_weight"],
            )
            for seat in RunFolder(folder).rows(CAST_FILE)
        ),
        method=str(cast["method"]),
        traits=tuple(cast["traits"]),
        collection=played,
        humans=str(inputs["humans"]),
        diagnostics=inputs.get("matching", {}),
    )
    # What the people told of themselves is not kept, so the cast's own digest is not that of this one.
    return replace(diagnose(people, humans, matched), cast=str(cast["digest"])), ""


def _embedded() -> set[str]:
    return {package["title"] for package in weights.packages().values()}


# -- one run ---------------------------------------------------------------------------------------------------------


def _print_result(result: Result, *, everything: bool, parts: bool) -> None:
    click.echo(f"{result.method}, {result.developer}/{result.model}, {result.survey}")
    click.echo(f"{result.n} simulated people against {_company(result)}")
    shown = [one for members in families(result.metrics).values() for one in members]
    hidden = [] if everything else [one for one in shown if one.name not in HEADLINES]
    _print_metrics([one for one in shown if one not in hidden])
    if hidden:
        click.echo(f"{len(hidden)} more figures: --all")
    click.echo("coverage: " + ", ".join(f"{status} {share:.1%}" for status, share in result.coverage.items()))
    if parts:
        _print_subgroups(result.subgroups)
    for note in result.notes:
        click.echo(f"note: {note}")


def _company(result: Result) -> str:
    if not result.n_humans:
        return "the shares of a group"
    weighted = result.n_effective is not None and round(result.n_effective) < result.n_humans
    few = f" (effective {result.n_effective:.0f})" if weighted else ""
    return f"{result.n_humans} humans{few}"


def _print_metrics(metrics: Sequence[Metric]) -> None:
    columns = [name for name in COMPANY if any(_told(one, name) is not None for one in metrics)]
    heads = "".join(f"{HEADS[name]:>9}" for name in columns)
    click.echo(f"{'metric':22}{'value':>8}  {'95% interval':18}{heads}".rstrip())
    for one in metrics:
        cells = "".join(f"{_cell(one, name):>9}" for name in columns)
        click.echo(f"{short(one.name):22}{figure(one.value):>8}  {_ends(one.low, one.high):18}{cells}".rstrip())
        if one.note:
            click.echo(f"  {one.note}")


def _told(metric: Metric, name: str) -> float | None:
    value: float | None = way(metric) if name == "attained" else getattr(metric, name)
    return value


def _cell(metric: Metric, name: str) -> str:
    value = _told(metric, name)
    return _share(value) if name == "attained" else figure(value)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:z.0%}"


def _ends(low: float | None, high: float | None) -> str:
    return "" if low is None else f"[{figure(low)}, {figure(high)}]"


def _print_subgroups(groups: Sequence[Subgroup]) -> None:
    head = f"{'n':>6}{'humans':>8}{'WD norm.':>10}  {'95% interval':18}{'floor':>8}{'attained':>10}"
    click.echo(f"{'subgroup':36}{head}")
    for one in groups:
        name = f"{one.trait}: {one.level}"
        if not one.metrics:
            click.echo(f"{name:36}  left out: {one.note}")
            continue
        wd = one.metric("wd_normalised")
        floor = wd.floor if wd.floor_equal_n is None else wd.floor_equal_n
        click.echo(f"{name:36}{one.n:>6}{one.n_human:>8}{figure(wd.value):>10}  {_ends(wd.low, wd.high):18}"
                   f"{figure(floor):>8}{_share(way(wd)):>10}")  # fmt: skip
    for one in (one for one in groups if one.gap is not None):
        ends = _ends(one.gap_low, one.gap_high)
        click.echo(f"gap of {one.trait}: {one.level} is {figure(one.gap)} {ends} further away than {one.nearest}")


# -- several runs ----------------------------------------------------------------------------------------------------


def _wanted(measures: tuple[str, ...]) -> tuple[str, ...]:
    for name in measures:
        if name != "all" and name not in MEASURES:
            raise UnknownNameError("measure", name, ("all", *MEASURES))
    return tuple(MEASURES) if "all" in measures else measures


def _runs(folders: Sequence[Path | str]) -> dict[str, Answers]:
    """Load the runs by the names of their folders, and refuse what cannot be compared."""
    if len(folders) < 2:
        raise OptionError(f"a comparison needs two runs or more, got {folders[0]}: for one, use evaluate")
    alone = len({last_folder(folder) for folder in folders}) == len(folders)
    runs: dict[str, Answers] = {}
    for folder in folders:
        name, answers = last_folder(folder) if alone else str(place_of(folder)), load_run(folder)
        for other, known in runs.items():
            _check_pair(name, answers, other, known)
        runs[name] = answers
    return runs


def _check_pair(name: str, answers: Answers, other: str, known: Answers) -> None:
    run, humans = answers.provenance["run_id"], answers.provenance["inputs"]["humans"]
    if name == other or run == known.provenance["run_id"]:
        raise OptionError(f"{name} and {other} are the same run, {run}: give each run once")
    if humans != (theirs := known.provenance["inputs"]["humans"]):
        raise OptionError(f"{name} stands in for {humans}, {other} for {theirs}: compare runs of the same humans")


@dataclass(frozen=True, kw_only=True)
class _Compared:
    """Runs side by side, and what makes them differ."""

    results: Mapping[str, Result]
    comparison: Comparison
    asked: tuple[str, ...]
    """Figures that were asked for; empty: the usual ones."""

    @property
    def measures(self) -> tuple[str, ...]:
        return self.asked or HEADLINES

    def written(self, form: str) -> str:
        """Return it in one of FORMATS."""
        results, names = list(self.results.values()), list(self.results)
        if form == "json":
            told = {name: result.to_dict() for name, result in self.results.items()}
            return _json({"results": told, "comparison": self.comparison.to_dict()})
        if form == "csv":
            return written([*self._figures(), *self._differences()])
        if form == "table":
            return "\n".join([*self._lines(), *self.comparison.lines()]) + "\n"
        before, after = ("% ", "\n") if form == "latex" else ("", "\n\n")
        said = "".join(f"{before}{line}{after}" for line in self.comparison.lines())
        table = Tables[form](results, names=names, measures=self._columns or PAPER)
        return f"{table}\n{said}"

    @property
    def _columns(self) -> tuple[str, ...]:
        """Figures asked for that some run has."""
        return tuple(name for name in self.asked if any(_metric(one, name) for one in self.results.values()))

    def _figures(self) -> list[dict[str, object]]:
        return [
            {"kind": "figure", "run": name, "against": "humans", "measure": one.name,
             "value": one.value, "low": one.low, "high": one.high}
            for name, result in self.results.items() for one in result.metrics if one.name in self.measures
        ]  # fmt: skip

    def _differences(self) -> list[dict[str, object]]:
        kept = [one for one in self.comparison.differences if one.measure in self.measures]
        whole = [{"kind": "difference", **_pair(asdict(one))} for one in kept]
        items = [{"kind": "question", "measure": HEADLINES[0], **_pair(asdict(one))} for one in self.comparison.items]
        return [*whole, *items]

    def _lines(self) -> list[str]:
        wide = max(12, *map(len, self.results)) + 2
        lines = [f"{'':22}" + "".join(f"{name:>{wide}}" for name in self.results) + f"{'humans':>10}{'floor':>8}"]
        for name in self.measures:
            held = [_metric(result, name) for result in self.results.values()]
            if known := [one for one in held if one]:
                cells = "".join(f"{figure(one.value if one else None):>{wide}}" for one in held)
                lines.append(f"{short(name):22}{cells}{figure(known[0].human):>10}{figure(known[0].floor):>8}")
        several = f"{'adj. p':>8}" if len(self.results) > 2 else ""
        head = f"{'further from the humans':24}{'difference':>11}  {'interval':18}{'first closer':>13}{'p':>8}{several}"
        said = "Below 0 the first is closer. Floor: what random halves of the humans differ by."
        return [*lines, "", head, *self._gaps(), said, *self._lacking(), *self._sizes(), ""]

    def _gaps(self) -> list[str]:
        return [
            f"{short(one.measure):24}{figure(one.value):>11}  {_ends(one.low, one.high):18}"
            f"{_share(one.probability):>13}{figure(one.p):>8}"
            + (f"{figure(one.adjusted):>8}" if len(self.results) > 2 else "")
            + f"  {one.first} - {one.second}"
            for one in self.comparison.differences
            if one.measure in self.measures
        ]

    def _lacking(self) -> list[str]:
        """Say which figures are shown without a difference."""
        compared = {one.measure for one in self.comparison.differences}
        shown = [name for name in self.measures if any(_metric(one, name) for one in self.results.values())]
        alone = [short(name) for name in shown if name not in compared]
        return [f"note: not compared, as not every run has draws of it: {', '.join(alone)}."] if alone else []

    def _sizes(self) -> list[str]:
        sizes = {name: result.n for name, result in self.results.items()}
        if len(set(sizes.values())) == 1:
            return []
        told = ", ".join(f"{name} {n}" for name, n in sizes.items())
        return [f"note: the casts have other sizes ({told}): a smaller one is further away by chance alone."]


def _metric(result: Result, name: str) -> Metric | None:
    return next((one for one in result.metrics if one.name == name), None)


def _pair(row: dict[str, Any]) -> dict[str, object]:
    return {"run": row.pop("first"), "against": row.pop("second"), **row}


def _compared(
    runs: Mapping[str, Answers], people: Respondents, options: EvaluateOptions, wanted: tuple[str, ...], adjust: str
) -> _Compared:
    comparison = compare(runs, people, options=options, adjustment=adjust)
    results = {name: evaluate(answers, people, options=options) for name, answers in runs.items()}
    return _Compared(results=results, comparison=comparison, asked=wanted)


@dataclass(frozen=True, kw_only=True)
class _Replicates:
    """One design, run with several seeds."""

    names: tuple[str, ...]
    pooled: Mapping[str, Pooled]
    level: float

    def written(self, form: str) -> str:
        """Return it in one of FORMATS."""
        rows = [{"measure": name, **asdict(one)} for name, one in self.pooled.items()]
        rows = [{key: None if value != value else value for key, value in row.items()} for row in rows]
        if form == "json":
            return _json({"runs": list(self.names), "level": self.level, "pooled": rows})
        if form == "csv":
            return written(rows)
        cells = [[short(str(row["measure"])), *(_rounded(row[key]) for key in ("value", "low", "high", "between"))]
                 for row in rows]  # fmt: skip
        heads = ["figure", "mean", "low", "high", "SD of the seeds"]
        told = f"{len(self.names)} runs with other seeds: {', '.join(self.names)}; {100 * self.level:g}% t intervals"
        return _laid_out(form, heads, cells, told)


def _rounded(value: object) -> str:
    return figure(value) if isinstance(value, float) else "-"


def _laid_out(form: str, heads: Sequence[str], cells: Sequence[Sequence[str]], told: str) -> str:
    if form == "markdown":
        table = [heads, ["---", *["---:"] * (len(heads) - 1)], *cells]
        return "".join(f"| {' | '.join(line)} |\n" for line in table) + f"\n{told}\n"
    if form == "latex":
        body = [" & ".join(line) + r" \\" for line in cells]
        top = [f"% {told}", rf"\begin{{tabular}}{{l{'r' * (len(heads) - 1)}}}", r"\toprule", " & ".join(heads) + r" \\"]
        return "\n".join([*top, r"\midrule", *body, r"\bottomrule", r"\end{tabular}"]) + "\n"
    rows = ("".join(f"{cell:>18}" if at else f"{cell:22}" for at, cell in enumerate(row)) for row in (heads, *cells))
    return "\n".join([*rows, told]) + "\n"


def _pooled(
    runs: Mapping[str, Answers], people: Respondents, options: EvaluateOptions, wanted: tuple[str, ...], _adjust: str
) -> _Replicates:
    _check_replicates(runs)
    # What the people bring by chance all runs share, and more seeds do not make it smaller.
    alone = replace(options, resample="respondents", level=UNCUT)
    results = [evaluate(answers, people, options=alone) for answers in runs.values()]
    pooled = {}
    for name in wanted or HEADLINES:
        held = [_metric(result, name) for result in results]
        known = [one for one in held if one and one.value is not None]
        if known:
            errors = [_standard_error(one) for one in known]
            within = [] if None in errors else [float(error or 0.0) for error in errors]
            pooled[name] = pool_seeds([float(one.value or 0.0) for one in known], within=within, level=options.level)
    return _Replicates(names=tuple(runs), pooled=pooled, level=options.level)


def _standard_error(metric: Metric) -> float | None:
    """Back from an interval of level UNCUT: its longer side, as only the lower one of a distance is not normal."""
    if metric.value is None or metric.low is None or metric.high is None:
        return None
    distance = MEASURES[metric.name].kind == DISTANCE
    reach = metric.high - metric.value if distance else max(metric.high - metric.value, metric.value - metric.low)
    return reach / NormalDist().inv_cdf((1 + UNCUT) / 2)


def _check_replicates(runs: Mapping[str, Answers]) -> None:
    (name, first), *others = runs.items()
    seeds = {name: first.provenance["inputs"]["seed"]}
    for other, answers in others:
        one, two = _design(first), _design(answers)
        if odd := [key for key in dict.fromkeys((*one, *two)) if one.get(key) != two.get(key)]:
            raise OptionError(
                f"{other} and {name} differ in {', '.join(odd)}: --pool takes runs that differ in their seed alone; "
                "leave it out to compare them"
            )
        seed = answers.provenance["inputs"]["seed"]
        if twin := [known for known, held in seeds.items() if held == seed]:
            raise OptionError(f"{other} and {twin[0]} have the same seed, {seed}: --pool takes runs with other seeds")
        seeds[other] = seed


def _design(answers: Answers) -> dict[str, Any]:
    """What a run was made of but for its seed, and for who was drawn by it."""
    inputs = answers.provenance["inputs"]
    cast = {key: value for key, value in inputs["cast"].items() if key != "digest"}
    return {key: value for key, value in inputs.items() if key not in ("seed", "matching", "traits")} | {"cast": cast}


def _json(value: object) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"
