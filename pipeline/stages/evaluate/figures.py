"""Figures of an evaluation."""

import csv
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pipeline.core.text import excerpt
from pipeline.metrics import names as words
from pipeline.plots import png
from pipeline.plots.palette import BLUE, GREY, ORANGE

MOST_CONFUSED = 80  # names in a picture of confusions; the rest is one name
LONGEST_NAME = 40  # characters


def confusion(confusions: Mapping[str, Mapping[str, int]], path: Path) -> None:
    """Draw the counts of each answer for each truth, shaded by the share of the true class; of many
    classes the most confused ones."""
    found, counts = words.confusion(confusions, most=MOST_CONFUSED)
    names = [excerpt(words.confused(name), LONGEST_NAME) for name in found]
    matrix = np.asarray(counts)
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    side = max(4.5, 0.45 * len(names) + 2.5)
    figure, axes = png.new(side + 1, side)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="answer", ylabel="truth", title="Confusion on the test rows")
    if len(names) <= png.MOST_NAMES:
        for (i, j), count in np.ndenumerate(matrix):
            colour = "white" if share[i, j] > 0.5 else "black"
            axes.text(j, i, f"{count}", ha="center", va="center", color=colour)
    png.save(figure, path)


def calibration(bins: Path, path: Path) -> None:
    """Draw the share of right answers over confidence: a dot for each bin, its area the rows."""
    table = _columns(bins)
    figure, axes = png.new()
    axes.plot([0, 1], [0, 1], color=GREY, lw=1, ls="--", label="perfectly calibrated")
    sizes = 20 + 400 * np.asarray(table["rows"]) / max(table["rows"])
    axes.scatter(table["confidence"], table["accuracy"], s=sizes, color=BLUE, alpha=0.8)
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="confidence", ylabel="right answers")
    axes.set_title("Calibration on the test rows (area: rows)")
    axes.legend(loc="upper left", frameon=False)
    png.save(figure, path)


def roc(points: Path, path: Path) -> None:
    """Draw the ROC curve of each class against the rest."""
    curves: dict[str, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    with points.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            curves[row["class"]][0].append(float(row["fpr"]))
            curves[row["class"]][1].append(float(row["tpr"]))
    figure, axes = png.new()
    axes.plot([0, 1], [0, 1], color=GREY, lw=1, ls="--")
    for label, (false, true) in curves.items():
        axes.plot(false, true, label=label)
    axes.set(xlabel="false positive rate", ylabel="true positive rate", title="ROC, test rows")
    if len(curves) <= png.MOST_NAMES:
        axes.legend(loc="lower right", frameon=False)
    png.save(figure, path)


def curves(training: Path, validation: Path, path: Path) -> None:
    """Draw training loss, validation loss and the first validation metric over steps; nothing for a
    model that was trained elsewhere."""
    train, valid = _columns(training), _columns(validation)
    if not valid:
        return
    figure, axes = png.new()
    axes.plot(train["step"], train["loss"], color=BLUE, lw=1, label="training loss")
    axes.plot(valid["step"], valid["loss"], color=BLUE, marker="o", label="validation loss")
    axes.set(xlabel="step", ylabel="loss", title="Training", ylim=(0, None))
    metric = next(name for name in valid if name not in ("step", "loss"))
    name = words.metric(metric)
    right = axes.twinx()
    right.plot(valid["step"], valid[metric], color=ORANGE, marker="s", label=f"validation {name}")
    right.set(ylabel=name, ylim=(min(0, *valid[metric]), 1.02))
    right.spines["top"].set_visible(False)
    handles = [*axes.get_legend_handles_labels()[0], *right.get_legend_handles_labels()[0]]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    png.save(figure, path)


def _columns(path: Path) -> dict[str, list[float]]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: [float(row[name]) for row in rows] for name in (rows[0] if rows else {})}
