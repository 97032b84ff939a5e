"""Studies run again: the conditions and matchings of a published table, on one's own respondents and model.

The figures that a study reports lie in `data/studies` with their source; they are printed beside ours, never mixed
with them, and never ranked against them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from anthology_hub.collection import Anthology
from anthology_hub.errors import DataError, OptionError
from anthology_hub.evaluation import EvaluateOptions, evaluate
from anthology_hub.generation import generate
from anthology_hub.hub import write_file
from anthology_hub.matching import match, unmatched
from anthology_hub.models import LanguageModel
from anthology_hub.runs import Progress
from anthology_hub.schema import Answers, Matching, Persona, Respondents, Result, Survey, read_shipped
from anthology_hub.simulation import SimulateOptions, SimulationPlan, plan_simulation, simulate
from anthology_hub.steering import quota_from
from anthology_hub.styles import GenerateOptions

PRIMED = "primed"
REPORTED = "reported by the paper"
FIGURES = ("wd", "fro", "alpha")
HEAD = ("model", "method", "matching", "WD", "Fro", "alpha", "n", "")
TABLE, RECORD = "table.md", "reproduction.json"
UNWRITTEN = "its writer wrote no backstory"
NO_FLOOR = 1e-12
"""The paper has no floor. This one orders the pairs that it ties at zero, all of them below the rarest level that 40
samples can show in each of six traits."""


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One way of a study to tell a model who answers."""

    method: str
    """As the study calls it."""
    matching: str
    """As the study calls it."""
    conditioning: str
    cast: str = ""
    """Method of `match`; empty: nobody is matched."""

    @property
    def name(self) -> str:
        """Name of the run's folder."""
        return f"{self.conditioning}-{self.cast}" if self.cast else self.conditioning


@dataclass(frozen=True, kw_only=True)
class Reported:
    """One row of a published table."""

    model: str
    method: str
    matching: str
    wd: float
    fro: float
    alpha: float | None
    table: str
    """Where it stands in the source."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """What a study did, and what it reports.

    Example:
        >>> study = Study.load("paper-w34")
        >>> study.traits, [row.wd for row in study.reported if row.model == "Llama-3-70B"][:2]
        (('age', 'household_income', 'education', 'race', 'gender'), [0.254, 0.238])
    """

    name: str
    title: str
    source: str
    humans: str
    """Source of its respondents."""
    people: int
    """Respondents it drew from the file; 0: all."""
    traits: tuple[str, ...]
    """Traits that it told and matched on."""
    conditions: tuple[Condition, ...]
    reported: tuple[Reported, ...]
    notes: tuple[str, ...] = ()

    @classmethod
    def load(cls, name: str) -> Study:
        """Load a shipped study by name, or one of the user's by path.

        Raises:
            DataError: If a field is missing or unknown.
            UnknownNameError: If there is no such study.
        """
        value = {key: entry for key, entry in read_shipped("studies", name).items() if key != "schema_version"}
        try:
            conditions = tuple(Condition(**one) for one in value.pop("conditions"))
            reported = tuple(Reported(**one) for one in value.pop("reported"))
            value |= {key: tuple(value[key]) for key in ("traits", "notes")}
            return cls(conditions=conditions, reported=reported, **value)
        except (TypeError, KeyError) as error:
            raise DataError(f"study {name!r} is not complete: {error}") from error


@dataclass(frozen=True, kw_only=True)
class Ran:
    """A condition that was run again."""

    condition: Condition
    result: Result

    def figures(self) -> dict[str, float | None]:
        """Return WD (option steps), Fro and alpha."""
        return {name: self.result.metric(name).value for name in FIGURES}


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """What came out, beside what the study reports; printed, it is the table."""

    study: Study
    model: str
    rows: tuple[Ran, ...]
    left_out: Mapping[str, str]
    """Condition -> why it was not run."""
    n: int
    """Simulated respondents."""
    n_humans: int

    def __str__(self) -> str:
        cells = [HEAD, *self._ours(), *self._theirs()]
        widths = [max(len(row[at]) for row in cells) for at in range(len(HEAD))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]
        return "\n".join([self.study.title, "", *(line.rstrip() for line in lines), "", *self._notes()])

    def markdown(self) -> str:
        """Return the table in Markdown, with the notes below it."""
        rows = [HEAD, tuple("---" for _ in HEAD), *self._ours(), *self._theirs()]
        table = [f"| {' | '.join(row)} |" for row in rows]
        return "\n".join([f"# {self.study.title}", "", *table, "", *(f"- {note}" for note in self._notes()), ""])

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        head = {"study": self.study.name, "source": self.study.source, "model": self.model}
        ours = [{**asdict(row.condition), "result": row.result.to_dict()} for row in self.rows]
        theirs = [{**asdict(row), "tag": REPORTED} for row in self.study.reported]
        counts = {"n": self.n, "n_humans": self.n_humans, "left_out": dict(self.left_out), "notes": self._notes()}
        return {**head, "rows": ours, "reported": theirs, **counts}

    def _ours(self) -> Iterator[tuple[str, ...]]:
        for row in self.rows:
            figures = [_shown(row.figures()[name]) for name in FIGURES]
            yield (self.model, row.condition.method, row.condition.matching, *figures, str(row.result.n), "here")
        if self.rows:
            wd, fro, alpha = (self.rows[0].result.metric(name) for name in FIGURES)
            figures = [_shown(value) for value in (wd.floor, fro.floor, alpha.human)]
            yield ("Human", "split halves", "n/a", *figures, str(self.n_humans), "here")

    def _theirs(self) -> Iterator[tuple[str, ...]]:
        for row in self.study.reported:
            figures = [_shown(value) for value in (row.wd, row.fro, row.alpha)]
            yield (row.model, row.method, row.matching, *figures, "", f"{REPORTED}, table {row.table}")

    def _notes(self) -> list[str]:
        runs = [row.result for row in self.rows]
        covered = [f"{min(run.coverage['answered'] for run in runs):.0%}"] if runs else []
        told = [f"Here: {self.n} simulated respondents, {self.n_humans} humans, seed and settings in {RECORD}."]
        told += [f"Least share of questions answered: {share}." for share in covered]
        told += [f"Not run: {name}: {why}." for name, why in self.left_out.items()]
        fewer = ((row.condition.name, self.n - row.result.n) for row in self.rows)
        told += [f"{name}: {gone} respondents have no backstory and are left out." for name, gone in fewer if gone]
        return [*told, f"Reported rows: {self.study.source}.", *self.study.notes]


def reproduce(
    study: Study | str,
    humans: Respondents,
    model: LanguageModel,
    folder: str | Path,
    *,
    people: Anthology | None = None,
    writer: LanguageModel | None = None,
    n: int | None = None,
    seed: int = 0,
    append: str = "bio",
    options: SimulateOptions | None = None,
    evaluation: EvaluateOptions | None = None,
    say: Callable[[str], None] = lambda _line: None,
    progress: Callable[[str], Progress] | None = None,
) -> Reproduction:
    """Run the conditions of a study again and put the figures beside those it reports.

    Respondents tell and match on the study's traits only; the humans are weighted and the model's answers are not, as
    in the paper (`weighting="paper"`). Run it again on the folder and it goes on where it stopped.

    Args:
        study: A study, or its name.
        humans: Its respondents, from the file of the survey.
        model: Who answers.
        folder: Runs, the table as `table.md` and everything as `reproduction.json`.
        people: Personas; the starter, if not given.
        writer: Who writes the backstories of the primed condition, one for each respondent; it is left out, if not
            given.
        n: Respondents to stand in for; as many as the study, if not given.
        seed: For the sample of people, matching and all draws.
        append: How the humans' traits follow a backstory; the paper does not say which of its formats it used.
        options: How to ask; as the paper did (`SimulateOptions.paper`), if not given. Its conditioning and append are
            the study's and `append`.
        evaluation: How to compare; as the paper did, if not given.
        say: Called with a line of text at each step.
        progress: From the name of a run to its progress callback.

    Raises:
        OptionError: If the respondents lack a trait of the study or belong to another survey, n is out of range, or
            there is no crosswalk; before anything is asked, as all below.
        UnknownNameError: If the personas lack a trait of the study.
    """
    job = _job(study, humans, people, n, seed, append, options)
    say(f"{job.study.title}: {len(job.cast_for)} of {len(humans)} respondents, {job.people!r}")
    root, rows, left_out = Path(folder), [], {}
    judged = evaluation or EvaluateOptions(weighting="paper")
    # What cannot be cast is found before the first answer is paid for.
    casts = {one.name: job.cast(one) for one in job.study.conditions if not job.hindrance(one)}
    for condition in job.study.conditions:
        if condition.conditioning == PRIMED and writer is not None:
            casts[condition.name] = job.primed(writer, root / "stories")
        cast = casts.get(condition.name)
        if cast is None or not cast.roles:
            left_out[condition.name] = why = job.hindrance(condition) if cast is None else UNWRITTEN
            say(f"  {condition.name}: not run, {why}")
            continue
        answers = _asked(job, condition, cast, model, root, progress)
        rows.append(Ran(condition=condition, result=evaluate(answers, job.humans, options=judged)))
        say(f"  {condition.name}: {_in_words(rows[-1])}")
    made = Reproduction(
        study=job.study,
        model=model.card.model,
        rows=tuple(rows),
        left_out=left_out,
        n=len(job.cast_for),
        n_humans=len(job.humans),
    )
    write_file(root / TABLE, made.markdown().encode())
    write_file(root / RECORD, (json.dumps(made.to_dict(), indent=1, ensure_ascii=False) + "\n").encode())
    return made


def plan_reproduction(
    study: Study | str,
    humans: Respondents,
    model: LanguageModel,
    *,
    people: Anthology | None = None,
    writer: LanguageModel | None = None,
    n: int | None = None,
    seed: int = 0,
    append: str = "bio",
    options: SimulateOptions | None = None,
) -> dict[str, SimulationPlan | str]:
    """Count what each condition of a study would take; nothing is asked. In place of a count: why there is none.

    The backstories of the primed condition are not known before they are written: it has no count.
    """
    job = _job(study, humans, people, n, seed, append, options)
    found: dict[str, SimulationPlan | str] = {}
    for condition in job.study.conditions:
        why = job.hindrance(condition)
        if condition.conditioning == PRIMED and writer is not None:
            why = f"its {len(job.cast_for)} backstories are written first, by {writer.card.model}: it is counted then"
        if why:
            found[condition.name] = why
            continue
        how = job.options(condition)
        found[condition.name] = plan_simulation(job.cast(condition), job.survey, model, seed=seed, options=how)
    return found


@dataclass(frozen=True, kw_only=True)
class _Job:
    """A study with everything that it is run on."""

    study: Study
    humans: Respondents
    """With whom the answers are compared."""
    cast_for: Respondents
    people: Anthology
    survey: Survey
    seed: int
    append: str
    asking: SimulateOptions

    def options(self, condition: Condition) -> SimulateOptions:
        append = self.append if condition.cast or condition.conditioning == PRIMED else "bio"
        return replace(self.asking, conditioning=condition.conditioning, append=append)

    def hindrance(self, condition: Condition) -> str:
        """Why a condition cannot be run without a writer; empty if it can."""
        if condition.conditioning == PRIMED:
            return "its backstories are written for each respondent by a model of their own, and none is given"
        if condition.cast in ("optimal", "random") and len(self.people) < len(self.cast_for):
            return (
                f"it is one-to-one and {len(self.people)} personas are fewer than {len(self.cast_for)} respondents: "
                "give a larger collection, or fewer respondents"
            )
        return ""

    def cast(self, condition: Condition) -> Matching:
        if not condition.cast:
            return unmatched(self.cast_for, self.people.codebook)
        traits, method = self.study.traits, condition.cast
        return match(self.people, self.cast_for, method=method, traits=traits, seed=self.seed, floor=NO_FLOOR)

    def primed(self, writer: LanguageModel, folder: Path) -> Matching:
        """One backstory for each respondent, written from its traits; who has none gets no role."""
        book = self.people.codebook.coded(self.cast_for.levels)
        quota = quota_from(self.cast_for, book, traits=self.study.traits)
        how = GenerateOptions(style="primed", checks=())
        made = generate(writer, len(quota), seed=self.seed, options=how, quota=quota, codebook=book, folder=folder)
        stories = {int(record["key"]): record["backstory"] for record in made.records}
        bare = unmatched(self.cast_for, self.people.codebook)
        roles = tuple(
            replace(role, persona=Persona(persona_id=Persona.id_of(stories[at]), backstory=stories[at]))
            for at, role in enumerate(bare.roles)
            if at in stories
        )
        return replace(bare, roles=roles, method=PRIMED, collection=f"stories {made.provenance['run_id']}")


def _job(
    study: Study | str,
    humans: Respondents,
    people: Anthology | None,
    n: int | None,
    seed: int,
    append: str,
    options: SimulateOptions | None,
) -> _Job:
    study = Study.load(study) if isinstance(study, str) else study
    if humans.name != study.humans or humans.survey is None:
        raise OptionError(f"{study.name} is about {study.humans}, got {humans.name}: give the file of that wave")
    if lacking := [name for name in study.traits if name not in humans.levels]:
        raise OptionError(
            f"{humans.name} has no {', '.join(lacking)}, which {study.name} tells and matches on; it has "
            f"{', '.join(humans.levels)}: give the whole file of the wave"
        )
    drawn = humans.sample(study.people, seed=seed) if 0 < study.people < len(humans) else humans
    told = _only(drawn, study.traits)
    job = _Job(
        study=study,
        humans=drawn,
        cast_for=told if n is None else told.sample(n, seed=seed),
        people=people or Anthology.load(),
        survey=humans.survey,
        seed=seed,
        append=append,
        asking=options or SimulateOptions.paper(),
    )
    for condition in study.conditions:
        job.options(condition)
    return job


def _only(humans: Respondents, traits: Sequence[str]) -> Respondents:
    levels = {name: humans.levels[name] for name in traits}
    return replace(humans, levels=levels, codes={name: humans.codes[name] for name in traits})


def _asked(
    job: _Job,
    condition: Condition,
    cast: Matching,
    model: LanguageModel,
    root: Path,
    progress: Callable[[str], Progress] | None,
) -> Answers:
    return simulate(
        cast,
        job.survey,
        model,
        seed=job.seed,
        options=job.options(condition),
        folder=root / "runs" / condition.name,
        progress=progress(condition.name) if progress else None,
    )


def _in_words(row: Ran) -> str:
    told = ", ".join(f"{name} {_shown(value)}" for name, value in row.figures().items())
    return f"{told}, {row.result.coverage['answered']:.0%} answered"


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
