"""`anthology-hub power` and `anthology-hub rectify`: from the options to the tables that are printed."""

import json
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from anthology_hub import (
    EvaluateOptions,
    Respondents,
    SimulateOptions,
    Survey,
    evaluate,
    open_model,
    simulate,
    unmatched,
)
from anthology_hub.cli_planning import power_command, rectify_command
from anthology_hub.errors import EmptyError, OptionError, UnknownNameError
from anthology_hub.power import Assumed, Population, PowerOptions, plan_power
from anthology_hub.rectification import RectifyOptions, rectify

QUICK = ["--replicates", "40", "--power", "0.8"]


def ask(command, *arguments):
    result = CliRunner().invoke(command, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def runs(gss, spending, tmp_path_factory):
    """Two run folders on the same 120 respondents, and their answers."""
    folder, cast = tmp_path_factory.mktemp("runs"), unmatched(gss.sample(120))
    rules = {"guess": "uniform", "first": "first"}
    how = SimulateOptions(conditioning="bio")
    found = {
        name: simulate(cast, spending, open_model(f"scripted:{rule}"), options=how, folder=folder / name)
        for name, rule in rules.items()
    }
    return folder, found


def test_power_prints_a_table_the_least_numbers_and_what_was_assumed():
    output = ask(
        power_command, "--survey", "gss-national-spending", "--question", "natenvir", "--question", "nataid",
        "--humans", "gss-2018", "--difference", 0.05, "--level", 0.05, "--size", 50, "--size", 100, *QUICK,
    )  # fmt: skip
    lines = output.splitlines()
    assert lines[0].startswith(
        "WD normalised 0.0500 against 0.1000, a difference of 0.0500; 2 items, against gss-2018,"
    )
    assert [line.split()[0] for line in lines[3:5]] == ["50", "100"]
    assert lines[5].startswith("80% power: ") and "personas each (power" in lines[5]
    assert all(line.startswith("assumed: ") for line in lines[6:])


def test_power_prints_what_the_library_finds(gss, spending):
    output = ask(
        power_command, "--survey", "gss-national-spending", *(f"--question={key}" for key in spending.keys),
        "--difference", 0.05, "--toward", "mode", "--alike", 0.5, "--unpaired", "--people", "inf", "--size", 60,
        "--seed", 3, *QUICK, "--json",
    )  # fmt: skip
    contest = Assumed(
        population=Population.of(gss, spending, people=np.inf), difference=0.05, toward="mode", alike=0.5, paired=False
    )
    options = PowerOptions(replicates=40, targets=(0.8,), seed=3)
    assert json.loads(output) == json.loads(json.dumps(plan_power(contest, sizes=[60], options=options).to_dict()))


def test_power_takes_the_questions_of_the_humans_where_no_survey_is_named():
    arguments = ["--difference", 0.06, "--question", "nataid", "--size", 20, *QUICK, "--json"]
    assert json.loads(ask(power_command, *arguments))["items"] == 1


def test_power_plans_from_two_pilot_runs(runs):
    folder, _ = runs
    arguments = ["--runs", folder / "guess", folder / "first", "--size", 20, *QUICK, "--json"]
    told = json.loads(ask(power_command, *arguments))
    assert "120 shared respondents" in told["assumptions"][0]
    assert told["points"][0]["n"] == 20 and 0 <= told["points"][0]["power"] <= 1
    less = json.loads(ask(power_command, *arguments, "--difference", abs(told["difference"]) / 2))
    assert less["difference"] == pytest.approx(abs(told["difference"]) / 2, abs=1e-6)


def test_power_takes_the_human_shares_of_a_result(runs, gss, spending, tmp_path):
    result = evaluate(runs[1]["guess"], gss, options=EvaluateOptions(bootstraps=2, splits=1))
    file = tmp_path / "result.json"
    file.write_text(json.dumps(result.to_dict()), encoding="utf-8")
    arguments = ["--result", file, "--difference", 0.05, "--size", 40, *QUICK, "--json"]
    told = json.loads(ask(power_command, *arguments))
    assert told["items"] == 4 and result.run_id in told["humans"]
    told = json.loads(ask(power_command, *arguments, "--survey", "gss-national-spending", "--question", "nataid"))
    assert told["items"] == 1


def test_rectify_prints_what_the_library_finds(runs, gss):
    folder, answers = runs
    arguments = [folder / "guess", "--question", "natenvir", "--option", "Too little", "--labelled", 60]
    found = rectify(answers["guess"], gss, "natenvir", option="Too little", labelled=60)
    assert ask(rectify_command, *arguments).splitlines() == found.lines()
    assert json.loads(ask(rectify_command, *arguments, "--json")) == json.loads(json.dumps(found.to_dict()))


def test_rectify_takes_the_labelled_from_a_file_and_traits(runs, gss, tmp_path):
    folder, answers = runs
    known = {i for i, code in zip(gss.ids, gss.answers["natenvir"], strict=True) if code >= 0}
    ids = [respondent for respondent in answers["guess"].respondent_ids if respondent in known][:80]
    file = tmp_path / "labelled.txt"
    file.write_text("\n".join(ids) + "\n\n", encoding="utf-8")
    output = ask(
        rectify_command, folder / "guess", "--question", "natenvir", "--labelled", file, "--trait", "gender",
        "--simulated", "picks", "--tuning", 1, "--level", 0.9, "--json",
    )  # fmt: skip
    options = RectifyOptions(simulated="picks", tuning=1.0, level=0.9)
    found = rectify(answers["guess"], gss, "natenvir", traits=["gender"], labelled=ids, options=options)
    assert json.loads(output) == json.loads(json.dumps(found.to_dict()))
    assert np.isclose(found.rows[0].tuning, 1.0) and found.n_labelled == 80


def test_rectify_takes_the_people_of_the_run_and_asks_for_those_of_a_file(gss, spending, tmp_path):
    humans, how = Respondents.load("bfi").sample(80, seed=1), SimulateOptions(conditioning="nothing")
    asked, model = Survey.load("bfi").select(["A1"]), open_model("scripted:uniform")
    answers = simulate(unmatched(humans), asked, model, options=how, folder=tmp_path / "bfi")
    found = rectify(answers, Respondents.load("bfi"), "A1", labelled=40)
    assert ask(rectify_command, tmp_path / "bfi", "--question", "A1", "--labelled", 40).splitlines() == found.lines()
    town = unmatched(replace(gss.sample(20), name="town"))
    simulate(town, spending, model, options=how, folder=tmp_path / "town")
    with pytest.raises(OptionError, match="the respondents 'town' of .*town came from a file: give it with --humans"):
        ask(rectify_command, tmp_path / "town", "--question", "natenvir")


@pytest.mark.parametrize(
    ("command", "arguments", "error", "says"),
    [
        (power_command, [], OptionError, "give the --difference to find, such as 0.02, or two pilot --runs"),
        (power_command, ["--difference", "0.9"], OptionError, "0.9 cannot be"),
        (power_command, ["--difference", "0.02", "--question", "natx"], UnknownNameError, "natx"),
        (
            power_command,
            ["--difference", "0.02", "--result", "r.json", "--question", "a"],
            OptionError,
            "needs the --survey",
        ),
        (
            rectify_command,
            ["RUN", "--question", "natenvir", "--labelled", "ids.txt"],
            OptionError,
            "neither a number nor",
        ),
        (rectify_command, ["RUN", "--question", "natenvir", "--humans", "bfi"], UnknownNameError, "question of bfi"),
        (rectify_command, ["RUN", "--question", "natenvir", "--labelled", "120"], OptionError, "cannot label 120"),
    ],
)
def test_what_cannot_be_done_is_said(runs, command, arguments, error, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = [str(runs[0] / "guess") if argument == "RUN" else argument for argument in arguments]
    with pytest.raises(error, match=says):
        ask(command, *given)


def test_humans_of_another_survey_without_one_are_refused(runs, gss, tmp_path, monkeypatch):
    monkeypatch.setattr("anthology_hub.cli_planning.load_humans", lambda _name, _wave: replace(gss, survey=None))
    with pytest.raises(OptionError, match="gss-2018 has no survey: give one with --survey"):
        ask(power_command, "--difference", 0.02, "--question", "nataid")
    empty = gss.take(range(1))
    monkeypatch.setattr("anthology_hub.cli_planning.load_humans", lambda _name, _wave: replace(empty, ids=("nobody",)))
    with pytest.raises(EmptyError, match="nobody in the run is in gss-2018"):
        ask(rectify_command, runs[0] / "guess", "--question", "natenvir")
