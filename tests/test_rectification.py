import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anthology_hub import SimulateOptions, Survey, open_model, simulate, unmatched
from anthology_hub.errors import DataError, EmptyError, OptionError, UnknownNameError
from anthology_hub.models.scripted import ScriptedModel
from anthology_hub.rectification import RectifyOptions, prediction_powered, rectify, weighted_fit
from anthology_hub.schema import ANSWERED, MISSING, UNPARSABLE

BIO = SimulateOptions(conditioning="bio")
PICKS = RectifyOptions(simulated="picks")
SEEDS = st.integers(0, 2**32 - 1)


def made(n, *, seed, d=3, good=1.0):
    """Design, human and simulated answers, weights; the simulation is biased, and worse for some."""
    rng = np.random.default_rng(seed)
    x = np.concatenate([np.ones((n, 1)), rng.integers(0, 2, (n, d - 1))], axis=1).astype(float)
    truth = x @ np.linspace(2.0, 0.5, d)
    shared = rng.normal(size=n)
    human = truth + shared + rng.normal(size=n)
    simulated = 0.8 + 0.6 * truth + good * shared + 0.5 * x[:, -1] + 0.5 * rng.normal(size=n)
    return x, human, simulated, rng.lognormal(sigma=0.4, size=n)


def fits(labelled, others, *, model="linear", weighted=True):
    (x, y, f, w), (xo, _, fo, wo) = labelled, others
    w, wo = (w, wo) if weighted else (None, None)
    return (
        weighted_fit(x, y, weights=w, model=model),
        weighted_fit(x, f, weights=w, model=model),
        weighted_fit(xo, fo, weights=wo, model=model),
    )


def test_a_linear_fit_and_its_robust_errors_agree_with_statsmodels():
    statsmodels = pytest.importorskip("statsmodels.api")
    x, y, _, w = made(80, seed=0)
    found = weighted_fit(x, y, weights=w * 7)
    wanted = statsmodels.WLS(y, x, weights=w).fit(cov_type="HC1")
    np.testing.assert_allclose(found.values, wanted.params, rtol=1e-9)
    np.testing.assert_allclose(found.errors, wanted.bse, rtol=1e-9)


def test_a_logistic_fit_and_its_robust_errors_agree_with_statsmodels():
    statsmodels = pytest.importorskip("statsmodels.api")
    x, y, _, _ = made(300, seed=1)
    outcome = (y > np.median(y)).astype(float)
    found = weighted_fit(x, outcome, model="logistic")
    wanted = statsmodels.Logit(outcome, x).fit(cov_type="HC0", disp=0, tol=1e-12)
    np.testing.assert_allclose(found.values, wanted.params, rtol=1e-9)
    np.testing.assert_allclose(found.errors, wanted.bse * np.sqrt(300 / 297), rtol=1e-9)
    twice = np.where(np.arange(300) < 100, 2, 1)
    repeated = weighted_fit(np.repeat(x, twice, axis=0), np.repeat(outcome, twice), model="logistic")
    np.testing.assert_allclose(weighted_fit(x, outcome, weights=twice, model="logistic").values, repeated.values)


@pytest.mark.slow
def test_means_and_linear_coefficients_agree_with_the_package_of_the_method():
    ppi = pytest.importorskip("ppi_py")
    labelled, others = made(60, seed=2), made(500, seed=3)
    (x, y, f, w), (xo, _, fo, wo) = labelled, others
    ones = [(part[0][:, :1], *part[1:]) for part in (labelled, others)]
    for tuning in (0.3, 1.0):
        mean = prediction_powered(*fits(*ones, weighted=False), tuning=tuning)
        low, high = ppi.ppi_ols_ci(x[:, :1], y, f, xo[:, :1], fo, alpha=0.05, lam=tuning)
        np.testing.assert_allclose(mean.values, (low + high) / 2, rtol=1e-9)
        np.testing.assert_allclose(mean.errors, (high - low) / 2 / 1.959963984540054, rtol=1e-9)
        point = ppi.ppi_mean_pointestimate(y, f, fo, lam=tuning, w=w, w_unlabeled=wo)
        np.testing.assert_allclose(prediction_powered(*fits(*ones), tuning=tuning).values, point, rtol=1e-9)
        found = prediction_powered(*fits(labelled, others), tuning=tuning)
        wanted = ppi.ppi_ols_pointestimate(x, y, f, xo, fo, lam=tuning, w=w, w_unlabeled=wo)
        np.testing.assert_allclose(found.values, wanted, rtol=1e-9)
    tuned = prediction_powered(*fits(*ones, weighted=False))
    low, high = ppi.ppi_mean_ci(y, f, fo, alpha=0.05)
    # Its lambda is from pooled variances, ours from those of the interval: they differ by a chance of order 1/sqrt(n).
    assert tuned.values[0] == pytest.approx(float((low + high)[0] / 2), abs=0.2 * tuned.errors[0])
    assert tuned.errors[0] == pytest.approx(float((high - low)[0] / 3.92), rel=0.03)


@pytest.mark.slow
def test_logistic_coefficients_come_near_those_of_the_package():
    ppi = pytest.importorskip("ppi_py")
    cut = [
        (x, (y > 3).astype(float), 1 / (1 + np.exp(3 - f)), w) for x, y, f, w in (made(400, seed=4), made(4000, seed=5))
    ]
    found = prediction_powered(*fits(*cut, model="logistic", weighted=False), tuning=0.7)
    (x, y, f, _), (xo, _, fo, _) = cut
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        low, high = ppi.ppi_logistic_ci(x, y, f, xo, fo, alpha=0.05, lam=0.7)
    # The package minimises one joint loss; both are consistent, and differ by less than the chance of either.
    np.testing.assert_allclose(found.values, (low + high) / 2, atol=0.25 * found.errors.max())
    np.testing.assert_allclose(found.errors, (high - low) / 3.92, rtol=0.15)


def test_rectifying_a_mean_by_hand():
    y, f, others = np.array([1.0, 2, 2, 3]), np.array([2.0, 2, 3, 3]), np.array([3.0, 3, 2, 1, 3, 3])
    parts = [weighted_fit(np.ones((len(part), 1)), part) for part in (y, f, others)]
    plain = prediction_powered(*parts, tuning=1)
    assert plain.values[0] == pytest.approx(2.5 + (2.0 - 2.5))
    assert plain.errors[0] == pytest.approx(np.sqrt(np.var(y - f, ddof=1) / 4 + np.var(others, ddof=1) / 6))
    shared = np.cov(y, f)[0, 1] / 4
    tuned = prediction_powered(*parts)
    assert tuned.tuning[0] == pytest.approx(shared / (np.var(f, ddof=1) / 4 + np.var(others, ddof=1) / 6))


def test_simulated_answers_that_are_the_human_ones_pool_both_samples():
    (x, y, _, _), (xo, yo, _, _) = made(50, seed=0, d=1), made(450, seed=1, d=1)
    human, others = weighted_fit(x, y), weighted_fit(xo, yo)
    powered = prediction_powered(human, human, others)
    precision = 1 / np.array([human.errors[0], others.errors[0]]) ** 2
    pooled = (precision * [human.values[0], others.values[0]]).sum() / precision.sum()
    assert powered.values[0] == pytest.approx(pooled, rel=1e-9)
    assert powered.errors[0] == pytest.approx(precision.sum() ** -0.5, rel=1e-9)


@given(
    seed=SEEDS, shift=st.floats(-5, 5), stretch=st.floats(0.2, 5), factor=st.floats(0.01, 100), good=st.floats(-1, 1)
)
def test_no_simulation_makes_it_worse_and_its_unit_and_bias_do_not_matter(seed, shift, stretch, factor, good):
    labelled, others = made(40, seed=seed, good=good), made(120, seed=seed + 1, good=good)
    powered = prediction_powered(*fits(labelled, others))
    assert (powered.errors <= powered.human.errors * (1 + 1e-12)).all()
    assert (powered.tuning >= 0).all()
    changed = [(x, y, shift + stretch * f, factor * w) for x, y, f, w in (labelled, others)]
    again = prediction_powered(*fits(*changed))
    np.testing.assert_allclose(again.values, powered.values, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(again.errors, powered.errors, rtol=1e-6)


def test_lambda_zero_leaves_the_human_answers_alone():
    human, simulated, others = fits(made(40, seed=0), made(90, seed=1))
    powered = prediction_powered(human, simulated, others, tuning=0)
    np.testing.assert_array_equal(powered.values, human.values)
    np.testing.assert_array_equal(powered.errors, human.errors)


def covered(model, n, d, *, weighted, runs=1000):
    """Share of 95 % intervals that hold what 400,000 people say, for each coefficient: rectified, simulated alone."""
    from scipy import stats

    def cut(part):
        x, y, f, w = part
        w = w if weighted else np.ones_like(w)
        return (x, y, f, w) if model == "linear" else (x, (y > 3).astype(float), 1 / (1 + np.exp(3 - f)), w)

    x, y, _, w = cut(made(400_000, seed=10**6, d=d))
    truth = weighted_fit(x, y, weights=w, model=model).values
    hits, naive = np.zeros(d), np.zeros(d)
    for run in range(runs):
        labelled, others = cut(made(n, seed=2 * run, d=d)), cut(made(8 * n, seed=2 * run + 1, d=d))
        human, simulated, rest = fits(labelled, others, model=model)
        powered = prediction_powered(human, simulated, rest)
        hits += np.abs(powered.values - truth) <= stats.t.ppf(0.975, n - d) * powered.errors
        naive += np.abs(rest.values - truth) <= 1.96 * rest.errors
    return hits / runs, naive / runs


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "n", "d", "weighted"),
    [("linear", 30, 1, False), ("linear", 60, 1, True), ("linear", 100, 3, True), ("logistic", 150, 2, True)],
)
def test_95_percent_intervals_hold_the_truth_95_times_in_100_however_biased_the_simulation(model, n, d, weighted):
    hits, naive = covered(model, n, d, weighted=weighted)
    assert ((hits >= 0.93) & (hits <= 0.97)).all(), hits
    assert naive.min() < 0.5


# -- runs -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def humans(gss):
    return gss.sample(600)


@pytest.fixture(scope="module")
def run(humans):
    """A run whose answers go along with the humans' half of the time."""
    survey = Survey.load("gss-national-spending").select(["natenvir", "nateduc"])
    answers = simulate(unmatched(humans), survey, open_model("scripted:uniform"), options=BIO)
    own = np.stack([humans.answers[key] for key in survey.keys], axis=1)
    picks = np.where((np.random.default_rng(0).random(own.shape) < 0.5) & (own != MISSING), own, 2).astype(np.int16)
    return replace(answers, picks=picks, statuses=np.full(picks.shape, ANSWERED))


def test_the_mean_of_a_question_from_few_humans_and_a_run(run, humans):
    known = np.flatnonzero(humans.answers["natenvir"] != MISSING)
    chosen = known[::3]
    ids = [humans.ids[row] for row in chosen]
    inside = np.isin(np.arange(600), chosen)
    plain = replace(PICKS, tuning=1.0)
    held = replace(humans, answers={"natenvir": humans.answers["natenvir"]})
    found = rectify(run, held, "natenvir", labelled=ids, options=plain)
    row = found.rows[0]
    others = ~inside
    picks = run.picks[:, 0] + 1.0
    own = humans.answers["natenvir"][inside] + 1.0
    assert row.rectified.value == pytest.approx(picks[others].mean() + (own - picks[inside]).mean())
    assert row.human.value == pytest.approx(own.mean())
    assert row.simulated.value == pytest.approx(picks.mean()) and row.simulated.n == 600
    assert row.everyone.value == pytest.approx(humans.answers["natenvir"][known].mean() + 1) == row.everyone.value
    assert (found.n_labelled, found.n_others) == (len(chosen), 600 - len(chosen))
    assert found.estimand == "mean position, 1 (Too little) to 3 (Too much)"


def test_a_number_of_labelled_people_is_drawn_by_the_seed_among_those_who_answered(run, humans):
    found = rectify(run, humans, "natenvir", labelled=150, options=PICKS)
    row, silent = found.rows[0], int((humans.answers["natenvir"] == MISSING).sum())
    assert (found.n_labelled, found.n_others) == (150, 600 - 150 - silent)
    assert f"{silent} people were left out who were asked and did not answer" in found.notes[0]
    assert row.rectified.error < row.human.error < row.simulated.error * 5
    assert row.worth == pytest.approx(150 * (row.human.error / row.rectified.error) ** 2)
    assert row.gained > 5 and f"worth {row.gained:.0f} more human answers" in found.meaning
    assert row.rectified.low < row.everyone.value < row.rectified.high
    assert not row.simulated.low < row.everyone.value < row.simulated.high
    assert rectify(run, humans, "natenvir", labelled=150, options=PICKS) == found
    assert rectify(run, humans, "natenvir", labelled=150, options=replace(PICKS, seed=1)) != found


def test_without_a_choice_all_human_answers_are_used_for_those_who_have_none(run, humans):
    answers = humans.answers["natenvir"].copy()
    answers[200:] = MISSING
    found = rectify(run, replace(humans, answers={"natenvir": answers}), "natenvir", options=PICKS)
    known = int((answers != MISSING).sum())
    assert (found.n_labelled, found.n_others) == (known, 600 - known)
    assert found.rows[0].everyone is None
    assert "must be missing by chance" in found.notes[0]


def test_the_share_of_an_option_and_its_regression_on_traits(run, humans):
    whole = rectify(run, humans, "natenvir", option="Too little", labelled=300, options=PICKS)
    assert whole.rows[0].name == "share" and 0 < whole.rows[0].rectified.value < 1
    found = rectify(run, humans, "natenvir", option="Too little", traits=["gender"], labelled=300, options=PICKS)
    assert [row.name for row in found.rows] == ["intercept", "gender=Female"]
    men, women = (humans.codes["gender"] == at for at in (0, 1))
    little = humans.answers["natenvir"] == 0
    known = humans.answers["natenvir"] != MISSING
    gap = little[women & known].mean() - little[men & known].mean()
    assert found.rows[1].everyone.value == pytest.approx(gap)
    odds = rectify(
        run, humans, "natenvir", option="Too little", traits=["gender"], labelled=300,
        options=replace(PICKS, model="logistic"),
    )  # fmt: skip
    logit = [np.log(share / (1 - share)) for share in (little[men & known].mean(), little[women & known].mean())]
    assert odds.rows[1].everyone.value == pytest.approx(logit[1] - logit[0])
    assert "log-odds of 'Too little', on gender" in odds.lines()[0]


def test_weights_of_the_run_count(run, humans):
    weights = np.where(humans.codes["gender"] == 1, 5.0, 1.0)
    answers, people = replace(run, weights=weights), replace(humans, weights=weights)
    row = rectify(answers, people, "natenvir", labelled=200, options=PICKS).rows[0]
    known = humans.answers["natenvir"] != MISSING
    wanted = np.average(humans.answers["natenvir"][known] + 1.0, weights=weights[known])
    assert row.everyone.value == pytest.approx(wanted)
    scaled = replace(answers, weights=weights * 100)
    again = rectify(scaled, replace(people, weights=weights * 100), "natenvir", labelled=200, options=PICKS).rows[0]
    assert again.rectified.value == pytest.approx(row.rectified.value)
    assert row != rectify(run, humans, "natenvir", labelled=200, options=PICKS).rows[0]


def test_probabilities_of_options_count_as_their_expectation(humans):
    def rule(prompt, letters):
        return [3.0, 1.0, 0.0] if "female" in prompt.context.lower() else [0.0, 1.0, 3.0]

    survey = Survey.load("gss-national-spending").select(["natenvir"])
    answers = simulate(unmatched(humans), survey, ScriptedModel(rule), options=BIO)
    known = humans.answers["natenvir"] != MISSING
    expected = (answers.probs[known, 0].astype(float) @ [1, 2, 3]).mean()
    assert rectify(answers, humans, "natenvir", labelled=200).rows[0].simulated.value == pytest.approx(expected)
    picked = rectify(answers, humans, "natenvir", labelled=200, options=PICKS).rows[0].simulated.value
    assert picked == pytest.approx((answers.picks[:, 0] + 1.0)[known].mean())


def test_roles_without_an_answer_and_people_without_a_trait_are_counted(run, humans):
    picks, statuses = run.picks.copy(), run.statuses.copy()
    picks[:40], statuses[:40] = MISSING, UNPARSABLE
    found = rectify(replace(run, picks=picks, statuses=statuses), humans, "nateduc", labelled=100, options=PICKS)
    silent = int((humans.answers["nateduc"][:40] != MISSING).sum())
    assert any(note.startswith(f"{silent} of") and "the mean simulated answer counts" in note for note in found.notes)
    gender = humans.codes["gender"].copy()
    gender[:25] = MISSING
    people = replace(humans, codes={**humans.codes, "gender": gender})
    found = rectify(run, people, "natenvir", traits=["gender"], labelled=200, options=PICKS)
    assert "25 of 600 people in the run were left out: a trait" in found.notes[0]


def test_a_run_may_stand_in_for_people_who_were_never_asked(run, humans):
    asked = humans.take(range(150))
    found = rectify(run, asked, "natenvir", options=PICKS)
    known = int((asked.answers["natenvir"] != MISSING).sum())
    assert (found.n_labelled, found.n_others) == (known, 600 - known)
    found = rectify(run, asked, "natenvir", labelled=100, options=PICKS)
    assert (found.n_labelled, found.n_others) == (100, 600 - 100 - (150 - known))


def test_what_limits_the_figures_is_said(run, humans):
    flat = replace(run, picks=np.zeros_like(run.picks))
    found = rectify(flat, humans, "natenvir", labelled=100, options=PICKS)
    row = found.rows[0]
    assert any("All simulated answers are the same" in note for note in found.notes)
    assert row.tuning == 0 and row.rectified == row.human and row.gained == pytest.approx(0)
    assert "Here they add nothing" in found.meaning
    design = replace(humans, psu=np.arange(600) // 10, strata=np.zeros(600, dtype=np.int64))
    assert any("not allowed for" in note for note in rectify(run, design, "natenvir", labelled=99, options=PICKS).notes)
    few = rectify(run, humans, "natenvir", traits=["party"], labelled=55, options=PICKS)
    assert any("Few labelled people are" in note and "party=Other" in note for note in few.notes)
    assert any("fewer than 30 for each figure: the intervals may be too narrow" in note for note in few.notes)


def test_it_goes_through_json_and_reads_as_text(run, humans):
    found = rectify(run, humans, "natenvir", traits=["gender"], labelled=200, options=PICKS)
    told = json.loads(json.dumps(found.to_dict()))
    assert told["rows"][1]["name"] == "gender=Female"
    assert told["rows"][0]["gained"] == pytest.approx(found.rows[0].gained)
    assert "however wrong the simulation is" in told["meaning"]
    text = "\n".join(found.lines())
    for part in ("natenvir: mean position", "200 human answers", "95% intervals", "rectified", "humans alone",
                 "simulation alone", "all humans", "lambda", "gender=Female"):  # fmt: skip
        assert part in text


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"model": "probit"}, UnknownNameError, "model 'probit'.*'linear', 'logistic'"),
        ({"simulated": "pick"}, UnknownNameError, "did you mean 'picks'"),
        ({"tuning": -1.0}, OptionError, "tuning 0 or more, got 0.95 and -1"),
        ({"tuning": float("inf")}, OptionError, "and inf"),
        ({"level": 95.0}, OptionError, "level must be above 0 and below 1.*got 95"),
    ],
)
def test_options_out_of_range_are_refused(change, error, says):
    with pytest.raises(error, match=says):
        RectifyOptions(**change)


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"question": "natspace"}, UnknownNameError, "question of the run 'natspace'.*'natenvir'"),
        ({"option": "Too litle"}, UnknownNameError, "option of natenvir 'Too litle': did you mean 'Too little'"),
        ({"traits": ["sex"]}, UnknownNameError, "trait of gss-2018 'sex'.*'gender'"),
        ({"labelled": 1}, OptionError, "there are 1 people with a human.*2 are needed for 1 figures: label more"),
        ({"labelled": 0}, OptionError, r"cannot label 0 people: \d+ of the run have a human answer"),
        ({"labelled": 601}, OptionError, "cannot label 601 people"),
        ({"labelled": ["nobody"]}, DataError, "1 of 1 labelled people are not in the run, such as 'nobody'"),
        ({"labelled": []}, EmptyError, "there are 0 people with a human and a simulated answer"),
        ({"options": RectifyOptions(model="logistic")}, OptionError, "logistic model needs the share of an option"),
        ({"traits": ["race", "work"], "labelled": 20}, DataError, "nobody of the labelled people is .*leave the trait"),
    ],
)
def test_what_cannot_be_rectified_is_refused(run, humans, change, error, says):
    with pytest.raises(error, match=says):
        rectify(run, humans, **{"question": "natenvir", "labelled": 100, **change})


def test_runs_and_humans_that_do_not_fit_are_refused(run, humans, gss):
    with pytest.raises(UnknownNameError, match="question of gss-2018 'nateduc'"):
        rectify(run, replace(humans, answers={"natenvir": humans.answers["natenvir"]}), "nateduc")
    strangers = gss.take([row for row, known in enumerate(gss.ids) if known not in set(humans.ids)])
    with pytest.raises(EmptyError, match="nobody in the run is in gss-2018.*give the respondents"):
        rectify(run, strangers, "natenvir")
    with pytest.raises(EmptyError, match="there are 0 people with a simulated answer alone.*label fewer"):
        rectify(run, humans, "natenvir", labelled=int((humans.answers["natenvir"] != MISSING).sum()))
    ids = (run.respondent_ids[1], *run.respondent_ids[1:])
    with pytest.raises(DataError, match="respondent occurs twice"):
        rectify(replace(run, respondent_ids=ids), humans, "natenvir")
    same = replace(humans, answers={"natenvir": np.zeros(600, dtype=np.int16)})
    with pytest.raises(DataError, match="the 50 labelled people all count the same.*label more people"):
        rectify(run, same, "natenvir", labelled=50)
    beyond = replace(humans, answers={"natenvir": np.full(600, 4, dtype=np.int16)}, survey=None)
    with pytest.raises(DataError, match="has 3 options in the run, but an answer of gss-2018 is option 5"):
        rectify(run, beyond, "natenvir")
    question = replace(run.survey.questions[0], options=("Less", "Same", "More"))
    reworded = replace(run, survey=replace(run.survey, questions=(question, run.survey.questions[1])))
    with pytest.raises(DataError, match="'Less', 'Same', 'More'.* in the run, but .*'Too little'"):
        rectify(reworded, humans, "natenvir")
    nominal = replace(run.survey.questions[0], ordinal=False)
    unordered = replace(run, survey=replace(run.survey, questions=(nominal, run.survey.questions[1])))
    with pytest.raises(OptionError, match="its options have no order: give the share"):
        rectify(unordered, humans, "natenvir")
    number = replace(run.survey.questions[0], kind="number", options=(), codes=())
    counted = replace(run, survey=replace(run.survey, questions=(number, run.survey.questions[1])))
    with pytest.raises(OptionError, match="of the kind number: give a choice question"):
        rectify(counted, humans, "natenvir")
    silent = replace(run, picks=np.full_like(run.picks, MISSING))
    with pytest.raises(EmptyError, match="no role of the run answered"):
        rectify(silent, humans, "natenvir", labelled=100)


def test_arrays_that_tell_nothing_are_refused():
    x, y, _, w = made(20, seed=0)
    with pytest.raises(OptionError, match="3 people cannot tell 3 coefficients"):
        weighted_fit(x[:3], y[:3])
    with pytest.raises(DataError, match="3 columns of the design are not independent"):
        weighted_fit(np.ones((20, 3)), y)
    for bad in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(DataError, match="weights must be positive"):
            weighted_fit(x, y, weights=np.where(np.arange(20) == 3, bad, w))
    with pytest.raises(DataError, match="log-odds run away.*linear model"):
        weighted_fit(x, x[:, 1], model="logistic")


def test_log_odds_that_run_away_say_whose_answers_they_are_of(run, humans):
    flat = replace(run, picks=np.zeros_like(run.picks))
    with pytest.raises(DataError, match="the simulated answers of the labelled: the log-odds run away"):
        rectify(flat, humans, "natenvir", option="Too little", labelled=100, options=replace(PICKS, model="logistic"))
