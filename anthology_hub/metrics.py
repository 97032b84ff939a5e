"""Arrays to numbers: distances between answer distributions and correlation matrices, concentration, consistency.

Definitions follow Anthology (Moon et al., EMNLP 2024, section 4 and the released analysis code): options sit on the
integer positions 1..K, the Wasserstein distance is *not* divided by K-1, the Frobenius norm runs over the whole matrix.
The other measures are those of popfidelity 0.1 where both have them, equal to 1e-9.

Shares and correlations of answers come from `answer_table`, intervals from `resampling`. NaN means undefined here; the
callers say so in words. Shares that are none (negative, not adding up to 1) and sides of different K are refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from anthology_hub.errors import DataError, OptionError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

ROUNDING = 1e-6
"""By which shares may miss a sum of 1."""

SMOOTHING = 1e-9
"""Added to every share before a Kullback-Leibler divergence."""

SWEEPS = 300
CLOSE = 1e-12
"""The one-factor solution ends when no loading moves further, at the latest after so many sweeps; it takes some 30, and
more only where there is hardly one factor."""


# -- distances between answer distributions --------------------------------------------------------------------------


def wasserstein(p: ArrayLike, q: ArrayLike) -> NDArray[np.float64]:
    """Return the 1-Wasserstein distance between distributions over ordered options, in option steps.

    The sum over the first K-1 options of the absolute difference of the cumulative shares (method of Anthology). 0 is
    best, K-1 the worst; divide by K-1 for the normalised distance of OpinionQA. NaN where a side has no data.

    Args:
        p: Shares, shape (..., K), summing to 1.
        q: Shares of the same shape, or broadcastable to it.

    Raises:
        DataError: If the sides have different options, or shares are none.

    Example:
        >>> float(wasserstein([1, 0, 0], [0, 0, 1]))
        2.0
    """
    return np.asarray(np.abs(_steps(*_pair(p, q))).sum(axis=-1))


def ordinal_emd(p: ArrayLike, q: ArrayLike, positions: ArrayLike | None = None) -> NDArray[np.float64]:
    """Return the earth mover's distance of one question's options on a scale, as a share of the scale.

    The Wasserstein distance with gaps between neighbouring positions, divided by the span of the positions. Options
    off the scale ("not sure") are left out on both sides and the rest made to sum to 1 (SubPOP: Suh et al. 2025). 0 is
    best, 1 the worst. NaN where a side has no data on the scale. Report the share off the scale beside it.

    Args:
        p: Shares, shape (..., K), summing to 1.
        q: Shares of the same shape, or broadcastable to it.
        positions: Of the options, in any order, shape (K,); NaN for options off the scale. None: 1..K.

    Raises:
        DataError: If the sides have different options, shares are none, or fewer than two positions differ.

    Example:
        >>> round(float(ordinal_emd([0.5, 0, 0, 0.5], [0, 0, 0.8, 0.2], positions=[1, 2, 5, np.nan])), 6)
        1.0
    """
    a, b = _pair(p, q)
    at = np.arange(a.shape[-1], dtype=np.float64) if positions is None else np.asarray(positions, dtype=np.float64)
    if at.shape != a.shape[-1:] or np.isinf(at).any():
        raise DataError(
            f"positions {at.tolist()} do not fit {a.shape[-1]} options: give one for each, NaN off the scale"
        )
    order = at.argsort()[: int((~np.isnan(at)).sum())]
    gaps = np.diff(at[order])
    if not gaps.sum() > 0:
        raise DataError(f"positions {at.tolist()} make no scale: at least two must differ")
    with np.errstate(invalid="ignore"):
        a, b = (side[..., order] / side[..., order].sum(axis=-1, keepdims=True) for side in (a, b))
    return np.asarray((np.abs(_steps(a, b)) * gaps).sum(axis=-1) / gaps.sum())


def total_variation(p: ArrayLike, q: ArrayLike) -> NDArray[np.float64]:
    """Return the total variation distance: half the sum of absolute differences of shares.

    The share of people who would have to change their answer; it needs no order of the options (Meister et al. 2025
    call it distributional alignment). 0 is best, 1 means that no option is shared. NaN where a side has no data.

    Args:
        p: Shares, shape (..., K), summing to 1.
        q: Shares of the same shape, or broadcastable to it.

    Raises:
        DataError: If the sides have different options, or shares are none.

    Example:
        >>> float(total_variation([0.5, 0.5, 0], [0.25, 0.5, 0.25]))
        0.25
    """
    a, b = _pair(p, q)
    return np.asarray(np.abs(a - b).sum(axis=-1) / 2)


def kl(p: ArrayLike, q: ArrayLike, *, smoothing: float = SMOOTHING) -> NDArray[np.float64]:
    """Return the Kullback-Leibler divergence of p from q in bits: the sum of p log2(p / q).

    What describing p by q costs (Kullback and Leibler 1951); give the humans as p. Not symmetric. `smoothing` is added
    to every share and the shares made to sum to 1 again: without it the divergence is infinite as soon as q never gives
    an option that p gives, and with it the figure depends on its size, so report both. 0 is best, there is no upper
    bound. NaN where a side has no data.

    Args:
        p: Shares, shape (..., K), summing to 1.
        q: Shares of the same shape, or broadcastable to it.
        smoothing: At least 0.

    Raises:
        DataError: If the sides have different options, or shares are none.
        OptionError: If the smoothing is negative or not finite.

    Example:
        >>> float(kl([0.5, 0.5], [0.25, 0.75], smoothing=0).round(4)), float(kl([1, 0], [0, 1], smoothing=0))
        (0.2075, inf)
    """
    if not 0 <= smoothing < np.inf:
        raise OptionError(f"smoothing must be finite and at least 0, got {smoothing}")
    a, b = (side + smoothing for side in _pair(p, q))
    return _bits(a / a.sum(axis=-1, keepdims=True), b / b.sum(axis=-1, keepdims=True))


def jensen_shannon(p: ArrayLike, q: ArrayLike) -> NDArray[np.float64]:
    """Return the Jensen-Shannon distance between distributions: the square root of the divergence in bits.

    It needs no order of the options (Lin 1991; Endres and Schindelin 2003; GlobalOpinionQA compares with it). 0 is
    best, 1 means that no option is shared. NaN where a side has no data.

    Args:
        p: Shares, shape (..., K), summing to 1.
        q: Shares of the same shape, or broadcastable to it.

    Raises:
        DataError: If the sides have different options, or shares are none.

    Example:
        >>> float(jensen_shannon([1, 0, 0], [0, 0, 1])), float(jensen_shannon([0.5, 0.5], [0.5, 0.5]))
        (1.0, 0.0)
    """
    a, b = _pair(p, q)
    middle = (a + b) / 2
    return np.asarray(np.sqrt(np.clip((_bits(a, middle) + _bits(b, middle)) / 2, 0.0, 1.0)))


def hellinger(p: ArrayLike, q: ArrayLike) -> NDArray[np.float64]:
    """Return the Hellinger distance: the square root of 1 minus the sum of sqrt(p q).

    It needs no order of the options (Hellinger 1909; as in popfidelity 0.1). 0 is best, 1 means that no option is
    shared. NaN where a side has no data.

    Args:
        p: Shares, shape (..., K), summing to 1.
        q: Shares of the same shape, or broadcastable to it.

    Raises:
        DataError: If the sides have different options, or shares are none.

    Example:
        >>> float(hellinger([1, 0], [0, 1])), float(hellinger([0.5, 0.5], [0.5, 0.5]))
        (1.0, 0.0)
    """
    a, b = _pair(p, q)
    # The same as 1 - sum of sqrt(p q), without its loss of digits between equal distributions.
    return np.asarray(np.sqrt(((np.sqrt(a) - np.sqrt(b)) ** 2).sum(axis=-1) / 2).clip(max=1.0))


def kolmogorov_smirnov(p: ArrayLike, q: ArrayLike) -> NDArray[np.float64]:
    """Return the Kolmogorov-Smirnov distance: the largest absolute difference of the cumulative shares.

    Options in order, but no distance between them (Kolmogorov 1933; Smirnov 1948). 0 is best, 1 the worst. NaN where a
    side has no data.

    Args:
        p: Shares, shape (..., K), summing to 1.
        q: Shares of the same shape, or broadcastable to it.

    Raises:
        DataError: If the sides have different options, or shares are none.

    Example:
        >>> float(kolmogorov_smirnov([0.5, 0.5, 0], [0, 0.5, 0.5]))
        0.5
    """
    a, b = _pair(p, q)
    return np.asarray(np.abs(np.cumsum(a - b, axis=-1)).max(axis=-1))


# -- concentration ---------------------------------------------------------------------------------------------------


def entropy(p: ArrayLike) -> NDArray[np.float64]:
    """Return the entropy of answers in bits: how little is known of an answer beforehand (Shannon 1948).

    0 where all agree, log2(K) where all options are as common. NaN without data. Neither is better: compare with the
    humans' own.

    Args:
        p: Shares, shape (..., K), summing to 1.

    Raises:
        DataError: If shares are none.

    Example:
        >>> float(entropy([0.25, 0.25, 0.25, 0.25])), float(entropy([1, 0]))
        (2.0, 0.0)
    """
    shares = _shares(p)
    # Adding 0 makes of minus zero the zero that it is.
    return np.asarray(-_bits(shares, np.ones_like(shares)) + 0.0)


@dataclass(frozen=True, kw_only=True)
class Concentration:
    """How concentrated simulated answers are against the humans'; each of the shape of the questions."""

    entropy_ratio: NDArray[np.float64]
    """Entropy of the simulated over that of the human answers: 1 is best, 0 where all simulated answers agree; NaN
    where all humans do."""
    options_ratio: NDArray[np.float64]
    """The same of the effective numbers of options, 2^entropy (Hill 1973): above 0 to K, 1 is best."""
    collision_ratio: NDArray[np.float64]
    """The same of the chances that two people agree, sum p^2 (Simpson 1949): 1/K to K, 1 is best, above 1 is too
    uniform."""
    modal_excess: NDArray[np.float64]
    """Share of the commonest simulated answer minus that of the commonest human one: 0 is best, -1 to 1; above 0.15
    counts as collapsed (Ozkan 2026)."""
    lost_options: NDArray[np.float64]
    """Number of options that humans give and the simulation does not: 0 is best."""
    lost_share: NDArray[np.float64]
    """Share of the humans who gave them: 0 is best, 1 the worst."""


def concentration(simulated: ArrayLike, human: ArrayLike, *, least: float = 0.0) -> Concentration:
    """Tell whether simulated answers crowd on fewer options than the humans' do, whatever options these are.

    Definitions of popfidelity 0.1 (dispersion). NaN where a side has no data.

    Args:
        simulated: Shares, shape (..., K), summing to 1.
        human: Shares of the same shape, or broadcastable to it.
        least: Simulated share up to which an option counts as not given, 0 to below 1.

    Raises:
        DataError: If the sides have different options, or shares are none.
        OptionError: If `least` is out of range.

    Example:
        >>> found = concentration([1, 0, 0, 0], [0.5, 0.25, 0.25, 0])
        >>> [float(each) for each in (found.entropy_ratio, found.modal_excess, found.lost_options, found.lost_share)]
        [0.0, 0.5, 2.0, 0.5]
    """
    if not 0 <= least < 1:
        raise OptionError(f"least must be at least 0 and below 1, got {least}")
    ours, theirs = _pair(simulated, human)
    known = ~np.isnan(ours + theirs).any(axis=-1)
    lost = (ours <= least) & (theirs > 0)
    one, other = entropy(ours), entropy(theirs)
    return Concentration(
        entropy_ratio=_ratio(one, other),
        options_ratio=np.asarray(2.0 ** (one - other)),
        collision_ratio=_ratio((ours**2).sum(axis=-1), (theirs**2).sum(axis=-1)),
        modal_excess=np.asarray(ours.max(axis=-1) - theirs.max(axis=-1)),
        lost_options=np.where(known, lost.sum(axis=-1), np.nan),
        lost_share=np.where(known, np.where(lost, theirs, 0.0).sum(axis=-1), np.nan),
    )


def gap_inflation(simulated: ArrayLike, human: ArrayLike, *, from_option: int) -> NDArray[np.float64]:
    """Return how many times as far apart groups are in the simulation as among the humans.

    The gap is the largest minus the smallest share, over the groups, that answers at an option or above (Chen et al.
    2026, as in popfidelity 0.1). 1 is best, above 1 exaggerates, 0 knows no difference. NaN where the humans of all
    groups agree, or a side has no data.

    Args:
        simulated: Shares of each group, shape (..., groups, K), summing to 1.
        human: Shares of the same shape, or broadcastable to it.
        from_option: First option that counts, 1 to K-1.

    Raises:
        DataError: If the sides have different options, or shares are none.
        OptionError: If there is no such option.

    Example:
        >>> float(gap_inflation([[0.9, 0.1], [0.1, 0.9]], [[0.6, 0.4], [0.4, 0.6]], from_option=1).round(6))
        4.0
    """
    ours, theirs = _pair(simulated, human)
    if not 1 <= from_option < ours.shape[-1]:
        raise OptionError(
            f"from_option must be 1 to {ours.shape[-1] - 1} of options 0 to {ours.shape[-1] - 1}, got {from_option}"
        )
    gaps = [np.ptp(side[..., from_option:].sum(axis=-1), axis=-1) for side in (ours, theirs)]
    return _ratio(gaps[0], gaps[1])


# -- correlation matrices --------------------------------------------------------------------------------------------


def frobenius(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    """Return the Frobenius norm of the difference of two correlation matrices, over both triangles.

    0 is best. Grows with the number of items. NaN if any correlation is undefined, or there is no item.

    Args:
        a: Correlations, shape (..., q, q).
        b: Correlations of the same shape, or broadcastable to it.

    Raises:
        DataError: If the matrices are not square and of one size.

    Example:
        >>> round(float(frobenius([[1, 0.5], [0.5, 1]], np.eye(2))), 4)
        0.7071
    """
    one, other = _matrices(a, b)
    norm = np.sqrt(((one - other) ** 2).sum(axis=(-2, -1)))
    return np.asarray(norm if one.shape[-1] else np.full_like(norm, np.nan))


def cbs(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    """Return the correlation matrix distance: 1 - trace(a b) / (|a| |b|), Frobenius norms.

    The released code of Anthology has it as CBS (Herdin et al. 2005). Looks at the pattern and not at the size of
    correlations. 0 is best, 1 the worst for matrices that have no negative eigenvalue. NaN if any correlation is
    undefined, or all of one side are 0.

    Args:
        a: Correlations, shape (..., q, q).
        b: Correlations of the same shape, or broadcastable to it.

    Raises:
        DataError: If the matrices are not square and of one size.

    Example:
        >>> float(cbs([[1, 0.5], [0.5, 1]], np.eye(2)).round(4)), float(cbs(np.eye(2), np.eye(2)).round(4))
        (0.1056, 0.0)
    """
    one, other = _matrices(a, b)
    norms = np.sqrt((one**2).sum(axis=(-2, -1)) * (other**2).sum(axis=(-2, -1)))
    alike = _ratio((one * other.swapaxes(-2, -1)).sum(axis=(-2, -1)), norms)
    return np.asarray(np.maximum(1 - alike, 0.0))


# -- consistency -----------------------------------------------------------------------------------------------------


def cronbach_alpha(covariance: ArrayLike) -> NDArray[np.float64]:
    """Return Cronbach's alpha from a covariance matrix: k/(k-1) * (1 - trace/sum).

    1 is perfect consistency, 0 none, negative values are possible. NaN for a single item, where an item is constant,
    or where the items cancel each other. Higher is not better here: compare with the humans' own alpha.

    Args:
        covariance: Shape (..., k, k).

    Raises:
        DataError: If the matrix is not square.

    Source: Cronbach 1951; pingouin 0.5 with the same treatment of missing answers.

    Example:
        >>> float(cronbach_alpha([[1, 1], [1, 1]])), float(cronbach_alpha([[1, 0], [0, 1]]))
        (1.0, 0.0)
    """
    c, _ = _matrices(covariance, covariance)
    k = c.shape[-1]
    variances = np.diagonal(c, axis1=-2, axis2=-1)
    trace, total = variances.sum(axis=-1), c.sum(axis=(-2, -1))
    # A relative bound: what is zero but for rounding must not become a ratio of two roundings.
    varies = _varies(variances)
    with np.errstate(divide="ignore", invalid="ignore"):
        alpha = k / np.float64(k - 1) * (1 - trace / total)
    return np.where((k > 1) & varies & (total > 1e-9 * trace), alpha, np.nan)


def mcdonald_omega(covariance: ArrayLike) -> NDArray[np.float64]:
    """Return McDonald's omega total of one factor: (sum of loadings)^2 over that plus the unique variances.

    Alpha without its assumption that all items load alike (McDonald 1999). The factor is that of least squares over the
    correlations off the diagonal (minres: Harman and Jones 1966; unique variances not below 0: Harman and Fukuda 1966),
    with loadings brought back to the scale of the items. 0 to 1. NaN for fewer than three items, of which one factor is
    not determined, or where an item is constant. Higher is not better here: compare with the humans' own omega.

    Args:
        covariance: Shape (..., k, k).

    Raises:
        DataError: If the matrix is not square.

    Example:
        >>> parallel = [[1, 0.5, 0.5], [0.5, 1, 0.5], [0.5, 0.5, 1]]
        >>> float(mcdonald_omega(parallel).round(6)), float(cronbach_alpha(parallel).round(6))
        (0.75, 0.75)
    """
    c, _ = _matrices(covariance, covariance)
    k = c.shape[-1]
    variances = np.diagonal(c, axis1=-2, axis2=-1)
    defined = _varies(variances) & ~np.isnan(c).any(axis=(-2, -1)) & (k > 2)
    flat = np.where(defined[..., None, None], c, np.eye(k)).reshape(-1, k, k)
    spread = np.sqrt(np.diagonal(flat, axis1=1, axis2=2))
    loadings = _one_factor(flat / (spread[:, :, None] * spread[:, None, :]))
    common = (loadings * spread).sum(axis=1) ** 2
    unique = ((1 - loadings**2) * spread**2).sum(axis=1)
    return np.where(defined, _ratio(common, common + unique).reshape(defined.shape), np.nan)


def _one_factor(correlation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return minres loadings on one factor, shape (b, k), swept until none moves."""
    values, vectors = np.linalg.eigh(correlation)
    loadings = np.clip(vectors[:, :, -1] * np.sqrt(values[:, -1:].clip(min=0)), -1, 1)
    moving = np.arange(len(loadings))
    for _ in range(SWEEPS):
        before = loadings[moving]
        loadings[moving] = _swept(before, correlation[moving])
        moving = moving[np.abs(loadings[moving] - before).max(axis=1, initial=0) >= CLOSE]
        if not len(moving):
            break
    return np.asarray(loadings)


def _swept(loadings: NDArray[np.float64], correlation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Make each loading in turn the least-squares one, given the others."""
    swept = loadings.copy()
    for item in range(swept.shape[1]):
        swept[:, item] = 0.0
        total, fitted = (swept**2).sum(axis=1), (correlation[:, item] * swept).sum(axis=1)
        swept[:, item] = np.clip(np.divide(fitted, total, out=np.zeros_like(total), where=total > CLOSE), -1, 1)
    return swept


# -- what the measures share -----------------------------------------------------------------------------------------


def _shares(p: ArrayLike) -> NDArray[np.float64]:
    shares = np.asarray(p, dtype=np.float64)
    if not shares.ndim or not shares.shape[-1]:
        raise DataError(f"shares of shape {shares.shape} have no options: give shape (..., K)")
    total = shares.sum(axis=-1)
    if (shares < 0).any() or (np.abs(total - 1) > ROUNDING).any():
        wrong = shares.reshape(-1, shares.shape[-1])
        wrong = wrong[(wrong < 0).any(axis=1) | (np.abs(wrong.sum(axis=1) - 1) > ROUNDING)][0]
        raise DataError(f"shares must be at least 0 and add up to 1, got {wrong.tolist()}: divide counts by their sum")
    return shares


def _pair(p: ArrayLike, q: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    a, b = _shares(p), _shares(q)
    if a.shape[-1] != b.shape[-1]:
        raise DataError(f"the sides have {a.shape[-1]} and {b.shape[-1]} options: both must have the same, in order")
    one, other = np.broadcast_arrays(a, b)
    return one, other


def _steps(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the differences of the cumulative shares after each option but the last."""
    return np.asarray(np.cumsum(a - b, axis=-1)[..., :-1])


def _bits(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sum of a log2(a / b); what has no share adds nothing."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(a == 0, 0.0, a * np.log2(a / b)).sum(axis=-1))


def _ratio(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.divide(one, other, out=np.full(np.shape(one), np.nan), where=np.asarray(other) > 0))


def _matrices(a: ArrayLike, b: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    one, other = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if one.ndim < 2 or one.shape[-1] != one.shape[-2] or one.shape[-2:] != other.shape[-2:]:
        raise DataError(f"matrices of shapes {one.shape} and {other.shape}: both must be square, with the same items")
    return one, other


def _varies(variances: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.asarray((variances > 1e-9 * variances.max(axis=-1, keepdims=True, initial=0.0)).all(axis=-1))
