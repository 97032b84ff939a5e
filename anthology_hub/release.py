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
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from anthology_hub import hub
from anthology_hub.cards import CardText, collection_card, collection_facts
from anthology_hub.encoding import EncoderCard
from anthology_hub.errors import AnthologyError, DataError, IntegrityError, OptionError
from anthology_hub.index import Index
from anthology_hub.schema import MISSING, SCHEMA_VERSION, SMALLEST_CELL, Codebook, Persona, digest, read_json
from anthology_hub.weights import cache_dir

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from numpy.typing import NDArray

MANIFEST, CODEBOOK, CARD, CHANGELOG = "manifest.json", "codebook.json", "README.md", "CHANGELOG.md"
PERSONAS, ANNOTATIONS, PARQUET = "personas", "annotations", "train-00000-of-00001.parquet"
VERSION = hub.VERSION
FACTS = ("n_words", "quality_flags", "source", "generator")
"""Columns of the personas that the card counts."""
ROW_GROUP = 2 * 2**20
"""Bytes of a parquet row group, about: what has to be read for one row, and what a viewer fetches."""
FEWEST_ROWS = 1_000
REMEMBERED = 8 * 2**20
"""Files from this size on (bytes) are hashed once and then trusted while size, time and inode stay the same."""


class Rows:
    """The rows of one config: a table in memory, or parquet files of which only what is asked for is read."""

    def __init__(
        self, table: pa.Table | None = None, *, count: int = 0, files: Callable[[], Sequence[Path]] = list
    ) -> None:
        self._table, self._count, self._paths = table, count, files
        self._columns: dict[str, pa.ChunkedArray] = {}
        self._group: tuple[int, pa.Table] | None = None

    def __len__(self) -> int:
        return self._count if self._table is None else int(self._table.num_rows)

    @cached_property
    def _files(self) -> list[pq.ParquetFile]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        paths = self._paths()
        try:
            return [pq.ParquetFile(path) for path in paths]
        except pa.ArrowException as error:
            raise DataError(f"{paths[0].parent} cannot be read as parquet: {error}") from error

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
        if self._table is None:
            self._table = self._read(None)
            self._columns, self._group = {}, None
        return self._table

    def column(self, name: str) -> pa.ChunkedArray:
        """One column; the others are not read."""
        if self._table is not None:
            return self._table[name]
        if name not in self._columns:
            self._columns[name] = self._read([name])[name]
        return self._columns[name]

    def columns(self, names: Sequence[str]) -> pa.Table:
        """Some columns; the others are not read."""
        import pyarrow as pa

        return pa.table({name: self.column(name) for name in names})

    @property
    def names(self) -> list[str]:
        """Names of the columns."""
        return list(self._files[0].schema_arrow.names if self._table is None else self._table.column_names)

    def batches(self, names: list[str]) -> Iterator[pa.RecordBatch]:
        """Some columns, part by part; nothing is kept."""
        if self._table is not None:
            yield from self._table.select(names).to_batches(max_chunksize=FEWEST_ROWS)
            return
        for file in self._files:
            yield from file.iter_batches(FEWEST_ROWS, columns=names)

    def where(self, column: str, value: str) -> list[dict[str, Any]]:
        """The rows with a value in a column; of files, only their row groups are read."""
        import pyarrow.compute as pc

        found = pc.indices_nonzero(pc.equal(self.column(column), value))
        return [self.row(at) for at in found.to_pylist()]

    def row(self, at: int) -> dict[str, Any]:
        """One row; of files, only its row group is read."""
        if self._table is None and at not in self._loaded:
            self._load_group(at)
        start, rows = (0, self._table) if self._group is None else self._group
        return dict(rows.slice(at - start, 1).to_pylist()[0])  # type: ignore[union-attr]

    @property
    def _loaded(self) -> range:
        return range(0) if self._group is None else range(self._group[0], self._group[0] + self._group[1].num_rows)

    def _load_group(self, at: int) -> None:
        start = 0
        for file in self._files:
            for number in range(file.num_row_groups):
                size = file.metadata.row_group(number).num_rows
                if start <= at < start + size:
                    self._group = start, file.read_row_group(number)
                    return
                start += size
        raise IndexError(at)

    def _read(self, columns: list[str] | None) -> pa.Table:
        import pyarrow as pa

        try:
            table = pa.concat_tables(file.read(columns) for file in self._files)
        except pa.ArrowException as error:
            raise DataError(f"the parquet files of this collection cannot be read: {error}") from error
        if columns and table.column_names != columns:
            raise DataError(f"the parquet files of this collection have no column {columns[0]!r}: get a fresh copy")
        return table.cast(pa.schema([(column.name, _as_made(column.type)) for column in table.schema]))


@dataclass(frozen=True, kw_only=True, eq=False)
class Embedding:
    """Passage vectors of one encoder, ordered as the personas and then by passage."""

    card: EncoderCard
    rows: Rows
    """persona_id, passage, start, end, vector."""
    index_file: Callable[[], Path | None] = lambda: None
    """Gives the FAISS file of the same vectors that the manifest vouches for, if there is one."""
    index_faiss: str = ""
    """Version of faiss that wrote that file."""

    @property
    def vectors(self) -> NDArray[np.float32]:
        """The vectors, shape (passages, dimension)."""
        column = self.rows.column("vector").combine_chunks()
        flat = column.flatten().to_numpy(zero_copy_only=False)
        return np.asarray(flat, dtype=np.float32).reshape(-1, self.card.dimension)

    @cached_property
    def index(self) -> Index:
        """The searchable index."""
        return Index(self.vectors, file=self.index_file())

    def write_index(self, path: Path) -> None:
        """Write the FAISS file; one that is on the disk already is copied as it is."""
        if there := self.index_file():
            shutil.copyfile(there, path)
        else:
            self.index.write(path)


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

    @cached_property
    def ids(self) -> list[str]:
        """Persona ids in order."""
        ids = cast("list[str]", self.personas.column("persona_id").to_pylist())
        if self.ids_digest and (digest(ids), len(ids)) != (self.ids_digest, len(self.personas)):
            raise IntegrityError(f"the persona ids of {self.source} are not those of its manifest: get a fresh copy")
        return ids

    @cached_property
    def row_of(self) -> dict[str, int]:
        """Position of each persona id."""
        return {persona_id: row for row, persona_id in enumerate(self.ids)}

    @cached_property
    def _made(self) -> dict[tuple[str, str], Any]:
        # A cache of its own: it goes when the last view goes.
        return {}

    def probs(self, trait: str) -> NDArray[np.float32]:
        """Probabilities, shape (personas, levels); NaN rows where there is no annotation."""
        if ("probs", trait) not in self._made:
            self._made["probs", trait] = self._read_probs(trait)
        return cast("NDArray[np.float32]", self._made["probs", trait])

    def codes(self, trait: str) -> NDArray[np.int16]:
        """Position of the level in the trait column, MISSING where it is null."""
        if ("codes", trait) not in self._made:
            self._made["codes", trait] = positions(self.personas.column(trait), self.codebook.trait(trait).levels)
        return cast("NDArray[np.int16]", self._made["codes", trait])

    def owners(self, slug: str) -> NDArray[np.int64]:
        """Position of the persona of each passage."""
        if ("owners", slug) not in self._made:
            self._made["owners", slug] = positions(self.embeddings[slug].rows.column("persona_id"), self.ids, np.int64)
        return cast("NDArray[np.int64]", self._made["owners", slug])

    def _read_probs(self, trait: str) -> NDArray[np.float32]:
        import pyarrow.compute as pc

        rows = self.annotations.columns(["persona_id", "trait", "levels", "probs"])
        found = rows.filter(pc.field("trait") == trait)
        owners = positions(found["persona_id"], self.ids, np.int64)
        levels = positions(pc.list_flatten(found["levels"]), self.codebook.trait(trait).levels)
        table = np.full((len(self.ids), len(self.codebook.trait(trait).levels)), np.nan, dtype=np.float32)
        table[owners] = 0
        counts = pc.list_value_length(found["levels"].combine_chunks()).to_numpy()
        table[np.repeat(owners, counts), levels] = pc.list_flatten(found["probs"].combine_chunks()).to_numpy()
        return table


def positions(column: pa.ChunkedArray, values: Sequence[str], kind: type = np.int16) -> NDArray[Any]:
    """Return where in `values` each entry is; MISSING where nowhere."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found = pc.index_in(column, value_set=pa.array(values, pa.string()))
    filled = pc.fill_null(found, MISSING)
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
        _ = release.ids
    return release


def _embedding(files: _Files, slug: str) -> Embedding:
    index = files.manifest.get("indexes", {}).get(slug)
    return Embedding(
        card=EncoderCard(**files.manifest["embeddings"][slug]),
        rows=files.rows(f"embeddings/{slug}"),
        index_file=lambda: files.paths(index["file"])[0] if index else None,
        index_faiss=str(index.get("faiss", "")) if index else "",
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
        count = int(self.manifest["rows"][config.replace("embeddings/", "embeddings-")])
        return Rows(count=count, files=lambda: self.paths(*names))

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


def _as_made(kind: pa.DataType) -> pa.DataType:
    """Parquet calls the entries of a list `element`, Arrow `item`: with one name, saving again gives the same bytes."""
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
    parts = {ANNOTATIONS: release.annotations, **{f"embeddings-{s}": e.rows for s, e in release.embeddings.items()}}
    for name, rows in parts.items():
        owners = positions(rows.column("persona_id"), release.ids, np.int64)
        if (owners == MISSING).any():
            strange = rows.column("persona_id")[int(np.argmax(owners == MISSING))]
            raise DataError(f"{name} has a row of the persona {strange}, which the collection does not hold: leave out")
    for trait in release.codebook.traits:
        counts = {level: round(share * release.codebook.population_sample)
                  for level, share in zip(trait.levels, trait.population, strict=False)}  # fmt: skip
        if small := [f"{level} ({count})" for level, count in counts.items() if 0 < count < smallest_cell]:
            raise DataError(
                f"the population shares of {trait.name} stand for fewer than {smallest_cell} people of the study in "
                f"{', '.join(small)}, which may tell on them: merge levels, or lower smallest_cell"
            )


def _write(release: Release, folder: Path) -> None:
    import faiss

    release.personas.write(folder / PERSONAS / PARQUET)
    release.annotations.write(folder / ANNOTATIONS / PARQUET)
    rows = {PERSONAS: len(release.personas), ANNOTATIONS: len(release.annotations)}
    indexes = {}
    for slug, embedding in release.embeddings.items():
        embedding.rows.write(folder / "embeddings" / slug / PARQUET)
        rows[f"embeddings-{slug}"] = len(embedding.rows)
        file = f"index/{slug}/flat.faiss"
        (folder / file).parent.mkdir(parents=True)
        embedding.write_index(folder / file)
        indexes[slug] = {"file": file, "factory": "Flat", "faiss": embedding.index_faiss or faiss.__version__}
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
        release.annotations.table,
        name=release.name,
        release=release.version,
        licence=release.licence,
        codebook=release.codebook,
        encoders={slug: embedding.card for slug, embedding in release.embeddings.items()},
        text=release.text,
    )
    return collection_card(facts)
