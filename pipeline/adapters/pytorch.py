"""PyTorch as the reference runtime: SDPA attention in inference mode."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.adapters.transformers import load_classifier

Floats = npt.NDArray[np.float32]
Tokens = Sequence[Sequence[int]]


class TorchClassifier:
    """A fine-tuned classifier's folder, ready to answer."""

    def __init__(self, folder: Path, threads: int = 0, attention: str = "sdpa") -> None:
        import torch

        if threads:
            torch.set_num_threads(threads)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model = load_classifier(folder, str(folder), attn_implementation=attention)
        self.model = model.eval().to(self.device)
        self.provider = f"PyTorch {self.device.type} {attention}"

    def logits(self, tokens: Tokens, batch_size: int = 32) -> Floats:
        """Scores before softmax, (texts, classes), of token ids; batched by length."""
        import torch
        from torch.nn.utils.rnn import pad_sequence

        order = sorted(range(len(tokens)), key=lambda i: len(tokens[i]))
        rows: list[Floats] = []
        with torch.inference_mode():
            for start in range(0, len(order), batch_size):
                batch = [torch.as_tensor(tokens[i]) for i in order[start : start + batch_size]]
                padding = self.model.config.pad_token_id or 0
                ids = pad_sequence(
                    batch, batch_first=True, padding_value=padding
                )  # (batch, length)
                lengths = torch.tensor([len(row) for row in batch])
                mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
                answer = self.model(
                    input_ids=ids.to(self.device), attention_mask=mask.to(self.device)
                )
                rows += list(answer.logits.float().cpu().numpy())
        result = np.empty((len(order), rows[0].shape[0]), dtype=np.float32)
        result[order] = rows
        return result
