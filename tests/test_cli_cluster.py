"""The options that spread work over a cluster, and the command that embeds."""

import json

import pytest
from click.testing import CliRunner

from anthology_hub import Anthology, Codebook
from anthology_hub.cli_annotating import annotate_command
from anthology_hub.cli_embedding import embed_command
from anthology_hub.cli_making import generate_command
from anthology_hub.cli_simulating import simulate_command
from anthology_hub.cluster import Cluster
from anthology_hub.errors import OptionError


def run(command, *words):
    return CliRunner().invoke(command, [str(word) for word in words], catch_exceptions=False)


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """Two personas without vectors."""
    folder = tmp_path_factory.mktemp("bare") / "people"
    told = [{"backstory": text, "traits": {}} for text in ("I grew up on a farm.", "I drive a truck by night.")]
    Anthology.from_records(told, Codebook.load("anthology"), name="bare", licence="CC0-1.0").save(
        folder, release="1.0.0"
    )
    return folder


def test_embed_makes_a_collection_that_is_searched(bare, tmp_path):
    words = (bare, tmp_path / "out", "--run", tmp_path / "run", "--json")
    told = json.loads(run(embed_command, *words).stdout)
    assert told["collection"].startswith("bare@1.0.0#")
    assert Anthology.load(tmp_path / "out").search("agriculture", k=1)[0].backstory == "I grew up on a farm."
    assert len(list((tmp_path / "run" / "passages").iterdir())) == 1
    assert "bare@1.0.0#" in run(embed_command, bare, tmp_path / "again", "--run", tmp_path / "run").output


def test_embed_refuses_a_file_before_anything_is_made(bare, tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(OptionError, match="is a file: give a new folder"):
        run(embed_command, bare, tmp_path / "out")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (embed_command, ["starter", "out"]),
        (annotate_command, ["--check"]),
        (generate_command, ["out", "-n", 1]),
        (simulate_command, ["out", "--sample", 2, "--model", "scripted:uniform"]),
    ],
)
def test_workers_without_a_cluster_are_refused(command, words):
    with pytest.raises(OptionError, match="--workers and --gpus are of work on a cluster: add --ray local"):
        run(command, *words, "--workers", 2, "--gpus", 0.5)


def test_steering_is_not_spread(tmp_path):
    words = ("--style", "primed", "-n", 5, "--effective", 2, "--model", "scripted:uniform", "--ray", "local")
    with pytest.raises(OptionError, match="--effective asks in small rounds.*leave out --ray"):
        run(generate_command, tmp_path / "out", *words)


@pytest.mark.parametrize("wrong", [{"workers": 0}, {"cpus": 0.0}, {"gpus": -1.0}, {"gpus": 1.5}, {"address": ""}])
def test_a_cluster_has_its_ranges(wrong):
    with pytest.raises(
        OptionError, match="workers of at least 1, cpus above 0 and gpus of at least 0, whole above 1; got"
    ):
        Cluster(**wrong)
