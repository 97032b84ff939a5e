"""Replies back to answers: choices by the paper's rules, and the other kinds of questions."""

import itertools

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from anthology_hub.prompts import LABELS, LETTERS, labels_of, question_text
from anthology_hub.replies import AMBIGUOUS, EMPTY, OFF_LIST, REASONS, parse_reply, read_answer
from anthology_hub.schema import ANSWER_KINDS, ANSWERED, MISSING, REFUSED, UNPARSABLE, Question


def outcome(reply):
    return reply.status, reply.option


def why(reply):
    """The reason, for a reply that is no answer."""
    assert reply.status != ANSWERED and reply.option == MISSING and reply.value is None
    assert (reply.status == REFUSED) == (reply.reason == REFUSED)
    return reply.reason


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
)
def test_reply_that_names_one_option_is_that_option(text, options, option):
    assert outcome(parse_reply(text, options)) == (ANSWERED, option)


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
    assert outcome(parse_reply(text, options)) == (UNPARSABLE, MISSING)


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
    assert outcome(parse_reply(text, SPENDING)) == (REFUSED, MISSING)


@pytest.mark.parametrize("text", ["No answer", "no answer.", "No opinion", "I have no opinion on that"])
def test_the_no_of_a_refusal_is_not_the_option_no(text):
    assert outcome(parse_reply(text, ["Yes", "No"])) == (REFUSED, MISSING)
    assert outcome(parse_reply(f"No. {text}", ["Yes", "No"])) == (ANSWERED, 1)
    assert outcome(parse_reply(text, ["Yes", "No", "No answer", "No opinion"]))[0] == ANSWERED


def test_an_option_without_text_is_told_by_its_letter_alone():
    assert outcome(parse_reply("It depends.", ["", "Yes"])) == (UNPARSABLE, MISSING)
    assert [outcome(parse_reply(text, [" ", "Yes"]))[1] for text in ("(A)", "Oh yes")] == [0, 1]


def test_an_option_that_is_a_refusal_is_an_answer():
    assert outcome(parse_reply("Refuse", ["Accept", "Refuse"])) == (ANSWERED, 1)
    assert outcome(parse_reply("I don't know (B)", SPENDING)) == (ANSWERED, 1)


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
    assert outcome(parse_reply(f"({LETTERS[at]})", options)) == (ANSWERED, at)


@given(st.lists(WORDS, min_size=2, max_size=6, unique_by=str.lower), st.data())
def test_an_option_text_alone_is_that_option_whatever_the_others_are(options, data):
    at = data.draw(st.integers(0, len(options) - 1))
    assert outcome(parse_reply(options[at], options)) == (ANSWERED, at)
    assert outcome(parse_reply(f"({LETTERS[at]}) {options[at].upper()}", options)) == (ANSWERED, at)


@given(st.text(), st.lists(st.text(min_size=1), min_size=2, max_size=8, unique=True))
def test_any_reply_amounts_to_a_status_and_an_option_only_where_answered(text, options):
    reply = parse_reply(text, options)
    assert reply.status in (ANSWERED, REFUSED, UNPARSABLE)
    assert reply.option in range(len(options)) if reply.status == ANSWERED else reply.option == MISSING


# -- labels


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize(
    "form",
    [
        "({})",
        "[{}]",
        "{{{}}}",
        "<{}>",
        "{}",
        "{}.",
        "{})",
        "{}:",
        "'{}'",
        '"{}"',
        "`{}`",
        "**{}**",
        "\u201c{}\u201d",
        "{}, I think",
        "Option {}",
        "{}!",
        "{} \u2014 definitely",
        "My choice: {}",
        "({}).",
        "{};",
        "/{}/",
    ],
)
def test_a_label_however_it_is_set_off_is_its_option_with_letters_and_numbers(labels, form):
    name = labels_of(3, labels)[1]
    assert outcome(parse_reply(form.format(name), SPENDING, labels=labels)) == (ANSWERED, 1)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("2 or 3", AMBIGUOUS),
        ("(1) About right", AMBIGUOUS),
        ("2.5", OFF_LIST),
        ("25", OFF_LIST),
        ("0", OFF_LIST),
        ("12", OFF_LIST),
        ("B", OFF_LIST),
        ("no answer", REFUSED),
        (" ", EMPTY),
    ],
)
def test_replies_to_numbered_options_that_name_none_say_why(text, reason):
    assert why(parse_reply(text, SPENDING, labels="numbers")) == reason


NINE = [f"level {word}" for word in ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")]


@pytest.mark.parametrize(
    ("text", "options", "option"),
    [
        ("I think (C)", NINE, 2),
        ("I'd say B", NINE, 1),
        ("(I)", NINE, 8),
        ("I", NINE, 8),
        ("I am from the U.S.A., so C", SPENDING, 2),
        ("A is my answer", SPENDING, 0),
        ("A because it is so", SPENDING, 0),
        ("A too little", SPENDING, 0),
        ("A tough one: B", SPENDING, 1),
    ],
)
def test_articles_pronouns_and_abbreviations_are_no_letters(text, options, option):
    assert outcome(parse_reply(text, options)) == (ANSWERED, option)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("(A) or (B)", AMBIGUOUS),
        ("(A) Too much", AMBIGUOUS),
        ("The U.S.A. spends", OFF_LIST),
        ("(D)", OFF_LIST),
        ("It depends", OFF_LIST),
        ("", EMPTY),
        ("\n\t ", EMPTY),
        ("I refuse", REFUSED),
    ],
)
def test_a_reply_that_is_no_answer_says_why(text, reason):
    assert why(parse_reply(text, SPENDING)) == reason


def shown_as(question, at, place, labels):
    name, text = labels_of(len(question.options), labels)[place], question.options[at]
    return (f"({name}) {text}", f"{name}.", name, f"({name})", text)


TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)


@given(st.lists(TEXTS, min_size=2, max_size=8), st.sampled_from(LABELS), st.randoms(use_true_random=False))
def test_every_option_as_it_is_shown_is_read_as_itself_in_every_order(texts, labels, random):
    options = [f"{word} {text.strip()}".strip() for word, text in zip(WORDY, texts, strict=False)]
    question = Question(key="q", text="?", options=tuple(options), codes=tuple(range(len(options))))
    shown = random.sample(range(len(options)), len(options))
    for place, at in enumerate(shown):
        for reply in shown_as(question, at, place, labels):
            # What an option's own text adds is no other option's text.
            assume(sum(other.casefold() in reply.casefold() for other in options) <= 1)
            assert outcome(read_answer(question, shown, reply, labels=labels)) == (ANSWERED, at), reply


WORDY = ("Alder", "Birch", "Cedar", "Dogwood", "Elm", "Fir", "Gum", "Holly")


# -- numbers

HOURS = Question(key="h", text="How many hours?", kind="number", low=0, high=168, unit="hours")
ANY = Question(key="n", text="How many?", kind="number")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("25", 25),
        ("About 25.", 25),
        ("I am 25 years old", 25),
        ("25years", 25),
        ("twenty-five", 25),
        ("Twenty five!", 25),
        ("five (5)", 5),
        ("zero", 0),
        ("a hundred and five", 105),
        ("3.5", 3.5),
        ("(7)", 7),
        ("100%", 100),
        ("the 3rd", 3),
        ("No one but 4", 4),
        ("around forty hours", 40),
    ],
)
def test_a_reply_that_names_one_number_is_that_number(text, value):
    assert read_answer(HOURS, (), text).value == value
    assert read_answer(HOURS, (), text).option == MISSING


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("$45,000", 45_000),
        ("45k", 45_000),
        ("1,250,000.50", 1_250_000.5),
        ("-3", -3),
        ("minus three", -3),
        ("(-3)", -3),
        ("\u22123", -3),
        ("two million", 2e6),
        ("3 thousand", 3000),
        ("a thousand", 1000),
        (".5", 0.5),
        ("$.75", 0.75),
        ("-.5", -0.5),
        ("I'd say -3", -3),
        ("It is -3 degrees", -3),
        ("Answer - 5", 5),
        ("about ...5", 5),
        ("five-hundred", 500),
        ("2-million", 2e6),
        ("two dozen", 24),
        ("a dozen", 12),
        ("5 trillion", 5e12),
        ("5 m tall", 5),
        ("5 minutes", 5),
        ("5 beers", 5),
    ],
)
def test_numbers_without_limits_may_be_large_or_negative(text, value):
    assert read_answer(ANY, (), text).value == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("2 to 3", AMBIGUOUS),
        ("5-6", AMBIGUOUS),
        ("between five and six", AMBIGUOUS),
        ("at least 4", AMBIGUOUS),
        ("more than 4", AMBIGUOUS),
        ("4 or more", AMBIGUOUS),
        ("4+", AMBIGUOUS),
        ("1,5", AMBIGUOUS),
        ("in my 40s", AMBIGUOUS),
        ("12:30", AMBIGUOUS),
        ("one and a half", AMBIGUOUS),
        ("1e5", AMBIGUOUS),
        ("$1.5M", AMBIGUOUS),
        ("1.5bn", AMBIGUOUS),
        ("5 bn", AMBIGUOUS),
        ("5 mil", AMBIGUOUS),
        ("2\u00bd", AMBIGUOUS),
        ("\u00bd", AMBIGUOUS),
        ("two thirds", AMBIGUOUS),
        ("three quarters", AMBIGUOUS),
        (">5", AMBIGUOUS),
        ("< 5", AMBIGUOUS),
        ("\u2265 5", AMBIGUOUS),
        ("8 hours on 5 days", AMBIGUOUS),
        ("169", OFF_LIST),
        ("-1", OFF_LIST),
        ("9" * 400, OFF_LIST),
        ("a lot", OFF_LIST),
        ("No one", OFF_LIST),
        ("B12", OFF_LIST),
        ("I don't know", REFUSED),
        ("", EMPTY),
    ],
)
def test_a_reply_that_names_no_single_number_within_the_limits_says_why(text, reason):
    assert why(read_answer(HOURS, (), text)) == reason


@given(
    st.integers(0, 168) | st.floats(0, 168, width=16),
    st.sampled_from(["{}", "About {}.", "{} hours", "I'd say {}, sir"]),
)
def test_any_number_in_digits_is_read_as_itself(number, form):
    written = f"{number:.6f}" if isinstance(number, float) else str(number)
    assert read_answer(HOURS, (), form.format(written)).value == float(written)


@pytest.mark.parametrize("text", ["None", "none.", "None at all", " None ", "Zero"])
def test_none_of_what_is_counted_from_zero_is_zero(text):
    assert read_answer(HOURS, (), text).value == 0
    some = Question(key="h", text="How many?", kind="number", low=1)
    assert why(read_answer(some, (), text)) == OFF_LIST


def test_none_within_a_sentence_or_of_what_is_not_counted_is_no_number():
    assert why(read_answer(HOURS, (), "None of your business")) == OFF_LIST
    assert why(read_answer(ANY, (), "None")) == OFF_LIST


@given(st.integers(0, 10**9))
def test_thousands_separators_change_nothing(number):
    assert read_answer(ANY, (), f"{number:,}").value == read_answer(ANY, (), str(number)).value == number


TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
SMALL = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]


def in_words(n):
    if n < 20:
        return SMALL[n]
    if n < 100:
        return TENS[n // 10 - 2] + (f"-{SMALL[n % 10]}" if n % 10 else "")
    for size, name in ((10**6, "million"), (1000, "thousand"), (100, "hundred")):
        if n >= size:
            rest = n % size
            joint = " and " if name == "hundred" else " "
            return f"{in_words(n // size)} {name}" + (f"{joint}{in_words(rest)}" if rest else "")
    raise AssertionError


@given(st.integers(0, 999_999_999))
def test_any_whole_number_in_words_is_read_as_itself(number):
    assert read_answer(ANY, (), in_words(number)).value == number


# -- several options, rankings, words

FRUIT = Question(
    key="f",
    text="Which?",
    options=("Fig", "Plum", "Kiwi", "None of these"),
    codes=(1, 2, 3, 9),
    kind="multi",
    exclusive=(9,),
)
STRAIGHT = (0, 1, 2, 3)
OPEN = Question(key="o", text="Which?", options=("Fig", "Plum", "Kiwi"), codes=(1, 2, 3), kind="multi")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("(A), (C)", (0, 2)),
        ("A and B", (0, 1)),
        ("Fig and kiwi.", (0, 2)),
        ("(B) Plum, (C) Kiwi", (1, 2)),
        ("C", (2,)),
        ("All: A, B, C", (0, 1, 2)),
        ("None of these", (3,)),
        ("(D)", (3,)),
        ("none", (3,)),
        ("Neither of them", (3,)),
    ],
)
def test_several_options_are_read_by_letters_and_texts(text, value):
    assert read_answer(FRUIT, STRAIGHT, text).value == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("(A), (D)", AMBIGUOUS),
        ("(A) Plum", AMBIGUOUS),
        ("(A) Fig and Plum", AMBIGUOUS),
        ("Pears", OFF_LIST),
        ("", EMPTY),
        ("I'd rather not say", REFUSED),
        ("None, I don't know", REFUSED),
    ],
)
def test_a_selection_that_contradicts_itself_or_names_nothing_says_why(text, reason):
    assert why(read_answer(FRUIT, STRAIGHT, text)) == reason


def test_choosing_none_is_an_answer_where_nothing_need_be_chosen():
    assert read_answer(OPEN, (0, 1, 2), "None of them").value == ()
    least = Question(key="o", text="Which?", options=OPEN.options, codes=OPEN.codes, kind="multi", least=1)
    assert why(read_answer(least, (0, 1, 2), "None of them")) == OFF_LIST


def test_too_few_and_too_many_options_are_no_answer_but_an_exclusive_one_alone_is():
    two = Question(
        key="o", text="?", options=FRUIT.options, codes=FRUIT.codes, kind="multi", least=2, most=2, exclusive=(9,)
    )
    read = [read_answer(two, STRAIGHT, text) for text in ("A", "A, B", "A, B, C", "D")]
    assert [reply.value for reply in read] == [None, (0, 1), None, (3,)]
    assert why(read[0]) == why(read[2]) == OFF_LIST


@given(st.permutations(range(3)), st.sets(st.integers(0, 2)), st.sampled_from(LABELS))
def test_a_selection_means_the_same_in_whatever_order_the_options_are_shown(shown, chosen, labels):
    names = labels_of(3, labels)
    by_label = ", ".join(f"({names[shown.index(at)]})" for at in sorted(chosen)) or "none"
    assert read_answer(OPEN, shown, by_label, labels=labels).value == tuple(sorted(chosen))


RANKED = Question(key="r", text="Rank.", options=("Fig", "Plum", "Kiwi"), codes=(1, 2, 3), kind="ranking")


@given(st.permutations(range(3)), st.permutations(range(3)), st.sampled_from(["label", "text", "both", "list"]))
def test_a_ranking_is_read_by_letters_texts_or_both_in_whatever_order_they_are_shown(shown, order, form):
    said = {at: (f"({LETTERS[shown.index(at)]})", RANKED.options[at]) for at in range(3)}
    parts = {
        "label": ", ".join(said[at][0] for at in order),
        "text": " > ".join(said[at][1] for at in order),
        "both": ", ".join(" ".join(said[at]) for at in order),
        "list": " ".join(f"{rank}. {said[at][1]}" for rank, at in enumerate(order, 1)),
    }
    for labels in LABELS:
        assert read_answer(RANKED, shown, parts[form], labels=labels).value == tuple(order)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("A, B", OFF_LIST),
        ("Kiwi first", OFF_LIST),
        ("(A) Plum, (B) Fig, (C) Kiwi", AMBIGUOUS),
        ("no opinion", REFUSED),
        ("all the same", OFF_LIST),
        ("", EMPTY),
    ],
)
def test_a_ranking_that_leaves_out_or_contradicts_says_why(text, reason):
    assert why(read_answer(RANKED, (0, 1, 2), text)) == reason


def test_words_are_kept_without_the_space_around_them_and_short_refusals_are_none():
    why_ = Question(key="w", text="Why?", kind="text")
    assert read_answer(why_, (), "  Because of my mother. ").value == "Because of my mother."
    long = "I don't know why they did it but it made me angry all the same"
    assert read_answer(why_, (), long).value == long
    assert why(read_answer(why_, (), "I'd rather not say.")) == REFUSED
    assert why(read_answer(why_, (), " \n")) == EMPTY


@pytest.mark.parametrize(
    "text",
    [
        "I work as an aide.",
        "As an aircraft mechanic.",
        "They refuse to help us.",
        "The decline of our town.",
        "Because prices declined.",
        "I prefer not to drive.",
        "I'd rather not fly.",
    ],
)
def test_short_words_with_the_sound_of_a_refusal_are_an_answer(text):
    assert read_answer(Question(key="w", text="Why?", kind="text"), (), text).value == text


@pytest.mark.parametrize(
    "text",
    [
        "I decline to answer.",
        "I must respectfully decline.",
        "Refused",
        "I would rather not.",
        "Prefer not to answer",
        "I prefer not to talk about it.",
        "As an AI, I have none.",
    ],
)
def test_short_words_that_decline_are_refused(text):
    assert why(read_answer(Question(key="w", text="Why?", kind="text"), (), text)) == REFUSED


# -- whatever a model says


@st.composite
def questions(draw):
    kind = draw(st.sampled_from(ANSWER_KINDS))
    if kind in ("number", "text"):
        limits = (
            draw(st.sampled_from([{}, {"low": 0}, {"high": 9.5}, {"low": -3, "high": 3}])) if kind == "number" else {}
        )
        return Question(key="q", text="?", kind=kind, **limits), ()
    options = draw(st.lists(st.text(min_size=1, max_size=6), min_size=2, max_size=12, unique=True))
    codes = tuple(range(len(options)))
    limits = (
        draw(st.sampled_from([{}, {"least": 1}, {"most": 1}, {"exclusive": codes[-1:]}])) if kind == "multi" else {}
    )
    question = Question(key="q", text="?", options=tuple(options), codes=codes, kind=kind, **limits)
    return question, draw(st.permutations(codes))


SAID = st.one_of(
    st.text(),
    st.text(st.characters()),
    st.lists(
        st.sampled_from(
            ["(A)", "B.", "3", "1,000", "-", "five", "hundred", "and", "None", "I", "don't know", "\n", "k", "a"]
        )
    ).map(" ".join),
    st.binary(max_size=20).map(lambda raw: raw.decode("utf-8", "surrogateescape")),
)


@given(questions(), SAID, st.sampled_from(LABELS), st.data())
def test_any_text_is_an_answer_that_is_allowed_or_no_answer_with_a_reason(asked, text, labels, data):
    question, shown = asked
    for option in question.options[:2]:
        text += data.draw(st.sampled_from(["", f" {option}"]))
    reply = read_answer(question, shown, text, labels=labels)
    if reply.status != ANSWERED:
        assert reply.status in (REFUSED, UNPARSABLE) and why(reply) in REASONS
        return
    assert reply.reason == "" and (reply.option != MISSING) == (question.kind == "choice")
    if question.kind == "choice":
        assert reply.option in range(len(question.options)) and reply.value is None
    elif question.kind == "number":
        assert (question.low is None or reply.value >= question.low) and abs(reply.value) < float("inf")
    elif question.kind == "multi":
        assert {*reply.value} <= {*shown} and list(reply.value) == sorted(reply.value)
    elif question.kind == "ranking":
        assert sorted(reply.value) == sorted(shown)
    else:
        assert reply.value == text.strip() != ""


@given(questions(), SAID, st.sampled_from(["", " ", "\n", "\t \n", "\u2003"]), st.sampled_from(LABELS))
def test_space_around_a_reply_changes_nothing(asked, text, space, labels):
    question, shown = asked
    plain = read_answer(question, shown, text, labels=labels)
    assert read_answer(question, shown, f"{space}{text}{space}", labels=labels) == plain
    assert read_answer(question, shown, text.strip(), labels=labels) == plain


def test_the_question_itself_given_back_is_no_answer():
    for question, labels in itertools.product((FRUIT, RANKED, OPEN), LABELS):
        shown = tuple(range(len(question.options)))
        whole = question_text(question, shown, consistency=False, labels=labels)
        choice = Question(key="c", text=question.text, options=question.options, codes=question.codes)
        assert why(read_answer(choice, shown, whole, labels=labels)) == AMBIGUOUS
