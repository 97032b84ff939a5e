"""Opening models by name, the small nouns, and the scripted models."""

from collections import Counter

import pytest
from scipy.stats import chisquare

from anthology_hub import open_model
from anthology_hub.errors import ModelError, OptionError, UnknownNameError
from anthology_hub.models import Choice, ModelCard, Sampling
from anthology_hub.models.scripted import ScriptedModel
from anthology_hub.prompts import Prompt, question_text
from anthology_hub.schema import Question

TEA = Question(key="tea", text="Tea?", options=("Yes", "Maybe", "No", "Never"), codes=(1, 2, 3, 4))
PROMPT = Prompt(context="", turns=(), question=question_text(TEA, (3, 2, 1, 0), consistency=False))


def test_scripted_models_open_by_name():
    assert open_model("scripted:uniform").card == ModelCard(
        developer="scripted", model="uniform", revision="1", layout="text"
    )
    assert open_model("scripted:first").card.to_dict() == {
        "developer": "scripted", "model": "first", "revision": "1", "layout": "text", "dtype": "", "device": "",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["scripted:unifrom", "scripted:", "scripted"])
def test_unknown_scripted_model_names_the_known_ones(name):
    with pytest.raises(UnknownNameError, match="unknown scripted model '.*Allowed: 'uniform', 'first'"):
        open_model(name)


def test_a_slip_in_the_name_of_a_scripted_model_is_corrected():
    with pytest.raises(UnknownNameError, match="unknown scripted model 'unifrom': did you mean 'uniform'"):
        open_model("scripted:unifrom")


def test_unknown_kind_of_model_names_the_known_kinds():
    with pytest.raises(UnknownNameError, match="unknown kind of model 'ftp'.*Allowed: 'local', 'scripted', 'server'"):
        open_model("ftp://localhost/v1")


@pytest.mark.parametrize("name", ["local:no-such-model", "no-such-model"])
def test_without_a_kind_a_local_model_is_meant_and_what_it_can_be_is_said(name):
    with pytest.raises(
        ModelError, match=r"no model 'no-such-model': give a model folder, a \.gguf file, an installed one"
    ):
        open_model(name)


@pytest.mark.parametrize(
    "given", [{"temperature": -0.1}, {"temperature": -1}, {"top_p": 0}, {"top_p": 1.1}, {"max_tokens": 0}]
)
def test_sampling_outside_its_range_is_refused_with_the_value(given):
    (value,) = given.values()
    with pytest.raises(OptionError, match=rf"temperature >= 0, 0 < top_p <= 1 and max_tokens >= 1, got .*{value}"):
        Sampling(**given)


def test_sampling_defaults_are_the_survey_settings_of_the_paper():
    assert Sampling() == Sampling(temperature=1.0, top_p=1.0, max_tokens=128, stop=("\n", "Question:"))


def test_uniform_gives_every_option_the_same_and_first_all_to_the_first():
    letters = [["A", "B"], ["A", "B", "C", "D"]]
    uniform = ScriptedModel("uniform").choose([PROMPT] * 2, letters, Sampling())
    assert uniform == [Choice(probs=(0.5, 0.5), mass=1.0), Choice(probs=(0.25,) * 4, mass=1.0)]
    first = ScriptedModel("first").choose([PROMPT] * 2, letters, Sampling())
    assert first == [Choice(probs=(1.0, 0.0), mass=1.0), Choice(probs=(1.0, 0.0, 0.0, 0.0), mass=1.0)]


def test_weights_of_a_rule_of_ones_own_are_normalised_and_its_name_is_the_model():
    def mostly_last(prompt, options):
        return [1.0] * (len(options) - 1) + [7.0]

    model = ScriptedModel(mostly_last)
    assert model.card.model == "mostly_last"
    assert model.choose([PROMPT], [["A", "B"]], Sampling())[0].probs == (0.125, 0.875)


def test_scripted_replies_are_letters_that_the_prompt_shows_equally_often_and_depend_on_the_seed_only():
    model = ScriptedModel("uniform")
    seeds = range(2000)
    replies = model.complete([PROMPT] * 2000, Sampling(), seeds=seeds)
    counts = Counter(replies)
    assert set(counts) == {"(A)", "(B)", "(C)", "(D)"}
    assert chisquare(list(counts.values())).pvalue > 0.001
    assert model.complete([PROMPT], Sampling(), seeds=[17]) == [replies[17]]
    assert model.asked == 2001


def test_replies_of_ones_own_see_prompt_and_seed():
    model = ScriptedModel("uniform", replies=lambda prompt, seed: f"{prompt.question[-4:]} {seed}")
    assert model.complete([PROMPT, PROMPT], Sampling(), seeds=[1, 2]) == ["(D). 1", "(D). 2"]


def test_scripted_model_counts_what_it_was_asked():
    model = ScriptedModel("first")
    model.choose([PROMPT] * 3, [["A"]] * 3, Sampling())
    assert model.asked == 3
    with pytest.raises(ValueError):
        model.choose([PROMPT] * 2, [["A"]], Sampling())
