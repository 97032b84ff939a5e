"""How far probabilities of levels can be trusted: accuracy, Brier score, expected calibration error, confusion. Pure.

Arrays of probabilities have the shape (personas, levels), true levels are positions, shape (personas,). Intervals are
percentile bootstrap over personas, seeded. Baselines are judged on the same personas and the same draws.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from anthology_hub.errors import DataError, EmptyError, UnknownNameError
from anthology_hub.prompts import derive_seed
from anthology_hub.schema import Trait

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from anthology_hub.collection import Anthology

AUTHOR = "author"
"""Method of the annotations that are taken for the truth."""

BINS = 10
"""Equal bins of confidence, from 0 to 1."""
DRAWS = 1000
LEVEL = 0.95
"""Of the intervals."""
TIED = 1e-6
"""Probabilities as near as this are equal: annotations are kept as float32."""
BETTER, WORSE, LIKE = "better than", "worse than", "not told apart from"
NO_USE = "On no trait does it beat all baselines in accuracy: its annotations are no use."
SCORES = ("accuracy", "brier")
"""What baselines are compared on; the first is best at 1, the second at 0."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A figure with its bootstrap interval over personas."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Bin:
    """The personas whose top level is about as probable."""

    low: float
    high: float
    n: int
    confidence: float
    """Mean probability of the top level."""
    accuracy: float
    """Share of them whose top level is the true one."""


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """What costs nothing, and whether the annotator is better."""

    name: str
    """uniform, majority (the most common true level, known with hindsight), or population (the codebook's shares)."""
    accuracy: float
    brier: float
    verdicts: Mapping[str, str]
    """Score -> BETTER, WORSE or LIKE: whether the interval of the difference leaves out zero."""


@dataclass(frozen=True, kw_only=True)
class TraitCalibration:
    """How well one trait was annotated."""

    trait: str
    levels: tuple[str, ...]
    n: int
    """Personas with a true level and an annotation."""
    coverage: float
    """Share of the personas with a true level whose annotation rests on something: a quote, or a reply that says a
    level; the others are uniform or missing."""
    accuracy: Figure
    brier: Figure
    ece: Figure
    confusion: tuple[tuple[float, ...], ...]
    """Personas by true level (rows) and top level; equally probable top levels share a persona."""
    bins: tuple[Bin, ...]
    """Those that are not empty."""
    baselines: tuple[Baseline, ...]
    mean_refused: float | None
    """Of the samples of a persona; None where nothing was sampled."""
    mean_noncompliant: float | None


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """How well a collection was annotated, trait by trait."""

    annotator: str
    """Who annotated what is judged; of several, all."""
    method: str
    """All that were used, joined by `+`."""
    collection: str
    """Whose labels are taken for the truth."""
    n: int
    """Personas in both."""
    traits: tuple[TraitCalibration, ...]
    seed: int = 0
    unlabelled: tuple[str, ...] = ()
    """Annotated traits that the true labels do not have, or with other levels."""

    @property
    def verdict(self) -> str:
        """Say in words whether the annotator beats the baselines.

        Better: the 95 % interval of the difference over personas leaves out zero.
        """
        lines = [f"{self.annotator} on {self.n} personas of {self.collection}."]
        for name in ("uniform", "majority", "population"):
            found = [b for trait in self.traits for b in trait.baselines if b.name == name]
            lines += [_compared(found, name, score) for score in SCORES] if found else []
        best = [t.trait for t in self.traits if all(b.verdicts["accuracy"] == BETTER for b in t.baselines)]
        named = f"of {len(self.traits)} traits: {', '.join(best)}"
        lines += [f"It beats all baselines in accuracy on {len(best)} {named}." if best else NO_USE]
        return " ".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "verdict": self.verdict, "bins": BINS, "interval": LEVEL, "draws": DRAWS}


def check(
    people: Anthology, annotated: Anthology, *, traits: Sequence[str] | None = None, seed: int = 0
) -> Calibration:
    """Judge annotations by a model against the author's labels of the same personas.

    Args:
        people: A collection with annotations by its author, such as the starter.
        annotated: What `annotate` made of it, or of some of it.
        traits: Names; all that both know with the same levels, if not given.
        seed: Of the bootstrap.

    Raises:
        EmptyError: If no persona is in both, or no trait was labelled by the author and annotated by a model.
        UnknownNameError: If a trait is not among those.

    Example:
        >>> from anthology_hub import Anthology, open_model
        >>> from anthology_hub.annotation import annotate
        >>> people = Anthology.load("starter").sample(30)
        >>> done = annotate(people, open_model("scripted:uniform"), traits=["gender"], method="logprob")
        >>> found = check(people, done.collection).traits[0]
        >>> round(found.accuracy.value, 3), found.baselines[0].verdicts["brier"]
        (0.333, 'not told apart from')
    """
    theirs = {(r["persona_id"], r["trait"]): r for r in people.annotations() if r["method"] == AUTHOR}
    ours = {(r["persona_id"], r["trait"]): r for r in annotated.annotations() if r["method"] != AUTHOR}
    both = sorted(set(theirs) & set(ours))
    judged = [trait.name for trait in annotated.codebook.traits if trait.name in {name for _, name in ours}]
    fit = [name for name in judged if name in {known for _, known in both} and _same_levels(people, annotated, name)]
    for name in traits or ():
        if name not in fit:
            raise UnknownNameError("trait that the author labelled and a model annotated", name, fit)
    if not fit:
        raise EmptyError(
            f"nothing to judge: a model annotated {', '.join(judged) or 'no trait'}, and no persona has a label by the "
            "author for one of these with the same levels; annotate with the collection's own codebook"
        )
    common = sorted(set(people.ids) & set(annotated.ids))
    found = [_judge(people.codebook.trait(name), common, theirs, ours, seed) for name in traits or fit]
    judges = [ours[key] for key in both if key[1] in (traits or fit)]
    return Calibration(
        annotator=" and ".join(sorted({str(row["annotator"]) for row in judges})),
        method="+".join(sorted({row["method"] for row in judges})),
        collection=people.identity,
        n=len(common),
        traits=tuple(found),
        seed=seed,
        unlabelled=tuple(name for name in judged if name not in fit),
    )


def calibrate(
    trait: str,
    levels: Sequence[str],
    probs: NDArray[np.floating[Any]],
    truth: NDArray[np.integer[Any]],
    *,
    coverage: float = 1.0,
    population: Sequence[float] = (),
    samples: Mapping[str, float | None] | None = None,
    seed: int = 0,
) -> TraitCalibration:
    """Judge the probabilities of one trait against true levels.

    Args:
        trait: Its name.
        levels: Names of its levels.
        probs: Probabilities, shape (n, levels), rows sum to 1.
        truth: Position of the true level, shape (n,).
        coverage: Share of those with a true level whose probabilities rest on something.
        population: Share of each level in the population, for that baseline; left out if empty.
        samples: mean_refused and mean_noncompliant, where replies were sampled.
        seed: Of the bootstrap.

    Raises:
        EmptyError: If there is nobody.
        DataError: If shapes differ, or rows are no probabilities.

    Example:
        >>> probs = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]])
        >>> found = calibrate("gender", ["Male", "Female"], probs, np.array([0, 1, 1]))
        >>> round(found.accuracy.value, 3), round(found.brier.value, 3), found.confusion
        (0.667, 0.273, ((1.0, 0.0), (1.0, 1.0)))
    """
    _check(levels, probs, truth)
    shares = probs.astype(np.float64)
    draws = np.random.default_rng(seed).integers(0, len(truth), (DRAWS, len(truth)))
    scores = {"accuracy": hits(shares, truth), "brier": brier_terms(shares, truth)}
    return TraitCalibration(
        trait=trait,
        levels=tuple(levels),
        n=len(truth),
        coverage=coverage,
        accuracy=_figure(scores["accuracy"], draws),
        brier=_figure(scores["brier"], draws),
        ece=_interval(lambda at: expected_calibration_error(shares[at], truth[at]), draws),
        confusion=tuple(tuple(row) for row in confusion(shares, truth).tolist()),
        bins=tuple(reliability(shares, truth)),
        baselines=tuple(_baselines(scores, truth, len(levels), population, draws)),
        mean_refused=(samples or {}).get("mean_refused"),
        mean_noncompliant=(samples or {}).get("mean_noncompliant"),
    )


def hits(probs: NDArray[np.float64], truth: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """Return 1 where the top level is the true one, 0 elsewhere, shape (n,); k tied top levels give 1/k.

    Accuracy is their mean: 0 to 1, best 1; 1 / levels for uniform probabilities.
    """
    tops = _tops(probs)
    return np.asarray(tops[np.arange(len(truth)), truth])


def brier_terms(probs: NDArray[np.float64], truth: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """Return the squared distance of each row to the true level, shape (n,); the Brier score is their mean.

    0 to 2, best 0; 1 - 1 / levels for uniform probabilities (Brier 1950, over all levels).
    """
    return np.asarray(((probs - np.eye(probs.shape[1])[truth]) ** 2).sum(axis=1))


def expected_calibration_error(probs: NDArray[np.float64], truth: NDArray[np.integer[Any]]) -> float:
    """Return the mean distance of confidence and accuracy over BINS equal bins, weighted by their sizes.

    0 to 1, best 0. Confidence is the probability of the top level (Guo et al., ICML 2017).

    Example:
        >>> sure = np.array([[0.95, 0.05]] * 4)
        >>> round(expected_calibration_error(sure, np.array([0, 0, 0, 1])), 3)
        0.2
    """
    return float(sum(b.n * abs(b.confidence - b.accuracy) for b in reliability(probs, truth)) / len(truth))


def reliability(probs: NDArray[np.float64], truth: NDArray[np.integer[Any]]) -> list[Bin]:
    """Return confidence and accuracy of each bin of confidence that is not empty; bin k holds (k/BINS, (k+1)/BINS]."""
    confidence, right = probs.max(axis=1), hits(probs, truth)
    # Float32 gives 0.69999999 where seven of ten samples said a level.
    place = np.clip(np.ceil(confidence * BINS - TIED).astype(int) - 1, 0, BINS - 1)
    return [
        Bin(
            low=k / BINS,
            high=(k + 1) / BINS,
            n=int((place == k).sum()),
            confidence=float(confidence[place == k].mean()),
            accuracy=float(right[place == k].mean()),
        )
        for k in np.unique(place).tolist()
    ]


def confusion(probs: NDArray[np.float64], truth: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """Return personas by true level (rows) and top level (columns), shape (levels, levels); ties share a persona."""
    table = np.zeros((probs.shape[1],) * 2)
    np.add.at(table, truth, _tops(probs))
    return table


def _tops(probs: NDArray[np.float64]) -> NDArray[np.float64]:
    tied = probs >= probs.max(axis=1, keepdims=True) - TIED
    return np.asarray(tied / tied.sum(axis=1, keepdims=True))


def settled(counts: Sequence[int], stop: str, epsilon: float) -> bool:
    """Say whether more samples would hardly change which level is on top, or the order of the levels.

    The posterior is Dirichlet(counts + 1). Of two levels the smaller count is the more probable one with the
    probability I_1/2(larger + 1, smaller + 1), the regularised incomplete beta function; these are summed (union bound)
    over the rivals of the top level, or over neighbours in the order of those seen and the first unseen one.

    Args:
        counts: Replies per level.
        stop: `top` or `ranks`; empty: never settled.
        epsilon: Largest probability of being wrong.

    Example:
        >>> settled([9, 1, 0, 0], "top", 0.05), settled([5, 4, 0, 0], "top", 0.05)
        (True, False)
    """
    from scipy.special import betainc

    order = sorted(counts, reverse=True)
    if stop == "top":
        pairs = [(order[0], other) for other in order[1:]]
    else:
        seen = [count for count in order if count]
        ranked = order[: len(seen) + 1]
        pairs = list(zip(ranked, ranked[1:], strict=False))
    wrong = sum(float(betainc(more + 1, fewer + 1, 0.5)) for more, fewer in pairs)
    return bool(stop) and bool(sum(counts)) and wrong <= epsilon


def _check(levels: Sequence[str], probs: NDArray[np.floating[Any]], truth: NDArray[np.integer[Any]]) -> None:
    if not len(truth):
        raise EmptyError("there is no persona with a true level and an annotation: annotate personas that have labels")
    if probs.shape != (len(truth), len(levels)):
        raise DataError(f"probabilities have the shape {probs.shape}, {(len(truth), len(levels))} is needed")
    if not np.isfinite(probs).all() or probs.min() < 0 or not np.allclose(probs.sum(axis=1), 1, atol=1e-4):
        raise DataError("each row of the probabilities must be 0 or more and sum to 1: leave out who is not annotated")
    if truth.min() < 0 or truth.max() >= len(levels):
        raise DataError(f"true levels must be positions from 0 to {len(levels) - 1}, got {truth.min()}, {truth.max()}")


def _figure(terms: NDArray[np.float64], draws: NDArray[np.int64]) -> Figure:
    low, high = _between(terms[draws].mean(axis=1))
    return Figure(value=float(terms.mean()), low=low, high=high)


def _interval(score: Callable[[NDArray[np.int64]], float], draws: NDArray[np.int64]) -> Figure:
    low, high = _between(np.array([score(at) for at in draws]))
    return Figure(value=score(np.arange(draws.shape[1])), low=low, high=high)


def _between(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _baselines(
    scores: Mapping[str, NDArray[np.float64]],
    truth: NDArray[np.integer[Any]],
    levels: int,
    population: Sequence[float],
    draws: NDArray[np.int64],
) -> list[Baseline]:
    rows = {"uniform": np.full(levels, 1 / levels), "majority": np.eye(levels)[np.bincount(truth).argmax()]}
    rows |= {"population": np.array(population) / sum(population)} if len(population) else {}
    found = []
    for name, row in rows.items():
        probs = np.tile(row, (len(truth), 1))
        terms = {"accuracy": hits(probs, truth), "brier": brier_terms(probs, truth)}
        # What is gained over the baseline, persona by persona.
        gains = {"accuracy": scores["accuracy"] - terms["accuracy"], "brier": terms["brier"] - scores["brier"]}
        verdicts = {score: _verdict(gain, draws) for score, gain in gains.items()}
        means = {score: float(values.mean()) for score, values in terms.items()}
        found.append(Baseline(name=name, verdicts=verdicts, **means))
    return found


def _verdict(gain: NDArray[np.float64], draws: NDArray[np.int64]) -> str:
    low, high = _between(gain[draws].mean(axis=1))
    return BETTER if low > TIED else WORSE if high < -TIED else LIKE


def _compared(found: Sequence[Baseline], name: str, score: str) -> str:
    counts = {verdict: sum(b.verdicts[score] == verdict for b in found) for verdict in (BETTER, LIKE, WORSE)}
    said = ", ".join(f"{verdict} it on {count}" for verdict, count in counts.items() if count)
    measure = {"accuracy": "accuracy", "brier": "Brier score"}[score]
    return f"Against the {name} baseline in {measure}, of {len(found)} traits: {said}."


def _same_levels(people: Anthology, annotated: Anthology, name: str) -> bool:
    mine = [trait.levels for trait in people.codebook.traits if trait.name == name]
    return mine == [trait.levels for trait in annotated.codebook.traits if trait.name == name]


def _judge(
    trait: Trait,
    ids: Sequence[str],
    theirs: Mapping[tuple[str, str], Mapping[str, Any]],
    ours: Mapping[tuple[str, str], Mapping[str, Any]],
    seed: int,
) -> TraitCalibration:
    labelled = [at for at in ids if (at, trait.name) in theirs]
    both = [at for at in labelled if (at, trait.name) in ours]
    rows = [ours[at, trait.name] for at in both]
    founded = [row for row in rows if row["n_samples"] is None or _answered(row)]
    sampled = [row for row in rows if row["n_samples"]]
    return calibrate(
        trait.name,
        trait.levels,
        np.array([row["probs"] for row in rows]),
        np.array([int(np.argmax(theirs[at, trait.name]["probs"])) for at in both]),
        coverage=len(founded) / len(labelled),
        population=trait.population,
        samples={f"mean_{what}": _mean_share(sampled, f"n_{what}") for what in ("refused", "noncompliant")},
        seed=derive_seed(seed, trait.name, "bootstrap"),
    )


def _answered(row: Mapping[str, Any]) -> bool:
    return bool(row["n_samples"] > row["n_refused"] + row["n_noncompliant"])


def _mean_share(rows: Sequence[Mapping[str, Any]], column: str) -> float | None:
    return float(np.mean([row[column] / row["n_samples"] for row in rows])) if rows else None
