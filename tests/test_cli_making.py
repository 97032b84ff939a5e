"""`anthology-hub generate`: from options to a run folder and a collection in it."""

import json

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from anthology_hub import Anthology, cli_making
from anthology_hub.cli import main
from anthology_hub.cli_making import generate_command
from anthology_hub.errors import AnthologyError, EmptyError
from anthology_hub.models.scripted import ScriptedModel

WORDS = ["barn", "river", "choir", "nurse", "winter", "bread", "violin", "mountain", "letter", "garden", "uncle"]


def tale(prompt, seed):
    if "citizen" in prompt.question:
        return "Yes." if seed % 2 else "No."
    return f"I am {seed}, and I like the {WORDS[seed % len(WORDS)]}." + (" [city]" if seed % 3 == 0 else "")


@pytest.fixture
def models(monkeypatch):
    """Every model that is opened is a scripted writer; the list holds them by name."""
    opened = {}

    def open_model(name):
        opened[name] = ScriptedModel(lambda *_: [0, 1], replies=tale)
        return opened[name]

    monkeypatch.setattr(cli_making, "opened", open_model)
    return opened


@pytest.fixture
def cli(tmp_path, monkeypatch, models):
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        done = CliRunner().invoke(generate_command, list(arguments), catch_exceptions=True)
        if isinstance(done.exception, AnthologyError):
            raise done.exception
        assert done.exit_code == 0, done.output
        return done.stdout

    return call


CHECKS = ("--check", "placeholders", "--check", "words:least=5")


def test_stories_are_generated_into_a_folder_with_a_collection(cli, tmp_path):
    shown = cli("new", "-n", "6", *CHECKS, "--name", "bakers", "--licence", "CC0-1.0")
    people = Anthology.load(tmp_path / "new" / "collection")
    assert len(people) == 6 and people.identity.startswith("bakers@0.1.0#")
    rejected = pq.read_table(tmp_path / "new" / "rejected.parquet").num_rows
    lines = shown.splitlines()
    assert lines[0] == "6 of 6 stories kept, 0 given up"
    assert lines[1] == f"{6 + rejected} drafts: 6 accepted ({6 / (6 + rejected):.1%})"
    assert f"rejected by placeholders {rejected:18} " in lines[2] and "variant detailed" in shown
    assert "every draft: new; what was rejected, and why: new/rejected.parquet; report: new/report.json" in shown
    assert lines[-1].endswith("6 of 6 personas> in new/collection")


def test_the_same_command_goes_on_and_asks_nothing_twice(cli, models):
    first = cli("new", "-n", "4", *CHECKS)
    again = cli("new", "-n", "4", *CHECKS)
    assert models["local:smollm2"].asked == 0 and again.splitlines()[:4] == first.splitlines()[:4]


def test_a_dry_run_asks_nothing_and_tells_tokens_and_cost(cli, models, tmp_path):
    shown = cli("new", "-n", "10", "--dry-run", "--price-in", "5", "--price-out", "10", "--acceptance", "0.5", *CHECKS)
    assert models["local:smollm2"].asked == 0 and not (tmp_path / "new").exists()
    assert shown.splitlines()[0] == "10 stories, if 50% of the drafts are accepted: 30 calls"
    told = json.loads(cli("new", "-n", "10", "--dry-run", "--json", "--price-out", "10", "--critic", "other:judge"))
    assert told["reply_tokens"] == 10 * 100 + 10 * 1500 and told["critic_calls"] == 60
    assert told["cost"] == pytest.approx((16_000 + 60) * 10 / 1e6)
    assert shown.splitlines()[-1] == f"cost: {_cost(shown):,.2f}"


def _cost(shown):
    prompts, replies = (int(word.replace(",", "")) for word in shown.splitlines()[1].split() if word[0].isdigit())
    assert replies == 10 * 100 + 20 * 1500
    return (prompts * 5 + replies * 10) / 1e6


def test_json_tells_the_report_and_the_places(cli):
    told = json.loads(cli("new", "-n", "3", *CHECKS, "--price-in", "1000", "--json"))
    assert (told["kept"], told["run"], told["collection"]) == (3, "new", "new/collection")
    assert told["tried"] == told["accepted"] + sum(told["rejected"].values())
    assert told["cost"] == pytest.approx(told["prompt_tokens"] / 1000)


def test_new_stories_are_appended_to_a_collection_as_its_next_release(cli, tmp_path, starter):
    starter.sample(12).save(tmp_path / "old", release="1.0.0")
    cli("new", "-n", "2", *CHECKS, "--collection", "old", "--append")
    new = Anthology.load(tmp_path / "new" / "collection")
    assert new.identity.startswith("anthology-starter@1.1.0#") and len(new) == 14
    assert "2 personas added" in (tmp_path / "new" / "collection" / "CHANGELOG.md").read_text()


def test_primed_stories_follow_a_table(cli, tmp_path):
    (tmp_path / "q.csv").write_text("region,count\nSouth,2\nWest,1\n")
    cli("new", "--style", "primed", "--quota", "q.csv", "--primer", "qa", *CHECKS)
    rows = Anthology.load(tmp_path / "new" / "collection").to_dataset()["generation"]
    assert [json.loads(row)["primed"]["region"] for row in rows] == ["South", "South", "West"]


def test_primed_stories_without_a_table_are_of_the_codebooks_population(cli, tmp_path):
    cli("new", "--style", "primed", "-n", "8", "--codebook", "starter", *CHECKS)
    rows = Anthology.load(tmp_path / "new" / "collection").to_dataset()["generation"]
    regions = [json.loads(row)["primed"]["region"] for row in rows]
    assert regions.count("South") == 3 and regions.count("Northeast") == 1


def test_an_interview_asks_the_questions_of_a_file(cli, tmp_path):
    (tmp_path / "q.txt").write_text("Who are you?\nWhat now?\n")
    cli("new", "--style", "interview", "--questions", "q.txt", "-n", "1", "--max-tokens", "30", *CHECKS)
    story = Anthology.load(tmp_path / "new" / "collection")[0].backstory
    assert (
        story.startswith("Question: Who are you?\n\nAnswer: I am ") and "\n\nQuestion: What now?\n\nAnswer: " in story
    )
    inputs = json.loads((tmp_path / "new" / "run.json").read_text())["inputs"]
    assert inputs["options"]["sampling"]["max_tokens"] == 30


def test_the_critic_may_be_the_writer_or_another(cli, models):
    cli("new", "-n", "1", *CHECKS, "--critic", "local:smollm2")
    assert list(models) == ["local:smollm2"]
    cli("newer", "-n", "1", *CHECKS, "--critic", "other:judge")
    assert models["other:judge"].asked == 6


def test_nothing_kept_is_an_error_that_says_where_the_reasons_are(cli, tmp_path):
    for more in ((), ("--json",)):
        with pytest.raises(EmptyError, match=r"no story of 2 was kept: see new.rejected\.parquet, and give another"):
            cli("new", "-n", "2", "--check", "paper", "--tries", "2", "--no-preamble", *more)
    assert pq.read_table(tmp_path / "new" / "rejected.parquet").num_rows == 4
    told = json.loads((tmp_path / "new" / "report.json").read_text())
    assert (told["kept"], told["rejected"]) == (0, {"words": 4})


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["new"], "style 'natural' needs -n"),
        (["new", "-n", "0"], "-n must be at least 1, got 0"),
        (["new", "-n", "2", "--quota", "q.csv"], "--quota goes with --style primed"),
        (["new", "--style", "primed"], "needs -n or --quota"),
        (["new", "-n", "2", "--style", "primed"], "the codebook 'anthology' has no population shares"),
        (["new", "-n", "2", "--append"], "--append needs --collection"),
        (["new", "-n", "2", "--check", "word"], "unknown check 'word': did you mean 'words'?"),
        (["new", "-n", "2", "--check", "word", "--dry-run"], "unknown check 'word': did you mean 'words'?"),
        (["new", "-n", "2", "--release", "first"], "the release must be 'major.minor.patch' as '1.0.0', got 'first'"),
        (["new", "-n", "2", "--name", " "], "a collection needs a name and a licence, got ' ' and 'other'"),
        (
            ["new", "-n", "2", "--collection", "starter", "--append", "--release", "1.1.7"],
            "1.1.7 does not follow 1.1.0: give 1.2.0 or higher",
        ),
        (
            ["new", "-n", "2", "--collection", "starter", "--append", "--codebook", "anthology"],
            "--append keeps the traits of the collection: leave out --codebook",
        ),
        (["new", "-n", "2", "--effective", "2"], "--target and --effective go with --style primed and -n"),
        (["new", "--style", "primed", "--effective", "2"], "--target and --effective go with --style primed and -n"),
        (
            ["new", "--style", "primed", "-n", "9", "--effective", "2", "--collection", "starter"],
            "--effective makes a pool of its own",
        ),
        (["new", "--style", "primed", "-n", "9", "--effective", "20"], "--effective must be between 1 and -n"),
        (["new", "--style", "primed", "-n", "9", "--target", "no.json"], "no.json"),
        (["new", "--style", "primed", "-n", "9", "--target", "bad.json"], "give the share of each level"),
        (["new", "-n", "2", "--price-in", "-1"], "prices for a million tokens must be 0 or more, got -1 and 0"),
    ],
)
def test_wrong_options_are_told_before_anything_is_asked(cli, models, arguments, said, tmp_path):
    (tmp_path / "bad.json").write_text('{"region": ["South"]}')
    with pytest.raises(AnthologyError) as caught:
        cli(*arguments)
    assert said in str(caught.value)
    assert sum(model.asked for model in models.values()) == 0


def test_rounds_go_on_until_the_pool_has_the_effective_size_that_is_wanted(cli, models, tmp_path):
    (tmp_path / "target.json").write_text(json.dumps({"region": {"South": 0.75, "West": 0.25}}))
    steering = ("--style", "primed", "--target", "target.json", "--effective", "60", "-n", "400", *CHECKS)
    told = json.loads(cli("new", *steering, "--json"))
    people = Anthology.load(tmp_path / "new" / "collection")
    assert told["reached"] and len(told["rounds"]) == 2 and told["rounds"][-1]["n_effective"] >= 60
    assert told["kept"] == len(people) == told["rounds"][-1]["pool"] <= 100
    assert sum(told["rejected"].values()) + told["accepted"] == told["tried"]
    asked = models["local:smollm2"].asked
    shown = cli("new", *steering)
    assert models["local:smollm2"].asked == 0 < asked and "target reached" in shown
    assert "what was rejected, and why: new/round-*/rejected.parquet" in shown


def test_a_target_gives_the_quota_of_primed_stories(cli, tmp_path):
    (tmp_path / "target.json").write_text(json.dumps({"region": {"South": 0.75, "West": 0.25}}))
    cli("new", "--style", "primed", "--target", "target.json", "-n", "8", *CHECKS)
    made = Anthology.load(tmp_path / "new" / "collection").to_dataset()["generation"]
    primed = [json.loads(row)["primed"] for row in made]
    assert sorted(row["region"] for row in primed) == ["South"] * 6 + ["West"] * 2


@pytest.mark.slow
def test_the_embedded_model_writes_twenty_stories_that_are_then_annotated_and_judged(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        done = CliRunner().invoke(main, list(arguments), catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    short = ("--no-preamble", "--max-tokens", "20", "--check", "words:least=5", "--batch-size", "20")
    told = json.loads(call("generate", "new", "--model", "local:smollm2", "-n", "20", *short, "--json"))
    assert told["kept"] + told["given_up"] == 20 and told["kept"] >= 15
    people = Anthology.load(tmp_path / "new" / "collection")
    assert len(people) == told["kept"]
    assert set(people.to_dataset()["generator"][:]) == {"HuggingFaceTB/SmolLM2-135M-Instruct-Q4_1"}
    asked = ("--collection", "new/collection", "--model", "local:smollm2", "--method", "logprob", "--trait", "gender")
    call("annotate", "judged", *asked)
    probs = Anthology.load(tmp_path / "judged").distribution("gender")
    assert probs.shape == (told["kept"], 3) and probs.sum(axis=1) == pytest.approx(1, abs=1e-5)
