"""Text classifier on the mean of an encoder's states, for every family of encoders.

transformers has no such model: its own classifiers read the first token, which bases of
sentence-transformers were never trained on (Reimers and Gurevych 2019,
https://sbert.net/docs/package_reference/sentence_transformer/models.html#pooling). Each saved model
contains this file, so that it loads with `trust_remote_code=True`
(https://huggingface.co/docs/transformers/custom_models) and is refused without it, where another
class would answer wrongly. It therefore imports nothing of this project.
"""

from typing import Any, ClassVar

import torch
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput


class MeanPoolingConfig(PreTrainedConfig):
    model_type = "bertline_mean_pooling"
    sub_configs: ClassVar = {"text_config": AutoConfig}
    text_config: Any = None
    """Configuration of the encoder, or its dictionary."""
    classifier_dropout: float = 0.0

    def __post_init__(self, **settings: Any) -> None:
        if isinstance(self.text_config, dict):
            self.text_config = AutoConfig.for_model(**self.text_config)
        # PreTrainedConfig would reset a loaded encoder's implementation of attention
        settings.setdefault(
            "attn_implementation", getattr(self.text_config, "_attn_implementation", None)
        )
        super().__post_init__(**settings)


class MeanPoolingForSequenceClassification(PreTrainedModel):
    """Linear classifier on the mean of the states of a text's tokens."""

    config_class = MeanPoolingConfig
    base_model_prefix = "encoder"
    _supports_sdpa = _supports_flash_attn = _supports_attention_backend = True

    def __init__(self, config: MeanPoolingConfig, encoder: Any = None) -> None:
        """Initialize the classifier at random, and the encoder too if there is none."""
        super().__init__(config)
        self.num_labels = config.num_labels
        self.encoder = AutoModel.from_config(config.text_config) if encoder is None else encoder
        if getattr(self.encoder, "pooler", None) is not None:
            self.encoder.pooler = None  # reads the first token
        self.dropout = torch.nn.Dropout(config.classifier_dropout)
        self.classifier = torch.nn.Linear(config.text_config.hidden_size, config.num_labels)
        if encoder is None:
            self.post_init()
        else:
            torch.nn.init.normal_(self.classifier.weight, std=self._deviation())
            torch.nn.init.zeros_(self.classifier.bias)

    def _deviation(self) -> float:
        return getattr(self.config.text_config, "initializer_range", 0.02)

    def _init_weights(self, module: Any) -> None:
        if module is self.classifier:
            torch.nn.init.normal_(module.weight, std=self._deviation())
            torch.nn.init.zeros_(module.bias)

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **inputs: Any,
    ) -> SequenceClassifierOutput:
        """Return logits, (batch, labels), and the loss if there are labels."""
        if token_type_ids is not None:  # which some encoders do not take
            inputs["token_type_ids"] = token_type_ids
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask, **inputs)[0]
        logits = self.classifier(self.dropout(mean_of(states, attention_mask)))
        loss = None
        if labels is not None:
            loss = self.loss_function(labels=labels, pooled_logits=logits, config=self.config)
        return SequenceClassifierOutput(loss=loss, logits=logits)


def mean_of(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean of the states of real tokens, (batch, tokens, width) -> (batch, width)."""
    real = mask[:, :, None].to(states.dtype)
    return (states * real).sum(1) / real.sum(1)


MeanPoolingConfig.register_for_auto_class()
MeanPoolingForSequenceClassification.register_for_auto_class("AutoModelForSequenceClassification")
