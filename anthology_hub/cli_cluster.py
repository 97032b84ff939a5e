"""Options of commands whose work may be spread over a cluster, and places that may be a folder or a URI."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from anthology_hub.cluster import LOCAL, Cluster
from anthology_hub.console import Command
from anthology_hub.errors import OptionError
from anthology_hub.places import is_uri, place_of


class RunPlace(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.5 only
    """Where a run is kept: a path, or the URI of a folder in an object store."""

    name = "folder"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path | str:  # noqa: ANN401
        """Return a path, or the URI as it is."""
        return value if is_uri(value) else Path(value)


RUN_PLACE = RunPlace()


def last_folder(where: Path | str) -> str:
    """Return the name of a place's last folder.

    Example:
        >>> last_folder("s3://bucket/runs/a?endpoint_override=localhost:9000"), last_folder(Path("runs/b"))
        ('a', 'b')
    """
    return Path(str(place_of(where))).name


def cluster_options(command: Command) -> Command:
    """Add the options that spread work over a cluster."""
    usual = f"{Cluster().workers}, if not given"
    for option in (
        click.option("--ray", metavar="ADDRESS", help=f"Spread the work over a Ray cluster; `{LOCAL}` starts one."),
        click.option("--workers", type=int, help=f"With --ray: workers, each with its own model; {usual}."),
        click.option("--gpus", type=float, help="With --ray: GPUs that a worker takes; 0.5 puts two on one."),
    ):
        command = option(command)
    return command


def cluster_of(ray: str | None, workers: int | None, gpus: float | None) -> Cluster | None:
    """Return the cluster that the options name; None for work in process.

    Raises:
        OptionError: If a value is outside its range, or goes with no cluster.
    """
    given = {name: value for name, value in (("workers", workers), ("gpus", gpus)) if value is not None}
    if ray is not None:
        return Cluster(address=ray, **given)  # type: ignore[arg-type]
    if given:
        raise OptionError(f"--{' and --'.join(given)} are of work on a cluster: add --ray {LOCAL} or --ray ADDRESS")
    return None
