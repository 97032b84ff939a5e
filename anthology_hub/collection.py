"""Anthology: a versioned collection of personas; load, where, search, score, sample, save.

On disk a collection is a folder that `datasets.load_dataset`, DuckDB, polars and pandas can read; see `save`. Queries
return an Anthology again, so they chain, and the filter always runs before the search.
"""

from __future__ import annotations

import re
import tempfile
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import chain, islice
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from anthology_hub import hub
from anthology_hub.bitmaps import Selection
from anthology_hub.cards import CardText
from anthology_hub.changes import Changes, compare, entry_of, numbers, with_entry
from anthology_hub.embedding import embedded
from anthology_hub.encoding import ENCODER, Encoder, EncoderCard
from anthology_hub.errors import AnthologyWarning, DataError, EmptyError, OptionError, UnknownNameError
from anthology_hub.prompts import derive_seed
from anthology_hub.release import (
    ANNOTATIONS,
    EMBEDDINGS,
    MANIFEST,
    VERSION,
    Embedding,
    Release,
    Rows,
    positions,
    read_release,
    save_release,
    validate,
)
from anthology_hub.schema import DATA, MISSING, SMALLEST_CELL, Codebook, Persona, Trait
from anthology_hub.weighting import (
    Representation,
    Target,
    draw,
    inclusion,
    population,
    rake,
    representation,
    target_shares,
    traits_in,
)

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset
    from numpy.typing import NDArray

    from anthology_hub.cluster import Cluster
    from anthology_hub.runs import Progress

STARTER = "starter"
PROVENANCE = ("source", "generator", "generator_revision", "prompt_id", "method", "annotator", "annotator_revision")
GENERATION = "generation"
"""Column of personas that were generated here: how, as JSON. Collections without such personas do not have it."""
BATCH = 10_000
"""Records that are made into rows of a table at once."""
FETCHED = 100
"""Personas that are fetched at once where all are asked for, one after the other."""
ROUNDING = 1e-4
"""How far probabilities may be from a sum of 1."""
CONFIDENCE = 0.5
"""A trait column holds the top level only where its probability is at least this; else it is null."""


class Anthology:
    """A collection of personas, or a view of some of them in some order.

    Example:
        >>> people = Anthology.load("starter")
        >>> found = people.where(region="South", age=["50-64", "65+"]).search("grew up on a farm", k=3)
        >>> len(found), found[0].traits["region"], found[0].score > found[1].score
        (3, 'South', True)
    """

    def __init__(
        self, store: Release, rows: Selection | NDArray[np.int64], scores: NDArray[np.float64] | None = None
    ) -> None:
        """Not for users: see `load` and `from_records`."""
        self._chosen = rows if isinstance(rows, Selection) else Selection(len(store.personas), rows=rows)
        self._store, self._scores = store, scores
        self._passages: dict[int, tuple[int, int]] = {}
        self.shortfall = 0
        """How many personas a search was asked for beyond those that were left."""
        self.representation: Representation | None = None
        """How well a sample drawn for a target stands for it; None for every other view."""

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
        snapshot = hub.locate(shipped, revision=revision)
        return _of(read_release(snapshot))

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
                `evidence` (trait -> quote from the backstory) and `key` (its name at the source). Either all or none
                have `generation` (how it was generated, as JSON).
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
        for column in provenance or {}:
            if column not in PROVENANCE:
                raise UnknownNameError("column of provenance", column, PROVENANCE)
        personas, annotations = _tables(records, codebook, dict(provenance or {}))
        store = Release(
            name=name,
            version="0.0.0",
            licence=licence,
            codebook=codebook,
            personas=Rows(personas),
            annotations=Rows(annotations),
        )
        return _of(store)

    def download(self) -> Anthology:
        """Bring all files of the release to the disk, for work offline, and return the collection.

        Otherwise annotations and vectors are fetched when they are first needed.
        """
        self._store.download()
        return self

    def embed(
        self,
        encoder: Encoder | None = None,
        *,
        known: Sequence[Anthology] = (),
        folder: str | Path | None = None,
        ray: Cluster | str | None = None,
        progress: Progress | None = None,
    ) -> Anthology:
        """Return the collection with passage vectors of an encoder; no text that has them already is read again.

        Args:
            encoder: What makes the vectors; all-MiniLM-L6-v2, if not given.
            known: Collections whose vectors of the same encoder hold for the texts that they share with this one.
            folder: Run folder, a path or a URI: the same call goes on where it stopped.
            ray: Spread the texts over this cluster; in process, if not given.
            progress: Called with texts done and in all.
        """
        encoder = encoder or Encoder()
        # It names a folder, a config and a glob: the name of a user's own folder may hold anything.
        slug = re.sub(r"[^\w.-]+", "-", encoder.card.model.rpartition("/")[2])
        if slug in self._store.embeddings and self._store.embeddings[slug].card == encoder.card:
            return self
        sources = [people._store for people in (self, *known)]
        table = _embed(self._store, encoder, sources, folder=folder, ray=ray, progress=progress)
        embeddings = {**self._store.embeddings, slug: Embedding(card=encoder.card, rows=Rows(table))}
        return self._view(self._chosen, self._scores, store=replace(self._store, embeddings=embeddings))

    def with_annotations(self, rows: Iterable[Mapping[str, Any]], traits: Sequence[Trait]) -> Anthology:
        """Return the same personas with these annotations of some traits in place of those they had; others stay.

        Columns of the personas hold the top level anew. A trait that the codebook does not have is added to it; one of
        the same name takes the place of the old. The result is the release that follows, with a drafted changelog.
        Nothing is written: see `save`.

        Args:
            rows: Annotations as in the table: persona_id, trait, levels, probs, and if wanted method, n_samples,
                n_refused, n_noncompliant, n_ambiguous, mass, annotator, annotator_revision, evidence.
            traits: The traits that they are about.

        Raises:
            DataError: If a row is of nobody here or doubled, its levels are not those of the trait, its probabilities
                are none, or its evidence is not in the text.
        """
        old = self._edition()
        store = _annotated(old, list(rows), traits)
        changes = compare(old, store)
        told = with_entry(old.changelog(), changes.entry(changes.next_version))
        return _of(replace(store, version=changes.next_version, changelog=lambda: told))

    def passage_vectors(self, card: EncoderCard) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return the passage vectors that an encoder made: shape (passages, dimension), and whose each passage is.

        Whose: the position of its persona in the release, ascending; passages of personas not in this view are left
        out.

        Raises:
            DataError: If there are none of this encoder.
        """
        for slug, embedding in self._store.embeddings.items():
            if embedding.card == card:
                owners = self._store.owners(f"{EMBEDDINGS}/{slug}")
                kept = self._chosen.mask[owners]
                return embedding.vectors[kept].astype(np.float32, copy=False), owners[kept]
        raise DataError(f"the collection {self._store.name!r} has no vectors of {card.model}: call embed() first")

    def extended(self, added: Anthology, *, release: str | None = None, encoder: Encoder | None = None) -> Anthology:
        """Return this collection with the personas of another after its own, as a release that follows it.

        Rows keep their own provenance; vectors are computed for the new texts only; the changelog gets an entry drafted
        from the difference. Nothing is written: see `save`.

        Args:
            added: Its codebook must have the same traits and levels. Who is here already stays as it is.
            release: Version; the next minor one, if not given.
            encoder: The encoder of the vectors, if it is open already.

        Raises:
            DataError: If the traits or their levels differ.
            EmptyError: If all of its personas are here already.
            OptionError: If the version does not follow.

        Example:
            >>> people = Anthology.load("starter")
            >>> more = people.sample(100).extended(people)
            >>> len(more), more.identity
            (320, 'anthology-starter@1.2.0#unsaved')
        """
        old, new = self._edition(), added._edition()
        traits = [{trait.name: trait.levels for trait in store.codebook.traits} for store in (old, new)]
        if traits[0] != traits[1]:
            raise DataError(
                f"{new.name!r} has the traits {', '.join(traits[1])}, {old.name!r} has {', '.join(traits[0])}, or "
                "levels differ: make the new personas with the codebook of the collection"
            )
        fresh = np.flatnonzero(_places(added._ids, old) == MISSING)
        if not len(fresh):
            raise EmptyError(f"all {len(added)} personas of {new.name!r} are in {old.name!r} already: nothing to add")
        more = _of(added._view(added._chosen.take(fresh), None)._edition())
        for slug, embedding in old.embeddings.items():
            if slug not in more._store.embeddings or more._store.embeddings[slug].card != embedding.card:
                same = encoder is not None and encoder.card == embedding.card
                more = more.embed(encoder if same else _open_encoder(embedding.card.model))
        store = _joined(old, more._edition())
        changes = compare(old, store)
        version = release or changes.next_version
        changes.check(version)
        told = with_entry(old.changelog(), changes.entry(version))
        return _of(replace(store, version=version, changelog=lambda: told))

    # -- what it is --------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._chosen)

    def __repr__(self) -> str:
        short = f", {self.shortfall} fewer than asked" if self.shortfall else ""
        return f"<Anthology {self.identity}: {len(self)} of {len(self._store.personas)} personas{short}>"

    def __iter__(self) -> Iterator[Persona]:
        return chain.from_iterable(
            self._personas(range(len(self))[at : at + FETCHED]) for at in range(0, len(self), FETCHED)
        )

    def __getitem__(self, at: int) -> Persona:
        """Return the persona at a position of this view."""
        return self._personas([range(len(self))[at]])[0]

    def _personas(self, at: Sequence[int]) -> list[Persona]:
        """The personas at some positions of this view."""
        names = [trait.name for trait in self.codebook.traits]
        rows = self._rows[at]
        table = self._store.personas.take(rows, ["persona_id", "backstory", *names])
        ids, texts, *levels = (column.to_pylist() for column in table.columns)
        scores = [None] * len(rows) if self._scores is None else self._scores[at].tolist()
        spans = map(self._passages.get, rows.tolist())
        traits = zip(*levels, strict=True) if names else [()] * len(rows)
        return [
            Persona(
                persona_id=persona_id,
                backstory=text,
                traits=dict(zip(names, values, strict=True)),
                score=score,
                passage=span and text[span[0] : span[1]],
            )
            for persona_id, text, values, score, span in zip(ids, texts, traits, scores, spans, strict=True)
        ]

    @property
    def _rows(self) -> NDArray[np.int64]:
        return self._chosen.rows

    @property
    def codebook(self) -> Codebook:
        """Traits, levels and population shares."""
        return self._store.codebook

    @property
    def identity(self) -> str:
        """Name, release and the first 12 digits of the manifest's digest (`unsaved` before the first save)."""
        return f"{self._store.name}@{self._store.version}#{self._store.digest[:12] or 'unsaved'}"

    @property
    def origin(self) -> str:
        """The commit on a hub, `hf://namespace/name@commit`; empty for others: a folder's path is nobody's business."""
        return self._store.source if self._store.source.startswith(hub.SCHEME) else ""

    @property
    def ids(self) -> list[str]:
        """Persona ids, in the order of this view."""
        return list(self._ids.to_pylist())

    @property
    def _ids(self) -> pa.Array:
        return self._store.ids_of(self._chosen)

    @property
    def scores(self) -> NDArray[np.float64] | None:
        """Scores of the last search or score, in order; None for others."""
        return self._scores

    def get(self, persona_id: str) -> Persona:
        """Return a persona of this view by its id, or the only one whose id begins so.

        Raises:
            DataError: If none or several fit.
        """
        import pyarrow.compute as pc

        found = pc.indices_nonzero(pc.starts_with(self._ids, persona_id)).to_pylist()
        if len(found) != 1:
            hint = "give more digits" if found else "ids of this view are in `ids`"
            raise DataError(f"{len(found)} personas have an id that begins with {persona_id!r}: {hint}")
        return self[found[0]]

    def annotations_of(self, persona_id: str) -> list[dict[str, Any]]:
        """Return the annotations of one persona: trait, levels, probs, method, evidence ..."""
        import pyarrow.compute as pc

        row = pc.index(self._store.personas.column("persona_id"), persona_id).as_py()
        return self._annotations_of(self._all.take([row] if row >= 0 else []))

    def annotations(self) -> list[dict[str, Any]]:
        """Return the annotations of all personas of this view, in its order; see `annotations_of`."""
        return self._annotations_of(self._chosen)

    @property
    def _all(self) -> Selection:
        return Selection(len(self._store.personas))

    def _annotations_of(self, chosen: Selection) -> list[dict[str, Any]]:
        return list(_owned(self._store.annotations, self._store.owners(ANNOTATIONS), chosen).to_pylist())

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
        wanted = {trait: self._codes(trait, levels) for trait, levels in traits.items()}
        if not wanted:
            return self._view(self._chosen, self._scores)
        words = self._store.having(wanted, min_prob=min_prob)
        kept = self._chosen.keep(words)
        if not len(kept):
            alone = ", ".join(
                f"{trait}={traits[trait]!r}: {self._fitting({trait: wanted[trait]}, min_prob)}" for trait in wanted
            )
            raise EmptyError(f"none of {len(self)} personas fits all conditions; alone fit {alone}: drop or widen one")
        return self._view(kept, None if self._scores is None else self._scores[self._chosen.holds(words)])

    def _fitting(self, wanted: Mapping[str, Sequence[int]], min_prob: float | None) -> int:
        """How many of this view have some levels."""
        return len(self._chosen.keep(self._store.having(wanted, min_prob=min_prob)))

    def _codes(self, trait: str, levels: str | Sequence[str]) -> list[int]:
        """Positions of some levels, each once."""
        known = self.codebook.trait(trait)
        return [known.code(level) for level in dict.fromkeys([levels] if isinstance(levels, str) else levels)]

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
            codes, probs = self._codes(trait, wanted), self._store.probs(trait)
            mass = np.sum([probs[self._rows, code] for code in codes], axis=0)
            total *= np.where(np.isnan(mass), len(codes) / probs.shape[1], mass)
        order = np.argsort(-total, kind="stable")
        return self._view(self._chosen.take(order), total[order])

    def search(self, text: str, k: int = 10, *, encoder: Encoder | None = None) -> Anthology:
        """Return the `k` personas of this view whose backstories come nearest to a text in meaning, nearest first.

        A persona's score is the cosine similarity of its best passage, which is kept as evidence in `Persona.passage`.
        Exact over this view up to some ten thousand passages; beyond, as complete as the index in the manifest says. If
        fewer than `k` are left, all are returned and `shortfall` says how many are missing.

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
        slug, embedding = self._embedding()
        if encoder is None and embedding.card.model.startswith("local/"):
            raise OptionError(
                f"the vectors were made by {embedding.card.model}, a folder: give it as encoder=Encoder(...)"
            )
        encoder = encoder or _open_encoder(embedding.card.model)
        if encoder.card != embedding.card:
            raise OptionError(
                f"the vectors were made by {embedding.card}, not by {encoder.card}: embed the collection again"
            )
        owners = self._store.owners(f"{EMBEDDINGS}/{slug}")
        among = self._chosen.mask[owners] if len(self) < len(self._store.personas) else None
        hits = embedding.index.best_of(encoder.encode([text])[0], k, owners=owners, among=among)
        found = self._view(owners[hits.rows], hits.scores.astype(np.float64))
        spans = embedding.spans(hits.rows).tolist()
        found._passages = dict(zip(found._rows.tolist(), spans, strict=True))
        found.shortfall = k - len(found)
        return found

    def sample(self, n: int, *, seed: int = 0, target: Target | str | None = None) -> Anthology:
        """Return `n` different personas drawn at random: all alike, or so that they stand for a population.

        With a target the personas' probable traits are raked to it (`weighting.rake`), and personas are drawn with
        probabilities in proportion to their weights, at most 1 each; a trait that is not annotated counts as uniform.
        The members of the sample count alike. `found.representation` then holds the effective size, target, expected
        and drawn shares, and what cannot be met. Neither the order of this view nor anything but seed, personas and
        target matters. Shares of a survey's respondents make a target without any of their rows, see
        `crosswalks.target_of`.

        Args:
            n: Number of personas, 1 to as many as there are.
            seed: Of the draw.
            target: `population`, the shares in the codebook; or trait -> level -> share, with (trait, trait) ->
                (level, level) -> share for joint ones. A level that is not named has none; shares sum to 1.

        Warns:
            AnthologyWarning: If the target cannot be met; the message names the cells that are furthest off.

        Raises:
            OptionError: If there are not that many personas, or shares are negative or do not sum to 1.
            UnknownNameError: If a trait or level does not exist.

        Example:
            >>> people = Anthology.load("starter")
            >>> found = people.sample(40, target={"region": {"South": 0.5, "West": 0.5}, "gender": {"Female": 1.0}})
            >>> [round(found.margins("region")[level], 2) for level in ("South", "West")]
            [0.5, 0.5]
            >>> found.representation.unmet, round(found.representation.n_effective)
            ({}, 103)
        """
        if not 1 <= n <= len(self):
            raise OptionError(f"cannot sample {n} personas of {len(self)}: allowed are 1 to {len(self)}")
        if target is not None:
            return self._sample_for(n, target, seed=seed)
        at = np.sort(np.random.default_rng(seed).permutation(len(self))[:n])
        return self._view(self._chosen.take(at), None if self._scores is None else self._scores[at])

    def _sample_for(self, n: int, target: Target | str, *, seed: int) -> Anthology:
        wanted = target_shares(_target(target, self.codebook), self.codebook)
        probs = {name: self.distribution(name) for name in traits_in(wanted)}
        # As inclusion probabilities cannot be above 1, weights cannot be above len / n times their mean.
        raking = rake(probs, wanted, bounds=(0.0, len(self) / n))
        tied = self._shuffled(derive_seed(seed, "sample"))
        # People in line by their likeliest levels: no draw then has many more of a kind than expected.
        alike = [np.nan_to_num(table, nan=-1).argmax(axis=1)[tied] for table in probs.values()]
        at = draw(inclusion(raking.weights, n), tied[np.lexsort(alike)], seed=seed)
        found = self._view(self._chosen.take(at), None if self._scores is None else self._scores[at])
        found.representation = representation(raking, wanted, {t: p[at] for t, p in probs.items()}, self.codebook)
        if found.representation.unmet:
            warnings.warn(f"{found.representation.told} among {len(self)} personas", AnthologyWarning, stacklevel=3)
        return found

    def _shuffled(self, seed: int) -> NDArray[np.int64]:
        """Positions of this view in a random order that its own order has no part in."""
        import pyarrow.compute as pc

        by_id = pc.sort_indices(self._ids).to_numpy().astype(np.int64)
        return np.asarray(by_id[np.random.default_rng(seed).permutation(len(self))])

    # -- saving ------------------------------------------------------------------------------------------------------

    def save(
        self,
        folder: str | Path,
        *,
        release: str | None = None,
        card: CardText | str | None = None,
        changelog: str | None = None,
    ) -> Anthology:
        """Write this view as a release folder: whole or not at all.

        The same content gives the same bytes. An existing collection folder is replaced only by a complete new one; a
        folder that holds anything else is refused. A kill in the moment of replacing leaves the old folder whole beside
        its place, as `.NAME-old-*/old`.

        Args:
            folder: Where to.
            release: Version, `major.minor.patch`; the one it has, if not given.
            card: What the dataset card says beside what is counted, or a whole body in Markdown; what it said before,
                if not given.
            changelog: Content of CHANGELOG.md; the one it has, if not given.

        Returns:
            The saved collection, loaded.

        Raises:
            OptionError: If the folder holds something else, or the release is no version.
        """
        return Anthology.load(save_release(self._edition(release, card, changelog), folder))

    def diff(self, older: Anthology) -> Changes:
        """Return what changed from an older release: rows added, removed, changed, margins moved, version demanded.

        Example:
            >>> people = Anthology.load("starter")
            >>> changes = people.diff(people.sample(319))
            >>> len(changes.added), changes.demands
            (1, 'minor')
        """
        return compare(older._edition(), self._edition())

    def push(
        self,
        repo: str,
        *,
        release: str,
        public: bool = False,
        card: CardText | str | None = None,
        changelog: str = "",
        smallest_cell: int = SMALLEST_CELL,
    ) -> hub.Commit:
        """Publish this view as a release of a dataset repository: one commit, then the tag; private unless `public`.

        What changed since the release before is compared, and the version must be high enough for it (data semver). The
        same release again is a no-op. If somebody else publishes meanwhile, nothing of theirs is lost: this release is
        compared with theirs and refused if it does not follow.

        Args:
            repo: `namespace/name`, made if it is not there.
            release: Name of the tag, such as `v1.2.0`.
            public: Whether all may see it. Must agree with a repository that is there.
            card: See `save`.
            changelog: Entry for this release, Markdown without the heading; the one in its CHANGELOG.md, or one
                drafted from the difference, if not given.
            smallest_cell: Refuse population shares of the codebook that stand for fewer people of a study than this.

        Raises:
            DataError: If the token may not write, the release exists with other content, or content is not valid.
            OptionError: If the version is none, too low, or the visibility another.

        Example:
            Anthology.load("my-folder").push("lab/people", release="v1.0.0")
        """
        version = release.removeprefix("v")
        if not VERSION.fullmatch(version):
            raise OptionError(f"the release must be 'vmajor.minor.patch' as 'v1.0.0', got {release!r}")
        with tempfile.TemporaryDirectory() as work:

            def build(tags: Mapping[str, str]) -> Path:
                entry = f"## {version}\n\n{changelog}\n" if changelog else entry_of(self._store.changelog(), version)
                edition = self._edition(version, card, _history(self, repo, version, tags, entry))
                edition = replace(edition, text=replace(edition.text, repository=repo))
                folder = save_release(edition, tempfile.mkdtemp(dir=work))
                # As it lies there, with every checksum of its manifest.
                validate(read_release(hub.locate(folder)), smallest_cell=smallest_cell)
                return folder

            message = f"Release v{version}: {len(self):,} personas"
            return hub.publish(repo, build, tag=f"v{version}", manifest=MANIFEST, message=message, public=public)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _view(
        self,
        rows: Selection | NDArray[np.int64],
        scores: NDArray[np.float64] | None,
        *,
        store: Release | None = None,
    ) -> Anthology:
        view = Anthology(store or self._store, rows, scores)
        view._passages = self._passages
        return view

    def _embedding(self) -> tuple[str, Embedding]:
        if not self._store.embeddings:
            raise DataError(f"the collection {self._store.name!r} has no embeddings: call embed() first")
        slug = ENCODER if ENCODER in self._store.embeddings else next(iter(self._store.embeddings))
        return slug, self._store.embeddings[slug]

    def _edition(
        self, version: str | None = None, card: CardText | str | None = None, changelog: str | None = None
    ) -> Release:
        """This view as a release of its own."""
        store = self._store
        told = store.changelog() if changelog is None else changelog
        text = store.text if card is None else CardText(body=card) if isinstance(card, str) else card
        store = replace(store, version=store.version if version is None else version, text=text, changelog=lambda: told)
        if self._chosen.is_all:
            return store
        embeddings = {
            slug: Embedding(card=e.card, rows=Rows(_owned(e.rows, store.owners(f"{EMBEDDINGS}/{slug}"), self._chosen)))
            for slug, e in store.embeddings.items()
        }
        whole = f"{len(self)} of the {len(store.personas)} personas of {self.identity}"
        return replace(
            store,
            text=replace(text, selections=(whole, *text.selections)) if card is None else text,
            personas=Rows(store.personas.take(self._rows)),
            annotations=Rows(_owned(store.annotations, store.owners(ANNOTATIONS), self._chosen)),
            embeddings=embeddings,
            digest="",
            ids_digest="",
        )


def _history(people: Anthology, repo: str, version: str, tags: Mapping[str, str], entry: str) -> str:
    """The changelog of a release after those that are published, if it may follow them."""
    older = [tag for tag in tags if numbers(tag.removeprefix("v")) < numbers(version)]
    newer = [tag for tag in tags if numbers(tag.removeprefix("v")) > numbers(version)]
    if newer and f"v{version}" not in tags:
        raise OptionError(f"{repo} has {newer[-1]} already: a release below it cannot be added, give a higher one")
    if not older:
        return with_entry(
            people._store.changelog(), entry or f"## {version}\n\nFirst release: {len(people):,} personas.\n"
        )
    last = Anthology.load(repo, revision=tags[older[-1]])
    changes = people.diff(last)
    changes.check(version)
    return with_entry(last._store.changelog(), entry or changes.entry(version))


def _joined(old: Release, new: Release) -> Release:
    """The rows of one release and then of another that has the same traits; everything else is the first one's."""
    import pyarrow as pa

    def both(mine: Rows, others: Rows) -> Rows:
        order = [*mine.names, *(name for name in others.names if name not in mine.names)]
        return Rows(pa.concat_tables([mine.table, others.table], promote_options="default").select(order))

    embeddings = {}
    for slug, embedding in old.embeddings.items():
        if slug not in new.embeddings or new.embeddings[slug].card != embedding.card:
            raise DataError(f"the vectors of {old.name!r} were made by {embedding.card}: give that encoder")
        embeddings[slug] = Embedding(card=embedding.card, rows=both(embedding.rows, new.embeddings[slug].rows))
    return replace(
        old,
        personas=both(old.personas, new.personas),
        annotations=both(old.annotations, new.annotations),
        embeddings=embeddings,
        digest="",
        ids_digest="",
    )


def _of(store: Release) -> Anthology:
    return Anthology(store, Selection(len(store.personas)))


def _target(target: Target | str, codebook: Codebook) -> Target:
    if not isinstance(target, str):
        return target
    if target != "population":
        raise OptionError(f"unknown target {target!r}: give 'population', or shares as {{trait: {{level: share}}}}")
    return population(codebook)


@lru_cache(maxsize=2)
def _open_encoder(name: str) -> Encoder:
    return Encoder(name)


def _places(ids: pa.Array | pa.ChunkedArray, store: Release) -> NDArray[np.int64]:
    """Position of each persona in a release, MISSING where it does not hold them."""
    return positions(ids, store.personas.column("persona_id").combine_chunks(), np.int64)


def _owned(rows: Rows, owners: NDArray[np.int64], chosen: Selection) -> pa.Table:
    """The rows of some personas, in the order of the personas."""
    ranks = chosen.ranks[owners]
    found = np.flatnonzero(ranks >= 0)
    return rows.take(found[np.argsort(ranks[found], kind="stable")])


# -- tables ----------------------------------------------------------------------------------------------------------


def _tables(
    records: Iterable[Mapping[str, Any]], codebook: Codebook, provenance: dict[str, str]
) -> tuple[pa.Table, pa.Table]:
    import pyarrow as pa

    rows = iter(records)
    first = next(rows, {})
    rows = chain([first] if first else [], rows)
    schemas = _persona_schema(codebook, generated=GENERATION in first), _annotation_schema()
    names = schemas[0].names
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"traits cannot be named like columns of the personas: rename {', '.join(doubled)}")
    seen: dict[str, int] = {}
    parts = []
    # By batches: a row takes many times more memory as a Python object than in a table.
    while batch := list(islice(rows, BATCH)):
        if strange := [at for at, row in enumerate(batch, len(seen)) if (GENERATION in row) != (GENERATION in first)]:
            raise DataError(
                f"record {strange[0]} differs from the first in having {GENERATION!r}: give all or none of it"
            )
        made = _rows_of(batch, codebook, provenance, seen)
        parts.append([pa.Table.from_pylist(part, schema) for part, schema in zip(made, schemas, strict=True)])
    if not parts:
        raise EmptyError("a collection needs at least one backstory")
    personas, annotations = (pa.concat_tables(tables) for tables in zip(*parts, strict=True))
    return personas, annotations


def _rows_of(
    batch: Sequence[Mapping[str, Any]], codebook: Codebook, provenance: dict[str, str], seen: dict[str, int]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    personas: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, row in enumerate(batch, len(seen)):
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
    return personas, annotations


def _annotation(
    persona_id: str, text: str, row: Mapping[str, Any], name: str, codebook: Codebook, provenance: Mapping[str, str]
) -> dict[str, Any]:
    trait, value = codebook.trait(name), row["traits"][name]
    shares = {value: 1.0} if isinstance(value, str) else value
    if not isinstance(shares, Mapping):
        raise DataError(f"{name} must be a level or {{level: probability}}, got {value!r}: leave it out if not known")
    for level in shares:
        trait.code(level)
    if not _are_shares(shares.values(), len(shares)):
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
    top = {annotation["trait"]: _top_level(annotation) for annotation in annotations}
    return {
        "persona_id": persona_id,
        "backstory": text,
        "n_words": len(text.split()),
        **{name: provenance.get(name) for name in ("source", "generator", "generator_revision", "prompt_id")},
        "source_key": row.get("key"),
        "quality_flags": list(row.get("quality_flags", ())),
        GENERATION: row.get(GENERATION),
        **{trait.name: top.get(trait.name) for trait in codebook.traits},
    }


def _top_level(annotation: Mapping[str, Any]) -> str | None:
    best = int(np.argmax(annotation["probs"]))
    return str(annotation["levels"][best]) if annotation["probs"][best] >= CONFIDENCE else None


def _annotated(store: Release, rows: Sequence[Mapping[str, Any]], traits: Sequence[Trait]) -> Release:
    """A release with annotations of some traits in place of those it had."""
    import pyarrow as pa
    import pyarrow.compute as pc

    _check_annotations(store, rows, traits)
    codebook = _with_traits(store.codebook, traits)
    added = pa.Table.from_pylist(list(rows), _annotation_schema(sampled=True))
    old = store.annotations.table
    names = pa.array([trait.name for trait in traits], pa.string())
    table = pa.concat_tables([old.filter(pc.invert(pc.is_in(old["trait"], names))), added], promote_options="default")
    tops = {(row["trait"], row["persona_id"]): _top_level(row) for row in rows}
    personas, whole = store.personas.table, Selection(len(store.personas))
    before = {trait.name for trait in store.codebook.traits}
    columns = {name: personas[name] for name in personas.column_names if name not in before}
    for trait in codebook.traits:
        fresh = [tops.get((trait.name, persona_id)) for persona_id in store.ids]
        replaced = trait.name in names.to_pylist()
        columns[trait.name] = pa.array(fresh, pa.string()) if replaced else personas[trait.name]
    return replace(
        store,
        codebook=codebook,
        personas=Rows(pa.table(columns)),
        annotations=Rows(_owned(Rows(table), _places(table["persona_id"], store), whole)),
        digest="",
        source="",
    )


def _check_annotations(store: Release, rows: Sequence[Mapping[str, Any]], traits: Sequence[Trait]) -> None:
    levels = {trait.name: trait.levels for trait in traits}
    if taken := sorted(set(levels) & set(_persona_schema(replace(store.codebook, traits=())).names)):
        raise DataError(f"traits cannot be named like columns of the personas: rename {', '.join(taken)}")
    texts = store.personas.column("backstory")
    told: set[tuple[str, str]] = set()
    for row in rows:
        if absent := [name for name in ("persona_id", "trait", "levels", "probs") if row.get(name) is None]:
            raise DataError(f"an annotation has no {', '.join(absent)}, got {dict(row)!r:.200}: give each")
        persona_id, name, quote = row["persona_id"], row["trait"], row.get("evidence")
        if persona_id not in store.row_of:
            raise DataError(f"an annotation is of the persona {persona_id}, who is not in this view: leave out")
        if tuple(row["levels"]) != levels.get(name):
            raise DataError(f"an annotation of {name} has the levels {row['levels']}; the trait has "
                            f"{levels.get(name)}: give the trait as well, with these levels")  # fmt: skip
        if not _are_shares(row["probs"], len(row["levels"])):
            raise DataError(
                f"the probabilities of {name} of {persona_id} must be {len(row['levels'])} numbers, 0 or more, that "
                f"sum to 1, got {row['probs']}"
            )
        if (persona_id, name) in told:
            raise DataError(f"{persona_id} has two annotations of {name}: keep one of them")
        if quote is not None and quote not in texts[store.row_of[persona_id]].as_py():
            raise DataError(f"the evidence for {name} is not in the backstory of {persona_id}: {quote!r}")
        told.add((persona_id, name))


def _are_shares(values: Collection[object], n: int) -> bool:
    numbers = [float(value) for value in values if isinstance(value, Real)]
    return len(values) == len(numbers) == n and min(numbers, default=0) >= 0 and abs(sum(numbers) - 1) <= ROUNDING


def _with_traits(codebook: Codebook, traits: Sequence[Trait]) -> Codebook:
    given = {trait.name: trait for trait in traits}
    known = [given.pop(trait.name, trait) for trait in codebook.traits]
    return replace(codebook, traits=(*known, *given.values()))


def _persona_schema(codebook: Codebook, *, generated: bool = False) -> pa.Schema:
    import pyarrow as pa

    fields = {"persona_id": pa.string(), "backstory": pa.string(), "n_words": pa.int32()}
    for name in ("source", "generator", "generator_revision", "prompt_id", "source_key"):
        fields[name] = pa.string()
    fields["quality_flags"] = pa.list_(pa.string())
    fields |= {GENERATION: pa.string()} if generated else {}
    return pa.schema([*fields.items(), *((trait.name, pa.string()) for trait in codebook.traits)])


def _annotation_schema(*, sampled: bool = False) -> pa.Schema:
    import pyarrow as pa

    text, count = pa.string(), pa.int32()
    names = {"persona_id": text, "trait": text, "levels": pa.list_(text), "probs": pa.list_(pa.float32())}
    names |= dict.fromkeys(("n_samples", "n_refused", "n_noncompliant"), count)
    names |= dict.fromkeys(("method", "annotator", "annotator_revision", "evidence"), text)
    # What only a model has: replies that say several levels, and the mass on the option letters.
    return pa.schema([*names.items(), *([("n_ambiguous", count), ("mass", pa.float32())] if sampled else [])])


def _embed(store: Release, encoder: Encoder, known: Iterable[Release], **how: Any) -> pa.Table:  # noqa: ANN401
    """The rows of the passages: those that are known of the same texts, the others computed."""
    import pyarrow as pa

    ids = store.personas.column("persona_id").combine_chunks()
    missing, tables = np.ones(len(ids), dtype=bool), []
    for other in known:
        for slug in (slug for slug, embedding in other.embeddings.items() if embedding.card == encoder.card):
            owners = other.owners(f"{EMBEDDINGS}/{slug}")
            place = _places(ids, other)
            shared = missing & (place != MISSING) & np.isin(place, owners)
            tables.append(
                _owned(other.embeddings[slug].rows, owners, Selection(len(other.personas), rows=place[shared]))
            )
            missing &= ~shared
    tables.append(_encoded(store, encoder, np.flatnonzero(missing), **how))
    rows = Rows(pa.concat_tables([table.select(tables[-1].column_names).cast(tables[-1].schema) for table in tables]))
    return _owned(rows, _places(rows.column("persona_id"), store), Selection(len(ids)))


def _encoded(store: Release, encoder: Encoder, rows: NDArray[np.int64], **how: Any) -> pa.Table:  # noqa: ANN401
    """Passage vectors of the personas at some positions; `how` as in `embedded`."""
    import pyarrow as pa

    people = store.personas.take(rows, ["persona_id", "backstory"])
    found = embedded(people["backstory"].to_pylist(), encoder, **how)
    spans = np.array([span for passages in found for span in passages.spans], dtype=np.int32).reshape(-1, 2)
    owners = np.repeat(np.arange(len(found)), [len(passages.spans) for passages in found])
    vectors = np.concatenate([np.zeros(0, np.float32), *(passages.vectors.ravel() for passages in found)])
    return pa.table(
        {
            "persona_id": people["persona_id"].combine_chunks().take(pa.array(owners)),
            "passage": pa.array(np.arange(len(owners)) - np.searchsorted(owners, owners), pa.int32()),
            "start": pa.array(spans[:, 0]),
            "end": pa.array(spans[:, 1]),
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors), encoder.card.dimension),
        }
    )
