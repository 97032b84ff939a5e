"""What the readers of other programs' questionnaires share: a survey in the making, and what it could not take over."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from typing import Any
from xml.etree.ElementTree import Element, TreeBuilder

from anthology_hub.errors import DataError, MissingExtraError
from anthology_hub.prompts import LETTERS
from anthology_hub.questionnaires.conditions import DEEPEST, CannotKeep, depth
from anthology_hub.schema import PIPED, Condition, Question, Survey

LONGEST = 20_000
"""Characters of a text; more is no question."""
NESTED, MOST_ELEMENTS = 100, 3_000_000
"""Levels and elements of a document in XML."""
SNIPPET = 200
"""Characters shown of a text that is left out."""
_OPEN, _CLOSE = "\ue000", "\ue001"
_BREAKS = frozenset({"br", "p", "div", "li", "tr", "ul", "ol", "table", "h1", "h2", "h3", "h4", "h5", "h6", "hr"})
_SILENT = frozenset({"script", "style"})


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A whole element of the source that is not in the survey."""

    key: str
    """What the source calls it."""
    kind: str
    """Its type there."""
    text: str
    why: str


@dataclass(frozen=True, kw_only=True)
class ImportedSurvey:
    """A survey read from a file, with all that did not come along."""

    survey: Survey
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()
    """What of the kept questions is other than in the source."""
    sources: Mapping[str, str] = field(default_factory=dict)
    """Question key -> id of the source's element that it comes from; empty for our own files."""


@dataclass(frozen=True, kw_only=True)
class Option:
    """One option as the source has it."""

    name: str
    """What conditions of the source call it."""
    text: str
    code: str | None = None
    """Its code in the source's data; the name, if not given."""
    off_scale: bool = False
    """Whether the source says that it is no step of the scale, as by leaving it out of means."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """One closed question as the source has it."""

    key: str
    text: str
    options: Sequence[Option]
    names: Sequence[str] = ()
    """What conditions and piped texts of the source call it."""
    ordinal: bool | None = True
    """Whether the options have an order; None: the source does not say."""
    order: str = ""
    """How the source shows the options, where that is not as written: shuffled or reversed."""


class Draft:
    """A survey in the making: questions kept, elements left out, and notes."""

    def __init__(self, *, name: str, title: str, source: str) -> None:
        self._name, self._title, self._source = name, title, source
        self._questions: dict[str, Question] = {}
        self._sources: dict[str, str] = {}
        self._left_out: list[LeftOut] = []
        self._notes: dict[str, dict[str, None]] = {}
        self._orders: dict[str, str] = {}
        self._counts: dict[str, int] = {}
        self._keys: dict[str, str] = {}
        self.selected: dict[str, dict[str, Condition]] = {}
        """Source's name of a question -> its name of an answer -> the condition that it was given."""

    def add(self, items: Iterable[Item], *, source: str, ask_if: Condition | None = None) -> list[Question]:
        """Keep the questions of one element of the source.

        Raises:
            CannotKeep: If none of them can be asked; those that cannot among others are noted.
        """
        good, bad = [], []
        for item in items:
            try:
                good.append(_checked(item))
            except CannotKeep as lost:
                bad.append((item.key, str(lost)))
        if not good:
            raise CannotKeep(bad[0][1] if bad else "it has no options")
        for key, why in bad:
            self.note(f"A part of a question is left out, as {why}", key)
        if ask_if and depth(ask_if) > DEEPEST:
            self.note("The condition is nested too deeply and left out; asked of all", good[0].key)
            ask_if = None
        return [self._kept(item, source, ask_if) for item in good]

    def _kept(self, item: Item, source: str, ask_if: Condition | None) -> Question:
        key = self._key(item.key)
        question = Question(
            key=key,
            text=item.text,
            options=tuple(option.text for option in item.options),
            codes=self._codes(key, item.options),
            ordinal=item.order != "shuffled" if item.ordinal is None else item.ordinal,
            ask_if=ask_if,
        )
        question = self._with_scale(question, [option.off_scale for option in item.options])
        if item.ordinal is None and item.order != "shuffled" and len(question.options) > 2:
            self.note("Taken as ordered options; set `ordinal: false` where they have no order", key)
        self._questions[key], self._sources[key] = question, source
        if item.order:
            self._orders[key] = item.order
        for name in item.names:
            self._keys[name] = key
            for option, code in zip(item.options, question.codes, strict=True):
                self.refer(name, option.name, key=key, code=code)
        return question

    def _with_scale(self, question: Question, off: Sequence[bool]) -> Question:
        apart = [at for at, is_off in enumerate(off) if is_off]
        if not apart or not question.ordinal:
            return question
        told = f"{question.key} ({', '.join(question.options[at] for at in apart)})"
        if len(off) - len(apart) < 2:
            self.note("Options that the source leaves out of means stay on the scale, which would have no steps", told)
            return question
        self.note("Options that the source leaves out of means lie off the scale (`off_scale`)", told)
        return replace(question, off_scale=tuple(question.codes[at] for at in apart))

    def refer(self, name: str, answer: str, *, key: str, code: int) -> None:
        """Let later conditions of the source find an answer under its own names."""
        self.selected.setdefault(name, {})[answer] = Condition(kind="in", question=key, codes=(code,))

    def otherwise(self, condition: Condition) -> Condition:
        """Return the condition that another answer was given than a condition of `selected` says.

        Raises:
            CannotKeep: If there is no other answer.
        """
        if condition.kind != "in":
            return Condition(kind="all", parts=tuple(map(self.otherwise, condition.parts)))
        codes = (code for code in self._questions[condition.question].codes if code not in condition.codes)
        found = Condition(kind="in", question=condition.question, codes=tuple(codes))
        if not found.codes:
            raise CannotKeep(f"{condition.question} has no other answer")
        return found

    def add_choices(
        self, item: Item, *, source: str, ask_if: Condition | None = None, selected: str = "1", skipped: str = "0"
    ) -> None:
        """Keep a multiple-answer question: one question, selected or not, for each of its options.

        Args:
            item: The question with its choices as options.
            source: Id of the element.
            ask_if: When it is asked.
            selected: What conditions of the source call the answer that a choice was selected.
            skipped: What they call the answer that it was not.

        Raises:
            CannotKeep: If none of the options can be asked for.
        """
        if not item.text.strip():
            raise CannotKeep("it has no text")
        yes_no = [Option(name=selected, text="Selected", code="1"), Option(name=skipped, text="Not selected", code="0")]
        kept = 0
        for option in item.options:
            part = Item(
                key=f"{item.key}_{option.code or option.name}",
                text=f"{item.text}\n{option.text}".strip() if option.text.strip() else "",
                options=yes_no,
                names=[f"{name}_{option.name}" for name in item.names],
            )
            try:
                question = self.add([part], source=source, ask_if=ask_if)[0]
            except CannotKeep as why:
                self.note(f"A choice is left out, as {why}", part.key)
                continue
            kept += 1
            for name in item.names:
                self.refer(name, option.name, key=question.key, code=1)
        if not kept:
            raise CannotKeep("none of its choices has a text")

    def leave(self, key: str, *, kind: str, text: object, why: str) -> None:
        """Tell of an element that is not kept."""
        key, kind = _clean(key)[:SNIPPET], _clean(kind)[:SNIPPET]
        self._left_out.append(LeftOut(key=key, kind=kind, text=line(text)[:SNIPPET], why=_clean(why)))

    def note(self, what: str, *about: str) -> None:
        """Tell of something; what is said of several questions is said once, with their keys."""
        self._notes.setdefault(what, {}).update(dict.fromkeys(_clean(part)[:SNIPPET] for part in about))

    def pipe(self, text: str, pattern: re.Pattern[str], name_of: Callable[[str], str | None]) -> str:
        """Put our form of piping where a text takes in an earlier answer; what cannot be is left and noted.

        Args:
            text: The wording in the source.
            pattern: What piping looks like there; its first group is handed to `name_of`.
            name_of: The name of the question whose answer is meant, or None.
        """

        def put(match: re.Match[str]) -> str:
            name = name_of(match[1])
            if name not in self._keys:
                self.note("A piped text stands as it is, as it is no answer to a question kept before", match[0])
                return match[0]
            return f"{_OPEN}{self._keys[name]}{_CLOSE}"

        return pattern.sub(put, text)

    def finish(self) -> ImportedSurvey:
        """Return the survey with what was told.

        Raises:
            DataError: If no question was kept.
        """
        if not self._questions:
            why = "; ".join(f"{left.key}: {left.why}" for left in self._left_out[:5])
            told = f"({why or 'it is empty'}): one is needed"
            raise DataError(f"{self._name} holds no question with two fixed options or more {told}")
        survey = Survey(
            name=self._name,
            title=self._title,
            source=self._source,
            questions=tuple(map(self._piped, self._questions.values())),
            order_patterns=self._patterns(),
        )
        return ImportedSurvey(
            survey=Survey.from_dict(survey.to_dict()),
            left_out=tuple(self._left_out),
            notes=tuple(f"{what}: {', '.join(about)}." if about else f"{what}." for what, about in self._notes.items()),
            sources=self._sources,
        )

    def _piped(self, question: Question) -> Question:
        def apart(match: re.Match[str]) -> str:
            return f"{{ {match[1]} }}" if match[1] in self._questions else match[0]

        # Braces that only look like piping into one of our keys are set apart.
        text = PIPED.sub(apart, question.text)
        return replace(question, text=text.replace(_OPEN, "{").replace(_CLOSE, "}"))

    def _patterns(self) -> tuple[str, ...]:
        several = [key for key, question in self._questions.items() if len(question.options) > 2]
        shuffled = [key for key in several if self._orders.get(key) == "shuffled"]
        if shuffled and len(shuffled) == len(several):
            return ("shuffled",)
        if shuffled:
            self.note("Options shuffled in the source; here the order_patterns of the whole survey hold", *shuffled)
        return Survey.order_patterns

    def _key(self, wanted: str) -> str:
        key = stem = re.sub(r"[\s{}]+", "_", _clean(wanted)).strip("_")[:SNIPPET] or "question"
        while key in self._questions:
            self._counts[stem] = self._counts.get(stem, 1) + 1
            key = f"{stem}_{self._counts[stem]}"
        if key != wanted:
            self.note("Keys were changed to be distinct and without spaces or braces", f"{wanted} to {key}")
        return key

    def _codes(self, key: str, options: Sequence[Option]) -> tuple[int, ...]:
        given = [option.name if option.code is None else option.code for option in options]
        if all(re.fullmatch(r"-?\d{1,9}", code) for code in given):
            codes = tuple(map(int, given))
            if len(set(codes)) == len(codes):
                return codes
        told = ", ".join(f"{number} = {code}" for number, code in enumerate(given, 1))
        self.note("Codes that are no distinct whole numbers were numbered in their order", f"{key} ({told})")
        return tuple(range(1, len(options) + 1))


def _checked(item: Item) -> Item:
    options = [replace(option, text=option.text.strip()) for option in item.options]
    texts = [option.text for option in options]
    if not item.text.strip():
        raise CannotKeep("it has no text")
    if len(options) < 2:
        raise CannotKeep(f"it has {len(options)} options, two are needed")
    if len(options) > len(LETTERS):
        raise CannotKeep(f"it has {len(options)} options, at most {len(LETTERS)} can be lettered")
    if not all(texts):
        raise CannotKeep("an option has no text")
    if len(set(texts)) < len(texts):
        raise CannotKeep("two of its options have the same text")
    return replace(item, options=options)


def plain(value: object) -> str:
    r"""Return a text without HTML: tags and scripts gone, entities read, breaks kept as line breaks.

    Raises:
        CannotKeep: If it is too long for a text.

    Example:
        >>> plain("<p>Do you <b>own</b> a car&nbsp;?</p><p>Or rent one?</p>")
        'Do you own a car ?\nOr rent one?'
    """
    text = str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else ""
    if len(text) > LONGEST:
        raise CannotKeep(f"a text of it has {len(text)} characters, at most {LONGEST} are read")
    if "<" in text or "&" in text:
        text = _without_tags(text)
    lines = (" ".join(line.split()) for line in _clean(text).split("\n"))
    return "\n".join(line for line in lines if line)


def line(value: object) -> str:
    """Return a text without HTML on one line; nothing, if it is too long for a text."""
    try:
        return " ".join(plain(value).split())
    except CannotKeep:
        return ""


def _clean(text: str) -> str:
    """Lone surrogates, which no file can hold, control characters and the two marks of piping go."""
    text = text.encode("utf-8", "replace").decode()
    return re.sub(rf"[\x00-\x08\x0b-\x1f\x7f{_OPEN}{_CLOSE}]", "", text.replace("\r", "\n"))


def _without_tags(text: str) -> str:
    parser = _Words()
    # A sign that opens no whole tag is a sign; left in, many of them would keep the parser busy for minutes.
    text = re.sub(r"<(?=[^<>]*(?:<|\Z))", "&lt;", _without_comments(text))
    try:
        parser.feed(text)
        parser.close()
    except AssertionError:
        # The parser of the standard library gives up so on a broken declaration.
        return re.sub(r"<[^>]*>", " ", text)
    return "".join(parser.parts)


def _without_comments(text: str) -> str:
    kept, sign, rest = text.partition("<!--")
    while sign:
        head, sign, rest = rest.partition("-->")[2].partition("<!--")
        kept += head
    return kept


class _Words(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._silent, self._tags = 0, False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._tags = True
        self._silent += tag in _SILENT
        if tag == "img":
            self.parts.append(f" {dict(attrs).get('alt') or ''} ")
        self.parts.append("\n" if tag in _BREAKS else " " if tag in ("td", "th") else "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self._silent -= tag in _SILENT

    def handle_endtag(self, tag: str) -> None:
        self._silent = max(0, self._silent - (tag in _SILENT))
        self.parts.append("\n" if tag in _BREAKS else "")

    def handle_data(self, data: str) -> None:
        if not self._silent:
            # Among tags a line break is but a space.
            self.parts.append(re.sub(r"\s+", " ", data) if self._tags else data)


def name_of(stem: str) -> str:
    """Return a survey name for the stem of a file's name: lower case, no spaces.

    Example:
        >>> name_of("My Survey (2024)")
        'my-survey-2024'
    """
    return re.sub(r"[^a-z0-9._]+", "-", stem.lower()).strip("-.") or "survey"


def parse_json(content: bytes, name: str) -> Any:  # noqa: ANN401 - whatever the file holds
    """Read JSON.

    Raises:
        DataError: If it is none.
    """
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name} is no JSON ({error}): the file may be cut off, export it again") from error


class _Bounded(TreeBuilder):
    """Gives up on a document that would fill the memory."""

    def __init__(self) -> None:
        super().__init__()
        self._level, self._count = 0, 0

    def start(self, tag: Any, attrs: Any, /) -> Element:  # noqa: ANN401 - as the parser hands them over
        self._level += 1
        self._count += 1
        if self._level > NESTED or self._count > MOST_ELEMENTS:
            raise _TooMuch(f"it has more than {NESTED} levels, or {MOST_ELEMENTS:,} elements")
        return super().start(tag, attrs)

    def end(self, tag: str, /) -> Element:
        self._level -= 1
        return super().end(tag)


class _TooMuch(ValueError):
    pass


def parse_xml(content: bytes, name: str) -> Element:
    """Read XML; nothing that it points to is opened, and no entity of its own is filled in.

    Raises:
        DataError: If it is no XML, is too large, or has a document type or entities, which can be misused.
        MissingExtraError: If the package defusedxml is not installed.
    """
    try:
        from defusedxml import DefusedXmlException
        from defusedxml.ElementTree import DefusedXMLParser, ParseError
    except ImportError as error:
        raise MissingExtraError("defusedxml", "surveys", "survey files in XML") from error
    try:
        parser = DefusedXMLParser(target=_Bounded(), forbid_dtd=True)
        parser.feed(content)
        found: Element = parser.close()
    except DefusedXmlException as error:
        raise DataError(
            f"{name} has a document type or entities ({type(error).__name__}), which can be misused and are not read: "
            "delete the part that begins with <!DOCTYPE, and what stands in it"
        ) from error
    except _TooMuch as error:
        raise DataError(f"{name} is no survey: {error}") from error
    except (ParseError, ValueError, LookupError) as error:
        raise DataError(f"{name} is no XML ({error}): the file may be cut off, export it again") from error
    return found
