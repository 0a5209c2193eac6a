"""Aggregation of a model's outputs from pieces to rows."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from .encoding import Piece

Floats = npt.NDArray[np.float64]


def row_means(values: Floats, pieces: Sequence[Piece], rows: int) -> Floats:
    """Mean over the pieces of each row, (pieces, outputs) -> (rows, outputs)."""
    places = np.array([piece.row for piece in pieces], dtype=np.int64)
    total = np.zeros((rows, values.shape[1]))
    np.add.at(total, places, values)
    return np.asarray(total / np.bincount(places, minlength=rows)[:, None])
