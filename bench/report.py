"""Helpers of all benchmarks: write results, and tell the load of other processes."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from pipeline.core.files import write_json, write_text
from pipeline.core.records import Machine
from pipeline.stages.benchmark.machine import Others

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"
__all__ = ["RESULTS", "ROOT", "Others", "machine_text", "others_text", "table", "write"]


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
