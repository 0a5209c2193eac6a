"""Character encodings of text files: recognised for messages, read only as the recipe says.

The readers of text read UTF-8. A file in another encoding is copied to UTF-8 first, line by line,
so the numbers of lines stay.
"""

import codecs
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline.core.errors import UserError
from pipeline.core.text import excerpt

ASCII, UTF8, UNSURE = "ascii", "utf-8", ""
MARKS = {  # byte order marks; the longer ones first
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
CHUNK = 1 << 20  # bytes
SAMPLES = 1000  # lines with other characters than ASCII
FEWEST = 3  # such lines from which the encoding of a file is in doubt, not that of its rows
WESTERN = "cp1252"
SIGNS = frozenset("“”„‘’‚–—…€«»°§©®™·•´¡¿ºª\xa0")  # common in texts of Western Europe
ISOLATED = (
    *("gb18030", "big5", "cp932", "euc_jp", "euc_kr"),
    *(WESTERN, "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "koi8_r"),
)


def known(name: str) -> bool:
    """True if Python can decode this encoding to text."""
    try:
        return codecs.lookup(name)._is_text_encoding
    except (LookupError, ValueError):
        return False


def is_utf8(name: str) -> bool:
    return codecs.lookup(name).name in ("utf-8", "utf-8-sig")


def recognise(path: Path) -> str:
    """Return the likely encoding of a text file.

    ASCII if it has no other characters, UNSURE if only one or two lines have and none is UTF-8.
    """
    with path.open("rb") as file:
        if name := _by_bytes(file.read(CHUNK)):
            return name
        file.seek(0)
        lines = iter(lambda: file.readline(CHUNK), b"")
        return _by_lines(line for line in lines if not line.isascii())


def recognise_texts(texts: Iterable[bytes]) -> str:
    """Return the likely encoding of many short files, as `recognise` does for one."""
    sample = list(islice((text for text in texts if not text.isascii() or b"\0" in text), SAMPLES))
    names = [name for text in sample if (name := _by_bytes(text[:CHUNK]))]
    return names[0] if len(names) > len(sample) / 2 else _by_lines(sample)


def _by_bytes(head: bytes) -> str | None:
    """Return an encoding of two or four bytes a character, by its mark or its line ends."""
    for mark, name in MARKS.items():
        if head.startswith(mark):
            return name
    if head.count(0) < FEWEST:
        return None
    blanks = {name: _blanks(head.decode(name, "replace")) for name in ("utf-16-le", "utf-16-be")}
    name = max(blanks, key=blanks.__getitem__)
    return name if blanks[name] > 10 * min(blanks.values()) and blanks[name] >= FEWEST else None


def _blanks(text: str) -> int:
    return sum(map(text.count, "\n\t ,"))


def _by_lines(lines: Iterable[bytes]) -> str:
    """Return the encoding of lines with other characters than ASCII."""
    sample = list(islice(lines, SAMPLES))
    broken = [line for line in sample if not _decodes(line)]
    if not sample:
        return ASCII
    if len(broken) <= len(sample) / 2:
        return UTF8
    if len(broken) < FEWEST:
        return UNSURE
    content = b"".join(broken)[:CHUNK]
    text = content.decode(WESTERN, "replace")
    marks = [character for character in text if ord(character) > 127]
    usual = sum(c in SIGNS or (c.isalpha() and c < "ƀ") for c in marks)
    if usual == len(marks) and not _decodes(content, "gb18030"):
        return WESTERN
    from charset_normalizer import from_bytes

    best = from_bytes(content[: CHUNK // 8], cp_isolation=list(ISOLATED)).best()
    name = best.encoding if best else WESTERN
    if name == "cp1250" and usual > 0.98 * len(marks):  # which charset_normalizer prefers
        name = WESTERN
    return name.replace("_", "-")


def _decodes(content: bytes, name: str = UTF8) -> bool:
    try:
        content.decode(name)
    except UnicodeDecodeError:
        return False
    return True


@contextmanager
def as_utf8(path: Path, shown: str, name: str) -> Iterator[Path]:
    """Yield a file of the text of `path` in UTF-8: the file itself, or a copy that is deleted.

    Raises UserError if the file is clearly not in the encoding `name`. A byte that does not decode
    becomes 0xff, which costs the reader only this row.
    """
    refuse_other(recognise(path), name, shown, path)
    if is_utf8(name):
        yield path
        return
    with TemporaryDirectory(prefix="bertline-") as folder:
        copy = Path(folder) / path.name
        with (
            path.open(encoding=name, errors="bertline-mark", newline="") as file,
            copy.open("w", encoding=UTF8, errors="surrogateescape", newline="") as written,
        ):
            try:
                while text := file.read(CHUNK):
                    written.write(text)
            except UnicodeError as error:  # such as UTF-16 without a byte order mark
                raise UserError(f"{shown}: is not {name} ({error}): name its encoding") from None
        yield copy


def refuse_other(found: str, name: str, shown: str, path: Path) -> None:
    """Raise UserError if the encoding that was recognised rules out the named one; `path` is a file
    whose beginning the message shows."""
    wide = found.startswith("utf-16")
    if is_utf8(name):
        fits = found in (ASCII, UTF8, UNSURE)
    else:
        fits = found != UTF8 and wide == codecs.lookup(name).name.startswith("utf-16")
    if not fits:
        raise UserError(
            f"{shown}: is not {name.upper()}, it looks like {found} ({_beginning(path, found)}):"
            f" set ingest.encoding to {found}"
        )


def _beginning(path: Path, name: str) -> str:
    """Return the first line that is not ASCII, as it reads in an encoding."""
    with path.open(encoding=name, errors="replace") as file:
        lines = iter(lambda: file.readline(CHUNK), "")
        line = next((line for line in lines if not line.isascii()), "")
    at = next((i for i, character in enumerate(line) if ord(character) > 127), 0)
    return repr(excerpt(line[max(0, at - 20) :], 40))


def _mark(error: UnicodeError) -> tuple[str, int]:
    """Replace bytes that do not decode by lone surrogates, which are written as the byte 0xff."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "\udcff" * (error.end - error.start), error.end


codecs.register_error("bertline-mark", _mark)
