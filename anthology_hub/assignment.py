"""The casting of largest total weight, and a proof that there is none larger. Pure.

Where all weights fit into memory, scipy's assignment gives it. Beyond, profiles of respondents and rows of personas
with equal weights are merged, and a minimum cost flow is solved on the best pairs alone. Its prices then say which of
all other pairs could do better; those are added, until there is none. Prices bound the total weight of every casting
(linear programming duality), so even a search that is stopped early says how much it may have missed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from anthology_hub.errors import MissingExtraError
from anthology_hub.pair_weights import Found, PairWeights, snapped

if TYPE_CHECKING:
    from numpy.typing import NDArray

DENSE = 200_000_000
"""Most pairs of a respondent and a seat for scipy: 1.6 GB. Fixed, so that ties do not depend on the machine."""
_WIDTH = 16
"""Pairs of each profile to begin with."""
_BITS = 40
"""Weights are counted in 2^-40 of the largest, so that the flow and its prices are exact."""


class Flow(NamedTuple):
    """How many respondents of each profile go to each row of personas."""

    profile: NDArray[np.intp]
    row: NDArray[np.intp]
    respondents: NDArray[np.intp]


@dataclass(frozen=True, kw_only=True, eq=False)
class Casting:
    """A flow, and what bounds every other."""

    flow: Flow
    total: float
    """Total weight."""
    prices: NDArray[np.float64]
    """Of a seat of each row, shape (rows,), 0 or more; 0 wherever a seat is left."""
    bound: float
    """No casting has a larger total weight: each respondent's best weight less price, and all prices, summed."""
    rounds: int
    """Flows that were solved."""

    @property
    def gap(self) -> float:
        """Share of the bound that the total falls short of, 0 to 1; rounding alone leaves less than 1e-9."""
        return max(0.0, 1 - self.total / self.bound) if self.bound else 0.0


def assign(value: NDArray[np.float64], capacity: int = 1) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return rows and their columns so that the sum of values is largest.

    Args:
        value: Shape (rows, columns), 0 or more; spoiled.
        capacity: Most rows of one column.

    Example:
        >>> [side.tolist() for side in assign(np.array([[3.0, 2.0], [2.0, 0.5]]))]
        [[0, 1], [1, 0]]
    """
    from scipy.optimize import linear_sum_assignment

    # In place, as scipy would copy everything to turn the sign.
    np.negative(value, out=value)
    rows, seats = linear_sum_assignment(np.repeat(value, capacity, axis=1) if capacity > 1 else value)
    return rows, seats // capacity


def cast(
    weights: PairWeights,
    capacity: int = 1,
    *,
    ranks: tuple[NDArray[np.intp], NDArray[np.intp]] | None = None,
    rounds: int = 50,
) -> Casting:
    """Find the casting of largest total weight.

    Args:
        weights: Of all pairs.
        capacity: Most respondents of one persona.
        ranks: Order of profiles and of rows, which decides between castings of equal weight.
        rounds: Most flows to solve before the search is stopped with what it has.

    Raises:
        MissingExtraError: If OR-tools is not installed.

    Example:
        >>> table = {"region": np.array([[1.0, 0.0], [0.25, 0.75], [0.5, 0.5]])}
        >>> found = cast(PairWeights.of(table, {"region": np.array([0, 0, 0])}, floor={"region": 1e-4}), 2)
        >>> found.flow.respondents.sum(), found.total, round(found.bound, 9)
        (np.int64(3), 2.5, 2.5)
    """
    search = _Search(
        weights, weights.stock * capacity, ranks or (np.arange(len(weights.supply)), np.arange(len(weights.stock)))
    )
    for _ in range(rounds):
        if not search.price():
            break
        search.solve()
    else:
        search.price()
    flow = search.completed()
    total = float(weights.at(flow.profile, flow.row) @ flow.respondents)
    return Casting(flow=flow, total=total, prices=search.prices, bound=search.bound, rounds=search.rounds)


class _Search:
    """Flows on more and more pairs."""

    def __init__(
        self, weights: PairWeights, seats: NDArray[np.intp], ranks: tuple[NDArray[np.intp], NDArray[np.intp]]
    ) -> None:
        self.weights, self.seats, self.ranks, self.rounds, self.bound = weights, seats, ranks, 0, np.inf
        self.widths = np.maximum(_WIDTH, 2 * weights.supply)
        self.size = int(ranks[1].max()) + 1
        order = np.argsort(ranks[0], kind="stable")
        self.starts = np.empty(len(order), dtype=np.intp)
        self.starts[order] = np.cumsum(weights.supply[order]) * self.size // weights.supply.sum()
        self.prices: NDArray[np.float64] = np.zeros(len(seats))
        self.gains: NDArray[np.float64] = np.zeros(len(weights.supply))
        """What a seat costs, and what a respondent is left with: weight less price."""
        self.unit = 0.0
        self.arcs = Found.joined(())
        self.flow = Flow(self.arcs.profile, self.arcs.row, np.empty(0, dtype=np.intp))

    def price(self) -> bool:
        """Look for pairs that would gain, over all pairs; say whether there are any."""
        tops = self.gains + 2 * self.unit
        best = self.weights.best(self.widths, prices=self.prices, above=tops)
        found = Found.joined(self._spread(part) for part in best)
        np.maximum.at(tops, found.profile, found.value)
        self.bound = min(self.bound, float(self.weights.supply @ tops + self.seats @ self.prices))
        self.widths[np.unique(found.profile)] *= 2
        found = found._replace(value=self.weights.at(found.profile, found.row))
        if not self.rounds and len(found.value):
            nodes = len(self.seats) + len(self.gains)
            self.unit = float(found.value.max()) / 2.0 ** min(_BITS, 61 - nodes.bit_length())
        arcs = Found.joined((self.arcs, found))
        order = np.lexsort((self.ranks[1][arcs.row], self.ranks[0][arcs.profile]))
        self.arcs = arcs.take(order)
        return bool(len(found.value))

    def _spread(self, found: Found) -> Found:
        """As many as are wanted of each profile; where more tie, each profile begins elsewhere among them."""
        values = np.rint(found.value / self.unit) if self.unit else snapped(found.value)
        turn = (self.ranks[1][found.row] - self.starts[found.profile]) % self.size
        order = np.lexsort((turn, -values, found.profile))
        starts = np.searchsorted(found.profile, found.profile)
        return found.take(order[np.arange(len(order)) - starts < self.widths[found.profile]])

    def solve(self) -> None:
        """Solve the flow on the pairs so far, and price it."""
        amounts = np.rint(self.arcs.value / self.unit).astype(np.int64)
        flow = _flow(self.arcs, amounts, self.weights.supply, self.seats, rank=self.ranks[1])
        used = np.flatnonzero(flow)
        self.flow = Flow(self.arcs.profile[used], self.arcs.row[used], flow[used])
        spare = self.weights.supply - _sums(self.flow.profile, self.flow.respondents, len(self.gains))
        prices, gains = _prices(self.arcs, amounts, used, n_rows=len(self.seats), spare=spare)
        self.prices, self.gains = np.asarray(prices * self.unit), np.asarray(gains * self.unit)
        self.rounds += 1

    def completed(self) -> Flow:
        """The flow, with those it leaves out sent to seats that are left: what they add is lost in rounding."""
        left = self.seats - _sums(self.flow.row, self.flow.respondents, len(self.seats))
        out = self.weights.supply - _sums(self.flow.profile, self.flow.respondents, len(self.gains))
        parts = [self.flow]
        for profile in sorted(np.flatnonzero(out).tolist(), key=self.ranks[0].__getitem__) if left.any() else ():
            values = np.where(left > 0, self.weights.row(profile), -np.inf)
            best = np.lexsort((self.ranks[1], -values))[: out[profile]]
            taken = np.diff(np.minimum(np.cumsum(left[best]), out[profile]), prepend=0)
            left[best] -= taken
            parts.append(Flow(np.full(len(best), profile), best, taken))
        profiles, rows, respondents = zip(*parts, strict=True)
        return Flow(np.concatenate(profiles), np.concatenate(rows), np.concatenate(respondents))


def _sums(at: NDArray[np.intp], amounts: NDArray[np.intp], n: int) -> NDArray[np.intp]:
    sums = np.zeros(n, dtype=np.intp)
    np.add.at(sums, at, amounts)
    return sums


def _flow(
    arcs: Found,
    amounts: NDArray[np.int64],
    supply: NDArray[np.intp],
    seats: NDArray[np.intp],
    *,
    rank: NDArray[np.intp],
) -> NDArray[np.intp]:
    """Respondents on each arc. Each profile also has a way around all personas, worth nothing."""
    try:
        from ortools.graph.python import min_cost_flow
    except ImportError as error:
        raise MissingExtraError("ortools", "matching", f"more than {DENSE:,} pairs to assign") from error
    rows = np.unique(arcs.row)
    rows = rows[np.argsort(rank[rows], kind="stable")]
    place = np.empty(len(seats), dtype=np.int64)
    place[rows] = len(supply) + np.arange(len(rows))
    sink, profiles = len(supply) + len(rows), np.arange(len(supply))
    flow = min_cost_flow.SimpleMinCostFlow()
    flow.add_arcs_with_capacity_and_unit_cost(
        np.concatenate([arcs.profile, place[rows], profiles]),
        np.concatenate([place[arcs.row], np.full(len(rows) + len(supply), sink)]),
        np.concatenate([np.minimum(supply[arcs.profile], seats[arcs.row]), seats[rows], supply]),
        np.concatenate([-amounts, np.zeros(len(rows) + len(supply), dtype=np.int64)]),
    )
    flow.set_nodes_supplies(np.append(profiles, sink), np.append(supply, -supply.sum()))
    status = flow.solve()
    assert status == flow.OPTIMAL, f"a flow that always exists was not found: {status}"
    return np.asarray(flow.flows(np.arange(len(amounts))), dtype=np.intp)


def _prices(
    arcs: Found, amounts: NDArray[np.int64], used: NDArray[np.intp], *, n_rows: int, spare: NDArray[np.intp]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The least prices under which nobody on the flow would rather have another pair, and what each is left with.

    They are longest paths in the residual graph: a price rises to what another profile would gain by the seat, which
    lowers what those on it are left with, and so on. The flow is optimal, so that there is no cycle to rise along.
    """
    prices = np.zeros(n_rows, dtype=np.int64)
    gains = np.where(spare > 0, 0, np.iinfo(np.int64).max)
    np.minimum.at(gains, arcs.profile[used], amounts[used])
    fallen = np.ones(len(gains), dtype=bool)
    while fallen.any():
        old, before, on = prices.copy(), gains.copy(), np.flatnonzero(fallen[arcs.profile])
        np.maximum.at(prices, arcs.row[on], amounts[on] - gains[arcs.profile[on]])
        on = used[(prices > old)[arcs.row[used]]]
        np.minimum.at(gains, arcs.profile[on], amounts[on] - prices[arcs.row[on]])
        fallen = gains < before
    return prices, gains
