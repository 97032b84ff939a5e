"""The table of all benchmarks: which rows it takes, and which of them it says to miss their target."""

import importlib.util
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "bench.py"


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("bench", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def row(bench, ratio, target):
    return bench.Row(script="x", cells=("search", "flat", "2 s", "1 s", ratio, target))


@pytest.mark.parametrize(
    ("ratio", "target", "missed"),
    [
        ("5.2", ">= 5.1", False),
        ("4.4", ">= 5.1", False),
        ("4.3", ">= 5.1", True),
        ("1,200x", ">= 1,000", False),
        ("1.45 of its time", "<= 1.3", False),
        ("1.6 of its time", "<= 1.3", True),
        ("not installed", ">= 5", False),
        ("3.0", "none", False),
    ],
)
def test_a_ratio_misses_its_target_beyond_fifteen_percent_on_the_wrong_side(bench, ratio, target, missed):
    assert row(bench, ratio, target).missed is missed


def test_only_tables_with_the_agreed_head_are_taken_and_further_columns_left_out(bench):
    head = f"| {' | '.join(bench.HEAD)} | peak MB |"
    lines = ["1,000 people", "| n | s |", "| --- | --- |", "| 10 | 1 |", "", head, "| --- " * 7 + "|"]
    lines += ["| greedy | numpy | 7 s | 1 s | 7.0 | >= 5 | 12 |", "said after it", "| 9 | 9 |"]
    (found,) = bench.rows_of("matching", lines)
    assert found.cells == ("greedy", "numpy", "7 s", "1 s", "7.0", ">= 5")


def test_what_is_missed_and_what_failed_stands_below_the_table(bench):
    good, bad = row(bench, "6", ">= 5"), row(bench, "2", ">= 5")
    assert bench.told([good], []).endswith("| `bench_x.py` |\n\nAll targets are met.\n")
    told = bench.told([good, bad], ["- `bench_gpu.py` ended with 2: no GPU"]).splitlines()
    unknown = "Why is not known: measure again on a quiet machine, then look into it."
    assert told[-2:] == [f"- missed: search against flat: 2, >= 5. {unknown}", "- `bench_gpu.py` ended with 2: no GPU"]


def test_a_known_reason_for_a_miss_is_told_with_it(bench):
    known = bench.Row(script="retrieval", cells=("batch of 500", "faiss flat", "2 s", "1 s", "2", ">= 6"))
    assert "Why: one large product of matrices gains more" in bench.told([known], [])
    assert {script for script, _ in bench.WHY} <= {
        path.stem.removeprefix("bench_") for path in SCRIPT.parent.glob("bench_*")
    }


def test_every_benchmark_that_has_small_sizes_exists(bench):
    assert all((SCRIPT.parent / f"bench_{name}.py").is_file() for name in bench.SMALL)
