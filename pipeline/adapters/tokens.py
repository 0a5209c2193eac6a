"""datasets: the token files that `tokenize` writes, memory-mapped, as plain arrays."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.records import Split


@dataclass(frozen=True)
class TokenRows:
    ids: list[str]
    tokens: list[list[int]]
    labels: npt.NDArray[np.int64]


def read_tokens(tokenize: Path, split: Split) -> TokenRows:
    """All rows of a split, in the order of kept.parquet."""
    from datasets import Dataset

    rows = Dataset.from_file(str(tokenize / "tokens" / f"{split}.arrow")).to_dict()
    return TokenRows(rows["id"], rows["input_ids"], np.asarray(rows["labels"], dtype=np.int64))
