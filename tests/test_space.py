"""The leaderboard app is published as it is here, and run as a process of its own on real results."""

import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from anthology_hub import EvaluateOptions, SimulateOptions, evaluate, open_model, simulate, space, unmatched
from anthology_hub.errors import DataError, MissingExtraError, OptionError
from anthology_hub.leaderboard import compact, publish, rank, read_board
from anthology_hub.space import push_space, run_space, space_files

# The app has pins of its own, so another interpreter may have gradio.
PYTHON = os.environ.get("ANTHOLOGY_HUB_SPACE_PYTHON") or (sys.executable if importlib.util.find_spec("gradio") else "")
needs_gradio = pytest.mark.skipif(not PYTHON, reason="gradio is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def runs(gss, spending):
    """Three runs: two that cannot be told apart, and one that is worse and of another class."""
    options = SimulateOptions(conditioning="bio")
    answers = simulate(unmatched(gss.sample(30)), spending, open_model("scripted:uniform"), options=options)
    result = evaluate(answers, gss, options=EvaluateOptions(bootstraps=20, splits=5))
    found = []
    for name, value in {"<b>bold</b>": 0.10, "second": 0.12, "third": 0.40}.items():
        metrics = tuple(
            replace(m, value=value, low=value - 0.02, high=value + 0.02) if m.name == "wd_normalised" else m
            for m in result.metrics
        )
        inputs = result.provenance["inputs"]
        told = {**inputs, "options": {**inputs["options"], "mode": "text" if name == "third" else "letters"}}
        provenance = {**result.provenance, "inputs": told}
        found.append(replace(result, run_id=name, model=name, metrics=metrics, provenance=provenance))
    return found


@pytest.fixture(scope="module")
def folder(runs, tmp_path_factory):
    """A compacted results folder."""
    target = tmp_path_factory.mktemp("results")
    for run in runs:
        publish(run, target)
    compact(target)
    return target


# -- what is published


def test_a_space_is_the_app_with_the_name_of_its_results():
    files = space_files("lab/results", title='Ours: 50% "better"')
    assert set(files) == {"README.md", "app.py", "requirements.txt", "results.json"}
    assert json.loads(files["results.json"]) == {"results": "lab/results", "title": 'Ours: 50% "better"'}
    _, head, body = files["README.md"].decode().split("---\n", 2)
    card = yaml.safe_load(head)
    assert (card["sdk"], card["app_file"], card["datasets"]) == ("gradio", "app.py", ["lab/results"])
    assert (card["title"], card["license"]) == ('Ours: 50% "better"', "apache-2.0")
    assert "# Leaderboard of virtual personas" in body
    assert json.loads(space_files("hf://lab/results")["results.json"])["title"] == "Leaderboard of virtual personas"


def test_what_the_space_installs_is_what_the_app_imports():
    app = space_files("lab/results")["app.py"].decode()
    imported = set(re.findall(r"^\s*(?:import|from) (\w+)", app, re.MULTILINE)) - set(sys.stdlib_module_names)
    required = set(re.findall(r"^([\w-]+)", space_files("lab/results")["requirements.txt"].decode(), re.MULTILINE))
    # The Space's sdk is gradio itself; pandas reads parquet with pyarrow.
    assert {name.replace("_", "-") for name in imported} == required - {"pyarrow"} | {"gradio"}


@pytest.mark.parametrize("name", ["lab", "a/b/c", "", "lab/with blank"])
def test_a_name_that_is_none_is_refused_before_any_work(name):
    with pytest.raises(OptionError, match=f"'{name}' is no name of a Space: give namespace/name, as lab/leaderboard"):
        push_space(name, results="lab/results")
    with pytest.raises(OptionError, match=f"'{name}' is no name of a results repository: give namespace/name"):
        push_space("lab/space", results=name)


def test_results_without_a_table_are_not_shown(lab, runs, tmp_path):
    publish(runs[0], "hf://lab/uncompacted")
    with pytest.raises(DataError, match="hf://lab/uncompacted has no table to show yet: make it with `anthology-hub "):
        push_space("lab/space", results="lab/uncompacted")
    if sys.executable == PYTHON:
        with pytest.raises(DataError, match=f"{tmp_path} has no table to show yet"):
            run_space(str(tmp_path))


def test_a_space_is_pushed_in_one_commit_and_again_in_none(lab, runs):
    from huggingface_hub import HfApi

    api = HfApi(endpoint=lab.url)
    publish(runs[0], "hf://lab/shown")
    compact("hf://lab/shown")
    for _ in range(2):
        assert push_space("lab/board", results="lab/shown", title="Ours") == f"{lab.url}/spaces/lab/board"
        assert len(api.list_repo_commits("lab/board", repo_type="space")) == 2
    files = space_files("lab/shown", title="Ours")
    for name, content in files.items():
        assert Path(api.hf_hub_download("lab/board", name, repo_type="space")).read_bytes() == content
    assert api.space_info("lab/board").private
    push_space("lab/board", results="lab/shown", title="Theirs")
    assert len(api.list_repo_commits("lab/board", repo_type="space")) == 3


def test_a_space_of_another_namespace_is_told_with_what_to_check(lab, runs):
    publish(runs[0], "hf://lab/shown-too")
    compact("hf://lab/shown-too")
    with pytest.raises(DataError, match=r"the Space nobody/board cannot be written: (?s:.*)Check the name, the token"):
        push_space("nobody/board", results="lab/shown-too")


def test_without_gradio_the_pip_line_is_told(monkeypatch, folder):
    monkeypatch.setattr(space.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r'pip install "anthology-hub\[space\]"'):
        run_space(str(folder))


# -- the app itself


@contextmanager
def app(results, tmp_path, command=(PYTHON, space.APP / "app.py"), **environment):
    """The app as a process of its own; gives its address."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    told = {"GRADIO_SERVER_PORT": str(port), "RESULTS_REPO": results, "HF_HOME": str(tmp_path / "home")}
    told |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "0", **environment}
    port_option = ["--port", str(port)] if "run" in command else []
    command = [*map(str, command), *port_option]
    # A session of its own, so that the app and whoever started it can be stopped together.
    process = subprocess.Popen(command, env={**os.environ, **told}, cwd=tmp_path, start_new_session=True)
    try:
        address = f"http://127.0.0.1:{port}"
        while not answers(address):
            assert process.poll() is None, "the app has ended"
            time.sleep(0.1)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def answers(address):
    try:
        return urllib.request.urlopen(address).status == 200
    except urllib.error.URLError:
        return False


def ask(address, name, *given):
    """Call a function of the app over HTTP, as its own page does."""
    call = f"{address}/gradio_api/call/{name}"
    body = json.dumps({"data": given}).encode()
    request = urllib.request.Request(call, body, {"Content-Type": "application/json"})
    event = json.load(urllib.request.urlopen(request))["event_id"]
    text = urllib.request.urlopen(f"{call}/{event}").read().decode()
    assert "event: complete" in text, text
    return json.loads(text.partition("data: ")[2])


def shown(table):
    return [dict(zip(table["headers"], line, strict=True)) for line in table["data"]]


@needs_gradio
@pytest.mark.slow
def test_the_app_shows_the_ranks_of_a_folder_and_filters_them(folder, tmp_path):
    rows = rank(read_board(folder).entries)
    with app(str(folder), tmp_path) as address:
        (groups,) = ask(address, "groups")
        assert groups == [rows[0].group]
        table, picture = ask(address, "board", groups[0], "all", False)
        lines = shown(table)
        assert [(line["#"], line["in class"], line["method"], line["WD normalised"]) for line in lines] == [
            (row.place, row.class_place, row.method, round(row.wd_normalised, 3)) for row in rows
        ]
        by_model = {line["model"]: line for line in lines}
        assert by_model["scripted/second"]["#"] == "1=" and by_model["scripted/third"]["#"] == "3"
        assert by_model["scripted/second"]["interval"] == "0.100 to 0.140"
        assert {line["closed"] for line in lines if line["#"] == "-"} > {"100%", "0%"}
        assert picture.count("<circle") == 3 and picture.count("stroke-dasharray") == 3
        assert "<b>" not in picture and "&lt;b&gt;bold" in picture
        text = shown(ask(address, "board", groups[0], "bio, text", False)[0])
        assert [line["model"] for line in text if line["model"]] == ["scripted/third"] and len(text) == 4
        assert {line["#"] for line in shown(ask(address, "board", groups[0], "all", True)[0])} == {"-"}


@needs_gradio
@pytest.mark.slow
def test_the_app_shows_a_private_repository_of_a_hub_and_what_is_new_there(lab, runs, tmp_path):
    publish(runs[0], "hf://lab/live")
    compact("hf://lab/live")
    with app("lab/live", tmp_path, HF_ENDPOINT=lab.url, HF_TOKEN=os.environ["HF_TOKEN"]) as address:
        group = ask(address, "groups")[0][0]
        assert len(shown(ask(address, "board", group, "all", False)[0])) == 4
        publish(runs[1], "hf://lab/live")
        compact("hf://lab/live")
        assert len(shown(ask(address, "board", group, "all", False)[0])) == 5


@pytest.mark.skipif(sys.executable != PYTHON, reason="gradio is not installed beside this package")
@pytest.mark.slow
def test_space_run_serves_the_app_until_it_is_interrupted(folder, tmp_path):
    command = [sys.executable, "-m", "anthology_hub", "space", "run", folder]
    with app(str(folder), tmp_path, command=command) as address:
        assert ask(address, "groups")[0]


@needs_gradio
@pytest.mark.skipif(not CHROMIUM, reason="there is no browser")
@pytest.mark.slow
def test_a_browser_shows_the_table(folder, tmp_path):
    with app(str(folder), tmp_path) as address:
        browser = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'chrome'}"]
        # Page time runs ahead of the network: the first look may come before the table.
        for _ in range(5):
            told = [*browser, "--virtual-time-budget=20000", "--dump-dom", address]
            page = subprocess.run(told, capture_output=True, text=True, check=True).stdout
            if "scripted/second" in page:
                break
        assert "scripted/second" in page and "0.100 to 0.140" in page and "How to submit" in page
        assert "<b>bold</b>" not in page and "&lt;b&gt;bold" in page
