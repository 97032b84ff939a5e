import json
import re
import shlex
import shutil
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from anthology_hub import (
    Anthology,
    Codebook,
    EvaluateOptions,
    Respondents,
    Result,
    SimulateOptions,
    Survey,
    diagnose,
    evaluate,
    load_run,
    match,
    open_model,
    rank,
    simulate,
    unmatched,
    weights,
    write_report,
)
from anthology_hub.cli import main
from anthology_hub.errors import DataError, MissingExtraError
from anthology_hub.measures import MEASURES
from anthology_hub.report import weight_bins
from anthology_hub.report_tables import FAMILIES, SHORT
from anthology_hub.report_words import citations, figure_tables, inputs_of, left_out, rerun
from anthology_hub.schema import Metric, Question, Scale, Subgroup
from tests.made_runs import cast_of

QUICK = EvaluateOptions(bootstraps=50, splits=10)
HOSTILE = "<script>alert('x')</script> & \"$\\frac{$\" {{ 7 * 7 }} $a$"
VOID = {"meta", "img", "br", "wbr", "source"}
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
PHONE = 360


class Page(HTMLParser):
    """The tags, addresses and words of a page; fails on tags that do not close in order."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.open, self.addresses, self.alts, self.texts = [], [], [], [], []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]
        self.alts += [value for name, value in attrs if name == "alt"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.texts.append(data)

    @property
    def words(self):
        return " ".join(" ".join(self.texts).split())


@pytest.fixture(scope="module")
def humans():
    return Respondents.load("gss-2018")


@pytest.fixture(scope="module")
def survey():
    return Survey.load("gss-national-spending").select(["natenvir", "natheal", "natroad", "natsci"])


@pytest.fixture(scope="module")
def people():
    codebook = Codebook.load("starter")
    rng = np.random.default_rng(0)
    traits = [{t.name: t.levels[rng.integers(len(t.levels))] for t in codebook.traits} for _ in range(30)]
    records = [{"backstory": f"Secret story number {at}.", "traits": known} for at, known in enumerate(traits)]
    return Anthology.from_records(records, codebook, name="toy", licence="CC0-1.0")


@pytest.fixture(scope="module")
def baseline(humans, survey):
    cast = unmatched(humans.sample(20))
    answers = simulate(cast, survey, open_model("scripted:uniform"), options=SimulateOptions(conditioning="bio"))
    return cast, answers, evaluate(answers, humans, options=QUICK)


@pytest.fixture(scope="module")
def full(humans, survey, people, baseline, tmp_path_factory):
    some = humans.sample(20)
    cast = match(people, some, method="greedy")
    answers = simulate(cast, survey, open_model("scripted:uniform"))
    result = evaluate(answers, humans, options=replace(QUICK, by=("age", "gender"), least=5))
    folder = tmp_path_factory.mktemp("full")
    rows = rank([result, baseline[2]])
    found = diagnose(people, some, cast)
    path = write_report(
        result, folder, answers=answers, humans=humans, diagnosis=found, rows=rows, intro="Only a test."
    )
    return cast, answers, result, path


def test_page_parses_and_needs_nothing_from_outside(full):
    page = Page(full[3])
    outward = [address for address in page.addresses if not address.startswith(("data:image/png;base64,", "#"))]
    assert len(page.addresses) > 6 and outward == []
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert "url(" not in page.source and "@import" not in page.source


def test_plots_lie_beside_the_page_as_png(full):
    from matplotlib.image import imread

    folder = full[3].parent
    assert {file.name for file in folder.iterdir()} == {
        "report.html",
        "headline.png",
        "subgroups.png",
        "answers.png",
        "correlations.png",
        "matching.png",
        "margins.png",
    }
    for file in folder.glob("*.png"):
        assert file.read_bytes().startswith(b"\x89PNG\r\n")
        assert np.ptp(imread(file)[..., :3]) > 0.5


def test_page_says_who_what_and_compared_with_what(full):
    _, _, result, path = full
    words, wd = Page(path).words, result.metric("wd_normalised")
    for text in ("20 people were simulated", "backstory", "Only a test.", "human floor", "choosing options at random"):
        assert text in words
    for figure in (wd.value, wd.floor, wd.floor_equal_n, wd.uniform, wd.majority, wd.cells):
        assert f"{figure:.3f}" in words
    for text in (
        "WD raw (option steps)",
        "WD normalised",
        "Maximum reuse",
        "Effective number",
        result.run_id,
        "(this run)",
    ):
        assert text in words
    assert result.provenance["inputs"]["survey"]["digest"] in words


def test_page_holds_aggregates_only(full, humans):
    cast, answers, _, path = full
    page = path.read_text(encoding="utf-8")
    assert "Secret story" not in page
    assert not any(persona_id in page for persona_id in answers.persona_ids)
    assert not any(sentence in page for role in cast.roles for sentence in role.traits.values())


def test_same_result_gives_same_bytes(baseline, tmp_path):
    pages = [write_report(baseline[2], tmp_path / name).read_bytes() for name in ("one", "two")]
    assert pages[0] == pages[1]


def test_result_alone_is_enough_and_survives_json(baseline, tmp_path):
    result = Result.from_dict(json.loads(json.dumps(baseline[2].to_dict())))
    words = Page(write_report(result, tmp_path / "new" / "folder")).words
    assert "Correlations between questions: Frobenius" in words
    assert not (tmp_path / "new" / "folder" / "correlations.png").exists()
    assert "Leaderboard" not in words and "Maximum reuse" not in words


def test_matching_is_not_applicable_to_a_baseline(baseline, humans, tmp_path):
    _, answers, result = baseline
    words = Page(write_report(result, tmp_path, answers=answers, humans=humans)).words
    assert "baseline without personas" in words and not (tmp_path / "matching.png").exists()


def test_the_fit_and_the_margins_of_the_cast_stand_behind_their_pictures(full, people, humans):
    cast, _, _, path = full
    found, words = diagnose(people, humans.sample(20), cast), Page(path).words
    assert len(found.agreement) == 6
    for fit, margin in zip(found.agreement, found.margins, strict=True):
        assert f"{fit.trait} {fit.mean_probability:.3f} {fit.top_share:.1%} {fit.pairs} {fit.zero}" in words
        for level, *shares in zip(margin.levels, margin.humans, margin.cast, strict=True):
            assert f"{level} {shares[0]:.1%} {shares[1]:.1%}" in words
    assert "Fewer than 10 of the matched people have some level of age, " in words
    for low, high, n in weight_bins(found.log_weights):
        assert (f"{low:.2g} {high:.2g} {n}" in words) == (n > 0)
    assert sum(n for *_, n in weight_bins(found.log_weights)) == 20
    told = " ".join(f"{uses} {personas}" for uses, personas in found.reuse.items())
    assert f"Roles played by a persona Personas {told} " in words


def test_questions_without_an_order_have_no_correlations_on_the_page(humans, survey, tmp_path):
    for ordinal in (("natenvir", "natroad"), ("natenvir",)):
        asked = replace(survey, questions=tuple(replace(q, ordinal=q.key in ordinal) for q in survey.questions))
        people = replace(humans.sample(40), survey=asked)
        answers = cast_of(people, survey=asked)
        page = Page(write_report(evaluate(answers, people, options=QUICK), tmp_path, answers=answers, humans=people))
        if len(ordinal) == 1:
            assert "All correlations" not in page.words
        else:
            table = page.words.split("All correlations")[1].split("Matching")[0]
            assert "natroad natenvir" in table and "natheal" not in table and "natsci" not in table


def test_how_much_the_order_of_options_moves_is_told_question_by_question(baseline, humans, tmp_path):
    _, answers, plain = baseline
    assert "Order of the options" not in Page(write_report(plain, tmp_path)).words
    gap = np.full(answers.picks.shape, np.nan, dtype=np.float32)
    gap[:, 0], gap[0, 1] = 0.25, 0.5
    result = evaluate(replace(answers, order_gap=gap), humans, options=QUICK)
    assert [item.get("order_gap") for item in result.items] == [0.25, 0.5, None, None]
    words = Page(write_report(result, tmp_path)).words
    assert "Moves between the orders natenvir 0.250 natheal 0.500 Share of the probability" in words


def test_undefined_figures_are_dashes_with_words(humans, survey, tmp_path):
    survey = replace(survey, order_patterns=("original",))
    cast = unmatched(humans.sample(10))
    answers = simulate(cast, survey, open_model("scripted:first"), options=SimulateOptions(conditioning="nothing"))
    result = evaluate(answers, humans.sample(10), options=QUICK)
    assert result.metric("fro").value is None and result.metric("fro").floor is None
    words = Page(write_report(result, tmp_path, answers=answers, humans=humans.sample(10))).words
    assert "Correlations are undefined: only one option occurs among the simulated answers" in words
    assert "Grey cells are undefined" in words
    assert "–" in words and "nan" not in words.split() and "None" not in words


def test_not_a_number_in_a_result_reads_as_a_dash(baseline, tmp_path):
    result, bad = baseline[2], float("nan")
    metrics = [replace(m, low=bad, high=bad, uniform=bad, majority=bad, floor_equal_n=bad) for m in result.metrics]
    words = Page(write_report(replace(result, metrics=tuple(metrics)), tmp_path)).words
    assert "nan" not in words.split()
    for text in ("No interval", "uniform baseline is not defined", "No majority baseline.", "one random half"):
        assert text in words


def test_undefined_headline_is_said(baseline, tmp_path):
    result = baseline[2]
    gone = [replace(m, value=None, low=None, high=None, floor=None, note="Nobody spoke.") for m in result.metrics]
    words = Page(write_report(replace(result, metrics=tuple(gone)), tmp_path)).words
    assert "answers is undefined. Nobody spoke." in words and "The headline figure" not in words


def test_partial_coverage_and_text_mode_are_said(baseline, tmp_path):
    coverage = {"answered": 0.75, "refused": 0.25, "unparsable": 0.0, "failed": 0.0}
    words = Page(write_report(replace(baseline[2], coverage=coverage, option_mass=None), tmp_path)).words
    assert "75.0% of the questions got an answer" in words and "replies were sampled as text" in words


def test_hostile_names_are_text_and_not_markup(humans, tmp_path):
    questions = [
        Question(key=f"q{at}{HOSTILE}", text=HOSTILE, options=(HOSTILE, "$5 to $10", "日本語"), codes=(1, 2, 3))
        for at in range(3)
    ]
    survey = Survey(name=HOSTILE, title=HOSTILE, source=HOSTILE, questions=tuple(questions))
    codes = {q.key: humans.answers[key] for q, key in zip(questions, ("natenvir", "natheal", "natroad"), strict=True)}
    strange = replace(humans, name=HOSTILE, answers=codes, notes=(HOSTILE,))
    options = SimulateOptions(conditioning="bio")
    answers = simulate(unmatched(strange.sample(20)), survey, open_model("scripted:uniform"), options=options)
    result = replace(evaluate(answers, strange, options=QUICK), model=HOSTILE, developer=HOSTILE, notes=(HOSTILE,))
    rows = [replace(row, method=HOSTILE) for row in rank([result])]
    path = write_report(result, tmp_path, answers=answers, humans=strange, rows=rows, intro=HOSTILE)
    page = Page(path)
    assert "script" not in page.tags and "<script" not in page.source
    assert page.words.count("alert('x')") > 10 and "{{ 7 * 7 }}" in page.words


@pytest.mark.slow
def test_large_survey_fits(tmp_path):
    humans, survey = Respondents.load("bfi"), Survey.load("bfi")
    cast = unmatched(humans.sample(30))
    options = SimulateOptions(conditioning="nothing")
    answers = simulate(cast, survey, open_model("scripted:uniform"), options=options)
    result = evaluate(answers, humans.sample(200), options=QUICK)
    page = Page(write_report(result, tmp_path, answers=answers, humans=humans.sample(200)))
    assert page.words.count("A1") >= 2 and len(page.alts) == 3
    assert (tmp_path / "report.html").stat().st_size < 2_000_000


def test_questions_with_different_options_get_their_own_legends(baseline, tmp_path):
    result = baseline[2]
    other = {**result.items[0], "question": "tea", "options": ["no", "yes"], "human": [0.5, 0.5], "simulated": [0, 1]}
    path = write_report(replace(result, items=(*result.items, other)), tmp_path)
    assert "tea" in Page(path).words


SURE = {"off_scale": ["about the right amount"], "off_scale_human": 0.25, "off_scale_simulated": 0.0625}


def test_answers_off_the_scale_stand_apart_in_words_table_and_picture(baseline, tmp_path):
    from matplotlib import colormaps
    from matplotlib.image import imread

    result = baseline[2]
    options = ["too little", "about the right amount", "too much"]
    first = {
        **result.items[0],
        **SURE,
        "options": options,
        "human": [0.5, 0.25, 0.25],
        "simulated": [0.9375, 0.0625, 0],
    }
    page = Page(write_report(replace(result, items=(first, *result.items[1:])), tmp_path))
    assert "1 question has options that are no step of the scale, such as “about the right amount”." in page.words
    assert "25.0% of the humans and 6.2% of the simulated people chose one." in page.words
    head = "WD normalised (0 to 1) Off the scale, humans Off the scale, simulated"
    assert head in page.words and f"{first['wd_normalised']:.3f} 25.0% 6.2% natheal" in page.words
    assert f"{result.items[1]['wd_normalised']:.3f} – – natroad" in page.words
    assert "about the right amount (off the scale) 25.0% 6.2% too much 25.0% 0.0%" in page.words
    assert "Answers off the scale Left out of the figures that need an order" in page.words
    assert "Questions: natenvir." in page.words
    told = "Answers off the scale stand apart, hatched: natenvir 25.0% of the humans and 6.2% of the simulated. "
    assert any(told in alt for alt in page.alts)

    def near(colour):
        return abs(image - np.array(colour)).max(axis=2) < 3

    # The humans' bar of that question: both steps, a gap, then the frame of what lies off the scale.
    image = (imread(tmp_path / "answers.png")[:, :, :3] * 255).round()
    dark, light = (near([255 * part for part in colormaps["cividis"](at)[:3]]) for at in (0.04, 0.96))
    row = next(y for y in range(len(image)) if light[y].sum() > 150 and dark[y].sum() > 150)
    frame = near([0x6B, 0x72, 0x80])[row : row + 12, : image.shape[1]].any(axis=0)
    end = np.flatnonzero(light[row]).max()
    assert frame[end + 1 :].any() and np.flatnonzero(frame[end + 1 :]).min() > 15
    assert dark[row].sum() / light[row].sum() == pytest.approx(2, rel=0.05)


def test_a_page_without_options_off_the_scale_says_nothing_of_them(full):
    assert "off the scale" not in full[3].read_text().casefold()


def test_behind_a_picture_of_many_questions_off_the_scale_some_are_named_and_the_rest_counted(baseline, tmp_path):
    result = baseline[2]
    first = {**result.items[0], **SURE, "options": ["too little", "about the right amount", "too much"]}
    items = tuple({**first, "question": f"q{at}", "off_scale_human": None if at else 0.5} for at in range(22))
    page = Page(write_report(replace(result, items=items), tmp_path))
    assert (
        "22 questions have options that are no step" in page.words and "On average, 50.0% of the humans" in page.words
    )
    (alt,) = (alt for alt in page.alts if "stand apart" in alt)
    assert "q19 – of the humans and 6.2% of the simulated, and 2 more questions. " in alt and "q20" not in alt


def test_few_humans_behind_a_question_are_warned_of(baseline, tmp_path):
    result = baseline[2]
    items = ({**result.items[0], "n_human": 3}, *result.items[1:])
    words = Page(write_report(replace(result, items=items), tmp_path)).words
    assert f"Fewer than 10 humans answered {items[0]['question']}" in words


def test_inputs_of_another_run_are_refused(full, baseline, people, humans, tmp_path):
    result = full[2]
    other = diagnose(people, humans.sample(9), match(people, humans.sample(9)))
    for given in ({"answers": baseline[1]}, {"diagnosis": other}, {"humans": humans.sample(50)}):
        with pytest.raises(DataError, match="give"):
            write_report(result, tmp_path, **given)
    assert not list(tmp_path.iterdir())


def test_missing_extra_names_the_pip_line(baseline, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"matplotlib.*anthology-hub\[plots\]"):
        write_report(baseline[2], tmp_path)


def test_plotting_leaves_no_global_state(baseline, tmp_path):
    import matplotlib

    before = dict(matplotlib.rcParams)
    write_report(baseline[2], Path(tmp_path))
    assert dict(matplotlib.rcParams) == before


# -- figures, subgroups, what was left out


def test_every_measure_has_a_family_and_a_short_name():
    assert {name for names in FAMILIES.values() for name in names} == set(MEASURES) == set(SHORT)


def test_figures_stand_in_their_families_with_title_meaning_and_way(full):
    _, _, result, path = full
    words, at = Page(path).words, 0
    for table in figure_tables(result):
        at = words.index(f"{table.family} Figure", at)
        for row in table.rows:
            assert f"{row.title} {row.meaning}" in words[at:]
    for metric in result.metrics:
        assert MEASURES[metric.name].title in words and MEASURES[metric.name].meaning in words
    way = result.metric("alpha").attained
    assert f"{way:.0%}".replace("-", "−") in words
    assert f'<span class="bar" style="width: {round(100 * max(way, 0), 1)}%">' in Page(path).source


def test_columns_that_are_empty_for_a_whole_family_are_left_out(full):
    tables = {table.family: table for table in figure_tables(full[2])}
    assert "majority" in tables["Answer distributions"].columns
    assert "majority" not in tables["Correlations and consistency"].columns
    assert "human" not in tables["Answer distributions"].columns
    assert "Previous wave" not in Page(full[3]).words


def test_an_earlier_wave_is_a_column_and_a_dot(baseline, humans, tmp_path):
    _, answers, _ = baseline
    result = evaluate(answers, humans, options=QUICK, previous=humans.sample(400, seed=7))
    page = Page(write_report(result, tmp_path))
    assert result.metric("wd_normalised").previous > 0 and "Previous wave" in page.words
    assert f"previous wave of the survey {result.metric('wd_normalised').previous:.3f}" in page.alts[0]


def test_a_figure_of_others_is_shown_by_its_name(baseline, tmp_path):
    strange = Metric(name="surprise", value=0.25, unit="bits")
    words = Page(write_report(replace(baseline[2], metrics=(*baseline[2].metrics, strange)), tmp_path)).words
    assert "Other figures" in words and "surprise bits 0.250" in words


def test_subgroups_have_a_forest_a_table_and_their_gap(full):
    _, _, result, path = full
    page, told = Page(path), [one for one in result.subgroups if one.metrics]
    assert f"in each of {len(told)} subgroups" in " ".join(page.alts) and len(told) >= 2
    for one in told:
        wd = one.metric("wd_normalised")
        ends = "–" if wd.low is None else f"{wd.low:.3f} to {wd.high:.3f}"
        assert f"{one.trait}: {one.level} {one.n} {one.n_human} {wd.value:.3f} {ends}" in page.words
    (gap,) = [one for one in result.subgroups if one.gap is not None and one.trait == "gender"]
    assert f"gender {gap.level} {gap.nearest} {gap.gap:.3f}" in page.words


def test_subgroups_left_out_stand_with_their_reason_and_small_ones_with_a_warning(baseline, tmp_path):
    small = Subgroup(trait="age", level="90+", n=1, n_human=3, note="1 roles and 3 humans: too few.")
    words = Page(write_report(replace(baseline[2], subgroups=(small,)), tmp_path)).words
    assert "age: 90+ 1 roles and 3 humans: too few." in words and "Parity gaps" not in words
    assert "Fewer than 10 of the humans are in the subgroups age: 90+" in words


def test_what_was_left_out_counts_each_status_and_names_questions_that_are_no_choice(baseline, humans, survey):
    _, answers, result = baseline
    statuses = answers.statuses.astype("<U16")
    statuses[:3, 0], statuses[3:5, 0], statuses[0, 1] = "refused", "skipped", "failed"
    hours = Question(key="hours", text="How many hours?", kind="number")
    grown = replace(survey, questions=(*survey.questions, hours))
    found = left_out(result, replace(answers, survey=grown, statuses=statuses))
    assert found.kinds == (("hours", "number"),)
    assert found.statuses == ("refused", "failed", "skipped")
    first, second = found.unanswered[:2]
    missing = len(humans) - result.items[0]["n_human"]
    assert first == {
        "question": "natenvir", "humans": missing, "refused": 3, "unparsable": 0, "failed": 0, "skipped": 2
    }  # fmt: skip
    assert second["failed"] == 1 and second["refused"] == 0


def test_without_the_answers_only_their_number_is_told(baseline):
    result = baseline[2]
    items = ({**result.items[0], "n_simulated": 15}, *result.items[1:])
    assert left_out(replace(result, items=items)).unanswered[0]["without an answer"] == 5


def test_scales_and_the_chance_of_each_question_stand_on_the_page_and_older_results_show_a_dash(baseline, tmp_path):
    result = baseline[2]
    alpha = replace(result.metric("alpha"), value=0.4321, low=0.1111, high=0.6543, human=0.7654)
    scale = Scale(name="spending", questions=result.questions[:2], metrics=(alpha, replace(alpha, name="omega")))
    words = Page(write_report(replace(result, scales=(scale,)), tmp_path / "new")).words
    assert "spending 2 0.432 0.111 to 0.654 0.765 0.432 0.111 to 0.654 0.765" in words
    item = result.items[0]
    ends = f"{item['wd']:.3f} {item['wd_low']:.3f} to {item['wd_high']:.3f} {item['wd_floor_equal_n']:.3f}"
    assert ends in words
    older = [{name: value for name, value in one.items() if not name.startswith("wd_")} for one in result.items]
    older = [{**one, "wd_normalised": item["wd_normalised"]} for one, item in zip(older, result.items, strict=True)]
    words = Page(write_report(replace(result, items=tuple(older)), tmp_path / "old")).words
    assert f"{item['wd']:.3f} – – {item['wd_normalised']:.3f}" in words and "Scales" not in words


def test_a_result_without_gaps_says_that_nothing_was_left_out(baseline, tmp_path):
    result = baseline[2]
    whole = tuple({**item, "n_human": result.n_humans, "n_simulated": result.n} for item in result.items)
    wd = [replace(result.metric(name), previous=0.1) for name in ("wd_normalised", "wd")]
    alpha = replace(result.metric("alpha"), majority=0.0)
    fro = replace(result.metric("fro"), majority=0.0)
    result = replace(result, items=whole, metrics=(*wd, alpha, fro))
    assert not left_out(result)
    assert "Nothing: every question is a choice" in Page(write_report(result, tmp_path)).words


def test_reasons_stand_once_with_all_figures_that_they_concern(baseline):
    reasons = dict(left_out(baseline[2]).undefined)
    alike = reasons["No majority baseline: answers that are all the same have no correlations."]
    assert alike.split(", ") == ["Fro", "Fro (Spearman)", "CBS", "Alpha", "Omega"]


# -- the matching


def test_what_an_assignment_says_of_itself_is_told_in_the_table_and_in_a_note(full, tmp_path):
    said = {
        **inputs_of(full[2])["matching"],
        "zero_weight_pairs": 5.0,
        "zero_weight_share": 0.25,
        "unmatched_respondents": 1.0,
        "weight_bound": 12.5,
        "optimality_gap": 0.0123,
    }
    words = Page(write_report(changed(full[2], matching=said), tmp_path)).words
    assert "Pairs with weight zero 5 how many these are" in words and "Respondents without a role 1 no" in words
    assert "Bound of the total weight 12.500 no" in words and "Optimality gap 1.23% share of that bound" in words
    for note in (
        "5 of the pairs (25.0%) have weight zero: the persona cannot have some level of its respondent.",
        "1 respondent has no role: no persona was left that could stand in for that person.",
        "not proven best: at most 12.5 in total weight can be had, and it falls short of that by 1.23%.",
    ):
        assert note in words
    proven = changed(full[2], matching={**said, "optimality_gap": 6e-12})
    words = Page(write_report(proven, tmp_path)).words
    assert "Optimality gap 0%" in words and "The assignment is proven best: no other weighs more in total." in words


# -- how to cite, how to rerun


def test_the_page_cites_what_the_citation_file_does(baseline):
    facts = yaml.safe_load((Path(__file__).parents[1] / "CITATION.cff").read_text(encoding="utf-8"))
    told = dict(citations(baseline[2]))
    (paper,) = facts["references"]
    for fact in (paper["title"], paper["collection-title"], str(paper["year"]), paper["identifiers"][0]["value"]):
        assert fact in told["The method"]
    assert all(author["family-names"] in told["The method"] for author in paper["authors"])
    for fact in (facts["title"], facts["version"], facts["license"], facts["authors"][0]["name"]):
        assert fact in told["This package"]
    assert "General Social Survey" in told["The survey"] and "Davern" in told["The respondents"]
    assert "The model" not in told


@pytest.mark.parametrize(
    "arguments",
    [
        ["--conditioning", "bio", "--question", "natsci", "--question", "natenvir", "--keep-order", "--tries", "7"],
        ["--method", "greedy", "--trait", "age", "--labels", "numbers", "--append", "qa", "--seed", "4", "--paper"],
        ["--conditioning", "anthology", "--history", "independent", "--options-order", "both", "--grounding", "Now."],
    ],
)
def test_the_commands_of_how_to_rerun_give_the_same_run(arguments, humans, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = ["simulate", "first", "--sample", "6", "--model", "scripted:uniform", *arguments]
    assert CliRunner().invoke(main, first).exit_code == 0
    answers = load_run("first")
    asked = replace(QUICK, weighting="paper", resample="personas", by=("gender",))
    result = evaluate(answers, humans, options=asked)
    told = rerun(result)
    simulated, evaluated = (shlex.split(command)[1:] for command in told.commands)
    assert CliRunner().invoke(main, simulated).exit_code == 0
    assert load_run(simulated[1]).provenance["run_id"] == result.run_id
    assert evaluated[2:] == [
        "--humans", "gss-2018", "--weighting", "paper", "--resample", "personas", "--bootstraps", "50", "--by", "gender"
    ]  # fmt: skip
    assert told.caveats[0].startswith("The cast must come out with the digest ")
    assert told.caveats[1:] == ("These options of evaluate can be given in Python only: splits 10.",)


def changed(result, evaluation=None, **inputs):
    provenance = dict(result.provenance)
    provenance["inputs"] = {**provenance["inputs"], **inputs}
    provenance["evaluation"] = {**provenance["evaluation"], **(evaluation or {})}
    return replace(result, provenance=provenance)


@pytest.mark.parametrize(
    ("inputs", "command", "caveat"),
    [
        ({"humans": "town"}, "--humans town", "town came from a file: put it in the place of town"),
        ({"wave": "two", "earlier": [{"run_id": "ab"}]}, "--as-wave two --earlier runs/ab", "The cast must come out"),
        ({"cast": {"method": "itself", "n": 9}}, "--method itself", "as_themselves(people)"),
        ({"cast": {"method": "capacity", "n": 9}}, "--sample 9", "does not record the --capacity"),
        ({"collection": "mine@1.0.0#ab"}, "--method greedy", "The personas were mine@1.0.0#ab: name their folder"),
        ({"survey": {"questions": ["natenvir"], "digest": "0"}}, "--question natenvir", "is not the survey of this"),
        (
            {"matching": {"unmatched_respondents": 3.0}},
            "--sample 23",
            "whether --partial or --possible-only left people",
        ),
        ({"options": {"least_mass": 0.5, "sampling": {"top_p": 0.9}}}, "simulate", "top_p 0.9, least_mass 0.5"),
    ],
)
def test_what_the_commands_cannot_say_is_said_beside_them(full, inputs, command, caveat):
    told = rerun(changed(full[2], **inputs))
    assert command in told.commands[0]
    assert any(caveat in one for one in told.caveats), told.caveats


def test_a_model_a_collection_and_a_survey_from_elsewhere_are_named(full, tmp_path):
    result = replace(full[2], developer="meta", model="big", survey="mine")
    provenance = {**result.provenance, "execution": {"collection": "hf://lab/people@c0ffee"}}
    told = rerun(replace(result, provenance=provenance))
    for words in ("--model local:meta/big", "--collection lab/people --revision c0ffee", "--survey mine"):
        assert words in told.commands[0]
    assert any("meta/big must have the revision 1" in one for one in told.caveats)
    assert any("mine came from a file" in one for one in told.caveats)
    assert dict(citations(result))["The model"] == "meta/big, revision 1"
    assert "The survey" not in dict(citations(result))


def test_the_embedded_model_is_called_by_its_short_name(full):
    developer, _, model = weights.packages()["smollm2"]["title"].partition("/")
    told = rerun(replace(full[2], developer=developer, model=model))
    assert "--model local:smollm2" in told.commands[0]


def test_how_it_was_evaluated_is_in_the_command(full):
    metrics = tuple(replace(one, previous=0.1) for one in full[2].metrics)
    result = replace(changed(full[2], {"polychoric": True, "level": 0.9}), metrics=metrics, n_humans=full[2].n)
    told = rerun(result)
    assert told.commands[1].endswith(
        "--humans gss-2018 --reference cast --bootstraps 50 --by age --by gender --polychoric"
    )
    assert any("give it with --previous" in one for one in told.caveats)
    assert any("level 0.9" in one for one in told.caveats)


def test_an_earlier_wave_is_named_in_the_command(full):
    told = rerun(changed(full[2], {"previous": "gss-2016-file"}))
    assert told.commands[1].endswith("--previous gss-2016-file")
    assert any("gss-2016-file came from a file: put it in the place of" in one for one in told.caveats)
    told = rerun(changed(full[2], {"previous": "gss-2018"}))
    assert told.commands[1].endswith("--previous gss-2018") and not any("previous" in one for one in told.caveats)


def test_what_scrolls_can_be_reached_by_the_keyboard_and_has_a_name(full):
    tags = re.findall(r'<div class="scroll"[^>]*>', Page(full[3]).source)
    assert len(tags) > 10
    assert all('tabindex="0" role="region" aria-label="' in tag for tag in tags)


def test_a_result_without_provenance_says_so(baseline, tmp_path):
    bare = replace(baseline[2], provenance={})
    assert rerun(bare).commands == ()
    words = Page(write_report(bare, tmp_path)).words
    assert "The result does not say what it was made of." in words


# -- in the browser


@pytest.mark.slow
@pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="there is no browser")
def test_the_page_fits_a_phone_and_serves_those_who_do_not_see_it(full, tmp_path):
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: pip install selenium")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={tmp_path / 'chromium'}")
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        size = {"width": PHONE, "height": 800, "deviceScaleFactor": 1, "mobile": True}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        driver.get(f"file://{full[3]}")
        told = driver.execute_script("""
            const all = (selector) => [...document.querySelectorAll(selector)];
            const levels = all("h1, h2, h3").map((one) => +one.tagName[1]);
            return {
                width: document.documentElement.scrollWidth,
                headings: all("h1").length,
                leaps: levels.some((level, at) => at && level > levels[at - 1] + 1),
                headless: all("table").filter((table) => !table.querySelector("th")).length,
                unnamed: all("[role=region]").filter((one) => !one.ariaLabel).length,
                blind: all("img").filter((one) => !one.alt || !one.complete || !one.naturalWidth).length,
                narrow: all("picture img").every((one) => one.currentSrc != one.src && one.width <= innerWidth),
                clipped: all("table.cards td").filter((one) => one.scrollWidth > one.clientWidth + 1).length,
            };
        """)
    finally:
        driver.quit()
    assert told == {
        "width": PHONE, "headings": 1, "leaps": False, "headless": 0, "unnamed": 0, "blind": 0, "narrow": True,
        "clipped": 0,
    }  # fmt: skip
