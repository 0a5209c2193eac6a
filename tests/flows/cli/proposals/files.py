"""Small files of rows for the tests of `bertline new`."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flows.cli.proposals.proposal import propose


def table(
    path: str, header: Sequence[str] | None, rows: Sequence[Sequence[Any]], delimiter: str = ","
) -> str:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with Path(path).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        if header:
            writer.writerow(header)
        writer.writerows(rows)
    return path


def lines(path: str, records: Sequence[dict[str, Any]]) -> str:
    Path(path).write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records))
    return path


def texts(path: str, content: str) -> str:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(content)
    return path


def found(file: str, task: str | None = None, **given: Any) -> tuple[str, dict[str, Any]]:
    proposal = propose(file, given, task)
    return proposal.task, proposal.ingest


def told(file: str, task: str | None = None, **given: Any) -> str:
    return "\n".join(propose(file, given, task).lines())
