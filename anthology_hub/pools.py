"""Import of persona pools that exist: any file of personas to a collection, and a report of what was kept and what not.

A kind of pool is data: `data/pools/KIND.json` says which column is the backstory, which fields become which levels of
which trait, whose texts these are and under which licence. Nothing is lost in silence: empty texts, duplicates, levels
without a place and columns not used are counted in the report, doubtful texts are kept and flagged.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from anthology_hub.cards import CardText, Source, licence_id, licence_terms
from anthology_hub.collection import Anthology
from anthology_hub.errors import DataError, EmptyError, MissingExtraError, OptionError, UnknownNameError
from anthology_hub.schema import Codebook, Persona, Trait, read_shipped, shipped
from anthology_hub.tables import open_table

FLAGS: Mapping[str, str] = {
    "too_short": "fewer than 50 words",
    "not_first_person": "fewer than one of I, me, my, mine and myself in 50 words",
    "placeholder": "a slot or comment is left in it, as [city], {name}, (see above), TODO, 'as an AI'",
    "interview_markers": "Question:, Answer: or Interviewer: stands in what should be one voice",
    "truncated_ending": "does not end as a sentence does",
    "broken_characters": "was decoded wrongly somewhere: replacement characters, or pairs such as â€",
    "other_script": "more than a tenth of its letters are not Latin; then words and pronouns are not judged",
    "near_duplicate": "shares about as many of its five-word sequences as asked for, or more, with an earlier text",
}
"""Quality flags and their rules; a flagged text is kept, whoever uses it decides."""
FEWEST_WORDS = 50
LAYOUTS = ("plain", "story", "interview")
"""A text as it is; one answer whose question goes; an interview whose questions stay."""
ANNOTATOR = "fields of the source"

_FIRST = re.compile(r"\b(?:I|me|my|mine|myself)\b", re.IGNORECASE)
_SLOT = re.compile(
    r"\[[^\]\n]{1,40}\]|\{[^}\n]{1,40}\}|<[A-Za-z][^>\n]{0,40}>|\(see above\)|\(paraphrased\)"
    r"|\b(?:lorem ipsum|TODO|TBD|as an AI|AI language model)\b",
    re.IGNORECASE,
)
_SPEAKER = re.compile(r"\b(?:Question|Answer|Interviewer|Interviewee)[ \t]*\d*:|^[ \t]*[QA]:", re.MULTILINE)
_ENDING = re.compile(r"[.!?…。！？][\"'”’»)\]*]*\Z")
_BROKEN = re.compile("\ufffd|\u00e2\u20ac|\u00c3[\u0080-\u00bf]")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u200b\ufeff]")
_LETTER = re.compile(r"[^\W\d_]")
_NOT_LATIN = re.compile(r"[^\W\d_\u0000-\u024f]")
_GAPS = {"Question": "\n\n", "Answer": "\n"}
_TURN = re.compile(r"^[ \t]*(Question|Answer)[ \t]*\d*:[ \t]*", re.MULTILINE)
_SAME_LINE = re.compile(r"^([ \t]*Question[^\n]*?[?.!])[ \t]+(?=Answer[ \t]*\d*:)", re.MULTILINE)
_RANGE = re.compile(r"(\d+)(?:\.\d+)?(?:\s*(?:-|–|to)\s*(\d+)|\s*(\+|or more|and over|or older))?")


@dataclass(frozen=True, kw_only=True)
class Pool:
    """A kind of pool: how its files are read, and what is known of it."""

    title: str
    columns: Mapping[str, Sequence[str]]
    """Role (`backstory`, `key`, `trait:NAME`) -> names the column may have; dots reach into nested fields."""
    layout: str = "plain"
    codebook: str = ""
    """Name of the codebook that the traits are told in."""
    levels: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    """Trait -> level -> what the file calls it, where it does not call it the same."""
    source: str = ""
    url: str = ""
    licence: str = ""
    """SPDX name; empty: not known, the importer must say it."""
    licence_note: str = ""
    generator: str = ""
    about: str = ""
    biases: str = ""

    @classmethod
    def load(cls, kind: str) -> Pool:
        """Load a shipped kind by name, or one of the user's by path (anything that ends in `.json`).

        Raises:
            UnknownNameError: If there is no such kind, or its layout is none.
            DataError: If the file cannot be read, or has a field that a kind has not.

        Example:
            >>> Pool.load("personahub").licence
            'CC-BY-NC-SA-4.0'
        """
        value = {name: given for name, given in read_shipped("pools", kind).items() if name != "schema_version"}
        try:
            pool = cls(**value)
        except TypeError as error:
            allowed = ", ".join(cls.__dataclass_fields__)
            raise DataError(f"the kind of pool {kind!r} cannot be read: {error}; its fields are {allowed}") from error
        if pool.layout not in LAYOUTS:
            raise UnknownNameError("layout", pool.layout, LAYOUTS)
        _check_names(kind, "columns", pool.columns)
        for trait, names in _mapping(kind, "levels", pool.levels).items():
            _check_names(kind, f"levels of {trait}", names)
        return pool


@dataclass(frozen=True, kw_only=True)
class ImportReport:
    """What became of a file: rows = kept + empty + duplicates."""

    file: str
    sha256: str
    source: str
    licence: str
    rows: int
    kept: int
    empty: int
    """Rows without a text."""
    duplicates: tuple[tuple[str, str], ...]
    """(key of the text that was kept, key of the row that was dropped)."""
    flags: Mapping[str, int]
    unmapped: Mapping[str, Mapping[str, int]]
    """Trait -> value of the file that is no level -> rows; such a trait is left open."""
    missing: Mapping[str, int]
    """Trait -> kept rows that do not tell it."""
    unused: tuple[str, ...]
    """Columns of the file that nothing was made of."""
    warnings: tuple[str, ...]
    card: CardText = CardText()
    """What the card should say of this source: give it to `Anthology.save`."""

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {**asdict(self), "duplicates": [list(pair) for pair in self.duplicates], "card": self.card.to_dict()}

    def lines(self) -> list[str]:
        """Return the report as lines to read."""
        shown = [f"{self.rows} rows of {self.file}: {self.kept} kept, {self.empty} without a text, "]
        shown[0] += f"{len(self.duplicates)} exact duplicates dropped"
        if self.duplicates:
            pairs = ", ".join(f"{dropped} = {kept}" for kept, dropped in self.duplicates[:5])
            shown.append(f"  duplicates: {pairs}{' ...' if len(self.duplicates) > 5 else ''}")
        shown += [f"  flag {flag}: {count} ({FLAGS[flag]})" for flag, count in self.flags.items()]
        for trait, values in self.unmapped.items():
            most = ", ".join(f"{value!r} {count}" for value, count in list(values.items())[:5])
            shown.append(f"  {trait}: {sum(values.values())} rows whose value is no level: {most}")
        shown += [f"  {trait}: {count} rows do not tell it" for trait, count in self.missing.items() if count]
        shown += [f"  not used: {', '.join(self.unused)}"] if self.unused else []
        return shown + [f"warning: {warning}" for warning in self.warnings]


def _mapping(kind: str, what: str, given: object) -> Mapping[str, object]:
    if not isinstance(given, Mapping):
        raise DataError(f"the {what} of the kind of pool {kind!r} must be an object, got {given!r}: write it so")
    return given


def _check_names(kind: str, what: str, given: object) -> None:
    for name, names in _mapping(kind, what, given).items():
        if not isinstance(names, list):
            raise DataError(
                f"{name!r} in the {what} of the kind of pool {kind!r} must be a list of names, got {names!r}: write "
                f"[{names!r}]"
            )


class Imported(NamedTuple):
    """The collection and the report on it."""

    people: Anthology
    report: ImportReport


def kinds() -> dict[str, str]:
    """Return the shipped kinds of pools and what they are.

    Example:
        >>> sorted(kinds())
        ['alterity', 'anthology', 'goalpref', 'nemotron', 'personahub', 'plain', 'tinytroupe']
    """
    return {name: Pool.load(name).title for name in shipped("pools")}


def import_pool(
    path: str | Path,
    kind: str = "plain",
    *,
    name: str,
    licence: str = "",
    source: str = "",
    columns: Mapping[str, str] | None = None,
    levels: Mapping[str, Mapping[str, Sequence[str]]] | None = None,
    codebook: Codebook | None = None,
    near: float | None = None,
    limit: int | None = None,
    encoding: str = "utf-8-sig",
) -> Imported:
    """Read a pool of personas into a collection.

    A value becomes a level if it is one, if `levels` names it, or if it is a number or range inside the levels' own
    ranges (`34` in `30-49`; `25-34` is spread over `18-29` and `30-49` by years).

    Args:
        path: A parquet, JSONL, JSON, CSV or TSV file, or a folder of files of one of these kinds.
        kind: One of `kinds()`, or a JSON file of the same form.
        name: Name of the collection.
        licence: SPDX name of the texts' licence; the known one of the kind, if not given.
        source: Where the texts come from; the kind's, else the file's name, if not given.
        columns: Role -> column, where it differs from the kind's: `backstory`, `key`, `trait:NAME`. Several columns
            joined by `+` make one backstory of several paragraphs; dots reach into nested fields.
        levels: Trait -> level -> values of the file that mean it; added to the kind's.
        codebook: The traits; those of the kind that the file tells, if not given.
        near: Flag texts that share at least about this part (0 to 1) of their five-word sequences with an earlier one.
        limit: Read only so many rows.
        encoding: Of a text file.

    Returns:
        The collection, and the report with what its card should say.

    Raises:
        DataError: If the file cannot be read; the message names the line.
        EmptyError: If no row has a text.
        MissingExtraError: If near duplicates are asked for without the extra.
        OptionError: If the licence is not known, or a number is out of its range.
        UnknownNameError: If a kind, role, column, trait or level does not exist.
    """
    if limit is not None and limit < 1:
        raise OptionError(f"limit must be at least 1, got {limit}: leave it out to read all rows")
    pool = Pool.load(kind)
    licence = _known_licence(pool, licence, path)
    finder = None if near is None else NearFinder(near)
    table = open_table(Path(path), encoding=encoding)
    chosen, absent = _choose(pool, columns or {}, table.columns, path)
    book = _codebook(pool, codebook, chosen)
    coders = _coders(book, pool, levels or {}, chosen)
    tally = _Tally()
    records = _records(islice(table.rows(_tops(chosen)), limit), chosen, pool.layout, coders, finder, tally)
    origin = source or pool.source or table.files[0].name
    provenance = {"source": origin, "generator": pool.generator, "method": "author", "annotator": ANNOTATOR}
    given = {column: value for column, value in provenance.items() if value}
    try:
        people = Anthology.from_records(records, book, name=name, licence=licence, provenance=given)
    except EmptyError as error:
        raise EmptyError(
            f"{path} gives no persona: {tally.rows} rows, {tally.empty} without a text in {chosen['backstory']!r}; "
            f"the columns are {', '.join(table.columns) or 'none'}: name another by columns={{'backstory': ...}}"
        ) from error
    report = ImportReport(
        file=Path(path).name,
        sha256=table.sha256,
        source=origin,
        licence=licence,
        rows=tally.rows,
        kept=len(people),
        empty=tally.empty,
        duplicates=tuple(tally.duplicates),
        flags={flag: tally.flags[flag] for flag in FLAGS if tally.flags[flag]},
        unmapped={trait: dict(values.most_common()) for trait, values in tally.unmapped.items()},
        missing=dict(tally.missing),
        unused=tuple(column for column in table.columns if column not in _tops(chosen)),
        warnings=tuple(_warnings(pool, licence, absent)),
    )
    return Imported(people, replace(report, card=_card(pool, report)))


def quality_flags(text: str, *, answers: str | None = None) -> list[str]:
    """Return the quality flags of a backstory; their rules are in `FLAGS`.

    Args:
        text: The whole backstory.
        answers: What the persona says of it, if it is an interview: the questions are not the persona's voice.

    Example:
        >>> quality_flags("She lives in [city] and")
        ['too_short', 'not_first_person', 'placeholder', 'truncated_ending']
    """
    said = text if answers is None else answers
    words = len(said.split())
    foreign = not said.isascii() and len(_NOT_LATIN.findall(said)) * 10 > len(_LETTER.findall(said))
    found = {
        "too_short": not foreign and words < FEWEST_WORDS,
        "not_first_person": not foreign and len(_FIRST.findall(said)) * 50 < words,
        "placeholder": bool(_SLOT.search(said)),
        "interview_markers": bool(_SPEAKER.search(said)),
        "truncated_ending": not _ENDING.search(said),
        "broken_characters": bool(_BROKEN.search(text)),
        "other_script": foreign,
    }
    return [flag for flag, holds in found.items() if holds]


# -- texts -----------------------------------------------------------------------------------------------------------


def _clean(text: str) -> str:
    """One kind of line end, no control characters, no blank ends, at most one empty line; nothing else is changed."""
    # A lone surrogate is legal in JSON but can neither be hashed nor stored.
    text = text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    lines = (line.rstrip() for line in _CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n")).split("\n"))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def _laid_out(text: str, layout: str) -> tuple[str, str]:
    """Return a text in its layout, and the part of it that the persona says."""
    text = _clean(text)
    if layout == "plain":
        return text, text
    before, *marked = _TURN.split(_SAME_LINE.sub(r"\1\n", text))
    turns = [(mark, body.strip()) for mark, body in zip(marked[::2], marked[1::2], strict=True)]
    said = "\n\n".join(filter(None, [before.strip(), *(body for mark, body in turns if mark == "Answer")]))
    if not said:
        return "", ""
    if layout == "story" and not before and [mark for mark, _ in turns] == ["Question", "Answer"]:
        return said, said
    told = "".join(f"{_GAPS[mark]}{mark}: {body}".rstrip() for mark, body in turns)
    whole = (before.strip() + told).strip()
    # A story that goes on with questions of its own is not one voice: the flag is to see its markers.
    return whole, said if layout == "interview" else whole


class NearFinder:
    """Finds texts whose five-word sequences overlap with an earlier text's, by MinHash."""

    def __init__(self, share: float) -> None:
        if not 0 < share < 1:
            raise OptionError(f"near must be above 0 and below 1, got {share}: 0.8 finds light rewordings")
        try:
            from datasketch import MinHash, MinHashLSH
        except ImportError as error:
            raise MissingExtraError("datasketch", "pools", "near duplicates") from error
        self._hash, self._share, self._seen = MinHash, share, MinHashLSH(threshold=share, num_perm=128)
        self._hashes: list[Any] = []

    def seen_before(self, text: str) -> bool:
        """Say whether an earlier text is near to this one, and keep it in mind."""
        words = re.findall(r"\w+", text.lower())
        runs = {" ".join(words[at : at + 5]).encode() for at in range(max(1, len(words) - 4))}
        mine = self._hash(num_perm=128)
        mine.update_batch(sorted(runs))
        close = [other for other in self._seen.query(mine) if self._hashes[other].jaccard(mine) >= self._share]
        self._seen.insert(len(self._hashes), mine)
        self._hashes.append(mine)
        return bool(close)


# -- rows ------------------------------------------------------------------------------------------------------------


@dataclass
class _Tally:
    """Counts while rows go by."""

    rows: int = 0
    empty: int = 0
    duplicates: list[tuple[str, str]] = field(default_factory=list)
    flags: Counter[str] = field(default_factory=Counter)
    unmapped: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    missing: Counter[str] = field(default_factory=Counter)


def _records(
    rows: Iterable[Mapping[str, Any]],
    chosen: Mapping[str, str],
    layout: str,
    coders: Mapping[str, _Coder],
    near: NearFinder | None,
    tally: _Tally,
) -> Iterator[dict[str, Any]]:
    """One record at a time, so that a million rows need not stand in memory as Python objects."""
    keys: dict[str, str] = {}
    for row in rows:
        tally.rows += 1
        text, said = _laid_out(_backstory(row, chosen["backstory"]), layout)
        if not text:
            tally.empty += 1
            continue
        key = _clean(_shown(_value(row, chosen["key"]))) if "key" in chosen else ""
        key, persona_id = key or str(tally.rows), Persona.id_of(text)
        if persona_id in keys:
            tally.duplicates.append((keys[persona_id], key))
            continue
        keys[persona_id] = key
        flags = quality_flags(text, answers=said)
        if near is not None and near.seen_before(said):
            flags.append("near_duplicate")
        tally.flags.update(flags)
        yield {"backstory": text, "key": key, "quality_flags": flags, "traits": _traits(row, chosen, coders, tally)}


def _traits(
    row: Mapping[str, Any], chosen: Mapping[str, str], coders: Mapping[str, _Coder], tally: _Tally
) -> dict[str, str | dict[str, float]]:
    found: dict[str, str | dict[str, float]] = {}
    for trait, coder in coders.items():
        shown = _shown(_value(row, chosen[f"trait:{trait}"]))
        level = coder.level(shown) if shown else None
        if level is not None:
            found[trait] = level
        elif shown:
            tally.unmapped[trait][shown] += 1
        else:
            tally.missing[trait] += 1
    return found


class _Coder:
    """Values of a file to levels of one trait."""

    def __init__(self, trait: Trait, *named: Mapping[str, Sequence[str]]) -> None:
        self._levels: dict[str, str | dict[str, float] | None] = {level.casefold(): level for level in trait.levels}
        for level, values in ((level, values) for names in named for level, values in names.items()):
            trait.code(level)
            self._levels |= dict.fromkeys((str(value).casefold() for value in values), level)
        self._ranges = {level: found for level in trait.levels if (found := _range(level))}

    def level(self, shown: str) -> str | dict[str, float] | None:
        """Return the level, shares of several levels, or None; the answer is kept, for values repeat."""
        name = shown.casefold()
        if name not in self._levels:
            self._levels[name] = self._by_range(shown)
        return self._levels[name]

    def _by_range(self, shown: str) -> str | dict[str, float] | None:
        if not (own := _range(shown)):
            return None
        low, high = own
        if math.isinf(high):
            return next((level for level, (a, b) in self._ranges.items() if b == high and a <= low), None)
        common = {level: min(high, b) - max(low, a) + 1 for level, (a, b) in self._ranges.items()}
        shares = {level: years / (high - low + 1) for level, years in common.items() if years > 0}
        if abs(sum(shares.values()) - 1) > 1e-9:
            return None
        return next(iter(shares)) if len(shares) == 1 else shares


def _range(text: str) -> tuple[float, float] | None:
    """Read `34`, `25-34`, `65+` or `8 or more` as the range it names."""
    if not (found := _RANGE.fullmatch(text.strip())):
        return None
    low, high, above = found.groups()
    top = math.inf if above else float(high or low)
    return (float(low), top) if top >= float(low) else None


def _value(row: Mapping[str, Any], column: str) -> object:
    """A field by its name, or by the way to it."""
    if column in row:
        return row[column]
    head, _, rest = column.partition(".")
    inner = row.get(head)
    return _value(inner, rest) if rest and isinstance(inner, Mapping) else None


def _backstory(row: Mapping[str, Any], column: str) -> str:
    parts = [column] if column in row else column.split("+")
    texts = (_value(row, part) for part in parts)
    return "\n\n".join(text for text in texts if isinstance(text, str))


def _shown(value: object) -> str:
    """A value as a text; empty for what is not known."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return str(int(value) if isinstance(value, float) and value.is_integer() else value).strip()


# -- columns ---------------------------------------------------------------------------------------------------------


def _choose(
    pool: Pool, given: Mapping[str, str], there: Sequence[str], path: str | Path
) -> tuple[dict[str, str], list[str]]:
    """Return role -> column, and what the kind would also read but the file does not have."""
    for role, column in given.items():
        if role not in ("backstory", "key") and not role.startswith("trait:"):
            raise UnknownNameError("role of a column", role, ("backstory", "key", "trait:NAME"))
        for part in [column] if column in there else column.split("+"):
            _need_column(part, there, path)
    chosen: dict[str, str] = {}
    absent = []
    for role, names in pool.columns.items():
        found = [name for name in names if name in there or name.partition(".")[0] in there]
        if role not in given and not found:
            absent.append(f"{role} ({' or '.join(names)})")
        chosen |= {role: found[0]} if found else {}
    chosen |= given
    if "backstory" not in chosen:
        _need_column(pool.columns.get("backstory", ["backstory"])[0], there, path)
    return chosen, absent


def _need_column(column: str, there: Sequence[str], path: str | Path) -> None:
    if column not in there and column.partition(".")[0] not in there:
        raise UnknownNameError(f"column in {Path(path).name}", column, there)


def _tops(chosen: Mapping[str, str]) -> list[str]:
    """Columns to read: every name that a chosen one may mean."""
    parts = [part for column in chosen.values() for part in (column, *column.split("+"))]
    return list(dict.fromkeys(name for part in parts for name in (part, part.partition(".")[0])))


def _codebook(pool: Pool, given: Codebook | None, chosen: Mapping[str, str]) -> Codebook:
    names = [role.removeprefix("trait:") for role in chosen if role.startswith("trait:")]
    book = given or (Codebook.load(pool.codebook) if pool.codebook else Codebook(name=pool.title, traits=()))
    traits = {name: book.trait(name) for name in names}
    if given:
        return given
    told = tuple(trait for trait in book.traits if trait.name in traits)
    return Codebook(name=book.name, traits=told, population_source=book.population_source if told else "")


def _coders(
    book: Codebook, pool: Pool, levels: Mapping[str, Mapping[str, Sequence[str]]], chosen: Mapping[str, str]
) -> dict[str, _Coder]:
    told = [trait for trait in book.traits if f"trait:{trait.name}" in chosen]
    for name in levels:
        if name not in {trait.name for trait in told}:
            raise UnknownNameError("trait with levels", name, (trait.name for trait in told))
    return {t.name: _Coder(t, pool.levels.get(t.name, {}), levels.get(t.name, {})) for t in told}


# -- words -----------------------------------------------------------------------------------------------------------


def _known_licence(pool: Pool, given: str, path: str | Path) -> str:
    if licence := given.strip() or pool.licence:
        return licence
    raise OptionError(
        f"the licence of {path} is not known, got {given!r}: look at its source and give licence= by its SPDX name, "
        "as 'CC-BY-4.0'; nobody may pass on texts without one"
    )


def _warnings(pool: Pool, licence: str, absent: Sequence[str]) -> list[str]:
    said = list(licence_terms(licence))
    if licence_id(licence) == "other":
        said.append(f"The Hub has no name for the licence {licence!r}: put its text into the release as LICENSE.")
    if pool.licence and licence != pool.licence:
        said.append(f"The licence given is {licence}; the one known of {pool.source} is {pool.licence}.")
    elif pool.licence_note:
        said.append(f"{licence}: {pool.licence_note}")
    return said + [f"The file has no column for {role}, which other files of this kind have." for role in absent]


def _card(pool: Pool, report: ImportReport) -> CardText:
    known = report.source == pool.source and report.licence == pool.licence
    source = Source(
        name=report.source,
        licence=report.licence,
        url=pool.url if report.source == pool.source else "",
        note=pool.licence_note if known else "",
    )
    made = (
        f"Imported with `anthology_hub` from `{report.file}` (SHA-256 `{report.sha256}`): {report.rows} rows, "
        f"{report.kept} kept, {report.empty} without a text and {len(report.duplicates)} exact duplicates left out. "
        "Texts were cleaned of control characters and blank ends only. Traits are the source's own fields, told in "
        "levels of the codebook; what had no level was left open."
    )
    return CardText(about=pool.about, biases=pool.biases, made=made, sources=(source,))
