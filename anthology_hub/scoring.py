"""Inner products of unit vectors, and the best rows by them: exact, and the same however they were asked for.

Every score that leaves this module is computed by one kernel, pair by pair: equal vectors score equally in any row, and
neither the number of queries asked together nor the number of threads changes a bit. A product of matrices is faster
but rounds by shape; it only proposes rows, with a margin above its rounding error.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLOCK_ROWS = 2**16
"""Rows of vectors converted or gathered at once: 100 MB at 384 dimensions."""
BLOCK_SCORES = 2**22
"""Scores of a block of queries: they stay in the cache until the best are picked."""
BLOCK_QUERIES = 32
"""Fewer make a product slow, however many rows there are."""
STRIPES = 64


@dataclass(frozen=True, kw_only=True)
class Hits:
    """Best rows of one query, best first; equal scores are ordered by row."""

    rows: NDArray[np.int64]
    scores: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.rows)

    def first(self, k: int) -> Hits:
        """Return the k best of these."""
        return Hits(rows=self.rows[:k], scores=self.scores[:k])

    def best_of(self, owners: NDArray[np.int64]) -> Hits:
        """Return the best row of every owner among these; `owners` tells whose each row is."""
        _, first = np.unique(owners[self.rows], return_index=True)
        first.sort()
        return Hits(rows=self.rows[first], scores=self.scores[first])


def library() -> Any:  # noqa: ANN401 - its stubs know half of what is used here
    """Return faiss, loaded when it is first needed."""
    import faiss

    return faiss


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep faiss to the calling thread: waking others takes longer than one query, far longer on a busy machine."""
    faiss = library()
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def margin(dimension: int) -> float:
    """Return how far the proposed score of one of the k best rows may lie below the k-th best proposed score.

    Example:
        >>> margin(384) < 1e-4
        True
    """
    # However it is rounded, an inner product of unit vectors is off by at most dimension * 2**-24: twice that between
    # two roundings of one, and twice that again between two of them.
    return dimension * 4 * 2.0**-24


def scores_of(
    queries: NDArray[np.float32], vectors: NDArray[np.floating], rows: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return the inner products of each query with its rows.

    Args:
        queries: Shape (queries, dimension), contiguous.
        vectors: float32 or float16, shape (all rows, dimension), contiguous; never copied as a whole.
        rows: Shape (queries, n); a negative row scores minus infinity.

    Example:
        >>> scores_of(np.float32([[0.6, 0.8]]), np.eye(2, dtype=np.float32), np.array([[1, -1]]))
        array([[ 0.8, -inf]], dtype=float32)
    """
    faiss = library()
    if vectors.dtype != np.float32:
        return _scores_of_converted(queries, vectors, rows)
    scores, rows = np.empty(rows.shape, dtype=np.float32), np.ascontiguousarray(rows, dtype=np.int64)
    pointers = (faiss.swig_ptr(each) for each in (scores, queries, vectors, rows))
    faiss.fvec_inner_products_by_idx(*pointers, queries.shape[1], *rows.shape)
    return scores


def _scores_of_converted(
    queries: NDArray[np.float32], vectors: NDArray[np.floating], rows: NDArray[np.int64]
) -> NDArray[np.float32]:
    """The same by way of float32 copies of the rows that are needed."""
    scores = np.empty(rows.shape, dtype=np.float32)
    for at, query in enumerate(queries):
        for start in range(0, rows.shape[1], BLOCK_ROWS):
            part = rows[at, start : start + BLOCK_ROWS]
            places = np.where(part < 0, -1, np.arange(len(part)))
            block = vectors[part].astype(np.float32)
            scores[at, start : start + BLOCK_ROWS] = scores_of(query[None], block, places[None])[0]
    return scores


def proposed(queries: NDArray[np.float32], vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return the inner products of all queries with all rows, rounded as it comes; shape (queries, rows)."""
    faiss = library()
    scores = np.empty((len(queries), len(vectors)), dtype=np.float32)
    if len(queries) == 1 and vectors.dtype == np.float32:
        pointers = (faiss.swig_ptr(each) for each in (scores, queries, vectors))
        faiss.fvec_inner_products_ny(*pointers, *vectors.shape[::-1])
        return scores
    for start in range(0, len(vectors), BLOCK_ROWS):
        block = np.asarray(vectors[start : start + BLOCK_ROWS], dtype=np.float32)
        np.matmul(queries, block.T, out=scores[:, start : start + BLOCK_ROWS])
    return scores


def ranked(queries: NDArray[np.float32], vectors: NDArray[np.floating], rows: NDArray[np.int64]) -> list[Hits]:
    """Score the rows of each query, shape (queries, n), and put them best first; negative rows are left out."""
    rows = np.sort(rows, axis=1)
    scores = scores_of(queries, vectors, rows)
    return [_in_order(each, score) for each, score in zip(rows, scores, strict=True)]


def _in_order(rows: NDArray[np.int64], scores: NDArray[np.float32]) -> Hits:
    # Fillers score minus infinity, so they are at the end.
    order = (-scores).argsort(kind="stable")[: len(rows) - int(rows.searchsorted(0))]
    return Hits(rows=rows[order], scores=scores[order])


def exact(
    queries: NDArray[np.float32], vectors: NDArray[np.floating], k: int, *, among: NDArray[np.int64] | None = None
) -> list[Hits]:
    """Return at least the `k` best rows of every query (or all there are), best first.

    Args:
        queries: Unit vectors, float32, shape (queries, dimension).
        vectors: Unit vectors, float32 or float16, shape (rows, dimension), contiguous.
        k: At least 1.
        among: The rows that may be returned, ascending; all, if not given.

    Example:
        >>> exact(np.float32([[0.6, 0.8]]), np.eye(2, dtype=np.float32), 1)[0].rows.tolist()
        [1]
    """
    if among is not None:
        return _exact_among(queries, vectors, k, among)
    step = max(BLOCK_QUERIES, BLOCK_SCORES // max(1, len(vectors)))
    found: list[Hits] = []
    for start in range(0, len(queries), step):
        part = queries[start : start + step]
        scores, slack = proposed(part, vectors), margin(queries.shape[1])
        alone = len(part) == 1
        near = _near_best(scores[0], k, slack)[None] if alone else _near_best_of_each(scores, k, slack)
        found += ranked(part, vectors, near)
    return found


def _exact_among(
    queries: NDArray[np.float32], vectors: NDArray[np.floating], k: int, among: NDArray[np.int64]
) -> list[Hits]:
    if len(queries) > 1 and len(among) <= BLOCK_ROWS:
        block = vectors[among].astype(np.float32, copy=False)
        return [Hits(rows=among[hits.rows], scores=hits.scores) for hits in exact(queries, block, k)]
    found = []
    for at in range(len(queries)):
        scores = scores_of(queries[at : at + 1], vectors, among[None])
        near = _near_best(scores[0], k, 0)
        found.append(_in_order(among[near], scores[0, near]))
    return found


def padded(rows: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Return rows of different lengths as one table, filled up with -1."""
    table = np.full((len(rows), max(map(len, rows))), -1, dtype=np.int64)
    for line, row in zip(table, rows, strict=True):
        line[: len(row)] = row
    return table


def _near_best(scores: NDArray[np.float32], k: int, slack: float) -> NDArray[np.int64]:
    """Places that may be among the k best, given that scores are only near the truth; ascending."""
    if k >= len(scores):
        return np.arange(len(scores))
    return np.flatnonzero(scores >= np.partition(scores, len(scores) - k)[len(scores) - k] - slack)


def _near_best_of_each(scores: NDArray[np.float32], k: int, slack: float) -> NDArray[np.int64]:
    """The same, and a few more, for every line; filled up with -1."""
    lines, n = scores.shape
    stripe = n // STRIPES
    if k > stripe:
        return padded([_near_best(line, k, slack) for line in scores])
    # No k-th best of the maxima of stripes is better than the k-th best of all, and it is found in a fraction of time.
    most = scores[:, : stripe * STRIPES].reshape(lines, STRIPES, stripe).max(axis=1)
    bar = np.partition(most, stripe - k, axis=1)[:, stripe - k] - np.float32(slack)
    line, place = np.divmod(np.flatnonzero(scores >= bar[:, None]), n)
    counts = np.bincount(line, minlength=lines)
    table = np.full((lines, counts.max()), -1, dtype=np.int64)
    table[line, np.arange(len(line)) - np.repeat(np.cumsum(counts) - counts, counts)] = place
    return table
