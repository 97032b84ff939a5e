"""What traits explain of the answers, and by how much they move them: regressions of both sides on the same traits.

Figures of two sides are compared as they are used: who publishes a coefficient wants its sign and size to be the
humans', and these can be wrong where all shares are right (Bisbee et al. 2024). Pure.

Answers are codes on the integer positions of ordered options: hand in the ordinal items only. As in `groups`, what is
undefined anywhere makes a figure NaN; slice the arrays to leave something out.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from anthology_hub.errors import DataError, OptionError
from anthology_hub.groups import agreement
from anthology_hub.rows import BLOCK_BYTES, LEAST_VARIANCE, answer_codes, effective_people, weight_rows
from anthology_hub.schema import MISSING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray

LEAST_ROOT = 1e-9
"""Eigenvalue of the traits' correlations below which a direction is a sum of others; and 1 - leverage, and 1 - the
part of a coefficient that is told, below which they are 0."""


def dummies(
    levels: ArrayLike, n_levels: Sequence[int], *, reference: Sequence[int] | None = None
) -> NDArray[np.float64]:
    """Return trait dummies: for each trait one column of 0 and 1 for each level but the reference.

    Args:
        levels: Level 0..m-1 of each trait, shape (n, traits); MISSING where not known.
        n_levels: m of each trait.
        reference: Level of each trait without a column; 0 if not given. Take one that many people have, the same for
            both sides: the coefficients are differences from it.

    Returns:
        Shape (n, sum of m-1), trait by trait. The rows of people of whom any trait is not known are NaN; they are left
        out of every regression.

    Raises:
        DataError: If the shapes differ, or a level is outside its range.
        EmptyError: If there is nobody, or no trait.

    Example:
        >>> dummies([[0, 2], [1, 0], [-1, 1]], [2, 3]).tolist()
        [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [nan, nan, nan]]
    """
    codes, counts = answer_codes(levels, what="levels"), np.asarray(n_levels)
    left_out = np.zeros_like(counts) if reference is None else np.asarray(reference)
    if counts.shape != (codes.shape[1],) or left_out.shape != counts.shape:
        raise DataError(
            f"{codes.shape[1]} traits need as many numbers of levels and references, got {counts.tolist()} and "
            f"{left_out.tolist()}"
        )
    if (codes >= counts).any() or (left_out >= counts).any() or (left_out < 0).any():
        raise DataError(
            f"levels and references are 0..m-1 for m = {counts.tolist()}, got levels up to "
            f"{codes.max(axis=0).tolist()} and references {left_out.tolist()}"
        )
    columns = [codes[:, at] == level for at, m in enumerate(counts) for level in range(m) if level != left_out[at]]
    found = np.array(columns, dtype=np.float64).reshape(len(columns), len(codes)).T
    found[(codes == MISSING).any(axis=1)] = np.nan
    return found


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Regressions of every item on the same traits, for each row of weights."""

    coefficients: NDArray[np.float64]
    """In option steps, shape (rows, q, d); NaN where the data do not tell it from others."""
    explained: NDArray[np.float64]
    """R^2, the share of the item's variance that the traits explain, shape (rows, q); 0 to 1, NaN without variance."""
    adjusted: NDArray[np.float64]
    """R^2 less what chance explains by as many columns, shape (rows, q); 1 at most, about 0 if traits tell nothing."""
    spread: NDArray[np.float64]
    """SD of the item in option steps, shape (rows, q); NaN without data."""
    people: NDArray[np.float64]
    """Effective number of people whose answer and traits are known (Kish), shape (rows, q)."""


def fit(codes: ArrayLike, design: ArrayLike, weights: ArrayLike) -> Fit:
    """Fit each item to traits by weighted least squares, with an intercept, for each row of weights.

    The adjustment is 1 - (1 - R^2)(n - 1)/(n - r - 1) (Theil 1961) with r independent columns and n the
    effective number of people (Kish): what chance explains grows with unequal weights and with the repeats of a
    bootstrap draw, and so this leaves about 0 in all of them where traits tell nothing (exactly with equal weights,
    where it is the usual adjusted R^2; with others to the order of 1/n).

    Args:
        codes: Positions of the chosen options, shape (n, q); MISSING where there is none.
        design: Columns of sizes around 1, without the intercept, shape (n, d), as from `dummies`; a row with NaN
            leaves the person out. A column that others add up to, or that does not vary, costs nothing: its coefficient
            is NaN.
        weights: Shape (rows, n).

    Raises:
        DataError: If the shapes differ, or a column is infinite.
        EmptyError: If there is nobody, or no question.

    Example:
        >>> found = fit([[0], [1], [2], [3]], [[0], [0], [1], [1]], np.ones((1, 4)))
        >>> [round(float(value.ravel()[0]), 3) for value in (found.coefficients, found.explained, found.adjusted)]
        [2.0, 0.8, 0.7]
    """
    x, y, present = _checked(codes, design)
    rows = weight_rows(weights, len(y))
    coefficients = np.full((len(rows), y.shape[1], x.shape[1]), np.nan)
    explained, spread, rank = (np.full((len(rows), y.shape[1]), np.nan) for _ in range(3))
    for normal, items in _normals(x, rows, present):
        rank[:, items] = normal.rank[:, None]
        solved = _solved(_with_traits(rows, y[:, items], x), rows @ y[:, items] ** 2, normal)
        coefficients[:, items], explained[:, items], spread[:, items] = solved
    people = effective_people(rows, present)
    return Fit(
        coefficients=coefficients,
        explained=explained,
        adjusted=_adjusted(explained, people, rank),
        spread=spread,
        people=people,
    )


def fit_drawn(
    means: NDArray[np.float64], squares: NDArray[np.float64], cells: ArrayLike, design: ArrayLike, weights: ArrayLike
) -> Fit:
    """Fit what people would answer whose answers are drawn anew within their cells: in expectation, without drawing.

    So nothing is taken off the share that is explained, which is that of very many draws.

    Args:
        means: Of the positions among which answers are drawn, for each row of weights, shape (rows, cells, q).
        squares: Of their squares, as `means`.
        cells: Cell 0..C-1 of each person, shape (n,).
        design: As for `fit`.
        weights: Shape (rows, n).

    Raises:
        DataError: If the shapes differ, or a column is infinite.
        EmptyError: If there is nobody.

    Example:
        >>> drawn = np.array([[[0.5], [2.5]]])
        >>> found = fit_drawn(drawn, drawn**2 + 0.25, [0, 0, 1, 1], [[0], [0], [1], [1]], np.ones((1, 4)))
        >>> float(found.coefficients[0, 0, 0]), round(float(found.explained[0, 0]), 3)
        (2.0, 0.8)
    """
    where = np.asarray(cells)
    x, _, present = _checked(np.zeros((len(where), 1), dtype=np.int16), design)
    rows = weight_rows(weights, len(where)) * present[:, 0]
    ((normal, _),) = _normals(x, rows, present)
    parts = [np.flatnonzero(where == cell) for cell in range(means.shape[1])]
    mass = np.stack([_with_traits(rows[:, part], np.ones((len(part), 1)), x[part])[:, 0] for part in parts], axis=1)
    sums = np.einsum("rcd,rcq->rqd", mass, means)
    solved = _solved(sums, np.einsum("rc,rcq->rq", mass[..., 0], squares), normal)
    # Nobody is drawn: what the cells explain has no part that chance explains.
    return Fit(
        coefficients=solved[0],
        explained=solved[1],
        adjusted=solved[1],
        spread=solved[2],
        people=np.broadcast_to(effective_people(rows, present), solved[1].shape),
    )


def _adjusted(
    explained: NDArray[np.float64], people: NDArray[np.float64], rank: NDArray[np.number]
) -> NDArray[np.float64]:
    freedom = people - rank - 1
    chance = np.divide(people - 1, freedom, out=np.full_like(freedom, np.nan), where=freedom > LEAST_ROOT)
    return np.asarray(1 - (1 - explained) * chance)


def stereotype_index(simulated: Fit, human: Fit) -> dict[str, NDArray[np.float64]]:
    """Return how much more of the simulated answers is explained by traits than of the humans'.

    `explained_simulated`, `explained_human`: mean over the items of `Fit.adjusted`, about 0 to 1.
    `stereotype_index`: the first divided by the second. 1 is best, above 1 the model exaggerates what demographics
    tell, below 1 it ignores it. A ratio of means: an item of which demographics tell nothing would make its own ratio
    anything. Undefined where they explain nothing of the humans' answers beyond chance.

    Source: adjusted R squared is Ezekiel's (1930); the ratio of the two sides' is this package's own.

    Args:
        simulated: Of the same items and traits, shape (rows, q).
        human: As many rows, or 1.

    Returns:
        Each of shape (rows,) or, of 1 row of humans, (1,); NaN where an item is undefined.

    Raises:
        DataError: If the shapes do not fit.

    Example:
        >>> traits, ones = [[0], [0], [0], [1], [1], [1]], np.ones((1, 6))
        >>> human = fit([[0], [1], [1], [1], [2], [2]], traits, ones)
        >>> simulated = fit([[0], [0], [1], [2], [2], [1]], traits, ones)
        >>> {name: round(float(value[0]), 3) for name, value in stereotype_index(simulated, human).items()}
        {'explained_simulated': 0.583, 'explained_human': 0.412, 'stereotype_index': 1.417}
    """
    _check_sides(simulated.adjusted.shape, human.adjusted.shape)
    ours, theirs = simulated.adjusted.mean(axis=1), human.adjusted.mean(axis=1)
    beyond = np.where(theirs > LEAST_ROOT, theirs, np.nan)
    return {"explained_simulated": ours, "explained_human": theirs, "stereotype_index": ours / beyond}


def robust_interval(
    codes: ArrayLike, design: ArrayLike, weights: ArrayLike, *, level: float = 0.95
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return intervals of the coefficients of `fit`, right also where the spread differs between people.

    The coefficient plus and minus z standard errors by the sandwich with the residuals divided by 1 - leverage (HC3;
    MacKinnon and White 1985; Long and Ervin 2000 advise it for small samples; as in `statsmodels`). Strata and
    sampling units are not taken into account. Row by row, so meant for few; and give the survey weights themselves,
    since the repeats of a bootstrap draw count as spread here.

    Args:
        codes: As for `fit`.
        design: As for `fit`.
        weights: Shape (rows, n).
        level: Confidence, above 0 and below 1.

    Returns:
        Lower and upper ends, each of shape (rows, q, d), in option steps; NaN where the coefficient is undefined or
        hangs on one person alone.

    Raises:
        OptionError: If the level is not between 0 and 1.

    Example:
        >>> low, high = robust_interval([[0], [1], [2], [3]], [[0], [0], [1], [1]], np.ones((1, 4)))
        >>> round(float(low[0, 0, 0]), 2), round(float(high[0, 0, 0]), 2)
        (0.04, 3.96)
    """
    if not 0 < level < 1:
        raise OptionError(f"level must be above 0 and below 1, got {level}")
    x, y, present = _checked(codes, design)
    rows = weight_rows(weights, len(y))
    centre, errors = fit(codes, design, rows).coefficients, np.full((len(rows), y.shape[1], x.shape[1]), np.nan)
    for row, item in np.ndindex(len(rows), y.shape[1]):
        there = present[:, item]
        errors[row, item] = _robust_errors(x[there], y[there, item], rows[row, there])
    reach = NormalDist().inv_cdf((1 + level) / 2) * errors
    return centre - reach, centre + reach


def coefficient_agreement(
    simulated: Fit, human: Fit, interval: tuple[NDArray[np.float64], NDArray[np.float64]]
) -> dict[str, NDArray[np.float64]]:
    """Return how far the coefficients of two sides agree, all in SDs of the human item.

    `mean_absolute_difference`, `correlation` and `same_sign` as in `groups.agreement`; `inside_interval`: share of the
    simulated coefficients that lie in the humans' interval, 0 to 1, 1 is best. Of a second sample of people of the
    same size about 0.83 lie inside a 95 % interval, as both samples vary; and the fewer the humans, the wider.

    Source: Bisbee et al. 2024 compare the coefficients of synthetic respondents with the humans' by sign and interval;
    0.83 is the chance that one sample's mean lies in the interval of another's (Cumming and Maillardet 2006).

    Args:
        simulated: Of the same items and traits, shape (rows, q, d).
        human: As many rows, or 1.
        interval: Of the humans, from `robust_interval`; 1 row.

    Returns:
        Each of shape (rows,); NaN where a coefficient is undefined or there is none.

    Raises:
        DataError: If the shapes do not fit.

    Example:
        >>> traits, ones = [[0], [0], [1], [1]], np.ones((1, 4))
        >>> codes = [[0], [1], [2], [3]]
        >>> human, interval = fit(codes, traits, ones), robust_interval(codes, traits, ones)
        >>> figures = coefficient_agreement(fit([[0], [0], [2], [1]], traits, ones), human, interval)
        >>> {name: round(float(value[0]), 3) for name, value in figures.items()}
        {'mean_absolute_difference': 0.447, 'correlation': 1.0, 'same_sign': 1.0, 'inside_interval': 1.0}
    """
    for shape in (human.coefficients.shape, *(end.shape for end in interval)):
        _check_sides(simulated.coefficients.shape, shape)
    scale = np.where(human.spread > 0, human.spread, np.nan)[..., None]
    found = agreement(simulated.coefficients / scale, human.coefficients / scale)
    low, high = interval
    inside = (low <= simulated.coefficients) & (simulated.coefficients <= high)
    told = np.where(np.isnan(simulated.coefficients + low), np.nan, inside).reshape(len(simulated.coefficients), -1)
    share = told.mean(axis=1) if told.shape[1] else np.full(len(told), np.nan)
    return {**found, "inside_interval": share}


def _check_sides(simulated: tuple[int, ...], human: tuple[int, ...]) -> None:
    if simulated[1:] != human[1:] or human[0] not in (1, simulated[0]):
        raise DataError(
            f"simulated fits of shape {simulated} and human ones of {human} do not compare: give the same items, "
            "traits and rows of weights for both, or one row of humans"
        )


def _checked(codes: ArrayLike, design: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Return traits and answers, centred where they are known and 0 elsewhere, and where both are known."""
    answers, x = answer_codes(codes), np.asarray(design, dtype=np.float64)
    if x.ndim != 2 or len(x) != len(answers):
        raise DataError(f"traits of shape {x.shape} do not fit {len(answers)} people: give ({len(answers)}, columns)")
    if np.isinf(x).any():
        raise DataError("traits must be finite numbers, or NaN where not known, got an infinite one")
    known = np.asarray(~np.isnan(x).any(axis=1))
    present = (answers != MISSING) & known[:, None]
    return _centred(x, known[:, None] & np.ones_like(x, dtype=bool)), _centred(answers, present), present


def _centred(values: NDArray[np.generic], present: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Subtract the plain mean, so that squares keep their digits."""
    there = np.where(present, values, 0).astype(np.float64)
    return np.where(present, there - there.sum(axis=0) / np.maximum(present.sum(axis=0), 1), 0)


@dataclass(frozen=True, kw_only=True)
class _Normal:
    """The traits' side of the normal equations, for each row of weights."""

    share: NDArray[np.float64]
    """1 / mass of those present, 0 if there is none, shape (rows, 1)."""
    mean: NDArray[np.float64]
    """Shape (rows, d)."""
    inverse: NDArray[np.float64]
    """Pseudo-inverse of the covariance of the traits, shape (rows, d, d)."""
    rank: NDArray[np.int64]
    """Shape (rows,)."""
    told: NDArray[np.bool_]
    """Whether a coefficient is determined, shape (rows, d)."""


def _normals(
    x: NDArray[np.float64], weights: NDArray[np.float64], present: NDArray[np.bool_]
) -> Iterator[tuple[_Normal, NDArray[np.int64]]]:
    """Yield the traits' side of the equations and the items it is of: all that the same people answered share it."""
    kinds, which = np.unique(present, axis=1, return_inverse=True)
    at_once = max(1, BLOCK_BYTES // (8 * len(weights) * (1 + x.shape[1]) ** 2))
    for start in range(0, kinds.shape[1], at_once):
        sums = _with_traits(weights, kinds[:, start : start + at_once].astype(np.float64), x, products=True)
        for at in range(sums.shape[1]):
            yield _normal(sums[:, at], x.shape[1]), np.flatnonzero(which == start + at)


def _normal(sums: NDArray[np.float64], columns: int) -> _Normal:
    """Sums over those present, for each row of weights: of 1, of each trait, of each product of two."""
    first, second = np.triu_indices(columns)
    mass = sums[:, :1]
    share = np.divide(1.0, mass, out=np.zeros_like(mass), where=mass > 0)
    mean = sums[:, 1 : 1 + columns] * share
    covariance = np.empty((len(sums), columns, columns))
    covariance[:, first, second] = sums[:, 1 + columns :] * share - mean[:, first] * mean[:, second]
    covariance[:, second, first] = covariance[:, first, second]
    inverse, rank, told = _pseudo_inverse(covariance)
    return _Normal(share=share, mean=mean, inverse=inverse, rank=rank, told=told)


def _with_traits(
    weights: NDArray[np.float64], values: NDArray[np.float64], x: NDArray[np.float64], *, products: bool = False
) -> NDArray[np.float64]:
    """Sum the values and their products with each trait, in blocks of people, shape (rows, values, 1 + d).

    With `products` also those with each product of two traits, shape (rows, values, 1 + d + d(d+1)/2).
    """
    first, second = np.triu_indices(x.shape[1] if products else 0)
    width = 1 + x.shape[1] + len(first)
    found = np.zeros((len(weights), values.shape[1] * width))
    step = max(1, BLOCK_BYTES // (8 * max(1, (1 + values.shape[1]) * width)))
    for start in range(0, len(x), step):
        block = slice(start, start + step)
        part = x[block]
        traits = np.hstack([np.ones((len(part), 1)), part, part[:, first] * part[:, second]])
        found += weights[:, block] @ (values[block, :, None] * traits[:, None]).reshape(len(traits), -1)
    return found.reshape(len(weights), values.shape[1], width)


def _pseudo_inverse(
    covariance: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.bool_]]:
    """Invert what can be inverted: the inverse, the rank, and which coordinates are determined."""
    variance = np.diagonal(covariance, axis1=1, axis2=2)
    scale = np.divide(1.0, np.sqrt(np.abs(variance)), out=np.zeros_like(variance), where=variance > LEAST_VARIANCE)
    both = scale[:, :, None] * scale[:, None, :]
    roots, vectors = np.linalg.eigh(covariance * both)
    kept = roots > LEAST_ROOT
    inverted = np.divide(1.0, roots, out=np.zeros_like(roots), where=kept)
    inverse = (vectors * inverted[:, None, :]) @ vectors.swapaxes(1, 2) * both
    return inverse, kept.sum(axis=1), ((vectors**2) @ kept[:, :, None])[:, :, 0] > 1 - LEAST_ROOT


def _solved(
    sums: NDArray[np.float64], squares: NDArray[np.float64], normal: _Normal
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Coefficients (rows, q, d), R^2 and SD (rows, q) of items that the same people answered.

    Args:
        sums: Of the answers and of their products with each trait, shape (rows, q, 1 + d), as from `_with_traits`.
        squares: Of the squares of the answers, shape (rows, q).
        normal: Of the people who answered.
    """
    moments = sums * normal.share[:, :, None]
    first, cross = moments[..., 0], moments[..., 1:]
    variance = squares * normal.share - first**2
    varies = variance > LEAST_VARIANCE
    cross = np.where(varies[..., None], cross - normal.mean[:, None] * first[..., None], 0.0)
    beta = cross @ normal.inverse
    squared = np.divide((beta * cross).sum(axis=2), variance, out=np.full_like(variance, np.nan), where=varies)
    spread = np.where(normal.share == 0, np.nan, np.sqrt(np.where(varies, variance, 0.0)))
    return np.where(normal.told[:, None], beta, np.nan), np.clip(squared, 0, 1), spread


def _robust_errors(x: NDArray[np.float64], y: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard errors of the coefficients of one item, shape (d,), from those who answered it."""
    ((normal, _),) = _normals(x, weights[None], np.ones((len(y), 1), dtype=bool))
    solved = _solved(_with_traits(weights[None], y[:, None], x), weights[None] @ y[:, None] ** 2, normal)
    beta = np.nan_to_num(solved[0][0, 0])
    share = weights * normal.share[0, 0]
    centred, inverse = x - normal.mean[0], normal.inverse[0]
    pull = centred @ inverse
    leverage = share * (1 + (pull * centred).sum(axis=1))
    alone = leverage > 1 - LEAST_ROOT
    residuals = np.where(alone, 0.0, y - share @ y - centred @ beta) / np.where(alone, 1.0, 1 - leverage)
    influence = pull * share[:, None]
    errors = np.sqrt(((influence * residuals[:, None]) ** 2).sum(axis=0))
    told = normal.told[0] & ~(np.abs(influence[alone]) > LEAST_ROOT).any(axis=0)
    return np.where(told, errors, np.nan)
