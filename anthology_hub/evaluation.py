"""Answers against respondents: every figure with its interval, human floor, baselines, n and coverage.

Definitions: Anthology (Moon et al., EMNLP 2024), sections 4 and 5, and its released analysis code; see `metrics`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from anthology_hub import metrics
from anthology_hub.errors import EmptyError, OptionError, UnknownNameError
from anthology_hub.schema import ANSWERED, MISSING, Answers, Metric, Respondents, Result, Survey

if TYPE_CHECKING:
    from numpy.typing import NDArray

WEIGHTINGS = ("weighted", "paper")


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

    def figures(self, draws: NDArray[np.float64]) -> Figures:
        """Compute everything for each row of draws, which multiply the weights; shape (rows, n)."""
        shares = self.table.shares(draws * self.weights)
        correlation = self.table.moments(draws * self.weights, listwise=self.listwise).correlation
        covariance = self.table.moments(draws * self.alpha_weights, keyed=self.keyed).covariance
        alphas = [metrics.cronbach_alpha(covariance[:, i][:, :, i]) for i in map(list, self.scales)]
        return Figures(shares=shares, correlation=correlation, alpha=np.mean(alphas, axis=0))

    def once(self) -> Figures:
        """Compute everything on the data themselves; one row."""
        return self.figures(np.ones((1, len(self.table))))


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What one side says, for each row of draws."""

    shares: NDArray[np.float64]
    """Shape (rows, q, K)."""
    correlation: NDArray[np.float64]
    """Shape (rows, q, q)."""
    alpha: NDArray[np.float64]
    """Mean over the scales, shape (rows,)."""

    def distances(self, other: Figures, spans: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
        """Return the distances to another side, each of shape (rows,)."""
        per_item = metrics.wasserstein(self.shares, other.shares)
        return {
            "wd": per_item.mean(axis=1),
            "wd_normalised": (per_item / spans).mean(axis=1),
            "fro": metrics.frobenius(self.correlation, other.correlation),
        }


def evaluate(answers: Answers, humans: Respondents, *, options: EvaluateOptions | None = None) -> Result:
    """Measure how close simulated answers come to the humans'.

    The humans are the reference population: all respondents of a survey, or those that were stood in for.

    Args:
        answers: From `simulate`.
        humans: Respondents with answers to the same questions.
        options: How to compare.

    Returns:
        `wd` (option steps), `wd_normalised` (0 to 1), `fro` and `alpha`, each with interval, floors and baselines. A
        figure that is not defined is None, and its note says why.

    Raises:
        EmptyError: If a question has no answer on one of the sides.
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
    options = options or EvaluateOptions()
    ours, theirs, notes = _sides(answers, humans, options)
    spans = ours.table.n_options - 1
    us, them = ours.once(), theirs.once()
    values = us.distances(them, spans)
    draws = _bootstrap(ours, theirs, spans, options)
    floors, equal = _floors(theirs, them, len(answers), spans, options, notes)
    uniform, majority = _baselines(them, ours.table.n_options, spans)
    whys = _undefined(us, them, ours, theirs, answers.survey)
    units = {"wd": "option steps", "wd_normalised": "share of the scale", "fro": "Frobenius norm"}
    found = []
    for name, unit in units.items():
        figures = (draws[name], floors[name], equal[name], uniform[name], majority[name])
        found.append(_metric(name, unit, values[name][0], figures, options, whys, least=0.0))
    figures = (draws["alpha"], floors["alpha"], equal["alpha"], 0.0, np.nan)
    alpha = _metric("alpha", "Cronbach's alpha", us.alpha[0], figures, options, whys, least=None)
    found.append(replace(alpha, human=_or_none(them.alpha[0])))
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


def _sides(answers: Answers, humans: Respondents, options: EvaluateOptions) -> tuple[Side, Side, list[str]]:
    survey, notes = answers.survey, []
    for key in survey.keys:
        if key not in humans.answers:
            raise UnknownNameError(f"question of {humans.name}", key, humans.answers)
    if humans.weights is None:
        notes.append(f"{humans.name} has no weights: every person counts the same.")
    ours, theirs = _our_side(answers, options), _human_side(humans, survey, options)
    for name, side in (("the simulation", ours), (humans.name, theirs)):
        if silent := [key for key, seen in zip(survey.keys, side.table.observed, strict=True) if not seen]:
            raise EmptyError(f"nobody in {name} answered {', '.join(silent)}: leave these questions out")
    return ours, theirs, notes


def _our_side(answers: Answers, options: EvaluateOptions) -> Side:
    paper = options.weighting == "paper"
    weights = np.ones(len(answers)) if paper else answers.weights
    return _side(answers.picks, weights, weights, answers.survey, listwise=False, paper=paper)


def _human_side(humans: Respondents, survey: Survey, options: EvaluateOptions) -> Side:
    paper = options.weighting == "paper"
    codes = np.stack([humans.answers[key] for key in survey.keys], axis=1)
    weights = np.ones(len(humans)) if humans.weights is None else humans.weights
    alpha_weights = np.ones(len(humans)) if paper else weights
    return _side(codes, weights, alpha_weights, survey, listwise=paper, paper=paper)


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
    scales = tuple(tuple(column[key] for key in keys) for keys in survey.scales.values() if not paper)
    return Side(
        table=metrics.AnswerTable(codes, [len(question.options) for question in survey.questions]),
        weights=weights,
        alpha_weights=alpha_weights,
        listwise=listwise,
        keyed=np.array([question.reverse and not paper for question in survey.questions]),
        scales=scales or (tuple(range(len(column))),),
    )


def _bootstrap(
    ours: Side, theirs: Side, spans: NDArray[np.int64], options: EvaluateOptions
) -> dict[str, NDArray[np.float64]]:
    """Resample the people of both sides, independently and with replacement."""
    count = options.bootstraps
    us = ours.figures(metrics.bootstrap_counts(len(ours.table), count, seed=options.seed))
    them = theirs.figures(metrics.bootstrap_counts(len(theirs.table), count, seed=options.seed + 1))
    return {**us.distances(them, spans), "alpha": us.alpha}


def _floors(
    theirs: Side, whole: Figures, n: int, spans: NDArray[np.int64], options: EvaluateOptions, notes: list[str]
) -> tuple[dict[str, float], dict[str, float]]:
    """Return the mean distance between random halves of the humans, and of random samples of n humans to all."""
    people = len(theirs.table)
    nothing = dict.fromkeys(("wd", "wd_normalised", "fro", "alpha"), np.nan)
    if people < 4:
        notes.append(f"{people} humans are too few for a split-half floor.")
        return nothing, nothing
    halves = metrics.half_splits(people, options.splits, seed=options.seed).astype(np.float64)
    first, second = theirs.figures(halves), theirs.figures(1 - halves)
    split = {**first.distances(second, spans), "alpha": (first.alpha + second.alpha) / 2}
    if n >= people:
        # The whole group as its own sample has distance 0: that is no floor.
        notes.append(f"The cast ({n}) is not smaller than the reference ({people}): no floor at equal n.")
        return _means(split), nothing
    sample = theirs.figures(metrics.subsamples(people, n, options.splits, seed=options.seed).astype(np.float64))
    return _means(split), _means({**sample.distances(whole, spans), "alpha": sample.alpha})


def _means(values: Mapping[str, NDArray[np.float64]]) -> dict[str, float]:
    kept = {name: value[~np.isnan(value)] for name, value in values.items()}
    return {name: float(value.mean()) if len(value) else float("nan") for name, value in kept.items()}


def _baselines(
    them: Figures, n_options: NDArray[np.int64], spans: NDArray[np.int64]
) -> tuple[dict[str, float], dict[str, float]]:
    """Distances of two simulators that know nothing: every option equally often, and everybody the humans' mode."""
    shares = them.shares[0]
    inside = np.arange(shares.shape[1]) < n_options[:, None]
    even = inside / n_options[:, None]
    mode = np.eye(shares.shape[1])[np.nan_to_num(shares).argmax(axis=1)]
    identity = np.eye(len(shares))
    found = []
    for guess, correlation in ((even, identity), (mode, np.full_like(identity, np.nan))):
        figures = Figures(shares=guess[None], correlation=correlation[None], alpha=np.array([np.nan]))
        found.append({name: float(value[0]) for name, value in figures.distances(them, spans).items()})
    return found[0], found[1]


def _undefined(us: Figures, them: Figures, ours: Side, theirs: Side, survey: Survey) -> dict[str, str]:
    """Say for each undefined figure why it is."""
    fro, alpha = [], []
    for who, figures, side in (("simulated", us, ours), ("human", them, theirs)):
        constant = [key for key, seen in zip(survey.keys, side.table.observed, strict=True) if seen < 2]
        because = f"only one option occurs among the {who} answers to {', '.join(constant)}" if constant else ""
        pair = f"too few people have {who} answers to both items of a pair"
        if np.isnan(figures.correlation).any():
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


def _items(answers: Answers, us: Figures, them: Figures, theirs: Side) -> tuple[dict[str, Any], ...]:
    distance = metrics.wasserstein(us.shares, them.shares)[0]
    answered = theirs.table.present.sum(axis=0)
    items = []
    for at, question in enumerate(answers.survey.questions):
        k, column = len(question.options), theirs.table.codes[:, at]
        items.append(
            {
                "question": question.key,
                "options": list(question.options),
                "human": them.shares[0, at, :k].round(6).tolist(),
                "simulated": us.shares[0, at, :k].round(6).tolist(),
                "wd": float(distance[at]),
                "wd_normalised": float(distance[at] / (k - 1)),
                "human_counts": np.bincount(column[column != MISSING], minlength=k).tolist(),
                "n_human": int(answered[at]),
                "n_simulated": int((answers.statuses[:, at] == ANSWERED).sum()),
            }
        )
    return tuple(items)


def _fingerprint(humans: Respondents, survey: Survey) -> str:
    """Digest of whom the answers are compared with: ids, weights and answers to the questions asked."""
    total = hashlib.sha256("\x1f".join(humans.ids).encode())
    for key in sorted(survey.keys):
        total.update(humans.answers[key].tobytes())
    if humans.weights is not None:
        total.update(humans.weights.tobytes())
    return total.hexdigest()


def _result(
    answers: Answers,
    humans: Respondents,
    options: EvaluateOptions,
    found: tuple[Metric, ...],
    items: tuple[dict[str, Any], ...],
    notes: tuple[str, ...],
) -> Result:
    inputs = answers.provenance["inputs"]
    conditioning, matching = inputs["options"]["conditioning"], inputs["cast"]["method"]
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
        method=conditioning if conditioning != "anthology" else f"{conditioning}/{matching}",
        n=len(answers),
        n_humans=len(humans),
        questions=answers.survey.keys,
        weighting=options.weighting,
        metrics=found,
        coverage=answers.coverage,
        option_mass=float(mass.mean()) if len(mass) else None,
        items=items,
        notes=notes,
        provenance=provenance,
    )
