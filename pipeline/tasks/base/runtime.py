"""Protocols of what runs a model: a runtime, and one step of a decoder."""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from .encoding import Piece

Ints = npt.NDArray[np.int64]
Step = Callable[[Ints, Ints, Ints], npt.NDArray[np.float32]]
"""The log probabilities of what comes next, (hypotheses, vocabulary), of hypotheses that go on:
their last tokens, the sources that they translate, and their places among those of the step before
(in the first step those of the sources)."""


class Runtime(Protocol):
    """A model that is ready to answer."""

    provider: str

    def logits(
        self, pieces: Sequence[Piece], batch_size: int = ...
    ) -> list[npt.NDArray[np.float32]]:
        """Of each piece, (outputs,) or (tokens, outputs)."""

    def steps(self, pieces: Sequence[Piece]) -> Step:
        """Of a model that writes: what comes next in texts about these pieces."""
