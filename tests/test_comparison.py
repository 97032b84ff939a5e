import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from scipy import stats
from statsmodels.stats.multitest import multipletests

from anthology_hub import EvaluateOptions, evaluate
from anthology_hub.comparison import compare
from anthology_hub.errors import DataError, EmptyError, OptionError, UnknownNameError
from anthology_hub.measures import AGREEMENT, DISTANCE, MEASURES
from anthology_hub.resampling import bootstrap_counts
from anthology_hub.schema import MISSING
from tests.made_answers import SEEDS
from tests.made_runs import MINI, cast_of, codes_of, people
from tests.test_evaluation import group_of, nominal

SOME = EvaluateOptions(bootstraps=200)


def near(humans, seed, *, share=0.3, personas=()):
    """A run that answers as the humans, but for a share of answers at random."""
    rng = np.random.default_rng(seed)
    codes = codes_of(humans, MINI)
    return cast_of(
        humans, np.where(rng.random(codes.shape) < share, rng.integers(0, 6, codes.shape), codes), personas=personas
    )


def higher(humans, seed, share):
    """A run in which so many of the answers are two steps higher: a distance that is no chance."""
    codes, rng = codes_of(humans, MINI), np.random.default_rng(seed)
    return cast_of(humans, np.where(rng.random(codes.shape) < share, np.minimum(codes + 2, 5), codes))


def told(comparison):
    return {one.measure: one for one in comparison.differences}


def flat(difference):
    return [difference.value, difference.low, difference.high, difference.probability, difference.p]


# -- values by hand


def test_differences_are_those_of_the_distances_and_of_the_ways_to_the_humans_own():
    humans = people(1, 120, missing=0.05, traits={"gender": 2})
    runs = {"one": near(humans, 1), "two": near(humans, 2, share=0.8)}
    found = told(compare(runs, humans, options=SOME))
    one, two = (evaluate(run, humans, options=SOME) for run in runs.values())
    for name, difference in found.items():
        a, b = one.metric(name), two.metric(name)
        if MEASURES[name].kind == DISTANCE:
            assert difference.value == pytest.approx(a.value - b.value, abs=1e-9), name
        elif MEASURES[name].kind == AGREEMENT:
            assert difference.value == pytest.approx(b.value - a.value, abs=1e-9), name
        else:
            assert difference.value == pytest.approx(abs(a.value - a.human) - abs(b.value - b.human)), name
    assert list(found)[0] == "wd_normalised" and {"fro", "alpha", "omega", "kl", "variance_ratio"} < set(found)
    assert {"accuracy", "mad_accuracy", "item_correlation", "explained", "group_gaps", "coefficients"} < set(found)


def test_paired_draws_take_the_same_respondents_in_both_runs_and_the_same_humans():
    humans = people(2, 60)
    order = np.argsort(humans.ids, kind="stable")
    runs = {"one": higher(humans, 1, 0.5), "two": higher(humans, 2, 0.8)}
    found = told(compare(runs, humans, options=replace(SOME, bootstraps=50, seed=4)))["wd"]
    roles, them, draws = bootstrap_counts(60, 50, seed=4), bootstrap_counts(60, 50, seed=5), []
    place = np.empty(60, dtype=int)
    place[order] = np.arange(60)
    for row, human in zip(roles[:, place], them, strict=True):
        distances = []
        for run in runs.values():
            steps = []
            for ours, theirs in zip(run.picks.T, codes_of(humans, MINI).T, strict=True):
                weights = row * humans.weights, human * humans.weights
                steps.append(stats.wasserstein_distance(ours, theirs, *weights))
            distances.append(np.mean(steps))
        draws.append(distances)
    apart = np.subtract(*np.array(draws).T)
    # From the difference as measured to that of what chance leaves of both distances, as squares are without bias.
    values = [evaluate(run, humans, options=SOME).metric("wd").value for run in runs.values()]
    less = np.sqrt(2 * np.square(values) - np.square(draws).mean(axis=0))
    middles, reach = sorted([found.value, less[0] - less[1]]), stats.norm.ppf(0.975) * np.std(apart, ddof=1)
    assert (found.low, found.high) == pytest.approx((middles[0] - reach, middles[1] + reach))
    nearest = 0 if middles[0] < 0 < middles[1] else min(middles, key=abs)
    moved = apart - apart.mean() + nearest
    assert found.probability == pytest.approx((moved < 0).mean())
    assert found.p == pytest.approx(2 * stats.norm.sf(abs(nearest) / np.std(apart, ddof=1)))
    assert found.adjusted == found.p


@pytest.mark.parametrize(("adjustment", "theirs"), [("holm", "holm"), ("bh", "fdr_bh")])
def test_p_values_of_questions_are_normal_and_adjusted_for_how_many_there_are(adjustment, theirs):
    humans = people(3, 150)
    runs = {"one": near(humans, 1), "two": near(humans, 2, share=0.7)}
    comparison = compare(runs, humans, options=SOME, adjustment=adjustment)
    items = comparison.items
    assert [item.question for item in items] == list(MINI.keys)
    one, two = (evaluate(run, humans, options=SOME) for run in runs.values())
    z = stats.norm.ppf(0.975)
    for item, a, b in zip(items, one.items, two.items, strict=True):
        assert item.value == pytest.approx(a["wd_normalised"] - b["wd_normalised"])
        error = min(item.high - item.value, item.value - item.low) / z
        middles = item.low + z * error, item.high - z * error
        told = 0 if middles[0] < 0 < middles[1] else min(middles, key=abs)
        assert item.p == pytest.approx(2 * stats.norm.sf(abs(told) / error))
    p = [item.p for item in items]
    assert [item.adjusted for item in items] == pytest.approx(multipletests(p, method=theirs)[1])
    assert any(item.adjusted > item.p for item in items)


def test_a_run_that_is_nearer_is_found_nearer_and_the_questions_are_named():
    humans = people(4, 400)
    comparison = compare({"good": near(humans, 1, share=0.1), "bad": cast_of(humans, np.zeros((400, 5)))}, humans)
    found = comparison.difference("wd_normalised", "good", "bad")
    assert found.high < 0 and found.probability == 1 and found.p < 0.01
    lines = list(comparison.lines())
    assert lines[0].startswith("good against bad: good is closer; difference -0.") and "100%" in lines[0]
    assert lines[1] == "questions in which two runs differ (p < 0.05, Holm): C1, C2, C3, C4, C5"
    assert str(comparison) == "\n".join(lines)


# -- laws


@given(SEEDS)
@settings(max_examples=8)
def test_swapping_the_runs_turns_the_sign_and_nothing_else(seed):
    humans = people(seed, 40)
    runs = {"one": near(humans, seed), "two": near(humans, seed + 1)}
    for pair in (runs, {"one": runs["one"], "two": near(people(seed + 2, 40), 5)}):
        pair = (
            pair
            if pair is runs
            else pair | {"two": replace(pair["two"], respondent_ids=tuple("x" * n for n in range(40)))}
        )
        options = replace(SOME, bootstraps=20)
        there, back = (compare(each, humans, options=options) for each in (pair, dict(reversed(pair.items()))))
        assert there.paired == back.paired == (pair is runs)
        for name, one in told(there).items():
            other = told(back)[name]
            assert [one.value, one.low, one.high] == pytest.approx([-other.value, -other.high, -other.low], abs=1e-9)
            assert one.probability == pytest.approx(1 - other.probability) and one.p == other.p
        for one, other in zip(there.items, back.items, strict=True):
            assert one.value == -other.value and one.p == pytest.approx(other.p)
            assert one.adjusted == pytest.approx(other.adjusted)


@pytest.mark.parametrize("personas", [(), [f"p{at % 7}" for at in range(50)]])
def test_a_run_does_not_differ_from_itself(personas):
    humans = people(5, 50)
    run = near(humans, 1, personas=personas)
    comparison = compare({"one": run, "two": run}, humans, options=SOME)
    assert comparison.paired
    for one in comparison.differences:
        assert flat(one) == [0, 0, 0, 0.5, 1], one.measure
    assert [(item.value, item.p, item.adjusted) for item in comparison.items] == [(0, 1, 1)] * 5
    assert list(comparison.lines())[0].startswith("one against two: no clear difference")


@given(SEEDS)
@settings(max_examples=8)
def test_the_order_of_the_roles_and_the_scale_of_the_weights_change_nothing(seed):
    humans = people(seed, 40)
    one, two = near(humans, seed), near(humans, seed + 1)
    order = np.random.default_rng(seed).permutation(40)
    moved = replace(
        two,
        picks=two.picks[order],
        statuses=two.statuses[order],
        respondent_ids=tuple(two.respondent_ids[at] for at in order),
        weights=two.weights[order] * 3,
    )
    options = replace(SOME, bootstraps=20)
    first = compare({"one": one, "two": two}, humans, options=options)
    second = compare({"one": one, "two": moved}, replace(humans, weights=humans.weights * 5), options=options)
    assert second.paired
    for name, difference in told(first).items():
        assert flat(told(second)[name]) == pytest.approx(flat(difference), abs=1e-9), name


def test_what_the_respondents_have_in_common_drops_out_of_a_paired_difference():
    humans = people(6, 300, weighted=False)
    one, two = near(humans, 1, share=0.05), near(humans, 2, share=0.1)
    strangers = replace(two, respondent_ids=tuple(f"x{at}" for at in range(300)))
    paired, apart = (compare({"one": one, "two": each}, humans, options=SOME) for each in (two, strangers))
    assert paired.paired and not apart.paired
    assert apart.notes == (
        "300 of 300 roles stand for nobody among these humans. Figures person by person and by demographics are left "
        "out.",
        "The casts stand for different respondents: their roles are drawn apart.",
    )
    widths = [one.difference("alpha", "one", "two") for one in (paired, apart)]
    assert (widths[0].high - widths[0].low) < 0.75 * (widths[1].high - widths[1].low)


def test_personas_with_many_roles_are_drawn_as_well_and_widen_the_interval():
    humans = people(7, 200, weighted=False)
    few = [f"p{at % 10}" for at in range(200)]
    # All roles of a persona answer alike: there are ten answers and not two hundred.
    same = np.random.default_rng(0).integers(0, 6, (10, 5))[np.arange(200) % 10]
    one, two = near(humans, 1), cast_of(humans, same)
    alone, shared = (
        compare({"one": one, "two": replace(two, persona_ids=tuple(ids))}, humans, options=SOME)
        for ids in ([f"p{at}" for at in range(200)], few)
    )
    widths = [found.difference("wd", "one", "two") for found in (alone, shared)]
    assert widths[0].value == widths[1].value
    assert (widths[1].high - widths[1].low) > 2 * (widths[0].high - widths[0].low)


@pytest.mark.parametrize("held", ["respondents", "personas"])
def test_holding_one_side_narrows_the_interval(held):
    humans = people(8, 60)
    runs = {"one": near(humans, 1), "two": near(humans, 2, share=0.9)}
    both, one = (
        compare(runs, humans, options=replace(SOME, resample=each)).difference("wd", "one", "two")
        for each in ("both", held)
    )
    assert 0 < one.high - one.low < 1.02 * (both.high - both.low) and one.value == both.value


def test_three_runs_are_compared_two_by_two():
    humans = people(9, 50)
    runs = {name: near(humans, at) for at, name in enumerate("abc")}
    comparison = compare(runs, humans, options=replace(SOME, bootstraps=10))
    pairs = [("a", "b"), ("a", "c"), ("b", "c")]
    assert list(dict.fromkeys((one.first, one.second) for one in comparison.differences)) == pairs
    assert [(item.first, item.second) for item in comparison.items] == [pair for pair in pairs for _ in range(5)]
    values = [comparison.difference("wd", *pair).value for pair in pairs]
    assert values[1] == pytest.approx(values[0] + values[2])


def test_p_values_of_several_runs_are_adjusted_over_pairs_and_questions_together():
    humans = people(9, 80)
    runs = {name: near(humans, at, share=0.2 + 0.25 * at) for at, name in enumerate("abc")}
    comparison = compare(runs, humans, options=SOME)
    pairs = [("a", "b"), ("a", "c"), ("b", "c")]
    for name in ("wd", "accuracy"):
        held = [comparison.difference(name, *pair) for pair in pairs]
        assert [one.adjusted for one in held] == pytest.approx(multipletests([one.p for one in held], method="holm")[1])
    items = comparison.items
    assert [item.adjusted for item in items] == pytest.approx(multipletests([i.p for i in items], method="holm")[1])
    first = comparison.difference("wd_normalised", "a", "b")
    assert f"p {first.adjusted:.3f} (Holm over 3 pairs of runs)" in list(comparison.lines())[0]
    assert "questions in which two runs differ (p < 0.05, Holm over 3 pairs of runs): " in str(comparison)


def test_what_is_found_hangs_on_the_level_asked_for_and_on_the_adjusted_p():
    humans = people(9, 80)
    runs = {name: higher(humans, at, 0.4 + at / 50) for at, name in enumerate("abcd")}
    differences = [one for one in compare(runs, humans, options=SOME).differences if one.measure == "wd_normalised"]
    least = min(differences, key=lambda one: one.p)
    bound = round((least.p + least.adjusted) / 2, 3)
    comparison = compare(runs, humans, options=replace(SOME, level=1 - bound))
    heads = [one for one in comparison.differences if one.measure == "wd_normalised"]
    for one, line in zip(heads, comparison.lines(), strict=False):
        assert (one.adjusted < bound) == (" is closer" in line) and (one.p < bound) == (one.low > 0 or one.high < 0)
    assert least.p < bound <= least.adjusted
    assert f"{least.first} against {least.second}: no clear difference" in str(comparison)
    told = {item.question for item in comparison.items if item.adjusted < bound}
    assert f"(p < {bound:.4g}, Holm over 6 pairs of runs): {', '.join(sorted(told)) or 'none'}" in str(comparison)


def test_person_by_person_a_paired_difference_draws_the_same_people():
    humans = people(17, 60, weighted=False)
    runs = {"one": near(humans, 1), "two": near(humans, 2, share=0.6)}
    order = np.argsort(humans.ids, kind="stable")
    place = np.empty(60, dtype=int)
    place[order] = np.arange(60)
    same = {name: (run.picks == codes_of(humans, MINI)).mean(axis=1) for name, run in runs.items()}
    gap = same["two"] - same["one"]
    for held in ("both", "respondents"):
        options = replace(SOME, bootstraps=50, seed=4, resample=held)
        found = compare(runs, humans, options=options).difference("accuracy", "one", "two")
        draws = bootstrap_counts(60, 50, seed=4)[:, place] @ gap / 60
        reach = stats.norm.ppf(0.975) * np.std(draws, ddof=1)
        assert [found.value, found.low, found.high] == pytest.approx(
            [gap.mean(), gap.mean() - reach, gap.mean() + reach]
        )
        assert found.probability == 1


def test_a_comparison_is_plain_json_and_a_table():
    humans = people(10, 40)
    odd = near(humans, 2)
    odd = replace(odd, picks=np.where(np.arange(5) == 1, 3, odd.picks).astype(np.int16))
    comparison = compare({"a<b": near(humans, 1), "two": odd}, humans, options=replace(SOME, bootstraps=10))
    told_back = json.loads(json.dumps(comparison.to_dict(), allow_nan=False))
    assert told_back["schema_version"] and told_back["names"] == ["a<b", "two"]
    # One question has a single answer in one run: no correlations, and None rather than a number.
    assert flat(comparison.difference("fro", "a<b", "two")) == [None] * 5
    html = comparison._repr_html_()
    assert html.count("<tr>") == 1 + len(comparison.differences) and "a&lt;b" in html and "a<b" not in html


# -- refusals and gaps


def test_questions_without_an_order_have_no_p_of_their_own():
    humans = people(11, 40)
    survey = nominal(MINI, "C2")
    runs = {name: replace(near(humans, at), survey=survey) for at, name in enumerate("ab")}
    comparison = compare(runs, humans, options=replace(SOME, bootstraps=10))
    assert [item.question for item in comparison.items] == ["C1", "C3", "C4", "C5"]
    none = {name: replace(run, survey=nominal(MINI, *MINI.keys)) for name, run in runs.items()}
    comparison = compare(none, humans, options=replace(SOME, bootstraps=10))
    assert comparison.items == () and comparison.difference("wd", "a", "b").value is None
    assert list(comparison.lines())[0] == "a against b: undefined"
    assert list(comparison.lines())[1].endswith("none")


def test_a_cast_of_a_single_persona_has_differences_and_no_intervals():
    humans = people(12, 40)
    runs = {"one": near(humans, 1), "two": near(humans, 2, personas=["p"] * 40)}
    comparison = compare(runs, humans, options=SOME)
    found = comparison.difference("wd", "one", "two")
    assert found.value is not None and flat(found)[1:] == [None] * 4
    assert (
        "The cast has a single role or persona, whose chance cannot be told: there are no intervals."
        in comparison.notes
    )
    assert all(item.low is None and item.p is None for item in comparison.items)


def test_fewer_than_two_runs_and_unknown_adjustments_are_refused():
    humans = people(13, 20)
    run = near(humans, 1)
    with pytest.raises(OptionError, match="a comparison needs two runs or more, got none"):
        compare({}, humans)
    with pytest.raises(OptionError, match="a comparison needs two runs or more, got one"):
        compare({"one": run}, humans)
    with pytest.raises(OptionError, match="unknown adjustment 'tukey': allowed are holm, bh"):
        compare({"one": run, "two": run}, humans, adjustment="tukey")
    with pytest.raises(OptionError, match="wd of 'one' and 'three' is not compared; runs are one, two"):
        compare({"one": run, "two": run}, humans, options=replace(SOME, bootstraps=2)).difference("wd", "one", "three")


def test_runs_of_other_questions_or_options_are_refused_with_both():
    humans = people(14, 20)
    part = MINI.select(["C1", "C2"])
    with pytest.raises(
        DataError, match="two was not asked the same questions as one: C1, C2 against C1, C2, C3, C4, C5"
    ):
        compare({"one": near(humans, 1), "two": cast_of(humans, survey=part)}, humans)
    other = replace(MINI, questions=tuple(replace(q, options=q.options[::-1]) for q in MINI.questions))
    with pytest.raises(DataError, match="two was not asked the same questions as one"):
        compare({"one": near(humans, 1), "two": replace(near(humans, 2), survey=other)}, humans)


def test_questions_that_the_humans_or_a_run_lack_are_refused_and_shares_are_no_people():
    humans = people(15, 20)
    runs = {"one": near(humans, 1), "two": near(humans, 2)}
    lacking = replace(humans, answers={key: humans.answers[key] for key in ("C1", "C2")})
    with pytest.raises(UnknownNameError, match="unknown question of toy-humans 'C3'"):
        compare(runs, lacking)
    mute = replace(runs["two"], picks=np.full((20, 5), MISSING, dtype=np.int16))
    with pytest.raises(EmptyError, match="nobody in the simulation answered C1, C2, C3, C4, C5"):
        compare({"one": runs["one"], "two": mute}, humans)
    with pytest.raises(OptionError, match="table has no people to draw: compare against respondents, or evaluate each"):
        compare(runs, group_of(humans, MINI))


def test_casts_of_different_size_are_compared_apart_and_the_sizes_are_told():
    humans = people(16, 60)
    runs = {"large": near(humans, 1), "small": near(humans.take(range(20)), 2)}
    comparison = compare(runs, humans, options=replace(SOME, bootstraps=10))
    said = (
        "The casts differ in how many roles or personas they have (large 60, small 20): the distance of a smaller one"
    )
    assert not comparison.paired and any(note.startswith(said) for note in comparison.notes)


def test_a_small_cast_as_good_as_a_large_one_is_told_to_be_further_off_less_often():
    humans, far = people(16, 400), []
    runs = {"large": near(humans, 1, share=0.5), "small": near(humans.take(range(50)), 2, share=0.5)}
    for one in compare(runs, humans, options=replace(SOME, bootstraps=200)).differences:
        assert one.p is None or (one.p < 0.05) == (one.low > 0 or one.high < 0), one.measure
        far.append(one.measure)
    assert "jsd" in far


def test_roles_that_share_personas_count_as_their_personas_in_the_size_of_a_cast():
    humans = people(16, 60)
    runs = {
        "own": near(humans, 1),
        "shared": replace(near(humans, 2), persona_ids=tuple(f"p{at % 6}" for at in range(60))),
    }
    notes = compare(runs, humans, options=replace(SOME, bootstraps=10)).notes
    assert any("(own 60, shared 6)" in note for note in notes)
