"""Qualtrics files in their true shape, quirks and all: what can be asked is kept, the rest is told, nothing is lost."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anthology_hub.errors import DataError
from anthology_hub.questionnaires.checks import ERROR, problems
from anthology_hub.questionnaires.qsf import NOT_ASKED, read_qsf


def element(kind, primary, payload, secondary=None):
    head = {"SurveyID": "SV_1", "Element": kind, "PrimaryAttribute": primary, "SecondaryAttribute": secondary}
    return {**head, "TertiaryAttribute": None, "Payload": payload}


def question(qid, kind="MC", selector="SAVR", **more):
    """A question as Qualtrics exports it, with the bookkeeping that comes along."""
    payload = {
        "QuestionText": f"Text of {qid}",
        "DefaultChoices": False,
        "DataExportTag": qid.replace("QID", "Q"),
        "QuestionID": qid,
        "QuestionType": kind,
        "Selector": selector,
        "DataVisibility": {"Private": False, "Hidden": False},
        "Configuration": {"QuestionDescriptionOption": "UseText"},
        "QuestionDescription": "Text",
        "Choices": {"1": {"Display": "Yes"}, "2": {"Display": "No"}},
        "ChoiceOrder": ["1", "2"],
        "Validation": {"Settings": {"ForceResponse": "OFF", "Type": "None"}},
        "GradingData": [],
        "Language": [],
        "NextChoiceId": 4,
        "NextAnswerId": 1,
    }
    payload |= more
    return element("SQ", qid, {name: value for name, value in payload.items() if value is not ...}, "Text")


def matrix(qid, selector="Likert", sub="SingleAnswer", **more):
    own = {
        "SubSelector": sub,
        "Choices": {"1": {"Display": "Tea"}, "2": {"Display": "Coffee"}},
        "Answers": {"1": {"Display": "Low"}, "2": {"Display": "Mid"}, "3": {"Display": "High"}},
        "AnswerOrder": ["1", "2", "3"],
        "ChoiceDataExportTags": False,
    }
    return question(qid, "Matrix", selector, **{**own, **more})


def block(block_id, *qids, kind="Standard", **more):
    parts = [part if isinstance(part, dict) else {"Type": "Question", "QuestionID": part} for part in qids]
    return {"Type": kind, "SubType": "", "Description": block_id, "ID": block_id, "BlockElements": parts, **more}


def shown(block_id):
    return {"Type": "Standard", "ID": block_id, "FlowID": f"FL_{block_id}", "Autofill": []}


def selected(qid, choice, operator="Selected", **more):
    """One expression of display or branch logic."""
    locator = f"q://{qid}/SelectableChoice/{choice}"
    return {
        "LogicType": "Question",
        "QuestionID": qid,
        "QuestionIsInLoop": "no",
        "ChoiceLocator": locator,
        "Operator": operator,
        "QuestionIDFromLocator": qid,
        "LeftOperand": locator,
        "Type": "Expression",
        "Description": "<span>If ...</span>",
        **more,
    }


def logic(*expressions, kind="If"):
    group = {str(at): expression for at, expression in enumerate(expressions)} | {"Type": kind}
    return {"0": group, "Type": "BooleanExpression", "inPage": False}


def sets(*groups):
    return {str(at): group["0"] for at, group in enumerate(groups)} | {"Type": "BooleanExpression"}


def qsf(*questions, blocks=None, flow=None, extra=()):
    """A whole file; one block with everything, if nothing else is said."""
    qids = [q["PrimaryAttribute"] for q in questions]
    blocks = [block("BL_1", *qids, kind="Default")] if blocks is None else blocks
    listed = blocks if isinstance(blocks, list) else list(blocks.values())
    if flow is None:
        flow = [shown(b["ID"]) for b in listed if b.get("Type") != "Trash"]
    root = {"Type": "Root", "FlowID": "FL_1", "Flow": flow, "Properties": {"Count": len(flow)}}
    return {
        "SurveyEntry": {"SurveyID": "SV_1", "SurveyName": "My <b>survey</b>", "SurveyLanguage": "EN", "Deleted": None},
        "SurveyElements": [
            element("BL", "Survey Blocks", blocks),
            element("FL", "Survey Flow", root),
            element("SO", "Survey Options", {"BackButton": "false"}),
            element("QC", "Survey Question Count", None, str(len(qids))),
            element("RS", "RS_1", None, "Default Response Set"),
            element("STAT", "Survey Statistics", {"MobileCompatible": True}),
            *questions,
            *extra,
        ],
    }


def read(file, name="my survey"):
    return read_qsf(json.dumps(file).encode(), name=name)


def conditions(found):
    return {q.key: q.ask_if.to_dict() for q in found.survey.questions if q.ask_if}


def why(found):
    return {left.key: left.why for left in found.left_out}


def told(found, words):
    notes = [note for note in found.notes if words in note]
    assert len(notes) == 1, found.notes
    return notes[0]


# -- single choices


def test_a_single_choice_keeps_its_text_options_and_recoded_values():
    file = qsf(
        question(
            "QID1",
            DataExportTag="vote",
            QuestionText="<p>Did you <strong>vote</strong>&nbsp;in 2020?<br />\nThink back.</p>",
            Choices={
                "1": {"Display": "Yes"},
                "4": {"Display": "<i>No</i> &amp; never"},
                "9": {"Display": "Prefer not to say"},
            },
            ChoiceOrder=["4", 1, "9"],
            RecodeValues={"1": "10", "4": 20, "9": "-1"},
        )
    )
    found = read(file)
    (vote,) = found.survey.questions
    assert vote.key == "vote" and vote.text == "Did you vote in 2020?\nThink back."
    assert vote.options == ("No & never", "Yes", "Prefer not to say") and vote.codes == (20, 10, -1)
    assert (found.survey.name, found.survey.title) == ("my-survey", "My survey")
    assert found.sources == {"vote": "QID1"} and found.left_out == ()


@pytest.mark.parametrize("selector", ["SAVR", "SAHR", "SACOL", "DL", "SB"])
def test_every_layout_of_a_single_choice_is_read(selector):
    assert read(qsf(question("QID1", selector=selector))).survey.questions[0].options == ("Yes", "No")


@pytest.mark.parametrize(
    ("choices", "order", "expected"),
    [
        ({"1": {"Display": "a"}, "2": {"Display": "b"}}, ..., [("a", 1), ("b", 2)]),
        ([{"Display": "a"}, {"Display": "b"}], ..., [("a", 0), ("b", 1)]),
        ([{"Display": "a"}, {"Display": "b"}], [1, 2], [("a", 1), ("b", 2)]),
        ([{"Display": "a"}, {"Display": "b"}], [1, 0], [("b", 1), ("a", 0)]),
        ({"1": {"Display": 1}, "2": {"Display": 2.5}}, {"0": "2", "1": "1"}, [("2.5", 2), ("1", 1)]),
        (
            {"1": {"Display": "a"}, "2": {"Display": "b"}, "3": {"Display": "c"}},
            ["3", "7"],
            [("c", 3), ("a", 1), ("b", 2)],
        ),
    ],
)
def test_choices_come_as_objects_or_lists_and_their_order_as_numbers_or_texts(choices, order, expected):
    (asked,) = read(qsf(question("QID1", Choices=choices, ChoiceOrder=order))).survey.questions
    assert list(zip(asked.options, asked.codes, strict=True)) == expected


def test_a_net_promoter_question_has_the_options_0_to_10_even_where_the_file_lists_none():
    listed = {str(number): {"Display": str(number)} for number in range(11)}
    file = qsf(
        question("QID1", selector="NPS", Choices=listed, ChoiceOrder=list(range(11))),
        question("QID2", selector="NPS", Choices=..., ChoiceOrder=...),
    )
    found = read(file)
    for asked in found.survey.questions:
        assert asked.codes == tuple(range(11)) and asked.options[::10] == ("0", "10")
    assert not [note for note in found.notes if "ordered" in note]


def test_choices_that_are_excluded_from_analysis_lie_off_the_scale():
    likely = {"1": {"Display": "Likely"}, "2": {"Display": "Unlikely"}, "4": {"Display": "Not sure"}}
    apart = {"Choices": likely, "ChoiceOrder": ["1", "2", "4"], "AnalyzeChoices": {"1": "Yes", "4": "No"}}
    levels = {"1": {"Display": "Low"}, "2": {"Display": "High"}, "3": {"Display": "n/a"}}
    found = read(
        qsf(
            question("QID1", RecodeValues={"1": "10", "2": "20", "4": "99"}, **apart),
            matrix("QID2", Answers=levels, AnalyzeChoices={"3": "No"}),
            question("QID3", AnalyzeChoices={"2": "No"}),
            question("QID4", Randomization={"Type": "All"}, **apart),
            question("QID5", AnalyzeChoices=[]),
        )
    )
    off = {q.key: q.off_scale for q in found.survey.questions}
    assert off == {"Q1": (99,), "Q2_1": (3,), "Q2_2": (3,), "Q3": (), "Q4": (), "Q5": ()}
    assert told(found, "lie off the scale") == (
        "Options that the source leaves out of means lie off the scale (`off_scale`): "
        "Q1 (Not sure), Q2_1 (n/a), Q2_2 (n/a)."
    )
    assert told(found, "stay on the scale").endswith("which would have no steps: Q3 (No).")
    assert not found.survey.questions[4].ordinal


def test_recoded_values_that_are_doubled_or_no_whole_numbers_are_numbered_and_told():
    found = read(
        qsf(
            question("QID1", RecodeValues={"1": "5", "2": "5"}),
            question("QID2", RecodeValues={"1": "0.5", "2": "1"}),
        )
    )
    assert [q.codes for q in found.survey.questions] == [(1, 2), (1, 2)]
    assert told(found, "numbered") == (
        "Codes that are no distinct whole numbers were numbered in their order: Q1 (1 = 5, 2 = 5), Q2 (1 = 0.5, 2 = 1)."
    )


def test_where_a_choice_has_only_a_picture_its_variable_name_stands_for_it_or_the_question_is_left_out():
    pictures = {"1": {"Display": "<img src='x.png'>"}, "2": {"Display": "<img src='y.png' alt='A dog'>"}}
    found = read(
        qsf(
            question("QID1", Choices=pictures, VariableNaming={"1": "A cat"}),
            question("QID2", Choices=pictures),
        )
    )
    assert found.survey.questions[0].options == ("A cat", "A dog")
    assert why(found) == {"Q2": "an option has no text"}


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"Choices": {"1": {"Display": "Only"}}, "ChoiceOrder": [1]}, "it has 1 options, two are needed"),
        (
            {"Choices": {str(n): {"Display": f"Land {n}"} for n in range(195)}},
            "195 options, at most 26 can be lettered",
        ),
        ({"Choices": {"1": {"Display": "A"}, "2": {"Display": "<b>A</b>"}}}, "two of its options have the same text"),
        ({"QuestionText": "<img src='x.png'>"}, "it has no text"),
        ({"QuestionText": "x" * 30_000}, "a text of it has 30000 characters, at most 20000 are read"),
        ({"Selector": "NEW"}, "the type MC NEW is not known"),
        (
            {"DynamicChoices": {"Locator": "q://QID9/ChoiceGroup/SelectedChoices", "Type": "Dynamic"}, "Choices": []},
            "its options are carried over from another question",
        ),
    ],
)
def test_a_choice_that_cannot_be_asked_is_left_out_with_the_reason(more, reason):
    found = read(qsf(question("QID9"), question("QID1", **more)))
    assert found.survey.keys == ("Q9",)
    assert reason in why(found)["Q1"] and found.left_out[0].kind.startswith("MC")


# -- multiple choices and tables


@pytest.mark.parametrize("selector", ["MAVR", "MAHR", "MACOL", "MSB"])
def test_each_choice_of_a_multiple_choice_becomes_a_question(selector):
    file = qsf(question("QID1", selector=selector, Choices={"1": {"Display": "TV"}, "4": {"Display": "Radio"}}))
    found = read(file)
    assert found.survey.keys == ("Q1_1", "Q1_4")
    radio = found.survey.questions[1]
    assert radio.text == "Text of QID1\nRadio"
    assert (radio.options, radio.codes) == (("Selected", "Not selected"), (1, 0))
    assert found.sources == {"Q1_1": "QID1", "Q1_4": "QID1"}


def test_a_table_becomes_one_question_per_row_with_the_codes_of_its_columns():
    tags = {"1": "drink_tea", "2": ""}
    file = qsf(matrix("QID3", RecodeValues={"1": "-1", "2": "0", "3": "1"}, ChoiceDataExportTags=tags))
    found = read(file)
    assert found.survey.keys == ("drink_tea", "Q3_2")
    for asked, drink in zip(found.survey.questions, ("Tea", "Coffee"), strict=True):
        assert asked.text == f"Text of QID3\n{drink}" and asked.ordinal
        assert (asked.options, asked.codes) == (("Low", "Mid", "High"), (-1, 0, 1))


@pytest.mark.parametrize("sub", ["SingleAnswer", "SACH", "DL", None])
def test_every_form_of_a_table_with_one_answer_in_a_row_is_read(sub):
    assert read(qsf(matrix("QID3", sub=sub))).survey.keys == ("Q3_1", "Q3_2")


def test_a_table_with_several_answers_in_a_row_becomes_a_question_per_cell():
    found = read(qsf(matrix("QID3", sub="MultipleAnswer")))
    assert found.survey.keys == ("Q3_1_1", "Q3_1_2", "Q3_1_3", "Q3_2_1", "Q3_2_2", "Q3_2_3")
    assert found.survey.questions[4].text == "Text of QID3\nCoffee\nMid"


def test_the_ends_of_a_bipolar_row_label_its_first_and_last_step():
    answers = {str(step): {"Display": step} for step in range(1, 6)}
    found = read(
        qsf(matrix("QID3", "Bipolar", Choices={"1": {"Display": "Cold:Warm"}}, Answers=answers, AnswerOrder=...))
    )
    (row,) = found.survey.questions
    assert row.text == "Text of QID3\nCold - Warm"
    assert row.options == ("1 (Cold)", "2", "3", "4", "5 (Warm)") and row.codes == (1, 2, 3, 4, 5)


def test_the_rows_of_a_profile_table_have_their_own_options():
    answers = {
        "1": {"1": {"Display": "mild"}, "2": {"Display": "hot"}},
        "2": {"1": {"Display": "big"}, "2": {"Display": "small"}},
    }
    found = read(qsf(matrix("QID3", "Profile", Answers=answers)))
    assert [q.options for q in found.survey.questions] == [("mild", "hot"), ("big", "small")]


def test_a_side_by_side_table_keeps_its_single_answer_columns_and_tells_of_the_others():
    def column(number, text, selector, sub, answers):
        own = {"QuestionText": text, "QuestionType": "Matrix", "Selector": selector, "SubSelector": sub}
        return {**own, "DataExportTag": f"sbs#{number}", "QuestionID": f"QID5#{number}", "Answers": answers}

    options = {"1": {"Display": "Yes"}, "2": {"Display": "No"}}
    columns = {
        "1": column(1, "Known?", "Likert", "SingleAnswer", options),
        "2": column(2, "Why?", "TE", "Short", {"1": {"Display": ""}}),
        "3": {**column(3, "How much?", "CS", "WTB", {}), "QuestionType": "CS"},
    }
    rows = {"1": {"Display": "Tea"}, "2": {"Display": "Mate"}}
    file = qsf(question("QID5", "SBS", "SBSMatrix", Choices=rows, AdditionalQuestions=columns, NumberOfQuestions=3))
    found = read(file)
    assert found.survey.keys == ("sbs#1_1", "sbs#1_2")
    assert found.survey.questions[1].text == "Text of QID5\nKnown?\nMate"
    assert told(found, "side-by-side") == (
        "A column of a side-by-side table is left out: "
        "sbs#2 (a table of the kind TE Short has no one answer in a row), sbs#3 (it is no table of choices)."
    )
    none = {"2": columns["2"]}
    lost = read(qsf(question("QID1"), question("QID5", "SBS", "SBSMatrix", Choices=rows, AdditionalQuestions=none)))
    assert why(lost)["Q5"].startswith("no column of it can be asked")
    assert (
        why(read(qsf(question("QID1"), question("QID5", "SBS", AdditionalQuestions=[]))))["Q5"] == "it has no columns"
    )


@pytest.mark.parametrize(
    ("sub", "selector", "reason"),
    [("", "MaxDiff", "MaxDiff has no one answer in a row"), ("Short", "TE", "TE Short has no one answer in a row")],
)
def test_tables_without_one_answer_in_a_row_are_left_out(sub, selector, reason):
    assert reason in why(read(qsf(question("QID1"), matrix("QID3", selector, sub))))["Q3"]


def test_rows_without_a_text_are_told_and_the_others_kept():
    rows = {"1": {"Display": "Tea"}, "2": {"Display": "<img>"}}
    found = read(qsf(matrix("QID3", Choices=rows), matrix("QID4", sub="MultipleAnswer", Choices=rows)))
    assert found.survey.keys == ("Q3_1", "Q4_1_1", "Q4_1_2", "Q4_1_3") and found.left_out == ()
    assert told(found, "A part of a question") == "A part of a question is left out, as it has no text: Q3_2."
    assert "Q4_2 (it has no text)" in told(found, "A row is left out")
    gone = read(qsf(question("QID1"), matrix("QID4", sub="MultipleAnswer", Choices={"2": {"Display": ""}})))
    assert why(gone) == {"Q4": "it has no text"}
    blank = {"1": {"Display": ""}, "2": {"Display": "<br>"}}
    gone = read(qsf(question("QID1"), question("QID4", selector="MAVR", Choices=blank)))
    assert why(gone) == {"Q4": "none of its choices has a text"}
    gone = read(qsf(question("QID1"), matrix("QID3", sub="MultipleAnswer", Choices={}), matrix("QID4", Choices={})))
    assert why(gone) == {"Q3": "it has no rows", "Q4": "it has no options"}


# -- nothing is lost


@pytest.mark.parametrize("kind", NOT_ASKED)
def test_types_that_have_no_options_are_left_out_each_with_its_reason(kind):
    unread = logic({"LogicType": "Quota"})
    lost = question("QID2", kind, "X", QuestionText="<p>Tell us<br>more</p>", DisplayLogic=unread)
    found = read(qsf(question("QID1"), lost))
    assert found.notes == ()
    (left,) = found.left_out
    assert (left.key, left.kind, left.text, left.why) == ("Q2", f"{kind} X", "Tell us more", NOT_ASKED[kind])


def everything():
    """A file with every quirk at once, and how many questions it has."""
    kinds = [question(f"QID{100 + at}", kind, "X") for at, kind in enumerate(NOT_ASKED)]
    asked = [
        question("QID1"),
        question("QID2", selector="MAVR"),
        matrix("QID3"),
        matrix("QID4", sub="MultipleAnswer"),
        matrix("QID5", "MaxDiff", ""),
        question("QID6", "Strange", "New"),
        question("QID7", DisplayLogic=logic(selected("QID1", 1), selected("QID2", 2, Conjuction="And"))),
        *kinds,
    ]
    lost = [
        element("SQ", "QID20", "a text where a question should be"),
        element("SQ", "QID21", None),
        element("SQ", "QID22", ["list"]),
        question("QID1", QuestionText="The same id again"),
        question("QID23", DataExportTag="binned"),
        question("QID24", DataExportTag="homeless"),
        question("QID25", DataExportTag="unused"),
    ]
    blocks = {
        "1": block(
            "BL_1", *(q["PrimaryAttribute"] for q in asked), {"Type": "Page Break"}, "QID404", "QID1", kind="Default"
        ),
        "2": block("BL_T", "QID23", kind="Trash"),
        "3": block("BL_U", "QID25"),
    }
    flow = [shown("BL_1"), shown("BL_404"), shown("BL_T")]
    return qsf(*asked, *lost, blocks=blocks, flow=flow), len(asked) + len(lost)


def test_every_question_of_the_file_ends_in_the_survey_or_among_those_left_out():
    file, count = everything()
    found = read(file)
    assert len(set(found.sources.values())) + len(found.left_out) == count
    assert set(found.sources) == set(found.survey.keys)
    reasons = why(found)
    assert reasons["QID20"] == "its payload is a str, no question"
    assert reasons["QID21"] == "its payload is a null, no question"
    assert reasons["QID22"] == "its payload is a list, no question"
    assert reasons["Q1"] == "there is another question with this id"
    assert reasons["binned"] == "it is in the trash"
    assert reasons["homeless"] == "it stands in no block"
    assert reasons["unused"] == "its block is not in the survey flow"
    assert reasons["Q6"] == "the type Strange New is not known"
    assert "QID404" in told(found, "names a question that is not in the file")
    assert "BL_404" in told(found, "names a block that is not in the file")
    assert "QID1" in told(found, "stands twice in the flow")


@pytest.mark.parametrize("form", ["list", "object", "one element each", "elements as an object"])
def test_blocks_come_as_a_list_an_object_or_one_by_one(form):
    blocks = [block("BL_1", "QID2"), block("BL_2", "QID1")]
    file = qsf(question("QID1"), question("QID2"), blocks=blocks)
    elements = file["SurveyElements"]
    if form == "object":
        elements[0]["Payload"] = {"1": blocks[0], "4": blocks[1]}
    elif form == "one element each":
        elements[:1] = [element("BL", b["ID"], b) for b in blocks]
    elif form == "elements as an object":
        file["SurveyElements"] = {str(at): part for at, part in enumerate(elements)}
    assert read(file).survey.keys == ("Q2", "Q1")


def test_the_flow_decides_the_order_and_without_one_the_file_does():
    blocks = [block("BL_1", "QID1"), block("BL_2", "QID2")]
    asked = (question("QID1"), question("QID2"))
    assert read(qsf(*asked, blocks=blocks, flow=[shown("BL_2"), shown("BL_1")])).survey.keys == ("Q2", "Q1")
    without = read(qsf(*asked, blocks=blocks, flow=[]))
    assert without.survey.keys == ("Q1", "Q2") and told(without, "There is no survey flow")


def test_export_tags_become_distinct_keys_without_spaces_or_braces_and_changes_are_told():
    tags = ("my tag", "my tag", "a{b}", "", None, "\ud800x")
    found = read(qsf(*(question(f"QID{at}", DataExportTag=tag) for at, tag in enumerate(tags))))
    assert found.survey.keys == ("my_tag", "my_tag_2", "a_b", "QID3", "QID4", "?x")
    assert "my tag to my_tag, my tag to my_tag_2, a{b} to a_b" in told(found, "Keys were changed")


# -- conditions


def test_display_logic_becomes_a_condition_in_codes():
    file = qsf(
        question("QID1", RecodeValues={"1": "7", "2": "8"}),
        question("QID2", DisplayLogic=logic(selected("QID1", 1))),
        question("QID3", InPageDisplayLogic=logic(selected("QID1", 2, "NotSelected"))),
    )
    assert conditions(read(file)) == {
        "Q2": {"question": "Q1", "in": [7]},
        "Q3": {"not": {"question": "Q1", "in": [8]}},
    }


def test_and_binds_closer_than_or_and_sets_are_joined_by_their_own_word():
    a, b, c = selected("QID1", 1), selected("QID2", 1), selected("QID3", 1)
    either = {"Conjuction": "Or"}
    both = {"Conjuction": "And"}
    is_a, is_b, is_c = ({"question": key, "in": [1]} for key in ("Q1", "Q2", "Q3"))
    asked = [question(f"QID{number}") for number in (1, 2, 3)]
    file = qsf(
        *asked,
        question("QID4", DisplayLogic=logic(a, {**b, **either}, {**c, **both})),
        question("QID5", DisplayLogic=sets(logic(a, {**b, **either}), logic(c, kind="AndIf"))),
        question("QID6", DisplayLogic=sets(logic(a, {**b, **both}), logic(c, kind="ElseIf"))),
        question("QID7", DisplayLogic=logic(a, {**selected("QID1", 2), **either})),
    )
    assert conditions(read(file)) == {
        "Q4": {"any": [is_a, {"all": [is_b, is_c]}]},
        "Q5": {"all": [{"any": [is_a, is_b]}, is_c]},
        "Q6": {"any": [{"all": [is_a, is_b]}, is_c]},
        "Q7": {"question": "Q1", "in": [1, 2]},
    }


def test_logic_on_choices_rows_and_cells_finds_the_questions_they_became():
    any_row = {**selected("QID3", 1), "LeftOperand": "q://QID3/SelectableAnswer/3"}
    file = qsf(
        question("QID2", selector="MAVR"),
        matrix("QID3"),
        matrix("QID4", sub="MultipleAnswer"),
        question("QID5", DisplayLogic=logic(selected("QID2", "2"))),
        question("QID6", DisplayLogic=logic(selected("QID3", "2/3"))),
        question("QID7", DisplayLogic=logic(selected("QID4", "1/2"))),
        question("QID8", DisplayLogic=logic(any_row)),
    )
    assert conditions(read(file)) == {
        "Q5": {"question": "Q2_2", "in": [1]},
        "Q6": {"question": "Q3_2", "in": [3]},
        "Q7": {"question": "Q4_1_2", "in": [1]},
        "Q8": {"any": [{"question": "Q3_1", "in": [3]}, {"question": "Q3_2", "in": [3]}]},
    }


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (logic({"LogicType": "EmbeddedField", "LeftOperand": "arm", "Operator": "EqualTo"}), "asks for EmbeddedField"),
        (logic({**selected("QID1", 1), "Operator": "EqualTo", "RightOperand": "5"}), "more than whether an option"),
        (logic({**selected("QID1", 1), "LeftOperand": "q://QID1/SelectedChoicesCount"}), "more than whether an option"),
        (logic(selected("QID1", 9)), "QID1 has no answer '9'"),
        (logic(selected("QID404", 1)), "QID404 is no question before it that was kept"),
        (logic(selected("QID3", 1)), "QID3 is no question before it that was kept"),
        (logic(selected("QID1", 1), {**selected("QID1", 2), "Conjuction": "Xor"}), "joined by 'xor'"),
        (sets(logic(selected("QID1", 1)), logic(selected("QID1", 2), kind="New")), "joined by New"),
        (
            sets(
                logic(selected("QID1", 1)),
                logic(selected("QID1", 2), kind="AndIf"),
                logic(selected("QID1", 1), kind="OrIf"),
            ),
            "joined by and, or",
        ),
        ({"Type": "BooleanExpression"}, "it has no conditions"),
        (logic(), "it has no conditions"),
        ("broken", "it has no conditions"),
    ],
)
def test_logic_that_cannot_be_read_is_told_and_the_question_asked_of_all(value, reason):
    found = read(qsf(question("QID1"), question("QID2", DisplayLogic=value), question("QID3")))
    assert found.survey.keys == ("Q1", "Q2", "Q3") and conditions(found) == {}
    note = told(found, "Display logic that cannot be read is left out; asked of all")
    assert "Q2 (" in note and reason in note


def test_questions_that_depend_on_each_other_in_a_circle_are_told():
    found = read(
        qsf(
            question("QID1", DisplayLogic=logic(selected("QID2", 1))),
            question("QID2", DisplayLogic=logic(selected("QID1", 1))),
            question("QID3", DisplayLogic=logic(selected("QID3", 1))),
        )
    )
    assert conditions(found) == {"Q2": {"question": "Q1", "in": [1]}}
    note = told(found, "Display logic that cannot be read")
    assert "Q1 (QID2 is no question before it" in note and "Q3 (QID3 is no question before it" in note


def branch(expressions, *flow):
    return {
        "Type": "Branch",
        "FlowID": "FL_9",
        "Description": "My branch",
        "BranchLogic": expressions,
        "Flow": list(flow),
    }


def test_branches_groups_and_randomizers_are_walked_and_branches_are_conditions():
    blocks = [block(f"BL_{number}", f"QID{number}") for number in range(1, 6)]
    flow = [
        shown("BL_1"),
        {"Type": "EmbeddedData", "FlowID": "FL_7", "EmbeddedData": [{"Field": "arm", "Value": "A"}]},
        branch(logic(selected("QID1", 1)), shown("BL_2"), branch(logic(selected("QID2", 2)), shown("BL_3"))),
        {"Type": "Group", "FlowID": "FL_8", "Description": "G", "Flow": [shown("BL_4")]},
        {"Type": "BlockRandomizer", "FlowID": "FL_5", "SubSet": 1, "EvenPresentation": True, "Flow": [shown("BL_5")]},
        {"Type": "Hologram", "FlowID": "FL_6"},
    ]
    found = read(qsf(*(question(f"QID{number}") for number in range(1, 6)), blocks=blocks, flow=flow))
    assert found.survey.keys == ("Q1", "Q2", "Q3", "Q4", "Q5")
    assert conditions(found) == {
        "Q2": {"question": "Q1", "in": [1]},
        "Q3": {"all": [{"question": "Q1", "in": [1]}, {"question": "Q2", "in": [2]}]},
    }
    assert told(found, "drawn at random") == (
        "Parts drawn at random in the source are all asked, in the order written: FL_5 (1 of 1)."
    )
    assert told(found, "Embedded data") == "Embedded data is left out: FL_7."
    assert told(found, "not known and left out").endswith("FL_6 (Hologram).")


def test_an_unreadable_branch_is_asked_of_all_and_told():
    unread = branch(logic({"LogicType": "Quota", "Operator": "QuotaMet"}), shown("BL_1"))
    found = read(qsf(question("QID1"), flow=[unread]))
    assert conditions(found) == {}
    assert "My branch (it asks for Quota, not for an answer)" in told(found, "A branch whose logic cannot be read")


END_SURVEY = {"Type": "EndSurvey", "FlowID": "FL_99", "EndingType": "Advanced", "Options": {"Advanced": "true"}}


def test_the_end_of_the_survey_in_a_branch_spares_those_it_ends_for():
    blocks = [block("BL_1", "QID1"), block("BL_2", "QID2")]
    flow = [shown("BL_1"), branch(logic(selected("QID1", 2)), END_SURVEY), shown("BL_2")]
    asked = (question("QID1"), question("QID2"))
    assert conditions(read(qsf(*asked, blocks=blocks, flow=flow))) == {"Q2": {"not": {"question": "Q1", "in": [2]}}}
    always = read(qsf(*asked, blocks=blocks, flow=[shown("BL_1"), END_SURVEY, shown("BL_2")]))
    assert always.survey.keys == ("Q1",) and why(always) == {"Q2": "it comes after the end of the survey"}
    unread = branch(logic({"LogicType": "EmbeddedField"}), END_SURVEY)
    unknown = read(qsf(*asked, blocks=blocks, flow=[shown("BL_1"), unread, shown("BL_2")]))
    assert unknown.survey.keys == ("Q1", "Q2") and conditions(unknown) == {}
    assert told(unknown, "The survey may end early under a condition that cannot be read")
    drawn = {"Type": "BlockRandomizer", "FlowID": "FL_5", "SubSet": 1, "Flow": [END_SURVEY]}
    assert read(qsf(*asked, blocks=blocks, flow=[shown("BL_1"), drawn, shown("BL_2")])).survey.keys == ("Q1", "Q2")


def skip(qid, choice, until, condition="Selected"):
    rule = {
        "SkipLogicID": 1,
        "ChoiceLocator": f"q://{qid}/SelectableChoice/{choice}",
        "Condition": condition,
        "QuestionID": qid,
        "SkipToDestination": until,
        "Description": "...",
    }
    return {"Type": "Question", "QuestionID": qid, "SkipLogic": [rule]}


@pytest.mark.parametrize(
    ("until", "spared"),
    [("QID3", {"Q2"}), ("ENDOFBLOCK", {"Q2", "Q3"}), ("ENDOFSURVEY", {"Q2", "Q3", "Q4"}), ("QID77", {"Q2", "Q3"})],
)
def test_skip_logic_spares_the_questions_up_to_where_it_leads(until, spared):
    blocks = [block("BL_1", skip("QID1", 2, until), "QID2", "QID3"), block("BL_2", "QID4")]
    found = read(qsf(*(question(f"QID{number}") for number in (1, 2, 3, 4)), blocks=blocks))
    assert conditions(found) == {key: {"not": {"question": "Q1", "in": [2]}} for key in spared}
    assert ("QID77" in " ".join(found.notes)) == (until == "QID77")


def test_skip_logic_that_cannot_be_read_is_told():
    blocks = [block("BL_1", skip("QID1", 2, "ENDOFBLOCK", "EqualTo"), "QID2")]
    found = read(qsf(question("QID1"), question("QID2"), blocks=blocks))
    assert conditions(found) == {} and "QID1 (EqualTo q://QID1" in told(found, "Skip logic that cannot be read")


def test_more_skips_than_one_question_can_depend_on_are_told():
    count = 105
    blocks = [block("BL_1", *(skip(f"QID{number}", 1, "ENDOFSURVEY") for number in range(count)), "QID999")]
    found = read(qsf(*(question(f"QID{number}") for number in range(count)), question("QID999"), blocks=blocks))
    assert len(found.survey.questions[-1].ask_if.leaves) == 100
    assert told(found, "More than 100 skips are under way at once")


# -- piping and order


def test_piped_answers_to_questions_kept_before_are_piped_and_others_stand_and_are_told():
    file = qsf(
        question("QID1", DataExportTag="party"),
        question("QID2", QuestionText="Why <b>${q://QID1/ChoiceGroup/SelectedChoices}</b>, ${e://Field/name}?"),
        question(
            "QID3", QuestionText="And ${q://QID4/ChoiceGroup/SelectedChoices} or ${q://QID1/ChoiceTextEntryValue}?"
        ),
        question("QID4", QuestionText="Fill in {party} or {Q3}: ${lm://Field/1}"),
    )
    found = read(file)
    texts = {asked.key: asked.text for asked in found.survey.questions}
    assert texts["Q2"] == "Why {party}, ${e://Field/name}?"
    assert texts["Q3"] == "And ${q://QID4/ChoiceGroup/SelectedChoices} or ${q://QID1/ChoiceTextEntryValue}?"
    assert texts["Q4"] == "Fill in { party } or { Q3 }: ${lm://Field/1}"
    assert found.survey.questions[1].piped == ("party", "e://Field/name")
    note = told(found, "A piped text stands as it is")
    for left in ("${e://Field/name}", "${q://QID4/ChoiceGroup/SelectedChoices}", "${lm://Field/1}"):
        assert left in note


def three(qid, kind):
    choices = {str(number): {"Display": f"Party {number}"} for number in (1, 2, 3)}
    return question(qid, Choices=choices, Randomization={"Type": kind, "Advanced": None, "TotalRandSubset": ""})


def test_shuffled_options_are_shuffled_here_where_all_are_and_told_where_some_are():
    every = read(qsf(three("QID1", "All"), three("QID2", "Advanced"), question("QID3")))
    assert every.survey.order_patterns == ("shuffled",)
    assert [asked.ordinal for asked in every.survey.questions] == [False, False, True]
    some = read(qsf(three("QID1", "All"), three("QID2", "None"), three("QID3", "ScaleReversal")))
    assert some.survey.order_patterns == ("original", "reversed")
    assert [asked.ordinal for asked in some.survey.questions] == [False, True, True]
    assert told(some, "Options shuffled in the source").endswith(": Q1.")
    assert told(some, "Taken as ordered options").endswith(": Q2, Q3.")


def test_what_of_a_kept_question_is_other_than_in_the_source_is_told():
    other = {"1": {"Display": "Yes"}, "2": {"Display": "Other: ${e://Field/x}", "TextEntry": "true"}}
    hidden = {"1": {"Display": "Yes", "DisplayLogic": logic(selected("QID1", 1))}, "2": {"Display": "No"}}
    options = {"Looping": "Static", "RandomizeQuestions": "RandomizeAll"}
    found = read(
        qsf(
            question("QID1", Choices=other, QuestionJS="alert(1)", Graphics="IM_1"),
            question("QID2", Choices=hidden),
            matrix("QID3", Randomization={"Type": "All"}),
            blocks=[block("BL_1", "QID1", "QID2", "QID3", Options=options)],
            extra=[element("QO", "QO_1", {"Name": "women", "Occurrences": 50})],
        )
    )
    for words, about in (
        ("The text field beside an option", "Q1"),
        ("A piped text in an option", "Q1"),
        ("JavaScript", "Q1"),
        ("A picture", "Q1"),
        ("Options shown only under a condition", "Q2"),
        ("loop and merge", "BL_1"),
        ("Questions in random order in the source", "BL_1, Q3"),
        ("A quota", "women"),
    ):
        assert told(found, words).endswith(f": {about}.")


# -- damage


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no JSON .* export it again"),
        (b'{"SurveyElements": [', "is no JSON"),
        (b"\xff\xfe\x00", "is no JSON"),
        (b"[" * 100_000, "is no JSON"),
        (b"[]", "it has no SurveyElements: in Qualtrics use Tools > Import/Export"),
        (b'{"SurveyElements": []}', "it has no SurveyElements"),
        (
            json.dumps(qsf(question("QID1", "TE", "SL"))).encode(),
            r"no question with two fixed options or more .*\(Q1: an open text",
        ),
        (b'{"SurveyElements": [{}]}', "no question with two fixed options or more .*it is empty"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_what_to_do(content, message):
    with pytest.raises(DataError, match=message):
        read_qsf(content, name="file")


def test_groups_nested_too_deeply_in_the_flow_are_told():
    flow = [shown("BL_2")]
    for _ in range(60):
        flow = [{"Type": "Group", "FlowID": "FL_8", "Flow": flow}]
    blocks = [block("BL_1", "QID1"), block("BL_2", "QID2")]
    found = read(qsf(question("QID1"), question("QID2"), blocks=blocks, flow=[shown("BL_1"), *flow]))
    assert found.survey.keys == ("Q1",) and told(found, "Groups more than 50 deep")


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 10**12),
    st.floats(),
    st.sampled_from(["", "QID1", "BL_1", "{", "<![", "q://QID1/SelectableChoice/1", "\ud800", "\ue000", "x" * 300]),
    st.text(max_size=5),
    st.lists(st.integers(0, 3), max_size=3),
    st.dictionaries(st.sampled_from(["0", "1", "Type", "Display", "Flow"]), st.integers(0, 3), max_size=3),
)


def places(value, path=()):
    """Paths of all values within a value."""
    yield path
    for name, part in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(part, (*path, name))


def damaged(draw, value, how_often):
    """A copy with some values replaced, removed or moved elsewhere."""
    value = json.loads(json.dumps(value))
    for _ in range(draw(st.integers(1, how_often))):
        path = draw(st.sampled_from([*places(value)][1:] or [("SurveyEntry",)]))
        value.setdefault("SurveyEntry", {})
        inside = value
        for name in path[:-1]:
            inside = inside[name]
        if draw(st.booleans()):
            inside[path[-1]] = draw(JUNK)
        elif isinstance(inside, dict):
            del inside[path[-1]]
        else:
            inside.append(inside[path[-1]])
    return value


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_a_damaged_file_gives_a_sound_survey_or_one_clear_error(data):
    file = damaged(data.draw, everything()[0], 6)
    try:
        found = read(file)
    except DataError as error:
        assert str(error)
    else:
        assert [problem for problem in problems(found.survey.to_dict()) if problem.severity == ERROR] == []
        assert len(found.survey.digest) == 64
        elements = file["SurveyElements"]
        elements = list(elements.values()) if isinstance(elements, dict) else elements
        count = sum(isinstance(part, dict) and part.get("Element") == "SQ" for part in elements)
        assert len(set(found.sources.values())) + len(found.left_out) == count
