"""Real servers of the small model: llama.cpp beside the same weights in this process, and `transformers serve`."""

import importlib.util
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from anthology_hub import SimulateOptions, load_run, open_model, simulate, unmatched, weights
from anthology_hub.errors import ModelError
from anthology_hub.models import Sampling
from anthology_hub.models.local import LocalModel, convert_gguf
from anthology_hub.prompts import Prompt, question_text
from anthology_hub.schema import Question

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
BOUND = 0.06
"""Most by which a probability may differ: llama.cpp computes with the 4-bit weights and 8-bit activations, transformers
with the same weights as float32."""


@contextmanager
def running(*arguments):
    """Start a Python program and end it at the end."""
    process = subprocess.Popen(
        [sys.executable, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def llama():
    """The address of a llama.cpp server of the small model."""
    if importlib.util.find_spec("xllamacpp") is None:
        pytest.skip("xllamacpp is not installed")
    with running(str(ROOT / "tests" / "llama_server.py"), weights.resolve("smollm2").source) as process:
        yield process.stdout.readline().strip()


def prompts():
    """Questions with 2 to 5 options, told of two lives."""
    texts = ("Do you like tea?", "How often do you read?", "Is the town safe?", "Do you trust the news?")
    levels = ("Never", "Rarely", "Sometimes", "Often", "Always")
    lives = ("I grew up on a farm near the river.", "I have driven a bus in the city for thirty years.")
    for at, text in enumerate(texts):
        question = Question(key="q", text=text, options=levels[: 2 + at], codes=tuple(range(2 + at)))
        asked = question_text(question, range(2 + at), consistency=True)
        yield Prompt(context=lives[at % 2], turns=(), question=asked, start="("), list("ABCDE"[: 2 + at])


def test_probabilities_of_a_llama_cpp_server_are_those_of_the_same_weights_in_this_process(llama):
    served, local = open_model(llama), LocalModel("smollm2")
    asked, labels = zip(*prompts(), strict=True)
    there, here = served.choose(asked, labels, Sampling()), local.choose(asked, labels, Sampling())
    for one, other in zip(there, here, strict=True):
        np.testing.assert_allclose(one.probs, other.probs, atol=BOUND)
        assert one.mass == pytest.approx(other.mass, abs=BOUND) and one.unseen < 0.02
    cool = Sampling(temperature=0.5)
    one, other = (model.choose(asked[:1], labels[:1], cool)[0] for model in (served, local))
    np.testing.assert_allclose(one.probs, other.probs, atol=2 * BOUND)
    assert served.count_tokens(["I grew up on a farm.", ""]) == local.count_tokens(["I grew up on a farm.", ""])
    assert served.card.model == "SmolLM2-135M-Instruct.Q4_1" and served.card.layout == "chat"


def test_a_survey_is_put_to_a_llama_cpp_server_and_its_texts_repeat(llama, gss, spending, tmp_path):
    cast, how = unmatched(gss.sample(3)), SimulateOptions(conditioning="nothing")
    spending = spending.select(["natenvir", "nateduc"])
    answers = simulate(cast, spending, open_model(llama), options=how, folder=tmp_path / "run")
    assert answers.coverage["failed"] == 0 and answers.coverage["answered"] > 0.5
    np.testing.assert_array_equal(load_run(tmp_path / "run").picks, answers.picks)
    text = Sampling(max_tokens=4)
    said = [open_model(f"{llama}?way={way}").complete([next(prompts())[0]] * 2, text, seeds=[5, 5]) for way in WAYS]
    assert all(one == two and one for one, two in said)


WAYS = ("chat", "completions")


def test_transformers_serve_answers_in_words(gss, spending):
    for package in ("fastapi", "uvicorn", "openai"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"transformers[serving] is not installed: {package} is missing")
    folder = str(convert_gguf(Path(weights.resolve("smollm2").source)))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = ("serve", folder, "--host", "127.0.0.1", "--port", port, "--device", "cpu")
    with running("-m", "transformers.cli.transformers", *command):
        model = _when_up(f"http://127.0.0.1:{port}/v1?kind=transformers&model={folder}")
        how = SimulateOptions(conditioning="bio", mode="text", tries=2, sampling=Sampling(max_tokens=4))
        answers = simulate(unmatched(gss.sample(2)), spending.select(["natenvir"]), model, options=how)
        assert answers.coverage["failed"] == 0 and all(answers.raw.ravel())
        with pytest.raises(ModelError, match="lists no probabilities: ask for text"):
            model.choose([next(prompts())[0]], [["A", "B"]], Sampling())


def _when_up(address):
    for _ in range(240):
        try:
            return open_model(address, concurrency=1, deadline=60.0)
        except ModelError as error:
            last = error
            time.sleep(0.25)
    raise last
