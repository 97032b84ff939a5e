"""The one SQLite file of a store: its tables, and reading and writing transactions."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from anthology_hub.errors import DataError, IntegrityError

VERSION = 1
PATIENCE = 60.0
"""Seconds to wait for another process that writes."""

_TABLES = """
create table settings(name text primary key, value text not null);
create table accounts(name text primary key, created text not null);
create table tokens(id integer primary key, account text not null references accounts(name), role text not null,
    label text not null, hash text not null unique, created text not null, revoked text);
create table members(namespace text not null, account text not null references accounts(name), role text not null,
    primary key(namespace, account));
create table repos(id integer primary key autoincrement, kind text not null, namespace text not null,
    name text not null, private integer not null, gated text not null, created text not null,
    unique(kind, namespace, name));
create table access(repo integer not null references repos(id) on delete cascade, account text not null,
    status text not null, created text not null, primary key(repo, account));
create table trees(oid text primary key, data blob not null) without rowid;
create table commits(repo integer not null references repos(id) on delete cascade, sha text not null, parent text,
    tree text not null, title text not null, message text not null, author text not null, created text not null,
    primary key(repo, sha));
create table refs(repo integer not null references repos(id) on delete cascade, name text not null,
    sha text not null, message text not null, primary key(repo, name));
create table discussions(repo integer not null references repos(id) on delete cascade, num integer not null,
    title text not null, author text not null, status text not null, is_pull_request integer not null, base text,
    merged text, created text not null, primary key(repo, num));
create table events(repo integer not null, num integer not null, position integer not null, id text not null,
    type text not null, author text not null, created text not null, data text not null,
    primary key(repo, num, position),
    foreign key(repo, num) references discussions(repo, num) on delete cascade);
create table holdings(repo integer not null references repos(id) on delete cascade, sha256 text not null,
    primary key(repo, sha256)) without rowid;
create index holdings_by_blob on holdings(sha256);
create table uploads(account text not null, sha256 text not null, primary key(account, sha256)) without rowid;
create table chunks(xorb text not null, first integer not null, last integer not null, sha256 text not null,
    start integer not null, lengths blob not null, primary key(xorb, first, last)) without rowid;
create index chunks_by_blob on chunks(sha256);
"""


def now() -> str:
    """The time in the form that clients parse.

    Example:
        >>> len(now())
        24
    """
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


class Database:
    """Connections to a SQLite file in WAL mode, where a commit is on disk before anyone is told so."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._idle: list[sqlite3.Connection] = []
        self._writer = threading.Lock()
        if not path.exists():
            # Made by hand first: it holds token hashes and the signing key, so it is its owner's alone.
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        try:
            found = self._made()
        except sqlite3.DatabaseError as problem:
            raise IntegrityError(f"{path} cannot be opened as a database: {problem}. Restore a backup") from problem
        if found != VERSION:
            self.close()
            raise DataError(f"{path} has format {found}, this program reads format {VERSION}: use a fitting version")

    def _made(self) -> int:
        """The format of the database, which is made if it is new: whole, or not at all."""
        with self.writing() as db:
            if not db.execute("select 1 from sqlite_master").fetchone():
                for statement in _TABLES.split(";"):
                    db.execute(statement)
                db.execute(f"pragma user_version={VERSION}")
            return int(db.execute("pragma user_version").fetchone()[0])

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Give a connection that sees one moment of the database."""
        with self._transaction("begin") as db:
            yield db

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Give a connection whose changes appear together, durably, at the end, or not at all after an error."""
        # The lock spares threads of this process SQLite's polling; other processes wait for the file's own lock.
        with self._writer, self._transaction("begin immediate") as db:
            yield db

    def close(self) -> None:
        """Close all connections that are not in use."""
        while self._idle:
            self._idle.pop().close()

    @contextlib.contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        try:
            db = self._idle.pop()
        except IndexError:
            db = self._open()
        try:
            db.execute(begin)
            yield db
            db.execute("commit")
        except sqlite3.DatabaseError:
            # What state it is in is unknown; to close it undoes what was begun.
            db.close()
            raise
        except BaseException:
            db.rollback()
            self._idle.append(db)
            raise
        self._idle.append(db)

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, timeout=PATIENCE, isolation_level=None, check_same_thread=False)
        db.row_factory = sqlite3.Row
        try:
            for setting in ("journal_mode=wal", "synchronous=full", "foreign_keys=on"):
                db.execute(f"pragma {setting}")
        except sqlite3.DatabaseError:
            db.close()
            raise
        return db
