"""The nouns: what a persona, a survey, a respondent, a matching, a set of answers and a result are.

Frozen, keyword-only and free of heavy imports. Arrays are numpy arrays; nothing here needs numpy to be imported.
Formats on disk are the `to_dict` forms and carry `schema_version`.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import random
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from anthology_hub.errors import DataError, EmptyError, OptionError, UnknownNameError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

T = TypeVar("T")

SCHEMA_VERSION = "1.0"
DATA = Path(__file__).parent / "data"
MISSING = -1
"""Code of an answer or trait that is not known, in every integer array of the package."""
SMALLEST_CELL = 10
"""Fewer people than this behind a published figure may be recognised."""

ANSWERED, REFUSED, UNPARSABLE, FAILED = "answered", "refused", "unparsable", "failed"
SKIPPED = "skipped"
"""Status of a question that was not asked, by the survey's own skip logic."""
DECLINE = "Prefer not to answer"
"""Last option of a question on a trait (Anthology repository)."""
ASKED = (ANSWERED, REFUSED, UNPARSABLE, FAILED)
STATUSES = (*ASKED, SKIPPED)
CHOICE, NUMBER, MULTI, RANKING, TEXT = "choice", "number", "multi", "ranking", "text"
ANSWER_KINDS = (CHOICE, NUMBER, MULTI, RANKING, TEXT)
"""What a question wants: one option, a number, several options, all options in an order, or words."""
ORDERS = ("original", "reversed", "shuffled")
"""Orders in which the options of a question may be shown."""
PIPED = re.compile(r"\{([^{}\s]+)\}")
"""What stands in braces in the text of a question."""


def digest(value: object) -> str:
    """Return the SHA-256 of a JSON-able value in canonical form, as 64 hex digits.

    Example:
        >>> digest({"b": 1, "a": 2}) == digest({"a": 2, "b": 1})
        True
    """
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file.

    Raises:
        DataError: If the file is no JSON object; the message names the file and the place.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise DataError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(value, dict):
        raise DataError(f"{path} holds a JSON {type(value).__name__}; an object is needed")
    return value


def shipped(kind: str) -> tuple[str, ...]:
    """Return the names of the data files of one kind that come with the package.

    Example:
        >>> shipped("surveys")
        ('bfi', 'gss-gov-responsibility', 'gss-national-spending')
    """
    return tuple(sorted(path.stem for path in (DATA / kind).glob("*.json")))


def read_shipped(kind: str, name: str) -> dict[str, Any]:
    """Read a shipped data file by name, or a file of the user's by path (anything that ends in ``.json``)."""
    if name.endswith(".json"):
        return read_json(Path(name))
    if name not in shipped(kind):
        raise UnknownNameError(kind.replace("ies", "y").rstrip("s"), name, shipped(kind))
    return read_json(DATA / kind / f"{name}.json")


@dataclass(frozen=True, kw_only=True)
class Trait:
    """One demographic trait: its levels, how it is asked and how it is spoken."""

    name: str
    label: str
    question: str
    levels: tuple[str, ...]
    bio: str
    """Sentence of the Bio format with one `{}` for the level (Anthology repository, Bio prompts)."""
    spoken: tuple[str, ...] = ()
    """What to say in place of each level; empty: the levels themselves."""
    population: tuple[float, ...] = ()
    """Share of each level in the population; empty: not known."""
    decline: str = DECLINE
    """Last option of the question, for those who would rather not say; empty, or a level: none."""
    topic: str = ""
    """What a text may say of it, after "mentions about": the age of the person; empty: made from the label."""
    shuffled: int = 0
    """How many of the first options are shown in an order drawn anew each time; the others keep their places."""
    asked_of: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    """One other trait -> its levels of whom this is asked (a follow-up); empty: asked of everybody. In the question,
    the other trait's name in braces stands for the level."""
    patterns: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    """Level -> regular expressions that say it in a free-text answer, beside its own text."""

    @property
    def options(self) -> tuple[str, ...]:
        """The text of each level as an option of the question."""
        return self.spoken or self.levels

    def code(self, level: str) -> int:
        """Return the position of a level.

        Raises:
            UnknownNameError: If the trait has no such level.
        """
        if level not in self.levels:
            raise UnknownNameError(f"level of {self.name}", level, self.levels)
        return self.levels.index(level)

    def sentence(self, level: str) -> str:
        """Return the Bio sentence for a level.

        Example:
            >>> Codebook.load("starter").trait("age").sentence("65+")
            'My age is 65 or above.'
        """
        return self.bio.format((self.spoken or self.levels)[self.code(level)])


@dataclass(frozen=True, kw_only=True)
class Codebook:
    """The traits that a collection annotates."""

    name: str
    traits: tuple[Trait, ...]
    population_source: str = ""
    population_sample: int = 0
    """People of a study that is not public whom the population shares were counted from; 0: a census or public file."""

    @classmethod
    def load(cls, name: str) -> Codebook:
        """Load a shipped codebook by name, or one of the user's by path.

        Example:
            >>> [trait.name for trait in Codebook.load("starter").traits][:4]
            ['age', 'gender', 'race', 'education']
        """
        return cls.from_dict(read_shipped("codebooks", name))

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Codebook:
        """Build from the JSON form.

        Raises:
            DataError: If a field is missing, names are doubled, or shares do not fit the levels.
        """
        traits = tuple(_build(Trait, {k: _deep(v) for k, v in trait.items()}) for trait in _objects(value, "traits"))
        names = [trait.name for trait in traits]
        if len(set(names)) != len(names):
            raise DataError(f"codebook {value.get('name')!r}: trait names must be distinct, got {names}")
        for trait in traits:
            _check_trait(trait)
        return cls(
            name=_need(value, "name"),
            traits=traits,
            population_source=value.get("population_source", ""),
            population_sample=value.get("population_sample", 0),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"schema_version": SCHEMA_VERSION, **_lists(asdict(self)), "traits": list(map(_trait_dict, self.traits))}

    def trait(self, name: str) -> Trait:
        """Return a trait by name.

        Raises:
            UnknownNameError: If there is no such trait.
        """
        for trait in self.traits:
            if trait.name == name:
                return trait
        raise UnknownNameError("trait", name, (trait.name for trait in self.traits))

    def coded(self, levels: Mapping[str, Sequence[str]]) -> Codebook:
        """Return the same questions with others' answers to choose from, such as `Respondents.levels`.

        Args:
            levels: Trait -> its levels; traits that are not in it are left out. A level that is one of ours is spoken
                as ours is.

        Example:
            >>> region = Codebook.load("starter").coded({"region": ("North", "South")}).trait("region")
            >>> region.options
            ('North', 'South')
        """
        known = {trait.name: dict(zip(trait.levels, trait.options, strict=True)) for trait in self.traits}
        traits = tuple(
            Trait(
                name=trait.name,
                label=trait.label,
                question=trait.question,
                bio=trait.bio,
                levels=tuple(levels[trait.name]),
                spoken=tuple(known[trait.name].get(level, level) for level in levels[trait.name]),
            )
            for trait in self.traits
            if trait.name in levels
        )
        return Codebook(name=self.name, traits=traits)


@dataclass(frozen=True, kw_only=True)
class Persona:
    """One virtual persona: a backstory and the top level of each trait."""

    persona_id: str
    """Content hash of the backstory: 20 hex digits."""
    backstory: str
    traits: Mapping[str, str | None] = field(default_factory=dict)
    score: float | None = None
    """Of the last search (cosine of the best passage, -1 to 1) or score (probability); None after neither."""
    passage: str | None = None
    """The best passage itself: the evidence for the score."""

    @staticmethod
    def id_of(backstory: str) -> str:
        """Return the content hash of a backstory: 20 hex digits of its SHA-256.

        Example:
            >>> Persona.id_of("I grew up by the river.")
            '0c93b3e1c48e6a5acd26'
        """
        return hashlib.sha256(backstory.encode()).hexdigest()[:20]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Condition:
    """When a question is asked, told by earlier answers (skip logic).

    In JSON one of `{"question": "vote", "in": [1, 2]}` (codes of options), `{"all": [...]}`, `{"any": [...]}` and
    `{"not": ...}`. A question that was skipped or not answered is in no list.

    Example:
        >>> voted = Condition.from_dict({"question": "vote", "in": [1]})
        >>> voted.holds({"vote": 1}), voted.holds({"vote": None})
        (True, False)
    """

    kind: str
    """One of in, all, any, not."""
    question: str = ""
    codes: tuple[int, ...] = ()
    parts: tuple[Condition, ...] = ()

    @classmethod
    def from_dict(cls, value: object) -> Condition:
        """Build from the JSON form.

        Raises:
            DataError: If it is none of the forms.
        """
        match value:
            case {"question": str(key), "in": [_, *_] as codes, **rest} if not rest and all(map(_is_int, codes)):
                return cls(kind="in", question=key, codes=tuple(codes))
            case {"all": [_, *_] as parts, **rest} if not rest:
                return cls(kind="all", parts=tuple(map(cls.from_dict, parts)))
            case {"any": [_, *_] as parts, **rest} if not rest:
                return cls(kind="any", parts=tuple(map(cls.from_dict, parts)))
            case {"not": part, **rest} if not rest:
                return cls(kind="not", parts=(cls.from_dict(part),))
        raise DataError(
            f"{value!r} is no condition: write {{'question': KEY, 'in': [CODE, ...]}}, or all, any or not of such"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        if self.kind == "in":
            return {"question": self.question, "in": list(self.codes)}
        parts = [part.to_dict() for part in self.parts]
        return {self.kind: parts[0] if self.kind == "not" else parts}

    def holds(self, answers: Mapping[str, int | None]) -> bool:
        """Say whether the question is asked, given the code of each earlier answer; None or absent: no answer."""
        held = (part.holds(answers) for part in self.parts)
        if self.kind == "in":
            return answers.get(self.question) in self.codes
        return not next(held) if self.kind == "not" else all(held) if self.kind == "all" else any(held)

    @property
    def leaves(self) -> tuple[Condition, ...]:
        """The conditions on single questions in it."""
        return (self,) if self.kind == "in" else tuple(leaf for part in self.parts for leaf in part.leaves)


@dataclass(frozen=True, kw_only=True)
class Question:
    """One survey question (item): closed, with one answer, unless `kind` says otherwise."""

    key: str
    text: str
    """The wording; `{key}` of an earlier question stands for the answer given to it (piping)."""
    options: tuple[str, ...] = ()
    """None for the kinds number and text."""
    codes: tuple[int, ...] = ()
    """Code of each option in the source's own data; ordinal positions are 1..K in this order."""
    reverse: bool = False
    """Whether the item counts reversed in its scale (Cronbach's alpha)."""
    ordinal: bool = True
    """Whether the options have an order; if not, distances in option steps mean nothing."""
    ask_if: Condition | None = None
    """When it is asked; None: always."""
    kind: str = CHOICE
    """What it wants; one of ANSWER_KINDS."""
    low: float | None = None
    """Least number that is an answer; None: any."""
    high: float | None = None
    """Largest number that is an answer; None: any."""
    unit: str = ""
    """What a number counts, as `hours`."""
    least: int | None = None
    """Fewest options to choose, for the kind multi; None: none need be."""
    most: int | None = None
    """Most options to choose, for the kind multi; None: all may be."""
    exclusive: tuple[int, ...] = ()
    """Codes of the options that go with no other (none of these), for the kind multi."""
    off_scale: tuple[int, ...] = ()
    """Codes of the options that are no step of the scale (don't know), for ordinal questions of the kind choice."""

    @property
    def on_scale(self) -> tuple[int, ...]:
        """Positions of the options that are steps of the scale, in their order.

        Example:
            >>> Question(key="a", text="?", options=("Low", "Unsure", "High"), codes=(1, 9, 2), off_scale=(9,)).on_scale
            (0, 2)
        """
        return tuple(at for at, code in enumerate(self.codes) if code not in self.off_scale)

    @property
    def piped(self) -> tuple[str, ...]:
        """What stands in braces in the text; a key of an earlier question among them is filled with its answer."""
        return tuple(PIPED.findall(self.text))


@dataclass(frozen=True, kw_only=True)
class Survey:
    """A battery of questions with its coding."""

    name: str
    title: str
    source: str
    questions: tuple[Question, ...]
    preamble: str = ""
    """Said once, before the first question."""
    order_patterns: tuple[str, ...] = ("original", "reversed")
    """Orders in which the options may be shown; drawn anew for every persona and question."""
    scales: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Scale name -> keys of its items; empty: all items are one scale."""

    @classmethod
    def load(cls, name: str) -> Survey:
        """Load a shipped survey by name, or one of the user's by path.

        Example:
            >>> len(Survey.load("gss-national-spending").questions)
            18
        """
        return cls.from_dict(read_shipped("surveys", name))

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Survey:
        """Build from the JSON form; `options` given once for the survey serves every question without its own.

        Raises:
            DataError: If something is missing, doubled or inconsistent.
        """
        questions = tuple(_question(q, value.get("options")) for q in _objects(value, "questions"))
        keys = [question.key for question in questions]
        if not keys or len(set(keys)) != len(keys):
            raise DataError(f"survey {value.get('name')!r}: question keys must be distinct and not empty, got {keys}")
        _check_flow(questions)
        patterns = value.get("order_patterns", ("original", "reversed"))
        if not _is_list(patterns):
            raise DataError(f"order_patterns must be a list of {', '.join(ORDERS)}, got {patterns!r}")
        if not patterns or not all(pattern in ORDERS for pattern in patterns):
            raise UnknownNameError("order pattern", patterns, ORDERS)
        scales = value.get("scales", {})
        if not isinstance(scales, Mapping) or not all(map(_is_texts, scales.values())):
            raise DataError(f"survey {value.get('name')!r}: scales must be an object of name to keys, got {scales!r}")
        scales = {name: tuple(items) for name, items in scales.items()}
        for items in scales.values():
            for key in set(items) - set(keys):
                raise UnknownNameError("question in a scale", key, keys)
        texts = {name: str(value.get(name, "")) for name in ("title", "source", "preamble")}
        order = tuple(patterns)
        return cls(name=_need(value, "name"), questions=questions, order_patterns=order, scales=scales, **texts)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "schema_version": SCHEMA_VERSION,
            **_lists(asdict(self)),
            "questions": list(map(_written, self.questions)),
        }

    @property
    def digest(self) -> str:
        """SHA-256 of the survey's content."""
        return digest(self.to_dict())

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of the questions, in order."""
        return tuple(question.key for question in self.questions)

    @property
    def choices(self) -> Survey:
        """The survey with its choice questions alone, which may still refer to the others.

        Raises:
            EmptyError: If it has no choice question.
        """
        kept = {question.key: question for question in self.questions if question.kind == CHOICE}
        if not kept:
            raise EmptyError(f"{self.name} has no choice question: shares of options need one or more")
        if len(kept) == len(self.questions):
            return self
        scales = {name: tuple(key for key in items if key in kept) for name, items in self.scales.items()}
        left = {name: items for name, items in scales.items() if items}
        return replace(self, questions=tuple(kept.values()), scales=left)

    def asks(self, question: Question, picked: Mapping[str, int]) -> bool:
        """Say whether skip logic puts a question to somebody.

        Args:
            question: Of this survey.
            picked: Question key -> position of the option chosen so far; MISSING or absent: no answer.

        Example:
            >>> Survey.load("bfi").asks(Survey.load("bfi").questions[0], {})
            True
        """
        if question.ask_if is None:
            return True
        codes = {q.key: q.codes for q in self.questions}
        told = {key: codes[key][pick] for key, pick in picked.items() if pick != MISSING}
        return question.ask_if.holds(told)

    def select(self, keys: Iterable[str]) -> Survey:
        """Return the survey with only some questions, in the order given; scales keep what is left of them.

        Raises:
            OptionError: If no key is given, or one twice, or a question without or before one that it depends on.
            UnknownNameError: If there is no such question.

        Example:
            >>> Survey.load("gss-national-spending").select(["natheal", "natenvir"]).keys
            ('natheal', 'natenvir')
        """
        by_key, wanted = {question.key: question for question in self.questions}, list(keys)
        if not wanted or len(set(wanted)) != len(wanted):
            raise OptionError(f"select one question or more, each once, got {wanted}; allowed: {', '.join(by_key)}")
        for key in wanted:
            if key not in by_key:
                raise UnknownNameError(f"question of {self.name}", key, by_key)
            if left_out := needs(by_key[key], by_key) - set(wanted[: wanted.index(key)]):
                raise OptionError(
                    f"question {key!r} depends on {', '.join(sorted(left_out))}: select that, too, before it"
                )
        scales = {name: tuple(k for k in items if k in wanted) for name, items in self.scales.items()}
        kept = {name: items for name, items in scales.items() if items}
        return replace(self, questions=tuple(by_key[key] for key in wanted), scales=kept)


@dataclass(frozen=True, kw_only=True, repr=False)
class Respondents:
    """People who answered a survey, in our codes. Microdata: has no `to_dict`, and prints no rows."""

    name: str
    ids: tuple[str, ...]
    levels: Mapping[str, tuple[str, ...]]
    """Levels of each trait, in the survey's own coding."""
    codes: Mapping[str, NDArray[np.int16]]
    """Trait -> position of each respondent's level, shape (n,); MISSING where not known."""
    answers: Mapping[str, NDArray[np.int16]]
    """Question key -> position of the chosen option (0..K-1), shape (n,); MISSING where there is no valid answer."""
    weights: NDArray[np.float64] | None = None
    """Survey weight of each respondent, shape (n,), positive; None where the file has none."""
    strata: NDArray[np.int64] | None = None
    """Stratum of each respondent in the sample design, shape (n,), numbered from 0; None where not known."""
    psu: NDArray[np.int64] | None = None
    """Primary sampling unit of each respondent, shape (n,), distinct across strata; None where not known."""
    retest: Mapping[str, NDArray[np.int16]] = field(default_factory=dict)
    """Question key -> what the same people answered when asked again, coded as `answers`."""
    crosswalk: str = ""
    """Name or file of the crosswalk from the persona codebook to `levels`."""
    survey: Survey | None = None
    """The questions that the answers belong to."""
    source: str = ""
    notes: tuple[str, ...] = ()
    """What a user must know: columns left out, rows dropped and why."""

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        weighted = "weighted" if self.weights is not None else "no weights"
        return f"<Respondents {self.name}: {len(self)} people, {len(self.levels)} traits, {weighted}>"

    def take(self, rows: Sequence[int]) -> Self:
        """Return the respondents at some positions, in that order."""
        at = list(rows)
        return replace(
            self,
            ids=tuple(self.ids[i] for i in at),
            codes={name: column[at] for name, column in self.codes.items()},
            answers={key: column[at] for key, column in self.answers.items()},
            weights=None if self.weights is None else self.weights[at],
            strata=None if self.strata is None else self.strata[at],
            psu=None if self.psu is None else self.psu[at],
            retest={key: column[at] for key, column in self.retest.items()},
        )

    def sample(self, n: int, *, seed: int = 0) -> Self:
        """Return `n` different respondents drawn at random.

        Raises:
            OptionError: If `n` is not between 1 and the number of respondents.
        """
        if not 1 <= n <= len(self):
            raise OptionError(f"cannot sample {n} respondents of {len(self)}: allowed are 1 to {len(self)}")
        return self.take(sorted(random.Random(f"respondents|{seed}").sample(range(len(self)), n)))

    def traits_of(self, row: int) -> dict[str, str]:
        """Return the known traits of one respondent as trait -> level."""
        known = ((name, int(column[row])) for name, column in self.codes.items())
        return {name: self.levels[name][code] for name, code in known if code != MISSING}


@dataclass(frozen=True, kw_only=True)
class Role:
    """One seat of a cast: a respondent to stand in for, and the persona (if any) who does."""

    respondent_id: str
    weight: float
    traits: Mapping[str, str]
    """The respondent's own traits, in Bio wording: trait -> sentence."""
    levels: Mapping[str, str] = field(default_factory=dict)
    """The respondent's own traits as trait -> level, in the levels of the matching's codebook."""
    persona: Persona | None = None
    log_weight: float = 0.0
    """Natural log of the matching weight, the product over traits of P(persona has the respondent's level)."""


@dataclass(frozen=True, kw_only=True)
class Matching:
    """Who plays whom: one role for each respondent, and how well the roles fit."""

    roles: tuple[Role, ...]
    method: str
    """greedy, optimal, random, or none (no personas: baselines)."""
    traits: tuple[str, ...] = ()
    collection: str = ""
    """Name and content digest of the collection that the personas come from."""
    origin: str = ""
    """Repository and commit of the collection, `hf://namespace/name@commit`; empty if it came from elsewhere."""
    humans: str = ""
    """Name of the respondents' source."""
    diagnostics: Mapping[str, float] = field(default_factory=dict)
    codebook: Codebook | None = None
    """How the traits in `Role.levels` are asked and called, in the respondents' own levels; None: not known."""

    def __len__(self) -> int:
        return len(self.roles)

    @property
    def digest(self) -> str:
        """SHA-256 of who plays whom with which traits."""
        return digest(
            [
                (r.respondent_id, r.weight, r.persona and r.persona.persona_id, sorted(r.traits.items()))
                for r in self.roles
            ]
        )


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What a cast answered: n roles x q questions, in the survey's canonical option order."""

    survey: Survey
    respondent_ids: tuple[str, ...]
    persona_ids: tuple[str, ...]
    """Persona of each role; empty strings where there is none."""
    weights: NDArray[np.float64]
    picks: NDArray[np.int16]
    """Chosen option 0..K-1, shape (n, q); MISSING where there is no answer."""
    probs: NDArray[np.float32]
    """Probability of each option, shape (n, q, K); NaN where the model was not asked for probabilities."""
    mass: NDArray[np.float32]
    """Probability mass on the options before normalising, 0 to 1, shape (n, q); NaN as above."""
    statuses: NDArray[np.str_]
    """One of STATUSES for every question, shape (n, q)."""
    raw: NDArray[np.object_]
    """The reply as the model gave it, shape (n, q)."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """All that is needed to repeat the run."""
    values: NDArray[np.object_] | None = None
    """Answers to questions that are no choice, shape (n, q): a float, a tuple of option positions (the ranking's from
    the first to the last), a text; None elsewhere. None where nothing of the kind was kept."""
    tries: NDArray[np.int32] | None = None
    """How often each question was asked until it was answered or given up, shape (n, q); 0 where it was not asked,
    MISSING where it is not known."""
    order_gap: NDArray[np.float32] | None = None
    """Total variation distance, 0 to 1, between the option probabilities in the two orders, shape (n, q); NaN where a
    question was asked in one order."""
    wave: str = ""
    """Which time this cast was asked; empty for a single one."""

    def __len__(self) -> int:
        return len(self.respondent_ids)

    @property
    def choices(self) -> Answers:
        """The answers to the choice questions alone: what can be compared as shares of options.

        Raises:
            EmptyError: If the survey has no choice question.
        """
        survey = self.survey.choices
        if survey is self.survey:
            return self
        at = [place for place, question in enumerate(self.survey.questions) if question.kind == CHOICE]
        columns = ("picks", "probs", "mass", "statuses", "raw", "values", "tries", "order_gap")
        found = {name: column[:, at] for name in columns if (column := getattr(self, name)) is not None}
        return replace(self, survey=survey, **found)

    @property
    def first_try(self) -> float | None:
        """Share of the questions asked that were answered at the first try; None where tries are not known."""
        if self.tries is None or not (asked := self.tries > 0).any():
            return None
        return float(((self.tries == 1) & (self.statuses == ANSWERED))[asked].mean())

    @property
    def coverage(self) -> dict[str, float]:
        """Share of the questions asked with each status; they sum to 1. What skip logic left out was not asked."""
        total = int((self.statuses != SKIPPED).sum())
        if not total:
            raise EmptyError("there are no answers to count: simulate at least one role and one question")
        return {status: float((self.statuses == status).sum()) / total for status in ASKED}


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One figure with its company. None means undefined; `note` says why."""

    name: str
    value: float | None
    unit: str
    low: float | None = None
    high: float | None = None
    human: float | None = None
    """The humans' own value, where the metric is a property and not a distance (alpha)."""
    floor: float | None = None
    """Mean over random half-splits of the humans (for alpha: of the halves)."""
    floor_equal_n: float | None = None
    """Mean over random samples of people like the humans: as large as the cast, against as large as the humans'."""
    uniform: float | None = None
    """Of options at random."""
    majority: float | None = None
    """Of everybody giving the humans' commonest answer."""
    margins: float | None = None
    """Of the humans' answers shuffled among them, question by question."""
    cells: float | None = None
    """Of answers drawn from those of people with the same demographics; person by person, the best guess by them."""
    previous: float | None = None
    """Of an earlier wave of the same survey."""
    attained: float | None = None
    """Part of the way from `uniform` (0) to the humans (1); see `measures.attained`."""
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Subgroup:
    """The figures of those who share one level of a trait."""

    trait: str
    level: str
    n: int
    """Simulated respondents."""
    n_human: int
    metrics: tuple[Metric, ...] = ()
    """Empty where there are too few of them."""
    gap: float | None = None
    """Of the subgroup of a trait that is furthest away: how much further than the nearest one (`wd_normalised`).

    Both without what chance adds, which is more in small groups. The largest minus the smallest of several figures is
    still above 0 by chance: the interval allows for that, and holds 0 where no group is known to be worse served.
    """
    gap_low: float | None = None
    gap_high: float | None = None
    nearest: str = ""
    """Level of the nearest one."""
    note: str = ""

    def metric(self, name: str) -> Metric:
        """Return a metric by name.

        Raises:
            UnknownNameError: If the subgroup has no such metric.
        """
        return _named(self.metrics, name)


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How consistent the answers to the questions of one scale are."""

    name: str
    questions: tuple[str, ...]
    metrics: tuple[Metric, ...]
    """`alpha` and `omega`, each with interval and the humans' own."""

    def metric(self, name: str) -> Metric:
        """Return a metric by name.

        Raises:
            UnknownNameError: If the scale has no such metric.
        """
        return _named(self.metrics, name)


@dataclass(frozen=True, kw_only=True)
class Result:
    """An evaluated run; immutable once written."""

    run_id: str
    created: str
    """When the run began; UTC, ISO 8601."""
    survey: str
    developer: str
    model: str
    method: str
    """Conditioning and matching, as `anthology/greedy`."""
    n: int
    """Simulated respondents."""
    n_humans: int
    """People compared with; 0 where only shares of groups are known."""
    questions: tuple[str, ...]
    weighting: str
    metrics: tuple[Metric, ...]
    coverage: Mapping[str, float]
    option_mass: float | None
    """Mean probability mass on the option letters; None in text mode."""
    items: tuple[Mapping[str, Any], ...]
    """Per question: human and simulated shares, n, and WD with interval and floors (older results lack these)."""
    notes: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    n_effective: float | None = None
    """Kish's effective number of the humans, (sum w)^2 / sum w^2; None where it is not known."""
    subgroups: tuple[Subgroup, ...] = ()
    scales: tuple[Scale, ...] = ()
    """Of the scales that the survey names; older results have none."""

    def metric(self, name: str) -> Metric:
        """Return a metric by name.

        Raises:
            UnknownNameError: If the result has no such metric.
        """
        return _named(self.metrics, name)

    def _repr_html_(self) -> str:
        # The layout is of a higher layer, which knows this one.
        return str(importlib.import_module("anthology_hub.report_tables").as_html(self))

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"schema_version": SCHEMA_VERSION, **_lists(asdict(self))}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Result:
        """Build from the JSON form.

        Raises:
            DataError: If a field is missing.
        """
        given = {name: entry for name, entry in value.items() if name != "schema_version"}
        metrics = tuple(_build(Metric, metric) for metric in _objects(given, "metrics"))
        given["subgroups"] = tuple(
            _build(Subgroup, {**one, "metrics": tuple(_build(Metric, metric) for metric in _objects(one, "metrics"))})
            for one in (_objects(given, "subgroups") if "subgroups" in given else ())
        )
        given["scales"] = tuple(
            _build(
                Scale,
                {
                    **one,
                    "questions": tuple(_need(one, "questions")),
                    "metrics": tuple(_build(Metric, metric) for metric in _objects(one, "metrics")),
                },
            )
            for one in (_objects(given, "scales") if "scales" in given else ())
        )
        parts: dict[str, Any] = {name: tuple(given[name]) for name in ("questions", "items", "notes") if name in given}
        return _build(cls, {**given, **parts, "metrics": metrics})


def _named(metrics: Sequence[Metric], name: str) -> Metric:
    for metric in metrics:
        if metric.name == name:
            return metric
    raise UnknownNameError("metric", name, (metric.name for metric in metrics))


def _need(value: Mapping[str, Any], name: str) -> Any:  # noqa: ANN401 - the type is the caller's to check
    if not isinstance(value, Mapping):
        raise DataError(f"an object with the field {name!r} is needed, got {value!r}")
    if name not in value:
        raise DataError(f"the field {name!r} is missing; present are: {', '.join(map(repr, value)) or 'none'}")
    return value[name]


def _objects(value: Mapping[str, Any], name: str) -> Sequence[Mapping[str, Any]]:
    entries = _need(value, name)
    if not isinstance(entries, list | tuple) or not all(isinstance(entry, Mapping) for entry in entries):
        raise DataError(f"the field {name!r} must be a list of objects, got {entries!r}")
    return entries


def _check_trait(trait: Trait) -> None:
    levels = trait.levels
    if not isinstance(levels, tuple) or not levels or len(set(levels)) != len(levels):
        raise DataError(f"trait {trait.name!r}: levels must be a list of distinct names, got {levels!r}")
    for parallel in (trait.spoken, trait.population):
        if parallel and len(parallel) != len(levels):
            raise DataError(f"trait {trait.name!r}: {len(parallel)} values beside {len(levels)} levels")
    if trait.population and (min(trait.population) < 0 or not abs(sum(trait.population) - 1) <= 0.01):
        raise DataError(f"trait {trait.name!r}: population shares must sum to 1, got {trait.population}")
    if trait.bio.count("{}") != 1:
        raise DataError(f"trait {trait.name!r}: bio must hold one {{}} for the level, got {trait.bio!r}")
    _check_asking(trait)


def _check_asking(trait: Trait) -> None:
    if not isinstance(trait.decline, str) or not isinstance(trait.topic, str):
        raise DataError(
            f"trait {trait.name!r}: decline and topic must be texts, got {trait.decline!r}, {trait.topic!r}"
        )
    if not _is_int(trait.shuffled) or not 0 <= trait.shuffled <= len(trait.levels):
        allowed = f"a whole number from 0 to {len(trait.levels)}"
        raise DataError(f"trait {trait.name!r}: shuffled must be {allowed}, got {trait.shuffled!r}")
    for name in ("asked_of", "patterns"):
        listed = getattr(trait, name)
        if not isinstance(listed, Mapping) or not all(isinstance(texts, tuple) for texts in listed.values()):
            raise DataError(f"trait {trait.name!r}: {name} must be an object of lists, got {listed!r}")
    if len(trait.asked_of) > 1:
        raise DataError(f"trait {trait.name!r}: asked_of must name one trait, got {', '.join(trait.asked_of)}")
    for level, texts in trait.patterns.items():
        trait.code(level)
        _check_patterns(trait.name, texts)


def _check_patterns(name: str, texts: Sequence[str]) -> None:
    for text in texts:
        try:
            re.compile(text)
        except (re.error, TypeError) as error:
            raise DataError(f"trait {name!r}: {text!r} is no regular expression: {error}") from error


def _trait_dict(trait: Trait) -> dict[str, Any]:
    """The JSON form; how it is asked is left out where it is as usual, so that digests of older collections stand."""
    usual = {"decline": DECLINE, "topic": "", "shuffled": 0, "asked_of": {}, "patterns": {}}
    written = _lists(asdict(trait))
    return {name: value for name, value in written.items() if name not in usual or value != usual[name]}


def _build(kind: type[T], fields: Mapping[str, Any]) -> T:
    try:
        return kind(**fields)
    except TypeError as error:
        raise DataError(f"{kind.__name__} cannot be built from {sorted(fields)}: {error}") from error


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_list(value: object) -> bool:
    return isinstance(value, list | tuple)


def _is_texts(value: object) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(entry, str) for entry in value)


def needs(question: Question, known: Collection[str]) -> set[str]:
    """Return the keys of the questions whose answers a question's skip logic or piping refers to.

    Example:
        >>> tea = Question(key="b", text="Why {a}?", options=("Taste", "Habit"), codes=(1, 2))
        >>> needs(tea, ["a", "b"])
        {'a'}
    """
    asked = {leaf.question for leaf in question.ask_if.leaves} if question.ask_if else set()
    return asked | {key for key in question.piped if key in known}


def _check_flow(questions: Sequence[Question]) -> None:
    """Everything that a question refers to comes before it, so that no survey can go in circles."""
    by_key, before = {question.key: question for question in questions}, set[str]()
    for question in questions:
        for key in sorted(needs(question, by_key) - before):
            where = "comes after it" if key in by_key else "is not in the survey"
            raise DataError(f"question {question.key!r} depends on {key!r}, which {where}: put {key!r} before it")
        for leaf in question.ask_if.leaves if question.ask_if else ():
            if by_key[leaf.question].kind != CHOICE:
                raise DataError(
                    f"question {question.key!r}: {leaf.question!r} is of the kind {by_key[leaf.question].kind}, and a "
                    "condition is on a choice"
                )
            if strange := set(leaf.codes) - set(by_key[leaf.question].codes):
                allowed = ", ".join(map(str, by_key[leaf.question].codes))
                raise DataError(
                    f"question {question.key!r}: {leaf.question!r} has no option with the code "
                    f"{', '.join(map(str, sorted(strange)))}; allowed: {allowed}"
                )
        before.add(question.key)


_LIMITS: Mapping[str, tuple[str, ...]] = {
    CHOICE: ("off_scale",),
    NUMBER: ("low", "high", "unit"),
    MULTI: ("least", "most", "exclusive"),
}
"""Kind -> the fields that only it has."""


def _written(question: Question) -> dict[str, Any]:
    """The JSON form of a question; what is as usual is left out, so that digests of older surveys stand."""
    options = [{"code": code, "text": text} for code, text in zip(question.codes, question.options, strict=True)]
    value: dict[str, Any] = {"key": question.key, "text": question.text, "reverse": question.reverse}
    value |= {} if question.ordinal else {"ordinal": False}
    value |= {"ask_if": question.ask_if.to_dict()} if question.ask_if else {}
    value |= {} if question.kind == CHOICE else {"kind": question.kind}
    limits = {name: _lists(getattr(question, name)) for names in _LIMITS.values() for name in names}
    value |= {name: limit for name, limit in limits.items() if limit not in (None, "", [])}
    return {**value, "options": options} if options else value


def _question(value: Mapping[str, Any], shared: Sequence[Mapping[str, Any]] | None) -> Question:
    kind = value.get("kind", CHOICE)
    if kind not in ANSWER_KINDS:
        raise UnknownNameError(f"kind of the question {value.get('key')!r}:", kind, ANSWER_KINDS)
    codes, texts = _options(value, shared) if kind not in (NUMBER, TEXT) else _no_options(value)
    for name in ("key", "text"):
        if not isinstance(_need(value, name), str):
            raise DataError(f"the {name} of a question must be a text, got {value[name]!r}: write it in quotes")
    for name in ("reverse", "ordinal"):
        if not isinstance(value.get(name, False), bool):
            raise DataError(f"question {value['key']!r}: {name} must be true or false, got {value[name]!r}")
    limits: dict[str, Any] = {n: _tuples(value[n]) for names in _LIMITS.values() for n in names if n in value}
    question = Question(
        key=value["key"],
        text=value["text"],
        options=texts,
        codes=codes,
        reverse=value.get("reverse", False),
        ordinal=value.get("ordinal", True),
        ask_if=_condition(value),
        kind=kind,
        **limits,
    )
    if wrong := wrong_limits(question, given=value):
        raise DataError(f"question {question.key!r}, {wrong[0][0]}: {wrong[0][1]}")
    return question


def _options(
    value: Mapping[str, Any], shared: Sequence[Mapping[str, Any]] | None
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    options = value.get("options", shared)
    if not _is_list(options) or len(options) < 2:
        raise DataError(f"question {value.get('key')!r} needs two options or more, each with 'code' and 'text'")
    try:
        codes, texts = tuple(_whole(_need(o, "code")) for o in options), tuple(_said(_need(o, "text")) for o in options)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"question {value.get('key')!r}: {error}; an option is like {{'code': 1, 'text': 'Yes'}}"
        ) from error
    if len(set(codes)) != len(codes) or len(set(texts)) != len(texts):
        raise DataError(f"question {value.get('key')!r}: option codes and texts must be distinct, got {codes}, {texts}")
    return codes, texts


def _no_options(value: Mapping[str, Any]) -> tuple[tuple[int, ...], tuple[str, ...]]:
    if "options" in value:
        raise DataError(
            f"question {value.get('key')!r} is of the kind {value['kind']}, which has no options: leave out"
        )
    return (), ()


def wrong_limits(question: Question, *, given: Collection[str]) -> list[tuple[str, str]]:
    """Return what is wrong with the limits of a question, as (field, what); nothing if they are sound.

    Args:
        question: As it was given, its values not looked at yet.
        given: Names of the fields that were given.

    Example:
        >>> hours = Question(key="hours", text="How many hours?", kind="number", low=24, high=0)
        >>> wrong_limits(hours, given=["low", "high"])
        [('low', 'it is 24, more than high, which is 0')]
    """
    strange = [(name, kind) for kind, names in _LIMITS.items() for name in names if name in given]
    found = [(name, f"only the kind {kind} has it") for name, kind in strange if kind != question.kind]
    looked_at = {CHOICE: _wrong_scale, NUMBER: _wrong_range}.get(question.kind, _wrong_counts)
    return found or looked_at(question)


def _wrong_scale(question: Question) -> list[tuple[str, str]]:
    if wrong := _wrong_codes(question, "off_scale"):
        return wrong
    if question.off_scale and not question.ordinal:
        return [("off_scale", "only options in order make a scale: leave it out, or leave out ordinal: false")]
    if question.off_scale and len(question.on_scale) < 2:
        left = f"it leaves {len(question.on_scale)} of {len(question.options)} options on the scale"
        return [("off_scale", f"{left}: at least 2 must remain")]
    return []


def _wrong_range(question: Question) -> list[tuple[str, str]]:
    numbers: dict[str, Any] = {name: at for name in ("low", "high") if (at := getattr(question, name)) is not None}
    unit: Any = question.unit
    wrong = [
        (name, f"{value!r} is no finite number")
        for name, value in numbers.items()
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < float("inf")
    ]
    if not isinstance(unit, str):
        wrong.append(("unit", f"{unit!r} is no text"))
    if not wrong and len(numbers) == 2 and numbers["low"] > numbers["high"]:
        wrong.append(("low", f"it is {numbers['low']}, more than high, which is {numbers['high']}"))
    return wrong


def _wrong_counts(question: Question) -> list[tuple[str, str]]:
    counts = {name: value for name in ("least", "most") if (value := getattr(question, name)) is not None}
    n = len(question.options)
    wrong = [
        (name, f"{value!r} is no whole number from {int(name == 'most')} to {n}, the number of options")
        for name, value in counts.items()
        if not _is_int(value) or not int(name == "most") <= value <= n
    ]
    if not wrong and len(counts) == 2 and counts["least"] > counts["most"]:
        wrong.append(("least", f"it is {counts['least']}, more than most, which is {counts['most']}"))
    return [*wrong, *_wrong_codes(question, "exclusive")]


def _wrong_codes(question: Question, field: str) -> list[tuple[str, str]]:
    codes = getattr(question, field)
    if not isinstance(codes, tuple) or not all(map(_is_int, codes)):
        return [(field, f"{codes!r} is no list of codes")]
    if strange := [code for code in codes if code not in question.codes]:
        has = ", ".join(map(str, question.codes))
        return [(field, f"there is no option with the code {', '.join(map(str, strange))}; it has {has}")]
    return []


def _whole(code: Any) -> int:  # noqa: ANN401 - from JSON
    if isinstance(code, bool) or int(code) != float(code):
        raise ValueError(f"the code {code!r} is no whole number")
    return int(code)


def _said(text: object) -> str:
    if isinstance(text, bool) or not isinstance(text, str | int | float):
        raise ValueError(f"the text {text!r} is none: write it in quotes")
    return str(text)


def _condition(question: Mapping[str, Any]) -> Condition | None:
    try:
        return Condition.from_dict(question["ask_if"]) if question.get("ask_if") else None
    except RecursionError as error:
        raise DataError(f"question {question.get('key')!r}: its condition is nested too deeply") from error


def _tuples(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _deep(value: object) -> object:
    return {key: _tuples(entry) for key, entry in value.items()} if isinstance(value, Mapping) else _tuples(value)


def _lists(value: Any) -> Any:  # noqa: ANN401 - any JSON-able tree
    if isinstance(value, Mapping):
        return {key: _lists(entry) for key, entry in value.items()}
    return [_lists(entry) for entry in value] if isinstance(value, list | tuple) else value
