"""Panels: the same cast asked again, wave after wave, with who drops out and what changed between.

A wave is a plain simulation with the wave in its seeds; with memory, each role has its own earlier answers before the
new questions. Who leaves is drawn for each role alone, so that neither order nor size of the cast changes it, and a
higher hazard takes the same people and more.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from anthology_hub.errors import DataError, EmptyError, OptionError, UnknownNameError
from anthology_hub.models import LanguageModel
from anthology_hub.prompts import derive_seed, who
from anthology_hub.resampling import bootstrap_counts, interval
from anthology_hub.runs import Progress
from anthology_hub.schema import CHOICE, MISSING, Answers, Matching, Metric, Question, Role, Survey
from anthology_hub.simulation import SimulateOptions, simulate

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from anthology_hub.resampling import Rows

Hazard = float | Mapping[str, Mapping[str, float]] | Callable[[Role], float]
"""Probability to leave: of everybody; by trait and level (the level "" stands for all others and for not known); or
from a role."""
BOOTSTRAPS = 500
"""Samples of the roles behind the intervals of a turnover."""
RATE, ELSE = "rate", ""


class Panel:
    """A cast and the waves in which it was asked.

    Example:
        >>> from anthology_hub import Respondents, open_model, unmatched
        >>> survey = Survey.load("gss-national-spending").select(["natenvir", "natsci"])
        >>> panel, model = Panel(unmatched(Respondents.load("gss-2018").sample(20))), open_model("scripted:uniform")
        >>> options = SimulateOptions(conditioning="bio")
        >>> first = panel.ask(survey, model, wave="2026-01", options=options)
        >>> panel.attrite(0.3).counts
        {'present': 14, 'left': 6, 'returned': 0, 'away': 6}
        >>> second = panel.ask(survey, model, wave="2026-07", options=options)
        >>> list(panel.answers), transitions(first, second, "natsci").n
        (['2026-01', '2026-07'], 14)
    """

    def __init__(self, cast: Matching, *, seed: int = 0, waves: Sequence[Answers] = ()) -> None:
        """Begin, or go on.

        Args:
            cast: All who were ever in the panel.
            seed: Seed of every draw.
            waves: What was answered so far, in order, as from `load_run` of the waves' folders. Who left is told by
                the same calls of `attrite` as before.

        Raises:
            EmptyError: If nobody is cast.
            OptionError: If a wave has no name, or two have the same.
        """
        _check_cast(cast)
        self.cast, self.seed = cast, seed
        self.attritions: tuple[Attrition, ...] = ()
        """Who left after which wave, in order."""
        self._answers: dict[str, Answers] = {}
        for answers in waves:
            self._check_wave(answers.wave)
            self._answers[answers.wave] = answers

    @property
    def answers(self) -> Mapping[str, Answers]:
        """The answers of each wave, in the order asked."""
        return MappingProxyType(self._answers)

    @property
    def present(self) -> Matching:
        """Who is asked in the next wave."""
        return self.attritions[-1].cast if self.attritions else self.cast

    def ask(
        self,
        survey: Survey,
        model: LanguageModel,
        *,
        wave: str,
        memory: bool | int = True,
        options: SimulateOptions | None = None,
        folder: str | Path | None = None,
        progress: Progress | None = None,
    ) -> Answers:
        """Ask those present, as a new wave.

        Args:
            survey: What is asked; need not be what was asked before.
            model: Who speaks.
            wave: Its name, such as `2026-01`; part of the seeds.
            memory: Whether each role has its own answers of all earlier waves before the questions; a number: of that
                many waves before this one. Without, it is what `simulate` gives for the wave.
            options: How to ask; `grounding` can say when it is.
            folder: Run folder of this wave: continued if it is there already.
            progress: Called with (answers so far, in all).

        Raises:
            OptionError: If the wave was asked before or has no name, or memory is below 0.
            RunError: If the folder belongs to another run.
        """
        self._check_wave(wave)
        if memory < 0:
            raise OptionError(f"memory must be True, False or a number of waves from 0, got {memory}")
        earlier = list(self._answers.values())
        kept = earlier if memory is True else earlier[len(earlier) - min(memory, len(earlier)) :]
        found = simulate(
            self.present,
            survey,
            model,
            seed=self.seed,
            options=options,
            folder=folder,
            progress=progress,
            earlier=kept,
            wave=wave,
        )
        self._answers[wave] = found
        return found

    def attrite(self, hazard: Hazard, *, return_rate: float = 0.0, reweight: bool = False) -> Attrition:
        """Let people leave before the next wave; see `attrite`. Those who left before stay away, or return."""
        before = self.attritions[-1] if self.attritions else None
        found = attrite(
            self.cast,
            hazard,
            seed=self.seed,
            gap=f"{len(self.attritions) + 1}",
            before=before,
            return_rate=return_rate,
            reweight=reweight,
        )
        self.attritions = (*self.attritions, found)
        return found

    def _check_wave(self, wave: str) -> None:
        if not wave.strip() or wave in self._answers:
            known = ", ".join(map(repr, self._answers)) or "none"
            raise OptionError(f"wave {wave!r} has no name of its own: give one that is not among those asked, {known}")


@dataclass(frozen=True, kw_only=True)
class Attrition:
    """Who is still there, and who left, why and how probably."""

    cast: Matching
    """Who is there; with design weights, or these divided by `chances`."""
    gap: str
    before: Attrition | None = None
    chances: Mapping[str, float] = field(default_factory=dict)
    """Of every role of the whole panel, as `respondent/persona`: probability to be there now, by the hazards so far."""
    left: Mapping[str, str] = field(default_factory=dict)
    """Role -> why it left in this gap: `region=South`, or `rate`."""
    returned: tuple[str, ...] = ()
    """Roles that had left before and are back."""
    away: tuple[str, ...] = ()
    """All roles that are not there now, those who left before among them."""

    @property
    def reasons(self) -> dict[str, int]:
        """Why people left in this gap -> how many, most first."""
        return dict(Counter(self.left.values()).most_common())

    @property
    def counts(self) -> dict[str, int]:
        """How many are there, left now, returned now, and are away in all."""
        now = {"present": len(self.cast), "left": len(self.left)}
        return {**now, "returned": len(self.returned), "away": len(self.away)}


def attrite(
    cast: Matching,
    hazard: Hazard,
    *,
    seed: int = 0,
    gap: str = "1",
    before: Attrition | None = None,
    return_rate: float = 0.0,
    reweight: bool = False,
) -> Attrition:
    """Draw who leaves a panel between two waves.

    Args:
        cast: The whole panel.
        hazard: Probability to leave, of those who are there. By traits: each level is a cause of its own, and who has
            several leaves with 1 - (1-a)(1-b)...; the first cause in the order given that strikes is the reason.
        seed: Seed of the draws.
        gap: Which gap between waves it is; part of the seeds.
        before: What the gap before left; nobody has left, if not given.
        return_rate: Probability of those who were away to be back.
        reweight: Divide the weights by the probability to be there, so that who is likely to leave counts for those
            who did (inverse-probability weighting: Horvitz and Thompson 1952). Unbiased if the hazards are the true
            ones, as here.

    Raises:
        EmptyError: If nobody is left.
        OptionError: If a probability is not between 0 and 1, or the attrition before was of another panel.
        UnknownNameError: If the cast has no such trait, or its codebook no such level.

    Example:
        >>> from anthology_hub import Respondents, unmatched
        >>> cast = unmatched(Respondents.load("gss-2018").sample(100))
        >>> gone = attrite(cast, {"age": {"18-29": 0.5, "": 0.05}})
        >>> sum(gone.reasons.values()) == gone.counts["left"] == 100 - len(gone.cast)
        True
    """
    _check_cast(cast)
    _share("return_rate", return_rate)
    _check_hazard(hazard, cast)
    seats = [_seat(role) for role in cast.roles]
    if before is not None and set(before.chances) != set(seats):
        raise OptionError("the attrition before was of another panel: give the whole panel each time, in any order")
    draw = _Gap(hazard=hazard, seed=seed, gap=gap, return_rate=return_rate)
    away = set(before.away) if before else set[str]()
    left = {
        seat: reason
        for seat, role in zip(seats, cast.roles, strict=True)
        if seat not in away and (reason := draw.reason(role))
    }
    returned = tuple(seat for seat in seats if seat in away and draw.returns(seat))
    gone = (away | set(left)) - set(returned)
    chances = {
        seat: draw.chance(role, before.chances[seat] if before else 1.0)
        for seat, role in zip(seats, cast.roles, strict=True)
    }
    roles = tuple(
        replace(role, weight=role.weight / chances[seat]) if reweight else role
        for seat, role in zip(seats, cast.roles, strict=True)
        if seat not in gone
    )
    if not roles:
        raise EmptyError(f"nobody of {len(cast)} is left in gap {gap!r}: give lower probabilities to leave")
    return Attrition(
        cast=replace(cast, roles=roles),
        gap=gap,
        before=before,
        chances=chances,
        left=left,
        returned=returned,
        away=tuple(seat for seat in seats if seat in gone),
    )


@dataclass(frozen=True, kw_only=True)
class Turnover:
    """How the answers of the same roles to one question moved between two waves."""

    question: Question
    waves: tuple[str, str]
    table: NDArray[np.float64]
    """Weighted share of each pair (option first, option then), shape (K, K); sums to 1."""
    counts: NDArray[np.int64]
    """Roles of each pair, shape (K, K)."""
    unchanged: Metric
    """Weighted share with the same answer, 0 to 1, with its interval; the note says what would be so by chance."""
    correlation: Metric
    """Weighted Pearson correlation of the options' positions, -1 to 1; None for questions without an order."""
    by_chance: float
    """Share with the same answer if the waves had nothing to do with each other, 0 to 1."""
    left_out: Mapping[str, int]
    """Roles that do not count: only in the first wave, only in the second, in both without an answer in one."""

    @property
    def n(self) -> int:
        """Roles with an answer in both waves."""
        return int(self.counts.sum())

    @cached_property
    def rates(self) -> NDArray[np.float64]:
        """Share of each option then, among those of each option first, shape (K, K); rows sum to 1, NaN if nobody."""
        totals = self.table.sum(axis=1, keepdims=True)
        return np.asarray(np.divide(self.table, totals, out=np.full_like(self.table, np.nan), where=totals > 0))

    def to_frame(self) -> pd.DataFrame:
        """Return the table with the options' texts: a row for each answer first, a column for each then."""
        import pandas as pd

        options = list(self.question.options)
        return pd.DataFrame(self.table, index=pd.Index(options, name=self.waves[0]), columns=options)


def transitions(first: Answers, second: Answers, key: str, *, seed: int = 0, level: float = 0.95) -> Turnover:
    """Tabulate how answers to a question moved between two waves, for the roles in both.

    Args:
        first: Answers of a wave.
        second: Answers of a later one; its weights count, as they allow for who left.
        key: A choice question of both.
        seed: Seed of the bootstrap behind the intervals, over the roles.
        level: Confidence of the intervals, above 0 and below 1.

    Raises:
        DataError: If the options of the question differ between the waves, or a role is twice in one.
        EmptyError: If nobody answered it in both.
        OptionError: If it is no choice question.
        UnknownNameError: If one of the waves did not ask it.
    """
    question, (before, after) = _same_question(first, second, key), (_places(first), _places(second))
    both = [seat for seat in before if seat in after]
    rows = np.array([(before[seat], after[seat]) for seat in both], dtype=np.int64).reshape(-1, 2)
    then = first.picks[rows[:, 0], first.survey.keys.index(key)].astype(np.int64)
    now = second.picks[rows[:, 1], second.survey.keys.index(key)].astype(np.int64)
    heard = (then != MISSING) & (now != MISSING)
    if not heard.any():
        raise EmptyError(
            f"nobody answered {key!r} in both waves, {first.wave!r} and {second.wave!r}: nothing to compare"
        )
    moves = _Moves(
        question=question, then=then[heard], now=now[heard], weights=np.asarray(second.weights)[rows[heard, 1]]
    )
    draws = bootstrap_counts(len(moves.then), BOOTSTRAPS, seed=derive_seed(seed, "transitions", key))
    table = moves.tables(np.ones((1, len(moves.then))))[0]
    by_chance = float(table.sum(axis=0) @ table.sum(axis=1))
    sampled = moves.tables(draws)
    left_out = {
        f"only in {first.wave or 'the first'}": len(before) - len(both),
        f"only in {second.wave or 'the second'}": len(after) - len(both),
        "no answer in one": int((~heard).sum()),
    }
    return Turnover(
        question=question,
        waves=(first.wave, second.wave),
        table=table,
        counts=moves.counts,
        unchanged=_unchanged(table, sampled, by_chance, level),
        correlation=_correlation(question, table, sampled, level),
        by_chance=by_chance,
        left_out=left_out,
    )


# -- who leaves ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Gap:
    """The draws between two waves."""

    hazard: Hazard
    seed: int
    gap: str
    return_rate: float

    def reason(self, role: Role) -> str:
        """Why a role leaves; empty: it stays."""
        causes = _causes(self.hazard, role)
        return next((name for name, risk in causes if self._uniform(_seat(role), name.partition("=")[0]) < risk), "")

    def returns(self, seat: str) -> bool:
        return self._uniform(seat, "return") < self.return_rate

    def chance(self, role: Role, there: float) -> float:
        """Probability to be there after the gap, given that before it."""
        stays = float(np.prod([1 - risk for _, risk in _causes(self.hazard, role)]))
        return there * stays + (1 - there) * self.return_rate

    def _uniform(self, seat: str, what: str) -> float:
        return random.Random(derive_seed(self.seed, seat, "attrition", self.gap, what)).random()


def _causes(hazard: Hazard, role: Role) -> list[tuple[str, float]]:
    """What may make a role leave, each with its probability."""
    if not isinstance(hazard, Mapping):
        return [(RATE, _share("the hazard", hazard(role)) if callable(hazard) else hazard)]
    found = []
    for trait, risks in hazard.items():
        level = role.levels.get(trait, ELSE)
        found.append((f"{trait}={level or 'not known'}", risks.get(level, risks.get(ELSE, 0.0))))
    return found


def _check_hazard(hazard: Hazard, cast: Matching) -> None:
    if callable(hazard):
        return
    if not isinstance(hazard, Mapping):
        _share("the hazard", hazard)
        return
    known = {trait for role in cast.roles for trait in role.levels}
    for trait, risks in hazard.items():
        if trait not in known:
            raise UnknownNameError("trait of the cast", trait, sorted(known))
        there = {role.levels[trait] for role in cast.roles if trait in role.levels}
        levels = cast.codebook.trait(trait).levels if cast.codebook is not None else tuple(sorted(there))
        for name, risk in risks.items():
            _share(f"the hazard of {trait}={name}", risk)
            if name not in (*levels, ELSE):
                raise UnknownNameError(f"level of {trait}", name, levels)


def _share(name: str, value: float) -> float:
    if not 0 <= value <= 1:
        raise OptionError(f"{name} must be a probability from 0 to 1, got {value}")
    return float(value)


def _seat(role: Role) -> str:
    return who(role.respondent_id, role.persona.persona_id if role.persona else "")


def _check_cast(cast: Matching) -> None:
    if not cast.roles:
        raise EmptyError("the cast is empty: a panel needs one role or more")
    ((seat, times),) = Counter(map(_seat, cast.roles)).most_common(1)
    if times > 1:
        raise DataError(
            f"the role {seat!r} is {times} times in the cast: a panel tells roles by respondent and persona"
        )


# -- what moved ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Moves:
    """Answers of the same roles at two times."""

    question: Question
    then: NDArray[np.int64]
    now: NDArray[np.int64]
    weights: NDArray[np.float64]

    @property
    def cells(self) -> NDArray[np.int64]:
        return self.then * len(self.question.options) + self.now

    @property
    def counts(self) -> NDArray[np.int64]:
        k = len(self.question.options)
        return np.bincount(self.cells, minlength=k * k).reshape(k, k)

    def tables(self, draws: Rows) -> NDArray[np.float64]:
        """Return the weighted table for each row of draws, which multiply the weights; shape (rows, K, K)."""
        k = len(self.question.options)
        sums = (draws * self.weights) @ np.eye(k * k)[self.cells]
        return np.asarray(sums / sums.sum(axis=1, keepdims=True)).reshape(-1, k, k)


def _same_question(first: Answers, second: Answers, key: str) -> Question:
    found = []
    for answers in (first, second):
        if key not in answers.survey.keys:
            raise UnknownNameError(f"question of wave {answers.wave!r}", key, answers.survey.keys)
        found.append(answers.survey.questions[answers.survey.keys.index(key)])
    if found[0].kind != CHOICE or found[1].kind != CHOICE:
        raise OptionError(f"question {key!r} is of the kind {found[0].kind}: turnover needs a choice of one option")
    if (found[0].options, found[0].codes) != (found[1].options, found[1].codes):
        raise DataError(
            f"question {key!r} has the options {', '.join(found[0].options)} in one wave and "
            f"{', '.join(found[1].options)} in the other: ask with the same ones to compare"
        )
    return found[0]


def _places(answers: Answers) -> dict[str, int]:
    seats = list(map(who, answers.respondent_ids, answers.persona_ids))
    if len(set(seats)) < len(seats):
        raise DataError(f"a role is twice in wave {answers.wave!r}: roles are told by respondent and persona")
    return {seat: row for row, seat in enumerate(seats)}


def _unchanged(table: NDArray[np.float64], sampled: NDArray[np.float64], by_chance: float, level: float) -> Metric:
    value = float(np.trace(table))
    low, high = interval(value, np.trace(sampled, axis1=1, axis2=2), level=level, least=0)
    return Metric(
        name="unchanged",
        value=value,
        unit="share",
        low=_known(low),
        high=_known(min(high, 1.0)),
        note=f"{by_chance:.3f} would be unchanged if the waves had nothing to do with each other",
    )


def _correlation(question: Question, table: NDArray[np.float64], sampled: NDArray[np.float64], level: float) -> Metric:
    found = Metric(name="correlation", value=None, unit="Pearson r")
    if not question.ordinal:
        return replace(found, note="the options have no order")
    steps = np.array(question.on_scale)
    table, sampled = (_among(tables, steps) for tables in (table[None], sampled))
    value = float(_pearson(table)[0])
    if np.isnan(value):
        return replace(found, note="everybody gave the same answer in one of the waves")
    low, high = interval(value, _pearson(sampled), level=level, least=-1)
    return replace(found, value=value, low=_known(low), high=_known(min(high, 1.0)))


def _among(tables: NDArray[np.float64], options: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the tables of those who chose one of some options both times, shape (rows, options, options)."""
    kept = tables[:, options[:, None], options]
    total = kept.sum(axis=(1, 2), keepdims=True)
    return np.asarray(np.divide(kept, total, out=np.zeros_like(kept), where=total > 0))


def _pearson(tables: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the correlation of the positions of rows and columns in each table; NaN where one does not vary."""
    place = np.arange(tables.shape[-1], dtype=np.float64)
    rows, columns = tables.sum(axis=2), tables.sum(axis=1)
    mean, later = rows @ place, columns @ place
    cross = np.einsum("bij,i,j->b", tables, place, place) - mean * later
    spread = (rows @ place**2 - mean**2) * (columns @ place**2 - later**2)
    varies = spread > 1e-12
    return np.asarray(np.where(varies, np.clip(cross / np.sqrt(np.where(varies, spread, 1.0)), -1, 1), np.nan))


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
