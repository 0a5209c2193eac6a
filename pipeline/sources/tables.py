"""Readers of tables: CSV and TSV, JSON Lines, Parquet."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from pipeline.core.errors import UserError
from pipeline.core.files import parquet_batches
from pipeline.core.text import excerpt
from pipeline.sources.rows import (
    LARGEST_ROW,
    Reject,
    Row,
    checked,
    read_lines,
    require,
    undecodable,
)

PLAIN_QUOTES = "set ingest.quotes to false where a quote is a character like any other"


def read_csv(
    path: Path,
    shown: str,
    columns: tuple[str, ...],
    delimiter: str,
    names: tuple[str, ...] | None,
    quotes: bool,
) -> Iterator[Row | Reject]:
    """Yield the rows of a CSV file. `names` are the columns of a file without a header line.
    Without `quotes` a quote is a character like any other.

    If wrong quotes make a row span several lines, each of these lines is a `Reject` of its own, so
    that an open quote counts as many rejects as it hides lines.
    """
    csv.field_size_limit(LARGEST_ROW)
    # Undecodable bytes become lone surrogates, so that one bad byte costs only its row.
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        table = _CsvFile(file, shown, delimiter, quotes)
        yield from table.rows(table.header(columns, names))


class _CsvFile:
    """Open CSV file, read from its first line to its last."""

    def __init__(self, file: TextIO, shown: str, delimiter: str, quotes: bool) -> None:
        self.file, self.shown, self.delimiter, self.quotes = file, shown, delimiter, quotes
        self.quote_count = 0  # in the lines of the current row
        self.reader = csv.reader(
            self._lines(),
            delimiter=delimiter,
            quoting=csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE,
            strict=True,
        )

    def _lines(self) -> Iterator[str]:
        for text in self.file:
            self.quote_count += text.count('"')
            yield text

    def header(self, columns: tuple[str, ...], names: tuple[str, ...] | None) -> list[str]:
        """Return the names of all columns: `names`, or else those in the first line.

        Raises UserError if one of `columns` is missing or occurs twice.
        """
        try:
            header = list(names) if names else next(self.reader, [])
        except csv.Error as error:
            raise UserError(f"{self.shown}: row 1: the header cannot be read: {error}") from None
        if names:
            where, what = f"{self.shown}: ingest.header", "it names"
        else:
            where, what = f"{self.shown}: row 1", "its header names"
        require(columns, tuple(header), where, what)
        repeated = sorted({name for name in header if header.count(name) > 1} & set(columns))
        if repeated:
            raise UserError(f"{where}: the column {repeated[0]!r} is named twice: rename one")
        return header

    def rows(self, header: list[str]) -> Iterator[Row | Reject]:
        while True:
            line, self.quote_count = self.reader.line_num + 1, 0
            try:
                values = next(self.reader)
            except StopIteration:
                return
            except csv.Error as error:
                reject = Reject(self.shown, line, _csv_reason(str(error)))
                yield from _rejects(reject, self.reader.line_num)
                continue
            if not values:  # a blank line
                continue
            if broken := self._broken(line, values, len(header)):
                yield from _rejects(*broken)
            else:
                yield Row(self.shown, line, dict(zip(header, values, strict=True)))

    def _broken(self, line: int, values: list[str], fields: int) -> tuple[Reject, int] | None:
        """Return the `Reject` of a row that cannot be used and the last line that it spans."""
        text, end = self.delimiter.join(values), self.reader.line_num
        last = line if len(values) == fields else end
        if reject := _undecodable(self.shown, line, text):
            return reject, last
        if self.quotes and self.quote_count % 2:  # the csv module accepts one inside a plain field
            reason = f"its quotes do not match (it has {self.quote_count} of them): {PLAIN_QUOTES}"
            return Reject(self.shown, line, reason, excerpt(text)), end
        if len(values) != fields:
            reason = f"has {len(values)} fields where the header has {fields}"
            reason += f", over {last - line + 1} lines: {PLAIN_QUOTES}" if last > line else ""
            return Reject(self.shown, line, reason, excerpt(text)), last
        return None


def _undecodable(shown: str, line: int, text: str) -> Reject | None:
    """Return the `Reject` of a row with bytes, held as lone surrogates, that are not UTF-8."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raw = text.encode("utf-8", "surrogateescape")
        try:
            raw.decode("utf-8")
        except UnicodeDecodeError as error:
            return undecodable(shown, line, error, raw)
    return None


def _rejects(first: Reject, last: int) -> Iterator[Reject]:
    """Yield a row that cannot be read, and each line up to `last` that its quotes enclose."""
    yield first
    for line in range(first.number + 1, last + 1):
        yield Reject(first.file, line, f"is inside the quote of line {first.number}")


def _csv_reason(error: str) -> str:
    if "field limit" in error:
        size = f"{LARGEST_ROW:,} characters"
        return f"a field is longer than {size} (is a quote left open?): {PLAIN_QUOTES}"
    if "unexpected end of data" in error:
        return f"a quote that opens here is never closed: {PLAIN_QUOTES}"
    return f"its quotes do not match ({error}): {PLAIN_QUOTES}"


def read_json_lines(path: Path, shown: str, columns: tuple[str, ...]) -> Iterator[Row | Reject]:
    seen = False
    for number, line in read_lines(path, shown):
        if isinstance(line, Reject):
            yield line
            continue
        if not line.strip():
            continue
        try:
            content = json.loads(line)
        except (ValueError, RecursionError) as error:
            reason = f"is not JSON ({str(error).partition(':')[0]})"
            yield Reject(shown, number, reason, excerpt(line))
            continue
        if not isinstance(content, dict):
            yield Reject(shown, number, "is not a JSON object", excerpt(str(content)))
            continue
        if not seen:
            require(columns, tuple(content), f"{shown}: row 1", "its first row has")
            seen = True
        yield checked(shown, number, dict.fromkeys(columns, "") | content)


def read_parquet(path: Path, shown: str, columns: tuple[str, ...]) -> Iterator[Row | Reject]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        names = tuple(pq.read_schema(path).names)
        require(columns, names, f"{shown}: row 1", "its columns are")
        number = 0
        for batch in parquet_batches(path, columns=columns):
            try:
                rows = batch.to_pylist()
            except UnicodeDecodeError:  # which names no row
                rows = []
            for i in range(len(batch)):
                number += 1
                try:
                    fields = rows[i] if rows else batch.slice(i, 1).to_pylist()[0]
                except UnicodeDecodeError as error:
                    yield undecodable(shown, number, error, error.object)
                else:
                    yield checked(shown, number, fields)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{shown}: is not a whole Parquet file ({reason}): write it again"
        ) from None
