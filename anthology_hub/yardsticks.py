"""What a simulation is held against: other humans, and guesses that take no model.

The human floor is what two samples of the same people differ by. The guesses are every option equally often (uniform),
everybody the humans' commonest answer (majority), the humans' answers shuffled among them, question by question
(margins: right shares, no structure), each person an answer of somebody like it by demographics (cells: the strongest
cheap predictor), and an earlier wave of the same survey (previous).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from anthology_hub import metrics, resampling
from anthology_hub.answer_table import AnswerTable
from anthology_hub.measures import MEASURES
from anthology_hub.rows import BLOCK_BYTES, LEAST_VARIANCE
from anthology_hub.sides import Figures, Items, Shares, Side

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEAST_PEOPLE = 4
"""Fewer humans have no halves to speak of."""
LEAST_CELL = 20
"""People that a demographic cell must have; smaller ones are joined to their neighbours."""

POLYCHORIC_SPLITS = 5
"""Halves and samples for the floors of polychoric correlations: norms over all pairs of questions vary little."""


@dataclass(frozen=True, kw_only=True)
class Yardsticks:
    """The company of every figure, by its name in `measures`; NaN where undefined."""

    floor: Mapping[str, float]
    """Mean over random halves of the humans, one half against the other."""
    floor_equal_n: Mapping[str, float]
    """Mean over random samples of people like the humans, as large as the cast, against samples as large as theirs."""
    baselines: Mapping[str, Mapping[str, float]]
    """Baseline -> figure -> value."""
    questions: Mapping[str, NDArray[np.float64]]
    """Floors of the Wasserstein distance in option steps, `wd_floor` and `wd_floor_equal_n`, of each question."""
    notes: tuple[str, ...] = ()


def yardsticks(
    theirs: Side | Shares,
    items: Items,
    n: int,
    *,
    splits: int,
    seed: int = 0,
    cells: NDArray[np.int64] | None = None,
    previous: Side | None = None,
) -> Yardsticks:
    """Compute floors and baselines.

    Args:
        theirs: The humans.
        items: The questions.
        n: Size of the cast.
        splits: Random halves for the floor and for cells; random samples for the floor at equal n.
        seed: Of the halves and samples.
        cells: Demographic cell of each human, shape (humans,), as from `demographic_cells`.
        previous: The humans of an earlier wave.
    """
    guesses = _guesses(theirs.whole, items)
    if previous is not None:
        guesses["previous"] = previous.whole
    baselines = {name: resampling.means(guess.against(theirs.whole, items)) for name, guess in guesses.items()}
    people, nothing = len(theirs), dict.fromkeys(MEASURES, float("nan"))
    if isinstance(theirs, Shares) or people < LEAST_PEOPLE:
        why = f"{people or 'No'} humans are too few for a split-half floor."
        unknown = dict.fromkeys(("wd_floor", "wd_floor_equal_n"), np.full(len(items.n_options), np.nan))
        return Yardsticks(floor=nothing, floor_equal_n=nothing, baselines=baselines, questions=unknown, notes=(why,))
    masks = resampling.half_splits(people, splits, seed=seed)
    first, second = theirs.halves(masks)
    # Of an uneven measure, and of one that is no distance, both directions are as good.
    there, back = first.against(second, items), second.against(first, items)
    halves = {name: (value + back[name]) / 2 for name, value in there.items()}
    floor, notes = nothing | resampling.means(halves), list(_lost(halves, "random halves of the humans"))
    if cells is not None:
        baselines["cells"] = resampling.means(_from_cells(theirs, masks, cells, first).against(second, items))
    mine, others = (_samples(theirs, size, splits, seed=seed + at) for at, size in enumerate((n, people)))
    drawn = mine.against(others, items)
    notes += _lost(drawn, f"random samples of {n} humans")
    return Yardsticks(
        floor=floor,
        floor_equal_n=nothing | resampling.means(drawn),
        baselines=baselines,
        questions={"wd_floor": _steps(first, second), "wd_floor_equal_n": _steps(mine, others)},
        notes=tuple(notes),
    )


def _steps(one: Figures, other: Figures) -> NDArray[np.float64]:
    """Mean distance of each question over the samples in which both sides answered it; NaN if there is none."""
    steps = metrics.wasserstein(one.on_scale, other.on_scale)
    known = ~np.isnan(steps)
    return np.asarray(
        np.divide(
            np.nansum(steps, axis=0), known.sum(axis=0), out=np.full(steps.shape[1], np.nan), where=known.any(axis=0)
        )
    )


def polychoric_floors(theirs: Side, n: int, *, splits: int, seed: int = 0) -> tuple[float, float]:
    """Return the floor and the floor at equal n of the norm between polychoric correlations, which take long.

    Means over POLYCHORIC_SPLITS halves and samples at most; NaN of fewer than LEAST_PEOPLE.
    """
    people, count = len(theirs), min(splits, POLYCHORIC_SPLITS)
    if people < LEAST_PEOPLE:
        return float("nan"), float("nan")
    masks = resampling.half_splits(people, count, seed=seed)
    mine, others = (resampling.samples(people, size, count, seed=seed + at) for at, size in enumerate((n, people)))
    norms = {
        "halves": metrics.frobenius(theirs.polychoric(masks), theirs.polychoric(~masks)),
        "samples": metrics.frobenius(theirs.polychoric(mine), theirs.polychoric(others)),
    }
    found = resampling.means(norms)
    return found["halves"], found["samples"]


def _samples(theirs: Side, size: int, splits: int, *, seed: int) -> Figures:
    return theirs.figures(resampling.samples(len(theirs), size, splits, seed=seed))


def demographic_cells(codes: Sequence[NDArray[np.int16]], people: int, *, least: int = LEAST_CELL) -> NDArray[np.int64]:
    """Return a cell for each person: alike in all traits, or in as many of the first as leave `least` people.

    Args:
        codes: For each trait the level of each person, MISSING where not known, which is a level of its own here; the
            most telling trait first.
        people: n, how many there are.
        least: People of a cell; only the cell of those who are left over may have fewer.

    Returns:
        Numbers from 0, shape (n,).

    Example:
        >>> demographic_cells([np.array([0, 0, 0, 1, 1, 1]), np.array([0, 0, 1, 0, 0, 0])], 6, least=2).tolist()
        [1, 1, 0, 2, 2, 2]
    """
    cells = np.zeros(people, dtype=np.int64)
    for column in codes:
        finer = np.unique(np.stack([cells, column]), axis=1, return_inverse=True)[1].reshape(-1)
        sizes = np.bincount(finer)
        kept = sizes[finer] >= least
        # Who is in too small a part stays with the others of the whole that are.
        cells = np.unique(np.where(kept, finer + people, cells), return_inverse=True)[1].reshape(-1).astype(np.int64)
    return cells


def _guesses(them: Figures, items: Items) -> dict[str, Figures]:
    # Of figures that need an order, each is guessed among the options on the scale.
    known = (them.shares[0], items.n_options), (them.on_scale[0], items.spans + 1)
    even = ((np.arange(shares.shape[1]) < count[:, None]) / count[:, None] for shares, count in known)
    mode = (np.eye(shares.shape[1])[np.nan_to_num(shares).argmax(axis=1)] for shares, _ in known)
    return {
        "uniform": Figures.guess(*even),
        "majority": Figures.guess(*mode, constant=True),
        "margins": Figures.guess(them.shares[0], them.on_scale[0]),
    }


def in_blocks(masks: NDArray[np.bool_], size: int) -> Iterator[NDArray[np.bool_]]:
    """Yield the masks of so many splits at once as keep tables of `size` numbers for each within BLOCK_BYTES."""
    step = max(1, BLOCK_BYTES // (8 * max(1, size)))
    for start in range(0, len(masks), step):
        yield masks[start : start + step]


def _from_cells(theirs: Side, masks: NDArray[np.bool_], cells: NDArray[np.int64], overall: Figures) -> Figures:
    """The second half of each split as predicted from the first: an answer drawn from those of one's cell.

    Within a cell nothing goes together, so covariances of two questions are those of the cells' means. Of a cell that
    nobody answered in the first half, the answers are those of all of it, `overall`.
    """
    parts = [np.flatnonzero(cells == cell) for cell in np.unique(cells)]
    found, start = [], 0
    for some in in_blocks(masks, len(parts) * overall.shares[0].size):
        rows = slice(start, start := start + len(some))
        found.append(_told_by_cells(theirs, some, parts, (overall.shares[rows], overall.on_scale[rows])))
    names = [field.name for field in fields(Figures)]
    return Figures(**{name: np.concatenate([getattr(part, name) for part in found]) for name in names})


def _told_by_cells(
    theirs: Side,
    masks: NDArray[np.bool_],
    parts: Sequence[NDArray[np.int64]],
    overall: tuple[NDArray[np.float64], NDArray[np.float64]],
) -> Figures:
    mass = np.stack([~masks[:, rows] @ theirs.weights[rows] for rows in parts], axis=1)
    total = mass.sum(axis=1, keepdims=True)
    mass = np.divide(mass, total, out=np.full_like(mass, np.nan), where=total > 0)
    known = shares_by_cell(theirs, theirs.scale, parts, masks, overall[1])
    shares = np.einsum("rg,rgqk->rqk", mass, known)
    every = shares_by_cell(theirs, theirs.table, parts, masks, overall[0]) if theirs.items.off_scale else known
    positions = np.broadcast_to(np.arange(shares.shape[2], dtype=np.float64), shares.shape[1:])
    covariance = _between(known, mass, shares, positions)
    sign = np.where(theirs.items.keyed, -1.0, 1.0)
    return Figures(
        shares=np.einsum("rg,rgqk->rqk", mass, every),
        on_scale=shares,
        correlation=_as_correlation(covariance),
        ranks=_as_correlation(_between(known, mass, shares, np.nan_to_num(theirs.scores))),
        alphas=theirs.items.alphas(covariance * sign * sign[:, None]),
        omegas=theirs.items.omegas(covariance * sign * sign[:, None]),
    )


def shares_by_cell(
    theirs: Side,
    answers: AnswerTable,
    cells: Sequence[NDArray[np.int64]],
    masks: NDArray[np.bool_],
    overall: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the shares in each cell among those that each mask marks; where nobody of it answered, those of everybody.

    Args:
        theirs: The humans, whose weights count.
        answers: Theirs, all or those on the scale.
        cells: The people of each cell.
        masks: Shape (splits, n).
        overall: Shares of all that are marked, shape (splits, q, K).

    Returns:
        Shape (splits, cells, q, K).
    """
    tables = (AnswerTable(answers.codes[rows], answers.n_options.tolist()) for rows in cells)
    shares = [
        table.shares(masks[:, rows], base=theirs.weights[rows]) for table, rows in zip(tables, cells, strict=True)
    ]
    return np.stack([np.where(np.isnan(found), overall, found) for found in shares], axis=1)


def _between(
    known: NDArray[np.float64], mass: NDArray[np.float64], shares: NDArray[np.float64], scores: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Covariances of the cells' means; on the diagonal the whole variance, shape (splits, q, q)."""
    means, mean = np.einsum("rgqk,qk->rgq", known, scores), np.einsum("rqk,qk->rq", shares, scores)
    apart = means - mean[:, None]
    covariance = np.einsum("rg,rgi,rgj->rij", mass, apart, apart)
    at = np.arange(covariance.shape[1])
    covariance[:, at, at] = np.einsum("rqk,qk->rq", shares, scores**2) - mean**2
    return np.asarray(covariance)


def _as_correlation(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    variance = np.diagonal(covariance, axis1=1, axis2=2)
    # What is left of a question with one answer is rounding, on either side of 0.
    spread = np.sqrt(np.where(variance > LEAST_VARIANCE, variance, 0.0))
    product = spread[:, :, None] * spread[:, None]
    return np.asarray(np.divide(covariance, product, out=np.full_like(covariance, np.nan), where=product > 0))


def _lost(values: Mapping[str, NDArray[np.float64]], samples: str) -> Iterator[str]:
    """Say of how many samples the floors are no mean, because they leave a figure undefined."""
    lost = {name: int(np.isnan(value).sum()) for name, value in values.items()}
    some = {name: count for name, count in lost.items() if 0 < count < len(values[name])}
    if some:
        told = ", ".join(f"{name} ({count})" for name, count in some.items())
        yield f"Floors are means over the {samples} in which they are defined; they are not in some: {told}."
