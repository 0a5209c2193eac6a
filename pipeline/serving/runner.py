"""What a runner's thread does: a batch's answers, and an error's name where there is none."""

import contextlib
import os
import threading
import traceback
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.serving.version import Version
    from pipeline.tasks.base import Answer
    from pipeline.tasks.base.encoding import Texts

NICE = 5  # of 19


class Failed(Exception):  # noqa: N818
    """The version's code raised an error: what and where, in one line without any text."""


def step_back() -> None:
    """Let the event loop go first: who is refused, or answered, need not wait for a batch."""
    with contextlib.suppress(OSError, AttributeError):  # Linux alone has priorities of threads
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)


def answers(version: "Version", texts: "list[Texts]", size: int) -> "list[Answer | Failed]":
    """One for each text. Where a batch fails its texts are answered one by one, so that one of
    them does not cost the others their answer."""
    try:
        return list(_whole(version, texts, size))
    except BaseException as error:  # a tokenizer's panic is no Exception
        if len(texts) == 1:
            return [failed(error)]
    return [answer for text in texts for answer in answers(version, [text], size)]


def _whole(version: "Version", texts: "list[Texts]", size: int) -> "list[Answer]":
    found: list[Answer] = version.answer(texts, size)
    if len(found) != len(texts):
        raise RuntimeError(f"{len(found)} answers to {len(texts)} texts")
    return found


def failed(error: BaseException) -> Failed:
    """An error's kind and place: its message may quote a text."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({os.path.basename(frames[-1].filename)}:{frames[-1].lineno})" if frames else ""  # noqa: PTH119
    return Failed(f"{type(error).__name__}{place}")
