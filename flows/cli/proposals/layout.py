"""Layout of a file of rows: its format, encoding, delimiter and header, by a look at its bytes."""

import csv
import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from flows.cli.proposals import columns as roles
from flows.cli.proposals.values import Proposal
from pipeline.core.errors import UserError
from pipeline.core.text import excerpt
from pipeline.sources import LAID_OUT, READERS, TABLES, Layout, siblings
from pipeline.sources.encodings import ASCII, UNSURE, UTF8, as_utf8, recognise, recognise_texts
from pipeline.sources.json_records import read_records, shape_of
from pipeline.sources.remote import local_path
from pipeline.sources.tables import find_delimiter, usual_delimiter
from pipeline.sources.unpack import unpacked

HEAD = 200  # lines of a text file
JSON = (".json", ".jsonl", ".ndjson")
TAG = re.compile(r"O|[BIESLUM]-\S+")
WORD_TAG = re.compile(r"\S+/[A-Za-z]\w*")


def find_layout(file: str, found: Proposal) -> Layout:
    """Find the format, the encoding, the delimiter and the header, and return the layout."""
    path, ingest = local_path(file), found.ingest
    header = tuple(ingest["header"]) if ingest.get("header") else None
    layout = Layout(
        ingest.get("format"),
        header,
        ingest.get("quotes", True),
        ingest.get("encoding") or UTF8,
        ingest.get("delimiter"),
    )
    if path.is_dir():
        return _folder(path, found, layout)
    if path.stat().st_size == 0:
        raise UserError(f"{file}: is empty: give a file with rows")
    with unpacked(path, file) as plain:
        suffix = plain.suffix.lower()
        is_text = suffix in (*TABLES, *JSON, *(k for k in READERS if k.startswith(".")))
        if layout.format is None and suffix not in READERS and suffix not in LAID_OUT:
            languages = columns_of_parallel(file)
            if len(languages) == 1:
                return layout  # read_rows refuses it
            ingest["format"] = "parallel"
            found.because("format", f"parallel: {', '.join(languages)}, a file each")
            layout = replace(layout, format="parallel")
        if is_text and suffix != ".parquet" and not ingest.get("encoding"):
            encoding = recognise(plain)
            if encoding not in (ASCII, UTF8, UNSURE):
                layout = replace(layout, encoding=encoding)
                ingest["encoding"] = encoding
                found.because("encoding", f"{encoding}: its bytes are not UTF-8")
        if layout.format is None and suffix in JSON:
            layout = _json(plain, file, found, layout)
        elif layout.format is None and suffix == ".txt":
            layout = _text(plain, found, layout)
        elif suffix in TABLES:
            layout = _table(plain, found, layout)
    return layout


def columns_of_parallel(file: str) -> tuple[str, ...]:
    """Return the suffixes of the files with the stem of a file of parallel texts, its own first."""
    own = Path(file).suffix.removeprefix(".")
    return (own, *(name for name in siblings(Path(file)) if name and name != own))


def _folder(path: Path, found: Proposal, layout: Layout) -> Layout:
    if layout.format:
        return layout
    files = sorted(path.glob("*.txt"))
    if files and not any(each.is_dir() for each in path.iterdir()):
        found.because("format", f"lines: {len(files)} .txt files, one for each label")
        found.ingest["format"] = "lines"
        layout = replace(layout, format="lines")
    some = files[:1] or [file for file in islice(path.glob("*/*"), 200) if file.is_file()]
    if not found.ingest.get("encoding") and some:
        encoding = recognise(some[0]) if files else recognise_texts(p.read_bytes() for p in some)
        if encoding not in (ASCII, UTF8, UNSURE):
            found.ingest["encoding"] = encoding
            found.because("encoding", f"{encoding}: its bytes are not UTF-8")
            layout = replace(layout, encoding=encoding)
    return layout


def _json(path: Path, file: str, found: Proposal, layout: Layout) -> Layout:
    """Recognise an export of an annotation tool by its first record."""
    if shape_of(path) == "squad":
        found.because("format", "squad: questions with contexts, as SQuAD's JSON")
        return layout
    from pipeline.sources.recognition import recognise_records

    first = next((r for _, r in read_records(path, file) if isinstance(r, dict)), None)
    if first is not None and (name := recognise_records(first)):
        found.ingest["format"] = name
        found.because("format", f"{name}: the keys of its first record are {_keys(first)}")
        return replace(layout, format=name)
    return layout


def _keys(record: Mapping[str, Any]) -> str:
    return excerpt(", ".join(map(str, record)), 60)


def _text(path: Path, found: Proposal, layout: Layout) -> Layout:
    """Tell tagged tokens, word/tag and plain lines apart."""
    with path.open(encoding=layout.encoding, errors="replace") as file:
        lines = [line.rstrip("\r\n") for line in islice(file, HEAD)]
    filled = [line for line in lines if line.strip()]
    last = [line.split()[-1] for line in filled if len(line.split()) > 1]
    if last and sum(map(bool, map(TAG.fullmatch, last))) > 0.9 * len(filled):
        found.because("format", "conll: a token and its tag in each line")
        return layout
    words = [word for line in filled for word in line.split()]
    if words and sum(map(bool, map(WORD_TAG.fullmatch, words))) > 0.9 * len(words):
        found.because("format", "word_tags: words with their tags, word/tag")
        found.ingest["format"] = "word_tags"
        return replace(layout, format="word_tags")
    blank = len(lines) - len(filled)
    name: Any = "documents" if blank > 1 and len(filled) > 2 * blank else "lines"
    what = "blank lines between documents" if name == "documents" else "a text in each line"
    found.because("format", f"{name}: {what}")
    found.ingest["format"] = name
    return replace(layout, format=name)


def _table(path: Path, found: Proposal, layout: Layout) -> Layout:
    """Find the delimiter of a table, and whether its first line is a header."""
    names = [v for k in ("text", "second", "label", "group") if (v := found.ingest.get(k))]
    flat = tuple(n for v in names for n in (v if isinstance(v, list) else [v]))
    with as_utf8(path, path.name, layout.encoding) as text:
        delimiter = layout.delimiter or find_delimiter(text, flat, layout)
        with text.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            lines = list(islice(file, HEAD))
    if delimiter != usual_delimiter(path):
        found.because("delimiter", f"{delimiter!r}: it separates the fields of the first lines")
    quoting = csv.QUOTE_MINIMAL if layout.quotes else csv.QUOTE_NONE
    try:
        cells = [row for row in csv.reader(lines, delimiter=delimiter, quoting=quoting) if row]  # type: ignore[arg-type]
    except csv.Error:
        return replace(layout, delimiter=delimiter)
    if layout.header or not cells or flat or _is_header(cells):
        return replace(layout, delimiter=delimiter)
    header = _header(cells)
    found.ingest["header"] = header
    found.because("header", f"{', '.join(header)}: the first line is a row like the others")
    return replace(layout, delimiter=delimiter, header=tuple(header))


def _is_header(cells: list[list[str]]) -> bool:
    """True if the first line names the columns: short, different names, none a number."""
    first, rest = cells[0], cells[1:]
    known = {*roles.TEXTS, *roles.LABELS, *roles.SPANS, *roles.SPLITS}
    if {name.strip().lower() for name in first} & known:
        return True
    if any(roles.NUMBER.fullmatch(cell.strip()) or len(cell) > 60 for cell in first):
        return False
    again = any(cell and cell == row[i] for row in rest for i, cell in enumerate(first[: len(row)]))
    return len({*first}) == len(first) and not again


def _header(cells: list[list[str]]) -> list[str]:
    """Name the columns of a table without a header by what they hold."""
    width = len(cells[0])
    rows = [dict(enumerate(row)) for row in cells if len(row) == width]
    table = roles.columns_of({str(i): cell for i, cell in row.items()} for row in rows)
    names = [f"column_{i + 1}" for i in range(width)]
    text = roles.find_text(table)
    labels = [c for c in table.values() if c.classes and c is not text]
    if text:
        names[int(text.name)] = "text"
    if len(labels) == 1:
        names[int(labels[0].name)] = "label"
    others = [
        i
        for i, name in enumerate(names)
        if name.startswith("column_")
        and text
        and table[str(i)].mean > 0.4 * text.mean
        and not table[str(i)].numeric
    ]
    if len(others) == 1 and width == 3:
        second, first = max(others[0], names.index("text")), min(others[0], names.index("text"))
        names[first], names[second] = "text", "second"
    return names
