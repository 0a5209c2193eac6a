"""What earlier stages hand on, read back: the kept rows of a split, and what cuts texts up."""

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.core.records import Lengths, Split
from pipeline.tasks.base import Labelled, Target, Task
from pipeline.tasks.base.encoding import Encoder, Texts

if TYPE_CHECKING:
    import pandas as pd

SEED = 17  # of rows that are drawn


def kept_rows(
    validate: Path, split: Split, columns: list[str] | None = None, most: int | None = None
) -> "pd.DataFrame":
    """The rows of a split, in the order of kept.parquet; `most` of them, drawn by chance, the same
    each time, where there are more."""
    import pandas as pd

    path = validate / "kept.parquet"
    chosen: list[tuple[str, str, str | list[str]]] = [("split", "==", split)]
    if most is not None:
        ids = pd.read_parquet(path, columns=["id"], filters=chosen)["id"]
        if len(ids) > most:
            chosen.append(("id", "in", ids.sample(most, random_state=SEED).tolist()))
    return pd.read_parquet(path, columns=columns, filters=chosen).reset_index(drop=True)


def texts_of(rows: "pd.DataFrame") -> list[Texts]:
    return list(zip(rows["text"], rows["second"], strict=True))


def labelled(rows: "pd.DataFrame") -> Labelled:
    return Labelled(texts_of(rows), rows["label"].tolist(), rows["group"].tolist())


def groups_of(rows: "pd.DataFrame") -> list[str] | None:
    """The group of each row, and its id where it has none; None where no row has one."""
    grouped = rows["group"] != ""
    return rows["group"].where(grouped, rows["id"]).tolist() if grouped.any() else None


def targets(tokenize: Path, split: Split) -> list[Target]:
    """What the head should say of each piece of a split, in their order."""
    import pyarrow as pa

    with pa.memory_map(str(tokenize / "tokens" / f"{split}.arrow")) as file:
        found: list[Target] = pa.ipc.open_stream(file).read_all()["labels"].to_pylist()
    return found


def encoder(tokenize: Path, task: Task, length: int | None = None) -> Encoder:
    """The one by which the rows were tokenized; with shorter pieces where a `length` is given."""
    how = Lengths.read(tokenize / "lengths.json")
    return task.encoder(
        tokenize / "tokenizer" / "tokenizer.json",
        length or how.maximum,
        how.long_text,
        how.overlap * (length or how.maximum) // how.maximum,
        how.masking,
    )
