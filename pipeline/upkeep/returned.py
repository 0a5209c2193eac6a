"""A person's rows leave what people sent back: the labels of a recipe, and its feedback.

Both are JSON Lines that name each text. A line goes as a whole: what a text was answered, and its
name, are that person's too.
"""

import json
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from pipeline.core.text import both, content_id
from pipeline.serving.feedback import drop
from pipeline.upkeep.forget import Found, Step
from pipeline.upkeep.rows import Forgotten


def look(files: Iterable[Path], ids: set[str], found: Found) -> list[Path]:
    """Add to `found` what the files say of these rows, and of others. Returns those of the files
    that hold some of the rows."""
    holders = []
    for file in files:
        held = set()
        for line in _lines(file):
            name, text = _row(line)
            if name in ids:
                held.add(name)
                found.texts |= {name: text} if text else {}
            elif text:
                found.others.append(text)
        found.known |= held
        holders += [file] if held else []
    return holders


def steps(files: Iterable[Path], forgotten: Forgotten) -> list[Step]:
    """How the files lose the rows' lines."""
    made = []
    goes = partial(_goes, forgotten)
    for file in files:
        if count := sum(map(goes, _lines(file))):
            made.append(Step(f"rewrite {file} without {count} lines", partial(drop, file, goes)))
    return made


def _goes(forgotten: Forgotten, line: bytes) -> bool:
    name, _ = _row(line)
    # a line that cannot be read is known by its words alone
    return name in forgotten.ids if name else forgotten.in_bytes(line)


def _row(line: bytes) -> tuple[str, str]:
    """The name of a line's text, and the text where the line has it; "" where it is no row."""
    try:
        content = json.loads(line)
        text = both(str(content.get("text") or ""), str(content.get("second") or ""))
        return (content_id(text) if text else str(content["id"])), text
    except (ValueError, RecursionError, AttributeError, KeyError):
        return "", ""


def _lines(path: Path) -> list[bytes]:
    if not path.exists():
        return []
    with path.open("rb") as file:
        return file.readlines()
