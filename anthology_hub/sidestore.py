"""The side store: what queries need of a large release, worked out once and memory-mapped from then on.

It lies in the user's cache folder, is never published and vouches for nothing: whatever is missing, broken or of
another version is made again from the release's own files. A part of it is one folder of plain files; it appears whole
or not at all, also when several processes make it at once.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from anthology_hub.errors import AnthologyWarning
from anthology_hub.weights import cache_dir

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

VERSION = 1
"""Of the layout; parts of another are made again."""
LARGE = 8 * 2**20
"""Bytes of parquet from which on it is worth a folder: what is smaller is read faster than a table of it is missed."""
FACTS = "facts.json"
ABANDONED = 86_400
"""Seconds after which the unfinished work of a process that was killed is removed."""


@dataclass(frozen=True)
class Chunks:
    """An array that is made part by part along its first axis, as it may be larger than the memory."""

    shape: tuple[int, ...]
    dtype: Any
    parts: Iterable[NDArray[Any]]

    def whole(self) -> NDArray[Any]:
        """Return the array in memory."""
        array, at = np.empty(self.shape, self.dtype), 0
        for chunk in self.parts:
            array[at : at + len(chunk)] = chunk
            at += len(chunk)
        return array


Content: TypeAlias = "NDArray[Any] | Chunks | pa.RecordBatchReader"


def folder() -> Path:
    """Return where the side store lies; it may be deleted at any time."""
    return cache_dir() / "side"


def part(key: str, make: Callable[[], Mapping[str, Content]]) -> Mapping[str, Any] | None:
    """Return a part of the side store, memory-mapped; it is made if it is not there.

    Args:
        key: What it is made from, by content: an equal key must mean equal content.
        make: Gives the content: arrays come back as arrays, record batches as a table.

    Returns:
        The content by name, or None if it cannot be kept on the disk.

    Warns:
        AnthologyWarning: If it cannot be kept on the disk.
    """
    place = folder() / key
    if (found := _open(place)) is not None:
        return found
    try:
        _keep(place, make())
    except OSError as error:
        warnings.warn(
            f"the side store cannot be kept in {place.parent} ({error}): queries work in memory and are prepared anew "
            f"in each session; free some space, or set ANTHOLOGY_HUB_CACHE to a folder that can be written",
            AnthologyWarning,
            stacklevel=2,
        )
        return None
    return _open(place)


def _open(place: Path) -> dict[str, Any] | None:
    """Map the files of a part; None if it is not there, or not as it was left."""
    try:
        facts = json.loads((place / FACTS).read_bytes())
        if facts["version"] != VERSION or any((place / n).stat().st_size != s for n, s in facts["files"].items()):
            return None
        return {Path(name).stem: _mapped(place / name) for name in facts["files"]}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def _mapped(file: Path) -> Any:  # noqa: ANN401 - an array or a table
    if file.suffix == ".npy":
        # As a plain array: each operation on a `memmap` makes another one, which takes longer than the operation.
        return np.load(file, mmap_mode="r").view(np.ndarray)
    import pyarrow as pa

    return pa.ipc.open_file(pa.memory_map(str(file))).read_all()


def _keep(place: Path, contents: Mapping[str, Content]) -> None:
    """Write a part beside its place and move it there whole."""
    place.parent.mkdir(parents=True, exist_ok=True)
    _clear(place)
    work = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}-"))
    try:
        files = {}
        for name, content in contents.items():
            file = _write(work / name, content)
            files[file.name] = file.stat().st_size
        (work / FACTS).write_text(json.dumps({"version": VERSION, "files": files}), encoding="utf-8")
        # Another process may have been faster: the content is the same.
        if _open(place) is None:
            if place.exists():
                os.replace(place, work / "old")
            os.replace(work, place)
            shutil.rmtree(place / "old", ignore_errors=True)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _clear(place: Path) -> None:
    """Remove what processes that were killed left behind."""
    with suppress(OSError):
        for left in place.parent.glob(f".{place.name}-*"):
            if time.time() - left.stat().st_mtime > ABANDONED:
                shutil.rmtree(left, ignore_errors=True)


def _write(path: Path, content: Content) -> Path:
    """Write one file, down to the disk: a power cut must not leave a whole folder of half a file."""
    array = isinstance(content, np.ndarray | Chunks)
    file = path.with_name(path.name + (".npy" if array else ".arrow"))
    with file.open("wb") as stream:
        if isinstance(content, np.ndarray):
            np.save(stream, content)
        elif isinstance(content, Chunks):
            head = {"descr": np.dtype(content.dtype).str, "fortran_order": False, "shape": content.shape}
            np.lib.format.write_array_header_1_0(stream, head)
            for chunk in content.parts:
                stream.write(np.ascontiguousarray(chunk, dtype=content.dtype).data)
        else:
            _write_batches(stream, content)
        stream.flush()
        os.fsync(stream.fileno())
    return file


def _write_batches(stream: Any, reader: pa.RecordBatchReader) -> None:  # noqa: ANN401 - a binary file
    import pyarrow as pa

    with pa.ipc.new_file(stream, reader.schema) as writer:
        for batch in reader:
            writer.write_batch(batch)
