"""Identity of texts, and excerpts of them."""

import hashlib
import unicodedata

from pipeline.core.errors import one_line

ID_WIDTH = 20  # hexadecimal digits: 80 bits, no collision expected in 10^9 rows


def normalised(text: str) -> str:
    """Return the form of a text that finds duplicates: NFKC, case folded, spaces collapsed."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def join_texts(text: str, second: str) -> str:
    """Join the two texts of a row, for its id and for finding its copies.

    The NUL between them is not white space, so `normalised` keeps the two texts apart.
    """
    return f"{text} \0 {second}" if second else text


def content_id(text: str) -> str:
    """Return the id of a row: the first digits of the SHA-256 of its raw text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:ID_WIDTH]


def position(key: str) -> float:
    """Hash a key to a number in [0, 1), the same on every machine and in every order."""
    return int.from_bytes(hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()[:8]) / 2**64


def excerpt(text: str, width: int = 80) -> str:
    """Return the beginning of a text as one printable line."""
    head = one_line(text[: 4 * width])
    return head if len(head) <= width else head[: width - 1] + "…"
