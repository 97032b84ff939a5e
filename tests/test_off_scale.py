"""Options off the scale, from the survey file to the figures: values by hand, and by the distance with positions."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anthology_hub import EvaluateOptions, Respondents, Survey, evaluate
from anthology_hub.comparison import compare
from anthology_hub.errors import EmptyError, OptionError
from anthology_hub.evaluation import human_figures, simulated_figures
from anthology_hub.margins import Margins
from anthology_hub.metrics import ordinal_emd
from anthology_hub.panels import transitions
from anthology_hub.power import Piloted, Population
from anthology_hub.rectification import rectify
from anthology_hub.schema import MISSING
from anthology_hub.sides import Items
from tests.made_runs import QUICK, cast_of

OPTIONS = [{"code": code, "text": text} for code, text in ((1, "Low"), (2, "Middle"), (9, "Not sure"), (3, "High"))]
KEYS = ("a", "b", "c")


def survey(*off, options=OPTIONS, name="scale"):
    """Three questions; `off`: keys of those of which "Not sure" lies off the scale."""
    questions = [{"key": key, "text": f"{key}?", **({"off_scale": [9]} if key in off else {})} for key in KEYS]
    return Survey.from_dict({"name": name, "options": options, "questions": questions})


def people(codes, asked, *, weights=None, retest=None):
    table = np.asarray(codes, dtype=np.int16)
    return Respondents(
        name="toy-humans",
        ids=tuple(f"r{at}" for at in range(len(table))),
        levels={"sex": ("f", "m")},
        codes={"sex": (np.arange(len(table)) % 2).astype(np.int16)},
        answers=dict(zip(asked.keys, table.T, strict=True)),
        weights=weights,
        survey=asked,
        retest={} if retest is None else dict(zip(asked.keys, np.asarray(retest, dtype=np.int16).T, strict=True)),
    )


def values(result):
    return {metric.name: metric.value for metric in result.metrics}


def ordered(part):
    """Every figure that needs an order, with its company."""
    unordered = ("jsd", "tv", "kl", "entropy_ratio", "accuracy", "normalised_accuracy")
    return {one.name: {**vars(one), "note": ""} for one in part.metrics if one.name not in unordered}


def made(seed, n, *, options=4):
    return np.random.default_rng(seed).integers(0, options, (n, len(KEYS)))


STEPS = np.array([0, 1, MISSING, 2, MISSING])
"""Position of each code on the scale; the last stands for the code MISSING."""


def test_values_by_hand_of_a_question_with_an_option_off_the_scale():
    asked = survey("a").select(["a"])
    # Humans: 3 low, 1 middle, 4 not sure, 2 high; the cast 1 low, 1 middle, 5 not sure, 3 high.
    humans = people(np.repeat([0, 1, 2, 3], [3, 1, 4, 2])[:, None], asked)
    picks = np.repeat([0, 1, 2, 3], [1, 1, 5, 3])[:, None]
    result = evaluate(cast_of(humans, picks, survey=asked), humans, options=QUICK)
    found, (item,) = values(result), result.items
    # On the scale (3, 1, 2) / 6 against (1, 1, 3) / 5: cumulative 1/2, 2/3 against 1/5, 2/5.
    assert found["wd"] == pytest.approx(3 / 10 + 4 / 15)
    assert found["wd_normalised"] == item["wd_normalised"] == pytest.approx((3 / 10 + 4 / 15) / 2)
    assert found["tv"] == pytest.approx((0.2 + 0.1 + 0.1) / 2)
    human, cast = np.repeat([0, 1, 2], [3, 1, 2]), np.repeat([0, 1, 2], [1, 1, 3])
    assert found["variance_ratio"] == pytest.approx(cast.std() / human.std())
    assert (item["off_scale_human"], item["off_scale_simulated"]) == pytest.approx((0.4, 0.5))
    assert item["human"] == [0.3, 0.1, 0.4, 0.2] and item["human_counts"] == [3, 1, 4, 2]
    assert any(note.startswith("Options of a lie off the scale") for note in result.notes)
    # Everybody low: as far as can be from the humans' scale.
    assert result.metric("wd").majority == pytest.approx((3 / 6 + 2 / 6) / 1)
    assert result.metric("wd").uniform == pytest.approx(1 / 6 + 0)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.sampled_from([("a",), ("b", "c"), KEYS]))
def test_the_normalised_distance_is_the_one_with_positions_and_shares_are_of_all_options(seed, off):
    asked, plain = survey(*off), survey()
    theirs, ours = made(seed, 40), made(seed + 1, 30)
    humans, answers = people(theirs, asked), cast_of(people(ours, asked), ours, survey=asked)
    us, them = simulated_figures(answers), human_figures(humans, asked)
    expected = [
        ordinal_emd(us.shares[0, at], them.shares[0, at], [1, 2, np.nan, 3] if key in off else None)
        for at, key in enumerate(KEYS)
    ]
    items = Items.of(asked)
    assert us.against(them, items)["wd_normalised"][0] == pytest.approx(np.mean(expected))
    usual = simulated_figures(cast_of(people(ours, plain), ours, survey=plain))
    unordered = usual.against(human_figures(people(theirs, plain), plain), Items.of(plain))
    for name in ("tv", "jsd", "kl", "entropy_ratio"):
        assert us.against(them, items)[name] == unordered[name]


@pytest.mark.parametrize("weighting", ["weighted", "paper"])
def test_what_needs_an_order_is_that_of_a_survey_without_the_option_in_which_they_did_not_answer(weighting):
    asked = survey(*KEYS)
    scale = survey(options=[option for option in OPTIONS if option["code"] != 9])
    theirs, ours, again = made(1, 120), made(2, 120), made(3, 120)
    again[:40] = theirs[:40]
    weights = np.random.default_rng(4).uniform(0.5, 2, 120)
    options = EvaluateOptions(bootstraps=20, splits=5, polychoric=True, weighting=weighting, by=("sex",))
    whole = people(theirs, asked, weights=weights, retest=again)
    part = people(STEPS[theirs], scale, weights=weights, retest=STEPS[again])
    ours[:60] = theirs[:60]
    one = evaluate(cast_of(whole, ours, survey=asked), whole, options=options, previous=whole)
    other = evaluate(cast_of(part, STEPS[ours], survey=scale), part, options=options, previous=part)
    assert {"wd", "fro_polychoric", "omega", "mad_accuracy", "explained", "group_gaps"} <= set(ordered(one))
    assert None not in (one.metric("wd").cells, one.metric("wd").previous, one.metric("mad_accuracy").cells)
    assert one.subgroups[0].metrics
    for here, there in ((one, other), *zip(one.subgroups, other.subgroups, strict=True)):
        assert list(ordered(here)) == list(ordered(there))
        for name, figure in ordered(here).items():
            assert figure == pytest.approx(ordered(there)[name]), name
    alike = np.average((ours == theirs).mean(axis=1), weights=weights if weighting == "weighted" else None)
    assert one.metric("accuracy").value == pytest.approx(alike)
    assert one.metric("normalised_mad_accuracy").value == other.metric("normalised_mad_accuracy").value is not None
    steps = ("wd", "wd_low", "wd_high", "wd_floor", "wd_floor_equal_n")
    assert [[item[name] for name in steps] for item in one.items] == [
        pytest.approx([item[name] for name in steps]) for item in other.items
    ]


def test_two_runs_are_compared_on_the_scale():
    asked = survey(*KEYS)
    humans = people(made(1, 60), asked)
    runs = {name: cast_of(humans, made(seed, 60), survey=asked) for seed, name in ((2, "one"), (3, "other"))}
    found = compare(runs, humans, options=QUICK)
    wd = {name: evaluate(run, humans, options=QUICK) for name, run in runs.items()}
    gap = [wd[name].metric("wd_normalised").value for name in runs]
    assert found.difference("wd_normalised", "one", "other").value == pytest.approx(gap[0] - gap[1])
    (item,) = (one for one in found.items if one.question == "a")
    assert item.value == pytest.approx(wd["one"].items[0]["wd_normalised"] - wd["other"].items[0]["wd_normalised"])


def test_of_margins_the_rest_is_made_to_sum_to_1_too():
    asked = survey("a").select(["a"])
    shares = {"a": np.array([[0.3, 0.1, 0.4, 0.2]])}
    margins = Margins(name="toy", survey=asked, groups=("all",), shares=shares)
    humans = people(np.repeat([0, 1, 2, 3], [1, 1, 5, 3])[:, None], asked)
    result = evaluate(cast_of(humans, survey=asked), margins, options=QUICK)
    assert result.metric("wd").value == pytest.approx(3 / 10 + 4 / 15)
    assert result.items[0]["off_scale_human"] == pytest.approx(0.4)


def test_a_side_that_is_nowhere_on_the_scale_has_no_distance_and_the_note_says_why():
    asked = survey("a")
    humans = people(made(1, 40), asked)
    picks = made(2, 40)
    picks[:, 0] = 2
    result = evaluate(cast_of(humans, picks, survey=asked), humans, options=QUICK)
    assert result.metric("wd").value is None and result.items[0]["wd"] is None
    assert result.metric("wd").note == "Undefined: all simulated answers to a are off the scale."
    assert result.items[0]["off_scale_simulated"] == 1 and result.items[1]["wd"] is not None
    assert result.metric("tv").value is not None


def test_a_power_plan_counts_the_humans_on_the_scale():
    asked, theirs = survey("a", "b"), made(1, 80)
    humans = people(theirs, asked, weights=np.linspace(1, 2, 80))
    planned = Population.of(humans)
    assert planned.n_options == (3, 3, 4)
    assert (planned.codes == np.stack([STEPS[theirs[:, 0]], STEPS[theirs[:, 1]], theirs[:, 2]], axis=1)).all()
    # A result has shares alone, rounded to six digits: they come to the same.
    result = evaluate(cast_of(humans, made(2, 80), survey=asked), humans, options=QUICK)
    assert result.items[0]["off_scale"] == ["Not sure"] and "off_scale" not in result.items[2]
    known = Population.of(result)
    assert known.n_options == planned.n_options
    assert known.cumulative == pytest.approx(planned.cumulative, abs=1e-3)
    humans = people(np.where(np.arange(3) == 0, 2, theirs), asked)
    with pytest.raises(EmptyError, match="nobody in toy-humans answered a: leave these questions out"):
        Population.of(humans)
    runs = [cast_of(humans, made(seed, 80), survey=asked) for seed in (2, 3)]
    pilots = Piloted.of(runs, lambda _: planned)
    assert (pilots.first[0] == Items.of(asked).on_scale(made(2, 80))).all()


def test_the_correlation_of_two_waves_is_that_of_the_roles_on_the_scale_in_both():
    asked, then, now = survey("a"), made(1, 60), made(2, 60)
    now[:30] = then[:30]
    humans = people(then, asked)
    waves = [replace(cast_of(humans, codes, survey=asked), wave=wave) for codes, wave in ((then, "1"), (now, "2"))]
    moved = transitions(*waves, "a")
    both = (then[:, 0] != 2) & (now[:, 0] != 2)
    assert moved.correlation.value == pytest.approx(np.corrcoef(STEPS[then[both, 0]], STEPS[now[both, 0]])[0, 1])
    assert moved.table.shape == (4, 4) and moved.unchanged.value == pytest.approx((then == now)[:, 0].mean())


def test_a_mean_position_is_not_rectified_where_options_lie_off_the_scale():
    asked = survey("a")
    humans = people(made(1, 60), asked)
    run = cast_of(humans, survey=asked)
    with pytest.raises(OptionError, match="'a': some of its options lie off the scale: give the share of an option"):
        rectify(run, humans, "a", labelled=30)
    assert rectify(run, humans, "b", labelled=30).rows


def test_a_survey_without_options_off_the_scale_says_nothing_of_them():
    humans = people(made(1, 40), survey())
    result = evaluate(cast_of(humans, made(2, 40), survey=survey()), humans, options=QUICK)
    assert not any("off the scale" in note for note in result.notes)
    assert not any(name.startswith("off_scale") for item in result.items for name in item)
    # Of a nominal question nothing needs an order.
    nominal = replace(survey(), questions=tuple(replace(q, ordinal=False) for q in survey().questions))
    assert Items.of(nominal).spans.tolist() == [3, 3, 3] and not Items.of(nominal).off_scale
