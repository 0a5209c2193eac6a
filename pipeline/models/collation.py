"""Collators, which turn rows of tokens and targets into the tensors of a batch.

Import it inside a function: it loads PyTorch.
"""

from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc
import torch

from pipeline.tasks.base import IGNORED

if TYPE_CHECKING:
    from datasets import Dataset

Batch = dict[str, torch.Tensor]


class Collator:
    """Collator that pads to the longest row of a batch; targets with IGNORED."""

    def __init__(self, padding: int, typed: bool = False) -> None:
        self.padding = padding
        self.names = ("input_ids", "token_type_ids") if typed else ("input_ids",)

    def __call__(self, rows: list[dict[str, Any]]) -> Batch:
        batch = {
            name: _padded([row[name] for row in rows], self.padding if name == "input_ids" else 0)
            for name in self.names
        }
        batch["attention_mask"] = _padded([[1] * len(row["input_ids"]) for row in rows], 0)
        batch["labels"] = self.targets([row["labels"] for row in rows])
        return batch

    def targets(self, rows: list[Any]) -> torch.Tensor:
        if isinstance(rows[0], list):
            return _padded(rows, IGNORED)
        return torch.tensor(rows, dtype=torch.float64 if isinstance(rows[0], float) else None)

    def warning(self, rows: "Dataset") -> str | None:
        """Return a warning if this collator changes any of the training rows."""
        return None


class MaskedLMCollator(Collator):
    """Collator that also passes the targets to the model, which scores only masked tokens."""

    def __call__(self, rows: list[dict[str, Any]]) -> Batch:
        batch = super().__call__(rows)
        batch["targets"] = batch["labels"].clone()
        return batch


class Seq2SeqCollator(Collator):
    """Collator that also gives the decoder its input: the targets shifted right, after `begin`.

    Targets of more than `max_length` tokens are cut, but keep their end token.
    """

    def __init__(self, padding: int, begin: int, fill: int, max_length: int) -> None:
        super().__init__(padding)
        self.begin, self.fill, self.max_length = begin, fill, max_length

    def __call__(self, rows: list[dict[str, Any]]) -> Batch:
        batch = super().__call__(rows)
        shifted = batch["labels"].roll(1, dims=1)
        shifted[:, 0] = self.begin
        batch["decoder_input_ids"] = shifted.masked_fill(shifted == IGNORED, self.fill)
        return batch

    def targets(self, rows: list[Any]) -> torch.Tensor:
        most = self.max_length
        return super().targets([t if len(t) <= most else [*t[: most - 1], t[-1]] for t in rows])

    def warning(self, rows: "Dataset") -> str | None:
        cut = int((pc.list_value_length(rows.data["labels"]).to_numpy() > self.max_length).sum())
        if not cut:
            return None
        return (
            f"{cut:,} of {len(rows):,} translations have more tokens than decoder.max_length,"
            f" {self.max_length}: they are cut"
        )


def _padded(rows: list[list[Any]], value: int) -> torch.Tensor:
    return torch.nn.utils.rnn.pad_sequence(
        [torch.tensor(row) for row in rows], batch_first=True, padding_value=value
    )
