"""Who gets whom, once the weights of all pairs are known. Pure: every draw and every tie follows seed and ids alone."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from anthology_hub.assignment import Casting, assign, cast
from anthology_hub.pair_weights import Members, PairWeights, snapped
from anthology_hub.prompts import derive_seed

if TYPE_CHECKING:
    from numpy.typing import NDArray

UNMATCHED = -1


class Lots:
    """An order that seed and ids alone decide, whatever the order in which they come.

    Example:
        >>> first, second = Lots(["a", "b", "c"], 0, "persona"), Lots(["c", "a", "b"], 0, "persona")
        >>> [["a", "b", "c"][at] for at in first.order()] == [["c", "a", "b"][at] for at in second.order()]
        True
    """

    def __init__(self, ids: Sequence[str], seed: int, side: str) -> None:
        self.ids, self._seed, self._side = ids, seed, side
        self._drawn, self._lots = np.zeros(len(ids), dtype=bool), np.empty(len(ids), dtype=np.int64)

    def of(self, positions: NDArray[np.intp]) -> NDArray[np.int64]:
        """Return the lots at some positions; each is drawn when it is first asked for."""
        for at in positions[~self._drawn[positions]].tolist():
            self._lots[at] = derive_seed(self._seed, self.ids[at], self._side)
        self._drawn[positions] = True
        return self._lots[positions]

    def order(self) -> NDArray[np.intp]:
        """Return all positions by their lots."""
        return np.argsort(self.of(np.arange(len(self.ids))), kind="stable")


class Choosers:
    """Respondents and personas, and the ways to bring them together.

    Args:
        respondents: Their ids.
        personas: Their ids.
        seed: Of all draws.
    """

    def __init__(self, respondents: Sequence[str], personas: Sequence[str], *, seed: int = 0) -> None:
        self.seed, self.respondents = seed, Lots(respondents, seed, "respondent")
        self.personas = Lots(personas, seed, "persona")

    def drawn(self) -> NDArray[np.intp]:
        """Draw personas without replacement.

        Returns:
            Position of each respondent's persona or UNMATCHED, shape (respondents,), here and below.
        """
        rows, columns = self.respondents.order(), self.personas.order()
        chosen = np.full(len(rows), UNMATCHED)
        chosen[rows[: len(columns)]] = columns[: len(rows)]
        return chosen

    def greedy(self, weights: PairWeights, top_k: int = 1) -> NDArray[np.intp]:
        """Take one of the best personas for each respondent; pairs of weight 0 are none.

        Example:
            >>> table = {"region": np.array([[1.0, 0.0], [0.25, 0.75]])}
            >>> weights = PairWeights.of(table, {"region": np.array([1, 0])}, floor={"region": 1e-4})
            >>> Choosers(["r0", "r1"], ["p0", "p1"]).greedy(weights).tolist()
            [1, 0]
        """
        only = np.full(len(weights.supply), UNMATCHED)
        chosen = np.full(len(weights.profile_of), UNMATCHED)
        people, stock = Members(weights.row_of), weights.stock
        asking = Members(weights.profile_of)
        for found in weights.best(top_k):
            found = found.take(found.value > 0)
            values, ends = snapped(found.value), np.flatnonzero(np.diff(found.profile, prepend=-1, append=-1))
            for start, stop in pairwise(ends.tolist()):
                profile, rows = int(found.profile[start]), found.row[start:stop]
                if top_k == 1 and stop - start == 1 and stock[rows[0]] == 1:
                    only[profile] = people.of(rows[0])[0]
                else:
                    ladder = _Ladder(rows, values[start:stop], stock[rows], people, self.personas)
                    for at in asking.of(profile).tolist():
                        chosen[at] = ladder.pick(derive_seed(self.seed, self.respondents.ids[at], "greedy"), top_k)
        return np.where(chosen == UNMATCHED, only[weights.profile_of], chosen)

    def assigned(self, weights: PairWeights, capacity: int = 1) -> NDArray[np.intp]:
        """Assign one to one, or up to `capacity` respondents to one persona, by all weights at once."""
        rows, columns = self.respondents.order(), self.personas.order()
        return self._placed(rows, columns, weights.dense(rows, columns), capacity)

    def cast(self, weights: PairWeights, capacity: int = 1, *, rounds: int = 50) -> tuple[NDArray[np.intp], Casting]:
        """Do as `assigned` does without holding all weights, and say how near to the best that comes."""
        respondents, personas = _ranks(self.respondents.order()), _ranks(self.personas.order())
        ranks = _least(weights.profile_of, respondents), _least(weights.row_of, personas)
        found = cast(weights, capacity, ranks=ranks, rounds=rounds)
        flow = found.flow
        # Seats and respondents in the order of the lots, group by group, meet one by one.
        order = np.lexsort((ranks[1][flow.row], flow.profile))
        rows = np.repeat(flow.row[order], flow.respondents[order])
        matched = _firsts(weights.profile_of, respondents, np.repeat(flow.profile[order], flow.respondents[order]))
        chosen = np.full(len(weights.profile_of), UNMATCHED)
        by_row = np.argsort(rows, kind="stable")
        chosen[matched[by_row]] = _firsts(weights.row_of, personas, rows[by_row])
        return chosen, found

    def nearest(
        self, log_weights: NDArray[np.float64], method: str, *, capacity: int = 1, top_k: int = 1
    ) -> NDArray[np.intp]:
        """Choose by log weights that differ for every pair, shape (respondents, personas)."""
        rows, columns = self.respondents.order(), self.personas.order()
        # Ties that are exact in the products may differ by rounding in the logs.
        weights = log_weights[np.ix_(rows, columns)].round(9)
        if method != "greedy" and len(rows) > capacity:
            # The objective is the sum of weights, not of logs; the scale cancels and keeps tiny ones apart from zero.
            return self._placed(rows, columns, np.exp(weights - max(weights.max(), -1e300)), capacity)
        chosen = np.full(len(rows), UNMATCHED)
        for row, line in zip(rows.tolist(), weights, strict=True):
            number = derive_seed(self.seed, self.respondents.ids[row], "greedy")
            number, rank = divmod(number, top_k)
            tied = np.flatnonzero(line == (np.partition(line, -rank - 1)[-rank - 1] if rank else line.max()))
            chosen[row] = columns[tied[number % len(tied)]]
        return chosen

    @staticmethod
    def _placed(
        rows: NDArray[np.intp], columns: NDArray[np.intp], value: NDArray[np.float64], capacity: int
    ) -> NDArray[np.intp]:
        chosen = np.full(len(rows), UNMATCHED)
        matched, picked = assign(value, capacity)
        chosen[rows[matched]] = columns[picked]
        return chosen


class _Ladder:
    """The best rows of a profile by falling value, from which respondents draw a rank and then one of its ties."""

    def __init__(
        self,
        rows: NDArray[np.intp],
        values: NDArray[np.float64],
        stock: NDArray[np.intp],
        people: Members,
        lots: Lots,
    ) -> None:
        self._rows, self._values, self._people, self._lots = rows, values, people, lots
        self._ends = np.cumsum(stock)
        self._ties: dict[float, NDArray[np.intp]] = {}

    def pick(self, number: int, top_k: int) -> int:
        """Return the persona that a number stands for; all ties have the same chance."""
        number, rank = divmod(number, min(top_k, int(self._ends[-1])))
        tied = self._tied(float(self._values[np.searchsorted(self._ends, rank, side="right")]))
        return int(tied[number % len(tied)])

    def _tied(self, value: float) -> NDArray[np.intp]:
        if value not in self._ties:
            found = np.concatenate([self._people.of(row) for row in self._rows[self._values == value]])
            self._ties[value] = found[np.argsort(self._lots.of(found), kind="stable")]
        return self._ties[value]


def _ranks(order: NDArray[np.intp]) -> NDArray[np.intp]:
    ranks = np.empty_like(order)
    ranks[order] = np.arange(len(order))
    return ranks


def _least(group_of: NDArray[np.intp], ranks: NDArray[np.intp]) -> NDArray[np.intp]:
    """The first rank of each group."""
    least = np.full(int(group_of.max()) + 1, len(ranks))
    np.minimum.at(least, group_of, ranks)
    return least


def _firsts(group_of: NDArray[np.intp], ranks: NDArray[np.intp], wanted: NDArray[np.intp]) -> NDArray[np.intp]:
    """A member for each wanted group, in turn by rank, and from the first again; equal groups lie together."""
    order = np.lexsort((ranks, group_of))
    sizes = np.bincount(group_of)
    starts = np.cumsum(sizes) - sizes
    runs = np.flatnonzero(np.diff(wanted, prepend=-1))
    turn = np.arange(len(wanted)) - np.repeat(runs, np.diff(runs, append=len(wanted)))
    return np.asarray(order[starts[wanted] + turn % sizes[wanted]])
