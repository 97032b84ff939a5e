"""Results to one immutable file each in a results folder or repository, and those files to a ranked table.

A push only adds files; what is said of a run later (a verification, a withdrawal) is a file of its own beside it.
Ranking is computed when read, within a survey and its questions; raw and normalised distances never share a column.
`compact` alone writes what is derived: the table, the folded runs and the README.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from anthology_hub import cards, hub
from anthology_hub.errors import AnthologyError, DataError, EmptyError, OptionError, UnknownNameError
from anthology_hub.exits import eee_record
from anthology_hub.measures import BASELINES, MEASURES
from anthology_hub.ranking import (
    BELOW_PROTOCOL,
    CURRENT,
    DIFFERS,
    HUMANS,
    MAJORITY,
    NOTES,
    UNIFORM,
    VERIFIED,
    WITHDRAWN,
    Entry,
    Row,
    board_lines,
    rank,
    with_status,
)
from anthology_hub.schema import SCHEMA_VERSION, SMALLEST_CELL, Answers, Result, Scale, Subgroup, digest, read_json

__all__ = [
    "HUMANS",
    "MAJORITY",
    "UNIFORM",
    "Board",
    "Entry",
    "Published",
    "Row",
    "Tombstone",
    "compact",
    "publish",
    "rank",
    "read_board",
    "read_results",
    "withdraw",
]

RUNS, ANSWERS, MARKS, TOMBSTONES = "runs", "answers", "verified", "withdrawn"
TABLE, FOLDED, README = "leaderboard/latest.parquet", "runs-parquet", "README.md"


@dataclass(frozen=True, kw_only=True)
class Published:
    """Where a result is now."""

    path: str
    """Of the run file inside the target."""
    url: str
    pull_request: int | None = None
    """Number of the pull request in which it waits; None if it is in already."""


@dataclass(frozen=True, kw_only=True)
class Tombstone:
    """Says that a run was withdrawn, by whom and why. It stays."""

    path: str
    """Of the run file, which may be gone."""
    run_id: str = ""
    reason: str = ""
    who: str = ""
    when: str = ""


@dataclass(frozen=True, kw_only=True)
class Board:
    """All that a results folder or repository holds."""

    entries: tuple[Entry, ...]
    tombstones: tuple[Tombstone, ...] = ()
    broken: Mapping[str, str] = field(default_factory=dict)
    """Files among the runs that are no results: path -> what is wrong."""
    marked: tuple[str, ...] = ()
    """Answer files that some verification is about."""

    def find(self, run: str) -> tuple[Entry, ...]:
        """Return the entries of a run, by the path of its file or by its id (8 digits or more of it).

        Raises:
            UnknownNameError: If there is none.
        """
        found = tuple(
            entry
            for entry in self.entries
            if entry.path == run or (len(run) >= 8 and entry.result.run_id.startswith(run))
        )
        if not found:
            raise UnknownNameError("run", run, sorted({entry.path for entry in self.entries}))
        return found


# -- writing ---------------------------------------------------------------------------------------------------------


def publish(
    result: Result,
    target: str | Path,
    *,
    answers: Answers | None = None,
    smallest_cell: int = SMALLEST_CELL,
    pull_request: bool | None = None,
) -> Published:
    """Add a result, and if given its simulated answers, to a results folder or dataset repository.

    Human answers are not accepted: nothing here takes respondents.

    Args:
        result: From `evaluate`.
        target: A folder, or `hf://namespace/name` on the Hub (made private if it is not there).
        answers: What the result was computed from, so that others can check it.
        smallest_cell: Refuse a result in which fewer humans than this chose some option (0 of them is fine).
        pull_request: True or False to demand or refuse a pull request; None: only where the token may not write.

    Raises:
        DataError: If the target holds another result of the same name, or a cell of humans is too small.
    """
    for item in result.items:
        if small := [count for count in item.get("human_counts", ()) if 0 < count < smallest_cell]:
            raise DataError(
                f"only {min(small)} people chose some option of {item['question']}, which may tell on them: compare "
                f"with more people, or lower smallest_cell (now {smallest_cell}) if these answers are public anyway"
            )
    if few := [group for group in result.subgroups if 0 < group.n_human < smallest_cell]:
        raise DataError(
            f"only {few[0].n_human} people are {few[0].trait} {few[0].level}, which may tell on them: evaluate without "
            f"these subgroups, or lower smallest_cell (now {smallest_cell}) if these people are known anyway"
        )
    stem, record, files = stem_of(result), to_record(result), {}
    if answers is not None:
        if answers.provenance["run_id"] != result.run_id:
            raise DataError(
                f"the answers are of run {answers.provenance['run_id']}, the result is of run {result.run_id}"
            )
        # What is compared is published: words that are no choice may hold anything.
        table = _answers_parquet(answers.choices)
        files[f"{ANSWERS}/{stem}.parquet"] = table
        record["answers"] = {"path": f"{ANSWERS}/{stem}.parquet", "sha256": _sha256(table)}
    path = f"{RUNS}/{stem}.json"
    message = f"Add run {result.run_id}: {result.method} on {result.survey}"
    # The run last: in a folder, a kill in between leaves answers without a run, which nobody sees.
    done = hub.add_files(target, {**files, path: _json(record)}, message=message, pull_request=pull_request)
    return Published(path=path, url=done.url, pull_request=done.pull_request)


def withdraw(
    target: str | Path, run: str, *, reason: str, who: str, pull_request: bool | None = None
) -> tuple[Tombstone, ...]:
    """Take a run out of the ranks for good; its files stay, with a tombstone that says who did it and why.

    Args:
        target: Results folder, or `hf://namespace/name`.
        run: Path of a run file; or a run id, which stands for all files of that run.
        reason: For others to read.
        who: Name to stand by it.
        pull_request: See `publish`.

    Raises:
        OptionError: If the reason or the name is empty.
        DataError: If the run was withdrawn before.
        UnknownNameError: If there is no such run.
    """
    for name, value in (("reason", reason), ("who", who)):
        if not value.strip():
            raise OptionError(f"a withdrawal needs a {name}, got {value!r}: say it in a few words")
    board = read_board(target)
    found = board.find(run)
    if gone := [stone for stone in board.tombstones if stone.path in {entry.path for entry in found}]:
        told = gone[0]
        raise DataError(f"{told.path} was withdrawn by {told.who} on {told.when}: {told.reason}. Nothing is left to do")
    when = now()
    stones = tuple(
        Tombstone(path=entry.path, run_id=entry.result.run_id, reason=reason, who=who, when=when) for entry in found
    )
    files = {
        beside(stone.path, TOMBSTONES): _json({"schema_version": SCHEMA_VERSION, **asdict(stone)}) for stone in stones
    }
    hub.add_files(target, files, message=f"Withdraw run {found[0].result.run_id}", pull_request=pull_request)
    return stones


def compact(target: str | Path, *, name: str | None = None, licence: str | None = None) -> hub.Commit:
    """Make what is derived anew from the runs: the table, the runs folded into parquet, and the README.

    The only writer of these files. The same runs make the same bytes, and then nothing is written.

    Args:
        target: Results folder, or `hf://namespace/name` that the token may write.
        name: Title of the leaderboard; what the README says already, or the target's name, if not given.
        licence: SPDX name of the licence of what is pushed; what the README says already, or CC-BY-4.0.

    Raises:
        EmptyError: If there is no result.
        DataError: If the target cannot be read or written.
    """
    seen = read_board(target)
    if not seen.entries:
        raise EmptyError(f"{target} holds no results: publish one first")

    def change(folder: Path) -> Mapping[str, bytes | None]:
        board = _board(folder)
        rows = rank(board.entries)
        wanted: dict[str, bytes | None] = {
            TABLE: _parquet([asdict(row) for row in rows], _row_types()),
            **_folded(board),
        }
        old = {file.relative_to(folder).as_posix() for file in (folder / FOLDED).rglob("*.parquet")}
        card = _card(folder, target, board, rows, name=name, licence=licence)
        return {**dict.fromkeys(old - set(wanted)), **wanted, README: card.encode()}

    patterns = [*_PATTERNS, *seen.marked, TABLE, f"{FOLDED}/**", README]
    return hub.change_files(target, change, message="Compact: table, folded runs and README", patterns=patterns)


# -- reading ---------------------------------------------------------------------------------------------------------


def read_board(target: str | Path, *, revision: str | None = None) -> Board:
    """Read a results folder or dataset repository: runs, verifications, withdrawals.

    A file that is no result is named in `broken` and takes no part; the rest is read all the same.

    Raises:
        DataError: If the target cannot be read.
    """
    source = hub.locate(target, revision=revision)
    board = _board(source.fetch(*_PATTERNS))
    # A verification counts only for the answers that it saw, so those are needed to tell.
    return _board(source.fetch(*board.marked)) if board.marked else board


def read_results(target: str | Path) -> list[Result]:
    """Read the results of a results folder or dataset repository, but for withdrawn ones.

    Raises:
        DataError: If the target cannot be read or a file in it is no result.
        EmptyError: If there is none.
    """
    board = read_board(target)
    for path, why in board.broken.items():
        raise DataError(f"{target}: {path} is no result of this package ({why}): move it out of {RUNS}/")
    results = [entry.result for entry in board.entries if entry.status != WITHDRAWN]
    if not results:
        raise EmptyError(f"{target} holds no results: publish one first")
    return results


# -- files -----------------------------------------------------------------------------------------------------------


def to_record(result: Result) -> dict[str, Any]:
    """Return the run file's content: an Every Eval Ever record with our own block beside it."""
    return {**eee_record(result), "anthology_hub": result.to_dict()}


def stem_of(result: Result) -> str:
    """Return the path of a result below `runs/`, without its suffix."""
    parts = (result.developer, result.model, result.survey)
    safe = [re.sub(r"[^\w.-]+", "-", part).strip(".-") or "unknown" for part in parts]
    # The same run may be begun anew or evaluated in another way: each of these is a file of its own.
    began = re.sub(r"[^\dT-]", "", result.created[:19])
    evaluation = digest([result.provenance.get("evaluation", {}), result.n_humans])[:6]
    return "/".join([*safe, f"{began}Z-{result.run_id}-{evaluation}"])


def beside(path: str, kind: str, suffix: str = ".json") -> str:
    """Return where something about a run lies: `runs/a/b.json` and `withdrawn` give `withdrawn/a/b.json`."""
    return f"{kind}/{path.removeprefix(f'{RUNS}/').removesuffix('.json')}{suffix}"


def pseudonym(humans: str, respondent: str) -> str:
    """Return what stands for a respondent in published answers; who holds the human file finds the row by it.

    No secret: short ids can be found by trying.
    """
    return digest([humans, respondent])


def now() -> str:
    """Return the time as it is written into files: UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def read_answers(content: bytes) -> list[dict[str, Any]]:
    """Read a published answers file.

    Raises:
        DataError: If it is no parquet file with these columns, each value of the right kind.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(io.BytesIO(content), columns=list(_ANSWER_TYPES)).cast(_schema(_ANSWER_TYPES))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"an answers file has the columns {', '.join(_ANSWER_TYPES)}; this one: {error}") from error
    if empty := [name for name in _ANSWER_TYPES if table[name].null_count]:
        raise DataError(f"an answers file has a value in every cell; this one has none in some of {', '.join(empty)}")
    return list(table.to_pylist())


_ANSWER_TYPES = {
    "respondent_sha256": "str",
    "persona_id": "str",
    "question": "str",
    "option": "int",
    "status": "str",
    "mass": "float",
    "probs": "floats",
    "raw": "str",
}


def _answers_parquet(answers: Answers) -> bytes:
    humans = answers.provenance["inputs"]["humans"]
    rows = [
        {
            "respondent_sha256": pseudonym(humans, respondent),
            "persona_id": answers.persona_ids[at],
            "question": question.key,
            "option": int(answers.picks[at, column]),
            "status": str(answers.statuses[at, column]),
            "mass": float(answers.mass[at, column]),
            "probs": [float(p) for p in answers.probs[at, column, : len(question.options)]],
            "raw": str(answers.raw[at, column]),
        }
        for at, respondent in enumerate(answers.respondent_ids)
        for column, question in enumerate(answers.survey.questions)
    ]
    return _parquet(rows, _ANSWER_TYPES)


def _schema(types: Mapping[str, str]) -> Any:  # noqa: ANN401 - pyarrow has no types
    import pyarrow as pa

    kinds = {"str": pa.string(), "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_()}
    kinds["floats"] = pa.list_(pa.float64())
    return pa.schema([(name, kinds[kind]) for name, kind in types.items()])


def _parquet(rows: Sequence[Mapping[str, Any]], types: Mapping[str, str]) -> bytes:
    """Plain columns and no metadata of any library, so that everything reads them; same rows, same bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    table = pa.Table.from_pylist(list(rows), _schema(types))
    pq.write_table(table, buffer, compression="zstd", write_page_index=True, use_content_defined_chunking=True)
    return buffer.getvalue()


def _row_types() -> dict[str, str]:
    return {one.name: str(one.type).removesuffix(" | None") for one in fields(Row)}


def _json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# -- a folder to a board ---------------------------------------------------------------------------------------------

_PATTERNS = (f"{RUNS}/**", f"{MARKS}/**", f"{TOMBSTONES}/**")


def _board(folder: Path) -> Board:
    marks, stones = _marks(folder), {stone.path: stone for stone in _tombstones(folder)}
    entries, broken = [], {}
    for file in sorted((folder / RUNS).rglob("*.json")):
        path = file.relative_to(folder).as_posix()
        try:
            entry = _entry(file, path)
        except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError, RecursionError) as error:
            broken[path] = str(error) if isinstance(error, AnthologyError) else f"{type(error).__name__}: {error}"
            continue
        status = WITHDRAWN if path in stones else CURRENT
        entries.append(_marked(replace(entry, status=status), marks.get(path, ()), folder))
    return Board(
        entries=tuple(with_status(entries)),
        tombstones=tuple(stones.values()),
        broken=broken,
        marked=tuple(beside(entry.path, ANSWERS, ".parquet") for entry in entries if entry.path in marks),
    )


def _marked(entry: Entry, marks: Sequence[Mapping[str, Any]], folder: Path) -> Entry:
    """Add the most cautious of the verdicts that are about these very files, and whose it is."""
    fitting = [mark for mark in marks if _fits(mark, entry, folder)]
    given = {str(mark["verdict"]) for mark in fitting}
    verdict = next((verdict for verdict in (DIFFERS, BELOW_PROTOCOL, VERIFIED) if verdict in given), "")
    who = dict.fromkeys(str(mark["who"]) for mark in fitting if mark["verdict"] == verdict)
    return replace(entry, verdict=verdict, verified_by=tuple(who))


def _entry(file: Path, path: str) -> Entry:
    record = read_json(file)
    # What cannot be encoded can be written into no table: a lone surrogate, which JSON allows.
    json.dumps(record, ensure_ascii=False).encode()
    result = Result.from_dict(record["anthology_hub"])
    _check(result)
    answers = record.get("answers") or {}
    return Entry(result=result, path=path, sha256=_sha256(file.read_bytes()), answers_sha256=answers.get("sha256", ""))


def _check(result: Result) -> None:
    """Raise unless what ranking needs is there and of the right kind: run files come from strangers."""
    for name in ("run_id", "created", "survey", "developer", "model", "method", "weighting"):
        if not isinstance(value := getattr(result, name), str):
            raise DataError(f"{name} must be a text, got {value!r}")
    # No humans are counted where only shares of answers were known.
    for name, fewest in (("n", 1), ("n_humans", 0)):
        if type(value := getattr(result, name)) is not int or not fewest <= value < 2**53:
            raise DataError(f"{name} must be a whole number from {fewest}, got {value!r}")
    _check_number(result.n_effective, "n_effective")
    datetime.fromisoformat(result.created)
    blocks = _objects(result.provenance, "inputs", "evaluation", "execution", "software")
    parts = _objects(blocks["inputs"], "model", "options", "cast", "survey")
    texts = {name: parts["options"].get(name, "") for name in ("conditioning", "mode", "options_order", "labels")}
    texts |= {name: blocks["evaluation"].get(name, "") for name in ("humans", "humans_digest")}
    texts |= {f"question {at}": key for at, key in enumerate(result.questions)}
    texts |= {f"items.{at}.question": item.get("question", "") for at, item in enumerate(result.items)}
    for name, value in texts.items():
        if not isinstance(value, str):
            raise DataError(f"{name} must be a text, got {value!r}")
    if not isinstance(asked := parts["survey"].get("questions", []), list):
        raise DataError(f"the survey's questions must be a list, got {asked!r}")
    _check_metrics(result)
    _check_number(parts["options"].get("least_mass", 0.0), "least_mass", most=1)
    _check_number(result.coverage["answered"], "coverage.answered", most=1)


def _check_metrics(result: Result) -> None:
    parts: tuple[Subgroup | Scale, ...] = (*result.subgroups, *result.scales)
    for metric in (*result.metrics, *(metric for part in parts for metric in part.metrics)):
        least = MEASURES[metric.name].least if metric.name in MEASURES else 0.0
        for part in ("value", "low", "high", "floor", "floor_equal_n", "human", *BASELINES):
            _check_number(getattr(metric, part), f"{metric.name}.{part}", least=least)
        _check_number(metric.attained, f"{metric.name}.attained", least=-math.inf)
    for group in result.subgroups:
        for part in ("gap", "gap_low", "gap_high"):
            _check_number(getattr(group, part), f"{group.trait} {group.level}: {part}", least=-math.inf)
    for name in ("wd_normalised", "wd", "fro", "alpha"):
        result.metric(name)
    _check_number(result.metric("wd_normalised").value, "wd_normalised.value", most=1)


def _objects(value: Mapping[str, Any], *names: str) -> dict[str, Mapping[str, Any]]:
    found = {name: value.get(name, {}) for name in names}
    for name, entry in found.items():
        if not isinstance(entry, Mapping):
            raise DataError(f"{name} must be an object, got {entry!r}")
    return found


def _check_number(value: object, name: str, *, least: float = 0, most: float = math.inf) -> None:
    if value is None:
        return
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not good or not least <= value <= most:  # type: ignore[operator]
        raise DataError(f"{name} must be a number from {least:g} to {most:g}, got {value!r}")


def _marks(folder: Path) -> dict[str, list[Mapping[str, Any]]]:
    """Marks by the path of the run that they are about."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for file in sorted((folder / MARKS).rglob("*.json")):
        mark = _or_empty(file)
        if {"run", "run_sha256", "answers_sha256", "verdict", "who"} <= set(mark):
            found.setdefault(str(mark["run"]), []).append(mark)
    return found


def _fits(mark: Mapping[str, Any], entry: Entry, folder: Path) -> bool:
    """Whether a mark is about these very files."""
    answers = folder / beside(entry.path, ANSWERS, ".parquet")
    there = _sha256(answers.read_bytes()) if answers.is_file() else None
    return bool(mark["run_sha256"] == entry.sha256 and mark["answers_sha256"] == there)


def _tombstones(folder: Path) -> list[Tombstone]:
    stones = []
    for file in sorted((folder / TOMBSTONES).rglob("*.json")):
        # The place of the file decides, so that one with a broken content still keeps its run out of the ranks.
        path = f"{RUNS}/{file.relative_to(folder / TOMBSTONES).as_posix()}"
        told = {
            name: str(value).encode(errors="replace").decode()
            for name, value in _or_empty(file).items()
            if name in ("run_id", "reason", "who", "when")
        }
        stones.append(Tombstone(path=path, **told))
    return stones


def _or_empty(file: Path) -> dict[str, Any]:
    try:
        return read_json(file)
    except (DataError, RecursionError):
        return {}


# -- what is derived -------------------------------------------------------------------------------------------------


def _folded(board: Board) -> dict[str, bytes]:
    """All runs, one parquet file a month, so that old months stay as they are."""
    names = ("path", "run_id", "created", "survey", "developer", "model", "method", "status", "reason", "verdict")
    types = dict.fromkeys((*names, "sha256", "record"), "str")
    reasons = {stone.path: stone.reason for stone in board.tombstones}
    months: dict[str, list[dict[str, str]]] = {}
    for entry in board.entries:
        result, status = entry.result, entry.status
        told = {name: getattr(result, name) for name in names[1:7]}
        told |= {"path": entry.path, "status": status, "reason": reasons.get(entry.path, ""), "verdict": entry.verdict}
        record = json.dumps(result.to_dict(), ensure_ascii=False, sort_keys=True)
        months.setdefault(result.created[:7], []).append(told | {"sha256": entry.sha256, "record": record})
    return {f"{FOLDED}/{month}.parquet": _parquet(rows, types) for month, rows in months.items()}


def _card(
    folder: Path, target: str | Path, board: Board, rows: Sequence[Row], *, name: str | None, licence: str | None
) -> str:
    repository = str(target).removeprefix(hub.SCHEME) if str(target).startswith(hub.SCHEME) else ""
    withdrawn = [
        f"Withdrawn: `{_code(stone.path)}` ({_code(stone.reason)}; {_code(stone.who)}, {_code(stone.when)[:10]})"
        for stone in board.tombstones
    ]
    broken = [f"Left out, no result: `{_code(path)}`" for path in board.broken]

    def card(said: Mapping[str, Any], licence: str | None) -> str:
        known = said.get("license_name") if said.get("license") == "other" else said.get("license")
        return cards.results_card(
            name or str(said.get("pretty_name") or repository or Path(target).resolve().name),
            licence=licence or str(known or "CC-BY-4.0"),
            repository=repository,
            boards=board_lines(rows),
            notes=[*NOTES, *withdrawn, *broken],
        )

    # The licence is written as the metadata has it, so that the next compaction, which reads it there, writes the same.
    there = folder / README
    first = card(_front_matter(there.read_text(encoding="utf-8") if there.is_file() else ""), licence)
    return card(_front_matter(first), None)


def _code(text: str) -> str:
    """A stranger's words for the README: one line that can neither format nor link."""
    return re.sub(r"[`<>\[\]|\s]+", " ", text).strip()[:200]


def _front_matter(text: str) -> Mapping[str, Any]:
    import yaml

    block = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
    try:
        found = yaml.safe_load(block[1]) if block else {}
    except yaml.YAMLError:
        found = {}
    return found if isinstance(found, dict) else {}
