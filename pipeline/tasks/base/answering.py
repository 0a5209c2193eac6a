"""Prediction from raw texts, on any runtime."""

from collections.abc import Callable, Sequence

from . import Answer, Decision, Task
from .encoding import Encoder, Texts
from .runtime import Runtime

AT_ONCE = 512  # texts in a chunk: limits the memory of logits, and paces the progress


class Answering:
    """Model that answers texts: a task, an encoder and a runtime."""

    def __init__(
        self,
        task: Task,
        encoder: Encoder,
        runtime: Runtime,
        classes: Sequence[str],
        decision: Decision,
    ) -> None:
        self.task, self.encoder, self.runtime = task, encoder, runtime
        self.classes, self.decision = classes, decision

    def __call__(
        self,
        texts: Sequence[Texts],
        batch_size: int = 8,
        progress: Callable[[int, int], object] = lambda *_: None,
    ) -> list[Answer]:
        """Answer each text; `progress` is called with the number of answered and of all texts."""
        answers = []
        for start in range(0, len(texts), AT_ONCE):
            part = texts[start : start + AT_ONCE]
            pieces = self.encoder.pieces(part)
            logits = self.task.run(self.runtime, pieces, batch_size, self.decision)
            answers += self.task.answers(logits, pieces, part, self.classes, self.decision)
            progress(start + len(part), len(texts))
        return answers
