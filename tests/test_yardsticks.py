from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import spatial, stats

from anthology_hub.resampling import half_splits, samples
from anthology_hub.schema import MISSING
from anthology_hub.sides import human_side, margins_side
from anthology_hub.yardsticks import _from_cells, demographic_cells, yardsticks
from tests.made_answers import SEEDS, frame
from tests.made_runs import MINI, codes_of, people
from tests.test_evaluation import correlations_by_hand, group_of, shares_by_hand, turned, wd_by_hand


def held(humans, n=1000, *, splits=4, seed=0, cells=None, previous=None):
    """The company of a cast of n."""
    side = human_side(humans, MINI)
    earlier = None if previous is None else human_side(previous, MINI)
    return yardsticks(side, side.items, n, splits=splits, seed=seed, cells=cells, previous=earlier)


def table_of(humans):
    table = frame(codes_of(humans, MINI))
    table.columns = MINI.keys
    return table


def by_hand(table, weights):
    """Shares, spreads, correlations and alpha of some people."""
    shares = shares_by_hand(table, weights, 6)
    at = np.arange(6)
    spread = {key: np.sqrt(p @ at**2 - (p @ at) ** 2) for key, p in shares.items()}
    covariance = np.array(
        [[pair_covariance(one, other, weights) for other in turned(table, MINI).T.to_numpy()]
         for one in turned(table, MINI).T.to_numpy()]
    )  # fmt: skip
    return shares, spread, correlations_by_hand(table, weights), 5 / 4 * (1 - np.trace(covariance) / covariance.sum())


def pair_covariance(x, y, weights):
    known = ~np.isnan(x + y)
    w, x, y = np.asarray(weights)[known], x[known], y[known]
    cross = (w * (x - w @ x / w.sum()) * (y - w @ y / w.sum())).sum()
    return cross / w.sum()


def figures_by_hand(ours, theirs):
    jsd = [spatial.distance.jensenshannon(ours[0][key], theirs[0][key], base=2) for key in ours[0]]
    return {
        "wd": wd_by_hand(ours[0], theirs[0]),
        "tv": np.mean([np.abs(ours[0][key] - theirs[0][key]).sum() / 2 for key in ours[0]]),
        "jsd": np.mean(jsd),
        "fro": np.linalg.norm(ours[2] - theirs[2]),
        "cbs": 1 - np.trace(ours[2] @ theirs[2]) / np.linalg.norm(ours[2]) / np.linalg.norm(theirs[2]),
        "alpha": ours[3],
        "variance_ratio": np.mean([ours[1][key] / theirs[1][key] for key in ours[1]]),
        "entropy_ratio": np.mean([stats.entropy(ours[0][key]) / stats.entropy(theirs[0][key]) for key in ours[0]]),
    }


@pytest.mark.parametrize("missing", [0.0, 0.1])
def test_floors_are_means_over_the_same_halves_and_samples_in_both_directions(missing):
    humans = people(1, 90, missing=missing)
    table, found = table_of(humans), held(humans, 30, seed=3)
    halves = []
    for mask in half_splits(90, 4, seed=3):
        sides = [by_hand(table[rows].reset_index(drop=True), humans.weights[rows]) for rows in (mask, ~mask)]
        halves += [figures_by_hand(*sides), figures_by_hand(*sides[::-1])]
    drawn = [samples(90, size, 4, seed=3 + at) for at, size in enumerate((30, 90))]
    as_many = [
        figures_by_hand(*(by_hand(table.loc[rows].reset_index(drop=True), humans.weights[rows]) for rows in pair))
        for pair in ((np.arange(90).repeat(counts) for counts in pair) for pair in zip(*drawn, strict=True))
    ]
    for name in halves[0]:
        assert found.floor[name] == pytest.approx(np.mean([each[name] for each in halves])), name
        assert found.floor_equal_n[name] == pytest.approx(np.mean([each[name] for each in as_many])), name


def test_guesses_without_structure_are_held_against_the_humans():
    humans = people(2, 120, missing=0.1)
    table, found = table_of(humans), held(humans).baselines
    whole = by_hand(table, humans.weights)
    at = np.arange(6)
    guesses = {
        "uniform": {key: np.full(6, 1 / 6) for key in whole[0]},
        "majority": {key: np.eye(6)[p.argmax()] for key, p in whole[0].items()},
        "margins": whole[0],
    }
    for name, shares in guesses.items():
        spread = {key: np.sqrt(p @ at**2 - (p @ at) ** 2) for key, p in shares.items()}
        expected = figures_by_hand((shares, spread, np.eye(5), 0.0), whole)
        if name == "majority":
            expected |= dict.fromkeys(("fro", "cbs", "alpha"), np.nan)
        assert {each: found[name][each] for each in expected} == pytest.approx(expected, nan_ok=True, abs=1e-9)
    assert found["margins"]["wd"] == found["margins"]["kl"] == 0


def test_permuted_answers_land_on_the_margins():
    humans = people(3, 4000, weighted=False)
    rng = np.random.default_rng(0)
    shuffled = replace(humans, answers={key: rng.permutation(column) for key, column in humans.answers.items()})
    side, other = human_side(humans, MINI), human_side(shuffled, MINI)
    found = other.whole.against(side.whole, side.items)
    margins = held(humans).baselines["margins"]
    for name in ("wd", "jsd", "fro", "fro_spearman", "cbs", "variance_ratio", "entropy_ratio"):
        assert found[name][0] == pytest.approx(margins[name], abs=0.03, rel=0.02), name
    # Chance alone makes the alpha of unrelated items about as large as its standard error.
    assert found["alpha"][0] == pytest.approx(0, abs=0.1) and found["fro"][0] > 1


def test_an_earlier_wave_is_a_baseline_and_the_same_people_are_at_no_distance():
    humans, earlier = people(4, 80), people(5, 70)
    expected = figures_by_hand(by_hand(table_of(earlier), earlier.weights), by_hand(table_of(humans), humans.weights))
    found = held(humans, previous=earlier).baselines["previous"]
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    same = held(humans, previous=humans).baselines["previous"]
    assert [same[name] for name in ("wd", "kl", "fro", "cbs")] == pytest.approx([0] * 4, abs=1e-9)
    assert same["variance_ratio"] == pytest.approx(1)


# -- demographic cells


def test_cells_predict_the_second_half_from_the_first_and_are_judged_on_it():
    humans = people(6, 200, missing=0.05, traits={"gender": 2, "age": 3})
    cells = demographic_cells([humans.codes["gender"], humans.codes["age"]], 200, least=20)
    assert len(np.unique(cells)) == 6
    found = held(humans, splits=3, cells=cells).baselines["cells"]
    table, at, expected = table_of(humans), np.arange(6), []
    for mask in half_splits(200, 3, seed=0):
        first, second = table[mask].reset_index(drop=True), table[~mask].reset_index(drop=True)
        shares_of = {
            cell: shares_by_hand(
                first[cells[mask] == cell].reset_index(drop=True), humans.weights[mask][cells[mask] == cell], 6
            )
            for cell in range(6)
        }
        mass = np.array([humans.weights[~mask][cells[~mask] == cell].sum() for cell in range(6)])
        mass /= mass.sum()
        stacked = {key: np.stack([shares_of[cell][key] for cell in range(6)]) for key in MINI.keys}
        shares = {key: mass @ rows for key, rows in stacked.items()}
        spread = {key: np.sqrt(p @ at**2 - (p @ at) ** 2) for key, p in shares.items()}
        means = np.stack([stacked[key] @ at for key in MINI.keys], axis=1)
        covariance = np.cov(means.T, aweights=mass, ddof=0)
        covariance[np.arange(5), np.arange(5)] = [spread[key] ** 2 for key in MINI.keys]
        r = covariance / np.outer(*[np.sqrt(np.diag(covariance))] * 2)
        sign = np.array([-1.0 if question.reverse else 1.0 for question in MINI.questions])
        keyed = covariance * np.outer(sign, sign)
        alpha = 5 / 4 * (1 - np.trace(keyed) / keyed.sum())
        expected.append(figures_by_hand((shares, spread, r, alpha), by_hand(second, humans.weights[~mask])))
    for name in expected[0]:
        assert found[name] == pytest.approx(np.mean([each[name] for each in expected])), name


def test_cells_of_traits_that_tell_much_keep_correlations_and_cells_of_chance_do_not():
    humans = people(7, 3000, weighted=False, traits={"age": 4})
    chance = np.random.default_rng(0).integers(0, 60, 3000)
    told, nothing = (held(humans, splits=10, cells=cells).baselines for cells in (humans.codes["age"], chance))
    # Means of 25 people go a little together by chance, as their answers do.
    assert nothing["cells"]["fro"] == pytest.approx(nothing["uniform"]["fro"], rel=0.05)
    assert nothing["cells"]["alpha"] == pytest.approx(0, abs=0.2)
    assert told["cells"]["fro"] < 0.75 * told["uniform"]["fro"]
    assert told["cells"]["alpha"] > 0.5


def test_a_cell_that_the_first_half_does_not_have_is_guessed_from_everybody():
    humans = people(8, 40, weighted=False)
    cells = np.zeros(40, dtype=np.int64)
    alone = int(np.flatnonzero(~half_splits(40, 1)[0])[0])
    lonely = replace(humans)
    cells[alone] = 1
    one = held(lonely, splits=1, cells=cells).baselines["cells"]
    everybody = held(humans, splits=1, cells=np.zeros(40, dtype=np.int64)).baselines["cells"]
    assert one["wd"] == pytest.approx(everybody["wd"])


TRAITS = st.lists(st.integers(1, 4), min_size=0, max_size=3)


@given(TRAITS, st.integers(1, 60), st.integers(1, 15), SEEDS)
@settings(max_examples=40)
def test_cells_are_alike_in_as_many_of_the_first_traits_as_leave_enough_people(levels, people_, least, seed):
    rng = np.random.default_rng(seed)
    codes = [rng.integers(MISSING, count, people_).astype(np.int16) for count in levels]
    cells = demographic_cells(codes, people_, least=least)
    assert cells.shape == (people_,) and set(np.unique(cells)) == set(range(len(np.unique(cells))))
    for cell in np.unique(cells):
        inside = cells == cell
        alike = [len(np.unique(column[inside])) == 1 for column in codes]
        # Who is left over in a split may be few; a cell that came about by being alike is not.
        assert inside.sum() >= least or not all(alike) or least > 1
    order = rng.permutation(people_)
    moved = demographic_cells([column[order] for column in codes], people_, least=least)
    assert (pd.factorize(moved)[0] == pd.factorize(cells[order])[0]).all()


def test_with_enough_people_cells_are_all_combinations_and_unknown_is_a_level():
    gender, age = np.array([0, 1, MISSING] * 40, dtype=np.int16), np.repeat([0, 1], 60).astype(np.int16)
    cells = demographic_cells([gender, age], 120)
    assert np.bincount(cells).tolist() == [20] * 6
    for cell in range(6):
        assert len({(g, a) for g, a in zip(gender[cells == cell], age[cells == cell], strict=True)}) == 1
    assert demographic_cells([], 5).tolist() == [0] * 5


# -- laws


@given(SEEDS, st.floats(1e-3, 1e3))
@settings(max_examples=8)
def test_the_scale_of_the_weights_changes_no_floor_and_no_baseline(seed, scale):
    humans = people(seed, 50, missing=0.05, traits={"gender": 2})
    scaled = replace(humans, weights=humans.weights * scale)
    one, other = (held(each, 20, cells=humans.codes["gender"].astype(int)) for each in (humans, scaled))
    assert one.floor == pytest.approx(other.floor, nan_ok=True, abs=1e-9)
    assert one.floor_equal_n == pytest.approx(other.floor_equal_n, nan_ok=True, abs=1e-9)
    for name in one.baselines:
        assert one.baselines[name] == pytest.approx(other.baselines[name], nan_ok=True, abs=1e-9)


def test_one_half_of_the_humans_against_the_other_lands_on_the_floor():
    humans = people(9, 400)
    floor, found = held(humans, splits=300).floor, []
    for mask in half_splits(400, 150, seed=99):
        one, other = (human_side(humans.take(np.flatnonzero(rows)), MINI) for rows in (mask, ~mask))
        found.append({name: value[0] for name, value in one.whole.against(other.whole, one.items).items()})
    for name in ("wd", "wd_normalised", "jsd", "tv", "fro", "fro_spearman", "alpha", "omega", "variance_ratio"):
        assert np.mean([each[name] for each in found]) == pytest.approx(floor[name], rel=0.08), name


# -- what is not there


def test_shares_alone_have_baselines_and_no_floor():
    humans = people(10, 60)
    shares = margins_side(group_of(humans, MINI), MINI)
    found, full = yardsticks(shares, human_side(humans, MINI).items, 20, splits=3), held(humans, 20)
    assert np.isnan(list(found.floor.values())).all() and np.isnan(list(found.floor_equal_n.values())).all()
    assert found.notes == ("No humans are too few for a split-half floor.",)
    for name in ("uniform", "majority", "margins"):
        assert found.baselines[name]["wd"] == pytest.approx(full.baselines[name]["wd"])
        assert np.isnan(found.baselines[name]["fro"])


def test_halves_that_leave_a_figure_undefined_are_counted_in_a_note():
    humans = people(11, 12, weighted=False)
    rare = replace(humans, answers=humans.answers | {"C1": np.array([1] + [0] * 11, dtype=np.int16)})
    found = held(rare, 12, splits=10)
    # The one who differs is in one half: the other half has no spread and no correlations.
    assert np.isnan(found.floor["fro"]) and found.floor["wd"] > 0
    some = replace(humans, answers=humans.answers | {"C1": np.array([1, 1] + [0] * 10, dtype=np.int16)})
    apart = sum(mask[0] != mask[1] for mask in half_splits(12, 10))
    assert 0 < apart < 10
    note = held(some, 12, splits=10).notes[0]
    assert note.startswith("Floors are means over the random halves of the humans in which they are defined")
    assert f"fro ({10 - apart})" in note


@pytest.mark.parametrize("n", [50, 190, 2000])
def test_the_floor_at_equal_n_is_where_as_many_other_people_land_however_many_they_are(n):
    humans = people(12, 4000, weighted=False)
    rng, found, floors = np.random.default_rng(0), [], []
    for _ in range(40):
        one, other = (humans.take(rng.integers(0, 4000, size).tolist()) for size in (n, 200))
        sides = [human_side(each, MINI) for each in (one, other)]
        found.append({name: value[0] for name, value in sides[0].whole.against(sides[1].whole, sides[1].items).items()})
        floors.append(held(other, n, splits=5).floor_equal_n)
    for name in ("wd", "jsd", "tv", "fro", "cbs"):
        theirs, mine = (np.mean([each[name] for each in figures]) for figures in (floors, found))
        assert theirs == pytest.approx(mine, rel=0.2), name


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("weighted", [False, True])
def test_a_question_with_one_deviant_answer_gives_no_warning_and_counts_as_constant_without_it(weighted):
    humans = people(13, 601, weighted=weighted)
    deviant = np.array([0] + [1] * 600, dtype=np.int16)
    humans = replace(humans, answers=humans.answers | {"C1": deviant})
    cells = np.random.default_rng(0).integers(0, 12, 601)
    side, masks = human_side(humans, MINI), half_splits(601, 60)
    found = _from_cells(side, masks, cells, side.halves(masks)[0])
    # The first half tells the answers; the second who is in which cell.
    for row, mask in enumerate(masks):
        constant = not mask[0]
        assert np.isnan(found.correlation[row, 0]).all() == np.isnan(found.ranks[row, 0]).all() == constant
        assert not np.isnan(found.correlation[row, 1:, 1:]).any()
