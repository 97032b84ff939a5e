"""All that is wrong with a survey, with its place: what the published schema says, and what no schema can say.

The rules on the form of fields are not written here a second time: they are read from `survey.schema.json`.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from anthology_hub.coding import is_no_answer, is_unsure
from anthology_hub.prompts import LETTERS
from anthology_hub.questionnaires.conditions import DEEPEST, depth
from anthology_hub.schema import CHOICE, DATA, MULTI, RANKING, Condition, Question, needs, wrong_limits

SCHEMA = DATA / "schemas" / "survey.schema.json"
ERROR, WARNING = "error", "warning"
LARGEST = 1_000_000
"""Values in a file, each counted as often as aliases repeat it."""
NESTED = 100
"""Levels of objects and lists within each other."""
MANY = 1_000
"""More names than this are not searched for one alike."""
SEARCHED, LONGEST_CHAIN = 5_000, 50
"""Sets of answers tried, and questions that they may span, before a condition is taken to be possible."""

WITH_OPTIONS = (CHOICE, MULTI, RANKING)
"""Kinds of questions that have options."""

Path = tuple[str | int, ...]
Fault = tuple[Path, str]


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing that is wrong, or looks so."""

    where: str
    """The question by its key and the field, as `question 'vote', options 2, code`."""
    what: str
    severity: str = ERROR
    """error: the survey cannot be used; warning: it can, but may not say what was meant."""

    def __str__(self) -> str:
        return f"{self.severity}: {self.where}: {self.what}"


def problems(value: object) -> list[Problem]:
    """Return all problems of a survey in its JSON form, errors first; none if it is sound.

    Example:
        >>> yes_no = [{"code": 1, "text": "Yes"}, {"code": 2, "text": "No"}]
        >>> ask = {"question": "tea", "in": [3]}
        >>> asked = [{"key": "tea", "text": "Tea?"}, {"key": "milk", "text": "Milk?", "ask_if": ask}]
        >>> for problem in problems({"name": "drinks", "options": yes_no, "questions": asked}):
        ...     print(problem)
        error: question 'milk', ask_if: 'tea' has no option with the code 3; it has 1, 2
    """
    if told := too_large(value):
        return [Problem(where="survey", what=told)]
    faults = list(_faults(value, schema(), ()))
    sheet = _Sheet(value, faults)
    errors = [*faults, *_option_errors(sheet), *_flow_errors(sheet), *_scale_errors(sheet)]
    found = [Problem(where=_place(value, path), what=what) for path, what in dict.fromkeys(errors)]
    warnings = [*_question_warnings(sheet), *_flow_warnings(sheet), *_scale_warnings(sheet), *_order_warnings(sheet)]
    return found + [Problem(where=_place(value, path), what=what, severity=WARNING) for path, what in warnings]


@cache
def schema() -> Mapping[str, Any]:
    """Return the published JSON Schema of a survey."""
    value: Mapping[str, Any] = json.loads(SCHEMA.read_text(encoding="utf-8"))
    return value


# -- size


def too_large(value: object) -> str:
    """Say why a value is too large or nested to be looked at; nothing if it is not."""
    try:
        size = _size(value, {}, 0)
    except _TooDeep as error:
        return str(error)
    return f"it has {size:,} values, at most {LARGEST:,} are read" if size > LARGEST else ""


class _TooDeep(Exception):
    pass


def _size(value: object, known: dict[int, int], level: int) -> int:
    """Count values as often as they are reached, looking at each once; a value within itself is endless."""
    if not isinstance(value, Mapping | list | tuple):
        return 1
    if level > NESTED:
        raise _TooDeep(f"it is nested more than {NESTED} levels deep, or holds itself")
    if id(value) not in known:
        parts = value.values() if isinstance(value, Mapping) else value
        known[id(value)] = 1 + sum(_size(part, known, level + 1) for part in parts)
    return known[id(value)]


# -- form: as much of JSON Schema as our schema uses

_KINDS: Mapping[str, tuple[type | tuple[type, ...], str]] = {
    "object": (dict, "an object (name: value)"),
    "array": (list, "a list"),
    "string": (str, "a text"),
    "integer": (int, "a whole number"),
    "number": ((int, float), "a number"),
    "boolean": (bool, "true or false"),
}


def _faults(value: object, rule: Mapping[str, Any], path: Path) -> Iterator[Fault]:
    if "$ref" in rule:
        rule = {**schema()["$defs"][rule["$ref"].rpartition("/")[2]], **rule}
    if "anyOf" in rule:
        yield from _branch_faults(value, rule, path)
    elif "enum" in rule:
        if value not in rule["enum"]:
            yield path, f"{_shown(value)} is not allowed: allowed are {', '.join(rule['enum'])}"
    elif told := _wrong_kind(value, rule["type"]):
        yield path, told
    else:
        yield from _BY_KIND[rule["type"]](value, rule, path)


def _wrong_kind(value: object, kind: str) -> str:
    wanted, name = _KINDS[kind]
    if isinstance(value, wanted) and (kind == "boolean" or not isinstance(value, bool)):
        return ""
    hint = ""
    if kind == "string" and isinstance(value, int | float):
        hint = ": put it in quotes"
    elif kind == "number" and isinstance(value, str) and re.fullmatch(r"-?\d{1,9}(\.\d{1,9})?", value):
        hint = f": write {value}, without quotes"
    elif kind == "integer" and isinstance(value, str | float) and re.fullmatch(r"-?\d{1,9}(\.0)?", str(value)):
        hint = f": write {int(float(value))}, without quotes and decimal point"
    return f"{_shown(value)} is not {name}{hint}"


def _object_faults(value: Mapping[Any, Any], rule: Mapping[str, Any], path: Path) -> Iterator[Fault]:
    known, more = rule.get("properties", {}), rule.get("additionalProperties", False)
    for name in rule.get("required", ()):
        if name not in value:
            yield path, f"the field {name!r} is missing"
    for name, entry in value.items():
        if not isinstance(name, str):
            yield path, f"the name {_shown(name)} is not a text: put it in quotes"
        elif name in known:
            yield from _faults(entry, known[name], (*path, name))
        elif more:
            yield from _faults(entry, more, (*path, name))
        else:
            yield path, f"unknown field {_shown(name)}{_near(name, known)}: allowed are {', '.join(known)}"


def _array_faults(value: Sequence[object], rule: Mapping[str, Any], path: Path) -> Iterator[Fault]:
    if len(value) < rule.get("minItems", 0):
        yield path, f"it has {len(value)} entries, at least {rule['minItems']} are needed"
    for at, entry in enumerate(value):
        yield from _faults(entry, rule["items"], (*path, at))


def _string_faults(value: str, rule: Mapping[str, Any], path: Path) -> Iterator[Fault]:
    if len(value) < rule.get("minLength", 0) or ("pattern" in rule and not re.search(rule["pattern"], value)):
        yield path, "it is empty"
    elif "not" in rule and re.search(rule["not"]["pattern"], value):
        yield path, f"{_shown(value)} has spaces or braces, which a key cannot have"
    elif re.search("[\ud800-\udfff]", value):
        yield path, f"{_shown(value)} has half a character, which no file can hold"


def _number_faults(value: float, rule: Mapping[str, Any], path: Path) -> Iterator[Fault]:
    if value < rule.get("minimum", value):
        yield path, f"{value} is less than {rule['minimum']}"
    if value > rule.get("maximum", value):
        yield path, f"{value} is more than {rule['maximum']}"


def _boolean_faults(value: bool, rule: Mapping[str, Any], path: Path) -> Iterator[Fault]:
    yield from ()


_BY_KIND: Mapping[str, Any] = {
    "object": _object_faults,
    "array": _array_faults,
    "string": _string_faults,
    "integer": _number_faults,
    "number": _number_faults,
    "boolean": _boolean_faults,
}


def _branch_faults(value: object, rule: Mapping[str, Any], path: Path) -> Iterator[Fault]:
    """Of several forms the one that was meant: the one whose fields are there."""
    fields = set(value) if isinstance(value, dict) else set()
    meant = max(rule["anyOf"], key=lambda branch: len(fields & set(branch["required"])))
    if fields & set(meant["required"]):
        yield from _faults(value, meant, path)
    else:
        forms = "{'question': KEY, 'in': [CODE, ...]}, or all, any or not of such"
        yield path, f"{_shown(value)} is no condition: write {forms}"


# -- what fields demand of each other


class _Sheet:
    """The questions whose form is sound, and what is known of the others."""

    def __init__(self, value: object, faults: Sequence[Fault]) -> None:
        whole: Mapping[str, Any] = value if isinstance(value, dict) else {}
        broken = {path[:2] for path, _ in faults if path[:1] == ("questions",)}
        entries = whole.get("questions")
        self.entries: list[Any] = entries if isinstance(entries, list) else []
        shared_broken = any(path[:1] == ("options",) for path, _ in faults)
        self.shared = None if shared_broken else whole.get("options")
        self.shared_there = "options" in whole
        self.keys: dict[str, int] = {}
        """Key -> place of the first question that has it."""
        self.questions: dict[int, Question] = {}
        """Place -> question; codes and options are those written, doubled ones too."""
        for at, entry in enumerate(self.entries):
            key = entry.get("key") if isinstance(entry, dict) else None
            if isinstance(key, str):
                self.keys.setdefault(key, at)
            if ("questions", at) not in broken and isinstance(entry, dict):
                self.questions[at] = self._question(entry)
        self.by_key = {q.key: q for at, q in self.questions.items() if self.keys[q.key] == at}
        self.scales = _sound(whole.get("scales"), "scales", faults)
        self.orders = _sound(whole.get("order_patterns"), "order_patterns", faults)

    def _question(self, entry: Mapping[str, Any]) -> Question:
        kind = entry.get("kind", CHOICE)
        options = entry.get("options", self.shared if kind in WITH_OPTIONS else None) or []
        limits = {name: entry[name] for name in ("low", "high", "unit", "least", "most") if name in entry}
        return Question(
            key=entry["key"],
            text=entry["text"],
            options=tuple(option["text"] for option in options),
            codes=tuple(option["code"] for option in options),
            reverse=entry.get("reverse", False),
            ordinal=entry.get("ordinal", True),
            ask_if=Condition.from_dict(entry["ask_if"]) if "ask_if" in entry else None,
            kind=kind,
            exclusive=tuple(entry.get("exclusive", ())),
            off_scale=tuple(entry.get("off_scale", ())),
            **limits,
        )

    def is_before(self, key: str, at: int) -> bool:
        """Whether there is a question with the key before a place."""
        return self.keys.get(key, at) < at


def _sound(value: object, field: str, faults: Sequence[Fault]) -> Any:  # noqa: ANN401 - as the schema has it
    return value if value and not any(path[:1] == (field,) for path, _ in faults) else ()


def _option_errors(sheet: _Sheet) -> Iterator[Fault]:
    if sheet.shared:
        yield from _doubled(sheet.shared, ("options",))
    for at, entry in enumerate(sheet.entries):
        closed = isinstance(entry, dict) and entry.get("kind", CHOICE) in WITH_OPTIONS
        if closed and "options" not in entry and not sheet.shared_there:
            yield ("questions", at), "it has no options, and the survey has none for all: give 'options' to one of them"
        if at not in sheet.questions:
            continue
        if not closed and "options" in entry:
            yield ("questions", at, "options"), f"the kind {entry['kind']} has no options: leave them out"
        known = closed and ("options" in entry or sheet.shared)
        for field, what in wrong_limits(sheet.questions[at], given=entry) if known or not closed else ():
            yield ("questions", at, field), what
        if (first := sheet.keys[entry["key"]]) < at:
            yield ("questions", at, "key"), f"question {first + 1} has this key, too: keys must be distinct"
        if "options" in entry:
            yield from _doubled(entry["options"], ("questions", at, "options"))


def _doubled(options: Sequence[Mapping[str, Any]], path: Path) -> Iterator[Fault]:
    for field in ("code", "text"):
        seen = set()
        for option in options:
            if option[field] in seen:
                yield path, f"two options have the {field} {option[field]!r}: make them distinct"
            seen.add(option[field])


def _flow_errors(sheet: _Sheet) -> Iterator[Fault]:
    for at, question in sheet.questions.items():
        place: Path = ("questions", at, "ask_if")
        if question.ask_if and depth(question.ask_if) > DEEPEST:
            yield place, f"it is nested more than {DEEPEST} deep: make it simpler"
        for leaf in dict.fromkeys(question.ask_if.leaves if question.ask_if else ()):
            if told := _leaf_error(leaf, sheet, at):
                yield place, told
        for key in dict.fromkeys(question.piped):
            if key in sheet.keys and not sheet.is_before(key, at):
                yield ("questions", at, "text"), f"it takes in the answer to {key!r}, which comes later: put it before"


def _leaf_error(leaf: Condition, sheet: _Sheet, at: int) -> str:
    key, asked = leaf.question, sheet.by_key.get(leaf.question)
    if key not in sheet.keys:
        return f"there is no question {_shown(key)}{_near(key, sheet.keys)}"
    if not sheet.is_before(key, at):
        return f"it depends on {key!r}, which comes later: put it before"
    if asked and asked.kind != CHOICE:
        return f"{key!r} is of the kind {asked.kind}, and a condition is on a choice"
    strange = sorted(set(leaf.codes) - set(asked.codes)) if asked and asked.codes else []
    if not asked or not strange:
        return ""
    has = ", ".join(map(str, asked.codes))
    return f"{key!r} has no option with the code {', '.join(map(str, strange))}; it has {has}"


def _scale_errors(sheet: _Sheet) -> Iterator[Fault]:
    for name, items in dict(sheet.scales).items():
        for key in dict.fromkeys(items):
            if key not in sheet.keys:
                yield ("scales", name), f"there is no question {_shown(key)}{_near(key, sheet.keys)}"


# -- what may not be meant


def _question_warnings(sheet: _Sheet) -> Iterator[Fault]:
    texts: dict[str, str] = {}
    for at, question in sheet.questions.items():
        place: Path = ("questions", at, "options")
        if len(question.options) > len(LETTERS):
            yield place, f"{len(question.options)} options cannot be lettered: at most {len(LETTERS)} can be asked"
        if question.ordinal and question.kind == CHOICE:
            for text in (question.options[step] for step in question.on_scale):
                if is_no_answer(text) or is_unsure(text):
                    yield (
                        place,
                        f"{text!r} stands as a step of an ordinal scale: name its code in `off_scale`, leave it out, "
                        "or say `ordinal: false`",
                    )
        for text in question.options:
            if "\n" in text or text != text.strip():
                yield place, f"{text!r} has a line break, or spaces at its ends"
        same = " ".join(question.text.split()).casefold()
        if (other := texts.setdefault(same, question.key)) != question.key:
            yield ("questions", at, "text"), f"it is asked twice: {other!r} has the same text"


def _flow_warnings(sheet: _Sheet) -> Iterator[Fault]:
    for at, question in sheet.questions.items():
        for name in dict.fromkeys(question.piped):
            if name not in sheet.keys:
                yield ("questions", at, "text"), f"{{{name}}} is the key of no question and stays as it is"
        if not question.ask_if:
            continue
        sure = all(sheet.is_before(key, at) and key in sheet.by_key for key in needs(question, sheet.keys))
        if not sure or any(_leaf_error(leaf, sheet, at) for leaf in question.ask_if.leaves):
            continue
        if not _possible(question.ask_if, sheet.by_key, sheet.keys):
            told = "no answers to the questions before it meet the condition: it is never asked"
            yield ("questions", at, "ask_if"), told


def _possible(condition: Condition, by_key: Mapping[str, Question], places: Mapping[str, int]) -> bool:
    """Whether some answers lead there, seeing that a question that was not asked has none; yes, if that takes long."""
    leaves, wanted = [*condition.leaves], dict[str, set[int]]()
    while leaves and len(wanted) <= LONGEST_CHAIN:
        leaf = leaves.pop()
        if leaf.question not in wanted and leaf.question in by_key:
            asked = by_key[leaf.question].ask_if
            leaves += asked.leaves if asked else ()
        wanted.setdefault(leaf.question, set()).update(leaf.codes)
    known = all(key in by_key and by_key[key].codes for key in wanted)
    if len(wanted) > LONGEST_CHAIN or not known:
        return True
    chain, steps = sorted(wanted, key=places.__getitem__), iter(range(SEARCHED))

    def leads(at: int, answers: Mapping[str, int | None]) -> bool:
        if at == len(chain) or next(steps, None) is None:
            return at < len(chain) or condition.holds(answers)
        question = by_key[chain[at]]
        asked = question.ask_if is None or question.ask_if.holds(answers)
        # Of the codes that no condition names one stands for all.
        named = [code for code in question.codes if code in wanted[question.key]]
        others = [code for code in question.codes if code not in wanted[question.key]][:1]
        tried = [None, *named, *others] if asked else [None]
        return any(leads(at + 1, {**answers, question.key: code}) for code in tried)

    return leads(0, {})


def _scale_warnings(sheet: _Sheet) -> Iterator[Fault]:
    scales = dict(sheet.scales)
    for name, items in scales.items():
        yield from _item_warnings(name, items, sheet)
    inside = {key for items in scales.values() for key in items}
    for at, question in sheet.questions.items():
        place: Path = ("questions", at, "reverse")
        if question.reverse and scales and question.key not in inside:
            yield place, "it counts reversed, but stands in no scale"
        if question.reverse and question.kind != CHOICE:
            yield place, f"it counts reversed, but is of the kind {question.kind}"
        elif question.reverse and not question.ordinal:
            yield place, "it counts reversed, but its options have no order"


def _item_warnings(name: str, items: Sequence[str], sheet: _Sheet) -> Iterator[Fault]:
    place, known = ("scales", name), [sheet.by_key[key] for key in items if key in sheet.by_key]
    sizes = sorted({len(question.on_scale) for question in known if question.kind == CHOICE})
    if len(sizes) > 1:
        yield place, f"its items have {' and '.join(map(str, sizes))} options: a scale needs one number"
    if len(set(items)) < len(items):
        yield place, "a question stands in it twice"
    for question in known:
        if question.kind != CHOICE:
            yield place, f"{question.key!r} is of the kind {question.kind}, which no scale counts"
        elif not question.ordinal:
            yield place, f"{question.key!r} is not ordinal, so that a scale of it means nothing"


def _order_warnings(sheet: _Sheet) -> Iterator[Fault]:
    closed = [question for question in sheet.questions.values() if question.kind == CHOICE]
    steps = [question.key for question in closed if question.ordinal and len(question.on_scale) > 2]
    if "shuffled" in sheet.orders and steps:
        yield ("order_patterns",), f"the steps of ordinal questions would be shuffled, too: {', '.join(steps[:5])}"


# -- places


def _place(value: Any, path: Path) -> str:  # noqa: ANN401 - a survey, whatever is wrong with it
    if len(path) < 2 or path[0] != "questions":
        return _fields(path) or "survey"
    entry = value["questions"][path[1]]
    key = entry.get("key") if isinstance(entry, dict) else None
    named = repr(key) if isinstance(key, str) and key.strip() else str(int(path[1]) + 1)
    return ", ".join(filter(None, (f"question {named}", _fields(path[2:]))))


def _fields(path: Path) -> str:
    told = ""
    for part in path:
        told += f" {part + 1}" if isinstance(part, int) else f", {part}"
    return told.removeprefix(", ")


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str) if not isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _near(name: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(name[:50], known, n=1) if len(known) <= MANY else []
    return f" (did you mean {close[0]!r}?)" if close else ""
