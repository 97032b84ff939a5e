"""Run folders: what a run was given, its rows in parts written whole or not at all, and what happened when.

`run.json` (all that is needed to repeat the run), `answers/*.parquet` (or another name of parts), `events.jsonl`. The
same call on the same folder goes on where it stopped; another run's folder is refused.
"""

from __future__ import annotations

import importlib.metadata
import io
import json
import reprlib
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from anthology_hub import __version__
from anthology_hub.errors import DataError, RunError
from anthology_hub.hub import write_file
from anthology_hub.schema import SCHEMA_VERSION, digest, read_json

RUN_FILE, EVENTS = "run.json", "events.jsonl"
ANEW = "delete it and run again, only its rows are made anew"
Progress = Callable[[int, int], None]
"""Called with (done so far, in all)."""


class RunFolder:
    """A run on disk.

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
        self.folder = Path(folder)
        if not (self.folder / RUN_FILE).is_file():
            raise RunError(f"{folder} is no run folder: it has no {RUN_FILE}; give the folder of a run")
        try:
            self.provenance = read_json(self.folder / RUN_FILE)
        except DataError as error:
            raise RunError(f"{error}: its rows cannot be told from another run's, run into a new folder") from error
        if not {"inputs", "run_id", "started"} <= set(self.provenance):
            raise RunError(f"{self.folder / RUN_FILE} was not written by this package: give a new folder")

    @classmethod
    def open(
        cls, folder: str | Path, told: Mapping[str, Any], *, files: Mapping[str, bytes] | None = None
    ) -> RunFolder:
        """Begin a run, or go on with the same one.

        Args:
            folder: Where to.
            told: See `provenance`.
            files: Name -> content of what else is kept beside `run.json`; written again if it is there.

        Raises:
            RunError: If the folder belongs to another run, or holds anything else.
        """
        folder = Path(folder)
        if folder.exists() and not folder.is_dir():
            raise RunError(f"{folder} is a file: give a new folder")
        begun = (folder / RUN_FILE).is_file()
        if not begun:
            # The run file comes first: a folder without it is not ours, but for what a killed call left of writing it.
            if folder.is_dir() and any(not path.name.startswith(f".{RUN_FILE}.") for path in folder.iterdir()):
                raise RunError(f"{folder} is not empty and is no run folder: give a new folder")
            write_file(folder / RUN_FILE, as_json(told))
        store = cls(folder)
        if other := _differences(store.provenance["inputs"], told["inputs"]):
            raise RunError(f"{folder} belongs to another run; what differs: {', '.join(other)}. Give a new folder")
        for name, content in (files or {}).items():
            write_file(folder / name, content)
        store.log("continued" if begun else "started")
        return store

    def read(self, parts: str) -> Iterator[tuple[Path, list[dict[str, Any]]]]:
        """Yield each part's file and rows, in the order of the parts' names.

        Raises:
            RunError: If a part is broken.
        """
        for file in sorted((self.folder / parts).glob("*.parquet")):
            yield file, read_rows(file, mend=ANEW)

    def write(self, parts: str, rows: Sequence[Mapping[str, Any]], schema: Any, *, key: object) -> None:  # noqa: ANN401
        """Write one part.

        Args:
            parts: Name of the folder of parts.
            rows: Its rows.
            schema: Arrow schema.
            key: JSON-able, what these rows are about: names the part, so that work cut another way overwrites nothing.
        """
        part = digest(key)[:16]
        write_file(self.folder / parts / f"part-{part}.parquet", as_parquet(rows, schema))
        self.log("part", part=part, rows=len(rows))

    def log(self, event: str, **details: object) -> None:
        """Add a line to the events."""
        line = json.dumps({"time": round(time.time(), 3), "event": event, **details})
        with (self.folder / EVENTS).open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")


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


def read_rows(file: Path, *, mend: str = "") -> list[dict[str, Any]]:
    """Read a parquet file of a run.

    Args:
        file: Which.
        mend: What to do if it is broken; to run the same again, if not given.

    Raises:
        RunError: If it is missing or broken.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return list(pq.read_table(file).to_pylist())
    except (pa.ArrowException, OSError) as error:
        raise RunError(f"{file} is broken ({error}): {mend or run_again(file.parent)}") from error


def run_again(folder: Path) -> str:
    """Say what mends a file that every call of a run writes anew."""
    return f"run the same on {folder} again to mend it"


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
