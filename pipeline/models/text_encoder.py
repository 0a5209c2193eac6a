"""sentence-transformers: an encoder that places whole texts in a space.

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


class TextEncoder(torch.nn.Module):
    """An encoder whose first state, or the mean of all that `by_mean` puts there, is a text's
    embedding: its logits, (batch, width), of length 1."""

    base_model_prefix = "encoder"

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.encoder, self.config = encoder, encoder.config

    @property
    def base_model(self) -> Any:
        return self.encoder

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> SequenceClassifierOutput:
        read = self.encoder(input_ids=input_ids, attention_mask=attention_mask)
        state = read.last_hidden_state[:, 0]
        return SequenceClassifierOutput(logits=normalize(state))

    def save_pretrained(self, folder: Path) -> None:
        """The encoder, as transformers saves it."""
        self.encoder.save_pretrained(folder)


def describe(folder: Path, pooling: str, max_length: int) -> None:
    """Write what `SentenceTransformer(folder)` needs besides an encoder and a tokenizer."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    encoder = Transformer(str(folder), max_seq_length=max_length)
    width = encoder.get_embedding_dimension()
    whole = SentenceTransformer(modules=[encoder, Pooling(width, pooling), Normalize()])
    with tempfile.TemporaryDirectory() as copy:
        whole.save(copy, create_model_card=False)
        for path in Path(copy).iterdir():
            if not (folder / path.name).exists():
                shutil.move(path, folder / path.name)
    settings = folder / "sentence_bert_config.json"
    told = json.loads(settings.read_text(encoding="utf-8"))
    write_json(settings, told | {"max_seq_length": max_length})  # else it goes by the tokenizer
