"""Answers per CPU second: the shared-prefix engine against plain `generate`, one prompt at a time.

    python scripts/bench_simulate.py [--personas 20] [--items 8] [--rounds 5]

Both go through `simulate` with the same model, personas, questions and seeds, turn by turn in the same process, so
both give the same picks (checked). The peer calls `model.generate(max_new_tokens=1)` on every whole prompt. Printed:
the ratio of answers per CPU second in each round and its median.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence

import torch

from anthology_hub import Anthology, Respondents, Survey, match, simulate
from anthology_hub.models import Choice, Sampling
from anthology_hub.models.local import LocalModel, as_choice, softmax
from anthology_hub.prompts import Prompt
from anthology_hub.quickstart import ITEMS, SURVEY
from anthology_hub.schema import Answers, Matching

LEAST = 4.0


class GenerateModel:
    """The peer: Hugging Face `generate` on each prompt by itself, nothing kept between prompts."""

    def __init__(self, engine: LocalModel) -> None:
        """Take the weights and the tokenizer of an open model."""
        self._engine, self.card = engine, engine.card

    def choose(self, prompts: Sequence[Prompt], options: Sequence[Sequence[str]], sampling: Sampling) -> list[Choice]:
        """Return the option probabilities of each prompt."""
        choices = []
        for prompt, letters in zip(prompts, options, strict=True):
            output = self._engine._model.generate(
                torch.tensor([self._engine.encode(prompt)]),
                attention_mask=None,
                max_new_tokens=1,
                do_sample=False,
                output_logits=True,
                return_dict_in_generate=True,
            )
            probs = softmax(output.logits[0].float().numpy() / sampling.temperature)
            choices.append(as_choice(probs[0], self._engine.option_tokens(tuple(letters), prompt.start)))
        return choices

    def complete(self, prompts: Sequence[Prompt], sampling: Sampling, *, seeds: Sequence[int]) -> list[str]:
        """Not part of this comparison."""
        raise NotImplementedError


def timed(model: LocalModel | GenerateModel, cast: Matching, survey: Survey) -> tuple[Answers, float]:
    """Simulate and return the answers and the CPU seconds of this process."""
    start = time.process_time()
    answers = simulate(cast, survey, model)
    return answers, time.process_time() - start


def main() -> int:
    """Run the rounds and print the ratios; exits with 1 if picks differ or the median ratio is too low."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--personas", type=int, default=20)
    parser.add_argument("--items", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", default="smollm2")
    given = parser.parse_args()
    humans = Respondents.load("gss-2018").sample(given.personas, seed=1)
    cast = match(Anthology.load(), humans, method="optimal")
    survey = Survey.load(SURVEY).select(ITEMS[: given.items])
    ours = LocalModel(given.model)
    peer = GenerateModel(ours)
    size = -(-given.personas // given.rounds)
    ratios, same, spent = [], True, [0.0, 0.0]
    for start in range(0, given.personas, size):
        part = Matching(roles=cast.roles[start : start + size], method=cast.method, collection=cast.collection)
        (mine, fast), (theirs, slow) = timed(ours, part, survey), timed(peer, part, survey)
        same &= bool((mine.picks == theirs.picks).all())
        ratios.append(slow / fast)
        spent[0], spent[1] = spent[0] + fast, spent[1] + slow
        print(
            f"{mine.picks.size} answers: engine {fast:6.1f} CPU s, generate {slow:6.1f} CPU s, ratio {ratios[-1]:.2f}"
        )
    total = given.personas * given.items
    print(f"answers per CPU second: engine {total / spent[0]:.2f}, generate {total / spent[1]:.2f}")
    median = statistics.median(ratios)
    print(f"median ratio {median:.2f} over {len(ratios)} rounds, at least {LEAST} is wanted; same picks: {same}")
    return 0 if same and median >= LEAST else 1


if __name__ == "__main__":
    sys.exit(main())
