"""Weights of all pairs of respondents and personas, searched without ever being held at once. Pure.

Respondents with equal levels and personas with equal probabilities are merged. The rest is bound and search: personas
with the same likeliest levels lie in one block, a block's weight is at most the product of its greatest probabilities,
and only blocks whose bound reaches the best weight found so far are computed. Weights are products, never logs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from anthology_hub.schema import MISSING

if TYPE_CHECKING:
    from numpy.typing import NDArray

_Float = TypeVar("_Float", np.float32, np.float64)

BLOCK = 16
"""Rows of personas that share a bound; more where there are so many that the bounds would fill the memory."""
_BLOCKS = 2**14
"""Blocks from which on they grow."""
_SHARE = 2
"""A group of traits has at most one in so many combinations as there are profiles."""
_WIDE = 128
"""Blocks whose bounds are made at once."""
_UP = np.float32(1 + 4e-6)
_TINY = np.float32(1e-37)
"""Make up for what bounds lose in single precision."""
_CELLS = 2**18
"""Numbers in a buffer: 2 MB, which stays in the cache."""
_BITS = 22
"""Last bits of a weight that may be rounding alone: weights that agree to 1 in 2^30 tie."""
_SLACK = 2**-29


class Found(NamedTuple):
    """Pairs of a profile and a row, by profile and then by falling value."""

    profile: NDArray[np.intp]
    row: NDArray[np.intp]
    value: NDArray[np.float64]
    """Weight less the price of the row."""

    def take(self, which: NDArray[np.intp] | NDArray[np.bool_]) -> Found:
        """Return some of the pairs."""
        return Found(self.profile[which], self.row[which], self.value[which])

    @staticmethod
    def joined(parts: Iterable[Found]) -> Found:
        """Return the pairs of all parts, one part after the other."""
        profile, row, value = zip((np.empty(0, np.intp), np.empty(0, np.intp), np.empty(0)), *parts, strict=True)
        return Found(np.concatenate(profile), np.concatenate(row), np.concatenate(value))


@dataclass(frozen=True, kw_only=True, eq=False)
class PairWeights:
    """Weights of distinct profiles of respondents and distinct rows of personas.

    Example:
        >>> table = {"region": np.array([[1.0, 0.0], [0.25, 0.75], [1.0, 0.0]])}
        >>> weights = PairWeights.of(table, {"region": np.array([1, 0, 1])}, floor={"region": 1e-4})
        >>> weights.profile_of.tolist(), len(weights.supply), len(weights.stock)
        ([1, 0, 1], 2, 2)
        >>> weights.dense(np.arange(3), np.arange(3)).round(9).tolist()
        [[0.0001, 0.75, 0.0001], [1.0, 0.25, 1.0], [0.0001, 0.75, 0.0001]]
    """

    profile_of: NDArray[np.intp]
    """Profile of each respondent, shape (respondents,)."""
    row_of: NDArray[np.intp]
    """Row of each persona, shape (personas,)."""
    profiles: NDArray[np.intp]
    """Line of each trait's factors that holds the profile's level, shape (profiles, traits)."""
    factors: tuple[NDArray[np.float64], ...]
    """Of each trait, shape (lines, blocks, rows of a block); zero behind the last row."""

    @classmethod
    def of(
        cls,
        tables: Mapping[str, NDArray[np.float64]],
        codes: Mapping[str, NDArray[np.int16]],
        *,
        floor: Mapping[str, float],
        importance: Mapping[str, float] | None = None,
        impossible: bool = True,
    ) -> PairWeights:
        """Merge respondents and personas.

        Args:
            tables: Trait -> probabilities, shape (personas, levels); a row of NaN counts as uniform.
            codes: Trait -> level of each respondent, shape (respondents,); MISSING counts as uniform.
            floor: Trait -> least probability, above 0 and below 1.
            importance: Trait -> exponent, above 0; 1 for those not named.
            impossible: Whether the floor also holds for a probability of exactly 0, which otherwise stays 0.
        """
        kinds, profile_of = np.unique(np.stack([codes[name] for name in tables], axis=1), axis=0, return_inverse=True)
        columns, profiles = [], np.empty(kinds.shape, dtype=np.intp)
        for at, (name, table) in enumerate(tables.items()):
            used, profiles[:, at] = np.unique(kinds[:, at], return_inverse=True)
            columns.append(
                _Column(table, used, floor[name], exponent=(importance or {}).get(name, 1.0), impossible=impossible)
            )
        leaders, row_of = _merged(columns)
        factors = tuple(_blocked(column, leaders) for column in columns)
        return cls(profile_of=profile_of.ravel(), row_of=row_of, profiles=profiles, factors=factors)

    @cached_property
    def supply(self) -> NDArray[np.intp]:
        """Respondents of each profile, shape (profiles,)."""
        return np.bincount(self.profile_of, minlength=len(self.profiles))

    @cached_property
    def stock(self) -> NDArray[np.intp]:
        """Personas of each row, shape (rows,)."""
        return np.bincount(self.row_of)

    def dense(self, respondents: NDArray[np.intp], personas: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return the weights of some respondents and personas, shape (respondents, personas), ties made exact."""
        whole = np.empty((len(respondents), len(personas)))
        rows = self.row_of[personas]
        for start in range(0, len(personas), 2048):
            part = slice(start, start + 2048)
            cut = [factor.reshape(len(factor), -1)[:, rows[part]] for factor in self.factors]
            tables = [np.concatenate([made for _, made in group.products(cut[group.traits])]) for group in self._groups]
            step = max(1, _CELLS // 2048)
            for first in range(0, len(respondents), step):
                of = self.profile_of[respondents[first : first + step]]
                block = tables[0][self._groups[0].place[of]]
                for table, group in zip(tables[1:], self._groups[1:], strict=True):
                    block *= table[group.place[of]]
                whole[first : first + step, part] = snapped(block)
        return whole

    def at(self, profiles: NDArray[np.intp], rows: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return the weights of pairs of a profile and a row, shape (pairs,)."""
        weights = np.ones(len(rows))
        for trait, factor in enumerate(self.factors):
            weights *= factor[self.profiles[profiles, trait], *np.divmod(rows, factor.shape[2])]
        return weights

    def row(self, profile: int) -> NDArray[np.float64]:
        """Return the weights of one profile with every row, shape (rows,)."""
        every = np.arange(self.factors[0].shape[1])
        return self.values(np.full(len(every), profile), every).ravel()[: len(self.stock)]

    def best(
        self,
        k: int | NDArray[np.intp],
        *,
        prices: NDArray[np.float64] | None = None,
        above: NDArray[np.float64] | None = None,
    ) -> Iterator[Found]:
        """Yield the best rows of every profile, some profiles at a time.

        Args:
            k: How many, 1 or more; one number, or one for each profile. Those that tie with the last come too.
            prices: What is taken off the weights of each row, 0 or more, shape (rows,).
            above: Only those whose value is greater than this, shape (profiles,).
        """
        widths = np.broadcast_to(np.asarray(k), len(self.profiles))
        limits = np.full(len(self.profiles), -np.inf) if above is None else above
        # What lies behind the last row has an infinite price.
        asked = np.full(self.factors[0].shape[1:], np.inf)
        asked.ravel()[: len(self.stock)] = 0 if prices is None else prices
        least = (asked.min(axis=1) / _UP).astype(np.float32) - _TINY
        step = max(1, _CELLS // len(asked))
        for start in range(0, len(self.profiles), step):
            part = slice(start, start + step)
            profiles = np.arange(len(self.profiles))[part]
            search = _Search(weights=self, profiles=profiles, prices=asked, k=widths[part], above=limits[part])
            found = search.best(self._bounds(search.profiles) - least)
            yield found._replace(profile=found.profile + start)

    def values(
        self, profiles: NDArray[np.intp], blocks: NDArray[np.intp], prices: NDArray[np.float64] | None = None
    ) -> NDArray[np.float64]:
        """Return weights less prices of pairs of a profile and a block, shape (pairs, rows)."""
        lines = self.profiles[profiles]
        values: NDArray[np.float64] = self.factors[0][lines[:, 0], blocks]
        for at, factor in enumerate(self.factors[1:], 1):
            values *= factor[lines[:, at], blocks]
        return values if prices is None else values - prices[blocks]

    def _bounds(self, profiles: NDArray[np.intp]) -> NDArray[np.float32]:
        """Most that a row of each block can weigh, shape (profiles, blocks)."""
        first, *others = zip(self._maxima, self._groups, strict=True)
        bounds: NDArray[np.float32] = first[0][first[1].place[profiles]]
        for maxima, group in others:
            bounds *= maxima[group.place[profiles]]
        return bounds

    @cached_property
    def _groups(self) -> tuple[_Group, ...]:
        limit = max(1, len(self.profiles) // _SHARE)
        return tuple(_Group.of(part, self.profiles) for part in _split(self.profiles, limit, 0))

    @cached_property
    def _maxima(self) -> list[NDArray[np.float32]]:
        """Greatest product of each combination in each block, of each group, shape (combinations, blocks)."""
        found = []
        for group in self._groups:
            maxima = np.empty((group.size, self.factors[0].shape[1]), dtype=np.float32)
            for start in range(0, maxima.shape[1], _WIDE):
                wide = (factor[:, start : start + _WIDE].swapaxes(1, 2) for factor in self.factors[group.traits])
                cut = [factor.astype(np.float32, order="C") for factor in wide]
                for part, products in group.products(cut):
                    maxima[part, start : start + _WIDE] = products.max(axis=1)
            maxima *= _UP
            found.append(maxima)
        return found


@dataclass(frozen=True, kw_only=True, eq=False)
class _Search:
    """The best rows of some profiles."""

    weights: PairWeights
    profiles: NDArray[np.intp]
    prices: NDArray[np.float64]
    """Shape (blocks, rows of a block)."""
    k: NDArray[np.intp]
    """Rows wanted, shape (profiles,)."""
    above: NDArray[np.float64]
    """Values must be greater, shape (profiles,)."""

    def best(self, bounds: NDArray[np.float32]) -> Found:
        """Compute the blocks whose bound reaches what is wanted; bounds have shape (profiles, blocks)."""
        least = np.maximum(self.above, _less(self._promising(bounds)))
        reached = np.flatnonzero(bounds >= _single(least)[:, None])
        found = self._computed(np.divmod(reached, bounds.shape[1]), least)
        found = found.take(np.lexsort((-found.value, found.profile)))
        return found.take(found.value >= _less(_kth(found, self.k))[found.profile])

    def _promising(self, bounds: NDArray[np.float32]) -> NDArray[np.float64]:
        """The k-th best value in some blocks of high bounds, shape (profiles,)."""
        # The best bound of each part of the blocks: that costs one pass, and no sort.
        width = -(-bounds.shape[1] // (4 + 2 * int(self.k.max())))
        starts = np.arange(0, bounds.shape[1], width)
        tops = np.stack([bounds[:, start : start + width].argmax(axis=1) + start for start in starts], axis=1)
        profiles = np.repeat(self.profiles, len(starts))
        values = self.weights.values(profiles, tops.ravel(), self.prices).reshape(len(tops), -1)
        within = np.minimum(self.k, values.shape[1])
        kth = np.sort(values, axis=1)[np.arange(len(tops)), -within]
        return np.where(self.k > within, -np.inf, kth)

    def _computed(self, pairs: tuple[NDArray[np.intp], NDArray[np.intp]], least: NDArray[np.float64]) -> Found:
        """What reaches the limit; pairs are of a position among the profiles and a block."""
        parts, rows = [], self.prices.shape[1]
        for start in range(0, len(pairs[0]), _CELLS // rows):
            at, block = (column[start : start + _CELLS // rows] for column in pairs)
            values = self.weights.values(self.profiles[at], block, self.prices)
            good = np.flatnonzero((values >= least[at, None]) & (values > self.above[at, None]))
            i, inside = np.divmod(good, rows)
            parts.append(Found(at[i], block[i] * rows + inside, values.ravel()[good]))
        return Found.joined(parts)


class _Group(NamedTuple):
    """Some traits, and the combinations of their levels that profiles have."""

    traits: slice
    place: NDArray[np.intp]
    """Combination of each profile, shape (profiles,)."""
    steps: tuple[tuple[NDArray[np.intp], NDArray[np.intp]], ...]
    """Trait by trait, the combination of those before and the line of the trait that make each combination."""

    @classmethod
    def of(cls, traits: slice, profiles: NDArray[np.intp]) -> _Group:
        place, steps = np.zeros(len(profiles), dtype=np.intp), []
        for lines in profiles.T[traits]:
            wide = int(lines.max()) + 1
            made, place = np.unique(place * wide + lines, return_inverse=True)
            steps.append((made // wide, made % wide))
        return cls(traits, place, tuple(steps))

    @property
    def size(self) -> int:
        return len(self.steps[-1][0])

    def products(self, factors: Sequence[NDArray[_Float]]) -> Iterator[tuple[slice, NDArray[_Float]]]:
        """Yield products of the factors of each combination, one line each, some combinations at a time."""
        product = factors[0][self.steps[0][1]]
        for factor, (before, line) in zip(factors[1:-1], self.steps[1:-1], strict=True):
            product = product[before]
            product *= factor[line]
        if len(factors) == 1:
            yield slice(None), product
            return
        before, line = self.steps[-1]
        step = max(1, _CELLS // product[0].size)
        for start in range(0, self.size, step):
            part = slice(start, start + step)
            last = product[before[part]]
            last *= factors[-1][line[part]]
            yield part, last


def _split(profiles: NDArray[np.intp], limit: int, start: int) -> list[slice]:
    """Parts of the traits with few combinations each, cut where they come out fewest."""
    traits = profiles.shape[1]
    if traits == 1 or _combinations(profiles) <= limit:
        return [slice(start, start + traits)]
    cut = min(range(1, traits), key=lambda at: _combinations(profiles[:, :at]) + _combinations(profiles[:, at:]))
    return _split(profiles[:, :cut], limit, start) + _split(profiles[:, cut:], limit, start + cut)


def _combinations(profiles: NDArray[np.intp]) -> int:
    return len(np.unique(np.ravel_multi_index(tuple(profiles.T), tuple(profiles.max(axis=0) + 1))))


class _Column(NamedTuple):
    """One trait: what its probabilities count as."""

    table: NDArray[np.float64]
    used: NDArray[np.int16]
    floor: float
    exponent: float
    impossible: bool

    def of(self, personas: NDArray[np.intp] | slice) -> NDArray[np.float64]:
        """Factors of some personas, shape (personas, levels that a respondent has)."""
        probs = floored(self.table[personas], self.used, self.floor, impossible=self.impossible)
        return probs if self.exponent == 1 else probs**self.exponent


def floored(
    table: NDArray[np.float64], levels: NDArray[np.int16], floor: float, *, impossible: bool = True
) -> NDArray[np.float64]:
    """Return probabilities of some levels as they count, shape (personas, levels).

    Args:
        table: Shape (personas, levels); a row of NaN counts as uniform.
        levels: Positions of levels; MISSING counts as uniform.
        floor: Least probability.
        impossible: Whether the floor also holds for a probability of exactly 0.

    Example:
        >>> floored(np.array([[1.0, 0.0], [np.nan, np.nan]]), np.array([1, -1]), 0.01).tolist()
        [[0.01, 0.5], [0.5, 0.5]]
    """
    probs = table[:, levels]
    probs[np.isnan(table).any(axis=1)] = 1 / table.shape[1]
    probs[:, levels == MISSING] = 1 / table.shape[1]
    return np.maximum(probs, floor) if impossible else np.where(probs == 0, 0.0, np.maximum(probs, floor))


def snapped(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return weights without their last bits, which hold rounding: so ties are exact, to 1 in 2^30.

    Example:
        >>> one, other = 0.1 * 0.2 * 0.3, 0.3 * 0.2 * 0.1
        >>> one == other, bool(snapped(np.array([one])) == snapped(np.array([other])))
        (False, True)
    """
    bits = weights.view(np.int64) + (1 << (_BITS - 1))
    bits &= -(1 << _BITS)
    return bits.view(np.float64)


class Members:
    """Who is in which group.

    Example:
        >>> Members(np.array([1, 0, 1])).of(1).tolist()
        [0, 2]
    """

    def __init__(self, group_of: NDArray[np.intp]) -> None:
        self._order = np.argsort(group_of, kind="stable")
        self._ends = np.concatenate([[0], np.cumsum(np.bincount(group_of))])

    def of(self, group: int) -> NDArray[np.intp]:
        """Return the positions in a group, rising."""
        return self._order[self._ends[group] : self._ends[group + 1]]


def _merged(columns: Sequence[_Column]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """One persona of each row, in an order that puts like beside like, and the row of each persona."""
    hashes, tops = _content(columns)
    _, leaders, row_of = np.unique(hashes, return_index=True, return_inverse=True)
    merged = np.flatnonzero(leaders[row_of] != np.arange(len(hashes)))
    if not all(_agree(column, merged, leaders[row_of]) for column in columns):
        # Two contents with one hash, once in 10^7 million personas: nobody is merged then.
        leaders = row_of = np.arange(len(hashes))
    order = np.argsort(tops[leaders], kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return leaders[order], place[row_of]


def _content(columns: Sequence[_Column]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """A hash of all factors of each persona, and a number for its likeliest levels."""
    personas = len(columns[0].table)
    hashes, tops = np.zeros(personas, dtype=np.uint64), np.zeros(personas, dtype=np.int64)
    odd = np.random.default_rng(0).integers(2**63, size=sum(len(column.used) for column in columns), dtype=np.uint64)
    for part in _parts(personas):
        factors = [column.of(part) for column in columns]
        for column in factors:
            tops[part] = tops[part] * column.shape[1] + column.argmax(axis=1)
        bits = np.concatenate(factors, axis=1).view(np.uint64)
        # Short fractions have all their bits in front, where a product would lose them.
        bits ^= bits >> np.uint64(32)
        hashes[part] = bits @ (odd | np.uint64(1))
    return hashes, tops


def _agree(column: _Column, personas: NDArray[np.intp], leaders: NDArray[np.intp]) -> bool:
    parts = (personas[part] for part in _parts(len(personas)))
    return all(bool((column.of(part) == column.of(leaders[part])).all()) for part in parts)


def _parts(n: int) -> list[slice]:
    return [slice(start, stop) for start, stop in pairwise([*range(0, n, 2**14), n])]


def _blocked(column: _Column, personas: NDArray[np.intp]) -> NDArray[np.float64]:
    """Factors of one persona of each row, shape (lines, blocks, rows of a block)."""
    size = BLOCK * max(1, len(personas) // (BLOCK * _BLOCKS))
    blocked = np.zeros((len(column.used), -(-len(personas) // size) * size))
    for part in _parts(len(personas)):
        blocked[:, part] = column.of(personas[part]).T
    return blocked.reshape(len(blocked), -1, size)


def _less(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The least that may tie with a value."""
    finite = np.isfinite(values)
    return np.where(finite, values - _SLACK * np.abs(np.where(finite, values, 0)), values)


def _single(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """Values in single precision that are not greater."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(np.where(np.isinf(values), values, values - 4e-6 * np.abs(values)), dtype=np.float32)


def _kth(found: Found, k: NDArray[np.intp]) -> NDArray[np.float64]:
    """The k-th greatest value of each profile; no limit where there are fewer."""
    ends = np.searchsorted(found.profile, np.arange(len(k)), side="right")
    at = np.searchsorted(found.profile, np.arange(len(k))) + k - 1
    return np.where(at < ends, np.append(found.value, 0)[np.minimum(at, len(found.value))], -np.inf)
