"""Interviews: a conversation with one persona, and a guide put to many."""

import json
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anthology_hub import load_run, open_model
from anthology_hub.errors import DataError, EmptyError, OptionError, RunError
from anthology_hub.interviews import SAMPLING, Interview, guide, interview, transcripts, written
from anthology_hub.models import Sampling
from anthology_hub.models.scripted import ScriptedModel
from anthology_hub.prompts import CONSISTENCY, derive_seed
from anthology_hub.schema import ANSWERED, FAILED, REFUSED, Matching, Persona, Role, Survey

QUESTIONS = ["Where do you live?", "Why there?", "You said {q1}. Do you like it?"]
STORY = "I bake bread in Maine."


def persona(story=STORY):
    return Persona(persona_id=Persona.id_of(story), backstory=story)


def chat(prompt, seed):
    """A reply that depends on the whole prompt and the seed, and is none or a refusal now and then."""
    rng = random.Random(derive_seed(prompt.as_text(), seed))
    return rng.choice(["", "I'd rather not say.", "In Maine. \n", "By the sea,\n\nI think.", f"Number {rng.random()}."])


class Talker:
    """Replies that keep the prompts they were for; and stop after some."""

    def __init__(self, left=10**9):
        self.prompts, self.left = [], left

    def __call__(self, prompt, seed):
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        self.prompts.append(prompt)
        return chat(prompt, seed)


def model(replies=chat):
    return ScriptedModel("first", replies=replies)


def people(n):
    return [persona(f"Story {at}. " + "It was long ago. " * (at % 4)) for at in range(n)]


# -- one persona


def test_each_question_comes_after_the_backstory_and_all_that_was_said():
    talker = Talker()
    talk = Interview(persona(), model(talker), grounding="It is July 2021.", seed=1)
    said = [talk.ask(question) for question in QUESTIONS]
    first, _, last = talker.prompts
    assert [prompt.context for prompt in talker.prompts] == [STORY] * 3 and first.turns == ()
    assert first.question == f"It is July 2021.\n{CONSISTENCY}\nQuestion: {QUESTIONS[0]}\nAnswer in your own words."
    assert [text for text, _ in last.turns] == [prompt.question for prompt in talker.prompts[:2]]
    assert [answer for _, answer in last.turns] == [turn.answer or "(no answer)" for turn in talk.turns[:2]]
    assert "It is July" not in last.question and said == [turn.answer.strip() for turn in talk.turns]


def test_an_earlier_answer_is_filled_into_a_later_question():
    prompts = []
    talk = Interview(persona(), model(lambda prompt, _: prompts.append(prompt) or "In Maine. \n"))
    for question in QUESTIONS:
        talk.ask(question)
    assert "Question: You said In Maine.. Do you like it?\n" in prompts[-1].question


def test_a_backstory_that_is_an_interview_can_be_told_turn_by_turn():
    talker = Talker()
    told = persona("Question: Who are you?\n\nAnswer: A baker.\n\nQuestion: Since when?\n\nAnswer: Ever.")
    Interview(told, model(talker), conditioning="interview").ask("And now?")
    assert talker.prompts[0].context == "" and talker.prompts[0].turns == (
        ("Question: Who are you?", "A baker."),
        ("Question: Since when?", "Ever."),
    )
    with pytest.raises(OptionError, match="needs a backstory of the form 'Question: .*: use conditioning 'anthology'"):
        Interview(persona(), model(), conditioning="interview")


@pytest.mark.parametrize(
    ("replies", "tries", "answer", "status", "asked"),
    [
        (["", "I'd rather not say.", "Maine."], 3, "Maine.", ANSWERED, 3),
        (["", "I'd rather not say.", "Maine."], 2, "I'd rather not say.", REFUSED, 2),
        (["", "Maine."], 1, "", FAILED, 1),
        (["Maine.", ""], 5, "Maine.", ANSWERED, 1),
    ],
)
def test_what_is_no_answer_is_tried_again_and_the_last_reply_stands(replies, tries, answer, status, asked):
    left = iter(replies)
    talk = Interview(persona(), model(lambda *_: next(left)), tries=tries)
    assert talk.ask("Where?") == answer
    assert (talk.turns[0].status, talk.turns[0].tries) == (status, asked)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 3), st.integers(1, 5))
def test_a_guide_put_to_many_gives_what_each_interview_alone_gives(seed, tries, batch_size):
    # Without a backstory, the first question has nothing before it to be consistent with.
    some = [*people(3), persona("")]
    asked = interview(some, QUESTIONS, model(), seed=seed, tries=tries, batch_size=batch_size, grounding="Now.")
    for row, one in enumerate(some):
        talk = Interview(one, model(), seed=seed, tries=tries, grounding="Now.")
        for question in QUESTIONS:
            talk.ask(question)
        assert asked.raw[row].tolist() == [turn.answer for turn in talk.turns]
        assert asked.statuses[row].tolist() == [turn.status for turn in talk.turns]
        assert asked.tries[row].tolist() == [turn.tries for turn in talk.turns]


def test_a_transcript_is_written_as_text_markdown_and_json():
    left = iter(["Maine. ", ""])
    talk = Interview(persona(), model(lambda *_: next(left)))
    talk.ask("Where?")
    talk.ask(" Why? ")
    assert talk.transcript() == "Question: Where?\nAnswer: Maine.\n\nQuestion: Why?\nAnswer: (no answer)"
    assert talk.transcript("markdown") == "**Where?**\n\nMaine.\n\n**Why?**\n\n(no answer)"
    told = json.loads(talk.transcript("json"))
    assert told["persona"] == {"persona_id": talk.persona.persona_id, "backstory": STORY}
    assert told["turns"][1] == {"question": "Why?", "answer": "", "status": "failed", "tries": 1}
    with pytest.raises(OptionError, match="unknown form 'pdf': allowed are text, markdown, json"):
        talk.transcript("pdf")


# -- kept and continued


def test_a_saved_interview_goes_on_as_if_it_had_never_stopped(tmp_path):
    whole, begun = (Interview(persona(), model(), seed=5, grounding="Now.", tries=2) for _ in range(2))
    for question in QUESTIONS:
        whole.ask(question)
    begun.ask(QUESTIONS[0])
    file = begun.save(tmp_path / "talk.json")
    later = Interview.load(file, model())
    assert later.turns == begun.turns and later.settings == begun.settings
    for question in QUESTIONS[1:]:
        later.ask(question)
    assert later.turns == whole.turns
    assert later.save(file) == file and json.loads(file.read_text()) == json.loads(whole.transcript("json"))


def test_an_interrupted_question_leaves_what_was_said_before():
    talk = Interview(persona(), model(Talker(left=2)))
    for question in QUESTIONS[:2]:
        talk.ask(question)
    with pytest.raises(KeyboardInterrupt):
        talk.ask(QUESTIONS[2])
    assert [turn.question for turn in talk.turns] == QUESTIONS[:2]


def test_a_saved_interview_of_another_model_is_refused_and_a_broken_file_is_told(tmp_path):
    file = Interview(persona(), model()).save(tmp_path / "talk.json")
    with pytest.raises(RunError, match="was held with model .*'first'.*'uniform'.*: open the same, or begin a new"):
        Interview.load(file, open_model("scripted:uniform"))
    file.write_text('{"turns": []}')
    with pytest.raises(DataError, match="is no interview .KeyError.*: give a file of Interview.save"):
        Interview.load(file, model())


# -- many


def test_a_run_folder_keeps_the_answers_and_an_interrupted_run_goes_on(tmp_path):
    whole = interview(people(4), QUESTIONS, model(), seed=2, batch_size=2)
    with pytest.raises(KeyboardInterrupt):
        interview(people(4), QUESTIONS, model(Talker(left=7)), seed=2, batch_size=2, folder=tmp_path / "run")
    rest = Talker()
    asked = interview(people(4), QUESTIONS, model(rest), seed=2, batch_size=1, folder=tmp_path / "run")
    assert len(rest.prompts) == 12 - 6
    for answers in (asked, load_run(tmp_path / "run")):
        assert answers.raw.tolist() == whole.raw.tolist() and answers.values.tolist() == whole.values.tolist()
    assert asked.survey == guide(QUESTIONS) and asked.survey.keys == ("q1", "q2", "q3")


def test_a_cast_is_interviewed_as_its_respondents_with_their_weights():
    role = Role(respondent_id="r1", weight=2.5, traits={"age": "My age is 30."}, persona=persona())
    talker = Talker()
    asked = interview(Matching(roles=(role,), method="greedy"), ["Where?"], model(talker))
    assert asked.weights.tolist() == [2.5] and asked.respondent_ids == ("r1",)
    assert talker.prompts[0].context.startswith(STORY) and "My age is 30." in talker.prompts[0].context
    assert list(transcripts(asked)) == [f"r1/{persona().persona_id}"]


def test_transcripts_tell_each_conversation_by_persona():
    some = people(2)
    asked = interview(some, QUESTIONS[:2], model(lambda prompt, _: f"{prompt.context[:7]} {len(prompt.turns)}"))
    told = transcripts(asked)
    assert told[some[1].persona_id] == (
        "Question: Where do you live?\nAnswer: Story 1 0\n\nQuestion: Why there?\nAnswer: Story 1 1"
    )
    assert json.loads(transcripts(asked, "json")[some[0].persona_id])[1] == {
        "question": "Why there?",
        "answer": "Story 0 1",
    }


def test_transcripts_need_open_questions(gss):
    from anthology_hub import SimulateOptions, simulate, unmatched

    survey = Survey.load("gss-national-spending").select(["natsci"])
    options = SimulateOptions(conditioning="nothing")
    answers = simulate(unmatched(gss.sample(2)), survey, open_model("scripted:first"), options=options)
    with pytest.raises(EmptyError, match=r"no question of gss-.* is of the kind text, it has natsci \(choice\)"):
        transcripts(answers)


def test_a_collection_names_itself_in_the_provenance(starter):
    asked = interview(starter.sample(2), ["Where?"], model())
    assert asked.provenance["inputs"]["collection"] == starter.sample(2).identity
    assert asked.provenance["inputs"]["cast"]["method"] == "itself"


# -- errors, before anything is asked


def test_wrong_arguments_are_told_before_anything_is_asked():
    asked = model()
    with pytest.raises(OptionError, match="question 2 is empty, '  ': ask something"):
        interview(people(1), ["Where?", "  "], asked)
    with pytest.raises(OptionError, match=r"an interview needs a list of questions, got \[\]: give one or more"):
        interview(people(1), [], asked)
    with pytest.raises(OptionError, match="got 'Where': give one or more"):
        interview(people(1), "Where", asked)
    with pytest.raises(EmptyError, match="there is nobody to interview"):
        interview([], QUESTIONS, asked)
    with pytest.raises(OptionError, match="is there twice: name everyone once"):
        interview([persona(), persona()], QUESTIONS, asked)
    with pytest.raises(OptionError, match="unknown conditioning 'bio' of an interview: allowed are anthology"):
        Interview(persona(), asked, conditioning="bio")
    with pytest.raises(OptionError, match="window must be at least 1 token, got 0: leave it out"):
        Interview(persona(), asked, window=0)
    with pytest.raises(OptionError, match="question 1 is empty, ''"):
        Interview(persona(), asked).ask("")
    assert asked.asked == 0


def test_an_interview_that_outgrows_the_model_is_told_with_its_length():
    short = Sampling(max_tokens=20)
    asked = model(lambda *_: "one two three four five six seven eight nine ten")
    # Words are the tokens of a scripted model: 5 of the story, and the question with its layout.
    talk = Interview(persona(), asked, sampling=short, window=70)
    talk.ask("Where?")
    with pytest.raises(OptionError, match=r"have 5\d tokens, which with a reply of up to 20 is more than .* 70"):
        talk.ask("Why?")
    assert len(talk.turns) == 1 and asked.asked == 1


def test_a_guide_that_may_outgrow_the_model_is_refused_at_the_start_for_the_longest_backstory():
    some = people(4)
    asked = model()
    with pytest.raises(OptionError) as caught:
        interview(some, ["Where?", "Why?"], asked, sampling=Sampling(max_tokens=100), window=200)
    assert f"an interview of 2 questions with {some[3].persona_id!r} may become" in str(caught.value)
    assert "and the model reads 200: ask fewer questions, or allow shorter replies than 100 tokens" in str(caught.value)
    assert asked.asked == 0
    longest = int(str(caught.value).split("may become ")[1].split(" ")[0])
    interview(some, ["Where?", "Why?"], asked, sampling=Sampling(max_tokens=100), window=longest)
    assert asked.asked == 8


def test_a_model_that_tells_its_window_is_not_asked_beyond_it():
    small = model()
    small.window = 30
    with pytest.raises(OptionError, match="more than the model's 30"):
        Interview(persona(), small).ask("Where?")


def test_written_answers_without_words_are_marked():
    assert written([("Q?", " ")]) == "Question: Q?\nAnswer: (no answer)"


@pytest.mark.slow
def test_the_real_model_is_interviewed_the_same_alone_and_among_others():
    small, some = open_model("local:smollm2"), people(2)
    short = replace(SAMPLING, max_tokens=6)
    asked = interview(some, ["Where did you grow up?", "Why?"], small, seed=3, sampling=short)
    talk = Interview(some[1], small, seed=3, sampling=short)
    assert [talk.ask("Where did you grow up?"), talk.ask("Why?")] == [str(raw).strip() for raw in asked.raw[1]]
    assert all(turn.answer for turn in talk.turns)
