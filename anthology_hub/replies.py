"""Replies of a model back to answers, or to "no answer" with its reason. Pure: a string in, a value out.

The rules for choices are the paper's (Moon et al., EMNLP 2024; `atp_survey.py`): one letter or one option text; if
both are there they must agree. Whatever a model says, reading it raises nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from anthology_hub.numerals import numbers_in
from anthology_hub.prompts import labels_of
from anthology_hub.schema import ANSWERED, CHOICE, MISSING, MULTI, NUMBER, REFUSED, TEXT, UNPARSABLE, Question

AMBIGUOUS, OFF_LIST, EMPTY = "ambiguous", "off-list", "empty"
REASONS = (REFUSED, AMBIGUOUS, OFF_LIST, EMPTY)
"""Why a reply is no answer: it declines, names several, names none that is allowed, or says nothing."""
Value = float | tuple[int, ...] | str


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What a model's text amounts to."""

    status: str
    """ANSWERED, REFUSED or UNPARSABLE."""
    option: int = MISSING
    """Position of the chosen option; MISSING for other kinds of questions."""
    value: Value | None = None
    """The answer to a question that is no choice; positions of options where it has some."""
    reason: str = ""
    """One of REASONS where there is no answer."""


def parse_reply(text: str, options: Sequence[str], *, labels: str = "letters") -> Reply:
    """Read the reply to a choice: one label or one option text; if both are there they must agree.

    Args:
        text: The reply.
        options: Option texts in the order shown; label A (or 1) is the first.
        labels: What the options were told apart by, `letters` or `numbers`.

    Returns:
        The option as shown, or why there is none. An option text that is part of a longer one ("likely" in "not too
        likely") counts only where it stands alone.

    Example:
        >>> parse_reply("(B) About right", ["Too little", "About right"]).option
        1
        >>> parse_reply("A little of both", ["Too little", "About right"]).reason
        'off-list'
        >>> parse_reply("I'd rather not say.", ["Too little", "About right"]).status
        'refused'
    """
    said = _Said(text, options, labels)
    found = {*said.named, *said.texts}
    if len(found) == 1:
        return Reply(status=ANSWERED, option=found.pop())
    return _none(text, AMBIGUOUS if found else "")


def read_answer(question: Question, shown: Sequence[int], text: str, *, labels: str = "letters") -> Reply:
    """Read the reply to a question of any kind; the positions in it are canonical.

    Args:
        question: What was asked.
        shown: Canonical positions of its options in the order shown.
        text: The reply.
        labels: What the options were told apart by; a ranking's are always letters.

    Example:
        >>> fruit = Question(key="f", text="Which?", options=("Fig", "Plum", "Kiwi"), codes=(1, 2, 3), kind="multi")
        >>> read_answer(fruit, (2, 1, 0), "(A), (C)").value
        (0, 2)
        >>> hours = Question(key="h", text="How many hours?", kind="number", low=0, high=24)
        >>> read_answer(hours, (), "Seven or so").value, read_answer(hours, (), "50").reason
        (7.0, 'off-list')
    """
    if question.kind == NUMBER:
        return _number(question, text)
    if question.kind == TEXT:
        return _words(text)
    options = [question.options[at] for at in shown]
    if question.kind == CHOICE:
        reply = parse_reply(text, options, labels=labels)
        return Reply(status=ANSWERED, option=shown[reply.option]) if reply.status == ANSWERED else reply
    return (_several if question.kind == MULTI else _ranking)(question, shown, text, labels)


def _number(question: Question, text: str) -> Reply:
    found = numbers_in(text)
    if found is None or len(found) > 1:
        return _none(text, AMBIGUOUS)
    low, high = question.low, question.high
    if not found and low == 0 and _NONE_AT_ALL.fullmatch(text.strip()):
        found = [0.0]
    inside = [n for n in found if abs(n) < float("inf") and (low is None or n >= low) and (high is None or n <= high)]
    return Reply(status=ANSWERED, value=inside[0]) if inside else _none(text, OFF_LIST if found else "")


def _words(text: str) -> Reply:
    # A long text may well hold "I don't know why": it is the short ones that decline.
    declines = len(text.split()) <= _SHORT and _declines(text)
    return _none(text, "") if declines or not text.strip() else Reply(status=ANSWERED, value=text.strip())


def _several(question: Question, shown: Sequence[int], text: str, labels: str) -> Reply:
    said = _Said(text, [question.options[at] for at in shown], labels)
    if said.named and said.texts and {*said.named} != {*said.texts}:
        return _none(text, AMBIGUOUS)
    places = tuple(sorted(shown[at] for at in {*said.named, *said.texts}))
    alone = [at for at, code in enumerate(question.codes) if code in question.exclusive]
    if not places and _NONE_OF_THEM.search(text) and not _declines(text):
        places = tuple(alone) if len(alone) == 1 else ()
    elif not places:
        return _none(text, "")
    if len(places) > 1 and {*places} & {*alone}:
        return _none(text, AMBIGUOUS)
    fits = (question.least or 0) <= len(places) <= (question.most or len(shown)) or {*places} <= {*alone}
    return Reply(status=ANSWERED, value=places) if fits and (places or not question.least) else _none(text, OFF_LIST)


def _ranking(question: Question, shown: Sequence[int], text: str, labels: str) -> Reply:
    # With numbers as labels, 1. 2. 3. might be labels or ranks.
    said = _Said(text, [question.options[at] for at in shown], "letters")
    orders = {tuple(dict.fromkeys(found)) for found in (said.named, said.texts) if found}
    if len(orders) != 1:
        return _none(text, AMBIGUOUS if orders else "")
    (order,) = orders
    if len(order) < len(shown):
        return _none(text, OFF_LIST)
    return Reply(status=ANSWERED, value=tuple(shown[at] for at in order))


def _none(text: str, reason: str) -> Reply:
    reason = reason or (EMPTY if not text.strip() else REFUSED if _declines(text) else OFF_LIST)
    return Reply(status=REFUSED if reason == REFUSED else UNPARSABLE, reason=reason)


def _declines(text: str) -> bool:
    return _REFUSAL.search(text.translate(_STRAIGHT)) is not None


class _Said:
    """The options that a text names, by label and by their own text, each in the order of first mention."""

    def __init__(self, text: str, options: Sequence[str], labels: str) -> None:
        text = text.translate(_STRAIGHT).strip()
        self.texts, rest = _options_in(text, [option.translate(_STRAIGHT) for option in options])
        self.named = _labels_in(rest, labels_of(len(options), labels))


def _labels_in(text: str, names: Sequence[str]) -> list[int]:
    letters = "A" in names
    found = _LETTER.findall(_NO_LETTER.sub("|", text)) if letters else _NUMERAL.findall(text)
    # A letter beyond the last option is a word of its own: "I" is an option only where there are nine or more.
    return list(dict.fromkeys(names.index(name) for name in found if name in names))


def _options_in(text: str, options: Sequence[str]) -> tuple[list[int], str]:
    """Return the options whose text is there, and what is left without them: the A of "A fair amount" is no letter."""
    places: dict[int, int] = {}
    for at in sorted(range(len(options)), key=lambda at: -len(options[at])):
        if not options[at].strip():
            continue
        # The no of "no opinion" is not the option "No".
        within = _DECLINING_NO if options[at].casefold() == "no" else ""
        pattern = re.compile(rf"(?<!\w){re.escape(options[at])}(?!\w){within}", re.IGNORECASE)
        if match := pattern.search(text):
            places[at] = match.start()
            # An option of one character may be a label as well: it stays, and both must agree. What goes leaves its
            # length behind, so that places stay comparable.
            text = pattern.sub(lambda found: "|" * len(found[0]), text) if len(options[at]) > 1 else text
    return sorted(places, key=places.__getitem__), text


_SHORT = 8
"""Words up to which a free text may be a refusal."""
_STRAIGHT = str.maketrans("\u2018\u2019\u201c\u201d", "''\"\"")
_BEFORE, _AFTER = r"(?:^|(?<=[\s(\[{<\"'`*_.:/|,;]))", r"(?=$|[\s)\]}>\"`*_.,:;!?/|\u2013\u2014]|'(?!\w))"
_LETTER = re.compile(rf"{_BEFORE}([A-Z]){_AFTER}")
_NUMERAL = re.compile(rf"{_BEFORE}(?<![0-9][.,])([1-9][0-9]?)(?![.,][0-9]){_AFTER}")
_NO_LETTER = re.compile(
    # The article, the pronoun, and abbreviations such as U.S.A.
    r"\b[Aa] (?!(?:is|was|and|or|because|since|as|for|if|but|then|would|seems|definitely|probably|maybe)\b)(?=[a-z])"
    r"|\bI(?= [a-z]|'[a-z])|(?<!\w)(?:[A-Z]\.){2,}[A-Z]?(?!\w)"
)
_DECLINING_NO = r"(?! (?:answer|opinion)\b)"
_NONE_AT_ALL = re.compile(r"(?:none|nothing)(?: at all)?\W*", re.IGNORECASE)
_NONE_OF_THEM = re.compile(r"\bnone\b|\bneither\b|\bnothing\b", re.IGNORECASE)
_REFUSAL = re.compile(
    # What others refuse, or somebody would rather not do, is no refusal to answer.
    r"(?:prefer|rather) not(?: to)?(?=\W*$|\W*(?:say|answer|tell|talk|discuss|disclose|share|reveal|choose|comment"
    r"|respond|give|provide|get into|go into)\b)"
    r"|(?:^\W*|\bI (?:must |have to |will |would )?(?:politely |respectfully )?)(?:refuse|decline)"
    r"|no answer|(?:can'?t|cannot|unable to|won'?t) (?:answer|say|choose|provide)"
    r"|don'?t (?:know|have (?:an? )?(?:opinion|personal))|as an ai\b|language model|no opinion",
    re.IGNORECASE,
)
