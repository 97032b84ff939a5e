"""Nouns go to JSON and back unchanged; what is wrong in a file is refused by name."""

import hashlib
import json
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from anthology_hub import schema
from anthology_hub.errors import DataError, EmptyError, OptionError, UnknownNameError
from anthology_hub.humans import Respondents as LoadedRespondents
from anthology_hub.schema import (
    Answers,
    Codebook,
    Matching,
    Metric,
    Persona,
    Question,
    Respondents,
    Result,
    Role,
    Survey,
    Trait,
)

WORDS = st.text(st.characters(codec="utf-8", exclude_characters="{}"), min_size=1, max_size=12)
NAMES = st.lists(WORDS, min_size=2, max_size=4, unique=True).map(tuple)
FINITE = st.floats(-1e6, 1e6)


@st.composite
def traits(draw, name):
    levels = draw(NAMES)
    parts = draw(st.lists(st.integers(1, 100), min_size=len(levels), max_size=len(levels)))
    return Trait(
        name=name,
        label=draw(WORDS),
        question=draw(WORDS),
        levels=levels,
        bio=f"{draw(WORDS)}{{}}{draw(WORDS)}",
        spoken=draw(st.sampled_from([(), tuple(f"say {level}" for level in levels)])),
        population=draw(st.sampled_from([(), tuple(part / sum(parts) for part in parts)])),
    )


@st.composite
def codebooks(draw):
    members = tuple(draw(traits(name)) for name in draw(NAMES))
    return Codebook(name=draw(WORDS), traits=members, population_source=draw(WORDS))


@st.composite
def questions(draw, key):
    options = draw(NAMES)
    codes = draw(st.lists(st.integers(-9, 99), min_size=len(options), max_size=len(options), unique=True))
    return Question(key=key, text=draw(WORDS), options=options, codes=tuple(codes), reverse=draw(st.booleans()))


@st.composite
def surveys(draw):
    keys = draw(NAMES)
    items = tuple(draw(questions(key)) for key in keys)
    pieces = st.lists(st.sampled_from(keys), unique=True, min_size=1).map(tuple)
    orders = [("original",), ("reversed",), ("original", "reversed")]
    return Survey(
        name=draw(WORDS),
        title=draw(WORDS),
        source=draw(WORDS),
        questions=items,
        preamble=draw(st.sampled_from(["", "Now some questions."])),
        order_patterns=draw(st.sampled_from(orders)),
        scales=draw(st.dictionaries(WORDS, pieces, max_size=2)),
    )


@st.composite
def results(draw):
    maybe = st.none() | FINITE
    metrics = [
        Metric(name=name, value=draw(maybe), unit=draw(WORDS), low=draw(maybe), floor=draw(maybe), note=draw(WORDS))
        for name in draw(NAMES)
    ]
    shares = st.dictionaries(WORDS, FINITE, max_size=3)
    return Result(
        run_id=draw(WORDS),
        created="2026-11-23T00:00:00Z",
        survey=draw(WORDS),
        developer=draw(WORDS),
        model=draw(WORDS),
        method=draw(WORDS),
        n=draw(st.integers(1, 10_000)),
        n_humans=draw(st.integers(1, 10_000)),
        questions=draw(NAMES),
        weighting="weighted",
        metrics=tuple(metrics),
        coverage=draw(shares),
        option_mass=draw(maybe),
        items=tuple(draw(st.lists(st.dictionaries(WORDS, st.lists(FINITE, max_size=3), max_size=2), max_size=3))),
        notes=draw(st.lists(WORDS, max_size=2).map(tuple)),
        provenance=draw(shares),
    )


def through_json(value):
    return json.loads(json.dumps(value))


# -- round trips


@given(codebooks())
def test_a_codebook_comes_back_from_json_unchanged(codebook):
    assert Codebook.from_dict(through_json(codebook.to_dict())) == codebook


@given(surveys())
def test_a_survey_comes_back_from_json_unchanged_and_keeps_its_digest(survey):
    back = Survey.from_dict(through_json(survey.to_dict()))
    assert back == survey
    assert back.digest == survey.digest


@given(results())
def test_a_result_comes_back_from_json_unchanged(result):
    assert Result.from_dict(through_json(result.to_dict())) == result


@given(surveys(), st.data())
def test_any_change_of_a_survey_changes_its_digest(survey, data):
    at = data.draw(st.integers(0, len(survey.questions) - 1))
    changed = [replace(q, reverse=not q.reverse) if i == at else q for i, q in enumerate(survey.questions)]
    assert replace(survey, questions=tuple(changed)).digest != survey.digest
    assert replace(survey, preamble=survey.preamble + ".").digest != survey.digest


@given(surveys(), st.data())
def test_a_selection_keeps_order_given_and_drops_empty_scales(survey, data):
    wanted = data.draw(st.lists(st.sampled_from(survey.keys), unique=True, min_size=1))
    part = survey.select(wanted)
    assert part.keys == tuple(wanted)
    assert {q.key: q for q in part.questions}.items() <= {q.key: q for q in survey.questions}.items()
    kept = {name: tuple(k for k in keys if k in wanted) for name, keys in survey.scales.items()}
    assert part.scales == {name: keys for name, keys in kept.items() if keys}
    assert Survey.from_dict(part.to_dict()) == part


def test_the_json_forms_carry_the_schema_version(spending, starter):
    assert spending.to_dict()["schema_version"] == schema.SCHEMA_VERSION == "1.0"
    assert starter.codebook.to_dict()["schema_version"] == "1.0"


def test_options_given_once_serve_every_question_that_has_none():
    shared = [{"code": 1, "text": "Yes"}, {"code": 2, "text": "No"}]
    own = [{"code": 5, "text": "Often"}, {"code": 6, "text": "Never"}]
    items = [{"key": "a", "text": "A?"}, {"key": "b", "text": "B?", "options": own}]
    survey = Survey.from_dict({"name": "s", "options": shared, "questions": items})
    assert [q.options for q in survey.questions] == [("Yes", "No"), ("Often", "Never")]
    assert [q.codes for q in survey.questions] == [(1, 2), (5, 6)]
    assert survey.order_patterns == ("original", "reversed")


# -- what is shipped


@pytest.mark.parametrize("name", schema.shipped("surveys"))
def test_every_shipped_survey_loads_and_names_its_source(name):
    survey = Survey.load(name)
    assert survey.name == name
    assert survey.source
    assert survey == Survey.from_dict(survey.to_dict())


@pytest.mark.parametrize("name", schema.shipped("codebooks"))
def test_every_shipped_codebook_loads_and_its_shares_sum_to_one(name):
    codebook = Codebook.load(name)
    assert codebook.name == name
    for trait in codebook.traits:
        assert not trait.population or sum(trait.population) == pytest.approx(1, abs=0.0011), trait.name
        assert [trait.code(level) for level in trait.levels] == list(range(len(trait.levels)))
        assert len({trait.sentence(level) for level in trait.levels}) == len(trait.levels)


@pytest.mark.parametrize("name", schema.shipped("crosswalks"))
def test_every_shipped_crosswalk_maps_levels_of_its_codebook(name):
    value = schema.read_shipped("crosswalks", name)
    codebook = Codebook.load(value["from"])
    assert name == f"{value['from']}--{value['to']}"
    for trait, mapping in value["traits"].items():
        assert set(mapping) == set(codebook.trait(trait).levels), trait


@pytest.mark.parametrize("name", schema.shipped("humans"))
def test_every_shipped_human_source_names_a_shipped_survey_and_crosswalk(name):
    value = schema.read_shipped("humans", name)
    assert value["name"] == name
    assert value.get("crosswalk", "starter--bfi") in schema.shipped("crosswalks")
    assert "file" in value or value["survey"] in schema.shipped("surveys")


def test_every_json_file_of_the_package_is_an_object_with_the_schema_version():
    files = sorted(schema.DATA.rglob("*.json"))
    assert len(files) >= 12
    for file in files:
        # A JSON Schema says which one it follows instead.
        version = {"$schema": "https://json-schema.org/draft/2020-12/schema"} if file.parent.name == "schemas" else None
        assert (version or {"schema_version": "1.0"}).items() <= schema.read_json(file).items(), file


def test_a_file_of_the_users_is_read_by_path(tmp_path, spending):
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(spending.to_dict()), encoding="utf-8")
    assert Survey.load(str(file)) == spending


# -- what is refused


@pytest.mark.parametrize(
    ("content", "said"), [("{", "cannot be read as JSON"), ("[1]", "holds a JSON list; an object is needed")]
)
def test_a_file_that_is_no_json_object_is_refused_by_its_path(tmp_path, content, said):
    (tmp_path / "bad.json").write_text(content)
    with pytest.raises(DataError, match=said) as caught:
        Survey.load(str(tmp_path / "bad.json"))
    assert str(tmp_path / "bad.json") in str(caught.value)


def test_a_missing_file_is_refused_by_its_path(tmp_path):
    with pytest.raises(DataError, match="nowhere.json cannot be read as JSON.*No such file"):
        Codebook.load(str(tmp_path / "nowhere.json"))


def test_an_unknown_survey_lists_the_shipped_ones_and_suggests_the_nearest():
    with pytest.raises(UnknownNameError) as caught:
        Survey.load("gss-national-spendings")
    assert str(caught.value) == (
        "unknown survey 'gss-national-spendings': did you mean 'gss-national-spending'? "
        "Allowed: 'bfi', 'gss-gov-responsibility', 'gss-national-spending'"
    )


def test_an_unknown_trait_or_level_lists_what_is_allowed_and_suggests_the_nearest(starter):
    with pytest.raises(UnknownNameError, match=r"unknown trait 'regoin': did you mean 'region'\? Allowed: 'age', "):
        starter.codebook.trait("regoin")
    with pytest.raises(UnknownNameError) as caught:
        starter.codebook.trait("region").code("south")
    allowed = "Allowed: 'Northeast', 'Midwest', 'South', 'West'"
    assert str(caught.value) == f"unknown level of region 'south': did you mean 'South'? {allowed}"


def test_an_unknown_question_or_metric_is_told_with_the_ones_there_are(spending):
    with pytest.raises(UnknownNameError, match="question of gss-national-spending 'nateduk': did you mean 'nateduc'"):
        spending.select(["nateduk"])
    result = Result.from_dict(RESULT)
    assert result.metric("wd").value == 0.25
    with pytest.raises(UnknownNameError, match="unknown metric 'wdd': did you mean 'wd'. Allowed: 'wd'"):
        result.metric("wdd")


@pytest.mark.parametrize("keys", [[], ["natarms", "natarms"]])
def test_a_selection_of_nothing_or_of_a_question_twice_is_refused(spending, keys):
    with pytest.raises(OptionError) as caught:
        spending.select(keys)
    assert f"each once, got {keys}; allowed: natenvir, nateduc, natarms, nataid" in str(caught.value)


YES_NO = [{"code": 1, "text": "Yes"}, {"code": 2, "text": "No"}]
ITEM = {"key": "a", "text": "A?"}
SURVEY = {"name": "s", "options": YES_NO, "questions": [ITEM]}
TRAIT = {"name": "t", "label": "T", "question": "T?", "levels": ["x", "y"], "bio": "I am {}."}
CODEBOOK = {"name": "c", "traits": [TRAIT]}
RESULT = {
    **dict.fromkeys(("run_id", "created", "survey", "developer", "model", "method", "weighting"), "x"),
    "n": 1,
    "n_humans": 2,
    "questions": ["a"],
    "coverage": {},
    "option_mass": None,
    "items": [],
    "metrics": [{"name": "wd", "value": 0.25, "unit": "raw"}],
}


def without(value, name):
    return {key: entry for key, entry in value.items() if key != name}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (without(SURVEY, "name"), "the field 'name' is missing; present are: 'options', 'questions'"),
        (without(SURVEY, "questions"), "the field 'questions' is missing"),
        ({}, "present are: none"),
        ({**SURVEY, "questions": []}, "survey 's': question keys must be distinct and not empty, got []"),
        ({**SURVEY, "questions": [ITEM, ITEM]}, "must be distinct and not empty, got ['a', 'a']"),
        ({**SURVEY, "questions": ["a"]}, "the field 'questions' must be a list of objects, got ['a']"),
        ({**SURVEY, "questions": None}, "the field 'questions' must be a list of objects, got None"),
        ({**SURVEY, "questions": [without(ITEM, "text")]}, "the field 'text' is missing"),
        ({**SURVEY, "questions": [without(ITEM, "key")]}, "the field 'key' is missing"),
        (without(SURVEY, "options"), "question 'a' needs two options or more, each with 'code' and 'text'"),
        ({**SURVEY, "options": YES_NO[:1]}, "question 'a' needs two options or more"),
        ({**SURVEY, "options": ["Yes", "No"]}, "an object with the field 'code' is needed, got 'Yes'"),
        ({**SURVEY, "options": [{"code": "one", "text": "Yes"}, YES_NO[1]]}, "'one'; an option is like {'code': 1"),
        ({**SURVEY, "options": [YES_NO[0], {"code": 1, "text": "No"}]}, "codes and texts must be distinct, got (1, 1)"),
        (
            {**SURVEY, "options": [YES_NO[0], {"code": 2, "text": "Yes"}]},
            "must be distinct, got (1, 2), ('Yes', 'Yes')",
        ),
        ({**SURVEY, "scales": ["a"]}, "survey 's': scales must be an object of name to keys, got ['a']"),
    ],
)
def test_a_bad_survey_is_refused_with_the_place_and_the_rule(value, said):
    with pytest.raises(DataError) as caught:
        Survey.from_dict(value)
    assert said in str(caught.value)


@pytest.mark.parametrize("patterns", [["original", "mixed"], []])
def test_an_unknown_or_empty_option_order_is_refused_with_those_that_exist(patterns):
    with pytest.raises(UnknownNameError, match="unknown order pattern .*Allowed: 'original', 'reversed', 'shuffled'"):
        Survey.from_dict({**SURVEY, "order_patterns": patterns})


def test_a_scale_of_an_unknown_question_is_refused():
    with pytest.raises(UnknownNameError, match="unknown question in a scale 'b': .*Allowed: 'a'"):
        Survey.from_dict({**SURVEY, "scales": {"all": ["a", "b"]}})


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (without(CODEBOOK, "name"), "the field 'name' is missing; present are: 'traits'"),
        (without(CODEBOOK, "traits"), "the field 'traits' is missing; present are: 'name'"),
        ({**CODEBOOK, "traits": [TRAIT, TRAIT]}, "trait names must be distinct, got ['t', 't']"),
        ({**CODEBOOK, "traits": ["t"]}, "the field 'traits' must be a list of objects, got ['t']"),
        ({**CODEBOOK, "traits": [without(TRAIT, "bio")]}, "Trait cannot be built from ['label', 'levels', 'name'"),
        ({**CODEBOOK, "traits": [{**TRAIT, "colour": 1}]}, "unexpected keyword argument 'colour'"),
        (
            {**CODEBOOK, "traits": [{**TRAIT, "levels": []}]},
            "trait 't': levels must be a list of distinct names, got ()",
        ),
        ({**CODEBOOK, "traits": [{**TRAIT, "levels": "xy"}]}, "levels must be a list of distinct names, got 'xy'"),
        ({**CODEBOOK, "traits": [{**TRAIT, "levels": ["x", "x"]}]}, "a list of distinct names, got ('x', 'x')"),
        ({**CODEBOOK, "traits": [{**TRAIT, "spoken": ["ex"]}]}, "trait 't': 1 values beside 2 levels"),
        ({**CODEBOOK, "traits": [{**TRAIT, "population": [0.2, 0.3, 0.5]}]}, "trait 't': 3 values beside 2 levels"),
        ({**CODEBOOK, "traits": [{**TRAIT, "population": [0.2, 0.3]}]}, "shares must sum to 1, got (0.2, 0.3)"),
        ({**CODEBOOK, "traits": [{**TRAIT, "population": [1.5, -0.5]}]}, "shares must sum to 1, got (1.5, -0.5)"),
        ({**CODEBOOK, "traits": [{**TRAIT, "bio": "I am."}]}, "bio must hold one {} for the level, got 'I am.'"),
    ],
)
def test_a_bad_codebook_is_refused_with_the_place_and_the_rule(value, said):
    with pytest.raises(DataError) as caught:
        Codebook.from_dict(value)
    assert said in str(caught.value)


@pytest.mark.parametrize("name", sorted(RESULT))
def test_a_result_without_a_field_is_refused_by_the_fields_name(name):
    with pytest.raises(DataError) as caught:
        Result.from_dict(without(RESULT, name))
    assert repr(name) in str(caught.value)


def test_a_result_with_a_metric_that_is_none_is_refused():
    with pytest.raises(DataError, match="Metric cannot be built from .'name'.: .*'value' and 'unit'"):
        Result.from_dict({**RESULT, "metrics": [{"name": "wd"}]})
    with pytest.raises(DataError, match="the field 'metrics' must be a list of objects, got 'wd'"):
        Result.from_dict({**RESULT, "metrics": "wd"})


# -- digests and ids


@given(st.dictionaries(WORDS, FINITE, max_size=5))
def test_a_digest_does_not_depend_on_the_order_of_keys(value):
    assert schema.digest(value) == schema.digest(dict(reversed(value.items())))
    assert len(schema.digest(value)) == 64


@given(st.text(st.characters(codec="utf-8")))
def test_a_persona_id_is_the_beginning_of_the_sha256_of_its_text(text):
    assert Persona.id_of(text) == hashlib.sha256(text.encode()).hexdigest()[:20]


def test_a_persona_is_frozen_and_has_a_json_form():
    persona = Persona(persona_id="p", backstory="I am.", traits={"age": None})
    plain = {"persona_id": "p", "backstory": "I am.", "traits": {"age": None}, "score": None, "passage": None}
    assert persona.to_dict() == plain
    with pytest.raises(FrozenInstanceError):
        persona.backstory = "I was."


def test_a_matching_digest_tells_who_plays_whom_and_ignores_how_it_was_found():
    persona = Persona(persona_id="p", backstory="I am.")
    role = Role(respondent_id="r1", weight=1.0, traits={"age": "old", "sex": "f"}, persona=persona)
    cast = Matching(roles=(role,), method="greedy")
    turned = replace(role, traits={"sex": "f", "age": "old"}, log_weight=-2.0)
    assert cast.digest == replace(cast, roles=(turned,), method="optimal").digest
    assert cast.digest != replace(cast, roles=(replace(role, persona=None),)).digest
    assert cast.digest != replace(cast, roles=(replace(role, weight=2.0),)).digest
    assert cast.digest != replace(cast, roles=(replace(role, traits={"age": "young", "sex": "f"}),)).digest
    assert len(cast) == 1


# -- respondents and answers


@pytest.fixture
def people():
    return Respondents(
        name="few",
        ids=("a", "b", "c"),
        levels={"age": ("young", "old")},
        codes={"age": np.array([0, -1, 1], dtype=np.int16)},
        answers={"q": np.array([2, 1, -1], dtype=np.int16)},
        weights=np.array([1.0, 2.0, 3.0]),
    )


def test_respondents_are_taken_in_the_order_asked_with_everything_they_carry(people):
    part = people.take([2, 0])
    assert part.ids == ("c", "a")
    assert part.codes["age"].tolist() == [1, 0]
    assert part.answers["q"].tolist() == [-1, 2]
    assert part.weights.tolist() == [3.0, 1.0]
    assert replace(people, weights=None).take([1]).weights is None


def test_an_unknown_trait_of_a_respondent_is_left_out(people):
    assert [people.traits_of(row) for row in range(3)] == [{"age": "young"}, {}, {"age": "old"}]


def test_respondents_print_no_rows(people):
    assert repr(people) == "<Respondents few: 3 people, 1 traits, weighted>"
    assert repr(replace(people, weights=None)) == "<Respondents few: 3 people, 1 traits, no weights>"


def test_a_sample_of_respondents_is_distinct_ordered_and_the_same_for_the_same_seed(gss):
    part = gss.sample(50, seed=3)
    assert part.ids == gss.sample(50, seed=3).ids != gss.sample(50, seed=4).ids
    rows = [gss.ids.index(name) for name in part.ids]
    assert rows == sorted(set(rows))
    assert all(part.codes[name].tolist() == gss.codes[name][rows].tolist() for name in gss.codes)
    assert isinstance(part, LoadedRespondents)


@pytest.mark.parametrize("n", [0, -1, 4])
def test_a_sample_of_respondents_that_cannot_be_drawn_is_refused(people, n):
    with pytest.raises(OptionError, match=f"cannot sample {n} respondents of 3: allowed are 1 to 3"):
        people.sample(n)


def answers_of(survey, statuses):
    n, q = np.shape(statuses)
    return Answers(
        survey=survey,
        respondent_ids=tuple(map(str, range(n))),
        persona_ids=("",) * n,
        weights=np.ones(n),
        picks=np.zeros((n, q), dtype=np.int16),
        probs=np.zeros((n, q, 3), dtype=np.float32),
        mass=np.ones((n, q), dtype=np.float32),
        statuses=np.array(statuses, dtype=str).reshape(n, q),
        raw=np.full((n, q), "", dtype=object),
    )


@given(st.lists(st.lists(st.sampled_from(schema.STATUSES), min_size=2, max_size=2), min_size=1, max_size=20))
def test_coverage_counts_every_status_and_sums_to_one(statuses):
    answers = answers_of(Survey.load("bfi"), statuses)
    flat = [status for row in statuses for status in row if status != schema.SKIPPED]
    assume(flat)
    assert answers.coverage == {status: flat.count(status) / len(flat) for status in schema.ASKED}
    assert sum(answers.coverage.values()) == pytest.approx(1)
    assert len(answers) == len(statuses)


def test_coverage_of_no_answers_is_refused_not_nan(spending):
    with pytest.raises(EmptyError, match="no answers to count: simulate at least one role and one question"):
        _ = answers_of(spending, np.empty((0, 4))).coverage


# -- skip logic and piping

TEA = {"key": "tea", "text": "Tea?", "options": [{"code": 1, "text": "Yes"}, {"code": 2, "text": "No"}]}


def after(**fields):
    return {"name": "s", "questions": [TEA, {**TEA, "key": "milk", "text": "Milk?", **fields}]}


CONDITIONS = st.recursive(
    st.builds(lambda codes: {"question": "tea", "in": codes}, st.lists(st.sampled_from([1, 2]), min_size=1)),
    lambda inner: st.one_of(
        st.builds(lambda parts: {"all": parts}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda parts: {"any": parts}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda part: {"not": part}, inner),
    ),
    max_leaves=8,
)


def judged(value, tea):
    """The meaning of a condition, written anew."""
    if "in" in value:
        return tea in value["in"]
    if "not" in value:
        return not judged(value["not"], tea)
    kind = "all" if "all" in value else "any"
    return {"all": all, "any": any}[kind]([judged(part, tea) for part in value[kind]])


@given(CONDITIONS, st.sampled_from([1, 2, None]))
def test_a_condition_means_what_it_says_and_survives_its_json_form(value, tea):
    condition = schema.Condition.from_dict(value)
    assert condition.holds({"tea": tea}) == judged(value, tea)
    assert schema.Condition.from_dict(condition.to_dict()) == condition
    survey = Survey.from_dict(after(ask_if=value))
    assert Survey.from_dict(json.loads(json.dumps(survey.to_dict()))) == survey


@pytest.mark.parametrize(
    "value",
    [{}, "tea", {"question": "tea"}, {"question": "tea", "in": []}, {"question": "tea", "in": ["1"]}, {"all": []}]
    + [{"not": {}}, {"any": [1]}, {"question": "tea", "in": [1], "or": 2}, {"question": "tea", "in": [True]}],
)
def test_what_is_no_condition_is_refused_with_the_forms_there_are(value):
    with pytest.raises(DataError, match="is no condition: write .*'question': KEY, 'in'"):
        schema.Condition.from_dict(value)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {"ask_if": {"question": "milk", "in": [1]}},
            "'milk' depends on 'milk', which comes after it: put 'milk' before",
        ),
        ({"text": "Why {milk}?"}, "'milk' depends on 'milk', which comes after it"),
        ({"ask_if": {"question": "beer", "in": [1]}}, "'milk' depends on 'beer', which is not in the survey"),
        ({"ask_if": {"question": "tea", "in": [1, 9]}}, "'tea' has no option with the code 9; allowed: 1, 2"),
    ],
)
def test_a_question_that_depends_on_what_is_not_before_it_is_refused(fields, said):
    with pytest.raises(DataError, match=said):
        Survey.from_dict(after(**fields))


def test_a_selection_keeps_what_its_questions_depend_on_or_is_refused():
    survey = Survey.from_dict(after(ask_if={"question": "tea", "in": [1]}))
    assert survey.select(["tea", "milk"]) == survey and survey.select(["tea"]).keys == ("tea",)
    with pytest.raises(OptionError, match="question 'milk' depends on tea: select that, too"):
        survey.select(["milk"])
