"""People and the roles that stand for them are drawn together; the interval of a distance allows for its bias."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anthology_hub.answer_table import AnswerTable
from anthology_hub.resampling import distance_interval, interval
from anthology_hub.sides import Items, Side
from anthology_hub.standins import StandIns

ITEMS = Items(n_options=np.array([3]), ordered=np.array([True]), keyed=np.array([False]), scales=((0,),), names=())


def side(n, **design):
    table = AnswerTable(np.zeros((n, 1), dtype=np.int16), [3])
    return Side(table=table, items=ITEMS, weights=np.ones(n), alpha_weights=np.ones(n), listwise=False, **design)


def stand_ins(ours, theirs, people, roles=None):
    roles = np.arange(len(people)) if roles is None else np.array(roles)
    return StandIns(ours=ours, theirs=theirs, roles=roles, people=np.array(people), retest=None, levels={})


def test_a_role_counts_as_often_as_its_person():
    us, them = stand_ins(side(3), side(5), [4, 0, 2]).draws(200, seed=1)
    assert (us == them[:, [4, 0, 2]]).all() and (them.sum(axis=1) == 5).all() and them.std() > 0.5


def test_a_role_whose_person_is_not_there_is_drawn_by_itself():
    us, them = stand_ins(side(3), side(4), [1, 2], roles=[0, 2]).draws(400, seed=1)
    assert (us[:, [0, 2]] == them[:, [1, 2]]).all()
    assert abs(us[:, 1].mean() - 1) < 0.2 and abs(np.corrcoef(us[:, 1], them.T)[0, 1:]).max() < 0.2


def test_people_of_one_sampling_unit_are_drawn_with_their_roles():
    us, them = stand_ins(side(4), side(4, psu=np.array([0, 0, 1, 1])), [0, 1, 2, 3]).draws(100, seed=1)
    assert (us == them).all() and (them[:, 0] == them[:, 1]).all() and (them[:, 2] == them[:, 3]).all()


def test_roles_of_one_persona_are_drawn_together_with_their_people():
    ours = side(4, psu=np.array([0, 0, 1, 2]))
    us, them = stand_ins(ours, side(6), [0, 1, 2, 3]).draws(400, seed=1)
    assert (us[:, 0] == us[:, 1]).all() and (us == them[:, :4]).all()
    assert abs(np.corrcoef(them[:, 4], them[:, 5])[0, 1]) < 0.5 and np.abs(them.mean(axis=0) - 1).max() < 0.2


def test_personas_and_sampling_units_are_crossed():
    ours = side(4, psu=np.array([0, 0, 1, 1]))
    us, them = stand_ins(ours, side(4, psu=np.array([0, 1, 2, 3])), [0, 1, 2, 3]).draws(2000, seed=1)
    assert us.var() > 1.5 * them.var() and ((us > 0) <= (them > 0)).all()


def test_the_interval_of_a_distance_takes_the_bias_off_on_the_scale_of_squares():
    low, high = distance_interval(1.0, [0.8, 1.0, 1.2])
    squares = np.array([0.64, 1.0, 1.44])
    assert low == pytest.approx(np.sqrt(2 - squares.mean() - 1.959964 * squares.std(ddof=1)), abs=1e-6)
    assert high == pytest.approx(interval(1.0, [0.8, 1.0, 1.2])[1])


@settings(deadline=None, max_examples=60)
@given(st.floats(0, 3), st.lists(st.floats(0, 3), min_size=2, max_size=9))
def test_the_interval_of_a_distance_holds_the_distance_and_lies_above_0(estimate, draws):
    low, high = distance_interval(estimate, draws)
    assert 0 <= low <= estimate <= high


def test_of_pure_noise_the_interval_of_a_distance_reaches_0_and_far_from_0_it_is_the_normal_one():
    rng = np.random.default_rng(1)
    noise = rng.normal(size=(200, 30))
    reached = 0
    for row in noise:
        draws = np.abs(row + rng.normal(size=(200, 30))).mean(axis=1)
        reached += distance_interval(float(np.abs(row).mean()), draws)[0] == 0
    assert reached >= 190
    far = 100 + rng.normal(size=500)
    assert distance_interval(100.0, far) == pytest.approx(interval(100.0, far), abs=0.1)


def test_a_distance_without_draws_has_no_interval():
    assert np.isnan(distance_interval(1.0, [])).all() and np.isnan(distance_interval(float("nan"), [1.0, 2.0])).all()
