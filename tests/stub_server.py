"""A server that speaks the OpenAI protocol and answers at once, by a rule: for tests and for `scripts/bench_server.py`.

The same prompt and seed always get the same answer. It fails on purpose when told to, and keeps a record of what it was
asked and what it answered. `python tests/stub_server.py` serves until its input ends.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import math
import random
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

STALL = 3600.0


@dataclass(kw_only=True)
class Stub:
    """What it serves, how it fails, and what it saw."""

    model: str = "lab/tiny"
    owner: str = "vllm"
    lists: int = 20
    """Most probabilities that it lists for a token; more are refused, 0: it ignores the wish."""
    chats: bool = True
    system: bool = True
    """Whether its model knows system messages."""
    key: str = ""
    fail: dict[str, float] = field(default_factory=dict)
    """Kind of failure (503, 429, reset, stall, garbage, 500) -> share of the requests."""
    refuse: str = ""
    """Prompts with this in them are refused for good."""
    stall: str = ""
    """Prompts with this in them get no reply."""
    capacity: int = 10**6
    """Requests that it takes at once; what is above is sent away with 429."""
    delay: float = 0.0
    retry_after: str = ""
    silent: int = 0
    """Seeds below this draw the end of the answer, of which nothing is listed."""
    asked: list[dict[str, Any]] = field(default_factory=list)
    """Bodies of all prompts, in the order in which they came."""
    answered: Counter[str] = field(default_factory=Counter)
    """Digest of a prompt and its seed -> how often it was answered."""
    flying: int = 0
    most_flying: int = 0
    sent_away: Counter[str] = field(default_factory=Counter)
    url: str = ""
    keeps: bool = True
    """Whether it keeps a record of the bodies."""
    says: Callable[[str, object], str] | None = None
    """From a prompt and a seed to the text that it says, instead of `said`."""
    trail: list[tuple[str, str]] = field(default_factory=list)
    """("in" or "out", prompt) as requests come and go."""
    _random: random.Random = field(default_factory=lambda: random.Random(7))

    def app(self) -> web.Application:
        """Return the server."""
        app = web.Application(client_max_size=2**26)
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/completions", self._text)
        app.router.add_post("/tokenize", self._tokenize)
        return app

    async def _models(self, request: web.Request) -> web.Response:
        if self._locked(request):
            return self._no(401, f"wrong key {request.headers.get('Authorization')}")
        return web.json_response({"object": "list", "data": [{"id": self.model, "owned_by": self.owner}]})

    async def _tokenize(self, request: web.Request) -> web.Response:
        words = str((await request.json())["prompt"]).split()
        return web.json_response({"count": len(words), "tokens": list(range(len(words)))})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if not self.chats:
            return self._no(404, "no chat here")
        if not self.system and body["messages"][0]["role"] == "system":
            return self._no(400, "system role not supported")
        return await self._answer(request, body, json.dumps(body["messages"]))

    async def _text(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        return await self._answer(request, body, body["prompt"])

    async def _answer(self, request: web.Request, body: dict[str, Any], prompt: str) -> web.StreamResponse:
        if self._locked(request):
            return self._no(401, f"wrong key {request.headers.get('Authorization')}")
        if self.keeps:
            self.asked.append(body)
            self.trail.append(("in", prompt))
        if (body.get("top_logprobs") or int(body.get("logprobs") or 0)) > max(self.lists, 1):
            return self._no(400, "too many logprobs")
        if self.refuse and self.refuse in prompt:
            return self._no(400, f"this prompt is too long, {request.headers.get('Authorization')}")
        if self.flying >= self.capacity:
            return self._no(429, "too many requests", self.retry_after)
        self.flying += 1
        self.most_flying = max(self.most_flying, self.flying)
        try:
            if self.delay:
                await asyncio.sleep(self.delay)
            if self.stall and self.stall in prompt:
                return await self._fail(request, "stall")
            if failure := self._failure():
                return await self._fail(request, failure)
            self.answered[digest(prompt, body.get("seed"))] += 1
            if self.keeps:
                self.trail.append(("out", prompt))
            return web.Response(body=json.dumps(self._said(body, prompt)).encode(), content_type="application/json")
        finally:
            self.flying -= 1

    def _failure(self) -> str:
        if not self.fail:
            return ""
        drawn, kinds = self._random.random(), list(self.fail)
        for kind in kinds:
            drawn -= self.fail[kind]
            if drawn < 0:
                return kind
        return ""

    async def _fail(self, request: web.Request, kind: str) -> web.StreamResponse:
        self.sent_away[kind] += 1
        if kind == "reset":
            assert request.transport is not None
            request.transport.abort()
        elif kind == "stall":
            await asyncio.sleep(STALL)
        elif kind == "garbage":
            return web.Response(body=b'{"choices": [', content_type="application/json")
        return self._no(int(kind) if kind.isdigit() else 500, "on purpose", self.retry_after)

    def _no(self, status: int, words: str, later: str = "") -> web.Response:
        headers = {"Retry-After": later} if later else {}
        return web.json_response({"error": {"message": words, "code": status}}, status=status, headers=headers)

    def _locked(self, request: web.Request) -> bool:
        return bool(self.key) and request.headers.get("Authorization") != f"Bearer {self.key}"

    def _said(self, body: dict[str, Any], prompt: str) -> dict[str, Any]:
        listed = self._listed(body, prompt)
        text, chat = (self.says or said)(prompt, body.get("seed")), "messages" in body
        choice: dict[str, Any] = {"index": 0, "finish_reason": "stop", "logprobs": None}
        choice |= {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        if listed is not None and chat:
            top = [{"token": token, "logprob": value} for token, value in listed]
            choice["logprobs"] = {"content": [{"token": "A", "logprob": -1, "top_logprobs": top}] if top else []}
        elif listed is not None:
            choice["logprobs"] = {"tokens": ["A"], "top_logprobs": [dict(listed)] if listed else []}
        usage = {"prompt_tokens": 100, "completion_tokens": 1, "total_tokens": 101}
        kind = "chat.completion" if chat else "text_completion"
        head = {"id": "stub-1", "object": kind, "created": 0, "model": self.model, "usage": usage}
        return {**head, "choices": [choice]}

    def _listed(self, body: dict[str, Any], prompt: str) -> list[tuple[str, float]] | None:
        wanted = body.get("top_logprobs") or int(body.get("logprobs") or 0)
        if not wanted or not self.lists:
            return None
        if body.get("seed", 0) < self.silent:
            return []
        return [(token, math.log(share)) for token, share in tokens_of(prompt)[:wanted]]


def digest(prompt: str, seed: object) -> str:
    """Name a prompt and its seed."""
    return hashlib.sha256(f"{prompt}|{seed}".encode()).hexdigest()[:16]


def said(prompt: str, seed: object) -> str:
    """Return the text that it says: a letter in brackets, drawn from the prompt and the seed."""
    return f" ({'ABC'[int(digest(prompt, seed), 16) % 3]})\nQuestion: more"


def tokens_of(prompt: str) -> list[tuple[str, float]]:
    """Return the tokens that it may say next, with their probabilities: letters, letters after a space, other words."""
    drawn = int(digest(prompt, ""), 16)
    weights = {
        f"{space}{letter}": 4 + drawn % (7 + 3 * at) for at, letter in enumerate("ABCDEFG") for space in ("", " ")
    }
    weights |= {f"word{at}": 1 for at in range(40)}
    total = sum(weights.values())
    return sorted(((token, weight / total) for token, weight in weights.items()), key=lambda pair: -pair[1])


@contextmanager
def serving(stub: Stub, port: int = 0) -> Iterator[Stub]:
    """Serve in a thread of this process."""
    loop, started = asyncio.new_event_loop(), threading.Event()
    runner = web.AppRunner(stub.app(), access_log=None, handler_cancellation=True, shutdown_timeout=0.1)

    async def start() -> None:
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        stub.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        started.set()

    def run() -> None:
        loop.run_until_complete(start())
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        loop.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    started.wait()
    try:
        yield stub
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


def main() -> None:
    """Serve until the input ends; print the address first."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--fail", type=float, default=0.0, help="Share of requests that fail: 503, resets, stalls.")
    parser.add_argument("--say", default="", help="Texts with | between, one of which each reply is.")
    given = parser.parse_args()
    texts = given.say.split("|")
    says = (lambda prompt, seed: texts[int(digest(prompt, seed), 16) % len(texts)]) if given.say else None
    fail = dict.fromkeys(("503", "reset", "stall"), given.fail / 3) if given.fail else {}
    with serving(Stub(fail=fail, keeps=False, says=says), given.port) as stub:
        print(stub.url, flush=True)  # noqa: T201
        sys.stdin.read()
        print(  # noqa: T201
            json.dumps(
                {
                    "answered": sum(stub.answered.values()),
                    "twice": sum(n > 1 for n in stub.answered.values()),
                    "failed": dict(stub.sent_away),
                    "most_at_once": stub.most_flying,
                }
            ),
            flush=True,
        )


if __name__ == "__main__":
    main()
