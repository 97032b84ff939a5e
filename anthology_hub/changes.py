"""What changed between two releases of a collection, and which version number that demands.

Versions follow data semver: major = the schema changed or ids are gone, minor = rows, annotations or embeddings were
added, patch = corrections. The number is checked by program, and the changelog entry is drafted from the difference.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from anthology_hub.errors import OptionError
from anthology_hub.release import VERSION, Release

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

MAJOR, MINOR, PATCH, NOTHING = "major", "minor", "patch", "nothing"
MOVED = 0.005
"""Margins are told from this difference of shares on."""


@dataclass(frozen=True, kw_only=True)
class Move:
    """A margin that moved: the mean probability of a level over the annotated personas."""

    trait: str
    level: str
    before: float
    after: float


@dataclass(frozen=True, kw_only=True)
class Changes:
    """The difference between two releases."""

    before: str
    """Version of the older one."""
    added: tuple[str, ...]
    """Ids of personas that only the newer one has."""
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    """Ids of personas with another row or other probabilities; a text cannot change without its id."""
    annotated: dict[str, int]
    """Trait -> personas of both releases that were not annotated for it before."""
    margins: tuple[Move, ...]
    breaking: tuple[str, ...]
    """What demands a major release beside removed ids, in words."""
    additions: tuple[str, ...]
    """What demands a minor release beside added rows and annotations, in words."""
    corrections: tuple[str, ...]
    """What demands a patch beside changed rows, in words."""

    @property
    def demands(self) -> str:
        """`major`, `minor`, `patch` or `nothing`: the smallest part of the version that must go up."""
        if self.removed or self.breaking:
            return MAJOR
        if self.added or self.annotated or self.additions:
            return MINOR
        return PATCH if self.changed or self.corrections else NOTHING

    @property
    def next_version(self) -> str:
        """The smallest version that may be given to the newer release.

        Example:
            >>> from anthology_hub import Anthology
            >>> people = Anthology.load("starter")
            >>> people.sample(100).diff(people).next_version
            '2.0.0'
        """
        major, minor, patch = numbers(self.before)
        told = {MAJOR: (major + 1, 0, 0), MINOR: (major, minor + 1, 0), PATCH: (major, minor, patch + 1)}
        return ".".join(map(str, told.get(self.demands, (major, minor, patch))))

    def check(self, version: str) -> None:
        """Raise unless the newer release may have this version.

        Raises:
            OptionError: If the version is not above the older one, or not far enough for what changed.
        """
        wanted, least = numbers(version), numbers(self.next_version)
        before = numbers(self.before)
        if wanted <= before:
            above = self.next_version if least > before else f"{before[0]}.{before[1]}.{before[2] + 1}"
            raise OptionError(f"release {version} is not above {self.before}: give {above} or higher")
        leap = MAJOR if wanted[0] > before[0] else MINOR if wanted[1] > before[1] else PATCH
        if wanted < least:
            raise OptionError(
                f"release {version} is a {leap} release after {self.before}, but {'; '.join(self.reasons())} demands a "
                f"{self.demands} release: give {self.next_version} or higher"
            )

    def reasons(self) -> list[str]:
        """What demands it, in words, the gravest kind only."""
        return {**self._told(), NOTHING: ["no change"]}[self.demands]

    def entry(self, version: str) -> str:
        """Draft the CHANGELOG entry of the newer release, in Markdown."""
        titles = {MAJOR: "Removed or breaking", MINOR: "Added", PATCH: "Corrected"}
        told = {titles[kind]: lines for kind, lines in self._told().items()}
        told["Margins that moved"] = [
            f"{move.trait}, {move.level}: {move.before:.3f} to {move.after:.3f}" for move in self.margins
        ]
        blocks = [
            f"### {title}\n\n" + "\n".join(f"- {line}" for line in lines) for title, lines in told.items() if lines
        ]
        return "\n\n".join([f"## {version}", *(blocks or ["No change of the data."])]) + "\n"

    def _told(self) -> dict[str, list[str]]:
        """What changed in words, by what it demands."""
        new = [f"{_people(count)} newly annotated for {trait}" for trait, count in self.annotated.items()]
        return {
            MAJOR: [*_count(self.removed, "removed"), *self.breaking],
            MINOR: [*_count(self.added, "added"), *new, *self.additions],
            PATCH: [*_count(self.changed, "corrected"), *self.corrections],
        }

    def to_dict(self) -> dict[str, Any]:
        """Return plain values: counts and words, and the ids."""
        names = ("before", "added", "removed", "changed", "annotated", "breaking", "additions", "corrections")
        plain = {name: getattr(self, name) for name in names}
        moves = [vars(move) for move in self.margins]
        return {**plain, "margins": moves, "demands": self.demands, "next_version": self.next_version}


def compare(old: Release, new: Release) -> Changes:
    """Return what changed from one release to another.

    Source: data semver as in the project's release folder: schema or ids, additions, corrections.
    """
    before, after = set(old.ids), set(new.ids)
    common = [persona_id for persona_id in old.ids if persona_id in after]
    shared = [trait.name for trait in old.codebook.traits if _levels(new, trait.name) == trait.levels]
    changed, annotated = _changed_rows(old, new, common, shared)
    return Changes(
        before=old.version,
        added=tuple(persona_id for persona_id in new.ids if persona_id not in before),
        removed=tuple(persona_id for persona_id in old.ids if persona_id not in after),
        changed=tuple(persona_id for persona_id, other in zip(common, changed, strict=True) if other),
        annotated=annotated,
        margins=tuple(move for trait in shared for move in _moves(old, new, trait)),
        breaking=tuple(_breaking(old, new)),
        additions=tuple(_additions(old, new)),
        corrections=tuple(_corrections(old, new, common)),
    )


def with_entry(changelog: str, entry: str) -> str:
    r"""Put an entry on top of a changelog, below its title, in place of one of the same version.

    Example:
        >>> print(with_entry("# Changelog\n\n## 1.0.0\n\nFirst.\n", "## 1.1.0\n\nMore.\n"))
        # Changelog
        <BLANKLINE>
        ## 1.1.0
        <BLANKLINE>
        More.
        <BLANKLINE>
        ## 1.0.0
        <BLANKLINE>
        First.
        <BLANKLINE>
    """
    title, entries = _parts(changelog)
    heading = entry.partition("\n")[0]
    kept = [one for one in entries if one.partition("\n")[0] != heading]
    return "\n\n".join(part.strip("\n") for part in (title or "# Changelog", entry, *kept)) + "\n"


def entry_of(changelog: str, version: str) -> str:
    r"""Return the entry of a version, with its heading; empty if there is none.

    Example:
        >>> entry_of("# Changelog\n\n## 1.1.0\n\nMore.\n\n## 1.0.0\n\nFirst.\n", "1.0.0")
        '## 1.0.0\n\nFirst.\n'
    """
    _, entries = _parts(changelog)
    return next((one for one in entries if one.partition("\n")[0] == f"## {version}"), "")


def _parts(changelog: str) -> tuple[str, list[str]]:
    """What stands above the first entry, and the entries."""
    title, *entries = re.split(r"^(?=## )", changelog, flags=re.MULTILINE)
    return title, entries


def numbers(version: str) -> tuple[int, int, int]:
    """Return the parts of a version, to compare by.

    Raises:
        OptionError: If it is none.
    """
    match = VERSION.fullmatch(version)
    if match is None:
        raise OptionError(f"the release must be 'major.minor.patch' as '1.0.0', got {version!r}")
    major, minor, patch = map(int, match.groups())
    return major, minor, patch


def _count(ids: tuple[str, ...], what: str) -> list[str]:
    return [f"{_people(len(ids))} {what}"] if ids else []


def _people(count: int) -> str:
    return f"{count:,} persona{'' if count == 1 else 's'}"


def _levels(release: Release, trait: str) -> tuple[str, ...]:
    return next((known.levels for known in release.codebook.traits if known.name == trait), ())


def _changed_rows(
    old: Release, new: Release, common: list[str], shared: list[str]
) -> tuple[NDArray[np.bool_], dict[str, int]]:
    """Which common personas differ in a column or a probability, and how many are newly annotated for each trait."""
    was, now = (np.array([release.row_of[name] for name in common], dtype=np.int64) for release in (old, new))
    differ = np.zeros(len(common), dtype=bool)
    annotated: dict[str, int] = {}
    plain = [name for name in old.personas.names if name in new.personas.names and name not in ("backstory", *shared)]
    for name in plain:
        left, right = (r.personas.column(name).take(rows).to_pylist() for r, rows in ((old, was), (new, now)))
        differ |= np.fromiter((a != b for a, b in zip(left, right, strict=True)), dtype=bool, count=len(common))
    for trait in shared:
        left, right = old.probs(trait)[was], new.probs(trait)[now]
        fresh = np.isnan(left).any(axis=1) & ~np.isnan(right).any(axis=1)
        annotated |= {trait: int(fresh.sum())} if fresh.any() else {}
        differ |= ~fresh & ~np.isclose(left, right, atol=1e-6, equal_nan=True).all(axis=1)
    return differ, annotated


def _moves(old: Release, new: Release, trait: str) -> list[Move]:
    shares = []
    for release in (old, new):
        probs = release.probs(trait)
        known = probs[~np.isnan(probs).any(axis=1)]
        shares.append(known.astype(np.float64).mean(axis=0) if len(known) else np.full(probs.shape[1], np.nan))
    return [
        Move(trait=trait, level=level, before=float(before), after=float(after))
        for level, before, after in zip(_levels(old, trait), *shares, strict=True)
        if abs(after - before) >= MOVED
    ]


def _breaking(old: Release, new: Release) -> list[str]:
    found = []
    for trait in old.codebook.traits:
        levels = _levels(new, trait.name)
        if levels != trait.levels:
            found.append(f"levels of {trait.name} changed" if levels else f"trait {trait.name} removed")
    found += [f"column {name} removed" for name in old.personas.names if name not in new.personas.names
              and name not in {trait.name for trait in old.codebook.traits}]  # fmt: skip
    for slug, embedding in old.embeddings.items():
        if slug not in new.embeddings:
            found.append(f"embeddings of {slug} removed")
        elif new.embeddings[slug].card != embedding.card:
            found.append(f"embeddings of {slug} made by another encoder")
    return [*found, *([f"licence changed from {old.licence} to {new.licence}"] if new.licence != old.licence else [])]


def _additions(old: Release, new: Release) -> list[str]:
    known = {trait.name for trait in old.codebook.traits}
    traits = [f"trait {trait.name} added" for trait in new.codebook.traits if trait.name not in known]
    return traits + [f"embeddings of {slug} added" for slug in new.embeddings if slug not in old.embeddings]


def _corrections(old: Release, new: Release, common: list[str]) -> list[str]:
    shared = {trait.name for trait in old.codebook.traits}
    found = []
    if replace(new.codebook, traits=tuple(t for t in new.codebook.traits if t.name in shared)) != old.codebook:
        found.append("codebook changed")
    places = np.array([new.row_of[persona_id] for persona_id in common])
    if (np.diff(places) < 0).any():
        found.append("order of the personas changed")
    if _lost_details(old, new, common):
        found.append("annotation details (method, annotator, evidence) changed")
    return found


def _lost_details(old: Release, new: Release, common: list[str]) -> bool:
    """Whether something that annotations of common personas say beside probabilities is not said any more."""
    import pyarrow.compute as pc

    names = [name for name in old.annotations.names if name not in ("levels", "probs")]
    if gone := [name for name in names if name not in new.annotations.names]:
        return bool(gone)
    was, now = (_without_nulls(release.annotations.columns(names)) for release in (old, new))
    kept = was.filter(pc.is_in(was["persona_id"], value_set=_strings(common)))
    return bool(kept.join(now, keys=names, join_type="left anti").num_rows)


def _without_nulls(table: pa.Table) -> pa.Table:
    """A join never finds a null equal to another."""
    import pyarrow as pa
    import pyarrow.compute as pc

    filled = [pc.fill_null(c, "" if pa.types.is_string(c.type) else -1) for c in table.columns]
    return pa.table(filled, names=table.column_names)


def _strings(values: list[str]) -> pa.Array:
    import pyarrow as pa

    return pa.array(values, pa.string())
