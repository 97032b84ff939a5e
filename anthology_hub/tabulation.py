"""Answers, results and respondents as labelled tables: for SPSS, Stata, R, pandas and `datasets`.

`statfiles.write_data` writes such a table, `ddi.ddi_codebook` describes it, `table.frame` is the pandas data frame.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from anthology_hub import __version__
from anthology_hub.errors import EmptyError
from anthology_hub.labelled import Code, LabelledTable, Variable, codebook_of, frame_of, is_text, texts_of
from anthology_hub.schema import (
    ANSWERED,
    ASKED,
    CHOICE,
    FAILED,
    MISSING,
    NUMBER,
    RANKING,
    REFUSED,
    SKIPPED,
    TEXT,
    UNPARSABLE,
    Answers,
    Metric,
    Question,
    Respondents,
    Result,
    Survey,
)

if TYPE_CHECKING:
    from datasets import Dataset
    from numpy.typing import NDArray

NO_ANSWER: Mapping[str, str] = {
    REFUSED: "Refused to answer",
    UNPARSABLE: "Reply was no answer",
    FAILED: "Model failed",
    SKIPPED: "Not asked",
}
"""Status without an answer -> its value label; in the order of the missing codes: -1, -2, -3, -4."""
CITATION = (
    f"anthology_hub {__version__}; Moon et al. (2024), Virtual Personas for Language Models via an Anthology of "
    "Backstories, EMNLP 2024, arXiv:2407.06576"
)
SIMULATED = "A language model gave these answers in place of people; they are no answers of people."


def answers_table(answers: Answers, *, probs: bool = False, ids: bool = False) -> LabelledTable:
    """Return simulated answers as a table: one row for each person who was stood in for, one column for each question.

    A cell holds the survey's own code of the chosen option. Where there is no answer it holds a user-missing code:
    refused -1, unparsable -2, failed -3, not asked (skip logic) -4; in a survey that has negative codes of its own,
    the next four below its smallest. A question that is no choice has a number or a text, or a column for each option
    (`KEY_1`, `KEY_2` ...: 1 if chosen, 0 if not; the place in a ranking), empty where there is no answer, and the
    reason for that in `KEY_status`.

    Args:
        answers: From `simulate` or `load_run`.
        probs: Add the probability of each option, as `KEY_p1`, `KEY_p2` ...
        ids: Add whom each row stands in for, to join it with your own file. Such a table can point at people.

    Example:
        >>> from anthology_hub import Respondents, SimulateOptions, open_model, simulate, unmatched
        >>> survey = Survey.load("gss-national-spending").select(["natenvir"])
        >>> cast, options = unmatched(Respondents.load("gss-2018").sample(3)), SimulateOptions(conditioning="bio")
        >>> table = answers_table(simulate(cast, survey, open_model("scripted:first"), options=options))
        >>> list(table.frame.columns), table.variables["natenvir"].values[-1.0]
        (['persona_id', 'weight', 'natenvir'], 'Refused to answer')
    """
    survey, made = answers.survey, _Columns(taken=set(answers.survey.keys))
    if ids:
        label = "Respondent who is stood in for, by the id in the human file"
        made.add(texts_of(answers.respondent_ids), Variable(name="respondent_id", label=label))
    made.add(texts_of(answers.persona_ids), Variable(name="persona_id", label="Persona who answered"))
    made.add(answers.weights, Variable(name="weight", label=_LABELS["weight"], measure="scale"))
    variables = survey_variables(survey)
    for at, question in enumerate(survey.questions):
        if question.kind != CHOICE:
            _add_values(made, answers, at)
            continue
        made.add(_coded(answers, at), variables[question.key], own=True)
        for place, option in enumerate(question.options if probs else ()):
            label = f"Probability of {option!r}: {question.text}"
            chance = Variable(name=f"{question.key}_p{place + 1}", label=label, measure="scale")
            made.add(answers.probs[:, at, place], chance)
    return LabelledTable(
        frame=frame_of(made.columns),
        variables=made.variables,
        title=f"Simulated answers: {survey.title or survey.name}",
        notes=(SIMULATED, f"Cite: {CITATION}.", *([f"Survey: {survey.source}"] if survey.source else [])),
        provenance=_facts(answers),
    )


def survey_variables(survey: Survey) -> dict[str, Variable]:
    """Return a variable for each choice question: its wording, options and codes, and the codes of no answer.

    Example:
        >>> variable = survey_variables(Survey.load("gss-national-spending"))["natenvir"]
        >>> variable.measure, variable.missing
        ('ordinal', ((-4.0, -1.0),))
    """
    first = _first_missing(survey)
    reasons: dict[Code, str] = {first - place: label for place, label in enumerate(NO_ANSWER.values())}
    span = (first - len(reasons) + 1, first)
    return {
        question.key: replace(plain, values={**plain.values, **reasons}, missing=(span,))
        for question in survey.questions
        for plain in [_variable(question)]
        if question.kind == CHOICE
    }


def results_table(results: Iterable[Result]) -> LabelledTable:
    """Return results as a table: one row for each metric of each result, with all that belongs to the figure.

    Raises:
        EmptyError: If there is no result.

    Example:
        >>> metric = Metric(name="wd", value=0.2, unit="option steps", low=0.1, high=0.3)
        >>> fields = dict(run_id="a1", created="2026-01-01", survey="s", developer="d", model="m", method="bio", n=9)
        >>> rest = dict(n_humans=99, questions=("q",), weighting="weighted", coverage={"answered": 1.0}, items=())
        >>> table = results_table([Result(**fields, **rest, option_mass=None, metrics=(metric,))])
        >>> table.frame[["run_id", "metric", "value", "n"]].values.tolist()
        [['a1', 'wd', 0.2, 9.0]]
    """
    found = list(results)
    rows = [_row(result, metric) for result in found for metric in result.metrics]
    if not rows:
        raise EmptyError("there are no results to tabulate: give one or more, each with its metrics")
    columns = {name: _column([row[name] for row in rows], text=name in _TEXTS) for name in _FIGURES}
    variables = {
        name: Variable(name=name, label=label, measure="nominal" if name in _TEXTS else "scale")
        for name, label in _FIGURES.items()
    }
    return LabelledTable(
        frame=frame_of(columns),
        variables=variables,
        title="Simulated answers compared with those of people",
        notes=(f"Cite: {CITATION}.", *dict.fromkeys(note for result in found for note in result.notes)),
        provenance={"runs": ", ".join(dict.fromkeys(result.run_id for result in found)), "citation": CITATION},
    )


def respondents_table(humans: Respondents) -> LabelledTable:
    """Return respondents as a table, for your own program on this machine. It holds answers of people."""
    asked = {question.key: _variable(question) for question in (humans.survey.questions if humans.survey else ())}
    made = _Columns(taken={*humans.codes, *humans.answers, *(f"{key}_retest" for key in humans.retest)})
    made.add(texts_of(humans.ids), Variable(name="id", label="Respondent"))
    for name, values in (("weight", humans.weights), ("stratum", humans.strata), ("psu", humans.psu)):
        if values is not None:
            measure = "scale" if name == "weight" else "nominal"
            made.add(values, Variable(name=name, label=_LABELS[name], measure=measure))
    for trait, codes in humans.codes.items():
        levels: dict[Code, str] = {float(at): level for at, level in enumerate(humans.levels[trait], start=1)}
        variable = Variable(name=trait, label=trait, values=levels, measure="nominal")
        made.add(_meant(codes, list(levels)), variable, own=True)
    for ending, answers in (("", humans.answers), ("_retest", humans.retest)):
        for key, codes in answers.items():
            variable = replace(asked.get(key) or Variable(name=key), name=f"{key}{ending}")
            # Without a survey, options are known by their place alone.
            meaning = list(variable.values) or list(range(1, int(codes.max(initial=0)) + 2))
            made.add(_meant(codes, meaning), variable, own=True)
    return LabelledTable(
        frame=frame_of(made.columns),
        variables=made.variables,
        title=f"Respondents of {humans.name}",
        notes=("Answers of people: keep this file to yourself.", *humans.notes),
        provenance={"source": humans.source},
    )


def to_dataset(table: LabelledTable) -> Dataset:
    """Return a table as a `datasets.Dataset`, its codebook in `info.description`.

    A column of codes becomes a ClassLabel if nothing is lost: each code that occurs has a label, and no two labels are
    the same. Its classes are all labels in the order of the codebook, those of user-missing codes among them. Other
    columns stay numbers or text; what is missing is None.

    Example:
        >>> import pandas as pd
        >>> vote = Variable(name="vote", values={1.0: "Yes", 2.0: "No"})
        >>> table = LabelledTable(frame=pd.DataFrame({"vote": [2.0, 1.0, float("nan")]}), variables={"vote": vote})
        >>> data = to_dataset(table)
        >>> data.features["vote"].names, data["vote"][:]
        (['Yes', 'No'], [1, 0, None])
    """
    from datasets import ClassLabel, Dataset, Features, Value

    columns: dict[str, list[Any]] = {}
    features: dict[str, Any] = {}
    for name, variable in table.variables.items():
        values = [None if value is None or value != value else value for value in table.frame[name].tolist()]
        places = {code: place for place, code in enumerate(variable.values)}
        labels = list(variable.values.values())
        if labels and len(set(labels)) == len(labels) and all(v is None or v in places for v in values):
            columns[name] = [None if value is None else places[value] for value in values]
            features[name] = ClassLabel(names=labels)
        else:
            columns[name], features[name] = values, Value("string" if is_text(table, name) else "float64")
    data = Dataset.from_dict(columns, features=Features(features))
    data.info.description = json.dumps(codebook_of(table), ensure_ascii=False, indent=1)
    return data


# -- columns ---------------------------------------------------------------------------------------------------------


class _Columns:
    """Columns with their variables, no two of one name: a question's key is never changed."""

    def __init__(self, *, taken: set[str]) -> None:
        self.taken = taken
        self.columns: dict[str, NDArray[Any]] = {}
        self.variables: dict[str, Variable] = {}

    def add(self, column: NDArray[Any], variable: Variable, *, own: bool = False) -> None:
        """Add a column; one that is not the survey's own gets `_` behind a name that is taken."""
        name = variable.name
        while not own and name in self.taken:
            name += "_"
        self.taken.add(name)
        self.columns[name] = column if column.dtype == object else np.asarray(column, dtype=np.float64)
        self.variables[name] = replace(variable, name=name)


def _variable(question: Question) -> Variable:
    return Variable(
        name=question.key,
        label=question.text,
        values={float(code): text for code, text in zip(question.codes, question.options, strict=True)},
        measure="ordinal" if question.ordinal else "nominal",
    )


def _meant(places: NDArray[np.int16], codes: Sequence[Any]) -> NDArray[np.float64]:
    """What stands for each place; MISSING is NaN."""
    # MISSING is -1 and takes the last.
    return np.array([*codes, math.nan], dtype=np.float64)[np.where(places == MISSING, -1, places)]


def _first_missing(survey: Survey) -> float:
    """The code of a refusal: -1, or the next below the smallest code of the survey."""
    return float(min([0, *(code for question in survey.questions for code in question.codes)]) - 1)


def _coded(answers: Answers, at: int) -> NDArray[np.float64]:
    codes = _meant(answers.picks[:, at], answers.survey.questions[at].codes)
    for place, status in enumerate(NO_ANSWER):
        codes[answers.statuses[:, at] == status] = _first_missing(answers.survey) - place
    return codes


def _add_values(made: _Columns, answers: Answers, at: int) -> None:
    """Add the columns of a question that is no choice."""
    question = answers.survey.questions[at]
    n = len(answers)
    values = [None] * n if answers.values is None else answers.values[:, at].tolist()
    if question.kind == NUMBER:
        numbers = np.array([math.nan if value is None else value for value in values])
        made.add(numbers, Variable(name=question.key, label=question.text, measure="scale"), own=True)
    elif question.kind == TEXT:
        made.add(texts_of(values), Variable(name=question.key, label=question.text), own=True)
    for place, option in enumerate(question.options):
        # The label keeps what tells the columns apart, however long the question is.
        name, label = f"{question.key}_{place + 1}", f"{option}: {question.text}"
        made.add(*_of_option(question, values, place, Variable(name=name, label=label)))
    reasons: dict[Code, str] = {0.0: "Answered"}
    reasons |= {float(-1 - place): label for place, label in enumerate(NO_ANSWER.values())}
    codes = {ANSWERED: 0.0, **{status: float(-1 - place) for place, status in enumerate(NO_ANSWER)}}
    status = np.array([codes[str(each)] for each in answers.statuses[:, at]])
    label = f"Whether there is an answer: {question.text}"
    made.add(status, Variable(name=f"{question.key}_status", label=label, values=reasons, measure="nominal"))


def _of_option(
    question: Question, values: Sequence[Any], place: int, variable: Variable
) -> tuple[NDArray[np.float64], Variable]:
    """Return whether an option was chosen, or its place in the ranking, for each role; NaN without an answer."""
    if question.kind == RANKING:
        ranks = [math.nan if value is None else value.index(place) + 1.0 for value in values]
        return np.array(ranks), replace(variable, measure="ordinal")
    chosen = [math.nan if value is None else float(place in value) for value in values]
    return np.array(chosen), replace(variable, values={0.0: "Not chosen", 1.0: "Chosen"}, measure="nominal")


def _facts(answers: Answers) -> dict[str, Any]:
    """What is needed to know where the answers come from, as far as the run tells."""
    run = answers.provenance
    inputs: Mapping[str, Any] = run.get("inputs", {})
    model, cast, options = (inputs.get(part, {}) for part in ("model", "cast", "options"))
    facts = {
        "run_id": run.get("run_id"),
        "created": run.get("started"),
        "developer": model.get("developer"),
        "model": model.get("model"),
        "revision": model.get("revision"),
        "conditioning": options.get("conditioning"),
        "matching": cast.get("method"),
        "seed": inputs.get("seed"),
        "collection": inputs.get("collection"),
        "humans": inputs.get("humans"),
        "survey": answers.survey.name,
        "survey_digest": answers.survey.digest,
        "prompts_digest": inputs.get("prompts"),
        "software": f"anthology_hub {__version__}",
        "citation": CITATION,
    }
    return {name: value for name, value in facts.items() if value not in (None, "")}


_LABELS = {
    "weight": "Survey weight of the respondent",
    "stratum": "Stratum of the sample",
    "psu": "Primary sampling unit",
}
_FIGURES = {
    "run_id": "Run",
    "created": "When the run began (UTC)",
    "survey": "Survey",
    "developer": "Developer of the model",
    "model": "Model",
    "method": "Conditioning and matching",
    "weighting": "Weighting",
    "metric": "Metric",
    "unit": "Unit of the metric",
    "value": "Value",
    "low": "Lower end of the interval",
    "high": "Upper end of the interval",
    "human": "The humans' own value",
    "floor": "Floor: mean between random halves of the humans",
    "floor_equal_n": "Floor at equal n: mean between samples of humans, one as large as the cast",
    "uniform": "Baseline: every option as likely",
    "majority": "Baseline: always the humans' most frequent answer",
    "n": "Simulated people",
    "n_humans": "People compared with",
    "n_effective": "Effective number of the people (Kish)",
    "coverage": "Share of the questions asked that were answered",
    **{status: f"Share of the questions asked that were {status}" for status in ASKED if status != ANSWERED},
    "option_mass": "Mean probability mass on the options",
    "note": "Note on the figure",
}
_TEXTS = {"run_id", "created", "survey", "developer", "model", "method", "weighting", "metric", "unit", "note"}


def _row(result: Result, metric: Metric) -> dict[str, Any]:
    about = {name: getattr(result, name) for name in _FIGURES if hasattr(result, name)}
    shares = {status: result.coverage.get(status) for status in ASKED}
    return {**about, **shares, "coverage": shares[ANSWERED], **asdict(metric), "metric": metric.name}


def _column(values: Sequence[Any], *, text: bool) -> NDArray[Any]:
    if text:
        return texts_of(values)
    return np.array([math.nan if value is None else value for value in values], dtype=np.float64)
