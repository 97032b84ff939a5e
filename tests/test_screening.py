"""Screening: what each check rejects and lets pass, near duplicates, and the critic."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anthology_hub import Anthology, screening
from anthology_hub.conditioning import transcript
from anthology_hub.errors import AnthologyError, MissingExtraError, OptionError, UnknownNameError
from anthology_hub.models import Choice
from anthology_hub.models.scripted import ScriptedModel
from anthology_hub.screening import (
    CHECKS,
    PRESETS,
    Check,
    Context,
    Critic,
    Neighbours,
    Rejection,
    checks_of,
    screen,
)

PROSE = (
    "I grew up on a small farm outside Dubuque, Iowa, the youngest of four. My father milked cows until his back gave "
    "out, and my mother taught third grade for thirty years. I left for Chicago at nineteen with one suitcase and a "
    "bus ticket my sister paid for. Now I am fifty-two and drive a delivery route, and on Sundays I sing in the choir."
)
GERMAN = (
    "Ich bin auf einem kleinen Bauernhof in der Nähe von Oldenburg aufgewachsen, als jüngste von vier Geschwistern. "
    "Mein Vater hat Kühe gemolken, bis sein Rücken nicht mehr mitmachte, und meine Mutter war Lehrerin."
)
NOTHING = Context()


def reason(spec, text, context=NOTHING):
    return Check.of(spec).reason(text, context)


@pytest.mark.parametrize(
    ("spec", "bad", "said"),
    [
        ("words", "I am short.", "3 words, allowed are 250 to 100000"),
        ("words:least=1,most=2", "I am short.", "3 words, allowed are 1 to 2"),
        ("interview", "This interview is an Interview.", "says 'interview' 2 times, allowed are 1"),
        ("first_person", "She is old. He is not. They live in Ohio by the lake.", "0 of 13 words"),
        ("markers", "I am old.\nQ: And then?", "marked by 'Q:'"),
        ("markers", "I am old. Interviewer: And then?", "marked by 'Interviewer:'"),
        ("markers", "INTERVIEWER: And then?\nI am old.", "marked by 'INTERVIEWER:'"),
        ("markers", "I am old.\nQ2: And then?", "marked by 'Q2:'"),
        ("placeholders", "I live in [city] now.", "'[city]'"),
        ("placeholders", "As an AI, I have no age.", "'As an AI'"),
        ("placeholders", "I'm just an AI assistant.", '"I\'m just an AI assistant"'),
        ("placeholders", "Sure! Here is a first-person backstory:\nI bake.", "'Here is a first-person backstory'"),
        ("placeholders", "My name is ____ and I bake.", "'____'"),
        ("placeholders", "I bake.</p>", "'</p>'"),
        ("ending", "I grew up in Ohio and then we", "mid-sentence: ...'I grew up in Ohio and then we'"),
        ("repetition", "I went to the store and then home. " * 20, "% of its five-word sequences are repeated"),
        ("repetition:repeated=1", "I went to the store and then home. " * 20, "packed to"),
        ("language", GERMAN, "its language is 'de'"),
        ("language:wanted=de", PROSE, "its language is 'en'"),
    ],
)
def test_a_check_says_what_is_wrong(spec, bad, said):
    assert said in reason(spec, bad)


@pytest.mark.parametrize(
    "text", ["I am an AI researcher.", "Here is the story of my life.", "Q. and A. are letters.", "3 < 4 and 5 > 2."]
)
def test_what_only_looks_like_a_comment_or_marker_passes(text):
    assert screen(text, checks_of(["markers", "placeholders"]), NOTHING) is None


@pytest.mark.parametrize("spec", ["words:least=50", *(name for name in CHECKS if name != "words")])
def test_plain_prose_passes_every_check(spec):
    assert reason(spec, PROSE) is None


def test_every_story_of_the_starter_passes_the_default_checks_and_every_answer_those_of_answers(starter):
    checks, of_answers = checks_of(["default"]), checks_of(["answers"])
    interviews = {p.persona_id: transcript(p.backstory) for p in starter if transcript(p.backstory)}
    stories = [p for p in starter if p.persona_id not in interviews]
    assert (len(stories), len(interviews)) == (300, 20)
    assert [p.persona_id for p in stories if screen(p.backstory, checks, NOTHING)] == []
    answers = [answer for turns in interviews.values() for _, answer in turns]
    assert len(answers) == 200 and [answer for answer in answers if screen(answer, of_answers, NOTHING)] == []


@pytest.mark.parametrize("spec", ["repetition", "language"])
def test_texts_too_short_to_tell_are_not_judged(spec):
    assert reason(spec, "Ja ja ja ja ja ja ja ja.") is None


@given(st.text(), st.sampled_from(sorted(CHECKS)))
def test_no_text_breaks_a_check(text, name):
    found = reason(name, text)
    assert found is None or found.strip()


@given(st.lists(st.sampled_from(sorted({*PRESETS, *CHECKS})), max_size=6))
def test_a_check_is_named_once_however_often_it_is_asked_for(specs):
    names = [check.name for check in checks_of(specs)]
    assert len(names) == len(set(names))


def test_a_later_check_replaces_its_like_in_a_preset():
    checks = checks_of(["paper", "words:least=10"])
    assert [check.to_dict() for check in checks] == [
        {"name": "words", "options": {"least": 10.0, "most": 100_000}},
        {"name": "interview", "options": {"most": 1}},
    ]


def test_the_paper_keeps_250_words_and_one_interview():
    said = "word " * 250
    assert screen(said + "interview", checks_of(["paper"]), NOTHING) is None
    assert screen("word " * 249, checks_of(["paper"]), NOTHING).check == "words"
    assert screen(said + "interview interviewer", checks_of(["paper"]), NOTHING).check == "interview"


def test_the_first_check_that_rejects_is_told():
    checks = checks_of(["placeholders", "words"])
    assert screen("[name]", checks, NOTHING) == Rejection(
        check="placeholders", reason="a slot or comment is left in it: '[name]'"
    )


def test_a_check_of_ones_own_is_used_by_name(monkeypatch):
    def no_cows(text, context, *, most: float = 0):
        return "cows" if text.count("cow") > most else None

    monkeypatch.setitem(CHECKS, "no_cows", no_cows)
    assert reason("no_cows", PROSE) == "cows" and reason("no_cows:most=1", PROSE) is None


@pytest.mark.parametrize(
    ("spec", "error", "said"),
    [
        ("lenght", UnknownNameError, "unknown check 'lenght': did you mean"),
        ("words:lest=3", UnknownNameError, "unknown option of the check 'words' 'lest': did you mean 'least'? Allowed"),
        ("words:least=many", OptionError, "least of the check 'words' must be a number, got 'many': write least=0.5"),
        ("words:least=nan", OptionError, "least of the check 'words' must be a number, got 'nan'"),
        ("first_person:share=20", OptionError, "share of the check 'first_person' must be between 0 and 1, got 20"),
        ("repetition:packed=-1", OptionError, "packed of the check 'repetition' must be between 0 and 1, got -1"),
        ("language:sure=90", OptionError, "sure of the check 'language' must be between 0 and 1, got 90"),
        ("language:wanted=english", UnknownNameError, "unknown language 'english'"),
    ],
)
def test_a_specification_that_is_none_is_refused(spec, error, said):
    with pytest.raises(error) as caught:
        checks_of([spec])
    assert said in str(caught.value)


def test_a_missing_package_is_told_before_there_are_texts(monkeypatch):
    screening._identifier.cache_clear()
    monkeypatch.setitem(sys.modules, "py3langid.langid", None)
    with pytest.raises(MissingExtraError, match=r"checks of the language need .*py3langid.*\[generate\]"):
        checks_of(["language"])
    screening._identifier.cache_clear()


# -- near duplicates -------------------------------------------------------------------------------------------------


def test_shared_words_make_a_near_duplicate_of_an_earlier_text():
    found = list(Neighbours(Check.of("near:alike=0")).reasons([PROSE, GERMAN, PROSE.replace("four", "five")]))
    assert found[:2] == [None, None] and "shares 70% or more of its five-word sequences" in found[2]


def test_meaning_makes_a_near_duplicate_where_words_do_not(encoder):
    other = PROSE.replace("on a small farm", "at a little farm").replace("My father", "Dad").replace("thirty", "30")
    find = Neighbours(Check.of("near:share=0"), encoder=encoder)
    first, second, third = find.reasons([PROSE, GERMAN, other])
    assert (first, second) == (None, None) and "its passages are alike to another text's (0.9" in third
    assert find.encoder_card == encoder.card.to_dict()


def test_what_is_near_to_a_collection_is_found_by_words_and_by_meaning(starter, encoder):
    story = starter[7].backstory
    for spec in ("near:alike=0", "near:share=0"):
        find = Neighbours(Check.of(spec), collection=starter, encoder=encoder)
        assert [bool(found) for found in find.reasons([story + " That is all.", PROSE])] == [True, False]


def test_an_interview_of_a_collection_is_compared_by_its_answers(starter):
    interview = next(persona for persona in starter if transcript(persona.backstory))
    answers = [answer.split()[:20] for _, answer in transcript(interview.backstory)]
    turns = zip(transcript(interview.backstory), answers, strict=True)
    text = "\n\n".join(f"{question}\n\nAnswer: {' '.join(said)}" for (question, _), said in turns)
    short = Anthology.from_records([{"backstory": text}], starter.codebook, name="short", licence="CC0-1.0")
    said = "\n\n".join(" ".join(answer) for answer in answers)
    assert list(Neighbours(Check.of("near:alike=0"), collection=short).reasons([said])) != [None]


def test_many_passages_find_the_text_they_belong_to(encoder):
    long = " ".join([PROSE] * 12)
    texts = [f"I am number {at}, and I keep bees." for at in range(3)]
    find = Neighbours(Check.of("near:share=0,alike=0.99"), encoder=encoder)
    assert [bool(found) for found in find.reasons([long, *texts[:1], long, ""])] == [False, False, True, False]


@pytest.mark.parametrize(("spec", "said"), [("near:alike=2", "between 0 and 1, got 2"), ("near:share=1", "got 1.0")])
def test_thresholds_of_near_duplicates_have_a_range(spec, said):
    with pytest.raises(OptionError, match=said):
        Neighbours(Check.of(spec))


# -- the critic ------------------------------------------------------------------------------------------------------


def finds_code(prompt, options):
    assert list(options) == ["Yes", "No"]
    return [0.7, 0.3] if "program code" in prompt.question and "print(" in prompt.question else [0.2, 0.8]


def test_a_critic_rejects_what_it_says_yes_to_and_keeps_the_probabilities():
    critic = Critic(model=ScriptedModel(finds_code))
    context = Context(question="Who are you?")
    good, bad = critic.verdicts([("I am a baker.", context), ("print('me')", context)])
    assert good.rejection is None and set(good.probs.values()) == {0.2}
    assert bad.rejection == Rejection(check="critic:code", reason="the critic says yes (0.70)")
    assert bad.probs["code"] == 0.7 and bad.masses["code"] == 1.0
    assert len(good.probs) == 6, "nothing was said before that could be contradicted"


def test_consistency_is_asked_with_all_that_was_said_before():
    critic = Critic(model=ScriptedModel("uniform"), checks=("inconsistent",), threshold=1.0)
    context = Context(question="Have you siblings?", turns=(("Who are you?", "An only child."),))
    prompt = critic.prompts("Two sisters.", context)["inconsistent"]
    assert prompt.question == (
        "Earlier in the interview:\nQuestion: Who are you?\nAnswer: An only child.\n\nThe person was then asked:\n"
        "Have you siblings?\n\nThe person said:\nTwo sisters.\n\nDoes what the person said contradict a fact that the "
        "person told earlier? Answer with Yes or No."
    )
    alone = critic.verdicts([("Two sisters.", Context(question="Have you siblings?"))])
    assert (alone[0].probs, alone[0].tokens, alone[0].rejection) == ({}, 0, None)
    assert critic.verdicts([("Two sisters.", context)])[0].tokens == len(prompt.as_text().split())


def test_one_text_with_and_one_without_earlier_turns_are_told_apart():
    critic = Critic(model=ScriptedModel("uniform"), checks=("inconsistent", "code"), threshold=0.6)
    with_turns = Context(question="b", turns=(("a", "A."),))
    first, second = critic.verdicts([("B.", Context(question="a")), ("B.", with_turns)])
    assert list(first.probs) == ["code"] and list(second.probs) == ["inconsistent", "code"]


def test_a_text_of_which_nothing_is_asked_passes_beside_one_of_which_something_is():
    critic = Critic(model=ScriptedModel("first"), checks=("inconsistent",))
    first, second = critic.verdicts(
        [("B.", Context(question="a")), ("B.", Context(question="b", turns=(("a", "A."),)))]
    )
    assert (first.probs, first.tokens, first.rejection) == ({}, 0, None)
    assert second.rejection.check == "critic:inconsistent"


class Babbler(ScriptedModel):
    """Says yes, but seldom says yes or no at all."""

    def choose(self, prompts, options, sampling):
        return [Choice(probs=(0.99, 0.01), mass=0.01) for _ in prompts]


def test_a_critic_that_says_neither_yes_nor_no_rejects_nothing():
    verdict = Critic(model=Babbler("first")).verdicts([("I bake.", Context(question="?"))])[0]
    assert verdict.rejection is None and verdict.masses["code"] == 0.01


@given(st.floats(0.01, 1.0), st.floats(0.0, 1.0))
def test_a_critic_rejects_from_its_threshold_on(threshold, prob):
    model = ScriptedModel(lambda _prompt, _options: [prob, 1 - prob])
    verdict = Critic(model=model, checks=("code",), threshold=threshold).verdicts([("I bake.", NOTHING)])[0]
    assert (verdict.rejection is not None) == (round(prob, 6) >= threshold)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"checks": ("cod",)}, "unknown question for a critic 'cod': did you mean 'code'?"),
        ({"threshold": 0.0}, "a threshold above 0 and at most 1 and something to ask, got 0.0"),
        ({"checks": ()}, "ask some of third_party"),
    ],
)
def test_a_critic_has_something_to_ask(options, said):
    with pytest.raises(AnthologyError) as caught:
        Critic(model=ScriptedModel("first"), **options)
    assert said in str(caught.value)


def test_a_critic_tells_what_its_verdicts_depend_on():
    told = Critic(model=ScriptedModel("first"), checks=("code",)).to_dict()
    assert told["model"]["model"] == "first" and told["checks"] == ["code"] and len(told["wording"]) == 16
