"""Results to immutable files, and files to a ranked table."""

import json
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anthology_hub import EvaluateOptions, SimulateOptions, evaluate, open_model, simulate, unmatched
from anthology_hub.errors import DataError, EmptyError
from anthology_hub.leaderboard import HUMANS, MAJORITY, UNIFORM, publish, rank, read_results, to_record
from anthology_hub.schema import digest

QUICK = EvaluateOptions(bootstraps=40, splits=5)


@pytest.fixture(scope="module")
def answers(gss, spending):
    options = SimulateOptions(conditioning="bio")
    return simulate(unmatched(gss.sample(30)), spending, open_model("scripted:uniform"), options=options)


@pytest.fixture(scope="module")
def result(answers, gss):
    return evaluate(answers, gss, options=QUICK)


def scored(result, name, value, low=None, high=None, **changes):
    """The result of another run with another normalised WD."""
    metrics = tuple(
        replace(m, value=value, low=low, high=high) if m.name == "wd_normalised" else m for m in result.metrics
    )
    return replace(result, run_id=name, method=name, metrics=metrics, **changes)


def snapshot(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# -- publishing


def test_publish_adds_one_run_file_and_its_answers_named_after_model_survey_day_and_run(result, answers, tmp_path):
    path = publish(result, tmp_path / "board", answers=answers)
    began = result.created[:19].replace(":", "")
    begin = f"scripted/uniform/gss-national-spending/{began}Z-{result.run_id}-"
    stem = path.removeprefix("runs/").removesuffix(".json")
    assert stem.startswith(begin) and len(stem) == len(begin) + 6
    assert set(snapshot(tmp_path / "board")) == {f"runs/{stem}.json", f"answers/{stem}.parquet"}


def test_publish_twice_changes_nothing(result, answers, tmp_path):
    publish(result, tmp_path, answers=answers)
    before = snapshot(tmp_path)
    assert publish(result, tmp_path, answers=answers) == publish(result, str(tmp_path))
    assert snapshot(tmp_path) == before


def test_published_files_are_never_changed(result, answers, tmp_path):
    path = publish(result, tmp_path, answers=answers)
    before = snapshot(tmp_path)
    better = replace(result, metrics=tuple(replace(metric, value=0.0) for metric in result.metrics))
    with pytest.raises(DataError, match=rf"{path} exists with other content: published files are never changed"):
        publish(better, tmp_path, answers=answers)
    assert snapshot(tmp_path) == before


def test_changed_answers_of_a_published_run_are_refused_as_a_whole(result, answers, tmp_path):
    publish(result, tmp_path, answers=answers)
    (tmp_path / f"runs/{result.developer}").rename(tmp_path / "away")
    before = snapshot(tmp_path)
    with pytest.raises(DataError, match="parquet exists with other content"):
        publish(result, tmp_path, answers=replace(answers, picks=answers.picks * 0))
    assert snapshot(tmp_path) == before


def test_answers_of_another_run_are_refused_with_both_runs_named(result, answers, tmp_path):
    other = replace(answers, provenance={**answers.provenance, "run_id": "feed"})
    with pytest.raises(DataError, match=f"the answers are of run feed, the result is of run {result.run_id}"):
        publish(result, tmp_path, answers=other)
    assert snapshot(tmp_path) == {}


@pytest.mark.parametrize(
    ("developer", "model", "folder"),
    [("..", "x", "unknown/x"), ("my lab", "a/b:c", "my-lab/a-b-c"), ("", "../../etc", "unknown/etc")],
)
def test_names_of_models_never_lead_out_of_the_folder(result, tmp_path, developer, model, folder):
    path = publish(replace(result, developer=developer, model=model), tmp_path / "board")
    assert path.startswith(f"runs/{folder}/gss-national-spending/")
    assert (tmp_path / "board" / path).is_file()
    assert [entry.name for entry in tmp_path.iterdir()] == ["board"]


def test_a_published_result_reads_back_as_it_was(result, answers, tmp_path):
    publish(result, tmp_path, answers=answers)
    (back,) = read_results(tmp_path)
    assert json.loads(json.dumps(back.to_dict())) == json.loads(json.dumps(result.to_dict()))
    assert rank([back]) == rank([result])


def test_record_has_the_fields_of_every_eval_ever(result, tmp_path):
    def no_constant(name):
        raise AssertionError(f"{name} is no JSON")

    text = (tmp_path / publish(result, tmp_path)).read_text(encoding="utf-8")
    record = json.loads(text, parse_constant=no_constant)
    assert record == json.loads(json.dumps(to_record(result)))
    assert set(record) == {
        "schema_version", "evaluation_id", "retrieved_timestamp", "source_metadata", "eval_library", "model_info",
        "evaluation_results", "anthology_hub",
    }  # fmt: skip
    assert record["schema_version"] == "0.3.0"
    assert record["evaluation_id"] == f"gss-national-spending/scripted/uniform/{result.run_id}"
    assert record["source_metadata"]["source_type"] == "evaluation_run"
    assert record["eval_library"] == {"name": "anthology_hub", "version": "0.1.0"}
    assert record["model_info"]["id"] == "scripted/uniform" and record["model_info"]["developer"] == "scripted"
    assert record["model_info"]["additional_details"]["revision"] == "1"
    by_name = {entry["metric_config"]["metric_id"]: entry for entry in record["evaluation_results"]}
    assert set(by_name) == {"wd", "wd_normalised", "fro", "alpha"}
    for name, entry in by_name.items():
        metric = result.metric(name)
        assert entry["evaluation_name"] == f"gss-national-spending: {name}"
        assert entry["source_data"] == {"dataset_name": "gss-national-spending"}
        assert entry["score_details"]["score"] == metric.value
        assert entry["score_details"]["uncertainty"] == {
            "confidence_interval": {"lower": metric.low, "upper": metric.high, "method": "bootstrap"},
            "num_samples": 30,
        }
        assert entry["metric_config"]["lower_is_better"] == (name != "alpha")
        assert ("max_score" in entry["metric_config"]) == (name == "wd_normalised")
        assert entry["generation_config"]["conditioning"] == "bio"


def test_undefined_figures_are_left_out_of_the_scores_but_kept_in_our_block(result):
    metrics = tuple(replace(m, value=None) if m.name == "fro" else m for m in result.metrics)
    record = to_record(replace(result, metrics=metrics))
    assert "fro" not in {entry["metric_config"]["metric_id"] for entry in record["evaluation_results"]}
    assert len(record["evaluation_results"]) == 3 and len(record["anthology_hub"]["metrics"]) == 4


def test_published_answers_are_the_simulated_ones_and_hold_no_human_column(result, answers, gss, tmp_path):
    publish(result, tmp_path, answers=answers)
    (file,) = (tmp_path / "answers").rglob("*.parquet")
    table = pq.read_table(file)
    assert table.column_names == [
        "respondent_sha256", "persona_id", "question", "option", "status", "mass", "probs", "raw",
    ]  # fmt: skip
    frame = table.to_pandas()
    assert len(frame) == 30 * 4
    wide = frame.pivot(index="respondent_sha256", columns="question", values="option")
    hashed = [digest(["gss-2018", respondent]) for respondent in answers.respondent_ids]
    wide = wide.loc[hashed, list(answers.survey.keys)]
    assert (wide.to_numpy() == answers.picks).all()
    assert frame["probs"].map(sum).sub(1).abs().max() < 1e-6
    assert set(frame["raw"]) == {"A", "B", "C"}
    # What the humans said is in the columns of nobody: their answers differ from what is published.
    rows = [gss.ids.index(respondent) for respondent in answers.respondent_ids]
    assert any((wide[key].to_numpy() != gss.answers[key][rows]).any() for key in answers.survey.keys)


# -- reading


def test_a_folder_without_results_says_so(tmp_path):
    with pytest.raises(EmptyError, match=f"{tmp_path} holds no results: publish one first"):
        read_results(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        '{"accuracy": 1}',
        '{"anthology_hub": {"run_id": "x"}}',
        '{"anthology_hub": [1]}',
        '{"anthology_hub": {"metrics": 3}}',
        '{"anthology_hub": {"metrics": [3]}}',
        "[]",
        "{",
        "",
    ],
)
def test_a_foreign_json_file_among_the_runs_is_named(result, tmp_path, content):
    publish(result, tmp_path)
    (tmp_path / "runs" / "foreign.json").write_text(content)
    with pytest.raises(DataError, match=r"runs/foreign\.json is no result of this package .*: move it out of runs/"):
        read_results(tmp_path)


def test_a_target_that_is_neither_folder_nor_repository_is_refused(tmp_path):
    with pytest.raises(DataError, match="is neither a folder nor a repository name like 'namespace/name'"):
        read_results(tmp_path / "nowhere" / "at" / "all")


# -- ranking


def test_rows_are_ranked_by_normalised_distance_with_the_references_in_their_places(result):
    values = {"b": 0.3, "a": 0.05, "c": 0.9}
    rows = rank([scored(result, name, value) for name, value in values.items()])
    assert [(row.rank, row.method) for row in rows if row.rank] == [(1, "a"), (2, "b"), (3, "c")]
    assert [row.wd_normalised for row in rows] == sorted(row.wd_normalised for row in rows)
    references = {row.method: row for row in rows if row.rank is None}
    assert list(references) != [] and set(references) == {HUMANS, UNIFORM, MAJORITY}
    for method, field in ((HUMANS, "floor_equal_n"), (UNIFORM, "uniform"), (MAJORITY, "majority")):
        row = references[method]
        assert row.wd_normalised == getattr(result.metric("wd_normalised"), field)
        assert row.wd == getattr(result.metric("wd"), field) and row.fro == getattr(result.metric("fro"), field)
        assert row.run_id == "" and row.model == "" and row.coverage is None
    assert references[HUMANS].alpha == result.metric("alpha").human and references[HUMANS].n == 30
    assert references[MAJORITY].n is None


def test_a_row_says_what_the_result_says(result):
    (row,) = [row for row in rank([result]) if row.rank]
    wd = result.metric("wd_normalised")
    assert (row.survey, row.method, row.model, row.n) == ("gss-national-spending", "bio", "scripted/uniform", 30)
    assert (row.wd_normalised, row.low, row.high) == (wd.value, wd.low, wd.high)
    assert (row.wd, row.fro) == (result.metric("wd").value, result.metric("fro").value)
    assert (row.alpha, row.human_alpha) == (result.metric("alpha").value, result.metric("alpha").human)
    assert (row.coverage, row.run_id, row.tied, row.rank) == (1.0, result.run_id, False, 1)


def test_rows_whose_interval_overlaps_the_one_above_are_marked_as_ties(result):
    rows = rank(
        [
            scored(result, "a", 0.10, 0.05, 0.15),
            scored(result, "b", 0.16, 0.14, 0.20),
            scored(result, "c", 0.30, 0.21, 0.35),
            scored(result, "d", 0.40, 0.35, 0.50),
            scored(result, "e", 0.60, None, None),
            scored(result, "f", 0.70, 0.10, 0.90),
        ]
    )
    assert [(row.method, row.tied) for row in rows if row.rank] == [
        ("a", False), ("b", True), ("c", False), ("d", True), ("e", False), ("f", False),
    ]  # fmt: skip


def test_an_undefined_distance_comes_last(result):
    rows = rank([scored(result, "a", None), scored(result, "b", 0.9)])
    assert [row.method for row in rows][-2:] == ["b", "a"]
    assert rows[-1].rank == 2 and rows[-1].wd_normalised is None


def test_of_several_runs_with_the_same_inputs_the_newest_counts(result):
    old = replace(result, created="2026-01-01T00:00:00+00:00", method="before")
    new = replace(result, created="2026-02-01T00:00:00+00:00", method="after")
    for results in ([old, new], [new, old]):
        assert [row.method for row in rank(results) if row.rank] == ["after"]


@pytest.mark.parametrize(
    "change",
    [
        {"survey": "another"},
        {"questions": ("natenvir",)},
        {"weighting": "paper"},
        {"n_humans": 7},
        {"n": 7},
        {"provenance": {"evaluation": {"humans": "others"}}},
    ],
)
def test_what_cannot_be_compared_has_its_own_ranks_and_references(result, change):
    rows = rank([scored(result, "a", 0.2), scored(result, "b", 0.1, **change), scored(result, "c", 0.3)])
    ranks = [(row.method, row.rank) for row in rows if row.rank]
    assert sorted(ranks) == [("a", 1), ("b", 1), ("c", 2)]
    assert ranks.index(("c", 2)) == ranks.index(("a", 1)) + 1
    assert [row.method for row in rows].count(HUMANS) == 2


def test_a_run_evaluated_in_another_way_or_begun_anew_is_another_file(result, tmp_path):
    first = publish(result, tmp_path)
    paper = {**result.provenance, "evaluation": {**result.provenance["evaluation"], "weighting": "paper"}}
    second = publish(replace(result, weighting="paper", provenance=paper), tmp_path)
    third = publish(replace(result, created="2027-01-01T00:00:00+00:00"), tmp_path)
    assert len({first, second, third}) == len(read_results(tmp_path)) == 3


def test_the_order_of_the_questions_makes_no_other_group(result):
    rows = rank([scored(result, "a", 0.2), scored(result, "b", 0.1, questions=result.questions[::-1])])
    assert [(row.method, row.rank) for row in rows if row.rank] == [("b", 1), ("a", 2)]


def test_nothing_ranks_as_nothing():
    assert rank([]) == []


@given(values=st.lists(st.floats(0, 1), min_size=1, max_size=8), random=st.randoms())
def test_ranking_does_not_depend_on_the_order_of_the_results(result, values, random):
    results = [scored(result, f"run {at}", value) for at, value in enumerate(dict.fromkeys(values))]
    rows = rank(results)
    assert [row.wd_normalised for row in rows if row.rank] == sorted(dict.fromkeys(values))
    assert [row.rank for row in rows if row.rank] == list(range(1, len(results) + 1))
    assert rank(random.sample(results, len(results))) == rows


def test_a_result_with_too_few_humans_behind_a_share_is_not_published(result, tmp_path):
    few = replace(result, items=({**result.items[0], "human_counts": [30, 9, 0]}, *result.items[1:]))
    with pytest.raises(DataError, match="only 9 people chose some option of natenvir.*smallest_cell .now 10."):
        publish(few, tmp_path)
    assert not any(tmp_path.iterdir())
    publish(few, tmp_path, smallest_cell=9)
    assert len(read_results(tmp_path)) == 1
