"""The figures of an evaluation: what each is called, its unit and range, where its best value lies, what it means.

Distances are best at 0, agreements at 1, properties where they equal the humans' own. Definitions and sources are with
the functions: `metrics`, `individuals`, `groups`, `regression`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from anthology_hub.schema import Metric

DISTANCE, AGREEMENT, PROPERTY = "distance", "agreement", "property"
BASELINES = ("uniform", "majority", "margins", "cells", "previous")
"""What every figure is also given for: the fields of `Metric` of the same names; see `yardsticks`."""


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One figure, in words."""

    name: str
    title: str
    unit: str
    kind: str
    """`distance`, `agreement` or `property`."""
    meaning: str
    """One or two sentences for readers who do not know it."""
    least: float = 0.0
    most: float = math.inf
    shifts: bool = False
    """Whether chance pulls it to one side by more than an interval forgives."""


_ALL = (
    Measure(
        name="wd_normalised",
        title="Answer distributions: Wasserstein distance, normalised",
        unit="share of the scale",
        kind=DISTANCE,
        most=1.0,
        meaning="Share of the scale, mean over the questions. 0: same distributions; 1: opposite ends.",
    ),
    Measure(
        name="wd",
        title="Answer distributions: Wasserstein distance, raw",
        unit="option steps",
        kind=DISTANCE,
        meaning="Option steps, mean over the questions. 0 is best; not comparable between surveys with other scales.",
    ),
    Measure(
        name="jsd",
        title="Answer distributions: Jensen-Shannon distance",
        unit="Jensen-Shannon distance",
        kind=DISTANCE,
        most=1.0,
        meaning="Mean over the questions, whatever the order of the options. 0: same distributions; 1: nothing shared.",
    ),
    Measure(
        name="tv",
        title="Answer distributions: total variation",
        unit="share of the answers",
        kind=DISTANCE,
        most=1.0,
        meaning="Share of the answers that would have to change, mean over the questions; options need no order.",
    ),
    Measure(
        name="kl",
        title="Answer distributions: Kullback-Leibler divergence",
        unit="bits",
        kind=DISTANCE,
        meaning="From the humans to the simulation, mean over the questions; hard on options that the simulation never "
        "gives. 1e-9 is added to every share, so that none is 0; the figure hangs on that.",
    ),
    Measure(
        name="fro",
        title="Correlations between questions: Frobenius norm of the difference",
        unit="Frobenius norm",
        kind=DISTANCE,
        meaning="0 is best; grows with the number of questions.",
    ),
    Measure(
        name="fro_spearman",
        title="Rank correlations between questions: Frobenius norm of the difference",
        unit="Frobenius norm",
        kind=DISTANCE,
        meaning="As above with Spearman's correlations, which do not depend on the spacing of the options.",
    ),
    Measure(
        name="fro_polychoric",
        title="Polychoric correlations between questions: Frobenius norm of the difference",
        unit="Frobenius norm",
        kind=DISTANCE,
        meaning="As above with the correlations of the opinions behind coarse answers. No interval: it takes long.",
    ),
    Measure(
        name="cbs",
        title="Correlations between questions: distance of their patterns",
        unit="correlation matrix distance",
        kind=DISTANCE,
        most=1.0,
        meaning="Compares which questions go together, not how strongly. 0 is best.",
    ),
    Measure(
        name="alpha",
        title="Internal consistency: Cronbach's alpha",
        unit="Cronbach's alpha",
        kind=PROPERTY,
        least=-math.inf,
        most=1.0,
        meaning="Best where it equals the humans' own; higher is not better.",
    ),
    Measure(
        name="omega",
        title="Internal consistency: McDonald's omega",
        unit="McDonald's omega",
        kind=PROPERTY,
        most=1.0,
        meaning="Alpha without the assumption that all questions weigh alike. Best where it equals the humans' own.",
    ),
    Measure(
        name="variance_ratio",
        title="Spread of the answers: SD of the simulation over SD of the humans",
        unit="ratio",
        kind=PROPERTY,
        meaning="Mean over the questions. 1 is best; below 1 the simulated people are more alike than real ones.",
    ),
    Measure(
        name="entropy_ratio",
        title="Variety of the answers: entropy of the simulation over that of the humans",
        unit="ratio",
        kind=PROPERTY,
        shifts=True,
        meaning="Mean over the questions, whatever the order of the options. 1 is best; 0: all give the same answer.",
    ),
    Measure(
        name="accuracy",
        title="Person by person: same answer",
        unit="share of the answers",
        kind=AGREEMENT,
        most=1.0,
        meaning="Share of the answers that equal those of the person who is stood in for. Humans: their own second "
        "answers, where they were asked again.",
    ),
    Measure(
        name="mad_accuracy",
        title="Person by person: nearness of the answers",
        unit="1 - share of the scale",
        kind=AGREEMENT,
        most=1.0,
        meaning="1 minus the distance to the person's answer as a share of the scale (Twin-2K-500).",
    ),
    Measure(
        name="item_correlation",
        title="Person by person: correlation with the person's answers",
        unit="Pearson correlation",
        kind=AGREEMENT,
        least=-1.0,
        most=1.0,
        meaning="Mean over the questions. 0: knowing the persona tells nothing about its person.",
    ),
    Measure(
        name="normalised_accuracy",
        title="Person by person: same answer, over the person's own retest",
        unit="ratio",
        kind=AGREEMENT,
        meaning="Accuracy divided by how often people repeat their own answers. 1: as good as asking again.",
    ),
    Measure(
        name="normalised_mad_accuracy",
        title="Person by person: nearness, over the person's own retest",
        unit="ratio",
        kind=AGREEMENT,
        meaning="As above, with nearness in place of sameness.",
    ),
    Measure(
        name="explained",
        title="Share of the variance that demographics explain",
        unit="adjusted R squared",
        kind=PROPERTY,
        least=-math.inf,
        most=1.0,
        meaning="Mean over the questions. Best where it equals the humans' own; above it the model stereotypes.",
    ),
    Measure(
        name="group_gaps",
        title="Differences between groups: Cohen's d, mean absolute error",
        unit="standard deviations",
        kind=DISTANCE,
        meaning="How far the simulated gaps between groups are from the humans', over traits, levels and questions.",
    ),
    Measure(
        name="coefficients",
        title="Regression on demographics: agreement of the coefficients",
        unit="correlation",
        kind=AGREEMENT,
        least=-1.0,
        most=1.0,
        meaning="Correlation of the coefficients of both sides. 1 is best, 0 is chance; blind to their size.",
    ),
)
MEASURES = {measure.name: measure for measure in _ALL}
"""By name, the headline first."""


def attained(metric: Metric) -> float | None:
    """Return how far a figure is on the way from the uniform baseline (0) to the humans (1); None if that is undefined.

    Of a distance, the humans are the floor at equal n, or else that of random halves; of a property, their own value;
    of an agreement, their own retest, or else their floor, or else 1. Below 0: worse than options at random. Above 1:
    closer than people are by chance, which wants an explanation. None where chance leaves no way: so few people differ
    as much from each other as from options at random.

    `uniform` is what options at random give in the long run. A small cast adds its own chance to a distance between
    correlations, so that even options at random come out below 0 there.

    Example:
        >>> attained(Metric(name="wd", value=0.2, unit="option steps", floor=0.1, uniform=0.6))
        0.8
    """
    measure = MEASURES.get(metric.name)
    value, start = metric.value, metric.uniform
    if measure is None or value is None or start is None:
        return None
    if measure.kind == PROPERTY:
        return None if metric.human is None else _part(abs(start - metric.human), abs(value - metric.human), 0.0)
    goals = [metric.floor_equal_n, metric.floor] if measure.kind == DISTANCE else _agreeing(metric)
    goal = next((goal for goal in goals if goal is not None), None)
    if goal is None or (goal >= start if measure.kind == DISTANCE else goal <= start):
        return None
    return _part(start, value, goal)


def _agreeing(metric: Metric) -> list[float | None]:
    return [metric.human, metric.floor_equal_n, metric.floor, 1.0]


def or_none(value: float) -> float | None:
    """Return a figure as a result holds it: None where it is undefined.

    Example:
        >>> or_none(float("nan")), or_none(0.5)
        (None, 0.5)
    """
    return None if math.isnan(value) else float(value)


def _part(start: float, value: float, goal: float) -> float | None:
    return None if math.isclose(start, goal, abs_tol=1e-12) else round((start - value) / (start - goal), 12)
