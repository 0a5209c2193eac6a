"""Matplotlib: the charts of the report.

Each function returns one `<svg>` element for use inside HTML (see pipeline/plots/svg.py).
"""

import textwrap
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import hsv_to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipeline.core.records import Benchmark, Interval
from pipeline.metrics import names as words
from pipeline.plots import svg
from pipeline.plots.palette import ACCENT, INK, QUIET, SECOND

if TYPE_CHECKING:
    from pipeline.registry.records import Comparison

MOST_POINTS = 800  # of a curve
MOST_NAMED = 15  # classes
GOLDEN = 0.618034  # multiples of this turn spread any number of hues evenly
FAR = 0.2  # scores below the model's by more than this share of it are named at the edge, not drawn
COLOURS, MARKERS = (ACCENT, SECOND, INK, QUIET), "os^D"  # of metrics, in turn


def _legend(figure: Figure, columns: int = 3) -> None:
    figure.legend(loc="outside lower center", ncols=columns, handlelength=1.4, columnspacing=1.4)


def _name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Name the rows of a chart, the first on top."""
    lines = [textwrap.wrap(name, 22, max_lines=2, placeholder="…") or [""] for name in names]
    axes.set_yticks(range(len(names)), ["\n".join(wrapped) for wrapped in lines])
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")


def _whisker(axes: Axes, place: float, interval: Interval, colour: str, label: str = "") -> None:
    axes.plot([interval.low, interval.high], [place, place], color=colour, lw=2)
    axes.plot([interval.value], [place], "o", color=colour, ms=6, label=label or "_")


def _thinned(points: Sequence[float]) -> Sequence[float]:
    return points[:: max(1, len(points) // MOST_POINTS)]


@svg.drawn
def lengths(starts: Sequence[int], texts: Sequence[int], maximum: int, what: str) -> Figure:
    """Draw a histogram of token counts: bars from `starts` on, and a line at `maximum` that `what`
    describes."""
    figure, axes = svg.new(220)
    width = starts[1] - starts[0] if len(starts) > 1 else 1
    axes.bar(starts, texts, width=0.92 * width, align="edge", color=ACCENT)
    axes.axvline(maximum, color=SECOND, lw=1.5, label=f"{what} {maximum:,} tokens")
    axes.grid(visible=False, axis="x")
    axes.set(xlabel="tokens of a text", ylabel="texts", xlim=(0, max(starts[-1] + width, maximum)))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.legend(loc="upper right")
    return figure


@svg.drawn
def loss(
    training: tuple[Sequence[float], Sequence[float]],
    validation: tuple[Sequence[float], Sequence[float]],
    best_step: int,
) -> Figure:
    """Draw the loss over steps, each as (steps, losses), and the step whose weights were kept."""
    figure, axes = svg.new(240)
    steps, losses = training
    axes.plot(_thinned(steps), _thinned(losses), color=ACCENT, lw=1, alpha=0.6, label="training")
    axes.plot(*validation, color=SECOND, marker="o", ms=5, label="validation")
    axes.axvline(best_step, color=QUIET, lw=1, ls=":", label=f"kept: step {best_step:,}")
    axes.set(xlabel="step", ylabel="loss", ylim=(0, None), xlim=(0, None))
    _legend(figure)
    return figure


@svg.drawn
def progress(steps: Sequence[float], curves: Mapping[str, Sequence[float]]) -> Figure:
    """Draw validation scores over steps, one curve per metric."""
    figure, axes = svg.new(240)
    styles = zip(cycle(COLOURS), cycle(MARKERS), curves.items(), strict=False)
    for colour, marker, (name, values) in styles:
        axes.plot(steps, values, color=colour, marker=marker, ms=5, label=words.metric(name))
    axes.set(xlabel="step", ylabel="on validation rows", xlim=(0, None))
    low, high = axes.get_ylim()
    below_zero = any(value < 0 for values in curves.values() for value in values)
    axes.set_ylim(low - 0.02 if below_zero else max(0, low - 0.02), min(1.005, high + 0.02))
    _legend(figure, columns=2 if len(curves) == 4 else 3)
    return figure


@svg.drawn
def scores(rows: Sequence[tuple[str, Mapping[str, Interval]]]) -> Figure:
    """Draw the metrics of the model (first row) and of others; scores far below the model's are
    named at the edge."""
    metrics = list(rows[0][1])
    figure, axes = svg.new(80 + (14 + 16 * len(metrics)) * len(rows))
    least = min(each.value for each in rows[0][1].values())
    floor = least - FAR * abs(least)
    near = [each for _, row in rows for each in row.values() if each.value >= floor]
    low, high = min(each.low for each in near), max(each.high for each in near)
    pad = max(0.06 * (high - low), 0.004)
    axes.set_xlim(low - pad, high + pad)
    apart = 16 / (14 + 16 * len(metrics))
    for place, (_, row) in enumerate(rows):
        for number, (metric, colour) in enumerate(zip(metrics, cycle(COLOURS), strict=False)):
            each, name = row[metric], words.metric(metric)
            height = place + apart * (number - (len(metrics) - 1) / 2)
            if each.value >= floor:
                _whisker(axes, height, each, colour, "" if place else name)
            else:
                axes.text(low - pad, height, f" ◂ {name} {each.value:.3f}", va="center")
    _name_rows(axes, [name for name, _ in rows])
    axes.set(xlabel="on test rows, with 95 % intervals")
    _legend(figure, columns=2 if len(metrics) == 4 else 3)
    return figure


@svg.drawn
def slices(rows: Sequence[tuple[str, Interval]], overall: float, metric: str) -> Figure:
    """Draw a metric of each slice and, as a line, of all test rows."""
    figure, axes = svg.new(70 + 36 * len(rows))
    axes.axvline(overall, color=QUIET, lw=1, ls=":", label=f"all test rows: {overall:.4f}")
    for place, (_, score) in enumerate(rows):
        _whisker(axes, place, score, ACCENT)
    _name_rows(axes, [name for name, _ in rows])
    axes.set(xlabel=f"{words.metric(metric)}, with 95 % intervals")
    _legend(figure)
    return figure


@svg.drawn
def calibration(
    confidence: Sequence[float], right: Sequence[float], rows: Sequence[float]
) -> Figure:
    """Draw the share of right answers against mean confidence, one dot per bin.

    The area of a dot is the number of rows.
    """
    figure, axes = svg.new(300)
    axes.plot([0, 1], [0, 1], color=QUIET, lw=1, ls=":", label="as sure as right")
    sizes = 18 + 320 * np.asarray(rows) / max(rows)
    axes.scatter(confidence, right, s=sizes, color=ACCENT, alpha=0.75, linewidths=0)
    axes.set(xlim=(-0.03, 1.05), ylim=(-0.04, 1.06), xlabel="confidence", ylabel="right answers")
    axes.legend(loc="upper left")
    return figure


@svg.drawn
def confusion(counts: Sequence[Sequence[int]]) -> Figure:
    """Draw the share of each true class (row) with each answer (column), for many classes.

    Each cell is one pixel, so the size of the file does not grow with the number of mistakes.
    """
    figure, axes = svg.new(400)
    matrix = np.asarray(counts, dtype=float)
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    pixels = np.empty((*share.shape, 4))
    pixels[..., :3] = (0.30, 0.52, 0.80)  # a blue that is visible on white and on black
    pixels[..., 3] = np.sqrt(share)  # the root makes rare confusions visible
    axes.imshow(pixels, interpolation="none")
    axes.grid(visible=False)
    axes.set(xlabel="answer (number of its name)", ylabel="truth (number of its name)")
    return figure


def _colour(number: int) -> tuple[float, float, float]:
    """Return the colour of a class, far from those of the numbers near."""
    red, green, blue = hsv_to_rgb((number * GOLDEN % 1, 0.65, 0.75))
    return red, green, blue


@svg.drawn
def space(
    across: Sequence[float], up: Sequence[float], classes: Sequence[str], right: Sequence[bool]
) -> Figure:
    """Draw texts in a plane as dots in the colour of their class, with a cross on wrong answers.

    If there are few classes, the name of each is in the middle of its dots.
    """
    figure, axes = svg.new(400)
    x, y, own, wrong = np.asarray(across), np.asarray(up), np.asarray(classes), ~np.asarray(right)
    names, number = np.unique(own, return_inverse=True)
    if len(names) > MOST_NAMED:
        axes.scatter(x, y, s=9, c=[_colour(each) for each in number], linewidths=0)
    for place, name in enumerate(names if len(names) <= MOST_NAMED else ()):
        mine = number == place
        axes.scatter(x[mine], y[mine], s=9, color=_colour(place), linewidths=0)
        axes.text(np.median(x[mine]), np.median(y[mine]), name, ha="center", va="center")
    axes.scatter(x[wrong], y[wrong], s=16, color=INK, marker="x", lw=0.8, label="answered wrongly")
    axes.grid(visible=False)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    if wrong.any():
        _legend(figure)
    return figure


@svg.drawn
def runtimes(record: Benchmark) -> Figure:
    """Draw the latency of each runtime at batch 1; the picked one is highlighted."""
    figure, axes = svg.new(56 + 38 * len(record.candidates))
    times = [candidate.single.p50_ms for candidate in record.candidates]
    for place, candidate in enumerate(record.candidates):
        picked = candidate.name == record.picked
        colour, alpha = (ACCENT, 1.0) if picked else (QUIET, 0.45)
        axes.barh(place, times[place], height=0.62, color=colour, alpha=alpha)
        note = f"{times[place]:.1f} ms, {candidate.speedup:.2f} ×"
        axes.text(times[place] + 0.015 * max(times), place, note, va="center")
    _name_rows(axes, [candidate.name for candidate in record.candidates])
    axes.set(xlim=(0, 1.42 * max(times)), xlabel="ms a text: median, batch 1, real lengths")
    return figure


@svg.drawn
def comparison(comparisons: Sequence["Comparison"], margin: float) -> Figure:
    """Draw challenger minus champion in percentage points: intervals, the line of no difference,
    the margin, and the detectable difference."""
    figure, axes = svg.new(104 + 46 * len(comparisons))
    axes.axvline(0, color=INK, lw=1.2, label="no difference")
    if margin:
        axes.axvline(-100 * margin, color=SECOND, lw=1.2, ls="--", label="margin")
    for place, each in enumerate(comparisons):
        ends = {name: 100 * value for name, value in each.difference.model_dump().items()}
        _whisker(axes, place, Interval(**ends), ACCENT, "" if place else "difference, 95 %")
        axes.plot(
            [100 * each.detectable], [place], "|", color=SECOND, ms=18, mew=2,
            label="_" if place else "seen 8 times in 10",
        )  # fmt: skip
    _name_rows(axes, [words.metric(each.metric) for each in comparisons])
    axes.margins(x=0.08)
    axes.set(xlabel="challenger minus champion, percentage points")
    _legend(figure, columns=2)
    return figure
