"""The hub as a running server: `running` in this process for tests and walks, `serve` for a lab."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import logging
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

from anthology_hub.errors import AnthologyError, MissingExtraError, OptionError

try:
    # What the other modules need too, so that whatever is missing is told here, once.
    import jinja2  # noqa: F401
    import markdown_it  # noqa: F401
    import nh3  # noqa: F401
    import uvicorn
    import yaml  # noqa: F401
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send
except ImportError as missing:
    raise MissingExtraError(missing.name or "starlette", "labhub", "a private hub does") from missing

from anthology_hub.labhub import api, files, pages, wire, xet
from anthology_hub.labhub.accounts import Viewer
from anthology_hub.labhub.discussions import Discussions
from anthology_hub.labhub.faults import Faults
from anthology_hub.labhub.store import Refusal, Store
from anthology_hub.labhub.wire import Ask, Buckets, Handler, Hub, Options, Routes

LOOPBACK, PORT = "127.0.0.1", 8465
DRAINED, STRANGERS = 64 * wire.MB, 4 * wire.MB
_OWN_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_ROUTES = Routes([*api.ROUTES.entries, *files.ROUTES.entries, *xet.ROUTES.entries])
_SIGNED = "/-/"
"""Addresses below carry their own permission, and no token."""
SILENCE = {"HF_UPDATE_DOWNLOAD_COUNTS": "0", "HF_HUB_DISABLE_UPDATE_CHECK": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
"""Without these the official clients tell others: `load_dataset` counts each load by name at a public address."""
_log = logging.getLogger("anthology_hub.labhub")


class Application:
    """The hub as an ASGI application: the routes of the API, and the web page for what is none of them."""

    def __init__(self, store: Store, *, options: Options | None = None) -> None:
        self.faults = Faults()
        chosen = options or Options()
        key = bytes.fromhex(store.setting("signing key"))
        self.hub = Hub(store=store, options=chosen, discussions=Discussions(store), key=key)
        self._buckets, self._page = Buckets(chosen), Starlette(routes=pages.routes(store))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        inbox, began = _Inbox(receive), time.monotonic()
        request = Request(scope, inbox)
        # What is logged holds no query: it may hold a pass.
        path = wire.raw_path(scope)
        answer = await self._answer(request, path)
        if isinstance(answer, Response) and answer.status_code >= 400 and "expect" not in request.headers:
            await inbox.drain()
        status = answer.status_code if isinstance(answer, Response) else "page"
        with contextlib.suppress(ClientDisconnect):
            await answer(scope, receive, send)
        _log.info("%s %s %s %.0f ms", request.method, path, status, 1000 * (time.monotonic() - began))

    async def _answer(self, request: Request, path: str) -> ASGIApp:
        try:
            self._check_name(request)
            route = _ROUTES.find(request.method, path)
            signed = path.startswith(_SIGNED)
            who = None if signed else await run_in_threadpool(wire.viewer, self.hub.store, request)
            if wait := self._buckets.take(who.name if who else request.client.host if request.client else ""):
                return self._buckets.refusal(wait)
            if route is None and not path.startswith("/api/"):
                return self._page
            return await self._work(request, path, route, who)
        except Exception as problem:
            return _told(problem)

    async def _work(
        self, request: Request, path: str, route: tuple[Handler, dict[str, str]] | None, who: Viewer | None
    ) -> Response:
        fault = self.faults.take(request.method, path)
        if fault and not fault.after:
            raise Refusal(fault.status, fault.message)
        if route is None:
            raise Refusal(404, f"there is nothing at {request.method} {path[:200]}: this hub does not offer it")
        response = await _handled(*route, Ask(hub=self.hub, request=request, args=route[1], viewer=who))
        if fault:
            raise Refusal(fault.status, fault.message)
        return response

    def _check_name(self, request: Request) -> None:
        names = self.hub.options.host_names
        if names is not None and request.url.hostname not in names:
            allowed = ", ".join(sorted(names))
            raise Refusal(
                421, f"this hub is not called {str(request.url.hostname)[:100]!r}: ask it as one of {allowed}"
            )


def build_app(store: Store, *, options: Options | None = None) -> Application:
    """Make the hub's ASGI application, for a server of one's own choice; `serve` and `running` bring uvicorn."""
    return Application(store, options=options)


@dataclass(frozen=True, kw_only=True)
class Running:
    """A hub that runs in this process."""

    url: str
    """What to set HF_ENDPOINT to."""
    store: Store
    faults: Faults
    """Failures to inject."""
    stop: Callable[[], None]
    """Stop early; the end of the `with` block does it too."""


@contextlib.contextmanager
def running(
    folder: str | Path, *, host: str = LOOPBACK, port: int = 0, options: Options | None = None
) -> Iterator[Running]:
    """Run a hub in a thread of this process, on a free loopback port unless told otherwise.

    Args:
        folder: Where the store is, or is to be.
        host: Address to bind.
        port: 0 for a free one.
        options: What the hub accepts.

    Raises:
        OptionError: If the port cannot be had, or others than this machine could reach a hub without tokens.

    Example:
        >>> import tempfile, urllib.request
        >>> with running(tempfile.mkdtemp()) as hub:
        ...     urllib.request.urlopen(f"{hub.url}/api/datasets").read()
        b'[]'
    """
    with contextlib.closing(Store(folder)) as store, _bound(store, host, port) as bound:
        app = build_app(store, options=options)
        server = uvicorn.Server(_config(app))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, name="labhub", daemon=True)

        def stop() -> None:
            server.should_exit = True
            thread.join()

        thread.start()
        while not server.started and thread.is_alive():
            time.sleep(0.005)
        try:
            yield Running(url=_url(bound), store=store, faults=app.faults, stop=stop)
        finally:
            stop()


def serve(
    folder: str | Path,
    *,
    host: str = LOOPBACK,
    port: int = PORT,
    owner: str = "lab",
    names: tuple[str, ...] = (),
    say: Callable[[str], None],
    options: Options | None = None,
) -> None:
    """Run a hub until it is interrupted.

    Args:
        folder: Where the store is, or is to be.
        host: Address to bind; only this machine reaches the default.
        port: 0 for a free one.
        owner: Account of the first token, which is made and told when there is none yet.
        names: Host names by which the hub is asked, beside its address and the loopback's own; without any, a hub
            that others reach answers to all names, so a page of theirs could read what it shows to everyone.
        say: Takes the lines that a user needs.
        options: What the hub accepts.

    Raises:
        OptionError: If the port cannot be had, or others than this machine could reach a hub without tokens.
    """
    chosen = options or Options()
    with contextlib.closing(Store(folder)) as store, _bound(store, host, port) as bound:
        if names or _is_loopback(host):
            told = {name.lower() for name in (host, str(urlsplit(_url(bound)).hostname), *names)}
            chosen = replace(chosen, host_names=_OWN_NAMES | told)
        secret = None if store.accounts.tokens() else store.accounts.add_token(owner, "admin", label="owner")
        say(f"export HF_ENDPOINT={_url(bound)}")
        # Only its hash is kept, so this is the one time that it can be told.
        say(f"export HF_TOKEN={secret}" if secret else f"# a token: anthology-hub hub token add {folder} NAME")
        say(f"export {' '.join(f'{name}={value}' for name, value in SILENCE.items())}  # nobody is told what you load")
        if not _is_loopback(host):
            say("# the connection is not encrypted: put a proxy with TLS in front of it")
        # Ctrl-C is how one stops it, and no error.
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(_config(build_app(store, options=chosen))).run(sockets=[bound])


class _Inbox:
    """The body of a request, of which the rest can be read and dropped."""

    def __init__(self, receive: Receive) -> None:
        self._receive, self._more = receive, True

    async def __call__(self) -> Message:
        message = await self._receive()
        self._more = message["type"] == "http.request" and message.get("more_body", False)
        return message

    async def drain(self) -> None:
        """Read on for a while: a client that is still sending would see a broken connection, not the answer."""
        seen = 0
        while self._more and seen < DRAINED:
            seen += len((await self()).get("body", b""))


async def _handled(handler: Handler, args: Mapping[str, str], ask: Ask) -> Response:
    if wire.is_coroutine(handler):
        return await cast(Callable[[Ask], wire.Coming], handler)(ask)
    if ask.request.method not in ("GET", "HEAD"):
        # JSON takes many times its size in memory, so strangers may send less.
        limit = min(ask.hub.options.body_limit, STRANGERS if ask.viewer is None else ask.hub.options.body_limit)
        ask = replace(ask, body=b"".join([piece async for piece in ask.stream(limit)]))
    return await run_in_threadpool(cast(Callable[[Ask], Response], handler), ask)


def _told(problem: Exception) -> Response:
    """The answer to an exception; what a client can do nothing about is logged."""
    if isinstance(problem, ClientDisconnect):
        return wire.error(Refusal(400, "the connection was closed before the request was whole"))
    if isinstance(problem, AnthologyError):
        return wire.error(problem)
    full = isinstance(problem, OSError) and problem.errno in (errno.ENOSPC, errno.EDQUOT)
    if full or "disk is full" in str(problem):
        return wire.error(Refusal(507, "the disk of the hub is full: nothing was changed; free space and try again"))
    if isinstance(problem, sqlite3.OperationalError) and "locked" in str(problem):
        response = wire.error(Refusal(503, "the hub is busy with upkeep: try again soon"))
        response.headers["Retry-After"] = "5"
        return response
    _log.error("a request failed", exc_info=problem)
    return wire.error(Refusal(500, "something went wrong in the hub: its log tells what"))


def _config(app: Application) -> uvicorn.Config:
    # Its lines hold the whole address with the passes of uploads; whoever takes logs would get them.
    logging.getLogger("uvicorn.access").disabled = True
    return uvicorn.Config(
        app,
        access_log=False,
        log_config=None,
        lifespan="off",
        ws="none",
        server_header=False,
        timeout_graceful_shutdown=5,
    )


@contextlib.contextmanager
def _bound(store: Store, host: str, port: int) -> Iterator[socket.socket]:
    if not _is_loopback(host) and not any(token.revoked is None for token in store.accounts.tokens()):
        raise OptionError(
            f"refusing to bind {host}: others could reach this hub, and it has no token yet, so nobody would own it. "
            f"Make one first: anthology-hub hub token add {store.root} NAME --role admin; or bind {LOOPBACK}"
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        if not 0 <= port < 1 << 16:
            raise OSError("ports go up to 65535")
        bound = socket.create_server((host, port), family=family)
    except OSError as problem:
        raise OptionError(
            f"cannot bind {host} port {port}: {problem}. Give another, or port 0 for a free one"
        ) from problem
    with bound:
        yield bound


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _url(bound: socket.socket) -> str:
    host, port = bound.getsockname()[:2]
    # What is bound to every address has none of its own; its name is what others know it by.
    host = socket.gethostname() if ipaddress.ip_address(host).is_unspecified else host
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
