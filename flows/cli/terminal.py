"""Tables for a terminal; a pipe gets plain lines instead."""

import io
import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType


def prepare() -> None:
    """Make standard output write characters that its encoding lacks as escapes, such as \\u4e2d."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def as_json(content: object, indent: int | None = None) -> str:
    """Return JSON whose characters the encoding of standard output has."""
    plain = not (sys.stdout.encoding or "").lower().replace("-", "").startswith("utf")
    return json.dumps(content, ensure_ascii=plain, indent=indent, default=str)


def watched() -> bool:
    """True if standard output is a terminal that supports colours."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def table(rows: Sequence[Mapping[str, str]], numbers: Sequence[str] = ()) -> list[str]:
    """Return the lines of a table of rows with the same keys, which are its header; the columns of
    `numbers` are aligned to the right."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=SIMPLE_HEAD, header_style="bold", show_edge=False, pad_edge=False)
    for name in rows[0]:
        drawn.add_column(Text(name), justify="right" if name in numbers else "left")
    for row in rows:
        drawn.add_row(*map(Text, row.values()))
    return _lines(drawn)


def facts(named: Sequence[tuple[str, str]]) -> list[str]:
    """Return the lines of a table of names and facts."""
    from rich.table import Table
    from rich.text import Text

    drawn = Table.grid(padding=(0, 2, 0, 0))
    drawn.add_column(style="bold")
    for name, fact in named:
        drawn.add_row(Text(name), Text(fact))
    return _lines(drawn)


def _lines(drawn: "RenderableType") -> list[str]:
    from rich.console import Console

    console = Console()
    with console.capture() as captured:
        console.print(drawn)
    return [line.rstrip() for line in captured.get().splitlines()]
