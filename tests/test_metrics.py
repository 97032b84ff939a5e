import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import spatial

from anthology_hub.answer_table import AnswerTable
from anthology_hub.errors import DataError, OptionError
from anthology_hub.metrics import (
    cbs,
    concentration,
    cronbach_alpha,
    entropy,
    frobenius,
    gap_inflation,
    hellinger,
    jensen_shannon,
    kl,
    kolmogorov_smirnov,
    mcdonald_omega,
    ordinal_emd,
    total_variation,
    wasserstein,
)
from tests.made_answers import SEEDS, draw_codes, ones, shares

DISTANCES = (wasserstein, ordinal_emd, total_variation, jensen_shannon, hellinger, kolmogorov_smirnov)
PAIRS = (*DISTANCES, kl, concentration)


@given(shares(sides=3))
def test_wasserstein_is_a_metric_between_0_and_the_number_of_steps(triple):
    p, q, r = triple
    assert wasserstein(p, p) == 0
    assert wasserstein(p, q) == pytest.approx(wasserstein(q, p), abs=1e-12)
    assert wasserstein(p, r) <= wasserstein(p, q) + wasserstein(q, r) + 1e-12
    assert 0 <= wasserstein(p, q) <= len(p) - 1 + 1e-12
    assert (wasserstein(p, q) < 1e-12) == bool(np.allclose(p, q, atol=1e-12))


@given(shares())
def test_wasserstein_does_not_care_from_which_end_options_are_counted(pair):
    p, q = pair
    assert wasserstein(p[::-1], q[::-1]) == pytest.approx(wasserstein(p, q), abs=1e-12)


def test_wasserstein_between_two_certain_answers_is_the_steps_between_them():
    certain = np.eye(5)
    steps = np.abs(np.subtract.outer(np.arange(5), np.arange(5)))
    np.testing.assert_array_equal(wasserstein(certain[:, None], certain[None]), steps)


def test_wasserstein_ignores_empty_options_past_the_end_and_passes_missing_data_on():
    assert wasserstein([0.2, 0.8, 0, 0], [0.7, 0.3, 0, 0]) == pytest.approx(0.5)
    assert np.isnan(wasserstein([np.nan, np.nan], [0.5, 0.5]))


@given(SEEDS, st.integers(2, 6))
def test_frobenius_is_the_matrix_norm_of_the_difference_and_a_metric(seed, q):
    a, b, c = np.random.default_rng(seed).uniform(-1, 1, (3, q, q))
    assert frobenius(a, b) == pytest.approx(np.linalg.norm(a - b, "fro"), abs=1e-12)
    assert frobenius(a, a) == 0 and frobenius(a, b) == frobenius(b, a)
    assert frobenius(a, c) <= frobenius(a, b) + frobenius(b, c) + 1e-12


def test_frobenius_counts_both_triangles_and_is_undefined_where_a_correlation_is():
    a = np.array([[1, 0.3, 0], [0.3, 1, 0], [0, 0, 1]])
    assert frobenius(a, np.eye(3)) == pytest.approx(0.3 * np.sqrt(2))
    a[0, 1] = np.nan
    assert np.isnan(frobenius(a, np.eye(3)))


@pytest.mark.parametrize("covariance", [[[1.0]], [[0.0, 0.0], [0.0, 0.0]], [[1.0, -1.0], [-1.0, 1.0]]])
def test_alpha_is_undefined_for_one_item_and_for_a_sum_that_does_not_vary(covariance):
    assert np.isnan(cronbach_alpha(covariance))


def test_alpha_follows_spearman_brown_for_parallel_items():
    for k, r in ((2, 0.5), (5, 0.2), (10, 0.7)):
        covariance = np.full((k, k), r) + (1 - r) * np.eye(k)
        assert cronbach_alpha(covariance) == pytest.approx(k * r / (1 + (k - 1) * r))


def test_items_that_cancel_but_for_rounding_have_no_alpha():
    # Three people whose two items move against each other: the sum of the scale varies by rounding only.
    covariance = np.array([[1 / 3, -1 / 3], [-1 / 3, 1 / 3 + 1e-16]])
    assert np.isnan(cronbach_alpha(covariance))
    assert cronbach_alpha(covariance + np.eye(2) * 1e-3) < -100


def shares_of(*sizes):
    return np.array(sizes) / sum(sizes)


@given(st.lists(st.integers(1, 50), min_size=2, max_size=7), st.integers(0, 2**32 - 1))
def test_jensen_shannon_is_scipys_is_symmetric_and_forgets_the_order(sizes, seed):
    p = shares_of(*sizes)
    q = np.random.default_rng(seed).dirichlet(np.ones(len(p)))
    ours = float(jensen_shannon(p, q))
    assert ours == pytest.approx(spatial.distance.jensenshannon(p, q, base=2), abs=1e-9)
    order = np.random.default_rng(seed).permutation(len(p))
    assert ours == pytest.approx(float(jensen_shannon(q[order], p[order])), abs=1e-9)
    assert 0 <= ours <= 1


def test_jensen_shannon_of_options_that_nobody_chose_is_defined_and_of_no_data_is_not():
    assert jensen_shannon([0.5, 0.5, 0], [0, 0.5, 0.5]) == pytest.approx(np.sqrt(0.5))
    assert np.isnan(jensen_shannon([np.nan, np.nan], [0.5, 0.5]))


# -- laws of all distances


@given(shares(sides=3), st.sampled_from(DISTANCES))
def test_every_distance_is_a_metric(triple, distance):
    p, q, r = triple
    assert distance(p, p) == 0
    assert distance(p, q) == pytest.approx(distance(q, p), abs=1e-12)
    # Square roots of roundings: 1e-8 is what two distances of nothing may differ by.
    assert distance(p, r) <= distance(p, q) + distance(q, r) + 1e-7
    assert (distance(p, q) < 1e-9) == bool(np.allclose(p, q, atol=1e-12))


@given(shares(), st.sampled_from(DISTANCES[1:]))
def test_every_distance_but_that_in_steps_is_at_most_1_and_reached_by_opposite_ends(pair, distance):
    p, q = pair
    assert 0 <= distance(p, q) <= 1 + 1e-12
    ends = np.eye(len(p))
    assert distance(ends[0], ends[-1]) == pytest.approx(1)


@given(shares(), SEEDS)
def test_distances_without_order_forget_it(pair, seed):
    p, q = pair
    order = np.random.default_rng(seed).permutation(len(p))
    for distance in (total_variation, jensen_shannon, hellinger, kl):
        assert distance(p[order], q[order]) == pytest.approx(distance(p, q), abs=1e-9)


@given(shares())
def test_distances_stand_in_their_known_order(pair):
    """Hellinger and total variation bound each other; cumulative shares differ by no more than shares do."""
    p, q = pair
    h, tv = float(hellinger(p, q)), float(total_variation(p, q))
    assert h**2 <= tv + 1e-12 and tv <= h * np.sqrt(2) + 1e-9
    assert kolmogorov_smirnov(p, q) <= tv + 1e-12 <= wasserstein(p, q) + 2e-12


@pytest.mark.parametrize("measure", PAIRS)
def test_sides_of_different_options_and_shares_that_are_none_are_refused(measure):
    with pytest.raises(DataError, match=r"sides have 2 and 3 options: both must have the same, in order"):
        measure([0.5, 0.5], [0.2, 0.3, 0.5])
    with pytest.raises(DataError, match=r"sides have 1 and 3 options"):
        measure([1.0], [0.2, 0.3, 0.5])
    with pytest.raises(DataError, match=r"shares must be at least 0 and add up to 1, got \[3.0, 5.0\]: divide counts"):
        measure([0.5, 0.5], [3, 5])
    with pytest.raises(DataError, match=r"got \[1.5, -0.5\]"):
        measure([[0.5, 0.5], [1.5, -0.5]], [0.5, 0.5])
    with pytest.raises(DataError, match=r"shares of shape \(\) have no options"):
        measure(0.5, [0.5, 0.5])


@pytest.mark.parametrize("measure", [*DISTANCES, kl])
def test_a_side_without_data_leaves_its_question_undefined_and_no_other(measure):
    p = [[0.5, 0.5], [np.nan, np.nan]]
    found = measure(p, [[0.25, 0.75], [0.25, 0.75]])
    assert np.isfinite(found[0]) and np.isnan(found[1])


# -- single distances


def test_total_variation_is_the_share_that_would_have_to_move():
    assert total_variation([0.2, 0.3, 0.5], [0.5, 0.3, 0.2]) == pytest.approx(0.3)


def test_kl_is_infinite_without_smoothing_where_an_option_is_never_given_and_shrinks_with_it():
    p, q = [0.5, 0.5, 0.0], [0.0, 0.5, 0.5]
    assert np.isinf(kl(p, q, smoothing=0))
    found = [float(kl(p, q, smoothing=each)) for each in (1e-9, 1e-6, 1e-3)]
    # Half of the people, at log2 of half over the smoothing.
    assert found == sorted(found, reverse=True) and found[0] == pytest.approx(0.5 * np.log2(0.5 / 1e-9), abs=1e-6)
    assert kl([0.5, 0.5], [0.25, 0.75]) != pytest.approx(float(kl([0.25, 0.75], [0.5, 0.5])), abs=1e-3)


@given(shares(), st.sampled_from([0.0, 1e-9, 0.01]))
def test_kl_is_never_negative_and_0_only_for_equals(pair, smoothing):
    p, q = pair
    assert kl(p, p, smoothing=smoothing) == pytest.approx(0, abs=1e-12)
    assert kl(p, q, smoothing=smoothing) >= -1e-12


@pytest.mark.parametrize("smoothing", [-1e-9, np.nan, np.inf])
def test_a_smoothing_out_of_range_is_refused(smoothing):
    with pytest.raises(OptionError, match=rf"smoothing must be finite and at least 0, got {smoothing}"):
        kl([0.5, 0.5], [0.5, 0.5], smoothing=smoothing)


@given(shares(), SEEDS)
def test_ordinal_emd_on_even_positions_is_the_normalised_wasserstein_in_whatever_order_they_come(pair, seed):
    p, q = pair
    expected = float(wasserstein(p, q)) / (len(p) - 1)
    assert ordinal_emd(p, q) == pytest.approx(expected, abs=1e-12)
    order = np.random.default_rng(seed).permutation(len(p))
    assert ordinal_emd(p[order], q[order], 10 - 2.5 * order) == pytest.approx(expected, abs=1e-12)


def test_ordinal_emd_leaves_off_scale_options_out_and_renormalises():
    p, q = [0.1, 0.3, 0.4, 0.2], [0.5, 0.25, 0.25, 0.0]
    on_scale = ordinal_emd(np.array([0.3, 0.4, 0.2]) / 0.9, np.array([0.25, 0.25, 0.0]) / 0.5, [1, 2, 4])
    assert ordinal_emd(p, q, [np.nan, 1, 2, 4]) == pytest.approx(float(on_scale), abs=1e-12)
    # Everybody off the scale: nothing is left to compare.
    assert np.isnan(ordinal_emd([1.0, 0, 0], [0.2, 0.3, 0.5], [np.nan, 1, 2]))


@pytest.mark.parametrize(
    ("positions", "message"),
    [
        ([1, 2], r"positions \[1.0, 2.0\] do not fit 3 options: give one for each, NaN off the scale"),
        ([1, 2, np.inf], r"positions \[1.0, 2.0, inf\] do not fit"),
        ([1, np.nan, np.nan], r"make no scale: at least two must differ"),
        ([2, 2, 2], r"make no scale: at least two must differ"),
    ],
)
def test_positions_that_make_no_scale_are_refused(positions, message):
    with pytest.raises(DataError, match=message):
        ordinal_emd([0.2, 0.3, 0.5], [0.5, 0.3, 0.2], positions)


# -- concentration


@given(shares(sides=1))
def test_entropy_lies_between_agreement_and_all_options_alike(one):
    (p,) = one
    assert -1e-12 <= entropy(p) <= np.log2(len(p)) + 1e-12
    assert entropy(np.eye(len(p))).tolist() == [0.0] * len(p)
    assert entropy(np.full(len(p), 1 / len(p))) == pytest.approx(np.log2(len(p)))


def test_entropy_without_data_is_undefined_and_of_no_shares_refused():
    assert np.isnan(entropy([[np.nan, np.nan], [0.5, 0.5]])).tolist() == [True, False]
    with pytest.raises(DataError, match=r"shares must be at least 0 and add up to 1"):
        entropy([2.0, 1.0])


@given(shares(sides=1))
def test_the_humans_themselves_are_as_concentrated_as_the_humans(one):
    found = concentration(*one, *one)
    assert found.options_ratio == found.collision_ratio == pytest.approx(1)
    assert found.modal_excess == found.lost_options == found.lost_share == 0
    alone = max(one[0]) == 1
    assert np.isnan(found.entropy_ratio) if alone else found.entropy_ratio == pytest.approx(1)


def test_concentration_by_hand_with_a_least_share_and_without_data():
    human = [[0.5, 0.3, 0.2, 0.0], [0.25] * 4, [np.nan] * 4]
    found = concentration([0.9, 0.05, 0.05, 0.0], human, least=0.05)
    np.testing.assert_allclose(found.modal_excess, [0.4, 0.65, np.nan])
    np.testing.assert_allclose(found.lost_options, [2, 3, np.nan])
    np.testing.assert_allclose(found.lost_share, [0.5, 0.75, np.nan])
    np.testing.assert_allclose(found.collision_ratio, [0.815 / 0.38, 0.815 / 0.25, np.nan])
    np.testing.assert_allclose(found.entropy_ratio[1], entropy([0.9, 0.05, 0.05, 0.0]) / 2)
    np.testing.assert_allclose(found.options_ratio[1], 2 ** entropy([0.9, 0.05, 0.05, 0.0]) / 4)
    with pytest.raises(OptionError, match=r"least must be at least 0 and below 1, got 1"):
        concentration([1, 0], [1, 0], least=1)


def test_gaps_between_groups_by_hand():
    human = [[0.5, 0.3, 0.2], [0.3, 0.3, 0.4], [0.4, 0.3, 0.3]]
    simulated = [[0.8, 0.1, 0.1], [0.1, 0.1, 0.8], [0.4, 0.3, 0.3]]
    assert gap_inflation(simulated, human, from_option=1) == pytest.approx(0.7 / 0.2)
    assert gap_inflation(simulated, human, from_option=2) == pytest.approx(0.7 / 0.2)
    assert gap_inflation([human[0]] * 3, human, from_option=1) == 0
    assert np.isnan(gap_inflation(simulated, [human[0]] * 3, from_option=1))
    with pytest.raises(OptionError, match=r"from_option must be 1 to 2 of options 0 to 2, got 3"):
        gap_inflation(simulated, human, from_option=3)


# -- matrices


@given(SEEDS, st.integers(2, 6), st.floats(0.1, 10))
def test_cbs_is_one_minus_the_cosine_of_the_matrices_and_forgets_their_size(seed, q, factor):
    a, b = (np.corrcoef(np.random.default_rng(seed).normal(size=(q, 20)) + shift) for shift in (0, 1))
    c = np.corrcoef(np.random.default_rng(seed + 1).normal(size=(q, 20)))
    assert cbs(a, c) == pytest.approx(spatial.distance.cosine(a.ravel(), c.ravel()), abs=1e-12)
    assert cbs(a, factor * c) == pytest.approx(cbs(a, c), abs=1e-12)
    assert 0 <= cbs(a, b) <= 1 and cbs(a, a) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("measure", [frobenius, cbs])
def test_matrices_of_different_items_are_refused_and_undefined_correlations_passed_on(measure):
    with pytest.raises(DataError, match=r"shapes \(2, 2\) and \(3, 3\): both must be square, with the same items"):
        measure(np.eye(2), np.eye(3))
    with pytest.raises(DataError, match=r"shapes \(2, 3\)"):
        measure(np.ones((2, 3)), np.ones((2, 3)))
    assert np.isnan(measure(np.full((2, 2), np.nan), np.eye(2)))
    assert measure(np.stack([np.eye(2)] * 3), np.eye(2)).shape == (3,)


# -- consistency


def one_factor(loadings, spread):
    common = np.outer(loadings, loadings)
    return (common + np.diag(1 - np.square(loadings))) * np.outer(spread, spread)


@given(st.lists(st.floats(0.2, 0.95), min_size=3, max_size=8), SEEDS)
def test_omega_of_an_exact_factor_model_is_its_definition(loadings, seed):
    spread = np.random.default_rng(seed).uniform(0.5, 3, len(loadings))
    common = np.square(np.array(loadings) @ spread)
    unique = ((1 - np.square(loadings)) * spread**2).sum()
    found = mcdonald_omega(one_factor(loadings, spread))
    assert found == pytest.approx(common / (common + unique), abs=1e-7)
    # Alpha is smaller unless all items load alike (Novick and Lewis 1967).
    assert cronbach_alpha(one_factor(loadings, spread)) <= found + 1e-7


@given(st.integers(3, 8), st.floats(0.05, 0.95))
def test_omega_is_alpha_for_parallel_items(k, r):
    covariance = np.full((k, k), r) + (1 - r) * np.eye(k)
    assert mcdonald_omega(covariance) == pytest.approx(cronbach_alpha(covariance), abs=1e-9)


@given(SEEDS, st.integers(3, 6))
def test_items_that_are_copies_of_one_are_perfectly_consistent(seed, k):
    codes = np.repeat(draw_codes(np.random.default_rng(seed), 40, [5], missing=0.1), k, axis=1)
    covariance = AnswerTable(codes, [5] * k).moments(ones(40)).covariance
    assert cronbach_alpha(covariance)[0] == pytest.approx(1) and mcdonald_omega(covariance)[0] == pytest.approx(1)


def test_omega_of_unrelated_items_is_0_and_is_taken_for_each_matrix():
    both = np.stack([np.eye(4), one_factor([0.5] * 4, [1] * 4), np.full((4, 4), np.nan)])
    found = mcdonald_omega(both)
    assert found[0] == 0 and found[1] == pytest.approx(1 / (1 + 3 / 4)) and np.isnan(found[2])


def test_omega_of_turned_items_is_what_it_was_once_they_are_keyed():
    rng = np.random.default_rng(1)
    codes = draw_codes(rng, 300, [5] * 5)
    turned = codes.copy()
    turned[:, [1, 3]] = 4 - turned[:, [1, 3]]
    keyed = [False, True, False, True, False]
    plain = mcdonald_omega(AnswerTable(codes, [5] * 5).moments(ones(300)).covariance)
    back = mcdonald_omega(AnswerTable(turned, [5] * 5).moments(ones(300), keyed=keyed).covariance)
    np.testing.assert_allclose(back, plain, atol=1e-9)


@pytest.mark.parametrize("covariance", [np.eye(2), np.diag([1.0, 0.0, 1.0]), [[1.0]], np.zeros((3, 3))])
def test_omega_is_undefined_for_two_items_and_for_a_constant_one(covariance):
    assert np.isnan(mcdonald_omega(covariance))


@pytest.mark.parametrize("measure", [cronbach_alpha, mcdonald_omega])
def test_a_covariance_that_is_not_square_is_refused(measure):
    with pytest.raises(DataError, match=r"shapes \(2, 3\) and \(2, 3\): both must be square"):
        measure(np.ones((2, 3)))


def test_matrices_of_nothing_have_no_distance():
    none, zero = np.zeros((0, 0)), np.zeros((2, 2))
    assert np.isnan(frobenius(none, none)) and np.isnan(cbs(none, none))
    assert np.isnan(cbs(zero, np.eye(2))) and np.isnan(cbs(np.eye(2), zero)) and frobenius(zero, zero) == 0
    assert np.isnan(cbs([zero, np.eye(2)], np.eye(2))).tolist() == [True, False]
