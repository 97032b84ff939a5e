"""Prompts and replies. The golden files in tests/golden hold whole prompts, as a model reads them.

After a wanted change of the layout, write them anew and read the difference: `python tests/test_prompts.py`
"""

import difflib
import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anthology_hub.conditioning import APPENDS, STORIED
from anthology_hub.models.scripted import ScriptedModel
from anthology_hub.prompts import (
    CHAT_BARE,
    CHAT_HEADER,
    CONDITIONINGS,
    CONSISTENCY,
    DIGEST,
    LETTERS,
    Prompt,
    answer_text,
    bio,
    derive_seed,
    folded,
    labels_of,
    option_order,
    question_text,
    turned,
)
from anthology_hub.schema import ANSWER_KINDS, Codebook, Matching, Persona, Question, Role, Survey
from anthology_hub.simulation import SimulateOptions, simulate

GOLDEN = Path(__file__).parent / "golden"
AGAIN = "if the new layout is wanted: python tests/test_prompts.py"
STORY = "I grew up in Toledo, Ohio, over my uncle's hardware store.\n\nI still have the key."
TRAITS = {"age": "My age is 65 or above.", "gender": "I am a woman.", "region": "I live in the Midwest."}
PERSONA = Persona(persona_id=Persona.id_of(STORY), backstory=STORY)


# -- golden files: the whole series of three questions


LEVELS = {"age": "65+", "gender": "Female", "region": "Midwest"}
INTERVIEW = (
    "Question: To start, tell me the story of your life.\n\nAnswer: I grew up in Toledo, Ohio.\n\nWe had a store.\n\n"
    "Question: Where do you live now?\n\nAnswer: Over the store, still."
)
CODEBOOK = Codebook.load("starter").coded(
    {"age": ("18-64", "65+"), "gender": ("Male", "Female"), "region": ("Midwest", "South")}
)


def cast_of(conditioning):
    story = INTERVIEW if conditioning == "interview" else STORY
    persona = Persona(persona_id=PERSONA.persona_id, backstory=story)
    role = Role(respondent_id="r1", weight=1.0, traits=TRAITS, levels=LEVELS, persona=persona)
    return Matching(roles=(role,), method="greedy", codebook=CODEBOOK)


def series(conditioning, append="bio", **options):
    """Return the last prompt of a series of three questions, which holds all that was said before."""
    asked = []

    def second(prompt, options):
        asked.append(prompt)
        return [0.0, 1.0, *[0.0] * (len(options) - 2)]

    survey = Survey.load("gss-national-spending").select(["natenvir", "natarms", "nataid"])
    how = SimulateOptions(conditioning=conditioning, append=append, **options)
    simulate(cast_of(conditioning), survey, ScriptedModel(second), seed=2, options=how)
    assert len(asked) == 3
    return asked[-1]


def layouts(prompt):
    messages = "".join(f"<<{m['role']}>>\n{m['content']}\n" for m in prompt.as_messages())
    return f"==== completion layout\n{prompt.as_text()}\n==== chat messages\n{messages}"


def rendered(name):
    return layouts(series(*name.split("+")))


def battery():
    """Return every kind of question as it is asked, with letters and with numbers."""
    fruit = {"options": ("Fig", "Plum", "Kiwi"), "codes": (1, 2, 9)}
    questions = [
        Question(key="choice", text="Which is best?", **fruit),
        Question(key="number", text="How many?", kind="number"),
        Question(key="low", text="How many?", kind="number", low=0),
        Question(key="high", text="How many?", kind="number", high=2.5),
        Question(key="hours", text="How long?", kind="number", low=0, high=24, unit="hours"),
        Question(key="multi", text="Which do you like?", kind="multi", **fruit),
        Question(key="least", text="Which do you like?", kind="multi", least=1, **fruit),
        Question(key="most", text="Which do you like?", kind="multi", most=2, **fruit),
        Question(key="both", text="Which do you like?", kind="multi", least=1, most=2, **fruit),
        Question(key="exactly", text="Which do you like?", kind="multi", least=2, most=2, **fruit),
        Question(key="ranking", text="Rank these.", kind="ranking", **fruit),
        Question(key="text", text="Why?", kind="text"),
    ]
    assert {question.kind for question in questions} == {*ANSWER_KINDS}
    shown = {question.key: tuple(reversed(range(len(question.options)))) for question in questions}
    return "\n\n".join(
        question_text(question, shown[question.key], consistency=True, preamble="Listen.", labels=labels)
        for labels in ("letters", "numbers")
        for question in questions
    )


NAMES = [
    *(name for name in CONDITIONINGS if name not in STORIED),
    *(f"{name}+{append}".removesuffix("+bio") for name in ("anthology", "interview") for append in APPENDS),
]


def compare_with_golden(name, text):
    wanted = (GOLDEN / name).read_text(encoding="utf-8")
    if text != wanted:
        lines = difflib.unified_diff(wanted.splitlines(), text.splitlines(), f"golden/{name}", "now", lineterm="")
        pytest.fail("\n".join([f"the prompts changed; {AGAIN}", *lines]), pytrace=False)


@pytest.mark.parametrize("name", NAMES)
def test_prompts_of_a_whole_series_are_those_of_the_golden_file(name):
    compare_with_golden(f"{name}.txt", rendered(name))


@pytest.mark.parametrize("append", APPENDS)
def test_a_primed_backstory_is_told_as_any_other(append):
    assert series("primed", append) == series("anthology", append)


def test_questions_of_every_kind_are_those_of_the_golden_file():
    compare_with_golden("questions.txt", battery())


def test_the_digest_of_the_first_wordings_stands_as_results_in_repositories_name_it():
    assert DIGEST == "f670dae963535df2840ea60c6e1710ed4fbef1dcffd70e978e47718c9ced50ef"


def test_every_golden_file_is_compared_with_something():
    assert {file.stem for file in GOLDEN.glob("*.txt")} == {*NAMES, "questions"}


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


@given(st.integers(2, 8), st.integers(0, 2**32), st.randoms())
def test_options_off_the_scale_hold_their_place_in_every_order(n, seed, random):
    off = tuple(random.sample(range(n), random.randint(0, n - 2)))
    question = Question(key="q", text="?", options=tuple("abcdefgh"[:n]), codes=tuple(range(n)), off_scale=off)
    plain, steps = replace(question, off_scale=()), question.on_scale
    written, back, mixed = (option_order(question, [name], seed) for name in ("original", "reversed", "shuffled"))
    assert written == tuple(range(n))
    for order in (back, mixed):
        assert sorted(order) == list(range(n)) and all(order[at] == at for at in off)
    assert [at for at in back if at in steps] == list(steps)[::-1]
    for order in (written, back, mixed):
        assert turned(question, turned(question, order)) == order != turned(question, order)
        assert turned(plain, order) == order[::-1]
    scale = replace(plain, options=plain.options[: len(steps)], codes=plain.codes[: len(steps)])
    assert [at for at in mixed if at in steps] == [steps[at] for at in option_order(scale, ["shuffled"], seed)]


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


def test_a_chat_opens_with_the_words_that_are_given():
    given = Prompt(context="I farm.", turns=(), question="Q", opening="Be this person.").as_messages()
    assert given[0]["content"] == "Be this person.\n\nI farm."
    bare = Prompt(context="As told.", turns=(), question="Q", opening="").as_messages()
    assert bare[0]["content"] == "As told."
    assert Prompt(context="I farm.", turns=(), question="Q").as_messages()[0]["content"].startswith(CHAT_HEADER)


def test_without_a_system_message_the_first_user_says_its_words():
    prompt = Prompt(context="I farm.", turns=(("Q1", "a1"),), question="Q2")
    first, *rest = folded(prompt.as_messages())
    assert first == {"role": "user", "content": f"{CHAT_HEADER}\n\nI farm.\n\nQ1"}
    assert rest == prompt.as_messages()[2:]


def test_labels_are_letters_or_numbers():
    assert labels_of(26) == tuple(LETTERS) and labels_of(3, "numbers") == ("1", "2", "3")
    question = Question(key="q", text="?", options=("x", "y"), codes=(1, 2))
    text = question_text(question, (1, 0), consistency=False, labels="numbers")
    assert text.splitlines() == ["Question: ?", "(1) y", "(2) x", "Answer with (1) or (2)."]


def test_an_answer_is_told_by_the_kind_of_its_question():
    fruit = Question(key="q", text="?", options=("fig", "plum", "kiwi"), codes=(1, 2, 3), kind="ranking")
    assert answer_text(fruit, (2, 0, 1)) == "kiwi, fig, plum"
    assert answer_text(fruit, (2, 0, 1), labels="letters") == "(C) kiwi, (A) fig, (B) plum"
    assert answer_text(Question(key="q", text="?", kind="number"), 1250000.0) == "1250000"
    assert answer_text(Question(key="q", text="?", kind="number"), 0.25) == "0.25"
    assert answer_text(Question(key="q", text="?", kind="text"), "Why not") == "Why not"


# -- who answers


def test_bio_says_every_trait_once_in_an_order_that_seeds_change():
    orders = {bio(TRAITS, seed=seed) for seed in range(60)}
    assert len(orders) == 6
    for text in orders:
        assert all(text.count(sentence) == 1 for sentence in TRAITS.values())
        assert len(text) == sum(map(len, TRAITS.values())) + 2


def test_bio_does_not_depend_on_the_order_in_which_traits_are_given():
    assert bio(TRAITS, seed=3) == bio(dict(reversed(TRAITS.items())), seed=3)


if __name__ == "__main__":
    (GOLDEN / "questions.txt").write_text(battery(), encoding="utf-8")
    for each in NAMES:
        (GOLDEN / f"{each}.txt").write_text(rendered(each), encoding="utf-8")
