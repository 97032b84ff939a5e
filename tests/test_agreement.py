"""Our figures beside those of the packages that people use: equal to 1e-9, or differing as documented."""

import warnings
from importlib.resources import files

import numpy as np
import pandas as pd
import pingouin
import popfidelity
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from popfidelity import alignment, dispersion, reliability, structure, uncertainty
from popfidelity import metrics as theirs
from scipy import spatial, stats
from statsmodels.multivariate.factor import Factor
from statsmodels.stats.multitest import multipletests

from anthology_hub import Respondents, metrics, resampling
from anthology_hub.answer_table import AnswerTable
from anthology_hub.metrics import cronbach_alpha, wasserstein
from anthology_hub.schema import MISSING
from tests.made_answers import SEEDS, draw_codes, frame, ones, shares


@given(shares())
def test_wasserstein_equals_scipy_on_integer_positions(pair):
    p, q = pair
    at = np.arange(1, len(p) + 1)
    assert wasserstein(p, q) == pytest.approx(stats.wasserstein_distance(at, at, p, q), abs=1e-12)


@given(SEEDS, st.integers(2, 6), st.sampled_from(["pairwise", "listwise"]))
def test_alpha_equals_pingouin_with_missing_answers(seed, q, policy):
    codes = draw_codes(np.random.default_rng(seed), 60, [5] * q, missing=0.1)
    moments = AnswerTable(codes, [5] * q).moments(ones(60), listwise=policy == "listwise")
    expected = pingouin.cronbach_alpha(frame(codes), nan_policy=policy)[0]
    assert cronbach_alpha(moments.covariance)[0] == pytest.approx(expected, abs=1e-9)


@given(SEEDS)
def test_alpha_with_reverse_keys_equals_pingouin_on_turned_items(seed):
    n_options, keyed = [4, 6, 3], np.array([True, False, True])
    codes = draw_codes(np.random.default_rng(seed), 50, n_options, missing=0.1)
    turned = frame(codes)
    turned[0], turned[2] = 3 - turned[0], 2 - turned[2]
    alpha = cronbach_alpha(AnswerTable(codes, n_options).moments(ones(50), keyed=keyed).covariance)[0]
    assert alpha == pytest.approx(pingouin.cronbach_alpha(turned)[0], abs=1e-9)
    everything = AnswerTable(codes, n_options).moments(ones(50), keyed=[True] * 3).covariance
    plain = AnswerTable(codes, n_options).moments(ones(50)).covariance
    np.testing.assert_allclose(everything, plain, atol=1e-12)


@given(SEEDS, st.booleans())
def test_correlations_and_covariances_equal_pandas_with_missing_answers(seed, listwise):
    codes = draw_codes(np.random.default_rng(seed), 60, [3, 5, 4, 2], missing=0.15)
    table = frame(codes).dropna() if listwise else frame(codes)
    moments = AnswerTable(codes, [3, 5, 4, 2]).moments(ones(60), listwise=listwise)
    np.testing.assert_allclose(moments.correlation[0], table.corr(), atol=1e-9)
    np.testing.assert_allclose(moments.covariance[0], table.cov(), atol=1e-9)


@given(SEEDS)
def test_weighted_correlations_equal_numpy_pair_by_pair(seed):
    rng = np.random.default_rng(seed)
    codes, weights = draw_codes(rng, 50, [4, 5, 3], missing=0.1), rng.lognormal(size=50)
    found = AnswerTable(codes, [4, 5, 3]).moments(weights[None]).correlation[0]
    for i in range(3):
        for j in range(3):
            both = (codes[:, i] != MISSING) & (codes[:, j] != MISSING)
            c = np.cov(codes[both][:, i], codes[both][:, j], aweights=weights[both])
            assert found[i, j] == pytest.approx(c[0, 1] / np.sqrt(c[0, 0] * c[1, 1]), abs=1e-9)


def test_correlations_of_more_people_than_one_block_holds_equal_pandas():
    rng = np.random.default_rng(5)
    codes = draw_codes(rng, 30_000, [5] * 25, missing=0.05)
    found = AnswerTable(codes, [5] * 25).moments(ones(30_000)).correlation[0]
    np.testing.assert_allclose(found, frame(codes).corr(), atol=1e-9)


# -- scipy


@given(shares())
def test_divergences_and_entropy_equal_scipy(pair):
    p, q = pair
    assert metrics.jensen_shannon(p, q) == pytest.approx(spatial.distance.jensenshannon(p, q, base=2), abs=1e-9)
    assert metrics.entropy(p) == pytest.approx(stats.entropy(p, base=2), abs=1e-12)
    assert metrics.kl(p, q, smoothing=0) == pytest.approx(stats.entropy(p, q, base=2), abs=1e-12)
    smoothed = stats.entropy(p + 1e-3, q + 1e-3, base=2)
    assert metrics.kl(p, q, smoothing=1e-3) == pytest.approx(smoothed, abs=1e-12)


@given(shares(), SEEDS)
def test_ordinal_emd_equals_scipy_on_positions_over_their_span(pair, seed):
    p, q = pair
    at = np.random.default_rng(seed).normal(size=len(p))
    expected = stats.wasserstein_distance(at, at, p, q) / np.ptp(at)
    assert metrics.ordinal_emd(p, q, at) == pytest.approx(expected, abs=1e-9)


def spearman(table, n):
    return table.rank_correlation(ones(n), table.midranks())[0]


@given(SEEDS)
def test_spearman_equals_scipy_and_pandas_where_all_answered(seed):
    codes = draw_codes(np.random.default_rng(seed), 50, [4, 7, 3])
    found = spearman(AnswerTable(codes, [4, 7, 3]), 50)
    np.testing.assert_allclose(found, stats.spearmanr(codes).statistic, atol=1e-9)
    np.testing.assert_allclose(found, frame(codes).corr(method="spearman"), atol=1e-9)


@given(SEEDS)
def test_spearman_with_missing_answers_keeps_the_ranks_of_the_whole_item_where_pandas_ranks_anew(seed):
    codes = draw_codes(np.random.default_rng(seed), 50, [4, 7, 3], missing=0.3)
    found = spearman(AnswerTable(codes, [4, 7, 3]), 50)
    np.testing.assert_allclose(found, frame(codes).rank().corr(), atol=1e-9)
    anew = frame(codes).corr(method="spearman").to_numpy()
    assert 1e-9 < np.abs(found - anew).max() < 0.15


@given(SEEDS)
def test_spearman_of_whole_weights_equals_scipy_on_repeated_answers(seed):
    rng = np.random.default_rng(seed)
    codes, weights = draw_codes(rng, 30, [4, 5, 3]), rng.integers(1, 5, 30)
    table = AnswerTable(codes, [4, 5, 3])
    found = table.rank_correlation(weights[None] * 1.0, table.midranks(weights))[0]
    np.testing.assert_allclose(found, stats.spearmanr(codes.repeat(weights, axis=0)).statistic, atol=1e-9)


@given(SEEDS)
def test_weighted_covariances_differ_from_numpys_by_the_documented_denominator_alone(seed):
    rng = np.random.default_rng(seed)
    codes, w = draw_codes(rng, 40, [5, 4]), rng.lognormal(size=40)
    found = AnswerTable(codes, [5, 4]).moments(w[None]).covariance[0]
    reliability_weights = w.sum() - (w**2).sum() / w.sum()
    expected = np.cov(codes.T, aweights=w) * reliability_weights / (w.sum() - w.mean())
    np.testing.assert_allclose(found, expected, atol=1e-9)


# -- statsmodels


def factor_omega(moments, method):
    """Omega total from the one factor that statsmodels finds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = Factor(corr=moments.correlation[0], n_factor=1, method=method, nobs=2000)
        fitted = model.fit(maxiter=5000, tol=1e-13)
    loadings, spread = fitted.loadings[:, 0], np.sqrt(np.diag(moments.covariance[0]))
    common, unique = (loadings @ spread) ** 2, ((1 - loadings**2) * spread**2).sum()
    return common / (common + unique)


@given(SEEDS, st.integers(3, 6))
def test_omega_equals_the_principal_axis_factor_of_statsmodels(seed, k):
    codes = draw_codes(np.random.default_rng(seed), 300, [5] * k)
    moments = AnswerTable(codes, [5] * k).moments(ones(300))
    assert metrics.mcdonald_omega(moments.covariance)[0] == pytest.approx(factor_omega(moments, "pa"), abs=1e-9)


@pytest.mark.parametrize("scale", ["agreeableness", "conscientiousness", "extraversion", "neuroticism", "openness"])
def test_omega_of_the_bfi_scales_equals_statsmodels_and_lies_close_to_maximum_likelihood(scale):
    bfi = Respondents.load("bfi")
    questions = bfi.survey.select(list(bfi.survey.scales[scale])).questions
    codes = np.column_stack([bfi.answers[question.key] for question in questions])
    codes = codes[(codes != MISSING).all(axis=1)]
    moments = AnswerTable(codes, [6] * 5).moments(ones(len(codes)), keyed=[question.reverse for question in questions])
    found = metrics.mcdonald_omega(moments.covariance)[0]
    assert found == pytest.approx(factor_omega(moments, "pa"), abs=1e-9)
    assert found == pytest.approx(factor_omega(moments, "ml"), abs=0.006)
    assert 0 < found - cronbach_alpha(moments.covariance)[0] < 0.015


@settings(max_examples=15)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=15))
def test_adjusted_p_values_equal_statsmodels(p):
    for ours, name in (("holm", "holm"), ("bh", "fdr_bh")):
        np.testing.assert_allclose(resampling.adjust(p, ours), multipletests(p, method=name)[1], atol=1e-12)


# -- popfidelity, on the cells that it ships


def read(folder, question, side, **only):
    """Shares of the cells of one question as popfidelity ships them, shape (cells, K), with the names of the cells."""
    table = pd.read_csv(str(files(popfidelity) / "data" / folder / f"{side}_cells.csv"))
    for column, value in {"question": question, **only}.items():
        table = table[table[column] == value]
    wide = table.pivot(index="cell_id", columns="option", values="share")[table["option"].unique()]
    return wide.dropna()


QUESTIONS = ("ideo5", "relig_church", "economy_retro")
CES = [("ces", question, {"mode": mode}) for question in QUESTIONS for mode in ("ntp", "fa")]
CELLS = [*(("toy", "toy", {"source": model}) for model in ("M1", "M2", "M3")), *CES]


@pytest.fixture(params=CELLS, ids=lambda each: "-".join((each[1], *each[2].values())))
def cells(request):
    folder, question, only = request.param
    human, simulated = read(folder, question, "survey"), read(folder, question, "model", **only)
    both = human.index.intersection(simulated.index)
    assert len(both) >= 4
    return human.loc[both].to_numpy(), simulated.loc[both, human.columns].to_numpy()


def equal(ours, expected):
    np.testing.assert_allclose(ours, expected, rtol=1e-9, atol=1e-9)


def test_distances_equal_popfidelity(cells):
    human, simulated = cells
    k = human.shape[1]
    equal(metrics.wasserstein(human, simulated), theirs.distance(human, simulated, "emd"))
    equal(metrics.wasserstein(human, simulated) / (k - 1), theirs.distance(human, simulated, "nemd"))
    equal(metrics.ordinal_emd(human, simulated), theirs.distance(human, simulated, "nemd"))
    equal(metrics.total_variation(human, simulated), theirs.distance(human, simulated, "total_variation"))
    equal(metrics.jensen_shannon(human, simulated), theirs.distance(human, simulated, "js_distance"))
    equal(metrics.jensen_shannon(human, simulated) ** 2, theirs.distance(human, simulated, "js_divergence"))
    equal(metrics.hellinger(human, simulated), theirs.distance(human, simulated, "hellinger"))
    equal(metrics.kolmogorov_smirnov(human, simulated), theirs.distance(human, simulated, "kolmogorov_smirnov"))


def test_distances_with_positions_equal_popfidelity(cells):
    human, simulated = cells
    at = np.cumsum(1 + np.arange(human.shape[1]) % 3).tolist()
    ours = metrics.ordinal_emd(human, simulated, at)
    equal(ours, theirs.distance(human, simulated, "normalised_wasserstein", positions=at))
    equal(ours * (at[-1] - at[0]), theirs.distance(human, simulated, "wasserstein", positions=at))


def test_kl_equals_popfidelity_with_its_smoothing_and_any_other(cells):
    human, simulated = cells
    equal(metrics.kl(human, simulated), theirs.distance(human, simulated, "kl"))
    expected = theirs.distance(human, simulated, "kl", epsilon=1e-3, base=2)
    equal(metrics.kl(human, simulated, smoothing=1e-3), expected)


def test_alignment_scores_follow_from_our_distances(cells):
    human, simulated = cells
    equal(1 - metrics.ordinal_emd(human, simulated), alignment.opinionqa_alignment(human, simulated))
    equal(1 - metrics.jensen_shannon(human, simulated), alignment.globalopinionqa_similarity(human, simulated))
    equal(metrics.wasserstein(human, simulated), alignment.subpop_distance(human, simulated))
    expected = alignment.meister_alignment(human, simulated)["total_variation"]
    equal(metrics.total_variation(human, simulated).mean(), expected)


def as_cells(table):
    # Labels are sorted as text.
    labels, options = (tuple(f"{at:03}" for at in range(size)) for size in table.shape)
    return popfidelity.Cells(labels, options, table)


def test_concentration_equals_popfidelity_cell_by_cell_and_pooled(cells):
    human, simulated = cells
    found = metrics.concentration(simulated, human)
    equal(metrics.entropy(human), theirs.entropy(human))
    equal(found.collision_ratio, theirs.collision(simulated) / theirs.collision(human))
    equal(found.options_ratio, theirs.effective_categories(simulated) / theirs.effective_categories(human))
    modes = dispersion.modal_collapse(as_cells(human), as_cells(simulated))
    equal(found.modal_excess, modes["model_concentration"] - modes["survey_concentration"])
    assert ((found.modal_excess > 0.15) == modes["collapsed"]).all()
    pooled = metrics.concentration(simulated.mean(axis=0), human.mean(axis=0))
    ratios = dispersion.diversity_ratios(as_cells(human), as_cells(simulated))
    equal(pooled.entropy_ratio, ratios["entropy_ratio"])
    equal(pooled.options_ratio, ratios["effective_categories_ratio"])
    equal(pooled.collision_ratio, ratios["collision_ratio"])


@pytest.mark.parametrize("least", [0.0, 0.05])
def test_lost_options_equal_popfidelity(cells, least):
    human, simulated = cells
    found = metrics.concentration(simulated, human, least=least)
    expected = dispersion.support_collapse(as_cells(human), as_cells(simulated), threshold=least)
    equal(found.lost_options, expected["collapsed_options"])
    equal(found.lost_share, expected["unexpressed_prevalence"])


def test_gap_inflation_equals_popfidelity(cells):
    human, simulated = cells
    side = np.where(np.arange(len(human)) < len(human) // 2, "a", "b")
    facets = popfidelity.facets_from_frame(pd.DataFrame({"cell_id": as_cells(human).labels, "side": side}))
    found = dispersion.gap_inflation(as_cells(human), as_cells(simulated), facets, "side", from_option=1)
    groups = [np.stack([shown[side == which].mean(axis=0) for which in "ab"]) for shown in (simulated, human)]
    equal(metrics.gap_inflation(*groups, from_option=1), found["gap_inflation"])


@given(SEEDS, st.integers(2, 6))
def test_alpha_and_correlations_equal_popfidelity_where_all_answered(seed, q):
    codes = draw_codes(np.random.default_rng(seed), 40, [5] * q)
    table = AnswerTable(codes, [5] * q)
    moments = table.moments(ones(40))
    equal(cronbach_alpha(moments.covariance)[0], reliability.cronbach_alpha(codes))
    one, other = codes[:, 0], codes[:, 1]
    equal(moments.correlation[0, 0, 1], structure.correlation(one, other, "pearson")[0])
    equal(spearman(table, 40)[0, 1], structure.correlation(one, other, "spearman")[0])


def test_t_intervals_over_runs_equal_popfidelity():
    deviations, runs = [0.1, 0.25, np.nan, 0.07], [3, 2, 1, 5]
    for level in (0.8, 0.95):
        ours = resampling.pooled_t_reach(deviations, runs, level=level)
        equal(ours, uncertainty.pooled_t_interval(deviations, runs, level))
        centre, half = uncertainty.mean_interval([0.11, 0.14, 0.12], level)
        pooled = resampling.pool_seeds([0.11, 0.14, 0.12], level=level)
        equal([pooled.value, pooled.high - pooled.value], [centre, half])
