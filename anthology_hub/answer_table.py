"""Answers of many people, encoded once: shares of options and correlations of items, for any number of weightings.

Survey weights, random halves and bootstrap samples are all rows of weights, and each figure is a few matrix products
over all rows at once, block by block, so that memory stays bounded. Rows of whole numbers (masks, counts of draws) are
multiplied in single precision, whose sums of whole numbers are exact below 2^24; everything comes out in double.
NaN means undefined here; the callers say so in words.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from anthology_hub.errors import DataError
from anthology_hub.polychoric import polychoric
from anthology_hub.rows import BLOCK_BYTES, LEAST_VARIANCE
from anthology_hub.schema import MISSING

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from anthology_hub.resampling import Rows

    # Single or double precision, whichever is exact: the two do not differ in anything else.
    Blocks: TypeAlias = Iterator[tuple[slice, NDArray[Any]]]

EXACT = 2**24
"""Whole numbers below it add up without rounding in single precision."""

ROUNDING = 1e-12
"""Part of the whole weight below which what is left of it is nothing but rounding."""


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Second moments of answers for each row of a weight matrix; shapes (rows, q, q)."""

    covariance: NDArray[np.float64]
    correlation: NDArray[np.float64]
    pairs: NDArray[np.float64]
    """Weight of those who answered both items."""
    people: NDArray[np.float64]
    """Number of those who answered both items."""

    @property
    def population(self) -> NDArray[np.float64]:
        """Covariances with the sum of weights as denominator.

        Where answers are missing, a denominator of n-1 differs by pair, and then alpha is another for people who weigh
        twice than for people who are there twice. This one is the same for both.
        """
        return np.asarray(self.covariance * (1 - 1 / np.maximum(self.people, 1)))

    def keyed(self, reverse: ArrayLike) -> Moments:
        """Return those of the items turned where `reverse` is true, shape (q,): turning an item turns signs only."""
        sign = np.where(np.asarray(reverse, dtype=bool), -1.0, 1.0)
        signs = sign[:, None] * sign
        return replace(self, covariance=self.covariance * signs, correlation=self.correlation * signs)


class AnswerTable:
    """Answers of n people to q questions, encoded once.

    Each method takes rows of weights, shape (rows, n): not negative, finite; 0 leaves a person out. Rows of whole
    numbers (dtype bool or integer) are fastest. `base`, shape (n,), multiplies every row without a copy of the rows.
    No figure depends on a common factor of the weights.

    Example:
        >>> table = AnswerTable(np.array([[0, 1], [2, 1], [-1, 0]]), [3, 2])
        >>> table.shares(np.ones((1, 3)))[0].round(2).tolist()
        [[0.5, 0.0, 0.5], [0.33, 0.67, 0.0]]
    """

    def __init__(self, codes: ArrayLike, n_options: Sequence[int]) -> None:
        """Encode the answers.

        Args:
            codes: Chosen options 0..K-1, shape (n, q); MISSING where there is none.
            n_options: K of each question.

        Raises:
            DataError: If a code is outside its question's options, or no whole number.
        """
        self.codes, self.n_options = np.asarray(codes), np.asarray(n_options, dtype=np.int64)
        if self.codes.ndim != 2 or self.codes.shape[1] != len(self.n_options):
            raise DataError(f"answers of shape {self.codes.shape} do not fit {len(self.n_options)} questions")
        if self.codes.dtype.kind not in "iu":
            raise DataError(f"answer codes must be whole numbers, got {self.codes.dtype}: code missing as {MISSING}")
        if (self.codes >= self.n_options).any() or (self.codes < MISSING).any():
            raise DataError(f"answer codes must be {MISSING} (missing) or 0..K-1 for K = {self.n_options.tolist()}")
        self.present = self.codes != MISSING
        self._question = np.repeat(np.arange(len(self.n_options)), self.n_options)
        self._option = np.concatenate([np.arange(k) for k in self.n_options] or [np.zeros(0, dtype=np.int64)])
        self._chosen = self.codes[:, self._question] == self._option

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def observed(self) -> NDArray[np.int64]:
        """Number of different options that anybody chose, for each question."""
        return np.bincount(self._question, weights=self._chosen.any(axis=0), minlength=len(self.n_options)).astype(int)

    def shares(self, weights: Rows, *, base: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        """Return the weighted share of each option, shape (rows, q, max K); NaN for a question nobody answered.

        Options past a question's own K are 0, which leaves the Wasserstein distance as it is.

        Raises:
            DataError: If weights do not fit the people, or are negative or not finite.
        """
        return self._shares(self._counts(_Weights(weights, base, len(self))))

    def half_shares(
        self, masks: NDArray[np.bool_], *, base: NDArray[np.float64] | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the shares of those that each mask marks, and of the others: all minus the first, at no cost.

        Example:
            >>> table = AnswerTable(np.array([[0], [0], [1], [1]]), [2])
            >>> [half.tolist() for half in table.half_shares(np.array([[True, True, False, True]]))]
            [[[[0.6666666666666666, 0.3333333333333333]]], [[[0.0, 1.0]]]]
        """
        first = self._counts(_Weights(masks, base, len(self)))
        whole = self._counts(_Weights(_everybody(self), base, len(self)))
        return self._shares(first), self._shares(_rest(whole, first))

    def midranks(self, weights: ArrayLike | None = None) -> NDArray[np.float64]:
        """Return the middle rank of each option among the answers to its question, as a share, shape (q, max K).

        Ranks of answers for Spearman's correlation: the share below plus half the share of the option itself (ridits,
        Bross 1958). NaN for a question nobody answered.

        Args:
            weights: Shape (n,); None: everybody counts alike.

        Example:
            >>> AnswerTable(np.array([[0], [0], [1], [2]]), [3]).midranks().tolist()
            [[0.25, 0.625, 0.875]]
        """
        row = np.ones(len(self)) if weights is None else np.asarray(weights, dtype=np.float64)
        shares = self.shares(row[None])[0]
        return np.asarray(shares.cumsum(axis=1) - shares / 2)

    def moments(
        self,
        weights: Rows,
        *,
        base: NDArray[np.float64] | None = None,
        listwise: bool = False,
        keyed: ArrayLike = (),
    ) -> Moments:
        """Return weighted covariances and Pearson's correlations of the positions 0..K-1.

        Args:
            weights: Shape (rows, n).
            base: Multiplies every row, shape (n,).
            listwise: Use only people who answered every question; else, for each pair, all who answered both.
            keyed: True for items that count reversed, shape (q,); empty for none.

        Returns:
            Covariances (denominator: sum of weights minus the mean weight, so n-1 without weights), NaN where a pair
            has fewer than two people; correlations, -1 to 1, NaN also where an item is constant.

        Raises:
            DataError: If weights do not fit the people, or are negative or not finite.

        Example:
            >>> table = AnswerTable(np.array([[0, 0], [1, 2], [2, 1]]), [3, 3])
            >>> table.moments(np.ones((1, 3))).correlation[0].round(6).tolist()
            [[1.0, 0.5], [0.5, 1.0]]
        """
        return _pair_sums(_Values(self, listwise), _Weights(weights, base, len(self))).moments(keyed)

    def half_moments(
        self,
        masks: NDArray[np.bool_],
        *,
        base: NDArray[np.float64] | None = None,
        listwise: bool = False,
        keyed: ArrayLike = (),
    ) -> tuple[Moments, Moments]:
        """Return the moments of those that each mask marks, and of the others: all minus the first, at no cost."""
        values = _Values(self, listwise)
        first = _pair_sums(values, _Weights(masks, base, len(self)))
        whole = _pair_sums(values, _Weights(_everybody(self), base, len(self)))
        return first.moments(keyed), whole.without(first).moments(keyed)

    def rank_correlation(
        self,
        weights: Rows,
        scores: NDArray[np.float64],
        *,
        base: NDArray[np.float64] | None = None,
        listwise: bool = False,
        pairs: NDArray[np.float64] | None = None,
    ) -> NDArray[np.float64]:
        """Return the correlations of scored answers, -1 to 1, shape (rows, q, q); NaN where an item is constant.

        With `midranks` of the same people it is Spearman's; the ranks are those of the item in the whole sample, taken
        once and kept for all rows and pairs (pandas ranks anew within each pair where answers are missing).

        Args:
            weights: Shape (rows, n).
            scores: Value of each option, shape (q, max K).
            base: Multiplies every row, shape (n,).
            listwise: As for `moments`.
            pairs: That of `moments` of the same weights, so that it is not summed again.

        Raises:
            DataError: If weights or scores do not fit, or weights are negative or not finite.

        Example:
            >>> table = AnswerTable(np.array([[0, 0], [1, 2], [2, 1]]), [3, 3])
            >>> table.rank_correlation(np.ones((1, 3)), table.midranks())[0].round(6).tolist()
            [[1.0, 0.5], [0.5, 1.0]]
        """
        values = _Values(self, listwise, scores)
        return _pair_sums(values, _Weights(weights, base, len(self)), pairs).correlation

    def half_rank_correlations(
        self,
        masks: NDArray[np.bool_],
        scores: NDArray[np.float64],
        *,
        base: NDArray[np.float64] | None = None,
        listwise: bool = False,
        pairs: NDArray[np.float64] | None = None,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return those of the people that each mask marks, and of the others: all minus the first, at no cost."""
        values = _Values(self, listwise, scores)
        first = _pair_sums(values, _Weights(masks, base, len(self)), pairs)
        whole = _pair_sums(values, _Weights(_everybody(self), base, len(self)))
        return first.correlation, whole.without(first).correlation

    def polychoric(self, weights: Rows, *, base: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        """Return the polychoric correlation of each pair of items, shape (rows, q, q); see `polychoric.polychoric`.

        Each pair by itself, from those who answered both, so the matrix need not be positive definite. The diagonal is
        1; all of an item is NaN where it is constant. Takes far longer than `moments`: a second or two for 60 items
        and one row.

        Example:
            >>> table = AnswerTable(np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), [2, 2])
            >>> table.polychoric(np.ones((1, 4)))[0].round(6).tolist()
            [[1.0, 0.0], [0.0, 1.0]]
        """
        q, given = len(self.n_options), _Weights(weights, base, len(self))
        one, other = np.triu_indices(q, k=1)
        found = np.full((given.count, q, q), np.nan)
        several = (np.nan_to_num(self._shares(self._counts(given))) > 0).sum(axis=2) > 1
        found[:, np.arange(q), np.arange(q)] = np.where(several, 1.0, np.nan)
        for at in range(given.count):
            found[at, one, other] = found[at, other, one] = polychoric(self._tables(given.row(at), one, other))
        return found

    def _counts(self, weights: _Weights) -> NDArray[np.float64]:
        """Sum the weights of those who chose each option, shape (rows, sum of K)."""
        sums = np.zeros((weights.count, len(self._option)))
        for block, rows in weights.blocks(len(self._option), largest=1):
            sums += rows @ self._chosen[block].astype(rows.dtype)
        return sums

    def _shares(self, counts: NDArray[np.float64]) -> NDArray[np.float64]:
        spread = np.zeros((len(counts), len(self.n_options), int(self.n_options.max(initial=0))))
        spread[:, self._question, self._option] = counts
        total = spread.sum(axis=2, keepdims=True)
        return np.asarray(np.divide(spread, total, out=np.full_like(spread, np.nan), where=total > 0))

    def _tables(self, weights: _Weights, one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.float64]:
        """Cross-tabulate pairs of items for the one row of weights, shape (pairs, max K, max K)."""
        width = len(self._option)
        # One column and row more, of zeros: where the options that an item does not have point to.
        sums = np.zeros((width + 1, width + 1))
        for block, rows in weights.blocks(3 * width, largest=1):
            chosen = self._chosen[block].astype(rows.dtype)
            sums[:width, :width] += (chosen * rows[0][:, None]).T @ chosen
        place = np.full((len(self.n_options), int(self.n_options.max(initial=0))), width)
        place[self._question, self._option] = np.arange(width)
        return np.asarray(sums[place[one][:, :, None], place[other][:, None, :]])


class _Weights:
    """Rows of weights, checked once and handed out in blocks of people."""

    def __init__(self, rows: Rows, base: NDArray[np.float64] | None, people: int) -> None:
        self.rows = _checked(rows, people)
        weights = None if base is None else _checked(np.asarray(base, dtype=np.float64)[None], people)[0]
        # A common factor changes nothing: equal weights are none, unless they are 0.
        self.base = None if weights is None or ((weights == weights[:1]) & (weights > 0)).all() else weights

    @property
    def count(self) -> int:
        return len(self.rows)

    @property
    def marks(self) -> bool:
        """Whether everybody counts once or not at all."""
        return self.base is None and self.rows.dtype == bool

    def row(self, at: int) -> _Weights:
        return _Weights(self.rows[at : at + 1], self.base, self.rows.shape[1])

    def blocks(self, columns: int, *, largest: float) -> Blocks:
        """Hand out (people, weights) in blocks that fit a table of so many columns, of values up to `largest`."""
        people = self.rows.shape[1]
        step = max(1, BLOCK_BYTES // (8 * (columns + self.count)))
        most = float(self.rows.max(initial=0)) * largest * min(step, people)
        whole = self.base is None and self.rows.dtype.kind in "biu" and most < EXACT
        for start in range(0, people, step):
            block = slice(start, start + step)
            if self.base is not None:
                yield block, self.rows[:, block] * self.base[block]
            else:
                yield block, self.rows[:, block].astype(np.float32 if whole else np.float64)


def _checked(rows: Rows, people: int) -> Rows:
    if rows.ndim != 2 or rows.shape[1] != people:
        raise DataError(f"weights of shape {rows.shape} do not fit {people} people: give shape (rows, {people})")
    least, most = rows.min(initial=0), rows.max(initial=0)
    if not (least >= 0 and most < np.inf):
        wrong = least if not least >= 0 else most
        raise DataError(f"weights must be finite and not negative, got {wrong}: leave people out with weight 0")
    return rows


def _everybody(table: AnswerTable) -> NDArray[np.bool_]:
    return np.ones((1, len(table)), dtype=bool)


def _rest(whole: NDArray[np.float64], part: NDArray[np.float64]) -> NDArray[np.float64]:
    rest = whole - part
    return np.where(rest > ROUNDING * whole, rest, 0.0)


class _Values:
    """Values of answers and whether they are there, in blocks of people."""

    def __init__(self, table: AnswerTable, listwise: bool, scores: NDArray[np.float64] | None = None) -> None:
        self.codes, self.present = table.codes, table.present
        if listwise:
            self.present = self.present & self.present.all(axis=1, keepdims=True)
        # Centred on the middle of the scale: sums of squares keep their digits, and turned items only change signs.
        self.middle = (table.n_options - 1) / 2 if scores is None else np.full(len(table.n_options), 0.5)
        most = (len(table.n_options), int(table.n_options.max(initial=0)))
        if scores is not None and scores.shape != most:
            raise DataError(f"scores of shape {scores.shape} do not fit: give shape {most}, a value for each option")
        self.scores = scores
        # Squares are quarters of whole numbers; scores may be anything.
        self.largest = max(1.0, 4 * float(self.middle.max(initial=0)) ** 2) if scores is None else np.inf

    @property
    def questions(self) -> int:
        return int(self.codes.shape[1])

    def block(self, people: slice, dtype: np.dtype[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return presence and values, 0 where missing; shape (people, q)."""
        codes, present = self.codes[people], self.present[people]
        values = codes if self.scores is None else self.scores[np.arange(self.questions), codes]
        return present.astype(dtype), np.where(present, values - self.middle, 0.0).astype(dtype)


@dataclass(frozen=True, kw_only=True)
class _PairSums:
    """Sums over the people who answered both items of a pair, for each row of weights; shapes (rows, q, q)."""

    n: NDArray[np.float64]
    """Of weights."""
    sx: NDArray[np.float64]
    sxx: NDArray[np.float64]
    sxy: NDArray[np.float64]
    people: NDArray[np.float64]
    """Number of people that count at all."""

    def without(self, part: _PairSums) -> _PairSums:
        """Return what is left when a part is taken away."""
        return _PairSums(
            n=_rest(self.n, part.n),
            sx=self.sx - part.sx,
            sxx=self.sxx - part.sxx,
            sxy=self.sxy - part.sxy,
            people=self.people - part.people,
        )

    @cached_property
    def _root(self) -> NDArray[np.float64]:
        with np.errstate(divide="ignore", invalid="ignore"):
            square = self.sxx - self.sx**2 / self.n
            # What is left of a constant item is rounding, in proportion to the weights: make it the zero that it is.
            return np.asarray(np.sqrt(np.where(square > LEAST_VARIANCE * self.n, square, 0.0)))

    @cached_property
    def _cross(self) -> NDArray[np.float64]:
        varied = (self._root > 0) & (self._root > 0).swapaxes(1, 2)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(varied, self.sxy - self.sx * self.sx.swapaxes(1, 2) / self.n, 0.0)

    @property
    def correlation(self) -> NDArray[np.float64]:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.clip(self._cross / (self._root * self._root.swapaxes(1, 2)), -1, 1)

    def moments(self, keyed: ArrayLike) -> Moments:
        with np.errstate(divide="ignore", invalid="ignore"):
            covariance = self._cross / (self.n - self.n / self.people)
        found = Moments(covariance=covariance, correlation=self.correlation, pairs=self.n, people=self.people)
        return found.keyed(keyed) if np.size(keyed) else found


def _pair_sums(values: _Values, weights: _Weights, pairs: NDArray[np.float64] | None = None) -> _PairSums:
    """Sum over pairs of items. Many rows: one product with a table of all pairs; few: one small product each.

    Where `pairs` tells the weight of those who answered both, neither it nor their number is counted.
    """
    q = values.questions
    many = weights.count > 8 * q
    add = _add_by_pairs if many else _add_by_rows
    sums = np.zeros((3 if pairs is not None else 5, weights.count, q, q))
    for people, rows in weights.blocks(4 * q * q if many else 6 * q, largest=values.largest):
        add(sums, rows, *values.block(people, rows.dtype))
    sx, sxx, sxy = sums[:3]
    if pairs is not None:
        return _PairSums(n=pairs, sx=sx, sxx=sxx, sxy=sxy, people=np.full_like(pairs, np.nan))
    return _PairSums(n=sums[3], sx=sx, sxx=sxx, sxy=sxy, people=sums[3] if weights.marks else sums[4])


def _add_by_pairs(sums: NDArray[np.float64], rows: NDArray[Any], p: NDArray[Any], x: NDArray[Any]) -> None:
    counted = (rows > 0).astype(rows.dtype)
    for total, (w, left, right) in zip(
        sums, ((rows, x, p), (rows, x * x, p), (rows, x, x), (rows, p, p), (counted, p, p)), strict=False
    ):
        total += (w @ (left[:, :, None] * right[:, None, :]).reshape(len(x), -1)).reshape(total.shape)


def _add_by_rows(sums: NDArray[np.float64], rows: NDArray[Any], p: NDArray[Any], x: NDArray[Any]) -> None:
    q, table, known = x.shape[1], np.hstack([p, x, x * x]), len(sums) == 3
    for at, row in enumerate(rows):
        inside = np.flatnonzero(row)
        part, w = table[inside], row[inside, None]
        both = part[:, : 2 * q]
        even = bool((w == 1).all())
        weighted = both if even else both * w
        # The same array on both sides: numpy has it computed as a symmetric product, at half the cost.
        gram = weighted[:, q:].T @ both if known and not even else weighted.T @ both
        sums[0, at] += gram[-q:, :q]
        sums[1, at] += part[:, 2 * q :].T @ weighted[:, :q]
        sums[2, at] += gram[-q:, q:]
        if not known:
            sums[3, at] += gram[:q, :q]
            sums[4, at] += gram[:q, :q] if even else part[:, :q].T @ part[:, :q]
