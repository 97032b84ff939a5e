"""How servers that speak the OpenAI protocol differ: one table, each entry with its source. Nothing is asked here.

`docs/serving.md` shows the same table with the commands that start each server, and says what of it is tested.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from anthology_hub.errors import UnknownNameError

CHAT, TEXT = "chat", "completions"
"""The two ways to ask: `/chat/completions` and `/completions`."""


@dataclass(frozen=True, kw_only=True)
class Tokenizer:
    """Where a server counts tokens."""

    path: str
    """Relative to the base address, which ends in `/v1`."""
    text: str
    """Field of the request that holds the text."""
    answer: str = ""
    """Field of the reply that holds the tokens or their number; empty: the reply itself is the list."""


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """What one kind of server offers, and what it wants to be told."""

    name: str
    owner: str = ""
    """What it says in `owned_by` of its models; tells it apart."""
    host: str = ""
    """Host of the service, where there is one."""
    ways: tuple[tuple[str, int], ...] = ((CHAT, 20), (CHAT, 5), (TEXT, 20), (TEXT, 5), (CHAT, 0), (TEXT, 0))
    """Ways to ask, best first, each with the most probabilities that it lists for a token (0: none)."""
    prefill: Mapping[str, Any] | None = None
    """What makes it go on with the last message of a chat; None: it cannot, and the answer begins anew."""
    plain: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    """What makes it draw from the whole distribution, where it would cut it by itself."""
    stops: int = 4
    """Most stop strings; the client cuts at all of them anyway."""
    limit: str = "max_tokens"
    """Field that limits the length of a reply in a chat."""
    seeded: bool = True
    """Whether the same seed gives the same text."""
    tokenizer: Tokenizer | None = None
    sources: tuple[str, ...] = ()


VLLM = Dialect(
    name="vllm",
    owner="vllm",
    ways=((CHAT, 20), (TEXT, 20), (CHAT, 5), (CHAT, 0), (TEXT, 0)),
    prefill={"continue_final_message": True, "add_generation_prompt": False},
    plain={"top_k": 0, "min_p": 0.0},
    stops=64,
    tokenizer=Tokenizer(path="../tokenize", text="prompt", answer="count"),
    sources=("https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html", "vllm-project/vllm#6772"),
)
SGLANG = Dialect(
    name="sglang",
    owner="sglang",
    ways=((CHAT, 50), (TEXT, 50), (CHAT, 0), (TEXT, 0)),
    prefill={"continue_final_message": True},
    plain={"top_k": -1, "min_p": 0.0},
    stops=64,
    tokenizer=Tokenizer(path="../tokenize", text="prompt", answer="count"),
    sources=("https://docs.sglang.io/basic_usage/sampling_params.html", "sgl-project/sglang#4226"),
)
LLAMA_CPP = Dialect(
    name="llama.cpp",
    owner="llamacpp",
    ways=((CHAT, 100), (TEXT, 100), (CHAT, 0), (TEXT, 0)),
    # It goes on with a last message of the assistant by itself.
    prefill={},
    plain={"top_k": 0, "min_p": 0.0},
    stops=64,
    tokenizer=Tokenizer(path="../tokenize", text="content", answer="tokens"),
    sources=("https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md", "tested here"),
)
OLLAMA = Dialect(
    name="ollama",
    owner="library",
    ways=((CHAT, 20), (TEXT, 20), (CHAT, 0), (TEXT, 0)),
    prefill={},
    stops=64,
    sources=("https://docs.ollama.com/api/openai-compatibility", "ollama/ollama#16867", "ollama/ollama#16117"),
)
TGI = Dialect(
    name="tgi",
    ways=((CHAT, 5), (CHAT, 0), (TEXT, 0)),
    prefill={"continue_final_message": True},
    tokenizer=Tokenizer(path="../tokenize", text="inputs"),
    sources=("huggingface/text-generation-inference#2733", "huggingface/text-generation-inference#2108"),
)
OPENAI = Dialect(
    name="openai",
    host="api.openai.com",
    ways=((CHAT, 20), (TEXT, 5), (CHAT, 0)),
    limit="max_completion_tokens",
    seeded=False,
    sources=("https://platform.openai.com/docs/api-reference/chat/create", "openai/openai-python#38"),
)
TRANSFORMERS = Dialect(
    name="transformers",
    ways=((CHAT, 0), (TEXT, 0)),
    seeded=False,
    sources=("transformers/cli/serving/chat_completion.py, UNUSED_CHAT_COMPLETION_FIELDS (5.23)", "tested here"),
)
OTHER = Dialect(name="other", sources=("what each of them would do at the least",))
DIALECTS = (VLLM, SGLANG, LLAMA_CPP, OLLAMA, TGI, OPENAI, TRANSFORMERS, OTHER)


def dialect_named(name: str) -> Dialect:
    """Return the dialect of a kind of server.

    Raises:
        UnknownNameError: If there is none of that name.

    Example:
        >>> dialect_named("vllm").ways[0]
        ('chat', 20)
    """
    known = {dialect.name: dialect for dialect in DIALECTS}
    if name not in known:
        raise UnknownNameError("kind of server", name, known)
    return known[name]


def dialect_of(host: str, owner: str) -> Dialect:
    """Return the dialect of a server by its host and what its list of models says of their owner.

    Example:
        >>> dialect_of("localhost", "llamacpp").name, dialect_of("localhost", "me").name
        ('llama.cpp', 'other')
    """
    return next((d for d in DIALECTS if (d.host and d.host == host) or (d.owner and d.owner == owner)), OTHER)


def as_table() -> str:
    """Return the table as Markdown, for `docs/serving.md`."""
    head = ("server", "asked by, most probabilities listed", "answer begun for it", "stop strings", "seed", "tokens")
    rows = [
        (
            dialect.name,
            ", ".join(f"{way} {most or 'none'}" for way, most in dialect.ways),
            "no" if dialect.prefill is None else ", ".join(dialect.prefill) or "by itself",
            str(dialect.stops),
            "kept" if dialect.seeded else "not kept",
            dialect.tokenizer.path.removeprefix("..") if dialect.tokenizer else "estimated",
        )
        for dialect in DIALECTS
    ]
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
