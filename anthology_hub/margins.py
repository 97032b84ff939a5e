"""How groups of people answered, as shares: human data without persons in it, read from files or counted.

SubPOP and GlobalOpinionQA publish nothing else. Shares can be compared with (distances between distributions) and may
be passed on; what needs persons (correlations, alpha) cannot be had from them.
"""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from anthology_hub import schema
from anthology_hub.coding import is_no_answer
from anthology_hub.errors import AnthologyError, DataError, OptionError, UnknownNameError
from anthology_hub.hub import write_file
from anthology_hub.schema import MISSING, SCHEMA_VERSION, SMALLEST_CELL, Question, Survey, digest, read_json
from anthology_hub.tables import Row, open_table

if TYPE_CHECKING:
    from numpy.typing import NDArray

TOLERANCE = 0.05
"""How far published shares may be from a sum of 1: so far do ten options come that are rounded to whole percents."""
EVERYONE = "everyone"
_EXACT = 1e-6
_LONGEST = 1_000_000
_SUBPOP = ("qkey", "attribute", "group", "responses", "ordinal", "question", "options")
_GLOBAL = ("question", "selections", "options", "source")
_NOT_COMMERCIAL = "is licensed CC BY-NC-SA 4.0: not for commercial use, and what is derived from it keeps the licence."
_DEFAULTDICT = re.compile(r"defaultdict\(\s*<class '\w+'>\s*,(.*)\)", re.DOTALL)


@dataclass(frozen=True, kw_only=True, repr=False)
class Margins:
    """Shares of the answers that groups of people gave to a survey.

    Example:
        >>> tea = Question(key="tea", text="Tea?", options=("Yes", "No"), codes=(1, 2))
        >>> survey = Survey(name="drinks", title="", source="", questions=(tea,))
        >>> shares = {"tea": np.array([[0.25, 0.75], [0.5, 0.5]])}
        >>> margins = Margins(name="drinks", survey=survey, groups=("Peru", "Japan"), shares=shares)
        >>> margins, margins.group("Japan").shares["tea"].tolist()
        (<Margins drinks: 1 questions, 2 groups, 2 distributions>, [[0.5, 0.5]])
    """

    name: str
    survey: Survey
    groups: tuple[str, ...]
    shares: Mapping[str, NDArray[np.float64]]
    """Question key -> share of each option in each group, shape (groups, options); a row of NaN: not asked there."""
    n: Mapping[str, NDArray[np.int64]] | None = None
    """Question key -> people behind the shares of each group, shape (groups,), 0 where not asked; None: not known."""
    values: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Question key -> place of each step of its scale, without options off it; only of questions whose steps are not
    equally far apart."""
    source: str = ""
    notes: tuple[str, ...] = ()
    """What a user must know: what was left out or renormalised, and the licence."""

    def __post_init__(self) -> None:
        if not self.groups or len(set(self.groups)) != len(self.groups):
            raise DataError(f"margins {self.name!r}: groups must be distinct and not none, got {_few(self.groups)}")
        if set(self.shares) != set(self.survey.keys):
            odd = _few(sorted(set(self.shares) ^ set(self.survey.keys)))
            raise DataError(f"margins {self.name!r}: shares and survey must have the same questions, not so {odd}")
        if stray := sorted(set(self.values) - set(self.shares)):
            raise DataError(f"margins {self.name!r}: values must be of its questions, not of {_few(stray)}")
        for question in self.survey.questions:
            _check_shares(self, question)

    def __repr__(self) -> str:
        known = sum(int((~np.isnan(rows[:, 0])).sum()) for rows in self.shares.values())
        return f"<Margins {self.name}: {len(self.shares)} questions, {len(self.groups)} groups, {known} distributions>"

    # -- from files and people

    @classmethod
    def from_subpop(cls, file: str | Path, *, tolerance: float = TOLERANCE) -> Self:
        """Read shares of subpopulations in the form of SubPOP (Suh et al. 2025), as its Hub repository has them.

        Groups are called `ATTRIBUTE: group`. Options stand in the order of their ordinals; those off the scale (ordinal
        -1), which people were shown, stand last and are marked `off_scale`. The refusal, which nobody is shown, has no
        share and is left out. Wordings that share a key get keys of their own. `notes` counts each.

        Args:
            file: JSONL, CSV or parquet, or a folder of such.
            tolerance: How far shares may be from a sum of 1 to be renormalised.

        Raises:
            DataError: If the file cannot be read or a row does not fit; the message names the row.
        """
        draft = _Draft(Path(file), tolerance)
        for where, row in draft.rows(_SUBPOP):
            _add_subpop(draft, row, where)
        cite = "Suh et al. 2025, SubPOP (arXiv:2502.16761), from the American Trends Panel and the GSS"
        return cls(**draft.finished("subpop", cite, f"SubPOP {_NOT_COMMERCIAL}"))

    @classmethod
    def from_global_opinion_qa(
        cls, file: str | Path, *, ordinal: Collection[str] = (), tolerance: float = TOLERANCE
    ) -> Self:
        """Read shares of countries in the form of GlobalOpinionQA (Durmus et al. 2023).

        A key is made of the source and the hash of wording and options, so it stays when rows come and go.

        Args:
            file: CSV, JSONL or parquet with the columns question, selections, options and source.
            ordinal: Keys of the questions whose options have an order, in the order of the file; the data does not
                say. Their options for no answer (DK/Refused) are left out: interviewers note such answers, but do not
                offer them, so they are no option off the scale.
            tolerance: How far shares may be from a sum of 1 to be renormalised.

        Raises:
            DataError: If the file cannot be read or a row does not fit; the message names the row.
            OptionError: If `ordinal` names a key that is not there.
        """
        draft = _Draft(Path(file), tolerance)
        for where, row in draft.rows(_GLOBAL):
            _add_global(draft, row, where, frozenset(ordinal))
        if lost := set(ordinal) - {item.key for item in draft.cells}:
            raise OptionError(
                f"ordinal= names {_few(sorted(lost))}, but {file} has no such question: its keys are like "
                f"{_few(item.key for item in draft.cells)}; read it without ordinal= and look at survey.keys"
            )
        cite = "Durmus et al. 2023, GlobalOpinionQA (arXiv:2306.16388), from Pew Global Attitudes and World Values"
        told = "No order of the options is known, except where it was named: distances count options, not steps."
        return cls(**draft.finished("global-opinion-qa", cite, told, f"GlobalOpinionQA {_NOT_COMMERCIAL}"))

    @classmethod
    def of(cls, humans: schema.Respondents, by: str | None = None, *, smallest_cell: int = SMALLEST_CELL) -> Self:
        """Count the weighted shares of the answers of respondents, by the levels of a trait.

        Groups and questions answered by fewer people than `smallest_cell` are blank, with `n` 0. Margins by several
        traits, given away together, may still let small groups be worked out by subtraction.

        Args:
            humans: The respondents.
            by: The trait; everyone is one group, if not given.
            smallest_cell: Fewest people behind a distribution.

        Raises:
            DataError: If the respondents have no survey.
            OptionError: If `smallest_cell` is below 1.
            UnknownNameError: If there is no such trait.

        Example:
            >>> from anthology_hub import Respondents
            >>> margins = Margins.of(Respondents.load("gss-2018"), by="gender")
            >>> margins.groups, margins.n["natenvir"].tolist()
            (('Male', 'Female'), [1028, 1248])
        """
        if smallest_cell < 1:
            raise OptionError(f"smallest_cell must be 1 or more, got {smallest_cell}")
        if humans.survey is None:
            raise DataError(f"{humans.name} has no survey: without its questions there is nothing to count")
        if by is not None and by not in humans.levels:
            raise UnknownNameError(f"trait of {humans.name}", by, humans.levels)
        groups = (EVERYONE,) if by is None else humans.levels[by]
        code = np.zeros(len(humans), dtype=np.int16) if by is None else humans.codes[by]
        counted = {q.key: _counted(humans, q, code, len(groups), smallest_cell) for q in humans.survey.questions}
        return cls(
            name=humans.name if by is None else f"{humans.name}-by-{by}",
            survey=humans.survey,
            groups=groups,
            shares={key: shares for key, (shares, *_) in counted.items()},
            n={key: n for key, (_, n, *_) in counted.items()},
            source=humans.source,
            notes=(*humans.notes, *_told(humans, by, counted.values(), int((code == MISSING).sum()), smallest_cell)),
        )

    # -- parts

    def group(self, name: str) -> Self:
        """Return one group alone, with the questions that it was asked.

        Raises:
            UnknownNameError: If there is no such group.
        """
        if name not in self.groups:
            raise UnknownNameError(f"group of {self.name}", name, self.groups)
        at = self.groups.index(name)
        asked = self.select(key for key, rows in self.shares.items() if not np.isnan(rows[at, 0]))
        shares = {key: rows[at : at + 1] for key, rows in asked.shares.items()}
        n = None if asked.n is None else {key: column[at : at + 1] for key, column in asked.n.items()}
        return replace(asked, groups=(name,), shares=shares, n=n)

    def select(self, keys: Iterable[str]) -> Self:
        """Return the margins of some questions, in the order given.

        Raises:
            OptionError: If no key is given, or one twice.
            UnknownNameError: If there is no such question.
        """
        survey = self.survey.select(keys)
        return replace(
            self,
            survey=survey,
            shares={key: self.shares[key] for key in survey.keys},
            n=None if self.n is None else {key: self.n[key] for key in survey.keys},
            values={key: values for key, values in self.values.items() if key in survey.keys},
        )

    # -- JSON

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form; a group that was not asked is null."""
        shares = {
            key: [None if np.isnan(row[0]) else row.tolist() for row in rows] for key, rows in self.shares.items()
        }
        return {
            "schema_version": SCHEMA_VERSION,
            "name": self.name,
            "source": self.source,
            "notes": list(self.notes),
            "groups": list(self.groups),
            "survey": self.survey.to_dict(),
            "shares": shares,
            "n": None if self.n is None else {key: column.tolist() for key, column in self.n.items()},
            "values": {key: list(values) for key, values in self.values.items()},
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Self:
        """Build from the JSON form.

        Raises:
            DataError: If something is missing or does not fit.
        """
        try:
            survey = Survey.from_dict(value["survey"])
            groups = _texts(value["groups"])
            widths = {question.key: len(question.options) for question in survey.questions}
            shares = {key: _rows(rows, widths.get(key, 0)) for key, rows in value["shares"].items()}
            counts = value.get("n")
            n = None if counts is None else {key: _whole(column, key) for key, column in counts.items()}
            values = {key: tuple(map(float, places)) for key, places in value.get("values", {}).items()}
            told = {"source": str(value.get("source", "")), "notes": _texts(value.get("notes", []))}
            return cls(name=str(value["name"]), survey=survey, groups=groups, shares=shares, n=n, values=values, **told)  # type: ignore[arg-type]
        except AnthologyError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise DataError(
                f"this is not the JSON form of margins ({type(error).__name__}: {error}): write it with Margins.save"
            ) from error

    def save(self, file: str | Path) -> Path:
        """Write to a JSON file; whole or not at all."""
        path = Path(file)
        write_file(path, (json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False) + "\n").encode())
        return path

    @classmethod
    def load(cls, file: str | Path) -> Self:
        """Read a file that `save` wrote.

        Raises:
            DataError: If it is none.
        """
        return cls.from_dict(read_json(Path(file)))


def _check_shares(margins: Margins, question: Question) -> None:
    rows, shape = margins.shares[question.key], (len(margins.groups), len(question.options))
    if rows.shape != shape:
        raise DataError(f"margins {margins.name!r}: {question.key!r} needs shares of shape {shape}, got {rows.shape}")
    asked = rows[~np.isnan(rows).all(axis=1)]
    if not ((asked >= 0).all() and np.allclose(asked.sum(axis=1), 1, atol=_EXACT)):
        raise DataError(f"margins {margins.name!r}: the shares of {question.key!r} must be >= 0 and sum to 1")
    if margins.n is not None and (question.key not in margins.n or margins.n[question.key].shape != shape[:1]):
        raise DataError(f"margins {margins.name!r}: {question.key!r} needs n for each of {shape[0]} groups")
    if margins.n is not None and (margins.n[question.key] < 0).any():
        raise DataError(f"margins {margins.name!r}: n of {question.key!r} must be 0 or more")
    if not np.isfinite(margins.values.get(question.key, ())).all():
        raise DataError(f"margins {margins.name!r}: values of {question.key!r} must be finite")
    if len(margins.values.get(question.key, question.on_scale)) != (steps := len(question.on_scale)):
        raise DataError(
            f"margins {margins.name!r}: {question.key!r} needs a value for each of {steps} steps of its scale"
        )


# -- counting ---------------------------------------------------------------------------------------------------------

_Counted = tuple["NDArray[np.float64]", "NDArray[np.int64]", int, int]


def _counted(humans: schema.Respondents, question: Question, code: NDArray[np.int16], groups: int, k: int) -> _Counted:
    """Shares and people of one question in each group, how many groups are blank, and how many options are rare."""
    answers, options = humans.answers[question.key], len(question.options)
    there = (answers != MISSING) & (code != MISSING)
    cells = code[there].astype(np.int64) * options + answers[there]
    weights = None if humans.weights is None else humans.weights[there]
    people = np.bincount(cells, minlength=groups * options).reshape(groups, options)
    weighted = np.bincount(cells, weights=weights, minlength=groups * options).reshape(groups, options).astype(float)
    n = people.sum(axis=1)
    # People who all weigh nothing have no shares either.
    shown = (n >= k) & (weighted.sum(axis=1) > 0)
    shares = np.full((groups, options), np.nan)
    shares[shown] = weighted[shown] / weighted[shown].sum(axis=1, keepdims=True)
    rare = int(((people[shown] > 0) & (people[shown] < k)).sum())
    return shares, np.where(shown, n, 0), int(((n > 0) & ~shown).sum()), rare


def _told(
    humans: schema.Respondents, by: str | None, counted: Iterable[_Counted], unknown: int, k: int
) -> Iterator[str]:
    blank, rare = (sum(numbers) for numbers in zip(*((b, r) for *_, b, r in counted), strict=True))
    yield "Shares are weighted." if humans.weights is not None else "Shares are not weighted."
    if unknown:
        yield f"{unknown} people whose {by} is not known are in no group."
    if blank:
        weightless = humans.weights is not None and not (humans.weights > 0).all()
        also = ", or of people without weight," if weightless else ""
        yield f"{blank} distributions of fewer than {k} people{also} are blank."
    if rare:
        yield f"{rare} shares stand for 1 to {k - 1} people: merge levels before you publish them."


# -- files ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Item:
    """A question as rows of a file give it: rows with equal items are about the same question."""

    key: str
    text: str
    options: tuple[str, ...]
    ordinal: bool
    off: int = 0
    """How many of the options lie off the scale: the last ones."""
    values: tuple[float, ...] = ()
    variant: str = ""
    """What else tells apart questions of one wording."""


class _Draft:
    """Questions and distributions as the rows of a file bring them, and what there is to tell about them."""

    def __init__(self, file: Path, tolerance: float) -> None:
        if not 0 <= tolerance < 1:
            raise OptionError(f"tolerance must be 0 or more and below 1, got {tolerance}")
        self.file, self.tolerance = file, tolerance
        self.cells: dict[_Item, dict[str, NDArray[np.float64]]] = {}
        self.told: Counter[str] = Counter()
        self.seen: dict[object, tuple[_Item, NDArray[np.float64]]] = {}
        """What was made of a question when its first row came: the item, and the matrix that carries shares to it."""

    def rows(self, columns: Sequence[str]) -> Iterator[tuple[str, Row]]:
        """The rows of the file, each with the words that say where it is."""
        table = open_table(self.file)
        if missing := [name for name in columns if name not in table.columns]:
            there = ", ".join(table.columns) or "none"
            raise DataError(f"{self.file} lacks the columns {', '.join(missing)}; it has {there}")
        for number, row in enumerate(table.rows(columns), 1):
            yield f"{self.file}, row {number}", {name: row.get(name) for name in columns}

    def tell(self, what: str) -> None:
        """Count something for the notes."""
        self.told[what] += 1

    def add(self, raw: object, group: str, shares: Sequence[float | None], where: str) -> None:
        """Take over the shares of one group."""
        item, carry = self.seen[raw]
        known = self.cells.setdefault(item, {})
        found = self._carried(shares, carry, f"{where}, {group!r}")
        if found is None:
            return
        if group not in known:
            known[group] = found
        elif np.allclose(known[group], found, atol=_EXACT):
            self.tell("Distributions given twice, counted once")
        else:
            raise DataError(f"{where}: {group!r} answers {item.key!r} again, with other shares: keep one of the rows")

    def _carried(
        self, shares: Sequence[float | None], carry: NDArray[np.float64], where: str
    ) -> NDArray[np.float64] | None:
        try:
            given = np.array(shares, dtype=np.float64)
        except (TypeError, ValueError, OverflowError) as error:
            raise DataError(f"{where}: shares must be numbers, got {str(shares)[:80]}") from error
        if not given.size or np.isnan(given).any() or not given.any():
            self.tell("Distributions that are blank or all zero, taken as not asked")
            return None
        if given.shape != carry.shape[:1]:
            raise DataError(f"{where}: {given.size} shares for {len(carry)} options: mend or remove the row")
        if (given < 0).any() or not abs(given.sum() - 1) <= self.tolerance:
            raise DataError(
                f"{where}: shares must be >= 0 and sum to 1 within {self.tolerance}, got a sum of {given.sum():.4g}: "
                "mend or remove the row, or allow more with tolerance="
            )
        if abs(given.sum() - 1) > _EXACT:
            self.tell(f"Distributions with a sum off 1 by up to {self.tolerance}, renormalised")
        kept = np.asarray(given @ carry)
        if not kept.sum() > 0:
            self.tell("Distributions with nothing on the scale, taken as not asked")
            return None
        return np.asarray(kept / kept.sum())

    def finished(self, name: str, source: str, *notes: str) -> dict[str, Any]:
        """The fields of the margins, with what was counted before the other notes."""
        asked = {item: cells for item, cells in self.cells.items() if cells}
        if not asked:
            raise DataError(f"{self.file} has no question with shares: {'; '.join(self.notes) or 'it has no rows'}")
        self.told["Questions without any shares, left out"] += len(self.cells) - len(asked)
        groups = tuple(dict.fromkeys(group for cells in asked.values() for group in cells))
        place = {group: at for at, group in enumerate(groups)}
        keys = self._keys(asked)
        shares = {}
        for item, cells in asked.items():
            shares[keys[item]] = rows = np.full((len(groups), len(item.options)), np.nan)
            rows[[place[group] for group in cells]] = list(cells.values())
        questions = tuple(_question(item, keys[item]) for item in asked)
        survey = Survey(name=name, title=self.file.stem, source=source, questions=questions)
        values = {keys[item]: item.values for item in asked if item.values}
        told = (*self.notes, *notes)
        known = {"name": name, "survey": survey, "groups": groups, "shares": shares, "values": values}
        return {**known, "source": source, "notes": told}

    @property
    def notes(self) -> list[str]:
        """What was counted, as sentences."""
        return [f"{what}: {count}." for what, count in sorted(self.told.items()) if count]

    def _keys(self, items: Iterable[_Item]) -> dict[_Item, str]:
        """A key for each item: its own for the first of a key, with -2, -3 and so on for those after it."""
        found: dict[_Item, str] = {}
        listed = list(items)
        taken = {item.key for item in listed}
        first: set[str] = set()
        for item in listed:
            if item.key not in first:
                first.add(item.key)
                found[item] = item.key
                continue
            self.tell("Questions that shared the key of another and got one of their own (KEY-2)")
            found[item] = next(key for at in range(2, len(listed) + 2) if (key := f"{item.key}-{at}") not in taken)
            taken.add(found[item])
        return found


def _question(item: _Item, key: str) -> Question:
    codes = tuple(range(1, len(item.options) + 1))
    off = codes[len(codes) - item.off :]
    return Question(key=key, text=item.text, options=item.options, codes=codes, ordinal=item.ordinal, off_scale=off)


def _add_subpop(draft: _Draft, row: Row, where: str) -> None:
    key, text = (_said(row[name], f"{where}, {name}") for name in ("qkey", "question"))
    options = tuple(_said(option, f"{where}, options") for option in _list(row["options"], f"{where}, options"))
    scale = _list(row["ordinal"], f"{where}, ordinal")
    raw = (key, text, options, str(scale))
    if raw not in draft.seen:
        found = _on_scale(draft, options, scale, where)
        if len(options) > len(scale):
            draft.tell("Questions whose refusal option is left out: it has no share")
        order = [*found.steps, *found.off]
        names = tuple(options[at] for at in order)
        item = _Item(key=key, text=text, options=names, ordinal=found.ordinal, off=len(found.off), values=found.places)
        draft.seen[raw] = item, np.eye(len(scale))[:, order]
    draft.add(raw, _group_name(row, where), _list(row["responses"], f"{where}, responses"), where)


def _said(value: object, where: str) -> str:
    text = " ".join(str(value).split()) if isinstance(value, str | int | float) and value == value else ""
    if not text:
        raise DataError(f"{where}: {value!r} is blank: mend or remove the row")
    return text


class _Placed(NamedTuple):
    """Where the options of a SubPOP question stand."""

    steps: list[int]
    """Those on the scale, in its order; all of them, if it is none."""
    off: list[int]
    ordinal: bool
    places: tuple[float, ...]
    """Of the steps, if they are not equally far apart."""


def _on_scale(draft: _Draft, options: Sequence[str], scale: Sequence[Any], where: str) -> _Placed:
    try:
        values = np.array(scale, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{where}: ordinals must be numbers, got {str(scale)[:80]}") from error
    # The last option is the refusal, which has no ordinal and no share.
    if len(options) - len(scale) not in (0, 1) or not 2 <= len(scale) == len(set(options[: len(scale)])):
        raise DataError(
            f"{where}: a question needs two options or more, all different, and an ordinal for each but the refusal, "
            f"got {len(options)} options and the ordinals {str(scale)[:80]}: mend or remove the row"
        )
    order = np.flatnonzero(np.isfinite(values) & (values >= 0))
    if len(np.unique(values[order])) < 2:
        draft.tell("Questions without an order of the options (ordinals all equal or -1)")
        return _Placed(list(range(len(values))), [], False, ())
    if off := sorted(set(range(len(values))) - set(order.tolist())):
        draft.tell("Questions with options off the scale (ordinal -1), put last and marked `off_scale`")
    steps = np.diff(values[order])
    if not ((steps >= 0).all() or (steps <= 0).all()):
        draft.tell("Questions whose options were put into the order of their ordinals")
        order = order[np.argsort(values[order], kind="stable")]
        steps = np.diff(values[order])
    if np.allclose(steps, steps[0]):
        return _Placed(order.tolist(), off, True, ())
    draft.tell("Questions whose options are not equally far apart (see `values`)")
    return _Placed(order.tolist(), off, True, tuple(values[order].tolist()))


def _group_name(row: Row, where: str) -> str:
    """`SEX: Female`, or `SEX: Female & RACE: Asian` where a group is given by several attributes."""
    attributes, groups = (
        _list(row[name], where) if not isinstance(row[name], str) or row[name].startswith("[") else [row[name]]
        for name in ("attribute", "group")
    )
    if len(attributes) != len(groups) or not groups:
        raise DataError(f"{where}: {len(groups)} groups for {len(attributes)} attributes: mend or remove the row")
    return " & ".join(f"{attribute}: {group}" for attribute, group in zip(attributes, groups, strict=True))


def _add_global(draft: _Draft, row: Row, where: str, ordinal: frozenset[str]) -> None:
    text = " ".join(str(row["question"] or "").split())
    names = [str(option).strip() for option in _list(row["options"] or "[]", f"{where}, options")]
    if not text or len(set(names)) < 2:
        draft.tell("Rows without a wording or without two different options, left out")
        return
    selections = row["selections"]
    cells = literal(selections, f"{where}, selections") if isinstance(selections, str) else selections
    if not isinstance(cells, Mapping):
        raise DataError(f"{where}: selections must be a mapping of groups to shares, got {str(cells)[:80]}")
    raw = (text, tuple(names), row["source"], str(selections))
    if raw not in draft.seen:
        draft.seen[raw] = _country_item(draft, text, names, str(row["source"]), ordinal, str(selections))
    for group, shares in cells.items():
        # Where the Hub serves parquet, a mapping has the groups of all rows, most of them empty.
        if shares is not None:
            draft.add(raw, str(group), _list(shares, f"{where}, {group}"), where)


def _country_item(
    draft: _Draft, text: str, names: Sequence[str], source: str, ordinal: frozenset[str], variant: str
) -> tuple[_Item, NDArray[np.float64]]:
    key = f"{source.strip().lower() or 'q'}-{digest([text, list(names)])[:10]}"
    options = list(dict.fromkeys(names))
    if len(options) < len(names):
        draft.tell("Questions with two options of the same text, whose shares are added")
    if key in ordinal and (off := [name for name in options if is_no_answer(name)]):
        draft.tell("Questions with options for no answer, which nobody is shown: left out and the rest renormalised")
        options = [name for name in options if name not in off]
    carry = np.array([[float(name == option) for option in options] for name in names])
    item = _Item(key=key, text=text, options=tuple(options), ordinal=key in ordinal, variant=digest(variant))
    return item, carry


def _list(value: object, where: str) -> list[Any]:
    found = literal(value, where) if isinstance(value, str) else value
    if not isinstance(found, list | tuple):
        raise DataError(f"{where}: a list is needed, got {str(value)[:80]!r}")
    return list(found)


def literal(text: str, where: str) -> Any:  # noqa: ANN401 - lists, mappings, texts and numbers
    """Read lists and mappings that were written as Python text; nothing in it is ever run.

    Besides plain literals it knows what is found in published tables: `defaultdict(<class 'list'>, {...})`, `nan` and
    numbers as NumPy writes them.

    Args:
        text: What was written.
        where: How to call the place in messages.

    Raises:
        DataError: If it is anything else.

    Example:
        >>> literal("defaultdict(<class 'list'>, {'Peru': [0.4, np.float64(0.6)]})", "row 1")
        {'Peru': [0.4, 0.6]}
    """
    inside = found[1] if (found := _DEFAULTDICT.fullmatch(text.strip())) else text
    try:
        if len(inside) > _LONGEST:
            raise ValueError(f"it has {len(inside):,} characters; {_LONGEST:,} are allowed")
        return _value(ast.parse(inside.strip(), mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        said = str(error).partition("\n")[0] or type(error).__name__
        raise DataError(f"{where}: {text[:80]!r} is no list or mapping as Python writes them: {said}") from error


def _value(node: ast.expr) -> Any:  # noqa: ANN401 - as above
    match node:
        case ast.Constant(value=str() | int() | float() | None as value):
            return value
        case ast.List(elts=parts) | ast.Tuple(elts=parts):
            return [_value(part) for part in parts]
        case ast.Dict(keys=keys, values=values) if None not in keys:
            names = [_value(key) for key in keys if key is not None]
            if not all(isinstance(name, str | int | float) for name in names):
                raise ValueError("the names in a mapping must be texts or numbers")
            return dict(zip(names, map(_value, values), strict=True))
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
            return -number
        case ast.Name(id="nan"):
            return float("nan")
        case ast.Call(func=ast.Attribute(attr="float64" | "float32"), args=[part], keywords=[]):
            return _value(part)
    raise ValueError(f"{type(node).__name__} is not allowed")


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError(f"groups and notes are lists of texts, not {value!r:.80}")
    return tuple(map(str, value))


def _whole(column: Sequence[int], key: str) -> NDArray[np.int64]:
    if not all(type(number) is int for number in column):
        raise ValueError(f"n of {key!r} must be whole numbers")
    return np.array(column, dtype=np.int64)


def _rows(rows: Sequence[Sequence[float] | None], width: int) -> NDArray[np.float64]:
    filled = [[np.nan] * width if row is None else row for row in rows]
    return np.array(filled, dtype=np.float64).reshape(len(filled), -1)


def _few(names: Iterable[str], most: int = 5) -> str:
    listed = [repr(name) for name in names]
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more or "none"
