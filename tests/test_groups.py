"""Groups and what tells them apart: by hand, and against pandas, pingouin, statsmodels and popfidelity."""

import numpy as np
import pandas as pd
import pingouin
import pytest
from hypothesis import given
from hypothesis import strategies as st
from popfidelity.cells import Cells
from popfidelity.dispersion import stereotyping
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

from anthology_hub import rows
from anthology_hub.errors import DataError, EmptyError, OptionError
from anthology_hub.groups import agreement, drawn_moments, group_moments, group_pairs
from anthology_hub.rows import effective_people, weight_rows, weighted_means
from anthology_hub.schema import MISSING

SEEDS = st.integers(0, 2**32 - 1)
G = 3


def ones(n):
    return np.ones((1, n))


def draw(seed, n=40, q=2):
    """Answers that lean with the group, some missing, some groups unknown; each group has people who differ."""
    rng = np.random.default_rng(seed)
    groups = rng.integers(MISSING, G, n)
    codes = rng.integers(0, 4, (n, q)) + (groups == 1)[:, None]
    codes[rng.random((n, q)) < 0.1] = MISSING
    groups[: 2 * G], codes[: 2 * G] = np.repeat(np.arange(G), 2), np.tile([[0] * q, [3] * q], (G, 1))
    return codes, groups, rng.integers(1, 4, (3, n)).astype(float)


def known(codes, groups, item):
    """The people whose answer and group are known."""
    kept = (codes[:, item] >= 0) & (groups >= 0)
    return pd.DataFrame({"y": codes[kept, item].astype(float), "g": groups[kept]}), kept


# -- within and between


def test_variances_of_two_groups_are_what_one_counts_by_hand():
    found = group_moments([[0], [2], [3], [3]], [0, 0, 1, 1], ones(4), n_groups=2)
    assert found.mean[0, 0].tolist() == [1, 3] and found.variance[0, 0].tolist() == [1, 0]
    assert found.within[0, 0] == 0.5 and found.between[0, 0] == 1 and found.eta_squared[0, 0] == pytest.approx(2 / 3)
    # Pooled variance (1 * 2 + 1 * 0) / 2 = 1, so the gap of -2 is -2 SDs.
    assert found.gaps[0, 0].tolist() == [-2]


@pytest.mark.filterwarnings("ignore:The inplace keyword")  # of pandas, in pingouin's anova
@given(SEEDS)
def test_without_weights_variances_equal_pandas_and_eta_squared_pingouin(seed):
    codes, groups, _ = draw(seed)
    found = group_moments(codes, groups, ones(len(codes)), n_groups=G)
    for item in range(codes.shape[1]):
        table, _ = known(codes, groups, item)
        by = table.groupby("g").y
        assert found.mean[0, item] == pytest.approx(by.mean().to_numpy(), abs=1e-9)
        assert found.variance[0, item] == pytest.approx(by.var(ddof=0).to_numpy(), abs=1e-9)
        anova = pingouin.anova(table, dv="y", between="g", effsize="n2")
        assert found.eta_squared[0, item] == pytest.approx(anova["n2"][0], abs=1e-9)
        total = found.within[0, item] + found.between[0, item]
        assert total == pytest.approx(table.y.var(ddof=0), abs=1e-9)


@given(SEEDS)
def test_eta_squared_equals_popfidelity_on_the_same_cells(seed):
    codes, groups, _ = draw(seed, q=1)
    table, _ = known(codes, groups, 0)
    counts = pd.crosstab(table.g, table.y).reindex(columns=range(5), fill_value=0).to_numpy(dtype=float)
    cells = Cells([str(g) for g in range(G)], list("abcde"), counts / counts.sum(axis=1, keepdims=True), counts.sum(1))
    expected = stereotyping(cells, cells)["eta_squared_survey"]
    found = group_moments(codes, groups, ones(len(codes)), n_groups=G).eta_squared[0, 0]
    assert found == pytest.approx(expected, abs=1e-9)


@given(SEEDS)
def test_weighted_means_and_variances_equal_statsmodels_for_every_row(seed):
    codes, groups, weights = draw(seed)
    found = group_moments(codes, groups, weights, n_groups=G)
    for row, w in enumerate(weights):
        for item in range(codes.shape[1]):
            table, kept = known(codes, groups, item)
            for g in range(G):
                one = DescrStatsW(table.y[table.g == g], weights=w[kept][table.g == g])
                assert found.mean[row, item, g] == pytest.approx(one.mean, abs=1e-9)
                assert found.variance[row, item, g] == pytest.approx(one.var, abs=1e-9)
                assert found.mass[row, item, g] == one.sum_weights


@given(SEEDS, st.floats(1e-6, 1e6))
def test_a_common_factor_on_the_weights_changes_no_figure(seed, factor):
    codes, groups, weights = draw(seed)
    plain, scaled = (group_moments(codes, groups, w, n_groups=G) for w in (weights, weights * factor))
    for name in ("within", "between", "eta_squared", "gaps", "people"):
        np.testing.assert_allclose(getattr(scaled, name), getattr(plain, name), rtol=1e-9, atol=1e-12)


@given(SEEDS)
def test_shares_of_variance_do_not_care_for_the_unit_the_direction_or_who_is_named_first(seed):
    codes, groups, weights = draw(seed)
    plain = group_moments(codes, groups, weights, n_groups=G)
    turned = np.where(codes < 0, codes, 2 * (4 - codes))
    other = group_moments(turned, np.where(groups < 0, groups, G - 1 - groups), weights, n_groups=G)
    np.testing.assert_allclose(other.eta_squared, plain.eta_squared, atol=1e-9)
    np.testing.assert_allclose(other.within, 4 * plain.within, atol=1e-9)
    # Both turns change the sign: the gaps are the same, in the opposite order.
    np.testing.assert_allclose(other.gaps, plain.gaps[:, :, ::-1], atol=1e-9)
    assert (plain.eta_squared >= 0).all() and (plain.eta_squared <= 1).all()


# -- gaps


@given(SEEDS)
def test_with_equal_weights_gaps_equal_pingouins_cohen(seed):
    codes, groups, _ = draw(seed)
    found = group_moments(codes, groups, 2.5 * ones(len(codes)), n_groups=G).gaps
    for item in range(codes.shape[1]):
        table, _ = known(codes, groups, item)
        for at, (a, b) in enumerate(group_pairs(G)):
            sides = [table.y[table.g == g].to_numpy() for g in (a, b)]
            expected = pingouin.compute_effsize(*sides, eftype="cohen")
            assert found[0, item, at] == pytest.approx(expected, abs=1e-9)


@given(SEEDS)
def test_weights_enter_means_as_in_statsmodels_and_the_pooled_spread_as_reliability(seed):
    codes, groups, weights = draw(seed, q=1)
    gaps = group_moments(codes, groups, weights, n_groups=G).gaps
    table, kept = known(codes, groups, 0)
    for row, w in enumerate(weights):
        for at, (a, b) in enumerate(group_pairs(G)):
            own = [w[kept][table.g == g] for g in (a, b)]
            sides = [DescrStatsW(table.y[table.g == g], weights=one) for g, one in zip((a, b), own, strict=True)]
            difference = CompareMeans(*sides).d1.mean - CompareMeans(*sides).d2.mean
            freedom = [one.sum() - (one**2).sum() / one.sum() for one in own]
            spread = np.sqrt(sum(side.sumsquares for side in sides) / sum(freedom))
            assert gaps[row, 0, at] == pytest.approx(difference / spread, abs=1e-9)


def test_a_gap_is_undefined_where_a_group_is_empty_or_nobody_differs_inside_the_two():
    codes, groups = [[0], [1], [2], [2], [1], [1]], [0, 0, 1, 1, 2, 2]
    gaps = group_moments(codes, groups, ones(6), n_groups=4).gaps[0, 0]
    pairs = dict(zip(group_pairs(4), gaps, strict=True))
    assert pairs[0, 1] == pytest.approx(-1.5 / np.sqrt(0.25))
    assert np.isnan(pairs[1, 2]) and all(np.isnan(pairs[a, 3]) for a in range(3))
    assert group_moments(codes, [0] * 6, ones(6), n_groups=1).gaps.shape == (1, 1, 0)


def test_without_data_or_spread_the_shares_of_variance_are_undefined():
    found = group_moments([[1, MISSING], [1, MISSING]], [0, 1], np.array([[1.0, 1], [0, 0]]), n_groups=2)
    assert found.within[0, 0] == 0 and found.between[0, 0] == 0 and np.isnan(found.eta_squared[0, 0])
    assert np.isnan(found.within[0, 1]) and np.isnan(found.within[1]).all() and np.isnan(found.mean[1]).all()
    assert (found.people[1] == 0).all()


def test_people_of_unknown_group_count_nowhere():
    with_stranger = group_moments([[0], [2], [3]], [0, 0, MISSING], ones(3), n_groups=1)
    assert with_stranger.mean[0, 0, 0] == 1 and with_stranger.people[0, 0, 0] == 2 and with_stranger.mass[0, 0, 0] == 2


@pytest.mark.parametrize(
    ("groups", "n_groups", "error", "told"),
    [
        ([0, 3], 3, DataError, "groups are 0..2, or -1 where not known, got 0 to 3: give n_groups"),
        ([0, -2], 3, DataError, "got -2 to 0"),
        ([0], 3, DataError, r"groups are 2 whole numbers, one for each person, got int64 of \(1,\)"),
        ([0.0, 1.0], 3, DataError, "got float64"),
        ([0, 1], 0, OptionError, "n_groups must be at least 1, got 0"),
    ],
)
def test_groups_that_do_not_fit_are_told(groups, n_groups, error, told):
    with pytest.raises(error, match=told):
        group_moments([[0], [1]], groups, ones(2), n_groups=n_groups)


# -- agreement


@given(SEEDS)
def test_agreement_is_mean_difference_correlation_in_both_directions_and_signs(seed):
    rng = np.random.default_rng(seed)
    human = rng.normal(size=(2, 3, 4))
    simulated = human + rng.normal(size=(2, 3, 4))
    found = agreement(simulated, human)
    for row in range(2):
        x, y = simulated[row].ravel(), human[row].ravel()
        assert found["mean_absolute_difference"][row] == pytest.approx(np.abs(x - y).mean())
        both = pd.Series([*x, *-x]).corr(pd.Series([*y, *-y]))
        assert found["correlation"][row] == pytest.approx(both, abs=1e-9)
        assert found["same_sign"][row] == pytest.approx(np.mean(x * y > 0))
    once = agreement(simulated, human[:1])
    assert once["correlation"][0] == found["correlation"][0]


@given(SEEDS)
def test_which_of_two_groups_comes_first_changes_no_agreement(seed):
    rng = np.random.default_rng(seed)
    simulated, human, signs = rng.normal(size=(1, 8)), rng.normal(size=(1, 8)), rng.choice([-1, 1], 8)
    plain, turned = agreement(simulated, human), agreement(signs * simulated, signs * human)
    for name, value in plain.items():
        assert turned[name] == pytest.approx(value, abs=1e-12)


def test_gaps_twice_the_humans_correlate_perfectly_and_differ():
    human = np.array([[0.5, -1.0, 0.0]])
    found = agreement(2 * human, human)
    assert found["correlation"][0] == pytest.approx(1) and found["same_sign"][0] == 1
    assert found["mean_absolute_difference"][0] == pytest.approx(0.5)
    assert agreement(-human, human)["correlation"][0] == pytest.approx(-1)
    # Zero agrees with zero, rounding or not.
    assert agreement(np.array([[1.0, 1.0, 1e-17]]), human)["same_sign"][0] == pytest.approx(2 / 3)


def test_agreement_is_undefined_where_an_effect_is_or_where_there_is_none():
    found = agreement(np.array([[1.0, np.nan], [1.0, 2.0], [0.0, 0.0]]), np.array([[1.0, 2.0]]))
    assert np.isnan([value[0] for value in found.values()]).all()
    assert [round(value[1], 9) for value in found.values()] == [0, 1, 1]
    assert np.isnan(found["correlation"][2]) and found["mean_absolute_difference"][2] == 1.5
    assert all(np.isnan(value).all() for value in agreement(np.zeros((1, 0)), np.zeros((1, 0))).values())


def test_effects_of_other_items_are_told():
    with pytest.raises(DataError, match=r"shape \(1, 2\) and human ones of \(1, 3\) do not fit: give the same items"):
        agreement(np.zeros((1, 2)), np.zeros((1, 3)))


# -- rows of weights


def test_means_over_rows_of_weights_are_numpys():
    values, present = np.array([[0, 9], [4, 2]]), np.array([[True, False], [True, True]])
    first, second = weighted_means(np.array([[1.0, 3], [1, 0]]), present, values, values**2)
    np.testing.assert_allclose(first, [[3, 2], [0, np.nan]])
    np.testing.assert_allclose(second, [[12, 4], [0, np.nan]])


@pytest.mark.parametrize("factor", [1e-200, 1, 1e200])
def test_effective_people_are_kishs_whatever_the_unit_and_the_blocks(factor, monkeypatch):
    monkeypatch.setattr(rows, "BLOCK_BYTES", 8 * 3)
    weights = np.array([[1.0, 1, 1], [3, 1, 0], [0, 0, 0]]) * factor
    found = effective_people(weights, np.array([[True, True], [True, False], [True, False]]))
    np.testing.assert_allclose(found, [[3, 1], [1.6, 1], [0, 0]])


def test_weights_keep_their_values_and_nobody_is_told():
    assert weight_rows([[1, 0]], 2).dtype == np.float64
    with pytest.raises(EmptyError, match="at least one person and one column"):
        group_moments(np.zeros((0, 2), dtype=int), [], ones(0), n_groups=1)


@given(SEEDS)
def test_drawn_answers_of_groups_are_those_of_everybody_giving_all_of_them_in_parts(seed):
    rng = np.random.default_rng(seed)
    codes, groups, weights = draw(seed)
    cells, shares = rng.integers(0, 4, len(codes)), rng.dirichlet(np.ones(5), size=(len(weights), 4, 2))
    at = np.arange(5)
    found = drawn_moments(shares @ at, shares @ at**2, cells, groups, weights, n_groups=G)
    for row, item in np.ndindex(len(weights), 2):
        parts = (weights[row][:, None] * shares[row, cells, item]).reshape(1, -1)
        whole = group_moments(np.tile(at, len(codes))[:, None], np.repeat(groups, 5), parts, n_groups=G)
        for name in ("mass", "mean", "variance"):
            assert getattr(found, name)[row, item] == pytest.approx(getattr(whole, name)[0, 0], nan_ok=True, abs=1e-9)
        assert found.people[row, item] == pytest.approx(
            effective_people(weights[row : row + 1, :], groups[:, None] == np.arange(G))[0]
        )


def test_groups_outside_their_range_are_refused_for_drawn_answers_too():
    half = np.full((1, 1, 1), 0.5)
    with pytest.raises(DataError, match="give n_groups as many as both sides have"):
        drawn_moments(half, half, [0, 0], [0, 2], ones(2), n_groups=2)


def test_a_group_without_members_has_no_drawn_answers():
    half = np.full((1, 1, 1), 0.5)
    found = drawn_moments(half, half, [0, 0], [0, 0], ones(2), n_groups=2)
    assert found.mean[0, 0, 0] == 0.5 and np.isnan(found.mean[0, 0, 1]) and found.people[0, 0].tolist() == [2, 0]
    assert np.isnan(found.gaps).all()
