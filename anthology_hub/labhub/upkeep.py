"""Keep a store sound: check it, free what nothing names any more, copy it while it runs."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from anthology_hub.errors import IntegrityError, OptionError
from anthology_hub.labhub import trees
from anthology_hub.labhub.blobs import Blobs, sync_folder
from anthology_hub.labhub.store import Commit, Store
from anthology_hub.labhub.trees import Leaf

DAY = 86_400.0
_REFS = "select kind, namespace, repos.name, refs.name as ref, repo, sha from refs join repos on repos.id=repo"


@dataclass(frozen=True, kw_only=True)
class Check:
    """What `fsck` found."""

    refs: int
    commits: int
    blobs: int
    problems: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Freed:
    """What `gc` took away."""

    commits: int
    trees: int
    blobs: int
    bytes: int
    xorbs: int


def fsck(store: Store, *, quick: bool = False) -> Check:
    """Follow every ref to its commits, trees and blobs; each must be there and be what its name says.

    Args:
        store: The store; it may be in use.
        quick: Compare the sizes of blobs only, not their sha256.

    Example:
        >>> import tempfile
        >>> store = Store(tempfile.mkdtemp())
        >>> _ = store.create_repo("dataset", "lab", "people", author="ada")
        >>> fsck(store).problems
        ()
    """
    problems, refs = list[str](), list[sqlite3.Row]()
    commits, roots, leaves = set[tuple[int, str]](), dict[str, str](), dict[str, tuple[int, str]]()
    try:
        with store.database.reading() as db:
            found = [row[0] for row in db.execute("pragma integrity_check")]
            problems += [f"the database is damaged: {told}" for told in found if told != "ok"]
            refs += db.execute(_REFS)
            for row in refs:
                where = f"{row['kind']} {row['namespace']}/{row['name']} at {row['ref']}"
                problems += _walk_history(db, row["repo"], row["sha"], where, commits, roots)
            problems += _walk_trees(db, roots, leaves)
    except sqlite3.DatabaseError as problem:
        problems.append(f"the database cannot be read: {problem}")
    problems += _check_blobs(store.blobs, leaves, quick)
    return Check(refs=len(refs), commits=len(commits), blobs=len(leaves), problems=tuple(problems))


def gc(store: Store, *, grace: float = DAY) -> Freed:
    """Free what no branch, tag or pull request reaches and what is older than a grace period.

    The store may be in use: writers wait meanwhile, and what was uploaded or committed within the grace period stays.

    Args:
        store: The store.
        grace: Seconds; uploads that take longer than this may lose their files before the commit.

    Raises:
        OptionError: If the grace period is negative.
        IntegrityError: If the store is damaged; nothing is freed then.
    """
    if grace < 0:
        raise OptionError(f"a grace period of {grace} seconds is not possible: give 0 or more")
    before = time.time() - grace
    with store.database.writing() as db:
        commits, dropped = _drop_unreached(db, before)
    # What trees are left is alive now, so a crash from here on leaves too many blobs, never too few.
    with store.database.writing() as db:
        freed = list(_drop_blobs(db, store.blobs, before))
    store.tree.cache_clear()
    leftovers = [path for folder in (store.xorbs, store.blobs.incoming) for path in folder.iterdir()]
    xorbs = sum(_drop_old(path, min(before, time.time() - DAY)) for path in leftovers)
    return Freed(commits=commits, trees=dropped, blobs=len(freed), bytes=sum(freed), xorbs=xorbs)


def backup(store: Store, target: str | Path) -> int:
    """Copy a store that may be in use into another folder, consistently; again into the same folder copies news only.

    The database is copied first, by SQLite's own backup, and then every blob that it names: commits that come later
    are not in the copy, those that are in it are whole.

    Returns:
        The number of blobs copied.

    Raises:
        IntegrityError: If a blob is missing, or the store is damaged otherwise.
        OptionError: If the target is the store itself.
    """
    root = Path(target)
    if root.resolve() == store.root.resolve():
        raise OptionError(f"{target} is the store itself: give another folder")
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    blobs, fresh = Blobs(root), root / "hub.db.new"
    fresh.unlink(missing_ok=True)
    os.close(os.open(fresh, os.O_CREAT | os.O_RDWR, 0o600))
    with contextlib.closing(sqlite3.connect(fresh, isolation_level=None)) as copy:
        with store.database.reading() as db:
            db.backup(copy)
        copy.execute("pragma journal_mode=delete")
        missing = {sha256: size for sha256, size in _live(copy).items() if blobs.size(sha256) != size}
    for sha256 in missing:
        _copy(store.blobs, blobs, sha256)
    blobs.settle(missing)
    for stale in ("hub.db-wal", "hub.db-shm"):
        (root / stale).unlink(missing_ok=True)
    os.replace(fresh, root / "hub.db")
    sync_folder(root)
    return len(missing)


# -- checking


def _walk_history(
    db: sqlite3.Connection,
    repo: int,
    sha: str,
    where: str,
    commits: set[tuple[int, str]],
    roots: dict[str, str],
) -> Iterator[str]:
    at: str | None = sha
    while at and (repo, at) not in commits:
        row = db.execute("select * from commits where repo=? and sha=?", (repo, at)).fetchone()
        if row is None:
            yield f"{where}: the commit {at} is missing"
            return
        if Commit(**dict(row)).digest() != at:
            yield f"{where}: the commit {at} is damaged"
        commits.add((repo, at))
        roots.setdefault(row["tree"], f"{where}, commit {at}")
        at = row["parent"]


def _walk_trees(db: sqlite3.Connection, roots: dict[str, str], leaves: dict[str, tuple[int, str]]) -> Iterator[str]:
    waiting, seen = list(roots.items()), set(roots)
    while waiting:
        oid, where = waiting.pop()
        row = db.execute("select data from trees where oid=?", (oid,)).fetchone()
        if row is None:
            yield f"{where}: the tree {oid} is missing"
            continue
        try:
            tree = _unpacked(oid, row["data"])
        except IntegrityError:
            tree = {}
        if trees.pack(tree)[0] != oid:
            yield f"{where}: the tree {oid} is damaged"
        for name, node in tree.items():
            if isinstance(node, Leaf):
                leaves.setdefault(node.sha256, (node.size, f"{where}, {name}"))
            elif node not in seen:
                seen.add(node)
                waiting.append((node, f"{where}, {name}/"))


def _check_blobs(blobs: Blobs, leaves: dict[str, tuple[int, str]], quick: bool) -> Iterator[str]:
    for sha256, (size, where) in leaves.items():
        try:
            found = blobs.size(sha256)
            if found is None:
                yield f"{where}: the blob {sha256} is missing"
            elif found != size:
                yield f"{where}: the blob {sha256} has {found} bytes, not {size}"
            elif not quick and blobs.digest(sha256) != sha256:
                yield f"{where}: the blob {sha256} is damaged"
        except OSError as problem:
            yield f"{where}: the blob {sha256} cannot be read: {problem.strerror}"


# -- collecting


def _drop_unreached(db: sqlite3.Connection, before: float) -> tuple[int, int]:
    """Delete commits that no ref reaches, but for young ones and what those stand on, and then trees likewise."""
    young = (datetime.fromtimestamp(before, UTC) + timedelta(milliseconds=1)).strftime("%Y-%m-%dT%H:%M:%S.%f")[
        :-3
    ] + "Z"
    db.execute(
        """create temp table alive as with recursive reached(repo, sha) as (
            select repo, sha from refs union select repo, sha from commits where created >= ?
            union select repo, base from discussions where base is not null
            union select commits.repo, parent from commits join reached using(repo, sha) where parent is not null
        ) select repo, sha from reached""",
        (young,),
    )
    commits = db.execute("delete from commits where (repo, sha) not in (select repo, sha from alive)").rowcount
    db.execute("drop table alive")
    kept, waiting = set[str](), [row["tree"] for row in db.execute("select distinct tree from commits")]
    while waiting:
        oid = waiting.pop()
        if oid not in kept:
            kept.add(oid)
            row = db.execute("select data from trees where oid=?", (oid,)).fetchone()
            waiting += [node for node in _unpacked(oid, row["data"]).values() if isinstance(node, str)] if row else []
    gone = [(row["oid"],) for row in db.execute("select oid from trees") if row["oid"] not in kept]
    db.executemany("delete from trees where oid=?", gone)
    return commits, len(gone)


def _drop_blobs(db: sqlite3.Connection, blobs: Blobs, before: float) -> Iterator[int]:
    live = _live(db)
    for sha256, state in list(blobs.all()):
        if sha256 not in live and state.st_mtime < before:
            blobs.path(sha256).unlink(missing_ok=True)
            for table in ("uploads", "chunks", "holdings"):
                db.execute(f"delete from {table} where sha256=?", (sha256,))
            yield state.st_size


def _drop_old(path: Path, before: float) -> bool:
    # Uploads come to their end meanwhile.
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_mtime < before:
            path.unlink()
            return True
    return False


def _live(db: sqlite3.Connection) -> dict[str, int]:
    """Every blob that a tree names, with its size."""
    rows = db.execute("select oid, data from trees")
    return {node.sha256: node.size for row in rows for node in _unpacked(*row).values() if isinstance(node, Leaf)}


def _unpacked(oid: str, data: bytes) -> trees.Tree:
    try:
        return trees.unpack(data)
    except (zlib.error, ValueError, TypeError, AttributeError) as problem:
        raise IntegrityError(f"the tree {oid} is damaged: run fsck, and restore a backup") from problem


def _copy(source: Blobs, target: Blobs, sha256: str) -> None:
    try:
        with source.path(sha256).open("rb") as stream, target.writing() as upload:
            while piece := stream.read(1 << 20):
                upload.write(piece)
            upload.keep(sha256)
    except FileNotFoundError as problem:
        raise IntegrityError(
            f"the blob {sha256} is missing: if a garbage collection just ran, back up again, else run fsck"
        ) from problem
