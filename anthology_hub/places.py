"""Where a run is kept: a folder of this machine, or one in a store that a URI names. The only door to `pyarrow.fs`.

Both write a file whole or not at all. URIs are those of `pyarrow.fs.FileSystem.from_uri`: `s3://bucket/runs/a`, for a
server of one's own with `?endpoint_override=HOST:PORT&scheme=http`; `gs://`, `hdfs://`; and `fsspec+NAME://` for every
file system that fsspec knows. Keys are read from the environment (`AWS_ACCESS_KEY_ID` ...), never from the URI.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from anthology_hub.errors import OptionError, RunError
from anthology_hub.hub import write_file

AT_ONCE = 32
"""Files that are fetched from a store at the same time."""
_WHOLE = ("s3", "gcs", "abfs")
"""Stores in which an object appears when it is complete; elsewhere a file is renamed into its place."""


class Place(Protocol):
    """A folder to read from and write to; names within it may hold a slash. `str` gives what a message may show."""

    def names(self, folder: str = "") -> list[str]:
        """Return the files directly in this folder or one of its folders, in order; none if it is not there."""
        ...

    def read(self, name: str) -> bytes:
        """Return the content of a file."""
        ...

    def read_all(self, names: Sequence[str]) -> Iterator[bytes]:
        """Yield the content of files, in this order."""
        ...

    def write(self, name: str, content: bytes) -> None:
        """Write a file, whole or not at all."""
        ...


def place_of(where: str | Path) -> Place:
    """Return the place that a path or a URI names.

    Raises:
        OptionError: If a URI holds a key, or pyarrow knows no such store.

    Example:
        >>> import tempfile
        >>> place = place_of(tempfile.mkdtemp())
        >>> place.write("parts/a.txt", b"words")
        >>> place.names("parts"), place.read("parts/a.txt")
        (['a.txt'], b'words')
    """
    return Store(str(where)) if is_uri(where) else Folder(Path(where))


def is_uri(where: str | Path) -> bool:
    """Return whether this names a store, not a folder of this machine.

    Example:
        >>> is_uri("s3://bucket/run"), is_uri("runs/a")
        (True, False)
    """
    return isinstance(where, str) and "://" in where


@dataclass(frozen=True)
class Folder:
    """A folder of this machine; see `Place`."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def names(self, folder: str = "") -> list[str]:
        """See `Place`."""
        at = self.path / folder
        return sorted(found.name for found in at.iterdir() if found.is_file()) if at.is_dir() else []

    def read(self, name: str) -> bytes:
        """See `Place`.

        Raises:
            RunError: If the file cannot be read.
        """
        try:
            return (self.path / name).read_bytes()
        except OSError as error:
            raise RunError(f"{self.path / name} cannot be read ({error})") from error

    def read_all(self, names: Sequence[str]) -> Iterator[bytes]:
        """See `Place`."""
        return map(self.read, names)

    def write(self, name: str, content: bytes) -> None:
        """See `Place`."""
        write_file(self.path / name, content)


@dataclass(frozen=True)
class Store:
    """A folder in a store that a URI names; see `Place`. It travels to workers as its URI."""

    uri: str

    def __post_init__(self) -> None:
        parts = urlsplit(self.uri)
        if "@" in parts.netloc:
            shown = f"{parts.scheme}://...@{parts.netloc.rpartition('@')[2]}{parts.path}"
            raise OptionError(f"{shown} holds a key: leave it out, and put it into the environment of every machine")

    def __str__(self) -> str:
        return self.uri.partition("?")[0]

    def __getstate__(self) -> dict[str, str]:
        return {"uri": self.uri}

    def __setstate__(self, state: dict[str, str]) -> None:
        self.__dict__.update(state)

    def names(self, folder: str = "") -> list[str]:
        """See `Place`."""
        from pyarrow import fs

        files, root = self._opened
        chosen = fs.FileSelector(_joined(root, folder), allow_not_found=True)
        with self._translated("be listed"):
            found = files.get_file_info(chosen)
        return sorted(one.base_name for one in found if one.type == fs.FileType.File)

    def read(self, name: str) -> bytes:
        """See `Place`.

        Raises:
            RunError: If the file cannot be read.
        """
        files, root = self._opened
        with self._translated("be read", name), files.open_input_stream(_joined(root, name)) as stream:
            return bytes(stream.read())

    def read_all(self, names: Sequence[str]) -> Iterator[bytes]:
        """See `Place`."""
        left = iter(names)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            # Some at a time: all parts of a large run are more than memory holds.
            while some := list(islice(left, 4 * AT_ONCE)):
                yield from pool.map(self.read, some)

    def write(self, name: str, content: bytes) -> None:
        """See `Place`.

        Raises:
            RunError: If the store does not take it.
        """
        files, root = self._opened
        wanted = _joined(root, name)
        whole = files.type_name in _WHOLE
        at = wanted if whole else f"{wanted}.{uuid.uuid4().hex}.part"
        with self._translated("be written", name):
            if not whole:
                files.create_dir(wanted.rpartition("/")[0])
            with files.open_output_stream(at) as stream:
                stream.write(content)
            if not whole:
                files.move(at, wanted)

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        """File system, and the folder's path in it."""
        from pyarrow import ArrowException, fs

        # Looking for the keys of a cloud machine takes seconds where there is none.
        os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true" if "endpoint_override" in self.uri else "false")
        try:
            files, root = fs.FileSystem.from_uri(self.uri)
        except (ArrowException, OSError, ValueError, ImportError) as error:
            raise OptionError(f"{self} is no place that can be opened ({error}): {_KNOWN}") from error
        return files, root.rstrip("/")

    @contextmanager
    def _translated(self, what: str, name: str = "") -> Iterator[None]:
        from pyarrow import ArrowException

        try:
            yield
        except (ArrowException, OSError) as error:
            raise RunError(
                f"{_joined(str(self), name)} cannot {what} ({error}): check that the bucket is there, the keys in the "
                "environment and the connection, and run the same again"
            ) from error


_KNOWN = "give a folder, or a URI such as s3://bucket/run, gs://bucket/run or fsspec+NAME://..."


def _joined(root: str, name: str) -> str:
    return f"{root}/{name}" if name else root
