"""A casting without all weights in memory is the best there is, and its prices prove it."""

import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from anthology_hub import Anthology, diagnose, match, matching
from anthology_hub.assignment import cast
from anthology_hub.choosing import UNMATCHED, Choosers
from anthology_hub.errors import AnthologyWarning, EmptyError, MissingExtraError, OptionError
from anthology_hub.pair_weights import PairWeights
from tests.test_matching import CODEBOOK, PARTIES, chosen, humans_of, people_of, random_world, weights_of
from tests.test_pair_weights import FLOOR, SEEDS, by_hand, world


def best_total(weights, capacity=1):
    """By scipy, on all seats."""
    seats = np.repeat(weights, capacity, axis=1)
    return seats[linear_sum_assignment(seats, maximize=True)].sum()


@given(SEEDS, st.integers(1, 60), st.integers(1, 80), st.integers(1, 3), st.sampled_from([None, 1.0, 0.2]))
@settings(max_examples=60, deadline=None)
def test_the_total_weight_is_scipy_s_and_the_prices_bound_every_pair(seed, respondents, personas, capacity, contested):
    tables, codes = world(seed, respondents, personas, rounded=contested is not None, likeness=contested or 5.0)
    found = cast(PairWeights.of(tables, codes, floor=FLOOR), capacity)
    weights = PairWeights.of(tables, codes, floor=FLOOR)
    expected = by_hand(tables, codes, FLOOR)
    assert found.total == pytest.approx(best_total(expected, capacity), rel=1e-9)
    # The proof, from all pairs and the prices alone: nobody can be worth more than the best weight less its price.
    prices = found.prices[weights.row_of]
    assert (prices >= 0).all()
    gains = np.maximum((expected - prices).max(axis=1), 0)
    assert gains.sum() + capacity * prices.sum() == pytest.approx(found.total, rel=1e-9)
    assert found.bound == pytest.approx(found.total, rel=1e-9) and found.gap < 1e-9
    assert found.flow.respondents.sum() == min(respondents, personas * capacity)


@given(SEEDS, st.integers(2, 60), st.integers(2, 60), st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_a_search_that_is_stopped_early_bounds_what_it_may_have_missed(seed, respondents, personas, rounds):
    tables, codes = world(seed, respondents, personas, rounded=True, likeness=0.3)
    expected = by_hand(tables, codes, FLOOR)
    found = cast(PairWeights.of(tables, codes, floor=FLOOR), rounds=rounds)
    best = best_total(expected)
    assert found.rounds <= rounds and found.total <= best * (1 + 1e-9) <= found.bound * (1 + 2e-9)
    assert found.gap == pytest.approx(max(0, 1 - found.total / found.bound))
    assert found.flow.respondents.sum() == min(respondents, personas)


@given(SEEDS, st.integers(1, 30), st.integers(1, 30), st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_the_flow_becomes_persons_who_weigh_as_much_and_no_persona_is_used_too_often(
    seed, respondents, personas, capacity
):
    tables, codes = world(seed, respondents, personas, rounded=True, levels={"a": 3, "b": 2})
    choosers = Choosers([f"r{at}" for at in range(respondents)], [f"p{at}" for at in range(personas)], seed=seed)
    picked, found = choosers.cast(PairWeights.of(tables, codes, floor=FLOOR), capacity)
    matched = np.flatnonzero(picked != UNMATCHED)
    assert len(matched) == min(respondents, personas * capacity)
    assert np.bincount(picked[matched]).max() <= capacity
    assert by_hand(tables, codes, FLOOR)[matched, picked[matched]].sum() == pytest.approx(found.total, rel=1e-9)
    dense = choosers.assigned(PairWeights.of(tables, codes, floor=FLOOR), capacity)
    assert (dense != UNMATCHED).sum() == len(matched)


def test_seats_of_equal_personas_are_used_evenly():
    tables = {"a": np.repeat([[0.9, 0.1]], 4, axis=0)}
    weights = PairWeights.of(tables, {"a": np.zeros(6, dtype=np.int16)}, floor=FLOOR)
    picked, _ = Choosers(list("uvwxyz"), list("pqrs")).cast(weights, 3)
    assert sorted(np.bincount(picked).tolist()) == [1, 1, 2, 2]


def test_ties_between_respondents_and_between_personas_fall_evenly():
    # Personas of three contents and one weight, of which respondents of one profile leave one; and the reverse.
    tables = {"a": np.array([[0.5, 0.5, 0.0], [0.5, 0.0, 0.5], [0.5, 0.25, 0.25]])}
    codes = {"a": np.array([0, 0, 1, 2], dtype=np.int16)}
    few = {"a": codes["a"][:2]}
    used, left = np.zeros(3), np.zeros(4)
    for seed in range(300):
        picked, _ = Choosers(["r", "s"], ["p", "q", "o"], seed=seed).cast(PairWeights.of(tables, few, floor=FLOOR))
        used[picked] += 1
        one = {"a": tables["a"][:1] * 0 + [0.4, 0.3, 0.3]}
        alike = {"a": np.zeros(4, dtype=np.int16)}
        picked, _ = Choosers(list("rstu"), ["p"], seed=seed).cast(PairWeights.of(one, alike, floor=FLOOR))
        left += picked == 0
    assert np.abs(used / 300 - 2 / 3).max() < 5 * np.sqrt(2 / 9 / 300)
    assert np.abs(left / 300 - 1 / 4).max() < 5 * np.sqrt(3 / 16 / 300)


def test_respondents_whom_nobody_fits_get_what_is_left_if_there_is_anybody_left():
    # Three impossible traits weigh 1e-18, far below what the flow counts in.
    tables = {name: np.eye(2)[[0, 0, 0, 1]] for name in "abc"}
    codes = {name: np.array([1, 1, 0, 0], dtype=np.int16) for name in "abc"}
    found = cast(PairWeights.of(tables, codes, floor=dict.fromkeys("abc", 1e-6)))
    assert found.flow.respondents.sum() == 4 and found.total == pytest.approx(3) and found.gap < 1e-9


# -- through the door


@pytest.fixture
def large(monkeypatch):
    """Every assignment counts as too large for scipy."""
    monkeypatch.setattr(matching, "DENSE", 0)


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("options", [{}, {"method": "capacity", "capacity": 2}])
def test_a_large_casting_has_the_weight_of_a_small_one_and_tells_its_bound(monkeypatch, options):
    records, humans = random_world(3, 40, 30)
    people = people_of(records)
    cast_ = match(people, humans, **options)
    monkeypatch.undo()
    small = match(people, humans, **options)
    assert weights_of(cast_).sum() == pytest.approx(weights_of(small).sum(), rel=1e-9)
    assert cast_.diagnostics["weight_bound"] == pytest.approx(weights_of(cast_).sum(), rel=1e-9)
    assert 0 <= cast_.diagnostics["optimality_gap"] < 1e-9 and "optimality_gap" not in small.diagnostics
    found = diagnose(people, humans, cast_)
    assert found.figures["weight_bound"] == cast_.diagnostics["weight_bound"]
    assert "\nThe assignment is proven best: no other weighs more in total.\n" in str(found)


@pytest.mark.usefixtures("large")
@given(SEEDS, st.sampled_from([1, 2]))
@settings(max_examples=15, deadline=None)
def test_the_order_of_personas_and_respondents_changes_no_partner_of_a_large_casting(seed, capacity):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matching, "DENSE", 0)
        records, humans = random_world(seed, 6, 5)
        records[3], records[4] = records[1], records[2]
        rng = np.random.default_rng(seed)
        order = rng.permutation(5).tolist()
        rows = [{"backstory": f"Story number {at}.", "traits": records[at]} for at in rng.permutation(6)]
        shuffled = Anthology.from_records(rows, CODEBOOK, name="toy", licence="CC0-1.0")
        options = {"method": "capacity", "capacity": 2} if capacity == 2 else {"method": "optimal"}
        one = match(people_of(records), humans, seed=seed, **options)
        two = match(shuffled, humans.take(order), seed=seed, **options)
    partners = [{role.respondent_id: role.persona.persona_id for role in each.roles} for each in (one, two)]
    assert partners[0] == partners[1]


@pytest.mark.usefixtures("large")
def test_a_large_casting_that_is_stopped_early_warns_with_its_gap():
    records, humans = random_world(0, 100, 100)
    people = people_of(records)
    with pytest.warns(AnthologyWarning, match=r"stopped after 1 rounds: .* at most \d+\.\d\d% below .* more rounds"):
        stopped = match(people, humans, rounds=1)
    assert stopped.diagnostics["optimality_gap"] > 1e-3 and len(stopped) == 100
    assert match(people, humans).diagnostics["optimality_gap"] < 1e-9
    with pytest.raises(OptionError, match="rounds must be 1 or more, got 0"):
        match(people, humans, rounds=0)


@pytest.mark.usefixtures("large")
def test_a_large_casting_without_or_tools_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "ortools.graph.python", None)
    people = people_of([{"region": "South"}, {"region": "West"}])
    with pytest.raises(MissingExtraError, match=r"200,000,000 pairs .* 'ortools': pip install .*\[matching\]"):
        match(people, humans_of(["South", "West"]))


# -- pairs of weight zero


@pytest.mark.parametrize("size", ["small", "large"])
@pytest.mark.parametrize(
    "options", [{"method": "greedy"}, {"method": "optimal"}, {"method": "capacity", "capacity": 2}, {"affinity": True}]
)
def test_whom_no_persona_can_be_goes_unmatched_where_impossible_pairs_are_none(monkeypatch, size, options):
    monkeypatch.setattr(matching, "DENSE", 0 if size == "large" else matching.DENSE)
    people = people_of([{"region": "West"}, {"region": {"South": 0.01, "West": 0.99}}, {"region": "West"}])
    humans = humans_of(["Midwest", "South", "West"])
    if "affinity" in options:
        options = {"affinity": np.eye(3)}
    every = match(people, humans, traits=["region"], **options)
    assert len(every) == 3 and every.diagnostics["zero_weight_pairs"] == 1
    some = match(people, humans, traits=["region"], impossible=False, **options)
    assert [role.respondent_id for role in some.roles] == ["r1", "r2"]
    assert some.diagnostics["zero_weight_pairs"] == 0 and some.diagnostics["unmatched_respondents"] == 1
    assert diagnose(people, humans, some).unmatched == ("r0",)
    assert chosen(some, people)[0] == 1


def test_greedy_takes_a_possible_persona_before_one_who_fits_better_but_for_a_trait():
    people = people_of(
        [
            {"region": {"South": 1e-3, "West": 1 - 1e-3}, "party": {PARTIES[0]: 0.01, PARTIES[1]: 0.99}},
            {"region": "West", "party": PARTIES[0]},
        ]
    )
    humans = humans_of(["South"] * 40, [PARTIES[0]] * 40)
    assert set(chosen(match(people, humans, method="greedy"), people)) == {1}
    assert set(chosen(match(people, humans, method="greedy", impossible=False), people)) == {0}
    # A draw among the two best is one among the possible.
    assert set(chosen(match(people, humans, method="greedy", impossible=False, top_k=2), people)) == {0}


def test_a_random_draw_that_is_impossible_is_none():
    people = people_of([{"region": "South"}, {"region": "West"}])
    humans = humans_of(["South", "South"])
    drawn = match(people, humans, method="random", traits=["region"], impossible=False)
    assert chosen(drawn, people) == [0] and drawn.diagnostics["unmatched_respondents"] == 1


@pytest.mark.parametrize("options", [{"method": "greedy"}, {"method": "optimal"}, {"affinity": np.zeros((2, 2))}])
def test_a_cast_without_any_possible_pair_is_refused_with_both_numbers(options):
    people = people_of([{"region": "South"}, {"region": "West"}])
    with pytest.raises(EmptyError, match="none of 2 personas can have the levels of one of 2 resp.*: match on"):
        match(people, humans_of(["Midwest", "Midwest"]), traits=["region"], impossible=False, **options)


@pytest.mark.parametrize("method", ["greedy", "optimal"])
def test_a_floor_near_zero_still_prefers_fewer_impossible_traits(method):
    people = people_of([{"region": "West", "party": PARTIES[1]}, {"region": "West", "party": PARTIES[0]}])
    humans = humans_of(["South"], [PARTIES[0]])
    assert chosen(match(people, humans, method=method, floor=1e-300), people) == [1]


def test_personas_are_fetched_at_once_where_the_collection_can():
    records, humans = random_world(0, 8, 6)
    people, fetched = people_of(records), []

    class Bulk:
        """A collection with `take`."""

        def __getattr__(self, name):
            return getattr(people, name)

        def __len__(self):
            return len(people)

        def __getitem__(self, at):
            raise AssertionError("one by one")

        def take(self, rows):
            fetched.append(list(rows))
            return [people[at] for at in rows]

    cast_ = match(Bulk(), humans, method="greedy")
    assert cast_ == replace(match(people, humans, method="greedy"), collection=cast_.collection)
    assert len(fetched) == 1 and fetched[0] == sorted(set(chosen(cast_, people)))
