"""OpinionQA folders: waves of the American Trends Panel as text labels, `human_resp/American_Trends_Panel_W<n>/`."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from anthology_hub.coding import is_no_answer, named, plain
from anthology_hub.errors import DataError, OptionError
from anthology_hub.layouts.sourcing import (
    Source,
    chosen,
    fitted,
    in_memory,
    need_columns,
    read_text,
    shipped_source,
    texts_to_codes,
)
from anthology_hub.statfiles import DataFile

if TYPE_CHECKING:
    import pandas as pd

INFO, RESPONSES = "info.csv", "responses.csv"


class Entry(NamedTuple):
    """A row of `info.csv`."""

    question: Source
    """As in a survey, its options in the order of their ordinal values, those off the scale last."""
    refusals: list[str]
    """Texts that stand for no answer."""
    moved: bool
    """Whether the options stand in another order in the file."""

    @property
    def key(self) -> str:
        """The question's key."""
        return str(self.question["key"])


def knows(path: Path) -> bool:
    """Whether a folder is an OpinionQA wave, or holds some."""
    return path.is_dir() and bool(_waves(path))


def read(
    path: Path, *, wave: int | None = None, questions: str | Sequence[str] | None = None
) -> tuple[DataFile, Source]:
    """Read a wave of OpinionQA: `info.csv` (questions), `responses.csv` (one row a person, text labels, weight).

    An option with an ordinal value is a step of the scale, as the authors of OpinionQA have it, also where it reads
    "not sure" (they mostly put it in the middle). One without is off the scale, and a refusal no option.

    Args:
        path: The folder of a wave, or one that holds such folders.
        wave: Which, where there are several.
        questions: Names of questions, or patterns such as `SOCIETY_*`; all, if not given.

    Raises:
        DataError: If a file is missing or broken, or a list in it is no list.
        OptionError: If there are several waves and none was chosen, or not the chosen one.
    """
    number, folder = _chosen_wave(path, wave)
    table = read_text(folder / RESPONSES)
    info = read_text(folder / INFO).fillna("")
    need_columns(folder / INFO, info.columns, ("key", "question", "references", "option_ordinal"), layout="OpinionQA")
    asked = info[info["key"].isin(table.columns)]
    notes = _absent(info, asked)
    keys = chosen(list(asked["key"]), questions, whose=str(folder))
    rows: list[Source] = asked[asked["key"].isin(keys)].to_dict("records")  # type: ignore[assignment]
    entries = [_question(folder, row) for row in rows]
    for entry in entries:
        codes = {option["text"]: option["code"] for option in entry.question["options"]}
        table[entry.key] = texts_to_codes(table[entry.key], codes)
    refusals = sorted({text for entry in entries for text in entry.refusals})
    if questions is None:
        entries, loose = _matching(table, entries, set(map(plain, refusals)))
        notes += loose
    if middle := [entry.key for entry in entries if entry.moved]:
        notes.append(f"{len(middle)} questions list an option last that belongs between others: it is put there.")
    if off := [entry.key for entry in entries if "off_scale" in entry.question]:
        notes.append(f"{len(off)} questions have options without an ordinal value, off the scale: {', '.join(off)}.")
    source = fitted(shipped_source("opinionqa"), table.columns, same=str.casefold)
    if not set(named(source["id"])) & set(table.columns):
        del source["id"]
    source |= {
        "name": f"opinionqa-w{number}",
        "survey": _survey(number, entries),
        "weight": _weights(table.columns, number) or [f"WEIGHT_W{number}"],
        "missing": refusals,
        "notes": [*source["notes"], *notes],
    }
    return in_memory(folder / RESPONSES, table), source


def _survey(number: int, entries: Sequence[Entry]) -> Source:
    return {
        "name": f"opinionqa-w{number}",
        "title": f"OpinionQA, American Trends Panel, wave {number}",
        "source": "Pew Research Center, by way of OpinionQA",
        "questions": [entry.question for entry in entries],
    }


def _waves(path: Path) -> dict[int, Path]:
    """The waves at a folder: itself, or the folders in it or in its `human_resp`, by number."""
    here = [path, *sorted(path.glob("*_W*")), *sorted(path.glob("human_resp/*_W*"))]
    here += sorted(path.glob("data/human_resp/*_W*"))
    whole = [folder for folder in here if (folder / INFO).is_file() and (folder / RESPONSES).is_file()]
    return {_number(folder): folder for folder in whole}


def _number(folder: Path) -> int:
    if match := re.search(r"_W(\d+)$", folder.resolve().name):
        return int(match[1])
    names = read_text(folder / RESPONSES, rows=0).columns
    found = [int(match[1]) for name in names if (match := re.search(r"(?i)^WEIGHT.*_W(\d+)$", name))]
    if not found:
        raise DataError(f"{folder}: its wave is in no name: call the folder American_Trends_Panel_W<number>")
    return found[0]


def _chosen_wave(path: Path, wave: int | None) -> tuple[int, Path]:
    waves = _waves(path)
    if not waves:
        raise DataError(f"{path} holds no OpinionQA wave: {INFO} and {RESPONSES} are needed in its folder")
    if wave is None and len(waves) > 1:
        raise OptionError(f"{path} holds the waves {', '.join(map(str, sorted(waves)))}: choose one with wave=")
    number = next(iter(waves)) if wave is None else wave
    if number not in waves:
        raise OptionError(f"{path} has no wave {number}: it holds {', '.join(map(str, sorted(waves)))}")
    return number, waves[number]


def _weights(names: Iterable[str], number: int) -> list[str]:
    found = [name for name in names if re.fullmatch(rf"(?i)WEIGHT.*_W{number}", name)]
    return sorted(found, key=len)


def _absent(info: pd.DataFrame, asked: pd.DataFrame) -> list[str]:
    absent = len(info) - len(asked)
    return [f"{absent} questions of {INFO} have no column in {RESPONSES} and are left out."] if absent else []


def _question(folder: Path, row: Mapping[str, Any]) -> Entry:
    where = f"{folder / INFO}, question {row['key']}"
    texts, ordinals = _literal(row["references"], list, where), _literal(row["option_ordinal"], list, where)
    mapping = _literal(row.get("option_mapping") or "{}", dict, where)
    if not 2 <= len(ordinals) <= len(texts) or not all(isinstance(value, int | float) for value in ordinals):
        raise DataError(
            f"{where}: {len(texts)} options with the ordinal values {ordinals}; each option but the refusals, which "
            "come last, needs a number"
        )
    whole = all(isinstance(code, int | float) and code == int(code) for code in mapping)
    if not whole or not all(isinstance(text, str) for text in (*texts, *mapping.values())):
        raise DataError(
            f"{where}: the options {texts} with the codes {mapping}; options are texts, codes whole numbers"
        )
    known = {text: int(code) for code, text in mapping.items()}
    steps, beyond = texts[: len(ordinals)], texts[len(ordinals) :]
    apart = [text for text in beyond if not is_no_answer(text)]
    mapped = [known.get(text) for text in (*steps, *apart)]
    codes = range(1, len(mapped) + 1) if None in mapped else mapped
    order = sorted(range(len(steps)), key=ordinals.__getitem__)
    options = [{"code": codes[at], "text": steps[at]} for at in order]
    off = [{"code": code, "text": text} for code, text in zip(codes[len(steps) :], apart, strict=True)]
    distinct = len(set(ordinals)) == len(ordinals)
    question = {"key": row["key"], "text": row["question"] or row["key"], "options": options + off, "ordinal": distinct}
    if off and distinct:
        question["off_scale"] = [option["code"] for option in off]
    return Entry(question, [text for text in beyond if text not in apart], order != sorted(order))


def _matching(table: pd.DataFrame, entries: list[Entry], refusals: set[str]) -> tuple[list[Entry], list[str]]:
    """The questions whose answers are all options or refusals; the others are told."""

    def strange(text: object) -> bool:
        return isinstance(text, str) and plain(text) not in refusals and not is_no_answer(text)

    loose = [entry.key for entry in entries if table[entry.key].map(strange).any()]
    note = f"{len(loose)} questions have answers that are none of their options and are left out: {', '.join(loose)}."
    return [entry for entry in entries if entry.key not in loose], [note] if loose else []


def _literal(text: object, kind: type, where: str) -> Any:  # noqa: ANN401 - a list or a mapping, as asked
    """A list or mapping written as Python writes it. Nothing is evaluated: what is no literal is an error."""
    try:
        value = ast.literal_eval(re.sub(r"(?<=[\[,: ])nan(?=[\],} ])", "None", str(text)))
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise DataError(f"{where}: {str(text)[:80]!r} is no {kind.__name__} of texts or numbers") from error
    if not isinstance(value, kind):
        raise DataError(f"{where}: {str(text)[:80]!r} is no {kind.__name__}")
    return value
