"""Text to passages to vectors. The only door to sentence-transformers.

Texts are cut into passages that the encoder reads whole; a persona's score for a query is its best passage.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from anthology_hub import weights
from anthology_hub.errors import ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

ENCODER = "all-MiniLM-L6-v2"
PASSAGE_TOKENS = 256
"""What all-MiniLM-L6-v2 reads, special tokens included."""
CPU_TOKENS = 1_024
"""Tokens encoded together on a processor: more leave its caches, fewer starve its matrix units."""
DEVICE_TOKENS = 65_536
"""Tokens encoded together on an accelerator."""
_Span = tuple[int, int, int]
"""Start, end and tokens of a piece of text that is not cut any more."""
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+|\n+")


@dataclass(frozen=True, kw_only=True)
class EncoderCard:
    """What an embedding depends on; vectors of another card are refused."""

    model: str
    revision: str
    dimension: int
    max_tokens: int
    metric: str = "inner_product"
    normalised: bool = True
    prompt: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)


class Encoder:
    """A sentence-transformers model that reads passages whole and returns unit vectors."""

    def __init__(self, name: str = ENCODER, *, device: str | None = None) -> None:
        """Open the encoder; see `weights.resolve` for what a name may be.

        Raises:
            ModelError: If the model cannot be loaded.
        """
        from sentence_transformers import SentenceTransformer

        self._given = name, device
        found = weights.resolve(name)
        try:
            self._model = SentenceTransformer(found.source, device=device)
        except Exception as error:
            raise ModelError(f"{name!r} cannot be opened as a sentence-transformers model: {error}") from error
        self._tokenizer = self._model.tokenizer
        limit = int(self._model.get_max_seq_length() or PASSAGE_TOKENS)
        self.card = EncoderCard(
            model=found.name,
            revision=weights.revision(found),
            dimension=int(self._model.get_embedding_dimension() or 0),
            max_tokens=min(limit, PASSAGE_TOKENS),
        )

    def __reduce__(self) -> tuple[Any, ...]:
        # To a worker goes the name: it has the weights, or fetches them, and must open what is open here.
        return _opened_again, (*self._given, self.card)

    def passages(self, text: str) -> list[tuple[int, int]]:
        """Cut a text at sentence ends into (start, end) pieces that the model reads whole.

        Sentences longer than the limit are cut at word ends, words longer than the limit anywhere. Together the pieces
        cover every character but the white space between them.
        """
        room = self.card.max_tokens - self._tokenizer.num_special_tokens_to_add()
        return cut_passages(text, self._count, room)

    def _count(self, piece: str) -> int:
        # Not `tokenize`: it warns about long inputs, and measuring them is the point here.
        return len(self._tokenizer(piece, add_special_tokens=False, verbose=False)["input_ids"])

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one unit vector per text, float32, shape (n, dimension).

        Texts of like length go together, as many as fit a number of tokens, so that little is padded.
        """
        vectors = np.zeros((len(texts), self.card.dimension), dtype=np.float32)
        lengths = np.minimum(self._lengths(texts), self.card.max_tokens)
        for rows in batches(lengths, self._budget):
            vectors[rows] = self._model.encode(
                [texts[row] for row in rows],
                batch_size=len(rows),
                normalize_embeddings=True,
                show_progress_bar=False,
            )
        return vectors

    def _lengths(self, texts: Sequence[str]) -> NDArray[np.int64]:
        if not texts:
            return np.zeros(0, dtype=np.int64)
        tokens = self._tokenizer(list(texts), verbose=False, return_attention_mask=False)["input_ids"]
        return np.fromiter(map(len, tokens), dtype=np.int64, count=len(texts))

    @property
    def _budget(self) -> int:
        return CPU_TOKENS if self._model.device.type == "cpu" else DEVICE_TOKENS


def batches(lengths: NDArray[np.int64], tokens: int) -> list[list[int]]:
    """Put rows of like length together, longest first, as many as make up to `tokens` tokens once padded.

    Args:
        lengths: Tokens of each row.
        tokens: Most that a batch may hold; a longer row is a batch of its own.

    Example:
        >>> batches(np.array([2, 9, 3, 3]), 9)
        [[1], [2, 3, 0]]
    """
    found: list[list[int]] = []
    for row in np.argsort(-lengths, kind="stable").tolist():
        if found and lengths[found[-1][0]] * (len(found[-1]) + 1) <= tokens:
            found[-1].append(row)
        else:
            found.append([row])
    return found


def _opened_again(name: str, device: str | None, card: EncoderCard) -> Encoder:
    encoder = Encoder(name, device=device)
    if encoder.card != card:
        raise ModelError(
            f"{name!r} is another encoder on {platform.node()}: {encoder.card}, not {card}. Give all machines the same "
            "weights"
        )
    return encoder


def cut_passages(text: str, count: Callable[[str], int], room: int) -> list[tuple[int, int]]:
    """Cut a text into (start, end) pieces of at most `room` tokens, at sentence ends where possible.

    Args:
        text: Any text.
        count: Number of tokens of a piece.
        room: Most tokens a piece may have, at least 1.

    Example:
        >>> cut_passages("One two. Three four. Five.", lambda piece: len(piece.split()), 4)
        [(0, 20), (21, 26)]
    """
    spans = _fitting(text, count, room)
    pieces, at = [], 0
    while at < len(spans):
        after = _reach(text, count, room, spans, at)
        pieces.append((spans[at][0], spans[after - 1][1]))
        at = after
    return pieces


def _reach(text: str, count: Callable[[str], int], room: int, spans: Sequence[_Span], at: int) -> int:
    """The end of the spans from `at` on that fit together. Their tokens one by one say about where that is."""
    start, total, after = spans[at][0], spans[at][2], at + 1
    while after < len(spans) and total + spans[after][2] <= room:
        total, after = total + spans[after][2], after + 1
    while after > at + 1 and count(text[start : spans[after - 1][1]]) > room:
        after -= 1
    while after < len(spans) and count(text[start : spans[after][1]]) <= room:
        after += 1
    return after


def _fitting(text: str, count: Callable[[str], int], room: int) -> list[_Span]:
    """Sentences, those too long for the room replaced by their words, and words too long by parts of them."""
    spans = []
    for start, end in _spans(_SENTENCE_END, text, 0, len(text)):
        if (tokens := count(text[start:end])) <= room:
            spans.append((start, end, tokens))
        else:
            words = _spans(re.compile(r"\s+"), text, start, end)
            spans += [part for a, b in words for part in _halves(text, count, room, a, b)]
    return spans


def _halves(text: str, count: Callable[[str], int], room: int, start: int, end: int) -> list[_Span]:
    """Halve a word until its parts fit: a link, or a script that writes no spaces."""
    if (tokens := count(text[start:end])) <= room or end - start == 1:
        return [(start, end, tokens)]
    middle = (start + end) // 2
    return _halves(text, count, room, start, middle) + _halves(text, count, room, middle, end)


def _spans(separator: re.Pattern[str], text: str, start: int, end: int) -> list[tuple[int, int]]:
    found, at = [], start
    for gap in separator.finditer(text, start, end):
        found.append((at, gap.start() + len(gap.group().rstrip())))
        at = gap.end()
    return [(a, b) for a, b in [*found, (at, end)] if text[a:b].strip()]
