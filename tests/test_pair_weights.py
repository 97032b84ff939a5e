"""The best personas are found without the weights of all pairs, and are those that computing all would give."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anthology_hub import pair_weights
from anthology_hub.choosing import Choosers
from anthology_hub.pair_weights import PairWeights, snapped
from anthology_hub.schema import MISSING

SEEDS = st.integers(0, 2**32 - 1)
FLOOR = {"a": 1e-4, "b": 1e-3, "c": 1e-4}
LEVELS = {"a": 4, "b": 2, "c": 5}


def world(seed, respondents, personas, *, rounded=False, levels=None, likeness=1.0):
    """Probabilities and levels, some of them not known; rounded to tenths they tie, and many personas are equal."""
    rng = np.random.default_rng(seed)
    tables, codes = {}, {}
    for name, size in (levels or LEVELS).items():
        probs = rng.dirichlet(np.ones(size), personas)
        tables[name] = probs.round(1) if rounded else probs
        tables[name][rng.random(personas) < 0.1] = np.nan
        codes[name] = rng.choice(size, respondents, p=rng.dirichlet(np.ones(size) * likeness)).astype(np.int16)
        codes[name][rng.random(respondents) < 0.1] = MISSING
    return tables, codes


def by_hand(tables, codes, floor, *, importance=None):
    """Weights of all pairs, shape (respondents, personas)."""
    total = 1.0
    for name, table in tables.items():
        uniform = 1 / table.shape[1]
        probs = np.where(np.isnan(table), uniform, table)[:, np.maximum(codes[name], 0)].T
        probs = np.where(codes[name][:, None] == MISSING, uniform, probs)
        total = total * np.maximum(probs, floor[name]) ** (importance or {}).get(name, 1)
    return total


@given(SEEDS, st.integers(1, 40), st.integers(1, 90), st.booleans())
@settings(max_examples=40, deadline=None)
def test_weights_of_all_pairs_are_the_floored_products(seed, respondents, personas, rounded):
    tables, codes = world(seed, respondents, personas, rounded=rounded)
    power = {"a": 0.5, "b": 2}
    weights = PairWeights.of(tables, codes, floor=FLOOR, importance=power)
    expected = by_hand(tables, codes, FLOOR, importance=power)
    order = np.random.default_rng(seed).permutation(personas)
    found = weights.dense(np.arange(respondents), order)
    np.testing.assert_allclose(found, expected[:, order], rtol=1e-9)
    pairs = weights.at(weights.profile_of, weights.row_of[np.arange(respondents) % personas])
    np.testing.assert_allclose(pairs, expected[np.arange(respondents), np.arange(respondents) % personas], rtol=1e-12)
    lines = weights.row(int(weights.profile_of[0]))[weights.row_of]
    np.testing.assert_allclose(lines, expected[0], rtol=1e-12)


@given(SEEDS, st.integers(1, 60), st.integers(1, 200), st.integers(1, 30), st.booleans(), st.booleans())
@settings(max_examples=60, deadline=None)
def test_the_best_rows_are_those_that_a_sort_of_all_weights_gives(seed, respondents, personas, k, rounded, priced):
    tables, codes = world(seed, respondents, personas, rounded=rounded)
    weights = PairWeights.of(tables, codes, floor=FLOOR)
    rng = np.random.default_rng(seed)
    rows, profiles = len(weights.stock), len(weights.supply)
    prices = rng.random(rows) * 0.3 if priced else np.zeros(rows)
    above = rng.random(profiles) * 0.1 if priced else np.full(profiles, -np.inf)
    values = np.stack([weights.row(profile) for profile in range(profiles)]) - prices
    seen = 0
    for found in weights.best(k, prices=prices if priced else None, above=above if priced else None):
        for profile in np.unique(found.profile):
            mine = found.take(found.profile == profile)
            best = np.sort(values[profile][values[profile] > above[profile]])[::-1]
            np.testing.assert_array_equal(mine.value[:k], best[:k])
            np.testing.assert_array_equal(mine.value, values[profile, mine.row])
            # Beyond the k best come those that tie with the last, and nobody twice.
            assert len(set(mine.row.tolist())) == len(mine.row) >= min(k, len(best))
            np.testing.assert_allclose(mine.value[k:], best[min(k, len(best)) - 1], rtol=1e-8)
            seen += 1
    assert seen == (values > above[:, None]).any(axis=1).sum()


def test_equal_respondents_and_equal_personas_are_merged_whatever_no_respondent_asks_for():
    tables = {"a": np.array([[0.5, 0.3, 0.2], [0.5, 0.2, 0.3], [0.6, 0.2, 0.2], [np.nan] * 3, [1 / 3] * 3])}
    weights = PairWeights.of(tables, {"a": np.array([0, 0, 0])}, floor=FLOOR)
    assert weights.supply.tolist() == [3] and sorted(weights.stock.tolist()) == [1, 2, 2]
    assert weights.row_of[0] == weights.row_of[1] != weights.row_of[2] and weights.row_of[3] == weights.row_of[4]
    apart = PairWeights.of(tables, {"a": np.array([0, 1])}, floor=FLOOR)
    assert len(apart.stock) == 4 and apart.row_of[3] == apart.row_of[4]


def test_personas_whose_hashes_collide_are_kept_apart(monkeypatch):
    tables, codes = world(0, 5, 40)
    content = pair_weights._content
    monkeypatch.setattr(pair_weights, "_content", lambda columns: (content(columns)[0] * 0, content(columns)[1]))
    weights = PairWeights.of(tables, codes, floor=FLOOR)
    np.testing.assert_allclose(weights.dense(np.arange(5), np.arange(40)), by_hand(tables, codes, FLOOR), rtol=1e-9)


def test_a_probability_of_zero_stays_zero_where_impossible_pairs_are_none():
    tables = {"a": np.array([[0.0, 1.0], [1e-9, 1 - 1e-9], [np.nan, np.nan]])}
    weights = PairWeights.of(tables, {"a": np.array([0], dtype=np.int16)}, floor=FLOOR, impossible=False)
    assert weights.dense(np.arange(1), np.arange(3)).round(9).tolist() == [[0, 1e-4, 0.5]]


@given(st.lists(st.floats(1e-12, 1), min_size=2, max_size=5), SEEDS)
@settings(deadline=None)
def test_products_of_the_same_factors_in_another_order_tie(factors, seed):
    other = np.random.default_rng(seed).permutation(factors)
    one, two = np.array([np.prod(factors)]), np.array([np.prod(other)])
    near = abs(snapped(one)[0] - snapped(two)[0])
    # Equal, but for the one in a million that lies where rounding turns.
    assert near == 0 or abs(one[0] - snapped(one)[0]) > 0.49 * 2**-31 * one[0]
    assert abs(snapped(one)[0] / one[0] - 1) <= 2**-30


def test_extreme_floors_and_many_traits_do_not_lose_the_best_to_underflow():
    names = "abcdefghijkl"
    tables = {name: np.array([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]) for name in names}
    tables["a"] = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
    codes = {name: np.zeros(1, dtype=np.int16) for name in names} | {"b": np.ones(1, dtype=np.int16)}
    # Weights of 1e-48 and 1e-4, and of 1e-44: below what single precision holds.
    weights = PairWeights.of(tables, codes, floor=dict.fromkeys(names, 1e-4))
    (found,) = weights.best(3)
    order = [weights.row_of.tolist().index(row) for row in found.row]
    assert order == [1, 2, 0]
    np.testing.assert_allclose(found.value, [1e-4, 1e-40, 1e-44], rtol=1e-9)


@pytest.mark.parametrize("method", ["greedy", "cast"])
def test_matching_holds_blocks_of_weights_and_never_all(method):
    respondents, personas = 500, 20_000
    tables, codes = world(0, respondents, personas)
    choosers = Choosers([f"r{at}" for at in range(respondents)], [f"p{at}" for at in range(personas)])
    tracemalloc.start()
    weights = PairWeights.of(tables, codes, floor=FLOOR)
    getattr(choosers, method)(weights)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < respondents * personas * 8 / 2
