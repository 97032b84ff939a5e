"""Chains of prompts, each of which may depend on the replies before it, and the way to drive them in batches.

A chain is a generator without input or output of its own: it yields what it asks, and is sent the replies; whatever
else it yields is a result. Who drives it decides what is asked at the same time: `lock_step` below puts the open
prompts of a batch into one call, a model on a server (`Conversing`) keeps many chains in flight.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

from anthology_hub.models import Choice, LanguageModel, Sampling
from anthology_hub.prompts import Prompt


@dataclass(frozen=True, kw_only=True)
class Ask:
    """One prompt: for the probabilities of its options, or for a text."""

    prompt: Prompt
    options: tuple[str, ...] = ()
    """What may come next; empty: a text is wanted."""
    seed: int = 0
    """Of the text."""


@dataclass(frozen=True, kw_only=True)
class Lost:
    """No reply came."""

    reason: str
    final: bool
    """The server refuses this prompt, now and ever; otherwise it was not to be reached, and may be later."""


Reply = Choice | str | Lost
Asks = tuple[Ask, ...]
T = TypeVar("T")
Chain = Generator[Asks | T, tuple[Reply, ...] | None, None]
"""Yields asks, a tuple, and is sent as many replies; yields results, never a tuple, and is sent None."""


@runtime_checkable
class Conversing(Protocol):
    """A model that drives chains itself, many at once."""

    def converse(self, chains: Iterable[Chain[T]], sampling: Sampling) -> Iterator[list[T]]:
        """Drive chains to their ends and yield results as they come, in no order; empty lists while none come."""
        ...

    def take_traffic(self) -> dict[str, object]:
        """Return what was sent, tried again and lost since the last call."""
        ...


def advance(chain: Chain[T], replies: tuple[Reply, ...] | None, results: list[T]) -> Asks | None:
    """Send replies, collect the results up to the next asks, and return these; None at the end of the chain."""
    try:
        found = chain.send(replies)
        while not isinstance(found, tuple):
            results.append(found)
            found = chain.send(None)
    except StopIteration:
        return None
    return found


def lock_step(model: LanguageModel, chains: Iterable[Chain[T]], sampling: Sampling) -> Iterator[list[T]]:
    """Drive chains together: whatever they ask at one time is one batch.

    Example:
        >>> from anthology_hub import open_model
        >>> def tea():
        ...     (choice,) = yield (Ask(prompt=Prompt(context="", turns=(), question="Tea?"), options=("A", "B")),)
        ...     yield choice.mass
        >>> list(lock_step(open_model("scripted:first"), [tea(), tea()], Sampling()))
        [[1.0, 1.0]]
    """
    results: list[T] = []
    going = [(chain, asks) for chain in chains if (asks := advance(chain, None, results)) is not None]
    while going:
        if results:
            yield results
        results = []
        replies = iter(_answered(model, [ask for _, asks in going for ask in asks], sampling))
        sent = [(chain, tuple(next(replies) for _ in asks)) for chain, asks in going]
        going = [(chain, asks) for chain, told in sent if (asks := advance(chain, told, results)) is not None]
    if results:
        yield results


def _answered(model: LanguageModel, asks: list[Ask], sampling: Sampling) -> list[Reply]:
    closed, free = [ask for ask in asks if ask.options], [ask for ask in asks if not ask.options]
    chosen = iter(model.choose([a.prompt for a in closed], [a.options for a in closed], sampling) if closed else [])
    said = iter(model.complete([a.prompt for a in free], sampling, seeds=[a.seed for a in free]) if free else [])
    return [next(chosen) if ask.options else next(said) for ask in asks]
