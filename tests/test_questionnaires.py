"""Survey files are read whatever their kind, refused with all that is wrong, written whole; the docs page is true."""

import json
import os
import re
from dataclasses import replace

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anthology_hub.errors import DataError, OptionError, UnknownNameError
from anthology_hub.prompts import question_text
from anthology_hub.questionnaires import KINDS, check_survey, read_survey, write_survey
from anthology_hub.questionnaires.checks import problems, schema
from anthology_hub.schema import ANSWER_KINDS, DATA, Question, Survey, shipped
from tests.conftest import ROOT
from tests.test_ddi_reader import YES_NO, codebook, lit, var
from tests.test_limesurvey import Lss
from tests.test_qsf import qsf, question
from tests.test_survey_checks import sound_surveys
from tests.test_xlsform import workbook

PAGE = (ROOT / "docs" / "survey-format.md").read_text(encoding="utf-8")
TEA = {
    "name": "tea",
    "questions": [{"key": "tea", "text": "Tea?", "options": [{"code": 1, "text": "Yes"}, {"code": 2, "text": "No"}]}],
}
FOREIGN = {
    "qualtrics": (
        ".qsf",
        json.dumps(qsf(question("QID1", DataExportTag="tea"), question("QID2", "TE", "SL"))).encode(),
    ),
    "limesurvey": (".lss", bytes(Lss().question("1", "Y", "tea").question("2", "T", "open"))),
    "ddi": (".xml", codebook(var("tea", lit("Tea?"), *YES_NO), var("open", lit("Why?")))),
    "xlsform": (".xlsx", workbook(["select_one yn", "tea", "Tea?"], ["text", "open", "Why?"])),
}


@pytest.fixture
def file(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


# -- our own files


@pytest.mark.parametrize("name", shipped("surveys"))
def test_shipped_surveys_are_read_with_their_protocol_told(name):
    found = read_survey(DATA / "surveys" / f"{name}.json")
    assert found.survey == Survey.load(name) and found.left_out == () and found.sources == {}
    assert found.notes == ("The protocol is read from the file when a run is verified; it is no part of the survey.",)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=40)
@given(value=sound_surveys(), suffix=st.sampled_from([".json", ".yaml", ".YML"]))
def test_a_survey_is_written_and_read_again_unchanged(value, suffix, tmp_path):
    survey = Survey.from_dict(value)
    write_survey(survey, tmp_path / f"survey{suffix}")
    assert read_survey(tmp_path / f"survey{suffix}").survey == survey
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_what_is_written_as_yaml_means_the_same_to_every_program(tmp_path):
    options = [{"code": 1, "text": "Yes"}, {"code": 2, "text": "no"}, {"code": 3, "text": "12:30"}]
    survey = Survey.from_dict({"name": "1.0", "questions": [{"key": "on", "text": "null", "options": options}]})
    write_survey(survey, tmp_path / "survey.yaml")
    assert yaml.safe_load((tmp_path / "survey.yaml").read_text()) == survey.to_dict()


def test_only_files_of_our_own_kinds_are_written_and_what_was_there_stays(tmp_path):
    survey = Survey.from_dict(TEA)
    with pytest.raises(OptionError, match=r"survey.qsf ends in '.qsf': surveys are written to .json, .yaml or .yml"):
        write_survey(survey, tmp_path / "survey.qsf")
    target = tmp_path / "there" / "survey.json"
    target.mkdir(parents=True)
    with pytest.raises(OSError, match=re.escape(str(target))):
        write_survey(survey, target)
    assert list(tmp_path.iterdir()) == [target.parent] and list(target.parent.iterdir()) == [target]


def test_yaml_is_read_as_people_write_it(file):
    path = file(
        "tea.yaml",
        """
        # Options given once, and used twice.
        name: tea
        title: 2020-01-01
        options: &yes_no
          - {code: 1, text: Yes}
          - {code: +2, text: off}
        questions:
          - {key: tea, text: "Tea?", ordinal: false, reverse: True}
          - key: milk
            text: >
              And would you
              take milk?
            options: *yes_no
            ask_if: {question: tea, in: [1]}
        """,
    )
    survey = read_survey(path).survey
    assert survey.title == "2020-01-01"
    assert survey.questions[0].options == ("Yes", "off") == survey.questions[1].options
    assert survey.questions[1].codes == (1, 2) and survey.questions[1].text == "And would you take milk?\n"
    assert (survey.questions[0].ordinal, survey.questions[0].reverse) == (False, True)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", "", "a.json cannot be read: Expecting value"),
        ("a.json", "{", "cannot be read: Expecting property name"),
        ("a.json", b'{"name": "\xff"}', "cannot be read: .* can't decode byte 0xff"),
        ("a.json", "[" * 100_000, "nested too deeply to be read: a survey has few levels"),
        ("a.json", f'{{"name": {"1" * 5_000}}}', "cannot be read: Exceeds the limit"),
        (
            "a.json",
            '{"name": "a", "name": "b"}',
            "cannot be read: the field 'name' stands twice in one object: delete one",
        ),
        ("a.json", "[[[[" * 30 + "]]]]" * 30, "cannot be read: it is nested more than 100 levels deep"),
        (
            "a.json",
            "[]",
            r"a.json is no sound survey: survey: \[\] is not an object .* See all with: .*survey check .*a.json",
        ),
        ("a.yaml", "", "is no sound survey: survey: null is not an object"),
        ("a.yaml", "name: [", "cannot be read: it is no YAML that can be read .while parsing"),
        ("a.yaml", "name: a\nname: b", "the field 'name' stands twice in one object"),
        ("a.yaml", "<<: {name: a}\nquestions: []", "unknown field '<<'"),
        ("a.yaml", "? [a]\n: b", "cannot be the name of a field|it is no YAML"),
        ("a.yaml", "? {a: b}\n: b", "cannot be the name of a field"),
        ("a.yaml", "name: !!python/object/apply:os.system ['true']", "it is no YAML that can be read"),
        ("a.yaml", "name: !!bool maybe", "it is no YAML that can be read"),
        ("a.yaml", "name: !!map [1]", "it is no YAML that can be read"),
        ("a.yaml", "name: !!int x", "cannot be read: invalid literal"),
        ("a.yaml", "- " * 2_000 + "a", "nested too deeply"),
        ("a.yaml", "name: &a [*a]", "nested more than 100 levels deep, or holds itself"),
        ("a.yaml", "x" * 1_000_001, "1,000,001 bytes; of YAML at most 1,000,000 are read: write it as JSON"),
        ("a.yaml", "name: 010\nquestions: 5", "questions: 5 is not a list"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_the_reason(file, name, content, message):
    with pytest.raises(DataError, match=message):
        read_survey(file(name, content))


def test_aliases_that_swell_are_refused_before_they_swell(file):
    lines = ["a0: &a0 [ha, ha, ha, ha, ha, ha, ha, ha, ha, ha]"]
    lines += [f"a{at}: &a{at} [{', '.join([f'*a{at - 1}'] * 10)}]" for at in range(1, 12)]
    with pytest.raises(DataError, match=r"it has 1,\d{3},\d{3},\d{3},\d{3} values, at most 1,000,000 are read"):
        read_survey(file("laughs.yaml", "\n".join(lines)))


def test_all_that_is_wrong_is_told_up_to_ten_and_the_rest_counted(file):
    value = {"name": "x", "questions": [{"key": f"k{at}"} for at in range(8)]}
    with pytest.raises(DataError) as told:
        read_survey(file("x.json", json.dumps(value)))
    assert str(told.value).count("the field 'text' is missing") == 8 and "; and 6 more. See all" in str(told.value)


def test_warnings_are_notes_of_what_was_read(file):
    value = {**TEA, "questions": [{**TEA["questions"][0], "text": "Tea, {name}?"}]}
    assert read_survey(file("x.json", json.dumps(value))).notes == (
        "question 'tea', text: {name} is the key of no question and stays as it is.",
    )


CUTS = st.tuples(
    st.integers(0, len(PAGE)),
    st.integers(0, 12),
    st.sampled_from(
        ["", " ", "\n", ":", "{", "]", "&a ", "*a", "!!set ", "!!binary ", "!!timestamp ", "? ", "- ", "5", "\t", "'"]
    ),
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(CUTS, min_size=1, max_size=4), language=st.sampled_from(["yaml", "json"]))
def test_a_damaged_file_of_ours_is_read_or_refused_with_its_problems(cuts, language, tmp_path):
    text = blocks(language)[0]
    for at, length, put in cuts:
        at %= len(text) + 1
        text = text[:at] + put + text[at + length :]
    path = tmp_path / f"survey.{language}"
    path.write_text(text, encoding="utf-8")
    try:
        found = read_survey(path)
    except DataError as error:
        assert str(path) in str(error)
    else:
        assert [problem for problem in check_survey(path) if problem.severity == "error"] == []
        assert Survey.from_dict(found.survey.to_dict()) == found.survey


# -- kinds


@pytest.mark.parametrize("kind", FOREIGN)
def test_every_kind_of_file_is_known_by_its_ending_or_by_being_told(file, kind):
    suffix, content = FOREIGN[kind]
    for path, told in ((file(f"My survey{suffix}", content), None), (file("other", content), kind)):
        found = read_survey(path, kind=told)
        assert found.survey.keys == ("tea",) and len(found.left_out) == 1
        assert found.survey.name == ("my-survey" if told is None else "other")


def test_files_are_known_by_their_content_where_the_ending_says_another_kind(file):
    assert read_survey(file("a.json", FOREIGN["qualtrics"][1])).sources == {"tea": "QID1"}
    assert read_survey(file("a.xml", FOREIGN["limesurvey"][1])).survey.source == "LimeSurvey survey 494923"
    with pytest.raises(DataError, match="unknown field 'SurveyEntry'"):
        read_survey(file("a.json", FOREIGN["qualtrics"][1]), kind="survey")


def test_what_tells_no_kind_is_refused_with_those_there_are(file, tmp_path):
    with pytest.raises(
        OptionError, match=r"a.docx ends in '.docx', .* allowed are .json, .*, or choose one of survey, qualtr"
    ):
        read_survey(file("a.docx", "x"))
    with pytest.raises(UnknownNameError, match="unknown kind of survey file 'qualtric': did you mean 'qualtrics'"):
        read_survey(file("a.qsf", "x"), kind="qualtric")
    with pytest.raises(DataError, match="nothing.qsf is no file: give the path of a survey file"):
        read_survey(tmp_path / "nothing.qsf")
    with pytest.raises(DataError, match="is no file"):
        read_survey(tmp_path)
    assert KINDS == ("survey", "qualtrics", "limesurvey", "ddi", "xlsform")


@pytest.mark.parametrize("suffix", [".json", ".yaml", ".qsf", ".lss", ".xml", ".xlsx"])
def test_a_file_over_fifty_megabytes_is_refused_unread(tmp_path, suffix):
    path = tmp_path / f"large{suffix}"
    with path.open("wb") as stream:
        os.truncate(stream.fileno(), 50_000_001)
    with pytest.raises(DataError, match="has 50,000,001 bytes; at most 50,000,000 are read"):
        read_survey(path)


def test_a_file_full_of_texts_that_keep_a_parser_busy_is_read_all_the_same(file):
    # A parser that goes back for every sign would be at this for ten minutes.
    texts = ["<a " * 6_000, "<!--" * 4_500 + "-->", "&#" * 9_000, "<" * 19_000, "<b x='" * 3_000 + ">"]
    asked = [question(f"QID{at}", QuestionText=f"Tea? {texts[at % 5]}") for at in range(200)]
    found = read_survey(file("hostile.qsf", json.dumps(qsf(*asked))))
    assert len(found.survey.questions) == 200 and found.survey.questions[1].text == "Tea?"


def test_groups_nested_beyond_all_measure_are_refused(file):
    rows = (
        [["begin_group", f"g{at}", "G"] for at in range(600)] + [["select_one yn", "a", "A?"]] + [["end_group"]] * 600
    )
    with pytest.raises(DataError, match="nested too deeply to be read: export it again"):
        read_survey(file("deep.xlsx", workbook(*rows)))


# -- checks


def test_a_file_of_ours_is_checked_as_it_stands(file):
    path = file("x.yaml", "name: 1\nquestions:\n- key: a\n  text: Tea?")
    assert [str(problem) for problem in check_survey(path)] == [
        "error: name: 1 is not a text: put it in quotes",
        "error: question 'a': it has no options, and the survey has none for all: give 'options' to one of them",
    ]
    assert check_survey(file("y.json", json.dumps(TEA))) == []


def test_of_other_programs_files_what_was_lost_is_told_as_warnings(file):
    found = check_survey(file("a.qsf", FOREIGN["qualtrics"][1]))
    assert [str(problem) for problem in found] == ["warning: Q2: left out: an open text has no options"]


# -- the page


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def rows(heading):
    """First cells of the table after some words."""
    table = PAGE.split(heading, 1)[1].split("\n\n")[1]
    return [line.split("|")[1].strip().strip("`") for line in table.splitlines()[2:]]


def rows_of(heading):
    """Return a table as first cell -> all cells."""
    lines = PAGE.split(heading, 1)[1].split("\n\n")[1].splitlines()[2:]
    cells = [[cell.strip().strip("`") for cell in line.split("|")[1:-1]] for line in lines]
    return {row[0]: row for row in cells}


def test_the_example_of_the_page_is_sound_and_does_what_the_page_says(file):
    example = blocks("yaml")[0]
    found = read_survey(file("turnout.yaml", example))
    survey = found.survey
    assert found.notes == () and survey.keys == ("vote", "why", "count", "matter", "again")
    assert survey.questions[0].options == ("Yes", "No", "I was not allowed to") and not survey.questions[0].ordinal
    assert survey.questions[1].piped == ("vote",) and survey.questions[3].reverse
    again = survey.questions[4].ask_if
    assert again.holds({"vote": 1, "count": 2}) and again.holds({"vote": 1, "count": None})
    assert not again.holds({"vote": 1, "count": 1}) and not again.holds({"vote": 2, "count": 2})
    (short,) = blocks("json")
    assert read_survey(file("tea.json", short)).survey.questions[0].codes == (1, 2)
    assert problems(json.loads(short)) == []


def test_the_questions_of_every_kind_on_the_page_are_sound_and_asked_as_the_page_says(file):
    survey = read_survey(file("leisure.yaml", blocks("yaml")[1])).survey
    assert {question.kind for question in survey.questions} == {"multi", "number", "text", "ranking"}
    three = Question(key="k", text="?", options=("x", "y", "z"), codes=(1, 2, 3))
    limits = {"number": {"low": 0, "high": 24, "unit": "hours", "options": (), "codes": ()}}
    for kind, row in rows_of("The kinds of questions").items():
        question = replace(three, kind=kind, **limits.get(kind, {"options": (), "codes": ()} if kind == "text" else {}))
        asked = question_text(question, tuple(range(len(question.options))), consistency=False)
        assert asked.splitlines()[-1] == row[2].strip('"')
    assert list(rows_of("The kinds of questions")) == list(ANSWER_KINDS)


def test_the_page_has_every_field_of_the_schema_and_no_other():
    assert sorted(rows("Of the survey:")) == sorted(schema()["properties"])
    assert sorted(rows("Of a question:")) == sorted(schema()["$defs"]["question"]["properties"])
    forms = [set(branch["required"]) for branch in schema()["$defs"]["condition"]["anyOf"]]
    assert [set(re.findall(r"(\w+):", form)) for form in rows("A condition (`ask_if`)")] == forms
    needed = {line.split("`")[1] for line in PAGE.splitlines() if "| yes |" in line}
    assert needed == {*schema()["required"], *schema()["$defs"]["question"]["required"]}
