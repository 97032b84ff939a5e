"""Chance: half-splits and bootstrap samples as rows of weights, and what their draws say: intervals, probabilities.

A row says how much each person counts; every figure takes many rows at once (`AnswerTable`). The same seed gives the
same rows, so that two runs with the same people are compared draw by draw.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from anthology_hub.errors import DataError, OptionError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Rows: TypeAlias = NDArray[np.float64] | NDArray[np.int32] | NDArray[np.int16] | NDArray[np.bool_]
    """How much each person counts, shape (rows, n)."""

ADJUSTMENTS = ("holm", "bh")


# -- rows of weights -------------------------------------------------------------------------------------------------


def half_splits(n: int, splits: int, *, seed: int = 0) -> NDArray[np.bool_]:
    """Draw random half-splits: True marks the first half, of floor(n/2) people.

    Returns:
        Masks of shape (splits, n).

    Raises:
        OptionError: If there are fewer than two people or no split.

    Example:
        >>> half_splits(5, 3).sum(axis=1).tolist()
        [2, 2, 2]
    """
    if n < 2 or splits < 1:
        raise OptionError(f"half-splits need at least 2 people and 1 split, got {n} people and {splits} splits")
    order = np.random.default_rng(seed).random((splits, n)).argsort(axis=1)
    return np.asarray(order < n // 2)


def samples(n: int, size: int, draws: int, *, seed: int = 0) -> NDArray[np.int32]:
    """Draw how often each of n people appears in random samples of `size` people like them, shape (draws, n).

    With replacement, as from a population of which these people are all that is known: so samples may have any size.

    Raises:
        OptionError: If there is nobody, or a sample of nobody.

    Example:
        >>> samples(5, 2, 4).sum(axis=1).tolist()
        [2, 2, 2, 2]
    """
    if n < 1 or size < 1:
        raise OptionError(f"cannot draw {size} of {n} people: at least 1 of at least 1 is needed")
    rng = np.random.default_rng(seed)
    return np.stack([np.bincount(rng.integers(n, size=size), minlength=n) for _ in range(draws)]).astype(np.int32)


def bootstrap_counts(
    n: int,
    draws: int,
    *,
    seed: int = 0,
    strata: NDArray[np.int64] | None = None,
    psu: NDArray[np.int64] | None = None,
) -> Rows:
    """Draw how much each person counts in bootstrap samples.

    Without a design, how often each appears in a sample of n with replacement (whole numbers, which `AnswerTable` adds
    up fastest). With one, the rescaling bootstrap (Rao and Wu 1988; Rao, Wu and Yue 1992): of the m sampling units of a
    stratum m-1 are drawn with replacement, and each person of a unit counts m/(m-1) times the draws of the unit. The
    only unit of a stratum always counts 1. For roles of which several share a persona, the personas are the units:
    `psu=` the number of each role's persona.

    Args:
        n: People.
        draws: Samples.
        seed: Seed of the draws.
        strata: Stratum of each person, shape (n,); None: one.
        psu: Sampling unit of each person, shape (n,), distinct across strata; None: every person is one.

    Returns:
        Shape (draws, n); without a design each row sums to n.

    Raises:
        OptionError: If there is nobody, or no draw.
        DataError: If strata or units do not fit the people, or a unit lies in two strata.

    Example:
        >>> bootstrap_counts(4, 2).sum(axis=1).tolist()
        [4, 4]
        >>> bootstrap_counts(4, 1, psu=np.array([0, 0, 1, 1])).tolist()
        [[2.0, 2.0, 0.0, 0.0]]
    """
    if n < 1 or draws < 1:
        raise OptionError(f"a bootstrap needs at least 1 person and 1 draw, got {n} people and {draws} draws")
    rng = np.random.default_rng(seed)
    if strata is None and psu is None:
        return _plain_counts(n, draws, rng)
    units, which = np.unique(np.arange(n) if psu is None else _each(psu, n, "sampling units"), return_inverse=True)
    stratum = _strata_of(
        which, len(units), np.zeros(n, dtype=np.int64) if strata is None else _each(strata, n, "strata")
    )
    counts = np.ones((draws, len(units)))
    for one in np.unique(stratum):
        inside = np.flatnonzero(stratum == one)
        if (m := len(inside)) > 1:
            counts[:, inside] = rng.multinomial(m - 1, np.full(m, 1 / m), size=draws) * (m / (m - 1))
    return np.asarray(counts[:, which])


def _plain_counts(n: int, draws: int, rng: np.random.Generator) -> NDArray[np.int16]:
    # Two bytes a count: a thousand samples of ten thousand people take 20 MB.
    counts = np.empty((draws, n), dtype=np.int16)
    for row in counts:
        row[:] = np.bincount(rng.integers(n, size=n), minlength=n)
    return counts


def _each(given: ArrayLike, n: int, what: str) -> NDArray[np.int64]:
    array = np.asarray(given)
    if array.shape != (n,):
        raise DataError(f"{what} of shape {array.shape} do not fit {n} people: give one for each")
    return array


def _strata_of(which: NDArray[np.int64], units: int, strata: NDArray[np.int64]) -> NDArray[np.int64]:
    _, number = np.unique(strata, return_inverse=True)
    found = np.zeros(units, dtype=np.int64)
    found[which] = number
    if (found[which] != number).any():
        torn = int(np.flatnonzero(found[which] != number)[0])
        raise DataError(f"the sampling unit of person {torn} lies in two strata: number units anew in each stratum")
    return found


def crossed_counts(counts: Rows, personas: NDArray[np.int64], *, seed: int = 0) -> NDArray[np.float64]:
    """Let the personas be drawn as well: multiply draws of the people by draws of the personas that stand in for them.

    People and personas are two crossed samples, and a figure varies with both. The product of independent draws allows
    for both (the pigeonhole bootstrap: Owen 2007; Owen and Eckles 2012); it errs on the wide side.

    Args:
        counts: Draws of the people, shape (draws, n).
        personas: Number of each person's persona, shape (n,); the same number: the same persona.
        seed: Of the personas' draws; another than that of the people.

    Returns:
        Shape (draws, n).

    Raises:
        DataError: If the personas do not fit the people.

    Example:
        >>> both = crossed_counts(bootstrap_counts(4, 500), np.array([0, 0, 1, 2]), seed=1)
        >>> both.shape, bool((both[:, 0] > 0).any())
        ((500, 4), True)
    """
    draws, n = counts.shape
    units = bootstrap_counts(n, draws, seed=seed, psu=_each(personas, n, "personas"))
    return np.asarray(counts * units, dtype=np.float64)


def means(values: Mapping[str, NDArray[np.float64]]) -> dict[str, float]:
    """Return the mean of each figure over the rows in which it is defined; NaN where it is in none.

    Example:
        >>> means({"wd": np.array([0.1, np.nan, 0.3])})
        {'wd': 0.2}
    """
    kept = {name: value[~np.isnan(value)] for name, value in values.items()}
    return {name: float(value.mean()) if len(value) else float("nan") for name, value in kept.items()}


# -- intervals and probabilities -------------------------------------------------------------------------------------


def interval(
    estimate: float, draws: ArrayLike, *, level: float = 0.95, least: float | None = None
) -> tuple[float, float]:
    """Return the normal bootstrap interval: the estimate plus and minus z standard deviations of the draws.

    Percentile intervals are wrong for a distance: resampling adds noise, so every draw lies above the estimate, and
    the reversed ones shift it twice as far down (Efron and Tibshirani 1993, sections 13.3 and 14.3). Undefined draws
    are left out; NaN if fewer than two are left.

    Args:
        estimate: The value on the data themselves.
        draws: Values on bootstrap samples, shape (draws,).
        level: Confidence, above 0 and below 1.
        least: Smallest possible value; the interval is cut there.

    Raises:
        OptionError: If the level is out of range.

    Example:
        >>> low, high = interval(1.0, [0.5, 1.0, 1.5])
        >>> round(low, 2), round(high, 2)
        (0.02, 1.98)
    """
    _check_level(level)
    kept = _defined(draws)
    if len(kept) < 2 or np.isnan(estimate):
        return float("nan"), float("nan")
    reach = NormalDist().inv_cdf((1 + level) / 2) * float(kept.std(ddof=1))
    low = estimate - reach
    return (low if least is None else max(low, least)), estimate + reach


def shifted_interval(
    estimate: float, draws: ArrayLike, *, level: float = 0.95, least: float | None = None
) -> tuple[float, float]:
    """Return the interval of a figure that chance pulls to one side: `interval`, moved back by as much.

    What chance does to the figure, resampling does once more: the mean of the draws lies as far from the estimate as
    the estimate from the truth (Efron and Tibshirani 1993, section 10.2). It reaches to the estimate at least, which
    stays as measured. NaN if fewer than two draws are defined.

    Args:
        estimate: The value on the data themselves.
        draws: Values on bootstrap samples, shape (draws,).
        level: Confidence, above 0 and below 1.
        least: Smallest possible value; the interval is cut there.

    Raises:
        OptionError: If the level is out of range.

    Example:
        >>> low, high = shifted_interval(1.0, [0.8, 0.9, 1.0])
        >>> round(low, 2), round(high, 2)
        (0.9, 1.3)
    """
    kept = _defined(draws)
    if len(kept) < 2:
        return interval(estimate, draws, level=level)
    low, high = interval(2 * estimate - float(kept.mean()), kept, level=level, least=least)
    return min(low, estimate), max(high, estimate)


def distance_interval(
    estimate: float, draws: ArrayLike, *, level: float = 0.95, most: float = np.inf
) -> tuple[float, float]:
    """Return the interval of a distance, which chance can only make larger: `interval` above, less the bias below.

    Sampling adds its variance to the square of a distance, and resampling adds it once more. So 2 d^2 minus the mean of
    the squared draws estimates the true square, for any norm and down to a true distance of 0; the lower end is normal
    on that scale, and 0 where it is negative. The upper end is that of `interval`, safe since the estimate is too high
    if anything. Undefined draws are left out; NaN if fewer than two are left.

    Args:
        estimate: The distance on the data themselves, at least 0.
        draws: Distances on bootstrap samples, shape (draws,).
        level: Confidence, above 0 and below 1.
        most: Largest possible value; the interval is cut there.

    Raises:
        OptionError: If the level is out of range.

    Example:
        >>> low, high = distance_interval(1.0, [0.8, 1.0, 1.2])
        >>> round(low, 2), round(high, 2)
        (0.43, 1.39)
        >>> distance_interval(0.1, [0.1, 0.15, 0.2])[0]
        0.0
    """
    low, high = interval(estimate, draws, level=level)
    if np.isnan(high):
        return low, high
    squares = _defined(draws) ** 2
    reach = NormalDist().inv_cdf((1 + level) / 2) * float(squares.std(ddof=1))
    return _less_chance(estimate, squares, reach), min(high, most)


def without_chance(estimate: float, draws: ArrayLike) -> float:
    """Return a distance less what chance adds to it, from 0 to the estimate: the middle of `distance_interval`.

    Distances of small samples are larger than those of large ones by chance alone; less it, they can be compared. NaN
    if fewer than two draws are defined.

    Args:
        estimate: The distance on the data themselves, at least 0.
        draws: Distances on bootstrap samples, shape (draws,).

    Example:
        >>> round(without_chance(1.0, [0.8, 1.0, 1.2]), 2), without_chance(0.1, [0.1, 0.15, 0.2])
        (0.99, 0.0)
    """
    kept = _defined(draws)
    return _less_chance(estimate, kept**2, 0.0) if len(kept) > 1 and not np.isnan(estimate) else float("nan")


def _less_chance(estimate: float, squares: NDArray[np.float64], reach: float) -> float:
    square = 2 * estimate**2 - float(squares.mean()) - reach
    return float(min(max(square, 0.0) ** 0.5, estimate))


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A figure and its interval."""

    value: float
    low: float
    high: float


def difference_interval(one: Estimate, other: Estimate) -> tuple[float, float]:
    """Return the interval of one figure minus another of other people, from the intervals of both.

    Each end lies as far from the difference as the two ends that make it lie from theirs, squares added (MOVER: Zou and
    Donner 2008, Statistics in Medicine 27:1693-1702). So it keeps the shape of intervals that are longer on one side,
    as those of distances are, and for even ones it is the normal interval. NaN if an end is.

    Example:
        >>> difference_interval(Estimate(value=5, low=2, high=9), Estimate(value=1, low=0, high=5))
        (-1.0, 8.123105625617661)
    """
    difference = one.value - other.value
    below = np.hypot(one.value - one.low, other.high - other.value)
    above = np.hypot(one.high - one.value, other.value - other.low)
    return float(difference - below), float(difference + above)


def distances_interval(one: float, other: float, draws: ArrayLike, *, level: float = 0.95) -> tuple[float, float]:
    """Return the interval of one distance minus another that was measured on the same people.

    What chance adds to both drops out of their difference only where both are as large. So one end is that of the
    normal interval, the other as much further out as the difference less chance is (`without_chance`; of the smaller
    distance nothing is left, if its own interval reaches 0). NaN if fewer than two draws are defined. How often it
    holds the true difference: `scripts/check_intervals.py --more`.

    Args:
        one: The distance on the data themselves, at least 0.
        other: The distance from which it is told apart.
        draws: Both on the same bootstrap samples, shape (2, draws).
        level: Confidence, above 0 and below 1.

    Raises:
        OptionError: If the level is out of range.

    Example:
        >>> draws = [[0.1, 0.14, 0.18], [0.9, 1.0, 1.1]]
        >>> [round(end, 2) for end in distances_interval(0.1, 1.0, draws)]
        [-1.11, -0.78]
    """
    both = np.asarray(draws, dtype=np.float64)
    both = both[:, ~np.isnan(both).any(axis=0)]
    low, high = interval(one - other, both[0] - both[1], level=level)
    if np.isnan(low):
        return low, high
    less = [without_chance(value, row) for value, row in zip((one, other), both, strict=True)]
    near = int(other < one)
    if one != other and distance_interval((one, other)[near], both[near], level=level)[0] == 0:
        less[near] = 0.0
    moved = (less[0] - less[1]) - (one - other)
    return low + min(moved, 0.0), high + max(moved, 0.0)


def probability_below(differences: ArrayLike, *, estimate: float | None = None) -> float:
    """Return the probability that a difference is below 0: the share of bootstrap draws below, ties half.

    Of paired draws of two distances, one minus the other: the probability that the first is smaller. 0 to 1; NaN
    without a defined draw.

    Args:
        differences: Draws of one figure minus those of another, with the same rows, shape (draws,).
        estimate: The difference on the data themselves. Resampling adds noise, and more of it to the smaller distance,
            so the draws lie too near 0: with it, they are moved so that their mean is the estimate, as in `interval`.

    Example:
        >>> probability_below([-2.0, -1.0, 0.0, 1.0])
        0.625
    """
    kept = _moved(differences, estimate)
    if not len(kept):
        return float("nan")
    return float((kept < 0).mean() + (kept == 0).mean() / 2)


def adjust(p_values: ArrayLike, method: str = "holm") -> NDArray[np.float64]:
    """Return p-values that allow for how many there are, for one decision over many items.

    `holm` keeps the chance of even one false claim below the level (Holm 1979); `bh` keeps the expected share of false
    claims below it (Benjamini and Hochberg 1995). 0 to 1, none smaller than before. Undefined ones stay NaN and do not
    count.

    Raises:
        OptionError: If the method is unknown.
        DataError: If a p-value lies outside 0 to 1.

    Example:
        >>> adjust([0.01, 0.04, 0.03]).tolist()
        [0.03, 0.06, 0.06]
    """
    if method not in ADJUSTMENTS:
        raise OptionError(f"unknown adjustment {method!r}: allowed are {', '.join(ADJUSTMENTS)}")
    p = np.asarray(p_values, dtype=np.float64)
    kept = ~np.isnan(p)
    if (p[kept] < 0).any() or (p[kept] > 1).any():
        wrong = p[kept][(p[kept] < 0) | (p[kept] > 1)][0]
        raise DataError(f"p-values must lie between 0 and 1, got {wrong}")
    adjusted = np.full_like(p, np.nan)
    if kept.any():
        adjusted[kept] = _holm(p[kept]) if method == "holm" else _benjamini_hochberg(p[kept])
    return adjusted


def _holm(p: NDArray[np.float64]) -> NDArray[np.float64]:
    order = p.argsort(kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def _benjamini_hochberg(p: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.stats import false_discovery_control

    return np.asarray(false_discovery_control(p, method="bh"))


# -- repeated runs ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Pooled:
    """One figure from runs that differ in their seed alone."""

    value: float
    """Mean over the runs."""
    low: float
    high: float
    between: float
    """Standard deviation over the runs; NaN of a single one."""
    within: float
    """Standard error that all runs share: of the same people."""
    runs: int


def pool_seeds(values: Sequence[float], *, within: Sequence[float] = (), level: float = 0.95) -> Pooled:
    """Pool a figure over replicate seeds: mean, and a t interval over seeds and people.

    The variance of the mean over m seeds is `between`^2 / m plus the squared standard error `within` that the people
    bring, which more seeds do not make smaller; the degrees of freedom are Satterthwaite's (1946). Standard errors of
    a run hold some of its seed's chance as well, so the interval errs on the wide side. Without `within` it is the t
    interval of the mean over seeds. Low and high are NaN for fewer than two runs.

    Args:
        values: The figure in each run; undefined ones are left out.
        within: Standard error of each run's figure (of its bootstrap draws); empty: none.
        level: Confidence, above 0 and below 1.

    Raises:
        OptionError: If the level is out of range.
        DataError: If there is not one standard error for each run.

    Example:
        >>> pooled = pool_seeds([0.1, 0.2, 0.3])
        >>> round(pooled.value, 3), round(pooled.low, 3), round(pooled.high, 3), pooled.runs
        (0.2, -0.048, 0.448, 3)
    """
    from scipy.stats import t

    _check_level(level)
    figures, errors = np.asarray(values, dtype=np.float64), np.asarray(within, dtype=np.float64)
    if errors.size and errors.shape != figures.shape:
        raise DataError(f"{errors.size} standard errors do not fit {figures.size} runs: give one for each")
    kept = ~np.isnan(figures)
    m, figures = int(kept.sum()), figures[kept]
    value = float(figures.mean()) if m else float("nan")
    between = float(figures.std(ddof=1)) if m > 1 else float("nan")
    shared = float(np.sqrt((errors[kept] ** 2).mean())) if errors.size and m else 0.0
    reach = float("nan")
    if m > 1:
        seeds, total = between**2 / m, between**2 / m + shared**2
        # Seeds that all agree bring no chance of their own: what is left is normal.
        freedom = (m - 1) * (total / seeds) ** 2 if seeds > 0 else np.inf
        reach = float(t.ppf((1 + level) / 2, freedom)) * total**0.5
    return Pooled(value=value, low=value - reach, high=value + reach, between=between, within=shared, runs=m)


def pooled_t_reach(deviations: ArrayLike, runs: ArrayLike, *, level: float = 0.95) -> NDArray[np.float64]:
    """Return half-widths of t intervals of means over few runs, with one deviation pooled over all conditions.

    Conditions of two or three runs each say little about their own spread, together they say more: the deviation is
    pooled by degrees of freedom, sqrt(sum df s^2 / sum df), as popfidelity 0.1 does. At least 0; NaN for a condition
    of fewer than two runs.

    Args:
        deviations: Standard deviation over the runs of each condition, shape (conditions,); NaN of a single one.
        runs: Number of runs of each condition, shape (conditions,).
        level: Confidence, above 0 and below 1.

    Raises:
        OptionError: If the level is out of range.

    Example:
        >>> pooled_t_reach([0.1, 0.1], [3, 3]).round(4).tolist()
        [0.1603, 0.1603]
    """
    from scipy.stats import t

    _check_level(level)
    s, n = np.asarray(deviations, dtype=np.float64), np.asarray(runs, dtype=np.float64)
    freedom = np.where(np.isnan(s), 0.0, np.maximum(n - 1, 0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        pooled = np.sqrt((freedom * np.nan_to_num(s) ** 2).sum() / freedom.sum())
        reach = t.ppf((1 + level) / 2, freedom.sum()) * pooled / np.sqrt(n)
    return np.where(freedom > 0, reach, np.nan)


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise OptionError(f"level must be above 0 and below 1, got {level}")


def _defined(draws: ArrayLike) -> NDArray[np.float64]:
    kept = np.asarray(draws, dtype=np.float64)
    return kept[~np.isnan(kept)]


def _moved(differences: ArrayLike, estimate: float | None) -> NDArray[np.float64]:
    kept = _defined(differences)
    if estimate is None or not len(kept):
        return kept
    return np.zeros(0) if np.isnan(estimate) else kept - kept.mean() + estimate
