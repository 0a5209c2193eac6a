"""Extractive question answering: which characters of a context answer a question.

A label lists the reference answers of a question as [first character, text], the most frequent
first: [[37,"Paris"]]. "[]" says that the context holds no answer. What a model answers is written
the same way, with one answer at most.
"""

import json
import re
import string
import unicodedata
from bisect import bisect, bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ..base import Answer, Detail, Floats, Labelled, Logits, Setting, Target, Task
from ..base.encoding import Piece, Texts, trimmed

if TYPE_CHECKING:
    import torch

Span = tuple[int, str]
"""First character and text of an answer."""
LONGEST = 30  # tokens of an answer (Devlin et al. 2019)
CANDIDATES = 20  # spans that share the confidence: the n best of Devlin et al. 2019
NOTHING = "[]"  # the label of a context that holds no answer
CJK = r"\u1100-\u11ff\u2e80-\ua4cf\uac00-\ud7ff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff"
PUNCTUATION = re.compile(  # of ASCII, and of Chinese and Japanese
    rf"[{re.escape(string.punctuation)}\u3001-\u3003\u3008-\u3020\u3030"
    r"\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65]"
)
ARTICLES = re.compile(r"\b(?:a|an|the)\b")
TOKEN = re.compile(rf"[{CJK}]|[^\s{CJK}]+")
WORD = re.compile(rf"(?=\w)(?:[{CJK}]|[^\W{CJK}]+)")
SENTENCE = re.compile(r"[.!?](?=\s)|[\u3002\uff01\uff1f\n]")  # where one ends
TUNED = 500  # training rows that a baseline is tuned on


class QuestionAnswering(Task):
    head = "token"
    metrics = ("f1", "exact_match")
    exact = "exact_match"
    two_texts = True
    cut = "second"
    offsets = True
    baseline = ("words",)
    display_name = "Question answering"

    # rows

    def label(self, cell: str, text: str, second: str) -> str:
        """Takes SQuAD's list of {"text", "answer_start"}, one dictionary of these or of lists of
        them (as the datasets library has it), a label, or the plain text of an answer, which is
        then sought in the context from its beginning."""
        spans = _read_cell(cell)
        if spans is None:
            answer = cell.strip()
            start = second.find(answer)
            if start < 0 and answer[0] in "[{":
                raise ValueError("it is neither a list of {text, answer_start} nor a text's words")
            if start < 0:
                raise ValueError(f"the answer {answer[:40]!r} is not in its context")
            spans = [(start, answer)]
        for start, answer in spans:
            _check(start, answer, second)
        return write(spans)

    def shown(self, label: str, text: str, second: str) -> str:
        return " | ".join(dict.fromkeys(answer for _, answer in read(label))) or "no answer"

    # learning

    def outputs(self, classes: Sequence[str]) -> list[str]:
        return ["start", "end"]

    def target(self, label: str, piece: Piece, texts: Texts, classes: Sequence[str]) -> Target:
        """Places of the first and last token of the first reference answer that the piece holds
        whole; 0 and 0, which is [CLS], where it holds none (Devlin et al. 2019)."""
        return next(filter(None, (place(span, piece) for span in read(label))), [0, 0])

    def loss(
        self,
        logits: "torch.Tensor",
        targets: "torch.Tensor",
        mask: "torch.Tensor",
        weights: "torch.Tensor | None" = None,
        smoothing: float = 0.0,
    ) -> "torch.Tensor":
        """Cross entropy of the start and of the end, each over the tokens of its piece."""
        from torch.nn.functional import cross_entropy

        real = logits.masked_fill(~mask[:, :, None], float("-inf"))
        return cross_entropy(real, targets, reduction="sum")

    def decide(
        self,
        logits: Sequence[Logits],
        pieces: Sequence[Piece],
        rows: Labelled,
        classes: Sequence[str],
    ) -> Mapping[str, Any]:
        """True if "no answer" is an answer: it is where a validation row has none. Then a row has
        none if its null score is above that of its best span by more than the threshold, which is
        the one of the highest F1 (Rajpurkar et al. 2018)."""
        if NOTHING not in rows.labels:
            return {"no_answer": False, "threshold": 0.0}
        gains: dict[float, float] = {}  # what answering adds to the sum of F1, by the difference
        for label, found in zip(rows.labels, _found(logits, pieces, rows.texts), strict=True):
            if found.text:
                gain = score(label, found.label)[1] - score(label, NOTHING)[1]
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
        """The context's span of the highest start and end logit over all windows, unless the
        decision prefers none. Its confidence is its share in a softmax over the best spans and
        the null score."""
        given = []
        for found in _found(logits, pieces, texts):
            above = decision["no_answer"] and found.difference > decision["threshold"]
            if above or not found.text:
                empty = {"answer": "", "start": 0, "end": 0}
                given.append(Answer(NOTHING, found.share(found.null), details=empty))
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
        """The same words' places for every question (or no answer for any); and a sliding window
        over the sentence that shares most with the question (Richardson et al. 2013, as for SQuAD
        by Rajpurkar et al. 2016), where the words weigh their inverse document frequency, those of
        the question count against a window, and all windows have the same length. Both are the
        best of their kind on training rows."""
        rarity = _rarity(context for _, context in on.train.texts)
        efforts: dict[str, list[Callable[[Texts], str]]] = {
            "same place": [
                partial(_at, 0, 0),
                *(partial(_at, i, count) for count in range(1, 11) for i in range(10)),
            ],
            "sliding window": [partial(_window, rarity, count) for count in range(1, 11)],
        }
        some = np.random.default_rng(on.seed).permutation(len(on.train.texts))[:TUNED]
        rows = [(on.train.labels[i], on.train.texts[i]) for i in some]
        found = {}
        for name, ways in efforts.items():
            sums = [sum(score(label, way(texts))[1] for label, texts in rows) for way in ways]
            best = ways[int(np.argmax(sums))]
            found[name] = [best(texts) for texts in on.test.texts]
        return found

    def detail(self, rows: Labelled, answers: Sequence[Answer], classes: Sequence[str]) -> Detail:
        """Where some rows have no answer, the scores of these and of the others, as SQuAD 2.0
        gives them."""
        scores = np.array([score(t, a.label) for t, a in zip(rows.labels, answers, strict=True)])
        none = np.array([truth == NOTHING for truth in rows.labels], dtype=bool)
        more = {"no_answer_share": float(none.mean())} if none.any() else {}
        if none.any() and not none.all():
            more["has_answer_exact_match"], more["has_answer_f1"] = map(
                float, scores[~none].mean(0)
            )
            more["no_answer_accuracy"] = float(scores[none, 0].mean())
        return Detail(more=more)


# labels


def read(label: str) -> list[Span]:
    return [(start, text) for start, text in json.loads(label)]


def write(spans: Sequence[Span]) -> str:
    return json.dumps(spans, ensure_ascii=False, separators=(",", ":"))


def _read_cell(cell: str) -> list[Span] | None:
    """The answers that a cell of JSON lists, each once, None where it is plain text.

    A label keeps its order; of other lists the most frequent answer comes first, then the order
    of the text.
    """
    try:
        value = json.loads(cell)
    except (ValueError, RecursionError):
        return None
    match value:
        case {"text": list(texts), "answer_start": list(starts)} if len(texts) == len(starts):
            spans = list(zip(starts, texts, strict=True))
        case {"text": str(text), "answer_start": start}:
            spans = [(start, text)]
        case [*answers] if all(_is_squad(answer) for answer in answers):
            spans = [(answer["answer_start"], answer["text"]) for answer in answers]
        case [*pairs] if all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
            return list(dict.fromkeys(_typed(start, text) for start, text in pairs))
        case _:
            return None
    often = Counter(_typed(start, text) for start, text in spans)
    return sorted(often, key=lambda span: (-often[span], span))


def _is_squad(answer: Any) -> bool:
    return isinstance(answer, dict) and {"text", "answer_start"} <= answer.keys()


def _typed(start: Any, text: Any) -> Span:
    if type(start) is not int or not isinstance(text, str):
        raise ValueError("an answer needs a whole number where it starts and a text")
    return start, text


def _check(start: int, answer: str, context: str) -> None:
    if not answer.strip():
        raise ValueError("an answer is empty: write [] where the context holds none")
    there = context[start : start + len(answer)] if start >= 0 else ""
    if there != answer:
        place = f"its context has {there[:40]!r} at character {start}, not {answer[:40]!r}"
        raise ValueError(f"the answer is not where it should be: {place}")


# tokens


def place(span: Span, piece: Piece) -> list[int] | None:
    """First and last token of a span in a piece, None where the piece lacks any of its tokens."""
    start, end = span[0], span[0] + len(span[1])
    offsets, of = piece.encoding.offsets, piece.encoding.sequence_ids
    tokens = [i for i, (a, b) in enumerate(offsets) if of[i] == 1 and a < end and b > start]
    if not tokens:
        return None
    places = [bisect_left(piece.keep, token) for token in (tokens[0], tokens[-1])]
    return places if [*piece.keep[places[0] : places[1] + 1]] == tokens else None


@dataclass(frozen=True)
class Found:
    """The best span of a row, with its score among others."""

    start: int
    text: str
    """Empty where the context has no token."""
    score: float
    null: float
    """The score of no answer."""
    total: float
    """Logarithm of the sum of all candidates' exponentials, null included."""

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
    """Of every row. Scores are sums of a start and an end logit; a span's is its highest over the
    windows, the null score the lowest of [CLS] (Devlin et al. 2019)."""
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
    """First character, and one past the last, of the piece's best spans of the context, and
    scores."""
    places = np.array([i for i, of in enumerate(piece.sequences) if of == 1], dtype=np.int64)
    if not len(places):
        return
    start, end = logits[places].astype(np.float64).T
    kept = np.array(piece.keep)[places]
    more = LONGEST - 1
    ends = np.lib.stride_tricks.sliding_window_view(np.pad(end, (0, more)), LONGEST)
    last = np.lib.stride_tricks.sliding_window_view(
        np.pad(kept, (0, more), constant_values=kept[-1] + LONGEST), LONGEST
    )
    # (tokens, lengths); a span over what was cut from the middle is as long as what was cut
    band = np.where(last - kept[:, None] < LONGEST, start[:, None] + ends, -np.inf).ravel()
    count = min(CANDIDATES, len(band))
    offsets = piece.offsets
    for i in np.argpartition(band, -count)[-count:]:
        token, further = divmod(int(i), LONGEST)
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
    """A span without white space around it, and with what a tokenizer drops after its last
    character: accents, joiners and other characters that are none of their own."""
    while end < len(context) and _is_dropped(context[end]):
        end += 1
    return trimmed(context, start, end)


def _is_dropped(character: str) -> bool:
    return unicodedata.category(character)[0] in "MC" and not character.isspace()


# scores


@lru_cache(1 << 16)
def tokens(text: str) -> tuple[str, ...]:
    """What F1 counts: words in lower case without punctuation and English articles, as SQuAD's
    own script does it; Chinese, Japanese and Korean characters one by one, as the scripts of CMRC
    and KorQuAD do."""
    plain = PUNCTUATION.sub("", text.lower())
    return tuple(TOKEN.findall(ARTICLES.sub(" ", plain)))


def score(truth: str, answer: str) -> tuple[float, float]:
    """Exact match and F1 of an answer, each the best over the reference answers; of no answer 1
    where the truth is none either, else 0 (Rajpurkar et al. 2016, 2018)."""
    said = next((tokens(text) for _, text in read(answer)), ())
    references = [tokens(text) for _, text in read(truth)]
    references = [reference for reference in references if reference] or [()]
    return (
        float(said in references),
        max(_f1(said, reference) for reference in references),
    )


def _f1(said: Sequence[str], reference: Sequence[str]) -> float:
    if not said or not reference:
        return float(said == reference)
    common = sum((Counter(said) & Counter(reference)).values())
    return 2 * common / (len(said) + len(reference))


# baselines


@lru_cache(1 << 14)
def _words(text: str) -> tuple[tuple[int, int, str], ...]:
    """First character of each word, one past its last, and the word in lower case."""
    return tuple((*match.span(), match[0].lower()) for match in WORD.finditer(text))


def _at(first: int, count: int, texts: Texts) -> str:
    """So many words of the context from a place on."""
    chosen = _words(texts[1])[first : first + count]
    return _span(texts[1], chosen[0][0], chosen[-1][1]) if chosen else NOTHING


def _span(context: str, start: int, end: int) -> str:
    return write([(start, context[start:end])])


def _rarity(contexts: Iterator[str]) -> Mapping[str, float]:
    """Inverse document frequency of each word; of one that no context has under ""."""
    each = [{word for _, _, word in _words(context)} for context in dict.fromkeys(contexts)]
    counts = Counter(word for own in each for word in own)
    counts[""] = 0
    return {word: float(np.log((1 + len(each)) / (1 + n))) for word, n in counts.items()}


def _window(rarity: Mapping[str, float], count: int, texts: Texts) -> str:
    question, context = texts
    words = _words(context)
    if not words:
        return NOTHING
    asked = {word for _, _, word in _words(question)}
    weights = np.array([rarity.get(word, rarity[""]) for _, _, word in words])
    shared = np.array([word in asked for _, _, word in words])
    ends = [match.end() for match in SENTENCE.finditer(context)]
    sentence = np.array([bisect(ends, start) for start, _, _ in words])
    chosen = np.flatnonzero(sentence == np.bincount(sentence, weights * shared).argmax())
    count = min(count, len(chosen))
    signed = np.where(shared, -weights, weights)[chosen]
    first = chosen[np.convolve(signed, np.ones(count), "valid").argmax()]
    return _span(context, words[first][0], words[first + count - 1][1])
