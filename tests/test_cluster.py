"""A real Ray cluster of two workers on this machine, and what runs on it: the same answers as in process."""

import os
import shutil
import signal
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from anthology_hub import GenerateOptions, SimulateOptions, annotate, generate, load_run, simulate, unmatched
from anthology_hub.cluster import TRIES, Cluster, spread
from anthology_hub.embedding import embedded
from anthology_hub.errors import RunError, UnknownNameError
from anthology_hub.models.scripted import ScriptedModel
from anthology_hub.prompts import derive_seed
from anthology_hub.runs import RunFolder
from tests.made_runs import MINI, people

# Ray warns of its own settings.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings(r"ignore::DeprecationWarning:ray\.")]
CLUSTER = Cluster(workers=2)
OPTIONS = SimulateOptions(conditioning="bio", batch_size=2)


@pytest.fixture(scope="module")
def cluster():
    """The only start of Ray in all tests: it takes seconds."""
    ray = pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        # Workers need the keys of the object store as well, and have the environment in which the cluster started.
        patch.setenv("AWS_ACCESS_KEY_ID", "key")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
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


def kept(folder):
    """Every answer in a folder, in whichever part."""
    rows = [repr(row) for _, part in RunFolder(folder).read("answers") for row in part]
    return sorted(rows)


@pytest.fixture(scope="module")
def killed(cluster, humans, tmp_path_factory):
    """Folder of a run over the cluster of which a worker was killed, and how often each prompt was asked."""
    place = tmp_path_factory.mktemp("killed")
    model = ScriptedModel(rule(log=place / "asked", die=place / "died"))
    found = simulate(unmatched(humans), MINI, model, options=OPTIONS, folder=place / "run", ray=cluster)
    assert (place / "died").exists()
    return place / "run", found, Counter((place / "asked").read_text().split())


def test_a_killed_worker_costs_its_batch_and_changes_no_answer(killed, humans, here, tmp_path):
    folder, found, asked = killed
    assert_same(found, here)
    assert_same(load_run(folder), here)
    log = tmp_path / "asked"
    simulate(unmatched(humans), MINI, ScriptedModel(rule(log=log)), options=OPTIONS, folder=tmp_path / "run")
    assert kept(tmp_path / "run") == sorted(set(kept(folder)))
    needed = Counter(log.read_text().split())
    assert needed.keys() == asked.keys() and needed.total() == 9 * 5
    # What was asked twice is of the batch of two roles that the worker had in hand.
    assert 1 <= (asked - needed).total() <= 2 * 5


def test_what_a_cluster_began_is_finished_in_process(killed, humans, here, tmp_path):
    folder = shutil.copytree(killed[0], tmp_path / "run")
    for part in sorted((folder / "answers").iterdir())[::2]:
        part.unlink()
    model = ScriptedModel(rule())
    assert_same(simulate(unmatched(humans), MINI, model, options=OPTIONS, folder=folder), here)
    assert 0 < model.asked < 9 * 5
    with pytest.raises(RunError, match="belongs to another run; what differs: seed"):
        simulate(unmatched(humans), MINI, model, options=OPTIONS, folder=folder, seed=1)


def test_what_a_process_began_in_an_object_store_is_finished_by_a_cluster(cluster, bucket, humans, here):
    cast, uri = unmatched(humans), bucket("runs/a")
    with pytest.raises(KeyboardInterrupt):
        simulate(cast, MINI, ScriptedModel(rule(fail_after=20)), options=OPTIONS, folder=uri)
    with pytest.raises(RunError, match="is not finished"):
        load_run(uri)
    begun = len(RunFolder(uri).place.names("answers"))
    assert begun == 1
    assert_same(simulate(cast, MINI, ScriptedModel(rule()), options=OPTIONS, folder=uri, ray=cluster), here)
    assert_same(load_run(uri), here)
    assert len(kept(uri)) == 9 * 5 and len(RunFolder(uri).place.names("answers")) > begun
    told = [event["event"] for event in RunFolder(uri).events()]
    assert told[0] == "started" and "continued" in told and told[-1] == "finished"
    with pytest.raises(RunError, match=r"s3://bucket/runs is no run folder: it has no run.json"):
        load_run(bucket("runs"))


def test_the_encoder_gives_the_same_vectors_on_a_worker(cluster, encoder, tmp_path):
    texts = ["I grew up on a farm near the river.", "She drives a truck. " * 60, "Nurse, two children."]
    here = embedded(texts, encoder)
    there = embedded(texts, encoder, folder=tmp_path / "run", ray=Cluster(workers=1))
    assert [one.spans for one in there] == [one.spans for one in here]
    for one, other in zip(there, here, strict=True):
        np.testing.assert_allclose(one.vectors, other.vectors, atol=1e-6)
    again = embedded(texts, Dead(encoder.card), folder=tmp_path / "run")
    for one, other in zip(again, there, strict=True):
        np.testing.assert_array_equal(one.vectors, other.vectors)


class Dead:
    """An encoder that cannot be asked: all is known."""

    def __init__(self, card):
        self.card = card


def test_annotations_are_the_same_over_a_cluster(cluster, starter, tmp_path):
    people_, model = starter.sample(6, seed=0), ScriptedModel(rule(), replies=answer)
    given = {"traits": ["age", "region"], "samples": 5}
    here = annotate(people_, model, **given, folder=tmp_path / "here")
    there = annotate(people_, model, **given, folder=tmp_path / "there", ray=cluster)
    assert there.provenance["run_id"] == here.provenance["run_id"] and there.counts == here.counts
    assert there.collection.annotations() == here.collection.annotations()
    parts = [
        {file.name: file.read_bytes() for file in (tmp_path / at / "annotations").iterdir()} for at in ("here", "there")
    ]
    assert parts[0] == parts[1] and len(parts[0]) == 6


def test_stories_are_the_same_over_a_cluster(cluster, tmp_path):
    model = ScriptedModel("first", replies=tale)
    options = GenerateOptions(checks=("words:least=5",), batch_size=2)
    here = generate(model, 5, options=options)
    there = generate(model, 5, options=options, folder=tmp_path / "run", ray=cluster)
    assert there.provenance["run_id"] == here.provenance["run_id"]
    assert there.records == here.records and there.rejected == here.rejected and here.rejected
    # Finished: the same call asks nothing.
    again = ScriptedModel("first", replies=tale)
    assert generate(again, 5, options=options, folder=tmp_path / "run").records == here.records
    assert not again.asked


def answer(prompt, seed):
    return f"({'ABCD'[derive_seed(1, prompt.question, seed) % 4]})"


def tale(prompt, seed):
    return f"Yes, I am a baker, one of {seed}." if seed % 3 else "Yes."


def test_an_error_of_ours_comes_back_as_it_is_and_any_other_with_its_job(cluster):
    def work(job):
        if job == 1:
            raise UnknownNameError("level of region", "Suoth", ["North", "South"])
        return {}[job]

    with pytest.raises(UnknownNameError, match="unknown level of region 'Suoth': did you mean 'South'"):
        list(spread([1], work, cluster=Cluster(workers=1)))
    with pytest.raises(RunError, match="job 0 failed on its worker with KeyError: 2"):
        list(spread([2], work, cluster=Cluster(workers=1)))


def test_a_job_that_kills_every_worker_comes_to_an_end(cluster):
    def work(job):
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(RunError, match=f"job 0 ended its worker {TRIES} times.*smaller batch size"):
        list(spread([1], work, cluster=cluster))
