"""Encoder that cuts documents into passages and masks tokens of them."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from . import IGNORED
from .encoding import Encoder, Piece, Texts
from .masking import masked, vocabulary_of
from .passages import Passage, packed, paired, passages, sentences

FOLLOWS, RANDOM = 0, 1  # labels of the second passage, as in transformers' BertForPreTraining


class MaskedPiece(Piece):
    """Passage, or pair of passages, with masked tokens."""

    __slots__ = ("name", "user_masks")

    def __init__(
        self,
        row: int,
        ids: Sequence[int],
        types: Sequence[int],
        targets: Sequence[int],
        name: Callable[[int], str],
        user_masks: bool = False,
    ) -> None:
        self.row, self.ids, self.types = row, list(ids), list(types)
        self.targets = list(targets)
        """Original of each masked token, else IGNORED; at the first token FOLLOWS or RANDOM."""
        self.name, self.user_masks = name, user_masks
        """`user_masks`: the text itself holds [MASK], so the original tokens are unknown."""


class Cut(NamedTuple):
    """Token ids of a row's sentences, and of those of its second text."""

    own: list[list[int]]
    other: list[list[int]]


class MaskingEncoder(Encoder):
    """Cuts documents into passages of whole sentences and masks tokens of them.

    Masks and the place where a passage is split into a pair depend on the passage alone, so all
    runtimes get the same input. If the text itself holds [MASK], no other token is masked.
    """

    def __init__(
        self,
        tokenizer: Path,
        max_length: int,
        probability: float,
        whole_words: bool,
        packed: bool,
        pairs: bool,
    ) -> None:
        super().__init__(tokenizer, max_length)
        self.vocabulary = vocabulary_of(self.tokenizer)
        self.probability, self.whole_words = probability, whole_words
        self.packed, self.pairs = packed, pairs
        self.room = max_length - (3 if pairs else 2)

    def _name(self, token: int) -> str:
        return str(self.tokenizer.id_to_token(token))

    def encodings(self, texts: Sequence[Texts]) -> list[Cut]:
        """Token ids of the sentences of each text and, if `pairs`, of its second text."""
        parts = [[sentences(a), sentences(b) if self.pairs else []] for a, b in texts]
        flat = [sentence for row in parts for part in row for sentence in part]
        encoded = iter(self.tokenizer.encode_batch_fast(flat, add_special_tokens=False))
        return [
            Cut(*([each.ids for each in islice(encoded, len(part))] for part in row))
            for row in parts
        ]

    def read(self, texts: Texts) -> Texts:
        text, second = texts
        return text, second if self.pairs else ""

    def tokens(self, encodings: Sequence[Cut]) -> Iterator[list[int]]:
        for cut in encodings:
            yield [token for sentence in [*cut.own, *cut.other] for token in sentence]

    def lengths(self, texts: Sequence[Texts], encodings: Sequence[Cut]) -> list[int]:
        return [sum(map(len, cut.own)) for cut in encodings]

    def cut_up(self, encodings: Sequence[Cut]) -> list[Piece]:
        return [
            piece
            for row, (own, other) in enumerate(encodings)
            for piece in self._pieces(
                row, [*passages(row, own, self.room)], [*passages(-1, other, self.room)]
            )
        ]

    def _pieces(self, row: int, own: list[Passage], others: list[Passage]) -> Iterator[MaskedPiece]:
        for passage in own or [Passage(row, [], [])]:
            random = np.random.default_rng(_seed(passage.ids))

            def another(random: np.random.Generator = random) -> Passage:
                return others[int(random.integers(len(others)))]

            yield self.drawn(row, passage, another if others else None, random)

    def passages_of(self, encodings: Sequence[Cut]) -> list[Passage]:
        """Passages for training: full ones if `packed`, else whole sentences of one document. A
        [MASK] in the text itself becomes [UNK]."""
        unknown = self.tokenizer.token_to_id("[UNK]") or 0
        own = [
            [[unknown if i == self.vocabulary.mask else i for i in ids] for ids in cut.own]
            for cut in encodings
        ]
        if self.packed:
            return list(packed(own, self.room, self.vocabulary.separator))
        return [each for row, tokens in enumerate(own) for each in passages(row, tokens, self.room)]

    def drawn(
        self,
        row: int,
        passage: Passage,
        another: Callable[[], Passage] | None,
        random: np.random.Generator,
    ) -> MaskedPiece:
        """Mask a passage, split into a pair if `another` document is given."""
        vocabulary = self.vocabulary
        parts: list[Sequence[int]] = [passage.ids]
        follows = IGNORED
        user_masks = vocabulary.mask in passage.ids
        pair = None
        if self.pairs and another and not user_masks:
            pair = paired(passage, another, self.room, random)
        if pair:
            *parts, truth = pair
            follows = FOLLOWS if truth else RANDOM
        ids, types = [vocabulary.first], [0]
        for place, part in enumerate(parts):
            ids += [*part, vocabulary.separator]
            types += [place] * (len(part) + 1)
        if user_masks:
            found = np.asarray(ids)
            targets = np.where(found == vocabulary.mask, found, IGNORED)
        else:
            found, targets = masked(ids, vocabulary, self.probability, self.whole_words, random)
        targets[0] = follows
        return MaskedPiece(row, found.tolist(), types, targets.tolist(), self._name, user_masks)


def _seed(ids: Sequence[int]) -> int:
    digest = hashlib.sha256(np.asarray(ids, np.int32).tobytes()).digest()
    return int.from_bytes(digest[:8])
