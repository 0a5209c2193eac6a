"""ONNX Runtime as it serves: from token ids to what the model's head computes.

This file travels inside every registered version, so that a version is answered for by the code
that it was judged with. It therefore imports nothing of ours, and neither PyTorch nor
transformers.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
IGNORED = -100  # a token that is not hidden


class Tokens(Protocol):
    """What is asked of a piece of text."""

    ids: list[int]
    types: list[int]
    targets: list[int]
    """What hidden tokens are: asked of models that guess them."""


class OnnxModel:
    """A model file, ready to answer on `threads` threads (0: all); `padding` is a token id."""

    def __init__(self, model: Path, padding: int, threads: int = 0) -> None:
        import onnxruntime

        onnxruntime.set_default_logger_severity(3)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # Without a GPU the CUDA provider is listed all the same, and fails with an error on screen
        wanted = ["CUDAExecutionProvider"] if Path("/proc/driver/nvidia/version").exists() else []
        self.session = onnxruntime.InferenceSession(
            str(model), options, providers=[*wanted, "CPUExecutionProvider"]
        )
        self.provider = str(self.session.get_providers()[0])
        self.padding = padding
        inputs = {given.name for given in self.session.get_inputs()}
        self.typed, self.guesses = "token_type_ids" in inputs, "targets" in inputs

    def steps(self, pieces: Sequence[Tokens]) -> Callable[[Ints, Ints, Ints], Floats]:
        """Of a model that writes: what comes next in texts about these pieces. A step takes, of
        hypotheses that go on, the last tokens, the pieces that they are about, and their places in
        the step before, and gives log probabilities, (hypotheses, vocabulary)."""
        import onnxruntime

        # its two halves lie in one file, and only the one that is asked is computed
        half = onnxruntime.RunOptions()
        half.only_execute_path_to_fetches = True
        ids = np.full((len(pieces), max(len(piece.ids) for piece in pieces)), self.padding)
        mask = np.zeros_like(ids)
        for place, piece in enumerate(pieces):
            ids[place, : len(piece.ids)] = piece.ids
            mask[place, : len(piece.ids)] = 1
        given = {"input_ids": ids, "attention_mask": mask}
        (read,) = self.session.run(["read"], given, half)
        past = read[:, :, :, :0]

        def step(tokens: Ints, of: Ints, before: Ints) -> Floats:
            nonlocal past
            known = {"known": read, "mask": mask, "past": past}
            now = {"tokens": tokens, "of": of, "before": before}
            logs, past = self.session.run(["logs", "now"], {**known, **now}, half)
            return np.asarray(logs)

        return step

    def logits(self, pieces: Sequence[Tokens], batch_size: int = 8) -> list[Floats]:
        """Of each piece, (outputs,) or (tokens, outputs) before softmax; batched by length."""
        result: list[Floats] = [np.empty(0, np.float32)] * len(pieces)
        order = sorted(range(len(pieces)), key=lambda i: len(pieces[i].ids))
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            width = max(len(pieces[i].ids) for i in rows)
            ids = np.full((len(rows), width), self.padding, dtype=np.int64)  # (batch, length)
            mask, types = np.zeros_like(ids), np.zeros_like(ids)
            for place, i in enumerate(rows):
                length = len(pieces[i].ids)
                ids[place, :length] = pieces[i].ids
                types[place, :length] = pieces[i].types
                mask[place, :length] = 1
            given = {"input_ids": ids, "attention_mask": mask}
            if self.typed:
                given["token_type_ids"] = types
            if self.guesses:
                given["targets"] = np.full_like(ids, IGNORED)
                for place, i in enumerate(rows):
                    given["targets"][place, : len(pieces[i].ids)] = pieces[i].targets
            answer = self.session.run(None, given)[0]
            for place, i in enumerate(rows):
                own = answer[place]
                result[i] = own if own.ndim == 1 else own[: len(pieces[i].ids)]
        return result
