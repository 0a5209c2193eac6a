"""Tasks, a folder each: the only place where a task's name means anything.

    task: ner        # in a recipe names pipeline/tasks/ner, whose class is a `Task`

A task's folder and `base` travel inside every registered version, which is answered for by the code
that it was judged with. So at their top these files import the standard library, numpy and, by a
relative name, each other; whatever else they use (torch, scikit-learn) they import inside a
function.
"""

from importlib import import_module
from pathlib import Path

from .base import Task


def known() -> list[str]:
    """Names of all tasks: the folders beside `base`."""
    files = (file for folder in __path__ for file in Path(folder).glob("*/__init__.py"))
    return sorted(file.parent.name for file in files if file.parent.name != "base")


def get(name: str) -> Task:
    """The task of that name; the one class of its folder's `__init__.py` that is a `Task`.

    Raises LookupError where there is none.
    """
    if name not in known():
        raise LookupError(name)
    module = import_module(f".{name}", __name__)
    own = [
        kind
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, Task) and kind.__module__ == module.__name__
    ]
    task: Task = own[-1]()
    return task
