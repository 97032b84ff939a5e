import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pingouin
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import spatial, stats

from anthology_hub import (
    Anthology,
    EvaluateOptions,
    Respondents,
    Result,
    SimulateOptions,
    Survey,
    evaluate,
    open_model,
    simulate,
)
from anthology_hub.errors import DataError, EmptyError, OptionError, UnknownNameError
from anthology_hub.evaluation import _turned, human_figures, simulated_figures
from anthology_hub.margins import Margins
from anthology_hub.matching import as_themselves
from anthology_hub.models.scripted import ScriptedModel
from anthology_hub.resampling import half_splits
from anthology_hub.schema import ASKED, MISSING
from anthology_hub.sides import human_side, simulated_side
from anthology_hub.weighting import effective_size
from tests.made_runs import MINI, QUICK, cast_of, codes_of, people, replay, run, with_picks

PAPER = replace(QUICK, weighting="paper")
SEEDS = st.integers(0, 2**32 - 1)

FROM_FIGURES = (
    "wd_normalised", "wd", "jsd", "tv", "kl", "fro", "fro_spearman", "cbs", "alpha", "omega", "variance_ratio",
    "entropy_ratio",
)  # fmt: skip


def frame(codes, survey):
    return pd.DataFrame(np.where(codes == MISSING, np.nan, codes), columns=list(survey.keys))


def values(result):
    return {metric.name: metric.value for metric in result.metrics}


# -- by hand, with pandas and scipy


def shares_by_hand(table, weights, k):
    weights = pd.Series(weights)
    columns = {}
    for key in table:
        known = table[key].notna()
        sums = weights[known].groupby(table[key][known]).sum()
        columns[key] = (sums / sums.sum()).reindex(range(k), fill_value=0.0).to_numpy()
    return columns


def wd_by_hand(ours, theirs):
    at = np.arange(len(next(iter(ours.values()))))
    return np.mean([stats.wasserstein_distance(at, at, ours[key], theirs[key]) for key in ours])


def jsd_by_hand(ours, theirs):
    return np.mean([spatial.distance.jensenshannon(ours[key], theirs[key], base=2) for key in ours])


def pearson_by_hand(x, y, weights):
    known = x.notna() & y.notna()
    c = np.cov(x[known], y[known], aweights=np.asarray(weights)[known])
    return c[0, 1] / np.sqrt(c[0, 0] * c[1, 1])


def correlations_by_hand(table, weights):
    return np.array([[pearson_by_hand(table[a], table[b], weights) for b in table] for a in table])


def turned(table, survey):
    """The table with its reverse-keyed items turned."""
    columns = {q.key: len(q.options) - 1 - table[q.key] if q.reverse else table[q.key] for q in survey.questions}
    return pd.DataFrame(columns)


@pytest.mark.parametrize("seed", range(3))
def test_paper_weighting_is_humans_weighted_and_listwise_simulation_unweighted_and_no_reverse_keys(seed):
    humans, cast = people(seed, 120, missing=0.06), people(seed + 10, 70, missing=0.05)
    result = evaluate(replay(cast, MINI), humans, options=PAPER)
    theirs, ours = frame(codes_of(humans, MINI), MINI), frame(codes_of(cast, MINI), MINI)
    wd = wd_by_hand(shares_by_hand(ours, np.ones(70), 6), shares_by_hand(theirs, humans.weights, 6))
    complete = theirs.notna().all(axis=1)
    human_r = correlations_by_hand(theirs[complete], humans.weights[complete])
    found = values(result)
    assert {name: found[name] for name in ("wd", "wd_normalised", "jsd", "fro", "alpha")} == pytest.approx(
        {
            "wd": wd,
            "wd_normalised": wd / 5,
            "jsd": jsd_by_hand(shares_by_hand(ours, np.ones(70), 6), shares_by_hand(theirs, humans.weights, 6)),
            "fro": np.linalg.norm(ours.corr().to_numpy() - human_r),
            "alpha": pingouin.cronbach_alpha(ours)[0],
        }
    )
    assert result.metric("alpha").human == pytest.approx(pingouin.cronbach_alpha(theirs)[0])
    assert result.weighting == "paper" and 0 < complete.sum() < 120


@pytest.mark.parametrize("seed", range(3))
def test_weighted_weighting_weighs_both_sides_pairwise_and_turns_reverse_keys(seed):
    humans, cast = people(seed, 120, missing=0.06), people(seed + 10, 70, missing=0.05)
    result = evaluate(replay(cast, MINI), humans, options=QUICK)
    theirs, ours = frame(codes_of(humans, MINI), MINI), frame(codes_of(cast, MINI), MINI)
    found = values(result)
    wd = wd_by_hand(shares_by_hand(ours, cast.weights, 6), shares_by_hand(theirs, humans.weights, 6))
    assert found["wd"] == pytest.approx(wd) and found["wd_normalised"] == pytest.approx(wd / 5)
    gap = correlations_by_hand(ours, cast.weights) - correlations_by_hand(theirs, humans.weights)
    assert found["fro"] == pytest.approx(np.linalg.norm(gap))
    assert sum(question.reverse for question in MINI.questions) == 2


def test_weighted_alpha_of_complete_answers_is_that_of_the_weighted_covariance_of_turned_items():
    humans, cast = people(1, 100), people(2, 60)
    alpha = evaluate(replay(cast, MINI), humans, options=QUICK).metric("alpha")
    for value, side in ((alpha.value, cast), (alpha.human, humans)):
        c = np.cov(turned(frame(codes_of(side, MINI), MINI), MINI).T, aweights=side.weights)
        assert value == pytest.approx(5 / 4 * (1 - np.trace(c) / c.sum()))


def test_unweighted_alpha_equals_pingouin_on_turned_items_but_for_its_denominators_where_answers_are_missing():
    for missing, reach in ((0.0, 1e-9), (0.1, 2e-3)):
        humans, cast = people(1, 100, missing=missing, weighted=False), people(2, 60, missing=missing, weighted=False)
        alpha = evaluate(replay(cast, MINI), humans, options=QUICK).metric("alpha")
        for value, side in ((alpha.value, cast), (alpha.human, humans)):
            theirs = pingouin.cronbach_alpha(turned(frame(codes_of(side, MINI), MINI), MINI))[0]
            assert value == pytest.approx(theirs, abs=reach) and (missing == 0 or value != pytest.approx(theirs))


@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_alpha_and_omega_of_people_who_weigh_as_many_are_those_of_as_many_people(missing):
    humans, counts = people(3, 60, missing=missing, weighted=False), np.random.default_rng(0).integers(1, 9, 60)
    repeated = humans.take(np.arange(60).repeat(counts).tolist())
    repeated = replace(repeated, ids=tuple(f"s{at}" for at in range(len(repeated))))
    one, other = (human_figures(each, MINI) for each in (replace(humans, weights=counts * 0.37), repeated))
    assert (one.alpha[0], one.omega[0]) == pytest.approx((other.alpha[0], other.omega[0]), abs=1e-9)


# -- laws


@pytest.mark.parametrize("weighted", [True, False])
def test_humans_simulated_by_themselves_have_no_distance_and_equal_alpha(weighted):
    humans = people(3, 80, missing=0.1, weighted=weighted)
    result = evaluate(replay(humans, MINI), humans, options=QUICK)
    found = values(result)
    assert [found["wd"], found["wd_normalised"], found["fro"]] == pytest.approx([0, 0, 0], abs=1e-9)
    assert found["alpha"] == pytest.approx(result.metric("alpha").human)
    assert all(item["wd"] == 0 and item["human"] == item["simulated"] for item in result.items)


def test_the_gss_simulated_by_itself_has_no_distance(gss, spending):
    part = gss.sample(300)
    complete = part.take(np.flatnonzero((codes_of(part, spending) != MISSING).all(axis=1)).tolist())
    for humans, options in ((part, QUICK), (complete, PAPER)):
        found = evaluate(replay(humans, spending), humans, options=options)
        assert [found.metric(m).value for m in ("wd", "fro")] == pytest.approx([0, 0], abs=1e-9)
        assert found.metric("alpha").value == pytest.approx(found.metric("alpha").human)


def test_in_the_paper_weighting_unequal_weights_alone_make_a_distance():
    humans = people(3, 80)
    plain = replace(humans, weights=None)
    answers = replay(humans, MINI)
    assert values(evaluate(answers, humans, options=PAPER))["wd"] > 0.01
    assert values(evaluate(answers, plain, options=PAPER))["wd"] == 0


@settings(max_examples=15)
@given(SEEDS)
def test_integer_weights_are_repeated_people_on_both_sides(seed):
    rng = np.random.default_rng(seed)
    sides = [
        replace(people(seed + i, n, weighted=False), weights=rng.integers(1, 4, n) * 1.0)
        for i, n in enumerate((30, 20))
    ]
    repeated = [s.take(np.repeat(np.arange(len(s)), s.weights.astype(int)).tolist()) for s in sides]
    plain = [replace(s, weights=None) for s in repeated]
    least = EvaluateOptions(bootstraps=2, splits=1)
    weighted = evaluate(replay(sides[0], MINI), sides[1], options=least)
    assert values(weighted) == pytest.approx(values(evaluate(replay(plain[0], MINI), plain[1], options=least)))


@settings(max_examples=15)
@given(SEEDS, st.floats(1e-3, 1e3))
def test_the_scale_of_the_weights_and_the_order_of_people_change_no_value(seed, scale):
    humans, cast = people(seed, 40, missing=0.1), people(seed + 1, 30, missing=0.1)
    least = EvaluateOptions(bootstraps=2, splits=1)
    first = values(evaluate(replay(cast, MINI), humans, options=least))
    order = np.random.default_rng(seed).permutation(40).tolist()
    shuffled = replace(humans.take(order), weights=humans.weights[order] * scale)
    scaled = replace(cast, weights=cast.weights * scale)
    assert values(evaluate(replay(scaled, MINI), shuffled, options=least)) == pytest.approx(first)


def test_the_same_options_give_the_same_result_and_the_seed_moves_only_the_company():
    humans, answers = people(1, 60), replay(people(2, 40), MINI)
    assert evaluate(answers, humans, options=QUICK) == evaluate(answers, humans, options=QUICK)
    other = evaluate(answers, humans, options=replace(QUICK, seed=1))
    for one, two in zip(evaluate(answers, humans, options=QUICK).metrics, other.metrics, strict=True):
        assert one.value == two.value and one.uniform == two.uniform and one.majority == two.majority
        assert (one.low, one.high) != (two.low, two.high) and (one.floor != two.floor or one.floor is None)


def test_a_part_of_a_survey_is_evaluated_on_its_questions_alone():
    humans, cast = people(1, 60), people(2, 40)
    part = MINI.select(["C4", "C1"])
    result, whole = evaluate(replay(cast, part), humans), evaluate(replay(cast, MINI), humans)
    assert result.questions == ("C4", "C1") == tuple(item["question"] for item in result.items)
    by_key = {item["question"]: item["wd"] for item in whole.items}
    assert result.metric("wd").value == pytest.approx(np.mean([by_key["C4"], by_key["C1"]]))


# -- published values


@pytest.mark.parametrize(("scale", "alpha"), [("A", 0.70), ("C", 0.73), ("E", 0.76), ("N", 0.81), ("O", 0.60)])
def test_bfi_scales_have_the_alphas_that_psych_publishes(scale, alpha):
    survey = Survey.load("bfi").select([f"{scale}{number}" for number in range(1, 6)])
    assert human_figures(Respondents.load("bfi"), survey).alpha[0] == pytest.approx(alpha, abs=0.005)


def test_alpha_of_a_survey_with_scales_is_their_mean():
    bfi, survey = Respondents.load("bfi"), Survey.load("bfi")
    assert len(survey.scales) == 5
    alone = [human_figures(bfi, survey.select(keys)).alpha[0] for keys in survey.scales.values()]
    assert human_figures(bfi, survey).alpha[0] == pytest.approx(np.mean(alone))


def test_each_scale_has_its_own_alpha_and_omega_with_the_published_ones_of_the_humans():
    survey, bfi = Survey.load("bfi"), Respondents.load("bfi")
    result = evaluate(cast_of(bfi.sample(200), survey=survey), bfi, options=QUICK)
    published = {"agreeableness": 0.70, "conscientiousness": 0.73, "extraversion": 0.76, "neuroticism": 0.81}
    published |= {"openness": 0.60}
    assert {one.name: round(one.metric("alpha").human, 2) for one in result.scales} == published
    assert {one.name: one.questions for one in result.scales} == dict(survey.scales)
    for name in ("alpha", "omega"):
        each = [one.metric(name) for one in result.scales]
        assert result.metric(name).value == pytest.approx(np.mean([metric.value for metric in each]))
        assert result.metric(name).human == pytest.approx(np.mean([metric.human for metric in each]))
        assert all(metric.low < metric.value < metric.high for metric in each)
    assert Result.from_dict(json.loads(json.dumps(result.to_dict()))).scales == result.scales


def test_scales_that_are_not_named_or_not_known_are_left_out_and_undefined_ones_say_why():
    humans = people(1, 60)
    plain = replace(MINI, scales={})
    for survey, who, options in (
        (plain, humans, QUICK),
        (MINI, humans, PAPER),
        (MINI, group_of(humans, MINI), QUICK),
    ):
        answers = replace(cast_of(humans), survey=survey)
        assert evaluate(answers, replace(humans, survey=None) if who is humans else who, options=options).scales == ()
    two = replace(MINI, scales={"pair": MINI.keys[:2]})
    (pair,) = evaluate(replace(cast_of(humans), survey=two), replace(humans, survey=None), options=QUICK).scales
    omega = pair.metric("omega")
    assert pair.metric("alpha").value is not None and (omega.value, omega.low) == (None, None)
    assert omega.note.startswith("Undefined: the scale has too few items")


def test_each_question_has_an_interval_and_floors_of_its_own():
    humans, cast = people(1, 300, weighted=False), people(2, 100, missing=0.2, weighted=False)
    options = EvaluateOptions(bootstraps=100, splits=30)
    result = evaluate(replay(cast, MINI), humans, options=options)
    for item in result.items:
        assert 0 <= item["wd_low"] <= item["wd"] < item["wd_high"] <= 5
        assert 0 < item["wd_floor"] < 1 and 0 < item["wd_floor_equal_n"] < 1
    for floor in ("floor", "floor_equal_n"):
        each = [item[f"wd_{floor}"] for item in result.items]
        assert np.mean(each) == pytest.approx(getattr(result.metric("wd"), floor))
    alone = [evaluate(replay(cast, MINI.select([key])), humans, options=options).metric("wd") for key in MINI.keys[:2]]
    for metric, item in zip(alone, result.items, strict=False):
        assert (metric.low, metric.high) == pytest.approx((item["wd_low"], item["wd_high"]))


def test_questions_without_order_or_humans_without_halves_have_no_floor_and_single_roles_no_interval():
    humans, nominal = (
        people(1, 3),
        replace(MINI, questions=(replace(MINI.questions[0], ordinal=False), *MINI.questions[1:])),
    )
    items = evaluate(replace(cast_of(people(2, 20)), survey=nominal), replace(humans, survey=None), options=QUICK).items
    assert [items[0][name] for name in ("wd", "wd_low", "wd_high", "wd_floor", "wd_floor_equal_n")] == [None] * 5
    assert items[1]["wd_floor"] is None and items[1]["wd_low"] is not None
    (single, *_) = evaluate(cast_of(people(2, 1)), people(1, 40), options=QUICK).items
    assert (single["wd_low"], single["wd_high"]) == (None, None) and single["wd_floor"] > 0


@pytest.fixture(scope="module")
def panel(gss_panel_file):
    humans = Respondents.from_gss(gss_panel_file, wave=2016)
    survey = humans.survey
    answers = run(humans.sample(200), survey)
    return humans, survey, answers, evaluate(answers, humans, options=EvaluateOptions(bootstraps=50))


def test_gov_responsibility_alpha_of_2016_is_the_published_one(panel):
    humans, survey, *_ = panel
    unweighted = human_side(replace(humans, weights=None), survey, weighting="paper").whole.alpha[0]
    assert unweighted == pytest.approx(0.848, abs=0.0015)
    assert unweighted == pytest.approx(pingouin.cronbach_alpha(frame(codes_of(humans, survey), survey))[0])


def test_gov_responsibility_floors_and_baselines_of_2016_are_the_reference_values(panel):
    result = panel[3]
    wd, fro = result.metric("wd"), result.metric("fro")
    assert wd.floor == pytest.approx(0.050, abs=0.005) and fro.floor == pytest.approx(0.40, abs=0.04)
    # Halves differ by chance as 4/N, a cast of 200 and all of them as 1/200 + 1/N.
    wider = ((1 / 200 + 1 / len(panel[0])) / (4 / len(panel[0]))) ** 0.5
    assert (wd.floor_equal_n, fro.floor_equal_n) == pytest.approx((wider * wd.floor, wider * fro.floor), rel=0.1)
    assert wd.uniform == pytest.approx(0.57, abs=0.005)
    # The reference for independent items; a finite uniform sample of that size gives 3.1 to 3.3.
    assert fro.uniform == pytest.approx(3.2, abs=0.05)
    assert wd.majority == pytest.approx(0.67, abs=0.01) and fro.majority is None


def test_a_uniform_simulator_of_gov_responsibility_stands_at_the_uniform_baseline(panel):
    result = panel[3]
    assert result.metric("wd").value == pytest.approx(result.metric("wd").uniform, abs=0.04)
    assert result.metric("alpha").low < 0 < result.metric("alpha").high


# -- the company of a figure


def test_baselines_are_distances_to_even_shares_and_to_the_mode_of_the_humans():
    humans = people(4, 90, missing=0.1)
    result = evaluate(replay(people(5, 20), MINI), humans, options=QUICK)
    theirs = shares_by_hand(frame(codes_of(humans, MINI), MINI), humans.weights, 6)
    even = {key: np.full(6, 1 / 6) for key in theirs}
    mode = {key: np.eye(6)[share.argmax()] for key, share in theirs.items()}
    wd = result.metric("wd")
    assert (wd.uniform, wd.majority) == pytest.approx((wd_by_hand(even, theirs), wd_by_hand(mode, theirs)))
    r = correlations_by_hand(frame(codes_of(humans, MINI), MINI), humans.weights)
    assert result.metric("fro").uniform == pytest.approx(np.linalg.norm(r - np.eye(5)))
    assert result.metric("alpha").uniform == 0


def test_the_floor_is_the_mean_distance_between_weighted_halves():
    humans = people(6, 41, missing=0.05)
    result = evaluate(replay(people(5, 20), MINI), humans, options=QUICK)
    table, distances, norms = frame(codes_of(humans, MINI), MINI), [], []
    for mask in half_splits(41, QUICK.splits, seed=QUICK.seed):
        sides = [(table[half].reset_index(drop=True), humans.weights[half]) for half in (mask, ~mask)]
        distances.append(wd_by_hand(*(shares_by_hand(half, weights, 6) for half, weights in sides)))
        norms.append(np.linalg.norm(np.subtract(*(correlations_by_hand(half, weights) for half, weights in sides))))
    assert result.metric("wd").floor == pytest.approx(np.mean(distances))
    assert result.metric("wd_normalised").floor == pytest.approx(np.mean(distances) / 5)
    assert result.metric("fro").floor == pytest.approx(np.mean(norms))


def test_other_people_land_at_the_floor_of_equal_n_and_a_part_of_the_humans_themselves_below():
    everybody, rng = people(7, 4000, weighted=False), np.random.default_rng(0)
    options, found, floors = EvaluateOptions(bootstraps=2, splits=10), [], []
    for _ in range(15):
        humans = everybody.take(rng.permutation(4000)[:400].tolist())
        others = everybody.take(rng.integers(0, 4000, 200).tolist())
        metrics = [
            evaluate(replay(each, MINI), humans, options=options).metric("wd")
            for each in (others, humans.take(range(200)))
        ]
        found.append([metric.value for metric in metrics])
        floors.append(metrics[0].floor_equal_n)
    of_others, of_part = np.mean(found, axis=0)
    assert of_others == pytest.approx(np.mean(floors), rel=0.1) and of_part < 0.7 * of_others


def test_intervals_are_the_value_and_its_bootstrap_spread():
    humans, cast = people(8, 2000, weighted=False), people(9, 150, weighted=False)
    result = evaluate(replay(cast, MINI), humans, options=EvaluateOptions(bootstraps=1000, splits=1))
    rng = np.random.default_rng(11)
    codes = turned(frame(codes_of(cast, MINI), MINI), MINI).to_numpy()
    draws = []
    for _ in range(1000):
        c = np.cov(codes[rng.integers(0, 150, 150)].T)
        draws.append(5 / 4 * (1 - np.trace(c) / c.sum()))
    alpha = result.metric("alpha")
    assert (alpha.high - alpha.low) / 2 == pytest.approx(1.96 * np.std(draws), rel=0.15)
    for metric in result.metrics:
        assert metric.low <= metric.value <= metric.high
        even = metric.low == pytest.approx(2 * metric.value - metric.high, abs=1e-9)
        assert even or metric.low == 0 or metric.name == "entropy_ratio"


def test_the_interval_of_the_entropy_ratio_allows_for_entropy_being_too_small_in_few_answers():
    survey = Survey.load("bfi")
    humans, held, beside = replace(Respondents.load("bfi"), levels={}, codes={}), 0, 0
    for seed in range(6):
        rng = np.random.default_rng(seed)
        answers = cast_of(humans.sample(100, seed=seed), rng.integers(0, 6, (100, 25)), survey=survey)
        metric = evaluate(answers, humans, options=EvaluateOptions(bootstraps=60, splits=1)).metric("entropy_ratio")
        held += metric.low <= metric.uniform <= metric.high
        beside += metric.value < metric.uniform - 0.01
    assert held >= 5 and beside == 6


def test_a_higher_level_widens_the_interval_by_the_ratio_of_normal_quantiles():
    humans, answers = people(1, 60), replay(people(2, 40), MINI)
    reach = [
        (m := evaluate(answers, humans, options=replace(QUICK, level=level)).metric("kl")).high - m.value
        for level in (0.5, 0.99)
    ]
    assert reach[1] / reach[0] == pytest.approx(stats.norm.ppf(0.995) / stats.norm.ppf(0.75))


def test_items_hold_shares_distances_and_counts_of_each_question():
    humans, cast = people(1, 60, missing=0.2), people(2, 40, missing=0.3)
    result = evaluate(replay(cast, MINI), humans, options=QUICK)
    theirs = shares_by_hand(frame(codes_of(humans, MINI), MINI), humans.weights, 6)
    ours = shares_by_hand(frame(codes_of(cast, MINI), MINI), cast.weights, 6)
    for item, question in zip(result.items, MINI.questions, strict=True):
        key = item["question"]
        assert item["options"] == list(question.options)
        assert item["human"] == pytest.approx(theirs[key], abs=1e-6)
        assert item["simulated"] == pytest.approx(ours[key], abs=1e-6)
        assert item["n_human"] == (humans.answers[key] != MISSING).sum() < 60
        assert item["n_simulated"] == (cast.answers[key] != MISSING).sum() < 40
        assert item["wd_normalised"] == pytest.approx(item["wd"] / 5)
    assert result.metric("wd").value == pytest.approx(np.mean([item["wd"] for item in result.items]))


def test_questions_with_different_numbers_of_options_are_normalised_each_by_its_own():
    shared = [{"code": at, "text": f"option {at}"} for at in range(3)]
    questions = [
        {"key": "yes", "text": "Yes?", "options": shared[:2]},
        {"key": "how", "text": "How much?", "options": shared},
    ]
    survey = Survey.from_dict({"name": "mixed", "questions": questions})
    humans = replace(people(1, 8, survey=survey), weights=None)
    result = evaluate(with_picks(run(humans, survey), [[0, 0]] * 8), humans, options=QUICK)
    yes, how = np.mean(humans.answers["yes"]), np.mean(humans.answers["how"])
    assert result.metric("wd").value == pytest.approx((yes + how) / 2)
    assert result.metric("wd_normalised").value == pytest.approx((yes + how / 2) / 2)


# -- gaps are said


def test_coverage_sums_to_1_and_counts_what_was_not_answered(gss, spending):
    def reply(prompt, seed):
        return ["(A)", "I would rather not say.", "I refuse to answer.", "Tea."][seed % 4]

    model = ScriptedModel("uniform", replies=reply)
    answers = run(gss.sample(30), spending, model, mode="text", tries=1)
    result = evaluate(answers, gss, options=QUICK)
    assert set(result.coverage) == set(ASKED) and sum(result.coverage.values()) == pytest.approx(1)
    assert 0.05 < result.coverage["answered"] < 0.5
    assert result.coverage["answered"] == (answers.picks != MISSING).mean()
    assert sum(item["n_simulated"] for item in result.items) == (answers.picks != MISSING).sum()
    assert result.option_mass is None


def test_option_mass_is_the_mean_over_letters(gss, spending):
    assert evaluate(run(gss.sample(5), spending), gss, options=QUICK).option_mass == 1.0


def test_humans_without_weights_are_noted_and_those_with_are_not():
    plain = people(1, 30, weighted=False)
    said = "toy-humans has no weights: every person counts the same."
    assert said in evaluate(replay(plain, MINI), plain, options=QUICK).notes
    assert said not in evaluate(replay(plain, MINI), people(1, 30), options=QUICK).notes


@pytest.mark.parametrize("options", [QUICK, PAPER])
def test_constant_simulated_items_have_no_value_but_a_reason_in_words(options):
    humans = people(1, 50)
    codes = codes_of(people(2, 20), MINI)
    codes[:, [0, 2]] = 3
    result = evaluate(with_picks(run(humans.sample(20), MINI), codes), humans, options=options)
    fro = result.metric("fro")
    assert (fro.value, fro.low, fro.high) == (None, None, None) and fro.floor is not None
    assert fro.note == "Correlations are undefined: only one option occurs among the simulated answers to C1, C3."
    alpha = result.metric("alpha")
    assert (alpha.value, alpha.low, alpha.high) == (None, None, None) and alpha.human is not None
    assert (
        alpha.note == "The simulated alpha is undefined: only one option occurs among the simulated answers to C1, C3."
    )
    assert result.metric("wd").value is not None


@pytest.mark.parametrize("options", [QUICK, PAPER])
def test_a_simulation_that_always_says_the_same_has_neither_correlation_nor_alpha_and_says_so(options):
    humans = people(1, 50)
    survey = replace(MINI, order_patterns=("original",))
    result = evaluate(run(humans, survey, "scripted:first"), humans, options=options)
    names = ", ".join(MINI.keys)
    for metric, what in (("fro", "Correlations are"), ("alpha", "The simulated alpha is")):
        found = result.metric(metric)
        assert (found.value, found.low, found.high) == (None, None, None)
        assert found.note == f"{what} undefined: only one option occurs among the simulated answers to {names}."
    first = {key: np.eye(6)[0] for key in MINI.keys}
    theirs = shares_by_hand(frame(codes_of(humans, MINI), MINI), humans.weights, 6)
    assert result.metric("wd").value == pytest.approx(wd_by_hand(first, theirs))


def test_constant_human_items_are_named_as_the_humans():
    humans = people(1, 50)
    same = replace(humans, answers={key: np.full(50, 2, dtype=np.int16) for key in MINI.keys})
    result = evaluate(replay(humans, MINI), same, options=QUICK)
    fro, alpha = result.metric("fro"), result.metric("alpha")
    assert fro.value is None and fro.floor is None and alpha.human is None and alpha.value is not None
    for note in (fro.note, alpha.note):
        assert note.endswith(f"undefined: only one option occurs among the human answers to {', '.join(MINI.keys)}.")


def test_a_single_question_has_no_alpha_and_says_why():
    humans, one = people(1, 50), MINI.select(["C1"])
    result = evaluate(replay(humans, one), humans, options=QUICK)
    alpha = result.metric("alpha")
    assert alpha.value is None and alpha.human is None
    assert alpha.note == "Undefined: fewer than two questions have options with an order."
    assert result.metric("fro").value is None and result.metric("fro").note == alpha.note
    assert result.metric("wd").value == 0


def test_items_that_cancel_each_other_have_no_alpha_and_the_reason_is_not_missing_data():
    two = MINI.select(["C1", "C2"])
    humans = people(1, 6, weighted=False)
    picks = [[at % 6, 5 - at % 6] for at in range(6)]
    alpha = evaluate(with_picks(run(humans, two), picks), humans, options=QUICK).metric("alpha")
    assert alpha.value is None and "the sum of a scale does not vary" in alpha.note


def test_a_pair_of_questions_that_nobody_answered_together_is_undefined_and_said():
    two = MINI.select(["C1", "C2"])
    humans = people(1, 8, weighted=False)
    picks = [[at, MISSING] if at < 4 else [MISSING, at - 4] for at in range(8)]
    result = evaluate(with_picks(run(humans, two), picks), humans, options=QUICK)
    for metric in ("fro", "alpha"):
        assert result.metric(metric).value is None
        assert "too few people have simulated answers to both items of a pair" in result.metric(metric).note


def test_bootstrap_draws_that_leave_a_figure_undefined_are_counted():
    two = MINI.select(["C1", "C2"])
    humans = people(1, 40)
    picks = [[0, 1]] * 9 + [[1, 0]]
    fro = evaluate(with_picks(run(humans.sample(10), two), picks), humans).metric("fro")
    lost = int(fro.note.split(" of ")[0])
    assert fro.note == f"{lost} of 200 bootstrap draws left it undefined." and fro.value is not None
    # The one person who differs is not drawn, or is drawn alone, with probability (1 - 1/10)^10.
    assert lost / 200 == pytest.approx(0.9**10, abs=0.08)


@pytest.mark.parametrize("n", [29, 30, 90])
def test_a_cast_of_any_size_has_a_floor_of_its_own_size(n):
    humans = people(1, 30)
    result = evaluate(replay(people(2, n), MINI), humans, options=replace(QUICK, splits=40))
    assert all(result.metric(name).floor_equal_n is not None for name in FROM_FIGURES)
    wd = result.metric("wd")
    # Halves are 15 against 15, which differ by chance as 1/15 + 1/15 and these as 1/n + 1/30.
    assert wd.floor_equal_n / wd.floor == pytest.approx(((1 / n + 1 / 30) / (2 / 15)) ** 0.5, rel=0.1)


def test_three_humans_have_no_floor_and_a_note():
    humans = people(1, 3)
    result = evaluate(replay(people(2, 20), MINI), humans, options=QUICK)
    assert "3 humans are too few for a split-half floor." in result.notes
    assert all(metric.floor is None and metric.floor_equal_n is None for metric in result.metrics)
    assert result.metric("wd").value > 0


# -- what a result says of its run


def test_a_result_names_its_run_model_method_and_reference(gss, spending, starter):
    answers = run(gss.sample(12), spending)
    result = evaluate(answers, gss, options=replace(PAPER, seed=4))
    assert (result.developer, result.model, result.method) == ("scripted", "uniform", "bio")
    assert (result.n, result.n_humans, result.survey) == (12, 2348, "gss-national-spending")
    assert result.run_id == answers.provenance["run_id"] and result.created == answers.provenance["started"]
    digest = result.provenance["evaluation"]["humans_digest"]
    assert result.provenance["evaluation"] == {
        "weighting": "paper",
        "splits": 5,
        "bootstraps": 20,
        "resample": "both",
        "by": [],
        "least": 30,
        "polychoric": False,
        "level": 0.95,
        "seed": 4,
        "humans": "gss-2018",
        "humans_source": gss.source,
        "humans_digest": digest,
    }
    assert [metric.name for metric in result.metrics] == [*FROM_FIGURES, "accuracy", "mad_accuracy", "item_correlation"]


def test_the_method_of_cast_personas_holds_how_they_were_matched(gss, spending, starter):
    from anthology_hub import match

    answers = simulate(match(starter, gss.sample(4), method="random"), spending, open_model("scripted:uniform"))
    assert evaluate(answers, gss, options=QUICK).method == "anthology/random"


def test_figures_of_one_side_are_those_inside_evaluate():
    humans, cast = people(1, 50), people(2, 30)
    answers = replay(cast, MINI)
    result = evaluate(answers, humans, options=QUICK)
    ours, theirs = simulated_figures(answers), human_figures(humans, MINI)
    assert ours.alpha[0] == result.metric("alpha").value and theirs.alpha[0] == result.metric("alpha").human
    gap = np.linalg.norm(ours.correlation[0] - theirs.correlation[0])
    assert result.metric("fro").value == pytest.approx(gap)


# -- refusals


def test_a_question_that_the_humans_were_not_asked_is_refused_by_name():
    humans = people(1, 20)
    lacking = replace(humans, answers={key: humans.answers[key] for key in ("C1", "C2")})
    with pytest.raises(UnknownNameError, match=r"unknown question of toy-humans 'C3': .*Allowed: 'C1', 'C2'$"):
        evaluate(replay(humans, MINI), lacking)


def test_questions_that_nobody_answered_are_refused_with_the_side_and_a_way_on():
    humans = people(1, 20)
    silent = np.full(20, MISSING, dtype=np.int16)
    mute = replace(humans, answers={**humans.answers, "C2": silent, "C4": silent})
    with pytest.raises(EmptyError, match="nobody in toy-humans answered C2, C4: leave these questions out"):
        evaluate(replay(humans, MINI), mute)
    with pytest.raises(EmptyError, match="nobody in the simulation answered C2, C4: leave these questions out"):
        evaluate(replay(mute, MINI), humans)


def test_humans_coded_for_more_options_than_the_survey_has_are_refused_with_the_options():
    humans = people(1, 20)
    wrong = replace(humans, answers={**humans.answers, "C1": np.full(20, 6, dtype=np.int16)})
    said = r"question 'C1' has the options 0..5, or -1 where there is no answer, but toy-humans has 6: both sides must"
    with pytest.raises(DataError, match=said):
        evaluate(replay(humans, MINI), wrong)


def test_an_unknown_weighting_is_refused_with_the_known_ones():
    with pytest.raises(OptionError, match="unknown weighting 'none': allowed are weighted, paper"):
        EvaluateOptions(weighting="none")


@pytest.mark.parametrize("wrong", [{"splits": 0}, {"bootstraps": 1}, {"least": 1}, {"level": 1.0}, {"level": 0.0}])
def test_options_out_of_range_are_refused_with_the_ranges(wrong):
    given_values = {"splits": 100, "bootstraps": 1000, "least": 30, "level": 0.95} | wrong
    listed = ", ".join(map(str, given_values.values()))
    with pytest.raises(
        OptionError,
        match=rf"splits must be at least 1, bootstraps and least at least 2, level between 0 and 1, got {listed}",
    ):
        EvaluateOptions(**wrong)


def test_the_reference_people_are_named_by_what_they_said(gss, spending):
    answers = run(gss.sample(12), spending)
    first, second = (gss.take(range(at, at + 200)) for at in (0, 200))
    results = [evaluate(answers, people, options=PAPER) for people in (first, second, first)]
    digests = [result.provenance["evaluation"]["humans_digest"] for result in results]
    assert digests[0] == digests[2] != digests[1]


def test_paper_mode_takes_all_items_as_one_scale():
    humans, survey = Respondents.load("bfi").take(range(400)), Survey.load("bfi")
    answers = run(humans.take(range(50)), survey)
    expected = pingouin.cronbach_alpha(frame(codes_of(humans, survey), survey), nan_policy="pairwise")[0]
    assert evaluate(answers, humans, options=PAPER).metric("alpha").human == pytest.approx(expected, abs=1e-9)


def test_items_count_the_people_behind_each_share(gss, spending):
    result = evaluate(run(gss.sample(12), spending), gss, options=QUICK)
    for item in result.items:
        column = gss.answers[item["question"]]
        assert item["human_counts"] == [int((column == option).sum()) for option in range(3)]
        assert sum(item["human_counts"]) == item["n_human"]


# -- designs, nominal questions, shares without people


def test_a_clustered_sample_widens_the_interval_and_the_notes_name_the_design():
    humans = people(4, 400)
    order = np.argsort(humans.answers["C1"], kind="stable")
    alike = np.empty(400, dtype=np.int64)
    alike[order] = np.arange(400) // 40
    clustered = replace(humans, psu=alike, strata=np.zeros(400, dtype=np.int64))
    answers, options = replay(people(5, 380), MINI), EvaluateOptions(bootstraps=200, splits=2)
    plain, design = evaluate(answers, humans, options=options), evaluate(answers, clustered, options=options)
    widths = [m.high - m.low for m in (plain.metric("wd"), design.metric("wd"))]
    assert widths[1] > 1.3 * widths[0]
    assert plain.metric("wd").value == design.metric("wd").value
    assert "The intervals allow for the sample design: 10 sampling units in 1 strata." in design.notes
    assert not any("sample design" in note for note in plain.notes)


def test_the_effective_number_of_people_is_kishs_and_is_told():
    humans = people(6, 100)
    result = evaluate(replay(people(7, 50), MINI), humans, options=QUICK)
    kish = humans.weights.sum() ** 2 / (humans.weights**2).sum()
    assert result.n_effective == pytest.approx(kish) and kish < 100
    assert f"The weights of toy-humans leave {kish:.0f} effective people (Kish) of 100." in result.notes
    assert Result.from_dict(json.loads(json.dumps(result.to_dict()))).n_effective == result.n_effective


def test_the_design_stays_with_the_people_who_are_taken():
    humans = replace(people(8, 10), strata=np.arange(10), psu=np.arange(10, 20))
    some = humans.take([3, 1])
    assert some.strata.tolist() == [3, 1] and some.psu.tolist() == [13, 11]


def nominal(survey, *keys):
    questions = tuple(replace(q, ordinal=False) if q.key in keys else q for q in survey.questions)
    return replace(survey, questions=questions)


def test_questions_without_an_order_count_in_jsd_alone():
    humans, cast = people(9, 120), people(10, 60)
    mixed = evaluate(replay(cast, nominal(MINI, "C2")), humans, options=QUICK)
    rest = evaluate(replay(cast, MINI.select(["C1", "C3", "C4", "C5"])), humans, options=QUICK)
    for name in ("wd", "wd_normalised", "fro"):
        assert mixed.metric(name).value == pytest.approx(rest.metric(name).value)
    assert mixed.metric("jsd").value != pytest.approx(rest.metric("jsd").value)
    assert "The options of C2 have no order: these questions count only in figures that need none." in mixed.notes
    assert [item["wd"] is None for item in mixed.items] == [False, True, False, False, False]
    assert mixed.metric("alpha").human == pytest.approx(rest.metric("alpha").human)


def test_a_survey_without_any_order_has_jsd_and_says_why_it_has_nothing_else():
    humans = people(11, 80)
    result = evaluate(replay(humans, nominal(MINI, *MINI.keys)), humans, options=QUICK)
    assert result.metric("jsd").value == 0
    assert [result.metric(name).value for name in ("wd", "wd_normalised", "fro", "alpha")] == [None] * 4
    assert result.metric("wd").note == "No question has options with an order."


def group_of(humans, survey):
    """The shares of all the people, as a published table has them."""
    codes, weights = codes_of(humans, survey), humans.weights
    shares = {
        q.key: np.array([[weights[codes[:, at] == k].sum() / weights.sum() for k in range(len(q.options))]])
        for at, q in enumerate(survey.questions)
    }
    return Margins(name="table", survey=survey, groups=("all",), shares=shares)


def test_against_shares_alone_the_distances_are_those_to_the_people_behind_them_and_the_rest_is_refused():
    humans, answers = people(12, 150), replay(people(13, 60), MINI)
    shares, full = evaluate(answers, group_of(humans, MINI), options=QUICK), evaluate(answers, humans, options=QUICK)
    for name in ("wd", "wd_normalised", "jsd"):
        assert shares.metric(name).value == pytest.approx(full.metric(name).value)
        assert shares.metric(name).uniform == pytest.approx(full.metric(name).uniform)
        assert shares.metric(name).floor is None and shares.metric(name).low is not None
    for name in ("fro", "alpha"):
        assert shares.metric(name).value is None and "only shares of answers are known" in shares.metric(name).note
    assert (shares.n_humans, shares.n_effective) == (0, None)
    assert Result.from_dict(json.loads(json.dumps(shares.to_dict()))).metrics == shares.metrics


def test_shares_of_several_groups_or_of_other_options_are_refused():
    table = group_of(people(14, 50), MINI)
    two = replace(table, groups=("a", "b"), shares={key: np.repeat(s, 2, axis=0) for key, s in table.shares.items()})
    answers = replay(people(15, 20), MINI)
    with pytest.raises(OptionError, match=r"table has 2 groups: compare with one, as margins.group\('a'\)"):
        evaluate(answers, two, options=QUICK)
    other = replace(MINI, questions=tuple(replace(q, options=q.options[::-1]) for q in MINI.questions))
    with pytest.raises(DataError, match="question 'C1' was asked with the options .*: ask margins.survey"):
        evaluate(answers, replace(table, survey=other), options=QUICK)


def test_personas_cast_as_themselves_are_asked_and_compared_with_a_group():
    cast = as_themselves(Anthology.load("starter").where(region="South"))
    answers = simulate(cast, MINI, open_model("scripted:uniform"), options=SimulateOptions(conditioning="anthology"))
    result = evaluate(answers, group_of(people(16, 90), MINI), options=QUICK)
    assert result.method == "anthology/itself" and result.n == len(cast) == len(
        Anthology.load("starter").where(region="South")
    )
    assert result.metric("wd").value < result.metric("wd").majority


# -- bad input: a refusal, or None with a reason in words; never NaN


def sound(result):
    """Assert that every undefined figure says why and that no NaN or infinity is left anywhere."""
    json.dumps(result.to_dict(), allow_nan=False)
    for metric in (*result.metrics, *(metric for one in result.subgroups for metric in one.metrics)):
        assert metric.value is not None or metric.note, metric.name
    return result


def odd_cases():
    """Name, picks of 40 roles, humans, survey."""
    humans = people(1, 60, traits={"gender": 2})
    codes, rng = codes_of(humans, MINI)[:40], np.random.default_rng(0)
    one_option, mute = codes.copy(), codes.copy()
    one_option[:, 1] = 2
    mute[1:, 3] = MISSING
    constant = replace(humans, answers=humans.answers | {"C1": np.full(60, 4, dtype=np.int16)})
    yield "one observed category, simulated", one_option, humans, MINI
    yield "one observed category, human", codes, constant, MINI
    yield (
        "one observed category, both",
        one_option,
        replace(constant, answers=constant.answers | {"C2": constant.answers["C1"]}),
        MINI,
    )
    yield "one answer to a question", mute, humans, MINI
    yield "no pair of answers", np.where(np.arange(5) == np.arange(40)[:, None] % 5, codes, MISSING), humans, MINI
    yield "one human", codes, humans.take([0]), MINI
    yield "two humans", codes, humans.take([0, 1]), MINI
    yield "three humans", codes, humans.take([0, 1, 2]), MINI
    yield "nobody in common", codes, humans.take(range(40, 60)), MINI
    yield "no order", codes, humans, nominal(MINI, *MINI.keys)
    yield "one question with an order", codes, constant, nominal(MINI, "C2", "C3", "C4", "C5")
    yield "one human has all the weight", codes, replace(humans, weights=np.eye(60)[3]), MINI
    yield (
        "everybody says the same",
        np.full((40, 5), 5),
        replace(humans, answers=dict.fromkeys(MINI.keys, constant.answers["C1"])),
        MINI,
    )
    yield "noise", rng.integers(MISSING, 6, (40, 5)), humans, MINI
    for keys in (["C1"], ["C1", "C2"]):
        part = MINI.select(keys)
        for name, other in (("humans", humans), ("constant humans", constant)):
            yield f"{len(keys)} items, {name}", codes[:, : len(keys)], other, part


@pytest.mark.parametrize("case", list(odd_cases()), ids=lambda case: case[0])
@pytest.mark.parametrize("weighting", ["weighted", "paper"])
def test_odd_answers_give_figures_or_reasons_and_never_nan(case, weighting):
    _, picks, humans, survey = case
    answers = replace(cast_of(people(1, 60).take(range(40)), np.zeros((40, 5))), survey=survey)
    options = replace(QUICK, weighting=weighting, polychoric=True, by=("gender",), least=10)
    sound(evaluate(with_picks(answers, picks), humans, options=options))
    sound(evaluate(with_picks(answers, picks), group_of(humans, survey), options=replace(options, by=())))


@pytest.mark.parametrize("options", [QUICK, PAPER])
def test_a_single_role_or_persona_or_human_has_no_intervals_and_the_reason_is_told(options):
    humans = people(1, 60)
    said = "The cast has a single role or persona, whose chance cannot be told: there are no intervals."
    alone = sound(evaluate(cast_of(humans.take([0])), humans, options=options))
    twin = sound(evaluate(cast_of(humans, personas=["p"] * 60), humans, options=options))
    for result in (alone, twin):
        assert said in result.notes and all(metric.low is None and metric.high is None for metric in result.metrics)
    assert alone.metric("wd").value > 0 and alone.metric("variance_ratio").value == 0
    held = evaluate(cast_of(humans, personas=["p"] * 60), humans, options=replace(options, resample="respondents"))
    assert held.metric("wd").low is not None and said not in held.notes
    one = sound(evaluate(cast_of(humans), humans.take([0]), options=options))
    assert one.metric("wd").value > 0 and all(metric.low is None for metric in one.metrics)
    assert any("No stratum has two humans or sampling units" in note for note in one.notes)
    assert "1 humans are too few for a split-half floor." in one.notes


def test_a_design_of_strata_with_one_unit_each_has_no_intervals():
    humans = people(1, 60)
    humans = replace(humans, strata=np.repeat(np.arange(6), 10), psu=np.repeat(np.arange(6), 10))
    result = sound(evaluate(cast_of(humans), humans, options=QUICK))
    assert all(metric.low is None for metric in result.metrics) and result.metric("wd").value == 0


def test_the_chance_of_respondents_behind_shares_is_refused_in_words():
    humans = people(1, 60)
    result = sound(evaluate(cast_of(humans), group_of(humans, MINI), options=replace(QUICK, resample="respondents")))
    assert all(metric.low is None for metric in result.metrics)
    assert any(note.startswith("The chance of respondents cannot be told where only shares") for note in result.notes)
    assert not any("the simulation's own chance alone" in note for note in result.notes)


@pytest.mark.parametrize(("weight", "shown"), [(-1.0, "-1.0"), (np.nan, "nan"), (np.inf, "inf")])
def test_weights_that_are_none_are_refused_with_the_value_and_the_side(weight, shown):
    humans = people(1, 30)
    weights = humans.weights.copy()
    weights[4] = weight
    with pytest.raises(DataError, match=f"weights of toy-humans must be finite and not negative, got {shown}: leave"):
        evaluate(cast_of(humans), replace(humans, weights=weights), options=QUICK)
    with pytest.raises(DataError, match=f"weights of the simulation must be finite and not negative, got {shown}"):
        evaluate(replace(cast_of(humans), weights=weights), humans, options=QUICK)


def test_people_of_weight_0_do_not_count_and_weights_that_are_all_0_are_refused():
    humans = people(1, 60)
    weights = np.where(np.arange(60) < 40, humans.weights, 0.0)
    options = EvaluateOptions(bootstraps=2, splits=1)
    some = evaluate(cast_of(people(2, 30)), replace(humans, weights=weights), options=options)
    rest = evaluate(cast_of(people(2, 30)), humans.take(range(40)), options=options)
    for name in FROM_FIGURES:
        assert some.metric(name).value == pytest.approx(rest.metric(name).value), name
    with pytest.raises(
        EmptyError, match="nobody in toy-humans with a weight above 0 answered C1, C2, C3, C4, C5: leave"
    ):
        evaluate(cast_of(humans), replace(humans, weights=np.zeros(60)), options=QUICK)


def test_answers_outside_the_options_are_refused_with_the_question_and_the_value():
    humans = people(1, 20)
    for code in (6, -2):
        picks = codes_of(humans, MINI).copy()
        picks[3, 2] = code
        said = (
            rf"question 'C3' has the options 0..5, or -1 where there is no answer, but the simulation has {code}: both"
        )
        with pytest.raises(DataError, match=said):
            evaluate(cast_of(humans, picks), humans, options=QUICK)
    again = replace(humans, retest={"C1": np.full(20, 6, dtype=np.int16)})
    with pytest.raises(DataError, match="question 0 has the options 0..5, but the retest answers have 6"):
        evaluate(cast_of(humans), again, options=QUICK)


def test_humans_asked_with_other_options_or_in_another_order_are_refused_and_other_words_are_not():
    humans = people(1, 20)

    def asked(change):
        return replace(humans, survey=replace(MINI, questions=tuple(map(change, MINI.questions))))

    for change in (lambda q: replace(q, options=q.options[:-1]), lambda q: replace(q, options=q.options[::-1])):
        with pytest.raises(DataError, match="question 'C1' was asked with the options .*, but toy-humans has .*: both"):
            evaluate(cast_of(humans), asked(change), options=QUICK)
    worded = asked(lambda q: replace(q, options=tuple(f"{option}!" for option in q.options)))
    assert evaluate(cast_of(humans), worded, options=QUICK).metric("wd").value == 0
    fewer = replace(humans, survey=MINI.select(["C2"]))
    assert evaluate(cast_of(humans), fewer, options=QUICK).metric("wd").value == 0


def test_an_earlier_wave_without_a_question_or_an_answer_is_refused():
    humans, earlier = people(1, 30), people(2, 30)
    lacking = replace(earlier, name="wave 1", answers={"C1": earlier.answers["C1"]})
    with pytest.raises(UnknownNameError, match="unknown question of wave 1 'C2'"):
        evaluate(cast_of(humans), humans, options=QUICK, previous=lacking)
    silent = {**earlier.answers, "C2": np.full(30, MISSING, dtype=np.int16)}
    with pytest.raises(EmptyError, match="nobody in wave 1 answered C2"):
        evaluate(cast_of(humans), humans, options=QUICK, previous=replace(earlier, name="wave 1", answers=silent))


# -- questions coded the other way on one side


def turned_note(result):
    found = [note for note in result.notes if "opposite way" in note]
    return found[0].removeprefix("The simulated answers to ").split(" go with")[0].split(", ") if found else []


@pytest.mark.parametrize("turned", [["C2"], ["C4"], ["C1", "C5"]])
def test_questions_that_are_turned_on_one_side_are_named(turned):
    humans = people(1, 400, missing=0.05)
    picks = codes_of(people(2, 200, missing=0.05), MINI)
    for key in turned:
        at = MINI.keys.index(key)
        picks[:, at] = np.where(picks[:, at] == MISSING, MISSING, 5 - picks[:, at])
    cast = cast_of(people(2, 200), picks)
    result = evaluate(cast, humans, options=EvaluateOptions(bootstraps=2, splits=1))
    assert turned_note(result) == turned
    # Whichever side it is: the same is seen where the humans' file is the turned one.
    other = evaluate(
        cast_of(people(2, 200)),
        replace(humans, answers={k: (5 - c if k in turned else c) for k, c in people(1, 400).answers.items()}),
        options=EvaluateOptions(bootstraps=2, splits=1),
    )
    assert turned_note(other) == turned


def test_honest_runs_are_never_said_to_be_turned():
    humans, found = people(0, 300), 0
    side = human_side(humans, MINI)
    for seed in range(200):
        n = 20 + seed % 100
        picks = np.random.default_rng(seed).integers(0, 6, (n, 5)) if seed % 2 else codes_of(people(seed + 1, n), MINI)
        answers = cast_of(people(seed + 1, n), picks)
        ours = simulated_side(answers)
        found += len(_turned(ours.whole, side.whole, effective_size(ours.weights), MINI))
    assert found == 0


def test_scales_with_reverse_keys_are_not_taken_for_turned_ones_and_a_turned_one_in_them_is():
    bfi, survey = Respondents.load("bfi"), Survey.load("bfi")
    half, rest = bfi.take(range(1400)), bfi.take(range(1400, 2800))
    options = EvaluateOptions(bootstraps=2, splits=1)
    picks = codes_of(half, survey)
    assert any(question.reverse for question in survey.questions)
    assert turned_note(evaluate(cast_of(half, picks, survey=survey), rest, options=options)) == []
    at = survey.keys.index("E4")
    picks[:, at] = np.where(picks[:, at] == MISSING, MISSING, 5 - picks[:, at])
    assert turned_note(evaluate(cast_of(half, picks, survey=survey), rest, options=options)) == ["E4"]


# -- laws of all figures


def test_one_half_of_the_gss_against_the_other_lands_on_the_floor(gss, spending):
    found = []
    for seed in range(12):
        order = np.random.default_rng(seed).permutation(len(gss)).tolist()
        one, other = gss.take(order[: len(gss) // 2]), gss.take(order[len(gss) // 2 :])
        result = evaluate(cast_of(one, survey=spending), other, options=EvaluateOptions(bootstraps=2, splits=1))
        found.append(values(result))
    floor = evaluate(cast_of(gss.sample(20), survey=spending), gss, options=EvaluateOptions(bootstraps=2, splits=100))
    for name in ("wd", "jsd", "tv", "fro", "alpha", "variance_ratio", "entropy_ratio"):
        assert np.mean([each[name] for each in found]) == pytest.approx(floor.metric(name).floor, rel=0.3), name


def test_options_at_random_land_on_the_uniform_baseline(gss, spending):
    picks = np.random.default_rng(0).integers(0, 3, (len(gss), 4))
    result = evaluate(cast_of(gss, picks, survey=spending), gss, options=EvaluateOptions(bootstraps=50, splits=5))
    for name in ("wd", "jsd", "tv", "kl", "fro", "alpha", "accuracy", "mad_accuracy", "item_correlation", "explained"):
        metric = result.metric(name)
        assert metric.value == pytest.approx(metric.uniform, abs=0.06), name
        if name in ("wd", "jsd", "tv", "kl", "accuracy", "mad_accuracy"):
            assert metric.attained == pytest.approx(0, abs=0.1), name


@settings(max_examples=8)
@given(SEEDS)
def test_a_common_factor_on_the_weights_changes_no_part_of_a_result(seed):
    humans, cast = people(seed, 40, missing=0.1, traits={"gender": 2}), people(seed + 1, 30, missing=0.1)
    answers = cast_of(cast)
    one = evaluate(answers, humans, options=QUICK)
    scaled = replace(answers, weights=answers.weights * 4)
    other = evaluate(scaled, replace(humans, weights=humans.weights / 8), options=QUICK)
    for a, b in zip(one.metrics, other.metrics, strict=True):
        for name in ("value", "low", "high", "human", "floor", "floor_equal_n", "uniform", "cells", "margins"):
            assert getattr(a, name) == pytest.approx(getattr(b, name), abs=1e-7), (a.name, name)


def test_roles_that_share_a_persona_are_drawn_together():
    humans = people(3, 200, weighted=False)
    same = np.random.default_rng(0).integers(0, 6, (10, 5))[np.arange(200) % 10]
    options = EvaluateOptions(bootstraps=300, splits=1, resample="personas")
    apart, together = (
        evaluate(cast_of(humans, same, personas=ids), humans, options=options).metric("wd")
        for ids in ([f"p{at}" for at in range(200)], [f"p{at % 10}" for at in range(200)])
    )
    # Ten answers and not two hundred: a standard error about sqrt(20) times as large.
    assert apart.value == together.value
    assert (together.high - together.low) / (apart.high - apart.low) > 3


def test_polychoric_correlations_are_compared_when_asked_for():
    humans, answers = people(4, 300, weighted=False), cast_of(people(5, 200, weighted=False))
    found = evaluate(answers, humans, options=replace(QUICK, polychoric=True)).metric("fro_polychoric")
    sides = [side.polychoric(side.everybody)[0] for side in (human_side(humans, MINI), simulated_side(answers))]
    assert found.value == pytest.approx(np.linalg.norm(sides[0] - sides[1]))
    assert found.uniform == pytest.approx(np.linalg.norm(sides[0] - np.eye(5))) == pytest.approx(found.margins)
    assert found.low is None and found.value < found.uniform
    side, masks = human_side(humans, MINI), half_splits(300, 5)
    halves = zip(side.polychoric(masks), side.polychoric(~masks), strict=True)
    assert found.floor == pytest.approx(np.mean([np.linalg.norm(one - other) for one, other in halves]))
    assert 0 < found.floor_equal_n < found.uniform
    assert 0.5 < found.attained < 1.2


# -- yardsticks of subgroups


def test_subgroups_have_all_yardsticks_that_the_whole_has():
    humans = people(5, 240, traits={"gender": 2, "age": 3})
    options = replace(QUICK, by=("gender",))
    result = evaluate(cast_of(humans), humans, options=options, previous=humans)
    for at, group in enumerate(result.subgroups):
        kept = np.flatnonzero(humans.codes["gender"] == at).tolist()
        alone = evaluate(cast_of(humans.take(kept)), humans.take(kept), options=QUICK, previous=humans.take(kept))
        for name in ("wd", "jsd", "fro", "variance_ratio"):
            one, same = ({m.name: m for m in metrics}[name] for metrics in (group.metrics, alone.metrics))
            for yardstick in ("floor", "floor_equal_n", "uniform", "majority", "margins", "cells", "previous"):
                assert getattr(one, yardstick) == pytest.approx(getattr(same, yardstick)), (name, yardstick)
        assert {m.name: m.previous for m in group.metrics}["wd"] == 0


def test_a_subgroup_that_the_earlier_wave_did_not_have_has_no_guess_from_it():
    humans = people(5, 120, traits={"gender": 2})
    fewer = humans.take(np.flatnonzero(humans.codes["gender"] == 0).tolist())
    renamed = replace(fewer, levels={"gender": ("gender 0", "another")})
    for earlier in (fewer, renamed):
        result = evaluate(cast_of(humans), humans, options=replace(QUICK, by=("gender",)), previous=earlier)
        first, second = (group.metrics[0] for group in result.subgroups)
        assert first.previous == 0 and second.previous is None and second.cells is not None
        assert "No guess from the earlier wave: 0 people of it are of this group, and at least 30 are needed." in (
            result.subgroups[1].note
        )


def test_a_trait_that_is_named_twice_makes_its_subgroups_once():
    humans = people(5, 120, traits={"gender": 2})
    once, twice = (
        evaluate(cast_of(humans), humans, options=replace(QUICK, by=by)) for by in (("gender",), ("gender",) * 2)
    )
    assert once.subgroups == twice.subgroups and len(once.subgroups) == 2
