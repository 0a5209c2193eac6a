"""Heads: the output layers on an encoder, one object a file.

Only a task names its head; no other code depends on which one it is. A new head is one file here
with one object HEAD. Importing these files does not load PyTorch.
"""

from importlib import import_module

from pipeline.models.heads.base import Head
from pipeline.tasks.base import Task


def head_of(task: Task) -> Head:
    """Return the head that a task names: HEAD of the file of that name."""
    head: Head = import_module(f"{__name__}.{task.head}").HEAD
    return head
