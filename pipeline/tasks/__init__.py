"""Tasks, one folder each; no other package depends on the name of a task.

    task: ner        # in a recipe names pipeline/tasks/ner, whose class is a `Task`

Every registered version contains its task's folder and `base`, so it keeps answering with the code
that it was judged with. At their top these files therefore import only the standard library, numpy
and, by relative names, each other; anything else (torch, scikit-learn) is imported inside a
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
    """Task of that name: an instance of the `Task` subclass in its folder's `__init__.py`.

    Raises LookupError if there is none.
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
