"""OpinionQA folders, made in their true shape, give the answers, traits and weights that are in them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anthology_hub import Respondents
from anthology_hub.errors import DataError, OptionError, UnknownNameError
from anthology_hub.layouts import recognise
from anthology_hub.schema import MISSING
from tests.human_files import OPINIONQA_ATTRIBUTES, OPINIONQA_QUESTIONS, write_opinionqa

TRAITS = {
    "region": "CREGION",
    "age": "AGE",
    "gender": "SEX",
    "education": "EDUCATION",
    "citizen": "CITIZEN",
    "marital": "MARITAL",
    "religion": "RELIG",
    "attendance": "RELIGATTEND",
    "party": "POLPARTY",
    "household_income": "INCOME",
    "ideology": "POLIDEOLOGY",
    "race": "RACE",
}


def wave_folder(folder, wave=34):
    return folder / "human_resp" / f"American_Trends_Panel_W{wave}"


def rewrite(file, **columns):
    table = pd.read_csv(file, index_col=0)
    table.assign(**columns).to_csv(file)


def test_every_answer_is_the_option_whose_text_it_is_and_refusals_are_missing(tmp_path):
    responses = write_opinionqa(tmp_path, n=200, seed=1)
    humans = Respondents.from_file(tmp_path)
    assert humans.survey.keys == tuple(f"{stem}_W34" for stem in OPINIONQA_QUESTIONS)
    for question in humans.survey.questions:
        said = responses[question.key].tolist()
        expected = [question.options.index(text) if text in question.options else MISSING for text in said]
        assert humans.answers[question.key].tolist() == expected
    texts, ordinals, _ = OPINIONQA_QUESTIONS["QUOTE"]
    assert humans.survey.questions[2].options == tuple(texts[: len(ordinals)])


def test_an_option_that_is_called_by_a_number_is_not_taken_for_a_code(tmp_path):
    responses = write_opinionqa(tmp_path, n=100)
    humans = Respondents.from_file(tmp_path)
    count = humans.survey.questions[3]
    assert (count.options, count.codes) == (("1", "2", "3 or more"), (0, 1, 2))
    assert set(humans.answers["COUNT_W34"][(responses["COUNT_W34"] == "1").to_numpy()]) == {0}


def test_a_middle_option_listed_last_stands_between_the_others_and_it_is_told(tmp_path):
    write_opinionqa(tmp_path)
    humans = Respondents.from_file(tmp_path)
    same = humans.survey.questions[1]
    assert same.options == ("Better", "About the same", "Worse", "Not sure") and same.codes == (1, 3, 2, 8)
    assert same.ordinal and same.on_scale == (0, 1, 2)
    assert any("1 questions list an option last that belongs between others" in note for note in humans.notes)


def test_an_option_without_an_ordinal_value_lies_off_the_scale_unless_it_is_a_refusal(tmp_path):
    responses = write_opinionqa(tmp_path, n=100, seed=2)
    humans = Respondents.from_file(tmp_path)
    assert {q.key: q.off_scale for q in humans.survey.questions if q.off_scale} == {"SAME_W34": (8,)}
    assert (humans.answers["SAME_W34"] == 3).tolist() == (responses["SAME_W34"] == "Not sure").tolist()
    assert "1 questions have options without an ordinal value, off the scale: SAME_W34." in humans.notes
    rewrite(wave_folder(tmp_path) / "info.csv", option_ordinal=["[1.0, 2.0]", "[1.0, 1.0, 2.0]", *["[1.0, 2.0]"] * 3])
    same = Respondents.from_file(tmp_path).survey.questions[1]
    assert "Not sure" in same.options and not same.ordinal and not same.off_scale


def test_options_without_distinct_ordinal_values_have_no_order(tmp_path):
    write_opinionqa(tmp_path)
    rewrite(wave_folder(tmp_path) / "info.csv", option_ordinal=["[1.0, 1.0]", *["[1.0, 2.0]"] * 4])
    humans = Respondents.from_file(tmp_path)
    assert [question.ordinal for question in humans.survey.questions] == [False, True, True, True, True]


def test_every_trait_has_the_level_that_its_label_names(tmp_path):
    responses = write_opinionqa(tmp_path, n=200)
    humans = Respondents.from_file(tmp_path)
    assert set(humans.levels) == set(TRAITS)
    for trait, column in TRAITS.items():
        said = responses[column].tolist()
        found = [humans.levels[trait][code] if code != MISSING else None for code in humans.codes[trait]]
        assert found == [text if text in OPINIONQA_ATTRIBUTES[column] else None for text in said]


def test_people_have_their_panel_ids_and_weights(tmp_path):
    responses = write_opinionqa(tmp_path)
    humans = Respondents.from_file(tmp_path)
    assert humans.ids == tuple(map(str, responses["QKEY"])) and humans.crosswalk == "starter--opinionqa"
    np.testing.assert_allclose(humans.weights, responses["WEIGHT_W34"])


def test_without_ids_people_are_numbered_and_it_is_told(tmp_path):
    write_opinionqa(tmp_path, n=3, ids=False)
    humans = Respondents.from_file(tmp_path)
    assert humans.ids == ("row-1", "row-2", "row-3")
    assert "The source names no column of ids: people are numbered by row." in humans.notes


def test_without_weights_every_person_counts_the_same_and_it_is_told(tmp_path):
    write_opinionqa(tmp_path, change={"WEIGHT_W34": None})
    file = wave_folder(tmp_path) / "responses.csv"
    pd.read_csv(file, index_col=0).drop(columns="WEIGHT_W34").to_csv(file)
    humans = Respondents.from_file(tmp_path)
    assert humans.weights is None and any("no weight column WEIGHT_W34" in note for note in humans.notes)


@pytest.mark.parametrize("inside", ["", "human_resp", "human_resp/American_Trends_Panel_W34"])
def test_the_folder_of_a_wave_or_one_above_it_serves(tmp_path, inside):
    write_opinionqa(tmp_path)
    assert recognise(tmp_path / inside) == "opinionqa"
    assert Respondents.from_file(tmp_path / inside).name == "opinionqa-w34"


def test_a_folder_of_another_name_has_its_wave_from_the_weight(tmp_path):
    write_opinionqa(tmp_path, wave=92)
    here = wave_folder(tmp_path, 92).rename(tmp_path / "mine")
    assert Respondents.from_file(here).name == "opinionqa-w92"
    pd.read_csv(here / "responses.csv", index_col=0).drop(columns="WEIGHT_W92").to_csv(here / "responses.csv")
    with pytest.raises(DataError, match="its wave is in no name: call the folder American_Trends_Panel_W<number>"):
        Respondents.from_file(here)


def test_of_several_waves_one_must_be_chosen(tmp_path):
    write_opinionqa(tmp_path, wave=34)
    write_opinionqa(tmp_path, wave=92)
    with pytest.raises(OptionError, match="holds the waves 34, 92: choose one with wave="):
        Respondents.from_file(tmp_path)
    with pytest.raises(OptionError, match="has no wave 99: it holds 34, 92"):
        Respondents.from_file(tmp_path, wave=99)
    assert Respondents.from_file(tmp_path, wave=92).survey.keys[0] == "EASIER_W92"


def test_questions_can_be_chosen_and_those_without_a_column_are_told(tmp_path):
    write_opinionqa(tmp_path)
    file = wave_folder(tmp_path) / "responses.csv"
    pd.read_csv(file, index_col=0, dtype=str).drop(columns="CHECK_W34").to_csv(file)
    humans = Respondents.from_file(tmp_path, questions=["SAME*", "QUOTE_W34"])
    assert humans.survey.keys == ("SAME_W34", "QUOTE_W34")
    assert "1 questions of info.csv have no column in responses.csv and are left out." in humans.notes
    with pytest.raises(UnknownNameError, match="'SAEM_W34': did you mean 'SAME_W34'"):
        Respondents.from_file(tmp_path, questions="SAEM_W34")


@settings(max_examples=15)
@given(
    texts=st.lists(
        st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).filter(lambda text: text.split() == [text]),
        min_size=2,
        max_size=5,
        unique_by=lambda text: text.casefold(),
    )
)
def test_option_texts_with_any_quotes_and_signs_come_back_as_they_are(texts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("oq")
    write_opinionqa(folder, n=4)
    ordinals = [float(at) for at in range(len(texts))]
    row = {"references": str(texts), "option_ordinal": str(ordinals), "option_mapping": "{}"}
    table = pd.read_csv(wave_folder(folder) / "info.csv", index_col=0).head(1).assign(**row)
    table.to_csv(wave_folder(folder) / "info.csv")
    rewrite(wave_folder(folder) / "responses.csv", EASIER_W34=[None] * 4)
    assert Respondents.from_file(folder).survey.questions[0].options == tuple(texts)


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        ("__import__('os').system('echo')", "is no list of texts or numbers"),
        ("['Easier', 'More difficult'", "is no list of texts or numbers"),
        ("{'Easier': 1}", "is no list"),
        ("['Easier']", r"1 options with the ordinal values \[1.0, 2.0\]; each option but the refusals"),
    ],
)
def test_a_list_that_is_none_is_refused_and_nothing_in_it_runs(tmp_path, broken, told):
    write_opinionqa(tmp_path)
    file = wave_folder(tmp_path) / "info.csv"
    rewrite(file, references=[broken, *pd.read_csv(file)["references"].tolist()[1:]])
    with pytest.raises(DataError, match=f"info.csv, question EASIER_W34: .*{told}"):
        Respondents.from_file(tmp_path)


def test_a_list_with_a_gap_in_it_is_read_and_an_ordinal_that_is_a_gap_is_refused(tmp_path):
    write_opinionqa(tmp_path)
    file = wave_folder(tmp_path) / "info.csv"
    ordinals = pd.read_csv(file)["option_ordinal"].tolist()
    rewrite(file, option_ordinal=["[1.0, nan]", *ordinals[1:]])
    with pytest.raises(DataError, match=r"the ordinal values \[1.0, None\]"):
        Respondents.from_file(tmp_path)


def test_an_answer_that_is_no_option_is_refused_and_of_all_questions_such_a_one_is_left_out(tmp_path):
    write_opinionqa(tmp_path, n=3, change={"EASIER_W34": ["Easier", "Perhaps", "Refused"]})
    humans = Respondents.from_file(tmp_path)
    told = "1 questions have answers that are none of their options and are left out: EASIER_W34."
    assert told in humans.notes and "EASIER_W34" not in humans.answers
    with pytest.raises(DataError, match="question 'EASIER_W34' holds the code 'Perhaps'"):
        Respondents.from_file(tmp_path, questions="EASIER_W34")


def test_a_folder_without_the_tables_and_a_table_without_its_columns_are_refused(tmp_path):
    with pytest.raises(DataError, match="holds no OpinionQA wave: info.csv and responses.csv are needed"):
        Respondents.from_file(tmp_path, kind="opinionqa")
    write_opinionqa(tmp_path)
    pd.DataFrame({"key": ["A"], "question": ["?"]}).to_csv(wave_folder(tmp_path) / "info.csv")
    with pytest.raises(DataError, match="has no column references, option_ordinal, which OpinionQA has"):
        Respondents.from_file(tmp_path)
    (wave_folder(tmp_path) / "info.csv").write_bytes(b"")
    with pytest.raises(DataError, match="info.csv cannot be read"):
        Respondents.from_file(tmp_path)
