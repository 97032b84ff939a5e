import math
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anthology_hub import EvaluateOptions, evaluate
from anthology_hub.measures import AGREEMENT, BASELINES, DISTANCE, MEASURES, PROPERTY, attained
from anthology_hub.schema import Metric
from tests.made_answers import SEEDS
from tests.made_runs import MINI, cast_of, people


def metric(name, value, **company):
    return Metric(name=name, value=value, unit="", **company)


def test_every_measure_has_words_a_range_and_a_kind_and_the_headline_is_first():
    assert next(iter(MEASURES)) == "wd_normalised"
    for name, measure in MEASURES.items():
        assert measure.name == name and measure.title and measure.unit and measure.meaning.endswith(".")
        assert measure.kind in (DISTANCE, AGREEMENT, PROPERTY) and measure.least < measure.most
        assert measure.kind != DISTANCE or measure.least == 0
        assert measure.kind != AGREEMENT or measure.most in (1, math.inf)


def test_baselines_are_fields_of_a_figure():
    assert set(BASELINES) < {field.name for field in fields(Metric)}


@pytest.mark.parametrize(
    ("found", "part"),
    [
        (metric("wd", 0.2, floor=0.1, uniform=0.6), 0.8),
        # The floor of as many people as the cast has goes before that of halves.
        (metric("wd", 0.2, floor=0.1, floor_equal_n=0.2, uniform=0.6), 1.0),
        (metric("wd", 0.8, floor=0.1, uniform=0.6), -0.4),
        (metric("wd", 0.05, floor=0.1, uniform=0.6), 1.1),
        (metric("alpha", 0.35, human=0.7, uniform=0.0), 0.5),
        # As far above the humans' own as below it.
        (metric("alpha", 1.05, human=0.7, uniform=0.0), 0.5),
        (metric("variance_ratio", 1.0, human=1.0, uniform=1.4), 1.0),
        (metric("accuracy", 0.5, uniform=0.25), 1 / 3),
        (metric("accuracy", 0.5, human=0.75, uniform=0.25), 0.5),
        (metric("coefficients", 0.3, floor=0.8, floor_equal_n=0.6, uniform=0.0), 0.5),
        (metric("item_correlation", -0.1, human=0.5, uniform=0.0), -0.2),
    ],
)
def test_the_part_attained_is_counted_from_options_at_random_to_the_humans(found, part):
    assert attained(found) == pytest.approx(part)


@pytest.mark.parametrize(
    "found",
    [
        metric("wd", None, floor=0.1, uniform=0.6),
        metric("wd", 0.2, floor=0.1),
        metric("wd", 0.2, uniform=0.6),
        # People differ as much from each other as from options at random.
        metric("fro", 3.0, floor_equal_n=3.1, floor=0.8, uniform=2.9),
        metric("wd", 0.6, floor=0.6, uniform=0.6),
        # People repeat their own answers no better than options at random do.
        metric("accuracy", 0.3, human=0.2, uniform=0.25),
        metric("accuracy", 0.3, human=0.25, uniform=0.25),
        metric("alpha", 0.3, uniform=0.0),
        metric("alpha", 0.3, human=0.0, uniform=0.0),
        metric("no such figure", 0.3, floor=0.1, uniform=0.6),
    ],
)
def test_where_there_is_no_way_to_go_no_part_of_it_is_attained(found):
    assert attained(found) is None


@given(st.sampled_from(["wd", "fro", "kl"]), st.floats(0.01, 0.4), st.floats(0.5, 3), st.floats(0, 1))
def test_the_part_of_a_distance_is_0_at_the_uniform_1_at_the_floor_and_linear_between(name, floor, start, part):
    found = metric(name, start + part * (floor - start), floor=floor, uniform=start)
    assert attained(found) == pytest.approx(part, abs=1e-9)
    assert attained(replace(found, value=start)) == 0 and attained(replace(found, value=floor)) == 1


@given(SEEDS)
@settings(max_examples=15)
def test_every_figure_and_the_ends_of_its_interval_lie_in_the_range_of_its_measure(seed):
    rng = np.random.default_rng(seed)
    humans = people(seed, 80, missing=0.05, traits={"gender": 2})
    humans = replace(humans, retest={key: rng.permutation(column) for key, column in humans.answers.items()})
    answers = cast_of(humans.take(range(60)), rng.integers(0, 6, (60, 5)))
    result = evaluate(answers, humans, options=EvaluateOptions(bootstraps=20, splits=3))
    assert {found.name for found in result.metrics} == set(MEASURES) - {"fro_polychoric"}
    for found in result.metrics:
        measure = MEASURES[found.name]
        assert found.unit == measure.unit
        told = [found.value, found.human, found.floor, found.floor_equal_n, *(getattr(found, b) for b in BASELINES)]
        for value in (value for value in told if value is not None):
            assert measure.least - 1e-12 <= value <= measure.most + 1e-12
        if found.low is not None:
            assert measure.least <= found.low <= found.value <= found.high <= measure.most


def test_a_figure_carries_the_part_that_it_has_attained():
    result = evaluate(cast_of(people(2, 60)), people(1, 200), options=EvaluateOptions(bootstraps=5, splits=5))
    assert all(found.attained == attained(found) for found in result.metrics)
    assert sum(found.attained is not None for found in result.metrics) > 8
    assert result.questions == MINI.keys
