"""Keys and values of what a model has read, kept by beginning: what prompts share is computed once.

`PrefixCache.advance` takes whole prompts and returns what the model says next. A prompt goes on from the longest
beginning that it shares with anything in the cache; beginnings that prompts of one call share with each other are
computed first, each once. New tokens of all prompts go through the model as one row without padding, so that every
product of matrices is large and none is wasted; only attention looks at prompts one by one. The beginning of several
prompts is stored once: the others refer to it until they go on by themselves.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from anthology_hub.errors import ModelError
from anthology_hub.models.packs import SPARE, Part, Row, Tokens, check_attention, packed, run

if TYPE_CHECKING:
    import torch

SHARE = 32
"""Tokens that must be saved for a common beginning to be computed apart: a pass costs about as much by itself."""
PACK_CPU, PACK_GPU = 1024, 8192
"""New tokens that go through the model together: more gains nothing on a CPU, whose caches are small."""
SIBLINGS_GPU = 32
"""Prompts with the same beginning that a GPU attends to in one call; on a CPU one at a time saves copies."""
MEMORY = 0.25
"""Share of the memory, on a GPU of what is free, that keys and values may take."""
IDLE = 2
"""Most that is kept, by what the largest call needed: who rests while others are asked again is not forgotten."""
REMEMBERED = 4096
"""Prompts by which tokens asked before are told from new ones when they are counted."""


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

    def __sub__(self, earlier: TokenCount) -> TokenCount:
        """Return what came after an earlier count of the same model."""
        mine, theirs = self.to_dict(), earlier.to_dict()
        return TokenCount(**{name: mine[name] - theirs[name] for name in mine})

    def to_dict(self) -> dict[str, int]:
        """Return the JSON form."""
        return asdict(self)


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
        self._rows: list[Row] = []
        self._current, self._largest = set[Row](), 0
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
        self.check(max(map(len, rows), default=0))
        vocabulary = self._model.config.get_text_config(decoder=True).vocab_size
        logits = torch.empty((len(rows), vocabulary), dtype=torch.float32, device=self._model.device)
        order, own = _Index([Row(row) for row in rows]).growth()
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

    def check(self, length: int) -> None:
        """Refuse a prompt of this length, with all that is said to it, that does not fit by itself.

        Raises:
            ModelError: If its keys and values need more than the budget.
        """
        if (need := int(SPARE * length)) > self.budget:
            raise ModelError(
                f"a prompt of {length:,} tokens needs room for the keys and values of {need:,}, and {self.budget:,} "
                "fit: shorten the backstory or the survey, or use a device with more memory"
            )

    def _together(self, rows: list[Tokens]) -> torch.Tensor:
        self._current.clear()
        try:
            while commons := self._commons(rows):
                # Within what all share, some may share more: a system prompt first, then each backstory.
                self._compute(commons, rows)
            return self._compute(rows, rows)
        except BaseException:
            # Out of memory or interrupted half-way: tokens and states may not fit each other any more.
            self._rows, self._index = [], _Index([])
            raise

    def _commons(self, rows: list[Tokens]) -> list[Tokens]:
        """Return the beginnings that several rows share beyond the cache, where computing them once is worth it."""
        index = _Index([Row(row) for row in rows])
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
        for parts in packed(new, self._pack):
            found = run(self._model, parts, siblings=self._siblings)
            logits = logits if len(logits) else found.new_empty((len(rows), found.shape[-1]))
            logits[[part.at for part in parts]] = found
        self._computed += sum(part.new for part in new)
        self._keep([*(part.row for part in new), *(part.base for part in new if part.base)])
        return logits

    def _match(self, tokens: Tokens) -> tuple[Row | None, int]:
        """Find the row to go on from, and how many of its tokens; the last token is always computed."""
        row, shared = self._index.match(tokens)
        shared = min(shared, len(tokens) - 1)
        if row is None or not shared:
            return None, 0
        if shared <= row.shared:
            return row.base, shared
        row.stand_alone()
        return row, shared

    def _place(self, rows: list[Tokens], prompts: list[Tokens]) -> list[Part]:
        """Find for each row what it goes on from, and a place for what is new."""
        needed = Counter[Row | None]()
        for base, shared in map(self._match, prompts):
            needed[base] = max(needed[base], shared)
        parts, taken = [], set[Row]()
        for at, (tokens, (base, shared)) in enumerate([(row, self._match(row)) for row in rows]):
            if base is None:
                row = Row(tokens)
            elif base in taken or shared < needed[base] or 2 * shared < len(base.tokens):
                row = Row(tokens, base=base, shared=shared)
            else:
                # What the base said after this is forgotten, and with it all that refers to it.
                taken.add(base)
                self._rows = [row for row in self._rows if row.base is not base or row.shared <= shared]
                row = base.cut(shared)
            parts.append(Part(at=at, row=row, base=base, past=shared, new=len(tokens) - shared, tokens=tokens))
        for part in parts:
            part.row.tokens = part.tokens
            part.row.reserve(part.past)
        return parts

    def _keep(self, rows: list[Row]) -> None:
        """Remember these rows and all of this call, and of the others the latest for which there is room."""
        self._current.update(rows)
        self._largest = max(self._largest, sum(row.room for row in self._current))
        most, room, kept = min(self.budget, IDLE * self._largest), 0, dict[Row, None]()
        for row in dict.fromkeys([*rows, *self._rows]):
            room += row.room
            if room <= most or row in self._current:
                kept[row] = None
        self._rows = [row for row in kept if row.base is None or row.base in kept]
        self._index = _Index(self._rows)


class _Index:
    """Rows in the order of their tokens: the longest common beginning of a row is with one of its neighbours."""

    def __init__(self, rows: Sequence[Row]) -> None:
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

    def match(self, tokens: Tokens) -> tuple[Row | None, int]:
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
    # Some models have other heads in each layer.
    several = getattr(config, "is_heterogeneous", False)
    layers = config.per_layer_config if several else [config] * config.num_hidden_layers
    return int(sum(map(_state_size, layers)) * model.dtype.itemsize)


def _state_size(config: Any) -> int:  # noqa: ANN401
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * heads * size)


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
