"""Answers against respondents: every figure with its interval, human floor, baselines, n and coverage.

Definitions: Anthology (Moon et al., EMNLP 2024), sections 4 and 5, and its released analysis code; see `measures`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from anthology_hub import metrics, resampling
from anthology_hub.answer_table import ROUNDING
from anthology_hub.conditioning import STORIED
from anthology_hub.errors import OptionError, UnknownNameError
from anthology_hub.margins import Margins
from anthology_hub.measures import BASELINES, DISTANCE, MEASURES, attained, or_none
from anthology_hub.rows import one_thread, side_by_side
from anthology_hub.schema import (
    ANSWERED,
    MISSING,
    Answers,
    Metric,
    Question,
    Respondents,
    Result,
    Scale,
    Subgroup,
    Survey,
    digest,
)
from anthology_hub.sides import MOST_DRAWS, Figures, Items, Shares, Side, human_side, margins_side, simulated_side
from anthology_hub.standins import Standing, StandIns, stood_for, unpaired
from anthology_hub.weighting import effective_size
from anthology_hub.yardsticks import Yardsticks, demographic_cells, polychoric_floors, yardsticks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from anthology_hub.resampling import Rows

WEIGHTINGS = ("weighted", "paper")
RESAMPLES = ("both", "respondents", "personas")
HEADLINE = "wd_normalised"
STEPPED = ("wd", "wd_normalised", "variance_ratio")
CORRELATED = ("fro", "fro_spearman", "fro_polychoric", "cbs")
CONSISTENT = ("alpha", "omega")
PART_DRAWS = 100
"""Rows for which figures of pairs of questions are computed in subgroups, of which there are many."""


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """How to compare."""

    weighting: str = "weighted"
    """`weighted`: human weights on both sides, pairwise deletion on both, reverse-keyed alpha. `paper`: weights on the
    human distributions and correlations only, humans listwise, no reverse keys."""
    splits: int = 100
    """Random half-splits for the floors, and samples for the floor at equal n."""
    bootstraps: int = 1000
    """Draws of people and personas for the intervals; for figures of pairs of questions and of regressions the first
    `sides.MOST_DRAWS` of them, in subgroups PART_DRAWS."""
    resample: str = "both"
    """Whose chance the intervals tell: that of the humans' sample (`respondents`), of the cast (`personas`: a persona
    with several roles is drawn with all of them), or of `both`. Person by person, pairs of both are drawn always."""
    by: tuple[str, ...] = ()
    """Traits of the humans by whose levels the figures are computed again, as subgroups."""
    least: int = 30
    """Roles and humans that a subgroup must have, each."""
    polychoric: bool = False
    """Whether to compare polychoric correlations, too; takes seconds for many questions."""
    level: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            OptionError: If a value is not allowed.
        """
        if self.weighting not in WEIGHTINGS:
            raise OptionError(f"unknown weighting {self.weighting!r}: allowed are {', '.join(WEIGHTINGS)}")
        if self.resample not in RESAMPLES:
            raise OptionError(f"unknown resample {self.resample!r}: allowed are {', '.join(RESAMPLES)}")
        if self.splits < 1 or self.bootstraps < 2 or not 0 < self.level < 1 or self.least < 2:
            raise OptionError(
                "splits must be at least 1, bootstraps and least at least 2, level between 0 and 1, got "
                f"{self.splits}, {self.bootstraps}, {self.least}, {self.level}"
            )


@one_thread
def evaluate(
    answers: Answers,
    humans: Respondents | Margins,
    *,
    options: EvaluateOptions | None = None,
    previous: Respondents | None = None,
) -> Result:
    """Measure how close simulated answers come to the humans'.

    The humans are the reference population: all respondents of a survey, or those that were stood in for. Where their
    file tells strata and sampling units, the intervals allow for that design. Of one group of `Margins` only the
    shares of answers are known: what needs people is not defined. Choice questions are compared; the others are named
    in a note.

    Args:
        answers: From `simulate`.
        humans: Respondents with answers to the same questions, or one group of margins.
        options: How to compare.
        previous: Respondents of an earlier wave of the same survey: what one would predict without a model.

    Returns:
        The figures of `measures.MEASURES`, each with interval, floors, baselines and the part of the way from the
        uniform baseline to the humans. Those that go person by person or by demographics are there where the roles'
        respondents are among the humans. A figure that is not defined is None, and its note says why.

    Raises:
        DataError: If the sides are coded by other options, or a weight is negative or no number.
        EmptyError: If a question has no answer on one of the sides, or none is a choice.
        OptionError: If margins of several groups are given.
        UnknownNameError: If the humans were not asked a question, now or in the earlier wave, or lack a trait.

    Example:
        >>> from anthology_hub import Respondents, SimulateOptions, open_model, simulate, unmatched
        >>> humans = Respondents.load("gss-2018")
        >>> survey = Survey.load("gss-national-spending").select(["natenvir", "natsci", "natroad"])
        >>> options = SimulateOptions(conditioning="bio")
        >>> answers = simulate(unmatched(humans.sample(60)), survey, open_model("scripted:uniform"), options=options)
        >>> result = evaluate(answers, humans)
        >>> result.metric("wd").value > result.metric("wd").floor
        True
    """
    whole, answers = answers, answers.choices
    options = options or EvaluateOptions()
    ours, theirs, notes = _sides(answers, humans, options)
    notes += _administered(whole, answers)
    contest = _contest(answers, humans, ours, theirs, options, previous)
    us, them = ours.whole, theirs.whole
    groups = [partial(_subgroup, *group, contest) for group in _groups(answers, humans, previous, options)]
    parts = side_by_side([*contest.ahead, *groups])[len(contest.ahead) :]
    found = contest.metrics(_undefined(us, them, ours, theirs, answers.survey))
    notes += [*contest.notes, *untold(ours, theirs, options.resample)]
    items = ours.items
    if not items.ordered.all():
        left_out = ", ".join(q.key for q in answers.survey.questions if not q.ordinal)
        notes.append(f"The options of {left_out} have no order: these questions count only in figures that need none.")
    if off := [question.key for question in answers.survey.questions if question.off_scale]:
        notes.append(
            f"Options of {', '.join(off)} lie off the scale: in figures that need an order such answers are left out "
            "on both sides; the others count them."
        )
    if isinstance(humans, Respondents):
        notes += unpaired(answers, humans)
    notes += _coded(contest, answers.survey)
    subgroups = tuple(_with_gaps(parts, options))
    items_found, scales = _items(answers, contest), tuple(contest.scales(answers.survey))
    result = _result(answers, humans, options, found, items_found, tuple(notes), subgroups, previous)
    return replace(result, scales=scales)


def human_figures(humans: Respondents, survey: Survey) -> Figures:
    """Return the humans' own shares, correlations and alpha; one row, as `evaluate` sees them with default options.

    Example:
        >>> from anthology_hub import Respondents
        >>> survey = Survey.load("bfi")
        >>> human_figures(Respondents.load("bfi"), survey).correlation.shape
        (1, 25, 25)
    """
    return human_side(humans, survey).whole


def simulated_figures(answers: Answers) -> Figures:
    """Return the cast's shares, correlations and alpha; one row, with the cast's weights."""
    return simulated_side(answers).whole


@dataclass(frozen=True, kw_only=True)
class _Contest:
    """The cast, or a part of it, against the humans, or the same part of them."""

    ours: Side
    theirs: Side | Shares
    options: EvaluateOptions
    us: Rows
    """Bootstrap draws of the roles, shape (bootstraps, roles)."""
    them: Rows
    """Of the humans; shape (bootstraps, 0) of shares."""
    traits: tuple[NDArray[np.int16], ...] = ()
    """Levels of each human in the traits by which a cheap guess goes."""
    previous: Side | None = None
    pairs: StandIns | None = None
    looked_at: int = MOST_DRAWS
    """Draws on which pairs of questions are looked at."""
    notes: list[str] = field(default_factory=list)

    @property
    def ahead(self) -> list[partial[Any]]:
        """What takes long, each by itself; it is kept."""
        return [partial(getattr, self, name) for name in ("sides", "held", "others")]

    @cached_property
    def cells(self) -> NDArray[np.int64] | None:
        """Demographic cell of each human."""
        return demographic_cells(self.traits, len(self.theirs)) if self.traits else None

    @cached_property
    def sides(self) -> tuple[Figures, Figures]:
        """What both sides say on each bootstrap draw."""
        ours, theirs = self.ours.figures(self.us, pairs=self.looked_at), self.theirs.whole
        if isinstance(self.theirs, Side):
            theirs = self.theirs.figures(self.them, pairs=self.looked_at)
        return ours, theirs

    @cached_property
    def drawn(self) -> dict[str, NDArray[np.float64]]:
        """Every figure that needs no pairs on each bootstrap draw."""
        ours, theirs = self.sides
        return ours.against(theirs, self.ours.items)

    @cached_property
    def held(self) -> Yardsticks:
        """Floors and baselines."""
        return yardsticks(
            self.theirs,
            self.ours.items,
            len(self.ours),
            splits=self.options.splits,
            seed=self.options.seed,
            cells=self.cells,
            previous=self.previous,
        )

    @cached_property
    def blind(self) -> bool:
        """Whether there is no chance to tell."""
        return any(untold(self.ours, self.theirs, self.options.resample))

    def among(self, rows: _Rows) -> _Contest:
        """Return the contest of some roles and people, on the same draws: so they are a part of the same samples."""
        assert isinstance(self.theirs, Side)
        enough = len(rows.earlier) >= self.options.least
        return _Contest(
            ours=self.ours.take(rows.roles),
            theirs=self.theirs.take(rows.people),
            options=self.options,
            us=self.us[:, rows.roles],
            them=self.them[:, rows.people],
            traits=tuple(codes[rows.people] for codes in self.traits),
            previous=self.previous.take(rows.earlier) if self.previous and enough else None,
            looked_at=PART_DRAWS,
            notes=[] if enough or self.previous is None else [_few_earlier(len(rows.earlier), self.options.least)],
        )

    def metrics(self, whys: Mapping[str, str]) -> tuple[Metric, ...]:
        """Return every figure with its company; `whys` says for each undefined one why it is."""
        options, items = self.options, self.ours.items
        values = _singles(self.ours.whole.against(self.theirs.whole, items))
        own = _singles(self.theirs.whole.against(self.theirs.whole, items))
        held, others = self.held, self.others
        self.notes.extend(held.notes)
        if self.pairs is not None:
            self.notes.extend(self.pairs.notes)
        found = []
        for name, measure in MEASURES.items():
            if name not in others and name not in values:
                continue
            # Judged by closeness to the humans' own: where nobody can know that, ours says nothing.
            unknown = name in CONSISTENT and isinstance(self.theirs, Shares)
            one = others.get(name) or Standing(
                value=np.nan if unknown else values[name],
                draws=self.drawn[name],
                human=own[name] if measure.kind != DISTANCE else np.nan,
                floors=(held.floor[name], held.floor_equal_n[name]),
                baselines={guess: figures.get(name, np.nan) for guess, figures in held.baselines.items()},
            )
            found.append(_metric(name, replace(one, draws=one.draws[:0]) if self.blind else one, options, whys))
        return tuple(found)

    def scales(self, survey: Survey) -> Iterator[Scale]:
        """Return the consistency of each scale that the survey names; nothing where only shares are known."""
        if not isinstance(self.theirs, Side):
            return
        us, them, drawn = self.ours.whole, self.theirs.whole, self.sides[0]
        why = "Undefined: the scale has too few items, or too few answers to two of them, or answers that do not vary."
        for at, (name, items) in enumerate(zip(self.ours.items.names, self.ours.items.scales, strict=False)):
            found = {
                "alpha": (us.alphas, them.alphas, drawn.alphas),
                "omega": (us.omegas, them.omegas, drawn.omegas),
            }
            standing = {
                measure: Standing(
                    value=float(ours[0, at]),
                    human=float(theirs[0, at]),
                    draws=draws[:0, at] if self.blind else draws[:, at],
                    why=why if np.isnan(ours[0, at] + theirs[0, at]) else "",
                )
                for measure, (ours, theirs, draws) in found.items()
            }
            yield Scale(
                name=name,
                questions=tuple(survey.keys[item] for item in items),
                metrics=tuple(_metric(measure, one, self.options, {}) for measure, one in standing.items()),
            )

    @cached_property
    def others(self) -> dict[str, Standing]:
        """Figures that need pairs, and the slowest one."""
        return self._standing() | self._polychoric()

    def _standing(self) -> dict[str, Standing]:
        if self.pairs is None:
            return {}
        options = self.options
        # Each pair is a persona and a person at once: whosever chance is told, pairs are drawn.
        both = options.resample == "both"
        drawn = self.us if both else self.pairs.draws(options.bootstraps, seed=options.seed)[0]
        return self.pairs.person_by_person(drawn, self.cells) | self.pairs.by_demographics(
            self.us, self.them, splits=options.splits, seed=options.seed, cells=self.cells
        )

    def _polychoric(self) -> dict[str, Standing]:
        if not self.options.polychoric:
            return {}
        if not isinstance(self.theirs, Side):
            return {"fro_polychoric": Standing(value=np.nan, draws=np.zeros(0))}
        ours, theirs = (side.polychoric(side.everybody) for side in (self.ours, self.theirs))
        value = float(metrics.frobenius(ours, theirs)[0])
        start = float(metrics.frobenius(np.eye(ours.shape[-1])[None], theirs)[0])
        floors = polychoric_floors(self.theirs, len(self.ours), splits=self.options.splits, seed=self.options.seed)
        found = Standing(
            value=value, draws=np.zeros(0), floors=floors, baselines=dict.fromkeys(("uniform", "margins"), start)
        )
        return {"fro_polychoric": found}


def _drawn_from(
    ours: Side, theirs: Side | Shares, options: EvaluateOptions, pairs: StandIns | None = None
) -> tuple[Rows, Rows]:
    """Resample both sides, each as its sample was drawn and roles with their people; or hold one of them."""
    count, seed, held = options.bootstraps, options.seed, options.resample
    if pairs is not None and held == "both":
        return pairs.draws(count, seed=seed)
    return (
        _held(ours, count) if held == "respondents" else ours.draws(count, seed=seed),
        theirs.draws(count, seed=seed + 1) if isinstance(theirs, Side) and held != "personas" else _held(theirs, count),
    )


def untold(ours: Side, theirs: Side | Shares, resample: str) -> Iterator[str]:
    """Return why there are no intervals: nothing varies between draws, and that would look like certainty."""
    if resample != "respondents" and not (ours.units > 1).any():
        yield "The cast has a single role or persona, whose chance cannot be told: there are no intervals."
    if resample == "personas":
        return
    if isinstance(theirs, Side) and not (theirs.units > 1).any():
        yield "No stratum has two humans or sampling units, so their chance cannot be told: there are no intervals."
    if isinstance(theirs, Shares) and resample == "respondents":
        yield "The chance of respondents cannot be told where only shares are known: there are no intervals."


def _held(side: Side | Shares, count: int) -> Rows:
    return np.ones((count, len(side)), dtype=bool)


def _singles(values: Mapping[str, NDArray[np.float64]]) -> dict[str, float]:
    return {name: float(value[0]) for name, value in values.items()}


def _contest(
    answers: Answers,
    humans: Respondents | Margins,
    ours: Side,
    theirs: Side | Shares,
    options: EvaluateOptions,
    previous: Respondents | None,
) -> _Contest:
    if isinstance(humans, Margins) or isinstance(theirs, Shares):
        us, them = _drawn_from(ours, theirs, options)
        return _Contest(ours=ours, theirs=theirs, options=options, us=us, them=them)
    earlier = None if previous is None else human_side(previous, answers.survey, weighting=options.weighting)
    pairs = StandIns.of(answers, humans, ours, theirs)
    if pairs is not None and previous is not None and earlier is not None:
        pairs = pairs.after(previous, earlier, humans)
    us, them = _drawn_from(ours, theirs, options, pairs)
    named = answers.provenance["inputs"].get("cast", {}).get("traits", ())
    traits = [name for name in named if name in humans.codes] or list(humans.codes)
    return _Contest(
        ours=ours,
        theirs=theirs,
        options=options,
        us=us,
        them=them,
        traits=tuple(humans.codes[name] for name in traits),
        previous=earlier,
        pairs=pairs,
    )


def _sides(
    answers: Answers, humans: Respondents | Margins, options: EvaluateOptions
) -> tuple[Side, Side | Shares, list[str]]:
    survey = answers.survey
    ours = simulated_side(answers, weighting=options.weighting)
    if isinstance(humans, Margins):
        shares = margins_side(humans, survey)
        uneven = [key for key in survey.keys if key in humans.values]
        steps = f"The source spaces the options of {', '.join(uneven)} unevenly; here each step counts one."
        alone = "Only shares of answers are known: the intervals tell the simulation's own chance alone."
        told = [] if options.resample == "respondents" else [alone]
        return ours, shares, [*([steps] if uneven else []), *told]
    side = human_side(humans, survey, weighting=options.weighting)
    return ours, side, list(_told(humans, side))


def _administered(whole: Answers, compared: Answers) -> Iterator[str]:
    """Say what is not compared, and how the questions were asked as far as it bears on the answers."""
    if others := [f"{q.key} ({q.kind})" for q in whole.survey.questions if q.key not in compared.survey.keys]:
        yield f"No choice questions, and so not compared: {', '.join(others)}."
    if compared.tries is not None and (compared.tries > 1).any():
        yield f"Of the questions asked, {compared.first_try:.1%} were answered at the first try."
    if compared.order_gap is not None and not np.isnan(compared.order_gap).all():
        gap = float(np.nanmean(compared.order_gap))
        yield (
            "Every question was asked in two orders of its options and the probabilities averaged; between the orders "
            f"{gap:.3f} of the probability moves on average (total variation distance)."
        )


def _told(humans: Respondents, side: Side) -> Iterator[str]:
    if humans.weights is None:
        yield f"{humans.name} has no weights: every person counts the same."
    else:
        yield f"The weights of {humans.name} leave {_effective(humans):.0f} effective people (Kish) of {len(humans)}."
    if humans.psu is not None or humans.strata is not None:
        units = side.units
        yield f"The intervals allow for the sample design: {units.sum()} sampling units in {len(units)} strata."
        if alone := int((units == 1).sum()):
            yield (
                f"{alone} strata have a single sampling unit, whose chance cannot be told: the intervals leave it out "
                "and are too narrow."
            )


def _undefined(us: Figures, them: Figures, ours: Side, theirs: Side | Shares, survey: Survey) -> dict[str, str]:
    """Say for each undefined figure why it is."""
    items = ours.items
    found = {
        "variance_ratio": _alike(them.on_scale, "human", survey, items.ordered),
        "entropy_ratio": _alike(them.shares, "human", survey, np.ones_like(items.ordered)),
    }
    found = {name: f"Undefined: {why}." if why else "" for name, why in found.items()}
    found |= _nowhere({"simulated": us, "human": them}, survey)
    if not items.ordered.any():
        found |= dict.fromkeys(STEPPED, "No question has options with an order.")
    if items.ordered.sum() < 2:
        few = "Undefined: fewer than two questions have options with an order."
        return found | dict.fromkeys(CORRELATED + CONSISTENT, few)
    if isinstance(theirs, Shares):
        why = "Undefined: of the humans only shares of answers are known, and this needs each person's answers."
        return found | dict.fromkeys(CORRELATED + CONSISTENT, why)
    return found | _unrelated({"simulated": us, "human": them}, survey, items)


def _nowhere(sides: Mapping[str, Figures], survey: Survey) -> dict[str, str]:
    """Say why distances in steps are undefined, where nobody of a side is on the scale of a question."""
    lost = {who: _named(np.isnan(figures.on_scale[0]).any(axis=1), survey) for who, figures in sides.items()}
    told = [f"all {who} answers to {', '.join(keys)} are off the scale" for who, keys in lost.items() if keys]
    return dict.fromkeys(STEPPED, f"Undefined: {', and '.join(told)}.") if told else {}


def _unrelated(sides: Mapping[str, Figures], survey: Survey, items: Items) -> dict[str, str]:
    """Say why correlations and consistency are undefined, where people's answers to two questions are known."""
    shortest = min(map(len, items.scales))
    whys: dict[str, list[str]] = {name: [] for name in ("fro", *CONSISTENT)}
    for who, figures in sides.items():
        because = _alike(figures.on_scale, who, survey, items.ordered)
        pair = f"too few people have {who} answers to both items of a pair"
        if np.isnan(items.among(figures.correlation)).any():
            whys["fro"].append(f"Correlations are undefined: {because or f'{pair}, or all of them chose one option'}.")
        for name, least, several in (("alpha", 2, "a single item"), ("omega", 3, "fewer than three items")):
            if np.isnan(getattr(figures, name)).any():
                single = f"a scale has {several}" if shortest < least else ""
                why = single or because or f"{pair}, or the sum of a scale does not vary"
                whys[name].append(f"The {who} {name} is undefined: {why}.")
    said = {name: " ".join(sentences) for name, sentences in whys.items()}
    return said | dict.fromkeys(CORRELATED, said["fro"])


def _alike(shares: NDArray[np.float64], who: str, survey: Survey, kept: NDArray[np.bool_]) -> str:
    """Say in which questions everybody gave one answer; nothing if there is none."""
    constant = kept & (shares[0].max(axis=1) > 1 - ROUNDING)
    named = [key for key, alone in zip(survey.keys, constant, strict=True) if alone]
    return f"only one option occurs among the {who} answers to {', '.join(named)}" if named else ""


def _coded(contest: _Contest, survey: Survey) -> Iterator[str]:
    """Say which questions seem to be coded in opposite directions on the two sides, and what speaks for it."""
    ours, theirs, pairs = contest.ours, contest.theirs, contest.pairs
    us, them, n = ours.whole, theirs.whole, effective_size(ours.weights)
    nobody = np.zeros(len(survey.keys), dtype=bool)
    against = nobody if pairs is None else pairs.against_themselves
    nearer = _nearer_turned(us, them, ours, theirs)
    apart = _turned(us, them, n, survey) if isinstance(theirs, Side) else []
    signs = {
        "fit the humans' shares far better when the scale is turned round": _named(nearer, survey),
        "go with the other questions the opposite way": apart,
        "go the opposite way of the answers of the persons stood in for": _named(against, survey),
    }
    for sign, turned in signs.items():
        if turned:
            yield (
                f"The simulated answers to {', '.join(turned)} {sign}: look whether the options are coded in the same "
                "direction on both sides."
            )


def _named(found: NDArray[np.bool_], survey: Survey) -> list[str]:
    return [key for key, odd in zip(survey.keys, found, strict=True) if odd]


def _turned(us: Figures, them: Figures, n: float, survey: Survey) -> list[str]:
    """Return the questions that go with the others in the opposite direction, beyond what chance does.

    Of unrelated answers of n people, the correlations of a question with the others, weighted by the humans', sum to 0
    with a variance of the squares' sum over n; four standard deviations below are no chance.
    """
    ordered = [question.ordinal for question in survey.questions]
    one, other = (np.nan_to_num(side.correlation[0]) for side in (us, them))
    apart = ~np.eye(len(one), dtype=bool) & np.outer(ordered, ordered)
    together, size = (one * other * apart).sum(axis=1), (other**2 * apart).sum(axis=1)
    opposite = together < -4 * np.sqrt(size / max(n, 1))
    # One that is turned turns all that it goes with: the others are named only if most of their pairs are.
    most = (one * other * apart < 0).sum(axis=1) > apart.sum(axis=1) / 2
    return _named(opposite & most & (size > 0), survey)


def _nearer_turned(us: Figures, them: Figures, ours: Side, theirs: Side | Shares) -> NDArray[np.bool_]:
    """Return in which questions turning the scale round takes away most of a distance that is no chance.

    The distance must fall to a quarter, by more than four standard errors of what turning does, which moves the mean by
    twice its distance from the middle. Of two options the turned one is near whenever the majority is wrong: these are
    left out, and so are nominal ones.
    """
    items = ours.items
    turned = np.zeros_like(us.on_scale)
    for at, k in enumerate(items.spans + 1):
        turned[0, at, :k] = us.on_scale[0, at, :k][::-1]
    now, then = (metrics.wasserstein(shares, them.on_scale)[0] for shares in (us.on_scale, turned))
    sizes = [effective_size(side.weights) if isinstance(side, Side) else np.inf for side in (ours, theirs)]
    error = np.sqrt(us.variance[0] / sizes[0] + them.variance[0] / sizes[1])
    return np.asarray(items.ordered & (items.spans > 1) & (then < now / 4) & (now - then > 4 * 2 * error))


def _metric(name: str, found: Standing, options: EvaluateOptions, whys: Mapping[str, str]) -> Metric:
    measure, draws, floors = MEASURES[name], found.draws, found.floors
    if measure.kind == DISTANCE:
        low, high = resampling.distance_interval(found.value, draws, level=options.level)
    else:
        around = resampling.shifted_interval if measure.shifts else resampling.interval
        low, high = around(found.value, draws, level=options.level, least=measure.least)
    lost = int(np.isnan(draws).sum())
    counted = f"{lost} of {len(draws)} bootstrap draws left it undefined." if 0 < lost < len(draws) else ""
    guesses = {guess: or_none(found.baselines.get(guess, np.nan)) for guess in BASELINES}
    metric = Metric(
        name=name,
        value=or_none(found.value),
        unit=measure.unit,
        low=or_none(low),
        high=or_none(min(high, measure.most)),
        human=or_none(found.human),
        floor=or_none(floors[0]),
        floor_equal_n=or_none(floors[1]),
        note=found.why or whys.get(name, "") or counted,
        **guesses,
    )
    return replace(metric, attained=attained(metric))


# -- subgroups -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """Who is in a subgroup."""

    roles: NDArray[np.int64]
    people: NDArray[np.int64]
    earlier: NDArray[np.int64]
    """Of the people of an earlier wave; nobody, if there is none."""


def _groups(
    answers: Answers, humans: Respondents | Margins, previous: Respondents | None, options: EvaluateOptions
) -> Iterator[tuple[Subgroup, _Rows, Survey]]:
    """Yield the levels of each trait: the roles that stand for the humans of that level, and these humans."""
    if not options.by:
        return
    if isinstance(humans, Margins):
        raise OptionError(
            f"{humans.name} has no people to tell apart: leave out by={options.by!r}, or give respondents"
        )
    people = stood_for(answers, humans)
    for trait in dict.fromkeys(options.by):
        if trait not in humans.codes:
            raise UnknownNameError(f"trait of {humans.name}", trait, humans.codes)
        codes = humans.codes[trait]
        of_roles = np.where(people == MISSING, MISSING, codes[people])
        for at, level in enumerate(humans.levels[trait]):
            roles, theirs = np.flatnonzero(of_roles == at), np.flatnonzero(codes == at)
            rows = _Rows(roles=roles, people=theirs, earlier=_of_level(previous, trait, level))
            yield Subgroup(trait=trait, level=level, n=len(roles), n_human=len(theirs)), rows, answers.survey


def _few_earlier(n: int, least: int) -> str:
    return f"No guess from the earlier wave: {n} people of it are of this group, and at least {least} are needed."


def _of_level(humans: Respondents | None, trait: str, level: str) -> NDArray[np.int64]:
    if humans is None or level not in humans.levels.get(trait, ()):
        return np.zeros(0, dtype=np.int64)
    return np.flatnonzero(humans.codes[trait] == humans.levels[trait].index(level))


def _subgroup(found: Subgroup, rows: _Rows, survey: Survey, contest: _Contest) -> tuple[Subgroup, NDArray[np.float64]]:
    """Return a subgroup and its draws of the headline figure; none of one that is too small."""
    least = contest.options.least
    if min(found.n, found.n_human) < least:
        why = f"{found.n} roles and {found.n_human} humans: at least {least} of each are needed."
        return replace(found, note=why), np.zeros(0)
    part = contest.among(rows)
    heard = [side.whole.shares[0] for side in (part.ours, part.theirs)]
    answered = ~np.isnan(np.sum(heard, axis=(0, 2)))
    if silent := [key for key, some in zip(survey.keys, answered, strict=True) if not some]:
        return replace(found, note=f"Nobody answered {', '.join(silent)}."), np.zeros(0)
    whys = _undefined(part.ours.whole, part.theirs.whole, part.ours, part.theirs, survey)
    metrics = part.metrics(whys)
    blind = list(untold(part.ours, part.theirs, part.options.resample))
    draws = np.zeros(0) if blind else part.drawn[HEADLINE]
    return replace(found, metrics=metrics, note=" ".join([*part.notes, *blind])), draws


def _with_gaps(parts: Sequence[tuple[Subgroup, NDArray[np.float64]]], options: EvaluateOptions) -> Iterator[Subgroup]:
    for _, found in groupby(parts, key=lambda part: part[0].trait):
        yield from _with_gap(list(found), options)


def _with_gap(found: Sequence[tuple[Subgroup, NDArray[np.float64]]], options: EvaluateOptions) -> Iterator[Subgroup]:
    """Add to the worst subgroup of a trait how much further away it is than the best one (parity gap).

    The interval is one of those of all pairs of subgroups that hold together: so it may be picked for being wide.
    """
    told = [one for one in found if one[0].metrics and one[0].metrics[0].value is not None]
    if len(told) < 2:
        yield from (one for one, _ in found)
        return
    level = 1 - (1 - options.level) / math.comb(len(told), 2)
    # Of small groups often nothing is left but chance: then as measured.
    ordered = sorted(((_distance(one, draws, level), one) for one, draws in told), key=_how_far)
    (low, best), (high, worst) = ordered[0], ordered[-1]
    ends = map(or_none, resampling.difference_interval(high, low))
    gap = replace(worst, gap=high.value - low.value, gap_low=next(ends), gap_high=next(ends), nearest=best.level)
    yield from (gap if one is worst else one for one, _ in found)


def _how_far(found: tuple[resampling.Estimate, Subgroup]) -> tuple[float, float]:
    return found[0].value, found[1].metrics[0].value or 0.0


def _distance(found: Subgroup, draws: NDArray[np.float64], level: float) -> resampling.Estimate:
    """Return the headline of a subgroup less what chance adds, more of it in small ones; as it is without draws."""
    value = found.metrics[0].value
    assert value is not None
    low, high = resampling.distance_interval(value, draws, level=level)
    true = resampling.without_chance(value, draws)
    return resampling.Estimate(value=value if math.isnan(true) else true, low=low, high=high)


def _items(answers: Answers, contest: _Contest) -> tuple[dict[str, Any], ...]:
    us, them = contest.ours.whole, contest.theirs.whole
    steps = metrics.wasserstein(us.on_scale, them.on_scale)[0]
    distance = metrics.jensen_shannon(us.shares, them.shares)[0]
    ours, theirs = contest.sides
    drawn = metrics.wasserstein(ours.on_scale, theirs.on_scale)[: 0 if contest.blind else None]
    items = []
    for at, question in enumerate(answers.survey.questions):
        k, span = len(question.options), int(contest.ours.items.spans[at])
        low, high = resampling.distance_interval(steps[at], drawn[:, at], level=contest.options.level, most=span)
        found = {"wd": steps[at], "wd_normalised": steps[at] / span, "wd_low": low, "wd_high": high} | {
            name: floors[at] for name, floors in contest.held.questions.items()
        }
        items.append(
            {
                "question": question.key,
                "options": list(question.options),
                "human": them.shares[0, at, :k].round(6).tolist(),
                "simulated": us.shares[0, at, :k].round(6).tolist(),
                **{name: or_none(value) if question.ordinal else None for name, value in found.items()},
                "jsd": float(distance[at]),
                **(_off_scale(contest, at, question) if question.off_scale else {}),
                **_counted(contest.theirs, at, k),
                **_moved(answers, at),
                "n_simulated": int((answers.statuses[:, at] == ANSWERED).sum()),
            }
        )
    return tuple(items)


def _off_scale(contest: _Contest, at: int, question: Question) -> dict[str, Any]:
    """The options off the scale of a question, and how many of each side chose one, as shares."""
    steps = set(question.on_scale)
    sides = {"off_scale_human": contest.theirs.whole, "off_scale_simulated": contest.ours.whole}
    shares = {name: contest.ours.items.shares_off_scale(side.shares)[0, at] for name, side in sides.items()}
    texts = [text for place, text in enumerate(question.options) if place not in steps]
    return {"off_scale": texts, **{name: float(share) for name, share in shares.items()}}


def _moved(answers: Answers, at: int) -> dict[str, Any]:
    """How much probability moves between the two orders of a question's options, on average over the roles."""
    gaps = np.zeros(0) if answers.order_gap is None else answers.order_gap[:, at]
    known = gaps[~np.isnan(gaps)]
    return {"order_gap": float(known.mean())} if len(known) else {}


def _counted(theirs: Side | Shares, at: int, k: int) -> dict[str, Any]:
    """How many people stand behind the shares of a question; nothing where that is not known."""
    if isinstance(theirs, Shares):
        return {"n_human": None}
    column = theirs.table.codes[:, at]
    counts = np.bincount(column[column != MISSING], minlength=k)
    return {"human_counts": counts.tolist(), "n_human": int(counts.sum())}


def _fingerprint(humans: Respondents | Margins, survey: Survey) -> str:
    """Digest of whom the answers are compared with: ids, weights and answers to the questions asked, or the shares."""
    if isinstance(humans, Margins):
        return digest({key: humans.shares[key][0].tolist() for key in sorted(survey.keys)})
    total = hashlib.sha256("\x1f".join(humans.ids).encode())
    for key in sorted(survey.keys):
        total.update(humans.answers[key].tobytes())
    if humans.weights is not None:
        total.update(humans.weights.tobytes())
    return total.hexdigest()


def _result(
    answers: Answers,
    humans: Respondents | Margins,
    options: EvaluateOptions,
    found: tuple[Metric, ...],
    items: tuple[dict[str, Any], ...],
    notes: tuple[str, ...],
    subgroups: tuple[Subgroup, ...],
    previous: Respondents | None,
) -> Result:
    inputs = answers.provenance["inputs"]
    mass = answers.mass[~np.isnan(answers.mass)]
    provenance = {
        **answers.provenance,
        "evaluation": {
            name: list(value) if isinstance(value, tuple) else value for name, value in asdict(options).items()
        }
        | {"humans": humans.name, "humans_source": humans.source}
        | ({} if previous is None else {"previous": previous.name})
        | {"humans_digest": _fingerprint(humans, answers.survey)},
    }
    return Result(
        run_id=answers.provenance["run_id"],
        created=answers.provenance["started"],
        survey=answers.survey.name,
        developer=inputs["model"]["developer"],
        model=inputs["model"]["model"],
        method=_method(inputs),
        n=len(answers),
        n_humans=0 if isinstance(humans, Margins) else len(humans),
        questions=answers.survey.keys,
        weighting=options.weighting,
        metrics=found,
        coverage=answers.coverage,
        option_mass=float(mass.mean()) if len(mass) else None,
        items=items,
        notes=notes,
        subgroups=subgroups,
        provenance=provenance,
        n_effective=None if isinstance(humans, Margins) else _effective(humans),
    )


def _method(inputs: Mapping[str, Any]) -> str:
    """Conditioning, how traits follow a backstory where not as usual, and matching: `anthology+qa/greedy`."""
    conditioning, append = inputs["options"]["conditioning"], inputs["options"].get("append", "bio")
    if conditioning not in STORIED:
        return str(conditioning)
    return f"{conditioning}{'' if append == 'bio' else f'+{append}'}/{inputs['cast']['method']}"


def _effective(humans: Respondents) -> float:
    return float(len(humans)) if humans.weights is None else effective_size(humans.weights)
