"""Heads: what an encoder carries for a kind of output, an object a file.

A task names its head; nobody else asks which head that is. A new head is one file here with one
object HEAD. These files load no PyTorch until something is asked of them.
"""

from importlib import import_module

from pipeline.models.heads.base import Head
from pipeline.tasks.base import Task


def head_of(task: Task) -> Head:
    """The head that a task names: HEAD of the file of that name."""
    head: Head = import_module(f"{__name__}.{task.head}").HEAD
    return head
