"""Which persona stands in for which respondent. Pure: arrays in, a `Matching` out.

The weight of a pair is the product over traits of the probability that the persona has the respondent's level
(Anthology, Moon et al. 2024, section 3.3), each with a floor. A respondent's unknown level and a persona's missing
annotation count as uniform, and are counted. Draws and ties follow seed and ids alone, so that neither the order of the
personas nor that of the respondents matters.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from anthology_hub.assignment import DENSE, Casting
from anthology_hub.choosing import UNMATCHED, Choosers
from anthology_hub.crosswalks import Crosswalk
from anthology_hub.errors import AnthologyWarning, EmptyError, OptionError, UnknownNameError
from anthology_hub.pair_weights import PairWeights, floored
from anthology_hub.schema import MISSING, Codebook, Matching, Persona, Respondents, Role
from anthology_hub.weighting import effective_size

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

METHODS = ("greedy", "optimal", "capacity", "random")
FLOOR = 1e-4
"""Least probability of a level: keeps an impossible trait from hiding how well the others fit."""
PROVEN = 1e-9
"""Greatest optimality gap that rounding alone leaves."""
_DEEPEST = 600.0
"""How far below 1 a weight may lie, in nats, before it comes near the least number there is."""


class People(Protocol):
    """What matching needs of a collection; `Anthology` has it."""

    @property
    def codebook(self) -> Codebook:
        """Traits of the personas."""
        ...

    @property
    def identity(self) -> str:
        """Name and content digest of the collection."""
        ...

    @property
    def ids(self) -> Sequence[str]:
        """Persona ids."""
        ...

    @property
    def origin(self) -> str:
        """Repository and commit of the collection, if it is on a hub."""
        ...

    def __len__(self) -> int:
        """Number of personas."""
        ...

    def __getitem__(self, at: int) -> Persona:
        """The persona at a position."""
        ...

    def distribution(self, trait: str) -> NDArray[np.float32]:
        """Probability of each level, shape (personas, levels); rows of NaN where there is no annotation."""
        ...


@runtime_checkable
class Taking(Protocol):
    """A collection that gives many personas at once."""

    def take(self, rows: Sequence[int]) -> Iterable[Persona]:
        """The personas at some positions, in that order."""
        ...


class Searchable(Protocol):
    """What semantic affinity needs of a collection; `Anthology` with embeddings has it."""

    @property
    def ids(self) -> Sequence[str]:
        """Persona ids."""
        ...

    @property
    def scores(self) -> NDArray[np.float64] | None:
        """Cosine similarities of the last search, in order."""
        ...

    def search(self, text: str, k: int) -> Searchable:
        """The `k` personas nearest to a text."""
        ...


def match(
    people: People,
    humans: Respondents,
    *,
    method: str = "optimal",
    traits: Sequence[str] | None = None,
    crosswalk: Crosswalk | None = None,
    seed: int = 0,
    floor: float | Mapping[str, float] = FLOOR,
    importance: Mapping[str, float] | None = None,
    capacity: int | None = None,
    top_k: int = 1,
    affinity: ArrayLike | None = None,
    affinity_weight: float = 1.0,
    partial: bool = False,
    impossible: bool = True,
    rounds: int = 50,
) -> Matching:
    """Cast personas as respondents.

    The paper's matchings (Moon et al. 2024, section 3.3) are `greedy` and `optimal` with all else as it is by default,
    up to the floor: with `floor` near 0 the objective is theirs, the sum of products of probabilities. Two things of
    their code are left out: ties that all go to the first persona, and pairs of weight 0 that are assigned at random.
    A pair has weight 0 if, before the floor, the persona cannot have one of the respondent's levels: such pairs are
    counted as `diagnostics["zero_weight_pairs"]`, and with `impossible=False` they are no pairs.

    Up to `assignment.DENSE` pairs scipy finds the assignment; larger ones need the extra `matching`, and their
    `diagnostics` hold `weight_bound`, which no casting exceeds in total weight, and `optimality_gap`, the share of it
    that this one falls short of: below 1e-9 it is proven best.

    Args:
        people: The personas, usually an `Anthology`, filtered or not.
        humans: The respondents to stand in for; the matching has one role for each, in their order.
        method: `greedy` takes the best persona for each respondent and may take one again and again; `optimal` is the
            one-to-one assignment of the largest total weight; `capacity` is the same with up to `capacity` respondents
            for each persona; `random` draws without replacement (the paper's ablation).
        traits: Traits to match on; all that codebook, crosswalk and respondents have, if not given.
        crosswalk: From persona levels to respondent levels; found by `Crosswalk.between`, if not given.
        seed: For `random`, for `top_k`, and to break ties evenly.
        floor: Least probability of a level, above 0 and below 1; one for all traits, or trait -> floor for some.
        importance: Trait -> exponent of its probability, 0 or more, 1 if not named; 0 leaves the trait out.
        capacity: Most respondents of one persona, for `capacity`.
        top_k: For `greedy`: take a random one of so many best personas, drawn for each respondent.
        affinity: How near each respondent and persona are otherwise, shape (respondents, personas), as from
            `affinities`; times `affinity_weight` it is added to the log weight that decides. The weights that are kept
            and reported are those of the traits alone.
        affinity_weight: What an affinity of 1 counts as, in nats.
        partial: Whether respondents for whom no persona is left may go without a role. Those of least total weight do;
            `diagnostics["unmatched_respondents"]` counts them, `diagnose` names them.
        impossible: Whether a persona may stand in for somebody one of whose levels it cannot have. If not, respondents
            for whom no other is left go without a role, and are counted as above.
        rounds: For assignments too large for scipy: stop after so many flows, with a warning if that is too early.

    Raises:
        EmptyError: If there is nobody to match, or nobody whom a persona can stand in for.
        MissingExtraError: If the assignment is too large for scipy and OR-tools is not installed.
        OptionError: If there are fewer seats than respondents, or an option is unknown, out of range or of another
            method.
        UnknownNameError: If a trait is unknown.

    Example:
        >>> from anthology_hub import Anthology, Respondents
        >>> cast = match(Anthology.load("starter"), Respondents.load("gss-2018").sample(20, seed=1), method="optimal")
        >>> len(cast), cast.diagnostics["distinct_personas"]
        (20, 20.0)
    """
    if not len(people) or not len(humans):
        raise EmptyError(f"cannot match {len(humans)} respondents with {len(people)} personas: both need at least one")
    _check_method(people, humans, method, capacity=capacity, top_k=top_k, partial=partial)
    if rounds < 1:
        raise OptionError(f"rounds must be 1 or more, got {rounds}")
    tables = trait_tables(people, humans, traits=traits, crosswalk=crosswalk)
    _check_named(tables, floor=floor, importance=importance or {})
    tables = {name: table for name, table in tables.items() if (importance or {}).get(name, 1) > 0}
    if not tables:
        raise OptionError("no trait to match on: every trait has importance 0, give one of them more")
    codes = {name: humans.codes[name] for name in tables}
    terms = _Terms(
        tables=tables,
        codes=codes,
        floor=_floors(tables, floor),
        importance={name: (importance or {}).get(name, 1.0) for name in tables},
        impossible=impossible,
    )
    near = None if affinity is None else _semantic(affinity, (len(humans), len(people)), affinity_weight)
    choosers = Choosers(humans.ids, people.ids, seed=seed)
    chosen, casting = _choose(choosers, terms, near, method, capacity=capacity or 1, top_k=top_k, rounds=rounds)
    if not impossible:
        chosen = np.where(terms.zero(chosen), UNMATCHED, chosen)
    rows = np.flatnonzero(chosen != UNMATCHED)
    if not len(rows):
        raise EmptyError(
            f"none of {len(people)} personas can have the levels of one of {len(humans)} respondents: match on fewer "
            "traits, give the crosswalk shares, or allow it with impossible=True"
        )
    fit = terms.fit(rows, chosen[rows])
    best = terms.log_weights(fit)
    left_out = {"unmatched_respondents": float(len(humans) - len(rows))} if partial or not impossible else {}
    return Matching(
        roles=_roles(people, humans, rows, (chosen[rows], best)),
        method=method,
        traits=tuple(tables),
        collection=people.identity,
        origin=people.origin,
        humans=humans.name,
        diagnostics={**figures(best, chosen[rows], fit), **terms.counts(), **left_out, **_proof(casting)},
        codebook=people.codebook.coded(humans.levels),
    )


def unmatched(humans: Respondents, codebook: Codebook | None = None) -> Matching:
    """Return roles without personas, for the baselines that tell a model traits only, or nothing.

    Example:
        >>> from anthology_hub import Respondents
        >>> unmatched(Respondents.load("gss-2018").sample(3)).method
        'none'
    """
    if not len(humans):
        raise EmptyError("there are no respondents to stand in for")
    codebook = codebook or Codebook.load("starter")
    roles = _roles(codebook, humans, np.arange(len(humans)))
    return Matching(roles=roles, method="none", humans=humans.name, codebook=codebook.coded(humans.levels))


def as_themselves(people: People) -> Matching:
    """Cast every persona as itself, with its own traits: for comparisons with the shares of a group.

    Raises:
        EmptyError: If there is nobody.

    Example:
        >>> from anthology_hub import Anthology
        >>> cast = as_themselves(Anthology.load("starter").where(region="South"))
        >>> cast.method, cast.roles[0].respondent_id == cast.roles[0].persona.persona_id
        ('itself', True)
    """
    if not len(people):
        raise EmptyError("there is no persona to cast: loosen the conditions")
    roles = []
    for at in range(len(people)):
        persona = people[at]
        known = {trait: level for trait, level in persona.traits.items() if level is not None}
        told = {
            trait.name: trait.sentence(known[trait.name]) for trait in people.codebook.traits if trait.name in known
        }
        roles.append(Role(respondent_id=persona.persona_id, weight=1.0, traits=told, levels=known, persona=persona))
    return Matching(
        roles=tuple(roles),
        method="itself",
        collection=people.identity,
        origin=people.origin,
        codebook=people.codebook,
    )


def affinities(people: Searchable, texts: Sequence[str]) -> NDArray[np.float64]:
    """Return how near texts about respondents come to each persona's backstory, by the vectors of the collection.

    Args:
        people: A collection with embeddings.
        texts: One for each respondent; equal ones are searched once.

    Returns:
        Cosine similarity of the best passage, -1 to 1, shape (texts, personas), to give as `match(affinity=...)`.

    Raises:
        DataError: If the collection has no embeddings.
        OptionError: If a text is empty.

    Example:
        >>> from anthology_hub import Anthology
        >>> people = Anthology.load("starter").sample(6)
        >>> affinities(people, ["grew up on a farm", "plays in a band", "grew up on a farm"]).shape
        (3, 6)
    """
    place = {persona_id: at for at, persona_id in enumerate(people.ids)}
    rows = {}
    for text in dict.fromkeys(texts):
        found = people.search(text, len(place))
        rows[text] = np.empty(len(place))
        rows[text][[place[persona_id] for persona_id in found.ids]] = found.scores
    return np.array([rows[text] for text in texts])


def trait_tables(
    people: People, humans: Respondents, *, traits: Sequence[str] | None = None, crosswalk: Crosswalk | None = None
) -> dict[str, NDArray[np.float64]]:
    """Return the personas' probabilities of the respondents' levels.

    Args:
        people: The personas.
        humans: The respondents.
        traits: Which; all that codebook, crosswalk and respondents have, if not given.
        crosswalk: As in `match`.

    Returns:
        Trait -> probabilities, shape (personas, levels of the respondents); a row of NaN means no annotation.

    Raises:
        OptionError: If there is no crosswalk or no trait.
        UnknownNameError: If a trait is not on both sides.

    Example:
        >>> from anthology_hub import Anthology, Respondents
        >>> tables = trait_tables(Anthology.load("starter"), Respondents.load("gss-2018"), traits=["race"])
        >>> tables["race"].shape
        (320, 3)
    """
    walk = (crosswalk or Crosswalk.between(people.codebook, humans)).onto(humans.levels)
    ours = {trait.name for trait in people.codebook.traits}
    possible = [name for name in walk.traits if name in humans.levels and name in ours]
    wanted = possible if traits is None else list(traits)
    for name in wanted:
        if name not in possible:
            raise UnknownNameError(f"trait shared by personas and {humans.name}", name, possible)
    if not wanted:
        raise OptionError(f"no trait to match on: choose from {', '.join(possible) or 'none, the two share no trait'}")
    return {name: walk.apply(name, people.distribution(name), people.codebook) for name in wanted}


def level_probs(
    tables: Mapping[str, NDArray[np.float64]], codes: Mapping[str, NDArray[np.int16]], chosen: NDArray[np.intp]
) -> dict[str, NDArray[np.float64]]:
    """Return how probably the persona of each pair has the respondent's level.

    Args:
        tables: As from `trait_tables`.
        codes: Trait -> level of the respondent of each pair, shape (pairs,).
        chosen: Position of the persona of each pair, shape (pairs,).

    Returns:
        Trait -> probability, shape (pairs,); NaN where either side is not known.

    Example:
        >>> table = {"region": np.array([[1.0, 0.0], [0.25, 0.75]])}
        >>> level_probs(table, {"region": np.array([1, -1], dtype=np.int16)}, np.array([1, 0]))["region"].tolist()
        [0.75, nan]
    """
    return {
        name: np.where(codes[name] == MISSING, np.nan, table[chosen, codes[name]]) for name, table in tables.items()
    }


def figures(
    log_weights: NDArray[np.float64], chosen: NDArray[np.intp], fit: Mapping[str, NDArray[np.float64]]
) -> dict[str, float]:
    """Return how well pairs fit in all, and how evenly the personas are used.

    Args:
        log_weights: Of each pair, shape (pairs,).
        chosen: Position of the persona of each pair, shape (pairs,).
        fit: As from `level_probs`.

    Returns:
        mean_weight; zero_weight_share and zero_weight_pairs (pairs with an impossible trait); distinct_personas;
        maximum_reuse; effective_personas (Kish, over the uses).

    Example:
        >>> found = figures(np.log([0.5, 0.25]), np.array([7, 7]), {"age": np.array([0.5, 0.0])})
        >>> found["mean_weight"], found["zero_weight_share"], found["maximum_reuse"]
        (0.375, 0.5, 2.0)
    """
    uses = np.unique(chosen, return_counts=True)[1]
    zero = np.any([probs == 0 for probs in fit.values()], axis=0)
    return {
        "mean_weight": float(np.exp(log_weights).mean()),
        "zero_weight_share": float(zero.mean()),
        "zero_weight_pairs": float(zero.sum()),
        "distinct_personas": float(len(uses)),
        "maximum_reuse": float(uses.max()),
        "effective_personas": effective_size(uses),
    }


@dataclass(frozen=True, kw_only=True)
class _Terms:
    """What weighs how much."""

    tables: Mapping[str, NDArray[np.float64]]
    codes: Mapping[str, NDArray[np.int16]]
    floor: Mapping[str, float]
    importance: Mapping[str, float]
    impossible: bool = True

    def weights(self, *, order_only: bool = False) -> PairWeights:
        """Weights of all pairs; if only their order counts, powers that keep tiny floors from ending at 0."""
        depth = -sum(self.importance[name] * np.log(self.floor[name]) for name in self.tables)
        power = min(1.0, _DEEPEST / depth) if order_only else 1.0
        return PairWeights.of(
            self.tables,
            self.codes,
            floor=self.floor,
            importance={name: exponent * power for name, exponent in self.importance.items()},
            impossible=self.impossible,
        )

    def log_matrix(self) -> NDArray[np.float64]:
        """Log weights of all pairs, shape (respondents, personas), computed once for each profile."""
        codes = np.stack([self.codes[name] for name in self.tables], axis=1)
        profiles, of = np.unique(codes, axis=0, return_inverse=True)
        total = np.zeros((len(profiles), len(next(iter(self.tables.values())))))
        for column, (name, table) in zip(profiles.T, self.tables.items(), strict=True):
            used, at = np.unique(column, return_inverse=True)
            probs = floored(table, used, self.floor[name], impossible=self.impossible)
            with np.errstate(divide="ignore"):
                total += self.importance[name] * np.log(probs).T[at]
        return total[of.ravel()]

    def fit(self, rows: NDArray[np.intp], chosen: NDArray[np.intp]) -> dict[str, NDArray[np.float64]]:
        """As `level_probs`, of the respondents at some rows."""
        return level_probs(self.tables, {name: column[rows] for name, column in self.codes.items()}, chosen)

    def zero(self, chosen: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Whether a respondent's persona cannot have one of the levels, shape (respondents,)."""
        fit = self.fit(np.arange(len(chosen)), chosen)
        return np.asarray(np.any([probs == 0 for probs in fit.values()], axis=0))

    def log_weights(self, fit: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
        """Log weights of pairs, shape (pairs,)."""
        total = np.zeros(len(next(iter(fit.values()))))
        for name, probs in fit.items():
            uniform = 1 / self.tables[name].shape[1]
            known = np.where(np.isnan(probs), uniform, probs)
            total += self.importance[name] * np.log(np.maximum(known, self.floor[name]))
        return total

    def counts(self) -> dict[str, float]:
        """What is not known on either side."""
        return {
            "unannotated_levels": float(sum(np.isnan(table).any(axis=1).sum() for table in self.tables.values())),
            "unknown_respondent_levels": float(sum((column == MISSING).sum() for column in self.codes.values())),
        }


def _floors(tables: Iterable[str], floor: float | Mapping[str, float]) -> dict[str, float]:
    return {name: floor.get(name, FLOOR) if isinstance(floor, Mapping) else floor for name in tables}


def _choose(
    choosers: Choosers,
    terms: _Terms,
    near: NDArray[np.float64] | None,
    method: str,
    *,
    capacity: int,
    top_k: int,
    rounds: int,
) -> tuple[NDArray[np.intp], Casting | None]:
    """The persona of each respondent, or UNMATCHED, and how an assignment came about."""
    respondents, personas = len(choosers.respondents.ids), len(choosers.personas.ids)
    if method == "random":
        return choosers.drawn(), None
    if near is not None:
        return choosers.nearest(terms.log_matrix() + near, method, capacity=capacity, top_k=top_k), None
    if method == "greedy" or respondents <= capacity:
        return choosers.greedy(terms.weights(order_only=True), top_k), None
    if respondents * personas * capacity <= DENSE:
        return choosers.assigned(terms.weights(), capacity), None
    return choosers.cast(terms.weights(), capacity, rounds=rounds)


def _proof(casting: Casting | None) -> dict[str, float]:
    if casting is None:
        return {}
    if casting.gap > PROVEN:
        warnings.warn(
            f"the assignment was stopped after {casting.rounds} rounds: its total weight is {casting.total:.6g}, at "
            f"most {casting.gap:.2%} below the best; allow more rounds to come nearer",
            AnthologyWarning,
            stacklevel=3,
        )
    return {"weight_bound": casting.bound, "optimality_gap": casting.gap}


def _check_method(
    people: People, humans: Respondents, method: str, *, capacity: int | None, top_k: int, partial: bool
) -> None:
    if method not in METHODS:
        raise OptionError(f"unknown matching method {method!r}: allowed are {', '.join(METHODS)}")
    if (capacity is None) == (method == "capacity") or (capacity is not None and capacity < 1):
        raise OptionError(
            f"capacity is the most respondents of one persona, 1 or more, and goes with method 'capacity' alone: got "
            f"capacity {capacity} with method {method!r}"
        )
    if not 1 <= top_k <= len(people) or (top_k > 1 and method != "greedy"):
        raise OptionError(
            f"top_k must be 1 to {len(people)}, the number of personas, and above 1 with method 'greedy' alone: got "
            f"top_k {top_k} with method {method!r}"
        )
    if method != "greedy" and not partial and len(people) * (capacity or 1) < len(humans):
        kind = f"gives a persona {capacity} respondents at most" if capacity else "is one-to-one"
        raise OptionError(
            f"method {method!r} {kind} and needs at least as many {'seats' if capacity else 'personas'} as "
            f"respondents, but there are {len(people) * (capacity or 1)} for {len(humans)}: take fewer respondents, "
            f"more personas, partial=True to leave some out, or method 'greedy'"
        )


def _check_named(
    tables: Mapping[str, object], *, floor: float | Mapping[str, float], importance: Mapping[str, float]
) -> None:
    for what, named in (("floor", floor if isinstance(floor, Mapping) else {}), ("importance", importance)):
        for name in named:
            if name not in tables:
                raise UnknownNameError(f"trait with a given {what}", name, tables)
    _check_ranges(dict(floor) if isinstance(floor, Mapping) else {"every trait": floor}, importance)


def _check_ranges(floors: Mapping[str, float], exponents: Mapping[str, float]) -> None:
    for name, floor in floors.items():
        if not 0 < floor < 1:
            raise OptionError(f"floor must be above 0 and below 1, got {floor} for {name}")
    for name, exponent in exponents.items():
        if not 0 <= exponent < np.inf:
            raise OptionError(f"importance must be 0 or more and finite, got {exponent} for {name}")


def _semantic(affinity: ArrayLike, shape: tuple[int, ...], weight: float) -> NDArray[np.float64]:
    values = np.asarray(affinity, dtype=np.float64)
    if values.shape != shape or not np.isfinite(values).all():
        raise OptionError(
            f"affinity must be finite numbers of shape {shape}, respondents by personas, got shape {values.shape}: "
            "make it of the same personas and respondents, in their order"
        )
    if not 0 <= weight < np.inf:
        raise OptionError(f"affinity_weight must be 0 or more and finite, got {weight}")
    return weight * values


def _roles(
    people: People | Codebook,
    humans: Respondents,
    rows: NDArray[np.intp],
    pairs: tuple[NDArray[np.intp], NDArray[np.float64]] | None = None,
) -> tuple[Role, ...]:
    """Roles of the respondents at some rows; `pairs` are their personas and log weights."""
    codebook = people if isinstance(people, Codebook) else people.codebook
    cast = {} if pairs is None or isinstance(people, Codebook) else _players(people, pairs[0])
    roles = []
    for number, row in enumerate(rows.tolist()):
        known = humans.traits_of(row)
        roles.append(
            Role(
                respondent_id=humans.ids[row],
                weight=1.0 if humans.weights is None else float(humans.weights[row]),
                traits=_sentences(codebook, known),
                levels={trait.name: known[trait.name] for trait in codebook.traits if trait.name in known},
                persona=None if pairs is None else cast[int(pairs[0][number])],
                log_weight=0.0 if pairs is None else float(pairs[1][number]),
            )
        )
    return tuple(roles)


def _players(people: People, chosen: NDArray[np.intp]) -> dict[int, Persona]:
    """The personas at some positions, each fetched once, and all at once where the collection can."""
    places = np.unique(chosen).tolist()
    found = people.take(places) if isinstance(people, Taking) else (people[at] for at in places)
    return dict(zip(places, found, strict=True))


def _sentences(codebook: Codebook, known: Mapping[str, str]) -> dict[str, str]:
    return {
        trait.name: trait.sentence(level) if level in trait.levels else trait.bio.format(level)
        for trait in codebook.traits
        if (level := known.get(trait.name)) is not None
    }
