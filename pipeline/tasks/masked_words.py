"""Hidden words alone, as RoBERTa is pretrained (Liu et al. 2019)."""

from .guessing import Guessing


class MaskedWords(Guessing):
    metrics = ("masked_accuracy", "inverse_perplexity")
    pairs = False
