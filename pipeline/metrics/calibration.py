"""Calibration of confidence: its bins, and the expected calibration error."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def calibration_error(bins: Sequence[tuple[float, float, int]]) -> float:
    """Expected calibration error (Guo et al. 2017) of (confidence, accuracy, rows) bins."""
    rows = sum(n for _, _, n in bins)
    return sum(n * abs(confidence - right) for confidence, right, n in bins) / rows


def calibration(
    confidence: Floats, right: npt.NDArray[np.bool_], bins: int
) -> list[tuple[float, float, int]]:
    """(mean confidence, accuracy, rows) of each bin of equal width that holds a row."""
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    return [
        (float(confidence[place == b].mean()), float(right[place == b].mean()), int(n))
        for b, n in enumerate(np.bincount(place, minlength=bins))
        if n
    ]
