"""PyTorch as the reference runtime: SDPA attention in inference mode."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pipeline.models.encoders import encoder_config
from pipeline.models.heads import head_of

if TYPE_CHECKING:
    import torch

    from pipeline.tasks.base import Task
    from pipeline.tasks.base.encoding import Piece
    from pipeline.tasks.base.runtime import Step

Floats = npt.NDArray[np.float32]


class TorchModel:
    """Fine-tuned model, loaded from its folder in evaluation mode."""

    def __init__(
        self, folder: Path, task: "Task", threads: int = 0, attention: str = "sdpa"
    ) -> None:
        import torch

        if threads:
            torch.set_num_threads(threads)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.head = head_of(task)
        model = self.head.load(folder, str(folder), attn_implementation=attention)
        self.model = model.eval().to(self.device)
        config = encoder_config(self.model)
        self.padding = int(config.pad_token_id or 0)
        self.typed = self.head.typed(config, task)
        self.provider = f"PyTorch {self.device.type} {attention}"

    def _padded(self, rows: list[list[int]], value: int) -> "torch.Tensor":
        import torch
        from torch.nn.utils.rnn import pad_sequence

        tensors = [torch.as_tensor(row) for row in rows]
        return pad_sequence(tensors, batch_first=True, padding_value=value).to(self.device)

    def steps(self, pieces: "Sequence[Piece]") -> "Step":
        """Return the decoding step of a model that writes text, with these pieces as sources."""
        ids = self._padded([piece.ids for piece in pieces], self.padding)
        mask = self._padded([[1] * len(piece) for piece in pieces], 0)
        return self.head.steps(self.model, ids, mask)

    def logits(self, pieces: "Sequence[Piece]", batch_size: int = 32) -> list[Floats]:
        """Return the logits of each piece, (outputs,) or (tokens, outputs); batched by length."""
        import torch

        result: list[Floats] = [np.empty(0, np.float32)] * len(pieces)
        order = sorted(range(len(pieces)), key=lambda i: len(pieces[i]))
        with torch.inference_mode():
            for start in range(0, len(order), batch_size):
                rows = order[start : start + batch_size]
                batch = [pieces[i] for i in rows]
                inputs = {
                    # (batch, length)
                    "input_ids": self._padded([p.ids for p in batch], self.padding),
                    "attention_mask": self._padded([[1] * len(p) for p in batch], 0),
                }
                if self.typed:
                    inputs["token_type_ids"] = self._padded([p.types for p in batch], 0)
                for name, (values, fill) in self.head.extras(batch).items():
                    inputs[name] = self._padded(values, fill)
                logits = self.model(**inputs).logits.float().cpu().numpy()
                for i, row in zip(rows, logits, strict=True):
                    result[i] = row if row.ndim == 1 else row[: len(pieces[i])]
        return result
