"""Texts to token ids, once, in memory-mapped Arrow.

    python -m pipeline tokenize news

Writes tokens/{train,validation,test}.arrow (id, input_ids, labels), tokenizer/, lengths.json and
lengths.csv (the histogram). Rows keep the order of kept.parquet.
"""

from collections import Counter
from pathlib import Path

import numpy as np
from pydantic import Field

from pipeline.config import Settings
from pipeline.files import whole, write_csv
from pipeline.log import Log, no_log
from pipeline.records import SPLITS, Lengths, Validation
from pipeline.sources import BaseParams, base_folder
from pipeline.stages import CHARACTERS_PER_TOKEN

BATCH = 1000  # rows
BINS = 40


class TokenizeParams(Settings):
    max_length: int = Field(ge=8, le=8192)
    """Tokens a text is cut to, special tokens included."""


def tokenize(
    params: TokenizeParams, base: BaseParams, validate: Path, out: Path, *, log: Log = no_log
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
    labels = {
        name: i for i, name in enumerate(Validation.read(validate / "validation.json").labels)
    }
    schema = pa.schema(
        [("id", pa.string()), ("input_ids", pa.list_(pa.int32())), ("labels", pa.int64())]
    )
    lengths: dict[str, list[int]] = {split: [] for split in SPLITS}
    kept = pq.ParquetFile(validate / "kept.parquet")
    done, total = 0, len(SPLITS) * kept.metadata.num_rows
    with whole(out / "tokens") as tokens:
        tokens.mkdir()
        for split in SPLITS:
            with (
                pa.OSFile(str(tokens / f"{split}.arrow"), "wb") as sink,
                pa.ipc.new_stream(sink, schema) as writer,
            ):
                for batch in kept.iter_batches(BATCH, columns=["id", "text", "label", "split"]):
                    done += batch.num_rows
                    rows = [row for row in batch.to_pylist() if row["split"] == split]
                    if rows:
                        texts = [row["text"] for row in rows]
                        ids, counts = _encode(tokenizer, texts, params.max_length)
                        lengths[split] += counts
                        columns = [
                            pa.array([row["id"] for row in rows], pa.string()),
                            pa.array(ids, pa.list_(pa.int32())),
                            pa.array([labels[row["label"]] for row in rows], pa.int64()),
                        ]
                        writer.write_batch(pa.record_batch(columns, schema=schema))
                    log.progress(done, total, "rows")
    everything = np.concatenate([np.asarray(lengths[split]) for split in SPLITS])
    _write_histogram(everything, out / "lengths.csv")
    points = (5, 25, 50, 75, 95, 99, 100)
    return Lengths(
        maximum=params.max_length,
        truncated_share={
            split: float(np.mean(np.asarray(lengths[split]) > params.max_length))
            for split in SPLITS
        },
        quantiles={
            f"p{p}" if p < 100 else "max": int(q)
            for p, q in zip(points, np.percentile(everything, points), strict=True)
        },
        rows={split: len(lengths[split]) for split in SPLITS},
    ).write(out / "lengths.json")


def _encode(tokenizer: object, texts: list[str], longest: int) -> tuple[list[list[int]], list[int]]:
    """Token ids, truncated, and the lengths before truncation."""
    capped = [text[: longest * CHARACTERS_PER_TOKEN] for text in texts]
    encoded = tokenizer(capped, truncation=True, max_length=longest)  # type: ignore[operator]
    special = tokenizer.num_special_tokens_to_add()  # type: ignore[attr-defined]
    counts = [
        len(e.ids) + sum(len(part.ids) - special for part in e.overflowing)
        for e in encoded.encodings
    ]
    return encoded["input_ids"], counts


def _write_histogram(lengths: "np.typing.NDArray[np.int64]", path: Path) -> None:
    width = max(1, -(-int(lengths.max()) // BINS))
    bins = Counter((lengths // width * width).tolist())
    rows = [(start, bins[start]) for start in range(0, int(lengths.max()) + 1, width)]
    write_csv(path, ("tokens", "texts"), rows)
