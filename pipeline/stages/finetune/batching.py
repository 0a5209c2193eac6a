"""Samplers, a dataset with dynamic masking, and helpers for the order of logits.

Import it inside a function: it loads PyTorch.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc
import torch
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import Sampler

from pipeline.core.errors import UserError
from pipeline.tasks.base import IGNORED
from pipeline.tasks.base.encoding import Encoder
from pipeline.tasks.base.masking_encoder import MaskingEncoder
from pipeline.tasks.base.passages import Passage

if TYPE_CHECKING:
    from datasets import Dataset

Logits = list["np.typing.NDArray[np.float32]"]
MEGABATCH = 50  # batches whose rows are sorted together


class LengthSampler(Sampler[int]):
    """Sampler whose batches hold texts of similar length, in another order each epoch.

    The order depends only on seed and epoch, so that a resumed training sees the same rows as an
    uninterrupted one.
    """

    def __init__(self, lengths: "np.typing.NDArray[np.int64]", batch: int, seed: int) -> None:
        self.lengths, self.batch, self.seed, self.epoch = lengths, batch, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        random = np.random.default_rng((self.seed, self.epoch))
        order = random.permutation(len(self.lengths))
        mega = self.batch * MEGABATCH
        batches = []
        for start in range(0, len(order), mega):
            part = order[start : start + mega]
            part = part[np.argsort(self.lengths[part], kind="stable")]
            batches += [part[i : i + self.batch] for i in range(0, len(part), self.batch)]
        ragged = batches.pop() if len(batches[-1]) < self.batch else None
        batches = [batches[i] for i in random.permutation(len(batches))]
        for rows in batches if ragged is None else [*batches, ragged]:
            yield from rows.tolist()


class ClassSampler(Sampler[int]):
    """Sampler whose batches hold two or more texts of each of several classes, in another order
    each epoch, which depends only on seed and epoch.

    Raises UserError if fewer than two classes have two rows, or the batch is odd or smaller than 4.
    """

    def __init__(self, rows: "Dataset", batch: int, seed: int) -> None:
        from sentence_transformers.base.sampler import GroupByLabelBatchSampler

        try:
            self.batches = GroupByLabelBatchSampler(
                rows, batch, False, ["labels"], torch.Generator(), seed
            )
        except ValueError as error:
            raise UserError(f"finetune: texts cannot be drawn by class: {error}") from None
        self.seed, self.epoch, self.rows = seed, 0, sum(map(len, self.batches))

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch
        self.batches.set_epoch(epoch)

    def __len__(self) -> int:
        return self.rows

    def __iter__(self) -> Iterator[int]:
        for rows in self.batches:
            yield from rows


Order = LengthSampler | ClassSampler


class MaskedPassages(TorchDataset[dict[str, Any]]):
    """Passages with other masked tokens and other second texts in every epoch, drawn only from
    seed, epoch and index. The passages of a document must be neighbours."""

    def __init__(self, rows: "Dataset", encoder: Encoder, order: Order) -> None:
        assert isinstance(encoder, MaskingEncoder)
        self.rows, self.encoder, self.order = rows, encoder, order
        ids = rows.data["id"]
        new = pc.not_equal(ids.slice(1), ids.slice(0, len(ids) - 1))
        bounds = np.flatnonzero(new.to_numpy()) + 1
        self.bounds = np.concatenate([[0], bounds, [len(ids)]])
        """Start of each document, and the number of passages."""

    def __len__(self) -> int:
        return len(self.rows)

    def passage(self, place: int) -> Passage:
        row = self.rows[place]
        return Passage(row["id"], row["input_ids"], row["labels"])

    def __getitem__(self, place: int) -> dict[str, Any]:
        random = np.random.default_rng((self.order.seed, self.order.epoch, 1, place))
        document = int(np.searchsorted(self.bounds, place, side="right"))
        start, end = self.bounds[document - 1 : document + 1].tolist()
        others = len(self) - (end - start)

        def another() -> Passage:
            found = int(random.integers(others))
            return self.passage(found if found < start else found + end - start)

        piece = self.encoder.drawn(0, self.passage(place), another if others else None, random)
        return {"input_ids": piece.ids, "token_type_ids": piece.types, "labels": piece.targets}


def unlabelled(rows: "Dataset") -> "Dataset":
    """Replace the targets of all pieces by IGNORED."""
    ignored = np.full(len(rows), IGNORED, dtype=np.int64)
    return rows.remove_columns("labels").add_column("labels", ignored)


def lengths_of(rows: "Dataset") -> "np.typing.NDArray[np.int64]":
    """Return the number of tokens of each piece, (pieces,)."""
    return np.asarray(pc.list_value_length(rows.data["input_ids"]), dtype=np.int64)


def in_order(
    logits: Any, order: "np.typing.NDArray[np.int64]", lengths: "np.typing.NDArray[np.int64]"
) -> Logits:
    """Return logits in the order of the file and without padding; Trainer gathers them by length,
    padded to the longest."""
    found: Logits = [np.empty(0, np.float32)] * len(order)
    for row, place in zip(logits, order.tolist(), strict=True):
        found[place] = row if row.ndim == 1 else row[: lengths[place]]
    return found
