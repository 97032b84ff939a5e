from dataclasses import replace

import numpy as np
import pingouin
import pytest
from hypothesis import given, settings

from anthology_hub import EvaluateOptions, evaluate
from anthology_hub.errors import DataError
from anthology_hub.resampling import half_splits, samples
from anthology_hub.schema import MISSING
from anthology_hub.sides import human_side, simulated_side
from anthology_hub.standins import PERSON, StandIns
from tests.made_answers import SEEDS
from tests.made_runs import MINI, QUICK, cast_of, codes_of, people, with_picks

TRAITS = {"gender": 2, "age": 3}


def found_in(result):
    return {metric.name: metric for metric in result.metrics}


def pairs_of(answers, humans):
    return StandIns.of(answers, humans, simulated_side(answers), human_side(humans, MINI))


def with_retest(humans, seed=0, *, kept=0.7):
    """People who repeat a part of their answers; one in five is not asked again."""
    rng = np.random.default_rng(seed)
    retest = {}
    for key, column in humans.answers.items():
        again = np.where(rng.random(len(column)) < kept, column, rng.integers(0, 6, len(column)))
        retest[key] = np.where(rng.random(len(column)) < 0.2, MISSING, again).astype(np.int16)
    return replace(humans, retest=retest)


# -- person by person


def accuracy_by_hand(ours, theirs, weights):
    """Accuracy, nearness and correlation: the mean over the items of weighted figures of complete pairs."""
    found = {"accuracy": [], "mad_accuracy": [], "item_correlation": []}
    for x, y in zip(ours.T, theirs.T, strict=True):
        known = (x != MISSING) & (y != MISSING)
        a, b, w = x[known].astype(float), y[known].astype(float), weights[known]
        c = np.cov(a, b, aweights=w)
        found["accuracy"].append(np.average(a == b, weights=w))
        found["mad_accuracy"].append(np.average(1 - np.abs(a - b) / 5, weights=w))
        found["item_correlation"].append(c[0, 1] / np.sqrt(c[0, 0] * c[1, 1]))
    return {name: np.mean(values) for name, values in found.items()}


@pytest.mark.parametrize("weighting", ["weighted", "paper"])
def test_pairs_are_each_role_and_its_respondent_wherever_they_stand(weighting):
    humans = people(1, 80, missing=0.1)
    rows = np.random.default_rng(0).permutation(80)[:50]
    picks = np.random.default_rng(1).integers(MISSING, 6, (50, 5))
    answers = cast_of(humans.take(rows.tolist()), picks)
    # Four roles stand for people who are not among the humans: these make no pairs.
    answers = replace(answers, respondent_ids=("x", "y", "z", "u", *answers.respondent_ids[4:]))
    found = found_in(evaluate(answers, humans, options=replace(QUICK, weighting=weighting)))
    weights = humans.weights[rows[4:]] if weighting == "weighted" else np.ones(46)
    expected = accuracy_by_hand(picks[4:], codes_of(humans, MINI)[rows[4:]], weights)
    assert {name: found[name].value for name in expected} == pytest.approx(expected)
    assert "normalised_accuracy" not in found


def test_people_who_answer_for_themselves_agree_with_themselves_and_attain_all():
    humans = people(2, 60, missing=0.1)
    found = found_in(evaluate(cast_of(humans), humans, options=QUICK))
    for name in ("accuracy", "mad_accuracy", "item_correlation"):
        assert (found[name].value, found[name].attained) == pytest.approx((1, 1))
        assert found[name].low == pytest.approx(1) and found[name].high == pytest.approx(1)


def test_second_answers_are_the_ceiling_and_make_the_accuracy_a_ratio():
    humans = with_retest(people(3, 100, missing=0.05))
    picks = np.random.default_rng(1).integers(0, 6, (100, 5))
    found = found_in(evaluate(cast_of(humans, picks), humans, options=QUICK))
    codes, again = codes_of(humans, MINI), np.stack([humans.retest[key] for key in MINI.keys], axis=1)
    top = accuracy_by_hand(again, codes, humans.weights)
    assert {name: found[name].human for name in top} == pytest.approx(top)
    asked_again = np.where(again == MISSING, MISSING, codes)
    ours, ceiling = (accuracy_by_hand(side, asked_again, humans.weights) for side in (picks, again))
    for name in ("accuracy", "mad_accuracy"):
        metric = found[f"normalised_{name}"]
        assert metric.value == pytest.approx(ours[name] / ceiling[name]) and metric.human == 1
        assert metric.uniform is not None and metric.attained is not None
        attained = (found[name].value - found[name].uniform) / (top[name] - found[name].uniform)
        assert found[name].attained == pytest.approx(attained)


def test_people_who_give_their_second_answers_are_as_good_as_asking_again():
    humans = with_retest(people(4, 100))
    again = np.stack([humans.retest[key] for key in MINI.keys], axis=1)
    found = found_in(evaluate(cast_of(humans, again), humans, options=QUICK))
    for name in ("accuracy", "mad_accuracy", "item_correlation", "normalised_accuracy", "normalised_mad_accuracy"):
        assert (found[name].value, found[name].attained) == pytest.approx((found[name].human, 1)), name


def test_answers_of_others_land_on_the_margins_and_options_at_random_on_the_uniform():
    humans = people(5, 4000, weighted=False)
    rng = np.random.default_rng(0)
    shuffled = np.stack([rng.permutation(column) for column in codes_of(humans, MINI).T], axis=1)
    options = EvaluateOptions(bootstraps=2, splits=1)
    for picks, guess in ((shuffled, "margins"), (rng.integers(0, 6, (4000, 5)), "uniform")):
        found = found_in(evaluate(cast_of(humans, picks), humans, options=options))
        for name in ("accuracy", "mad_accuracy", "item_correlation"):
            assert found[name].value == pytest.approx(getattr(found[name], guess), abs=0.02)


def test_cells_guess_from_all_humans_alike_and_never_from_the_person():
    humans = people(6, 300, weighted=False, traits={"age": 3})
    # Ten roles: the others of their cells are found among those for whom nobody stands.
    rows = list(range(10))
    found = found_in(evaluate(cast_of(humans.take(rows)), humans, options=QUICK))
    age, hits, near, guesses = humans.codes["age"], [], [], []
    for key in MINI.keys:
        column, right, close, means = humans.answers[key], [], [], []
        for row in rows:
            others = (age == age[row]) & (np.arange(300) != row)
            counts = np.bincount(column[others], minlength=6)
            modes = np.flatnonzero(counts == counts.max())
            right.append((column[row] in modes) / len(modes))
            close.append(1 - abs(np.median(column[others]) - column[row]) / 5)
            means.append(column[others].mean())
        hits.append(np.mean(right))
        near.append(np.mean(close))
        guesses.append(np.corrcoef(means, column[rows])[0, 1])
    assert found["accuracy"].cells == pytest.approx(np.mean(hits))
    assert found["mad_accuracy"].cells == pytest.approx(np.mean(near))
    assert found["item_correlation"].cells == pytest.approx(np.mean(guesses))


def test_pairs_are_drawn_whosever_chance_the_intervals_tell():
    humans = people(7, 60)
    answers = cast_of(humans, np.random.default_rng(1).integers(0, 6, (60, 5)))
    for held in ("both", "respondents", "personas"):
        metric = evaluate(answers, humans, options=replace(QUICK, bootstraps=200, resample=held)).metric("accuracy")
        # The mean of five items over 60 pairs of equal weight has a standard error of about sqrt(p q / 300).
        assert metric.high - metric.low > 2 * 1.96 * np.sqrt(metric.value * (1 - metric.value) / 300)


@given(SEEDS)
@settings(max_examples=10)
def test_order_of_roles_and_of_people_and_the_scale_of_weights_change_no_figure(seed):
    rng = np.random.default_rng(seed)
    humans = with_retest(people(seed, 60, missing=0.05, traits={"gender": 2}), seed)
    picks, order = rng.integers(0, 6, (60, 5)), rng.permutation(60)
    first = evaluate(cast_of(humans, picks), humans, options=QUICK)
    roles = humans.take(order.tolist())
    roles = replace(roles, weights=roles.weights * 7)
    second = evaluate(cast_of(roles, picks[order]), humans.take(rng.permutation(60).tolist()), options=QUICK)
    one, other = ({m.name: (m.value, m.human, m.uniform, m.margins) for m in r.metrics} for r in (first, second))
    assert one.keys() == other.keys()
    for name in one:
        assert [np.nan if v is None else v for v in one[name]] == pytest.approx(
            [np.nan if v is None else v for v in other[name]], nan_ok=True, abs=1e-9
        ), name


# -- by demographics


def design(humans, rows):
    """Dummies of gender and age against the commonest level of all humans, with an intercept."""
    columns = [np.ones(len(rows))]
    for name, count in TRAITS.items():
        codes = humans.codes[name]
        common = np.bincount(codes).argmax()
        columns += [(codes[rows] == level).astype(float) for level in range(count) if level != common]
    return np.stack(columns, axis=1)


def fits_by_hand(codes, x, weights):
    """Mean adjusted R^2 (n: effective people), and the slopes of each item, by weighted least squares."""
    adjusted, slopes, root = [], [], np.sqrt(weights)
    n = weights.sum() ** 2 / (weights**2).sum()
    for y in codes.T.astype(float):
        beta = np.linalg.lstsq(x * root[:, None], y * root, rcond=None)[0]
        left, all_of_it = weights @ (y - x @ beta) ** 2, weights @ (y - np.average(y, weights=weights)) ** 2
        adjusted.append(1 - (left / all_of_it) * (n - 1) / (n - x.shape[1]))
        slopes.append(beta[1:])
    return np.mean(adjusted), np.array(slopes)


def agreement_by_hand(ours, theirs, humans_codes, weights):
    """Correlation around 0 of slopes in standard deviations of the human item."""
    means = np.average(humans_codes, axis=0, weights=weights)
    spread = np.sqrt(np.average((humans_codes - means) ** 2, axis=0, weights=weights))[:, None]
    x, y = (ours / spread).ravel(), (theirs / spread).ravel()
    return (x * y).sum() / np.sqrt((x**2).sum() * (y**2).sum())


def gaps_by_hand(codes, humans, rows):
    """Cohen's d of each pair of levels of each trait in each item, without weights."""
    found = []
    for name, count in TRAITS.items():
        levels = humans.codes[name][rows]
        for column in codes.T.astype(float):
            for one in range(count):
                for other in range(one + 1, count):
                    found.append(pingouin.compute_effsize(column[levels == one], column[levels == other]))
    return np.array(found)


def test_what_demographics_explain_is_the_adjusted_share_of_the_variance_on_both_sides():
    humans = people(8, 300, traits=TRAITS)
    rows = np.arange(150)
    picks = (codes_of(humans, MINI)[:150] + np.random.default_rng(0).integers(0, 2, (150, 5))).clip(0, 5)
    found = found_in(evaluate(cast_of(humans.take(rows.tolist()), picks), humans, options=QUICK))
    everybody, codes = np.arange(300), codes_of(humans, MINI)
    ours, one = fits_by_hand(picks, design(humans, rows), humans.weights[:150])
    theirs, other = fits_by_hand(codes, design(humans, everybody), humans.weights)
    assert (found["explained"].value, found["explained"].human) == pytest.approx((ours, theirs))
    assert found["coefficients"].value == pytest.approx(agreement_by_hand(one, other, codes, humans.weights))
    assert found["explained"].uniform == found["explained"].margins == found["coefficients"].uniform == 0
    assert found["explained"].low < ours < found["explained"].high


def test_gaps_between_groups_are_cohens_d_and_answers_without_persons_have_none():
    humans = people(9, 240, weighted=False, traits=TRAITS)
    rows = np.arange(100)
    picks = np.random.default_rng(0).integers(0, 6, (100, 5))
    found = found_in(evaluate(cast_of(humans.take(rows.tolist()), picks), humans, options=QUICK))["group_gaps"]
    theirs = gaps_by_hand(codes_of(humans, MINI), humans, np.arange(240))
    assert found.value == pytest.approx(np.abs(gaps_by_hand(picks, humans, rows) - theirs).mean())
    assert found.uniform == found.margins == pytest.approx(np.abs(theirs).mean())


def test_floors_by_demographics_are_those_of_the_same_halves_and_samples():
    humans, n = people(10, 240, weighted=False, traits=TRAITS), 120
    picks = codes_of(humans, MINI)[:n]
    options = replace(QUICK, splits=2, seed=5)
    found = found_in(evaluate(cast_of(humans.take(range(n)), picks), humans, options=options))
    codes, everybody, ones = codes_of(humans, MINI), np.arange(240), np.ones(240)

    def told(counts):
        explained, slopes = fits_by_hand(codes, design(humans, everybody), counts)
        rows = everybody.repeat(counts)
        return explained, gaps_by_hand(codes[rows], humans, rows), slopes

    def figures(counts, other):
        (explained, gaps, slopes), (_, theirs, them) = told(counts), told(other)
        return explained, np.abs(gaps - theirs).mean(), agreement_by_hand(slopes, them, codes, ones)

    halves = [
        figures(*sides)
        for mask in half_splits(240, 2, seed=5)
        for sides in ((mask.astype(int), (~mask).astype(int)), ((~mask).astype(int), mask.astype(int)))
    ]
    drawn = [samples(240, size, 2, seed=5 + at) for at, size in enumerate((n, 240))]
    as_many = [figures(*pair) for pair in zip(*drawn, strict=True)]
    for at, name in enumerate(("explained", "group_gaps", "coefficients")):
        assert found[name].floor == pytest.approx(np.mean([each[at] for each in halves])), name
        # Who is drawn twice is one person in the standard deviation of a group: a little more than by hand.
        reach = 0.02 if name == "group_gaps" else 1e-6
        assert found[name].floor_equal_n == pytest.approx(np.mean([each[at] for each in as_many]), rel=reach), name


def test_people_who_stand_for_themselves_have_their_own_demographics():
    humans = people(11, 120, missing=0.1, traits=TRAITS)
    found = found_in(evaluate(cast_of(humans), humans, options=QUICK))
    assert found["explained"].value == pytest.approx(found["explained"].human)
    assert (found["group_gaps"].value, found["coefficients"].value) == pytest.approx((0, 1), abs=1e-9)
    assert found["explained"].attained == pytest.approx(1)


def test_a_cast_that_makes_too_much_of_demographics_is_seen():
    humans = people(12, 400, weighted=False, traits=TRAITS)
    caricature = np.repeat((humans.codes["age"] * 2 + humans.codes["gender"])[:, None], 5, axis=1)
    found = found_in(evaluate(cast_of(humans, caricature), humans, options=QUICK))
    assert found["explained"].value == pytest.approx(1) and found["explained"].human < 0.5


def test_rare_levels_are_joined_and_people_of_unknown_level_are_left_out():
    humans = people(13, 200, traits={"age": 3})
    codes = np.repeat([0, 1, 2, 3, 4, MISSING], [60, 60, 60, 6, 8, 6]).astype(np.int16)
    humans = replace(humans, codes={"age": codes}, levels={"age": tuple("abcde")})
    pairs = pairs_of(cast_of(humans), humans)
    assert pairs.levels["age"].tolist() == [1] * 60 + [2] * 60 + [3] * 60 + [0] * 14 + [MISSING] * 6
    said = (
        "Regressions on demographics leave out 6 of 200 roles, of whom a trait is not known or has a level that too "
        "few have."
    )
    assert list(pairs.notes) == [said]
    assert said in evaluate(cast_of(humans), humans, options=QUICK).notes
    few = replace(humans, codes={"age": np.where(codes == 4, MISSING, codes).astype(np.int16)})
    assert (pairs_of(cast_of(few), few).levels["age"][180:] == MISSING).all()


def test_a_level_that_the_cast_has_too_little_of_is_rare_however_many_humans_have_it():
    humans = people(14, 200, traits={"age": 2})
    humans = replace(humans, codes={"age": np.repeat([0, 1], 100).astype(np.int16)})
    assert pairs_of(cast_of(humans.take(range(105))), humans).levels == {}
    assert set(pairs_of(cast_of(humans.take(range(110))), humans).levels["age"]) == {0, 1}


def test_without_two_levels_of_ten_there_are_no_figures_by_demographics_and_a_note():
    humans = people(15, 60, traits={"age": 2})
    result = evaluate(cast_of(humans.take(range(12))), humans, options=QUICK)
    assert "explained" not in found_in(result) and "accuracy" in found_in(result)
    assert (
        "Figures by demographics are left out: no trait has two levels with at least 10 roles and humans each."
        in result.notes
    )


# -- what is undefined


def test_constant_answers_have_no_correlation_with_anybodys_and_no_demographics_and_say_why():
    humans = people(16, 80, traits=TRAITS)
    picks = codes_of(humans, MINI).copy()
    picks[:, 1] = 2
    found = found_in(evaluate(cast_of(humans, picks), humans, options=QUICK))
    assert found["item_correlation"].value is None and found["accuracy"].value > 0.8
    assert found["item_correlation"].note == (
        "Undefined: all simulated or all human answers to a question are the same, or no question has options in order."
    )
    for name in ("explained", "group_gaps"):
        assert found[name].value is None and found[name].note.startswith("Undefined: too few roles for so many traits")


def test_pairs_that_never_answered_the_same_question_have_no_accuracy_and_say_why():
    humans = people(17, 40)
    codes = codes_of(humans, MINI)
    mute = np.where(np.arange(40)[:, None] < 20, codes, MISSING)
    others = replace(
        humans, answers={key: np.where(np.arange(40) < 20, MISSING, c) for key, c in humans.answers.items()}
    )
    found = found_in(evaluate(cast_of(humans, mute), others, options=QUICK))
    assert found["accuracy"].value is None and found["mad_accuracy"].value is None
    assert found["accuracy"].note == "Undefined: no role and its respondent answered the same question."


def test_people_who_repeat_no_answer_have_no_ceiling_to_divide_by():
    humans = people(18, 40)
    never = {key: ((column + 1) % 6).astype(np.int16) for key, column in humans.answers.items()}
    found = found_in(evaluate(cast_of(humans), replace(humans, retest=never), options=QUICK))
    assert found["accuracy"].human == 0 and found["accuracy"].attained is None
    assert found["normalised_accuracy"].value is None
    assert found["normalised_accuracy"].note.startswith("Undefined: none of these respondents repeated an answer")


def test_nobody_stood_in_for_or_one_person_alone_makes_no_pairs():
    humans = people(19, 40, traits=TRAITS)
    strangers = replace(cast_of(humans), respondent_ids=tuple(f"x{at}" for at in range(40)))
    assert pairs_of(strangers, humans) is None
    one = replace(strangers, respondent_ids=("r3", *strangers.respondent_ids[1:]))
    assert pairs_of(one, humans) is None
    assert "accuracy" not in found_in(evaluate(one, humans, options=QUICK))


def test_questions_without_an_order_count_in_accuracy_alone():
    humans = people(20, 60, traits=TRAITS)
    survey = replace(MINI, questions=tuple(replace(question, ordinal=False) for question in MINI.questions))
    picks = np.random.default_rng(0).integers(0, 6, (60, 5))
    answers = replace(with_picks(cast_of(humans), picks), survey=survey)
    found = found_in(evaluate(answers, humans, options=QUICK))
    assert found["accuracy"].value == pytest.approx(
        accuracy_by_hand(picks, codes_of(humans, MINI), humans.weights)["accuracy"]
    )
    assert found["mad_accuracy"].value is None and found["item_correlation"].value is None
    assert "with options in order" in found["mad_accuracy"].note and "explained" not in found


# -- who is whom


def played(answers, name):
    inputs = {**answers.provenance["inputs"], "humans": name}
    return replace(answers, provenance={**answers.provenance, "inputs": inputs})


def test_people_of_another_name_are_not_paired_though_their_ids_are_the_same():
    humans = people(21, 80, traits={"gender": 2})
    others = replace(humans, name="another-file")
    result = evaluate(cast_of(humans), others, options=replace(QUICK, by=("gender",)))
    assert not set(found_in(result)) & {*PERSON, "explained", "group_gaps", "coefficients"}
    assert {one.n for one in result.subgroups} == {0}
    (note,) = [note for note in result.notes if "paired" in note]
    assert note == (
        "The run stands in for people of toy-humans, and these are of another-file: nobody is paired, though 80 ids "
        "are the same. If they are the same people, name the humans 'toy-humans'. Figures person by person and by "
        "demographics are left out."
    )
    renamed = evaluate(played(cast_of(humans), "another-file"), others, options=QUICK)
    assert renamed.metric("accuracy").value == 1 and not any("paired" in note for note in renamed.notes)


def test_roles_that_stand_for_nobody_there_are_counted():
    humans = people(22, 60)
    whole = cast_of(humans)
    result = evaluate(whole, humans.take(range(20)), options=QUICK)
    assert (
        "40 of 60 roles stand for nobody among these humans. Figures person by person and by demographics are of the "
        "other 20." in result.notes
    )
    strange = replace(humans, ids=tuple(f"x{at}" for at in range(60)))
    result = evaluate(whole, strange, options=QUICK)
    assert "accuracy" not in found_in(result)
    assert (
        "60 of 60 roles stand for nobody among these humans. Figures person by person and by demographics are left "
        "out." in result.notes
    )
    assert not any("stand for nobody" in note for note in evaluate(whole, humans, options=QUICK).notes)


def test_humans_of_one_id_are_not_told_apart_and_the_ids_are_counted():
    humans = people(23, 60)
    twice = replace(humans, ids=("r0", "r0", "r2", "r2", *humans.ids[4:]))
    answers = replace(cast_of(humans), respondent_ids=twice.ids)
    pairs = pairs_of(answers, twice)
    assert pairs.roles.tolist() == pairs.people.tolist() == list(range(4, 60))
    (note,) = [note for note in evaluate(answers, twice, options=QUICK).notes if "stand for nobody" in note]
    assert "4 of 60 roles" in note and "2 ids, such as 'r0', are of several humans" in note


# -- coded in opposite directions


def reversed_codes(codes, at):
    turned = codes.copy()
    turned[:, at] = np.where(codes[:, at] == MISSING, MISSING, 5 - codes[:, at])
    return turned


def skewed(seed, n, **given):
    """People most of whom take one of the first options."""
    humans = people(seed, n, **given)
    low = {key: np.where(column > 3, column - 3, column).astype(np.int16) for key, column in humans.answers.items()}
    return replace(humans, answers=low)


def told_turned(result):
    return [note for note in result.notes if "look whether the options are coded in the same direction" in note]


def test_a_scale_that_is_wholly_reversed_is_seen_in_the_persons_and_in_the_shares():
    humans = skewed(24, 400, missing=0.1)
    all_of_them = reversed_codes(codes_of(humans, MINI), list(range(5)))
    shares, persons = told_turned(evaluate(cast_of(humans, all_of_them), humans, options=QUICK))
    assert "answers to C1, C2, C3, C4, C5 fit the humans' shares far better when the scale is turned round" in shares
    assert "answers to C1, C2, C3, C4, C5 go the opposite way of the answers of the persons stood in for" in persons
    # Of other people only the shares tell.
    others = replace(skewed(25, 400), name="another-file")
    (shares,) = told_turned(evaluate(cast_of(humans, all_of_them), others, options=QUICK))
    assert "C1, C2, C3, C4, C5 fit the humans' shares" in shares


def test_options_in_another_order_are_refused_whatever_their_case():
    humans = people(28, 20)
    loud = replace(MINI, questions=tuple(replace(q, options=tuple(map(str.upper, q.options))) for q in MINI.questions))
    back = replace(loud, questions=tuple(replace(q, options=q.options[::-1]) for q in loud.questions))
    assert evaluate(cast_of(humans), replace(humans, survey=loud), options=QUICK).metric("wd").value == 0
    with pytest.raises(DataError, match="both sides must be coded by the same options in the same order"):
        evaluate(cast_of(humans), replace(humans, survey=back), options=QUICK)


def test_one_reversed_question_alone_is_seen():
    humans, one = skewed(26, 300), MINI.select(["C3"])
    picks = reversed_codes(codes_of(humans, one), [0])
    assert [" C3 fit" in note or " C3 go" in note for note in told_turned(
        evaluate(cast_of(humans, picks, survey=one), humans, options=QUICK)
    )] == [True, True]  # fmt: skip


def test_answers_at_random_and_right_ones_are_not_taken_for_reversed():
    humans = skewed(27, 400)
    rng = np.random.default_rng(0)
    shuffled = np.stack([rng.permutation(column) for column in codes_of(humans, MINI).T], axis=1)
    for picks in (None, shuffled, rng.integers(0, 6, (400, 5)), np.full((400, 5), 3)):
        assert told_turned(evaluate(cast_of(humans, picks), humans, options=QUICK)) == []


# -- what cheap guesses know of demographics


def drawn_from_cells(humans, mask, rng):
    """What those left out by the mask would answer, drawn from those of the same traits whom it marks."""
    levels, codes = np.stack(list(humans.codes.values()), axis=1), codes_of(humans, MINI)
    drawn = np.empty_like(codes[~mask])
    for cell in np.unique(levels, axis=0):
        donors, taken = ((levels == cell).all(axis=1) & half for half in (mask, ~mask))
        for item in range(5):
            drawn[taken[~mask], item] = rng.choice(codes[donors, item], taken.sum())
    return drawn


def test_answers_drawn_from_cells_are_scored_as_the_mean_of_many_draws():
    humans, rng = people(3, 600, weighted=False, traits=TRAITS), np.random.default_rng(0)
    found = found_in(evaluate(cast_of(humans), humans, options=QUICK))
    pairs, scores = pairs_of(cast_of(humans), humans), []
    for mask in half_splits(600, QUICK.splits, seed=0):
        ones, levels = np.ones((1, int((~mask).sum()))), pairs._levels[~mask]
        told = [pairs._told(drawn_from_cells(humans, mask, rng), levels, ones) for _ in range(80)]
        mean = replace(
            told[0],
            **{name: np.mean([getattr(one, name) for one in told], axis=0) for name in ("coefficients", "gaps")},
            explained=np.mean([one.explained for one in told], axis=0),
        )
        scores.append(mean.against(pairs._told_of_humans(~mask[None]), pairs._whole.spread))
    for name in ("explained", "group_gaps", "coefficients"):
        assert found[name].cells == pytest.approx(np.mean([score[name] for score in scores]), abs=0.01), name
        assert found[name].majority is None


def test_an_earlier_wave_of_the_same_people_is_the_perfect_guess_by_demographics():
    humans = people(3, 300, traits=TRAITS)
    relabelled = replace(
        humans,
        levels=humans.levels | {"gender": humans.levels["gender"][::-1]},
        codes=humans.codes | {"gender": (1 - humans.codes["gender"]).astype(np.int16)},
    )
    for earlier in (humans, relabelled):
        found = found_in(evaluate(cast_of(humans), humans, options=QUICK, previous=earlier))
        assert found["group_gaps"].previous == pytest.approx(0, abs=1e-9)
        assert found["coefficients"].previous == pytest.approx(1)
        assert found["explained"].previous == pytest.approx(found["explained"].human)


def test_an_earlier_wave_without_a_trait_says_nothing_of_demographics():
    humans = people(3, 100, traits=TRAITS)
    lacking = replace(humans, levels={"gender": humans.levels["gender"]}, codes={"gender": humans.codes["gender"]})
    found = found_in(evaluate(cast_of(humans), humans, options=QUICK, previous=lacking))
    assert found["group_gaps"].previous is None and found["wd"].previous == 0


@pytest.mark.parametrize(
    ("change", "why"), [("traits", "it was not asked for age"), ("few", "a level of gender has fewer")]
)
def test_why_an_earlier_wave_guesses_no_figure_by_demographics_is_told(change, why):
    humans = people(3, 100, traits=TRAITS)
    rows = np.flatnonzero(humans.codes["gender"] == 0).tolist()
    fewer = humans.take([*rows, *np.flatnonzero(humans.codes["gender"] == 1)[:5].tolist()])
    lacking = replace(humans, levels={"gender": humans.levels["gender"]}, codes={"gender": humans.codes["gender"]})
    result = evaluate(cast_of(humans), humans, options=QUICK, previous={"traits": lacking, "few": fewer}[change])
    said = f"Figures by demographics are not guessed from the earlier wave: {why}"
    assert any(note.startswith(said) for note in result.notes) and result.metric("coefficients").previous is None


def test_questions_that_no_pair_answered_are_left_out_person_by_person_and_counted():
    humans = people(3, 60)
    picks = codes_of(humans, MINI)
    picks[::2, 0] = MISSING
    silent = {**humans.answers, "C1": np.where(np.arange(60) % 2, MISSING, humans.answers["C1"]).astype(np.int16)}
    result = evaluate(cast_of(humans, picks), replace(humans, answers=silent), options=QUICK)
    said = "Figures person by person leave out 1 of 5 questions, to which no role and its respondent both gave"
    assert result.metric("accuracy").value == 1 and any(note.startswith(said) for note in result.notes)


def test_guesses_from_cells_are_the_same_split_by_split(monkeypatch):
    humans = people(3, 200, traits=TRAITS)
    whole = found_in(evaluate(cast_of(humans), humans, options=QUICK))
    monkeypatch.setattr("anthology_hub.yardsticks.BLOCK_BYTES", 1)
    parts = found_in(evaluate(cast_of(humans), humans, options=QUICK))
    assert {name: one.cells for name, one in parts.items()} == pytest.approx(
        {name: one.cells for name, one in whole.items()}
    )


def test_people_of_an_earlier_wave_with_a_level_that_is_new_are_left_out():
    humans, strangers = people(3, 300, traits=TRAITS), people(4, 50, traits=TRAITS)
    levels = humans.levels | {"age": (*humans.levels["age"], "age 3")}
    both = {name: np.concatenate([humans.codes[name], strangers.codes[name]]) for name in TRAITS}
    both["age"][300:] = 3
    answers = {key: np.concatenate([humans.answers[key], strangers.answers[key]]) for key in MINI.keys}
    weights = np.concatenate([humans.weights, np.ones(50)])
    ids = (*humans.ids, *(f"s{at}" for at in range(50)))
    earlier = replace(humans, ids=ids, levels=levels, codes=both, answers=answers, weights=weights)
    found = found_in(evaluate(cast_of(humans), humans, options=QUICK, previous=earlier))
    assert found["coefficients"].previous == pytest.approx(1) and found["wd"].previous > 0
