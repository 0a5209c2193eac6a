"""Input of `bertline predict`: texts or pairs of texts from arguments, a file or a pipe."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.core.errors import UserError


def read_texts(given: Sequence[str], file: Path | None) -> tuple[str | None, list[str]]:
    """Return the source of the texts and the texts, one for each line of the source.

    The source is None if the texts are those `given`, else a file or standard input.
    """
    if given and (file is not None or (len(given) > 1 and "-" in given)):
        raise UserError("predict: give only one of texts, --file FILE, or - for standard input")
    if file is not None:
        if not file.is_file():
            raise UserError(f"{file}: no such file")
        content = file.read_bytes()
        name = str(file)
    elif given == ["-"] or (not given and not sys.stdin.isatty()):
        content, name = sys.stdin.buffer.read(), "standard input"
    elif given:
        return None, [decoded(text, f"text {n}") for n, text in enumerate(given, 1)]
    else:
        raise UserError("predict: give texts, --file FILE, or - for standard input")
    texts = []
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").splitlines(), 1):
        try:
            texts.append(line.decode())
        except UnicodeDecodeError as error:
            raise UserError(
                f"{name}, line {number}: is not UTF-8 (byte {error.start + 1}): fix that line"
            ) from None
    if not texts:
        raise UserError(f"{name}: is empty: one text a line is expected")
    return name, texts


def is_utf8(argument: str) -> bool:
    """True if an argument was UTF-8: other bytes become lone surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in argument)


def decoded(argument: str, what: str) -> str:
    """Return an argument as text, also if the locale is not UTF-8 but its bytes are.

    Raises UserError if they are not.
    """
    if is_utf8(argument):
        return argument
    try:
        return os.fsencode(argument).decode()
    except UnicodeError:
        raise UserError(f"{what}: {argument!r} is not UTF-8: set your terminal to it") from None


def pairs(recipe: str, name: str | None, texts: list[str]) -> list[tuple[str, str]]:
    """Make pairs of the texts: two arguments or one line of a source each."""
    if name is not None:
        return [_pair(line, f"{name}, line {number}") for number, line in enumerate(texts, 1)]
    if len(texts) % 2:
        raise UserError(f"{recipe}: reads two texts at once: give them two by two")
    return list(zip(texts[::2], texts[1::2], strict=True))


def _pair(line: str, where: str) -> tuple[str, str]:
    """Parse two texts separated by a tab, or JSON."""
    try:
        content = json.loads(line) if line.startswith("{") else None
        text, second = (content["text"], content["second"]) if content else line.split("\t")
        if not isinstance(text, str) or not isinstance(second, str):
            raise TypeError
    except (ValueError, KeyError, TypeError):
        raise UserError(
            f"{where}: is no pair: write two texts separated by a tab, or JSON with text and second"
        ) from None
    return text, second
