"""The checks tell all problems with their places, and agree with the published schema and with what can be loaded."""

import copy
import itertools
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from anthology_hub.errors import AnthologyError
from anthology_hub.questionnaires.checks import ERROR, SCHEMA, WARNING, _faults, _possible, _Sheet, problems, schema
from anthology_hub.schema import DATA, Condition, Survey, shipped

VALIDATOR = Draft202012Validator(schema())
YES_NO = [{"code": 1, "text": "Yes"}, {"code": 2, "text": "No"}]


def survey(*questions, **more):
    return {"name": "test", "options": YES_NO, "questions": [dict(question) for question in questions], **more}


def q(key="a", text=None, **more):
    return {"key": key, "text": text or f"Text of {key}?", **more}


def errors(value):
    return [f"{problem.where}: {problem.what}" for problem in problems(value) if problem.severity == ERROR]


def warnings(value):
    assert errors(value) == []
    return [f"{problem.where}: {problem.what}" for problem in problems(value) if problem.severity == WARNING]


def steps(*texts):
    return [{"code": code, "text": text} for code, text in enumerate(texts, 1)]


# -- the schema


def test_the_schema_is_valid_and_says_of_every_field_what_it_is():
    Draft202012Validator.check_schema(schema())

    def fields(value, path=""):
        if isinstance(value, dict):
            for name, rule in value.get("properties", {}).items():
                target = schema()["$defs"][rule["$ref"].rpartition("/")[2]] if "$ref" in rule else {}
                assert {"title", "description"} <= {*rule, *target}, f"{path}.{name}"
            for name, part in value.items():
                fields(part, f"{path}.{name}")
        for at, part in enumerate(value if isinstance(value, list) else ()):
            fields(part, f"{path}.{at}")

    fields(schema())
    assert schema()["$id"] == SCHEMA.name and set(schema()["$defs"]) >= {"question", "option", "condition"}


@pytest.mark.parametrize("name", shipped("surveys"))
def test_every_shipped_survey_is_sound_and_so_is_what_it_is_written_as(name):
    raw = json.loads((DATA / "surveys" / f"{name}.json").read_text(encoding="utf-8"))
    for value in (raw, Survey.load(name).to_dict()):
        VALIDATOR.validate(value)
        assert problems(value) == []


WORDS = st.text("abcü –?", min_size=1, max_size=6).filter(str.strip)
KEYS = st.text("abcdef", min_size=1, max_size=2)


@st.composite
def sound_surveys(draw):
    """A survey in its JSON form, with every field now there, now not."""
    keys = draw(st.lists(KEYS, min_size=1, max_size=4, unique=True))
    options = st.lists(
        st.tuples(st.integers(-9, 99), WORDS), min_size=2, max_size=4, unique_by=(lambda o: o[0], lambda o: o[1])
    )
    questions, known = [], {}
    shared = [{"code": code, "text": text} for code, text in draw(options)]
    for key in keys:
        own = draw(st.none() | options)
        asked = {"key": key, "text": draw(WORDS)}
        if own:
            asked["options"] = [{"code": code, "text": text} for code, text in own]
        choices = {other: codes for other, codes in known.items() if codes}
        if known:
            asked["text"] += draw(st.sampled_from(["", *(f"{{{other}}}" for other in known)]))
        if choices and draw(st.booleans()):
            asked["ask_if"] = draw(conditions(choices))
        asked |= draw(st.fixed_dictionaries({}, optional={"reverse": st.booleans(), "ordinal": st.booleans()}))
        codes = [option["code"] for option in asked.get("options", shared)]
        asked |= draw(kinds(codes, ordinal=asked.get("ordinal", True)))
        if asked.get("kind") in ("number", "text"):
            asked.pop("options", None)
        # Conditions are on choices alone.
        known[key] = codes if asked.get("kind", "choice") == "choice" else []
        questions.append(asked)
    more = {
        "schema_version": st.just("1.0"),
        "title": WORDS,
        "source": st.just(""),
        "preamble": WORDS,
        "$schema": st.just("survey.schema.json"),
        "order_patterns": st.lists(st.sampled_from(["original", "reversed", "shuffled"]), min_size=1, max_size=3),
        "scales": st.dictionaries(WORDS, st.lists(st.sampled_from(keys), min_size=1, max_size=3), max_size=2),
        "protocol": st.fixed_dictionaries(
            {}, optional={"minimum_respondents": st.integers(1, 9), "all_questions": st.booleans()}
        ),
    }
    return {
        "name": draw(WORDS),
        "options": shared,
        "questions": questions,
        **draw(st.fixed_dictionaries({}, optional=more)),
    }


@st.composite
def kinds(draw, codes, *, ordinal):
    """The kind of a question, and its limits."""
    kind = draw(st.sampled_from([None, "choice", "number", "multi", "ranking", "text"]))
    numbers = st.integers(-9, 99) | st.floats(-9, 99)
    optional = {}
    if kind in (None, "choice") and ordinal and len(codes) > 2:
        optional = {"off_scale": st.lists(st.sampled_from(codes), min_size=1, max_size=len(codes) - 2)}
    if kind == "number":
        low, high = sorted([draw(numbers), draw(numbers)])
        optional = {"low": st.just(low), "high": st.just(high), "unit": WORDS}
    if kind == "multi":
        least, most = sorted([draw(st.integers(0, len(codes))), draw(st.integers(1, len(codes)))])
        exclusive = st.lists(st.sampled_from(codes), min_size=1, max_size=2)
        optional = {"least": st.just(least), "most": st.just(max(most, 1)), "exclusive": exclusive}
    return {**({"kind": kind} if kind else {}), **draw(st.fixed_dictionaries({}, optional=optional))}


def conditions(known):
    def leaf(key):
        return st.lists(st.sampled_from(known[key]), min_size=1, max_size=2).map(
            lambda codes: {"question": key, "in": codes}
        )

    leaves = st.sampled_from(sorted(known)).flatmap(leaf)
    return st.recursive(
        leaves,
        lambda parts: st.one_of(
            parts.map(lambda part: {"not": part}),
            st.lists(parts, min_size=1, max_size=2).map(lambda some: {"all": some}),
            st.lists(parts, min_size=1, max_size=2).map(lambda some: {"any": some}),
        ),
        max_leaves=4,
    )


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(sound_surveys())
def test_a_sound_survey_fits_the_schema_has_no_errors_and_goes_to_its_form_and_back(value):
    VALIDATOR.validate(value)
    assert errors(value) == []
    loaded = Survey.from_dict(value)
    assert Survey.from_dict(loaded.to_dict()) == loaded and errors(loaded.to_dict()) == []
    VALIDATOR.validate(loaded.to_dict())


JUNK = st.one_of(
    st.sampled_from(
        [None, True, 0, -1, 1.5, "", " ", "a", "a b", "{a}", "original", [], {}, [1], ["a"], {"a": 1}, "1"]
    ),
    st.sampled_from(
        [
            "number",
            "multi",
            YES_NO,
            {"question": "a", "in": [1]},
            {"all": []},
            {"not": {"question": "a", "in": []}},
            {"in": [1], "x": 2},
        ]
    ),
)


def places(value, path=()):
    yield path
    for name, part in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(part, (*path, name))


@st.composite
def damaged_surveys(draw):
    value = draw(sound_surveys())
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from([path for path in places(value) if path] or [("name",)]))
        inside = value
        for name in path[:-1]:
            inside = inside[name]
        how = draw(st.sampled_from(["replace", "remove", "add"]))
        if how == "replace":
            inside[path[-1]] = copy.deepcopy(draw(JUNK))
        elif how == "remove":
            inside.pop(path[-1], None) if isinstance(inside, dict) else inside.pop(path[-1])
        elif isinstance(inside, dict):
            fields = [
                "extra",
                "ask_if",
                "options",
                "code",
                "reverse",
                "all",
                "kind",
                "low",
                "most",
                "exclusive",
                "off_scale",
            ]
            inside[draw(st.sampled_from(fields))] = copy.deepcopy(draw(JUNK))
        else:
            inside.append(copy.deepcopy(draw(JUNK)))
    return value


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(damaged_surveys())
def test_schema_and_checks_agree_on_every_damaged_survey_and_what_has_no_errors_can_be_loaded(value):
    faults = list(_faults(value, schema(), ()))
    assert bool(faults) == (not VALIDATOR.is_valid(value)), faults
    found = errors(value)
    assert len(found) >= len(faults) and len(set(found)) == len(found)
    try:
        loaded = Survey.from_dict(value)
    except (AnthologyError, TypeError, AttributeError):
        assert found, "what cannot be loaded must be told"
    else:
        assert found or errors(loaded.to_dict()) == []


# -- errors


def test_all_problems_are_told_each_with_its_place():
    value = {
        "name": 5,
        "titel": "Drinks",
        "order_patterns": ["random"],
        "questions": [
            q("te a", options=[{"code": "1", "text": 5}, {"code": 2, "text": " "}]),
            {"key": "b", "ask_if": {"question": "tea"}},
            q("c", "You said {d}?", options=steps("A", "A")),
            q("d", ask_if={"question": "cc", "in": [1]}, options=YES_NO),
            "no question",
            q("", 7, ordinal="no"),
        ],
        "scales": {"s": ["d", "e"], "empty": []},
        "protocol": {"minimum_respondents": 0, "all": True},
    }
    assert errors(value) == [
        "name: 5 is not a text: put it in quotes",
        "survey: unknown field 'titel' (did you mean 'title'?): allowed are $schema, schema_version, name, title, "
        "source, preamble, order_patterns, options, questions, scales, protocol",
        "order_patterns 1: 'random' is not allowed: allowed are original, reversed, shuffled",
        "question 'te a', key: 'te a' has spaces or braces, which a key cannot have",
        "question 'te a', options 1, code: '1' is not a whole number: write 1, without quotes and decimal point",
        "question 'te a', options 1, text: 5 is not a text: put it in quotes",
        "question 'te a', options 2, text: it is empty",
        "question 'b': the field 'text' is missing",
        "question 'b', ask_if: the field 'in' is missing",
        "question 5: 'no question' is not an object (name: value)",
        "question 6, key: it is empty",
        "question 6, text: 7 is not a text: put it in quotes",
        "question 6, ordinal: 'no' is not true or false",
        "scales, empty: it has 0 entries, at least 1 are needed",
        "protocol, minimum_respondents: 0 is less than 1",
        "protocol: unknown field 'all': allowed are minimum_respondents, minimum_bootstraps, all_questions",
        "question 'b': it has no options, and the survey has none for all: give 'options' to one of them",
        "question 'c', options: two options have the text 'A': make them distinct",
        "question 6: it has no options, and the survey has none for all: give 'options' to one of them",
        "question 'c', text: it takes in the answer to 'd', which comes later: put it before",
        "question 'd', ask_if: there is no question 'cc' (did you mean 'c'?)",
    ]


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (None, "survey: null is not an object (name: value)"),
        ([], "survey: [] is not an object (name: value)"),
        ({}, "survey: the field 'name' is missing"),
        (survey(), "questions: it has 0 entries, at least 1 are needed"),
        (survey(q(), name=True), "name: true is not a text: put it in quotes"),
        (survey(q(), name="x" * 80, title=["x" * 80]), f'title: ["{"x" * 58}... is not a text'),
        (survey(q(), schema_version="2.0"), "schema_version: '2.0' is not allowed: allowed are 1.0"),
        (
            survey(q(options=[{"code": 1.0, "text": "A"}, *YES_NO])),
            "question 'a', options 1, code: 1.0 is not a whole number",
        ),
        (
            survey(q(options=[{"code": True, "text": "A"}, *YES_NO])),
            "question 'a', options 1, code: true is not a whole",
        ),
        (survey(q(options=YES_NO[:1])), "question 'a', options: it has 1 entries, at least 2 are needed"),
        (survey(q(options=None)), "question 'a', options: null is not a list"),
        (survey(q(options=[*steps("A"), {"code": 1, "text": "B"}])), "two options have the code 1: make them distinct"),
        (
            survey(q(), options=[*YES_NO, {"code": 2, "text": "?"}]),
            "options: two options have the code 2: make them distinct",
        ),
        (survey(q(), q()), "question 'a', key: question 1 has this key, too: keys must be distinct"),
        (survey(q(text="half \ud800")), "has half a character, which no file can hold"),
        (
            survey(q(), q("b", ask_if={})),
            "question 'b', ask_if: {} is no condition: write {'question': KEY, 'in': [CODE, ...]}",
        ),
        (survey(q(), q("b", ask_if="a == 1")), "question 'b', ask_if: 'a == 1' is no condition: write"),
        (survey(q(), q("b", ask_if={"any": [{"not": 1}]})), "question 'b', ask_if, any 1, not: 1 is no condition"),
        (survey(q(), q("b", ask_if={"all": []})), "question 'b', ask_if, all: it has 0 entries, at least 1"),
        (
            survey(q(), q("b", ask_if={"question": "a", "in": ["1"]})),
            "question 'b', ask_if, in 1: '1' is not a whole number",
        ),
        (survey(q(), q("b", ask_if={"question": "a", "in": [1], "or": 2})), "question 'b', ask_if: unknown field 'or'"),
        (
            survey(q(), q("b", ask_if={"question": "a", "in": [3, 1, 4]})),
            "'a' has no option with the code 3, 4; it has 1, 2",
        ),
        (
            survey(q(ask_if={"question": "b", "in": [1]}), q("b")),
            "question 'a', ask_if: it depends on 'b', which comes later",
        ),
        (survey(q(ask_if={"question": "a", "in": [1]})), "question 'a', ask_if: it depends on 'a', which comes later"),
        (survey(q(text="I am {a}")), "question 'a', text: it takes in the answer to 'a', which comes later"),
        (survey(q(), scales={"s": ["a", "aa"]}), "scales, s: there is no question 'aa' (did you mean 'a'?)"),
        ({**survey(q()), 5: 1}, "survey: the name 5 is not a text: put it in quotes"),
        (survey(q("a b" * 30)), "question 'a ba b"),
    ],
)
def test_each_problem_is_told_with_its_place_and_what_to_do(value, told):
    assert [error for error in errors(value) if told in error], errors(value)


def test_a_condition_nested_too_deeply_is_an_error():
    def nested(levels):
        ask = {"question": "a", "in": [1]}
        for _ in range(levels):
            ask = {"not": ask}
        return survey(q(), q("b", ask_if=ask))

    assert errors(nested(20)) == []
    assert errors(nested(21)) == ["question 'b', ask_if: it is nested more than 20 deep: make it simpler"]
    assert errors(nested(200)) == ["survey: it is nested more than 100 levels deep, or holds itself"]


def test_a_problem_reads_as_one_line():
    (told,) = problems(survey(q(), scales={"s": ["b"]}))
    assert str(told) == "error: scales, s: there is no question 'b'"


def test_a_survey_that_holds_itself_or_repeats_itself_without_end_is_refused_at_once():
    endless = survey(q())
    endless["questions"].append(endless)
    assert errors(endless) == ["survey: it is nested more than 100 levels deep, or holds itself"]
    laughs = ["ha"] * 10
    for _ in range(9):
        laughs = [laughs] * 10
    assert errors(survey(q(), scales=laughs))[0].endswith("values, at most 1,000,000 are read")


def test_names_alike_are_not_sought_among_very_many():
    many = survey(*(q(f"k{at}") for at in range(1_001)), scales={"s": ["k1x"]})
    assert errors(many) == ["scales, s: there is no question 'k1x'"]


# -- warnings


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (
            survey(q(options=steps(*map(str, range(27))))),
            "question 'a', options: 27 options cannot be lettered: at most 26",
        ),
        (
            survey(q(options=steps("Low", "High", "Don't know"))),
            "question 'a', options: \"Don't know\" stands as a step",
        ),
        (survey(q(options=steps("Low", "High", "Refused"))), "question 'a', options: 'Refused' stands as a step"),
        (survey(q(options=steps("Low", "High", "Prefer not to say"))), "'Prefer not to say' stands as a step"),
        (
            survey(q(options=steps("Yes ", "No"))),
            "question 'a', options: 'Yes ' has a line break, or spaces at its ends",
        ),
        (survey(q(text="Tea?"), q("b", " tea? ")), "question 'b', text: it is asked twice: 'a' has the same text"),
        (survey(q(text="Why {tea}?")), "question 'a', text: {tea} is the key of no question and stays as it is"),
        (
            survey(q(options=steps("A", "B", "C")), q("b"), scales={"s": ["a", "b"]}),
            "scales, s: its items have 2 and 3 options: a scale needs one number",
        ),
        (survey(q(), scales={"s": ["a", "a"]}), "scales, s: a question stands in it twice"),
        (
            survey(q(ordinal=False), scales={"s": ["a"]}),
            "scales, s: 'a' is not ordinal, so that a scale of it means nothing",
        ),
        (
            survey(q(reverse=True), q("b"), scales={"s": ["b"]}),
            "question 'a', reverse: it counts reversed, but stands in no",
        ),
        (
            survey(q(reverse=True, ordinal=False)),
            "question 'a', reverse: it counts reversed, but its options have no order",
        ),
        (
            survey(q(options=steps("A", "B", "C")), order_patterns=["shuffled"]),
            "order_patterns: the steps of ordinal questions would be shuffled, too: a",
        ),
    ],
)
def test_what_may_not_be_meant_is_a_warning(value, told):
    found = warnings(value)
    assert len(found) == 1 and told in found[0], found


@pytest.mark.parametrize(
    "value",
    [
        survey(q(options=steps("Low", "High", "Don't know"), ordinal=False)),
        survey(q(reverse=True), q("b")),
        survey(q(reverse=True), q("b"), scales={"s": ["a", "b"]}),
        survey(q(), q("b", "You said {a}?")),
        survey(q(), order_patterns=["shuffled"]),
        survey(q(), q("b", ask_if={"not": {"question": "a", "in": [1, 2]}})),
        survey(q(options=steps("I know", "I do not know him"))),
    ],
)
def test_what_is_in_order_is_no_warning(value):
    assert problems(value) == []


is_1, is_2 = ({"question": "a", "in": [code]} for code in (1, 2))


@pytest.mark.parametrize(
    ("chain", "possible"),
    [
        ([is_1], True),
        ([{"all": [is_1, is_2]}], False),
        ([{"all": [is_1, {"not": is_1}]}], False),
        ([{"all": [{"not": is_1}, {"not": is_2}]}], True),  # not answered
        ([is_1, {"all": [is_2, {"question": "q1", "in": [1]}]}], False),  # asked of those with 1 only
        ([is_1, {"all": [is_2, {"not": {"question": "q1", "in": [1]}}]}], True),
        ([is_1, {"question": "q1", "in": [1]}, {"all": [is_2, {"question": "q2", "in": [2]}]}], False),
    ],
)
def test_a_condition_that_no_answers_meet_is_a_warning(chain, possible):
    value = survey(q("a"), *(q(f"q{at}", ask_if=ask) for at, ask in enumerate(chain, 1)))
    never = (
        f"question 'q{len(chain)}', ask_if: no answers to the questions before it meet the condition: it is never asked"
    )
    assert warnings(value) == ([] if possible else [never])


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(sound_surveys())
def test_a_condition_is_possible_exactly_if_some_answers_of_a_person_meet_it(value):
    sheet = _Sheet(value, [])
    questions = list(sheet.by_key.values())
    people = [{}]
    for question in questions:
        asked = [p for p in people if question.ask_if is None or question.ask_if.holds(p)]
        if question.ask_if:
            assert _possible(question.ask_if, sheet.by_key, sheet.keys) == bool(asked)
        answered = [{**p, question.key: code} for p in asked for code in question.codes]
        people = [*({**p, question.key: None} for p in people), *answered]
        if len(people) > 2_000:
            return


def test_a_search_that_would_take_long_ends_and_gives_the_benefit_of_the_doubt():
    keys = [f"k{at}" for at in range(49)]
    never = {
        "all": [*({"any": [{"question": key, "in": [1]}, {"question": key, "in": [2]}]} for key in keys), is_1, is_2]
    }
    value = survey(q("a"), *(q(key) for key in keys), q("z", ask_if=never))
    assert warnings(value) == []
    longer = survey(
        *(q(f"k{at}") for at in range(60)),
        q("z", ask_if={"all": [{"question": f"k{at}", "in": [1]} for at in range(60)]}),
    )
    assert warnings(longer) == []


def test_the_checks_follow_one_condition_as_the_simulation_does():
    value = survey(q("a"), q("b", ask_if=is_1))
    loaded = Survey.from_dict(value).questions[1].ask_if
    for code, other in itertools.product((None, 1, 2), repeat=2):
        assert loaded.holds({"a": code, "b": other}) == Condition.from_dict(is_1).holds({"a": code}) == (code == 1)
