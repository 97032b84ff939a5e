import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anthology_hub import (
    EvaluateOptions,
    Respondents,
    SimulateOptions,
    Survey,
    evaluate,
    open_model,
    simulate,
    unmatched,
)
from anthology_hub.errors import DataError, EmptyError, OptionError, UnknownNameError
from anthology_hub.models.scripted import ScriptedModel
from anthology_hub.power import Assumed, Piloted, Population, PowerOptions, plan_power, power_at
from anthology_hub.schema import MISSING, Question

SHARES = [[0.2, 0.3, 0.5], [0.1, 0.6, 0.3], [0.5, 0.3, 0.2], [0.25, 0.7, 0.05], [0.7, 0.2, 0.1], [0.4, 0.6]]
PEOPLE = Population.made(SHARES)
QUICK = PowerOptions(replicates=150, bootstraps=60)
BIO = SimulateOptions(conditioning="bio")


def assumed(difference, **more):
    return Assumed(**{"population": PEOPLE, "difference": difference, **more})


def respondents(n=400, *, seed=0, missing=0.3, **more):
    """Weighted people whose answers go with their weights, some of them not asked."""
    rng = np.random.default_rng(seed)
    weights = rng.lognormal(sigma=0.6, size=n)
    answers = {}
    for key in "ab":
        codes = np.clip(np.round(rng.normal(1 + (weights > 1), 0.8)), 0, 2).astype(np.int16)
        answers[key] = np.where(rng.random(n) < missing, MISSING, codes).astype(np.int16)
    asked = tuple(Question(key=key, text=key, options=("No", "Partly", "Yes"), codes=(1, 2, 3)) for key in "ab")
    people = Respondents(name="town", ids=tuple(map(str, range(n))), levels={}, codes={}, answers=answers)
    survey = Survey(name="town", title="", source="", questions=asked)
    return replace(people, weights=weights, survey=survey, **more)


def pilots(humans, survey, n=120):
    """Two runs on the same respondents: guessing, and always the first option shown."""
    people = humans.sample(n)
    return [
        simulate(unmatched(people), survey, open_model(f"scripted:{rule}"), options=BIO)
        for rule in ("uniform", "first")
    ]


@pytest.fixture(scope="module")
def runs(gss, spending):
    return pilots(gss, spending)


def test_power_rises_with_the_number_of_personas_and_with_the_difference():
    powers = [[power_at(assumed(gap), n, options=QUICK).power for n in (40, 120, 400)] for gap in (0.02, 0.05)]
    assert (np.diff(powers, axis=1) > 0.05).all()
    assert (np.diff(powers, axis=0) > 0.1).all()


@pytest.mark.slow
@pytest.mark.parametrize("paired", [True, False])
def test_methods_that_do_not_differ_are_told_apart_as_often_as_alpha_says(paired):
    # 1,500 casts: a standard error of 0.0056; the tolerance is three of them and the noise of 200 bootstrap draws.
    point = power_at(assumed(0.0, paired=paired), 150, options=PowerOptions(replicates=1500))
    assert point.power == pytest.approx(0.05, abs=0.02)
    assert point.approximate == pytest.approx(0.05, abs=1e-9)
    assert point.error == pytest.approx(0.0056, abs=0.001)


@pytest.mark.slow
def test_the_number_found_reaches_its_power_in_casts_it_was_not_found_on():
    contest, options = assumed(0.05), PowerOptions(targets=(0.8,), replicates=600, bootstraps=150)
    found = plan_power(contest, sizes=[50], options=options).least[0.8]
    again = power_at(contest, found.n, options=replace(options, seed=7, replicates=1000))
    assert again.power >= 0.8 - 3 * np.hypot(found.error, again.error)
    fewer = power_at(contest, round(found.n / 1.4), options=replace(options, seed=7))
    assert fewer.power < 0.8


def test_far_from_zero_the_delta_method_agrees_with_the_casts():
    point = power_at(assumed(0.04), 150, options=PowerOptions(replicates=400, bootstraps=150))
    assert point.approximate == pytest.approx(point.power, abs=3 * point.error + 0.03)
    assert 0.2 < point.power < 0.9


def test_methods_that_answer_alike_for_a_respondent_are_told_apart_by_fewer_personas():
    shared, own, other = (
        power_at(assumed(0.02, level=0.05, **how), 600, options=QUICK).power
        for how in ({"alike": 1.0}, {"alike": 0.0}, {"paired": False})
    )
    assert shared > own + 0.1
    assert own == pytest.approx(other, abs=0.1)


@settings(max_examples=15)
@given(
    level=st.floats(0.0, 0.1),
    gap=st.floats(0.0, 0.05),
    toward=st.sampled_from(["uniform", "mode"]),
    paired=st.booleans(),
)
def test_casts_lie_as_far_from_weighted_humans_as_was_assumed(level, gap, toward, paired):
    people = Population.of(respondents())
    contest = Assumed(population=people, difference=gap, level=level, toward=toward, paired=paired)
    ladder = people.ladder
    for (codes, weights), wanted in zip(contest.casts(150_000, np.random.default_rng(1)), contest.levels, strict=True):
        shares = ladder.cumulative(weights @ ladder.indicators(codes))
        assert (codes != MISSING).all()
        assert ladder.distance(shares, people.cumulative) == pytest.approx(wanted, abs=0.004)


def test_a_made_population_has_the_given_shares_and_correlated_items():
    people = Population.made(SHARES, correlation=0.6)
    for found, wanted in zip(people.shares, SHARES, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1 / 4000)
    made = np.corrcoef(people.codes.T)
    assert 0.3 < made[0, 1] < 0.6
    assert abs(np.corrcoef(Population.made(SHARES, correlation=0.0).codes.T)[0, 1]) < 0.05


def test_the_shares_of_a_population_are_the_weighted_ones_of_those_who_answered():
    people = respondents()
    for key, shares in zip("ab", Population.of(people).shares, strict=True):
        known = people.answers[key] != MISSING
        counted = np.bincount(people.answers[key][known], weights=people.weights[known], minlength=3)
        np.testing.assert_allclose(shares, counted / counted.sum(), atol=1e-6)


def test_a_sample_of_humans_varies_as_theory_says_and_more_if_it_was_drawn_in_clusters():
    plain = replace(respondents(missing=0.0), weights=None)
    spread = Population.of(plain).noise(400, seed=1).std(axis=0)
    share = Population.of(plain).cumulative
    np.testing.assert_allclose(spread, np.sqrt(share * (1 - share) / 400), rtol=0.15)
    order = np.argsort(plain.answers["a"], kind="stable")
    psu = np.empty(400, dtype=np.int64)
    psu[order] = np.arange(400) // 20
    clustered = Population.of(replace(plain, psu=psu)).noise(400, seed=1).std(axis=0)
    assert (clustered[:2] > 2 * spread[:2]).all()
    fewer = Population.of(plain, people=100).noise(400, seed=1).std(axis=0)
    np.testing.assert_allclose(fewer, 2 * spread, rtol=1e-6)
    half = replace(Population.made(SHARES), people=100)
    np.testing.assert_allclose(
        half.noise(400, seed=1).std(axis=0), np.sqrt(half.cumulative * (1 - half.cumulative) / 100), rtol=0.2
    )
    assert (Population.of(plain, people=np.inf).noise(3, seed=1) == 0).all()


def test_the_same_seed_gives_the_same_power_whatever_is_held_at_once(monkeypatch):
    once = power_at(assumed(0.05), 60, options=QUICK)
    monkeypatch.setattr("anthology_hub.power._CELLS", 2**12)
    assert power_at(assumed(0.05), 60, options=QUICK) == once
    assert power_at(assumed(0.05), 60, options=replace(QUICK, seed=1)) != once


def test_pilots_have_the_distances_that_evaluate_finds_in_them(gss, spending, runs):
    contest = Piloted.of(tuple(runs), lambda survey: Population.of(gss, survey))
    options = EvaluateOptions(bootstraps=2, splits=1)
    wanted = [evaluate(run, gss, options=options).metric("wd_normalised").value for run in runs]
    assert contest.levels == pytest.approx(wanted, abs=1e-6)
    plan = plan_power(contest, sizes=[10, 30], options=replace(QUICK, targets=(0.8,)))
    assert plan.difference == pytest.approx(wanted[1] - wanted[0], abs=1e-6)
    assert plan.points[0].power <= plan.points[1].power
    assert "120 shared respondents" in plan.assumptions[0] and "overstates" in plan.assumptions[1]


@pytest.mark.parametrize("swapped", [False, True])
def test_a_smaller_difference_than_the_pilots_show_is_planned_by_mixing_the_worse_with_the_better(gss, runs, swapped):
    pair = tuple(runs[::-1] if swapped else runs)
    whole = Piloted.of(pair, lambda survey: Population.of(gss, survey))
    shown = abs(whole.levels[1] - whole.levels[0])
    contest = Piloted.of(pair, lambda survey: Population.of(gss, survey), difference=shown / 3)
    assert contest.levels[1] - contest.levels[0] == pytest.approx(shown / 3, abs=1e-6)
    assert contest.levels[0] == pytest.approx(min(whole.levels), abs=1e-9)
    assert f"{contest.mixed:.0%}" in contest.assumptions[1]
    ladder = contest.population.ladder
    (_, _), (codes, weights) = contest.casts(60_000, np.random.default_rng(0))
    far = ladder.distance(ladder.cumulative(weights @ ladder.indicators(codes)), contest.population.cumulative)
    assert far == pytest.approx(contest.levels[1], abs=0.004)


def test_unpaired_pilots_need_no_respondent_in_common(gss, spending):
    a = simulate(unmatched(gss.take(range(40))), spending, open_model("scripted:uniform"), options=BIO)
    b = simulate(unmatched(gss.take(range(40, 100))), spending, open_model("scripted:first"), options=BIO)
    with pytest.raises(EmptyError, match="share 0 respondents of 40 and 60.*--unpaired"):
        Piloted.of((a, b), lambda survey: Population.of(gss, survey))
    contest = Piloted.of((a, b), lambda survey: Population.of(gss, survey), paired=False)
    (first, _), (second, weights) = contest.casts(500, np.random.default_rng(0))
    assert first.shape == second.shape == (500, 4) and weights.shape == (500,)
    assert "40 and 60 personas" in contest.assumptions[0]


def test_where_the_humans_are_few_no_number_of_personas_is_enough():
    # One method errs upwards and one downwards: which is nearer depends on where the humans are.
    low, high = np.zeros((100, 6), dtype=np.int16), np.ones((100, 6), dtype=np.int16)
    low[:50], high[:60] = 1, 2
    high[:, 5] = np.arange(100) < 60
    weights = np.ones(100)
    people = Population.made([[1 / 3, 1 / 3, 1 / 3]] * 5 + [[0.5, 0.5]], people=15)
    contest = Piloted(population=people, first=(low, weights), second=(high, weights))
    options = replace(QUICK, targets=(0.9,))
    plan = plan_power(contest, options=options)
    assert plan.least[0.9] is None and plan.ceiling < 0.9
    assert any("out of reach" in line and "compare with more humans" in line for line in plan.lines())
    assert max(point.power for point in plan.points) < 0.9
    exact = plan_power(replace(contest, population=replace(people, people=np.inf)), options=options)
    assert exact.least[0.9].power >= 0.9 and exact.ceiling == 1.0


def test_where_both_err_the_same_way_the_humans_own_chance_sets_no_limit(gss, spending):
    contest = Assumed(population=Population.of(gss, spending), difference=0.05)
    plan = plan_power(contest, sizes=[30], options=replace(QUICK, targets=(0.9,)))
    assert plan.ceiling == 1.0 and 30 < plan.least[0.9].n < 1000


def test_large_casts_are_planned_by_the_delta_method_and_said_to_be():
    plan = plan_power(assumed(0.003), sizes=[20_000], options=replace(QUICK, targets=(0.8,)))
    found = plan.least[0.8]
    assert found.n > 10_000 and found.error is None and found.power == pytest.approx(0.8, abs=0.001)
    assert any("by the delta method" in line for line in plan.lines())


def test_a_plan_says_what_was_assumed_and_goes_through_json():
    plan = plan_power(assumed(0.06, level=0.05), options=replace(QUICK, targets=(0.8,)))
    told = json.loads(json.dumps(plan.to_dict()))
    assert told["levels"] == pytest.approx([0.05, 0.11]) and told["items"] == 6 and told["paired"] is True
    assert told["least"]["0.8"]["n"] == plan.least[0.8].n
    sizes = [point["n"] for point in told["points"]]
    assert sizes == sorted(sizes) and sizes[0] < plan.least[0.8].n < sizes[-1]
    text = "\n".join(plan.lines())
    for part in ("difference of 0.0600", "6 items, against made, taken as exact", "every option as likely",
                 "probability of 0.2", "only the shares of made are known", "60 bootstrap draws"):  # fmt: skip
        assert part in text


def test_a_result_serves_where_the_people_are_not_at_hand(gss, spending, runs):
    result = evaluate(runs[0], gss, options=EvaluateOptions(bootstraps=2, splits=1))
    people = Population.of(result)
    wanted = Population.of(gss, spending)
    assert people.people == len(gss)
    for found, share in zip(people.shares, wanted.shares, strict=True):
        np.testing.assert_allclose(found, share, atol=0.001)
    alpha = result.metric("alpha").human
    assert f"{alpha / (4 - 3 * alpha):.2f} between items" in people.told
    alone = Population.of(result, spending.select(["nataid"]), people=50)
    assert len(alone.shares) == 1 and alone.people == 50
    with pytest.raises(UnknownNameError, match="natsci.*Allowed: 'natenvir'"):
        Population.of(result, Survey.load("gss-national-spending").select(["natsci"]))
    alone = replace(result, metrics=(), n_humans=0, n_effective=None)
    assert Population.of(alone).people == np.inf and "0.10 between items" in Population.of(alone).told


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"alpha": 0.0}, OptionError, "above 0 and below 1.*got alpha 0.0"),
        ({"targets": (0.04,)}, OptionError, "a power above alpha.*0.04"),
        ({"replicates": 0}, OptionError, "replicates must be at least 1.*got 0"),
        ({"bootstraps": 1}, OptionError, "bootstraps at least 2.*got 500, 1"),
    ],
)
def test_options_out_of_range_are_refused(change, error, says):
    with pytest.raises(error, match=says):
        PowerOptions(**change)


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"difference": -0.1}, OptionError, "difference of -0.1 cannot be.*0 to 0.1694 .*difference of 0 or more"),
        ({"difference": 0.9}, OptionError, "difference of 0.9 cannot be"),
        ({"level": 0.9}, OptionError, "distance of 0.9"),
        ({"difference": float("nan")}, OptionError, "nan cannot be"),
        ({"alike": 1.5}, OptionError, "alike must be 0 to 1, got 1.5"),
        ({"toward": "modus"}, UnknownNameError, "did you mean 'mode'"),
    ],
)
def test_assumptions_that_cannot_be_are_refused(change, error, says):
    with pytest.raises(error, match=says):
        assumed(**{"difference": 0.02, **change})


def test_what_cannot_be_planned_is_said():
    with pytest.raises(OptionError, match="do not differ.*above 0"):
        plan_power(assumed(0.0))
    with pytest.raises(OptionError, match="cast of 3 is too small.*10 or more"):
        plan_power(assumed(0.05), sizes=[3])
    with pytest.raises(OptionError, match="at least 2 personas, got 1"):
        power_at(assumed(0.05), 1)


@pytest.mark.parametrize(
    ("shares", "more", "error", "says"),
    [
        ([[0.5, 0.6]], {}, DataError, r"item 1: .*sum to 1.*\[0.5, 0.6\]"),
        ([[1.0]], {}, DataError, "two shares or more"),
        ([[1.5, -0.5]], {}, DataError, "sum to 1"),
        ([[np.nan, 1.0]], {}, DataError, "sum to 1"),
        ([], {}, EmptyError, "no item"),
        ([[0.5, 0.5]], {"correlation": 1.0}, OptionError, "0 to below 1, got 1.0"),
    ],
)
def test_shares_that_are_none_make_no_population(shares, more, error, says):
    with pytest.raises(error, match=says):
        Population.made(shares, **more)


def test_humans_who_do_not_fit_are_refused(gss, spending, runs):
    people = respondents()
    with pytest.raises(UnknownNameError, match="question of town 'natenvir'.*'a', 'b'"):
        Population.of(people, spending)
    with pytest.raises(OptionError, match="2 humans or more are needed, got 1"):
        Population.of(people, people=1)
    with pytest.raises(OptionError, match="town has no survey: give one"):
        Population.of(replace(people, survey=None))
    silent = {**people.answers, "b": np.full(400, MISSING, dtype=np.int16)}
    with pytest.raises(EmptyError, match="nobody in town answered b: leave"):
        Population.of(replace(people, answers=silent))
    nominal = replace(people.survey, questions=tuple(replace(q, ordinal=False) for q in people.survey.questions))
    with pytest.raises(EmptyError, match="no question to town has options with an order"):
        Population.of(people, nominal)
    outside = {**people.answers, "b": np.full(400, 3, dtype=np.int16)}
    with pytest.raises(DataError, match="answer to 'b' of town is option 4, and it has 3"):
        Population.of(replace(people, answers=outside))


def test_pilots_that_do_not_fit_are_refused(gss, spending, runs):
    def humans(survey):
        return Population.of(gss, survey)

    other = simulate(unmatched(gss.sample(20)), spending.select(["nataid"]), open_model("scripted:first"), options=BIO)
    with pytest.raises(DataError, match="asked other questions.*nataid. Give two runs of one survey"):
        Piloted.of((runs[0], other), humans)
    with pytest.raises(OptionError, match="pilots differ by .* and cannot show a difference of 0.9"):
        Piloted.of(tuple(runs), humans, difference=0.9)
    mute = ScriptedModel("first", replies=lambda _prompt, _seed: "no idea")
    dumb = simulate(unmatched(gss.sample(120)), spending, mute, options=replace(BIO, mode="text"))
    with pytest.raises(EmptyError, match="a pilot has no answer to natenvir, nateduc"):
        Piloted.of((runs[0], dumb), humans)


def test_casts_that_agree_in_everything_are_not_told_apart(gss, runs):
    twice = Piloted.of((runs[0], runs[0]), lambda survey: Population.of(gss, survey))
    assert power_at(twice, 30, options=QUICK).power == 0.0
