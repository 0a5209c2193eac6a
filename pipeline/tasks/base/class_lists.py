"""Names of classes in a cell: one name, or a list as JSON, Python or NumPy writes it."""

import json
import re

from . import class_name

QUOTED = re.compile(r"\[\s*('[^']*'[\s,]*)*\]")  # a list as Python and NumPy write it


def listed(cell: str) -> list[object] | None:
    """Elements of a cell that is a list; None for other cells, also for those with brackets."""
    try:
        found = json.loads(cell) if cell.startswith("[") else None
    except (ValueError, RecursionError):
        found = re.findall(r"'([^']*)'", cell) if QUOTED.fullmatch(cell) else None
    return found if isinstance(found, list) else None


def single_class(cell: str) -> str:
    """Class of a cell, or of the list that has it as its only element; "" for an empty list.

    Raises ValueError for several classes and for other content of JSON than a name or a number.
    """
    refuse_object(cell)
    names = listed(cell)
    if names is None:
        return class_name(cell)
    if len(names) > 1 and all(isinstance(name, str | int | float) for name in names):
        raise ValueError(f"it has {len(names)} classes: set the recipe's task to multilabel")
    for name in names:
        if not isinstance(name, str | int | float):
            raise ValueError('its list holds no names of classes: write it like film or ["film"]')
        return class_name(name if isinstance(name, str) else json.dumps(name))
    return ""


def refuse_object(cell: str) -> None:
    """Raise ValueError for a cell that is a JSON object."""
    if not cell.startswith("{"):
        return
    try:
        found = json.loads(cell)
    except (ValueError, RecursionError):
        return
    if isinstance(found, dict):
        raise ValueError("it is a JSON object, not the name of a class")
