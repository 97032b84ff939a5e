"""Results in the forms that other places read: Every Eval Ever records and the Hub's own evaluation files.

Pure: results in, files out (path -> content). Write them into a folder or a repository with `hub.add_files`.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import uuid
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from anthology_hub.errors import DataError
from anthology_hub.measures import BASELINES, DISTANCE, MEASURES
from anthology_hub.schema import Metric, Result, Survey

EEE_VERSION = "0.3.0"
"""Version of the Every Eval Ever record that we write (evaleval, arXiv 2606.14516)."""
FRAMEWORK = "anthology-hub"
HEADLINE = (
    "1 - normalised Wasserstein distance to the human answers, mean over the questions: 1 is the same distributions"
)


def eee_record(result: Result) -> dict[str, Any]:
    """Return a result as an Every Eval Ever record; undefined figures are left out.

    Example:
        >>> from anthology_hub import Respondents, SimulateOptions, evaluate, open_model, simulate, unmatched
        >>> people, options = Respondents.load("gss-2018"), SimulateOptions(conditioning="bio")
        >>> survey = Survey.load("gss-national-spending").select(["natenvir", "natsci"])
        >>> answers = simulate(unmatched(people.sample(30)), survey, open_model("scripted:uniform"), options=options)
        >>> record = eee_record(evaluate(answers, people))
        >>> record["schema_version"], record["model_info"]["id"], len(record["evaluation_results"])
        ('0.3.0', 'scripted/uniform', 17)
    """
    model = _inputs(result).get("model", {})
    unknown = {"deployment_type": "unknown", "model_availability": "unknown"}
    software = result.provenance.get("software", {})
    return {
        "schema_version": EEE_VERSION,
        "evaluation_id": f"{result.survey}/{result.developer}/{result.model}/{result.run_id}",
        "evaluation_timestamp": result.created,
        "retrieved_timestamp": str(int(_moment(result).timestamp())),
        "source_metadata": {
            "source_name": "anthology_hub",
            "source_type": "evaluation_run",
            "source_organization_name": "anthology_hub",
            "evaluator_relationship": "other",
        },
        "eval_library": {"name": "anthology_hub", "version": str(software.get("anthology_hub", "unknown"))},
        "model_info": {
            "name": result.model,
            "id": f"{result.developer}/{result.model}",
            "developer": result.developer,
            "additional_details": unknown | _texts(model),
        },
        "evaluation_results": [_eee_figure(result, metric) for metric in result.metrics if metric.value is not None],
    }


def eee_files(results: Iterable[Result], *, collection: str = "anthology_hub") -> dict[str, bytes]:
    """Return the files to submit to the Every Eval Ever datastore; the same result always makes the same file.

    Args:
        results: What to submit.
        collection: Name of the benchmark; the first folder below `data/`.
    """
    files = {}
    for result in results:
        content = (json.dumps(eee_record(result), indent=1, ensure_ascii=False) + "\n").encode()
        # The datastore wants version 4 names; drawn from the content, so that a repeat is no new file.
        name = uuid.UUID(bytes=hashlib.sha256(content).digest()[:16], version=4)
        model = result.model.replace("/", "_")
        files[f"data/{collection}/{result.developer}/{model}/{name}.json"] = content
    return files


def eval_results_files(
    result: Result, *, benchmark: str, revision: str | None = None, source: str | None = None
) -> dict[str, bytes]:
    """Return the file that shows a result on its model's page on the Hub and on the benchmark's leaderboard.

    The Hub takes one figure for a task and ranks the highest first: ours is 1 - normalised WD.

    Args:
        result: Of the model that the file is for.
        benchmark: The benchmark's dataset repository, `namespace/name`.
        revision: Commit of that repository.
        source: Address of the published run.

    Raises:
        DataError: If the normalised distance is undefined.
    """
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    wd = result.metric("wd_normalised")
    if wd.value is None:
        raise DataError(f"run {result.run_id} has no normalised WD ({wd.note}): there is no figure to export")
    entry = EvalResultEntry(
        dataset_id=benchmark,
        task_id=result.survey,
        value=round(1 - wd.value, 6),
        dataset_revision=revision,
        date=result.created,
        source_url=source,
        source_name="anthology_hub" if source else None,
        notes=_notes(result, wd),
    )
    task = re.sub(r"[^\w.-]+", "-", result.survey)
    return {f".eval_results/{task}.yaml": _yaml(eval_result_entries_to_yaml([entry]))}


def benchmark_files(surveys: Iterable[Survey], *, name: str, description: str = "") -> dict[str, bytes]:
    """Return the `eval.yaml` that declares a dataset repository a benchmark with one task for each survey.

    The Hub shows a leaderboard there once it has listed the framework; until then the file is valid and does nothing.

    Example:
        >>> print(benchmark_files([Survey.load("bfi")], name="Anthology")["eval.yaml"].decode())
        name: Anthology
        description: '1 - normalised Wasserstein distance to the human answers, mean over the
          questions: 1 is the same distributions'
        evaluation_framework: anthology-hub
        tasks:
        - id: bfi
        <BLANKLINE>
    """
    tasks = [{"id": survey.name} for survey in surveys]
    head = {"name": name, "description": description or HEADLINE, "evaluation_framework": FRAMEWORK}
    return {"eval.yaml": _yaml({**head, "tasks": tasks})}


def _bound(value: float) -> float | str:
    return value if math.isfinite(value) else "Infinity" if value > 0 else "-Infinity"


def _eee_figure(result: Result, metric: Metric) -> dict[str, Any]:
    measure = MEASURES.get(metric.name)
    least, most = (measure.least, measure.most) if measure else (-math.inf, math.inf)
    evaluation, inputs = result.provenance.get("evaluation", {}), _inputs(result)
    against = {name: evaluation[name] for name in ("humans", "humans_digest") if name in evaluation}
    company = {"human": metric.human, "floor": metric.floor, "floor_equal_n": metric.floor_equal_n}
    company |= {name: getattr(metric, name) for name in (*BASELINES, "attained")}
    return {
        "evaluation_result_id": f"{result.run_id}/{metric.name}",
        "evaluation_name": f"{result.survey}: {metric.name}",
        "source_data": {"dataset_name": result.survey, "source_type": "other", "additional_details": _texts(against)},
        "metric_config": {
            "metric_id": f"anthology_hub.{metric.name}",
            "metric_name": metric.name,
            "metric_unit": metric.unit,
            "metric_parameters": {"weighting": result.weighting},
            # Properties are best at the humans' own value, which stands in the details: no direction of this schema.
            "lower_is_better": measure is not None and measure.kind == DISTANCE,
            "score_type": "continuous",
            "min_score": _bound(least),
            "max_score": _bound(most),
        },
        "score_details": {
            "score": metric.value,
            "details": _texts(company),
            "uncertainty": _uncertainty(result, metric),
        },
        "generation_config": _generation(inputs),
    }


def _uncertainty(result: Result, metric: Metric) -> dict[str, Any]:
    evaluation = result.provenance.get("evaluation", {})
    found: dict[str, Any] = {"num_samples": result.n}
    if metric.low is not None and metric.high is not None:
        interval = {"lower": metric.low, "upper": metric.high, "method": "bootstrap"}
        found["confidence_interval"] = interval | (
            {"confidence_level": evaluation["level"]} if "level" in evaluation else {}
        )
        found |= {"num_bootstrap_samples": evaluation["bootstraps"]} if "bootstraps" in evaluation else {}
    return found


def _generation(inputs: Mapping[str, Any]) -> dict[str, Any]:
    options = dict(inputs.get("options", {}))
    sampling = options.pop("sampling", {})
    args = {name: sampling[name] for name in ("temperature", "top_p", "max_tokens") if name in sampling}
    told = {name: inputs[name] for name in ("collection", "seed", "prompts") if name in inputs}
    return {"generation_args": args, "additional_details": _texts(options | told)}


def _inputs(result: Result) -> Mapping[str, Any]:
    inputs: Mapping[str, Any] = result.provenance.get("inputs", {})
    return inputs


def _moment(result: Result) -> datetime:
    when = datetime.fromisoformat(result.created)
    return when if when.tzinfo else when.replace(tzinfo=UTC)


def _notes(result: Result, wd: Metric) -> str:
    between = "" if wd.low is None or wd.high is None else f" [{1 - wd.high:.3f}, {1 - wd.low:.3f}]"
    floor = wd.floor_equal_n if wd.floor_equal_n is not None else wd.floor
    people = "" if floor is None else f", real people reach {1 - floor:.3f}"
    scores = f"{HEADLINE}{between}{people}"
    return f"{result.method}, {result.n} simulated against {result.n_humans} people. {scores}; run {result.run_id}"


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    """Details as the record wants them: text only, unknown ones left out."""
    known = {name: value for name, value in values.items() if value is not None}
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in known.items()}


def _yaml(value: object) -> bytes:
    import yaml

    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True).encode()
