"""What makes two texts the same, and how much of one is shown."""

import hashlib
import unicodedata

ID_WIDTH = 20  # hexadecimal digits: 80 bits, no collision to be expected in 10^9 rows


def normalised(text: str) -> str:
    """The text by which duplicates are found: NFKC, case folded, white space collapsed."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def both(text: str, second: str) -> str:
    """A row's two texts as one, by which it is named and its copies are found. The NUL between
    them is no white space: what is before it and what behind stays told apart."""
    return f"{text} \0 {second}" if second else text


def content_id(text: str) -> str:
    """A row's name: the head of the SHA-256 of its raw text, as hex."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:ID_WIDTH]


def position(key: str) -> float:
    """A fixed place in [0, 1) for a key: the same on every machine and in every order."""
    return int.from_bytes(hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()[:8]) / 2**64


def excerpt(text: str, width: int = 80) -> str:
    """The beginning of a text on one line, printable."""
    head = " ".join(text[: 4 * width].split())
    head = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in head)
    return head if len(head) <= width else head[: width - 1] + "…"
