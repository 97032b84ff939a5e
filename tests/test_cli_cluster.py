"""The options that spread work over a cluster, and the command that embeds."""

import json
import shlex
import sys

import pytest
from click.testing import CliRunner

from anthology_hub import Anthology, Codebook
from anthology_hub.cli import main
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


# -- runs in an object store


KEYS = ("natenvir", "natheal", "natroad")
ASKED = ("--sample", 40, "--conditioning", "bio", "--model", "scripted:uniform", *(f"--question={key}" for key in KEYS))


def without_time(told):
    """What is printed of a run but for when it began."""
    kept = {name: value for name, value in told.items() if name not in ("started", "created", "provenance")}
    return kept | {"inputs": told["provenance"]["inputs"]} if "provenance" in told else kept


def test_a_run_in_an_object_store_is_shown_evaluated_and_compared_as_one_on_this_machine(bucket, tmp_path):
    other, uris = tmp_path / "b", {"a": bucket("runs/a"), "b": bucket("runs/b")}
    for name, folder in {"a": tmp_path / "a", "b": other}.items():
        seed = ("--seed", 1 if name == "a" else 2)
        run(main, "simulate", folder, *ASKED, *seed)
        done = run(main, "simulate", uris[name], *ASKED, *seed)
        assert done.exit_code == 0, done.output
        assert shlex.split(done.stdout.splitlines()[-1])[1:] == ["anthology-hub", "evaluate", uris[name]]
    for command, flags in (("show", ()), ("evaluate", ("--bootstraps", 20))):
        told = [json.loads(run(main, command, at, *flags, "--json").stdout) for at in (tmp_path / "a", uris["a"])]
        here, there = map(without_time, told)
        assert there == here
    here, there = (
        run(main, "compare", *at, "--bootstraps", 20).stdout for at in ((tmp_path / "a", other), tuple(uris.values()))
    )
    assert there == here and "a - b" in here
    page = run(main, "evaluate", uris["a"], "--bootstraps", 20, "--report", tmp_path / "page")
    assert page.exit_code == 0 and (tmp_path / "page" / "report.html").is_file()


@pytest.mark.parametrize("command", ["evaluate", "show"])
def test_a_run_that_a_store_does_not_have_is_one_line_that_says_what_to_do(bucket, command, monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    for uri, message in (
        (bucket("runs/none"), "s3://bucket/runs/none is no run folder: it has no run.json; give the folder of a run"),
        (
            bucket("x").replace("bucket/x", "gone/x"),
            "s3://gone/x is no run folder: it has no run.json; give the folder of a run, in a bucket that is there",
        ),
        ("fsspec+s3://bucket/runs/a", "is no place that can be opened (Install s3fs to access S3): give a folder, or"),
        ("fsspec+nowhere://runs/a", "fsspec+nowhere://runs/a is no place that can be opened"),
        ("s3://key:secret@bucket/runs/a", "s3://...@bucket/runs/a holds a key: leave it out"),
    ):
        done = run(main, command, uri)
        assert done.exit_code == 1 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
        assert message in done.stderr and "secret" not in done.stderr
