"""New tokens of many prompts through a model as one row without padding.

Every product of matrices is then large and none is wasted; only attention looks at prompts one by one, or, on a GPU, at
those together that go on from the same tokens. It is a function that transformers calls for each layer of any model
that knows its attention interface.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from anthology_hub.errors import ModelError

if TYPE_CHECKING:
    import torch

    States = tuple[torch.Tensor, torch.Tensor]

Tokens = NDArray[np.int64]
SPARE = 1.5
"""Room of a row, in its length, so that the next questions need no copy."""
ATTENTION = "anthology_hub_packs"


@dataclass(eq=False)
class Row:
    """Tokens in order, with their keys and values; the first `shared` of them are those of another row."""

    tokens: Tokens
    base: Row | None = None
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

    def cut(self, length: int) -> Row:
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
        self.base, self.shared, self.room = None, 0, int(SPARE * len(self.tokens))
        self.states = {layer: _roomier(kept, self.room) for layer, kept in own.items()}
        for layer, kept in own.items():
            self.put(layer, 0, base.states_to(layer, shared))
            self.put(layer, shared, kept)


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """What is new in one row, and its place in a pack."""

    at: int
    row: Row
    base: Row | None
    past: int
    new: int
    tokens: Tokens
    end: int = 0
    """After its last token in the pack."""

    def past_states(self, layer: int) -> States:
        """Return the keys and values of what it goes on from."""
        return (self.base or self.row).states_to(layer, self.past)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Group:
    """Parts that are attended to together: neighbours in the pack that go on from the same tokens."""

    parts: Sequence[Part]
    index: torch.Tensor | None = None
    """Where in the pack each token stands, shape (parts, width), filled up behind, where nobody looks; None for one."""
    filled: torch.Tensor | None = None
    """Which of these, in a row, are no filling."""

    @classmethod
    def of(cls, parts: Sequence[Part], device: torch.device) -> _Group:
        """Make a group."""
        import torch

        if len(parts) == 1:
            return cls(parts=parts)
        ahead = np.arange(max(part.new for part in parts))
        news, ends = (np.array([[getattr(part, name)] for part in parts]) for name in ("new", "end"))
        index = ends - news + np.minimum(ahead, news - 1)
        filled = np.flatnonzero(ahead < news)
        return cls(parts=parts, index=torch.from_numpy(index).to(device), filled=torch.from_numpy(filled).to(device))

    @property
    def width(self) -> int:
        """Most new tokens of a part."""
        return max(part.new for part in self.parts)

    @property
    def span(self) -> slice:
        """Place in the pack."""
        return slice(self.parts[0].end - self.parts[0].new, self.parts[-1].end)

    def below(self, new: torch.Tensor) -> torch.Tensor:
        """Return tokens of the pack, shape (1, heads, tokens, size), as (parts, heads, width, size)."""
        return new[:, :, self.span] if self.index is None else new[0][:, self.index].transpose(0, 1)

    def behind(self, found: torch.Tensor) -> torch.Tensor:
        """Return what was found, shape (parts, width, heads, size), as (tokens, heads, size)."""
        return found[0] if self.filled is None else found.flatten(0, 1)[self.filled]

    def store(self, layer: int, new: States) -> States:
        """Keep new keys and values and return all that is looked at, shape (parts, heads, past + width, size)."""
        import torch

        first, keys, values = self.parts[0], self.below(new[0]), self.below(new[1])
        for at, part in enumerate(self.parts):
            own = keys[at : at + 1, :, : part.new], values[at : at + 1, :, : part.new]
            if part.row.base is None or self.index is None:
                part.row.put(layer, part.past, own)
            else:
                # The group's own block stays: a copy for each would be as many kernels.
                part.row.states[layer] = own
        if len(self.parts) == 1 and first.row.base is None:
            return first.row.states_to(layer, first.past + first.new)
        # The beginning is copied for the time of this one call.
        known = first.past_states(layer)
        most = (len(self.parts), -1, -1, -1)
        return torch.cat([known[0].expand(most), keys], dim=2), torch.cat([known[1].expand(most), values], dim=2)


@dataclass(frozen=True, kw_only=True, eq=False)
class Pack:
    """What goes through the model in one row."""

    groups: list[_Group]
    plain: Callable[..., torch.Tensor]
    """Plain attention, (query, keys, values, mask) to shape (parts, tokens, heads, size)."""
    masks: dict[tuple[int, int, int | None], Any] = field(default_factory=dict)

    def mask(self, new: int, past: int, window: int | None, like: torch.Tensor) -> Any:  # noqa: ANN401
        """Return who sees whom, for the same lengths once: all layers have the same."""
        window = window if window and past + new > window else None
        if (key := (new, past, window)) not in self.masks:
            self.masks[key] = _mask(*key, like, needed=self.plain is _own)
        return self.masks[key]


def packed(parts: list[Part], most: int) -> Iterator[list[Part]]:
    """Yield packs of at most so many tokens, or of one part."""
    pack, used = list[Part](), 0
    firsts = dict[Row | None, int]()
    # Parts that go on from the same tokens become neighbours.
    for part in sorted(parts, key=lambda part: (firsts.setdefault(part.base, part.at), part.past)):
        if pack and used + part.new > most:
            yield pack
            pack, used = [], 0
        used += part.new
        pack.append(replace(part, end=used))
    if pack:
        yield pack


def run(model: Any, parts: Sequence[Part], *, siblings: int) -> torch.Tensor:  # noqa: ANN401
    """Put parts through a model as one row; their keys and values land in their rows.

    Args:
        model: A causal language model of transformers.
        parts: What is new; see `packed`.
        siblings: Parts with the same beginning that are attended to together.

    Returns:
        The logits after the last token of each part, float32, shape (parts, vocabulary).
    """
    import torch

    device, config = model.device, model.config.get_text_config(decoder=True)
    ids = np.concatenate([part.tokens[part.past :] for part in parts])
    positions = np.concatenate([np.arange(part.past, len(part.tokens)) for part in parts])
    usual = config._attn_implementation
    _register()
    config._attn_implementation = ATTENTION
    try:
        with torch.inference_mode():
            output = model(
                input_ids=torch.from_numpy(ids)[None].to(device),
                position_ids=torch.from_numpy(positions)[None].to(device),
                use_cache=False,
                logits_to_keep=torch.tensor([part.end - 1 for part in parts], device=device),
                pack=Pack(groups=_groups(parts, siblings, device), plain=_own if usual == "eager" else _sdpa),
            )
    finally:
        # Others use the model as it was.
        config._attn_implementation = usual
    return output.logits[0].float()  # type: ignore[no-any-return]


def _groups(parts: Sequence[Part], siblings: int, device: torch.device) -> list[_Group]:
    """Split neighbours into groups that go on from the same tokens, of at most so many."""
    groups = list[list[Part]]()
    for part in parts:
        last = groups[-1] if groups else []
        if last and len(last) < siblings and part.past and (part.base, part.past) == (last[0].base, last[0].past):
            last.append(part)
        else:
            groups.append([part])
    return [_Group.of(group, device) for group in groups]


def attend(
    module: Any,  # noqa: ANN401 - an attention layer of any model
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: object,
    *,
    pack: Pack,
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
        keys, values = group.store(module.layer_idx, (key, value))
        asked = group.below(query)
        mask = pack.mask(group.width, group.parts[0].past, sliding_window, asked)
        found[0, group.span] = group.behind(pack.plain(module, asked, keys, values, mask, scaling=scaling, **kwargs))
    return found, None


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


def _roomier(like: States, room: int) -> States:
    keys, values = (kind.new_empty((1, kind.shape[1], room, kind.shape[3])) for kind in like)
    return keys, values
