"""One result as one page: a self-contained HTML file, and its plots as PNG files beside it.

The page opens from disk without a network, holds aggregates only, and says in words what a figure is and what to
compare it with. What it says is made in `report_words`, its pictures here; the template `data/report.html.j2` only lays
out. An undefined figure is an en dash, and the reasons stand together under what was left out.
"""

from __future__ import annotations

import base64
import importlib.util
import io
import json
import math
import textwrap
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from anthology_hub import evaluation, hub
from anthology_hub import report_words as words
from anthology_hub.diagnostics import Diagnosis, Panels, TraitMargin
from anthology_hub.errors import DataError, MissingExtraError
from anthology_hub.report_tables import OFF_SCALE, between, number, off_scale, percent, way
from anthology_hub.report_words import STATUS_WORDS, count
from anthology_hub.schema import DATA, Answers, Metric, Respondents, Result, Subgroup

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from anthology_hub.leaderboard import Row

PAGE, TEMPLATE = "report.html", "report.html.j2"
WIDTH, NARROW, DPI = 9.0, 4.4, 160
"""Inches of a picture, and of the same one on a phone."""
HUMAN, SIMULATED, GREY, INK, GUESS = "#0072B2", "#D55E00", "#C9CDD2", "#22262B", "#6B7280"
"""Blue and vermilion of Okabe and Ito (2008), which colour-blind readers tell apart."""
HATCHES = ("////", "....", "xxxx", "----")
"""Patterns of the options off a scale."""
MOST_TOLD = 20
"""Questions named in the words behind a picture."""
STYLE = {
    "font.size": 9,
    "font.family": "sans-serif",
    "text.usetex": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#8A9099",
    "axes.facecolor": "white",
    "axes.grid": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "xtick.color": INK,
    "ytick.color": INK,
}


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A picture of the page."""

    name: str
    png: bytes
    alt: str
    """What it shows, for those who cannot see it."""
    narrow: bytes = b""
    """The same for a phone; empty: none was drawn."""

    @property
    def uri(self) -> str:
        """The picture itself as an address, so that the page needs no other file."""
        return _uri(self.png)

    @property
    def narrow_uri(self) -> str:
        """The same for a phone; empty if there is none."""
        return _uri(self.narrow) if self.narrow else ""


def _uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def write_report(
    result: Result,
    folder: str | Path,
    *,
    answers: Answers | None = None,
    humans: Respondents | None = None,
    diagnosis: Diagnosis | None = None,
    rows: Sequence[Row] = (),
    intro: str = "",
) -> Path:
    """Write a result as one HTML page, with its plots as PNG files beside it.

    The page holds aggregates only. Files of the same names are replaced.

    Args:
        result: From `evaluate`.
        folder: Where to write; made if missing.
        answers: What the result was computed from; shows the wording of the questions, and with `humans` the
            correlations.
        humans: Whom the result was computed against.
        diagnosis: Of the cast that answered, from `diagnose`; shows how well the personas fit.
        rows: Lines of a leaderboard, from `rank`.
        intro: What a reader must know first; shown as a notice at the top.

    Returns:
        Path of the page.

    Raises:
        DataError: If the answers, humans or diagnosis are not those of the result.
        MissingExtraError: If matplotlib is not installed.

    Example:
        >>> import tempfile
        >>> from anthology_hub import Respondents, SimulateOptions, Survey, evaluate, open_model, simulate, unmatched
        >>> humans = Respondents.load("gss-2018").sample(60)
        >>> survey = Survey.load("gss-national-spending").select(["natenvir", "natsci", "natroad"])
        >>> options = SimulateOptions(conditioning="bio")
        >>> answers = simulate(unmatched(humans.sample(20)), survey, open_model("scripted:uniform"), options=options)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     page = write_report(evaluate(answers, humans), folder, answers=answers, humans=humans)
        ...     page.name, sorted(file.stem for file in page.parent.glob("*.png"))
        ('report.html', ['answers', 'correlations', 'headline'])
    """
    check_extras()
    _check_inputs(result, answers, humans, diagnosis)
    result = _defined(result)
    related = _Related.of(answers, humans)
    plots = {plot.name: plot for plot in _plots(result, answers, humans, diagnosis, related)}
    context = _context(result, answers, humans, diagnosis, related) | {"rows": rows, "plots": plots, "intro": intro}
    page = render(TEMPLATE, context)
    for plot in plots.values():
        hub.write_file(Path(folder) / f"{plot.name}.png", plot.png)
    hub.write_file(Path(folder) / PAGE, page.encode())
    return Path(folder) / PAGE


def check_extras() -> None:
    """Check that the packages that reports need are there.

    Raises:
        MissingExtraError: If one is not.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingExtraError("matplotlib", "plots", "reports")


def draw_diagnosis(diagnosis: Diagnosis, folder: str | Path) -> tuple[Path, ...]:
    """Draw how well a cast fits as PNG files: `matching.png` and `margins.png`. Files of these names are replaced.

    Raises:
        MissingExtraError: If matplotlib is not installed.

    Example:
        >>> import tempfile
        >>> from anthology_hub import Anthology, Respondents, diagnose, match
        >>> people, humans = Anthology.load("starter"), Respondents.load("gss-2018").sample(60)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     pictures = draw_diagnosis(diagnose(people, humans, match(people, humans)), folder)
        ...     [picture.name for picture in pictures]
        ['matching.png', 'margins.png']
    """
    check_extras()
    plots = [_matching_plot(diagnosis), _margins_plot(diagnosis)]
    for plot in plots:
        hub.write_file(Path(folder) / f"{plot.name}.png", plot.png)
    return tuple(Path(folder) / f"{plot.name}.png" for plot in plots)


def _check_inputs(
    result: Result, answers: Answers | None, humans: Respondents | None, diagnosis: Diagnosis | None
) -> None:
    if answers is not None and (run := answers.provenance.get("run_id")) != result.run_id:
        raise DataError(f"the answers are of run {run}, the result is of run {result.run_id}: give those of the result")
    if humans is not None:
        name = result.provenance.get("evaluation", {}).get("humans", humans.name)
        if (humans.name, len(humans)) != (name, result.n_humans):
            raise DataError(
                f"the result was computed against {result.n_humans} people of {name}, not against {len(humans)} of "
                f"{humans.name}: give the same humans as to evaluate"
            )
    if diagnosis is not None and diagnosis.cast != words.inputs_of(result).get("cast", {}).get(
        "digest", diagnosis.cast
    ):
        raise DataError(
            f"this diagnosis is of another cast of {len(diagnosis)} than run {result.run_id}: give that of its cast"
        )


def _defined(result: Result) -> Result:
    groups = (replace(one, metrics=tuple(map(_finite, one.metrics))) for one in result.subgroups)
    return replace(result, metrics=tuple(map(_finite, result.metrics)), subgroups=tuple(groups))


def _finite(metric: Metric) -> Metric:
    """Return a metric whose undefined figures are all None: a file written by others may hold NaN."""
    figures = {name: value for name, value in vars(metric).items() if isinstance(value, float)}
    lost: dict[str, Any] = {name: None for name, value in figures.items() if not math.isfinite(value)}
    return replace(metric, **lost)


# -- page --------------------------------------------------------------------------------------------------------------


def render(template: str, context: Mapping[str, Any]) -> str:
    """Lay out a page with one of the templates in `data`; everything in the context is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    # Names, notes and options come from files of others: everything is escaped, whatever the template is called.
    environment = Environment(
        loader=FileSystemLoader(DATA), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"number": number, "percent": percent}
    environment.globals["between"] = between
    return environment.get_template(template).render(context)


def _context(
    result: Result,
    answers: Answers | None,
    humans: Respondents | None,
    diagnosis: Diagnosis | None,
    related: _Related | None,
) -> dict[str, Any]:
    matched = words.inputs_of(result).get("matching")
    return {
        "result": result,
        "title": answers.survey.title if answers is not None and answers.survey.title else result.survey,
        "summary": words.summary(result),
        "level": words.level(result),
        "figures": (tables := words.figure_tables(result)),
        "columns": words.column_words(tables),
        "coverage": [(status, share, STATUS_WORDS.get(status, "")) for status, share in result.coverage.items()],
        "wording": {} if answers is None else {question.key: question.text for question in answers.survey.questions},
        "related": related,
        "subgroups": [_subgroup_row(one) for one in result.subgroups if one.metrics],
        "gaps": [one for one in result.subgroups if one.gap is not None],
        "least": words.judged(result).get("least"),
        "off_scale": off_scale(result),
        "left_out": words.left_out(result, answers),
        "citations": words.citations(result, answers),
        "rerun": words.rerun(result),
        "diagnosis": diagnosis,
        "weights": [] if diagnosis is None else weight_bins(diagnosis.panels().log_weights),
        "matched": matched,
        "diagnostics": words.diagnostics(diagnosis.figures if diagnosis else matched or {}),
        "provenance": words.provenance(result),
        "provenance_json": json.dumps(result.provenance, indent=1, ensure_ascii=False, default=str),
        "notes": words.notes(result, humans, diagnosis),
    }


def _subgroup_row(group: Subgroup) -> dict[str, Any]:
    wd = group.metric("wd_normalised")
    return {"group": group, "wd": wd, "floor": _floor(wd), "attained": way(wd)}


def _floor(metric: Metric) -> float | None:
    return metric.floor if metric.floor_equal_n is None else metric.floor_equal_n


@dataclass(frozen=True, kw_only=True)
class _Related:
    """Correlations among the questions whose options have an order."""

    keys: tuple[str, ...]
    humans: NDArray[np.float64]
    simulated: NDArray[np.float64]
    """Shape (keys, keys), as above."""

    @classmethod
    def of(cls, answers: Answers | None, humans: Respondents | None) -> _Related | None:
        """Return them; None where a side is not known, or no two questions have an order."""
        if answers is None or humans is None:
            return None
        chosen = answers.choices
        kept = [at for at, question in enumerate(chosen.survey.questions) if question.ordinal]
        if len(kept) < 2:
            return None
        sides = evaluation.human_figures(humans, chosen.survey), evaluation.simulated_figures(chosen)
        them, us = (side.correlation[0][np.ix_(kept, kept)] for side in sides)
        return cls(keys=tuple(chosen.survey.keys[at] for at in kept), humans=them, simulated=us)

    @property
    def undefined(self) -> bool:
        """Whether a cell is."""
        return bool(np.isnan(self.humans + self.simulated).any())

    @property
    def rows(self) -> list[tuple[str, str, float, float, float]]:
        """Every pair of questions with both correlations and their difference, the largest difference first."""
        found = [
            (one, other, float(them := self.humans[i, j]), float(us := self.simulated[i, j]), float(us - them))
            for i, one in enumerate(self.keys)
            for j, other in enumerate(self.keys[:i])
        ]
        return sorted(found, key=lambda pair: -np.nan_to_num(abs(pair[-1]), nan=-1.0))


# -- pictures ----------------------------------------------------------------------------------------------------------


def _plots(
    result: Result,
    answers: Answers | None,
    humans: Respondents | None,
    diagnosis: Diagnosis | None,
    related: _Related | None,
) -> Iterator[Plot]:
    yield _headline_plot(result)
    if any(one.metrics for one in result.subgroups):
        yield _subgroups_plot(result)
    if result.items:
        yield _answers_plot(result)
    if related is not None and answers is not None and humans is not None:
        yield _correlations_plot(related, f"humans ({len(humans)})", f"simulated ({len(answers)})")
    if diagnosis is not None:
        yield _matching_plot(diagnosis)
        yield _margins_plot(diagnosis)


def picture(height: float, draw: Callable[[Figure], None], *, width: float = WIDTH) -> bytes:
    """Draw a PNG of a size in inches on a canvas of our own: no window, no state shared with the user's plots."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        # The font that comes with matplotlib lacks some scripts; the tables of the page show every label in full.
        warnings.filterwarnings("ignore", message="Glyph")
        figure = Figure(figsize=(width, height), layout="constrained")
        canvas = FigureCanvasAgg(figure)
        draw(figure)
        # Without the version stamp the same result gives the same bytes.
        canvas.print_figure(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def _label(text: object, width: int) -> str:
    """Shorten a text for a plot, and keep matplotlib from reading dollar signs as mathematics."""
    return textwrap.shorten(str(text), width, placeholder="…").replace("$", r"\$") or "…"


def _headline_plot(result: Result) -> Plot:
    wd = result.metric("wd_normalised")
    lines = [
        ("this simulation", wd.value, SIMULATED),
        (f"random sample of {result.n} humans", wd.floor_equal_n, HUMAN),
        ("random halves of the humans", wd.floor, HUMAN),
        ("like people of the same demographics (cells)", wd.cells, GUESS),
        ("previous wave of the survey", wd.previous, GUESS),
        ("options at random (uniform)", wd.uniform, GUESS),
        ("most common answer (majority)", wd.majority, GUESS),
    ]
    known = [(name, value, colour) for name, value, colour in lines if value is not None]

    def draw(figure: Figure) -> None:
        ax = figure.subplots()
        for at, (name, value, colour) in enumerate(known):
            ax.plot([value], [at], "o", color=colour, markersize=8)
            ax.annotate(number(value), (value, at), (0, 7), textcoords="offset points", ha="center", color=colour)
            if name == lines[0][0] and wd.low is not None and wd.high is not None:
                ax.plot([wd.low, wd.high], [at, at], color=colour, linewidth=2.5, alpha=0.6, solid_capstyle="round")
        room = 24 if figure.get_figwidth() < WIDTH else 60
        ax.set_yticks(range(len(known)), [textwrap.fill(name, room) for name, _, _ in known])
        ax.set_ylim(len(known) - 0.5, -0.7)
        ax.set_xlim(0, 1.12 * max([0.05, *(v for _, v, _ in known), wd.high or 0]))
        ax.locator_params("x", nbins=room // 5)
        ax.grid(axis="y", color="#E5E7EB")
        ax.set_axisbelow(True)
        figure.supxlabel(textwrap.fill(_DISTANCE, 2 * room + 2), fontsize=9)

    said = "; ".join(f"{name} {number(value)}" for name, value, _ in known)
    return _in_two_widths("headline", 0.95 + 0.4 * len(known), draw, alt=f"Distance to the humans: {said}.")


_DISTANCE = "distance to the humans' answers: normalised Wasserstein distance, share of the scale"


def _in_two_widths(name: str, height: float, draw: Callable[[Figure], None], *, alt: str) -> Plot:
    wide, narrow = (picture(height, draw, width=width) for width in (WIDTH, NARROW))
    return Plot(name=name, png=wide, alt=alt, narrow=narrow)


def _subgroups_plot(result: Result) -> Plot:
    """Draw a forest: for each subgroup the distance with its interval and its floor; the whole sample as a line."""
    told = [one for one in result.subgroups if one.metrics]
    whole = result.metric("wd_normalised")
    starts = [at for at, one in enumerate(told) if at == 0 or one.trait != told[at - 1].trait]
    places = np.arange(len(told)) + np.searchsorted(starts, np.arange(len(told)), side="right")

    def draw(figure: Figure) -> None:
        ax, narrow = figure.subplots(), figure.get_figwidth() < WIDTH
        _whole_sample(ax, whole)
        _forest(ax, [one.metric("wd_normalised") for one in told], places.tolist())
        room = 22 if narrow else 40
        heads = {int(places[at]) - 1: _label(told[at].trait, room) for at in starts}
        names = [f"{_label(one.level, room)}  (n {one.n})" for one in told]
        ax.set_yticks([*places, *heads], [*names, *heads.values()], fontsize=8)
        for label in ax.get_yticklabels()[len(places) :]:
            label.set_fontweight("bold")
        ax.set_ylim(places[-1] + 0.6, -0.6)
        ax.set_xlim(left=0)
        ax.locator_params("x", nbins=room // 5)
        ax.tick_params(axis="y", length=0)
        figure.supxlabel(textwrap.fill(_DISTANCE, 50 if narrow else 100), fontsize=9)
        figure.legend(loc="outside upper center", ncols=2 if narrow else 4, frameon=False, fontsize=8, borderpad=0.2)

    alt = (
        f"Distance to the humans in each of {count(len(told), 'subgroup')}, {number(whole.value)} in the whole sample. "
        "The figures are in the table below."
    )
    return _in_two_widths("subgroups", 1.0 + 0.24 * (len(told) + len(starts)), draw, alt=alt)


def _whole_sample(ax: Axes, whole: Metric) -> None:
    if whole.value is not None:
        ax.axvline(whole.value, color=INK, linewidth=1, linestyle="--", label="whole sample")
    if whole.low is not None and whole.high is not None:
        ax.axvspan(whole.low, whole.high, color=GREY, alpha=0.4, linewidth=0, label="its interval")


def _forest(ax: Axes, held: Sequence[Metric], places: Sequence[int]) -> None:
    known = [(one.value, at, one) for one, at in zip(held, places, strict=True) if one.value is not None]
    floors = [(floor, at) for _, at, one in known if (floor := _floor(one)) is not None]
    for _, at, one in known:
        if one.low is not None and one.high is not None:
            ax.plot([one.low, one.high], [at, at], color=SIMULATED, linewidth=2, alpha=0.6)
    ax.plot([value for value, _, _ in known], [at for _, at, _ in known], "o", color=SIMULATED, label="simulation")
    ticks = ax.plot([floor for floor, _ in floors], [at for _, at in floors], "|", color=HUMAN, markersize=11)
    ticks[0].set(markeredgewidth=2, label="humans by chance (floor)")


@dataclass(frozen=True, kw_only=True)
class _Scale:
    """Options that questions share, in the order of their bars: the steps, then what lies off the scale."""

    options: tuple[str, ...]
    """As in the survey."""
    off: frozenset[str]

    @classmethod
    def of(cls, item: Mapping[str, Any]) -> _Scale:
        return cls(options=tuple(item["options"]), off=frozenset(item.get(OFF_SCALE, ())))

    @property
    def places(self) -> list[int]:
        return sorted(range(len(self.options)), key=lambda at: self.options[at] in self.off)

    @property
    def steps(self) -> int:
        return sum(option not in self.off for option in self.options)

    @property
    def labels(self) -> list[str]:
        """What the legend calls them."""
        named = (self.options[at] for at in self.places)
        return [_label(name, 60) + (" (off the scale)" if name in self.off else "") for name in named]

    def legend_columns(self, room: int) -> int:
        return max(1, min(len(self.options), room // (max(map(len, self.labels)) + 6)))

    def legend_lines(self, room: int) -> int:
        return math.ceil(len(self.options) / self.legend_columns(room))


def _answers_plot(result: Result) -> Plot:
    groups: dict[_Scale, list[Mapping[str, Any]]] = {}
    for item in result.items:
        groups.setdefault(_Scale.of(item), []).append(item)

    def drawn(width: float) -> bytes:
        room = int(100 * width / WIDTH)
        heights = [0.45 + 0.23 * scale.legend_lines(room) + 0.46 * len(items) for scale, items in groups.items()]

        def draw(figure: Figure) -> None:
            axes = figure.subplots(len(groups), squeeze=False, height_ratios=heights)[:, 0]
            for ax, (scale, items) in zip(axes, groups.items(), strict=True):
                _stacked_bars(ax, scale, items, room=room)

        return picture(sum(heights), draw, width=width)

    alt = (
        f"Share of each option among humans and simulated people for {count(len(result.items), 'question')}. "
        f"{_told_apart(result)}The shares are in the table below."
    )
    return Plot(name="answers", png=drawn(WIDTH), alt=alt, narrow=drawn(NARROW))


def _told_apart(result: Result) -> str:
    if not (items := off_scale(result)):
        return ""
    told = (
        f"{item['question']} {percent(item['off_scale_human'])} of the humans and "
        f"{percent(item['off_scale_simulated'])} of the simulated"
        for item in items[:MOST_TOLD]
    )
    more = f", and {count(len(items) - MOST_TOLD, 'more question')}" if len(items) > MOST_TOLD else ""
    return f"Answers off the scale stand apart, hatched: {'; '.join(told)}{more}. "


def _stacked_bars(ax: Axes, scale: _Scale, items: Sequence[Mapping[str, Any]], *, room: int) -> None:
    """Draw two bars for each question, the humans' above the simulated; what lies off the scale after a gap."""
    shares = np.nan_to_num([side for item in items for side in (item["human"], item["simulated"])])[:, scale.places]
    places = np.array([at + shift for at in range(len(items)) for shift in (-0.2, 0.2)])
    gap = 2.5 / room if scale.off else 0.0
    starts = np.cumsum(shares, axis=1) - shares + gap * (np.arange(shares.shape[1]) >= scale.steps)
    for k, (label, looks) in enumerate(zip(scale.labels, _looks(scale), strict=True)):
        bars = ax.barh(places, shares[:, k], 0.38, starts[:, k], linewidth=0.7, label=label, **looks.bar)
        texts = [f"{share:.0%}" if share >= 5 / room else "" for share in shares[:, k]]
        ax.bar_label(bars, texts, label_type="center", fontsize=7, **looks.text)
        for bar, share in zip(bars, shares[:, k], strict=True):
            # Of nothing, the frame would stay as a line.
            bar.set_visible(share > 0)
    names = [
        f"{_label(item['question'], max(12, room // 4))}   {who}" for item in items for who in ("humans", "simulated")
    ]
    ax.set_yticks(places, [name if at % 2 == 0 else "simulated" for at, name in enumerate(names)], fontsize=8)
    ax.set_ylim(len(items) - 0.5, -0.5)
    ax.set_xlim(0, 1 + 1.05 * gap)
    ax.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    _legend(ax, scale.legend_columns(room))


class _Looks(NamedTuple):
    """How the bars of an option look, and the shares in them."""

    bar: dict[str, Any]
    text: dict[str, Any]


def _looks(scale: _Scale) -> Iterator[_Looks]:
    import matplotlib

    # cividis runs evenly from dark to light for all readers: neighbours on the scale are neighbours in colour.
    for colour in matplotlib.colormaps["cividis"](np.linspace(0.04, 0.96, scale.steps)):
        ink = "white" if colour[:3] @ (0.299, 0.587, 0.114) < 0.55 else INK
        yield _Looks(bar={"color": [colour], "edgecolor": "white"}, text={"color": ink})
    # What is no step has no place between dark and light: it is told by its pattern.
    plain = {"boxstyle": "square,pad=0.15", "facecolor": "white", "edgecolor": "none"}
    for at in range(len(scale.off)):
        bar = {"facecolor": "white", "edgecolor": GUESS, "hatch": HATCHES[at % len(HATCHES)]}
        yield _Looks(bar=bar, text={"color": INK, "bbox": plain})


def _legend(ax: Axes, columns: int) -> None:
    """Name the options above the bars, to be read line by line; matplotlib by itself fills column by column."""
    handles = ax.get_legend_handles_labels()[0]
    order = [handle for column in range(columns) for handle in handles[column::columns]]
    ax.legend(
        handles=order, loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, frameon=False, fontsize=8, borderpad=0.2
    )


def _correlations_plot(related: _Related, them: str, us: str) -> Plot:
    keys = [_label(key, 16) for key in related.keys]
    apart = related.simulated - related.humans
    panels = {them: related.humans, us: related.simulated, "simulated minus humans": apart}

    def draw(figure: Figure) -> None:
        import matplotlib

        colours = matplotlib.colormaps["PuOr_r"].with_extremes(bad=GREY)
        axes = figure.subplots(1, 3, sharey=True)
        for ax, (title, matrix) in zip(axes, panels.items(), strict=True):
            image = ax.imshow(np.ma.masked_invalid(matrix), cmap=colours, vmin=-1, vmax=1, interpolation="nearest")
            ax.set_title(title)
            _name_cells(ax, keys)
        figure.colorbar(image, ax=axes, location="bottom", shrink=0.35, aspect=40, extend="both", label="correlation")

    alt = f"Correlations between {count(len(keys), 'question')}: humans, simulated, and simulated minus humans."
    return Plot(name="correlations", png=picture(4.3, draw), alt=alt)


def _name_cells(ax: Axes, keys: Sequence[str]) -> None:
    size = 8 if len(keys) <= 10 else 6.5 if len(keys) <= 20 else 5
    shown = keys if len(keys) <= 30 else []
    ax.set_xticks(range(len(shown)), shown, rotation=90, fontsize=size)
    ax.set_yticks(range(len(shown)), shown, fontsize=size)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


def _matching_plot(diagnosis: Diagnosis) -> Plot:
    panels = diagnosis.panels()

    def draw(figure: Figure) -> None:
        grid = figure.add_gridspec(2, 2, height_ratios=[2.9, tall])
        left, right = figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[0, 1])
        _weight_histogram(left, panels.log_weights)
        right.bar(panels.uses, panels.personas, 0.8, color=SIMULATED)
        right.set_xlim(0.4, panels.uses.max() + 0.6)
        right.set_xlabel("roles played by a persona")
        right.set_ylabel("personas")
        right.locator_params(integer=True)
        left.locator_params("y", integer=True)
        _fit_bars(figure.add_subplot(grid[1, :]), panels)

    tall = 0.6 + 0.4 * len(panels.traits)
    alt = (
        f"Histogram of {len(diagnosis)} matching weights, how many personas play how many roles, and how well they fit "
        f"in each of {count(len(panels.traits), 'trait')}. The figures are in the tables below."
    )
    return Plot(name="matching", png=picture(2.9 + tall, draw), alt=alt)


def _fit_bars(ax: Axes, panels: Panels) -> None:
    """Draw two bars for each trait: probability of the respondent's level, and how often it is the likeliest."""
    rows = np.arange(len(panels.traits))
    ax.barh(rows - 0.19, panels.mean_probability, 0.36, color=HUMAN, label="mean probability of the person's own level")
    ax.barh(rows + 0.19, panels.top_share, 0.36, color=SIMULATED, label="pairs in which it is the persona's likeliest")
    ax.set_yticks(rows, [_label(trait, 28) for trait in panels.traits])
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.set_xlim(0, 1)
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, fontsize=8, borderpad=0.2)


def _margins_plot(diagnosis: Diagnosis) -> Plot:
    rows = [(margin.trait, *row) for margin in diagnosis.margins for row in zip(*_sides(margin), strict=True)]
    names = [f"{_label(trait, 20)}: {_label(level, 34)}" for trait, level, _, _ in rows]
    shares = np.array([row[2:] for row in rows], dtype=np.float64)

    def draw(figure: Figure) -> None:
        ax, places = figure.subplots(), np.arange(len(rows))
        ax.hlines(places, shares[:, 0], shares[:, 1], color=GREY, linewidth=2)
        ax.plot(shares[:, 0], places, "o", color=HUMAN, label="people")
        ax.plot(shares[:, 1], places, "D", color=SIMULATED, markersize=5, label="personas of the cast")
        ax.set_yticks(places, names, fontsize=8)
        ax.set_ylim(len(rows) - 0.5, -0.5)
        ax.set_xlim(left=0)
        ax.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
        ax.grid(axis="y", color="#E5E7EB")
        ax.set_axisbelow(True)
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, fontsize=8, borderpad=0.2)

    alt = f"Shares of {count(len(rows), 'level')} among the people and in the cast. They are in the table below."
    return Plot(name="margins", png=picture(0.7 + 0.22 * len(rows), draw), alt=alt)


def _sides(margin: TraitMargin) -> tuple[Sequence[Any], ...]:
    return margin.levels, margin.humans, margin.cast


def weight_bins(log_weights: NDArray[np.float64]) -> list[tuple[float, float, int]]:
    """Return the ends of equal steps of a logarithmic scale of weights, and how many pairs lie in each.

    Products of many traits spread over orders of magnitude. A perfect fit has weight 1, the end of the scale: the last
    step is closed there. What is below the first, weights of 0 alone, is in it.

    Example:
        >>> [(round(low, 3), round(high, 3), n) for low, high, n in weight_bins(np.log([0.1, 1.0])) if n]
        [(0.1, 0.11, 1), (0.909, 1.0, 1)]
    """
    powers = np.minimum(log_weights / math.log(10), 0)
    ends = np.linspace(min(-1, math.floor(powers[np.isfinite(powers)].min(initial=0))), 0, 25)
    counts = np.histogram(powers.clip(min=ends[0]), ends)[0]
    return [(float(10**low), float(10**high), int(n)) for low, high, n in zip(ends, ends[1:], counts, strict=False)]


def _weight_histogram(ax: Axes, log_weights: NDArray[np.float64]) -> None:
    bins = weight_bins(log_weights)
    lows, highs = (np.log10([one[at] for one in bins]) for at in (0, 1))
    ax.bar(lows, [n for _, _, n in bins], highs - lows, align="edge", color=HUMAN, edgecolor="white", linewidth=0.7)
    ax.xaxis.set_major_formatter(lambda power, _: f"{10**power:.2g}")
    ax.set_xlim(lows[0], 0.02 * -lows[0])
    ax.set_xlabel("matching weight of a pair (logarithmic; 1: fits in every trait)")
    ax.set_ylabel("pairs")
