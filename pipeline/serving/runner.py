"""Work of a runner's thread: the answers to a batch, or the place of an error."""

import contextlib
import os
import threading
import traceback
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.serving.version import Version
    from pipeline.tasks.base import Answer
    from pipeline.tasks.base.encoding import Texts

NICE = 5  # niceness of a runner's thread, of at most 19


class Failed(Exception):  # noqa: N818
    """Error of the version's code: its type and place, without its message."""


def lower_priority() -> None:
    """Lower this thread's priority, so that the event loop does not wait for a batch."""
    with contextlib.suppress(OSError, AttributeError):  # only Linux has priorities of threads
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)


def answers(version: "Version", texts: "list[Texts]", size: int) -> "list[Answer | Failed]":
    """Return one answer per text. If a batch fails, answer its texts one by one, so that only the
    text at fault has none."""
    try:
        found = version.answer(texts, size)
        if len(found) != len(texts):
            raise RuntimeError(f"{len(found)} answers to {len(texts)} texts")
        return [*found]
    except BaseException as error:  # a panic of the tokenizer is not an Exception
        if len(texts) == 1:
            return [failed(error)]
    return [answer for text in texts for answer in answers(version, [text], size)]


def failed(error: BaseException) -> Failed:
    """Return a Failed with an error's type and place, without its message: it may quote a text."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({os.path.basename(frames[-1].filename)}:{frames[-1].lineno})" if frames else ""  # noqa: PTH119
    return Failed(f"{type(error).__name__}{place}")
