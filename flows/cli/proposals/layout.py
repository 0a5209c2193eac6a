"""Layout of a file of rows: its format, encoding, delimiter and header, by a look at its bytes."""

import csv
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from flows.cli.proposals import columns as roles
from flows.cli.proposals.labels import find_names
from flows.cli.proposals.values import Proposal
from pipeline.core.errors import UserError
from pipeline.core.text import excerpt
from pipeline.sources import BINARY, LAID_OUT, READERS, TABLES, Layout, siblings
from pipeline.sources.datasets_folder import is_saved, shards
from pipeline.sources.encodings import ASCII, UNSURE, UTF8, as_utf8, recognise, recognise_texts
from pipeline.sources.json_records import read_records, shape_of
from pipeline.sources.recognition import recognise_records, tags_of
from pipeline.sources.remote import local_path
from pipeline.sources.tables import find_delimiter, usual_delimiter
from pipeline.sources.tags import TAG
from pipeline.sources.unpack import unpacked
from pipeline.stages.ingest.stage import read_names

HEAD = 200  # lines of a text file
MANY = 200  # .txt files of a folder from which they are documents, not a file for each label
JSON = (".json", ".jsonl", ".ndjson")
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
        if is_text and suffix not in BINARY and not ingest.get("encoding"):
            layout = _encoded(recognise(plain), found, layout)
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
    """Say what a folder is taken for, and how its files are read."""
    if layout.format not in (None, "tokens") or is_saved(path):
        if is_saved(path):
            found.because("folder", "what datasets.save_to_disk wrote")
        return layout
    if tables := shards(path, (*TABLES, *JSON, ".parquet")):
        names = excerpt(", ".join(each.relative_to(path).as_posix() for each in tables), 60)
        found.because("folder", f"{roles.counted(len(tables), 'table')}, read as one: {names}")
        return _first_shard(tables[0], found, layout)
    if any(path.rglob("*.ann")) and any(path.rglob("*.txt")):
        found.because("format", "brat: texts with annotations of the same names, .txt and .ann")
        found.ingest["format"] = "brat"
        return replace(layout, format="brat")
    files = sorted(path.glob("*.txt"))
    if files and not any(each.is_dir() for each in path.iterdir()):
        with files[0].open(encoding=layout.encoding, errors="replace") as file:
            lines = [line.strip() for line in islice(file, HEAD)]
        name: Any = "documents" if len(files) > MANY or _has_documents(lines) else "lines"
        what = "blank lines between documents" if name == "documents" else "a file for each label"
        found.because("format", f"{name}: {roles.counted(len(files), '.txt file')}, {what}")
        found.ingest["format"] = name
        layout = replace(layout, format=name)
    else:
        folders = sorted(each.name for each in path.iterdir() if each.is_dir())
        names = excerpt(", ".join(folders), 60)
        if folders:
            found.because("folder", f"a folder for each label, a file for each text: {names}")
    some = files[:1] or [file for file in islice(path.glob("*/*"), 200) if file.is_file()]
    if some and not found.ingest.get("encoding"):
        name = recognise(some[0]) if files else recognise_texts(p.read_bytes() for p in some)
        layout = _encoded(name, found, layout)
    return layout


def _first_shard(path: Path, found: Proposal, layout: Layout) -> Layout:
    """Return the layout of a folder of tables by the first of them."""
    with unpacked(path, path.name) as plain:
        suffix = plain.suffix.lower()
        if suffix == ".parquet":
            return layout
        if not found.ingest.get("encoding"):
            layout = _encoded(recognise(plain), found, layout)
        return _table(plain, found, layout) if suffix in TABLES else layout


def _encoded(name: str, found: Proposal, layout: Layout) -> Layout:
    """Return a layout with an encoding that was recognised, and write it if it is not UTF-8."""
    if name in (ASCII, UTF8, UNSURE):
        return layout
    found.ingest["encoding"] = name
    found.because("encoding", f"{name}: its bytes are not UTF-8")
    return replace(layout, encoding=name)


def _json(path: Path, file: str, found: Proposal, layout: Layout) -> Layout:
    """Recognise an export of an annotation tool by its first record."""
    if shape_of(path) == "squad":
        found.because("format", "squad: questions with contexts, as SQuAD's JSON")
        return layout
    first = next((r for _, r in read_records(path, file) if isinstance(r, dict)), None)
    if first is not None and (name := recognise_records(first)):
        found.ingest["format"] = name
        found.because("format", f"{name}: the keys of its first record are {_keys(first)}")
        layout = replace(layout, format=name)
        return _named_tags(first, file, found, layout) if name == "tokens" else layout
    return layout


def _named_tags(first: Mapping[str, Any], file: str, found: Proposal, layout: Layout) -> Layout:
    """Return the layout of tokens with the names of tags that are numbers."""
    tags = tags_of(first) or []
    if not all(isinstance(tag, int) for tag in tags):
        return layout
    find_names(file, found, map(str, tags))
    if not (names := found.ingest.get("label_names")):
        raise UserError(
            f"{file}: its tags are numbers: name them by --label-names, a file with a tag a line"
        )
    return replace(layout, tags=tuple(read_names(names)))


def _keys(record: Mapping[str, Any]) -> str:
    return excerpt(", ".join(map(str, record)), 60)


def _text(path: Path, found: Proposal, layout: Layout) -> Layout:
    """Tell tagged tokens, word/tag and plain lines apart."""
    lines = _head(path, layout.encoding)
    name, what = _kind(lines)
    found.because("format", f"{name}: {what}")
    if name == "conll":  # as the extension says
        return layout
    found.ingest["format"] = name
    return replace(layout, format=name)


def _head(path: Path, encoding: str) -> list[str]:
    with path.open(encoding=encoding, errors="replace") as file:
        return [line.rstrip("\r\n") for line in islice(file, HEAD)]


def _kind(lines: list[str]) -> tuple[Any, str]:
    """Return the format of the first lines of a text, and the reason."""
    filled = [line for line in lines if line.strip()]
    if _is_conll(lines):
        return "conll", "a token and its tag in each line"
    if _most(_are_tagged, filled):
        return "tagged_lines", "tokens, a tab and as many tags in each line"
    if _most(WORD_TAG.fullmatch, [word for line in filled for word in line.split()]):
        return "word_tags", "words with their tags, word/tag"
    if _has_documents(lines):
        return "documents", "blank lines between documents"
    return "lines", "a text in each line"


def _most(test: Callable[[str], object], strings: list[str]) -> bool:
    return bool(strings) and sum(map(bool, map(test, strings))) > 0.9 * len(strings)


def _is_conll(lines: list[str]) -> bool:
    """True for lines of a token and its tag, also with comments between."""
    filled = [line for line in lines if line.strip() and not line.startswith(("#", "-DOC"))]
    if any(len(line.partition("\t")[2].split()) > 1 and _are_tagged(line) for line in filled):
        return False
    return _most(lambda line: len(line.split()) > 1 and TAG.fullmatch(line.split()[-1]), filled)


def _are_tagged(line: str) -> bool:
    words, _, tags = line.partition("\t")
    marks = tags.split()
    return len(words.split()) == len(marks) > 0 and all(map(TAG.fullmatch, marks))


def _has_documents(lines: list[str]) -> bool:
    blank = sum(not line.strip() for line in lines)
    return blank > 1 and len(lines) - blank > 2 * blank


def _table(path: Path, found: Proposal, layout: Layout) -> Layout:
    """Find the delimiter of a table, and whether its first line is a header."""
    lines = _head(path, layout.encoding)
    if layout.format is None and _is_conll(lines) and not all(map(str.strip, lines)):
        found.because("format", "conll: a token and its tag in each line")
        found.ingest["format"] = "conll"
        return Layout("conll", encoding=layout.encoding)
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
