"""Readers of tables: CSV and TSV, Parquet."""

import csv
import json
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from pipeline.core.errors import UserError
from pipeline.core.files import parquet_batches
from pipeline.core.text import excerpt
from pipeline.sources.rows import (
    LARGEST_ROW,
    PLAIN,
    Layout,
    Reject,
    Row,
    checked,
    require,
    undecodable,
)

if TYPE_CHECKING:
    import pyarrow as pa

DELIMITERS = (",", ";", "\t", "|")
HEAD = 50  # lines that are examined
LONGEST_HEADER = 100_000  # characters
PLAIN_QUOTES = "set ingest.quotes to false where a quote is a character like any other"


def read_csv(
    path: Path, shown: str, columns: tuple[str, ...], layout: Layout = PLAIN
) -> Iterator[Row | Reject]:
    """Yield the rows of a CSV file; the layout gives its delimiter, its quotes and the column names
    of a file without a header line. Without quotes a quote is a character like any other.

    If wrong quotes make a row span several lines, each of these lines is a `Reject` of its own, so
    that an open quote counts as many rejects as it hides lines.
    """
    csv.field_size_limit(LARGEST_ROW)
    named = named_delimiter(path)
    delimiter = layout.delimiter or named or usual_delimiter(path)
    # Undecodable bytes become lone surrogates, so that one bad byte costs only its row.
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        table = _CsvFile(file, shown, delimiter, layout.quotes)
        if named:
            table.skip_line()
        yield from table.rows(table.header(columns, layout.header))


def find_delimiter(path: Path, columns: tuple[str, ...], layout: Layout = PLAIN) -> str:
    """Return the delimiter of a CSV or TSV file: that of its extension, unless another character
    is the first under which the header names more of `columns`.

    Without a header line, it is the character that cuts the first lines into the right number of
    fields. A first line such as `sep=;`, which Excel reads, decides. Raises UserError if several
    characters fit.
    """
    if named := named_delimiter(path):
        return named
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        lines = [line for line in islice(file, HEAD) if line.strip()]
    first = lines[0][:LONGEST_HEADER] if lines else ""
    signs = (c for c in first if not (c.isalnum() or c in " \"'_-.\r\n"))
    candidates = list(dict.fromkeys((usual_delimiter(path), *DELIMITERS, *signs)))

    def known(delimiter: str) -> float:
        header = next(iter(_split(lines[:1], delimiter, layout.quotes)), [])
        return len({*header} & {*columns}) or (len(header) > 1 and delimiter in DELIMITERS) / 2

    if not layout.header:
        return max(candidates, key=known)  # the first of those that fit best
    width = len(layout.header)
    fit = [
        delimiter
        for delimiter in candidates
        if {len(row) for row in _split(lines, delimiter, layout.quotes)} == {width}
    ]
    if len(fit) > 1 < width:
        named = " and ".join(map(repr, fit))
        raise UserError(f"{path.name}: {named} give {width} fields each: set ingest.delimiter")
    return (fit or candidates)[0]


def named_delimiter(path: Path) -> str | None:
    """Return the delimiter that a first line such as `sep=;` names, if there is one."""
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
        match = re.fullmatch(r'"?sep=(.)"?', file.readline(20).rstrip("\r\n"))
    return match[1] if match else None


def usual_delimiter(path: Path) -> str:
    return "\t" if path.suffix.lower() == ".tsv" else ","


def _split(lines: list[str], delimiter: str, quotes: bool) -> list[list[str]]:
    try:
        quoting = csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE
        return list(csv.reader(lines, delimiter=delimiter, quoting=quoting))  # type: ignore[arg-type]
    except csv.Error:
        return []


class _CsvFile:
    """Open CSV file, read from its first line to its last."""

    def __init__(self, file: TextIO, shown: str, delimiter: str, quotes: bool) -> None:
        self.file, self.shown, self.delimiter, self.quotes = file, shown, delimiter, quotes
        self.quote_count = 0  # in the lines of the current row
        self.skipped = 0  # lines before the header
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

    def skip_line(self) -> None:
        self.file.readline()
        self.skipped = 1

    @property
    def line_num(self) -> int:
        """Number of the last line that was read."""
        return self.reader.line_num + self.skipped

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
            line, self.quote_count = self.line_num + 1, 0
            try:
                values = next(self.reader)
            except StopIteration:
                return
            except csv.Error as error:
                reject = Reject(self.shown, line, _csv_reason(str(error)))
                yield from _rejects(reject, self.line_num)
                continue
            if not values:  # a blank line
                continue
            if broken := self._broken(line, values, len(header)):
                yield from _rejects(*broken)
            else:
                yield Row(self.shown, line, dict(zip(header, values, strict=True)))

    def _broken(self, line: int, values: list[str], fields: int) -> tuple[Reject, int] | None:
        """Return the `Reject` of a row that cannot be used and the last line that it spans."""
        text, end = self.delimiter.join(values), self.line_num
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


def read_parquet(path: Path, shown: str, columns: tuple[str, ...]) -> Iterator[Row | Reject]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(path)
        require_once(columns, schema, shown)
        classes, number = class_names(schema), 0
        for batch in parquet_batches(path, columns=columns or None):
            yield from rows_of(batch, shown, number, classes)
            number += batch.num_rows
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{shown}: is not a whole Parquet file ({reason}): write it again"
        ) from None


def parquet_columns(path: Path) -> tuple[str, ...]:
    """Return the names of the columns of a Parquet file; none if it cannot be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return tuple(pq.read_schema(path).names)
    except (pa.ArrowException, OSError):
        return ()


def require_once(
    columns: tuple[str, ...], schema: "pa.Schema", shown: str, virtual: tuple[str, ...] = ()
) -> None:
    """Raise UserError for the first of `columns` that a schema lacks or has twice. `virtual` are
    columns that a reader adds."""
    require(columns, (*schema.names, *virtual), f"{shown}: row 1", "its columns are")
    if twice := [name for name in columns if schema.names.count(name) > 1]:
        raise UserError(f"{shown}: the column {twice[0]!r} is there twice: rename one")


def rows_of(
    batch: "pa.RecordBatch", shown: str, before: int, classes: Mapping[str, Any]
) -> Iterator[Row | Reject]:
    """Yield the rows of a batch, which follows on `before` rows; numbers of ClassLabel become
    names. A cell that is not UTF-8 costs its row alone."""
    import pyarrow as pa

    for place, field in enumerate(batch.schema):
        if pa.types.is_float32(field.type):  # 0.1, not 0.10000000149011612
            shortest = batch.column(place).cast(pa.string()).cast(pa.float64())
            batch = batch.set_column(place, field.name, shortest)
    try:
        rows = batch.to_pylist()
    except UnicodeDecodeError:  # which names no row
        rows = []
    for i in range(batch.num_rows):
        number = before + i + 1
        try:
            fields = rows[i] if rows else batch.slice(i, 1).to_pylist()[0]
        except UnicodeDecodeError as error:
            yield undecodable(shown, number, error, error.object)
        else:
            yield checked(shown, number, named(fields, classes))


def class_names(schema: "pa.Schema") -> dict[str, Any]:
    """Return the class names of the columns that `datasets` saved with ClassLabel: a list of names,
    or for an object a dict of this kind; also where the column holds lists of them
    (https://huggingface.co/docs/datasets/about_dataset_features)."""
    if b"huggingface" not in (schema.metadata or {}):
        return {}
    try:
        return _classes(json.loads(schema.metadata[b"huggingface"])["info"]["features"]) or {}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}


def _classes(feature: Any) -> Any:
    """Return the names in a feature; None if it holds no ClassLabel."""
    if isinstance(feature, list):  # earlier versions write a list of a feature so
        return _classes(feature[0])
    kind = feature.get("_type")
    if kind == "ClassLabel":
        return [str(name) for name in feature["names"]]
    if isinstance(kind, str):
        return _classes(feature["feature"]) if "feature" in feature else None
    found = {name: _classes(each) for name, each in feature.items()}
    return {name: each for name, each in found.items() if each} or None


def named(fields: dict[str, Any], classes: Mapping[str, Any]) -> dict[str, Any]:
    """Replace the numbers of classes by their names; -1, the number of no class, by None."""
    own = {name: _name(fields[name], each) for name, each in classes.items() if name in fields}
    return fields | own


def _name(value: Any, classes: Any) -> Any:
    if isinstance(value, list):
        return [_name(each, classes) for each in value]
    if isinstance(classes, dict):
        return named(value, classes) if isinstance(value, dict) else value
    return classes[value] if isinstance(value, int) and 0 <= value < len(classes) else None
