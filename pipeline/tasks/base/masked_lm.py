"""Words that a model guesses: what is shared by the ways to pretrain it on texts without labels.

A row is a document. Its answer is JSON: how many tokens were `hidden`, how many of these the model
guessed `right`, the `log` of the probability that it gave to them all (natural), how many `pairs`
of passages it was asked of and how many it told to be `followed` rightly, and what it `said`.
"""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from . import IGNORED, Answer, Decision, Detail, Floats, Labelled, Logits, Setting, Target, Task
from .answering import AT_ONCE
from .encoding import Encoder, LongText, Piece, Texts
from .masking import Vocabulary, masked, vocabulary_of
from .passages import Passage, packed, paired, passages, sentences

if TYPE_CHECKING:
    import torch

ITSELF = "itself"  # the label of every row: a text is what is to be guessed of it
FOLLOWS, STRANGE = 0, 1  # of a second passage, numbered as BertForPreTraining numbers them
BEST = 5  # tokens that a model tells of each place
COUNTS = ("hidden", "right", "log", "pairs", "followed")  # of an answer, in a tally's order


class MaskedPiece(Piece):
    """A passage, or two, of which tokens are hidden."""

    __slots__ = ("asked", "name")

    def __init__(
        self,
        row: int,
        ids: Sequence[int],
        types: Sequence[int],
        targets: Sequence[int],
        name: Callable[[int], str],
        asked: bool = False,
    ) -> None:
        self.row, self.ids, self.types = row, list(ids), list(types)
        self.targets = list(targets)
        """What each token is where it is hidden, else IGNORED; in the first place whether the
        second passage FOLLOWS."""
        self.name, self.asked = name, asked
        """`asked` by a person, who wrote [MASK]: then nobody knows what is right."""


class Cut(NamedTuple):
    """A row's sentences in tokens, and those of the document beside it."""

    own: list[list[int]]
    other: list[list[int]]


class MaskingEncoder(Encoder):
    """Cuts documents into passages of whole sentences, and hides tokens of them.

    What is hidden, and where a passage is parted, depends on the passage alone: the same text is
    asked in the same way by whatever runs the model. Where the text itself holds [MASK], these are
    what is asked, and nothing else.
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
        """Each text's sentences in tokens, and those of the second text where pairs are asked."""
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
        """What training draws from: full passages, or whole sentences of one document. A [MASK] of
        the text itself is a word that nobody knows."""
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
        """A passage with tokens hidden, parted in two where there is `another` document."""
        words = self.vocabulary
        parts: list[Sequence[int]] = [passage.ids]
        follows = IGNORED
        asked = words.mask in passage.ids
        pair = None
        if self.pairs and another and not asked:
            pair = paired(passage, another, self.room, random)
        if pair:
            *parts, truth = pair
            follows = FOLLOWS if truth else STRANGE
        ids, types = [words.first], [0]
        for place, part in enumerate(parts):
            ids += [*part, words.separator]
            types += [place] * (len(part) + 1)
        if asked:
            found = np.asarray(ids)
            targets = np.where(found == words.mask, found, IGNORED)
        else:
            found, targets = masked(ids, words, self.probability, self.whole_words, random)
        return MaskedPiece(row, found.tolist(), types, [follows, *targets[1:]], self._name, asked)


def _seed(ids: Sequence[int]) -> int:
    digest = hashlib.sha256(np.asarray(ids, np.int32).tobytes()).digest()
    return int.from_bytes(digest[:8])


class Guessing(Task):
    """The model's outputs at a hidden token are the log probability of the truth, those of the BEST
    tokens that it holds for the likeliest, and these tokens; at the first token, behind a zero, the
    logits of FOLLOWS and STRANGE."""

    head = "masked_lm"
    labelled = False
    dynamic_masking = True
    baseline = ("frequencies",)
    display_name = "Fill-mask"
    pairs: ClassVar[bool]
    """True if passages are asked of in pairs."""

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

    def loss(
        self,
        logits: "torch.Tensor",
        targets: "torch.Tensor",
        mask: "torch.Tensor",
        weights: "torch.Tensor | None" = None,
        smoothing: float = 0.0,
    ) -> "torch.Tensor":
        """The mean over hidden tokens and, where pairs are asked, that over pairs, added up as
        BertForPreTraining adds them; times the number of hidden tokens."""
        from torch.nn.functional import cross_entropy

        tokens = targets[:, 1:] != IGNORED
        loss = -(logits[:, 1:, 0] * tokens).sum()
        asked = targets[:, 0] != IGNORED
        if asked.any():
            of_pairs = cross_entropy(logits[asked, 0, 1:3], targets[asked, 0])
            if weights is not None:
                of_pairs = of_pairs * weights
            loss = loss + of_pairs * tokens.sum()
        return loss

    def counted(self, targets: "torch.Tensor") -> "torch.Tensor":
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
        told: list[_Told] = [_Told() for _ in texts]
        for own, piece in zip(logits, pieces, strict=True):
            assert isinstance(piece, MaskedPiece)
            told[piece.row].take(own, piece)
        return [each.answer() for each in told]

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
        of_all = {
            "masked_accuracy": right / np.maximum(hidden, 1),
            "inverse_perplexity": np.exp(log / np.maximum(hidden, 1)),
            "next_sentence_accuracy": followed / np.maximum(pairs, 1),
        }
        return {name: of_all[name] for name in self.metrics}

    def same(self, answers: Sequence[str], others: Sequence[str]) -> npt.NDArray[np.bool_]:
        return np.asarray(self.agreement(answers, others) == 1)

    def agreement(self, answers: Sequence[str], others: Sequence[str]) -> Floats:
        """The share of the guesses that are the same; beside a label, of those that are right. Two
        models that were not asked alike, being of different vocabularies, are compared by how much
        each guessed rightly."""
        pairs = zip(map(_read, answers), map(_read, others), strict=True)
        return np.array([_agreement(*pair) for pair in pairs])

    def comparable(self, logits: Logits) -> Logits:
        return logits[:, : 1 + BEST]  # the others are names of tokens

    def error_severity(self, label: str, answer: Answer) -> float:
        return -math.log(max(answer.confidence, 1e-30))

    def baselines(self, on: Setting) -> dict[str, list[str]]:
        """Every hidden token guessed by how frequent the tokens are in training rows; a second
        passage held to follow where it shares so many words with the first, each weighed by how
        rare it is and all by the shorter one's length, as tells most pairs of validation rows
        apart."""
        counts = Counter[int]()
        for texts in _parts(on.train.texts):
            for ids in on.encoder.tokens(on.encoder.encodings([(text, "") for text, _ in texts])):
                counts.update(ids)
        assert isinstance(on.encoder, MaskingEncoder)
        frequent = _Frequencies(counts, on.encoder.vocabulary)
        if self.pairs:
            parts = map(on.encoder.pieces, _parts(on.validation.texts))
            frequent.learn_overlap(chain.from_iterable(parts))
        said = []
        for texts in _parts(on.test.texts):
            told = [_Told() for _ in texts]
            for piece in on.encoder.pieces(texts):
                assert isinstance(piece, MaskedPiece)
                told[piece.row].take(frequent.outputs(piece), piece)
            said += [each.answer().label for each in told]
        return {"token frequencies" + (" + shared words" if self.pairs else ""): said}

    def detail(self, rows: Labelled, answers: Sequence[Answer], classes: Sequence[str]) -> Detail:
        total = np.sum([self.tally([""], [answer.label], classes) for answer in answers], axis=0)
        return Detail(more={"perplexity": float(1 / self.measure(total)["inverse_perplexity"])})


class _Told:
    """What a model guessed of one row, piece by piece."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys(COUNTS, 0.0)
        self.said: list[str] = []
        self.words: list[list[dict[str, Any]]] = []

    def take(self, outputs: Logits, piece: MaskedPiece) -> None:
        """`outputs` as the model gives them, (tokens, 1 + 2 x BEST)."""
        counts = self.counts
        for place, truth in enumerate(piece.targets[1:], 1):
            if truth == IGNORED:
                continue
            logs, best = outputs[place, 1 : 1 + BEST], outputs[place, 1 + BEST :].astype(int)
            self.said.append(piece.name(int(best[0])))
            self.words.append(
                [
                    {"word": piece.name(int(token)), "score": float(np.exp(log))}
                    for token, log in zip(best, logs, strict=True)
                ]
            )
            if not piece.asked:
                counts["hidden"] += 1
                counts["right"] += float(best[0] == truth)
                counts["log"] += float(outputs[place, 0])
        if piece.targets[0] != IGNORED:
            follows, strange = outputs[0, 1:3]
            says = FOLLOWS if follows >= strange else STRANGE
            self.said.append("follows" if says == FOLLOWS else "does not follow")
            counts["pairs"] += 1
            counts["followed"] += float(says == piece.targets[0])

    def answer(self) -> Answer:
        label = {**self.counts, "said": self.said}
        sure = [words[0]["score"] for words in self.words]
        return Answer(
            json.dumps(label, ensure_ascii=False),
            float(np.mean(sure)) if sure else 0.0,
            details={"words": self.words},
        )


class _Frequencies:
    """Guesses without a model, in the form of a model's outputs."""

    def __init__(self, counts: Counter[int], vocabulary: Vocabulary) -> None:
        size = len(vocabulary.special)
        total = sum(counts.values()) + size
        self.special = vocabulary.special
        self.log = np.array([math.log((counts[token] + 1) / total) for token in range(size)])
        self.best = np.argsort(-self.log, kind="stable")[:BEST]
        self.least = 0.0

    def shared(self, piece: Piece) -> float:
        """How much the two passages of a piece share: the sum over common tokens of how rare each
        is, over the number of tokens of the shorter one."""
        sides: list[set[int]] = [set(), set()]
        for token, side in zip(piece.ids, piece.types, strict=True):
            if not self.special[token]:
                sides[side].add(token)
        common = sum(-self.log[token] for token in sides[0] & sides[1])
        return float(common / max(min(map(len, sides)), 1))

    def learn_overlap(self, pieces: Iterable[Piece]) -> None:
        """The share from which most pieces are told rightly."""
        pairs = [
            (self.shared(piece), piece.targets[0] == FOLLOWS)
            for piece in pieces
            if piece.targets[0] != IGNORED
        ]
        pairs.sort()
        # below a threshold behind the first i pairs all are strange, and from there on all follow
        follows = np.array([truth for _, truth in pairs], dtype=int)
        right = np.concatenate([[0], np.cumsum(1 - follows)]) + (
            follows.sum() - np.concatenate([[0], np.cumsum(follows)])
        )
        shares = np.array([share for share, _ in pairs] + [math.inf])
        right[1:][shares[1:] == shares[:-1]] = -1  # no threshold parts equals
        self.least = float(shares[right.argmax()])

    def outputs(self, piece: Piece) -> Logits:
        found = np.zeros((len(piece), 1 + 2 * BEST), np.float32)
        places = [i for i, truth in enumerate(piece.targets) if i and truth != IGNORED]
        found[places, 0] = self.log[[piece.targets[i] for i in places]]
        found[places, 1 : 1 + BEST] = self.log[self.best]
        found[places, 1 + BEST :] = self.best
        found[0, 1 if self.shared(piece) >= self.least else 2] = 1
        return found


def _parts(texts: Sequence[Texts]) -> Iterator[Sequence[Texts]]:
    """So many at a time that their tokens fit into memory."""
    for start in range(0, len(texts), AT_ONCE):
        yield texts[start : start + AT_ONCE]


def _read(answer: str) -> dict[str, Any] | None:
    """An answer's parts; None for the label of a row."""
    return None if answer == ITSELF else json.loads(answer)


def _agreement(one: dict[str, Any] | None, other: dict[str, Any] | None) -> float:
    if one and other and len(one["said"]) == len(other["said"]):
        both = list(zip(one["said"], other["said"], strict=True))
        return sum(a == b for a, b in both) / len(both) if both else 1.0
    # beside a label, or beside an answer to other questions: of another vocabulary or length
    return 1 - abs(_right(one) - _right(other))


def _right(found: dict[str, Any] | None) -> float:
    """The share of what was asked that was told rightly."""
    asked = found["hidden"] + found["pairs"] if found else 0
    return (found["right"] + found["followed"]) / asked if found and asked else 1.0
