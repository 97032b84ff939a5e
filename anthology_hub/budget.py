"""What a run of `generation` will take, before anything is asked: calls, tokens and cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import ceil
from typing import Any

from anthology_hub.errors import OptionError
from anthology_hub.models import LanguageModel
from anthology_hub.schema import Codebook
from anthology_hub.screening import Context, Critic
from anthology_hub.styles import GenerateOptions, Style, Turns, style_of


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run will take at most, with the share of drafts accepted that was assumed; nothing is asked for it."""

    stories: int
    acceptance: float
    calls: int
    """Replies of the model."""
    prompt_tokens: int
    """At most: every earlier reply as long as allowed."""
    reply_tokens: int
    """At most: every reply as long as allowed."""
    critic_calls: int
    critic_tokens: int
    """Prompt tokens of the critic, at most."""

    def cost(self, price_in: float, price_out: float) -> float:
        """Return the cost at prices for a million prompt and reply tokens, the critic at the same prices.

        Raises:
            OptionError: If a price is negative.
        """
        return priced(
            self.prompt_tokens + self.critic_tokens, self.reply_tokens + self.critic_calls, price_in, price_out
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)

    def lines(self) -> list[str]:
        """Return the plan as lines to read."""
        shown = [f"{self.stories} stories, if {self.acceptance:.0%} of the drafts are accepted: {self.calls:,} calls"]
        shown.append(f"at most {self.prompt_tokens:,} prompt and {self.reply_tokens:,} reply tokens")
        if self.critic_calls:
            shown.append(f"critic: {self.critic_calls:,} calls, at most {self.critic_tokens:,} prompt tokens")
        return shown


def priced(prompt_tokens: int, reply_tokens: int, price_in: float, price_out: float) -> float:
    """Return what tokens cost at prices for a million of them.

    Raises:
        OptionError: If a price is negative.

    Example:
        >>> priced(2_000_000, 1_000_000, 0.5, 1.5)
        2.5
    """
    if price_in < 0 or price_out < 0:
        raise OptionError(f"prices for a million tokens must be 0 or more, got {price_in:g} and {price_out:g}")
    return (prompt_tokens * price_in + reply_tokens * price_out) / 1e6


def plan(
    model: LanguageModel,
    n: int,
    *,
    seed: int = 0,
    options: GenerateOptions | None = None,
    quota: Sequence[Mapping[str, str]] = (),
    codebook: Codebook | None = None,
    critic: Critic | None = None,
    acceptance: float = 1.0,
) -> Plan:
    """Return what `generate` with the same arguments will take at most; only the model's tokenizer is asked.

    Args:
        model: Who would write.
        n: Number of backstories.
        seed: Run seed.
        options: How.
        quota: Traits of each story.
        codebook: Of the quota.
        critic: Asked about each draft.
        acceptance: Share of drafts that will be accepted, above 0 and at most 1; unknown before a first run.

    Raises:
        OptionError: If options and quota do not fit each other, or the acceptance is out of its range.

    Example:
        >>> from anthology_hub import open_model
        >>> plan(open_model("scripted:first"), 10).calls
        20
    """
    if not 0 < acceptance <= 1:
        raise OptionError(f"acceptance must be above 0 and at most 1, got {acceptance}: 1 if every draft is kept")
    options = options or GenerateOptions()
    codebook = codebook or Codebook.load("anthology")
    style = style_of(options, n, quota=quota, codebook=codebook, seed=seed)
    calls = prompts = replies = critic_calls = critic_tokens = 0
    for step in range(style.steps):
        share = acceptance if style.screened(step) else 1.0
        most, before = style.sampling(step).max_tokens, sum(style.sampling(s).max_tokens for s in range(step))
        drafts = ceil(n / share)
        # Earlier replies stand in the prompt, and nobody knows them yet.
        known = _mean_tokens(model, style, n, step)
        calls, replies = calls + drafts, replies + drafts * most
        prompts += ceil(drafts * (known + before))
        if critic and style.screened(step):
            context = Context(
                question=style.question(0, step), turns=_blank(style, 0, step) if style.screened(0) else ()
            )
            asked = [prompt.as_text() for prompt in critic.prompts("", context).values()]
            earlier = before if style.screened(0) else 0
            critic_calls += drafts * len(asked)
            critic_tokens += drafts * sum(tokens + most + earlier for tokens in critic.model.count_tokens(asked))
    return Plan(
        stories=n,
        acceptance=acceptance,
        calls=calls,
        prompt_tokens=prompts,
        reply_tokens=replies,
        critic_calls=critic_calls,
        critic_tokens=critic_tokens,
    )


def _blank(style: Style, story: int, step: int) -> Turns:
    return tuple((style.question(story, earlier), "") for earlier in range(step))


def _mean_tokens(model: LanguageModel, style: Style, n: int, step: int) -> float:
    texts = Counter(style.prompt(story, _blank(style, story, step)).as_text() for story in range(n))
    return sum(tokens * k for tokens, k in zip(model.count_tokens(list(texts)), texts.values(), strict=True)) / n
