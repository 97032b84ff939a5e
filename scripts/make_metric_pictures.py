"""Draw the pictures of docs/metrics.md: for each figure made answers that it tells apart, and some that it does not.

python scripts/make_metric_pictures.py [--out docs/pictures] [--text]

Every number in a picture is computed by the package from the answers that are drawn. The same version of matplotlib
makes the same bytes each time. `--text` prints the lines of the page that show the pictures, with their descriptions.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from anthology_hub import groups, metrics, regression
from anthology_hub.answer_table import AnswerTable
from anthology_hub.hub import write_file
from anthology_hub.individuals import Pairs
from anthology_hub.polychoric import polychoric

OUT = Path(__file__).parents[1] / "docs" / "pictures"
HUMANS, SIMULATION, INK = "#0072B2", "#E69F00", "#333333"
"""Blue and orange of Okabe and Ito (2008), which colour-blind readers tell apart."""

Array = NDArray[np.float64]
Draw = Callable[[Axes], None]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One plot: what is drawn, in words, and what the figure says of it."""

    words: str
    draw: Draw
    value: float | None = None
    """None: the humans alone."""

    @property
    def said(self) -> str:
        """The words and the value; zero without a sign."""
        return self.words if self.value is None else f"{self.words} {self.value + 0.0:.2f}".replace("-0.00", "0.00")

    @property
    def title(self) -> str:
        """The same in two lines."""
        return self.words + "\n" if self.value is None else "\n".join(self.said.rsplit(" ", 1))


@dataclass(frozen=True, kw_only=True)
class Picture:
    """What a figure sees and what it misses."""

    names: tuple[str, ...]
    """Of the measures that it stands for; its file has the first."""
    sees: tuple[Cell, ...]
    misses: tuple[Cell, ...]

    @property
    def file(self) -> str:
        """Its name in the folder of pictures."""
        return f"metric-{self.names[0]}.png"

    @property
    def text(self) -> str:
        """The line of the page that shows it, with a description for who cannot see it."""
        parts = [
            f"{verb}: {', '.join(cell.said for cell in cells if cell.value is not None)}" for verb, cells in self.halves
        ]
        return f"![{self.names[0]} {'; '.join(parts)}](pictures/{self.file})"

    @property
    def halves(self) -> tuple[tuple[str, tuple[Cell, ...]], ...]:
        """What it sees, and what it misses."""
        return ("sees", self.sees), ("misses", self.misses)

    def png(self) -> bytes:
        """Draw it."""
        cells = [*self.sees, *self.misses]
        with mpl.rc_context({"font.size": 7, "font.family": "DejaVu Sans", "axes.linewidth": 0.5, "text.color": INK}):
            figure = Figure(figsize=(1.75 * len(cells), 2.0), dpi=110)
            plots = figure.subplots(1, len(cells), squeeze=False)[0]
            for axes, cell in zip(plots, cells, strict=True):
                cell.draw(axes)
                axes.set_title(cell.title, fontsize=6.5)
                axes.tick_params(length=2, width=0.5, labelsize=6)
            figure.subplots_adjust(left=0.02 + 0.14 / len(cells), right=0.99, bottom=0.16, top=0.75, wspace=0.3)
            at = 0.0
            for verb, part in self.halves:
                width = len(part) / len(cells)
                figure.text(at + width / 2, 0.95, verb, ha="center", va="center", weight="bold", fontsize=8)
                at += width
            line = len(self.sees) / len(cells) + 0.01
            figure.add_artist(mpl.lines.Line2D([line, line], [0.04, 0.98], color="#bbbbbb", linewidth=0.7))
            out = io.BytesIO()
            # What the file says of its maker would change with its version.
            figure.savefig(out, format="png", metadata={"Software": None})
        return out.getvalue()


# -- how answers are drawn -------------------------------------------------------------------------------------------


def bars(human: ArrayLike, simulated: ArrayLike) -> Draw:
    """Shares of the options, side by side."""
    h, s = np.asarray(human), np.asarray(simulated)

    def draw(axes: Axes) -> None:
        at = np.arange(1, len(h) + 1)
        axes.bar(at - 0.2, h, 0.4, color=HUMANS)
        axes.bar(at + 0.2, s, 0.4, color=SIMULATION, hatch="////", edgecolor="white", linewidth=0)
        axes.set_xticks(at)
        axes.set_ylim(0, 1)
        axes.set_yticks([0, 0.5, 1])

    return draw


def dots(table: ArrayLike, color: str, labels: tuple[str, str]) -> Draw:
    """How often each pair of answers occurs, as the size of a dot."""
    share = np.asarray(table) / np.sum(table)

    def draw(axes: Axes) -> None:
        x, y = np.indices(share.shape) + 1
        axes.scatter(x, y, s=320 * share, color=color, linewidths=0)
        axes.set_xlim(0.3, share.shape[0] + 0.7)
        axes.set_ylim(0.3, share.shape[1] + 0.7)
        axes.set_xticks(range(1, share.shape[0] + 1))
        axes.set_yticks(range(1, share.shape[1] + 1))
        axes.set_xlabel(labels[0], fontsize=6, labelpad=1)
        axes.set_ylabel(labels[1], fontsize=6, labelpad=1)

    return draw


def matrix(correlation: ArrayLike) -> Draw:
    """Correlations as numbers on colours that go from orange to purple."""
    found = np.asarray(correlation)

    def draw(axes: Axes) -> None:
        axes.imshow(found, cmap="PuOr", vmin=-2, vmax=2)
        for (row, column), value in np.ndenumerate(found):
            axes.text(column, row, f"{value:.1f}".replace("0.", "."), ha="center", va="center", fontsize=6)
        axes.set_xticks([])
        axes.set_yticks([])

    return draw


def means(human: Array, simulated: Array) -> Draw:
    """Mean and standard deviation of each group's answers; counts of shape (groups, K)."""

    def draw(axes: Axes) -> None:
        sides = ((human, HUMANS, "o", -0.12), (simulated, SIMULATION, "s", 0.12))
        for counts, color, marker, aside in sides:
            at = np.arange(1, counts.shape[1] + 1)
            share = counts / counts.sum(axis=1, keepdims=True)
            mean = share @ at
            spread = np.sqrt(share @ at**2 - mean**2)
            place = np.arange(len(counts)) + aside
            axes.errorbar(place, mean, spread, fmt=marker, color=color, markersize=4, capsize=2, linewidth=1)
        axes.set_xlim(-0.6, len(human) - 0.4)
        axes.set_xticks(range(len(human)), [f"group {chr(65 + at)}" for at in range(len(human))])
        axes.set_ylim(0.5, human.shape[1] + 0.5)
        axes.set_yticks(range(1, human.shape[1] + 1))

    return draw


def pair_of_bars(values: Sequence[float], labels: Sequence[str]) -> Draw:
    """Two shares."""

    def draw(axes: Axes) -> None:
        axes.bar([0, 1], values, 0.6, color=[SIMULATION, HUMANS])
        axes.set_xticks([0, 1], labels)
        axes.set_ylim(0, 1)
        axes.set_yticks([0, 0.5, 1])

    return draw


# -- what the package says of them -----------------------------------------------------------------------------------

Shares = Callable[[ArrayLike, ArrayLike], Array]


def _shares(measure: Shares, words: str, human: ArrayLike, simulated: ArrayLike) -> Cell:
    return Cell(words=words, value=float(measure(human, simulated)), draw=bars(human, simulated))


def _normalised(human: ArrayLike, simulated: ArrayLike) -> Array:
    return metrics.wasserstein(simulated, human) / (len(np.asarray(human)) - 1)


def _spread(human: ArrayLike, simulated: ArrayLike) -> Array:
    at = np.arange(len(np.asarray(human)))
    one, other = (np.sqrt(side @ at**2 - (side @ at) ** 2) for side in map(np.asarray, (simulated, human)))
    return np.asarray(one / other)


def _entropy(human: ArrayLike, simulated: ArrayLike) -> Array:
    return metrics.concentration(simulated, human).entropy_ratio


def _people(table: ArrayLike) -> tuple[NDArray[np.int16], AnswerTable, Array]:
    """Return the pairs of answers in a table, encoded, and how often each occurs."""
    counts = np.asarray(table, dtype=np.float64)
    codes = np.indices(counts.shape).reshape(2, -1).T.astype(np.int16)
    return codes, AnswerTable(codes, counts.shape), counts.reshape(-1)


def _pearson(table: ArrayLike) -> Array:
    _, answers, weights = _people(table)
    return answers.moments(weights[None]).correlation


def _spearman(table: ArrayLike) -> Array:
    _, answers, weights = _people(table)
    return answers.rank_correlation(weights[None], answers.midranks(weights))


def _polychoric(table: ArrayLike) -> Array:
    r = float(polychoric(np.asarray(table, dtype=np.float64)[None])[0])
    return np.array([[[1.0, r], [r, 1.0]]])


def _together(
    measure: Callable[[ArrayLike], Array], human: Array, sees: tuple[str, Array], misses: tuple[str, Array]
) -> tuple[tuple[Cell, ...], tuple[Cell, ...]]:
    """Cells of two questions' answers, and the distance of their correlations from the humans'."""
    labels = ("question 1", "question 2")
    found = [
        Cell(
            words=words,
            value=float(metrics.frobenius(measure(table), measure(human))[0]),
            draw=dots(table, SIMULATION, labels),
        )
        for words, table in (sees, misses)
    ]
    return (Cell(words="humans", draw=dots(human, HUMANS, labels)), found[0]), (found[1],)


def _matrices(
    measure: Callable[[Array], Array], human: Array, sees: tuple[str, Array], misses: tuple[str, Array], *, own: bool
) -> tuple[tuple[Cell, ...], tuple[Cell, ...]]:
    first = Cell(words="humans", draw=matrix(human), value=float(measure(human)) if own else None)
    one, other = (Cell(words=words, draw=matrix(found), value=float(measure(found))) for words, found in (sees, misses))
    return (first, one), (other,)


def _personal(name: str, words: str, table: ArrayLike) -> Cell:
    """A person's answer beside its persona's; `table[human, persona]` counts."""
    codes, _, weights = _people(table)
    k = len(np.asarray(table))
    pairs = Pairs(codes[:, 1:], codes[:, :1], [k], [True])
    value = float(pairs.figures(weights[None])[name][0])
    return Cell(words=words, value=value, draw=dots(table, SIMULATION, ("person", "persona")))


def _retested(same: int, again: int) -> Cell:
    """Twenty people, of whom so many have the persona's answer and so many repeat their own."""
    human, at = np.zeros((20, 1), dtype=np.int64), np.arange(20)[:, None]
    pairs = Pairs((at >= same).astype(int), human, [2], [True], retest=(at >= again).astype(int))
    value = float(pairs.figures(np.ones((1, 20)))["normalised_accuracy"][0])
    draw = pair_of_bars([same / 20, again / 20], ["persona", "retest"])
    return Cell(words=f"{same / 20:.2f} of {again / 20:.2f} is", value=value, draw=draw)


def _expanded(counts: Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    group, option = np.indices(counts.shape)
    times = counts.astype(int).reshape(-1)
    return np.repeat(group.reshape(-1), times), np.repeat(option.reshape(-1), times)[:, None]


def _fitted(counts: Array) -> regression.Fit:
    who, codes = _expanded(counts)
    return regression.fit(codes, regression.dummies(who[:, None], [len(counts)]), np.ones((1, len(who))))


def _explained(human: Array, simulated: Array) -> float:
    return float(_fitted(simulated).adjusted[0, 0])


def _gaps(human: Array, simulated: Array) -> float:
    found = []
    for counts in (simulated, human):
        who, codes = _expanded(counts)
        found.append(groups.group_moments(codes, who, np.ones((1, len(who))), n_groups=len(counts)).gaps.reshape(1, -1))
    return float(groups.agreement(*found)["mean_absolute_difference"][0])


def _coefficients(human: Array, simulated: Array) -> float:
    one, other = _fitted(simulated), _fitted(human)
    scale = other.spread[..., None]
    return float(groups.agreement(one.coefficients / scale, other.coefficients / scale)["correlation"][0])


def _grouped(measure: Callable[[Array, Array], float], words: str, human: Array, simulated: Array) -> Cell:
    return Cell(words=words, value=measure(human, simulated), draw=means(human, simulated))


# -- the made answers ------------------------------------------------------------------------------------------------

LINKED = np.array([[6, 2, 0], [2, 6, 2], [0, 2, 6]]) / 26
"""Two questions whose answers go together."""
CUTS, EVEN = (-0.9, 0.4), (-0.5, 0.5)


def _unlinked(table: Array) -> Array:
    return np.asarray(np.outer(table.sum(axis=1), table.sum(axis=0)))


def _placed(table: Array, options: Sequence[int], k: int) -> Array:
    """Put the answers on other options of a longer scale."""
    found = np.zeros((k, k))
    found[np.ix_(options, options)] = table
    return found


def _cut(r: float, cuts: tuple[float, float]) -> Array:
    """Shares of two questions whose opinions are normal with correlation r, cut into three options each."""
    from scipy.stats import multivariate_normal

    ends = [-8.0, *cuts, 8.0]
    below = np.array([[multivariate_normal.cdf([x, y], cov=[[1, r], [r, 1]]) for y in ends] for x in ends])
    return np.diff(np.diff(below, axis=0), axis=1).clip(min=0)


def _alike(within: float, between: float) -> Array:
    """Correlations of two pairs of questions."""
    blocks = np.kron(np.eye(2), np.full((2, 2), within - between)) + between
    np.fill_diagonal(blocks, 1)
    return np.asarray(blocks)


def _loaded(*loadings: float) -> Array:
    found = np.outer(loadings, loadings)
    np.fill_diagonal(found, 1)
    return np.asarray(found)


def pictures() -> tuple[Picture, ...]:
    """Return all pictures, in the order of `measures.MEASURES`."""
    return (*_of_shares(), *_of_correlations(), *_of_consistency(), *_of_variety(), *_of_persons(), *_of_groups())


def _of_shares() -> tuple[Picture, ...]:
    bell, up = [0.1, 0.2, 0.4, 0.2, 0.1], [0, 0.1, 0.2, 0.4, 0.3]
    linked = _unlinked(LINKED)
    labels = ("question 1", "question 2")
    apart = float(_normalised(LINKED.sum(axis=0), linked.sum(axis=0)))
    peak, near, far = [0.6, 0.1, 0.1, 0.1, 0.1], [0.3, 0.4, 0.1, 0.1, 0.1], [0.3, 0.1, 0.1, 0.1, 0.4]
    three = ([0.5, 0.5, 0], [0, 0.5, 0.5])
    seven = ([0, 0, 0.5, 0.5, 0, 0, 0], [0, 0, 0, 0.5, 0.5, 0, 0])
    rare, lost, moved = [0.5, 0.4, 0.1], [0.55, 0.45, 0], [0.6, 0.3, 0.1]
    return (
        Picture(
            names=("wd_normalised",),
            sees=(_shares(_normalised, "a step higher", bell, up), _shares(_normalised, "to the far end", peak, far)),
            misses=(
                Cell(words="humans", draw=dots(LINKED, HUMANS, labels)),
                Cell(words="same shares, unlinked", value=apart, draw=dots(linked, SIMULATION, labels)),
            ),
        ),
        Picture(
            names=("wd",),
            sees=(
                _shares(metrics.wasserstein, "three in ten, one step", peak, near),
                _shares(metrics.wasserstein, "the same, to the far end", peak, far),
            ),
            misses=(
                _shares(metrics.wasserstein, "half of a short scale", *three),
                _shares(metrics.wasserstein, "a sixth of a long one", *seven),
            ),
        ),
        Picture(
            names=("jsd",),
            sees=(
                _shares(metrics.jensen_shannon, "a tenth moved", rare, moved),
                _shares(metrics.jensen_shannon, "a rare option lost", rare, lost),
            ),
            misses=(
                _shares(metrics.jensen_shannon, "moved one step", peak, near),
                _shares(metrics.jensen_shannon, "moved to the far end", peak, far),
            ),
        ),
        Picture(
            names=("tv",),
            sees=(
                _shares(metrics.total_variation, "a tenth moved", rare, moved),
                _shares(metrics.total_variation, "three tenths moved", peak, near),
            ),
            misses=(
                _shares(metrics.total_variation, "a tenth moved", rare, moved),
                _shares(metrics.total_variation, "a rare option lost", rare, lost),
            ),
        ),
        Picture(
            names=("kl",),
            sees=(
                _shares(metrics.kl, "a tenth moved", rare, moved),
                _shares(metrics.kl, "a rare option lost", rare, lost),
            ),
            misses=(_shares(metrics.kl, "an option made up", [0.5, 0.5, 0], [0.4, 0.4, 0.2]),),
        ),
    )


def _of_correlations() -> tuple[Picture, ...]:
    first, stretched, shifted = (_placed(LINKED, at, 4) for at in ((0, 1, 2), (0, 1, 3), (1, 2, 3)))
    turned = _placed(LINKED[::-1], (0, 1, 2), 4)
    pairs, crossed = _alike(0.6, 0.0), _alike(0.6, 0.0)[np.ix_([0, 2, 1, 3], [0, 2, 1, 3])]
    halved = (pairs + np.eye(4)) / 2

    def pattern(found: Array) -> Array:
        return metrics.cbs(found, pairs)

    made = (
        ("fro", _together(_pearson, first, ("unlinked", _unlinked(first)), ("all a step higher", shifted))),
        ("fro_spearman", _together(_spearman, first, ("turned round", turned), ("top option further up", stretched))),
        (
            "fro_polychoric",
            _together(
                _polychoric,
                _cut(0.6, EVEN),
                ("opinions less linked", _cut(0.1, EVEN)),
                ("other cut points", _cut(0.6, CUTS)),
            ),
        ),
        ("cbs", _matrices(pattern, pairs, ("others go together", crossed), ("half as strong", halved), own=False)),
    )
    return tuple(Picture(names=(name,), sees=sees, misses=misses) for name, (sees, misses) in made)


def _of_consistency() -> tuple[Picture, ...]:
    even = _alike(0.5, 0.5)
    alpha = _matrices(
        metrics.cronbach_alpha, even, ("less alike", _alike(0.2, 0.2)), ("two camps", _alike(0.9, 0.3)), own=True
    )
    omega = _matrices(
        metrics.mcdonald_omega,
        _loaded(0.9, 0.7, 0.5, 0.3),
        ("all weak", _loaded(0.4, 0.4, 0.4, 0.4)),
        ("others lead", _loaded(0.3, 0.5, 0.7, 0.9)),
        own=True,
    )
    return tuple(
        Picture(names=(name,), sees=sees, misses=misses)
        for name, (sees, misses) in (("alpha", alpha), ("omega", omega))
    )


def _of_variety() -> tuple[Picture, ...]:
    low, high = [0.25, 0.5, 0.25, 0, 0], [0, 0, 0.25, 0.5, 0.25]
    return (
        Picture(
            names=("variance_ratio",),
            sees=(_shares(_spread, "crowded in the middle", [0.2] * 5, [0, 0.2, 0.6, 0.2, 0]),),
            misses=(_shares(_spread, "two steps higher", low, high),),
        ),
        Picture(
            names=("entropy_ratio",),
            sees=(_shares(_entropy, "nearly all say one thing", [0.3, 0.4, 0.3], [0.02, 0.96, 0.02]),),
            misses=(_shares(_entropy, "the other way round", [0.6, 0.3, 0.1], [0.1, 0.3, 0.6]),),
        ),
    )


def _of_persons() -> tuple[Picture, ...]:
    own, anybody = np.full((3, 3), 1.0) + 7 * np.eye(3), np.full((3, 3), 1.0)
    near, far = np.zeros((5, 5)), np.zeros((5, 5))
    for at in range(5):
        near[at, at] = far[at, at] = 2
        near[at, at + 1 if at < 4 else at - 1] = 3
        far[at, at + 3 if at < 2 else at - 2 if at == 2 else at - 3] = 3
    middle, told = np.zeros((5, 5)), np.zeros((5, 5))
    middle[:, 2] = 5
    for at in range(5):
        told[at, at], told[at, at + 2 if at < 3 else at - 2] = 2, 3
    exact, higher = np.zeros((5, 5)), np.zeros((5, 5))
    exact[[0, 2, 4], [0, 2, 4]], higher[[0, 2, 4], [2, 3, 4]] = 5, 5
    return (
        Picture(
            names=("accuracy",),
            sees=(_personal("accuracy", "of the person", own), _personal("accuracy", "of anybody", anybody)),
            misses=(_personal("accuracy", "a step beside", near), _personal("accuracy", "far beside", far)),
        ),
        Picture(
            names=("mad_accuracy",),
            sees=(_personal("mad_accuracy", "a step beside", near), _personal("mad_accuracy", "far beside", far)),
            misses=(
                _personal("mad_accuracy", "right in 2 of 5", told),
                _personal("mad_accuracy", "all say the middle", middle),
            ),
        ),
        Picture(
            names=("item_correlation",),
            sees=(
                _personal("item_correlation", "of the person", own),
                _personal("item_correlation", "of anybody", anybody),
            ),
            misses=(
                _personal("item_correlation", "same answers", exact),
                _personal("item_correlation", "too high, too close", higher),
            ),
        ),
        Picture(
            names=("normalised_accuracy", "normalised_mad_accuracy"),
            sees=(_retested(12, 12), _retested(12, 16)),
            misses=(_retested(12, 16), _retested(9, 12)),
        ),
    )


def _of_groups() -> tuple[Picture, ...]:
    human = np.array([[20, 40, 30, 10, 0], [0, 10, 30, 40, 20]])
    far = np.array([[80, 20, 0, 0, 0], [0, 0, 0, 20, 80]])
    wide = np.array([[40, 40, 20, 0, 0], [0, 0, 20, 40, 40]])
    lower = np.array([[20, 50, 30, 0, 0], [0, 20, 50, 30, 0]])
    higher = np.roll(lower, 1, axis=1)
    three = np.array([[30, 40, 30, 0, 0], [15, 35, 35, 15, 0], [0, 30, 40, 30, 0]])
    doubled = np.array([[70, 30, 0, 0, 0], [0, 30, 40, 30, 0], [0, 0, 0, 30, 70]])
    return (
        Picture(
            names=("explained",),
            sees=(
                _grouped(_explained, "as the humans", human, human),
                _grouped(_explained, "groups made to types", human, far),
            ),
            misses=(_grouped(_explained, "groups exchanged", human, human[::-1]),),
        ),
        Picture(
            names=("group_gaps",),
            sees=(_grouped(_gaps, "groups too far apart", human, wide),),
            misses=(_grouped(_gaps, "all a step higher", lower, higher),),
        ),
        Picture(
            names=("coefficients",),
            sees=(_grouped(_coefficients, "the order turned round", three, three[::-1]),),
            misses=(_grouped(_coefficients, "gaps too large", three, doubled),),
        ),
    )


def main() -> None:
    """Write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--text", action="store_true", help="print the lines of the page instead")
    given = parser.parse_args()
    for picture in pictures():
        if given.text:
            print(picture.text)
        else:
            write_file(given.out / picture.file, picture.png())


if __name__ == "__main__":
    main()
