"""Names for shell completion.

The shell calls this at each press of the tab key, so nothing else of bertline is imported, no YAML
is parsed, and errors are silent.
"""

import re
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
KEY = re.compile(r"([a-z][a-z0-9_-]*)[ ]*:")


def recipes(incomplete: str) -> list[str]:
    """Return the recipes of params.yaml: the keys of the first indentation below `recipes:`."""
    try:
        lines = Path("params.yaml").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    found: dict[int, list[str]] = {}
    inside = False
    for line in lines:
        own = line.lstrip(" ")
        if own and own == line and not own.startswith("#"):
            inside = own.startswith("recipes:")
        elif inside and (key := KEY.match(own)):
            found.setdefault(len(line) - len(own), []).append(key[1])
    return _beginning(found[min(found)] if found else [], incomplete)


def gallery(incomplete: str) -> list[str]:
    """Return the recipes of the gallery."""
    files = (ROOT / "flows" / "gallery").glob("*.yaml")
    return _beginning((file.stem for file in files if file.stem != "defaults"), incomplete)


def tasks(incomplete: str) -> list[str]:
    """Return the tasks: the folders of pipeline/tasks except `base`."""
    files = (ROOT / "pipeline" / "tasks").glob("*/__init__.py")
    return _beginning((f.parent.name for f in files if f.parent.name != "base"), incomplete)


def _beginning(names: Iterable[str], incomplete: str) -> list[str]:
    return sorted(name for name in names if name.startswith(incomplete))
