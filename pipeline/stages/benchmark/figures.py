"""Figures of a benchmark."""

from pathlib import Path

from pipeline.core.records import Benchmark
from pipeline.plots import png
from pipeline.plots.palette import BLUE, ORANGE


def runtimes(record: Benchmark, path: Path) -> None:
    """Draw the latency of each candidate at batch 1, with its share of changed answers."""
    figure, axes = png.new(7, 1.2 + 0.6 * len(record.candidates))
    names = [candidate.name for candidate in record.candidates]
    times = [candidate.single.p50_ms for candidate in record.candidates]
    colours = [
        ORANGE if candidate.name == record.picked else BLUE for candidate in record.candidates
    ]
    axes.barh(names, times, color=colours)
    for place, candidate in enumerate(record.candidates):
        size, flips = candidate.bytes / 1e6, candidate.test_flips
        note = f" {candidate.speedup:.1f}×, {size:.0f} MB, {flips:.1%} flips"
        axes.text(times[place], place, note, va="center")
    axes.set_xlim(0, max(times) * 1.5)
    axes.invert_yaxis()
    axes.set(xlabel="ms a text (median, batch 1, real lengths)")
    axes.set_title(f"Runtimes on this machine; picked: {record.picked}")
    png.save(figure, path)
