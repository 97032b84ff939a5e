"""What a report says: who was asked, what came out, what was left out and why, how to cite it and how to run it again.

Everything here decides; the page only lays out.
"""

from __future__ import annotations

import json
import math
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from anthology_hub import __version__, weights
from anthology_hub.conditioning import STORIED
from anthology_hub.diagnostics import Diagnosis, TraitMargin, in_words
from anthology_hub.evaluation import EvaluateOptions
from anthology_hub.humans import sources
from anthology_hub.matching import PROVEN
from anthology_hub.measures import MEASURES
from anthology_hub.report_tables import (
    BASELINES,
    COMPANY,
    FAMILIES,
    between,
    families,
    number,
    off_scale,
    percent,
    short,
    way,
)
from anthology_hub.schema import (
    ANSWERED,
    DATA,
    FAILED,
    REFUSED,
    SKIPPED,
    UNPARSABLE,
    Answers,
    Metric,
    Respondents,
    Result,
    Subgroup,
    Survey,
    read_json,
    shipped,
)
from anthology_hub.simulation import SimulateOptions

SMALL_CELL = 10
"""Fewer humans than this behind a figure: it may point at single people."""
PAPER = (
    "Moon, S., Abdulhai, M., Kang, M., Suh, J., Soedarmadji, W., Behar, E. K., & Chan, D. M. (2024). Virtual Personas "
    "for Language Models via an Anthology of Backstories. In Proceedings of the 2024 Conference on Empirical Methods "
    "in Natural Language Processing. arXiv:2407.06576"
)
SOFTWARE = (
    "The anthology_hub developers. anthology_hub: the Hub-native home of virtual personas (version {version}) "
    "[software]. Apache-2.0"
)
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
    "zero_weight_pairs": ("Pairs with weight zero", "how many these are"),
    "distinct_personas": ("Distinct personas", "how many different ones were cast"),
    "maximum_reuse": ("Maximum reuse", "roles played by the busiest persona"),
    "effective_personas": ("Effective number of personas", "Kish: as many as if all were used equally often"),
    "unannotated_levels": ("Missing annotations", "traits of personas that are not known; taken as uniform"),
    "unknown_respondent_levels": ("Unknown respondent traits", "taken as uniform"),
    "unmatched_respondents": ("Respondents without a role", "no persona was left that could stand in for them"),
    "weight_bound": ("Bound of the total weight", "no assignment of these personas weighs more in total"),
    "optimality_gap": ("Optimality gap", "share of that bound that may be missing; 0 is proven best"),
}
COMPANY_WORDS = {
    "floor": ("Human floor, split-half", "mean over random halves of the humans, one half against the other"),
    "floor_equal_n": ("Human floor, equal n", "mean over samples of people like the humans, as many as the cast"),
    "uniform": ("Uniform", "every option equally often"),
    "majority": ("Majority", "everybody gives the humans' most common answer"),
    "margins": (
        "Margins",
        "the humans' answers, shuffled among them question by question: right shares, no structure",
    ),
    "cells": ("Cells", "each person answers like somebody with the same demographics: the strongest cheap predictor"),
    "previous": ("Previous wave", "an earlier wave of the same survey"),
    "human": ("Humans' own", "what the humans themselves have, where a figure is a property and not a distance"),
    "attained": ("Attained", "part of the way from uniform (0%) to the humans (100%); below 0% is worse than uniform"),
}
"""Column of the figures -> its title and what it means."""


def inputs_of(result: Result) -> Mapping[str, Any]:
    """Return what a run was made of, by its provenance; empty where that is not known."""
    inputs: Mapping[str, Any] = result.provenance.get("inputs", {})
    return inputs


def judged(result: Result) -> Mapping[str, Any]:
    """Return how a result was computed, by its provenance; empty where that is not known."""
    options: Mapping[str, Any] = result.provenance.get("evaluation", {})
    return options


def level(result: Result) -> str:
    """Return the confidence of the intervals, as `95%`."""
    return f"{100 * judged(result).get('level', 0.95):g}%"


# -- summary -----------------------------------------------------------------------------------------------------------


def summary(result: Result) -> list[str]:
    """Say what was done, what came out and what to hold it against, for readers who do not know the metrics."""
    told = (_who(result), *_headline(result), _off_scale(result), _consistency(result), _answered(result))
    return [text for text in told if text]


def people(result: Result) -> str:
    """Say how many humans the result was computed against."""
    if not result.n_humans:
        return "a group of which only the shares of answers are known"
    weighted = result.n_effective is not None and round(result.n_effective) < result.n_humans
    few = f", {result.n_effective:.0f} effective after weighting (Kish)" if weighted else ""
    return f"{result.n_humans} people{few}"


def count(n: int, noun: str) -> str:
    """Return a number with its noun.

    Example:
        >>> count(1, "question"), count(2, "question")
        ('1 question', '2 questions')
    """
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


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
        f"Their answers to {count(len(result.questions), 'question')} are compared with those of",
        f"{people(result)}.",
    )
    return " ".join(filter(None, words))


def _headline(result: Result) -> Iterator[str]:
    wd, raw = result.metric("wd_normalised"), result.metric("wd")
    if wd.value is None:
        yield f"The distance between the simulated and the human answers is undefined. {wd.note}"
        return
    interval = "" if wd.low is None else f" ({level(result)} interval {between(wd.low, wd.high)})"
    yield (
        f"The headline figure: on average over the questions, the simulated answers lie {number(wd.value)} of the "
        f"scale away from the humans'{interval}. This is the normalised Wasserstein distance: 0 means that both groups "
        f"answered alike, 1 that they sit at opposite ends. In raw option steps it is {number(raw.value)}."
    )
    yield " ".join(filter(None, (_best(wd, result.n), _guesses(wd), _on_the_way(wd))))


def _best(wd: Metric, n: int) -> str:
    """Compare with what real people reach."""
    if (floor := wd.floor_equal_n) is not None:
        sample = f"a random sample of {n} humans"
    elif (floor := wd.floor) is not None:
        sample = "one random half of the humans, held against the other,"
    else:
        return "There is no human floor to compare with."
    place = {
        -1: "even closer than people drawn at random: find out why before you rely on it",
        0: "about as close as real people",
        1: "still further away than real people",
        None: "to be held against that",
    }[_side(wd, floor)]
    return f"The human floor: {sample} lies {number(floor)} away, by chance alone. The simulation is {place}."


def _guesses(wd: Metric) -> str:
    """Compare with what takes no model."""
    named = {
        "choosing options at random": wd.uniform,
        "giving everybody the humans' most common answer": wd.majority,
        "drawing the answers of people with the same demographics": wd.cells,
        "the previous wave of the survey": wd.previous,
    }
    words = {-1: "closer to the humans than", 0: "not distinguishable from", 1: "further away than", None: "beside"}
    known = [f"{words[_side(wd, v)]} {what} ({number(v)})" for what, v in named.items() if v is not None]
    told = ", ".join(known[:-1]) + (" and " if known[1:] else "") + "".join(known[-1:])
    return f"Against what takes no model, it is {told}." if known else ""


def _on_the_way(wd: Metric) -> str:
    part = way(wd)
    if part is None or part < 0:
        return ""
    return f"It has gone {percent(part, 0)} of the way from random options to real people."


def _side(metric: Metric, reference: float) -> int | None:
    """Return -1 if the interval lies below a reference, 1 if above, 0 if around it; None without an interval."""
    if metric.low is None or metric.high is None:
        return None
    return int(metric.low > reference) - int(metric.high < reference)


def _off_scale(result: Result) -> str:
    """Say how many are no part of the distance because they chose an option that is no step of its scale."""
    if not (items := off_scale(result)):
        return ""
    them, us = (_mean([item[f"off_scale_{side}"] for item in items]) for side in ("human", "simulated"))
    several = len(items) > 1
    return (
        f"{count(len(items), 'question')} {'have' if several else 'has'} options that are no step of the scale, such "
        f"as “{items[0]['off_scale'][0]}”. {'On average, ' if several else ''}{percent(them)} of the humans and "
        f"{percent(us)} of the simulated people chose one. The distance leaves these answers out, so compare the two "
        "shares yourself: a simulation can be close on the scale and still be sure of itself where people are not."
    )


def _mean(shares: Sequence[float | None]) -> float | None:
    known = [share for share in shares if share is not None and math.isfinite(share)]
    return sum(known) / len(known) if known else None


def _consistency(result: Result) -> str:
    alpha = result.metric("alpha")
    if alpha.value is None or alpha.human is None:
        return ""
    return (
        f"Whether the answers of one person hang together: Cronbach's alpha is {number(alpha.value)} for the "
        f"simulation and {number(alpha.human)} for the humans."
    )


def _answered(result: Result) -> str:
    share = result.coverage.get(ANSWERED)
    if share is None or share == 1:
        return ""
    return f"{percent(share)} of the questions got an answer; the rest is counted below and left out of the figures."


# -- figures -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class FigureRow:
    """One figure as it is shown."""

    title: str
    meaning: str
    value: str
    interval: str
    company: tuple[str, ...]
    """One for each column of the table."""
    attained: str
    bar: float
    """`attained` in percent of the bar, 0 to 100."""
    note: str


@dataclass(frozen=True, kw_only=True)
class FigureTable:
    """The figures of one family, without columns that are empty for all of them."""

    family: str
    columns: tuple[str, ...]
    """Fields of a metric, without the interval and `attained`."""
    bars: bool
    """Whether any of them has a way that it could have gone."""
    rows: tuple[FigureRow, ...]

    @property
    def titles(self) -> list[str]:
        """The heads of the columns."""
        return [COMPANY_WORDS[name][0] for name in self.columns]


def figure_tables(result: Result) -> list[FigureTable]:
    """Return the figures of a result for its page, a table for each family."""
    return [_figure_table(family, members) for family, members in families(result.metrics).items()]


def column_words(tables: Sequence[FigureTable]) -> list[tuple[str, str]]:
    """Return title and meaning of every column that some table has."""
    used = {name for table in tables for name in (*table.columns, *(("attained",) if table.bars else ()))}
    return [words for name, words in COMPANY_WORDS.items() if name in used]


def _figure_table(family: str, members: Sequence[Metric]) -> FigureTable:
    columns = tuple(name for name in COMPANY[:-1] if any(getattr(one, name) is not None for one in members))
    return FigureTable(
        family=family,
        columns=columns,
        bars=any(way(one) is not None for one in members),
        rows=tuple(_figure_row(one, columns) for one in members),
    )


def _figure_row(metric: Metric, columns: Sequence[str]) -> FigureRow:
    measure, part = MEASURES.get(metric.name), way(metric)
    return FigureRow(
        title=measure.title if measure else metric.name,
        meaning=measure.meaning if measure else metric.unit,
        value=number(metric.value),
        interval=between(metric.low, metric.high),
        company=tuple(number(getattr(metric, name)) for name in columns),
        attained=percent(part, 0),
        bar=0.0 if part is None or not math.isfinite(part) else round(100 * min(max(part, 0.0), 1.0), 1),
        note=metric.note if metric.value is None else "",
    )


def diagnostics(found: Mapping[str, float]) -> list[tuple[str, str, str]]:
    """Return label, figure and meaning of each known diagnostic of a matching."""
    known = [(name, words) for name, words in DIAGNOSTIC_WORDS.items() if name in found]
    return [(label, _diagnostic(name, found[name]), meaning) for name, (label, meaning) in known]


def _diagnostic(name: str, value: float) -> str:
    if name == "mean_weight" and 0 < value < 0.001:
        return f"{value:.1e}".replace("e-0", "e-").replace("-", "−")
    if name == "zero_weight_share":
        return percent(value)
    if name == "optimality_gap":
        return f"{100 * value if value > PROVEN else 0:.3g}%"
    return number(value, 3 if name in ("mean_weight", "weight_bound") else 1 if name == "effective_personas" else 0)


# -- what was left out -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """What the figures do not cover, and why."""

    kinds: tuple[tuple[str, str], ...]
    """Questions that are no choice: key and kind."""
    unanswered: tuple[Mapping[str, Any], ...]
    """Questions that not everybody answered: `question`, `humans` (how many did not) and a count for each status."""
    statuses: tuple[str, ...]
    """Statuses that the counts tell apart; `without an answer` where only their sum is known."""
    subgroups: tuple[Subgroup, ...]
    undefined: tuple[tuple[str, str], ...]
    """Reason and the figures that it concerns."""
    off_scale: tuple[str, ...]
    """Questions of which the answers off the scale are left out of figures that need an order."""

    def __bool__(self) -> bool:
        return bool(self.kinds or self.unanswered or self.subgroups or self.undefined or self.off_scale)


def left_out(result: Result, answers: Answers | None = None) -> LeftOut:
    """Return what was left out of a result; the answers tell the statuses and the questions that are no choice."""
    kinds = [(q.key, q.kind) for q in answers.survey.questions if q.key not in result.questions] if answers else []
    unanswered = [one for one in (_missing(item, result, answers) for item in result.items) if any(_counts(one))]
    statuses = dict.fromkeys(name for one in unanswered for name in one if name not in ("question", "humans"))
    reasons: dict[str, list[str]] = {}
    for metric in result.metrics:
        for why in _whys(metric, result):
            reasons.setdefault(why, []).append(short(metric.name))
    return LeftOut(
        kinds=tuple(kinds),
        unanswered=tuple(unanswered),
        statuses=tuple(name for name in statuses if any(one[name] for one in unanswered)),
        subgroups=tuple(one for one in result.subgroups if not one.metrics),
        undefined=tuple((why, ", ".join(names)) for why, names in reasons.items()),
        off_scale=tuple(str(item["question"]) for item in off_scale(result)),
    )


def _missing(item: Mapping[str, Any], result: Result, answers: Answers | None) -> dict[str, Any]:
    n_human = item.get("n_human")
    humans = None if n_human is None else result.n_humans - n_human
    found = {"question": item["question"], "humans": humans}
    if answers is None or item["question"] not in answers.survey.keys:
        return {**found, "without an answer": result.n - item["n_simulated"]}
    seen = Counter(answers.statuses[:, answers.survey.keys.index(item["question"])].tolist())
    return {**found, **{status: seen[status] for status in (REFUSED, UNPARSABLE, FAILED, SKIPPED)}}


def _counts(one: Mapping[str, Any]) -> list[int]:
    return [value or 0 for name, value in one.items() if name != "question"]


def _whys(metric: Metric, result: Result) -> Iterator[str]:
    """Say why each en dash of a figure is one."""
    if metric.note:
        yield metric.note
    elif metric.value is None:
        yield "Undefined; the run does not say why."
    if metric.value is not None and metric.low is None:
        slow = metric.name == "fro_polychoric"
        yield f"No interval: {'it takes too long' if slow else 'too few bootstrap draws are defined'}."
    apart = metric.name in (*FAMILIES["Person by person"], *FAMILIES["Demographics"])
    yield from _not_for_all(metric) if apart else _no_company(metric, result)


def _not_for_all(metric: Metric) -> Iterator[str]:
    """Of figures that take pairs or demographics, which much of the company has not."""
    fields = ("floor", "floor_equal_n", *BASELINES[:-1])
    if gone := [COMPANY_WORDS[name][0].lower() for name in fields if getattr(metric, name) is None]:
        yield f"Not there for a figure of this kind, or not defined: {', '.join(gone)}."
    if metric.human is None and metric.name in FAMILIES["Person by person"]:
        yield "No second answers of the humans: nobody was asked again, or their file does not tell."


def _no_company(metric: Metric, result: Result) -> Iterator[str]:
    if metric.floor is None:
        yield "No split-half floor: it is not defined on halves of these humans."
    if metric.floor_equal_n is None:
        yield _why_no_equal(result)
    if metric.uniform is None:
        yield "The uniform baseline is not defined."
    if metric.majority is None:
        alike = metric.name in FAMILIES["Correlations and consistency"]
        yield "No majority baseline" + (": answers that are all the same have no correlations." if alike else ".")
    if metric.margins is None:
        yield "No margins baseline: it is not defined."
    if metric.cells is None:
        yield "No cells baseline: the humans' demographics are not known, or it is not defined on halves of them."


def _why_no_equal(result: Result) -> str:
    if not result.n_humans:
        return "No floor at equal n: of the humans only shares of answers are known."
    return "No floor at equal n: it is not defined on samples of these humans."


def notes(result: Result, humans: Respondents | None, diagnosis: Diagnosis | None) -> list[str]:
    """Return what a reader must know beside the figures, with a warning where few people are behind some."""
    told = [*result.notes, *in_words(inputs_of(result).get("matching", {}))]
    if humans is not None:
        told += [f"{humans.name}: {note}" for note in humans.notes]
    if few := [str(item["question"]) for item in result.items if (item["n_human"] or SMALL_CELL) < SMALL_CELL]:
        told.append(
            f"Fewer than {SMALL_CELL} humans answered {', '.join(few)}: shares of so few can point at single people, "
            "so think before you pass this page on."
        )
    if few := [f"{one.trait}: {one.level}" for one in result.subgroups if 0 < one.n_human < SMALL_CELL]:
        told.append(
            f"Fewer than {SMALL_CELL} of the humans are in the subgroups {', '.join(few)}: so few can point at single "
            "people, too."
        )
    if diagnosis is not None and (few := [m.trait for m in diagnosis.margins if _rarest(m, diagnosis) < SMALL_CELL]):
        told.append(
            f"Fewer than {SMALL_CELL} of the matched people have some level of {', '.join(few)}: margins of so few can "
            "point at single people, too."
        )
    return told


def _rarest(margin: TraitMargin, diagnosis: Diagnosis) -> float:
    """About how many people have the rarest level that anybody has."""
    asked = len(diagnosis) + len(diagnosis.unmatched)
    return asked * min((share for share in margin.humans if share > 0), default=1.0)


# -- provenance --------------------------------------------------------------------------------------------------------


def provenance(result: Result) -> list[tuple[str, str]]:
    """Return what names the inputs of the result by content; what the run does not know is left out."""
    inputs, options = inputs_of(result), judged(result)
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
        "Humans": f"{options.get('humans', '')}, {people(result)}",
        "Source of the humans": options.get("humans_source"),
        "Evaluation": _pairs({k: v for k, v in options.items() if not k.startswith("humans")}),
        "anthology_hub": f"{software.get('anthology_hub', '')} {software.get('commit', '')}{dirty}".strip(),
        "Packages": _pairs(software.get("packages", {})),
    }
    return [(label, str(value)) for label, value in found.items() if value not in (None, "")]


def _pairs(values: Mapping[str, Any]) -> str:
    nested = {name: f"({_pairs(value)})" for name, value in values.items() if isinstance(value, Mapping)}
    shown = {name: nested.get(name) or json.dumps(value, default=str) for name, value in values.items()}
    return ", ".join(f"{name} {value}" for name, value in shown.items()).replace('"', "")


def citations(result: Result, answers: Answers | None = None) -> list[tuple[str, str]]:
    """Return what to cite: the method, the software, the survey, the people, the model and the personas."""
    software = result.provenance.get("software", {}).get("anthology_hub", "") or __version__
    asked = answers.survey if answers else _survey(result)
    model = inputs_of(result).get("model", {})
    scripted = result.developer == "scripted"
    revision = f", revision {model['revision']}" if model.get("revision") else ""
    found = {
        "The method": PAPER,
        "This package": SOFTWARE.format(version=software),
        "The survey": asked.source if asked else "",
        "The respondents": judged(result).get("humans_source", ""),
        "The model": "" if scripted else f"{result.developer}/{result.model}{revision}",
        "The personas": inputs_of(result).get("collection", ""),
    }
    return [(what, str(source)) for what, source in found.items() if source]


def _survey(result: Result) -> Survey | None:
    """The shipped survey that was asked; None if it was another one."""
    return Survey.load(result.survey) if result.survey in shipped("surveys") else None


# -- how to rerun ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Rerun:
    """Commands that make a result again, and what they cannot say."""

    commands: tuple[str, ...]
    caveats: tuple[str, ...]


def rerun(result: Result) -> Rerun:
    """Return the commands that make a result again, as exactly as its provenance allows."""
    if not inputs_of(result):
        return Rerun(commands=(), caveats=("The result does not say what it was made of.",))
    folder, caveats = f"runs/{result.run_id}", list[str]()
    simulate = ["anthology-hub", "simulate", folder, *_simulation(result, caveats)]
    evaluate = ["anthology-hub", "evaluate", folder, *_evaluation(result, caveats)]
    return Rerun(commands=(shlex.join(simulate), shlex.join(evaluate)), caveats=tuple(caveats))


def _simulation(result: Result, caveats: list[str]) -> Iterator[str]:
    inputs = inputs_of(result)
    cast = inputs.get("cast", {})
    yield from _humans(inputs.get("humans", ""), caveats)
    roleless = round(inputs.get("matching", {}).get("unmatched_respondents", 0))
    yield from ("--sample", str(cast.get("n", result.n) + roleless))
    yield from _asked(result, caveats)
    yield from ("--model", _model(result, caveats))
    yield from _casting(result, caveats)
    yield from _asking(inputs.get("options", {}), caveats)
    if inputs.get("wave"):
        yield from ("--as-wave", str(inputs["wave"]))
    for earlier in inputs.get("earlier", ()):
        yield from ("--earlier", f"runs/{earlier.get('run_id', '')}")
    yield from ("--seed", str(inputs.get("seed", 0)))
    caveats.append(
        f"The cast must come out with the digest {cast.get('digest', '')}. If it does not, the people or the personas "
        "were chosen in a way that the run does not record, such as another sample or --where."
    )


def _humans(name: str, caveats: list[str]) -> Iterator[str]:
    if name not in sources():
        caveats.append(f"{name} came from a file: put it in the place of {name}, with --wave where it has several.")
    yield from ("--humans", name)


def _asked(result: Result, caveats: list[str]) -> Iterator[str]:
    asked = inputs_of(result).get("survey", {})
    keys, own = asked.get("questions", list(result.questions)), _survey(result)
    yield from ("--survey", result.survey)
    if own is None:
        caveats.append(f"{result.survey} came from a file: put it in the place of {result.survey}.")
    if own is None or keys != list(own.keys):
        yield from (word for key in keys for word in ("--question", key))
    same = own is not None and set(keys) <= set(own.keys) and asked.get("digest") in (None, own.select(keys).digest)
    if own is not None and not same:
        caveats.append(f"{result.survey} is not the survey of this name here: its digest is {asked.get('digest')}.")


def _model(result: Result, caveats: list[str]) -> str:
    name = f"{result.developer}/{result.model}"
    if result.developer == "scripted":
        return f"scripted:{result.model}"
    for own, package in weights.packages().items():
        if package["title"] == name:
            return f"local:{own}"
    caveats.append(f"The model {name} must have the revision {inputs_of(result).get('model', {}).get('revision')}.")
    return f"local:{name}"


def _casting(result: Result, caveats: list[str]) -> Iterator[str]:
    inputs, origin = inputs_of(result), str(result.provenance.get("execution", {}).get("collection", ""))
    if inputs.get("options", {}).get("conditioning") not in STORIED:
        return
    cast = inputs.get("cast", {})
    yield from ("--method", str(cast.get("method", "")))
    yield from (word for trait in cast.get("traits", ()) for word in ("--trait", str(trait)))
    if cast.get("method") == "itself":
        caveats.append("A cast that answers for itself is made in Python: as_themselves(people).")
    if cast.get("method") == "capacity":
        caveats.append("The run does not record the --capacity of the matching.")
    if inputs.get("matching", {}).get("unmatched_respondents"):
        caveats.append("The run does not record whether --partial or --possible-only left people without a role.")
    manifest, identity = read_json(DATA / "starter" / "manifest.json"), str(inputs.get("collection", ""))
    if origin:
        repository, _, commit = origin.removeprefix("hf://").partition("@")
        yield from ("--collection", repository, *(("--revision", commit) if commit else ()))
    elif not identity.startswith(f"{manifest['name']}@{manifest['release']}#"):
        caveats.append(f"The personas were {identity}: name their folder or repository with --collection.")


def _asking(options: Mapping[str, Any], caveats: list[str]) -> Iterator[str]:
    """Options that differ from the usual ones; those that the command line does not have are told."""
    usual = {field.name: field.default for field in fields(SimulateOptions)}
    flags = ("mode", "append", "grounding", "history", "options_order", "labels", "tries")
    yield from ("--conditioning", str(options.get("conditioning", usual["conditioning"])))
    for name in flags:
        if options.get(name, usual[name]) != usual[name]:
            yield from (f"--{name.replace('_', '-')}", str(options[name]))
    if options.get("shuffle_questions") is False:
        yield "--keep-order"
    sampling = usual["sampling"]
    asked = {name: _plain(value) for name, value in options.get("sampling", {}).items()}
    odd = {name: value for name, value in asked.items() if value != _plain(getattr(sampling, name, None))}
    if options.get("least_mass", usual["least_mass"]) != usual["least_mass"]:
        odd["least_mass"] = options["least_mass"]
    if odd:
        caveats.append(f"These options of simulate can be given in Python only: {_pairs(odd)}.")


def _plain(value: Any) -> Any:  # noqa: ANN401 - an option
    return list(value) if isinstance(value, tuple) else value


def _evaluation(result: Result, caveats: list[str]) -> Iterator[str]:
    options, usual = judged(result), EvaluateOptions()
    name = options.get("humans", "")
    yield from ("--humans", name) if name else ()
    if result.n_humans == result.n:
        yield from ("--reference", "cast")
    for flag in ("weighting", "resample", "bootstraps"):
        if options.get(flag, getattr(usual, flag)) != getattr(usual, flag):
            yield from (f"--{flag}", str(options[flag]))
    yield from (word for trait in options.get("by", ()) for word in ("--by", str(trait)))
    if options.get("polychoric"):
        yield "--polychoric"
    if earlier := options.get("previous", ""):
        yield from ("--previous", str(earlier))
        if earlier not in sources():
            caveats.append(
                f"{earlier} came from a file: put it in the place of {earlier}, with --previous-wave where it has "
                "several."
            )
    elif any(metric.previous is not None for metric in result.metrics):
        caveats.append("The earlier wave is not named in the result: give it with --previous.")
    odd = {flag: options[flag] for flag in ("splits", "least", "level", "seed")
           if flag in options and options[flag] != getattr(usual, flag)}  # fmt: skip
    if odd:
        caveats.append(f"These options of evaluate can be given in Python only: {_pairs(odd)}.")
