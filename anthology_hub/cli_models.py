"""The options of every command that opens a model, and opening it with them."""

from __future__ import annotations

import click

from anthology_hub.console import Command
from anthology_hub.models import LanguageModel, open_model

_KEPT = "anthology_hub.models"


def model_options(command: Command) -> Command:
    """Add the options that say how a model on a server is asked; `opened` reads them."""
    for option in (
        click.option(
            "--concurrency",
            type=click.IntRange(min=1),
            expose_value=False,
            callback=_keep,
            help="Of a server: most requests at once; how many pay is found within that.",
        ),
        click.option(
            "--deadline",
            type=click.FloatRange(min=0, min_open=True),
            expose_value=False,
            callback=_keep,
            help="Of a server: seconds within which it must have answered a prompt.",
        ),
    ):
        command = option(command)
    return command


def opened(name: str) -> LanguageModel:
    """Open a model with what the running command was told of servers."""
    return open_model(name, **click.get_current_context().meta.get(_KEPT, {}))


def _keep(context: click.Context, option: click.Parameter, value: float | None) -> None:
    context.meta.setdefault(_KEPT, {})[option.name] = value
