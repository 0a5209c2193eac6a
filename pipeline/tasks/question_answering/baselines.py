"""Baselines of extractive question answering: a fixed place, and a sliding window."""

import re
from bisect import bisect
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache, partial

import numpy as np

from ..base import Setting
from ..base.encoding import Texts
from .squad import CJK, NO_ANSWER, score, write

WORD = re.compile(rf"(?=\w)(?:[{CJK}]|[^\W{CJK}]+)")
SENTENCE_END = re.compile(r"[.!?](?=\s)|[\u3002\uff01\uff1f\n]")
TUNED = 500  # training rows that a baseline is tuned on


def tuned(on: Setting) -> dict[str, list[str]]:
    """Answers of each baseline with the parameters that are best on training rows."""
    rarity = _rarity(context for _, context in on.train.texts)
    baselines: dict[str, list[Callable[[Texts], str]]] = {
        "same place": [
            partial(_at, 0, 0),
            *(partial(_at, i, count) for count in range(1, 11) for i in range(10)),
        ],
        "sliding window": [partial(_window, rarity, count) for count in range(1, 11)],
    }
    some = np.random.default_rng(on.seed).permutation(len(on.train.texts))[:TUNED]
    rows = [(on.train.labels[i], on.train.texts[i]) for i in some]
    found = {}
    for name, variants in baselines.items():
        sums = [sum(score(label, answer(texts))[1] for label, texts in rows) for answer in variants]
        best = variants[int(np.argmax(sums))]
        found[name] = [best(texts) for texts in on.test.texts]
    return found


@lru_cache(1 << 14)
def _words(text: str) -> tuple[tuple[int, int, str], ...]:
    """First character of each word, one past its last, and the word in lower case."""
    return tuple((*match.span(), match[0].lower()) for match in WORD.finditer(text))


def _at(first: int, count: int, texts: Texts) -> str:
    """Answer of `count` words of the context from word `first` on."""
    chosen = _words(texts[1])[first : first + count]
    return _span(texts[1], chosen[0][0], chosen[-1][1]) if chosen else NO_ANSWER


def _span(context: str, start: int, end: int) -> str:
    return write([(start, context[start:end])])


def _rarity(contexts: Iterator[str]) -> Mapping[str, float]:
    """Inverse document frequency of each word; "" is the key of unseen words."""
    each = [{word for _, _, word in _words(context)} for context in dict.fromkeys(contexts)]
    counts = Counter(word for own in each for word in own)
    counts[""] = 0
    return {word: float(np.log((1 + len(each)) / (1 + n))) for word, n in counts.items()}


def _window(rarity: Mapping[str, float], count: int, texts: Texts) -> str:
    question, context = texts
    words = _words(context)
    if not words:
        return NO_ANSWER
    queried = {word for _, _, word in _words(question)}
    weights = np.array([rarity.get(word, rarity[""]) for _, _, word in words])
    shared = np.array([word in queried for _, _, word in words])
    ends = [match.end() for match in SENTENCE_END.finditer(context)]
    sentence = np.array([bisect(ends, start) for start, _, _ in words])
    chosen = np.flatnonzero(sentence == np.bincount(sentence, weights * shared).argmax())
    count = min(count, len(chosen))
    signed = np.where(shared, -weights, weights)[chosen]
    first = chosen[np.convolve(signed, np.ones(count), "valid").argmax()]
    return _span(context, words[first][0], words[first + count - 1][1])
