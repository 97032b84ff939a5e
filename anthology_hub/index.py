"""Text to passages to vectors to FAISS. The only door to sentence-transformers and faiss.

Texts are cut into passages that the encoder reads whole; a persona's score for a query is its best passage. The search
is an exact inner product over unit vectors, and a filter is applied *before* it, so a rare group never comes back
empty.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from anthology_hub import weights
from anthology_hub.errors import DataError, ModelError, OptionError

if TYPE_CHECKING:
    from numpy.typing import NDArray

ENCODER = "all-MiniLM-L6-v2"
PASSAGE_TOKENS = 256
"""What all-MiniLM-L6-v2 reads, special tokens included."""
ENCODE_BATCH = 8
"""Fastest on CPUs: larger batches pad more."""
SPARE = 2**20
"""Bytes that an index file may hold beside its vectors."""
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

    def encode(self, texts: Sequence[str], *, progress: bool = False) -> NDArray[np.float32]:
        """Return one unit vector per text, float32, shape (n, dimension)."""
        if not texts:
            return np.zeros((0, self.card.dimension), dtype=np.float32)
        vectors = self._model.encode(
            list(texts), batch_size=ENCODE_BATCH, normalize_embeddings=True, show_progress_bar=progress
        )
        return np.asarray(vectors, dtype=np.float32)


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
    pieces: list[tuple[int, int]] = []
    for start, end in _fitting(text, count, room):
        if pieces and count(text[pieces[-1][0] : end]) <= room:
            pieces[-1] = (pieces[-1][0], end)
        else:
            pieces.append((start, end))
    return pieces


def _fitting(text: str, count: Callable[[str], int], room: int) -> list[tuple[int, int]]:
    """Sentences, those too long for the room replaced by their words, and words too long by parts of them."""
    spans = []
    for start, end in _spans(_SENTENCE_END, text, 0, len(text)):
        if count(text[start:end]) <= room:
            spans.append((start, end))
        else:
            words = _spans(re.compile(r"\s+"), text, start, end)
            spans += [part for a, b in words for part in _halves(text, count, room, a, b)]
    return spans


def _halves(text: str, count: Callable[[str], int], room: int, start: int, end: int) -> list[tuple[int, int]]:
    """Halve a word until its parts fit: a link, or a script that writes no spaces."""
    if count(text[start:end]) <= room or end - start == 1:
        return [(start, end)]
    middle = (start + end) // 2
    return _halves(text, count, room, start, middle) + _halves(text, count, room, middle, end)


def _spans(separator: re.Pattern[str], text: str, start: int, end: int) -> list[tuple[int, int]]:
    found, at = [], start
    for gap in separator.finditer(text, start, end):
        found.append((at, gap.start() + len(gap.group().rstrip())))
        at = gap.end()
    return [(a, b) for a, b in [*found, (at, end)] if text[a:b].strip()]


@dataclass(frozen=True, kw_only=True)
class Hits:
    """Best rows of one query, best first."""

    rows: NDArray[np.int64]
    scores: NDArray[np.float32]


class Index:
    """An exact FAISS index over unit vectors, one row per passage.

    Example:
        >>> index = Index(np.eye(3, dtype=np.float32))
        >>> index.search(np.array([0, 1, 0], dtype=np.float32), 1).rows.tolist()
        [1]
    """

    def __init__(self, vectors: NDArray[np.float32], *, file: Path | None = None) -> None:
        """Index vectors, or open a vouched-for file that was made of them.

        Args:
            vectors: Unit vectors, float32, shape (rows, dimension).
            file: A FAISS file of the same vectors.

        Raises:
            DataError: If vectors are not unit vectors, or the file does not fit them.
        """
        if len(vectors) and not np.allclose((vectors * vectors).sum(axis=1), 1, atol=1e-3):
            raise DataError("vectors must have length 1: normalise them before indexing")
        self._vectors, self._file = np.ascontiguousarray(vectors, dtype=np.float32), file
        if file is not None and (self._faiss.ntotal, self._faiss.d) != self._vectors.shape:
            raise DataError(f"{file} holds {self._faiss.ntotal} x {self._faiss.d} vectors, not {self._vectors.shape}")
        # A collection may be replaced after it was loaded and before it is first searched.
        if file is not None and not np.array_equal(self._faiss.reconstruct_n(0, len(self)), self._vectors):
            raise DataError(f"{file} holds other vectors than the collection: load the collection again")

    def __len__(self) -> int:
        return len(self._vectors)

    @cached_property
    def _faiss(self) -> Any:  # noqa: ANN401 - faiss has no types
        import faiss

        if self._file is not None:
            return _read(self._file, at_most=2 * self._vectors.nbytes + SPARE)
        flat = faiss.IndexFlatIP(self._vectors.shape[1])
        flat.add(self._vectors)
        return flat

    def search(self, query: NDArray[np.float32], k: int, *, among: NDArray[np.bool_] | None = None) -> Hits:
        """Return the `k` best rows, exactly; fewer if fewer are allowed.

        Args:
            query: One unit vector, shape (dimension,).
            k: Number of rows, at least 1.
            among: True for rows that may be returned, shape (rows,); all, if not given.

        Raises:
            OptionError: If k is below 1 or the query does not fit.
        """
        if k < 1:
            raise OptionError(f"k must be at least 1, got {k}")
        if query.shape != (self._vectors.shape[1],):
            raise OptionError(
                f"a query of shape {query.shape} does not fit vectors of {self._vectors.shape[1]} numbers"
            )
        import faiss

        allowed = len(self) if among is None else int(among.sum())
        if not allowed:
            return Hits(rows=np.zeros(0, dtype=np.int64), scores=np.zeros(0, dtype=np.float32))
        bits = None if among is None else np.packbits(among, bitorder="little")
        # The selector does not own its bytes: `bits` must outlive the search.
        params = None if bits is None else faiss.SearchParameters(sel=faiss.IDSelectorBitmap(bits))  # type: ignore
        scores, rows = self._faiss.search(query[None], min(k, allowed), params=params)
        return Hits(rows=rows[0].astype(np.int64), scores=scores[0])

    def write(self, file: Path) -> None:
        """Write the FAISS file, of the factory `Flat`."""
        import faiss

        faiss.write_index(self._faiss, str(file))


def _read(file: Path, *, at_most: int) -> Any:  # noqa: ANN401 - faiss has no types
    """Read a FAISS file that may allocate no more than the vectors it is of, whatever its header claims."""
    import faiss

    before = faiss.get_deserialization_vector_byte_limit()
    faiss.set_deserialization_vector_byte_limit(at_most)
    try:
        index = faiss.read_index(str(file))
    except RuntimeError as error:
        raise DataError(f"{file} cannot be read: load the collection again ({error})") from error
    finally:
        faiss.set_deserialization_vector_byte_limit(before)
    if index.metric_type != faiss.METRIC_INNER_PRODUCT:
        raise DataError(f"{file} ranks by another metric than the inner product: load the collection again")
    return index
