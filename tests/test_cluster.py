"""A real Ray cluster of two workers on this machine, and what runs on it: the same answers as in process."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from anthology_hub import SimulateOptions, load_run, simulate, unmatched
from anthology_hub.cluster import Cluster
from anthology_hub.models.scripted import ScriptedModel
from anthology_hub.prompts import derive_seed
from tests.made_runs import MINI, people

# Ray warns of its own settings.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings(r"ignore::DeprecationWarning:ray\.")]
CLUSTER = Cluster(workers=2)
OPTIONS = SimulateOptions(conditioning="bio", batch_size=2)


@pytest.fixture(scope="module")
def cluster():
    """The only start of Ray in all tests: it takes seconds."""
    ray = pytest.importorskip("ray")
    CLUSTER.connect()
    yield CLUSTER
    ray.shutdown()


def rule(log=None, die=None, fail_after=None):
    """Weights that hang on the whole prompt. `log`: a line for every prompt; `die`: kill the worker once, at a prompt
    that nobody else has."""
    count = []

    def weights(prompt, options):
        if fail_after is not None and len(count) >= fail_after:
            raise KeyboardInterrupt
        count.append(1)
        if log:
            with Path(log).open("a") as stream:
                stream.write(f"{derive_seed(0, prompt.as_text())}\n")
        if die and prompt.turns and not Path(die).exists():
            Path(die).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return [1 + derive_seed(0, prompt.as_text(), option) % 97 for option in options]

    weights.__name__ = "hanging"
    return weights


@pytest.fixture(scope="module")
def humans():
    return people(5, 9, traits={"age": 3})


@pytest.fixture(scope="module")
def here(humans):
    """The run in process."""
    return simulate(unmatched(humans), MINI, ScriptedModel(rule()), options=OPTIONS)


def assert_same(found, wanted):
    assert found.provenance["run_id"] == wanted.provenance["run_id"]
    assert found.respondent_ids == wanted.respondent_ids
    for name in ("picks", "probs", "mass", "statuses", "raw", "tries"):
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name))
    assert found.picks.tobytes() == wanted.picks.tobytes() and found.probs.tobytes() == wanted.probs.tobytes()


def contents(folder):
    return {file.name: file.read_bytes() for file in (folder / "answers").iterdir()}


def test_a_killed_worker_costs_its_batch_and_changes_no_answer(cluster, humans, here, tmp_path):
    cast, log = unmatched(humans), tmp_path / "asked"
    simulate(cast, MINI, ScriptedModel(rule()), options=OPTIONS, folder=tmp_path / "here")
    model = ScriptedModel(rule(log=log, die=tmp_path / "died"))
    found = simulate(cast, MINI, model, options=OPTIONS, folder=tmp_path / "there", ray=cluster)
    assert (tmp_path / "died").exists()
    assert_same(found, here)
    assert_same(load_run(tmp_path / "there"), here)
    assert contents(tmp_path / "there") == contents(tmp_path / "here")
    asked = log.read_text().split()
    assert len(set(asked)) == 9 * 5
    # What was asked twice is of the batch of two roles that the worker had in hand.
    assert 1 <= len(asked) - len(set(asked)) <= 2 * 5
