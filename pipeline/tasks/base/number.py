"""Shared base of the tasks that predict one number: for a text, or for two texts.

A label is the shortest decimal that reads back as the same number, as Python's repr: 3.5.

The head learns standardized labels (minus the mean of the training labels, over their standard
deviation), so one learning rate fits ratings and prices; after training both are folded into its
output layer. Labels with a standard deviation below a
millionth of their size count as constant: subtract a constant from such labels first.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from . import Answer, Decision, Detail, Floats, Labelled, Logits, LossOptions, Target, Task
from .encoding import Piece, Texts
from .windows import row_means

if TYPE_CHECKING:
    from torch import Tensor

LARGEST = 1e12  # squares of larger labels would lose precision when summed
SMALLEST_SPREAD = 1e-6  # relative standard deviation below which labels count as constant
ALIKE = 0.1  # standard deviations that two equal answers may differ by
DIGITS = 4  # decimals of an answer, in standard deviations
FARTHEST = 1e4  # deviations from 0 to the mean, beyond which float32 would blur the differences


class Number(Task):
    head = "sequence"
    problem_type = "regression"
    metrics = ("pearson", "r2")

    def label(self, cell: str, text: str, second: str) -> str:
        """Parse a finite number with a decimal point: 3, -0.5, 1e3."""
        cell = cell.strip()
        try:
            value = float(cell.replace("_", "?"))
        except ValueError:
            hint = ": write decimals with a point, and no commas" if "," in cell else ""
            raise ValueError(f"is no number{hint}") from None
        if not math.isfinite(value):
            raise ValueError("is no finite number")
        if abs(value) > LARGEST:
            raise ValueError(f"is beyond {LARGEST:.0e}: use a larger unit")
        return _label(value)

    def shown(self, label: str, text: str, second: str) -> str:
        return label.removesuffix(".0")

    def outputs(self, classes: Sequence[str]) -> list[str]:
        return ["score"]

    def target(self, label: str, piece: Piece, texts: Texts, classes: Sequence[str]) -> Target:
        return float(label)

    def prepare(self, labels: Sequence[str]) -> Decision:
        """`mean` and `deviation` of the labels; the deviation is 1 if all are equal."""
        values = _numbers(labels)
        mean, deviation = float(values.mean()), float(values.std())
        same = deviation <= SMALLEST_SPREAD * abs(mean)
        return {"mean": mean, "deviation": 1.0 if same else deviation}

    def scaled(self, targets: "Tensor", decision: Decision) -> "Tensor":
        return (targets - decision["mean"]) / decision["deviation"]

    def folded(self, decision: Decision) -> tuple[Decision, float, float]:
        """Deviation and mean of the labels. A mean beyond FARTHEST stays in the decision."""
        mean, deviation = decision["mean"], decision["deviation"]
        offset = mean if abs(mean) <= FARTHEST * deviation else 0.0
        left = {"mean": mean - offset, "deviation": 1.0, "spread": deviation}
        return left, deviation, offset

    def comparable(self, logits: Logits, decision: Decision) -> Logits:
        return np.asarray(logits / decision["spread"])

    def loss(self, logits: "Tensor", targets: "Tensor", options: LossOptions) -> "Tensor":
        """Squared error, in standard deviations."""
        from torch.nn.functional import mse_loss

        return mse_loss(logits[:, 0], targets.to(logits.dtype), reduction="sum")

    def counted(self, targets: "Tensor") -> "Tensor":
        """Number of all targets: the value IGNORED is a valid number here."""
        return targets.new_tensor(targets.numel())

    def answers(
        self,
        logits: Sequence[Logits],
        pieces: Sequence[Piece],
        texts: Sequence[Texts],
        classes: Sequence[str],
        decision: Mapping[str, Any],
    ) -> list[Answer]:
        """Prediction in the unit of the labels, the mean over windows. The model has no confidence
        in a number, so it is always 1."""
        if not texts:
            return []
        deviation = decision["deviation"]
        scores = row_means(np.stack(logits).astype(np.float64), pieces, len(texts))[:, 0]
        digits = DIGITS - math.floor(math.log10(decision.get("spread", deviation)))
        values = (
            round(value, digits) for value in (decision["mean"] + deviation * scores).tolist()
        )
        return [Answer(label=_label(value), confidence=1.0) for value in values]

    def tally(
        self, truths: Sequence[str], answers: Sequence[str], classes: Sequence[str]
    ) -> Floats:
        """1, y, x, y², x², xy and (y - x)² of a row with truth y and answer x."""
        return _moments(_numbers(truths), _numbers(answers))

    def measure(self, tallies: Floats) -> dict[str, Floats]:
        """Pearson's correlation, and the coefficient of determination r2; both are 0 if the truths
        are all equal, the correlation also if the answers are."""
        n, y, x, yy, xx, xy, error = np.moveaxis(tallies, -1, 0)
        truths, answers = _spread(n, y, yy), _spread(n, x, xx)
        scale = np.sqrt(truths * answers)
        pearson = np.divide(n * xy - x * y, scale, out=np.zeros_like(scale), where=scale > 0)
        unexplained = np.divide(n * error, truths, out=np.ones_like(scale), where=truths > 0)
        return {"pearson": np.clip(pearson, -1, 1), "r2": np.asarray(1 - unexplained)}

    def per_unit_score(self, tallies: Floats) -> Floats:
        """Negative absolute error, since a single row has no correlation."""
        return np.asarray(-np.sqrt(tallies[..., -1]))

    def same(self, answers: Sequence[str], others: Sequence[str]) -> npt.NDArray[np.bool_]:
        """True where two answers differ by at most ALIKE standard deviations of `others`."""
        mine, theirs = _numbers(answers), _numbers(others)
        return np.asarray(np.abs(mine - theirs) <= ALIKE * (theirs.std() if len(theirs) else 0))

    def error_severity(self, label: str, answer: Answer) -> float:
        return abs(float(label) - float(answer.label))

    def detail(self, rows: Labelled, answers: Sequence[Answer], classes: Sequence[str]) -> Detail:
        """Mean absolute error and root mean squared error, in the unit of the labels, and
        Spearman's rank correlation."""
        from scipy.stats import rankdata

        if not rows.labels:
            return Detail()
        y, x = _numbers(rows.labels), _numbers([answer.label for answer in answers])
        ranked = _moments(rankdata(y), rankdata(x))
        return Detail(
            more={
                "mae": float(np.abs(y - x).mean()),
                "rmse": float(np.sqrt(((y - x) ** 2).mean())),
                "spearman": float(self.measure(ranked)["pearson"]),
            }
        )


def labels_of(values: Floats) -> list[str]:
    return [_label(value) for value in values.tolist()]


def mean_label(labels: Sequence[str]) -> str:
    return _label(float(_numbers(labels).mean()))


def _moments(y: Floats, x: Floats) -> Floats:
    """Sums of the tally over rows, (rows,) twice -> (7,)."""
    columns = (np.ones_like(y), y, x, y * y, x * x, x * y, (y - x) ** 2)
    return np.array([column.sum() for column in columns])


def _spread(n: Floats, total: Floats, squares: Floats) -> Floats:
    """n² times the variance; 0 if it is within rounding error."""
    spread = n * squares - total**2
    return np.asarray(np.where(spread > SMALLEST_SPREAD**2 * n * squares, spread, 0.0))


def _numbers(labels: Sequence[str]) -> Floats:
    return np.array([float(label) for label in labels], dtype=np.float64)


def _label(value: float) -> str:
    return repr(value + 0.0)  # no -0.0
