"""Rows to forget: find them in a file, and rewrite the file without them.

A row is found by its id (the head of the SHA-256 of its text) and by its phrase: the longest run of
plain words in the beginning of its text that no other row holds. Such a phrase is the same in CSV,
JSON and HTML, whatever their quoting. Tables are searched decoded, all other files as bytes.
"""

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.core.errors import UserError
from pipeline.core.files import parquet_batches
from pipeline.core.text import ID_WIDTH, content_id, join_texts
from pipeline.sources import LARGEST_ROW

if TYPE_CHECKING:
    import pyarrow as pa

IDENTITY = re.compile(rf"([0-9a-f]{{{ID_WIDTH}}})(-\d+)?")
PLAIN = re.compile(r"[\w,.;:!?()-]+(?: [\w,.;:!?()-]+)*")
HEAD = 79  # characters in which the phrase lies: the shortest excerpt that the pipeline writes
FEWEST_BYTES = 12  # of a phrase: shorter ones occur everywhere
PARQUET, ARROW = b"PAR1", b"\xff\xff\xff\xff"
BLOCK = 1 << 24  # bytes read at once


def read_ids(path: Path) -> set[str]:
    """Return the row ids of a file, one per line, without the number that distinguishes copies.

    Raises UserError for a line that is not an id.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path}: cannot be read ({error}): give a file with one id a line"
        ) from None
    found = set()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        if not (match := IDENTITY.fullmatch(line.strip())):
            raise UserError(
                f"{path}, line {number}: {line.strip()[:60]!r} is not a row id: take ids from the"
                " column `id` of data/<recipe>/ingest/rows.parquet"
            )
        found.add(match[1])
    if not found:
        raise UserError(f"{path}: holds no id: write one id per line")
    return found


@dataclass(frozen=True)
class Forgotten:
    ids: frozenset[str]
    needles: tuple[bytes, ...]
    """Ids and phrases; a file that holds one of the rows holds one of these."""
    wordless: int = 0
    """Number of rows without a phrase of their own, which are found only by their ids."""

    @classmethod
    def of(cls, ids: Iterable[str], texts: Iterable[str], others: Iterable[str]) -> "Forgotten":
        """Create it from ids and texts; `others` are the texts that stay."""
        names = frozenset(ids)
        rest = "\n".join(" ".join(text.split()) for text in others)
        phrases: set[bytes] = set()
        wordless = 0
        for text in texts:
            if phrase := _phrase(text, rest):
                phrases |= {phrase.encode(), json.dumps(phrase)[1:-1].encode()}
            else:
                wordless += 1
        return cls(names, (*(name.encode() for name in sorted(names)), *sorted(phrases)), wordless)

    def names(self, identity: object) -> bool:
        return str(identity).partition("-")[0] in self.ids

    def in_bytes(self, content: bytes) -> bool:
        return any(needle in content for needle in self.needles)

    def in_file(self, path: Path) -> bool:
        """True if a file holds one of the rows, or is a table that cannot be read."""
        with path.open("rb") as file:
            start = file.read(8)
        if start[:4] in (PARQUET, ARROW):
            import pyarrow as pa

            try:
                return any(self.in_bytes(strings) for strings in _strings(path))
            except (pa.ArrowException, OSError, ValueError):
                return True
        return self._in_raw(path)

    def _in_raw(self, path: Path) -> bool:
        overlap = max(len(needle) for needle in self.needles)
        tail = b""
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                if self.in_bytes(tail + block):
                    return True
                tail = block[-overlap:]
        return False

    def cut(self, name: str, content: bytes) -> bytes | None:
        """Return the content of a file without the rows; None if they cannot be cut out of it."""
        suffix = Path(name).suffix
        if suffix == ".parquet":
            return self._cut_table(content)
        if suffix == ".csv":
            left = b"".join(part for _, part in records(content) if not self.in_bytes(part))
        elif suffix == ".json":
            pruned = self._pruned(json.loads(content))
            left = (json.dumps(pruned, indent=2, ensure_ascii=False) + "\n").encode()
        else:
            return None
        return None if self.in_bytes(left) else left

    def _pruned(self, content: Any) -> Any:
        if isinstance(content, list):
            return [self._pruned(c) for c in content if not (isinstance(c, str) and self.names(c))]
        if isinstance(content, dict):
            return {name: self._pruned(value) for name, value in content.items()}
        return content

    def _cut_table(self, content: bytes) -> bytes:
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pq.read_table(io.BytesIO(content))
        rows = [not self.in_bytes(_joined(row.values())) for row in table.to_pylist()]
        sink = io.BytesIO()
        pq.write_table(table.filter(pa.array(rows, pa.bool_())), sink)
        return sink.getvalue()


def _phrase(text: str, rest: str) -> str | None:
    """Return the longest run of plain words in the beginning of a text that is not in `rest`."""
    for phrase in sorted(PLAIN.findall(text[:HEAD]), key=len, reverse=True):
        if len(phrase.encode()) < FEWEST_BYTES:
            return None
        if phrase not in rest:
            return str(phrase)
    return None


def records(content: bytes, delimiter: str = ",") -> Iterator[tuple[int, bytes]]:
    """Yield the records of a CSV file: the number of the first line and the unchanged bytes.

    The numbers are those of `read_rows`. A record that cannot be parsed ends where the parser
    stops.
    """
    csv.field_size_limit(LARGEST_ROW)
    text = content.decode("utf-8", "surrogateescape")
    lines = list(io.StringIO(text, newline=""))
    parsed = [line.removeprefix("\ufeff") if n == 0 else line for n, line in enumerate(lines)]
    reader = csv.reader(parsed, delimiter=delimiter, strict=True)
    while (start := reader.line_num) < len(lines):
        try:
            next(reader)
        except csv.Error:
            pass
        except StopIteration:
            return
        part = "".join(lines[start : reader.line_num])
        yield start + 1, part.encode("utf-8", "surrogateescape")


def texts_of(path: Path) -> dict[str, str]:
    """Return the texts of a table of rows by id; none if the file is not a readable table."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with path.open("rb") as file:
        if file.read(4) != PARQUET:
            return {}
    try:
        names = pq.read_schema(path).names
        if "id" not in names:
            return {}
        columns = [name for name in ("id", "text", "second") if name in names]
        rows = pq.read_table(path, columns=columns).to_pylist()
    except (pa.ArrowException, OSError):
        return {}
    found = {}
    for row in rows:
        name, text = str(row["id"]).partition("-")[0], str(row.get("text", ""))
        # the id may be that of the first text alone
        found[name] = (
            text if content_id(text) == name else join_texts(text, row.get("second") or "")
        )
    return found


def _strings(path: Path) -> Iterator[bytes]:
    """Yield the strings of a Parquet file or Arrow stream, one column of a batch at a time."""
    for batch in _batches(path):
        for column in batch.columns:
            if _is_text(column.type):
                yield _joined(column.to_pylist())


def _batches(path: Path) -> Iterator["pa.RecordBatch"]:
    import pyarrow as pa

    with path.open("rb") as file:
        if file.read(4) == PARQUET:
            yield from parquet_batches(path)
        else:
            file.seek(0)
            with pa.ipc.open_stream(file) as stream:
                yield from stream


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    return bool(
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_dictionary(kind)
        or pa.types.is_nested(kind)
    ) and not (pa.types.is_list(kind) and pa.types.is_primitive(kind.value_type))


def _joined(values: Iterable[object]) -> bytes:
    parts = (v if isinstance(v, bytes) else str(v).encode("utf-8", "replace") for v in values)
    return b"\n".join(parts)
