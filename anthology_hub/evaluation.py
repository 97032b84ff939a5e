"""Answers against respondents: every figure with its interval, human floor, baselines, n and coverage.

Definitions: Anthology (Moon et al., EMNLP 2024), sections 4 and 5, and its released analysis code; see `metrics`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from anthology_hub import metrics
from anthology_hub.conditioning import STORIED
from anthology_hub.errors import DataError, EmptyError, OptionError, UnknownNameError
from anthology_hub.margins import Margins
from anthology_hub.schema import ANSWERED, MISSING, Answers, Metric, Respondents, Result, Survey, digest
from anthology_hub.weighting import effective_size

if TYPE_CHECKING:
    from numpy.typing import NDArray

WEIGHTINGS = ("weighted", "paper")
DISTANCES = {
    "wd": "option steps",
    "wd_normalised": "share of the scale",
    "jsd": "Jensen-Shannon distance",
    "fro": "Frobenius norm",
}
"""Names and units of the figures that are distances."""


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """How to compare."""

    weighting: str = "weighted"
    """`weighted`: human weights on both sides, pairwise deletion on both, reverse-keyed alpha. `paper`: weights on the
    human distributions and correlations only, humans listwise, no reverse keys."""
    splits: int = 100
    """Random half-splits for the floors, and samples for the floor at equal n."""
    bootstraps: int = 1000
    level: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            OptionError: If a value is not allowed.
        """
        if self.weighting not in WEIGHTINGS:
            raise OptionError(f"unknown weighting {self.weighting!r}: allowed are {', '.join(WEIGHTINGS)}")
        if self.splits < 1 or self.bootstraps < 2 or not 0 < self.level < 1:
            raise OptionError(
                f"splits must be at least 1, bootstraps at least 2, level between 0 and 1, got {self.splits}, "
                f"{self.bootstraps}, {self.level}"
            )


@dataclass(frozen=True, kw_only=True)
class Side:
    """One side of the comparison: encoded answers, weights, and how its correlations are taken."""

    table: metrics.AnswerTable
    weights: NDArray[np.float64]
    """For shares and correlations, shape (n,)."""
    alpha_weights: NDArray[np.float64]
    listwise: bool
    keyed: NDArray[np.bool_]
    scales: tuple[tuple[int, ...], ...]
    """Positions of the items of each scale."""
    strata: NDArray[np.int64] | None = None
    psu: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.table)

    def figures(self, draws: NDArray[np.float64]) -> Figures:
        """Compute everything for each row of draws, which multiply the weights; shape (rows, n)."""
        shares = self.table.shares(draws * self.weights)
        correlation = self.table.moments(draws * self.weights, listwise=self.listwise).correlation
        covariance = self.table.moments(draws * self.alpha_weights, keyed=self.keyed).covariance
        alphas = [metrics.cronbach_alpha(covariance[:, i][:, :, i]) for i in map(list, self.scales)]
        alpha = np.mean(alphas, axis=0) if alphas else np.full(len(draws), np.nan)
        return Figures(shares=shares, correlation=correlation, alpha=alpha)

    def resampled(self, count: int, *, seed: int) -> Figures:
        """Compute everything on bootstrap samples of the people, drawn as their sample was."""
        draws = metrics.bootstrap_counts(len(self), count, seed=seed, strata=self.strata, psu=self.psu)
        return self.figures(draws)

    def once(self) -> Figures:
        """Compute everything on the data themselves; one row."""
        return self.figures(np.ones((1, len(self))))


@dataclass(frozen=True, kw_only=True)
class Shares:
    """A side of which only the shares of answers are known: nothing that needs people is defined."""

    shares: NDArray[np.float64]
    """Shape (q, K)."""

    def __len__(self) -> int:
        return 0

    def resampled(self, count: int, *, seed: int) -> Figures:
        """Return the shares as they are, for each draw."""
        return self.once()

    def once(self) -> Figures:
        """Return the shares; one row."""
        q = len(self.shares)
        return Figures(shares=self.shares[None], correlation=np.full((1, q, q), np.nan), alpha=np.full(1, np.nan))


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What one side says, for each row of draws."""

    shares: NDArray[np.float64]
    """Shape (rows, q, K)."""
    correlation: NDArray[np.float64]
    """Shape (rows, q, q)."""
    alpha: NDArray[np.float64]
    """Mean over the scales, shape (rows,)."""

    def distances(self, other: Figures, items: Items) -> dict[str, NDArray[np.float64]]:
        """Return the distances to another side, each of shape (rows,)."""
        per_item = metrics.wasserstein(self.shares, other.shares)[:, items.ordered]
        undefined = np.full(len(per_item), np.nan)
        return {
            "wd": per_item.mean(axis=1) if per_item.size else undefined,
            "wd_normalised": (per_item / items.spans[items.ordered]).mean(axis=1) if per_item.size else undefined,
            "jsd": metrics.jensen_shannon(self.shares, other.shares).mean(axis=1),
            "fro": metrics.frobenius(items.among(self.correlation), items.among(other.correlation)),
        }


@dataclass(frozen=True, kw_only=True)
class Items:
    """What the metrics need to know of the questions."""

    spans: NDArray[np.int64]
    """K-1 of each question, shape (q,)."""
    ordered: NDArray[np.bool_]
    """Whether its options have an order, shape (q,)."""

    @classmethod
    def of(cls, survey: Survey) -> Items:
        """Return those of a survey."""
        return cls(
            spans=np.array([len(question.options) - 1 for question in survey.questions]),
            ordered=np.array([question.ordinal for question in survey.questions]),
        )

    def among(self, correlation: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the correlations among the ordered items; NaN if there are fewer than two."""
        kept = correlation[:, self.ordered][:, :, self.ordered]
        return kept if kept.shape[-1] > 1 else np.full((len(correlation), 1, 1), np.nan)


def evaluate(answers: Answers, humans: Respondents | Margins, *, options: EvaluateOptions | None = None) -> Result:
    """Measure how close simulated answers come to the humans'.

    The humans are the reference population: all respondents of a survey, or those that were stood in for. Where their
    file tells strata and sampling units, the intervals allow for that design. Of one group of `Margins` only the
    shares of answers are known: `fro`, `alpha` and the floors, which need people, are not defined. Choice questions
    are compared; the others are named in a note.

    Args:
        answers: From `simulate`.
        humans: Respondents with answers to the same questions, or one group of margins.
        options: How to compare.

    Returns:
        `wd` (option steps) and `wd_normalised` (0 to 1), both over the questions whose options have an order; `jsd`
        (0 to 1, all questions), `fro` and `alpha`; each with interval, floors and baselines. A figure that is not
        defined is None, and its note says why.

    Raises:
        DataError: If the margins have other options for a question.
        EmptyError: If a question has no answer on one of the sides, or none is a choice.
        OptionError: If margins of several groups are given.
        UnknownNameError: If the humans were not asked a question.

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
    options, items = options or EvaluateOptions(), Items.of(answers.survey)
    ours, theirs, notes = _sides(answers, humans, options)
    notes += _administered(whole, answers)
    us, them = ours.once(), theirs.once()
    values = us.distances(them, items)
    draws = _bootstrap(ours, theirs, items, options)
    floors, equal = _floors(theirs, them, len(answers), items, options, notes)
    uniform, majority = _baselines(them, items)
    whys = _undefined(us, them, ours, theirs, items, answers.survey)
    found = []
    for name, unit in DISTANCES.items():
        figures = (draws[name], floors[name], equal[name], uniform[name], majority[name])
        found.append(_metric(name, unit, values[name][0], figures, options, whys, least=0.0))
    figures = (draws["alpha"], floors["alpha"], equal["alpha"], 0.0, np.nan)
    # Judged by closeness to the humans' own alpha: where nobody can know that one, ours says nothing.
    own = np.nan if isinstance(theirs, Shares) else us.alpha[0]
    alpha = _metric("alpha", "Cronbach's alpha", own, figures, options, whys, least=None)
    found.append(replace(alpha, human=_or_none(them.alpha[0])))
    if not items.ordered.all():
        left_out = ", ".join(q.key for q in answers.survey.questions if not q.ordinal)
        notes.append(f"The options of {left_out} have no order: jsd alone counts these questions.")
    return _result(answers, humans, options, tuple(found), _items(answers, us, them, theirs), tuple(notes))


def human_figures(humans: Respondents, survey: Survey) -> Figures:
    """Return the humans' own shares, correlations and alpha; one row, as `evaluate` sees them with default options.

    Example:
        >>> from anthology_hub import Respondents
        >>> survey = Survey.load("bfi")
        >>> human_figures(Respondents.load("bfi"), survey).correlation.shape
        (1, 25, 25)
    """
    return _human_side(humans, survey, EvaluateOptions()).once()


def simulated_figures(answers: Answers) -> Figures:
    """Return the cast's shares, correlations and alpha; one row, with the cast's weights."""
    return _our_side(answers, EvaluateOptions()).once()


def _sides(
    answers: Answers, humans: Respondents | Margins, options: EvaluateOptions
) -> tuple[Side, Side | Shares, list[str]]:
    survey = answers.survey
    known = humans.shares if isinstance(humans, Margins) else humans.answers
    for key in survey.keys:
        if key not in known:
            raise UnknownNameError(f"question of {humans.name}", key, known)
    ours = _our_side(answers, options)
    _heard("the simulation", survey, ours.table.observed > 0)
    if isinstance(humans, Margins):
        theirs = Shares(shares=_shares(humans, survey))
        _heard(humans.name, survey, np.asarray(~np.isnan(theirs.shares).any(axis=1)))
        uneven = [key for key in survey.keys if key in humans.values]
        steps = f"The source spaces the options of {', '.join(uneven)} unevenly; here each step counts one."
        return (
            ours,
            theirs,
            [
                *([steps] if uneven else []),
                "Only shares of answers are known: the intervals tell the simulation's own chance alone.",
            ],
        )
    side = _human_side(humans, survey, options)
    _heard(humans.name, survey, side.table.observed > 0)
    return ours, side, list(_told(humans))


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


def _heard(who: str, survey: Survey, answered: NDArray[np.bool_]) -> None:
    if silent := [key for key, some in zip(survey.keys, answered, strict=True) if not some]:
        raise EmptyError(f"nobody in {who} answered {', '.join(silent)}: leave these questions out")


def _told(humans: Respondents) -> Iterator[str]:
    if humans.weights is None:
        yield f"{humans.name} has no weights: every person counts the same."
    else:
        yield f"The weights of {humans.name} leave {_effective(humans):.0f} effective people (Kish) of {len(humans)}."
    if humans.psu is not None or humans.strata is not None:
        units = len(humans) if humans.psu is None else len(np.unique(humans.psu))
        strata = 1 if humans.strata is None else len(np.unique(humans.strata))
        yield f"The intervals allow for the sample design: {units} sampling units in {strata} strata."
        if alone := _alone(humans):
            yield (
                f"{alone} strata have a single sampling unit, whose chance cannot be told: the intervals leave it out "
                "and are too narrow."
            )


def _alone(humans: Respondents) -> int:
    """How many strata have one sampling unit only."""
    units = np.arange(len(humans)) if humans.psu is None else humans.psu
    strata = np.zeros(len(humans), dtype=np.int64) if humans.strata is None else humans.strata
    pairs = np.unique(np.stack([strata, units]), axis=1)
    return int((np.unique(pairs[0], return_counts=True)[1] == 1).sum())


def _shares(margins: Margins, survey: Survey) -> NDArray[np.float64]:
    if len(margins.groups) != 1:
        raise OptionError(
            f"{margins.name} has {len(margins.groups)} groups: compare with one, as "
            f"margins.group({margins.groups[0]!r})"
        )
    theirs = {question.key: question for question in margins.survey.questions}
    shares = np.zeros((len(survey.questions), max(len(question.options) for question in survey.questions)))
    for at, question in enumerate(survey.questions):
        if theirs[question.key].options != question.options:
            raise DataError(
                f"question {question.key!r} was asked with the options {question.options}, but {margins.name} has "
                f"{theirs[question.key].options}: ask margins.survey"
            )
        shares[at, : len(question.options)] = margins.shares[question.key][0]
    return shares


def _our_side(answers: Answers, options: EvaluateOptions) -> Side:
    paper = options.weighting == "paper"
    weights = np.ones(len(answers)) if paper else answers.weights
    return _side(answers.picks, weights, weights, answers.survey, listwise=False, paper=paper)


def _human_side(humans: Respondents, survey: Survey, options: EvaluateOptions) -> Side:
    paper = options.weighting == "paper"
    codes = np.stack([humans.answers[key] for key in survey.keys], axis=1)
    weights = np.ones(len(humans)) if humans.weights is None else humans.weights
    alpha_weights = np.ones(len(humans)) if paper else weights
    side = _side(codes, weights, alpha_weights, survey, listwise=paper, paper=paper)
    return replace(side, strata=humans.strata, psu=humans.psu)


def _side(
    codes: NDArray[np.int16],
    weights: NDArray[np.float64],
    alpha_weights: NDArray[np.float64],
    survey: Survey,
    *,
    listwise: bool,
    paper: bool,
) -> Side:
    column = {key: at for at, key in enumerate(survey.keys)}
    # The paper takes all items of a wave as one scale.
    ordered = {question.key for question in survey.questions if question.ordinal}
    named = () if paper else survey.scales.values()
    scales = [tuple(column[key] for key in keys if key in ordered) for keys in named]
    everything = tuple(column[key] for key in survey.keys if key in ordered)
    return Side(
        table=metrics.AnswerTable(codes, [len(question.options) for question in survey.questions]),
        weights=weights,
        alpha_weights=alpha_weights,
        listwise=listwise,
        keyed=np.array([question.reverse and not paper for question in survey.questions]),
        scales=tuple(scale for scale in scales or [everything] if scale),
    )


def _bootstrap(
    ours: Side, theirs: Side | Shares, items: Items, options: EvaluateOptions
) -> dict[str, NDArray[np.float64]]:
    """Resample the people of both sides, independently and with replacement."""
    us = ours.resampled(options.bootstraps, seed=options.seed)
    them = theirs.resampled(options.bootstraps, seed=options.seed + 1)
    return {**us.distances(them, items), "alpha": us.alpha}


def _floors(
    theirs: Side | Shares, whole: Figures, n: int, items: Items, options: EvaluateOptions, notes: list[str]
) -> tuple[dict[str, float], dict[str, float]]:
    """Return the mean distance between random halves of the humans, and of random samples of n humans to all."""
    people = len(theirs)
    nothing = dict.fromkeys((*DISTANCES, "alpha"), np.nan)
    if isinstance(theirs, Shares) or people < 4:
        notes.append(f"{people or 'No'} humans are too few for a split-half floor.")
        return nothing, nothing
    halves = metrics.half_splits(people, options.splits, seed=options.seed).astype(np.float64)
    first, second = theirs.figures(halves), theirs.figures(1 - halves)
    split = {**first.distances(second, items), "alpha": (first.alpha + second.alpha) / 2}
    if n >= people:
        # The whole group as its own sample has distance 0: that is no floor.
        notes.append(f"The cast ({n}) is not smaller than the reference ({people}): no floor at equal n.")
        return _means(split), nothing
    sample = theirs.figures(metrics.subsamples(people, n, options.splits, seed=options.seed).astype(np.float64))
    return _means(split), _means({**sample.distances(whole, items), "alpha": sample.alpha})


def _means(values: Mapping[str, NDArray[np.float64]]) -> dict[str, float]:
    kept = {name: value[~np.isnan(value)] for name, value in values.items()}
    return {name: float(value.mean()) if len(value) else float("nan") for name, value in kept.items()}


def _baselines(them: Figures, items: Items) -> tuple[dict[str, float], dict[str, float]]:
    """Distances of two simulators that know nothing: every option equally often, and everybody the humans' mode."""
    shares = them.shares[0]
    n_options = items.spans[:, None] + 1
    even = (np.arange(shares.shape[1]) < n_options) / n_options
    mode = np.eye(shares.shape[1])[np.nan_to_num(shares).argmax(axis=1)]
    identity = np.eye(len(shares))
    found = []
    for guess, correlation in ((even, identity), (mode, np.full_like(identity, np.nan))):
        figures = Figures(shares=guess[None], correlation=correlation[None], alpha=np.array([np.nan]))
        found.append({name: float(value[0]) for name, value in figures.distances(them, items).items()})
    return found[0], found[1]


def _undefined(
    us: Figures, them: Figures, ours: Side, theirs: Side | Shares, items: Items, survey: Survey
) -> dict[str, str]:
    """Say for each undefined figure why it is."""
    if items.ordered.sum() < 2:
        few = "fewer than two questions have options with an order"
        none = "No question has options with an order." if not items.ordered.any() else ""
        return {"wd": none, "wd_normalised": none, "fro": f"Undefined: {few}.", "alpha": f"Undefined: {few}."}
    if isinstance(theirs, Shares):
        why = "of the humans only shares of answers are known, and this needs each person's answers"
        return {"fro": f"Undefined: {why}.", "alpha": f"Undefined: {why}."}
    fro, alpha = [], []
    for who, figures, side in (("simulated", us, ours), ("human", them, theirs)):
        seen = zip(survey.questions, side.table.observed, strict=True)
        constant = [question.key for question, options in seen if question.ordinal and options < 2]
        because = f"only one option occurs among the {who} answers to {', '.join(constant)}" if constant else ""
        pair = f"too few people have {who} answers to both items of a pair"
        if np.isnan(items.among(figures.correlation)).any():
            fro.append(f"Correlations are undefined: {because or f'{pair}, or all of them chose one option'}.")
        if np.isnan(figures.alpha).any():
            single = "a scale has a single item" if min(map(len, side.scales)) < 2 else ""
            why = single or because or f"{pair}, or the sum of a scale does not vary"
            alpha.append(f"The {who} alpha is undefined: {why}.")
    return {"fro": " ".join(fro), "alpha": " ".join(alpha)}


def _metric(
    name: str,
    unit: str,
    value: float,
    figures: Sequence[Any],
    options: EvaluateOptions,
    whys: Mapping[str, str],
    *,
    least: float | None,
) -> Metric:
    draws, floor, equal, uniform, majority = figures
    low, high = metrics.interval(value, draws, level=options.level, least=least)
    lost = int(np.isnan(draws).sum())
    counted = f"{lost} of {len(draws)} bootstrap draws left it undefined." if 0 < lost < len(draws) else ""
    return Metric(
        name=name,
        value=_or_none(value),
        unit=unit,
        low=_or_none(low),
        high=_or_none(high),
        floor=_or_none(floor),
        floor_equal_n=_or_none(equal),
        uniform=_or_none(uniform),
        majority=_or_none(majority),
        note=whys.get(name, "") or counted,
    )


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _items(answers: Answers, us: Figures, them: Figures, theirs: Side | Shares) -> tuple[dict[str, Any], ...]:
    steps, distance = metrics.wasserstein(us.shares, them.shares)[0], metrics.jensen_shannon(us.shares, them.shares)[0]
    items = []
    for at, question in enumerate(answers.survey.questions):
        k = len(question.options)
        items.append(
            {
                "question": question.key,
                "options": list(question.options),
                "human": them.shares[0, at, :k].round(6).tolist(),
                "simulated": us.shares[0, at, :k].round(6).tolist(),
                "wd": float(steps[at]) if question.ordinal else None,
                "wd_normalised": float(steps[at] / (k - 1)) if question.ordinal else None,
                "jsd": float(distance[at]),
                **_counted(theirs, at, k),
                "n_simulated": int((answers.statuses[:, at] == ANSWERED).sum()),
            }
        )
    return tuple(items)


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
) -> Result:
    inputs = answers.provenance["inputs"]
    mass = answers.mass[~np.isnan(answers.mass)]
    provenance = {
        **answers.provenance,
        "evaluation": {"weighting": options.weighting, "splits": options.splits, "bootstraps": options.bootstraps}
        | {"level": options.level, "seed": options.seed, "humans": humans.name, "humans_source": humans.source}
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
