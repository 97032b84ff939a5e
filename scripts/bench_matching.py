"""Matching beside numpy per human, scipy, lapx and OR-tools, on the same respondents and personas.

python scripts/bench_matching.py [--rounds 5] [--part 20] [--small] [--million]

Eight traits with 41 levels, personas with random probabilities, respondents with random levels; "contested": four
traits, probabilities rounded to tenths, respondents alike, so that many tie and all are after the same personas. Every
figure runs from the tables of probabilities to the persona of each respondent, what is needed for that included: numpy
multiplies contiguous columns of one respondent after the other, and makes the matrix for scipy and lapx in the same
way. Rounds alternate in one process with one thread, CPU seconds count, and medians are compared; where numpy per human
takes minutes it runs for one respondent in `--part`, scaled up. In the same run, greedy picks must weigh what numpy's
best weigh, and totals must be scipy's, both to 1e-9; beyond scipy, the prices of the result must bound it.

Memory is the greatest resident size of a fresh process that makes the same world and matches it, all included (Linux).
A target is missed below 85 % of it (above 115 % for seconds and MB). Prints a Markdown table, and exits with 1 if a
target is missed or an answer differs. `--small` tries everything in a minute; `--million` adds 10k x 1M.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from threadpoolctl import threadpool_limits

from anthology_hub.choosing import Choosers
from anthology_hub.pair_weights import PairWeights

FLOOR = 1e-4
ALLOWANCE = 0.15
AGREEMENT = 1e-9
BEST = 32
EIGHT = (5, 2, 5, 6, 6, 5, 6, 6)
FOUR = (4, 2, 5, 5)

Picks = NDArray[np.intp]


@dataclass(frozen=True, kw_only=True)
class World:
    """Tables of probabilities and codes of levels."""

    tables: dict[str, NDArray[np.float64]]
    codes: dict[str, NDArray[np.int16]]

    @classmethod
    def make(cls, respondents: int, personas: int, *, contested: bool = False) -> World:
        """Draw one."""
        rng, tables, codes = np.random.default_rng(0), {}, {}
        for at, levels in enumerate(FOUR if contested else EIGHT):
            probs = rng.dirichlet(np.full(levels, 2.0 if contested else 0.5), personas)
            tables[f"t{at}"] = probs.round(1) if contested else probs
            shares = np.sort(rng.dirichlet(np.ones(levels)))[::-1] if contested else None
            codes[f"t{at}"] = rng.choice(levels, respondents, p=shares).astype(np.int16)
        return cls(tables=tables, codes=codes)

    @property
    def respondents(self) -> int:
        """How many."""
        return len(self.codes["t0"])

    @property
    def personas(self) -> int:
        """How many."""
        return len(self.tables["t0"])

    def choosers(self) -> Choosers:
        """Both sides by name."""
        return Choosers([f"r{at}" for at in range(self.respondents)], [f"p{at}" for at in range(self.personas)])

    def weights(self) -> PairWeights:
        """Ours, not yet searched."""
        return PairWeights.of(self.tables, self.codes, floor=dict.fromkeys(self.tables, FLOOR))

    def columns(self) -> list[NDArray[np.float64]]:
        """Floored probabilities, levels by personas, for numpy."""
        return [np.maximum(np.ascontiguousarray(table.T), FLOOR) for table in self.tables.values()]

    def matrix(self) -> NDArray[np.float64]:
        """All weights, by numpy."""
        whole = np.empty((self.respondents, self.personas))
        for at, line in enumerate(self.lines(self.columns(), np.stack(list(self.codes.values()), axis=1))):
            whole[at] = line
        return whole

    def numpy_greedy(self, part: int) -> Picks:
        """The best persona of every so many respondents."""
        codes = np.stack(list(self.codes.values()), axis=1)[::part]
        return np.array([line.argmax() for line in self.lines(self.columns(), codes)])

    def totals(self, picks: Picks, part: int = 1) -> NDArray[np.float64]:
        """Weights of pairs."""
        weights = np.ones(len(picks))
        for name, table in self.tables.items():
            weights *= np.maximum(table[picks, self.codes[name][::part]], FLOOR)
        return weights

    @staticmethod
    def lines(columns: list[NDArray[np.float64]], codes: NDArray[np.int16]) -> Iterator[NDArray[np.float64]]:
        """Weights of one respondent after the other, in one buffer."""
        line = np.empty(columns[0].shape[1])
        for levels in codes:
            np.multiply(columns[0][levels[0]], columns[1][levels[1]], out=line)
            for column, level in zip(columns[2:], levels[2:], strict=True):
                line *= column[level]
            yield line


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of the table."""

    path: str
    peer: str
    theirs: str
    ours: str
    ratio: str = "-"
    target: str = "-"
    missed: bool = False


def seconds(call: Callable[[], object]) -> tuple[float, object]:
    """Return the CPU seconds of one call, and what it returned."""
    start = time.process_time()
    found = call()
    return time.process_time() - start, found


def alternate(rounds: int, ours: Callable[[], Picks], theirs: Callable[[], Picks]) -> tuple[float, float, Picks, Picks]:
    """Return both medians and both results."""
    times, found = ([], []), [np.empty(0), np.empty(0)]
    for _ in range(rounds):
        for side, call in enumerate((ours, theirs)):
            took, found[side] = seconds(call)
            times[side].append(took)
    return median(times[0]), median(times[1]), found[0], found[1]


def greedy(respondents: int, personas: int, *, rounds: int, part: int, target: float | None) -> Row:
    """Ours beside numpy per human."""
    world = World.make(respondents, personas)
    mine, theirs, picks, their_picks = alternate(
        rounds, lambda: world.choosers().greedy(world.weights()), lambda: world.numpy_greedy(part)
    )
    theirs *= part
    same = np.allclose(world.totals(picks[::part], part), world.totals(their_picks, part), rtol=AGREEMENT, atol=0)
    return Row(
        path=f"greedy, {size(respondents)} x {size(personas)}",
        peer="numpy per human",
        theirs=f"{theirs:.2f} s",
        ours=f"{mine:.2f} s",
        ratio=f"{theirs / mine:.1f}" if same else "answers differ",
        target="-" if target is None else f">= {target:g}x",
        missed=not same or (target is not None and theirs / mine < target * (1 - ALLOWANCE)),
    )


def dense(
    respondents: int, personas: int, *, rounds: int, target: float | None = None, contested: bool = False
) -> list[Row]:
    """Both ways of ours beside scipy."""
    world, rows = World.make(respondents, personas, contested=contested), []
    for name, call, least in (
        ("assignment, dense", lambda: world.choosers().assigned(world.weights()), target),
        ("assignment, merged and priced", lambda: world.choosers().cast(world.weights())[0], None),
    ):
        mine, theirs, picks, their_picks = alternate(rounds, call, lambda: scipy_picks(world.matrix()))
        total, best = world.totals(picks).sum(), world.totals(their_picks).sum()
        same = abs(total / best - 1) <= AGREEMENT
        rows.append(
            Row(
                path=f"{name}, {size(respondents)} x {size(personas)}{', contested' if contested else ''}",
                peer="scipy linear_sum_assignment",
                theirs=f"{theirs:.2f} s",
                ours=f"{mine:.2f} s",
                ratio=f"{theirs / mine:.2f}" if same else f"total differs by {total / best - 1:.0e}",
                target="-" if least is None else f">= {least:g}x, total to 1e-9",
                missed=not same or (least is not None and theirs / mine < least * (1 - ALLOWANCE)),
            )
        )
    return rows


def scipy_picks(matrix: NDArray[np.float64]) -> Picks:
    """One to one, by scipy."""
    return np.asarray(linear_sum_assignment(matrix, maximize=True)[1])


def lapx_picks(matrix: NDArray[np.float64]) -> Picks:
    """One to one, by the solver of lapx that is the fastest on such shapes."""
    import lap

    return np.asarray(lap.lapjvs(-matrix, extend_cost=True, return_cost=False)[1])


def flow_picks(matrix: NDArray[np.float64]) -> Picks:
    """One to one on the best of each respondent, by OR-tools' minimum cost flow; -1 where those were not enough."""
    from ortools.graph.python import min_cost_flow

    n, m = matrix.shape
    best = np.argpartition(-matrix, BEST, axis=1)[:, :BEST]
    heads, rows = best.ravel(), np.repeat(np.arange(n), BEST)
    costs = -np.rint(matrix[rows, heads] / matrix.max() * 2**40).astype(np.int64)
    flow, sink = min_cost_flow.SimpleMinCostFlow(), n + m
    tails = np.concatenate([rows, n + np.arange(m), np.arange(n)])
    ends = np.concatenate([n + heads, np.full(m + n, sink)])
    costs = np.concatenate([costs, np.zeros(m + n, dtype=np.int64)])
    flow.add_arcs_with_capacity_and_unit_cost(tails, ends, np.ones(len(tails), dtype=np.int64), costs)
    flow.set_nodes_supplies(np.append(np.arange(n), sink), np.append(np.ones(n, dtype=np.int64), -n))
    flow.solve()
    used, picks = flow.flows(np.arange(len(rows))) > 0, np.full(n, -1)
    picks[rows[used]] = heads[used]
    return picks


def others(
    respondents: int, personas: int, *, rounds: int, peer: str, picks: Callable[..., Picks], package: str
) -> Row:
    """Ours beside another library, whose total may fall short."""
    path = f"assignment, {size(respondents)} x {size(personas)}"
    world = World.make(respondents, personas)
    try:
        mine, theirs, own, found = alternate(
            rounds, lambda: world.choosers().cast(world.weights())[0], lambda: picks(world.matrix())
        )
    except ImportError:
        return Row(path=path, peer=peer, theirs=f"not installed: pip install {package}", ours="-")
    total = world.totals(own).sum()
    short = 1 - world.totals(found[found >= 0]).sum() / total if (found >= 0).all() else math.nan
    return Row(
        path=path,
        peer=peer,
        theirs=f"{theirs:.2f} s, " + ("some left out" if math.isnan(short) else f"{short:.0e} below"),
        ours=f"{mine:.2f} s",
        ratio=f"{theirs / mine:.1f}",
        missed=short < -AGREEMENT,
    )


def proven(respondents: int, personas: int, *, rounds: int, contested: bool = False) -> Row:
    """Ours beside what no casting can exceed."""
    world, times = World.make(respondents, personas, contested=contested), []
    for _ in range(rounds):
        took, (picks, found) = seconds(lambda: world.choosers().cast(world.weights()))
        times.append(took)
    total, weights = world.totals(picks).sum(), world.weights()
    # The bound once more, from the prices alone and numpy's weights of one respondent in a hundred.
    prices = found.prices[weights.row_of]
    codes = np.stack(list(world.codes.values()), axis=1)
    gains = world.totals(picks) - prices[picks]
    step = max(1, respondents // 100)
    lines = world.lines(world.columns(), codes[::step])
    holds = all((line - prices).max() <= gain + 1e-9 for line, gain in zip(lines, gains[::step], strict=True))
    mine = median(times)
    return Row(
        path=f"assignment, {size(respondents)} x {size(personas)}{', contested' if contested else ''}",
        peer="upper bound from prices",
        theirs=f"{found.bound:.6f}",
        ours=f"{total:.6f} in {mine:.1f} s, {found.rounds} flows",
        ratio=f"gap {found.gap:.0e}" if holds else "prices do not bound",
        target="<= 20 s, gap <= 1e-9",
        missed=not holds or found.gap > AGREEMENT or mine > 20 * (1 + ALLOWANCE),
    )


def memory(method: str, respondents: int, personas: int, *, target: float) -> Row:
    """Greatest resident size of a process of its own."""
    found = alone(method, respondents, personas)
    return Row(
        path=f"{method}, {size(respondents)} x {size(personas)}, memory",
        peer="all weights (float64)",
        theirs=f"{respondents * personas * 8 / 1e6:,.0f} MB",
        ours=f"{found['peak']:.0f} MB ({found['made']:.0f} MB before the matching), {found['seconds']:.1f} s",
        ratio=f"{respondents * personas * 8 / 1e6 / found['peak']:.0f}",
        target=f"<= {target:.0f} MB",
        missed=found["peak"] > target * (1 + ALLOWANCE),
    )


def alone(method: str, respondents: int, personas: int) -> dict[str, float]:
    """Match in a fresh process."""
    call = [sys.executable, __file__, "--child", method, str(respondents), str(personas)]
    found = subprocess.run(call, check=True, capture_output=True, text=True).stdout
    return {name: float(value) for name, value in json.loads(found).items()}


def child(method: str, respondents: int, personas: int) -> None:
    """Make a world, match it, and print seconds and MB."""
    world = World.make(respondents, personas)
    made = peak()
    took, _ = seconds(lambda: getattr(world.choosers(), method)(world.weights()))
    print(json.dumps({"seconds": took, "made": made, "peak": peak()}))


def peak() -> float:
    """Return the greatest resident size so far in MB; `getrusage` would tell that of the parent, if it was greater."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6


def growth(method: str, respondents: int, personas: tuple[int, ...]) -> list[str]:
    """Seconds and MB as personas grow, and the exponents that fit."""
    found = [alone(method, respondents, n) for n in personas]
    times, sizes = [one["seconds"] for one in found], [one["peak"] for one in found]
    slopes = [np.polyfit(np.log(personas), np.log(values), 1)[0] for values in (times, sizes)]
    cells = [f"{took:.2f} s, {mb:.0f} MB" for took, mb in zip(times, sizes, strict=True)]
    return [f"{method}, {size(respondents)} respondents", *cells, f"{slopes[0]:.2f}", f"{slopes[1]:.2f}"]


def size(n: int) -> str:
    """Write a number short."""
    return f"{n / 1e6:g}M" if n >= 10**6 else f"{n / 1e3:g}k" if n >= 1000 else str(n)


def rows(*, rounds: int, part: int, small: bool, million: bool) -> list[Row]:
    """Everything that is compared."""
    scale = 10 if small else 1
    large = (10_000 // scale, 100_000 // scale)
    found = [
        greedy(1000 // scale, 10_000 // scale, rounds=rounds, part=1, target=None),
        greedy(5000 // scale, 10_000 // scale, rounds=rounds, part=max(1, part // 5), target=None),
        greedy(*large, rounds=rounds, part=part, target=None if small else 5),
        *dense(1000 // scale, 10_000 // scale, rounds=rounds),
        *dense(5000 // scale, 10_000 // scale, rounds=rounds, target=None if small else 0.8),
        *dense(2000 // scale, 4000 // scale, rounds=rounds, contested=True),
        others(300, 2000, rounds=rounds, peer="lapx lapjvs", picks=lapx_picks, package="lapx"),
        others(
            5000 // scale,
            10_000 // scale,
            rounds=rounds,
            peer=f"OR-tools flow, best {BEST}",
            picks=flow_picks,
            package="ortools",
        ),
        proven(*large, rounds=rounds),
        proven(*large, rounds=rounds, contested=True),
        memory("greedy", *large, target=500),
        memory("cast", *large, target=500),
    ]
    return [*found, memory("greedy", 10_000, 1_000_000, target=1000)] if million else found


def main() -> None:
    """Compare, print and judge."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--part", type=int, default=20)
    options.add_argument("--small", action="store_true")
    options.add_argument("--million", action="store_true")
    options.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    given = options.parse_args()
    # A second thread that spins on a busy machine measures the machine.
    with threadpool_limits(1):
        if given.child:
            child(given.child[0], *map(int, given.child[1:]))
            return
        found = rows(rounds=given.rounds, part=given.part, small=given.small, million=given.million)
    print("| hot path | peer | peer's figure | ours | ratio | target |\n| --- | --- | --- | --- | --- | --- |")
    for row in found:
        target = f"{row.target} **missed**" if row.missed else row.target
        print(f"| {row.path} | {row.peer} | {row.theirs} | {row.ours} | {row.ratio} | {target} |")
    personas = (400, 4000, 40_000) if given.small else (4000, 40_000, 400_000)
    print("\n| personas | " + " | ".join(map(size, personas)) + " | time grows as n^ | memory as n^ |")
    print("| --- |" + " --- |" * 5)
    for method in ("greedy", "cast"):
        print("| " + " | ".join(growth(method, 2000 // (10 if given.small else 1), personas)) + " |")
    if any(row.missed for row in found):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
