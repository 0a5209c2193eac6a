"""Hidden words, and whether a passage follows another: BERT's pretraining (Devlin et al. 2019)."""

from ..base.masked_lm import Guessing


class Pretraining(Guessing):
    metrics = ("masked_accuracy", "inverse_perplexity", "next_sentence_accuracy")
    pairs = True
    with_neighbour = True
