"""Texts to token ids, once, in memory-mapped Arrow.

    python -m pipeline tokenize news

Writes tokens/{train,validation,test}.arrow (id, input_ids, token_type_ids, labels; one line a
piece, several a row where long_text is windows), tokenizer/, lengths.json and lengths.csv (the
histogram). Pieces keep the order of kept.parquet, but for those of training rows that are read in
both orders.
"""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from pydantic import Field, model_validator

from pipeline.config import Settings
from pipeline.files import whole, write_csv
from pipeline.log import Log, no_log
from pipeline.records import SPLITS, Lengths, Validation
from pipeline.sources import BaseParams, base_folder
from pipeline.tasks import Task
from pipeline.tasks.encoding import Encoder, LongText

if TYPE_CHECKING:
    import pyarrow as pa

BATCH = 1000  # rows
BINS = 40


class TokenizeParams(Settings):
    max_length: int = Field(ge=8, le=8192)
    """Tokens that the model reads at once, special tokens included."""
    long_text: LongText
    """What becomes of a longer text: truncate keeps its beginning, head_tail a quarter from the
    beginning and the rest from the end (Sun et al. 2019), windows all of it, in pieces."""
    overlap: int = Field(ge=0)
    """Tokens that one window shares with the next."""
    both_orders: bool
    """Whether a training row is read twice, its two texts in both orders: where none is the first,
    as of paraphrases."""

    @model_validator(mode="after")
    def _windows_advance(self) -> Self:
        if self.overlap and self.long_text != "windows":
            raise ValueError("overlap is of windows alone: set it to 0, or long_text to windows")
        if self.overlap > self.max_length // 2:
            raise ValueError("overlap is more than half of max_length: make it smaller")
        return self


def check(params: TokenizeParams, task: Task) -> None:
    """Raises ValueError, beginning with the key, for what the task has no use of."""
    if params.long_text == "head_tail" and (task.two_texts or task.offsets):
        raise ValueError(
            f"long_text: head_tail is for tasks of one whole text, not for {task.name}: set it to"
            " truncate or windows"
        )
    if params.both_orders and not task.symmetric:
        raise ValueError(
            f"both_orders: the texts of {task.name} cannot change places: set it to false"
        )


def tokenize(
    params: TokenizeParams,
    task: Task,
    base: BaseParams,
    validate: Path,
    out: Path,
    *,
    log: Log = no_log,
) -> Lengths:
    """Tokenize every kept row by the base model's fast tokenizer.

    Raises UserError where the base is not an encoder or takes no texts of `max_length`.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from pipeline.adapters.transformers import load_tokenizer, most_tokens

    folder = base_folder(base)
    most_tokens(folder, params.max_length, base.model)
    tokenizer = load_tokenizer(folder, base.model)
    with whole(out / "tokenizer") as temporary:
        tokenizer.save_pretrained(temporary)
    encoder = Encoder(
        out / "tokenizer" / "tokenizer.json",
        params.max_length,
        params.long_text,
        params.overlap,
        task.cut,
        task.offsets,
    )
    classes = Validation.read(validate / "validation.json").labels
    lengths: dict[str, list[int]] = {split: [] for split in SPLITS}
    pieces: Counter[str] = Counter()
    kept = pq.ParquetFile(validate / "kept.parquet")
    done, total = 0, len(SPLITS) * kept.metadata.num_rows
    columns = ["id", "text", "second", "label", "split"]
    with whole(out / "tokens") as tokens:
        tokens.mkdir()
        for split in SPLITS:
            writer = None
            with pa.OSFile(str(tokens / f"{split}.arrow"), "wb") as sink:
                for batch in kept.iter_batches(BATCH, columns=columns):
                    done += batch.num_rows
                    rows = [row for row in batch.to_pylist() if row["split"] == split]
                    if rows:
                        table, counts = _table(rows, encoder, task, classes)
                        lengths[split] += counts
                        if params.both_orders and split == "train":
                            others = [
                                row | {"text": row["second"], "second": row["text"]} for row in rows
                            ]
                            turned, _ = _table(others, encoder, task, classes)
                            table = pa.concat_tables([table, turned])
                        pieces[split] += table.num_rows
                        writer = writer or pa.ipc.new_stream(sink, table.schema)
                        writer.write_table(table)
                    log.progress(done, total, "rows")
                if writer:
                    writer.close()
    everything = np.concatenate([np.asarray(lengths[split]) for split in SPLITS])
    _write_histogram(everything, out / "lengths.csv")
    points = (5, 25, 50, 75, 95, 99, 100)
    return Lengths(
        maximum=params.max_length,
        long_text=params.long_text,
        overlap=params.overlap,
        truncated_share={
            split: float(np.mean(np.asarray(lengths[split]) > params.max_length))
            for split in SPLITS
        },
        pieces={split: pieces[split] for split in SPLITS},
        quantiles={
            f"p{p}" if p < 100 else "max": int(q)
            for p, q in zip(points, np.percentile(everything, points), strict=True)
        },
        rows={split: len(lengths[split]) for split in SPLITS},
    ).write(out / "lengths.json")


def _table(
    rows: list[dict[str, str]], encoder: Encoder, task: Task, classes: list[str]
) -> "tuple[pa.Table, list[int]]":
    """The rows' pieces with what the head should say of each, and the rows' lengths in tokens."""
    import pyarrow as pa

    texts = [(row["text"], row["second"]) for row in rows]
    encodings = encoder.encodings(texts)
    pieces = encoder.cut_up(encodings)
    targets = [
        task.target(rows[piece.row]["label"], piece, texts[piece.row], classes) for piece in pieces
    ]
    table = pa.table(
        {
            "id": pa.array([rows[piece.row]["id"] for piece in pieces], pa.string()),
            "input_ids": pa.array([piece.ids for piece in pieces], pa.list_(pa.int32())),
            "token_type_ids": pa.array([piece.types for piece in pieces], pa.list_(pa.int8())),
            "labels": pa.array(targets),
        }
    )
    return table, encoder.lengths(texts, encodings)


def _write_histogram(lengths: "np.typing.NDArray[np.int64]", path: Path) -> None:
    width = max(1, -(-int(lengths.max()) // BINS))
    bins = Counter((lengths // width * width).tolist())
    rows = [(start, bins[start]) for start in range(0, int(lengths.max()) + 1, width)]
    write_csv(path, ("tokens", "texts"), rows)
