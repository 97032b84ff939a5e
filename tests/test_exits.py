"""Results in the forms of others: their own readers and rules are what is asked of the files."""

import json
import math
import re
from dataclasses import replace

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from anthology_hub import EvaluateOptions, SimulateOptions, Survey, evaluate, hub, open_model, simulate, unmatched
from anthology_hub.errors import DataError
from anthology_hub.exits import benchmark_files, eee_files, eee_record, eval_results_files
from anthology_hub.schema import Metric


@pytest.fixture(scope="module")
def result(gss, spending):
    options = SimulateOptions(conditioning="bio")
    answers = simulate(unmatched(gss.sample(30)), spending, open_model("scripted:uniform"), options=options)
    return evaluate(answers, gss, options=EvaluateOptions(bootstraps=40, splits=5, level=0.9))


def texts_only(value):
    return all(isinstance(name, str) and isinstance(entry, str) for name, entry in value.items())


# -- Every Eval Ever


def test_a_record_has_what_the_schema_asks_for(result):
    """The rules of every_eval_ever 0.3.0: required fields, closed lists, and details that are texts."""
    record = eee_record(result)
    assert set(record) == {
        "schema_version", "evaluation_id", "evaluation_timestamp", "retrieved_timestamp", "source_metadata",
        "eval_library", "model_info", "evaluation_results",
    }  # fmt: skip
    assert record["schema_version"] == "0.3.0"
    assert record["evaluation_id"] == f"gss-national-spending/scripted/uniform/{result.run_id}"
    assert record["evaluation_timestamp"] == result.created and record["retrieved_timestamp"].isdigit()
    assert record["source_metadata"]["source_type"] == "evaluation_run"
    assert record["source_metadata"]["evaluator_relationship"] == "other"
    assert record["eval_library"] == {"name": "anthology_hub", "version": "0.1.0"}
    model = record["model_info"]
    assert (model["id"], model["name"], model["developer"]) == ("scripted/uniform", "uniform", "scripted")
    details = model["additional_details"]
    assert texts_only(details) and details["revision"] == "1"
    assert details["deployment_type"] == details["model_availability"] == "unknown"


def test_every_defined_figure_is_told_with_interval_and_company(result):
    figures = {entry["metric_config"]["metric_name"]: entry for entry in eee_record(result)["evaluation_results"]}
    assert list(figures) == [metric.name for metric in result.metrics if metric.value is not None]
    bounds = {"wd": (0, "Infinity"), "wd_normalised": (0, 1), "alpha": ("-Infinity", 1), "item_correlation": (-1, 1)}
    for name, (least, most) in bounds.items():
        config = figures[name]["metric_config"]
        assert (config["min_score"], config["max_score"]) == (least, most)
    distances = {name for name, entry in figures.items() if entry["metric_config"]["lower_is_better"]}
    assert distances == {"wd_normalised", "wd", "jsd", "tv", "kl", "fro", "fro_spearman", "cbs", "group_gaps"}
    for name, entry in figures.items():
        metric, config = result.metric(name), entry["metric_config"]
        assert entry["evaluation_name"] == f"gss-national-spending: {name}"
        assert entry["source_data"]["source_type"] == "other" and texts_only(entry["source_data"]["additional_details"])
        assert entry["source_data"]["additional_details"]["humans"] == "gss-2018"
        assert config["metric_id"] == f"anthology_hub.{name}" and config["score_type"] == "continuous"
        assert entry["score_details"]["score"] == metric.value
        assert entry["score_details"]["uncertainty"] == {
            "num_samples": 30,
            "num_bootstrap_samples": 40,
            "confidence_interval": {
                "lower": metric.low, "upper": metric.high, "confidence_level": 0.9, "method": "bootstrap",
            },
        }  # fmt: skip
        company = entry["score_details"]["details"]
        assert texts_only(company)
        for field in ("floor", "human", "uniform", "margins"):
            known = getattr(metric, field)
            assert (float(company[field]) == known) if known is not None else field not in company
        assert entry["generation_config"]["generation_args"] == {"temperature": 1.0, "top_p": 1.0, "max_tokens": 128}
        assert texts_only(entry["generation_config"]["additional_details"])
        assert entry["generation_config"]["additional_details"]["conditioning"] == "bio"


def test_undefined_figures_and_intervals_are_left_out(result):
    metrics = tuple(
        replace(m, value=None) if m.name == "fro" else replace(m, low=None) if m.name == "wd" else m
        for m in result.metrics
    )
    figures = eee_record(replace(result, metrics=metrics))["evaluation_results"]
    by_name = {entry["metric_config"]["metric_name"]: entry for entry in figures}
    assert "fro" not in by_name and len(by_name) == len([m for m in metrics if m.value is not None])
    assert by_name["wd"]["score_details"]["uncertainty"] == {"num_samples": 30}


def test_a_result_without_provenance_still_makes_a_record(result):
    record = eee_record(replace(result, provenance={}, created="1970-01-02T00:00:00"))
    assert record["eval_library"]["version"] == "unknown" and record["retrieved_timestamp"] == "86400"
    assert set(record["model_info"]["additional_details"]) == {"deployment_type", "model_availability"}
    uncertainty = record["evaluation_results"][0]["score_details"]["uncertainty"]
    assert set(uncertainty) == {"num_samples", "confidence_interval"}


def test_a_figure_that_is_not_known_has_no_bounds(result):
    (entry,) = eee_record(replace(result, metrics=(Metric(name="new", value=3.0, unit="steps"),)))["evaluation_results"]
    assert (entry["metric_config"]["min_score"], entry["metric_config"]["max_score"]) == ("-Infinity", "Infinity")


def test_datastore_files_lie_where_the_model_is_looked_up_under_names_that_repeat(result, tmp_path):
    files = eee_files([result, replace(result, model="b/c")], collection="survey")
    assert eee_files([result], collection="survey").items() <= files.items()
    name = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\.json"
    first, second = files
    assert re.fullmatch(rf"data/survey/scripted/uniform/{name}", first)
    assert re.fullmatch(rf"data/survey/scripted/b_c/{name}", second)
    hub.add_files(tmp_path, files, message="submit")
    hub.add_files(tmp_path, files, message="submit")
    assert json.loads((tmp_path / first).read_bytes()) == json.loads(json.dumps(eee_record(result)))


def test_names_that_lead_out_of_the_folder_are_refused_when_written(result, tmp_path):
    with pytest.raises(DataError, match="leads out of"):
        hub.add_files(tmp_path, eee_files([replace(result, developer="..")]), message="submit")
    assert not any(tmp_path.iterdir())


# -- the Hub's own files


@given(value=st.floats(0, 1))
def test_the_headline_is_higher_for_what_is_nearer_to_the_humans(result, value):
    metrics = tuple(replace(m, value=value) if m.name == "wd_normalised" else m for m in result.metrics)
    files = eval_results_files(replace(result, metrics=metrics), benchmark="lab/bench")
    (entry,) = yaml.safe_load(files[".eval_results/gss-national-spending.yaml"])
    assert math.isclose(entry["value"], 1 - value, abs_tol=1e-6)


def test_the_official_client_reads_our_eval_results(result):
    from huggingface_hub import EvalResultEntry, parse_eval_result_entries

    files = eval_results_files(result, benchmark="lab/bench", revision="a" * 40, source="https://hub/run.json")
    assert list(files) == [".eval_results/gss-national-spending.yaml"]
    wd = result.metric("wd_normalised")
    (entry,) = parse_eval_result_entries(yaml.safe_load(files[".eval_results/gss-national-spending.yaml"]))
    assert entry == EvalResultEntry(
        dataset_id="lab/bench",
        task_id="gss-national-spending",
        value=round(1 - wd.value, 6),
        dataset_revision="a" * 40,
        date=result.created,
        source_url="https://hub/run.json",
        source_name="anthology_hub",
        notes=entry.notes,
    )
    assert entry.notes.startswith("bio, 30 simulated against 2348 people. 1 - normalised Wasserstein distance")
    assert f"[{1 - wd.high:.3f}, {1 - wd.low:.3f}]" in entry.notes
    assert f"real people reach {1 - wd.floor_equal_n:.3f}; run {result.run_id}" in entry.notes


def test_notes_leave_out_what_is_not_known(result):
    metrics = tuple(replace(m, low=None, floor=None, floor_equal_n=None) for m in result.metrics)
    files = eval_results_files(replace(result, metrics=metrics, survey="../my survey"), benchmark="lab/bench")
    assert list(files) == [".eval_results/..-my-survey.yaml"]
    (entry,) = yaml.safe_load(files[".eval_results/..-my-survey.yaml"])
    assert "real people" not in entry["notes"] and "[" not in entry["notes"] and "source" not in entry


def test_an_undefined_distance_is_no_headline(result):
    metrics = tuple(replace(m, value=None, note="nobody answered") for m in result.metrics)
    with pytest.raises(
        DataError, match=rf"run {result.run_id} has no normalised WD .nobody answered.: there is no fig"
    ):
        eval_results_files(replace(result, metrics=metrics), benchmark="lab/bench")


def test_a_benchmark_has_a_task_for_each_survey():
    surveys = [Survey.load("bfi"), Survey.load("gss-national-spending")]
    declared = yaml.safe_load(benchmark_files(surveys, name="Anthology: who?", description="How near")["eval.yaml"])
    assert declared == {
        "name": "Anthology: who?",
        "description": "How near",
        "evaluation_framework": "anthology-hub",
        "tasks": [{"id": "bfi"}, {"id": "gss-national-spending"}],
    }
