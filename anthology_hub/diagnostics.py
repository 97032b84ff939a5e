"""How well a cast fits the people it stands for: who plays whom, trait by trait, and whose margins it has. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from anthology_hub.crosswalks import Crosswalk, weighted_shares
from anthology_hub.errors import EmptyError, OptionError, UnknownNameError
from anthology_hub.matching import PROVEN, People, figures, level_probs, trait_tables
from anthology_hub.schema import MISSING, SCHEMA_VERSION, Matching, Respondents
from anthology_hub.weighting import kl_divergence

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How personas and respondents agree in one trait, over the pairs in which both are known."""

    trait: str
    mean_probability: float | None
    """Weighted mean probability that the persona has the respondent's level, 0 to 1; None if no pair is known."""
    top_share: float | None
    """Weighted share of pairs in which it is the persona's likeliest level; where m levels tie it counts as 1 / m."""
    pairs: int
    """Pairs in which both are known."""
    zero: int
    """Pairs in which the persona cannot have the respondent's level."""
    unknown_respondents: int
    """Pairs in which the respondent's level is not known."""
    unannotated_personas: int
    """Pairs in which the persona is not annotated."""


@dataclass(frozen=True, kw_only=True)
class TraitMargin:
    """Shares of one trait's levels among the humans and in the cast, both by the respondents' weights."""

    trait: str
    levels: tuple[str, ...]
    """As the respondents have them."""
    humans: tuple[float, ...]
    """Among all respondents whose level is known, matched or not."""
    cast: tuple[float, ...]
    """Mean probability among the personas of the roles."""
    kl: float | None
    """Divergence of the cast from the humans in nats, 0 is best; infinite where no human has a level of the cast."""


@dataclass(frozen=True, kw_only=True)
class Panels:
    """Arrays to draw."""

    log_weights: NDArray[np.float64]
    """Of every pair, ascending, shape (pairs,)."""
    traits: tuple[str, ...]
    mean_probability: NDArray[np.float64]
    """Shape (traits,); NaN where no pair is known, as below."""
    top_share: NDArray[np.float64]
    zero: NDArray[np.int64]
    uses: NDArray[np.int64]
    """Times that a persona is used, ascending, shape (distinct counts,)."""
    personas: NDArray[np.int64]
    """Personas that are used so often, shape (distinct counts,)."""
    margins: tuple[TraitMargin, ...]


@dataclass(frozen=True, kw_only=True, repr=False)
class Diagnosis:
    """How well a cast fits; printed, a table. The pairs are of persons: only `to_frame` gives them, `to_dict` does not.

    Margins of few respondents tell about persons, too: think before you pass them on.
    """

    cast: str
    """Digest of the cast."""
    method: str
    collection: str
    humans: str
    respondent_ids: tuple[str, ...]
    """Of each pair."""
    persona_ids: tuple[str, ...]
    """Of each pair."""
    weights: NDArray[np.float64]
    """The respondents' weights, shape (pairs,)."""
    log_weights: NDArray[np.float64]
    """Of the matching, shape (pairs,)."""
    fit: Mapping[str, NDArray[np.float64]]
    """Trait -> probability that the persona has the respondent's level, shape (pairs,); NaN if either is not known."""
    figures: Mapping[str, float]
    """As `Matching.diagnostics`."""
    agreement: tuple[Agreement, ...]
    margins: tuple[TraitMargin, ...]
    reuse: Mapping[int, int]
    """Times used -> personas used so often."""
    unmatched: tuple[str, ...]
    """Respondents without a role."""

    def __len__(self) -> int:
        return len(self.respondent_ids)

    def to_dict(self) -> dict[str, Any]:
        """Return what can be said without a row of a person, in JSON form; what is infinite or undefined is None."""
        margins = [{name: _plain(value) for name, value in asdict(margin).items()} for margin in self.margins]
        return {
            "schema_version": SCHEMA_VERSION,
            "method": self.method,
            "collection": self.collection,
            "humans": self.humans,
            "pairs": len(self),
            "unmatched": len(self.unmatched),
            "figures": dict(self.figures),
            "agreement": [asdict(agreement) for agreement in self.agreement],
            "margins": margins,
            "reuse": {str(uses): personas for uses, personas in self.reuse.items()},
        }

    def to_frame(self) -> pd.DataFrame:
        """Return one row for each pair: ids, weight, log weight, and `p_TRAIT` for each trait. Keep it to yourself."""
        import pandas as pd

        ids = {"respondent_id": self.respondent_ids, "persona_id": self.persona_ids}
        numbers = {"weight": self.weights, "log_weight": self.log_weights}
        return pd.DataFrame({**ids, **numbers, **{f"p_{trait}": probs for trait, probs in self.fit.items()}})

    def panels(self) -> Panels:
        """Return what a figure of the diagnosis shows, as arrays."""
        return Panels(
            log_weights=np.sort(self.log_weights),
            traits=tuple(found.trait for found in self.agreement),
            mean_probability=np.array([found.mean_probability for found in self.agreement], dtype=np.float64),
            top_share=np.array([found.top_share for found in self.agreement], dtype=np.float64),
            zero=np.array([found.zero for found in self.agreement], dtype=np.int64),
            uses=np.array(list(self.reuse), dtype=np.int64),
            personas=np.array(list(self.reuse.values()), dtype=np.int64),
            margins=self.margins,
        )

    def __repr__(self) -> str:
        return f"<Diagnosis {self.method}: {len(self)} pairs, {len(self.unmatched)} unmatched>"

    def __str__(self) -> str:
        table = [_HEAD, *self._rows()]
        widths = [max(len(line[at]) for line in table) for at in range(len(_HEAD))]
        lines = [
            "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))])
            for line in table
        ]
        return "\n".join([*self._told(), *lines])

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{escape(cell)}</th>" for cell in _HEAD)
        body = "".join(
            f"<tr><th>{escape(line[0])}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in line[1:])}</tr>"
            for line in self._rows()
        )
        told = "<br>".join(escape(line) for line in self._told())
        return f"<p>{told}</p><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    def _told(self) -> list[str]:
        found = self.figures
        uses = ", ".join(f"{personas} used {uses} times" for uses, personas in self.reuse.items())
        return [
            f"{self.humans} played by {self.collection}, {self.method}: {len(self)} pairs, "
            f"{len(self.unmatched)} respondents unmatched",
            f"mean weight {found['mean_weight']:.4g}, {found['zero_weight_share']:.1%} of the pairs with an impossible "
            f"trait",
            f"{found['distinct_personas']:.0f} personas, {found['effective_personas']:.1f} effective: {uses}",
            *_proof(found),
        ]

    def _rows(self) -> list[tuple[str, ...]]:
        return [
            (a.trait, _shown(a.mean_probability), _shown(a.top_share), *map(str, (a.pairs, a.zero)), _shown(m.kl, 4))
            for a, m in zip(self.agreement, self.margins, strict=True)
        ]


_HEAD = ("trait", "mean probability", "likeliest level", "known pairs", "impossible", "KL of margins")


def diagnose(people: People, humans: Respondents, cast: Matching, *, crosswalk: Crosswalk | None = None) -> Diagnosis:
    """Look into a cast: who plays whom, and how well.

    Args:
        people: The personas that were matched, or more of the same collection.
        humans: The respondents that were matched; those who got no role are listed as unmatched.
        cast: What `match` returned.
        crosswalk: The one that was given to `match`, if one was.

    Raises:
        EmptyError: If the cast has no roles.
        OptionError: If its roles have no personas.
        UnknownNameError: If a persona or respondent of the cast is not among those given.

    Example:
        >>> from anthology_hub import Anthology, Respondents, match
        >>> people, humans = Anthology.load("starter"), Respondents.load("gss-2018").sample(30, seed=1)
        >>> found = diagnose(people, humans, match(people, humans, method="capacity", capacity=2))
        >>> found, found.unmatched, sum(uses * personas for uses, personas in found.reuse.items())
        (<Diagnosis capacity: 30 pairs, 0 unmatched>, (), 30)
    """
    players = [role.persona.persona_id for role in cast.roles if role.persona]
    if not cast.roles:
        raise EmptyError("the cast has no roles: match somebody first")
    if len(players) < len(cast) or not cast.traits:
        raise OptionError(f"a cast by method {cast.method!r} matches nobody by traits: give one from match()")
    chosen = _places(players, people.ids, f"persona of the cast in {people.identity}")
    rows = _places([role.respondent_id for role in cast.roles], humans.ids, f"respondent of the cast in {humans.name}")
    tables = trait_tables(people, humans, traits=cast.traits, crosswalk=crosswalk)
    weights = np.array([role.weight for role in cast.roles])
    log_weights = np.array([role.log_weight for role in cast.roles])
    codes = {name: humans.codes[name][rows] for name in tables}
    fit = level_probs(tables, codes, chosen)
    uses = Counter(Counter(chosen.tolist()).values())
    played = set(rows.tolist())
    return Diagnosis(
        cast=cast.digest,
        method=cast.method,
        collection=cast.collection,
        humans=cast.humans,
        respondent_ids=tuple(role.respondent_id for role in cast.roles),
        persona_ids=tuple(players),
        weights=weights,
        log_weights=log_weights,
        fit=fit,
        figures={**cast.diagnostics, **figures(log_weights, chosen, fit)},
        agreement=tuple(_agreement(name, table[chosen], codes[name], weights) for name, table in tables.items()),
        margins=tuple(_margin(name, table[chosen], humans, weights) for name, table in tables.items()),
        reuse=dict(sorted(uses.items())),
        unmatched=tuple(name for at, name in enumerate(humans.ids) if at not in played),
    )


def in_words(found: Mapping[str, float]) -> list[str]:
    """Say what the figures of a matching tell of itself: pairs that cannot be, people left out, how near the best.

    Args:
        found: As `Matching.diagnostics`; what is not in it is not told.

    Example:
        >>> in_words({"zero_weight_pairs": 0.0, "weight_bound": 9.5, "optimality_gap": 0.0})
        ['The assignment is proven best: no other weighs more in total.']
        >>> in_words({"unmatched_respondents": 3.0})
        ['3 respondents have no role: no persona was left that could stand in for them.']
    """
    return [*_impossible(found), *_without_role(found), *_proof(found)]


def _impossible(found: Mapping[str, float]) -> Iterator[str]:
    if pairs := round(found.get("zero_weight_pairs", 0)):
        share = f"{found['zero_weight_share']:.1%}"
        yield (
            f"{pairs} of the pairs ({share}) have weight zero: the persona cannot have some level of its respondent. "
            "--possible-only (impossible=False) leaves such pairs out."
        )


def _without_role(found: Mapping[str, float]) -> Iterator[str]:
    if people := round(found.get("unmatched_respondents", 0)):
        whom, them = ("respondent has", "that person") if people == 1 else ("respondents have", "them")
        yield f"{people} {whom} no role: no persona was left that could stand in for {them}."


def _proof(found: Mapping[str, float]) -> Iterator[str]:
    if (gap := found.get("optimality_gap")) is None:
        return
    yield (
        "The assignment is proven best: no other weighs more in total."
        if gap <= PROVEN
        else f"The assignment is not proven best: at most {found['weight_bound']:.6g} in total weight can be had, and "
        f"it falls short of that by {100 * gap:.3g}%."
    )


def _places(wanted: Sequence[str], known: Sequence[str], what: str) -> NDArray[np.intp]:
    place = {name: at for at, name in enumerate(known)}
    for name in wanted:
        if name not in place:
            # The ids of a whole survey would not help; those that begin alike may.
            raise UnknownNameError(what, name, [near for near in known if near[:4] == name[:4]][:5])
    return np.array([place[name] for name in wanted], dtype=np.intp)


def _agreement(
    name: str, table: NDArray[np.float64], codes: NDArray[np.int16], weights: NDArray[np.float64]
) -> Agreement:
    """`table` holds the probabilities of the persona of each pair."""
    unknown, blank = codes == MISSING, np.isnan(table).any(axis=1)
    known = ~unknown & ~blank
    rows, codes, weights = table[known].round(9), codes[known], weights[known]
    own = rows[np.arange(len(rows)), codes]
    best = rows == rows.max(axis=1, keepdims=True)
    top = (own == rows.max(axis=1)) / best.sum(axis=1)
    return Agreement(
        trait=name,
        mean_probability=float(np.average(own, weights=weights)) if len(rows) else None,
        top_share=float(np.average(top, weights=weights)) if len(rows) else None,
        pairs=len(rows),
        zero=int((own == 0).sum()),
        unknown_respondents=int(unknown.sum()),
        unannotated_personas=int(blank.sum()),
    )


def _margin(name: str, table: NDArray[np.float64], humans: Respondents, weights: NDArray[np.float64]) -> TraitMargin:
    annotated = ~np.isnan(table).any(axis=1)
    people = weighted_shares(humans, name)
    cast = (
        np.average(table[annotated], axis=0, weights=weights[annotated])
        if annotated.any()
        else np.full(len(people), np.nan)
    )
    return TraitMargin(
        trait=name,
        levels=humans.levels[name],
        humans=tuple(people.tolist()),
        cast=tuple(cast.tolist()),
        kl=None if np.isnan([*people, *cast]).any() else kl_divergence(cast, people),
    )


def _plain(value: Any) -> Any:  # noqa: ANN401 - a field of a margin
    """In JSON, which knows neither infinite nor undefined numbers."""
    if isinstance(value, tuple):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _shown(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
