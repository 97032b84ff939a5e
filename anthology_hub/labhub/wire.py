"""Between HTTP and the store: requests with checked parts, answers that clients understand, routes, limits."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import inspect
import itertools
import json
import re
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast
from urllib.parse import parse_qs, quote, unquote, urlencode

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Scope

from anthology_hub.errors import AnthologyError, DataError, UnknownNameError
from anthology_hub.labhub.accounts import Viewer
from anthology_hub.labhub.discussions import Discussions
from anthology_hub.labhub.store import Kind, Refusal, Repo, Store

MB = 1 << 20
COOKIE = "labhub_token"
"""Holds a browser's token; good for reading only, so that no other site can make a browser write."""
_KINDS: dict[str, Kind] = {"models": "model", "datasets": "dataset", "spaces": "space"}
_PARTS = {
    "kinds": "(?P<kinds>models|datasets|spaces)",
    "prefix": "(?:(?P<kinds>datasets|spaces)/)?",
    "path": "(?P<path>.+)",
}


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a hub accepts."""

    body_limit: int = 16 * MB
    """Bytes of a request's JSON or form; without a token, four megabytes at most."""
    line_limit: int = 48 * MB
    """Bytes of one line of a commit: a small file in base64."""
    commit_limit: int = 1024 * MB
    """Bytes of a commit's small files together, in base64."""
    file_limit: int = 64 * 1024 * MB
    """Bytes of an uploaded large file."""
    lfs_threshold: int = 10 * MB
    """Files of this size and more are large files."""
    page_size: int = 1000
    """Entries of a list in one answer."""
    requests: int = 30_000
    """Requests that one account, or one address without a token, may make within `window`."""
    window: int = 300
    """Seconds."""
    host_names: frozenset[str] | None = None
    """Names under which the hub may be asked, against pages that point their own name at it; None: any."""


@dataclass(frozen=True, kw_only=True)
class Hub:
    """What all routes share."""

    store: Store
    options: Options
    discussions: Discussions
    key: bytes
    ingesting: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while files are rebuilt from what came by Xet."""

    def sign(self, purpose: str, subject: str, *, seconds: int = 3600) -> str:
        """Make a pass for one purpose and subject that expires."""
        expires = int(time.time()) + seconds
        return f"{expires}.{self._mac(purpose, subject, expires)}"

    def check(self, purpose: str, subject: str, given: str) -> None:
        """Refuse a pass that is forged or has expired (403)."""
        expires, _, mac = given.partition(".")
        good = re.fullmatch("[0-9]{1,12}", expires) and hmac.compare_digest(
            mac.encode(), self._mac(purpose, subject, int(expires)).encode()
        )
        if not good or int(expires) < time.time():
            raise Refusal(403, "the signature of this address is wrong or has expired: begin the upload again")

    def _mac(self, purpose: str, subject: str, expires: int) -> str:
        return hmac.new(self.key, f"{purpose}\0{subject}\0{expires}".encode(), "sha256").hexdigest()


class Fields:
    """A JSON object of which each part is checked when it is read."""

    def __init__(self, value: object, name: str = "the body") -> None:
        if not isinstance(value, dict):
            raise Refusal(400, f"{name} is no JSON object: send one")
        self._value, self._name = value, name

    def __contains__(self, key: str) -> bool:
        return self._value.get(key) is not None

    def text(self, key: str, default: str | None = None, *, longest: int = 200) -> str:
        """A string; refused if it is missing without a default, too long, or no valid text."""
        found = self._value.get(key)
        if found is None and default is not None:
            return default
        if not isinstance(found, str) or len(found) > longest or not _encodable(found):
            raise Refusal(400, f"{key!r} in {self._name} must be a text of at most {longest} characters")
        return found

    def number(self, key: str) -> int:
        """A whole number, not negative."""
        found = self._value.get(key)
        if not isinstance(found, int) or isinstance(found, bool) or not 0 <= found < 1 << 53:
            raise Refusal(400, f"{key!r} in {self._name} must be a whole number, not negative")
        return found

    def flag(self, key: str) -> bool:
        """True or false; false if missing."""
        found = self._value.get(key) or False
        if not isinstance(found, bool):
            raise Refusal(400, f"{key!r} in {self._name} must be true or false")
        return found

    def each(self, key: str, *, most: int = 20_000) -> list[Any]:
        """A list."""
        found = self._value.get(key)
        if not isinstance(found, list) or len(found) > most:
            raise Refusal(400, f"{key!r} in {self._name} must be a list of at most {most} entries")
        return found

    def part(self, key: str) -> Fields:
        """An object within the object."""
        return Fields(self._value.get(key), f"{key!r} in {self._name}")

    def raw(self, key: str) -> object:
        """Whatever is there."""
        return self._value.get(key)


@dataclass(frozen=True, kw_only=True)
class Ask:
    """One request: who asks what of which hub."""

    hub: Hub
    request: Request
    args: Mapping[str, str]
    viewer: Viewer | None
    body: bytes = b""

    @property
    def store(self) -> Store:
        """The store of the hub."""
        return self.hub.store

    @property
    def kind(self) -> Kind:
        """Type of repository that the address names."""
        return _KINDS[self.args.get("kinds") or "models"]

    def user(self) -> Viewer:
        """Who asks; refused without a token (401)."""
        if self.viewer is None:
            raise Refusal(401, "Invalid username or password: send a token in the Authorization header")
        return self.viewer

    def writer(self) -> Viewer:
        """Who asks, with a token that may write (else 403)."""
        user = self.user()
        if user.role == "read":
            raise Refusal(403, "this token may only read: use one with the role write")
        return user

    def repo(self, *, write: bool = False, files: bool = False) -> Repo:
        """The repository that the address names, if the viewer has the right to it."""
        return self.right(self.find(self.kind, self.args["namespace"], self.args["name"]), write=write, files=files)

    def find(self, kind: str, namespace: str, name: str) -> Repo:
        """A repository that the viewer may see; else the same refusal as for none."""
        found = self.store.find(kind, namespace, name)
        if found is None or not self.store.may_see(self.viewer, found):
            # With the code, clients take a 401 for a missing repository on http:// addresses too.
            raise Refusal(
                401 if self.viewer is None else 404,
                f"Repository not found: there is no {kind} {namespace}/{name} that you may see; check name and token",
                code="RepoNotFound",
            )
        return found

    def right(self, repo: Repo, *, write: bool = False, files: bool = False) -> Repo:
        """The repository, or a refusal: 403 for want of rights, GatedRepo for files of a gated one."""
        if files and not self.store.may_open(self.viewer, repo):
            message = f"Access to {repo.kind} {repo.full_name} is restricted: ask its owners for access"
            raise Refusal(401 if self.viewer is None else 403, message, code="GatedRepo")
        if write and not self.store.may_write(self.writer(), repo):
            raise Refusal(
                403,
                f"you are no writer in {repo.namespace}: pass `create_pr=1` as a query parameter for a pull request",
            )
        return repo

    def json(self) -> Fields:
        """The body as a JSON object; no body is an empty one."""
        return Fields(parsed(self.body) if self.body.strip() else {})

    def form(self) -> Mapping[str, list[str]]:
        """The body as a form."""
        try:
            return parse_qs(self.body.decode(), max_num_fields=20_000)
        except ValueError as error:
            raise Refusal(400, f"the body is no form of at most 20000 fields: {error}") from error

    def flag(self, key: str) -> bool:
        """Is a query parameter true?"""
        return self.request.query_params.get(key, "").lower() in ("1", "true")

    def number(self, key: str, default: int, *, most: int) -> int:
        """A query parameter as a whole number from 0 on."""
        found = self.request.query_params.get(key)
        if found is None:
            return default
        if not re.fullmatch("[0-9]{1,9}", found):
            raise Refusal(400, f"the query parameter {key}={found[:50]!r} must be a whole number, not negative")
        return min(int(found), most)

    def url(self, path: str) -> str:
        """Address of something on this hub, under the name by which it was asked."""
        return f"{str(self.request.base_url).rstrip('/')}/{quote(path)}"

    async def stream(self, limit: int) -> AsyncIterator[bytes]:
        """The body piece by piece; refused when it passes the limit (413)."""
        seen, declared = 0, self.request.headers.get("content-length", "0")
        if not declared.isdigit() or int(declared) > limit:
            raise _too_large(limit)
        async for piece in self.request.stream():
            seen += len(piece)
            if seen > limit:
                raise _too_large(limit)
            yield piece


_Item = TypeVar("_Item")
_T = TypeVar("_T", bound=Callable[..., Response | Awaitable[Response]])
Coming = Awaitable[Response]
Handler = Callable[[Ask], Response | Coming]


@dataclass(frozen=True)
class Routes:
    """Addresses and what answers them, matched before `%2F` is decoded: revisions may hold slashes."""

    entries: list[tuple[str, re.Pattern[str], Handler]] = field(default_factory=list)

    def on(self, method: str, *patterns: str) -> Callable[[_T], _T]:
        """Register a handler; coroutine functions read the body themselves."""

        def register(handler: _T) -> _T:
            for pattern in patterns:
                names = re.sub(r"\{(\w+)\}", lambda m: _PARTS.get(m[1], f"(?P<{m[1]}>[^/]+)"), pattern)
                self.entries.append((method, re.compile(names), cast(Handler, handler)))
            return handler

        return register

    def find(self, method: str, path: str) -> tuple[Handler, dict[str, str]] | None:
        """The handler of an address and the parts of the address; None if there is none.

        Raises:
            Refusal: If the address takes other methods only (405), or is no valid text (400).
        """
        others = set()
        for known, pattern, handler in self.entries:
            if match := pattern.fullmatch(path):
                if known == method or (known, method) == ("GET", "HEAD"):
                    return handler, {name: _decoded(text) for name, text in match.groupdict().items() if text}
                others.add(known)
        if others:
            raise Refusal(405, f"{method} is not allowed here: use {' or '.join(sorted(others))}")
        return None


class Buckets:
    """How many requests everyone may still make: a bucket that refills evenly."""

    def __init__(self, options: Options) -> None:
        self._full, self._window = options.requests, options.window
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, who: str) -> int:
        """Take one request; return 0, or the seconds until the next one is free."""
        with self._lock:
            at = time.monotonic()
            level, then = self._levels.pop(who, (float(self._full), at))
            level = min(self._full, level + (at - then) * self._full / self._window)
            allowed = level >= 1
            self._levels[who] = (level - 1 if allowed else level, at)
            if len(self._levels) > 10_000:
                self._levels.popitem(last=False)
        return 0 if allowed else int((1 - level) * self._window / self._full) + 1

    def refusal(self, seconds: int) -> Response:
        """The answer to one request too many, in the terms by which clients wait."""
        response = error(Refusal(429, f"too many requests: wait {seconds} seconds"))
        response.headers["Retry-After"] = str(seconds)
        response.headers["RateLimit"] = f'"api";r=0;t={seconds}'
        response.headers["RateLimit-Policy"] = f'"token bucket";"api";q={self._full};w={self._window}'
        return response


def viewer(store: Store, request: Request) -> Viewer | None:
    """Who asks: by bearer token, or, when only reading, by the cookie of the web page.

    Raises:
        Refusal: If a token is sent that is not valid (401).
    """
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and secret.strip():
        found = store.accounts.who(secret.strip())
        if found is None:
            raise Refusal(401, "Invalid credentials in Authorization header")
        return found
    cookie = request.cookies.get(COOKIE) if request.method in ("GET", "HEAD") else None
    return store.accounts.who(cookie) if cookie else None


def parsed(data: bytes) -> object:
    """JSON.

    Raises:
        Refusal: If it is none (400).
    """
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as problem:
        raise Refusal(400, f"the body is no valid JSON: {str(problem)[:200]}") from problem


def paged(
    ask: Ask, items: Iterable[_Item], shown: Callable[[list[_Item]], Iterable[Any]], *, size: int, pin: str = ""
) -> Response:
    """One page of a list with the address of the next.

    Args:
        ask: The request, which says which page.
        items: The whole list.
        shown: Makes JSON of the items of the page.
        size: Items on a page.
        pin: The commit that all pages are about.
    """
    start = position(ask)[1]
    size = max(1, ask.number("limit", size, most=size))
    page = list(itertools.islice(items, start, start + size + 1))
    headers = {}
    if len(page) > size:
        query = [(key, value) for key, value in ask.request.query_params.multi_items() if key != "cursor"]
        query.append(("cursor", f"{pin}.{start + size}"))
        address = str(ask.request.base_url).rstrip("/") + raw_path(ask.request.scope)
        headers["Link"] = f'<{address}?{urlencode(query)}>; rel="next"'
    return JSONResponse(list(shown(page[:size])), headers=headers)


def raw_path(scope: Scope) -> str:
    """The path of an address as it was sent, where `%2F` within a part stays one; without the query."""
    return str(scope["raw_path"].decode("latin-1").partition("?")[0])


def position(ask: Ask) -> tuple[str, int]:
    """The pin and the place that the cursor of a page holds."""
    found = re.fullmatch(r"([0-9a-f]{0,40})\.([0-9]{1,9})", ask.request.query_params.get("cursor", ".0"))
    if found is None:
        raise Refusal(400, "the query parameter cursor is none of ours: begin with the first page")
    return found[1], int(found[2])


def error(problem: Exception) -> Response:
    """The answer that tells a client of an error in the ways it looks for."""
    refusal = problem if isinstance(problem, Refusal) else Refusal(_status(problem), str(problem))
    message = str(refusal)
    digest = hashlib.sha256(f"{time.time_ns()}{message}".encode("utf-8", "replace")).hexdigest()[:16]
    # A header holds no line ends, nothing but ASCII, and no blank at its end.
    plain = re.sub(r"[^\x20-\x7e]+", " ", message)[:1000].strip()
    headers = {"X-Error-Message": plain, "X-Request-Id": digest}
    if refusal.code:
        headers["X-Error-Code"] = refusal.code
    if refusal.commit:
        headers["X-Repo-Commit"] = refusal.commit
    return JSONResponse({"error": message.encode("utf-8", "replace").decode()}, refusal.status, headers)


def is_coroutine(handler: Handler) -> bool:
    """Does the handler read the body itself?"""
    return inspect.iscoroutinefunction(handler)


def _status(problem: Exception) -> int:
    if isinstance(problem, UnknownNameError):
        return 404
    return 400 if isinstance(problem, AnthologyError | DataError) else 500


def _too_large(limit: int) -> Refusal:
    return Refusal(413, f"the body is larger than the {limit} bytes that are allowed here: send less at once")


def _decoded(text: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError as problem:
        raise Refusal(400, "the address is no valid UTF-8: encode it so") from problem


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
