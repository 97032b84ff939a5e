"""The page on the figures: its examples, pictures and table of coverage are what the package says."""

import doctest
import io
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest

from anthology_hub import resampling
from anthology_hub.cli import main
from anthology_hub.cli_planning import power_command, rectify_command
from anthology_hub.measures import AGREEMENT, DISTANCE, MEASURES

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

import check_intervals  # noqa: E402

pytest.importorskip("matplotlib")

from make_metric_pictures import pictures  # noqa: E402

PAGE = ROOT / "docs" / "metrics.md"
TEXT = PAGE.read_text(encoding="utf-8")
PICTURES = pictures()
HUMANS = "humans"
MODERATE = "500 people, moderate"


def sections():
    """Each figure's part of the page."""
    parts = re.split(r"^#### (\w+)$", TEXT, flags=re.MULTILINE)[1:]
    return dict(
        zip(parts[::2], (re.split(r"^#{2,3} ", part, flags=re.MULTILINE)[0] for part in parts[1::2]), strict=True)
    )


def pixels(png):
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), dtype=float)


def design(name):
    return next(one for one in check_intervals.DESIGNS if one.name == name)


# -- the page


def test_the_examples_on_the_page_hold():
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    found = doctest.testfile(str(PAGE), module_relative=False, optionflags=options)
    assert found.attempted >= 15 and found.failed == 0


def test_every_figure_has_its_section_in_the_order_of_the_groups_and_none_else():
    assert sorted(sections()) == sorted(MEASURES)


@pytest.mark.parametrize("name", MEASURES)
def test_a_section_says_what_is_best_where_it_comes_from_and_shows_its_picture(name):
    text = sections()[name]
    picture = next(one for one in PICTURES if name in one.names)
    if picture.names[0] != name:
        assert "picture above stands for both" in text
        return
    assert picture.text in text
    assert "Source: " in text.replace("\n", " ")
    best = {DISTANCE: "Best 0", AGREEMENT: "Best 1"}.get(MEASURES[name].kind)
    said = text.replace("\n", " ").lower()
    assert (best.lower() if best else "best where it equals the humans' own") in said or "best 1, from 0 up" in said


def test_every_figure_that_the_decision_table_names_exists():
    table = TEXT.split("## Which to trust")[1].split("## The figures")[0]
    named = set(re.findall(r"`([a-z_]+)`", table)) - {"margins", "majority", "attained"}
    assert named <= set(MEASURES) and {"wd", "fro", "accuracy", "item_correlation", "explained"} <= named


def test_the_commands_on_the_page_are_understood():
    known = {**main.commands, "power": power_command, "rectify": rectify_command}
    lines = [line for block in re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL) for line in block.splitlines()]
    assert len(lines) == 2
    for line in lines:
        _, name, *arguments = shlex.split(line)
        known[name].make_context(name, arguments, resilient_parsing=False)


# -- the pictures


def test_the_folder_holds_the_pictures_of_the_script_and_no_other_metric_picture():
    found = {path.name: path.stat().st_size for path in (ROOT / "docs" / "pictures").glob("metric-*.png")}
    assert set(found) == {picture.file for picture in PICTURES}
    assert max(found.values()) < 40_000


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.names[0])
def test_a_picture_is_what_the_script_draws(picture):
    drawn, kept = pixels(picture.png()), pixels((ROOT / "docs" / "pictures" / picture.file).read_bytes())
    assert drawn.shape == kept.shape
    # Another version of matplotlib may set a letter a little aside.
    assert np.abs(drawn - kept).mean() < 3


def test_a_picture_drawn_twice_has_the_same_bytes():
    assert PICTURES[0].png() == PICTURES[0].png()


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.names[0])
def test_what_a_picture_sees_changes_the_figure_and_what_it_misses_does_not(picture):
    kind = MEASURES[picture.names[0]].kind
    human = [cell.value for cell in picture.sees if cell.words in (HUMANS, "as the humans") and cell.value is not None]
    best = human[0] if human else 0.0 if kind == DISTANCE else 1.0
    seen = [cell.value for cell in picture.sees if cell.words not in (HUMANS, "as the humans")]
    missed = [cell.value for cell in picture.misses if cell.words != HUMANS]
    assert np.ptp([best, *seen]) > 0.1
    if len(seen) == len(missed) == 2:
        # Two simulations: told apart by the figure on one side, with one value on the other.
        assert abs(seen[0] - seen[1]) > 0.06 and missed[0] == pytest.approx(missed[1], abs=1e-9)
    else:
        # One against the humans: as good as right, though it is not.
        assert abs(missed[0] - best) < 0.15 * max(abs(value - best) for value in seen)


# -- the coverage of the intervals


def coverage_table():
    block = TEXT[TEXT.index("| % of ") :].split("\n\n")[0].splitlines()
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in block]
    return head, {row[0]: row[1:] for row in rows}


def test_the_table_of_coverage_has_every_design_and_figure_of_the_script_and_breaks_no_promise():
    head, rows = coverage_table()
    assert head[0] == "% of 1,000 surveys" and head[1:] == [f"`{name}`" for name in check_intervals.FIGURES]
    assert list(rows) == [one.name for one in check_intervals.DESIGNS]
    for name, cells in rows.items():
        assert "*" not in "".join(cells)
        found = {
            figure: float(cell.split()[0]) / 100 for figure, cell in zip(check_intervals.FIGURES, cells, strict=True)
        }
        assert check_intervals.broken(design(name), found, 1000) == []


def test_coverage_is_allowed_two_points_in_a_thousand_surveys_and_more_in_fewer():
    assert check_intervals.allowed(1000) == check_intervals.allowed(4000) == pytest.approx((0.93, 0.97))
    assert check_intervals.allowed(250) == pytest.approx((0.91, 0.99))
    assert check_intervals.allowed(20) == pytest.approx((0.8086, 1.0), abs=1e-4)


def test_a_promise_is_broken_on_both_sides_for_most_figures_and_from_below_for_distances():
    right = dict.fromkeys(check_intervals.FIGURES, 0.95)
    some, few = design(MODERATE), design("100 people, moderate")
    assert check_intervals.broken(some, right, 1000) == []
    assert check_intervals.broken(some, right | {"alpha": 0.98, "wd": 1.0, "coefficients": 0.0}, 1000) == ["alpha"]
    assert check_intervals.broken(some, right | {"wd": 0.92, "accuracy": 0.92}, 1000) == ["wd", "accuracy"]
    assert check_intervals.broken(few, right | {"alpha": 0.92, "wd": 0.92}, 1000) == ["wd"]
    lumps = design("500, 100 personas")
    assert check_intervals.broken(lumps, right | {"alpha": 0.98, "accuracy": 0.92}, 1000) == ["accuracy"]


def test_surveys_without_an_interval_do_not_count_and_are_told():
    held = {name: np.array([1.0, 1.0, 1.0, 1.0]) for name in check_intervals.FIGURES}
    held |= {"group_gaps": np.array([1.0, np.nan, np.nan, 1.0]), "kl": np.array([1.0, 0.0, 0.0, 0.0])}
    assert check_intervals.shares(held)["group_gaps"] == 1.0
    row = check_intervals.row(design(MODERATE), held)
    assert row.endswith("| 100.0 (of 2) | 100.0 |") and "| 25.0 * |" in row


@pytest.fixture
def small(monkeypatch):
    """A true value from fewer people: enough for twenty surveys."""
    monkeypatch.setattr(check_intervals, "POPULATION", 5_000)
    return ["--surveys", "20", "--draws", "40", "--design", MODERATE]


def test_the_script_prints_a_row_and_finds_no_promise_broken(small, capsys):
    assert check_intervals.main(small) == 0
    head, _, row = capsys.readouterr().out.splitlines()
    assert head.startswith("| % of 20 surveys | `wd_normalised` |") and row.startswith(f"| {MODERATE} | ")
    assert "*" not in row


def test_the_other_figures_have_a_table_of_their_own_which_holds_what_is_known(small, capsys):
    assert check_intervals.main([*small, "--more"]) == 0
    head, _, row = capsys.readouterr().out.splitlines()
    assert head == "| % of 20 surveys | " + " | ".join(f"`{name}`" for name in check_intervals.MORE) + " |"
    found = dict(zip(check_intervals.MORE, (float(cell.split()[0]) for cell in row.split("|")[2:-1]), strict=True))
    assert found["gap"] >= 80 and found["entropy_ratio"] >= 80 and found["mad_accuracy"] >= 80
    true = check_intervals.truth(design("500 people, no distance"), seed=0, more=True)
    assert (true["gap"], true["subgroup"], true["entropy_ratio"]) == (0.0, 0.0, 1.0)


def test_the_script_exits_with_1_and_stars_once_intervals_are_too_narrow(small, capsys, monkeypatch):
    honest = resampling.interval
    monkeypatch.setattr(
        resampling,
        "interval",
        lambda estimate, draws, **given: honest(estimate, estimate + (np.asarray(draws) - estimate) / 5, **given),
    )
    assert check_intervals.main(small) == 1
    assert " *" in capsys.readouterr().out


def test_a_survey_hangs_on_its_seed_alone():
    one, other = (check_intervals.evaluated(design("100 people, near"), 7, draws=20) for _ in range(2))
    assert one == other
    assert one != check_intervals.evaluated(design("100 people, near"), 8, draws=20)


def made(seed, **changes):
    """Many people, and roles whose answers are distributed as theirs."""
    given = check_intervals.Design(name="made", far=0.0, **changes)
    return check_intervals.draw(given, 60_000, np.random.default_rng(seed))


@pytest.mark.parametrize("changes", [{"weighted": True}, {"clusters": True}, {"shared": 5}])
def test_designs_change_how_people_are_drawn_and_not_what_is_true_of_all(changes):
    people, plain = made(1, **changes), made(2)
    for at, k in enumerate(check_intervals.OPTIONS):
        true, *found = (
            np.bincount(codes[:, at], weights=weights, minlength=k) / weights.sum()
            for codes, weights in (
                (plain.human, plain.weights),
                (people.human, people.weights),
                (people.simulated, people.weights),
            )
        )
        assert np.abs(np.array(found) - true).max() < 0.02


def test_at_no_distance_the_answers_of_both_sides_go_together_alike_and_the_truth_is_0(small):
    people = made(1)
    human, simulated = (np.corrcoef(codes.T) for codes in (people.human, people.simulated))
    assert np.abs(human - simulated).max() < 0.02
    true = check_intervals.truth(design("500 people, no distance"), seed=0)
    assert (true["wd"], true["fro"], true["coefficients"]) == (0.0, 0.0, 1.0) and 0.7 < true["alpha"] < 0.8


def test_two_simulators_that_are_as_wrong_do_not_differ_and_one_that_is_further_off_does(small):
    same, worse = (
        check_intervals.truth(design(name), seed=0, more=True) for name in ("500 people, moderate", "500 people, large")
    )
    assert [same[f"{name}, difference"] for name in check_intervals.COMPARED] == [0.0] * 3
    assert all(worse[f"{name}, difference"] > 0.005 for name in check_intervals.COMPARED)
    assert same["normalised_accuracy"] > worse["normalised_accuracy"] > 0
