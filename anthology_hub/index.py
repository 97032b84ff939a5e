"""Vectors to ranked rows: exact up to some ten thousand rows, inverted lists with a measured recall beyond.

A filter is applied *before* the search, so a rare group never comes back empty. Scores are inner products of the
vectors themselves whatever proposed the rows; equal scores are ordered by row; asking one query or many, with one
thread or many, gives the same hits.
"""

from __future__ import annotations

import shutil
from contextlib import nullcontext
from dataclasses import asdict, dataclass, fields
from math import ceil, sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from anthology_hub.errors import DataError, OptionError
from anthology_hub.inverted import HNSW_ROWS, LIST_POINTS, SPARE, Inverted, lists_for, read
from anthology_hub.prompts import derive_seed
from anthology_hub.scoring import Hits, exact, library, one_thread, padded, ranked

if TYPE_CHECKING:
    from numpy.typing import NDArray

FLAT_ROWS = 20_000
"""Up to here exact search takes a millisecond and needs no file."""
CALIBRATED_K = 10
"""Hits by which recall is measured."""
CALIBRATION_QUERIES = 1_000
"""Rows that recall is measured by: its standard error is then about 0.0025."""
CANDIDATES = 6
"""Rows proposed by code for each hit, at least; more where the codes of vectors tell less of them."""
LOST = 0.003
"""Recall, at most, that lists hold and codes do not propose; where they lose more, they propose more."""
ROWS_PER_HIT = 10
"""Rows, at least, in the lists that are read for each hit."""
MASS = 4
"""Under a filter, lists are read until they hold this many times as many rows that pass as are read without one: those
that pass may lie anywhere. As many times as many are proposed."""
LEAST_MASS = 10
"""And until they hold this many times the root of all rows, where a search without a filter is easy."""
MOST_OF_AN_OWNER = 8
"""Rows taken for each wanted owner, at most."""
CODES = 4
"""Codes passed over in the time of one inner product with a vector."""
OPENING_ROWS = 256
"""Rows that are looked at when an index is opened; all of them would be a pass over gigabytes."""
QUERY_BLOCK = 512
"""Queries answered together."""


@dataclass(frozen=True, kw_only=True)
class IndexFacts:
    """What an index is and how well it finds; a manifest keeps it beside the file."""

    factory: str
    """The faiss name: `Flat`, or `IVF<lists>,RaBitQ`."""
    rows: int
    dimension: int
    lists: int = 0
    nprobe: int = 0
    """Lists that a query without a filter reads for ten hits."""
    candidates: int = 0
    """Rows that codes propose for each hit, to be scored."""
    recall: float | None = None
    """Share of the ten best rows that were found for held-out rows, 0 to 1; unknown if the file came without facts."""
    faiss: str = ""
    """Version of the library that made it."""

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> IndexFacts:
        """Read the JSON form; other entries beside it are left alone.

        Raises:
            DataError: If an entry is missing.

        Example:
            >>> facts = IndexFacts(factory="Flat", rows=3, dimension=2, recall=1.0)
            >>> IndexFacts.from_dict(facts.to_dict()) == facts
            True
        """
        if missing := {"factory", "rows", "dimension"} - set(values):
            raise DataError(f"facts of an index lack {sorted(missing)}, got {sorted(values)}: build the index again")
        return cls(**{each.name: values[each.name] for each in fields(cls) if each.name in values})


@dataclass(frozen=True, kw_only=True)
class _Filter:
    """The rows that may be returned, ascending and as packed bits, and how many of them are in each list."""

    rows: NDArray[np.int64]
    bits: NDArray[np.uint8]
    counts: NDArray[np.int64]


class Index:
    """Unit vectors, searchable by inner product, one row per passage.

    Example:
        >>> index = Index(np.eye(3, dtype=np.float32))
        >>> index.search(np.array([0, 1, 0], dtype=np.float32), 1).rows.tolist()
        [1]
    """

    def __init__(
        self, vectors: NDArray[np.floating], *, file: Path | None = None, facts: IndexFacts | None = None
    ) -> None:
        """Search vectors exactly, or by a vouched-for file that `build` and `write` made of them.

        Past `FLAT_ROWS` rows, opening looks at a sample of them: that the file is whole is for the caller to know, by
        its checksum; the sample tells a file of other vectors.

        Args:
            vectors: Unit vectors, float32 or float16, shape (rows, dimension). A contiguous array is not copied, and
                may be memory-mapped.
            file: A faiss file of the same vectors; it is memory-mapped.
            facts: What is known of the file.

        Raises:
            DataError: If vectors are not unit vectors, or the file does not fit them.
        """
        kept = vectors.dtype if vectors.dtype in (np.float16, np.float32) else np.float32
        self._vectors = np.asarray(np.ascontiguousarray(vectors, dtype=kept))
        self._file, self._lists, self._last = file, self._opened(file, facts), cast("_Filter | None", None)
        part = self._vectors[self._sample(OPENING_ROWS)].astype(np.float32, copy=False)
        if not np.allclose(np.einsum("rd,rd->r", part, part), 1, atol=1e-3):
            raise DataError("vectors must have length 1: normalise them before indexing")
        self.facts = facts or self._known()

    @classmethod
    def build(
        cls,
        vectors: NDArray[np.floating],
        *,
        recall: float = 0.98,
        queries: NDArray[np.float32] | None = None,
        seed: int = 0,
    ) -> Index:
        """Index vectors by the way that suits their number.

        Up to `FLAT_ROWS` rows, search stays exact. Beyond, rows are put into lists, and a query reads as few of them as
        find a share of `recall` of the ten best rows, measured against exact search; `facts` tell it.

        Args:
            vectors: As for `Index`.
            recall: Above 0, up to 1.
            queries: Unit vectors of what will be asked, some hundred; rows that the lists were not trained on, if not
                given. Phrases that people type lie farther from all passages than passages do, and need more lists.
            seed: Of the rows that centroids are trained on and recall is measured by.

        Raises:
            OptionError: If the recall is not above 0 and up to 1, or queries do not fit.
            DataError: If vectors are not unit vectors.
        """
        if not 0 < recall <= 1:
            raise OptionError(f"recall must be above 0 and at most 1, got {recall}")
        index = cls(vectors)
        if len(index) > FLAT_ROWS:
            index._lists = index._filled(seed)
            asked, own = index._asked(queries, seed)
            best = np.array([hits.rows[: CALIBRATED_K + 1] for hits in exact(asked, index._vectors, CALIBRATED_K + 1)])
            index.facts = calibrated(index._lists, index._vectors, asked, own=own, best=best, recall=recall)
            index._lists.ivf.nprobe = index.facts.nprobe
        return index

    def __len__(self) -> int:
        return len(self._vectors)

    # -- searching

    def search(self, query: NDArray[np.float32], k: int, *, among: NDArray[np.bool_] | None = None) -> Hits:
        """Return the `k` best rows; fewer if fewer are allowed.

        Args:
            query: One unit vector, shape (dimension,).
            k: Number of rows, at least 1.
            among: True for rows that may be returned, shape (rows,); all, if not given.

        Raises:
            OptionError: If k is below 1, or the query or `among` does not fit.
        """
        return self._found(self._fitting(query[None], k), k, self._filter(among))[0].first(k)

    def search_many(
        self, queries: NDArray[np.float32], k: int, *, among: NDArray[np.bool_] | None = None
    ) -> list[Hits]:
        """Return what `search` returns, for every query of shape (queries, dimension), several times as fast.

        Example:
            >>> [hits.rows.tolist() for hits in Index(np.eye(2, dtype=np.float32)).search_many(np.eye(2), 1)]
            [[0], [1]]
        """
        queries, allowed = self._fitting(queries, k), self._filter(among)
        blocks = (queries[start : start + QUERY_BLOCK] for start in range(0, len(queries), QUERY_BLOCK))
        return [hits.first(k) for block in blocks for hits in self._found(block, k, allowed)]

    def best_of(
        self,
        query: NDArray[np.float32],
        k: int,
        *,
        owners: NDArray[np.int64],
        among: NDArray[np.bool_] | None = None,
    ) -> Hits:
        """Return the best row of each of the `k` owners that have the best rows; fewer if fewer have any.

        Args:
            query: One unit vector, shape (dimension,).
            k: Number of owners, at least 1.
            owners: Whose each row is, shape (rows,), ascending.
            among: True for rows that may be returned, shape (rows,); all, if not given.

        Raises:
            OptionError: If k is below 1, or the query, `owners` or `among` does not fit.

        Example:
            >>> index = Index(np.float32([[1, 0], [0.8, 0.6], [0, 1]]))
            >>> index.best_of(np.float32([1, 0]), 2, owners=np.array([0, 0, 1])).rows.tolist()
            [0, 2]
        """
        if owners.shape != (len(self),):
            raise OptionError(f"owners of shape {owners.shape} do not fit {len(self)} rows: give one for each")
        queries, allowed = self._fitting(query[None], k), self._filter(among)
        most = len(self) if allowed is None else len(allowed.rows)
        # The rows of an owner may lie together, so many are proposed, but lists are read for twice as many at most.
        each = ceil(len(self) / max(1, owners[-1] - owners[0] + 1)) if most else 1
        wanted, each = (k, 1) if each == 1 else (2 * k, ceil(min(each, MOST_OF_AN_OWNER) / 2))
        while True:
            hits = self._found(queries, wanted, allowed, each=each)[0].best_of(owners)
            if len(hits) >= k or wanted >= most:
                return hits.first(k)
            wanted = min(2 * wanted, most)

    def _fitting(self, queries: NDArray[np.float32], k: int) -> NDArray[np.float32]:
        if k < 1:
            raise OptionError(f"k must be at least 1, got {k}")
        if queries.ndim != 2 or queries.shape[1] != self._vectors.shape[1]:
            raise OptionError(
                f"a query of shape {queries.shape[1:]} does not fit vectors of {self._vectors.shape[1]} numbers"
            )
        return np.ascontiguousarray(queries, dtype=np.float32)

    def _found(self, queries: NDArray[np.float32], k: int, allowed: _Filter | None, *, each: int = 1) -> list[Hits]:
        """At least the k best rows of each query, as far as they are there and found, best first.

        Lists are read for k rows, and `each` times as many rows are taken from them.
        """
        most = len(self) if allowed is None else len(allowed.rows)
        with one_thread() if len(queries) == 1 else nullcontext():
            if self._lists is None or CODES * most**2 <= self._mass(k) * len(self):
                return self._exact(queries, k * each, allowed)
            lists = self._lists_to_read(self._lists, queries, k, allowed)
            bits = None if allowed is None else allowed.bits
            n = self._proposals(k * each) * (1 if allowed is None else MASS)
            rows = self._lists.candidates(queries, lists, min(n, most), bits=bits)
            found = ranked(queries, self._vectors, rows)
            return found if min(map(len, found)) >= min(k, most) else self._exact(queries, k, allowed)

    def _exact(self, queries: NDArray[np.float32], k: int, allowed: _Filter | None) -> list[Hits]:
        rows = None if allowed is None else allowed.rows
        return exact(queries, self._vectors, k, among=rows)

    def _lists_to_read(
        self, lists: Inverted, queries: NDArray[np.float32], k: int, allowed: _Filter | None
    ) -> NDArray[np.int64]:
        if allowed is None:
            return lists.nearest(queries, ceil(self._reach(k)))
        return padded([lists.covering(query, allowed.counts, self._mass(k)) for query in queries])

    def _reach(self, k: int) -> float:
        """Lists to read for k hits."""
        # The neighbourhood of k hits grows about with the root of k.
        wide = self.facts.nprobe * sqrt(max(1, k / CALIBRATED_K))
        return max(wide, ROWS_PER_HIT * k * self.facts.lists / len(self))

    def _proposals(self, k: int) -> int:
        """Rows that codes propose for k hits."""
        return (self.facts.candidates or CANDIDATES) * max(k, CALIBRATED_K)

    def _mass(self, k: int) -> int:
        """Rows that may be returned, at least, in the lists that are read for k hits."""
        least = LEAST_MASS * sqrt(len(self) * max(1, k / CALIBRATED_K))
        return ceil(max(least, MASS * self._reach(k) * len(self) / self.facts.lists))

    def _filter(self, among: NDArray[np.bool_] | None) -> _Filter | None:
        """What a search needs to know of a filter; of the last one it is remembered."""
        if among is None:
            return None
        if among.shape != (len(self),):
            raise OptionError(f"a filter of shape {among.shape} does not fit {len(self)} rows: give one for each")
        bits = np.packbits(among, bitorder="little")
        if self._last is None or not np.array_equal(self._last.bits, bits):
            rows = np.flatnonzero(among)
            counts = rows if self._lists is None else self._lists.counts(rows)
            self._last = _Filter(rows=rows, bits=bits, counts=counts)
        return self._last

    # -- opening, building, writing

    def _sample(self, n: int, seed: int = 0) -> NDArray[np.int64]:
        """Rows drawn without replacement, ascending; all of them where an exact search would read them anyway."""
        if len(self) <= max(n, FLAT_ROWS):
            return np.arange(len(self))
        rng = np.random.default_rng(derive_seed(seed, "rows", n))
        return np.sort(rng.choice(len(self), n, replace=False)).astype(np.int64)

    def _opened(self, file: Path | None, facts: IndexFacts | None) -> Inverted | None:
        if file is None:
            return None
        index = read(file, at_most=self._vectors.nbytes + SPARE)
        for rows, width in [(index.ntotal, index.d)] + ([(facts.rows, facts.dimension)] if facts else []):
            if (rows, width) != self._vectors.shape:
                raise DataError(f"{file} holds {rows} x {width} vectors, not {self._vectors.shape}")
        lists = None if hasattr(index, "get_xb") else Inverted.checked(index, str(file))
        if not (lists.holds(self._vectors) if lists is not None else self._equals(index)):
            # A collection may be replaced after it was loaded and before it is first searched.
            raise DataError(f"{file} holds other vectors than the collection: load the collection again")
        return lists

    def _equals(self, flat: Any) -> bool:  # noqa: ANN401 - faiss has no types
        sample = self._sample(OPENING_ROWS)
        kept = flat.reconstruct_batch(sample)
        return np.array_equal(kept, self._vectors[sample].astype(np.float32, copy=False))

    def _training(self, seed: int) -> NDArray[np.int64]:
        return self._sample(min(lists_for(len(self)) * LIST_POINTS, len(self) * 4 // 5), seed)

    def _filled(self, seed: int) -> Inverted:
        n = lists_for(len(self))
        sample = self._vectors[self._training(seed)].astype(np.float32, copy=False)
        lists = Inverted.trained(sample, lists=n, seed=seed, graph=len(self) > HNSW_ROWS)
        lists.add(self._vectors, first=0)
        return lists

    def _asked(self, queries: NDArray[np.float32] | None, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Queries to measure recall by, and of each the row that it is and may not find, or -1."""
        if queries is not None:
            some = self._fitting(queries, CALIBRATED_K)[:: max(1, len(queries) // CALIBRATION_QUERIES)]
            return some, np.full(len(some), -1)
        # A centroid is nearer to the rows that it was trained on than to what will be asked for.
        held_out = np.setdiff1d(np.arange(len(self)), self._training(seed), assume_unique=True)
        rows = held_out[:: len(held_out) // CALIBRATION_QUERIES]
        return self._vectors[rows].astype(np.float32), rows

    def _known(self) -> IndexFacts:
        if self._lists is not None:
            return _facts(self._lists, nprobe=int(self._lists.ivf.nprobe))
        rows, dimension = self._vectors.shape
        return IndexFacts(factory="Flat", rows=rows, dimension=dimension, recall=1.0, faiss=library().__version__)

    def write(self, file: Path) -> None:
        """Write the faiss file, whole or not at all."""
        partial = file.with_name(f".{file.name}.part")
        try:
            self._write(partial)
            partial.replace(file)
        finally:
            partial.unlink(missing_ok=True)

    def _write(self, file: Path) -> None:
        faiss = library()
        if self._file is not None:
            shutil.copyfile(self._file, file)
        elif self._lists is not None:
            self._lists.write(file)
        else:
            flat = faiss.IndexFlatIP(self._vectors.shape[1])
            flat.add(self._vectors)
            faiss.write_index(flat, str(file))


def calibrated(
    lists: Inverted,
    vectors: NDArray[np.floating],
    queries: NDArray[np.float32],
    *,
    own: NDArray[np.int64],
    best: NDArray[np.int64],
    recall: float,
) -> IndexFacts:
    """Find the fewest lists to read, and the fewest rows to take from their codes, for a recall.

    Args:
        lists: Lists of the vectors.
        vectors: Unit vectors, shape (rows, dimension).
        queries: Unit vectors, shape (queries, dimension).
        own: Of each query the row that it is and may not find, or -1.
        best: The 11 best rows of each query, its own among them, shape (queries, 11).
        recall: Share of the ten best others that a search is to find, above 0 and at most 1.
    """
    truth = np.array([_others(rows, row) for rows, row in zip(best, own, strict=True)])
    needed = lists.ranks(queries, vectors[truth].astype(np.float32, copy=False))
    nprobe = int(np.quantile(needed, recall, method="inverted_cdf")) + 1
    candidates = CANDIDATES
    while True:
        rows = lists.candidates(queries, lists.nearest(queries, nprobe), candidates * (CALIBRATED_K + 1))
        found = [_others(hits.rows, row) for hits, row in zip(ranked(queries, vectors, rows), own, strict=True)]
        share = float(np.mean([np.isin(*pair).mean() for pair in zip(truth, found, strict=True)]))
        everything = nprobe >= len(lists.sizes)
        if share >= recall or (everything and candidates * CALIBRATED_K >= len(lists)):
            return _facts(lists, nprobe=nprobe, candidates=candidates, recall=share)
        if everything or (needed < nprobe).mean() - share > LOST:
            candidates += ceil(candidates / 2)
        else:
            nprobe = min(len(lists.sizes), nprobe + ceil(nprobe / 10))


def _facts(lists: Inverted, **measured: Any) -> IndexFacts:  # noqa: ANN401 - what the fields take
    dimension, n = lists.ivf.d, len(lists.sizes)
    version = library().__version__
    return IndexFacts(factory=lists.factory, rows=len(lists), dimension=dimension, lists=n, faiss=version, **measured)


def _others(rows: NDArray[np.int64], own: int) -> NDArray[np.int64]:
    """The ten best rows but one."""
    others = np.flatnonzero(rows != own)[:CALIBRATED_K]
    return rows[others]
