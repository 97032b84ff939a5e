"""Several runs against the same humans: which is closer, how sure that is, and in which questions they differ.

All runs are held against the same bootstrap draws of the humans. Where the casts stand for the same respondents, these
are drawn in common (a paired bootstrap), so that what the people have in common drops out of the difference; and where
a persona stands for several of them, the personas are drawn as well, the same ones for all runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from anthology_hub import metrics, resampling
from anthology_hub.errors import DataError, OptionError
from anthology_hub.evaluation import EvaluateOptions, untold
from anthology_hub.margins import Margins
from anthology_hub.measures import DISTANCE, MEASURES, PROPERTY, or_none
from anthology_hub.prompts import derive_seed
from anthology_hub.rows import one_thread
from anthology_hub.schema import SCHEMA_VERSION, Answers, Respondents
from anthology_hub.sides import Figures, Side, human_side, simulated_side

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from anthology_hub.resampling import Rows


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How much further from the humans one run is than another; negative: the first is closer."""

    measure: str
    first: str
    second: str
    value: float | None
    """Difference of the distances; of a property, of the absolute distances to the humans' own."""
    low: float | None
    high: float | None
    probability: float | None
    """Share of the bootstrap draws in which the first is closer, 0 to 1."""
    p: float | None
    """Two-sided p-value of no difference, by the bootstrap. Near the human floor it is too large for distances between
    shares: resampling adds more noise to them than people do."""


@dataclass(frozen=True, kw_only=True)
class ItemDifference:
    """The same for one question and the headline distance."""

    question: str
    first: str
    second: str
    value: float
    low: float | None
    high: float | None
    p: float | None
    adjusted: float | None
    """p adjusted for the number of questions."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Runs side by side."""

    names: tuple[str, ...]
    paired: bool
    """Whether the casts stand for the same respondents."""
    differences: tuple[Difference, ...]
    items: tuple[ItemDifference, ...]
    adjustment: str
    level: float
    notes: tuple[str, ...] = ()

    def difference(self, measure: str, first: str, second: str) -> Difference:
        """Return one difference.

        Raises:
            OptionError: If there is none.
        """
        for one in self.differences:
            if (one.measure, one.first, one.second) == (measure, first, second):
                return one
        raise OptionError(f"{measure} of {first!r} and {second!r} is not compared; runs are {', '.join(self.names)}")

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"schema_version": SCHEMA_VERSION, **asdict(self)}

    def lines(self) -> Iterator[str]:
        """Return what came out, in words."""
        for one in self.differences:
            if one.measure == "wd_normalised":
                yield f"{one.first} against {one.second}: {_verdict(one)}"
        told = sorted({item.question for item in self.items if item.adjusted is not None and item.adjusted < 0.05})
        by = {"holm": "Holm", "bh": "Benjamini-Hochberg"}[self.adjustment]
        yield f"questions in which two runs differ (p < 0.05, {by}): {', '.join(told) or 'none'}"
        yield from self.notes

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{cell}</th>" for cell in ("figure", "first", "second", "difference", "closer", "p"))
        body = "".join(
            f"<tr><td>{escape(one.measure)}</td><td>{escape(one.first)}</td><td>{escape(one.second)}</td>"
            f"<td>{_between(one)}</td><td>{_share(one.probability)}</td><td>{_share(one.p, 3)}</td></tr>"
            for one in self.differences
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


@one_thread
def compare(
    runs: Mapping[str, Answers],
    humans: Respondents,
    *,
    options: EvaluateOptions | None = None,
    adjustment: str = "holm",
) -> Comparison:
    """Compare runs pair by pair.

    Args:
        runs: Name -> answers, two or more, to the same questions.
        humans: Whom all are compared with.
        options: As for `evaluate`.
        adjustment: For the number of questions: `holm` (no false finding at all) or `bh` (Benjamini-Hochberg: few
            among those that are found).

    Raises:
        DataError: If the runs have other questions, or options, or the humans have.
        EmptyError: If a question has no answer in a run, or none from the humans.
        OptionError: If there are fewer than two runs, the adjustment is unknown, or the humans are margins.
        UnknownNameError: If the humans were not asked a question.

    Example:
        >>> from anthology_hub import Respondents, SimulateOptions, Survey, open_model, simulate, unmatched
        >>> humans = Respondents.load("gss-2018")
        >>> survey, options = Survey.load("gss-national-spending"), SimulateOptions(conditioning="bio")
        >>> cast = unmatched(humans.sample(60, seed=1))
        >>> runs = {
        ...     rule: simulate(cast, survey, open_model(f"scripted:{rule}"), options=options)
        ...     for rule in ("uniform", "first")
        ... }
        >>> found = compare(runs, humans).difference("wd_normalised", "uniform", "first")
        >>> found.value < 0, found.probability > 0.99
        (True, True)
    """
    options = options or EvaluateOptions()
    if len(runs) < 2:
        raise OptionError(f"a comparison needs two runs or more, got {', '.join(runs) or 'none'}")
    if adjustment not in resampling.ADJUSTMENTS:
        raise OptionError(f"unknown adjustment {adjustment!r}: allowed are {', '.join(resampling.ADJUSTMENTS)}")
    if isinstance(humans, Margins):
        raise OptionError(f"{humans.name} has no people to draw: compare against respondents, or evaluate each run")
    chosen = {name: answers.choices for name, answers in runs.items()}
    _check_same(chosen)
    survey = next(iter(chosen.values())).survey
    theirs = human_side(humans, survey, weighting=options.weighting)
    sides = {name: simulated_side(answers, weighting=options.weighting) for name, answers in chosen.items()}
    paired = len({tuple(sorted(answers.respondent_ids)) for answers in chosen.values()}) == 1
    rows = _paired_rows(chosen, sides, options) if paired else _rows(sides, options)
    blind = dict.fromkeys(why for side in sides.values() for why in untold(side, theirs, options.resample))
    drawn = _Drawn.of(sides, theirs, rows, options)
    drawn = drawn.alone if blind else drawn
    names = tuple(runs)
    pairs = [(one, other) for at, one in enumerate(names) for other in names[at + 1 :]]
    return Comparison(
        names=names,
        paired=paired,
        differences=tuple(_difference(drawn, name, *pair, options) for pair in pairs for name in drawn.measures),
        items=tuple(item for pair in pairs for item in _items(drawn, survey.keys, *pair, options, adjustment)),
        adjustment=adjustment,
        level=options.level,
        notes=(*_told(chosen, paired=paired), *blind),
    )


def _told(runs: Mapping[str, Answers], *, paired: bool) -> Iterator[str]:
    if not paired:
        yield "The casts stand for different respondents: their roles are drawn apart."
    if len({len(answers) for answers in runs.values()}) > 1:
        sizes = ", ".join(f"{name} {len(answers)}" for name, answers in runs.items())
        yield f"The casts differ in size ({sizes}): the distance of a smaller one is larger by chance alone."


@dataclass(frozen=True, kw_only=True)
class _Drawn:
    """How far each run is from the humans: the value first, then on each draw."""

    far: Mapping[str, Mapping[str, NDArray[np.float64]]]
    """Run -> figure -> shape (1 + draws,)."""
    steps: Mapping[str, NDArray[np.float64]]
    """Run -> normalised distance of each question, shape (1 + draws, q); NaN without an order."""

    @property
    def measures(self) -> list[str]:
        first = next(iter(self.far.values()))
        return [name for name in MEASURES if name in first]

    @property
    def alone(self) -> _Drawn:
        """The values without draws."""
        far = {run: {name: value[:1] for name, value in figures.items()} for run, figures in self.far.items()}
        return _Drawn(far=far, steps={run: steps[:1] for run, steps in self.steps.items()})

    @classmethod
    def of(cls, sides: Mapping[str, Side], theirs: Side, rows: Mapping[str, Rows], options: EvaluateOptions) -> _Drawn:
        them = [theirs.whole]
        if options.resample == "personas":
            # One row that stands for all draws.
            them.append(theirs.whole)
        else:
            count = options.bootstraps
            them.append(theirs.figures(theirs.draws(count, seed=options.seed + 1), pairs=count))
        far, steps = {}, {}
        for name, side in sides.items():
            us = [side.whole, side.figures(rows[name], pairs=options.bootstraps)]
            found = [_far(one, other, side) for one, other in zip(us, them, strict=True)]
            far[name] = {measure: np.concatenate([part[measure] for part in found]) for measure in found[0]}
            steps[name] = np.concatenate([_steps(one, other, side) for one, other in zip(us, them, strict=True)])
        return cls(far=far, steps=steps)


def _rows(sides: Mapping[str, Side], options: EvaluateOptions) -> dict[str, Rows]:
    """Draw the roles of each run by themselves; all of them, where only the respondents are drawn."""
    count = options.bootstraps
    if options.resample == "respondents":
        return {name: np.ones((count, len(side)), dtype=bool) for name, side in sides.items()}
    return {name: side.draws(count, seed=derive_seed(options.seed, "roles", name)) for name, side in sides.items()}


def _paired_rows(runs: Mapping[str, Answers], sides: Mapping[str, Side], options: EvaluateOptions) -> dict[str, Rows]:
    """Draw the same respondents for all runs, and with them the personas that stand for several of them."""
    if options.resample == "respondents":
        return _rows(sides, options)
    count, seed, n = options.bootstraps, options.seed, len(next(iter(sides.values())))
    people = resampling.bootstrap_counts(n, count, seed=seed)
    ids = np.array([answers.persona_ids for answers in runs.values()])
    numbers = np.unique(ids, return_inverse=True)[1].reshape(ids.shape)
    units = resampling.bootstrap_counts(numbers.size, count, seed=seed + 1, psu=numbers.reshape(-1))
    units = units.reshape(count, *ids.shape)
    found: dict[str, Rows] = {}
    for at, (name, answers) in enumerate(runs.items()):
        # Roles in the order of their respondents, so that runs in another order are paired all the same.
        place = np.argsort(np.argsort(np.array(answers.respondent_ids), kind="stable"), kind="stable")
        found[name] = people[:, place] if sides[name].psu is None else people[:, place] * units[:, at]
    return found


def _far(us: Figures, them: Figures, side: Side) -> dict[str, NDArray[np.float64]]:
    """Every figure as a distance: of a property, to the humans' own."""
    ours, own = us.against(them, side.items), them.against(them, side.items)
    far = {}
    for name, value in ours.items():
        gap = np.abs(value - own[name]) if MEASURES[name].kind == PROPERTY else value
        far[name] = gap if MEASURES[name].kind in (DISTANCE, PROPERTY) else -gap
    return far


def _steps(us: Figures, them: Figures, side: Side) -> NDArray[np.float64]:
    steps = metrics.wasserstein(us.shares, them.shares) / side.items.spans
    return np.where(side.items.ordered, steps, np.nan)


def _difference(drawn: _Drawn, measure: str, first: str, second: str, options: EvaluateOptions) -> Difference:
    values = drawn.far[first][measure] - drawn.far[second][measure]
    low, high = resampling.interval(values[0], values[1:], level=options.level)
    return Difference(
        measure=measure,
        first=first,
        second=second,
        value=or_none(values[0]),
        low=or_none(low),
        high=or_none(high),
        probability=or_none(resampling.probability_below(values[1:], estimate=values[0])),
        p=or_none(resampling.two_sided_p(values[1:], estimate=values[0])),
    )


def _items(
    drawn: _Drawn, keys: Sequence[str], first: str, second: str, options: EvaluateOptions, adjustment: str
) -> Iterator[ItemDifference]:
    values = drawn.steps[first] - drawn.steps[second]
    kept = [at for at in range(len(keys)) if not np.isnan(values[0, at])]
    p = np.array([_normal_p(values[0, at], values[1:, at]) for at in kept])
    adjusted = resampling.adjust(p, adjustment) if len(p) else p
    for at, alone, together in zip(kept, p, adjusted, strict=True):
        low, high = resampling.interval(values[0, at], values[1:, at], level=options.level)
        yield ItemDifference(
            question=keys[at],
            first=first,
            second=second,
            value=float(values[0, at]),
            low=or_none(low),
            high=or_none(high),
            p=or_none(alone),
            adjusted=or_none(together),
        )


def _normal_p(value: float, draws: NDArray[np.float64]) -> float:
    """Two-sided p by the normal approximation: shares of draws are too coarse to survive the number of questions."""
    kept = draws[~np.isnan(draws)]
    spread = float(kept.std(ddof=1)) if len(kept) > 1 else 0.0
    if not spread > 0:
        return 1.0 if value == 0 else float("nan")
    return 2 * NormalDist().cdf(-abs(value) / spread)


def _check_same(runs: Mapping[str, Answers]) -> None:
    (name, first), *others = runs.items()
    asked = [(question.key, question.options) for question in first.survey.questions]
    for other, answers in others:
        if [(question.key, question.options) for question in answers.survey.questions] != asked:
            raise DataError(
                f"{other} was not asked the same questions as {name}: {', '.join(answers.survey.keys)} against "
                f"{', '.join(first.survey.keys)}; select those that both have"
            )


def _verdict(one: Difference) -> str:
    if one.value is None or one.low is None or one.high is None:
        return "undefined"
    who = (
        "no clear difference" if one.low <= 0 <= one.high else f"{one.first if one.value < 0 else one.second} is closer"
    )
    return f"{who}; difference {_between(one)}, {_share(one.probability)} of the draws have the first closer"


def _between(one: Difference) -> str:
    if one.value is None:
        return "–"
    between = "" if one.low is None or one.high is None else f" [{one.low:.3f}, {one.high:.3f}]"
    return f"{one.value:.3f}{between}"


def _share(value: float | None, digits: int = 0) -> str:
    return "–" if value is None else f"{value:.{digits}%}" if not digits else f"{value:.{digits}f}"
