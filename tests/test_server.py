"""Models on a server: what is asked and read, load and retries, and runs that lose nothing and change nothing."""

import json
import math
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from anthology_hub import Anthology, SimulateOptions, annotate, generate, load_run, open_model, simulate
from anthology_hub.annotation import AnnotateOptions
from anthology_hub.cli import main
from anthology_hub.errors import MissingExtraError, ModelError, OptionError, RunError, UnknownNameError
from anthology_hub.models import Choice, Sampling
from anthology_hub.models.chains import Ask
from anthology_hub.models.dialects import DIALECTS, as_table
from anthology_hub.models.server import ServerModel, read_address, read_choice
from anthology_hub.models.traffic import Flow
from anthology_hub.prompts import Prompt
from anthology_hub.schema import Matching, Persona, Role
from anthology_hub.simulation import gaps_of
from anthology_hub.styles import GenerateOptions
from tests.stub_server import Stub, serving, tokens_of
from tests.test_simulation import assert_same, people

ROOT = Path(__file__).parents[1]
TEA = Prompt(context="I am a farmer.", turns=(), question="Question: Tea?\n(A) Yes\n(B) No", start="(")


@pytest.fixture
def stub():
    """A server that answers at once, as vLLM would."""
    with serving(Stub()) as server:
        yield server


def opened(stub, **limits):
    return ServerModel(stub.url, **limits)


def events(folder):
    return [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]


# -- addresses and opening


def test_an_address_may_lack_its_path_and_name_several_servers_and_a_model():
    found = read_address("http://a:8000, https://b/v1/?model=lab/big&way=chat,http://a:8000/v1")
    assert found.urls == ("http://a:8000/v1", "https://b/v1") and (found.model, found.way) == ("lab/big", "chat")


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("server:localhost:8000", OptionError, "'localhost:8000' is no address of a server: give http://HOST:PORT/v1"),
        ("server:", OptionError, "no address of a server is given: give http://HOST:PORT/v1"),
        ("http://me:secret@host/v1", OptionError, "give the key in the environment, ANTHOLOGY_HUB_API_KEY"),
        ("http://host/v1?modle=a", UnknownNameError, "setting of a server's address 'modle': did you mean 'model'"),
        ("http://127.0.0.1:9/v1", ModelError, r"http://127\.0\.0\.1:9/v1 does not answer \(no connection\)"),
    ],
)
def test_an_address_that_cannot_be_meant_is_refused_and_no_password_is_shown(name, error, message):
    with pytest.raises(error, match=message) as raised:
        open_model(name)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("limits", [{"concurrency": 0}, {"deadline": 0.0}, {"deadline": math.inf}])
def test_limits_outside_their_range_are_refused_with_their_value(limits):
    (value,) = limits.values()
    with pytest.raises(OptionError, match=f"concurrency must be 1 or more and deadline above 0 s, got .*{value}"):
        ServerModel("http://127.0.0.1:9", **limits)


def test_without_aiohttp_the_extra_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(MissingExtraError, match=r'aiohttp.*pip install "anthology-hub\[server\]"'):
        ServerModel("http://127.0.0.1:9")


def test_a_model_is_known_by_its_name_its_way_and_the_revision_that_one_states(stub):
    card = open_model(f"{stub.url}?revision=abc").card
    assert (card.developer, card.model, card.revision, card.layout) == ("lab", "tiny", "abc", "chat")
    stub.model = "/home/me/models/Tiny-Q4.gguf"
    card = open_model(f"server:{stub.url}?way=completions").card
    assert (card.developer, card.model, card.revision, card.layout) == ("served", "Tiny-Q4", "unknown", "text")


def test_servers_without_the_model_or_with_several_are_told_apart(stub):
    with serving(Stub(model="lab/other")) as other:
        with pytest.raises(ModelError, match=r"have no model in common: say which one with \?model=NAME"):
            ServerModel(f"{stub.url},{other.url}")
        assert ServerModel(f"{stub.url},{other.url}?model=lab/tiny").card.model == "tiny"
    with pytest.raises(UnknownNameError, match="unknown way to ask a server 'chatter': did you mean 'chat'"):
        ServerModel(f"{stub.url}?way=chatter")
    with pytest.raises(UnknownNameError, match="unknown kind of server 'vlm': did you mean 'vllm'"):
        ServerModel(f"{stub.url}?kind=vlm")


def test_a_wrong_key_names_the_variable_and_not_the_key(stub, monkeypatch):
    stub.key = "right-key"
    monkeypatch.setenv("ANTHOLOGY_HUB_API_KEY", "wrong-key")
    with pytest.raises(ModelError, match=r"refuses the key \(HTTP 401\): set ANTHOLOGY_HUB_API_KEY") as raised:
        opened(stub)
    assert "wrong-key" not in str(raised.value)
    monkeypatch.setenv("ANTHOLOGY_HUB_API_KEY", "right-key")
    assert opened(stub).complete([TEA], Sampling(), seeds=[1])


def test_the_key_of_openai_goes_to_openai_alone(stub, monkeypatch):
    stub.key = "sk-openai"
    monkeypatch.setenv("OPENAI_API_KEY", "sk-openai")
    with pytest.raises(ModelError, match="set ANTHOLOGY_HUB_API_KEY"):
        opened(stub)


# -- what is asked and what is read


def expected(stub, prompt, letters, most=20):
    """The probabilities that the rule of the stub gives options, among its most probable tokens."""
    body = stub.asked[-1]
    listed = tokens_of(body["prompt"] if "prompt" in body else json.dumps(body["messages"]))[:most]
    sums = [sum(share for token, share in listed if token.strip() == letter) for letter in letters]
    return np.array(sums), 1 - sum(share for _, share in listed)


@pytest.mark.parametrize("way", ["chat", "completions"])
def test_options_are_read_off_the_first_token_with_and_without_a_space(stub, way):
    model = ServerModel(f"{stub.url}?way={way}")
    (choice,) = model.choose([TEA], [["A", "B", "C"]], Sampling())
    sums, unseen = expected(stub, TEA, "ABC")
    np.testing.assert_allclose(choice.probs, sums / sums.sum(), rtol=1e-9)
    assert choice.mass == pytest.approx(sums.sum()) and choice.unseen == pytest.approx(unseen) and unseen > 0
    body = stub.asked[-1]
    assert body["max_tokens"] == 1 and body["temperature"] == 1.0 and "prompt_logprobs" not in body
    if way == "chat":
        assert body["messages"][-1] == {"role": "assistant", "content": "("} and body["continue_final_message"] is True
    else:
        assert body["prompt"] == TEA.as_text() and body["logprobs"] == 20


def test_an_option_that_is_not_listed_has_probability_0_and_what_was_not_listed_is_told():
    with serving(Stub(lists=5, owner="me")) as stub:
        (choice,) = opened(stub).choose([TEA], [list("ABCDEFG")], Sampling())
        sums, unseen = expected(stub, TEA, "ABCDEFG", most=5)
    assert 0 in choice.probs and choice.probs.count(0) == (sums == 0).sum() and choice.unseen == pytest.approx(unseen)


def test_a_server_that_cannot_begin_an_answer_is_not_asked_to_and_its_bracket_is_read_along(stub):
    stub.owner = "somebody"
    opened(stub).choose([TEA], [["A", "B"]], Sampling())
    assert stub.asked[-1]["messages"][-1]["role"] == "user"
    choice = read_choice([("(A", -1.0), ("(", -2.0), ("B", -1.0)], ["A", "B"], bracket=True)
    assert choice.probs == (0.5, 0.5) and choice.mass == pytest.approx(2 * math.exp(-1))
    assert read_choice([("(A", -1.0), ("B", -1.0)], ["A", "B"]).probs == (0.0, 1.0)


TOKENS = st.sampled_from(["A", " A", "B", "\u2581C", "I", "the"])
LISTED = st.lists(st.tuples(TOKENS, st.floats(-9, -2)), unique_by=lambda pair: pair[0])


@given(LISTED, st.sampled_from([0.0, 0.5, 1.0, 2.0]))
def test_choices_are_probabilities_whatever_is_listed(listed, temperature):
    choice = read_choice(listed, ["A", "B", "C"], temperature)
    assert sum(choice.probs) == pytest.approx(1) and all(0 <= p <= 1 for p in choice.probs)
    assert 0 <= choice.mass <= 1 and 0 <= choice.unseen <= 1
    backwards = read_choice(listed[::-1], ["A", "B", "C"], temperature)
    np.testing.assert_allclose(choice.probs, backwards.probs)


def test_temperature_changes_the_odds_as_a_power():
    listed = [("A", math.log(0.6)), ("B", math.log(0.3)), ("x", math.log(0.1))]
    np.testing.assert_allclose(read_choice(listed, "AB", 0.5).probs, (0.8, 0.2))
    assert read_choice(listed, "AB", 0.5).mass == pytest.approx(0.45 / 0.46)
    assert read_choice(listed, "AB", 0.0) == Choice(probs=(1.0, 0.0), mass=1.0, unseen=read_choice(listed, "AB").unseen)
    assert read_choice([], "AB") == Choice(probs=(0.5, 0.5), mass=0.0, unseen=1.0)


def test_an_answer_that_ended_before_it_began_is_drawn_again_with_the_next_seed(stub):
    stub.silent = 3
    model = opened(stub)
    (choice,) = model.choose([TEA], [["A", "B"]], Sampling())
    assert [body["seed"] for body in stub.asked[-4:]] == [0, 1, 2, 3] and choice.mass > 0
    stub.silent = 100
    assert model.choose([TEA], [["A", "B"]], Sampling())[0].mass == 0


def test_texts_are_cut_at_every_stop_and_follow_their_seed(stub):
    model = opened(stub)
    one, two, three = model.complete([TEA] * 3, Sampling(top_p=0.9, temperature=0.7), seeds=[2**62 + 5, 5, 6])
    assert one == two and {one, three} <= {"(A)", "(B)", "(C)"}
    assert {body["seed"] for body in stub.asked[-3:]} == {5, 6}
    assert {body["top_p"] for body in stub.asked[-3:]} == {0.9}
    stub.says = lambda prompt, seed: "one two"
    many = Sampling(stop=("a", "b", "c", "d", "two"))
    assert ServerModel(f"{stub.url}?kind=openai").complete([TEA], many, seeds=[1]) == ["one"]
    assert stub.asked[-1]["stop"] == ["a", "b", "c", "d"] and stub.asked[-1]["max_completion_tokens"] == 128
    assert model.complete([TEA], Sampling(stop=()), seeds=[1]) == ["one two"] and "stop" not in stub.asked[-1]


def test_a_model_without_system_messages_is_told_by_the_first_user(stub):
    stub.system = False
    opened(stub).complete([TEA], Sampling(), seeds=[1])
    first = stub.asked[-1]["messages"][0]
    assert first["role"] == "user" and "I am a farmer." in first["content"] and "Tea?" in first["content"]


def test_where_there_is_no_chat_texts_are_completed(stub):
    stub.chats = False
    model = opened(stub)
    assert model.card.layout == "text" and model.complete([TEA], Sampling(), seeds=[1])


def test_a_server_without_probabilities_gives_texts_and_says_what_to_do_for_choices(stub):
    stub.lists = 0
    model = opened(stub)
    assert model.complete([TEA], Sampling(), seeds=[1])
    with pytest.raises(ModelError, match=r"lists no probabilities: ask for text \(mode 'text'"):
        model.choose([TEA], [["A", "B"]], Sampling())


def test_tokens_are_counted_by_the_server_or_estimated(stub):
    assert opened(stub).count_tokens(["one two three", ""]) == [3, 0]
    assert ServerModel(f"{stub.url}?kind=ollama").count_tokens(["12345678", "123456789"]) == [2, 3]


# -- load, retries, health


def test_a_flow_grows_while_that_pays_halves_at_trouble_and_keeps_within_its_bounds():
    flow, now = Flow(most=100), time.monotonic()
    for _ in range(2000):
        # Twice as many at once are answered in the same time.
        now += 1 / flow.limit
        flow.answered(1.0, flying=int(flow.limit), now=now)
    assert flow.limit == 100
    for _ in range(100):
        flow.troubled(now=now)
    assert flow.limit in (25, 50)
    for _ in range(1000):
        flow.troubled(now=now)
    assert flow.limit == 1


def test_a_flow_that_only_makes_answers_wait_shrinks():
    flow, now, limits = Flow(most=1000), time.monotonic(), []
    for _ in range(4000):
        # 10 answers a second, however many are asked for at once.
        now += 0.1
        flow.answered(flow.limit / 10, flying=int(flow.limit), now=now)
        limits.append(flow.limit)
    assert max(limits) <= 40 and min(limits[1000:]) >= 4


def test_a_few_chance_failures_do_not_slow_a_flow():
    flow, now = Flow(most=64), time.monotonic()
    for at in range(4000):
        now += 1 / flow.limit
        flow.troubled(now=now) if at % 10 == 0 else flow.answered(1.0, flying=int(flow.limit), now=now)
    assert flow.limit == 64


def test_what_is_too_much_for_a_server_is_sent_again_and_the_load_found(stub, spending):
    stub.capacity, stub.delay = 4, 0.01
    model = opened(stub)
    answers = simulate(people(40), spending, model)
    traffic = model.take_traffic()
    assert answers.coverage["answered"] == 1 and traffic["retried: HTTP 429"] > 0 and traffic["at_once"][0] < 32
    assert max(stub.answered.values()) == 1


def test_no_more_requests_fly_than_are_allowed(stub, spending):
    stub.delay = 0.005
    simulate(people(30), spending, opened(stub, concurrency=3))
    assert stub.most_flying == 3


def test_a_server_that_says_when_to_come_again_is_obeyed(stub):
    stub.retry_after = "1"
    model = opened(stub)
    stub.fail = {"503": 1.0}
    began = time.monotonic()
    soon = threading.Timer(0.3, stub.fail.clear)
    soon.start()
    assert model.complete([TEA], Sampling(), seeds=[1])
    # Without the word of the server the second try comes within a quarter of a second.
    assert time.monotonic() - began >= 1 and stub.sent_away["503"] == 1
    soon.join()


def test_a_dead_server_is_left_out_and_the_others_answer_for_it(stub, spending):
    model = ServerModel(f"http://127.0.0.1:9/v1,{stub.url}")
    answers = simulate(people(20), spending, model)
    traffic = model.take_traffic()
    assert answers.coverage["answered"] == 1 and 0 < traffic["retried: no connection"] < 40


def test_a_server_that_is_well_again_is_asked_again(stub):
    model = opened(stub, deadline=8.0)
    stub.fail = {"500": 1.0}
    with pytest.raises(ModelError, match="the last: (HTTP 500|no server answers)"):
        model._traffic.deadline = 1.0
        model.complete([TEA], Sampling(), seeds=[1])
    stub.fail, model._traffic.deadline = {}, 8.0
    assert model.complete([TEA], Sampling(), seeds=[1])


def test_a_persona_stays_on_one_server_and_its_questions_follow_each_other(spending):
    with serving(Stub()) as one, serving(Stub()) as two:
        model = ServerModel(f"{one.url},{two.url}")
        simulate(people(24), spending, model)
        homes = [Counter(body["messages"][0]["content"] for body in stub.asked) for stub in (one, two)]
    # The probe is alone with its context.
    told = [{context: n for context, n in home.items() if n > 2} for home in homes]
    assert not set(told[0]) & set(told[1]) and set(told[0].values()) | set(told[1].values()) == {4}
    assert min(map(len, told)) >= 4 and len(told[0]) + len(told[1]) == 24


def test_the_first_prompt_of_a_persona_is_answered_before_the_others_are_sent(stub):
    stub.delay = 0.02
    model = opened(stub)
    stub.trail.clear()
    prompts = [replace(TEA, question=f"Question {at}?") for at in range(6)]
    model.choose(prompts, [["A", "B"]] * 6, Sampling())
    assert [way for way, _ in stub.trail] == ["in", "out", *["in"] * 5, *["out"] * 5]


# -- simulations


def test_neither_concurrency_nor_servers_nor_batches_nor_failures_change_an_answer(spending):
    cast = people(12)
    for how in (SimulateOptions(), SimulateOptions(mode="text", tries=3), SimulateOptions(options_order="both")):
        with ExitStack() as stack:
            plain, other = (stack.enter_context(serving(Stub())) for _ in range(2))
            broken = stack.enter_context(serving(Stub(fail={"503": 0.05, "reset": 0.05, "garbage": 0.05, "500": 0.02})))
            base = simulate(cast, spending, opened(plain, concurrency=1), options=how)
            assert_same(base, simulate(cast, spending, opened(plain), options=replace(how, batch_size=3)))
            assert_same(base, simulate(cast, spending, ServerModel(f"{plain.url},{other.url}"), options=how))
            assert_same(base, simulate(cast, spending, ServerModel(f"{broken.url},{other.url}"), options=how))
            assert base.coverage["answered"] == 1 and len(set(base.picks.ravel().tolist())) > 1


def test_stalls_are_asked_again(stub, spending):
    stub.fail = {"stall": 0.1, "reset": 0.05}
    answers = simulate(people(10), spending, ServerModel(stub.url, deadline=6.0))
    assert stub.sent_away["stall"] > 0 and answers.coverage["answered"] == 1


def story(at):
    return f"Story {at}. "


def test_what_a_server_does_not_answer_is_a_counted_explained_gap_and_asked_again(stub, spending, tmp_path):
    cast, folder = people(6), tmp_path / "run"
    whole = simulate(cast, spending, opened(stub))
    stub.stall = story(2)
    answers = simulate(cast, spending, opened(stub, deadline=0.8), folder=folder)
    assert answers.coverage == {"answered": 20 / 24, "refused": 0.0, "unparsable": 0.0, "failed": 4 / 24}
    assert gaps_of(answers) == 4 and (answers.statuses[2] == "failed").all()
    gaps = [event for event in events(folder) if event["event"] == "gap"]
    assert [gap["role"] for gap in gaps] == [2] and "tries in" in gaps[0]["reason"]
    assert [event["gaps"] for event in events(folder) if event["event"] == "finished"] == [4]
    with pytest.raises(RunError, match="is not finished, 4 answers are missing: run the same simulation on it again"):
        load_run(folder)
    stub.stall = ""
    asked = len(stub.asked)
    again = simulate(cast, spending, opened(stub), folder=folder)
    assert len(stub.asked) == asked + 4 + 1
    assert_same(whole, again)
    assert_same(whole, load_run(folder))


def test_alone_a_question_without_reply_costs_no_other(stub, spending):
    stub.stall = spending.questions[1].text
    how = SimulateOptions(history="independent")
    answers = simulate(people(3), spending, opened(stub, deadline=0.8), options=how)
    assert answers.coverage["answered"] == 0.75 and (answers.statuses[:, 1] == "failed").all()


def test_a_prompt_that_is_refused_is_a_failed_answer_with_its_reason_and_not_asked_again(
    stub, spending, tmp_path, monkeypatch
):
    monkeypatch.setenv("ANTHOLOGY_HUB_API_KEY", "my-key-123")
    stub.refuse, stub.key = story(1), "my-key-123"
    answers = simulate(people(3), spending, opened(stub), folder=tmp_path / "run")
    assert (answers.statuses[1] == "failed").all() and gaps_of(answers) == 0 and (answers.tries[1] == 0).all()
    reasons = [event["reason"] for event in events(tmp_path / "run") if event["event"] == "failed"]
    assert len(reasons) == 4 and all(reason.startswith("HTTP 400: this prompt is too long") for reason in reasons)
    asked = len(stub.asked)
    assert_same(answers, simulate(people(3), spending, opened(stub), folder=tmp_path / "run"))
    assert len(stub.asked) == asked + 1
    for file in (tmp_path / "run").rglob("*"):
        assert file.is_dir() or b"my-key-123" not in file.read_bytes()


def test_a_key_that_is_withdrawn_stops_the_run_and_what_was_answered_is_kept(stub, spending, tmp_path):
    model = opened(stub, concurrency=1)
    done = []

    def withdraw(finished, _total):
        done.append(finished)
        stub.key = "another" if finished else ""

    stub.delay = 0.01
    with pytest.raises(ModelError, match="refuses the key"):
        simulate(people(40), spending, model, folder=tmp_path / "run", progress=withdraw)
    stub.key = ""
    model = opened(stub)
    before = len(stub.asked)
    answers = simulate(people(40), spending, model, folder=tmp_path / "run")
    assert answers.coverage["answered"] == 1 and done[-1] > 0 and len(stub.asked) - before == 160 - done[-1]


KILLED = """
import sys
from anthology_hub import Survey, cells, open_model, simulate
from tests.test_simulation import people
cells.PART_SECONDS = 0.2
survey = Survey.load("gss-national-spending").select(sys.argv[3].split(","))
simulate(people(60), survey, open_model(sys.argv[1], concurrency=4), folder=sys.argv[2],
         progress=lambda done, total: print(done, flush=True))
"""


def test_a_run_that_is_killed_repeats_no_request_whose_answer_was_stored(stub, spending, tmp_path):
    stub.delay, folder = 0.02, tmp_path / "run"
    command = [sys.executable, "-c", KILLED, stub.url, str(folder), ",".join(spending.keys)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    for line in process.stdout:
        if int(line) >= 80:
            break
    process.send_signal(signal.SIGKILL)
    process.communicate()
    stub.delay = 0.0
    model = opened(stub)
    known, before = [], len(stub.asked)
    answers = simulate(people(60), spending, model, folder=folder, progress=lambda done, _: known.append(done))
    assert known[0] >= 40 and len(stub.asked) - before == 240 - known[0]
    assert_same(answers, simulate(people(60), spending, model))


def test_nothing_is_left_in_flight_when_a_run_is_broken_off(stub):
    def chain():
        yield (Ask(prompt=TEA, options=("A", "B")),)
        raise ZeroDivisionError

    model = opened(stub)
    with pytest.raises(ZeroDivisionError):
        list(model.converse((chain() for _ in range(50)), Sampling()))
    assert model.complete([TEA], Sampling(), seeds=[1])


def test_many_respondents_of_one_persona_are_asked_side_by_side(stub, spending):
    persona = Persona(persona_id=Persona.id_of("One life."), backstory="One life.")
    roles = tuple(
        Role(respondent_id=f"r{at}", weight=1.0, traits={"age": f"I am {at}."}, persona=persona) for at in range(9)
    )
    stub.delay = 0.01
    assert simulate(Matching(roles=roles, method="x"), spending, opened(stub)).coverage["answered"] == 1
    assert stub.most_flying > 2


# -- the other verbs, and the command line


def test_annotations_are_asked_as_many_at_once_as_a_batch_holds(stub, starter):
    stub.delay = 0.01
    few = starter.sample(2, seed=1)
    done = annotate(
        few, opened(stub), traits=["region"], method="sampled", samples=20, options=AnnotateOptions(batch_size=20)
    )
    assert stub.most_flying > 4 and sum(done.counts["region"].values()) > 0
    once = annotate(few, opened(stub, concurrency=1), traits=["region"], method="sampled", samples=20)
    assert done.counts == once.counts


def life(prompt, seed):
    return f"I am {seed}, and I like the barn by the river in winter."


def test_stories_are_written_by_a_server_from_the_command_line(stub, tmp_path):
    stub.says, stub.delay = life, 0.01
    arguments = ["generate", str(tmp_path / "new"), "-n", "12", "--model", stub.url, "--batch-size", "12"]
    arguments += ["--concurrency", "6", "--no-preamble", "--check", "placeholders"]
    done = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert len(Anthology.load(tmp_path / "new" / "collection")) == 12 and 2 < stub.most_flying <= 6


def test_a_prompt_without_reply_stops_a_generation_and_the_same_call_goes_on(stub, tmp_path):
    stub.says = life
    options = GenerateOptions(checks=("placeholders",), preamble=False)
    model = opened(stub)
    stub.fail, model._traffic.deadline = {"503": 1.0}, 0.3
    with pytest.raises(ModelError, match="3 of 3 prompts got no reply .* see to the server and do the same again"):
        generate(model, 3, options=options, folder=tmp_path / "run")
    stub.fail = {}
    assert len(generate(opened(stub), 3, options=options, folder=tmp_path / "run").records) == 3


def test_the_command_says_what_is_missing_and_ends_with_1(stub, tmp_path):
    arguments = ["simulate", str(tmp_path / "run"), "--sample", "4", "--question", "natenvir", "--method", "greedy"]
    arguments += ["--conditioning", "bio", "--model", stub.url, "--deadline", "0.8"]
    stub.stall = "Question"
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 1
    assert "4 answers are missing, counted as failed" in done.output and "run the same command again" in done.output
    stub.stall = ""
    done = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert done.exit_code == 0 and "4 answers in" in done.output


def test_the_page_on_serving_shows_the_table_of_dialects():
    assert as_table() in (ROOT / "docs" / "serving.md").read_text()
    assert all(dialect.sources for dialect in DIALECTS)
