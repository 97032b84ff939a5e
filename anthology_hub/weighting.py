"""Weights and crosswalks: how much each person counts, and how levels of one coding become levels of another. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from anthology_hub.errors import DataError, EmptyError
from anthology_hub.schema import Codebook, read_shipped

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def effective_size(weights: ArrayLike) -> float:
    """Return Kish's effective sample size, (sum w)^2 / sum w^2; between 1 and the number of weights.

    Example:
        >>> effective_size([1, 1, 1, 1]), round(effective_size([3, 1]), 2)
        (4.0, 1.6)
    """
    w = np.asarray(weights, dtype=np.float64)
    if not w.size or not (w > 0).any():
        raise EmptyError("effective size needs at least one positive weight")
    return float(w.sum() ** 2 / (w**2).sum())


def kl_divergence(share: ArrayLike, target: ArrayLike) -> float:
    """Return the Kullback-Leibler divergence of `share` from `target` in nats: sum share * ln(share / target).

    0 is best; infinite where `share` has a level that `target` says does not exist.

    Example:
        >>> kl_divergence([0.5, 0.5], [0.5, 0.5])
        0.0
        >>> round(kl_divergence([1.0, 0.0], [0.5, 0.5]), 4)
        0.6931
    """
    p, q = np.asarray(share, dtype=np.float64), np.asarray(target, dtype=np.float64)
    with np.errstate(divide="ignore"):
        logs = np.log(p[p > 0] / q[p > 0])
    return float((p[p > 0] * logs).sum())


@dataclass(frozen=True, kw_only=True)
class Crosswalk:
    """Levels of a persona codebook to levels of a survey: each source level goes to one target level, or is spread."""

    name: str
    traits: Mapping[str, Mapping[str, Mapping[str, float]]]
    """Trait -> source level -> target level -> share; the shares of a source level sum to 1."""
    targets: Mapping[str, tuple[str, ...]]
    """Trait -> target levels, in the survey's order."""
    notes: tuple[str, ...] = ()

    @classmethod
    def load(cls, name: str) -> Crosswalk:
        """Load a shipped crosswalk by name, or one of the user's by path.

        Example:
            >>> sorted(Crosswalk.load("starter--bfi").traits)
            ['age', 'education', 'gender']
        """
        value = read_shipped("crosswalks", name)
        levels = trait_levels(read_shipped("humans", str(value.get("to"))))
        return cls.from_dict(value, levels, name=name)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any], targets: Mapping[str, tuple[str, ...]], *, name: str) -> Crosswalk:
        """Build from the JSON form.

        Args:
            value: The JSON form; a string in place of a share map means all of it.
            targets: Trait -> levels of the survey.
            name: How to call it in messages.

        Raises:
            DataError: If a level is unknown to the survey, a share is negative or shares do not sum to 1.
        """
        traits: dict[str, dict[str, dict[str, float]]] = {}
        for trait, rows in value.get("traits", {}).items():
            traits[trait] = {level: {to: 1.0} if isinstance(to, str) else dict(to) for level, to in rows.items()}
            for level, shares in traits[trait].items():
                unknown = set(shares) - set(targets.get(trait, ()))
                if unknown or min(shares.values(), default=0) < 0 or abs(sum(shares.values()) - 1) > 1e-9:
                    raise DataError(
                        f"crosswalk {name!r}, {trait} {level!r}: shares {shares} must be >= 0 and sum to 1 over the "
                        f"levels {', '.join(targets.get(trait, ())) or 'none'}"
                    )
        return cls(
            name=name,
            traits=traits,
            targets={trait: targets[trait] for trait in traits},
            notes=tuple(value.get("notes", ())),
        )

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


def trait_levels(source: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Return the levels of each trait of a respondent source, in the order of its file.

    Example:
        >>> trait_levels({"traits": {"sex": {"column": "sex", "codes": {"1": "Male", "2": "Female"}}}})
        {'sex': ('Male', 'Female')}
    """
    found = {}
    for name, trait in source.get("traits", {}).items():
        listed = trait.get("levels") or [*trait.get("codes", {}).values(), *(b["level"] for b in trait.get("bins", ()))]
        found[name] = tuple(dict.fromkeys(listed))
    return found
