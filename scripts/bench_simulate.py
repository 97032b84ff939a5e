"""Answers of the engine that computes what prompts share once, beside plain transformers on the same prompts.

    python scripts/bench_simulate.py [--items 20] [--story 400] [--length 60] [--rounds 5] [--personas 2] [--only TEXT]

A backstory of `--story` tokens and `--items` questions of `--length` tokens (give or take a fifth), each asked by
itself; the texts are those of the starter collection and the packaged surveys, cut to length. The peer is what a user
writes first: `model.generate(max_new_tokens=1)` on one whole prompt after the other. Two more ways are timed beside it:
`model(...)`, which gives the logits of every position, and `generate` on padded batches of whole prompts. Weights are
those of the embedded small model, and random ones of the same shape. Then six real questions go through `simulate`
with either model.

Rounds alternate in one process with one thread; CPU seconds count; ways without a target are timed once. Every
probability of the whole vocabulary must be within 1e-5 of the peer's, and picks must be the same. Medians are held to
the targets with the 15 % that a noisy machine needs. Prints Markdown tables; exits with 1 below a target or where
answers differ.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import cycle, islice
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from anthology_hub import Anthology, Respondents, SimulateOptions, Survey, match, simulate
from anthology_hub.models import Choice, Sampling
from anthology_hub.models.local import LocalModel, as_choice
from anthology_hub.models.prefixes import PrefixCache, TokenCount, state_bytes
from anthology_hub.prompts import Prompt, question_text
from anthology_hub.quickstart import ITEMS, SURVEY
from anthology_hub.schema import Matching

CLOSE = 1e-5
ALLOWANCE = 0.85
MOST_COMPUTED = 1.05

Probabilities = NDArray[np.float32]
Rows = list[list[int]]


@dataclass(frozen=True, kw_only=True)
class Task:
    """The same answers twice, as probabilities or picks."""

    name: str
    peer: str
    ours: Callable[[], NDArray[Any]]
    theirs: Callable[[], NDArray[Any]]
    target: float = 0.0
    times: int = 1
    """How many times the peer's work ours does."""


class GenerateModel:
    """The peer behind `simulate`: `generate` on each prompt by itself, nothing kept between prompts."""

    def __init__(self, engine: LocalModel) -> None:
        """Take the weights and the tokenizer of an open model."""
        self._engine, self.card = engine, engine.card

    def choose(self, prompts: Sequence[Prompt], options: Sequence[Sequence[str]], sampling: Sampling) -> list[Choice]:
        """Return the option probabilities of each prompt."""
        choices = []
        for prompt, letters in zip(prompts, options, strict=True):
            tokens = self._engine.option_tokens(tuple(letters), prompt.start)
            probs = by_generate(self._engine._model, [self._engine.encode(prompt)])[0].astype(np.float64)
            choices.append(as_choice([float(probs[option].sum()) for option in tokens]))
        return choices

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each text."""
        return self._engine.count_tokens(texts)

    def complete(self, prompts: Sequence[Prompt], sampling: Sampling, *, seeds: Sequence[int]) -> list[str]:
        """Not part of this comparison."""
        raise NotImplementedError


def by_generate(model: Any, rows: Rows) -> Probabilities:  # noqa: ANN401
    """One prompt at a time, one new token."""
    return np.concatenate([_generated(model, torch.tensor([row]), None) for row in rows])


def by_batches(model: Any, rows: Rows, *, size: int = 8) -> Probabilities:  # noqa: ANN401
    """Whole prompts in batches, padded on the left, those of like length together."""
    order = sorted(range(len(rows)), key=lambda at: len(rows[at]))
    found: dict[int, Probabilities] = {}
    for start in range(0, len(order), size):
        batch = [rows[at] for at in order[start : start + size]]
        width = max(map(len, batch))
        ids = torch.tensor([[0] * (width - len(row)) + row for row in batch])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in batch])
        found |= dict(zip(order[start : start + size], _generated(model, ids, mask), strict=True))
    return np.stack([found[at] for at in range(len(rows))])


def _generated(model: Any, ids: torch.Tensor, mask: torch.Tensor | None) -> Probabilities:  # noqa: ANN401
    output = model.generate(
        ids,
        attention_mask=mask,
        max_new_tokens=1,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
        pad_token_id=0,
    )
    return np.asarray(output.logits[0].float().softmax(dim=-1).numpy())


def by_forward(model: Any, rows: Rows) -> Probabilities:  # noqa: ANN401
    """One prompt at a time, the logits of every position."""
    with torch.inference_mode():
        return np.stack([model(torch.tensor([row])).logits[0, -1].softmax(dim=-1).numpy() for row in rows])


def by_engine(model: Any, calls: Sequence[Rows]) -> tuple[Probabilities, TokenCount]:  # noqa: ANN401
    """Ours, with an empty cache, call after call."""
    cache = PrefixCache(model)
    probs = np.concatenate([cache.advance(rows).softmax(dim=-1).numpy() for rows in calls])
    return probs, cache.tokens


class Bench:
    """The prompts and the two models."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.given, self.engine = given, LocalModel(given.model)
        self.real, self.random = self.engine._model, type(self.engine._model)(self.engine._model.config).eval()
        encode = self.engine._tokenizer
        stories = " ".join(persona.backstory for persona in Anthology.load().sample(200, seed=1))
        self.stories = encode(stories, add_special_tokens=False)["input_ids"]
        questions = [q for name in (SURVEY, "bfi") for q in Survey.load(name).questions]
        texts = "\n".join(question_text(q, range(len(q.options)), consistency=True) for q in questions)
        self.texts = encode(texts, add_special_tokens=False)["input_ids"]

    def prompts(self, persona: int, *, items: int = 0) -> Rows:
        """Return what one persona is asked, each question by itself."""
        given, rng = self.given, np.random.default_rng(persona)
        story = list(islice(cycle(self.stories), persona * given.story, (persona + 1) * given.story))
        lengths = rng.integers(round(given.length * 0.8), round(given.length * 1.2) + 1, items or given.items)
        starts = rng.integers(0, len(self.texts) - 2 * given.length, len(lengths))
        # A first token of its own keeps what two questions share to the backstory.
        return [
            [*story, 100 + at, *self.texts[s : s + n - 1]]
            for at, (s, n) in enumerate(zip(starts.tolist(), lengths.tolist(), strict=True))
        ]

    @cached_property
    def tokens(self) -> TokenCount:
        """What the engine computes for one persona."""
        return by_engine(self.real, [self.prompts(0)])[1]

    def ideal(self) -> float:
        """The most that sharing can give: floating point operations of whole prompts by those with one story."""
        config, (story, length, items) = self.real.config, (self.given.story, self.given.length, self.given.items)
        size = config.hidden_size // config.num_attention_heads
        heads = 2 * config.num_attention_heads + 2 * config.num_key_value_heads
        linear = 2 * config.num_hidden_layers * config.hidden_size * (size * heads + 3 * config.intermediate_size)
        attention = 4 * config.num_hidden_layers * config.num_attention_heads * size

        def cost(new: int, past: int) -> float:
            return linear * new + attention * new * (past + new / 2)

        return items * cost(story + length, 0) / (cost(story, 0) + items * cost(length, story))

    def tasks(self) -> list[Task]:
        """Everything that is timed."""
        rows, real, given = self.prompts(0), self.real, self.given
        what = f"{given.items} items of {given.length} tokens on {given.story}"
        lock_step = [self.prompts(persona) for persona in range(4)]
        one_by_one, shared = partial(by_generate, real, rows), lambda: by_engine(real, [rows])[0]
        series = [rows[0]]
        for row in rows[1:8]:
            series.append([*series[-1], *row[given.story :]])
        return [
            Task(
                name=what,
                peer="`generate`, one prompt at a time",
                target=5.1,
                ours=shared,
                theirs=one_by_one,
            ),
            Task(
                name="the same",
                peer="`model(...)`, logits of every position",
                ours=shared,
                theirs=lambda: by_forward(real, rows),
            ),
            Task(
                name="the same",
                peer="`generate`, padded batches of 8 whole prompts",
                ours=shared,
                theirs=lambda: by_batches(real, rows),
            ),
            Task(
                name="the same, random weights",
                peer="`generate`, one prompt at a time",
                target=5.1,
                ours=lambda: by_engine(self.random, [rows])[0],
                theirs=lambda: by_generate(self.random, rows),
            ),
            Task(
                name="the same, 4 personas in lock step, item by item",
                peer="`generate`, one prompt at a time (1 persona)",
                times=4,
                ours=lambda: by_engine(real, list(map(list, zip(*lock_step, strict=True))))[0][::4],
                theirs=one_by_one,
            ),
            Task(
                name=f"{len(series)} items in series, each after all before it",
                peer="`generate`, one prompt at a time",
                ours=lambda: by_engine(real, [[row] for row in series])[0],
                theirs=lambda: by_generate(real, series),
            ),
            Task(
                name=f"`simulate`, {given.personas} personas x 6 questions in series",
                peer="the same with `generate` on every prompt",
                target=4.0,
                ours=lambda: self.simulated(self.emptied()),
                theirs=lambda: self.simulated(GenerateModel(self.engine)),
            ),
        ]

    @cached_property
    def cast(self) -> Matching:
        """Personas for real respondents."""
        return match(Anthology.load(), Respondents.load("gss-2018").sample(self.given.personas, seed=1))

    def emptied(self) -> LocalModel:
        """Return the engine with nothing in its cache."""
        self.engine._cache = PrefixCache(self.real)
        return self.engine

    def simulated(self, model: LocalModel | GenerateModel) -> NDArray[Any]:
        """Return the picks of the whole verb."""
        options = SimulateOptions(conditioning="anthology")
        return simulate(self.cast, Survey.load(SURVEY).select(ITEMS[:6]), model, options=options).picks  # type: ignore[arg-type]

    def growth(self) -> list[tuple[str, int, float]]:
        """CPU seconds of the engine as items and personas grow."""
        few = max(1, self.given.items // 5)
        plan = [("items", few, 1), ("items", 10 * few, 1), ("personas", 4, 1), ("personas", 4, 10)]
        found = []
        for what, items, personas in plan:
            calls = [self.prompts(persona, items=items) for persona in range(personas)]
            spent = seconds(lambda calls=calls: by_engine(self.real, calls)[0])[0]  # type: ignore[misc]
            found.append((what, items if what == "items" else personas, spent))
        return found


def seconds(call: Callable[[], NDArray[Any]]) -> tuple[float, NDArray[Any]]:
    """Return the CPU seconds of one call, and what it gave."""
    start = time.process_time()
    found = call()
    return time.process_time() - start, found


def differ(task: Task, ours: NDArray[Any], theirs: NDArray[Any]) -> float:
    """Return the largest difference; of picks the share that is not the same."""
    return float(np.mean(ours != theirs)) if ours.dtype.kind == "i" else float(np.abs(ours - theirs).max())


def main() -> int:
    """Time every task in turn and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=20)
    parser.add_argument("--story", type=int, default=400)
    parser.add_argument("--length", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--personas", type=int, default=2)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--only", default="", help="rows whose name holds this, and no growth")
    given = parser.parse_args()
    torch.set_num_threads(1)
    bench = Bench(given)
    tasks, failed = [task for task in bench.tasks() if given.only in task.name], False
    by_generate(bench.real, bench.prompts(0)[:1])
    times: list[list[tuple[float, float]]] = [[] for _ in tasks]
    gaps = [0.0 for _ in tasks]
    for number in range(given.rounds):
        # What stands in several rows of the table is timed once in a round.
        due = [task for task in tasks if task.target or not number]
        timed = {call: seconds(call) for task in due for call in (task.theirs, task.ours)}
        for at, task in enumerate(tasks):
            if task not in due:
                continue
            (slow, theirs), (fast, ours) = timed[task.theirs], timed[task.ours]
            times[at].append((slow, fast / task.times))
            gaps[at] = max(gaps[at], differ(task, ours, theirs))
        print(f"round {number + 1} of {given.rounds}", file=sys.stderr, flush=True)
    print(f"CPU seconds, one thread, medians of {given.rounds} rounds; ideal by FLOP {bench.ideal():.2f} times.\n")
    print("| hot path | peer | peer's figure | ours | ratio | target | largest difference |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for task, each, gap in zip(tasks, times, gaps, strict=True):
        theirs, ours, ratio = (median(column) for column in zip(*((s, f, s / f) for s, f in each), strict=True))
        failed |= ratio < ALLOWANCE * task.target or gap > CLOSE
        wanted = f">= {task.target}" if task.target else "-"
        print(f"| {task.name} | {task.peer} | {theirs:.2f} s | {ours:.2f} s | {ratio:.2f} | {wanted} | {gap:.0e} |")
    tokens = bench.tokens
    failed |= tokens.ratio > MOST_COMPUTED
    print(
        f"| tokens computed / unique | prompts whole | {tokens.asked:,} | {tokens.computed:,} / {tokens.unique:,} "
        f"| {tokens.ratio:.3f} | <= {MOST_COMPUTED} | - |"
    )
    if given.only:
        return int(failed)
    print(f"\nKeys and values: {state_bytes(bench.real):,} bytes a token. Growth of CPU seconds:\n")
    print("| what grows | n | CPU s | exponent |\n| --- | --- | --- | --- |")
    few: float | None = None
    for what, n, spent in bench.growth():
        exponent = "" if few is None else f"{math.log(spent / few) / math.log(10):.2f}"
        few = spent if few is None else None
        print(f"| {what} | {n} | {spent:.2f} | {exponent} |")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
