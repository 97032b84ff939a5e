"""The commands for survey files: check, import, show, and the schema."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import click

from anthology_hub.console import json_option, one_line, print_json
from anthology_hub.errors import OptionError
from anthology_hub.prompts import LETTERS
from anthology_hub.questionnaires import KINDS, check_survey, read_survey, write_survey
from anthology_hub.questionnaires.checks import ERROR, SCHEMA
from anthology_hub.schema import CHOICE, Condition, Question, Survey

kind_option = click.option(
    "--kind", type=click.Choice(KINDS), help="Kind of file; told by its ending and content, if not given."
)
file_argument = click.argument("file", type=click.Path(path_type=Path))


@click.group("survey")
def survey_group() -> None:
    """Survey files: check, import, show."""


@survey_group.command("check")
@file_argument
@kind_option
@json_option
def check_command(file: Path, kind: str | None, as_json: bool) -> None:
    """Tell all that is wrong with a survey file, or may not be meant. Exit code 1 if there are errors.

    Example: anthology-hub survey check survey.yaml
    """
    found = check_survey(file, kind=kind)
    errors = sum(problem.severity == ERROR for problem in found)
    if as_json:
        print_json([asdict(problem) for problem in found])
    else:
        for problem in found:
            click.echo(one_line(str(problem)))
        click.echo(f"{file}: {errors} errors, {len(found) - errors} warnings")
    click.get_current_context().exit(1 if errors else 0)


@survey_group.command("import")
@file_argument
@click.option("--out", required=True, type=click.Path(path_type=Path), help="File to write: .json or .yaml.")
@kind_option
@json_option
def import_command(file: Path, out: Path, kind: str | None, as_json: bool) -> None:
    """Make a survey of a file of Qualtrics, LimeSurvey, XLSForm or DDI; tell what was kept, what left out, and why.

    Example: anthology-hub survey import questionnaire.qsf --out survey.json
    """
    found = read_survey(file, kind=kind)
    if out.exists():
        raise OptionError(f"{out} is there already and may hold your corrections: choose another name")
    write_survey(found.survey, out)
    if as_json:
        left_out = [asdict(left) for left in found.left_out]
        kept = {"file": str(out), "questions": found.survey.keys, "sources": dict(found.sources)}
        print_json({**kept, "left_out": left_out, "notes": found.notes})
        return
    click.echo(f"Kept {len(found.survey.questions)} questions: {', '.join(found.survey.keys)}")
    if found.left_out:
        click.echo(f"Left out {len(found.left_out)}:")
    for left in found.left_out:
        shown = f" - {left.text[:60]}" if left.text else ""
        click.echo(f"  {one_line(f'{left.key} ({left.kind}): {left.why}{shown}')}")
    for note in found.notes:
        click.echo(one_line(f"Note: {note}"))
    click.echo(f"Written to {out}. Look at it with: anthology-hub survey show {out}")


@survey_group.command("show")
@file_argument
@kind_option
def show_command(file: Path, kind: str | None) -> None:
    """Show a survey as a person would see it, with codes and conditions.

    Example: anthology-hub survey show survey.json
    """
    for text in _shown(read_survey(file, kind=kind).survey):
        # A file of others may hold what steers a terminal.
        click.echo(re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", "\ufffd", text))


@survey_group.command("schema")
def schema_command() -> None:
    """Print the JSON Schema of survey files, for editors and other programs.

    Example: anthology-hub survey schema > survey.schema.json
    """
    click.echo(SCHEMA.read_text(encoding="utf-8"), nl=False)


def _shown(survey: Survey) -> Iterator[str]:
    yield f"{survey.title or survey.name} ({len(survey.questions)} questions)"
    yield f"Options shown in this order: {' or '.join(survey.order_patterns)}"
    if survey.preamble:
        yield f"\n{survey.preamble}"
    questions = {question.key: question for question in survey.questions}
    for question in survey.questions:
        marks = list(_marks(question))
        yield f"\n{question.key}" + (f" ({', '.join(marks)})" if marks else "")
        if question.ask_if:
            yield f"  Asked if {_said(question.ask_if, questions)}"
        yield "\n".join(f"  {row}" for row in question.text.splitlines())
        for at, (code, text) in enumerate(zip(question.codes, question.options, strict=True)):
            letter = LETTERS[at] if at < len(LETTERS) else "-"
            mark = ", with no other" if code in question.exclusive else ""
            mark += ", off the scale" if code in question.off_scale else ""
            yield f"    ({letter}) {text}  [{code}]{mark}"
    for name, items in survey.scales.items():
        yield f"\nScale {name}: {', '.join(items)}"


def _marks(question: Question) -> Iterator[str]:
    if question.kind != CHOICE:
        yield question.kind
    limits = {"from": question.low, "to": question.high, "at least": question.least, "at most": question.most}
    for word, limit in limits.items():
        if limit is not None:
            yield f"{word} {limit:g}"
    if question.unit:
        yield f"in {question.unit}"
    if question.kind == CHOICE and not question.ordinal:
        yield "no order"
    if question.reverse:
        yield "reversed"


def _said(condition: Condition, questions: dict[str, Question]) -> str:
    if condition.kind == "in":
        asked = questions[condition.question]
        texts = dict(zip(asked.codes, asked.options, strict=True))
        return f"{asked.key} is " + " or ".join(f"'{texts[code]}' [{code}]" for code in condition.codes)
    parts = [_said(part, questions) for part in condition.parts]
    if condition.kind == "not":
        return f"not ({parts[0]})"
    joined = " and " if condition.kind == "all" else " or "
    return joined.join(f"({part})" if len(condition.parts) > 1 else part for part in parts)


COMMANDS = (survey_group,)
"""All of this module, for the main group."""
