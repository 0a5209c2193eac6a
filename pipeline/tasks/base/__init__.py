"""Contract between a task and the stages, the gate and the report.

A label is always one string, in the form that `Task.label` returns: rows, answers and the ledger
store that string, and two labels are equal if their strings are.
"""

import re
from abc import ABC, abstractmethod
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from .encoding import Encoder, LongText, Piece, Texts
from .runtime import Runtime

if TYPE_CHECKING:
    from torch import Tensor


Floats = npt.NDArray[np.float64]
Logits = npt.NDArray[np.float32]
"""Logits of one piece: (outputs,) from a sequence head, (tokens, outputs) from a token head."""
Decision = Mapping[str, Any]
"""Values tuned on validation rows, such as thresholds, in types that JSON can hold."""
Target = int | float | list[int] | list[float]
IGNORED = -100  # PyTorch's ignore_index
HARMFUL = re.compile(  # as in pipeline/core/errors.py, which a registered version does not contain
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069"
    "\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]"
)
"""Characters that harm a terminal or a file, and so no name may hold."""


@dataclass(frozen=True)
class Answer:
    """Prediction for one row."""

    label: str
    """Predicted label, in the form of a row's label."""
    confidence: float
    """Probability that the whole label is right, in [0, 1]."""
    scores: Mapping[str, float] = field(default_factory=dict)
    """Probability of each class, if the task assigns classes to whole texts."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """Further columns of a served answer, with values that JSON can hold."""


class ClassScores(Mapping[str, float]):
    """Probability of each class of one row. Rows share the names: a row takes 8 bytes a class,
    where a dictionary takes 60."""

    __slots__ = ("_places", "_row")

    def __init__(self, places: Mapping[str, int], row: Floats) -> None:
        """Take the place of each class in `row`, (classes,)."""
        self._places, self._row = places, array("d", np.asarray(row, np.float64).tobytes())

    def __getitem__(self, name: str) -> float:
        return self._row[self._places[name]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._row)

    def __repr__(self) -> str:
        return repr(dict(self))

    @classmethod
    def of_rows(cls, classes: Sequence[str], rows: Floats) -> "list[ClassScores]":
        """Scores of each row of (rows, classes)."""
        places = {name: i for i, name in enumerate(classes)}
        return [cls(places, row) for row in rows]

    @staticmethod
    def stacked(answers: Sequence[Answer], classes: Sequence[str]) -> Floats:
        """Scores of answers as an array, (rows, classes)."""
        found = np.empty((len(answers), len(classes)))
        for row, answer in zip(found, answers, strict=True):
            row[:] = [answer.scores[name] for name in classes]
        return found


@dataclass(frozen=True)
class Labelled:
    """Rows with their labels, for baselines."""

    texts: Sequence[Texts]
    labels: Sequence[str]
    groups: Sequence[str] = ()
    """Group of each row, "" if the recipe names no group."""


@dataclass(frozen=True)
class Setting:
    """Input of a baseline: rows to learn from and test rows to answer."""

    train: Labelled
    validation: Labelled
    test: Labelled
    classes: Sequence[str]
    kind: str
    """Features of the baseline, one of `Task.baseline`."""
    seed: int
    encoder: Encoder
    """The model's encoder."""


@dataclass(frozen=True)
class Detail:
    """Scores that a report shows besides the metrics."""

    per_class: dict[str, dict[str, float]] = field(default_factory=dict)
    """Class -> precision, recall, f1 and rows."""
    averages: dict[str, dict[str, float]] = field(default_factory=dict)
    """Kind of average, such as micro -> precision, recall and f1."""
    more: dict[str, float] = field(default_factory=dict)
    """Further scores by name, without intervals."""
    confusions: Sequence[tuple[str, str]] = ()
    """Pairs (truth, answer) of the confusion matrix; "" stands for none."""
    signatures: Mapping[str, str] = field(default_factory=dict)
    """Metric -> signature of its computation, such as sacrebleu's."""


@dataclass(frozen=True)
class LossOptions:
    """Inputs of a loss besides logits and targets."""

    mask: "Tensor"
    """True at real tokens, False at padding; (pieces, tokens)."""
    weights: "Tensor | None" = None
    """Class weights (classes,) of an exclusive task; the pairs' weight () of pretraining."""
    smoothing: float = 0.0
    """Label smoothing of exclusive and generating tasks."""


class Task(ABC):
    """Kind of problem: its labels, targets, loss, answers and scores."""

    head: ClassVar[str]
    """Name of a file in pipeline/models/heads: `sequence` scores a whole text, `token` each token,
    `span` each token as a start and an end, `embedding` computes an embedding, `masked_lm` predicts
    masked tokens, `seq2seq` generates a text."""
    problem_type: ClassVar[str | None] = None
    """Meaning of a sequence head's outputs in transformers' configurations, by which its pipelines
    choose softmax, sigmoid or neither."""
    metrics: ClassVar[tuple[str, ...]]
    """Names of the metrics, higher is better; the first is the task's main metric."""
    exact: ClassVar[str | None] = None
    """Metric that is the share of right rows, if there is one: two models are then compared by an
    exact test on these rows, else by `per_unit_score`."""
    labelled: ClassVar[bool] = True
    """True if rows have labels; otherwise `label` gets an empty cell."""
    two_texts: ClassVar[bool] = False
    """True if a row has a second text."""
    symmetric: ClassVar[bool] = False
    """True if a recipe may declare that the order of the two texts does not matter."""
    with_neighbour: ClassVar[bool] = False
    """True if each validation or test row gets another row of its split as second text."""
    dynamic_masking: ClassVar[bool] = False
    """True if every epoch masks the texts anew, by the encoder's `passages_of` and `drawn`."""
    cut: ClassVar[Literal["longest", "second"]] = "longest"
    """Text to truncate if a pair is too long for the model."""
    offsets: ClassVar[bool] = False
    """True if answers need the character offsets of tokens."""
    many_classes: ClassVar[bool] = False
    """True if a label is a list of classes."""
    exclusive: ClassVar[bool] = False
    """True if a row has exactly one of a fixed list of classes: this allows class weights, label
    smoothing, calibration of the confidence and behaviour tests."""
    by_group: ClassVar[bool] = False
    """True if the rows of a group are scored together, as in a ranking."""
    baseline: ClassVar[tuple[str, ...]] = ("words", "characters")
    """Allowed values of `evaluate.baseline`."""
    display_name: ClassVar[str] = "Text classification"
    """Name for people; in lower case with hyphens it is the model hub's name of the task."""

    @property
    def name(self) -> str:
        return type(self).__module__.rpartition(".")[2]

    # rows

    @abstractmethod
    def label(self, cell: str, text: str, second: str) -> str:
        """Convert a non-empty cell of the source to the label's canonical form.

        Raises ValueError with the reason if the cell is not a label of this row.
        """

    def in_characters(self, cell: str, text: str, second: str) -> str:
        """Convert the positions in a cell from UTF-16 code units to characters, for tasks with
        `offsets`. Raises ValueError if the cell is not a label of this row."""
        raise NotImplementedError

    def doubt(self, label: str, text: str, second: str) -> str | None:
        """Reason to look at a label again, although it is well formed; None if there is none."""
        return None

    def classes(self, label: str) -> Sequence[str]:
        """Classes in a label, with repetitions; none if the task has no classes."""
        return ()

    def shown(self, label: str, text: str, second: str) -> str:
        """Label as shown to people, given the texts of its row."""
        return label

    def encoder(
        self,
        tokenizer: Path,
        max_length: int,
        long_text: LongText,
        overlap: int,
        masking: Mapping[str, Any] | None = None,
    ) -> Encoder:
        """Encoder that cuts this task's texts into pieces.

        `tokenizer` is the path of a tokenizer.json, `masking` holds the settings of masking.
        """
        return Encoder(tokenizer, max_length, long_text, overlap, self.cut, self.offsets)

    # learning

    @abstractmethod
    def outputs(self, classes: Sequence[str]) -> list[str]:
        """Names of the head's outputs, in order."""

    @abstractmethod
    def target(self, label: str, piece: Piece, texts: Texts, classes: Sequence[str]) -> Target:
        """Training target of a piece, of the same type for all pieces; IGNORED where no target
        counts."""

    def prepare(self, labels: Sequence[str]) -> Decision:
        """First part of the decision, computed from the training labels, one a row."""
        return {}

    def scaled(self, targets: "Tensor", decision: Decision) -> "Tensor":
        """Scale stacked targets for `loss`, in training and validation."""
        return targets

    def folded(self, decision: Decision) -> tuple[Decision, float, float]:
        """Scale and offset that turn a trained model's outputs into labels, so that any program
        reads them, and the decision for a model whose output layer contains both."""
        return decision, 1.0, 0.0

    @abstractmethod
    def loss(self, logits: "Tensor", targets: "Tensor", options: LossOptions) -> "Tensor":
        """Sum the loss over all targets that count.

        `logits` are float32, (pieces, outputs) or (pieces, tokens, outputs); `targets` are those of
        `target`, stacked, padded with IGNORED and `scaled`.
        """

    def counted(self, targets: "Tensor") -> "Tensor":
        """Number of stacked targets that count, (): the divisor of a summed loss."""
        return (targets != IGNORED).sum()

    def decide(
        self,
        logits: Sequence[Logits],
        pieces: Sequence[Piece],
        rows: Labelled,
        classes: Sequence[str],
    ) -> Decision:
        """Tune the rest of the decision on validation rows."""
        return {}

    @property
    def tunes(self) -> bool:
        """True if the task overrides `decide`."""
        return type(self).decide is not Task.decide

    def remember(
        self, logits: Sequence[Logits], targets: Sequence[Target], classes: Sequence[str]
    ) -> Decision:
        """Part of the decision, computed from the logits and targets of training pieces."""
        return {}

    @property
    def remembers(self) -> bool:
        """True if the task overrides `remember`: training pieces are then run through the model."""
        return type(self).remember is not Task.remember

    # answering

    def run(
        self, runtime: Runtime, pieces: Sequence[Piece], batch_size: int, decision: Decision
    ) -> list[Logits]:
        """Logits of each piece."""
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
        """One answer a row, from the logits of its pieces; `pieces[i].row` is an index into
        `texts`, and every row has at least one piece."""

    # scores

    @abstractmethod
    def tally(
        self, truths: Sequence[str], answers: Sequence[str], classes: Sequence[str]
    ) -> Floats:
        """Sufficient statistics of one row (of one group, if `by_group`), (counts,).

        `measure` sees only sums of tallies, so a bootstrap resamples tallies.
        """

    @abstractmethod
    def measure(self, tallies: Floats) -> dict[str, Floats]:
        """Metrics of summed tallies, (..., counts) -> (...) each."""

    def per_unit_score(self, tallies: Floats) -> Floats:
        """Score of each single row or group, (units, counts) -> (units,).

        If no metric is `exact`, a sign test compares two models by these scores.
        """
        return self.measure(tallies)[self.metrics[0]]

    def same(self, answers: Sequence[str], others: Sequence[str]) -> npt.NDArray[np.bool_]:
        """True where two models give the same answer, (rows,)."""
        return np.array([a == b for a, b in zip(answers, others, strict=True)], dtype=bool)

    def agreement(self, answers: Sequence[str], others: Sequence[str]) -> Floats:
        """Share of each answer that two models agree on, (rows,), in [0, 1]."""
        return self.same(answers, others).astype(np.float64)

    def comparable(self, logits: Logits, decision: Decision) -> Logits:
        """Logits of a piece that must be nearly equal in all runtimes, in a unit that does not
        depend on the labels'."""
        return logits

    def error_severity(self, label: str, answer: Answer) -> float:
        """Sort key of mistakes: the distance between label and answer, or the confidence if labels
        have no distance."""
        return answer.confidence

    @abstractmethod
    def baselines(self, on: Setting) -> dict[str, list[str]]:
        """Name of each baseline -> its labels for the test rows."""

    def detail(self, rows: Labelled, answers: Sequence[Answer], classes: Sequence[str]) -> Detail:
        """Scores for the report besides the metrics."""
        return Detail()


def class_name(cell: str) -> str:
    """Name of a class without surrounding white space.

    A name may hold joiners of a script or an emoji. Raises ValueError if it holds a line break or
    another character that harms a terminal or a file.
    """
    name = cell.strip()
    if HARMFUL.search(name):
        raise ValueError(f"its class {name!r} holds a character that cannot be printed")
    return name
