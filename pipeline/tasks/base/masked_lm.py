"""Masked language modeling, with or without next-sentence prediction, on texts without labels.

A row is a document. Its answer is JSON: the number of masked tokens (`hidden`), how many of them
were predicted right (`right`), the sum of the natural logs of their probabilities (`log`), the
number of `pairs` of passages, how many of these were classified right (`followed`), and the
predictions (`said`).
"""

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from . import (
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
from .answering import AT_ONCE
from .encoding import LongText, Piece, Texts
from .masking import Vocabulary
from .masking_encoder import FOLLOWS, RANDOM, MaskedPiece, MaskingEncoder

if TYPE_CHECKING:
    from torch import Tensor

ITSELF = "itself"  # label of every row: the text is its own target
BEST = 5  # most likely tokens that the model outputs for each masked token
COUNTS = ("hidden", "right", "log", "pairs", "followed")  # keys of an answer, in a tally's order


class MaskedLanguageModel(Task):
    """Base of the tasks that predict masked tokens.

    Outputs at a masked token are the log probability of the truth, those of the BEST most likely
    tokens, and the ids of these tokens; at the first token, behind a zero, the logits of FOLLOWS
    and RANDOM.
    """

    head = "masked_lm"
    labelled = False
    dynamic_masking = True
    baseline = ("frequencies",)
    display_name = "Fill-mask"
    pairs: ClassVar[bool]
    """True if passages come in pairs, for next-sentence prediction."""

    # rows

    def label(self, cell: str, text: str, second: str) -> str:
        return ITSELF

    def shown(self, label: str, text: str, second: str) -> str:
        found = _read(label)
        return "" if found is None else " ".join(found["said"])

    def encoder(
        self,
        tokenizer: Path,
        max_length: int,
        long_text: LongText,
        overlap: int,
        masking: Mapping[str, Any] | None = None,
    ) -> MaskingEncoder:
        return MaskingEncoder(tokenizer, max_length, **(masking or {}), pairs=self.pairs)

    # learning

    def outputs(self, classes: Sequence[str]) -> list[str]:
        return ["truth", *(f"{what}_{i}" for what in ("log", "token") for i in range(BEST))]

    def target(self, label: str, piece: Piece, texts: Texts, classes: Sequence[str]) -> Target:
        return piece.targets

    def loss(self, logits: "Tensor", targets: "Tensor", options: LossOptions) -> "Tensor":
        """Mean over masked tokens plus mean over pairs, as in BertForPreTraining, times the number
        of masked tokens."""
        from torch.nn.functional import cross_entropy

        tokens = targets[:, 1:] != IGNORED
        loss = -(logits[:, 1:, 0] * tokens).sum()
        pairs = targets[:, 0] != IGNORED
        if pairs.any():
            pair_loss = cross_entropy(logits[pairs, 0, 1:3], targets[pairs, 0])
            if options.weights is not None:
                pair_loss = pair_loss * options.weights
            loss = loss + pair_loss * tokens.sum()
        return loss

    def counted(self, targets: "Tensor") -> "Tensor":
        return (targets[:, 1:] != IGNORED).sum()

    # answering

    def answers(
        self,
        logits: Sequence[Logits],
        pieces: Sequence[Piece],
        texts: Sequence[Texts],
        classes: Sequence[str],
        decision: Decision,
    ) -> list[Answer]:
        rows = [_RowPredictions() for _ in texts]
        for own, piece in zip(logits, pieces, strict=True):
            assert isinstance(piece, MaskedPiece)
            rows[piece.row].add(own, piece)
        return [row.answer() for row in rows]

    # scores

    def tally(
        self, truths: Sequence[str], answers: Sequence[str], classes: Sequence[str]
    ) -> Floats:
        found = _read(answers[0])
        if found is None:
            return np.array([1.0, 1.0, 0.0, 1.0, 1.0])
        return np.array([found[name] for name in COUNTS], dtype=np.float64)

    def measure(self, tallies: Floats) -> dict[str, Floats]:
        hidden, right, log, pairs, followed = np.moveaxis(tallies, -1, 0)
        all_metrics = {
            "masked_accuracy": right / np.maximum(hidden, 1),
            "inverse_perplexity": np.exp(log / np.maximum(hidden, 1)),
            "next_sentence_accuracy": followed / np.maximum(pairs, 1),
        }
        return {name: all_metrics[name] for name in self.metrics}

    def same(self, answers: Sequence[str], others: Sequence[str]) -> npt.NDArray[np.bool_]:
        return np.asarray(self.agreement(answers, others) == 1)

    def agreement(self, answers: Sequence[str], others: Sequence[str]) -> Floats:
        """Share of equal predictions; against a label, share of right ones.

        Models with different vocabularies mask different tokens: they are compared by the shares
        that each predicted right.
        """
        pairs = zip(map(_read, answers), map(_read, others), strict=True)
        return np.array([_agreement(*pair) for pair in pairs])

    def comparable(self, logits: Logits, decision: Decision) -> Logits:
        return logits[:, : 1 + BEST]  # the rest are token ids

    def error_severity(self, label: str, answer: Answer) -> float:
        return -math.log(max(answer.confidence, 1e-30))

    def baselines(self, on: Setting) -> dict[str, list[str]]:
        """The most frequent tokens of training rows for every masked token; and a second passage
        follows if the words that it shares with the first, weighted by rarity and normalized by the
        shorter length, reach the threshold that is best on validation rows."""
        counts = Counter[int]()
        for texts in _chunks(on.train.texts):
            for ids in on.encoder.tokens(on.encoder.encodings([(text, "") for text, _ in texts])):
                counts.update(ids)
        assert isinstance(on.encoder, MaskingEncoder)
        frequent = _Frequencies(counts, on.encoder.vocabulary)
        if self.pairs:
            chunks = map(on.encoder.pieces, _chunks(on.validation.texts))
            frequent.learn_overlap(chain.from_iterable(chunks))
        labels = []
        for texts in _chunks(on.test.texts):
            pieces = on.encoder.pieces(texts)
            outputs = [frequent.outputs(piece) for piece in pieces]
            labels += [a.label for a in self.answers(outputs, pieces, texts, on.classes, {})]
        return {"token frequencies" + (" + shared words" if self.pairs else ""): labels}

    def detail(self, rows: Labelled, answers: Sequence[Answer], classes: Sequence[str]) -> Detail:
        total = np.sum([self.tally([""], [answer.label], classes) for answer in answers], axis=0)
        return Detail(more={"perplexity": float(1 / self.measure(total)["inverse_perplexity"])})


class _RowPredictions:
    """Predictions for one row, collected piece by piece."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys(COUNTS, 0.0)
        self.predictions: list[str] = []
        self.words: list[list[dict[str, Any]]] = []

    def add(self, outputs: Logits, piece: MaskedPiece) -> None:
        """Count a piece; `outputs` are the model's, (tokens, 1 + 2 x BEST)."""
        counts = self.counts
        for place, truth in enumerate(piece.targets[1:], 1):
            if truth == IGNORED:
                continue
            logs, best = outputs[place, 1 : 1 + BEST], outputs[place, 1 + BEST :].astype(int)
            self.predictions.append(piece.name(int(best[0])))
            self.words.append(
                [
                    {"word": piece.name(int(token)), "score": float(np.exp(log))}
                    for token, log in zip(best, logs, strict=True)
                ]
            )
            if not piece.user_masks:
                counts["hidden"] += 1
                counts["right"] += float(best[0] == truth)
                counts["log"] += float(outputs[place, 0])
        if piece.targets[0] != IGNORED:
            follows, random = outputs[0, 1:3]
            predicted = FOLLOWS if follows >= random else RANDOM
            self.predictions.append("follows" if predicted == FOLLOWS else "does not follow")
            counts["pairs"] += 1
            counts["followed"] += float(predicted == piece.targets[0])

    def answer(self) -> Answer:
        label = {**self.counts, "said": self.predictions}
        chances = [words[0]["score"] for words in self.words]
        return Answer(
            json.dumps(label, ensure_ascii=False),
            float(np.mean(chances)) if chances else 0.0,
            details={"words": self.words},
        )


class _Frequencies:
    """Baseline of token frequencies and shared words, in the form of a model's outputs."""

    def __init__(self, counts: Counter[int], vocabulary: Vocabulary) -> None:
        size = len(vocabulary.special)
        total = sum(counts.values()) + size
        self.special = vocabulary.special
        self.log = np.array([math.log((counts[token] + 1) / total) for token in range(size)])
        self.best = np.argsort(-self.log, kind="stable")[:BEST]
        self.threshold = 0.0

    def shared(self, piece: Piece) -> float:
        """Overlap of the two passages of a piece: summed rarity of the common tokens over the
        number of tokens of the shorter one."""
        sides: list[set[int]] = [set(), set()]
        for token, side in zip(piece.ids, piece.types, strict=True):
            if not self.special[token]:
                sides[side].add(token)
        common = sum(-self.log[token] for token in sides[0] & sides[1])
        return float(common / max(min(map(len, sides)), 1))

    def learn_overlap(self, pieces: Iterable[Piece]) -> None:
        """Set the threshold that classifies most pieces right."""
        pairs = [
            (self.shared(piece), piece.targets[0] == FOLLOWS)
            for piece in pieces
            if piece.targets[0] != IGNORED
        ]
        pairs.sort()
        # the threshold behind the first i pairs predicts RANDOM for these and FOLLOWS for the rest
        follows = np.array([truth for _, truth in pairs], dtype=int)
        right = np.concatenate([[0], np.cumsum(1 - follows)]) + (
            follows.sum() - np.concatenate([[0], np.cumsum(follows)])
        )
        shares = np.array([share for share, _ in pairs] + [math.inf])
        right[1:][shares[1:] == shares[:-1]] = -1  # no threshold separates equals
        self.threshold = float(shares[right.argmax()])

    def outputs(self, piece: Piece) -> Logits:
        found = np.zeros((len(piece), 1 + 2 * BEST), np.float32)
        places = [i for i, truth in enumerate(piece.targets) if i and truth != IGNORED]
        found[places, 0] = self.log[[piece.targets[i] for i in places]]
        found[places, 1 : 1 + BEST] = self.log[self.best]
        found[places, 1 + BEST :] = self.best
        found[0, 1 if self.shared(piece) >= self.threshold else 2] = 1
        return found


def _chunks(texts: Sequence[Texts]) -> Iterator[Sequence[Texts]]:
    """Chunks of texts whose tokens fit into memory."""
    for start in range(0, len(texts), AT_ONCE):
        yield texts[start : start + AT_ONCE]


def _read(answer: str) -> dict[str, Any] | None:
    """Parsed answer; None for the label of a row."""
    return None if answer == ITSELF else json.loads(answer)


def _agreement(one: dict[str, Any] | None, other: dict[str, Any] | None) -> float:
    if one and other and len(one["said"]) == len(other["said"]):
        both = list(zip(one["said"], other["said"], strict=True))
        return sum(a == b for a, b in both) / len(both) if both else 1.0
    # against a label, or an answer with other masked tokens (another vocabulary or length)
    return 1 - abs(_right(one) - _right(other))


def _right(found: dict[str, Any] | None) -> float:
    """Share of masked tokens and pairs that were predicted right; 1 for a label."""
    total = found["hidden"] + found["pairs"] if found else 0
    return (found["right"] + found["followed"]) / total if found and total else 1.0
