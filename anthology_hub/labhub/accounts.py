"""Who may do what: accounts, their tokens (kept as hashes), and membership in namespaces."""

from __future__ import annotations

import hashlib
import re
import secrets
import sqlite3
from dataclasses import dataclass

from anthology_hub.errors import OptionError, UnknownNameError
from anthology_hub.labhub.database import Database, now

ROLES = ("read", "write", "admin")
RESERVED = frozenset({"api", "datasets", "models", "spaces", "docs", "settings"})
_NAME = re.compile(r"(?!.*(?:--|\.\.))[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?")


@dataclass(frozen=True, kw_only=True)
class Viewer:
    """Who asks: an account and the role of the token in use."""

    name: str
    role: str
    """read, write or admin; an admin token may do all, everywhere."""


@dataclass(frozen=True, kw_only=True)
class Token:
    """A token without its secret."""

    id: int
    account: str
    role: str
    label: str
    created: str
    revoked: str | None


def checked_name(kind: str, name: str) -> str:
    """Return a name that may stand in an address.

    Raises:
        OptionError: If it may not.

    Example:
        >>> checked_name("account", "lab")
        'lab'
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name.endswith(".git"):
        raise OptionError(
            f"the {kind} name {str(name)[:120]!r} is not allowed: allowed are at most 96 letters, digits, '-', '_' and "
            "'.', beginning with a letter or digit, without '--', '..' and '.git' at the end; choose another"
        )
    if kind != "repository" and name in RESERVED:
        raise OptionError(f"the {kind} name {name!r} is part of the hub's own addresses: choose another")
    return name


class Accounts:
    """Accounts, tokens and members of a store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add_token(self, account: str, role: str = "write", *, label: str = "") -> str:
        """Make a token, and its account if need be, and return its secret, which is stored nowhere.

        Raises:
            OptionError: If the role or the name is not allowed.

        Example:
            >>> import tempfile; from anthology_hub.labhub.store import Store
            >>> store = Store(tempfile.mkdtemp())
            >>> store.accounts.who(store.accounts.add_token("lab"))
            Viewer(name='lab', role='write')
        """
        if role not in ROLES:
            raise OptionError(f"the role {role!r} is not allowed: choose one of {', '.join(ROLES)}")
        secret = f"hf_{secrets.token_urlsafe(32)}"
        with self._database.writing() as db:
            _make(db, checked_name("account", account))
            db.execute(
                "insert into tokens(account, role, label, hash, created) values(?,?,?,?,?)",
                (account, role, label, _hash(secret), now()),
            )
        return secret

    def tokens(self) -> list[Token]:
        """All tokens, oldest first."""
        with self._database.reading() as db:
            rows = db.execute("select id, account, role, label, created, revoked from tokens order by id").fetchall()
        return [Token(**row) for row in map(dict, rows)]

    def revoke(self, token: int) -> None:
        """Make a token useless from now on.

        Raises:
            UnknownNameError: If there is none of that number.
        """
        with self._database.writing() as db:
            done = db.execute("update tokens set revoked=coalesce(revoked, ?) where id=?", (now(), token)).rowcount
        if not done:
            raise UnknownNameError("token", token, [str(known.id) for known in self.tokens()])

    def who(self, secret: str) -> Viewer | None:
        """The account that a token stands for; None for one that is unknown or revoked."""
        with self._database.reading() as db:
            query = "select account, role from tokens where hash=? and revoked is null"
            row = db.execute(query, (_hash(secret),)).fetchone()
        return Viewer(name=row["account"], role=row["role"]) if row else None

    def add_member(self, namespace: str, account: str, *, role: str = "write") -> None:
        """Let an account read, or read and write, all repositories of a namespace; the namespace needs no making.

        Raises:
            OptionError: If the role or a name is not allowed.
        """
        if role not in ROLES[:2]:
            raise OptionError(f"the role {role!r} is not allowed for a member: choose one of {', '.join(ROLES[:2])}")
        row = (checked_name("namespace", namespace), checked_name("account", account), role)
        with self._database.writing() as db:
            _make(db, account)
            db.execute("insert or replace into members values(?,?,?)", row)

    def remove_member(self, namespace: str, account: str) -> None:
        """Take an account out of a namespace.

        Raises:
            UnknownNameError: If it is no member.
        """
        with self._database.writing() as db:
            done = db.execute("delete from members where namespace=? and account=?", (namespace, account)).rowcount
        if not done:
            raise UnknownNameError(f"member of {namespace}", account, self.members(namespace))

    def members(self, namespace: str) -> dict[str, str]:
        """The members of a namespace with their roles; its own account, if there is one, is not among them."""
        with self._database.reading() as db:
            rows = db.execute("select account, role from members where namespace=? order by account", (namespace,))
            return dict(map(tuple, rows))

    def namespaces(self, account: str) -> dict[str, str]:
        """The namespaces that an account is a member of, beside its own, with its role in each."""
        with self._database.reading() as db:
            rows = db.execute("select namespace, role from members where account=? order by namespace", (account,))
            return dict(map(tuple, rows))

    def exists(self, account: str) -> bool:
        """Is there such an account?"""
        with self._database.reading() as db:
            return db.execute("select 1 from accounts where name=?", (account,)).fetchone() is not None

    def is_member(self, viewer: Viewer | None, namespace: str) -> bool:
        """May the viewer see what is private in a namespace?"""
        return viewer is not None and self._role(viewer, namespace) is not None

    def may_write(self, viewer: Viewer | None, namespace: str) -> bool:
        """May the viewer change repositories of a namespace? Both the token and the membership must allow it."""
        return viewer is not None and viewer.role != "read" and self._role(viewer, namespace) == "write"

    def _role(self, viewer: Viewer, namespace: str) -> str | None:
        if viewer.role == "admin" or viewer.name == namespace:
            return "write"
        return self.namespaces(viewer.name).get(namespace)


def _make(db: sqlite3.Connection, account: str) -> None:
    db.execute("insert or ignore into accounts values(?,?)", (account, now()))


def _hash(secret: str) -> str:
    # Secrets are 256 random bits, so a plain hash cannot be searched and needs neither salt nor stretching.
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()
