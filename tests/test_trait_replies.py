"""A reply to a question on a trait: a level, a refusal, several levels or none; and quotes that are proved."""

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from anthology_hub.errors import DataError, UnknownNameError
from anthology_hub.schema import Codebook, Trait
from anthology_hub.trait_questions import asking_text, locating_prompt, locating_text
from anthology_hub.trait_replies import (
    FINDINGS,
    REPLY_STATUSES,
    declines,
    level_ranges,
    parse_finding,
    parse_trait_reply,
)

PAPER, STARTER = Codebook.load("anthology"), Codebook.load("starter")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
EVERY = [(codebook, trait) for codebook in (PAPER, STARTER) for trait in codebook.traits]
AMBIGUOUS, REFUSED, NONE = "ambiguous", "refused", "noncompliant"


def said(trait, text, codebook=PAPER):
    """The level that a reply says, or why there is none."""
    known = codebook.trait(trait)
    reply = parse_trait_reply(text, known)
    return known.levels[reply.level] if reply.status == "answered" else reply.status


# -- laws


@pytest.mark.parametrize(("codebook", "trait"), EVERY, ids=[f"{c.name}-{t.name}" for c, t in EVERY])
def test_every_option_parses_back_to_itself_however_it_is_rendered(codebook, trait):
    for at, (option, level) in enumerate(zip(trait.options, trait.levels, strict=True)):
        letter = LETTERS[at]
        rendered = [f"({letter})", f"({letter}) {option}", f"{letter}) {option}", option, option.lower(), f"{option}."]
        for text in [*rendered, f" {option}\n", f"I would say {option}", trait.sentence(level), level]:
            reply = parse_trait_reply(text, trait)
            assert (reply.status, reply.level) == ("answered", at), text


@pytest.mark.parametrize(("codebook", "trait"), EVERY, ids=[f"{c.name}-{t.name}" for c, t in EVERY])
def test_the_last_option_is_a_refusal_by_its_letter_and_by_its_text(codebook, trait):
    last = LETTERS[len(trait.levels)]
    for text in (f"({last})", f"({last}) {trait.decline}", trait.decline, f"{trait.decline.lower()}."):
        assert parse_trait_reply(text, trait).status == "refused", text


NAMES = st.text(st.characters(categories=["L", "N", "P", "Zs"]), min_size=2, max_size=25).filter(
    lambda text: len(text.strip(" .,;:!?\"'")) > 1
)


@given(st.lists(NAMES, min_size=2, max_size=8, unique_by=lambda text: " ".join(text.casefold().split())))
@example(["Hepatitis B", "Hepatitis A"])
@example(["18 to 29", "Prefer not to answer"])
@example(["I decline", "25 (A)"])
def test_options_of_a_users_own_parse_back_whatever_they_say(options):
    trait = Trait(name="own", label="Own", question="Which?", levels=tuple(options), bio="{}")
    bare = [" ".join(o.split()).casefold().strip(" .,;:!?\"'") for o in options]
    for at, option in enumerate(options):
        assert parse_trait_reply(f"({LETTERS[at]})", trait).level == at
        if bare.count(bare[at]) == 1:
            assert parse_trait_reply(option, trait).level in (at, -1)
            assert parse_trait_reply(option, trait).status in ("answered", AMBIGUOUS)


@given(st.text(max_size=120), st.sampled_from([trait for _, trait in EVERY]), st.randoms())
@example("(A) (B) $1,000,000,000,000 to 99999999999999999999 K", PAPER.trait("household_income"), __import__("random"))
def test_any_text_gives_a_level_or_a_reason_and_never_an_exception(text, trait, random):
    shown = list(range(len(trait.levels)))
    random.shuffle(shown)
    reply = parse_trait_reply(text, trait, shown)
    assert reply.status in REPLY_STATUSES
    assert (reply.level in shown) == (reply.status == "answered")


@given(st.text(alphabet="0123456789$,.-kK +<>abdeinorstuwxy()'AI", max_size=60))
def test_texts_of_numbers_never_raise_and_numeric_levels_only_come_from_them(text):
    for name in ("age", "household_income"):
        assert parse_trait_reply(text, PAPER.trait(name)).status in REPLY_STATUSES


@given(st.integers(18, 110), st.sampled_from(["{}", "I am {}", "{} years old", "I'm {}.", "My age is {}!", "age: {}"]))
def test_an_age_falls_into_its_range_however_it_is_said(age, form):
    known = PAPER.trait("age")
    expected = next(level for level, (low, high) in zip(known.levels, level_ranges(known), strict=True)
                    if low <= age <= high)  # fmt: skip
    assert said("age", form.format(age)) == expected


@given(st.integers(1, 400))
def test_an_income_falls_into_its_range_in_dollars_and_in_thousands(thousands):
    known = PAPER.trait("household_income")
    expected = next(level for level, (low, high) in zip(known.levels, level_ranges(known), strict=True)
                    if low <= thousands * 1000 <= high)  # fmt: skip
    for text in (f"${thousands},000", f"{thousands}k", f"about {thousands} thousand dollars a year", f"${thousands}K."):
        assert said("household_income", text) == expected


# -- precedence


def test_one_letter_decides_and_more_are_ambiguous():
    assert said("age", "(B) 18-29") == "30-49"
    assert said("age", "(A) or (B)") == AMBIGUOUS
    assert said("age", "(A) 18-29\n(B) 30-49") == AMBIGUOUS
    assert said("age", "(B), yes (B)") == "30-49"
    assert said("gender", "The answer is A.") == "Male"
    assert said("gender", "Option B") == said("gender", "(b)") == said("gender", '"B"') == "Female"


def test_words_that_are_letters_are_no_options():
    assert said("gender", "A woman") == "Female"
    assert said("household_income", "I make $25,000") == "20-30k"
    assert said("household_income", "(I)") == "80-90k"
    assert said("education", "B.A. from Ohio State") == "Bachelor's"
    assert said("education", "I have a Ph.D.") == "Doctoral"
    assert said("race", "I am like George W. Bush, white") == "White"
    assert said("race", "(Z)") == NONE


def test_a_refusal_beside_a_number_is_ambiguous_and_alone_a_refusal():
    assert said("age", "I'd prefer not to say, but 25") == AMBIGUOUS
    assert said("age", "I'd rather not say.") == REFUSED
    assert said("religion", "I decline to answer") == REFUSED
    assert said("region", "I don't know") == REFUSED
    assert said("region", "Not sure, maybe the Midwest") == "Midwest"
    assert said("party", "No preference") == said("party_leaning", "Neither") == REFUSED


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("twenty five", "18-29"),
        ("Sixty-seven", "65+"),
        ("I'm in my twenties", "18-29"),
        ("mid-50s", "50-64"),
        ("sixties", AMBIGUOUS),
        ("over 65", "65+"),
        ("65+", "65+"),
        ("over 18", AMBIGUOUS),
        ("at least 50", AMBIGUOUS),
        ("under 30", "18-29"),
        ("29 or younger", "18-29"),
        ("under 18", NONE),
        ("almost 50", "30-49"),
        ("between 30 and 50", "30-49"),
        ("25 to 35", AMBIGUOUS),
        ("I am 25 and my wife is 45", AMBIGUOUS),
        ("I am 45 with kids of 12 and 15", "30-49"),
        ("born in 1985", NONE),
        ("12", NONE),
        ("29.5", "18-29"),
    ],
)
def test_numbers_map_to_age_ranges(text, level):
    assert said("age", text) == level


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("$45,000", "40-50k"),
        ("45k", "40-50k"),
        ("$ 45.5k", "40-50k"),
        ("between 40 and 50 thousand", "40-50k"),
        ("$40,000 to $50,000", "40-50k"),
        ("100-150k", "100-150k"),
        ("about a hundred thousand dollars", "100-150k"),
        ("forty-five thousand dollars", "40-50k"),
        ("one hundred and twenty-five thousand", "100-150k"),
        ("two hundred thousand or more", "200k+"),
        ("a thousand", "<10k"),
        ("$50,000 or less", AMBIGUOUS),
        ("$1.5 million", "200k+"),
        ("less than 10k", "<10k"),
        ("over 200,000", "200k+"),
        ("over $100,000", AMBIGUOUS),
        ("since 2015 I've made $45,000", "40-50k"),
        ("$15 an hour", AMBIGUOUS),
        ("$2,000 monthly", AMBIGUOUS),
        ("45", NONE),
        ("enough", NONE),
    ],
)
def test_sums_map_to_income_ranges(text, level):
    assert said("household_income", text) == level


@pytest.mark.parametrize(
    ("trait", "text", "level"),
    [
        ("religion", "Other", "Other"),
        ("religion", "Nothing in particular", "Nothing in particular"),
        ("religion", "I'm a Baptist", "Protestant"),
        ("religion", "I am not religious", "Nothing in particular"),
        ("religion", "LDS", "Mormon"),
        ("education", "I didn't finish high school", "Less than high school"),
        ("education", "I never graduated from high school", "Less than high school"),
        ("education", "I have a bachelor's degree and a master's degree", AMBIGUOUS),
        ("education", "I don't have a bachelor's degree", NONE),
        ("gender", "trans woman", "Other"),
        ("gender", "I am a woman", "Female"),
        ("race", "not white", NONE),
        ("race", "white and Asian", AMBIGUOUS),
        ("race", "I'm biracial", "Other"),
        ("region", "I live in West Virginia", "South"),
        ("region", "Seattle, Washington", "West"),
        ("region", "Washington, D.C.", "South"),
        ("region", "I live in Southern California.", "West"),
        ("region", "western Pennsylvania", "Northeast"),
        ("region", "West Texas", "South"),
        ("region", "in the south of Ohio", "Midwest"),
        ("region", "Southeast Michigan", "Midwest"),
        ("region", "northwest Washington, D.C.", "South"),
        ("region", "I am not in the South", NONE),
        ("region", "I don't live in the West", NONE),
        ("region", "I am not from Texas but from Ohio.", "Midwest"),
        ("region", "I don't know, but not in the West, in the South", "South"),
        ("religion", "I don't have a religion.", "Nothing in particular"),
        ("party", "I do not consider myself a Republican.", NONE),
        ("party", "I am not a Democrat", NONE),
        ("party", "Neither, I'm an independent", "Independent"),
        ("party_strength", "a not very strong Republican", "Not very strong"),
        ("ideology", "very liberal", "Very liberal"),
        ("ideology", "somewhere in the middle... a moderate", "Moderate"),
    ],
)
def test_levels_are_found_by_their_words_and_the_longer_match_wins(trait, text, level):
    assert said(trait, text) == level


def test_letters_follow_the_order_in_which_levels_were_shown():
    party = PAPER.trait("party")
    assert parse_trait_reply("(A)", party, (1, 0, 2, 3)).level == party.code("Democrat")
    assert parse_trait_reply("(E)", party, (1, 0, 2, 3)).status == "refused"


def test_a_single_letter_that_is_both_an_option_and_another_ones_letter_is_ambiguous():
    trait = Trait(name="blood", label="Blood", question="Group?", levels=("B", "A", "AB"), bio="{}")
    assert parse_trait_reply("A", trait).status == AMBIGUOUS
    assert parse_trait_reply("AB", trait).level == 2


def test_patterns_of_a_users_own_trait_are_read():
    trait = Trait(
        name="pet", label="Pet", question="Pet?", levels=("Cat", "Dog"), bio="{}", patterns={"Cat": ("kitt(?:y|en)",)}
    )
    assert parse_trait_reply("a kitten", trait).level == 0
    assert parse_trait_reply("two dogs", trait).status == NONE
    assert not declines(Trait(name="x", label="", question="", levels=("a", "b"), bio="{}", decline=""))


def test_ranges_come_from_levels_or_from_what_is_spoken():
    assert level_ranges(PAPER.trait("age"))[-1] == (65, math.inf)
    assert level_ranges(STARTER.trait("children"))[:2] == ((0, 0), (1, 1))
    words = Trait(name="a", label="", question="", levels=("young", "old"), spoken=("0 to 49", "50 or over"), bio="{}")
    assert level_ranges(words) == ((0, 49), (50, math.inf))
    assert parse_trait_reply("I turned fifty", words).level == 1
    assert level_ranges(PAPER.trait("education")) is None


# -- quotes

STORY = (
    "I grew up in Toledo, Ohio.  My mother said “we don’t quit” — I turned thirty last May.\nQuestion me if you like."
)


@pytest.mark.parametrize(
    ("reply", "evidence"),
    [
        ('Evidence: "I turned thirty last May". (B)', "I turned thirty last May"),
        ('The essay says: "we don\'t quit" - B)', "we don’t quit"),
        ('"grew up in  toledo, OHIO." (B)', "grew up in Toledo, Ohio"),
        ("I turned thirty last May.\nThe answer is (B)", "I turned thirty last May"),
        ("(B) I turned thirty last May.", "I turned thirty last May"),
        ('"I grew up ... thirty last May" (A) no, (B)', "thirty last May"),
        ('"Essay me if you like" (B)', "Question me if you like"),
    ],
)
def test_a_quote_counts_if_it_is_in_the_text_and_is_kept_as_it_stands_there(reply, evidence):
    found = parse_finding(reply, 4, STORY, replaced=("Question", "Essay"))
    assert (found.status, found.level, found.evidence) == ("located", 1, evidence)
    assert found.evidence in STORY


@pytest.mark.parametrize(
    ("reply", "status", "level"),
    [
        ('"I turned forty last May" (B)', "unproven", 1),
        ("thirty (B)", "unproven", 1),
        ('"I turned thirty last May" (E)', "unmentioned", -1),
        ("Was not mentioned. (E)", "unmentioned", -1),
        ('"I turned thirty last May"', "unreadable", -1),
        ("(Q)", "unreadable", -1),
        ("", "unreadable", -1),
    ],
)
def test_what_is_not_proved_is_not_located(reply, status, level):
    found = parse_finding(reply, 4, STORY)
    assert (found.status, found.level, found.evidence) == (status, level, "")


@given(st.text(max_size=150), st.text(max_size=150))
def test_any_reply_on_any_text_is_a_finding_and_its_evidence_is_in_the_text(reply, story):
    found = parse_finding(f"{reply} (A)", 3, story)
    assert found.status in FINDINGS
    assert found.evidence in story
    assert bool(found.evidence) == (found.status == "located")


# -- wording


def test_the_question_of_stage_two_reads_as_in_the_paper():
    assert asking_text(PAPER.trait("age")) == (
        "Question: What is your age?\n(A) 18-29\n(B) 30-49\n(C) 50-64\n(D) 65 or Above\n(E) Prefer not to answer\n"
        "Answer with (A), (B), (C), (D), or (E)."
    )
    party = asking_text(PAPER.trait("party"), (1, 0, 2, 3))
    assert party.splitlines()[1:6] == ["(A) Democrat", "(B) Republican", "(C) Independent", "(D) Other",
                                       "(E) No preference"]  # fmt: skip


def test_the_question_of_stage_one_reads_as_in_the_paper():
    assert locating_text(PAPER.trait("gender")) == (
        "Question: What does the person's essay above mention about the gender of the person?\n(A) Male\n(B) Female\n"
        "(C) Other (e.g., non-binary, trans)\n(D) Was not mentioned\nFirst, provide evidence that is mentioned in the "
        "text. If the answer was not mentioned, select 'Was not mentioned'. Next, answer with (A), (B), (C), or (D)."
    )
    assert "mention about the marital status of the person?" in locating_text(STARTER.trait("marital"))
    prompt = locating_prompt(PAPER.trait("age"), "Question: who? Answer: me.")
    assert prompt.as_text().startswith("Essay: who? Answer: me.\n\nQuestion: What does")
    assert prompt.as_messages()[0]["content"].startswith("Please select the best answer from the following choices:")


# -- how a trait is asked, in a codebook's JSON


def test_what_is_as_usual_is_not_written_so_that_older_codebooks_keep_their_digest():
    written = STARTER.to_dict()["traits"][0]
    assert list(written) == ["name", "label", "question", "levels", "bio", "spoken", "population"]
    party = next(trait for trait in PAPER.to_dict()["traits"] if trait["name"] == "party")
    assert (party["decline"], party["shuffled"], "asked_of" in party) == ("No preference", 2, False)
    assert Codebook.from_dict(PAPER.to_dict()) == PAPER
    assert PAPER.trait("party_leaning").asked_of == {"party": ("Independent", "Other")}


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("decline", 3, "decline and topic must be texts, got 3, ''"),
        ("shuffled", 3, "shuffled must be a whole number from 0 to 2, got 3"),
        ("shuffled", True, "shuffled must be a whole number from 0 to 2, got True"),
        ("asked_of", ["party"], r"asked_of must be an object of lists, got \('party',\)"),
        ("asked_of", {"a": ["x"], "b": ["y"]}, "asked_of must name one trait, got a, b"),
        ("patterns", {"Dog": "dogs?"}, "patterns must be an object of lists"),
        ("patterns", {"Dgo": ["dogs?"]}, "unknown level of pet 'Dgo': did you mean 'Dog'"),
        ("patterns", {"Dog": ["(dog"]}, r"trait 'pet': '\(dog' is no regular expression"),
        ("patterns", {"Dog": [1]}, "trait 'pet': 1 is no regular expression"),
    ],
)
def test_a_codebook_with_a_wrong_way_of_asking_is_refused(field, value, message):
    pet = {"name": "pet", "label": "Pet", "question": "Pet?", "levels": ["Cat", "Dog"], "bio": "{}", field: value}
    with pytest.raises((DataError, UnknownNameError), match=message):
        Codebook.from_dict({"name": "own", "traits": [pet]})


def test_the_papers_codebook_is_the_papers():
    sizes = {trait.name: len(trait.levels) for trait in PAPER.traits}
    assert sizes == {
        "age": 4, "age_6": 6, "gender": 3, "education": 8, "household_income": 13, "race": 8, "religion": 12,
        "region": 4, "party": 4, "party_strength": 2, "party_leaning": 2, "ideology": 5,
    }  # fmt: skip
    assert PAPER.trait("household_income").levels[9:] == ("90-100k", "100-150k", "150-200k", "200k+")
    assert PAPER.trait("household_income").options[1] == "$10,000 to $19,999"
    assert PAPER.trait("religion").options[-2:] == ("Other", "Nothing in particular")
