"""Discussions and pull requests of a repository.

A pull request is a discussion with a ref of its own, `refs/pr/N`; merging brings its changes to main.
"""

from __future__ import annotations

import difflib
import html
import json
import secrets
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from anthology_hub.errors import DataError
from anthology_hub.labhub import trees
from anthology_hub.labhub.database import now
from anthology_hub.labhub.store import MAIN, Change, Commit, Refusal, Repo, Store, check_parent
from anthology_hub.labhub.trees import Leaf

OPEN = ("open", "draft")
LARGEST_DIFF, MOST_COMPARED = 1 << 20, 1 << 22
"""Characters, and pairs of lines: the worst of texts cost their product and more."""


@dataclass(frozen=True, kw_only=True)
class Discussion:
    """A discussion or pull request."""

    num: int
    title: str
    author: str
    status: str
    """open, closed, draft or merged."""
    is_pull_request: bool
    base: str | None
    """The commit that a pull request began from."""
    merged: str | None
    """The commit that merged it."""
    created: str

    @property
    def ref(self) -> str:
        """Where commits to a pull request go."""
        return f"refs/pr/{self.num}"


@dataclass(frozen=True, kw_only=True)
class Event:
    """A comment, a change of status or title, or a commit."""

    id: str
    type: str
    author: str
    created: str
    data: Mapping[str, Any]


class Discussions:
    """The discussions of a store.

    Example:
        >>> import tempfile
        >>> store = Store(tempfile.mkdtemp())
        >>> repo = store.create_repo("dataset", "lab", "people", author="ada")
        >>> talks = Discussions(store)
        >>> talks.open(repo, title="Why so few?", description="Only ten people.", author="bob")
        1
    """

    def __init__(self, store: Store) -> None:
        self._store, self._database = store, store.database

    def all(self, repo: Repo) -> list[Discussion]:
        """All discussions of a repository, newest first."""
        with self._database.reading() as db:
            query = "select * from discussions where repo=? order by num desc"
            return [_discussion(row) for row in db.execute(query, (repo.id,))]

    def get(self, repo: Repo, num: int) -> Discussion:
        """One discussion.

        Raises:
            Refusal: If there is none of that number (404).
        """
        with self._database.reading() as db:
            return self._get(db, repo, num)

    def events(self, repo: Repo, num: int) -> list[Event]:
        """What happened in a discussion, in order."""
        with self._database.reading() as db:
            query = "select id, type, author, created, data from events where repo=? and num=? order by position"
            rows = db.execute(query, (repo.id, num)).fetchall()
        return [Event(**{**dict(row), "data": json.loads(row["data"])}) for row in rows]

    def open(self, repo: Repo, *, title: str, description: str, author: str, pull_request: bool = False) -> int:
        """Open a discussion, or an empty pull request as a draft, and return its number."""
        with self._database.writing() as db:
            head = self._store.head(db, repo, MAIN)
            num = self._open(db, repo, title, author, base=head.sha if pull_request else None, status="draft")
            self._add(db, repo, num, "comment", author, _comment(description, author))
            if pull_request:
                db.execute("insert into refs values(?,?,?,'')", (repo.id, f"refs/pr/{num}", head.sha))
        return num

    def propose(
        self, repo: Repo, changes: Sequence[Change], *, title: str, message: str, author: str, parent: str | None = None
    ) -> tuple[int, Commit]:
        """Open a pull request with a commit on main, or on an older commit of it."""
        with self._database.writing() as db:
            base = self._store.head(db, repo, parent or MAIN)
            num = self._open(db, repo, title, author, base=base.sha)
            self._add(db, repo, num, "comment", author, _comment(message, author))
            commit = self._store.write(db, repo, f"refs/pr/{num}", base, changes, (title, message, author))
            self._add(db, repo, num, "commit", author, {"subject": title, "oid": commit.sha})
        return num, commit

    def push(
        self,
        repo: Repo,
        num: int,
        changes: Sequence[Change],
        *,
        title: str,
        message: str,
        author: str,
        parent: str | None = None,
    ) -> Commit:
        """Add a commit to a pull request.

        Raises:
            Refusal: If it is no longer open (409), or has moved on from `parent` (412).
        """
        with self._database.writing() as db:
            pull = self._open_pull(db, repo, num)
            head = self._store.head(db, repo, pull.ref)
            check_parent(pull.ref, head, parent)
            commit = self._store.write(db, repo, pull.ref, head, changes, (title, message, author))
            self._add(db, repo, num, "commit", author, {"subject": title, "oid": commit.sha})
        return commit

    def comment(self, repo: Repo, num: int, text: str, *, author: str) -> Event:
        """Add a comment."""
        with self._database.writing() as db:
            self._get(db, repo, num)
            return self._add(db, repo, num, "comment", author, _comment(text, author))

    def edit_comment(self, repo: Repo, num: int, comment: str, *, author: str, text: str | None) -> Event:
        """Change one's own comment, keeping what it was; no text hides it."""

        def edited(data: dict[str, Any]) -> dict[str, Any]:
            if text is None:
                return {**data, "hidden": True}
            return {**_comment(text, author), "edited": True, "history": [*data["history"], data["latest"]]}

        with self._database.writing() as db:
            return self._change(db, (repo.id, num, comment.lower()), author, edited)

    def rename(self, repo: Repo, num: int, title: str, *, author: str) -> Event:
        """Change the title."""
        with self._database.writing() as db:
            was = self._get(db, repo, num).title
            db.execute("update discussions set title=? where repo=? and num=?", (title, repo.id, num))
            return self._add(db, repo, num, "title-change", author, {"from": was, "to": title})

    def set_status(self, repo: Repo, num: int, status: str, *, author: str) -> Event:
        """Open or close.

        Raises:
            Refusal: If it is another status (400), or the pull request was merged (409).
        """
        if status not in ("open", "closed"):
            raise Refusal(400, f"the status {status!r} is not allowed: choose 'open' or 'closed'")
        with self._database.writing() as db:
            if self._get(db, repo, num).status == "merged":
                raise Refusal(409, f"the pull request {num} was merged: open a new one")
            db.execute("update discussions set status=? where repo=? and num=?", (status, repo.id, num))
            return self._add(db, repo, num, "status-change", author, {"status": status})

    def merge(self, repo: Repo, num: int, *, author: str) -> Commit:
        """Bring the changes of a pull request to main.

        Raises:
            Refusal: If files were changed on both sides (409), or it is no longer open (409).
        """
        with self._database.writing() as db:
            pull, head = self._open_pull(db, repo, num), self._store.head(db, repo, MAIN)
            changes, conflicts = self._merged(db, repo, pull)
            if conflicts:
                files = ", ".join(conflicts[:5])
                raise Refusal(409, f"Merge conflict in {files}: change the files in {pull.ref} and try again")
            try:
                words = (f"{pull.title} (#{num})", "", author)
                commit = self._store.write(db, repo, MAIN, head, changes, words)
            except DataError as error:
                raise Refusal(409, f"Merge conflict: {error}") from error
            query = "update discussions set status='merged', merged=? where repo=? and num=?"
            db.execute(query, (commit.sha, repo.id, num))
            self._add(db, repo, num, "status-change", author, {"status": "merged"})
        return commit

    def conflicts(self, repo: Repo, pull: Discussion) -> list[str]:
        """Files that an open pull request and main have both changed, in different ways."""
        if pull.status not in OPEN:
            return []
        with self._database.reading() as db:
            return self._merged(db, repo, pull)[1]

    def changed(self, repo: Repo, pull: Discussion) -> list[tuple[str, Leaf | None, Leaf | None]]:
        """Path, old and new content of what a pull request changes."""
        with self._database.reading() as db:
            base, head = (self._store.head(db, repo, at).tree for at in (str(pull.base), pull.ref))
        return list(trees.compare(self._store.tree, base, head))

    def diff(self, repo: Repo, pull: Discussion) -> str:
        """The changes of a pull request as text, in git's form; large and binary files are named only."""
        out, size, effort = list[str](), 0, MOST_COMPARED
        for path, old, new in self.changed(repo, pull):
            before, after = _lines(self._store, old), _lines(self._store, new)
            cost = len(before or ()) * len(after or ())
            names = (f"a/{path}" if old else "/dev/null", f"b/{path}" if new else "/dev/null")
            told = "".join(_diff(names, before, after, careful=cost <= effort))
            out.append(f"diff --git a/{path} b/{path}\n{told}")
            effort -= cost if cost <= effort else 0
            size += len(told)
            if size > LARGEST_DIFF:
                out.append("\\ The rest is left out here: compare the files\n")
                break
        return "".join(out)

    # -- within a transaction

    def _get(self, db: sqlite3.Connection, repo: Repo, num: int) -> Discussion:
        row = db.execute("select * from discussions where repo=? and num=?", (repo.id, num)).fetchone()
        if row is None:
            raise Refusal(404, f"there is no discussion {num} in {repo.full_name}: list them for their numbers")
        return _discussion(row)

    def _open_pull(self, db: sqlite3.Connection, repo: Repo, num: int) -> Discussion:
        pull = self._get(db, repo, num)
        if not pull.is_pull_request:
            raise Refusal(400, f"the discussion {num} is no pull request: it has no commits")
        if pull.status not in OPEN:
            raise Refusal(409, f"the pull request {num} is {pull.status}: open it again or make a new one")
        return pull

    def _open(
        self, db: sqlite3.Connection, repo: Repo, title: str, author: str, *, base: str | None, status: str = "open"
    ) -> int:
        query = "select coalesce(max(num), 0) + 1 from discussions where repo=?"
        num = int(db.execute(query, (repo.id,)).fetchone()[0])
        row = (repo.id, num, title, author, status if base else "open", base is not None, base, None, now())
        db.execute("insert into discussions values(?,?,?,?,?,?,?,?,?)", row)
        return num

    def _add(
        self, db: sqlite3.Connection, repo: Repo, num: int, kind: str, author: str, data: Mapping[str, Any]
    ) -> Event:
        event = Event(id=secrets.token_hex(12), type=kind, author=author, created=now(), data=data)
        count = db.execute("select count(*) from events where repo=? and num=?", (repo.id, num)).fetchone()[0]
        row = (repo.id, num, count, event.id, kind, author, event.created, json.dumps(data))
        db.execute("insert into events values(?,?,?,?,?,?,?,?)", row)
        return event

    def _change(
        self,
        db: sqlite3.Connection,
        key: tuple[int, int, str],
        author: str,
        edited: Callable[[dict[str, Any]], dict[str, Any]],
    ) -> Event:
        where = "where repo=? and num=? and id=? and type='comment'"
        row = db.execute(f"select id, type, author, created, data from events {where}", key).fetchone()
        if row is None:
            raise Refusal(404, f"there is no comment {key[2][:60]!r} in the discussion {key[1]}: list its events")
        if row["author"] != author:
            raise Refusal(403, f"the comment is by {row['author']}: only they may change it")
        data = edited(json.loads(row["data"]))
        db.execute(f"update events set data=? {where}", (json.dumps(data), *key))
        return Event(**{**dict(row), "data": data})

    def _merged(self, db: sqlite3.Connection, repo: Repo, pull: Discussion) -> tuple[list[Change], list[str]]:
        base, ours, theirs = (self._store.head(db, repo, at).tree for at in (str(pull.base), MAIN, pull.ref))
        changes, conflicts = [], []

        def load(oid: str) -> trees.Tree:
            return self._store.load(db, oid)

        for path, old, new in trees.compare(load, base, theirs):
            mine = trees.find(load, ours, path)
            # Where a file takes a folder's place, it is known only at the end whether the folder is empty.
            if mine == old or (old is None and isinstance(mine, str)):
                changes.append(Change(path=path, leaf=new))
            elif mine != new:
                conflicts.append(path)
        return sorted(changes, key=lambda change: change.leaf is not None), conflicts


def _discussion(row: sqlite3.Row) -> Discussion:
    values = {**dict(row), "is_pull_request": bool(row["is_pull_request"])}
    del values["repo"]
    return Discussion(**values)


def _comment(text: str, author: str) -> dict[str, Any]:
    # Comments are shown as plain text, so that nobody's Markdown can run in another's browser.
    shown = f"<p>{html.escape(text)}</p>"
    latest = {"raw": text, "html": shown, "updatedAt": now(), "author": {"name": author}}
    return {"edited": False, "hidden": False, "latest": latest, "history": []}


def _diff(names: tuple[str, str], before: list[str] | None, after: list[str] | None, *, careful: bool) -> Iterator[str]:
    if before is None or after is None:
        yield f"Binary files {names[0]} and {names[1]} differ\n"
        return
    for line in (difflib.unified_diff if careful else _replaced)(before, after, *names):
        yield line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"


def _replaced(before: list[str], after: list[str], old: str, new: str) -> Iterator[str]:
    """A coarse diff: all between the common beginning and the common end. A careful one may take minutes."""
    start = _common(before, after)
    end = _common(before[start:][::-1], after[start:][::-1])
    gone, come = before[start : len(before) - end], after[start : len(after) - end]
    yield f"--- {old}\n+++ {new}\n"
    yield f"@@ -{start + bool(gone)},{len(gone)} +{start + bool(come)},{len(come)} @@\n"
    yield from (f"-{line}" for line in gone)
    yield from (f"+{line}" for line in come)


def _common(one: list[str], two: list[str]) -> int:
    return next((at for at, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two)))


def _lines(store: Store, leaf: Leaf | None) -> list[str] | None:
    if leaf is None:
        return []
    if leaf.lfs or leaf.size > LARGEST_DIFF:
        return None
    try:
        return store.blobs.read(leaf.sha256).decode().splitlines(keepends=True)
    except UnicodeDecodeError:
        return None
