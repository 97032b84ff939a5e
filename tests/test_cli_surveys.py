"""The commands for survey files say what they found, and their exit codes what it means."""

import json

import click
import pytest
from click.testing import CliRunner

from anthology_hub import cli_surveys
from anthology_hub.errors import DataError
from anthology_hub.questionnaires import read_survey
from anthology_hub.questionnaires.checks import schema
from anthology_hub.schema import Survey
from tests.test_qsf import logic, qsf, question, selected


@click.group()
def main():
    """Stands for the main group."""


for command in cli_surveys.COMMANDS:
    main.add_command(command)


def call(*arguments, code=0):
    done = CliRunner().invoke(main, ["survey", *map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done.stdout


@pytest.fixture
def drinks(tmp_path):
    path = tmp_path / "drinks.yaml"
    path.write_text(
        """
name: drinks
title: Drinks
preamble: Some questions on drinks.
options: [{code: 1, text: Yes}, {code: 2, text: No}]
questions:
  - {key: tea, text: "Tea?", ordinal: false}
  - key: milk
    text: With milk?
    ask_if: {all: [{question: tea, in: [1]}, {not: {question: tea, in: [2]}}]}
  - key: sure
    text: "You said {tea}. Sure?"
    reverse: true
    ask_if: {any: [{question: tea, in: [1, 2]}]}
scales: {all: [sure, milk]}
"""
    )
    return path


@pytest.fixture
def study(tmp_path):
    path = tmp_path / "study.qsf"
    asked = (
        question("QID1", DataExportTag="tea"),
        question("QID2", "TE", "SL", QuestionText="Why?"),
        question("QID3", DataExportTag="milk", DisplayLogic=logic(selected("QID2", 1))),
    )
    path.write_text(json.dumps(qsf(*asked)))
    return path


@pytest.mark.parametrize("command", cli_surveys.survey_group.commands.values(), ids=lambda command: command.name)
def test_every_command_has_help_with_an_example(command):
    assert "Example: anthology-hub survey " in command.help


def test_a_sound_survey_is_told_to_be_sound(drinks):
    assert call("check", drinks) == f"{drinks}: 0 errors, 0 warnings\n"
    assert json.loads(call("check", drinks, "--json")) == []


def test_all_problems_are_told_with_their_places_and_errors_give_exit_code_1(drinks):
    drinks.write_text(
        drinks.read_text().replace("question: tea, in: [1]}, ", "question: tee, in: [1]}, ").replace("No}", "5}")
    )
    text = call("check", drinks, code=1)
    assert text.splitlines() == [
        "error: options 2, text: 5 is not a text: put it in quotes",
        "error: question 'milk', ask_if: there is no question 'tee' (did you mean 'tea'?)",
        f"{drinks}: 2 errors, 0 warnings",
    ]
    problem = json.loads(call("check", drinks, "--json", code=1))[0]
    assert problem == {
        "where": "options 2, text",
        "what": "5 is not a text: put it in quotes",
        "severity": "error",
    }


def test_warnings_alone_give_exit_code_0(drinks):
    drinks.write_text(drinks.read_text().replace("With milk?", "Tea?"))
    assert call("check", drinks).splitlines() == [
        "warning: question 'milk', text: it is asked twice: 'tea' has the same text",
        f"{drinks}: 0 errors, 1 warnings",
    ]


def test_an_import_tells_what_was_kept_what_left_out_and_why(study, tmp_path):
    out = tmp_path / "new" / "study.json"
    assert call("import", study, "--out", out).splitlines() == [
        "Kept 2 questions: tea, milk",
        "Left out 1:",
        "  Q2 (TE SL): an open text has no options - Why?",
        "Note: Display logic that cannot be read is left out; asked of all: "
        "milk (QID2 is no question before it that was kept).",
        f"Written to {out}. Look at it with: anthology-hub survey show {out}",
    ]
    assert Survey.load(str(out)).keys == ("tea", "milk")


def test_an_import_is_told_as_json_and_written_as_yaml_if_so_asked(study, drinks, tmp_path):
    out = tmp_path / "study.yaml"
    told = json.loads(call("import", study, "--out", out, "--kind", "qualtrics", "--json"))
    assert told["questions"] == ["tea", "milk"] and told["sources"] == {"tea": "QID1", "milk": "QID3"}
    assert told["left_out"] == [{"key": "Q2", "kind": "TE SL", "text": "Why?", "why": "an open text has no options"}]
    assert told["file"] == str(out) and len(told["notes"]) == 1
    assert read_survey(out).survey.keys == ("tea", "milk")
    assert "Left out" not in call("import", drinks, "--out", tmp_path / "again.json")


def test_kinds_and_limits_of_questions_are_shown(tmp_path):
    options = [{"code": at, "text": text} for at, text in enumerate(("Bus", "Bike", "None of these"))]
    questions = [
        {"key": "hours", "text": "How long?", "kind": "number", "low": 0, "high": 24, "unit": "hours"},
        {"key": "how", "text": "How?", "kind": "multi", "options": options, "least": 1, "most": 2, "exclusive": [2]},
        {"key": "why", "text": "Why?", "kind": "text"},
    ]
    (tmp_path / "s.json").write_text(json.dumps({"name": "s", "questions": questions}))
    shown = call("show", tmp_path / "s.json")
    assert "\nhours (number, from 0, to 24, in hours)\n" in shown and "\nwhy (text)\n" in shown
    assert "\nhow (multi, at least 1, at most 2)\n" in shown
    assert "    (B) Bike  [1]\n    (C) None of these  [2], with no other\n" in shown


def test_a_survey_is_shown_as_a_person_would_see_it(drinks):
    assert (
        call("show", drinks)
        == """\
Drinks (3 questions)
Options shown in this order: original or reversed

Some questions on drinks.

tea (no order)
  Tea?
    (A) Yes  [1]
    (B) No  [2]

milk
  Asked if (tea is 'Yes' [1]) and (not (tea is 'No' [2]))
  With milk?
    (A) Yes  [1]
    (B) No  [2]

sure (reversed)
  Asked if tea is 'Yes' [1] or 'No' [2]
  You said {tea}. Sure?
    (A) Yes  [1]
    (B) No  [2]

Scale all: sure, milk
"""
    )


def test_options_that_cannot_be_lettered_are_shown_without_a_letter(tmp_path):
    options = [{"code": code, "text": f"Land {code}"} for code in range(30)]
    path = tmp_path / "lands.json"
    path.write_text(json.dumps({"name": "lands", "questions": [{"key": "land", "text": "Which?", "options": options}]}))
    shown = call("show", path, "--kind", "survey").splitlines()
    assert (
        shown[0] == "lands (1 questions)" and "    (Z) Land 25  [25]" in shown and shown[-1] == "    (-) Land 29  [29]"
    )


def test_the_schema_is_printed_as_published():
    assert json.loads(call("schema")) == schema()


def test_a_file_that_cannot_be_read_is_an_error_of_the_library(tmp_path):
    with pytest.raises(DataError, match="is no file: give the path of a survey file"):
        call("show", tmp_path / "nothing.json")
