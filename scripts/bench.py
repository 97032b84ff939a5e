"""Run the benchmarks and put all their ratios into one Markdown table: `make bench`.

python scripts/bench.py [NAME ...] [--to FILE] [--small]

NAME is the rest of `scripts/bench_NAME.py`; all of them, if none is given. Each runs in a process of its own and prints
rows `| hot path | peer | peer's figure | ours | ratio | target |`, which end up here beside its name; what else it
prints goes to standard error as it comes. `--small` takes the sizes of SMALL, to see in minutes that all of them run:
its ratios are no measurement. Below the table stands every row that misses its target and why, every script that
failed, and every script that had nothing to measure on with what it said; the exit code is 1 where a target is missed.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

SCRIPTS = Path(__file__).parent
HEAD = ("hot path", "peer", "peer's figure", "ours", "ratio", "target")
ALLOWANCE = 0.15
"""By how much a ratio may miss its target on a machine that has other work."""
SMALL = {
    "hub": ["--personas", "2000", "--rounds", "2"],
    "humans": ["--people", "1000", "--rounds", "3"],
    "matching": ["--small", "--rounds", "2"],
    "metrics": ["--people", "2000", "--rounds", "2", "--part", "50"],
    "retrieval": ["--rows", "10000", "--rounds", "2"],
    "scale": ["--rows", "50000", "--lists", "256", "--no-cluster", "--growth", ""],
    "server": ["--people", "4", "--rounds", "2", "--large", "20"],
    "simulate": ["--personas", "4", "--rounds", "2"],
    "store": ["--personas", "20000", "--rounds", "2"],
}
WHY = {
    (
        "retrieval",
        "one query",
    ): "as many lists are read as the promised recall of these vectors takes, and all centroids; calls from Python",
    ("retrieval", "batch of 500"): "one large product of matrices gains more from AVX-512 than the decoding of codes",
    ("retrieval", "resident"): "pages of mapped files count as long as nobody else wants the memory",
    ("retrieval", "share"): "attention over short passages fills the processor less well than one large product",
}
"""Known reasons for a miss: script, beginning of the hot path -> why; told more fully in docs/performance.md."""
NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table."""

    script: str
    cells: tuple[str, ...]

    @property
    def missed(self) -> bool:
        """Whether the ratio is beyond its target and the allowance; never where there is no number to compare."""
        ratio, target = (NUMBER.search(cell) for cell in self.cells[4:6])
        if not ratio or not target:
            return False
        got, wanted = (float(each.group().replace(",", "")) for each in (ratio, target))
        most = self.cells[5].lstrip().startswith("<")
        return got > wanted * (1 + ALLOWANCE) if most else got < wanted * (1 - ALLOWANCE)


def rows_of(script: str, lines: Sequence[str]) -> Iterator[Row]:
    """Yield the rows of all tables that begin with HEAD."""
    inside = False
    for line in lines:
        cells = tuple(cell.strip() for cell in line.strip().strip("|").split("|")) if line.startswith("|") else ()
        inside = bool(cells) and (inside or cells[: len(HEAD)] == HEAD)
        if inside and cells[: len(HEAD)] != HEAD and set(cells[0]) - set("-: "):
            yield Row(script=script, cells=cells[: len(HEAD)])


def run(script: str, arguments: Sequence[str]) -> tuple[int, list[str]]:
    """Run one script, pass on what it prints, and return its exit code and lines."""
    command = [sys.executable, str(SCRIPTS / f"bench_{script}.py"), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lines = []
    for line in process.stdout or ():
        print(line, end="", file=sys.stderr, flush=True)
        lines.append(line.rstrip("\n"))
    return process.wait(), lines


def told(rows: Sequence[Row], failed: Sequence[str]) -> str:
    """Return the table, and what is wrong below it."""
    table = [f"| {' | '.join(HEAD)} | script |", "| --- " * (len(HEAD) + 1) + "|"]
    table += [f"| {' | '.join(row.cells)} | `bench_{row.script}.py` |" for row in rows]
    missed = [
        f"- missed: {row.cells[0]} against {row.cells[1]}: {row.cells[4]}, {row.cells[5]}. {_why(row)}"
        for row in rows
        if row.missed
    ]
    below = [*missed, *failed] or ["All targets are met."]
    return "\n".join([*table, "", *below]) + "\n"


def _why(row: Row) -> str:
    found = [why for (script, path), why in WHY.items() if script == row.script and row.cells[0].startswith(path)]
    return f"Why: {found[0]}." if found else "Why is not known: measure again on a quiet machine, then look into it."


def main() -> int:
    """Run what is asked for, print and keep the table."""
    known = sorted(path.stem.removeprefix("bench_") for path in SCRIPTS.glob("bench_*.py"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(known))
    parser.add_argument("--to", type=Path, help="file for the table")
    parser.add_argument("--small", action="store_true")
    given = parser.parse_args()
    if unknown := set(given.names) - set(known):
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}: give some of {', '.join(known)}")
    rows: list[Row] = []
    failed: list[str] = []
    for name in given.names or known:
        code, lines = run(name, SMALL.get(name, []) if given.small else [])
        found = list(rows_of(name, lines))
        rows += found
        if code and not any(row.missed for row in found):
            failed.append(f"- `bench_{name}.py` ended with {code}: {lines[-1] if lines else 'it said nothing'}")
    table = told(rows, failed)
    print(table, end="")
    if given.to:
        given.to.write_text(table, encoding="utf-8")
    return int(any(row.missed for row in rows) or bool(failed))


if __name__ == "__main__":
    sys.exit(main())
