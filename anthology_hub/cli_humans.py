"""Commands over human answers: look into a file, draft a source, import, show, map traits. Nothing is sent anywhere."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from anthology_hub.coding import shown
from anthology_hub.console import TABLES, json_option, load_humans, load_survey, one_line, print_json, write_table
from anthology_hub.crosswalks import Crosswalk
from anthology_hub.drafting import draft
from anthology_hub.errors import OptionError
from anthology_hub.humans import Respondents
from anthology_hub.layouts import KINDS, recognise
from anthology_hub.privacy import small_cells
from anthology_hub.prompts import LETTERS
from anthology_hub.questionnaires import parsed
from anthology_hub.schema import MISSING, SMALLEST_CELL, Codebook
from anthology_hub.statfiles import Variable, open_data
from anthology_hub.suggestions import suggest
from anthology_hub.tabulation import respondents_table
from anthology_hub.weighting import effective_size

FILE = click.Path(path_type=Path)


@click.group("humans")
def humans_group() -> None:
    """Human answers to compare with: read them, look at them, map their traits. They stay on this machine."""


@humans_group.command("look")
@click.argument("file", type=FILE)
@click.option("--encoding", help="Of its texts, where the file itself is wrong.")
@json_option
def look_command(file: Path, encoding: str | None, as_json: bool) -> None:
    """List the columns of a file with their labels and codes; no value is shown.

    Example: anthology-hub humans look "ATP W34.sav"
    """
    data = open_data(file, encoding=encoding)
    if as_json:
        columns = [{"name": v.name, "label": v.label, "codes": _codes(v)} for v in data.variables.values()]
        print_json({"file": str(file), "kind": recognise(file), "rows": data.n, "columns": columns})
        return
    rows = "" if data.n is None else f"{data.n} rows, "
    known = recognise(file)
    click.echo(f"{file}: {rows}{len(data.variables)} columns, " + (f"layout {known}" if known else "no known layout"))
    for variable in data.variables.values():
        codes = ", ".join(f"{code} {text}" for code, text in list(_codes(variable).items())[: len(LETTERS)])
        click.echo(
            f"  {variable.name:24} {one_line(variable.label)[:80]}" + (f"\n{'':28}{codes[:160]}" if codes else "")
        )


@humans_group.command("draft")
@click.argument("file", type=FILE)
@click.option("--out", required=True, type=FILE, help="YAML file to write.")
@click.option("--encoding", help="Of its texts, where the file itself is wrong.")
def draft_command(file: Path, out: Path, encoding: str | None) -> None:
    """Write a first source for a file, from its names and labels, for you to read and correct.

    Example: anthology-hub humans draft town.sav --out town.yaml
    """
    import yaml

    if out.exists():
        raise OptionError(f"{out} is there already: give a new file")
    source, left_out = draft(open_data(file, encoding=encoding), name=file.stem)
    body = yaml.safe_dump(source, sort_keys=False, allow_unicode=True, width=110)
    skipped = "".join(f"#   {name}: {why}\n" for name, why in left_out.items())
    head = "# What the columns mean: read each line, correct it, delete what you do not need.\n"
    out.write_text(head + body + (f"# Columns left out:\n{skipped}" if skipped else ""), encoding="utf-8")
    counted = f"{len(source['survey']['questions'])} questions, {len(source['traits'])} traits"
    click.echo(f"{out}: {counted}, {len(left_out)} columns left out")
    if not source["survey"]["questions"]:
        click.echo("No column has value labels: write the questions with their options into the file yourself")
    click.echo(f"Next: correct it, then anthology-hub humans import {file} --source {out} --out {file.stem}")


@humans_group.command("import")
@click.argument("file", type=FILE)
@click.option("--out", required=True, type=FILE, help="New folder on this machine.")
@click.option("--source", type=FILE, help="What the columns mean, in YAML; not needed for a known layout.")
@click.option("--kind", type=click.Choice(list(KINDS)), help="The layout; found by looking, if not given.")
@click.option("--wave", type=int, help="Year or number, where a file has several.")
@click.option("--survey", help="Whose questions to read, where the layout takes one: a name, or a file.")
@click.option("--traits", type=FILE, help="Traits in YAML as in a source, where the layout takes them (qualtrics).")
@click.option("--crosswalk", help="From persona levels to these; a name, or a JSON file.")
@click.option("--encoding", help="Of its texts, where the file itself is wrong.")
@click.option("--keep-ids", is_flag=True, help="Keep the ids of the file; else pseudonyms take their place.")
@click.option("--keep-identifiers", is_flag=True, help="Keep columns that look like names, e-mail, phone numbers ...")
@json_option
def import_command(
    file: Path,
    out: Path,
    source: Path | None,
    kind: str | None,
    keep_ids: bool,
    keep_identifiers: bool,
    crosswalk: str | None,
    as_json: bool,
    **options: Any,  # noqa: ANN401 - click hands over what the options are
) -> None:
    """Read a file of human answers into a folder that `--humans` takes.

    Example: anthology-hub humans import "ATP W34.sav" --out w34
    """
    given = {name: value for name, value in options.items() if value is not None}
    if "survey" in given:
        given["survey"] = load_survey(given["survey"])
    if "traits" in given:
        given["traits"] = parsed(given["traits"], given["traits"].read_bytes())
    humans = Respondents.from_file(file, source=source, kind=kind, keep_identifiers=keep_identifiers, **given)
    humans = replace(humans, crosswalk=crosswalk or humans.crosswalk)
    folder = humans.save(out, file=None if keep_ids else file)
    if as_json:
        print_json(_summary(Respondents.load(folder)))
        return
    _print_humans(Respondents.load(folder))
    click.echo(
        f"Kept in {folder}, on this machine. Next: anthology-hub simulate RUN --humans {folder}"
        + (
            ""
            if humans.crosswalk
            else " --conditioning bio; for backstories, first "
            f"anthology-hub humans map {folder} --suggest crosswalk.json"
        )
    )


@humans_group.command("show")
@click.argument("name")
@click.option("--wave", type=int, help="Year, where a file has several.")
@json_option
def show_command(name: str, wave: int | None, as_json: bool) -> None:
    """Show who the respondents are, in shares; groups of few people are not shown.

    Example: anthology-hub humans show gss-2018
    """
    humans = load_humans(name, wave)
    if as_json:
        print_json(_summary(humans))
    else:
        _print_humans(humans)


@humans_group.command("export")
@click.argument("name")
@click.argument("out", type=FILE)
@click.option("--wave", type=int, help="Year, where a file has several.")
@click.option("--to", "form", type=click.Choice(TABLES), help="The form; by the ending of OUT, if not given.")
def export_command(name: str, out: Path, wave: int | None, form: str | None) -> None:
    """Write respondents with their codes, labels and weights for your own program. It holds answers of people.

    Example: anthology-hub humans export gss-2018 gss.sav
    """
    write_table(respondents_table(load_humans(name, wave)), out, form or out.suffix.lower().lstrip("."))


@humans_group.command("map")
@click.argument("name")
@click.option("--wave", type=int, help="Year, where a file has several.")
@click.option("--codebook", default="starter", show_default=True, help="Of the personas: a name or a JSON file.")
@click.option("--crosswalk", help="Another one than the respondents name.")
@click.option("--suggest", "target", type=FILE, help="Write a draft by similarity of labels here, for your review.")
@json_option
def map_command(
    name: str, wave: int | None, codebook: str, crosswalk: str | None, target: Path | None, as_json: bool
) -> None:
    """Show how persona levels become levels of the respondents, and what has no counterpart.

    Example: anthology-hub humans map gss-2018
    """
    humans, personas = load_humans(name, wave), Codebook.load(codebook)
    if target:
        drafted = suggest(personas, humans.levels)
        click.echo(f"{drafted.write(target)}: review each row, delete its mark, then give it with --crosswalk")
        return
    walk = Crosswalk.load(crosswalk) if crosswalk else Crosswalk.between(personas, humans)
    coverage = walk.onto(humans.levels).coverage(personas, humans)
    if as_json:
        print_json(asdict(coverage))
    else:
        click.echo(str(coverage))


def _codes(variable: Variable) -> dict[str, str]:
    return {shown(code) if isinstance(code, float) else code: text for code, text in variable.values.items()}


def _summary(humans: Respondents) -> dict[str, Any]:
    effective = len(humans) if humans.weights is None else effective_size(humans.weights)
    return {
        "name": humans.name,
        "people": len(humans),
        "effective": round(effective, 1),
        "weighted": humans.weights is not None,
        "strata": None if humans.strata is None else len(np.unique(humans.strata)),
        "sampling_units": None if humans.psu is None else len(np.unique(humans.psu)),
        "survey": humans.survey.name if humans.survey else "",
        "questions": list(humans.answers),
        "retested": list(humans.retest),
        "traits": {trait: _shares(humans, trait) for trait in humans.levels},
        "recognisable": small_cells(humans.codes, depth=1).combinations[-1].people if humans.codes else 0,
        "crosswalk": humans.crosswalk,
        "source": humans.source,
        "notes": list(humans.notes),
    }


def _shares(humans: Respondents, trait: str) -> dict[str, float | None]:
    """Weighted shares of a trait's levels; None for a level of too few people to be told."""
    codes = humans.codes[trait]
    weights = np.ones(len(humans)) if humans.weights is None else humans.weights
    known = weights[codes != MISSING].sum()
    shares: dict[str, float | None] = {}
    for at, level in enumerate(humans.levels[trait]):
        inside = codes == at
        few = 0 < inside.sum() < SMALLEST_CELL
        shares[level] = None if few or not known else round(float(weights[inside].sum() / known), 4)
    told = {level: share for level, share in shares.items() if share}
    if list(shares.values()).count(None) == 1 and told:
        # One alone could be counted back from the others.
        shares[min(told, key=lambda level: told[level])] = None
    return shares


def _print_humans(humans: Respondents) -> None:
    about = _summary(humans)
    weighted = f", {about['effective']:.0f} effective after weighting (Kish)" if about["weighted"] else ", no weights"
    click.echo(f"{about['name']}: {about['people']} people{weighted}")
    if about["strata"] or about["sampling_units"]:
        click.echo(
            f"design: {about['strata'] or 1} strata, {about['sampling_units'] or about['people']} sampling units"
        )
    click.echo(f"survey: {about['survey']}, {len(about['questions'])} questions" + _retested(about))
    for trait, shares in about["traits"].items():
        told = ", ".join(f"{level} {'few' if share is None else f'{share:.1%}'}" for level, share in shares.items())
        click.echo(f"  {trait:18} {told}")
    if about["recognisable"]:
        click.echo(f"{about['recognisable']} people share all these traits with fewer than {SMALLEST_CELL - 1} others")
    for note in about["notes"]:
        click.echo(f"note: {note}")


def _retested(about: dict[str, Any]) -> str:
    return f", {len(about['retested'])} of them asked twice" if about["retested"] else ""
