"""Numbers that a reply names, in digits and in English words. Pure: a string in, numbers out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

_SMALL = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_TEENS = ("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen")
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_UNITS = {word: float(at) for at, word in enumerate((*_SMALL, *_TEENS))}
_UNITS |= {word: 10.0 * at for at, word in enumerate(_TENS, 2)}
_SCALES = {"dozen": 12.0, "hundred": 1e2, "thousand": 1e3, "k": 1e3, "million": 1e6, "billion": 1e9, "trillion": 1e12}
# A sign stands right before its number and right after no word; behind a word, "- 5" is a dash.
_SIGN = re.compile(r"\A\s*-\s*(?=[$.0-9])|(?<![\w).])-(?=[$.0-9])")
_TOKEN = re.compile(r"(?:(?<![\w.])\.)?[0-9][\w.,]*|[^\W\d_]\w*|\S")
_DIGITS = re.compile(r"((?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)?(?:\.[0-9]+)?)([^\W\d_]*)[.,]*")
_VAGUE = re.compile(
    r"\b(?:more|less|fewer|greater|higher|lower) than\b|\b(?:at (?:least|most)|up to|over|under|above|below)\b"
    r"|\bor (?:more|less|fewer|over|under|above|below|older|younger)\b|\w\s*\+|[<>\u2264\u2265]\s*[-$.0-9]"
    r"|\b(?:half|halves|quarters?|thirds|fifths|tenths)\b|[0-9]\s*(?:bn|mn|mil|mio|tn)\b|[0-9][mb]\b",
    re.IGNORECASE,
)
_NO_NUMBER = re.compile(
    r"\b(?:no|any|every|some|each|this|that|the|another) one\b"
    r"|\bone (?:of|another|who|that|day|thing|should|can|must)\b",
    re.IGNORECASE,
)


def numbers_in(text: str) -> list[float] | None:
    """Return the different numbers that a text names, in their order; None if it names a range or an unclear one.

    Example:
        >>> numbers_in("About 1,250 dollars"), numbers_in("twenty-five"), numbers_in("five (5)")
        ([1250.0], [25.0], [5.0])
        >>> numbers_in("2 to 3"), numbers_in("at least two"), numbers_in("No one")
        ([2.0, 3.0], None, [])
    """
    # A half or a square in one character belongs to the number before it.
    if _VAGUE.search(text) or any(each.isnumeric() and not each.isdecimal() for each in text):
        return None
    signed = _SIGN.sub(" minus ", _NO_NUMBER.sub(" ", text).replace("\u2212", "-"))
    parts = list(_phrases([token.lower() for token in _TOKEN.findall(signed)]))
    return None if None in parts else list(dict.fromkeys(part for part in parts if part is not None))


def _phrases(tokens: Sequence[str]) -> Iterator[float | None]:
    """Yield the value of each run of tokens that belong to one number; None where a token is an unclear number."""
    at = 0
    while at < len(tokens):
        value, end = _phrase(tokens, at)
        if end == at:
            at += 1
            continue
        before = [token for token in tokens[max(at - 2, 0) : at] if token != "$"]
        minus = before[-1:] in (["minus"], ["negative"])
        yield -value if minus and value is not None else value
        at = end


def _phrase(tokens: Sequence[str], start: int) -> tuple[float | None, int]:
    """Return the number that begins at a token, and where it ends; there, if none begins."""
    if tokens[start].lstrip(".")[:1].isdecimal():
        value = _in_digits(tokens[start])
        end = start + 1
        while value is not None and (scale := _scale_at(tokens, end)):
            value, end = value * _SCALES[tokens[scale]], scale + 1
        return value, end
    first = start + 1 if tokens[start] == "a" and tokens[start + 1 : start + 2] != ["k"] else start
    if first > start and (first == len(tokens) or tokens[first] not in _SCALES):
        return None, start
    return _in_words(tokens, first, start)


def _scale_at(tokens: Sequence[str], at: int) -> int:
    """Return where a scale stands, with or without a hyphen before it; 0: there is none."""
    at += tokens[at : at + 1] == ["-"]
    return at if at < len(tokens) and tokens[at] in _SCALES else 0


def _in_digits(token: str) -> float | None:
    match = _DIGITS.fullmatch(token)
    if match is None or match[2] == "s":
        # Such as 1,5 or 12.30.40, and the forties.
        return None
    return float(match[1].replace(",", "")) * (_SCALES["k"] if match[2] == "k" else 1)


def _in_words(tokens: Sequence[str], at: int, start: int) -> tuple[float | None, int]:
    """Add up words as long as each is smaller than what the words before it leave room for."""
    total, current, room = 0.0, 1.0 if at > start else 0.0, float("inf")
    end = start
    while at < len(tokens):
        word = tokens[at]
        if word in _UNITS and _UNITS[word] < room and (_UNITS[word] or end == start):
            current, room = current + _UNITS[word], 10.0 if _UNITS[word] >= 20 else 0.0
        elif word in _SCALES and word != "k" and current:
            current, room = (current * 100, 100.0) if word == "hundred" else (current * _SCALES[word], 1000.0)
            total, current = (total, current) if word == "hundred" else (total + current, 0.0)
        elif not (word in ("-", "and") and end > start and _goes_on(tokens, at, room)):
            break
        at += 1
        end = at if word not in ("-", "and") else end
    return total + current, end


def _goes_on(tokens: Sequence[str], at: int, room: float) -> bool:
    """Whether a hyphen or "and" stands within a number: twenty-five, one hundred and five."""
    after = tokens[at + 1] if at + 1 < len(tokens) else ""
    if tokens[at] == "-" and _scale_at(tokens, at):
        return True
    within = room >= 100 if tokens[at] == "and" else room == 10
    return within and 0 < _UNITS.get(after, room) < room
