"""`anthology-hub evaluate` and `anthology-hub compare`: from run folders to tables, files and clear errors."""

import csv
import io
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from anthology_hub import (
    Anthology,
    EvaluateOptions,
    SimulateOptions,
    diagnose,
    evaluate,
    load_run,
    match,
    open_model,
    simulate,
    unmatched,
)
from anthology_hub.cli import main
from anthology_hub.cli_comparing import UNCUT, _standard_error
from anthology_hub.comparison import compare
from anthology_hub.leaderboard import read_board
from anthology_hub.measures import MEASURES
from anthology_hub.report_tables import csv_table, latex, markdown
from anthology_hub.resampling import pool_seeds
from tests.made_runs import cast_of

OPTIONS = EvaluateOptions(bootstraps=60)
BIO = SimulateOptions(conditioning="bio")


def call(*arguments, code=0):
    done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert done.exit_code == code, done.output
    return done


def quick(folder):
    return ("--bootstraps", 60, "--humans", folder / "people")


@pytest.fixture(scope="module")
def few(gss):
    """A part of the respondents, which is enough to compare with and quick."""
    return gss.sample(300, seed=4)


@pytest.fixture(scope="module")
def runs(few, spending, tmp_path_factory):
    """Run folders: two rules on one cast, the first again with other seeds, and one on other respondents."""
    folder, cast = tmp_path_factory.mktemp("runs"), unmatched(few.sample(80))
    few.save(folder / "people")

    def ask(name, rule, people, seed=0):
        simulate(people, spending, open_model(f"scripted:{rule}"), options=BIO, seed=seed, folder=folder / name)

    ask("guess", "uniform", cast)
    ask("first", "first", cast)
    ask("again", "uniform", cast, seed=1)
    ask("third", "uniform", cast, seed=2)
    ask("other", "uniform", unmatched(few.sample(40, seed=5)))
    return folder


# -- evaluate


def test_evaluate_prints_the_headline_figures_and_with_all_every_one(runs, few):
    text = call("evaluate", runs / "guess", *quick(runs)).stdout
    labels = [line.split("  ")[0] for line in text.splitlines()[3:7]]
    assert labels == ["WD normalised", "WD (option steps)", "Fro", "Alpha"]
    result = evaluate(load_run(runs / "guess"), few, options=OPTIONS)
    assert f"{len(result.metrics) - 4} more figures: --all" in text
    full = call("evaluate", runs / "guess", *quick(runs), "--all").stdout
    assert "more figures" not in full
    (line,) = [line for line in full.splitlines() if line.startswith("Accuracy ")]
    assert f"{result.metric('accuracy').value:.3f}" in line and "-" in line


def test_evaluate_by_a_trait_prints_its_subgroups_their_gap_and_those_left_out(runs, few):
    text = call("evaluate", runs / "guess", *quick(runs), "--by", "gender", "--by", "work").stdout
    result = evaluate(load_run(runs / "guess"), few, options=replace(OPTIONS, by=("gender", "work")))
    for one in result.subgroups:
        (line,) = [line for line in text.splitlines() if line.startswith(f"{one.trait}: {one.level} ")]
        if one.metrics:
            wd = one.metric("wd_normalised")
            assert line.split()[-7:-4] == [str(one.n), str(one.n_human), f"{wd.value:.3f}"]
        else:
            assert line.endswith(f"left out: {one.note}")
    (gap,) = [one for one in result.subgroups if one.gap is not None and one.trait == "gender"]
    assert f"gap of gender: {gap.level} is {gap.gap:.3f} [" in text and f"further away than {gap.nearest}" in text


def test_all_means_every_trait_of_the_humans(runs, few):
    shown = json.loads(call("evaluate", runs / "guess", *quick(runs), "--by", "all", "--json").stdout)
    assert shown["provenance"]["evaluation"]["by"] == list(few.levels)


def test_evaluate_takes_an_earlier_wave_and_says_how_it_resamples(runs, few, tmp_path):
    few.sample(300, seed=9).save(tmp_path / "earlier")
    given = ["--previous", tmp_path / "earlier", "--resample", "personas", "--polychoric"]
    shown = json.loads(call("evaluate", runs / "guess", *quick(runs), *given, "--json").stdout)
    options = replace(OPTIONS, resample="personas", polychoric=True)
    result = evaluate(load_run(runs / "guess"), few, options=options, previous=few.sample(300, seed=9))
    assert shown["metrics"] == json.loads(json.dumps(result.to_dict()))["metrics"]
    assert "fro_polychoric" in {one["name"] for one in shown["metrics"]}
    assert " previous " in call("evaluate", runs / "guess", *quick(runs), *given[:2]).stdout


def test_evaluate_writes_the_tables(runs, few, tmp_path):
    files = {name: tmp_path / f"table.{name}" for name in ("markdown", "latex", "csv")}
    words = [word for name, file in files.items() for word in (f"--{name}", file)]
    text = call("evaluate", runs / "guess", *quick(runs), *words).stdout
    result = evaluate(load_run(runs / "guess"), few, options=OPTIONS)
    made = {"markdown": markdown, "latex": latex, "csv": csv_table}
    for name, file in files.items():
        assert file.read_text(encoding="utf-8") == made[name]([result])
        assert f"{name.title()}: {file}" in text


def test_a_report_has_all_subgroups_and_what_is_published_only_those_asked_for(runs, few, tmp_path):
    board, page = tmp_path / "board", tmp_path / "page"
    call("evaluate", runs / "guess", *quick(runs), "--publish", board, "--report", page)
    (entry,) = read_board(board).entries
    alone = evaluate(load_run(runs / "guess"), few, options=OPTIONS)
    assert entry.result.to_dict()["metrics"] == json.loads(json.dumps(alone.to_dict()))["metrics"]
    assert entry.result.subgroups == () and entry.result.provenance["evaluation"]["by"] == []
    assert "<h2>Subgroups</h2>" in (page / "report.html").read_text(encoding="utf-8")


def test_a_report_of_a_matched_run_shows_how_well_its_cast_fits(few, spending, starter, tmp_path):
    cast = match(starter, few.sample(30), method="greedy")
    simulate(cast, spending, open_model("scripted:uniform"), folder=tmp_path / "run")
    few.save(tmp_path / "people")
    given = (tmp_path / "run", *quick(tmp_path), "--report", tmp_path / "page")
    assert "pictures of the matching" not in call("evaluate", *given).stdout
    assert (tmp_path / "page" / "matching.png").is_file() and (tmp_path / "page" / "margins.png").is_file()
    text = (tmp_path / "page" / "report.html").read_text(encoding="utf-8")
    for fit in diagnose(starter, few, cast).agreement:
        assert f'<td class="num">{fit.mean_probability:.3f}</td>' in text
    starter.where(region="South").save(tmp_path / "other")
    done = call("evaluate", *given, "--collection", tmp_path / "other", code=1)
    assert f"the personas of {tmp_path / 'run'} are {starter.identity}, those of" in done.stderr
    few.take(range(10)).save(tmp_path / "ten")
    told = call("evaluate", *given[:3], "--humans", tmp_path / "ten", "--report", tmp_path / "page").stdout
    assert "note: The pictures of the matching need the people of the run" in told


def test_the_personas_of_another_collection_are_asked_for(few, spending, starter, tmp_path):
    some = starter.where(region="South")
    some.save(tmp_path / "south")
    south = Anthology.load(tmp_path / "south")
    simulate(match(south, few.sample(20)), spending, open_model("scripted:uniform"), folder=tmp_path / "run")
    few.save(tmp_path / "people")
    given = ("evaluate", tmp_path / "run", *quick(tmp_path), "--report", tmp_path / "page")
    told = call(*given).stdout
    assert (
        f"note: The pictures of the matching need the personas, {south.identity}: give them with --collection" in told
    )
    assert "note: The pictures" not in call(*given, "--collection", tmp_path / "south").stdout
    assert (tmp_path / "page" / "matching.png").is_file()


# -- compare


def test_compare_puts_runs_side_by_side_and_says_what_differs(runs, few):
    text = call("compare", runs / "guess", runs / "first", *quick(runs)).stdout
    found = compare({name: load_run(runs / name) for name in ("guess", "first")}, few, options=OPTIONS)
    results = [evaluate(load_run(runs / name), few, options=OPTIONS) for name in ("guess", "first")]
    lines = text.splitlines()
    assert lines[0].split() == ["guess", "first", "humans", "floor"]
    for line, name in zip(lines[1:5], ("wd_normalised", "wd", "fro", "alpha"), strict=True):
        values = [one.metric(name).value for one in results]
        assert line.split()[-4:-2] == ["-" if value is None else f"{value:.3f}" for value in values]
    one = found.difference("wd_normalised", "guess", "first")
    (line,) = [line for line in lines if line.startswith("WD normalised") and "guess - first" in line]
    assert f"{one.value:.3f}  [{one.low:.3f}, {one.high:.3f}]" in line
    assert f"{one.probability:.0%}" in line and f"{one.p:.3f}" in line
    assert all(said in text for said in found.lines())
    assert "other sizes" not in text


def test_compare_shows_the_figures_that_are_asked_for(runs):
    text = call("compare", runs / "guess", runs / "first", *quick(runs), "--measure", "tv").stdout
    assert "Total variation" in text and "Alpha" not in text
    everything = call("compare", runs / "guess", runs / "first", *quick(runs), "--measure", "all").stdout
    assert "Jensen-Shannon" in everything and "Entropy ratio" in everything


def test_person_by_person_figures_are_compared_and_what_is_not_is_said(runs, few):
    asked = ["--measure", "accuracy", "--measure", "fro_polychoric", "--measure", "coefficients"]
    text = call("compare", runs / "guess", runs / "first", *quick(runs), *asked).stdout
    found = compare({name: load_run(runs / name) for name in ("guess", "first")}, few, options=OPTIONS)
    one = found.difference("accuracy", "guess", "first")
    (line,) = [line for line in text.splitlines() if line.startswith("Accuracy ") and "guess - first" in line]
    assert f"{one.value:.3f}  [{one.low:.3f}, {one.high:.3f}]" in line
    assert "note: not compared" not in text


def test_three_runs_show_p_values_adjusted_for_the_pairs(runs, few):
    names = ("guess", "first", "again")
    text = call("compare", *(runs / name for name in names), *quick(runs)).stdout
    found = compare({name: load_run(runs / name) for name in names}, few, options=OPTIONS)
    (head,) = [line for line in text.splitlines() if line.startswith("further from the humans")]
    assert head.endswith("p  adj. p")
    one = found.difference("wd_normalised", "guess", "first")
    (line,) = [line for line in text.splitlines() if line.startswith("WD normalised") and "guess - first" in line]
    assert f"{one.p:.3f}   {one.adjusted:.3f}  guess - first" in line


def test_casts_of_other_sizes_are_said_to_be_so(runs):
    text = call("compare", runs / "guess", runs / "other", *quick(runs)).stdout
    assert "note: the casts have other sizes (guess 80, other 40): a smaller one is further away" in text
    assert "The casts stand for different respondents" in text


def test_compare_against_the_cast_alone(runs, few):
    shown = json.loads(
        call("compare", runs / "guess", runs / "first", *quick(runs), "--reference", "cast", "--format", "json").stdout
    )
    assert {one["n_humans"] for one in shown["results"].values()} == {80}
    done = call("compare", runs / "guess", runs / "other", *quick(runs), "--reference", "cast", code=1)
    assert "--reference cast needs runs that stand in for the same respondents: leave it out" in done.stderr


def test_compare_in_json_is_what_the_library_gives(runs, few):
    options = ["--adjust", "bh", "--weighting", "paper", "--resample", "respondents"]
    shown = json.loads(call("compare", runs / "guess", runs / "first", *quick(runs), *options, "--json").stdout)
    how = replace(OPTIONS, weighting="paper", resample="respondents")
    held = {name: load_run(runs / name) for name in ("guess", "first")}
    assert shown["comparison"] == json.loads(json.dumps(compare(held, few, options=how, adjustment="bh").to_dict()))
    for name, answers in held.items():
        assert shown["results"][name] == json.loads(json.dumps(evaluate(answers, few, options=how).to_dict()))


def test_compare_in_csv_has_figures_differences_and_questions(runs):
    text = call("compare", runs / "guess", runs / "first", *quick(runs), "--format", "csv").stdout
    table = list(csv.DictReader(io.StringIO(text)))
    kinds = [row["kind"] for row in table]
    assert kinds == ["figure"] * 8 + ["difference"] * 4 + ["question"] * 4
    assert [row["run"] for row in table[:8]] == ["guess"] * 4 + ["first"] * 4
    assert {row["question"] for row in table[12:]} == {"natenvir", "nateduc", "natarms", "nataid"}
    assert all(row["against"] == ("humans" if row["kind"] == "figure" else "first") for row in table)


@pytest.mark.parametrize("form", ["markdown", "latex"])
def test_compare_writes_the_table_of_the_paper_and_the_verdict(runs, few, tmp_path, form):
    out = tmp_path / "table"
    said = call("compare", runs / "guess", runs / "first", *quick(runs), "--format", form, "--out", out).stdout
    assert said == f"{form.title()}: {out}\n"
    results = [evaluate(load_run(runs / name), few, options=OPTIONS) for name in ("guess", "first")]
    text = out.read_text(encoding="utf-8")
    assert text.startswith({"markdown": markdown, "latex": latex}[form](results, names=["guess", "first"]))
    assert "guess against first: " in text and "is closer" in text


@pytest.mark.parametrize("form", ["markdown", "latex"])
def test_the_written_tables_have_the_figures_that_are_asked_for(runs, few, form):
    asked = ["--measure", "tv", "--measure", "accuracy", "--measure", "fro_polychoric"]
    text = call("compare", runs / "guess", runs / "first", *quick(runs), *asked, "--format", form).stdout
    results = [evaluate(load_run(runs / name), few, options=OPTIONS) for name in ("guess", "first")]
    write = {"markdown": markdown, "latex": latex}[form]
    assert text.startswith(write(results, names=["guess", "first"], measures=["tv", "accuracy"]))


def test_folders_of_one_name_are_told_apart_by_their_paths(runs, tmp_path):
    shutil.copytree(runs / "first", tmp_path / "guess")
    shown = json.loads(call("compare", runs / "guess", tmp_path / "guess", *quick(runs), "--json").stdout)
    assert shown["comparison"]["names"] == [str(runs / "guess"), str(tmp_path / "guess")]


# -- pool


def test_pool_gives_the_mean_over_seeds_with_a_t_interval(runs, few):
    folders = [runs / name for name in ("guess", "again", "third")]
    shown = json.loads(call("compare", *folders, *quick(runs), "--pool", "--measure", "wd", "--json").stdout)
    how = replace(OPTIONS, resample="respondents")
    held = [evaluate(load_run(folder), few, options=how).metric("wd") for folder in folders]
    errors = [(one.high - one.value) / 1.959963984540054 for one in held]
    expected = pool_seeds([one.value for one in held], within=errors)
    (row,) = shown["pooled"]
    assert row["measure"] == "wd" and row["runs"] == 3
    assert row["value"] == pytest.approx(np.mean([one.value for one in held]))
    assert (row["low"], row["high"]) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize(
    ("form", "head"),
    [
        ("table", "figure                              mean"),
        ("markdown", "| figure | mean | low | high | SD of the seeds |"),
        ("latex", "% 2 runs with other seeds: guess, again; 95% t intervals"),
        ("csv", "measure,value,low,high,between,within,runs"),
    ],
)
def test_pooled_figures_have_every_form(runs, form, head):
    text = call("compare", runs / "guess", runs / "again", *quick(runs), "--pool", "--format", form).stdout
    assert text.startswith(head) and len(text.splitlines()) >= 5


def test_pooling_takes_the_spread_of_the_draws_where_an_interval_is_cut_at_the_end_of_the_range(few):
    codes = np.stack([few.answers[key] for key in few.survey.keys], axis=1)
    humans = few.take(np.flatnonzero((codes >= 0).all(axis=1))[:25].tolist())
    picks = np.stack([humans.answers[key] for key in few.survey.keys], axis=1)
    picks[0, 0] = (picks[0, 0] + 1) % 3
    answers = cast_of(humans, picks, survey=few.survey)
    options = replace(OPTIONS, resample="respondents", bootstraps=400)
    cut, narrow = (evaluate(answers, humans, options=replace(options, level=level)) for level in (0.95, UNCUT))
    one = cut.metric("accuracy")
    assert one.high == 1 and one.low < one.value < 1
    # The lower end of a figure that is no distance is normal.
    assert _standard_error(narrow.metric("accuracy")) == pytest.approx((one.value - one.low) / 1.959963984540054)
    assert _standard_error(replace(one, low=None)) is None


# -- errors


@pytest.mark.parametrize(
    ("names", "more", "message"),
    [
        (["guess"], [], "a comparison needs two runs or more, got "),
        (["guess", "guess"], [], "are the same run, "),
        (["guess", "first"], ["--measure", "wdd"], "unknown measure 'wdd': did you mean 'wd'? Allowed: 'all', "),
        (
            ["guess", "first"],
            ["--pool"],
            "first and guess differ in model: --pool takes runs that differ in their seed",
        ),
        (["guess", "none"], [], "is no run folder"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(runs, names, more, message):
    done = call("compare", *(runs / name for name in names), *more, code=1)
    assert message in done.stderr and done.stderr.count("\n") == 1


def test_a_copy_of_a_run_is_no_second_run(runs, tmp_path):
    shutil.copytree(runs / "guess", tmp_path / "copy")
    done = call("compare", runs / "guess", tmp_path / "copy", code=1)
    run = load_run(runs / "guess").provenance["run_id"]
    assert f"copy and guess are the same run, {run}: give each run once" in done.stderr


def test_replicates_need_other_seeds(runs, few, spending, tmp_path):
    people = unmatched(few.sample(80, seed=8))
    simulate(people, spending, open_model("scripted:uniform"), options=BIO, folder=tmp_path / "same")
    done = call("compare", runs / "guess", tmp_path / "same", "--pool", code=1)
    assert "same and guess have the same seed, 0: --pool takes runs with other seeds" in done.stderr


def test_runs_of_other_questions_or_humans_are_refused(runs, few, spending, tmp_path):
    cast = unmatched(few.sample(10))
    simulate(cast, spending.select(["natenvir"]), open_model("scripted:first"), options=BIO, folder=tmp_path / "one")
    done = call("compare", runs / "guess", tmp_path / "one", *quick(runs), code=1)
    assert "one was not asked the same questions as guess" in done.stderr
    strange = unmatched(replace(few.sample(10), name="town"))
    simulate(strange, spending, open_model("scripted:first"), options=BIO, folder=tmp_path / "town")
    done = call("compare", runs / "guess", tmp_path / "town", code=1)
    assert "town stands in for town, guess for gss-2018: compare runs of the same humans" in done.stderr


def test_the_measures_that_can_be_asked_for_are_those_of_the_package(runs):
    done = call("compare", runs / "guess", runs / "first", "--measure", "nothing", code=1)
    assert all(f"'{name}'" in done.stderr for name in MEASURES)
