"""Rows and rejects that readers yield, and functions that all readers share.

Readers stream: they hold one line or sentence of a text file at a time. Content that cannot be read
costs only its own row, which is reported with its file and line.
"""

import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Literal

from pipeline.core.config import nearest
from pipeline.core.errors import UserError
from pipeline.core.text import excerpt

LARGEST_ROW = 10_000_000  # characters of one field or line: a longer one counts as broken
NAMED = 20  # columns that a message names
EXACT = 2**53  # from here on not every whole number is a float
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
Format = Literal[
    "conll",
    "conll_documents",
    "squad",
    "tagged_lines",
    "word_tags",
    "lines",
    "documents",
    "parallel",
    "label_studio",
    "doccano",
    "prodigy",
    "argilla",
    "tokens",
    "token_rows",
    "brat",
]


@dataclass(frozen=True)
class Row:
    """Row of a source; `fields` maps column to value, "" if it is empty."""

    file: str
    number: int
    fields: Mapping[str, str]


@dataclass(frozen=True)
class Reject:
    """Row that cannot be read, with the reason."""

    file: str
    number: int
    reason: str
    excerpt: str = ""


@dataclass(frozen=True)
class Layout:
    """Format settings that a file itself does not hold."""

    format: Format | None = None
    """Name of the format; None takes it from the file extension."""
    header: tuple[str, ...] | None = None
    """Column names of a CSV or TSV file without a header line."""
    quotes: bool = True
    """True if quotes enclose fields of a CSV or TSV file."""
    encoding: str = "utf-8"
    """Character encoding of text files."""
    delimiter: str | None = None
    """Character between the fields of a CSV or TSV file; None finds it."""
    utf16: bool = False
    """True if positions count UTF-16 code units."""
    tags: tuple[str, ...] = ()
    """Names of the numbers of tags, in the format `tokens`."""


PLAIN = Layout()


def readable(name: str) -> str:
    """Return a file name or path with replacement characters for bytes that are not UTF-8."""
    return os.fsencode(name).decode("utf-8", "replace")


def read_lines(path: Path, shown: str) -> Iterator[tuple[int, str | Reject]]:
    """Yield every line of a UTF-8 file with its number, without the line end."""
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
    """Return a row with all cells as text, or a `Reject` if one cannot be written as UTF-8."""
    try:
        texts = {str(name): as_text(value) for name, value in fields.items()}
        "".join(texts.values()).encode()
    except (UnicodeEncodeError, UnicodeDecodeError) as error:
        return Reject(file, number, f"is not Unicode text ({error.reason})")
    except RecursionError:
        return Reject(file, number, "is nested too deeply")
    return Row(file, number, texts)


def as_text(value: object) -> str:
    """Return a cell as text: "" for None and NaN; numbers, lists, dicts and bools as JSON.

    A whole number has no decimal places, so that 1, 1.0 and the decimal 1.00 are one class, also in
    different files. Raises UnicodeDecodeError for bytes that are not UTF-8.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, Decimal) and value.is_finite() and value != value.to_integral_value():
        return f"{value:f}"  # exact
    plain = _plain(value)
    if plain is None:
        return ""
    return plain if isinstance(plain, str) else as_json(plain)


def _plain(value: object) -> object:
    """Return a value, also inside of lists and dicts, as JSON can hold it."""
    if isinstance(value, float | Decimal):
        number = float(value)
        if math.isnan(number):
            return None
        return int(number) if number.is_integer() and abs(number) < EXACT else number
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, dict):
        return {str(name): _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else str(value)


def as_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def undecodable(
    file: str, number: int, error: UnicodeDecodeError, content: bytes, encoding: str = "utf-8"
) -> Reject:
    byte = error.object[error.start]
    reason = f"is not {encoding.upper()} (byte 0x{byte:02x} at offset {error.start})"
    return Reject(file, number, reason, excerpt(content[:4096].decode(encoding, "replace")))


def require(columns: tuple[str, ...], present: tuple[str, ...], where: str, what: str) -> None:
    """Raise UserError for the first of `columns` that is not present."""
    for column in columns:
        if column not in present:
            names = ", ".join(excerpt(name, 40) for name in present[:NAMED])
            more = f" and {len(present) - NAMED:,} more" if len(present) > NAMED else ""
            hint = nearest(column, present) if len(present) <= NAMED else ""
            raise UserError(f"{where}: no column {column!r}: {what} {names}{more}{hint}")
