import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anthology_hub import Codebook, Respondents, match, schema
from anthology_hub.crosswalks import Crosswalk, target_of, trait_levels, weighted_shares
from anthology_hub.errors import DataError, EmptyError, OptionError, UnknownNameError
from anthology_hub.humans import sources
from anthology_hub.schema import MISSING, read_shipped, shipped

SHIPPED = [(name, trait) for name in shipped("crosswalks") for trait in Crosswalk.load(name).traits]


@pytest.mark.parametrize(("name", "trait"), SHIPPED)
def test_every_shipped_crosswalk_maps_every_codebook_level_with_rows_that_sum_to_1(name, trait):
    crosswalk, codebook = Crosswalk.load(name), Codebook.load(name.split("--")[0])
    levels = codebook.trait(trait).levels
    matrix = crosswalk.matrix(trait, levels)
    assert matrix.shape == (len(levels), len(crosswalk.targets[trait])) and (matrix >= 0).all()
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-9)
    assert set(crosswalk.traits[trait]) == set(levels)


@pytest.mark.parametrize("source", shipped("humans"))
def test_every_source_of_respondents_names_a_shipped_crosswalk_to_its_own_levels(source):
    described = read_shipped("humans", source)
    crosswalk = Crosswalk.load(described["crosswalk"])
    assert {t: crosswalk.targets[t] for t in crosswalk.traits} == {
        t: trait_levels(described)[t] for t in crosswalk.traits
    }


@pytest.mark.parametrize("name", shipped("crosswalks"))
def test_no_persona_trait_or_level_is_lost_in_silence_by_a_shipped_crosswalk(name):
    crosswalk, codebook = Crosswalk.load(name), Codebook.load(name.split("--")[0])
    ours = [trait.name for trait in codebook.traits]
    assert sorted([*crosswalk.traits, *crosswalk.unmapped]) == sorted(ours)
    covered = crosswalk.coverage(codebook)
    assert covered.complete
    assert {gap.trait for gap in covered.gaps if gap.side == "personas"} == set(crosswalk.unmapped)
    totals = {}
    for row in covered.rows:
        assert row.to in crosswalk.targets[row.trait] and 0 < row.share <= 1
        totals[row.trait, row.level] = totals.get((row.trait, row.level), 0) + row.share
    assert set(totals) == {(t, level) for t in crosswalk.traits for level in codebook.trait(t).levels}
    assert list(totals.values()) == pytest.approx([1] * len(totals), abs=1e-9)


@pytest.mark.parametrize("name", shipped("crosswalks"))
def test_a_shipped_crosswalk_is_about_the_source_that_it_names_and_says_what_it_assumes(name):
    value = read_shipped("crosswalks", name)
    assert name == f"{value['from']}--{value['to']}" and value["to"] in sources()
    spread = any(len(shares) > 1 for rows in Crosswalk.load(name).traits.values() for shares in rows.values())
    assert value["notes"] and (not spread or len(" ".join(value["notes"])) > 40)


def test_a_level_that_both_codings_share_keeps_people():
    for name, trait in SHIPPED:
        crosswalk = Crosswalk.load(name)
        for level, shares in crosswalk.traits[trait].items():
            if level in crosswalk.targets[trait]:
                assert shares[level] > 0


def test_applying_a_crosswalk_spreads_probabilities_as_a_sum_written_by_hand():
    crosswalk, codebook = Crosswalk.load("starter--gss-2018"), Codebook.load("starter")
    assert codebook.trait("race").levels == ("White", "Black", "Hispanic", "Other")
    probs = np.array([[0.1, 0.2, 0.7, 0.0], [0.0, 0.0, 0.0, 1.0]], dtype=np.float32)
    expected = [[0.1 + 0.7 * 0.5176, 0.2 + 0.7 * 0.03, 0.7 * 0.4524], [0, 0, 1]]
    np.testing.assert_allclose(crosswalk.apply("race", probs, codebook), expected, atol=1e-7)


@given(st.integers(0, 2**32 - 1), st.sampled_from(SHIPPED))
def test_applying_a_crosswalk_keeps_all_probability_and_passes_missing_annotations_on(seed, place):
    name, trait = place
    codebook = Codebook.load(name.split("--")[0])
    probs = np.random.default_rng(seed).dirichlet(np.ones(len(codebook.trait(trait).levels)), 5).astype(np.float32)
    probs[2] = np.nan
    carried = Crosswalk.load(name).apply(trait, probs, codebook)
    assert np.isnan(carried[2]).all()
    np.testing.assert_allclose(np.delete(carried, 2, axis=0).sum(axis=1), 1, atol=1e-6)
    assert (np.delete(carried, 2, axis=0) >= 0).all()


def test_the_spread_of_hispanic_is_what_the_panel_file_says(gss_panel_file):
    table = pd.read_parquet(gss_panel_file)
    rows = table[(table["wave"] == 2018) & (table["d_hispanic"] > 1) & table["d_race"].notna()]
    shares = rows.groupby("d_race")["wtssnr"].sum() / rows["wtssnr"].sum()
    shipped_shares = Crosswalk.load("starter--gss-2018").traits["race"]["Hispanic"]
    assert shares.tolist() == pytest.approx([shipped_shares[level] for level in ("White", "Black", "Other")], abs=5e-5)


def test_an_unmapped_level_is_refused_by_name():
    crosswalk = Crosswalk.from_dict({"traits": {"sex": {"Male": "M"}}}, {"sex": ("M", "F")}, name="mine")
    assert crosswalk.matrix("sex", ("Male",)).tolist() == [[1, 0]]
    with pytest.raises(DataError, match=r"crosswalk 'mine' does not map sex \['Other'\]: add a row for each"):
        crosswalk.matrix("sex", ("Male", "Other"))


@pytest.mark.parametrize(
    "shares", [{"M": 0.5}, {"M": 0.5, "F": 0.6}, {"M": 1.5, "F": -0.5}, {}, "Q", {"M": 0.5, "Q": 0.5}]
)
def test_shares_that_are_no_distribution_over_the_survey_levels_are_refused_with_the_levels(shares):
    with pytest.raises(DataError, match=r"crosswalk 'mine', sex 'Male': shares .* sum to 1 over the levels M, F"):
        Crosswalk.from_dict({"traits": {"sex": {"Male": shares}}}, {"sex": ("M", "F")}, name="mine")


def test_a_trait_that_the_survey_lacks_is_refused():
    with pytest.raises(DataError, match=r"crosswalk 'mine', sex 'Male'.*over the levels none"):
        Crosswalk.from_dict({"traits": {"sex": {"Male": "M"}}}, {"age": ("old",)}, name="mine")


def test_a_crosswalk_of_the_users_loads_from_a_file_and_an_unknown_name_gets_a_suggestion(tmp_path):
    file = tmp_path / "mine.json"
    rows = {"Male": "Male", "Female": "Female", "Other": {"Male": 0.25, "Female": 0.75}}
    file.write_text(json.dumps({"to": "bfi", "traits": {"gender": rows}, "notes": ["Mine."]}))
    crosswalk = Crosswalk.load(str(file))
    assert crosswalk.matrix("gender", ("Other",)).tolist() == [[0.25, 0.75]] and crosswalk.notes == ("Mine.",)
    with pytest.raises(UnknownNameError, match=r"'starter--gss2018': did you mean 'starter--gss-2018'"):
        Crosswalk.load("starter--gss2018")


def test_trait_levels_are_codes_then_bins_or_the_listed_order_without_doubles():
    source = {
        "traits": {
            "party": {"codes": {"0": "D", "1": "D", "2": "R"}},
            "age": {"bins": [{"level": "young"}, {"level": "old"}]},
            "race": {"codes": {"1": "W", "3": "O"}, "levels": ["W", "H", "O"]},
        }
    }
    assert trait_levels(source) == {"party": ("D", "R"), "age": ("young", "old"), "race": ("W", "H", "O")}
    assert trait_levels({}) == {}


def test_the_levels_of_loaded_respondents_are_the_targets_of_their_crosswalk(gss):
    for humans in (gss, Respondents.load("bfi")):
        crosswalk = Crosswalk.load(humans.crosswalk)
        assert {trait: humans.levels[trait] for trait in crosswalk.traits} == dict(crosswalk.targets)


# -- files of the user's

MINE = {"traits": {"gender": {"Male": "Man", "Female": "Woman", "Other": {"Man": 0.5, "Woman": 0.5}}}}
LEVELS = {"targets": {"gender": ["Woman", "Man"]}}


def written(tmp_path, **fields):
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(fields))
    return str(file)


def test_a_file_may_bring_its_own_target_levels_and_they_count_more_than_a_named_source(tmp_path):
    crosswalk = Crosswalk.load(written(tmp_path, **MINE, **LEVELS, unmapped=["race"]))
    assert crosswalk.targets == {"gender": ("Woman", "Man")} and crosswalk.unmapped == ("race",)
    assert crosswalk.matrix("gender", ("Male", "Other")).tolist() == [[0, 1], [0.5, 0.5]]
    assert Crosswalk.load(written(tmp_path, to="bfi", **MINE, **LEVELS)).targets == crosswalk.targets


@pytest.mark.parametrize("fields", [{}, {"targets": []}, {"targets": {"gender": "Man"}}, {"targets": {"gender": []}}])
def test_a_file_that_does_not_say_where_it_leads_is_told_both_ways_to_say_it(tmp_path, fields):
    with pytest.raises(DataError) as caught:
        Crosswalk.load(written(tmp_path, **MINE, **fields))
    assert str(caught.value).endswith(
        "mine.json' does not say which levels it leads to: name a source of respondents under 'to', or list the "
        'levels, as "targets": {"gender": ["Man", "Woman"]}'
    )


def test_a_source_that_does_not_exist_gets_a_suggestion(tmp_path):
    with pytest.raises(UnknownNameError, match=r"unknown human 'gss2018': did you mean 'gss-2018'\?"):
        Crosswalk.load(written(tmp_path, to="gss2018", **MINE))


def draft(row):
    return {"traits": {"gender": {"Male": "Man", "Female": row}}, **LEVELS}


def test_rows_that_are_only_suggested_are_refused_until_the_mark_is_deleted_or_the_user_accepts(tmp_path):
    suggested = {"to": {"Woman": 0.75, "Man": 0.25}, "suggested": 0.7, "why": "likeness of the labels"}
    file = written(tmp_path, **draft(suggested))
    with pytest.raises(DataError, match=r"holds 1 rows that are only suggested, such as gender 'Female': look at each"):
        Crosswalk.load(file)
    accepted = Crosswalk.load(file, accept=True)
    assert accepted.traits["gender"] == {"Male": {"Man": 1.0}, "Female": {"Woman": 0.75, "Man": 0.25}}
    reviewed = {name: value for name, value in suggested.items() if name != "suggested"}
    assert Crosswalk.load(written(tmp_path, **draft(reviewed))).traits == accepted.traits
    assert Crosswalk.load(written(tmp_path, **draft({"to": "Woman"}))).traits["gender"]["Female"] == {"Woman": 1.0}


def test_a_target_level_called_suggested_or_to_is_no_mark():
    levels = {"gender": ("to", "suggested")}
    crosswalk = Crosswalk.from_dict({"traits": {"gender": {"Male": {"to": 0.5, "suggested": 0.5}}}}, levels, name="odd")
    assert crosswalk.matrix("gender", ("Male",)).tolist() == [[0.5, 0.5]]


@pytest.mark.parametrize("accept", [False, True])
def test_a_level_without_a_row_is_refused_by_name_also_when_all_is_accepted(tmp_path, accept):
    with pytest.raises(DataError, match=r"has no row yet for gender 'Female': write where each goes, or remove"):
        Crosswalk.load(written(tmp_path, **draft(None)), accept=accept)


@pytest.mark.parametrize("traits", [[], {"gender": ["Male"]}, {"gender": "Male"}, 3])
def test_traits_that_are_no_objects_are_refused_with_an_example(tmp_path, traits):
    with pytest.raises(DataError, match=r'traits must be an object such as \{"gender": \{"Male": "Man"\}\}, got'):
        Crosswalk.load(written(tmp_path, traits=traits, **LEVELS))


@pytest.mark.parametrize("shares", [{"Man": float("nan")}, {"Man": True}, {"Man": "1"}, 1, ["Man"]])
def test_shares_that_are_no_numbers_are_refused(tmp_path, shares):
    with pytest.raises(DataError, match=r"gender 'Female': shares .* sum to 1 over the levels Woman, Man"):
        Crosswalk.load(written(tmp_path, **draft(shares)))


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.sampled_from(["Man", "to", "suggested"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["Man", "to", "suggested", "x"]), inner)
    ),
    max_leaves=8,
)


@given(JSON, JSON, st.booleans())
@settings(max_examples=150)
def test_any_json_is_a_crosswalk_or_a_data_error(row, traits, accept):
    for value in ({"traits": {"gender": {"Male": row}}}, {"traits": traits}):
        try:
            crosswalk = Crosswalk.from_dict(value, {"gender": ("Man", "Woman")}, name="any", accept=accept)
        except DataError as error:
            assert "crosswalk 'any'" in str(error)
        else:
            for shares in (shares for rows in crosswalk.traits.values() for shares in rows.values()):
                assert sum(shares.values()) == pytest.approx(1) and set(shares) <= {"Man", "Woman"}


# -- both sides in one order


def test_a_crosswalk_is_brought_into_the_order_of_the_respondents(gss):
    crosswalk = Crosswalk.load("starter--gss-2018")
    turned = {trait: levels[::-1] for trait, levels in gss.levels.items()}
    for trait in crosswalk.traits:
        source = Codebook.load("starter").trait(trait).levels
        expected = crosswalk.matrix(trait, source)[:, ::-1]
        np.testing.assert_array_equal(crosswalk.onto(turned).matrix(trait, source), expected)
    assert crosswalk.onto({}).targets == crosswalk.targets


def test_levels_that_only_the_respondents_have_get_a_column_of_zeros_and_a_lost_one_is_refused():
    crosswalk = Crosswalk.from_dict(MINE, {"gender": ("Man", "Woman")}, name="mine")
    wider = crosswalk.onto({"gender": ("Woman", "Neither", "Man"), "age": ("old",)})
    assert wider.matrix("gender", ("Male", "Other")).tolist() == [[0, 0, 1], [0.5, 0, 0.5]]
    with pytest.raises(
        UnknownNameError, match=r"gender of the respondents in crosswalk mine 'Man': did you mean 'man'"
    ):
        crosswalk.onto({"gender": ("man", "woman")})


# -- coverage


def test_coverage_lists_every_row_and_what_either_side_leaves_out():
    value = {"traits": {"gender": {"Male": "Man", "Femal": "Man"}, "tribe": {"A": "B"}}, "unmapped": ["race"]}
    crosswalk = Crosswalk.from_dict(value, {"gender": ("Man", "Woman"), "tribe": ("B",)}, name="mine")
    covered = crosswalk.coverage(Codebook.load("starter"))
    assert [(row.trait, row.level, row.to, row.share) for row in covered.rows] == [
        ("gender", "Male", "Man", 1.0),
        ("gender", "Femal", "Man", 1.0),
        ("tribe", "A", "B", 1.0),
    ]
    found = {(gap.side, gap.trait, gap.level, gap.meant) for gap in covered.gaps}
    assert {("personas", "gender", "Female", False), ("personas", "gender", "Other", False)} < found
    assert ("personas", "race", "", True) in found and ("personas", "age", "", False) in found
    assert {("crosswalk", "gender", "Femal", False), ("crosswalk", "tribe", "A", False)} < found
    assert ("respondents", "gender", "Woman", False) in found and not covered.complete


def test_coverage_counts_the_people_in_levels_that_no_persona_reaches():
    humans = schema.Respondents(
        name="h",
        ids=tuple("abcde"),
        levels={"gender": ("Man", "Woman"), "ideology": ("left",)},
        codes={"gender": np.array([0, 1, 1, MISSING, 0]), "ideology": np.zeros(5, dtype=np.int16)},
        answers={},
        weights=np.array([1.0, 2.0, 3.0, 9.0, 4.0]),
    )
    value = {"traits": {"gender": {"Male": "Man", "Female": "Man", "Other": "Man"}}}
    covered = Crosswalk.from_dict(value, {"gender": ("Man", "Woman")}, name="mine").coverage(
        Codebook.load("starter"), humans
    )
    theirs = {gap.trait: gap for gap in covered.gaps if gap.side == "respondents"}
    assert (theirs["gender"].level, theirs["gender"].people, theirs["gender"].share) == ("Woman", 2, 0.5)
    assert theirs["ideology"].level == "" and theirs["ideology"].people is None
    lines = str(covered).splitlines()
    assert lines[:3] == [
        "mine",
        "trait   persona level  respondent level  share",
        "gender  Male           Man               100.0%",
    ]
    assert "gender 'Woman' is reached by no persona level (2 people, 50.0%)" in lines
    assert "ideology is reached by no persona level" in lines and "age has no row" in lines


def test_coverage_of_a_real_survey_counts_as_pandas_does(gss):
    narrower = {
        "traits": {
            "party": {
                level: level if level in ("Democrat", "Republican") else "Democrat"
                for level in Codebook.load("starter").trait("party").levels
            }
        }
    }
    covered = Crosswalk.from_dict(narrower, {"party": gss.levels["party"]}, name="two").coverage(
        Codebook.load("starter"), gss
    )
    people = {gap.level: gap.people for gap in covered.gaps if gap.trait == "party"}
    codes = pd.Series(gss.codes["party"])
    assert people == {
        level: int((codes == at).sum())
        for at, level in enumerate(gss.levels["party"])
        if level not in ("Democrat", "Republican")
    }
    assert sum(gap.share for gap in covered.gaps if gap.trait == "party") == pytest.approx(
        sum(people.values()) / (codes != MISSING).sum()
    )


def test_a_crosswalk_of_the_users_own_matches_as_the_shipped_one_does(tmp_path, starter, gss):
    shipped_one = read_shipped("crosswalks", "starter--gss-2018")
    levels = {trait: list(levels) for trait, levels in gss.levels.items()}
    own = Crosswalk.load(written(tmp_path, traits=shipped_one["traits"], targets=levels))
    few = gss.sample(10, seed=2)
    one, other = match(starter, few, method="optimal"), match(starter, few, method="optimal", crosswalk=own)
    assert one.digest == other.digest


def test_levels_of_a_source_come_from_labels_too_and_are_unknown_where_only_the_file_has_them():
    labelled = {"traits": {"sex": {"column": "s", "labels": {"A man": "Man"}}, "age": {"column": "a"}}}
    assert trait_levels(labelled) == {"sex": ("Man",)}


# -- the paper's codebook

EDUCATION = [0, 1, 2, 3, 4, 5, 5, 5]
PAPER = {
    "anthology--pew-w34": {
        "household_income": [0, 1, 2, 3, 4, 5, 5, None, 6, 6, 7, 8, 8],
        "race": [3, 3, 1, 2, 3, 3, 0, 3],
        "education": EDUCATION,
        "age": [0, 1, 2, 3],
        "gender": [0, 1, None],
        "party": [0, 1, 2, 3],
    },
    "anthology--pew-w92": {
        "household_income": [0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 8, 8],
        "race": [4, 3, 1, 2, 4, 4, 0, 4],
        "education": EDUCATION,
        "age": [0, 1, 2, 3],
        "gender": [0, 1, 2],
        "party": [0, 1, 2, 3],
    },
}
PAPER["anthology--pew-w99"] = PAPER["anthology--pew-w92"]


@pytest.mark.parametrize("name", PAPER)
def test_the_paper_s_levels_go_where_its_code_sends_them_with_the_race_map_put_right(name):
    """None: the levels do not nest, and the crosswalk spreads evenly what the code sends to one side."""
    walk, codebook = Crosswalk.load(name), Codebook.load("anthology")
    for trait, places in PAPER[name].items():
        matrix = walk.matrix(trait, codebook.trait(trait).levels)
        for row, place in zip(matrix, places, strict=True):
            assert row.max() == (0.5 if place is None else 1) and (place is None or row.argmax() == place)
    for trait in ("region", "religion", "ideology"):
        matrix = walk.matrix(trait, codebook.trait(trait).levels)
        assert (matrix == np.eye(len(matrix))).all()


@pytest.mark.parametrize("source", ["pew-w92", "pew-w99"])
def test_asian_personas_play_asian_people_and_other_ones_other_people(source):
    race = Crosswalk.load(f"anthology--{source}").traits["race"]
    codes = read_shipped("humans", source)["traits"]["race"]["codes"]
    assert race["Asian"] == {"Asian": 1.0} and race["Other"] == {"Other": 1.0}
    assert (codes["4"], codes["5"]) == ("Other", "Asian")
    assert {level for level, shares in race.items() if "Asian" in shares} == {"Asian"}


def test_the_crosswalk_of_wave_99_is_that_of_wave_92_for_both_codebooks():
    for codebook in ("starter", "anthology"):
        w92, w99 = (Crosswalk.load(f"{codebook}--pew-w{wave}") for wave in (92, 99))
        assert w92.traits == w99.traits and w92.targets == w99.targets


def test_independents_of_the_gss_are_split_as_the_starter_s_population_is():
    shares = Crosswalk.load("anthology--gss-2018").traits["party"]["Independent"]
    party = Codebook.load("starter").trait("party")
    people = {level: party.population[party.code(level)] for level in shares}
    for level, share in shares.items():
        assert share == pytest.approx(people[level] / sum(people.values()), abs=1e-4)


# -- which crosswalk leads from a codebook to some people


def people_named(name, crosswalk):
    return schema.Respondents(name=name, ids=("a",), levels={}, codes={}, answers={}, crosswalk=crosswalk)


@pytest.mark.parametrize(
    ("codebook", "name", "named", "found"),
    [
        ("starter", "gss-2018", "starter--gss-2018", "starter--gss-2018"),
        ("anthology", "gss-2018", "starter--gss-2018", "anthology--gss-2018"),
        ("anthology", "pew-w99", "starter--pew-w92", "anthology--pew-w99"),
        ("starter", "pew-w99", "starter--pew-w92", "starter--pew-w99"),
        ("anthology", "pew-w116", "starter--pew-w92", "anthology--pew-w92"),
        ("anthology", "mine", "", None),
        ("anthology", "bfi", "starter--bfi", "starter--bfi"),
        ("anthology", "pew-w34", "", "anthology--pew-w34"),
    ],
)
def test_the_crosswalk_is_found_by_codebook_and_source_and_else_is_the_one_that_is_named(codebook, name, named, found):
    book, humans = Codebook.load(codebook), people_named(name, named)
    if found is None:
        with pytest.raises(OptionError, match=f"{name} has no crosswalk .*: give crosswalk=, .*; shipped are"):
            Crosswalk.between(book, humans)
    else:
        assert Crosswalk.between(book, humans).name == found


def test_a_crosswalk_file_of_the_user_s_counts_more_than_a_shipped_one(tmp_path):
    file = tmp_path / "mine.json"
    file.write_text(json.dumps({"targets": {"sex": ["M"]}, "traits": {"sex": {"Male": "M"}}}))
    assert Crosswalk.between(Codebook.load("starter"), people_named("gss-2018", str(file))).name == str(file)


# -- from people's margins to a target


@given(st.integers(0, 2**32 - 1), st.sampled_from([s for s in SHIPPED if s[0].startswith("starter")]))
@settings(max_examples=40)
def test_shares_that_personas_can_have_come_back_as_persona_shares_that_lead_to_them(seed, place):
    name, trait = place
    walk, source = Crosswalk.load(name), Codebook.load("starter").trait(trait)
    matrix = walk.matrix(trait, source.levels)
    reachable = np.random.default_rng(seed).dirichlet(np.full(len(source.levels), 5.0)) @ matrix
    back = walk.back(trait, reachable, source)
    assert back.sum() == pytest.approx(1) and (back >= 0).all()
    np.testing.assert_allclose(back @ matrix, reachable, atol=2e-3)


def test_a_survey_level_is_divided_as_the_population_is_and_evenly_where_that_is_not_known():
    walk = Crosswalk(
        name="w", traits={"r": {"A": {"x": 1.0}, "B": {"x": 1.0}, "C": {"y": 1.0}}}, targets={"r": ("x", "y", "z")}
    )
    trait = schema.Trait(name="r", label="", question="", levels=("A", "B", "C"), bio="{}", population=(0.3, 0.1, 0.6))
    assert walk.back("r", np.array([0.8, 0.2, 0.0]), trait).tolist() == pytest.approx([0.6, 0.2, 0.2])
    # Nobody can be in z: it is left out.
    assert walk.back("r", np.array([0.4, 0.1, 0.5]), trait).tolist() == pytest.approx([0.6, 0.2, 0.2])
    unknown = replace(trait, population=())
    assert walk.back("r", np.array([0.8, 0.2, 0.0]), unknown).tolist() == pytest.approx([0.4, 0.4, 0.2])


def test_the_target_of_respondents_is_their_weighted_margin(gss):
    weighted = replace(gss, weights=np.linspace(0.5, 2, len(gss)))
    codes = pd.Series(weighted.codes["education"])
    frame = pd.DataFrame({"level": codes, "weight": weighted.weights})[codes != MISSING]
    expected = frame.groupby("level")["weight"].sum() / frame["weight"].sum()
    np.testing.assert_allclose(weighted_shares(weighted, "education"), expected)
    found = target_of(weighted, Codebook.load("starter"))
    assert list(found["education"].values()) == pytest.approx(expected.tolist())
    assert set(found) == {"age", "gender", "race", "education", "party", "work"}


def test_a_target_of_people_whose_level_nobody_knows_or_can_have_is_refused(gss):
    lost = replace(gss, codes={**gss.codes, "age": np.full(len(gss), MISSING, dtype=np.int16)})
    assert np.isnan(weighted_shares(lost, "age")).all()
    with pytest.raises(EmptyError, match="no respondent of gss-2018 has a age that a persona can have: leave age out"):
        target_of(lost, Codebook.load("starter"))
    with pytest.raises(UnknownNameError, match="shared by personas and gss-2018 'wrok': did you mean 'work'"):
        target_of(gss, Codebook.load("starter"), traits=["wrok"])
