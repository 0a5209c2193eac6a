"""Masked LM alone, as in RoBERTa (Liu et al. 2019)."""

from ..base.masked_lm import MaskedLanguageModel


class MaskedLM(MaskedLanguageModel):
    metrics = ("masked_accuracy", "inverse_perplexity")
    pairs = False
