import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from anthology_hub import resampling
from anthology_hub.errors import DataError, OptionError
from anthology_hub.resampling import (
    Estimate,
    adjust,
    bootstrap_counts,
    crossed_counts,
    difference_interval,
    half_splits,
    interval,
    pool_seeds,
    pooled_t_reach,
    probability_below,
    samples,
    shifted_interval,
    without_chance,
)
from tests.made_answers import SEEDS


@given(st.floats(-5, 5), st.lists(st.floats(-10, 10), min_size=2, max_size=30), st.floats(0.01, 0.99))
def test_interval_equals_the_normal_interval_of_scipy(estimate, draws, level):
    spread = float(np.std(draws, ddof=1))
    low, high = interval(estimate, draws, level=level)
    if spread < 1e-9:
        assert (low, high) == (pytest.approx(estimate), pytest.approx(estimate))
    else:
        assert (low, high) == pytest.approx(stats.norm.interval(level, loc=estimate, scale=spread), abs=1e-9)
    assert interval(estimate, [*draws, np.nan], level=level) == (low, high)


def test_interval_is_cut_at_the_least_possible_value_only_below():
    draws = [0.0, 1.0, 2.0]
    low, high = interval(0.5, draws)
    assert low < 0 and interval(0.5, draws, least=0.0) == (0.0, high)
    assert interval(50.0, draws, least=0.0) == interval(50.0, draws)


@pytest.mark.parametrize(("estimate", "draws"), [(1.0, [2.0]), (1.0, [2.0, np.nan]), (np.nan, [1.0, 2.0]), (1.0, [])])
def test_interval_is_undefined_without_two_draws_or_an_estimate(estimate, draws):
    assert np.isnan(interval(estimate, draws)).all()


@pytest.mark.parametrize("level", [0, 1, -0.5, 95])
def test_a_level_out_of_range_is_refused_with_the_range(level):
    with pytest.raises(OptionError, match=rf"level must be above 0 and below 1, got {level}"):
        interval(1.0, [1.0, 2.0], level=level)


@given(st.integers(2, 60), st.integers(1, 20), SEEDS)
def test_half_splits_hold_the_floor_of_half_the_people_and_follow_the_seed(n, splits, seed):
    masks = half_splits(n, splits, seed=seed)
    assert masks.shape == (splits, n) and (masks.sum(axis=1) == n // 2).all()
    np.testing.assert_array_equal(masks, half_splits(n, splits, seed=seed))


def test_half_splits_and_samples_take_everybody_equally_often():
    for share, rows in ((0.5, half_splits(20, 4000, seed=1)), (0.25, samples(20, 5, 4000, seed=1))):
        reach = 5 * np.sqrt(share * (1 - share) / 4000)
        assert np.abs(rows.mean(axis=0) - share).max() < reach
    assert (half_splits(20, 50, seed=1) != half_splits(20, 50, seed=2)).any()


@given(st.integers(1, 40), st.integers(1, 200))
def test_samples_hold_as_many_people_as_asked_be_they_more_than_there_are(n, size):
    rows = samples(n, size, 7, seed=3)
    assert rows.shape == (7, n) and (rows.sum(axis=1) == size).all() and rows.min() >= 0


def test_the_spread_of_a_mean_over_samples_is_that_of_their_own_size():
    values = np.random.default_rng(0).normal(size=100)
    for size in (20, 500):
        means = samples(100, size, 4000, seed=1) @ values / size
        assert means.std() == pytest.approx(values.std() / np.sqrt(size), rel=0.05)


def test_bootstrap_spread_of_a_mean_is_its_textbook_standard_error():
    rng = np.random.default_rng(0)
    values = rng.normal(size=200)
    counts = bootstrap_counts(200, 4000, seed=1)
    assert (counts.sum(axis=1) == 200).all() and counts.min() == 0 and counts.max() > 2
    means = counts @ values / 200
    assert means.std() == pytest.approx(values.std() / np.sqrt(200), rel=0.05)
    assert means.mean() == pytest.approx(values.mean(), abs=0.01)


@pytest.mark.parametrize(("n", "splits"), [(1, 10), (10, 0)])
def test_half_splits_of_too_few_are_refused_with_the_needs(n, splits):
    with pytest.raises(OptionError, match=rf"at least 2 people and 1 split, got {n} people and {splits} splits"):
        half_splits(n, splits)


@pytest.mark.parametrize(("n", "draws"), [(0, 10), (10, 0)])
def test_a_bootstrap_of_nothing_is_refused_with_the_needs(n, draws):
    with pytest.raises(OptionError, match=rf"at least 1 person and 1 draw, got {n} people and {draws} draws"):
        bootstrap_counts(n, draws)


@pytest.mark.parametrize(("n", "size"), [(0, 3), (5, 0)])
def test_a_sample_of_nobody_is_refused_with_the_needs(n, size):
    with pytest.raises(OptionError, match=rf"cannot draw {size} of {n} people: at least 1 of at least 1 is needed"):
        samples(n, size, 3)


def clustered(seed, *, strata=8, units=6, people=10):
    """A made sample in which people of one unit are alike: stratum, unit, weight and value of each person."""
    rng = np.random.default_rng(seed)
    unit = np.repeat(np.arange(strata * units), people)
    value = rng.normal(size=strata)[unit // units] + rng.normal(size=strata * units)[unit] + rng.normal(size=len(unit))
    return unit // units, unit, rng.lognormal(sigma=0.5, size=len(unit)), value


def linearised_variance(stratum, unit, weight, value):
    """Of a weighted mean, with replacement: the textbook formula (Lohr, Sampling, section 9.1)."""
    score = weight * (value - np.average(value, weights=weight)) / weight.sum()
    total = 0.0
    for one in np.unique(stratum):
        sums = np.array([score[unit == each].sum() for each in np.unique(unit[stratum == one])])
        total += len(sums) / (len(sums) - 1) * ((sums - sums.mean()) ** 2).sum()
    return total


def test_the_design_bootstrap_has_the_variance_of_the_design_and_the_plain_one_is_far_too_small():
    stratum, unit, weight, value = clustered(1)
    textbook = linearised_variance(stratum, unit, weight, value)

    def variance(**design):
        counts = bootstrap_counts(len(value), 4000, seed=2, **design) * weight
        return float(((counts @ value) / counts.sum(axis=1)).var())

    assert variance(strata=stratum, psu=unit) == pytest.approx(textbook, rel=0.08)
    assert variance() < 0.5 * textbook
    # Without the strata the differences between them count as chance, too.
    assert variance(psu=unit) > 1.2 * textbook


def test_people_of_one_sampling_unit_count_alike_and_an_only_unit_always_counts_once():
    counts = bootstrap_counts(6, 200, strata=np.array([0, 0, 0, 0, 1, 1]), psu=np.array([0, 0, 1, 1, 2, 2]), seed=1)
    assert (counts[:, 0] == counts[:, 1]).all() and (counts[:, 2] == counts[:, 3]).all()
    assert set(counts[:, 0]) == {0.0, 2.0} and (counts[:, 0] + counts[:, 2] == 2).all()
    assert (counts[:, 4:] == 1).all()


def test_strata_alone_draw_people_within_strata():
    counts = bootstrap_counts(10, 300, strata=np.repeat([0, 1], 5), seed=3)
    assert np.allclose(counts[:, :5].sum(axis=1), 5) and np.allclose(counts[:, 5:].sum(axis=1), 5)
    assert len(np.unique(counts)) > 2


def test_plain_counts_are_whole_and_fewer_draws_are_the_first_of_more():
    many = bootstrap_counts(50, 20, seed=7)
    assert many.dtype == np.int16 and many.shape == (20, 50)
    np.testing.assert_array_equal(many[:6], bootstrap_counts(50, 6, seed=7))
    assert (many != bootstrap_counts(50, 20, seed=8)).any()


def test_a_unit_in_two_strata_is_refused_with_the_person_and_what_to_do():
    with pytest.raises(DataError, match=r"unit of person 0 lies in two strata: number units anew in each stratum"):
        bootstrap_counts(4, 2, strata=np.array([0, 1, 1, 1]), psu=np.array([0, 0, 1, 1]))


@pytest.mark.parametrize(("design", "what"), [("psu", "sampling units"), ("strata", "strata")])
def test_a_design_of_other_people_is_refused_with_both_sizes(design, what):
    with pytest.raises(DataError, match=rf"{what} of shape \(3,\) do not fit 4 people: give one for each"):
        bootstrap_counts(4, 2, **{design: np.array([0, 1, 2])})


# -- people and personas


def test_roles_of_one_persona_are_drawn_together():
    personas = np.array([5, 5, 9, 2, 9, 5])
    counts = bootstrap_counts(6, 300, seed=1, psu=personas)
    assert (counts[:, 0] == counts[:, 1]).all() and (counts[:, 2] == counts[:, 4]).all()
    assert (counts[:, 0] != counts[:, 3]).any()
    # Three personas: two draws of them, each worth 3/2.
    assert set(np.unique(counts)) == {0.0, 1.5, 3.0}


def test_crossed_draws_have_at_least_the_variance_of_people_and_personas_together():
    rng = np.random.default_rng(4)
    n, personas = 400, 40
    persona = rng.integers(personas, size=n)
    value = rng.normal(size=n) + rng.normal(size=personas)[persona]
    sizes = np.bincount(persona, minlength=personas)
    truth = 1 / n + (sizes**2).sum() / n**2

    def variance(counts):
        return float(((counts @ value) / counts.sum(axis=1)).var())

    people = bootstrap_counts(n, 4000, seed=1)
    both = variance(crossed_counts(people, persona, seed=2))
    assert 0.9 * truth < both < 1.6 * truth
    assert variance(people) < 0.25 * truth


def test_personas_that_do_not_fit_the_people_are_refused():
    with pytest.raises(DataError, match=r"personas of shape \(2,\) do not fit 3 people: give one for each"):
        crossed_counts(bootstrap_counts(3, 2), np.array([0, 1]))


# -- which is better


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=30))
def test_the_probabilities_below_and_above_add_up_to_1(draws):
    below, above = probability_below(draws), probability_below([-draw for draw in draws])
    assert below + above == pytest.approx(1) and 0 <= below <= 1


def test_the_probability_below_is_that_of_the_normal_law_the_draws_come_from():
    draws = np.random.default_rng(0).normal(-1.0, 0.5, 20_000)
    assert probability_below(draws) == pytest.approx(stats.norm.cdf(2), abs=0.005)


def test_draws_that_resampling_noise_moved_are_moved_back_to_the_estimate():
    draws = np.random.default_rng(0).normal(-0.2, 0.5, 20_000)
    assert probability_below(draws, estimate=-1.0) == pytest.approx(stats.norm.cdf(2), abs=0.005)


def test_undefined_draws_do_not_count_and_nothing_defined_is_undefined():
    assert probability_below([np.nan, -1.0, 1.0, -2.0]) == pytest.approx(2 / 3)
    for draws, estimate in (([], None), ([np.nan], None), ([1.0, 2.0], np.nan)):
        assert np.isnan(probability_below(draws, estimate=estimate))


# -- many items


def test_holm_and_benjamini_hochberg_by_hand():
    p = [0.01, 0.04, 0.03, 0.005]
    assert adjust(p).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert adjust(p, "bh").tolist() == pytest.approx([0.02, 0.04, 0.04, 0.02])
    assert adjust([0.5, 0.9]).tolist() == [1.0, 1.0]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.sampled_from(["holm", "bh"]))
def test_adjusted_p_values_keep_their_order_and_are_never_smaller(p, method):
    adjusted = adjust(p, method)
    assert (adjusted >= np.array(p) - 1e-15).all() and (adjusted <= 1).all()
    assert (np.diff(adjusted[np.argsort(p, kind="stable")]) >= 0).all()
    assert (adjust(p, "bh") <= adjust(p, "holm") + 1e-15).all()


def test_undefined_p_values_stay_undefined_and_do_not_count():
    assert adjust([0.01, np.nan, 0.04])[[0, 2]].tolist() == adjust([0.01, 0.04]).tolist()
    assert np.isnan(adjust([0.01, np.nan, 0.04])[1]) and np.isnan(adjust([np.nan], "bh")).all()


def test_an_unknown_adjustment_and_a_p_value_out_of_range_are_refused():
    with pytest.raises(OptionError, match=r"unknown adjustment 'bonf': allowed are holm, bh"):
        adjust([0.1], "bonf")
    with pytest.raises(DataError, match=r"p-values must lie between 0 and 1, got 1.5"):
        adjust([0.1, 1.5, np.nan])


# -- seeds


def test_seeds_pool_to_the_t_interval_of_their_mean():
    values = [0.11, 0.14, 0.12, np.nan, 0.19]
    kept = np.array(values)[~np.isnan(values)]
    pooled = pool_seeds(values, level=0.9)
    expected = stats.t.interval(0.9, 3, loc=kept.mean(), scale=stats.sem(kept))
    assert (pooled.low, pooled.high) == pytest.approx(expected, abs=1e-12)
    assert pooled.value == pytest.approx(kept.mean()) and pooled.between == pytest.approx(kept.std(ddof=1))
    assert pooled.runs == 4 and pooled.within == 0


def test_the_chance_of_the_people_does_not_shrink_with_more_seeds():
    pooled = pool_seeds([0.25] * 3, within=[0.03] * 3)
    assert pooled.between == 0 and pooled.within == pytest.approx(0.03)
    assert pooled.high - pooled.value == pytest.approx(stats.norm.ppf(0.975) * 0.03)
    wide = pool_seeds([0.1, 0.2, 0.3], within=[0.03] * 3)
    total = 0.01 / 3 + 0.03**2
    freedom = 2 * (total / (0.01 / 3)) ** 2
    assert wide.high - wide.value == pytest.approx(stats.t.ppf(0.975, freedom) * np.sqrt(total))


def test_pooled_intervals_hold_the_truth_as_often_as_they_say():
    rng, held = np.random.default_rng(3), 0
    for _ in range(600):
        people = rng.normal(0, 0.05)
        pooled = pool_seeds((people + rng.normal(0, 0.08, 4)).tolist(), within=[0.05] * 4)
        held += pooled.low <= 0 <= pooled.high
    # Two standard errors of a share of 600 are 1.8 points.
    assert 0.93 <= held / 600 <= 0.985


@pytest.mark.parametrize("values", [[], [0.3], [np.nan, np.nan], [0.3, np.nan]])
def test_fewer_than_two_runs_have_no_interval(values):
    pooled = pool_seeds(values)
    assert np.isnan([pooled.low, pooled.high, pooled.between]).all()
    assert pooled.runs == sum(not np.isnan(value) for value in values)


def test_bad_levels_and_standard_errors_are_refused():
    with pytest.raises(OptionError, match=r"level must be above 0 and below 1, got 95"):
        pool_seeds([0.1, 0.2], level=95)
    with pytest.raises(DataError, match=r"1 standard errors do not fit 2 runs: give one for each"):
        pool_seeds([0.1, 0.2], within=[0.1])
    with pytest.raises(OptionError, match=r"level must be above 0 and below 1, got 0"):
        pooled_t_reach([0.1], [2], level=0)


def test_conditions_without_two_runs_have_no_interval_and_do_not_count():
    found = pooled_t_reach([0.1, np.nan, 0.3], [3, 1, 2])
    pooled = np.sqrt((2 * 0.01 + 0.09) / 3)
    expected = stats.t.ppf(0.975, 3) * pooled / np.sqrt([3, 2])
    assert np.isnan(found[1]) and found[[0, 2]].tolist() == pytest.approx(expected.tolist())
    assert np.isnan(pooled_t_reach([np.nan], [1])).all()


def test_a_distance_less_chance_is_the_true_one_on_average_and_0_where_only_chance_is():
    rng, found = np.random.default_rng(0), {0.0: [], 1.0: []}
    for true, values in found.items():
        for _ in range(300):
            at = np.array([true, 0, 0]) + 0.3 * rng.normal(size=3)
            draws = np.linalg.norm(at + 0.3 * rng.normal(size=(200, 3)), axis=1)
            values.append((np.linalg.norm(at), without_chance(np.linalg.norm(at), draws)))
    measured, less = np.array(found[1.0]).T
    assert np.sqrt((measured**2).mean()) > 1.08 and np.sqrt((less**2).mean()) == pytest.approx(1, abs=0.03)
    measured, less = np.array(found[0.0]).T
    assert (less == 0).mean() > 0.4 and less.mean() < measured.mean() / 2 and (less <= measured).all()


def test_without_two_draws_the_chance_of_a_distance_is_not_known():
    assert np.isnan([without_chance(0.5, []), without_chance(0.5, [0.4, np.nan]), without_chance(np.nan, [1, 2])]).all()


def test_the_interval_of_a_difference_is_the_normal_one_of_even_intervals_and_keeps_uneven_shapes():
    one, other = (Estimate(value=v, low=v - reach, high=v + reach) for v, reach in ((2.0, 0.3), (1.0, 0.4)))
    assert difference_interval(one, other) == pytest.approx((0.5, 1.5))
    # What may be much larger makes the difference much smaller, and not larger.
    uneven = Estimate(value=1.0, low=1.0, high=3.0)
    assert difference_interval(one, uneven) == pytest.approx((1 - np.hypot(0.3, 2), 1.3))
    unknown = Estimate(value=1.0, low=float("nan"), high=float("nan"))
    assert np.isnan(difference_interval(one, unknown)).all()


def test_the_shifted_interval_is_moved_back_by_what_resampling_moves_and_holds_the_estimate():
    draws = np.array([0.7, 0.8, 0.9])
    plain = interval(0.8, draws)
    assert shifted_interval(0.8, draws) == pytest.approx(plain)
    low, high = shifted_interval(1.0, draws)
    assert (low, high) == pytest.approx((1.0, 1.2 + (plain[1] - plain[0]) / 2))
    low, high = shifted_interval(0.5, draws + 0.5, least=0.1)
    assert (low, high) == pytest.approx((0.1, 0.5))
    assert np.isnan([*shifted_interval(1.0, [1.0]), *shifted_interval(np.nan, draws)]).all()


# -- differences of distances


def test_far_from_0_the_interval_of_two_distances_is_the_normal_one_of_their_difference():
    rng = np.random.default_rng(0)
    shared = rng.normal(size=1000) / 100
    draws = np.stack([1 + shared + rng.normal(size=1000) / 1000, 2 + shared])
    found = resampling.distances_interval(1.0, 2.0, draws)
    assert found == pytest.approx(resampling.interval(-1.0, draws[0] - draws[1]), abs=1e-3)


def test_of_a_distance_that_chance_alone_makes_nothing_is_left_in_a_difference():
    rng = np.random.default_rng(0)
    draws = np.abs(np.stack([0.1 + 0.05 * rng.normal(size=1000), 1 + 0.05 * rng.normal(size=1000)]))
    low, high = resampling.distances_interval(0.06, 1.0, draws)
    normal = resampling.interval(-0.94, draws[0] - draws[1])
    assert high == normal[1] and low == pytest.approx(normal[0] - 0.06, abs=0.005)
    turned = resampling.distances_interval(1.0, 0.06, draws[::-1])
    assert turned == pytest.approx((-high, -low))


def test_one_distance_twice_differs_by_0_and_draws_that_are_undefined_are_left_out():
    draws = np.tile(np.random.default_rng(0).random(50), (2, 1))
    assert resampling.distances_interval(0.5, 0.5, draws) == (0.0, 0.0)
    gaps = np.concatenate([draws, np.full((2, 3), np.nan)], axis=1)
    gaps[0, -1] = 0.3
    assert resampling.distances_interval(0.5, 0.5, gaps) == (0.0, 0.0)
    assert np.isnan(resampling.distances_interval(0.5, 0.4, np.full((2, 4), np.nan))).all()
