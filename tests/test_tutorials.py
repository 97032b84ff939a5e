"""The tutorial notebooks and the page on the method: they run, and what they show is what comes out."""

import doctest
import json
import re
import runpy
import shlex
import tempfile
from pathlib import Path

import nbformat
import pytest
from click.testing import CliRunner

from anthology_hub import Anthology, load_run
from anthology_hub.cli import main
from anthology_hub.matching import METHODS
from anthology_hub.prompts import CONDITIONINGS
from tests.conftest import ROOT
from tests.human_files import write_pew_sav
from tests.test_docs import DOCS, blocks

SCRIPT = runpy.run_path(str(ROOT / "scripts" / "make_tutorials.py"))
PAGE = "the-method.md"
NAMES = {path.stem: path for path in SCRIPT["TUTORIALS"]}
LOOKS = {
    "1-find-people": """{
        "south": sorted({one.traits["region"] for one in south}), "ages": sorted({one.traits["age"] for one in south}),
        "best": best[0].score, "sorted": list(best.scores) == sorted(best.scores, reverse=True),
        "off": max(abs(found.target["age"][level] - found.drawn["age"][level]) for level in trait.levels),
        "n_effective": found.n_effective, "sample": len(set(sample.ids)), "turns": len(told), "rows": rows.num_rows,
    }""",
    "2-run-a-survey": """{
        "mean": {name: one.diagnostics["mean_weight"] for name, one in casts.items()},
        "distinct": {name: one.diagnostics["distinct_personas"] for name, one in casts.items()},
        "reuse": casts["capacity 2"].diagnostics["maximum_reuse"],
        "sums": [float(total) for run in runs.values() for total in run.probs.sum(axis=2).ravel()],
        "shape": runs["bio"].picks.shape, "coverage": [run.coverage["answered"] for run in runs.values()],
        "wd": [one.metric("wd_normalised").value for one in results.values()],
        "methods": sorted(row.method for row in rows), "kept": sorted(path.name for path in Path("runs").iterdir()),
    }""",
    "3-make-your-own-collection": """{
        "kept": [report.kept, report.given_up], "tried": [report.tried, report.accepted, *report.rejected.values()],
        "sums": [sum(row["probs"]) for row in done.collection.annotations()], "methods": sorted(
            {row["method"] for row in done.collection.annotations()}), "demands": changes.demands,
        "added": len(changes.added), "before": len(people), "back": back.ids == saved.ids, "n": len(back),
        "version": repr(back), "judged": gender.n, "tokens": report.prompt_tokens + report.reply_tokens,
    }""",
}


def kept(name):
    return nbformat.read(NAMES[name], as_version=4)


def shown(cell):
    """What a reader sees below a cell, pictures by their kind alone."""
    data = [out.get("text") or {**out["data"], "image/png": "image/png" in out["data"]} for out in cell.outputs]
    return [] if "varies" in cell.metadata.get("tags", []) else data


@pytest.mark.parametrize("name", NAMES)
def test_a_committed_notebook_is_short_clean_and_holds_its_outputs(name):
    notebook = kept(name)
    nbformat.validate(notebook)
    assert len(notebook.cells) <= 25 and notebook.cells[0].source.startswith(f"# {name[0]}. ")
    assert SCRIPT["cleaned"](kept(name)) == notebook
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert len(outputs) >= 8 and not [output for output in outputs if output.get("name") == "stderr"]
    said = json.dumps([[shown(cell) for cell in notebook.cells if cell.cell_type == "code"], outputs])
    assert len(said) < 100_000
    assert not re.findall(r"/(?:tmp|home|root|usr|work|Users)/\S*|\d{2}:\d{2}:\d{2}|it/s\]", said)


@pytest.mark.parametrize("name", NAMES)
def test_links_of_a_notebook_lead_somewhere(name):
    links = re.findall(r"\]\(([^)]+)\)", "\n".join(c.source for c in kept(name).cells if c.cell_type == "markdown"))
    assert links
    for link in links:
        assert (NAMES[name].parent / link).exists(), link


def run_as_committed(name):
    """Run a notebook, compare it with the committed one, and return what its kernel holds in the end."""
    look = f"import json\nfrom pathlib import Path\nprint(json.dumps({LOOKS[name]}))"
    fresh, seen = SCRIPT["run"](NAMES[name], look=look)
    for old, new in zip(kept(name).cells, fresh.cells, strict=True):
        assert old.source == new.source
        if old.cell_type == "code":
            assert shown(old) == shown(new), f"run scripts/make_tutorials.py: {old.source}"
            kinds = [[out.output_type for out in cell.outputs] for cell in (old, new)]
            assert kinds[0] == kinds[1], old.source
    return json.loads(seen)


# One test for each notebook: workers share nothing, and each would run it again.


@pytest.mark.slow
def test_the_first_notebook_shows_what_is_committed_and_finds_whom_it_asks_for():
    seen = run_as_committed("1-find-people")
    assert seen["south"] == ["South"] and seen["ages"] == ["50-64", "65+"]
    assert seen["best"] == 1 and seen["sorted"]
    assert seen["off"] < 0.02 and 200 < seen["n_effective"] <= 320
    assert seen["sample"] == seen["rows"] == 80 and seen["turns"] == 10


@pytest.mark.slow
def test_the_second_notebook_shows_what_is_committed_matches_asks_and_publishes():
    seen = run_as_committed("2-run-a-survey")
    mean, distinct = seen["mean"], seen["distinct"]
    assert mean["greedy"] >= mean["capacity 2"] >= mean["optimal"] > 10 * mean["random"]
    assert distinct["optimal"] == distinct["random"] == 60 > distinct["greedy"] and seen["reuse"] <= 2
    assert seen["shape"] == [4, 2] and seen["coverage"] == [1, 1]
    assert seen["sums"] == pytest.approx([1] * 16, abs=1e-5) and all(0 < wd < 1 for wd in seen["wd"])
    assert seen["methods"] == ["anthology/greedy", "bio", "humans (floor at equal n)", "majority", "uniform"]
    assert seen["kept"] == ["anthology", "bio"]


@pytest.mark.slow
def test_the_third_notebook_shows_what_is_committed_makes_annotates_and_publishes_a_release():
    seen = run_as_committed("3-make-your-own-collection")
    tried, *became = seen["tried"]
    assert sum(seen["kept"]) == 3 and 1 <= seen["kept"][0] == seen["added"] and tried == sum(became) > 0
    assert seen["sums"] == pytest.approx([1] * 2 * seen["added"], abs=1e-5) and seen["methods"] == ["logprob"]
    assert seen["demands"] == "minor" and seen["back"] and seen["n"] == seen["before"] + seen["added"]
    assert seen["version"].startswith("<Anthology anthology-starter@1.2.0#") and seen["judged"] == 6
    assert seen["tokens"] > 100


def test_the_examples_on_the_page_of_the_method_hold(monkeypatch):
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.chdir(folder)
        found = doctest.testfile(str(DOCS / PAGE), module_relative=False, optionflags=doctest.ELLIPSIS)
    assert found.attempted >= 15 and found.failed == 0


def commands():
    """The commands of the page, with a model that needs neither weights nor a GPU."""
    text = "\n".join(blocks(PAGE, "bash"))
    lines = re.sub(r"local:[\w./-]+", "scripted:uniform", text).splitlines()
    return [words[1:] for words in map(shlex.split, lines) if words[:1] == ["anthology-hub"]]


def test_the_commands_that_generate_on_the_page_of_the_method_are_understood():
    # Random letters are no stories, so these are parsed: names, options and their values.
    asked = [words[1:] for words in commands() if words[0] == "generate"]
    assert len(asked) >= 3
    for words in asked:
        main.commands["generate"].make_context("generate", words)


@pytest.mark.slow
def test_the_other_commands_on_the_page_of_the_method_run_in_their_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_pew_sav(Path("ATP W34.sav"), 34, 24)
    texts = [f"Question: Tell me about yourself.\n\nAnswer: I have lived in town {at} all my life." for at in range(30)]
    Path("anthology_backstory_list.json").write_text(json.dumps(texts))
    asked = [words for words in commands() if words[0] != "generate" or "--dry-run" in words]
    assert len(asked) >= 9
    for words in asked:
        done = CliRunner().invoke(main, words)
        assert done.exit_code == 0, f"{words}\n{done.output}"
    assert (tmp_path / "w34-8b" / "table.md").read_text().count("reported by the paper") >= 10
    assert Anthology.load("pool-annotated").margins("household_income").keys() >= {"<10k", "200k+"}
    assert (tmp_path / "calibration" / "calibration.html").is_file()
    assert load_run("runs/greedy").picks.shape == (24, 8) and (tmp_path / "reports/greedy/report.html").is_file()


def test_the_page_of_the_method_names_every_way_to_match_to_tell_and_to_answer():
    text = (DOCS / PAGE).read_text(encoding="utf-8")
    for name in (*METHODS, *CONDITIONINGS):
        assert f"`{name}`" in text, name
