"""Reading a source in tests."""

from pathlib import Path

from pipeline.sources import Layout, Reject, Row, read_rows

COLUMNS = ("text", "label")
PLAIN = Layout()
Rows = list[Row | Reject]


def read(path: Path, columns: tuple[str, ...] = COLUMNS, layout: Layout = PLAIN) -> Rows:
    return list(read_rows(str(path), columns, layout))


def good(rows: Rows, columns: tuple[str, ...] = COLUMNS) -> list[tuple[str, ...]]:
    return [tuple(r.fields[name] for name in columns) for r in rows if isinstance(r, Row)]


def bad(rows: Rows) -> list[tuple[int, str]]:
    return [(r.number, r.reason) for r in rows if isinstance(r, Reject)]


def write(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path
