"""Near copies of texts, found among millions without comparing each with each."""

from pipeline.core.text import both

Texts = tuple[str, str]


class NearCopies:
    """Which rows are near copies of rows of a higher rank.

    Candidates come from MinHash with locality-sensitive hashing (Broder 1997; rensa's R-MinHash,
    256 permutations in 32 bands of 8: a pair at Jaccard 0.8 is missed 3 times in 1000); each is
    then verified by the exact Jaccard similarity of each text, so none is flagged by chance.

    Rows are handed in from the highest rank down. Those of rank 0, which are most, are looked up
    and forgotten.
    """

    def __init__(self, similarity: float, characters: int) -> None:
        from rensa import RMinHashLSH

        self.similarity, self.characters = similarity, characters
        self.index = RMinHashLSH(threshold=similarity, num_perm=256, num_bands=32)
        self.kept: list[tuple[Texts, int]] = []
        """Each row of the index, and its rank."""

    def rank(self, texts: Texts, rank: int) -> int | None:
        """The highest rank above its own that holds a near copy of a row; of rows of two texts both
        are near."""
        from rensa import RMinHash

        hashed = RMinHash(num_perm=256, seed=1)
        hashed.update(list(_grams(both(*texts), self.characters)))
        higher = [self.kept[place] for place in self.index.query(hashed)]
        if rank > 0:
            self.index.insert(len(self.kept), hashed)
            self.kept.append((texts, rank))
        found = (other for other in higher if other[1] > rank and self._near(texts, other[0]))
        return max((rank for _, rank in found), default=None)

    def _near(self, texts: Texts, others: Texts) -> bool:
        return all(
            text == other or self._alike(text, other)
            for text, other in zip(texts, others, strict=True)
        )

    def _alike(self, text: str, other: str) -> bool:
        one, two = _grams(text, self.characters), _grams(other, self.characters)
        return len(one & two) >= self.similarity * len(one | two)


def _grams(text: str, width: int) -> set[str]:
    return {text[i : i + width] for i in range(max(len(text) - width + 1, 1))}
