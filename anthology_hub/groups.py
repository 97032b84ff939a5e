"""Who differs from whom: how far demographics tell people's answers apart, on the simulated and the human side. Pure.

A model that knows a persona's traits easily makes too much of them: groups stand too far apart and their members too
close together (stereotyping; Bisbee et al. 2024, arXiv 2509.19088). Averages hide it, so each measure here is taken of
both sides alike and the two are compared.

Answers are codes on the integer positions of ordered options: hand in the ordinal items only. Nothing is averaged over
less than was handed in: what is undefined anywhere (an item to which a group gave one answer has no Cohen's d) makes
the figure NaN, since a mean over the rest would praise the collapse. Slice the arrays to leave something out.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from anthology_hub.errors import DataError, OptionError
from anthology_hub.rows import LEAST_VARIANCE, answer_codes, effective_people, weight_rows, weighted_means
from anthology_hub.schema import MISSING

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

LEAST_EFFECT = 1e-12
"""Size below which an effect is rounding, and so has no sign."""


@dataclass(frozen=True, kw_only=True)
class GroupMoments:
    """Mass, mean and variance of each item in each of G groups, each of shape (rows, q, G)."""

    mass: NDArray[np.float64]
    """Sum of the weights of who answered."""
    people: NDArray[np.float64]
    """How many they are in effect (Kish); with equal weights their number."""
    mean: NDArray[np.float64]
    """NaN where nobody answered, as below."""
    variance: NDArray[np.float64]
    """Weighted mean square around the group's mean, in squared option steps."""

    @property
    def within(self) -> NDArray[np.float64]:
        """Variance inside the groups: the mean of theirs by mass, shape (rows, q); 0 or more, NaN without data."""
        return self._over_groups(self.variance)

    @property
    def between(self) -> NDArray[np.float64]:
        """Variance of the groups' means around their mean, by mass, shape (rows, q); 0 or more, NaN without data."""
        grand = self._over_groups(self.mean)
        return self._over_groups((self.mean - grand[..., None]) ** 2)

    @property
    def eta_squared(self) -> NDArray[np.float64]:
        """Share of the variance that lies between groups: between / (between + within), shape (rows, q).

        0 to 1; the closer to the humans' the better. NaN where nobody differs. Chance alone gives (G-1)/(n-1): compare
        samples of like size, or take `regression.Fit.adjusted`. Source: Cohen 1988, chapter 8.
        """
        between, total = self.between, self.between + self.within
        return np.asarray(np.divide(between, total, out=np.full_like(total, np.nan), where=total > LEAST_VARIANCE))

    @property
    def gaps(self) -> NDArray[np.float64]:
        """Cohen's d of every pair of groups, shape (rows, q, G(G-1)/2); the order is that of `group_pairs`.

        (mean of the first - mean of the second) / pooled SD of the two (Cohen 1988, chapter 2; the measure of Deep
        Binding, arXiv 2504.11673). Any sign; the closer to the humans' the better. The variances are pooled with n - 1
        each, where n is the effective number of people: with equal weights the textbook formula, with others the
        unbiased one for reliability weights. NaN if a group is empty or nobody differs inside the two.
        """
        count = self.mean.shape[2]
        first, second = np.array(group_pairs(count)).T if count > 1 else np.zeros((2, 0), dtype=int)
        share = np.divide(1.0, self.people, out=np.zeros_like(self.people), where=self.people > 0)
        squares, freedom = self.mass * np.nan_to_num(self.variance), self.mass * (1 - share)
        pooled_squares = squares[..., first] + squares[..., second]
        pooled_freedom = freedom[..., first] + freedom[..., second]
        difference = self.mean[..., first] - self.mean[..., second]
        varies = pooled_squares > LEAST_VARIANCE * (self.mass[..., first] + self.mass[..., second])
        spread = np.sqrt(np.divide(pooled_squares, pooled_freedom, out=np.ones_like(difference), where=varies))
        return np.where(varies, difference / spread, np.nan)

    def _over_groups(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        sums, total = np.where(self.mass > 0, self.mass * values, 0.0).sum(axis=2), self.mass.sum(axis=2)
        return np.asarray(np.divide(sums, total, out=np.full_like(total, np.nan), where=total > 0))


def group_pairs(n_groups: int) -> list[tuple[int, int]]:
    """Return the pairs of groups, in the order of `GroupMoments.gaps`.

    Example:
        >>> group_pairs(3)
        [(0, 1), (0, 2), (1, 2)]
    """
    return list(combinations(range(n_groups), 2))


def group_moments(codes: ArrayLike, groups: ArrayLike, weights: ArrayLike, *, n_groups: int) -> GroupMoments:
    """Return what each group answers, for each row of weights.

    Args:
        codes: Positions of the chosen options, shape (n, q); MISSING where there is none.
        groups: Group 0..n_groups-1 of each person, shape (n,); MISSING where not known: left out.
        weights: Shape (rows, n).
        n_groups: G; the same for both sides, whether or not a group is empty.

    Raises:
        DataError: If the shapes differ, or a group is outside its range.
        EmptyError: If there is nobody, or no question.

    Example:
        >>> moments = group_moments([[0], [1], [2], [3]], [0, 0, 1, 1], np.ones((1, 4)), n_groups=2)
        >>> float(moments.within[0, 0]), float(moments.between[0, 0]), float(moments.eta_squared[0, 0])
        (0.25, 1.0, 0.8)
        >>> round(float(moments.gaps[0, 0, 0]), 3)
        -2.828
    """
    answers = answer_codes(codes)
    rows, labels = weight_rows(weights, len(answers)), np.asarray(groups)
    _check_labels(labels, len(answers), n_groups)
    found = [_moments_of(answers[labels == one], rows[:, labels == one]) for one in range(n_groups)]
    mass, people, mean, variance = (np.stack(tables, axis=2) for tables in zip(*found, strict=True))
    return GroupMoments(mass=mass, people=people, mean=mean, variance=variance)


def drawn_moments(
    means: NDArray[np.float64],
    squares: NDArray[np.float64],
    cells: ArrayLike,
    groups: ArrayLike,
    weights: ArrayLike,
    *,
    n_groups: int,
) -> GroupMoments:
    """Return what groups would answer whose answers are drawn anew within their cells: in expectation.

    Args:
        means: Of the positions among which answers are drawn, for each row of weights, shape (rows, cells, q).
        squares: Of their squares, as `means`.
        cells: Cell 0..C-1 of each person, shape (n,).
        groups: As for `group_moments`.
        weights: Shape (rows, n).
        n_groups: G.

    Raises:
        DataError: If the shapes differ, or a group is outside its range.

    Example:
        >>> drawn = np.array([[[0.5], [2.5]]])
        >>> found = drawn_moments(drawn, drawn**2 + 0.25, [0, 0, 1, 1], [0, 0, 1, 1], np.ones((1, 4)), n_groups=2)
        >>> found.mean[0, 0].tolist(), found.variance[0, 0].tolist()
        ([0.5, 2.5], [0.25, 0.25])
    """
    where, labels = np.asarray(cells), np.asarray(groups)
    rows = weight_rows(weights, len(where))
    _check_labels(labels, len(where), n_groups)
    inside = (where[:, None] == np.arange(means.shape[1])).astype(np.float64)
    members = [np.flatnonzero(labels == one) for one in range(n_groups)]
    mass = np.stack([rows[:, part] @ inside[part] for part in members], axis=1)
    total = mass.sum(axis=2, keepdims=True)
    share = np.divide(mass, total, out=np.full_like(mass, np.nan), where=total > 0)
    mean, square = (np.einsum("rgc,rcq->rqg", share, drawn) for drawn in (means, squares))
    people = [
        effective_people(rows[:, part], np.ones((len(part), 1), dtype=bool)) if len(part) else np.zeros((len(rows), 1))
        for part in members
    ]
    shape = mean.shape
    return GroupMoments(
        mass=np.broadcast_to(total[..., 0][:, None], shape),
        people=np.broadcast_to(np.stack(people, axis=2), shape),
        mean=mean,
        variance=np.maximum(square - mean**2, 0),
    )


def _check_labels(labels: NDArray[np.integer], people: int, n_groups: int) -> None:
    if n_groups < 1:
        raise OptionError(f"n_groups must be at least 1, got {n_groups}")
    if labels.shape != (people,) or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"groups are {people} whole numbers, one for each person, got {labels.dtype} of {labels.shape}")
    if (labels < MISSING).any() or (labels >= n_groups).any():
        raise DataError(
            f"groups are 0..{n_groups - 1}, or {MISSING} where not known, got {labels.min()} to {labels.max()}: "
            "give n_groups as many as both sides have"
        )


def _moments_of(codes: NDArray[np.integer], weights: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    present, values = codes != MISSING, codes.astype(np.float64)
    # Around the middle of what occurs: squares of small numbers keep their digits.
    middle = (values.max(axis=0) + values.min(axis=0)) / 2 if len(values) else np.zeros(codes.shape[1])
    centred = values - middle
    mean, square = weighted_means(weights, present, centred, centred**2)
    variance = np.maximum(square - mean**2, 0)
    people = effective_people(weights, present) if len(values) else np.zeros_like(mean)
    return weights @ present.astype(np.float64), people, mean + middle, variance


def agreement(simulated: NDArray[np.float64], human: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Return how far two sets of signed effects agree: group gaps, or regression coefficients.

    `mean_absolute_difference`: 0 is best, in the unit of the effects.
    `correlation`: Pearson correlation of the effects taken in both directions (d of women against men and of men
    against women), since which comes first is arbitrary; so it is that around 0, sum(xy) / sqrt(sum(x^2) sum(y^2)).
    -1 to 1, 1 is best, 0 is chance. It does not see the size: all gaps doubled give 1.
    `same_sign`: share of effects with the same sign, 0 to 1, 1 is best, about 0.5 is chance; 0 agrees with 0 only.

    Source: the correlation around 0 is the coefficient of congruence (Tucker 1951); signs that turn are what Bisbee et
    al. 2024 count of synthetic respondents.

    Args:
        simulated: Effects, shape (rows, ...).
        human: Of the same shape, or with 1 row.

    Returns:
        Each of shape (rows,); NaN where an effect is undefined or there is none, and the correlation also where all
        effects of a side are 0.

    Raises:
        DataError: If the shapes do not fit.

    Example:
        >>> figures = agreement(np.array([[1.0, -2.0]]), np.array([[0.5, -1.0]]))
        >>> {name: round(float(value[0]), 6) for name, value in figures.items()}
        {'mean_absolute_difference': 0.75, 'correlation': 1.0, 'same_sign': 1.0}
    """
    x, y = _flat_pair(simulated, human)
    if not x.shape[1]:
        return dict.fromkeys(("mean_absolute_difference", "correlation", "same_sign"), np.full(len(x), np.nan))
    scale = np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))
    correlation = np.divide((x * y).sum(axis=1), scale, out=np.full_like(scale, np.nan), where=scale > 0)
    signs = [np.where(np.abs(effects) < LEAST_EFFECT, 0, np.sign(effects)) for effects in (x, y)]
    same = np.where(np.isnan(x + y), np.nan, signs[0] == signs[1])
    return {
        "mean_absolute_difference": np.abs(x - y).mean(axis=1),
        "correlation": np.clip(correlation, -1, 1),
        "same_sign": same.mean(axis=1),
    }


def _flat_pair(
    simulated: NDArray[np.float64], human: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if simulated.shape[1:] != human.shape[1:] or len(human) not in (1, len(simulated)):
        raise DataError(
            f"simulated effects of shape {simulated.shape} and human ones of {human.shape} do not fit: give the same "
            "items, groups and rows of weights for both, or one row of humans"
        )
    x, y = np.broadcast_arrays(simulated, human)
    width = int(np.prod(x.shape[1:]))
    return x.reshape(len(x), width), y.reshape(len(y), width)
