"""Who answers: what is told of a person in each way. The golden files of test_prompts hold the whole wordings."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anthology_hub.conditioning import APPENDS, STORIED, Introduction, introduce, needs_levels, transcript
from anthology_hub.errors import OptionError
from anthology_hub.prompts import CONDITIONINGS, LETTERS
from anthology_hub.schema import Codebook, Persona, Role, Trait

STORY = "I grew up in Toledo."
PERSONA = Persona(persona_id=Persona.id_of(STORY), backstory=STORY)
CODEBOOK = Codebook(
    name="own",
    traits=(
        Trait(name="age", label="Age", question="How old are you?", levels=("young", "old"), bio="I am {}."),
        Trait(
            name="home_town", label="Town", question="Where is home?", levels=("N", "S"), bio="In {}.",
            spoken=("the North", "the South"),
        ),
        Trait(name="how", label="How", question="As {home_town}, how much?", levels=("a", "b", "c"), bio="{}."),
    ),
)  # fmt: skip
LEVELS = {"age": "old", "home_town": "S", "how": "b"}
ROLE = Role(respondent_id="r1", weight=1.0, traits={"age": "I am old."}, levels=LEVELS, persona=PERSONA)


def test_context_is_nothing_or_traits_or_backstory_then_traits():
    role = Role(respondent_id="r1", weight=1.0, traits={"age": "My age is 65."}, persona=PERSONA)
    assert introduce(role, "nothing", seed=0) == Introduction()
    assert introduce(role, "bio", seed=0).context.endswith("\nDescription: My age is 65.")
    assert introduce(role, "anthology", seed=0).context == (
        f"{STORY}\n\nQuestion: Please provide a demographic information of yourself.\nAnswer: My age is 65."
    )


def test_a_respondent_without_known_traits_gets_no_empty_header():
    role = Role(respondent_id="r1", weight=1.0, traits={}, persona=PERSONA)
    assert introduce(role, "bio", seed=0).context == ""
    assert introduce(role, "anthology", seed=0).context == STORY


def test_unknown_conditioning_is_refused_with_the_allowed_ones():
    with pytest.raises(OptionError, match="unknown conditioning 'silicon': allowed are nothing, bio, anthology"):
        introduce(Role(respondent_id="r1", weight=1.0, traits={}), "silicon", seed=0)


def test_a_backstory_is_asked_for_by_the_name_of_the_respondent_who_lacks_one():
    with pytest.raises(OptionError, match=r"needs a persona for respondent 'r7'.*match\(\.\.\.\).*'bio' or 'nothing'"):
        introduce(Role(respondent_id="r7", weight=1.0, traits={}), "anthology", seed=0)


# -- traits as questions and as a list


def test_traits_as_questions_have_the_options_of_the_codebook_and_the_respondents_own_letters():
    turns = introduce(ROLE, "qa", seed=0, codebook=CODEBOOK).turns
    assert dict(turns) == {
        "Question: How old are you?\n(A) young\n(B) old\nAnswer with (A) or (B).": "(B)",
        "Question: Where is home?\n(A) the North\n(B) the South\nAnswer with (A) or (B).": "(B)",
        "Question: As the South, how much?\n(A) a\n(B) b\n(C) c\nAnswer with (A), (B), or (C).": "(B)",
    }


def test_traits_as_a_list_have_their_names_in_words():
    lines = introduce(ROLE, "portray", seed=0, codebook=CODEBOOK).context.splitlines()
    assert sorted(lines[1:]) == ["age: old", "home town: the South", "how: b"]


def test_traits_in_free_form_follow_the_backstory_as_questions_with_their_answers():
    told = introduce(ROLE, "anthology", append="free-form", seed=0, codebook=CODEBOOK)
    assert told.context == STORY
    assert dict(told.turns) == {
        "Question: How old are you?": "old",
        "Question: Where is home?": "the South",
        "Question: As the South, how much?": "b",
    }


def test_a_backstory_alone_is_told_with_nothing_after_it():
    assert introduce(ROLE, "anthology", append="none", seed=0) == Introduction(context=STORY)


@pytest.mark.parametrize("conditioning", ["qa", "portray"])
def test_traits_come_in_an_order_that_seeds_change_and_the_order_given_does_not(conditioning):
    turned = Role(respondent_id="r1", weight=1.0, traits={}, levels=dict(reversed(LEVELS.items())))
    told = [introduce(ROLE, conditioning, seed=seed, codebook=CODEBOOK) for seed in range(60)]
    assert len({(each.context, each.turns) for each in told}) == 6
    assert told == [introduce(turned, conditioning, seed=seed, codebook=CODEBOOK) for seed in range(60)]


@given(st.sets(st.sampled_from(sorted(LEVELS))), st.integers(0, 99))
def test_unknown_traits_are_left_out_and_the_known_ones_told_once(known, seed):
    role = Role(respondent_id="r1", weight=1.0, traits={}, levels={name: LEVELS[name] for name in known})
    asked = introduce(role, "qa", seed=seed, codebook=CODEBOOK).turns
    listed = introduce(role, "portray", seed=seed, codebook=CODEBOOK).context.splitlines()[1:]
    assert len(asked) == len(listed) == len(known)
    assert {line.split(":")[0].replace(" ", "_") for line in listed} == known


@pytest.mark.parametrize("conditioning", ["qa", "portray"])
def test_a_respondent_without_known_levels_is_told_as_nothing(conditioning):
    role = Role(respondent_id="r1", weight=1.0, traits={}, levels={"shoe size": "9"})
    assert introduce(role, conditioning, seed=0, codebook=CODEBOOK) == Introduction()


def test_a_trait_with_more_levels_than_letters_is_numbered():
    levels = tuple(f"level {at}" for at in range(len(LETTERS) + 1))
    trait = Trait(name="many", label="Many", question="Which?", levels=levels, bio="{}.")
    role = Role(respondent_id="r1", weight=1.0, traits={}, levels={"many": levels[-1]})
    ((question, answer),) = introduce(role, "qa", seed=0, codebook=Codebook(name="c", traits=(trait,))).turns
    assert answer == "(27)" and "(27) level 26\n" in question


# -- interviews


PLAIN = st.text("abc .\n", min_size=1, max_size=30).map(str.strip).filter(bool)


@given(st.lists(st.tuples(PLAIN, PLAIN), min_size=1, max_size=4))
def test_a_transcript_comes_apart_into_the_turns_it_was_made_of(turns):
    turns = [(question.replace("\n", " "), answer) for question, answer in turns]
    story = "\n\n".join(f"Question: {question}\n\nAnswer: {answer}" for question, answer in turns)
    assert transcript(story) == tuple((f"Question: {question}", answer) for question, answer in turns)


@given(st.text())
def test_any_text_is_a_transcript_or_none(text):
    assert all(question.startswith("Question: ") for question, _ in transcript(text))


def test_an_interview_is_told_turn_by_turn_and_then_the_traits():
    story = "Question: Who are you?\n\nAnswer: A baker.\n\nAnd a cook."
    role = Role(
        respondent_id="r1", weight=1.0, traits={"age": "I am old."}, persona=Persona(persona_id="p", backstory=story)
    )
    told = introduce(role, "interview", seed=0)
    assert told.context == ""
    assert told.turns == (
        ("Question: Who are you?", "A baker.\n\nAnd a cook."),
        ("Question: Please provide a demographic information of yourself.", "I am old."),
    )
    assert introduce(role, "interview", append="none", seed=0).turns == told.turns[:1]


# -- wrong arguments


@pytest.mark.parametrize(
    "story", ["I am a baker.", "Once. Question: Who?\n\nAnswer: I.", "Question: Who?", "Question:\nAnswer: x"]
)
def test_a_backstory_that_is_no_interview_is_named_with_what_to_do(story):
    role = Role(respondent_id="r1", weight=1.0, traits={}, persona=Persona(persona_id="p7", backstory=story))
    with pytest.raises(OptionError, match=r"'interview' needs .* of persona 'p7' is .*: use conditioning 'anthology'"):
        introduce(role, "interview", seed=0)


def test_an_unknown_append_is_refused_with_the_allowed_ones():
    with pytest.raises(OptionError, match="unknown append 'list': allowed are bio, qa, free-form, none"):
        introduce(ROLE, "anthology", append="list", seed=0)


def test_traits_cannot_follow_a_backstory_that_is_not_told():
    with pytest.raises(OptionError, match=r"append='qa' .* conditioning 'bio' tells none: leave it out, or use antho"):
        introduce(ROLE, "bio", append="qa", seed=0)


@pytest.mark.parametrize("conditioning", CONDITIONINGS)
@pytest.mark.parametrize("append", APPENDS)
def test_what_needs_levels_says_so_where_the_cast_has_none(conditioning, append):
    if append != "bio" and conditioning not in STORIED:
        return
    role = Role(
        respondent_id="r1", weight=1.0, traits={}, levels=LEVELS,
        persona=Persona(persona_id="p", backstory="Question: Who?\n\nAnswer: I."),
    )  # fmt: skip
    if not needs_levels(conditioning, append):
        introduce(role, conditioning, append=append, seed=random.getrandbits(9))
        return
    with pytest.raises(OptionError, match=r"needs the levels of the respondents' traits.*match\(\.\.\.\) or unmatched"):
        introduce(role, conditioning, append=append, seed=0)
