"""Readers of artifacts of earlier stages: kept rows, targets and the encoder of texts."""

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.core.records import Lengths, Split
from pipeline.tasks.base import Labelled, Target, Task
from pipeline.tasks.base.encoding import Encoder, Texts

if TYPE_CHECKING:
    import pandas as pd

SEED = 17  # of sampled rows


def kept_rows(
    validate: Path, split: Split, columns: list[str] | None = None, most: int | None = None
) -> "pd.DataFrame":
    """Read the rows of a split, in the order of kept.parquet; at most `most`, a random sample that
    is the same each time."""
    import pandas as pd

    path = validate / "kept.parquet"
    filters: list[tuple[str, str, str | list[str]]] = [("split", "==", split)]
    if most is not None:
        ids = pd.read_parquet(path, columns=["id"], filters=filters)["id"]
        if len(ids) > most:
            filters.append(("id", "in", ids.sample(most, random_state=SEED).tolist()))
    return pd.read_parquet(path, columns=columns, filters=filters).reset_index(drop=True)


def texts_of(rows: "pd.DataFrame") -> list[Texts]:
    return list(zip(rows["text"], rows["second"], strict=True))


def labelled(rows: "pd.DataFrame") -> Labelled:
    return Labelled(texts_of(rows), rows["label"].tolist(), rows["group"].tolist())


def groups_of(rows: "pd.DataFrame") -> list[str] | None:
    """Return the group of each row, or its id if it has none; None if no row has a group."""
    grouped = rows["group"] != ""
    return rows["group"].where(grouped, rows["id"]).tolist() if grouped.any() else None


def targets(tokenize: Path, split: Split) -> list[Target]:
    """Read the target of each piece of a split, in order."""
    import pyarrow as pa

    with pa.memory_map(str(tokenize / "tokens" / f"{split}.arrow")) as file:
        labels: list[Target] = pa.ipc.open_stream(file).read_all()["labels"].to_pylist()
    return labels


def encoder(tokenize: Path, task: Task, length: int | None = None) -> Encoder:
    """Return the encoder that tokenized the rows, or one for pieces of `length` tokens."""
    settings = Lengths.read(tokenize / "lengths.json")
    length = length or settings.maximum
    return task.encoder(
        tokenize / "tokenizer" / "tokenizer.json",
        length,
        settings.long_text,
        settings.overlap * length // settings.maximum,
        settings.masking,
    )
