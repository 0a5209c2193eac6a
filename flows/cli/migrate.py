"""Rewriting of old names, and addition of new keys, in params.yaml for `bertline migrate`."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.core import old_names
from pipeline.core.config import PARAMS_FILE, read_recipes
from pipeline.core.files import write_text


@dataclass(frozen=True)
class Change:
    """Replacement of one word of the file; an insertion if `old` is empty."""

    line: int
    column: int
    """Line and column count from 0."""
    place: str
    """Dotted key of the word."""
    old: str
    new: str

    def message(self, path: Path) -> str:
        where = f"{path}, line {self.line + 1}: {self.place}"
        if not self.old:
            return f"{where}: is new, and added with the value that changes nothing"
        return f"{where}: {self.old} is {self.new} now"


def migrate(path: Path = PARAMS_FILE) -> list[str]:
    """Rewrite the old names of a params.yaml and add its missing keys; all other bytes stay.

    Returns a line for each change. Raises UserError if the file is missing or no YAML.
    """
    read_recipes(path)  # raises UserError for an invalid file
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines(keepends=True)
    changes = sorted(_changes(text), key=lambda change: (change.line, change.column))
    for change in reversed(changes):
        line = lines[change.line]
        start = line.index(change.old, change.column)  # a value may be quoted
        lines[change.line] = line[:start] + change.new + line[start + len(change.old) :]
    if changes:
        write_text(path, "".join(lines))
    return [change.message(path) for change in changes]


def _changes(text: str) -> Iterator[Change]:
    from ruamel.yaml import YAML

    recipes: Any = YAML().load(text)["recipes"]
    for name, block in recipes.items():
        if not hasattr(block, "lc"):
            continue
        for place, new in old_names.old_keys(block):
            above: Any = block
            for part in place[:-1]:
                above = above[part]
            line, column = above.lc.key(place[-1])
            yield Change(line, column, ".".join(["recipes", name, *place]), place[-1], new)
        for place, value, following in old_names.missing_keys(block):
            section: Any = block
            for part in place[:-1]:
                section = section[part]
            line, column = section.lc.key(following)
            after = ", " if section.fa.flow_style() else "\n" + " " * column
            new = f"{place[-1]}: {value}{after}"
            yield Change(line, column, ".".join(["recipes", name, *place]), "", new)
        if (task := block.get("task")) in old_names.TASKS:
            line, column = block.lc.value("task")
            yield Change(line, column, f"recipes.{name}.task", task, old_names.TASKS[task])
