"""`anthology-hub annotate`: traits of personas by a model, judged, reported, saved."""

import json
import re

import pytest
from click.testing import CliRunner

from anthology_hub import Anthology, cli_annotating
from anthology_hub.calibration import NO_USE
from anthology_hub.cli_annotating import annotate_command
from anthology_hub.errors import OptionError, UnknownNameError

UNIFORM = ("--model", "scripted:uniform", "--sample", "20")


@pytest.fixture
def call(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def called(*arguments):
        done = CliRunner().invoke(annotate_command, list(arguments), catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    return called


def test_annotations_become_a_collection_with_a_drafted_minor_release(call, tmp_path):
    shown = call("out", *UNIFORM, "--codebook", "anthology", "--trait", "ideology", "--samples", "5", "--run", "run")
    assert re.search(r"ideology +sampled 20, .*answered \d+, refused \d+\n", shown)
    assert re.search(r"anthology-starter@1\.2\.0#\w{12} in out", shown)
    people = Anthology.load("out")
    assert len(people) == 20 and people.annotations_of(people.ids[0])[-1]["n_samples"] == 5
    log = (tmp_path / "out" / "CHANGELOG.md").read_text()
    assert "## 1.2.0\n\n### Added\n\n- trait ideology added" in log and "\n## 1.1.0\n" in log
    assert json.loads((tmp_path / "run" / "run.json").read_text())["inputs"]["method"] == "paper"


def test_check_prints_figures_beside_baselines_and_says_that_noise_is_no_use(call):
    shown = call("--check", *UNIFORM, "--method", "sampled", "--trait", "gender", "--trait", "region")
    line = next(line for line in shown.splitlines() if line.startswith("region  ") and "[" in line)
    assert re.fullmatch(r"region +20 +100%( +0\.\d{3} \[0\.\d{3}, [01]\.\d{3}\]){3} +0\.250 +0\.\d{3} +0\.\d{3}", line)
    assert "Intervals: 95 % bootstrap over personas." in shown
    assert "scripted/uniform on 20 personas of anthology-starter@1.1.0#" in shown and shown.strip().endswith(NO_USE)


def test_check_of_other_levels_names_what_is_not_judged(call):
    shown = call(
        "--check", *UNIFORM, "--codebook", "anthology", "--method", "logprob", "--trait", "age", "--trait", "race"
    )
    assert "Not judged, no label with the same levels: race" in shown


def test_json_holds_counts_and_calibration(call):
    told = json.loads(call("--check", *UNIFORM, "--method", "logprob", "--trait", "gender", "--json"))
    (trait,) = told["calibration"]["traits"]
    assert told["counts"] == {"gender": {"logprob": 20}} and told["folder"] is None
    assert trait["accuracy"]["value"] == pytest.approx(1 / 3) and sum(map(sum, trait["confusion"])) == pytest.approx(20)
    assert told["calibration"]["bins"] == 10 and [b["name"] for b in trait["baselines"]][0] == "uniform"


def test_the_report_page_stands_alone_with_plots_and_the_figures_behind_them(call, tmp_path):
    shown = call("--check", *UNIFORM, "--method", "sampled", "--samples", "8", "--trait", "household_income",
                 "--trait", "gender", "--report", "page")  # fmt: skip
    assert "Report: page/calibration.html" in shown
    page = (tmp_path / "page" / "calibration.html").read_text()
    assert {file.name for file in (tmp_path / "page").iterdir()} == {
        "calibration.html",
        "household_income.png",
        "gender.png",
    }
    assert page.count("data:image/png;base64,") == 2 and "http" not in page.replace("http-equiv", "")
    assert "&lt;25k" in page and "<25k" not in page and NO_USE in page
    assert "Against what costs nothing" in page and page.count("<td>majority</td>") == 2
    assert re.search(r'alt="Reliability of gender: \d+ personas at 0\.\d\d confidence', page)


def test_a_dry_run_counts_and_asks_nothing(call, tmp_path):
    plan = json.loads(call("--dry-run", *UNIFORM, "--trait", "age", "--samples", "3", "--json"))
    assert (plan["personas"], plan["traits"], plan["calls"]) == (20, ["age"], 80)
    shown = call("out", "--dry-run", *UNIFORM, "--trait", "age", "--locate", "age", "--stop", "top")
    assert "At most 820 prompts on 20 personas, traits age:" in shown and "Nothing was asked." in shown
    assert not list(tmp_path.iterdir())


def test_another_model_may_look_for_quotes(call):
    told = json.loads(
        call("--check", *UNIFORM, "--locator", "scripted:first", "--trait", "gender", "--samples", "2", "--json")
    )
    assert told["counts"]["gender"]["answered"] + told["counts"]["gender"].get("refused", 0) == 40


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["out", "--sample", "0"], "cannot sample 0 personas"),
        (["busy"], "busy holds what is no part of a collection: give a new folder"),
        (["file"], "file is a file: give a new folder"),
        (["out", "--run", "out"], "the run folder out is within out: give a folder of its own"),
        (["out", "--run", "out/run"], "the run folder out/run is within out: give a folder of its own"),
        (["--check", "--report", "file"], "file is a file: give a folder for the page"),
        (["out", "--method", "sampled", "--locate", "age"], "--locate and --locator are of the methods paper, located"),
        (["out", "--method", "logprob", "--locator", "scripted:first"], "got 'logprob'"),
        (["out", "--method", "logprob", "--stop", "top"], "--stop is of the methods paper, sampled, got 'logprob'"),
    ],
)
def test_what_could_not_be_saved_or_would_be_passed_over_is_refused_before_anything_is_asked(
    call, tmp_path, monkeypatch, arguments, said
):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "busy").mkdir()
    (tmp_path / "busy" / "mine.txt").write_text("mine")
    monkeypatch.setattr(cli_annotating, "annotate", None)
    with pytest.raises(OptionError) as caught:
        call("--model", "scripted:uniform", "--trait", "gender", *arguments)
    assert said in str(caught.value)


def test_a_collection_may_be_annotated_in_its_place(call):
    for size in ("5", "3"):
        call("out", "--model", "scripted:uniform", "--sample", size, "--trait", "gender", "--samples", "1")
    assert len(Anthology.load("out")) == 3


def test_what_cannot_be_done_is_refused_with_what_to_do(call):
    with pytest.raises(OptionError, match="give a folder OUT, or --check, or --dry-run"):
        call(*UNIFORM)
    with pytest.raises(OptionError, match="--report is the page of a check: add --check"):
        call("out", *UNIFORM, "--report", "page")
    with pytest.raises(UnknownNameError, match="unknown trait 'gendre': did you mean 'gender'"):
        call("out", *UNIFORM, "--trait", "gendre")
