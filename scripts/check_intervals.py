"""How often the intervals of `evaluate` hold the true value, over many made surveys.

python scripts/check_intervals.py [--surveys 1000] [--draws 200] [--design NAME ...] [--seed 0] [--workers 1] [--more]

Humans and simulator are made by the script, so that the true value of every figure is known: that of POPULATION
people, or exactly 0 where both are the same. Each survey is a new sample of people, a cast that stands for them and
its answers, handed to `evaluate` itself, with fewer bootstrap draws than usual. Prints a Markdown table of coverage in
percent, marks what is outside `allowed`, and exits with 1 where that is a figure of PROMISED or, too low, of AT_LEAST.
With `--more` the table is that of the other figures, of subgroups, of the parity gap and of differences between two
runs, of which nothing is promised.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from anthology_hub.comparison import compare
from anthology_hub.evaluation import EvaluateOptions, evaluate
from anthology_hub.prompts import derive_seed
from anthology_hub.schema import ANSWERED, Answers, Metric, Respondents, Result, Survey

POPULATION = 200_000
LEVEL = 0.95
OPTIONS = (2, 3, 4, 5, 5, 4, 3, 5)
LEAN = np.array([1, -1, 1, -1, 1, 1, -1, 1])
"""Which way groups, and the simulator's error, push the answers to each question."""
GROUPS = np.array([0.5, 0.3, 0.2])
CLUSTER = 10
"""People of a cluster."""
DISTANCES = ("wd_normalised", "wd", "tv", "jsd", "fro")
PROMISED = ("alpha", "omega", "variance_ratio", "accuracy", "item_correlation", "explained")
"""Covered as often as said, 93 to 97 % of 1,000 surveys, of LEAST people or more; more often where roles share
personas."""
LEAST = 200
AT_LEAST = (*DISTANCES, "kl", "group_gaps")
"""Covered as often as said or more: near 0 an interval that reaches down to 0 cannot miss on that side."""
FIGURES = (*DISTANCES, "kl", *PROMISED, "group_gaps", "coefficients")

COMPARED = ("wd_normalised", "fro", "accuracy")
MORE = (
    *("entropy_ratio", "cbs", "fro_spearman", "mad_accuracy", "normalised_accuracy", "subgroup", "gap"),
    *(f"{name}, difference" for name in COMPARED),
)
"""Figures of the second table; `subgroup` is the headline in the smallest group, `gap` the parity gap of the groups, a
difference that of another run with a simulator as wrong as `rival_of` says."""
AGAIN = 0.7
"""Part of their answers that people are sure of, and repeat when they are asked again."""

Codes = NDArray[np.int16]
Held = Mapping[str, NDArray[np.float64]]
"""Figure -> for each survey 1 where its interval held the true value, 0 where not, NaN where there was none."""


@dataclass(frozen=True, kw_only=True)
class Design:
    """One way to make surveys."""

    name: str
    n: int = 500
    """Size of the cast."""
    humans: int = 0
    """Of whom the cast stands for a part; 0: for all."""
    far: float = 0.5
    """How wrong the simulator is; 0: its answers are distributed as the humans'."""
    weighted: bool = False
    clusters: bool = False
    """People are drawn in clusters, which think alike and of which most belong to one group."""
    shared: int = 1
    """Roles of each persona."""


DESIGNS = (
    *(
        Design(name=f"{n:,} people, {how}", n=n, far=far)
        for n in (100, 500, 2000)
        for how, far in (("no distance", 0.0), ("near", 0.15), ("moderate", 0.5), ("large", 1.5))
        if n < 2000 or how in ("near", "moderate")
    ),
    Design(name="500, weights", weighted=True),
    Design(name="500 in 50 clusters", clusters=True),
    Design(name="500, 100 personas", shared=5),
    Design(name="200 of 2,000 people", n=200, humans=2000),
)


def made_survey() -> Survey:
    """Return the questions."""
    return Survey.from_dict(
        {
            "name": "made",
            "title": "Made questions",
            "source": "scripts/check_intervals.py",
            "questions": [
                {
                    "key": f"q{at}",
                    "text": f"Question {at}?",
                    "options": [{"code": option, "text": f"option {option}"} for option in range(k)],
                }
                for at, k in enumerate(OPTIONS)
            ],
        }
    )


SURVEY = made_survey()


@dataclass(frozen=True, kw_only=True)
class People:
    """A sample of people and of the roles that stand for them."""

    groups: Codes
    """Of two traits, shape (n, 2)."""
    human: Codes
    simulated: Codes
    retest: Codes
    rival: Codes
    """Answers of another simulator."""
    weights: NDArray[np.float64]
    cluster: NDArray[np.int64]
    persona: NDArray[np.int64]


def draw(design: Design, n: int, rng: np.random.Generator) -> People:
    """Draw people, whose opinions are made of groups, one common taste, their cluster and each question alone."""
    cluster = np.arange(n) // CLUSTER if design.clusters else np.arange(n)
    one, weights = _drawn_groups(design, cluster, rng)
    groups = np.stack([one, rng.choice(2, n)], axis=1)
    of_group = 0.5 * (groups[:, :1] - GROUPS @ np.arange(3)) * LEAN + 0.3 * (groups[:, 1:] - 0.5)
    taste, local = rng.normal(size=(n, 1)), 0.06 * design.clusters
    alone = np.sqrt(0.58 - local) * rng.normal(size=(n, len(OPTIONS)))
    alike = np.sqrt(local) * rng.normal(size=(cluster[-1] + 1, len(OPTIONS)))[cluster]
    persona = _personas(groups, design.shared, rng)
    human = _coded(of_group + 0.65 * taste + alike + alone)
    simulated = _simulated(of_group, _told(taste, persona, design.shared, rng), design.far)
    rival = _simulated(of_group, _told(taste, persona, design.shared, rng), rival_of(design))
    other = _coded(of_group + 0.65 * taste + alike + np.sqrt(0.58 - local) * rng.normal(size=alone.shape))
    return People(
        groups=groups.astype(np.int16),
        human=human,
        simulated=simulated,
        retest=np.where(rng.random(human.shape) < AGAIN, human, other),
        rival=rival,
        weights=weights,
        cluster=cluster,
        persona=persona,
    )


def rival_of(design: Design) -> float:
    """Return how wrong the other simulator is: as much at a moderate distance, more below it, less above it."""
    return 0.25 + design.far / 2


def _simulated(of_group: NDArray[np.float64], answered: NDArray[np.float64], far: float) -> Codes:
    wrong = far * 0.7 * LEAN * np.linspace(0.5, 1.5, len(OPTIONS))
    return _coded((1 + far) * of_group + (1 - far / 2) * 0.65 * answered[:, :1] + answered[:, 1:] + wrong)


def _drawn_groups(
    design: Design, cluster: NDArray[np.int64], rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The group of each person, by a draw that is even or that weights make good."""
    n = len(cluster)
    if design.weighted:
        drawn = np.array([0.3, 0.3, 0.4])
        one = rng.choice(3, n, p=drawn)
        return one, (GROUPS / drawn)[one] * rng.lognormal(sigma=0.5, size=n)
    one = rng.choice(3, n, p=GROUPS)
    if design.clusters:
        one = np.where(rng.random(n) < 0.7, rng.choice(3, cluster[-1] + 1, p=GROUPS)[cluster], one)
    return one, np.ones(n)


def _personas(groups: NDArray[np.int64], shared: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """The persona of each person, among those of the same groups, as in a greedy cast."""
    if shared == 1:
        return np.arange(len(groups))
    cell, persona, first = groups @ [2, 1], np.zeros(len(groups), dtype=np.int64), 0
    for one in range(6):
        inside = np.flatnonzero(cell == one)
        count = max(1, len(inside) // shared)
        persona[inside] = first + rng.choice(count, len(inside))
        first += count
    return np.unique(persona, return_inverse=True)[1].astype(np.int64)


def _told(
    taste: NDArray[np.float64], persona: NDArray[np.int64], shared: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Taste of each role, and what it has of each question alone, shape (n, 1 + q).

    A persona of one's own knows something of one's taste; a shared one only the groups, and repeats itself.
    """
    n, q, count = len(taste), len(OPTIONS), int(persona.max()) + 1
    known, repeated = (0.6, 0.0) if shared == 1 else (0.0, 0.6)
    own = known * taste + np.sqrt(1 - known**2) * rng.normal(size=(count, 1))[persona]
    alone = np.sqrt(1 - repeated) * rng.normal(size=(n, q))
    if repeated:
        alone = alone + np.sqrt(repeated) * rng.normal(size=(count, q))[persona]
    return np.hstack([own, np.sqrt(0.58) * alone])


def _coded(opinions: NDArray[np.float64]) -> Codes:
    """Cut opinions into options."""
    found = np.empty(opinions.shape, dtype=np.int16)
    for at, k in enumerate(OPTIONS):
        aside = 0.25 * (-1) ** at if k > 2 else 0.2
        found[:, at] = np.searchsorted(np.linspace(-0.9, 0.9, k + 1)[1:-1] + aside, opinions[:, at])
    return found


def study(
    design: Design, people: People, cast: NDArray[np.int64], *, more: bool = False
) -> tuple[Answers, Respondents]:
    """Return a cast for some of the people and its answers, and the people, who were asked twice if `more`."""
    ids = tuple(f"r{at}" for at in range(len(people.human)))
    humans = Respondents(
        name="made people",
        ids=ids,
        levels={"group": ("a", "b", "c"), "half": ("x", "y")},
        codes={"group": people.groups[:, 0], "half": people.groups[:, 1]},
        answers={key: people.human[:, at] for at, key in enumerate(SURVEY.keys)},
        weights=people.weights if design.weighted else None,
        psu=people.cluster if design.clusters else None,
        retest={key: people.retest[:, at] for at, key in enumerate(SURVEY.keys)} if more else {},
        survey=SURVEY,
    )
    shape = (len(cast), len(OPTIONS))
    answers = Answers(
        survey=SURVEY,
        respondent_ids=tuple(ids[at] for at in cast),
        persona_ids=tuple(f"p{people.persona[at]}" for at in cast),
        weights=people.weights[cast],
        picks=people.simulated[cast],
        probs=np.full((*shape, max(OPTIONS)), np.nan, dtype=np.float32),
        mass=np.full(shape, np.nan, dtype=np.float32),
        statuses=np.full(shape, ANSWERED),
        raw=np.full(shape, "", dtype=object),
        provenance={
            "run_id": "made",
            "started": "2026-01-01T00:00:00Z",
            "inputs": {
                "humans": humans.name,
                "options": {"conditioning": "bio"},
                "model": {"developer": "made", "model": "made"},
                "cast": {"method": "made", "traits": ("group", "half")},
            },
        },
    )
    return answers, humans


def evaluated(design: Design, seed: int, *, draws: int, more: bool = False) -> dict[str, Metric]:
    """Make one survey and evaluate it."""
    rng = np.random.default_rng(seed)
    people = draw(design, max(design.n, design.humans), rng)
    cast = np.sort(rng.choice(len(people.human), design.n, replace=False))
    answers, humans = study(design, people, cast, more=more)
    options = EvaluateOptions(
        splits=1, bootstraps=draws, level=LEVEL, seed=seed % 2**31, by=("group",) if more else (), least=5
    )
    found = figures_of(evaluate(answers, humans, options=options))
    return found | compared(answers, people.rival[cast], humans, options) if more else found


def compared(answers: Answers, rival: Codes, humans: Respondents, options: EvaluateOptions) -> dict[str, Metric]:
    """Return how much further from the humans the run is than that of the rival."""
    found = compare({"run": answers, "rival": replace(answers, picks=rival)}, humans, options=options)
    told = {f"{name}, difference": found.difference(name, "run", "rival") for name in COMPARED}
    return {name: Metric(name=name, value=one.value, unit="", low=one.low, high=one.high) for name, one in told.items()}


def figures_of(result: Result) -> dict[str, Metric]:
    """Return every figure of a result, and of its subgroups what MORE names.

    Of the parity gap the value is that of the distances as measured: so many people as tell the truth have no chance.
    """
    found = {metric.name: metric for metric in result.metrics}
    told = {one.level: one.metric("wd_normalised").value or 0.0 for one in result.subgroups if one.metrics}
    for one in result.subgroups:
        if one.level == "c" and one.metrics:
            found["subgroup"] = one.metric("wd_normalised")
        if one.gap is not None:
            apart = max(told.values()) - min(told.values())
            found["gap"] = Metric(name="gap", value=apart, unit="", low=one.gap_low, high=one.gap_high)
    return found


def truth(design: Design, *, seed: int, more: bool = False) -> dict[str, float]:
    """Return what `evaluate` would say of everybody; of a simulator that is right, that no figure differs."""
    even = Design(name=design.name, n=POPULATION, far=design.far, shared=design.shared)
    figures = evaluated(even, derive_seed(seed, design.name, "truth", 0), draws=2, more=more)
    found = {name: float("nan") if one.value is None else one.value for name, one in figures.items()}
    if not design.far:
        found |= dict.fromkeys((*DISTANCES, "kl", "group_gaps"), 0.0) | {"coefficients": 1.0, "entropy_ratio": 1.0}
        found |= dict.fromkeys(("cbs", "fro_spearman", "subgroup", "gap"), 0.0)
    if rival_of(design) == design.far:
        found |= {f"{name}, difference": 0.0 for name in COMPARED}
    return found


def covered(figures: Mapping[str, Metric], true: Mapping[str, float], *, more: bool = False) -> dict[str, float]:
    """Return for each figure whether its interval holds the true value, 1 or 0; NaN where there is no interval."""
    found = {}
    for name in MORE if more else FIGURES:
        one = figures.get(name)
        low, high = (None, None) if one is None else (one.low, one.high)
        found[name] = float("nan") if low is None or high is None else float(low <= true[name] <= high)
    return found


def one_survey(
    number: int, *, design: Design, seed: int, draws: int, true: Mapping[str, float], more: bool = False
) -> dict[str, float]:
    """Make the survey of this number; see which intervals hold."""
    figures = evaluated(design, derive_seed(seed, design.name, "survey", number), draws=draws, more=more)
    return covered(figures, true, more=more)


def coverage(
    design: Design, surveys: int, *, draws: int, seed: int, workers: int = 1, more: bool = False
) -> dict[str, NDArray[np.float64]]:
    """Return whether the intervals held, survey by survey."""
    true = truth(design, seed=seed, more=more)
    task = partial(one_survey, design=design, seed=seed, draws=draws, true=true, more=more)
    if workers == 1:
        found = list(map(task, range(surveys)))
    else:
        with ProcessPoolExecutor(workers) as pool:
            found = list(pool.map(task, range(surveys), chunksize=10))
    return {name: np.array([each[name] for each in found]) for name in (MORE if more else FIGURES)}


def shares(held: Held) -> dict[str, float]:
    """Return in which share of the surveys that gave an interval it held; NaN where none did."""
    kept = {name: each[~np.isnan(each)] for name, each in held.items()}
    return {name: float(each.mean()) if len(each) else float("nan") for name, each in kept.items()}


def allowed(surveys: int) -> tuple[float, float]:
    """Return the range that coverage may be in: 93 to 97 % of 1,000 surveys; of fewer, as much wider as chance is.

    Two points are three standard errors of a coverage of 95 % in 1,000 surveys.
    """
    reach = 0.02 * max(1.0, (1000 / surveys) ** 0.5)
    return LEVEL - reach, min(1.0, LEVEL + reach)


def broken(design: Design, found: Mapping[str, float], surveys: int) -> list[str]:
    """Return the promised figures whose coverage is not as promised."""
    low, high = allowed(surveys)
    kept = (*AT_LEAST, *(PROMISED if design.n >= LEAST else ()))
    # Roles of one persona are drawn in lumps, and lumps vary more than people: wider than need be.
    above = PROMISED if design.shared == 1 and design.n >= LEAST else ()
    return [name for name in found if (name in kept and found[name] < low) or (name in above and found[name] > high)]


def head(surveys: int, figures: Sequence[str] = FIGURES) -> str:
    """Return the first two lines of the table."""
    names = " | ".join(f"`{figure}`" for figure in figures)
    return f"| % of {surveys:,} surveys | {names} |\n|{' --- |' * (1 + len(figures))}"


def row(design: Design, held: Held) -> str:
    """Return one row of the table; a star marks what is not as promised."""
    found, surveys = shares(held), len(next(iter(held.values())))
    wrong, cells = broken(design, found, surveys), []
    for name in held:
        lost = int(np.isnan(held[name]).sum())
        cells.append(
            f"{100 * found[name]:.1f}{' *' if name in wrong else ''}{f' (of {surveys - lost})' if lost else ''}"
        )
    return f"| {design.name} | {' | '.join(cells)} |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; return 1 if a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--surveys", type=int, default=1000)
    parser.add_argument("--draws", type=int, default=200, help="bootstrap draws of each interval")
    parser.add_argument("--design", action="append", choices=[design.name for design in DESIGNS])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--more", action="store_true", help="the table of the other figures")
    given = parser.parse_args(arguments)
    # One thread for each survey: the tables are small, and the surveys are many.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    print(head(given.surveys, MORE if given.more else FIGURES))
    wrong = []
    for design in DESIGNS:
        if not given.design or design.name in given.design:
            held = coverage(
                design, given.surveys, draws=given.draws, seed=given.seed, workers=given.workers, more=given.more
            )
            wrong += broken(design, shares(held), given.surveys)
            print(row(design, held), flush=True)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
