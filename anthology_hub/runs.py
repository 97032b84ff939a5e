"""Run folders: what a run was given, its rows in parts written whole or not at all, and what happened when.

`run.json` (all that is needed to repeat the run), `answers/*.parquet` (or another name of parts), `events.jsonl`. The
same call on the same folder goes on where it stopped; another run's folder is refused. A run folder is on this machine
or in a store that a URI names (see `places`); workers of a cluster write their parts themselves.
"""

from __future__ import annotations

import importlib.metadata
import io
import json
import reprlib
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from anthology_hub import __version__
from anthology_hub.errors import RunError
from anthology_hub.places import Folder, Place, place_of
from anthology_hub.schema import SCHEMA_VERSION, digest

RUN_FILE, EVENTS = "run.json", "events.jsonl"
EVENTS_EVERY = 30.0
"""Seconds between two writings of the events into a store."""
ANEW = "delete it and run again, only its rows are made anew"
_AT_ONCE = ("started", "continued", "finished")
"""Events that are written into a store when they happen."""
Progress = Callable[[int, int], None]
"""Called with (done so far, in all)."""


class RunFolder:
    """A run on disk, or in a store.

    Pickled, it goes to a worker, which writes parts and tells nothing: what happened is told by who holds the run.

    Example:
        >>> import tempfile
        >>> place = Path(tempfile.mkdtemp()) / "run"
        >>> run = RunFolder.open(place, provenance({"seed": 0}))
        >>> RunFolder(place).provenance["inputs"]
        {'seed': 0}
    """

    def __init__(self, folder: str | Path) -> None:
        """Open a run that is there.

        Raises:
            RunError: If the folder holds no run, or `run.json` is broken.
        """
        self.place = place_of(folder)
        if RUN_FILE not in self.place.names():
            # A store tells neither a folder nor a bucket that is not there from an empty one.
            where = "" if isinstance(self.place, Folder) else ", in a bucket that is there"
            raise RunError(f"{self} is no run folder: it has no {RUN_FILE}; give the folder of a run{where}")
        self.provenance = self.json(RUN_FILE, mend="its rows cannot be told from another run's, run into a new folder")
        if not {"inputs", "run_id", "started"} <= set(self.provenance):
            raise RunError(f"{self}/{RUN_FILE} was not written by this package: give a new folder")
        self._events = _events_of(self.place)

    def __str__(self) -> str:
        return str(self.place)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_events": None}

    @classmethod
    def open(
        cls, folder: str | Path, told: Mapping[str, Any], *, files: Mapping[str, bytes] | None = None
    ) -> RunFolder:
        """Begin a run, or go on with the same one.

        Args:
            folder: Where to: a path, or a URI.
            told: See `provenance`.
            files: Name -> content of what else is kept beside `run.json`; written again if it is there.

        Raises:
            RunError: If the folder belongs to another run, or holds anything else.
        """
        place = place_of(folder)
        if isinstance(place, Folder) and place.path.exists() and not place.path.is_dir():
            raise RunError(f"{place} is a file: give a new folder")
        begun = RUN_FILE in place.names()
        if not begun:
            # The run file comes first: a folder without it is not ours, but for what a killed call left of writing it.
            if _is_taken(place):
                raise RunError(f"{place} is not empty and is no run folder: give a new folder")
            place.write(RUN_FILE, as_json(told))
        store = cls(folder)
        if other := _differences(store.provenance["inputs"], told["inputs"]):
            raise RunError(f"{place} belongs to another run; what differs: {', '.join(other)}. Give a new folder")
        for name, content in (files or {}).items():
            place.write(name, content)
        store.log("continued" if begun else "started")
        return store

    def json(self, name: str, *, mend: str = "") -> dict[str, Any]:
        """Read a JSON file of the run; see `rows`.

        Raises:
            RunError: If it is missing or broken.
        """
        try:
            value = json.loads(self._content(name, mend))
        except (ValueError, RecursionError) as error:
            raise RunError(f"{self}/{name} cannot be read as JSON: {error}: {mend or self._again}") from error
        if not isinstance(value, dict):
            raise RunError(f"{self}/{name} holds no JSON object: {mend or self._again}")
        return value

    def rows(self, name: str) -> list[dict[str, Any]]:
        """Read a parquet file that every call of a run writes anew.

        Raises:
            RunError: If it is missing or broken.
        """
        return _rows(self._content(name), f"{self}/{name}", self._again)

    def _content(self, name: str, mend: str = "") -> bytes:
        try:
            return self.place.read(name)
        except RunError as error:
            raise RunError(f"{error}: {mend or self._again}") from error

    @property
    def _again(self) -> str:
        return f"run the same on {self} again to mend it"

    def read(self, parts: str) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        """Yield each part's name and rows, in the order of the parts' names.

        Raises:
            RunError: If a part is broken.
        """
        names = [f"{parts}/{name}" for name in self.place.names(parts) if name.endswith(".parquet")]
        for name, content in zip(names, self.place.read_all(names), strict=True):
            yield f"{self}/{name}", _rows(content, f"{self}/{name}", ANEW)

    def write(self, parts: str, rows: Sequence[Mapping[str, Any]], schema: Any, *, key: object) -> None:  # noqa: ANN401
        """Write one part.

        Args:
            parts: Name of the folder of parts.
            rows: Its rows.
            schema: Arrow schema.
            key: JSON-able, what these rows are about: names the part, so that work cut another way overwrites nothing,
                and the same work done again writes the same file.
        """
        part = digest(key)[:16]
        self.place.write(f"{parts}/part-{part}.parquet", as_parquet(rows, schema))
        self.log("part", part=part, rows=len(rows))

    def log(self, event: str, **details: object) -> None:
        """Add a line to the events."""
        if self._events is not None:
            self._events.add(json.dumps({"time": round(time.time(), 3), "event": event, **details}))

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield what happened in all calls; a line that a killed call left half is passed over."""
        for name in [name for name in self.place.names() if name.startswith("events") and name.endswith(".jsonl")]:
            for line in self.place.read(name).decode("utf-8", "replace").splitlines():
                with suppress(ValueError):
                    event = json.loads(line)
                    yield event if isinstance(event, dict) else {}


def _is_taken(place: Place) -> bool:
    if not isinstance(place, Folder):
        return bool(place.names())
    there = place.path.iterdir() if place.path.is_dir() else iter(())
    return any(not path.name.startswith(f".{RUN_FILE}.") for path in there)


class _Lines:
    """Events of a folder on this machine: one file, a line added at a time."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def add(self, line: str) -> None:
        with self.file.open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")


class _Objects:
    """Events in a store, where nothing can be added to a file: one for each call, written anew now and then."""

    def __init__(self, place: Place) -> None:
        self.place, self.name = place, f"events-{time.time_ns()}.jsonl"
        self.lines: list[str] = []
        self.written = 0.0

    def add(self, line: str) -> None:
        self.lines.append(line)
        if time.monotonic() - self.written > EVENTS_EVERY or any(f'"event": "{name}"' in line for name in _AT_ONCE):
            self.place.write(self.name, ("\n".join(self.lines) + "\n").encode())
            self.written = time.monotonic()


def _events_of(place: Place) -> _Lines | _Objects | None:
    return _Lines(place.path / EVENTS) if isinstance(place, Folder) else _Objects(place)


def provenance(inputs: Mapping[str, Any], execution: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return all that is needed to repeat a run.

    Args:
        inputs: What the rows depend on; the run's id is their digest.
        execution: What they do not depend on, such as the size of a batch.
    """
    head = {"schema_version": SCHEMA_VERSION, "run_id": digest(inputs)[:16]}
    started = datetime.now(UTC).isoformat(timespec="seconds")
    rest = {"inputs": dict(inputs), "execution": dict(execution or {}), "software": _software()}
    return {**head, "started": started, **rest}


def _rows(content: bytes, named: str, mend: str) -> list[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return list(pq.read_table(io.BytesIO(content)).to_pylist())
    except (pa.ArrowException, OSError) as error:
        raise RunError(f"{named} is broken ({error}): {mend}") from error


def as_parquet(rows: Sequence[Mapping[str, Any]], schema: Any) -> bytes:  # noqa: ANN401 - pyarrow has no types
    """Return rows as the bytes of a parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows), schema), buffer, compression="zstd")
    return buffer.getvalue()


def as_json(value: Mapping[str, Any]) -> bytes:
    """Return an object as the bytes of a JSON file."""
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()


def _software() -> dict[str, Any]:
    names = ("torch", "transformers", "sentence-transformers", "faiss-cpu", "datasets", "huggingface-hub", "numpy")
    versions = {}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "absent"
    return {"anthology_hub": __version__, **_commit(), "packages": versions}


def _commit() -> dict[str, Any]:
    """Commit of this package's own checkout and whether the tree was dirty; empty for an installed wheel."""
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():
        return {}
    git = ["git", "-C", str(root)]
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return {}
    return {"commit": commit, "dirty": bool(changed.strip())}


def _differences(known: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    found, (old, new) = [], json.loads(json.dumps([known, wanted]))
    for name in sorted(set(old) | set(new)):
        there, here = old.get(name), new.get(name)
        if isinstance(there, dict) and isinstance(here, dict):
            found += [f"{name}.{inner}" for inner in _differences(there, here)]
        elif there != here:
            found.append(f"{name} ({reprlib.repr(there)} there, {reprlib.repr(here)} now)")
    return found
