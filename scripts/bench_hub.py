"""Publishing and loading a large release beside `datasets`, on the same private hub in the same run.

python scripts/bench_hub.py [--personas 100000] [--rounds 5]

Ours: `Anthology.push` and `Anthology.load`. Theirs: `Dataset.push_to_hub` of the same three tables and a tag, and
`load_dataset` at that tag. Each task runs in a process of its own, imports not timed; a round does both, one after the
other. Warm tasks are repeated, and the median ratio counts. Exits with 1 if a warm pinned load makes a request or is
less than 5 times as fast as theirs.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa

from anthology_hub import Anthology
from anthology_hub.collection import Encoder
from anthology_hub.labhub.server import running
from anthology_hub.release import Embedding, Release, Rows, save_release
from anthology_hub.schema import Persona

OURS, THEIRS, TAG = "lab/ours", "lab/theirs", "v1.0.0"
CONFIGS = ("personas", "annotations", "embeddings")
LEAST = 5.0
"""A warm pinned load must be so many times as fast as theirs."""


# -- the release -----------------------------------------------------------------------------------------------------


def make(count: int, folder: Path) -> None:
    """Write a release of texts mixed from the starter's sentences, with vectors drawn at random: one passage each."""
    people, rng = Anthology.load("starter"), np.random.default_rng(0)
    sentences = [s.strip() for person in people for s in person.backstory.split(". ")]
    picks = rng.integers(0, len(sentences), (count, 14))
    texts = [f"{'. '.join(sentences[at] for at in row)}. I am number {number}." for number, row in enumerate(picks)]
    ids = pa.array([Persona.id_of(text) for text in texts])
    codes = {t.name: rng.integers(0, len(t.levels), count) for t in people.codebook.traits}
    release = Release(
        name="bench",
        version="1.0.0",
        licence="CC0-1.0",
        codebook=people.codebook,
        personas=Rows(_personas(people, ids, texts, codes)),
        annotations=Rows(_annotations(people, ids, codes)),
        embeddings={"all-MiniLM-L6-v2": Embedding(card=Encoder().card, rows=Rows(_vectors(ids, texts, rng)))},
    )
    save_release(release, folder)


def _personas(people: Anthology, ids: pa.Array, texts: list[str], codes: dict[str, np.ndarray]) -> pa.Table:
    like = people._store.personas.table.schema
    levels = {t.name: pa.array(t.levels) for t in people.codebook.traits}
    known = {
        "persona_id": ids,
        "backstory": pa.array(texts),
        "n_words": pa.array([len(text.split()) for text in texts], pa.int32()),
        **{n: levels[n].take(pa.array(c)) for n, c in codes.items()},
    }
    return pa.table([known.get(field.name, pa.nulls(len(ids), field.type)) for field in like], schema=like)


def _annotations(people: Anthology, ids: pa.Array, codes: dict[str, np.ndarray]) -> pa.Table:
    like = people._store.annotations.table.schema
    parts = []
    for trait in people.codebook.traits:
        k, n = len(trait.levels), len(ids)
        offsets = pa.array(np.arange(0, k * n + 1, k, dtype=np.int32))
        shares = np.eye(k, dtype=np.float32)[codes[trait.name]].ravel()
        known = {
            "persona_id": ids,
            "trait": pa.array([trait.name] * n),
            "levels": pa.ListArray.from_arrays(offsets, pa.array(list(trait.levels) * n)),
            "probs": pa.ListArray.from_arrays(offsets, pa.array(shares)),
            "method": pa.array(["author"] * n),
        }
        parts.append(pa.table([known.get(f.name, pa.nulls(n, f.type)) for f in like], schema=like))
    return pa.concat_tables(parts)


def _vectors(ids: pa.Array, texts: list[str], rng: np.random.Generator) -> pa.Table:
    vectors = rng.standard_normal((len(ids), 384), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    zeros = pa.array(np.zeros(len(ids), np.int32))
    ends = pa.array([len(text) for text in texts], pa.int32())
    flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 384)
    return pa.table({"persona_id": ids, "passage": zeros, "start": zeros, "end": ends, "vector": flat})


# -- the tasks, each in a process of its own -------------------------------------------------------------------------


def ours_publish(folder: str) -> Callable[[], object]:
    """One commit with everything, and the tag."""
    people = Anthology.load(folder)
    return lambda: people.push(OURS, release=TAG).url


def theirs_publish(folder: str) -> Callable[[], object]:
    """One push for each config, and the tag."""
    from datasets import load_dataset
    from huggingface_hub import HfApi

    tables = {
        name: load_dataset("parquet", data_files=f"{folder}/{name}/**/*.parquet", split="train") for name in CONFIGS
    }

    def push() -> None:
        for name, table in tables.items():
            table.push_to_hub(THEIRS, config_name=name, private=True)
        HfApi().create_tag(THEIRS, tag=TAG, repo_type="dataset")

    return push


def preload() -> None:
    """Import what ours imports late: imports are not timed."""
    for name in ("huggingface_hub.hf_api", "pyarrow.parquet", "pyarrow.compute", "pandas"):
        importlib.import_module(name)


def ours_personas(_folder: str) -> Callable[[], object]:
    """Open the personas and read one."""
    preload()

    return lambda: Anthology.load(OURS, revision=TAG)[0].persona_id


def theirs_personas(_folder: str) -> Callable[[], object]:
    """Open the personas and read one."""
    from datasets import load_dataset

    return lambda: load_dataset(THEIRS, "personas", revision=TAG, split="train")[0]["persona_id"]


def ours_filter(_folder: str) -> Callable[[], object]:
    """Open the personas, keep those of a region and read the last one."""
    preload()

    return lambda: Anthology.load(OURS, revision=TAG).where(region="South")[-1].persona_id


def theirs_filter(_folder: str) -> Callable[[], object]:
    """Open the personas, keep those of a region and read the last one."""
    from datasets import load_dataset

    def keep() -> object:
        table = load_dataset(THEIRS, "personas", revision=TAG, split="train")
        return table.filter(lambda region: region == "South", input_columns="region")[-1]["persona_id"]

    return keep


def ours_all(_folder: str) -> Callable[[], object]:
    """Bring everything."""
    preload()

    def load() -> object:
        people = Anthology.load(OURS, revision=TAG)
        vectors = people._store.embeddings["all-MiniLM-L6-v2"].rows.row(0)["vector"]
        return [people[0].persona_id, len(people.annotations_of(people.ids[0])), len(vectors)]

    return load


def theirs_all(_folder: str) -> Callable[[], object]:
    """Bring everything."""
    from datasets import load_dataset

    def load() -> object:
        tables = {name: load_dataset(THEIRS, name, revision=TAG, split="train") for name in CONFIGS}
        first = tables["personas"][0]["persona_id"]
        ids = tables["annotations"].data["persona_id"]
        return [first, sum(pa.compute.equal(ids, first).to_pylist()), len(tables["embeddings"][0]["vector"])]

    return load


def child(task: str, folder: str) -> None:
    """Do one task and print what it took."""
    work = globals()[task](folder)
    began = time.perf_counter()
    answer = work()
    spent = time.perf_counter() - began
    print(json.dumps({"seconds": spent, "peak_mb": peak_memory() / 1024, "answer": answer}))


def peak_memory() -> int:
    """Peak memory of this process in KB; what getrusage tells on Linux begins at the peak of the parent."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    high = next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)
    return high or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


# -- the run ---------------------------------------------------------------------------------------------------------


class Counter(logging.Handler):
    """Counts the requests that the hub logs."""

    count = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Count one."""
        self.count += 1


def received() -> int:
    """Bytes that went over the loopback so far (Linux), 0 where it cannot be told."""
    lines = Path("/proc/net/dev").read_text().splitlines() if Path("/proc/net/dev").exists() else []
    return next((int(line.split(":")[1].split()[0]) for line in lines if line.strip().startswith("lo:")), 0)


def measure(task: str, folder: Path, home: Path, counter: Counter) -> dict[str, object]:
    """Run a task in a process of its own and return what it took."""
    env = {**os.environ, "HF_HOME": str(home / "hf"), "ANTHOLOGY_HUB_CACHE": str(home / "ours")}
    requests, moved = counter.count, received()
    command = [sys.executable, __file__, "--child", task, "--folder", str(folder)]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    told = json.loads(done.stdout.splitlines()[-1])
    return {**told, "requests": counter.count - requests, "mb": (received() - moved) / 2**20}


def main() -> None:
    """Run all tasks and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--personas", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--child")
    parser.add_argument("--folder", default="")
    given = parser.parse_args()
    if given.child:
        child(given.child, given.folder)
        return
    counter = Counter()
    logging.getLogger("anthology_hub.labhub").addHandler(counter)
    logging.getLogger("anthology_hub.labhub").setLevel(logging.INFO)
    with tempfile.TemporaryDirectory() as name, running(Path(name) / "hub") as hub:
        root = Path(name)
        os.environ |= {"HF_ENDPOINT": hub.url, "HF_TOKEN": hub.store.accounts.add_token("lab"), "HF_HUB_OFFLINE": "0"}
        os.environ |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        folder = root / "release"
        make(given.personas, folder)
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20
        print(f"{given.personas:,} personas, {size:,.0f} MB on disk\n")
        print(f"{'task':18} {'':7} {'seconds':>8} {'requests':>9} {'MB moved':>9} {'peak MB':>8} {'ratio':>7}")
        ratios = {"publish": pair("publish", folder, root / "up", counter)}
        for task in ("personas", "filter", "all"):
            pair(task, folder, root / f"cold-{task}", counter, label=f"cold {task}")
            rounds = [pair(task, folder, root / f"cold-{task}", counter, quiet=True) for _ in range(given.rounds - 1)]
            rounds.append(pair(task, folder, root / f"cold-{task}", counter, label=f"warm {task}"))
            ratios[task] = {name: median(r[name] for r in rounds) for name in ("ratio", "ours", "theirs")}
            ratios[task]["requests"] = max(r["requests"] for r in rounds)
            print(f"{'':18} median of {given.rounds} warm rounds: {ratios[task]['ratio']:.1f} times as fast")
        warm = ratios["personas"]
        print("\n| hot path | peer | peer's figure | ours | ratio | target |\n| --- | --- | --- | --- | --- | --- |")
        print(
            f"| pinned personas of {given.personas:,}, again | `load_dataset` at the tag | {warm['theirs']:.3f} s "
            f"| {warm['ours']:.3f} s | {warm['ratio']:.1f} | >= {LEAST} |"
        )
        if warm["requests"] or warm["ratio"] < LEAST:
            raise SystemExit(
                f"a warm pinned load makes {warm['requests']} requests and is {warm['ratio']:.1f} times as fast"
            )


def pair(
    task: str, folder: Path, home: Path, counter: Counter, *, label: str = "", quiet: bool = False
) -> dict[str, float]:
    """Run a task both ways, print both lines and return the ratio of the times and our number of requests."""
    found = {side: measure(f"{side}_{task}", folder, home / side, counter) for side in ("ours", "theirs")}
    assert task == "publish" or found["ours"]["answer"] == found["theirs"]["answer"], found
    ratio = found["theirs"]["seconds"] / found["ours"]["seconds"]
    for side, told in () if quiet else found.items():
        last = f"{ratio:7.1f}" if side == "theirs" else ""
        print(
            f"{label or task:18} {side:7} {told['seconds']:8.3f} {told['requests']:9} {told['mb']:9.1f} "
            f"{told['peak_mb']:8.0f} {last}",
            flush=True,
        )
    took = {side: told["seconds"] for side, told in found.items()}
    return {"ratio": ratio, "requests": found["ours"]["requests"], **took}


if __name__ == "__main__":
    main()
