"""Answers, results and respondents as labelled tables, and what a file keeps of them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import jsonschema
import numpy as np
import pyreadstat
import pytest
from datasets import ClassLabel, Value, load_from_disk

from anthology_hub import Respondents, SimulateOptions, evaluate, open_model, simulate, unmatched
from anthology_hub.errors import EmptyError
from anthology_hub.labelled import LabelledTable, Variable, codebook_of
from anthology_hub.schema import (
    ANSWERED,
    DATA,
    FAILED,
    MISSING,
    REFUSED,
    SKIPPED,
    UNPARSABLE,
    Answers,
    Metric,
    Question,
    Result,
    Survey,
)
from anthology_hub.statfiles import EXTENDED, WRITABLE, open_data, write_data
from anthology_hub.tabulation import CITATION, answers_table, respondents_table, results_table, to_dataset

VOTE = Question(key="vote", text="Did you vote?", options=("Yes", "No"), codes=(1, 5), ordinal=False)
TRUST = Question(key="trust", text="How much trust?", options=("A lot", "Some", "None"), codes=(1, 2, 3))


def made(*questions: Question) -> Answers:
    """Five roles, one for each status."""
    asked = questions or (VOTE, TRUST)
    statuses = np.array([[status] * len(asked) for status in (ANSWERED, REFUSED, UNPARSABLE, FAILED, SKIPPED)])
    picks = np.full(statuses.shape, MISSING, dtype=np.int16)
    picks[0] = 1
    probs = np.full((*statuses.shape, 3), np.nan, dtype=np.float32)
    probs[0, :, :2] = [0.25, 0.75]
    return Answers(
        survey=Survey(name="poll", title="A poll", source="Made up.", questions=asked),
        respondent_ids=("r1", "r2", "r3", "r4", "r5"),
        persona_ids=("p1", "", "p3", "p4", "p5"),
        weights=np.array([0.5, 1.5, 1.0, 1.0, 1.0]),
        picks=picks,
        probs=probs,
        mass=np.full(statuses.shape, np.nan, dtype=np.float32),
        statuses=statuses,
        raw=np.full(statuses.shape, "", dtype=object),
        provenance={
            "run_id": "abc",
            "started": "2026-01-02T03:04:05+00:00",
            "inputs": {
                "model": {"developer": "lab", "model": "m", "revision": "r"},
                "cast": {"method": "greedy"},
                "options": {"conditioning": "anthology"},
                "seed": 7,
                "humans": "gss-2018",
            },
        },
    )


def values(table: LabelledTable) -> dict[str, list]:
    return {name: ["missing" if v != v else v for v in table.frame[name].tolist()] for name in table.frame}


def test_answers_are_one_row_a_role_in_the_codes_of_the_survey() -> None:
    table = answers_table(made())
    assert values(table) == {
        "persona_id": ["p1", None, "p3", "p4", "p5"],
        "weight": [0.5, 1.5, 1.0, 1.0, 1.0],
        "vote": [5.0, -1.0, -2.0, -3.0, -4.0],
        "trust": [2.0, -1.0, -2.0, -3.0, -4.0],
    }
    vote = table.variables["vote"]
    assert dict(vote.values) == {
        1.0: "Yes",
        5.0: "No",
        -1.0: "Refused to answer",
        -2.0: "Reply was no answer",
        -3.0: "Model failed",
        -4.0: "Not asked",
    }
    assert (vote.label, vote.measure, table.variables["trust"].measure) == ("Did you vote?", "nominal", "ordinal")
    assert [vote.is_missing(code) for code in (1.0, -1.0, -4.0, -5.0)] == [False, True, True, False]


def test_answers_tell_where_they_come_from() -> None:
    table = answers_table(made())
    assert table.title == "Simulated answers: A poll"
    assert table.notes[0] == "A language model gave these answers in place of people; they are no answers of people."
    assert f"Cite: {CITATION}." in table.notes and "Survey: Made up." in table.notes
    told = {name: table.provenance[name] for name in ("run_id", "created", "model", "seed", "matching", "humans")}
    assert told == {
        "run_id": "abc",
        "created": "2026-01-02T03:04:05+00:00",
        "model": "m",
        "seed": 7,
        "matching": "greedy",
        "humans": "gss-2018",
    }
    assert table.provenance["survey_digest"] == made().survey.digest
    assert "collection" not in table.provenance


def test_ids_of_respondents_are_in_the_table_only_when_asked_for() -> None:
    assert "r1" not in json.dumps(values(answers_table(made(), probs=True)))
    assert answers_table(made(), ids=True).frame["respondent_id"].tolist() == ["r1", "r2", "r3", "r4", "r5"]


def test_probabilities_are_a_column_for_each_option() -> None:
    table = answers_table(made(), probs=True)
    assert list(table.frame.columns)[2:] == ["vote", "vote_p1", "vote_p2", "trust", "trust_p1", "trust_p2", "trust_p3"]
    assert values(table)["vote_p2"] == [0.75, *["missing"] * 4]
    assert table.variables["vote_p2"].label == "Probability of 'No': Did you vote?"


def test_a_survey_with_negative_codes_keeps_them() -> None:
    table = answers_table(made(Question(key="q", text="Q?", options=("Less", "More"), codes=(-2, 1))))
    assert values(table)["q"] == [1.0, -3.0, -4.0, -5.0, -6.0]
    assert table.variables["q"].values[-2.0] == "Less"
    assert (table.variables["q"].is_missing(-2.0), table.variables["q"].is_missing(-3.0)) == (False, True)


def test_a_question_with_the_name_of_another_column_keeps_it() -> None:
    weight = Question(key="weight", text="Your weight?", options=("Low", "High"), codes=(1, 2))
    clash = Question(key="weight_p1", text="Clash?", options=("Low", "High"), codes=(1, 2))
    table = answers_table(made(weight, clash), probs=True)
    assert list(table.frame.columns) == [
        "persona_id",
        "weight_",
        "weight",
        "weight_p1_",
        "weight_p2",
        "weight_p1",
        "weight_p1_p1",
        "weight_p1_p2",
    ]
    assert table.variables["weight"].label == "Your weight?"


@pytest.mark.parametrize("suffix", WRITABLE)
def test_answers_come_back_from_every_kind_of_file(tmp_path: Path, suffix: str) -> None:
    table = answers_table(made(), probs=True, ids=True)
    assert write_data(table, tmp_path / f"answers{suffix}") == ()
    back = open_data(tmp_path / f"answers{suffix}")
    found, letters = values(LabelledTable(frame=back.read(), variables=back.variables)), "abcd"
    expected = values(table)
    if suffix == ".dta":
        for key in ("vote", "trust"):
            expected[key] = [expected[key][0], *(EXTENDED[letter] for letter in letters)]
    assert found == expected
    labels = back.variables["vote"].values
    assert labels[EXTENDED["a"] if suffix == ".dta" else -1.0] == "Refused to answer"
    assert labels[EXTENDED["d"] if suffix == ".dta" else -4.0] == "Not asked"
    assert all(back.variables["vote"].is_missing(code) for code in found["vote"][1:])
    assert back.variables["vote"].label == "Did you vote?"


def test_spss_itself_would_leave_out_what_is_no_answer(tmp_path: Path) -> None:
    write_data(answers_table(made()), tmp_path / "answers.sav")
    frame, meta = pyreadstat.read_sav(tmp_path / "answers.sav")
    assert frame["vote"].dropna().tolist() == [5.0]
    assert meta.variable_measure["vote"] == "nominal"
    assert any(note.startswith("run_id: abc") for note in meta.notes)


def test_the_codebook_of_answers_follows_its_schema() -> None:
    schema = json.loads((DATA / "schemas" / "codebook.schema.json").read_text(encoding="utf-8"))
    codebook = codebook_of(answers_table(made(), probs=True))
    jsonschema.validate(codebook, schema)
    assert codebook["provenance"]["citation"] == CITATION


def test_a_run_and_its_result_become_tables(gss: Respondents, spending: Survey) -> None:
    humans = gss.sample(40)
    options = SimulateOptions(conditioning="bio")
    answers = simulate(unmatched(humans), spending, open_model("scripted:uniform"), options=options)
    table = answers_table(answers, probs=True)
    assert table.frame["natenvir"].isin([1.0, 2.0, 3.0]).all() and len(table.frame) == 40
    assert np.allclose(table.frame[["natenvir_p1", "natenvir_p2", "natenvir_p3"]].sum(axis=1), 1)
    result = evaluate(answers, humans)
    rows = results_table([result]).frame
    assert rows["metric"].tolist() == [metric.name for metric in result.metrics]
    assert rows["value"].tolist() == pytest.approx([metric.value for metric in result.metrics], nan_ok=True)
    floors = [np.nan if metric.floor is None else metric.floor for metric in result.metrics]
    assert rows["floor"].tolist() == pytest.approx(floors, nan_ok=True) and floors[0] > 0
    assert set(rows["run_id"]) == {result.run_id} and set(rows["n_humans"]) == {40.0}
    assert set(rows["coverage"]) == {result.coverage["answered"]}


def result(**changes: object) -> Result:
    metrics = (
        Metric(name="wd", value=0.2, unit="option steps", low=0.1, high=0.3, floor=0.05),
        Metric(name="fro", value=None, unit="Frobenius norm", note="Not defined."),
    )
    fields = {
        "run_id": "a1",
        "created": "2026-01-01",
        "survey": "poll",
        "developer": "lab",
        "model": "m",
        "method": "bio",
        "n": 9,
        "n_humans": 99,
        "questions": ("vote",),
        "weighting": "weighted",
        "metrics": metrics,
        "coverage": {"answered": 0.75, "refused": 0.25},
        "option_mass": None,
        "items": (),
        "notes": ("A note.",),
    }
    return Result(**{**fields, **changes})


def test_results_are_one_row_a_metric_with_all_that_belongs_to_it(tmp_path: Path) -> None:
    table = results_table([result(), result(run_id="b2", n_effective=80.5)])
    found = values(table)
    assert found["run_id"] == ["a1", "a1", "b2", "b2"]
    assert found["metric"] == ["wd", "fro", "wd", "fro"]
    assert found["value"] == [0.2, "missing", 0.2, "missing"]
    assert found["note"] == [None, "Not defined."] * 2
    assert found["n_effective"] == ["missing", "missing", 80.5, 80.5]
    assert (found["coverage"][0], found["refused"][0], found["failed"][0]) == (0.75, 0.25, "missing")
    assert table.notes[1:] == ("A note.",) and table.provenance["runs"] == "a1, b2"
    write_data(table, tmp_path / "results.parquet")
    back = open_data(tmp_path / "results.parquet")
    assert values(LabelledTable(frame=back.read(), variables=back.variables)) == found


def test_no_result_is_told() -> None:
    for nothing in ([], [result(metrics=())]):
        with pytest.raises(EmptyError, match="there are no results to tabulate: give one or more"):
            results_table(nothing)


def test_respondents_become_a_table_with_levels_and_options() -> None:
    humans = Respondents(
        name="made",
        ids=("a", "b", "c"),
        levels={"age": ("young", "old"), "vote": ("x",)},
        codes={"age": np.array([1, 0, MISSING], dtype=np.int16)},
        answers={"vote": np.array([1, MISSING, 0], dtype=np.int16)},
        retest={"vote": np.array([0, 0, MISSING], dtype=np.int16)},
        weights=np.array([0.5, 1.0, 1.5]),
        strata=np.array([0, 0, 1]),
        survey=Survey(name="poll", title="", source="", questions=(VOTE,)),
    )
    table = respondents_table(humans)
    assert values(table) == {
        "id": ["a", "b", "c"],
        "weight": [0.5, 1.0, 1.5],
        "stratum": [0.0, 0.0, 1.0],
        "age": [2.0, 1.0, "missing"],
        "vote": [5.0, "missing", 1.0],
        "vote_retest": [1.0, 1.0, "missing"],
    }
    assert dict(table.variables["age"].values) == {1.0: "young", 2.0: "old"}
    assert table.variables["vote_retest"].values == {1.0: "Yes", 5.0: "No"}
    assert table.notes[0] == "Answers of people: keep this file to yourself."


def test_respondents_without_a_survey_keep_the_places_of_their_options() -> None:
    answers = {"q": np.array([2, 0, MISSING], dtype=np.int16)}
    humans = Respondents(name="made", ids=("a", "b", "c"), levels={}, codes={}, answers=answers)
    table = respondents_table(humans)
    assert values(table)["q"] == [3.0, 1.0, "missing"] and table.variables["q"] == Variable(name="q")


# -- datasets --------------------------------------------------------------------------------------------------------


def test_a_dataset_has_classes_for_labelled_codes(tmp_path: Path) -> None:
    data = to_dataset(answers_table(made()))
    vote = data.features["vote"]
    assert isinstance(vote, ClassLabel) and data.features["weight"] == Value("float64")
    texts = [vote.int2str(place) for place in data["vote"][:]]
    assert texts == ["No", "Refused to answer", "Reply was no answer", "Model failed", "Not asked"]
    assert data["persona_id"][:] == ["p1", None, "p3", "p4", "p5"]
    assert json.loads(data.info.description)["variables"][2]["label"] == "Did you vote?"
    data.save_to_disk(tmp_path / "saved")
    assert load_from_disk(str(tmp_path / "saved")).features["vote"].names == vote.names


def test_codes_that_classes_cannot_tell_apart_stay_numbers() -> None:
    import pandas as pd

    variables = {
        "unlabelled": Variable(name="unlabelled", values={1.0: "Yes"}),
        "doubled": Variable(name="doubled", values={1.0: "Yes", 2.0: "Yes"}),
        "text": Variable(name="text", values={"a": "First", "b": "Second"}),
    }
    frame = pd.DataFrame({"unlabelled": [1.0, 2.0, math.nan], "doubled": [1.0, 2.0, 1.0]})
    frame["text"] = pd.Series(["b", None, "a"], dtype=object)
    data = to_dataset(LabelledTable(frame=frame, variables=variables))
    assert data.features["unlabelled"] == data.features["doubled"] == Value("float64")
    assert data["unlabelled"][:] == [1.0, 2.0, None]
    assert data.features["text"].names == ["First", "Second"] and data["text"][:] == [1, None, 0]
