"""Files of Pew's American Trends Panel (SPSS): waves, weights, column names that drift, form splits, published margins.

The files may not be passed on, so none is shipped, nor are their wordings: definitions of waves (`data/humans/pew-*`)
hold keys and codes, and texts come from the labels of the user's file.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from anthology_hub.coding import Columns, is_unsure, listed_missing, shown, trait_codes, used_columns, weight_column
from anthology_hub.errors import DataError, OptionError, UnknownNameError
from anthology_hub.layouts.sourcing import (
    Source,
    chosen,
    fitted,
    given_survey,
    held,
    is_closed,
    labelled_options,
    need_columns,
    shipped_source,
)
from anthology_hub.schema import Respondents, Survey, shipped
from anthology_hub.statfiles import DataFile, Variable, open_data

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

TOLERANCE = 0.001
"""How far a weighted share may be from the published one: rounding to four digits, and no more."""
ASKED_OF_ALL = 0.995
"""An item with a smaller share of people who have any code was asked of a part; a few break off in every wave."""
_TECHNICAL = re.compile(r"(?i)(F_|QKEY|WEIGHT|FORM_|DEVICE|LANG)")
_SUFFIX = re.compile(r"(?i)(_FINAL|_RECRUITMENT|_W\d+)+$")


class Deviation(NamedTuple):
    """A weighted share that is not the published one."""

    trait: str
    level: str
    published: float
    found: float

    def __str__(self) -> str:
        return f"{self.trait} {self.level} {self.published:.4f} published, {self.found:.4f} here"


def knows(names: frozenset[str]) -> bool:
    """Whether columns are those of an American Trends Panel file."""
    return any(name.upper() == "QKEY" for name in names) and bool(_waves_of_weights(names))


def read(
    path: Path,
    *,
    wave: int | None = None,
    questions: str | Sequence[str] | None = None,
    survey: str | Path | Mapping[str, Any] | Survey | None = None,
    encoding: str | None = None,
) -> tuple[DataFile, Source]:
    """Read a file of the American Trends Panel.

    Waves 34, 92 and 99 come with the items of the Anthology paper; of other waves all items are taken.

    Args:
        path: The `.sav` file.
        wave: Its number; found by its weight, if not given.
        questions: Names of items, or patterns such as `SOCIETY_*`, in place of the wave's own.
        survey: A survey with wordings of the user's, in place of the labels; its keys are names of items.
        encoding: Of the texts in the file, where the file itself is wrong about it.

    Raises:
        DataError: If the file is not of the panel, lacks an item, or its items have other codes than the wave's.
        OptionError: If it is of another wave than asked for.
    """
    data = open_data(path, encoding=encoding)
    number, weight, told = _wave(data, wave)
    source = _template(data.variables, number)
    source |= {"weight": [weight], "notes": [*told, *source["notes"]]}
    people = source["survey"].get("people")
    source["survey"] = given_survey(survey) if survey is not None else _survey(data, source, questions, number)
    form = [name for name in data.variables if name.upper().startswith("FORM_W")]
    data, frame = held(data, [*used_columns(source), *form])
    if survey is None and questions is None and people is None:
        source["notes"] += _only_labelled(frame, source["survey"], data.variables)
    if survey is None:
        source["notes"] += _unsure(source["survey"])
    source["notes"] += [*_parts(frame, _keys(source), form), *_against_published(data, frame, source, people)]
    return data, source


def check_margins(humans: Respondents, wave: int) -> tuple[Deviation, ...]:
    """Compare weighted shares of the traits with the published ones of a wave; unknown levels are left out of both.

    Returns:
        The shares that differ by more than `TOLERANCE`; none for a file as Pew published it.

    Raises:
        UnknownNameError: If no margins of the wave are published.
    """
    known = {number: source["margins"] for number, source in _definitions().items() if "margins" in source}
    if wave not in known:
        raise UnknownNameError("wave with published margins", wave, map(str, known))
    weights = np.ones(len(humans)) if humans.weights is None else humans.weights
    coded = {trait: (humans.levels[trait], codes) for trait, codes in humans.codes.items()}
    return tuple(_deviations(coded, weights, known[wave]))


# -- wave and weight -------------------------------------------------------------------------------------------------


def _waves_of_weights(names: Iterable[str]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for name in names:
        if match := re.match(r"(?i)WEIGHT.*?_W(\d+)(_|$)", name):
            found.setdefault(int(match[1]), []).append(name)
    return found


def _wave(data: DataFile, wanted: int | None) -> tuple[int, str, list[str]]:
    """The number of the wave, the name of its weight, and what to tell about the choice."""
    need_columns(data.path, [name.upper() for name in data.variables], ["QKEY"], layout="the American Trends Panel")
    by_wave = _waves_of_weights(data.variables)
    if not by_wave:
        raise DataError(
            f"{data.path} has no column WEIGHT_W<number>, which every file of the American Trends Panel has; if it is "
            "left out on purpose, write a map in YAML and read the file with it"
        )
    if wanted is not None and wanted not in by_wave:
        raise OptionError(f"{data.path} holds wave {', '.join(map(str, by_wave))}, not {wanted}: leave wave= out")
    number = wanted or _most_items(data.variables, by_wave)
    names = sorted(by_wave[number], key=len)
    others = [name for weights in by_wave.values() for name in weights if name != names[0]]
    told = [f"Weight {names[0]} is used; the file also has {', '.join(others)}."] if others else []
    return number, names[0], told


def _most_items(names: Iterable[str], waves: Iterable[int]) -> int:
    suffixes = Counter(int(match[1]) for name in names if (match := re.search(r"(?i)_W(\d+)$", name)))
    return max(waves, key=lambda wave: suffixes[wave])


# -- definitions -----------------------------------------------------------------------------------------------------


def _definitions() -> dict[int, Source]:
    names = [name for name in shipped("humans") if name.startswith("pew-w")]
    return {int(name.removeprefix("pew-w")): shipped_source(name) for name in names}


def _plain_name(name: str) -> str:
    return _SUFFIX.sub("", name).upper()


def _template(variables: Mapping[str, Variable], number: int) -> Source:
    """The definition of the wave; for a wave without one, the definition whose profile columns the file has most of."""
    known = {wave: fitted(source, variables, same=_plain_name) for wave, source in _definitions().items()}
    if number in known:
        return known[number]
    source = max(reversed(known.values()), key=lambda candidate: len(candidate["traits"]))
    source.pop("margins", None)
    title = f"Pew American Trends Panel, wave {number}"
    told = "The wave has no definition of ours: its traits are coded as in another wave with the same profile columns."
    notes = [note for note in source["notes"] if note.startswith("Trait ")]
    return source | {
        "name": f"pew-w{number}",
        "title": title,
        "citation": f"Pew Research Center, American Trends Panel, wave {number}",
        "wave": number,
        "survey": {"name": f"pew-w{number}", "title": title, "source": "Pew Research Center; labels of the file"},
        "notes": [told, *notes],
    }


# -- items -----------------------------------------------------------------------------------------------------------


def _survey(data: DataFile, source: Source, wanted: str | Sequence[str] | None, number: int) -> Source:
    """The survey with the wordings of the file: the wave's own items, the chosen ones, or all that can be asked."""
    survey = source["survey"]
    if wanted is None and "questions" in survey:
        questions = [_defined(data, entry["key"], survey["codes"]) for entry in survey["questions"]]
        return {**survey, "questions": questions}
    entries = {name: _question(variable) for name, variable in data.variables.items() if _is_item(variable, number)}
    closed = {name: entry for name, entry in entries.items() if is_closed(entry["options"])}
    keys = chosen(list(closed), wanted, whose=str(data.path))
    if not keys:
        raise DataError(f"{data.path} has no item with value labels: name a survey with survey=")
    if wanted is None and (left_out := sorted(set(entries) - set(closed))):
        source["notes"].append(f"{len(left_out)} items have no closed options and are left out: {_listed(left_out)}.")
    if any(len(closed[key]["options"]) > 2 for key in keys):
        source["notes"].append("Options are taken to be in order: the file does not say where they are not.")
    return {**survey, "questions": [closed[key] for key in keys]}


def _is_item(variable: Variable, number: int) -> bool:
    """Items are named for the wave, and their label begins with their name; derived variables have other labels."""
    stem = _SUFFIX.sub("", variable.name)
    named_so = re.match(rf"(?i){re.escape(stem)}(_W{number})?\s*[.:]", variable.label)
    return variable.name.upper().endswith(f"_W{number}") and bool(named_so) and not _TECHNICAL.match(variable.name)


def _defined(data: DataFile, key: str, codes: Sequence[int]) -> Source:
    need_columns(data.path, data.variables, [key], layout="this wave")
    question = _question(data.variables[key])
    if [option["code"] for option in question["options"]] != list(codes):
        found = ", ".join(f"{option['code']} {option['text']}" for option in question["options"]) or "none"
        raise DataError(f"{data.path}: item {key} should have the codes {list(codes)}, but its labels are: {found}")
    return question


def _question(variable: Variable) -> Source:
    options = labelled_options(variable.values)
    # Panelists answer on the web: what has a label, and is none of those for no answer, was on their screen.
    off = [option["code"] for option in options if is_unsure(option["text"])]
    known = {"key": variable.name, "text": _wording(variable), "options": options}
    return {**known, "off_scale": off} if off and len(options) - len(off) > 1 else known


def _unsure(survey: Source) -> Iterator[str]:
    if off := [question["key"] for question in survey["questions"] if "off_scale" in question]:
        yield f"{len(off)} items have an option such as “Not sure”, which lies off the scale: {_listed(off)}."


def _wording(variable: Variable) -> str:
    """The variable label without the item's name before it; `text // stem` of a battery becomes one sentence."""
    stem = re.escape(_SUFFIX.sub("", variable.name))
    label = re.sub(rf"^{stem}(_W\d+)?\s*[.:]\s*", "", " ".join(variable.label.split()), flags=re.IGNORECASE)
    text, *rest = (part.strip() for part in label.split("//"))
    for part in rest:
        text += f" {part}" if text.endswith((".", "?", "!", ":", "…")) else f": {part}"
    return text or variable.name


def _only_labelled(frame: pd.DataFrame, survey: Source, variables: Mapping[str, Variable]) -> list[str]:
    """Leave out items with codes that have no label, such as scales of which only the ends have one; told by name."""
    loose = [
        q["key"] for q in survey["questions"] if not frame[q["key"]].dropna().isin(variables[q["key"]].values).all()
    ]
    survey["questions"] = [question for question in survey["questions"] if question["key"] not in loose]
    return [f"{len(loose)} items have codes without a label and are left out: {_listed(loose)}."] if loose else []


def _keys(source: Source) -> list[str]:
    survey = source["survey"]
    return [q["key"] for q in survey["questions"]] if isinstance(survey, Mapping) else list(Survey.load(survey).keys)


def _parts(frame: pd.DataFrame, keys: Sequence[str], form: Sequence[str]) -> Iterator[str]:
    """Tell which items were asked of a part of the people: the file only leaves the others system-missing."""
    shares = {key: float(frame[key].notna().mean()) for key in keys if key in frame}
    split = {key: share for key, share in shares.items() if share < ASKED_OF_ALL}
    if split:
        told = (f"{key} {share:.1%}{_of_form(frame, key, form)}" for key, share in split.items())
        yield f"Asked of a part of the people only: {', '.join(told)}."


def _of_form(frame: pd.DataFrame, key: str, form: Sequence[str]) -> str:
    for name in form:
        asked = frame.loc[frame[key].notna(), name].dropna().unique()
        if len(asked) < frame[name].nunique():
            return f" ({name} {', '.join(sorted(map(shown, asked)))})"
    return ""


# -- margins ---------------------------------------------------------------------------------------------------------


def _against_published(data: DataFile, frame: pd.DataFrame, source: Source, people: int | None) -> Iterator[str]:
    if people and people != len(frame):
        yield f"The file has {len(frame)} people; the wave as published has {people}."
    columns, missing = Columns(frame, data.variables), listed_missing(source)
    weights = weight_column(columns, source["weight"])
    if "margins" not in source or weights is None:
        return
    coded = {trait: trait_codes(columns, trait, rule, missing=missing) for trait, rule in source["traits"].items()}
    pairs = {trait: (levels, codes) for trait, (levels, codes, _) in coded.items()}
    compared = [trait for trait in source["margins"] if trait in pairs]
    deviations = list(_deviations(pairs, np.nan_to_num(weights.numbers()), source["margins"]))
    if deviations:
        yield (
            f"Weighted shares differ from the published ones by more than {TOLERANCE}: "
            f"{'; '.join(map(str, deviations))}. The file may be filtered, recoded or of another release."
        )
    else:
        yield f"The weighted shares of {', '.join(compared)} agree with the published ones (within {TOLERANCE})."


def _deviations(
    coded: Mapping[str, tuple[Sequence[str], NDArray[np.int16]]],
    weights: NDArray[np.float64],
    margins: Mapping[str, Mapping[str, float]],
) -> Iterator[Deviation]:
    for trait, published in margins.items():
        if trait not in coded:
            continue
        levels, codes = coded[trait]
        sums = np.bincount(codes[codes >= 0], weights=weights[codes >= 0], minlength=len(levels))
        shares = dict(zip(levels, sums / max(float(sums.sum()), np.finfo(float).tiny), strict=True))
        for level, share in published.items():
            found = float(shares.get(level, 0.0))
            if abs(found - share) > TOLERANCE:
                yield Deviation(trait, level, share, found)


def _listed(names: Sequence[str], most: int = 12) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
