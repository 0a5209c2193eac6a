"""Hidden words alone, as RoBERTa is pretrained (Liu et al. 2019)."""

from ..base.masked_lm import Guessing


class MaskedLM(Guessing):
    metrics = ("masked_accuracy", "inverse_perplexity")
    pairs = False
