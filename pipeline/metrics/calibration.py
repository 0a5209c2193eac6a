"""Calibration of confidence: bins and the expected calibration error."""

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
    """Return (mean confidence, accuracy, rows) of each non-empty bin of equal width."""
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    return [
        (float(confidence[bin_of == b].mean()), float(right[bin_of == b].mean()), int(n))
        for b, n in enumerate(np.bincount(bin_of, minlength=bins))
        if n
    ]
