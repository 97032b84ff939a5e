"""Results as tables: the layout of the paper in Markdown and LaTeX, every figure as CSV, and what a notebook shows."""

from __future__ import annotations

import csv
import io
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from anthology_hub.errors import EmptyError, OptionError, UnknownNameError
from anthology_hub.measures import AGREEMENT, DISTANCE, MEASURES, PROPERTY, attained
from anthology_hub.schema import Metric, Result

DASH = "–"
HEADLINES = ("wd_normalised", "wd", "fro", "alpha")
"""The figure that ranks, and the three of the paper's tables."""
FAMILIES: Mapping[str, tuple[str, ...]] = {
    "Answer distributions": ("wd_normalised", "wd", "jsd", "tv", "kl"),
    "Correlations and consistency": ("fro", "fro_spearman", "fro_polychoric", "cbs", "alpha", "omega"),
    "Spread of the answers": ("variance_ratio", "entropy_ratio"),
    "Person by person": (
        "accuracy",
        "mad_accuracy",
        "item_correlation",
        "normalised_accuracy",
        "normalised_mad_accuracy",
    ),
    "Demographics": ("explained", "group_gaps", "coefficients"),
}
OTHER = "Other figures"
SHORT: Mapping[str, str] = {
    "wd_normalised": "WD normalised",
    "wd": "WD (option steps)",
    "jsd": "Jensen-Shannon",
    "tv": "Total variation",
    "kl": "Kullback-Leibler",
    "fro": "Fro",
    "fro_spearman": "Fro (Spearman)",
    "fro_polychoric": "Fro (polychoric)",
    "cbs": "CBS",
    "alpha": "Alpha",
    "omega": "Omega",
    "variance_ratio": "SD ratio",
    "entropy_ratio": "Entropy ratio",
    "accuracy": "Accuracy",
    "mad_accuracy": "MAD accuracy",
    "item_correlation": "Item correlation",
    "normalised_accuracy": "Accuracy / retest",
    "normalised_mad_accuracy": "MAD / retest",
    "explained": "Explained variance",
    "group_gaps": "Group gaps (d)",
    "coefficients": "Coefficients",
}
BASELINES = ("uniform", "majority", "margins", "cells", "previous")
COMPANY = ("floor", "floor_equal_n", *BASELINES, "human", "attained")
"""Fields of a metric beside its value and interval, in the order in which they are shown."""
ITEM_UNITS: Mapping[str, str] = {
    **{name: MEASURES[name].unit for name in ("wd_normalised", "wd", "jsd")},
    "order_gap": "share of the probability",
}
"""Figures of a single question -> unit; `order_gap`: what moves when the options are asked in the other order."""
OFF_SCALE = "off_scale"
"""Share of the answers to a question that name an option off its scale ("not sure"); of a question that has such."""
PAPER = ("wd", "fro", "alpha")
"""Columns of the paper's tables (Moon et al. 2024, table 1)."""
_HEADS = {"wd": "WD ↓", "fro": "Fro ↓", "alpha": "α"}
"""How the paper heads its columns; the others are headed by their short names."""
_ARROWS = {DISTANCE: " ↓", AGREEMENT: " ↑", PROPERTY: ""}


def number(value: float | None, digits: int = 3) -> str:
    """Return a figure with a fixed number of decimals and a true minus sign; an en dash for what is undefined.

    Example:
        >>> number(-0.12345), number(None), number(-0.0001)
        ('−0.123', '–', '0.000')
    """
    if value is None or not math.isfinite(value):
        return DASH
    return f"{value:z.{digits}f}".replace("-", "−")


def percent(value: float | None, digits: int = 1) -> str:
    """Return a share in percent; an en dash for what is undefined."""
    return DASH if value is None or not math.isfinite(value) else f"{value:z.{digits}%}".replace("-", "−")


def between(low: float | None, high: float | None, digits: int = 3) -> str:
    """Return the ends of an interval; an en dash if one is undefined."""
    return DASH if DASH in (ends := (number(low, digits), number(high, digits))) else " to ".join(ends)


def short(name: str) -> str:
    """Return what a figure is called where there is little room; one that is not known keeps its name."""
    return SHORT.get(name, name)


def families(metrics: Sequence[Metric]) -> dict[str, tuple[Metric, ...]]:
    """Return the figures by family, in the order of FAMILIES; those of no family last, families without any left out.

    Example:
        >>> list(families([Metric(name="alpha", value=0.7, unit=""), Metric(name="wd", value=0.1, unit="")]))
        ['Answer distributions', 'Correlations and consistency']
    """
    place = {name: (family, at) for family, names in FAMILIES.items() for at, name in enumerate(names)}
    found: dict[str, list[Metric]] = {family: [] for family in (*FAMILIES, OTHER)}
    for metric in sorted(metrics, key=lambda one: place.get(one.name, (OTHER, 0))[1]):
        found[place.get(metric.name, (OTHER, 0))[0]].append(metric)
    return {family: tuple(members) for family, members in found.items() if members}


def way(metric: Metric) -> float | None:
    """Return the part of the way from uniform to the humans, also of a result that was written without it."""
    return attained(metric) if metric.attained is None else metric.attained


def humans_of(result: Result) -> str:
    """Return the name of the humans that a result was computed against."""
    return str(result.provenance.get("evaluation", {}).get("humans", ""))


def off_scale(result: Result) -> tuple[Mapping[str, Any], ...]:
    """Return the items of the questions that have options off their scale ("not sure"), with the shares of both."""
    return tuple(item for item in result.items if item.get(OFF_SCALE))


# -- CSV -----------------------------------------------------------------------------------------------------------


def rows(results: Sequence[Result]) -> list[dict[str, object]]:
    """Return one row for each result, subgroup and scale, and figure: what it is of, value, interval, all its company.

    An undefined figure is None, and `note` says why. Rows of the whole sample have no trait, level and scale. The
    distances of each question follow, how much the order of its options moves (ITEM_UNITS), and the share of the
    answers that lie off its scale (OFF_SCALE; `human`: that of the humans). What is left out: shares of single options,
    and the gaps between subgroups; `Result.to_dict` has them.

    Example:
        >>> rows([])
        []
    """
    return [{**_run(result), **row} for result in results for row in (*_figures(result), *_questions(result))]


def csv_table(results: Sequence[Result]) -> str:
    """Return `rows` as CSV with a header, an empty cell for what is undefined.

    Raises:
        EmptyError: If there is no result.
    """
    return written(rows(_some(results)))


def written(lines: Sequence[Mapping[str, object]]) -> str:
    r"""Return rows as CSV; the columns are the keys of all rows in the order in which they come.

    Example:
        >>> written([{"a": 1, "b": None}, {"a": 2, "c": "x, y"}])
        'a,b,c\n1,,\n2,,"x, y"\n'
    """
    text, columns = io.StringIO(), list(dict.fromkeys(key for line in lines for key in line))
    table = csv.DictWriter(text, columns, lineterminator="\n")
    table.writeheader()
    table.writerows(lines)
    return text.getvalue()


def _run(result: Result) -> dict[str, object]:
    method, matching = _method(result)
    return {
        "run_id": result.run_id,
        "created": result.created,
        "survey": result.survey,
        "questions": len(result.questions),
        "model": _model(result),
        "method": method,
        "matching": matching,
        "humans": humans_of(result),
        "weighting": result.weighting,
    }


def _figures(result: Result) -> Iterator[dict[str, object]]:
    whole, n = {"trait": "", "level": "", "scale": ""}, {"n": result.n, "n_humans": result.n_humans}
    found = [({**whole, **n}, metric) for metric in result.metrics]
    for group in result.subgroups:
        of = {"trait": group.trait, "level": group.level, "n": group.n, "n_humans": group.n_human}
        found += [({**whole, **of}, metric) for metric in group.metrics]
    found += [({**whole, "scale": scale.name, **n}, metric) for scale in result.scales for metric in scale.metrics]
    for of, metric in found:
        head = {**of, "measure": metric.name}
        values = {name: _defined(getattr(metric, name)) for name in ("value", "low", "high", *COMPANY)}
        yield {**head, "unit": metric.unit, **values, "attained": _defined(way(metric)), "note": metric.note}


def _questions(result: Result) -> Iterator[dict[str, object]]:
    for item in result.items:
        head = {"question": item["question"], "n": item["n_simulated"], "n_humans": item["n_human"]}
        for name, unit in ITEM_UNITS.items():
            ends = {end: item[f"{name}_{end}"] for end in ("low", "high", "floor_equal_n") if f"{name}_{end}" in item}
            if item.get(name) is not None:
                yield {**head, "measure": name, "unit": unit, "value": _defined(item[name]), **ends}
        if item.get(OFF_SCALE):
            shares = {"value": _defined(item["off_scale_simulated"]), "human": _defined(item["off_scale_human"])}
            yield {**head, "measure": OFF_SCALE, "unit": "share of the answers", **shares}


def _defined(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


# -- the layout of the paper ---------------------------------------------------------------------------------------


def markdown(results: Sequence[Result], *, names: Sequence[str] = (), measures: Sequence[str] = PAPER) -> str:
    """Return the table of the paper in Markdown: model, method, matching, and WD, Fro and alpha for each survey.

    The last row has the humans' own: the split-half floors of WD and Fro, and alpha. The best of several runs is bold,
    for alpha the one nearest to the humans'. Of results with the same model, method and matching each has its own row.

    Args:
        results: One or more; surveys stand side by side.
        names: Of the runs, one for each result, shown in a column before the others.
        measures: The figures that make the columns, of `measures.MEASURES`.

    Raises:
        EmptyError: If there is no result.
        OptionError: If there is not one name for each result.
        UnknownNameError: If there is no such measure.
    """
    table = _Table.of(results, names, measures)
    several = len(table.columns) > 1
    heads = [f"{table.title(at)}: {_head(name)}" if several else _head(name)
             for at in range(len(table.columns)) for name in measures]  # fmt: skip
    lines = [[*table.heads, *map(_marked_down, heads)], ["---"] * len(table.heads) + ["---:"] * len(heads)]
    lines += [[*map(_marked_down, left), *(f"**{cell}**" if best else cell for cell, best in cells)]
              for left, cells in table.lines()]  # fmt: skip
    lines.append([*table.human_head, *(cell for at in range(len(table.columns)) for cell in table.human(at))])
    below = "".join(f"\n{_marked_down(table.about(at))}.\n" for at in range(len(table.columns)))
    return "".join(f"| {' | '.join(line)} |\n" for line in lines) + below


def latex(results: Sequence[Result], *, names: Sequence[str] = (), measures: Sequence[str] = PAPER) -> str:
    r"""Return the same table as a LaTeX tabular with the rules of booktabs; names are escaped.

    Raises:
        EmptyError: If there is no result.
        OptionError: If there is not one name for each result.
        UnknownNameError: If there is no such measure.
    """
    table = _Table.of(results, names, measures)
    left, width, count = len(table.heads), len(measures), len(table.columns)
    spans = [rf"\multicolumn{{{width}}}{{c}}{{{_texed(table.title(at))}}}" for at in range(count)]
    rules = [rf"\cmidrule(lr){{{left + 1 + at * width}-{left + (at + 1) * width}}}" for at in range(count)]
    heads = [*table.heads, *([_texed(_head(name)) for name in measures] * count)]
    body = [[*map(_texed, names_), *(_bold(cell) if best else _sign(cell) for cell, best in cells)]
            for names_, cells in table.lines()]  # fmt: skip
    human = [*map(_texed, table.human_head), *(_sign(cell) for at in range(count) for cell in table.human(at))]
    lines = [
        r"% needs \usepackage{booktabs}",
        *(f"% {_texed(table.about(at))}" for at in range(count)),
        rf"\begin{{tabular}}{{{'l' * left}{'r' * width * count}}}",
        r"\toprule",
        " & ".join([*[""] * left, *spans]).strip() + r" \\",
        " ".join(rules),
        " & ".join(heads) + r" \\",
        r"\midrule",
        *(" & ".join(line) + r" \\" for line in body),
        r"\midrule",
        " & ".join(human) + r" \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


@dataclass(frozen=True, kw_only=True)
class _Table:
    """Runs by surveys."""

    columns: tuple[tuple[object, ...], ...]
    """What makes figures comparable: survey, questions, weighting and humans."""
    results: Mapping[tuple[str, ...], Mapping[tuple[object, ...], Result]]
    """Name of the run (if any), model, method, matching and a count -> column -> result."""
    named: bool
    measures: tuple[str, ...]

    @classmethod
    def of(cls, results: Sequence[Result], names: Sequence[str], measures: Sequence[str]) -> _Table:
        for name in measures:
            if name not in MEASURES:
                raise UnknownNameError("measure", name, MEASURES)
        if names and len(names) != len(results):
            raise OptionError(f"{len(names)} names do not fit {len(results)} results: give one for each")
        found: dict[tuple[str, ...], dict[tuple[object, ...], Result]] = {}
        seen: Counter[tuple[object, ...]] = Counter()
        for at, result in enumerate(_some(results)):
            row, column = ([names[at]] if names else []) + [_model(result), *_method(result)], _column(result)
            # Runs that differ in their seed alone share all these words, and none may take the place of another.
            found.setdefault((*row, str(seen[*row, column])), {})[column] = result
            seen[*row, column] += 1
        columns = tuple(dict.fromkeys(map(_column, results)))
        return cls(columns=columns, results=found, named=bool(names), measures=tuple(measures))

    @property
    def heads(self) -> list[str]:
        return ["Run"] * self.named + ["Model", "Method", "Matching"]

    @property
    def human_head(self) -> list[str]:
        return [""] * self.named + ["Human", "split halves", "n/a"]

    def title(self, at: int) -> str:
        """Name the survey, and what it is compared with where another column has the same name."""
        name = self._any(at).survey
        return name if [column[0] for column in self.columns].count(name) == 1 else self.about(at)

    def about(self, at: int) -> str:
        """Say what is compared with what."""
        one = self._any(at)
        people = f"{one.n_humans} people" if one.n_humans else "the shares"
        against = f"{people} of {humans_of(one) or 'unknown humans'}"
        return f"{one.survey}, {len(one.questions)} questions, {against}, weighting {one.weighting}"

    def lines(self) -> Iterator[tuple[list[str], list[tuple[str, bool]]]]:
        """Return for each row its words, and its cells with whether each is the best of its column."""
        best = {(column, name): self._best(column, name) for column in self.columns for name in self.measures}
        for words, held in self.results.items():
            cells = [
                (cell := _value(held.get(column), name), bool(cell != DASH and cell in best[column, name]))
                for column in self.columns
                for name in self.measures
            ]
            yield list(words[:-1]), cells

    def human(self, at: int) -> list[str]:
        """Return the humans' own figures."""
        held = {metric.name: metric for metric in self._any(at).metrics}
        own = {
            name: one.floor if MEASURES[name].kind == DISTANCE else one.human
            for name, one in held.items()
            if name in self.measures
        }
        return [number(own.get(name)) for name in self.measures]

    def _any(self, at: int) -> Result:
        return next(held[self.columns[at]] for held in self.results.values() if self.columns[at] in held)

    def _best(self, column: tuple[object, ...], name: str) -> set[str]:
        """What the best figure of a column reads; nothing where there is no choice."""
        held = [metric for one in self.results.values() if column in one and (metric := _metric(one[column], name))]
        far = {metric.value: _distance(metric) for metric in held if metric.value is not None}
        known = {value: distance for value, distance in far.items() if distance is not None}
        return {number(min(known, key=lambda value: known[value]))} if len(held) > 1 and known else set()


def _head(name: str) -> str:
    return _HEADS.get(name) or short(name) + _ARROWS[MEASURES[name].kind]


def _column(result: Result) -> tuple[object, ...]:
    reference = result.provenance.get("evaluation", {}).get("humans_digest", "")
    return (result.survey, result.questions, result.weighting, humans_of(result), result.n_humans, reference)


def _distance(metric: Metric) -> float | None:
    """How far a figure is from its best value, or that and a constant; None where it is not known."""
    kind = MEASURES[metric.name].kind
    if (value := _defined(metric.value)) is None or kind == DISTANCE:
        return value
    if kind == AGREEMENT:
        return -value
    return None if metric.human is None else abs(value - metric.human)


def _metric(result: Result, name: str) -> Metric | None:
    return next((metric for metric in result.metrics if metric.name == name), None)


def _value(result: Result | None, name: str) -> str:
    metric = _metric(result, name) if result else None
    return number(metric.value if metric else None)


def _model(result: Result) -> str:
    return f"{result.developer}/{result.model}"


def _method(result: Result) -> tuple[str, str]:
    method, _, matching = result.method.partition("/")
    return method, matching or "n/a"


def _some(results: Sequence[Result]) -> Sequence[Result]:
    if not results:
        raise EmptyError("there is no result to tabulate: evaluate a run first")
    return results


def _marked_down(text: str) -> str:
    return re.sub(r"([\\`*_\[\]<>|])", r"\\\1", " ".join(text.split()))


_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "–": "--",
    "−": "$-$",
    "↓": r"$\downarrow$",
    "↑": r"$\uparrow$",
    "α": r"$\alpha$",
} | {sign: f"\\{sign}" for sign in "&%$#_{}"}


def _texed(text: str) -> str:
    return "".join(_LATEX.get(sign, sign) for sign in " ".join(text.split()))


def _sign(cell: str) -> str:
    return cell.replace("−", "$-$").replace(DASH, "--")


def _bold(cell: str) -> str:
    return rf"\textbf{{{_sign(cell)}}}"


# -- notebooks -----------------------------------------------------------------------------------------------------


def as_html(result: Result) -> str:
    """Return what a notebook shows of a result: the headline, and a table of its figures. Everything is escaped."""
    held = _metric(result, "wd_normalised")
    head = f"<b>{escape(result.survey)}</b>: {escape(result.method)}, {escape(_model(result))}"
    against = f"{result.n_humans} people" if result.n_humans else "the shares"
    people = f"{result.n} simulated against {against} of {escape(humans_of(result) or 'unknown humans')}"
    said = "" if held is None else f"<br>WD normalised <b>{number(held.value)}</b>, {_ends(held)}."
    columns: tuple[tuple[str, Callable[[Metric], str]], ...] = (
        ("value", lambda one: f"<b>{number(one.value)}</b>"),
        ("interval", lambda one: between(one.low, one.high)),
        ("human floor", lambda one: number(one.floor if one.floor_equal_n is None else one.floor_equal_n)),
        ("uniform", lambda one: number(one.uniform)),
        ("humans' own", lambda one: number(one.human)),
        ("attained", lambda one: percent(way(one), 0)),
    )
    top = "".join(f"<th>{title}</th>" for title, _ in columns)
    body = "".join(
        f'<tr title="{escape(_meaning(one))}"><th style="text-align:left">{escape(short(one.name))}</th>'
        + "".join(f"<td>{cell(one)}</td>" for _, cell in columns)
        + "</tr>"
        for family in families(result.metrics).values()
        for one in family
    )
    notes = "".join(f"<li>{escape(note)}</li>" for note in result.notes)
    table = f"<table><thead><tr><th></th>{top}</tr></thead><tbody>{body}</tbody></table>{_off_scale_html(result)}"
    return f"<div><p>{head}<br>{people}{said}</p>{table}{f'<ul>{notes}</ul>' if notes else ''}</div>"


def _off_scale_html(result: Result) -> str:
    """Of each question with options off its scale, how many of each side chose one; nothing where none has."""
    body = "".join(
        f'<tr><th style="text-align:left">{escape(str(item["question"]))}</th><td>{escape(", ".join(item[OFF_SCALE]))}'
        f"</td><td>{percent(item['off_scale_human'])}</td><td>{percent(item['off_scale_simulated'])}</td></tr>"
        for item in off_scale(result)
    )
    titles = ("", "options off the scale", "humans", "simulated")
    top = "".join(f"<th>{title}</th>" for title in titles)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>" if body else ""


def _ends(metric: Metric) -> str:
    floor = metric.floor if metric.floor_equal_n is None else metric.floor_equal_n
    return (
        f"interval {between(metric.low, metric.high)}; humans by chance {number(floor)}, "
        f"options at random {number(metric.uniform)}"
    )


def _meaning(metric: Metric) -> str:
    return MEASURES[metric.name].meaning if metric.name in MEASURES else metric.unit
