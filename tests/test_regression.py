"""Regressions of answers on traits: by hand, against statsmodels, and what chance alone may explain."""

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given
from hypothesis import strategies as st

from anthology_hub import regression
from anthology_hub.errors import DataError, EmptyError, OptionError
from anthology_hub.groups import group_moments
from anthology_hub.regression import (
    coefficient_agreement,
    dummies,
    fit,
    fit_drawn,
    robust_interval,
    stereotype_index,
)
from anthology_hub.schema import MISSING

SEEDS = st.integers(0, 2**32 - 1)
LEVELS = (3, 2)


def ones(n):
    return np.ones((1, n))


def draw(seed, n=60, q=2, *, strength=1):
    """Answers that lean with two traits, some missing, some traits unknown; every level has people who differ."""
    rng = np.random.default_rng(seed)
    levels = rng.integers(0, LEVELS, (n, 2))
    codes = rng.integers(0, 4, (n, q)) + strength * (levels[:, :1] == 1) + strength * levels[:, 1:]
    codes[rng.random((n, q)) < 0.1] = MISSING
    levels[rng.random((n, 2)) < 0.05] = MISSING
    levels[:12] = [(a, b) for a in range(3) for b in range(2) for _ in range(2)]
    codes[:12] = np.tile([[0] * q, [3] * q], (6, 1))
    return codes, levels, rng.uniform(0.5, 3, (2, n))


def peer(codes, design, weights, item):
    """The same model by statsmodels, of those who are known."""
    kept = (codes[:, item] >= 0) & ~np.isnan(design).any(axis=1)
    return sm.WLS(codes[kept, item], sm.add_constant(design[kept]), weights=weights[kept])


# -- dummies


def test_dummies_leave_the_reference_out_and_unknown_people_blank():
    found = dummies([[0, 1], [2, 0], [1, MISSING]], [3, 2], reference=[2, 0])
    assert found[:2].tolist() == [[1, 0, 1], [0, 0, 0]] and np.isnan(found[2]).all()
    assert dummies([[0], [0]], [1]).shape == (2, 0)


@pytest.mark.parametrize(
    ("levels", "n_levels", "reference", "told"),
    [
        ([[3]], [3], None, r"0..m-1 for m = \[3\], got levels up to \[3\]"),
        ([[1]], [3], [3], r"references \[3\]"),
        ([[1]], [3, 2], None, r"1 traits need as many numbers of levels and references, got \[3, 2\]"),
        ([[1]], [3], [0, 1], r"got \[3\] and \[0, 1\]"),
        ([[-2]], [3], None, "levels are 0..K-1, or -1 where there is none, got -2"),
    ],
)
def test_levels_that_do_not_fit_are_told(levels, n_levels, reference, told):
    with pytest.raises(DataError, match=told):
        dummies(levels, n_levels, reference=reference)


# -- fit


def test_one_dummy_gives_the_difference_of_means_and_its_share_of_the_variance():
    found = fit([[0], [2], [3], [3]], [[0], [0], [1], [1]], ones(4))
    assert found.coefficients[0, 0, 0] == pytest.approx(2) and found.explained[0, 0] == pytest.approx(2 / 3)
    # 1 - (1/3) * 3/2.
    assert found.adjusted[0, 0] == pytest.approx(0.5)
    assert found.spread[0, 0] == pytest.approx(np.sqrt(1.5)) and found.people[0, 0] == 4


@given(SEEDS)
def test_coefficients_and_shares_of_variance_equal_statsmodels_for_every_row(seed):
    codes, levels, weights = draw(seed)
    design = dummies(levels, LEVELS)
    found = fit(codes, design, weights)
    for row, w in enumerate(weights):
        for item in range(codes.shape[1]):
            expected = peer(codes, design, w, item).fit()
            np.testing.assert_allclose(found.coefficients[row, item], expected.params[1:], atol=1e-9)
            assert found.explained[row, item] == pytest.approx(expected.rsquared, abs=1e-9)
    equal = fit(codes, design, 3 * ones(len(codes)))
    for item in range(codes.shape[1]):
        expected = peer(codes, design, np.ones(len(codes)), item).fit()
        assert equal.adjusted[0, item] == pytest.approx(expected.rsquared_adj, abs=1e-9)
        assert equal.people[0, item] == pytest.approx(expected.nobs)


@given(SEEDS)
def test_of_one_trait_the_share_of_variance_is_eta_squared(seed):
    codes, levels, weights = draw(seed)
    found = fit(codes, dummies(levels[:, :1], LEVELS[:1]), weights)
    moments = group_moments(codes, levels[:, 0], weights, n_groups=LEVELS[0])
    np.testing.assert_allclose(found.explained, moments.eta_squared, atol=1e-9)
    np.testing.assert_allclose(found.coefficients, moments.mean[..., 1:] - moments.mean[..., :1], atol=1e-9)


@given(SEEDS, st.floats(1e-6, 1e6))
def test_a_common_factor_on_the_weights_changes_no_figure(seed, factor):
    codes, levels, weights = draw(seed)
    design = dummies(levels, LEVELS)
    plain, scaled = (fit(codes, design, w) for w in (weights, weights * factor))
    for name in ("coefficients", "explained", "adjusted", "spread", "people"):
        np.testing.assert_allclose(getattr(scaled, name), getattr(plain, name), rtol=1e-7, atol=1e-9)
    ends = [robust_interval(codes, design, w[:1]) for w in (weights, weights * factor)]
    np.testing.assert_allclose(ends[1], ends[0], rtol=1e-7, atol=1e-9)


@given(SEEDS)
def test_another_reference_or_a_column_too_many_changes_no_share_of_variance(seed):
    codes, levels, weights = draw(seed)
    plain = fit(codes, dummies(levels, LEVELS), weights)
    other = fit(codes, dummies(levels, LEVELS, reference=[2, 1]), weights)
    design = dummies(levels, LEVELS)
    redundant = fit(codes, np.column_stack([design, design[:, 0] - design[:, 2], 0 * design[:, 0] + 7]), weights)
    for found in (other, redundant):
        np.testing.assert_allclose(found.explained, plain.explained, atol=1e-9)
        np.testing.assert_allclose(found.adjusted, plain.adjusted, atol=1e-9)
    np.testing.assert_allclose(other.coefficients[..., 2], -plain.coefficients[..., 2], atol=1e-9)
    # The data do not tell the first, third and fourth column apart; the second is as it was, the constant is nothing.
    assert np.isnan(redundant.coefficients[..., [0, 2, 3, 4]]).all()
    np.testing.assert_allclose(redundant.coefficients[..., 1], plain.coefficients[..., 1], atol=1e-9)


def test_traits_that_explain_everything_or_nothing_say_so():
    codes = [[0, 0, 1], [1, 0, 1], [0, 2, 1], [1, 2, 1]]
    found = fit(codes, [[0], [0], [1], [1]], ones(4))
    assert found.explained[0, :2].tolist() == pytest.approx([0, 1]) and found.adjusted[0, 0] == pytest.approx(-0.5)
    # An answer that is everybody's moves with nothing, and there is no variance to share out.
    assert found.coefficients[0, 2, 0] == 0 and np.isnan(found.explained[0, 2]) and found.spread[0, 2] == 0
    without = fit(codes, np.zeros((4, 0)), ones(4))
    assert without.explained[0, 0] == 0 and without.adjusted[0, 0] == 0 and without.coefficients.shape == (1, 3, 0)


def test_a_row_without_people_is_undefined_and_so_is_chance_with_as_many_columns_as_people():
    found = fit([[0], [1], [2]], [[0], [1], [1]], np.array([[0.0, 0, 0], [1, 1, 0], [1, 1, 1]]))
    assert np.isnan(found.coefficients[0]).all() and np.isnan(found.spread[0, 0]) and found.people[0, 0] == 0
    assert found.explained[1, 0] == pytest.approx(1) and np.isnan(found.adjusted[1, 0])
    assert found.adjusted[2, 0] == pytest.approx(1 - 0.25 * 2)


def test_memory_is_bounded_by_blocks_of_people_and_the_figures_are_the_same(monkeypatch):
    codes, levels, weights = draw(3)
    whole = fit(codes, dummies(levels, LEVELS), weights)
    monkeypatch.setattr(regression, "BLOCK_BYTES", 8 * 6 * 7)
    np.testing.assert_allclose(fit(codes, dummies(levels, LEVELS), weights).coefficients, whole.coefficients)


@pytest.mark.parametrize("kind", ["equal", "survey", "bootstrap"])
def test_where_traits_tell_nothing_the_adjusted_share_is_0_on_average_whatever_the_weights(kind):
    rng = np.random.default_rng(5)
    plain, adjusted = [], []
    for _ in range(60):
        levels, codes = rng.integers(0, 4, (120, 2)), rng.integers(0, 5, (120, 10))
        weights = rng.exponential(size=120) if kind == "survey" else np.ones(120)
        if kind == "bootstrap":
            weights = rng.multinomial(120, np.full(120, 1 / 120)).astype(float)
        found = fit(codes, dummies(levels, [4, 4]), weights[None])
        plain.append(found.explained.mean())
        adjusted.append(found.adjusted.mean())
    # 600 regressions: the Monte Carlo error of the mean is about 0.002.
    assert np.mean(plain) > 0.045 and abs(np.mean(adjusted)) < np.mean(plain) / 10


@pytest.mark.parametrize(
    ("design", "told"),
    [
        (np.zeros((3, 1)), r"traits of shape \(3, 1\) do not fit 2 people: give \(2, columns\)"),
        (np.zeros(2), r"shape \(2,\)"),
        ([[np.inf], [0]], "finite numbers, or NaN where not known"),
    ],
)
def test_traits_that_do_not_fit_are_told(design, told):
    with pytest.raises(DataError, match=told):
        fit([[0], [1]], design, ones(2))


def test_nobody_is_told():
    with pytest.raises(EmptyError, match="at least one person"):
        fit(np.zeros((0, 1), dtype=int), np.zeros((0, 1)), ones(0))


# -- stereotypes


def test_the_index_is_the_ratio_of_mean_shares_and_above_1_where_the_model_exaggerates():
    traits = [[0], [0], [0], [1], [1], [1]]
    human = fit([[0, 1], [1, 1], [1, 2], [1, 1], [2, 2], [2, 2]], traits, ones(6))
    caricature = fit([[0, 1], [0, 1], [1, 1], [2, 2], [2, 2], [2, 1]], traits, ones(6))
    found = {name: value[0] for name, value in stereotype_index(caricature, human).items()}
    assert found["explained_human"] == pytest.approx(human.adjusted.mean())
    assert found["stereotype_index"] == pytest.approx(caricature.adjusted.mean() / human.adjusted.mean())
    assert found["stereotype_index"] > 1
    assert stereotype_index(human, human)["stereotype_index"][0] == pytest.approx(1)


def test_the_index_is_undefined_where_traits_tell_nothing_of_the_humans_or_an_item_is_constant():
    traits = [[0], [0], [1], [1]]
    nothing, constant = fit([[0], [1], [0], [1]], traits, ones(4)), fit([[1], [1], [1], [1]], traits, ones(4))
    some = fit([[0], [0], [2], [1]], traits, ones(4))
    found = stereotype_index(some, nothing)
    assert np.isnan(found["stereotype_index"][0]) and found["explained_human"][0] == pytest.approx(-0.5)
    assert np.isnan(stereotype_index(constant, some)["stereotype_index"][0])


def test_sides_of_other_items_or_rows_are_told():
    one, two = fit([[0], [1], [2]], [[0], [0], [1]], ones(3)), fit([[0, 0], [1, 1]], [[0], [1]], np.ones((2, 2)))
    with pytest.raises(
        DataError, match=r"shape \(1, 1\) and human ones of \(2, 2\) do not compare: give the same items"
    ):
        stereotype_index(one, two)
    ends = np.zeros((2, 1, 1))
    with pytest.raises(DataError, match=r"\(1, 1, 1\) and human ones of \(2, 1, 1\)"):
        coefficient_agreement(one, one, (ends, ends))


# -- intervals


@given(SEEDS, st.sampled_from([0.8, 0.95]))
def test_intervals_equal_statsmodels_with_hc3(seed, level):
    codes, levels, weights = draw(seed)
    design = dummies(levels, LEVELS)
    low, high = robust_interval(codes, design, weights, level=level)
    for row, w in enumerate(weights):
        for item in range(codes.shape[1]):
            expected = peer(codes, design, w, item).fit(cov_type="HC3").conf_int(alpha=1 - level)[1:]
            np.testing.assert_allclose(np.stack([low, high], axis=-1)[row, item], expected, atol=1e-9)


def test_a_coefficient_that_hangs_on_one_person_has_no_interval_and_the_others_keep_theirs():
    codes, levels, _ = draw(1, q=1)
    levels[levels[:, 0] == 2] = [0, 0]
    levels[0] = [2, 0]
    design = dummies(levels, LEVELS)
    low, high = robust_interval(codes, design, ones(len(codes)))
    assert np.isnan(low[0, 0, 1]) and np.isnan(high[0, 0, 1])
    rest = robust_interval(codes[1:], design[1:, [0, 2]], ones(len(codes) - 1))
    np.testing.assert_allclose(low[0, 0, [0, 2]], rest[0][0, 0], atol=1e-9)


@pytest.mark.parametrize("level", [0, 1, 95])
def test_a_level_outside_its_range_is_told(level):
    with pytest.raises(OptionError, match=f"level must be above 0 and below 1, got {level}"):
        robust_interval([[0], [1]], [[0], [1]], ones(2), level=level)


# -- agreement


def test_coefficients_are_compared_in_sds_of_the_human_item():
    codes, levels, weights = draw(7)
    design = dummies(levels, LEVELS)
    human, interval = fit(codes, design, weights[:1]), robust_interval(codes, design, weights[:1])
    other = np.where((codes >= 0) & (levels[:, 1:] == 1), codes + 1, codes)
    found = {
        name: value[0]
        for name, value in coefficient_agreement(fit(other, design, weights[:1]), human, interval).items()
    }
    # Everybody of the second level one step up moves that one coefficient of three by 1.
    assert found["mean_absolute_difference"] == pytest.approx(np.mean(1 / human.spread) / 3)
    moved = human.coefficients + [0, 0, 1]
    inside = (interval[0] <= moved) & (moved <= interval[1])
    assert found["inside_interval"] == pytest.approx(inside.mean()) and inside[..., :2].all()
    itself = {name: value[0] for name, value in coefficient_agreement(human, human, interval).items()}
    assert itself == pytest.approx(
        {"mean_absolute_difference": 0, "correlation": 1, "same_sign": 1, "inside_interval": 1}
    )


def test_coefficients_of_a_persona_that_ignores_traits_agree_in_nothing():
    codes, levels, _ = draw(7, strength=2)
    design = dummies(levels, LEVELS)
    human, interval = fit(codes, design, ones(60)), robust_interval(codes, design, ones(60))
    blank = fit(np.ones_like(codes), design, np.ones((2, 60)))
    found = coefficient_agreement(blank, human, interval)
    assert found["same_sign"].tolist() == [0, 0] and np.isnan(found["correlation"]).all()
    assert found["mean_absolute_difference"] == pytest.approx(
        np.abs(human.coefficients / human.spread[..., None]).mean()
    )


def test_a_coefficient_that_the_data_do_not_tell_leaves_the_agreement_undefined():
    traits = [[0, 0], [0, 0], [1, 0], [1, 0]]
    human = fit([[0], [1], [1], [2]], traits, ones(4))
    found = coefficient_agreement(human, human, robust_interval([[0], [1], [1], [2]], traits, ones(4)))
    assert all(np.isnan(value[0]) for value in found.values())
    nothing = fit([[0], [1]], np.zeros((2, 0)), ones(2))
    none = coefficient_agreement(nothing, nothing, robust_interval([[0], [1]], np.zeros((2, 0)), ones(2)))
    assert np.isnan(none["inside_interval"][0])


def test_of_a_second_sample_of_people_about_83_in_100_coefficients_lie_inside():
    rng = np.random.default_rng(11)
    shares = []
    for _ in range(40):
        levels = rng.integers(0, (3, 2), (2, 300, 2))
        codes = rng.binomial(4, 0.3 + 0.1 * levels[..., :1] + 0.2 * levels[..., 1:], (2, 300, 6))
        designs = [dummies(one, LEVELS) for one in levels]
        human, second = (fit(codes[side], designs[side], ones(300)) for side in range(2))
        interval = robust_interval(codes[0], designs[0], ones(300))
        shares.append(coefficient_agreement(second, human, interval)["inside_interval"][0])
    # 720 coefficients, correlated among three: the Monte Carlo error is about 0.02.
    assert np.mean(shares) == pytest.approx(0.834, abs=0.04)


# -- answers drawn within cells


@given(SEEDS)
def test_drawn_answers_are_fitted_as_if_everybody_gave_all_of_them_in_parts(seed):
    rng = np.random.default_rng(seed)
    codes, levels, weights = draw(seed)
    cells, shares = rng.integers(0, 4, len(codes)), rng.dirichlet(np.ones(5), size=(len(weights), 4, 2))
    at, design = np.arange(5), dummies(levels, LEVELS)
    found = fit_drawn(shares @ at, shares @ at**2, cells, design, weights)
    for row, item in np.ndindex(len(weights), 2):
        parts = (weights[row][:, None] * shares[row, cells, item]).reshape(1, -1)
        whole = fit(np.tile(at, len(codes))[:, None], np.repeat(design, 5, axis=0), parts)
        for name in ("coefficients", "explained", "spread"):
            assert getattr(found, name)[row, item] == pytest.approx(getattr(whole, name)[0, 0], nan_ok=True, abs=1e-9)


def test_answers_that_each_cell_is_sure_of_are_fitted_as_those_answers():
    levels = np.random.default_rng(0).integers(0, LEVELS, (60, 2))
    cells = levels @ [2, 1]
    sure, design = np.arange(6.0)[None, :, None], dummies(levels, LEVELS)
    found, same = fit_drawn(sure, sure**2, cells, design, ones(60)), fit(cells[:, None], design, ones(60))
    assert found.coefficients == pytest.approx(same.coefficients) and found.adjusted == pytest.approx(same.explained)
    assert found.people == pytest.approx(np.full((1, 1), 60.0))


def test_traits_that_tell_nothing_explain_nothing_of_drawn_answers_however_few_people_there_are():
    levels, same = np.random.default_rng(0).integers(0, LEVELS, (12, 2)), np.ones((1, 6, 1))
    found = fit_drawn(same, same * 2, levels @ [2, 1], dummies(levels, LEVELS), ones(12))
    assert found.adjusted == pytest.approx(0) and found.explained == pytest.approx(0)


def test_many_traits_are_multiplied_block_by_block(monkeypatch):
    rng = np.random.default_rng(0)
    design, codes = rng.normal(size=(200, 6)), rng.integers(0, 3, (200, 3))
    whole = fit(codes, design, ones(200)).coefficients
    monkeypatch.setattr(regression, "BLOCK_BYTES", 8 * 100)
    assert fit(codes, design, ones(200)).coefficients == pytest.approx(whole)
