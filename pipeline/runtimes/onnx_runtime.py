"""ONNX Runtime, which serves models: from token ids to the outputs of the model's head.

A copy of this file is stored in every registered version, so that a version is served by the code
that it was evaluated with. It therefore imports nothing of this project, PyTorch or transformers.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
IGNORED = -100  # a token that is not masked


class Tokens(Protocol):
    """Interface of a piece of text."""

    ids: list[int]
    types: list[int]
    targets: list[int]
    """Originals of masked tokens; only models that predict them need it."""


class OnnxModel:
    """Session of a model file on `threads` threads (0: all); `padding` is a token id."""

    def __init__(self, model: Path, padding: int, threads: int = 0) -> None:
        import onnxruntime

        onnxruntime.set_default_logger_severity(3)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # the CUDA provider is listed even without a GPU, where it fails and prints an error
        gpu = ["CUDAExecutionProvider"] if Path("/proc/driver/nvidia/version").exists() else []
        self.session = onnxruntime.InferenceSession(
            str(model), options, providers=[*gpu, "CPUExecutionProvider"]
        )
        self.provider = str(self.session.get_providers()[0])
        self.padding = padding
        inputs = {each.name for each in self.session.get_inputs()}
        self.typed, self.guesses = "token_type_ids" in inputs, "targets" in inputs

    def steps(self, pieces: Sequence[Tokens]) -> Callable[[Ints, Ints, Ints], Floats]:
        """Return the decoding step of a model that writes text, with these pieces as its sources.

        The step takes the last token of each hypothesis, the index of its piece and its index in
        the step before, and returns log probabilities, (hypotheses, vocabulary).
        """
        import onnxruntime

        # encoder and decoder share a file: compute only the one whose outputs are requested
        options = onnxruntime.RunOptions()
        options.only_execute_path_to_fetches = True
        ids = np.full((len(pieces), max(len(piece.ids) for piece in pieces)), self.padding)
        mask = np.zeros_like(ids)
        for place, piece in enumerate(pieces):
            ids[place, : len(piece.ids)] = piece.ids
            mask[place, : len(piece.ids)] = 1
        inputs = {"input_ids": ids, "attention_mask": mask}
        (read,) = self.session.run(["read"], inputs, options)
        past = read[:, :, :, :0]

        def step(tokens: Ints, of: Ints, before: Ints) -> Floats:
            nonlocal past
            state = {"known": read, "mask": mask, "past": past}
            inputs = {"tokens": tokens, "of": of, "before": before}
            logs, past = self.session.run(["logs", "now"], {**state, **inputs}, options)
            return np.asarray(logs)

        return step

    def logits(self, pieces: Sequence[Tokens], batch_size: int = 8) -> list[Floats]:
        """Return the logits of each piece, (outputs,) or (tokens, outputs); batched by length."""
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
            inputs = {"input_ids": ids, "attention_mask": mask}
            if self.typed:
                inputs["token_type_ids"] = types
            if self.guesses:
                inputs["targets"] = np.full_like(ids, IGNORED)
                for place, i in enumerate(rows):
                    inputs["targets"][place, : len(pieces[i].ids)] = pieces[i].targets
            outputs = self.session.run(None, inputs)
            # of starts and of ends, (batch, tokens) each, for answers in texts
            logits = outputs[0] if len(outputs) == 1 else np.stack(outputs, axis=-1)
            for i, row in zip(rows, logits, strict=True):
                result[i] = row if row.ndim == 1 else row[: len(pieces[i].ids)]
        return result
