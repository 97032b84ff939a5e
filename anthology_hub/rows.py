"""Weights in rows: the contract of every measure of answers, and the little that all of them share. Pure.

Weights have the shape (rows, n). Each row weighs the same n people anew: the survey weights themselves, a half of the
people, or a bootstrap draw, multiplied by the survey weights. A measure gives one value for each row, and a common
factor on a row changes nothing.
"""

from __future__ import annotations

import functools
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import numpy as np

from anthology_hub.errors import DataError, EmptyError
from anthology_hub.schema import MISSING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import ArrayLike, NDArray

P = ParamSpec("P")
T = TypeVar("T")

BLOCK_BYTES = 64 * 2**20
"""Upper bound of a temporary table; the weights themselves are the caller's."""

AT_ONCE = 8
"""Tasks that are done side by side at most: each holds tables of its own."""

LEAST_VARIANCE = 1e-9
"""Variance, in squared option steps, below which an item is constant."""


def one_thread(function: Callable[P, T]) -> Callable[P, T]:
    """Keep the matrix products of a function to its own thread.

    Products of survey answers are many and small: threads that share one mostly wait for each other, and on a machine
    that has other work they take twenty times as long as one alone.
    """

    @functools.wraps(function)
    def alone(*args: P.args, **kwargs: P.kwargs) -> T:
        from threadpoolctl import threadpool_limits

        with threadpool_limits(1, user_api="blas"):
            return function(*args, **kwargs)

    return alone


def side_by_side(tasks: Iterable[Callable[[], T]]) -> list[T]:
    """Return what the tasks return, done at once on the cores there are; none may wait for another.

    Matrix products run outside of the interpreter's lock: figures that do not share their rows of weights gain by it
    what products themselves would lose (`one_thread`).

    Example:
        >>> side_by_side([lambda: 1 + 1, lambda: 2 * 3])
        [2, 6]
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with ThreadPoolExecutor(min(AT_ONCE, cores)) as pool:
        return list(pool.map(lambda task: task(), tasks))


def weight_rows(weights: ArrayLike, people: int) -> NDArray[np.float64]:
    """Return weights as float64, checked.

    Args:
        weights: Shape (rows, people), 0 or more, finite.
        people: n, how many there are.

    Raises:
        DataError: If the shape is another, or a weight is negative, infinite or no number.

    Example:
        >>> weight_rows([[1, 2]], 2).tolist()
        [[1.0, 2.0]]
    """
    found = np.asarray(weights, dtype=np.float64)
    if found.ndim != 2 or found.shape[1] != people or not len(found):
        raise DataError(f"weights of shape {found.shape} do not fit {people} people: give (rows, {people}), rows >= 1")
    low, high = found.min(), found.max()
    if not (low >= 0 and high < np.inf):
        raise DataError(f"weights must be finite numbers from 0, got {low} to {high}: leave out whom they concern")
    return found


def answer_codes(codes: ArrayLike, *, what: str = "answers") -> NDArray[np.integer]:
    """Return answers as they are, checked.

    Args:
        codes: Whole numbers 0..K-1, MISSING where there is no answer, shape (n, q).
        what: Their name in messages.

    Raises:
        DataError: If they are no whole numbers, have another shape, or are below MISSING.
        EmptyError: If there is nobody, or no question.

    Example:
        >>> answer_codes([[0, 1], [2, -1]]).shape
        (2, 2)
    """
    found = np.asarray(codes)
    if found.ndim != 2 or not np.issubdtype(found.dtype, np.integer):
        raise DataError(f"{what} are whole numbers of shape (people, columns), got {found.dtype} of {found.shape}")
    if not found.size:
        raise EmptyError(f"{what} of shape {found.shape}: at least one person and one column are needed")
    if (low := found.min()) < MISSING:
        raise DataError(f"{what} are 0..K-1, or {MISSING} where there is none, got {low}: recode them")
    return found


def weighted_means(
    weights: NDArray[np.float64], present: NDArray[np.bool_], *values: NDArray[np.generic]
) -> list[NDArray[np.float64]]:
    """Return the mean of each column of each table of values over those present; NaN where these weigh nothing.

    Args:
        weights: Shape (rows, n).
        present: Shape (n, q).
        values: Tables of that shape; what is not present may be anything.

    Returns:
        One of shape (rows, q) for each table.

    Example:
        >>> weighted_means(np.array([[1.0, 3.0]]), np.array([[True], [True]]), np.array([[0], [1]]))[0].tolist()
        [[0.75]]
    """
    total = weights @ present.astype(np.float64)
    sums = [weights @ np.where(present, table, 0).astype(np.float64) for table in values]
    return [np.divide(one, total, out=np.full_like(one, np.nan), where=total > 0) for one in sums]


def blocks(weights: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
    """Yield the rows in blocks of at most BLOCK_BYTES, one row at least.

    Example:
        >>> [block.shape for block in blocks(np.ones((3, 2)))]
        [(3, 2)]
    """
    step = max(1, BLOCK_BYTES // (8 * weights.shape[1]))
    for start in range(0, len(weights), step):
        yield weights[start : start + step]


def effective_people(weights: NDArray[np.float64], present: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the effective number of people behind each column: (sum w)^2 / sum w^2 (Kish 1965, section 11.7).

    With equal weights it is their number; 0 where those present weigh nothing. Unlike a count it does not change when
    the weights take up a common factor, and it knows that a bootstrap draw repeats people.

    Args:
        weights: Shape (rows, n).
        present: Shape (n, q).

    Example:
        >>> effective_people(np.array([[1.0, 1.0], [3.0, 1.0]]), np.array([[True], [True]])).round(3).tolist()
        [[2.0], [1.6]]
    """
    there, found = present.astype(np.float64), []
    for block in blocks(weights):
        # Relative to the largest, squares neither overflow nor vanish.
        scaled = block / np.maximum(block.max(axis=1, keepdims=True), np.finfo(np.float64).tiny)
        total, squares = scaled @ there, scaled**2 @ there
        found.append(np.divide(total**2, squares, out=np.zeros_like(total), where=squares > 0))
    return np.concatenate(found)
