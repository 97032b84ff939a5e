"""The command line, and the quickstart behind its first command."""

import json
import shlex
import signal
import subprocess
import sys
from dataclasses import asdict, replace

import numpy as np
import pytest
from click.testing import CliRunner
from huggingface_hub import HfApi

from anthology_hub import (
    Anthology,
    Codebook,
    EvaluateOptions,
    SimulateOptions,
    Survey,
    __version__,
    cli_sharing,
    evaluate,
    load_run,
    match,
    open_model,
    rank,
    simulate,
    unmatched,
)
from anthology_hub.cli import main
from anthology_hub.diagnostics import in_words
from anthology_hub.errors import OptionError
from anthology_hub.labhub.server import running
from anthology_hub.leaderboard import read_board
from anthology_hub.quickstart import ITEMS, WARNING, quickstart, verdict
from anthology_hub.ranking import HUMANS, MAJORITY, UNIFORM, Row

COMMANDS = (
    "quickstart", "search", "match", "simulate", "evaluate", "compare", "list", "show", "annotate", "generate",
    "interview", "reproduce", "power", "rectify", "embed",
)  # fmt: skip
UNIFORM_MODEL = ("--model", "scripted:uniform")


def call(*arguments, code=0):
    done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert done.exit_code == code, done.output
    return done


def from_json(*arguments):
    done = call(*arguments, "--json")
    assert done.stderr == ""
    return json.loads(done.stdout)


def snapshot(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "a"
    questions = [word for key in ("natenvir", "nataid", "nateduc") for word in ("--question", key)]
    done = call("simulate", folder, "--sample", 12, "--seed", 3, *questions, *UNIFORM_MODEL)
    return folder, done.stdout


# -- help, usage and errors


def test_the_commands_are_those_that_are_tested_here():
    shared = {command.name for command in cli_sharing.COMMANDS}
    assert set(main.commands) == {*COMMANDS, *shared, "humans", "survey", "serve", "hub"}


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_every_command_has_help_with_an_example_and_json(name, flag):
    text = call(name, flag).stdout
    assert text.startswith(f"Usage: main {name} ")
    assert f"Example: anthology-hub {name} " in text
    assert "--json" in text


def test_the_group_names_commands_example_and_exit_codes():
    text = " ".join(call("--help").stdout.split())
    assert "Example: anthology-hub quickstart" in text
    assert "Exit codes: 0 done; 1 an error, told in one line; 2 wrong usage; 130 interrupted." in text
    assert all(name in text for name in COMMANDS)


def test_version_is_the_packages():
    assert call("--version").stdout == f"anthology-hub, version {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fly"], "No such command 'fly'"),
        (["search"], "Missing argument 'TEXT'"),
        (["search", "farm", "-k", "many"], "'many' is not a valid integer"),
        (["match", "--method", "magic"], "'magic' is not one of 'greedy', 'optimal', 'capacity', 'random'"),
        (["simulate", "x", "--conditioning", "silicon"], "'silicon' is not one of 'nothing', 'bio', 'anthology'"),
        (["simulate", "x", "--mode", "guess"], "'guess' is not one of 'letters', 'text'"),
        (["match", "--rounds", "few"], "'few' is not a valid integer"),
        (["evaluate", "x", "--weighting", "none"], "'none' is not one of 'weighted', 'paper'"),
        (["list", "cats"], "'cats' is not one of"),
        (["show", "x", "--colour"], "No such option"),
    ],
)
def test_wrong_usage_exits_with_2_and_says_what_is_allowed(arguments, message):
    done = call(*arguments, code=2)
    assert message in done.stderr and done.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["search", "farm", "--where", "region=Suoth"], "unknown level of region 'Suoth': did you mean 'South'?"),
        (["search", "farm", "--where", "regoin=South"], "'regoin': did you mean 'region'?"),
        (["search", "farm", "--where", "South"], "--where 'South' is not TRAIT=LEVEL, such as region=South"),
        (["search", "farm", "--where", "region="], "--where 'region=' is not TRAIT=LEVEL"),
        (["search", "farm", "-k", 0], "k must be at least 1, got 0"),
        (["search", "  "], "the search text is empty"),
        (["search", "farm", "--revision", "v1"], "leave out revision='v1'"),
        (["search", "farm", "--collection", "no/where/at/all"], "neither a folder nor a repository name"),
        (["match", "--humans", "gss-2081"], "'gss-2081': did you mean 'gss-2018'?"),
        (["match", "--humans", "no-such-file.parquet"], "no-such-file.parquet does not exist, or is no file"),
        (["match", "--humans", "gss-panel"], "reads a file of yours"),
        (["match", "--sample", 0], "cannot sample 0 respondents of 2348: allowed are 1 to 2348"),
        (["match", "--sample", 9999], "cannot sample 9999 respondents of 2348"),
        (["match", "--sample", 500], "is one-to-one and needs at least as many personas as respondents"),
        (["match", "--sample", 5, "--trait", "shoesize"], "'shoesize'"),
        (["match", "--sample", 5, "--rounds", 0], "rounds must be 1 or more, got 0"),
        (
            ["match", "--sample", 1, "--where", "party=Republican", "--trait", "party", "--possible-only"],
            "can have the levels of one of 1 respondents: match on fewer traits",
        ),
        (["simulate", "never", "--survey", "gss-national-spendin"], "did you mean 'gss-national-spending'?"),
        (["simulate", "never", "--sample", 2, "--question", "natenvy"], "'natenvy': did you mean 'natenvir'?"),
        (["simulate", "never", "--sample", 2, "--model", "scripted:last"], "unknown scripted model 'last'"),
        (["simulate", "never", "--sample", 2, "--model", "no-model"], "no model 'no-model': give a model folder"),
        (["simulate", "never", "--batch-size", 0], "tries and batch_size must be at least 1"),
        (["simulate", __file__, "--sample", 2, *UNIFORM_MODEL], "is a file: give a new folder"),
        (["evaluate", "no-run"], "no-run is no run folder: it has no run.json; give the folder of a run"),
        (["leaderboard", "no-board"], "no-board is neither a folder nor a repository name"),
        (["show", "zzzz"], "0 personas have an id that begins with 'zzzz': "),
        (["quickstart", "--respondents", 1], "the quickstart needs at least 2 respondents, got 1"),
    ],
)
def test_errors_are_one_line_with_exit_code_1(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = call(*arguments, code=1)
    assert done.stdout == "" or arguments[0] == "quickstart"
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_interrupting_exits_with_130_in_one_line_and_the_same_command_goes_on(tmp_path):
    arguments = ["quickstart", "--respondents", "2", "--out", str(tmp_path), *UNIFORM_MODEL]
    process = subprocess.Popen(
        [sys.executable, "-m", "anthology_hub", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1,
    )  # fmt: skip
    assert process.stdout.readline().startswith("1. Personas")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130
    assert errors.strip() == "interrupted: the same command goes on where it stopped, if it keeps a run folder"


# -- search and match


def test_search_gives_what_the_library_gives(starter):
    found = starter.where(region="South", age=["50-64", "65+"]).search("grew up on a farm", k=4)
    arguments = ["search", "grew up on a farm", "-k", 4, "--where", "region=South", "--where", "age=50-64|65+"]
    assert from_json(*arguments) == json.loads(json.dumps([persona.to_dict() for persona in found]))
    lines = call(*arguments).stdout.splitlines()
    assert len(lines) == 8
    for line, persona in zip(lines[::2], found, strict=True):
        assert line.split()[:2] == [f"{persona.score:.3f}", persona.persona_id]
        assert persona.traits["age"] in line and "South" in line
    assert " ".join(found[0].passage.split())[:100] in lines[1]


def test_search_says_when_fewer_fit_than_asked(starter):
    fit = starter.where(region="Northeast", age="65+", gender="Female")
    conditions = [w for c in ("region=Northeast", "age=65+", "gender=Female") for w in ("--where", c)]
    done = call("search", "farm", "-k", len(fit) + 3, *conditions)
    assert done.stderr == "3 fewer than asked: no more personas fit the conditions\n"
    assert len(done.stdout.splitlines()) == 2 * len(fit)


@pytest.mark.parametrize("method", ["greedy", "optimal", "random"])
def test_match_gives_what_the_library_gives(starter, gss, method):
    arguments = ["match", "--sample", 9, "--method", method, "--seed", 2, "--trait", "age", "--trait", "party"]
    cast = match(starter, gss.sample(9, seed=2), method=method, seed=2, traits=["age", "party"])
    shown = from_json(*arguments)
    assert shown["method"] == method and shown["traits"] == ["age", "party"]
    assert shown["diagnostics"] == dict(cast.diagnostics)
    assert shown["pairs"] == [
        {"respondent": role.respondent_id, "persona": role.persona.persona_id, "log_weight": role.log_weight}
        for role in cast.roles
    ]
    text = call(*arguments).stdout
    assert text.startswith(f"9 respondents of gss-2018, method {method}, on age, party\n")
    assert f"mean weight                  {cast.diagnostics['mean_weight']:.4g}\n" in text


def test_match_looks_only_at_personas_that_fit_the_conditions(starter):
    shown = from_json("match", "--sample", 9, "--method", "greedy", "--where", "gender=Female")
    assert {starter.get(pair["persona"]).traits["gender"] for pair in shown["pairs"]} == {"Female"}


@pytest.mark.parametrize("flags", [(), ("--rounds", 7)])
def test_match_of_possible_pairs_alone_is_the_librarys_and_says_how_many_have_no_role(starter, gss, flags):
    cast = match(starter, gss.sample(40, seed=0), impossible=False)
    shown, every = from_json("match", "--sample", 40, "--possible-only", *flags), from_json("match", "--sample", 40)
    assert [pair["respondent"] for pair in shown["pairs"]] == [role.respondent_id for role in cast.roles]
    assert shown["diagnosis"]["unmatched"] == shown["diagnostics"]["unmatched_respondents"] == 40 - len(cast) > 0
    assert shown["diagnostics"]["zero_weight_pairs"] == 0 < every["diagnostics"]["zero_weight_pairs"]


# -- simulate, evaluate, leaderboard


def test_simulate_gives_what_the_library_gives(run, starter, gss, tmp_path):
    folder, text = run
    survey = Survey.load("gss-national-spending").select(["natenvir", "nataid", "nateduc"])
    cast = match(starter, gss.sample(12, seed=3), method="optimal", seed=3)
    answers, loaded = simulate(cast, survey, open_model("scripted:uniform"), seed=3), load_run(folder)
    np.testing.assert_array_equal(answers.picks, loaded.picks)
    assert answers.provenance["run_id"] == loaded.provenance["run_id"]
    assert text.splitlines() == [
        f"36 answers in {folder}, run {answers.provenance['run_id']}",
        "  answered 100.0%, refused 0.0%, unparsable 0.0%, failed 0.0%",
        f"Next: anthology-hub evaluate {folder}",
    ]


def test_simulate_goes_on_where_it_was_and_refuses_another_run(run):
    folder, before = run[0], snapshot(run[0] / "answers")
    questions = [word for key in ("natenvir", "nataid", "nateduc") for word in ("--question", key)]
    same = ["simulate", folder, "--sample", 12, *questions, *UNIFORM_MODEL]
    shown = from_json(*same, "--seed", 3, "--batch-size", 5)
    assert shown == {
        "folder": str(folder),
        "run_id": load_run(folder).provenance["run_id"],
        "coverage": {"answered": 1.0, "refused": 0.0, "unparsable": 0.0, "failed": 0.0},
        "gaps": 0,
    }
    done = call(*same, "--seed", 4, code=1)
    assert done.stderr.startswith(f"error: {folder} belongs to another run; what differs: ")
    assert "seed (3 there, 4 now)" in done.stderr and done.stderr.count("\n") == 1
    assert snapshot(folder / "answers") == before


@pytest.mark.parametrize("conditioning", ["nothing", "bio"])
def test_simulate_without_backstories_casts_nobody_and_asks_the_respondents_own_survey(tmp_path, conditioning):
    from_json("simulate", tmp_path, "--sample", 2, "--conditioning", conditioning, "--mode", "text", *UNIFORM_MODEL)
    answers = load_run(tmp_path)
    assert answers.persona_ids == ("", "") and answers.survey == Survey.load("gss-national-spending")
    inputs = answers.provenance["inputs"]
    assert inputs["cast"]["method"] == "none" and inputs["options"]["mode"] == "text"


@pytest.mark.parametrize(
    ("more", "options", "cast_only"),
    [
        ([], EvaluateOptions(), False),
        (["--reference", "cast", "--weighting", "paper"], EvaluateOptions(weighting="paper"), True),
        (["--humans", "gss-2018"], EvaluateOptions(), False),
    ],
)
def test_evaluate_gives_what_the_library_gives(run, gss, more, options, cast_only):
    answers = load_run(run[0])
    humans = gss.take([gss.ids.index(i) for i in answers.respondent_ids]) if cast_only else gss
    result = evaluate(answers, humans, options=options)
    assert from_json("evaluate", run[0], *more) == json.loads(json.dumps(result.to_dict()))
    text = call("evaluate", run[0], *more).stdout
    wd = result.metric("wd_normalised")
    assert f"12 simulated people against {len(humans)} humans" in text
    (line,) = [line for line in text.splitlines() if line.startswith("WD normalised")]
    company = [wd.floor, wd.floor_equal_n, wd.uniform, wd.majority, wd.margins, wd.cells]
    told = line.replace("[", " ").replace("]", " ").replace(",", " ").split()[2:]
    # An equal-n floor that no figure has is no column.
    kept = [figure for figure in (wd.value, wd.low, wd.high, *company) if figure is not None]
    assert told == [*(f"{figure:.3f}" for figure in kept), "-", f"{wd.attained:.0%}"]
    (alpha,) = [line for line in text.splitlines() if line.startswith("Alpha ")]
    assert alpha.split()[-2:] == [f"{result.metric('alpha').human:.3f}", f"{result.metric('alpha').attained:.0%}"]
    assert "coverage: answered 100.0%, refused 0.0%" in text
    assert all(f"note: {note}" in text for note in result.notes)


def test_evaluate_says_why_a_figure_is_undefined(tmp_path):
    call("simulate", tmp_path, "--sample", 5, "--conditioning", "bio", "--question", "natsci", *UNIFORM_MODEL)
    text = call("evaluate", tmp_path).stdout
    assert "Undefined: fewer than two questions have options with an order." in text


def test_evaluate_publishes_and_reports_and_the_leaderboard_ranks_it(run, tmp_path):
    board, page = tmp_path / "results", tmp_path / "report"
    text = call("evaluate", run[0], "--publish", board, "--report", page).stdout
    assert f"Report: {page / 'report.html'}" in text and (page / "report.html").is_file()
    from_json("evaluate", run[0], "--publish", board)
    rows = rank(read_board(board).entries)
    assert from_json("leaderboard", board) == [asdict(row) for row in rows]
    assert len(list(board.rglob("*.json"))) == len(list(board.rglob("*.parquet"))) == 1
    lines = call("leaderboard", board).stdout.splitlines()
    assert lines[0].startswith("gss-national-spending, 3 questions (") and "people of gss-2018 (" in lines[0]
    assert lines[6].startswith("#: place in the group")
    for line, row in zip(lines[2:6], rows, strict=True):
        place, method = ("1" if row.rank else "-"), row.method
        assert line.split()[0] == place and method in line and f"{row.wd_normalised:.3f}" in line
        assert row.rank is None or "scripted/uniform" in line and line.endswith(row.date[:10])


def test_evaluate_asks_for_the_file_of_a_run_whose_respondents_came_from_one(gss, spending, tmp_path):
    cast = unmatched(replace(gss.sample(3), name="gss-2016-panel"))
    simulate(cast, spending, open_model("scripted:first"), options=SimulateOptions(conditioning="bio"), folder=tmp_path)
    done = call("evaluate", tmp_path, code=1)
    assert done.stderr == (
        f"error: the respondents 'gss-2016-panel' of {tmp_path} came from a file: give it with --humans and --wave\n"
    )


def test_evaluate_names_a_respondent_that_the_humans_do_not_have(run):
    done = call("evaluate", run[0], "--humans", "bfi", "--reference", "cast", code=1)
    assert "bfi has no respondent '" in done.stderr
    assert "the run stands in for gss-2018, give that as --humans" in done.stderr


def test_a_file_of_ones_own_serves_for_every_command(gss_panel_file, tmp_path):
    humans = ["--humans", gss_panel_file, "--wave", 2016]
    run = tmp_path / "run"
    call("simulate", run, "--sample", 6, *humans, "--conditioning", "bio", *UNIFORM_MODEL)
    assert load_run(run).survey.name == "gss-gov-responsibility"
    assert from_json("evaluate", run, *humans)["n"] == 6
    assert from_json("match", "--sample", 4, *humans)["method"] == "optimal"
    done = call("match", "--humans", gss_panel_file, code=1)
    assert "has the waves [" in done.stderr


# -- list and show


def test_list_shows_everything_that_comes_along():
    shown = from_json("list")
    assert set(shown) == {"surveys", "humans", "codebooks", "crosswalks", "pools", "models"}
    assert {"local:smollm2", "scripted:uniform", "scripted:first"} <= set(shown["models"])
    for kind, entries in shown.items():
        assert from_json("list", kind) == {kind: entries}
        text = call("list", kind).stdout.splitlines()
        assert text[0] == kind and [line.split()[0] for line in text[1:]] == list(entries)


@pytest.mark.parametrize("kind", ["surveys", "codebooks", "models"])
def test_what_is_listed_opens(kind):
    for name in from_json("list", kind)[kind]:
        if kind == "models":
            assert name.startswith("local:") or open_model(name).card.model == name.partition(":")[2]
        else:
            assert from_json("show", name)["name"] == name


def test_show_of_a_survey_and_a_codebook_is_their_json_form():
    assert from_json("show", "bfi") == json.loads(json.dumps(Survey.load("bfi").to_dict()))
    assert from_json("show", "starter") == json.loads(json.dumps(Codebook.load("starter").to_dict()))
    text = call("show", "gss-national-spending").stdout
    assert "National spending priorities" in text and "key: natenvir" in text
    assert "18 to 29" in call("show", "starter").stdout or "18-29" in call("show", "starter").stdout


def test_show_of_a_persona_takes_the_first_digits_of_its_id(starter):
    persona = starter[7]
    shown = from_json("show", persona.persona_id[:10])
    assert shown == json.loads(
        json.dumps({**persona.to_dict(), "annotations": starter.annotations_of(persona.persona_id)})
    )
    text = call("show", persona.persona_id[:10]).stdout
    assert text.startswith(f"{persona.persona_id}\n\n{persona.backstory}\n\n")
    for annotation in shown["annotations"]:
        best = annotation["levels"][int(np.argmax(annotation["probs"]))]
        assert any(annotation["trait"] in line and best in line for line in text.splitlines())


def test_show_of_a_persona_looks_among_those_that_fit(starter):
    persona = starter.where(region="South")[0]
    assert from_json("show", persona.persona_id, "--where", "region=South")["persona_id"] == persona.persona_id
    done = call("show", persona.persona_id, "--where", "region=West", code=1)
    assert done.stderr.startswith("error: 0 personas have an id that begins with")


def test_show_of_a_run_folder_sums_it_up(run):
    shown, answers = from_json("show", run[0]), load_run(run[0])
    assert shown["run_id"] == answers.provenance["run_id"] and shown["coverage"] == answers.coverage
    assert shown["seed"] == 3 and shown["model"]["model"] == "uniform" and shown["cast"]["n"] == 12
    text = call("show", run[0]).stdout
    assert f"run_id               {answers.provenance['run_id']}\n" in text
    assert "  questions            natenvir, nataid, nateduc\n" in text


def test_show_of_a_run_folder_says_in_words_what_the_matching_tells_of_itself(run):
    told = " ".join(in_words(load_run(run[0]).provenance["inputs"]["matching"]))
    assert "have weight zero: the persona cannot have some level of its respondent." in told
    assert from_json("show", run[0])["matching_notes"] == told
    assert f"matching_notes       {told}\n" in call("show", run[0]).stdout


def test_show_of_a_broken_run_is_one_line(run, tmp_path):
    (tmp_path / "run.json").write_text("{")
    done = call("show", tmp_path, code=1)
    assert done.stderr.startswith(f"error: {tmp_path}/run.json cannot be read as JSON") and done.stderr.count("\n") == 1


@pytest.mark.slow
def test_the_examples_of_the_help_pages_run_one_after_the_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("search", "match", "simulate", "evaluate", "list", "show"):
        (example,) = [line for line in main.commands[name].help.split("\n    ") if line.startswith("Example: ")]
        program, *arguments = shlex.split(example.removeprefix("Example: "))
        assert program == "anthology-hub" and arguments[0] == name
        done = call(*arguments, *(UNIFORM_MODEL if name == "simulate" else ()))
        assert len(done.stdout) > 40


# -- quickstart


@pytest.mark.slow
def test_quickstart_run_again_asks_nothing_and_gives_the_same_leaderboard(tmp_path, monkeypatch):
    arguments = ["quickstart", "--out", tmp_path / "q", "--respondents", 4, *UNIFORM_MODEL]
    text = call(*arguments).stdout
    before = snapshot(tmp_path / "q")
    again = from_json(*arguments)
    with running(tmp_path / "q" / "hub") as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_TOKEN", again["token"])
        rows = rank(read_board("hf://lab/anthology-results").entries)
        people = Anthology.load("lab/anthology-starter", revision="v1.1.0")
        commits = {
            repo: len(HfApi(endpoint=server.url).list_repo_commits(repo, repo_type="dataset"))
            for repo in ("lab/anthology-starter", "lab/anthology-results")
        }
    assert again["rows"] == [asdict(row) for row in rows]
    assert again["verdict"] == verdict(rows) and again["verdict"] in text
    # The second walk published nothing again: the first commit, the release; the first commit, four runs, the table.
    assert commits == {"lab/anthology-starter": 2, "lab/anthology-results": 6}
    assert {row.origin for row in rows if row.rank and row.method.startswith("anthology")} == {people.origin}
    assert "gives 320 rows" in text
    after = snapshot(tmp_path / "q")
    runs = {name for name in before if name.startswith("runs/")}
    assert runs == {name for name in after if name.startswith("runs/")}
    grown = {name for name in after if name.endswith("events.jsonl")}
    same = {name for name in after if name.startswith("runs/")} - grown
    assert {name: after[name] for name in same} == {name: before[name] for name in same}
    for name in grown:
        added = after[name].removeprefix(before[name]).decode().splitlines()
        assert [json.loads(line)["event"] for line in added] == ["continued", "finished"]
    assert {row.method for row in rows if row.rank} == {"nothing", "bio", "anthology/greedy", "anthology/optimal"}
    assert {row.method for row in rows if not row.rank} == {HUMANS, UNIFORM, MAJORITY}
    assert all(row.n == 4 and row.coverage == 1 for row in rows if row.rank)
    for step in ("1. Personas", "2. Search", "3. Matching", "4. Simulation", "5. Leaderboard"):
        assert f"\n{step}" in f"\n{text}"
    assert WARNING in text
    for name in ("nothing", "bio", "anthology-greedy", "anthology-optimal"):
        assert load_run(tmp_path / "q" / "runs" / name).survey.keys == ITEMS
        assert (tmp_path / "q" / "reports" / name / "report.html").is_file()
        assert f"{tmp_path}/q/reports/{name}/report.html" in text


@pytest.mark.slow
def test_quickstart_with_more_people_than_personas_leaves_one_to_one_out(starter, tmp_path):
    walk = quickstart(tmp_path, respondents=len(starter) + 1, items=("natenvir", "natsci"), model="scripted:first")
    assert {row.method for row in walk.rows if row.rank} == {"nothing", "bio", "anthology/greedy"}
    assert len(walk.reports) == 3 and walk.folder == tmp_path


def test_quickstart_needs_two_people(tmp_path):
    with pytest.raises(OptionError, match="needs at least 2 respondents, got 1"):
        quickstart(tmp_path / "q", respondents=1)
    assert not (tmp_path / "q").exists()


def row(method, wd, low=None, high=None, place=None):
    values = dict.fromkeys((field for field in Row.__dataclass_fields__), None)
    given = {"rank": place, "survey": "s", "method": method, "model": "", "wd_normalised": wd, "low": low, "high": high}
    return Row(**{**values, **given, "run_id": "", "tied": False})


REFERENCES = [row(HUMANS, 0.05), row(UNIFORM, 0.2), row(MAJORITY, 0.4)]


def test_verdict_without_runs_judges_nothing():
    assert verdict(REFERENCES) == verdict([]) == "There is no run to judge."


def test_a_method_beats_a_baseline_only_with_its_whole_interval():
    rows = [row("a", 0.10, 0.05, 0.19, 1), row("b", 0.25, 0.21, 0.40, 2), row("c", 0.3, 0.22, 0.39, 3), *REFERENCES]
    assert verdict(rows) == (
        "Nearest to the humans: a (normalised WD 0.100). Real people would score 0.050. Against the baselines: "
        "a clearly beats the uniform baseline; a, c clearly beats the majority baseline."
    )


def test_a_lead_within_the_intervals_is_called_no_finding():
    said = verdict([row("a", 0.3, 0.1, 0.5, 1), row("b", 0.31, 0.2, 0.6, 2), row("c", 0.9, 0.8, 1.0, 3)])
    assert said == (
        "Nearest to the humans: a (normalised WD 0.300). Against the baselines: no method clearly beats the uniform "
        "baseline; no method clearly beats the majority baseline. The lead is no finding: "
        "the intervals of b overlap it."
    )


def test_a_reader_who_has_seen_enough_ends_a_command_without_an_error():
    command = [sys.executable, "-m", "anthology_hub", "list"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        child.stdout.close()
        assert child.stderr.read() == ""
