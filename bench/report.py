"""Helpers of all benchmarks: write results, and measure the load of other processes."""

import resource
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import psutil

from pipeline.core.files import write_json, write_text
from pipeline.core.records import Machine

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"


class Others:
    """Meter of the processor time of other processes since its creation."""

    def __init__(self) -> None:
        self.started, self.busy, self.own = time.perf_counter(), _busy(), _own()

    def share(self) -> float:
        """Return their share of all processor time, 0 to 1. Our own processes must have ended."""
        spent = (time.perf_counter() - self.started) * (psutil.cpu_count() or 1)
        return max(0.0, (_busy() - self.busy - (_own() - self.own)) / spent)


def others_text(shares: Iterable[float]) -> str:
    return f"Other processes took up to {max(shares):.0%} of the processors' time in a turn."


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table: the first column left-aligned, all others right-aligned."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, rule, *rows))


def machine_text(machine: Machine) -> str:
    """Return a paragraph about the machine and versions, on which timings depend."""
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    return (
        f"Machine: {machine.processor}, {machine.cores} cores, {machine.memory_gb:.0f} GB,"
        f" {machine.gpu or 'no GPU'}, features {', '.join(machine.features) or 'none'};"
        f" {machine.system}. Versions: {versions}."
    )


def write(out: Path, name: str, content: dict[str, object], markdown: str) -> None:
    """Write NAME.json and NAME.md under `out`, and print the Markdown."""
    write_json(out / f"{name}.json", content)
    write_text(out / f"{name}.md", markdown)
    print(f"\n{markdown}", flush=True)


def _busy() -> float:
    """Return the busy seconds of all processors, for all processes."""
    times = psutil.cpu_times()._asdict()
    waiting = ("idle", "iowait", "guest", "guest_nice")  # guests are in `user` already
    return float(sum(seconds for name, seconds in times.items() if name not in waiting))


def _own() -> float:
    """Return the processor seconds of this process and the child processes that have ended."""
    usages = [resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)
