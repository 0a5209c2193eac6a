"""Shared base of the tasks that assign one class to a text or to a pair of texts."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from . import (
    Answer,
    ClassScores,
    Detail,
    Floats,
    Labelled,
    Logits,
    LossOptions,
    Target,
    Task,
    counts,
)
from .class_lists import single_class
from .encoding import Piece, Texts
from .roc_auc import areas
from .windows import row_means

if TYPE_CHECKING:
    from torch import Tensor


class SingleLabel(Task):
    head = "sequence"
    problem_type = "single_label_classification"
    metrics = ("accuracy", "macro_f1")
    exact = "accuracy"
    exclusive = True

    def label(self, cell: str, text: str, second: str) -> str:
        """Return the class of a cell, or of the list that has it as its only element."""
        return single_class(cell)

    def classes(self, label: str) -> Sequence[str]:
        return (label,)

    def outputs(self, classes: Sequence[str]) -> list[str]:
        return list(classes)

    def target(self, label: str, piece: Piece, texts: Texts, classes: Sequence[str]) -> Target:
        return classes.index(label)

    def loss(self, logits: "Tensor", targets: "Tensor", options: LossOptions) -> "Tensor":
        from torch.nn.functional import cross_entropy

        return cross_entropy(
            logits,
            targets,
            weight=options.weights,
            label_smoothing=options.smoothing,
            reduction="sum",
        )

    def answers(
        self,
        logits: Sequence[Logits],
        pieces: Sequence[Piece],
        texts: Sequence[Texts],
        classes: Sequence[str],
        decision: Mapping[str, Any],
    ) -> list[Answer]:
        """Class of the highest probability; probabilities are averaged over windows."""
        if not texts:
            return []
        scores = softmax(np.stack(logits).astype(np.float64))  # (pieces, classes)
        total = row_means(scores, pieces, len(texts))
        return [
            Answer(
                label=classes[best],
                confidence=float(row[best]),
                scores=scores_of_row,
            )
            for row, best, scores_of_row in zip(
                total, total.argmax(1), ClassScores.of_rows(classes, total), strict=True
            )
        ]

    def tally(
        self, truths: Sequence[str], answers: Sequence[str], classes: Sequence[str]
    ) -> Floats:
        right = truths[0] == answers[0]
        return counts.tally(truths if right else (), answers, truths, right, classes)

    def measure(self, tallies: Floats) -> dict[str, Floats]:
        return {"accuracy": counts.right(tallies), "macro_f1": counts.macro_f1(tallies)}

    def detail(self, rows: Labelled, answers: Sequence[Answer], classes: Sequence[str]) -> Detail:
        total = sum(
            (
                self.tally([t], [a.label], classes)
                for t, a in zip(rows.labels, answers, strict=True)
            ),
            np.zeros(3 * len(classes) + 2),
        )
        return Detail(
            per_class=counts.per_class(total, classes),
            averages=counts.averages(total),
            more=_areas(rows.labels, answers, classes),
            confusions=[(t, a.label) for t, a in zip(rows.labels, answers, strict=True)],
        )


def softmax(logits: Floats) -> Floats:
    """Softmax over the last axis, (rows, classes) -> (rows, classes)."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _areas(
    truths: Sequence[str], answers: Sequence[Answer], classes: Sequence[str]
) -> dict[str, float]:
    """Macro ROC-AUC and average precision; empty if a class has all rows or none."""
    hits = np.array(truths)[:, None] == np.array(classes)  # (rows, classes)
    if not len(hits) or not hits.any(0).all() or hits.all(0).any():
        return {}
    return areas(hits, ClassScores.stacked(answers, classes))
