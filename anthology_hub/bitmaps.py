"""Rows as packed bits: which of them hold a level, reach a probability, are shown by a view.

A filter over a million rows reads an eighth of a megabyte for each condition and works no row number out before
somebody asks for one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, reduce
from operator import and_
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

STEPS = 255
"""Probabilities are rounded to multiples of 1 / STEPS, one byte each: off by at most half a step."""
TOLERANCE = 1e-6
"""A sum of float32 probabilities may be so much below a threshold and still reaches it."""
_SLACK = 0.01
"""Steps; far more than float32 sums are off, far less than half a step."""


def pack(mask: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """Pack the last axis, 64 rows in a word; what is left of the last word is 0.

    Example:
        >>> pack(np.array([True, False, True])).tolist()
        [5]
    """
    bits = np.packbits(mask, axis=-1, bitorder="little")
    words = np.zeros((*bits.shape[:-1], -(-bits.shape[-1] // 8)), dtype=np.uint64)
    words.view(np.uint8)[..., : bits.shape[-1]] = bits
    return words


def unpack(words: NDArray[np.uint64], total: int) -> NDArray[np.bool_]:
    """Return the mask of `total` rows that was packed.

    Example:
        >>> unpack(np.array([5], dtype=np.uint64), 3).tolist()
        [True, False, True]
    """
    return np.unpackbits(words.view(np.uint8), count=total, bitorder="little").view(np.bool_)


def rounded(probs: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return probabilities in steps of 1 / STEPS, one row for each level, 0 where there is none.

    Args:
        probs: Shape (rows, levels), 0 to 1 or NaN.
    """
    return np.rint(np.nan_to_num(probs.T) * STEPS).astype(np.uint8)


def reaching(
    conditions: Sequence[NDArray[np.uint8]],
    exact: Callable[[NDArray[np.int64]], NDArray[np.float32]],
    threshold: float,
) -> NDArray[np.uint64]:
    """Pack which rows reach a threshold with each of some sums of levels, as if nothing had been rounded.

    The rounded sums decide wherever the rounding cannot matter; the rows that are left in between are looked up.

    Args:
        conditions: For each sum the levels of `rounded` that count, shape (levels, rows); at least one sum.
        exact: Gives the sums of rows before anything was rounded, shape (conditions, rows).
        threshold: Of each sum, above 0 and at most 1; a sum that is short of it by up to TOLERANCE reaches it.

    Example:
        >>> probs = np.array([[0.7], [0.6998], [0.2], [np.nan]], dtype=np.float32)
        >>> unpack(reaching([rounded(probs)], lambda rows: probs[rows].T, 0.7), 4).tolist()
        [True, False, False, False]
    """
    total = conditions[0].shape[1]
    surely, possibly = (reduce(and_, words) for words in zip(*(_bounds(c, threshold) for c in conditions), strict=True))
    unsure = np.flatnonzero(unpack(possibly & ~surely, total))
    found = (np.nan_to_num(exact(unsure)) >= threshold - TOLERANCE).all(axis=0)
    mask = np.zeros(total, dtype=bool)
    mask[unsure[found]] = True
    return np.asarray(surely | pack(mask))


def _bounds(steps: NDArray[np.uint8], threshold: float) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Pack which rows reach a threshold however their levels were rounded, and which may reach it."""
    # One level needs no sum, and bytes are compared fastest.
    total = steps[0] if len(steps) == 1 else steps.sum(axis=0, dtype=np.uint16)
    off = len(steps) / 2 + _SLACK
    surely, possibly = np.ceil(threshold * STEPS + off), np.ceil((threshold - TOLERANCE) * STEPS - off)
    return pack(_at_least(total, surely)), pack(_at_least(total, possibly))


def _at_least(values: NDArray[Any], bound: float) -> NDArray[np.bool_]:
    """Compare within the type of the values: a wider bound would widen them all."""
    if bound > np.iinfo(values.dtype).max:
        return np.zeros(len(values), dtype=bool)
    return np.asarray(values >= values.dtype.type(max(bound, 0)))


class Selection:
    """Some of the rows of a table: ascending, kept as bits, or in an order of their own.

    Example:
        >>> some = Selection(4).keep(pack(np.array([True, False, True, True])))
        >>> len(some), some.rows.tolist(), some.take([2, 0]).rows.tolist()
        (3, [0, 2, 3], [3, 0])
    """

    def __init__(
        self, total: int, *, words: NDArray[np.uint64] | None = None, rows: NDArray[np.int64] | None = None
    ) -> None:
        """Select the rows that packed bits hold, or those listed, each once; all, if neither is given."""
        self.total, self._words, self._listed = total, words, rows

    @cached_property
    def _count(self) -> int:
        if self._listed is not None:
            return len(self._listed)
        return self.total if self._words is None else int(np.bitwise_count(self._words).sum(dtype=np.int64))

    def __len__(self) -> int:
        return self._count

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """Their positions in the table, in order."""
        if self._listed is not None:
            return self._listed
        return np.arange(self.total) if self._words is None else np.flatnonzero(unpack(self._words, self.total))

    @cached_property
    def mask(self) -> NDArray[np.bool_]:
        """True for the selected rows, shape (total,)."""
        if self._listed is None and self._words is not None:
            return unpack(self._words, self.total)
        mask = np.zeros(self.total, dtype=bool)
        mask[self.rows] = True
        return mask

    @cached_property
    def ranks(self) -> NDArray[np.int64]:
        """Place of each row of the table in the selection, -1 where it is not selected, shape (total,)."""
        ranks = np.full(self.total, -1, dtype=np.int64)
        ranks[self.rows] = np.arange(len(self))
        return ranks

    @property
    def is_all(self) -> bool:
        """Whether these are all rows in the order of the table."""
        if len(self) < self.total:
            return False
        return self._listed is None or bool((self._listed == np.arange(self.total)).all())

    def holds(self, words: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Return which of the selected rows are set in packed bits, in order."""
        at = self.rows
        found: NDArray[np.bool_] = (words[at >> 6] >> (at & 63).astype(np.uint64) & np.uint64(1)).astype(np.bool_)
        return found

    def keep(self, words: NDArray[np.uint64]) -> Selection:
        """Return the selected rows that are set in packed bits, in the same order."""
        if self._listed is not None:
            return self.take(self.holds(words))
        return Selection(self.total, words=words if self._words is None else self._words & words)

    def take(self, at: Any) -> Selection:  # noqa: ANN401 - whatever indexes an array
        """Return the rows at some places of the selection."""
        return Selection(self.total, rows=self.rows[at])
