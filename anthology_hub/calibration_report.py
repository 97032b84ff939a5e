"""A calibration as one page: a self-contained HTML file, and its plots as PNG files beside it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from anthology_hub import hub
from anthology_hub.calibration import BINS, LEVEL, Calibration, TraitCalibration
from anthology_hub.report import HUMAN, SIMULATED, Plot, check_extras, picture, render

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PAGE, TEMPLATE = "calibration.html", "calibration.html.j2"
NAMES = 24
"""Characters of a level's name in a plot."""


def write_calibration(calibration: Calibration, folder: str | Path, *, intro: str = "") -> Path:
    """Write a calibration as one HTML page, with its plots as PNG files beside it.

    Args:
        calibration: From `check`.
        folder: Where to write; made if missing. Files of the same names are replaced.
        intro: What a reader must know first; shown as a notice at the top.

    Returns:
        Path of the page.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    check_extras()
    plots = {trait.trait: _plot(trait) for trait in calibration.traits}
    page = render(TEMPLATE, {"calibration": calibration, "plots": plots, "intro": intro, "bins": BINS, "level": LEVEL})
    for plot in plots.values():
        hub.write_file(Path(folder) / f"{plot.name}.png", plot.png)
    hub.write_file(Path(folder) / PAGE, page.encode())
    return Path(folder) / PAGE


def _plot(trait: TraitCalibration) -> Plot:
    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2, width_ratios=(1, 1.2))
        _reliability(left, trait)
        _confusion(right, trait)

    said = "; ".join(f"{b.n} personas at {b.confidence:.2f} confidence, {b.accuracy:.2f} accurate" for b in trait.bins)
    png = picture(max(3.2, 1.6 + 0.24 * len(trait.levels)), draw)
    return Plot(name=re.sub(r"[^\w.-]+", "-", trait.trait), png=png, alt=f"Reliability of {trait.trait}: {said}.")


def _reliability(ax: Axes, trait: TraitCalibration) -> None:
    ax.plot([0, 1], [0, 1], color=HUMAN, linewidth=1)
    sizes = [20 + 200 * b.n / trait.n for b in trait.bins]
    ax.scatter([b.confidence for b in trait.bins], [b.accuracy for b in trait.bins], sizes, color=SIMULATED, alpha=0.85)
    ax.set_xlim(0, 1.03)
    ax.set_ylim(-0.03, 1.03)
    ax.set_xlabel("confidence: probability of the most probable level")
    ax.set_ylabel("accuracy: share that is the author's level")


def _confusion(ax: Axes, trait: TraitCalibration) -> None:
    table = np.array(trait.confusion)
    # Dollar signs would be read as mathematics.
    names = [level[:NAMES].replace("$", r"\$") for level in trait.levels]
    ax.imshow(table, cmap="Blues", vmin=0, interpolation="nearest")
    ax.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
    ax.set_yticks(range(len(names)), names, fontsize=7)
    for row, column in zip(*np.nonzero(table), strict=True):
        ink = "white" if table[row, column] > 0.6 * table.max() else "black"
        ax.text(column, row, f"{table[row, column]:.3g}", ha="center", va="center", fontsize=7, color=ink)
    ax.tick_params(length=0)
    ax.set_xlabel("most probable level")
    ax.set_ylabel("author's level")
