"""`anthology-hub annotate`: ask a model for the traits of personas, and judge what it says against author's labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from anthology_hub.annotation import (
    METHODS,
    SAMPLED,
    STOPS,
    Annotated,
    AnnotateOptions,
    annotate,
    plan_annotation,
)
from anthology_hub.calibration import Calibration, check
from anthology_hub.calibration_report import write_calibration
from anthology_hub.cli_cluster import RUN_PLACE, cluster_of, cluster_options
from anthology_hub.cli_models import model_options, opened
from anthology_hub.collection import Anthology
from anthology_hub.console import (
    Bars,
    figure,
    json_option,
    load_people,
    one_line,
    people_options,
    print_json,
    seed_option,
)
from anthology_hub.errors import OptionError
from anthology_hub.quickstart import MODEL
from anthology_hub.release import MANIFEST
from anthology_hub.report import check_extras
from anthology_hub.schema import Codebook
from anthology_hub.trait_replies import LOCATED

FOLDER = click.Path(path_type=Path)


@click.command("annotate")
@click.argument("out", required=False, type=FOLDER)
@people_options
@click.option("--sample", "size", type=int, help="Only this many random personas; all, if not given.")
@click.option("--model", default=MODEL, show_default=True)
@model_options
@click.option("--locator", help="Model that looks for quotes, if another one.")
@click.option("--codebook", help="Name or JSON file of the traits; the collection's own, if not given.")
@click.option("--trait", "traits", multiple=True, help="Only this trait; all of the codebook, if not given.")
@click.option("--method", type=click.Choice(METHODS), default="paper", show_default=True,
              help="Look for quotes, then sample; one of these; or the probabilities of letters.")  # fmt: skip
@click.option("--locate", multiple=True, help="Look for quotes for this trait only; for all, if not given.")
@click.option("--samples", default=40, show_default=True, help="Replies per trait and persona, at most.")
@click.option("--stop", type=click.Choice(STOPS), default="",
              help="Stop sampling once the top level, or the ranks, are sure.")  # fmt: skip
@click.option("--batch-size", default=AnnotateOptions.batch_size, show_default=True, help="Prompts at once.")
@click.option("--run", "folder", type=RUN_PLACE, help="Run folder or URI: the same command goes on where it stopped.")
@click.option("--check", "judged", is_flag=True, help="Judge the annotations against the author's labels.")
@click.option("--report", type=FOLDER, help="With --check: write a page into this folder.")
@click.option("--dry-run", is_flag=True, help="Count prompts and tokens; ask nothing.")
@cluster_options
@seed_option
@json_option
def annotate_command(
    out: Path | None,
    collection: str,
    revision: str | None,
    conditions: tuple[str, ...],
    size: int | None,
    judged: bool,
    report: Path | None,
    dry_run: bool,
    as_json: bool,
    **given: Any,  # noqa: ANN401 - click hands over what the options are
) -> None:
    """Annotate traits of personas by a model, into the collection folder OUT; or only judge it, with --check.

    Example: anthology-hub annotate --check --sample 20 --trait age --trait gender
    """
    if not (out or judged or dry_run):
        raise OptionError("nowhere to write: give a folder OUT, or --check, or --dry-run")
    if report and not judged:
        raise OptionError("--report is the page of a check: add --check")
    if report:
        check_extras()
    _check_places(out, given["folder"], report)
    _check_method(given)
    cluster_of(given["ray"], given["workers"], given["gpus"])
    people = load_people(collection, revision, conditions)
    people = people if size is None else people.sample(size, seed=given["seed"])
    if dry_run:
        _show_plan(people, given, as_json)
        return
    done = _annotated(people, given, quiet=as_json)
    calibration = check(people, done.collection, seed=given["seed"]) if judged else None
    page = write_calibration(calibration, report) if calibration and report else None
    saved = done.collection.save(out) if out else None
    if as_json:
        told = {"run_id": done.provenance["run_id"], "counts": done.counts}
        told |= {"calibration": calibration and calibration.to_dict()}
        print_json({**told, "folder": out and str(out), "collection": saved and saved.identity})
        return
    _print_counts(done)
    if calibration:
        _print_calibration(calibration)
    for line in (page and f"Report: {page}", saved and f"{saved.identity} in {out}"):
        if line:
            click.echo(line)


def _check_places(out: Path | None, run: Path | str | None, report: Path | None) -> None:
    """Refuse before anything is asked what could not be written after it."""
    if report and report.is_file():
        raise OptionError(f"{report} is a file: give a folder for the page")
    if out is None:
        return
    if out.is_file():
        raise OptionError(f"{out} is a file: give a new folder")
    if isinstance(run, Path) and out.resolve() in (run.resolve(), *run.resolve().parents):
        raise OptionError(f"the run folder {run} is within {out}: give a folder of its own")
    if out.is_dir() and any(out.iterdir()) and not (out / MANIFEST).is_file():
        raise OptionError(f"{out} holds what is no part of a collection: give a new folder")


def _check_method(given: Mapping[str, Any]) -> None:
    """Refuse options that the method would pass over."""
    method = given["method"]
    if (given["locate"] or given["locator"]) and method not in ("paper", LOCATED):
        raise OptionError(f"--locate and --locator are of the methods paper, located, got {method!r}: leave them out")
    if given["stop"] and method not in ("paper", SAMPLED):
        raise OptionError(f"--stop is of the methods paper, sampled, got {method!r}: leave it out")


def _arguments(given: dict[str, Any]) -> dict[str, Any]:
    """What `annotate` and its plan have in common."""
    return {
        "traits": given["traits"] or None,
        "method": given["method"],
        "codebook": Codebook.load(given["codebook"]) if given["codebook"] else None,
        "samples": given["samples"],
        "options": AnnotateOptions(locate=given["locate"] or None, stop=given["stop"], batch_size=given["batch_size"]),
    }


def _annotated(people: Anthology, given: dict[str, Any], *, quiet: bool) -> Annotated:
    with Bars(quiet=quiet) as bars:
        return annotate(
            people,
            opened(given["model"]),
            locator=opened(given["locator"]) if given["locator"] else None,
            seed=given["seed"],
            folder=given["folder"],
            progress=bars.start("annotations"),
            ray=cluster_of(given["ray"], given["workers"], given["gpus"]),
            **_arguments(given),
        )


def _show_plan(people: Anthology, given: dict[str, Any], as_json: bool) -> None:
    plan = plan_annotation(people, opened(given["model"]), **_arguments(given))
    if as_json:
        print_json(asdict(plan))
        return
    click.echo(f"At most {plan.calls:,} prompts on {plan.personas} personas, traits {', '.join(plan.traits)}:")
    click.echo(
        f"  {plan.prompt_tokens:,} prompt tokens, {plan.computed_tokens:,} of them to compute with a prefix cache"
    )
    click.echo(f"  {plan.reply_tokens:,} reply tokens, if every reply is as long as allowed")
    click.echo("Nothing was asked.")


def _print_counts(done: Annotated) -> None:
    for trait, counts in done.counts.items():
        click.echo(f"  {trait:18} " + ", ".join(f"{name} {count}" for name, count in counts.items()))


def _print_calibration(found: Calibration) -> None:
    click.echo(f"{'trait':18} {'n':>4} {'cover':>6} {'accuracy':>22} {'Brier':>22} {'ECE':>22} "
               f"{'uniform':>8} {'majority':>8} {'popul.':>8}")  # fmt: skip
    for trait in found.traits:
        shown = " ".join(
            f"{figure(f.value)} [{figure(f.low)}, {figure(f.high)}]".rjust(22)
            for f in (trait.accuracy, trait.brier, trait.ece)
        )
        known = {baseline.name: figure(baseline.accuracy) for baseline in trait.baselines}
        baselines = " ".join(f"{known.get(name, '-'):>8}" for name in ("uniform", "majority", "population"))
        click.echo(f"{one_line(trait.trait):18} {trait.n:>4} {trait.coverage:>6.0%} {shown} {baselines}")
    click.echo("Intervals: 95 % bootstrap over personas. Last columns: accuracy of the baselines.")
    if found.unlabelled:
        click.echo(f"Not judged, no label with the same levels: {', '.join(found.unlabelled)}")
    click.echo(found.verdict)
