"""Removal of a person's rows from the labels and the feedback of a recipe.

Both are JSON Lines with the id or the text of each row. Whole lines are removed: the answer to a
text and its id are that person's data too.
"""

import json
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from pipeline.core.text import content_id, join_texts
from pipeline.serving.feedback import drop
from pipeline.upkeep.forget import Found, Step
from pipeline.upkeep.rows import Forgotten


def look(files: Iterable[Path], ids: set[str], found: Found) -> list[Path]:
    """Add the texts in the files to `found`. Returns the files that hold some of the rows."""
    holders = []
    for file in files:
        names = set()
        for line in _lines(file):
            name, text = _row(line)
            if name in ids:
                names.add(name)
                found.texts |= {name: text} if text else {}
            elif text:
                found.others.append(text)
        found.known |= names
        holders += [file] if names else []
    return holders


def steps(files: Iterable[Path], forgotten: Forgotten) -> list[Step]:
    """Return the steps that remove the lines of the rows from the files."""
    found = []
    matches = partial(_matches, forgotten)
    for file in files:
        if count := sum(map(matches, _lines(file))):
            rewrite = partial(drop, file, matches)
            found.append(Step(f"rewrite {file} without {count} lines", rewrite))
    return found


def _matches(forgotten: Forgotten, line: bytes) -> bool:
    name, _ = _row(line)
    # a line that cannot be parsed is searched for the words
    return name in forgotten.ids if name else forgotten.in_bytes(line)


def _row(line: bytes) -> tuple[str, str]:
    """Return the id of a line's row and its text; "" for what the line does not hold."""
    try:
        content = json.loads(line)
        text = join_texts(str(content.get("text") or ""), str(content.get("second") or ""))
        return (content_id(text) if text else str(content["id"])), text
    except (ValueError, RecursionError, AttributeError, KeyError):
        return "", ""


def _lines(path: Path) -> list[bytes]:
    if not path.exists():
        return []
    with path.open("rb") as file:
        return file.readlines()
