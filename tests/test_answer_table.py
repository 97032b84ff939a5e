import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anthology_hub.answer_table import BLOCK_BYTES, AnswerTable
from anthology_hub.errors import DataError
from anthology_hub.metrics import cronbach_alpha
from anthology_hub.resampling import bootstrap_counts, half_splits
from anthology_hub.schema import MISSING
from tests.made_answers import SEEDS, draw_codes, frame, ones


@given(SEEDS)
def test_shares_equal_pandas_value_counts(seed):
    codes = draw_codes(np.random.default_rng(seed), 40, [3, 5, 2], missing=0.2)
    found = AnswerTable(codes, [3, 5, 2]).shares(ones(40))[0]
    for at, k in enumerate([3, 5, 2]):
        expected = frame(codes)[at].value_counts(normalize=True).reindex(range(k), fill_value=0.0)
        np.testing.assert_allclose(found[at, :k], expected, atol=1e-12)
        assert not found[at, k:].any()


@given(SEEDS)
def test_integer_weights_are_repeated_rows_for_shares_and_correlations(seed):
    rng = np.random.default_rng(seed)
    codes, weights = draw_codes(rng, 40, [3, 5, 4], missing=0.15), rng.integers(1, 5, 40)
    once, repeated = AnswerTable(codes, [3, 5, 4]), AnswerTable(codes.repeat(weights, axis=0), [3, 5, 4])
    many = ones(weights.sum())
    np.testing.assert_allclose(once.shares(weights[None] * 1.0), repeated.shares(many), atol=1e-12)
    for listwise in (False, True):
        np.testing.assert_allclose(
            once.moments(weights[None] * 1.0, listwise=listwise).correlation,
            repeated.moments(many, listwise=listwise).correlation,
            atol=1e-9,
        )


@given(SEEDS, st.floats(1e-12, 1e12))
def test_the_scale_of_the_weights_and_the_order_of_people_change_nothing(seed, scale):
    rng = np.random.default_rng(seed)
    codes, weights = draw_codes(rng, 40, [3, 5, 4], missing=0.1), rng.lognormal(size=(1, 40))
    order = rng.permutation(40)
    table = AnswerTable(codes, [3, 5, 4])
    cases = [(table, weights * scale), (AnswerTable(codes[order], [3, 5, 4]), weights[:, order])]
    alpha = cronbach_alpha(table.moments(weights).covariance)
    for other, w in cases:
        np.testing.assert_allclose(other.shares(w), table.shares(weights), atol=1e-12)
        np.testing.assert_allclose(other.moments(w).correlation, table.moments(weights).correlation, atol=1e-9)
        np.testing.assert_allclose(cronbach_alpha(other.moments(w).covariance), alpha, atol=1e-9)


@given(SEEDS)
def test_each_row_of_weights_is_computed_as_if_it_were_alone(seed):
    rng = np.random.default_rng(seed)
    table = AnswerTable(draw_codes(rng, 30, [3, 4], missing=0.1), [3, 4])
    weights = rng.lognormal(size=(3, 30))
    shares, moments = table.shares(weights), table.moments(weights)
    for at in range(3):
        alone = table.moments(weights[at : at + 1])
        np.testing.assert_allclose(shares[at], table.shares(weights[at : at + 1])[0], atol=1e-12)
        np.testing.assert_allclose(moments.correlation[at], alone.correlation[0], atol=1e-12)
        np.testing.assert_allclose(moments.covariance[at], alone.covariance[0], atol=1e-12)


@given(SEEDS, st.integers(2, 9), st.integers(-6, 9))
def test_constant_items_have_no_correlation_and_no_alpha_whatever_the_weights(seed, k, magnitude):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 2000))
    codes = np.tile(rng.integers(0, k, 3), (n, 1))
    moments = AnswerTable(codes, [k] * 3).moments((rng.random((1, n)) + 0.1) * 10.0**magnitude)
    assert np.isnan(moments.correlation).all()
    assert np.isnan(cronbach_alpha(moments.covariance)).all()


def test_one_constant_item_leaves_the_other_correlations_as_pandas_has_them_and_no_alpha():
    codes = draw_codes(np.random.default_rng(1), 50, [4, 4, 4])
    codes[:, 1] = 2
    moments = AnswerTable(codes, [4, 4, 4]).moments(ones(50))
    np.testing.assert_allclose(moments.correlation[0], frame(codes).corr(), atol=1e-9)
    assert np.isnan(moments.correlation[0][1]).all() and np.isfinite(moments.correlation[0][0, 2])
    assert np.isnan(cronbach_alpha(moments.covariance)[0])


def test_a_pair_that_nobody_answered_together_is_undefined_and_the_rest_is_not():
    codes = np.array([[0, 1, -1], [1, 0, -1], [2, -1, 0], [0, -1, 1], [1, -1, 1]])
    moments = AnswerTable(codes, [3, 2, 2]).moments(ones(5))
    undefined = np.isnan(moments.covariance[0])
    assert undefined[1, 2] and undefined[2, 1] and undefined.sum() == 2
    np.testing.assert_allclose(moments.correlation[0], frame(codes).corr(), atol=1e-9)


def test_a_question_nobody_answered_has_no_shares_and_zero_observed_options():
    table = AnswerTable(np.array([[0, -1], [2, -1], [2, -1]]), [3, 2])
    assert np.isnan(table.shares(ones(3))[0, 1]).all()
    assert table.observed.tolist() == [2, 0] and len(table) == 3


@pytest.mark.parametrize("codes", [[[0, 2]], [[-2, 0]], [[3, 1]]])
def test_a_code_outside_its_options_is_refused_with_the_options(codes):
    with pytest.raises(DataError, match=r"answer codes must be -1 \(missing\) or 0..K-1 for K = \[3, 2\]"):
        AnswerTable(np.array(codes), [3, 2])


@pytest.mark.parametrize(("codes", "shape"), [([[0, 1]], r"\(1, 2\)"), ([0, 1, 2], r"\(3,\)")])
def test_answers_that_do_not_fit_the_questions_are_refused_with_both_sizes(codes, shape):
    with pytest.raises(DataError, match=rf"answers of shape {shape} do not fit 3 questions"):
        AnswerTable(np.array(codes), [3, 3, 3])


# -- many rows, blocks, precision


def test_many_rows_give_what_each_gives_alone():
    rng = np.random.default_rng(2)
    table = AnswerTable(draw_codes(rng, 80, [3, 5], missing=0.1), [3, 5])
    for weights in (bootstrap_counts(80, 40), half_splits(80, 40), rng.lognormal(size=(40, 80))):
        together = table.moments(weights)
        for at in (0, 17, 39):
            alone = table.moments(weights[at : at + 1])
            np.testing.assert_allclose(together.correlation[at], alone.correlation[0], atol=1e-12)
            np.testing.assert_allclose(together.covariance[at], alone.covariance[0], atol=1e-12)


@given(SEEDS, st.booleans())
def test_rows_of_whole_numbers_give_exactly_what_the_same_real_numbers_give(seed, listwise):
    rng = np.random.default_rng(seed)
    n_options = [2, 10, 7, 4]
    table = AnswerTable(draw_codes(rng, 60, n_options, missing=0.2), n_options)
    for rows in (bootstrap_counts(60, 5, seed=1), half_splits(60, 5, seed=1), bootstrap_counts(60, 40, seed=1)):
        real = rows.astype(np.float64)
        np.testing.assert_array_equal(table.shares(rows), table.shares(real))
        whole, other = table.moments(rows, listwise=listwise), table.moments(real, listwise=listwise)
        np.testing.assert_array_equal(whole.correlation, other.correlation)
        np.testing.assert_array_equal(whole.covariance, other.covariance)


def test_whole_numbers_too_large_for_single_precision_are_added_up_exactly_all_the_same():
    codes = np.array([[0], [1], [1]])
    rows = np.array([[2**25 + 1, 2**25, 2**25]], dtype=np.int64)
    expected = (2**25 + 1) / (3 * 2**25 + 1)
    assert AnswerTable(codes, [2]).shares(rows)[0, 0, 0] == pytest.approx(expected, abs=1e-15)


@given(SEEDS)
def test_base_weights_are_the_same_as_rows_multiplied_by_them(seed):
    rng = np.random.default_rng(seed)
    table = AnswerTable(draw_codes(rng, 40, [3, 4, 5], missing=0.1), [3, 4, 5])
    counts, base = bootstrap_counts(40, 6, seed=3), rng.lognormal(size=40)
    np.testing.assert_allclose(table.shares(counts, base=base), table.shares(counts * base), atol=1e-12)
    one, other = table.moments(counts, base=base), table.moments(counts * base)
    np.testing.assert_allclose(one.correlation, other.correlation, atol=1e-12)
    np.testing.assert_allclose(one.covariance, other.covariance, atol=1e-12)
    np.testing.assert_array_equal(table.shares(counts, base=np.full(40, 7.0)), table.shares(counts))


def test_rows_over_several_blocks_of_people_add_up():
    rng = np.random.default_rng(3)
    n_options = [5] * 25
    table = AnswerTable(draw_codes(rng, 7000, n_options, missing=0.05), n_options)
    rows = bootstrap_counts(7000, 201)
    assert BLOCK_BYTES // (8 * (4 * 25**2 + 201)) < 7000 / 2
    found = table.moments(rows).correlation
    for at in (0, 200):
        np.testing.assert_allclose(found[at], table.moments(rows[at : at + 1]).correlation[0], atol=1e-12)


def test_a_thousand_draws_of_twenty_thousand_people_are_not_copied():
    rng = np.random.default_rng(0)
    table = AnswerTable(rng.integers(0, 4, (20_000, 2)).astype(np.int16), [4, 4])
    counts, base = bootstrap_counts(20_000, 1500), rng.lognormal(size=20_000)
    tracemalloc.start()
    shares = table.shares(counts, base=base)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # The rows times the weights would take 240 MB.
    assert peak < 2.2 * BLOCK_BYTES and shares.shape == (1500, 2, 4)


# -- halves


@given(SEEDS, st.booleans(), st.booleans())
def test_the_second_half_is_what_it_is_on_its_own(seed, weighted, listwise):
    rng = np.random.default_rng(seed)
    table = AnswerTable(draw_codes(rng, 50, [3, 5, 4], missing=0.15), [3, 5, 4])
    masks, base = half_splits(50, 4, seed=1), rng.lognormal(size=50) if weighted else None
    first, second = table.half_shares(masks, base=base)
    np.testing.assert_allclose(first, table.shares(masks, base=base), atol=1e-12)
    np.testing.assert_allclose(second, table.shares(~masks, base=base), atol=1e-12)
    keyed = [False, True, False]
    halves = table.half_moments(masks, base=base, listwise=listwise, keyed=keyed)
    for half, mask in zip(halves, (masks, ~masks), strict=True):
        alone = table.moments(mask, base=base, listwise=listwise, keyed=keyed)
        np.testing.assert_allclose(half.correlation, alone.correlation, atol=1e-9)
        np.testing.assert_allclose(half.covariance, alone.covariance, atol=1e-9)


def test_a_question_that_only_the_first_half_answered_has_no_shares_in_the_second():
    codes = np.array([[0, 1], [1, 0], [0, MISSING], [1, MISSING]])
    masks, base = np.array([[True, True, False, False]]), np.array([0.1, 0.2, 0.3, 0.7])
    _, second = AnswerTable(codes, [2, 2]).half_shares(masks, base=base)
    assert np.isnan(second[0, 1]).all() and second[0, 0].tolist() == pytest.approx([0.3, 0.7])
    moments = AnswerTable(codes, [2, 2]).half_moments(masks, base=base)[1]
    assert np.isnan(moments.correlation[0, 0, 1]) and np.isnan(moments.covariance[0, 1, 1])


# -- scores and ranks


def test_positions_as_scores_change_nothing_and_any_straight_line_changes_no_correlation():
    rng = np.random.default_rng(6)
    table = AnswerTable(draw_codes(rng, 60, [4, 4, 3], missing=0.1), [4, 4, 3])
    plain = table.moments(ones(60))
    positions = np.tile(np.arange(4.0), (3, 1))
    for scores in (positions, 3 * positions - 7):
        found = table.rank_correlation(ones(60), scores)
        np.testing.assert_allclose(found, plain.correlation, atol=1e-9)


@pytest.mark.parametrize("rows", [3, 40], ids=["row by row", "all pairs at once"])
@pytest.mark.parametrize("base", [None, np.linspace(0.5, 2, 60)], ids=["alike", "weighted"])
def test_weights_of_pairs_that_are_known_already_change_no_rank_correlation(rows, base):
    rng = np.random.default_rng(8)
    table = AnswerTable(draw_codes(rng, 60, [4, 4, 3], missing=0.2), [4, 4, 3])
    draws, scores = rng.multinomial(60, np.ones(60) / 60, size=rows), table.midranks()
    known = table.moments(draws, base=base).pairs
    np.testing.assert_allclose(
        known[:, 0, 1], (draws * (1 if base is None else base)) @ (table.present[:, :2].all(axis=1))
    )
    one, other = (table.rank_correlation(draws, scores, base=base, pairs=pairs) for pairs in (None, known))
    np.testing.assert_allclose(one, other, atol=1e-12)
    masks, halves = draws > 0, table.half_moments(draws > 0, base=base)
    for each, half in zip(
        table.half_rank_correlations(masks, scores, base=base, pairs=halves[0].pairs), (masks, ~masks), strict=True
    ):
        np.testing.assert_allclose(each, table.rank_correlation(half, scores, base=base), atol=1e-9)


def test_midranks_are_the_share_below_and_half_of_the_own():
    table = AnswerTable(np.array([[0], [0], [2], [1]]), [4])
    np.testing.assert_allclose(table.midranks(), [[0.25, 0.625, 0.875, 1.0]])
    np.testing.assert_allclose(table.midranks([1.0, 1.0, 1.0, 5.0]), [[0.125, 0.5625, 0.9375, 1.0]])


@given(SEEDS)
def test_ranks_forget_the_distances_between_options(seed):
    """Spearman's correlation stays the same when options that nobody chose are put in between."""
    rng = np.random.default_rng(seed)
    codes = draw_codes(rng, 50, [3, 4])
    stretched = AnswerTable(np.where(codes == MISSING, MISSING, codes**2), [5, 10])
    table = AnswerTable(codes, [3, 4])
    one = table.rank_correlation(ones(50), table.midranks())
    other = stretched.rank_correlation(ones(50), stretched.midranks())
    np.testing.assert_allclose(one, other, atol=1e-9)


def test_scores_of_other_options_are_refused_with_the_shape():
    with pytest.raises(DataError, match=r"scores of shape \(2, 2\) do not fit: give shape \(2, 3\), a value for each"):
        AnswerTable(np.array([[0, 1]]), [3, 2]).rank_correlation(ones(1), np.zeros((2, 2)))


# -- bad input


@pytest.mark.parametrize(
    ("weights", "got"), [([1.0, -0.5, 1.0], "-0.5"), ([1.0, np.nan, 1.0], "nan"), ([np.inf, 1.0, 1.0], "inf")]
)
def test_weights_that_are_none_are_refused_with_the_value_and_what_to_do(weights, got):
    table = AnswerTable(np.array([[0], [1], [1]]), [2])
    message = rf"weights must be finite and not negative, got {got}: leave people out with weight 0"
    for call in (table.shares, table.moments, table.polychoric):
        with pytest.raises(DataError, match=message):
            call(np.array([weights]))
    for base in (weights, [weights[1]] * 3 if got != "inf" else [np.inf] * 3):
        with pytest.raises(DataError, match=message):
            table.shares(ones(3), base=np.array(base))


@pytest.mark.parametrize("shape", [(3,), (1, 2)])
def test_weights_of_other_people_are_refused_with_both_sizes(shape):
    with pytest.raises(DataError, match=r"do not fit 3 people: give shape \(rows, 3\)"):
        AnswerTable(np.array([[0], [1], [1]]), [2]).shares(np.ones(shape))


def test_answers_that_are_no_whole_numbers_are_refused():
    with pytest.raises(DataError, match=r"answer codes must be whole numbers, got float64: code missing as -1"):
        AnswerTable(np.array([[0.0, np.nan]]), [2, 2])


def test_nobody_with_weight_leaves_everything_undefined():
    table = AnswerTable(np.array([[0, 1], [1, 0]]), [2, 2])
    assert np.isnan(table.shares(np.zeros((1, 2)))).all()
    assert np.isnan(table.moments(np.zeros((1, 2))).covariance).all()
    assert np.isnan(table.polychoric(np.zeros((1, 2)))).all()
    assert np.isnan(table.shares(ones(2), base=np.zeros(2))).all()
    assert np.isnan(AnswerTable(np.zeros((0, 2), dtype=int), [2, 2]).shares(np.ones((1, 0)))).all()


def test_one_person_has_shares_and_no_correlation():
    table = AnswerTable(np.array([[0, 1]]), [2, 2])
    assert table.shares(ones(1))[0].tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert np.isnan(table.moments(ones(1)).correlation).all() and np.isnan(table.moments(ones(1)).covariance).all()
    assert np.isnan(table.polychoric(ones(1))).all()


def test_people_of_weight_0_are_as_if_they_were_not_there():
    rng = np.random.default_rng(1)
    codes = draw_codes(rng, 30, [3, 4], missing=0.1)
    weights = rng.lognormal(size=30) * (np.arange(30) < 20)
    all_of_them, kept = AnswerTable(codes, [3, 4]), AnswerTable(codes[:20], [3, 4])
    one, other = all_of_them.moments(weights[None]), kept.moments(weights[None, :20])
    np.testing.assert_allclose(one.covariance, other.covariance, atol=1e-12)
    np.testing.assert_allclose(all_of_them.polychoric(weights[None]), kept.polychoric(weights[None, :20]), atol=1e-9)


def test_one_item_correlates_with_itself_alone_and_has_no_alpha():
    table = AnswerTable(np.array([[0], [1], [2]]), [3])
    moments = table.moments(ones(3))
    np.testing.assert_allclose(moments.correlation, [[[1]]])
    np.testing.assert_array_equal(table.polychoric(ones(3)), [[[1]]])
    assert np.isnan(cronbach_alpha(moments.covariance)).all()


def test_no_items_at_all_leave_nothing_to_compute():
    table = AnswerTable(np.zeros((3, 0), dtype=int), [])
    assert table.shares(ones(3)).shape == (1, 0, 0) and table.moments(ones(3)).correlation.shape == (1, 0, 0)
    assert table.observed.tolist() == []
