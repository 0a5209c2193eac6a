"""Positions in UTF-16 code units, which JavaScript and Java count: a character beyond the Basic
Multilingual Plane, such as most emoji, has two."""

from bisect import bisect_right
from itertools import accumulate


def from_utf16(text: str, place: int) -> int:
    """Return the position in characters of a position in UTF-16 code units; one outside of the text
    stays outside."""
    if place < 0 or text.isascii():
        return place
    units = list(accumulate((1 + (c > "\uffff") for c in text), initial=0))
    return place - units[-1] + len(text) if place > units[-1] else bisect_right(units, place) - 1
