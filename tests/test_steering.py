"""Steering: quotas from tables, people and targets, and pools that come to stand for a population."""

import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anthology_hub import Codebook, Respondents
from anthology_hub.errors import AnthologyError, DataError, EmptyError, OptionError, UnknownNameError
from anthology_hub.models.scripted import ScriptedModel
from anthology_hub.steering import apportion, quota_for, quota_from, quota_of, read_quota, steer
from anthology_hub.styles import GenerateOptions

BOOK = Codebook.load("anthology")
TARGET = {"gender": {"Male": 0.5, "Female": 0.5}, "region": {"South": 0.75, "West": 0.25}}
PRIMED = GenerateOptions(style="primed", checks=())


def writer(rule=lambda prompt, seed: True):
    """Writes a story of its own for each seed where the rule holds, else nothing."""
    return ScriptedModel("first", replies=lambda p, seed: f"I am person {seed}." if rule(p, seed) else "")


# -- quotas ----------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8).filter(lambda shares: sum(shares) > 0.01), st.integers(0, 200))
def test_apportioned_numbers_sum_up_and_are_off_by_less_than_one(shares, n):
    counts = apportion(shares, n)
    assert sum(counts) == n
    assert all(abs(k - share / sum(shares) * n) < 1 + 1e-6 for k, share in zip(counts, shares, strict=True))


def test_a_table_says_how_many_stories_have_which_traits(tmp_path):
    (tmp_path / "q.csv").write_text("region,gender,count\nSouth,Female,2\nWest,,1\n")
    quota = read_quota(tmp_path / "q.csv", BOOK)
    assert quota == (
        {"region": "South", "gender": "Female"},
        {"region": "South", "gender": "Female"},
        {"region": "West"},
    )
    assert Counter(cell["region"] for cell in read_quota(tmp_path / "q.csv", BOOK, 9)) == {"South": 6, "West": 3}
    # Counts of a census are more than anybody would generate, but can be shared out.
    (tmp_path / "q.csv").write_text("region,count\nSouth,126000000\nWest,63000000\n")
    assert Counter(cell["region"] for cell in read_quota(tmp_path / "q.csv", BOOK, 9)) == {"South": 6, "West": 3}


@pytest.mark.parametrize(
    ("table", "error", "said"),
    [
        ("region,count\nSuoth,1\n", UnknownNameError, "unknown level of region 'Suoth': did you mean 'South'?"),
        ("regoin,count\nSouth,1\n", UnknownNameError, "unknown trait 'regoin': did you mean 'region'?"),
        ("region,count\nSouth,1\nWest,two\n", DataError, "line 3: the count must be a whole number, got 'two'"),
        ("region,count\nSouth\n", DataError, "line 2: the count must be a whole number, got None"),
        ("region,count\nSouth,0\n", DataError, "asks for nobody: all counts are 0"),
        ("region,count\nSouth,1\n\n\nWest,two\n", DataError, "line 5: the count must be a whole number, got 'two'"),
        ("region,count\nSouth,1,West\n", DataError, "line 2: there are more cells than columns"),
        ("region,region,count\nSouth,West,1\n", DataError, "names the column 'region' twice"),
        (
            f"region,count\nSouth,{'9' * 5000}\n",
            DataError,
            "line 2: the count must have 15 digits at most, got 99999999999999999999...",
        ),
        ("region,count\nSouth,9999999\nWest,2\n", DataError, "asks for 10,000,001 stories, allowed are 10,000,000"),
        ("region\nSouth\n", DataError, "needs rows, a column `count` and one for each trait"),
        ("", DataError, "needs rows"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(tmp_path, table, error, said):
    (tmp_path / "q.csv").write_text(table)
    with pytest.raises(error) as caught:
        read_quota(tmp_path / "q.csv", BOOK)
    assert said in str(caught.value)


def test_a_table_that_is_not_there_is_told():
    with pytest.raises(DataError, match="none.csv cannot be read"):
        read_quota("none.csv", BOOK)


def test_respondents_give_a_story_each_and_what_is_not_known_is_left_out():
    humans = Respondents(
        name="town",
        ids=("a", "b"),
        levels={"region": ("West", "South"), "mood": ("good",)},
        codes={"region": np.array([1, -1], dtype=np.int16), "mood": np.array([0, 0], dtype=np.int16)},
        answers={},
    )
    assert quota_from(humans, BOOK) == ({"region": "South"}, {})
    with pytest.raises(UnknownNameError, match="unknown trait 'mood'"):
        quota_from(humans, BOOK, traits=["mood"])


@settings(max_examples=20)
@given(st.integers(1, 60), st.integers(0, 5))
def test_a_quota_for_a_target_has_its_margins_and_depends_on_the_seed_alone(n, seed):
    quota = quota_for(TARGET, BOOK, n, seed=seed)
    assert quota == quota_for(TARGET, BOOK, n, seed=seed)
    assert Counter(cell["region"] for cell in quota)["South"] == apportion([0.75, 0.25], n)[0]
    assert Counter(cell["gender"] for cell in quota)["Male"] == apportion([0.5, 0.5], n)[0]


def test_joint_shares_are_kept_together():
    target = {("gender", "region"): {("Male", "South"): 0.5, ("Female", "West"): 0.5}, "age": {"65+": 1.0}}
    cells = Counter((cell["gender"], cell["region"], cell["age"]) for cell in quota_for(target, BOOK, 10))
    assert cells == {("Male", "South", "65+"): 5, ("Female", "West", "65+"): 5}


def test_margins_that_share_a_trait_are_kept_together():
    joint = {("Male", "South"): 0.5, ("Female", "West"): 0.5}
    target = {"gender": {"Male": 0.5, "Female": 0.5}, ("gender", "region"): joint}
    cells = Counter((cell["gender"], cell["region"]) for cell in quota_for(target, BOOK, 20))
    assert cells == {("Male", "South"): 10, ("Female", "West"): 10}
    chained = {("gender", "age"): {("Male", "18-29"): 0.7, ("Female", "65+"): 0.3}, **target}
    quota = quota_for({**chained, "gender": {"Male": 0.7, "Female": 0.3},
                       ("gender", "region"): {("Male", "South"): 0.6, ("Male", "West"): 0.1, ("Female", "West"): 0.3}},
                      BOOK, 20)  # fmt: skip
    assert Counter((cell["gender"], cell["age"]) for cell in quota) == {("Male", "18-29"): 14, ("Female", "65+"): 6}
    assert Counter((cell["gender"], cell["region"]) for cell in quota) == {
        ("Male", "South"): 12,
        ("Male", "West"): 2,
        ("Female", "West"): 6,
    }


def test_a_quota_names_levels_of_the_codebook():
    with pytest.raises(UnknownNameError, match="unknown level of gender 'Femal'"):
        quota_of([{"gender": "Femal"}], BOOK)


# -- steering --------------------------------------------------------------------------------------------------------


def test_a_pool_grows_until_its_raked_margins_reach_the_effective_size():
    pool = steer(writer(), TARGET, n_effective=20, at_most=100, batch=8, options=PRIMED)
    assert pool.reached and [one.pool for one in pool.path] == [8, 16, 24]
    assert pool.raking.n_effective >= 20 and pool.raking.unmet == {} and len(pool.raking.weights) == len(pool.records)
    regions = Counter(json.loads(record["generation"])["primed"]["region"] for record in pool.records)
    assert regions == {"South": 18, "West": 6}
    assert len(pool.generation.collection(name="pool", licence="CC0-1.0")) == 24
    assert pool.lines()[-1] == "target reached" and pool.lines()[0].startswith(
        "round 1: 8 of 8 kept, pool 8, effective"
    )


def test_the_next_round_asks_for_what_was_lost():
    # Stories of the West mostly fail at first: what is missing is asked for in the round after.
    def rule(prompt, seed):
        return "West" not in prompt.context or seed % 4 == 0

    options = GenerateOptions(style="primed", checks=(), tries=1)
    pool = steer(writer(rule), TARGET, n_effective=60, at_most=60, batch=20, options=options)
    first, second = (sum(n for cell, n in one.quota.items() if "West" in cell) for one in pool.path[:2])
    assert first == 5 < second
    assert not pool.reached and pool.lines()[-1] == "stopped before the target was reached"


def test_the_traits_of_natural_stories_are_told_by_whoever_annotates_each_once():
    told = []

    def annotate(texts):
        told.extend(texts)
        known = np.array([[1.0, 0.0, 0.0] if len(text) % 2 else [0.0, 1.0, 0.0] for text in texts])
        return {"gender": np.vstack([known[:-1], np.full((1, 3), np.nan)])}

    options = GenerateOptions(preamble=False, checks=())
    target = {"gender": {"Male": 0.5, "Female": 0.5}}
    pool = steer(writer(), target, n_effective=11, at_most=60, batch=6, options=options, annotate=annotate)
    assert told == [record["backstory"] for record in pool.records]
    assert {len(one.quota) for one in pool.path} == {0}


def test_annotations_that_lack_a_trait_of_the_target_are_refused():
    options = GenerateOptions(preamble=False, checks=())
    with pytest.raises(UnknownNameError, match="unknown trait of the annotations 'gender'"):
        steer(writer(), TARGET, n_effective=2, at_most=4, options=options, annotate=lambda texts: {})


def test_a_steered_run_goes_on_where_it_stopped(tmp_path):
    target = {("gender", "region"): {("Male", "South"): 0.5, ("Female", "West"): 0.5}}
    expected = steer(writer(), target, n_effective=10, at_most=30, batch=4, options=PRIMED, seed=5)
    call = {"n_effective": 10, "at_most": 30, "batch": 4, "options": PRIMED, "seed": 5, "folder": tmp_path}
    calls = iter(range(2))

    def killed(prompt, seed):
        # The process ends in the second round.
        if (tmp_path / "round-001").is_dir() and next(calls, None) is None:
            raise KeyboardInterrupt
        return f"I am person {seed}."

    with pytest.raises(KeyboardInterrupt):
        steer(ScriptedModel("first", replies=killed), target, **call)
    model = writer()
    pool = steer(model, target, **call)
    assert pool.records == expected.records and model.asked < len(pool.records)
    told = json.loads((tmp_path / "steering.json").read_text())
    assert told["reached"] and [one["pool"] for one in told["path"]] == [one.pool for one in pool.path]


def test_a_pool_has_no_story_twice():
    # Few texts: later rounds repeat earlier ones, and those are rejected.
    model = ScriptedModel("first", replies=lambda _prompt, seed: f"I am person {seed % 10}.")
    target = {"gender": {"Male": 1.0}}
    pool = steer(model, target, n_effective=9, at_most=9, batch=3, options=PRIMED)
    assert len({record["backstory"] for record in pool.records}) == len(pool.records) == 9
    assert sum(generation.report.rejected.get("duplicate", 0) for generation in pool.rounds) > 0


def test_a_steered_pool_reports_all_of_its_rounds():
    def rule(prompt, seed):
        return seed % 3 > 0

    pool = steer(writer(rule), TARGET, n_effective=20, at_most=100, batch=8, options=PRIMED)
    report, rounds = pool.generation.report, [one.report for one in pool.rounds]
    assert len(rounds) == 3 and report.kept == len(pool.records) == 24
    assert (report.tried, report.accepted) == (24 + sum(one.rejected["empty"] for one in rounds), 24)
    assert report.rejected == {"empty": report.tried - 24}
    assert report.variants == {"bio": (report.tried, 24)}
    assert report.seconds == pytest.approx(sum(one.seconds for one in rounds))
    assert len(pool.generation.rejected) == report.tried - 24
    assert f"{report.tried} drafts, 24 accepted" in pool.generation.card.made


def test_nothing_kept_is_told():
    options = GenerateOptions(style="primed", checks=(), tries=1)
    with pytest.raises(EmptyError, match="none of 4 stories was kept: see what was rejected, and loosen the checks"):
        steer(writer(lambda *_: False), TARGET, n_effective=2, at_most=4, batch=2, options=options)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"n_effective": 9, "at_most": 4}, "between 1 and at_most, and batch at least 1, got 9, 4, 50"),
        ({"n_effective": 0, "at_most": 4}, "got 0, 4, 50"),
        ({"n_effective": 1, "at_most": 4, "batch": 0}, "got 1, 4, 0"),
        ({"n_effective": 1, "at_most": 4, "options": GenerateOptions()}, "nobody tells the traits of stories of style"),
    ],
)
def test_sizes_are_checked_before_anything_is_asked(given, said):
    model = writer()
    with pytest.raises(AnthologyError) as caught:
        steer(model, TARGET, **given)
    assert said in str(caught.value) and isinstance(caught.value, OptionError) and model.asked == 0
