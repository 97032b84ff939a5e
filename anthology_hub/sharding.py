"""An index larger than memory: built shard by shard, merged on disk, served memory-mapped.

One set of centroids is trained on a sample; each worker adds its rows to a copy of the empty lists and writes a shard;
the shards are merged into lists on disk, without loading them. What comes of it is opened as any index is (`Index`:
exact scores, filters before the search), with the vectors memory-mapped beside it. For up to some 10^8 vectors; what
serves more, or live writes, is told in `docs/scale.md`.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from anthology_hub.cluster import Cluster, spread
from anthology_hub.errors import DataError, OptionError
from anthology_hub.hub import write_file
from anthology_hub.index import CALIBRATED_K, Index, IndexFacts, calibrated
from anthology_hub.inverted import HNSW_ROWS, LIST_POINTS, ON_DISK, Inverted, lists_for, read
from anthology_hub.prompts import derive_seed
from anthology_hub.scoring import library

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Stored = np.memmap[Any, Any]

FACTS, INDEX, LISTS = "index.json", "index.faiss", f"index{ON_DISK}"
BLOCK = 32_768
"""Vectors that are in memory as float32 at once."""
QUERIES = 400
"""Rows by which the number of lists to read is found."""


def build_sharded(
    vectors: Path,
    folder: Path,
    *,
    shards: int = 8,
    lists: int | None = None,
    recall: float = 0.98,
    seed: int = 0,
    ray: Cluster | str | None = None,
) -> Index:
    """Build an index of vectors that may be more than memory holds.

    Args:
        vectors: A `.npy` file of unit vectors, float16 or float32, shape (rows, dimension).
        folder: Where to; workers of a cluster must see it, and the vectors, under the same path.
        shards: Parts that are added one by one; memory holds the codes of one for each worker.
        lists: Inverted lists; about three times the root of the rows, if not given.
        recall: Recall@10 wanted of a search, above 0 and at most 1.
        seed: Of the sample to train on and the rows to measure with.
        ray: Spread the shards over this cluster; one after the other in process, if not given.

    Raises:
        DataError: If the file holds no such vectors.
        OptionError: If an option is outside its range.

    Example:
        >>> folder = Path(tempfile.mkdtemp())
        >>> rows = np.random.default_rng(0).normal(size=(2000, 16)).astype("float32")
        >>> np.save(folder / "vectors.npy", rows / np.linalg.norm(rows, axis=1, keepdims=True))
        >>> index = build_sharded(folder / "vectors.npy", folder / "index", lists=16, shards=4)
        >>> index.facts.rows, index.facts.lists, index.facts.recall >= 0.98
        (2000, 16, True)
    """
    stored = _mapped(vectors)
    rows, lists = len(stored), lists or lists_for(len(stored))
    if shards < 1 or not 0 < recall <= 1 or not 1 <= lists <= rows:
        raise OptionError(
            f"shards must be at least 1, recall above 0 and at most 1, and lists between 1 and {rows}, got {shards}, "
            f"{recall}, {lists}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FACTS).unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".shards-") as name:
        work = Path(name).absolute()
        _trained(stored, lists, seed).write(work / "empty.faiss")
        bounds = np.linspace(0, rows, min(shards, rows) + 1).astype(int).tolist()
        parts = [_Shard(first=a, last=b) for a, b in zip(bounds, bounds[1:], strict=False)]
        done = sum(spread(parts, _Adder(vectors=vectors.absolute(), folder=work), cluster=ray))
        if done != rows:
            raise DataError(f"{done} of {rows} vectors came into the shards of {folder}: build it again")
        _merge(work, parts, folder)
    facts = _calibrated(folder, stored, recall, seed)
    # Last: an index without its facts is no index.
    write_file(folder / FACTS, json.dumps(facts.to_dict()).encode())
    return open_sharded(folder, vectors)


def open_sharded(folder: Path, vectors: Path) -> Index:
    """Open an index that was built of these vectors; of either only a sample is read.

    Raises:
        DataError: If there is none, or it is of other vectors.
    """
    try:
        facts = IndexFacts.from_dict(json.loads((folder / FACTS).read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise DataError(f"{folder} holds no whole index ({error}): build it") from error
    return Index(_mapped(vectors), file=folder / INDEX, facts=facts)


@dataclass(frozen=True, kw_only=True)
class _Shard:
    first: int
    last: int
    """Rows first to last, the last left out."""


@dataclass(frozen=True, kw_only=True)
class _Adder:
    """Adds shards to copies of the empty lists, wherever it is."""

    vectors: Path
    folder: Path

    def __call__(self, shard: _Shard) -> int:
        """Write a shard, and return its rows."""
        lists = Inverted(library().read_index(str(self.folder / "empty.faiss")))
        for start, block in _blocks(_mapped(self.vectors), shard.first, shard.last):
            lists.add(block, first=start)
        lists.write(self.folder / f"shard-{shard.first}.faiss")
        return len(lists)


def exact_rows(vectors: Stored, queries: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Return the k best rows of each query in one pass over a file, shape (n, k).

    Args:
        vectors: What `numpy.load(file, mmap_mode="r")` gives, float16 or float32, shape (rows, dimension).
        queries: Unit vectors, shape (n, dimension).
        k: Number of rows.
    """
    rows = np.zeros((len(queries), 0), dtype=np.int64)
    scores = np.zeros((len(queries), 0), dtype=np.float32)
    for start, block in _blocks(vectors, 0, len(vectors)):
        new = queries @ block.T
        at = np.argpartition(-new, min(k, len(block)) - 1, axis=1)[:, :k]
        scores = np.hstack([scores, np.take_along_axis(new, at, axis=1)])
        rows = np.hstack([rows, at + start])
        order = np.lexsort((rows, -scores), axis=1)[:, :k]
        rows, scores = np.take_along_axis(rows, order, axis=1), np.take_along_axis(scores, order, axis=1)
    return rows


def _mapped(file: Path) -> Stored:
    try:
        stored: Stored = np.load(file, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise DataError(f"{file} holds no vectors ({error}): give a .npy file of float16 or float32") from error
    if stored.ndim != 2 or not stored.flags.c_contiguous or stored.dtype not in (np.float16, np.float32):
        raise DataError(
            f"{file} holds {stored.dtype} of shape {stored.shape}: give float16 or float32, rows by dimension"
        )
    return stored


def _blocks(vectors: Stored, first: int, last: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield (first row, vectors) of some rows, read and not mapped: a pass over all would fill the memory."""
    width = vectors.shape[1]
    for start in range(first, last, BLOCK):
        count, offset = min(BLOCK, last - start), vectors.offset + start * width * vectors.itemsize
        block = np.fromfile(str(vectors.filename), vectors.dtype, count * width, offset=offset)
        yield start, block.reshape(count, width).astype(np.float32, copy=False)


def _drawn(rows: int, n: int, *what: object) -> NDArray[np.int64]:
    rng = np.random.default_rng(derive_seed(*what))
    return np.sort(rng.choice(rows, min(n, rows), replace=False)).astype(np.int64)


def _trained(vectors: Stored, lists: int, seed: int) -> Inverted:
    sample = np.ascontiguousarray(vectors[_drawn(len(vectors), LIST_POINTS * lists, seed, "rows")], dtype=np.float32)
    if not np.allclose((sample * sample).sum(axis=1), 1, atol=1e-2):
        raise DataError("vectors must have length 1: normalise them before indexing")
    return Inverted.trained(sample, lists=lists, seed=seed, graph=len(vectors) > HNSW_ROWS)


def _merge(work: Path, parts: Sequence[_Shard], folder: Path) -> None:
    from faiss.contrib.ondisk import merge_ondisk

    faiss = library()
    index = faiss.read_index(str(work / "empty.faiss"))
    merge_ondisk(index, [str(work / f"shard-{part.first}.faiss") for part in parts], str(folder / LISTS))
    faiss.write_index(index, str(folder / INDEX))


def _calibrated(folder: Path, vectors: Stored, wanted: float, seed: int) -> IndexFacts:
    """Find how many lists must be read; each measured query is a row that may not find itself."""
    file = folder / INDEX
    lists = Inverted.checked(read(file, at_most=2 * vectors.nbytes), str(file))
    own = _drawn(len(vectors), QUERIES, seed, "queries")
    queries = np.asarray(vectors[own], dtype=np.float32)
    best = exact_rows(vectors, queries, CALIBRATED_K + 1)
    return calibrated(lists, vectors, queries, own=own, best=best, recall=wanted)
