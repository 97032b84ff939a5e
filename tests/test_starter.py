"""The starter collection is what its sources say; its checker finds nothing in it, and every fault that is planted."""

import json
import re
import sys
from copy import deepcopy

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anthology_hub.collection import Anthology
from anthology_hub.conditioning import transcript
from anthology_hub.schema import DATA, Codebook
from tests.conftest import ROOT

sys.path.insert(0, str(ROOT / "scripts"))
import build_starter
import check_starter

STARTER = DATA / "starter"
TABLES = ("personas", "annotations", "embeddings/all-MiniLM-L6-v2")


@pytest.fixture(scope="module")
def rebuilt(encoder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("starter") / "one"
    build_starter.build(folder, encoder)
    return folder


@pytest.fixture(scope="module")
def stories():
    return build_starter.read_stories()


@pytest.fixture(scope="module")
def profiles():
    return build_starter.read_profiles()


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# -- build


@pytest.mark.slow
def test_two_builds_give_the_same_bytes(rebuilt, encoder, tmp_path):
    build_starter.build(tmp_path / "two", encoder)
    assert contents(rebuilt) == contents(tmp_path / "two")


@pytest.mark.slow
def test_the_committed_collection_is_what_its_sources_give(rebuilt):
    assert set(contents(rebuilt)) == set(contents(STARTER))
    for name in ("README.md", "CHANGELOG.md", "codebook.json"):
        assert (rebuilt / name).read_text() == (STARTER / name).read_text()
    for name in TABLES:
        one, other = (pd.read_parquet(folder / name) for folder in (rebuilt, STARTER))
        if "vector" in one:
            # Another machine may differ in the last digits of a sum.
            np.testing.assert_allclose(np.stack(one.pop("vector")), np.stack(other.pop("vector")), atol=1e-4)
        pd.testing.assert_frame_equal(one, other)
    manifests = [json.loads((folder / "manifest.json").read_text()) for folder in (rebuilt, STARTER)]
    for manifest in manifests:
        manifest.pop("files")
        manifest["indexes"]["all-MiniLM-L6-v2"].pop("faiss")
    assert manifests[0] == manifests[1]


def test_every_story_is_there_once_in_the_order_of_the_profiles(starter, stories, profiles):
    by_profile = {story["profile"]: story["backstory"] for story in stories}
    by_profile |= {i["profile"]: build_starter.transcript(i["answers"]) for i in build_starter.read_interviews()}
    assert [p.backstory for p in starter] == [by_profile[key] for key in profiles]
    assert starter.to_dataset()["source_key"][:] == list(profiles)
    assert len(starter) == 320


def test_every_trait_is_the_profiles_own_with_probability_one(starter, profiles):
    for persona, profile in zip(starter, profiles.values(), strict=True):
        level = persona.traits
        low, high = re.match(r"(\d+)(?:-(\d+))?", level["age"]).groups()
        assert int(low) <= int(profile["age"]) <= int(high or 120)
        same = ("gender", "race", "household_income", "party", "region")
        assert [level[name] for name in same] == [profile[name] for name in same]
        assert level["marital"].lower() == profile["marital"]
        assert (level["children"] == profile["children"]) or (level["children"], profile["children"]) == (
            "8 or more",
            "8",
        )
    for trait in starter.codebook.traits:
        assert set(np.unique(starter.distribution(trait.name))) == {0, 1}


def test_interviews_are_told_turn_by_turn_and_apart_from_stories(starter):
    prompts = starter.to_dataset()["prompt_id"][:]
    assert (prompts.count(build_starter.NATURAL), prompts.count(build_starter.INTERVIEW)) == (300, 20)
    turns = [transcript(persona.backstory) for persona in starter]
    assert [len(told) for told in turns] == [0] * 300 + [10] * 20
    assert turns[-1][0][0].startswith("Question: To start, I would like to begin with a big question")
    assert min(sum(len(answer.split()) for _, answer in told) for told in turns[300:]) >= 1200


def test_the_first_release_is_still_there(starter):
    first = starter.to_dataset()["source_key"][:150]
    assert first == [f"s{at:03}" for at in range(150)]
    assert "## 1.1.0" in (STARTER / "CHANGELOG.md").read_text().split("## 1.0.0")[0]


def test_every_quote_is_in_its_story(starter):
    quotes = 0
    for persona in starter:
        for annotation in starter.annotations_of(persona.persona_id):
            assert annotation["method"] == "author"
            if annotation["evidence"] is not None:
                assert annotation["evidence"] in persona.backstory
                quotes += 1
    assert quotes > 300


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        ({"age": "18"}, {"age": "18-29"}),
        ({"age": "29"}, {"age": "18-29"}),
        ({"age": "30"}, {"age": "30-49"}),
        ({"age": "64"}, {"age": "50-64"}),
        ({"age": "65"}, {"age": "65+"}),
        ({"age": "40", "children": "8"}, {"age": "30-49", "children": "8 or more"}),
        ({"age": "40", "education": "Associate/some college degree"}, {"age": "30-49", "education": "Associate"}),
        ({"age": "40", "religion": "muslim/islam"}, {"age": "30-49", "religion": "Muslim"}),
        ({"age": "40", "profile": "s1", "work": "in school"}, {"age": "30-49", "work": "In school"}),
    ],
)
def test_profiles_are_told_in_levels_of_the_codebook(profile, expected):
    assert build_starter.levels_of(profile) == expected
    for trait, level in expected.items():
        assert level in Codebook.load("starter").trait(trait).levels


# -- card


def test_the_card_tells_licence_author_and_what_it_must_not_be_used_for(starter):
    card = (STARTER / "README.md").read_text()
    assert card.startswith("---\n")
    assert "\nlicense: cc-by-4.0\n" in card
    text = " ".join(card.split())
    assert "licence CC-BY-4.0" in text
    assert "A large language model wrote every story" in text
    assert "No story is about a real person" in text
    for use in (
        "Not as data about any group of people",
        "Not to replace human respondents in decisions",
        "nor to claim what a population thinks",
        "not to imitate or target real people",
        "not to manufacture the appearance of public opinion",
    ):
        assert use in text.split("What they must not be used for.")[1]
    words = [len(p.backstory.split()) for p in starter]
    figures = [320, min(words), round(np.median(words)), round(np.mean(words)), max(words), sum(words)]
    assert f"| {' | '.join(map(str, figures))} |" in text


def test_the_margins_of_the_card_are_those_of_the_data_and_of_the_codebook(starter):
    table = (STARTER / "README.md").read_text().split("## Margins")[1].split("##")[0]
    rows = re.findall(r"^\| (\w*) \| (.+?) \| ([\d.]+) \| ([\d.]+) \| ([\d.inf]*) \|$", table, re.M)
    assert len(rows) == sum(len(trait.levels) for trait in starter.codebook.traits)
    shown = iter(rows)
    for trait in starter.codebook.traits:
        lines = [next(shown) for _ in trait.levels]
        shares = np.array(list(starter.margins(trait.name).values()))
        assert [line[1] for line in lines] == list(trait.levels)
        np.testing.assert_allclose([float(line[2]) for line in lines], shares, atol=5.1e-4)
        np.testing.assert_allclose([float(line[3]) for line in lines], trait.population, atol=5.1e-4)
        target = np.array(trait.population)
        used = shares > 0
        by_hand = (shares[used] * np.log(shares[used] / (target / target.sum())[used])).sum()
        assert float(lines[0][4]) == pytest.approx(by_hand, abs=2e-3)
        assert lines[0][0] == trait.name


# -- checker


@pytest.mark.slow
def test_the_shipped_stories_have_no_fault(capsys):
    assert check_starter.main() == 0
    assert capsys.readouterr().out.splitlines()[-1] == "320 stories, 0 faults"


@pytest.fixture
def some(stories, profiles):
    """Four stories with room for a sentence more, and their profiles."""
    short = [story for story in stories if len(story["backstory"].split()) < 300][:4]
    return deepcopy(short), {story["profile"]: dict(profiles[story["profile"]]) for story in short}


def faults_of(some, encoder, about=0):
    stories, profiles = some
    found = check_starter.check(stories, profiles, encoder)
    key = list(profiles)[about]
    return [fault.removeprefix(f"{key}: ") for fault in found if fault.startswith(f"{key}: ")]


def test_some_shipped_stories_have_no_fault(some, encoder):
    assert check_starter.check(*some, encoder) == []


PLANTED = {
    "too short": (lambda text: " ".join(text.split()[:179]), r"179 words, allowed are 180 to 350"),
    "too long": (lambda text: " ".join((text.split() * 2)[:351]), r"351 words, allowed are 180 to 350"),
    "square brackets": (lambda text: f"{text} I live in [CITY].", r"placeholder or comment: '\['"),
    "a to-do": (lambda text: f"{text} TODO more of me.", r"placeholder or comment: 'TODO'"),
    "the writer speaks": (lambda text: f"{text} As an AI, I have none.", r"placeholder or comment: 'As an AI'"),
    "third person": (lambda text: check_starter.FIRST_PERSON.sub("she", text), r"too few first-person words"),
    "stray white space": (lambda text: f"{text}\n", r"odd characters or stray white space"),
    "a foreign letter": (lambda text: f"{text} I saw 春.", r"odd characters or stray white space"),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_a_fault_planted_in_a_text_is_found(some, encoder, fault):
    change, said = PLANTED[fault]
    story = some[0][0]
    story["backstory"] = change(story["backstory"])
    story["evidence"] = {}
    assert [found for found in faults_of(some, encoder) if re.fullmatch(said, found)]


def test_a_quote_that_is_not_in_the_text_is_found(some, encoder):
    some[0][0]["evidence"]["age"] = "I am as old as the hills"
    assert faults_of(some, encoder) == ["evidence for age is not in the text: 'I am as old as the hills'"]


def says(some, sentence, **profile):
    some[0][0]["backstory"] += f" {sentence}"
    some[1][some[0][0]["profile"]].update(profile)


def without_ages(some):
    text = some[0][0]["backstory"]
    some[0][0].update(backstory=check_starter.AGE.sub("I'm grown", text), evidence={})


@pytest.mark.parametrize("words", ["I'm 52.", "I am fifty-two now.", "I'm just fifty two, and I know it."])
def test_a_wrong_age_is_found_and_the_right_one_is_none(some, encoder, words):
    without_ages(some)
    says(some, words, age="52")
    assert faults_of(some, encoder) == []
    some[1][some[0][0]["profile"]]["age"] = "53"
    assert faults_of(some, encoder) == ["says an age of [52], the profile's age is 53"]


@pytest.mark.parametrize("sentence", ["I still live in Ohio.", "We live outside Columbus, Ohio.", "I live near Ohio."])
def test_a_wrong_region_is_found_and_the_right_one_is_none(some, encoder, sentence):
    says(some, sentence, region="Midwest")
    assert not [fault for fault in faults_of(some, encoder) if "Ohio" in fault]
    some[1][some[0][0]["profile"]]["region"] = "South"
    found = [fault for fault in faults_of(some, encoder) if "Ohio" in fault]
    assert found == [f"says {sentence.rstrip('.')!r}, the profile lives in the South"]


@pytest.mark.parametrize(
    ("sentence", "right", "wrong"),
    [("I have three kids.", "3", "2"), ("I raised 2 children.", "2", "0"), ("We never had kids.", "0", "1")],
)
def test_a_wrong_number_of_children_is_found_and_the_right_one_is_none(some, encoder, sentence, right, wrong):
    says(some, sentence, children=right)
    assert not [fault for fault in faults_of(some, encoder) if "children" in fault]
    some[1][some[0][0]["profile"]]["children"] = wrong
    said = sentence.rstrip(".").removeprefix("We ")
    assert faults_of(some, encoder) == [f"says {said!r}, the profile has {wrong} children"]


def test_a_copied_story_is_found_by_opening_wording_and_meaning(some, encoder):
    stories, _ = some
    one, other = stories[1]["profile"], stories[0]["profile"]
    stories[1].update(backstory=stories[0]["backstory"], evidence={})
    found = faults_of(some, encoder, about=1)
    assert any(fault.startswith(f"opens like {other}: ") for fault in found)
    together = check_starter.check(*some, encoder)
    assert any(re.search(rf"^{other}: shares \d+ five-word sequences with {one}$", fault) for fault in together)
    assert any(fault == f"{other}: story too like {one}: cosine 1.000" for fault in together)
    assert any(fault == f"{other}: passage too like {one}: cosine 1.000" for fault in together)


def test_a_story_told_again_in_other_words_is_found_by_meaning(some, encoder):
    stories, profiles = some
    again = " ".join(w for w in stories[0]["backstory"].split() if w.lower() not in ("the", "a", "and"))
    stories[1].update(backstory=f"Yes, it is true. {again}", evidence={})
    one, other = (story["profile"] for story in stories[:2])
    found = check_starter.check(stories, profiles, encoder)
    assert [fault for fault in found if fault.startswith(f"{one}: story too like {other}: cosine 0.9")]


def test_a_missing_a_doubled_and_an_unknown_story_are_found(some, encoder):
    stories, profiles = some
    gone = stories.pop()
    twice = deepcopy(stories[0])
    nobody = {**deepcopy(gone), "profile": "s999"}
    found = check_starter.check([*stories, twice, nobody], profiles, encoder)
    assert found[:3] == [f"{gone['profile']}: no story", f"{twice['profile']}: 2 stories", "s999: no such profile"]


def test_the_same_opening_is_found(some, encoder):
    for story in some[0][:2]:
        story["backstory"] = f"Well, here goes nothing, said {story['profile']}. {story['backstory']}"
    assert faults_of(some, encoder, about=1) == [f"opens like {some[0][0]['profile']}: 'well, here goes nothing, said'"]


def test_a_five_word_phrase_may_be_in_three_stories_but_not_in_four(some, encoder):
    stories, profiles = some
    phrase = "Nobody ever asked me twice."
    for story in stories[:3]:
        story["backstory"] += f" {phrase}"
    assert check_starter.check(stories, profiles, encoder) == []
    stories[3]["backstory"] += f" {phrase}"
    four = ", ".join(story["profile"] for story in stories[:4])
    assert check_starter.check(stories, profiles, encoder) == [
        f"{stories[0]['profile']}: 'nobody ever asked me twice' is in 4 stories: {four}"
    ]


UNITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
TEENS = ["ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"]
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]


@given(st.integers(0, 99), st.sampled_from(["-", " "]))
def test_a_number_is_read_in_digits_and_in_words(value, joint):
    tens, unit = divmod(value, 10)
    words = (UNITS + TEENS)[value] if value < 20 else TENS[tens - 2] + (joint + UNITS[unit] if unit else "")
    assert check_starter.number(str(value)) == check_starter.number(words) == value
    assert check_starter.stated_ages(f"I am {words} years old.") == ({value} if value >= 18 else set())


def test_an_age_in_a_sentence_with_a_year_may_be_of_that_year():
    assert check_starter.stated_ages("It's 1999 and I'm twenty, in love.") == {20, 39, 40, 41}
    assert check_starter.stated_ages("I'm twenty, in love.") == {20}
    assert check_starter.stated_ages("My son says I am old.") == set()


def test_the_starter_loads_by_its_name(starter):
    assert re.fullmatch(r"anthology-starter@1\.1\.0#[0-9a-f]{12}", Anthology.load("starter").identity)
