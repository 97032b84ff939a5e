"""File contents on disk, named by their sha256: written once, whole or not at all, never changed."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from anthology_hub.errors import IntegrityError

CHUNK = 1 << 20


class Blobs:
    """A folder of blobs, and one for those being written."""

    def __init__(self, root: Path) -> None:
        self.root, self.incoming = root / "blobs", root / "incoming"
        self.incoming.mkdir(parents=True, exist_ok=True)
        # All folders at once: a new folder would itself have to be made durable before each blob in it.
        for byte in range(256):
            (self.root / f"{byte:02x}").mkdir(parents=True, exist_ok=True)

    def path(self, sha256: str) -> Path:
        """Where a blob is, or would be."""
        return self.root / sha256[:2] / sha256

    def size(self, sha256: str) -> int | None:
        """Size of a blob; None if it is not stored."""
        try:
            return self.path(sha256).stat().st_size
        except FileNotFoundError:
            return None

    def read(self, sha256: str) -> bytes:
        """Content of a blob."""
        return self.path(sha256).read_bytes()

    def touch(self, sha256: str) -> int | None:
        """Size of a blob, None if it is not stored; it counts as new from now on, so garbage collection leaves it."""
        try:
            os.utime(self.path(sha256))
        except FileNotFoundError:
            return None
        return self.size(sha256)

    def put(self, data: bytes) -> str:
        """Store bytes and return their sha256; call `settle` before anything names the blob."""
        sha256 = hashlib.sha256(data).hexdigest()
        if self.touch(sha256) != len(data):
            with self.writing() as upload:
                upload.write(data)
                upload.keep()
        return sha256

    def settle(self, names: Iterable[str]) -> None:
        """Make the folder entries of blobs durable."""
        for prefix in {name[:2] for name in names}:
            sync_folder(self.root / prefix)

    @contextlib.contextmanager
    def writing(self) -> Iterator[Upload]:
        """Open a blob to be written piece by piece; what is not kept is gone at the end."""
        handle, name = tempfile.mkstemp(dir=self.incoming)
        try:
            with os.fdopen(handle, "wb") as stream:
                yield Upload(self, stream, Path(name))
        finally:
            # Closed first: some systems neither move nor delete an open file.
            Path(name).unlink(missing_ok=True)

    def all(self) -> Iterator[tuple[str, os.stat_result]]:
        """Name and state of every blob on disk."""
        for folder in sorted(self.root.iterdir()):
            for entry in os.scandir(folder):
                yield entry.name, entry.stat()

    def digest(self, sha256: str) -> str:
        """The sha256 that a stored blob really has."""
        with self.path(sha256).open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()


class Upload:
    """A blob being written, hashed on the way."""

    def __init__(self, blobs: Blobs, stream: IO[bytes], file: Path) -> None:
        self._blobs, self._stream, self._file = blobs, stream, file
        self._hash, self.size = hashlib.sha256(), 0

    def write(self, piece: bytes) -> None:
        """Add a piece."""
        self._hash.update(piece)
        self._stream.write(piece)
        self.size += len(piece)

    def keep(self, sha256: str | None = None) -> str:
        """Store what was written under its sha256, which must be the one that was promised, if one was.

        Raises:
            IntegrityError: If the content is another.
        """
        found = self._hash.hexdigest()
        if sha256 not in (None, found):
            raise IntegrityError(f"the content has the sha256 {found}, not {sha256} as declared: upload the file again")
        self.move(self._blobs.path(found))
        return found

    def move(self, target: Path) -> None:
        """Put what was written into another place, durably."""
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._stream.close()
        os.replace(self._file, target)


def sync_folder(folder: Path) -> None:
    """Make new names in a folder survive a power cut; some systems cannot, and need not."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
