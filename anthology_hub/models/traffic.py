"""Requests to one or several servers: pool of connections, load found by itself, retries, health. The door to aiohttp.

Load: `Flow` sends more at once as long as that brings more answers in a second, and half as much when a server says
that it is busy (additive increase, multiplicative decrease). Retries wait a random part of a doubling time, or as long
as the server asks for (full jitter: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/). What
shares a beginning goes to the same server (rendezvous hashing, Thaler and Ravishankar 1998), so that the server
computes it once; a server that fails several times in a row is left out for a while.
"""

from __future__ import annotations

import asyncio
import functools
import importlib.util
import json
import os
import random
import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urljoin, urlsplit

from anthology_hub.errors import MissingExtraError, ModelError
from anthology_hub.models.chains import Lost

if TYPE_CHECKING:
    import aiohttp

T = TypeVar("T")
KEY_VARIABLE, OPENAI_VARIABLE = "ANTHOLOGY_HUB_API_KEY", "OPENAI_API_KEY"
BUSY = (429, 503, 529)
"""The server is there and has too much to do."""
REFUSED = (400, 413, 415, 422)
"""The server will not answer this prompt, now or later."""
FIRST_LIMIT = 8.0
"""Requests at once to begin with."""
FIRST_WAIT, LONGEST_WAIT = 0.25, 30.0
"""Seconds: the first retry waits up to one, none waits longer than the other unless the server says so."""
PATIENCE = 4
"""Tries that fit into a deadline if each of them stalls."""
ROUND = 20
"""Fewest outcomes by which the load is steered: fewer say little about how many fail."""
TOLERATED = 0.25
"""Share of a round that may fail by chance; more says that the server has too much to do."""
FAULTS = 3
"""Failures in a row after which a server is left out."""
LONGEST_OUT = 60.0
"""Most seconds for which a server is left out before it is tried again."""
REMEMBERED = 4096
"""Beginnings that are known to be in a server's cache."""


class Flow:
    """How many requests one server gets at once.

    A round is as many outcomes as the limit, but no fewer than `ROUND`. Where more than a quarter of them failed or
    were sent away, the limit is halved. Otherwise the rate decides: a tenth more answers in a second than ever, and
    the limit doubles; no more of them at twice the waiting of the best round, and it shrinks by a tenth; in between,
    and always after the first setback, it grows by a tenth.

    Example:
        >>> flow = Flow(most=64)
        >>> for _ in range(ROUND):
        ...     flow.troubled()
        >>> flow.limit
        4.0
    """

    def __init__(self, *, most: int) -> None:
        """Start low; `most` is never passed."""
        self.most, self.limit = most, min(FIRST_LIMIT, float(most))
        self._doubling, self._rate, self._least = True, 0.0, float("inf")
        self._begin(time.monotonic())

    def _begin(self, now: float) -> None:
        self._began, self._done, self._waited, self._full, self._troubles = now, 0, 0.0, 0, 0

    def answered(self, seconds: float, *, flying: int, now: float | None = None) -> None:
        """Count an answer that took some seconds while `flying` requests were under way."""
        self._done += 1
        self._waited += seconds
        self._full += flying >= int(self.limit) - 1
        self._count(now)

    def troubled(self, *, now: float | None = None) -> None:
        """Count a request that failed or was sent away."""
        self._troubles += 1
        self._count(now)

    def _count(self, now: float | None) -> None:
        if self._done + self._troubles >= max(ROUND, self.limit):
            now = time.monotonic() if now is None else now
            if self._troubles > TOLERATED * (self._done + self._troubles):
                self._doubling, self._rate, self.limit = False, 0.0, max(1.0, self.limit / 2)
            # A round that did not use the limit says nothing about it.
            elif self._full * 2 >= self._done:
                self._steer(self._done / max(now - self._began, 1e-9), self._waited / self._done)
            self._begin(now)

    def _steer(self, rate: float, wait: float) -> None:
        self._least = min(self._least, wait)
        better, step = rate > 1.1 * self._rate, max(1.0, self.limit / 10)
        if not better and wait > 2 * self._least:
            step = -self.limit / 10
        elif better and self._doubling:
            step = self.limit
        self._doubling = self._doubling and better
        self.limit = min(float(self.most), max(1.0, self.limit + step))
        # The best rate of long ago need not be within reach now.
        self._rate = max(rate, self._rate * 0.98)


@dataclass(kw_only=True)
class Server:
    """One address and what is known of it."""

    url: str
    """Base address, up to and without `/chat/completions`."""
    flow: Flow
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    flying: int = 0
    faults: int = 0
    """Failures in a row."""
    out_until: float = 0.0
    _failed_at: float = 0.0
    _waiting: deque[asyncio.Future[None]] = field(default_factory=deque, repr=False)

    def at(self, path: str) -> str:
        """Return an address relative to the base."""
        return _joined(self.url, path)

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Wait until one more request may fly."""
        while self.flying >= int(self.flow.limit):
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            await turn
        self.flying += 1
        try:
            yield
        finally:
            self.flying -= 1
            self._next()

    def _next(self) -> None:
        free = int(self.flow.limit) - self.flying
        while self._waiting and free > 0:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                free -= 1

    def failed(self, began: float, *, longest: float = LONGEST_OUT) -> None:
        """Count a failure that is the server's own; requests that were under way together fail as one."""
        if began < self._failed_at:
            return
        self.faults, self._failed_at = self.faults + 1, time.monotonic()
        if self.faults >= FAULTS:
            self.out_until = self._failed_at + min(longest, 2.0 ** (self.faults - FAULTS))

    def well(self) -> None:
        """It answered."""
        self.faults, self.out_until = 0, 0.0


class _Trouble(Exception):
    """One try that failed, and what that means."""

    def __init__(self, reason: str, *, wait: float = 0.0, status: int = 0, final: bool = False) -> None:
        super().__init__(reason)
        self.wait, self.final = wait, final
        self.there, self.busy = status > 0, status in BUSY


class Traffic:
    """Requests to servers that serve the same model. Everything runs in one thread with a loop of its own."""

    def __init__(self, urls: Sequence[str], *, concurrency: int, deadline: float) -> None:
        """Start the thread; nothing is sent yet.

        Raises:
            MissingExtraError: If aiohttp is not installed.
        """
        if importlib.util.find_spec("aiohttp") is None:
            raise MissingExtraError("aiohttp", "server", "models on a server")
        self.servers = [Server(url=url, flow=Flow(most=concurrency), headers=_headers(url)) for url in urls]
        self.deadline, self.counts = deadline, Counter[str]()
        self._warm: OrderedDict[bytes, asyncio.Future[None]] = OrderedDict()
        self._session: aiohttp.ClientSession | None = None
        self.answered = False
        """Whether any prompt was answered yet."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="anthology-hub-server", daemon=True)
        self._thread.start()

    @property
    def room(self) -> int:
        """Requests that may fly at once, to all servers together."""
        return sum(int(server.flow.limit) for server in self.servers)

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Begin work in the loop's thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do work in the loop's thread and wait for it."""
        started = self.start(work)
        try:
            return started.result()
        finally:
            started.cancel()

    def close(self) -> None:
        """Close all connections and end the thread."""
        if self._loop.is_closed():
            return
        if threading.current_thread() is self._thread:
            # The last one to hold the model was its own work: there is nobody to wait for.
            self._loop.stop()
            return
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(timeout=5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)
        self._loop.close()

    async def _end(self) -> None:
        own = asyncio.current_task()
        tasks = [task for task in asyncio.all_tasks() if task is not own]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    async def ask(self, path: str, body: Mapping[str, Any], *, about: str, read: Callable[[Any], T]) -> T | Lost:
        """Send a request until it is answered, refused, or the deadline is over.

        Args:
            path: Relative to the base address.
            body: Of the request.
            about: What requests share that a server should see again; empty: nothing.
            read: From the reply to what is wanted of it; may raise LookupError, TypeError or ValueError.

        Raises:
            ModelError: If no request can work: a wrong key, an unknown model.
        """
        key = blake2b(about.encode(errors="replace"), digest_size=8).digest() if about else b""
        if not about or (first := self._warm.get(key)) is None:
            return await self._first(path, body, key, read)
        # Requests that share what no server has computed yet would each compute it: they wait for the first.
        if not first.done():
            await asyncio.shield(first)
        return await self._until_deadline(path, body, key, read)

    async def _first(self, path: str, body: Mapping[str, Any], key: bytes, read: Callable[[Any], T]) -> T | Lost:
        if not key:
            return await self._until_deadline(path, body, b"", read)
        done = self._warm[key] = asyncio.get_running_loop().create_future()
        while len(self._warm) > REMEMBERED:
            self._warm.popitem(last=False)
        try:
            return await self._until_deadline(path, body, key, read)
        finally:
            if not done.done():
                done.set_result(None)

    async def _until_deadline(
        self, path: str, body: Mapping[str, Any], key: bytes, read: Callable[[Any], T]
    ) -> T | Lost:
        began, tries, data = time.monotonic(), 0, json.dumps(body).encode()
        while True:
            server, out = self._pick(key)
            tries += 1
            try:
                if out > 0:
                    raise _Trouble("no server answers", wait=out)
                found = await self._try(server, path, data, read)
            except _Trouble as trouble:
                if trouble.final:
                    self.counts["refused"] += 1
                    return Lost(reason=str(trouble), final=True)
                self.counts[f"retried: {trouble}"] += 1
                jitter = random.uniform(0, min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(tries - 1, 16)))
                wait, passed = max(jitter, trouble.wait), time.monotonic() - began
                if passed + wait >= self.deadline:
                    self.counts["given up"] += 1
                    words = f"{tries} tries in {passed:.0f} s, the last: {trouble}"
                    return Lost(reason=words, final=False)
                await asyncio.sleep(wait)
            else:
                self.counts["answered"] += 1
                return found

    def _pick(self, key: bytes) -> tuple[Server, float]:
        """Return the server for what shares a beginning, and for how many seconds none can be asked."""
        now = time.monotonic()
        there = [server for server in self.servers if server.out_until <= now]
        if not there:
            first = min(self.servers, key=lambda server: server.out_until)
            return first, first.out_until - now
        if len(there) == 1:
            return there[0], 0.0
        if not key:
            return min(there, key=lambda server: server.flying / server.flow.limit), 0.0
        return max(there, key=lambda server: blake2b(server.url.encode(), key=key, digest_size=8).digest()), 0.0

    async def _try(self, server: Server, path: str, data: bytes, read: Callable[[Any], T]) -> T:
        async with server.slot():
            began = time.monotonic()
            self.counts["requests"] += 1
            try:
                found = read(await self._reply(server, "POST", path, data))
            except _Trouble as trouble:
                self._blame(server, trouble, began)
                raise
            except (LookupError, TypeError, ValueError) as error:
                raise _Trouble(f"a reply that cannot be read ({type(error).__name__})") from error
            now = time.monotonic()
            server.well()
            self.answered = True
            server.flow.answered(now - began, flying=server.flying, now=now)
            return found

    def _blame(self, server: Server, trouble: _Trouble, began: float) -> None:
        if not trouble.final:
            server.flow.troubled()
        if not (trouble.final or trouble.busy):
            server.failed(began, longest=min(LONGEST_OUT, self.deadline / PATIENCE))

    async def _reply(self, server: Server, method: str, path: str, data: bytes | None) -> Any:  # noqa: ANN401 - JSON
        import aiohttp

        session = self._opened()
        try:
            async with session.request(
                method, server.at(path), data=data, headers=server.headers, allow_redirects=False
            ) as reply:
                content = await reply.read()
                if reply.status == 200:
                    return json.loads(content)
                raise self._said_no(server, reply.status, reply.headers.get("Retry-After", ""), content)
        except TimeoutError as error:
            raise _Trouble("no reply in time") from error
        except aiohttp.ClientConnectorError as error:
            raise _Trouble("no connection") from error
        except aiohttp.ClientError as error:
            raise _Trouble("connection lost") from error
        except json.JSONDecodeError as error:
            raise _Trouble("a reply that is no JSON") from error

    def _opened(self) -> aiohttp.ClientSession:
        import aiohttp

        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30),
                timeout=aiohttp.ClientTimeout(total=self.deadline / PATIENCE),
                # A proxy is for addresses outside; one for the own machine would only be in the way.
                trust_env=any(server.url.startswith("https://") for server in self.servers),
            )
        return self._session

    def _said_no(self, server: Server, status: int, later: str, content: bytes) -> _Trouble:
        words = self._hidden(server, f"HTTP {status}: {_message(content)}")
        if status in (401, 403):
            raise ModelError(
                f"{_shown(server.url)} refuses the key (HTTP {status}): set {_variable(server.url)} to a valid one"
            )
        if status == 404 or b"insufficient_quota" in content:
            raise ModelError(
                f"{_shown(server.url)} cannot answer: {words}; check the address, the model and the account"
            )
        if status in REFUSED:
            return self._refusal(words)
        # Without the words: how often each happened is counted.
        return _Trouble(f"HTTP {status}", wait=_seconds(later), status=status)

    def _refusal(self, words: str) -> _Trouble:
        """What a server says no to for good; if it never said yes, something is wrong with all requests."""
        if not self.answered:
            raise ModelError(f"the server refuses the first request, {words}: check the model and its server")
        return _Trouble(words, final=True)

    def _hidden(self, server: Server, words: str) -> str:
        key = server.headers.get("Authorization", "").removeprefix("Bearer ")
        return words.replace(key, "***") if key else words

    async def get(self, server: Server, path: str) -> Any:  # noqa: ANN401 - JSON
        """Ask a server for something about itself, once; None if it is there but has trouble with that.

        Raises:
            ModelError: If it does not answer.
        """
        try:
            return await self._reply(server, "GET", path, None)
        except _Trouble as trouble:
            if trouble.there:
                return None
            server.failed(time.monotonic())
            raise ModelError(f"{_shown(server.url)} does not answer ({trouble})") from trouble


@functools.cache
def _joined(url: str, path: str) -> str:
    return urljoin(f"{url}/", path)


def _headers(url: str) -> dict[str, str]:
    key = os.environ.get(_variable(url), "")
    return {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})


def _variable(url: str) -> str:
    """Name of the variable that holds the key: OpenAI's own is for OpenAI alone, it must not reach other hosts."""
    openai = urlsplit(url).hostname == "api.openai.com" and KEY_VARIABLE not in os.environ
    return OPENAI_VARIABLE if openai else KEY_VARIABLE


def _shown(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}{parts.path}"


def _message(content: bytes) -> str:
    """What a server says in an error: its message, or the beginning of what it sent."""
    try:
        found = json.loads(content)
        error = found.get("error", found.get("detail", found))
        text = error.get("message", error) if isinstance(error, dict) else error
    except (ValueError, AttributeError):
        text = content.decode(errors="replace")
    return " ".join(str(text).split())[:200]


def _seconds(later: str) -> float:
    """Read `Retry-After`, seconds; a date, which no model server sends, waits no longer than the jitter does."""
    try:
        return max(0.0, float(later))
    except ValueError:
        return 0.0
