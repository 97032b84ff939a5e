"""Known layouts are recognised by what is in them; GSS files of every kind are read; crosswalks hold together."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anthology_hub import Respondents
from anthology_hub.crosswalks import Crosswalk
from anthology_hub.errors import DataError, OptionError, UnknownNameError
from anthology_hub.layouts import KINDS, read_layout, recognise
from anthology_hub.layouts.sourcing import chosen
from anthology_hub.schema import MISSING, Codebook, read_shipped
from tests.human_files import GSS_ITEMS, QUALTRICS_SURVEY, draw_gss, write_gss, write_pew_sav, write_qualtrics

CROSSWALKS = ["pew-w34", "pew-w92", "opinionqa", "twin-2k-500", "wvs-7"]

# -- registry --------------------------------------------------------------------------------------------------------


def test_a_file_of_no_known_layout_is_not_recognised_and_the_error_shows_both_ways_on(tmp_path):
    pd.DataFrame({"a": [1]}).to_csv(tmp_path / "a.csv", index=False)
    (tmp_path / "a.docx").write_bytes(b"text")
    assert recognise(tmp_path / "a.csv") is recognise(tmp_path / "a.docx") is recognise(tmp_path) is None
    with pytest.raises(
        DataError, match=r"no known layout. Say which with kind= \(pew: .*qualtrics: .*write a map in YAML"
    ):
        read_layout(tmp_path / "a.csv")


def test_an_unknown_kind_or_option_is_refused_with_what_there_is(tmp_path):
    file = write_pew_sav(tmp_path / "w34.sav", 34, 20)
    with pytest.raises(UnknownNameError, match="unknown kind of file 'pwe': did you mean 'pew'"):
        read_layout(file.path, "pwe")
    with pytest.raises(OptionError, match="pew takes no option country: allowed are wave, questions, survey, encoding"):
        read_layout(file.path, country="USA")


def test_a_missing_file_is_told_whether_or_not_its_kind_is_given(tmp_path):
    for kind in (None, "pew", "gss"):
        with pytest.raises(DataError, match="no.sav does not exist"):
            read_layout(tmp_path / "no.sav", kind)
    with pytest.raises(DataError, match=r"no.csv cannot be read"):
        read_layout(tmp_path / "no.csv")


def test_every_kind_has_a_title_and_one_way_to_be_recognised():
    assert all(layout.title and (layout.folder or layout.columns) for layout in KINDS.values())
    assert sorted(KINDS) == ["gss", "opinionqa", "pew", "qualtrics", "twin-2k-500", "worldvaluesbench", "wvs-7"]


def test_a_table_in_latin1_is_still_recognised(tmp_path):
    write_qualtrics(tmp_path / "q.csv")
    content = (tmp_path / "q.csv").read_text(encoding="utf-8-sig").replace("Very", "Très")
    (tmp_path / "q.csv").write_bytes(content.encode("latin1"))
    assert recognise(tmp_path / "q.csv") == "qualtrics"
    with pytest.raises(DataError, match="q.csv cannot be read: 'utf-8' codec"):
        Respondents.from_file(tmp_path / "q.csv", survey=QUALTRICS_SURVEY)


@given(st.lists(st.from_regex("[A-C]{1,3}", fullmatch=True), min_size=1, unique=True), st.data())
def test_chosen_questions_are_those_that_match_in_the_order_of_the_file(keys, data):
    wanted = data.draw(st.lists(st.sampled_from([*keys, *(f"{key[0]}*" for key in keys)]), min_size=1))
    expected = [key for key in keys if any(key == w or (w[-1] == "*" and key[0] == w[0]) for w in wanted)]
    assert chosen(keys, wanted, whose="it") == expected
    assert chosen(keys, None, whose="it") == keys


# -- General Social Survey -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gss.dta", "gss.sav"])
def test_a_gss_file_gives_one_years_answers_traits_weights_and_design(tmp_path, name):
    raw = write_gss(tmp_path / name, n=80)
    assert recognise(tmp_path / name) == "gss"
    humans = Respondents.from_file(tmp_path / name, wave=2018)
    raw = raw[raw["year"] == 2018].reset_index(drop=True)
    for item in GSS_ITEMS:
        assert humans.answers[item].tolist() == [code - 1 if code == code else MISSING for code in raw[item]]
    gender = [humans.levels["gender"][code] if code != MISSING else None for code in humans.codes["gender"]]
    assert gender == [{1.0: "Male", 2.0: "Female"}.get(code) for code in raw["sex"]]
    race = [humans.levels["race"][code] if code != MISSING else None for code in humans.codes["race"]]
    own = {1.0: "White", 2.0: "Black", 3.0: "Other"}
    both = zip(raw["race"], raw["hispanic"], strict=True)
    assert race == ["Hispanic" if hispanic >= 2 else own.get(code) for code, hispanic in both]
    np.testing.assert_allclose(humans.weights, raw["wtssps"])
    assert humans.strata.tolist() == np.unique(raw["vstrat"], return_inverse=True)[1].tolist()
    # Units of different strata are different units, whatever their number in the file.
    assert len(np.unique(humans.psu)) == len(raw[["vstrat", "vpsu"]].drop_duplicates())
    assert humans.ids == tuple(f"{code:.0f}" for code in raw["id"])
    assert humans.name == "gss-2018-panel"


def test_the_first_of_the_weights_that_has_any_counts_and_people_without_one_are_left_out(tmp_path):
    raw = draw_gss(10, 0, years=(2021,)).assign(wtssnrps=[np.nan, 0.0, *[2.0] * 8])
    raw.to_csv(tmp_path / "gss.csv", index=False)
    humans = Respondents.from_file(tmp_path / "gss.csv")
    assert humans.weights.tolist() == [2.0] * 8
    assert "2 people have no weight, or a weight of zero, and are left out." in humans.notes


def test_a_survey_can_be_chosen_and_its_items_must_be_there(tmp_path):
    write_gss(tmp_path / "gss.sav")
    with pytest.raises(DataError, match="no column natspac, natenvir.*which the survey to be read has"):
        Respondents.from_file(tmp_path / "gss.sav", wave=2016, survey="gss-national-spending")
    options = [{"code": code, "text": str(code)} for code in range(1, 5)]
    mine = {"name": "mine", "questions": [{"key": "AidOld", "text": "?", "options": options}]}
    assert list(Respondents.from_file(tmp_path / "gss.sav", wave=2016, survey=mine).answers) == ["AidOld"]


def test_a_trait_column_that_is_missing_is_told_and_without_hispanic_nobody_is(tmp_path):
    write_gss(tmp_path / "gss.sav")
    draw_gss(20, 0, years=(2016,)).drop(columns=["hispanic", "region"]).to_csv(tmp_path / "gss.csv", index=False)
    humans = Respondents.from_file(tmp_path / "gss.csv")
    assert "Trait race: no column hispanic, so nobody is Hispanic." in humans.notes
    assert "Trait region is left out: the file has no column d_region or region." in humans.notes
    assert "Hispanic" not in {humans.levels["race"][code] for code in humans.codes["race"] if code != MISSING}


def test_the_wave_of_a_gss_file_is_chosen_or_refused(tmp_path):
    write_gss(tmp_path / "gss.dta")
    with pytest.raises(OptionError, match=r"has the waves \[2016, 2018\]: choose one with wave="):
        Respondents.from_file(tmp_path / "gss.dta")
    with pytest.raises(OptionError, match=r"has no wave 2020: it has \[2016, 2018\]"):
        Respondents.from_file(tmp_path / "gss.dta", wave=2020)
    draw_gss(5, 0).assign(year=np.nan).to_parquet(tmp_path / "none.parquet")
    with pytest.raises(DataError, match="has no row with a wave"):
        Respondents.from_file(tmp_path / "none.parquet")
    draw_gss(5, 0).drop(columns="year").to_parquet(tmp_path / "no.parquet")
    with pytest.raises(DataError, match="has no column wave or year: add the year"):
        Respondents.from_file(tmp_path / "no.parquet", kind="gss")


def test_the_real_panel_file_is_read_as_by_its_own_door(gss_panel_file):
    known = Respondents.from_gss(gss_panel_file, wave=2016)
    humans = Respondents.from_file(gss_panel_file, wave=2016).asked()
    raw = pd.read_parquet(gss_panel_file).query("wave == 2016").set_index("person")
    asked = raw[raw[list(GSS_ITEMS)].notna().any(axis=1)]
    assert humans.ids == known.ids == tuple(asked.index.astype(str))
    for item in GSS_ITEMS:
        np.testing.assert_array_equal(humans.answers[item], known.answers[item])
    np.testing.assert_array_equal(humans.weights, known.weights)
    assert humans.strata is not None and len(np.unique(humans.strata)) == asked["vstrat"].nunique()


# -- crosswalks ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CROSSWALKS)
def test_a_crosswalk_maps_every_persona_level_and_its_shares_sum_to_one(name):
    crosswalk, codebook = Crosswalk.load(f"starter--{name}"), Codebook.load("starter")
    for trait in crosswalk.traits:
        matrix = crosswalk.matrix(trait, codebook.trait(trait).levels)
        np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-9)
        assert (matrix >= 0).all()


@pytest.mark.parametrize("name", CROSSWALKS)
def test_persona_traits_that_a_crosswalk_does_not_map_are_named_in_it(name):
    value = read_shipped("crosswalks", f"starter--{name}")
    names = {trait.name for trait in Codebook.load("starter").traits}
    assert set(value["unmapped"]) == names - set(value["traits"])
    assert all(trait in " ".join(value["notes"]) for trait in value["unmapped"])


@pytest.mark.parametrize(
    ("name", "unreached"),
    [("pew-w34", set()), ("pew-w92", set()), ("opinionqa", set()), ("twin-2k-500", set()), ("wvs-7", {"Under 18"})],
)
def test_personas_reach_every_level_of_the_survey_but_those_named(name, unreached):
    crosswalk, codebook = Crosswalk.load(f"starter--{name}"), Codebook.load("starter")
    alone = set()
    for trait, levels in crosswalk.targets.items():
        matrix = crosswalk.matrix(trait, codebook.trait(trait).levels)
        alone |= {level for level, mass in zip(levels, matrix.sum(axis=0), strict=True) if mass == 0}
    assert alone == unreached


def test_asian_people_are_asian_and_others_are_other_in_every_crosswalk_that_tells_them_apart():
    for name in ("pew-w92", "opinionqa", "twin-2k-500"):
        other = Crosswalk.load(f"starter--{name}").traits["race"]["Other"]
        assert other == {"Asian": 0.6563, "Other": 0.3437} and other["Asian"] == pytest.approx(
            0.0546 / 0.0832, abs=1e-4
        )
    assert Crosswalk.load("starter--pew-w34").traits["race"]["Other"] == {"Other": 1.0}


BRACKETS = {
    "pew-w34": [0, 10, 20, 30, 40, 50, 75, 100, 150],
    "pew-w92": [0, 30, 40, 50, 60, 70, 80, 90, 100],
    "opinionqa": [0, 30, 50, 75, 100],
    "twin-2k-500": [0, 30, 50, 75, 100],
}


@pytest.mark.parametrize("name", BRACKETS)
def test_income_brackets_that_are_cut_are_spread_as_if_incomes_were_uniform_in_them(name):
    matrix = Crosswalk.load(f"starter--{name}").matrix(
        "household_income", Codebook.load("starter").trait("household_income").levels
    )
    persona, survey = [0, 25, 40, 60, 90, 110, 170], BRACKETS[name]
    incomes = np.arange(0, 170, 0.01) + 0.005
    source, target = np.searchsorted(persona, incomes) - 1, np.searchsorted(survey, incomes) - 1
    for at in range(6):
        shares = np.bincount(target[source == at], minlength=len(survey)) / (source == at).sum()
        np.testing.assert_allclose(matrix[at], shares, atol=1e-3)
    np.testing.assert_array_equal(matrix[6], np.eye(len(survey))[-1])
