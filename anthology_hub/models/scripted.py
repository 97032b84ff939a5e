"""Models that follow a rule instead of weights: for tests, dry runs and baselines."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from anthology_hub.errors import UnknownNameError
from anthology_hub.models import Choice, ModelCard, Sampling
from anthology_hub.prompts import Prompt, derive_seed

Rule = Callable[[Prompt, Sequence[str]], Sequence[float]]
"""From a prompt and its options to the options' weights."""

RULES: dict[str, Rule] = {
    "uniform": lambda _prompt, options: [1.0] * len(options),
    "first": lambda _prompt, options: [1.0] + [0.0] * (len(options) - 1),
}


class ScriptedModel:
    """A model whose option weights come from a function.

    Example:
        >>> model = ScriptedModel("first")
        >>> prompt = Prompt(context="", turns=(), question="Tea or milk?")
        >>> model.choose([prompt], [["A", "B"]], Sampling())[0].probs
        (1.0, 0.0)
    """

    def __init__(self, rule: str | Rule, *, replies: Callable[[Prompt, int], str] | None = None) -> None:
        """Set the rule.

        Args:
            rule: Name of a known rule, or a function.
            replies: From a prompt and a seed to a text; if not given, a random letter of those the prompt shows,
                or a digit.

        Raises:
            UnknownNameError: If there is no rule of that name.
        """
        if isinstance(rule, str) and rule not in RULES:
            raise UnknownNameError("scripted model", rule, RULES)
        self._rule = RULES[rule] if isinstance(rule, str) else rule
        self._replies = replies or _random_letter
        name = rule if isinstance(rule, str) else getattr(rule, "__name__", "function")
        self.card = ModelCard(developer="scripted", model=name, revision="1", layout="text")
        self.asked = 0
        """How many prompts were answered so far."""

    def complete(self, prompts: Sequence[Prompt], sampling: Sampling, *, seeds: Sequence[int]) -> list[str]:
        """Return the scripted replies."""
        self.asked += len(prompts)
        return [self._replies(prompt, seed) for prompt, seed in zip(prompts, seeds, strict=True)]

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return the number of words: a rule has no tokens."""
        return [len(text.split()) for text in texts]

    def choose(self, prompts: Sequence[Prompt], options: Sequence[Sequence[str]], sampling: Sampling) -> list[Choice]:
        """Return the rule's weights, normalised."""
        self.asked += len(prompts)
        choices = []
        for prompt, letters in zip(prompts, options, strict=True):
            weights = self._rule(prompt, letters)
            choices.append(Choice(probs=tuple(w / sum(weights) for w in weights), mass=1.0))
        return choices


def _random_letter(prompt: Prompt, seed: int) -> str:
    shown = [line[1] for line in prompt.question.splitlines() if line[:1] == "(" and line[2:3] == ")"]
    # Where there is nothing to choose from, a number is asked for, or words.
    return f"({random.Random(derive_seed('scripted', seed)).choice(shown or '123456789')})"
