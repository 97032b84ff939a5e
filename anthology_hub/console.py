"""What the commands share: options, loading what they name, and printing."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import click

from anthology_hub.collection import STARTER, Anthology
from anthology_hub.custody import DESCRIPTION
from anthology_hub.ddi import ddi_codebook
from anthology_hub.errors import OptionError
from anthology_hub.hub import write_file
from anthology_hub.humans import Respondents, sources
from anthology_hub.questionnaires import SUFFIXES, read_survey
from anthology_hub.ranking import NOTES, Row
from anthology_hub.runs import Progress
from anthology_hub.schema import Survey
from anthology_hub.statfiles import LabelledTable, write_data

Command = Callable[..., None]
TABLES = ("sav", "dta", "parquet", "csv", "ddi")
"""Forms in which tables leave: SPSS, Stata, two plain ones with a codebook beside them, and a DDI-Codebook."""
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
seed_option = click.option("--seed", default=0, show_default=True, help="Seed of every draw.")


def people_options(command: Command) -> Command:
    """Add the options that name a collection and conditions on its personas."""
    for option in (
        click.option(
            "--where",
            "conditions",
            multiple=True,
            metavar="TRAIT=LEVEL[|LEVEL]",
            help="Keep personas with these levels.",
        ),
        click.option(
            "--collection", default=STARTER, show_default=True, help="starter, a folder, or a dataset repository."
        ),
        click.option("--revision", help="Branch, tag or commit of a repository."),
    ):
        command = option(command)
    return command


def human_options(command: Command) -> Command:
    """Add the options that name respondents."""
    for option in (
        click.option(
            "--humans",
            default="gss-2018",
            show_default=True,
            help="A source of `list humans`, a folder of `humans import`, or a file of a known layout.",
        ),
        click.option("--wave", type=int, help="Year, where a file has several."),
    ):
        command = option(command)
    return command


def load_people(collection: str, revision: str | None, conditions: Sequence[str]) -> Anthology:
    """Load a collection and keep the personas that fit the conditions."""
    people = Anthology.load(collection, revision=revision)
    wanted: dict[str, Any] = {}
    for condition in conditions:
        trait, sign, levels = condition.partition("=")
        if not sign or not levels:
            raise OptionError(f"--where {condition!r} is not TRAIT=LEVEL, such as region=South or 'age=50-64|65+'")
        wanted[trait] = levels.split("|")
    return people.where(**wanted) if wanted else people


def load_humans(name: str, wave: int | None) -> Respondents:
    """Load respondents from a known source, a folder that was imported, or a file of a known layout."""
    kept = (Path(name) / DESCRIPTION).is_file()
    # A folder of the user's that is called like a source does not hide it.
    if kept or name in sources() or not (Path(name).suffix or Path(name).exists()):
        return Respondents.load(name)
    options: dict[str, Any] = {} if wave is None else {"wave": wave}
    return Respondents.from_file(name, **options).asked()


def load_survey(name: str) -> Survey:
    """Load a shipped survey by name, or a survey file of any known kind by path."""
    return read_survey(Path(name)).survey if Path(name).suffix.lower() in SUFFIXES else Survey.load(name)


class Bars:
    """Progress bars with answers per second and the time left."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet, self._bars = quiet, []  # type: ignore[var-annotated]

    def __enter__(self) -> Bars:
        return self

    def __exit__(self, *_: object) -> None:
        for bar in self._bars:
            bar.close()

    def start(self, name: str) -> Progress:
        """Begin a bar and return what moves it."""
        from tqdm import tqdm

        bar = tqdm(desc=f"   {name}", unit=" answers", disable=self._quiet or not sys.stderr.isatty(), leave=False)
        self._bars.append(bar)

        def update(done: int, total: int) -> None:
            if bar.total is None:
                # What an earlier call answered does not count towards the rate of this one.
                bar.total, bar.initial, bar.n = total, done, done
            bar.update(done - bar.n)
            if done >= total:
                bar.close()

        return update


def print_json(value: object) -> None:
    """Print a value as JSON."""
    click.echo(json.dumps(value, indent=1, ensure_ascii=False))


def print_tree(value: dict[str, Any], indent: str = "") -> None:
    """Print nested values with indents."""
    for name, entry in value.items():
        if isinstance(entry, dict):
            click.echo(f"{indent}{name}")
            print_tree(entry, f"{indent}  ")
        elif isinstance(entry, list) and entry and isinstance(entry[0], dict):
            click.echo(f"{indent}{name}")
            for item in entry:
                click.echo(f"{indent}  " + ", ".join(f"{key}: {field}" for key, field in item.items()))
        elif isinstance(entry, list | tuple):
            click.echo(f"{indent}{name:20} {', '.join(map(str, entry))}")
        else:
            click.echo(f"{indent}{name:20} {entry}")


def print_board(rows: Sequence[Row]) -> None:
    """Print ranked rows, group by group."""
    head = f"{'#':>4} {'in class':>8} {'method':26} {'WD norm.':>8}  {'95% interval':16} {'closed':>6} {'WD steps':>8}"
    head += f" {'Fro':>6} {'alpha (humans)':>14} {'cover':>6} {'n':>5}  {'verified':13} model, revision, date"
    for group in dict.fromkeys(row.group for row in rows):
        click.echo(f"{group}\n{head}")
        for row in (row for row in rows if row.group == group):
            between = f"[{figure(row.low)}, {figure(row.high)}]" if row.low is not None else ""
            cover = "" if row.coverage is None else f"{row.coverage:.0%}"
            closed = "" if row.closed is None else f"{row.closed:.0%}"
            click.echo(
                f"{row.place:>4} {row.class_place:>8} {row.method:26} {figure(row.wd_normalised):>8}  {between:16} "
                f"{closed:>6} {figure(row.wd):>8} {figure(row.fro, 2):>6} {_alpha(row):>14} {cover:>6} "
                f"{row.n or '':>5}  {row.verdict:13} {row.model} {row.model_revision[:14]} {row.date[:10]}".rstrip()
            )
    for note in NOTES:
        click.echo(fill(note.replace("`", ""), 110))


def _alpha(row: Row) -> str:
    own = figure(row.alpha, 2)
    return own if row.human_alpha is None or row.rank is None else f"{own} ({figure(row.human_alpha, 2)})"


def write_table(table: LabelledTable, out: str | Path, form: str) -> None:
    """Write a labelled table in one of the forms TABLES, and say what the format could not hold."""
    path = Path(out)
    if form == "ddi":
        if path.exists():
            raise OptionError(f"{path} is there already: give a new file")
        write_file(path, ddi_codebook(table))
        notes: Sequence[str] = ()
    elif path.suffix.lower() != f".{form}":
        raise OptionError(f"{path} does not end in .{form}: name the file by its form")
    else:
        notes = write_data(table, path)
    click.echo(f"{path}: {len(table.frame)} rows, {len(table.variables)} columns")
    for note in notes:
        click.echo(f"note: {note}")


def one_line(text: str) -> str:
    """Return a text without line breaks, and without what would steer the terminal."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())


def figure(value: float | None, digits: int = 3) -> str:
    """Return a number as text, a dash for none."""
    return "-" if value is None else f"{value:.{digits}f}"
