"""`anthology-hub interview`: questions from options, a file, a pipe and a terminal."""

import json
import os
import pty
import subprocess
import sys

import pytest
from click.testing import CliRunner

from anthology_hub import cli_interviewing
from anthology_hub.cli_interviewing import interview_command
from anthology_hub.errors import DataError, EmptyError, OptionError, RunError
from anthology_hub.models.scripted import ScriptedModel

TELLER = ("--model", "scripted:uniform")


@pytest.fixture
def persona_id(starter):
    return starter.ids[3]


@pytest.fixture
def cli(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def call(*arguments, typed=None):
        done = CliRunner().invoke(interview_command, list(arguments), input=typed, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    return call


def talker(monkeypatch, reply):
    model = ScriptedModel("first", replies=reply)
    monkeypatch.setattr(cli_interviewing, "opened", lambda _: model)
    return model


def test_questions_of_options_and_a_guide_are_asked_and_printed(cli, persona_id, tmp_path, monkeypatch):
    model = talker(monkeypatch, lambda prompt, _: f"Line {len(prompt.turns)}.\n\x1b[31mMore. ")
    (tmp_path / "guide.txt").write_text("Why?\n\nAnd now?\n")
    shown = cli(persona_id[:8], "--question", "Where?", "--guide", "guide.txt")
    assert shown.splitlines() == [
        *("Question: Where?", "Answer: Line 0.", "[31mMore.", ""),
        *("Question: Why?", "Answer: Line 1.", "[31mMore.", ""),
        *("Question: And now?", "Answer: Line 2.", "[31mMore.", ""),
    ]
    assert model.asked == 3


def test_piped_lines_are_questions_and_blank_ones_are_not(cli, persona_id):
    shown = cli(persona_id, *TELLER, typed="Where?\n\n  \nWhy?\n")
    assert [line for line in shown.splitlines() if line.startswith("Question: ")] == [
        "Question: Where?",
        "Question: Why?",
    ]
    assert shown.count("Answer: (") == 2


def test_json_tells_who_what_and_where_it_is_kept(cli, persona_id, starter, tmp_path):
    told = json.loads(cli(persona_id, *TELLER, "--question", "Where?", "--out", "talk.json", "--json"))
    assert told["persona_id"] == persona_id and told["model"] == "uniform" and told["file"] == "talk.json"
    (turn,) = told["turns"]
    assert turn["question"] == "Where?" and turn["status"] == "answered" and turn["answer"].startswith("(")
    kept = json.loads((tmp_path / "talk.json").read_text())
    assert kept["persona"]["backstory"] == starter.get(persona_id).backstory
    assert kept["turns"][0]["question"] == "Where?"


def test_other_forms_are_printed_at_the_end(cli, persona_id, monkeypatch):
    talker(monkeypatch, lambda *_: "")
    assert cli(persona_id, "--question", "Where?", "--form", "markdown") == "**Where?**\n\n(no answer)\n"
    assert json.loads(cli(persona_id, "--question", "Where?", "--form", "json"))["turns"][0]["status"] == "failed"


def test_a_search_finds_whom_to_interview(cli, starter, encoder):
    told = json.loads(cli("--search", "grew up on a farm", *TELLER, "--question", "Where?", "--json"))
    assert told["persona_id"] == starter.search("grew up on a farm", k=1, encoder=encoder)[0].persona_id
    told = json.loads(
        cli("--search", "grew up on a farm", "--where", "region=West", *TELLER, "--question", "Where?", "--json")
    )
    assert starter.get(told["persona_id"]).traits["region"] == "West"


def test_options_reach_the_model(cli, persona_id, monkeypatch):
    seen = []

    class Listener(ScriptedModel):
        def complete(self, prompts, sampling, *, seeds):
            seen.append((prompts[0], sampling))
            return super().complete(prompts, sampling, seeds=seeds)

    monkeypatch.setattr(cli_interviewing, "opened", lambda _: Listener("first", replies=lambda *_: ""))
    cli(
        *(persona_id, "--question", "Where?", "--grounding", "It is 2021.", "--tries", "2"),
        *("--max-tokens", "7", "--temperature", "0.5"),
    )
    assert len(seen) == 2 and (seen[0][1].max_tokens, seen[0][1].temperature) == (7, 0.5)
    assert seen[0][0].question.startswith("It is 2021.\n")


def test_an_interrupted_interview_is_kept_and_the_same_command_goes_on(cli, persona_id, tmp_path, monkeypatch):
    (tmp_path / "guide.txt").write_text("Where?\nWhy?\nAnd now?\n")
    command = (persona_id, "--guide", "guide.txt", "--out", "talk.json")
    said = talker(monkeypatch, lambda prompt, seed: f"{len(prompt.turns)} {seed}")
    cli(*command[:-1], "whole.json")
    assert said.asked == 3
    left = iter(range(2))
    talker(monkeypatch, lambda prompt, seed: f"{len(prompt.turns)} {seed}" if next(left, None) is not None else stop())
    done = CliRunner().invoke(interview_command, list(command))
    assert done.exit_code == 1 and "2 answered; what was said is in talk.json, the same command goes on" in done.stderr
    rest = talker(monkeypatch, lambda prompt, seed: f"{len(prompt.turns)} {seed}")
    assert cli(*command).splitlines()[0] == "Question: And now?" and rest.asked == 1
    assert (tmp_path / "talk.json").read_bytes() == (tmp_path / "whole.json").read_bytes()
    assert cli(*command) == json_transcript(tmp_path) and rest.asked == 1
    cli(persona_id, "--question", "More?", "--out", "talk.json")
    asked = [turn["question"] for turn in json.loads((tmp_path / "talk.json").read_text())["turns"]]
    assert asked == ["Where?", "Why?", "And now?", "More?"]


def json_transcript(folder):
    turns = json.loads((folder / "talk.json").read_text())["turns"]
    return "\n\n".join(f"Question: {turn['question']}\nAnswer: {turn['answer']}" for turn in turns) + "\n"


def stop():
    raise KeyboardInterrupt


def test_without_a_file_the_interrupt_says_how_to_keep_it(persona_id, monkeypatch):
    talker(monkeypatch, lambda *_: stop())
    done = CliRunner().invoke(interview_command, [persona_id, "--question", "Where?"])
    assert "0 answered; give --out FILE to keep what is said" in done.stderr


def test_a_file_of_another_interview_is_refused(cli, persona_id):
    cli(persona_id, *TELLER, "--question", "Where?", "--out", "talk.json")
    with pytest.raises(RunError, match="talk.json holds another interview; what differs: seed. Give a new file"):
        cli(persona_id, *TELLER, "--question", "Where?", "--out", "talk.json", "--seed", "1")


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ([], OptionError, "whom to interview: give the id of a PERSONA"),
        (["ab", "--search", "farm"], OptionError, "whom to interview"),
        (["zz", "--question", "Where?"], DataError, "0 personas have an id that begins with 'zz'"),
        (["{id}", "--question", " "], OptionError, "question 1 is empty, ' ': ask something"),
        (["{id}"], EmptyError, "nothing was asked: give --question or --guide, or type questions"),
        (["{id}", "--question", "Where?", "--window", "100"], OptionError, "is more than the model's 100"),
    ],
)
def test_wrong_use_is_told(cli, persona_id, arguments, error, said):
    with pytest.raises(error) as caught:
        cli(*(argument.format(id=persona_id) for argument in arguments), *TELLER, typed="")
    assert said in str(caught.value)


def test_at_a_terminal_questions_are_asked_for_until_an_empty_line(persona_id):
    main, there = pty.openpty()
    code = "from anthology_hub.cli_interviewing import interview_command as command; command()"
    call = [sys.executable, "-c", code, persona_id, *TELLER]
    os.write(main, b"Where?\nWhy?\n\nNot asked?\n")
    done = subprocess.run(call, stdin=there, capture_output=True, text=True, check=True, timeout=60)
    os.close(main)
    os.close(there)
    # What is typed stands on the screen already, so it is not printed again.
    assert done.stderr == "Question: " * 3 and "Question: " not in done.stdout
    assert done.stdout.count("Answer: (") == 2


def test_at_a_terminal_the_end_of_input_ends_it_too(cli, persona_id, monkeypatch):
    monkeypatch.setattr(cli_interviewing, "_at_terminal", lambda: True)
    assert cli(persona_id, *TELLER, typed="Where?\n").count("Answer: (") == 1
    assert cli(persona_id, *TELLER, typed="Where?\n\nWhy?\n").count("Answer: (") == 1


def test_a_search_among_nobody_is_told(cli):
    nobody = ("--where", "age=65+", "--where", "work=In school")
    with pytest.raises(EmptyError, match="none of .* personas fits all conditions"):
        cli("--search", "farm", *nobody, *TELLER, "--question", "Where?")
