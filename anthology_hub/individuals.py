"""Is it the same person? Each persona's answers against those of the one human whom it stands for. Pure.

A cast can have the right shares and correlations and yet say nothing about anybody; these measures tell. People do not
repeat all of their own answers either, so where some were asked again, their second answers give the ceiling.

A figure is the plain mean over the items of what each says alone. Items in which no pair is complete are left out and
counted (`Pairs.pairs`); where any other item leaves a figure undefined, as one to which all personas gave the same
answer, it is NaN: a mean over the rest would praise the collapse.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from anthology_hub.errors import DataError
from anthology_hub.rows import LEAST_VARIANCE, answer_codes, weight_rows, weighted_means
from anthology_hub.schema import MISSING

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Values = dict[str, NDArray[np.float64]]

ACCURACIES = ("accuracy", "mad_accuracy")
"""The figures that are also divided by the people's own."""

FIGURES = (*ACCURACIES, "item_correlation", "variance_ratio")

UNORDERED = ("accuracy", "fallback")
"""What needs no order of the options."""

TIE = 1e-9
"""Shares that differ by less, relative to the largest, are the same."""

LEAST_WEIGHT = 1e-12
"""Relative to the largest, the weight below which a person is nobody's neighbour."""


class Pairs:
    """Personas and the humans whom they stand for, answer by answer.

    Example:
        >>> pairs = Pairs([[0, 2], [1, 1], [2, 0]], [[0, 2], [2, 1], [2, -1]], [3, 3], [True, False])
        >>> {name: round(float(value[0]), 3) for name, value in pairs.figures(np.ones((1, 3))).items()}
        {'accuracy': 0.833, 'mad_accuracy': 0.833, 'item_correlation': 0.866, 'variance_ratio': 0.866}
    """

    def __init__(
        self,
        simulated: ArrayLike,
        human: ArrayLike,
        n_options: ArrayLike,
        ordinal: ArrayLike,
        *,
        retest: ArrayLike | None = None,
    ) -> None:
        """Put them side by side; only answers that both sides have count.

        Args:
            simulated: Chosen options 0..K-1, shape (n, q); MISSING where there is none.
            human: Of the same shape: row i is the human for whom row i of the personas stands.
            n_options: K of each question, 2 or more, shape (q,).
            ordinal: Whether its options have an order, shape (q,).
            retest: The same people's second answers, of the same shape; MISSING where they were not asked again.

        Raises:
            DataError: If shapes differ, or a code is outside its question's options.
            EmptyError: If there is nobody, or no question.
        """
        self.simulated, self.human = answer_codes(simulated), answer_codes(human)
        self.retest = None if retest is None else answer_codes(retest)
        self.n_options, self.ordinal = np.asarray(n_options), np.asarray(ordinal, dtype=bool)
        self._check()
        self.present = (self.simulated != MISSING) & (self.human != MISSING)

    def __len__(self) -> int:
        return len(self.human)

    @property
    def pairs(self) -> NDArray[np.int64]:
        """How many pairs are complete, for each question, shape (q,)."""
        return np.asarray(self.present.sum(axis=0))

    @property
    def retested(self) -> NDArray[np.int64]:
        """How many complete pairs have the person's second answer too, for each question, shape (q,)."""
        return np.asarray((self.present & (self._again != MISSING)).sum(axis=0))

    def items(self, weights: ArrayLike) -> Values:
        """Return what each item says alone; for the definitions see `figures`.

        Args:
            weights: Of the pairs, shape (rows, n).

        Returns:
            Each of shape (rows, q); NaN where undefined, and of items without an order in all but `accuracy`.

        Example:
            >>> pairs = Pairs([[0, 1], [1, 1]], [[0, 0], [2, 1]], [3, 2], [True, True])
            >>> pairs.items(np.ones((1, 2)))["mad_accuracy"].tolist()
            [[0.75, 0.5]]
        """
        rows = weight_rows(weights, len(self))
        x, y = (codes - (self.n_options - 1) / 2 for codes in (self.simulated, self.human))
        mx, my, mxx, myy, mxy = weighted_means(rows, self.present, x, y, x * x, y * y, x * y)
        spreads = _spread(mxx - mx**2), _spread(myy - my**2)
        figures = {**self._accuracies(rows), **_moments(spreads, mxy - mx * my)}
        return {name: np.where(self._counts(name), value, np.nan) for name, value in figures.items()}

    def figures(self, weights: ArrayLike) -> Values:
        """Return how well personas stand for their own humans, each of shape (rows,).

        `accuracy`: share of pairs that chose the same option. 0 to 1, 1 is best.
        `mad_accuracy`: mean of 1 - |difference| / (K-1) (Twin-2K-500, arXiv 2505.17479). 0 to 1, 1 is best.
        `item_correlation`: Pearson correlation over the pairs. -1 to 1, 1 is best, 0 is chance; undefined for an item
        in which either side is constant.
        `variance_ratio`: SD of the personas' answers / SD of the humans', over the same pairs. 0 or more, 1 is right,
        below 1 is the flattening that models are known for (arXiv 2509.19088; Bisbee et al. 2024); undefined where
        the humans are constant.

        Each is the mean over the items with complete pairs; all but the first over those whose options have an order.

        With a retest also, where r stands for the person's second answer:
        `retest_...`: the same four of r in the persona's place, over all who were asked again: the ceilings.
        `normalised_accuracy`, `normalised_mad_accuracy`: accuracy / accuracy of r, numerator and denominator each the
        mean over items of the weighted mean over people, of exactly those answers where persona, human and r are all
        there. 1: as close as the person; above 1 is possible. Generative agents (arXiv 2411.10109) divide person by
        person and average the ratios; that is undefined once one person repeats no answer, and too high where few
        items were asked again (the mean of 1/x is above 1 over the mean of x). The ratio of means is neither.

        Args:
            weights: Of the pairs, shape (rows, n).

        Returns:
            Name -> values; NaN where undefined. The names of the retest are absent if there is none.

        Raises:
            DataError: If the weights do not fit.

        Example:
            >>> human, again = [[0], [1], [1], [0]], [[0], [1], [0], [-1]]
            >>> pairs = Pairs([[0], [0], [0], [0]], human, [2], [True], retest=again)
            >>> figures = pairs.figures(np.ones((1, 4)))
            >>> [round(float(figures[name][0]), 3) for name in ("accuracy", "retest_accuracy", "normalised_accuracy")]
            [0.5, 0.667, 0.5]
        """
        rows = weight_rows(weights, len(self))
        found = self._over_items(self.items(rows))
        if self.retest is None:
            return found
        again = self._with(self.retest)
        ceilings = again._over_items(again.items(rows))
        three = self._complete(rows)
        ours = self._with(self.simulated, where=self.retest != MISSING)
        top = ours._over_items(ours._accuracies(rows))
        return found | {f"retest_{name}": value for name, value in ceilings.items()} | _normalised(top, three)

    def baselines(self, weights: ArrayLike, *, cells: ArrayLike | None = None) -> dict[str, Values]:
        """Return what guesses without a model score on the same pairs, in expectation and without drawing.

        `uniform`: every option equally often. `majority`: everybody the humans' most frequent option (the first, where
        several are). `margins`: each person an option at random by the humans' shares, which is what the humans'
        own answers give when permuted. For all three `item_correlation` is 0 (undefined for `majority`, which is
        constant), and `variance_ratio` is that of the guess's own distribution.

        `cells`: from the other people of one's cell, whether or not a persona answered for them, and never from one's
        own answer (leave-one-out): their most frequent option for `accuracy` (where several are, each with the same
        probability), their median for `mad_accuracy`, their mean for the other figures: each the best guess for what
        is asked. Who is alone in a cell, or whose cell is not known, is guessed from all others; `fallback` is their
        share of the weight, 0 to 1. `item_correlation` is undefined unless two cells have two people each: the mean of
        all but oneself falls as one's own answer rises, and correlates -1.

        Args:
            weights: Of the pairs, shape (rows, n); with cells, meant for few rows.
            cells: Whole numbers from 0, the demographic cell of each human, shape (n,); MISSING where not known.

        Returns:
            Baseline -> figure -> values, shape (rows,). With a retest also the normalised accuracies.

        Raises:
            DataError: If weights or cells do not fit.

        Example:
            >>> pairs = Pairs([[0]] * 4, [[0], [0], [1], [1]], [2], [True])
            >>> found = pairs.baselines(np.ones((1, 4)), cells=[0, 0, 1, 1])
            >>> {name: float(value["accuracy"][0]) for name, value in found.items()}
            {'uniform': 0.5, 'majority': 0.5, 'margins': 0.5, 'cells': 1.0}
        """
        rows = weight_rows(weights, len(self))
        where = None if cells is None else _cell_labels(cells, len(self))
        found = self._guesses(rows, where)
        if self.retest is not None:
            below = self._complete(rows)
            ours = self._with(self.simulated, where=self.retest != MISSING)._guesses(rows, where)
            for name, values in ours.items():
                found[name] |= _normalised(values, below)
        return found

    @property
    def _again(self) -> NDArray[np.integer]:
        return np.full_like(self.human, MISSING) if self.retest is None else self.retest

    def _check(self) -> None:
        q = self.human.shape[1]
        if self.n_options.shape != (q,) or self.ordinal.shape != (q,) or (self.n_options < 2).any():
            raise DataError(
                f"{q} questions need {q} numbers of options from 2 and {q} marks of order, got "
                f"{self.n_options.tolist()} and {self.ordinal.tolist()}"
            )
        for who, codes in (("simulated", self.simulated), ("human", self.human), ("retest", self._again)):
            if codes.shape != self.human.shape:
                raise DataError(
                    f"{who} answers of shape {codes.shape} do not pair with human ones of {self.human.shape}"
                )
            if (codes >= self.n_options).any():
                at = int((codes >= self.n_options).any(axis=0).argmax())
                raise DataError(
                    f"question {at} has the options 0..{self.n_options[at] - 1}, but the {who} answers have "
                    f"{codes[:, at].max()}: both sides must be coded by the same options"
                )

    def _with(self, simulated: NDArray[np.integer], *, where: NDArray[np.bool_] | None = None) -> Pairs:
        """Put others in the personas' place, or the same where they count."""
        codes = simulated if where is None else np.where(where, simulated, MISSING)
        return Pairs(codes, self.human, self.n_options, self.ordinal)

    def _complete(self, rows: NDArray[np.float64]) -> Values:
        """The people's own accuracies where persona, human and second answer are all there."""
        again = self._with(self._again, where=self.simulated != MISSING)
        return again._over_items(again._accuracies(rows))

    def _accuracies(self, rows: NDArray[np.float64]) -> Values:
        steps = np.abs(self.simulated.astype(np.float64) - self.human)
        same, far = weighted_means(rows, self.present, steps == 0, steps)
        return {"accuracy": same, "mad_accuracy": 1 - far / (self.n_options - 1)}

    def _over_items(self, values: Values) -> Values:
        found = {}
        for name, value in values.items():
            kept = value[:, self._counts(name) & (self.pairs > 0)]
            found[name] = kept.mean(axis=1) if kept.shape[1] else np.full(len(value), np.nan)
        return found

    def _counts(self, name: str) -> NDArray[np.bool_]:
        """Whether each item counts in a figure, shape (q,)."""
        return self.ordinal | (name in UNORDERED)

    def _guesses(self, rows: NDArray[np.float64], cells: NDArray[np.integer] | None) -> dict[str, Values]:
        shares = self._shares(rows)
        first = _modes(shares).argmax(axis=2, keepdims=True) == np.arange(shares.shape[2])
        even = (np.arange(shares.shape[2]) < self.n_options[:, None]) / self.n_options[:, None]
        guesses = {
            "uniform": np.broadcast_to(even, shares.shape),
            "majority": first.astype(np.float64),
            "margins": shares,
        }
        found = {name: self._over_items(self._expected(guess, shares)) for name, guess in guesses.items()}
        return found if cells is None else found | {"cells": self._from_cells(rows, cells)}

    def _shares(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """The humans' shares over the complete pairs, shape (rows, q, max K)."""
        chosen = [self.human == option for option in range(int(self.n_options.max()))]
        return np.stack(weighted_means(rows, self.present, *chosen), axis=2)

    def _expected(self, guess: NDArray[np.float64], shares: NDArray[np.float64]) -> Values:
        """What a guess scores that is drawn for each person from one distribution; each of shape (rows, q)."""
        at = np.arange(shares.shape[2])
        steps = ((guess @ np.abs(np.subtract.outer(at, at))) * shares).sum(axis=2)
        spreads = [_spread(p @ at**2 - (p @ at) ** 2) for p in (guess, shares)]
        figures = {"accuracy": (guess * shares).sum(axis=2), "mad_accuracy": 1 - steps / (self.n_options - 1)}
        found = figures | _moments((spreads[0], spreads[1]), np.zeros_like(steps))
        return {name: np.where(np.isnan(shares[:, :, 0]), np.nan, value) for name, value in found.items()}

    def _from_cells(self, rows: NDArray[np.float64], cells: NDArray[np.integer]) -> Values:
        found = {name: np.full((len(rows), self.human.shape[1]), np.nan) for name in (*FIGURES, "fallback")}
        for row, item in np.ndindex(len(rows), self.human.shape[1]):
            # Weights that vanish in the sums with others would leave those with nobody.
            there = (self.human[:, item] != MISSING) & (rows[row] > LEAST_WEIGHT * rows[row].max())
            judged = self.simulated[there, item] != MISSING
            if there.sum() > 1 and judged.any():
                known = self.human[there, item], cells[there], rows[row, there]
                guess = _cell_guess(*known, judged=judged, options=int(self.n_options[item]))
                for name, value in guess.items():
                    found[name][row, item] = value
        return self._over_items(found)


def _normalised(ours: Values, people: Values) -> Values:
    return {f"normalised_{name}": _ratio(ours[name], people[name]) for name in ACCURACIES}


def _ratio(top: NDArray[np.float64], bottom: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.divide(top, bottom, out=np.full_like(top, np.nan), where=bottom > 0))


def _modes(shares: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Mark the most frequent options; which of several is first must not hang on rounding."""
    return np.asarray(shares >= shares.max(axis=-1, keepdims=True) * (1 - TIE))


def _medians(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Median of each row, shape (n,); halfway where one half ends and the other begins."""
    below = shares.cumsum(axis=1)
    return np.asarray(((below < 0.5 - TIE).sum(axis=1) + (below < 0.5 + TIE).sum(axis=1)) / 2)


def _spread(variance: NDArray[np.float64]) -> NDArray[np.float64]:
    """SD, exactly 0 where what is left is rounding; NaN where there is no data."""
    return np.asarray(np.sqrt(np.where(variance <= LEAST_VARIANCE, 0.0, variance)))


def _moments(spreads: tuple[NDArray[np.float64], NDArray[np.float64]], cross: NDArray[np.float64]) -> Values:
    """Correlation and ratio of spreads, from the two spreads (ours, theirs) and the covariance."""
    ours, theirs = spreads
    correlation = np.clip(_ratio(cross, ours * theirs), -1, 1)
    return {"item_correlation": correlation, "variance_ratio": _ratio(ours, theirs)}


def _cell_labels(cells: ArrayLike, people: int) -> NDArray[np.integer]:
    found = np.asarray(cells)
    if found.shape != (people,) or not np.issubdtype(found.dtype, np.integer) or (found < MISSING).any():
        raise DataError(
            f"cells are {people} whole numbers from 0, {MISSING} where not known, got {found.dtype} of {found.shape} "
            f"from {found.min() if found.size else 'nothing'}"
        )
    return found


def _cell_guess(
    answers: NDArray[np.integer],
    cells: NDArray[np.integer],
    weights: NDArray[np.float64],
    *,
    judged: NDArray[np.bool_],
    options: int,
) -> dict[str, float]:
    """Score guesses from the others of one's cell for one item, for those who are judged.

    Answers, cells and weights are those of all whose answer is known.
    """
    others, alone = _others(answers, cells, weights, options=options)
    modes = _modes(others)
    hits = modes[np.arange(len(answers)), answers] / modes.sum(axis=1)
    guess, middle = others @ np.arange(options), _medians(others)
    share = weights * judged / (weights * judged).sum()
    centred = [values - share @ values for values in (guess, answers.astype(np.float64))]
    ours, theirs = (_spread(share @ values**2) for values in centred)
    told = len(np.unique(cells[judged & ~alone])) > 1
    moments = _moments((ours, theirs), np.asarray(share @ (centred[0] * centred[1])))
    return {
        "accuracy": float(share @ hits),
        "mad_accuracy": float(1 - share @ np.abs(middle - answers) / (options - 1)),
        "item_correlation": float(moments["item_correlation"]) if told else np.nan,
        "variance_ratio": float(moments["variance_ratio"]),
        "fallback": float(share @ alone),
    }


def _others(
    answers: NDArray[np.integer], cells: NDArray[np.integer], weights: NDArray[np.float64], *, options: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Shares of the options among the other people of each one's cell, shape (n, K), and who has none there."""
    own = np.eye(options)[answers] * weights[:, None]
    label = np.unique(cells, return_inverse=True)[1]
    table = np.zeros((label.max() + 1, options))
    np.add.at(table, label, own)
    alone = (np.bincount(label)[label] == 1) | (cells == MISSING)
    left = np.where(alone[:, None], own.sum(axis=0), table[label]) - own
    left = np.maximum(left, 0)
    return left / left.sum(axis=1, keepdims=True), alone
