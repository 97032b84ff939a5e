import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from anthology_hub import Anthology, Codebook, Respondents, as_themselves, match, unmatched
from anthology_hub.crosswalks import Crosswalk
from anthology_hub.errors import DataError, EmptyError, OptionError, UnknownNameError
from anthology_hub.matching import FLOOR, METHODS, affinities, figures, level_probs
from anthology_hub.schema import MISSING

CODEBOOK = Codebook.load("starter")
REGIONS = ("Northeast", "Midwest", "South", "West")
PARTIES = CODEBOOK.trait("party").levels
SEEDS = st.integers(0, 2**32 - 1)


def people_of(records):
    """A collection of personas with given traits, each in a story of its own."""
    rows = [{"backstory": f"Story number {at}.", "traits": traits} for at, traits in enumerate(records)]
    return Anthology.from_records(rows, CODEBOOK, name="toy", licence="CC0-1.0")


def humans_of(regions, parties=None, **more):
    """Respondents of the panel's coding; None is a level that is not known."""
    columns = {"region": (REGIONS, regions), "party": (PARTIES, parties or [None] * len(regions))}
    return Respondents(
        name="toy-humans",
        ids=tuple(f"r{at}" for at in range(len(regions))),
        levels={name: levels for name, (levels, _) in columns.items()},
        codes={
            name: np.array([MISSING if v is None else levels.index(v) for v in values], dtype=np.int16)
            for name, (levels, values) in columns.items()
        },
        answers={},
        crosswalk="starter--gss-panel",
        **more,
    )


def random_world(seed, personas, respondents):
    """Personas with random probabilities of region and party, and respondents with random levels."""
    rng = np.random.default_rng(seed)
    records = []
    for _ in range(personas):
        shares = {"region": rng.dirichlet(np.ones(4)), "party": rng.dirichlet(np.ones(len(PARTIES)))}
        named = {"region": REGIONS, "party": PARTIES}
        records.append({t: dict(zip(named[t], p.tolist(), strict=True)) for t, p in shares.items()})
    regions, parties = rng.choice(REGIONS, respondents).tolist(), rng.choice(PARTIES, respondents).tolist()
    return records, humans_of(regions, parties)


def weights_by_hand(records, humans, floor=FLOOR):
    """Product over traits of the probability of the respondent's level, one pair after the other."""
    rows = []
    for at in range(len(humans)):
        known = humans.traits_of(at)
        rows.append([np.prod([max(r[t].get(level, 0.0), floor) for t, level in known.items()]) for r in records])
    return np.array(rows)


def chosen(cast, people):
    places = {persona_id: at for at, persona_id in enumerate(people.ids)}
    return [places[role.persona.persona_id] for role in cast.roles]


def weights_of(cast):
    return np.exp([role.log_weight for role in cast.roles])


# -- laws


@given(SEEDS, st.integers(1, 4), st.integers(0, 2))
def test_optimal_equals_the_best_of_all_one_to_one_assignments(seed, respondents, spare):
    records, humans = random_world(seed, respondents + spare, respondents)
    people = people_of(records)
    cast, weights = match(people, humans, method="optimal"), weights_by_hand(records, humans)
    rows = range(respondents)
    best = max(sum(weights[rows, order]) for order in itertools.permutations(range(len(records)), respondents))
    picked = chosen(cast, people)
    assert len(set(picked)) == respondents
    assert weights[rows, picked].sum() == pytest.approx(best, rel=1e-5)
    np.testing.assert_allclose(weights_of(cast), weights[rows, picked], rtol=1e-5)


@given(SEEDS, st.integers(1, 6), st.integers(1, 6))
def test_greedy_takes_the_best_persona_for_each_respondent(seed, personas, respondents):
    records, humans = random_world(seed, personas, respondents)
    cast, weights = match(people_of(records), humans, method="greedy"), weights_by_hand(records, humans)
    np.testing.assert_allclose(weights_of(cast), weights.max(axis=1), rtol=1e-5)


@given(SEEDS, st.integers(2, 7))
def test_mean_weight_falls_from_greedy_over_capacity_and_optimal_to_any_random_draw(seed, n):
    records, humans = random_world(seed, n, n)
    people = people_of(records)
    options = [{"method": "greedy"}, *({"method": "capacity", "capacity": c} for c in (n, 3, 2, 1))]
    options += [{"method": "optimal"}, {"method": "random"}]
    means = [match(people, humans, seed=seed, **option).diagnostics["mean_weight"] for option in options]
    assert all(more >= less * (1 - 1e-8) for more, less in itertools.pairwise(means))
    # As many seats as respondents bind nobody; one seat is one to one.
    assert means[0] == pytest.approx(means[1]) and means[4] == pytest.approx(means[5])


@given(SEEDS, st.integers(2, 5), st.integers(2, 3), st.integers(2, 3))
@settings(max_examples=30)
def test_capacity_equals_the_best_of_all_castings_that_keep_to_it(seed, respondents, personas, capacity):
    respondents = min(respondents, personas * capacity)
    records, humans = random_world(seed, personas, respondents)
    people, weights = people_of(records), weights_by_hand(records, humans)
    cast = match(people, humans, method="capacity", capacity=capacity)
    allowed = (
        casting
        for casting in itertools.product(range(personas), repeat=respondents)
        if np.bincount(casting).max() <= capacity
    )
    best = max(weights[range(respondents), casting].sum() for casting in allowed)
    assert weights_of(cast).sum() == pytest.approx(best, rel=1e-6)
    assert cast.diagnostics["maximum_reuse"] <= capacity and len(cast) == respondents


@given(SEEDS, st.integers(5, 40), st.integers(5, 40))
@settings(max_examples=20)
def test_optimal_has_the_objective_of_scipy_also_with_more_respondents_than_personas(seed, personas, respondents):
    records, humans = random_world(seed, personas, respondents)
    weights = weights_by_hand(records, humans)
    cast = match(people_of(records), humans, method="optimal", partial=True)
    expected = weights[linear_sum_assignment(weights, maximize=True)].sum()
    assert weights_of(cast).sum() == pytest.approx(expected, rel=1e-6)
    assert len(cast) == min(personas, respondents)
    assert cast.diagnostics["unmatched_respondents"] == max(0, respondents - personas)


@given(SEEDS, st.sampled_from(["greedy", "optimal", "capacity", "random", "top_k"]))
def test_the_order_of_personas_and_respondents_changes_no_partner(seed, method):
    records, humans = random_world(seed, 5, 4)
    # Two pairs of twins, so that there are ties.
    records[3], records[4] = records[1], records[2]
    rng = np.random.default_rng(seed)
    people, order = people_of(records), rng.permutation(4).tolist()
    rows = [{"backstory": f"Story number {at}.", "traits": records[at]} for at in rng.permutation(5)]
    shuffled = Anthology.from_records(rows, CODEBOOK, name="toy", licence="CC0-1.0")
    options = {"method": method, "capacity": 2 if method == "capacity" else None, "seed": seed}
    options |= {"method": "greedy", "top_k": 3} if method == "top_k" else {}

    def partners(cast):
        return {role.respondent_id: role.persona.persona_id for role in cast.roles}

    cast, again = match(people, humans, **options), match(shuffled, humans.take(order), **options)
    assert partners(again) == partners(cast)
    assert [role.respondent_id for role in again.roles] == [humans.ids[at] for at in order]


@given(SEEDS, st.integers(1, 5))
def test_top_k_takes_one_of_the_k_best_whatever_the_other_respondents_are(seed, k):
    records, humans = random_world(seed, 6, 5)
    people, weights = people_of(records), weights_by_hand(records, humans)
    cast = match(people, humans, method="greedy", top_k=k, seed=seed)
    least = np.sort(weights, axis=1)[:, -k]
    assert (weights_of(cast) >= least * (1 - 1e-6)).all()
    for at in range(5):
        alone = match(people, humans.take([at]), method="greedy", top_k=k, seed=seed)
        assert alone.roles[0].persona == cast.roles[at].persona
    if k == 1:
        assert cast.digest == match(people, humans, method="greedy", seed=seed).digest


def test_top_k_draws_ranks_and_ties_evenly():
    shares = [0.9, 0.5, 0.5, 0.5, 0.1]
    people = people_of([{"region": {"South": share, "West": 1 - share}} for share in shares])
    cast = match(people, humans_of(["South"] * 3000), method="greedy", top_k=2, traits=["region"])
    counts = np.bincount(chosen(cast, people), minlength=5) / 3000
    expected = np.array([1 / 2, 1 / 6, 1 / 6, 1 / 6, 0])
    assert (np.abs(counts - expected) <= 5 * np.sqrt(expected * (1 - expected) / 3000)).all()


@given(SEEDS, st.sampled_from(["greedy", "optimal"]))
def test_importance_zero_is_leaving_the_trait_out(seed, method):
    records, humans = random_world(seed, 5, 4)
    people = people_of(records)
    out = match(people, humans, method=method, traits=["party"])
    weighed = match(people, humans, method=method, importance={"region": 0})
    assert weighed.digest == out.digest and weighed.traits == ("party",) and weighed.diagnostics == out.diagnostics
    assert [r.log_weight for r in weighed.roles] == [r.log_weight for r in out.roles]


@given(SEEDS, st.floats(0, 5), st.floats(1e-6, 0.2))
def test_weights_are_floored_by_trait_and_raised_to_the_importance(seed, exponent, floor):
    records, humans = random_world(seed, 3, 1)
    known = humans.traits_of(0)
    cast = match(
        people_of(records),
        humans,
        method="greedy",
        floor={"region": floor},
        importance={"region": exponent, "party": 2},
    )
    by_hand = [
        max(r["region"][known["region"]], floor) ** exponent * max(r["party"][known["party"]], FLOOR) ** 2
        for r in records
    ]
    assert weights_of(cast)[0] == pytest.approx(max(by_hand), rel=1e-4)


@given(SEEDS, st.floats(0, 3))
def test_affinity_is_added_in_log_space(seed, weight):
    records, humans = random_world(seed, 4, 3)
    people, near = people_of(records), np.random.default_rng(seed).uniform(-1, 1, (3, 4))
    cast = match(people, humans, method="greedy", affinity=near, affinity_weight=weight)
    traits = weights_by_hand(records, humans)
    both, at = traits * np.exp(weight * near), chosen(cast, people)
    np.testing.assert_allclose(both[range(len(at)), at], both.max(axis=1), rtol=1e-5)
    # What is kept and reported of a pair is the weight of its traits, at most 1, whatever the affinity.
    np.testing.assert_allclose(weights_of(cast), traits[range(len(at)), at], rtol=1e-5)
    assert cast.diagnostics["mean_weight"] <= 1


def test_texts_about_respondents_pull_the_personas_whose_stories_come_near(starter):
    some = starter.sample(12, seed=4)
    near = affinities(some, [some[3].backstory, "x", some[7].backstory, "x"])
    assert near.shape == (4, 12) and near[0].argmax() == 3 and near[2].argmax() == 7 and (near[1] == near[3]).all()
    expected = some.search("x", k=12)
    assert near[1].tolist() == [expected.scores[expected.ids.index(persona_id)] for persona_id in some.ids]
    humans = humans_of([None] * 4)
    cast = match(some, humans, method="greedy", affinity=near, affinity_weight=100, traits=["region"])
    assert [chosen(cast, some)[at] for at in (0, 2)] == [3, 7]


@given(SEEDS, st.integers(1, 8), st.data())
def test_random_draws_without_replacement_and_follows_the_seed(seed, personas, data):
    records, humans = random_world(seed, personas, data.draw(st.integers(1, personas)))
    people = people_of(records)
    cast = match(people, humans, method="random", seed=seed)
    assert len(set(chosen(cast, people))) == len(humans) == cast.diagnostics["distinct_personas"]
    assert cast.digest == match(people, humans, method="random", seed=seed).digest
    rows = np.arange(len(humans))
    expected = weights_by_hand(records, humans)[rows, chosen(cast, people)]
    np.testing.assert_allclose(weights_of(cast), expected, rtol=1e-5)


def test_random_takes_every_persona_equally_often():
    records, humans = random_world(0, 6, 2)
    people = people_of(records)
    counts = np.zeros(6)
    for seed in range(300):
        counts[chosen(match(people, humans, method="random", seed=seed), people)] += 1
    assert np.abs(counts / 300 - 1 / 3).max() < 5 * np.sqrt(2 / 9 / 300)


@given(SEEDS, st.floats(1e-6, 0.3))
def test_an_affinity_of_zero_leaves_the_floored_products_as_they_are(seed, floor):
    records, humans = random_world(seed, 5, 7)
    cast = match(people_of(records), humans, method="greedy", floor=floor, affinity=np.zeros((7, 5)))
    assert weights_of(cast) == pytest.approx(weights_by_hand(records, humans, floor).max(axis=1), rel=1e-5)


# -- what is not known


def test_an_unknown_level_of_a_respondent_counts_as_uniform_and_is_counted():
    people = people_of([{"region": "South", "party": PARTIES[0]}, {"region": "South", "party": PARTIES[1]}])
    cast = match(people, humans_of(["South", None, None], [None, PARTIES[1], None]), method="greedy")
    uniform = {"region": 1 / 4, "party": 1 / len(PARTIES)}
    assert weights_of(cast) == pytest.approx(
        [uniform["party"], uniform["region"], uniform["region"] * uniform["party"]]
    )
    assert chosen(cast, people)[1] == 1
    assert cast.diagnostics["unknown_respondent_levels"] == 4 and cast.diagnostics["zero_weight_share"] == 0


def test_a_persona_without_annotation_counts_as_uniform_and_is_counted():
    people = people_of([{"party": PARTIES[0]}, {"region": "West", "party": PARTIES[0]}, {}])
    cast = match(people, humans_of(["South", "West"], [PARTIES[0]] * 2), method="greedy")
    # For the South nobody is known to fit: the one of unknown region (1/4) is better than the one surely elsewhere.
    assert chosen(cast, people) == [0, 1] and weights_of(cast) == pytest.approx([1 / 4, 1])
    assert cast.diagnostics["unannotated_levels"] == 3


def test_the_floor_keeps_an_impossible_trait_from_hiding_how_the_others_fit():
    people = people_of([{"region": "West", "party": PARTIES[3]}, {"region": "West", "party": PARTIES[0]}])
    humans = humans_of(["South"], [PARTIES[0]])
    cast = match(people, humans, method="greedy")
    assert chosen(cast, people) == [1] and weights_of(cast) == pytest.approx([FLOOR]) and FLOOR == 1e-4
    assert weights_of(match(people, humans, method="greedy", floor=0.01)) == pytest.approx([0.01])


def test_zero_weight_share_counts_the_pairs_with_an_impossible_trait():
    people = people_of([{"region": "West"}, {"region": {"South": 0.01, "West": 0.99}}])
    cast = match(people, humans_of(["West", "South", "Midwest", None]), method="greedy", traits=["region"])
    assert cast.diagnostics["zero_weight_share"] == 1 / 4
    assert weights_of(cast) == pytest.approx([1, 0.01, FLOOR, 1 / 4])


# -- collapse


def test_partial_leaves_out_those_who_fit_least_and_counts_them():
    people = people_of([{"region": "South"}, {"region": {"West": 0.6, "South": 0.4}}])
    humans = humans_of(["Midwest", "West", "South", "West"])
    cast = match(people, humans, traits=["region"], partial=True)
    assert [role.respondent_id for role in cast.roles] in (["r1", "r2"], ["r2", "r3"])
    assert weights_of(cast).sum() == pytest.approx(1.6) and cast.diagnostics["unmatched_respondents"] == 2
    seats = match(people, humans, traits=["region"], method="capacity", capacity=2, partial=True)
    assert len(seats) == 4 and seats.diagnostics["unmatched_respondents"] == 0
    assert "unmatched_respondents" not in match(people, humans, method="greedy").diagnostics
    drawn = match(people, humans, method="random", partial=True, seed=2)
    assert len(drawn) == 2 and len(set(chosen(drawn, people))) == 2


def test_capacity_spreads_what_greedy_heaps_up():
    people = people_of([{"region": {"South": share, "West": 1 - share}} for share in (0.9, 0.8, 0.7)])
    cast = match(people, humans_of(["South"] * 5), method="capacity", capacity=2, traits=["region"])
    assert sorted(chosen(cast, people)) == [0, 0, 1, 1, 2]
    assert weights_of(cast).sum() == pytest.approx(0.9 * 2 + 0.8 * 2 + 0.7)


def test_the_probabilities_of_pairs_are_undefined_where_either_side_is_not_known():
    table = {"a": np.array([[0.0, 1.0], [np.nan, np.nan]])}
    fit = level_probs(table, {"a": np.array([0, 1, 0, MISSING], dtype=np.int16)}, np.array([0, 0, 1, 0]))
    np.testing.assert_array_equal(fit["a"], [0, 1, np.nan, np.nan])
    found = figures(np.log([0.5, 1, 0.25, 0.25]), np.array([0, 0, 1, 0]), fit)
    assert found == {
        "mean_weight": pytest.approx(0.5),
        "zero_weight_share": 0.25,
        "zero_weight_pairs": 1.0,
        "distinct_personas": 2.0,
        "maximum_reuse": 3.0,
        "effective_personas": pytest.approx(16 / 10),
    }


def test_collapse_onto_one_persona_is_visible():
    south = {"region": {"South": 0.9, "West": 0.1}}
    people = people_of([south, *[{"region": {"South": 0.8, "West": 0.2}}] * 9])
    cast = match(people, humans_of(["South"] * 10), method="greedy")
    assert set(chosen(cast, people)) == {0}
    assert cast.diagnostics["effective_personas"] == 1 and cast.diagnostics["maximum_reuse"] == 10
    spread = match(people, humans_of(["South"] * 10), method="optimal").diagnostics
    assert (spread["effective_personas"], spread["maximum_reuse"], spread["distinct_personas"]) == (10, 1, 10)


def test_effective_personas_is_kish_on_the_uses():
    people = people_of([{"region": region} for region in REGIONS])
    cast = match(people, humans_of(["South"] * 6 + ["West"] * 3 + ["Midwest"]), method="greedy")
    assert cast.diagnostics["effective_personas"] == pytest.approx(10**2 / (6**2 + 3**2 + 1))
    assert cast.diagnostics["distinct_personas"] == 3 and cast.diagnostics["maximum_reuse"] == 6


def test_greedy_spreads_exact_ties_evenly_by_its_seed():
    people = people_of([{"region": "South", "party": PARTIES[at % 2]} for at in range(10)])
    humans = humans_of(["South"] * 1000)
    cast = match(people, humans, method="greedy", traits=["region"])
    counts = np.bincount(chosen(cast, people), minlength=10)
    assert np.abs(counts - 100).max() < 5 * np.sqrt(1000 * 0.1 * 0.9)
    assert cast.digest == match(people, humans, method="greedy", traits=["region"]).digest
    assert cast.digest != match(people, humans, method="greedy", traits=["region"], seed=1).digest


# -- the real thing


@pytest.mark.parametrize("method", METHODS)
def test_the_starter_collection_plays_gss_respondents_in_their_order(starter, gss, method):
    few = gss.sample(60, seed=1)
    cast = match(starter, few, method=method, capacity=2 if method == "capacity" else None)
    assert [role.respondent_id for role in cast.roles] == list(few.ids) and len(cast) == 60
    assert cast.method == method and cast.humans == "gss-2018" and cast.collection == starter.identity
    assert set(cast.traits) == set(few.levels)
    assert all(role.persona == starter.get(role.persona.persona_id) for role in cast.roles)
    assert {role.weight for role in cast.roles} == {1.0}
    assert "I consider my gender as" in cast.roles[0].traits["gender"]


def test_matching_on_gss_traits_equals_a_loop_over_pairs_with_the_crosswalk_spread(starter, gss):
    few = gss.sample(8, seed=2)
    cast = match(starter, few, method="greedy", traits=["race", "education"])
    spread = {"White": [1, 0, 0.5176, 0], "Black": [0, 1, 0.03, 0], "Other": [0, 0, 0.4524, 1]}
    for at, role in enumerate(cast.roles):
        known = few.traits_of(at)
        degree = CODEBOOK.trait("education").code(known["education"])
        race = np.nan_to_num(starter.distribution("race") @ np.array(spread[known["race"]]), nan=1 / 3)
        education = np.nan_to_num(starter.distribution("education")[:, degree], nan=1 / 5)
        best = (np.maximum(race, FLOOR) * np.maximum(education, FLOOR)).max()
        assert np.exp(role.log_weight) == pytest.approx(best, rel=1e-5)


def test_a_filtered_collection_casts_only_its_own(starter, gss):
    south = starter.where(region="South")
    cast = match(south, gss.sample(40), method="greedy")
    assert {role.persona.persona_id for role in cast.roles} <= set(south.ids)
    assert {role.persona.traits["region"] for role in cast.roles} == {"South"}


def test_weights_of_respondents_travel_to_their_roles():
    people = people_of([{"region": "South"}, {"region": "West"}])
    humans = humans_of(["West", "South"], weights=np.array([0.5, 2.5]))
    for cast in (match(people, humans), unmatched(humans)):
        assert [role.weight for role in cast.roles] == [0.5, 2.5]


def test_unmatched_roles_hold_sentences_of_the_known_traits_and_nobody():
    cast = unmatched(humans_of(["South", None], [None, "Republican"]))
    assert [role.traits for role in cast.roles] == [
        {"region": CODEBOOK.trait("region").sentence("South")},
        {"party": CODEBOOK.trait("party").sentence("Republican")},
    ]
    assert all(role.persona is None and role.log_weight == 0 for role in cast.roles)
    assert cast.method == "none" and cast.collection == "" and cast.diagnostics == {}


def test_roles_hold_the_respondent_s_levels_and_the_cast_how_they_are_asked():
    humans = humans_of(["South", None], [None, "Republican"])
    people = people_of([{"region": "South", "party": "Democrat"}, {"region": "West"}])
    for cast in (match(people, humans), unmatched(humans)):
        assert [role.levels for role in cast.roles] == [{"region": "South"}, {"party": "Republican"}]
        assert {trait.name: trait.levels for trait in cast.codebook.traits} == dict(humans.levels)
        assert cast.codebook.trait("region").question == CODEBOOK.trait("region").question
    played = as_themselves(people)
    assert [role.levels for role in played.roles] == [{"region": "South", "party": "Democrat"}, {"region": "West"}]
    assert played.codebook == CODEBOOK


def test_a_level_that_the_codebook_lacks_is_spoken_as_it_stands():
    bfi = Respondents.load("bfi")
    minor = next(at for at in range(len(bfi)) if bfi.traits_of(at)["age"] == "Under 18")
    assert unmatched(bfi.take([minor])).roles[0].traits["age"] == "My age is Under 18."


def test_a_crosswalk_of_ones_own_takes_the_place_of_the_shipped_one():
    people = people_of([{"region": "South"}, {"region": "West"}])
    turned = {"South": "West", "West": "South", "Northeast": "Northeast", "Midwest": "Midwest"}
    crosswalk = Crosswalk.from_dict({"traits": {"region": turned}}, {"region": REGIONS}, name="turned")
    humans = humans_of(["South", "West"])
    assert chosen(match(people, humans, traits=["region"]), people) == [0, 1]
    assert chosen(match(people, humans, crosswalk=crosswalk), people) == [1, 0]


# -- refusals


@pytest.fixture(scope="module")
def pair():
    return people_of([{"region": "South"}, {"region": "West"}])


def test_an_unknown_method_is_refused_with_the_known_ones(pair):
    with pytest.raises(OptionError, match="'hungarian': allowed are greedy, optimal, capacity, random"):
        match(pair, humans_of(["South"]), method="hungarian")


@pytest.mark.parametrize("method", ["optimal", "random"])
def test_too_few_personas_for_one_to_one_are_refused_with_both_numbers_and_a_way_on(pair, method):
    with pytest.raises(
        OptionError, match=rf"'{method}' is one-to-one .* there are 2 for 3: take fewer .* or method 'gr"
    ):
        match(pair, humans_of(["South"] * 3), method=method)


def test_an_unknown_trait_is_refused_by_name_with_the_nearest(pair):
    with pytest.raises(
        UnknownNameError, match=r"unknown trait shared by .* 'regoin': did you mean 'region'\? Allowed:"
    ):
        match(pair, humans_of(["South"]), traits=["region", "regoin"])


def test_a_trait_that_the_respondents_lack_is_refused(pair):
    with pytest.raises(UnknownNameError, match=r"personas and toy-humans 'age': .*Allowed: 'party', 'region'"):
        match(pair, humans_of(["South"]), traits=["age"])


def test_matching_on_no_trait_is_refused_with_the_possible_ones(pair):
    with pytest.raises(OptionError, match="no trait to match on: choose from party, region"):
        match(pair, humans_of(["South"]), traits=[])
    nothing = replace(humans_of(["South"]), levels={}, codes={})
    with pytest.raises(OptionError, match="no trait to match on: choose from none, the two share no trait"):
        match(pair, nothing)


def test_nobody_to_match_is_refused_with_both_numbers(pair):
    empty = humans_of(["South"]).take([])
    with pytest.raises(EmptyError, match="cannot match 0 respondents with 2 personas: both need at least one"):
        match(pair, empty)
    with pytest.raises(EmptyError, match="there are no respondents to stand in for"):
        unmatched(empty)


@pytest.mark.parametrize("floor", [0, 1, -0.1])
def test_a_floor_out_of_range_is_refused_with_the_range(pair, floor):
    with pytest.raises(OptionError, match=rf"floor must be above 0 and below 1, got {floor}"):
        match(pair, humans_of(["South"]), floor=floor)


def test_respondents_without_a_crosswalk_are_refused_with_the_shipped_names(pair):
    with pytest.raises(
        OptionError,
        match=r"has no crosswalk .*: give .*; shipped are anthology--gss-2018, .*starter--bfi, ",
    ):
        match(pair, replace(humans_of(["South"]), crosswalk=""))


def test_a_crosswalk_that_does_not_map_a_persona_level_is_refused(pair, tmp_path):
    file = tmp_path / "mine.json"
    file.write_text(json.dumps({"to": "gss-panel", "traits": {"region": {"South": "South"}}}))
    with pytest.raises(DataError, match=r"does not map region \['Northeast', 'Midwest', 'West'\]: add a row for each"):
        match(pair, replace(humans_of(["South"]), crosswalk=str(file)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "capacity"}, "goes with method 'capacity' alone: got capacity None with method 'capacity'"),
        ({"capacity": 2}, "goes with method 'capacity' alone: got capacity 2 with method 'optimal'"),
        ({"method": "capacity", "capacity": 0}, "most respondents of one persona, 1 or more, .* got capacity 0"),
        ({"top_k": 2}, "above 1 with method 'greedy' alone: got top_k 2 with method 'optimal'"),
        ({"method": "greedy", "top_k": 3}, "top_k must be 1 to 2, the number of personas, .* got top_k 3"),
        ({"method": "greedy", "top_k": 0}, "top_k must be 1 to 2"),
        ({"importance": {"region": -1}}, "importance must be 0 or more and finite, got -1 for region"),
        ({"importance": {"region": np.inf}}, "importance must be 0 or more and finite, got inf for region"),
        ({"importance": {"region": 0, "party": 0}}, "every trait has importance 0, give one of them more"),
        ({"floor": {"party": 1}}, "floor must be above 0 and below 1, got 1 for party"),
        ({"affinity": [[1.0, 2.0, 3.0]]}, r"of shape \(1, 2\), respondents by personas, got shape \(1, 3\): make it"),
        ({"affinity": [[1.0, np.nan]]}, "affinity must be finite numbers"),
        ({"affinity": [[1.0, 0.0]], "affinity_weight": -1}, "affinity_weight must be 0 or more and finite, got -1"),
    ],
)
def test_an_option_out_of_range_or_of_another_method_is_refused(pair, options, message):
    with pytest.raises(OptionError, match=message):
        match(pair, humans_of(["South"]), **options)


@pytest.mark.parametrize("option", ["floor", "importance"])
def test_a_floor_or_importance_of_an_unknown_trait_is_refused_with_the_nearest(pair, option):
    with pytest.raises(UnknownNameError, match=f"unknown trait with a given {option} 'regoin': did you mean 'region'"):
        match(pair, humans_of(["South"]), **{option: {"regoin": 0.5}})


def test_too_few_seats_are_refused_with_both_numbers_and_a_way_on(pair):
    few = r"gives a persona 2 respondents at most and needs .* seats .* there are 4 for 5: take fewer .*partial=True"
    with pytest.raises(OptionError, match=few):
        match(pair, humans_of(["South"] * 5), method="capacity", capacity=2)


def test_traits_that_the_codebook_lacks_are_not_matched_on():
    codebook = replace(CODEBOOK, traits=tuple(t for t in CODEBOOK.traits if t.name == "region"))
    people = Anthology.from_records(
        [{"backstory": "One.", "traits": {"region": "South"}}], codebook, name="toy", licence="CC0-1.0"
    )
    assert match(people, humans_of(["South"])).traits == ("region",)
    with pytest.raises(UnknownNameError, match="unknown trait shared by personas and toy-humans 'party'"):
        match(people, humans_of(["South"]), traits=["party"])
