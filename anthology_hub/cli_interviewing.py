"""`anthology-hub interview`: ask a persona questions of one's own, and keep what it says."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from anthology_hub.cli_models import model_options, opened
from anthology_hub.console import json_option, load_people, one_line, people_options, print_json, seed_option
from anthology_hub.errors import EmptyError, OptionError, RunError
from anthology_hub.interviews import FORMS, SAMPLING, Interview
from anthology_hub.quickstart import MODEL
from anthology_hub.schema import Persona, read_json
from anthology_hub.styles import read_questions

FILE = click.Path(path_type=Path)


@click.command("interview")
@click.argument("persona", required=False)
@click.option("--search", "text", help="Interview the best hit of this search instead.")
@people_options
@click.option("--model", default=MODEL, show_default=True, help="Who speaks.")
@model_options
@click.option("--question", "questions", multiple=True, help="Ask this; read from the terminal, if none is given.")
@click.option("--guide", type=FILE, help="Ask the questions of this file: one in each line, or JSON.")
@click.option("--grounding", default="", help="A line that says when it is, as 'It is July 2021.'")
@click.option("--conditioning", type=click.Choice(["anthology", "interview"]), default="anthology", show_default=True,
              help="The backstory as text, or as the turns of an interview.")  # fmt: skip
@click.option("--out", type=FILE, help="Keep the interview in this JSON file, and go on with the one that is there.")
@click.option("--form", type=click.Choice(FORMS), default="text", show_default=True, help="How it is printed.")
@click.option("--max-tokens", default=SAMPLING.max_tokens, show_default=True, help="Most tokens of an answer.")
@click.option("--temperature", default=SAMPLING.temperature, show_default=True, help="0: always the likeliest words.")
@click.option("--tries", default=1, show_default=True, help="Most replies to a question until one is an answer.")
@click.option("--window", type=int, help="Most tokens of a whole interview; the model's own, if it tells.")
@seed_option
@json_option
def interview_command(
    persona: str | None,
    text: str | None,
    collection: str,
    revision: str | None,
    conditions: tuple[str, ...],
    questions: tuple[str, ...],
    guide: Path | None,
    out: Path | None,
    form: str,
    as_json: bool,
    **given: Any,  # noqa: ANN401 - click hands over what the options are
) -> None:
    """Interview PERSONA, an id or the first digits of one; ends with an empty line or the end of input.

    Example: anthology-hub interview --search "grew up on a farm" --question "What do you miss most?"
    """
    if (persona is None) == (text is None):
        raise OptionError("whom to interview: give the id of a PERSONA (its first digits do), or --search TEXT")
    fixed = [*questions, *(read_questions(guide) if guide else ())]
    people = load_people(collection, revision, conditions)
    who = people.get(persona) if persona is not None else people.search(str(text), k=1)[0]
    talk = _begun(who, given, out)
    asked = _converse(talk, fixed, out, quiet=as_json or form != "text")
    if as_json:
        print_json({**_told(talk), "file": out and str(out)})
    elif form != "text" or not asked:
        # Where all was asked by an earlier call, that is what there is to show.
        click.echo(talk.transcript(form))


def _begun(who: Persona, given: dict[str, Any], out: Path | None) -> Interview:
    """A new interview, or the one in the file if it was held in the same way."""
    model, window = opened(given["model"]), given["window"]
    sampling = replace(SAMPLING, max_tokens=given["max_tokens"], temperature=given["temperature"])
    named = {name: given[name] for name in ("seed", "grounding", "conditioning", "tries")}
    # What a search found besides would differ from search to search.
    plain = Persona(persona_id=who.persona_id, backstory=who.backstory)
    talk = Interview(plain, model, sampling=sampling, window=window, **named)
    if out is None or not out.exists():
        return talk
    known = read_json(out)
    if other := [name for name, value in talk.settings.items() if known.get(name) != value]:
        raise RunError(f"{out} holds another interview; what differs: {', '.join(other)}. Give a new file")
    return Interview.load(out, model, window=window)


def _converse(talk: Interview, fixed: Sequence[str], out: Path | None, *, quiet: bool) -> int:
    """Ask and print, question by question, and return how many; what was said is kept after each."""
    before = len(talk.turns)
    try:
        for question in _left(talk, fixed) if fixed else _typed():
            if not quiet and (fixed or not _at_terminal()):
                click.echo(f"Question: {one_line(question)}")
            answer = talk.ask(question)
            if out is not None:
                talk.save(out)
            if not quiet:
                click.echo(f"Answer: {_shown(answer)}\n")
    except KeyboardInterrupt:
        kept = f"what was said is in {out}, the same command goes on" if out else "give --out FILE to keep what is said"
        click.echo(f"\n{len(talk.turns) - before} answered; {kept}", err=True)
        raise
    if not talk.turns:
        raise EmptyError("nothing was asked: give --question or --guide, or type questions, one in each line")
    return len(talk.turns) - before


def _left(talk: Interview, fixed: Sequence[str]) -> Sequence[str]:
    """The questions that are not asked yet, if the interview so far is the beginning of this one."""
    done = [turn.question for turn in talk.turns]
    again = [question.strip() for question in fixed[: len(done)]] == done
    return fixed[len(done) :] if again else fixed


def _typed() -> Iterator[str]:
    """Lines of the standard input; at a terminal asked for, up to an empty one."""
    asking = _at_terminal()
    if asking:
        click.echo("Question: ", nl=False, err=True)
    while line := sys.stdin.readline():
        if line.strip():
            yield line.strip()
        elif asking:
            return
        if asking:
            click.echo("Question: ", nl=False, err=True)


def _at_terminal() -> bool:
    # What is typed at a terminal stands there already.
    return sys.stdin.isatty()


def _shown(answer: str) -> str:
    # An answer may have several lines; nothing in it may steer the terminal.
    return "\n".join(one_line(line) for line in answer.splitlines()) or "(no answer)"


def _told(talk: Interview) -> dict[str, Any]:
    turns = [{"question": turn.question, "answer": turn.answer.strip(), "status": turn.status} for turn in talk.turns]
    return {"persona_id": talk.persona.persona_id, "model": talk.model.card.model, "turns": turns}
