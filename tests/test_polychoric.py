import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.optimize import minimize_scalar

from anthology_hub.answer_table import AnswerTable
from anthology_hub.errors import DataError
from anthology_hub.polychoric import BOUND, polychoric
from anthology_hub.schema import MISSING
from tests.made_answers import SEEDS, draw_codes, ones


def cut(rho, n, one, other, *, seed=0):
    """Answers of n people to two items that cut a bivariate normal at the thresholds."""
    z = np.random.default_rng(seed).multivariate_normal([0, 0], [[1, rho], [rho, 1]], size=n)
    return np.column_stack([np.digitize(z[:, 0], one), np.digitize(z[:, 1], other)])


def cross(codes, shape):
    table = np.zeros(shape)
    np.add.at(table, tuple(codes.T), 1)
    return table


@pytest.mark.parametrize("p", [0.05, 0.2, 0.25, 0.4, 0.48])
def test_of_two_halved_items_it_is_the_sine_of_what_is_known_in_closed_form(p):
    # Sheppard 1899: a quadrant holds 1/4 + arcsin(rho) / 2 pi.
    table = [[p, 0.5 - p], [0.5 - p, p]]
    assert polychoric(table) == pytest.approx(np.sin(2 * np.pi * (p - 0.25)), abs=1e-9)


@pytest.mark.parametrize("rho", [-0.9, -0.5, 0.0, 0.3, 0.8])
def test_it_finds_the_correlation_behind_skewed_coarse_answers_where_pearson_is_too_small(rho):
    codes = cut(rho, 40_000, [0.3, 1.0, 1.8], [-1.2, 0.9])
    table = AnswerTable(codes, [4, 3])
    found = table.polychoric(ones(40_000))[0, 0, 1]
    assert found == pytest.approx(rho, abs=0.025)
    pearson = table.moments(ones(40_000)).correlation[0, 0, 1]
    if rho:
        assert abs(pearson) < 0.92 * abs(rho)


@pytest.mark.parametrize("rho", [-0.6, 0.2, 0.85])
def test_it_maximises_the_likelihood_that_scipy_computes(rho):
    table = cross(cut(rho, 400, [-0.5, 0.4], [0.1, 1.2]), (3, 3))
    h, k = (
        np.r_[-9, stats.norm.ppf(margin.cumsum()[:-1] / 400), 9] for margin in (table.sum(axis=1), table.sum(axis=0))
    )

    def loss(r):
        law = np.array([[stats.multivariate_normal.cdf([a, b], cov=[[1, r], [r, 1]]) for b in k] for a in h])
        return -(table * np.log(np.diff(np.diff(law, axis=0), axis=1))).sum()

    best = minimize_scalar(loss, bounds=(-0.99, 0.99), method="bounded", options={"xatol": 1e-9})
    assert polychoric(table) == pytest.approx(best.x, abs=1e-5)


@settings(max_examples=25)
@given(SEEDS)
def test_it_is_symmetric_turns_its_sign_with_an_item_and_forgets_the_scale_of_counts(seed):
    rng = np.random.default_rng(seed)
    table = rng.integers(0, 30, (4, 3)) + np.eye(4, 3)
    found = float(polychoric(table))
    assert -BOUND <= found <= BOUND
    assert polychoric(table.T) == pytest.approx(found, abs=1e-7)
    assert polychoric(table[::-1]) == pytest.approx(-found, abs=1e-7)
    assert polychoric(table * 1e-5) == pytest.approx(found, abs=1e-7)


def test_options_that_nobody_chose_change_nothing():
    table = np.array([[20, 5, 2], [6, 15, 9], [1, 8, 22]])
    wider = np.zeros((5, 4))
    wider[np.ix_([0, 1, 3], [0, 2, 3])] = table
    assert polychoric(wider) == pytest.approx(float(polychoric(table)), abs=1e-9)


def test_perfect_tables_come_out_at_the_bounds_and_empty_or_constant_ones_undefined():
    found = polychoric(np.stack([np.eye(3), np.eye(3)[::-1], np.zeros((3, 3)), np.diag([5.0, 0, 0])]))
    np.testing.assert_allclose(found, [BOUND, -BOUND, np.nan, np.nan], atol=1e-6)
    assert polychoric(np.zeros((0, 3, 3))).shape == (0,)


@settings(max_examples=15)
@given(SEEDS)
def test_a_table_of_answers_gives_for_each_pair_and_row_what_its_cross_table_gives(seed):
    rng = np.random.default_rng(seed)
    n_options = [3, 2, 5]
    codes = draw_codes(rng, 60, n_options, missing=0.15)
    weights = rng.integers(0, 4, (2, 60))
    found = AnswerTable(codes, n_options).polychoric(weights.astype(np.int16))
    assert found.shape == (2, 3, 3)
    for row, w in zip(found, weights, strict=True):
        repeated = codes.repeat(w, axis=0)
        for i, j in ((0, 1), (0, 2), (2, 1)):
            both = (repeated[:, [i, j]] != MISSING).all(axis=1)
            expected = polychoric(cross(repeated[both][:, [i, j]], (n_options[i], n_options[j])))
            assert row[i, j] == row[j, i] == pytest.approx(float(expected), abs=1e-7)
    np.testing.assert_array_equal(found[:, range(3), range(3)], 1.0)


def test_survey_weights_count_as_repeated_people():
    codes = cut(0.5, 200, [0.0, 1.0], [-0.5])
    weights = np.random.default_rng(1).integers(1, 5, 200)
    once = AnswerTable(codes, [3, 2]).polychoric(ones(200), base=weights / 3)
    repeated = AnswerTable(codes.repeat(weights, axis=0), [3, 2]).polychoric(ones(weights.sum()))
    np.testing.assert_allclose(once, repeated, atol=1e-7)


def test_a_constant_item_is_undefined_and_leaves_the_other_pairs_alone():
    codes = np.column_stack([cut(0.5, 100, [0.0], [0.3]), np.ones(100, dtype=int)])
    found = AnswerTable(codes, [2, 2, 2]).polychoric(ones(100))[0]
    assert np.isnan(found[2]).all() and np.isnan(found[:, 2]).all()
    assert found[0, 1] == pytest.approx(float(polychoric(cross(codes[:, :2], (2, 2)))), abs=1e-9)


@pytest.mark.parametrize(
    ("table", "got"), [([[1, -1], [2, 3]], "-1.0"), ([[1, np.nan], [2, 3]], "nan"), ([1, 2, 3], r"shape \(3,\)")]
)
def test_counts_that_are_none_are_refused(table, got):
    with pytest.raises(DataError, match=rf"tables must be of shape .* and hold finite counts of at least 0, got {got}"):
        polychoric(table)


@given(st.integers(2, 5), st.integers(2, 5))
def test_independent_margins_have_no_correlation(k, m):
    rows, columns = np.arange(1, k + 1), np.arange(m, 0, -1)
    assert polychoric(np.outer(rows, columns)) == pytest.approx(0, abs=1e-9)
