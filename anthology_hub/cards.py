"""Cards: the README of a collection and of a results repository, with metadata that the Hub accepts.

What a program can count is counted here; what only the author knows (`CardText`) is kept with the release and told
again by the next one. The same content gives the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

from anthology_hub.errors import DataError, OptionError
from anthology_hub.schema import DATA, Codebook, Trait
from anthology_hub.weighting import kl_divergence

if TYPE_CHECKING:
    import jinja2
    import pyarrow as pa

T = TypeVar("T")

TEMPLATES = DATA / "cards"
TAGS = ("personas", "backstories", "survey-simulation", "synthetic", "anthology-hub")
RESULT_TAGS = ("leaderboard", "evaluation", "survey-simulation", "anthology-hub")
SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))
"""The Hub's names for numbers of rows."""
NOTABLE = 0.05
"""A level whose share is farther than this from the population's is named among the biases."""
MEASURED = ("located", "sampled", "logprob")
"""Methods of annotation in which a model reads the text; `author` is what the text was written from."""
_SELECTION = "> **A selection:** {}. The figures are the selection's own; what the author says was said of the whole."
_NAMES = """
    apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 bigcode-openrail-m
    afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0 cc-by-2.0 cc-by-2.5
    cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0
    cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0
    cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0
    lgpl lgpl-2.1 lgpl-3.0 isc lppl-1.3c ms-pl mpl-2.0 odc-by odbl osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib pddl
    lgpl-lr gemma llama2
"""
LICENCES = frozenset(_NAMES.split())
"""What the Hub calls licences (docs/hub/repositories-licenses); any other name needs `license: other`."""


class EncoderFacts(Protocol):
    """What a card tells of an encoder; `encoding.EncoderCard` is one."""

    @property
    def model(self) -> str:
        """Hub id."""

    @property
    def revision(self) -> str:
        """Exact version of the weights."""

    @property
    def dimension(self) -> int:
        """Length of a vector."""

    @property
    def max_tokens(self) -> int:
        """Longest passage that is read whole."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where texts come from, and under which licence."""

    name: str
    """Hub id `namespace/name`, or any name."""
    licence: str
    """SPDX name, as `CC-BY-4.0`."""
    url: str = ""
    note: str = ""
    """What is known, and what is not, of the licence."""


@dataclass(frozen=True, kw_only=True)
class CardText:
    """What only the author of a collection knows: Markdown, kept in the manifest and told again by later releases."""

    title: str = ""
    """Heading and pretty name; the collection's name, if empty."""
    repository: str = ""
    """Where it is published, `namespace/name`; told in the lines that load it."""
    about: str = ""
    """What it is, who wrote it, and what for."""
    made: str = ""
    """How it was made and checked."""
    biases: str = ""
    misuse: str = ""
    """What it must not be used for, beside what every collection must not."""
    languages: tuple[str, ...] = ("en",)
    sources: tuple[Source, ...] = ()
    authors: str = ""
    """For the citation: names joined by ` and `."""
    year: str = ""
    selections: tuple[str, ...] = ()
    """Of what whole this is a selection, newest first; written by saving."""
    body: str = ""
    """The whole body in the author's own words; the template is not used then."""

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form: what is not as by default.

        Example:
            >>> CardText(title="Farmers").to_dict()
            {'title': 'Farmers'}
        """
        given = asdict(self)
        return {one.name: _plain(given[one.name]) for one in fields(self) if getattr(self, one.name) != one.default}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Self:
        """Build from the JSON form.

        Raises:
            DataError: If a field is unknown, missing or no text; the message names the fields that there are.

        Example:
            >>> CardText.from_dict({"title": "Farmers"}).languages
            ('en',)
        """
        known = {one.name: one.default for one in fields(cls)}
        if strange := [name for name in value if name not in known]:
            raise DataError(f"a card has no field {strange[0]!r}: allowed are {', '.join(known)}")
        for name, given in value.items():
            if not isinstance(given, str if isinstance(known[name], str) else list | tuple):
                kind = "a text" if isinstance(known[name], str) else "a list"
                raise DataError(f"the card's field {name!r} must be {kind}, got {given!r}: write it so")
        lists = {name: tuple(given) for name, given in value.items() if not isinstance(given, str)}
        try:
            sources = tuple(Source(**source) for source in lists.pop("sources", ()))
        except TypeError as error:
            allowed = ", ".join(one.name for one in fields(Source))
            raise DataError(f"a source on a card has the fields {allowed}, the first two needed: {error}") from error
        return cls(**{**value, **lists, "sources": sources})


@dataclass(frozen=True, kw_only=True)
class CollectionFacts:
    """What a program can say of a release; `collection_facts` counts it."""

    name: str
    release: str
    licence: str
    codebook: Codebook
    personas: int
    words: Mapping[str, int]
    """Words of a backstory: shortest, median, mean, longest; and total."""
    flags: Mapping[str, int]
    """Quality flag -> personas that bear it."""
    flagged: int
    """Personas with any flag."""
    origins: Mapping[str, int]
    """Source -> personas."""
    generators: Mapping[str, int]
    margins: Mapping[str, Mapping[str, float]]
    """Trait -> level -> mean probability over the annotated; traits without annotation are left out."""
    annotated: Mapping[str, int]
    """Trait -> personas with an annotation."""
    confidence: Mapping[str, float]
    """Trait -> mean probability of the top level."""
    quoted: Mapping[str, int]
    """Trait -> annotations that show a quote from the text."""
    methods: Mapping[tuple[str, str], int]
    """(method, annotator) -> annotations."""
    encoders: Mapping[str, EncoderFacts] = field(default_factory=dict)
    text: CardText = CardText()


@dataclass(frozen=True, kw_only=True)
class _MarginRow:
    trait: str
    level: str
    share: float
    population: float | None
    divergence: float | None
    """KL of the whole trait, on the row of its first level only."""

    @property
    def gap(self) -> float:
        return 0.0 if self.population is None else self.share - self.population


def licence_id(licence: str) -> str:
    """Return the Hub's name of an SPDX licence; `other` where the Hub has none.

    Example:
        >>> licence_id("CC-BY-4.0"), licence_id("GPL-3.0-or-later"), licence_id("ODbL-1.0"), licence_id("My terms")
        ('cc-by-4.0', 'gpl-3.0', 'odbl', 'other')
    """
    name = re.sub(r"-(only|or-later)$", "", licence.strip().lower())
    family = re.sub(r"-[\d.]+$", "", name)
    return next((known for known in (name, family) if known in LICENCES), "other")


def licence_terms(licence: str) -> tuple[str, ...]:
    """Return what a licence forbids or binds to, one sentence each; empty for free ones.

    Example:
        >>> licence_terms("CC-BY-NC-4.0")
        ('CC-BY-NC-4.0 forbids commercial use.',)
        >>> licence_terms("MIT")
        ()
    """
    parts = set(re.split(r"[-\s]", licence.lower()))
    said = {
        "forbids commercial use": "nc" in parts,
        "forbids passing on changed versions, of which a collection made from it is one": "nd" in parts,
        "binds what is made from it to the same licence": parts & {"sa", "gpl", "agpl", "odbl", "sharing"},
    }
    return tuple(f"{licence} {terms}." for terms, holds in said.items() if holds)


def collection_facts(
    personas: pa.Table,
    annotations: pa.Table,
    *,
    name: str,
    release: str,
    licence: str,
    codebook: Codebook,
    encoders: Mapping[str, EncoderFacts] | None = None,
    text: CardText | None = None,
) -> CollectionFacts:
    """Count what the card of a release tells, from its two tables.

    Args:
        personas: Table of the personas, as in a release folder.
        annotations: Table of the annotations, likewise.
        name: Name of the collection.
        release: Version.
        licence: SPDX name.
        codebook: The traits.
        encoders: Folder name -> encoder, for each set of embeddings.
        text: What the author says.
    """
    import pyarrow.compute as pc

    flags = personas["quality_flags"].combine_chunks()
    known = [trait for trait in codebook.traits if pc.any(pc.equal(annotations["trait"], trait.name)).as_py()]
    rows = {trait.name: annotations.filter(pc.field("trait") == trait.name) for trait in known}
    methods = annotations.group_by(["method", "annotator"]).aggregate([([], "count_all")]).to_pylist()
    return CollectionFacts(
        name=name,
        release=release,
        licence=licence,
        codebook=codebook,
        personas=personas.num_rows,
        words=_words(personas["n_words"]),
        flags=_counts(flags.flatten()),
        flagged=int(pc.sum(pc.greater(pc.fill_null(pc.list_value_length(flags), 0), 0)).as_py() or 0),
        origins=_counts(personas["source"]),
        generators=_counts(personas["generator"]),
        margins={trait: _margins(table, codebook.trait(trait)) for trait, table in rows.items()},
        annotated={trait: pc.count_distinct(table["persona_id"]).as_py() for trait, table in rows.items()},
        confidence={trait: _confidence(table) for trait, table in rows.items()},
        quoted={trait: pc.count(table["evidence"]).as_py() for trait, table in rows.items()},
        methods=_ordered({(one["method"], one["annotator"] or ""): one["count_all"] for one in methods}),
        encoders=dict(encoders or {}),
        text=text or CardText(),
    )


def collection_card(facts: CollectionFacts) -> str:
    """Return the README of a collection: YAML for the Hub, then what a reader must know.

    Raises:
        OptionError: If the name or the licence is empty.
    """
    if not facts.name.strip() or not facts.licence.strip():
        raise OptionError(
            f"a card needs a name and a licence, got {facts.name!r} and {facts.licence!r}: say 'unknown' where it is"
        )
    head = _front_matter(_collection_metadata(facts))
    notes = "".join(f"{_SELECTION.format(_line(whole))}\n\n" for whole in facts.text.selections)
    if facts.text.body:
        return head + notes + facts.text.body
    rows = _margin_rows(facts)
    body = (
        _environment()
        .get_template("collection.md")
        .render(
            facts=facts,
            text=facts.text,
            notes=notes,
            title=facts.text.title or facts.name,
            repository=facts.text.repository or "FOLDER-OR-REPOSITORY",
            sources=facts.text.sources,
            terms=_terms(facts),
            rows=rows,
            far=sorted((row for row in rows if abs(row.gap) >= NOTABLE), key=lambda row: -abs(row.gap))[:8],
            bibtex_key=re.sub(r"\W+", "-", facts.name).strip("-").lower() or "collection",
            MEASURED=MEASURED,
        )
    )
    return head + body


def results_card(
    name: str,
    *,
    licence: str = "CC-BY-4.0",
    repository: str = "",
    boards: Mapping[str, Sequence[Mapping[str, object]]] | None = None,
    notes: Sequence[str] = (),
) -> str:
    r"""Return the README of a results repository.

    Args:
        name: Name of the leaderboard.
        licence: SPDX name of the licence of what is pushed.
        repository: Where it is published, `namespace/name`.
        boards: Title -> lines of a table, each column -> value; the columns are those of the first line. Figures are
            written with three digits, None as a dash.
        notes: Said below the tables.

    Example:
        >>> card = results_card("Panel", boards={"gss": [{"rank": 1, "model": "a|b", "wd": 0.25}]})
        >>> print(card[card.index("| rank"):].splitlines()[2])
        | 1 | a\|b | 0.250 |
    """
    metadata = {
        "pretty_name": _line(name),
        **_licence_metadata(licence),
        "tags": list(RESULT_TAGS),
        "configs": [
            _config("leaderboard", "leaderboard/*.parquet", default=True),
            _config("runs", "runs-parquet/**/*.parquet"),
        ],
    }
    body = (
        _environment()
        .get_template("results.md")
        .render(
            name=name,
            licence=licence,
            repository=repository or "NAMESPACE/NAME",
            boards={title: markdown_table(lines) for title, lines in (boards or {}).items() if lines},
            notes=notes,
        )
    )
    return _front_matter(metadata) + body


def markdown_table(lines: Sequence[Mapping[str, object]]) -> str:
    r"""Return a Markdown table; its columns are those of the first line.

    Example:
        >>> print(markdown_table([{"who": "a|b", "share": 0.5}, {"who": "c", "share": None}]))
        | who | share |
        | --- | --- |
        | a\|b | 0.500 |
        | c | – |
    """
    columns = list(lines[0])
    body = [[line.get(column) for column in columns] for line in lines]
    cells: list[Sequence[object]] = [columns, ["---"] * len(columns), *body]
    return "\n".join(f"| {' | '.join(_cell(value) for value in row)} |" for row in cells)


# -- counting --------------------------------------------------------------------------------------------------------


def _ordered(counts: Mapping[T, int]) -> dict[T, int]:
    """The most frequent first, then by name."""
    return dict(sorted(counts.items(), key=lambda pair: (-pair[1], str(pair[0]))))


def _counts(values: pa.Array) -> dict[str, int]:
    counted = ((one["values"], one["counts"]) for one in values.value_counts().to_pylist())
    return _ordered({value: count for value, count in counted if value is not None})


def _words(column: pa.ChunkedArray) -> dict[str, int]:
    import numpy as np

    words = column.to_numpy()
    shares = {"shortest": words.min(), "median": np.median(words), "mean": words.mean(), "longest": words.max()}
    return {name: round(float(value)) for name, value in {**shares, "total": words.sum()}.items()}


def _margins(rows: pa.Table, trait: Trait) -> dict[str, float]:
    import pyarrow as pa

    levels, probs = (rows[name].combine_chunks().flatten() for name in ("levels", "probs"))
    flat = pa.table({"level": levels, "prob": probs.cast(pa.float64())})
    # One thread: the order of a sum changes its last digit.
    sums = flat.group_by("level", use_threads=False).aggregate([("prob", "sum")]).to_pylist()
    by_level = {one["level"]: one["prob_sum"] / rows.num_rows for one in sums}
    return {level: by_level.get(level, 0.0) for level in trait.levels}


def _confidence(rows: pa.Table) -> float:
    import numpy as np

    probs = rows["probs"].combine_chunks()
    starts = probs.offsets.to_numpy()[:-1] - probs.offsets[0].as_py()
    return float(np.maximum.reduceat(probs.flatten().to_numpy(), starts).astype(np.float64).mean())


def _margin_rows(facts: CollectionFacts) -> list[_MarginRow]:
    rows = []
    for trait in facts.codebook.traits:
        shares = facts.margins.get(trait.name, {})
        known = trait.population or [None] * len(trait.levels)
        divergence = kl_divergence(list(shares.values()), trait.population) if shares and trait.population else None
        for at, (level, share) in enumerate(shares.items()):
            row = _MarginRow(
                trait=trait.name,
                level=level,
                share=share,
                population=known[at],
                divergence=None if at else divergence,
            )
            rows.append(row)
    return rows


def _terms(facts: CollectionFacts) -> list[str]:
    licences = dict.fromkeys([facts.licence, *(source.licence for source in facts.text.sources)])
    return [sentence for licence in licences for sentence in licence_terms(licence)]


# -- metadata --------------------------------------------------------------------------------------------------------


def _collection_metadata(facts: CollectionFacts) -> dict[str, Any]:
    slugs = {f"embeddings-{slug}": f"embeddings/{slug}" for slug in facts.encoders}
    paths = {"personas": "personas", "annotations": "annotations", **slugs}
    return {
        "pretty_name": _line(facts.text.title or facts.name),
        **_licence_metadata(facts.licence),
        "language": list(facts.text.languages),
        "size_categories": [next((size for most, size in SIZES if facts.personas < most), "10M<n<100M")],
        "task_categories": ["text-generation"],
        "annotations_creators": _creators({method for method, _ in facts.methods}),
        "source_datasets": _source_datasets(facts.text.sources),
        "tags": list(TAGS),
        "configs": [
            _config(name, f"{path}/train-*.parquet", default=name == "personas") for name, path in paths.items()
        ],
    }


def _licence_metadata(licence: str) -> dict[str, str]:
    name = licence_id(licence)
    return {"license": name} | ({"license_name": _slug(licence)} if name == "other" else {})


def _creators(methods: set[str]) -> list[str]:
    found = [*(["machine-generated"] if methods & set(MEASURED) else []), *(["found"] if "author" in methods else [])]
    return found or ["no-annotation"]


def _source_datasets(sources: Iterable[Source]) -> list[str]:
    names = [source.name for source in sources if re.fullmatch(r"[\w.-]+/[\w.-]+", source.name)]
    return list(dict.fromkeys(names)) or ["original"]


def _config(name: str, path: str, *, default: bool = False) -> dict[str, Any]:
    files = {"data_files": [{"split": "train", "path": path}]}
    return {"config_name": name} | ({"default": True} if default else {}) | files


def _front_matter(metadata: Mapping[str, Any]) -> str:
    import yaml

    text = yaml.safe_dump(dict(metadata), sort_keys=False, allow_unicode=True, width=10**6)
    return f"---\n{text}---\n\n"


# -- words -----------------------------------------------------------------------------------------------------------


@cache
def _environment() -> jinja2.Environment:
    import jinja2

    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES, encoding="utf-8"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters.update(line=_line, cell=_cell, bibtex=_bibtex)
    return made


def _line(text: str) -> str:
    """Put a name of the user's on one line, as text and never as HTML."""
    return re.sub(r"<(?=[a-zA-Z/!?])", "&lt;", " ".join(text.split()))


def _cell(value: object) -> str:
    if value is None:
        return "–"
    shown = f"{value:.3f}" if isinstance(value, float) else str(value)
    return _line(shown).replace("\\", "\\\\").replace("|", "\\|")


def _bibtex(text: str) -> str:
    return re.sub(r"[{}\\]", "", _line(text))


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-") or "other"


def _plain(value: object) -> object:
    return [_plain(entry) for entry in value] if isinstance(value, tuple | list) else value
