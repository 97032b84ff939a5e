"""Weights: how much each person counts; raking to known margins, and samples drawn by such weights. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from anthology_hub.errors import EmptyError, OptionError, UnknownNameError
from anthology_hub.schema import Codebook

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

Traits = str | tuple[str, str]
"""What a margin is of: one trait, or two of them jointly."""
Cell = int | tuple[int, int]
"""Place in a margin: position of the level, or of both levels."""
Target = Mapping[Traits, Mapping[str, float] | Mapping[tuple[str, str], float]]
"""Trait -> level -> share, or (trait, trait) -> (level, level) -> share."""
ROUNDING = 0.01
"""How far published shares may be from a sum of 1: they are rounded. What is nearer is scaled to 1."""
_EXACT, _SOFT = 1e-12, 1e-5
"""Price of a margin that is off, as the share that it may be off for each unit of tilt: none, or a little."""
_HALVINGS = 60


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


# -- raking -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Raking:
    """Weights that bring the margins of some people to a target, and how near they come."""

    weights: NDArray[np.float64]
    """Shape (n,), mean 1."""
    n_effective: float
    """Kish's effective size of the weights, 1 to n."""
    margins: Mapping[Traits, NDArray[np.float64]]
    """Weighted share of each cell, shaped as its target."""
    unmet: Mapping[tuple[Traits, Cell], float]
    """Cells that are off by more than the tolerance, furthest first: (trait, level) -> target less share reached."""
    empty: tuple[tuple[Traits, Cell], ...]
    """Cells of the target that nobody can be in. The other cells of the margin are scaled to sum to 1 without them."""
    unannotated: Mapping[str, int]
    """Trait -> people whose trait is not known, which counts as uniform."""
    iterations: int


def rake(
    probs: Mapping[str, NDArray[np.float64]] | Mapping[str, NDArray[np.float32]],
    targets: Mapping[Traits, ArrayLike],
    *,
    base: ArrayLike | None = None,
    bounds: tuple[float, float] = (0.0, np.inf),
    tolerance: float = 1e-7,
    max_iterations: int = 100,
) -> Raking:
    """Weigh people whose traits are known by probability so that their expected margins are the wanted ones.

    Of all weights that have the margins these are the nearest to `base` in relative entropy. With traits that are
    certain that is what iterative proportional fitting finds (Deming and Stephan 1940; Ireland and Kullback 1968). With
    bounds, weights that would be past one stand at it, as in the truncated methods of Deville and Sarndal (1992). It is
    computed by Newton's method on the dual, because proportional fitting becomes slow where traits are uncertain.

    Args:
        probs: Trait -> probability of each level, shape (n, levels); a row of NaN is not known and counts as uniform.
        targets: Trait -> wanted shares, shape (levels,); (trait, trait) -> wanted joint shares, shape (levels of the
            first, levels of the second), for which a person's two traits count as independent.
        base: Weights to stay near, shape (n,), positive; equal ones, if not given.
        bounds: Least and largest weight, of which 1 is the mean; they hold whether or not the targets can be met.
        tolerance: How far a share may be from its target, above 0.
        max_iterations: Newton steps, at least 1.

    Returns:
        The weights. Targets that cannot all be met are met as nearly as can be in least squares, `unmet` says by how
        much, and a few people may then take nearly all the weight, as `n_effective` tells: give bounds against that.

    Raises:
        EmptyError: If there are no people or no targets.
        OptionError: If shares do not fit the levels or do not sum to 1, or bounds, base or tolerance are out of range.
        UnknownNameError: If a trait of the targets is not among the probabilities.

    Example:
        >>> found = rake({"region": np.array([[1.0, 0.0], [1.0, 0.0], [0.5, 0.5]])}, {"region": [0.5, 0.5]})
        >>> found.weights.round(4).tolist(), found.unmet == {}
        ([0.0, 0.0, 3.0], True)
        >>> rake({"region": np.array([[1.0, 0.0], [0.0, 1.0]])}, {"region": [0.8, 0.2]}).weights.round(4).tolist()
        [1.6, 0.4]
    """
    n, start = _people(probs, targets), None if base is None else np.asarray(base, dtype=np.float64)
    _check_raking(start, n, bounds, tolerance=tolerance, max_iterations=max_iterations)
    margins = [_Margin.of(probs, key, shares) for key, shares in targets.items()]
    dual = _Dual(
        features=np.hstack([*(margin.features for margin in margins), np.ones((n, 1))]),
        shares=np.concatenate([*(margin.attainable for margin in margins), [1.0]]),
        base=np.ones(n) if start is None else start / start.mean(),
        bounds=bounds,
    )
    weights, iterations = dual.solve(tolerance=tolerance / 10, max_iterations=max_iterations)
    weights *= n / weights.sum()
    reached = {margin.key: margin.share(weights) for margin in margins}
    gaps = {(m.key, cell): gap for m in margins for cell, gap in m.gaps(reached[m.key]) if abs(gap) > tolerance}
    return Raking(
        weights=weights,
        n_effective=effective_size(weights),
        margins=reached,
        unmet=dict(sorted(gaps.items(), key=lambda item: -abs(item[1]))),
        empty=tuple((margin.key, cell) for margin in margins for cell in margin.empty),
        unannotated={trait: int(np.isnan(table).any(axis=1).sum()) for trait, table in probs.items()},
        iterations=iterations,
    )


def target_shares(target: Target, codebook: Codebook) -> dict[Traits, NDArray[np.float64]]:
    """Return the shares of a target in the order of the codebook's levels; a level that is not named has none.

    Raises:
        OptionError: If there is no trait in it, a share is negative, or the shares of a margin do not sum to 1.
        UnknownNameError: If the codebook lacks a trait or level.

    Example:
        >>> target_shares({"region": {"South": 0.75, "West": 0.25}}, Codebook.load("starter"))["region"].tolist()
        [0.0, 0.0, 0.75, 0.25]
    """
    if not target:
        raise OptionError('the target names no trait: give shares such as {"region": {"South": 0.4, "West": 0.6}}')
    found = {}
    for key, shares in target.items():
        traits = [codebook.trait(name) for name in _names(key)]
        table = np.zeros([len(trait.levels) for trait in traits])
        for levels, share in shares.items():
            if len(_names(levels)) != len(traits):
                raise OptionError(
                    f"the target of {key!r} must name {len(traits)} level(s) for each share, got {levels!r}"
                )
            table[tuple(t.code(level) for t, level in zip(traits, _names(levels), strict=True))] = share
        found[key] = _checked(key, table)
    return found


def named_shares(table: NDArray[np.float64], key: Traits, codebook: Codebook) -> dict[str | tuple[str, str], float]:
    """Return the shares of a margin by the names of its levels.

    Example:
        >>> named_shares(np.array([0.2, 0.2, 0.4, 0.2]), "region", Codebook.load("starter"))
        {'Northeast': 0.2, 'Midwest': 0.2, 'South': 0.4, 'West': 0.2}
    """
    names = [codebook.trait(name).levels for name in _names(key)]
    cells: list[str | tuple[str, str]] = [*names[0]] if len(names) == 1 else [*product(names[0], names[1])]
    return dict(zip(cells, table.ravel().tolist(), strict=True))


def population(codebook: Codebook) -> dict[Traits, dict[str, float]]:
    """Return the population shares of a codebook as a target.

    Raises:
        OptionError: If the codebook knows none.

    Example:
        >>> population(Codebook.load("starter"))["region"]
        {'Northeast': 0.1707, 'Midwest': 0.2169, 'South': 0.3811, 'West': 0.2313}
    """
    known: dict[Traits, dict[str, float]] = {
        t.name: dict(zip(t.levels, t.population, strict=True)) for t in codebook.traits if t.population
    }
    if not known:
        raise OptionError(f"the codebook {codebook.name!r} has no population shares: give the target as a mapping")
    return known


# -- drawing ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Representation:
    """How well a sample that was drawn for a target can stand for it, and how well it does."""

    n_effective: float
    """Kish's effective size of the raked weights of all who could be drawn: about so many of them carry the target."""
    target: Mapping[Traits, Mapping[str | tuple[str, str], float]]
    """Trait -> level -> share that was asked for."""
    expected: Mapping[Traits, Mapping[str | tuple[str, str], float]]
    """The same in the mean over all samples that could have been drawn."""
    drawn: Mapping[Traits, Mapping[str | tuple[str, str], float]]
    """The same in this sample, whose members count alike."""
    unmet: Mapping[tuple[Traits, str | tuple[str, str]], float]
    """Cells whose expected share is off, furthest first: (trait, level) -> share missing; negative: too many."""
    unannotated: Mapping[str, int]
    """Trait -> people among all whose trait is not known, which counts as uniform."""

    @property
    def told(self) -> str:
        """What is furthest off, in words; empty if nothing is."""
        worst = list(self.unmet)[:3]
        shown = ", ".join(
            f"{key} {cell!r} {self.expected[key][cell]:.1%} of {self.target[key][cell]:.1%}" for key, cell in worst
        )
        return f"{len(self.unmet)} cells of the target cannot be met, the furthest off: {shown}" if shown else ""


def representation(
    raking: Raking,
    wanted: Mapping[Traits, NDArray[np.float64]],
    drawn: Mapping[str, NDArray[np.float32]],
    codebook: Codebook,
) -> Representation:
    """Return how a sample stands for a target, with the names of the codebook's levels.

    Args:
        raking: Of all who could be drawn.
        wanted: As from `target_shares`.
        drawn: Trait -> probability of each level of those who were drawn, shape (sample, levels).
        codebook: Names the levels.
    """
    sample = {key: _Margin.of(drawn, key, table) for key, table in wanted.items()}
    shares = {key: margin.share(np.ones(len(margin.features))) for key, margin in sample.items()}
    places = {
        key: dict(zip(np.ndindex(table.shape), named_shares(table, key, codebook), strict=True))
        for key, table in wanted.items()
    }
    return Representation(
        n_effective=raking.n_effective,
        target={key: named_shares(table, key, codebook) for key, table in wanted.items()},
        expected={key: named_shares(table, key, codebook) for key, table in raking.margins.items()},
        drawn={key: named_shares(table, key, codebook) for key, table in shares.items()},
        unmet={
            (key, places[key][cell if isinstance(cell, tuple) else (cell,)]): gap
            for (key, cell), gap in raking.unmet.items()
        },
        unannotated=raking.unannotated,
    )


def traits_in(target: Mapping[Traits, object]) -> list[str]:
    """Return every trait of a target, once.

    Example:
        >>> traits_in({"age": 0, ("age", "region"): 0})
        ['age', 'region']
    """
    return list(dict.fromkeys(name for key in target for name in _names(key)))


def inclusion(weights: ArrayLike, n: int) -> NDArray[np.float64]:
    """Return inclusion probabilities that are proportional to weights, at most 1, and sum to `n`.

    Example:
        >>> inclusion([4.0, 1.0, 1.0], 2).tolist()
        [1.0, 0.5, 0.5]
    """
    # Who has no weight comes last, and only where the others are fewer than n.
    w = np.maximum(np.asarray(weights, dtype=np.float64), 1e-12 * np.max(weights))
    full = np.zeros(len(w), dtype=bool)
    while True:
        chance = np.where(full, 1.0, w * ((n - full.sum()) / max(w[~full].sum(), np.finfo(float).tiny)))
        over = (chance >= 1) & ~full
        if not over.any():
            return chance
        full |= over


def draw(chance: NDArray[np.float64], order: NDArray[np.intp], *, seed: int) -> NDArray[np.intp]:
    """Draw without replacement with exactly the given inclusion probabilities: systematic sampling (Madow 1949).

    Args:
        chance: Inclusion probabilities, 0 to 1, that sum to a whole number; shape (n,).
        order: The order in which people stand in line; neighbours are seldom drawn together.
        seed: For the random start.

    Returns:
        Positions of those drawn, ascending.

    Example:
        >>> draw(np.array([1.0, 0.5, 0.5]), np.array([0, 1, 2]), seed=1).tolist()
        [0, 2]
    """
    ends = np.cumsum(chance[order])
    size = round(float(ends[-1]))
    marks = np.arange(size) + np.random.default_rng(seed).random()
    # The last end is short of the whole number by rounding at times.
    at = np.minimum(np.searchsorted(ends, marks, side="right"), len(order) - 1)
    return np.sort(order[at])


# -- inside -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Margin:
    """One margin to rake to, flattened: K cells."""

    key: Traits
    shape: tuple[int, ...]
    features: NDArray[np.float64]
    """Probability of being in each cell, shape (n, K)."""
    goal: NDArray[np.float64]
    """Wanted shares, shape (K,)."""

    @classmethod
    def of(
        cls,
        probs: Mapping[str, NDArray[np.float64]] | Mapping[str, NDArray[np.float32]],
        key: Traits,
        shares: ArrayLike,
    ) -> _Margin:
        for name in _names(key):
            if name not in probs:
                raise UnknownNameError("trait of the target", name, probs)
        first, *more = [_uniform_where_unknown(probs[name]) for name in _names(key)]
        cells = first if not more else first[:, :, None] * more[0][:, None, :]
        goal = np.asarray(shares, dtype=np.float64)
        if goal.shape != cells.shape[1:]:
            raise OptionError(
                f"the target of {key!r} must have a share for each of {cells.shape[1:]} levels, got {goal.shape}"
            )
        return cls(key=key, shape=goal.shape, features=cells.reshape(len(first), -1), goal=_checked(key, goal).ravel())

    @property
    def possible(self) -> NDArray[np.bool_]:
        """Cells that somebody can be in."""
        return np.asarray((self.features > 0).any(axis=0))

    @property
    def attainable(self) -> NDArray[np.float64]:
        """The wanted shares without the cells that nobody can be in."""
        left = np.where(self.possible, self.goal, 0.0)
        # Where nothing is left the margin is left as it is among these people.
        return np.asarray(left / left.sum() if left.sum() else self.features.mean(axis=0))

    @property
    def empty(self) -> list[Cell]:
        return [self._cell(at) for at in np.flatnonzero(~self.possible & (self.goal > 0)).tolist()]

    def share(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(weights @ self.features / weights.sum()).reshape(self.shape)

    def gaps(self, reached: NDArray[np.float64]) -> list[tuple[Cell, float]]:
        return [(self._cell(at), gap) for at, gap in enumerate((self.goal - reached.ravel()).tolist())]

    def _cell(self, at: int) -> Cell:
        found = [int(place) for place in np.unravel_index(at, self.shape)]
        return found[0] if len(found) == 1 else (found[0], found[1])


@dataclass(frozen=True, kw_only=True)
class _Dual:
    """The dual of raking: weights are base * exp(features @ tilt) within bounds, and the tilt minimises `value`."""

    features: NDArray[np.float64]
    """Shape (n, K); the last column is of ones, so that the weights sum to n."""
    shares: NDArray[np.float64]
    """Wanted mean of weight * feature, shape (K,)."""
    base: NDArray[np.float64]
    bounds: tuple[float, float]

    def solve(self, *, tolerance: float, max_iterations: int) -> tuple[NDArray[np.float64], int]:
        """Return the weights and the Newton steps; shares that cannot be met are met as nearly as can be."""
        weights, steps = self._minimised(_EXACT, tolerance, max_iterations)
        if np.abs(self.features.T @ weights / len(weights) - self.shares).max() <= tolerance:
            return weights, steps
        weights, more = self._minimised(_SOFT, tolerance, max_iterations)
        return weights, steps + more

    def weights(self, tilt: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Return the weights, and which of them are within the bounds."""
        raw = self.base * np.exp(np.clip(self.features @ tilt, -500, 500))
        return np.clip(raw, *self.bounds), (raw > self.bounds[0]) & (raw < self.bounds[1])

    def value(self, tilt: NDArray[np.float64], prices: NDArray[np.float64]) -> float:
        """Return the convex function whose gradient is the gap between the shares reached and the wanted ones."""
        weights, _ = self.weights(tilt)
        # Past a bound it goes on in a straight line; within them the bracket is 1.
        past = self.features @ tilt - np.log(np.where(weights > 0, weights, 1.0) / self.base)
        return float((weights * (1 + past)).mean() - self.shares @ tilt + (prices * tilt**2).sum() / 2)

    def _minimised(self, price: float, tolerance: float, most: int) -> tuple[NDArray[np.float64], int]:
        prices = np.append(np.full(len(self.shares) - 1, price), 0.0)
        tilt, steps = np.zeros(len(prices)), 0
        for steps in range(most + 1):
            weights, free = self.weights(tilt)
            slope = self.features.T @ weights / len(weights) - self.shares + prices * tilt
            if steps == most or np.abs(slope).max() <= tolerance:
                break
            tilt = self._descended(tilt, self._step(weights * free, slope, prices), slope, prices)
        return weights, steps

    def _step(
        self, weights: NDArray[np.float64], slope: NDArray[np.float64], prices: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        curvature = self.features.T @ (self.features * weights[:, None]) / len(weights)
        # Levels of a trait sum to 1, so the curvature has flat directions; along them nothing changes.
        ridge = 1e-12 * (1 + np.trace(curvature))
        return np.asarray(np.linalg.solve(curvature + np.diag(prices + ridge), -slope))

    def _descended(
        self,
        tilt: NDArray[np.float64],
        step: NDArray[np.float64],
        slope: NDArray[np.float64],
        prices: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        here, rounding = self.value(tilt, prices), 1e-13
        for _ in range(_HALVINGS):
            if self.value(tilt + step, prices) <= here + 1e-4 * float(slope @ step) + rounding:
                break
            step = step / 2
        return tilt + step


def _names(key: str | tuple[str, str]) -> tuple[str, ...]:
    return (key,) if isinstance(key, str) else key


def _uniform_where_unknown(table: NDArray[np.float64] | NDArray[np.float32]) -> NDArray[np.float64]:
    known = np.where(np.isnan(table).any(axis=1, keepdims=True), 1 / table.shape[1], table).astype(np.float64)
    # Shares that were kept in single precision do not sum to 1 as exactly as margins are compared.
    return np.asarray(known / known.sum(axis=1, keepdims=True))


def _checked(key: Traits, shares: NDArray[np.float64]) -> NDArray[np.float64]:
    # Written so that NaN fails, too.
    if not (shares >= 0).all() or not abs(shares.sum() - 1) <= ROUNDING:
        raise OptionError(
            f"the shares of {key!r} must be 0 or more and sum to 1, got {shares.tolist()}, sum {shares.sum():.4g}"
        )
    return np.asarray(shares / shares.sum())


def _people(
    probs: Mapping[str, NDArray[np.float64]] | Mapping[str, NDArray[np.float32]], targets: Mapping[Traits, ArrayLike]
) -> int:
    sizes = {len(table) for table in probs.values()}
    if not targets or not any(sizes):
        raise EmptyError("raking needs people, and a target for at least one of their traits")
    if len(sizes) > 1:
        raise OptionError(f"the probabilities must be of the same people, got tables of {sorted(sizes)} rows")
    return sizes.pop()


def _check_raking(
    base: NDArray[np.float64] | None, n: int, bounds: tuple[float, float], *, tolerance: float, max_iterations: int
) -> None:
    if base is not None and (base.shape != (n,) or not (base > 0).all() or not np.isfinite(base).all()):
        raise OptionError(f"base must be {n} positive weights, got {base!r:.80}: leave out who must not count")
    if not 0 <= bounds[0] <= 1 <= bounds[1]:
        raise OptionError(f"bounds must be 0 or more and around the mean weight, which is 1, got {bounds}")
    if not tolerance > 0 or max_iterations < 1:
        raise OptionError(f"tolerance must be above 0 and max_iterations at least 1, got {tolerance}, {max_iterations}")
