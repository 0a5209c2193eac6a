"""Extractor of embeddings in PyTorch: chosen layers of an encoder, pooled or token by token.

Import it inside functions: it loads PyTorch.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel
from transformers.modeling_outputs import SequenceClassifierOutput

from pipeline.models import encoders
from pipeline.models.families import family_of
from pipeline.models.heads import sequence, token
from pipeline.models.heads.base import Head
from pipeline.runtimes.pytorch import TorchModel


class Extractor(torch.nn.Module):
    """Module that averages the hidden states of some layers and pools them to (batch, width).

    Without `pooling` it returns (batch, tokens, width). `normalize` scales embeddings to length 1.
    Layer 0 is the word embeddings, 1 the first layer above them. Layers above the highest of
    `layers` are removed.
    """

    def __init__(
        self, encoder: Any, layers: Sequence[int], pooling: str | None, normalize: bool
    ) -> None:
        super().__init__()
        self.layers, self.pooling, self.normalize = layers, pooling, normalize
        self.encoder, self.config = encoder, encoder.config
        if getattr(encoder, "pooler", None) is not None:
            encoder.pooler = None
        _cut(encoder, max(layers))
        self.config.classifier_pooling = "cls" if pooling == "cls" else "mean"

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> SequenceClassifierOutput:
        states = self.encoder(
            input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=True
        ).hidden_states  # one (batch, tokens, width) per layer
        mean = sum(states[i] for i in self.layers) / len(self.layers)
        embeddings = _pooled(mean, attention_mask, self.pooling)
        if self.normalize:
            embeddings = torch.nn.functional.normalize(embeddings, dim=-1)
        return SequenceClassifierOutput(logits=embeddings)


def _cut(encoder: Any, highest: int) -> None:
    """Remove the layers above that one, and the normalization of the last layer's states."""
    family, config = family_of(encoder.config), encoder.config
    kept = max(highest, 1)  # an encoder without any layer returns no hidden states
    if family.last_norm and highest < config.num_hidden_layers:
        setattr(encoder, family.last_norm, torch.nn.Identity())
    if family.layers:
        owner, _, name = family.layers.rpartition(".")
        stack = encoder.get_submodule(owner)
        setattr(stack, name, getattr(stack, name)[:kept])
    config.num_hidden_layers = kept


def _pooled(states: torch.Tensor, mask: torch.Tensor, pooling: str | None) -> torch.Tensor:
    if pooling == "cls":
        return states[:, 0]
    real = mask[:, :, None].to(states.dtype)
    if pooling == "max":
        return states.masked_fill(real == 0, float("-inf")).amax(1)
    return (states * real).sum(1) / real.sum(1) if pooling == "mean" else states * real


class TorchExtractor(TorchModel):
    """Encoder of a model folder, which returns embeddings as other models return logits.

    Raises UserError if weights are missing.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        layers: Sequence[int],
        pooling: str | None,
        normalize: bool,
        attention: str = "sdpa",
        threads: int = 0,
    ) -> None:
        if threads:
            torch.set_num_threads(threads)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        encoder = encoders.load(AutoModel, folder, name, attn_implementation=attention)
        self.padding = int(encoder.config.pad_token_id or 0)
        self.model = Extractor(encoder, layers, pooling, normalize).eval().to(self.device)
        self.head: Head = token.HEAD if pooling is None else sequence.HEAD  # for the export
        self.typed = False
        self.provider = f"PyTorch {self.device.type} {attention}"
