"""Vectors in inverted lists of codes: a file of a twentieth of their size, of which a query reads a few percent.

The rows near one centroid form a list. A query reads the lists whose centroids are nearest to it; under a filter, as
many of them as hold enough rows that pass. A code is one bit for each number of a vector: on which side of the centroid
it lies (RaBitQ: Gao and Long, SIGMOD 2024). Codes only propose rows: `scoring.ranked` puts them in order.
"""

from __future__ import annotations

from functools import cached_property, lru_cache
from math import ceil, log
from typing import TYPE_CHECKING, Any

import numpy as np

from anthology_hub.errors import DataError
from anthology_hub.prompts import derive_seed
from anthology_hub.scoring import BLOCK_ROWS, library, margin, proposed

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

LIST_POINTS = 64
"""Rows that a centroid is trained on."""
ONE_BIT = 384
"""Numbers of a vector from which one bit for each of them is enough."""
ROUNDS = 10
"""Of k-means; more gains no recall."""
HNSW_ROWS = 4_000_000
"""From here a graph finds the nearest centroids."""
HNSW_LINKS = 32
SPARE = 2**20
"""Bytes that an index file may hold beside its lists and centroids."""
ON_DISK = ".ivfdata"
"""Ending of the file beside an index that holds its lists, where they are apart."""
SAMPLED_LISTS = 128
"""Lists of which a code is compared with its vector when a file is opened."""
OTHER_BYTES = 0.1
"""Share of bytes in which a code may differ from that made on another processor; of another vector, nearly all do."""
_ASSIGN_ROWS = 1_024


def lists_for(rows: int) -> int:
    """Return how many lists a number of rows is divided into.

    Twice as many answer no faster and take four times as long to train.

    Example:
        >>> lists_for(1_000_000)
        3000
    """
    return max(1, int(3 * rows**0.5))


def bits_for(dimension: int) -> int:
    """Return the bits of a code for each number of a vector.

    The error of a code falls with the root of the dimension, and by half with each bit.

    Example:
        >>> [bits_for(dimension) for dimension in (768, 384, 256, 64)]
        [1, 1, 2, 3]
    """
    return 1 + max(0, ceil(log(ONE_BIT / dimension, 4)))


class Inverted:
    """Inverted lists of vectors, kept by faiss.

    Example:
        >>> vectors = np.eye(8, dtype=np.float32)
        >>> lists = Inverted.trained(vectors, lists=2, seed=0)
        >>> lists.add(vectors, first=0)
        >>> lists.sizes.sum()
        np.int64(8)
    """

    def __init__(self, ivf: Any) -> None:  # noqa: ANN401 - faiss has no types
        """Take over a faiss index of inverted lists of RaBitQ codes; see `trained` and `read`."""
        faiss = library()
        self.ivf, self._coarse = ivf, faiss.downcast_index(ivf.quantizer)
        self._flat = isinstance(self._coarse, faiss.IndexFlat)

    @classmethod
    def trained(cls, sample: NDArray[np.float32], *, lists: int, seed: int, graph: bool = False) -> Inverted:
        """Make empty lists around centroids of a sample.

        Args:
            sample: Unit vectors, float32, shape (at least `lists` rows, dimension).
            lists: How many.
            seed: Of the centroids that k-means begins with.
            graph: Whether a graph (HNSW) finds the nearest centroids.
        """
        faiss = library()
        dimension = sample.shape[1]
        coarse = faiss.IndexHNSWFlat(dimension, HNSW_LINKS, faiss.METRIC_INNER_PRODUCT) if graph else None
        coarse = coarse or faiss.IndexFlatIP(dimension)
        coarse.add(centroids_of(sample, lists, seed=seed))
        ivf = _empty(coarse, lists)
        ivf.train(sample)
        return cls(ivf)

    @classmethod
    def checked(cls, ivf: Any, name: str) -> Inverted:  # noqa: ANN401 - faiss has no types
        """Take over what a file holds.

        Raises:
            DataError: If it is not what `trained` and `add` make, or contradicts itself.
        """
        faiss = library()
        if not isinstance(ivf, faiss.IndexIVFRaBitQ):
            raise DataError(f"{name} holds a {type(ivf).__name__}, not lists of RaBitQ codes: build the index again")
        made = _empty(faiss.IndexFlatIP(ivf.d), 1)
        same = {ivf.quantizer.d, ivf.rabitq.d} == {ivf.d} and ivf.rabitq.nb_bits == made.rabitq.nb_bits
        widths = {ivf.code_size, ivf.rabitq.code_size, ivf.invlists.code_size, made.code_size}
        numbers = {ivf.nlist, ivf.quantizer.ntotal, ivf.invlists.nlist}
        whole = len(widths) == len(numbers) == 1 and same and ivf.by_residual and ivf.qb == made.qb
        found = cls(ivf) if whole and ivf.quantizer.metric_type == faiss.METRIC_INNER_PRODUCT else None
        if found is None or found.sizes.sum() != ivf.ntotal or not 0 < ivf.nprobe <= ivf.nlist:
            raise DataError(f"{name} is damaged or not an index of this package: build the index again")
        return found

    @property
    def factory(self) -> str:
        """The faiss name of what this is."""
        graph = "" if self._flat else f"_HNSW{HNSW_LINKS}"
        bits = self.ivf.rabitq.nb_bits
        return f"IVF{self.ivf.nlist}{graph},RaBitQ{bits if bits > 1 else ''}"

    def __len__(self) -> int:
        return int(self.ivf.ntotal)

    @cached_property
    def centroids(self) -> NDArray[np.float32]:
        """Shape (lists, dimension)."""
        faiss = library()
        flat = self._coarse if self._flat else faiss.downcast_index(self._coarse.storage)
        # A copy: in a mapped file they lie at any byte.
        return np.array(faiss.rev_swig_ptr(flat.get_xb(), self.ivf.nlist * self.ivf.d)).reshape(-1, self.ivf.d)

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """Rows in each list."""
        return np.array([self.ivf.invlists.list_size(at) for at in range(self.ivf.nlist)], dtype=np.int64)

    @cached_property
    def list_of(self) -> NDArray[np.int32]:
        """The list of each row, shape (rows,)."""
        rows = self._known(np.concatenate([self.rows_of(at) for at in range(self.ivf.nlist)]))
        found = np.zeros(len(self), dtype=np.int32)
        found[rows] = np.repeat(np.arange(self.ivf.nlist, dtype=np.int32), self.sizes)
        return found

    def _known(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        # Rows come from a file, and the kernel that scores them checks nothing.
        if len(rows) and rows.max() >= len(self):
            raise DataError(
                f"the index names row {rows.max()} of {len(self)}: it is damaged, load the collection again"
            )
        return rows

    def rows_of(self, at: int) -> NDArray[np.int64]:
        """The rows in one list."""
        faiss = library()
        size = int(self.sizes[at])
        if not size:
            return np.zeros(0, dtype=np.int64)
        return np.asarray(faiss.rev_swig_ptr(self.ivf.invlists.get_ids(at), size))

    def holds(self, vectors: NDArray[np.floating]) -> bool:
        """Whether a sample of the codes, the first of some lists, are those of these vectors."""
        faiss = library()
        used = np.flatnonzero(self.sizes)
        lists = np.ascontiguousarray(used[:: max(1, len(used) // SAMPLED_LISTS)], dtype=np.int64)
        rows = np.array([self.rows_of(at)[0] for at in lists.tolist()])
        if rows.min() < 0 or rows.max() >= len(vectors):
            return False
        width, sample = self.ivf.code_size, vectors[rows].astype(np.float32)
        kept = np.array([faiss.rev_swig_ptr(self.ivf.invlists.get_codes(at), width) for at in lists.tolist()])
        made = np.empty((len(lists), width), dtype=np.uint8)
        self.ivf.encode_vectors(len(lists), *map(faiss.swig_ptr, (sample, lists, made)))
        return bool((kept != made).mean() <= OTHER_BYTES)

    def add(self, vectors: NDArray[np.floating], *, first: int) -> None:
        """Put vectors into their lists, a block at a time; they become the rows from `first` on."""
        faiss = library()
        for start in range(0, len(vectors), BLOCK_ROWS):
            block = np.ascontiguousarray(vectors[start : start + BLOCK_ROWS], dtype=np.float32)
            rows = np.arange(first + start, first + start + len(block))
            lists = self._assigned(block)
            self.ivf.add_core(len(block), *map(faiss.swig_ptr, (block, rows, lists)))
        self.__dict__.pop("sizes", None)
        self.__dict__.pop("list_of", None)

    def _assigned(self, block: NDArray[np.float32]) -> NDArray[np.int64]:
        if self._flat:
            return assigned(block, self.centroids)[0]
        return np.asarray(self._coarse.search(block, 1)[1][:, 0])

    def counts(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return how many of some rows are in each list."""
        counts: NDArray[np.int64] = np.bincount(self.list_of[rows], minlength=self.ivf.nlist)
        return counts

    def ranks(self, queries: NDArray[np.float32], vectors: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return how many lists are nearer to each query than that of each of its vectors.

        Args:
            queries: Shape (queries, dimension).
            vectors: Shape (queries, n, dimension); what comes back is of shape (queries, n).
        """
        scores = proposed(queries, self.centroids)
        lists = self._assigned(vectors.reshape(-1, vectors.shape[2])).reshape(vectors.shape[:2])
        own = np.take_along_axis(scores, lists, axis=1)
        nearest_first = np.sort(-scores, axis=1)
        return np.array([np.searchsorted(*pair) for pair in zip(nearest_first, -own, strict=True)])

    def nearest(self, queries: NDArray[np.float32], n: int) -> NDArray[np.int64]:
        """Return the n lists nearest to each query, in no order, shape (queries, n)."""
        if not self._flat:
            return self._by_graph(queries, n)
        total = len(self.centroids)
        if n >= total:
            return np.broadcast_to(np.arange(total), (len(queries), total)).copy()
        scores = proposed(queries, self.centroids)
        if len(queries) == 1:
            return np.argpartition(scores, total - n, axis=1)[:, total - n :]
        edge = total - n - 1, total - n
        order = np.argpartition(scores, edge, axis=1)
        # Where rounding could decide, it must decide as it does for a query alone.
        last, first = (np.take_along_axis(scores, order[:, [at]], axis=1)[:, 0] for at in edge)
        for at in np.flatnonzero(first - last <= margin(queries.shape[1])):
            order[at] = np.argpartition(proposed(queries[at : at + 1], self.centroids)[0], total - n)
        return order[:, total - n :]

    def _by_graph(self, queries: NDArray[np.float32], n: int) -> NDArray[np.int64]:
        faiss = library()
        params = faiss.SearchParametersHNSW(efSearch=max(64, 2 * n))
        return np.asarray(self._coarse.search(queries, n, params=params)[1])

    def covering(self, query: NDArray[np.float32], counts: NDArray[np.int64], mass: int) -> NDArray[np.int64]:
        """Return the nearest lists that together hold at least `mass` of what `counts` counts in each list."""
        there = np.flatnonzero(counts)
        order = there[np.argsort(-proposed(query[None], self.centroids)[0, there])]
        return order[: np.searchsorted(np.cumsum(counts[order]), mass) + 1]

    def candidates(
        self,
        queries: NDArray[np.float32],
        lists: NDArray[np.int64],
        n: int,
        *,
        bits: NDArray[np.uint8] | None = None,
    ) -> NDArray[np.int64]:
        """Return up to n rows with the best codes in the lists of each query, shape (queries, n), filled up with -1.

        Args:
            queries: float32, shape (queries, dimension).
            lists: Shape (queries, any); -1 is no list.
            n: At least 1.
            bits: Packed bits, little end first, of the rows that may be returned.
        """
        faiss = library()
        read = lists.shape[1]
        params = (
            _reading(read) if bits is None else faiss.SearchParametersIVF(sel=faiss.IDSelectorBitmap(bits), nprobe=read)
        )
        lists = np.ascontiguousarray(lists, dtype=np.int64)
        scores, rows = np.empty((len(queries), n), dtype=np.float32), np.empty((len(queries), n), dtype=np.int64)
        near = np.zeros(lists.shape, dtype=np.float32)
        queries_at, *pointers = map(faiss.swig_ptr, (queries, lists, near, scores, rows))
        self.ivf.search_preassigned_c(len(queries), queries_at, n, *pointers, False, params)
        return self._known(rows.ravel()).reshape(rows.shape)

    def write(self, file: Path) -> None:
        """Write the faiss file."""
        faiss = library()
        faiss.write_index(self.ivf, str(file))


def _empty(coarse: Any, lists: int) -> Any:  # noqa: ANN401 - faiss has no types
    faiss = library()
    return faiss.IndexIVFRaBitQ(coarse, coarse.d, lists, faiss.METRIC_INNER_PRODUCT, True, bits_for(coarse.d))


@lru_cache
def _reading(lists: int) -> Any:  # noqa: ANN401 - faiss has no types
    """Settings of a search that reads so many lists: making them takes a tenth of one query's time."""
    return library().SearchParametersIVF(nprobe=lists)


def read(file: Path, *, at_most: int) -> Any:  # noqa: ANN401 - faiss has no types
    """Open a faiss file memory-mapped, allocating no more than `at_most` bytes, whatever its header claims.

    Raises:
        DataError: If it cannot be read or ranks by another metric than the inner product.
    """
    faiss = library()
    before = faiss.get_deserialization_vector_byte_limit()
    faiss.set_deserialization_vector_byte_limit(at_most)
    try:
        # Lists in a file of their own are mapped in any case, and lie beside this one wherever it was moved.
        apart = file.with_suffix(ON_DISK).is_file()
        index = faiss.read_index(str(file), faiss.IO_FLAG_ONDISK_SAME_DIR if apart else faiss.IO_FLAG_MMAP_IFC)
    except RuntimeError as error:
        raise DataError(f"{file} cannot be read: load the collection again ({error})") from error
    finally:
        faiss.set_deserialization_vector_byte_limit(before)
    if index.metric_type != faiss.METRIC_INNER_PRODUCT:
        raise DataError(f"{file} ranks by another metric than the inner product: load the collection again")
    return index


def assigned(
    vectors: NDArray[np.float32], centroids: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the nearest centroid of each vector and its score."""
    # By numpy's product: the one inside faiss's wheels knows no CPU newer than itself and is four times slower there.
    nearest, scores = np.empty(len(vectors), dtype=np.int64), np.empty(len(vectors), dtype=np.float32)
    for start in range(0, len(vectors), _ASSIGN_ROWS):
        block = vectors[start : start + _ASSIGN_ROWS] @ centroids.T
        nearest[start : start + len(block)] = block.argmax(axis=1)
        scores[start : start + len(block)] = block.max(axis=1)
    return nearest, scores


def centroids_of(sample: NDArray[np.float32], n: int, *, seed: int) -> NDArray[np.float32]:
    """Return n unit centroids of unit vectors, by spherical k-means from random rows.

    Example:
        >>> centroids_of(np.eye(3, dtype=np.float32), 3, seed=0).sum()
        np.float32(3.0)
    """
    rng = np.random.default_rng(derive_seed(seed, "centroids"))
    centroids = sample[np.sort(rng.choice(len(sample), n, replace=False))]
    for _ in range(ROUNDS):
        centroids = _moved(sample, centroids)
    return centroids


def _moved(sample: NDArray[np.float32], centroids: NDArray[np.float32]) -> NDArray[np.float32]:
    """One round: every centroid to the middle of its rows, one without rows to the row that is worst served."""
    nearest, scores = assigned(sample, centroids)
    order = np.argsort(nearest, kind="stable")
    has, starts = np.unique(nearest[order], return_index=True)
    moved = np.empty_like(centroids)
    moved[has] = np.add.reduceat(sample[order], starts, axis=0)
    none = np.setdiff1d(np.arange(len(centroids)), has, assume_unique=True)
    moved[none] = sample[np.argsort(scores, kind="stable")[: len(none)]]
    moved /= np.linalg.norm(moved, axis=1, keepdims=True)
    return moved
