"""The measures of survey answers beside the usual loops over scipy, pandas and pingouin, on the same answers.

python scripts/bench_metrics.py [--people 10000] [--items 60] [--splits 100] [--draws 1000] [--rounds 5] [--part 20]

Answers are made by the script: items of 2 to 10 options in six scales, 10 % missing. Each task is what a user asks for:
one figure for each random half-split, or for each bootstrap sample of people. Drawing the samples and encoding the
answers count on both sides. The loops take so long that they run for one in `--part` of the splits and draws, scaled
up; every figure that they give must equal ours. Rounds alternate in one process with one thread, CPU seconds count, and
medians are held to the targets. The last row is `evaluate` with all that it tells: intervals, floors, baselines,
figures of persons and groups, six subgroups; beside it what the loops take for the few of these figures that they give.
Prints a Markdown table, then what a tenth, as many and ten times the people take, and exits with 1 below a target or at
a figure that differs.
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from statistics import median

import numpy as np
import pandas as pd
import pingouin
from numpy.typing import NDArray
from scipy.stats import wasserstein_distance
from threadpoolctl import threadpool_limits

from anthology_hub.answer_table import AnswerTable, Moments
from anthology_hub.evaluation import EvaluateOptions, evaluate
from anthology_hub.metrics import cronbach_alpha, frobenius, wasserstein
from anthology_hub.resampling import bootstrap_counts, half_splits
from anthology_hub.schema import ANSWERED, MISSING, UNPARSABLE, Answers, Respondents, Result, Survey

SCALES = 6
GROUPS = 6
LOOPS = 3
"""Tasks of which a whole evaluation is made, and more: the first."""
CAST = 5
"""One in so many people has a role that stands for it."""
AGREEMENT = 1e-9

Figures = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Task:
    """Ours, and theirs for a part of the splits or draws."""

    name: str
    peer: str
    target: float
    ours: Callable[[], Figures]
    theirs: Callable[[], Figures]


def make(people: int, n_options: NDArray[np.int64], *, seed: int) -> NDArray[np.int16]:
    """Make answers that lean on one taste for each scale, with even shares, one in ten missing."""
    rng = np.random.default_rng(seed)
    scale = np.arange(len(n_options)) * SCALES // len(n_options)
    scores = rng.normal(size=(people, SCALES))[:, scale] + rng.normal(size=(people, len(n_options)))
    codes = (scores.argsort(axis=0).argsort(axis=0) / people * n_options).astype(np.int16)
    codes[rng.random(codes.shape) < 0.1] = MISSING
    return codes


class Bench:
    """The answers, and each figure twice."""

    def __init__(self, people: int, items: int, *, splits: int, draws: int, part: int) -> None:
        n_options = np.random.default_rng(0).integers(2, 11, items)
        self.n_options, self.people = n_options.tolist(), people
        self.humans, self.simulated = make(people, n_options, seed=1), make(people, n_options, seed=2)
        self.splits, self.draws = splits, draws
        self.some_splits, self.some_draws = max(1, splits // part), max(1, draws // part)
        self.scales = [each.tolist() for each in np.array_split(np.arange(items), SCALES)]

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The humans' answers as numbers, NaN where missing."""
        return pd.DataFrame(np.where(self.humans == MISSING, np.nan, self.humans))

    @cached_property
    def halves(self) -> tuple[Moments, Moments]:
        """The second moments of all halves."""
        return self.table().half_moments(half_splits(self.people, self.splits))

    def table(self) -> AnswerTable:
        """Encode the humans' answers."""
        return AnswerTable(self.humans, self.n_options)

    def tasks(self) -> list[Task]:
        """Everything that is timed."""
        alpha = "pingouin.cronbach_alpha"
        return [
            Task(
                name=f"Wasserstein, {self.splits} half-splits",
                peer="scipy.stats.wasserstein_distance",
                target=60,
                ours=lambda: wasserstein(*self.table().half_shares(half_splits(self.people, self.splits))).mean(axis=1),
                theirs=self.scipy_splits,
            ),
            Task(
                name=f"Wasserstein, {self.draws:,} bootstrap samples",
                peer="scipy.stats.wasserstein_distance",
                target=250,
                ours=self.bootstrap,
                theirs=self.scipy_bootstrap,
            ),
            Task(
                name=f"Frobenius of correlations, {self.splits} half-splits",
                peer="pandas.DataFrame.corr",
                target=18,
                ours=self.correlations,
                theirs=self.pandas_splits,
            ),
            Task(
                name=f"alpha of {SCALES} scales, {self.splits} half-splits",
                peer=alpha,
                target=5,
                ours=lambda: self.alphas(self.table().half_moments(half_splits(self.people, self.splits))),
                theirs=self.pingouin_splits,
            ),
            Task(
                name="the same, moments shared with Frobenius",
                peer=alpha,
                target=15,
                ours=lambda: self.alphas(self.halves),
                theirs=self.pingouin_splits,
            ),
        ]

    def bootstrap(self) -> Figures:
        """Ours: mean distance of each sample of humans to the simulated answers."""
        shares = self.table().shares(bootstrap_counts(self.people, self.draws))
        simulated = AnswerTable(self.simulated, self.n_options).shares(np.ones((1, self.people), dtype=bool))
        return np.asarray(wasserstein(shares, simulated).mean(axis=1))

    def correlations(self) -> Figures:
        """Ours: distance of the correlation matrices of each two halves."""
        first, second = self.table().half_moments(half_splits(self.people, self.splits))
        return frobenius(first.correlation, second.correlation)

    def alphas(self, halves: tuple[Moments, Moments]) -> Figures:
        """Ours: mean alpha over the scales and both halves."""
        found = [cronbach_alpha(half.covariance[:, i][:, :, i]) for i in self.scales for half in halves]
        return np.asarray(np.mean(found, axis=0))

    def scipy_splits(self) -> Figures:
        """Theirs: item by item, on the answers of each half."""
        masks = half_splits(self.people, self.some_splits)
        return np.array([_by_item(self.humans[mask], self.humans[~mask]) for mask in masks])

    def scipy_bootstrap(self) -> Figures:
        """Theirs: item by item, on the answers of each sample."""
        samples = (np.repeat(np.arange(self.people), row) for row in bootstrap_counts(self.people, self.some_draws))
        return np.array([_by_item(self.humans[sample], self.simulated) for sample in samples])

    def pandas_splits(self) -> Figures:
        """Theirs: both correlation matrices of each split."""
        masks = half_splits(self.people, self.some_splits)
        gaps = (self.frame[mask].corr().to_numpy() - self.frame[~mask].corr().to_numpy() for mask in masks)
        return np.array([np.linalg.norm(gap) for gap in gaps])

    def pingouin_splits(self) -> Figures:
        """Theirs: scale by scale, on the answers of each half."""
        return np.array(
            [
                np.mean([pingouin.cronbach_alpha(self.frame.loc[half, i])[0] for i in self.scales for half in (m, ~m)])
                for m in half_splits(self.people, self.some_splits)
            ]
        )


def made_run(bench: Bench) -> tuple[Answers, Respondents]:
    """Return a cast for a part of the people and its answers, as if simulated, and the people."""
    keys, roles = [f"q{at}" for at in range(len(bench.n_options))], range(bench.people // CAST)
    questions = [
        {"key": key, "text": f"{key}?", "options": [{"code": code, "text": f"option {code}"} for code in range(count)]}
        for key, count in zip(keys, bench.n_options, strict=True)
    ]
    scales = {f"scale {at}": [keys[item] for item in items] for at, items in enumerate(bench.scales)}
    survey = Survey.from_dict({"name": "made", "questions": questions, "scales": scales})
    humans = Respondents(
        name="made people",
        ids=tuple(f"r{at}" for at in range(bench.people)),
        levels={"group": tuple(f"group {at}" for at in range(GROUPS))},
        codes={"group": np.random.default_rng(3).integers(0, GROUPS, bench.people).astype(np.int16)},
        answers={key: bench.humans[:, at] for at, key in enumerate(keys)},
        survey=survey,
    )
    picks, shape = bench.simulated[: len(roles)], (len(roles), len(keys))
    answers = Answers(
        survey=survey,
        respondent_ids=humans.ids[: len(roles)],
        persona_ids=("",) * len(roles),
        weights=np.ones(len(roles)),
        picks=picks,
        probs=np.full((*shape, max(bench.n_options)), np.nan, dtype=np.float32),
        mass=np.full(shape, np.nan, dtype=np.float32),
        statuses=np.where(picks == MISSING, UNPARSABLE, ANSWERED),
        raw=np.full(shape, "", dtype=object),
        provenance={
            "run_id": "made",
            "started": "2026-01-01T00:00:00Z",
            "inputs": {
                "humans": humans.name,
                "options": {"conditioning": "bio"},
                "model": {"developer": "made", "model": "made"},
                "cast": {"method": "made", "traits": ("group",)},
            },
        },
    )
    return answers, humans


def whole(bench: Bench, rounds: int, loops: float) -> str:
    """Time `evaluate`, which takes the cores there are, and return its row; `loops` are the peers' seconds."""
    answers, humans = made_run(bench)
    options = EvaluateOptions(by=("group",), splits=bench.splits, bootstraps=bench.draws)
    taken: list[tuple[float, float]] = []
    result: Result | None = None
    for _ in range(rounds):
        start, wall = time.process_time(), time.perf_counter()
        result = evaluate(answers, humans, options=options)
        taken.append((time.process_time() - start, time.perf_counter() - wall))
    assert result is not None and len(result.subgroups) == GROUPS
    cpu, wall = (median(each[at] for each in taken) for at in range(2))
    most = peak(lambda: np.zeros(len(evaluate(answers, humans, options=options).metrics)))
    return (
        f"| `evaluate`, {len(result.metrics)} figures, cast of {len(answers):,}, {GROUPS} subgroups "
        f"| the loops above, two of these figures | {loops:.0f} CPU s | {cpu:.1f} CPU s, {wall:.1f} s by the clock "
        f"| {loops / cpu:.0f} | - | - | {most:.0f} |"
    )


def growth(people: int) -> str:
    """Return a table of what a hundredth, a tenth and all of the people take, and the exponents."""
    head, found = ("people", "1,000 bootstraps of shares, CPU s", "100 half-splits of correlations, CPU s", "MB"), []
    for n in (people // 100, people // 10, people):
        bench = Bench(n, 20, splits=100, draws=1000, part=1)
        found.append((seconds(bench.bootstrap), seconds(bench.correlations), peak(bench.correlations)))
    lines = [f"| {' | '.join(head)} |", "| --- | --- | --- | --- |"]
    lines += [
        f"| {people // part:,} | {one[0]:.3f} | {one[1]:.3f} | {one[2]:.0f} |"
        for part, one in zip((100, 10, 1), found, strict=True)
    ]
    sizes = np.log([people // part for part in (100, 10, 1)])
    exponents = [float(np.polyfit(sizes, np.log(cost), 1)[0]) for cost in zip(*found, strict=True)]
    return "\n".join([*lines, f"| grows as n^ | {' | '.join(f'{one:.2f}' for one in exponents)} |"])


def _by_item(one: NDArray[np.int16], other: NDArray[np.int16]) -> float:
    pairs = ((a[a != MISSING], b[b != MISSING]) for a, b in zip(one.T, other.T, strict=True))
    return float(np.mean([wasserstein_distance(a, b) for a, b in pairs]))


def gap(task: Task) -> float:
    """Return the largest difference between a figure of theirs and ours."""
    theirs = task.theirs()
    return float(np.abs(task.ours()[: len(theirs)] - theirs).max())


def seconds(call: Callable[[], Figures]) -> float:
    """Return the CPU seconds of one call."""
    start = time.process_time()
    call()
    return time.process_time() - start


def peak(call: Callable[[], Figures]) -> float:
    """Return the most MB that one call holds beside what was there before."""
    tracemalloc.start()
    call()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most / 2**20


def main() -> None:
    """Check that the figures agree, time every task in turn, and compare."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--people", type=int, default=10_000)
    options.add_argument("--items", type=int, default=60)
    options.add_argument("--splits", type=int, default=100)
    options.add_argument("--draws", type=int, default=1000)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--part", type=int, default=20)
    given = options.parse_args()
    bench = Bench(given.people, given.items, splits=given.splits, draws=given.draws, part=given.part)
    tasks, failed = bench.tasks(), False
    # A second thread that spins on a busy machine measures the machine.
    with threadpool_limits(1):
        gaps = [gap(task) for task in tasks]
        rounds = [[(seconds(task.ours), seconds(task.theirs)) for task in tasks] for _ in range(given.rounds)]
    print(f"{given.people:,} people x {given.items} items\n")
    print("| hot path | peer | peer's figure | ours | ratio | target | largest difference | ours, peak MB |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    loops = 0.0
    for at, (task, differs) in enumerate(zip(tasks, gaps, strict=True)):
        ours, theirs = (median(each[at][side] for each in rounds) for side in (0, 1))
        theirs *= given.draws / bench.some_draws if "bootstrap" in task.name else given.splits / bench.some_splits
        failed |= theirs / ours < task.target or not differs < AGREEMENT
        loops += theirs if at < LOOPS else 0.0
        print(
            f"| {task.name} | {task.peer} | {theirs:.2f} CPU s | {ours:.4f} CPU s | {theirs / ours:.0f} "
            f"| >= {task.target:.0f} | {differs:.0e} | {peak(task.ours):.0f} |"
        )
    print(whole(bench, given.rounds, loops))
    with threadpool_limits(1):
        print(f"\n20 items:\n\n{growth(10 * given.people)}")
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
