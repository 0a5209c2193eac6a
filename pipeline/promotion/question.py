"""Input of the gate: rows and the answers of two versions."""

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
    """Answers of a version to the epoch's rows, from the runtime that serves it."""

    version: str
    classes: Sequence[str]
    """Classes that it was trained for, in its order."""
    answers: Sequence[str]
    """Canonical label of each row."""
    confidence: Floats
    """Confidence of each answer, in [0, 1], (rows,)."""
    latency_ms: float = 0.0
    megabytes: float = 0.0
    defects: Sequence[str] = ()
    """Reasons why none of its answers may count."""

    def defect(self, rows: int) -> str | None:
        """The first reason why none of its answers may count; None if there is none."""
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
        facts = [self.version, list(self.classes), list(self.defects), list(self.answers)]
        rounded = np.round(self.confidence.astype(np.float64), 6)
        return hashlib.sha256(json.dumps(facts).encode() + rounded.tobytes()).hexdigest()


@dataclass(frozen=True)
class Question:
    """Complete input of a verdict, except for the recipe's rule."""

    model: str
    task: Task
    labels: Sequence[str]
    """Classes of the rows as labelled now."""
    ids: Sequence[str]
    truth: Sequence[str]
    """Canonical label of each row."""
    challenger: Side
    champion: Side | None
    epoch: int = 1
    number: int = 1
    """Number of questions of the epoch, with this one."""
    groups: Sequence[str] | None = None
    """Group of each row, if the recipe names a group column: rows of a group are dependent."""
    slices: Mapping[str, Bools] = field(default_factory=dict)
    """Rows of each slice, by its name."""
    quarantined_percent: float = 0.0
    behaviour_failed: float = 0.0

    @property
    def main(self) -> str:
        """Metric that says which side is better on a unit."""
        return self.task.exact or self.task.metrics[0]

    def evidence(self) -> dict[str, str]:
        """SHA-256 of the rows and of each side's answers."""
        rows = json.dumps([list(self.ids), list(self.truth), list(self.groups or ())])
        digests = {
            "rows": hashlib.sha256(rows.encode()).hexdigest(),
            "challenger": self.challenger.digest(),
        }
        return digests | ({"champion": self.champion.digest()} if self.champion else {})
