"""Families of encoders: what differs between them, in one table."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

FIRST_TOKEN = ("cls", "bos")  # what configurations call pooling by the first token


@dataclass(frozen=True)
class Family:
    """Names and structure of an encoder of transformers."""

    hidden_dropout: tuple[str, ...] = ("hidden_dropout_prob",)
    """Settings for the dropout of states."""
    attention_dropout: str = "attention_probs_dropout_prob"
    classifier_dropout: tuple[str, ...] = ("classifier_dropout",)
    """Settings for the dropout of the head's input; empty if it is that of states, or none."""
    words: str = "embeddings.word_embeddings.weight"
    """End of the name of its word embeddings."""
    before_positions: int | None = 0
    """Positions that no token has; None if they are as many as the padding token's id and one."""
    layers: str | None = "encoder.layer"
    """Path to the list of its layers; None if layers share their weights."""
    behind_attention: str | None = "attention.output"
    """Path in a layer to the module that gets the attention's output and whose own output alone
    goes on; None if there is no such module."""
    last_norm: str | None = None
    """Name of a normalization behind the last layer."""
    pooling: str = "cls"
    """Pooling of a base whose folder does not name one."""
    first_token: str | None = None
    """Value of its setting classifier_pooling for the first token; None without such a setting."""
    sdpa: bool = True
    """True if transformers' implementations of attention are for it too, not only its own."""
    unfused: int | None = 0
    """Layers whose attention ONNX Runtime does not fuse; None for all."""
    answers: bool = True
    """True if transformers has a class for answers in texts."""
    inner_size: str = "intermediate_size"
    """Setting for the width of its feed-forward networks."""

    pretrains: bool = False
    """True if it can be pretrained here."""

    def dropouts(self, states: float, attention: float) -> dict[str, float]:
        """Return the settings for these probabilities."""
        hidden = dict.fromkeys((*self.hidden_dropout, *self.classifier_dropout), states)
        return {**hidden, self.attention_dropout: attention}

    def lost_positions(self, config: Mapping[str, Any]) -> int:
        """Return how many of the positions of a model no token has."""
        if self.before_positions is None:
            return int(config.get("pad_token_id", 1)) + 1
        return self.before_positions


BERT = Family(pretrains=True)
ROBERTA = Family(before_positions=None)
DEBERTA = Family(classifier_dropout=(), sdpa=False, unfused=None)
FAMILIES: Mapping[str, Family] = {
    "albert": Family(
        classifier_dropout=("classifier_dropout_prob",),
        layers=None,
        behind_attention=None,
        unfused=1,  # the first follows a projection of the embeddings
    ),
    "bert": BERT,
    "camembert": ROBERTA,
    "deberta": DEBERTA,
    "deberta-v2": DEBERTA,
    "distilbert": Family(
        hidden_dropout=("dropout",),
        attention_dropout="attention_dropout",
        classifier_dropout=("seq_classif_dropout",),
        inner_size="hidden_dim",
        layers="transformer.layer",
        behind_attention="sa_layer_norm",
    ),
    "electra": Family(),
    "eurobert": Family(
        hidden_dropout=(),
        attention_dropout="attention_dropout",
        classifier_dropout=(),
        words="embed_tokens.weight",
        layers="layers",
        behind_attention=None,
        last_norm="norm",
        pooling="mean",
        first_token="bos",
        unfused=None,
        answers=False,
    ),
    "modernbert": Family(
        hidden_dropout=("embedding_dropout", "mlp_dropout"),
        attention_dropout="attention_dropout",
        words="embeddings.tok_embeddings.weight",
        layers="layers",
        behind_attention=None,
        last_norm="final_norm",
        first_token="cls",
        unfused=None,
    ),
    "mpnet": Family(
        classifier_dropout=(),
        before_positions=2,
        behind_attention="attention.LayerNorm",
        sdpa=False,
        unfused=None,
    ),
    "nomic_bert": Family(
        layers="layers",
        behind_attention="post_attention_layernorm",
        unfused=None,
        answers=False,
    ),
    "roberta": ROBERTA,
    "xlm-roberta": ROBERTA,
}


def family_of(config: Any) -> Family:
    """Return the family of a model's configuration, or of its dictionary."""
    kind = config["model_type"] if isinstance(config, Mapping) else config.model_type
    return FAMILIES[kind]
