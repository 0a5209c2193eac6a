"""Reader of the documents that spaCy saves as a DocBin, FILE.spacy.

spaCy reads the file and knows its strings; the documents are put together here, since arrays of a
damaged file could end the process inside of spaCy (https://spacy.io/api/docbin).
"""

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.core.errors import UserError
from pipeline.core.text import excerpt
from pipeline.sources.rows import Reject, Row, as_json, checked, require
from pipeline.sources.unpack import MOST, SMALL

if TYPE_CHECKING:
    from spacy.strings import StringStore
    from spacy.tokens import DocBin

COLUMNS = ("text", "label", "tokens", "categories")
UNKNOWN, INSIDE, OUTSIDE, BEGIN = range(4)  # codes of ENT_IOB


def read_docbin(path: Path, shown: str, columns: tuple[str, ...]) -> Iterator[Row | Reject]:
    """Yield the documents of a DocBin: their entities as `label`, or their categories in a file
    without entities, which are also `categories`. A document without any of these has an empty
    label. The number of a row is the position of its document, from 1.

    Raises UserError for a damaged file, or if spaCy is not installed.
    """
    require(columns, COLUMNS, f"{shown}: row 1", "documents of spaCy give")
    try:
        from spacy.attrs import ENT_IOB, ENT_TYPE, ORTH
        from spacy.strings import StringStore
    except ModuleNotFoundError:
        raise UserError(f"{shown}: needs spaCy: pip install 'bertline[spacy]'") from None
    _check_size(path, shown)
    try:
        found = _loaded(path)
        names = StringStore(sorted(found.strings))
        places = {name: list(found.attrs).index(name) for name in (ORTH, ENT_IOB, ENT_TYPE)}
        documents = [tokens[:, list(places.values())] for tokens in found.tokens]
    except Exception as error:  # spaCy checks nothing: any
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{shown}: cannot be read ({excerpt(reason)}): save it again") from None
    entities = any((tokens[:, 1] != UNKNOWN).any() for tokens in documents)
    for number, tokens in enumerate(documents, 1):
        try:
            spaces = found.spaces[number - 1][:, 0]
            categories = _categories(found.cats[number - 1], are_labels=not entities)
            fields = _document(tokens, spaces, names)
        except (ValueError, LookupError, AttributeError) as error:
            yield Reject(shown, number, str(error))
            continue
        if not entities:
            fields["label"] = categories if found.cats[number - 1] else None
        yield checked(shown, number, fields | {"categories": categories})


def _check_size(path: Path, shown: str) -> None:
    """Raise UserError for a file that unpacks to far more than its size."""
    limit = max(SMALL, MOST * path.stat().st_size)
    packed = zlib.decompressobj()
    try:
        packed.decompress(path.read_bytes(), limit)
    except zlib.error as error:
        raise UserError(f"{shown}: cannot be unpacked ({error}): save it again") from None
    if packed.unconsumed_tail:
        raise UserError(f"{shown}: unpacks to more than {MOST} times its size: save it in parts")


def _loaded(path: Path) -> "DocBin":
    from spacy.tokens import DocBin

    found = DocBin().from_bytes(path.read_bytes())
    if not len(found.tokens) == len(found.spaces) == len(found.cats):
        raise ValueError("its documents and their categories are not as many")
    return found


def _categories(cats: Any, *, are_labels: bool) -> list[str] | None:
    """Return the categories of a document; None if a model gave them scores, which are no labels.
    Raises ValueError for scores in place of labels."""
    if score := next((score for score in cats.values() if score not in (0, 1)), None):
        if are_labels:
            raise ValueError(f"a category has the score {excerpt(str(score), 40)}, not 1 or 0")
        return None
    return [str(name) for name, given in cats.items() if given == 1]


def _document(tokens: Any, spaces: Any, names: "StringStore") -> dict[str, Any]:
    """Return the text, the spans and the tokens of a document. Raises ValueError or KeyError for
    one that is damaged."""
    words = [names[int(key)] for key in tokens[:, 0]]
    if len(spaces) != len(words):
        raise ValueError(f"has {len(words):,} tokens, and spaces of {len(spaces):,}")
    parts = [word + " " * bool(space) for word, space in zip(words, spaces, strict=True)]
    ends = np.cumsum([len(part) for part in parts]).tolist()
    marks = tokens[:, 1].tolist()
    fields: dict[str, Any] = {"text": "".join(parts), "label": None, "tokens": as_json(words)}
    if UNKNOWN in marks:
        if set(marks) != {UNKNOWN}:
            raise ValueError("its entities are known in a part of it alone")
        return fields
    spans: list[list[Any]] = []
    inside = False
    for word, end, space, mark, kind in zip(words, ends, spaces, marks, tokens[:, 2], strict=True):
        stop = end - bool(space)
        if mark == BEGIN:
            spans.append([stop - len(word), stop, names[int(kind)]])
        elif mark == INSIDE and inside:
            spans[-1][1] = stop
        elif mark != OUTSIDE:
            raise ValueError(f"{excerpt(word)!r} goes on with an entity that did not begin")
        inside = mark != OUTSIDE
    fields["label"] = spans
    return fields
