"""Masked LM and next-sentence prediction: the pretraining of BERT (Devlin et al. 2019)."""

from ..base.masked_lm import MaskedLanguageModel


class Pretraining(MaskedLanguageModel):
    metrics = ("masked_accuracy", "inverse_perplexity", "next_sentence_accuracy")
    pairs = True
    with_neighbour = True
