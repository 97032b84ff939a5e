"""Drafts of crosswalks by the labels of levels: what is suggested, what is left open, and that nothing is applied."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anthology_hub import Codebook
from anthology_hub.crosswalks import Crosswalk, trait_levels
from anthology_hub.errors import DataError, OptionError
from anthology_hub.schema import Trait, read_shipped
from anthology_hub.suggestions import ASSUMED, THRESHOLD, suggest

STARTER = Codebook.load("starter")


def book(*levels, spoken=()):
    trait = Trait(name="t", label="T", question="?", levels=tuple(levels), bio="{}", spoken=tuple(spoken))
    return Codebook(name="made", traits=(trait,))


def shares(ours, theirs, **options):
    """Our level -> (shares over theirs, score); only what is suggested."""
    rows = suggest(book(*ours), {"t": theirs}, **options).rows
    return {row.level: (dict(row.shares), round(row.score, 4)) for row in rows}


@pytest.mark.parametrize("source", ["pew-w34", "pew-w92", "opinionqa", "twin-2k-500"])
def test_income_brackets_are_spread_as_the_shipped_crosswalks_spread_them_by_hand(source):
    drafted = suggest(STARTER, trait_levels(read_shipped("humans", source)))
    shipped = Crosswalk.load(read_shipped("humans", source)["crosswalk"]).traits["household_income"]
    found = {row.level: row.shares for row in drafted.rows if row.trait == "household_income"}
    assert set(found) == set(shipped)
    for level, spread in shipped.items():
        assert found[level] == pytest.approx(spread, abs=1e-6)


@pytest.mark.parametrize("source", ["gss-2018", "gss-panel", "pew-w34", "pew-w92", "opinionqa", "wvs-7", "twin-2k-500"])
def test_what_is_suggested_for_the_shipped_sources_never_contradicts_a_sure_row(source):
    drafted = suggest(STARTER, trait_levels(read_shipped("humans", source)))
    shipped = Crosswalk.load(read_shipped("humans", source)["crosswalk"])
    for row in drafted.rows:
        sure = shipped.traits.get(row.trait, {}).get(row.level, {})
        if len(sure) == 1 and row.score == 1:
            assert dict(row.shares) == dict(sure)
    assert len(drafted.rows) >= 15


LABELS = [
    ("<25k", 0, 25_000),
    ("25-40k", 25_000, 40_001),
    ("$25-40k", 25_000, 40_001),
    ("$30,000 to less than $40,000", 30_000, 40_000),
    ("$30,000 to $39,999", 30_000, 40_000),
    ("10 to under $20,000", 10_000, 20_000),
    ("100 to under $150,000 [OR]", 100_000, 150_000),
    ("Less than $10,000", 0, 10_000),
    ("18-29", 18, 30),
    ("18 – 29 years", 18, 30),
    ("between 30 and 49 years old", 30, 50),
    ("under 18", 0, 18),
    ("17 or younger", 0, 18),
    ("up to 17", 0, 18),
    ("25 000 - 40 000 €", 25_000, 40_001),
    ("1.000-2.000 EUR", 1_000, 2_001),
    ("1 to $999", 1, 1_000),
    ("2 children", 2, 3),
    ("1.5 to 2.5", 1.5, 3.5),
]


@pytest.mark.parametrize(("label", "low", "high"), LABELS)
def test_a_label_is_read_as_the_bracket_that_it_means(label, low, high):
    """Against targets of known width: the shares are the overlaps."""
    middle = (low + high) / 2
    theirs = [f"under {middle:g}", f"{middle:g} to under {high:g}", f"{high:g} or more"]
    found = shares([label, f"{high * 3:g} or more"], theirs)
    below = (middle - low) / (high - low)
    assert found[label][0] == pytest.approx({theirs[0]: below, theirs[1]: 1 - below})


@pytest.mark.parametrize(
    "label", ["65 or above", "65+", "65 and over", "65 years and older", "at least 65", "over 64", "> 64"]
)
def test_an_open_bracket_goes_whole_to_the_one_that_holds_it(label):
    assert shares([label, "18-64"], ["18-29", "30-64", "65 plus"])[label] == ({"65 plus": 1.0}, 1.0)


@pytest.mark.parametrize(
    "label", ["High school (grade 12)", "12 years of school", "Less than high school", "W34 panel"]
)
def test_a_label_with_other_words_is_no_bracket(label):
    found = shares([label, "18-29", "30+"], [label, "18-29", "30+"])
    assert found[label] == ({label: 1.0}, 1.0)


def test_an_open_bracket_that_has_to_be_split_is_closed_by_a_stated_rule_and_scores_less():
    drafted = suggest(book("0-99k", "100k+"), {"t": ["under $100,000", "$100,000 to $199,999", "$200,000 or more"]})
    row = drafted.rows[1]
    assert row.level == "100k+" and row.score == ASSUMED
    assert row.shares == pytest.approx({"$100,000 to $199,999": 0.5, "$200,000 or more": 0.5})
    assert row.why == "overlap of the brackets, the open one closed at 300000"


def test_a_bracket_that_the_targets_cover_in_part_scores_that_part():
    drafted = suggest(book("0-9", "10-19", "20-29"), {"t": ["15-19", "20-29"]}, threshold=0)
    assert [(row.level, row.score) for row in drafted.rows] == [("10-19", 0.5), ("20-29", 1.0)]
    assert drafted.missing == (("t", "0-9"),)
    assert suggest(book("0-9", "10-19", "20-29"), {"t": ["15-19", "20-29"]}).missing == (("t", "0-9"), ("t", "10-19"))


CUTS = st.lists(st.integers(19, 79), min_size=1, max_size=6, unique=True).map(sorted)


def ages(cuts):
    edges = [18, *cuts, 80]
    return {f"{low}-{high - 1}": set(range(low, high)) for low, high in zip(edges, edges[1:], strict=False)}


@given(CUTS, CUTS)
def test_shares_of_brackets_equal_a_count_of_the_ages_in_both(one, other):
    ours, theirs = ages(one), ages(other)
    found = shares(ours, theirs, threshold=0)
    for level, inside in ours.items():
        expected = {to: len(inside & years) / len(inside) for to, years in theirs.items() if inside & years}
        assert found[level] == (pytest.approx(expected), 1.0)


@pytest.mark.parametrize(
    ("ours", "theirs", "goes"),
    [
        ("White", ["White non-Hispanic", "Hispanic"], "White non-Hispanic"),
        ("Hispanic", ["White non-Hispanic", "Hispanic/Latino"], "Hispanic/Latino"),
        ("High school", ["Less than high school", "High school graduate"], "High school graduate"),
        ("Graduate", ["College graduate", "Postgraduate"], "Postgraduate"),
        ("Never married", ["Married", "Never been married"], "Never been married"),
        ("Associate", ["ASSOCIATE’S", "Bachelor"], "ASSOCIATE’S"),
        ("Northeast", ["North East", "South"], "North East"),
        ("Never married", ["Married", "Divorced"], None),
        ("Hispanic", ["White non-Hispanic", "Black non-Hispanic"], None),
        ("None", ["Catholic", "Nothing in particular"], None),
        ("Bachelor's", ["Associate's degree", "College graduate"], None),
    ],
)  # fmt: skip
def test_labels_go_to_the_one_that_is_most_alike_or_nowhere(ours, theirs, goes):
    found = shares([ours], theirs)
    assert (list(found[ours][0]) if found else [None]) == [goes]
    if goes:
        assert THRESHOLD <= found[ours][1] <= 1


def test_the_very_label_of_one_level_is_not_offered_to_another():
    assert shares(["Male", "Female"], ["Female", "Man"]) == {"Female": ({"Female": 1.0}, 1.0)}


def test_a_level_is_known_by_how_it_is_spoken_too():
    assert suggest(STARTER, {"religion": ["Roman Catholic", "Jewish"]}).rows[0].shares == {"Roman Catholic": 1.0}


def test_a_draft_says_what_is_open_and_is_refused_until_a_person_has_gone_through_it(tmp_path):
    drafted = suggest(STARTER, {"gender": ["Man", "Female"], "age": ["18-49", "50+"], "tribe": ["A"]})
    assert drafted.missing == (("gender", "Male"), ("gender", "Other"))
    assert "race" in drafted.unmapped and "age" not in drafted.unmapped
    file = drafted.write(tmp_path / "mine.json")
    value = json.loads(file.read_text())
    assert value["from"] == "starter" and value["targets"] == {"gender": ["Man", "Female"], "age": ["18-49", "50+"]}
    assert value["traits"]["gender"]["Male"] is None
    assert value["traits"]["age"]["30-49"] == {"to": {"18-49": 1.0}, "suggested": 1.0, "why": "overlap of the brackets"}
    with pytest.raises(DataError, match="has no row yet for gender 'Male', gender 'Other'"):
        Crosswalk.load(str(file), accept=True)
    value["traits"]["gender"] |= {"Male": "Man", "Other": {"Man": 0.5, "Female": 0.5}}
    file.write_text(json.dumps(value))
    with pytest.raises(DataError, match="holds 5 rows that are only suggested, such as age '18-29'"):
        Crosswalk.load(str(file))
    for rows in value["traits"].values():
        for row in rows.values():
            if isinstance(row, dict):
                row.pop("suggested", None)
    file.write_text(json.dumps(value))
    crosswalk = Crosswalk.load(str(file))
    assert crosswalk.matrix("age", STARTER.trait("age").levels).tolist() == [[1, 0], [1, 0], [0, 1], [0, 1]]
    assert crosswalk.unmapped == drafted.unmapped and crosswalk.coverage(STARTER).complete


def test_a_draft_whose_levels_all_have_a_suggestion_can_be_taken_as_it_is(tmp_path):
    drafted = suggest(STARTER, {"age": ["18-49", "50+"]})
    crosswalk = Crosswalk.load(str(drafted.write(tmp_path / "mine.json")), accept=True)
    np.testing.assert_allclose(crosswalk.matrix("age", STARTER.trait("age").levels).sum(axis=1), 1)


def test_a_file_that_may_hold_a_review_is_never_overwritten(tmp_path):
    drafted, file = suggest(STARTER, {"age": ["18-49", "50+"]}), tmp_path / "mine.json"
    file.write_text("reviewed")
    with pytest.raises(OptionError, match=r"mine.json is there already and may hold your review: choose another name"):
        drafted.write(file)
    with pytest.raises(OptionError, match=r"mine.txt must end in .json"):
        drafted.write(tmp_path / "mine.txt")
    assert file.read_text() == "reviewed" and len(list(tmp_path.iterdir())) == 1


def test_suggestions_need_a_trait_of_the_same_name_and_a_threshold_in_range():
    with pytest.raises(
        OptionError, match=r"no trait has the same name on both sides: personas have age, .*; you gave Alter"
    ):
        suggest(STARTER, {"Alter": ["18-29"]})
    with pytest.raises(OptionError, match="threshold must be between 0 and 1, got 2"):
        suggest(STARTER, {"age": ["18-29"]}, threshold=2)
    assert suggest(STARTER, {"age": []}).rows == ()


@given(
    st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=5, unique=True),
    st.lists(st.text(max_size=20), max_size=5),
)
def test_any_labels_give_distributions_over_the_targets_or_nothing(ours, theirs):
    drafted = suggest(book(*ours), {"t": theirs}, threshold=0.3)
    for row in drafted.rows:
        assert set(row.shares) <= set(theirs) and sum(row.shares.values()) == pytest.approx(1) and 0.3 <= row.score <= 1
    assert {row.level for row in drafted.rows} | {level for _, level in drafted.missing} == set(ours)
