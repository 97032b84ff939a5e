"""The commands that publish, import and compare, on a private hub that really serves."""

import json
import re

import pytest
from click.testing import CliRunner

from anthology_hub import Anthology, cli_sharing
from anthology_hub.cli import main

UNIFORM_MODEL = ("--model", "scripted:uniform")


def call(*arguments, code=0):
    done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert done.exit_code == code, done.output
    return done


def from_json(*arguments, code=0):
    return json.loads(call(*arguments, "--json", code=code).stdout)


@pytest.fixture
def repo(lab, request):
    return "lab/" + re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[-60:].strip("-")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A results folder with one run of eight people."""
    root = tmp_path_factory.mktemp("sharing")
    questions = [word for key in ("natenvir", "nataid", "nateduc") for word in ("--question", key)]
    call("simulate", root / "run", "--sample", 8, *questions, *UNIFORM_MODEL)
    call("evaluate", root / "run", "--publish", root / "results")
    return root / "results"


@pytest.mark.parametrize("command", cli_sharing.COMMANDS, ids=lambda command: command.name)
def test_every_command_has_help_with_an_example(command):
    for one in getattr(command, "commands", {command.name: command}).values():
        assert "Example: anthology-hub " in one.help


# -- collections


def test_a_collection_is_pushed_again_and_compared(starter, repo, tmp_path):
    starter.sample(6, seed=1).save(tmp_path / "six", release="0.1.0")
    starter.sample(7, seed=1).save(tmp_path / "seven", release="0.1.0")
    text = call("push", tmp_path / "six", repo, "--release", "v1.0.0", "--note", "The first six.").stdout
    assert text.splitlines()[0].startswith("6 personas as v1.0.0 at http://127.0.0.1:")
    assert f'datasets.load_dataset("{repo}", revision="v1.0.0")' in text
    assert from_json("push", tmp_path / "six", repo, "--release", "1.0.0", "--note", "The first six.")["url"].endswith(
        f"{repo}/tree/v1.0.0"
    )
    done = call("push", tmp_path / "seven", repo, "--release", "v1.0.1", code=1)
    assert "demands a minor release: give 1.1.0 or higher" in done.stderr
    call("push", tmp_path / "seven", repo, "--release", "v1.1.0")
    told = from_json("diff", "v1.0.0", "v1.1.0", "--collection", repo)
    assert (len(told["added"]), told["removed"], told["demands"]) == (1, [], "minor")
    asked = call("diff", "v1.0.0", "v1.1.0", code=1).stderr
    assert "v1.0.0 is a release, but of which repository? Give --collection namespace/name" in asked
    text = call("diff", tmp_path / "seven", tmp_path / "six").stdout
    assert "- 1 persona removed" in text and "Demands: major (from 0.1.0, at least 1.0.0)" in text
    assert Anthology.load(repo, revision="v1.0.0")._store.changelog().count("The first six.") == 1


def test_a_pool_is_imported_and_searched(tmp_path, encoder):
    file = tmp_path / "people.csv"
    file.write_text(
        "id,story,sex\na,I grew up on a farm with nine goats and my father.,F\nb,I drive a taxi in Reno.,M\n"
    )
    arguments = ["import", file, "--out", tmp_path / "people", "--column", "backstory=story", "--column", "key=id"]
    arguments += ["--column", "trait:gender=sex", "--level", "gender:Female=F", "--level", "gender:Male=M"]
    arguments += ["--codebook", "starter", "--licence", "CC0-1.0", "--embed"]
    report = from_json(*arguments)
    assert report["folder"] == str(tmp_path / "people") and report["collection"].startswith("people@1.0.0#")
    found = from_json("search", "animals", "-k", 1, "--collection", tmp_path / "people")
    assert found[0]["traits"]["gender"] == "Female" and "goats" in found[0]["passage"]
    for wrong, said in (
        (["--column", "backstory"], "--column 'backstory' is not ROLE=COLUMN, such as backstory=text"),
        (["--column", "backstory=story", "--level", "Female=F"], "--level 'Female=F' is not TRAIT:LEVEL=VALUE[|VALUE]"),
    ):
        done = call("import", file, "--out", tmp_path / "other", "--licence", "CC0-1.0", *wrong, code=1)
        assert said in done.stderr and not (tmp_path / "other").exists()


# -- results


def test_results_are_published_ranked_compacted_verified_and_withdrawn(results, repo):
    target, folder = f"hf://{repo}", results.parent / "run"
    text = call("evaluate", folder, "--publish", target).stdout
    assert re.search(r"Published: runs/scripted/uniform/gss-national-spending/\S+\.json \(http://127", text)
    rows = from_json("leaderboard", target)
    (run,) = [row["run_id"] for row in rows if row["rank"]]
    assert f"/datasets/{repo}/commit/" in call("leaderboard", target, "--compact", "--name", "A board").stderr
    found = from_json("verify", target, run, "--collection", "starter", code=1)
    assert found["verdict"] == "below protocol"
    found = call("verify", target, run, "--mark", "Ann", code=1).stdout
    assert ": below protocol; " in found
    (row,) = [row for row in from_json("leaderboard", target) if row["rank"]]
    assert row["verdict"] == "below protocol"
    assert call("withdraw", target, run, "--reason", "a trial", "--who", "Ann").stdout.startswith("withdrawn: runs/")
    told = from_json("leaderboard", target, "--withdrawn")
    assert [stone["reason"] for stone in told["withdrawn"]] == ["a trial"] and told["rows"] == []
    assert "withdrawn: runs/" in call("leaderboard", target, "--withdrawn").stdout


def test_what_waits_in_a_pull_request_is_said(results, lab, repo, monkeypatch, tmp_path):
    target = f"hf://{repo}"
    call("evaluate", results.parent / "run", "--publish", target)
    lab.store.set_private(lab.store.find("dataset", *repo.split("/")), False)
    monkeypatch.setenv("HF_TOKEN", lab.store.accounts.add_token("stranger"))
    call("simulate", tmp_path / "run", "--sample", 9, "--question", "natenvir", "--question", "nataid", *UNIFORM_MODEL)
    text = call("evaluate", tmp_path / "run", "--publish", target, "--report", tmp_path / "page").stdout
    assert re.search(r"Published: runs/\S+ \(http\S+/discussions/1\), waits in pull request 1", text)
    assert len([row for row in from_json("leaderboard", target) if row["rank"]]) == 1


def test_an_empty_target_is_an_error(tmp_path):
    assert "holds no results: publish one first" in call("leaderboard", tmp_path, code=1).stderr


def test_runs_are_exported_in_the_forms_of_others(results, tmp_path):
    call("export", results, tmp_path / "eee")
    (file,) = (tmp_path / "eee").rglob("*.json")
    assert json.loads(file.read_text())["schema_version"] == "0.3.0"
    names = call("export", results, tmp_path / "yaml", "--to", "eval-yaml").stdout.split()
    assert names == ["eval.yaml"]
    done = call("export", results, tmp_path / "entry", "--to", "eval-results", code=1)
    assert "takes one --run" in done.stderr and "a --benchmark" in done.stderr
    (run,) = [row["run_id"] for row in from_json("leaderboard", results) if row["rank"]]
    call("export", results, tmp_path / "entry", "--to", "eval-results", "--run", run, "--benchmark", "lab/benchmark")
    (entry,) = (tmp_path / "entry").rglob("*.yaml")
    assert "lab/benchmark" in entry.read_text()
