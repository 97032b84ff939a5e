"""Opening, filtering and reading a large release beside what one would use instead, on the same files in the same run.

python scripts/bench_store.py [--personas 1000000] [--passages 1] [--rounds 5] [--no-growth] [--only-open]

Makes a release: backstories mixed from the starter's sentences, eight traits with probabilities in twentieths, vectors
drawn at random, and no index; everything lies below a temporary folder and is removed. Filters and fetches alternate
round by round in one process with one thread, CPU seconds count; opening runs in processes of its own, imports not
timed, wall seconds count. Medians are held to the targets, less 15 %. Every answer is compared. Then the growth of time
and memory from a hundredth of the release to the whole, with the exponent of a power law. Prints Markdown, and exits
with 1 where a target is missed or an answer differs; the targets are for a million personas.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

# Before anything is imported that reads them.
os.environ |= {"OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1", "HF_DATASETS_OFFLINE": "1"}
os.environ |= {"HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from anthology_hub import Anthology
from anthology_hub.encoding import ENCODER, EncoderCard
from anthology_hub.release import Embedding, Release, Rows, save_release
from anthology_hub.schema import Codebook, Persona

TRAITS = ("age", "gender", "race", "education", "party", "region", "marital", "work")
QUERY = {"age": "65+", "region": "South", "gender": "Female"}
MIN_PROB = 0.7
DRAWS = 20
CHUNK = 50_000
DIMENSION = 384
ALLOWANCE = 0.85
WANTED = 100
OPEN_SECONDS = 0.2
COPY = 0.1
"""Opening may add this share of a copy of the vectors to the memory at most."""
PERSONAS, ANNOTATIONS = "personas/train-00000-of-00001.parquet", "annotations/train-00000-of-00001.parquet"
VECTORS = f"embeddings/{ENCODER}/train-00000-of-00001.parquet"


# -- the release -----------------------------------------------------------------------------------------------------


def make(count: int, passages: int, folder: Path) -> None:
    """Write the release, chunk by chunk."""
    parts = folder.with_name(folder.name + "-parts")
    parts.mkdir(parents=True)
    (parts / "index").write_text("The index is the subject of bench_retrieval.py: nobody reads it here.")
    starter = Anthology.load("starter")
    codebook = replace(starter.codebook, traits=tuple(starter.codebook.trait(name) for name in TRAITS))
    counts = write_chunks(parts, chunks(starter, codebook, count, passages))
    rows = {name: Rows(count=counts[name], files=lambda name=name: [parts / name]) for name in counts}
    card = EncoderCard(model=f"sentence-transformers/{ENCODER}", revision="none", dimension=DIMENSION, max_tokens=256)
    release = Release(
        name="bench",
        version="1.0.0",
        licence="CC0-1.0",
        codebook=codebook,
        personas=rows["personas"],
        annotations=rows["annotations"],
        embeddings={ENCODER: Embedding(card=card, rows=rows["vectors"], index_file=lambda: parts / "index")},
    )
    save_release(release, folder)
    shutil.rmtree(parts)


def write_chunks(parts: Path, made: Iterator[dict[str, pa.Table]]) -> dict[str, int]:
    """Append tables to one parquet file each; return how many rows each got."""
    writers: dict[str, pq.ParquetWriter] = {}
    counts: dict[str, int] = {}
    for tables in made:
        for name, table in tables.items():
            if name not in writers:
                writers[name] = pq.ParquetWriter(parts / name, table.schema, compression="zstd", write_page_index=True)
            rows = max(1_000, 2**21 * table.num_rows // table.nbytes)
            writers[name].write_table(table, row_group_size=rows)
            counts[name] = counts.get(name, 0) + table.num_rows
    for writer in writers.values():
        writer.close()
    return counts


def chunks(starter: Anthology, codebook: Codebook, count: int, passages: int) -> Iterator[dict[str, pa.Table]]:
    """Make the three tables, some personas at a time."""
    sentences = [s.strip() for person in starter for s in person.backstory.split(". ")]
    shares = {trait.name: np.array([*starter.margins(trait.name).values()]) for trait in codebook.traits}
    for start in range(0, count, CHUNK):
        rng, n = np.random.default_rng(start), min(CHUNK, count - start)
        picks = rng.integers(0, len(sentences), (n, 6))
        texts = [f"{'. '.join(sentences[at] for at in row)}. I am number {start + i}." for i, row in enumerate(picks)]
        ids = pa.array([Persona.id_of(text) for text in texts])
        # A persona leans on one level; what it says of a trait in twenty draws is its probability.
        probs = {}
        for trait in codebook.traits:
            liked = rng.multinomial(1, shares[trait.name] / shares[trait.name].sum(), n) * 0.75
            probs[trait.name] = rng.multinomial(DRAWS, liked + 0.25 / len(trait.levels)) / DRAWS
        yield {
            "personas": people_of(starter, codebook, ids, texts, probs),
            "annotations": annotations_of(starter, codebook, ids, probs),
            "vectors": vectors_of(ids, texts, passages, rng),
        }


def people_of(
    starter: Anthology, codebook: Codebook, ids: pa.Array, texts: list[str], probs: dict[str, Any]
) -> pa.Table:
    """The rows of the personas; a trait column is null below a half."""
    n = len(ids)
    known: dict[str, Any] = {"persona_id": ids, "backstory": pa.array(texts)}
    known["n_words"] = pa.array([text.count(" ") + 1 for text in texts], pa.int32())
    known |= {name: pa.array([name] * n) for name in ("source", "generator", "generator_revision", "prompt_id")}
    for trait in codebook.traits:
        top = probs[trait.name].argmax(axis=1)
        sure = probs[trait.name].max(axis=1) >= 0.5
        known[trait.name] = pa.array(trait.levels).take(pa.array(top, mask=~sure))
    told = {trait.name for trait in starter.codebook.traits}
    like = [f for f in starter._store.personas.table.schema if f.name in known or f.name not in told]
    return pa.table([known.get(f.name, pa.nulls(n, f.type)) for f in like], schema=pa.schema(like))


def annotations_of(starter: Anthology, codebook: Codebook, ids: pa.Array, probs: dict[str, Any]) -> pa.Table:
    """The rows of the annotations, persona by persona."""
    n, sizes = len(ids), [len(trait.levels) for trait in codebook.traits]
    offsets = pa.array(np.concatenate([[0], np.tile(sizes, n).cumsum()]), pa.int32())
    levels = pa.array([level for trait in codebook.traits for level in trait.levels])
    flat = np.concatenate([probs[trait.name] for trait in codebook.traits], axis=1).astype(np.float32)
    known = {
        "persona_id": ids.take(pa.array(np.repeat(np.arange(n), len(sizes)))),
        "trait": pa.array(TRAITS).take(pa.array(np.tile(np.arange(len(sizes)), n))),
        "levels": pa.ListArray.from_arrays(offsets, levels.take(pa.array(np.tile(np.arange(len(levels)), n)))),
        "probs": pa.ListArray.from_arrays(offsets, pa.array(flat.ravel())),
        "n_samples": pa.array(np.full(n * len(sizes), DRAWS), pa.int32()),
        "method": pa.array(["sampled"] * (n * len(sizes))),
    }
    like = starter._store.annotations.table.schema
    return pa.table([known.get(f.name, pa.nulls(n * len(sizes), f.type)) for f in like], schema=like)


def vectors_of(ids: pa.Array, texts: list[str], passages: int, rng: np.random.Generator) -> pa.Table:
    """The rows of the passages: the text in equal parts."""
    vectors = rng.standard_normal((len(ids) * passages, DIMENSION), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    lengths = np.repeat([len(text) for text in texts], passages)
    number = np.tile(np.arange(passages), len(ids))
    return pa.table(
        {
            "persona_id": ids.take(pa.array(np.repeat(np.arange(len(ids)), passages))),
            "passage": pa.array(number, pa.int32()),
            "start": pa.array(lengths * number // passages, pa.int32()),
            "end": pa.array(lengths * (number + 1) // passages, pa.int32()),
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), DIMENSION),
        }
    )


# -- filters and fetches, in this process ------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One way to do a task; `few` rounds are enough for one that takes seconds."""

    name: str
    call: Callable[[], Any]
    target: float = 0.0
    few: bool = False


@dataclass(frozen=True, kw_only=True)
class Task:
    """Ours and the others'."""

    name: str
    ours: Callable[[], Any]
    others: list[Contender]


def seconds(call: Callable[[], Any]) -> float:
    """Return the CPU seconds of one call; of a short one, over many calls."""
    loops, spent = 1, 0.0
    while True:
        start = time.process_time()
        for _ in range(loops):
            call()
        spent = time.process_time() - start
        if spent > 0.02:
            return spent / loops
        loops *= max(2, min(100, int(0.03 / max(spent, 1e-6))))


def tasks(folder: Path) -> list[Task]:
    """Everything that is timed in this process, opened and warm."""
    import datasets
    import duckdb
    import polars as pl

    pa.set_cpu_count(1)
    datasets.disable_caching()
    people = Anthology.load(folder)
    file, database = str(folder / PERSONAS), duckdb.connect(config={"threads": 1})
    columns = ", ".join(["persona_id", "backstory", *TRAITS])
    told = " AND ".join(f"{name} = '{level}'" for name, level in QUERY.items())
    table = pq.read_table(file, columns=list(QUERY))
    hugging = datasets.Dataset.from_parquet(file, cache_dir=str(folder.parent / "datasets"))
    scan = pl.scan_parquet(file)
    wanted = [pl.col(name) == level for name, level in QUERY.items()]
    frame = pl.read_parquet(file, columns=list(QUERY)).with_columns(pl.all().cast(pl.Categorical))
    probs = {name: people.distribution(name)[:, people.codebook.trait(name).code(QUERY[name])].copy() for name in QUERY}
    long = f"'{folder / ANNOTATIONS}'"
    likely = " INTERSECT ".join(
        f"SELECT persona_id FROM {long} WHERE trait = '{name}' AND probs[list_position(levels, '{level}')] >= "
        f"{MIN_PROB - 1e-6}"
        for name, level in QUERY.items()
    )
    matching = people.where(**QUERY)
    spread = np.sort(np.random.default_rng(0).choice(matching._rows, min(WANTED, len(matching)), replace=False))

    def told_by_pyarrow() -> int:
        masks = [pc.equal(table[name], level) for name, level in QUERY.items()]
        return int(pc.sum(pc.and_(pc.and_(masks[0], masks[1]), masks[2])).as_py())

    def lambda_filter() -> int:
        return len(hugging.filter(lambda row: all(row[name] == level for name, level in QUERY.items())))

    def batched_filter() -> int:
        def keep(*found: list[str]) -> list[bool]:
            return [row == tuple(QUERY.values()) for row in zip(*found, strict=True)]

        return len(hugging.filter(keep, batched=True, input_columns=list(QUERY)))

    def persona(row: tuple[str, ...]) -> tuple[Any, ...]:
        return row[0], row[1], dict(zip(TRAITS, row[2:], strict=True))

    def ours_spread() -> list[Any]:
        view = people._view(spread, None)
        return [(p.persona_id, p.backstory, p.traits) for p in view]

    def theirs_spread() -> list[Any]:
        rows = hugging.select_columns(["persona_id", "backstory", *TRAITS])[spread]
        return [persona(row) for row in zip(*rows.values(), strict=True)]

    return [
        Task(
            name="count a filter of three traits",
            ours=lambda: len(people.where(**QUERY)),
            others=[
                Contender(name="pyarrow.compute, columns in memory", call=told_by_pyarrow, target=100),
                Contender(name="datasets.filter, lambda", call=lambda_filter, target=5_000, few=True),
                Contender(name="datasets.filter, batched, input_columns", call=batched_filter, few=True),
                Contender(
                    name="duckdb on parquet",
                    call=lambda: database.sql(f"SELECT count(*) FROM '{file}' WHERE {told}").fetchall()[0][0],
                ),
                Contender(
                    name="polars scan_parquet",
                    call=lambda: scan.filter(*wanted).select(pl.len()).collect().item(),
                ),
                Contender(
                    name="polars, categorical columns in memory",
                    call=lambda: frame.lazy().filter(*wanted).select(pl.len()).collect().item(),
                ),
            ],
        ),
        Task(
            name=f"count a filter of three probabilities, each {MIN_PROB} or more",
            ours=lambda: len(people.where(min_prob=MIN_PROB, **QUERY)),
            others=[
                Contender(
                    name="numpy, float32 columns in memory",
                    call=lambda: int(
                        np.logical_and.reduce([column >= MIN_PROB - 1e-6 for column in probs.values()]).sum()
                    ),
                ),
                Contender(
                    name="duckdb on parquet, annotations as published",
                    call=lambda: database.sql(f"SELECT count(*) FROM ({likely})").fetchall()[0][0],
                    few=True,
                ),
            ],
        ),
        Task(
            name=f"fetch the first {WANTED} matching rows",
            ours=lambda: [(p.persona_id, p.backstory, p.traits) for p in islice(people.where(**QUERY), WANTED)],
            others=[
                Contender(
                    name="duckdb on parquet",
                    call=lambda: [
                        persona(row)
                        for row in database.sql(
                            f"SELECT {columns} FROM '{file}' WHERE {told} LIMIT {WANTED}"
                        ).fetchall()
                    ],
                    target=10,
                ),
                Contender(
                    name="polars scan_parquet",
                    call=lambda: [
                        persona(row)
                        for row in scan.filter(*wanted)
                        .select("persona_id", "backstory", *TRAITS)
                        .head(WANTED)
                        .collect()
                        .rows()
                    ],
                    few=True,
                ),
            ],
        ),
        Task(
            name=f"fetch {WANTED} matching rows spread over the release, positions known",
            ours=ours_spread,
            others=[Contender(name="datasets, select_columns and [positions]", call=theirs_spread)],
        ),
    ]


def compare(task: Task, rounds: int) -> list[tuple[str, float, float, float, bool]]:
    """Alternate ours and the others'; return name, their figure, ours, target and whether the answers agree."""
    answer = task.ours()
    agree = [other.call() == answer for other in task.others]
    spent: list[list[float]] = [[] for _ in range(len(task.others) + 1)]
    for number in range(rounds):
        spent[-1].append(seconds(task.ours))
        for at, other in enumerate(task.others):
            if number < 3 or not other.few:
                spent[at].append(seconds(other.call))
    ours = median(spent[-1])
    return [
        (other.name, median(theirs), ours, other.target, same)
        for other, theirs, same in zip(task.others, spent, agree, strict=False)
    ]


# -- opening, each in a process of its own -----------------------------------------------------------------------------


def open_ours(folder: Path) -> list[Any]:
    """Open the release, count a filter, read a persona, have the vectors at hand."""
    people = Anthology.load(folder)
    found = people.where(**QUERY)
    embedding = people._store.embeddings[ENCODER]
    return [len(found), found[0].persona_id, list(embedding.vectors.shape), digest_of(embedding.vectors[-1])]


def open_theirs(folder: Path) -> list[Any]:
    """The same with the mapped tables of `datasets`, and pyarrow for the filter."""
    from datasets import load_dataset

    options = {"split": "train", "cache_dir": str(folder.parent / "datasets")}
    people = load_dataset(str(folder), "personas", **options)
    vectors = load_dataset(str(folder), f"embeddings-{ENCODER}", **options)
    masks = [pc.equal(people.data[name], level) for name, level in QUERY.items()]
    found = pc.indices_nonzero(pc.and_(pc.and_(masks[0], masks[1]), masks[2]))
    last = np.asarray(vectors.with_format("numpy")[-1]["vector"], dtype=np.float32)
    first = people[found[0].as_py()]["persona_id"]
    return [len(found), first, [len(vectors), len(last)], digest_of(last)]


def first_ours(folder: Path) -> list[Any]:
    """Open the release for the first time and use all of it once: everything that is kept is made."""
    people = Anthology.load(folder)
    people.where(min_prob=MIN_PROB, **QUERY)
    return [*open_ours(folder), len(people.annotations_of(people[0].persona_id))]


def grow_ours(folder: Path) -> dict[str, tuple[float, float]]:
    """What each query takes: CPU seconds, and the most MB of arrays at once."""
    people = Anthology.load(folder)
    calls: dict[str, Callable[[], Any]] = {
        "open": lambda: open_ours(folder),
        "where": lambda: len(people.where(**QUERY)),
        "where, min_prob": lambda: len(people.where(min_prob=MIN_PROB, **QUERY)),
        f"fetch {WANTED}": lambda: [*islice(people.where(**QUERY), WANTED)],
        "score": lambda: people.score(age="65+", region="South")[0],
        "get": lambda: people.get(people[7].persona_id),
    }
    return {name: (median(seconds(call) for _ in range(3)), arrays(call)) for name, call in calls.items()}


def arrays(call: Callable[[], Any]) -> float:
    """Return the most MB of Python objects and arrays that one call holds at once."""
    tracemalloc.start()
    call()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most / 2**20


def digest_of(array: np.ndarray[Any, Any]) -> str:
    """Return the first digits of an array's digest."""
    return hashlib.sha256(np.ascontiguousarray(array)).hexdigest()[:12]


def child(task: str, folder: Path) -> None:
    """Do one task and print what it took: wall seconds, and the memory that it added and no file backs."""
    # Imports are not timed.
    for name in ("pandas", "pyarrow.dataset", *(["datasets"] if task == "open_theirs" else [])):
        importlib.import_module(name)
    Anthology.load("starter").where(region="South")
    before, start = memory(), time.perf_counter()
    answer = globals()[task](folder)
    print(json.dumps({"seconds": time.perf_counter() - start, "mb": memory() - before, "answer": answer}))


def memory() -> float:
    """Memory of this process that no file backs, in MB (Linux): the pages of a mapped file are no copy."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return int(status["RssAnon"].split()[0]) / 1024


def measure(task: str, folder: Path) -> dict[str, Any]:
    """Run a task in a process of its own."""
    command = [sys.executable, __file__, "--child", task, "--folder", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def megabytes(folder: Path) -> float:
    """Return what a folder holds on the disk."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20


# -- the run -----------------------------------------------------------------------------------------------------------


def opening(folder: Path, rounds: int) -> bool:
    """Print how long opening takes, ours and theirs; return whether the targets are met."""
    # Once each to fill the caches, theirs as well as ours.
    measure("open_theirs", folder)
    found = [(measure("open_ours", folder), measure("open_theirs", folder)) for _ in range(rounds)]
    ours, theirs = (median(pair[side]["seconds"] for pair in found) for side in (0, 1))
    copied, copies = (median(pair[side]["mb"] for pair in found) for side in (0, 1))
    same = all(pair[0]["answer"] == pair[1]["answer"] for pair in found)
    task, copy = "open, filter, read one row and one vector, wall", found[0][0]["answer"][2]
    whole = copy[0] * copy[1] * 4 / 2**20
    print(
        f"| {task} | load_dataset, cache hit | {theirs:.3f} s | {ours:.3f} s | {theirs / ours:.1f} |{differs(same)} |"
    )
    print(f"| {task} | the limit | {OPEN_SECONDS} s | {ours:.3f} s | {ours / OPEN_SECONDS:.2f} | < 1 |")
    print(f"| memory that opening adds | load_dataset, cache hit | {copies:.0f} MB | {copied:.0f} MB | | |")
    print(f"| memory that opening adds | a copy of the vectors | {whole:,.0f} MB | {copied:.0f} MB "
          f"| {copied / whole:.2f} | < {COPY} |")  # fmt: skip
    return same and ours <= OPEN_SECONDS / ALLOWANCE and copied <= COPY * whole / ALLOWANCE


def differs(same: bool) -> str:
    """Say in the table that two answers are not equal."""
    return "" if same else " DIFFERS"


def comparing(folder: Path, rounds: int) -> bool:
    """Print the filters and fetches; return whether the targets are met."""
    good = True
    for task in tasks(folder):
        for name, theirs, ours, target, same in compare(task, rounds):
            good &= same and theirs / ours >= target * ALLOWANCE
            wanted = f"{target:,.0f}" if target else ""
            print(
                f"| {task.name} | {name} | {told(theirs)} | {told(ours)} | {theirs / ours:,.1f} | "
                f"{wanted}{differs(same)} |",
                flush=True,
            )
    return good


def told(spent: float) -> str:
    """Say CPU seconds in a unit that fits."""
    return f"{spent * 1e3:,.0f} ms" if spent >= 0.01 else f"{spent * 1e3:.3f} ms"


def growth(found: dict[int, dict[str, Any]]) -> None:
    """Print time and memory at each size, and the exponent of the power law that fits best."""
    sizes = sorted(found)
    print("\n| query | " + " | ".join(f"{n:,} personas" for n in sizes) + " | exponent |")
    print("| --- |" + " --- |" * (len(sizes) + 1))
    for name in found[sizes[0]]:
        spent = [found[n][name][0] for n in sizes]
        exponent = np.polyfit(np.log(sizes), np.log(spent), 1)[0]
        cells = (f"{told(found[n][name][0])}, {found[n][name][1]:.1f} MB" for n in sizes)
        print(f"| {name} | {' | '.join(cells)} | {exponent:.2f} |")


def one(size: int, passages: int, root: Path) -> Path:
    """Make a release, open it for the first time and say what that took."""
    folder = root / f"{size}" / "release"
    make(size, passages, folder)
    before = megabytes(root / "cache")
    first = measure("first_ours", folder)
    kept = megabytes(root / "cache") - before
    print(
        f"{size:,} personas, {passages} passages each: {megabytes(folder):,.0f} MB of release; first opening, with "
        f"every checksum, {first['seconds']:.1f} s; side store {kept:,.0f} MB",
        flush=True,
    )
    return folder


def main() -> None:
    """Make the releases, compare, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--personas", type=int, default=1_000_000)
    parser.add_argument("--passages", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-growth", action="store_true")
    parser.add_argument("--only-open", action="store_true", help="leave filters and fetches out")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        child(given.child, given.folder)
        return
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        os.environ |= {"ANTHOLOGY_HUB_CACHE": str(root / "cache"), "HF_HOME": str(root / "hf")}
        smaller = [] if given.no_growth else [given.personas // 100, given.personas // 10]
        folders = {size: one(size, given.passages, root) for size in (*smaller, given.personas)}
        print("\n| hot path | peer | peer's figure | ours | ratio | target |")
        print("| --- | --- | --- | --- | --- | --- |")
        good = opening(folders[given.personas], given.rounds)
        good &= given.only_open or comparing(folders[given.personas], given.rounds)
        if smaller:
            growth({size: measure("grow_ours", folder)["answer"] for size, folder in folders.items()})
    if not good:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
