"""How far probabilities of levels can be trusted: hand values, scikit-learn, and laws."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from sklearn.metrics import brier_score_loss, confusion_matrix

from anthology_hub import Codebook
from anthology_hub.calibration import (
    BETTER,
    LIKE,
    NO_USE,
    WORSE,
    Calibration,
    brier_terms,
    calibrate,
    check,
    confusion,
    expected_calibration_error,
    hits,
    reliability,
    settled,
)
from anthology_hub.errors import DataError, EmptyError, UnknownNameError

LEVELS = ("a", "b", "c")


@st.composite
def judged(draw):
    """Probabilities without ties, and true levels that are all there."""
    n = draw(st.integers(6, 25))
    raw = draw(npst.arrays(float, (n, 3), elements=st.integers(1, 10**6).map(float), unique=True))
    truth = np.array(draw(st.lists(st.integers(0, 2), min_size=n, max_size=n)))
    truth[:3] = 0, 1, 2
    return raw / raw.sum(axis=1, keepdims=True), truth


@given(judged())
def test_brier_score_and_confusion_are_those_of_scikit_learn(case):
    probs, truth = case
    ours = brier_terms(probs, truth).mean()
    assert ours == pytest.approx(brier_score_loss(truth, probs, labels=[0, 1, 2], scale_by_half=False))
    assert confusion(probs, truth).tolist() == confusion_matrix(truth, probs.argmax(axis=1)).tolist()
    assert hits(probs, truth).mean() == pytest.approx((probs.argmax(axis=1) == truth).mean())


@given(judged(), st.randoms())
def test_figures_do_not_depend_on_the_order_of_personas(case, random):
    probs, truth = case
    order = list(range(len(truth)))
    random.shuffle(order)
    again = probs[order], truth[order]
    assert expected_calibration_error(*again) == pytest.approx(expected_calibration_error(*case))
    assert confusion(*again).tolist() == confusion(*case).tolist()


@settings(max_examples=15)
@given(judged())
def test_figures_stay_in_their_ranges_and_intervals_hold_their_order(case):
    found = calibrate("t", LEVELS, *case, seed=1)
    for figure, most in ((found.accuracy, 1), (found.brier, 2), (found.ece, 1)):
        assert 0 <= figure.low <= figure.high <= most and 0 <= figure.value <= most
    assert sum(map(sum, found.confusion)) == pytest.approx(found.n) == sum(b.n for b in found.bins)


def test_the_calibration_error_has_its_hand_value():
    # Bin (0.6, 0.7]: two personas, confidence 0.65, one right. Bin (0.9, 1.0]: two, confidence 0.95, both right.
    probs = np.array([[0.62, 0.38], [0.68, 0.32], [0.92, 0.08], [0.02, 0.98]])
    truth = np.array([0, 1, 0, 1])
    assert expected_calibration_error(probs, truth) == pytest.approx((2 * abs(0.65 - 0.5) + 2 * abs(0.95 - 1)) / 4)
    bins = reliability(probs, truth)
    assert [(b.low, b.high, b.n, round(b.confidence, 3), b.accuracy) for b in bins] == [
        (0.6, 0.7, 2, 0.65, 0.5),
        (0.9, 1.0, 2, 0.95, 1.0),
    ]


def test_a_confidence_on_the_edge_of_a_bin_is_in_the_lower_one_also_as_float32():
    probs = np.array([[0.7, 0.3]] * 2, dtype=np.float32).astype(float)
    assert [(b.low, b.n) for b in reliability(probs, np.array([0, 1]))] == [(0.6, 2)]
    assert [b.low for b in reliability(np.array([[1.0, 0.0]]), np.array([0]))] == [0.9]


def test_perfect_probabilities_have_the_best_figures():
    truth = np.array([0, 1, 2] * 5)
    found = calibrate("t", LEVELS, np.eye(3)[truth], truth)
    assert (found.accuracy.value, found.brier.value, found.ece.value) == (1, 0, 0)
    assert found.confusion == ((5, 0, 0), (0, 5, 0), (0, 0, 5))
    assert {v for b in found.baselines for v in b.verdicts.values()} == {BETTER}


def test_uniform_probabilities_score_like_the_uniform_baseline():
    truth = np.array([0, 1, 2, 2] * 5)
    found = calibrate("t", LEVELS, np.full((20, 3), 1 / 3), truth, population=(0.25, 0.25, 0.5))
    assert found.accuracy.value == pytest.approx(1 / 3) and found.brier.value == pytest.approx(2 / 3)
    uniform, majority, population = found.baselines
    assert (uniform.name, majority.name, population.name) == ("uniform", "majority", "population")
    assert uniform.verdicts == {"accuracy": LIKE, "brier": LIKE}
    assert (majority.accuracy, majority.brier) == (0.5, 1.0)
    assert (population.accuracy, population.brier) == (0.5, pytest.approx(1 - (0.25**2 * 2 + 0.5**2)))
    assert confusion(np.full((1, 3), 1 / 3), np.array([2])).tolist()[2] == pytest.approx([1 / 3] * 3)


def test_who_is_always_wrong_is_worse_than_every_baseline():
    truth = np.array([0] * 10 + [1] * 10)
    found = calibrate("t", LEVELS, np.tile([0.0, 0.0, 1.0], (20, 1)), truth)
    assert {v for b in found.baselines for v in b.verdicts.values()} == {WORSE}


def test_intervals_are_the_same_for_the_same_seed_and_cover_the_mean():
    rng = np.random.default_rng(0)
    probs, truth = rng.dirichlet(np.ones(3), 60), rng.integers(0, 3, 60)
    one, other = (calibrate("t", LEVELS, probs, truth, seed=5) for _ in range(2))
    assert one == other
    assert one.accuracy.low < one.accuracy.value < one.accuracy.high
    # The bootstrap interval of a share is near the normal one.
    error = np.sqrt(one.accuracy.value * (1 - one.accuracy.value) / 60)
    assert one.accuracy.high - one.accuracy.low == pytest.approx(2 * 1.96 * error, rel=0.15)


@pytest.mark.parametrize(
    ("probs", "truth", "error", "message"),
    [
        (np.zeros((0, 2)), np.zeros(0, int), EmptyError, "annotate personas that have labels"),
        (np.ones((2, 3)), np.zeros(2, int), DataError, r"shape \(2, 3\), \(2, 2\) is needed"),
        (np.full((2, 2), np.nan), np.zeros(2, int), DataError, "leave out who is not annotated"),
        (np.full((2, 2), 0.5), np.array([0, 2]), DataError, "positions from 0 to 1, got 0, 2"),
    ],
)
def test_what_cannot_be_judged_is_refused(probs, truth, error, message):
    with pytest.raises(error, match=message):
        calibrate("t", ("a", "b"), probs, truth)


# -- when to stop


def test_the_posterior_that_the_top_level_is_right_has_its_closed_form():
    # Beta(2, 1): the probability that the other level is larger is (1/2)^2.
    assert settled([1, 0], "top", 0.2501) and not settled([1, 0], "top", 0.2499)
    # Beta(6, 1) against each of two rivals: union of (1/2)^6 twice.
    assert settled([5, 0, 0], "top", 2 / 64 + 1e-9) and not settled([5, 0, 0], "top", 2 / 64 - 1e-9)


def test_ranks_need_every_neighbour_to_be_apart_and_unseen_levels_only_once():
    assert settled([20, 8, 0, 0, 0], "ranks", 0.05)
    assert not settled([20, 18, 0], "ranks", 0.05) and not settled([9, 9], "ranks", 0.05)
    assert settled([30, 0, 0], "ranks", 0.01)


@given(st.lists(st.integers(0, 40), min_size=2, max_size=8), st.floats(0.01, 0.5), st.randoms())
def test_stopping_depends_on_counts_alone_and_ranks_need_no_less_than_the_top(counts, epsilon, random):
    shuffled = random.sample(counts, len(counts))
    assert settled(counts, "top", epsilon) == settled(shuffled, "top", epsilon)
    assert not settled(counts, "", epsilon) and not settled([0] * len(counts), "top", epsilon)


# -- a collection against its author


def rows(people, trait, probs, **more):
    level = {"levels": list(trait.levels), "trait": trait.name, "annotator": "lab/model", "method": "sampled"}
    return [{**level, "persona_id": at, "probs": p, **more} for at, p in zip(people.ids, probs, strict=True)]


def test_check_joins_personas_and_counts_what_rests_on_nothing(starter):
    people = starter.sample(20, seed=3)
    gender = people.codebook.trait("gender")
    truth = people.distribution("gender").argmax(axis=1)
    told = rows(people, gender, np.eye(3)[truth].tolist(), n_samples=10, n_refused=2, n_noncompliant=3)
    told[0] |= {"probs": [1 / 3] * 3, "n_refused": 4, "n_noncompliant": 6}
    told = told[:-1]
    found = check(people, people.with_annotations(told, [gender]))
    (trait,) = found.traits
    assert (found.annotator, found.method, found.n, trait.n) == ("lab/model", "sampled", 20, 19)
    assert trait.coverage == pytest.approx(18 / 20)
    assert trait.accuracy.value == pytest.approx((18 + 1 / 3) / 19)
    assert trait.mean_refused == pytest.approx((18 * 0.2 + 0.4) / 19)
    assert trait.mean_noncompliant == pytest.approx((18 * 0.3 + 0.6) / 19)
    assert "It beats all baselines in accuracy on 1 of 1 traits: gender." in found.verdict
    assert json.loads(json.dumps(found.to_dict()))["traits"][0]["coverage"] == trait.coverage


def test_check_names_every_annotator_and_method_of_what_it_judges_and_of_nothing_else(starter):
    people = starter.sample(12)
    gender, education = people.codebook.trait("gender"), Codebook.load("anthology").trait("education")
    told = rows(people, gender, [[0.5, 0.5, 0.0]] * 12)
    told[0] |= {"annotator": "lab/finder", "method": "located"}
    other = [row | {"annotator": "lab/other", "method": "logprob"} for row in
             rows(people, education, [[1.0] + [0.0] * 7] * 12)]  # fmt: skip
    found = check(people, people.with_annotations(told + other, [gender, education]))
    assert (found.annotator, found.method) == ("lab/finder and lab/model", "located+sampled")
    assert found.verdict.startswith("lab/finder and lab/model on 12 personas of ")


def test_check_says_what_it_cannot_judge(starter):
    people = starter.sample(12)
    gender, education = people.codebook.trait("gender"), Codebook.load("anthology").trait("education")
    told = rows(people, gender, [[0.5, 0.5, 0.0]] * 12) + rows(people, education, [[1.0] + [0.0] * 7] * 12)
    annotated = people.with_annotations(told, [gender, education])
    found = check(people, annotated)
    assert [trait.trait for trait in found.traits] == ["gender"] and found.unlabelled == ("education",)
    assert found.traits[0].mean_refused is None
    assert found.verdict.endswith(NO_USE)
    with pytest.raises(UnknownNameError, match="'education'.*Allowed: 'gender'"):
        check(people, annotated, traits=["education"])
    with pytest.raises(EmptyError, match="annotated no trait.*the collection's own codebook"):
        check(people, people)
    with pytest.raises(EmptyError, match="annotated gender, education"):
        check(starter.where(age="65+"), annotated.where(age="18-29"))


def test_the_verdict_counts_traits_by_baseline():
    truth = np.array([0, 1, 2] * 10)
    good, bad = np.eye(3)[truth], np.full((30, 3), 1 / 3)
    traits = tuple(calibrate(name, LEVELS, probs, truth) for name, probs in (("good", good), ("bad", bad)))
    found = Calibration(annotator="lab/model", method="sampled", collection="people@1.0.0", n=30, traits=traits)
    assert (
        "Against the uniform baseline in accuracy, of 2 traits: better than it on 1, not told apart from it on 1."
        in (found.verdict)
    )
    assert "It beats all baselines in accuracy on 1 of 2 traits: good." in found.verdict
    assert "population" not in found.verdict
