"""Numbers that several stages and the gate agree on.

Everything that a confusion matrix determines is computed from it: resampling rows with
replacement is the same as drawing a matrix from the multinomial of its cells, so a bootstrap of
thousands of resamples takes milliseconds whatever the number of rows (Efron 1979).
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pipeline.records import Interval

Labels = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
RESAMPLES = 4000
MOST_NUMBERS = 4_000_000  # held at once while resampling


def confusion_matrix(truth: Labels, answers: Labels, classes: int) -> Labels:
    """Counts, shape (classes, classes): rows the truth, columns the answers."""
    return np.bincount(truth * classes + answers, minlength=classes**2).reshape(classes, classes)


def accuracy(confusion: npt.NDArray[np.integer]) -> Floats:
    """Of one matrix or a stack of them, (..., classes, classes) -> (...)."""
    right = np.trace(confusion, axis1=-2, axis2=-1)
    return np.asarray(right / np.maximum(confusion.sum((-2, -1)), 1), dtype=np.float64)


def macro_f1(confusion: npt.NDArray[np.integer]) -> Floats:
    """Mean F1 over the classes that have a row or an answer, (..., classes, classes) -> (...)."""
    right = np.diagonal(confusion, axis1=-2, axis2=-1)
    total = confusion.sum(-1) + confusion.sum(-2)
    f1 = np.where(total > 0, 2 * right / np.maximum(total, 1), 0.0)
    return np.asarray(f1.sum(-1) / np.maximum((total > 0).sum(-1), 1), dtype=np.float64)


def softmax(logits: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """(rows, classes) -> (rows, classes), each row summing to 1."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float32)


def calibration_error(bins: Sequence[tuple[float, float, int]]) -> float:
    """Expected calibration error (Guo et al. 2017) of (confidence, accuracy, rows) bins."""
    rows = sum(n for _, _, n in bins)
    return sum(n * abs(confidence - right) for confidence, right, n in bins) / rows


METRICS = {"accuracy": accuracy, "macro_f1": macro_f1}


def with_interval(metric: str, confusion: Labels, seed: int = 0) -> Interval:
    """A metric and its 95 % percentile-bootstrap interval over rows."""
    function = METRICS[metric]
    rows = int(confusion.sum())
    random = np.random.default_rng(seed)
    held = np.flatnonzero(confusion)  # cells that are empty stay empty
    shares = confusion.ravel()[held] / rows
    part = max(1, MOST_NUMBERS // confusion.size)
    values = []
    for start in range(0, RESAMPLES, part):
        draws = np.zeros((min(part, RESAMPLES - start), confusion.size), dtype=np.int64)
        draws[:, held] = random.multinomial(rows, shares, len(draws))
        values.append(function(draws.reshape(-1, *confusion.shape)))
    low, high = np.quantile(np.concatenate(values), (0.025, 0.975))
    return Interval(value=float(function(confusion)), low=float(low), high=float(high))


def mcnemar_p(wins: int, losses: int) -> float:
    """Exact one-sided McNemar: the chance of at least this many wins among the rows where two
    models differ, if neither is better (McNemar 1947; the binomial form)."""
    from scipy.stats import binomtest

    if wins + losses == 0:
        return 1.0
    return float(binomtest(wins, wins + losses, 0.5, alternative="greater").pvalue)
