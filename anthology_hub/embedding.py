"""Texts to passages to vectors, batch by batch: in process, or over the workers of a cluster, with a run folder.

Both engines take the same batches of texts, so both compute the same; a run folder that one began the other finishes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from anthology_hub.cluster import Cluster, spread
from anthology_hub.encoding import Encoder
from anthology_hub.errors import RunError
from anthology_hub.runs import ANEW, Progress, RunFolder, provenance
from anthology_hub.schema import digest

if TYPE_CHECKING:
    from numpy.typing import NDArray

PARTS = "passages"
TEXTS = 64
"""Texts in a batch: seconds of work on a CPU, and few enough that a lost one costs little."""


@dataclass(frozen=True, kw_only=True)
class Passages:
    """The passages of one text and their vectors."""

    text: int
    """Position of the text."""
    spans: tuple[tuple[int, int], ...]
    """Start and end of each passage, in characters."""
    vectors: NDArray[np.float32]
    """Unit vectors, shape (passages, dimension)."""


def embedded(
    texts: Sequence[str],
    encoder: Encoder,
    *,
    folder: str | Path | None = None,
    ray: Cluster | str | None = None,
    progress: Progress | None = None,
) -> list[Passages]:
    """Cut texts into passages and embed them.

    Args:
        texts: Any texts.
        encoder: Whose vectors.
        folder: Run folder, a path or a URI: written batch by batch, and continued if it is there already.
        ray: Spread the batches over this cluster; in process, if not given.
        progress: Called with texts done and in all.

    Returns:
        One for each text, in their order.

    Raises:
        RunError: If the folder belongs to other texts or another encoder, or a part of it is broken.

    Example:
        >>> found = embedded(["I grew up on a farm.", "I drive a truck."], Encoder())
        >>> [passages.spans for passages in found], found[0].vectors.shape
        ([((0, 20),), ((0, 16),)], (1, 384))
    """
    store = RunFolder.open(folder, _provenance(texts, encoder)) if folder is not None else None
    known = _read(store, len(texts)) if store else {}
    progress = progress or (lambda _done, _total: None)
    progress(len(known), len(texts))
    batches = (range(start, min(start + TEXTS, len(texts))) for start in range(0, len(texts), TEXTS))
    due = [{at: texts[at] for at in batch} for batch in batches if not all(at in known for at in batch)]
    for found in spread(due, _Embedder(encoder=encoder, store=store), cluster=ray):
        known |= {passages.text: passages for passages in found}
        progress(len(known), len(texts))
    if store:
        store.log("finished", texts=len(known))
    return [known[at] for at in range(len(texts))]


@dataclass(frozen=True, kw_only=True)
class _Embedder:
    """Embeds a batch and keeps it, in process or as a worker."""

    encoder: Encoder
    store: RunFolder | None

    def __call__(self, texts: Mapping[int, str]) -> list[Passages]:
        spans = {at: tuple(self.encoder.passages(text)) for at, text in texts.items()}
        vectors = self.encoder.encode([texts[at][a:b] for at in texts for a, b in spans[at]])
        ends = np.cumsum([len(spans[at]) for at in texts])[:-1]
        rows = np.split(vectors, ends)
        found = [Passages(text=at, spans=spans[at], vectors=own) for at, own in zip(texts, rows, strict=True)]
        if self.store:
            self.store.write(PARTS, list(map(_row, found)), _schema(), key=list(texts))
        return found


def _row(passages: Passages) -> dict[str, Any]:
    starts, ends = zip(*passages.spans, strict=True) if passages.spans else ((), ())
    return {
        "text": passages.text,
        "starts": list(starts),
        "ends": list(ends),
        "vectors": np.ascontiguousarray(passages.vectors, "<f4").tobytes(),
    }


def _schema() -> Any:  # noqa: ANN401 - pyarrow has no types
    import pyarrow as pa

    places = pa.list_(pa.int32())
    return pa.schema([("text", pa.int64()), ("starts", places), ("ends", places), ("vectors", pa.binary())])


def _provenance(texts: Sequence[str], encoder: Encoder) -> dict[str, Any]:
    inputs = {"task": "embed", "texts": {"n": len(texts), "digest": digest(list(texts))}}
    return provenance({**inputs, "encoder": encoder.card.to_dict()}, {"batch_size": TEXTS})


def _read(store: RunFolder, n: int) -> dict[int, Passages]:
    found: dict[int, Passages] = {}
    width = int(store.provenance["inputs"]["encoder"]["dimension"])
    for file, rows in store.read(PARTS):
        try:
            part = [_passages(row, width) for row in rows]
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(f"{file} is broken ({error}): {ANEW}") from error
        if strange := [one.text for one in part if not 0 <= one.text < n]:
            raise RunError(f"{file} is about text {strange[0]} of {n}, not of this run: {ANEW}")
        found |= {one.text: one for one in part}
    return found


def _passages(row: Mapping[str, Any], width: int) -> Passages:
    vectors = np.frombuffer(row["vectors"], "<f4").reshape(len(row["starts"]), width)
    return Passages(text=row["text"], spans=tuple(zip(row["starts"], row["ends"], strict=True)), vectors=vectors)
