"""Translation by an encoder and a decoder (Vaswani et al. 2017)."""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..base import (
    IGNORED,
    Answer,
    Decision,
    Detail,
    Floats,
    Labelled,
    Logits,
    LossOptions,
    Setting,
    Target,
    Task,
)
from ..base.encoding import WRITTEN, Encoder, LongText, Piece, Texts
from .beam_search import search
from .bleu_chrf import BLEU_COUNTS, CHRF_COUNTS, bleu, bleu_counts, chrf, chrf_counts, signatures

if TYPE_CHECKING:
    from torch import Tensor

    from ..base.runtime import Runtime


class SourcePiece(Piece):
    """Piece that can tokenize its translation."""

    __slots__ = ("words",)

    def __init__(self, row: int, encoding: Any, keep: Sequence[int], words: Any) -> None:
        super().__init__(row, encoding, keep)
        self.words = words


class SourceEncoder(Encoder):
    """Encoder with a second tokenizer for translations, if its file lies beside the first."""

    def __init__(self, tokenizer: Path, max_length: int) -> None:
        from tokenizers import Tokenizer

        super().__init__(tokenizer, max_length)
        written = tokenizer.with_name(WRITTEN)
        self.words = Tokenizer.from_file(str(written)) if written.exists() else None

    def cut_up(self, encodings: Sequence[Any]) -> list[Piece]:
        return [
            SourcePiece(row, encoding, keep, self.words)
            for row, encoding in enumerate(encodings)
            for keep in self._cuts(encoding)
        ]


class Translation(Task):
    """Translation; the `logits` of a piece are its score and the generated tokens, (1 +
    tokens,)."""

    head = "seq2seq"
    metrics = ("bleu", "chrf")
    baseline = ("words",)
    display_name = "Translation"

    def label(self, cell: str, text: str, second: str) -> str:
        return " ".join(cell.split())

    def encoder(
        self,
        tokenizer: Path,
        max_length: int,
        long_text: LongText,
        overlap: int,
        masking: Mapping[str, Any] | None = None,
    ) -> Encoder:
        return SourceEncoder(tokenizer, max_length)

    # learning

    def outputs(self, classes: Sequence[str]) -> list[str]:
        return ["token"]

    def target(self, label: str, piece: Piece, texts: Texts, classes: Sequence[str]) -> Target:
        """Token ids of the translation, with the final [SEP]."""
        assert isinstance(piece, SourcePiece)
        ids: list[int] = piece.words.encode(label).ids
        return ids[1:]

    def loss(self, logits: "Tensor", targets: "Tensor", options: LossOptions) -> "Tensor":
        from torch.nn.functional import cross_entropy

        return cross_entropy(
            logits.flatten(0, 1),
            targets.flatten(),
            ignore_index=IGNORED,
            label_smoothing=options.smoothing,
            reduction="sum",
        )

    # answering

    def run(
        self, runtime: "Runtime", pieces: Sequence[Piece], batch_size: int, decision: Decision
    ) -> list[Logits]:
        """Generate by beam search, in batches of similar length."""
        words = _words(decision["target"])
        found: list[Logits] = [np.empty(0, np.float32)] * len(pieces)
        order = sorted(range(len(pieces)), key=lambda place: len(pieces[place]))
        for start in range(0, len(order), batch_size):
            places = order[start : start + batch_size]
            written = search(
                runtime.steps([pieces[place] for place in places]),
                len(places),
                begin=words.token_to_id("[CLS]"),
                end=words.token_to_id("[SEP]"),
                beams=decision["num_beams"],
                most=decision["max_length"] - 1,
                length_penalty=decision["length_penalty"],
            )
            for place, (tokens, score) in zip(places, written, strict=True):
                found[place] = np.array([score, *tokens], np.float32)
        return found

    def comparable(self, logits: Logits, decision: Decision) -> Logits:
        return logits[:1]

    def answers(
        self,
        logits: Sequence[Logits],
        pieces: Sequence[Piece],
        texts: Sequence[Texts],
        classes: Sequence[str],
        decision: Decision,
    ) -> list[Answer]:
        words = _words(decision["target"])
        return [
            Answer(
                words.decode([int(token) for token in tokens if token >= 0]),
                float(np.exp(min(score, 0))),
            )
            for score, *tokens in logits  # a text is one piece
        ]

    # scores

    def tally(
        self, truths: Sequence[str], answers: Sequence[str], classes: Sequence[str]
    ) -> Floats:
        pair = answers[0], truths[0]
        return np.array([*bleu_counts(*pair), *chrf_counts(*pair)], dtype=np.float64)

    def measure(self, tallies: Floats) -> dict[str, Floats]:
        return {
            "bleu": bleu(tallies[..., :BLEU_COUNTS]),
            "chrf": chrf(tallies[..., BLEU_COUNTS:]),
        }

    def agreement(self, answers: Sequence[str], others: Sequence[str]) -> Floats:
        """chrF between two translations; 1 if they are equal."""
        pairs = zip(answers, others, strict=True)
        counts = np.array([chrf_counts(*pair) for pair in pairs], dtype=np.float64)
        same = [one == other for one, other in zip(answers, others, strict=True)]
        return np.where(same, 1.0, chrf(counts.reshape(-1, CHRF_COUNTS)))

    def per_unit_score(self, tallies: Floats) -> Floats:
        """chrF, since BLEU of a single sentence is unreliable."""
        return chrf(tallies[..., BLEU_COUNTS:])

    def baselines(self, on: Setting) -> dict[str, list[str]]:
        """The text itself, and the translation word by word with the highest Dice coefficient
        (1945) in training rows."""
        word_for = _dictionary(on.train)
        return {
            "the text itself": [text for text, _ in on.test.texts],
            "word by word": [
                " ".join(word_for.get(word, word) for word in text.split())
                for text, _ in on.test.texts
            ],
        }

    def detail(self, rows: Labelled, answers: Sequence[Answer], classes: Sequence[str]) -> Detail:
        return Detail(signatures=signatures())


def _dictionary(train: Labelled) -> dict[str, str]:
    ours: Counter[str] = Counter()
    theirs: Counter[str] = Counter()
    both: dict[str, Counter[str]] = {}
    for (text, _), label in zip(train.texts, train.labels, strict=True):
        words, others = set(text.split()), set(label.split())
        ours.update(words)
        theirs.update(others)
        for word in words:
            both.setdefault(word, Counter()).update(others)
    return {
        word: max(found, key=lambda other: 2 * found[other] / (ours[word] + theirs[other]))
        for word, found in both.items()
    }


@lru_cache(maxsize=4)
def _words(tokenizer: str) -> Any:
    from tokenizers import Tokenizer

    return Tokenizer.from_str(tokenizer)
