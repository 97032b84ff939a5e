"""An index larger than memory: built shard by shard, merged on disk, served memory-mapped.

One quantizer is trained on a sample; each worker adds its rows to a copy of the empty index and writes a shard; the
shards are merged into inverted lists on disk, without loading them. A search reads the lists that are nearest and
scores what it finds there anew from the vectors, which are memory-mapped as well. For up to some 10^8 vectors; what
serves more, or live writes, is told in `docs/scale.md`.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from anthology_hub.cluster import Cluster, spread
from anthology_hub.errors import DataError, OptionError
from anthology_hub.hub import write_file
from anthology_hub.scoring import Hits

if TYPE_CHECKING:
    from numpy.typing import NDArray

FACTS, INDEX, LISTS = "index.json", "index.faiss", "lists.ivfdata"
BLOCK = 32_768
"""Vectors that are in memory as float32 at once."""
TRAINING = 39
"""Vectors per list that the quantizer is trained on: the fewest with which faiss is content."""
HNSW_LISTS = 32_768
"""From so many lists on the nearest are found by HNSW: comparing all costs more than it gives."""
OVERFETCH = 4
"""Candidates per wanted row that are scored anew: the codes have 8 bits a number."""
QUERIES = 100
"""Vectors by which the number of lists to read is found."""


@dataclass(frozen=True, kw_only=True)
class ShardedFacts:
    """What an index is, and how it is to be searched."""

    factory: str
    rows: int
    dimension: int
    lists: int
    nprobe: int
    """Lists that a search reads."""
    recall: float
    """Recall@10 with so many, measured against exact results for QUERIES of the vectors themselves, each left out of
    its own result."""
    faiss: str
    """Version that wrote it."""


@dataclass(frozen=True, kw_only=True)
class _Shard:
    first: int
    last: int
    """Rows first to last, the last left out."""


@dataclass(frozen=True, kw_only=True)
class _Adder:
    """Adds shards to copies of the trained index, wherever it is."""

    vectors: Path
    folder: Path

    def __call__(self, shard: _Shard) -> int:
        """Write a shard, and return its rows."""
        import faiss

        index, stored = faiss.read_index(str(self.folder / "trained.faiss")), _mapped(self.vectors)
        for start, block in _blocks(stored, shard.first, shard.last):
            index.add_with_ids(block, np.arange(start, start + len(block)))
        faiss.write_index(index, str(self.folder / f"shard-{shard.first}.faiss"))
        return int(index.ntotal)


class Sharded:
    """An index on disk.

    Example:
        >>> folder = Path(tempfile.mkdtemp())
        >>> rows = np.random.default_rng(0).normal(size=(2000, 16)).astype("float32")
        >>> np.save(folder / "vectors.npy", rows / np.linalg.norm(rows, axis=1, keepdims=True))
        >>> index = Sharded.build(folder / "vectors.npy", folder / "index", lists=16, shards=4)
        >>> index.facts.rows, index.facts.recall >= 0.98
        (2000, True)
        >>> index.search(np.load(folder / "vectors.npy")[[7, 8]], 1)[1].rows.tolist()
        [8]
    """

    def __init__(self, folder: Path, vectors: Path) -> None:
        """Open an index that was built of these vectors; nothing is read but its head.

        Raises:
            DataError: If there is none, or it is of other vectors.
        """
        try:
            self.facts = ShardedFacts(**json.loads((folder / FACTS).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise DataError(f"{folder} holds no whole index ({error}): build it") from error
        self._folder, self._vectors = folder, _mapped(vectors)
        if self._vectors.shape != (self.facts.rows, self.facts.dimension):
            raise DataError(
                f"{folder} is of {self.facts.rows} x {self.facts.dimension} vectors, {vectors} holds "
                f"{self._vectors.shape[0]} x {self._vectors.shape[1]}: give the vectors it was built of, or build anew"
            )

    @classmethod
    def build(
        cls,
        vectors: Path,
        folder: Path,
        *,
        shards: int = 8,
        lists: int | None = None,
        recall: float = 0.98,
        seed: int = 0,
        ray: Cluster | str | None = None,
    ) -> Sharded:
        """Build an index of vectors that may be more than memory holds.

        Args:
            vectors: A `.npy` file of unit vectors, float16 or float32, shape (rows, dimension).
            folder: Where to; workers of a cluster must see it, and the vectors, under the same path.
            shards: Parts that are added one by one; memory holds the codes of one for each worker.
            lists: Inverted lists; about four times the root of the rows, if not given.
            recall: Recall@10 wanted of a search, above 0 and at most 1.
            seed: Of the sample to train on, and of the clustering.
            ray: Spread the shards over this cluster; one after the other in process, if not given.

        Raises:
            DataError: If the file holds no such vectors.
            OptionError: If an option is outside its range.
        """
        import faiss

        stored = _mapped(vectors)
        rows = len(stored)
        lists = lists or lists_for(rows)
        if shards < 1 or not 0 < recall <= 1 or not 1 <= lists <= rows:
            raise OptionError(
                f"shards must be at least 1, recall above 0 and at most 1, and lists between 1 and {rows}, got "
                f"{shards}, {recall}, {lists}"
            )
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FACTS).unlink(missing_ok=True)
        factory = f"IVF{lists}{'_HNSW32' if lists >= HNSW_LISTS else ''},SQ8"
        with tempfile.TemporaryDirectory(dir=folder, prefix=".shards-") as name:
            work = Path(name)
            faiss.write_index(_trained(stored, factory, lists, seed), str(work / "trained.faiss"))
            bounds = np.linspace(0, rows, min(shards, rows) + 1).astype(int).tolist()
            parts = [_Shard(first=a, last=b) for a, b in zip(bounds, bounds[1:], strict=False)]
            done = sum(spread(parts, _Adder(vectors=vectors.absolute(), folder=work.absolute()), cluster=ray))
            if done != rows:
                raise DataError(f"{done} of {rows} vectors came into the shards of {folder}: build it again")
            _merge(work, parts, folder)
        opened = _Lists(folder)
        nprobe, found = _calibrated(opened, stored, recall, seed)
        facts = ShardedFacts(
            factory=factory,
            rows=rows,
            dimension=stored.shape[1],
            lists=lists,
            nprobe=nprobe,
            recall=found,
            faiss=faiss.__version__,
        )
        # Last: an index without its facts is no index.
        write_file(folder / FACTS, json.dumps(asdict(facts)).encode())
        return cls(folder, vectors)

    @cached_property
    def _lists(self) -> _Lists:
        return _Lists(self._folder)

    def search(self, queries: NDArray[np.float32], k: int) -> list[Hits]:
        """Return the `k` best rows of each query, with their exact inner products; ties by row.

        Args:
            queries: Unit vectors, shape (n, dimension).
            k: Number of rows, at least 1.

        Raises:
            OptionError: If k is below 1 or the queries do not fit.
        """
        if k < 1 or queries.ndim != 2 or queries.shape[1] != self.facts.dimension:
            raise OptionError(
                f"k must be at least 1 and queries of shape (n, {self.facts.dimension}), got {k} and {queries.shape}"
            )
        return _searched(self._lists, self._vectors, queries, k, self.facts.nprobe)


class _Lists:
    """The inverted lists, memory-mapped."""

    def __init__(self, folder: Path) -> None:
        import faiss

        try:
            self._index: Any = faiss.read_index(str(folder / INDEX), faiss.IO_FLAG_ONDISK_SAME_DIR)
        except RuntimeError as error:
            raise DataError(f"{folder / INDEX} cannot be read ({error}): build the index again") from error

    @property
    def number(self) -> int:
        """How many lists there are."""
        return int(self._index.nlist)

    def candidates(self, queries: NDArray[np.float32], k: int, nprobe: int) -> NDArray[np.int64]:
        """Return the k rows of each query that score best by their codes, shape (n, k); -1 where there are fewer."""
        import faiss

        params = faiss.SearchParametersIVF(nprobe=nprobe)  # type: ignore[call-arg]
        return np.asarray(self._index.search(np.ascontiguousarray(queries, np.float32), k, params=params)[1])


def lists_for(rows: int) -> int:
    """Return the number of inverted lists for so many vectors: about four times the root, a power of two.

    Example:
        >>> lists_for(5_000_000)
        8192
    """
    return int(min(max(rows // TRAINING, 1), 2 ** round(np.log2(4 * max(rows, 1) ** 0.5))))


def exact(vectors: np.memmap[Any, Any], queries: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Return the k best rows of each query by comparing all, a block at a time; shape (n, k).

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


def _searched(lists: _Lists, vectors: NDArray[Any], queries: NDArray[np.float32], k: int, nprobe: int) -> list[Hits]:
    found = []
    for query, near in zip(queries, lists.candidates(queries, k * OVERFETCH, nprobe), strict=True):
        rows = np.sort(near[near >= 0])
        scores = vectors[rows].astype(np.float32) @ query
        best = np.argsort(-scores, kind="stable")[:k]
        found.append(Hits(rows=rows[best], scores=scores[best]))
    return found


def _mapped(file: Path) -> np.memmap[Any, Any]:
    try:
        stored: np.memmap[Any, Any] = np.load(file, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise DataError(f"{file} holds no vectors ({error}): give a .npy file of float16 or float32") from error
    if stored.ndim != 2 or not stored.flags.c_contiguous or stored.dtype not in (np.float16, np.float32):
        raise DataError(
            f"{file} holds {stored.dtype} of shape {stored.shape}: give float16 or float32, rows by dimension"
        )
    return stored


def _blocks(vectors: np.memmap[Any, Any], first: int, last: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield (first row, vectors) of some rows, read and not mapped: a pass over all would fill the memory."""
    width = vectors.shape[1]
    for start in range(first, last, BLOCK):
        count, offset = min(BLOCK, last - start), vectors.offset + start * width * vectors.itemsize
        block = np.fromfile(str(vectors.filename), vectors.dtype, count * width, offset=offset)
        yield start, block.reshape(count, width).astype(np.float32, copy=False)


def _trained(vectors: np.memmap[Any, Any], factory: str, lists: int, seed: int) -> Any:  # noqa: ANN401 - faiss has no types
    import faiss

    index: Any = faiss.index_factory(vectors.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
    size = min(len(vectors), max(TRAINING * lists, 1000))
    at = np.sort(np.random.default_rng(seed).choice(len(vectors), size, replace=False))
    sample = np.ascontiguousarray(vectors[at], dtype=np.float32)
    if not np.allclose((sample * sample).sum(axis=1), 1, atol=1e-2):
        raise DataError("vectors must have length 1: normalise them before indexing")
    index.cp.seed, index.cp.spherical = seed, True
    # With little to train on it says so for every list.
    index.cp.min_points_per_centroid = 1
    index.train(sample)
    return index


def _merge(work: Path, parts: Sequence[_Shard], folder: Path) -> None:
    import faiss
    from faiss.contrib.ondisk import merge_ondisk

    index = faiss.read_index(str(work / "trained.faiss"))
    files = [str(work / f"shard-{part.first}.faiss") for part in parts]
    merge_ondisk(index, files, str(folder / LISTS))
    faiss.write_index(index, str(folder / INDEX))


def _calibrated(lists: _Lists, vectors: np.memmap[Any, Any], wanted: float, seed: int) -> tuple[int, float]:
    """Find how many lists must be read, and the recall@10 with so many."""
    rng = np.random.default_rng(seed)
    own = np.sort(rng.choice(len(vectors), min(QUERIES, len(vectors)), replace=False))
    queries = np.asarray(vectors[own], dtype=np.float32)
    truth = _without(own, exact(vectors, queries, 11))
    nprobe, most = 1, lists.number
    while True:
        hits = _searched(lists, vectors, queries, 11, nprobe)
        found = _without(own, [hit.rows for hit in hits])
        recall = float(np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(found, truth, strict=True)]))
        if recall >= wanted or nprobe >= most:
            return nprobe, round(recall, 4)
        nprobe = min(most, nprobe + max(1, nprobe // 3))


def _without(own: NDArray[np.int64], rows: Sequence[NDArray[np.int64]] | NDArray[np.int64]) -> list[list[int]]:
    """Leave each query out of its own result, and keep the ten best of the others."""
    return [[int(row) for row in found if row != at][:10] for at, found in zip(own, rows, strict=True)]
