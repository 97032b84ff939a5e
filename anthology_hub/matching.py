"""Which persona stands in for which respondent. Pure: arrays in, a `Matching` out.

The weight of a pair is the product over traits of the probability that the persona has the respondent's level
(Anthology, Moon et al. 2024, section 3.3). It is computed in log space with a floor, once for each distinct profile of
respondents. A respondent's unknown level and a persona's missing annotation count as uniform, and are counted. Draws
and ties follow seed and ids alone, so that neither the order of the personas nor that of the respondents matters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from anthology_hub.crosswalks import Crosswalk
from anthology_hub.errors import EmptyError, OptionError, UnknownNameError
from anthology_hub.prompts import derive_seed
from anthology_hub.schema import MISSING, Codebook, Matching, Persona, Respondents, Role
from anthology_hub.weighting import effective_size

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

METHODS = ("greedy", "optimal", "capacity", "random")
FLOOR = 1e-4
"""Least probability of a level: keeps an impossible trait from hiding how well the others fit."""
UNMATCHED = -1


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
) -> Matching:
    """Cast personas as respondents.

    The paper's matchings (Moon et al. 2024, section 3.3) are `greedy` and `optimal` with all else as it is by default,
    up to the floor: with `floor` near 0 the objective is theirs, the sum of products of probabilities. Two things of
    their code are left out: ties that all go to the first persona, and pairs of weight 0 that are assigned at random.

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

    Raises:
        EmptyError: If there is nobody to match.
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
    tables = trait_tables(people, humans, traits=traits, crosswalk=crosswalk)
    _check_named(tables, floor=floor, importance=importance or {})
    tables = {name: table for name, table in tables.items() if (importance or {}).get(name, 1) > 0}
    if not tables:
        raise OptionError("no trait to match on: every trait has importance 0, give one of them more")
    codes = {name: humans.codes[name] for name in tables}
    log_weights, unannotated = log_weight_matrix(tables, codes, floor=floor, importance=importance)
    near = None if affinity is None else _semantic(affinity, log_weights.shape, affinity_weight)
    total = log_weights if near is None else log_weights + near
    chosen = _choose(total, (humans.ids, people.ids), method, seed=seed, capacity=capacity, top_k=top_k)
    rows = np.flatnonzero(chosen != UNMATCHED)
    best = log_weights[rows, chosen[rows]]
    missing = sum(int((column == MISSING).sum()) for column in codes.values())
    counts = {"unannotated_levels": float(unannotated), "unknown_respondent_levels": float(missing)}
    left_out = {"unmatched_respondents": float(len(humans) - len(rows))} if partial else {}
    fit = level_probs(tables, {name: column[rows] for name, column in codes.items()}, chosen[rows])
    return Matching(
        roles=_roles(people, humans, rows, (chosen[rows], best)),
        method=method,
        traits=tuple(tables),
        collection=people.identity,
        origin=people.origin,
        humans=humans.name,
        diagnostics={**figures(best, chosen[rows], fit), **counts, **left_out},
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
        mean_weight; zero_weight_share (pairs with an impossible trait); distinct_personas; maximum_reuse;
        effective_personas (Kish, over the uses).

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
        "distinct_personas": float(len(uses)),
        "maximum_reuse": float(uses.max()),
        "effective_personas": effective_size(uses),
    }


def log_weight_matrix(
    tables: Mapping[str, NDArray[np.float64]],
    codes: Mapping[str, NDArray[np.int16]],
    *,
    floor: float | Mapping[str, float] = FLOOR,
    importance: Mapping[str, float] | None = None,
) -> tuple[NDArray[np.float64], int]:
    """Compute log weights of all pairs.

    Args:
        tables: Trait -> probabilities, shape (personas, levels); a row of NaN means no annotation.
        codes: Trait -> level of each respondent, shape (respondents,); MISSING means unknown.
        floor: Least probability, above 0 and below 1; or trait -> floor, FLOOR for those not named.
        importance: Trait -> exponent, 0 or more; 1 for those not named.

    Returns:
        Log weights, shape (respondents, personas), and the number of missing annotations that were taken as uniform.

    Raises:
        OptionError: If a floor or an exponent is out of range.

    Example:
        >>> table = {"region": np.array([[1.0, 0.0], [0.25, 0.75]])}
        >>> weights, _ = log_weight_matrix(table, {"region": np.array([1, 0])}, floor=1e-4)
        >>> np.exp(weights).round(4).tolist()
        [[0.0001, 0.75], [1.0, 0.25]]
    """
    floors = dict(floor) if isinstance(floor, Mapping) else dict.fromkeys(tables, floor)
    exponents = dict(importance or {})
    _check_ranges(floors, exponents)
    profiles, inverse = np.unique(np.stack([codes[name] for name in tables], axis=1), axis=0, return_inverse=True)
    total = np.zeros((len(profiles), len(next(iter(tables.values())))))
    unannotated = 0
    for at, (name, table) in enumerate(tables.items()):
        blank = np.asarray(np.isnan(table).any(axis=1))
        unannotated += int(blank.sum())
        levels = table.shape[1]
        filled = np.where(blank[:, None], 1 / levels, table)
        # The extra last column answers code MISSING (-1): an unknown level is uniform over the levels.
        whole = np.column_stack([filled, np.full(len(filled), 1 / levels)])
        logs = np.log(np.maximum(whole, floors.get(name, FLOOR)))
        total += exponents.get(name, 1.0) * logs.T[profiles[:, at]]
    return total[inverse.ravel()], unannotated


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


def _choose(
    log_weights: NDArray[np.float64],
    ids: tuple[Sequence[str], Sequence[str]],
    method: str,
    *,
    seed: int,
    capacity: int | None,
    top_k: int,
) -> NDArray[np.intp]:
    """Return the persona of each respondent, or UNMATCHED."""
    # All is done in an order that seed and ids alone decide: ties that go by position are then random, but repeatable.
    rows, columns = (_shuffled(names, seed, side) for names, side in zip(ids, ("respondent", "persona"), strict=True))
    # Ties that are exact in the products may differ by rounding in the logs.
    weights = log_weights[np.ix_(rows, columns)].round(9)
    if method == "random":
        matched = picked = np.arange(min(weights.shape))
    elif method == "greedy" or len(rows) <= (capacity or 1):
        draws = [derive_seed(seed, ids[0][row], "greedy") for row in rows]
        matched, picked = np.arange(len(rows)), _greedy(weights, draws, top_k)
    else:
        matched, picked = _assigned(weights, capacity or 1)
    chosen = np.full(len(rows), UNMATCHED)
    chosen[rows[matched]] = columns[picked]
    return chosen


def _shuffled(names: Sequence[str], seed: int, side: str) -> NDArray[np.intp]:
    return np.argsort([derive_seed(seed, name, side) for name in names], kind="stable")


def _greedy(weights: NDArray[np.float64], draws: Sequence[int], top_k: int) -> NDArray[np.intp]:
    """Draw a rank, and then one of those who share the weight of that rank: so all ties are drawn evenly."""
    found = []
    for row, number in zip(weights, draws, strict=True):
        number, rank = divmod(number, top_k)
        tied = np.flatnonzero(row == (np.partition(row, -rank - 1)[-rank - 1] if rank else row.max()))
        found.append(tied[number % len(tied)])
    return np.array(found, dtype=np.intp)


def _assigned(weights: NDArray[np.float64], capacity: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    from scipy.optimize import linear_sum_assignment

    # The objective is the sum of weights, not of logs; the scale cancels and keeps tiny products apart from zero.
    value = np.exp(weights - weights.max(axis=None))
    rows, seats = linear_sum_assignment(np.repeat(value, capacity, axis=1) if capacity > 1 else value, maximize=True)
    return rows, seats // capacity


def _roles(
    people: People | Codebook,
    humans: Respondents,
    rows: NDArray[np.intp],
    pairs: tuple[NDArray[np.intp], NDArray[np.float64]] | None = None,
) -> tuple[Role, ...]:
    """Roles of the respondents at some rows; `pairs` are their personas and log weights."""
    codebook = people if isinstance(people, Codebook) else people.codebook
    cache: dict[int, Persona] = {}
    roles = []
    for number, row in enumerate(rows.tolist()):
        persona, known = None, humans.traits_of(row)
        if pairs is not None and not isinstance(people, Codebook):
            at = int(pairs[0][number])
            persona = cache[at] if at in cache else cache.setdefault(at, people[at])
        roles.append(
            Role(
                respondent_id=humans.ids[row],
                weight=1.0 if humans.weights is None else float(humans.weights[row]),
                traits=_sentences(codebook, known),
                levels={trait.name: known[trait.name] for trait in codebook.traits if trait.name in known},
                persona=persona,
                log_weight=0.0 if pairs is None else float(pairs[1][number]),
            )
        )
    return tuple(roles)


def _sentences(codebook: Codebook, known: Mapping[str, str]) -> dict[str, str]:
    return {
        trait.name: trait.sentence(level) if level in trait.levels else trait.bio.format(level)
        for trait in codebook.traits
        if (level := known.get(trait.name)) is not None
    }
