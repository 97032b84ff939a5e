"""Questions of every kind as nouns: their limits, their JSON form, and what is refused with its reason."""

import pytest
from hypothesis import HealthCheck, given, settings

from anthology_hub.errors import DataError, UnknownNameError
from anthology_hub.questionnaires.checks import problems
from anthology_hub.schema import ANSWER_KINDS, Codebook, Question, Survey, wrong_limits
from tests.test_survey_checks import sound_surveys

OPTIONS = [{"code": 1, "text": "Fig"}, {"code": 2, "text": "Plum"}]


def survey(**question):
    return {"name": "s", "options": OPTIONS, "questions": [{"key": "q", "text": "Q?", **question}]}


def told(value):
    return [str(problem) for problem in problems(value)]


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        ("bfi", "9cf04f3b"),
        ("gss-gov-responsibility", "3f2bd6bc"),
        ("gss-national-spending", "2ff4cb8c"),
    ],
)
def test_shipped_surveys_keep_the_digests_that_results_name(name, digest):
    assert Survey.load(name).digest.startswith(digest)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(sound_surveys())
def test_a_survey_of_any_kinds_goes_to_its_form_and_back_with_its_digest(value):
    loaded = Survey.from_dict(value)
    again = Survey.from_dict(loaded.to_dict())
    assert again == loaded and again.digest == loaded.digest
    for question, written in zip(loaded.questions, loaded.to_dict()["questions"], strict=True):
        assert written.get("kind", "choice") == question.kind
        assert ("options" in written) == (question.kind not in ("number", "text"))


def test_the_form_holds_what_is_not_as_usual_and_nothing_else():
    value = survey(kind="number", low=0, high=24.5, unit="hours")
    (written,) = Survey.from_dict(value).to_dict()["questions"]
    assert written == {
        "key": "q", "text": "Q?", "reverse": False, "kind": "number", "low": 0, "high": 24.5, "unit": "hours",
    }  # fmt: skip
    (plain,) = Survey.from_dict(survey()).to_dict()["questions"]
    assert set(plain) == {"key", "text", "reverse", "options"}


@pytest.mark.parametrize("unsure", ["Don't know", "Not sure", "[I’m not sure]"])
def test_options_off_the_scale_are_kept_by_their_codes_and_a_survey_without_them_keeps_its_form(unsure):
    options = [*OPTIONS[:1], {"code": 9, "text": unsure}, *OPTIONS[1:]]
    plain, marked = (survey(options=options, **more) for more in ({}, {"off_scale": [9]}))
    (question,) = Survey.from_dict(marked).questions
    assert question.on_scale == (0, 2) and question.off_scale == (9,)
    written = Survey.from_dict(marked).to_dict()
    assert written["questions"][0]["off_scale"] == [9] and Survey.from_dict(written) == Survey.from_dict(marked)
    assert "off_scale" not in Survey.from_dict(plain).to_dict()["questions"][0]
    assert Survey.from_dict(plain).digest != Survey.from_dict(marked).digest
    # Marked, it is no step of the scale any more, and so no longer warned of.
    assert told(marked) == []
    (warning,) = told(plain)
    assert warning.startswith(f"warning: question 'q', options: {unsure!r} stands as a step of an ordinal scale")
    assert "name its code in `off_scale`" in warning


def test_options_of_the_survey_serve_the_kinds_that_have_some():
    kinds = {kind: Survey.from_dict(survey(kind=kind)).questions[0].options for kind in ANSWER_KINDS}
    both = ("Fig", "Plum")
    assert kinds == {"choice": both, "number": (), "multi": both, "ranking": both, "text": ()}


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ({"low": 1}, "low: only the kind number has it"),
        ({"kind": "text", "most": 1}, "most: only the kind multi has it"),
        ({"kind": "number", "exclusive": [1]}, "exclusive: only the kind multi has it"),
        ({"kind": "number", "low": 2, "high": 1}, "low: it is 2, more than high, which is 1"),
        ({"kind": "multi", "least": 2, "most": 1}, "least: it is 2, more than most, which is 1"),
        ({"kind": "multi", "most": 3}, "most: 3 is no whole number from 1 to 2, the number of options"),
        ({"kind": "multi", "least": 3}, "least: 3 is no whole number from 0 to 2, the number of options"),
        ({"kind": "multi", "exclusive": [1, 9]}, "exclusive: there is no option with the code 9; it has 1, 2"),
        ({"kind": "multi", "off_scale": [1]}, "off_scale: only the kind choice has it"),
        ({"off_scale": [8, 2, 9]}, "off_scale: there is no option with the code 8, 9; it has 1, 2"),
        ({"off_scale": [2], "ordinal": False}, "off_scale: only options in order make a scale: leave it out"),
        ({"off_scale": [2]}, "off_scale: it leaves 1 of 2 options on the scale: at least 2 must remain"),
    ],
)
def test_limits_that_limit_nothing_are_refused_and_told_by_the_checks(question, message):
    value = survey(**question)
    with pytest.raises(DataError, match=f"question 'q', {message}"):
        Survey.from_dict(value)
    (problem,) = told(value)
    assert problem.startswith(f"error: question 'q', {message}")


@pytest.mark.parametrize(
    ("question", "loading", "checking"),
    [
        (
            {"kind": "number", "low": "1"},
            "low: '1' is no finite number",
            "low: '1' is not a number: write 1, without quotes",
        ),
        ({"kind": "number", "high": True}, "high: True is no finite number", "high: true is not a number"),
        ({"kind": "number", "low": float("nan")}, "low: nan is no finite number", "low: nan is no finite number"),
        ({"kind": "number", "unit": 5}, "unit: 5 is no text", "unit: 5 is not a text: put it in quotes"),
        ({"kind": "multi", "least": 0.5}, "least: 0.5 is no whole number", "least: 0.5 is not a whole number"),
        ({"kind": "multi", "exclusive": 1}, "exclusive: 1 is no list of codes", "exclusive: 1 is not a list"),
        ({"off_scale": ["9"]}, r"off_scale: \('9',\) is no list of codes", "off_scale 1: '9' is not a whole number"),
        (
            {"kind": "text", "options": OPTIONS},
            " is of the kind text, which has no options",
            "options: the kind text has no",
        ),
    ],
)
def test_limits_of_another_type_are_refused_and_told_by_the_checks(question, loading, checking):
    value = survey(**question)
    with pytest.raises(DataError, match=f"question 'q',? ?{loading}"):
        Survey.from_dict(value)
    (problem,) = told(value)
    assert problem.startswith(f"error: question 'q', {checking}")


@pytest.mark.parametrize("code", [float("inf"), float("nan")])
def test_a_code_that_is_not_finite_is_refused(code):
    with pytest.raises(DataError, match="question 'q': .*an option is like"):
        Survey.from_dict(survey(options=[{"code": code, "text": "Fig"}, *OPTIONS[1:]]))


def test_orders_and_scales_of_another_type_are_refused_by_what_they_are():
    with pytest.raises(
        DataError, match="order_patterns must be a list of original, reversed, shuffled, got 'original'"
    ):
        Survey.from_dict({**survey(), "order_patterns": "original"})
    with pytest.raises(DataError, match=r"scales must be an object of name to keys, got \{'one': \[\['q'\]\]\}"):
        Survey.from_dict({**survey(), "scales": {"one": [["q"]]}})


def test_an_unknown_kind_is_refused_with_those_that_are_known():
    with pytest.raises(UnknownNameError, match=r"kind of the question 'q': 'numbers': did you mean 'number'\?"):
        Survey.from_dict(survey(kind="numbers"))
    assert told(survey(kind="numbers")) == [
        "error: question 'q', kind: 'numbers' is not allowed: allowed are choice, number, multi, ranking, text"
    ]


def test_a_condition_on_a_question_that_is_no_choice_is_refused():
    value = survey(kind="multi")
    value["questions"].append({"key": "b", "text": "B?", "ask_if": {"question": "q", "in": [1]}})
    with pytest.raises(DataError, match="question 'b': 'q' is of the kind multi, and a condition is on a choice"):
        Survey.from_dict(value)
    assert told(value) == ["error: question 'b', ask_if: 'q' is of the kind multi, and a condition is on a choice"]


def test_a_question_that_is_no_choice_counts_in_no_scale_and_its_options_are_no_steps():
    declining = [*OPTIONS, {"code": 8, "text": "Don't know"}]
    value = survey(kind="ranking", options=declining, reverse=True)
    value |= {"scales": {"one": ["q"]}, "order_patterns": ["shuffled"]}
    assert Survey.from_dict(value).questions[0].kind == "ranking"
    assert sorted(told(value)) == [
        "warning: question 'q', reverse: it counts reversed, but is of the kind ranking",
        "warning: scales, one: 'q' is of the kind ranking, which no scale counts",
    ]


def test_sound_limits_have_nothing_wrong():
    question = Question(key="q", text="?", kind="number", low=0, high=0)
    assert wrong_limits(question, given=("low", "high")) == []


def test_a_codebook_coded_as_others_code_speaks_known_levels_as_its_own_and_others_as_they_are():
    starter = Codebook.load("starter")
    coded = starter.coded({"age": ("65+", "under 65"), "shoe size": ("9",)})
    assert [trait.name for trait in coded.traits] == ["age"]
    age = coded.trait("age")
    assert age.levels == ("65+", "under 65") and age.options == ("65 or above", "under 65")
    assert age.question == starter.trait("age").question and age.sentence("65+") == starter.trait("age").sentence("65+")
