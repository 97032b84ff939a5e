"""Models in this process on transformers, on a GPU or a CPU: what is asked, in the words of the model.

Callers hand in whole prompts; `prefixes` sees to it that no token is computed twice. Of each answer only the last
position is read: the probability of each option there, over all tokens of the vocabulary.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from anthology_hub import weights
from anthology_hub.errors import MissingExtraError, ModelError, OptionError
from anthology_hub.models import Choice, ModelCard, Sampling
from anthology_hub.models.prefixes import PrefixCache, TokenCount, state_bytes
from anthology_hub.prompts import Prompt, folded

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

LIKELY = 256
"""Most probable tokens that are looked at before the whole vocabulary is put in order."""


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
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(source)
            self._model = AutoModelForCausalLM.from_pretrained(source, dtype=dtype).eval().to(device)
        except Exception as error:  # transformers raises whatever the weights' own code does
            raise ModelError(f"{name!r} cannot be opened as a causal language model: {error}") from error
        self._chat = self._tokenizer.chat_template is not None
        self._cache, self._taken = PrefixCache(self._model), TokenCount(asked=0, unique=0, computed=0)
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
    def tokens(self) -> TokenCount:
        """Tokens of prompts and replies that were asked and computed so far."""
        return self._cache.tokens

    def take_tokens(self) -> dict[str, float]:
        """Return what was asked and computed since this was last called, for the record of a run."""
        before, self._taken = self._taken, self.tokens
        return {**(spent := self._taken - before).to_dict(), "ratio": round(spent.ratio, 4)}

    @property
    def state_bytes(self) -> int:
        """Bytes of memory that one token takes while its keys and values are kept."""
        return state_bytes(self._model)

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
            ModelError: If a prompt is longer than the model's window.
        """
        asked = [(tuple(letters), prompt.start) for prompt, letters in zip(prompts, options, strict=True)]
        # Most prompts of a batch have the same letters: each set is looked up once.
        tokens_of = {letters: self.option_tokens(*letters) for letters in set(asked)}
        rows = [self.encode(prompt) for prompt in prompts]
        self._check_window(rows, more=0)
        weights, totals = _weigh(self._cache.advance(rows), sampling.temperature)
        # The letters are picked where the logits are: a whole vocabulary for each prompt is too much to move.
        places = [(at, token) for at, letters in enumerate(asked) for option in tokens_of[letters] for token in option]
        picked = weights[[at for at, _ in places], [token for _, token in places]].double().tolist()
        probs = (weight / totals[at] for weight, (at, _) in zip(picked, places, strict=True))
        return [as_choice([sum(islice(probs, len(option))) for option in tokens_of[letters]]) for letters in asked]

    def complete(self, prompts: Sequence[Prompt], sampling: Sampling, *, seeds: Sequence[int]) -> list[str]:
        """Return one sampled reply per prompt, up to a stop string, the end token or `max_tokens`.

        Raises:
            ModelError: If a prompt and its reply are longer than the model's window.
        """
        rows = [self.encode(prompt) for prompt in prompts]
        self._check_window(rows, more=sampling.max_tokens)
        self._cache.check(max(map(len, rows), default=0) + sampling.max_tokens)
        replies = [_Reply(self._tokenizer, row, sampling, seed) for row, seed in zip(rows, seeds, strict=True)]
        for portion in self._cache.portions([len(row) + sampling.max_tokens for row in rows]):
            self._say([replies[at] for at in portion], sampling)
        return [reply.text for reply in replies]

    def _say(self, replies: list[_Reply], sampling: Sampling) -> None:
        ends = self._model.generation_config.eos_token_id
        ends = ends if isinstance(ends, list) else [ends]
        for _ in range(sampling.max_tokens):
            logits = self._cache.advance([reply.row for reply in replies])
            uniforms = [reply.draws.random() for reply in replies]
            for reply, token in zip(replies, draw_tokens(logits, sampling, uniforms), strict=True):
                reply.add(token)
            replies = [reply for reply in replies if reply.row[-1] not in ends and not reply.stopped]
            if not replies:
                break

    def _check_window(self, rows: Sequence[Sequence[int]], *, more: int) -> None:
        longest = max(map(len, rows), default=0) + more
        if self.window is not None and longest > self.window:
            reply = f", {more:,} of them for the reply," if more else ""
            raise ModelError(
                f"a prompt needs {longest:,} tokens{reply} and {self.card.model} reads {self.window:,} at most: "
                "shorten the backstory, ask fewer questions or each by itself, or use a model with a longer window"
            )

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


class _Reply:
    """A reply as it grows."""

    def __init__(self, tokenizer: Any, row: list[int], sampling: Sampling, seed: int) -> None:  # noqa: ANN401
        self.row, self.draws, self._start = row, np.random.default_rng(seed), len(row)
        self._tokenizer, self._stops = tokenizer, sampling.stop
        # A character may take four tokens, and a stop string may begin anywhere in the first of them.
        self._tail, self._spoken = 4 * max(map(len, sampling.stop), default=0) + 8, len(row)

    def add(self, token: int) -> None:
        """Say one more token."""
        self.row = [*self.row, token]

    @property
    def stopped(self) -> bool:
        """Whether the newest token ends a stop string; only the last few are read, so long replies cost no more."""
        start = max(self._spoken, len(self.row) - self._tail)
        text = self._decoded(start)
        if start == self._spoken and not (text := text.lstrip()):
            # Blanks before the first word are no stop.
            self._spoken = len(self.row)
        return any(stop in text for stop in self._stops)

    @property
    def text(self) -> str:
        """What was said before the first stop string."""
        text = self._decoded(self._start).lstrip()
        ends = [at for stop in self._stops if (at := text.find(stop)) >= 0]
        return text[: min(ends, default=len(text))].strip()

    def _decoded(self, start: int) -> str:
        return str(self._tokenizer.decode(self.row[start:], skip_special_tokens=True))


def _weigh(logits: torch.Tensor, temperature: float) -> tuple[torch.Tensor, list[float]]:
    """Return what each token weighs beside the most probable one, and the sums over the vocabulary."""
    below = logits - logits.amax(dim=-1, keepdim=True)
    # At 0 all of it is at the maximum.
    weights = (below / temperature).exp() if temperature else (below == 0).float()
    return weights, weights.double().sum(dim=-1).tolist()


def draw_tokens(logits: torch.Tensor, sampling: Sampling, uniforms: Sequence[float]) -> list[int]:
    """Draw a token for each row of logits: by its place in the order of probability, ties by number.

    Args:
        logits: Shape (rows, vocabulary).
        sampling: Temperature and top_p.
        uniforms: A number from 0 to 1 for each row.
    """
    weights, totals = _weigh(logits, sampling.temperature)
    best = weights.topk(min(LIKELY, weights.shape[1]))
    values, ids = best.values.double().cpu().numpy(), best.indices.cpu().numpy()
    found = []
    for at, (total, uniform) in enumerate(zip(totals, uniforms, strict=True)):
        # Of the tokens that weigh as much as the last, some may be missing.
        likely = values[at] > values[at, -1]
        order, falling = _falling(values[at, likely], ids[at, likely])
        if (place := _place(falling, total, sampling.top_p, uniform)) is None:
            whole = weights[at].double().cpu().numpy()
            order, falling = _falling(whole, np.arange(len(whole)))
            place = _place(falling, total, sampling.top_p, uniform)
        found.append(int(order[len(order) - 1 if place is None else place]))
    return found


def _falling(weights: NDArray[np.float64], ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    order = np.lexsort((ids, -weights))
    return ids[order], weights[order]


def _place(weights: NDArray[np.float64], total: float, top_p: float, uniform: float) -> int | None:
    """Find where among falling weights a draw falls; None where these are only the first and do not reach so far."""
    cumulative = np.cumsum(weights)
    # The smallest set of tokens whose mass reaches top_p.
    kept = int(np.searchsorted(cumulative, top_p * total * (1 - 1e-12)))
    if kept == len(weights) and top_p < 1:
        return None
    mass = cumulative[kept] if kept < len(weights) else total
    place = min(int(np.searchsorted(cumulative, uniform * mass, side="right")), kept)
    return place if place < len(weights) else None


def as_choice(masses: Sequence[float]) -> Choice:
    """Return the choice among options of these probabilities."""
    mass = sum(masses)
    even = 1 / len(masses)
    return Choice(probs=tuple(m / mass if mass > 0 else even for m in masses), mass=mass)
