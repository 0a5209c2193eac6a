"""Search for near copies among millions of texts, without comparing every pair."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.core.files import parquet_batches
from pipeline.core.log import Log
from pipeline.core.text import join_texts, normalised
from pipeline.stages.validate.params import NearDuplicates
from pipeline.tasks.base.encoding import Texts

if TYPE_CHECKING:
    import pandas as pd


def near_copies(
    file: Path, ranks: "pd.Series[int]", settings: NearDuplicates, log: Log
) -> dict[int, int]:
    """Return the highest rank above its own that holds a near copy of a row, by the row's position.

    `ranks` holds the rank of each row to compare, by its position in the Parquet file.
    """
    if ranks.nunique() < 2:
        return {}
    index = NearCopies(settings.similarity, settings.characters)
    rank = ranks.to_dict()
    found: dict[int, int | None] = {}
    # validation and test are small enough to be held and sorted by rank
    held_out = {row: texts for row, texts in _texts(file) if rank.get(row, 0) > 0}
    for row in sorted(held_out, key=lambda row: -rank[row]):
        found[row] = index.rank(held_out[row], rank[row])
        log.progress(len(found), len(rank), "near duplicates")
    for row, texts in _texts(file):
        if rank.get(row) == 0:
            found[row] = index.rank(texts, 0)
            log.progress(len(found), len(rank), "near duplicates")
    return {row: highest for row, highest in found.items() if highest is not None}


def _texts(file: Path) -> Iterator[tuple[int, Texts]]:
    """Yield the position and the normalised texts of every row."""
    batches = parquet_batches(file, columns=["text", "second"])
    for place, row in enumerate(row for batch in batches for row in batch.to_pylist()):
        yield place, (normalised(row["text"]), normalised(row["second"]))


class NearCopies:
    """Index that finds near copies of a row among rows of a higher rank.

    Candidates come from MinHash with locality-sensitive hashing (Broder 1997; rensa's R-MinHash,
    256 permutations in 32 bands of 8: a pair at Jaccard 0.8 is missed 3 times in 1000). Each is
    then verified by the exact Jaccard similarity of each text, so none is flagged by chance.

    Rows must be passed from the highest rank down. Those of rank 0, the majority, are looked up but
    not stored.
    """

    def __init__(self, similarity: float, characters: int) -> None:
        from rensa import RMinHashLSH

        self.similarity, self.characters = similarity, characters
        self.index = RMinHashLSH(threshold=similarity, num_perm=256, num_bands=32)
        self.kept: list[tuple[Texts, int]] = []
        """Rows of the index with their ranks."""

    def rank(self, texts: Texts, rank: int) -> int | None:
        """Return the highest rank above `rank` that holds a near copy of these texts, and store
        them. If rows have two texts, both must be near."""
        from rensa import RMinHash

        hashed = RMinHash(num_perm=256, seed=1)
        hashed.update(list(_grams(join_texts(*texts), self.characters)))
        higher = [self.kept[place] for place in self.index.query(hashed)]
        if rank > 0:
            self.index.insert(len(self.kept), hashed)
            self.kept.append((texts, rank))
        found = (other for other in higher if other[1] > rank and self._near(texts, other[0]))
        return max((rank for _, rank in found), default=None)

    def _near(self, texts: Texts, others: Texts) -> bool:
        return all(
            text == other or self._similar(text, other)
            for text, other in zip(texts, others, strict=True)
        )

    def _similar(self, text: str, other: str) -> bool:
        one, two = _grams(text, self.characters), _grams(other, self.characters)
        return len(one & two) >= self.similarity * len(one | two)


def _grams(text: str, width: int) -> set[str]:
    return {text[i : i + width] for i in range(max(len(text) - width + 1, 1))}
