"""What the gate is asked: rows, and what two versions answered to them."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from pipeline.metrics.scoring import Floats
from pipeline.tasks.base import Task

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Side:
    """A version's answers to the epoch's rows, through the runtime that serves it."""

    version: str
    classes: Sequence[str]
    """That it knows, in its own order."""
    answers: Sequence[str]
    """A label a row, in the one way of writing it."""
    confidence: Floats
    """Of each answer, in [0, 1], (rows,)."""
    latency_ms: float = 0.0
    megabytes: float = 0.0
    defects: Sequence[str] = ()
    """Why nothing that it answers may count."""

    def defect(self, rows: int) -> str | None:
        """The first reason why its answers may not count."""
        if self.defects:
            return self.defects[0]
        if len(self.answers) != rows or self.confidence.shape != (rows,):
            return f"answers {len(self.answers):,} of {rows:,} test rows"
        known = np.isfinite(self.confidence) & (self.confidence >= 0) & (self.confidence < 1.001)
        if not known.all():
            broken = int((~known).sum())
            return f"its scores for {broken:,} of {rows:,} test rows are not numbers from 0 to 1"
        return None

    def digest(self) -> str:
        told = [self.version, list(self.classes), list(self.defects), list(self.answers)]
        rounded = np.round(self.confidence.astype(np.float64), 6)
        return hashlib.sha256(json.dumps(told).encode() + rounded.tobytes()).hexdigest()


@dataclass(frozen=True)
class Question:
    """Everything that a verdict rests on, besides the recipe's rule."""

    model: str
    task: Task
    labels: Sequence[str]
    """The classes of the rows as they are labelled now."""
    ids: Sequence[str]
    truth: Sequence[str]
    """Labels in the one way of writing them."""
    challenger: Side
    champion: Side | None
    epoch: int = 1
    number: int = 1
    """How many questions the epoch will have answered with this one."""
    groups: Sequence[str] | None = None
    """What rows depend on each other, where the recipe names a group."""
    slices: Mapping[str, Bools] = field(default_factory=dict)
    """Rows of each named slice."""
    quarantined_percent: float = 0.0
    behaviour_failed: float = 0.0

    @property
    def main(self) -> str:
        """The metric by which one side is better on a unit."""
        return self.task.exact or self.task.metrics[0]

    def evidence(self) -> dict[str, str]:
        """SHA-256 of the rows and of each side's answers."""
        rows = json.dumps([list(self.ids), list(self.truth), list(self.groups or ())])
        digests = {
            "rows": hashlib.sha256(rows.encode()).hexdigest(),
            "challenger": self.challenger.digest(),
        }
        return digests | ({"champion": self.champion.digest()} if self.champion else {})
