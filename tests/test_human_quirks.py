"""Odd files and odd sources: each value is read as it is meant, counted as left out, or refused with what to do."""

import json

import numpy as np
import pandas as pd
import pyreadstat
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anthology_hub import Respondents, SimulateOptions, Survey, evaluate, open_model, simulate, unmatched
from anthology_hub.coding import is_no_answer, plain, shown
from anthology_hub.errors import DataError, OptionError
from anthology_hub.evaluation import EvaluateOptions
from anthology_hub.prompts import question_text
from anthology_hub.schema import MISSING, Question
from anthology_hub.sides import human_side
from anthology_hub.statfiles import Variable
from tests.human_files import (
    QUALTRICS_SURVEY,
    write_gss,
    write_opinionqa,
    write_pew_sav,
    write_qualtrics,
    write_worldvaluesbench,
)

YES_NO = [{"code": 1, "text": "Yes"}, {"code": 2, "text": "No"}]
ASKED = {"key": "q", "text": "Q?", "options": YES_NO}
SOURCE = {
    "name": "t",
    "survey": {"questions": [ASKED]},
    "id": "id",
    "weight": "w",
    "traits": {"sex": {"column": "sex", "codes": {1: "Man", 2: "Woman"}}},
}
FROM_FILE = {"survey": {"questions": [{"key": "q"}]}}
AGES = [{"from": 18, "to": 64, "level": "Under 65"}, {"from": 65, "to": 120, "level": "65+"}]


def table(**columns):
    usual = {"id": list("abcd"), "w": [1.0, 1, 2, 2], "sex": [1.0, 2, 1, 2], "q": [1.0, 2, 1, 2]}
    return pd.DataFrame(usual | columns)


def read(source=None, labels=None, missing=None, **columns):
    known = {
        name: Variable(name=name, values=(labels or {}).get(name, {}), missing=(missing or {}).get(name, ()))
        for name in {*(labels or {}), *(missing or {})}
    }
    return Respondents.from_table(table(**columns), SOURCE | (source or {}), variables=known)


# -- codes that stand for no answer ----------------------------------------------------------------------------------


def test_a_bin_takes_no_code_that_the_file_calls_no_answer():
    rule = {"traits": {"age": {"column": "age", "bins": AGES}}}
    labelled = read(rule, labels={"age": {98.0: "DK", 99.0: "No answer"}}, age=[20.0, 70, 98, 99])
    ranged = read(rule, missing={"age": ((98.0, 99.0),)}, age=[20.0, 70, 98, 99])
    listed = read(rule | {"missing": [98, 99]}, age=[20.0, 70, 98, 99])
    for humans in (labelled, ranged, listed):
        assert humans.codes["age"].tolist() == [0, 1, MISSING, MISSING]
        assert "Unknown levels: age 2." in humans.notes
    assert read(rule, age=[20.0, 70, 98, 99]).codes["age"].tolist() == [0, 1, 1, 1]


def test_an_age_of_99_in_a_file_of_the_general_social_survey_is_no_age(tmp_path):
    frame = write_gss(tmp_path / "a.sav", n=60)
    frame["age"] = np.where(np.arange(len(frame)) % 5 == 0, 99.0, frame["age"])
    labels = {"AGE": {89.0: "89 OR OLDER", 98.0: "DK", 99.0: "NA"}}
    pyreadstat.write_sav(frame.rename(columns=str.upper), tmp_path / "b.sav", variable_value_labels=labels)
    humans = Respondents.from_gss(tmp_path / "b.sav", wave=2016)
    kept = frame[frame["year"] == 2016]
    assert (humans.codes["age"] == 3).sum() == ((kept["age"] >= 65) & (kept["age"] < 99)).sum() > 0
    assert (humans.codes["age"] == MISSING).sum() == ((kept["age"] == 99) | kept["age"].isna()).sum()


def test_an_overruling_column_overrules_with_no_code_that_stands_for_no_answer():
    rule = {"column": "sex", "codes": {1: "Man", 2: "Woman"}}
    rule |= {"unless": {"column": "other", "from": 2, "to": 200, "level": "Other"}}
    humans = read({"traits": {"sex": rule}}, labels={"other": {99.0: "Refused"}}, other=[1.0, 2, 99, np.nan])
    assert humans.levels["sex"] == ("Man", "Woman", "Other")
    assert humans.codes["sex"].tolist() == [0, 2, 0, 1]


def test_a_weight_that_the_file_calls_missing_is_no_weight():
    for told in ({"labels": {"w": {999.0: "No answer"}}}, {"missing": {"w": ((900.0, 999.0),)}}):
        with pytest.raises(DataError, match="1 weights in column 'w' are missing or zero: write without_weight: drop"):
            read(w=[1.0, 2, 999, 2], **told)
        humans = read({"without_weight": "drop"}, w=[1.0, 2, 999, 2], **told)
        assert humans.weights.tolist() == [1.0, 2.0, 2.0] and humans.ids == ("a", "b", "d")
    assert read({"missing": [2]}).weights.tolist() == [1.0, 1.0, 2.0, 2.0]


def test_text_codes_are_no_answers_by_their_label_or_their_place_among_the_missing():
    values = {"1": "Yes", "2": "No", "9": "Refused"}
    assert read(FROM_FILE, labels={"q": values}, q=["1", "2", "9", "1"]).answers["q"].tolist() == [0, 1, MISSING, 0]
    humans = read(
        FROM_FILE, labels={"q": {"1": "Yes", "2": "No"}}, missing={"q": (("9", "9"),)}, q=["1", "2", "9", None]
    )
    assert humans.answers["q"].tolist() == [0, 1, MISSING, MISSING]
    levels = read({"traits": {"sex": {"column": "sex"}}}, labels={"sex": values}, sex=["1", "2", "9", "1"])
    assert levels.codes["sex"].tolist() == [0, 1, MISSING, 0]
    assert not any("no level" in note for note in levels.notes)


def test_texts_among_numbers_that_stand_for_no_answer_are_no_numbers_and_others_are_refused():
    rule = {"traits": {"age": {"column": "age", "bins": AGES}}}
    assert read(rule, age=["20", "Refused", "70", ""]).codes["age"].tolist() == [0, MISSING, 1, MISSING]
    with pytest.raises(DataError, match="column 'age' holds 1 values that are no numbers, such as 'old': mend them"):
        read(rule, age=["20", "Refused", "old", ""])
    with pytest.raises(DataError, match="column 'w' holds 4 values that are no numbers, such as '2020-01-01"):
        read(w=pd.to_datetime(["2020-01-01"] * 4))


def test_long_codes_that_differ_in_their_last_digit_are_different():
    with pytest.raises(DataError, match=r"holds the code 9999998 \(1 x\); allowed are 1, 2"):
        read({"missing": [9999997]}, q=[1.0, 2, 9999998, 9999997])
    assert (shown(9999998.0), shown("9999998"), shown("B")) == ("9999998", "9999998", "'B'")


# -- labels that disagree ---------------------------------------------------------------------------------------------


def test_a_file_that_labels_the_codes_the_other_way_round_is_not_read_the_wrong_way_round():
    turned = {"q": {1.0: "NO", 2.0: "yes"}}
    with pytest.raises(DataError, match="labels the code 1 'NO', for which the survey has the code 2: say with recode"):
        read(labels=turned)
    assert read({"recode": {1: 2, 2: 1}}, labels=turned).answers["q"].tolist() == [1, 0, 1, 0]


def test_a_code_that_the_file_calls_a_refusal_is_one_even_where_the_wave_has_a_level_for_it(tmp_path):
    ages = {1.0: "18-29", 2.0: "30-49", 3.0: "Refused", 4.0: "65+"}
    file = write_pew_sav(tmp_path / "p.sav", 34, n=200, value_labels={"F_AGECAT_FINAL": ages})
    codes = Respondents.from_pew(tmp_path / "p.sav").codes["age"]
    raw = pyreadstat.read_sav(tmp_path / "p.sav")[0]["F_AGECAT_FINAL"]
    assert file is not None and (raw == 3).sum() > 0
    assert (codes[raw == 3] == MISSING).all() and (codes[raw == 4] == 3).all()


def test_labels_of_a_trait_that_the_file_does_not_have_are_refused_and_the_ones_it_has_are_named():
    rule = {"traits": {"sex": {"column": "sex", "labels": {"A man": "Man", "A woman": "Woman"}}}}
    with pytest.raises(DataError, match="none of the labels 'A man', 'A woman' is in column 'sex'; it has 'Male', 'Fe"):
        read(rule, labels={"sex": {1.0: "Male", 2.0: "Female"}})


def test_a_label_said_by_the_source_goes_before_a_level_of_the_same_text():
    rule = {"column": "sex", "labels": {"A": "B", "B": "A"}, "levels": ["A", "B"]}
    assert read({"traits": {"sex": rule}}, sex=["A", "B", "A", None]).codes["sex"].tolist() == [1, 0, 1, MISSING]


def test_options_with_one_text_are_refused_with_their_codes_and_cells_that_read_alike_are_one_option():
    for second in ("Yes", "yes "):
        with pytest.raises(DataError, match="the file calls the codes 1, 3 all 'Yes'; options have different texts"):
            read(FROM_FILE, labels={"q": {1.0: "Yes", 2.0: "No", 3.0: second}})
    humans = read(FROM_FILE, q=["Yes", "yes ", "No", "YES"])
    assert len(humans.survey.questions[0].options) == 2
    assert humans.answers["q"].tolist() == [1, 1, 0, 1]
    options = [{"code": 1, "text": "Yes"}, {"code": 2, "text": "yes"}]
    with pytest.raises(DataError, match=r"the options \('Yes', 'yes'\) differ in case, spaces or apostrophes alone"):
        read({"survey": {"questions": [{**ASKED, "options": options}]}}, q=["yes", "yes", "yes", "yes"])


def test_a_column_whose_labels_all_stand_for_no_answer_is_refused():
    silent = {1.0: "Refused", 2.0: "DK"}
    with pytest.raises(DataError, match="'q' has only labels that stand for no answer in the file: write its options"):
        read(FROM_FILE, labels={"q": silent})
    with pytest.raises(DataError, match="trait 'sex': all labels of column 'sex' stand for no answer: leave it out"):
        read({"traits": {"sex": {"column": "sex"}}}, labels={"sex": silent})


# -- types of columns -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "column",
    [
        pd.array([1, 2, None, 1], dtype="Int64"),
        pd.array([1, 2, None, 1], dtype="Float64"),
        pd.Categorical([1, 2, None, 1]),
        pd.Categorical(["Yes", "No", None, "yes"]),
        np.array(["01", "2", None, " 1 "], dtype=object),
        np.array([1, "No", None, 1.0], dtype=object),
    ],
)
def test_an_answer_is_the_same_in_every_type_of_column(column):
    assert read(q=column).answers["q"].tolist() == [0, 1, MISSING, 0]


@pytest.mark.parametrize("kind", ["float32", "Float64", "Int64", "category", "object", "str"])
def test_weights_are_64_bit_numbers_whatever_the_column_holds(kind):
    weights = read(w=pd.Series([1, 2, 3, 4]).astype(kind)).weights
    assert weights.dtype == np.float64 and weights.tolist() == [1.0, 2.0, 3.0, 4.0]


def test_true_and_one_are_told_apart_whichever_was_read_first():
    assert (plain(1.0), plain(True), plain(1), plain("1")) == ("1.0", "true", "1", "1")
    truth = np.array([True, False, None, True], dtype=object)
    humans = read({"traits": {"sex": {"column": "sex"}}}, sex=truth)
    assert humans.levels["sex"] == ("False", "True") and humans.codes["sex"].tolist() == [1, 0, MISSING, 1]


def test_two_columns_of_one_name_are_refused():
    doubled = pd.concat([table(), table()[["q"]]], axis=1)
    with pytest.raises(DataError, match="two columns of one name, q: rename one of them"):
        Respondents.from_table(doubled, SOURCE)


def test_ids_that_differ_in_spaces_alone_are_one_and_a_blank_one_is_none():
    with pytest.raises(DataError, match="distinct; 1 missing, 1 doubled"):
        read(id=["a", " a ", " ", "b"])
    assert read(id=["a ", "b", "c", "d"]).ids == ("a", "b", "c", "d")


@pytest.mark.parametrize("weight", [1e200, 1e-200])
def test_weights_whose_squares_no_computer_holds_are_refused(weight):
    with pytest.raises(DataError, match=r"2 weights in column 'w' are above 1e\+100 or below its inverse, such as 1e"):
        read(w=[weight, weight, 1.0, 1.0])


@given(scale=st.floats(1e-90, 1e90))
@settings(deadline=None, max_examples=20)
def test_shares_do_not_depend_on_what_the_weights_sum_to(scale):
    humans = read(w=[scale, 2 * scale, 3 * scale, 4 * scale])
    shares = human_side(humans, humans.survey).whole.shares[0, 0]
    assert shares.tolist() == pytest.approx([0.4, 0.6])


# -- sources of the wrong form ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"missing": "Refused"}, "'missing' of the source is 'Refused'; it must be a list of codes"),
        ({"missing": 8}, "'missing' of the source is 8; it must be a list"),
        ({"notes": "Field time"}, "'notes' of the source is 'Field time'; it must be a list of texts"),
        ({"keep": "w"}, "'keep' of the source is 'w'; it must be column: code"),
        ({"recode": [1, 2]}, r"'recode' of the source is \[1, 2\]; it must be raw code: code"),
        ({"recode": {1: "x"}}, "'recode' of the source is .*a whole number"),
        ({"columns": {"q": 3}}, "'columns' of the source is .*name of a column in quotes"),
        ({"retest": "q"}, "'retest' of the source is 'q'; it must be question key"),
        ({"id": 3}, "'id' of the source is 3; it must be the name of a column"),
        ({"name": 2018}, "'name' of the source is 2018; it must be a text"),
        ({"survey": ["q"]}, "'survey' of the source is .*questions: "),
        ({"survey": {"questions": ["q"]}}, "'survey' of the source is .*questions: "),
        ({"survey": {"questions": [{"text": "x"}]}}, "'survey' of the source is .*each key in quotes"),
        ({"traits": ["sex"]}, r"'traits' of the source is \['sex'\]; it must be trait: "),
    ],
)
def test_a_field_of_the_wrong_form_is_refused_with_its_value_and_the_form(change, said):
    with pytest.raises(DataError, match=said):
        read(change)


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"codes": ["Man"]}, r"'codes' of trait 'sex' is \['Man'\]; it must be raw code or label: level"),
        ({"codes": {1: True, 2: False}}, 'it must be raw code or label: level, a text in quotes such as "Yes"'),
        ({"labels": ["Man"]}, "'labels' of trait 'sex' is"),
        ({"levels": "Man"}, "'levels' of trait 'sex' is 'Man'; it must be a list of texts"),
        ({"bins": [{"to": 2, "level": "a"}]}, "'bins' of trait 'sex' is .*from: 18, to: 29"),
        ({"bins": [{"from": "a", "to": 2, "level": "a"}]}, "'bins' of trait 'sex' is .*from: 18, to: 29"),
        ({"bins": []}, r"'bins' of trait 'sex' is \[\]; it must be a list such as"),
        ({"bins": [{"from": 1, "to": 2, "level": "a"}, {"from": 0, "to": 1.5, "level": "b"}]}, "'b' and 'a' overlap"),
        ({"bins": [{"from": 1, "to": 2, "level": "a"}], "levels": ["b"]}, r"has 'a', which the listed levels \(b\)"),
        ({"codes": {1: "a", 2: "b"}, "unless": {"column": "q"}}, "'unless' of trait 'sex' is .*from: 2, to: 50"),
        ({"column": 5, "codes": {1: "a"}}, "'column' of trait 'sex' is 5; it must be the name of a column"),
    ],
)
def test_a_rule_of_the_wrong_form_is_refused_with_its_value_and_the_form(rule, said):
    with pytest.raises(DataError, match=said):
        read({"traits": {"sex": {"column": "sex", **rule}}})


def test_bins_that_share_an_end_are_parted_there_and_codes_go_before_bins():
    bins = [{"from": 0, "to": 25, "level": "Low"}, {"from": 25, "to": 50, "level": "High"}]
    humans = read(
        {"traits": {"income": {"column": "income", "bins": bins, "codes": {9: "None"}}}}, income=[9, 10, 25, 50]
    )
    assert humans.levels["income"] == ("None", "Low", "High") and humans.codes["income"].tolist() == [0, 1, 2, 2]


@pytest.mark.parametrize(
    "change",
    [{"traits": {"who": {"column": "id"}}}, {"survey": {"questions": [{"key": "id"}]}}, {"columns": {"q": "id"}}],
)
def test_ids_can_be_neither_a_trait_nor_a_question(change):
    with pytest.raises(DataError, match=r"is read from \['id'\], which holds the ids: leave it out"):
        read(change)


def test_one_recode_serves_questions_with_different_codes():
    three = [*YES_NO, {"code": 3, "text": "Maybe"}]
    survey = {"questions": [ASKED, {"key": "r", "text": "R?", "options": three}]}
    humans = read({"survey": survey, "recode": {0: 1, 1: 2, 2: 3}}, q=[0.0, 1, 0, 1], r=[0.0, 1, 2, 2])
    assert (humans.answers["q"].tolist(), humans.answers["r"].tolist()) == ([0, 1, 0, 1], [0, 1, 2, 2])
    with pytest.raises(DataError, match=r"question 'q' holds the code 2 \(1 x\); allowed are 0, 1"):
        read({"survey": survey, "recode": {0: 1, 1: 2, 2: 3}}, q=[0.0, 1, 2, 1], r=[0.0, 1, 2, 2])


def test_a_design_column_that_the_file_lacks_is_told():
    notes = read({"strata": "stratum", "psu": ["u1", "u2"]}).notes
    assert "The file has no strata column stratum: the intervals do not allow for it." in notes
    assert "The file has no psu column u1 or u2: the intervals do not allow for it." in notes


def test_a_question_that_is_an_identifier_takes_conditions_scales_and_retests_on_it_along():
    mail = {"key": "email", "text": "Mail?", "options": YES_NO}
    then = {**ASKED, "ask_if": {"question": "email", "in": [1]}}
    survey = {"questions": [mail, then], "scales": {"both": ["email", "q"], "one": ["email"]}}
    addresses = [f"{name}@example.org" for name in "abcd"]
    humans = read({"survey": survey, "retest": {"email": "email", "q": "q"}}, email=addresses)
    assert humans.survey.keys == ("q",) and humans.survey.questions[0].ask_if is None
    assert humans.survey.scales == {"both": ("q",)} and set(humans.retest) == {"q"}
    assert any(note.startswith("Left out as direct identifiers: email") for note in humans.notes)
    assert "Asked under a condition on a question that is left out, now of all: q." in humans.notes


# -- files of sources -------------------------------------------------------------------------------------------------


@pytest.fixture
def town(tmp_path):
    table().to_csv(tmp_path / "t.csv", index=False)

    def from_yaml(text, **options):
        (tmp_path / "map.yaml").write_text(f"name: t\nid: id\n{text}")
        return Respondents.from_file(tmp_path / "t.csv", source=tmp_path / "map.yaml", **options)

    return from_yaml


def test_yes_and_no_in_yaml_are_texts(town):
    humans = town(
        "survey: {questions: [{key: q, text: 'Q?', options: [{code: 1, text: Yes}, {code: 2, text: No}]}]}\n"
        "traits: {sex: {column: sex, codes: {1: Yes, 2: No}}}\n"
    )
    assert humans.survey.questions[0].options == ("Yes", "No") and humans.levels["sex"] == ("Yes", "No")


def test_a_field_that_stands_twice_in_a_source_is_refused(town):
    with pytest.raises(DataError, match="the field 'survey' stands twice"):
        town("survey: bfi\nsurvey: bfi\n")


def test_a_survey_in_yaml_is_found_beside_its_source(town, tmp_path):
    survey = {"name": "s", "title": "S", "source": "made up", "questions": [ASKED]}
    (tmp_path / "s.yaml").write_text(json.dumps(survey))
    humans = town("survey: s.yaml\n")
    assert humans.survey.name == "s" and humans.answers["q"].tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize("options", [{"wave": 3}, {"kind": "pew"}, {"survey": "bfi"}])
def test_what_a_source_says_itself_cannot_be_given_beside_it(town, options):
    with pytest.raises(OptionError, match=f"{next(iter(options))} cannot be given beside a source"):
        town("survey: bfi\n", **options)


def test_a_description_of_the_wrong_form_in_a_folder_of_respondents_is_refused(tmp_path):
    folder = read().save(tmp_path / "kept")
    value = json.loads((folder / "respondents.json").read_text())
    (folder / "respondents.json").write_text(json.dumps(value | {"levels": 5}))
    with pytest.raises(DataError, match="kept cannot be read .*import the file anew"):
        Respondents.load(folder)


# -- surveys ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"text": 5}, "the text of a question must be a text, got 5: write it in quotes"),
        ({"key": 5}, "the key of a question must be a text, got 5"),
        ({"options": 5}, "question 'q' needs two options or more"),
        ({"options": {1: "Yes", 2: "No"}}, "question 'q' needs two options or more"),
        ({"options": [{"code": 1.5, "text": "a"}, {"code": 2, "text": "b"}]}, "the code 1.5 is no whole number"),
        (
            {"options": [{"code": 1, "text": True}, {"code": 2, "text": "b"}]},
            "the text True is none: write it in quotes",
        ),
        ({"ordinal": "no"}, "question 'q': ordinal must be true or false, got 'no'"),
    ],
)
def test_a_question_of_the_wrong_form_is_refused(change, said):
    with pytest.raises(DataError, match=said):
        Survey.from_dict({"name": "s", "questions": [ASKED | change]})


@pytest.mark.parametrize("change", [{"order_patterns": 5}, {"order_patterns": ["up"]}, {"scales": {"a": 5}}])
def test_orders_and_scales_of_the_wrong_form_are_refused(change):
    with pytest.raises((DataError, LookupError), match="order pattern|order_patterns must be|scales must be"):
        Survey.from_dict({"name": "s", "questions": [ASKED], **change})


def test_a_question_cannot_be_selected_before_one_that_it_depends_on():
    then = {**ASKED, "key": "then", "ask_if": {"question": "q", "in": [1]}}
    survey = Survey.from_dict({"name": "s", "questions": [ASKED, then]})
    with pytest.raises(OptionError, match="question 'then' depends on q: select that, too, before it"):
        survey.select(["then", "q"])
    assert Survey.from_dict(survey.select(["q", "then"]).to_dict()).keys == ("q", "then")


def test_an_answer_in_braces_that_is_piped_in_is_no_reference_itself():
    question = Question(key="c", text="{a} and {a.*(} and {b}, {a}", options=("x", "y"), codes=(1, 2))
    said = question_text(question, (0, 1), consistency=False, earlier={"a": "{b}", "b": r"\1", "a.*(": "R"})
    assert said.splitlines()[0] == r"Question: {b} and R and \1, {b}"


# -- design -----------------------------------------------------------------------------------------------------------


def taylor(chosen, weights, strata, psu):
    """Standard error of a weighted share by linearisation, sampling units drawn with replacement (Cochran 1977)."""
    share = (weights * chosen).sum() / weights.sum()
    scores = weights * (chosen - share) / weights.sum()
    variance = 0.0
    for stratum in np.unique(strata):
        totals = np.array([scores[psu == unit].sum() for unit in np.unique(psu[strata == stratum])])
        variance += len(totals) / (len(totals) - 1) * ((totals - totals.mean()) ** 2).sum()
    return np.sqrt(variance)


def test_the_design_bootstrap_gives_the_standard_error_of_linearisation():
    rng = np.random.default_rng(0)
    psu = np.repeat(np.arange(40), 15)
    strata, pull = psu // 4, np.repeat(rng.normal(0, 0.8, 40), 15)
    weights = rng.lognormal(0, 0.5, len(psu))
    codes = np.clip(np.round(0.5 + pull + rng.normal(0, 1, len(psu))), 0, 1)
    source = SOURCE | {"strata": "strata", "psu": "psu", "traits": {}}
    frame = pd.DataFrame({"id": np.arange(len(psu)), "w": weights, "q": codes + 1, "strata": strata, "psu": psu % 4})
    humans = Respondents.from_table(frame, source)
    side = human_side(humans, humans.survey)
    found = side.figures(side.draws(4000, seed=1)).shares[:, 0, 1].std(ddof=1)
    assert found == pytest.approx(taylor(codes, weights, strata, psu), rel=0.05)


def test_strata_with_a_single_sampling_unit_are_told():
    humans = read({"strata": "strata", "psu": "psu"}, strata=[1, 1, 2, 2], psu=[1, 2, 1, 1])
    answers = simulate(
        unmatched(humans), humans.survey, open_model("scripted:uniform"), options=SimulateOptions(conditioning="bio")
    )
    notes = evaluate(answers, humans, options=EvaluateOptions(bootstraps=20, splits=2)).notes
    assert any(note.startswith("1 strata have a single sampling unit, whose chance cannot be told") for note in notes)


# -- layouts ----------------------------------------------------------------------------------------------------------


def test_forms_may_be_texts(tmp_path):
    forms = np.array(["a", "b"] * 50, dtype=object)
    split = np.where(forms == "b", 1.0, np.nan)
    write_pew_sav(
        tmp_path / "p.sav", 34, n=100, change={"FORM_W34": forms, "SPLIT_W34": split}, value_labels={"FORM_W34": {}}
    )
    notes = Respondents.from_pew(tmp_path / "p.sav", questions="SPLIT*").notes
    assert "Asked of a part of the people only: SPLIT_W34 50.0% (FORM_W34 'b')." in notes


def test_codes_in_a_qualtrics_export_are_codes_even_where_an_option_reads_like_another_code(tmp_path):
    drawn = write_qualtrics(tmp_path / "q.csv", n=60, seed=4, texts=False)
    humans = Respondents.from_file(tmp_path / "q.csv", survey=QUALTRICS_SURVEY)
    asked = drawn["NPS"].iloc[3:]
    assert humans.answers["NPS"].tolist() == [MISSING if np.isnan(code) else int(code) - 1 for code in asked]


def test_what_a_question_loses_with_one_that_the_export_lacks_is_told(tmp_path):
    write_qualtrics(tmp_path / "q.csv")
    first, *rest = QUALTRICS_SURVEY["questions"]
    gone = {**first, "key": "Never"}
    then = {**first, "ask_if": {"question": "Never", "in": [5]}, "text": "You said {Never}?"}
    notes = Respondents.from_file(
        tmp_path / "q.csv", survey={**QUALTRICS_SURVEY, "questions": [gone, then, *rest]}
    ).notes
    assert "Asked under a condition on a question that is left out, now of all: Q1." in notes
    assert "Their texts show answers to a question that is left out, mend them: Q1." in notes


@pytest.mark.parametrize("traits", [["Age"], {"age": "Age"}])
def test_traits_of_an_export_in_the_wrong_form_are_refused(tmp_path, traits):
    write_qualtrics(tmp_path / "q.csv")
    with pytest.raises(OptionError, match="traits is .*; it must be trait: rule"):
        Respondents.from_file(tmp_path / "q.csv", survey=QUALTRICS_SURVEY, traits=traits)


def test_an_export_without_responses_or_with_odd_import_ids_is_no_riddle(tmp_path):
    write_qualtrics(tmp_path / "q.csv")
    lines = (tmp_path / "q.csv").read_text(encoding="utf-8-sig").split("\n")
    odd = ",".join(['"{""ImportId"":""x""}"', *["5"] * lines[0].count(",")])
    (tmp_path / "odd.csv").write_text("\n".join([*lines[:2], odd, *lines[3:]]), encoding="utf-8-sig")
    assert len(Respondents.from_file(tmp_path / "odd.csv", survey=QUALTRICS_SURVEY)) == 27
    (tmp_path / "none.csv").write_text("\n".join([*lines[:3], ""]), encoding="utf-8-sig")
    with pytest.raises(ValueError, match="the file has no rows: get a fresh copy"):
        Respondents.from_file(tmp_path / "none.csv", survey=QUALTRICS_SURVEY)


@pytest.mark.parametrize(
    ("column", "value"),
    [("references", "[1, 2, 3]"), ("references", "['a', [2], 'b']"), ("option_mapping", "{'A': 'x'}")],
)
def test_options_of_opinionqa_that_are_no_texts_or_codes_no_numbers_are_refused(tmp_path, column, value):
    write_opinionqa(tmp_path)
    file = next(tmp_path.rglob("info.csv"))
    info = pd.read_csv(file, dtype=str)
    info.loc[0, column] = value
    info.to_csv(file, index=False)
    with pytest.raises(
        DataError, match=r"info.csv, question \w+: the options .*options are texts, codes whole numbers"
    ):
        Respondents.from_opinionqa(tmp_path)


def test_a_question_of_worldvaluesbench_without_a_scale_is_left_out_and_named(tmp_path):
    write_worldvaluesbench(tmp_path)
    file = next(tmp_path.rglob("question_metadata.json"))
    metadata = json.loads(file.read_text())
    file.write_text(json.dumps(metadata | {"Q1": {"use_case": "value", "answer_scale_min": 4, "answer_scale_max": 1}}))
    humans = Respondents.from_world_values(tmp_path)
    assert "Q1" not in humans.answers and "Q48" in humans.answers
    assert "Left out, as question_metadata.json tells no wording or scale for them: Q1." in humans.notes


def test_no_answer_is_told_by_the_whole_label():
    assert is_no_answer("Don’t know") and is_no_answer("[Refused]") and not is_no_answer("No answer is right")
