"""What a run says about tokens: too many are refused before it starts, those computed stand in its events."""

import json

import pytest

from anthology_hub import SimulateOptions, simulate, unmatched
from anthology_hub.errors import ModelError
from anthology_hub.models.local import LocalModel
from anthology_hub.schema import Survey
from tests.test_local_model import save_tiny


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return LocalModel(str(save_tiny(tmp_path_factory.mktemp("tiny"))), device="cpu")


def test_a_survey_that_is_sure_to_pass_the_window_is_refused_before_the_run_folder_is_made(tiny, gss, tmp_path):
    survey, cast = Survey.load("bfi"), unmatched(gss.sample(3, seed=2))
    before = tiny.tokens
    with pytest.raises(ModelError, match=r"at least [\d,]+ tokens and \w+ reads 4,096 at most: .*'independent'"):
        simulate(cast, survey, tiny, options=SimulateOptions(conditioning="bio"), folder=tmp_path / "run")
    assert tiny.tokens == before and not (tmp_path / "run").exists()


def test_a_run_records_the_tokens_that_it_asked_and_computed(tiny, gss, spending, tmp_path):
    cast = unmatched(gss.sample(4, seed=2))
    tiny.take_tokens()
    before = tiny.tokens
    simulate(cast, spending, tiny, options=SimulateOptions(conditioning="bio"), folder=tmp_path)
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    (event,) = [event for event in events if event["event"] == "tokens"]
    spent = tiny.tokens - before
    assert {name: event[name] for name in ("asked", "unique", "computed")} == spent.to_dict()
    assert spent.asked > 2 * spent.computed > 0
    assert 1 <= event["ratio"] <= 1.05
