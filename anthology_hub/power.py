"""How many personas it takes to tell two methods apart by their Wasserstein distance to the humans.

The question is answered by making the comparison many times before it is made once: casts of n are drawn from answers
as they are assumed, or as two pilot runs gave them, and the share of casts in which the test tells the methods apart
is the power. The test is the one that compares two runs: the normal bootstrap interval of the difference of their mean
normalised distances leaves out 0; roles and humans are drawn, and drawn together where both runs share them. Beside it
stands the power by the delta method, which is honest only where the distances are many standard errors from zero and
therefore serves for large casts and as a start.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from math import inf, log10, sqrt
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from anthology_hub.errors import DataError, EmptyError, OptionError, UnknownNameError
from anthology_hub.prompts import derive_seed
from anthology_hub.resampling import bootstrap_counts
from anthology_hub.schema import MISSING, Answers, Respondents, Result, Survey
from anthology_hub.sides import Items

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

ERRORS = ("uniform", "mode")
"""Towards what the assumed methods err: every option as likely, or everybody the option that most humans chose."""
FEWEST = 10
"""Personas in the smallest cast that is looked at."""
LARGE = 10_000
"""Personas beyond which casts are no longer drawn."""
MADE = 4000
"""Rows of a population that is made from shares."""
USUAL_CORRELATION = 0.1
"""Between items, where nothing is known of it."""
_CELLS = 2**22
"""Cells of the tables that are held at once."""
_LINEAR = 20_000
_LOST = 300
"""Where the search begins if the delta method finds no size."""


@dataclass(frozen=True, kw_only=True)
class PowerOptions:
    """How the test is made and how exactly its power is found."""

    alpha: float = 0.05
    """Two-sided level of the test, above 0 and below 1."""
    targets: tuple[float, ...] = (0.8, 0.9)
    """Powers to find the least number of personas for; each above alpha and below 1."""
    replicates: int = 500
    """Casts drawn for each size; the standard error of a power of 80 % is 0.4 / sqrt(replicates)."""
    bootstraps: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            OptionError: If a value is not allowed.
        """
        if not 0 < self.alpha < 1 or not all(self.alpha < target < 1 for target in self.targets):
            raise OptionError(
                f"alpha must be above 0 and below 1, and a power above alpha and below 1; got alpha {self.alpha} and "
                f"{', '.join(map(str, self.targets)) or 'no power'}"
            )
        if self.replicates < 1 or self.bootstraps < 2:
            raise OptionError(
                f"replicates must be at least 1 and bootstraps at least 2, got {self.replicates}, {self.bootstraps}"
            )


@dataclass(frozen=True, kw_only=True)
class Population:
    """The human answers that methods are compared with; items whose options have an order."""

    name: str
    codes: NDArray[np.int16]
    """Shape (n, q); MISSING where there is no answer."""
    n_options: tuple[int, ...]
    weights: NDArray[np.float64]
    """Shape (n,)."""
    people: float
    """Humans behind the shares: they vary from sample to sample as those of so many; infinite: they are exact."""
    strata: NDArray[np.int64] | None = None
    psu: NDArray[np.int64] | None = None
    told: str = ""
    """What was assumed where the people themselves are not known."""

    def __len__(self) -> int:
        return len(self.codes)

    @classmethod
    def of(
        cls, humans: Respondents | Result, survey: Survey | None = None, *, people: float | None = None
    ) -> Population:
        """Return the population that a comparison will have.

        Args:
            humans: Respondents, or an evaluated run, of which the human shares are taken.
            survey: The questions; those of the humans if not given. Ordinal choice questions are used.
            people: How many humans there will be, at least 2; infinite: the shares are exact. None: as there are.

        Raises:
            DataError: If an answer is outside the question's options.
            EmptyError: If no question has ordered options, or nobody answered one.
            OptionError: If there is no survey, or fewer than 2 people are wanted.
            UnknownNameError: If the humans were not asked a question.

        Example:
            >>> from anthology_hub import Respondents
            >>> Population.of(Respondents.load("gss-2018")).codes.shape
            (2348, 18)
        """
        if people is not None and not people >= 2:
            raise OptionError(f"2 humans or more are needed, got {people}: their shares vary from sample to sample")
        if isinstance(humans, Result):
            return cls._of_result(humans, survey, people)
        asked = survey or humans.survey
        if asked is None:
            raise OptionError(f"{humans.name} has no survey: give one")
        questions = [question for question in asked.choices.questions if question.ordinal]
        for question in questions:
            if question.key not in humans.answers:
                raise UnknownNameError(f"question of {humans.name}", question.key, humans.answers)
        return cls(
            name=humans.name,
            codes=_table(humans, replace(asked.choices, questions=tuple(questions))),
            n_options=tuple(len(question.on_scale) for question in questions),
            weights=np.ones(len(humans)) if humans.weights is None else humans.weights,
            people=len(humans) if people is None else people,
            strata=humans.strata,
            psu=humans.psu,
        )

    @classmethod
    def made(
        cls,
        shares: Sequence[ArrayLike],
        *,
        name: str = "made",
        correlation: float = USUAL_CORRELATION,
        people: float = inf,
        seed: int = 0,
    ) -> Population:
        """Make people whose answers have given shares, with one common factor behind all items (a Gaussian copula).

        Args:
            shares: For each item the shares of its options, in order; each sums to 1.
            name: What to call them.
            correlation: Between the normal variables behind any two items, 0 to below 1.
            people: Humans behind the shares; infinite: they are exact.
            seed: Seed of the draws.

        Raises:
            DataError: If shares are negative or do not sum to 1.
            OptionError: If the correlation is out of range.

        Example:
            >>> Population.made([[0.2, 0.8], [0.5, 0.3, 0.2]]).shares[1].round(3).tolist()
            [0.5, 0.3, 0.2]
        """
        given = [np.asarray(share, dtype=np.float64) for share in shares]
        for at, share in enumerate(given):
            if share.ndim != 1 or len(share) < 2 or (share < 0).any() or not abs(share.sum() - 1) < 1e-3:
                raise DataError(f"item {at + 1}: two shares or more that sum to 1 are needed, got {share.tolist()}")
        if not 0 <= correlation < 1:
            raise OptionError(f"the correlation between items must be 0 to below 1, got {correlation}")
        if not given:
            raise EmptyError("there is no item: give the shares of one at least")
        rng = np.random.default_rng(derive_seed(seed, "population"))
        common, own = rng.standard_normal((MADE, 1)), rng.standard_normal((MADE, len(given)))
        latent = sqrt(correlation) * common + sqrt(1 - correlation) * own
        # Ranks instead of normal probabilities: the margins come out as given.
        place = (latent.argsort(axis=0).argsort(axis=0) + 0.5) / MADE
        columns = [np.searchsorted(np.cumsum(s)[:-1], place[:, at]) for at, s in enumerate(given)]
        return cls(
            name=name,
            codes=np.stack(columns, axis=1).astype(np.int16),
            n_options=tuple(map(len, given)),
            weights=np.ones(MADE),
            people=people,
            told=f"only the shares of {name} are known: one factor with a correlation of {correlation:.2f} between "
            "items stands behind the answers",
        )

    @classmethod
    def _of_result(cls, result: Result, survey: Survey | None, people: float | None) -> Population:
        found = {item["question"]: _on_scale(item) for item in result.items if item["wd"] is not None}
        keys = [q.key for q in survey.choices.questions if q.ordinal] if survey else list(found)
        for key in keys:
            if key not in found:
                raise UnknownNameError(f"ordinal question of the run {result.run_id}", key, found)
        alpha = next((metric.human for metric in result.metrics if metric.name == "alpha"), None)
        return cls.made(
            [np.asarray(found[key]) / np.sum(found[key]) for key in keys],
            name=f"the humans of run {result.run_id}",
            correlation=_between_items(alpha, len(result.questions)),
            people=(result.n_effective or result.n_humans or inf) if people is None else people,
        )

    @cached_property
    def ladder(self) -> _Ladder:
        """The steps between options."""
        return _Ladder.of(self.n_options)

    @cached_property
    def cumulative(self) -> NDArray[np.float64]:
        """Weighted cumulative share up to each step, shape (steps,)."""
        return np.asarray(self.ladder.cumulative(self.weights @ self.ladder.indicators(self.codes)))

    @property
    def shares(self) -> list[NDArray[np.float64]]:
        """Weighted shares of the options of each item."""
        return [np.diff(part, prepend=0.0, append=1.0) for part in self.ladder.split(self.cumulative)]

    def noise(self, draws: int, *, seed: int) -> NDArray[np.float64]:
        """Return how far the cumulative shares of other samples of humans lie off, shape (draws, steps)."""
        if self.people == inf:
            return np.zeros((draws, len(self.cumulative)))
        table, off, step = self.ladder.indicators(self.codes), [], max(1, _CELLS // len(self))
        for start in range(0, draws, step):
            counts = bootstrap_counts(
                len(self), min(step, draws - start), seed=derive_seed(seed, start), strata=self.strata, psu=self.psu
            )
            weighted = (counts * self.weights).astype(np.float32)
            off.append(self.ladder.cumulative(weighted @ table) - self.cumulative)
        return np.concatenate(off) * sqrt(len(self) / self.people)


@dataclass(frozen=True, kw_only=True)
class _Ladder:
    """The K-1 steps of each item, laid side by side."""

    item: NDArray[np.int64]
    step: NDArray[np.int64]
    factor: NDArray[np.float64]
    """What a gap at the step adds to the mean normalised distance."""

    @classmethod
    def of(cls, n_options: Sequence[int]) -> _Ladder:
        rungs = np.asarray(n_options) - 1
        return cls(
            item=np.repeat(np.arange(len(rungs)), rungs),
            step=np.concatenate([np.arange(rung) for rung in rungs]),
            factor=np.repeat(1 / (rungs * len(rungs)), rungs),
        )

    def indicators(self, codes: NDArray[np.int16]) -> NDArray[np.float32]:
        """Return for each person 1 where the answer is not past a step, then 1 for each item that was answered."""
        present = codes != MISSING
        under = present[:, self.item] & (codes[:, self.item] <= self.step)
        return np.concatenate([under, present], axis=1).astype(np.float32)

    def cumulative(self, sums: NDArray[Any]) -> NDArray[np.float64]:
        """Return cumulative shares from sums of indicators, shape (..., steps); NaN for an item without answer."""
        counts, answered = sums[..., : len(self.item)], sums[..., len(self.item) :]
        with np.errstate(invalid="ignore"):
            return np.asarray(counts / answered[..., self.item], dtype=np.float64)

    def distance(self, a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the mean normalised Wasserstein distance between cumulative shares of shape (..., steps)."""
        return np.asarray(np.abs(a - b) @ self.factor)

    def split(self, steps: NDArray[np.float64]) -> list[NDArray[np.float64]]:
        return [steps[self.item == at] for at in range(int(self.item[-1]) + 1)]


# -- what is assumed of the two methods --------------------------------------------------------------------------------

Cast = tuple["NDArray[np.int16]", "NDArray[np.float64]"]
"""Answers of n personas, shape (n, q), and their weights, shape (n,)."""


class Contest(Protocol):
    """Two methods of which casts can be drawn."""

    @property
    def population(self) -> Population:
        """The humans that both are compared with."""

    @property
    def paired(self) -> bool:
        """Whether both are given the same respondents to stand in for."""

    @property
    def levels(self) -> tuple[float, float]:
        """Mean normalised distance of each method to the humans, in an endless cast."""

    @property
    def assumptions(self) -> tuple[str, ...]:
        """What was assumed, in words."""

    def casts(self, n: int, rng: np.random.Generator) -> tuple[Cast, Cast]:
        """Draw n personas of each method."""


@dataclass(frozen=True, kw_only=True)
class Assumed:
    """Two methods that err towards the same end, one further than the other.

    Each persona answers as a human does, but each answer is, with a probability, replaced by one of the end: this puts
    the mean distance exactly where it is wanted and leaves the items correlated.
    """

    population: Population
    difference: float
    """Of the two mean normalised distances, at least 0."""
    level: float | None = None
    """Mean normalised distance of the better method; None: half way to knowing nothing, as far as the difference
    leaves room."""
    toward: str = "uniform"
    """One of ERRORS."""
    alike: float = 0.2
    """Probability that both methods make the same human of a respondent; about the correlation of their answers before
    errors. Only a pilot tells it; 0.2 is about the correlation of digital twins with their humans (Twin-2K-500
    mega-study, 2025). Not used if not paired."""
    paired: bool = True

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            OptionError: If a value is not allowed, or such distances cannot be.
            UnknownNameError: If the end is not known.
        """
        if self.toward not in ERRORS:
            raise UnknownNameError("end that methods err towards:", self.toward, ERRORS)
        if not 0 <= self.alike <= 1:
            raise OptionError(f"alike must be 0 to 1, got {self.alike}")
        if not (self.difference >= 0 and self.levels[0] >= 0 and self.levels[1] <= self.reach + 1e-12):
            raise OptionError(
                f"a distance of {self.levels[0]:.4g} with a difference of {self.difference:.4g} cannot be: a method "
                f"that errs towards {self.toward!r} lies 0 to {self.reach:.4f} from {self.population.name}; give a "
                "difference of 0 or more, and a smaller difference or level"
            )

    @property
    def levels(self) -> tuple[float, float]:
        """Mean normalised distance of each method to the humans."""
        level = min(self.reach / 2, self.reach - self.difference) if self.level is None else self.level
        return level, level + self.difference

    @cached_property
    def end(self) -> NDArray[np.float64]:
        """Cumulative shares of the end, shape (steps,)."""
        parts = []
        for shares in self.population.shares:
            k = len(shares)
            found = np.full(k, 1 / k) if self.toward == "uniform" else np.eye(k)[shares.argmax()]
            parts.append(np.cumsum(found)[:-1])
        return np.concatenate(parts)

    @cached_property
    def reach(self) -> float:
        """Mean normalised distance of the end to the humans: the largest that can be assumed."""
        return float(self.population.ladder.distance(self.end, self.population.cumulative))

    @property
    def assumptions(self) -> tuple[str, ...]:
        """What was assumed, in words."""
        end = "every option as likely" if self.toward == "uniform" else "everybody the option most humans chose"
        same = (
            f"the same respondents for both; with a probability of {self.alike:g} both make the same human of one"
            if self.paired
            else "other respondents for each"
        )
        return (
            f"both err towards {end}, which lies {self.reach:.4f} from the humans; each answer of a persona is one of "
            "that kind with the probability that gives the distance, otherwise a human's",
            same,
        )

    def casts(self, n: int, rng: np.random.Generator) -> tuple[Cast, Cast]:
        """Draw n personas of each method."""
        people = self.population
        first = rng.integers(len(people), size=n)
        weights = people.weights[first]
        if not self.paired:
            second = rng.integers(len(people), size=n)
            return (self._answers(first, 0, rng), weights), (self._answers(second, 1, rng), people.weights[second])
        # Who does not play the respondent plays anybody, as often as the weights say: the shares stay the humans'.
        anybody = rng.choice(len(people), size=n, p=people.weights / people.weights.sum())
        second = np.where(rng.random(n) < self.alike, first, anybody)
        return (self._answers(first, 0, rng), weights), (self._answers(second, 1, rng), weights)

    def _answers(self, rows: NDArray[np.int64], which: int, rng: np.random.Generator) -> NDArray[np.int16]:
        codes = self.population.codes[rows]
        wrong = rng.random(codes.shape) < (self.levels[which] / self.reach if self.reach else 0.0)
        drawn = rng.random(codes.shape)
        ends, humans = (self.population.ladder.split(c) for c in (self.end, self.population.cumulative))
        for at in range(codes.shape[1]):
            column = codes[:, at]
            # Where the human was not asked, the persona answers as humans do.
            for cells, shares in ((column == MISSING, humans[at]), (wrong[:, at], ends[at])):
                column[cells] = np.searchsorted(shares, drawn[cells, at], side="right")
        return codes


@dataclass(frozen=True, kw_only=True)
class Piloted:
    """Two methods as two runs gave them: personas are drawn from theirs, with all their answers."""

    population: Population
    first: Cast
    second: Cast
    """Row i of both stands in for the same respondent, if paired."""
    paired: bool = True
    mixed: float = 1.0
    """Share of personas of the worse method that are its own; the others are the better one's."""
    told: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        runs: tuple[Answers, Answers],
        population: Callable[[Survey], Population],
        *,
        difference: float | None = None,
        paired: bool = True,
    ) -> Piloted:
        """Take two finished runs on the same questions as they are, or as much of their difference as is wanted.

        Args:
            runs: Both pilots.
            population: From a survey to the humans.
            difference: Plan for this smaller difference of the mean normalised distances: the worse method is then
                mixed with the better one. None: the one that the pilots show.
            paired: Compare the respondents that both stood in for.

        Raises:
            DataError: If the runs asked other questions.
            EmptyError: If they share no respondent, or a question has no answer.
            OptionError: If the pilots differ by less than is wanted.
        """
        a, b = (run.choices for run in runs)
        if [(q.key, q.options) for q in a.survey.questions] != [(q.key, q.options) for q in b.survey.questions]:
            raise DataError(
                f"the runs asked other questions or options: {', '.join(a.survey.keys)}; {', '.join(b.survey.keys)}. "
                "Give two runs of one survey"
            )
        ordinal = [at for at, question in enumerate(a.survey.questions) if question.ordinal]
        rows = _shared(a, b) if paired else (np.arange(len(a)), np.arange(len(b)))
        first, second = (
            (Items.of(a.survey).on_scale(run.picks[at])[:, ordinal], run.weights[at] / run.weights[at].mean())
            for run, at in zip((a, b), rows, strict=True)
        )
        humans = population(a.survey)
        mute = [a.survey.keys[ordinal[at]] for cast in (first, second) for at in np.flatnonzero(_silent(cast[0]))]
        if mute:
            raise EmptyError(f"a pilot has no answer to {', '.join(dict.fromkeys(mute))}: leave these questions out")
        counts = f"{len(first[0])} shared respondents" if paired else f"{len(first[0])} and {len(second[0])} personas"
        told = (f"answers, weights and what the methods have in common are those of the pilots ({counts})",)
        shown = cls(population=humans, first=first, second=second, paired=paired, told=told)
        return shown if difference is None else shown._mixed_down(difference)

    @property
    def levels(self) -> tuple[float, float]:
        """Mean normalised distance of each method to the humans."""
        ladder = self.population.ladder
        a, b = (ladder.cumulative(weights @ ladder.indicators(codes)) for codes, weights in (self.first, self.second))
        mixture = self.mixed * b + (1 - self.mixed) * a
        return tuple(float(ladder.distance(side, self.population.cumulative)) for side in (a, mixture))  # type: ignore[return-value]

    @property
    def assumptions(self) -> tuple[str, ...]:
        """What was assumed, in words."""
        if self.mixed == 1.0:
            return (*self.told, "the difference is the one the pilots happen to show: a small pilot overstates it")
        return (*self.told, f"of the worse method {self.mixed:.0%} of the personas are its own, the rest the better's")

    def casts(self, n: int, rng: np.random.Generator) -> tuple[Cast, Cast]:
        """Draw n personas of each method."""
        (a, wa), (b, wb) = self.first, self.second
        first = rng.integers(len(a), size=n)
        second = first if self.paired else rng.integers(len(b), size=n)
        own = rng.random(n) < self.mixed
        other = first if self.paired else rng.integers(len(a), size=n)
        codes = np.where(own[:, None], b[second], a[other])
        return (a[first], wa[first]), (codes, np.where(own, wb[second], wa[other]))

    def _mixed_down(self, difference: float) -> Piloted:
        """Along the mixture the distance is convex: it passes each smaller difference once on its way up."""
        better, worse = self.levels
        if not 0 < difference <= abs(worse - better):
            raise OptionError(
                f"the pilots differ by {abs(worse - better):.4f} and cannot show a difference of {difference:.4g}: "
                "give one above 0 and not above that, or leave --difference out"
            )
        fields = dict(population=self.population, paired=self.paired, told=self.told)
        casts = (self.first, self.second) if better <= worse else (self.second, self.first)
        low, high = 0.0, 1.0
        for _ in range(60):
            middle = (low + high) / 2
            a, b = Piloted(first=casts[0], second=casts[1], mixed=middle, **fields).levels  # type: ignore[arg-type]
            low, high = (middle, high) if b - a < difference else (low, middle)
        return Piloted(first=casts[0], second=casts[1], mixed=high, **fields)  # type: ignore[arg-type]


# -- power ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Point:
    """The power of a comparison of casts of n."""

    n: int
    power: float
    """Share of comparisons that tell the methods apart, 0 to 1."""
    error: float | None
    """Monte Carlo standard error of the power; None where casts were not drawn."""
    approximate: float
    """Power by the delta method."""


@dataclass(frozen=True, kw_only=True)
class PowerPlan:
    """How many personas a comparison needs, and what was assumed."""

    levels: tuple[float, float]
    """Mean normalised distance of the two methods."""
    items: int
    humans: str
    paired: bool
    alpha: float
    points: tuple[Point, ...]
    least: Mapping[float, Point | None]
    """Power wanted -> smallest cast found that reaches it; None: no cast does, the humans are too few."""
    assumptions: tuple[str, ...]
    ceiling: float = 1.0
    """Power of endless casts against humans as many as these."""
    options: PowerOptions = field(default_factory=PowerOptions)

    @property
    def difference(self) -> float:
        """Distance of the second method less that of the first."""
        return self.levels[1] - self.levels[0]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "difference": self.difference,
            "levels": list(self.levels),
            "items": self.items,
            "humans": self.humans,
            "paired": self.paired,
            "alpha": self.alpha,
            "points": [asdict(point) for point in self.points],
            "least": {str(target): point and asdict(point) for target, point in self.least.items()},
            "ceiling": self.ceiling,
            "replicates": self.options.replicates,
            "bootstraps": self.options.bootstraps,
            "seed": self.options.seed,
            "assumptions": list(self.assumptions),
        }

    def lines(self) -> list[str]:
        """Return the plan as text, line by line."""
        kind = "the same respondents" if self.paired else "different respondents"
        head = [
            f"WD normalised {self.levels[0]:.4f} against {self.levels[1]:.4f}, a difference of {self.difference:.4f}; "
            f"{self.items} items, {self.humans}",
            f"two-sided test at {self.alpha:g}, {kind}",
            f"{'personas each':>14} {'power':>7} {'+-':>6} {'delta method':>13}",
        ]
        rows = [f"{p.n:>14} {p.power:>7.1%} {_spread(p):>6} {p.approximate:>13.1%}" for p in self.points]
        found = [self._least_line(target, point) for target, point in self.least.items()]
        return [*head, *rows, *found, *(f"assumed: {line}" for line in self.assumptions)]

    def _least_line(self, target: float, point: Point | None) -> str:
        if point is None:
            endless = f"endless casts have {self.ceiling:.0%}, as the humans' own chance stays"
            far = "out of reach" if self.ceiling <= target else f"more than {LARGE} personas each"
            return f"{target:.0%} power: {far}: {endless}; compare with more humans, or on more questions"
        how = "by the delta method" if point.error is None else f"power {point.power:.1%} +- {_spread(point)}"
        return f"{target:.0%} power: {point.n} personas each ({how})"


def plan_power(contest: Contest, *, sizes: Sequence[int] = (), options: PowerOptions | None = None) -> PowerPlan:
    """Find the power for some sizes of casts, and the least size for each power wanted.

    A persona stands in for one respondent and is drawn independently: where few personas play many respondents, more
    are needed than is said here.

    Args:
        contest: The two methods, `Assumed` or `Piloted`.
        sizes: Personas in each method's cast; some around the answer if not given.
        options: The test, the powers wanted, the replicates.

    Returns:
        The plan. The least sizes are found by bisection to 5 %; their Monte Carlo error is told.

    Raises:
        OptionError: If the methods do not differ, or a size is below FEWEST.

    Example:
        >>> people = Population.made([[0.2, 0.3, 0.5]] * 6)
        >>> quick = PowerOptions(replicates=40, bootstraps=40, targets=(0.8,))
        >>> plan = plan_power(Assumed(population=people, difference=0.05), sizes=[50, 400], options=quick)
        >>> plan.points[0].power < plan.points[1].power, 50 < plan.least[0.8].n < 400
        (True, True)
    """
    options = options or PowerOptions()
    if few := [n for n in sizes if n < FEWEST]:
        raise OptionError(f"a cast of {few[0]} is too small to plan for: give sizes of {FEWEST} or more")
    if abs(contest.levels[1] - contest.levels[0]) < 1e-6:
        raise OptionError(
            "the methods do not differ: no number of personas can tell them apart; give a difference above 0"
        )
    search = _Search(contest, options)
    least = {target: search.least(target) for target in options.targets}
    wanted = sorted(set(sizes)) or search.around(least)
    people = contest.population
    chance = "taken as exact" if people.people == inf else "whose own chance counts"
    return PowerPlan(
        levels=contest.levels,
        items=len(people.n_options),
        humans=f"against {people.name}, {chance}",
        paired=contest.paired,
        alpha=options.alpha,
        points=tuple(search.at(n) for n in wanted),
        least=least,
        assumptions=(
            *contest.assumptions,
            *([people.told] if people.told else []),
            "every role has a persona of its own",
            f"methods count as told apart where the normal interval of their difference, from {options.bootstraps} "
            f"bootstrap draws, leaves out 0, as `compare` does; {options.replicates} casts drawn for each size up to "
            f"{LARGE}, the delta method beyond",
        ),
        ceiling=search.ceiling,
        options=options,
    )


def power_at(contest: Contest, n: int, *, options: PowerOptions | None = None) -> Point:
    """Return the power of one comparison of casts of n, by simulation.

    0 to 1; it equals alpha where the methods do not differ. Casts, bootstrap and humans derive from the seed and n.

    Args:
        contest: The two methods.
        n: Personas of each, at least 2.
        options: The test and the replicates.

    Example:
        >>> contest = Assumed(population=Population.made([[0.2, 0.3, 0.5]] * 6), difference=0.1)
        >>> power_at(contest, 200, options=PowerOptions(replicates=50, bootstraps=50)).power
        1.0
    """
    if n < 2:
        raise OptionError(f"a cast needs at least 2 personas, got {n}")
    return _Search(contest, options or PowerOptions()).drawn(n)


class _Linear:
    """The delta method: the difference as a mean of what each persona adds to it, and each human."""

    def __init__(self, contest: Contest, options: PowerOptions) -> None:
        people = contest.population
        ladder, humans = people.ladder, people.cumulative
        rng = np.random.default_rng(derive_seed(options.seed, "power", "linear"))
        signs, added = [], []
        self.shares: list[NDArray[np.float64]] = []
        for codes, weights in contest.casts(_LINEAR, rng):
            table = ladder.indicators(codes)
            shares = ladder.cumulative(weights @ table)
            steps = len(ladder.item)
            answered = table[:, steps:][:, ladder.item] * weights[:, None]
            # A gap this small is the chance of the cast drawn here: its sign says nothing.
            sign = np.where(np.abs(shares - humans) > 3 / sqrt(_LINEAR), np.sign(shares - humans), 0.0)
            influence = (table[:, :steps] - shares) * answered / answered.mean(axis=0)
            signs.append(sign)
            self.shares.append(shares)
            added.append(influence @ (sign * ladder.factor))
        parts = [added[1] - added[0]] if contest.paired else added
        self.difference = contest.levels[1] - contest.levels[0]
        self.each = float(sum(part.var() for part in parts))
        noise = people.noise(200, seed=derive_seed(options.seed, "power", "linear humans"))
        self.humans = float((noise @ ((signs[1] - signs[0]) * ladder.factor)).var())

    def power(self, n: float, alpha: float) -> float:
        """Return the power of casts of n; 0 to 1."""
        normal, spread = NormalDist(), sqrt(self.each / n + self.humans)
        reach, z = (abs(self.difference) / spread if spread else inf), normal.inv_cdf(1 - alpha / 2)
        return float(normal.cdf(reach - z) + normal.cdf(-reach - z)) if reach < inf else 1.0


class _Search:
    """Powers, each found once, against the same samples of humans."""

    def __init__(self, contest: Contest, options: PowerOptions) -> None:
        self.contest, self.options = contest, options
        self.linear, self.points = _Linear(contest, options), dict[int, Point]()
        people, seed = contest.population, options.seed
        again = people.noise(options.bootstraps, seed=derive_seed(seed, "power", "humans again"))
        samples = people.noise(options.replicates, seed=derive_seed(seed, "power", "humans"))
        self.samples = people.cumulative + samples
        self.wobble = np.concatenate([np.zeros((1, again.shape[1])), again])[:, None]
        first, second = (people.ladder.distance(shares, self.samples + self.wobble) for shares in self.linear.shares)
        self.ceiling = self._power(second - first) if people.people < inf else 1.0

    def at(self, n: int) -> Point:
        if n not in self.points:
            rough = self.linear.power(n, self.options.alpha)
            self.points[n] = self.drawn(n) if n <= LARGE else Point(n=n, power=rough, error=None, approximate=rough)
        return self.points[n]

    def drawn(self, n: int) -> Point:
        counts = [self._counts(n, "first")]
        counts.append(counts[0] if self.contest.paired else self._counts(n, "second"))
        step = max(1, _CELLS // (n * self.wobble.shape[-1]))
        blocks = [range(at, min(at + step, len(self.samples))) for at in range(0, len(self.samples), step)]
        power = self._power(np.concatenate([self._block(n, block, counts) for block in blocks], axis=1))
        # Agresti and Coull: an error of 0 would be claimed where all casts agree.
        tries = self.options.replicates + 4
        smoothed = (power * self.options.replicates + 2) / tries
        rough = self.linear.power(n, self.options.alpha)
        return Point(n=n, power=power, error=sqrt(smoothed * (1 - smoothed) / tries), approximate=rough)

    def _power(self, gaps: NDArray[np.float64]) -> float:
        """Return the share of tests that reject; `gaps` are the differences, then their bootstrap draws, by column."""
        gap, spread = np.abs(gaps[0]), gaps[1:].std(axis=0, ddof=1)
        # Without spread a difference is certain; where there is none either, or an item has no answer, none is found.
        scores = np.divide(gap, spread, out=np.where(gap > 1e-6, inf, 0.0), where=spread > 1e-9)
        return float((scores > NormalDist().inv_cdf(1 - self.options.alpha / 2)).mean())

    def _block(self, n: int, block: range, counts: Sequence[NDArray[np.float32]]) -> NDArray[np.float64]:
        ladder, humans = self.contest.population.ladder, self.samples[block.start : block.stop] + self.wobble
        pairs = [self.contest.casts(n, self._rng(n, "cast", replicate)) for replicate in block]
        distances = []
        for casts, rows in zip(zip(*pairs, strict=True), counts, strict=True):
            tables = [ladder.indicators(codes) * weights[:, None].astype(np.float32) for codes, weights in casts]
            sums = (rows @ np.concatenate(tables, axis=1)).reshape(len(rows), len(block), -1)
            distances.append(ladder.distance(ladder.cumulative(sums), humans))
        return distances[1] - distances[0]

    def _counts(self, n: int, which: str) -> NDArray[np.float32]:
        """Return bootstrap counts, below a row of ones for the cast itself; shape (1 + draws, n)."""
        draws = bootstrap_counts(n, self.options.bootstraps, seed=derive_seed(self.options.seed, "power", n, which))
        return np.concatenate([np.ones((1, n)), draws]).astype(np.float32)

    def _rng(self, *parts: object) -> np.random.Generator:
        return np.random.default_rng(derive_seed(self.options.seed, "power", *parts))

    def guess(self, target: float) -> int | None:
        """Return the size that the delta method asks for; None if no size will do."""
        if self.linear.power(inf, self.options.alpha) <= target:
            return None
        low, high = 1.0, 2.0
        while self.linear.power(high, self.options.alpha) < target:
            high *= 2
        while high / low > 1.001:
            middle = sqrt(low * high)
            low, high = (low, middle) if self.linear.power(middle, self.options.alpha) >= target else (middle, high)
        return max(FEWEST, round(high))

    def least(self, target: float) -> Point | None:
        """Bracket the size by factors of 1.5 around the guess, then halve the bracket to 5 %."""
        if self.ceiling <= target:
            return None
        guess = self.guess(target)
        low = high = guess or _LOST
        while high <= LARGE and self.at(high).power < target:
            low, high = high, round(high * 1.5) + 1
        if high > LARGE:
            return self.at(max(guess, LARGE + 1)) if guess else None
        while low > FEWEST and self.at(low).power >= target:
            low, high = max(FEWEST, round(low / 1.5)), low
        if self.at(low).power >= target:
            return self.at(low)
        while high > max(1.05 * low, low + 1):
            middle = round(sqrt(low * high))
            low, high = (low, middle) if self.at(middle).power >= target else (middle, high)
        return self.at(high)

    def around(self, least: Mapping[float, Point | None]) -> list[int]:
        """Return round sizes about the least one; about where half of the comparisons succeed, if there is none."""
        known = [point.n for point in least.values() if point]
        middle = min(known) if known else _LOST
        return sorted({max(FEWEST, _round(middle * share)) for share in (0.25, 0.5, 1.0, 1.5, 2.0)})


def _round(value: float) -> int:
    """Round to two digits."""
    unit = 10 ** max(0, int(log10(value)) - 1)
    return int(round(value / unit) * unit)


def _spread(point: Point) -> str:
    return "" if point.error is None else f"{1.96 * point.error:.1%}"


def _on_scale(item: Mapping[str, Any]) -> list[float]:
    """The humans' shares of the options on the scale of a question, as its result has it."""
    off = item.get("off_scale", ())
    return [share for text, share in zip(item["options"], item["human"], strict=True) if text not in off]


def _table(humans: Respondents, asked: Survey) -> NDArray[np.int16]:
    """The humans' answers as positions on the scale of each question, shape (n, q)."""
    if not asked.questions:
        raise EmptyError(f"no question to {humans.name} has options with an order: the distance needs one at least")
    columns = [humans.answers[key] for key in asked.keys]
    for question, column in zip(asked.questions, columns, strict=True):
        if (most := int(column.max())) >= len(question.options):
            raise DataError(
                f"an answer to {question.key!r} of {humans.name} is option {most + 1}, and it has "
                f"{len(question.options)}: give the survey of {humans.name}"
            )
    found = Items.of(asked).on_scale(np.stack(columns, axis=1).astype(np.int16))
    if mute := [asked.keys[at] for at in np.flatnonzero((found == MISSING).all(axis=0))]:
        raise EmptyError(f"nobody in {humans.name} answered {', '.join(mute)}: leave these questions out")
    return found


def _between_items(alpha: float | None, items: int) -> float:
    """Return the mean correlation between items that an alpha implies (Spearman and Brown, solved for it)."""
    if alpha is None or items < 2:
        return USUAL_CORRELATION
    return float(np.clip(alpha / (items - (items - 1) * alpha), 0.0, 0.95))


def _shared(a: Answers, b: Answers) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    place = {respondent: row for row, respondent in enumerate(b.respondent_ids)}
    rows = [(row, place[known]) for row, known in enumerate(a.respondent_ids) if known in place]
    if len(rows) < 2:
        raise EmptyError(
            f"the pilots share {len(rows)} respondents of {len(a)} and {len(b)}: run both on the same sample (same "
            "--sample and --seed), or plan with --unpaired"
        )
    first, second = np.array(rows).T
    return first, second


def _silent(codes: NDArray[np.int16]) -> NDArray[np.bool_]:
    return np.asarray((codes == MISSING).all(axis=0))
