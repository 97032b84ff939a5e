"""Models behind the OpenAI protocol: vLLM, SGLang, llama.cpp, Ollama, TGI, OpenAI, transformers serve, and their like.

Prompts become requests, and replies become choices and texts; how requests travel is the business of `traffic`, how
servers differ stands in `dialects`. Probabilities are read off the most probable first tokens of the answer; those of
the prompt (`prompt_logprobs`) are never asked for: a server that computes them passes its prefix cache by.
"""

from __future__ import annotations

import asyncio
import math
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from queue import SimpleQueue
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit, urlunsplit

from anthology_hub.errors import ModelError, OptionError, UnknownNameError
from anthology_hub.models import Choice, ModelCard, Sampling
from anthology_hub.models.chains import Ask, Chain, Lost, Reply, advance
from anthology_hub.models.dialects import CHAT, TEXT, Dialect, dialect_named, dialect_of
from anthology_hub.models.traffic import Traffic
from anthology_hub.prompts import Prompt, folded

T = TypeVar("T")
SETTINGS = ("model", "way", "kind", "revision")
"""What may stand after the `?` of an address."""
PATHS = {CHAT: "chat/completions", TEXT: "completions"}
LETTERS_PER_TOKEN = 4
"""Of English text, where a server counts no tokens."""
SEEDS = 2**31
"""Seeds are sent below this: some servers keep them in 32 bits."""
SILENT_TRIES = 8
"""Seeds tried where the answer ended before its first token, of which a server may then list nothing."""
TICK = 0.1
"""Seconds after which results are handed on."""


@dataclass(frozen=True, kw_only=True)
class Address:
    """What a name says of a server."""

    urls: tuple[str, ...]
    model: str = ""
    way: str = ""
    kind: str = ""
    revision: str = ""


@dataclass(frozen=True, kw_only=True)
class Way:
    """How a server is asked."""

    name: str
    """CHAT or TEXT."""
    most: int
    """Most probabilities that it lists for a token; 0: none."""
    folds: bool = False
    """Its model knows no system message: the first user says its words."""


@dataclass(kw_only=True)
class _Unseen:
    """Probability that was not listed, over answers."""

    n: int = 0
    total: float = 0.0
    most: float = 0.0

    def add(self, share: float) -> None:
        self.n, self.total, self.most = self.n + 1, self.total + share, max(self.most, share)

    def to_dict(self) -> dict[str, float]:
        return {"unseen_mean": round(self.total / self.n, 6), "unseen_most": round(self.most, 6)}


class ServerModel:
    """A model on one or several servers.

    The key is read from the environment: `ANTHOLOGY_HUB_API_KEY`, for OpenAI itself also `OPENAI_API_KEY`.
    """

    def __init__(self, name: str, *, concurrency: int = 256, deadline: float = 600.0) -> None:
        """Find out what the servers offer, with one token asked of them.

        Args:
            name: Addresses with commas between, each up to `/v1`; after the last one `?model=NAME` where a server has
                several, `&way=chat` or `&way=completions`, `&kind=` one of `dialects.DIALECTS` where it is not told
                by itself, and `&revision=` what shall stand in the run for the weights, which no server tells.
            concurrency: Most requests at once to each server; how many pay is found within that.
            deadline: Seconds within which a prompt must have its answer, all tries together; a single try gets a
                quarter of it.

        Raises:
            OptionError: If an address or a limit cannot be meant.
            UnknownNameError: If a setting, a way or a kind of server is unknown.
            MissingExtraError: If aiohttp is not installed.
            ModelError: If no server answers, or none has the model.
        """
        if concurrency < 1 or not 0 < deadline < math.inf:
            raise OptionError(f"concurrency must be 1 or more and deadline above 0 s, got {concurrency} and {deadline}")
        address = read_address(name)
        self._traffic = Traffic(address.urls, concurrency=concurrency, deadline=deadline)
        self._close = weakref.finalize(self, self._traffic.close)
        try:
            self._model, self._dialect = self._traffic.run(_introduced(self._traffic, address))
            self._way = self._traffic.run(self._tried(address))
        except BaseException:
            self._close()
            raise
        self._unseen = _Unseen()
        self.card = _card(self._model, self._way, address)

    def complete(self, prompts: Sequence[Prompt], sampling: Sampling, *, seeds: Sequence[int]) -> list[str]:
        """Return one sampled reply per prompt; all are under way at once, as far as the servers take them.

        Raises:
            ModelError: If a prompt got no reply.
        """
        asks = [Ask(prompt=prompt, seed=seed) for prompt, seed in zip(prompts, seeds, strict=True)]
        return [str(reply) for reply in self._all(asks, sampling)]

    def choose(self, prompts: Sequence[Prompt], options: Sequence[Sequence[str]], sampling: Sampling) -> list[Choice]:
        """Return for each prompt the probability that each of its options comes next.

        What is said is a label by itself or after a space. An option that is not among the tokens that the server
        lists has probability 0, and `Choice.unseen` says how much probability was not listed. At a temperature other
        than 1 the mass is that among the listed tokens.

        Raises:
            ModelError: If a prompt got no reply, or the server lists no probabilities.
        """
        asks = [Ask(prompt=prompt, options=tuple(labels)) for prompt, labels in zip(prompts, options, strict=True)]
        return [reply for reply in self._all(asks, sampling) if isinstance(reply, Choice)]

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each text; where the server counts none, a quarter of its letters."""
        if self._dialect.tokenizer is None:
            return [-(-len(text) // LETTERS_PER_TOKEN) for text in texts]
        return self._traffic.run(self._counted(texts))

    def converse(self, chains: Iterable[Chain[T]], sampling: Sampling) -> Iterator[list[T]]:
        """Drive chains to their ends, as many at once as the servers take requests.

        Yields:
            Results as they come, in no order; an empty list where none came for a while.

        Raises:
            ModelError: If no request can work.
        """
        found: SimpleQueue[list[T] | None] = SimpleQueue()
        driven = self._traffic.start(self._drive(iter(chains), sampling, found))
        try:
            while (results := found.get()) is not None:
                yield results
            driven.result()
        finally:
            driven.cancel()

    def take_traffic(self) -> dict[str, object]:
        """Return what was sent, tried again and lost since the last call, and how many requests were found to pay."""
        counts, unseen = dict(self._traffic.counts), self._unseen
        self._traffic.counts.clear()
        self._unseen = _Unseen()
        at_once = [int(server.flow.limit) for server in self._traffic.servers]
        return {**counts, "at_once": at_once, **(unseen.to_dict() if unseen.n else {})}

    # -- one request

    def _all(self, asks: Sequence[Ask], sampling: Sampling) -> list[Reply]:
        replies = self._traffic.run(_together([self._ask(ask, sampling) for ask in asks]))
        if lost := [reply for reply in replies if isinstance(reply, Lost)]:
            raise ModelError(
                f"{len(lost)} of {len(asks)} prompts got no reply ({lost[0].reason}): see to the server and do the "
                "same again, or give it a longer deadline"
            )
        return replies

    async def _ask(self, ask: Ask, sampling: Sampling) -> Reply:
        return await (self._chosen(ask, sampling) if ask.options else self._said(ask, sampling))

    async def _said(self, ask: Ask, sampling: Sampling) -> str | Lost:
        asked = {
            self._limit(self._way): sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            **({"stop": list(sampling.stop[: self._dialect.stops])} if sampling.stop else {}),
            "seed": ask.seed % SEEDS,
            **self._dialect.plain,
        }
        text = await self._sent(self._way, ask.prompt, asked, _text_of)
        return text if isinstance(text, Lost) else _before_stop(text.lstrip(), sampling.stop)

    async def _chosen(self, ask: Ask, sampling: Sampling) -> Choice | Lost:
        if not self._way.most:
            raise ModelError(
                f"the server of {self._model!r} lists no probabilities: ask for text (mode 'text', method 'sampled'), "
                "or serve the model with one that does"
            )
        listed = list[tuple[str, float]]()
        for seed in range(SILENT_TRIES):
            found = await self._sent(self._way, ask.prompt, self._listing(self._way, seed), _listed)
            if isinstance(found, Lost):
                return found
            if listed := found[: self._way.most]:
                break
        choice = read_choice(listed, ask.options, sampling.temperature, bracket=not self._begins(ask))
        self._unseen.add(choice.unseen)
        return choice

    def _listing(self, way: Way, seed: int) -> dict[str, Any]:
        """What asks for the probabilities of one token: drawn from the whole distribution at temperature 1."""
        most = {"logprobs": True, "top_logprobs": way.most} if way.name == CHAT else {"logprobs": way.most}
        return {self._limit(way): 1, "temperature": 1.0, "top_p": 1.0, "seed": seed, **most, **self._dialect.plain}

    def _limit(self, way: Way) -> str:
        return self._dialect.limit if way.name == CHAT else "max_tokens"

    def _begins(self, ask: Ask) -> bool:
        """Whether the server takes the first characters of the answer from us."""
        return self._way.name == TEXT or self._dialect.prefill is not None or not ask.prompt.start

    async def _sent(self, way: Way, prompt: Prompt, asked: Mapping[str, Any], read: Callable[[Any], T]) -> T | Lost:
        body = {"model": self._model, **self._put(way, prompt), **asked}
        return await self._traffic.ask(PATHS[way.name], body, about=prompt.context, read=read)

    def _put(self, way: Way, prompt: Prompt) -> dict[str, Any]:
        if way.name == TEXT:
            return {"prompt": prompt.as_text()}
        messages = folded(prompt.as_messages()) if way.folds else prompt.as_messages()
        if not prompt.start or self._dialect.prefill is None:
            return {"messages": messages}
        return {"messages": [*messages, {"role": "assistant", "content": prompt.start}], **self._dialect.prefill}

    # -- many requests

    async def _drive(self, chains: Iterator[Chain[T]], sampling: Sampling, found: SimpleQueue[list[T] | None]) -> None:
        results: list[T] = []
        ended, going = asyncio.Event(), set[asyncio.Task[None]]()

        async def tick() -> None:
            while True:
                await asyncio.sleep(TICK)
                found.put(results[:])
                results.clear()
                ended.set()

        def over(task: asyncio.Task[None]) -> None:
            ended.set()

        ticking = asyncio.create_task(tick())
        try:
            more = True
            while more or going:
                while more and len(going) < self._traffic.room:
                    chain = next(chains, None)
                    if more := chain is not None:
                        task = asyncio.create_task(self._follow(chain, sampling, results))
                        task.add_done_callback(over)
                        going.add(task)
                await ended.wait()
                ended.clear()
                for task in [task for task in going if task.done()]:
                    going.discard(task)
                    task.result()
        finally:
            for task in (ticking, *going):
                task.cancel()
            await asyncio.gather(ticking, *going, return_exceptions=True)
            found.put(results[:])
            found.put(None)

    async def _follow(self, chain: Chain[T], sampling: Sampling, results: list[T]) -> None:
        asks = advance(chain, None, results)
        while asks is not None:
            replies = await _together([self._ask(ask, sampling) for ask in asks])
            asks = advance(chain, tuple(replies), results)

    async def _counted(self, texts: Sequence[str]) -> list[int]:
        told = self._dialect.tokenizer
        assert told is not None

        def read(reply: Any) -> int:  # noqa: ANN401 - JSON
            tokens = reply[told.answer] if told.answer else reply
            return tokens if isinstance(tokens, int) else len(tokens)

        async def count(text: str) -> int:
            body = {"model": self._model, told.text: text, "add_special_tokens": False}
            found = await self._traffic.ask(told.path, body, about="", read=read)
            return -(-len(text) // LETTERS_PER_TOKEN) if isinstance(found, Lost) else found

        return list(await asyncio.gather(*map(count, texts)))

    # -- what a server offers

    async def _tried(self, address: Address) -> Way:
        """Return the first way of the dialect that works."""
        if address.way and address.way not in PATHS:
            raise UnknownNameError("way to ask a server", address.way, PATHS)
        reasons = []
        for way in _ways(self._dialect, address.way):
            try:
                asked = self._listing(way, 0) if way.most else {self._limit(way): 1}
                found = await self._sent(way, PROBE, asked, _lists if way.most else _speaks)
            except ModelError as error:
                reasons.append(str(error))
                continue
            if found is True:
                return way
            reasons.append(found.reason if isinstance(found, Lost) else f"{way.name} without probabilities")
        raise ModelError(f"{self._model!r} answers no prompt: {reasons[0]}")


def _ways(dialect: Dialect, name: str) -> Iterator[Way]:
    for each, most in dialect.ways:
        if name in ("", each):
            yield Way(name=each, most=most)
            if each == CHAT:
                yield Way(name=each, most=most, folds=True)


PROBE = Prompt(context="", turns=(), question="Say yes.")


def read_address(name: str) -> Address:
    """Read the name of a model on servers.

    Raises:
        OptionError: If an address is none, or holds a password.
        UnknownNameError: If a setting is unknown.

    Example:
        >>> read_address("http://a:8000,http://b:8000/v1?model=tiny").urls
        ('http://a:8000/v1', 'http://b:8000/v1')
    """
    urls, settings = [], dict[str, str]()
    for one in filter(None, (part.strip() for part in name.split(","))):
        parts = urlsplit(one)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise OptionError(f"{_bare(one)!r} is no address of a server: give http://HOST:PORT/v1")
        if parts.username or parts.password:
            raise OptionError(
                f"{parts.hostname}: an address with a password would be written into runs and errors; give the key in "
                "the environment, ANTHOLOGY_HUB_API_KEY"
            )
        settings |= {key: values[-1] for key, values in parse_qs(parts.query).items()}
        urls.append(urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/") or "/v1", "", "")))
    for key in settings:
        if key not in SETTINGS:
            raise UnknownNameError("setting of a server's address", key, SETTINGS)
    if not urls:
        raise OptionError("no address of a server is given: give http://HOST:PORT/v1")
    return Address(urls=tuple(dict.fromkeys(urls)), **settings)


def _bare(address: str) -> str:
    return address.rpartition("@")[2].partition("?")[0]


async def _introduced(traffic: Traffic, address: Address) -> tuple[str, Dialect]:
    """Ask the servers for their models; return the one that is meant, and what kind of server it is."""
    lists, last = [], ModelError("no server was asked")
    for server in traffic.servers:
        try:
            reply = await traffic.get(server, "models")
            lists.append({model["id"]: str(model.get("owned_by", "")) for model in reply["data"]})
        except (ModelError, LookupError, TypeError, AttributeError) as error:
            last = error if isinstance(error, ModelError) else ModelError(f"{server.url} tells no models ({error!r})")
    if not lists and (not address.model or all(server.faults for server in traffic.servers)):
        raise last
    common = [model for model in (lists or [{}])[0] if all(model in each for each in lists)]
    if not address.model and len(common) != 1:
        many = f"have {', '.join(common)}" if common else "have no model in common"
        raise ModelError(f"the servers {many}: say which one with ?model=NAME after the address")
    model = address.model or common[0]
    if address.kind:
        return model, dialect_named(address.kind)
    host = urlsplit(traffic.servers[0].url).hostname or ""
    return model, dialect_of(host, (lists or [{}])[0].get(model, ""))


def _card(model: str, way: Way, address: Address) -> ModelCard:
    # A model that is told by its file is named by it: where the file lies is nobody's business.
    name = PurePath(model).stem if model.startswith(("/", "~")) or model.endswith(".gguf") else model
    developer, slash, rest = name.partition("/")
    return ModelCard(
        developer=developer if slash else "served",
        model=rest if slash else name,
        revision=address.revision or "unknown",
        layout="chat" if way.name == CHAT else "text",
    )


async def _together(asked: Sequence[Any]) -> list[Any]:
    return [await asked[0]] if len(asked) == 1 else list(await asyncio.gather(*asked))


# -- replies


def _text_of(reply: Any) -> str:  # noqa: ANN401 - JSON
    choice = reply["choices"][0]
    return str((choice["message"].get("content") if "message" in choice else choice["text"]) or "")


def _speaks(reply: Any) -> bool:  # noqa: ANN401 - JSON
    _text_of(reply)
    return True


def _lists(reply: Any) -> bool:  # noqa: ANN401 - JSON
    try:
        _listed(reply)
    except (LookupError, TypeError):
        return False
    return True


def _listed(reply: Any) -> list[tuple[str, float]]:  # noqa: ANN401 - JSON
    """Return the listed tokens with their log-probabilities, most probable first; none if nothing was said."""
    told = reply["choices"][0]["logprobs"]
    if "content" in told:
        top = [(one["token"], one["logprob"]) for each in told["content"][:1] for one in each["top_logprobs"]]
    else:
        top = [pair for each in told["top_logprobs"][:1] for pair in each.items()]
    return sorted(((str(token), float(value)) for token, value in top), key=lambda pair: -pair[1])


def read_choice(
    listed: Sequence[tuple[str, float]], options: Sequence[str], temperature: float = 1.0, *, bracket: bool = False
) -> Choice:
    """Read the options off listed tokens; each option is the sum over the tokens that say it.

    Args:
        listed: (token, log-probability at temperature 1).
        options: Labels.
        temperature: At which the probabilities are wanted; 0: all of it is at the most probable token.
        bracket: Whether the answer may open a bracket, because the prompt could not.

    Example:
        >>> choice = read_choice([("A", -1.5), (" A", -1.5), ("B", -1.5), ("I", -3.0)], ["A", "B"])
        >>> [round(p, 3) for p in choice.probs], round(choice.mass, 3), round(choice.unseen, 3)
        ([0.667, 0.333], 0.669, 0.281)
    """
    # Servers that list a sampled token beside the most probable ones round a little past 1.
    unseen = max(0.0, 1.0 - sum(math.exp(value) for _, value in listed))
    top = max((value for _, value in listed), default=0.0)
    said, total = dict.fromkeys(options, 0.0), 0.0
    for token, value in listed:
        share = math.exp((value - top) / temperature) if temperature else float(value == top)
        total += share
        label = token.lstrip(" \u2581\u0120(" if bracket else " \u2581\u0120")
        if label in said:
            said[label] += share
    whole = total / (1.0 - unseen) if temperature == 1 and unseen < 1 else total
    inside = sum(said.values())
    probs = tuple(share / inside if inside else 1 / len(said) for share in said.values())
    return Choice(probs=probs, mass=min(1.0, inside / whole) if whole else 0.0, unseen=unseen)


def _before_stop(text: str, stops: Sequence[str]) -> str:
    ends = [at for stop in stops if (at := text.find(stop)) >= 0]
    return text[: min(ends, default=len(text))].strip()
