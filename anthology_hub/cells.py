"""One answered question of one role, as a row of a run folder, and the rows put together as `Answers`."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from anthology_hub.errors import RunError
from anthology_hub.prompts import NO_ANSWER
from anthology_hub.runs import ANEW, RunFolder
from anthology_hub.schema import (
    ANSWERED,
    CHOICE,
    FAILED,
    MISSING,
    NUMBER,
    SKIPPED,
    STATUSES,
    TEXT,
    Answers,
    Question,
    Survey,
)

if TYPE_CHECKING:
    from anthology_hub.replies import Value

PARTS = "answers"
"""Name of the parts in a run folder."""
PART_CELLS, PART_SECONDS = 1000, 2.0
"""A part is written when so many cells wait, or the last one was written so long ago."""
GAP = "gap"
"""Status of a question to which no reply came: kept in no part, so that the next call asks it again, and counted as
failed until then."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One answered question of one role."""

    role: int
    question: str
    pick: int
    status: str
    raw: str
    mass: float
    probs: tuple[float, ...]
    """In canonical option order; empty where the model gave text."""
    answer: str
    """The answer as it stands in the history of the questions after it."""
    tries: int = MISSING
    """Samples drawn, the last of which is this one; MISSING in runs that did not count."""
    value: str = ""
    """JSON of the answer to a question that is no choice; empty: none."""
    gap: float = float("nan")
    """See `Answers.order_gap`."""
    reason: str = ""
    """Why no reply came; stands in the events."""

    @classmethod
    def skipped(cls, role: int, question: str) -> Cell:
        """Return the cell of a question that is not asked."""
        return cls._empty(role, question, SKIPPED)

    @classmethod
    def lost(cls, role: int, question: str, reason: str, *, final: bool) -> Cell:
        """Return the cell of a question without a reply: FAILED if there will never be one, otherwise a GAP."""
        status, answer = (FAILED, NO_ANSWER) if final else (GAP, "")
        return cls._empty(role, question, status, answer=answer, reason=reason)

    @classmethod
    def _empty(cls, role: int, question: str, status: str, *, answer: str = "", reason: str = "") -> Cell:
        told: dict[str, Any] = {"status": status, "raw": "", "probs": (), "answer": answer, "reason": reason}
        return cls(role=role, question=question, pick=MISSING, mass=float("nan"), tries=0, **told)


class CellParts:
    """Cells on their way into a run folder: together, so that a part is worth its file, and never for long.

    Example:
        >>> with CellParts(None) as parts:
        ...     [cell.question for cell in parts.add([Cell.skipped(0, "tea"), Cell.lost(0, "b", "gone", final=False)])]
        ['tea']
    """

    def __init__(self, store: RunFolder | None) -> None:
        """Write to a run folder; to nothing, if there is none."""
        self._store, self._waiting, self._since = store, list[Cell](), time.monotonic()

    def __enter__(self) -> CellParts:
        return self

    def __exit__(self, *_: object) -> None:
        self.flush()

    def add(self, cells: Sequence[Cell]) -> list[Cell]:
        """Take cells and return those that are answers; a gap is told in the events alone."""
        kept = [cell for cell in cells if cell.status != GAP]
        if self._store is not None:
            for cell in cells:
                if cell.reason:
                    self._store.log(cell.status, role=cell.role, question=cell.question, reason=cell.reason)
            self._waiting += kept
            if len(self._waiting) >= PART_CELLS or time.monotonic() - self._since >= PART_SECONDS:
                self.flush()
        return kept

    def flush(self) -> None:
        """Write what waits."""
        if self._store is not None and self._waiting:
            key = [(cell.role, cell.question) for cell in self._waiting]
            self._store.write(PARTS, [vars(cell) for cell in self._waiting], cell_schema(), key=key)
            self._waiting = []
        self._since = time.monotonic()


def value_of(question: Question, cell: Cell) -> Value | None:
    """Return the answer of a cell to a question that is no choice; None if there is none.

    Example:
        >>> hours = Question(key="hours", text="How many hours?", kind="number")
        >>> value_of(hours, Cell.skipped(0, "hours")) is None
        True
    """
    if not cell.value:
        return None
    value = json.loads(cell.value)
    return float(value) if question.kind == NUMBER else str(value) if question.kind == TEXT else tuple(value)


def read_cells(store: RunFolder, survey: Survey, n: int) -> dict[tuple[int, str], Cell]:
    """Read what a run folder holds, as (role, question) -> cell.

    Raises:
        RunError: If a part is broken, or is of another run.
    """
    cells, asked = {}, {question.key: question for question in survey.questions}
    for file, rows in store.read(PARTS):
        try:
            part = [Cell(**{**row, "probs": tuple(row["probs"])}) for row in rows]
            strange = [c for c in part if c.question not in asked or not 0 <= c.role < n]
            unsound = [] if strange else [c for c in part if not _sound(asked[c.question], c)]
        except (TypeError, KeyError, ValueError) as error:
            raise RunError(f"{file} is broken ({error}): {ANEW}") from error
        if strange:
            raise RunError(f"{file} holds an answer to {strange[0].question!r} that this run does not ask")
        if unsound:
            raise RunError(f"{file} is broken (it holds what is no answer to {unsound[0].question!r}): {ANEW}")
        cells.update({(cell.role, cell.question): cell for cell in part})
    return cells


def _sound(question: Question, cell: Cell) -> bool:
    """Whether a run could have written a cell."""
    options = range(len(question.options))
    value, answered = value_of(question, cell), cell.status == ANSWERED
    chosen = answered and question.kind == CHOICE
    places = value if isinstance(value, tuple) else ()
    return (
        cell.status in STATUSES
        and (cell.pick in options if chosen else cell.pick == MISSING)
        and (value is not None) == (answered and not chosen)
        and all(at in options for at in places)
        and len(cell.probs) in (0, len(options))
        and all(isinstance(text, str) for text in (cell.raw, cell.answer))
        and cell.tries >= MISSING
    )


def cell_schema() -> Any:  # noqa: ANN401 - pyarrow has no types
    """Return the Arrow schema of the parts."""
    import pyarrow as pa

    return pa.schema(
        [
            ("role", pa.int32()),
            ("question", pa.string()),
            ("pick", pa.int16()),
            ("status", pa.string()),
            ("raw", pa.string()),
            ("mass", pa.float64()),
            ("probs", pa.list_(pa.float64())),
            ("answer", pa.string()),
            ("tries", pa.int32()),
            ("value", pa.string()),
            ("gap", pa.float64()),
        ]
    )


def assemble(
    seats: Sequence[Mapping[str, Any]],
    survey: Survey,
    cells: Mapping[tuple[int, str], Cell],
    told: Mapping[str, Any],
) -> Answers:
    """Put cells together.

    Args:
        seats: Of each role its ids and weight.
        survey: What was asked.
        cells: (role, question) -> cell; what is not in it counts as failed.
        told: Provenance of the run.
    """
    shape = (len(seats), len(survey.questions))
    most = max(len(question.options) for question in survey.questions)
    picks, tries = np.full(shape, MISSING, dtype=np.int16), np.full(shape, MISSING, dtype=np.int32)
    probs, mass = np.full((*shape, most), np.nan, dtype=np.float32), np.full(shape, np.nan, dtype=np.float32)
    statuses, raw = np.full(shape, FAILED, dtype="U12"), np.full(shape, "", dtype=object)
    values, gap = np.full(shape, None, dtype=object), np.full(shape, np.nan, dtype=np.float32)
    column = {question.key: at for at, question in enumerate(survey.questions)}
    for (row, key), cell in cells.items():
        at = row, column[key]
        picks[at], mass[at], statuses[at], raw[at] = cell.pick, cell.mass, cell.status, cell.raw
        tries[at], gap[at], values[at] = cell.tries, cell.gap, value_of(survey.questions[column[key]], cell)
        probs[at][: len(cell.probs)] = cell.probs
    return Answers(
        survey=survey,
        respondent_ids=tuple(seat["respondent_id"] for seat in seats),
        persona_ids=tuple(seat["persona_id"] for seat in seats),
        weights=np.array([seat["weight"] for seat in seats]),
        picks=picks,
        probs=probs,
        mass=mass,
        statuses=statuses,
        raw=raw,
        provenance=told,
        values=values,
        tries=tries,
        order_gap=gap,
        wave=told["inputs"].get("wave", ""),
    )
