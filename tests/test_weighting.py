import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from anthology_hub import Codebook, Respondents
from anthology_hub.errors import DataError, EmptyError, UnknownNameError
from anthology_hub.humans import sources
from anthology_hub.schema import read_shipped, shipped
from anthology_hub.weighting import Crosswalk, effective_size, kl_divergence, trait_levels

POSITIVE = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=30)
SHIPPED = [(name, trait) for name in shipped("crosswalks") for trait in Crosswalk.load(name).traits]


@given(POSITIVE, st.floats(1e-6, 1e6))
def test_effective_size_lies_between_1_and_n_and_ignores_the_scale(weights, scale):
    size = effective_size(weights)
    assert 1 - 1e-9 <= size <= len(weights) * (1 + 1e-9)
    assert effective_size(np.array(weights) * scale) == pytest.approx(size)
    assert effective_size(np.ones(len(weights))) == len(weights)


@given(POSITIVE)
def test_effective_size_is_n_over_one_plus_the_squared_coefficient_of_variation(weights):
    assert effective_size(weights) == pytest.approx(len(weights) / (1 + stats.variation(weights) ** 2))


@pytest.mark.parametrize("weights", [[], [0, 0]])
def test_effective_size_without_a_positive_weight_is_refused(weights):
    with pytest.raises(EmptyError, match="effective size needs at least one positive weight"):
        effective_size(weights)


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 20)), min_size=2, max_size=8).filter(lambda r: any(r)))
def test_kl_divergence_equals_scipy_is_never_negative_and_zero_on_itself(pairs):
    counts = np.array(pairs, dtype=float)
    counts[0, 0] += 1
    p, q = (counts / counts.sum(axis=0)).T
    assert kl_divergence(p, q) == pytest.approx(stats.entropy(p, q), abs=1e-12)
    assert kl_divergence(p, q) >= -1e-12 and kl_divergence(p, p) == 0


def test_kl_divergence_is_infinite_only_where_the_target_lacks_a_level():
    assert kl_divergence([0.5, 0.5], [1.0, 0.0]) == np.inf
    assert kl_divergence([1.0, 0.0], [0.5, 0.5]) == pytest.approx(np.log(2))


@pytest.mark.parametrize(("name", "trait"), SHIPPED)
def test_every_shipped_crosswalk_maps_every_codebook_level_with_rows_that_sum_to_1(name, trait):
    crosswalk, codebook = Crosswalk.load(name), Codebook.load(name.split("--")[0])
    levels = codebook.trait(trait).levels
    matrix = crosswalk.matrix(trait, levels)
    assert matrix.shape == (len(levels), len(crosswalk.targets[trait])) and (matrix >= 0).all()
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-9)
    assert set(crosswalk.traits[trait]) == set(levels)


def test_every_source_of_respondents_names_a_shipped_crosswalk_to_its_own_levels():
    for source in sources():
        described = read_shipped("humans", source)
        crosswalk = Crosswalk.load(described["crosswalk"])
        assert read_shipped("crosswalks", described["crosswalk"])["to"] == source
        assert {t: crosswalk.targets[t] for t in crosswalk.traits} == {
            t: trait_levels(described)[t] for t in crosswalk.traits
        }
    assert len(SHIPPED) == 20


def test_a_level_that_both_codings_share_is_carried_over_whole():
    for name, trait in SHIPPED:
        crosswalk = Crosswalk.load(name)
        for level, shares in crosswalk.traits[trait].items():
            if level in crosswalk.targets[trait] and (name, trait) != ("starter--bfi", "education"):
                assert shares == {level: 1.0}


def test_applying_a_crosswalk_spreads_probabilities_as_a_sum_written_by_hand():
    crosswalk, codebook = Crosswalk.load("starter--gss-2018"), Codebook.load("starter")
    assert codebook.trait("race").levels == ("White", "Black", "Hispanic", "Other")
    probs = np.array([[0.1, 0.2, 0.7, 0.0], [0.0, 0.0, 0.0, 1.0]], dtype=np.float32)
    expected = [[0.1 + 0.7 * 0.5176, 0.2 + 0.7 * 0.03, 0.7 * 0.4524], [0, 0, 1]]
    np.testing.assert_allclose(crosswalk.apply("race", probs, codebook), expected, atol=1e-7)


@given(st.integers(0, 2**32 - 1), st.sampled_from(SHIPPED))
def test_applying_a_crosswalk_keeps_all_probability_and_passes_missing_annotations_on(seed, place):
    name, trait = place
    codebook = Codebook.load("starter")
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
