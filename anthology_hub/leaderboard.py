"""Results to one immutable file each in a results folder or repository, and those files to a ranked table.

A push only adds files. Ranking is computed when read, within a survey and its questions; raw and normalised distances
never share a column.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anthology_hub import hub
from anthology_hub.errors import DataError, EmptyError
from anthology_hub.schema import Answers, Metric, Result, digest, read_json

RUNS, ANSWERS = "runs", "answers"
EEE_VERSION = "0.3.0"
"""Version of the Every Eval Ever record that a run file follows (evaleval, arXiv 2606.14516)."""
SMALLEST_CELL = 10
"""Fewer humans than this behind a published figure may be recognised."""
HUMANS, UNIFORM, MAJORITY = "humans (floor at equal n)", "uniform", "majority"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a leaderboard."""

    rank: int | None
    """1 is nearest to the humans; None for the reference lines."""
    group: str
    """What is compared with what; ranks hold within a group."""
    survey: str
    method: str
    model: str
    n: int | None
    wd_normalised: float | None
    low: float | None
    high: float | None
    wd: float | None
    fro: float | None
    alpha: float | None
    human_alpha: float | None
    coverage: float | None
    run_id: str = ""
    tied: bool = False
    """Whether the interval overlaps the one of the line above: the order of the two may be chance."""


def publish(
    result: Result, target: str | Path, *, answers: Answers | None = None, smallest_cell: int = SMALLEST_CELL
) -> str:
    """Add a result, and if given its simulated answers, to a results folder or dataset repository.

    Human answers are not accepted: nothing here takes respondents.

    Args:
        result: From `evaluate`.
        target: A folder, or `namespace/name` on the Hub (made private if it is not there).
        answers: What the result was computed from, so that others can check it.
        smallest_cell: Refuse a result in which fewer humans than this chose some option (0 of them is fine).

    Returns:
        Path of the run file inside the target.

    Raises:
        DataError: If the target holds another result of the same name, or a cell of humans is too small.
    """
    for item in result.items:
        if small := [count for count in item.get("human_counts", ()) if 0 < count < smallest_cell]:
            raise DataError(
                f"only {min(small)} people chose some option of {item['question']}, which may tell on them: compare "
                f"with more people, or lower smallest_cell (now {smallest_cell}) if these answers are public anyway"
            )
    stem = _stem(result)
    files = {f"{RUNS}/{stem}.json": (json.dumps(to_record(result), indent=1, ensure_ascii=False) + "\n").encode()}
    if answers is not None:
        if answers.provenance["run_id"] != result.run_id:
            raise DataError(
                f"the answers are of run {answers.provenance['run_id']}, the result is of run {result.run_id}"
            )
        files[f"{ANSWERS}/{stem}.parquet"] = _answers_parquet(answers)
    hub.add_files(target, files, message=f"Add run {result.run_id}: {result.method} on {result.survey}")
    return f"{RUNS}/{stem}.json"


def read_results(target: str | Path) -> list[Result]:
    """Read all results of a results folder or dataset repository.

    Raises:
        DataError: If the target cannot be read or a file in it is no result.
        EmptyError: If there is none.
    """
    folder = hub.pull(target, patterns=[f"{RUNS}/**"]).folder
    files = sorted((folder / RUNS).rglob("*.json"))
    if not files:
        raise EmptyError(f"{target} holds no results: publish one first")
    results = []
    for file in files:
        try:
            results.append(Result.from_dict(read_json(file)["anthology_hub"]))
        except (KeyError, TypeError, AttributeError, DataError) as error:
            raise DataError(
                f"{file} is no result of this package ({type(error).__name__}: {error}): move it out of {RUNS}/"
            ) from error
    return results


def rank(results: Iterable[Result]) -> list[Row]:
    """Rank results by normalised Wasserstein distance, with the human floor and the baselines in their places.

    Results are comparable if survey, questions, weighting, reference population and number of simulated people are the
    same (a small sample is farther from the truth whoever answers); each such group has its own ranks. Of several runs
    with the same inputs the newest counts.
    """
    groups: dict[str, dict[str, Result]] = {}
    for result in sorted(results, key=lambda r: r.created):
        groups.setdefault(_group(result), {})[result.run_id] = result
    return [row for _, group in sorted(groups.items()) for row in _ranked(group.values())]


def to_record(result: Result) -> dict[str, Any]:
    """Return the run file's content: an Every Eval Ever record with our own block beside it."""
    scores = [metric for metric in result.metrics if metric.value is not None]
    return {
        "schema_version": EEE_VERSION,
        "evaluation_id": f"{result.survey}/{result.developer}/{result.model}/{result.run_id}",
        "retrieved_timestamp": result.created,
        "source_metadata": {"source_type": "evaluation_run", "source_organization_name": "anthology_hub"},
        "eval_library": {"name": "anthology_hub", "version": _software(result).get("anthology_hub", "unknown")},
        "model_info": {
            "name": result.model,
            "id": f"{result.developer}/{result.model}",
            "developer": result.developer,
            "additional_details": result.provenance.get("inputs", {}).get("model", {}),
        },
        "evaluation_results": [_eee_result(result, metric) for metric in scores],
        "anthology_hub": result.to_dict(),
    }


def _eee_result(result: Result, metric: Metric) -> dict[str, Any]:
    bounds = {"min_score": 0, "max_score": 1} if metric.name == "wd_normalised" else {}
    return {
        "evaluation_name": f"{result.survey}: {metric.name}",
        "source_data": {"dataset_name": result.survey},
        "metric_config": {
            "metric_id": metric.name,
            "evaluation_description": metric.unit,
            "lower_is_better": metric.name != "alpha",
            "score_type": "continuous",
            **bounds,
        },
        "score_details": {
            "score": metric.value,
            "uncertainty": {
                "confidence_interval": {"lower": metric.low, "upper": metric.high, "method": "bootstrap"},
                "num_samples": result.n,
            },
        },
        "generation_config": result.provenance.get("inputs", {}).get("options", {}),
    }


def _software(result: Result) -> dict[str, Any]:
    return dict(result.provenance.get("software", {}))


def _group(result: Result) -> str:
    humans = result.provenance.get("evaluation", {}).get("humans", "unknown humans")
    questions = f"{len(result.questions)} questions ({digest(sorted(result.questions))[:6]})"
    reference = result.provenance.get("evaluation", {}).get("humans_digest", "")[:6]
    against = f"{result.n} simulated against {result.n_humans} people of {humans} ({reference or 'unknown'})"
    return f"{result.survey}, {questions}, {result.weighting}: {against}"


def _stem(result: Result) -> str:
    parts = (result.developer, result.model, result.survey)
    safe = [re.sub(r"[^\w.-]+", "-", part).strip(".-") or "unknown" for part in parts]
    # The same run may be begun anew or evaluated in another way: each of these is a file of its own.
    began = result.created[:19].replace(":", "")
    evaluation = digest([result.provenance.get("evaluation", {}), result.n_humans])[:6]
    return "/".join([*safe, f"{began}Z-{result.run_id}-{evaluation}"])


def _answers_parquet(answers: Answers) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = []
    for at, respondent in enumerate(answers.respondent_ids):
        for column, question in enumerate(answers.survey.questions):
            probs = answers.probs[at, column, : len(question.options)]
            rows.append(
                {
                    # A pseudonym: whoever holds the human file finds the row; short ids can be found by trying.
                    "respondent_sha256": digest([answers.provenance["inputs"]["humans"], respondent]),
                    "persona_id": answers.persona_ids[at],
                    "question": question.key,
                    "option": int(answers.picks[at, column]),
                    "status": str(answers.statuses[at, column]),
                    "mass": float(answers.mass[at, column]),
                    "probs": [float(p) for p in probs],
                    "raw": str(answers.raw[at, column]),
                }
            )
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer, compression="zstd")
    return buffer.getvalue()


def _ranked(results: Iterable[Result]) -> list[Row]:
    ordered = sorted(results, key=lambda r: _sort_value(r.metric("wd_normalised").value))
    rows, above = [], None
    for place, result in enumerate(ordered, start=1):
        wd = result.metric("wd_normalised")
        tied = above is not None and None not in (above.high, wd.low) and wd.low <= above.high  # type: ignore[operator]
        rows.append(_row(result, place, tied=tied))
        above = wd
    return sorted([*_references(ordered[0]), *rows], key=lambda row: _sort_value(row.wd_normalised))


def _sort_value(value: float | None) -> float:
    return float("inf") if value is None else value


def _row(result: Result, place: int, *, tied: bool) -> Row:
    wd, alpha = result.metric("wd_normalised"), result.metric("alpha")
    return Row(
        rank=place,
        group=_group(result),
        survey=result.survey,
        method=result.method,
        model=f"{result.developer}/{result.model}",
        n=result.n,
        wd_normalised=wd.value,
        low=wd.low,
        high=wd.high,
        wd=result.metric("wd").value,
        fro=result.metric("fro").value,
        alpha=alpha.value,
        human_alpha=alpha.human,
        coverage=result.coverage["answered"],
        run_id=result.run_id,
        tied=tied,
    )


def _references(result: Result) -> list[Row]:
    wd, raw, fro = (result.metric(name) for name in ("wd_normalised", "wd", "fro"))
    alpha = result.metric("alpha")
    lines = (
        (HUMANS, wd.floor_equal_n, raw.floor_equal_n, fro.floor_equal_n, alpha.human),
        (UNIFORM, wd.uniform, raw.uniform, fro.uniform, alpha.uniform),
        (MAJORITY, wd.majority, raw.majority, fro.majority, alpha.majority),
    )
    return [
        Row(
            rank=None,
            group=_group(result),
            survey=result.survey,
            method=method,
            model="",
            n=result.n if method == HUMANS else None,
            wd_normalised=normalised,
            low=None,
            high=None,
            wd=value,
            fro=norm,
            alpha=consistency,
            human_alpha=alpha.human,
            coverage=None,
        )
        for method, normalised, value, norm, consistency in lines
    ]
