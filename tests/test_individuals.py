"""Personas against their own humans: by hand, by brute force, and on people who were really asked twice."""

from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anthology_hub import Respondents
from anthology_hub.errors import DataError, EmptyError
from anthology_hub.individuals import Pairs
from anthology_hub.schema import MISSING

SEEDS = st.integers(0, 2**32 - 1)
N_OPTIONS, ORDINAL = (5, 3, 4), (True, True, False)


def ones(n):
    return np.ones((1, n))


def draw(seed, n=30, *, missing=0.15):
    """Answers of humans, of personas that half follow them, and of the humans once more."""
    rng = np.random.default_rng(seed)
    human = rng.integers(0, N_OPTIONS, (n, 3))
    sides = [human] + [np.where(rng.random((n, 3)) < 0.6, human, rng.integers(0, N_OPTIONS, (n, 3))) for _ in range(2)]
    for codes in sides:
        codes[rng.random((n, 3)) < missing] = MISSING
    # The first people are complete and differ, so that every figure is defined.
    for codes in sides:
        codes[:3] = [[0, 0, 0], [1, 1, 1], [2, 2, 2]]
    return sides, rng.integers(1, 4, (4, n)).astype(float)


def drawn(seed, **options):
    (human, simulated, again), weights = draw(seed, **options)
    return Pairs(simulated, human, N_OPTIONS, ORDINAL, retest=again), weights


def reference(simulated, human, weights, *, where=True):
    """The plain definitions, item by item, with pandas' and numpy's own means and correlations."""
    found = {name: [] for name in ("accuracy", "mad_accuracy", "item_correlation", "variance_ratio")}
    for item, k in enumerate(N_OPTIONS):
        kept = (simulated[:, item] >= 0) & (human[:, item] >= 0) & where
        table = pd.DataFrame({"s": simulated[kept, item], "h": human[kept, item]}).astype(float)
        w = weights[kept]
        found["accuracy"].append(np.average(table.s == table.h, weights=w))
        if ORDINAL[item]:
            found["mad_accuracy"].append(np.average(1 - (table.s - table.h).abs() / (k - 1), weights=w))
            covariance = np.cov(table.s, table.h, aweights=w)
            found["item_correlation"].append(covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1]))
            found["variance_ratio"].append(np.sqrt(covariance[0, 0] / covariance[1, 1]))
    return {name: np.mean(values) for name, values in found.items()}


# -- figures


def test_the_figures_of_four_pairs_are_what_one_counts_by_hand():
    pairs = Pairs([[0], [1], [2], [2]], [[0], [2], [2], [0]], [3], [True])
    found = {name: value[0] for name, value in pairs.figures(ones(4)).items()}
    assert found["accuracy"] == 0.5
    assert found["mad_accuracy"] == pytest.approx((1 + 0.5 + 1 + 0) / 4)
    # Means 1.25 and 1, sums of squares 2.75 and 4, of products 1.
    assert found["item_correlation"] == pytest.approx(1 / np.sqrt(2.75 * 4))
    assert found["variance_ratio"] == pytest.approx(np.sqrt(2.75 / 4))
    assert set(found) == {"accuracy", "mad_accuracy", "item_correlation", "variance_ratio"}


@given(SEEDS)
def test_every_figure_is_the_mean_over_items_of_the_plain_definitions(seed):
    pairs, weights = drawn(seed)
    figures = pairs.figures(weights)
    three = (pairs.retest >= 0) & (pairs.simulated >= 0)
    for row, w in enumerate(weights):
        for name, value in reference(pairs.simulated, pairs.human, w).items():
            assert figures[name][row] == pytest.approx(value, abs=1e-9)
        for name, value in reference(pairs.retest, pairs.human, w).items():
            assert figures[f"retest_{name}"][row] == pytest.approx(value, abs=1e-9)
        simulated, again = (np.where(three, codes, MISSING) for codes in (pairs.simulated, pairs.retest))
        top, bottom = (reference(codes, pairs.human, w) for codes in (simulated, again))
        for name in ("accuracy", "mad_accuracy"):
            assert figures[f"normalised_{name}"][row] == pytest.approx(top[name] / bottom[name], abs=1e-9)


@given(SEEDS)
def test_figures_are_the_means_of_the_items_and_count_their_pairs(seed):
    pairs, weights = drawn(seed)
    items, figures = pairs.items(weights), pairs.figures(weights)
    np.testing.assert_allclose(items["accuracy"].mean(axis=1), figures["accuracy"])
    np.testing.assert_allclose(items["item_correlation"][:, :2].mean(axis=1), figures["item_correlation"])
    assert np.isnan(items["mad_accuracy"][:, 2]).all()
    both = (pairs.simulated >= 0) & (pairs.human >= 0)
    assert pairs.pairs.tolist() == both.sum(axis=0).tolist()
    assert pairs.retested.tolist() == (both & (pairs.retest >= 0)).sum(axis=0).tolist()


@given(SEEDS, st.floats(1e-6, 1e6))
def test_a_common_factor_on_the_weights_changes_nothing(seed, factor):
    pairs, weights = drawn(seed)
    cells = np.arange(len(pairs)) % 4
    scaled, plain = pairs.figures(weights * factor), pairs.figures(weights)
    for name, value in plain.items():
        np.testing.assert_allclose(scaled[name], value, rtol=1e-9)
    scaled, plain = (pairs.baselines(w[:1], cells=cells) for w in (weights * factor, weights))
    for baseline, figures in plain.items():
        for name, value in figures.items():
            np.testing.assert_allclose(scaled[baseline][name], value, rtol=1e-7, atol=1e-9)


@given(SEEDS)
def test_a_weight_of_two_counts_a_pair_twice(seed):
    (human, simulated, again), weights = draw(seed)
    often = weights[0].astype(int)
    weighted = Pairs(simulated, human, N_OPTIONS, ORDINAL, retest=again).figures(weights[:1])
    repeated = [np.repeat(codes, often, axis=0) for codes in (simulated, human, again)]
    plain = Pairs(*repeated[:2], N_OPTIONS, ORDINAL, retest=repeated[2]).figures(ones(often.sum()))
    for name, value in plain.items():
        np.testing.assert_allclose(weighted[name], value, rtol=1e-9)


@given(SEEDS)
def test_counting_options_from_the_other_end_or_people_in_another_order_changes_nothing(seed):
    pairs, weights = drawn(seed)
    order = np.random.default_rng(seed).permutation(len(pairs))
    sides = (pairs.simulated, pairs.human, pairs.retest)
    turned = [np.where(codes < 0, codes, np.array(N_OPTIONS) - 1 - codes)[order] for codes in sides]
    other = Pairs(*turned[:2], N_OPTIONS, ORDINAL, retest=turned[2]).figures(weights[:, order])
    for name, value in pairs.figures(weights).items():
        np.testing.assert_allclose(other[name], value, atol=1e-9)


@given(SEEDS)
def test_who_gives_the_humans_own_answers_is_perfect_and_all_figures_keep_their_range(seed):
    pairs, weights = drawn(seed)
    perfect = Pairs(pairs.human, pairs.human, N_OPTIONS, ORDINAL).figures(weights)
    for value in perfect.values():
        np.testing.assert_allclose(value, 1)
    figures = pairs.figures(weights)
    for name in ("accuracy", "mad_accuracy"):
        assert (figures[name] >= 0).all() and (figures[name] <= 1).all()
    assert (np.abs(figures["item_correlation"]) <= 1).all() and (figures["variance_ratio"] >= 0).all()
    assert (figures["mad_accuracy"] >= pairs.items(weights)["accuracy"][:, :2].mean(axis=1) - 1e-12).all()


def test_answers_of_the_opposite_end_are_the_worst():
    pairs = Pairs([[4], [0], [4]], [[0], [4], [0]], [5], [True])
    figures = {name: value[0] for name, value in pairs.figures(ones(3)).items()}
    assert figures["accuracy"] == 0 and figures["mad_accuracy"] == 0
    assert figures["item_correlation"] == pytest.approx(-1) and figures["variance_ratio"] == pytest.approx(1)


# -- retest


def test_a_persona_as_good_as_the_persons_own_second_answer_has_normalised_accuracy_1():
    human, again = [[0], [1], [2], [0]], [[0], [2], [2], [MISSING]]
    other_mistake = [[1], [1], [2], [0]]
    figures = Pairs(other_mistake, human, [3], [True], retest=again).figures(ones(4))
    assert figures["accuracy"][0] == 0.75 and figures["retest_accuracy"][0] == pytest.approx(2 / 3)
    # The fourth person was not asked again: 2 of 3 on either side.
    assert figures["normalised_accuracy"][0] == pytest.approx(1)
    assert figures["normalised_mad_accuracy"][0] == pytest.approx(1)


def test_normalised_accuracy_divides_the_means_over_items_and_leaves_items_without_a_retest_out():
    human = [[0, 0, 0], [1, 1, 1]]
    again = [[0, 1, MISSING], [1, 1, MISSING]]
    figures = Pairs([[0, 0, 1], [0, 0, 0]], human, [2, 2, 2], [True] * 3, retest=again).figures(ones(2))
    assert figures["accuracy"][0] == pytest.approx((0.5 + 0.5 + 0) / 3)
    # Persona 1/2 and 1/2, people 2/2 and 1/2; the mean of the two ratios would be 0.75.
    assert figures["normalised_accuracy"][0] == pytest.approx(0.5 / 0.75)


def test_what_the_retest_cannot_tell_is_undefined_and_the_rest_is_not():
    nobody = Pairs([[0], [1]], [[0], [1]], [2], [True], retest=[[MISSING], [MISSING]]).figures(ones(2))
    assert nobody["accuracy"][0] == 1 and np.isnan(nobody["retest_accuracy"][0])
    assert np.isnan(nobody["normalised_accuracy"][0]) and np.isnan(nobody["normalised_mad_accuracy"][0])
    never = Pairs([[0], [1]], [[0], [1]], [2], [True], retest=[[1], [0]]).figures(ones(2))
    assert never["retest_accuracy"][0] == 0 and np.isnan(never["normalised_accuracy"][0])


def test_the_people_of_the_gss_panel_reach_their_own_ceiling_exactly(gss_panel_file):
    first, second = (
        Respondents.from_gss(gss_panel_file, wave=wave, survey="gss-national-spending") for wave in (2018, 2020)
    )
    at = {name: row for row, name in enumerate(second.ids)}
    rows = [(row, at[name]) for row, name in enumerate(first.ids) if name in at]
    before, after = np.array(rows).T
    human = np.stack([first.answers[key][before] for key in first.survey.keys], axis=1)
    again = np.stack([second.answers[key][after] for key in first.survey.keys], axis=1)
    n_options = [len(question.options) for question in first.survey.questions]
    weights = first.weights[before][None]
    pairs = Pairs(again, human, n_options, [True] * len(n_options), retest=again)
    figures = {name: value[0] for name, value in pairs.figures(weights).items()}
    assert len(pairs) == 1012 and figures["normalised_accuracy"] == figures["normalised_mad_accuracy"] == 1
    assert figures["accuracy"] == figures["retest_accuracy"]
    shares = []
    for item in range(human.shape[1]):
        both = (human[:, item] >= 0) & (again[:, item] >= 0)
        shares.append(np.average(human[both, item] == again[both, item], weights=weights[0, both]))
    assert figures["accuracy"] == pytest.approx(np.mean(shares), abs=1e-12)
    baselines = pairs.baselines(weights, cells=np.zeros(len(pairs), dtype=int))
    # People repeat themselves more often than a guess hits them, but far from always.
    assert figures["accuracy"] == pytest.approx(0.6477, abs=1e-4)
    assert baselines["majority"]["accuracy"][0] == pytest.approx(0.5793, abs=1e-4)
    assert baselines["uniform"]["accuracy"][0] == pytest.approx(1 / 3)
    # One cell of everybody: its mode and median are the majority's, but for who tips them.
    assert baselines["cells"]["accuracy"][0] == pytest.approx(baselines["majority"]["accuracy"][0], abs=0.01)
    assert baselines["cells"]["mad_accuracy"][0] >= baselines["majority"]["mad_accuracy"][0] - 0.01
    assert baselines["majority"]["normalised_accuracy"][0] == pytest.approx(
        baselines["majority"]["accuracy"][0] / figures["accuracy"]
    )


# -- undefined


def test_a_persona_that_answers_everybody_alike_has_no_correlation_and_no_spread():
    pairs = Pairs([[1, 0], [1, 2], [1, 1]], [[0, 0], [1, 2], [2, 1]], [3, 3], [True, True])
    figures, items = pairs.figures(ones(3)), pairs.items(ones(3))
    assert np.isnan(figures["item_correlation"][0])
    assert np.isnan(items["item_correlation"][0, 0]) and items["item_correlation"][0, 1] == pytest.approx(1)
    assert items["variance_ratio"][0].tolist() == pytest.approx([0, 1])


def test_humans_of_one_mind_leave_spread_and_correlation_undefined():
    figures = Pairs([[0], [1]], [[1], [1]], [2], [True]).figures(ones(2))
    assert figures["accuracy"][0] == 0.5
    assert np.isnan(figures["item_correlation"][0]) and np.isnan(figures["variance_ratio"][0])


def test_items_without_a_complete_pair_are_left_out_and_counted():
    pairs = Pairs([[0, MISSING], [0, 1]], [[0, 1], [1, MISSING]], [2, 2], [True, True])
    assert pairs.pairs.tolist() == [2, 0] and pairs.retested.tolist() == [0, 0]
    assert pairs.figures(ones(2))["accuracy"][0] == 0.5
    nothing = Pairs([[MISSING]], [[0]], [2], [True])
    assert all(np.isnan(value[0]) for value in nothing.figures(ones(1)).values())
    assert all(np.isnan(v[0]) for found in nothing.baselines(ones(1), cells=[0]).values() for v in found.values())


def test_a_row_of_weights_that_leaves_nobody_is_undefined_and_the_other_rows_are_not():
    pairs = Pairs([[0], [1], [1]], [[0], [1], [0]], [2], [True])
    weights = np.array([[0.0, 0, 0], [1, 1, 0], [0, 0, 1]])
    assert pairs.figures(weights)["accuracy"].tolist() == pytest.approx([np.nan, 1, 0], nan_ok=True)
    found = pairs.baselines(weights, cells=[0, 0, 0])
    assert found["uniform"]["accuracy"].tolist() == pytest.approx([np.nan, 0.5, 0.5], nan_ok=True)
    assert found["cells"]["accuracy"].tolist() == pytest.approx([np.nan, 0, np.nan], nan_ok=True)


def test_nominal_items_count_in_accuracy_only():
    figures = Pairs([[0], [1]], [[0], [1]], [3], [False]).figures(ones(2))
    assert figures["accuracy"][0] == 1
    assert all(np.isnan(figures[name][0]) for name in ("mad_accuracy", "item_correlation", "variance_ratio"))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"simulated": [[0, 3], [1, 1]]}, "question 1 has the options 0..2, but the simulated answers have 3"),
        ({"retest": [[2, 0], [1, 1]]}, "question 0 has the options 0..1, but the retest answers have 2"),
        ({"simulated": [[0, 0]]}, "simulated answers of shape (1, 2) do not pair with human ones of (2, 2)"),
        ({"human": [[0, -2], [1, 1]]}, "0..K-1, or -1 where there is none, got -2"),
        ({"human": [[0.5, 0], [1, 1]]}, "whole numbers of shape (people, columns), got float64"),
        ({"n_options": [2, 1]}, "numbers of options from 2 and 2 marks of order, got [2, 1]"),
        ({"ordinal": [True]}, "2 marks of order, got [2, 3] and [True]"),
    ],
)
def test_answers_that_do_not_fit_are_told_with_what_is_allowed(change, told):
    good = {"simulated": [[0, 2], [1, 1]], "human": [[0, 2], [1, 1]], "n_options": [2, 3], "ordinal": [True, False]}
    given_all = good | change
    retest = given_all.pop("retest", None)
    with pytest.raises(DataError) as error:
        Pairs(*given_all.values(), retest=retest)
    assert told in str(error.value)


def test_nobody_at_all_is_told():
    with pytest.raises(EmptyError, match=r"shape \(0, 1\): at least one person"):
        Pairs(np.zeros((0, 1), dtype=int), np.zeros((0, 1), dtype=int), [2], [True])


@pytest.mark.parametrize(
    ("weights", "told"),
    [
        ([1.0, 1.0], r"weights of shape \(2,\) do not fit 2 people: give \(rows, 2\)"),
        (np.ones((1, 3)), r"shape \(1, 3\) do not fit 2 people"),
        (np.ones((0, 2)), "rows >= 1"),
        ([[1.0, -0.5]], "finite numbers from 0, got -0.5 to 1.0: leave out"),
        ([[1.0, np.nan]], "got nan to nan"),
        ([[1.0, np.inf]], "got 1.0 to inf"),
    ],
)
def test_weights_that_are_none_are_told(weights, told):
    with pytest.raises(DataError, match=told):
        Pairs([[0], [1]], [[0], [1]], [2], [True]).figures(weights)


# -- baselines


@given(SEEDS)
def test_uniform_is_the_mean_over_all_who_give_everybody_one_option(seed):
    pairs, weights = drawn(seed)
    found = pairs.baselines(weights)["uniform"]
    for name in ("accuracy", "mad_accuracy"):
        items = []
        for item, k in enumerate(N_OPTIONS):
            human = pairs.human[:, [item]]
            fixed = [np.where(pairs.simulated[:, [item]] < 0, MISSING, option) for option in range(k)]
            items.append(np.mean([Pairs(s, human, [k], [True]).figures(weights)[name] for s in fixed], axis=0))
        kept = items if name == "accuracy" else items[:2]
        np.testing.assert_allclose(found[name], np.mean(kept, axis=0), atol=1e-12)
    assert (found["item_correlation"] == 0).all()


def test_margins_are_the_mean_over_all_permutations_of_the_humans_answers():
    human = np.array([0, 0, 1, 2, 2])
    found = Pairs(human[:, None], human[:, None], [3], [True]).baselines(ones(5))["margins"]
    runs = [
        Pairs(np.array(order)[:, None], human[:, None], [3], [True]).figures(ones(5)) for order in permutations(human)
    ]
    for name in ("accuracy", "mad_accuracy", "item_correlation", "variance_ratio"):
        assert found[name][0] == pytest.approx(np.mean([run[name][0] for run in runs]), abs=1e-12)
    # Shares 0.4, 0.2, 0.4.
    assert found["accuracy"][0] == pytest.approx(0.36) and found["variance_ratio"][0] == pytest.approx(1)


@given(SEEDS)
def test_majority_scores_as_a_persona_with_the_most_frequent_option_and_no_guess_of_one_option_beats_it(seed):
    pairs, weights = drawn(seed, missing=0)
    found = pairs.baselines(weights)["majority"]
    for row, w in enumerate(weights):
        modes = [np.bincount(pairs.human[:, item], weights=w, minlength=k).argmax() for item, k in enumerate(N_OPTIONS)]
        scored = Pairs(np.tile(modes, (len(pairs), 1)), pairs.human, N_OPTIONS, ORDINAL).figures(w[None])
        assert found["accuracy"][row] == pytest.approx(scored["accuracy"][0], abs=1e-12)
        assert found["mad_accuracy"][row] == pytest.approx(scored["mad_accuracy"][0], abs=1e-12)
    assert np.isnan(found["item_correlation"]).all() and (found["variance_ratio"] == 0).all()
    others = pairs.baselines(weights)
    assert (found["accuracy"] >= others["margins"]["accuracy"] - 1e-12).all()
    assert (others["margins"]["accuracy"] >= others["uniform"]["accuracy"] - 1e-12).all()


def brute_cells(human, cells, weights, k):
    """The leave-one-out guess from the cell, person by person; one complete ordinal item."""
    hits, guesses, middles = [], [], []
    for one in range(len(human)):
        others = np.arange(len(human)) != one
        mates = others & (cells == cells[one]) & (cells[one] != MISSING)
        mates = mates if mates.any() else others
        shares = np.bincount(human[mates], weights=weights[mates], minlength=k)
        modes = np.flatnonzero(np.isclose(shares, shares.max()))
        hits.append((human[one] in modes) / len(modes))
        guesses.append(np.average(human[mates], weights=weights[mates]))
        middles.append(np.median(np.repeat(human[mates], weights[mates].astype(int))))
    return np.array(hits), np.array(guesses), np.array(middles)


@given(SEEDS)
def test_cells_guess_from_the_others_of_the_cell_and_never_from_oneself(seed):
    rng = np.random.default_rng(seed)
    human, cells, weights = rng.integers(0, 4, 25), rng.integers(MISSING, 5, 25), rng.integers(1, 4, 25).astype(float)
    cells[:4], human[:4] = [0, 0, 1, 1], [0, 1, 2, 3]
    hits, guesses, middles = brute_cells(human, cells, weights, 4)
    pairs = Pairs(human[:, None], human[:, None], [4], [True])
    found = {name: value[0] for name, value in pairs.baselines(weights[None], cells=cells)["cells"].items()}
    assert found["accuracy"] == pytest.approx(np.average(hits, weights=weights))
    assert found["mad_accuracy"] == pytest.approx(np.average(1 - np.abs(middles - human) / 3, weights=weights))
    covariance = np.cov(guesses, human, aweights=weights)
    assert found["item_correlation"] == pytest.approx(
        covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1]), abs=1e-9
    )
    assert found["variance_ratio"] == pytest.approx(np.sqrt(covariance[0, 0] / covariance[1, 1]), abs=1e-9)
    alone = np.array([(cells == cell).sum() == 1 or cell == MISSING for cell in cells])
    assert found["fallback"] == pytest.approx(np.average(alone, weights=weights))


def test_two_people_of_a_cell_who_differ_never_guess_each_other():
    human = np.array([[0], [1], [0], [1]])
    found = Pairs(human, human, [2], [True]).baselines(ones(4), cells=[0, 0, 1, 1])["cells"]
    assert found["accuracy"][0] == 0 and found["mad_accuracy"][0] == 0
    assert found["item_correlation"][0] == pytest.approx(-1) and found["fallback"][0] == 0


def test_a_single_cell_has_no_correlation_since_leaving_oneself_out_alone_gives_minus_1():
    human = np.array([[0], [1], [2], [0], [1]])
    found = Pairs(human, human, [3], [True]).baselines(ones(5), cells=[0] * 5)["cells"]
    assert np.isnan(found["item_correlation"][0]) and found["mad_accuracy"][0] > 0


def test_people_who_weigh_next_to_nothing_are_nobodys_neighbours():
    human = np.array([[0], [1], [1]])
    found = Pairs(human, human, [2], [True]).baselines([[1.0, 1e-200, 1.0]], cells=[0, 0, 1])["cells"]
    assert found["accuracy"][0] == 0 and found["fallback"][0] == pytest.approx(1)


def test_baselines_have_normalised_accuracies_on_the_people_with_a_retest():
    human, again = [[0], [0], [1], [1]], [[0], [1], [1], [MISSING]]
    pairs = Pairs([[0], [1], [1], [MISSING]], human, [2], [True], retest=again)
    found = pairs.baselines(ones(4), cells=[0, 0, 1, 1])
    # Of the three with everything, people repeat two of three answers; majority (0) hits two of three.
    assert found["majority"]["normalised_accuracy"][0] == pytest.approx(1)
    assert found["uniform"]["normalised_accuracy"][0] == pytest.approx(0.5 / (2 / 3))
    # The fourth, of whom nothing is judged, still tells what the third says: all three are hit.
    assert found["cells"]["normalised_accuracy"][0] == pytest.approx(1 / (2 / 3))
    assert "normalised_accuracy" not in Pairs([[0]], [[0]], [2], [True]).baselines(ones(1))["uniform"]


@pytest.mark.parametrize("cells", [[0], [0, -2], [0.0, 1.0], []])
def test_cells_that_do_not_fit_are_told(cells):
    with pytest.raises(DataError, match="cells are 2 whole numbers from 0, -1 where not known, got"):
        Pairs([[0], [1]], [[0], [1]], [2], [True]).baselines(ones(2), cells=np.array(cells))
