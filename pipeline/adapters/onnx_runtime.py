"""ONNX Runtime as it serves: from raw text, or from token ids, to class scores.

This file travels inside every registered version, so that a version is answered for by the code
that it was judged with. It therefore imports nothing of ours, and neither PyTorch nor
transformers. A version's folder holds a model (`*.onnx`), tokenizer.json and serving.json.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Tokens = Sequence[Sequence[int]]


class OnnxClassifier:
    """A model file with its tokenizer and labels, ready to answer on `threads` threads (0: all)."""

    def __init__(self, model: Path, tokenizer: Path, settings: Path, threads: int = 0) -> None:
        import onnxruntime
        from tokenizers import Tokenizer

        onnxruntime.set_default_logger_severity(3)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # Without a GPU the CUDA provider is listed all the same, and fails with an error on screen
        wanted = ["CUDAExecutionProvider"] if Path("/proc/driver/nvidia/version").exists() else []
        self.session = onnxruntime.InferenceSession(
            str(model), options, providers=[*wanted, "CPUExecutionProvider"]
        )
        self.provider = str(self.session.get_providers()[0])
        serving = json.loads(settings.read_text(encoding="utf-8"))
        self.labels: list[str] = serving["labels"]
        self.longest_text: int = serving["longest_text"]  # characters
        self.padding: int = serving["padding"]  # token id
        self.tokenizer = Tokenizer.from_file(str(tokenizer))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(serving["max_length"])

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, cut to the length that the model was trained on."""
        capped = [text[: self.longest_text] for text in texts]
        return [encoding.ids for encoding in self.tokenizer.encode_batch_fast(capped)]

    def logits(self, tokens: Tokens, batch_size: int = 8) -> Floats:
        """Scores before softmax, (texts, classes), of token ids; batched by length."""
        result = np.empty((len(tokens), len(self.labels)), dtype=np.float32)
        order = sorted(range(len(tokens)), key=lambda i: len(tokens[i]))
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            width = max(len(tokens[i]) for i in rows)
            ids = np.full((len(rows), width), self.padding, dtype=np.int64)  # (batch, length)
            mask = np.zeros_like(ids)
            for place, i in enumerate(rows):
                ids[place, : len(tokens[i])] = tokens[i]
                mask[place, : len(tokens[i])] = 1
            result[rows] = self.session.run(None, {"input_ids": ids, "attention_mask": mask})[0]
        return result

    def probabilities(self, texts: Sequence[str]) -> Floats:
        """Softmax scores, (texts, classes), in the order of `labels`."""
        logits = self.logits(self.encode(texts))
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float32)
