"""One result as one page: a self-contained HTML file, and its plots as PNG files beside it.

The page opens from disk without a network, holds aggregates only, and says in words what a figure is and what to
compare it with. Everything that decides is here; the template `data/report.html.j2` only lays out. An undefined figure
is an en dash, with the reason in words next to it.
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
from typing import TYPE_CHECKING, Any

import numpy as np

from anthology_hub import evaluation, hub
from anthology_hub.diagnostics import Diagnosis, Panels, TraitMargin
from anthology_hub.errors import DataError, MissingExtraError
from anthology_hub.schema import (
    ANSWERED,
    DATA,
    FAILED,
    REFUSED,
    UNPARSABLE,
    Answers,
    Metric,
    Respondents,
    Result,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from anthology_hub.leaderboard import Row

PAGE, TEMPLATE = "report.html", "report.html.j2"
DASH = "–"
SMALL_CELL = 10
"""Fewer humans than this behind a question: their shares may point at single people."""

WIDTH, DPI = 9.0, 160
HUMAN, SIMULATED, GREY, INK = "#0072B2", "#D55E00", "#C9CDD2", "#22262B"
"""Blue and vermilion of Okabe and Ito (2008), which colour-blind readers tell apart."""
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

METRIC_WORDS = {
    "wd_normalised": (
        "Answer distributions: Wasserstein distance, normalised",
        "Share of the scale, mean over the questions. 0: same distributions; 1: opposite ends.",
    ),
    "wd": (
        "Answer distributions: Wasserstein distance, raw",
        "Option steps, mean over the questions. 0 is best; not comparable between surveys with other scales.",
    ),
    "jsd": (
        "Answer distributions: Jensen-Shannon distance",
        "Mean over the questions, whatever the order of the options. 0: same distributions; 1: nothing shared.",
    ),
    "fro": (
        "Correlations between questions: Frobenius norm of the difference",
        "0 is best; grows with the number of questions.",
    ),
    "alpha": (
        "Internal consistency: Cronbach's alpha",
        "Best where it equals the humans' own; higher is not better.",
    ),
}
CONDITIONING_WORDS = {
    "nothing": "The model was told nothing about the person it stands in for.",
    "bio": "The model was told the person's demographic traits in short sentences, without a life story.",
    "qa": "The model was told the person's demographic traits as answered questions, without a life story.",
    "portray": "The model was told to answer as a person with the demographic traits, without a life story.",
    "anthology": "The model read the backstory (life story) of a persona, then the demographic traits of the person.",
    "primed": "The model read a backstory that was written from the person's demographic traits, then these traits.",
    "interview": "The model read the life-story interview of a persona, then the demographic traits of the person.",
}
MATCHING_WORDS = {
    "greedy": "Each respondent was given the persona whose demographics fit best; a persona may be used again.",
    "optimal": "Personas were assigned to respondents one to one so that the demographics fit best overall.",
    "capacity": "Personas were assigned so that the demographics fit best overall, each to a limited number of people.",
    "itself": "Every persona answered for itself, with its own traits.",
    "random": "Personas were assigned to respondents at random: the ablation, not the method.",
}
STATUS_WORDS = {
    ANSWERED: "an option was chosen; only these count in the figures",
    REFUSED: "the reply declines to answer",
    UNPARSABLE: "the reply names no option, or too little probability fell on the options",
    FAILED: "no reply came back",
}
DIAGNOSTIC_WORDS = {
    "mean_weight": (
        "Mean matching weight",
        "probability that a persona has all traits of its respondent; 1 is perfect",
    ),
    "zero_weight_share": ("Share of pairs with weight zero", "the persona contradicts its respondent in a trait"),
    "distinct_personas": ("Distinct personas", "how many different ones were cast"),
    "maximum_reuse": ("Maximum reuse", "roles played by the busiest persona"),
    "effective_personas": ("Effective number of personas", "Kish: as many as if all were used equally often"),
    "unannotated_levels": ("Missing annotations", "traits of personas that are not known; taken as uniform"),
    "unknown_respondent_levels": ("Unknown respondent traits", "taken as uniform"),
}


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A picture of the page."""

    name: str
    png: bytes
    alt: str
    """What it shows, for those who cannot see it."""

    @property
    def uri(self) -> str:
        """The picture itself as an address, so that the page needs no other file."""
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"


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
    result = replace(result, metrics=tuple(map(_finite, result.metrics)))
    plots = {plot.name: plot for plot in _plots(result, answers, humans, diagnosis)}
    page = render(TEMPLATE, _context(result, answers, humans, diagnosis, rows) | {"plots": plots, "intro": intro})
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
    if diagnosis is not None and diagnosis.cast != _inputs(result).get("cast", {}).get("digest", diagnosis.cast):
        raise DataError(
            f"this diagnosis is of another cast of {len(diagnosis)} than run {result.run_id}: give that of its cast"
        )


def _finite(metric: Metric) -> Metric:
    """Return a metric whose undefined figures are all None: a file written by others may hold NaN."""
    figures = {name: value for name, value in vars(metric).items() if isinstance(value, float)}
    lost: dict[str, Any] = {name: None for name, value in figures.items() if not math.isfinite(value)}
    return replace(metric, **lost)


def _inputs(result: Result) -> Mapping[str, Any]:
    inputs: Mapping[str, Any] = result.provenance.get("inputs", {})
    return inputs


# -- words -------------------------------------------------------------------------------------------------------------


def render(template: str, context: Mapping[str, Any]) -> str:
    """Lay out a page with one of the templates in `data`; everything in the context is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    # Names, notes and options come from files of others: everything is escaped, whatever the template is called.
    environment = Environment(
        loader=FileSystemLoader(DATA), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"number": _number, "percent": _percent}
    environment.globals["between"] = _between
    return environment.get_template(template).render(context)


def _context(
    result: Result,
    answers: Answers | None,
    humans: Respondents | None,
    diagnosis: Diagnosis | None,
    rows: Sequence[Row],
) -> dict[str, Any]:
    return {
        "result": result,
        "title": answers.survey.title if answers is not None and answers.survey.title else result.survey,
        "summary": _summary(result),
        "level": _level(result),
        "metrics": [_metric_row(metric, result) for metric in sorted(result.metrics, key=_place)],
        "coverage": [(status, share, STATUS_WORDS.get(status, "")) for status, share in result.coverage.items()],
        "rows": rows,
        "surveys": {row.survey for row in rows},
        "wording": {} if answers is None else {question.key: question.text for question in answers.survey.questions},
        "undefined_cells": _undefined_cells(answers, humans),
        "diagnosis": diagnosis,
        "matched": _inputs(result).get("matching"),
        "diagnostics": _diagnostics(diagnosis.figures if diagnosis else _inputs(result).get("matching", {})),
        "provenance": _provenance(result),
        "provenance_json": json.dumps(result.provenance, indent=1, ensure_ascii=False, default=str),
        "notes": _notes(result, humans, diagnosis),
    }


def _number(value: float | None, digits: int = 3) -> str:
    """Return a figure with a fixed number of decimals and a true minus sign; an en dash for what is undefined."""
    if value is None or not math.isfinite(value):
        return DASH
    return f"{value:z.{digits}f}".replace("-", "−")


def _percent(value: float | None) -> str:
    return DASH if value is None or not math.isfinite(value) else f"{value:.1%}"


def _between(low: float | None, high: float | None, digits: int = 3) -> str:
    return DASH if DASH in (ends := (_number(low, digits), _number(high, digits))) else " to ".join(ends)


def _level(result: Result) -> str:
    return f"{100 * result.provenance.get('evaluation', {}).get('level', 0.95):g}%"


def _summary(result: Result) -> list[str]:
    """Say what was done, what came out and what to hold it against, for readers who do not know the metrics."""
    return [text for text in (_who(result), *_headline(result), _consistency(result), _answered(result)) if text]


def _people(result: Result) -> str:
    if not result.n_humans:
        return "a group of which only the shares of answers are known"
    weighted = result.n_effective is not None and round(result.n_effective) < result.n_humans
    few = f", {result.n_effective:.0f} effective after weighting (Kish)" if weighted else ""
    return f"{result.n_humans} people{few}"


def _who(result: Result) -> str:
    conditioning, _, matching = result.method.partition("/")
    model = f"{result.developer}/{result.model}"
    speaker = (
        f"{model}, a rule in place of a model" if result.developer == "scripted" else f"the language model {model}"
    )
    words = (
        f"{result.n} people were simulated{'' if matching == 'itself' else ', each in place of one respondent'}, by "
        f"{speaker}.",
        CONDITIONING_WORDS.get(conditioning, f"The method was {result.method}."),
        MATCHING_WORDS.get(matching, ""),
        f"Their answers to {_count(len(result.questions), 'question')} are compared with those of",
        f"{_people(result)}.",
    )
    return " ".join(filter(None, words))


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _headline(result: Result) -> Iterator[str]:
    wd, raw = result.metric("wd_normalised"), result.metric("wd")
    if wd.value is None:
        yield f"The distance between the simulated and the human answers is undefined. {wd.note}"
        return
    interval = "" if wd.low is None else f" ({_level(result)} interval {_between(wd.low, wd.high)})"
    yield (
        f"The headline figure: on average over the questions, the simulated answers lie {_number(wd.value)} of the "
        f"scale away from the humans'{interval}. This is the normalised Wasserstein distance: 0 means that both groups "
        f"answered alike, 1 that they sit at opposite ends. In raw option steps it is {_number(raw.value)}."
    )
    yield " ".join(filter(None, (_best(wd, result.n), _guesses(wd))))


def _best(wd: Metric, n: int) -> str:
    """Compare with what real people reach."""
    if (floor := wd.floor_equal_n) is not None:
        people = f"a random sample of {n} humans"
    elif (floor := wd.floor) is not None:
        people = "one random half of the humans, held against the other,"
    else:
        return "There is no human floor to compare with."
    place = {
        -1: "even closer than people drawn at random: find out why before you rely on it",
        0: "about as close as real people",
        1: "still further away than real people",
        None: "to be held against that",
    }[_side(wd, floor)]
    return f"The human floor: {people} lies {_number(floor)} away, by chance alone. The simulation is {place}."


def _guesses(wd: Metric) -> str:
    """Compare with what takes no knowledge of people at all."""
    named = {"choosing options at random": wd.uniform, "giving everybody the humans' most common answer": wd.majority}
    words = {-1: "closer to the humans than", 0: "not distinguishable from", 1: "further away than", None: "beside"}
    known = [f"{words[_side(wd, v)]} {what} ({_number(v)})" for what, v in named.items() if v is not None]
    return f"Against guessing, it is {' and '.join(known)}." if known else ""


def _side(metric: Metric, reference: float) -> int | None:
    """Return -1 if the interval lies below a reference, 1 if above, 0 if around it; None without an interval."""
    if metric.low is None or metric.high is None:
        return None
    return int(metric.low > reference) - int(metric.high < reference)


def _consistency(result: Result) -> str:
    alpha = result.metric("alpha")
    if alpha.value is None or alpha.human is None:
        return ""
    return (
        f"Whether the answers of one person hang together: Cronbach's alpha is {_number(alpha.value)} for the "
        f"simulation and {_number(alpha.human)} for the humans."
    )


def _answered(result: Result) -> str:
    share = result.coverage.get(ANSWERED)
    if share is None or share == 1:
        return ""
    return f"{_percent(share)} of the questions got an answer; the rest is counted below and left out of the figures."


def _place(metric: Metric) -> int:
    """Put the headline figure first, and metrics that this module does not know last."""
    return [*METRIC_WORDS, metric.name].index(metric.name)


def _metric_row(metric: Metric, result: Result) -> dict[str, Any]:
    title, meaning = METRIC_WORDS.get(metric.name, (metric.name, metric.unit))
    companions = (metric.floor, metric.floor_equal_n, metric.uniform, metric.majority, metric.human)
    return {
        "title": title,
        "meaning": meaning,
        "value": _number(metric.value),
        "interval": _between(metric.low, metric.high),
        "companions": [_number(figure) for figure in companions],
        "note": " ".join(_why(metric, result)),
    }


def _why(metric: Metric, result: Result) -> Iterator[str]:
    """Say why each en dash of a metric is one."""
    if metric.note:
        yield metric.note
    elif metric.value is None:
        yield "Undefined; the run does not say why."
    if metric.value is not None and metric.low is None:
        yield "No interval: too few bootstrap draws are defined."
    if metric.floor is None:
        yield "No split-half floor: it is not defined on halves of these humans."
    if metric.floor_equal_n is None:
        yield _why_no_equal(result)
    if metric.uniform is None:
        yield "The uniform baseline is not defined."
    if metric.majority is None:
        alike = metric.name in ("fro", "alpha")
        yield "No majority baseline" + (": answers that are all the same have no correlations." if alike else ".")


def _why_no_equal(result: Result) -> str:
    if result.n < result.n_humans:
        return "No floor at equal n: it is not defined on such small samples of humans."
    than = "as large as" if result.n == result.n_humans else "larger than"
    return f"No floor at equal n: the cast is {than} the group of humans, so no smaller sample can be drawn."


def _undefined_cells(answers: Answers | None, humans: Respondents | None) -> bool:
    if answers is None or humans is None:
        return False
    return any(bool(np.isnan(matrix).any()) for matrix in _correlations(answers, humans))


def _correlations(answers: Answers, humans: Respondents) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    them, us = evaluation.human_figures(humans, answers.survey), evaluation.simulated_figures(answers)
    return them.correlation[0], us.correlation[0]


def _diagnostics(found: Mapping[str, float]) -> list[tuple[str, str, str]]:
    """Return label, figure and meaning of each known diagnostic."""
    known = [(name, words) for name, words in DIAGNOSTIC_WORDS.items() if name in found]
    return [(label, _diagnostic(name, found[name]), meaning) for name, (label, meaning) in known]


def _diagnostic(name: str, value: float) -> str:
    if name == "mean_weight" and 0 < value < 0.001:
        return f"{value:.1e}".replace("e-0", "e-").replace("-", "−")
    if name == "zero_weight_share":
        return _percent(value)
    return _number(value, 3 if name == "mean_weight" else 1 if name == "effective_personas" else 0)


def _provenance(result: Result) -> list[tuple[str, str]]:
    """Return what names the inputs of the result by content; what the run does not know is left out."""
    inputs, judged = _inputs(result), result.provenance.get("evaluation", {})
    software = result.provenance.get("software", {})
    model, survey, cast = (inputs.get(name, {}) for name in ("model", "survey", "cast"))
    dirty = " (with uncommitted changes)" if software.get("dirty") else ""
    found = {
        "Run": result.run_id,
        "Created": result.created,
        "Collection": inputs.get("collection") or "none",
        "Matching": cast.get("method"),
        "Cast digest": cast.get("digest"),
        "Matched traits": ", ".join(cast.get("traits", ())),
        "Model": f"{result.developer}/{result.model}",
        "Model revision": model.get("revision"),
        "Model layout and device": " ".join(filter(None, (model.get(name) for name in ("layout", "dtype", "device")))),
        "Survey": result.survey,
        "Survey digest": survey.get("digest"),
        "Seed": inputs.get("seed"),
        "Options": _pairs(inputs.get("options", {})),
        "Humans": f"{judged.get('humans', '')}, {_people(result)}",
        "Source of the humans": judged.get("humans_source"),
        "Evaluation": _pairs({k: v for k, v in judged.items() if not k.startswith("humans")}),
        "anthology_hub": f"{software.get('anthology_hub', '')} {software.get('commit', '')}{dirty}".strip(),
        "Packages": _pairs(software.get("packages", {})),
    }
    return [(label, str(value)) for label, value in found.items() if value not in (None, "")]


def _pairs(values: Mapping[str, Any]) -> str:
    nested = {name: f"({_pairs(value)})" for name, value in values.items() if isinstance(value, Mapping)}
    shown = {name: nested.get(name) or json.dumps(value, default=str) for name, value in values.items()}
    return ", ".join(f"{name} {value}" for name, value in shown.items()).replace('"', "")


def _notes(result: Result, humans: Respondents | None, diagnosis: Diagnosis | None) -> list[str]:
    notes = list(result.notes)
    if humans is not None:
        notes += [f"{humans.name}: {note}" for note in humans.notes]
    if few := [str(item["question"]) for item in result.items if (item["n_human"] or SMALL_CELL) < SMALL_CELL]:
        notes.append(
            f"Fewer than {SMALL_CELL} humans answered {', '.join(few)}: shares of so few can point at single people, "
            "so think before you pass this page on."
        )
    if diagnosis is not None and (few := [m.trait for m in diagnosis.margins if _rarest(m, diagnosis) < SMALL_CELL]):
        notes.append(
            f"Fewer than {SMALL_CELL} of the matched people have some level of {', '.join(few)}: margins of so few can "
            "point at single people, too."
        )
    return notes


def _rarest(margin: TraitMargin, diagnosis: Diagnosis) -> float:
    """About how many people have the rarest level that anybody has."""
    people = len(diagnosis) + len(diagnosis.unmatched)
    return people * min((share for share in margin.humans if share > 0), default=1.0)


# -- pictures ----------------------------------------------------------------------------------------------------------


def _plots(
    result: Result, answers: Answers | None, humans: Respondents | None, diagnosis: Diagnosis | None
) -> Iterator[Plot]:
    yield _headline_plot(result)
    if result.items:
        yield _answers_plot(result)
    if answers is not None and humans is not None:
        yield _correlations_plot(answers, humans)
    if diagnosis is not None:
        yield _matching_plot(diagnosis)
        yield _margins_plot(diagnosis)


def picture(height: float, draw: Callable[[Figure], None]) -> bytes:
    """Draw a PNG of a height in inches on a canvas of our own: no window, no state shared with the user's plots."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        # The font that comes with matplotlib lacks some scripts; the tables of the page show every label in full.
        warnings.filterwarnings("ignore", message="Glyph")
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
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
        ("options at random (uniform)", wd.uniform, "#6B7280"),
        ("most common answer (majority)", wd.majority, "#6B7280"),
    ]
    known = [(name, value, colour) for name, value, colour in lines if value is not None]

    def draw(figure: Figure) -> None:
        ax = figure.subplots()
        for at, (name, value, colour) in enumerate(known):
            ax.plot([value], [at], "o", color=colour, markersize=8)
            ax.annotate(_number(value), (value, at), (0, 7), textcoords="offset points", ha="center", color=colour)
            if name == lines[0][0] and wd.low is not None and wd.high is not None:
                ax.plot([wd.low, wd.high], [at, at], color=colour, linewidth=2.5, alpha=0.6, solid_capstyle="round")
        ax.set_yticks(range(len(known)), [name for name, _, _ in known])
        ax.set_ylim(len(known) - 0.5, -0.7)
        ax.set_xlim(0, 1.12 * max([0.05, *(v for _, v, _ in known), wd.high or 0]))
        ax.grid(axis="y", color="#E5E7EB")
        ax.set_axisbelow(True)
        ax.set_xlabel("distance to the humans' answers: normalised Wasserstein distance, share of the scale")

    said = "; ".join(f"{name} {_number(value)}" for name, value, _ in known)
    return Plot(name="headline", png=picture(0.85 + 0.4 * len(known), draw), alt=f"Distance to the humans: {said}.")


def _answers_plot(result: Result) -> Plot:
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for item in result.items:
        groups.setdefault(tuple(item["options"]), []).append(item)
    heights = [0.45 + 0.23 * _legend_lines(options) + 0.46 * len(items) for options, items in groups.items()]

    def draw(figure: Figure) -> None:
        axes = figure.subplots(len(groups), squeeze=False, height_ratios=heights)[:, 0]
        for ax, (options, items) in zip(axes, groups.items(), strict=True):
            _stacked_bars(ax, options, items)

    alt = f"Share of each option among humans and simulated people for {_count(len(result.items), 'question')}."
    return Plot(name="answers", png=picture(sum(heights), draw), alt=f"{alt} The shares are in the table below.")


def _legend_columns(options: Sequence[str]) -> int:
    return max(1, min(len(options), 100 // (max(len(_label(option, 60)) for option in options) + 6)))


def _legend_lines(options: Sequence[str]) -> int:
    return math.ceil(len(options) / _legend_columns(options))


def _stacked_bars(ax: Axes, options: Sequence[str], items: Sequence[Mapping[str, Any]]) -> None:
    """Draw two bars for each question, the humans' above the simulated."""
    import matplotlib

    shares = np.nan_to_num([side for item in items for side in (item["human"], item["simulated"])])
    places = np.array([at + shift for at in range(len(items)) for shift in (-0.2, 0.2)])
    starts = np.cumsum(shares, axis=1) - shares
    # cividis runs evenly from dark to light for all readers: neighbours on the scale are neighbours in colour.
    colours = matplotlib.colormaps["cividis"](np.linspace(0.04, 0.96, len(options)))
    for k, option in enumerate(options):
        bars = ax.barh(places, shares[:, k], 0.38, starts[:, k], color=colours[k], edgecolor="white", linewidth=0.7)
        bars.set_label(_label(option, 60))
        ink = "white" if colours[k, :3] @ (0.299, 0.587, 0.114) < 0.55 else INK
        texts = [f"{share:.0%}" if share >= 0.05 else "" for share in shares[:, k]]
        ax.bar_label(bars, texts, label_type="center", fontsize=7, color=ink)
    names = [f"{_label(item['question'], 28)}   {who}" for item in items for who in ("humans", "simulated")]
    ax.set_yticks(places, [name if at % 2 == 0 else "simulated" for at, name in enumerate(names)], fontsize=8)
    ax.set_ylim(len(items) - 0.5, -0.5)
    ax.set_xlim(0, 1)
    ax.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    _legend(ax, _legend_columns(options))


def _legend(ax: Axes, columns: int) -> None:
    """Name the options above the bars, to be read line by line; matplotlib by itself fills column by column."""
    handles = ax.get_legend_handles_labels()[0]
    order = [handle for column in range(columns) for handle in handles[column::columns]]
    ax.legend(
        handles=order, loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, frameon=False, fontsize=8, borderpad=0.2
    )


def _correlations_plot(answers: Answers, humans: Respondents) -> Plot:
    them, us = _correlations(answers, humans)
    keys = [_label(key, 16) for key in answers.survey.keys]
    panels = {f"humans ({len(humans)})": them, f"simulated ({len(answers)})": us, "simulated minus humans": us - them}

    def draw(figure: Figure) -> None:
        import matplotlib

        colours = matplotlib.colormaps["PuOr_r"].with_extremes(bad=GREY)
        axes = figure.subplots(1, 3, sharey=True)
        for ax, (title, matrix) in zip(axes, panels.items(), strict=True):
            image = ax.imshow(np.ma.masked_invalid(matrix), cmap=colours, vmin=-1, vmax=1, interpolation="nearest")
            ax.set_title(title)
            _name_cells(ax, keys)
        figure.colorbar(image, ax=axes, location="bottom", shrink=0.35, aspect=40, extend="both", label="correlation")

    alt = f"Correlations between {_count(len(keys), 'question')}: humans, simulated, and simulated minus humans."
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
        _weight_histogram(left, panels.log_weights / math.log(10))
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
        f"in each of {_count(len(panels.traits), 'trait')}. The fit is in the table below."
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

    alt = f"Shares of {_count(len(rows), 'level')} among the people and in the cast. They are in the table below."
    return Plot(name="margins", png=picture(0.7 + 0.22 * len(rows), draw), alt=alt)


def _sides(margin: TraitMargin) -> tuple[Sequence[Any], ...]:
    return margin.levels, margin.humans, margin.cast


def _weight_histogram(ax: Axes, weights: NDArray[np.float64]) -> None:
    """Draw log10 weights on a scale of weights: products of many traits spread over orders of magnitude."""
    lowest = min(-1, math.floor(weights.min()))
    # A perfect fit has weight 1, the end of the scale: the last bin is closed there.
    ax.hist(np.minimum(weights, 0), np.linspace(lowest, 0, 25).tolist(), color=HUMAN, edgecolor="white", linewidth=0.7)
    ax.xaxis.set_major_formatter(lambda power, _: f"{10**power:.2g}")
    ax.set_xlim(lowest, 0.02 * -lowest)
    ax.set_xlabel("matching weight of a pair (logarithmic; 1: fits in every trait)")
    ax.set_ylabel("pairs")
