"""What a task is: one file of this folder, and the only place where its name means anything.

    task: ner        # in a recipe names pipeline/tasks/ner/__init__.py, whose class is a `Task`

Stages, gate and report know of a task only what stands here. A label is always one string: what
`Task.label` writes is how rows, answers and the ledger hold it, so that two labels are the same
where their strings are.

These files travel inside every registered version, which is answered for by the code that it was
judged with. So at their top they import the standard library, numpy and, by a relative name, the
files beside them; whatever else they use (torch, scikit-learn) they import inside a function.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from .encoding import Encoder, LongText, Piece, Texts
from .runtime import Runtime

if TYPE_CHECKING:
    import torch


Floats = npt.NDArray[np.float64]
Logits = npt.NDArray[np.float32]
"""Of one piece: (outputs,) from a sequence head, (tokens, outputs) from a token head."""
Decision = Mapping[str, Any]
"""What was tuned on validation rows, such as thresholds: whatever JSON can hold."""
Target = int | float | list[int] | list[float]
IGNORED = -100  # a target that does not count, as PyTorch has it


@dataclass(frozen=True)
class Answer:
    """What a model says of one row."""

    label: str
    """Written as a row's label is."""
    confidence: float
    """In [0, 1]: how sure the model is of the whole label."""
    scores: Mapping[str, float] = field(default_factory=dict)
    """Of each class, where the task has classes that a whole text can have."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """What a served answer holds besides: column to value that JSON can hold."""


@dataclass(frozen=True)
class Labelled:
    """Rows with their labels, for baselines."""

    texts: Sequence[Texts]
    labels: Sequence[str]
    groups: Sequence[str] = ()
    """By row, "" where the recipe names no group."""


@dataclass(frozen=True)
class Setting:
    """What a baseline learns from, and what it answers: the test rows."""

    train: Labelled
    validation: Labelled
    test: Labelled
    classes: Sequence[str]
    kind: str
    """Of its features: one of `evaluate.baseline`."""
    seed: int
    encoder: Encoder
    """Cuts texts up as they are for the model."""


@dataclass(frozen=True)
class Detail:
    """What a report shows of a task's scores besides the metrics themselves."""

    per_class: dict[str, dict[str, float]] = field(default_factory=dict)
    """precision, recall, f1 and rows of each class."""
    averages: dict[str, dict[str, float]] = field(default_factory=dict)
    """precision, recall and f1 of each way to average them, such as micro."""
    more: dict[str, float] = field(default_factory=dict)
    """Further numbers by name, without intervals."""
    confusions: Sequence[tuple[str, str]] = ()
    """(truth, answer) of everything that can be confused; "" for nothing."""
    signatures: Mapping[str, str] = field(default_factory=dict)
    """How metrics were computed, where people quote that beside them: by name."""


class Task(ABC):
    """One kind of problem: its rows, targets, loss, answers and scores."""

    head: ClassVar[str]
    """A file of pipeline/models/heads: `sequence` scores a whole text, `token` each of its tokens,
    `embedding` places a text near those of its class, `masked_lm` predicts masked tokens, and
    `seq2seq` writes a text."""
    metrics: ClassVar[tuple[str, ...]]
    """Names of its scores, the higher the better; it is known by the first."""
    exact: ClassVar[str | None] = None
    """The metric that is the share of rows answered rightly, where there is one: an exact test
    compares two models by it. Else rows are compared by what `alone` says of each."""
    labelled: ClassVar[bool] = True
    """True if rows have labels; else `label` is given an empty cell."""
    two_texts: ClassVar[bool] = False
    """True if a row has a second text."""
    symmetric: ClassVar[bool] = False
    """True if the two may change places, where a recipe says that its labels do not hang on it."""
    with_neighbour: ClassVar[bool] = False
    """Whether a validation or test row is asked of with another of its split as second text."""
    dynamic_masking: ClassVar[bool] = False
    """True if what is learned is drawn anew in every epoch, by the encoder's `passages_of` and
    `drawn`."""
    cut: ClassVar[Literal["longest", "second"]] = "longest"
    """Which of two texts is cut where both are too long for the model."""
    offsets: ClassVar[bool] = False
    """True if answers are made of the characters that tokens stand for."""
    exclusive: ClassVar[bool] = False
    """True if a row has exactly one of a fixed list of classes: then classes can be weighed and
    smoothed, confidence is calibrated against being right, and behaviour can be tested."""
    by_group: ClassVar[bool] = False
    """True if rows of one group are scored together, as a ranking is."""
    baseline: ClassVar[tuple[str, ...]] = ("words", "characters")
    """What `evaluate.baseline` may say."""
    display_name: ClassVar[str] = "Text classification"
    """What people call it; in lower case with hyphens it is the hub's name of the task."""

    @property
    def name(self) -> str:
        return type(self).__module__.rpartition(".")[2]

    # rows

    @abstractmethod
    def label(self, cell: str, text: str, second: str) -> str:
        """A source's cell as a label, in the one way of writing it. An empty cell never comes here.

        Raises ValueError with the reason where it is no label of this row.
        """

    def classes(self, label: str) -> Sequence[str]:
        """The classes that a label names, one for each time; none where a task has no classes."""
        return ()

    def shown(self, label: str, text: str, second: str) -> str:
        """A label as people read it in a table, with its row's texts at hand."""
        return label

    def encoder(
        self,
        tokenizer: Path,
        max_length: int,
        long_text: LongText,
        overlap: int,
        masking: Mapping[str, Any] | None = None,
    ) -> Encoder:
        """What cuts this task's texts into pieces; `tokenizer` is its tokenizer.json, `masking`
        says which tokens are masked."""
        return Encoder(tokenizer, max_length, long_text, overlap, self.cut, self.offsets)

    # learning

    @abstractmethod
    def outputs(self, classes: Sequence[str]) -> list[str]:
        """Names of what the head computes, in order."""

    @abstractmethod
    def target(self, label: str, piece: Piece, texts: Texts, classes: Sequence[str]) -> Target:
        """What the head should say of a piece: always of one kind, IGNORED where nothing counts."""

    def prepare(self, labels: Sequence[str]) -> Decision:
        """What `scaled` and `answers` need of the training labels, one of each row, such as their
        mean: it is part of the decision, to which `decide` adds the rest."""
        return {}

    def scaled(self, targets: "torch.Tensor", decision: Decision) -> "torch.Tensor":
        """Stacked targets as the head learns them: what `loss` is given, in training and
        validation."""
        return targets

    @abstractmethod
    def loss(
        self,
        logits: "torch.Tensor",
        targets: "torch.Tensor",
        mask: "torch.Tensor",
        weights: "torch.Tensor | None" = None,
        smoothing: float = 0.0,
    ) -> "torch.Tensor":
        """Summed over every target that counts. `logits` are (pieces, outputs) or (pieces, tokens,
        outputs) in 32 bits, `targets` what `target` gave, stacked, padded with IGNORED and
        `scaled`, `mask` (pieces, tokens) whether a token is no padding. `weights` (of each class)
        and `smoothing` are given to exclusive tasks alone; to pretraining one weight, of
        its pairs."""

    def counted(self, targets: "torch.Tensor") -> "torch.Tensor":
        """How many of the stacked targets count: what a summed loss is divided by."""
        return (targets != IGNORED).sum()

    def decide(
        self,
        logits: Sequence[Logits],
        pieces: Sequence[Piece],
        rows: Labelled,
        classes: Sequence[str],
    ) -> Decision:
        """What answers need besides the weights, tuned on validation rows."""
        return {}

    @property
    def tunes(self) -> bool:
        """True if there is anything to decide."""
        return type(self).decide is not Task.decide

    def remember(
        self, logits: Sequence[Logits], targets: Sequence[Target], classes: Sequence[str]
    ) -> Decision:
        """What answers need of the training pieces, from what the model says of each and should
        say: it is part of the decision."""
        return {}

    @property
    def remembers(self) -> bool:
        """True if training pieces are asked about besides validation rows."""
        return type(self).remember is not Task.remember

    # answering

    def run(
        self, runtime: Runtime, pieces: Sequence[Piece], batch_size: int, decision: Decision
    ) -> list[Logits]:
        """What the model says of each piece."""
        return runtime.logits(pieces, batch_size)

    @abstractmethod
    def answers(
        self,
        logits: Sequence[Logits],
        pieces: Sequence[Piece],
        texts: Sequence[Texts],
        classes: Sequence[str],
        decision: Decision,
    ) -> list[Answer]:
        """One answer a row, from the logits of its pieces; `pieces[i].row` is the row's place in
        `texts`, and every row has a piece."""

    # scores

    @abstractmethod
    def tally(
        self, truths: Sequence[str], answers: Sequence[str], classes: Sequence[str]
    ) -> Floats:
        """What one row adds to the scores (one group of rows, where `by_group`), (counts,).

        Sums of tallies over rows are all that `measure` sees: so a bootstrap draws tallies.
        """

    @abstractmethod
    def measure(self, tallies: Floats) -> dict[str, Floats]:
        """The metrics of summed tallies, (..., counts) -> (...) each."""

    def per_unit_score(self, tallies: Floats) -> Floats:
        """How good each unit is by itself, (units, counts) -> (units,): where no metric is `exact`,
        two models are compared by which of them is better at how many units."""
        return self.measure(tallies)[self.metrics[0]]

    def same(self, answers: Sequence[str], others: Sequence[str]) -> npt.NDArray[np.bool_]:
        """Where two models say the same, (rows,)."""
        return np.array([a == b for a, b in zip(answers, others, strict=True)], dtype=bool)

    def agreement(self, answers: Sequence[str], others: Sequence[str]) -> Floats:
        """How much of each answer two models say alike, (rows,), in [0, 1]."""
        return self.same(answers, others).astype(np.float64)

    def comparable(self, logits: Logits) -> Logits:
        """Those of a piece's logits that two runtimes must give nearly alike."""
        return logits

    def error_severity(self, label: str, answer: Answer) -> float:
        """How far from its label a wrong answer is, by which mistakes are put in order: how sure
        the model is of it, where labels know no distance."""
        return answer.confidence

    @abstractmethod
    def baselines(self, on: Setting) -> dict[str, list[str]]:
        """Labels that little effort gives the test rows, by the name of the effort."""

    def detail(self, rows: Labelled, answers: Sequence[Answer], classes: Sequence[str]) -> Detail:
        """What the report shows besides the metrics."""
        return Detail()


def class_name(cell: str) -> str:
    """The name of a class without white space around it.

    Raises ValueError for one that no list of lines could hold.
    """
    name = cell.strip()
    if not name.isprintable():
        raise ValueError(f"its class {name!r} holds a character that cannot be printed")
    return name
