"""Matplotlib: the pictures that people look at. The same numbers give the same bytes."""

import csv
import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib
import numpy as np

from pipeline.core.files import whole
from pipeline.core.records import Ladder
from pipeline.metrics import names as words

matplotlib.use("Agg")
matplotlib.rcParams["text.parse_math"] = False  # a label may hold $
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from pipeline.promotion.records import Reign, Verdict

BLUE, ORANGE, GREY = "#3465a4", "#d9822b", "#888888"
MOST_CELLS = 15  # names up to which each cell of a confusion matrix carries its number


def _new(width: float = 6, height: float = 4.5) -> tuple[Figure, Axes]:
    figure, axes = plt.subplots(figsize=(width, height), layout="constrained")
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=120, metadata={"Software": None})
    plt.close(figure)


def _columns(path: Path) -> dict[str, list[float]]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: [float(row[name]) for row in rows] for name in (rows[0] if rows else {})}


def confusion(confusions: Mapping[str, Mapping[str, int]], path: Path) -> None:
    """How often each truth got each answer, shaded by the share of the true class."""
    found, counts = words.confusion(confusions)
    names, matrix = [words.confused(name) for name in found], np.asarray(counts)
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    side = max(4.5, 0.45 * len(names) + 2.5)
    figure, axes = _new(side + 1, side)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="answer", ylabel="truth", title="Confusion on the test rows")
    if len(names) <= MOST_CELLS:
        for (i, j), count in np.ndenumerate(matrix):
            colour = "white" if share[i, j] > 0.5 else "black"
            axes.text(j, i, f"{count}", ha="center", va="center", color=colour)
    _save(figure, path)


def calibration(bins: Path, path: Path) -> None:
    """Share of right answers against confidence, a dot a bin, its area the number of rows."""
    table = _columns(bins)
    figure, axes = _new()
    axes.plot([0, 1], [0, 1], color=GREY, lw=1, ls="--", label="perfectly calibrated")
    sizes = 20 + 400 * np.asarray(table["rows"]) / max(table["rows"])
    axes.scatter(table["confidence"], table["accuracy"], s=sizes, color=BLUE, alpha=0.8)
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="confidence", ylabel="right answers")
    axes.set_title("Calibration on the test rows (area: rows)")
    axes.legend(loc="upper left", frameon=False)
    _save(figure, path)


def roc(points: Path, path: Path) -> None:
    """One class against the rest."""
    curves: dict[str, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    with points.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            curves[row["class"]][0].append(float(row["fpr"]))
            curves[row["class"]][1].append(float(row["tpr"]))
    figure, axes = _new()
    axes.plot([0, 1], [0, 1], color=GREY, lw=1, ls="--")
    for label, (false, true) in curves.items():
        axes.plot(false, true, label=label)
    axes.set(xlabel="false positive rate", ylabel="true positive rate", title="ROC, test rows")
    if len(curves) <= MOST_CELLS:
        axes.legend(loc="lower right", frameon=False)
    _save(figure, path)


def curves(training: Path, validation: Path, path: Path) -> None:
    """Loss of training and validation, and the first validation metric, over steps."""
    train, valid = _columns(training), _columns(validation)
    figure, axes = _new()
    axes.plot(train["step"], train["loss"], color=BLUE, lw=1, label="training loss")
    axes.plot(valid["step"], valid["loss"], color=BLUE, marker="o", label="validation loss")
    axes.set(xlabel="step", ylabel="loss", title="Training", ylim=(0, None))
    metric = next(name for name in valid if name not in ("step", "loss"))
    told = words.metric(metric)
    right = axes.twinx()
    right.plot(valid["step"], valid[metric], color=ORANGE, marker="s", label=f"validation {told}")
    right.set(ylabel=told, ylim=(min(0, *valid[metric]), 1.02))
    right.spines["top"].set_visible(False)
    handles = [*axes.get_legend_handles_labels()[0], *right.get_legend_handles_labels()[0]]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    _save(figure, path)


def verdict(judged: "Verdict") -> bytes:
    """PNG: the difference to the champion in each metric with its 95 % interval, the line that it
    had to pass, and the difference that could have been seen."""
    rows = judged.comparisons
    margin = -float(str(judged.rule.get("margin", 0)))
    figure, axes = _new(7, 1.6 + 0.6 * len(rows))
    for place, each in enumerate(rows):
        gap = each.difference
        axes.plot([100 * gap.low, 100 * gap.high], [place, place], color=BLUE, lw=3)
        axes.plot(100 * gap.value, place, "o", color=BLUE, ms=9)
        for side in (-1, 1):
            axes.plot(100 * side * each.detectable, place, "|", color=GREY, ms=18)
    axes.axvline(100 * margin, color=ORANGE, lw=1.5, label="what it had to pass")
    axes.plot([], [], "|", color=GREY, ms=12, label="seen 8 times in 10")
    axes.set_yticks(range(len(rows)), [words.metric(each.metric) for each in rows])
    axes.set(ylim=(len(rows) - 0.5, -0.5), xlabel="challenger minus champion, points")
    axes.set_title(f"{judged.model}/{judged.version} against {judged.champion}: {judged.decision}")
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    stream = io.BytesIO()
    figure.savefig(stream, dpi=120, metadata={"Software": None})
    plt.close(figure)
    return stream.getvalue()


def history(reigns: Sequence["Reign"], path: Path) -> None:
    """Which version was in use when, a bar a reign."""
    versions = sorted({reign.version for reign in reigns}, key=int)
    ends = [datetime.fromisoformat(reign.until) for reign in reigns if reign.until]
    starts = [datetime.fromisoformat(reign.since) for reign in reigns]
    now = max([*starts, *ends, datetime.now(UTC)])
    figure, axes = _new(8, 1.4 + 0.45 * len(versions))
    for reign, start in zip(reigns, starts, strict=True):
        end = datetime.fromisoformat(reign.until) if reign.until else now
        # matplotlib counts days from the epoch
        left, right = (moment.timestamp() / 86400 for moment in (start, end))
        place = versions.index(reign.version)
        colour = BLUE if reign.until else ORANGE
        axes.barh(place, right - left, height=0.4, left=left, color=colour)
        axes.text(left, place + 0.23, reign.how, va="bottom", fontsize=8)
    axes.set_yticks(range(len(versions)), versions)
    axes.set(ylabel="version", ylim=(-0.5, len(versions) - 0.3))
    axes.xaxis_date()
    figure.autofmt_xdate()
    axes.set_title("In use (orange: now)")
    with whole(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png", metadata={"Software": None})
    plt.close(figure)


def ladder(record: Ladder, path: Path) -> None:
    """Latency of each rung at batch 1, with what it costs in answers."""
    figure, axes = _new(7, 1.2 + 0.6 * len(record.rungs))
    names = [rung.name for rung in record.rungs]
    times = [rung.single.p50_ms for rung in record.rungs]
    colours = [ORANGE if rung.name == record.picked else BLUE for rung in record.rungs]
    axes.barh(names, times, color=colours)
    for place, rung in enumerate(record.rungs):
        note = f" {rung.speedup:.1f}×, {rung.bytes / 1e6:.0f} MB, {rung.test_flips:.1%} flips"
        axes.text(times[place], place, note, va="center")
    axes.set_xlim(0, max(times) * 1.5)
    axes.invert_yaxis()
    axes.set(xlabel="ms a text (median, batch 1, real lengths)")
    axes.set_title(f"Runtimes on this machine; picked: {record.picked}")
    _save(figure, path)
