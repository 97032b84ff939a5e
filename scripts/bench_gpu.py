"""The engine on a GPU: how near to the matrix rate it comes with a model of the shape of Llama-3-8B.

    python scripts/bench_gpu.py [--personas 1000] [--items 20] [--story 400] [--length 60] [--together 16] [--compile]
    python scripts/bench_gpu.py --device cpu --layers 2 --hidden 64 --personas 4 --items 5 --story 60 --length 12

Weights are random, which times the same, so nothing is downloaded. Every persona has a backstory of its own and is
asked every item by itself; `--together` personas go into one call. Measured in the same run: the rate of one large
product of matrices (the limit), the rate of the engine end to end, the most memory, the kernels that take longest, and
the share of the time in which no kernel ran. Some answers are compared with plain transformers. `--compile` compiles
the feed-forward blocks: keep it where the table says that it pays. Exits with 1 below half of the matrix rate, or where
answers differ; needs CUDA, unless `--device cpu` tries the script itself.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile
from transformers import LlamaConfig, LlamaForCausalLM

from anthology_hub.models.prefixes import PrefixCache, state_bytes

SHARE = 0.5
"""Least share of the matrix rate, end to end."""
CLOSE = {torch.bfloat16: 0.1, torch.float32: 1e-3}
"""Largest difference of a logit, by their standard deviation."""


class Bench:
    """A model, and what it is asked."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.given, self.device = given, torch.device(given.device)
        self.dtype = torch.bfloat16 if self.device.type == "cuda" else torch.float32
        heads = max(1, given.hidden // 128)
        self.config = LlamaConfig(
            hidden_size=given.hidden,
            intermediate_size=given.hidden * 7 // 2,
            num_hidden_layers=given.layers,
            num_attention_heads=heads,
            num_key_value_heads=max(1, heads // 4),
            vocab_size=given.vocabulary,
            max_position_embeddings=8192,
            rope_theta=500_000.0,
            dtype=self.dtype,
        )
        with torch.device(self.device):
            self.model = LlamaForCausalLM._from_config(self.config, dtype=self.dtype).eval()
        if given.compile:
            for layer in self.model.model.layers:
                layer.mlp = torch.compile(layer.mlp, dynamic=True)

    def prompts(self, persona: int) -> list[list[int]]:
        """Return what one persona is asked: its story and one item each."""
        given, rng = self.given, np.random.default_rng(persona)
        lengths = rng.integers(round(given.length * 0.8), round(given.length * 1.2) + 1, given.items)
        story = rng.integers(0, given.vocabulary, given.story).tolist()
        return [story + rng.integers(0, given.vocabulary, n).tolist() for n in lengths]

    def batch(self, first: int) -> list[list[int]]:
        """Return the prompts of one call."""
        last = min(first + self.given.together, self.given.personas)
        return [row for persona in range(first, last) for row in self.prompts(persona)]

    def flop(self, rows: int) -> float:
        """Floating point operations of so many answers, with each story once and the head for the last position."""
        config, (story, length) = self.config, (self.given.story, self.given.length)
        size = config.hidden_size // config.num_attention_heads
        heads = 2 * config.num_attention_heads + 2 * config.num_key_value_heads
        linear = 2 * config.num_hidden_layers * config.hidden_size * (size * heads + 3 * config.intermediate_size)
        attention = 4 * config.num_hidden_layers * config.hidden_size
        head = 2 * config.hidden_size * config.vocab_size
        each = linear * length + attention * length * (story + length / 2) + head
        return rows * each + rows / self.given.items * (linear * story + attention * story * story / 2)

    def timed(self, call: Callable[[], object]) -> float:
        """Return the wall seconds until the device is done."""
        self.wait()
        start = time.perf_counter()
        call()
        self.wait()
        return time.perf_counter() - start

    def wait(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def matrix_rate(self) -> float:
        """Operations per second of one large product in the model's precision."""
        n = 8192 if self.device.type == "cuda" else 512
        a, b = (torch.randn(n, n, device=self.device, dtype=self.dtype) for _ in range(2))
        for _ in range(3):
            a @ b
        return 2 * n**3 / median(self.timed(lambda: a @ b) for _ in range(20))

    def difference(self) -> float:
        """Compare some answers with plain transformers: the largest difference of logits by their deviation."""
        rows = [*self.prompts(0)[:3], *self.prompts(1)[:2]]
        found = PrefixCache(self.model).advance(rows)
        with torch.inference_mode():
            wanted = [self.model(torch.tensor([row], device=self.device)).logits[0, -1].float() for row in rows]
        return float((found - torch.stack(wanted)).abs().max() / torch.stack(wanted).std())

    def run(self) -> tuple[float, PrefixCache]:
        """Ask everybody; return the seconds and the cache."""
        cache = PrefixCache(self.model)
        firsts = range(0, self.given.personas, self.given.together)
        return self.timed(lambda: [cache.advance(self.batch(first)) for first in firsts]), cache

    def kernels(self) -> tuple[list[tuple[str, float, int]], float]:
        """Profile one call: name, share of the time and number of each kernel, and the share in which none ran."""
        on_gpu, rows = self.device.type == "cuda", self.batch(0)
        cache = PrefixCache(self.model)
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
        with profile(activities=activities) as found:
            wall = self.timed(lambda: cache.advance(rows)) * 1e6
        spent = "self_device_time_total" if on_gpu else "self_cpu_time_total"
        # On a GPU the calls that start kernels carry their time as well: kernels alone count.
        events = [e for e in found.key_averages() if not on_gpu or str(e.device_type).endswith("CUDA")]
        shares = [(e.key, getattr(e, spent) / wall, e.count) for e in events]
        busy = sum(share for _, share, _ in shares)
        return sorted(shares, key=lambda each: -each[1])[:12], max(0.0, 1 - busy)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shape = {"personas": 1000, "items": 20, "story": 400, "length": 60, "together": 16}
    for name, usual in {**shape, "layers": 32, "hidden": 4096, "vocabulary": 128_256}.items():
        parser.add_argument(f"--{name}", type=int, default=usual)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--compile", action="store_true")
    given = parser.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        print("this benchmark needs a CUDA device and there is none: use --device cpu with small sizes to try it")
        return 1
    bench, on_gpu = Bench(given), given.device == "cuda"
    differs = bench.difference()
    # The first call of every shape pays for choosing kernels.
    PrefixCache(bench.model).advance(bench.batch(0))
    rate = bench.matrix_rate()
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    spent, cache = bench.run()
    answers = given.personas * given.items
    share = bench.flop(answers) / spent / rate
    peak = torch.cuda.max_memory_allocated() / 2**30 if on_gpu else 0.0
    name = torch.cuda.get_device_name() if on_gpu else "CPU"
    print(f"{name}, {bench.dtype}, {given.layers} layers of {given.hidden}{', compiled' if given.compile else ''}\n")
    print("| what | figure | target |\n| --- | --- | --- |")
    print(f"| matrix rate, measured | {rate / 1e12:.2f} TFLOP/s | - |")
    print(f"| {given.personas:,} personas x {given.items} items | {spent:.1f} s | - |")
    print(f"| answers per second | {answers / spent:,.1f} | - |")
    print(f"| share of the matrix rate, end to end | {share:.2f} | >= {SHARE} |")
    print(f"| tokens computed / unique | {cache.tokens.ratio:.3f} | <= 1.05 |")
    print(f"| most memory, weights included | {peak:.1f} GiB | - |" if on_gpu else "| most memory | not read | - |")
    print(f"| keys and values | {state_bytes(bench.model):,} bytes a token, {cache.budget:,} tokens kept | - |")
    print(f"| largest difference of a logit, in deviations | {differs:.1e} | <= {CLOSE[bench.dtype]} |\n")
    top, idle = bench.kernels()
    print("| kernel | share of the time | calls |\n| --- | --- | --- |")
    for kernel, part, calls in top:
        print(f"| `{kernel[:80]}` | {part:.1%} | {calls:,} |")
    print(f"| none | {idle:.1%} | |")
    return int(share < SHARE or differs > CLOSE[bench.dtype] or cache.tokens.ratio > 1.05)


if __name__ == "__main__":
    sys.exit(main())
