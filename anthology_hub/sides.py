"""One side of a comparison: its answers encoded once, and all that they say for each row of weights.

Rows of weights are the sample itself, random halves of it or bootstrap draws; see `answer_table`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from anthology_hub import metrics, resampling
from anthology_hub.answer_table import AnswerTable, Moments
from anthology_hub.errors import DataError, EmptyError, OptionError, UnknownNameError
from anthology_hub.margins import Margins
from anthology_hub.schema import MISSING, Answers, Respondents, Survey

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from anthology_hub.resampling import Rows

PAPER = "paper"
"""The weighting of the paper; any other carries the weights to both sides."""
MOST_DRAWS = 200
"""Rows for which figures that take long are computed: enough for a standard error."""


@dataclass(frozen=True, kw_only=True)
class Items:
    """What the measures need to know of the questions."""

    n_options: NDArray[np.int64]
    """K of each question, shape (q,)."""
    ordered: NDArray[np.bool_]
    """Whether its options have an order, shape (q,)."""
    keyed: NDArray[np.bool_]
    """Whether it counts reversed in its scale, shape (q,)."""
    scales: tuple[tuple[int, ...], ...]
    """Positions of the items of each scale; all ordered items, where the survey names none."""
    names: tuple[str, ...]
    """Of the scales; empty where the survey names none."""
    off_scale: tuple[tuple[int, int], ...] = ()
    """Positions of a question and of an option of it that is no step of its scale."""

    @classmethod
    def of(cls, survey: Survey, *, paper: bool = False) -> Items:
        """Return those of a survey. The paper takes all items of a wave as one scale, without reverse keys."""
        column = {key: at for at, key in enumerate(survey.keys)}
        ordered = {question.key for question in survey.questions if question.ordinal}
        named = {} if paper else survey.scales
        scales = {name: tuple(column[key] for key in keys if key in ordered) for name, keys in named.items()}
        scales = {name: scale for name, scale in scales.items() if scale}
        everything = tuple(column[key] for key in survey.keys if key in ordered)
        return cls(
            n_options=np.array([len(question.options) for question in survey.questions]),
            ordered=np.array([question.ordinal for question in survey.questions]),
            keyed=np.array([question.reverse and not paper for question in survey.questions]),
            scales=tuple(scales.values()) or ((everything,) if everything else ()),
            names=tuple(scales),
            off_scale=tuple(
                (at, option)
                for at, question in enumerate(survey.questions)
                for option in sorted(set(range(len(question.options))) - set(question.on_scale))
            ),
        )

    @cached_property
    def places(self) -> NDArray[np.int16]:
        """Position of each option among those on its scale, shape (q, max K); MISSING off the scale."""
        there = np.arange(self.n_options.max(initial=0)) < self.n_options[:, None]
        if self.off_scale:
            there[tuple(np.transpose(self.off_scale))] = False
        return np.where(there, there.cumsum(axis=1) - 1, MISSING).astype(np.int16)

    @cached_property
    def spans(self) -> NDArray[np.int64]:
        """Steps between the first and the last option on the scale of each question, K-1 if all are, shape (q,)."""
        return np.asarray(self.places.max(axis=1, initial=0), dtype=np.int64)

    def on_scale(self, codes: NDArray[np.int16]) -> NDArray[np.int16]:
        """Return answers as positions on the scale, shape (n, q); MISSING of those off it."""
        if not self.off_scale:
            return codes
        return np.where(codes == MISSING, MISSING, self.places[np.arange(len(self.places)), codes])

    def shares_on_scale(self, shares: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the shares of the options on the scale, made to sum to 1 (SubPOP: Suh et al. 2025); NaN if all are 0.

        Args:
            shares: Of all options, shape (rows, q, max K).
        """
        if not self.off_scale:
            return shares
        steps = self.places[:, :, None] == np.arange(self.spans.max(initial=0) + 1)
        kept = np.einsum("rqk,qks->rqs", shares, steps)
        total = kept.sum(axis=2, keepdims=True)
        return np.asarray(np.divide(kept, total, out=np.full_like(kept, np.nan), where=total > 0))

    def shares_off_scale(self, shares: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the share of each question's options off its scale together, shape (rows, q)."""
        return np.asarray(np.where(self.places == MISSING, shares, 0.0).sum(axis=2))

    def among(self, correlation: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the correlations among the ordered items; NaN if there are fewer than two."""
        kept = correlation[:, self.ordered][:, :, self.ordered]
        return kept if kept.shape[-1] > 1 else np.full((len(correlation), 1, 1), np.nan)

    def alphas(self, covariance: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return Cronbach's alpha of each scale from keyed covariances, shape (rows, scales)."""
        return self._by_scale(metrics.cronbach_alpha, covariance)

    def omegas(self, covariance: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return McDonald's omega of each scale from keyed covariances, shape (rows, scales)."""
        return self._by_scale(metrics.mcdonald_omega, covariance)

    def _by_scale(
        self, measure: Callable[[NDArray[np.float64]], NDArray[np.float64]], covariance: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        found = np.empty((len(covariance), len(self.scales)))
        # Scales of one length are measured together: it takes as long as one of them.
        for length in set(map(len, self.scales)):
            at = [place for place, scale in enumerate(self.scales) if len(scale) == length]
            items = np.array([self.scales[place] for place in at])
            found[:, at] = measure(covariance[:, items[:, :, None], items[:, None, :]])
        return found


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What one side says, for each row of weights."""

    shares: NDArray[np.float64]
    """Shape (rows, q, K)."""
    on_scale: NDArray[np.float64]
    """Those of the options on the scale alone, from which all comes that needs an order; shape (rows, q, steps)."""
    correlation: NDArray[np.float64]
    """Pearson's of the first rows, shape (rows, q, q)."""
    ranks: NDArray[np.float64]
    """Spearman's of the first rows, shape (rows, q, q)."""
    alphas: NDArray[np.float64]
    """Of each scale, of the first rows, shape (rows, scales)."""
    omegas: NDArray[np.float64]
    """Of each scale, of the first rows, shape (rows, scales)."""

    @classmethod
    def guess(cls, shares: NDArray[np.float64], on_scale: NDArray[np.float64], *, constant: bool = False) -> Figures:
        """Return the figures of who draws each answer by itself; of `constant` ones nothing goes together."""
        q, none = len(shares), np.full((1, 1), np.nan if constant else 0.0)
        apart = np.full((1, q, q), np.nan) if constant else np.eye(q)[None]
        return cls(
            shares=shares[None], on_scale=on_scale[None], correlation=apart, ranks=apart, alphas=none, omegas=none
        )

    @property
    def alpha(self) -> NDArray[np.float64]:
        """Mean over the scales, shape (rows,)."""
        return _mean(self.alphas)

    @property
    def omega(self) -> NDArray[np.float64]:
        """Mean over the scales, shape (rows,)."""
        return _mean(self.omegas)

    @property
    def variance(self) -> NDArray[np.float64]:
        """Variance of each question's answers in squared option steps, shape (rows, q)."""
        at = np.arange(self.on_scale.shape[2])
        mean = self.on_scale @ at
        return np.asarray(np.maximum(self.on_scale @ at**2 - mean**2, 0.0))

    def against(self, humans: Figures, items: Items) -> dict[str, NDArray[np.float64]]:
        """Return every figure of this side against the humans, by its name in `measures`.

        Shape (rows,); of figures of correlations and consistency no more rows than were computed.
        """
        ours, theirs, ordered = self.shares, humans.shares, items.ordered
        steps = metrics.wasserstein(self.on_scale, humans.on_scale)[:, ordered]
        varied = np.where(humans.variance > 0, humans.variance, np.nan)
        return {
            "wd_normalised": _mean(steps / items.spans[ordered]),
            "wd": _mean(steps),
            "jsd": _mean(metrics.jensen_shannon(ours, theirs)),
            "tv": _mean(metrics.total_variation(ours, theirs)),
            "kl": _mean(metrics.kl(theirs, ours)),
            "fro": metrics.frobenius(items.among(self.correlation), items.among(humans.correlation)),
            "fro_spearman": metrics.frobenius(items.among(self.ranks), items.among(humans.ranks)),
            "cbs": metrics.cbs(items.among(self.correlation), items.among(humans.correlation)),
            "alpha": np.broadcast_to(self.alpha, max(len(self.alpha), len(humans.alpha))),
            "omega": np.broadcast_to(self.omega, max(len(self.omega), len(humans.omega))),
            "variance_ratio": _mean(np.sqrt(self.variance / varied)[:, ordered]),
            "entropy_ratio": _mean(metrics.concentration(ours, theirs).entropy_ratio),
        }


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the columns, shape (rows,); NaN if there is none, or one is undefined."""
    return np.asarray(values.mean(axis=1)) if values.shape[1] else np.full(len(values), np.nan)


@dataclass(frozen=True, kw_only=True)
class Side:
    """Encoded answers, weights, and how correlations are taken."""

    table: AnswerTable
    items: Items
    weights: NDArray[np.float64]
    """For shares and correlations, shape (n,)."""
    alpha_weights: NDArray[np.float64]
    listwise: bool
    by_pair: bool = False
    """Whether alpha takes n-1 of each pair of questions, as the paper's does."""
    strata: NDArray[np.int64] | None = None
    psu: NDArray[np.int64] | None = None
    """What is drawn as one in a bootstrap: sampling units of people, personas of roles; None: everybody alone."""

    def __len__(self) -> int:
        return len(self.table)

    @cached_property
    def units(self) -> NDArray[np.int64]:
        """How many are drawn by themselves in each stratum; of a single one the chance cannot be told."""
        units = np.arange(len(self)) if self.psu is None else self.psu
        strata = np.zeros_like(units) if self.strata is None else self.strata
        pairs = np.unique(np.stack([strata, units]), axis=1)
        return np.unique(pairs[0], return_counts=True)[1]

    @cached_property
    def scale(self) -> AnswerTable:
        """The answers as positions on the scale, without those off it."""
        if not self.items.off_scale:
            return self.table
        return AnswerTable(self.items.on_scale(self.table.codes), (self.items.spans + 1).tolist())

    @cached_property
    def scores(self) -> NDArray[np.float64]:
        """Midranks of the steps in this sample, shape (q, steps): taken once, and kept for halves and draws."""
        return self.scale.midranks(self.weights)

    def take(self, rows: NDArray[np.int64]) -> Side:
        """Return some of the people."""
        return replace(
            self,
            table=AnswerTable(self.table.codes[rows], self.table.n_options.tolist()),
            weights=self.weights[rows],
            alpha_weights=self.alpha_weights[rows],
            strata=None if self.strata is None else self.strata[rows],
            psu=None if self.psu is None else self.psu[rows],
        )

    @cached_property
    def everybody(self) -> Rows:
        """The row of draws that is the sample itself."""
        return np.ones((1, len(self)), dtype=bool)

    @cached_property
    def whole(self) -> Figures:
        """What the sample itself says; one row."""
        return self.figures(self.everybody)

    def figures(self, draws: Rows, *, pairs: int = MOST_DRAWS) -> Figures:
        """Return what each row of draws says, which multiply the weights.

        Args:
            draws: Shape (rows, n).
            pairs: Rows for which pairs of questions are looked at: all shares together take less time than one of them.
                Ranks and omega have MOST_DRAWS rows at most.
        """
        some, first = draws[:pairs], draws[: min(pairs, MOST_DRAWS)]
        moments = self.scale.moments(some, base=self.weights, listwise=self.listwise)
        ranked = self.scale.rank_correlation(
            first, self.scores, base=self.weights, listwise=self.listwise, pairs=moments.pairs[: len(first)]
        )
        alike = moments if self._alike else self.scale.moments(some, base=self.alpha_weights)
        return self._figures(self.table.shares(draws, base=self.weights), moments, ranked, alike)

    def halves(self, masks: NDArray[np.bool_]) -> tuple[Figures, Figures]:
        """Return what those that each mask marks say, and what the others say; shape (rows, n)."""
        moments = self.scale.half_moments(masks, base=self.weights, listwise=self.listwise)
        some = masks[:MOST_DRAWS]
        ranked = self.scale.half_rank_correlations(
            some, self.scores, base=self.weights, listwise=self.listwise, pairs=moments[0].pairs[: len(some)]
        )
        alike = moments if self._alike else self.scale.half_moments(masks, base=self.alpha_weights)
        parts = zip(self.table.half_shares(masks, base=self.weights), moments, ranked, alike, strict=True)
        first, second = (self._figures(*part) for part in parts)
        return first, second

    def draws(self, count: int, *, seed: int) -> Rows:
        """Return bootstrap draws of the people, shape (count, n)."""
        return resampling.bootstrap_counts(len(self), count, seed=seed, strata=self.strata, psu=self.psu)

    def polychoric(self, draws: Rows) -> NDArray[np.float64]:
        """Return the polychoric correlations among the ordered items for each row of draws, shape (rows, q, q)."""
        return self.items.among(self.scale.polychoric(draws, base=self.weights))

    @property
    def _alike(self) -> bool:
        """Whether alpha comes from the same weights and people as the correlations."""
        return not self.listwise and bool((self.weights == self.alpha_weights).all())

    def _figures(
        self, shares: NDArray[np.float64], moments: Moments, ranks: NDArray[np.float64], alike: Moments
    ) -> Figures:
        keyed = alike.keyed(self.items.keyed)
        covariance = keyed.covariance if self.by_pair else keyed.population
        return Figures(
            shares=shares,
            on_scale=self.items.shares_on_scale(shares),
            correlation=moments.correlation,
            ranks=ranks,
            alphas=self.items.alphas(covariance),
            omegas=self.items.omegas(covariance[: len(ranks)]),
        )


@dataclass(frozen=True, kw_only=True)
class Shares:
    """A side of which only the shares of answers are known: nothing that needs people is defined."""

    shares: NDArray[np.float64]
    """Shape (q, K)."""
    items: Items

    def __len__(self) -> int:
        return 0

    @property
    def whole(self) -> Figures:
        """The shares; one row."""
        return Figures.guess(self.shares, self.items.shares_on_scale(self.shares[None])[0], constant=True)


def simulated_side(answers: Answers, *, weighting: str = "weighted") -> Side:
    """Encode the choice answers of a cast, with its weights unless the weighting is the paper's.

    Raises:
        DataError: If an answer is none of the options, or a weight is negative or no number.
        EmptyError: If a question has no answer.
    """
    paper = weighting == PAPER
    weights = np.ones(len(answers)) if paper else answers.weights
    return _checked(
        "the simulation",
        answers.survey,
        Side(
            table=_encoded("the simulation", answers.picks, answers.survey),
            items=Items.of(answers.survey, paper=paper),
            weights=weights,
            alpha_weights=weights,
            listwise=False,
            by_pair=paper,
            psu=_personas(answers.persona_ids),
        ),
    )


def human_side(humans: Respondents, survey: Survey, *, weighting: str = "weighted") -> Side:
    """Encode the respondents' answers to a survey; the paper's weighting is listwise, and alpha without weights.

    Raises:
        DataError: If an answer is none of the options, the humans were asked other options, or a weight is negative or
            no number.
        EmptyError: If a question has no answer.
        UnknownNameError: If the humans were not asked a question.
    """
    paper = weighting == PAPER
    _check_asked(humans.name, survey, humans.answers)
    if humans.survey is not None:
        _check_coding(humans.name, survey, humans.survey)
    codes = np.stack([humans.answers[key] for key in survey.keys], axis=1)
    weights = np.ones(len(humans)) if humans.weights is None else humans.weights
    return _checked(
        humans.name,
        survey,
        Side(
            table=_encoded(humans.name, codes, survey),
            items=Items.of(survey, paper=paper),
            weights=weights,
            alpha_weights=np.ones(len(humans)) if paper else weights,
            listwise=paper,
            by_pair=paper,
            strata=humans.strata,
            psu=humans.psu,
        ),
    )


def margins_side(margins: Margins, survey: Survey) -> Shares:
    """Return the shares of one group in the order of a survey's questions.

    Raises:
        DataError: If the margins have other options for a question.
        EmptyError: If the group was not asked a question.
        OptionError: If there are several groups.
        UnknownNameError: If the margins lack a question.
    """
    _check_asked(margins.name, survey, margins.shares)
    if len(margins.groups) != 1:
        raise OptionError(
            f"{margins.name} has {len(margins.groups)} groups: compare with one, as "
            f"margins.group({margins.groups[0]!r})"
        )
    theirs = {question.key: question for question in margins.survey.questions}
    most = max(len(question.options) for question in survey.questions)
    shares = np.zeros((len(survey.questions), most))
    for at, question in enumerate(survey.questions):
        if theirs[question.key].options != question.options:
            raise DataError(
                f"question {question.key!r} was asked with the options {question.options}, but {margins.name} has "
                f"{theirs[question.key].options}: ask margins.survey"
            )
        shares[at, : len(question.options)] = margins.shares[question.key][0]
    # They may be off 1 by what their source has rounded.
    shares /= shares.sum(axis=1, keepdims=True)
    _check_heard(margins.name, survey, np.asarray(~np.isnan(shares).any(axis=1)))
    return Shares(shares=shares, items=Items.of(survey))


def _check_asked(who: str, survey: Survey, known: Collection[str]) -> None:
    for key in survey.keys:
        if key not in known:
            raise UnknownNameError(f"question of {who}", key, known)


def _check_coding(who: str, survey: Survey, theirs: Survey) -> None:
    """Refuse options that are more or fewer, or the same in another order; their wording may differ."""
    known = {question.key: question.options for question in theirs.questions}
    for question in survey.questions:
        options = known.get(question.key, question.options)
        one, other = ([" ".join(text.casefold().split()) for text in side] for side in (options, question.options))
        turned = one != other and sorted(one) == sorted(other)
        if turned or len(options) != len(question.options):
            raise DataError(
                f"question {question.key!r} was asked with the options {question.options}, but {who} has {options}: "
                "both sides must be coded by the same options in the same order"
            )


def _encoded(who: str, codes: NDArray[np.int16], survey: Survey) -> AnswerTable:
    n_options = [len(question.options) for question in survey.questions]
    for question, k, column in zip(survey.questions, n_options, codes.T, strict=True):
        if (wrong := column[(column < MISSING) | (column >= k)]).size:
            raise DataError(
                f"question {question.key!r} has the options 0..{k - 1}, or {MISSING} where there is no answer, but "
                f"{who} has {wrong[0]}: both sides must be coded by the same options"
            )
    return AnswerTable(codes, n_options)


def _checked(who: str, survey: Survey, side: Side) -> Side:
    _check_heard(who, survey, side.table.observed > 0)
    if wrong := side.weights[~((side.weights >= 0) & (side.weights < np.inf))].tolist():
        raise DataError(f"weights of {who} must be finite and not negative, got {wrong[0]}: leave people out instead")
    weighed = ~np.isnan(side.table.shares(np.ones((1, len(side))), base=side.weights)[0]).any(axis=1)
    _check_heard(f"{who} with a weight above 0", survey, weighed)
    return side


def _check_heard(who: str, survey: Survey, answered: NDArray[np.bool_]) -> None:
    if silent := [key for key, some in zip(survey.keys, answered, strict=True) if not some]:
        raise EmptyError(f"nobody in {who} answered {', '.join(silent)}: leave these questions out")


def _personas(ids: Sequence[str]) -> NDArray[np.int64] | None:
    """Number of each role's persona; None where each has its own or none, and every role is drawn by itself."""
    if not all(ids) or len(set(ids)) == len(ids):
        return None
    return np.unique(np.array(ids), return_inverse=True)[1].astype(np.int64)
