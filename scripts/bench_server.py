"""Simulation over HTTP beside EDSL, the openai client and litellm: the same stub server, which answers at once.

python scripts/bench_server.py [--people 50] [--questions 20] [--rounds 3] [--large 1000]

Every persona answers every question. The peers' part is the smaller one: the clients send ready messages (a persona
and a question, without history) and keep the reply; EDSL asks its own multiple-choice questions with its agents. Ours
builds prompts with the history of earlier answers, reads probabilities, draws, and writes a run folder. The openai
client is used as its documents say, AsyncOpenAI with a semaphore, with its own transport and with that of aiohttp.
Rounds alternate in one process with one thread, the stub has its own; CPU seconds of the client process count, medians
are compared. The large run, its resume and the run with failures have processes of their own, whose peak memory counts.

Prints a Markdown table and exits with 1 where a target is missed by more than 15 % or an answer is wrong or missing.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import numpy as np

from anthology_hub import Survey, open_model, simulate
from anthology_hub.models.server import read_choice
from anthology_hub.prompts import labels_of
from anthology_hub.schema import FAILED, Answers, Matching, Persona, Question, Role
from anthology_hub.simulation import gaps_of

ROOT = Path(__file__).parents[1]
OPTIONS = ("Too little", "About right", "Too much")
AT_ONCE, ALLOWANCE = 64, 1.15
LIFE = "I grew up on a farm near the river, where my father kept sheep and my mother taught at the school. " * 8


@contextmanager
def stub(fail: float = 0.0) -> Iterator[str]:
    """Run the stub in its own process and yield its address."""
    command = [sys.executable, str(ROOT / "tests" / "stub_server.py"), "--fail", str(fail), "--say", "|".join(OPTIONS)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.communicate()


def stories(people: int) -> list[str]:
    """Return the backstories."""
    return [f"I am number {at}. {LIFE}" for at in range(people)]


def survey(questions: int) -> Survey:
    """Return the questions."""
    asked = tuple(
        Question(key=f"q{at}", text=f"Do we spend enough on matter {at}?", options=OPTIONS, codes=(1, 2, 3))
        for at in range(questions)
    )
    return Survey(name="bench", title="Bench", source="made", questions=asked)


def cast(people: int) -> Matching:
    """Return the roles."""
    roles = [
        Role(
            respondent_id=f"r{at}",
            weight=1.0,
            traits={"age": f"My age is {20 + at % 60}."},
            persona=Persona(persona_id=Persona.id_of(story), backstory=story),
        )
        for at, story in enumerate(stories(people))
    ]
    return Matching(roles=tuple(roles), method="bench")


def ours(url: str, people: int, questions: int, folder: Path, *, deadline: float = 600.0) -> Answers:
    """Ask with this package, into a run folder."""
    return simulate(cast(people), survey(questions), open_model(url, deadline=deadline), folder=folder)


def messages(people: int, questions: int) -> list[list[dict[str, str]]]:
    """Return what the clients send, ready made."""
    told = [f"{q.text}\n" + "\n".join(f"({label}) {o}" for label, o in zip(labels_of(3), q.options, strict=True))
            for q in survey(questions).questions]  # fmt: skip
    return [
        [{"role": "system", "content": story}, {"role": "user", "content": text}]
        for story in stories(people)
        for text in told
    ]


ASKED = {"max_tokens": 1, "temperature": 1.0, "logprobs": True, "top_logprobs": 20}


async def _each(send: Callable[[list[dict[str, str]]], object], people: int, questions: int) -> int:
    """Send all messages, some at once, and return how many choices could be read."""
    at_once, read = asyncio.Semaphore(AT_ONCE), 0

    async def one(asked: list[dict[str, str]]) -> None:
        nonlocal read
        async with at_once:
            reply = await send(asked)  # type: ignore[misc]
            top = reply.choices[0].logprobs.content[0].top_logprobs
            read += read_choice([(token.token, token.logprob) for token in top], labels_of(3)).mass > 0

    await asyncio.gather(*(one(asked) for asked in messages(people, questions)))
    return read


def openai_client(url: str, people: int, questions: int, *, aiohttp: bool) -> int:
    """Ask with AsyncOpenAI and a semaphore."""
    from openai import AsyncOpenAI, DefaultAioHttpClient

    async def run() -> int:
        http = {"http_client": DefaultAioHttpClient()} if aiohttp else {}
        async with AsyncOpenAI(base_url=url, api_key="none", **http) as client:
            send = client.chat.completions.create
            return await _each(lambda asked: send(model="lab/tiny", messages=asked, **ASKED), people, questions)

    return asyncio.run(run())


def litellm_client(url: str, people: int, questions: int) -> int:
    """Ask with litellm.acompletion and a semaphore."""
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    import litellm

    litellm.suppress_debug_info = True
    send = litellm.acompletion
    how = {"model": "openai/lab/tiny", "api_base": url, "api_key": "none", **ASKED}
    return asyncio.run(_each(lambda asked: send(messages=asked, **how), people, questions))


def edsl_survey(url: str, people: int, questions: int) -> int:
    """Ask with EDSL: agents with traits, multiple-choice questions, a model of an OpenAI-compatible service."""
    os.environ.update(OPENAI_COMPATIBLE_BASE_URL=url, OPENAI_COMPATIBLE_API_KEY="none")
    from edsl import Agent, AgentList, Model, QuestionMultipleChoice
    from edsl import Survey as Questions
    from edsl.caching import Cache

    agents = AgentList([Agent(traits={"persona": story}) for story in stories(people)])
    asked = [
        QuestionMultipleChoice(question_name=q.key, question_text=q.text, question_options=list(OPTIONS))
        for q in survey(questions).questions
    ]
    jobs = Questions(asked).by(agents).by(Model("lab/tiny", service_name="openai_compatible"))
    results = jobs.run(
        disable_remote_inference=True, disable_remote_cache=True, cache=Cache(), progress_bar=False, verbose=False
    )
    return sum(one["answer"][q.question_name] in OPTIONS for one in results for q in asked)


PEERS: dict[str, tuple[str, Callable[[str, int, int], int]]] = {
    "EDSL": ("edsl", edsl_survey),
    "openai": ("openai", lambda url, p, q: openai_client(url, p, q, aiohttp=False)),
    "openai on aiohttp": ("httpx_aiohttp", lambda url, p, q: openai_client(url, p, q, aiohttp=True)),
    "litellm": ("litellm", litellm_client),
}
LEAST = {"EDSL": 6.0}
"""Times faster than a peer that ours must be: 8 ms of EDSL's against 1.3."""


def rounds(url: str, people: int, questions: int, n: int) -> tuple[dict[str, float], list[str]]:
    """Return the median CPU milliseconds per answer of each, and what was wrong."""
    wrong, total = list[str](), people * questions
    spent: dict[str, list[float]] = {"ours": [], **{name: [] for name, (module, _) in PEERS.items() if _there(module)}}
    with tempfile.TemporaryDirectory() as folder:
        # One round apart, so that imports and first connections count for nobody.
        for at in range(n + 1):
            for name in spent:
                size = people if at else 2
                began = time.process_time()
                if name == "ours":
                    read = int((ours(url, size, questions, Path(folder) / f"{at}").statuses != FAILED).sum())
                else:
                    read = PEERS[name][1](url, size, questions)
                if at:
                    spent[name].append((time.process_time() - began) / total * 1000)
                    wrong += [f"{name} read {read} of {total} answers"] * (read != total)
    return {name: median(each) for name, each in spent.items()}, wrong


def _there(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _peak() -> float:
    """Peak memory of this process in MB; what `getrusage` says begins with that of the process that started it."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def child(url: str, people: int, questions: int, folder: str, deadline: float) -> None:
    """Run the large job and its resume, and print the figures."""
    wall, began = time.perf_counter(), time.process_time()
    answers = ours(url, people, questions, Path(folder), deadline=deadline)
    spent, wall = time.process_time() - began, time.perf_counter() - wall
    peak = _peak()
    began = time.process_time()
    again = ours(url, people, questions, Path(folder))
    resumed = time.process_time() - began
    same = np.array_equal(answers.picks, again.picks) and np.array_equal(answers.probs, again.probs)
    logged = [json.loads(line) for line in (Path(folder) / "events.jsonl").read_text().splitlines()]
    # The one request of a resume is that which opens the model.
    asked = [event["requests"] for event in logged if event["event"] == "traffic"]
    n = people * questions
    found = {"cpu": spent / n * 1000, "wall": wall, "peak": peak, "resume": resumed / n * 1000, "same": same,
             "gaps": gaps_of(answers), "asked_again": asked[-1] - 1, "digest": answers.picks.tobytes().hex()[:4000],
             "traffic": [event for event in logged if event["event"] == "traffic"][0]}  # fmt: skip
    print(json.dumps(found))


def large(people: int, questions: int, *, fail: float = 0.0) -> dict[str, object]:
    """Do the large job in its own process."""
    with stub(fail) as url, tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--child", url, f"{folder}/run", str(20.0 if fail else 600.0)]
        command += ["--people", str(people), "--questions", str(questions)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=os.environ)
        return dict(json.loads(done.stdout.splitlines()[-1]))


def growth(answers: list[int], grown: list[dict[str, object]]) -> str:
    """Return a table of what so many answers take, and the exponents of the line through the logarithms."""
    spent = [float(one["cpu"]) * n / 1000 for n, one in zip(answers, grown, strict=True)]  # type: ignore[arg-type]
    held = [float(one["peak"]) for one in grown]  # type: ignore[arg-type]
    lines = ["| answers | CPU s | peak MB |", "|---|---|---|"]
    lines += [f"| {n:,} | {s:.2f} | {mb:.0f} |" for n, s, mb in zip(answers, spent, held, strict=True)]
    exponents = [float(np.polyfit(np.log(answers), np.log(cost), 1)[0]) for cost in (spent, held)]
    return "\n".join([*lines, f"| grows as n^ | {exponents[0]:.2f} | {exponents[1]:.2f} |"])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=50)
    parser.add_argument("--questions", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--large", type=int, default=1000, help="Personas of the large run.")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        url, folder, deadline = given.child
        child(url, given.people, given.questions, folder, float(deadline))
        return
    with stub() as url:
        spent, wrong = rounds(url, given.people, given.questions, given.rounds)
    print("| hot path | peer | peer's figure | ours | ratio | target |\n|---|---|---|---|---|---|")
    mine = spent["ours"]
    for name, (module, _) in PEERS.items():
        if name not in spent:
            print(f"| an answer, CPU | {name} | not installed ({module}) | {mine:.2f} ms | - | - |")
            continue
        least = LEAST.get(name, 1.0)
        ratio = spent[name] / mine
        wrong += [f"{ratio:.1f} times {name}, not {least}"] * (ratio * ALLOWANCE < least)
        print(f"| an answer, CPU | {name} | {spent[name]:.2f} ms | {mine:.2f} ms | {ratio:.1f}x | >= {least:g}x |")
    sizes = [max(2, given.large // part) for part in (100, 10, 1)]
    grown = [large(size, given.questions) for size in sizes]
    small, big = grown[1:]
    n = f"{given.large * given.questions:,} answers"
    broken = large(given.people, given.questions, fail=0.1)
    with stub() as url, tempfile.TemporaryDirectory() as folder:
        whole = ours(url, given.people, given.questions, Path(folder) / "run").picks.tobytes().hex()[:4000]
    for what, figure, unit, most in (
        (f"{n}, CPU each", big["cpu"], "ms", 1.3),
        (f"{n}, peak memory", big["peak"], "MB", 300.0),
        (f"{n}, memory beyond that of a tenth", float(big["peak"]) - float(small["peak"]), "MB", 80.0),
        (f"resume of {n}, CPU per stored answer", big["resume"], "ms", 0.1),
        ("resume, requests repeated", big["asked_again"], "", 0.0),
        ("10 % of requests fail: gaps", broken["gaps"], "", 0.0),
    ):
        wrong += [f"{what}: {figure:.3f} {unit}, not {most}"] * (float(figure) > most * ALLOWANCE)  # type: ignore[arg-type]
        print(f"| {what} | - | - | {float(figure):.3g} {unit} | - | <= {most:g} {unit} |")  # type: ignore[arg-type]
    wrong += ["answers differ after failures"] * (broken["digest"] != whole)
    wrong += ["a resumed run differs"] * (not (big["same"] and small["same"] and broken["same"]))
    print(f"\n{growth([size * given.questions for size in sizes], grown)}")
    print(f"\nLarge run: {float(big['wall']):.0f} s on the wall; traffic {json.dumps(big['traffic'])}.")  # type: ignore[arg-type]
    print(f"With failures: {json.dumps(broken['traffic'])}.")
    if wrong:
        sys.exit("missed: " + "; ".join(wrong))


if __name__ == "__main__":
    main()
