"""Rows as readers give them, and what all readers share.

Readers stream: of a text file they hold a line, or a sentence, at a time. Whatever cannot be read
costs its own row, which is told with its file and line.
"""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.core.config import nearest
from pipeline.core.errors import UserError
from pipeline.core.text import excerpt

LARGEST_ROW = 10_000_000  # characters of one field or line: beyond it a file is taken for broken
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
Format = Literal["conll", "conll_documents", "squad", "word_tags", "lines", "documents", "parallel"]


@dataclass(frozen=True)
class Row:
    """One row as it stands in its source; `fields` maps column to value, "" where it is empty."""

    file: str
    number: int
    fields: Mapping[str, str]


@dataclass(frozen=True)
class Reject:
    """One row that cannot be read, and why."""

    file: str
    number: int
    reason: str
    excerpt: str = ""


@dataclass(frozen=True)
class Layout:
    """What a file does not say of itself."""

    format: Format | None = None
    """None goes by the extension."""
    header: tuple[str, ...] | None = None
    """Column names of a CSV or TSV file without a header line."""
    quotes: bool = True
    """Whether quotes enclose the fields of a CSV or TSV file."""


def readable(name: str) -> str:
    """A file's name or path, with replacement characters for bytes that are not UTF-8."""
    return os.fsencode(name).decode("utf-8", "replace")


def read_lines(path: Path, shown: str) -> Iterator[tuple[int, str | Reject]]:
    """Every line of a UTF-8 file with its number, without its end."""
    with path.open("rb") as file:
        number = 0
        while line := file.readline(LARGEST_ROW + 1):
            number += 1
            if len(line) > LARGEST_ROW:
                while line and not line.endswith(b"\n"):
                    line = file.readline(LARGEST_ROW)
                yield number, Reject(shown, number, f"longer than {LARGEST_ROW:,} bytes")
                continue
            content = line.removeprefix(BYTE_ORDER_MARK) if number == 1 else line
            try:
                yield number, content.decode().rstrip("\r\n")
            except UnicodeDecodeError as error:
                yield number, undecodable(shown, number, error, content)


def checked(file: str, number: int, fields: Mapping[str, object]) -> Row | Reject:
    """A row whose every cell is text that can be written as UTF-8."""
    try:
        texts = {str(name): _as_text(value) for name, value in fields.items()}
        "".join(texts.values()).encode()
    except (UnicodeEncodeError, UnicodeDecodeError) as error:
        return Reject(file, number, f"is not Unicode text ({error.reason})")
    except RecursionError:
        return Reject(file, number, "is nested too deeply")
    return Row(file, number, texts)


def _as_text(value: object) -> str:
    """A cell as text: nothing stays empty, which pandas writes as NaN; numbers, lists and truth
    values as JSON writes them."""
    if value is None or value != value:
        return ""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, bool | int | float | list | dict):
        return as_json(value)
    return str(value)


def as_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def undecodable(file: str, number: int, error: UnicodeDecodeError, content: bytes) -> Reject:
    reason = f"is not UTF-8 (byte 0x{error.object[error.start]:02x} at offset {error.start})"
    return Reject(file, number, reason, excerpt(content[:4096].decode("utf-8", "replace")))


def require(columns: tuple[str, ...], present: tuple[str, ...], where: str, what: str) -> None:
    """Raises UserError for the first of `columns` that is not present."""
    for column in columns:
        if column not in present:
            hint = nearest(column, present)
            raise UserError(f"{where}: no column {column!r}: {what} {', '.join(present)}{hint}")
