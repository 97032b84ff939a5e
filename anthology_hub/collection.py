"""Anthology: a versioned collection of personas; load, where, search, score, sample, save.

On disk a collection is a folder that `datasets.load_dataset`, DuckDB, polars and pandas can read; see `save`. Queries
return an Anthology again, so they chain, and the filter always runs before the search.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from anthology_hub import hub
from anthology_hub.errors import DataError, EmptyError, IntegrityError, OptionError, UnknownNameError
from anthology_hub.index import ENCODER, Encoder, EncoderCard, Index
from anthology_hub.schema import DATA, MISSING, SCHEMA_VERSION, Codebook, Persona, digest, read_json

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset
    from numpy.typing import NDArray

STARTER = "starter"
MANIFEST, CODEBOOK, CARD, CHANGELOG = "manifest.json", "codebook.json", "README.md", "CHANGELOG.md"
PROVENANCE = ("source", "generator", "generator_revision", "prompt_id", "method", "annotator", "annotator_revision")
SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))
"""The Hub's names for numbers of rows."""
CONFIDENCE = 0.5
"""A trait column holds the top level only where its probability is at least this; else it is null."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Embedding:
    """Passage vectors of one encoder, ordered as the personas and then by passage."""

    card: EncoderCard
    table: pa.Table
    """persona_id, passage, start, end, vector."""
    index_file: Path | None = None
    """A FAISS file of the same vectors that the manifest vouches for."""

    @cached_property
    def index(self) -> Index:
        """The searchable index."""
        column = self.table["vector"].combine_chunks()
        flat = column.flatten().to_numpy(zero_copy_only=False)
        return Index(np.asarray(flat, dtype=np.float32).reshape(-1, self.card.dimension), file=self.index_file)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Store:
    """Everything a collection holds; shared by all its views."""

    name: str
    release: str
    licence: str
    codebook: Codebook
    personas: pa.Table
    annotations: pa.Table
    embeddings: Mapping[str, Embedding] = field(default_factory=dict)
    digest: str = ""
    card: str = ""
    """Body of the dataset card, below the YAML."""
    changelog: str = ""

    @cached_property
    def ids(self) -> list[str]:
        return list(self.personas["persona_id"].to_pylist())

    @cached_property
    def row_of(self) -> dict[str, int]:
        return {persona_id: row for row, persona_id in enumerate(self.ids)}

    @cached_property
    def _made(self) -> dict[tuple[str, str], Any]:
        # A cache of the store's own: it goes when the last view goes.
        return {}

    def probs(self, trait: str) -> NDArray[np.float32]:
        """Probabilities, shape (personas, levels); NaN rows where there is no annotation."""
        if ("probs", trait) not in self._made:
            self._made["probs", trait] = self._read_probs(trait)
        return cast("NDArray[np.float32]", self._made["probs", trait])

    def codes(self, trait: str) -> NDArray[np.int16]:
        """Position of the level in the trait column, MISSING where it is null."""
        if ("codes", trait) not in self._made:
            levels = {level: at for at, level in enumerate(self.codebook.trait(trait).levels)}
            codes = [levels.get(level, MISSING) for level in self.personas[trait].to_pylist()]
            self._made["codes", trait] = np.array(codes, dtype=np.int16)
        return cast("NDArray[np.int16]", self._made["codes", trait])

    def _read_probs(self, trait: str) -> NDArray[np.float32]:
        import pyarrow.compute as pc

        levels = self.codebook.trait(trait).levels
        found = self.annotations.filter(pc.field("trait") == trait).select(["persona_id", "levels", "probs"])
        table = np.full((len(self.ids), len(levels)), np.nan, dtype=np.float32)
        for persona_id, named, probs in zip(*(column.to_pylist() for column in found.columns), strict=True):
            table[self.row_of[persona_id]] = 0
            table[self.row_of[persona_id], [levels.index(level) for level in named]] = probs
        return table


class Anthology:
    """A collection of personas, or a view of some of them in some order.

    Example:
        >>> people = Anthology.load("starter")
        >>> found = people.where(region="South", age=["50-64", "65+"]).search("grew up on a farm", k=3)
        >>> len(found), found[0].traits["region"], found[0].score > found[1].score
        (3, 'South', True)
    """

    def __init__(self, store: _Store, rows: NDArray[np.int64], scores: NDArray[np.float64] | None = None) -> None:
        """Not for users: see `load` and `from_records`."""
        self._store, self._rows, self._scores = store, rows, scores
        self._passages: dict[int, tuple[int, int]] = {}
        self.shortfall = 0
        """How many personas a search was asked for beyond those that were left."""

    # -- construction ------------------------------------------------------------------------------------------------

    @classmethod
    def load(cls, source: str | Path = STARTER, *, revision: str | None = None) -> Anthology:
        """Load a collection: `starter` (comes with the package), a folder, or a dataset repository.

        Every file that is read is checked against the manifest.

        Raises:
            DataError: If there is no collection, or its schema is not ours.
            IntegrityError: If a file differs from what the manifest says.
        """
        own = str(source) != STARTER or (Path(source) / MANIFEST).is_file()
        shipped = source if own else DATA / STARTER
        snapshot = hub.pull(shipped, revision=revision)
        return _of(_read_store(snapshot.folder))

    @classmethod
    def from_records(
        cls,
        records: Iterable[Mapping[str, Any]],
        codebook: Codebook,
        *,
        name: str,
        licence: str,
        provenance: Mapping[str, str] | None = None,
    ) -> Anthology:
        """Make a collection of backstories and what is known of their traits.

        Args:
            records: Each with `backstory`, `traits` (trait -> level, or trait -> {level: probability}), and if wanted
                `evidence` (trait -> quote from the backstory) and `key` (its name at the source).
            codebook: The traits and their levels.
            name: Name of the collection.
            licence: SPDX name of the licence.
            provenance: Columns with one value for all personas: source, generator, generator_revision, prompt_id; and
                for annotations: method, annotator, annotator_revision.

        Raises:
            DataError: If a text is empty or doubled, probabilities are none, or a quote is not in its text.
            EmptyError: If there is no record.
            UnknownNameError: If a trait or level is not in the codebook, or a column of provenance does not exist.
        """
        rows = list(records)
        for column in provenance or {}:
            if column not in PROVENANCE:
                raise UnknownNameError("column of provenance", column, PROVENANCE)
        if not rows:
            raise EmptyError("a collection needs at least one backstory")
        personas, annotations = _tables(rows, codebook, dict(provenance or {}))
        store = _Store(
            name=name,
            release="0.0.0",
            licence=licence,
            codebook=codebook,
            personas=personas,
            annotations=annotations,
        )
        return _of(store)

    def embed(self, encoder: Encoder | None = None, *, progress: bool = False) -> Anthology:
        """Return the collection with passage vectors of an encoder; nothing that has them already is computed again."""
        encoder = encoder or Encoder()
        slug = encoder.card.model.rpartition("/")[2]
        known = self._store.embeddings.get(slug)
        if known is not None and known.card == encoder.card:
            return self
        table = _embed(self._store, encoder, progress=progress)
        embeddings = {**self._store.embeddings, slug: Embedding(card=encoder.card, table=table)}
        return self._view(self._rows, self._scores, store=replace(self._store, embeddings=embeddings))

    # -- what it is --------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        short = f", {self.shortfall} fewer than asked" if self.shortfall else ""
        return f"<Anthology {self.identity}: {len(self)} of {len(self._store.ids)} personas{short}>"

    def __iter__(self) -> Iterator[Persona]:
        return (self[at] for at in range(len(self)))

    def __getitem__(self, at: int) -> Persona:
        """Return the persona at a position of this view."""
        row = int(self._rows[at])
        values = self._store.personas.slice(row, 1).to_pylist()[0]
        span = self._passages.get(row)
        return Persona(
            persona_id=values["persona_id"],
            backstory=values["backstory"],
            traits={trait.name: values[trait.name] for trait in self.codebook.traits},
            score=None if self._scores is None else float(self._scores[at]),
            passage=None if span is None else values["backstory"][span[0] : span[1]],
        )

    @property
    def codebook(self) -> Codebook:
        """Traits, levels and population shares."""
        return self._store.codebook

    @property
    def identity(self) -> str:
        """Name, release and the first 12 digits of the manifest's digest (`unsaved` before the first save)."""
        return f"{self._store.name}@{self._store.release}#{self._store.digest[:12] or 'unsaved'}"

    @property
    def ids(self) -> list[str]:
        """Persona ids, in the order of this view."""
        return [self._store.ids[row] for row in self._rows]

    @property
    def scores(self) -> NDArray[np.float64] | None:
        """Scores of the last search or score, in order; None for others."""
        return self._scores

    def get(self, persona_id: str) -> Persona:
        """Return a persona of this view by its id, or the only one whose id begins so.

        Raises:
            DataError: If none or several fit.
        """
        found = [at for at, known in enumerate(self.ids) if known.startswith(persona_id)]
        if len(found) != 1:
            hint = "give more digits" if found else "ids of this view are in `ids`"
            raise DataError(f"{len(found)} personas have an id that begins with {persona_id!r}: {hint}")
        return self[found[0]]

    def annotations_of(self, persona_id: str) -> list[dict[str, Any]]:
        """Return the annotations of one persona: trait, levels, probs, method, evidence ..."""
        import pyarrow.compute as pc

        return list(self._store.annotations.filter(pc.field("persona_id") == persona_id).to_pylist())

    def to_dataset(self) -> Dataset:
        """Return the personas of this view as a `datasets.Dataset`."""
        from datasets import Dataset

        return Dataset(self._store.personas.take(self._rows))

    def distribution(self, trait: str) -> NDArray[np.float32]:
        """Return the probability of each level, shape (personas, levels); NaN where there is no annotation.

        Raises:
            UnknownNameError: If there is no such trait.
        """
        return self._store.probs(trait)[self._rows]

    def margins(self, trait: str) -> dict[str, float]:
        """Return the mean probability of each level over the annotated personas.

        Example:
            >>> shares = Anthology.load("starter").margins("gender")
            >>> round(sum(shares.values()), 6)
            1.0
        """
        probs = self.distribution(trait)
        known = probs[~np.isnan(probs).any(axis=1)]
        if not len(known):
            raise EmptyError(f"no persona of this view is annotated for {trait}")
        shares = known.astype(np.float64).mean(axis=0)
        return dict(zip(self.codebook.trait(trait).levels, shares.tolist(), strict=True))

    # -- queries -----------------------------------------------------------------------------------------------------

    def where(self, *, min_prob: float | None = None, **traits: str | Sequence[str]) -> Anthology:
        """Return the personas that have the given levels.

        Args:
            min_prob: If given, the summed probability of the wanted levels must reach it; else the top level must be
                one of them.
            **traits: Trait = level, or a list of levels.

        Raises:
            EmptyError: If nobody fits; the message counts how many fit each condition alone.
            UnknownNameError: If a trait or level does not exist.

        Example:
            >>> south = Anthology.load("starter").where(region="South")
            >>> {persona.traits["region"] for persona in south}
            {'South'}
        """
        if min_prob is not None and not 0 < min_prob <= 1:
            raise OptionError(f"min_prob must be above 0 and at most 1, got {min_prob}")
        masks = {}
        for trait, wanted in traits.items():
            levels = [self.codebook.trait(trait).code(level) for level in _listed(wanted)]
            if min_prob is None:
                masks[trait] = np.isin(self._store.codes(trait), levels)[self._rows]
            else:
                masks[trait] = np.nan_to_num(self.distribution(trait)[:, levels].sum(axis=1)) >= min_prob - 1e-6
        keep = np.logical_and.reduce([np.ones(len(self), dtype=bool), *masks.values()])
        if not keep.any():
            alone = ", ".join(f"{trait}={traits[trait]!r}: {int(mask.sum())}" for trait, mask in masks.items())
            raise EmptyError(f"none of {len(self)} personas fits all conditions; alone fit {alone}: drop or widen one")
        return self._view(self._rows[keep], None if self._scores is None else self._scores[keep])

    def score(self, **traits: str | Sequence[str]) -> Anthology:
        """Return the personas ordered by how probably they have the given levels, most probable first.

        The score is the product over traits of the summed probability of the wanted levels; an unannotated trait counts
        as uniform.

        Example:
            >>> best = Anthology.load("starter").score(age="65+", gender="Female")
            >>> best[0].score, best[0].traits["age"]
            (1.0, '65+')
        """
        total = np.ones(len(self))
        for trait, wanted in traits.items():
            codes = [self.codebook.trait(trait).code(level) for level in _listed(wanted)]
            probs = self.distribution(trait)
            total *= np.where(np.isnan(probs), 1 / probs.shape[1], probs)[:, codes].sum(axis=1)
        order = np.argsort(-total, kind="stable")
        return self._view(self._rows[order], total[order])

    def search(self, text: str, k: int = 10, *, encoder: Encoder | None = None) -> Anthology:
        """Return the `k` personas of this view whose backstories come nearest to a text in meaning, nearest first.

        A persona's score is the cosine similarity of its best passage, which is kept as evidence in `Persona.passage`.
        Exact over this view. If fewer than `k` are left, all are returned and `shortfall` says how many are missing.

        Args:
            text: What to look for, in words.
            k: Number of personas, at least 1.
            encoder: The encoder of the vectors, if it is open already.

        Raises:
            OptionError: If k is below 1, the text is empty, or the encoder is not the one that made the vectors.
        """
        if not text.strip():
            raise OptionError("the search text is empty: say what the backstory should be about")
        if k < 1:
            raise OptionError(f"k must be at least 1, got {k}")
        embedding = self._embedding()
        if encoder is None and embedding.card.model.startswith("local/"):
            raise OptionError(
                f"the vectors were made by {embedding.card.model}, a folder: give it as encoder=Encoder(...)"
            )
        encoder = encoder or _open_encoder(embedding.card.model)
        if encoder.card != embedding.card:
            raise OptionError(
                f"the vectors were made by {embedding.card}, not by {encoder.card}: embed the collection again"
            )
        owners, spans = _passage_owners(embedding, self._store)
        most = int(np.bincount(owners).max())
        among = np.isin(owners, self._rows)
        # With at most `most` passages each, the best k * most passages hold the best k personas.
        hits = embedding.index.search(encoder.encode([text])[0], k * most, among=among)
        _, first = np.unique(owners[hits.rows], return_index=True)
        best = np.sort(first)[:k]
        found = self._view(owners[hits.rows[best]], hits.scores[best].astype(np.float64))
        found._passages = {int(owners[row]): spans[row] for row in hits.rows[best]}
        found.shortfall = k - len(found)
        return found

    def sample(self, n: int, *, seed: int = 0) -> Anthology:
        """Return `n` different personas drawn at random.

        Raises:
            OptionError: If there are not that many.
        """
        if not 1 <= n <= len(self):
            raise OptionError(f"cannot sample {n} personas of {len(self)}: allowed are 1 to {len(self)}")
        at = np.sort(np.random.default_rng(seed).permutation(len(self))[:n])
        return self._view(self._rows[at], None if self._scores is None else self._scores[at])

    # -- saving ------------------------------------------------------------------------------------------------------

    def save(self, folder: str | Path, *, release: str | None = None, card: str = "", changelog: str = "") -> Anthology:
        """Write this view as a release folder: whole or not at all.

        The same content gives the same bytes. An existing collection folder is replaced only by a complete new one; a
        folder that holds anything else is refused. A kill in the moment of replacing leaves the old folder whole beside
        its place, as `.NAME-old-*/old`.

        Args:
            folder: Where to.
            release: Version, `major.minor.patch`; the one it has, if not given.
            card: Body of the dataset card, below the YAML that is made here; the one it has, if not given.
            changelog: Content of CHANGELOG.md; the one it has, if not given.

        Returns:
            The saved collection, loaded.

        Raises:
            OptionError: If the folder holds something else, or the release is no version.
        """
        target = Path(os.path.abspath(folder))  # `.` and `..` have no name to be replaced under
        if target.exists() and not target.is_dir():
            raise OptionError(f"{target} is a file: give a new folder")
        if strange := _strange(target):
            raise OptionError(f"{target} holds what is no part of a collection, such as {strange}: give a new folder")
        if release is not None and not re.fullmatch(r"\d+\.\d+\.\d+", release):
            raise OptionError(f"the release must be 'major.minor.patch' as '1.0.0', got {release!r}")
        target.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-"))
        try:
            store = self._subset(release)
            store = replace(store, card=card or store.card, changelog=changelog or store.changelog)
            _write_store(store, work)
            work.chmod(0o755)
            _swap(work, target)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        return Anthology.load(target)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _view(
        self, rows: NDArray[np.int64], scores: NDArray[np.float64] | None, *, store: _Store | None = None
    ) -> Anthology:
        view = Anthology(store or self._store, rows, scores)
        view._passages = self._passages
        return view

    def _embedding(self) -> Embedding:
        if not self._store.embeddings:
            raise DataError(f"the collection {self._store.name!r} has no embeddings: call embed() first")
        slug = ENCODER if ENCODER in self._store.embeddings else next(iter(self._store.embeddings))
        return self._store.embeddings[slug]

    def _subset(self, release: str | None) -> _Store:
        store = self._store if release is None else replace(self._store, release=release)
        if len(self) == len(store.ids) and (self._rows == np.arange(len(self))).all():
            return store
        position = {self._store.ids[row]: at for at, row in enumerate(self._rows)}
        embeddings = {
            slug: Embedding(card=e.card, table=_reorder(e.table, position)) for slug, e in store.embeddings.items()
        }
        whole = f"{len(store.ids)} personas of {self.identity}"
        note = f"> **A selection:** {len(self)} of the {whole}. The card of the whole follows.\n\n"
        return replace(
            store,
            card=note + store.card if store.card else "",
            personas=store.personas.take(self._rows),
            annotations=_reorder(store.annotations, position),
            embeddings=embeddings,
        )


def _of(store: _Store) -> Anthology:
    return Anthology(store, np.arange(store.personas.num_rows, dtype=np.int64))


def _listed(levels: str | Sequence[str]) -> list[str]:
    return [levels] if isinstance(levels, str) else list(dict.fromkeys(levels))


@lru_cache(maxsize=2)
def _open_encoder(name: str) -> Encoder:
    return Encoder(name)


def _passage_owners(embedding: Embedding, store: _Store) -> tuple[NDArray[np.int64], list[tuple[int, int]]]:
    ids, starts, ends = (embedding.table[name].to_pylist() for name in ("persona_id", "start", "end"))
    owners = np.array([store.row_of[persona_id] for persona_id in ids], dtype=np.int64)
    return owners, list(zip(starts, ends, strict=True))


def _reorder(table: pa.Table, position: Mapping[str, int]) -> pa.Table:
    at = np.array([position.get(persona_id, -1) for persona_id in table["persona_id"].to_pylist()])
    order = np.argsort(at, kind="stable")
    return table.take(order[at[order] >= 0])


# -- tables ----------------------------------------------------------------------------------------------------------


def _tables(rows: list[Mapping[str, Any]], codebook: Codebook, provenance: dict[str, str]) -> tuple[pa.Table, pa.Table]:
    import pyarrow as pa

    schema = _persona_schema(codebook)
    if doubled := sorted({name for name in schema.names if schema.names.count(name) > 1}):
        raise DataError(f"traits cannot be named like columns of the personas: rename {', '.join(doubled)}")
    personas: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    seen: dict[str, int] = {}
    for number, row in enumerate(rows):
        text = row.get("backstory")
        if not isinstance(text, str) or not text.strip():
            raise DataError(f"record {number} has no backstory, but {text!r}: give a text or leave the record out")
        text = text.strip()
        for name in row.get("evidence", {}):
            if name not in row.get("traits", {}):
                raise UnknownNameError(f"trait with evidence in record {number}", name, row.get("traits", {}))
        persona_id = Persona.id_of(text)
        if persona_id in seen:
            raise DataError(f"records {seen[persona_id]} and {number} have the same backstory: keep one of them")
        seen[persona_id] = number
        known = [_annotation(persona_id, text, row, name, codebook, provenance) for name in row.get("traits", {})]
        annotations += known
        personas.append(_persona_row(persona_id, text, row, known, codebook, provenance))
    return pa.Table.from_pylist(personas, schema), pa.Table.from_pylist(annotations, _annotation_schema())


def _annotation(
    persona_id: str, text: str, row: Mapping[str, Any], name: str, codebook: Codebook, provenance: Mapping[str, str]
) -> dict[str, Any]:
    trait, value = codebook.trait(name), row["traits"][name]
    shares = {value: 1.0} if isinstance(value, str) else value
    if not isinstance(shares, Mapping):
        raise DataError(f"{name} must be a level or {{level: probability}}, got {value!r}: leave it out if not known")
    for level in shares:
        trait.code(level)
    if min(shares.values(), default=0) < 0 or not abs(sum(shares.values()) - 1) <= 1e-4:
        raise DataError(f"the probabilities of {name} must be 0 or more and sum to 1, got {shares}")
    quote = row.get("evidence", {}).get(name)
    if quote is not None and quote not in text:
        raise DataError(f"the evidence for {name} is not in the backstory: {quote!r}")
    return {
        "persona_id": persona_id,
        "trait": name,
        "levels": list(trait.levels),
        "probs": [float(shares.get(level, 0.0)) for level in trait.levels],
        "n_samples": row.get("n_samples"),
        "n_refused": row.get("n_refused"),
        "n_noncompliant": row.get("n_noncompliant"),
        "method": provenance.get("method", "author"),
        "annotator": provenance.get("annotator"),
        "annotator_revision": provenance.get("annotator_revision"),
        "evidence": quote,
    }


def _persona_row(
    persona_id: str,
    text: str,
    row: Mapping[str, Any],
    annotations: list[dict[str, Any]],
    codebook: Codebook,
    provenance: Mapping[str, str],
) -> dict[str, Any]:
    top = {}
    for annotation in annotations:
        best = int(np.argmax(annotation["probs"]))
        sure = annotation["probs"][best] >= CONFIDENCE
        top[annotation["trait"]] = annotation["levels"][best] if sure else None
    return {
        "persona_id": persona_id,
        "backstory": text,
        "n_words": len(text.split()),
        **{name: provenance.get(name) for name in ("source", "generator", "generator_revision", "prompt_id")},
        "source_key": row.get("key"),
        "quality_flags": list(row.get("quality_flags", ())),
        **{trait.name: top.get(trait.name) for trait in codebook.traits},
    }


def _persona_schema(codebook: Codebook) -> pa.Schema:
    import pyarrow as pa

    fields = {"persona_id": pa.string(), "backstory": pa.string(), "n_words": pa.int32()}
    for name in ("source", "generator", "generator_revision", "prompt_id", "source_key"):
        fields[name] = pa.string()
    fields["quality_flags"] = pa.list_(pa.string())
    return pa.schema([*fields.items(), *((trait.name, pa.string()) for trait in codebook.traits)])


def _annotation_schema() -> pa.Schema:
    import pyarrow as pa

    text, count = pa.string(), pa.int32()
    names = {"persona_id": text, "trait": text, "levels": pa.list_(text), "probs": pa.list_(pa.float32())}
    names |= dict.fromkeys(("n_samples", "n_refused", "n_noncompliant"), count)
    return pa.schema([*names.items(), *((n, text) for n in ("method", "annotator", "annotator_revision", "evidence"))])


def _embed(store: _Store, encoder: Encoder, *, progress: bool) -> pa.Table:
    import pyarrow as pa

    texts = store.personas["backstory"].to_pylist()
    spans = [(row, span) for row, text in enumerate(texts) for span in encoder.passages(text)]
    vectors = encoder.encode([texts[row][a:b] for row, (a, b) in spans], progress=progress)
    owners = [row for row, _ in spans]
    numbers = np.arange(len(owners)) - np.searchsorted(owners, owners)
    return pa.table(
        {
            "persona_id": [store.ids[row] for row in owners],
            "passage": pa.array(numbers, pa.int32()),
            "start": pa.array([a for _, (a, _) in spans], pa.int32()),
            "end": pa.array([b for _, (_, b) in spans], pa.int32()),
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), encoder.card.dimension),
        }
    )


# -- folder ----------------------------------------------------------------------------------------------------------


def _write_store(store: _Store, folder: Path) -> None:
    import faiss

    _write_parquet(store.personas, folder / "personas/train-00000-of-00001.parquet")
    _write_parquet(store.annotations, folder / "annotations/train-00000-of-00001.parquet")
    rows = {"personas": store.personas.num_rows, "annotations": store.annotations.num_rows}
    indexes = {}
    for slug, embedding in store.embeddings.items():
        _write_parquet(embedding.table, folder / f"embeddings/{slug}/train-00000-of-00001.parquet")
        rows[f"embeddings-{slug}"] = embedding.table.num_rows
        file = f"index/{slug}/flat.faiss"
        (folder / file).parent.mkdir(parents=True)
        indexes[slug] = {"file": file, "factory": embedding.index.write(folder / file), "faiss": faiss.__version__}
    _write_json(folder / CODEBOOK, store.codebook.to_dict())
    (folder / CARD).write_text(_front_matter(store) + (store.card or _plain_card(store)), encoding="utf-8")
    if store.changelog:
        (folder / CHANGELOG).write_text(store.changelog, encoding="utf-8")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "name": store.name,
        "release": store.release,
        "licence": store.licence,
        "rows": rows,
        "persona_ids_sha256": digest(store.ids),
        "embeddings": {slug: embedding.card.to_dict() for slug, embedding in store.embeddings.items()},
        "indexes": indexes,
        "files": {str(path.relative_to(folder)): _file_record(path) for path in files},
    }
    _write_json(folder / MANIFEST, manifest)


def _read_store(folder: Path) -> _Store:
    import pyarrow as pa

    if not (folder / MANIFEST).is_file():
        raise DataError(f"{folder} is no collection: it has no {MANIFEST}; give a folder written by Anthology.save")
    manifest = read_json(folder / MANIFEST)
    if str(manifest.get("schema_version", "")).split(".")[0] != SCHEMA_VERSION.split(".")[0]:
        version = manifest.get("schema_version")
        raise DataError(f"{folder} has schema version {version!r}, this package reads {SCHEMA_VERSION}: update one")
    try:
        tables = {name: _read_parquet(folder, manifest, name) for name in ("personas", "annotations")}
        store = _Store(
            name=manifest["name"],
            release=manifest["release"],
            licence=manifest["licence"],
            codebook=Codebook.from_dict(read_json(_vouched(folder, manifest, CODEBOOK))),
            embeddings={slug: _read_embedding(folder, manifest, slug) for slug in manifest["embeddings"]},
            digest=hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest(),
            card=_card_body(_vouched(folder, manifest, CARD)),
            changelog=_text(_vouched(folder, manifest, CHANGELOG)) if CHANGELOG in manifest["files"] else "",
            **tables,
        )
    except (KeyError, TypeError, AttributeError, pa.ArrowException) as error:
        raise DataError(f"{folder} cannot be read as a collection: {type(error).__name__}: {error}") from error
    if digest(store.ids) != manifest.get("persona_ids_sha256"):
        raise IntegrityError(f"the persona ids of {folder} are not those of its manifest: get a fresh copy")
    # A card that was made here tells release and size, which may change: it is made anew.
    return replace(store, card="") if store.card == _plain_card(store) else store


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _card_body(path: Path) -> str:
    """The card without its YAML, which is made anew on saving."""
    return re.sub(r"\A---\n.*?\n---\n+", "", _text(path), flags=re.DOTALL)


def _strange(target: Path) -> str:
    """Name something in a folder that is not of a collection saved there; empty if there is nothing."""
    there = [path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()]
    known = {MANIFEST, *read_json(target / MANIFEST).get("files", ())} if (target / MANIFEST).is_file() else set()
    return next((name for name in sorted(there) if name not in known), "")


def _read_embedding(folder: Path, manifest: Mapping[str, Any], slug: str) -> Embedding:
    card = EncoderCard(**manifest["embeddings"][slug])
    index = manifest.get("indexes", {}).get(slug)
    file = _vouched(folder, manifest, index["file"]) if index else None
    return Embedding(card=card, table=_read_parquet(folder, manifest, f"embeddings/{slug}"), index_file=file)


def _read_parquet(folder: Path, manifest: Mapping[str, Any], config: str) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = [name for name in manifest["files"] if name.startswith(f"{config}/") and name.endswith(".parquet")]
    table = pa.concat_tables(pq.read_table(_vouched(folder, manifest, name)) for name in sorted(names))
    return table.cast(pa.schema([(column.name, _as_made(column.type)) for column in table.schema]))


def _as_made(kind: pa.DataType) -> pa.DataType:
    """Parquet calls the entries of a list `element`, Arrow `item`: with one name, saving again gives the same bytes."""
    import pyarrow as pa

    if pa.types.is_fixed_size_list(kind):
        return pa.list_(kind.value_type, kind.list_size)
    return pa.list_(kind.value_type) if pa.types.is_list(kind) else kind


def _vouched(folder: Path, manifest: Mapping[str, Any], name: str) -> Path:
    """Return a file's path after checking it against the manifest."""
    record, path = manifest["files"].get(name), folder / name
    if record is None:
        raise IntegrityError(f"the manifest of {folder} does not list {name}: the folder is incomplete or altered")
    if not path.is_file():
        raise IntegrityError(f"{path} is missing: the manifest lists it, get a fresh copy")
    if _file_record(path) != record:
        raise IntegrityError(f"{path} is not the file of the manifest (sha256 differs): get a fresh copy")
    return path


def _write_parquet(table: pa.Table, path: Path) -> None:
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True)
    pq.write_table(
        table.replace_schema_metadata(None),
        path,
        compression="zstd",
        write_page_index=True,
        use_content_defined_chunking=True,
        row_group_size=5_000,
    )


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _file_record(path: Path) -> dict[str, Any]:
    with path.open("rb") as stream:
        return {"sha256": hashlib.file_digest(stream, "sha256").hexdigest(), "size": path.stat().st_size}


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


def _front_matter(store: _Store) -> str:
    configs = [("personas", "personas", True), ("annotations", "annotations", False)]
    configs += [(f"embeddings-{slug}", f"embeddings/{slug}", False) for slug in store.embeddings]
    rows = store.personas.num_rows
    size = next((name for most, name in SIZES if rows < most), "10M<n<100M")
    lines = ["---", f"pretty_name: {store.name}", f"license: {store.licence.lower()}", "language:", "- en"]
    lines += ["size_categories:", f"- {size}", "tags:"]
    lines += [f"- {tag}" for tag in ("personas", "backstories", "survey-simulation", "synthetic", "anthology-hub")]
    lines.append("configs:")
    for name, path, default in configs:
        lines += [f"- config_name: {name}", *(["  default: true"] if default else [])]
        lines += ["  data_files:", "  - split: train", f"    path: {path}/train-*.parquet"]
    return "\n".join([*lines, "---", "", ""])


def _plain_card(store: _Store) -> str:
    return f"# {store.name}\n\n{store.personas.num_rows} personas, release {store.release}, licence {store.licence}.\n"
