"""How a benchmark's result is written: the same numbers as JSON and as a section of Markdown."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from pipeline.files import write_json, write_text
from pipeline.records import Machine

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table: the first column to the left, all others to the right."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, rule, *rows))


def machine_text(machine: Machine) -> str:
    """What timings depend on, as one paragraph."""
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
