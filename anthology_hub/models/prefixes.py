"""Keys and values of what a model has read, kept by beginning: what prompts share is computed once.

`PrefixCache.advance` takes whole prompts and returns what the model says next. A prompt goes on from the longest
beginning that it shares with anything in the cache; beginnings that prompts of one call share with each other are
computed first, each once. New tokens of all prompts go through the model as one row without padding, so that every
product of matrices is large and none is wasted; only attention looks at prompts one by one. The beginning of several
prompts is stored once: the others refer to it until they go on by themselves.
"""

from __future__ import annotations

import functools
import os
import sys
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from anthology_hub.errors import ModelError

if TYPE_CHECKING:
    import torch

    States = tuple[torch.Tensor, torch.Tensor]

Tokens = NDArray[np.int64]

SHARE = 32
"""Tokens that must be saved for a common beginning to be computed apart: a pass costs about as much by itself."""
PACK_CPU, PACK_GPU = 1024, 8192
"""New tokens that go through the model together: more gains nothing on a CPU, whose caches are small."""
SIBLINGS_GPU = 32
"""Prompts with the same beginning that a GPU attends to in one call; on a CPU one at a time saves copies."""
MEMORY = 0.25
"""Share of the memory, on a GPU of what is free, that keys and values may take."""
SPARE = 1.5
"""Room of a row, in its length, so that the next questions need no copy."""
REMEMBERED = 4096
"""Prompts by which tokens asked before are told from new ones when they are counted."""
ATTENTION = "anthology_hub_prefixes"


@dataclass(frozen=True, kw_only=True)
class TokenCount:
    """Tokens that a model was given.

    Example:
        >>> TokenCount(asked=460, unique=100, computed=104).ratio
        1.04
    """

    asked: int
    """Of all prompts, each whole."""
    unique: int
    """With every beginning that prompts share counted once: the least that can be computed."""
    computed: int
    """What went through the model, the ends of replies included."""

    @property
    def ratio(self) -> float:
        """Computed tokens by unique ones; 1 at best, 0 where nothing was asked."""
        return self.computed / self.unique if self.unique else 0.0


class PrefixCache:
    """What a model has read, and the rule that finds what new prompts share with it."""

    def __init__(
        self,
        model: Any,  # noqa: ANN401
        *,
        budget: int | None = None,
        pack: int | None = None,
        siblings: int | None = None,
    ) -> None:
        """Start empty.

        Args:
            model: A causal language model of transformers.
            budget: Tokens whose keys and values may be kept; what fits into `MEMORY`, if not given.
            pack: New tokens that go through the model together; as the device needs, if not given.
            siblings: Prompts with the same beginning that are attended to together; as the device needs, if not given.

        Raises:
            ModelError: If the model keeps other states than keys and values of tokens.
        """
        check_attention(model)
        on_gpu = model.device.type != "cpu"
        self._model = model
        self.budget = budget or int(memory(model) * MEMORY / state_bytes(model))
        self._pack = pack or (PACK_GPU if on_gpu else PACK_CPU)
        self._siblings = siblings or (SIBLINGS_GPU if on_gpu else 1)
        self._rows: list[_Row] = []
        self._index = _Index([])
        self._seen = _Seen()
        self._asked = self._unique = self._computed = 0

    @property
    def tokens(self) -> TokenCount:
        """What was asked and computed so far."""
        return TokenCount(asked=self._asked, unique=self._unique, computed=self._computed)

    def advance(self, prompts: Sequence[Sequence[int]]) -> torch.Tensor:
        """Return the logits after the last token of each prompt, float32, shape (prompts, vocabulary).

        Raises:
            ModelError: If the keys and values of one prompt need more than the budget.
        """
        import torch

        rows = [np.asarray(prompt, dtype=np.int64) for prompt in prompts]
        self._check(rows)
        vocabulary = self._model.config.get_text_config(decoder=True).vocab_size
        logits = torch.empty((len(rows), vocabulary), dtype=torch.float32, device=self._model.device)
        order, own = _Index([_Row(row) for row in rows]).growth()
        for portion in self.portions(own):
            places = [order[at] for at in portion]
            logits[places] = self._together([rows[at] for at in places])
        self._asked += sum(map(len, rows))
        self._unique += sum(len(row) - self._seen.add(row) for row in rows)
        return logits

    def portions(self, lengths: Sequence[int]) -> Iterator[range]:
        """Split rows of these lengths, in this order, into portions whose keys and values fit the budget."""
        start, used = 0, 0.0
        for at, length in enumerate(lengths):
            if used and used + SPARE * length > self.budget:
                yield range(start, at)
                start, used = at, 0.0
            used += SPARE * length
        if lengths:
            yield range(start, len(lengths))

    def _check(self, rows: list[Tokens]) -> None:
        longest = max(map(len, rows), default=0)
        if (need := int(SPARE * longest)) > self.budget:
            raise ModelError(
                f"a prompt of {longest:,} tokens needs room for the keys and values of {need:,}, and {self.budget:,} "
                "fit: shorten the backstory or the survey, or use a device with more memory"
            )

    def _together(self, rows: list[Tokens]) -> torch.Tensor:
        try:
            while commons := self._commons(rows):
                # Within what all share, some may share more: a system prompt first, then each backstory.
                self._compute(commons, rows)
            return self._compute(rows, rows)
        except BaseException:
            # Out of memory or interrupted half-way: tokens and states may not fit each other any more.
            self._keep([])
            raise

    def _commons(self, rows: list[Tokens]) -> list[Tokens]:
        """Return the beginnings that several rows share beyond the cache, where computing them once is worth it."""
        index = _Index([_Row(row) for row in rows])
        known = [self._index.match(row)[1] for row in index.tokens]
        found, spans = list[Tokens](), [(0, len(rows))]
        while spans:
            start, end = spans.pop()
            if end - start < 2:
                continue
            least = start + int(np.argmin(index.shared[start : end - 1]))
            # The last token of a prompt is computed for its own sake.
            common = min(index.shared[least], *(len(row) - 1 for row in index.tokens[start:end]))
            if (end - start - 1) * (common - known[start]) >= SHARE:
                found.append(index.tokens[start][:common])
            else:
                spans += [(start, least + 1), (least + 1, end)]
        return found

    def _compute(self, rows: list[Tokens], prompts: list[Tokens]) -> torch.Tensor:
        """Compute what is new in rows and keep it; no beginning that the prompts go on from is given up."""
        import torch

        new = self._place(rows, prompts)
        logits = torch.empty(0)
        for parts in _packs(new, self._pack):
            found = self._run(parts)
            logits = logits if len(logits) else found.new_empty((len(rows), found.shape[-1]))
            logits[[part.at for part in parts]] = found
        self._computed += sum(part.new for part in new)
        self._keep([*(part.row for part in new), *(part.base for part in new if part.base)])
        return logits

    def _match(self, tokens: Tokens) -> tuple[_Row | None, int]:
        """Find the row to go on from, and how many of its tokens; the last token is always computed."""
        row, shared = self._index.match(tokens)
        shared = min(shared, len(tokens) - 1)
        if row is None or not shared:
            return None, 0
        if shared <= row.shared:
            return row.base, shared
        row.stand_alone()
        return row, shared

    def _place(self, rows: list[Tokens], prompts: list[Tokens]) -> list[_Part]:
        """Find for each row what it goes on from, and a place for what is new."""
        needed = Counter[_Row | None]()
        for base, shared in map(self._match, prompts):
            needed[base] = max(needed[base], shared)
        parts, taken = [], set[_Row]()
        for at, (tokens, (base, shared)) in enumerate([(row, self._match(row)) for row in rows]):
            if base is None:
                row = _Row(tokens)
            elif base in taken or shared < needed[base] or 2 * shared < len(base.tokens):
                row = _Row(tokens, base=base, shared=shared)
            else:
                # What the base said after this is forgotten, and with it all that refers to it.
                taken.add(base)
                self._rows = [row for row in self._rows if row.base is not base or row.shared <= shared]
                row = base.cut(shared)
            parts.append(_Part(at=at, row=row, base=base, past=shared, new=len(tokens) - shared, tokens=tokens))
        for part in parts:
            part.row.tokens = part.tokens
            part.row.reserve(part.past)
        return parts

    def _keep(self, rows: list[_Row]) -> None:
        """Remember these rows, and of the others the latest that fit."""
        kept, asked, room = dict[_Row, None](), set(rows), 0
        for row in dict.fromkeys([*rows, *self._rows]) if rows else ():
            room += row.room
            if room <= self.budget or row in asked:
                kept[row] = None
        self._rows = [row for row in kept if row.base is None or row.base in kept]
        self._index = _Index(self._rows)

    def _run(self, parts: list[_Part]) -> torch.Tensor:
        """Put parts through the model as one row; their keys and values land in their rows."""
        import torch

        device, config = self._model.device, self._model.config.get_text_config(decoder=True)
        ids = np.concatenate([part.tokens[part.past :] for part in parts])
        positions = np.concatenate([np.arange(part.past, len(part.tokens)) for part in parts])
        usual = config._attn_implementation
        pack = _Pack(groups=_groups(parts, self._siblings), plain=_own if usual == "eager" else _sdpa)
        _register()
        config._attn_implementation = ATTENTION
        try:
            with torch.inference_mode():
                output = self._model(
                    input_ids=torch.from_numpy(ids)[None].to(device),
                    position_ids=torch.from_numpy(positions)[None].to(device),
                    use_cache=False,
                    logits_to_keep=torch.tensor([part.end - 1 for part in parts], device=device),
                    pack=pack,
                )
        finally:
            config._attn_implementation = usual
        return output.logits[0].float()  # type: ignore[no-any-return]


@dataclass(eq=False)
class _Row:
    """Tokens in order, with their keys and values; the first `shared` of them are those of another row."""

    tokens: Tokens
    base: _Row | None = None
    shared: int = 0
    room: int = 0
    states: dict[int, States] = field(default_factory=dict)
    """By layer, keys and values, shape (1, heads, room, size)."""

    def put(self, layer: int, at: int, new: States) -> None:
        """Store new keys and values of a layer."""
        if layer not in self.states:
            self.states[layer] = _roomier(new, self.room)
        for kept, fresh in zip(self.states[layer], new, strict=True):
            kept[:, :, at - self.shared : at - self.shared + fresh.shape[2]] = fresh

    def states_to(self, layer: int, end: int) -> States:
        """Return the keys and values of a layer up to a token, where they are all its own."""
        keys, values = self.states[layer]
        return keys[:, :, :end], values[:, :, :end]

    def cut(self, length: int) -> _Row:
        """Forget all tokens after the first ones."""
        self.tokens = self.tokens[:length]
        return self

    def reserve(self, known: int) -> None:
        """Make room for all tokens; the states of the known ones stay."""
        need = len(self.tokens) - self.shared
        if need <= self.room:
            return
        # A row that leans on another is often asked once; one that stands alone goes on.
        self.room = need if self.base else int(SPARE * need)
        for layer in self.states:
            fresh = _roomier(self.states[layer], self.room)
            past, self.states[layer] = self.states_to(layer, known), fresh
            self.put(layer, 0, past)

    def stand_alone(self) -> None:
        """Copy what is shared, so that the row can go on by itself."""
        if self.base is None:
            return
        base, shared, own = self.base, self.shared, self.states
        self.base, self.shared, self.room = None, 0, max(int(SPARE * len(self.tokens)), shared + self.room)
        self.states = {layer: _roomier(kept, self.room) for layer, kept in own.items()}
        for layer, kept in own.items():
            self.put(layer, 0, base.states_to(layer, shared))
            self.put(
                layer, shared, (kept[0][:, :, : len(self.tokens) - shared], kept[1][:, :, : len(self.tokens) - shared])
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Part:
    """What is new in one row, and its place in a pack."""

    at: int
    row: _Row
    base: _Row | None
    past: int
    new: int
    tokens: Tokens
    end: int = 0
    """After its last token in the pack."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Pack:
    """Parts that go through the model in one row; those of a group go on from the same tokens."""

    groups: list[list[_Part]]
    plain: Callable[..., torch.Tensor]
    """Plain attention, (query, keys, values, mask) to shape (parts, tokens, heads, size)."""
    masks: dict[tuple[int, int, int | None], Any] = field(default_factory=dict)

    def mask(self, new: int, past: int, window: int | None, like: torch.Tensor) -> Any:  # noqa: ANN401
        """Return who sees whom, for the same lengths once: all layers have the same."""
        window = window if window and past + new > window else None
        if (key := (new, past, window)) not in self.masks:
            self.masks[key] = _mask(*key, like, needed=self.plain is _own)
        return self.masks[key]


def _mask(new: int, past: int, window: int | None, like: torch.Tensor, *, needed: bool) -> Any:  # noqa: ANN401
    """Return the mask of new tokens that see the past and themselves, None where a flag says the same."""
    import torch
    from torch.nn.attention.bias import causal_lower_right

    if not needed and window is None:
        if new == 1 or not past:
            return None
        if like.is_cuda:
            # Read by flash attention, which takes no masks.
            return causal_lower_right(new, past + new)
    back = past + torch.arange(new, device=like.device)[:, None] - torch.arange(past + new, device=like.device)
    hidden = (back < 0) | (back >= window) if window else back < 0
    return like.new_zeros((1, 1, new, past + new)).masked_fill(hidden, float("-inf"))


class _Index:
    """Rows in the order of their tokens: the longest common beginning of a row is with one of its neighbours."""

    def __init__(self, rows: Sequence[_Row]) -> None:
        # As bytes, the highest first, numbers compare as numbers do.
        keys = [row.tokens.astype(">u4").tobytes() for row in rows]
        self._order = sorted(range(len(rows)), key=keys.__getitem__)
        self._keys, self.rows = [keys[at] for at in self._order], [rows[at] for at in self._order]
        self.tokens = [row.tokens for row in self.rows]
        pairs = zip(self.tokens, islice(self.tokens, 1, None), strict=False)
        self.shared = [overlap(a, b) for a, b in pairs]

    def growth(self) -> tuple[list[int], list[int]]:
        """Return where each row was, in order, and how many of its tokens are not those of the row before."""
        shared = [0, *self.shared]
        return self._order, [len(tokens) - known for tokens, known in zip(self.tokens, shared, strict=False)]

    def match(self, tokens: Tokens) -> tuple[_Row | None, int]:
        """Return the row with the longest beginning in common, and how long it is."""
        at = bisect_left(self._keys, tokens.astype(">u4").tobytes())
        near = [(overlap(tokens, self.tokens[i]), i) for i in (at - 1, at) if 0 <= i < len(self.rows)]
        shared, best = max(near, default=(0, -1))
        return (self.rows[best], shared) if shared else (None, 0)


class _Seen:
    """The latest prompts, to tell tokens asked before from new ones."""

    def __init__(self) -> None:
        self._keys: list[bytes] = []
        self._age: dict[bytes, None] = {}

    def add(self, tokens: Tokens) -> int:
        """Remember a prompt and return how long a beginning was asked before."""
        key = tokens.astype(">u4").tobytes()
        if key in self._age:
            return len(tokens)
        at = bisect_left(self._keys, key)
        near = [self._keys[i] for i in (at - 1, at) if 0 <= i < len(self._keys)]
        shared = max((overlap(tokens, np.frombuffer(other, dtype=">u4")) for other in near), default=0)
        if near and at and key.startswith(self._keys[at - 1]):
            # The prompt goes on from this one, which has nothing more to say.
            self._forget(self._keys[at - 1])
        if len(self._keys) >= REMEMBERED:
            self._forget(next(iter(self._age)))
        self._keys.insert(bisect_left(self._keys, key), key)
        self._age[key] = None
        return shared

    def _forget(self, key: bytes) -> None:
        self._keys.pop(bisect_left(self._keys, key))
        self._age.pop(key)


def _packs(parts: list[_Part], most: int) -> Iterator[list[_Part]]:
    """Yield packs of at most so many tokens, or of one part."""
    pack, used = list[_Part](), 0
    # Parts that go on from the same tokens become neighbours.
    for part in sorted(parts, key=lambda part: (id(part.base), part.past)):
        if pack and used + part.new > most:
            yield pack
            pack, used = [], 0
        used += part.new
        pack.append(replace(part, end=used))
    if pack:
        yield pack


def _groups(parts: list[_Part], siblings: int) -> list[list[_Part]]:
    """Split parts into groups that are attended to together: on top of the same tokens, at most so many."""
    groups = list[list[_Part]]()
    for part in parts:
        last = groups[-1] if groups else []
        if last and len(last) < siblings and part.past and (part.base, part.past) == (last[0].base, last[0].past):
            last.append(part)
        else:
            groups.append([part])
    return groups


def attend(
    module: Any,  # noqa: ANN401 - an attention layer of any model
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: object,
    *,
    pack: _Pack,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **kwargs: object,
) -> tuple[torch.Tensor, None]:
    """Attend from the new tokens of a pack to their own beginnings; what transformers calls for each layer.

    Args:
        module: The layer.
        query: Shape (1, heads, tokens of the pack, size); the keys and values likewise.
        key: Of the new tokens.
        value: Of the new tokens.
        attention_mask: Not used: who sees whom follows from the pack.
        pack: What is new, and where the beginnings are.
        scaling: Of the scores.
        sliding_window: Tokens back that this layer sees; all, if None.
        kwargs: Passed on to the layer's own function where it does not use the common one.
    """
    found = query.new_empty((1, query.shape[2], query.shape[1], value.shape[-1]))
    for group in pack.groups:
        width = max(part.new for part in group)
        keys, values = _states(group, module.layer_idx, width, (key, value))
        asked = _padded(group, width, query)
        mask = pack.mask(width, group[0].past, sliding_window, asked)
        answer = pack.plain(module, asked, keys, values, mask, scaling=scaling, **kwargs)
        for at, part in enumerate(group):
            found[:, part.end - part.new : part.end] = answer[at, : part.new]
    return found, None


def _states(group: list[_Part], layer: int, width: int, new: States) -> States:
    """Store what is new of a group and return all its keys and values, shape (parts, heads, past + width, size)."""
    import torch

    for part in group:
        span = slice(part.end - part.new, part.end)
        part.row.put(layer, part.past, (new[0][:, :, span], new[1][:, :, span]))
    first = group[0]
    if first.base is None or (len(group) == 1 and first.row is first.base):
        return first.row.states_to(layer, first.past + first.new)
    # The beginning is copied for the time of this one call.
    known = first.base.states_to(layer, first.past)
    keys, values = (
        torch.cat([past.expand(len(group), -1, -1, -1), _padded(group, width, each)], dim=2)
        for past, each in zip(known, new, strict=True)
    )
    return keys, values


def _padded(group: list[_Part], width: int, new: torch.Tensor) -> torch.Tensor:
    """Return the new tokens of a group below each other; what fills up stands behind, where no token looks."""
    if len(group) == 1:
        return new[:, :, group[0].end - width : group[0].end]
    padded = new.new_zeros((len(group), new.shape[1], width, new.shape[3]))
    for at, part in enumerate(group):
        padded[at, :, : part.new] = new[0, :, part.end - part.new : part.end]
    return padded


def _sdpa(
    module: object,
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: Any,  # noqa: ANN401
    *,
    scaling: float | None,
    **_: object,
) -> torch.Tensor:
    import torch

    found = torch.nn.functional.scaled_dot_product_attention(
        query,
        keys,
        values,
        attn_mask=mask,
        is_causal=mask is None and query.shape[2] > 1,
        scale=scaling,
        # Grouped heads share keys without copying them.
        enable_gqa=query.shape[1] != keys.shape[1],
    )
    return found.transpose(1, 2)


def _own(
    module: Any,  # noqa: ANN401
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor,
    **kwargs: Any,  # noqa: ANN401
) -> torch.Tensor:
    """Attend as the layer's own module does, for models whose attention is no plain one (capped scores, sinks)."""
    plain = sys.modules[type(module).__module__].eager_attention_forward
    return plain(module, query, keys, values, mask, **kwargs)[0]  # type: ignore[no-any-return]


@functools.cache
def _register() -> None:
    from transformers import AttentionInterface

    AttentionInterface.register(ATTENTION, attend)


def check_attention(model: Any) -> None:  # noqa: ANN401
    """Refuse a model that keeps other states than keys and values of tokens.

    Raises:
        ModelError: If it does.
    """
    config = model.config.get_text_config(decoder=True)
    other = sorted(set(getattr(config, "layer_types", None) or ()) - {"full_attention", "sliding_attention"})
    if other or model._is_stateful or not model._supports_attention_backend:
        raise ModelError(
            f"{type(model).__name__} keeps other states than keys and values of tokens{' in ' if other else ''}"
            f"{', '.join(other)}: use a plain transformer (Llama, Qwen, Mistral, Gemma ...), or a server"
        )


def state_bytes(model: Any) -> int:  # noqa: ANN401
    """Return the bytes of the keys and values of one token.

    Example:
        >>> from types import SimpleNamespace as Some
        >>> llama_8b = Some(num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=8, hidden_size=4096)
        >>> config = Some(get_text_config=lambda decoder: llama_8b)
        >>> state_bytes(Some(config=config, dtype=Some(itemsize=2)))
        131072
    """
    config = model.config.get_text_config(decoder=True)
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(config.num_hidden_layers * 2 * heads * size * model.dtype.itemsize)


def memory(model: Any) -> int:  # noqa: ANN401
    """Return the bytes of memory: what is free of a GPU's, all of the machine's otherwise."""
    import torch

    if model.device.type == "cuda":
        return int(torch.cuda.mem_get_info(model.device)[0])
    # Where the system does not say (Windows), that of a small laptop.
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 8 * 2**30


def overlap(a: Tokens, b: Tokens) -> int:
    """Return how many tokens two rows have in common from the beginning."""
    n = min(len(a), len(b))
    differ = np.flatnonzero(a[:n] != b[:n])
    return int(differ[0]) if len(differ) else n


def _roomier(like: States, room: int) -> States:
    keys, values = (kind.new_empty((1, kind.shape[1], room, kind.shape[3])) for kind in like)
    return keys, values
