"""Commands that make collections: generate backstories."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from anthology_hub.budget import plan, priced
from anthology_hub.changes import numbers
from anthology_hub.cli_cluster import cluster_of, cluster_options
from anthology_hub.cli_models import model_options, opened
from anthology_hub.collection import Anthology
from anthology_hub.console import Bars, json_option, print_json, seed_option
from anthology_hub.errors import EmptyError, OptionError
from anthology_hub.generation import REJECTED, REPORT, Generation, append, generate
from anthology_hub.models import LanguageModel
from anthology_hub.schema import Codebook
from anthology_hub.screening import CHECKS, PRESETS, Critic, checks_of
from anthology_hub.steering import Quota, quota_for, read_quota, read_target, steer
from anthology_hub.styles import PRIMERS, STYLES, GenerateOptions, read_questions, style_of
from anthology_hub.weighting import Target, population

FILE = click.Path(path_type=Path)
COLLECTION = "collection"
"""Folder within the run folder that holds what was made."""


@click.command("generate")
@click.argument("folder", type=FILE)
@click.option("--model", default="local:smollm2", show_default=True, help="Who writes.")
@model_options
@click.option("-n", type=int, help="Number of backstories; as many as the quota counts, if not given.")
@click.option("--style", type=click.Choice(STYLES), default="natural", show_default=True)
@click.option("--primer", type=click.Choice(PRIMERS), default="bio", show_default=True, help="How traits are told.")
@click.option(
    "--questions", type=FILE, help="Of the interview: one in each line, or JSON; ten known ones, if not given."
)
@click.option("--quota", "table", type=FILE, help="CSV with a column for each trait and `count`, of primed stories.")
@click.option(
    "--target",
    type=FILE,
    help="Of primed stories: JSON, trait -> level -> share; the codebook's population, if not given.",
)
@click.option(
    "--effective",
    type=float,
    help="Of primed stories: go on, -n at most, until the pool, weighted to the target, has this effective size.",
)
@click.option("--codebook", help="A name or JSON file; the collection's, else anthology, if not given.")
@seed_option
@click.option(
    "--check",
    "checks",
    multiple=True,
    metavar="NAME[:OPTION=VALUE,...]",
    help=f"A preset ({', '.join(PRESETS)}) or a check ({', '.join(CHECKS)}); default, if none is given.",
)
@click.option("--critic", "critic_name", metavar="MODEL", help="A model that is asked about each text.")
@click.option("--collection", "known", help="Reject what is near to its texts: a folder, a repository, or starter.")
@click.option("--append", "appended", is_flag=True, help="Put the new ones after those of --collection, as a release.")
@click.option("--release", help="Its version; the next minor one, if not given.")
@click.option("--name", default="generated", show_default=True, help="Of a new collection.")
@click.option("--licence", default="other", show_default=True, help="SPDX name; of a new collection.")
@click.option("--tries", default=50, show_default=True, help="Most drafts of a text until one passes.")
@click.option("--batch-size", default=8, show_default=True, help="Stories written at once.")
@click.option("--max-tokens", type=int, help="Most tokens of a text; the style's own, if not given.")
@click.option("--no-preamble", is_flag=True, help="Leave out the question for citizenship before natural stories.")
@click.option("--dry-run", is_flag=True, help="Say what it would take; ask nothing.")
@click.option("--acceptance", default=1.0, show_default=True, help="Of drafts, assumed by --dry-run.")
@click.option("--price-in", default=0.0, help="Of a million prompt tokens.")
@click.option("--price-out", default=0.0, help="Of a million reply tokens.")
@cluster_options
@json_option
def generate_command(
    folder: Path,
    model: str,
    n: int | None,
    table: Path | None,
    target: Path | None,
    effective: float | None,
    codebook: str | None,
    seed: int,
    critic_name: str | None,
    known: str | None,
    appended: bool,
    release: str | None,
    name: str,
    licence: str,
    dry_run: bool,
    acceptance: float,
    price_in: float,
    price_out: float,
    ray: str | None,
    workers: int | None,
    gpus: float | None,
    as_json: bool,
    **told: Any,  # noqa: ANN401 - click hands over what the options are
) -> None:
    """Generate backstories into FOLDER: a run folder that the same command goes on with, and a collection in it.

    Example: anthology-hub generate new-people --model local:smollm2 -n 20
    """
    if appended and known is None:
        raise OptionError("--append needs --collection: name the collection to add to")
    cluster = cluster_of(ray, workers, gpus)
    if cluster and effective is not None:
        raise OptionError("--effective asks in small rounds, each by the last: leave out --ray, or --effective")
    people = Anthology.load(known) if known else None
    book = people.codebook if people is not None and not codebook else Codebook.load(codebook or "anthology")
    _check_collection(people if appended else None, book, release=release, name=name, licence=licence)
    _check_steering(told["style"], n, effective, target=target, table=table, known=known)
    aim = read_target(target, book) if target else None
    quota = _quota(told["style"], table, book, n, seed, aim)
    n = n or len(quota)
    priced(0, 0, price_in, price_out)
    writer = opened(model)
    options = _options(told, writer, quota, book, n)
    checks_of(options.checks)
    critic = _critic(critic_name, model, writer)
    if dry_run:
        planned = plan(
            writer, n, seed=seed, options=options, quota=quota, codebook=book, critic=critic, acceptance=acceptance
        )
        cost = planned.cost(price_in, price_out)
        if as_json:
            print_json({**planned.to_dict(), "cost": cost})
        else:
            click.echo("\n".join([*planned.lines(), *_cost(cost)]))
        return
    how: dict[str, Any] = {"seed": seed, "options": options, "codebook": book, "critic": critic, "folder": folder}
    steered = None
    if effective is not None:
        steered = steer(writer, aim or population(book), n_effective=effective, at_most=n, **how)
        made = steered.generation
    else:
        with Bars(quiet=as_json) as bars:
            told_by = bars.start("stories")
            made = generate(writer, n, quota=quota, collection=people, progress=told_by, ray=cluster, **how)
    place = _save(made, folder / COLLECTION, people if appended else None, release=release, name=name, licence=licence)
    report = made.report
    cost = priced(report.prompt_tokens + report.critic_tokens, report.reply_tokens, price_in, price_out)
    if as_json:
        path = {"rounds": [asdict(one) for one in steered.path], "reached": steered.reached} if steered else {}
        where = {"run": str(folder), "collection": str(place) if place else None}
        print_json({**report.to_dict(), "cost": cost, **where, **path})
    else:
        click.echo("\n".join([*report.lines(), *_cost(cost), *(steered.lines() if steered else ())]))
        each = folder / "round-*" if steered else folder
        click.echo(f"every draft: {each}; what was rejected, and why: {each / REJECTED}; report: {each / REPORT}")
    if place is None:
        raise EmptyError(
            f"no story of {n} was kept: see {folder / REJECTED}, and give another --check, more --tries or another "
            "model, with a new folder"
        )
    if not as_json:
        click.echo(f"{Anthology.load(place)} in {place}")


def _check_collection(
    people: Anthology | None, book: Codebook, *, release: str | None, name: str, licence: str
) -> None:
    """Refuse before anything is asked what could not be saved after it."""
    if not (name.strip() and licence.strip()):
        raise OptionError(f"a collection needs a name and a licence, got {name!r} and {licence!r}: give both")
    wanted = numbers(release) if release else None
    if people is None:
        return
    if [(t.name, t.levels) for t in book.traits] != [(t.name, t.levels) for t in people.codebook.traits]:
        raise OptionError("--append keeps the traits of the collection: leave out --codebook, or --append")
    known = people.identity.rpartition("@")[2].partition("#")[0]
    major, minor, _ = numbers(known)
    if wanted and wanted[:2] <= (major, minor):
        raise OptionError(f"{release} does not follow {known}: give {major}.{minor + 1}.0 or higher")


def _check_steering(
    style: str,
    n: int | None,
    effective: float | None,
    *,
    target: Path | None,
    table: Path | None,
    known: str | None,
) -> None:
    if (target or effective is not None) and (style != "primed" or table or n is None):
        raise OptionError("--target and --effective go with --style primed and -n, and without --quota")
    if effective is not None and known:
        raise OptionError("--effective makes a pool of its own: leave out --collection, or append the pool later")
    if effective is not None and n is not None and not 1 <= effective <= n:
        raise OptionError(f"--effective must be between 1 and -n, which is {n}, got {effective:g}")


def _quota(style: str, table: Path | None, book: Codebook, n: int | None, seed: int, aim: Target | None) -> Quota:
    if n is not None and n < 1:
        raise OptionError(f"-n must be at least 1, got {n}")
    if style != "primed":
        if table is not None or n is None:
            raise OptionError(f"style {style!r} needs -n, and --quota goes with --style primed")
        return ()
    if table is not None:
        return read_quota(table, book, n)
    if n is None:
        raise OptionError("style 'primed' needs -n or --quota: say how many, or for whom")
    return quota_for(aim or population(book), book, n, seed=seed)


def _options(told: dict[str, Any], writer: LanguageModel, quota: Quota, book: Codebook, n: int) -> GenerateOptions:
    questions = read_questions(told["questions"]) if told["questions"] else ()
    options = GenerateOptions(
        style=told["style"],
        primer=told["primer"],
        questions=questions,
        preamble=not told["no_preamble"],
        checks=told["checks"] or ("default",),
        tries=told["tries"],
        batch_size=told["batch_size"],
    )
    if told["max_tokens"] is None:
        return options
    style = style_of(options, n, quota=quota, codebook=book, seed=0)
    usual = style.sampling(style.steps - 1)
    return replace(options, sampling=replace(usual, max_tokens=told["max_tokens"]))


def _critic(name: str | None, model: str, writer: LanguageModel) -> Critic | None:
    if name is None:
        return None
    return Critic(model=writer if name == model else opened(name))


def _cost(cost: float) -> list[str]:
    return [f"cost: {cost:,.2f}"] if cost else []


def _save(
    made: Generation, place: Path, people: Anthology | None, *, release: str | None, name: str, licence: str
) -> Path | None:
    if not made.records:
        return None
    if people is not None:
        append(made, people, release=release).save(place)
    else:
        made.collection(name=name, licence=licence).save(place, release=release or "0.1.0", card=made.card)
    return place
