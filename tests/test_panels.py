"""Panels: waves with and without memory, who leaves, and what changed."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anthology_hub import Respondents, SimulateOptions, Survey, load_run, simulate, unmatched
from anthology_hub.errors import DataError, EmptyError, OptionError, RunError, UnknownNameError
from anthology_hub.models.local import LocalModel
from anthology_hub.models.scripted import ScriptedModel
from anthology_hub.panels import Panel, attrite, transitions
from anthology_hub.prompts import who
from anthology_hub.schema import MISSING, Matching
from tests.test_local_model import save_tiny
from tests.test_simulation import Recorder, Stops, assert_same, moody, people

LEVELS = ("North", "South", "West")


def cast(n):
    """Roles with a region each, the last ones without."""
    roles = people(n).roles
    regions = [{"region": LEVELS[at % 4]} if at % 4 < 3 else {} for at in range(n)]
    return Matching(
        roles=tuple(replace(role, levels=known) for role, known in zip(roles, regions, strict=True)), method="greedy"
    )


def seats(matching):
    return [who(role.respondent_id, role.persona.persona_id) for role in matching.roles]


# -- waves


def test_a_wave_without_memory_is_a_plain_simulation_of_that_wave(spending):
    panel = Panel(cast(4), seed=3)
    panel.ask(spending, ScriptedModel(moody), wave="1")
    second = panel.ask(spending, ScriptedModel(moody), wave="2", memory=False)
    plain = simulate(cast(4), spending, ScriptedModel(moody), seed=3, wave="2")
    assert_same(second, plain)
    assert second.provenance["inputs"] == plain.provenance["inputs"]
    assert list(panel.answers) == ["1", "2"] and panel.answers["2"] is second


@pytest.mark.parametrize(("memory", "remembered"), [(True, 8), (1, 4), (2, 8), (5, 8), (0, 0), (False, 0)])
def test_memory_puts_the_own_answers_of_so_many_waves_before_the_questions(spending, memory, remembered):
    panel, recorder = Panel(cast(2)), Recorder()
    first, second = (panel.ask(spending, ScriptedModel(moody), wave=wave) for wave in ("1", "2"))
    panel.ask(spending, ScriptedModel(recorder), wave="3", memory=memory)
    openings = [prompt for prompt in recorder.prompts if spending.preamble in prompt.question]
    assert [len(prompt.turns) for prompt in openings] == [remembered] * 2
    if remembered:
        last = [question.options[pick] for question, pick in zip(spending.questions, second.picks[0], strict=True)]
        mine = next(prompt for prompt in openings if prompt.context.startswith("Story 0."))
        assert [answer[4:] for _, answer in mine.turns[-4:]] == last
    earlier = panel.answers["3"].provenance["inputs"].get("earlier", [])
    assert [one["wave"] for one in earlier] == ["1", "2"][2 - remembered // 4 :]
    assert first.wave == "1"


def test_batch_size_order_and_interruption_change_nothing_in_a_wave_with_memory(spending, tmp_path):
    def asked(roles, size, model=None, folder=None):
        panel = Panel(replace(cast(5), roles=roles), seed=1)
        panel.ask(spending, ScriptedModel(moody), wave="1")
        how = SimulateOptions(batch_size=size)
        return panel.ask(spending, model or ScriptedModel(moody), wave="2", options=how, folder=folder)

    roles = cast(5).roles
    whole = asked(roles, 8)
    assert_same(whole, asked(roles[::-1], 2), order=[4, 3, 2, 1, 0])
    with pytest.raises(KeyboardInterrupt):
        asked(roles, 2, ScriptedModel(Stops(9)), tmp_path / "2")
    assert_same(whole, asked(roles, 2, folder=tmp_path / "2"))
    assert load_run(tmp_path / "2").wave == "2"


def test_a_panel_goes_on_from_the_folders_of_its_waves(spending, tmp_path):
    panel = Panel(cast(3), seed=1)
    panel.ask(spending, ScriptedModel(moody), wave="1", folder=tmp_path / "1")
    panel.attrite(0.3)
    whole = panel.ask(spending, ScriptedModel(moody), wave="2")
    later = Panel(cast(3), seed=1, waves=[load_run(tmp_path / "1")])
    later.attrite(0.3)
    assert_same(whole, later.ask(spending, ScriptedModel(moody), wave="2"))
    with pytest.raises(RunError, match="belongs to another run; what differs: .*wave"):
        later.ask(spending, ScriptedModel(moody), wave="3", folder=tmp_path / "1")
    assert list(later.answers) == ["1", "2"]


def test_who_was_away_remembers_the_waves_it_was_in(spending):
    panel, recorder = Panel(cast(8), seed=2), Recorder()
    panel.ask(spending, ScriptedModel(moody), wave="1")
    gone = panel.attrite(0.5)
    panel.ask(spending, ScriptedModel(moody), wave="2")
    back = panel.attrite(0.0, return_rate=1.0)
    assert sorted(back.returned) == sorted(gone.left) and len(back.cast) == 8 and back.away == ()
    panel.ask(spending, ScriptedModel(recorder), wave="3")
    openings = [prompt for prompt in recorder.prompts if spending.preamble in prompt.question]
    assert Counter(len(prompt.turns) for prompt in openings) == {4: len(gone.left), 8: 8 - len(gone.left)}
    assert len(panel.attritions) == 2 and panel.present is back.cast


def test_waves_need_names_of_their_own_and_memory_is_not_negative(spending):
    panel, model = Panel(cast(2)), ScriptedModel("first")
    panel.ask(spending, model, wave="1")
    asked = model.asked
    for wave in ("1", "", " "):
        with pytest.raises(OptionError, match="has no name of its own: give one that is not among those asked, '1'"):
            panel.ask(spending, model, wave=wave)
    with pytest.raises(OptionError, match="memory must be True, False or a number of waves from 0, got -1"):
        panel.ask(spending, model, wave="2", memory=-1)
    with pytest.raises(OptionError, match="wave '' has no name of its own"):
        Panel(cast(2), waves=[simulate(cast(2), spending, model)])
    with pytest.raises(EmptyError, match="the cast is empty"):
        Panel(replace(cast(1), roles=()))
    with pytest.raises(DataError, match="the role 'r0/.*' is 2 times in the cast"):
        Panel(replace(cast(1), roles=cast(1).roles * 2))
    assert model.asked == asked + 8


# -- who leaves


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.floats(0, 0.9), st.floats(0, 0.9))
def test_a_higher_rate_takes_the_same_people_and_more(seed, a, b):
    def left(rate):
        try:
            return set(attrite(cast(12), rate, seed=seed).left)
        except EmptyError:
            return set(seats(cast(12)))

    low, high = sorted((a, b))
    assert left(low) <= left(high)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.permutations(range(10)))
def test_who_leaves_depends_neither_on_the_order_nor_on_the_others(seed, order):
    whole, hazard = cast(10), {"region": {"South": 0.6, "": 0.2}}
    shuffled = replace(whole, roles=tuple(whole.roles[at] for at in order))
    gone = attrite(whole, hazard, seed=seed)
    assert attrite(shuffled, hazard, seed=seed).left == gone.left
    one = whole.roles[0]
    if seats(whole)[0] not in gone.left:
        alone = {"region": {"North": 0.2}}
        assert attrite(replace(whole, roles=(one,)), alone, seed=seed).cast.roles == (one,)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.floats(0, 0.5))
def test_who_has_left_stays_away_and_everybody_is_counted(seed, rate):
    whole, before = cast(12), None
    for gap in "123":
        try:
            now = attrite(whole, rate, seed=seed, gap=gap, before=before)
        except EmptyError:
            return
        assert set(now.away) == set(before.away if before else ()) | set(now.left)
        assert sorted([*seats(now.cast), *now.away]) == sorted(seats(whole)) and now.returned == ()
        assert now.counts == {"present": len(now.cast), "left": len(now.left), "returned": 0, "away": len(now.away)}
        assert sum(now.reasons.values()) == len(now.left)
        before = now


def test_hazards_by_level_say_why_and_hold_for_the_others_too():
    gone = attrite(cast(200), {"region": {"South": 1.0, "": 0.0}})
    assert gone.reasons == {"region=South": 50} and len(gone.cast) == 150
    unknown = attrite(cast(200), {"region": {"": 1.0, "South": 0.0}})
    assert unknown.reasons == {"region=North": 50, "region=West": 50, "region=not known": 50}
    assert attrite(cast(8), {"region": {}}).left == {}


def test_several_traits_are_causes_of_their_own():
    roles = tuple(replace(role, levels={"a": "x", "b": "y"}) for role in people(4000).roles)
    gone = attrite(Matching(roles=roles, method="greedy"), {"a": {"x": 0.3}, "b": {"y": 0.5}})
    assert set(np.round([*gone.chances.values()], 9)) == {0.35}
    assert len(gone.cast) / 4000 == pytest.approx(0.35, abs=0.03)
    # The first cause that strikes is the reason.
    assert gone.reasons["a=x"] / 4000 == pytest.approx(0.3, abs=0.03)


def test_a_function_of_the_role_may_be_the_hazard():
    gone = attrite(cast(20), lambda role: 1.0 if role.weight > 2 else 0.0)
    assert gone.reasons == {"rate": 9} and max(role.weight for role in gone.cast.roles) == 2.0
    with pytest.raises(OptionError, match="the hazard must be a probability from 0 to 1, got 2"):
        attrite(cast(3), lambda role: 2.0)


def test_the_design_weights_stay_unless_the_chance_to_stay_is_asked_for():
    hazard, whole = {"region": {"South": 0.5, "": 0.2}}, cast(40)
    weights = {role.respondent_id: role.weight for role in whole.roles}
    plain = attrite(whole, hazard)
    assert all(role.weight == weights[role.respondent_id] for role in plain.cast.roles)
    first = attrite(whole, hazard, reweight=True)
    second = attrite(whole, hazard, gap="2", before=first, return_rate=0.1, reweight=True)
    for role in first.cast.roles:
        stays = 0.5 if role.levels.get("region") == "South" else 0.8
        assert role.weight == pytest.approx(weights[role.respondent_id] / stays)
    for role in second.cast.roles:
        stays = 0.5 if role.levels.get("region") == "South" else 0.8
        assert role.weight == pytest.approx(weights[role.respondent_id] / (stays * stays + (1 - stays) * 0.1))


def test_inverse_probability_weights_give_the_whole_panel_on_average():
    whole, hazard = cast(60), {"region": {"South": 0.7, "": 0.2}}
    total = sum(role.weight for role in whole.roles)
    south = sum(role.weight for role in whole.roles if role.levels.get("region") == "South")
    totals, souths = [], []
    for seed in range(150):
        before = attrite(whole, hazard, seed=seed)
        roles = attrite(whole, hazard, seed=seed, gap="2", before=before, return_rate=0.3, reweight=True).cast.roles
        totals.append(sum(role.weight for role in roles))
        souths.append(sum(role.weight for role in roles if role.levels.get("region") == "South"))
    for found, true in ((totals, total), (souths, south)):
        assert np.mean(found) == pytest.approx(true, abs=4 * np.std(found) / np.sqrt(150))


def test_wrong_hazards_are_told():
    with pytest.raises(OptionError, match="the hazard must be a probability from 0 to 1, got 1.2"):
        attrite(cast(3), 1.2)
    with pytest.raises(OptionError, match="the hazard of region=South must be a probability from 0 to 1, got -1"):
        attrite(cast(3), {"region": {"South": -1}})
    with pytest.raises(OptionError, match="return_rate must be a probability"):
        attrite(cast(3), 0.1, return_rate=float("nan"))
    with pytest.raises(UnknownNameError, match="unknown trait of the cast 'regoin': did you mean 'region'"):
        attrite(cast(3), {"regoin": {"South": 0.1}})
    with pytest.raises(UnknownNameError, match="unknown level of region 'Suoth': did you mean 'South'"):
        attrite(cast(3), {"region": {"Suoth": 0.1}})
    with pytest.raises(EmptyError, match="nobody of 3 is left in gap '1': give lower probabilities"):
        attrite(cast(3), 1.0)
    with pytest.raises(OptionError, match="the attrition before was of another panel"):
        attrite(cast(3), 0.1, before=attrite(cast(4), 0.0))


def test_levels_are_those_of_the_codebook_where_there_is_one(gss):
    whole = unmatched(gss.sample(3))
    level = next(
        level
        for level in whole.codebook.trait("education").levels
        if level not in {role.levels["education"] for role in whole.roles}
    )
    assert attrite(whole, {"education": {level: 1.0}}).left == {}
    with pytest.raises(UnknownNameError, match="unknown level of education 'Kindergarten'"):
        attrite(whole, {"education": {"Kindergarten": 0.1}})


# -- what moved


def answered(picks, survey, wave, *, weights=None, ids=None):
    """Answers of a wave to the first question, as picked."""
    base = simulate(people(len(picks)), survey, ScriptedModel("first"), wave=wave)
    column = np.array(picks, dtype=np.int16)[:, None]
    found = replace(base, picks=np.broadcast_to(column, base.picks.shape).copy())
    found = found if weights is None else replace(found, weights=np.array(weights, dtype=float))
    return found if ids is None else replace(found, respondent_ids=tuple(ids))


def test_the_turnover_table_is_weighted_and_of_the_roles_in_both(spending):
    first = answered([0, 0, 1, 2, 2, MISSING], spending, "1")
    second = answered([0, 1, 1, 0, 2], spending, "2", weights=[1, 2, 3, 4, 5])
    moved = transitions(first, second, "natenvir")
    np.testing.assert_allclose(moved.table * 15, [[1, 2, 0], [0, 3, 0], [4, 0, 5]])
    assert moved.counts.tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 1]] and moved.n == 5
    assert moved.left_out == {"only in 1": 1, "only in 2": 0, "no answer in one": 0}
    assert moved.unchanged.value == pytest.approx(9 / 15)
    assert moved.by_chance == pytest.approx((3 * 5 + 3 * 5 + 9 * 5) / 15**2)
    then, now, weights = [0, 0, 1, 2, 2], [0, 1, 1, 0, 2], [1, 2, 3, 4, 5]
    cov = np.cov(then, now, aweights=weights)
    assert moved.correlation.value == pytest.approx(cov[0, 1] / np.sqrt(cov[0, 0] * cov[1, 1]))
    np.testing.assert_allclose(moved.rates.sum(axis=1), 1)
    assert moved.rates[2].tolist() == pytest.approx([4 / 9, 0, 5 / 9]) and moved.waves == ("1", "2")
    frame = moved.to_frame()
    assert frame.index.name == "1" and frame.loc["Too much", "Too little"] == pytest.approx(4 / 15)


def test_who_did_not_answer_one_of_the_waves_is_counted(spending):
    moved = transitions(answered([0, 1, MISSING], spending, ""), answered([0, MISSING, 1], spending, "b"), "natenvir")
    assert moved.left_out == {"only in the first": 0, "only in b": 0, "no answer in one": 2} and moved.n == 1
    assert np.isnan(moved.rates[1]).all() and moved.correlation.value is None
    assert moved.correlation.note == "everybody gave the same answer in one of the waves"


def test_the_same_answers_are_wholly_stable(spending):
    same = transitions(answered([0, 1, 2, 2], spending, "1"), answered([0, 1, 2, 2], spending, "2"), "natenvir")
    figures = same.unchanged.value, same.unchanged.low, same.unchanged.high
    assert figures == pytest.approx((1.0, 1.0, 1.0))
    assert same.correlation.value == pytest.approx(1) and same.correlation.high == pytest.approx(1)
    turned = transitions(answered([0, 1, 2, 2], spending, "1"), answered([2, 1, 0, 0], spending, "2"), "natenvir")
    assert turned.correlation.value == pytest.approx(-1)
    # Weights of the roles are 1, 1.1, 1.2 and 1.3: the second alone says the same.
    assert turned.unchanged.value == pytest.approx(1.1 / 4.6)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.floats(0.1, 9)), min_size=2, max_size=25))
def test_turning_the_waves_round_transposes_the_table(rows):
    survey = Survey.load("gss-national-spending").select(["natsci"])
    then, now, weights = zip(*rows, strict=True)
    first = answered(then, survey, "1", weights=weights)
    second = answered(now, survey, "2", weights=weights)
    there, back = transitions(first, second, "natsci"), transitions(second, first, "natsci")
    np.testing.assert_allclose(there.table, back.table.T)
    assert there.table.sum() == pytest.approx(1) and there.counts.sum() == len(rows)
    assert there.unchanged.value == pytest.approx(np.average(np.equal(then, now), weights=weights))
    if there.correlation.value is not None:
        assert there.correlation.value == pytest.approx(back.correlation.value, abs=1e-6)
        assert -1 <= there.correlation.low <= there.correlation.high <= 1
        assert there.correlation.low - 1e-9 <= there.correlation.value <= there.correlation.high + 1e-9


def test_an_interval_narrows_with_more_roles(spending):
    few, many = ([0, 1, 2, 0] * n for n in (5, 80))
    widths = []
    for picks in (few, many):
        moved = transitions(answered(picks, spending, "1"), answered(picks[::-1], spending, "2"), "natenvir")
        widths.append(moved.unchanged.high - moved.unchanged.low)
    assert widths[1] < widths[0] / 2.5


def test_what_cannot_be_compared_is_told(spending):
    first, second = answered([0, 1], spending, "1"), answered([0, 1], spending, "2")
    with pytest.raises(UnknownNameError, match="unknown question of wave '1' 'natsci'"):
        transitions(first, second, "natsci")
    other = replace(spending.questions[0], options=("Much", "Some", "None"))
    changed = replace(second, survey=replace(spending, questions=(other, *spending.questions[1:])))
    with pytest.raises(DataError, match="the options Too little, .* in one wave and Much, Some, None in the other"):
        transitions(first, changed, "natenvir")
    text = replace(second, survey=replace(spending, questions=(replace(other, kind="text"), *spending.questions[1:])))
    with pytest.raises(OptionError, match="question 'natenvir' is of the kind text: turnover needs a choice"):
        transitions(text, text, "natenvir")
    with pytest.raises(EmptyError, match="nobody answered 'natenvir' in both waves, '1' and '2'"):
        transitions(first, answered([0, 1], spending, "2", ids=["x", "y"]), "natenvir")
    twice = replace(first, respondent_ids=("r0", "r0"), persona_ids=("p", "p"))
    with pytest.raises(DataError, match="a role is twice in wave '1'"):
        transitions(twice, second, "natenvir")


def test_options_without_an_order_have_no_correlation(spending):
    nominal = replace(spending, questions=tuple(replace(q, ordinal=False) for q in spending.questions))
    moved = transitions(answered([0, 1], nominal, "1"), answered([0, 1], nominal, "2"), "natenvir")
    assert (moved.correlation.value, moved.correlation.note) == (None, "the options have no order")


def test_a_real_model_is_moved_by_its_own_answers_and_by_nothing_else(tmp_path, spending):
    panel, tiny = Panel(unmatched(Respondents.load("gss-2018").sample(3))), LocalModel(str(save_tiny(tmp_path)))
    options = SimulateOptions(conditioning="bio", options_order="fixed", mode="choice", history="independent")
    first, second = (panel.ask(spending, tiny, wave=wave, options=options) for wave in ("1", "2"))
    third = panel.ask(spending, tiny, wave="3", options=options, memory=False)
    np.testing.assert_allclose(first.probs, third.probs, atol=1e-5)
    assert np.abs(first.probs - second.probs).max() > 1e-3
    assert transitions(first, third, "natenvir").n == 3
