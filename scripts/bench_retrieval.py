"""Search over passage vectors beside what a user would pick instead, on the same vectors, in the same run.

python scripts/bench_retrieval.py [--rows 10000 100000] [--queries 40] [--rounds 5] [--peers all|main] [--tables all]

Vectors are synthetic, 384 numbers on a curved sheet of 24 dimensions with overlapping clusters and noise, so that lists
reach a recall of 0.95 with one or two percent of themselves; queries are further draws. A persona's passages lie near
each other. A trait goes with the text: a query "against" a filter comes from where hardly anyone passes.

One thread. CPU seconds of the process count (wall seconds for opening files), rounds alternate, medians are held to the
targets, with an allowance of 15 %. Every peer is used as its own documents advise; a peer with a knob gets the cheapest
setting that reaches a recall of 0.95. Exact engines must give the rows of exact search, all others the recall that is
shown. Prints Markdown and exits with 1 below a target or at a wrong answer. One million rows (`--rows 1000000 --peers
main`) take some ten minutes, 4 GB of memory and 5 GB of disk.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import datasets
import faiss
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from threadpoolctl import threadpool_info

from anthology_hub.index import Index

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS", "LANCE_CPU_THREADS")
D, K, SHEET = 384, 10, 24
CLUSTER_ROWS = 50
"""Rows of a cluster: with more rows there are more clusters, so that lists stay as hard to choose."""
ALLOWANCE = 0.85
SHARES = (0.5, 0.1, 0.01, 0.001)
REACHED = 0.95
SAME = "faiss.IndexRefine: the same file, in memory with all vectors"

Vectors = NDArray[np.float32]
Ids = NDArray[np.int64]


# -- data


class World:
    """Where vectors come from."""

    def __init__(self, rows: int) -> None:
        rng = np.random.default_rng(1)
        self.into = (rng.normal(size=(SHEET, 256)) / SHEET**0.5).astype(np.float32)
        self.out = (rng.normal(size=(256, D)) / 16).astype(np.float32)
        self.bend = rng.normal(size=256).astype(np.float32)
        self.trait = rng.normal(size=SHEET) / SHEET**0.5
        self.centres = rng.normal(size=(rows // CLUSTER_ROWS, SHEET)).astype(np.float32)

    def draw(self, n: int, *, seed: int, passages: int = 1) -> tuple[Vectors, NDArray[np.float64]]:
        """Draw vectors, each `passages` of them of one persona, and the trait of every row's persona."""
        rng = np.random.default_rng(seed)
        place = self.centres[rng.integers(0, len(self.centres), n // passages)]
        place = place + 0.55 * rng.normal(size=place.shape).astype(np.float32)
        trait = place @ self.trait + 0.5 * rng.normal(size=len(place))
        place, trait = np.repeat(place, passages, axis=0), np.repeat(trait, passages)
        if passages > 1:
            place = place + 0.3 * rng.normal(size=place.shape).astype(np.float32)
        vectors = np.tanh(1.5 * (place @ self.into) + self.bend) @ self.out
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors += 0.35 / D**0.5 * rng.normal(size=vectors.shape).astype(np.float32)
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), trait

    def fill(self, file: Path, rows: int, *, passages: int) -> tuple[Vectors, NDArray[np.float64]]:
        """Draw vectors into a file, block by block, and return them mapped."""
        mapped = np.lib.format.open_memmap(file, mode="w+", dtype=np.float32, shape=(rows, D))
        traits, step = np.empty(rows), 40_000
        for start in range(0, rows, step):
            n = min(step, rows - start)
            mapped[start : start + n], traits[start : start + n] = self.draw(n, seed=100 + start, passages=passages)
        mapped.flush()
        return np.load(file, mmap_mode="r"), traits


def truth(vectors: Vectors, queries: Vectors, k: int, among: NDArray[np.bool_] | None = None) -> Ids:
    """Best rows of each query, by nothing but numpy."""
    found = []
    for query in queries:
        scores = np.concatenate([vectors[a : a + 100_000] @ query for a in range(0, len(vectors), 100_000)])
        if among is not None:
            scores[~among] = -2
        best = np.argpartition(-scores, k)[:k]
        found.append(best[np.argsort(-scores[best])])
    return np.array(found)


def recall(true: Ids, found: list[Ids]) -> float:
    """Share of the true rows that were found."""
    return float(np.mean([np.isin(each, rows).mean() for each, rows in zip(true, found, strict=True)]))


# -- timing and the table


def cpu(call: Callable[[], object]) -> float:
    """CPU seconds of one call, all threads of the process."""
    start = time.process_time()
    call()
    return time.process_time() - start


def rounds(calls: dict[str, Callable[[], object]], n: int) -> dict[str, float]:
    """Median CPU seconds of each call over rounds in which they take turns, one unmeasured round first."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for at in range(n + 1):
        for name, call in calls.items():
            spent = cpu(call)
            if at:
                times[name].append(spent)
    return {name: median(spent) for name, spent in times.items()}


@dataclass
class Report:
    """Rows of the tables, and what went wrong."""

    wrong: list[str] = field(default_factory=list)

    def head(self, title: str, columns: str = "hot path | peer | peer's figure | ours | ratio | target") -> None:
        """Begin a table."""
        print(f"\n**{title}**\n\n| {columns} |\n|{'---|' * (columns.count('|') + 1)}", flush=True)

    def row(self, path: str, peer: str, figures: tuple[str, str], ratio: float, target: float | None = None) -> None:
        """Print one comparison; a ratio is how many times better ours is."""
        missed = target is not None and ratio < target * ALLOWANCE
        aim = "" if target is None else f">= {target:g}" + (" **missed**" if missed else "")
        print(f"| {path} | {peer} | {figures[0]} | {figures[1]} | {ratio:.3g} | {aim} |", flush=True)
        if missed:
            self.wrong.append(f"{path} / {peer}: {ratio:.3g}, target {target:g}")

    def require(self, holds: bool, text: str) -> None:
        """Remember what does not hold."""
        if not holds:
            self.wrong.append(text)


# -- peers


@dataclass
class Engine:
    """One way to search; `note` says how it was set or why it is missing."""

    name: str
    one: Callable[[Vectors], Ids] | None = None
    many: Callable[[Vectors], Any] | None = None
    note: str = ""
    exact: bool = False


def tuned(name: str, one: Callable[[Vectors], Ids], set_knob: Callable[[int], object], base: Base) -> Engine:
    """Turn a knob up until the recall is reached."""
    for knob in (16, 32, 64, 128, 256, 512):
        set_knob(knob)
        if recall(base.true, [one(query) for query in base.queries]) >= REACHED:
            break
    return Engine(name, one, note=f"knob {knob}")


@dataclass
class Base:
    """The data of one size, and ours over them."""

    vectors: Vectors
    traits: NDArray[np.float64]
    queries: Vectors
    true: Ids
    folder: Path
    index: Index
    build_seconds: float


def hugging_face(base: Base) -> Iterator[Engine]:
    """`datasets` with an index of its own, the rows in a memory-mapped arrow file as `load_dataset` has them."""
    table = pa.table({
        "persona_id": [f"p{row:08d}" for row in range(len(base.vectors))],
        "backstory": [f"I grew up in the town number {row}." * 20 for row in range(len(base.vectors))],
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(base.vectors.ravel()), D),
    })  # fmt: skip
    folder = base.folder / "dataset"
    datasets.disable_progress_bars()
    datasets.Dataset(table).save_to_disk(folder)
    del table
    rows = datasets.load_from_disk(folder)
    plain = rows.select_columns(["persona_id", "backstory"])
    rows.add_faiss_index("vector", metric_type=faiss.METRIC_INNER_PRODUCT)
    yield Engine("datasets get_nearest_examples (rows)", lambda q: rows.get_nearest_examples("vector", q, k=K))
    yield Engine(
        "datasets search (ids)",
        lambda q: rows.search("vector", q, k=K).indices,
        lambda qs: rows.search_batch("vector", qs, k=K),
        exact=True,
    )
    yield Engine("ours with rows", lambda q: plain[base.index.search(q, K).rows])


def raw_faiss(base: Base) -> Iterator[Engine]:
    """Exact search in memory, our own file used without us, and lists of 8-bit codes around the same centroids."""
    flat = faiss.IndexFlatIP(D)
    for start in range(0, len(base.vectors), 100_000):
        flat.add(np.ascontiguousarray(base.vectors[start : start + 100_000]))
    flat_search: Any = flat.search
    yield Engine("faiss flat", lambda q: flat_search(q[None], K)[1][0], lambda qs: flat_search(qs, K), exact=True)
    facts = base.index.facts
    if facts.lists:
        same = faiss.read_index(str(base.folder / "ours.faiss"))
        same.nprobe = facts.nprobe
        refined = faiss.IndexRefine(same, flat)
        refined.k_factor = facts.candidates
        search: Any = refined.search
        yield Engine(SAME, lambda q: search(q[None], K)[1][0], lambda qs: search(qs, K))
        eight = faiss.IndexIVFScalarQuantizer(
            same.quantizer, D, facts.lists, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT, False
        )  # fmt: skip
        eight.train(np.ascontiguousarray(base.vectors[:20_000]))
        for start in range(0, len(base.vectors), 100_000):
            eight.add(np.ascontiguousarray(base.vectors[start : start + 100_000]))
        eight.nprobe = facts.nprobe
        coded: Any = eight.search
        yield Engine("faiss, 8-bit codes in the same lists", lambda q: coded(q[None], K)[1][0], lambda qs: coded(qs, K))


def hnswlib_peer(base: Base) -> Iterator[Engine]:
    """A graph, set as its README shows."""
    import hnswlib

    graph = hnswlib.Index(space="ip", dim=D)
    graph.init_index(max_elements=len(base.vectors), ef_construction=200, M=16)
    graph.set_num_threads(1)
    graph.add_items(base.vectors)
    yield tuned("hnswlib", lambda q: graph.knn_query(q, K)[0][0].astype(np.int64), graph.set_ef, base)


def usearch_peer(base: Base) -> Iterator[Engine]:
    """A graph, single precision."""
    from usearch.index import Index as Graph

    graph = Graph(ndim=D, metric="ip", dtype="f32")
    graph.add(np.arange(len(base.vectors)), np.ascontiguousarray(base.vectors), threads=1)
    yield tuned(
        "usearch",
        lambda q: graph.search(q, K, threads=1).keys.astype(np.int64),
        lambda knob: setattr(graph, "expansion_search", knob),
        base,
    )


def lance_peer(base: Base) -> Iterator[Engine]:
    """Its table, without an index and with the one that its documents name for high recall."""
    import lancedb.index

    vector = pa.FixedSizeListArray.from_arrays(pa.array(base.vectors.ravel()), D)
    rows = pa.table({"id": np.arange(len(base.vectors)), "vector": vector})
    table = lancedb.connect(base.folder / "lance").create_table("passages", rows)
    knob = {"ef": K}

    def one(query: Vectors) -> Ids:
        found = table.search(query).distance_type("dot").limit(K).select(["id", "_distance"])
        found = found.ef(knob["ef"]).nprobes(knob["ef"] // 4) if indexed else found
        return np.asarray(found.to_arrow()["id"])

    indexed = False
    yield Engine("LanceDB, no index", one, exact=True)
    if len(base.vectors) >= 5_000:
        table.create_index("vector", config=lancedb.index.HnswSq(distance_type="dot"))
        indexed = True
        yield tuned("LanceDB IVF_HNSW_SQ", one, lambda ef: knob.update(ef=ef), base)


def duckdb_peer(base: Base, *, graph: bool) -> Iterator[Engine]:
    """Its arrays, without an index and with the graph of its VSS extension."""
    import duckdb

    link = duckdb.connect()
    link.execute("SET threads = 1")
    vector = pa.FixedSizeListArray.from_arrays(pa.array(base.vectors.ravel()), D)
    link.register("given", pa.table({"id": np.arange(len(base.vectors)), "v": vector}))
    link.execute(f"CREATE TABLE passages AS SELECT id, v::FLOAT[{D}] AS v FROM given")
    link.unregister("given")

    def asking(order: str) -> Callable[[Vectors], Ids]:
        ask = f"SELECT id FROM passages ORDER BY {order}(v, $1::FLOAT[{D}]) LIMIT {K}"
        return lambda query: np.array([row[0] for row in link.execute(ask, [query.tolist()]).fetchall()])

    yield Engine("DuckDB arrays", asking("array_negative_inner_product"), exact=True)
    extension = importlib.util.find_spec("duckdb_extension_vss")
    if extension is None or extension.origin is None:
        yield Engine("DuckDB VSS", note="not installed: pip install duckdb-extension-vss")
    elif graph:
        file = next(Path(extension.origin).parent.rglob("vss.duckdb_extension"))
        link.execute(f"LOAD '{file}'")
        link.execute("CREATE INDEX graph ON passages USING HNSW (v)")
        # The nearest of unit vectors have the greatest inner product; for that one DuckDB 1.5 does not use its graph.
        yield tuned("DuckDB VSS", asking("array_distance"), lambda ef: link.execute(f"SET hnsw_ef_search = {ef}"), base)


def engines(base: Base, peers: str) -> Iterator[Engine]:
    """All engines of a size, one after another; each is freed before the next is made."""
    yield from raw_faiss(base)
    if peers == "faiss":
        yield Engine("datasets, stores and graphs", note="left out: --peers main, --peers all")
        return
    yield from hugging_face(base)
    graphs = peers == "all"
    stores: dict[str, Callable[[], Iterator[Engine]]] = {
        "duckdb": lambda: duckdb_peer(base, graph=graphs),
        "hnswlib": lambda: hnswlib_peer(base),
        "usearch": lambda: usearch_peer(base),
        "lancedb": lambda: lance_peer(base),
    }
    for package, make in stores.items():
        if importlib.util.find_spec(package) is None:
            yield Engine(package, note=f"not installed: pip install {package}")
        elif graphs or package == "duckdb":
            yield from make()
        else:
            yield Engine(package, note="left out: --peers all")


# -- the tables


def prepared(rows: int, *, queries: int, folder: Path, passages: int = 1) -> Base:
    """Draw the data and build ours."""
    world = World(rows)
    vectors, traits = world.fill(folder / "vectors.npy", rows, passages=passages)
    asked, _ = world.draw(queries, seed=7)
    start = time.process_time()
    built = Index.build(vectors)
    spent = time.process_time() - start
    built.write(folder / "ours.faiss")
    facts = built.facts
    (folder / "facts.json").write_text(json.dumps(facts.to_dict()))
    index = Index(vectors, file=folder / "ours.faiss", facts=facts) if facts.lists else built
    return Base(vectors, traits, asked, truth(vectors, asked, K), folder, index, spent)


def search_table(base: Base, report: Report, args: argparse.Namespace) -> None:
    """One query and a batch, beside every peer."""
    rows, facts = len(base.vectors), base.index.facts
    asked, _ = World(rows).draw(300 if rows < 500_000 else 60, seed=11)
    found = recall(truth(base.vectors, asked, K), [hits.rows for hits in base.index.search_many(asked, K)])
    report.head(f"{rows:,} rows, top {K}: {facts.factory}, {facts.nprobe} lists read, recall@10 {found:.3f} (promised "
                f"{facts.recall:.3f}), built in {base.build_seconds:.1f} CPU s")  # fmt: skip
    report.require(found >= (0.97 if rows < 500_000 else 0.95) if facts.lists else found == 1, f"recall {found}")
    targets = {
        "faiss flat": 0.9 if not facts.lists else 40.0 if rows < 500_000 else 80.0,
        SAME: 0.8,
        "datasets get_nearest_examples (rows)": 15.0 if 50_000 <= rows < 500_000 else None,
    }
    rowed: Engine | None = None
    made = engines(base, args.peers)
    pending: list[Engine] = []
    for engine in made:
        if engine.name == "ours with rows":
            rowed = engine
            for each in pending:
                one_peer(base, each, rowed, report, args, targets)
            pending = []
        elif engine.name.startswith("datasets"):
            pending.append(engine)
        else:
            one_peer(base, engine, None, report, args, targets)


def one_peer(
    base: Base,
    engine: Engine,
    rowed: Engine | None,
    report: Report,
    args: argparse.Namespace,
    targets: dict[str, float | None],
) -> None:
    """The lines of one peer."""
    if engine.one is None:
        print(f"| one query | {engine.name} | {engine.note} | | | |")
        return
    theirs, mine = engine.one, lambda q: base.index.search(q, K)
    if "(rows)" in engine.name:
        assert rowed is not None
        assert rowed.one is not None
        mine = rowed.one
        share = 1.0
    else:
        share = recall(base.true, [theirs(query) for query in base.queries])
    report.require(not engine.exact or share > 0.999, f"{engine.name} is not exact: {share}")
    times = rounds({
        "peer": lambda: [theirs(query) for query in base.queries],
        "ours": lambda: [mine(query) for query in base.queries],
    }, args.rounds)  # fmt: skip
    shown = tuple(f"{times[name] / len(base.queries) * 1e3:.3g} ms" for name in ("peer", "ours"))
    note = "; ".join(filter(None, [f"recall {share:.3f}", engine.note]))
    ratio = times["peer"] / times["ours"]
    report.row("one query", engine.name, (f"{shown[0]} ({note})", shown[1]), ratio, targets.get(engine.name))
    if engine.many is None:
        return
    many, size = engine.many, 500 if len(base.vectors) < 500_000 else 64
    batch = np.tile(base.queries, (size // len(base.queries) + 1, 1))[:size]
    times = rounds({"peer": lambda: many(batch), "ours": lambda: base.index.search_many(batch, K)}, args.rounds)
    shown = tuple(f"{times[name] / size * 1e3:.3g} ms a query" for name in ("peer", "ours"))
    target = 6.0 if engine.name == "faiss flat" and base.index.facts.lists and size == 500 else None
    report.row(f"batch of {size}", engine.name, (shown[0], shown[1]), times["peer"] / times["ours"], target)


def filter_table(base: Base, report: Report, args: argparse.Namespace) -> None:
    """Recall and time under filters that go with the text or not, asked by queries that go with them or against."""
    rows, index = len(base.vectors), base.index
    report.head(
        f"{rows:,} rows under a filter, top {K}: CPU ms a query (recall@10)",
        "filter | share | ours | gather + BLAS | IVF bitmap, nprobe 64 | flat scan | gather / ours | target",
    )
    pool, traits = World(rows).draw(4_000, seed=8)
    against = pool[np.argsort(traits)[: args.queries]]
    chance = np.random.default_rng(9).random(rows)
    fixed = faiss.read_index(str(base.folder / "ours.faiss")) if index.facts.lists else None
    flat = rounds({"flat": lambda: [base.vectors @ query for query in base.queries[:5]]}, args.rounds)["flat"] / 5
    for kind, values, queries in (("by chance", chance, base.queries), ("opposed", -base.traits, against)):
        for share in SHARES:
            allowed = values < np.quantile(values, share)
            filter_line(base, report, (kind, share), allowed, queries, fixed, flat, args)


def filter_line(
    base: Base,
    report: Report,
    cell: tuple[str, float],
    allowed: NDArray[np.bool_],
    queries: Vectors,
    fixed: Any,  # noqa: ANN401 - faiss has no types
    flat: float,
    args: argparse.Namespace,
) -> None:
    """One cell of the grid."""
    some = queries[: 5 if allowed.sum() > 20_000 else len(queries)]
    rows = np.flatnonzero(allowed)
    bits = np.packbits(allowed, bitorder="little")

    def gather(query: Vectors) -> Ids:
        rows = np.flatnonzero(allowed)
        scores = base.vectors[rows] @ query
        best = np.argpartition(-scores, min(K, len(rows) - 1))[:K]
        return rows[best[np.argsort(-scores[best])]]

    def bitmap(query: Vectors) -> Ids:
        params = faiss.SearchParametersIVF(sel=faiss.IDSelectorBitmap(bits), nprobe=64)
        return np.asarray(fixed.search(query[None], K, params=params)[1][0])

    calls = {
        "ours": lambda: [base.index.search(query, K, among=allowed) for query in queries],
        "gather": lambda: [gather(query) for query in some],
    } | ({"bitmap": lambda: [bitmap(query) for query in queries]} if fixed is not None else {})  # fmt: skip
    times = rounds(calls, args.rounds)
    ours, theirs = times["ours"] / len(queries), times["gather"] / len(some)
    true = truth(base.vectors, queries, min(K, len(rows)), allowed)
    share = recall(true, [base.index.search(query, K, among=allowed).rows for query in queries])
    fixed_text = "-"
    if fixed is not None:
        fixed_share = recall(true, [bitmap(query) for query in queries])
        fixed_text = f"{times['bitmap'] / len(queries) * 1e3:.2g} ({fixed_share:.2f})"
    report.require(share >= 0.99, f"{len(base.vectors):,} rows, {cell}: recall {share}")
    target = None
    if 50_000 <= len(base.vectors) < 500_000:
        target = 20.0 if cell[1] >= 0.5 else 2.0 if cell[1] >= 0.1 else 1.0
        report.require(ours <= 0.2 * flat / ALLOWANCE, f"{cell}: {ours * 1e3:.3g} ms is above 0.2 of a flat scan")
    ratio = theirs / ours
    missed = target is not None and ratio < target * ALLOWANCE
    if missed:
        report.wrong.append(f"filter {cell}: {ratio:.3g}, target {target:g}")
    aim = "" if target is None else f">= {target:g}" + (" **missed**" if missed else "")
    print(f"| {cell[0]} | {cell[1]:.1%} | {ours * 1e3:.3g} ({share:.3f}) | {theirs * 1e3:.3g} (1) | {fixed_text} | "
          f"{flat * 1e3:.3g} | {ratio:.3g} | {aim} |", flush=True)  # fmt: skip


def persona_table(rows: int, report: Report, args: argparse.Namespace) -> None:
    """The ten best personas of four passages each, beside fetching four times as many rows from the same index."""
    with tempfile.TemporaryDirectory() as folder:
        base = prepared(rows, queries=args.queries, folder=Path(folder), passages=4)
        owners = np.arange(rows) // 4
        report.head(f"{rows // 4:,} personas of four passages, the {K} best personas")

        def by_hand(query: Vectors) -> Ids:
            found = base.index.search(query, 4 * K).rows
            _, first = np.unique(owners[found], return_index=True)
            return owners[found[np.sort(first)[:K]]]

        def ours(query: Vectors) -> Ids:
            return owners[base.index.best_of(query, K, owners=owners).rows]

        deep = truth(base.vectors, base.queries, 4 * K)
        true = np.array([list(dict.fromkeys(owners[row].tolist()))[:K] for row in deep])
        times = rounds({
            "peer": lambda: [by_hand(query) for query in base.queries],
            "ours": lambda: [ours(query) for query in base.queries],
        }, args.rounds)  # fmt: skip
        shares = [recall(true, [way(query) for query in base.queries]) for way in (by_hand, ours)]
        shown = [f"{times[name] / len(base.queries) * 1e3:.3g} ms (recall of personas {share:.3f})"
                 for name, share in zip(("peer", "ours"), shares, strict=True)]  # fmt: skip
        ratio = times["peer"] / times["ours"]
        report.row("one query", "4 x k rows of the same index", (shown[0], shown[1]), ratio)
        report.require(shares[1] >= 0.96, f"recall of personas {shares[1]}")


RESIDENT = """
import json, sys, time, numpy as np
from pathlib import Path
from anthology_hub.index import Index, IndexFacts
folder = Path(sys.argv[1]); import faiss
facts = IndexFacts.from_dict(json.loads((folder / "facts.json").read_text()))
queries = np.load(folder / "queries.npy")
def memory():
    lines = dict(line.split(":") for line in open("/proc/self/status") if line.startswith("Rss"))
    return [int(lines[name].split()[0]) // 1024 for name in ("RssAnon", "RssFile")]
before, times = memory(), []
for _ in range(7):
    start = time.perf_counter()
    vectors = np.load(folder / "vectors.npy", mmap_mode="r")
    index = Index(vectors, file=folder / "ours.faiss", facts=facts)
    times.append(time.perf_counter() - start)
for query in queries:
    index.search(query, 10)
print(json.dumps({"open": sorted(times)[3], "before": before, "after": memory()}))
"""


def open_table(base: Base, report: Report) -> None:
    """Opening, file size and memory, in a process of its own; wall seconds, files in the page cache."""
    rows = len(base.vectors)
    report.head(f"{rows:,} rows: opening, disk, memory")
    np.save(base.folder / "queries.npy", base.queries)
    done = subprocess.run(
        [sys.executable, "-c", RESIDENT, base.folder], capture_output=True, text=True, check=True, env=os.environ
    )
    seen = json.loads(done.stdout)
    flat, start = base.folder / "flat.faiss", time.perf_counter()
    Index(base.vectors).write(flat)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        faiss.read_index(str(flat))
        times.append(time.perf_counter() - start)
    theirs, limit = median(times), 0.05 if rows < 500_000 else 0.2
    report.row("open, warm", "flat file read", (f"{theirs * 1e3:.3g} ms", f"{seen['open'] * 1e3:.3g} ms"),
               theirs / seen["open"])  # fmt: skip
    report.require(seen["open"] <= limit / ALLOWANCE, f"open takes {seen['open']:.3g} s, limit {limit}")
    ours, size = (base.folder / "ours.faiss").stat().st_size, flat.stat().st_size
    report.row("file", "float32", (f"{size / 1e6:.0f} MB", f"{ours / 1e6:.0f} MB"), size / ours, 1 / 0.3)
    anonymous, mapped = (after - before for after, before in zip(seen["after"], seen["before"], strict=True))
    share = size / 2**20 / (anonymous + mapped)
    print(f"| resident after {len(base.queries)} queries | in-memory flat | {size / 2**20:.0f} MB | "
          f"{anonymous} MB own + {mapped} MB mapped | {share:.3g} | <= 600 MB |")  # fmt: skip
    report.require(anonymous + mapped <= 600, f"resident {anonymous} + {mapped} MB, limit 600")
    flat.unlink()


def embedding_table(report: Report, args: argparse.Namespace) -> None:
    """Passages of the starter collection, of mixed length, beside the default of sentence-transformers."""
    import torch

    from anthology_hub import Anthology
    from anthology_hub.encoding import Encoder

    torch.set_num_threads(1)
    encoder, model = Encoder(), Encoder()._model
    texts = [persona.backstory[a:b] for persona in list(Anthology.load("starter"))[:60]
             for a, b in encoder.passages(persona.backstory)]  # fmt: skip
    texts = [texts[at] for at in np.random.default_rng(0).permutation(len(texts))[: args.texts]]
    square = torch.rand(2048, 2048)
    times = rounds({
        "peer": lambda: model.encode(texts, normalize_embeddings=True, show_progress_bar=False),
        "ours": lambda: encoder.encode(texts),
        "gemm": lambda: [square @ square for _ in range(8)],
    }, args.rounds)  # fmt: skip
    cosine = (model.encode(texts, normalize_embeddings=True, show_progress_bar=False) * encoder.encode(texts)).sum(1)
    tokens = encoder._lengths(texts).clip(max=encoder.card.max_tokens)
    # Six layers of 12 * 384 ** 2 weights, and two products with all positions.
    work = float((tokens * 6 * (24 * 384**2 + 4 * 384 * tokens)).sum())
    share = work / times["ours"] / (8 * 2 * 2048**3 / times["gemm"])
    report.head(f"Embedding {len(texts)} passages of {tokens.min()} to {tokens.max()} tokens, CPU, float32")
    shown = tuple(f"{len(texts) / times[name]:.3g} texts/s" for name in ("peer", "ours"))
    peer = "sentence-transformers, default"
    report.row("embedding", peer, (shown[0], shown[1]), times["peer"] / times["ours"], 1.15)
    print(f"| share of the matrix rate | {8 * 2 * 2048**3 / times['gemm'] / 1e9:.0f} GFLOP/s | 1 | {share:.2f} | | |")
    report.require(float(cosine.min()) >= 0.9999, f"cosine {cosine.min()}")


def settle() -> None:
    """Start again with one thread, and with kernels for this processor in every OpenBLAS.

    The one inside faiss's wheels does not know newer processors and falls back to SSE, which would weaken the peer.
    """
    kernels = {each["filepath"]: each.get("architecture") for each in threadpool_info() if each["user_api"] == "blas"}
    best = next(kind for path, kind in kernels.items() if "numpy" in path)
    wanted = dict.fromkeys(THREADS, "1") | ({"OPENBLAS_CORETYPE": best} if "Prescott" in kernels.values() else {})
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **wanted})


def main() -> int:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--queries", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--texts", type=int, default=64)
    parser.add_argument("--peers", choices=("all", "main", "faiss"), default="main")
    parser.add_argument("--tables", nargs="+", default=["search", "filter", "personas", "open", "embedding"])
    parser.add_argument("--folder", type=Path, help="where temporary files go")
    args = parser.parse_args()
    settle()
    report = Report()
    for rows in args.rows:
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            base = prepared(rows, queries=args.queries, folder=Path(folder))
            if "search" in args.tables:
                search_table(base, report, args)
            if "filter" in args.tables:
                filter_table(base, report, args)
            if "open" in args.tables and base.index.facts.lists:
                open_table(base, report)
        if "personas" in args.tables:
            persona_table(rows, report, args)
    if "embedding" in args.tables:
        embedding_table(report, args)
    print("\n" + ("\n".join(f"- MISSED: {each}" for each in report.wrong) or "All targets met."))
    return bool(report.wrong)


if __name__ == "__main__":
    raise SystemExit(main())
