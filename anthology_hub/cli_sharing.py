"""The commands that publish, import and compare: collections, results, leaderboards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from anthology_hub import hub
from anthology_hub.collection import Anthology
from anthology_hub.console import (
    TABLES,
    Bars,
    human_options,
    json_option,
    load_humans,
    load_survey,
    one_line,
    print_board,
    print_json,
    write_table,
)
from anthology_hub.errors import EmptyError, OptionError
from anthology_hub.exits import benchmark_files, eee_files, eval_results_files
from anthology_hub.leaderboard import compact, read_board, withdraw
from anthology_hub.pools import import_pool
from anthology_hub.ranking import CURRENT, VERIFIED, rank
from anthology_hub.runs import RUN_FILE
from anthology_hub.schema import SMALLEST_CELL, Codebook, Survey
from anthology_hub.simulation import load_run
from anthology_hub.space import PORT, push_space, run_space
from anthology_hub.tabulation import answers_table, results_table
from anthology_hub.verification import SurveyProtocol, mark, verify


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Release folder to write.")
@click.option("--kind", default="plain", show_default=True, help="One of `list pools`, or a JSON file of that form.")
@click.option("--name", help="Name of the collection; the file's, if not given.")
@click.option("--licence", default="", help="SPDX name; needed where the kind's is not known.")
@click.option("--source", default="", help="Where the texts come from, as namespace/name.")
@click.option("--release", default="1.0.0", show_default=True, help="Version to write.")
@click.option("--column", "columns", multiple=True, metavar="ROLE=COLUMN",
              help="backstory=..., key=... or trait:NAME=...; several columns joined by +.")  # fmt: skip
@click.option("--level", "levels", multiple=True, metavar="TRAIT:LEVEL=VALUE[|VALUE]",
              help="What the file calls a level.")  # fmt: skip
@click.option("--codebook", help="Name or JSON file of the traits; those of the kind, if not given.")
@click.option("--near", type=float, help="Flag texts that share this part (0 to 1) of their five-word sequences.")
@click.option("--limit", type=int, help="Read only so many rows.")
@click.option("--encoding", default="utf-8-sig", show_default=True, help="Of text files.")
@click.option("--embed", is_flag=True, help="Also make passage vectors, so that the collection can be searched.")
@json_option
def import_command(
    file: Path,
    out: Path,
    name: str | None,
    release: str,
    columns: tuple[str, ...],
    levels: tuple[str, ...],
    codebook: str | None,
    embed: bool,
    as_json: bool,
    **given: Any,  # noqa: ANN401
) -> None:
    """Make a collection of an existing pool of personas; FILE is a file or a folder of files of one kind.

    Example: anthology-hub import personas.csv --out people --column backstory=text --licence CC-BY-4.0
    """
    people, report = import_pool(
        file,
        name=name or file.stem,
        columns=dict(_pair(column, "--column", "ROLE=COLUMN") for column in columns),
        levels=_levels(levels),
        codebook=Codebook.load(codebook) if codebook else None,
        **given,
    )
    if embed:
        with Bars(quiet=as_json) as bars:
            people = people.embed(progress=bars.start("texts"))
    saved = people.save(out, release=release, card=report.card)
    if as_json:
        print_json({**report.to_dict(), "folder": str(out), "collection": saved.identity})
        return
    click.echo("\n".join([*report.lines(), f"{saved.identity} in {out}"]))


@click.command("push")
@click.argument("collection")
@click.argument("repo")
@click.option("--release", required=True, help="Name of the release, such as v1.0.0.")
@click.option("--public", is_flag=True, help="Make a repository that all can see.")
@click.option("--note", default="", help="Changelog entry; drafted from what changed, if not given.")
@click.option("--smallest-cell", default=SMALLEST_CELL, show_default=True,
              help="Publish no population share that stands for fewer people of a study.")  # fmt: skip
@json_option
def push_command(
    collection: str, repo: str, release: str, public: bool, note: str, smallest_cell: int, as_json: bool
) -> None:
    """Publish COLLECTION (starter, a folder, or a repository) as a release of REPO; private unless --public.

    Example: anthology-hub push people lab/people --release v1.0.0
    """
    people = Anthology.load(collection)
    done = people.push(repo, release=release, public=public, changelog=note, smallest_cell=smallest_cell)
    if as_json:
        print_json(asdict(done))
        return
    tag = f"v{release.removeprefix('v')}"
    click.echo(f"{len(people):,} personas as {tag} at {done.url}")
    click.echo(f'Load: Anthology.load("{repo}", revision="{tag}") or datasets.load_dataset("{repo}", revision="{tag}")')


@click.command("diff")
@click.argument("older")
@click.argument("newer")
@click.option("--collection", help="Repository of which OLDER and NEWER are revisions; else they are collections.")
@json_option
def diff_command(older: str, newer: str, collection: str | None, as_json: bool) -> None:
    """Show what changed between two releases, and the version that it demands.

    Example: anthology-hub diff v1.0.0 v1.1.0 --collection lab/people
    """
    if not collection and hub.RELEASE_TAG.fullmatch(older) and not Path(older).is_dir():
        raise OptionError(f"{older} is a release, but of which repository? Give --collection namespace/name")
    if collection:
        old, new = (Anthology.load(collection, revision=revision) for revision in (older, newer))
    else:
        old, new = Anthology.load(older), Anthology.load(newer)
    changes = new.diff(old)
    if as_json:
        print_json(changes.to_dict())
        return
    click.echo(changes.entry(f"{old.identity} to {new.identity}"))
    click.echo(f"Demands: {changes.demands} (from {changes.before}, at least {changes.next_version})")


@click.command("leaderboard")
@click.argument("target")
@click.option("--compact", "compacting", is_flag=True, help="Write the table, the folded runs and the README anew.")
@click.option("--name", help="With --compact: title of the leaderboard.")
@click.option("--licence", help="With --compact: SPDX name of the licence of what is pushed.")
@click.option("--withdrawn", is_flag=True, help="List withdrawn runs too, with the reasons.")
@json_option
def leaderboard_command(
    target: str, compacting: bool, name: str | None, licence: str | None, withdrawn: bool, as_json: bool
) -> None:
    """Rank the results of a results folder or repository.

    Example: anthology-hub leaderboard results --compact
    """
    if compacting:
        click.echo(f"Compacted: {compact(target, name=name, licence=licence).url}", err=True)
    board = read_board(target)
    rows = rank(board.entries)
    for path, why in board.broken.items():
        click.echo(f"left out, no result: {path} ({one_line(why)})", err=True)
    if as_json:
        stones = [asdict(stone) for stone in board.tombstones]
        print_json(
            {"rows": [asdict(row) for row in rows], "withdrawn": stones} if withdrawn else [asdict(row) for row in rows]
        )
        return
    if not rows and not board.tombstones:
        raise EmptyError(f"{target} holds no results: publish one first")
    print_board(rows)
    for stone in board.tombstones if withdrawn else ():
        click.echo(f"withdrawn: {stone.path}: {stone.reason} ({stone.who}, {stone.when[:10]})")


@click.command("verify")
@click.argument("target")
@click.argument("run")
@human_options
@click.option("--survey", help="Survey file, if it is none of the shipped ones.")
@click.option("--collection", help="Look the personas up in this collection: starter, a folder, or a repository.")
@click.option("--revision", help="Of that repository.")
@click.option("--mark", "who", metavar="NAME", help="Publish what came of it beside the run, under this name.")
@json_option
def verify_command(
    target: str,
    run: str,
    humans: str,
    wave: int | None,
    survey: str | None,
    collection: str | None,
    revision: str | None,
    who: str | None,
    as_json: bool,
) -> None:
    """Recompute every figure of a published run from its answers and the humans you hold.

    RUN is the path of a run file or a run id. Exits with 1 if anything differs.

    Example: anthology-hub verify results 1f0c9a7b --humans gss-2018
    """
    people = Anthology.load(collection, revision=revision) if collection else None
    whole = load_survey(survey) if survey else None
    protocol = SurveyProtocol.load(survey) if survey else None
    found = verify(target, run, load_humans(humans, wave), survey=whole, protocol=protocol, people=people)
    if who:
        mark(target, found, who=who)
    if as_json:
        print_json({"verdict": found.verdict, **asdict(found)})
    else:
        click.echo(f"{found.path}: {found.verdict}; {found.figures} values recomputed with {found.humans}")
        for difference in found.differences:
            click.echo(f"  {difference}")
    if found.verdict != VERIFIED:
        click.get_current_context().exit(1)


@click.command("withdraw")
@click.argument("target")
@click.argument("run")
@click.option("--reason", required=True, help="For others to read.")
@click.option("--who", required=True, help="Name to stand by it, for others to read.")
def withdraw_command(target: str, run: str, reason: str, who: str) -> None:
    """Take a run out of the ranks for good; it stays as a tombstone.

    Example: anthology-hub withdraw results 1f0c9a7b --who Ada --reason "one order of options only"
    """
    for stone in withdraw(target, run, reason=reason, who=who):
        click.echo(f"withdrawn: {stone.path}")


@click.command("export")
@click.argument("target")
@click.argument("out")
@click.option(
    "--to",
    "form",
    type=click.Choice(["eee", "eval-results", "eval-yaml", *TABLES]),
    default="eee",
    show_default=True,
    help="Every Eval Ever files; the .eval_results entry for a model's page; eval.yaml of a benchmark; a table "
    "with labels for SPSS, Stata, R or an archive.",
)
@click.option("--run", "runs", multiple=True, help="Only this run (path or id); all that count, if not given.")
@click.option("--benchmark", help="For eval-results: the benchmark's dataset repository, namespace/name.")
@click.option("--collection", default="anthology_hub", show_default=True, help="For eee: name of the benchmark.")
@click.option("--probs", is_flag=True, help="For tables of a run: the probability of each option, too.")
@click.option(
    "--ids", is_flag=True, help="For tables of a run: whom each row stands in for. Keep such a file to yourself."
)
def export_command(
    target: str,
    out: str,
    form: str,
    runs: tuple[str, ...],
    benchmark: str | None,
    collection: str,
    probs: bool,
    ids: bool,
) -> None:
    """Write published runs in the form of others into the folder OUT (or hf://namespace/name).

    As a table, OUT is a file, and TARGET may be a run folder: then its answers are written, one row a person.

    Example: anthology-hub export runs/a answers.sav --to sav
    """
    if form in TABLES and (Path(target) / RUN_FILE).is_file():
        write_table(answers_table(load_run(target), probs=probs, ids=ids), out, form)
        return
    board = read_board(target)
    entries = [entry for run in runs for entry in board.find(run)] if runs else board.entries
    results = [entry.result for entry in entries if entry.status == CURRENT]
    if not results:
        raise EmptyError(f"{target} has no run to export that is neither withdrawn nor replaced")
    if form in TABLES:
        write_table(results_table(results), out, form)
        return
    if form == "eee":
        files = eee_files(results, collection=collection)
    elif form == "eval-yaml":
        names = dict.fromkeys(result.survey for result in results)
        files = benchmark_files([Survey.load(name) for name in names], name=target.removeprefix("hf://"))
    else:
        if not benchmark or len(results) != 1:
            raise OptionError("--to eval-results takes one --run (the Hub shows one figure a task) and a --benchmark")
        files = eval_results_files(results[0], benchmark=benchmark)
    hub.add_files(out, files, message=f"Results of {target}")
    for path in files:
        click.echo(path)


@click.group("space")
def space_group() -> None:
    """The leaderboard as a web app."""


@space_group.command("push")
@click.argument("repo")
@click.option("--results", required=True, help="The results repository, namespace/name.")
@click.option("--title", default="", help="Of the Space.")
@click.option("--public", is_flag=True, help="Make a Space that all can see.")
def space_push_command(repo: str, results: str, title: str, public: bool) -> None:
    """Publish the leaderboard of a results repository as a Space.

    Example: anthology-hub space push lab/leaderboard --results lab/results
    """
    click.echo(push_space(repo, results=results, title=title, public=public))


@space_group.command("run")
@click.argument("results")
@click.option("--port", default=PORT, show_default=True)
def space_run_command(results: str, port: int) -> None:
    """Show the leaderboard of a results folder or repository on this machine.

    Example: anthology-hub space run results
    """
    click.get_current_context().exit(run_space(results, port=port))


def _pair(given: str, option: str, form: str) -> tuple[str, str]:
    name, sign, value = given.partition("=")
    if not sign or not name or not value:
        example = "backstory=text" if option == "--column" else "gender:Male=M"
        raise OptionError(f"{option} {given!r} is not {form}, such as {example}")
    return name, value


def _levels(given: Sequence[str]) -> dict[str, dict[str, list[str]]]:
    levels: dict[str, dict[str, list[str]]] = {}
    for entry in given:
        name, values = _pair(entry, "--level", "TRAIT:LEVEL=VALUE[|VALUE]")
        trait, sign, level = name.partition(":")
        if not sign:
            raise OptionError(f"--level {entry!r} is not TRAIT:LEVEL=VALUE[|VALUE], such as 'gender:Male=M|m'")
        levels.setdefault(trait, {}).setdefault(level, []).extend(values.split("|"))
    return levels


COMMANDS = (
    import_command,
    push_command,
    diff_command,
    leaderboard_command,
    verify_command,
    withdraw_command,
    export_command,
    space_group,
)
"""All of this module, for the main group."""
