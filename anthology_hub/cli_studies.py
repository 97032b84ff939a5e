"""Commands that run studies again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from anthology_hub.cli_models import model_options, opened
from anthology_hub.collection import STARTER, Anthology
from anthology_hub.conditioning import APPENDS
from anthology_hub.console import Bars, json_option, load_humans, print_json, seed_option
from anthology_hub.humans import Respondents
from anthology_hub.quickstart import MODEL
from anthology_hub.reproduction import RECORD, TABLE, Study, plan_reproduction, reproduce
from anthology_hub.schema import shipped
from anthology_hub.simulation import MODES, SimulateOptions, SimulationPlan


@click.command("reproduce")
@click.argument("study", type=click.Choice(shipped("studies")))
@click.option("--humans", required=True, help="The survey's file (SPSS .sav), or a folder of `humans import`.")
@click.option("--model", default=MODEL, show_default=True, help="Who answers; the paper used large base models.")
@model_options
@click.option("--writer", help="Model that writes the demographics-primed backstories; without it they are left out.")
@click.option("--collection", default=STARTER, show_default=True, help="starter, a folder, or a dataset repository.")
@click.option("--revision", help="Tag or commit of the collection.")
@click.option("--sample", "size", type=int, help="Stand in for this many respondents; as many as the paper, if not.")
@click.option("--append", type=click.Choice(APPENDS), default="bio", show_default=True,
              help="How the humans' traits follow a backstory.")  # fmt: skip
@click.option("--mode", type=click.Choice(MODES), default="text", show_default=True, help="text is the paper's.")
@click.option("--batch-size", default=SimulateOptions.batch_size, show_default=True, help="Roles asked at once.")
@click.option("--out", default="reproduction", show_default=True, type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="Count answers and tokens of each condition; ask nothing.")
@seed_option
@json_option
def reproduce_command(
    study: str,
    humans: str,
    model: str,
    writer: str | None,
    collection: str,
    revision: str | None,
    size: int | None,
    append: str,
    mode: str,
    batch_size: int,
    out: Path,
    dry_run: bool,
    seed: int,
    as_json: bool,
) -> None:
    """Run the conditions of STUDY on its respondents and print its table beside the published rows.

    Example: anthology-hub reproduce paper-w34 --humans "ATP W34.sav" --model local:YOUR-MODEL
    """
    known = Study.load(study)
    respondents, people = _respondents(known, humans), Anthology.load(collection, revision=revision)
    options = replace(SimulateOptions.paper(), mode=mode, batch_size=batch_size)
    speaker = opened(model)
    how: dict[str, Any] = {"n": size, "seed": seed, "append": append, "options": options, "people": people}
    how["writer"] = opened(writer) if writer else None
    if dry_run:
        _print_plan(plan_reproduction(known, respondents, speaker, **how), as_json)
        return
    with Bars(quiet=as_json) as bars:
        say = (lambda _line: None) if as_json else click.echo
        made = reproduce(known, respondents, speaker, out, say=say, progress=bars.start, **how)
    if as_json:
        print_json(made.to_dict())
        return
    click.echo(f"\n{made}\n\n{out / TABLE}, {out / RECORD}")


def _respondents(study: Study, humans: str) -> Respondents:
    return Respondents.from_pew(humans) if Path(humans).is_file() else load_humans(humans, None)


def _print_plan(planned: dict[str, SimulationPlan | str], as_json: bool) -> None:
    if as_json:
        print_json({name: plan if isinstance(plan, str) else plan.to_dict() for name, plan in planned.items()})
        return
    for name, plan in planned.items():
        click.echo(name)
        for line in ["no count: " + plan] if isinstance(plan, str) else plan.lines():
            click.echo(f"  {line}")
