"""Readers of plain texts, one per file or line, labelled by the name of their folder or file."""

from collections.abc import Iterator
from pathlib import Path

from pipeline.core.errors import UserError
from pipeline.sources.encodings import as_utf8, is_utf8, recognise_texts, refuse_other
from pipeline.sources.rows import (
    LARGEST_ROW,
    PLAIN,
    Layout,
    Reject,
    Row,
    read_lines,
    readable,
    require,
    undecodable,
)

COLUMNS = ("text", "label")
SOME = 200  # files of a folder whose encoding is examined


def read_folder(
    path: Path, shown: str, columns: tuple[str, ...], layout: Layout = PLAIN
) -> Iterator[Row | Reject]:
    """Yield the texts of a folder with a subfolder for each label and a file for each text."""
    require(columns, COLUMNS, f"{shown}: row 1", "a folder of folders gives")
    files = sorted(
        (folder.name, file.name, file)
        for folder in path.iterdir()
        if folder.is_dir() and not folder.name.startswith((".", "__"))
        for file in folder.iterdir()
        if file.is_file() and not file.name.startswith(".")
    )
    _refuse_brat(path, shown)
    if not files:
        raise UserError(f"{shown}: holds no files in folders: one folder a label is expected")
    for name in dict.fromkeys(label for label, *_ in files):
        _label(name, f"{shown}/{readable(name)}")
    some = (file.read_bytes() for _, _, file in files[:SOME] if file.stat().st_size <= LARGEST_ROW)
    refuse_other(recognise_texts(some), layout.encoding, shown, files[0][2])
    encoding = "utf-8-sig" if is_utf8(layout.encoding) else layout.encoding
    for label, name, file in files:
        where = f"{label}/{readable(name)}"
        if file.stat().st_size > LARGEST_ROW:
            yield Reject(where, 1, f"longer than {LARGEST_ROW:,} bytes")
            continue
        content = file.read_bytes()
        try:
            yield Row(where, 1, {"text": content.decode(encoding), "label": label})
        except UnicodeDecodeError as error:
            yield undecodable(where, 1, error, content, layout.encoding)


def read_line_files(
    path: Path, shown: str, columns: tuple[str, ...], layout: Layout = PLAIN
) -> Iterator[Row | Reject]:
    """Yield the texts of a folder with a .txt file for each label and a line for each text."""
    _refuse_brat(path, shown)
    files = sorted(file for file in path.glob("*.txt") if file.is_file())
    if not files:
        raise UserError(f"{shown}: holds no .txt files: one file of lines a label is expected")
    for file in files:
        _label(file.stem, f"{shown}/{readable(file.name)}")
    for file in files:
        where = readable(file.name)
        with as_utf8(file, where, layout.encoding) as text:
            yield from read_lines_of_text(text, where, columns)


def read_lines_of_text(path: Path, shown: str, columns: tuple[str, ...]) -> Iterator[Row | Reject]:
    """Yield each line as a text, labelled by the file's stem. Blank lines are skipped."""
    require(columns, COLUMNS, f"{shown}: row 1", "lines of text give")
    label = _label(path.stem, shown)
    for number, line in read_lines(path, shown):
        if isinstance(line, Reject):
            yield line
        elif line.strip(" \t"):
            yield Row(shown, number, {"text": line, "label": label})


def read_document_files(
    path: Path, shown: str, columns: tuple[str, ...], layout: Layout = PLAIN
) -> Iterator[Row | Reject]:
    """Yield the documents of all .txt files of a folder, in the order of their names."""
    files = sorted(file for file in path.glob("*.txt") if file.is_file())
    if not files:
        raise UserError(f"{shown}: holds no .txt files: files of documents are expected")
    for file in files:
        where = readable(file.name)
        with as_utf8(file, where, layout.encoding) as text:
            yield from read_documents(text, where, columns)


def read_documents(path: Path, shown: str, columns: tuple[str, ...]) -> Iterator[Row | Reject]:
    """Yield documents, which blank lines separate; the number of a row is that of its first line.

    A document with a line that cannot be read is one `Reject` that names this line.
    """
    require(columns, ("text",), f"{shown}: row 1", "documents give")
    first, size = 0, 0
    lines: list[str] = []
    fault: Reject | None = None

    def document() -> Iterator[Row | Reject]:
        if fault:
            yield fault
        elif lines:
            yield Row(shown, first, {"text": "\n".join(lines)})

    for number, line in read_lines(path, shown):
        if isinstance(line, Reject):
            fault = fault or line
        elif not line.strip(" \t"):
            yield from document()
            lines, fault, size = [], None, 0
        else:
            first = first if lines else number
            size += len(line)
            if size > LARGEST_ROW:
                reason = f"its document is longer than {LARGEST_ROW:,} characters"
                fault = fault or Reject(shown, number, reason)
                lines = []
            else:
                lines.append(line)
    yield from document()


def _refuse_brat(path: Path, shown: str) -> None:
    """Raise UserError for a folder of texts with annotations, whose names would be labels."""
    if any(note.with_suffix(".txt").is_file() for note in path.rglob("*.ann")):
        raise UserError(f"{shown}: looks like brat: set ingest.format to brat")


def _label(name: str, where: str) -> str:
    """Return a file or folder name as label. Raises UserError if it is not UTF-8."""
    if name != readable(name):
        raise UserError(f"{where}: this name is a label and not UTF-8: rename it")
    return name
