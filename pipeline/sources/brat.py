"""Reader of texts with annotations in brat's standoff format: NAME.txt and NAME.ann in a folder.

    T1<TAB>PER 0 10<TAB>Ann Miller

Other lines (relations, events, attributes, notes) are passed over
(https://brat.nlplab.org/standoff.html).
"""

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from pipeline.core.errors import UserError
from pipeline.core.text import excerpt
from pipeline.sources.encodings import is_utf8, recognise_texts, refuse_other
from pipeline.sources.rows import (
    LARGEST_ROW,
    PLAIN,
    Layout,
    Reject,
    Row,
    as_json,
    readable,
    require,
    undecodable,
)

COLUMNS = ("text", "label", "document")
ENTITY = re.compile(r"(T\d+)\t(\S+) (\d+ \d+(?:;\d+ \d+)*)(?:\t(.*))?")
SOME = 200  # files whose encoding is examined


def read_brat(
    path: Path, shown: str, columns: tuple[str, ...], layout: Layout = PLAIN
) -> Iterator[Row | Reject]:
    """Yield the texts of a folder and of its subfolders, with spans as `label` and the name without
    its extension as `document`. A text without an .ann file is unlabelled, an empty .ann file says
    that it has no entities. Line ends stay as they are, for positions count them.

    A text with a discontinuous span is one `Reject`, since labels have whole spans; parts between
    which there is white space alone, such as a line break, are one span.
    """
    require(columns, COLUMNS, f"{shown}: row 1", "texts with annotations give")
    files = [file for file in sorted(path.rglob("*.txt")) if file.is_file()]
    notes = [file for file in sorted(path.rglob("*.ann")) if file.is_file()]
    if not files or not notes:
        raise UserError(f"{shown}: holds no .txt files with .ann files of the same names")
    some = (file.read_bytes() for file in files[:SOME] if file.stat().st_size <= LARGEST_ROW)
    refuse_other(recognise_texts(some), layout.encoding, shown, files[0])
    for file in files:
        yield _document(file, readable(file.relative_to(path).as_posix()), layout.encoding)
    texts = {file.with_suffix("") for file in files}
    for file in notes:
        if file.with_suffix("") not in texts:
            where = readable(file.relative_to(path).as_posix())
            yield Reject(where, 1, f"has no text beside it: {readable(file.stem)}.txt is missing")


def _document(file: Path, where: str, encoding: str) -> Row | Reject:
    text = _content(file, where, encoding)
    if isinstance(text, Reject):
        return text
    notes = file.with_suffix(".ann")
    name = where.removesuffix(".txt")
    fields = {"text": text, "label": "", "document": name}
    if notes.is_file():
        lines = _content(notes, f"{name}.ann", encoding)
        if isinstance(lines, Reject):
            return lines
        try:
            spans = [_span(number, line, text) for number, line in _entities(lines)]
        except ValueError as error:
            return Reject(where, 1, f"{Path(name).name}.ann, {error}", excerpt(text))
        fields["label"] = as_json(spans)
    return Row(where, 1, fields)


def _content(file: Path, where: str, encoding: str) -> str | Reject:
    if file.stat().st_size > LARGEST_ROW:
        return Reject(where, 1, f"longer than {LARGEST_ROW:,} bytes")
    content = file.read_bytes()
    try:
        return content.decode("utf-8" if is_utf8(encoding) else encoding)
    except UnicodeDecodeError as error:
        return undecodable(where, 1, error, content, encoding)


def _entities(content: str) -> Iterator[tuple[int, str]]:
    """Yield the lines of text-bound annotations and their numbers."""
    for number, line in enumerate(content.split("\n"), 1):
        line = line.rstrip("\r").removeprefix("\ufeff")
        if line.startswith("T"):
            yield number, line


def _span(number: int, line: str, text: str) -> dict[str, Any]:
    """Return the span of an annotation. Raises ValueError for other lines and for a span of parts
    with text between them."""
    match = ENTITY.fullmatch(line)
    if match is None:
        raise ValueError(f"line {number}: {excerpt(line, 40)!r} is not a number, type, and places")
    name, kind, places, own = match.groups()
    parts = sorted(tuple(map(int, part.split(" "))) for part in places.split(";"))
    for (_, end), (start, _) in pairwise(parts):
        if text[end:start].strip() or start < end:
            raise ValueError(
                f"line {number}: {name} ({kind}) has parts with text between them, {places}: make"
                " it one span or leave it out"
            )
    span = {"start": parts[0][0], "end": parts[-1][1], "label": kind}
    return span if own is None else span | {"text": own}
