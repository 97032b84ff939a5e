"""Raw columns to our codes, by a source description: labels, recodes, bins, refusals, weights and design. Pure.

A source says what the columns of one file of human answers mean; `docs/bring-your-own-survey.md` has the fields. What a
code means is told by its label, never by its number: 99 is a refusal where the file says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from anthology_hub.errors import DataError, EmptyError
from anthology_hub.schema import MISSING, Condition, Question, Survey
from anthology_hub.statfiles import Code, Variable

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

MOST_LEVELS = 50
"""A text column with more different values is taken for free text, not for a closed question."""
LARGEST_WEIGHT = 1e100
"""Weights beyond it, or below its inverse, have no square that a computer can hold."""
_NUMERIC = "fiub"
"""Kinds of a column of numbers, as numpy calls them."""
_STRAIGHT = str.maketrans({"’": "'", "‘": "'", "`": "'", "´": "'", "–": "-", "—": "-", "‐": "-", "\u00a0": " "})
_WORDS = (
    r"ref(?:used?)?|refusal|declined?(?: to (?:answer|say|state))?|dk|don't know|dont know|do not know|no answer|na|"
    r"n/a|nr|no response|not asked|not answered|not applicable|inapplicable|does not apply|iap|system missing|missing|"
    r"skipped|web blank|blank|no lean|prefer not(?: to (?:answer|say))?|would rather not say|not in (?:the )?sample"
)
_NO_ANSWER = re.compile(
    rf"(?:\(?vol\.?\)?\s*)?(?:\(?(?:{_WORDS})(?: on web)?(?: \(?vol\.?\)?)?\)?(?:\s*(?:/|,|;|or|and)\s*|\s*$))+"
)
_VOLUNTEERED = re.compile(r"\(?\bvol\b\.?\)?")
_BETWEEN = re.compile(r"\s*(?:/|,|;|\bor\b|\band\b)\s*")
_UNSURE = frozenset(("not sure", "im not sure", "i am not sure", "unsure", "no opinion"))


# Typed: True and 1.0 are the same key else, and what one reads as would depend on which was read first.
@lru_cache(maxsize=4096, typed=True)
def plain(label: object) -> str:
    """Return a label as labels are compared: without case, apostrophes, kinds of dashes and doubled spaces.

    Example:
        >>> plain("Associate’s  Degree") == plain("associates degree")
        True
    """
    return " ".join(str(label).translate(_STRAIGHT).replace("'", "").casefold().split())


@lru_cache(maxsize=4096)
def is_no_answer(label: str) -> bool:
    """Whether a value label stands for no answer: refused, don't know, not asked and their like, and nothing beside.

    "Not sure" is an answer where it was offered, and none where people brought it up (VOL.) or it counts refusals too.

    Example:
        >>> is_no_answer("DK/Refused (VOL.)"), is_no_answer("Refused to take part")
        (True, False)
        >>> is_no_answer("Not sure"), is_no_answer("Not sure (VOL.)"), is_no_answer("Not sure/Refused")
        (False, True, True)
    """
    text = " ".join(str(label).translate(_STRAIGHT).casefold().split())
    if _NO_ANSWER.fullmatch(text.strip("[]() .")) or _NO_ANSWER.fullmatch(text):
        return True
    offered, brought_up = _VOLUNTEERED.subn("", text)
    parts = [part.strip("[]() .") for part in _BETWEEN.split(offered)]
    unsure = [plain(part) in _UNSURE for part in parts]
    others = [part for part, is_one in zip(parts, unsure, strict=True) if not is_one]
    return any(unsure) and (bool(brought_up) or bool(others)) and all(map(_NO_ANSWER.fullmatch, others))


def is_unsure(label: str) -> bool:
    """Whether an option that people are shown says that they have no view: an answer, but no step of a scale.

    Example:
        >>> is_unsure("Not sure"), is_unsure("Not too sure"), is_unsure("Refused")
        (True, False, False)
    """
    return plain(label).strip("[]() .") in _UNSURE


@dataclass(frozen=True, kw_only=True, repr=False)
class Column:
    """One column of a file: its values, and what the file says about them. Prints no values."""

    name: str
    raw: pd.Series[Any]
    variable: Variable

    def codes(self, meaning: Mapping[Code, int], *, missing: Callable[[Code], bool], what: str) -> NDArray[np.int16]:
        """Carry raw values over to positions.

        Args:
            meaning: Raw value -> position; text values as `plain` gives them.
            missing: Which of the other values stand for no answer.
            what: What to call the column in messages.

        Raises:
            DataError: If a value is neither.
        """
        coded, strange = self.lookup(meaning)
        wrong = {code: count for code, count in strange.items() if not missing(code)}
        if wrong:
            listed = ", ".join(f"{shown(code)} ({count} x)" for code, count in list(wrong.items())[:5])
            allowed = ", ".join(shown(code) for code in meaning) or "none"
            raise DataError(
                f"{what} holds the code{'s' if len(wrong) > 1 else ''} {listed}; allowed are {allowed}. "
                "If it stands for no answer, list it under 'missing'; if it is an answer, write the options into the "
                "source"
            )
        return coded

    def lookup(self, meaning: Mapping[Code, int]) -> tuple[NDArray[np.int16], dict[Code, int]]:
        """Return positions (MISSING where there is none) and how often each value without a meaning occurs."""
        return _by_text(self.raw, meaning) if self.is_text else _by_number(self._floats(), meaning)

    def numbers(self, listed: frozenset[str] = frozenset()) -> NDArray[np.float64]:
        """Return the values as numbers, NaN where there is none or a code stands for no answer.

        Args:
            listed: Codes and labels that a source lists as no answer.

        Raises:
            DataError: If one is no number.
        """
        values = self._parsed(listed) if self.is_text else self._floats()
        codes = [*self.variable.values, *map(_code, listed), *(end for ends in self.variable.missing for end in ends)]
        numeric = [code for code in dict.fromkeys(codes) if isinstance(code, float)]
        gone = np.isin(values, [code for code in numeric if self.is_missing(code, listed)])
        for low, high in self.variable.missing:
            if isinstance(low, float) and isinstance(high, float):
                gone |= (values >= low) & (values <= high)
        return np.where(gone, np.nan, values)

    @property
    def is_text(self) -> bool:
        """Whether the values are anything but numbers."""
        return self.raw.dtype.kind not in _NUMERIC

    def _floats(self) -> NDArray[np.float64]:
        return np.asarray(self.raw.to_numpy(dtype=np.float64, na_value=np.nan))

    def _parsed(self, listed: frozenset[str]) -> NDArray[np.float64]:
        import pandas as pd

        said = self.raw.astype(object).map(lambda value: value if isinstance(value, str) else _code(value))
        numbers = pd.to_numeric(said, errors="coerce")
        blank = self.raw.isna() | said.map(lambda value: isinstance(value, str) and not value.strip())
        lost = ~blank & numbers.isna() & ~said.map(lambda value: self.is_missing(value, listed))
        if lost.any():
            examples = ", ".join(sorted({repr(value) for value in said[lost].head(5)}))
            raise DataError(
                f"column {self.name!r} holds {int(lost.sum())} values that are no numbers, such as {examples}: mend "
                "them, or list those that stand for no answer under 'missing'"
            )
        return np.asarray(numbers.to_numpy(dtype=np.float64, na_value=np.nan))

    def is_missing(self, code: Code, listed: frozenset[str]) -> bool:
        """Whether a code stands for no answer: by the file, by the source, or by its label."""
        # Files with codes as text may label the text or the number in it.
        return any(self._is_missing(form, listed) for form in dict.fromkeys((code, _code(code))))

    def _is_missing(self, code: Code, listed: frozenset[str]) -> bool:
        label = self.variable.values.get(code, code if isinstance(code, str) else "")
        named = plain(label) in listed or plain(_text(code)) in listed
        return named or self.variable.is_missing(code) or is_no_answer(label)


class Columns:
    """The columns that a source names, found by any of their names."""

    def __init__(self, frame: pd.DataFrame, variables: Mapping[str, Variable]) -> None:
        self._frame, self._variables = frame, variables
        self._known: dict[str, Column] = {}

    def find(self, names: str | Sequence[str], purpose: str) -> Column:
        """Return the first of some names that the file has.

        Raises:
            DataError: If it has none.
        """
        if there := self.present(names):
            return there[0]
        close = [match for name in named(names) for match in get_close_matches(name, self._variables, n=2, cutoff=0.7)]
        hint = f"; near to it are {', '.join(dict.fromkeys(close))}" if close else ""
        raise DataError(f"the file has no column for {purpose}: looked for {', '.join(named(names))}{hint}")

    def present(self, names: str | Sequence[str] | None) -> list[Column]:
        """Return those of some columns that the file has."""
        return [self._column(name) for name in named(names) if name in self._known or name in self._frame.columns]

    def _column(self, name: str) -> Column:
        if name not in self._known:
            variable = self._variables.get(name, Variable(name=name))
            self._known[name] = Column(name=name, raw=self._frame[name], variable=variable)
        return self._known[name]

    def at(self, rows: NDArray[np.bool_]) -> Columns:
        """Return the columns with some of the rows."""
        return Columns(self._frame[rows].reset_index(drop=True), self._variables)

    def __len__(self) -> int:
        return len(self._frame)


def named(names: str | Sequence[str] | None) -> list[str]:
    """Return a name or several as a list."""
    return [] if not names else [names] if isinstance(names, str) else list(names)


def source_column(source: Mapping[str, Any], key: str) -> str | Sequence[str]:
    """Return the column, or its possible names, that holds the answers to a question."""
    found: str | Sequence[str] = source.get("columns", {}).get(key, key)
    return found


def used_columns(source: Mapping[str, Any]) -> list[str]:
    """Return every column name that a source mentions, so that no others need be read."""

    def mentioned() -> Iterator[str]:
        for field in ("id", "weight", "strata", "psu"):
            yield from named(source.get(field))
        for rule in source.get("traits", {}).values():
            yield from named(rule["column"])
            yield from named(rule.get("unless", {}).get("column"))
        for question in _asked(source):
            yield from named(source_column(source, question["key"]))
        for names in source.get("retest", {}).values():
            yield from named(names)
        yield from source.get("keep", {})

    return list(dict.fromkeys(mentioned()))


def _asked(source: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    survey = source["survey"]
    if isinstance(survey, Mapping):
        return list(survey.get("questions", ()))
    return [{"key": key} for key in Survey.load(survey).keys]


def without(source: Mapping[str, Any], columns: Collection[str]) -> dict[str, Any]:
    """Return a source that leaves out the questions and traits of some columns, and conditions on such questions.

    Raises:
        DataError: If no question is left.
    """
    survey = source["survey"] if isinstance(source["survey"], Mapping) else Survey.load(source["survey"]).to_dict()
    kept = [q for q in survey["questions"] if not set(named(source_column(source, q["key"]))) & set(columns)]
    if not kept:
        raise DataError(f"all questions of {source['name']} are direct identifiers ({', '.join(columns)}): name others")
    keys = {str(q["key"]) for q in kept}
    scales = {name: [key for key in items if key in keys] for name, items in survey.get("scales", {}).items()}
    freed, traits = [_freed(q, keys) for q in kept], source.get("traits", {})
    loose = [str(q["key"]) for q, now in zip(kept, freed, strict=True) if q is not now]
    told = [f"Asked under a condition on a question that is left out, now of all: {', '.join(loose)}."] if loose else []
    return {
        **source,
        "survey": {**survey, "questions": freed, "scales": {name: items for name, items in scales.items() if items}},
        "retest": {key: names for key, names in source.get("retest", {}).items() if key in keys},
        "notes": [*source.get("notes", ()), *told],
        "traits": {trait: rule for trait, rule in traits.items() if not set(named(rule["column"])) & set(columns)},
    }


def _freed(question: Mapping[str, Any], keys: Collection[str]) -> Mapping[str, Any]:
    """What was asked under a condition on a question that is left out counts as asked of all."""
    leaves = Condition.from_dict(question["ask_if"]).leaves if question.get("ask_if") else ()
    whole = all(leaf.question in keys for leaf in leaves)
    return question if whole else {name: value for name, value in question.items() if name != "ask_if"}


def select_rows(columns: Columns, source: Mapping[str, Any]) -> tuple[Columns, list[str]]:
    """Keep the rows that a source wants: those of `keep`, and those with a weight. Returns them and what was left out.

    Raises:
        DataError: If a weight is missing or zero and the source does not say to drop such people, or one is negative.
        EmptyError: If no row is left.
    """
    notes, keep = [], source.get("keep", {})
    if not len(columns):
        raise EmptyError("the file has no rows: get a fresh copy")
    if keep:
        kept = _of_codes(columns, keep)
        wanted = ", ".join(f"{name} {codes}" for name, codes in keep.items())
        notes.append(f"{int((~kept).sum())} of {len(kept)} rows are left out: kept are those with {wanted}.")
        columns = columns.at(kept)
        if not len(columns):
            raise EmptyError(f"no row of {source['name']} has {wanted}: check 'keep' against the codes in the file")
    weighted = _weighted(columns, source)
    if not weighted.any():
        raise EmptyError(f"every weight of {source['name']} is zero: name another column under 'weight', or none")
    if lost := int((~weighted).sum()):
        notes.append(f"{lost} people have no weight, or a weight of zero, and are left out.")
        columns = columns.at(weighted)
    return columns, notes


def _of_codes(columns: Columns, keep: Mapping[str, Any]) -> NDArray[np.bool_]:
    rows = np.ones(len(columns), dtype=bool)
    for name, wanted in keep.items():
        values = wanted if isinstance(wanted, list | tuple) else [wanted]
        rows &= columns.find(name, "the rows to keep").lookup({_code(value): 0 for value in values})[0] == 0
    return rows


def _weighted(columns: Columns, source: Mapping[str, Any]) -> NDArray[np.bool_]:
    column = weight_column(columns, source.get("weight"))
    if column is None:
        return np.ones(len(columns), dtype=bool)
    weights = column.numbers()
    if broken := int((np.isinf(weights) | (weights < 0)).sum()):
        raise DataError(f"{broken} weights in column {column.name!r} are negative or infinite: mend the file")
    beyond = (weights > LARGEST_WEIGHT) | ((weights > 0) & (weights < 1 / LARGEST_WEIGHT))
    if beyond.any():
        raise DataError(
            f"{int(beyond.sum())} weights in column {column.name!r} are above {LARGEST_WEIGHT:g} or below its inverse, "
            f"such as {weights[beyond][0]:g}: give all the same scale"
        )
    good = np.asarray(weights > 0)
    if not good.all() and source.get("without_weight", "refuse") != "drop":
        raise DataError(
            f"{int((~good).sum())} weights in column {column.name!r} are missing or zero: write without_weight: drop "
            "into the source to leave these people out, or mend the file"
        )
    return good


# -- questions -------------------------------------------------------------------------------------------------------


def read_survey(columns: Columns, source: Mapping[str, Any]) -> Survey:
    """Return the survey of a source; where a question lacks its text or options, the labels of the file are used.

    Raises:
        DataError: If neither the source nor the file tells the options.
    """
    given = source["survey"]
    if not isinstance(given, Mapping):
        return Survey.load(given)
    shared = given.get("options")
    questions = [_described(columns, source, question, shared=shared) for question in given.get("questions", ())]
    return Survey.from_dict({"name": source["name"], **given, "questions": questions})


def _described(
    columns: Columns, source: Mapping[str, Any], question: Mapping[str, Any], *, shared: object
) -> dict[str, Any]:
    key = str(question["key"])
    if question.get("text") and (question.get("options") or shared):
        return dict(question)
    column = columns.find(source_column(source, key), f"question {key}")
    told = {"text": wording(column.variable), **question}
    if not (question.get("options") or shared):
        told |= _options(column, listed_missing(source))
    return told


def wording(variable: Variable) -> str:
    """Return the label of a variable without its name before it; the name, if it has no label.

    Example:
        >>> wording(Variable(name="q1", label="Q1. Is tea good?"))
        'Is tea good?'
    """
    label = " ".join(variable.label.split())
    return re.sub(rf"^{re.escape(variable.name)}\s*[.:]\s*", "", label, flags=re.IGNORECASE) or variable.name


def _options(column: Column, listed: frozenset[str]) -> dict[str, Any]:
    labels = {code: text for code, text in column.variable.values.items() if not column.is_missing(code, listed)}
    numbered = all(isinstance(code, float) and code.is_integer() for code in labels)
    if labels and numbered:
        _check_distinct(column, labels)
        return {"options": [{"code": int(code), "text": text} for code, text in sorted(labels.items())]}
    if column.is_text:
        texts = list(labels.values()) or _different_texts(column, listed)
        # Texts come without an order: distances in option steps would mean nothing.
        numbers = enumerate(_unlike(texts), 1)
        return {"options": [{"code": code, "text": text} for code, text in numbers], "ordinal": bool(labels)}
    which = "only labels that stand for no answer" if column.variable.values and not labels else "no value labels"
    raise DataError(
        f"question {column.name!r} has {which} in the file: write its options into the source, as "
        'options: [{code: 1, text: "Yes"}, ...]'
    )


def _check_distinct(column: Column, labels: Mapping[Code, str]) -> None:
    by_text: dict[str, list[Code]] = {}
    for code, text in labels.items():
        by_text.setdefault(plain(text), []).append(code)
    if doubled := next((codes for codes in by_text.values() if len(codes) > 1), None):
        raise DataError(
            f"question {column.name!r}: the file calls the codes {', '.join(map(shown, doubled))} all "
            f"{labels[doubled[0]]!r}; options have different texts: write its options into the source"
        )


def _unlike(texts: Iterable[str]) -> list[str]:
    """The texts that differ by more than case, spaces and the like; of each such group the first."""
    return list({plain(text): text for text in reversed(list(texts))}.values())[::-1]


def _different_texts(column: Column, listed: frozenset[str]) -> list[str]:
    values = map(str, column.raw.dropna().unique())
    found = _unlike(sorted(value for value in values if value.strip() and not column.is_missing(value, listed)))
    if not 2 <= len(found) <= MOST_LEVELS:
        raise DataError(
            f"question {column.name!r} has {len(found)} different texts: a closed question has 2 to {MOST_LEVELS}. "
            "Leave it out, or write its options into the source"
        )
    return found


def answer_codes(column: Column, question: Question, source: Mapping[str, Any]) -> NDArray[np.int16]:
    """Carry a column over to positions among a question's options.

    Raises:
        DataError: If a value is no option and does not stand for no answer.
    """
    listed = listed_missing(source)
    return column.codes(
        _meaning(column, question, source.get("recode", {})),
        missing=lambda code: column.is_missing(code, listed),
        what=f"question {question.key!r}",
    )


def _meaning(column: Column, question: Question, recode: Mapping[str, int]) -> dict[Code, int]:
    position = {code: at for at, code in enumerate(question.codes)}
    texts: dict[Code, int] = {plain(text): at for at, text in enumerate(question.options)}
    known: dict[Code, int]
    if recode:
        # One recode serves all questions: a code that this one does not have is none of its own.
        known = {_code(raw): position[int(code)] for raw, code in recode.items() if int(code) in position}
    else:
        known = {float(code): at for code, at in position.items()}
        _check_agreement(column, question, known, texts)
    if not column.is_text:
        return known
    if len(texts) < len(question.options):
        raise DataError(
            f"question {question.key!r}: column {column.name!r} holds texts, and the options {question.options} differ "
            "in case, spaces or apostrophes alone: give them texts that differ in more"
        )
    labelled = {plain(_text(code)): texts.get(plain(label), MISSING) for code, label in column.variable.values.items()}
    return known | texts | {code: at for code, at in labelled.items() if at != MISSING}


def _check_agreement(column: Column, question: Question, known: Mapping[Code, int], texts: Mapping[Code, int]) -> None:
    """A file that labels a code as another option than the survey codes it would be read the wrong way round."""
    if column.is_text:
        return
    for code, at in known.items():
        label = column.variable.values.get(code, "")
        if (meant := texts.get(plain(label), at)) != at and plain(question.options[at]) != plain(label):
            raise DataError(
                f"question {question.key!r}: column {column.name!r} labels the code {shown(code)} {label!r}, for which "
                f"the survey has the code {question.codes[meant]}: say with recode: what each code of the file becomes"
            )


# -- traits ----------------------------------------------------------------------------------------------------------


def trait_codes(
    columns: Columns, trait: str, rule: Mapping[str, Any], *, missing: frozenset[str]
) -> tuple[tuple[str, ...], NDArray[np.int16], str]:
    """Return the levels of a trait, each person's level, and what to tell about values without a level (or "").

    Raises:
        DataError: If the column is missing, or neither the source nor the file tells the levels.
    """
    column = columns.find(rule["column"], f"trait {trait}")
    meaning = _level_names(column, rule, missing, trait)
    bins, other = rule.get("bins", ()), rule.get("unless")
    names = [*meaning.values(), *(bin_["level"] for bin_ in bins), *([other["level"]] if other else [])]
    levels = tuple(dict.fromkeys(rule.get("levels") or names))
    if strange := dict.fromkeys(level for level in names if level not in levels):
        raise DataError(
            f"trait {trait!r}: column {column.name!r} has {', '.join(map(repr, strange))}, which the listed levels "
            f"({', '.join(levels)}) lack: say with labels: or codes: what each becomes"
        )
    if not levels:
        raise DataError(f"trait {trait!r}: all labels of column {column.name!r} stand for no answer: leave it out")
    codes, left = column.lookup({code: levels.index(level) for code, level in meaning.items()})
    if bins:
        numbers, free = column.numbers(missing), codes == MISSING
        for bin_ in bins:
            codes[free & _inside(numbers, bin_)] = levels.index(bin_["level"])
            left = {code: count for code, count in left.items() if not _within(code, bin_)}
    if other:
        override = columns.find(other["column"], f"trait {trait}").numbers(missing)
        codes[_inside(override, other)] = levels.index(other["level"])
    lost = {code: count for code, count in left.items() if not column.is_missing(code, missing)}
    listed = ", ".join(f"{shown(code)} {column.variable.values.get(code, '')} ({n})" for code, n in lost.items())
    told = f"Trait {trait}: no level for the codes {' '.join(listed.split())}." if lost else ""
    return levels, codes, told


def _level_names(column: Column, rule: Mapping[str, Any], missing: frozenset[str], trait: str) -> dict[Code, str]:
    found: dict[Code, str] = {_code(raw): level for raw, level in rule.get("codes", {}).items()}
    by_label: dict[Code, str] = {plain(label): level for label, level in rule.get("labels", {}).items()}
    labels = column.variable.values
    if by_label:
        # Where labels count, a code that the file calls a refusal is one, whatever its number meant elsewhere.
        found = {code: level for code, level in found.items() if not is_no_answer(labels.get(code, ""))}
    found |= {code: by_label[plain(label)] for code, label in labels.items() if plain(label) in by_label}
    if column.is_text:
        found |= {plain(level): level for level in rule.get("levels", ())}
        found |= by_label
        found = {plain(code) if isinstance(code, str) else code: level for code, level in found.items()}
    if found or "bins" in rule:
        return found
    if by_label and labels:
        raise DataError(
            f"trait {trait!r}: none of the labels {', '.join(map(repr, rule['labels']))} is in column {column.name!r}; "
            f"it has {', '.join(map(repr, labels.values()))}"
        )
    if labels:
        return {
            plain(code) if isinstance(code, str) else code: label
            for code, label in sorted(labels.items(), key=lambda pair: (str(type(pair[0])), pair[0]))
            if not column.is_missing(code, missing)
        }
    if column.is_text:
        return {plain(text): text for text in _different_texts(column, missing)}
    raise DataError(
        f"trait {trait!r}: column {column.name!r} has no value labels in the file; write its levels into the source, "
        "as codes: {1: Male, 2: Female}, labels: or bins:"
    )


def _inside(numbers: NDArray[np.float64], span: Mapping[str, Any]) -> NDArray[np.bool_]:
    return np.asarray((numbers >= span["from"]) & (numbers <= span["to"]))


def _within(code: Code, span: Mapping[str, Any]) -> bool:
    number = _code(code)
    return isinstance(number, float) and bool(span["from"] <= number <= span["to"])


# -- people ----------------------------------------------------------------------------------------------------------


def people_ids(columns: Columns, names: str | Sequence[str] | None, who: str) -> tuple[str, ...]:
    """Return the id of each person; numbers of the rows, where the source names no column.

    Raises:
        DataError: If an id is missing or doubled.
    """
    if not names:
        return tuple(f"row-{at}" for at in range(1, len(columns) + 1))
    column = columns.find(names, "id")
    ids = column.raw
    if ids.dtype.kind == "f" and ids.notna().all() and (ids % 1 == 0).all():
        ids = ids.astype("int64")
    texts = ids.astype("string").str.strip()
    texts = texts.mask(texts == "")
    missing, doubled = int(texts.isna().sum()), int(texts.dropna().duplicated().sum())
    if missing or doubled:
        raise DataError(
            f"{who}: respondent ids in column {column.name!r} must be present and distinct; {missing} missing, "
            f"{doubled} doubled. If it has several rows a person, keep one wave with keep: {{COLUMN: [CODE]}}"
        )
    return tuple(texts.to_numpy(dtype=object).tolist())


def weight_column(columns: Columns, names: str | Sequence[str] | None) -> Column | None:
    """Return the first named column that has any weights; None if the file has no such column.

    Raises:
        DataError: If every column named is empty.
    """
    there = columns.present(names)
    if there and not (filled := [column for column in there if column.raw.notna().any()]):
        raise DataError(
            f"the weights are missing for all people in {', '.join(column.name for column in there)}: name another "
            "column under 'weight', or none to count every person the same"
        )
    return filled[0] if there else None


def design_codes(columns: Columns, names: str | Sequence[str] | None, what: str) -> NDArray[np.int64] | None:
    """Return the stratum or sampling unit of each person, numbered from 0; None if the file has no such column.

    Raises:
        DataError: If it is known for a part of the people only.
    """
    import pandas as pd

    filled = [column for column in columns.present(names) if column.raw.notna().any()]
    if not filled:
        return None
    codes = pd.factorize(filled[0].raw, sort=True)[0]
    if (codes < 0).any():
        raise DataError(
            f"column {filled[0].name!r} has no {what} for {int((codes < 0).sum())} of {len(codes)} people: it must be "
            "known for all or not be named"
        )
    return np.asarray(codes, dtype=np.int64)


def listed_missing(source: Mapping[str, Any]) -> frozenset[str]:
    """Return the codes and labels that a source lists as no answer, as `plain` gives them."""
    return frozenset(plain(_text(_code(entry))) for entry in source.get("missing", ()))


def _by_number(raw: NDArray[np.float64], meaning: Mapping[Code, int]) -> tuple[NDArray[np.int16], dict[Code, int]]:
    coded = np.full(len(raw), MISSING, dtype=np.int16)
    for code, at in meaning.items():
        if isinstance(code, float):
            # Adding is several times as fast as assigning through a mask, and no value has two codes.
            coded += (raw == code) * np.int16(at - MISSING)
    rest = raw[coded == MISSING]
    values, counts = np.unique(rest[~np.isnan(rest)], return_counts=True)
    return coded, dict(zip(values.tolist(), counts.tolist(), strict=True))


def _by_text(raw: pd.Series[Any], meaning: Mapping[Code, int]) -> tuple[NDArray[np.int16], dict[Code, int]]:
    import pandas as pd

    which, values = pd.factorize(raw)
    positions = np.full(len(values) + 1, MISSING, dtype=np.int16)
    counts, strange = np.bincount(which[which >= 0], minlength=len(values)), dict[Code, int]()
    for at, value in enumerate(values):
        # An option whose text is a number is meant before an option whose code is that number.
        found = meaning.get(plain(value), meaning.get(_code(value)))
        if found is not None:
            positions[at] = found
        elif str(value).strip():
            strange[value if isinstance(value, str) else _code(value)] = int(counts[at])
    return positions[which], strange


def _code(value: object) -> Code:
    """A raw code as it is compared: a number if it reads as one, else its text."""
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return plain(value)


def _text(code: Code) -> str:
    """A code as text; 15 digits, so that long codes stay apart."""
    return f"{code:.15g}" if isinstance(code, float) else code


def shown(code: Code) -> str:
    """Return a code as messages show it.

    Example:
        >>> shown(9999998.0), shown("B")
        ('9999998', "'B'")
    """
    return _text(code) if isinstance(_code(code), float) else repr(code)
