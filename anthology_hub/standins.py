"""Figures that need to know for whom each role stands: person by person, and by demographics.

A cast can have the right shares and correlations and say nothing about anybody. Where the roles' respondents are among
the humans, their answers are compared pair by pair (`individuals`), and what demographics tell of the answers is
compared between the cast and all humans (`groups`, `regression`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from anthology_hub import groups, regression, resampling
from anthology_hub.individuals import UNORDERED, Pairs
from anthology_hub.schema import MISSING, Answers, Respondents
from anthology_hub.sides import MOST_DRAWS, Side
from anthology_hub.yardsticks import in_blocks, shares_by_cell

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from anthology_hub.resampling import Rows

    Values = dict[str, NDArray[np.float64]]

PERSON = ("accuracy", "mad_accuracy", "item_correlation", "normalised_accuracy", "normalised_mad_accuracy")
LEAST_LEVEL = 10
"""People of a level, in the cast and among the humans, below which it is joined with other rare ones."""
ALIKE = "all simulated or all human answers to a question are the same"
FEW = (
    "Undefined: too few roles for so many traits, or the answers to a question do not vary within a group, or a trait "
    "follows from others."
)
WHY = {
    "accuracy": "no role and its respondent answered the same question",
    "mad_accuracy": "no role and its respondent answered the same question with options in order",
    "item_correlation": f"{ALIKE}, or no question has options in order",
    "normalised_accuracy": "none of these respondents repeated an answer, or none was asked again",
    "normalised_mad_accuracy": "none of these respondents was asked again a question with options in order",
}
"""Why a figure is undefined, where it is."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A figure, its draws, and what it is held against."""

    value: float
    draws: NDArray[np.float64]
    human: float = float("nan")
    floors: tuple[float, float] = (float("nan"), float("nan"))
    """Of random halves of the humans, and of random samples as large as the cast."""
    baselines: Mapping[str, float] = field(default_factory=dict)
    why: str = ""
    """Why it is undefined; empty if it is not."""


def stood_for(answers: Answers, humans: Respondents) -> NDArray[np.int64]:
    """Return the row of each role's respondent among the humans, shape (roles,); MISSING where that cannot be told.

    Ids say who somebody is within one file only, and many files number their people from 1: where the run stands in
    for people of another name, nobody is paired. Nor is anybody whose id several humans have.
    """
    if _others(answers, humans):
        return np.full(len(answers), MISSING, dtype=np.int64)
    several = _repeated(humans)
    place = {name: at for at, name in enumerate(humans.ids) if name not in several}
    return np.array([place.get(name, MISSING) for name in answers.respondent_ids], dtype=np.int64)


def unpaired(answers: Answers, humans: Respondents) -> Iterator[str]:
    """Say which roles stand for nobody among the humans, why, and what that leaves out."""
    lost = int((stood_for(answers, humans) == MISSING).sum())
    if not lost:
        return
    if played := _others(answers, humans):
        alike = len(set(answers.respondent_ids) & set(humans.ids))
        shared = f", though {alike} ids are the same" if alike else ""
        why = (
            f"The run stands in for people of {played}, and these are of {humans.name}: nobody is paired{shared}. If "
            f"they are the same people, name the humans {played!r}."
        )
    else:
        why = f"{lost} of {len(answers)} roles stand for nobody among these humans."
        if several := _repeated(humans) & set(answers.respondent_ids):
            why += f" {len(several)} ids, such as {min(several)!r}, are of several humans, who cannot be told apart."
    if len(answers) - lost < 2:
        yield f"{why} Figures person by person and by demographics are left out."
    else:
        yield f"{why} Figures person by person and by demographics are of the other {len(answers) - lost}."


def _others(answers: Answers, humans: Respondents) -> str:
    """Name of the people of the run, where these humans have another one; empty where they are the same."""
    played = str(answers.provenance.get("inputs", {}).get("humans", ""))
    return played if played != humans.name else ""


def _repeated(humans: Respondents) -> set[str]:
    """Ids of several humans who are not the same; one person may be there several times."""
    if len(set(humans.ids)) == len(humans):
        return set()
    told = np.stack([*humans.answers.values(), *humans.codes.values()], axis=1)
    first: dict[str, int] = {}
    return {name for row, name in enumerate(humans.ids) if (told[first.setdefault(name, row)] != told[row]).any()}


@dataclass(frozen=True, kw_only=True)
class StandIns:
    """A cast and the respondents for whom it stands."""

    ours: Side
    theirs: Side
    roles: NDArray[np.int64]
    """Roles whose respondent is among the humans."""
    people: NDArray[np.int64]
    """Their respondents."""
    retest: NDArray[np.int16] | None
    """Second answers of all humans, shape (humans, q)."""
    levels: Mapping[str, NDArray[np.int64]]
    """Trait -> level of each human, rare ones joined; MISSING where not known."""
    earlier: tuple[Side, NDArray[np.int64]] | None = None
    """People of an earlier wave and their levels, shape (people, traits), numbered as `levels`."""
    no_earlier: str = ""
    """Why there are none, though an earlier wave is given."""

    @classmethod
    def of(cls, answers: Answers, humans: Respondents, ours: Side, theirs: Side) -> StandIns | None:
        """Return the pairs; None if fewer than two roles stand for somebody who is there."""
        place = stood_for(answers, humans)
        roles = np.flatnonzero(place != MISSING)
        if len(roles) < 2:
            return None
        people = place[roles]
        empty = np.full(len(humans), MISSING, dtype=np.int16)
        again = np.stack([humans.retest.get(key, empty) for key in answers.survey.keys], axis=1)
        levels = {name: _joined(codes, people) for name, codes in humans.codes.items()}
        return cls(
            ours=ours,
            theirs=theirs,
            roles=roles,
            people=people,
            retest=again if (again != MISSING).any() else None,
            levels={name: codes for name, codes in levels.items() if codes.max(initial=0) > 0},
        )

    def after(self, previous: Respondents, side: Side, humans: Respondents) -> StandIns:
        """Return the same pairs beside an earlier wave; without it, if it knows too little of the traits."""
        lacking = [name for name in self.levels if name not in previous.codes]
        if not self.levels or lacking:
            return self._alone(f"it was not asked for {', '.join(lacking)}") if lacking else self
        columns = []
        for name, numbers in self.levels.items():
            known, first = np.unique(humans.codes[name], return_index=True)
            number = {
                humans.levels[name][code]: numbers[at] for code, at in zip(known, first, strict=True) if code >= 0
            }
            # The last place is that of MISSING: what these humans have no level for is not known.
            told = np.array([number.get(level, MISSING) for level in previous.levels[name]] + [MISSING])
            columns.append(told[previous.codes[name]])
        there = zip(self.levels, columns, self._sizes, strict=True)
        few = [
            name for name, column, size in there if np.bincount(column + 1, minlength=size + 1)[1:].min() < LEAST_LEVEL
        ]
        if few:
            return self._alone(f"a level of {', '.join(few)} has fewer than {LEAST_LEVEL} people in it")
        return replace(self, earlier=(side, np.stack(columns, axis=1)))

    def _alone(self, why: str) -> StandIns:
        return replace(self, no_earlier=f"Figures by demographics are not guessed from the earlier wave: {why}.")

    @property
    def notes(self) -> Iterator[str]:
        """What figures person by person and by demographics leave out, in words."""
        if len(lost := np.flatnonzero(self._pairs[-1].pairs == 0)):
            yield (
                f"Figures person by person leave out {len(lost)} of {len(self._pairs[-1].pairs)} questions, to which "
                "no role and its respondent both gave an answer on the scale."
            )
        if self.no_earlier:
            yield self.no_earlier
        if not self.levels:
            yield (
                f"Figures by demographics are left out: no trait has two levels with at least {LEAST_LEVEL} roles and "
                "humans each."
            )
        elif left_out := int((self._levels[self.people] == MISSING).any(axis=1).sum()):
            yield (
                f"Regressions on demographics leave out {left_out} of {len(self.roles)} roles, of whom a trait is not "
                "known or has a level that too few have."
            )

    @property
    def against_themselves(self) -> NDArray[np.bool_]:
        """Questions that roles answer the opposite way of their respondents, beyond what chance does, shape (q,).

        Of unrelated answers of n pairs the correlation has a standard deviation of about 1 / sqrt(n); four of these
        below 0 are no chance. Real personas know little of their persons, or something, but not the opposite.
        """
        weights = self.ours.weights[self.roles]
        on_scale = self._pairs[-1]
        correlation = on_scale.items(weights[None])["item_correlation"][0]
        heard = on_scale.present * weights[:, None]
        n = heard.sum(axis=0) ** 2 / np.maximum((heard**2).sum(axis=0), np.finfo(np.float64).tiny)
        return np.asarray(np.nan_to_num(correlation) < -4 / np.sqrt(np.maximum(n, 1)))

    def draws(self, count: int, *, seed: int) -> tuple[Rows, Rows]:
        """Draw people and, with them, the roles that stand for them: what both sides share drops out of a distance.

        Roles of one persona are drawn together, and then so are their people. Where people come in sampling units of
        their own, the two are crossed, which errs on the wide side.

        Returns:
            Of the roles of the cast, shape (count, roles), and of the humans.
        """
        n, personas = len(self.theirs), self.ours.psu
        place = n + np.arange(len(self.ours))
        place[self.roles] = self.people
        if personas is not None and self.theirs.psu is None and self.theirs.strata is None:
            everybody = np.union1d(np.arange(n), place)
            units = np.arange(n + len(place))
            units[place] = len(units) + personas
            counts = np.ones((count, len(units)))
            counts[:, everybody] = resampling.bootstrap_counts(len(everybody), count, seed=seed, psu=units[everybody])
            return counts[:, place], counts[:, :n]
        them = self.theirs.draws(count, seed=seed)
        others = resampling.bootstrap_counts(len(self.ours), count, seed=seed + 1)
        us = np.concatenate([them, others], axis=1)[:, place]
        return us if personas is None else resampling.crossed_counts(us, personas, seed=seed + 2), them

    def person_by_person(self, draws: Rows, cells: NDArray[np.int64] | None) -> dict[str, Standing]:
        """Return what the pairs say.

        Args:
            draws: Of the roles, shape (draws, roles of the cast).
            cells: Demographic cell of each human.
        """
        values = self.persons(draws)
        guesses = _asked(self._pairs, lambda pairs: pairs.baselines(self.ours.weights[self.roles][None]))
        if cells is not None:
            guesses["cells"] = self._guessed(cells)
        found = {}
        for name in PERSON:
            if name not in values:
                continue
            human = values.get(f"retest_{name}", np.full(1, 1.0 if name.startswith("normalised") else np.nan))
            found[name] = Standing(
                value=float(values[name][0]),
                draws=values[name][1:],
                human=float(human[0]),
                baselines={guess: float(scored[name][0]) for guess, scored in guesses.items() if name in scored},
                why="" if np.isfinite(values[name][0]) else f"Undefined: {WHY[name]}.",
            )
        return found

    def persons(self, draws: Rows) -> Values:
        """Return the figures of the pairs, on the data themselves and then on each draw, shape (1 + draws,)."""
        rows = np.concatenate([np.ones((1, len(self.roles))), draws[:, self.roles]])
        weights = rows * self.ours.weights[self.roles]
        return _asked(self._pairs, lambda pairs: {"": pairs.figures(weights)})[""]

    def by_demographics(
        self, ours: Rows, theirs: Rows, *, splits: int, seed: int, cells: NDArray[np.int64] | None
    ) -> dict[str, Standing]:
        """Return what demographics tell; nothing where no trait has two levels with enough people.

        Args:
            ours: Draws of the roles, shape (draws, roles of the cast).
            theirs: Draws of the humans.
            splits: Random halves of the humans for the floor, and samples for the floor at equal n.
            seed: Of the halves and samples.
            cells: Demographic cell of each human.
        """
        drawn, own = self.demographics(ours, theirs)
        if not drawn:
            return {}
        masks = resampling.half_splits(len(self.theirs), min(splits, MOST_DRAWS), seed=seed)
        halves = self._told_of_humans(masks), self._told_of_humans(~masks)
        floors, guesses = self._floors(*halves, seed=seed), self._guesses(halves[1], masks, cells)
        return {
            name: Standing(
                value=float(values[0]),
                draws=values[1:],
                human=float(own[name][0]) if name in own else float("nan"),
                floors=(floors[0][name], floors[1][name]),
                baselines={guess: scored[name] for guess, scored in guesses.items()},
                why="" if np.isfinite(values[0]) else FEW,
            )
            for name, values in drawn.items()
        }

    def demographics(self, ours: Rows, theirs: Rows) -> tuple[Values, Values]:
        """Return what demographics tell, on the data themselves and then on the first MOST_DRAWS draws.

        Args:
            ours: Draws of the roles, shape (draws, roles of the cast).
            theirs: Draws of the humans.

        Returns:
            The figures, and the humans' own of those that are properties; none where no trait has two levels with
            enough people.
        """
        if not self.levels or not self.theirs.items.ordered.any():
            return {}, {}
        us, them = (
            np.concatenate([np.ones((1, side.shape[1])), side[:MOST_DRAWS]])
            for side in (ours[:, self.roles], np.asarray(theirs))
        )
        humans = self._told_of_humans(them)
        return self._told_of_roles(us).against(humans, self._whole.spread), {"explained": humans.explained}

    def _floors(self, one: _Told, other: _Told, *, seed: int) -> tuple[dict[str, float], dict[str, float]]:
        """Figures of halves of the humans, and of samples as large as the pairs against as large as theirs."""
        people, spread = len(self.theirs), self._whole.spread
        there, back = one.against(other, spread), other.against(one, spread)
        halves = {name: (value + back[name]) / 2 for name, value in there.items()}
        as_many = (
            self._told_of_humans(resampling.samples(people, size, len(one.explained), seed=seed + at))
            for at, size in enumerate((len(self.roles), people))
        )
        return resampling.means(halves), resampling.means(next(as_many).against(next(as_many), spread))

    def _guesses(
        self, second: _Told, masks: NDArray[np.bool_], cells: NDArray[np.int64] | None
    ) -> dict[str, dict[str, float]]:
        """What guesses without a model score; `second` is what those say whom the masks leave out.

        Where all say the same nothing differs between groups that could be compared: there is no majority.
        """
        # Answers that know nothing of anybody show no differences between groups.
        blind = {"explained": 0.0, "group_gaps": float(np.abs(self._whole.gaps).mean()), "coefficients": 0.0}
        found, spread = {"uniform": blind, "margins": blind}, self._whole.spread
        if cells is not None:
            drawn = self._drawn_from_cells(masks, cells)
            found["cells"] = resampling.means(drawn.against(second, spread))
        if self.earlier is not None:
            side, levels = self.earlier
            told = self._told(side.scale.codes[:, side.items.ordered], levels, side.weights[None])
            found["previous"] = resampling.means(told.against(self._whole, spread))
        return found

    def _drawn_from_cells(self, masks: NDArray[np.bool_], cells: NDArray[np.int64]) -> _Told:
        """The second half of each split as told by the first: an answer drawn from those of one's cell."""
        side, parts = self.theirs, [np.flatnonzero(cells == cell) for cell in np.unique(cells)]
        at, ordered = np.arange(int(side.scale.n_options.max())), side.items.ordered
        found = []
        for some in in_blocks(masks, len(parts) * len(ordered) * len(at)):
            overall = side.scale.shares(some, base=side.weights)
            shares = shares_by_cell(side, side.scale, parts, some, overall)[:, :, ordered]
            found.append((shares @ at, shares @ at**2))
        means, squares = (np.concatenate(each) for each in zip(*found, strict=True))
        moments, weights = (means, squares, cells), ~masks * side.weights
        fit = regression.fit_drawn(*moments, self._design(self._levels), weights)
        gaps = [
            groups.drawn_moments(*moments, column, weights, n_groups=count).gaps
            for column, count in zip(self._levels.T, self._sizes, strict=True)
        ]
        return _Told.of(fit, gaps)

    def _guessed(self, cells: NDArray[np.int64]) -> Values:
        """What the pairs' people are guessed to say from all others of their cell, whether or not stood in for."""
        rest = np.setdiff1d(np.arange(len(self.theirs)), self.people)
        order = np.concatenate([self.people, rest])
        codes = self.ours.table.codes[self.roles]
        nobody = np.full((len(rest), codes.shape[1]), MISSING, dtype=codes.dtype)
        ours, theirs = self.ours.weights[self.roles], self.theirs.weights
        # Roles may weigh on another scale than the people for whom they stand.
        scale = ours.sum() / max(theirs[self.people].sum(), np.finfo(np.float64).tiny)
        weights = np.concatenate([ours, theirs[rest] * scale])
        everybody = self._paired(np.concatenate([codes, nobody]), order)
        return _asked(everybody, lambda pairs: pairs.baselines(weights[None], cells=cells[order]))["cells"]

    @cached_property
    def _pairs(self) -> tuple[Pairs, ...]:
        return self._paired(self.ours.table.codes[self.roles], self.people)

    def _paired(self, simulated: NDArray[np.int16], people: NDArray[np.int64]) -> tuple[Pairs, ...]:
        """The pairs with all their answers; then, where that is less, with those on the scale."""
        items, human = self.theirs.items, self.theirs.table.codes[people]
        again = None if self.retest is None else self.retest[people]
        whole = Pairs(simulated, human, items.n_options, items.ordered, retest=again)
        if not items.off_scale:
            return (whole,)
        simulated, human = items.on_scale(simulated), items.on_scale(human)
        again = None if again is None else items.on_scale(again)
        return whole, Pairs(simulated, human, items.spans + 1, items.ordered, retest=again)

    @property
    def _ours(self) -> NDArray[np.int16]:
        return self.ours.scale.codes[self.roles][:, self.ours.items.ordered]

    @property
    def _theirs(self) -> NDArray[np.int16]:
        return self.theirs.scale.codes[:, self.theirs.items.ordered]

    @cached_property
    def _levels(self) -> NDArray[np.int64]:
        """Level of each human in each trait, shape (humans, traits)."""
        return np.stack(list(self.levels.values()), axis=1)

    @cached_property
    def _whole(self) -> _Told:
        return self._told_of_humans(np.ones((1, len(self.theirs))))

    def _told_of_roles(self, draws: Rows) -> _Told:
        return self._told(self._ours, self._levels[self.people], draws * self.ours.weights[self.roles])

    def _told_of_humans(self, draws: Rows) -> _Told:
        return self._told(self._theirs, self._levels, draws * self.theirs.weights)

    def _told(self, codes: NDArray[np.int16], levels: NDArray[np.int64], weights: NDArray[np.float64]) -> _Told:
        gaps = [
            groups.group_moments(codes, column, weights, n_groups=count).gaps
            for column, count in zip(levels.T, self._sizes, strict=True)
        ]
        return _Told.of(regression.fit(codes, self._design(levels), weights), gaps)

    @cached_property
    def _sizes(self) -> list[int]:
        """Levels of each trait."""
        return [int(column.max()) + 1 for column in self._levels.T]

    def _design(self, levels: NDArray[np.int64]) -> NDArray[np.float64]:
        common = [int(np.bincount(column[column != MISSING]).argmax()) for column in self._levels.T]
        return regression.dummies(levels, self._sizes, reference=common)


def _asked(pairs: Sequence[Pairs], ask: Callable[[Pairs], dict[str, Values]]) -> dict[str, Values]:
    """Ask the pairs: all answers for what needs no order, the last, those on the scale, for the rest."""
    whole, *on_scale = map(ask, pairs)
    for found in on_scale:
        for of, values in found.items():
            whole[of] |= {name: value for name, value in values.items() if _base(name) not in UNORDERED}
    return whole


def _base(name: str) -> str:
    """Name of a figure without what it is held against."""
    return name.removeprefix("retest_").removeprefix("normalised_")


@dataclass(frozen=True, kw_only=True)
class _Told:
    """What demographics tell of one side's answers, for each row of weights."""

    coefficients: NDArray[np.float64]
    """Shape (rows, q, d)."""
    spread: NDArray[np.float64]
    """Shape (rows, q)."""
    explained: NDArray[np.float64]
    """Shape (rows,)."""
    gaps: NDArray[np.float64]
    """Shape (rows, gaps)."""

    @classmethod
    def of(cls, fit: regression.Fit, gaps: Sequence[NDArray[np.float64]]) -> _Told:
        """Return what a regression and the gaps of each trait, shape (rows, q, pairs of groups), tell."""
        return cls(
            coefficients=fit.coefficients,
            spread=fit.spread,
            explained=fit.adjusted.mean(axis=1),
            gaps=np.concatenate([found.reshape(len(found), -1) for found in gaps], axis=1),
        )

    def against(self, humans: _Told, spread: NDArray[np.float64]) -> Values:
        """Return the figures of this side against the humans, each of shape (rows,); coefficients in SDs, `spread`."""
        scale = np.where(spread > 0, spread, np.nan)[..., None]
        same = groups.agreement(self.coefficients / scale, humans.coefficients / scale)
        return {
            "explained": self.explained,
            "group_gaps": groups.agreement(self.gaps, humans.gaps)["mean_absolute_difference"],
            "coefficients": same["correlation"],
        }


def _joined(codes: NDArray[np.int16], people: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
    """Number the levels that enough of both have, and join the rare ones; if these are still few, they are left out."""
    known = np.unique(codes[codes != MISSING])
    rare = [level for level in known if min((codes == level).sum(), (codes[people] == level).sum()) < LEAST_LEVEL]
    grouped = np.where(np.isin(codes, rare), -2, codes).astype(np.int64)
    if (grouped[people] == -2).sum() < LEAST_LEVEL:
        grouped[grouped == -2] = MISSING
    kept = np.unique(grouped[grouped != MISSING])
    found = np.full(len(codes), MISSING, dtype=np.int64)
    for number, level in enumerate(kept):
        found[grouped == level] = number
    return found
