"""Few human answers and many simulated ones, combined into estimates whose intervals are valid.

Prediction-powered inference (Angelopoulos, Bates, Fannjiang, Jordan and Zrnic, Science 2023) with power tuning (PPI++,
Angelopoulos, Duchi and Zrnic 2023). Everybody has a simulated answer, a random part of them, the labelled, a human one
too. With one and the same fit y of the human answers of the labelled, f of their simulated answers and g of the
simulated answers of the others, the estimate is::

    y + lambda * (g - f)

f and g estimate the same thing, right or wrong, so the correction is zero on average however bad the simulation is; a
good one takes away part of the chance in y. Linear fits (means, shares, OLS) make this the estimator of PPI; logistic
ones are corrected in the same way (Chen and Chen, JRSS B 2000). Variances are sandwiches of the three fits (HC1), with
weights that are only known up to a factor; the interval is Student's t with the labelled less the coefficients.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from anthology_hub.errors import DataError, EmptyError, OptionError, UnknownNameError
from anthology_hub.prompts import derive_seed
from anthology_hub.schema import CHOICE, MISSING, SMALLEST_CELL, Answers, Question, Respondents
from anthology_hub.standins import stood_for
from anthology_hub.weighting import effective_size

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

MODELS = ("linear", "logistic")
SIMULATED = ("probs", "picks")
"""What counts as the simulated answer: its expectation under the option probabilities, or the option picked."""
ENOUGH = 30
"""Effective labelled people for each figure below which its interval is said to be too narrow: at 12 of them, 20 with
skewed weights, 95 % intervals of a mean held it in 90 % of 2,000 simulated samples, and those of the humans alone in
91 %."""
_ROUNDS, _STEEP = 50, 15.0


@dataclass(frozen=True, kw_only=True)
class RectifyOptions:
    """How to combine."""

    model: str = "linear"
    """`linear`: means, shares and OLS coefficients; `logistic`: log-odds of an option and their differences."""
    simulated: str = "probs"
    """One of SIMULATED; `probs` falls back to `picks` where the model was not asked for probabilities."""
    tuning: float | None = None
    """Lambda, 0 (humans alone) or more; 1 is PPI without tuning. None: for each figure the one with least variance."""
    level: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            OptionError: If the level or lambda is out of range.
            UnknownNameError: If there is no such model or simulated answer.
        """
        if self.model not in MODELS:
            raise UnknownNameError("model", self.model, MODELS)
        if self.simulated not in SIMULATED:
            raise UnknownNameError("simulated answer", self.simulated, SIMULATED)
        if not 0 < self.level < 1 or not (self.tuning is None or 0 <= self.tuning < float("inf")):
            raise OptionError(
                f"level must be above 0 and below 1, tuning 0 or more, got {self.level} and {self.tuning}"
            )


# -- arrays -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Coefficients of one sample, and what each person does to them."""

    values: NDArray[np.float64]
    """Shape (d,)."""
    influence: NDArray[np.float64]
    """Shape (n, d); the covariance of the values is influence' influence / (n (n-d))."""

    @property
    def errors(self) -> NDArray[np.float64]:
        """Robust standard errors (HC1), shape (d,)."""
        n, d = self.influence.shape
        return np.asarray(np.sqrt((self.influence**2).sum(axis=0) / (n * (n - d))))


@dataclass(frozen=True, kw_only=True)
class Powered:
    """Prediction-powered coefficients; shapes (d,)."""

    values: NDArray[np.float64]
    errors: NDArray[np.float64]
    tuning: NDArray[np.float64]
    """Lambda of each coefficient."""
    human: Fit
    """Of the human answers alone."""


def weighted_fit(
    design: ArrayLike, outcome: ArrayLike, *, weights: ArrayLike | None = None, model: str = "linear"
) -> Fit:
    """Fit a weighted linear or logistic regression with robust errors (HC1: White 1980 times n / (n-d)).

    A column of ones alone gives the weighted mean (or its log-odds) with the error of a ratio estimator.

    Args:
        design: Shape (n, d).
        outcome: Shape (n,); 0 to 1 if logistic.
        weights: Shape (n,), positive, in any unit; None: all the same.
        model: One of MODELS.

    Returns:
        Coefficients and influences.

    Raises:
        DataError: If the columns are not independent, or options are separated perfectly (logistic).
        OptionError: If there are not more people than coefficients.

    Example:
        >>> fit = weighted_fit(np.ones((4, 1)), [1, 2, 3, 6])
        >>> float(fit.values[0]), round(float(fit.errors[0]), 4)
        (3.0, 1.0801)
    """
    x, y = np.asarray(design, dtype=np.float64), np.asarray(outcome, dtype=np.float64)
    n, d = x.shape
    if n <= d:
        raise OptionError(f"{n} people cannot tell {d} coefficients: more people than coefficients are needed")
    w = np.ones(n) if weights is None else np.asarray(weights, dtype=np.float64)
    if not (np.isfinite(w).all() and (w > 0).all()):
        raise DataError("weights must be positive numbers: leave people without weight out")
    w = w / w.mean()
    if np.linalg.matrix_rank(x) < d:
        raise DataError(f"the {d} columns of the design are not independent: drop one, or merge levels of few people")
    values = _newton(x, y, w) if model == "logistic" else _solve(x.T @ (w[:, None] * x), x.T @ (w * y))
    fitted, slope = _mean(x @ values, model)
    bread = np.linalg.inv(x.T @ ((w * slope)[:, None] * x) / n)
    return Fit(values=values, influence=(w * (y - fitted))[:, None] * x @ bread)


def prediction_powered(human: Fit, simulated: Fit, others: Fit, *, tuning: float | None = None) -> Powered:
    """Correct the fit of few human answers by simulated answers of the same people and of others.

    The variance is V(human - lambda simulated) + lambda^2 V(others); the lambda that makes it least is taken for each
    coefficient (PPI++, section 6), at least 0 and not held under 1: simulated answers vary too little more often than
    too much. By construction the error is never above the humans' own.

    Args:
        human: Of the human answers of the labelled.
        simulated: Of the simulated answers of the same people, in the same order.
        others: Of the simulated answers of the others.
        tuning: Lambda, if not to be chosen.

    Example:
        >>> ones, y = np.ones((4, 1)), np.array([1, 2, 3, 6])
        >>> fits = [weighted_fit(ones, y), weighted_fit(ones, y + 1), weighted_fit(np.ones((40, 1)), np.arange(40) % 7)]
        >>> powered = prediction_powered(*fits)
        >>> bool(powered.errors[0] < fits[0].errors[0]), round(float(powered.tuning[0]), 2)
        (True, 0.92)
    """
    (n, d), a, b = human.influence.shape, human.influence, simulated.influence
    if tuning is None:
        spread = simulated.errors**2 + others.errors**2
        shared = (a * b).sum(axis=0) / (n * (n - d))
        floor = 1e-12 * np.maximum(human.errors**2, 1e-300)
        best = np.divide(shared, spread, out=np.zeros(d), where=spread > floor)
        lam = np.maximum(best, 0.0)
    else:
        lam = np.full(d, float(tuning))
    corrected = replace(human, influence=a - lam * b)
    return Powered(
        values=human.values + lam * (others.values - simulated.values),
        errors=np.sqrt(corrected.errors**2 + (lam * others.errors) ** 2),
        tuning=lam,
        human=human,
    )


def _solve(matrix: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.linalg.solve(matrix, right))


def _mean(linear: NDArray[np.float64], model: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Expected outcome and its slope."""
    if model == "linear":
        return linear, np.ones_like(linear)
    share = 1 / (1 + np.exp(-linear))
    return share, share * (1 - share)


def _newton(x: NDArray[np.float64], y: NDArray[np.float64], w: NDArray[np.float64]) -> NDArray[np.float64]:
    values = np.zeros(x.shape[1])
    for _ in range(_ROUNDS):
        share, slope = _mean(x @ values, "logistic")
        try:
            step = _solve(x.T @ ((w * slope)[:, None] * x), x.T @ (w * (y - share)))
        except np.linalg.LinAlgError:
            break
        values = values + step
        if np.abs(values).max() > _STEEP:
            break
        if np.abs(step).max() < 1e-12:
            return values
    raise DataError(
        "the log-odds run away: in some group everybody or nobody gave the option; merge levels, label more people, "
        "or take the linear model"
    )


# -- answers ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A figure with its interval."""

    value: float
    error: float
    low: float
    high: float
    n: int
    """People behind it."""


@dataclass(frozen=True, kw_only=True)
class Rectified:
    """One figure, estimated in three ways."""

    name: str
    """`mean`, `share`, `log-odds`; with traits `intercept` and `trait=level`."""
    rectified: Estimate
    human: Estimate
    """The labelled people's human answers alone."""
    simulated: Estimate
    """All simulated answers as if humans had given them; its interval does not know the simulation's error."""
    tuning: float
    """Lambda: how far the simulated answers are relied on; 0 not at all."""
    worth: float
    """Human answers that would give as narrow an interval without simulation: n (error human / error rectified)^2."""
    everyone: Estimate | None = None
    """All human answers that there are, where not all of them were used; to check with."""

    @property
    def gained(self) -> float:
        """Human answers that the simulated ones are worth, 0 or more if lambda was chosen."""
        return self.worth - self.human.n


@dataclass(frozen=True, kw_only=True)
class Rectification:
    """What few human answers and many simulated ones say together about one question."""

    question: str
    estimand: str
    """What is estimated, in words."""
    rows: tuple[Rectified, ...]
    n_labelled: int
    n_others: int
    level: float
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        rows = [{**asdict(row), "gained": row.gained} for row in self.rows]
        return {**asdict(self), "rows": rows, "notes": list(self.notes), "meaning": self.meaning}

    @property
    def meaning(self) -> str:
        """What the figures say, in plain words."""
        first = max(self.rows, key=lambda row: row.gained / row.human.n)
        which = "" if len(self.rows) == 1 else f" (at best, for {first.name})"
        gain = (
            f"Here they are worth {first.gained:.0f} more human answers{which}: the interval is as narrow as that of "
            f"{first.worth:.0f} without simulation."
            if first.gained >= 0.5
            else "Here they add nothing: the simulated answers do not go along with the human ones."
        )
        return (
            "The rectified figures take the human answers and use the simulated ones only as far as they vary together "
            "with them. They hold however wrong the simulation is, if the labelled are a random sample of the people "
            f"in the run; the figures of the simulation alone do not. {gain}"
        )

    def lines(self) -> list[str]:
        """Return it as text, line by line."""
        head = [
            f"{self.question}: {self.estimand}",
            f"{self.n_labelled} human answers, {self.n_others} simulated answers of others; {self.level:.0%} intervals",
        ]
        body = []
        for row in self.rows:
            body += [row.name] if len(self.rows) > 1 else []
            worth = f"worth {row.worth:.0f} human answers, lambda {row.tuning:.2f}"
            body += [
                _line("rectified", row.rectified, worth),
                _line("humans alone", row.human, f"{row.human.n} human answers"),
                _line("simulation alone", row.simulated, "interval without the simulation's own error"),
            ]
            body += [_line("all humans", row.everyone, f"{row.everyone.n}, to check with")] if row.everyone else []
        return [*head, *body, self.meaning, *(f"note: {note}" for note in self.notes)]


def rectify(
    answers: Answers,
    humans: Respondents,
    question: str,
    *,
    option: str | None = None,
    traits: Sequence[str] = (),
    labelled: int | Collection[str] | None = None,
    options: RectifyOptions | None = None,
) -> Rectification:
    """Estimate a mean, a share or regression coefficients from few human answers and the simulated answers of a run.

    A role without a simulated answer counts with the mean of the others: that keeps the labelled a random sample and
    costs only precision.

    Args:
        answers: A run; its roles stand in for respondents.
        humans: People with their human answers.
        question: Its key.
        option: Estimate the share of this option; None: the mean position of an ordinal question, 1 to K.
        traits: Regress on dummies of these traits, each against its first level.
        labelled: Whose human answers to use: ids, or how many, drawn at random; None: everybody's of the run that
            there are. The others count as if nobody had asked them.
        options: How to combine.

    Returns:
        One row for each figure.

    Raises:
        DataError: If both sides have other options, or the labelled all answered the same.
        EmptyError: If nobody has both answers, or nobody is left besides.
        OptionError: If a nominal question is averaged, or too few people are labelled.
        UnknownNameError: If there is no such question, option, trait or respondent.

    Example:
        >>> from anthology_hub import Respondents, SimulateOptions, Survey, open_model, simulate, unmatched
        >>> humans = Respondents.load("gss-2018").sample(300)
        >>> survey = Survey.load("gss-national-spending").select(["natenvir"])
        >>> how = SimulateOptions(conditioning="bio")
        >>> answers = simulate(unmatched(humans), survey, open_model("scripted:uniform"), options=how)
        >>> found = rectify(answers, humans, "natenvir", labelled=100)
        >>> row = found.rows[0]
        >>> row.rectified.low < row.everyone.value < row.rectified.high
        True
    """
    options = options or RectifyOptions()
    target = _Target.of(answers, humans, question, option, options)
    sample = _sample(answers, humans, target, traits, labelled, options)
    human, simulated, others, every = sample.fits(options.model)
    powered = prediction_powered(human, simulated, others, tuning=options.tuning)
    everyone = sample.everyone(options.model)
    rows = []
    for at, name in enumerate(sample.names(target.name)):
        own = _estimate(human.values[at], human.errors[at], human, options)
        best = _estimate(powered.values[at], powered.errors[at], human, options)
        rows.append(
            Rectified(
                name=name,
                rectified=best,
                human=own,
                simulated=_estimate(every.values[at], every.errors[at], every, options),
                tuning=float(powered.tuning[at]),
                worth=own.n * float((own.error / best.error) ** 2),
                everyone=_estimate(everyone.values[at], everyone.errors[at], everyone, options) if everyone else None,
            )
        )
    return Rectification(
        question=question,
        estimand=target.words + (f", on {', '.join(traits)}" if traits else ""),
        rows=tuple(rows),
        n_labelled=len(human.influence),
        n_others=len(others.influence),
        level=options.level,
        notes=tuple(sample.notes),
    )


@dataclass(frozen=True, kw_only=True)
class _Target:
    """What is estimated: the question, and from an option to a number."""

    question: Question
    column: int
    scores: NDArray[np.float64]
    """Of each option, shape (K,)."""
    name: str
    words: str

    @classmethod
    def of(
        cls, answers: Answers, humans: Respondents, key: str, option: str | None, options: RectifyOptions
    ) -> _Target:
        keys = answers.survey.keys
        if key not in keys:
            raise UnknownNameError("question of the run", key, keys)
        if key not in humans.answers:
            raise UnknownNameError(f"question of {humans.name}", key, humans.answers)
        column = keys.index(key)
        question = answers.survey.questions[column]
        _check_question(question, humans)
        if option is None:
            # Who is on the scale is known of the humans who were asked alone, and the roles stand for the others, too.
            if not question.ordinal or question.off_scale or options.model == "logistic":
                why = _no_mean(question)
                raise OptionError(
                    f"question {key!r}: {why} the share of an option, --option, one of {question.options}"
                )
            first, last = question.options[0], question.options[-1]
            scores = np.arange(1.0, len(question.options) + 1)
            words = f"mean position, 1 ({first}) to {len(scores)} ({last})"
            return cls(question=question, column=column, scores=scores, name="mean", words=words)
        if option not in question.options:
            raise UnknownNameError(f"option of {key}", option, question.options)
        scores = np.array([float(text == option) for text in question.options])
        name = "log-odds" if options.model == "logistic" else "share"
        return cls(question=question, column=column, scores=scores, name=name, words=f"{name} of {option!r}")

    def human(self, humans: Respondents) -> NDArray[np.float64]:
        """Scores of the human answers, shape (n,); NaN where there is none."""
        codes = humans.answers[self.question.key]
        return np.where(codes == MISSING, np.nan, self.scores[codes])

    def simulated(self, answers: Answers, how: str) -> NDArray[np.float64]:
        """Scores of the simulated answers, shape (n,); NaN where there is none."""
        picks, k = answers.picks[:, self.column], len(self.scores)
        probs = answers.probs[:, self.column, :k].astype(np.float64)
        if how == "picks" or np.isnan(probs[picks != MISSING]).any():
            return np.where(picks == MISSING, np.nan, self.scores[picks])
        with np.errstate(invalid="ignore"):
            return np.where(picks == MISSING, np.nan, probs @ self.scores / probs.sum(axis=1))


def _no_mean(question: Question) -> str:
    """Say why the mean position is no target: for the question's own sake, or else for the model's."""
    if not question.ordinal:
        return "its options have no order: give"
    return "some of its options lie off the scale: give" if question.off_scale else "the logistic model needs"


def _check_question(question: Question, humans: Respondents) -> None:
    if question.kind != CHOICE:
        raise OptionError(f"question {question.key!r} is of the kind {question.kind}: give a choice question")
    theirs = {q.key: q.options for q in humans.survey.questions} if humans.survey else {}
    if theirs.get(question.key, question.options) != question.options:
        raise DataError(
            f"question {question.key!r} has the options {question.options} in the run, but {theirs[question.key]} in "
            f"{humans.name}: simulate with the survey of {humans.name}"
        )
    if (most := int(humans.answers[question.key].max(initial=MISSING))) >= len(question.options):
        raise DataError(
            f"question {question.key!r} has {len(question.options)} options in the run, but an answer of "
            f"{humans.name} is option {most + 1}: simulate with the survey of {humans.name}"
        )


@dataclass(frozen=True, kw_only=True)
class _Sample:
    """Everybody in the run: both answers, design, weights, and who is labelled."""

    human: NDArray[np.float64]
    simulated: NDArray[np.float64]
    design: NDArray[np.float64]
    weights: NDArray[np.float64]
    labelled: NDArray[np.bool_]
    columns: tuple[str, ...]
    notes: list[str]
    rest: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]] | None
    """Human answers, design and weights of all people, where there are more than the labelled."""

    def names(self, of_all: str) -> tuple[str, ...]:
        return self.columns if len(self.columns) > 1 else (of_all,)

    def fits(self, model: str) -> tuple[Fit, Fit, Fit, Fit]:
        """Fit the human and the simulated answers of the labelled, the others' simulated ones, and all simulated."""
        inside, everybody = self.labelled, np.ones(len(self.labelled), dtype=bool)
        return (
            self._fit("human answers", self.human, inside, model),
            self._fit("simulated answers of the labelled", self.simulated, inside, model),
            self._fit("simulated answers of the others", self.simulated, ~inside, model),
            self._fit("simulated answers", self.simulated, everybody, model),
        )

    def _fit(self, whose: str, outcome: NDArray[np.float64], rows: NDArray[np.bool_], model: str) -> Fit:
        try:
            return weighted_fit(self.design[rows], outcome[rows], weights=self.weights[rows], model=model)
        except DataError as error:
            raise DataError(f"the {whose}: {error}") from error

    def everyone(self, model: str) -> Fit | None:
        if self.rest is None:
            return None
        outcome, design, weights = self.rest
        return weighted_fit(design, outcome, weights=weights, model=model)


def _sample(
    answers: Answers,
    humans: Respondents,
    target: _Target,
    traits: Sequence[str],
    labelled: int | Collection[str] | None,
    options: RectifyOptions,
) -> _Sample:
    place, notes = _places(answers, humans), list[str]()
    _check_known(answers, labelled)
    design, columns = _design(humans, traits)
    given = target.human(humans)
    # People of the run who are not among the humans have no traits here, and no human answer.
    kept = np.flatnonzero(place >= 0) if traits else np.arange(len(place))
    kept = kept[~np.isnan(design[place[kept]]).any(axis=1)] if traits else kept
    if lost := len(place) - len(kept):
        notes.append(f"{lost} of {len(place)} people in the run were left out: a trait of theirs is not known.")
    ids = np.array(answers.respondent_ids)
    human = np.where(place >= 0, given[place], np.nan)
    kept = kept[~_asked_in_vain(ids[kept], place[kept], human[kept], labelled, notes)]
    ids, place, human = ids[kept], place[kept], human[kept]
    inside = _labelled(ids, ~np.isnan(human), labelled, options.seed, notes)
    rows = design[place] if traits else np.ones((len(kept), 1))
    simulated = _filled(target.simulated(answers, options.simulated)[kept], notes)
    _check_sample(human, simulated, rows, inside, columns, target, notes)
    few = effective_size(answers.weights[kept][inside])
    if few < ENOUGH * rows.shape[1]:
        notes.append(
            f"{few:.0f} effective people (Kish) are labelled, fewer than {ENOUGH} for each figure: the intervals may "
            "be too narrow."
        )
    if humans.psu is not None or humans.strata is not None:
        notes.append(
            "The interval takes the people as drawn one by one: strata and sampling units are not allowed for."
        )
    known = ~np.isnan(given) & ~np.isnan(design).any(axis=1)
    weights = np.ones(len(humans)) if humans.weights is None else humans.weights
    rest = (given[known], design[known], weights[known]) if known.sum() > inside.sum() else None
    return _Sample(
        human=human,
        simulated=simulated,
        design=rows,
        weights=answers.weights[kept],
        labelled=inside,
        columns=columns,
        notes=notes,
        rest=rest,
    )


def _places(answers: Answers, humans: Respondents) -> NDArray[np.int64]:
    """Return the row of each role's respondent among the humans, MISSING for none."""
    if len(set(answers.respondent_ids)) < len(answers):
        raise DataError("a respondent occurs twice in the run: give a run with one role for each respondent")
    place = stood_for(answers, humans)
    if (place == MISSING).all():
        played = answers.provenance.get("inputs", {}).get("humans", "others")
        raise EmptyError(
            f"nobody in the run is in {humans.name}: the run stands in for {answers.respondent_ids[0]!r} and "
            f"{len(answers) - 1} others of {played}; give the respondents that it was made for"
        )
    return place


def _check_known(answers: Answers, labelled: int | Collection[str] | None) -> None:
    if labelled is None or isinstance(labelled, int):
        return
    if strange := sorted(set(labelled) - set(answers.respondent_ids)):
        raise DataError(
            f"{len(strange)} of {len(set(labelled))} labelled people are not in the run, such as {strange[0]!r}: label "
            "respondents that the run stands in for"
        )


def _design(humans: Respondents, traits: Sequence[str]) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Return an intercept and dummies of all levels but the first; NaN where a trait is not known."""
    columns, names = [np.ones(len(humans))], ["intercept"]
    for trait in traits:
        if trait not in humans.levels:
            raise UnknownNameError(f"trait of {humans.name}", trait, humans.levels)
        codes = humans.codes[trait]
        for at, level in enumerate(humans.levels[trait][1:], start=1):
            columns.append(np.where(codes == MISSING, np.nan, codes == at))
            names.append(f"{trait}={level}")
    return np.stack(columns, axis=1), tuple(names)


def _asked_in_vain(
    ids: NDArray[np.str_],
    place: NDArray[np.int64],
    human: NDArray[np.float64],
    labelled: int | Collection[str] | None,
    notes: list[str],
) -> NDArray[np.bool_]:
    """Return who was asked and did not answer: they are not like those who were never asked."""
    if labelled is None:
        return np.zeros(len(ids), dtype=bool)
    asked = place >= 0 if isinstance(labelled, int) else np.isin(ids, list(labelled))
    vain = asked & np.isnan(human)
    if vain.any():
        notes.append(f"{int(vain.sum())} people were left out who were asked and did not answer the question.")
    return np.asarray(vain)


def _labelled(
    ids: NDArray[np.str_],
    answered: NDArray[np.bool_],
    labelled: int | Collection[str] | None,
    seed: int,
    notes: list[str],
) -> NDArray[np.bool_]:
    """Return whose human answers are used."""
    if labelled is None:
        notes.append("Everybody with a human answer is labelled: those without must be missing by chance.")
        return answered
    if isinstance(labelled, int):
        if not 1 <= labelled <= answered.sum():
            raise OptionError(
                f"cannot label {labelled} people: {int(answered.sum())} of the run have a human answer to the question"
            )
        drawn = np.random.default_rng(derive_seed(seed, "labelled"))
        return np.asarray(np.isin(ids, drawn.choice(np.sort(ids[answered]), labelled, replace=False)))
    return np.asarray(np.isin(ids, list(labelled)) & answered)


def _filled(simulated: NDArray[np.float64], notes: list[str]) -> NDArray[np.float64]:
    missing = np.isnan(simulated)
    if missing.all():
        raise EmptyError("no role of the run answered the question: nothing is there to combine with")
    if missing.any():
        notes.append(
            f"{int(missing.sum())} of {len(missing)} roles gave no answer; the mean simulated answer counts for them."
        )
    return np.where(missing, simulated[~missing].mean(), simulated)


def _check_sample(
    human: NDArray[np.float64],
    simulated: NDArray[np.float64],
    design: NDArray[np.float64],
    inside: NDArray[np.bool_],
    columns: Sequence[str],
    target: _Target,
    notes: list[str],
) -> None:
    key, d = target.question.key, design.shape[1]
    for n, who, do in (
        (int(inside.sum()), "people with a human and a simulated answer", "label more people"),
        (int((~inside).sum()), "people with a simulated answer alone", "label fewer, or simulate more"),
    ):
        if n <= d:
            kind = EmptyError if n == 0 else OptionError
            raise kind(f"question {key!r}: there are {n} {who}, and {d + 1} are needed for {d} figures: {do}")
    _check_levels(design, inside, columns, notes)
    if np.ptp(human[inside]) == 0:
        raise DataError(
            f"question {key!r}: the {int(inside.sum())} labelled people all count the same in it, so no interval can "
            "be told: label more people, or take another option"
        )
    if np.ptp(simulated) == 0:
        notes.append("All simulated answers are the same: they tell nothing, and the human answers stand alone.")


def _check_levels(
    design: NDArray[np.float64], inside: NDArray[np.bool_], columns: Sequence[str], notes: list[str]
) -> None:
    dummies = design[:, 1:]
    for who, rows in (("labelled", inside), ("other", ~inside)):
        counts = dummies[rows].sum(axis=0)
        empty = [name for name, count in zip(columns[1:], counts, strict=True) if count == 0]
        if empty:
            raise DataError(f"nobody of the {who} people is {', '.join(empty)}: leave the trait out, or label more")
        if few := [name for name, count in zip(columns[1:], counts, strict=True) if count < SMALLEST_CELL]:
            notes.append(f"Few {who} people are {', '.join(few)}: under {SMALLEST_CELL} of each, a shaky figure.")


def _estimate(value: float, error: float, fit: Fit, options: RectifyOptions) -> Estimate:
    from scipy import stats

    n, d = fit.influence.shape
    reach = float(stats.t.ppf((1 + options.level) / 2, n - d)) * float(error)
    return Estimate(value=float(value), error=float(error), low=float(value) - reach, high=float(value) + reach, n=n)


def _line(name: str, found: Estimate, tail: str) -> str:
    return f"  {name:17} {found.value:>8.4f}  [{found.low:.4f}, {found.high:.4f}]  {tail}"
