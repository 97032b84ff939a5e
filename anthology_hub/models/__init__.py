"""Language models behind two batch methods; `open_model` finds the implementation from a name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from anthology_hub.errors import OptionError, UnknownNameError
from anthology_hub.prompts import Prompt


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What an answer depends on."""

    developer: str
    model: str
    revision: str
    """Content hash of the weights, or the hub's commit."""
    layout: str
    """`chat` (the tokenizer's chat template) or `text` (completion layout)."""
    dtype: str = ""
    device: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How text is drawn; the defaults are the paper's survey settings."""

    temperature: float = 1.0
    """0: always the most probable token."""
    top_p: float = 1.0
    max_tokens: int = 128
    stop: tuple[str, ...] = ("\n", "Question:")
    """The reply ends before the first of these."""

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            OptionError: If a value is outside its range.
        """
        if self.temperature < 0 or not 0 < self.top_p <= 1 or self.max_tokens < 1:
            raise OptionError(
                f"sampling needs temperature >= 0, 0 < top_p <= 1 and max_tokens >= 1, got {self.temperature}, "
                f"{self.top_p}, {self.max_tokens}"
            )


@dataclass(frozen=True, kw_only=True)
class Choice:
    """How probable each option is as the next thing the model says."""

    probs: tuple[float, ...]
    """Normalised over the options."""
    mass: float
    """Total probability of the options before normalising, 0 to 1."""
    unseen: float = 0.0
    """Probability of the tokens that a server did not list: what options may have beyond `probs` and `mass`."""


class LanguageModel(Protocol):
    """What the package needs of a model: two batch methods, and how long a text is; everything else wraps these."""

    @property
    def card(self) -> ModelCard:
        """Identity of the model."""
        ...

    def complete(self, prompts: Sequence[Prompt], sampling: Sampling, *, seeds: Sequence[int]) -> list[str]:
        """Return one sampled reply per prompt; a reply depends on its prompt and its seed only."""
        ...

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return how many tokens each text has; an estimate where the tokenizer is not at hand."""
        ...

    def choose(self, prompts: Sequence[Prompt], options: Sequence[Sequence[str]], sampling: Sampling) -> list[Choice]:
        """Return for each prompt the probability that each of its options comes next, at the sampling's temperature."""
        ...


KINDS = ("local", "scripted", "server")
SCHEMES = ("http://", "https://")


def open_model(
    name: str, *, device: str | None = None, concurrency: int | None = None, deadline: float | None = None
) -> LanguageModel:
    """Open a model by `kind:what`.

    Args:
        name: `local:` and a model folder, GGUF file, installed weights package (`local:smollm2`) or Hub id;
            `scripted:uniform` or `scripted:first`, which need no weights; or the address of an OpenAI-compatible
            server, `http://localhost:8000/v1`, several with commas between (see `ServerModel`). Without a kind,
            `local:` is meant.
        device: Of a local model, `cpu`, `cuda`, ...; the best there is, if not given.
        concurrency: Most requests at once to each server; how many pay is found within that.
        deadline: Seconds within which a server must have answered a prompt, all tries together.

    Raises:
        UnknownNameError: If the kind is unknown.
        OptionError: If a limit is out of its range.
        MissingExtraError: If a server is named and the package that talks to it is missing.
        ModelError: If the model cannot be opened.

    Example:
        >>> open_model("scripted:uniform").card.model
        'uniform'
    """
    if name.startswith(SCHEMES):
        name = f"server:{name}"
    kind, _, what = name.partition(":") if name.split(":")[0] in KINDS or "://" in name else ("local", "", name)
    if kind == "server":
        from anthology_hub.models.server import ServerModel

        given = {"concurrency": concurrency, "deadline": deadline}
        return ServerModel(what, **{limit: value for limit, value in given.items() if value is not None})  # type: ignore[arg-type]
    if kind == "local":
        from anthology_hub.models.local import LocalModel

        return LocalModel(what, device=device)
    if kind == "scripted":
        from anthology_hub.models.scripted import ScriptedModel

        return ScriptedModel(what)
    raise UnknownNameError("kind of model", kind, KINDS)
