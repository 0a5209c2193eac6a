"""Protocols of a runtime and of a decoder's step."""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from .encoding import Piece

Ints = npt.NDArray[np.int64]
Step = Callable[[Ints, Ints, Ints], npt.NDArray[np.float32]]
"""Function that returns the log probabilities of the next token, (hypotheses, vocabulary).

Its arguments are, for each unfinished hypothesis, the last token, the index of its source, and its
index among the hypotheses of the step before (in the first step, the index of the source).
"""


class Runtime(Protocol):
    """Loaded model."""

    provider: str

    def logits(
        self, pieces: Sequence[Piece], batch_size: int = ...
    ) -> list[npt.NDArray[np.float32]]:
        """Logits of each piece, (outputs,) or (tokens, outputs)."""

    def steps(self, pieces: Sequence[Piece]) -> Step:
        """Decoding step for these pieces, of a model that generates text."""
