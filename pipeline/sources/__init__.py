"""Readers of rows, by format: installed packages, local files and folders."""

from collections.abc import Callable, Iterator
from functools import partial

from pipeline.core.errors import UserError
from pipeline.core.locations import PACKAGE, locate
from pipeline.sources.parallel import read_parallel, siblings
from pipeline.sources.rows import LARGEST_ROW, Format, Layout, Reject, Row, readable
from pipeline.sources.squad import read_squad
from pipeline.sources.tables import read_csv, read_json_lines, read_parquet
from pipeline.sources.tagged import read_conll, read_conll_documents, read_word_tags
from pipeline.sources.texts import (
    read_document_files,
    read_documents,
    read_folder,
    read_line_files,
    read_lines_of_text,
)

__all__ = [
    "FORMATS",
    "LARGEST_ROW",
    "PLAIN",
    "READERS",
    "TABLES",
    "Format",
    "Layout",
    "Reject",
    "Row",
    "read_conll",
    "read_conll_documents",
    "read_documents",
    "read_parallel",
    "read_rows",
    "read_squad",
    "readable",
    "siblings",
]

PLAIN = Layout()
TABLES = (".csv", ".tsv")
READERS: dict[str, Callable[..., Iterator[Row | Reject]]] = {
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
    ".parquet": read_parquet,
    ".json": read_squad,
    "squad": read_squad,
    **dict.fromkeys((".conll", ".bio", ".bioes", ".bmes", ".iob", ".txt", "conll"), read_conll),
    "conll_documents": read_conll_documents,
    "word_tags": read_word_tags,
    "lines": read_lines_of_text,
    "documents": read_documents,
    "parallel": read_parallel,
}
FOLDERS: dict[str | None, Callable[..., Iterator[Row | Reject]]] = {
    None: read_folder,
    "lines": read_line_files,
    "documents": read_document_files,
}
FORMATS = (*TABLES, *(name for name in READERS if name.startswith(".")))


def read_rows(
    source: str, columns: tuple[str, ...], layout: Layout = PLAIN
) -> Iterator[Row | Reject]:
    """Yield all rows of a source in a fixed order, unreadable ones as `Reject`.

    If the layout names no format, the file extension decides: CSV, TSV, JSON Lines, Parquet, SQuAD
    JSON, or tokens with tags in columns. A folder holds a subfolder of text files for each label;
    in the format `lines`, a file of lines for each label; in the format `documents`, files of
    documents. Raises UserError if one of `columns` is missing.
    """
    path = locate(source)
    shown = readable(source if source.startswith(PACKAGE) else str(path))
    kind = layout.format or ("folder" if path.is_dir() else path.suffix.lower())
    if kind not in TABLES:
        if layout.header:
            raise UserError(f"{shown}: ingest.header is for CSV and TSV alone: set it to null")
        if not layout.quotes:
            raise UserError(f"{shown}: ingest.quotes is for CSV and TSV alone: set it to true")
    if path.is_dir():
        if layout.format not in FOLDERS:
            raise UserError(f"{shown}: is a folder: name a file of the format {layout.format}")
        yield from FOLDERS[layout.format](path, shown, columns)
        return
    if kind in TABLES:
        delimiter = "\t" if kind == ".tsv" else ","
        reader: Callable[..., Iterator[Row | Reject]] = partial(
            read_csv, delimiter=delimiter, names=layout.header, quotes=layout.quotes
        )
    elif kind in READERS:
        reader = READERS[kind]
    else:
        raise UserError(f"{shown}: unknown format {path.suffix!r}: use one of {', '.join(FORMATS)}")
    if path.stat().st_size == 0:
        raise UserError(f"{shown}: is empty: give a file with rows")
    yield from reader(path, shown, columns)
