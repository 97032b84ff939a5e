"""Directories as content-addressed objects: one object per directory, so that a commit writes only what it touches.

A tree object maps a name to a `Leaf` (a file) or to the id of another tree object (a folder). Nothing here reads or
writes: callers hand in `load` and `save`.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from anthology_hub.errors import DataError

LONGEST_NAME, LONGEST_PATH, DEEPEST = 255, 1024, 40
_ALLOWED = (
    "allowed are relative paths with '/' between names, without '.', '..', '.git', backslashes and control "
    f"characters, of at most {LONGEST_NAME} bytes a name, {LONGEST_PATH} in all and {DEEPEST} levels; rename the file"
)


class Leaf(NamedTuple):
    """A file in a tree."""

    oid: str
    """Git's id of the content, or of the LFS pointer: what clients compare to skip unchanged files."""
    size: int
    sha256: str
    """Name of the blob."""
    lfs: bool


Node = Leaf | str
Tree = Mapping[str, Node]
Load = Callable[[str], Tree]
Save = Callable[[Tree], str]


def checked(path: str) -> str:
    """Return the path if it may name a file of a repository.

    Raises:
        DataError: If it leads out of the repository or no file system could hold it.

    Example:
        >>> checked("personas/train-0.parquet")
        'personas/train-0.parquet'
        >>> checked("../secret")
        Traceback (most recent call last):
        ...
        anthology_hub.errors.DataError: the path '../secret' is not allowed: allowed are relative paths ...
    """
    names = path.split("/") if isinstance(path, str) else [""]
    if len(names) > DEEPEST or not all(_plain(name) for name in names) or len(path.encode()) > LONGEST_PATH:
        shown = path if len(repr(path)) < 200 else f"{str(path)[:100]}..."
        raise DataError(f"the path {shown!r} is not allowed: {_ALLOWED}")
    return path


def _plain(name: str) -> bool:
    if name in ("", ".", "..") or name.casefold() == ".git" or "\\" in name:
        return False
    # Lone surrogates (Cs) and control characters (Cc) have no place in a file name or a log line.
    return not any(unicodedata.category(c) in ("Cc", "Cs") for c in name) and len(name.encode()) <= LONGEST_NAME


def pack(tree: Tree) -> tuple[str, bytes]:
    """Return the id of a tree and its stored form.

    Example:
        >>> oid, data = pack({"a.txt": Leaf("0" * 40, 1, "f" * 64, False), "folder": "1" * 40})
        >>> unpack(data)["folder"] == "1" * 40, len(oid)
        (True, 40)
    """
    raw = json.dumps(tree, sort_keys=True, separators=(",", ":")).encode()
    return hashlib.sha256(raw).hexdigest()[:40], zlib.compress(raw, 1)


def unpack(data: bytes) -> Tree:
    """Read a tree from its stored form."""
    found = json.loads(zlib.decompress(data))
    return {name: node if isinstance(node, str) else Leaf(*node) for name, node in found.items()}


class Draft:
    """A tree being edited: folders are loaded when touched and written once, at the end."""

    def __init__(self, load: Load, oid: str | None) -> None:
        self._load = load
        self._nodes: dict[str, Node | Draft] = dict(load(oid)) if oid else {}

    def put(self, path: str, leaf: Leaf) -> None:
        """Set a file.

        Raises:
            DataError: If the path is a folder, or one of its parents a file.
        """
        folder, name = self._descend(path, make=True)
        there = folder._nodes.get(name)
        if isinstance(there, str) or (isinstance(there, Draft) and there._prune()):
            raise DataError(f"{path!r} is a folder here: give the file another name, or delete the folder first")
        folder._nodes[name] = leaf

    def remove(self, path: str) -> bool:
        """Take away a file or a folder; False if there is none."""
        try:
            folder, name = self._descend(path, make=False)
        except DataError:
            return False
        return folder._nodes.pop(name, None) is not None

    def save(self, save: Save) -> str:
        """Write the touched folders, leaving out empty ones, and return the id of the whole."""
        self._prune()
        return save({name: node.save(save) if isinstance(node, Draft) else node for name, node in self._nodes.items()})

    def _prune(self) -> bool:
        """Drop empty folders below, and tell whether anything is left."""
        empty = [name for name, node in self._nodes.items() if isinstance(node, Draft) and not node._prune()]
        for name in empty:
            del self._nodes[name]
        return bool(self._nodes)

    def _descend(self, path: str, *, make: bool) -> tuple[Draft, str]:
        *parents, name = path.split("/")
        here = self
        for parent in parents:
            node = here._nodes.get(parent)
            if isinstance(node, Leaf) or (node is None and not make):
                raise DataError(f"{parent!r} in {path!r} is not a folder here: give another path")
            if not isinstance(node, Draft):
                node = here._nodes[parent] = Draft(self._load, node)
            here = node
        return here, name


def find(load: Load, oid: str, path: str) -> Node | None:
    """Return what is at a path; the root for the empty path."""
    node: Node | None = oid
    for name in path.split("/") if path else ():
        node = load(node).get(name) if isinstance(node, str) else None
    return node


def walk(load: Load, oid: str, *, below: str = "", recursive: bool = True) -> Iterator[tuple[str, Node]]:
    """Yield the path and node of all that is in a tree, folders before what they hold, in a fixed order."""
    for name, node in sorted(load(oid).items()):
        path = f"{below}/{name}" if below else name
        yield path, node
        if recursive and isinstance(node, str):
            yield from walk(load, node, below=path)


def compare(
    load: Load, old: Node | None, new: Node | None, below: str = ""
) -> Iterator[tuple[str, Leaf | None, Leaf | None]]:
    """Yield path, old and new file wherever two trees differ; equal folders are not even loaded."""
    if old == new:
        return
    for side, leaf in ((0, old), (1, new)):
        if isinstance(leaf, Leaf):
            yield below, *((leaf, None) if side == 0 else (None, leaf))
    before = load(old) if isinstance(old, str) else {}
    after = load(new) if isinstance(new, str) else {}
    for name in sorted({*before, *after}):
        a, b = before.get(name), after.get(name)
        path = f"{below}/{name}" if below else name
        if isinstance(a, Leaf) and isinstance(b, Leaf):
            if a != b:
                yield path, a, b
        else:
            yield from compare(load, a, b, path)
