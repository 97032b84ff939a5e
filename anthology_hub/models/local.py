"""Models in this process on transformers, on a GPU or a CPU. The only door to torch and transformers.

The engine never computes a token twice while it is in its cache. It keeps the keys and values of the last batch; a new
prompt goes on from the longest beginning that it shares with any of them, and beginnings that new prompts share with
each other are computed once. Callers see none of this: they hand in whole prompts. A batch is padded; rows are
independent.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from anthology_hub import weights
from anthology_hub.errors import MissingExtraError, ModelError, OptionError
from anthology_hub.models import Choice, ModelCard, Sampling
from anthology_hub.prompts import Prompt, folded

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

SHARE = 32
"""Tokens that prompts of a batch must have in common before the common part is computed apart."""
LONG = 128
"""New tokens per prompt from which prompts are computed one by one instead of as a padded batch."""


class LocalModel:
    """A causal language model from a folder, a GGUF file, an installed weights package or the Hub."""

    def __init__(self, name: str, *, device: str | None = None, dtype: str | None = None) -> None:
        """Open a model.

        Args:
            name: See `weights.resolve`.
            device: `cpu`, `cuda`, ...; a GPU if there is one, if not given.
            dtype: `float32`, `bfloat16` ...; float32 on a CPU (bfloat16 is slower without the units) and the model's
                own type elsewhere, if not given.

        Raises:
            ModelError: If the weights are no causal language model.
        """
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self._given = name, device, dtype
        found = weights.resolve(name)
        source = str(convert_gguf(Path(found.source))) if found.kind == "gguf" else found.source
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        dtype = dtype or ("float32" if device == "cpu" else "auto")
        if device == "cpu":
            # Lets grouped heads share keys without copying them; transformers does so by itself only without a mask.
            os.environ.setdefault("TRANSFORMERS_SDPA_FORCE_GQA", "1")
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(source)
            self._model = AutoModelForCausalLM.from_pretrained(source, dtype=dtype).eval().to(device)
        except Exception as error:  # transformers raises whatever the weights' own code does
            raise ModelError(f"{name!r} cannot be opened as a causal language model: {error}") from error
        self._chat = self._tokenizer.chat_template is not None
        self._cache = PrefixCache(self._model)
        developer, _, model = found.name.partition("/")
        self.card = ModelCard(
            developer=developer,
            model=model,
            revision=weights.revision(found),
            layout="chat" if self._chat else "text",
            dtype=str(self._model.dtype).removeprefix("torch."),
            device=device,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        # To a worker goes the name: it has the weights, or fetches them, and must open what is open here.
        return _opened_again, (self._given, self.card)

    @property
    def tokens_computed(self) -> int:
        """Number of prompt and reply tokens that went through the model so far, padding left out."""
        return self._cache.tokens_computed

    @property
    def window(self) -> int | None:
        """Most tokens of a prompt and its reply; None where the model does not say."""
        return getattr(self._model.config.get_text_config(decoder=True), "max_position_embeddings", None)

    def encode(self, prompt: Prompt) -> list[int]:
        """Return the token ids of a prompt in the model's layout, ready for the next token of the answer."""
        if not self._chat:
            return list(self._tokenizer(prompt.as_text())["input_ids"])
        try:
            text = self._in_chat(prompt.as_messages())
        except Exception:  # a template refuses a system message with whatever error it likes
            text = self._in_chat(folded(prompt.as_messages()))
        return list(self._tokenizer(text + prompt.start, add_special_tokens=False)["input_ids"])

    def _in_chat(self, messages: list[dict[str, str]]) -> str:
        return str(self._tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each text, without those that open a prompt."""
        return [len(self._tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts]

    def choose(self, prompts: Sequence[Prompt], options: Sequence[Sequence[str]], sampling: Sampling) -> list[Choice]:
        """Return the next-token probability of each option, over all tokens that say it (see `option_tokens`).

        Raises:
            OptionError: If an option is no single token of this model, or two options are the same one.
        """
        asked = [(tuple(letters), prompt.start) for prompt, letters in zip(prompts, options, strict=True)]
        # Most prompts of a batch have the same letters: each set is looked up once.
        tokens_of = {letters: self.option_tokens(*letters) for letters in set(asked)}
        logits = self._cache.advance([self.encode(prompt) for prompt in prompts])
        probs = softmax(logits, sampling.temperature)
        return [as_choice(row, tokens_of[letters]) for row, letters in zip(probs, asked, strict=True)]

    def complete(self, prompts: Sequence[Prompt], sampling: Sampling, *, seeds: Sequence[int]) -> list[str]:
        """Return one sampled reply per prompt, up to a stop string, the end token or `max_tokens`."""
        rows = [self.encode(prompt) for prompt in prompts]
        starts, texts = [len(row) for row in rows], [""] * len(rows)
        draws = [np.random.default_rng(seed) for seed in seeds]
        open_rows = list(range(len(rows)))
        for _ in range(sampling.max_tokens):
            logits = self._cache.advance([rows[at] for at in open_rows])
            probs = softmax(logits, sampling.temperature)
            still = []
            for at, row_probs in zip(open_rows, probs, strict=True):
                token = _draw(row_probs, sampling.top_p, draws[at].random())
                rows[at] = [*rows[at], token]
                texts[at] = self._tokenizer.decode(rows[at][starts[at] :], skip_special_tokens=True)
                if not self._ended(token, texts[at], sampling):
                    still.append(at)
            if not (open_rows := still):
                break
        return [_before_stop(text.lstrip(), sampling.stop) for text in texts]

    def _ended(self, token: int, text: str, sampling: Sampling) -> bool:
        ends = self._model.generation_config.eos_token_id
        return token in (ends if isinstance(ends, list) else [ends]) or any(s in text.lstrip() for s in sampling.stop)

    def option_tokens(self, letters: tuple[str, ...], start: str = "") -> list[list[int]]:
        """Return for each option the tokens that say it: by itself, after a space, and right after the answer's start.

        Raises:
            OptionError: If an option is no single token, or two options share one.
        """
        found = [sorted(self._single_tokens(letter, start)) for letter in letters]
        for letter, tokens in zip(letters, found, strict=True):
            if not tokens:
                raise OptionError(f"the option {letter!r} is not a single token of {self.card.model}: use letters")
        if len({token for single in found for token in single}) != sum(map(len, found)):
            raise OptionError(f"the options {letters} share tokens of {self.card.model}: use different letters")
        return found

    def _single_tokens(self, letter: str, start: str) -> set[int]:
        def ids(text: str) -> list[int]:
            return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

        tokens = {variant[0] for variant in (ids(letter), ids(f" {letter}")) if len(variant) == 1}
        # Some tokenizers put a space before every text: after a bracket the letter is then another token.
        before, after = ids(start), ids(start + letter)
        return tokens | ({after[-1]} if start and after[:-1] == before else set())


def _opened_again(given: tuple[str, str | None, str | None], card: ModelCard) -> LocalModel:
    name, device, dtype = given
    model = LocalModel(name, device=device, dtype=dtype)
    if model.card != card:
        raise ModelError(
            f"{name!r} is another model on {platform.node()}: {model.card}, not {card}. Give all machines the same "
            "weights, and start the run where the model opens as it does on the workers, or name device and dtype"
        )
    return model


class PrefixCache:
    """Keys and values of a batch of token rows, and the rule that finds what a new batch shares with them.

    Slots of the cache are in order of time in every row. A token that a new prompt does not go on from is masked, not
    moved; when most slots are masked, the valid ones are gathered into a fresh buffer. Long new parts are computed row
    by row (no padding, and a few hundred tokens fill the hardware already), short ones as one padded batch.
    """

    def __init__(self, model: Any) -> None:  # noqa: ANN401 - transformers has no useful types here
        """Start empty for a model."""
        self._model, self.tokens_computed = model, 0
        self._rows: list[NDArray[np.int64]] = []
        self._slots: list[NDArray[np.int64]] = []
        self._layers = _new_layers(model.config)
        self._width = 0

    def advance(self, prompts: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Return the logits after the last token of each prompt, shape (prompts, vocabulary)."""
        rows = [np.asarray(prompt, dtype=np.int64) for prompt in prompts]
        if not rows:
            return np.zeros((0, self._model.config.get_text_config(decoder=True).vocab_size), dtype=np.float32)
        try:
            return self._advance(rows)
        except BaseException:
            # Out of memory or interrupted half-way: rows and layers may not fit each other any more.
            self._rows = []
            raise

    def _advance(self, rows: list[NDArray[np.int64]]) -> NDArray[np.float32]:
        sources, shared = self._match(rows)
        while sum(map(len, rows)) - sum(shared) >= LONG * len(rows):
            commons = _commons(rows, shared)
            logits = self._prefill(commons or rows, *self._match(commons or rows))
            if not commons:
                return logits
            # Within what all share, some may share more: a system prompt first, then each backstory.
            sources, shared = self._match(rows)
        # While some rows are decoded or asked again, the others rest in the cache: the next question needs them.
        idle = [source for source in range(len(self._rows)) if source not in sources]
        if max(len(row) - n for row, n in zip(rows, shared, strict=True)) >= SHARE:
            idle = []
        resting = [self._rows[source] for source in idle]
        return self._append([*rows, *resting], [*sources, *idle], [*shared, *map(len, resting)])[: len(rows)]

    def _match(self, rows: list[NDArray[np.int64]]) -> tuple[list[int], list[int]]:
        """Find for each row the cached row with the longest common beginning; the last token is always computed."""
        sources, shared = [], []
        for at, row in enumerate(rows):
            # The row in the same place wins ties: an unchanged order needs no copy of the cache.
            lengths = [(_common(row[:-1], cached), source == at, source) for source, cached in enumerate(self._rows)]
            length, _, source = max(lengths, default=(0, True, 0))
            sources.append(source)
            shared.append(length)
        return sources, shared

    def _prefill(self, rows: list[NDArray[np.int64]], sources: list[int], shared: list[int]) -> NDArray[np.float32]:
        """Compute rows one by one, each on top of what it shares with the cache, and make them the new batch."""
        logits, finished = [], []
        for row, source, n in zip(rows, sources, shared, strict=True):
            layers = _new_layers(self._model.config)
            if n:
                for mine, cached in zip(layers, self._layers, strict=True):
                    mine.load([cached.gathered([source], self._slots[source][None, :n])], n)
            positions = np.arange(n, len(row))[None]
            logits.append(self._run(row[None, n:], np.ones((1, len(row)), dtype=np.int64), positions, layers))
            finished.append(layers)
        self._width = max(map(len, rows))
        self._layers = _new_layers(self._model.config)
        for depth, layer in enumerate(self._layers):
            # Room for the questions to come, so that the first of them does not move everything.
            parts = [(layers[depth].keys, layers[depth].values) for layers in finished]
            layer.load(parts, self._width, room=self._width * 3 // 2)
        self._rows, self._slots = rows, [np.arange(len(row)) for row in rows]
        self.tokens_computed += sum(map(len, rows)) - sum(shared)
        return np.concatenate(logits)

    def _append(self, rows: list[NDArray[np.int64]], sources: list[int], shared: list[int]) -> NDArray[np.float32]:
        """Compute the new ends of all rows as one batch."""
        self._keep(sources, shared)
        fresh = [row[n:] for row, n in zip(rows, shared, strict=True)]
        width = max(map(len, fresh))
        ids = np.zeros((len(rows), width), dtype=np.int64)
        positions = np.zeros_like(ids)
        mask = np.zeros((len(rows), self._width + width), dtype=np.int64)
        for at, (row, new) in enumerate(zip(rows, fresh, strict=True)):
            # New tokens are padded on the left, so that every row ends in the last slot.
            ids[at, width - len(new) :] = new
            positions[at, width - len(new) :] = np.arange(len(row) - len(new), len(row))
            self._slots[at] = np.concatenate([self._slots[at], self._width + width - len(new) + np.arange(len(new))])
            mask[at, self._slots[at]] = 1
        logits = self._run(ids, mask, positions, self._layers)
        self._rows, self._width = rows, self._width + width
        self.tokens_computed += sum(map(len, fresh))
        return logits

    def _run(
        self, ids: NDArray[np.int64], mask: NDArray[np.int64], positions: NDArray[np.int64], layers: list[Any]
    ) -> NDArray[np.float32]:
        import torch
        from transformers.cache_utils import Cache

        device = self._model.device
        with torch.inference_mode():
            output = self._model(
                input_ids=torch.from_numpy(ids).to(device),
                attention_mask=torch.from_numpy(mask).to(device),
                position_ids=torch.from_numpy(positions).to(device),
                past_key_values=Cache(layers=layers),
                use_cache=True,
                logits_to_keep=1,
            )
        return np.asarray(output.logits[:, -1].float().cpu().numpy())

    def _keep(self, sources: list[int], shared: list[int]) -> None:
        """Bring the cache to the shape of a new batch: one row per prompt, valid up to its shared beginning."""
        if not any(shared):
            self._layers, self._width = _new_layers(self._model.config), 0
            self._slots = [np.zeros(0, dtype=np.int64) for _ in sources]
            return
        slots = [self._slots[source][:n] for source, n in zip(sources, shared, strict=True)]
        same_rows = sources == list(range(len(self._rows)))
        if same_rows and sum(shared) * 2 >= self._width * len(shared):
            self._slots = slots
            return
        at = np.zeros((len(slots), max(shared)), dtype=np.int64)
        for row, taken in enumerate(slots):
            at[row, : len(taken)] = taken
        for layer in self._layers:
            layer.load([layer.gathered(sources, at)], max(shared))
        self._width, self._slots = max(shared), [np.arange(n) for n in shared]


def _commons(rows: list[NDArray[np.int64]], shared: list[int]) -> list[NDArray[np.int64]]:
    """Return the beginnings of the rows such that what several rows share beyond the cache is there once.

    Empty if the rows share nothing worth it.
    """
    order = sorted(range(len(rows)), key=lambda at: rows[at].tolist())
    groups = [[order[0]]]
    for left, right in zip(order, order[1:], strict=False):
        if _common(rows[left], rows[right]) >= shared[right] + SHARE:
            groups[-1].append(right)
        else:
            groups.append([right])
    if len(groups) == len(rows):
        return []
    # In sorted order the first and the last of a group have its shortest common beginning.
    ends = [
        min(_common(rows[g[0]], rows[g[-1]]), *(len(rows[at]) - 1 for at in g)) if len(g) > 1 else 0 for g in groups
    ]
    # The others go along up to the longest rest that is left to do, so that the pass after is not mostly padding.
    rest = max(len(rows[at]) - end for g, end in zip(groups, ends, strict=True) if end for at in g)
    firsts = [rows[g[0]] for g in groups]
    return [
        row[: end or max(shared[g[0]] + 1, len(row) - rest)] for row, g, end in zip(firsts, groups, ends, strict=True)
    ]


def convert_gguf(file: Path) -> Path:
    """Convert a GGUF file to a safetensors folder in the cache, once, and return the folder.

    The folder is named after the file's content and appears whole or not at all.

    Raises:
        MissingExtraError: If the packages that read GGUF are missing.
        ModelError: If the file is no GGUF model.
    """
    target = weights.cache_dir() / "models" / f"{file.stem}-{weights.fingerprint(str(file)).partition(':')[2][:16]}"
    if (target / "config.json").is_file():
        return target
    for package in ("gguf", "accelerate"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package, "gguf", f"the GGUF file {file.name} does")
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-"))
    try:
        _dequantise(file, work)
        os.replace(work, target)
    except OSError:
        # Another process may have finished first; its folder has the same content.
        if not (target / "config.json").is_file():
            raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target


def _dequantise(file: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    try:
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
        # Without `dequantize` the model can neither be cast nor saved.
        config = GgufConfig(dequantize=True)
        model = AutoModelForCausalLM.from_pretrained(
            file.parent, gguf_file=file.name, quantization_config=config, dtype=torch.float32
        )
    except Exception as error:
        raise ModelError(f"{file} cannot be read as a GGUF model: {error}") from error
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
    (folder / "converted_from.json").write_text(
        json.dumps({"file": file.name, "sha256": weights.fingerprint(str(file))})
    )


@functools.cache
def _layer_type() -> type:
    import torch
    from transformers.cache_utils import DynamicLayer

    class GrowingLayer(DynamicLayer):
        """Keys and values of one layer with room to grow: appending copies the new tokens only, not the whole cache."""

        _room = 0

        def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *_: object, **__: object) -> Any:  # noqa: ANN401
            if not self.is_initialized:
                self.lazy_initialization(key_states, value_states)
                self.load([], 0, like=(key_states, value_states))
            end = self._length + key_states.shape[-2]
            if end > self._room:
                self.load([(self.keys, self.values)], self._length, room=max(end, 2 * self._length))
            for buffer, new in zip(self._buffers, (key_states, value_states), strict=True):
                buffer[..., self._length : end, :] = new
            self._show(end)
            return self.keys, self.values

        def load(
            self,
            parts: list[tuple[torch.Tensor, torch.Tensor]],
            length: int,
            *,
            room: int = 0,
            like: tuple[torch.Tensor, torch.Tensor] | None = None,
        ) -> None:
            """Hold the parts below each other as one batch, each from slot 0, with `length` slots in use."""
            kinds = like or parts[0]
            batch = like[0].shape[0] if like else sum(keys.shape[0] for keys, _ in parts)
            self._room = max(room, length)
            shape = (batch, kinds[0].shape[1], self._room)
            self._buffers = tuple(kind.new_zeros((*shape, kind.shape[-1])) for kind in kinds)
            row = 0
            for part in parts:
                for buffer, kept in zip(self._buffers, part, strict=True):
                    buffer[row : row + kept.shape[0], :, : kept.shape[-2]] = kept
                row += part[0].shape[0]
            self.dtype, self.device, self.is_initialized = kinds[0].dtype, kinds[0].device, True
            self._show(length)

        def gathered(self, rows: Sequence[int], slots: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
            """Return the given slots, shape (rows, n), of the given rows."""
            device = self.keys.device
            at = torch.as_tensor(rows, device=device)[:, None], torch.from_numpy(slots).to(device)
            # Advanced indices around a slice put their axes first: (rows, slots, heads, size).
            return tuple(kept[at[0], :, at[1]].transpose(1, 2) for kept in (self.keys, self.values))  # type: ignore[return-value]

        def _show(self, length: int) -> None:
            self._length = length
            self.keys, self.values = (buffer[..., :length, :] for buffer in self._buffers)

    return GrowingLayer


def _new_layers(config: Any) -> list[Any]:  # noqa: ANN401
    layer = _layer_type()
    return [layer() for _ in range(config.get_text_config(decoder=True).num_hidden_layers)]


def _common(a: NDArray[np.int64], b: NDArray[np.int64]) -> int:
    n = min(len(a), len(b))
    differ = np.flatnonzero(a[:n] != b[:n])
    return int(differ[0]) if len(differ) else n


def softmax(logits: NDArray[np.float32], temperature: float = 1.0) -> NDArray[np.float64]:
    """Return the probabilities of logits over the last axis, in double precision; at 0 all of it is at the maximum."""
    below = (logits - logits.max(axis=-1, keepdims=True)).astype(np.float64)
    shifted = np.exp(below / temperature) if temperature else (below == 0).astype(np.float64)
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))


def as_choice(probs: NDArray[np.float64], tokens: list[list[int]]) -> Choice:
    """Read the options off next-token probabilities; each option is the sum over its tokens."""
    masses = [float(probs[single].sum()) for single in tokens]
    mass = sum(masses)
    even = 1 / len(masses)
    return Choice(probs=tuple(m / mass if mass > 0 else even for m in masses), mass=mass)


def _draw(probs: NDArray[np.float64], top_p: float, uniform: float) -> int:
    order = np.argsort(-probs, kind="stable")
    cumulative = np.cumsum(probs[order])
    # The smallest set of tokens whose mass reaches top_p.
    kept = int(np.searchsorted(cumulative, top_p * cumulative[-1] * (1 - 1e-12))) + 1
    return int(order[min(int(np.searchsorted(cumulative, uniform * cumulative[kept - 1], side="right")), kept - 1)])


def _before_stop(text: str, stops: Sequence[str]) -> str:
    ends = [at for stop in stops if (at := text.find(stop)) >= 0]
    return text[: min(ends, default=len(text))].strip()
