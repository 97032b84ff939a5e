"""Odd questionnaires, margins, crosswalks, columns: each is read as it is meant, told, or refused with what to do."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from anthology_hub.cli import main
from anthology_hub.crosswalks import Crosswalk
from anthology_hub.errors import DataError
from anthology_hub.humans import Respondents
from anthology_hub.margins import Margins
from anthology_hub.privacy import scan
from anthology_hub.questionnaires import check_survey, read_survey, write_survey
from anthology_hub.questionnaires.conditions import CannotKeep, read_expression
from anthology_hub.questionnaires.ddi import read_ddi
from anthology_hub.questionnaires.imported import Draft, Item, Option
from anthology_hub.questionnaires.qsf import read_qsf
from anthology_hub.schema import Codebook, Condition, Question, Survey
from anthology_hub.suggestions import suggest
from tests.test_qsf import block, element, question, shown

RNG = np.random.default_rng(11)


def kind_of(values, name="column", label=""):
    found = scan({name: values}, {name: label})
    return found[0].kind if found else None


# -- questionnaires


def skipping(qid, condition, to, **more):
    choice = f"q://{qid}/SelectableChoice/1"
    rule = {"ChoiceLocator": choice, "Condition": condition, "SkipToDestination": to, "Type": "Skip", "QuestionID": qid}
    return {"Type": "Question", "QuestionID": qid, "SkipLogic": [rule], **more}


def car_survey(electric):
    owns = {"LogicType": "Question", "Operator": "Selected", "LeftOperand": "q://QID1/SelectableChoice/1"}
    elements = [
        element("BL", "Survey Blocks", [block("BL_1", "QID1", electric, "QID3", "QID4")]),
        element("FL", "Survey Flow", {"Type": "Root", "FlowID": "FL_1", "Flow": [shown("BL_1")]}),
        question("QID1"),
        question("QID2", DisplayLogic={"0": {"0": {**owns, "Type": "Expression"}, "Type": "If"}}),
        question("QID3"),
        question("QID4"),
    ]
    return read_qsf(json.dumps({"SurveyEntry": {}, "SurveyElements": elements}).encode(), name="car").survey


def test_qualtrics_skips_nobody_for_a_question_that_was_not_shown():
    # Qualtrics looks at skip logic when a question was shown: who has no car never saw whether it is electric.
    asked = {q.key: q.ask_if for q in car_survey(skipping("QID2", "NotSelected", "QID4")).questions}["Q3"]
    assert asked.to_dict() == {"not": {"question": "Q2", "in": [2]}}
    assert [asked.holds({"Q1": 1, "Q2": 1}), asked.holds({"Q1": 1, "Q2": 2}), asked.holds({"Q1": 2, "Q2": None})] == [
        True,
        False,
        True,
    ]


def test_a_comparison_of_several_answers_with_one_is_refused_and_not_read_as_selected():
    # In XLSForm ${diet} = 'milk' holds for those who chose milk and nothing else.
    draft = Draft(name="x", title="x", source="x")
    options = [Option(name="milk", text="Milk"), Option(name="meat", text="Meat")]
    draft.add_choices(Item(key="diet", text="What do you eat?", options=options, names=["diet"]), source="diet")
    for told in ("${diet} = 'milk'", "${diet} != 'milk'", "${diet} > 1"):
        with pytest.raises(CannotKeep, match="diet takes several answers.*selected"):
            read_expression(told, draft.selected)
    found = read_expression("selected(${diet}, 'milk')", draft.selected)
    assert found == Condition(kind="in", question="diet_milk", codes=(1,))


def test_codes_that_a_ddi_variable_lists_as_invalid_are_no_options():
    categories = "".join(
        f"<catgry><catValu>{code}</catValu><labl>{text}</labl></catgry>"
        for code, text in [("1", "Yes"), ("2", "No"), ("8.0", "Other"), ("9", "Blank")]
    )
    asked = '<qstn><qstnLit>Trust?</qstnLit></qstn><invalrng><item VALUE="8"/><item VALUE="9"/></invalrng>'
    xml = f'<codeBook><dataDscr><var name="V1">{asked}{categories}</var></dataDscr></codeBook>'
    found = read_ddi(xml.encode(), name="x")
    assert found.survey.questions[0].codes == (1, 2)
    told = "Categories that count as missing are left out of the options: V1 (8 Other), V1 (9 Blank)."
    assert told in found.notes


@pytest.mark.parametrize("text", ["1.5e3", "-.5", "+.5", ".5e3", "1.", "0x1f", "1_000", "Yes", "~", "12:30", "<<"])
def test_every_text_comes_back_from_yaml_as_it_was_written(tmp_path, text):
    asked = Question(key="a", text=text, options=(text, "other"), codes=(1, 2))
    survey = Survey(name="x", title=text, source="", questions=(asked,))
    write_survey(survey, tmp_path / "x.yaml")
    assert read_survey(tmp_path / "x.yaml").survey == survey


@pytest.mark.parametrize("code", [10**29, -(10**29), 2**53])
def test_a_code_too_large_for_data_files_is_told_by_the_check(tmp_path, code):
    options = [{"code": code, "text": "Yes"}, {"code": 2, "text": "No"}]
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"name": "x", "questions": [{"key": "a", "text": "A?", "options": options}]}))
    (told,) = [str(problem) for problem in check_survey(path)]
    assert told.startswith(f"error: question 'a', options 1, code: {code} is ")
    assert "9007199254740991" in told


def test_a_survey_is_shown_without_what_would_steer_the_terminal(tmp_path):
    options = [{"code": 1, "text": "Yes\x1b]0;title\x07"}, {"code": 2, "text": "No"}]
    path = tmp_path / "x.json"
    path.write_text(
        json.dumps({"name": "x", "questions": [{"key": "a", "text": "A?\x1b[2J\x9b1m", "options": options}]})
    )
    shown_as = CliRunner().invoke(main, ["survey", "show", str(path)], color=True).output
    assert not {"\x1b", "\x07", "\x9b"} & set(shown_as)
    assert "A?\ufffd[2J\ufffd1m" in shown_as and "(A) Yes\ufffd]0;title\ufffd  [1]" in shown_as


def test_an_import_does_not_overwrite_a_survey_that_may_have_been_edited(tmp_path):
    source, out = tmp_path / "drinks.yaml", tmp_path / "study.json"
    source.write_text("name: x\nquestions:\n- {key: a, text: A, options: [{code: 1, text: y}, {code: 2, text: n}]}\n")
    assert CliRunner().invoke(main, ["survey", "import", str(source), "--out", str(out)]).exit_code == 0
    out.write_text(edited := out.read_text().replace('"ordinal": true', '"ordinal": false'))
    again = CliRunner().invoke(main, ["survey", "import", str(source), "--out", str(out)])
    assert again.exit_code == 1 and out.read_text() == edited
    assert again.stderr == f"error: {out} is there already and may hold your corrections: choose another name\n"


def test_a_survey_in_the_encoding_of_old_editors_is_told_to_be_saved_as_utf_8(tmp_path):
    path = tmp_path / "x.json"
    path.write_bytes('{"name": "Müller"}'.encode("latin-1"))
    with pytest.raises(DataError, match=r"x.json cannot be read: .*byte 0xfc in position 11.* Save it as UTF-8"):
        read_survey(path)


# -- crosswalks and suggestions


@pytest.mark.parametrize("field", ["unmapped", "notes"])
@pytest.mark.parametrize("wrong", [None, "race", 5, [1], {"race": 1}])
def test_lists_of_a_crosswalk_that_are_none_are_refused(field, wrong):
    value = {"traits": {"sex": {"Male": "M"}}, field: wrong}
    with pytest.raises(DataError, match=rf"crosswalk 'mine': {field} must be a list of texts, .* got "):
        Crosswalk.from_dict(value, {"sex": ("M", "F")}, name="mine")


def test_brackets_with_cents_are_read_as_amounts():
    levels = ["$0 to $24,999.99", "$25,000.00 to $49,999.99", "$50,000.00 or more"]
    rows = {row.level: row.shares for row in suggest(Codebook.load("starter"), {"household_income": levels}).rows}
    assert rows["<25k"] == {levels[0]: 1.0}
    assert rows["25-40k"] == {levels[1]: 1.0}
    assert rows["40-60k"] == pytest.approx({levels[1]: 0.5, levels[2]: 0.5}, abs=1e-4)
    assert rows["170k+"] == {levels[2]: 1.0}


def test_a_level_is_not_suggested_for_the_one_that_it_denies():
    rows = {row.level: row.shares for row in suggest(Codebook.load("starter"), {"work": ["Employed", "Jobless"]}).rows}
    assert "Unemployed" not in rows


# -- margins

ROW = {"qkey": "q1", "attribute": "SEX", "group": "Male", "responses": [0.5, 0.5], "refusal_rate": 0}
ROW |= {"ordinal": [1, 2], "question": "Tea?", "options": ["Yes", "No", "Refused"]}


@pytest.mark.parametrize("wrong", [{"qkey": None}, {"qkey": " "}, {"question": None}, {"options": [None, "No", "Ref"]}])
def test_a_row_of_shares_without_a_key_or_a_wording_is_refused_and_not_called_none(tmp_path, wrong):
    path = tmp_path / "subpop.jsonl"
    path.write_text(json.dumps(ROW | wrong))
    with pytest.raises(
        DataError, match=rf"subpop.jsonl, row 1, {next(iter(wrong))}: .* is blank: mend or remove the row"
    ):
        Margins.from_subpop(path)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"n": {"q1": [-5]}}, "n of 'q1' must be 0 or more"),
        ({"n": {"q1": [1.7]}}, "n of 'q1' must be whole numbers"),
        ({"values": {"q1": [float("nan"), 2.0]}}, "values of 'q1' must be finite"),
        ({"values": {"zz": [1.0, 2.0]}}, "values must be of its questions, not of 'zz'"),
        ({"groups": "M"}, "groups"),
        ({"notes": "abc"}, "notes"),
    ],
)
def test_margins_from_a_file_changed_by_hand_are_checked(tmp_path, wrong, told):
    path = tmp_path / "subpop.jsonl"
    path.write_text(json.dumps(ROW))
    with pytest.raises(DataError, match=told):
        Margins.from_dict({**Margins.from_subpop(path).to_dict(), **wrong})


def test_a_group_whose_people_all_weigh_nothing_is_blank():
    humans = Respondents.load("gss-2018")
    weights = np.where(humans.codes["gender"] == 0, 0.0, 1.0)
    margins = Margins.of(dataclasses.replace(humans, weights=weights), by="gender")
    assert margins.n["natenvir"].tolist() == [0, 1248]
    assert np.isnan(margins.shares["natenvir"][0]).all() and margins.shares["natenvir"][1].sum() == pytest.approx(1)
    assert any("or of people without weight, are blank" in note for note in margins.notes)


# -- identifiers


def test_the_digits_of_long_texts_are_counted_in_one_pass():
    # Twenty answers of 20,000 letters took minutes; millions of letters are only looked at when that is so.
    assert kind_of(["x" * 300_000 + str(at) for at in range(20)], name="mobile") is None
    assert kind_of(["x" * 300_000 + f" {at}@" for at in range(20)], name="story") is None


@pytest.mark.parametrize(
    "labels",
    [["15 minutes each way", "30 minutes each way"], ["Platz 1", "Platz 2", "Platz 3"], ["120.0.0.0", "119.0.0.0"]],
)
def test_labels_of_a_closed_question_are_no_addresses(labels):
    assert kind_of(list(RNG.choice(labels, 200))) is None


def some_blank(values):
    return [*values[:150], *values[:40], *([None] * 10)]


def drawn(letters, length):
    return ["".join(RNG.choice(list(letters), length)) for _ in range(150)]


@pytest.mark.parametrize(
    "values",
    [
        drawn("0123456789abcdef", 24),
        [f"A1{code}" for code in drawn("0123456789BCDEFGH", 12)],
        [f"R_{code}" for code in drawn("0123456789abcXYZ", 15)],
    ],
    ids=["prolific", "mturk", "qualtrics"],
)
def test_ids_of_panels_are_found_by_their_form_though_some_are_blank_or_twice(values):
    assert kind_of(some_blank(values), name="Q1") == "person id"


NUMBERS = some_blank([str(2_125_550_000 + at * 7) for at in range(150)])


@pytest.mark.parametrize("name", ["phone_1", "Phone2", "home_phone", "work phone", "Contact number", "MobileNo"])
def test_telephone_numbers_without_signs_are_found_by_common_names(name):
    assert kind_of(NUMBERS, name=name) == "phone"
    assert kind_of(list(RNG.choice(["Yes", "No"], 200)), name=name) is None


def test_what_a_label_asks_for_is_read_from_its_question_alone():
    label = "What is your Prolific ID? Please note that this response should auto-fill with the correct ID."
    assert kind_of(some_blank([f"user{at}x" for at in range(150)]), name="Q1", label=label) == "person id"


@pytest.mark.parametrize("name", ["bdate", "BDay", "birth_dt", "GebDatum"])
def test_dates_of_birth_are_found_by_common_short_names(name):
    assert kind_of([float(at) for at in RNG.integers(11_000_000_000, 13_000_000_000, 200)], name=name) == "birth date"


def test_the_spreadsheet_of_the_page_is_read_as_the_page_says(tmp_path):
    page = (Path(__file__).parents[1] / "docs" / "bring-your-own-survey.md").read_text(encoding="utf-8")
    _, source, *_ = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    (tmp_path / "source.yaml").write_text(source)
    cells = {
        "Respondent ID": [f"r{at}" for at in range(20)],
        "What is your gender?": ["Man", "Woman"] * 10,
        "How old are you?": [20, 40, 64, 65] * 5,
        "How satisfied are you?": ["Very", "Not at all", "Somewhat", ""] * 5,
    }
    pd.DataFrame(cells).to_csv(tmp_path / "sheet.csv", index=False)
    people = Respondents.from_file(tmp_path / "sheet.csv", source=str(tmp_path / "source.yaml"))
    assert people.levels == {"gender": ("Male", "Female"), "age": ("18-64", "65+")}
    assert people.codes["age"].tolist() == [0, 0, 0, 1] * 5
    assert people.answers["satisfied"].tolist() == [0, 2, 1, -1] * 5
