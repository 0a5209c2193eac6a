"""Figures of a verdict and of the ledger."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from pipeline.metrics import names as words
from pipeline.plots import png
from pipeline.plots.palette import BLUE, GREY, ORANGE
from pipeline.registry.records import Reign, Verdict


def verdict(judged: Verdict) -> bytes:
    """Draw a verdict as PNG: for each metric the difference to the champion with its 95 % interval,
    the line that it had to pass, and the detectable difference."""
    rows = judged.comparisons
    margin = -float(str(judged.rule.get("margin", 0)))
    figure, axes = png.new(7, 1.6 + 0.6 * len(rows))
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
    return png.encoded(figure)


def history(reigns: Sequence[Reign], path: Path) -> None:
    """Draw when each version was the champion, one bar per reign."""
    versions = sorted({reign.version for reign in reigns}, key=int)
    ends = [datetime.fromisoformat(reign.until) for reign in reigns if reign.until]
    starts = [datetime.fromisoformat(reign.since) for reign in reigns]
    now = max([*starts, *ends, datetime.now(UTC)])
    figure, axes = png.new(8, 1.4 + 0.45 * len(versions))
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
    png.save(figure, path)
