"""Extractive question answering: the span of a context that answers a question.

A label lists the reference answers of a question as [first character, text], the most frequent
first: [[37,"Paris"]]; "[]" means that the context has no answer. Predictions have the same form,
with one answer at most.
"""

import unicodedata
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..base import Answer, Detail, Floats, Labelled, Logits, LossOptions, Setting, Target, Task
from ..base.encoding import Piece, Texts, trimmed
from ..base.utf16 import from_utf16
from .baselines import tuned
from .squad import NO_ANSWER, Span, check, read, read_cell, score, write

if TYPE_CHECKING:
    from torch import Tensor

MOST_TOKENS = 30  # of an answer (Devlin et al. 2019)
CANDIDATES = 20  # spans that share the confidence: the n best of Devlin et al. 2019


class QuestionAnswering(Task):
    head = "span"
    metrics = ("f1", "exact_match")
    exact = "exact_match"
    two_texts = True
    cut = "second"
    offsets = True
    baseline = ("words",)
    display_name = "Question answering"

    # rows

    def label(self, cell: str, text: str, second: str) -> str:
        """Parse SQuAD's list of {"text", "answer_start"}, one such dictionary, one of lists (as in
        the datasets library), a label, or the plain text of an answer, whose first occurrence in
        the context counts."""
        spans = read_cell(cell)
        if spans is None:
            answer = cell.strip()
            start = second.find(answer)
            if start < 0 and answer[0] in "[{":
                raise ValueError("it is neither a list of {text, answer_start} nor a text's words")
            if start < 0:
                raise ValueError(f"the answer {answer[:40]!r} is not in its context")
            spans = [(start, answer)]
        for start, answer in spans:
            check(start, answer, second)
        return write(spans)

    def in_characters(self, cell: str, text: str, second: str) -> str:
        found = read_cell(cell)
        return cell if found is None else write([(from_utf16(second, at), a) for at, a in found])

    def shown(self, label: str, text: str, second: str) -> str:
        return " | ".join(dict.fromkeys(answer for _, answer in read(label))) or "no answer"

    # learning

    def outputs(self, classes: Sequence[str]) -> list[str]:
        return ["start", "end"]

    def target(self, label: str, piece: Piece, texts: Texts, classes: Sequence[str]) -> Target:
        """Positions of the first and last token of the first reference answer that lies within the
        piece; 0 and 0, those of [CLS], if none does (Devlin et al. 2019)."""
        return next(filter(None, (place(span, piece) for span in read(label))), [0, 0])

    def loss(self, logits: "Tensor", targets: "Tensor", options: LossOptions) -> "Tensor":
        """Cross entropy of the start and of the end over the tokens of the piece."""
        from torch.nn.functional import cross_entropy

        real = logits.masked_fill(~options.mask[:, :, None], float("-inf"))
        return cross_entropy(real, targets, reduction="sum")

    def decide(
        self,
        logits: Sequence[Logits],
        pieces: Sequence[Piece],
        rows: Labelled,
        classes: Sequence[str],
    ) -> Mapping[str, Any]:
        """Decide `no_answer`, True if a validation row has no answer, and its `threshold`.

        A row is then answered with none if its null score exceeds the score of its best span by
        more than the threshold, which maximizes F1 (Rajpurkar et al. 2018).
        """
        if NO_ANSWER not in rows.labels:
            return {"no_answer": False, "threshold": 0.0}
        gains: dict[float, float] = {}  # difference -> change of the summed F1 if answered
        for label, found in zip(rows.labels, _found(logits, pieces, rows.texts), strict=True):
            if found.text:
                gain = score(label, found.label)[1] - score(label, NO_ANSWER)[1]
                gains[found.difference] = gains.get(found.difference, 0.0) + gain
        if not gains:
            return {"no_answer": True, "threshold": 0.0}
        differences = np.array(sorted(gains))
        sums = np.cumsum([0.0, *(gains[difference] for difference in differences)])
        middles = (differences[1:] + differences[:-1]) / 2
        thresholds = [differences[0] - 1, *middles, differences[-1] + 1]
        return {"no_answer": True, "threshold": float(thresholds[int(sums.argmax())])}

    # answering

    def answers(
        self,
        logits: Sequence[Logits],
        pieces: Sequence[Piece],
        texts: Sequence[Texts],
        classes: Sequence[str],
        decision: Mapping[str, Any],
    ) -> list[Answer]:
        """Span of the context with the highest start and end logit over all windows, or none where
        the decision says so. The confidence is its share in a softmax over the best spans and the
        null score."""
        given = []
        for found in _found(logits, pieces, texts):
            above = decision["no_answer"] and found.difference > decision["threshold"]
            if above or not found.text:
                empty = {"answer": "", "start": 0, "end": 0}
                given.append(Answer(NO_ANSWER, found.share(found.null), details=empty))
                continue
            end = found.start + len(found.text)
            details = {"answer": found.text, "start": found.start, "end": end}
            given.append(Answer(found.label, found.share(found.score), details=details))
        return given

    # scores

    def tally(
        self, truths: Sequence[str], answers: Sequence[str], classes: Sequence[str]
    ) -> Floats:
        return np.array([1, *score(truths[0], answers[0])], dtype=np.float64)

    def measure(self, tallies: Floats) -> dict[str, Floats]:
        rows = np.maximum(tallies[..., 0], 1)
        return {"f1": tallies[..., 2] / rows, "exact_match": tallies[..., 1] / rows}

    def baselines(self, on: Setting) -> dict[str, list[str]]:
        """Words at the same place for every question (or no answer for any), and a sliding window
        over the sentence that shares most with the question (Richardson et al. 2013; for SQuAD
        Rajpurkar et al. 2016). Words are weighted by inverse document frequency, words of the
        question count against a window, and all windows have the same length. Both baselines are
        tuned on training rows."""
        return tuned(on)

    def detail(self, rows: Labelled, answers: Sequence[Answer], classes: Sequence[str]) -> Detail:
        """SQuAD 2.0's scores of rows with and without an answer, if some rows have none."""
        scores = np.array([score(t, a.label) for t, a in zip(rows.labels, answers, strict=True)])
        none = np.array([truth == NO_ANSWER for truth in rows.labels], dtype=bool)
        more = {"no_answer_share": float(none.mean())} if none.any() else {}
        if none.any() and not none.all():
            more["has_answer_exact_match"], more["has_answer_f1"] = map(
                float, scores[~none].mean(0)
            )
            more["no_answer_accuracy"] = float(scores[none, 0].mean())
        return Detail(more=more)


def place(span: Span, piece: Piece) -> list[int] | None:
    """First and last token of a span in a piece, None if the piece lacks one of its tokens."""
    start, end = span[0], span[0] + len(span[1])
    offsets, of = piece.encoding.offsets, piece.encoding.sequence_ids
    tokens = [i for i, (a, b) in enumerate(offsets) if of[i] == 1 and a < end and b > start]
    if not tokens:
        return None
    places = [bisect_left(piece.keep, token) for token in (tokens[0], tokens[-1])]
    return places if [*piece.keep[places[0] : places[1] + 1]] == tokens else None


@dataclass(frozen=True)
class Found:
    """Best span of a row and its score."""

    start: int
    text: str
    """Empty if the context has no token."""
    score: float
    null: float
    """The score of no answer."""
    total: float
    """Log of the sum of exponentials over all candidates, null included."""

    @property
    def label(self) -> str:
        return write([(self.start, self.text)])

    @property
    def difference(self) -> float:
        return self.null - self.score

    def share(self, score: float) -> float:
        return float(np.exp(score - self.total))


def _found(
    logits: Sequence[Logits], pieces: Sequence[Piece], texts: Sequence[Texts]
) -> list[Found]:
    """Best span of every row.

    Scores are sums of a start and an end logit: the highest over the windows for a span, the lowest
    of [CLS] for the null score (Devlin et al. 2019).
    """
    spans: list[dict[tuple[int, int], float]] = [{} for _ in texts]
    nulls = [np.inf] * len(texts)
    for scores, piece in zip(logits, pieces, strict=True):
        nulls[piece.row] = min(nulls[piece.row], float(scores[0].astype(np.float64).sum()))
        best = spans[piece.row]
        for span, value in _candidates(scores, piece):
            best[span] = max(value, best.get(span, -np.inf))
    return [
        _best(context, own, null)
        for (_, context), own, null in zip(texts, spans, nulls, strict=True)
    ]


def _candidates(logits: Logits, piece: Piece) -> Iterator[tuple[tuple[int, int], float]]:
    """First character, one past the last, and score of the piece's best spans of the context."""
    places = np.array([i for i, of in enumerate(piece.sequences) if of == 1], dtype=np.int64)
    if not len(places):
        return
    start, end = logits[places].astype(np.float64).T
    kept = np.array(piece.keep)[places]
    more = MOST_TOKENS - 1
    ends = np.lib.stride_tricks.sliding_window_view(np.pad(end, (0, more)), MOST_TOKENS)
    last = np.lib.stride_tricks.sliding_window_view(
        np.pad(kept, (0, more), constant_values=kept[-1] + MOST_TOKENS), MOST_TOKENS
    )
    # (tokens, lengths); the length of a span includes tokens cut from the middle
    band = np.where(last - kept[:, None] < MOST_TOKENS, start[:, None] + ends, -np.inf).ravel()
    count = min(CANDIDATES, len(band))
    offsets = piece.offsets
    for i in np.argpartition(band, -count)[-count:]:
        token, further = divmod(int(i), MOST_TOKENS)
        if band[i] > -np.inf:
            yield (
                (offsets[places[token]][0], offsets[places[token + further]][1]),
                float(band[i]),
            )


def _best(context: str, spans: Mapping[tuple[int, int], float], null: float) -> Found:
    ranked = sorted(spans, key=lambda span: (-spans[span], span))[:CANDIDATES]
    total = float(np.logaddexp.reduce([null, *(spans[span] for span in ranked)]))
    for span in ranked:
        start, end = _whole(context, *span)
        if start < end:
            return Found(start, context[start:end], spans[span], null, total)
    return Found(0, "", -np.inf, null, total)


def _whole(context: str, start: int, end: int) -> tuple[int, int]:
    """Span without surrounding white space, extended by the combining and control characters that a
    tokenizer drops after its last character."""
    while end < len(context) and _is_dropped(context[end]):
        end += 1
    return trimmed(context, start, end)


def _is_dropped(character: str) -> bool:
    return unicodedata.category(character)[0] in "MC" and not character.isspace()
