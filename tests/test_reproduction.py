"""Studies run again: on a made wave of the panel the conditions run, the yardsticks come out, and nothing is mixed."""

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner

from anthology_hub.cli import main
from anthology_hub.collection import Anthology
from anthology_hub.errors import DataError, OptionError, UnknownNameError
from anthology_hub.evaluation import EvaluateOptions
from anthology_hub.humans import Respondents
from anthology_hub.matching import match
from anthology_hub.models import open_model
from anthology_hub.models.scripted import ScriptedModel
from anthology_hub.reproduction import Study, plan_reproduction, reproduce
from anthology_hub.simulation import SimulateOptions, load_run
from tests.human_files import write_pew_sav

QUICK = EvaluateOptions(weighting="paper", splits=20, bootstraps=20)
FIVE = ("age", "household_income", "education", "race", "gender")


@pytest.fixture(scope="module")
def wave(tmp_path_factory):
    """A file in the shape of wave 34, all 2,537 people, with its published margins and alpha."""
    path = tmp_path_factory.mktemp("pew") / "ATP W34.sav"
    write_pew_sav(path, 34)
    return path


@pytest.fixture(scope="module")
def humans(wave):
    return Respondents.from_pew(wave)


def storyteller(prompt, seed):
    """A writer whose stories differ, and who answers what is asked with the first option."""
    if "Tell me about yourself" in prompt.question:
        return f"I am person number {seed}. " + "I grew up here and stayed. " * 8
    return "(A)"


@pytest.fixture(scope="module")
def made(humans, starter, tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "out"
    told = []
    model = ScriptedModel("uniform")
    writer = ScriptedModel("first", replies=storyteller)
    done = reproduce(
        "paper-w34", humans, model, folder, people=starter, writer=writer, n=60, evaluation=QUICK, say=told.append
    )
    return done, folder, told, model


def test_all_rows_of_the_table_run_and_stand_beside_the_published_ones(made):
    done, folder, told, _ = made
    ran = [(row.condition.method, row.condition.matching, row.result.n) for row in done.rows]
    assert ran == [
        ("Bio", "n/a", 60),
        ("QA", "n/a", 60),
        ("Anthology (DP)", "n/a", 60),
        ("Anthology (NA)", "random", 60),
        ("Anthology (NA)", "max weight", 60),
        ("Anthology (NA)", "greedy", 60),
    ]
    assert done.left_out == {} and len(told) == 7
    table = (folder / "table.md").read_text()
    assert (
        "| Llama-3-70B | Anthology (NA) | greedy | 0.227 | 1.070 | 0.708 |  | reported by the paper, table 2.1 |"
        in table
    )
    assert table.count("reported by the paper") == len(done.study.reported) == 28
    assert "gpt" not in table and str(done).count("  here") == 7


def test_the_yardsticks_of_the_made_wave_come_out_as_published(made):
    result = made[0].rows[0].result
    assert result.metric("alpha").human == pytest.approx(0.784, abs=0.02)
    assert result.metric("wd").floor == pytest.approx(0.057, abs=0.012)
    assert result.metric("fro").floor == pytest.approx(0.418, abs=0.08)
    assert (made[0].n_humans, result.weighting) == (2537, "paper")


def test_only_the_traits_of_the_study_are_told_and_matched(made, humans):
    done, folder, *_ = made
    assert set(humans.levels) > set(FIVE)
    greedy = load_run(folder / "runs" / "anthology-greedy").provenance["inputs"]
    assert sorted(greedy["cast"]["traits"]) == sorted(FIVE)
    assert greedy["options"]["mode"] == "text" and greedy["options"]["tries"] == 100
    assert done.study.traits == FIVE


def test_the_same_again_asks_nothing_and_gives_the_same(made, humans, starter):
    done, folder, *_ = made
    model = ScriptedModel("uniform")
    writer = ScriptedModel("first", replies=storyteller)
    again = reproduce("paper-w34", humans, model, folder, people=starter, writer=writer, n=60, evaluation=QUICK)
    assert (model.asked, writer.asked) == (0, 0)
    assert [row.figures() for row in again.rows] == [row.figures() for row in done.rows]


def test_what_cannot_be_run_is_named_with_the_reason(humans, starter, tmp_path):
    few = starter.sample(50)
    done = reproduce("paper-w34", humans, ScriptedModel("uniform"), tmp_path, people=few, n=60, evaluation=QUICK)
    assert set(done.left_out) == {"primed", "anthology-random", "anthology-optimal"}
    assert "50 personas are fewer than 60 respondents: give a larger collection" in done.left_out["anthology-optimal"]
    assert "Not run: primed: its backstories are written for each respondent" in (tmp_path / "table.md").read_text()


def test_a_backstory_that_was_not_written_leaves_its_respondent_out_and_is_counted(humans, starter, tmp_path):
    same = ScriptedModel("first", replies=lambda prompt, _seed: storyteller(prompt, 1))
    done = reproduce("paper-w34", humans, same, tmp_path, people=starter, writer=same, n=12, evaluation=QUICK)
    primed = next(row for row in done.rows if row.condition.name == "primed")
    assert primed.result.n == 1
    assert "primed: 11 respondents have no backstory and are left out." in str(done)


def test_a_writer_that_writes_nothing_leaves_its_condition_out_with_the_reason(humans, starter, tmp_path):
    mute = ScriptedModel("first", replies=lambda _prompt, _seed: "")
    model = ScriptedModel("uniform")
    done = reproduce("paper-w34", humans, model, tmp_path, people=starter, writer=mute, n=8, evaluation=QUICK)
    assert done.left_out == {"primed": "its writer wrote no backstory"} and len(done.rows) == 5


def test_matching_takes_every_trait_of_the_study_and_has_the_papers_objective(humans, starter, tmp_path):
    done = reproduce("paper-w34", humans, ScriptedModel("uniform"), tmp_path, people=starter, n=8, evaluation=QUICK)
    greedy = next(row.result for row in done.rows if row.condition.cast == "greedy")
    few = humans.sample(8, seed=0)
    best = match(starter, few, method="greedy", traits=FIVE, floor=1e-12).diagnostics
    assert greedy.provenance["inputs"]["matching"]["mean_weight"] == pytest.approx(best["mean_weight"], rel=1e-5)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"append": "song"}, OptionError, "song"),
        ({"lacking": "race"}, UnknownNameError, "unknown trait shared by personas and pew-w34 'race'"),
        ({"crosswalk": ""}, OptionError, "pew-w34 has no crosswalk from persona levels to its own"),
    ],
)
def test_what_would_fail_later_fails_before_anything_is_asked(humans, starter, tmp_path, change, error, message):
    traits = tuple(trait for trait in starter.codebook.traits if trait.name != change.get("lacking"))
    book = replace(starter.codebook, name="own" if "crosswalk" in change else "starter", traits=traits)
    rows = [{"backstory": f"Story {at}.", "traits": {"age": "18-29"}} for at in range(4)]
    people = Anthology.from_records(rows, book, name="own", licence="CC0-1.0")
    model, them = ScriptedModel("uniform"), replace(humans, crosswalk=change.get("crosswalk", humans.crosswalk))
    with pytest.raises(error, match=message):
        reproduce("paper-w34", them, model, tmp_path, people=people, n=3, append=change.get("append", "bio"))
    assert model.asked == 0


def test_the_plan_counts_what_each_condition_takes(humans, starter):
    model = ScriptedModel("uniform")
    plans = plan_reproduction("paper-w34", humans, model, people=starter, n=10)
    assert plans["bio"].answers == plans["anthology-greedy"].answers == 80 and model.asked == 0
    assert plans["anthology-greedy"].unique_tokens > plans["bio"].unique_tokens
    assert "none is given" in plans["primed"]
    plans = plan_reproduction("paper-w34", humans, model, people=starter, writer=ScriptedModel("first"), n=10)
    assert plans["primed"] == "its 10 backstories are written first, by first: it is counted then"


@pytest.mark.parametrize("name", ["paper-w34", "paper-w92", "paper-w99"])
def test_every_shipped_study_has_the_papers_rows_and_no_others(name):
    study = Study.load(name)
    models = {row.model for row in study.reported}
    assert models <= {"Human", *(f"Llama-3-{size}" for size in ("8B", "70B", "70B-Instruct"))} | (
        {"Mixtral-8x22B", "Mixtral-8x22B-Instruct"} if name == "paper-w34" else set()
    )
    best = min((row for row in study.reported if row.model == "Llama-3-70B"), key=lambda row: row.wd)
    assert (best.method, best.matching) == ("Anthology (NA)", "greedy")
    assert {condition.conditioning for condition in study.conditions} == {"bio", "qa", "primed", "anthology"}


def test_respondents_of_another_survey_and_unknown_studies_are_refused(humans, gss, tmp_path):
    with pytest.raises(OptionError, match="paper-w34 is about pew-w34, got gss-2018: give the file of that wave"):
        reproduce("paper-w34", gss, ScriptedModel("uniform"), tmp_path)
    levels = {name: listed for name, listed in humans.levels.items() if name != "race"}
    with pytest.raises(OptionError, match="pew-w34 has no race, which paper-w34 tells and matches on; it has age"):
        reproduce("paper-w34", replace(humans, levels=levels), ScriptedModel("uniform"), tmp_path)
    with pytest.raises(UnknownNameError, match="unknown study 'paper-w35'.*'paper-w34', 'paper-w92', 'paper-w99'"):
        Study.load("paper-w35")
    broken = tmp_path / "mine.json"
    broken.write_text(json.dumps({"name": "mine", "conditions": [{"method": "Bio"}]}))
    with pytest.raises(DataError, match=r"mine.json' is not complete: .*matching"):
        Study.load(str(broken))


def test_the_command_prints_the_table_and_plans_without_asking(wave, tmp_path):
    run = CliRunner().invoke
    asked = ["reproduce", "paper-w34", "--humans", str(wave), "--model", "scripted:uniform", "--sample", "20"]
    planned = run(main, [*asked, "--dry-run"])
    assert planned.exit_code == 0 and "  20 roles, 160 answers" in planned.output
    assert "primed\n  no count: its backstories are written for each respondent" in planned.output
    planned = run(main, [*asked, "--dry-run", "--writer", "scripted:first"])
    assert "primed\n  no count: its 20 backstories are written first" in planned.output
    done = run(main, [*asked, "--out", str(tmp_path / "out"), "--mode", "letters"])
    assert done.exit_code == 0, done.output
    assert "uniform       " in done.output and "reported by the paper, table 2.1" in done.output
    assert (tmp_path / "out" / "table.md").is_file()
    told = json.loads(run(main, [*asked, "--out", str(tmp_path / "out"), "--mode", "letters", "--json"]).output)
    assert {row["tag"] for row in told["reported"]} == {"reported by the paper"} and len(told["rows"]) == 5
    assert json.loads(run(main, [*asked, "--dry-run", "--json"]).output)["bio"]["answers"] == 160


@pytest.mark.slow
def test_a_real_model_goes_through_the_papers_way(humans, starter, tmp_path):
    model = open_model("local:smollm2", device="cpu")
    options = replace(
        SimulateOptions.paper(), tries=3, sampling=replace(SimulateOptions.paper().sampling, max_tokens=8)
    )
    done = reproduce("paper-w34", humans, model, tmp_path, people=starter, n=3, options=options, evaluation=QUICK)
    assert [row.result.n for row in done.rows] == [3] * 5
    assert all(0 <= row.figures()["wd"] <= 3 for row in done.rows)
