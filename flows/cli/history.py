"""Text of `bertline history`: past champions and refused versions."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from flows.cli import terminal
from flows.summary import table
from pipeline.core.errors import UserError
from pipeline.promotion.champion import champion_of, lost, reigns
from pipeline.registry.ledger import Ledger
from pipeline.registry.records import Entry
from pipeline.registry.versions import Registry


def history(registry: Registry, model: str, picture: Path) -> str:
    """Return a table of past champions and one of refused versions; draw the first into `picture`.

    As every look at the ledger, this finishes an entry that a crash left, and records an alias that
    was moved by hand. Raises UserError if the ledger has no entries.
    """
    from pipeline.promotion import figures

    champion = champion_of(registry, model)
    entries = Ledger(registry, model).entries()
    if not entries:
        raise UserError(f"{model}: nothing has been decided yet: bertline run {model}")
    periods = reigns(entries)
    rows = [
        {
            "version": f"{model}/{reign.version}" + ("" if reign.until else "  in use"),
            "from": _clock(reign.since),
            "until": _clock(reign.until) if reign.until else "",
            "by": reign.how,
            "why": reign.reason,
        }
        for reign in periods
    ]
    used = f"{model}/{champion} is in use" if champion else "nothing is in use"
    if champion is None and periods:
        used += f": {lost(registry, model)}"
    lines = [f"{model}: {used}", ""]
    shown = terminal.table if terminal.watched() else table
    lines += shown(rows) if rows else []
    if refused := _refused(entries):
        lines += ["", "not promoted", *shown(refused)]
    if periods:
        figures.history(periods, picture)
        lines += ["", f"picture: {picture}"]
    return "\n".join(lines)


def _refused(entries: Sequence[Entry]) -> list[dict[str, str]]:
    return [
        {
            "version": f"{entry.model}/{entry.version}",
            "asked": _clock(entry.when),
            "verdict": entry.event,
            "why": entry.reason,
        }
        for entry in entries
        if not entry.moves
    ]


def _clock(when: str) -> str:
    return datetime.fromisoformat(when).strftime("%Y-%m-%d %H:%M")
