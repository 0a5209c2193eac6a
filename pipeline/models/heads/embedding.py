"""Head for text embeddings, in which texts of one class lie near each other."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.models import encoders
from pipeline.models.heads.base import Start, Training
from pipeline.models.heads.sequence import SequenceHead
from pipeline.tasks.base import Task


class EmbeddingHead(SequenceHead):
    """Head without weights: the pooled state of the encoder, normalized to length 1."""

    contrastive = True
    embeds = True
    packages = (*SequenceHead.packages, "sentence-transformers")

    def check(self, params: Training, task: Task) -> None:
        super().check(params, task)
        if params.metric == "loss":
            raise ValueError(
                f"metric: the loss of {task.name} depends on which texts share a batch and is a"
                f" poor guide: set it to {task.metrics[0]}"
            )
        if params.batch_size < 4 or params.batch_size % 2:
            raise ValueError(
                f"batch_size: {task.name} learns from two texts a class: make it even, 4 or more"
            )

    def defaults(self, task: Task) -> Mapping[str, Any]:
        return {"finetune": {"metric": task.metrics[0]}}  # the loss depends on the batches

    def build(self, start: Start) -> Any:
        return self.load(start.folder, start.name, **start.dropouts)

    def adopt(self, start: Start) -> Any:
        return self.load(start.folder, start.name)

    def load(self, folder: Path, name: str, **settings: Any) -> Any:
        from transformers import AutoModel

        from pipeline.models.text_encoder import TextEncoder

        encoders.read_config(folder, name)
        pooling = encoders.pooling_of(folder)
        return TextEncoder(encoders.load(AutoModel, folder, name, **settings), pooling)

    def architecture(self, model: Any) -> str:
        return type(model.encoder).__name__

    def save_extras(self, folder: Path, pooling: str, max_length: int) -> None:
        from pipeline.models.text_encoder import save_modules

        save_modules(folder, pooling, max_length)


HEAD = EmbeddingHead()
