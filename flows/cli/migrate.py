"""An old params.yaml under the names of today: what `bertline migrate` does."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.core import old_names
from pipeline.core.config import PARAMS_FILE, read_recipes
from pipeline.core.files import write_text


@dataclass(frozen=True)
class Change:
    """A word of the file that is replaced where it stands."""

    line: int
    column: int
    """Both from 0."""
    place: str
    """The dotted key that it belongs to."""
    old: str
    new: str

    def told(self, path: Path) -> str:
        return f"{path}, line {self.line + 1}: {self.place}: {self.old} is {self.new} now"


def migrate(path: Path = PARAMS_FILE) -> list[str]:
    """Rewrite the old names of a params.yaml; everything else stays, to the byte.

    Returns a line for each change. Raises UserError where the file is missing, or is no YAML.
    """
    read_recipes(path)  # refuses what is no params.yaml, in one line
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines(keepends=True)
    changes = sorted(_changes(text), key=lambda change: (change.line, change.column))
    for change in reversed(changes):
        line = lines[change.line]
        start = line.index(change.old, change.column)  # a value may stand in quotes
        lines[change.line] = line[:start] + change.new + line[start + len(change.old) :]
    if changes:
        write_text(path, "".join(lines))
    return [change.told(path) for change in changes]


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
        if (task := block.get("task")) in old_names.TASKS:
            line, column = block.lc.value("task")
            yield Change(line, column, f"recipes.{name}.task", task, old_names.TASKS[task])
