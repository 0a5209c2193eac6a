"""Columns of every row that the rules need, computed in batches: the texts are not kept."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.core.errors import UserError
from pipeline.core.files import parquet_batches
from pipeline.core.log import Log
from pipeline.core.text import join_texts, normalised
from pipeline.stages.validate.params import RULES, ValidateParams
from pipeline.tasks.base import Task

if TYPE_CHECKING:
    import pandas as pd

PLAIN = ("id", "label", "split", "group", "file", "line")
# of survey; key, written and said are digests: of normalised texts, raw texts and the shown label
MADE = ("key", "written", "said", "fewest_characters", "most_characters", "shown")
RESERVED = (*RULES, *MADE, "fate", "leaks_to", "outside", "reason")  # columns of this stage
BATCH = 5000  # rows
CONTROL = "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]"


def survey(params: ValidateParams, task: Task, ingest: Path, log: Log) -> "pd.DataFrame":
    """Return the columns that the rules need of every row and reject, indexed by position.

    Texts are read in batches and not kept, so that a corpus can be larger than memory.
    """
    import pandas as pd
    import pyarrow.parquet as pq

    rows = ingest / "rows.parquet"
    if clash := [column for column in pq.read_schema(rows).names if column in RESERVED]:
        raise UserError(
            f"{rows}: carries {clash[0]!r}, a name that this stage uses: rename"
            " the column in the source and in ingest.carry"
        )
    parts, done, total = [], 0, pq.read_metadata(rows).num_rows
    for batch in parquet_batches(rows, BATCH, [*PLAIN, "text", "second"]):
        parts.append(_traits(batch.to_pandas(), params, task))
        done += len(parts[-1])
        log.progress(done, total, "rows")
    rejects = pd.read_parquet(ingest / "rejects.parquet")
    texts = ("id", "label", "split", "group", "file", "reason", "shown")
    numbers = ("key", "written", "said", "fewest_characters", "most_characters")
    flags = ("blank", "control_characters", "too_long", "undecodable")
    rejects = rejects.rename(columns={"excerpt": "shown"}).assign(
        undecodable=True,
        **dict.fromkeys(numbers, np.int64(0)),  # NaN would turn digests into floats
    )
    frame = pd.concat([*parts, rejects], ignore_index=True)
    for names, value in ((texts, ""), (flags, False)):
        for name in names:
            frame[name] = frame[name].fillna(value).astype(type(value))
    return frame


def _traits(rows: "pd.DataFrame", params: ValidateParams, task: Task) -> "pd.DataFrame":
    """Return the columns of some rows that the rules need."""
    texts = [rows["text"], rows["second"]] if task.two_texts else [rows["text"]]
    lengths = [text.str.len() for text in texts]
    found = rows[list(PLAIN)].assign(
        undecodable=False,
        reason="",
        shown="",
        fewest_characters=np.minimum.reduce(lengths),
        most_characters=np.maximum.reduce(lengths),
    )
    found["blank"] = ~np.logical_and.reduce([text.map(_visible) for text in texts])
    found["control_characters"] = np.logical_or.reduce(
        [text.str.contains(CONTROL, regex=True) for text in texts]
    )
    found["too_long"] = found["most_characters"] > params.max_characters
    pairs = list(zip(rows["text"], rows["second"], strict=True))
    found["key"] = [digest(normalised(join_texts(*pair))) for pair in pairs]
    found["written"], found["said"] = 0, 0
    if task.offsets:
        found["written"] = [digest(join_texts(*pair)) for pair in pairs]
        found["said"] = [
            digest(normalised(task.shown(label, *pair))) if label else 0
            for label, pair in zip(rows["label"], pairs, strict=True)
        ]
    return found


def digest(text: str) -> int:
    """Return 63 bits of a text's hash: of 200,000 corpora of ten million texts, one has a
    collision."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest) >> 1


def _visible(text: str) -> bool:
    return any(character.isprintable() and not character.isspace() for character in text)
