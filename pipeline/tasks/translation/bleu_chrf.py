"""BLEU (Papineni et al. 2002) and chrF (Popović 2015) from sums of sentence counts, equal to
sacrebleu's (Post 2018, https://github.com/mjpost/sacrebleu), so a bootstrap can resample sentences.
"""

from collections import Counter
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from sacrebleu.metrics.bleu import BLEU

    from ..base import Floats

WORDS, CHARACTERS = 4, 6  # longest n-grams
BETA = 2  # of recall over precision in chrF
BLEU_COUNTS = 2 + 2 * WORDS
CHRF_COUNTS = 3 * CHARACTERS


def bleu_counts(answer: str, truth: str) -> list[int]:
    """Number of tokens of an answer and of its truth, of common n-grams, and of the answer's
    n-grams, by sacrebleu's tokenizer."""
    score = _bleu().sentence_score(answer, [truth])
    return [score.sys_len, score.ref_len, *score.counts, *score.totals]


def bleu(sums: "Floats") -> "Floats":
    """BLEU in [0, 1] of summed counts, (..., BLEU_COUNTS) -> (...), with sacrebleu's `exp`
    smoothing of lengths without a common n-gram."""
    answered, true = sums[..., 0], sums[..., 1]
    shared, total = sums[..., 2 : 2 + WORDS], sums[..., 2 + WORDS :]
    missing = shared == 0
    halved = 2.0 ** -np.cumsum(missing, axis=-1)
    precision = np.where(missing, halved, shared) / np.maximum(total, 1)
    with np.errstate(divide="ignore"):
        mean = np.exp(np.log(precision).mean(axis=-1))
        brevity = np.exp(np.minimum(0, 1 - true / np.maximum(answered, 1e-9)))
    nothing = missing.all(axis=-1) | (total == 0).any(axis=-1)
    return np.asarray(np.where(nothing, 0.0, mean * brevity))


def chrf_counts(answer: str, truth: str) -> list[int]:
    """Number of character n-grams of an answer, of its truth, and of common ones, for each length,
    without white space."""
    found = []
    one, other = ("".join(text.split()) for text in (answer, truth))
    for length in range(1, CHARACTERS + 1):
        predicted, true = _grams(one, length), _grams(other, length)
        shared = (predicted & true).total()
        found += [predicted.total() if true else 0, true.total(), shared]
    return found


def chrf(sums: "Floats") -> "Floats":
    """chrF in [0, 1] of summed counts, (..., CHRF_COUNTS) -> (...)."""
    predicted, true, shared = (sums[..., place::3] for place in range(3))
    there = (predicted > 0) & (true > 0)
    lengths = np.maximum(there.sum(axis=-1), 1)
    precision = (np.where(there, shared, 0) / np.maximum(predicted, 1)).sum(axis=-1) / lengths
    recall = (np.where(there, shared, 0) / np.maximum(true, 1)).sum(axis=-1) / lengths
    weighed = BETA**2 * precision + recall
    return np.asarray((1 + BETA**2) * precision * recall / np.maximum(weighed, 1e-12))


def signatures() -> dict[str, str]:
    """Signatures of both metrics as sacrebleu prints them."""
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    metrics = {"bleu": BLEU(), "chrf": CHRF()}
    for metric in metrics.values():
        metric.corpus_score(["a"], [["a"]])
    return {name: str(metric.get_signature()) for name, metric in metrics.items()}


@cache
def _bleu() -> "BLEU":
    from sacrebleu.metrics.bleu import BLEU

    return BLEU(effective_order=True)


def _grams(text: str, length: int) -> Counter[str]:
    return Counter(text[i : i + length] for i in range(len(text) - length + 1))
