import json
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

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
    match,
    open_model,
    rank,
    simulate,
    unmatched,
    write_report,
)
from anthology_hub.errors import DataError, MissingExtraError
from anthology_hub.schema import Question

QUICK = EvaluateOptions(bootstraps=50, splits=10)
HOSTILE = "<script>alert('x')</script> & \"$\\frac{$\" {{ 7 * 7 }} $a$"
VOID = {"meta", "img", "br", "wbr"}


class Page(HTMLParser):
    """The tags, addresses and words of a page; fails on tags that do not close in order."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.open, self.addresses, self.texts = [], [], [], []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]
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
    result = evaluate(answers, humans, options=QUICK)
    folder = tmp_path_factory.mktemp("full")
    rows = rank([result, baseline[2]])
    found = diagnose(people, some, cast)
    path = write_report(
        result, folder, answers=answers, humans=humans, diagnosis=found, rows=rows, intro="Only a test."
    )
    return cast, answers, result, path


def test_page_parses_and_needs_nothing_from_outside(full):
    page = Page(full[3])
    assert page.addresses and all(address.startswith("data:image/png;base64,") for address in page.addresses)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert "url(" not in page.source and "@import" not in page.source


def test_plots_lie_beside_the_page_as_png(full):
    from matplotlib.image import imread

    folder = full[3].parent
    assert {file.name for file in folder.iterdir()} == {
        "report.html",
        "headline.png",
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
    for figure in (wd.value, wd.floor, wd.floor_equal_n, wd.uniform, wd.majority):
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


def test_undefined_figures_are_dashes_with_words(humans, survey, tmp_path):
    survey = replace(survey, order_patterns=("original",))
    cast = unmatched(humans.sample(10))
    answers = simulate(cast, survey, open_model("scripted:first"), options=SimulateOptions(conditioning="nothing"))
    result = evaluate(answers, humans.sample(10), options=QUICK)
    assert result.metric("fro").value is None and result.metric("wd").floor_equal_n is None
    words = Page(write_report(result, tmp_path, answers=answers, humans=humans.sample(10))).words
    assert "Correlations are undefined: only one option occurs among the simulated answers" in words
    assert "as large as the group of humans" in words and "Grey cells are undefined" in words
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


def test_large_survey_fits(tmp_path):
    humans, survey = Respondents.load("bfi"), Survey.load("bfi")
    cast = unmatched(humans.sample(30))
    options = SimulateOptions(conditioning="nothing")
    answers = simulate(cast, survey, open_model("scripted:uniform"), options=options)
    result = evaluate(answers, humans.sample(200), options=QUICK)
    page = Page(write_report(result, tmp_path, answers=answers, humans=humans.sample(200)))
    assert page.words.count("A1") >= 2 and len(page.addresses) == 3
    assert (tmp_path / "report.html").stat().st_size < 2_000_000


def test_questions_with_different_options_get_their_own_legends(baseline, tmp_path):
    result = baseline[2]
    other = {**result.items[0], "question": "tea", "options": ["no", "yes"], "human": [0.5, 0.5], "simulated": [0, 1]}
    path = write_report(replace(result, items=(*result.items, other)), tmp_path)
    assert "tea" in Page(path).words


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
