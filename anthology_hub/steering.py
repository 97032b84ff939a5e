"""Quotas for primed backstories, and generating until a pool can stand for a population.

A quota says the traits of each story. `steer` generates in rounds: the traits of the pool so far are raked to the
target, and the next round asks for the levels of which too few are there, in proportion to what is missing, until the
raked weights have the effective size that is wanted (Kish) and no cell of the target is unmet.
"""

from __future__ import annotations

import csv
import json
import math
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from anthology_hub.collection import GENERATION, Anthology
from anthology_hub.errors import DataError, EmptyError, OptionError, UnknownNameError
from anthology_hub.generation import Generation, Report, generate
from anthology_hub.hub import write_file
from anthology_hub.models import LanguageModel
from anthology_hub.prompts import derive_seed
from anthology_hub.runs import as_json
from anthology_hub.schema import Codebook, Trait, read_json
from anthology_hub.styles import GenerateOptions
from anthology_hub.weighting import Raking, Target, rake, target_shares, traits_in

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from anthology_hub.encoding import Encoder
    from anthology_hub.schema import Respondents
    from anthology_hub.screening import Critic

Quota = tuple[Mapping[str, str], ...]
"""Traits of each story: trait -> level."""
Annotate = Callable[[Sequence[str]], Mapping[str, "NDArray[np.float64]"]]
"""From backstories to trait -> probability of each level, shape (backstories, levels); NaN rows are not known."""
STEERING = "steering.json"
MOST_STORIES = 10_000_000
"""Most stories that the counts of a table may ask for."""


# -- quotas ----------------------------------------------------------------------------------------------------------


def apportion(shares: Sequence[float], n: int) -> list[int]:
    """Return whole numbers that sum to `n` and are nearest to shares of it (largest remainders; ties go to the first).

    Example:
        >>> apportion([0.5, 0.3, 0.2], 5)
        [3, 1, 1]
    """
    total = math.fsum(shares)
    exact = [share / total * n for share in shares]
    # Rounding keeps what is equal but for float noise a tie.
    counts = [math.floor(round(value, 9)) for value in exact]
    rest = sorted(range(len(exact)), key=lambda at: (-round(exact[at] - counts[at], 9), at))
    for at in rest[: n - sum(counts)]:
        counts[at] += 1
    return counts


def read_quota(path: str | Path, codebook: Codebook, n: int | None = None) -> Quota:
    """Read a quota table: a CSV file with a column for each trait and `count`; an empty cell leaves a trait open.

    Args:
        path: The file.
        codebook: Names traits and levels.
        n: How many stories to share out in proportion to the counts; as many as counted, if not given.

    Raises:
        DataError: If there are no rows, no traits or no counts; the message names the line.
        UnknownNameError: If a trait or level does not exist.
    """
    columns, rows = _table(path)
    if not rows or "count" not in columns or len(columns) < 2:
        told = [row for _, row in rows[:1]]
        raise DataError(f"the quota {path} needs rows, a column `count` and one for each trait, got {told}")
    if twice := [name for name, times in Counter(columns).items() if times > 1]:
        raise DataError(f"the quota {path} names the column {twice[0]!r} twice: leave one of them out")
    cells, counts = [], []
    for line, row in rows:
        if None in row:
            raise DataError(f"{path}, line {line}: there are more cells than columns, {row}")
        counts.append(_count(row["count"], f"{path}, line {line}"))
        cells.append({name: level for name, level in row.items() if name != "count" and level})
    total = sum(counts)
    if not total:
        raise DataError(f"the quota {path} asks for nobody: all counts are 0")
    if n is None and total > MOST_STORIES:
        raise DataError(
            f"the quota {path} asks for {total:,} stories, allowed are {MOST_STORIES:,}: say how many to share out"
        )
    return quota_of(cells, codebook, counts=counts if n is None else apportion(counts, n))


def read_target(path: str | Path, codebook: Codebook) -> Target:
    """Read the target of a JSON file: trait -> level -> share.

    Raises:
        DataError: If the file cannot be read, or holds something else.
        OptionError: If the shares of a trait are no distribution.
        UnknownNameError: If a trait or level does not exist.
    """
    value: Mapping[Any, Mapping[str, float]] = read_json(Path(path))
    for name, shares in value.items():
        if not isinstance(shares, Mapping) or not all(isinstance(share, int | float) for share in shares.values()):
            raise DataError(f"{path}, {name!r}: give the share of each level, as {{'South': 0.4}}, got {shares!r:.200}")
    target_shares(value, codebook)
    return value


def _table(path: str | Path) -> tuple[Sequence[str], list[tuple[int, dict[str, str]]]]:
    """The columns of a CSV file, and its rows with the number of the line where each ends."""
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            return reader.fieldnames or (), [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"the quota {path} cannot be read: {error}; give a CSV file") from error


def _count(told: str | None, where: str) -> int:
    if told is None or not told.strip().isdecimal():
        raise DataError(f"{where}: the count must be a whole number, got {told!r}")
    if len(told.strip()) > 15:
        raise DataError(f"{where}: the count must have 15 digits at most, got {told.strip()[:20]}...")
    return int(told)


def quota_of(cells: Sequence[Mapping[str, str]], codebook: Codebook, *, counts: Sequence[int] | None = None) -> Quota:
    """Return a quota of cells, each as often as its count.

    Raises:
        UnknownNameError: If a trait or level does not exist.

    Example:
        >>> book = Codebook.load("anthology")
        >>> quota_of([{"region": "South"}, {"region": "West"}], book, counts=[2, 1])
        ({'region': 'South'}, {'region': 'South'}, {'region': 'West'})
    """
    for name, level in (pair for cell in cells for pair in cell.items()):
        codebook.trait(name).code(level)
    times = [1] * len(cells) if counts is None else counts
    return tuple(dict(cell) for cell, k in zip(cells, times, strict=True) for _ in range(k))


def quota_from(humans: Respondents, codebook: Codebook, *, traits: Sequence[str] = ()) -> Quota:
    """Return the traits of each respondent as a quota: one story for each, as in the paper (appendix A).

    Args:
        humans: Their levels must be those of the codebook; take them over a crosswalk first, if not.
        codebook: Of the stories.
        traits: Which; all that both have, if none are named.

    Raises:
        UnknownNameError: If a level is not one of the codebook's.
    """
    known = [trait.name for trait in codebook.traits]
    wanted = [codebook.trait(name).name for name in traits] or [name for name in humans.levels if name in known]
    told = (humans.traits_of(row) for row in range(len(humans)))
    return quota_of([{name: one[name] for name in wanted if name in one} for one in told], codebook)


def quota_for(target: Target, codebook: Codebook, n: int, *, seed: int = 0) -> Quota:
    """Return a quota of `n` stories whose traits have the shares of a target, joined at random across its margins.

    Raises:
        OptionError: If shares are negative or do not sum to 1.
        UnknownNameError: If a trait or level does not exist.

    Example:
        >>> from collections import Counter
        >>> book = Codebook.load("anthology")
        >>> quota = quota_for({"region": {"South": 0.75, "West": 0.25}, "gender": {"Female": 1.0}}, book, 4)
        >>> sorted(Counter(cell["region"] for cell in quota).items()), quota[0]["gender"]
        ([('South', 3), ('West', 1)], 'Female')
    """
    return _dealt(target_shares(target, codebook), codebook, n, seed=seed)


def _dealt(wanted: Mapping[Any, NDArray[np.float64]], codebook: Codebook, n: int, *, seed: int) -> Quota:
    """Deal out levels by margins, joint ones first; what a story has of a margin already, it keeps."""
    quota: list[dict[str, int]] = [{} for _ in range(n)]
    for key in sorted(wanted, key=lambda key: isinstance(key, str)):
        names = (key,) if isinstance(key, str) else key
        drawn = random.Random(derive_seed(seed, "quota", *names))
        if any(name in one for one in quota for name in names):
            cells = _fitting(wanted[key], [[one.get(name) for name in names] for one in quota], drawn)
        else:
            counts = apportion(wanted[key].ravel().tolist(), n)
            cells = [cell for cell, k in zip(np.ndindex(wanted[key].shape), counts, strict=True) for _ in range(k)]
            drawn.shuffle(cells)
        for one, cell in zip(quota, cells, strict=True):
            one.update(zip(names, cell, strict=True))
    return tuple({name: codebook.trait(name).levels[code] for name, code in one.items()} for one in quota)


def _fitting(
    shares: NDArray[np.float64], known: Sequence[Sequence[int | None]], drawn: random.Random
) -> list[tuple[int, ...]]:
    """Give each story, in an order drawn, the cell that lacks most among those that fit what it has; ties are drawn."""
    lacking = {cell: float(shares[cell]) / float(shares.sum()) * len(known) for cell in np.ndindex(shares.shape)}
    found: list[tuple[int, ...]] = [()] * len(known)
    for at in drawn.sample(range(len(known)), len(known)):
        fitting = [cell for cell in lacking if all(k in (None, code) for k, code in zip(known[at], cell, strict=True))]
        found[at] = max(fitting, key=lambda cell: (round(lacking[cell], 9), drawn.random()))
        lacking[found[at]] -= 1
    return found


# -- steering --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Round:
    """The pool after a round."""

    asked: int
    kept: int
    pool: int
    """Stories of this and all earlier rounds."""
    n_effective: float
    """Of the raked weights, 1 to `pool`."""
    unmet: int
    """Cells of the target that the pool cannot fill."""
    quota: Mapping[str, int]
    """What this round asked for most of: cell -> stories; empty in other styles than primed."""


@dataclass(frozen=True, kw_only=True)
class Steered:
    """A pool of backstories and how it came to stand for a target."""

    rounds: tuple[Generation, ...]
    path: tuple[Round, ...]
    raking: Raking
    """Of the whole pool; weights in the order of `records`."""
    reached: bool
    """Whether the effective size is reached with every cell filled, and not the end of the allowance."""

    @property
    def records(self) -> tuple[dict[str, Any], ...]:
        """The records of all rounds; see `Generation.records`."""
        return tuple(record for generation in self.rounds for record in generation.records)

    @property
    def generation(self) -> Generation:
        """All rounds as one, with the provenance of the first; stories are numbered within their round."""
        rejected = tuple(row for generation in self.rounds for row in generation.rejected)
        report = Report.of_all([generation.report for generation in self.rounds])
        return replace(self.rounds[0], records=self.records, report=report, rejected=rejected)

    def lines(self) -> list[str]:
        """Return the path as lines to read."""
        shown = [
            f"round {at}: {one.kept} of {one.asked} kept, pool {one.pool}, effective {one.n_effective:.1f}, "
            f"{one.unmet} cells unmet"
            for at, one in enumerate(self.path, 1)
        ]
        return [*shown, "target reached" if self.reached else "stopped before the target was reached"]


def steer(
    model: LanguageModel,
    target: Target,
    *,
    n_effective: float,
    at_most: int,
    batch: int = 50,
    seed: int = 0,
    options: GenerateOptions | None = None,
    codebook: Codebook | None = None,
    annotate: Annotate | None = None,
    critic: Critic | None = None,
    encoder: Encoder | None = None,
    folder: str | Path | None = None,
) -> Steered:
    """Generate until the pool, raked to a target, has an effective size.

    Args:
        model: Who writes.
        target: Trait -> level -> share, see `weighting.rake`.
        n_effective: Effective size wanted, at least 1.
        at_most: Stories to ask for before giving up.
        batch: Stories of a round.
        seed: Run seed.
        options: How; style `primed`, if not given.
        codebook: Names traits and levels; `anthology`, if not given.
        annotate: Tells the traits of backstories; in style primed what was asked for is taken, if not given.
        critic: See `generate`.
        encoder: See `generate`.
        folder: Holds a run folder for each round; the same call on it goes on where it stopped.

    Raises:
        EmptyError: If no story was kept.
        OptionError: If sizes are out of their range, or nobody tells the traits of stories that are not primed.

    Example:
        >>> from anthology_hub.models.scripted import ScriptedModel
        >>> writer = ScriptedModel("first", replies=lambda prompt, seed: f"I am number {seed}.")
        >>> target = {"region": {"South": 0.5, "West": 0.5}}
        >>> options = GenerateOptions(style="primed", checks=())
        >>> pool = steer(writer, target, n_effective=6, at_most=20, batch=4, options=options)
        >>> [round(one.n_effective) for one in pool.path], pool.reached
        ([4, 8], True)
    """
    options = options or GenerateOptions(style="primed")
    codebook = codebook or Codebook.load("anthology")
    _check_steering(n_effective, at_most, batch, options, annotate)
    wanted = target_shares(target, codebook)
    pool = _Pool(wanted=wanted, codebook=codebook, annotate=annotate, n_effective=n_effective)
    while not pool.reached and pool.asked < at_most:
        size, due = min(batch, at_most - pool.asked), derive_seed(seed, "round", len(pool.rounds))
        quota = pool.quota(size, seed=due) if options.style == "primed" else ()
        generation = generate(
            model,
            size,
            seed=due,
            options=options,
            quota=quota,
            codebook=codebook,
            critic=critic,
            collection=pool.collection,
            encoder=encoder,
            folder=None if folder is None else Path(folder) / f"round-{len(pool.rounds):03}",
        )
        pool.add(generation, quota)
        if folder is not None:
            told = {"path": [asdict(one) for one in pool.path], "reached": pool.reached}
            write_file(Path(folder) / STEERING, as_json(told))
    if pool.raking is None:
        raise EmptyError(f"none of {at_most} stories was kept: see what was rejected, and loosen the checks")
    return Steered(rounds=tuple(pool.rounds), path=tuple(pool.path), raking=pool.raking, reached=pool.reached)


@dataclass(kw_only=True)
class _Pool:
    """The stories so far."""

    wanted: Mapping[Any, NDArray[np.float64]]
    codebook: Codebook
    annotate: Annotate | None
    n_effective: float
    rounds: list[Generation] = field(default_factory=list)
    path: list[Round] = field(default_factory=list)
    raking: Raking | None = None
    probs: dict[str, NDArray[np.float64]] = field(default_factory=dict)

    @property
    def reached(self) -> bool:
        return self.raking is not None and self.raking.n_effective >= self.n_effective and not self.raking.unmet

    @property
    def asked(self) -> int:
        return sum(one.asked for one in self.path)

    @property
    def records(self) -> list[dict[str, Any]]:
        return [record for generation in self.rounds for record in generation.records]

    @property
    def collection(self) -> Anthology | None:
        """What new stories must not repeat."""
        records = self.records
        return Anthology.from_records(records, self.codebook, name="pool", licence="other") if records else None

    def add(self, generation: Generation, quota: Quota) -> None:
        """Add a round, and weigh the pool anew; only the new stories are annotated."""
        self.rounds.append(generation)
        if generation.records:
            fresh = self._told(generation.records)
            known = self.probs or {name: table[:0] for name, table in fresh.items()}
            self.probs = {name: np.concatenate([known[name], table]) for name, table in fresh.items()}
            self.raking = rake(self.probs, self.wanted)
        self.path.append(
            Round(
                asked=generation.report.asked,
                kept=generation.report.kept,
                pool=len(self.records),
                n_effective=self.raking.n_effective if self.raking else 0.0,
                unmet=len(self.raking.unmet) if self.raking else sum(table.size for table in self.wanted.values()),
                quota=self._counted(quota),
            )
        )

    def quota(self, n: int, *, seed: int) -> Quota:
        """Ask for what is missing: in each cell the share that the pool of the next round wants, less what is there."""
        have = len(self.records)
        short = {}
        for key, shares in self.wanted.items():
            missing = np.maximum(shares * (have + n) - self._have(key, shares), 0.0)
            short[key] = missing if missing.sum() > 0 else shares
        return _dealt(short, self.codebook, n, seed=seed)

    def _have(self, key: str | tuple[str, str], shares: NDArray[np.float64]) -> NDArray[np.float64]:
        if not self.probs:
            return np.zeros_like(shares)
        names = (key,) if isinstance(key, str) else key
        first, *more = (np.where(np.isnan(self.probs[n]), 1 / self.probs[n].shape[1], self.probs[n]) for n in names)
        return np.asarray(first.T @ more[0] if more else first.sum(axis=0))

    def _told(self, records: Sequence[Mapping[str, Any]]) -> dict[str, NDArray[np.float64]]:
        names = traits_in(self.wanted)
        if self.annotate is not None:
            told = self.annotate([record["backstory"] for record in records])
            if lacking := [name for name in names if name not in told]:
                raise UnknownNameError("trait of the annotations", lacking[0], told)
            return {name: np.asarray(told[name], dtype=np.float64) for name in names}
        primed = [json.loads(record[GENERATION])["primed"] for record in records]
        return {name: _one_hot([cell.get(name) for cell in primed], self.codebook.trait(name)) for name in names}

    def _counted(self, quota: Quota) -> dict[str, int]:
        names = traits_in(self.wanted)
        cells = Counter(", ".join(cell[name] for name in names) for cell in quota)
        return dict(sorted(cells.items(), key=lambda pair: (-pair[1], pair[0])))


def _one_hot(levels: Sequence[str | None], trait: Trait) -> NDArray[np.float64]:
    table = np.full((len(levels), len(trait.levels)), np.nan)
    for row, level in enumerate(levels):
        if level is not None:
            table[row] = np.eye(len(trait.levels))[trait.code(level)]
    return table


def _check_steering(n_effective: float, at_most: int, batch: int, options: GenerateOptions, annotate: object) -> None:
    if not 1 <= n_effective <= at_most or batch < 1:
        raise OptionError(
            f"n_effective must be between 1 and at_most, and batch at least 1, got {n_effective:g}, {at_most}, {batch}"
        )
    if options.style != "primed" and annotate is None:
        raise OptionError(
            f"nobody tells the traits of stories of style {options.style!r}: give annotate=, or use style 'primed'"
        )
