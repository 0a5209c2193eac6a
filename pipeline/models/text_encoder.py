"""Encoder for text embeddings, saved in the format of sentence-transformers.

Import it inside a function: it loads PyTorch.
"""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import normalize
from transformers.modeling_outputs import SequenceClassifierOutput

from pipeline.core.files import write_json
from pipeline.models.modeling_mean_pooling import mean_of


class TextEncoder(torch.nn.Module):
    """Encoder whose pooled state is a text's embedding: the logits, (batch, width), of length 1.
    `pooling` is "cls" or "mean"."""

    base_model_prefix = "encoder"

    def __init__(self, encoder: Any, pooling: str) -> None:
        super().__init__()
        self.encoder, self.config = encoder, encoder.config
        self.config.classifier_pooling = pooling
        if pooling == "mean" and getattr(encoder, "pooler", None) is not None:
            encoder.pooler = None  # reads the first token

    @property
    def base_model(self) -> Any:
        return self.encoder

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> SequenceClassifierOutput:
        read = self.encoder(input_ids=input_ids, attention_mask=attention_mask)
        states = read.last_hidden_state
        by_mean = self.config.classifier_pooling == "mean"
        state = mean_of(states, attention_mask) if by_mean else states[:, 0]
        return SequenceClassifierOutput(logits=normalize(state))

    def save_pretrained(self, folder: Path) -> None:
        """Save the encoder as transformers does."""
        self.encoder.save_pretrained(folder)


def save_modules(folder: Path, pooling: str, max_length: int) -> None:
    """Write what `SentenceTransformer(folder)` needs besides an encoder and a tokenizer."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    encoder = Transformer(str(folder), max_seq_length=max_length)
    width = encoder.get_embedding_dimension()
    model = SentenceTransformer(modules=[encoder, Pooling(width, pooling), Normalize()])
    with tempfile.TemporaryDirectory() as copy:
        model.save(copy, create_model_card=False)
        for path in Path(copy).iterdir():
            if not (folder / path.name).exists():
                shutil.move(path, folder / path.name)
    path = folder / "sentence_bert_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    # without it sentence-transformers takes the tokenizer's length
    write_json(path, settings | {"max_seq_length": max_length})
