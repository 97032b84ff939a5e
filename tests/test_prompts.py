"""Prompts and replies. The golden files in tests/golden hold whole prompts, as a model reads them.

After a wanted change of the layout, write them anew and read the difference: `python tests/test_prompts.py`
"""

import difflib
import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anthology_hub.errors import OptionError
from anthology_hub.models.scripted import ScriptedModel
from anthology_hub.prompts import (
    CHAT_BARE,
    CONDITIONINGS,
    CONSISTENCY,
    LETTERS,
    Prompt,
    Reply,
    bio,
    context_of,
    derive_seed,
    option_order,
    parse_reply,
    question_text,
)
from anthology_hub.schema import ANSWERED, MISSING, REFUSED, UNPARSABLE, Matching, Persona, Question, Role, Survey
from anthology_hub.simulation import SimulateOptions, simulate

GOLDEN = Path(__file__).parent / "golden"
AGAIN = "if the new layout is wanted: python tests/test_prompts.py"
STORY = "I grew up in Toledo, Ohio, over my uncle's hardware store.\n\nI still have the key."
TRAITS = {"age": "My age is 65 or above.", "gender": "I am a woman.", "region": "I live in the Midwest."}
PERSONA = Persona(persona_id=Persona.id_of(STORY), backstory=STORY)


# -- golden files: the whole series of three questions


def series(conditioning):
    """Return the last prompt of a series of three questions, which holds all that was said before."""
    asked = []

    def second(prompt, options):
        asked.append(prompt)
        return [0.0, 1.0, *[0.0] * (len(options) - 2)]

    role = Role(respondent_id="r1", weight=1.0, traits=TRAITS, persona=PERSONA)
    survey = Survey.load("gss-national-spending").select(["natenvir", "natarms", "nataid"])
    options = SimulateOptions(conditioning=conditioning)
    simulate(Matching(roles=(role,), method="greedy"), survey, ScriptedModel(second), seed=2, options=options)
    assert len(asked) == 3
    return asked[-1]


def rendered(conditioning):
    prompt = series(conditioning)
    messages = "".join(f"<<{m['role']}>>\n{m['content']}\n" for m in prompt.as_messages())
    return f"==== completion layout\n{prompt.as_text()}\n==== chat messages\n{messages}"


def compare_with_golden(name, text):
    wanted = (GOLDEN / name).read_text(encoding="utf-8")
    if text != wanted:
        lines = difflib.unified_diff(wanted.splitlines(), text.splitlines(), f"golden/{name}", "now", lineterm="")
        pytest.fail("\n".join([f"the prompts changed; {AGAIN}", *lines]), pytrace=False)


@pytest.mark.parametrize("conditioning", CONDITIONINGS)
def test_prompts_of_a_whole_series_are_those_of_the_golden_file(conditioning):
    compare_with_golden(f"{conditioning}.txt", rendered(conditioning))


def test_a_golden_mismatch_shows_the_changed_line_and_what_to_do():
    changed = (GOLDEN / "nothing.txt").read_text(encoding="utf-8").replace("(A) Too much", "A. Too much", 1)
    with pytest.raises(pytest.fail.Exception) as caught:
        compare_with_golden("nothing.txt", changed)
    lines = str(caught.value).splitlines()
    assert "python tests/test_prompts.py" in lines[0]
    assert "-(A) Too much" in lines and "+A. Too much" in lines


# -- layout


def test_text_and_messages_hold_the_same_turns_in_the_same_order():
    prompt = Prompt(context="I farm.", turns=(("Q1", "a1"), ("Q2", "a2")), question="Q3", start="(")
    assert prompt.as_text() == "I farm.\n\nQ1\nAnswer: a1\n\nQ2\nAnswer: a2\n\nQ3\nAnswer: ("
    system, *turns = prompt.as_messages()
    assert system["role"] == "system" and system["content"].endswith("\n\nI farm.")
    assert [(m["role"], m["content"]) for m in turns] == [
        ("user", "Q1"), ("assistant", "a1"), ("user", "Q2"), ("assistant", "a2"), ("user", "Q3"),
    ]  # fmt: skip


def test_without_a_context_nothing_is_said_about_a_person():
    prompt = Prompt(context="", turns=(), question="Q")
    assert prompt.as_text() == "Q\nAnswer:"
    assert prompt.as_messages() == [{"role": "system", "content": CHAT_BARE}, {"role": "user", "content": "Q"}]


def test_question_opens_with_preamble_then_consistency_and_ends_with_the_letters():
    question = Question(key="q", text="How much?", options=("Lots", "Some", "None"), codes=(1, 2, 3))
    text = question_text(question, (2, 0, 1), consistency=True, preamble="Listen.")
    assert text.splitlines() == [
        "Listen.", CONSISTENCY, "Question: How much?", "(A) None", "(B) Lots", "(C) Some",
        "Answer with (A), (B), or (C).",
    ]  # fmt: skip


@given(st.integers(2, 26), st.randoms())
def test_every_option_is_shown_once_under_its_letter(n, random):
    question = Question(key="q", text="Which?", options=tuple(f"option {i}" for i in range(n)), codes=tuple(range(n)))
    shown = random.sample(range(n), n)
    lines = question_text(question, shown, consistency=False).splitlines()
    assert lines[1:-1] == [f"({LETTERS[i]}) option {at}" for i, at in enumerate(shown)]
    assert [lines[-1].count(f"({letter})") for letter in LETTERS] == [1] * n + [0] * (26 - n)


def test_option_order_is_one_of_the_patterns_and_both_come_about_equally_often():
    question = Question(key="q", text="?", options=("a", "b", "c"), codes=(1, 2, 3))
    orders = [option_order(question, ("original", "reversed"), derive_seed("order", i)) for i in range(2000)]
    assert set(orders) == {(0, 1, 2), (2, 1, 0)}
    # Four standard deviations of a fair coin.
    assert abs(orders.count((2, 1, 0)) - 1000) < 4 * (2000 / 4) ** 0.5
    assert {option_order(question, ("original",), i) for i in range(50)} == {(0, 1, 2)}


def test_seeds_are_pinned_by_value():
    expected = int.from_bytes(hashlib.sha256(b"0\x1fr1/p1\x1fnatenvir\x1f0").digest()[:8], "big") >> 1
    assert derive_seed(0, "r1/p1", "natenvir", 0) == expected == 7988347909787743364
    assert derive_seed() == 8203414616412130826


@given(st.lists(st.text(st.characters(codec="ascii", categories=["L", "N"])), min_size=1, max_size=4))
def test_seeds_differ_where_a_part_differs_and_are_63_bits(parts):
    seed = derive_seed(*parts)
    assert 0 <= seed < 2**63
    assert seed != derive_seed(*parts, "")
    assert seed != derive_seed(parts[0] + "x", *parts[1:])


# -- who answers


def test_bio_says_every_trait_once_in_an_order_that_seeds_change():
    orders = {bio(TRAITS, seed=seed) for seed in range(60)}
    assert len(orders) == 6
    for text in orders:
        assert all(text.count(sentence) == 1 for sentence in TRAITS.values())
        assert len(text) == sum(map(len, TRAITS.values())) + 2


def test_bio_does_not_depend_on_the_order_in_which_traits_are_given():
    assert bio(TRAITS, seed=3) == bio(dict(reversed(TRAITS.items())), seed=3)


def test_context_is_nothing_or_traits_or_backstory_then_traits():
    role = Role(respondent_id="r1", weight=1.0, traits={"age": "My age is 65."}, persona=PERSONA)
    assert context_of(role, "nothing", seed=0) == ""
    assert context_of(role, "bio", seed=0).endswith("\nDescription: My age is 65.")
    assert context_of(role, "anthology", seed=0) == (
        f"{STORY}\n\nQuestion: Please provide a demographic information of yourself.\nAnswer: My age is 65."
    )


def test_a_respondent_without_known_traits_gets_no_empty_header():
    role = Role(respondent_id="r1", weight=1.0, traits={}, persona=PERSONA)
    assert context_of(role, "bio", seed=0) == ""
    assert context_of(role, "anthology", seed=0) == STORY


def test_unknown_conditioning_is_refused_with_the_allowed_ones():
    with pytest.raises(OptionError, match="unknown conditioning 'silicon': allowed are nothing, bio, anthology"):
        context_of(Role(respondent_id="r1", weight=1.0, traits={}), "silicon", seed=0)


def test_a_backstory_is_asked_for_by_the_name_of_the_respondent_who_lacks_one():
    with pytest.raises(OptionError, match=r"needs a persona for respondent 'r7'.*match\(\.\.\.\).*'bio' or 'nothing'"):
        context_of(Role(respondent_id="r7", weight=1.0, traits={}), "anthology", seed=0)


# -- replies

SPENDING = ["Too little", "About right", "Too much"]
LIKELY = ["Very likely", "Somewhat likely", "Not too likely", "Likely"]
AMOUNT = ["A great deal", "A fair amount", "Not too much", "Nothing at all"]


@pytest.mark.parametrize(
    ("text", "options", "option"),
    [
        # one letter, however it is set off
        ("(B)", SPENDING, 1),
        ("[B]", SPENDING, 1),
        ('"B"', SPENDING, 1),
        ("'B'", SPENDING, 1),
        ("\u201cB\u201d", SPENDING, 1),
        ("B.", SPENDING, 1),
        ("B)", SPENDING, 1),
        ("B:", SPENDING, 1),
        (" B ", SPENDING, 1),
        ("B", SPENDING, 1),
        ("I would say (C), I think.", SPENDING, 2),
        ("My answer is C.", SPENDING, 2),
        ("(C) or rather C", SPENDING, 2),
        # the text of one option
        ("too much", SPENDING, 2),
        ("ABOUT RIGHT!", SPENDING, 1),
        ("It is about right.", SPENDING, 1),
        # letter and text that agree
        ("(A) Too little", SPENDING, 0),
        ("Too little (A)", SPENDING, 0),
        ("(B) A fair amount", AMOUNT, 1),
        # an article is no letter
        ("A great question: too much.", SPENDING, 2),
        ("A lot, too much", SPENDING, 2),
        ("A little is too little", SPENDING, 0),
        ("A good deal of it, (B)", SPENDING, 1),
        ("A bad idea (C)", SPENDING, 2),
        ("As a man: B", SPENDING, 1),
        # nor is the first word or a later one of an option's own text
        ("A great deal", AMOUNT, 0),
        ("A fair amount", AMOUNT, 1),
        ("a fair amount.", AMOUNT, 1),
        ("Vitamin B", ["Vitamin C", "Vitamin B", "Vitamin A"], 1),
        # the pronoun is no letter where there is no ninth option
        ("I choose (B)", SPENDING, 1),
        ("I'd go with too much", SPENDING, 2),
        # options that contain each other
        ("Likely", LIKELY, 3),
        ("Not too likely", LIKELY, 2),
        ("I find that very likely.", LIKELY, 0),
        ("Somewhat likely (B)", LIKELY, 1),
        ("Unlikely, so (C)", LIKELY, 2),
        ("Don\u2019t know", ["Agree", "Don't know"], 1),
        # an option of one character that is its own letter
        ("(B)", ["A", "B"], 1),
        ("5", ["1", "5", "15"], 1),
    ],
)  # fmt: skip
def test_reply_that_names_one_option_is_that_option(text, options, option):
    assert parse_reply(text, options) == Reply(status=ANSWERED, option=option)


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("(A) Too much", SPENDING),
        ("(A) A fair amount", AMOUNT),
        ("B, I mean too little", SPENDING),
        ("(A) or (B)", SPENDING),
        ("A, B", SPENDING),
        ("Between too little and too much", SPENDING),
        ("Very likely, or just likely", LIKELY),
        ("(D)", SPENDING),
        ("b", SPENDING),
        ("BB", SPENDING),
        ("Unlikely", LIKELY),
        ("too  little", SPENDING),
        ("too littler", SPENDING),
        ("A little of both", SPENDING),
        ("A lot", SPENDING),
        ("It depends on the year.", SPENDING),
        ("I", SPENDING),
        ("", SPENDING),
        ("(A)", ["B", "A"]),
    ],
)
def test_reply_that_names_none_or_several_options_is_unparsable(text, options):
    assert parse_reply(text, options) == Reply(status=UNPARSABLE, option=MISSING)


@pytest.mark.parametrize(
    "text",
    [
        "I prefer not to say.",
        "I'd rather not answer that",
        "I refuse.",
        "I must decline",
        "No answer",
        "I can't answer this",
        "I cannot choose.",
        "I am unable to provide that",
        "I won\u2019t say",
        "I don't know",
        "I don\u2019t know.",
        "As an AI, my views are not like yours",
        "I'm a language model",
        "I don't have an opinion on that.",
        "No opinion.",
    ],
)
def test_reply_that_declines_is_refused(text):
    assert parse_reply(text, SPENDING) == Reply(status=REFUSED, option=MISSING)


def test_an_option_that_is_a_refusal_is_an_answer():
    assert parse_reply("Refuse", ["Accept", "Refuse"]) == Reply(status=ANSWERED, option=1)
    assert parse_reply("I don't know (B)", SPENDING) == Reply(status=ANSWERED, option=1)


WORDS = (
    st.text(st.sampled_from("abcdefg A.'-"), min_size=2, max_size=14)
    .map(str.strip)
    .filter(lambda text: len(text) > 1 and text[0].isalpha())
)


@given(st.lists(st.text(min_size=2), min_size=2, max_size=26, unique=True), st.data())
def test_a_shown_letter_in_brackets_alone_is_that_option(options, data):
    # An option whose text is in the reply itself competes with the letter by the rules.
    options = [
        option for option in options if option.strip("() ").casefold() not in {x.lower() for x in LETTERS} | {""}
    ]
    options += ["yes", "no"] if len(options) < 2 else []
    at = data.draw(st.integers(0, len(options) - 1))
    assert parse_reply(f"({LETTERS[at]})", options) == Reply(status=ANSWERED, option=at)


@given(st.lists(WORDS, min_size=2, max_size=6, unique_by=str.lower), st.data())
def test_an_option_text_alone_is_that_option_whatever_the_others_are(options, data):
    at = data.draw(st.integers(0, len(options) - 1))
    assert parse_reply(options[at], options) == Reply(status=ANSWERED, option=at)
    assert parse_reply(f"({LETTERS[at]}) {options[at].upper()}", options) == Reply(status=ANSWERED, option=at)


@given(st.text(), st.lists(st.text(min_size=1), min_size=2, max_size=8, unique=True))
def test_any_reply_amounts_to_a_status_and_an_option_only_where_answered(text, options):
    reply = parse_reply(text, options)
    assert reply.status in (ANSWERED, REFUSED, UNPARSABLE)
    assert reply.option in range(len(options)) if reply.status == ANSWERED else reply.option == MISSING


if __name__ == "__main__":
    for each in CONDITIONINGS:
        (GOLDEN / f"{each}.txt").write_text(rendered(each), encoding="utf-8")
