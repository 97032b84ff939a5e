"""A release of a collection as a folder: written whole, read as far as needed, every byte vouched for by a manifest.

The files are plain parquet, JSON and Markdown that `datasets.load_dataset`, DuckDB, polars and pandas read as well.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property, reduce
from operator import and_
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from anthology_hub import hub, sidestore
from anthology_hub.bitmaps import Selection, pack, reaching, rounded
from anthology_hub.cards import CardText, collection_card, collection_facts
from anthology_hub.encoding import EncoderCard
from anthology_hub.errors import AnthologyError, DataError, IntegrityError, OptionError
from anthology_hub.index import Index, IndexFacts
from anthology_hub.schema import MISSING, SCHEMA_VERSION, SMALLEST_CELL, Codebook, Persona, digest, read_json
from anthology_hub.weights import cache_dir

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from numpy.typing import NDArray

MANIFEST, CODEBOOK, CARD, CHANGELOG = "manifest.json", "codebook.json", "README.md", "CHANGELOG.md"
PERSONAS, ANNOTATIONS, EMBEDDINGS, PARQUET = "personas", "annotations", "embeddings", "train-00000-of-00001.parquet"
VERSION = hub.VERSION
FACTS = ("n_words", "quality_flags", "source", "generator")
"""Columns of the personas that the card counts."""
COUNTED = ("persona_id", "trait", "levels", "probs", "method", "annotator", "evidence")
"""Columns of the annotations that it counts."""
ROW_GROUP = 2 * 2**20
"""Bytes of a parquet row group, about: what has to be read for one row, and what a viewer fetches."""
FEWEST_ROWS = 1_000
BLOCK = 2**16
"""Rows of a block in the side store."""
MANY = 2**20
"""Rows of which some columns are in memory at once."""
HALF = 16
"""Bits of a float16."""
REMEMBERED = 8 * 2**20
"""Files from this size on (bytes) are hashed once and then trusted while size, time and inode stay the same."""


class Rows:
    """The rows of one config: a table in memory, or parquet files of which only what is asked for is read."""

    def __init__(
        self,
        table: pa.Table | None = None,
        *,
        count: int = 0,
        files: Callable[[], Sequence[Path]] = list,
        key: str = "",
        large: bool = False,
        mapped: bool = False,
    ) -> None:
        """Not for users.

        Args:
            table: All rows.
            count: Number of rows in the files.
            files: Gives the parquet files, if there is no table.
            key: Digest of the files' content.
            large: Whether it is worth keeping in the side store what is worked out from the files.
            mapped: Whether the rows themselves are kept there as well, to be read one by one.
        """
        self._table, self._count, self._paths = table, count, files
        self.key, self.large, self._mapped = key, large, mapped and large
        self._columns: dict[str, pa.ChunkedArray] = {}
        self._last: tuple[int, pa.RecordBatch] | None = None

    def __len__(self) -> int:
        return self._count if self._table is None else int(self._table.num_rows)

    @cached_property
    def _files(self) -> list[pq.ParquetFile]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        paths = self._paths()
        try:
            files = [pq.ParquetFile(path) for path in paths]
        except pa.ArrowException as error:
            raise DataError(f"{paths[0].parent} cannot be read as parquet: {error}") from error
        if (there := sum(file.metadata.num_rows for file in files)) != self._count:
            told = f"{there} rows, which are not those of its manifest: get a fresh copy, of {self._count} rows"
            raise IntegrityError(f"{paths[0].parent} holds {told}")
        return files

    @property
    def _there(self) -> pa.Table | None:
        """The table in memory or in the side store; None if only the files are at hand."""
        if self._mapped:
            kept = sidestore.part(f"rows-{self.key}", lambda: {"rows": self._reader()})
            self._mapped, self._table = False, kept["rows"] if kept else None
        return self._table

    def _reader(self) -> pa.RecordBatchReader:
        import pyarrow as pa

        schema = _as_made(self._files[0].schema_arrow)
        batches = (batch.cast(schema) for batch in self.batches(schema.names, size=BLOCK))
        return pa.RecordBatchReader.from_batches(schema, batches)

    def write(self, path: Path) -> None:
        """Write the rows as one parquet file; one that is on the disk already is copied as it is."""
        path.parent.mkdir(parents=True)
        paths = self._paths()
        if len(paths) == 1:
            shutil.copyfile(paths[0], path)
        else:
            _write_parquet(self.table, path)

    @property
    def table(self) -> pa.Table:
        """All of it."""
        if self._there is None:
            self._table = self._read(None)
            self._columns = {}
        return self._table

    def column(self, name: str) -> pa.ChunkedArray:
        """One column; the others are not read."""
        if self._there is not None:
            _check_columns(self._there, [name])
            return self._there[name]
        if name not in self._columns:
            self._columns[name] = self._read([name])[name]
        return self._columns[name]

    def columns(self, names: Sequence[str]) -> pa.Table:
        """Some columns; the others are not read, and of files nothing is kept."""
        return self._read(list(names)) if self._there is None else self._there.select(names)

    @property
    def names(self) -> list[str]:
        """Names of the columns."""
        return list(self.schema.names)

    @property
    def schema(self) -> pa.Schema:
        """Names and types of the columns."""
        return _as_made(self._files[0].schema_arrow) if self._table is None else self._table.schema

    def batches(self, names: Sequence[str], *, size: int = FEWEST_ROWS) -> Iterator[pa.RecordBatch]:
        """Some columns, part by part; nothing is kept."""
        if self._table is not None:
            yield from self._table.select(names).to_batches(max_chunksize=size)
            return
        for file in self._files:
            yield from file.iter_batches(size, columns=list(names))

    def row(self, at: int) -> dict[str, Any]:
        """One row."""
        return dict(self.take([at]).to_pylist()[0])

    def take(self, at: Sequence[int] | NDArray[np.int64], names: Sequence[str] | None = None) -> pa.Table:
        """Some rows in this order, and of them some columns; of large files, only their row groups are read."""
        import pyarrow as pa

        if self._there is None and not self.large:
            self._table = self._read(None)
        # Block by block: pyarrow joins a whole column of many chunks to take a hundred rows of it.
        at, (starts, load) = np.asarray(at, dtype=np.int64), self._blocks
        block = np.searchsorted(starts, at, side="right") - 1
        order = np.argsort(block, kind="stable")
        cuts = np.flatnonzero(np.diff(block[order])) + 1
        found = []
        for places in np.split(order, cuts) if len(at) else ():
            number = int(block[places[0]])
            whole = load(number) if names is None else load(number).select(names)
            found.append(whole.take(pa.array(at[places] - starts[number])))
        schema = self.schema if names is None else pa.schema([self.schema.field(name) for name in names])
        table = pa.Table.from_batches(found, schema)
        return table if (np.diff(order) > 0).all() else table.combine_chunks().take(np.argsort(order))

    @cached_property
    def _blocks(self) -> tuple[NDArray[np.int64], Callable[[int], pa.RecordBatch]]:
        """First row of each block, and what gives a block: a chunk of the table, or a row group of a file."""
        if self._there is not None:
            batches = self._there.to_batches()
            counts, block = [batch.num_rows for batch in batches], batches.__getitem__
        else:
            counts, block = [file.metadata.row_group(n).num_rows for file, n in self._groups], self._row_group
        return np.cumsum([0, *counts[:-1]], dtype=np.int64), block

    @cached_property
    def _groups(self) -> list[tuple[pq.ParquetFile, int]]:
        return [(file, number) for file in self._files for number in range(file.num_row_groups)]

    def _row_group(self, number: int) -> pa.RecordBatch:
        if self._last is None or self._last[0] != number:
            file, group = self._groups[number]
            table = file.read_row_group(group).cast(self.schema).combine_chunks()
            self._last = number, table.to_batches()[0]
        return self._last[1]

    def _read(self, columns: list[str] | None) -> pa.Table:
        import pyarrow as pa

        try:
            table = pa.concat_tables(file.read(columns) for file in self._files)
        except pa.ArrowException as error:
            raise DataError(f"the parquet files of this collection cannot be read: {error}") from error
        _check_columns(table, columns or [])
        return table.cast(_as_made(table.schema)).select(columns or table.column_names)


def _check_columns(table: pa.Table, names: Sequence[str]) -> None:
    if missing := [name for name in names if name not in table.column_names]:
        raise DataError(f"the parquet files of this collection have no column {missing[0]!r}: get a fresh copy")


@dataclass(frozen=True, kw_only=True, eq=False)
class Embedding:
    """Passage vectors of one encoder, ordered as the personas and then by passage."""

    card: EncoderCard
    rows: Rows
    """persona_id, passage, start, end, vector."""
    index_file: Callable[[], Path | None] = lambda: None
    """Gives the FAISS file of the same vectors that the manifest vouches for, if there is one."""
    index_facts: Mapping[str, Any] = field(default_factory=dict)
    """What the manifest tells of that file."""

    @cached_property
    def _kept(self) -> Mapping[str, Any] | None:
        return sidestore.part(f"vectors-{self.rows.key}", self._contents) if self.rows.large else None

    def _contents(self) -> dict[str, sidestore.Content]:
        return {"vectors": self._chunks(), "spans": self._spans(None)}

    def _chunks(self) -> sidestore.Chunks:
        parts = (self._shaped(batch["vector"]) for batch in self.rows.batches(["vector"], size=BLOCK))
        half = self.rows.schema.field("vector").type.value_type.bit_width == HALF
        return sidestore.Chunks((len(self.rows), self.card.dimension), np.float16 if half else np.float32, parts)

    def _shaped(self, column: pa.Array) -> NDArray[Any]:
        return np.asarray(column.flatten().to_numpy(zero_copy_only=False)).reshape(-1, self.card.dimension)

    @property
    def vectors(self) -> NDArray[Any]:
        """The vectors, float32 or float16, shape (passages, dimension); of a large release they stay on the disk."""
        if self._kept is not None:
            return cast("NDArray[Any]", self._kept["vectors"])
        return self._chunks().whole()

    def spans(self, at: NDArray[np.int64]) -> NDArray[np.int32]:
        """Where passages start and end in their backstories, in characters, shape (passages, 2)."""
        return np.asarray(self._kept["spans"][at] if self._kept is not None else self._spans(at))

    def _spans(self, at: NDArray[np.int64] | None) -> NDArray[np.int32]:
        columns = [self.rows.column(name) for name in ("start", "end")]
        return np.stack([(c if at is None else c.take(at)).combine_chunks().to_numpy() for c in columns], axis=1)

    @cached_property
    def index(self) -> Index:
        """The searchable index."""
        # Of a flat index the manifest tells the factory alone.
        facts = IndexFacts.from_dict(dict(self.index_facts)) if "rows" in self.index_facts else None
        return Index(self.vectors, file=self.index_file(), facts=facts)

    def write_index(self, folder: Path) -> tuple[Path, Mapping[str, Any]]:
        """Write the FAISS file and return it with what a manifest tells of it; one that is there is copied as it is."""
        folder.mkdir(parents=True)
        if there := self.index_file():
            shutil.copyfile(there, folder / there.name)
            return folder / there.name, self.index_facts
        built = Index.build(self.vectors)
        file = folder / ("flat.faiss" if built.facts.factory == "Flat" else "lists.faiss")
        built.write(file)
        facts = built.facts.to_dict()
        # A flat index is the vectors themselves: there is nothing more to tell of it.
        return file, facts if built.facts.lists else {name: facts[name] for name in ("factory", "faiss")}


@dataclass(frozen=True, kw_only=True, eq=False)
class Release:
    """Everything that a version of a collection holds."""

    name: str
    version: str
    licence: str
    codebook: Codebook
    personas: Rows
    annotations: Rows
    embeddings: Mapping[str, Embedding] = field(default_factory=dict)
    digest: str = ""
    """SHA-256 of the manifest; empty before the first save."""
    source: str = ""
    """Where it was read from: a folder, or `hf://namespace/name@commit`."""
    text: CardText = CardText()
    """What the card says beside what is counted."""
    changelog: Callable[[], str] = str
    """Gives the content of CHANGELOG.md."""
    download: Callable[[], object] = list
    """Brings all files to the disk."""
    ids_digest: str = ""

    def check_ids(self) -> None:
        """Check that the persona ids are those of the manifest; of a large release, once for each machine.

        Raises:
            IntegrityError: If they are not.
        """
        _ = self._levels if self.personas.large else self.ids

    @cached_property
    def ids(self) -> list[str]:
        """Persona ids in order."""
        ids = cast("list[str]", self.personas.column("persona_id").to_pylist())
        if self.ids_digest and (digest(ids), len(ids)) != (self.ids_digest, len(self.personas)):
            raise IntegrityError(f"the persona ids of {self.source} are not those of its manifest: get a fresh copy")
        return ids

    def ids_of(self, chosen: Selection) -> pa.Array:
        """Persona ids of a selection."""
        self.check_ids()
        if chosen.is_all:
            return self.personas.column("persona_id").combine_chunks()
        return self.personas.take(chosen.rows, ["persona_id"])["persona_id"].combine_chunks()

    @cached_property
    def row_of(self) -> dict[str, int]:
        """Position of each persona id."""
        return {persona_id: row for row, persona_id in enumerate(self.ids)}

    @cached_property
    def _made(self) -> dict[str, Mapping[str, NDArray[Any]]]:
        # A cache of its own: it goes when the last view goes.
        return {}

    def _part(self, kind: str, make: Callable[[], Mapping[str, NDArray[Any]]], *of: Rows) -> Mapping[str, NDArray[Any]]:
        """What is worked out from the codebook, the ids and some rows: in the side store if the last are large."""
        if kind not in self._made:
            known = [self.ids_digest, [(t.name, t.levels) for t in self.codebook.traits], *(rows.key for rows in of)]
            kept = sidestore.part(f"{kind}-{digest(known)[:32]}", make) if all(known) and of[-1].large else None
            self._made[kind] = make() if kept is None else kept
        return self._made[kind]

    def having(self, wanted: Mapping[str, Sequence[int]], *, min_prob: float | None = None) -> NDArray[np.uint64]:
        """Which personas have one of some levels of each trait, as packed bits: by trait columns, or by probability.

        Args:
            wanted: Trait -> positions of levels, each once; at least one trait.
            min_prob: What the sum of the probabilities of the levels must reach; `bitmaps.reaching` says how exactly.
        """
        places = [self._first_level(trait) + np.asarray(levels) for trait, levels in wanted.items()]
        if min_prob is None:
            return reduce(and_, (np.bitwise_or.reduce(self._levels["bits"][at]) for at in places))

        def exact(rows: NDArray[np.int64]) -> NDArray[np.float32]:
            sums = [sum(self.probs(trait)[rows, level] for level in levels) for trait, levels in wanted.items()]
            return np.array(sums, dtype=np.float32)

        return reaching([self._annotated["steps"][at] for at in places], exact, min_prob)

    def _first_level(self, trait: str) -> int:
        """Position of the first level of a trait among the levels of all traits."""
        names = [known.name for known in self.codebook.traits]
        return sum(len(known.levels) for known in self.codebook.traits[: names.index(self.codebook.trait(trait).name)])

    def probs(self, trait: str) -> NDArray[np.float32]:
        """Probabilities, shape (personas, levels), read only; NaN rows where there is no annotation."""
        first = self._first_level(trait)
        return cast("NDArray[np.float32]", self._annotated[f"probs{first}"])

    def owners(self, config: str) -> NDArray[np.int64]:
        """Position of the persona of each row of the annotations or of `embeddings/<encoder>`.

        Raises:
            DataError: If a row is of nobody here.
        """
        rows = self.annotations if config == ANNOTATIONS else self.embeddings[Path(config).name].rows
        kind = config.replace("/", "-")
        return self._part(kind, lambda: {"owners": self._owners(rows, config)}, self.personas, rows)["owners"]

    def _owners(self, rows: Rows, config: str) -> NDArray[np.int64]:
        self.check_ids()
        ids = self.personas.column("persona_id").combine_chunks()
        batches = rows.batches(["persona_id"], size=MANY)
        found = [positions(batch["persona_id"], ids, np.int64) for batch in batches]
        owners = np.concatenate([np.zeros(0, dtype=np.int64), *found])
        if (owners == MISSING).any():
            strange = rows.row(int(np.argmax(owners == MISSING)))["persona_id"]
            raise DataError(
                f"{config} has a row of the persona {strange}, which the collection does not hold: leave out"
            )
        return owners

    @property
    def _levels(self) -> Mapping[str, NDArray[Any]]:
        """`bits`: which personas have each level in the trait columns, packed, shape (levels of all traits, words)."""
        return self._part("levels", self._read_levels, self.personas)

    def _read_levels(self) -> dict[str, NDArray[Any]]:
        _ = self.ids  # checks them: who finds this part in the side store relies on it
        bits = [np.zeros((0, -(-len(self.personas) // 64)), dtype=np.uint64)]
        for trait in self.codebook.traits:
            codes = positions(self.personas.column(trait.name), trait.levels)
            bits += [pack(codes == level)[None] for level in range(len(trait.levels))]
        return {"bits": np.concatenate(bits)}

    @property
    def _annotated(self) -> Mapping[str, NDArray[Any]]:
        """`probs` of each trait by the position of its first level, and `steps`: all of them rounded, by level."""
        return self._part("probs", self._read_probs, self.personas, self.annotations)

    def _read_probs(self) -> dict[str, NDArray[Any]]:
        owners, at = self.owners(ANNOTATIONS), 0
        tables = {
            trait.name: np.full((len(self.personas), len(trait.levels)), np.nan, dtype=np.float32)
            for trait in self.codebook.traits
        }
        for batch in self.annotations.batches(["trait", "levels", "probs"], size=MANY):
            _fill(tables, batch, owners[at : at + len(batch)], self.codebook)
            at += len(batch)
        steps = [np.zeros((0, len(self.personas)), dtype=np.uint8), *map(rounded, tables.values())]
        return {"steps": np.concatenate(steps), **{f"probs{self._first_level(n)}": t for n, t in tables.items()}}


def _fill(
    tables: Mapping[str, NDArray[np.float32]], batch: pa.RecordBatch, owners: NDArray[np.int64], codebook: Codebook
) -> None:
    """Put the probabilities of some annotations in their places."""
    import pyarrow.compute as pc

    for name, table in tables.items():
        rows = np.flatnonzero(pc.equal(batch["trait"], name).to_numpy(zero_copy_only=False))
        levels, probs = (batch[column].take(rows) for column in ("levels", "probs"))
        places = positions(levels.flatten(), codebook.trait(name).levels)
        if (places == MISSING).any():
            strange = levels.flatten()[int(np.argmax(places == MISSING))]
            raise DataError(
                f"an annotation has the level {strange} of {name}, which the codebook does not: get a fresh copy"
            )
        table[owners[rows]] = 0
        counts = pc.list_value_length(levels).to_numpy()
        table[np.repeat(owners[rows], counts), places] = probs.flatten().to_numpy()


def positions(
    column: pa.ChunkedArray | pa.Array, values: Sequence[str] | pa.Array, kind: type = np.int16
) -> NDArray[Any]:
    """Return where in `values` each entry is; MISSING where nowhere."""
    import pyarrow as pa
    import pyarrow.compute as pc

    known = values if isinstance(values, pa.Array) else pa.array(values, pa.string())
    filled = pc.fill_null(pc.index_in(column, value_set=known), MISSING)
    # Through an array: a chunked one would load pandas.
    flat = filled.combine_chunks() if isinstance(filled, pa.ChunkedArray) else filled
    return np.asarray(flat.to_numpy(), dtype=kind)


# -- reading ---------------------------------------------------------------------------------------------------------


def read_release(snapshot: hub.Snapshot) -> Release:
    """Open a release; of a repository only what is needed is fetched, and when it is needed.

    Raises:
        DataError: If it is no collection, or of another schema.
        IntegrityError: If a file differs from what the manifest says.
    """
    folder = snapshot.folder
    if snapshot.repo or (folder / MANIFEST).is_file():
        folder = snapshot.fetch(MANIFEST)
    if not (folder / MANIFEST).is_file():
        raise DataError(f"{snapshot.source} is no collection: it has no {MANIFEST}; give what Anthology.save wrote")
    manifest = read_json(folder / MANIFEST)
    if str(manifest.get("schema_version", "")).split(".")[0] != SCHEMA_VERSION.split(".")[0]:
        version = manifest.get("schema_version")
        raise DataError(f"{folder} has schema version {version!r}, this package reads {SCHEMA_VERSION}: update one")
    files = _Files(snapshot, manifest)
    try:
        if not snapshot.repo:
            files.paths(*{**manifest["files"], **{index["file"]: 0 for index in manifest["indexes"].values()}})
        release = Release(
            name=manifest["name"],
            version=manifest["release"],
            licence=manifest["licence"],
            codebook=Codebook.from_dict(read_json(files.paths(CODEBOOK)[0])),
            personas=files.rows(PERSONAS),
            annotations=files.rows(ANNOTATIONS),
            embeddings={slug: _embedding(files, slug) for slug in manifest["embeddings"]},
            digest=hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest(),
            source=snapshot.source,
            text=CardText.from_dict(manifest.get("card", {})),
            download=lambda: files.paths(*manifest["files"]),
            changelog=lambda: _text(files.paths(CHANGELOG)[0]) if CHANGELOG in manifest["files"] else "",
            ids_digest=str(manifest.get("persona_ids_sha256")),
        )
        if strange := [name for name in ("name", "release", "licence") if not isinstance(manifest[name], str)]:
            raise TypeError(f"{strange[0]} must be a text, got {manifest[strange[0]]!r}")
    except AnthologyError:
        raise
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        why = f"{type(error).__name__}: {error}"
        raise DataError(f"{folder} cannot be read as a collection: {why}; get a fresh copy") from error
    if not snapshot.repo:
        release.check_ids()
    return release


def _embedding(files: _Files, slug: str) -> Embedding:
    index = files.manifest.get("indexes", {}).get(slug)
    return Embedding(
        card=EncoderCard(**files.manifest["embeddings"][slug]),
        rows=files.rows(f"{EMBEDDINGS}/{slug}"),
        index_file=lambda: files.paths(index["file"])[0] if index else None,
        index_facts={name: told for name, told in index.items() if name != "file"} if index else {},
    )


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@dataclass(frozen=True)
class _Files:
    """The files of a release, fetched and checked against the manifest when they are asked for."""

    snapshot: hub.Snapshot
    manifest: Mapping[str, Any]

    def rows(self, config: str) -> Rows:
        names = sorted(n for n in self.manifest["files"] if n.startswith(f"{config}/") and n.endswith(".parquet"))
        if not names:
            raise IntegrityError(f"the manifest of {self.snapshot.source} lists no {config}: get a fresh copy")
        records = [self.manifest["files"][name] for name in names]
        return Rows(
            count=int(self.manifest["rows"][config.replace("/", "-")]),
            files=lambda: self.paths(*names),
            key=digest([record["sha256"] for record in records])[:32],
            large=sum(record["size"] for record in records) >= sidestore.LARGE,
            mapped=config == PERSONAS,
        )

    def paths(self, *names: str) -> list[Path]:
        """Return the paths of files after checking them.

        Raises:
            IntegrityError: If one is missing or differs.
        """
        if strange := [name for name in names if name not in self.manifest["files"]]:
            raise IntegrityError(
                f"the manifest of {self.snapshot.source} does not list {strange[0]}: the collection is incomplete or "
                f"altered, get a fresh copy"
            )
        folder = self.snapshot.fetch(*names)
        with _remembered(folder) as known:
            return [self._checked(folder / name, self.manifest["files"][name], known) for name in names]

    def _checked(self, path: Path, record: Mapping[str, Any], known: dict[str, list[Any]]) -> Path:
        if not path.is_file():
            raise IntegrityError(f"{path} is missing: the manifest lists it, get a fresh copy")
        stat = path.stat()
        seal = [record["sha256"], stat.st_size, stat.st_mtime_ns, stat.st_ino]
        if known.get(path.name + record["sha256"]) == seal:
            return path
        if _file_record(path) != record:
            raise IntegrityError(f"{path} is not the file of the manifest (sha256 differs): get a fresh copy")
        if stat.st_size >= REMEMBERED:
            known[path.name + record["sha256"]] = seal
        return path


@contextmanager
def _remembered(folder: Path) -> Iterator[dict[str, list[Any]]]:
    """The large files of a folder that were hashed before; what is added is kept."""
    place = cache_dir() / "verified" / f"{digest(str(folder.resolve()))[:32]}.json"
    try:
        known = json.loads(_text(place)) if place.is_file() else {}
    except ValueError:
        known = {}
    before = dict(known)
    yield known
    if known != before:
        # A cache that cannot be written costs the hashing the next time, and nothing else.
        with suppress(OSError):
            hub.write_file(place, json.dumps(known).encode())


def _as_made(schema: pa.Schema) -> pa.Schema:
    """Parquet calls the entries of a list `element`, Arrow `item`: with one name, saving again gives the same bytes."""
    import pyarrow as pa

    return pa.schema([(column.name, _item(column.type)) for column in schema])


def _item(kind: pa.DataType) -> pa.DataType:
    import pyarrow as pa

    if pa.types.is_fixed_size_list(kind):
        return pa.list_(kind.value_type, kind.list_size)
    return pa.list_(kind.value_type) if pa.types.is_list(kind) else kind


def _file_record(path: Path) -> dict[str, Any]:
    with path.open("rb") as stream:
        return {"sha256": hashlib.file_digest(stream, "sha256").hexdigest(), "size": path.stat().st_size}


# -- writing ---------------------------------------------------------------------------------------------------------


def save_release(release: Release, folder: str | Path) -> Path:
    """Write a release folder: whole or not at all; an old release there is replaced only by a complete new one.

    Raises:
        OptionError: If the folder holds something else, or the version is none.
    """
    target = Path(os.path.abspath(folder))  # `.` and `..` have no name to be replaced under
    if target.exists() and not target.is_dir():
        raise OptionError(f"{target} is a file: give a new folder")
    if strange := _strange(target):
        raise OptionError(f"{target} holds what is no part of a collection, such as {strange}: give a new folder")
    if not VERSION.fullmatch(release.version):
        raise OptionError(f"the release must be 'major.minor.patch' as '1.0.0', got {release.version!r}")
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-"))
    try:
        _write(release, work)
        work.chmod(0o755)
        _swap(work, target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target


def validate(release: Release, *, smallest_cell: int = SMALLEST_CELL) -> None:
    """Check what a manifest cannot vouch for, before others rely on it.

    Args:
        release: What is to be published.
        smallest_cell: Refuse population shares that stand for fewer people of a study than this (0 of them is fine).

    Raises:
        DataError: If an id is not the hash of its text, an annotation or a vector is of nobody, or the population
            shares of a trait come from so few people that they may be recognised.
    """
    for batch in release.personas.batches(["persona_id", "backstory"]):
        for persona_id, text in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            if Persona.id_of(text) != persona_id:
                raise DataError(f"the persona {persona_id} has another text than its id says: make the collection anew")
    for config in (ANNOTATIONS, *(f"{EMBEDDINGS}/{slug}" for slug in release.embeddings)):
        release.owners(config)
    for trait in release.codebook.traits:
        counts = {level: round(share * release.codebook.population_sample)
                  for level, share in zip(trait.levels, trait.population, strict=False)}  # fmt: skip
        if small := [f"{level} ({count})" for level, count in counts.items() if 0 < count < smallest_cell]:
            raise DataError(
                f"the population shares of {trait.name} stand for fewer than {smallest_cell} people of the study in "
                f"{', '.join(small)}, which may tell on them: merge levels, or lower smallest_cell"
            )


def _write(release: Release, folder: Path) -> None:
    release.personas.write(folder / PERSONAS / PARQUET)
    release.annotations.write(folder / ANNOTATIONS / PARQUET)
    rows = {PERSONAS: len(release.personas), ANNOTATIONS: len(release.annotations)}
    indexes = {}
    for slug, embedding in release.embeddings.items():
        embedding.rows.write(folder / EMBEDDINGS / slug / PARQUET)
        rows[f"embeddings-{slug}"] = len(embedding.rows)
        file, facts = embedding.write_index(folder / "index" / slug)
        indexes[slug] = {"file": file.relative_to(folder).as_posix(), **facts}
    _write_json(folder / CODEBOOK, release.codebook.to_dict())
    _write_text(folder / CARD, _card(release))
    if changelog := release.changelog():
        _write_text(folder / CHANGELOG, changelog)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "name": release.name,
        "release": release.version,
        "licence": release.licence,
        "card": release.text.to_dict(),
        "rows": rows,
        "persona_ids_sha256": digest(release.ids),
        "embeddings": {slug: embedding.card.to_dict() for slug, embedding in release.embeddings.items()},
        "indexes": indexes,
        "files": {path.relative_to(folder).as_posix(): _file_record(path) for path in files},
    }
    _write_json(folder / MANIFEST, manifest)


def _strange(target: Path) -> str:
    """Name something in a folder that is not of a collection saved there; empty if there is nothing."""
    there = [path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()]
    known = {MANIFEST, *read_json(target / MANIFEST).get("files", ())} if (target / MANIFEST).is_file() else set()
    return next((name for name in sorted(there) if name not in known), "")


def _write_parquet(table: pa.Table, path: Path) -> None:
    import pyarrow.parquet as pq

    pq.write_table(
        table.replace_schema_metadata(None),
        path,
        compression="zstd",
        write_page_index=True,
        use_content_defined_chunking=True,
        row_group_size=max(FEWEST_ROWS, ROW_GROUP * table.num_rows // max(1, table.nbytes)),
    )


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    _write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def _write_text(path: Path, text: str) -> None:
    # The same bytes on every system: the manifest holds their digest.
    path.write_text(text, encoding="utf-8", newline="\n")


def _swap(work: Path, target: Path) -> None:
    """Put a finished folder in place; an old one is moved aside first and removed last."""
    if not target.exists():
        os.replace(work, target)
        return
    old = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-old-"))
    os.replace(target, old / "old")
    try:
        os.replace(work, target)
    except BaseException:
        os.replace(old / "old", target)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def _card(release: Release) -> str:
    facts = collection_facts(
        release.personas.columns(FACTS),
        release.annotations.columns(COUNTED),
        name=release.name,
        release=release.version,
        licence=release.licence,
        codebook=release.codebook,
        encoders={slug: embedding.card for slug, embedding in release.embeddings.items()},
        text=release.text,
    )
    return collection_card(facts)
