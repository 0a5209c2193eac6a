"""Encoders: the same conversion of texts to token ids for training, evaluation and serving."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

Texts = tuple[str, str]
"""Text and second text of a row; the second is empty if there is only one."""
LongText = Literal["truncate", "head_tail", "windows"]
WRITTEN = "target.json"  # beside tokenizer.json: the tokenizer of the target texts
CHARACTERS_PER_TOKEN = 32  # limit on the characters of a text that are tokenized
MOST_WINDOWS = 64  # of one text
HEAD = 0.25  # share of the tokens that head_tail takes from the beginning (Sun et al. 2019)


class Piece:
    """Input of the model from one row: the whole text, or a window."""

    __slots__ = ("encoding", "ids", "keep", "row", "targets", "types")

    def __init__(self, row: int, encoding: Any, keep: Sequence[int]) -> None:
        self.row, self.encoding, self.keep = row, encoding, keep
        ids, types = encoding.ids, encoding.type_ids
        self.ids: list[int] = [ids[i] for i in keep]
        self.types: list[int] = [types[i] for i in keep]
        self.targets: list[int] = []
        """Original ids of masked tokens, if any are masked."""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def offsets(self) -> list[tuple[int, int]]:
        """First character of each token, and one past its last, in its text."""
        offsets = self.encoding.offsets
        return [offsets[i] for i in self.keep]

    @property
    def sequences(self) -> list[int | None]:
        """Number of the text that each token belongs to, 0 or 1; None for special tokens."""
        special, types = self.encoding.special_tokens_mask, self.encoding.sequence_ids
        return [None if special[i] else types[i] for i in self.keep]


class Encoder:
    """Tokenizes texts and cuts them into pieces of at most `max_length` tokens.

    Of a text that is too long, `truncate` keeps the beginning, `head_tail` a quarter from the
    beginning and the rest from the end, `windows` everything, in windows that share `overlap`
    tokens. `cut` names the text of a pair that is shortened.
    """

    def __init__(
        self,
        tokenizer: Path,
        max_length: int,
        long_text: LongText = "truncate",
        overlap: int = 0,
        cut: Literal["longest", "second"] = "longest",
        offsets: bool = False,
    ) -> None:
        from tokenizers import Tokenizer

        self.tokenizer = Tokenizer.from_file(str(tokenizer))
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        self.max_length, self.long_text, self.overlap = max_length, long_text, overlap
        self.cut = cut
        self.batch = self.tokenizer.encode_batch if offsets else self.tokenizer.encode_batch_fast
        windows = 1 if long_text == "truncate" else MOST_WINDOWS
        self.most_characters = max_length * CHARACTERS_PER_TOKEN * windows

    def encodings(self, texts: Sequence[Texts]) -> list[Any]:
        """Tokenized texts before they are cut; of very long ones the part that pieces need."""
        capped = [self.read(pair) for pair in texts]
        found = list(self.batch([_given(pair) for pair in capped]))
        for row, pair in enumerate(texts):
            # a long run of characters can be one token, so the cap can leave too few tokens
            if capped[row] != pair and len(found[row].ids) < self.max_length:
                found[row] = self.batch([_given(pair)])[0]
        return found

    def tokens(self, encodings: Sequence[Any]) -> Iterator[list[int]]:
        """Token ids of each text, without special tokens."""
        for encoding in encodings:
            special = encoding.special_tokens_mask
            yield [token for token, own in zip(encoding.ids, special, strict=True) if not own]

    def lengths(self, texts: Sequence[Texts], encodings: Sequence[Any]) -> list[int]:
        """Number of tokens of each whole text, also where `encodings` holds only a part."""
        return [
            len(self.batch([_given(pair)])[0])
            if max(map(len, pair)) > self.most_characters
            else len(encoding)
            for pair, encoding in zip(texts, encodings, strict=True)
        ]

    def cut_up(self, encodings: Sequence[Any]) -> list[Piece]:
        """Pieces of all rows, in the order of the rows."""
        return [
            Piece(row, encoding, keep)
            for row, encoding in enumerate(encodings)
            for keep in self._cuts(encoding)
        ]

    def pieces(self, texts: Sequence[Texts]) -> list[Piece]:
        """Pieces of all texts, in the order of the texts."""
        return self.cut_up(self.encodings(texts))

    def read(self, texts: Texts) -> Texts:
        """Texts of a row as far as the tokenizer gets them."""
        text, second = texts
        return self._capped(text), self._capped(second)

    def _capped(self, text: str) -> str:
        if self.long_text == "head_tail" and len(text) > self.most_characters:
            half = (
                self.most_characters // 2
            )  # shifts offsets: tasks that need them do not use head_tail
            return text[:half] + text[-half:]
        return text[: self.most_characters]

    def _cuts(self, encoding: Any) -> Iterator[Sequence[int]]:
        """Indices of the tokens of each piece."""
        length = len(encoding.ids)
        over = length - self.max_length
        if over <= 0:
            yield range(length)
            return
        special = encoding.special_tokens_mask
        of = encoding.sequence_ids
        first = [i for i in range(length) if not special[i] and of[i] == 0]
        second = [i for i in range(length) if not special[i] and of[i] == 1]
        if second and self.cut == "longest" and self.long_text == "truncate":
            yield _without(length, *_longest(first, second, over))
            return
        cut = second or first
        # the text that is not cut leaves at least an eighth of the length to the other
        spared = max(0, over - len(cut) + min(self.max_length // 8, len(cut)))
        gone = first[len(first) - spared :] if second and spared else []
        room = max(1, len(cut) - over + len(gone))
        # beside a long first text windows are small and must still advance
        overlap = min(self.overlap, room // 2) if second else self.overlap
        for kept in self._spans(cut, room, overlap):
            inside = set(kept)
            yield _without(length, gone, [i for i in cut if i not in inside])

    def _spans(self, places: list[int], room: int, overlap: int) -> Iterator[list[int]]:
        if self.long_text == "truncate":
            yield places[:room]
        elif self.long_text == "head_tail":
            head = round(room * HEAD)
            yield places[:head] + places[len(places) - (room - head) :]
        else:
            step = max(1, room - overlap)
            for number, start in enumerate(range(0, len(places), step), 1):
                if number == MOST_WINDOWS or start + room >= len(places):
                    yield places[start : start + room] if number == MOST_WINDOWS else places[-room:]
                    return
                yield places[start : start + room]


def trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """Start and end of a span without the white space at its ends."""
    while start < end and text[start].isspace():
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    return start, end


def _given(texts: Texts) -> Texts | str:
    return texts if texts[1] else texts[0]


def _longest(first: list[int], second: list[int], over: int) -> tuple[list[int], list[int]]:
    """Tokens to remove from the ends of two texts, from the longer one first."""
    room = len(first) + len(second) - over
    shorter = min(len(first), len(second), room // 2)
    keep_first = shorter if len(first) <= len(second) else room - shorter
    keep_first = min(keep_first, len(first))
    return first[keep_first:], second[room - keep_first :]


def _without(length: int, *gone: Sequence[int]) -> list[int]:
    leave = {i for places in gone for i in places}
    return [i for i in range(length) if i not in leave]
