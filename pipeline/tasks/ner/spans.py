"""Spans of a label: parsed, compared with what they say of themselves, and in other units."""

import json
from typing import Any

from ..base import HARMFUL
from ..base.encoding import trimmed
from ..base.utf16 import from_utf16
from .bio import Span
from .word_boundaries import goes_on

LONGEST = 60  # characters of a text in a message
FORMS = 'a span is [start, end, type] or {"start": , "end": , "label": }'


def parse(cell: str, text: str) -> list[Span]:
    """Parse a JSON list of spans, sorted and each once; white space at either end of a span is
    excluded from it.

    A span is [start, end, type] or an object with `start` and `end` (or `start_offset` and
    `end_offset`), `label` (or `labels`, a list of one) and perhaps its own `text`. Raises
    ValueError for other content and for a span whose own text is elsewhere.
    """
    return sorted({_span(entry, text) for entry in entries(cell)})


def entries(cell: str) -> list[Any]:
    """Return the entries of a cell. Raises ValueError if it is no JSON list."""
    try:
        found = json.loads(cell)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, list):
        raise ValueError('is no JSON list of spans: write it like [[0, 4, "PER"]], or [] for none')
    return found


def _span(entry: Any, text: str) -> Span:
    own = entry.get("text") if isinstance(entry, dict) else None
    start, end, kind = _parts(entry)
    if type(start) is not int or type(end) is not int:
        raise ValueError("a span's start and end are whole numbers")
    if not isinstance(kind, str) or not kind.strip() or HARMFUL.search(kind):
        raise ValueError(f"the type of span {start} to {end} is empty or not printable")
    if start > end:
        raise ValueError(f"span {start} to {end} ends before it starts")
    if isinstance(own, str) and _plain(own) != _plain(text[max(start, 0) : end]):
        raise ValueError(_elsewhere(start, end, own, text))
    if not 0 <= start <= end <= len(text):
        raise ValueError(f"span {start} to {end} lies outside of the text's {len(text)} characters")
    first, last = trimmed(text, start, end)
    if first == last:
        raise ValueError(f"span {start} to {end} holds no character but white space")
    return Span(first, last, kind.strip())


def _parts(entry: Any) -> tuple[Any, Any, Any]:
    """Return start, end and type of an entry."""
    if isinstance(entry, dict):
        kinds = entry.get("labels", entry.get("label"))
        if isinstance(kinds, list) and len(kinds) == 1:
            kinds = kinds[0]
        start = entry.get("start", entry.get("start_offset"))
        return start, entry.get("end", entry.get("end_offset")), kinds
    if not isinstance(entry, list) or len(entry) != 3:
        raise ValueError(FORMS)
    return entry[0], entry[1], entry[2]


def _plain(text: str) -> str:
    """Return a text for comparison: with single spaces, also for line breaks, which Label Studio
    writes as a backslash and n."""
    return " ".join(text.replace("\\n", "\n").split())


def _elsewhere(start: int, end: int, own: str, text: str) -> str:
    """Return the reason of a span whose own text is not at its place."""
    there = _shown(text[max(start, 0) : end])
    reason = f"span {start} to {end} says {_shown(own)}, but the text there is {there}"
    characters = from_utf16(text, start), from_utf16(text, end)
    if _plain(own) == _plain(text[slice(*characters)]):
        return f"{reason}: its positions count UTF-16 units, set ingest.offsets to utf-16"
    return reason


def _shown(text: str) -> str:
    return repr(text if len(text) <= LONGEST else text[:LONGEST] + "…")


def in_characters(cell: str, text: str) -> str:
    """Return a cell with positions in characters instead of UTF-16 code units."""
    converted: list[Any] = []
    for entry in entries(cell):
        if isinstance(entry, dict):
            keys = ("start", "end", "start_offset", "end_offset")
            places = {key: entry[key] for key in keys if type(entry.get(key)) is int}
            own = {key: from_utf16(text, place) for key, place in places.items()}
            converted.append(entry | own)
        elif isinstance(entry, list):
            ends = [from_utf16(text, p) if type(p) is int else p for p in entry[:2]]
            converted.append([*ends, *entry[2:]])
        else:
            converted.append(entry)
    return json.dumps(converted, ensure_ascii=False)


def doubt(spans: list[Span], text: str) -> str | None:
    """Return what is doubtful about the spans of a text: one begins or ends inside a word."""
    for start, end, kind in spans:
        for place in (start, end):
            if goes_on(text, place):
                word = text[max(0, place - 10) : place + 10]
                hint = "; do its positions count UTF-16 units (ingest.offsets)?" * (not _bmp(text))
                part = "begins" if place == start else "ends"
                return f"span {start} to {end} ({kind}) {part} inside a word, {word!r}{hint}"
    return None


def _bmp(text: str) -> bool:
    return all(character <= "\uffff" for character in text)
