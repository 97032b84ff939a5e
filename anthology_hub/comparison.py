"""Several runs against the same humans: which is closer, how sure that is, and in which questions they differ.

All runs are held against the same bootstrap draws of the humans. Where the casts stand for the same respondents, these
are drawn in common (a paired bootstrap), so that what the people have in common drops out of the difference; and where
a persona stands for several of them, the personas are drawn as well, the same ones for all runs.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
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
from anthology_hub.standins import PERSON, StandIns, unpaired

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
    """Difference of the distances; of a property, of the absolute distances to the humans' own; of an agreement, the
    second's minus the first's."""
    low: float | None
    high: float | None
    probability: float | None
    """Share of the bootstrap draws in which the first is closer, 0 to 1."""
    p: float | None
    """Two-sided p-value of no difference, normal as the interval, which leaves 0 out where it is below 1 - level. Near
    the human floor it is too large for distances between shares: resampling adds more noise to them than people do."""
    adjusted: float | None
    """p adjusted for the number of pairs of runs; that of two runs alone is p itself."""


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
    """p adjusted for the number of questions times that of pairs of runs."""


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
                yield f"{one.first} against {one.second}: {self._verdict(one)}"
        told = sorted({item.question for item in self.items if self._found(item)})
        bound = f"p < {1 - self.level:.4g}, {self._by}"
        yield f"questions in which two runs differ ({bound}): {', '.join(told) or 'none'}"
        yield from self.notes

    @property
    def _by(self) -> str:
        """How p-values are adjusted, and for how many pairs where that is more than one."""
        by = {"holm": "Holm", "bh": "Benjamini-Hochberg"}[self.adjustment]
        pairs = math.comb(len(self.names), 2)
        return by if pairs == 1 else f"{by} over {pairs} pairs of runs"

    def _found(self, one: Difference | ItemDifference) -> bool:
        return one.adjusted is not None and one.adjusted < 1 - self.level

    def _verdict(self, one: Difference) -> str:
        if one.value is None or one.low is None or one.adjusted is None:
            return "undefined"
        who = f"{one.first if one.value < 0 else one.second} is closer" if self._found(one) else "no clear difference"
        several = f", p {one.adjusted:.3f} ({self._by})" if len(self.names) > 2 else ""
        closer = f"{_share(one.probability)} of the draws have the first closer"
        return f"{who}; difference {_between(one)}{several}, {closer}"

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def _repr_html_(self) -> str:
        head = "".join(
            f"<th>{cell}</th>" for cell in ("figure", "first", "second", "difference", "closer", "p", "adjusted")
        )
        body = "".join(
            f"<tr><td>{escape(one.measure)}</td><td>{escape(one.first)}</td><td>{escape(one.second)}</td>"
            f"<td>{_between(one)}</td><td>{_share(one.probability)}</td><td>{_share(one.p, 3)}</td>"
            f"<td>{_share(one.adjusted, 3)}</td></tr>"
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
    """Compare runs pair by pair, in every figure but the polychoric one, of which there are no draws.

    Figures person by person and by demographics are compared where the roles' respondents are among the humans.

    Args:
        runs: Name -> answers, two or more, to the same questions.
        humans: Whom all are compared with.
        options: As for `evaluate`.
        adjustment: For the number of pairs of runs, and of questions: `holm` (the chance of even one false finding
            among them is below 1 - level) or `bh` (Benjamini-Hochberg: few among those that are found).

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
    rows = _rows(chosen, sides, options, paired=paired)
    blind = dict.fromkeys(why for side in sides.values() for why in untold(side, theirs, options.resample))
    them = _them(theirs, options)
    drawn = _Drawn.of(sides, theirs, (rows, them), options)
    standing = {name: StandIns.of(answers, humans, sides[name], theirs) for name, answers in chosen.items()}
    # A pair is a persona and a person at once: whosever chance is told, pairs are drawn.
    both = _rows(chosen, sides, replace(options, resample="both"), paired=paired)
    drawn = drawn.beside({name: _of_people(pairs, both[name], rows[name], them) for name, pairs in standing.items()})
    drawn = drawn.alone if blind else drawn
    pairs = list(itertools.combinations(runs, 2))
    return Comparison(
        names=tuple(runs),
        paired=paired,
        differences=tuple(_differences(drawn, pairs, options, adjustment)),
        items=tuple(_items(drawn, survey.keys, pairs, options, adjustment)),
        adjustment=adjustment,
        level=options.level,
        notes=(*_told(chosen, humans, paired=paired), *blind),
    )


def _told(runs: Mapping[str, Answers], humans: Respondents, *, paired: bool) -> Iterator[str]:
    yield from dict.fromkeys(note for answers in runs.values() for note in unpaired(answers, humans))
    if not paired:
        yield "The casts stand for different respondents: their roles are drawn apart."
    sizes = {name: _personas(answers) for name, answers in runs.items()}
    if len(set(sizes.values())) > 1:
        told = ", ".join(f"{name} {size}" for name, size in sizes.items())
        yield (
            f"The casts differ in how many roles or personas they have ({told}): the distance of a smaller one is "
            "larger by chance alone. p-values and intervals allow for that in part only: compare casts of one size."
        )


def _personas(answers: Answers) -> int:
    """How many answer by themselves: personas, or roles where these have none or one each."""
    return len(set(answers.persona_ids)) if all(answers.persona_ids) else len(answers)


@dataclass(frozen=True, kw_only=True)
class _Drawn:
    """How far each run is from the humans: the value first, then on each draw."""

    far: Mapping[str, Mapping[str, NDArray[np.float64]]]
    """Run -> figure -> shape (1 + draws,)."""
    steps: Mapping[str, NDArray[np.float64]]
    """Run -> normalised distance of each question, shape (1 + draws, q); NaN without an order."""

    @property
    def measures(self) -> list[str]:
        """Those that every run has."""
        return [name for name in MEASURES if all(name in figures for figures in self.far.values())]

    @property
    def alone(self) -> _Drawn:
        """The values without draws."""
        far = {run: {name: value[:1] for name, value in figures.items()} for run, figures in self.far.items()}
        return _Drawn(far=far, steps={run: steps[:1] for run, steps in self.steps.items()})

    def beside(self, more: Mapping[str, Mapping[str, NDArray[np.float64]]]) -> _Drawn:
        """These and more figures."""
        return replace(self, far={run: {**figures, **more[run]} for run, figures in self.far.items()})

    @classmethod
    def of(
        cls, sides: Mapping[str, Side], theirs: Side, draws: tuple[Mapping[str, Rows], Rows], options: EvaluateOptions
    ) -> _Drawn:
        rows, humans = draws
        # Held, they are one row that stands for all draws.
        held = options.resample == "personas"
        them = [theirs.whole, theirs.whole if held else theirs.figures(humans, pairs=options.bootstraps)]
        far, steps = {}, {}
        for name, side in sides.items():
            us = [side.whole, side.figures(rows[name], pairs=options.bootstraps)]
            found = [_far(one, other, side) for one, other in zip(us, them, strict=True)]
            far[name] = {measure: np.concatenate([part[measure] for part in found]) for measure in found[0]}
            steps[name] = np.concatenate([_steps(one, other, side) for one, other in zip(us, them, strict=True)])
        return cls(far=far, steps=steps)


def _rows(
    runs: Mapping[str, Answers], sides: Mapping[str, Side], options: EvaluateOptions, *, paired: bool
) -> dict[str, Rows]:
    """Draw the roles of each run, the same respondents for all where they are paired; or hold them."""
    count = options.bootstraps
    if options.resample == "respondents":
        return {name: np.ones((count, len(side)), dtype=bool) for name, side in sides.items()}
    if paired:
        return _paired_rows(runs, sides, options)
    return {name: side.draws(count, seed=derive_seed(options.seed, "roles", name)) for name, side in sides.items()}


def _paired_rows(runs: Mapping[str, Answers], sides: Mapping[str, Side], options: EvaluateOptions) -> dict[str, Rows]:
    """Draw the same respondents for all runs, and with them the personas that stand for several of them."""
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


def _them(theirs: Side, options: EvaluateOptions) -> Rows:
    """Draw the humans, the same for all runs; or hold them."""
    if options.resample == "personas":
        return np.ones((options.bootstraps, len(theirs)), dtype=bool)
    return theirs.draws(options.bootstraps, seed=options.seed + 1)


def _far(us: Figures, them: Figures, side: Side) -> dict[str, NDArray[np.float64]]:
    return _distances(us.against(them, side.items), them.against(them, side.items))


def _of_people(pairs: StandIns | None, both: Rows, ours: Rows, theirs: Rows) -> dict[str, NDArray[np.float64]]:
    """What needs to know for whom each role stands, as distances; nothing where nobody is there."""
    if pairs is None:
        return {}
    told, own = pairs.demographics(ours, theirs)
    alone = {name: value for name, value in pairs.persons(both).items() if name in PERSON}
    return _distances({**alone, **told}, own)


def _distances(
    values: Mapping[str, NDArray[np.float64]], own: Mapping[str, NDArray[np.float64]]
) -> dict[str, NDArray[np.float64]]:
    """Every figure as a distance: of a property, to the humans' own; an agreement turned round."""
    far = {}
    for name, value in values.items():
        kind = MEASURES[name].kind
        far[name] = np.abs(value - own[name]) if kind == PROPERTY else value if kind == DISTANCE else -value
    return far


def _steps(us: Figures, them: Figures, side: Side) -> NDArray[np.float64]:
    steps = metrics.wasserstein(us.on_scale, them.on_scale) / side.items.spans
    return np.where(side.items.ordered, steps, np.nan)


def _differences(
    drawn: _Drawn, pairs: Sequence[tuple[str, str]], options: EvaluateOptions, adjustment: str
) -> Iterator[Difference]:
    """Every pair of runs in every figure; p adjusted over the pairs, figure by figure."""
    known = {
        measure: _adjusted(
            [
                _judged(drawn.far[first][measure], drawn.far[second][measure], MEASURES[measure].kind, options)
                | {"measure": measure, "first": first, "second": second}
                for first, second in pairs
            ],
            adjustment,
        )
        for measure in drawn.measures
    }
    for at in range(len(pairs)):
        for measure in drawn.measures:
            yield Difference(**known[measure][at])


def _items(
    drawn: _Drawn,
    keys: Sequence[str],
    pairs: Sequence[tuple[str, str]],
    options: EvaluateOptions,
    adjustment: str,
) -> Iterator[ItemDifference]:
    """Every pair of runs in every question with an order; p adjusted over all of them, as they are read together."""
    found = [
        _judged(one[:, at], other[:, at], DISTANCE, options) | {"question": key, "first": first, "second": second}
        for first, second in pairs
        for one, other in [(drawn.steps[first], drawn.steps[second])]
        for at, key in enumerate(keys)
        if not np.isnan(one[0, at] - other[0, at])
    ]
    for one in _adjusted(found, adjustment):
        del one["probability"]
        yield ItemDifference(**one)


def _judged(
    one: NDArray[np.float64], other: NDArray[np.float64], kind: str, options: EvaluateOptions
) -> dict[str, Any]:
    """What the values, which come first, and their draws say of the difference."""
    value, draws = float(one[0] - other[0]), one[1:] - other[1:]
    low, high = resampling.interval(value, draws, level=options.level)
    told = value
    if kind == DISTANCE:
        both, (under, over) = np.stack([one[1:], other[1:]]), (low, high)
        low, high = resampling.distances_interval(float(one[0]), float(other[0]), both, level=options.level)
        # Less what chance adds it is this much more or less; p is that of the middle which is nearer to 0.
        less = value + (low - under) + (high - over)
        told = 0.0 if less * value < 0 else min(value, less, key=abs)
    return {
        "value": or_none(value),
        "low": or_none(low),
        "high": or_none(high),
        "probability": or_none(resampling.probability_below(draws, estimate=told)),
        "p": or_none(_normal_p(told, draws)),
    }


def _adjusted(found: Sequence[dict[str, Any]], adjustment: str) -> list[dict[str, Any]]:
    p = np.array([one["p"] for one in found], dtype=np.float64)
    together = resampling.adjust(p, adjustment) if len(p) else p
    return [one | {"adjusted": or_none(value)} for one, value in zip(found, together, strict=True)]


def _normal_p(value: float, draws: NDArray[np.float64]) -> float:
    """Two-sided p by the normal approximation: shares of draws are too coarse to survive the number of questions."""
    kept = draws[~np.isnan(draws)]
    if np.isnan(value) or not len(kept):
        return float("nan")
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


def _between(one: Difference) -> str:
    if one.value is None:
        return "–"
    between = "" if one.low is None or one.high is None else f" [{one.low:.3f}, {one.high:.3f}]"
    return f"{one.value:.3f}{between}"


def _share(value: float | None, digits: int = 0) -> str:
    return "–" if value is None else f"{value:.{digits}%}" if not digits else f"{value:.{digits}f}"
