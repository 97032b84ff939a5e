import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ipfn.ipfn import ipfn
from scipy import optimize, stats

from anthology_hub import Anthology, Codebook
from anthology_hub.crosswalks import target_of
from anthology_hub.errors import AnthologyWarning, EmptyError, OptionError, UnknownNameError
from anthology_hub.weighting import (
    draw,
    effective_size,
    inclusion,
    kl_divergence,
    named_shares,
    population,
    rake,
    target_shares,
    traits_in,
)

SEEDS = st.integers(0, 2**32 - 1)
POSITIVE = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=30)


@given(POSITIVE, st.floats(1e-6, 1e6))
def test_effective_size_lies_between_1_and_n_and_ignores_the_scale(weights, scale):
    size = effective_size(weights)
    assert 1 - 1e-9 <= size <= len(weights) * (1 + 1e-9)
    assert effective_size(np.array(weights) * scale) == pytest.approx(size)
    assert effective_size(np.ones(len(weights))) == len(weights)


@given(POSITIVE)
def test_effective_size_is_n_over_one_plus_the_squared_coefficient_of_variation(weights):
    assert effective_size(weights) == pytest.approx(len(weights) / (1 + stats.variation(weights) ** 2))


@pytest.mark.parametrize("weights", [[], [0, 0]])
def test_effective_size_without_a_positive_weight_is_refused(weights):
    with pytest.raises(EmptyError, match="effective size needs at least one positive weight"):
        effective_size(weights)


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 20)), min_size=2, max_size=8).filter(lambda r: any(r)))
def test_kl_divergence_equals_scipy_is_never_negative_and_zero_on_itself(pairs):
    counts = np.array(pairs, dtype=float)
    counts[0, 0] += 1
    p, q = (counts / counts.sum(axis=0)).T
    assert kl_divergence(p, q) == pytest.approx(stats.entropy(p, q), abs=1e-12)
    assert kl_divergence(p, q) >= -1e-12 and kl_divergence(p, p) == 0


def test_kl_divergence_is_infinite_only_where_the_target_lacks_a_level():
    assert kl_divergence([0.5, 0.5], [1.0, 0.0]) == np.inf
    assert kl_divergence([1.0, 0.0], [0.5, 0.5]) == pytest.approx(np.log(2))


# -- raking


LEVELS = {"age": 3, "sex": 2, "region": 4}


def uncertain(rng, n, sharpness=0.5):
    """People whose traits are known by probability."""
    return {trait: rng.dirichlet(np.full(k, sharpness), n) for trait, k in LEVELS.items()}


def certain(rng, n):
    """People whose traits are known, each level at least once."""
    codes = {t: np.concatenate([np.arange(k), rng.integers(0, k, n - k)]) for t, k in LEVELS.items()}
    return codes, {trait: np.eye(LEVELS[trait])[column] for trait, column in codes.items()}


def margins_under(probs, weights):
    """Weighted margins of every trait, and joint ones of age and sex."""
    single = {trait: weights @ table / weights.sum() for trait, table in probs.items()}
    return {**single, ("age", "sex"): np.einsum("n,na,ns->as", weights, probs["age"], probs["sex"]) / weights.sum()}


@given(SEEDS, st.booleans(), st.booleans())
@settings(max_examples=30)
def test_with_certain_traits_raking_is_what_a_library_of_proportional_fitting_finds(seed, joint, with_base):
    rng = np.random.default_rng(seed)
    codes, probs = certain(rng, 60)
    base = rng.uniform(0.5, 2, 60) if with_base else np.ones(60)
    reachable = margins_under(probs, rng.uniform(0.3, 3, 60))
    wanted = {key: reachable[key] for key in ([("age", "sex"), "region"] if joint else LEVELS)}
    table = np.zeros(tuple(LEVELS.values()))
    np.add.at(table, tuple(codes.values()), base)
    axes = {"age": [0], "sex": [1], "region": [2], ("age", "sex"): [0, 1]}
    fitting = ipfn(
        table.copy(),
        [share * 60 for share in wanted.values()],
        [axes[key] for key in wanted],
        convergence_rate=1e-13,
        max_iteration=3000,
        rate_tolerance=0,
    )
    expected = base * (fitting.iteration() / np.where(table, table, 1))[tuple(codes.values())]
    found = rake(probs, wanted, base=base, tolerance=1e-10)
    np.testing.assert_allclose(found.weights, expected, atol=1e-6)
    assert found.unmet == {} and found.empty == () and found.n_effective == pytest.approx(effective_size(expected))


@given(SEEDS, st.booleans())
def test_raked_margins_of_uncertain_traits_are_the_wanted_ones_and_no_weights_stay_nearer_to_the_base(seed, joint):
    rng = np.random.default_rng(seed)
    probs, base, other = uncertain(rng, 40), rng.uniform(0.5, 2, 40), rng.uniform(0.2, 3, 40)
    reachable = margins_under(probs, other)
    wanted = {key: reachable[key] for key in ([("age", "sex"), "region"] if joint else LEVELS)}
    found = rake(probs, wanted, base=base)
    assert found.weights.mean() == pytest.approx(1) and (found.weights >= 0).all() and found.unmet == {}
    for key, share in margins_under(probs, found.weights).items():
        if key in wanted:
            np.testing.assert_allclose(share, wanted[key], atol=1e-6)
            np.testing.assert_allclose(found.margins[key], share, atol=1e-9)
    base, other = base / base.sum(), other / other.sum()
    assert kl_divergence(found.weights / 40, base) <= kl_divergence(other, base) + 1e-6


@given(SEEDS)
@settings(max_examples=15)
def test_weights_within_bounds_are_those_that_a_general_optimiser_finds(seed):
    rng = np.random.default_rng(seed)
    probs = {"age": rng.dirichlet(np.ones(3), 8)}
    wanted = rng.uniform(0.75, 1.25, 8) @ probs["age"] / 8
    wanted /= wanted.sum()
    best = optimize.minimize(
        lambda w: (w * np.log(w)).sum(),
        np.ones(8),
        jac=lambda w: np.log(w) + 1,
        bounds=[(0.7, 1.3)] * 8,
        constraints={"type": "eq", "fun": lambda w: w @ probs["age"] - 8 * wanted, "jac": lambda w: probs["age"].T},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    found = rake(probs, {"age": wanted}, bounds=(0.7, 1.3))
    np.testing.assert_allclose(found.weights, best.x, atol=1e-4)
    assert found.unmet == {}


@given(SEEDS, st.floats(0, 0.9), st.floats(1.1, 10))
def test_bounds_hold_whether_or_not_the_target_can_be_met(seed, low, high):
    rng = np.random.default_rng(seed)
    wanted = {trait: rng.dirichlet(np.ones(k)) for trait, k in LEVELS.items()}
    found = rake(uncertain(rng, 30), wanted, bounds=(low, high))
    assert low - 1e-6 <= found.weights.min() and found.weights.max() <= high + 1e-6
    assert found.weights.mean() == pytest.approx(1)
    off = {(t, at) for t in LEVELS for at in range(LEVELS[t]) if abs(wanted[t][at] - found.margins[t][at]) > 1e-7}
    assert set(found.unmet) == off


@given(SEEDS)
def test_the_order_of_people_and_of_targets_changes_no_weight(seed):
    rng = np.random.default_rng(seed)
    probs, order = uncertain(rng, 20), rng.permutation(20)
    wanted = margins_under(probs, rng.uniform(0.5, 2, 20))
    found = rake(probs, {t: wanted[t] for t in LEVELS}, tolerance=1e-9).weights
    turned = {t: probs[t][order] for t in reversed(LEVELS)}
    again = rake(turned, {t: wanted[t] for t in reversed(LEVELS)}, tolerance=1e-9).weights
    np.testing.assert_allclose(again, found[order], atol=1e-6)


def test_people_who_have_the_margins_already_keep_their_weights():
    probs, base = uncertain(np.random.default_rng(1), 25), np.linspace(0.5, 1.5, 25)
    found = rake(probs, margins_under(probs, base), base=base * 7)
    np.testing.assert_allclose(found.weights, base, atol=1e-12)
    assert found.iterations == 0


def test_an_uncertain_trait_counts_by_its_probability():
    probs = {"region": np.array([[0.7, 0.3], [0.2, 0.8]])}
    found = rake(probs, {"region": [0.5, 0.5]})
    # 0.7 w + 0.2 (2 - w) = 1
    assert found.weights.tolist() == pytest.approx([1.2, 0.8])


def test_an_unknown_trait_counts_as_uniform_and_is_counted():
    probs = {"region": np.array([[1.0, 0.0], [np.nan, np.nan], [0.0, 1.0]]), "sex": np.full((3, 2), 0.5)}
    found = rake(probs, {"region": [0.75, 0.25]})
    uniform = rake({"region": np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])}, {"region": [0.75, 0.25]})
    assert found.weights.tolist() == uniform.weights.tolist()
    assert found.unannotated == {"region": 1, "sex": 0}


def test_a_cell_that_nobody_is_in_is_named_and_the_others_share_what_is_left():
    found = rake({"region": np.eye(3)[[0, 0, 1, 1]]}, {"region": [0.2, 0.3, 0.5]})
    assert found.empty == (("region", 2),) and found.margins["region"].tolist() == pytest.approx([0.4, 0.6, 0])
    assert list(found.unmet) == [("region", 2), ("region", 1), ("region", 0)]
    assert list(found.unmet.values()) == pytest.approx([0.5, -0.3, -0.2])
    lost = rake({"region": np.eye(3)[[0, 0, 0, 1]]}, {"region": [0, 0, 1]})
    assert lost.empty == (("region", 2),) and lost.weights.tolist() == [1, 1, 1, 1]


def test_a_joint_cell_that_nobody_is_in_is_named_by_both_levels():
    probs = {"age": np.eye(2)[[0, 0, 1]], "sex": np.eye(2)[[0, 1, 0]]}
    found = rake(probs, {("age", "sex"): [[0.25, 0.25], [0.25, 0.25]]})
    assert found.empty == ((("age", "sex"), (1, 1)),)
    assert found.unmet[("age", "sex"), (1, 1)] == 0.25 and found.margins["age", "sex"].shape == (2, 2)


def test_a_target_out_of_reach_is_met_as_nearly_as_can_be_and_says_by_how_much():
    probs = {"region": np.array([[0.7, 0.3], [0.5, 0.5], [0.5, 0.5]])}
    found = rake(probs, {"region": [0.9, 0.1]})
    assert found.margins["region"].tolist() == pytest.approx([0.7, 0.3], abs=1e-3)
    assert found.unmet["region", 0] == pytest.approx(0.2, abs=1e-3) and found.n_effective == pytest.approx(1, abs=0.01)
    spread = rake(probs, {"region": [0.9, 0.1]}, bounds=(0.5, 2))
    assert spread.weights.tolist() == pytest.approx([2, 0.5, 0.5], abs=1e-3)
    assert spread.unmet["region", 0] == pytest.approx(0.9 - 1.9 / 3, abs=1e-3)


def test_targets_that_contradict_each_other_are_met_halfway():
    probs = {"age": np.eye(2)[[0, 0, 1, 1]], "young": np.eye(2)[[0, 0, 1, 1]]}
    found = rake(probs, {"age": [0.6, 0.4], "young": [0.4, 0.6]})
    assert found.margins["age"].tolist() == pytest.approx([0.5, 0.5], abs=1e-4)
    assert found.unmet["age", 0] == pytest.approx(0.1, abs=1e-4)
    assert found.unmet["young", 0] == pytest.approx(-0.1, abs=1e-4)


@given(SEEDS)
def test_shares_of_samples_in_single_precision_are_raked_exactly(seed):
    rng = np.random.default_rng(seed)
    counts = {trait: rng.multinomial(40, rng.dirichlet(np.ones(k)), 50) for trait, k in LEVELS.items()}
    probs = {trait: (found / 40).astype(np.float32) for trait, found in counts.items()}
    exact = {trait: found / 40 for trait, found in counts.items()}
    wanted = margins_under(exact, rng.uniform(0.5, 2, 50))
    assert rake(probs, {trait: wanted[trait] for trait in LEVELS}, tolerance=1e-6).unmet == {}


def test_too_few_steps_are_no_silent_failure():
    probs = uncertain(np.random.default_rng(3), 30)
    found = rake(probs, {"age": [0.6, 0.3, 0.1]}, max_iterations=1)
    assert found.iterations == 2 and set(found.unmet) <= {("age", 0), ("age", 1), ("age", 2)} and found.unmet


HALVES = {"sex": np.array([[1.0, 0.0], [0.0, 1.0]])}


@pytest.mark.parametrize(
    ("targets", "options", "error", "message"),
    [
        ({}, {}, EmptyError, "needs people, and a target for at least one of their traits"),
        ({"sec": [0.5, 0.5]}, {}, UnknownNameError, "unknown trait of the target 'sec': did you mean 'sex'"),
        ({"sex": [0.5, 0.4]}, {}, OptionError, r"shares of 'sex' must be 0 or more and sum to 1, got .*, sum 0.9"),
        ({"sex": [1.5, -0.5]}, {}, OptionError, r"must be 0 or more and sum to 1, got \[1.5, -0.5\]"),
        ({"sex": [np.nan, 1]}, {}, OptionError, "must be 0 or more and sum to 1"),
        ({"sex": [0.2, 0.3, 0.5]}, {}, OptionError, r"a share for each of \(2,\) levels, got \(3,\)"),
        ({"sex": [0.5, 0.5]}, {"bounds": (1.5, 2)}, OptionError, r"around the mean weight, which is 1, got \(1.5, 2\)"),
        ({"sex": [0.5, 0.5]}, {"base": [1, 0]}, OptionError, "base must be 2 positive weights, got .* leave out who"),
        ({"sex": [0.5, 0.5]}, {"base": [1]}, OptionError, "base must be 2 positive weights"),
        ({"sex": [0.5, 0.5]}, {"tolerance": 0}, OptionError, "tolerance must be above 0 .* got 0, 100"),
        ({"sex": [0.5, 0.5]}, {"max_iterations": 0}, OptionError, "max_iterations at least 1, got 1e-07, 0"),
    ],
)
def test_what_cannot_be_raked_is_refused_with_the_value_and_the_range(targets, options, error, message):
    with pytest.raises(error, match=message):
        rake(HALVES, targets, **options)


def test_tables_of_different_people_are_refused():
    with pytest.raises(OptionError, match=r"must be of the same people, got tables of \[2, 3\] rows"):
        rake({**HALVES, "age": np.ones((3, 1))}, {"sex": [0.5, 0.5]})
    with pytest.raises(EmptyError, match="raking needs people"):
        rake({"sex": np.ones((0, 2))}, {"sex": [0.5, 0.5]})


# -- targets and drawing


def test_a_target_names_levels_and_what_it_does_not_name_has_no_share():
    codebook = Codebook.load("starter")
    found = target_shares({("gender", "region"): {("Male", "South"): 0.25, ("Female", "West"): 0.75}}, codebook)
    assert found["gender", "region"].tolist() == [[0, 0, 0.25, 0], [0, 0, 0, 0.75], [0, 0, 0, 0]]
    named = named_shares(found["gender", "region"], ("gender", "region"), codebook)
    assert {cell: share for cell, share in named.items() if share} == {
        ("Male", "South"): 0.25,
        ("Female", "West"): 0.75,
    }
    assert traits_in({("gender", "region"): 0, "age": 0, "region": 0}) == ["gender", "region", "age"]


@given(POSITIVE, st.data())
def test_inclusion_is_proportional_to_weight_up_to_certainty_and_sums_to_n(weights, data):
    n = data.draw(st.integers(1, len(weights)))
    chance = inclusion(weights, n)
    assert chance.sum() == pytest.approx(n) and (chance > 0).all() and chance.max() <= 1
    rest = chance < 1
    ratio = chance[rest] / np.array(weights)[rest]
    np.testing.assert_allclose(ratio, ratio[:1].repeat(len(ratio)))
    assert not rest.any() or np.array(weights)[~rest].min(initial=np.inf) >= np.array(weights)[rest].max() * (1 - 1e-9)


@given(POSITIVE, st.data())
def test_a_draw_is_of_n_different_people_and_always_of_those_who_are_certain(weights, data):
    n, seed = data.draw(st.integers(1, len(weights))), data.draw(SEEDS)
    chance = inclusion(weights, n)
    at = draw(chance, np.random.default_rng(seed).permutation(len(weights)), seed=seed)
    assert (
        len(set(at.tolist())) == n and (np.diff(at) > 0).all() and set(np.flatnonzero(chance == 1)) <= set(at.tolist())
    )


def test_people_without_weight_are_drawn_only_where_the_others_are_too_few():
    chance = inclusion([0.0, 2.0, 2.0, 0.0], 3)
    assert chance.tolist() == pytest.approx([0.5, 1, 1, 0.5])
    assert inclusion([0.0, 2.0, 2.0, 0.0], 1).tolist() == pytest.approx([0, 0.5, 0.5, 0], abs=1e-9)


def test_people_are_drawn_as_often_as_their_inclusion_says():
    chance, times = inclusion([5.0, 1.0, 2.0, 0.5, 3.0], 2), 2000
    counts = np.zeros(5)
    for seed in range(times):
        counts[draw(chance, np.array([3, 0, 2, 4, 1]), seed=seed)] += 1
    assert (np.abs(counts / times - chance) <= 5 * np.sqrt(chance * (1 - chance) / times) + 1e-12).all()


# -- samples for a target

TARGET = {
    "region": {"Northeast": 0.15, "Midwest": 0.3, "South": 0.3, "West": 0.25},
    ("gender", "age"): {("Female", "65+"): 0.3, ("Male", "65+"): 0.3, ("Female", "30-49"): 0.4},
}


def test_a_sample_stands_for_its_target_in_every_margin_and_says_how_well(starter):
    found = starter.sample(20, seed=3, target=TARGET)
    about = found.representation
    assert len(set(found.ids)) == 20 and about.unmet == {} and about.told == ""
    assert about.target["region"] == TARGET["region"]
    for key, shares in TARGET.items():
        for cell, share in shares.items():
            assert about.expected[key][cell] == pytest.approx(share, abs=1e-6)
            assert about.drawn[key][cell] == pytest.approx(share, abs=0.1)
    assert sum(about.drawn["gender", "age"].values()) == pytest.approx(1)
    assert about.drawn["region"] == pytest.approx(found.margins("region"), abs=1e-6)
    assert 20 <= about.n_effective < 320 and set(about.unannotated) == {"region", "gender", "age"}
    assert {persona.traits["age"] for persona in found} == {"65+", "30-49"}


def test_samples_have_the_expected_shares_in_the_mean(starter):
    drawn = [
        starter.sample(20, seed=seed, target={"age": {"18-29": 0.1, "30-49": 0.1, "50-64": 0.1, "65+": 0.7}})
        for seed in range(60)
    ]
    mean = np.mean([found.representation.drawn["age"]["65+"] for found in drawn])
    assert mean == pytest.approx(0.7, abs=0.01)
    assert len({tuple(found.ids) for found in drawn}) == 60


def test_the_order_of_a_view_changes_no_sample_and_the_seed_does(starter):
    turned = starter.score(age="65+")
    assert turned.ids != starter.ids
    sample = starter.sample(20, seed=5, target=TARGET)
    assert set(turned.sample(20, seed=5, target=TARGET).ids) == set(sample.ids)
    assert starter.sample(20, seed=5, target=TARGET).ids == sample.ids
    assert set(starter.sample(20, seed=6, target=TARGET).ids) != set(sample.ids)
    assert starter.representation is None and starter.sample(25).representation is None


def test_the_population_of_the_codebook_is_a_target_and_what_a_collection_lacks_of_it_is_told(starter):
    lacking = r"cells of the target cannot be met, the furthest off: .*'Orthodox' 0.0% of 0.3%.* among 320 personas"
    with pytest.warns(AnthologyWarning, match=lacking):
        found = starter.sample(50, target="population")
    about = found.representation
    assert about.unmet["religion", "Orthodox"] == pytest.approx(0.0034, abs=1e-5)
    assert about.expected["region"]["South"] == pytest.approx(0.3811, abs=0.001)
    assert about.target["age"] == pytest.approx(dict(population(starter.codebook)["age"]), abs=1e-3)


def test_a_sample_of_everybody_is_everybody_and_says_what_is_off(starter):
    with pytest.warns(AnthologyWarning, match="4 cells of the target cannot be met"):
        skewed = {"Northeast": 0.7, "South": 0.1, "West": 0.1, "Midwest": 0.1}
        found = starter.sample(len(starter), target={"region": skewed})
    assert found.ids == starter.ids
    assert found.representation.expected["region"] == pytest.approx(starter.margins("region"), abs=1e-5)


def test_margins_of_respondents_are_a_target(starter, gss):
    target = target_of(gss, starter.codebook, traits=["age", "education"])
    found = starter.sample(40, seed=1, target=target)
    assert found.representation.expected["age"] == pytest.approx(target["age"], abs=1e-6)


@pytest.mark.parametrize(
    ("n", "target", "error", "message"),
    [
        (321, TARGET, OptionError, "cannot sample 321 personas of 320: allowed are 1 to 320"),
        (0, TARGET, OptionError, "cannot sample 0 personas of 320"),
        (
            10,
            {"region": {"South": 0.6, "West": 0.3}},
            OptionError,
            "shares of 'region' must be .* sum 0.9",
        ),
        (10, {"region": {"Suoth": 1.0}}, UnknownNameError, "unknown level of region 'Suoth': did you mean 'South'"),
        (10, {"regoin": {"South": 1.0}}, UnknownNameError, "unknown trait 'regoin': did you mean 'region'"),
        (10, {}, OptionError, "the target names no trait: give shares such as"),
        (10, "census", OptionError, "unknown target 'census': give 'population', or shares as"),
        (10, {("gender", "age"): {"Male": 1.0}}, OptionError, r"must name 2 level\(s\) for each share, got 'Male'"),
    ],
)
def test_a_sample_that_cannot_be_is_refused_with_what_is_allowed(starter, n, target, error, message):
    with pytest.raises(error, match=message):
        starter.sample(n, target=target)


def test_a_codebook_without_population_shares_cannot_be_a_target():
    people = Anthology.from_records(
        [{"backstory": "One.", "traits": {}}], Codebook.load("anthology"), name="toy", licence="CC0-1.0"
    )
    with pytest.raises(OptionError, match="'anthology' has no population shares: give the target as a mapping"):
        people.sample(1, target="population")
