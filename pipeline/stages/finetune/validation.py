"""Validation of a model during training."""

from pathlib import Path

from pipeline.metrics import scoring
from pipeline.models.heads.seq2seq import Decoder
from pipeline.stages import artifacts
from pipeline.tasks.base import Decision, Logits, Task
from pipeline.tasks.base.encoding import WRITTEN


class Validator:
    """Scorer of a model on validation rows, which also tunes the decision: what answers need
    besides the weights."""

    def __init__(
        self,
        task: Task,
        validate: Path,
        tokenize: Path,
        classes: list[str],
        decoder: Decoder | None,
    ) -> None:
        self.task, self.classes = task, classes
        labels = artifacts.kept_rows(validate, "train", ["label"])["label"]
        self.prepared = task.prepare(labels.tolist())
        """Part of the decision that does not depend on the model."""
        if decoder:
            target = (tokenize / "tokenizer" / WRITTEN).read_text(encoding="utf-8")
            self.prepared = {**self.prepared, **decoder.model_dump(), "target": target}
        self.rows = artifacts.labelled(artifacts.kept_rows(validate, "validation"))
        self.encoder = artifacts.encoder(tokenize, task)
        self.pieces = self.encoder.pieces(self.rows.texts)
        self.train_targets = artifacts.targets(tokenize, "train") if task.remembers else []

    def decision(self, logits: list[Logits]) -> Decision:
        """Return the decision by the logits of the validation pieces, in order, followed by those
        of the training pieces if the task remembers them."""
        own, train = logits[: len(self.pieces)], logits[len(self.pieces) :]
        decided = self.task.decide(own, self.pieces, self.rows, self.classes)
        if self.task.remembers:
            decided = {**decided, **self.task.remember(train, self.train_targets, self.classes)}
        return {**self.prepared, **decided}

    def metrics(self, logits: list[Logits]) -> dict[str, float]:
        """Return the task's metrics of such logits."""
        rows, decision = self.rows, self.decision(logits)
        own = logits[: len(self.pieces)]
        answers = self.task.answers(own, self.pieces, rows.texts, self.classes, decision)
        labels = [answer.label for answer in answers]
        tallied = scoring.tallies(self.task, rows.labels, labels, self.classes, rows.groups)
        return scoring.metrics(self.task.measure, tallied)
