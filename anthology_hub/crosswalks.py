"""Crosswalks: how levels of a persona codebook become levels of a survey. Pure, but for the shipped data files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from anthology_hub.errors import DataError, EmptyError, OptionError, UnknownNameError
from anthology_hub.schema import MISSING, Codebook, Respondents, Trait, read_shipped, shipped

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SUM = 1e-9
_ROUNDS, _RARE = 200, 1e-6


@dataclass(frozen=True, kw_only=True)
class Crosswalk:
    """Levels of a persona codebook to levels of a survey: each source level goes to one target level, or is spread."""

    name: str
    traits: Mapping[str, Mapping[str, Mapping[str, float]]]
    """Trait -> source level -> target level -> share; the shares of a source level sum to 1."""
    targets: Mapping[str, tuple[str, ...]]
    """Trait -> target levels, in the survey's order."""
    unmapped: tuple[str, ...] = ()
    """Persona traits that have no counterpart, said so on purpose."""
    notes: tuple[str, ...] = ()

    @classmethod
    def load(cls, name: str, *, accept: bool = False) -> Crosswalk:
        """Load a shipped crosswalk by name, or one of the user's by path.

        A file says what it leads to with `"to"`, the name of a known source of respondents, or lists the levels itself
        under `"targets"`.

        Args:
            name: A shipped one, or a path that ends in `.json`.
            accept: Whether to take over rows that are still marked as suggested.

        Raises:
            DataError: If it cannot be read, its shares are no distributions, or suggestions in it wait for a review.
            UnknownNameError: If there is no such crosswalk or source.

        Example:
            >>> sorted(Crosswalk.load("starter--bfi").traits)
            ['age', 'education', 'gender']
        """
        value = read_shipped("crosswalks", str(name))
        return cls.from_dict(value, _targets(value, name), name=str(name), accept=accept)

    @classmethod
    def between(cls, codebook: Codebook, humans: Respondents) -> Crosswalk:
        """Load the crosswalk from a codebook to some respondents.

        A file of the user's that the respondents name counts most; then the shipped one from this codebook to their
        source, or to the source of the shipped one that they name; else the one that they name.

        Raises:
            OptionError: If there is none.

        Example:
            >>> from anthology_hub import Respondents
            >>> Crosswalk.between(Codebook.load("starter"), Respondents.load("gss-2018")).name
            'starter--gss-2018'
        """
        named, known = humans.crosswalk, shipped("crosswalks")
        direct = [f"{codebook.name}--{source}" for source in (humans.name, named.rpartition("--")[2])]
        found = named if named.endswith(".json") else next((name for name in direct if name in known), named)
        if not found:
            raise OptionError(
                f"{humans.name} has no crosswalk from persona levels to its own: give crosswalk=, or --crosswalk "
                f"(`anthology-hub humans map --suggest FILE` drafts one); shipped are {', '.join(known)}"
            )
        return cls.load(found)

    @classmethod
    def from_dict(
        cls, value: Mapping[str, Any], targets: Mapping[str, tuple[str, ...]], *, name: str, accept: bool = False
    ) -> Crosswalk:
        """Build from the JSON form.

        Args:
            value: The JSON form; a string in place of a share map means all of it.
            targets: Trait -> levels of the survey.
            name: How to call it in messages.
            accept: Whether to take over rows that are still marked as suggested.

        Raises:
            DataError: If a level is unknown to the survey, a share is negative, shares do not sum to 1, or rows are
                empty or only suggested.
        """
        rows = {(trait, level): row for trait, level, row in _source_rows(value, name)}
        _check_reviewed(rows, name, accept=accept)
        traits: dict[str, dict[str, dict[str, float]]] = {trait: {} for trait in value.get("traits", {})}
        for (trait, level), row in rows.items():
            traits[trait][level] = _shares(row, targets.get(trait, ()), f"crosswalk {name!r}, {trait} {level!r}")
        return cls(
            name=name,
            traits=traits,
            targets={trait: tuple(targets.get(trait, ())) for trait in traits},
            unmapped=_texts(value, "unmapped", name),
            notes=_texts(value, "notes", name),
        )

    def onto(self, levels: Mapping[str, tuple[str, ...]]) -> Crosswalk:
        """Return the crosswalk with its targets in the order of some respondents' levels.

        Args:
            levels: Trait -> levels; traits that only one side has are left as they are.

        Raises:
            UnknownNameError: If a share goes to a level that the respondents do not have.

        Example:
            >>> walk = Crosswalk(name="w", traits={"sex": {"Male": {"M": 1.0}}}, targets={"sex": ("M", "F")})
            >>> walk.onto({"sex": ("F", "M")}).matrix("sex", ("Male",)).tolist()
            [[0.0, 1.0]]
        """
        shared = [trait for trait in self.traits if trait in levels]
        for trait in shared:
            for to in dict.fromkeys(to for shares in self.traits[trait].values() for to in shares if shares[to]):
                if to not in levels[trait]:
                    raise UnknownNameError(f"{trait} of the respondents in crosswalk {self.name}", to, levels[trait])
        return replace(self, targets={**self.targets, **{trait: tuple(levels[trait]) for trait in shared}})

    def matrix(self, trait: str, source: tuple[str, ...]) -> NDArray[np.float64]:
        """Return the shares as a matrix, shape (source levels, target levels), rows summing to 1.

        Raises:
            DataError: If a source level has no row: nothing is dropped in silence.
        """
        rows, columns = self.traits[trait], self.targets[trait]
        if unmapped := [level for level in source if level not in rows]:
            raise DataError(f"crosswalk {self.name!r} does not map {trait} {unmapped}: add a row for each")
        return np.array([[rows[level].get(to, 0.0) for to in columns] for level in source])

    def apply(self, trait: str, probs: NDArray[np.float32], codebook: Codebook) -> NDArray[np.float64]:
        """Carry probabilities over the codebook's levels to the survey's: P'_j = sum over k of P_k share(k, j)."""
        return probs.astype(np.float64) @ self.matrix(trait, codebook.trait(trait).levels)

    def back(self, trait: str, shares: NDArray[np.float64], source: Trait) -> NDArray[np.float64]:
        """Return the shares of persona levels that lead to given shares of the survey's levels.

        Where several answers are possible, the one that expectation maximisation finds from the population shares of
        the codebook, or from equal ones: within each level of the survey the population's proportions are kept.

        Args:
            trait: Name of the trait.
            shares: Of the survey's levels, shape (target levels,), sum 1; on levels that no persona level reaches they
                are left out.
            source: The persona trait.

        Returns:
            Shape (source levels,), sum 1.
        """
        matrix = self.matrix(trait, source.levels)
        wanted = np.where(matrix.any(axis=0), shares, 0.0)
        # A level that the population seems to lack may still be had.
        found = np.maximum(source.population or [1 / len(source.levels)] * len(source.levels), _RARE)
        for _ in range(_ROUNDS):
            flow = found[:, None] * matrix
            found = flow @ (wanted / np.maximum(flow.sum(axis=0), np.finfo(float).tiny))
            found /= found.sum()
        return found

    def coverage(self, codebook: Codebook, humans: Respondents | None = None) -> Coverage:
        """Return what goes where, and what on either side goes nowhere.

        Args:
            codebook: Of the personas.
            humans: Respondents, to count the people in levels that no persona level reaches.

        Example:
            >>> covered = Crosswalk.load("starter--bfi").coverage(Codebook.load("starter"))
            >>> [gap.level for gap in covered.gaps if gap.side == "respondents"]
            ['Under 18']
        """
        listed = {
            (trait, level, to): share
            for trait, rows in self.traits.items()
            for level, shares in rows.items()
            for to, share in shares.items()
            if share
        }
        rows = tuple(Mapped(trait=t, level=level, to=to, share=share) for (t, level, to), share in listed.items())
        gaps = (*_persona_gaps(self, codebook), *_respondent_gaps(self, rows, humans))
        return Coverage(crosswalk=self.name, rows=rows, gaps=gaps)


@dataclass(frozen=True, kw_only=True)
class Mapped:
    """One row of a crosswalk: this share of a persona level goes to a level of the survey."""

    trait: str
    level: str
    to: str
    share: float


@dataclass(frozen=True, kw_only=True)
class Gap:
    """A level, or a whole trait, that a crosswalk leaves out."""

    side: str
    """personas: has no row; respondents: nothing leads there; crosswalk: a row for what the codebook does not have."""
    trait: str
    level: str = ""
    """Empty: the whole trait."""
    people: int | None = None
    """Respondents who are in it, where they were given."""
    share: float | None = None
    """Their weighted share of all whose level is known."""
    meant: bool = False
    """Whether the crosswalk itself says that the trait is not mapped."""

    def __str__(self) -> str:
        what = {
            "personas": "has no row",
            "respondents": "is reached by no persona level",
            "crosswalk": "has a row, but is not in the codebook",
        }[self.side]
        name = f"{self.trait} {self.level!r}" if self.level else self.trait
        who = "" if self.people is None else f" ({self.people} people, {self.share:.1%})"
        return f"{name} {what}{' (so the crosswalk says)' if self.meant else ''}{who}"


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """What a crosswalk maps and what it leaves out; printed, it is a table."""

    crosswalk: str
    rows: tuple[Mapped, ...]
    gaps: tuple[Gap, ...]

    @property
    def complete(self) -> bool:
        """Whether every persona trait is mapped with all its levels or left out on purpose, and no row is astray."""
        return not any(gap.side != "respondents" and not gap.meant for gap in self.gaps)

    def __str__(self) -> str:
        cells = [(row.trait, row.level, row.to, f"{row.share:.1%}") for row in self.rows]
        table = [("trait", "persona level", "respondent level", "share"), *cells]
        widths = [max(len(line[at]) for line in table) for at in range(4)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in table]
        return "\n".join([self.crosswalk, *(line.rstrip() for line in lines), *map(str, self.gaps)])


def target_of(
    humans: Respondents, codebook: Codebook, *, traits: Sequence[str] | None = None, crosswalk: Crosswalk | None = None
) -> dict[str, dict[str, float]]:
    """Return the weighted margins of some respondents in the levels of a codebook, to sample personas for.

    Where the survey's levels are coarser than the codebook's, the codebook's population shares say how they divide.

    Args:
        humans: The respondents; those whose level is not known are left out of its margin.
        codebook: Of the personas.
        traits: Which; all that the crosswalk has, if not given.
        crosswalk: From the codebook to the respondents' levels; found by `Crosswalk.between`, if not given.

    Returns:
        Trait -> level -> share, as `Anthology.sample(target=...)` takes it.

    Raises:
        EmptyError: If no respondent has a known level of a trait that some persona level leads to.
        UnknownNameError: If a trait is not in the crosswalk.

    Example:
        >>> from anthology_hub import Anthology, Respondents
        >>> people = Anthology.load("starter")
        >>> target = target_of(Respondents.load("gss-2018"), people.codebook, traits=["education"])
        >>> {level: round(share, 3) for level, share in target["education"].items()}["Bachelor's"]
        0.198
        >>> len(people.sample(30, target=target))
        30
    """
    walk = (crosswalk or Crosswalk.between(codebook, humans)).onto(humans.levels)
    possible = [trait.name for trait in codebook.traits if trait.name in walk.traits and trait.name in humans.levels]
    found = {}
    for name in possible if traits is None else traits:
        if name not in possible:
            raise UnknownNameError(f"trait shared by personas and {humans.name}", name, possible)
        trait, shares = codebook.trait(name), weighted_shares(humans, name)
        reached = walk.matrix(name, trait.levels).any(axis=0)
        if not shares[reached].sum() > 0:
            raise EmptyError(f"no respondent of {humans.name} has a {name} that a persona can have: leave {name} out")
        found[name] = dict(zip(trait.levels, walk.back(name, shares, trait).tolist(), strict=True))
    return found


def weighted_shares(humans: Respondents, trait: str) -> NDArray[np.float64]:
    """Return the weighted share of each level among the respondents whose level is known; NaN if nobody's is.

    Returns:
        Shape (levels,), in the order of `humans.levels[trait]`.

    Example:
        >>> from anthology_hub import Respondents
        >>> weighted_shares(Respondents.load("gss-2018"), "gender").round(3).tolist()
        [0.448, 0.552]
    """
    codes = humans.codes[trait]
    weights = np.ones(len(codes)) if humans.weights is None else humans.weights
    sums = np.bincount(codes[codes != MISSING], weights[codes != MISSING], minlength=len(humans.levels[trait]))
    return np.asarray(sums / sums.sum()) if sums.sum() else np.full(len(sums), np.nan)


def trait_levels(source: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Return the levels of each trait of a respondent source, in the order of its file.

    Traits whose levels are only in the labels of the data file are left out: nothing is known before it is read.

    Example:
        >>> trait_levels({"traits": {"sex": {"column": "sex", "codes": {"1": "Male", "2": "Female"}}}})
        {'sex': ('Male', 'Female')}
    """
    found = {}
    for name, trait in source.get("traits", {}).items():
        named = (*trait.get("codes", {}).values(), *trait.get("labels", {}).values())
        listed = trait.get("levels") or [*named, *(b["level"] for b in trait.get("bins", ()))]
        found[name] = tuple(dict.fromkeys(listed))
    return {name: levels for name, levels in found.items() if levels}


def _targets(value: Mapping[str, Any], name: str) -> dict[str, tuple[str, ...]]:
    own = value.get("targets")
    if own is None and value.get("to"):
        return trait_levels(read_shipped("humans", str(value["to"])))
    if not isinstance(own, Mapping) or not all(isinstance(levels, list) and levels for levels in own.values()):
        raise DataError(
            f"crosswalk {name!r} does not say which levels it leads to: name a source of respondents under 'to', or "
            'list the levels, as "targets": {"gender": ["Man", "Woman"]}'
        )
    return {trait: tuple(map(str, levels)) for trait, levels in own.items()}


def _source_rows(value: Mapping[str, Any], name: str) -> Iterator[tuple[str, str, object]]:
    traits = value.get("traits", {})
    if not isinstance(traits, Mapping) or not all(isinstance(rows, Mapping) for rows in traits.values()):
        raise DataError(
            f'crosswalk {name!r}: traits must be an object such as {{"gender": {{"Male": "Man"}}}}, got {traits!r:.80}'
        )
    for trait, rows in traits.items():
        for level, row in rows.items():
            yield trait, level, row


def _texts(value: Mapping[str, Any], field: str, name: str) -> tuple[str, ...]:
    found = value.get(field, ())
    if not isinstance(found, list | tuple) or not all(isinstance(text, str) for text in found):
        raise DataError(f'crosswalk {name!r}: {field} must be a list of texts, as ["race"], got {found!r:.80}')
    return tuple(found)


def _is_draft(row: object) -> bool:
    """Whether a row is one of a draft: `{"to": LEVEL or SHARES, "suggested": SCORE}`, the mark deleted or not."""
    return isinstance(row, Mapping) and isinstance(row.get("to"), str | Mapping)


def _check_reviewed(rows: Mapping[tuple[str, str], Any], name: str, *, accept: bool) -> None:
    empty = [f"{trait} {level!r}" for (trait, level), row in rows.items() if row is None]
    marked = [f"{trait} {level!r}" for (trait, level), row in rows.items() if _is_draft(row) and "suggested" in row]
    if empty:
        raise DataError(
            f"crosswalk {name!r} has no row yet for {', '.join(empty[:5])}{_more(empty)}: write where each goes, or "
            "remove the trait and name it under 'unmapped'"
        )
    if marked and not accept:
        raise DataError(
            f"crosswalk {name!r} holds {len(marked)} rows that are only suggested, such as {', '.join(marked[:3])}: "
            "look at each, put right what is wrong and delete its 'suggested'; or take all as they are with accept"
        )


def _more(names: Sequence[str]) -> str:
    return f" and {len(names) - 5} more" if len(names) > 5 else ""


def _shares(row: Any, levels: Sequence[str], where: str) -> dict[str, float]:  # noqa: ANN401 - from JSON
    to = row["to"] if _is_draft(row) else row
    shares = {to: 1.0} if isinstance(to, str) else to
    numbers = isinstance(shares, Mapping) and all(type(share) in (int, float) for share in shares.values())
    # Written so that NaN fails, too.
    if not numbers or set(shares) - set(levels) or not _is_distribution(shares.values()):
        allowed = ", ".join(levels) or "none"
        raise DataError(f"{where}: shares {shares!r:.200} must be >= 0 and sum to 1 over the levels {allowed}")
    return {level: float(share) for level, share in shares.items()}


def _is_distribution(shares: Iterable[float]) -> bool:
    listed = list(shares)
    return all(share >= 0 for share in listed) and abs(sum(listed) - 1) <= _SUM


def _persona_gaps(crosswalk: Crosswalk, codebook: Codebook) -> Iterator[Gap]:
    known = {trait.name: trait.levels for trait in codebook.traits}
    for trait, levels in known.items():
        if trait not in crosswalk.traits:
            yield Gap(side="personas", trait=trait, meant=trait in crosswalk.unmapped)
        mapped = crosswalk.traits.get(trait, levels)
        yield from (Gap(side="personas", trait=trait, level=level) for level in levels if level not in mapped)
    for trait, mapped in crosswalk.traits.items():
        astray = [level for level in mapped if level not in known.get(trait, ())]
        yield from (Gap(side="crosswalk", trait=trait, level=level) for level in astray)


def _respondent_gaps(crosswalk: Crosswalk, rows: Sequence[Mapped], humans: Respondents | None) -> Iterator[Gap]:
    reached = {(row.trait, row.to) for row in rows}
    for trait, levels in {**crosswalk.targets, **({} if humans is None else humans.levels)}.items():
        if trait not in crosswalk.traits:
            yield Gap(side="respondents", trait=trait)
            continue
        for level in levels:
            if (trait, level) not in reached:
                people, share = _in_level(humans, trait, level)
                yield Gap(side="respondents", trait=trait, level=level, people=people, share=share)


def _in_level(humans: Respondents | None, trait: str, level: str) -> tuple[int | None, float | None]:
    if humans is None or level not in humans.levels.get(trait, ()):
        return None, None
    codes = humans.codes[trait]
    weights = np.ones(len(codes)) if humans.weights is None else humans.weights
    inside = codes == humans.levels[trait].index(level)
    known = float(weights[codes != MISSING].sum())
    return int(inside.sum()), float(weights[inside].sum()) / known if known else 0.0
