"""What a free-text reply to a question on a trait says: a level, a refusal, too many things, or nothing. Pure.

Order of precedence (Moon et al., EMNLP 2024, demographic survey): exactly one option letter; more letters are
ambiguous; a refusal (of a numeric trait with a number beside it: ambiguous); numbers, which fall into the ranges of
the levels; exactly one level by its text or patterns; else non-compliant. Patterns are data (`data/annotation`) and
found by the level's name, never by its position.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from anthology_hub.prompts import LETTERS
from anthology_hub.schema import ANSWERED, DATA, MISSING, REFUSED, Trait, digest, read_json

AMBIGUOUS, NONCOMPLIANT = "ambiguous", "noncompliant"
"""Status of a reply that says several levels, and of one that says none."""
REPLY_STATUSES = (ANSWERED, REFUSED, AMBIGUOUS, NONCOMPLIANT)
LOCATED, UNMENTIONED, UNPROVEN, UNREADABLE = "located", "unmentioned", "unproven", "unreadable"
"""What came of looking for a trait in a text; unproven: a level without a quote that is in the text."""
FINDINGS = (LOCATED, UNMENTIONED, UNPROVEN, UNREADABLE)
FEWEST_WORDS = 2
"""A shorter quote would be in almost any text."""

Span = tuple[float, float]
"""Lowest and highest value, both included."""


@dataclass(frozen=True, kw_only=True)
class TraitReply:
    """What a reply amounts to."""

    status: str
    """One of REPLY_STATUSES."""
    level: int = MISSING
    """Position of the level in the trait; MISSING unless answered."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a model found in a text."""

    status: str
    """One of FINDINGS."""
    level: int = MISSING
    evidence: str = ""
    """The passage as it stands in the text."""


def declines(trait: Trait) -> bool:
    """Say whether the question on a trait offers a last option for those who would rather not say."""
    return bool(trait.decline) and trait.decline not in trait.options


def parse_trait_reply(text: str, trait: Trait, shown: Sequence[int] | None = None) -> TraitReply:
    """Read a reply to the question on a trait.

    Args:
        text: The reply.
        trait: What was asked about.
        shown: Positions of the levels in the order in which they were lettered; as in the trait, if not given. The
            option for those who would rather not say comes after them.

    Returns:
        The level, or why there is none.

    Example:
        >>> from anthology_hub.schema import Codebook
        >>> age = Codebook.load("anthology").trait("age")
        >>> for said in ("(B)", "I am twenty five.", "Between 25 and 35", "I'd rather not say", "blue"):
        ...     print(parse_trait_reply(said, age))
        TraitReply(status='answered', level=1)
        TraitReply(status='answered', level=0)
        TraitReply(status='ambiguous', level=-1)
        TraitReply(status='refused', level=-1)
        TraitReply(status='noncompliant', level=-1)
    """
    return _reader(trait).read(_plain(text), range(len(trait.levels)) if shown is None else shown)


def parse_finding(text: str, levels: int, backstory: str, *, replaced: tuple[str, str] = ("", "")) -> Finding:
    """Read what a model says that a text mentions: a quote first, then a letter; the last `X)` decides.

    Args:
        text: The reply.
        levels: Number of levels; the letter after theirs stands for "was not mentioned".
        backstory: The text; the quote counts only if it is in there, but for white space, quotation marks, dashes and
            capitals.
        replaced: A word of the text and the one that the model read in its place.

    Example:
        >>> story = "I turned 30 last May. I live in Ohio."
        >>> parse_finding('The essay says "I turned 30  last May". (B)', 4, story)
        Finding(status='located', level=1, evidence='I turned 30 last May')
        >>> parse_finding('"I am 30 years old" B)', 4, story).status
        'unproven'
    """
    letters = list(re.finditer(r"(?<!\w)([A-Z])\)", text))
    at = LETTERS.index(letters[-1][1]) if letters else levels + 1
    if at >= levels:
        return Finding(status=UNMENTIONED if at == levels else UNREADABLE)
    said = text[: letters[-1].start()] + "\n" + text[letters[-1].end() :]
    passages = [_find(quote, backstory, replaced) for quote in _quotes(said)]
    evidence = max(passages, key=len, default="")
    return Finding(status=LOCATED, level=at, evidence=evidence) if evidence else Finding(status=UNPROVEN, level=at)


def patterns_digest() -> str:
    """Return the SHA-256 of the patterns that are shipped."""
    return digest(_known())


def level_ranges(trait: Trait) -> tuple[Span, ...] | None:
    """Return the values that each level covers, where levels are numbers or ranges of them; None for other traits.

    A level reaches up to where the next one begins: `10-20k` and `20-30k` do not share a value.

    Example:
        >>> from anthology_hub.schema import Codebook
        >>> level_ranges(Codebook.load("anthology").trait("age"))
        ((18.0, 29.0), (30.0, 49.0), (50.0, 64.0), (65.0, inf))
        >>> level_ranges(Codebook.load("anthology").trait("race")) is None
        True
    """
    return _ranges(trait.levels) or _ranges(trait.options)


def _ranges(texts: Sequence[str]) -> tuple[Span, ...] | None:
    spans = []
    for text in texts:
        found, rest = _spans(_plain(text))
        if len(found) != 1 or re.search(r"[a-z]{3}", rest.replace("years", "").replace("old", "")):
            return None
        spans.append(found[0])
    starts = sorted(low for low, _ in spans)
    nexts = {low: min((start for start in starts if start > low), default=math.inf) for low in starts}
    return tuple((low, min(high, nexts[low] - 1)) for low, high in spans)


# -- reading one trait -----------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _known() -> Mapping[str, Any]:
    return read_json(DATA / "annotation" / "patterns.json")


@lru_cache(maxsize=1)
def _refusals() -> tuple[re.Pattern[str], re.Pattern[str]]:
    refused, unknown = (_any(_known()[name]) for name in ("refused", "unknown"))
    return refused, unknown


def _any(patterns: Iterable[str]) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w)(?:{'|'.join(patterns)})(?!\w)", re.IGNORECASE)


@lru_cache(maxsize=256)
def _reader(trait: Trait) -> _Reader:
    return _Reader(trait)


class _Reader:
    """The patterns and ranges of one trait, compiled."""

    def __init__(self, trait: Trait) -> None:
        self.trait = trait
        self.options = [_plain(option) for option in trait.options]
        self.decline = _plain(trait.decline) if declines(trait) else ""
        self.ranges = level_ranges(trait)
        self.money = bool(self.ranges) and any(re.search(r"\$|\dk\b", text) for text in (*trait.levels, *trait.options))
        own = trait.patterns or _known()["traits"].get(trait.name, {})
        # Each on its own: of "high school" and "less than high school" the longer one must be found too.
        self.patterns = [
            [_any([pattern]) for pattern in (*map(re.escape, self._texts(at)), *own.get(level, ()))]
            for at, level in enumerate(trait.levels)
        ]
        self.masks = [
            _any([re.escape(option)]) for option in sorted(self.options, key=len)[::-1] if re.search(r"\w.*\w", option)
        ]

    def read(self, text: str, shown: Sequence[int]) -> TraitReply:
        if verbatim := self._verbatim(text, shown):
            return verbatim
        if letters := self._letters(text):
            return self._by_letters(letters, shown)
        numbers = self._levels_by_number(text)
        refused, unknown = _refusals()
        if refused.search(text) or (self.decline and _any([re.escape(self.decline)]).search(text)):
            return TraitReply(status=AMBIGUOUS if numbers else REFUSED)
        found = numbers or self._levels_by_pattern(text)
        if len(found) == 1:
            return TraitReply(status=ANSWERED, level=found.pop())
        return TraitReply(status=AMBIGUOUS if found else REFUSED if unknown.search(text) else NONCOMPLIANT)

    def _texts(self, at: int) -> set[str]:
        """What names a level: its option's text and its own name, unless that is a mere number of a range."""
        texts = {self.options[at], _plain(self.trait.levels[at])}
        return {text for text in texts if not self.ranges and len(text) > 1}

    def _verbatim(self, text: str, shown: Sequence[int]) -> TraitReply | None:
        """A reply that is the text of an option and nothing else, whatever that text is."""
        bare = _bare(text)
        at = [position for position, option in enumerate(self.options) if _bare(option) == bare]
        letters = self._letters(text) if len(bare) == 1 else set()
        if len(at) == 1 and letters <= {list(shown).index(at[0])}:
            return TraitReply(status=ANSWERED, level=at[0])
        if len(at) == 1:
            return TraitReply(status=AMBIGUOUS)
        return TraitReply(status=REFUSED) if self.decline and bare == _bare(self.decline) else None

    def _letters(self, text: str) -> set[int]:
        # The A of an option's own text ("Hepatitis A") is no letter of the list.
        for mask in self.masks:
            text = mask.sub(" ", text)
        last = len(self.options) + bool(self.decline)
        return {at for at in map(LETTERS.index, _letters_in(text)) if at < last}

    def _by_letters(self, letters: set[int], shown: Sequence[int]) -> TraitReply:
        at = letters.pop()
        if letters:
            return TraitReply(status=AMBIGUOUS)
        return TraitReply(status=ANSWERED, level=shown[at]) if at < len(shown) else TraitReply(status=REFUSED)

    def _levels_by_number(self, text: str) -> set[int]:
        """Every level that some number or range of numbers in the text may mean."""
        if not self.ranges:
            return set()
        found, _ = _spans(text, money=self.money)
        most = max(start for start, _ in self.ranges)
        levels: set[int] = set()
        for low, high in found:
            if most < _YEARS[0] <= low == high < _YEARS[1]:
                continue
            # "30 to 50" of levels that begin at 30 and at 50 means up to 50.
            high -= high > low and high in {start for start, _ in self.ranges}
            levels |= {at for at, (start, end) in enumerate(self.ranges) if start <= high and low < end + 1}
        # What is earned in an hour or a month is not what is earned in a year.
        return set(range(len(self.ranges))) if levels and self.money and _RATE.search(text) else levels

    def _levels_by_pattern(self, text: str) -> set[int]:
        found = [
            (match.start(), match.end(), at)
            for at, patterns in enumerate(self.patterns)
            for pattern in patterns
            for match in pattern.finditer(text)
            if not _NOT.search(text[: match.start()])
        ]
        return {at for start, end, at in found if not any(_inside((start, end), other[:2]) for other in found)}


def _inside(inner: tuple[int, int], outer: tuple[int, int]) -> bool:
    """Whether a match lies in a longer one: "high school" in "less than high school"."""
    return outer[0] <= inner[0] and inner[1] <= outer[1] and inner != outer


_STRAIGHT = str.maketrans("‘’“”‐‑‒–—−", "''\"\"------")
_NOT = re.compile(
    r"(?:\bnot|n't|\bnever|\bneither|\bnor)\s+(?:(?:been|be|have|had|really|live|living|consider|identify|call|myself"
    r"|as|in|from|an?|the|any)\s+)*$",
    re.IGNORECASE,
)
_RATE = re.compile(
    r"(?:\b(?:an?|per|each|every)\s+|/\s?)(?:hour|hr|day|week|month)\b|\b(?:hour|dai|week|month)ly\b", re.IGNORECASE
)


def _plain(text: str) -> str:
    return " ".join(text.translate(_STRAIGHT).split())


def _bare(text: str) -> str:
    return text.casefold().strip(" .,;:!?\"'")


# -- letters ---------------------------------------------------------------------------------------------------------

_ABBREVIATION = re.compile(r"\b(?:[A-Z][a-z]{0,2}\.){1,}[A-Z][a-z]?\b\.?|\b(?:[A-Z]\.){2,}|\bPh\.?\s?D\b\.?")
_INITIAL = re.compile(r"\b(?!(?:Option|Answer|Choice|Letter)\b)[A-Z][a-z]+ [A-Z]\.(?=\s)")
_BRACKETED = re.compile(r"(?<!\w)[(\[]\s?([A-Za-z])\s?[)\]]")
_MARKED = re.compile(
    r"(?<![\w'])([A-Z])\)|(?:\b(?:[Oo]ption|[Cc]hoice|[Ll]etter|[Aa]nswer(?: is)?):? )([A-Z])(?!['\w])"
)
_ALONE = re.compile(r"^[\s\"'(\[]*([A-Z])[\s\"'.,:;)\]]*$")
_OPENING = re.compile(r"^[\"']?([A-Z])[.:](?=\s)")
_STANDING = re.compile(r"(?:^|(?<=[\s\"'.:,]))([A-Z])(?=$|[\s\"'.,:;!?])")
_PRONOUNS = "AI"


def _letters_in(text: str) -> set[str]:
    """Every capital letter that stands as a letter of a list; A and I, which are words too, only where marked so."""
    if alone := _ALONE.match(text):
        return {alone[1]}
    text = _INITIAL.sub(" ", _ABBREVIATION.sub(" ", text))
    marked = {letter.upper() for letter in _BRACKETED.findall(text)}
    marked |= {one or other for one, other in _MARKED.findall(text)} | set(_OPENING.findall(text))
    standing = {letter for letter in _STANDING.findall(text) if letter not in _PRONOUNS}
    # At the end of a sentence an A is no article.
    ending = {"A"} if re.search(r"(?<=[\s\"'])A[\"'.!]*$", text) else set()
    return marked | standing | ending


# -- numbers ---------------------------------------------------------------------------------------------------------

_TEENS = "eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
_WORDS = f"zero one two three four five six seven eight nine ten {_TEENS}".split()
_UNITS = {word: value for value, word in enumerate(_WORDS)}
_ROUND = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_TENS = {word: 10 * value for value, word in enumerate(_ROUND, 2)}
_DECADES = {f"{word[:-1]}ies": value for word, value in _TENS.items()}
_TO_99 = rf"(?:(?:{'|'.join(_TENS)})(?:[\s-](?:{'|'.join(_WORDS[1:10])}))?|{'|'.join(_UNITS)})"
_SPELLED = re.compile(
    rf"\b(?:(?P<decade>{'|'.join(_DECADES)})"
    rf"|(?P<hundreds>an?|{'|'.join(_WORDS[1:10])})\shundred(?:\s(?:and\s)?(?P<more>{_TO_99}))?"
    rf"|(?P<few>{_TO_99})|(?P<one>an?)(?=\s(?:thousand|million)\b))\b",
    re.IGNORECASE,
)
_FACTORS = {"k": 1e3, "thousand": 1e3, "grand": 1e3, "m": 1e6, "million": 1e6}
_NUMBER = (
    r"(?P<{0}c>\$|usd\s?)?\s?(?P<{0}n>\d{{1,3}}(?:,\d{{3}})+(?!\d)|\d{{1,15}})(?P<{0}f>\.\d{{1,9}})?"
    r"(?:\s?(?P<{0}u>k|thousand|grand|m|million)\b)?"
)
_JOINED = r"\s?(?:years(?: old)?\s|dollars\s)?(?:-|\bto\b|\bthrough\b|\band\b|\bor\b)\s?"
_BETWEEN = re.compile(_NUMBER.format("a") + _JOINED + _NUMBER.format("b"), re.IGNORECASE)
_BEFORE = (
    r"(?P<before>(?:\b(?:over|above|more than|greater than|older than|at least|under|below|less than|fewer than"
    r"|younger than|at most|up to|almost|nearly)|>=?|<=?)\s?(?:about |around )?)?"
)
_AFTER = (
    r"(?P<decade>'?s\b)?(?P<after>\+|\s(?:years (?:old )?|dollars )?(?:or|and) "
    r"(?:more|above|over|older|higher|up|less|under|younger|below|fewer)\b)?"
)
_SINGLE = re.compile(_BEFORE + _NUMBER.format("") + _AFTER, re.IGNORECASE)
_LEAST = 1000
"""Smallest bare number that is taken for a sum of money."""
_YEARS = (1900, 2100)
"""Bare numbers that are taken for years, which are neither ages nor sums."""


def _spans(text: str, *, money: bool = False) -> tuple[list[Span], str]:
    """Return every number and range of numbers that a text says, and the text without them."""
    text = _SPELLED.sub(_digits, text)
    found: list[Span] = []

    def take(match: re.Match[str]) -> str:
        span = _between(match, money) if "an" in match.groupdict() else _single(match, money)
        if span is None:
            return match[0]
        found.extend([span] if span[0] <= span[1] else [])
        return " "

    return found, _SINGLE.sub(take, _BETWEEN.sub(take, text))


def _digits(match: re.Match[str]) -> str:
    """A number in words as digits."""
    if match["decade"]:
        return f"{_DECADES[match['decade'].lower()]}s"
    hundreds = (match["hundreds"] or "").lower()
    whole = 100 * _UNITS.get(hundreds, 1) if hundreds else 0
    rest = re.split(r"[\s-]", (match["more"] or match["few"] or "").lower())
    return str(1 if match["one"] else whole + sum(_TENS.get(word, 0) + _UNITS.get(word, 0) for word in rest))


def _between(match: re.Match[str], money: bool) -> Span | None:
    low, high = _value(match, "a"), _value(match, "b")
    unit = match["bu"]
    if unit and not match["au"] and low < high:
        # "40 to 50 thousand"
        low *= _FACTORS[unit.lower()]
    if low > high or (money and not any((match["ac"], match["bc"], unit)) and low < _LEAST):
        return None
    joined = match[0][match.end("an") : match.start("bn")].lower()
    before = match.string[: match.start()].lower()
    if re.search(r"\band\b", joined) and not re.search(r"between\s(?:about |around )?$", before):
        return None
    return low, high


def _single(match: re.Match[str], money: bool) -> Span | None:
    value = _value(match, "")
    plain = not (match["c"] or match["u"])
    if money and plain and (value < _LEAST or ("," not in match["n"] and _YEARS[0] <= value < _YEARS[1])):
        return None
    if match["decade"]:
        return value, value + 9
    before, after = (" ".join((match[name] or "").lower().split()) for name in ("before", "after"))
    return _bounded(value, before.removesuffix(" about").removesuffix(" around"), after)


def _bounded(value: float, before: str, after: str) -> Span:
    if before in ("almost", "nearly"):
        return value - 1, value - 1
    if (
        before in ("at least", ">=")
        or after == "+"
        or after.endswith(("more", "above", "over", "older", "higher", "up"))
    ):
        return value, math.inf
    if before in ("at most", "up to", "<=") or after:
        return -math.inf, value
    if before in ("over", "above", "more than", "greater than", "older than", ">"):
        return value + 1, math.inf
    return (-math.inf, value - 1) if before else (value, value)


def _value(match: re.Match[str], which: str) -> float:
    number = float(match[f"{which}n"].replace(",", "") + (match[f"{which}f"] or ""))
    return number * _FACTORS.get((match[f"{which}u"] or "").lower(), 1)


# -- quotes ----------------------------------------------------------------------------------------------------------

_QUOTED = re.compile(r"\"([^\"]+)\"|(?<!\w)'(.+?)'(?!\w)")
_LEAD = re.compile(r"^\s*(?:[-*•]\s*)?(?:\w+\s)?evidence\s?:?\s*", re.IGNORECASE)


def _quotes(said: str) -> Iterator[str]:
    """What a reply gives as evidence: the parts in quotation marks, or else each of its lines and sentences."""
    said = said.translate(_STRAIGHT)
    quoted = [one or other for one, other in _QUOTED.findall(said)]
    parts = quoted or [_LEAD.sub("", part) for part in re.split(r"\n|(?<=[.!?])\s", said)]
    for part in parts:
        yield from re.split(r"\s?(?:\.\.\.|…|\[[^\]]*\])\s?", part)


def _find(quote: str, text: str, replaced: tuple[str, str]) -> str:
    """The passage of a text that a quote is; empty if it is not in there, or too short to say anything."""
    original, instead = replaced
    for wording in (quote, quote.replace(instead, original) if instead else quote):
        words = wording.strip(" .,;:!?\"'()").split()
        if len(words) >= FEWEST_WORDS and (match := _as_quoted(words).search(text)):
            return match[0]
    return ""


def _as_quoted(words: Sequence[str]) -> re.Pattern[str]:
    kinds = {"'": "['‘’]", '"': '["“”]', "-": "[-‐‑‒–—−]"}
    signs = ("".join(kinds.get(sign) or re.escape(sign) for sign in word) for word in words)
    return re.compile(r"(?<!\w)" + r"\s+".join(signs) + r"(?!\w)", re.IGNORECASE)
