"""Reading an SPSS panel file beside bare `pyreadstat`, on the same file in the same run.

python scripts/bench_humans.py [--people 10000] [--columns 150] [--rounds 9]

Ours: `Respondents.from_data(open_data(FILE), source)`, that is labels, user-missing codes, traits, weights and every
answer in our codes. Theirs: `pyreadstat.read_sav(FILE)`, which gives the codes of the file. The file is made by the
script in the shape of a Pew panel wave: value labels, refusals as user-missing codes, system-missing, a weight. Rounds
alternate in one process, and the medians count; memory is the peak of a process of its own. Exits with 1 if ours takes
more than 1.3 times as long.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
import pyreadstat

from anthology_hub import Respondents
from anthology_hub.statfiles import open_data

MOST = 1.3
"""Ours may take so many times as long as theirs."""
SOME = 5
"""Columns of the last comparison."""
TRAITS = {
    "age": ["18-29", "30-49", "50-64", "65+"],
    "gender": ["A man", "A woman", "In some other way"],
    "region": ["Northeast", "Midwest", "South", "West"],
    "party": ["Republican", "Democrat", "Independent", "Something else"],
}
REFUSED = 99.0


def make(file: Path, people: int, columns: int) -> None:
    """Write the file: an id, a weight, the traits, and items with two to seven options."""
    rng = np.random.default_rng(0)
    levels = {f"F_{trait.upper()}": texts for trait, texts in TRAITS.items()}
    for number in range(columns - len(levels) - 2):
        levels[f"ITEM{number}_W99"] = [f"Option {at}" for at in range(1, int(rng.integers(2, 8)) + 1)]
    table: dict[str, Any] = {"QKEY": 100_000.0 + np.arange(people), "WEIGHT_W99": rng.lognormal(0, 0.8, people)}
    for name, texts in levels.items():
        codes = rng.integers(1, len(texts) + 1, people).astype(float)
        codes[rng.random(people) < 0.03] = REFUSED
        codes[rng.random(people) < 0.05] = np.nan
        table[name] = codes
    labels = {n: {float(at): text for at, text in enumerate(t, 1)} | {REFUSED: "Refused"} for n, t in levels.items()}
    pyreadstat.write_sav(
        pd.DataFrame(table),
        file,
        column_labels={name: f"{name}. What do you think about matter {name}?" for name in table},
        variable_value_labels=labels,
        missing_ranges={name: [REFUSED] for name in levels},
        row_compress=True,
    )


def source_of(file: Path) -> dict[str, Any]:
    """Say what the columns mean; wordings and options are those of the file."""
    items = [name for name in open_data(file).variables if name.startswith("ITEM")]
    return {
        "name": "panel-w99",
        "title": "A made panel wave",
        "citation": "Made by scripts/bench_humans.py",
        "id": "QKEY",
        "weight": "WEIGHT_W99",
        "survey": {"name": "w99", "questions": [{"key": name} for name in items]},
        "traits": {trait: {"column": f"F_{trait.upper()}"} for trait in TRAITS},
    }


def tasks(file: Path) -> dict[str, Callable[[], object]]:
    """Everything that is timed, by name."""
    source = source_of(file)
    some = ["QKEY", "WEIGHT_W99", "F_AGE", "ITEM0_W99", "ITEM1_W99"][:SOME]
    return {
        "theirs": lambda: pyreadstat.read_sav(file),
        "ours": lambda: Respondents.from_data(open_data(file), source),
        "ours: values alone": lambda: open_data(file).read(),
        "theirs: five columns": lambda: pyreadstat.read_sav(file, usecols=some),
        "ours: five columns": lambda: open_data(file).read(some),
    }


def seconds(task: Callable[[], object]) -> float:
    """Return how long one call takes."""
    start = time.perf_counter()
    task()
    return time.perf_counter() - start


def peak(file: Path, task: str) -> float:
    """Return the most MB that a process of its own holds in one call, libraries included."""
    ran = subprocess.run([sys.executable, __file__, "--child", task, str(file)], capture_output=True, check=True)
    return float(ran.stdout)


def child(task: str, file: Path) -> None:
    """Print the most MB that this process held, after one call."""
    tasks(file)[task]()
    # Not `getrusage`: its peak begins with that of the parent process.
    status = Path("/proc/self/status").read_text().split()
    print(int(status[status.index("VmHWM:") + 1]) / 1024)


def main() -> None:
    """Make the file, time every task in turn, and compare."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--people", type=int, default=10_000)
    options.add_argument("--columns", type=int, default=150)
    options.add_argument("--rounds", type=int, default=9)
    options.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.child:
        child(given.child[0], Path(given.child[1]))
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "panel.sav"
        make(file, given.people, given.columns)
        todo = tasks(file)
        print(f"{given.people:,} people x {given.columns} columns, {file.stat().st_size / 2**20:.1f} MB on disk\n")
        for task in todo.values():
            task()
        rounds = [{name: seconds(task) for name, task in todo.items()} for _ in range(given.rounds)]
        times = {name: median(each[name] for each in rounds) for name in todo}
        print(f"{'task':22} {'seconds':>8} {'to theirs':>10} {'peak MB':>8}")
        for name, took in times.items():
            print(f"{name:22} {took:8.3f} {took / times['theirs']:10.2f} {peak(file, name):8.0f}")
        ratio = times["ours"] / times["theirs"]
        print("\n| hot path | peer | peer's figure | ours | ratio | target |\n| --- | --- | --- | --- | --- | --- |")
        took = f"| {times['theirs']:.3f} s | {times['ours']:.3f} s | {ratio:.2f} of its time | <= {MOST} |"
        print(f"| respondents from an SPSS file | `pyreadstat.read_sav`, which gives codes {took}")
        if ratio > MOST:
            raise SystemExit(1)


if __name__ == "__main__":
    main()
