"""Polychoric correlations: what two items would correlate if their answers cut a bivariate normal into classes.

Coarse scales and skewed answers make Pearson's correlation smaller; this one they leave as it is, provided that the
normal law behind the answers holds. Two-step maximum likelihood (Olsson 1979, Psychometrika 44:443-460): the thresholds
are the normal quantiles of the margins, then the correlation maximises the likelihood of the table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from anthology_hub.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

BOUND = 0.999
"""Largest correlation: what a table comes out at whose likelihood still rises there."""

NODES = 48
"""Of the quadrature."""

FAR = 8.0
"""Thresholds of options that nobody chose, in standard deviations; 6e-16 of a normal law lies beyond."""

STEPS = 60
CLOSE = 1e-10
"""The search ends after so many steps, or when no correlation moves further."""

BLOCK_BYTES = 32 * 2**20


def polychoric(tables: ArrayLike) -> NDArray[np.float64]:
    """Return the polychoric correlation of cross-tabulated pairs of items.

    Counts may be weighted; their common factor changes nothing, and no constant is added to empty cells. -0.999 to
    0.999: the ends stand for tables whose likelihood has no maximum inside. NaN where the table is empty, or an item
    has a single answer.

    Args:
        tables: Counts, shape (..., K, L); options in order. Options of unequal number: fill with 0.

    Raises:
        DataError: If a count is negative or not finite.

    Source: Olsson 1979, section 3; the bivariate normal law by Plackett's identity (1954) and Gauss-Legendre
    quadrature.

    Example:
        >>> round(float(polychoric([[40, 10], [10, 40]])), 4)
        0.809
    """
    counts = np.asarray(tables, dtype=np.float64)
    wrong = counts[~((counts >= 0) & (counts < np.inf))]
    if counts.ndim < 2 or len(wrong):
        got = wrong[0] if len(wrong) else f"shape {counts.shape}"
        raise DataError(f"tables must be of shape (..., K, L) and hold finite counts of at least 0, got {got}")
    flat = counts.reshape(-1, *counts.shape[-2:])
    step = max(1, BLOCK_BYTES // (8 * NODES * flat.shape[1] * flat.shape[2]))
    found = [_polychoric(flat[start : start + step]) for start in range(0, len(flat), step)]
    return np.concatenate(found or [np.zeros(0)]).reshape(counts.shape[:-2])


def _polychoric(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Search tables of shape (t, K, L) by Fisher scoring inside a bracket that the sign of the score narrows."""
    total = counts.sum(axis=(1, 2), keepdims=True)
    shares = np.divide(counts, total, out=np.zeros_like(counts), where=total > 0)
    rows, columns = shares.sum(axis=2), shares.sum(axis=1)
    h, k = _thresholds(rows), _thresholds(columns)
    rho, bracket = np.zeros(len(shares)), np.tile([-BOUND, BOUND], (len(shares), 1))
    moving = np.arange(len(shares))
    for _ in range(STEPS):
        before = rho[moving]
        score, information = _score(shares[moving], h[moving], k[moving], before)
        rho[moving], bracket[moving] = _stepped(before, bracket[moving], score, information)
        moving = moving[np.abs(rho[moving] - before) >= CLOSE]
        if not len(moving):
            break
    defined = ((rows > 0).sum(axis=1) > 1) & ((columns > 0).sum(axis=1) > 1)
    return np.where(defined, rho, np.nan)


def _stepped(
    rho: NDArray[np.float64],
    bracket: NDArray[np.float64],
    score: NDArray[np.float64],
    information: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Take a step of Fisher scoring; one that leaves the bracket halves it instead, so that the search always ends."""
    low, high = np.where(score > 0, rho, bracket[:, 0]), np.where(score < 0, rho, bracket[:, 1])
    step = rho + score / np.maximum(information, 1e-12)
    moved = np.where((step > low) & (step < high), step, (low + high) / 2)
    return np.where(score == 0, rho, moved), np.stack([low, high], axis=1)


def _thresholds(margin: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the normal quantiles between options, shape (t, K-1)."""
    from scipy.special import ndtri

    return np.asarray(np.clip(ndtri(np.clip(margin.cumsum(axis=1)[:, :-1], 0, 1)), -FAR, FAR))


def _score(
    shares: NDArray[np.float64], h: NDArray[np.float64], k: NDArray[np.float64], rho: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the derivative of the mean log-likelihood by the correlation, and its information."""
    below, density = _normal(h[:, :, None], k[:, None, :], rho[:, None, None])
    cells = np.diff(np.diff(_bordered(below, h, k), axis=1), axis=2)
    slopes = np.diff(np.diff(np.pad(density, ((0, 0), (1, 1), (1, 1))), axis=1), axis=2)
    cells = np.maximum(cells, 1e-15)
    seen = shares > 0
    score = np.where(seen, shares * slopes / cells, 0.0).sum(axis=(1, 2))
    information = np.where(cells > 1e-12, slopes**2 / cells, 0.0).sum(axis=(1, 2))
    return score, information


def _bordered(below: NDArray[np.float64], h: NDArray[np.float64], k: NDArray[np.float64]) -> NDArray[np.float64]:
    """Add to the joint law what holds at minus and plus infinity: nothing, and the margins."""
    from scipy.special import ndtr

    full = np.zeros((len(below), h.shape[1] + 2, k.shape[1] + 2))
    full[:, 1:-1, 1:-1] = below
    full[:, 1:-1, -1], full[:, -1, 1:-1], full[:, -1, -1] = ndtr(h), ndtr(k), 1.0
    return full


def _normal(
    h: NDArray[np.float64], k: NDArray[np.float64], rho: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the bivariate normal law below (h, k) and its density there, broadcast.

    The density is the law's derivative by the correlation (Plackett 1954), so the law is that of independence plus an
    integral, here over the arc sine of the correlation (Drezner and Wesolowsky 1990).
    """
    from scipy.special import ndtr

    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    angle = np.arcsin(rho)[..., None] * (nodes + 1) / 2
    law = np.exp(-_quadratic(h[..., None], k[..., None], np.sin(angle))) @ (weights / 2)
    law = ndtr(h) * ndtr(k) + law * np.arcsin(rho) / (2 * np.pi)
    return law, np.exp(-_quadratic(h, k, rho)) / (2 * np.pi * np.sqrt(1 - rho**2))


def _quadratic(h: NDArray[np.float64], k: NDArray[np.float64], rho: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray((h**2 + k**2 - 2 * rho * h * k) / (2 * (1 - rho**2)))
