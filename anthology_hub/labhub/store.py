"""Repositories of a private hub: what is in them, and every change as one transaction.

Everything that a commit names is on disk before the commit is written, and the commit, its trees and the moved branch
become visible together. Rights are not checked here but asked for: `may_see`, `may_open`, `may_write`.
"""

from __future__ import annotations

import functools
import hashlib
import re
import secrets
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Literal

from anthology_hub.errors import AnthologyError
from anthology_hub.labhub import trees
from anthology_hub.labhub.accounts import Accounts, Viewer, checked_name
from anthology_hub.labhub.blobs import Blobs
from anthology_hub.labhub.database import Database, now
from anthology_hub.labhub.trees import Leaf, Node

Kind = Literal["model", "dataset", "space"]
KINDS: tuple[Kind, ...] = ("model", "dataset", "space")
LFS_SUFFIXES = (
    "7z", "arrow", "avro", "bin", "bz2", "faiss", "ftz", "gguf", "gz", "h5", "index", "joblib", "lance", "model",
    "msgpack", "npy", "npz", "onnx", "orc", "ot", "parquet", "pb", "pickle", "pkl", "pt", "pth", "rar", "safetensors",
    "tar", "tgz", "wasm", "xz", "zip", "zst",
)  # fmt: skip
"""Files with these endings are stored as LFS files, however small, as on the public Hub."""
MAIN = "refs/heads/main"
_ATTRIBUTES = "".join(f"*.{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LFS_SUFFIXES).encode()
_SHA = re.compile(r"[0-9a-f]{7,40}")
_REF = re.compile(
    r"(?!.*(?:\.\.|//|@\{|\.lock$|\.$|/$|/\.))[^\x00-\x20\x7f~^:?*\[\\/.-][^\x00-\x20\x7f~^:?*\[\\]{0,199}"
)


class Refusal(AnthologyError):
    """What a hub answers to a request that it does not fulfil: a status and, for some, a code that clients know."""

    def __init__(self, status: int, message: str, *, code: str | None = None, commit: str | None = None) -> None:
        self.status, self.code, self.commit = status, code, commit
        super().__init__(message)


@dataclass(frozen=True, kw_only=True)
class Repo:
    """A repository."""

    id: int
    kind: Kind
    namespace: str
    name: str
    private: bool
    gated: str
    """manual, auto, or empty: must accounts be granted access before they may open files?"""
    created: str

    @property
    def full_name(self) -> str:
        """Namespace and name, as clients write them."""
        return f"{self.namespace}/{self.name}"

    @property
    def path(self) -> str:
        """Path of its page: `lab/model`, `datasets/lab/people`."""
        return self.full_name if self.kind == "model" else f"{self.kind}s/{self.full_name}"


@dataclass(frozen=True, kw_only=True)
class Commit:
    """One state of a repository."""

    repo: int
    sha: str
    parent: str | None
    tree: str
    title: str
    message: str
    author: str
    created: str

    def digest(self) -> str:
        """The id that follows from all that the commit says; it is its sha."""
        told = (str(self.repo), self.parent or "", self.tree, self.title, self.message, self.author, self.created)
        return hashlib.sha256("\0".join(told).encode("utf-8", "surrogatepass")).hexdigest()[:40]


@dataclass(frozen=True, kw_only=True)
class Ref:
    """A name for a commit: `refs/heads/...`, `refs/tags/...` or `refs/pr/N`."""

    name: str
    sha: str
    message: str

    @property
    def short(self) -> str:
        """The name without its kind."""
        return self.name.split("/", 2)[2]


@dataclass(frozen=True, kw_only=True)
class Change:
    """One line of a commit: a file with its content, or no leaf to delete the file or folder."""

    path: str
    leaf: Leaf | None


class Store:
    """A folder with everything that a hub keeps.

    Example:
        >>> import tempfile
        >>> store = Store(tempfile.mkdtemp())
        >>> repo = store.create_repo("dataset", "lab", "people", author="ada")
        >>> commit = store.commit(repo, "main", [store.file("a.txt", b"hello")], title="Add a file", author="ada")
        >>> store.read(commit, "a.txt")
        b'hello'
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        # What is private on the hub is private on its machine too.
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.blobs = Blobs(self.root)
        self.xorbs = self.root / "xorbs"
        """What clients upload by Xet, until files have been made of it."""
        self.xorbs.mkdir(exist_ok=True)
        self.database = Database(self.root / "hub.db")
        self.accounts = Accounts(self.database)
        # Trees never change, so what was read once is right for ever.
        self.tree = functools.lru_cache(maxsize=64)(self._tree)

    def close(self) -> None:
        """Close the database."""
        self.database.close()

    # -- repositories

    def create_repo(self, kind: str, namespace: str, name: str, *, author: str, private: bool = False) -> Repo:
        """Make a repository with a first commit.

        Raises:
            Refusal: If it exists (409) or there is no such kind (400).
            OptionError: If a name is not allowed.
        """
        if kind not in KINDS:
            raise Refusal(400, f"there are no repositories of type {kind!r}: choose one of {', '.join(KINDS)}")
        values = (kind, checked_name("namespace", namespace), checked_name("repository", name), private, "", now())
        attributes = self.file(".gitattributes", _ATTRIBUTES)
        with self.database.writing() as db:
            try:
                made = db.execute(
                    "insert into repos(kind, namespace, name, private, gated, created) values(?,?,?,?,?,?)", values
                )
            except sqlite3.IntegrityError:
                raise Refusal(409, f"the {kind} {namespace}/{name} exists already: choose another name") from None
            repo = _repo(db.execute("select * from repos where id=?", (made.lastrowid,)).fetchone())
            self.write(db, repo, MAIN, None, [attributes], ("initial commit", "", author))
        return repo

    def find(self, kind: str, namespace: str, name: str) -> Repo | None:
        """A repository, or None."""
        with self.database.reading() as db:
            query = "select * from repos where kind=? and namespace=? and name=?"
            row = db.execute(query, (kind, namespace, name)).fetchone()
        return _repo(row) if row else None

    def repos(self, kind: str | None = None) -> list[Repo]:
        """All repositories, of one kind or of all, newest first; ask `may_see` before showing one."""
        with self.database.reading() as db:
            query = "select * from repos where ? is null or kind=? order by id desc"
            return [_repo(row) for row in db.execute(query, (kind, kind))]

    def heads(self, repos: Iterable[Repo]) -> list[tuple[Repo, Commit]]:
        """Repositories with the newest commit of their main branch, but for those that were deleted meanwhile."""
        with self.database.reading() as db:
            query = "select commits.* from refs join commits using(repo, sha) where refs.name=?"
            found = {row["repo"]: Commit(**dict(row)) for row in db.execute(query, (MAIN,))}
        return [(repo, found[repo.id]) for repo in repos if repo.id in found]

    def set_private(self, repo: Repo, private: bool) -> None:
        """Hide a repository from all but its namespace's members, or show it to all."""
        with self.database.writing() as db:
            db.execute("update repos set private=? where id=?", (private, repo.id))

    def set_gated(self, repo: Repo, gated: str) -> None:
        """Let accounts open files only once access was granted: `manual`, `auto` (whoever asks), or '' for all."""
        if gated not in ("", "auto", "manual"):
            raise Refusal(400, f"gated={gated!r} is not allowed: choose 'auto', 'manual' or false")
        with self.database.writing() as db:
            db.execute("update repos set gated=? where id=?", (gated, repo.id))

    def move_repo(self, repo: Repo, namespace: str, name: str) -> None:
        """Give a repository another name.

        Raises:
            Refusal: If there is one of that name (409).
            OptionError: If the name is not allowed.
        """
        to = (checked_name("namespace", namespace), checked_name("repository", name))
        try:
            with self.database.writing() as db:
                db.execute("update repos set namespace=?, name=? where id=?", (*to, repo.id))
        except sqlite3.IntegrityError:
            raise Refusal(409, f"the {repo.kind} {'/'.join(to)} exists already: choose another name") from None

    def delete_repo(self, repo: Repo) -> None:
        """Delete a repository with its history and discussions; the next garbage collection frees the space."""
        with self.database.writing() as db:
            db.execute("delete from repos where id=?", (repo.id,))

    # -- rights

    def may_see(self, viewer: Viewer | None, repo: Repo) -> bool:
        """May the viewer know of a repository and list its files?"""
        return not repo.private or self.accounts.is_member(viewer, repo.namespace)

    def may_open(self, viewer: Viewer | None, repo: Repo) -> bool:
        """May the viewer read its files?"""
        if not repo.gated or self.accounts.is_member(viewer, repo.namespace):
            return self.may_see(viewer, repo)
        granted = viewer is not None and self.access(repo).get(viewer.name, ("", ""))[0] == "accepted"
        return granted and self.may_see(viewer, repo)

    def may_write(self, viewer: Viewer | None, repo: Repo) -> bool:
        """May the viewer commit to its branches, merge, and change its settings?"""
        return self.accounts.may_write(viewer, repo.namespace)

    def access(self, repo: Repo) -> dict[str, tuple[str, str]]:
        """Who asked for access to a gated repository: account -> (pending, accepted or rejected; since when)."""
        with self.database.reading() as db:
            rows = db.execute("select * from access where repo=? order by created, account", (repo.id,))
            return {row["account"]: (row["status"], row["created"]) for row in rows}

    def set_access(self, repo: Repo, account: str, status: str) -> None:
        """Set the state of an account's access to a gated repository: pending, accepted or rejected."""
        with self.database.writing() as db:
            db.execute("insert or replace into access values(?,?,?,?)", (repo.id, account, status, now()))

    # -- reading

    def resolve(self, repo: Repo, revision: str = "main") -> Commit:
        """The commit that a branch, tag, `refs/...` name or commit id (at least 7 digits) stands for.

        Raises:
            Refusal: If there is none (404, RevisionNotFound).
        """
        with self.database.reading() as db:
            return self.head(db, repo, revision)

    def refs(self, repo: Repo, prefix: str = "refs/") -> list[Ref]:
        """The names of commits that begin so: `refs/heads/`, `refs/tags/`, `refs/pr/`."""
        with self.database.reading() as db:
            query = "select name, sha, message from refs where repo=? and substr(name, 1, ?)=? order by name"
            return [Ref(**row) for row in map(dict, db.execute(query, (repo.id, len(prefix), prefix)))]

    def history(self, commit: Commit) -> Iterator[Commit]:
        """A commit and all before it, newest first."""
        at: str | None = commit.sha
        with self.database.reading() as db:
            rows = []
            while at:
                rows.append(db.execute("select * from commits where repo=? and sha=?", (commit.repo, at)).fetchone())
                at = rows[-1]["parent"]
        return (Commit(**dict(row)) for row in rows)

    def entry(self, commit: Commit, path: str) -> Node | None:
        """What is at a path: a `Leaf` (file), the id of a folder, or None."""
        return trees.find(self.tree, commit.tree, path)

    def listing(self, commit: Commit, folder: str = "", *, recursive: bool = False) -> Iterator[tuple[str, Node]]:
        """Path and node of what is in a folder, or in it and all folders below.

        Raises:
            Refusal: If there is no such folder (404, EntryNotFound).
        """
        node = self.entry(commit, folder)
        if not isinstance(node, str):
            raise Refusal(
                404, f"there is no folder {folder!r} at this revision", code="EntryNotFound", commit=commit.sha
            )
        return trees.walk(self.tree, node, below=folder, recursive=recursive)

    def files(self, commit: Commit) -> Iterator[tuple[str, Leaf]]:
        """Path and content of every file."""
        return ((path, node) for path, node in self.listing(commit, recursive=True) if isinstance(node, Leaf))

    def read(self, commit: Commit, path: str) -> bytes | None:
        """Content of a file; None if there is none. For small files: others are streamed from `blobs.path`."""
        leaf = self.entry(commit, path)
        return self.blobs.read(leaf.sha256) if isinstance(leaf, Leaf) else None

    def last_changes(self, commit: Commit, paths: Iterable[str]) -> dict[str, Commit]:
        """For each path the newest commit that changed it or, if it is a folder, something in it."""
        open_paths, found = set(paths), dict[str, Commit]()
        for newer, older in _pairs(self.history(commit)):
            for path in list(open_paths):
                before = trees.find(self.tree, older.tree, path) if older else None
                if before != trees.find(self.tree, newer.tree, path):
                    found[path] = newer
                    open_paths.discard(path)
            if not open_paths:
                break
        return found

    # -- writing

    def file(self, path: str, data: bytes) -> Change:
        """Store a small file's content and return the change that adds it."""
        oid = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
        return Change(path=trees.checked(path), leaf=Leaf(oid, len(data), self.blobs.put(data), False))

    def large_file(self, path: str, sha256: str, size: int) -> Change:
        """Return the change that adds an uploaded LFS file."""
        pointer = lfs_pointer(sha256, size)
        oid = hashlib.sha1(b"blob %d\0" % len(pointer) + pointer, usedforsecurity=False).hexdigest()
        return Change(path=trees.checked(path), leaf=Leaf(oid, size, sha256, True))

    def commit(
        self,
        repo: Repo,
        revision: str,
        changes: Sequence[Change],
        *,
        title: str,
        message: str = "",
        author: str,
        parent: str | None = None,
    ) -> Commit:
        """Change files and move a branch (or `refs/pr/N`), all at once or not at all.

        Args:
            repo: The repository.
            revision: Branch name or full ref.
            changes: Applied in their order.
            title: First line of the message.
            message: The rest.
            author: Account.
            parent: The commit that the branch must still be at.

        Raises:
            Refusal: If the branch has moved on (412), is none (404), a deleted file does not exist (404) or a blob
                is not stored (400).
        """
        with self.database.writing() as db:
            head = self.head(db, repo, revision)
            ref = self._branch(db, repo, revision)
            check_parent(ref, head, parent)
            return self.write(db, repo, ref, head, changes, (title, message, author))

    def squash(self, repo: Repo, branch: str, *, title: str, author: str) -> Commit:
        """Replace the history of a branch by one commit with the same files."""
        with self.database.writing() as db:
            head, ref = self.head(db, repo, f"refs/heads/{branch}"), self._branch(db, repo, branch)
            return self.record(db, repo, ref, (None, head.tree), (title, "", author))

    def create_ref(self, repo: Repo, name: str, revision: str, *, message: str = "") -> Ref:
        """Make a branch (`refs/heads/...`) or a tag (`refs/tags/...`).

        Raises:
            Refusal: If it exists (409), its name is not allowed (400), or the revision is none (404).
        """
        checked_ref(name)
        with self.database.writing() as db:
            sha = self.head(db, repo, revision).sha
            try:
                db.execute("insert into refs values(?,?,?,?)", (repo.id, name, sha, message))
            except sqlite3.IntegrityError:
                raise Refusal(409, f"the reference {name} exists already: delete it first or choose another") from None
        return Ref(name=name, sha=sha, message=message)

    def delete_ref(self, repo: Repo, name: str) -> None:
        """Delete a branch or tag.

        Raises:
            Refusal: If there is none (404), or it is the main branch (403).
        """
        if name == MAIN:
            raise Refusal(403, "the branch main cannot be deleted: delete the repository instead")
        with self.database.writing() as db:
            if not db.execute("delete from refs where repo=? and name=?", (repo.id, name)).rowcount:
                raise Refusal(404, f"there is no reference {name}", code="RevisionNotFound")

    # -- possession of large files: knowing a sha256 is not a right to the content

    def note_upload(self, account: str, sha256: str) -> None:
        """Remember that an account has shown the content of a blob."""
        with self.database.writing() as db:
            db.execute("insert or ignore into uploads values(?,?)", (account, sha256))

    def holds(self, viewer: Viewer, sha256: str) -> bool:
        """Has the viewer shown the content of a blob, or may read a repository that has it?"""
        with self.database.reading() as db:
            shown = db.execute("select 1 from uploads where account=? and sha256=?", (viewer.name, sha256)).fetchone()
            query = "select repos.* from holdings join repos on repos.id=holdings.repo where sha256=?"
            places = [] if shown else [_repo(row) for row in db.execute(query, (sha256,))]
        return shown is not None or any(self.may_open(viewer, place) for place in places)

    def setting(self, name: str) -> str:
        """A secret of the store, made at the first asking: keys that must outlive a restart."""
        with self.database.writing() as db:
            db.execute("insert or ignore into settings values(?,?)", (name, secrets.token_hex(32)))
            return str(db.execute("select value from settings where name=?", (name,)).fetchone()["value"])

    # -- within a transaction

    def _tree(self, oid: str) -> trees.Tree:
        with self.database.reading() as db:
            return self.load(db, oid)

    def load(self, db: sqlite3.Connection, oid: str) -> trees.Tree:
        """As `tree`, within a transaction."""
        row = db.execute("select data from trees where oid=?", (oid,)).fetchone()
        if row is None:
            raise Refusal(404, f"the tree {oid} is no longer stored: ask for a branch or tag", code="RevisionNotFound")
        return trees.unpack(row["data"])

    def head(self, db: sqlite3.Connection, repo: Repo, revision: str) -> Commit:
        """As `resolve`, within a transaction."""
        short = "main" if revision == "HEAD" else revision
        query = "select commits.* from refs join commits using(repo, sha) where repo=? and refs.name=?"
        for name in (f"refs/heads/{short}", f"refs/tags/{short}", revision):
            if row := db.execute(query, (repo.id, name)).fetchone():
                return Commit(**dict(row))
        if _SHA.fullmatch(revision):
            query = "select * from commits where repo=? and sha between ? and ? limit 2"
            rows = db.execute(query, (repo.id, revision, revision + "g")).fetchall()
            if len(rows) == 1:
                return Commit(**dict(rows[0]))
        raise Refusal(404, f"Invalid rev id: {revision[:200]}", code="RevisionNotFound")

    def _branch(self, db: sqlite3.Connection, repo: Repo, revision: str) -> str:
        name = "main" if revision == "HEAD" else revision
        name = name if name.startswith("refs/") else f"refs/heads/{name}"
        known = db.execute("select 1 from refs where repo=? and name=?", (repo.id, name)).fetchone()
        if not known or name.startswith("refs/tags/"):
            raise Refusal(400, f"{revision[:200]!r} is not a branch: only branches and refs/pr/N take commits")
        return name

    def write(
        self,
        db: sqlite3.Connection,
        repo: Repo,
        ref: str,
        head: Commit | None,
        changes: Sequence[Change],
        words: tuple[str, str, str],
    ) -> Commit:
        """As `commit`, within a transaction; words are title, message and author."""
        self._claim(db, repo, [change.leaf for change in changes if change.leaf])
        draft = trees.Draft(lambda oid: self.load(db, oid), head.tree if head else None)
        for change in changes:
            if change.leaf:
                draft.put(change.path, change.leaf)
            elif not draft.remove(change.path):
                message = f"A file with this name doesn't exist: {change.path}"
                raise Refusal(404, message, code="EntryNotFound", commit=head.sha if head else None)
        tree = draft.save(lambda nodes: _save(db, nodes))
        return self.record(db, repo, ref, (head.sha if head else None, tree), words)

    def _claim(self, db: sqlite3.Connection, repo: Repo, leaves: Sequence[Leaf]) -> None:
        """Make sure that the blobs are there, whole, durable and safe from garbage collection."""
        for leaf in leaves:
            stored = self.blobs.touch(leaf.sha256)
            if stored != leaf.size:
                state = "is not stored" if stored is None else f"has {stored} bytes, not {leaf.size}"
                raise Refusal(400, f"the LFS object {leaf.sha256} {state}: upload the file again")
        self.blobs.settle(leaf.sha256 for leaf in leaves)
        large = [(repo.id, leaf.sha256) for leaf in leaves if leaf.lfs]
        db.executemany("insert or ignore into holdings values(?,?)", large)

    def record(
        self,
        db: sqlite3.Connection,
        repo: Repo,
        ref: str,
        state: tuple[str | None, str],
        words: tuple[str, str, str],
    ) -> Commit:
        """Add a commit, of which the state (parent and tree) is stored already, and point a ref at it."""
        (parent, tree), (title, message, author) = state, words
        commit = Commit(
            repo=repo.id, sha="", parent=parent, tree=tree, title=title, message=message, author=author, created=now()
        )
        commit = replace(commit, sha=commit.digest())
        db.execute("insert or ignore into commits values(?,?,?,?,?,?,?,?)", astuple(commit))
        db.execute("insert or replace into refs values(?,?,?,'')", (repo.id, ref, commit.sha))
        return commit


def check_parent(ref: str, head: Commit, parent: str | None) -> None:
    """Refuse (412) if a branch has moved on from the commit that it must still be at, given by 7 digits or more."""
    if parent and not (len(parent) >= 7 and head.sha.startswith(parent.lower())):
        told = f"A commit has happened since {parent[:100]}. Please refresh and try again: {ref} is at {head.sha}"
        raise Refusal(412, told)


def lfs_pointer(sha256: str, size: int) -> bytes:
    """The text that stands for a large file in git.

    Example:
        >>> len(lfs_pointer("0" * 64, 20_000_000))
        133
    """
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


def checked_ref(name: str) -> str:
    """Return the full name of a branch or tag if git would allow it.

    Raises:
        Refusal: If it would not (400), or the name could be taken for a commit.

    Example:
        >>> checked_ref("refs/tags/v1.0.0")
        'refs/tags/v1.0.0'
    """
    short = name.split("/", 2)[2]
    if not _REF.fullmatch(short) or short.startswith("refs/") or short == "HEAD" or re.fullmatch("[0-9a-f]{40}", short):
        raise Refusal(
            400,
            f"the name {short[:100]!r} is not allowed for a branch or tag: allowed are at most 200 characters that git "
            "takes (no blanks, '..', '~^:?*[\\'), that are no commit id; choose another",
        )
    return name


def _repo(row: sqlite3.Row) -> Repo:
    return Repo(**{**dict(row), "private": bool(row["private"])})


def _save(db: sqlite3.Connection, nodes: trees.Tree) -> str:
    oid, data = trees.pack(nodes)
    db.execute("insert or ignore into trees values(?,?)", (oid, data))
    return oid


def _pairs(commits: Iterator[Commit]) -> Iterator[tuple[Commit, Commit | None]]:
    newer = next(commits, None)
    while newer:
        older = next(commits, None)
        yield newer, older
        newer = older
