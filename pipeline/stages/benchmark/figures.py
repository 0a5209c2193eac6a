"""Figures of a benchmark."""

from pathlib import Path

from pipeline.core.records import Ladder
from pipeline.plots import png
from pipeline.plots.palette import BLUE, ORANGE


def ladder(record: Ladder, path: Path) -> None:
    """Latency of each rung at batch 1, with what it costs in answers."""
    figure, axes = png.new(7, 1.2 + 0.6 * len(record.rungs))
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
    png.save(figure, path)
