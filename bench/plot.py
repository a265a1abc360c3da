"""Draws the figures, each as a share of its goal, with the spread of the rounds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure as Drawing

from bench.figures import Figure


def draw(figures: Sequence[Figure], path: Path) -> None:
    """Write an SVG; right of the line is better than the goal, whichever way the goal points."""
    mpl.rcParams["svg.hashsalt"] = "bench"  # the same figures give the same file
    mpl.rcParams["svg.fonttype"] = "none"
    drawing = Drawing(figsize=(9, 0.5 * len(figures) + 1.2), layout="constrained")
    axes = drawing.add_subplot()
    for row, one in enumerate(figures):
        shares = sorted(_share(one, ratio) for ratio in one.ratios)
        color = "#2a7f62" if one.reached else "#b3402a"
        axes.plot([shares[0], shares[-1]], [row, row], color=color, linewidth=6, alpha=0.35)
        axes.plot(_share(one, one.ratio), row, "o", color=color)
    axes.axvline(1.0, color="black", linewidth=1)
    axes.set_xscale("log", base=2)
    axes.set_xticks([0.25, 0.5, 1, 2, 4], ["¼", "½", "goal", "twice", "four times"])
    axes.set_yticks(range(len(figures)), [one.name for one in figures], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("better →")
    axes.spines[["top", "right", "left"]].set_visible(False)
    drawing.savefig(path, format="svg", metadata={"Date": None})


def _share(figure: Figure, ratio: float) -> float:
    return ratio / figure.goal if figure.bound == "at least" else figure.goal / ratio
