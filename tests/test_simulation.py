"""Simulation: series, seeds, statuses, and run folders that survive a kill."""

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.stats import binomtest, chisquare

from anthology_hub import SimulateOptions, cells, load_run, match, simulate, unmatched
from anthology_hub.errors import EmptyError, OptionError, RunError
from anthology_hub.models import Choice, ModelCard, Sampling
from anthology_hub.models.scripted import ScriptedModel
from anthology_hub.prompts import CONSISTENCY, derive_seed
from anthology_hub.schema import MISSING, Matching, Persona, Question, Role, Survey

BIO = SimulateOptions(conditioning="bio")
COOL = SimulateOptions(sampling=Sampling(temperature=0.5))


def moody(prompt, options):
    """Weights that depend on every character of the prompt: a changed history changes them."""
    rng = np.random.default_rng(derive_seed(prompt.as_text()))
    return rng.dirichlet(np.ones(len(options))).tolist()


def mumble(prompt, seed):
    """A reply that depends on the whole prompt and the seed, and in half of the cases cannot be parsed."""
    rng = random.Random(derive_seed(prompt.as_text(), seed))
    return rng.choice(["(A)", "(B)", "(C)", "well", "no opinion", ""])


def people(n):
    stories = [f"Story {at}. " + "It was long ago. " * (at % 4) for at in range(n)]
    personas = [Persona(persona_id=Persona.id_of(story), backstory=story) for story in stories]
    return Matching(
        roles=tuple(
            Role(respondent_id=f"r{at}", weight=1 + at / 10, traits={"age": f"I am {20 + at}."}, persona=persona)
            for at, persona in enumerate(personas)
        ),
        method="greedy",
    )


def assert_same(a, b, order=None):
    order = list(range(len(a))) if order is None else order
    assert a.survey == b.survey
    assert [a.respondent_ids[at] for at in order] == list(b.respondent_ids)
    assert [a.persona_ids[at] for at in order] == list(b.persona_ids)
    for name in ("weights", "picks", "probs", "mass", "statuses", "raw"):
        np.testing.assert_array_equal(getattr(a, name)[order], getattr(b, name), err_msg=name)


def snapshot(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


class Recorder:
    """A rule that keeps the prompts it was asked, and then follows another rule."""

    def __init__(self, rule=moody):
        self.rule, self.prompts = rule, []

    def __call__(self, prompt, options):
        self.prompts.append(prompt)
        return self.rule(prompt, options)


class Stops:
    """A rule that is interrupted after some questions."""

    def __init__(self, after):
        self.left = after

    def __call__(self, prompt, options):
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        return moody(prompt, options)

    __name__ = "moody"


class Shy:
    """A language model that gives the options only little of its probability."""

    card = ModelCard(developer="test", model="shy", revision="1", layout="text")

    def __init__(self, *masses):
        self.masses = masses

    def complete(self, prompts, sampling, *, seeds):
        raise NotImplementedError

    def choose(self, prompts, options, sampling):
        even = [tuple(1 / len(letters) for _ in letters) for letters in options]
        return [Choice(probs=probs, mass=mass) for probs, mass in zip(even, self.masses, strict=True)]


def canonical(survey, prompt):
    """Return the question of a prompt and the canonical positions of its options as they are shown."""
    (question,) = [q for q in survey.questions if f"Question: {q.text}\n" in prompt.question]
    shown = [line[4:] for line in prompt.question.splitlines() if line[:1] == "(" and line[2:4] == ") "]
    return question, [question.options.index(text) for text in shown]


# -- what is asked


def test_first_picks_the_first_shown_option_mapped_back_to_its_canonical_place(gss, spending):
    recorder = Recorder(lambda _prompt, options: [1.0] + [0.0] * (len(options) - 1))
    cast = unmatched(gss.sample(40))
    answers = simulate(cast, spending, ScriptedModel(recorder), options=replace(BIO, batch_size=1))
    np.testing.assert_array_equal(answers.picks, simulate(cast, spending, ScriptedModel("first"), options=BIO).picks)
    assert set(answers.raw.ravel()) == {"A"}
    # Both orders occur, and the first shown option is the first or the last one.
    assert set(answers.picks.ravel().tolist()) == {0, 2}
    # Asked one role at a time, but in the order of their contexts: compare as a bag of (question, pick).
    shown_first = Counter((q.key, order[0]) for q, order in (canonical(spending, p) for p in recorder.prompts))
    columns = enumerate(spending.keys)
    assert shown_first == Counter((key, int(pick)) for at, key in columns for pick in answers.picks[:, at])


def test_original_and_reversed_orders_come_equally_often(gss):
    survey = Survey.load("gss-national-spending")
    answers = simulate(unmatched(gss.sample(100)), survey, ScriptedModel("first"), options=BIO)
    assert binomtest(int((answers.picks == 0).sum()), answers.picks.size).pvalue > 0.001


def test_a_survey_with_one_order_is_always_shown_in_it(gss, spending):
    fixed = replace(spending, order_patterns=("original",))
    answers = simulate(unmatched(gss.sample(10)), fixed, ScriptedModel("first"), options=BIO)
    assert (answers.picks == 0).all()


def test_probabilities_are_kept_in_canonical_order(spending):
    recorder = Recorder(lambda prompt, options: [0.7, 0.2, 0.1])
    cast = people(1)
    answers = simulate(cast, spending, ScriptedModel(recorder))
    for prompt in recorder.prompts:
        question, shown = canonical(spending, prompt)
        column = spending.keys.index(question.key)
        np.testing.assert_allclose(answers.probs[0, column][shown], [0.7, 0.2, 0.1], atol=1e-6)
    assert (answers.mass == 1).all()


def test_picks_follow_the_probabilities(gss, spending):
    survey = replace(spending, order_patterns=("original",))
    answers = simulate(unmatched(gss.sample(600)), survey, ScriptedModel(lambda _p, _o: [0.6, 0.3, 0.1]), options=BIO)
    counts = np.bincount(answers.picks.ravel(), minlength=3)
    assert chisquare(counts, np.array([0.6, 0.3, 0.1]) * counts.sum()).pvalue > 0.001


def test_series_history_holds_the_earlier_questions_and_answers_in_the_order_asked(spending):
    recorder = Recorder()
    answers = simulate(people(1), spending, ScriptedModel(recorder))
    assert len(recorder.prompts) == len(spending.questions)
    for step, prompt in enumerate(recorder.prompts):
        assert [text for text, _ in prompt.turns] == [earlier.question for earlier in recorder.prompts[:step]]
        for text, answer in prompt.turns:
            (question,) = [q for q in spending.questions if q.text in text]
            pick = answers.picks[0, spending.keys.index(question.key)]
            assert answer == next(
                line for line in text.splitlines() if line[:1] == "(" and line.endswith(f") {question.options[pick]}")
            )
        assert (spending.preamble in prompt.question) == (step == 0)


def test_consistency_is_asked_for_only_where_something_was_said_before(spending):
    for conditioning in ("nothing", "anthology"):
        recorder = Recorder()
        simulate(people(1), spending, ScriptedModel(recorder), options=SimulateOptions(conditioning=conditioning))
        said = [CONSISTENCY in prompt.question for prompt in recorder.prompts]
        assert said == [conditioning == "anthology", True, True, True]


def test_question_order_is_drawn_for_each_role_or_kept(spending):
    for shuffle in (True, False):
        recorder = Recorder()
        options = SimulateOptions(shuffle_questions=shuffle, batch_size=1)
        simulate(people(12), spending, ScriptedModel(recorder), options=options)
        keys = [canonical(spending, prompt)[0].key for prompt in recorder.prompts]
        orders = [tuple(keys[at : at + 4]) for at in range(0, 48, 4)]
        assert all(sorted(order) == sorted(spending.keys) for order in orders)
        assert len(set(orders)) > 4 if shuffle else set(orders) == {spending.keys}


def test_every_role_is_told_its_own_story_and_traits(starter, gss, spending):
    recorder = Recorder()
    cast = match(starter, gss.sample(5), method="optimal")
    simulate(cast, spending, ScriptedModel(recorder))
    contexts = {prompt.context for prompt in recorder.prompts}
    assert len(contexts) == 5
    for role in cast.roles:
        (context,) = [c for c in contexts if c.startswith(role.persona.backstory)]
        assert all(sentence in context for sentence in role.traits.values())


# -- seeds


@pytest.mark.parametrize("mode", ["letters", "text"])
def test_answers_do_not_depend_on_the_batch_size(spending, mode):
    runs = [
        simulate(
            people(11),
            spending,
            ScriptedModel(moody, replies=mumble),
            options=SimulateOptions(mode=mode, batch_size=size, tries=3),
        )
        for size in (1, 2, 4, 100)
    ]
    for run in runs[1:]:
        assert_same(runs[0], run)
    assert len({run.provenance["run_id"] for run in runs}) == 1
    assert len(set(runs[0].picks.ravel().tolist())) > 1


@pytest.mark.parametrize("mode", ["letters", "text"])
def test_answers_do_not_depend_on_the_order_of_the_roles(spending, mode):
    cast, options = people(9), SimulateOptions(mode=mode, batch_size=4)
    order = random.Random(1).sample(range(9), 9)
    shuffled = replace(cast, roles=tuple(cast.roles[at] for at in order))
    model = ScriptedModel(moody, replies=mumble)
    straight = simulate(cast, spending, model, options=options)
    assert_same(straight, simulate(shuffled, spending, model, options=options), order)


def test_answers_of_a_role_do_not_depend_on_who_else_is_cast(spending):
    cast = people(9)
    alone = replace(cast, roles=cast.roles[4:5])
    model = ScriptedModel(moody)
    assert_same(simulate(cast, spending, model), simulate(alone, spending, model), [4])


def test_other_seeds_give_other_answers_orders_and_run_ids(spending):
    runs = [simulate(people(20), spending, ScriptedModel("uniform"), seed=seed) for seed in range(3)]
    assert len({run.picks.tobytes() for run in runs}) == 3
    assert len({run.provenance["run_id"] for run in runs}) == 3
    again = simulate(people(20), spending, ScriptedModel("uniform"), seed=1)
    assert_same(runs[1], again)


# -- answers that are none


def test_text_mode_asks_again_until_a_reply_can_be_parsed(spending):
    survey = spending.select(["natenvir"])
    tried = []

    def third_time(prompt, seed):
        tried.append(seed)
        return ["hm", "I'd rather not say", "(B)"][len(tried) - 1]

    model = ScriptedModel("uniform", replies=third_time)
    answers = simulate(people(1), survey, model, options=SimulateOptions(mode="text", tries=5))
    assert model.asked == 3 and len(set(tried)) == 3
    assert answers.statuses.tolist() == [["answered"]] and answers.raw.tolist() == [["(B)"]]
    assert answers.picks.tolist() == [[1]]
    assert np.isnan(answers.probs).all() and np.isnan(answers.mass).all()


@pytest.mark.parametrize(
    ("reply", "status"), [("well, both", "unparsable"), ("I prefer not to say", "refused"), ("", "failed")]
)
def test_what_never_parses_is_kept_with_its_text_and_status(spending, reply, status):
    model = ScriptedModel("uniform", replies=lambda _prompt, _seed: reply)
    answers = simulate(people(3), spending, model, options=SimulateOptions(mode="text", tries=7))
    assert model.asked == 3 * 4 * 7
    assert (answers.picks == MISSING).all()
    assert set(answers.statuses.ravel()) == {status} and set(answers.raw.ravel()) == {reply}
    assert answers.coverage == {**dict.fromkeys(("answered", "refused", "unparsable", "failed"), 0.0), status: 1.0}


def test_only_what_cannot_be_parsed_is_asked_again(spending):
    # Every other role never says anything that can be parsed.
    model = ScriptedModel("uniform", replies=lambda p, _: "(A)" if "Story 0" in p.context else "hm")
    answers = simulate(people(2), spending, model, options=SimulateOptions(mode="text", tries=3))
    assert model.asked == 4 + 4 * 3
    assert answers.statuses.tolist() == [["answered"] * 4, ["unparsable"] * 4]


def test_text_replies_stand_in_the_history_as_they_were_given(spending):
    seen = []

    def talk(prompt, _seed):
        seen.append(prompt)
        return ["", "who knows", "(C) whatever it is called", "(A)"][len(prompt.turns)]

    simulate(people(1), spending, ScriptedModel("uniform", replies=talk), options=SimulateOptions(mode="text", tries=1))
    assert [answer for _, answer in seen[-1].turns] == ["(no answer)", "who knows", "(C) whatever it is called"]
    assert seen[-1].start == ""


def test_low_option_mass_counts_as_unparsable(spending):
    survey = spending.select(["natenvir"])
    cast = replace(people(3), roles=tuple(replace(role, persona=None) for role in people(3).roles))
    answers = simulate(cast, survey, Shy(0.0999, 0.1, 0.9), options=BIO)
    assert answers.statuses.ravel().tolist() == ["unparsable", "answered", "answered"]
    assert answers.picks[0, 0] == MISSING and (answers.picks[1:] != MISSING).all()
    assert answers.raw[0, 0] == ""
    np.testing.assert_allclose(answers.mass.ravel(), [0.0999, 0.1, 0.9], rtol=1e-6)
    # The probabilities are kept, so that another threshold can be applied later.
    np.testing.assert_allclose(answers.probs, 1 / 3, atol=1e-6)
    assert answers.coverage["answered"] == pytest.approx(2 / 3)


# -- what comes out


def test_answers_carry_respondents_personas_weights_and_the_inputs(spending):
    cast, calls = people(5), []
    answers = simulate(
        cast, spending, ScriptedModel("uniform"), seed=3, options=SimulateOptions(batch_size=2),
        progress=lambda done, total: calls.append((done, total)),
    )  # fmt: skip
    assert answers.respondent_ids == tuple(f"r{at}" for at in range(5))
    assert answers.persona_ids == tuple(role.persona.persona_id for role in cast.roles)
    assert answers.weights.tolist() == [1.0, 1.1, 1.2, 1.3, 1.4]
    assert [done for done, _ in calls] == [0, 2, 4, 6, 8, 10, 12, 14, 16, 17, 18, 19, 20]
    assert {total for _, total in calls} == {20}
    inputs = answers.provenance["inputs"]
    assert inputs["seed"] == 3 and inputs["survey"]["digest"] == spending.digest
    assert inputs["model"] == ScriptedModel("uniform").card.to_dict()
    assert inputs["cast"]["digest"] == cast.digest and "batch_size" not in inputs["options"]
    assert answers.provenance["execution"] == {"batch_size": 2, "collection": ""}
    assert answers.provenance["software"]["packages"]["numpy"] == np.__version__


def test_questions_with_different_numbers_of_options_share_a_run():
    survey = Survey(
        name="mixed",
        title="",
        source="",
        questions=(
            Question(key="two", text="Two?", options=("Yes", "No"), codes=(1, 2)),
            Question(key="many", text="Many?", options=tuple(f"Number {i}" for i in range(26)), codes=tuple(range(26))),
        ),
    )
    answers = simulate(people(4), survey, ScriptedModel("uniform"))
    assert answers.probs.shape == (4, 2, 26)
    np.testing.assert_allclose(answers.probs[:, 0, :2], 0.5)
    assert np.isnan(answers.probs[:, 0, 2:]).all()
    np.testing.assert_allclose(answers.probs[:, 1], 1 / 26, atol=1e-6)


# -- wrong arguments


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"conditioning": "silicon"}, "unknown conditioning 'silicon': allowed are nothing, bio, anthology"),
        ({"mode": "guess"}, "unknown mode 'guess': allowed are letters, text"),
        ({"tries": 0}, "tries and batch_size must be at least 1 .* got 0, 8, 0.1"),
        ({"batch_size": 0}, "tries and batch_size must be at least 1 .* got 100, 0, 0.1"),
        ({"least_mass": 1.5}, "least_mass between 0 and 1, got 100, 8, 1.5"),
    ],
)
def test_options_outside_their_range_are_refused(given, message):
    with pytest.raises(OptionError, match=message):
        SimulateOptions(**given)


def test_an_empty_cast_is_refused(spending):
    with pytest.raises(EmptyError, match="the cast is empty: match at least one respondent"):
        simulate(Matching(roles=(), method="none"), spending, ScriptedModel("uniform"))


def test_anthology_without_personas_is_refused_before_a_folder_is_made(gss, spending, tmp_path):
    with pytest.raises(OptionError, match="needs a persona for respondent"):
        simulate(unmatched(gss.sample(2)), spending, ScriptedModel("uniform"), folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_more_options_than_letters_are_refused_before_anything_is_asked():
    texts = tuple(f"Number {i}" for i in range(27))
    question = Question(key="year", text="?", options=texts, codes=tuple(range(27)))
    model = ScriptedModel("uniform")
    with pytest.raises(OptionError, match="question 'year' has 27 options: at most 26 can be lettered"):
        simulate(people(1), Survey(name="s", title="", source="", questions=(question,)), model)
    assert model.asked == 0


# -- run folders


@pytest.fixture
def run(tmp_path, spending, monkeypatch):
    """A finished run in many parts."""
    monkeypatch.setattr(cells, "PART_CELLS", 2)
    folder = tmp_path / "run"
    answers = simulate(people(5), spending, ScriptedModel(moody), options=SimulateOptions(batch_size=2), folder=folder)
    return folder, answers


@pytest.mark.parametrize("mode", ["letters", "text"])
def test_a_finished_run_loads_as_it_was(tmp_path, spending, mode):
    options = SimulateOptions(mode=mode, tries=2)
    model = ScriptedModel(moody, replies=mumble)
    answers = simulate(people(5), spending, model, options=options, folder=tmp_path / "run")
    loaded = load_run(tmp_path / "run")
    assert_same(answers, loaded)
    assert loaded.provenance == json.loads(json.dumps(answers.provenance))


def test_a_run_into_a_folder_gives_the_answers_of_a_run_without(run, spending):
    assert_same(run[1], simulate(people(5), spending, ScriptedModel(moody)))


def test_a_finished_run_asks_nothing_again(run, spending):
    model = ScriptedModel(moody)
    parts = snapshot(run[0] / "answers")
    again = simulate(people(5), spending, model, folder=run[0])
    assert model.asked == 0
    assert_same(run[1], again)
    assert snapshot(run[0] / "answers") == parts
    assert again.provenance["started"] == run[1].provenance["started"]
    events = [json.loads(line)["event"] for line in (run[0] / "events.jsonl").read_text().splitlines()]
    assert Counter(events) == {"started": 1, "part": len(parts), "finished": 2, "continued": 1}
    assert events[-2:] == ["continued", "finished"]


@pytest.mark.parametrize("size", [1, 3, 100])
def test_continuing_with_another_batch_size_loses_nothing(tmp_path, spending, size):
    cast, folder = people(6), tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        simulate(cast, spending, ScriptedModel(Stops(15)), options=SimulateOptions(batch_size=2), folder=folder)
    before = snapshot(folder / "answers")
    assert before
    model = ScriptedModel(moody)
    answers = simulate(cast, spending, model, options=SimulateOptions(batch_size=size), folder=folder)
    assert model.asked == 24 - 14
    after = snapshot(folder / "answers")
    assert {name: after[name] for name in before} == before
    rows = [
        (row["role"], row["question"]) for part in after for row in pq.read_table(folder / "answers" / part).to_pylist()
    ]
    assert len(rows) == len(set(rows)) == 24
    assert_same(answers, simulate(cast, spending, ScriptedModel(moody)))
    assert_same(answers, load_run(folder))


KILLED = '''
import sys, time
sys.path.insert(0, sys.argv[1])
from test_simulation import moody, people
from anthology_hub import cells
cells.PART_SECONDS = 0
from anthology_hub import SimulateOptions, Survey, simulate
from anthology_hub.models.scripted import ScriptedModel
folder, log, keys = sys.argv[2], sys.argv[3], sys.argv[4].split(",")
survey = Survey.load("gss-national-spending").select(keys)

def slow(prompt, options):
    time.sleep(0.005)
    role = prompt.context.split(".")[0].removeprefix("Story ")
    (key,) = [q.key for q in survey.questions if q.text in prompt.question]
    with open(log, "a") as stream:
        stream.write(f"{role} {key}\\n")
    return moody(prompt, options)

slow.__name__ = "moody"
print("ready", flush=True)
simulate(people(7), survey, ScriptedModel(slow), options=SimulateOptions(batch_size=3), folder=folder,
         progress=lambda done, total: print(done, flush=True))
'''  # fmt: skip


@pytest.mark.slow
def test_a_run_killed_at_random_moments_goes_on_asks_nothing_twice_and_loses_nothing(tmp_path, spending):
    folder, log, moments = tmp_path / "run", tmp_path / "asked.txt", random.Random(5)
    survey = Survey.load("gss-national-spending").select([*spending.keys, "natsci", "natroad"])
    log.touch()
    command = [sys.executable, "-c", KILLED, str(Path(__file__).parent), str(folder), str(log), ",".join(survey.keys)]

    def answered():
        files = sorted((folder / "answers").glob("part-*.parquet"))
        return [(f"{row['role']} {row['question']}") for file in files for row in pq.read_table(file).to_pylist()]

    kills, kept = 0, {}
    while True:
        asked_before, known = len(log.read_text().splitlines()), set(answered())
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        # The first one is killed about when the folder is made, the others after some parts and then some.
        lines = 1 if kills == 0 else moments.randint(2, 5)
        seen = [line for _, line in zip(range(lines), process.stdout, strict=False)]
        if len(seen) == lines and kills < 5:
            time.sleep(moments.uniform(0, 0.03))
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.stdout.read()
        process.stdout.close()
        code = process.wait()
        fresh = log.read_text().splitlines()[asked_before:]
        assert not known & set(fresh)
        now = {file.name: (file.stat().st_mtime_ns, file.read_bytes()) for file in (folder / "answers").glob("p*")}
        assert kept.items() <= now.items()
        kept = now
        if code == 0:
            break
        assert code == -signal.SIGKILL
    assert kills == 5
    assert Counter(answered()) == Counter(f"{role} {key}" for role in range(7) for key in survey.keys)
    # A kill costs at most the batch that was in flight.
    assert 42 <= len(log.read_text().splitlines()) <= 42 + kills * 3
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    parts = [event["part"] for event in events if event["event"] == "part"]
    assert len(parts) == len(set(parts)) and len(kept) - kills <= len(parts) <= len(kept)
    assert_same(load_run(folder), simulate(people(7), survey, ScriptedModel(moody)))


def test_what_a_kill_left_of_the_first_file_does_not_stop_the_next_call(tmp_path, spending):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / ".run.json.x8f3k2").write_text('{"schema_ver')
    answers = simulate(people(2), spending, ScriptedModel(moody), folder=folder)
    assert_same(answers, load_run(folder))


def test_a_run_killed_before_its_survey_and_cast_were_written_goes_on(run, spending):
    folder, answers = run
    for name in ("survey.json", "cast.parquet", "events.jsonl"):
        (folder / name).unlink()
    with pytest.raises(RunError, match="run the same on .* again to mend it"):
        load_run(folder)
    simulate(people(5), spending, ScriptedModel(moody), folder=folder)
    assert_same(answers, load_run(folder))


@pytest.mark.parametrize("name", ["survey.json", "cast.parquet"])
def test_a_truncated_survey_or_cast_is_named_and_mended_by_the_same_run(run, spending, name):
    folder, answers = run
    file = folder / name
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(RunError, match=rf"{name}.*run the same on .* again to mend it"):
        load_run(folder)
    simulate(people(5), spending, ScriptedModel(moody), folder=folder)
    assert_same(answers, load_run(folder))


@pytest.mark.parametrize("kept", [0, 4, 300])
def test_a_truncated_part_is_named_and_only_its_answers_are_asked_anew(run, spending, kept):
    folder, answers = run
    part = sorted((folder / "answers").glob("*.parquet"))[3]
    lost = len(pq.read_table(part))
    part.write_bytes(part.read_bytes()[:kept])
    before = snapshot(folder / "answers")
    model = ScriptedModel(moody)
    for act in (lambda: load_run(folder), lambda: simulate(people(5), spending, model, folder=folder)):
        with pytest.raises(RunError, match=rf"{part.name} is broken .*delete it and run again, only its rows"):
            act()
    assert snapshot(folder / "answers") == before and model.asked == 0
    part.unlink()
    assert_same(answers, simulate(people(5), spending, model, folder=folder))
    assert model.asked == lost


def test_a_part_with_other_columns_is_named(run):
    part = next((run[0] / "answers").glob("*.parquet"))
    pq.write_table(pq.read_table(part).drop_columns(["mass"]), part)
    with pytest.raises(RunError, match=f"{part.name} is broken"):
        load_run(run[0])


@pytest.mark.parametrize("change", ["question", "role"])
def test_a_part_of_another_run_is_named(run, tmp_path, change):
    folder, survey = run[0], Survey.load("gss-national-spending")
    if change == "question":
        simulate(people(5), survey.select(["natsci"]), ScriptedModel(moody), folder=tmp_path / "other")
        wrong = "'natsci'"
    else:
        simulate(people(6), survey.select(["natarms"]), ScriptedModel(moody), folder=tmp_path / "other")
        wrong = "'natarms'"
    (stray,) = (tmp_path / "other" / "answers").glob("*.parquet")
    shutil.copy(stray, folder / "answers" / stray.name)
    with pytest.raises(RunError, match=f"{stray.name} holds an answer to {wrong} that this run does not ask"):
        load_run(folder)


@pytest.mark.parametrize("kept", [0, 60])
def test_a_truncated_run_file_is_named_and_nothing_is_overwritten(run, spending, kept):
    folder = run[0]
    (folder / "run.json").write_bytes((folder / "run.json").read_bytes()[:kept])
    before = snapshot(folder)
    for act in (lambda: load_run(folder), lambda: simulate(people(5), spending, ScriptedModel(moody), folder=folder)):
        with pytest.raises(RunError, match=r"run\.json cannot be read as JSON: .*run into a new folder"):
            act()
    assert snapshot(folder) == before


def test_a_run_file_of_something_else_is_refused_and_kept(tmp_path, spending):
    (tmp_path / "run.json").write_text('{"epochs": 3}')
    with pytest.raises(RunError, match=r"run\.json was not written by this package: give a new folder"):
        simulate(people(1), spending, ScriptedModel("uniform"), folder=tmp_path)
    assert snapshot(tmp_path) == {Path("run.json"): b'{"epochs": 3}'}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 1}, r"seed \(0 there, 1 now\)\."),
        ({"options": BIO}, r"options\.conditioning \('anthology' there, 'bio' now\)\."),
        ({"options": COOL}, r"options\.sampling\.temperature \(1\.0 there, 0\.5 now\)\."),
        ({"options": SimulateOptions(mode="text", tries=3)}, r"options\.mode .* options\.tries \(100 there, 3 now\)\."),
        ({"model": ScriptedModel("first")}, r"model\.model \('moody' there, 'first' now\)\."),
        ({"cast": people(6)}, r"cast\.digest .*, cast\.n \(5 there, 6 now\)\."),
        ({"survey": Survey.load("gss-national-spending").select(["natsci"])}, r"survey\.digest .*, survey\.questions "),
        ({"cast": replace(people(5), humans="gss-2018")}, r"humans \('' there, 'gss-2018' now\)\."),
    ],
)  # fmt: skip
def test_a_folder_of_another_configuration_is_refused_and_what_differs_is_named(run, spending, change, named):
    folder, before = run[0], snapshot(run[0])
    given = {"cast": people(5), "survey": spending, "model": ScriptedModel(moody), **change}
    with pytest.raises(RunError, match=rf"belongs to another run; what differs: {named}.*Give a new folder"):
        simulate(**given, folder=folder)
    assert snapshot(folder) == before


def test_an_unfinished_run_says_how_many_answers_are_missing(tmp_path, spending):
    with pytest.raises(KeyboardInterrupt):
        simulate(people(2), spending, ScriptedModel(Stops(3)), options=SimulateOptions(batch_size=1), folder=tmp_path)
    with pytest.raises(RunError, match="is not finished, 5 answers are missing: run the same simulation on it again"):
        load_run(tmp_path)


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(RunError, match=r"is no run folder: it has no run\.json; give the folder of a run"):
        load_run(tmp_path)


@pytest.mark.parametrize("name", ["thesis.txt", "survey.json", "answers/part-1.parquet"])
def test_a_foreign_folder_is_refused_and_nothing_in_it_is_touched(tmp_path, spending, name):
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("mine")
    with pytest.raises(RunError, match=f"{tmp_path} is not empty and is no run folder: give a new folder"):
        simulate(people(1), spending, ScriptedModel("uniform"), folder=tmp_path)
    assert snapshot(tmp_path) == {Path(name): b"mine"}


def test_a_file_in_place_of_a_folder_is_refused(tmp_path, spending):
    (tmp_path / "notes").write_text("mine")
    with pytest.raises(RunError, match="notes is a file: give a new folder"):
        simulate(people(1), spending, ScriptedModel("uniform"), folder=tmp_path / "notes")
    assert (tmp_path / "notes").read_text() == "mine"


def test_an_empty_folder_and_a_nested_new_one_are_fine(tmp_path, spending):
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "a" / "b"):
        simulate(people(1), spending, ScriptedModel("uniform"), folder=str(folder))
        assert load_run(str(folder)).coverage["answered"] == 1


# -- skip logic and piping

YES_NO = [{"code": 1, "text": "Yes"}, {"code": 2, "text": "No"}]
BRANCHING = Survey.from_dict(
    {
        "name": "branching",
        "options": YES_NO,
        "questions": [
            {"key": "vote", "text": "Did you vote?"},
            {"key": "happy", "text": "You said {vote} about {voting}. Are you happy?"},
            {"key": "why", "text": "Was it a duty?", "ask_if": {"question": "vote", "in": [1]}},
            {
                "key": "end",
                "text": "Was it hard, given {why}?",
                "ask_if": {"any": [{"question": "why", "in": [2]}, {"not": {"question": "vote", "in": [1]}}]},
            },
        ],
    }
)


def said(answers):
    """What each role answered, as question -> code; None where it was not asked or did not answer."""
    codes = {q.key: q.codes for q in answers.survey.questions}
    return [
        {key: None if pick == MISSING else codes[key][pick] for key, pick in zip(answers.survey.keys, row, strict=True)}
        for row in answers.picks
    ]


@pytest.mark.parametrize("size", [1, 5])
def test_skip_logic_asks_exactly_those_whom_the_condition_names(size):
    answers = simulate(people(40), BRANCHING, ScriptedModel(moody), options=SimulateOptions(batch_size=size))
    asked = answers.statuses != "skipped"
    for told, row in zip(said(answers), asked, strict=True):
        assert row.tolist() == [True, True, told["vote"] == 1, told["why"] == 2 or told["vote"] != 1]
        assert (told["why"] is not None) == bool(row[2]) and (told["end"] is not None) == bool(row[3])
    assert 0 < asked[:, 2].sum() < 40 and answers.coverage["answered"] == 1.0
    assert_same(answers, simulate(people(40), BRANCHING, ScriptedModel(moody)))


def test_a_skipped_question_is_put_to_no_model_and_stands_in_no_history():
    recorder = Recorder()
    answers = simulate(people(30), BRANCHING, ScriptedModel(recorder), options=SimulateOptions(batch_size=1))
    assert len(recorder.prompts) == int((answers.statuses != "skipped").sum()) < 120
    by_story = {prompt.context.split("\n")[0]: prompt for prompt in recorder.prompts}
    for role, statuses in zip(people(30).roles, answers.statuses, strict=True):
        last = by_story[role.persona.backstory]
        assert len(last.turns) == (statuses != "skipped").sum() - 1
        assert ("Was it a duty?" in last.as_text()) == (statuses[2] != "skipped")


def test_piped_text_holds_the_answer_given_and_braces_that_are_no_key_stay():
    recorder = Recorder()
    answers = simulate(people(20), BRANCHING, ScriptedModel(recorder), options=SimulateOptions(batch_size=1))
    happy = [prompt for prompt in recorder.prompts if "Are you happy" in prompt.question]
    heard = sorted(prompt.question.split("You said ")[1].split(" about")[0] for prompt in happy)
    assert heard == sorted({1: "Yes", 2: "No"}[told["vote"]] for told in said(answers))
    assert all("about {voting}." in prompt.question for prompt in happy)


def test_a_pipe_from_a_question_that_was_skipped_says_so():
    recorder = Recorder()
    simulate(people(30), BRANCHING, ScriptedModel(recorder), options=SimulateOptions(batch_size=1))
    ends = [prompt.question for prompt in recorder.prompts if "Was it hard" in prompt.question]
    assert {text.split("given ")[1].split("?")[0] for text in ends} == {"No", "(no answer)"}


def test_questions_are_shuffled_but_stay_behind_those_they_depend_on():
    recorder = Recorder()
    simulate(people(60), BRANCHING, ScriptedModel(recorder), options=SimulateOptions(batch_size=1))
    firsts = Counter(prompt.question.split("Question: ")[1][:8] for prompt in recorder.prompts if not prompt.turns)
    assert set(firsts) == {"Did you "}
    both = replace(BRANCHING, questions=(BRANCHING.questions[0], replace(BRANCHING.questions[2], ask_if=None)))
    recorder = Recorder()
    simulate(people(60), both, ScriptedModel(recorder), options=SimulateOptions(batch_size=1))
    firsts = Counter(prompt.question.split("Question: ")[1][:7] for prompt in recorder.prompts if not prompt.turns)
    assert set(firsts) == {"Did you", "Was it "}


def test_a_run_with_skipped_questions_loads_as_it_was_and_asks_nothing_again(tmp_path):
    answers = simulate(people(12), BRANCHING, ScriptedModel(moody), folder=tmp_path / "run")
    assert (answers.statuses == "skipped").any()
    assert_same(answers, load_run(tmp_path / "run"))
    before = snapshot(tmp_path / "run" / "answers")
    assert_same(answers, simulate(people(12), BRANCHING, ScriptedModel(moody), folder=tmp_path / "run"))
    assert snapshot(tmp_path / "run" / "answers") == before


def test_options_can_be_shown_in_any_order(spending):
    recorder = Recorder()
    shuffled = replace(spending.select(["natenvir"]), order_patterns=("shuffled",))
    simulate(people(80), shuffled, ScriptedModel(recorder), options=SimulateOptions(batch_size=1))
    assert len({tuple(canonical(shuffled, prompt)[1]) for prompt in recorder.prompts}) == 6
