"""Readers of JSON: an object per line, or an array of objects, whatever the file is called."""

import json
from collections.abc import Iterator
from itertools import chain, count
from pathlib import Path
from typing import Any, TextIO

from pipeline.core.errors import UserError
from pipeline.core.text import excerpt
from pipeline.sources.recognition import Record, recognise_records
from pipeline.sources.rows import (
    LARGEST_ROW,
    PLAIN,
    Layout,
    Reject,
    Row,
    checked,
    read_lines,
    require,
)
from pipeline.sources.squad import read_squad

CHUNK = 1 << 20  # characters
FIRST = 1000  # records of which one has to have a column
ARRAYS = ("data", "rows", "records", "examples")  # in a file of one object


def read_json(
    path: Path, shown: str, columns: tuple[str, ...], layout: Layout = PLAIN
) -> Iterator[Row | Reject]:
    """Yield the records of a JSON file, or the questions of a file in SQuAD's layout. What a record
    lacks is empty. Raises UserError for a column that none of the first records has."""
    if shape_of(path) == "squad":
        yield from read_squad(path, shown, columns, layout)
        return
    records = read_records(path, shown)
    first: list[tuple[int, Record | Reject]] = []
    names: dict[str, None] = {}
    for number, record in records:
        first.append((number, record))
        if isinstance(record, Reject):
            continue
        if not names:
            _check_plain(record, shown, columns)
        names |= dict.fromkeys(map(str, record))
        if {*columns} <= names.keys() or len(first) == FIRST:
            break
    if names:
        rows = "first row has" if len(first) == 1 else f"first {len(first):,} rows have"
        require(columns, tuple(names), f"{shown}: row 1", f"its {rows}")
    for number, record in chain(first, records):
        if isinstance(record, Reject):
            yield record
        else:
            yield checked(shown, number, dict.fromkeys(columns, "") | dict(record))


def _check_plain(record: Record, shown: str, columns: tuple[str, ...]) -> None:
    """Raise UserError if the first record is of an export whose labels would not be read."""
    kind = recognise_records(record)
    if kind and (not {*columns} <= record.keys() or _hides_answers(kind, columns)):
        raise UserError(f"{shown}: looks like {kind}: set ingest.format to {kind}")


def _hides_answers(kind: str, columns: tuple[str, ...]) -> bool:
    """True if labels that annotators rejected would count as labels."""
    return kind == "prodigy" and bool(columns) and "answer" not in columns


def read_records(path: Path, shown: str) -> Iterator[tuple[int, Record | Reject]]:
    """Yield the objects of a JSON file and their numbers: their line, or their place in the array,
    from 1.

    Raises UserError where an array ends too early or cannot be read on.
    """
    records = _from_lines(path, shown) if shape_of(path) == "lines" else _from_array(path, shown)
    for number, content in records:
        if isinstance(content, dict | Reject):
            yield number, content
        else:
            shown_content = excerpt(json.dumps(content, ensure_ascii=False)[:400])
            yield number, Reject(shown, number, "is not a JSON object", shown_content)


def shape_of(path: Path) -> str:
    """Return "lines", "array" or "squad" for the layout of a JSON file.

    A file that begins with a broken object counts as lines, but as SQuAD's if it ends in .json.
    """
    with _open(path) as file:
        document = _Document(file)
        begin = document.peek()
        if begin != "{":
            return "array" if begin == "[" else "lines"
        try:
            first = document.value()
            if document.peek() or not any(isinstance(first.get(name), list) for name in ARRAYS):
                is_document = path.suffix.lower() == ".json" and first.keys() == {"data"}
                return "squad" if is_document else "lines"
        except (ValueError, RecursionError):  # broken, or too long to be a row
            pass
    with _open(path) as file:
        document = _Document(file)
        try:
            if not document.enter_array():
                return "squad"
            record = document.value()
        except (ValueError, RecursionError):
            return "squad" if path.suffix.lower() == ".json" else "lines"
    is_record = isinstance(record, dict) and len(record) > 1 and "paragraphs" not in record
    return "array" if is_record else "squad"


def _from_lines(path: Path, shown: str) -> Iterator[tuple[int, Any]]:
    for number, line in read_lines(path, shown):
        if isinstance(line, Reject):
            yield number, line
        elif line.strip():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError) as error:
                reason = f"is not JSON ({str(error).partition(':')[0]})"
                yield number, Reject(shown, number, reason, excerpt(line))


def _from_array(path: Path, shown: str) -> Iterator[tuple[int, Any]]:
    with _open(path) as file:
        document, number = _Document(file), 1
        try:
            if document.peek() == "[":
                document.skip("[")
            elif not document.enter_array():
                raise ValueError("it holds no list of records")
            for number in count(1):
                if document.peek() == "]":
                    return
                if number > 1:
                    document.skip(",")
                yield number, document.value()
        except (ValueError, RecursionError) as error:
            reason = str(error).partition(":")[0]
            raise UserError(
                f"{shown}, row {number}: the array cannot be read on ({reason}): write it again"
            ) from None


def _open(path: Path) -> TextIO:
    """Open a file whose undecodable bytes become lone surrogates, which cost their row alone."""
    return path.open(encoding="utf-8-sig", errors="surrogateescape")


class _Document:
    """JSON text that is parsed value by value, so that an array can be larger than memory."""

    def __init__(self, file: TextIO) -> None:
        self.file, self.text, self.place = file, "", 0
        self.decoder = json.JSONDecoder()

    def peek(self) -> str:
        """Return the next character that is not white space; "" at the end."""
        while True:
            while self.place < len(self.text):
                if not self.text[self.place].isspace():
                    return self.text[self.place]
                self.place += 1
            if not self._read():
                return ""

    def skip(self, character: str) -> None:
        if (found := self.peek()) != character:
            raise ValueError(f"{character!r} is missing before {found!r}" if found else "it ends")
        self.place += 1

    def value(self) -> Any:
        """Parse the next value. Raises ValueError if it is no JSON."""
        self.peek()
        while True:
            try:
                value, end = self.decoder.raw_decode(self.text, self.place)
            except ValueError:
                if len(self.text) - self.place > LARGEST_ROW or not self._read():
                    raise
                continue
            if end == len(self.text) and self._read():  # a number may go on
                continue
            self.place = end
            return value

    def enter_array(self) -> bool:
        """Go behind the bracket of the first array of ARRAYS in an object; False if it has none."""
        self.skip("{")
        while self.peek() == '"':
            name = self.value()
            self.skip(":")
            if name in ARRAYS and self.peek() == "[":
                self.skip("[")
                return True
            self.value()
            if self.peek() == ",":
                self.skip(",")
        return False

    def _read(self) -> bool:
        """Append further text, at least as much as is there; False at the end of the file."""
        rest = self.text[self.place :]
        more = self.file.read(max(CHUNK, len(rest)))
        self.text, self.place = rest + more, 0
        return bool(more)
