"""`anthology-hub embed`: passage vectors for a collection."""

from __future__ import annotations

from pathlib import Path

import click

from anthology_hub.cli_cluster import RUN_PLACE, cluster_of, cluster_options
from anthology_hub.collection import Anthology
from anthology_hub.console import Bars, json_option, print_json
from anthology_hub.encoding import ENCODER, Encoder
from anthology_hub.errors import OptionError


@click.command("embed")
@click.argument("collection")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--encoder", default=ENCODER, show_default=True, help="Whose vectors: a name, folder or repository.")
@click.option("--release", help="Version to write; the collection's own, if not given.")
@click.option("--run", "folder", type=RUN_PLACE, help="Run folder or URI: the same command goes on where it stopped.")
@cluster_options
@json_option
def embed_command(
    collection: str,
    out: Path,
    encoder: str,
    release: str | None,
    folder: Path | str | None,
    ray: str | None,
    workers: int | None,
    gpus: float | None,
    as_json: bool,
) -> None:
    """Make passage vectors for COLLECTION (starter, a folder, or a repository), so that the copy in OUT is searched.

    Example: anthology-hub embed people people-embedded --run runs/embed --ray local
    """
    if out.is_file():
        raise OptionError(f"{out} is a file: give a new folder")
    cluster, people = cluster_of(ray, workers, gpus), Anthology.load(collection)
    with Bars(quiet=as_json) as bars:
        done = people.embed(Encoder(encoder), folder=folder, ray=cluster, progress=bars.start("texts"))
    saved = done.save(out, release=release)
    if as_json:
        print_json({"folder": str(out), "collection": saved.identity})
        return
    click.echo(f"{saved.identity} in {out}")
