"""Administration: how the questions of a survey are put, whatever their kind, and what is kept of it."""

import json
import random
import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anthology_hub import SimulateOptions, evaluate, load_run, match, open_model, simulate, unmatched
from anthology_hub.cells import PARTS, Cell, cell_schema, read_cells, value_of
from anthology_hub.errors import EmptyError, OptionError, RunError
from anthology_hub.models import Sampling
from anthology_hub.models.local import LocalModel
from anthology_hub.models.scripted import ScriptedModel
from anthology_hub.prompts import CONSISTENCY, DIGEST, WHOLE_DIGEST, Prompt, derive_seed
from anthology_hub.runs import RunFolder, as_parquet
from anthology_hub.schema import MISSING, Codebook, Matching, Persona, Question, Role, Survey
from anthology_hub.simulation import plan_simulation
from anthology_hub.tabulation import answers_table
from tests.test_local_model import CHAT, byte_tokenizer, save_tiny
from tests.test_simulation import Recorder, Shy, Stops, assert_same, moody, people, snapshot

FRUIT = [{"code": 1, "text": "Fig"}, {"code": 2, "text": "Plum"}, {"code": 9, "text": "None of these"}]
MIXED = Survey.from_dict(
    {
        "name": "mixed",
        "preamble": "Some questions.",
        "options": FRUIT,
        "questions": [
            {"key": "best", "text": "Which is best?"},
            {"key": "liked", "text": "Which do you like?", "kind": "multi", "exclusive": [9]},
            {"key": "hours", "text": "How many hours?", "kind": "number", "low": 0, "high": 24, "unit": "hours"},
            {"key": "ranks", "text": "Rank them.", "kind": "ranking"},
            {"key": "why", "text": "You said {best}, {liked} and {hours}. Why?", "kind": "text"},
            {"key": "again", "text": "And now?", "ask_if": {"question": "best", "in": [1, 2]}},
        ],
        "scales": {"fruit": ["best", "again", "hours"], "none": ["ranks"]},
    }
)
CODEBOOK = Codebook.load("starter").coded({"age": ("18-64", "65+"), "gender": ("Male", "Female")})


def talk(prompt, seed):
    """A reply to a question of any kind that depends on the whole prompt and the seed, and is none now and then."""
    rng = random.Random(derive_seed(prompt.as_text(), seed))
    last = prompt.question.splitlines()[-1]
    names = [line[1] for line in prompt.question.splitlines() if line[:1] == "(" and line[2:4] == ") "]
    if rng.random() < 0.3:
        return rng.choice(["", "hm, hm, hm and so on and on, who is to say", "no answer"])
    if "in order" in last:
        return ", ".join(f"({name})" for name in rng.sample(names, len(names)))
    if "all that apply" in last:
        return ", ".join(f"({name})" for name in names[:2] if rng.random() < 0.5) or "none of these"
    if "number" in last:
        return str(rng.randint(0, 24))
    return f"({rng.choice(names)})" if names else rng.choice(["It is so.", "Because."])


def told(n):
    """A cast with levels and interviews, so that it can be introduced in every way."""
    roles = []
    for at, role in enumerate(people(n).roles):
        story = f"Question: Who are you?\n\nAnswer: {role.persona.backstory}\n\nQuestion: Really?\n\nAnswer: Yes."
        persona = Persona(persona_id=Persona.id_of(story), backstory=story)
        levels = {"age": CODEBOOK.trait("age").levels[at % 2], "gender": "Female"}
        roles.append(replace(role, persona=persona, levels=levels))
    return Matching(roles=tuple(roles), method="greedy", codebook=CODEBOOK)


WAYS = {
    "letters": {},
    "text": {"mode": "text", "tries": 3},
    "forced": {"mode": "choice", "options_order": "shuffled", "conditioning": "portray"},
    "alone": {"history": "independent", "conditioning": "qa", "options_order": "reversed"},
    "both orders": {"options_order": "both", "labels": "numbers", "append": "qa", "grounding": "It is July 2021."},
    "interview": {"mode": "text", "tries": 2, "conditioning": "interview", "append": "free-form", "labels": "numbers"},
    "unshuffled": {"shuffle_questions": False, "options_order": "fixed", "conditioning": "primed", "append": "none"},
}


def ask(cast, way, survey=MIXED, **more):
    sizes = {"batch_size": more.pop("batch_size", 8)}
    return simulate(cast, survey, ScriptedModel(moody, replies=talk), options=SimulateOptions(**way, **sizes), **more)


def first_of(prompts):
    """The prompts of the first question of each role."""
    return [prompt for prompt in prompts if "Some questions." in prompt.question]


# -- laws of every way of asking


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_neither_the_batch_size_nor_the_order_of_the_roles_changes_an_answer(way):
    cast, order = told(9), random.Random(1).sample(range(9), 9)
    runs = [ask(cast, way, batch_size=size) for size in (1, 4, 100)]
    turned = ask(replace(cast, roles=tuple(cast.roles[at] for at in order)), way, batch_size=4)
    for run in runs[1:]:
        assert_same(runs[0], run)
        assert_kept(runs[0], run)
    assert_same(runs[0], turned, order)
    assert_kept(runs[0], turned, order)
    assert len({run.provenance["run_id"] for run in runs}) == 1


def assert_kept(a, b, order=None):
    order = list(range(len(a))) if order is None else order
    for name in ("values", "tries", "order_gap"):
        np.testing.assert_array_equal(getattr(a, name)[order], getattr(b, name), err_msg=name)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_run_that_was_interrupted_goes_on_to_the_same_answers_and_loads_as_it_was(way, tmp_path):
    cast, asked = told(6), Stops(9)
    stopping = ScriptedModel(lambda p, o: asked(p, o), replies=lambda p, s: asked(p, "AB") and talk(p, s))
    options = SimulateOptions(**way, batch_size=2)
    stopping.card = ScriptedModel(moody).card
    with pytest.raises(KeyboardInterrupt):
        simulate(cast, MIXED, stopping, options=options, folder=tmp_path / "run")
    before = snapshot(tmp_path / "run" / PARTS)
    assert before
    whole = ask(cast, way, folder=tmp_path / "run", batch_size=5)
    assert before.items() <= snapshot(tmp_path / "run" / PARTS).items()
    loaded = load_run(tmp_path / "run")
    for run in (ask(cast, way), loaded):
        assert_same(whole, run)
        assert_kept(whole, run)
    assert loaded.provenance == json.loads(json.dumps(whole.provenance))


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_answers_of_every_kind_are_kept_by_their_kind(way):
    answers = ask(told(40), way)
    answered = answers.statuses == "answered"
    for at, question in enumerate(MIXED.questions):
        values, picks = answers.values[:, at], answers.picks[:, at]
        assert answered[:, at].any()
        if question.kind == "choice":
            assert (picks[answered[:, at]] >= 0).all() and all(value is None for value in values)
            continue
        kept = [value for value in values if value is not None]
        assert (picks == MISSING).all() and np.isnan(answers.probs[:, at]).all()
        assert len(kept) == answered[:, at].sum()
        assert {type(value) for value in kept} == {{"number": float, "text": str}.get(question.kind, tuple)}
    assert all(value == (2,) or 2 not in value for value in answers.values[:, 1] if value)
    assert all(sorted(value) == [0, 1, 2] for value in answers.values[:, 3] if value)


# -- history


def test_questions_asked_alone_hold_nothing_but_the_person_and_themselves():
    recorder = Recorder()
    survey = Survey.load("gss-national-spending")
    alone = SimulateOptions(history="independent")
    simulate(people(2), survey, ScriptedModel(recorder), options=alone)
    assert {prompt.turns for prompt in recorder.prompts} == {()}
    assert all(survey.preamble in prompt.question and CONSISTENCY in prompt.question for prompt in recorder.prompts)
    recorder = Recorder()
    simulate(people(1), survey, ScriptedModel(recorder), options=replace(alone, conditioning="nothing"))
    assert not any(CONSISTENCY in prompt.question for prompt in recorder.prompts)


@pytest.mark.parametrize("way", [{}, {"mode": "text", "tries": 3}, {"options_order": "both"}])
def test_in_series_and_alone_the_first_question_is_the_same(way, spending):
    # One question after the other may be first: alone, each is.
    alone = ask(people(12), {**way, "history": "independent"}, spending)
    for key in spending.keys:
        rest = [key, *(other for other in spending.keys if other != key)]
        series = ask(people(12), {**way, "shuffle_questions": False}, spending.select(rest))
        np.testing.assert_array_equal(series.picks[:, 0], alone.picks[:, spending.keys.index(key)])
        np.testing.assert_array_equal(series.raw[:, 0], alone.raw[:, spending.keys.index(key)])


def test_skip_logic_and_piping_know_the_answers_that_the_prompt_does_not():
    asked = []

    def listen(prompt, seed):
        asked.append(prompt)
        return talk(prompt, seed)

    options = SimulateOptions(history="independent", mode="text", tries=20)
    answers = simulate(people(30), MIXED, ScriptedModel(moody, replies=listen), options=options)
    skipped = answers.statuses[:, 5] == "skipped"
    np.testing.assert_array_equal(skipped, ~np.isin(answers.picks[:, 0], (0, 1)))
    assert 0 < skipped.sum() < 30
    piped = {
        prompt.question.split("You said ")[1].split(". Why")[0] for prompt in asked if "You said" in prompt.question
    }
    options = [question["text"] for question in FRUIT]

    def heard(row):
        liked, hours = answers.values[row, 1], answers.values[row, 2]
        return f"{options[answers.picks[row, 0]]}, {', '.join(options[at] for at in liked)} and {hours:g}"

    assert piped == {heard(row) for row in range(30)}


@pytest.mark.parametrize("history", ["series", "independent"])
def test_a_real_engine_reads_each_backstory_once(history, tmp_path, spending):
    model = LocalModel(str(save_tiny(tmp_path / "tiny")), device="cpu")
    stories = [f"{word} " * 80 for word in ("river", "hill", "shore")]
    roles = tuple(
        Role(respondent_id=f"r{at}", weight=1.0, traits={}, persona=Persona(persona_id=f"p{at}", backstory=story))
        for at, story in enumerate(stories)
    )
    recorder = Recorder()
    options = SimulateOptions(history=history, options_order="both", batch_size=3)
    simulate(Matching(roles=roles, method="greedy"), spending, ScriptedModel(recorder), options=options)
    questions = sum(len(model.encode(Prompt(context="", turns=(), question=p.question))) for p in recorder.prompts)
    simulate(Matching(roles=roles, method="greedy"), spending, model, options=options)
    contexts = sum(len(model.encode(Prompt(context=story, turns=(), question=""))) for story in stories)
    # The answers in the history are the small rest.
    assert contexts < model.tokens.computed < contexts + questions + 1000 < 2 * contexts + questions


# -- the order of options, and their labels


@pytest.mark.parametrize(("order", "first"), [("fixed", {0}), ("reversed", {2}), ("shuffled", {0, 1, 2})])
def test_options_come_in_the_order_asked_for(order, first, spending):
    options = SimulateOptions(options_order=order)
    answers = simulate(people(20), spending, ScriptedModel("first"), options=options)
    assert set(answers.picks.ravel().tolist()) == first


def test_the_two_orders_are_averaged_and_their_distance_is_kept(spending):
    likes_the_first = ScriptedModel(lambda _prompt, _options: [0.6, 0.3, 0.1])
    answers = simulate(people(4), spending, likes_the_first, options=SimulateOptions(options_order="both"))
    np.testing.assert_allclose(answers.probs, np.broadcast_to([0.35, 0.3, 0.35], (4, 4, 3)), atol=1e-6)
    np.testing.assert_allclose(answers.order_gap, 0.5, atol=1e-6)
    single = simulate(people(4), spending, likes_the_first)
    assert np.isnan(single.order_gap).all()


def test_in_both_orders_an_option_off_the_scale_stays_last_and_the_probabilities_find_their_way_back(spending):
    questions = tuple(
        replace(one, options=(*one.options, "Not sure"), codes=(*one.codes, 9), off_scale=(9,))
        for one in spending.questions
    )
    recorder, survey = Recorder(), replace(spending, questions=questions)
    simulate(people(3), survey, ScriptedModel(recorder), options=SimulateOptions(options_order="both"))
    shown = [re.findall(r"^\(.\) (.+)$", prompt.question, re.MULTILINE) for prompt in recorder.prompts]
    written = list(questions[0].options)
    assert {tuple(one) for one in shown} == {tuple(written), (*written[2::-1], written[3])}
    likes_the_first = ScriptedModel(lambda _prompt, _options: [0.5, 0.3, 0.1, 0.1])
    answers = simulate(people(4), survey, likes_the_first, options=SimulateOptions(options_order="both"))
    np.testing.assert_allclose(answers.probs, np.broadcast_to([0.3, 0.3, 0.3, 0.1], (4, 4, 4)), atol=1e-6)
    np.testing.assert_allclose(answers.order_gap, 0.4, atol=1e-6)
    # What is stored names the options of the survey, whatever the order in which each was shown.
    turned = simulate(people(20), survey, likes_the_first, options=SimulateOptions(options_order="reversed"))
    np.testing.assert_allclose(turned.probs, np.broadcast_to([0.1, 0.3, 0.5, 0.1], (20, 4, 4)), atol=1e-6)
    options = SimulateOptions(options_order="reversed", mode="text")
    said = ScriptedModel("first", replies=lambda _prompt, _seed: "(D)")
    assert (simulate(people(20), survey, said, options=options).picks == 3).all()


def test_both_orders_are_put_to_the_same_role_with_the_same_history(spending):
    recorder = Recorder()
    simulate(people(3), spending, ScriptedModel(recorder), options=SimulateOptions(options_order="both"))
    for one, other in zip(recorder.prompts[::2], recorder.prompts[1::2], strict=True):
        assert (one.context, one.turns) == (other.context, other.turns)
        options = [[line[4:] for line in p.question.splitlines() if line.startswith("(")] for p in (one, other)]
        assert options[0] == options[1][::-1] and len(options[0]) == 3
    shown = Counter(turns[0][0].index("(A) Too little") > 0 for p in recorder.prompts if (turns := p.turns) and
                    "(A) Too little" in turns[0][0])  # fmt: skip
    assert 0 < shown[True] < sum(bool(p.turns) for p in recorder.prompts)


@settings(max_examples=20)
@given(st.lists(st.floats(0.01, 1), min_size=3, max_size=3))
def test_the_average_over_both_orders_does_not_know_which_order_is_the_original(weights):
    question = Question(key="q", text="?", options=("x", "y", "z"), codes=(1, 2, 3))
    survey = Survey(name="s", title="", source="", questions=(question,))
    turned = replace(survey, questions=(replace(question, options=("z", "y", "x"), codes=(3, 2, 1)),))
    model, options = ScriptedModel(lambda _prompt, _options: weights), SimulateOptions(options_order="both")
    one, other = (simulate(people(2), each, model, options=options) for each in (survey, turned))
    np.testing.assert_array_equal(one.probs, other.probs[:, :, ::-1])
    np.testing.assert_array_equal(one.probs, one.probs[:, :, ::-1])
    np.testing.assert_array_equal(one.order_gap, other.order_gap)


def test_numbers_as_labels_are_asked_shown_and_kept(spending):
    seen = []

    def rule(prompt, names):
        seen.append((prompt, tuple(names)))
        return [0.0, 0.0, 1.0]

    answers = simulate(people(2), spending, ScriptedModel(rule), options=SimulateOptions(labels="numbers"))
    assert {names for _, names in seen} == {("1", "2", "3")} and set(answers.raw.ravel()) == {"3"}
    assert all("Answer with (1), (2), or (3)." in prompt.question for prompt, _ in seen)
    assert {answer[:4] for prompt, _ in seen for _, answer in prompt.turns} == {"(3) "}


# -- choices that are forced, tries, the paper


def test_a_forced_choice_is_an_answer_however_little_is_on_the_options(spending):
    one = spending.select(["natenvir"])
    cast = replace(people(3), roles=tuple(replace(role, persona=None) for role in people(3).roles))
    options = SimulateOptions(mode="choice", conditioning="bio")
    answers = simulate(cast, one, Shy(0.0, 0.01, 0.9), options=options)
    assert answers.statuses.ravel().tolist() == ["answered"] * 3 and (answers.picks >= 0).all()
    np.testing.assert_allclose(answers.mass.ravel(), [0.0, 0.01, 0.9], rtol=1e-6)
    drawn = simulate(cast, one, Shy(1.0, 1.0, 1.0), options=replace(options, mode="letters"))
    np.testing.assert_array_equal(answers.picks, drawn.picks)


def test_the_number_of_tries_is_kept_and_the_share_of_first_ones_told(spending, gss):
    def third_time(prompt, seed, heard=Counter()):  # noqa: B006 - counts over all calls
        heard[prompt.as_text()] += 1
        return "(A)" if "armaments" not in prompt.question or heard[prompt.as_text()] == 3 else "hm"

    options = SimulateOptions(mode="text", tries=5, conditioning="bio")
    cast = unmatched(gss.sample(6))
    answers = simulate(cast, spending, ScriptedModel("uniform", replies=third_time), options=options)
    arms = spending.keys.index("natarms")
    assert (answers.tries[:, arms] == 3).all() and (np.delete(answers.tries, arms, axis=1) == 1).all()
    assert answers.first_try == 0.75
    assert "Of the questions asked, 75.0% were answered at the first try." in evaluate(answers, gss).notes
    never = ScriptedModel("uniform", replies=lambda _p, _s: "hm")
    unanswered = simulate(people(2), spending, never, options=SimulateOptions(mode="text", tries=4))
    assert (unanswered.tries == 4).all() and unanswered.first_try == 0.0
    assert (simulate(people(2), spending, never).tries == 1).all()


def test_the_papers_own_settings_are_written_out():
    paper = SimulateOptions.paper()
    assert (paper.mode, paper.history, paper.shuffle_questions, paper.options_order) == (
        "text",
        "series",
        True,
        "survey",
    )
    assert (paper.tries, paper.labels, paper.conditioning) == (100, "letters", "anthology")
    sampling = paper.sampling
    assert (sampling.temperature, sampling.top_p, sampling.max_tokens) == (1.0, 1.0, 128)
    assert sampling.stop == ("\n", "Question:")
    assert Survey.order_patterns == ("original", "reversed")


# -- when it is, and earlier waves


def test_the_line_that_says_when_it_is_stands_before_the_first_question_only():
    recorder = Recorder()
    options = SimulateOptions(grounding="It is July 2021.", mode="letters")
    simulate(people(2), Survey.load("gss-national-spending"), ScriptedModel(recorder), options=options)
    said = ["It is July 2021." in prompt.question for prompt in recorder.prompts]
    assert said == [not prompt.turns for prompt in recorder.prompts] and sum(said) == 2
    assert all(p.question.startswith("It is July 2021.\nWe are faced") for p in recorder.prompts if not p.turns)


def test_a_later_wave_remembers_the_answers_of_the_same_role_and_draws_anew(spending):
    cast, now = people(5), SimulateOptions(grounding="It is 2016.")
    first = simulate(cast, spending, ScriptedModel(moody), options=now, wave="2016")
    recorder = Recorder()
    later = replace(cast, roles=(*cast.roles[:3], people(6).roles[5]))
    second = simulate(later, spending, ScriptedModel(recorder), earlier=[first], wave="2018")
    assert (first.wave, second.wave) == ("2016", "2018")
    openings = {p.context.split(".")[0]: p for p in recorder.prompts if spending.preamble in p.question}
    assert openings["Story 5"].turns == ()
    for row, role in enumerate(cast.roles[:3]):
        turns = openings[role.persona.backstory.split(".")[0]].turns
        answers = [question.options[pick] for question, pick in zip(spending.questions, first.picks[row], strict=True)]
        assert [answer[4:] for _, answer in turns] == answers
        assert turns[0][0].startswith(f"It is 2016.\n{spending.preamble}\nQuestion: ") and "2016" not in turns[1][0]
        for (text, answer), question in zip(turns, spending.questions, strict=True):
            assert question.text in text and answer in text.splitlines()
    inputs = second.provenance["inputs"]
    assert inputs["wave"] == "2018" and inputs["earlier"] == [{"run_id": first.provenance["run_id"], "wave": "2016"}]
    assert CONSISTENCY in openings["Story 0"].question


def test_a_wave_draws_anew_and_no_wave_draws_as_ever(spending):
    uniform = ScriptedModel("uniform")
    plain, again = (simulate(people(30), spending, uniform) for _ in range(2))
    waves = [simulate(people(30), spending, uniform, wave=wave) for wave in ("1", "2", "1")]
    assert_same(plain, again)
    assert_same(waves[0], waves[2])
    assert len({run.picks.tobytes() for run in (plain, *waves)}) == 3


def test_what_was_not_asked_or_not_answered_is_remembered_as_such():
    hm = ScriptedModel(lambda _p, _o: [0.0, 0.0, 1.0], replies=lambda _p, _s: "hm")
    options = SimulateOptions(options_order="fixed", tries=1)
    first = simulate(people(1), replace(MIXED, order_patterns=("original",)), hm, wave="a", options=options)
    recorder = Recorder()
    later = Survey.load("gss-national-spending").select(["natsci"])
    simulate(people(1), later, ScriptedModel(recorder), earlier=[first], wave="b")
    turns = dict(recorder.prompts[0].turns)
    assert not any("And now?" in text for text in turns)
    (why,) = [text for text in turns if "Why?" in text]
    assert "You said None of these, (no answer) and (no answer). Why?" in why and turns[why] == "hm"
    assert [turns[text] for text in turns if "Rank" in text or "hours" in text] == ["(no answer)"] * 2


def test_a_wave_of_a_name_that_was_asked_before_is_refused(spending):
    first = simulate(people(1), spending, ScriptedModel("uniform"), wave="a")
    with pytest.raises(OptionError, match="wave 'a' was asked before: give another name than 'a'"):
        simulate(people(1), spending, ScriptedModel("uniform"), wave="a", earlier=[first])


def test_memory_and_waves_survive_a_run_folder(tmp_path, spending):
    first = simulate(people(3), spending, ScriptedModel(moody), folder=tmp_path / "a", wave="a")
    loaded = load_run(tmp_path / "a")
    assert loaded.wave == "a"
    model = ScriptedModel(moody)
    second = simulate(people(3), spending, model, folder=tmp_path / "b", wave="b", earlier=[first])
    assert_same(second, simulate(people(3), spending, model, wave="b", earlier=[loaded]))


# -- what is kept, compared and shown


def test_runs_of_older_releases_load_and_go_on(tmp_path, spending):
    answers = simulate(people(3), spending, ScriptedModel(moody), folder=tmp_path)
    for part in (tmp_path / PARTS).glob("*.parquet"):
        pq.write_table(pq.read_table(part).drop_columns(["tries", "value", "gap"]), part)
    loaded = load_run(tmp_path)
    assert_same(answers, loaded)
    assert (loaded.tries == MISSING).all() and loaded.first_try is None and np.isnan(loaded.order_gap).all()
    next((tmp_path / PARTS).glob("*.parquet")).unlink()
    assert_same(answers, simulate(people(3), spending, ScriptedModel(moody), folder=tmp_path))


def test_only_runs_with_the_first_wordings_name_their_digest(spending):
    def named(survey=spending, **given):
        wave = {"wave": given.pop("wave")} if "wave" in given else {}
        run = simulate(told(1), survey, ScriptedModel(moody, replies=talk), options=SimulateOptions(**given), **wave)
        return run.provenance["inputs"]["prompts"]

    assert {named(), named(conditioning="bio"), named(conditioning="nothing", mode="text")} == {DIGEST}
    ways = [
        {"survey": MIXED},
        {"wave": "1"},
        *({**way} for name, way in WAYS.items() if name not in ("letters", "text")),
    ]
    assert {named(**way) for way in ways} == {WHOLE_DIGEST} != {DIGEST}


def test_traits_told_as_questions_are_inputs_of_the_run(spending):
    cast = told(2)
    older = tuple(replace(role, levels={**role.levels, "age": "65+"}) for role in cast.roles)
    runs = [ask(each, {"conditioning": "qa"}, spending) for each in (cast, replace(cast, roles=older))]
    assert runs[0].provenance["inputs"]["traits"] != runs[1].provenance["inputs"]["traits"]
    assert "traits" not in ask(cast, {}, spending).provenance["inputs"]


def mixed_answers():
    return ask(people(40), {"tries": 2})


def test_the_choices_are_taken_out_whole():
    answers, at = mixed_answers(), [0, 5]
    choices = answers.choices
    assert choices.survey.keys == ("best", "again") and choices.survey.scales == {"fruit": ("best", "again")}
    for name in ("picks", "probs", "mass", "statuses", "raw", "tries", "values", "order_gap"):
        np.testing.assert_array_equal(getattr(choices, name), getattr(answers, name)[:, at])
    assert choices.choices is choices
    none = replace(answers, survey=replace(MIXED, questions=MIXED.questions[1:4], scales={}))
    with pytest.raises(EmptyError, match="mixed has no choice question: shares of options need one or more"):
        _ = none.choices


def test_a_survey_without_any_options_is_asked_and_kept():
    survey = replace(MIXED, questions=MIXED.questions[2:3], scales={})
    answers = ask(people(5), {}, survey)
    assert answers.probs.shape == (5, 1, 0) and answers.coverage["answered"] > 0
    assert list(answers_table(answers).frame.columns) == ["persona_id", "weight", "hours", "hours_status"]


def test_evaluation_compares_choices_and_names_the_others(gss, spending):
    extra = (*MIXED.questions[2:4], *spending.questions)
    cast = unmatched(gss.sample(40))
    way = {"conditioning": "bio", "tries": 2, "options_order": "both"}
    mixed = evaluate(ask(cast, way, replace(spending, questions=extra)), gss)
    assert mixed.questions == spending.keys and len(mixed.items) == 4
    assert "No choice questions, and so not compared: hours (number), ranks (ranking)." in mixed.notes
    (gap,) = [note for note in mixed.notes if "two orders" in note]
    assert "of the probability moves on average (total variation distance)." in gap


def test_the_method_says_how_traits_follow_a_backstory_and_priming_is_told_apart(gss, spending):
    stories = told(30)
    humans = gss.sample(30)
    cast = replace(
        stories,
        roles=tuple(replace(role, respondent_id=who) for role, who in zip(stories.roles, humans.ids, strict=True)),
    )
    ways = [{}, {"append": "qa"}, {"conditioning": "primed"}, {"conditioning": "qa"}]
    found = [evaluate(ask(cast, way, spending), humans).method for way in ways]
    assert found == ["anthology/greedy", "anthology+qa/greedy", "primed/greedy", "qa"]


def test_a_table_shows_every_kind_with_the_reason_where_there_is_no_answer():
    answers = mixed_answers()
    table = answers_table(answers)
    columns = list(table.frame.columns)
    assert columns[2:] == [
        "best", "liked_1", "liked_2", "liked_3", "liked_status", "hours", "hours_status", "ranks_1", "ranks_2",
        "ranks_3", "ranks_status", "why", "why_status", "again",
    ]  # fmt: skip
    frame = table.frame
    for row in range(len(answers)):
        liked, hours, ranks, why = answers.values[row, 1:5]
        shown = frame.iloc[row]
        if liked is not None:
            assert [shown[f"liked_{at + 1}"] for at in range(3)] == [float(at in liked) for at in range(3)]
        if ranks is not None:
            assert [shown[f"ranks_{at + 1}"] for at in ranks] == [1.0, 2.0, 3.0]
        assert shown["hours"] == hours if hours is not None else np.isnan(shown["hours"])
        assert shown["why"] == why
        meant = [table.variables[f"{key}_status"].values[shown[f"{key}_status"]] for key in ("liked", "hours", "ranks")]
        words = {"answered": "Answered", "refused": "Refused to answer", "failed": "Model failed"}
        assert meant == [words.get(status, "Reply was no answer") for status in answers.statuses[row, 1:4]]
    assert frame["liked_1"].isna().sum() == (answers.statuses[:, 1] != "answered").sum() > 0
    older = replace(answers, values=None)
    assert answers_table(older).frame["hours"].isna().all()


@given(st.sampled_from(MIXED.questions), st.data())
def test_a_value_goes_to_its_row_and_back(question, data):
    kinds = {"number": st.floats(allow_nan=False, allow_infinity=False), "text": st.text(min_size=1)}
    value = data.draw(kinds.get(question.kind, st.lists(st.integers(0, 2), unique=True).map(tuple)))
    cell = replace(Cell.skipped(0, question.key), value=json.dumps(value, ensure_ascii=False))
    assert value_of(question, cell) == value and type(value_of(question, cell)) is type(value)


def test_the_rows_of_a_folder_are_the_cells_of_the_run(tmp_path):
    answers = ask(people(4), {"tries": 2}, folder=tmp_path)
    cells = read_cells(RunFolder(tmp_path), MIXED, 4)
    assert len(cells) == 24
    for (row, key), cell in cells.items():
        at = MIXED.keys.index(key)
        assert (cell.status, cell.pick) == (answers.statuses[row, at], answers.picks[row, at])
        assert value_of(MIXED.questions[at], cell) == answers.values[row, at]


@pytest.mark.parametrize(
    "change",
    [
        {"value": "{"},
        {"value": '"x"'},
        {"pick": 99},
        {"pick": -7},
        {"status": "maybe"},
        {"probs": [0.1] * 9},
        {"value": None},
        {"raw": None},
        {"tries": None},
    ],
)
def test_a_row_that_no_run_writes_is_named_with_its_file(tmp_path, change):
    ask(told(2), {"shuffle_questions": False}, folder=tmp_path / "run")
    changed = "hours" if "value" in change else "best"
    file = next((tmp_path / "run" / PARTS).glob("*.parquet"))
    rows = [{**row, **(change if row["question"] == changed else {})} for row in pq.read_table(file).to_pylist()]
    assert any(row["question"] == changed for row in rows)
    file.write_bytes(as_parquet(rows, cell_schema()))
    with pytest.raises(RunError, match=f"{file.name} is broken"):
        load_run(tmp_path / "run")


# -- what it will take


class Counts(ScriptedModel):
    """Counts the words of what it is asked."""

    def __init__(self):
        super().__init__(moody, replies=talk)
        self.seen = []

    def choose(self, prompts, options, sampling):
        self.seen += self.count_tokens([prompt.as_text() for prompt in prompts])
        return super().choose(prompts, options, sampling)


@pytest.mark.parametrize(
    "way",
    [
        {},
        {"options_order": "both"},
        {"history": "independent"},
        {"grounding": "It is July 2021, " * 30},
        {"append": "qa", "labels": "numbers"},
        {"conditioning": "nothing"},
    ],
)
@pytest.mark.parametrize("waves", [0, 1])
def test_a_plan_counts_all_that_is_asked(way, waves, spending):
    cast, options, model = told(6), SimulateOptions(**way), Counts()
    earlier = [ask(cast, {}, spending, wave=f"{at}") for at in range(waves)]
    planned = plan_simulation(cast, spending, model, options=options, earlier=earlier, wave="now")
    simulate(cast, spending, model, options=options, earlier=earlier, wave="now")
    # Answers in the history are of other lengths than what stands for them.
    assert planned.prompt_tokens == pytest.approx(sum(model.seen), rel=0.08)
    assert planned.longest == pytest.approx(max(model.seen), rel=0.08)
    assert json.loads(json.dumps(planned.to_dict()))["answers"] == 24


# -- real models


NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + CHAT


def test_a_template_that_refuses_a_system_message_gets_its_words_from_the_first_user(tmp_path):
    folder = save_tiny(tmp_path / "tiny", chat=True)
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = NO_SYSTEM
    tokenizer.save_pretrained(folder)
    model = LocalModel(str(folder), device="cpu")
    prompt = Prompt(context="I farm.", turns=(("Tea?", "No"),), question="Milk?", start="(", opening="Be it.")
    assert model._tokenizer.decode(model.encode(prompt)) == (
        "<user>Be it.\n\nI farm.\n\nTea?<end>\n<assistant>No<end>\n<user>Milk?<end>\n<assistant>("
    )


def test_the_first_scripted_model_answers_every_kind():
    answers = simulate(people(3), MIXED, open_model("scripted:uniform"), options=SimulateOptions(tries=3))
    assert {"best", "liked", "hours", "why"} <= {
        key for key, statuses in zip(MIXED.keys, answers.statuses.T, strict=True) if "answered" in statuses
    }


# -- wrong arguments


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"history": "once"}, "unknown history 'once': allowed are series, independent"),
        ({"options_order": "odd"}, "unknown options_order 'odd': allowed are survey, fixed, reversed, shuffled, both"),
        ({"labels": "roman"}, "unknown labels 'roman': allowed are letters, numbers"),
        ({"append": "list"}, "unknown append 'list': allowed are bio, qa, free-form, none"),
        ({"append": "qa", "conditioning": "bio"}, "append='qa' .* conditioning 'bio' tells none: leave it out"),
        (
            {"options_order": "both", "mode": "text"},
            "'both' averages .* 'text' has none: use mode 'letters' or 'choice'",
        ),
    ],
)
def test_options_that_do_not_go_together_are_refused_with_what_does(given, message):
    with pytest.raises(OptionError, match=message):
        SimulateOptions(**given)


def test_ten_options_can_be_numbered_in_text_but_not_by_one_digit():
    texts = tuple(f"Number {word}" for word in "abcdefghij")
    question = Question(key="ten", text="?", options=texts, codes=tuple(range(10)))
    survey = Survey(name="s", title="", source="", questions=(question,))
    with pytest.raises(OptionError, match="'ten' has 10 options: at most 9 can be numbered with one digit"):
        ask(people(1), {"labels": "numbers"}, survey)
    assert ask(people(9), {"labels": "numbers", "mode": "text"}, survey).coverage["answered"] > 0


def test_what_is_asked_for_text_is_not_bound_to_labels_of_one_digit():
    options = [{"code": at, "text": f"Number {word}"} for at, word in enumerate("abcdefghij")]
    questions = [{"key": kind, "text": "?", "kind": kind} for kind in ("multi", "ranking")]
    survey = Survey.from_dict({"name": "s", "options": options, "questions": questions})
    assert (ask(people(2), {"labels": "numbers", "tries": 1}, survey).tries == 1).all()


@pytest.mark.parametrize(
    ("labels", "texts", "other"), [("numbers", "12345", "letters"), ("letters", ("A", "B", "AB", "O"), "numbers")]
)
def test_options_that_are_labels_themselves_are_refused_where_replies_are_read(labels, texts, other):
    question = Question(key="q", text="?", options=tuple(texts), codes=tuple(range(len(texts))))
    survey = Survey(name="s", title="", source="", questions=(question,))
    way = {"mode": "text", "labels": labels}
    with pytest.raises(OptionError, match=f"'q' has the option '{texts[0]}', which is a label.*labels '{other}'"):
        ask(people(1), way, survey)
    echo = ScriptedModel(
        moody, replies=lambda p, s: random.Random(s).choice(p.question.splitlines()[-len(texts) - 1 : -1])
    )
    answers = simulate(people(40), survey, echo, options=SimulateOptions(**{**way, "labels": other}))
    assert answers.coverage["answered"] == 1 and answers.first_try == 1
    assert ask(people(1), {**way, "mode": "letters"}, survey).picks.shape == (1, 1)
    ranked = replace(survey, questions=(replace(question, kind="ranking"),))
    if labels == "letters":
        with pytest.raises(OptionError, match="mean two options: word it otherwise$"):
            ask(people(1), way, ranked)


def test_earlier_waves_of_which_nobody_is_cast_are_refused(spending):
    first = ask(people(3), {}, spending, wave="2016")
    strangers = tuple(replace(role, respondent_id=f"x{role.respondent_id}") for role in people(3).roles)
    with pytest.raises(OptionError, match="nobody of this cast, respondent and persona, answered in wave '2016'"):
        ask(replace(people(3), roles=strangers), {}, spending, wave="2018", earlier=[first])


@pytest.mark.parametrize("reply", ["a \ud800 b", "\udcff"])
def test_a_reply_that_cannot_be_written_is_kept_as_far_as_it_can(reply, tmp_path):
    why = Survey.from_dict({"name": "s", "questions": [{"key": "why", "text": "?", "kind": "text"}]})
    model = ScriptedModel(moody, replies=lambda _prompt, _seed: reply)
    answers = simulate(people(1), why, model, folder=tmp_path / "run")
    assert answers.raw[0, 0] == load_run(tmp_path / "run").raw[0, 0] == reply.encode("utf-8", "replace").decode()


def test_more_tries_than_a_small_number_holds_are_counted():
    why = Survey.from_dict({"name": "s", "questions": [{"key": "why", "text": "?", "kind": "text"}]})
    answers = simulate(
        people(1), why, ScriptedModel(moody, replies=lambda *_: " "), options=SimulateOptions(tries=33000)
    )
    assert answers.tries.tolist() == [[33000]]


@pytest.mark.parametrize("conditioning", ["qa", "portray"])
def test_a_cast_without_levels_is_refused_before_a_folder_is_made(conditioning, tmp_path, spending):
    with pytest.raises(OptionError, match=f"conditioning '{conditioning}' needs the levels"):
        ask(people(1), {"conditioning": conditioning}, spending, folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()


# -- with the people and models that come with the package


@pytest.mark.parametrize("conditioning", ["qa", "portray", "anthology"])
def test_matched_respondents_are_told_with_their_own_levels(conditioning, starter, gss, spending):
    humans, recorder = gss.sample(4), Recorder()
    options = SimulateOptions(conditioning=conditioning, **({"append": "qa"} if conditioning == "anthology" else {}))
    cast = match(starter, humans, method="optimal")
    simulate(cast, spending, ScriptedModel(recorder), options=options)
    openings = {prompt.as_text().split(spending.preamble)[0] for prompt in recorder.prompts}
    assert len(openings) == 4
    for row, role in enumerate(cast.roles):
        known = humans.traits_of(row)
        assert role.levels.items() <= known.items() and role.levels
        for name, level in role.levels.items():
            trait = cast.codebook.trait(name)
            said = trait.options[trait.code(level)]
            line = f"{name.replace('_', ' ')}: {said}" if conditioning == "portray" else f") {said}\n"
            assert any(line in opening for opening in openings), line


@pytest.mark.slow
def test_the_embedded_model_is_asked_in_every_way(gss):
    model = open_model("local:smollm2", device="cpu")
    survey = replace(MIXED, questions=(MIXED.questions[0], MIXED.questions[2]), scales={})
    cast, short = unmatched(gss.sample(1)), Sampling(max_tokens=6)
    ways = [
        {"conditioning": "bio", "options_order": "both", "history": "independent", "tries": 1},
        {"conditioning": "qa", "mode": "choice", "labels": "numbers", "tries": 1},
        {"conditioning": "portray", "mode": "text", "tries": 2, "grounding": "It is July 2021."},
    ]
    for way in ways:
        answers = simulate(cast, survey, model, options=SimulateOptions(**way, sampling=short))
        assert answers.statuses.shape == (1, 2) and (answers.tries >= 1).all() and (answers.tries <= 2).all()
        if way.get("mode") != "text":
            np.testing.assert_allclose(answers.probs[:, 0].sum(axis=1), 1, atol=1e-5)
            assert (answers.mass[:, 0] > 0).all()
        for row, column in np.argwhere(answers.statuses[:, 1:] == "answered"):
            assert answers.values[row, column + 1] is not None
