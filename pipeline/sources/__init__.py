"""Readers of rows, by format: installed packages, local files and folders."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from pipeline.core.errors import UserError
from pipeline.core.locations import is_local, is_remote
from pipeline.core.log import Log, no_log
from pipeline.sources.annotations import EXPORTS, read_tokens
from pipeline.sources.brat import read_brat
from pipeline.sources.datasets_folder import is_saved, read_saved, read_shards, shards
from pipeline.sources.docbin import read_docbin
from pipeline.sources.encodings import as_utf8, is_utf8
from pipeline.sources.json_records import read_json
from pipeline.sources.parallel import read_parallel, siblings
from pipeline.sources.remote import local_path
from pipeline.sources.rows import LARGEST_ROW, PLAIN, Format, Layout, Reject, Row, readable
from pipeline.sources.spreadsheets import EXTENSIONS, read_spreadsheet
from pipeline.sources.squad import read_squad
from pipeline.sources.tables import find_delimiter, read_csv, read_parquet, usual_delimiter
from pipeline.sources.tagged import (
    read_conll,
    read_conll_documents,
    read_tagged_lines,
    read_word_tags,
)
from pipeline.sources.texts import (
    read_document_files,
    read_documents,
    read_folder,
    read_line_files,
    read_lines_of_text,
)
from pipeline.sources.token_rows import read_token_rows
from pipeline.sources.unpack import COMPRESSED, unpacked

__all__ = [
    "BINARY",
    "FORMATS",
    "LARGEST_ROW",
    "PLAIN",
    "READERS",
    "TABLES",
    "Format",
    "Layout",
    "Reject",
    "Row",
    "holds_tables",
    "read_conll",
    "read_conll_documents",
    "read_documents",
    "read_parallel",
    "read_rows",
    "read_squad",
    "readable",
    "siblings",
]

Rows = Iterator[Row | Reject]
Reader = Callable[[Path, str, tuple[str, ...]], Rows]
LayoutReader = Callable[..., Rows]

TABLES = (".csv", ".tsv")
JSON = (".jsonl", ".ndjson", ".json")
TOKENS, TOKEN_ROWS = "tokens", "token_rows"
TABULAR = (*TABLES, *JSON, ".parquet")
BINARY = (".parquet", ".spacy", *EXTENSIONS)
LAID_OUT: dict[str | None, LayoutReader] = {  # readers that use more of the layout than encoding
    **dict.fromkeys(TABLES, read_csv),
    **dict.fromkeys(EXTENSIONS, read_spreadsheet),
    **dict.fromkeys(JSON, read_json),
    "squad": read_squad,
    "parallel": read_parallel,
    "tokens": read_tokens,
}
READERS: dict[str, Reader] = {
    ".parquet": read_parquet,
    ".spacy": read_docbin,
    **EXPORTS,
    **dict.fromkeys((".conll", ".bio", ".bioes", ".bmes", ".iob", ".txt", "conll"), read_conll),
    "conll_documents": read_conll_documents,
    "tagged_lines": read_tagged_lines,
    "word_tags": read_word_tags,
    "lines": read_lines_of_text,
    "documents": read_documents,
}
FOLDERS: dict[str | None, LayoutReader] = {
    None: read_folder,
    "lines": read_line_files,
    "documents": read_document_files,
    "brat": read_brat,
}
FORMATS = tuple(name for name in (*LAID_OUT, *READERS) if name and name.startswith("."))


def read_rows(
    source: str, columns: tuple[str, ...], layout: Layout = PLAIN, log: Log = no_log
) -> Iterator[Row | Reject]:
    """Yield all rows of a source in a fixed order, unreadable ones as `Reject`.

    If the layout names no format, the file extension decides: CSV, TSV, JSON, a spreadsheet,
    Parquet, or tokens with tags in columns, also compressed. A folder holds a subfolder of text
    files for each label; in the format `lines`, a file of lines for each label; in the formats
    `documents` and `brat`, files of documents. `log` receives a delimiter that is unusual for the
    extension. Raises UserError if one of `columns` is missing.
    """
    if layout.format == "parallel" and is_remote(source):
        raise UserError(
            f"{source}: parallel texts are read from local files: download those of all languages"
            " into one folder"
        )
    path = local_path(source, log)
    shown = readable(str(Path(source)) if is_local(source) else source)
    if path.is_dir():
        if files := _parts(path, shown, layout):
            yield from files(path, shown, columns)
            return
        _check_options("folder", layout, shown)
        if layout.format not in FOLDERS:
            raise UserError(f"{shown}: is a folder: name a file of the format {layout.format}")
        yield from FOLDERS[layout.format](path, shown, columns, layout)
        return
    yield from _read_file(path, shown, columns, layout, log)


def _parts(path: Path, shown: str, layout: Layout) -> Reader | None:
    """Return the reader of a folder of tables; None for other folders."""
    if layout.format not in (None, TOKENS):
        return None
    if is_saved(path):
        _check_options(".parquet", layout, shown)
        return partial(read_tokens, layout=layout) if layout.format else read_saved
    files = shards(path, TABULAR)
    if not files:
        return None

    def read(folder: Path, shown: str, columns: tuple[str, ...]) -> Rows:
        def one(file: Path, wanted: tuple[str, ...]) -> Rows:
            where = f"{shown}/{readable(file.relative_to(folder).as_posix())}"
            return _read_file(file, where, wanted, layout, no_log)

        return read_shards(folder, files, columns, one)

    return read


def holds_tables(folder: Path) -> bool:
    """True if the rows of a folder are those of its tables, not a text for each file."""
    return is_saved(folder) or bool(shards(folder, TABULAR))


def _read_file(path: Path, shown: str, columns: tuple[str, ...], layout: Layout, log: Log) -> Rows:
    """Yield the rows of a local file."""
    if layout.format == TOKEN_ROWS:
        table = replace(layout, format=None)
        read = partial(_read_file, path, shown, (), table, no_log)
        yield from read_token_rows(read, shown, columns)
        return
    if path.stat().st_size == 0:
        raise UserError(f"{shown}: is empty: give a file with rows")
    with unpacked(path, shown) as file:
        kind = layout.format or file.suffix.lower()
        if layout.format and kind not in READERS and kind not in LAID_OUT:
            raise UserError(f"{shown}: is a file: name the folder of the format {layout.format}")
        if kind not in READERS and kind not in LAID_OUT:
            raise UserError(
                f"{shown}: unknown format {file.suffix!r}: use one of {', '.join(FORMATS)}, also"
                f" packed as {', '.join(COMPRESSED)}, or set ingest.format"
            )
        _check_options(kind, layout, shown)
        if file.stat().st_size == 0:
            raise UserError(f"{shown}: is empty: give a file with rows")
        if file.suffix.lower() in BINARY or kind == "parallel":
            yield from _reader(kind, layout)(file, shown, columns)
            return
        with as_utf8(file, shown, layout.encoding) as text:
            if kind in TABLES and not layout.delimiter:
                delimiter = find_delimiter(text, columns, layout)
                layout = replace(layout, delimiter=delimiter)
                if delimiter != usual_delimiter(text):
                    log.info(f"{shown}: fields are separated by {delimiter!r}")
            rows = _reader(kind, layout)(text, shown, columns)
            yield from rows if is_utf8(layout.encoding) else _named(rows, layout.encoding)


def _reader(kind: str, layout: Layout) -> Reader:
    return partial(LAID_OUT[kind], layout=layout) if kind in LAID_OUT else READERS[kind]


def _check_options(kind: str, layout: Layout, shown: str) -> None:
    """Raise UserError for options of tables that other kinds of files do not have."""
    if layout.header and kind not in (*TABLES, *EXTENSIONS):
        raise UserError(f"{shown}: ingest.header is for CSV and TSV alone: set it to null")
    if not layout.quotes and kind not in TABLES:
        raise UserError(f"{shown}: ingest.quotes is for CSV and TSV alone: set it to true")
    if layout.delimiter and kind not in TABLES:
        raise UserError(f"{shown}: ingest.delimiter is for CSV and TSV alone: set it to null")
    if kind in BINARY and not is_utf8(layout.encoding):
        raise UserError(f"{shown}: ingest.encoding is for text files alone: set it to utf-8")


def _named(rows: Iterator[Row | Reject], encoding: str) -> Iterator[Row | Reject]:
    """Name the encoding of the file in the reasons of rows that do not decode."""
    for row in rows:
        if isinstance(row, Reject) and row.reason.startswith("is not UTF-8"):
            yield replace(row, reason=f"is not {encoding}")
        else:
            yield row
