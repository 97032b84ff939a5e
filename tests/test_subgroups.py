import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from scipy import stats

from anthology_hub import EvaluateOptions, Result, evaluate
from anthology_hub.errors import OptionError, UnknownNameError
from anthology_hub.resampling import bootstrap_counts
from anthology_hub.schema import MISSING
from tests.made_answers import SEEDS
from tests.made_runs import MINI, QUICK, cast_of, codes_of, people
from tests.test_evaluation import group_of

BY_AGE = replace(QUICK, by=("age",), least=10)
PROPER = {"accuracy", "mad_accuracy", "item_correlation", "explained", "group_gaps", "coefficients"}


def aged(seed, n=200, **changes):
    return people(seed, n, traits={"age": 3}, **changes)


def worse_for_the_old(humans, seed=0):
    """Answers as the humans', but at random among the last age."""
    codes = codes_of(humans, MINI)
    noise = np.random.default_rng(seed).integers(0, 6, codes.shape)
    return cast_of(humans, np.where((humans.codes["age"] == 2)[:, None], noise, codes))


def test_a_subgroup_has_the_figures_of_its_roles_against_its_humans():
    humans = aged(1, missing=0.05)
    rows = list(range(120))
    answers = worse_for_the_old(humans.take(rows))
    subgroups = evaluate(answers, humans, options=BY_AGE).subgroups
    assert [(one.trait, one.level) for one in subgroups] == [("age", f"age {at}") for at in range(3)]
    for at, one in enumerate(subgroups):
        theirs = humans.take(np.flatnonzero(humans.codes["age"] == at).tolist())
        roles = np.flatnonzero(humans.codes["age"][rows] == at)
        part = cast_of(humans.take(roles.tolist()), answers.picks[roles])
        alone = evaluate(part, theirs, options=QUICK)
        assert (one.n, one.n_human) == (len(roles), len(theirs))
        for metric in one.metrics:
            same = alone.metric(metric.name)
            for name in ("value", "human", "floor", "floor_equal_n", "uniform", "majority", "margins", "attained"):
                assert getattr(metric, name) == pytest.approx(getattr(same, name)), (metric.name, name)
        assert {metric.name for metric in one.metrics} == {metric.name for metric in alone.metrics} - PROPER
        assert one.metric("wd").low < one.metric("wd").value < one.metric("wd").high


def test_the_parity_gap_is_that_of_the_furthest_to_the_nearest_subgroup():
    humans = aged(2)
    subgroups = evaluate(worse_for_the_old(humans), humans, options=BY_AGE).subgroups
    values = [one.metric("wd_normalised").value for one in subgroups]
    assert values[0] == values[1] == 0 < values[2]
    worst = subgroups[2]
    # The bootstrap has a little of the distance down to chance, or nothing.
    assert 0.5 * values[2] < worst.gap <= values[2] and worst.nearest == "age 0"
    assert 0 < worst.gap_low < worst.gap < worst.gap_high
    assert [(one.gap, one.gap_low, one.nearest) for one in subgroups[:2]] == [(None, None, "")] * 2


def test_the_gap_is_that_of_distances_less_their_chance_and_its_interval_holds_for_all_pairs_at_once():
    humans = aged(3, 90)
    answers = worse_for_the_old(humans)
    answers = replace(answers, picks=((answers.picks + 1) % 6).astype(np.int16))
    subgroups = evaluate(answers, humans, options=BY_AGE).subgroups
    worst = next(one for one in subgroups if one.gap is not None)
    # Everybody answers for itself: roles and people are the same draws.
    us = them = bootstrap_counts(90, 20, seed=0)
    age, codes, z = humans.codes["age"], codes_of(humans, MINI), stats.norm.ppf(1 - 0.05 / 3 / 2)
    true, below, above = {}, {}, {}
    for level, one in enumerate(subgroups):
        rows, draws = age == level, []
        for row, other in zip(us, them, strict=True):
            mine, theirs = (row * humans.weights)[rows], (other * humans.weights)[rows]
            pairs = zip(answers.picks[rows].T, codes[rows].T, strict=True)
            draws.append(np.mean([stats.wasserstein_distance(a, b, mine, theirs) for a, b in pairs]) / 5)
        value, squares = one.metric("wd_normalised").value, np.square(draws)
        true[one.level] = np.sqrt(2 * value**2 - squares.mean())
        square = 2 * value**2 - squares.mean() - z * squares.std(ddof=1)
        below[one.level] = true[one.level] - np.sqrt(max(square, 0))
        above[one.level] = value + z * np.std(draws, ddof=1) - true[one.level]
    assert (worst.level, worst.nearest) == (max(true, key=true.get), min(true, key=true.get))
    assert worst.gap == pytest.approx(true[worst.level] - true[worst.nearest])
    assert worst.gap_low == pytest.approx(worst.gap - np.hypot(below[worst.level], above[worst.nearest]))
    assert worst.gap_high == pytest.approx(worst.gap + np.hypot(above[worst.level], below[worst.nearest]))


def test_small_groups_are_not_found_worse_served_by_a_simulator_that_is_right_in_all():
    found = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        humans = people(seed, 400, weighted=False)
        sizes = rng.choice(4, 400, p=[0.85, 0.05, 0.05, 0.05]).astype(np.int16)
        humans = replace(humans, levels={"size": ("large", "a", "b", "c")}, codes={"size": sizes})
        answers = cast_of(humans, codes_of(humans, MINI)[rng.integers(0, 400, 400)])
        options = EvaluateOptions(bootstraps=60, splits=1, by=("size",), least=5)
        found += [one for one in evaluate(answers, humans, options=options).subgroups if one.gap is not None]
    assert len(found) == 8 and sum(one.level == "large" for one in found) <= 4
    assert all(one.gap_low <= 0 for one in found)


def test_groups_of_one_distance_still_have_a_gap_of_two_groups():
    humans = aged(5)
    (worst,) = [one for one in evaluate(cast_of(humans), humans, options=BY_AGE).subgroups if one.gap is not None]
    assert worst.gap == 0 and worst.level != worst.nearest


def test_levels_with_too_few_roles_or_humans_have_no_figures_and_say_how_many_are_needed():
    humans = aged(4)
    some = np.flatnonzero(humans.codes["age"] != 1)[:60].tolist()
    subgroups = evaluate(cast_of(humans.take(some)), humans, options=replace(BY_AGE, least=15)).subgroups
    middle = subgroups[1]
    count = int((humans.codes["age"] == 1).sum())
    assert (middle.n, middle.n_human, middle.metrics) == (0, count, ())
    assert middle.note == f"0 roles and {count} humans: at least 15 of each are needed."
    assert all(one.metrics for one in (subgroups[0], subgroups[2]))
    few = evaluate(cast_of(humans), humans, options=replace(BY_AGE, least=500)).subgroups
    assert all(not one.metrics and one.gap is None for one in few)


def test_one_level_alone_has_no_gap():
    humans = aged(5)
    rows = np.flatnonzero(humans.codes["age"] == 0).tolist()
    subgroups = evaluate(cast_of(humans.take(rows)), humans, options=BY_AGE).subgroups
    assert subgroups[0].metrics and all(one.gap is None and one.nearest == "" for one in subgroups)


def test_a_level_in_which_nobody_answered_a_question_says_so():
    humans = aged(6)
    codes = codes_of(humans, MINI).copy()
    codes[humans.codes["age"] == 1, 2] = MISSING
    subgroups = evaluate(cast_of(humans, codes), humans, options=BY_AGE).subgroups
    assert subgroups[1].metrics == () and subgroups[1].note == "Nobody answered C3."
    weightless = replace(humans, weights=np.where(humans.codes["age"] == 1, 0.0, 1.0))
    assert (
        evaluate(cast_of(humans), weightless, options=BY_AGE).subgroups[1].note
        == f"Nobody answered {', '.join(MINI.keys)}."
    )


def test_people_of_unknown_level_and_roles_of_strangers_are_in_no_subgroup():
    humans = aged(7)
    codes = humans.codes["age"].copy()
    codes[:20] = MISSING
    humans = replace(humans, codes={"age": codes})
    answers = replace(cast_of(humans), respondent_ids=(*humans.ids[:-10], *(f"x{at}" for at in range(10))))
    subgroups = evaluate(answers, humans, options=BY_AGE).subgroups
    assert sum(one.n_human for one in subgroups) == 180 and sum(one.n for one in subgroups) == 170


def test_undefined_figures_of_a_subgroup_have_their_own_reasons():
    humans = aged(8)
    codes = codes_of(humans, MINI).copy()
    codes[humans.codes["age"] == 1, 0] = 3
    subgroups = evaluate(cast_of(humans, codes), humans, options=BY_AGE).subgroups
    fro = [one.metric("fro") for one in subgroups]
    assert [metric.value is None for metric in fro] == [False, True, False]
    assert fro[1].note == "Correlations are undefined: only one option occurs among the simulated answers to C1."
    assert subgroups[0].note == ""


def test_several_traits_make_their_own_subgroups_and_gaps():
    humans = people(9, 200, traits={"age": 3, "gender": 2})
    answers = cast_of(humans, np.random.default_rng(0).integers(0, 6, (200, 5)))
    subgroups = evaluate(answers, humans, options=replace(BY_AGE, by=("gender", "age"))).subgroups
    assert [one.trait for one in subgroups] == ["gender"] * 2 + ["age"] * 3
    for trait in ("gender", "age"):
        assert sum(one.gap is not None for one in subgroups if one.trait == trait) == 1


def test_a_clustered_design_is_drawn_for_all_subgroups_at_once():
    humans = aged(10, 300, weighted=False)
    answers = cast_of(humans, np.random.default_rng(0).integers(0, 6, (300, 5)))
    # Each sampling unit is of one mind in the first question, whatever its ages.
    units = humans.answers["C1"].astype(np.int64) * 3 + np.arange(300) % 3
    design = replace(humans, psu=units, strata=np.zeros(300, dtype=np.int64))
    options = replace(BY_AGE, bootstraps=200, resample="respondents")
    plain, clustered = (evaluate(answers, each, options=options).subgroups for each in (humans, design))
    for one, other in zip(plain, clustered, strict=True):
        a, b = one.metric("wd"), other.metric("wd")
        assert a.value == b.value and (b.high - b.low) > 1.3 * (a.high - a.low)


def test_subgroups_come_back_from_json():
    humans = aged(11)
    result = evaluate(worse_for_the_old(humans), humans, options=BY_AGE)
    assert Result.from_dict(json.loads(json.dumps(result.to_dict(), allow_nan=False))).subgroups == result.subgroups
    with pytest.raises(UnknownNameError, match="unknown metric 'accuracy'"):
        result.subgroups[0].metric("accuracy")


def test_unknown_traits_and_humans_who_are_shares_are_refused():
    humans = aged(12, 60)
    answers = cast_of(humans)
    with pytest.raises(UnknownNameError, match="unknown trait of toy-humans 'income': .*Allowed: 'age'"):
        evaluate(answers, humans, options=replace(BY_AGE, by=("income",)))
    with pytest.raises(
        OptionError, match=r"table has no people to tell apart: leave out by=\('age',\), or give respond"
    ):
        evaluate(answers, group_of(humans, MINI), options=BY_AGE)


@given(SEEDS)
@settings(max_examples=6)
def test_the_order_of_people_and_the_scale_of_weights_change_no_subgroup(seed):
    humans, rng = aged(seed, 90), np.random.default_rng(seed)
    answers = cast_of(humans, rng.integers(0, 6, (90, 5)))
    order = rng.permutation(90).tolist()
    options = EvaluateOptions(bootstraps=2, splits=1, by=("age",), least=5)
    one = evaluate(answers, humans, options=options).subgroups
    scaled = replace(humans, weights=humans.weights * 9)
    for changed, same_draws in ((scaled, True), (scaled.take(order), False)):
        for a, b in zip(one, evaluate(answers, changed, options=options).subgroups, strict=True):
            assert (a.level, a.n, a.n_human) == (b.level, b.n, b.n_human)
            if same_draws:
                assert (a.gap, a.nearest) == (pytest.approx(b.gap), b.nearest)
            for metric in a.metrics:
                assert metric.value == pytest.approx(b.metric(metric.name).value, abs=1e-7), metric.name
