"""Files of the American Trends Panel, made in their true shape, give the answers, traits and weights in them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anthology_hub import Respondents, Survey
from anthology_hub.errors import AnthologyError, DataError, OptionError, UnknownNameError
from anthology_hub.layouts import recognise
from anthology_hub.layouts.pew import TOLERANCE, check_margins, read
from anthology_hub.schema import MISSING, read_shipped
from tests.human_files import OPTIONS, PEOPLE, PROFILES, PewFile, raked, write_pew_sav

# What each code of each profile column means, by the documentation of the panel, in the order of the codes.
LEVELS = {
    34: {
        "age": ["18-29", "30-49", "50-64", "65+"],
        "gender": ["Male", "Female"],
        "race": ["White", "Black", "Hispanic", "Other"],
        "education": [
            "Less than high school",
            "High school graduate",
            "Some college, no degree",
            "Associate's degree",
            "College graduate/some postgrad",
            "Postgraduate",
        ],
        "household_income": [
            "Less than $10,000",
            "$10,000 to $19,999",
            "$20,000 to $29,999",
            "$30,000 to $39,999",
            "$40,000 to $49,999",
            "$50,000 to $74,999",
            "$75,000 to $99,999",
            "$100,000 to $149,999",
            "$150,000 or more",
        ],
        "region": ["Northeast", "Midwest", "South", "West"],
        "party": ["Republican", "Democrat", "Independent", "Something else"],
        "religion": [
            "Protestant",
            "Roman Catholic",
            "Mormon",
            "Orthodox",
            "Jewish",
            "Muslim",
            "Buddhist",
            "Hindu",
            "Atheist",
            "Agnostic",
            "Something else",
            "Nothing in particular",
        ],
        "ideology": ["Very conservative", "Conservative", "Moderate", "Liberal", "Very liberal"],
        "marital": ["Married", "Living with a partner", "Divorced", "Separated", "Widowed", "Never married"],
    }
}
LEVELS[92] = LEVELS[34] | {
    "gender": ["Male", "Female", "Other"],
    "race": ["White", "Black", "Hispanic", "Other", "Asian"],
    "household_income": [
        "Less than $30,000",
        "$30,000 to $39,999",
        "$40,000 to $49,999",
        "$50,000 to $59,999",
        "$60,000 to $69,999",
        "$70,000 to $79,999",
        "$80,000 to $89,999",
        "$90,000 to $99,999",
        "$100,000 or more",
    ],
}
LEVELS[99] = LEVELS[92]


@pytest.fixture(scope="module", params=[34, 92, 99])
def made(request, tmp_path_factory) -> tuple[int, PewFile, Respondents]:
    """A made file of each wave, and what is read from it."""
    file = write_pew_sav(tmp_path_factory.mktemp("pew") / f"ATP W{request.param}.sav", request.param, seed=5)
    return request.param, file, Respondents.from_file(file.path)


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> PewFile:
    """A small file of wave 34."""
    return write_pew_sav(tmp_path_factory.mktemp("small") / "small.sav", 34, 300, seed=2)


def alpha(answers: np.ndarray) -> float:
    complete = answers[(answers >= 0).all(axis=1)].astype(float)
    covariance = np.cov(complete.T)
    k = len(covariance)
    return k / (k - 1) * (1 - np.trace(covariance) / covariance.sum())


def test_every_answer_is_the_position_of_its_code_and_every_refusal_is_missing(made):
    wave, file, humans = made
    assert list(humans.answers) == file.items and humans.survey.keys == tuple(file.items)
    for item in file.items:
        raw = file.frame[item].to_numpy()
        expected = np.where(raw <= len(OPTIONS[wave]), raw - 1, MISSING)
        np.testing.assert_array_equal(humans.answers[item], np.nan_to_num(expected, nan=MISSING))


def test_every_trait_has_the_level_that_its_code_means(made):
    wave, file, humans = made
    for trait, profile in PROFILES[wave].items():
        raw = file.frame[profile.name].to_numpy()
        levels = LEVELS[wave][trait]
        expected = [levels[int(code) - 1] if code != profile.refused else None for code in raw]
        found = [humans.levels[trait][code] if code != MISSING else None for code in humans.codes[trait]]
        assert found == expected, trait


def test_people_keep_their_panel_id_and_weight_in_the_order_of_the_file(made):
    wave, file, humans = made
    assert humans.ids == tuple(f"{code:.0f}" for code in file.frame["QKEY"])
    np.testing.assert_array_equal(humans.weights, file.frame[f"WEIGHT_W{wave}"])
    assert len(humans) == PEOPLE[wave] and humans.weights.sum() == pytest.approx(PEOPLE[wave])


def test_wordings_come_from_the_labels_of_the_file(made):
    wave, _, humans = made
    question = humans.survey.questions[1]
    assert question.text == f"A made-up question of this battery? The item {question.key.removesuffix(f'_W{wave}')}"
    assert question.options == tuple(OPTIONS[wave]) and question.codes == tuple(range(1, len(OPTIONS[wave]) + 1))
    assert humans.survey.order_patterns == ("original", "reversed") and question.ordinal


def test_the_shipped_definitions_hold_no_wording(made):
    definition = read_shipped("humans", f"pew-w{made[0]}")
    assert all(set(question) == {"key"} for question in definition["survey"]["questions"])


def test_the_made_items_are_as_consistent_as_those_of_the_paper(made):
    wave, _, humans = made
    published = {34: 0.784, 92: 0.641, 99: 0.830}[wave]
    assert alpha(np.stack(list(humans.answers.values()), axis=1)) == pytest.approx(published, abs=0.02)


def test_a_file_as_published_agrees_with_the_published_margins_and_says_so(made):
    wave, _, humans = made
    if wave == 99:
        assert "No weighted margins of this wave are published to check the file against." in humans.notes
        with pytest.raises(UnknownNameError, match="wave with published margins.*99.*Allowed: '34', '92'"):
            check_margins(humans, 99)
        return
    assert check_margins(humans, wave) == ()
    assert any(note.startswith("The weighted shares of age, gender, race") for note in humans.notes)


def test_asian_and_other_people_exchanged_are_found_with_the_numbers(tmp_path):
    file = write_pew_sav(tmp_path / "w92.sav", 92, 4000, seed=1)
    race = file.frame["F_RACETHNMOD"].replace({4.0: 5.0, 5.0: 4.0})
    swapped = write_pew_sav(tmp_path / "swapped.sav", 92, 4000, seed=1, change={"F_RACETHNMOD": race})
    humans = Respondents.from_file(swapped.path)
    deviations = check_margins(humans, 92)
    assert [(d.level, d.published, round(d.found, 4)) for d in deviations] == [
        ("Asian", 0.0546, 0.0286),
        ("Other", 0.0286, 0.0546),
    ]
    told = next(note for note in humans.notes if note.startswith("Weighted shares differ"))
    assert "race Asian 0.0546 published, 0.0286 here; race Other 0.0286 published, 0.0546 here" in told
    assert check_margins(Respondents.from_file(file.path), 92) == ()


def test_a_part_of_a_wave_is_told_as_such(small):
    notes = Respondents.from_file(small.path).notes
    assert "The file has 300 people; the wave as published has 2537." in notes


def test_unknown_levels_are_left_out_of_the_margins_on_both_sides(small):
    humans = Respondents.from_file(small.path)
    codes = humans.codes["gender"]
    known = codes >= 0
    share = humans.weights[known & (codes == 0)].sum() / humans.weights[known].sum()
    assert abs(share - 0.4832) <= TOLERANCE and not any(d.trait == "gender" for d in check_margins(humans, 34))


@settings(max_examples=25)
@given(
    trait=st.sampled_from(sorted(PROFILES[34])),
    suffix=st.sampled_from(["", "_FINAL", "_RECRUITMENT", "_W34", "_FINAL_W34"]),
    lower=st.booleans(),
)
def test_a_profile_column_is_found_whatever_its_suffix_and_case(trait, suffix, lower, small, tmp_path_factory):
    import pyreadstat

    stem = PROFILES[34][trait].name.removesuffix("_FINAL").removesuffix("_RECRUITMENT")
    name = (stem + suffix).lower() if lower else stem + suffix
    meta = pyreadstat.read_sav(small.path, metadataonly=True)[1]
    own = PROFILES[34][trait].name
    path = tmp_path_factory.mktemp("renamed") / "w34.sav"
    pyreadstat.write_sav(
        small.frame.rename(columns={own: name}),
        path,
        variable_value_labels={(name if key == own else key): told for key, told in meta.variable_value_labels.items()},
    )
    expected, found = Respondents.from_file(small.path), Respondents.from_file(path)
    np.testing.assert_array_equal(found.codes[trait], expected.codes[trait])


def test_a_label_counts_more_than_its_code(tmp_path):
    file = write_pew_sav(
        tmp_path / "w34.sav",
        34,
        200,
        value_labels={"F_SEX_FINAL": {1.0: "FEMALE", 2.0: " male ", 9.0: "Refused"}},
    )
    humans = Respondents.from_file(file.path)
    raw = file.frame["F_SEX_FINAL"]
    assert [humans.levels["gender"][c] for c in humans.codes["gender"][(raw == 1).to_numpy()]] == ["Female"] * int(
        (raw == 1).sum()
    )


def test_a_code_is_a_refusal_by_its_label_and_not_by_its_number(tmp_path):
    labels = {1.0: "Very much", 2.0: "Some", 3.0: "Little", 4.0: "None at all", 98.0: "Don’t know", 99.0: "Refused"}
    file = write_pew_sav(tmp_path / "dk.sav", 34, 200, seed=3, value_labels={"FUD35_W34": labels})
    answers = file.frame["FUD35_W34"].copy()
    answers.iloc[:5] = 98.0
    again = write_pew_sav(
        tmp_path / "dk2.sav", 34, 200, seed=3, value_labels={"FUD35_W34": labels}, change={"FUD35_W34": answers}
    )
    assert Respondents.from_file(again.path).answers["FUD35_W34"][:5].tolist() == [MISSING] * 5


def test_two_weights_are_told_and_the_one_of_the_wave_counts(tmp_path):
    other = np.linspace(0.1, 3, 200)
    file = write_pew_sav(tmp_path / "two.sav", 34, 200, change={"WEIGHT_W34_LANG": other, "WEIGHT_W33": other})
    humans = Respondents.from_file(file.path)
    np.testing.assert_array_equal(humans.weights, file.frame["WEIGHT_W34"])
    assert "Weight WEIGHT_W34 is used; the file also has WEIGHT_W34_LANG, WEIGHT_W33." in humans.notes


def test_all_items_of_a_wave_can_be_read_with_check_all_boxes_and_form_splits(small):
    humans = Respondents.from_file(small.path, questions=["SPLIT*", "CHECK*"])
    assert humans.survey.keys == ("SPLIT_W34", "CHECKA_W34", "CHECKB_W34", "CHECKC_W34")
    box = humans.survey.questions[1]
    assert (box.text, box.options, box.codes) == (
        "Which of these do you avoid? Sugar",
        ("Not selected", "Sugar"),
        (0, 1),
    )
    np.testing.assert_array_equal(humans.answers["CHECKA_W34"], small.frame["CHECKA_W34"])
    asked = small.frame["FORM_W34"] == 2
    np.testing.assert_array_equal(humans.answers["SPLIT_W34"] >= 0, asked)
    told = f"Asked of a part of the people only: SPLIT_W34 {asked.mean():.1%} (FORM_W34 2)."
    assert told in humans.notes
    assert "Options are taken to be in order: the file does not say where they are not." in humans.notes


def test_not_sure_lies_off_the_scale_while_volunteered_answers_and_refusals_are_none(tmp_path):
    unsure = {1.0: "Better", 2.0: "Worse", 3.0: "Not sure", 98.0: "Don't know (VOL.)", 99.0: "Refused"}
    made = write_pew_sav(tmp_path / "w34.sav", 34, n=60, value_labels={"SPLIT_W34": unsure})
    humans = Respondents.from_file(made.path, questions=["SPLIT_W34"])
    (split,) = humans.survey.questions
    assert split.options == ("Better", "Worse", "Not sure") and split.off_scale == (3,)
    assert "1 items have an option such as “Not sure”, which lies off the scale: SPLIT_W34." in humans.notes
    # Of one step no scale can be made.
    either = write_pew_sav(tmp_path / "w34.sav", 34, n=60, value_labels={"SPLIT_W34": {**unsure, 2.0: "No opinion"}})
    assert not Respondents.from_file(either.path, questions=["SPLIT_W34"]).survey.questions[0].off_scale


def test_a_part_that_follows_no_form_is_told_without_one(tmp_path):
    seen = np.where(np.arange(200) < 100, 1.0, np.nan)
    file = write_pew_sav(tmp_path / "part.sav", 34, 200, change={"SPLIT_W34": seen})
    notes = Respondents.from_file(file.path, questions="SPLIT_W34").notes
    assert "Asked of a part of the people only: SPLIT_W34 50.0%." in notes


def test_a_wave_without_a_definition_gives_all_its_items_and_the_traits_that_fit(tmp_path):
    made = write_pew_sav(tmp_path / "w92.sav", 92, 400, seed=4)
    later = {name: name.replace("_W92", "_W116") for name in made.frame if name.endswith("_W92")}
    file = write_pew_sav(tmp_path / "w116.sav", 92, 400, seed=4, rename=later, drop=("F_IDEO",))
    humans = Respondents.from_file(file.path)
    assert humans.name == "pew-w116" and humans.crosswalk == "starter--pew-w92" and "ideology" not in humans.levels
    assert set(humans.answers) == {
        *(item.replace("_W92", "_W116") for item in made.items),
        *(f"{stem}_W116" for stem in ("SPLIT", "CHECKA", "CHECKB", "CHECKC")),
    }
    notes = " ".join(humans.notes)
    assert "2 items have no closed options and are left out: CHECKREF_W116, THERM_W116." in notes
    assert "Trait ideology is left out: the file has no column F_IDEO_FINAL or F_IDEO." in notes
    assert "The wave has no definition of ours" in notes and "TOPICSUM_W116" not in humans.answers
    race = humans.codes["race"]
    assert {humans.levels["race"][code] for code in race[(made.frame["F_RACETHNMOD"] == 5).to_numpy()]} == {"Asian"}


def test_an_early_wave_without_a_definition_takes_the_coding_of_wave_34(tmp_path):
    made = write_pew_sav(tmp_path / "w34.sav", 34, 300)
    rename = {name: name.replace("_W34", "_W27") for name in made.frame if name.endswith("_W34")}
    humans = Respondents.from_file(write_pew_sav(tmp_path / "w27.sav", 34, 300, rename=rename).path)
    assert humans.crosswalk == "starter--pew-w34" and humans.levels["gender"] == ("Male", "Female")


def test_a_survey_of_the_users_gives_the_wordings(small, tmp_path):
    options = [{"code": code, "text": text} for code, text in enumerate(("Yes!", "Yes", "No", "No!"), 1)]
    survey = {"name": "mine", "questions": [{"key": "FUD35_W34", "text": "My words?", "options": options}]}
    (tmp_path / "mine.json").write_text(json.dumps(survey), encoding="utf-8")
    for mine in (survey, tmp_path / "mine.json", Survey.from_dict(survey)):
        humans = Respondents.from_file(small.path, survey=mine)
        assert humans.survey.questions[0].text == "My words?" and list(humans.answers) == ["FUD35_W34"]


def test_a_file_whose_texts_are_latin1_is_read_and_it_is_told(tmp_path):
    file = write_pew_sav(tmp_path / "w34.sav", 34, 300)
    broken = tmp_path / "latin1.sav"
    # A curly apostrophe is one byte there; the two spaces keep the length that the file states.
    broken.write_bytes(file.path.read_bytes().replace("’".encode(), b"\x92  "))
    humans = Respondents.from_file(broken)
    assert any("its text is read as WINDOWS-1252" in note for note in humans.notes)
    degree = (file.frame["F_EDUCCAT2_FINAL"] == 4).to_numpy()
    assert {humans.levels["education"][code] for code in humans.codes["education"][degree]} == {"Associate's degree"}
    again = Respondents.from_file(broken, encoding="cp1252")
    np.testing.assert_array_equal(again.codes["education"], humans.codes["education"])


def test_the_columns_used_are_read_once(small):
    data, source = read(small.path)
    small_names = set(data.variables)
    assert data.read(["QKEY"])["QKEY"].tolist() == small.frame["QKEY"].tolist()
    # A column that the source does not name is still to be had.
    assert data.read(["THERM_W34"])["THERM_W34"].tolist() == small.frame["THERM_W34"].tolist()
    assert "margins" in source and small_names == set(small.frame.columns)


# -- bad input -------------------------------------------------------------------------------------------------------


def test_another_wave_than_asked_for_is_refused(small):
    with pytest.raises(OptionError, match="holds wave 34, not 92: leave wave= out"):
        Respondents.from_file(small.path, wave=92)


@pytest.mark.parametrize(
    ("drop", "told"),
    [
        (("WEIGHT_W34",), r"no column WEIGHT_W<number>.*write a map in YAML"),
        (("QKEY",), "no column QKEY, which the American Trends Panel has; it has DEVICE_TYPE_W34"),
        (("FUD35_W34",), "no column FUD35_W34, which this wave has"),
    ],
)
def test_a_column_that_is_needed_and_missing_is_named(tmp_path, drop, told):
    file = write_pew_sav(tmp_path / "w34.sav", 34, 50, drop=drop)
    with pytest.raises(DataError, match=told):
        Respondents.from_file(file.path, kind="pew")


def test_a_trait_column_that_is_missing_is_told_and_the_rest_is_read(tmp_path):
    humans = Respondents.from_file(write_pew_sav(tmp_path / "w34.sav", 34, 2537, drop=("F_RELIG_FINAL",)).path)
    assert "religion" not in humans.levels and "age" in humans.levels and check_margins(humans, 34) == ()
    assert "Trait religion is left out: the file has no column F_RELIG_FINAL or F_RELIG." in humans.notes


def test_items_with_other_codes_than_the_waves_are_refused(tmp_path):
    labels = {"FUD35_W34": {1.0: "Yes", 2.0: "No", 99.0: "Refused"}}
    file = write_pew_sav(tmp_path / "w34.sav", 34, 50, value_labels=labels)
    with pytest.raises(DataError, match=r"FUD35_W34 should have the codes \[1, 2, 3, 4\].*: 1 Yes, 2 No"):
        Respondents.from_file(file.path)


def test_a_code_outside_the_labels_is_refused(tmp_path):
    clean = write_pew_sav(tmp_path / "clean.sav", 34, 50, seed=9)
    answers = clean.frame["FUD35_W34"].copy()
    answers.iloc[0] = 7.0
    file = write_pew_sav(tmp_path / "w34.sav", 34, 50, seed=9, change={"FUD35_W34": answers})
    with pytest.raises(DataError, match=r"w34.sav: question 'FUD35_W34' holds the code 7.*allowed are 1, 2, 3, 4"):
        Respondents.from_file(file.path)


@pytest.mark.parametrize(
    ("weights", "told"),
    [
        ([0.0, *[1.0] * 49], "1 weights in column 'WEIGHT_W34' are missing or zero"),
        ([-1.0, *[1.0] * 49], "1 weights in column 'WEIGHT_W34' are negative"),
        ([np.nan] * 50, "the weights are missing for all people in WEIGHT_W34"),
    ],
)
def test_weights_that_cannot_count_are_refused(tmp_path, weights, told):
    file = write_pew_sav(tmp_path / "w34.sav", 34, 50, change={"WEIGHT_W34": weights})
    with pytest.raises(DataError, match=told):
        Respondents.from_file(file.path)


def test_doubled_ids_are_refused(tmp_path):
    file = write_pew_sav(tmp_path / "w34.sav", 34, 50, change={"QKEY": [1.0, 1.0, *range(2, 50)]})
    with pytest.raises(DataError, match="ids in column 'QKEY' must be present and distinct; 0 missing, 1 doubled"):
        Respondents.from_file(file.path)


@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_file_cut_short_is_never_read_as_if_it_were_whole(small, tmp_path, part):
    whole = small.path.read_bytes()
    cut = tmp_path / "cut.sav"
    cut.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(AnthologyError):
        Respondents.from_file(cut)


def test_an_item_or_pattern_that_is_not_there_is_refused_with_those_that_are(small):
    with pytest.raises(UnknownNameError, match="question of .*'FUD53_W34': did you mean 'FUD35_W34'"):
        Respondents.from_file(small.path, questions=["FUD53_W34"])


def test_a_file_of_a_wave_without_labelled_items_is_refused(tmp_path):
    import pandas as pd
    import pyreadstat

    frame = pd.DataFrame({"QKEY": [1.0, 2.0], "WEIGHT_W50": [1.0, 1.0], "AGREE_W50": [1.0, 2.0]})
    pyreadstat.write_sav(frame, tmp_path / "w50.sav", column_labels={"AGREE_W50": "AGREE. Do you?"})
    assert recognise(tmp_path / "w50.sav") == "pew"
    with pytest.raises(DataError, match="no item with value labels: name a survey with survey="):
        Respondents.from_file(tmp_path / "w50.sav")


@given(st.integers(0, 10_000), st.integers(50, 400))
def test_raked_weights_have_the_shares_that_they_are_raked_to(seed, n):
    rng = np.random.default_rng(seed)
    codes = np.concatenate([[0, 1, 2, -1], rng.integers(-1, 3, n - 4)])
    weights = raked(np.exp(rng.normal(0, 0.8, n)), [codes], [[0.2, 0.3, 0.5]])
    known = codes >= 0
    shares = np.bincount(codes[known], weights=weights[known]) / weights[known].sum()
    np.testing.assert_allclose(shares, [0.2, 0.3, 0.5], atol=1e-9)
    assert weights.sum() == pytest.approx(n)


def test_labels_of_items_give_their_wording_and_derived_variables_are_no_items(tmp_path):
    import pandas as pd
    import pyreadstat

    names = ["BARE_W50", "MANY_W50", "DERIVED_W50", "ENDS_W50"]
    frame = pd.DataFrame({"QKEY": [1.0, 2.0], "WEIGHT_W50": [1.0, 1.0]} | {name: [1.0, 2.0] for name in names})
    frame["ENDS_W50"] = [1.0, 5.0]
    labels = {"BARE_W50": "BARE_W50. ", "MANY_W50": "MANY. One // two? // three", "DERIVED_W50": "Sum of both"}
    labels["ENDS_W50"] = "ENDS. From 0 to 10?"
    values = {name: {1.0: "Yes", 2.0: "No"} for name in names}
    pyreadstat.write_sav(frame, tmp_path / "w50.sav", column_labels=labels, variable_value_labels=values)
    humans = Respondents.from_file(tmp_path / "w50.sav")
    questions = humans.survey.questions
    assert "1 items have codes without a label and are left out: ENDS_W50." in humans.notes
    with pytest.raises(DataError, match="question 'ENDS_W50' holds the code 5"):
        Respondents.from_file(tmp_path / "w50.sav", questions="ENDS_W50")
    assert [(q.key, q.text) for q in questions] == [("BARE_W50", "BARE_W50"), ("MANY_W50", "One: two? three")]
