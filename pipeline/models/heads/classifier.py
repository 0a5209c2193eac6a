"""Base of the heads whose model is one of transformers' classifiers."""

from abc import abstractmethod
from pathlib import Path
from typing import Any

from pipeline.models import encoders
from pipeline.models.heads.base import Head, Start


class Classifier(Head):
    """Head whose model is one of transformers' classes."""

    @abstractmethod
    def kind(self) -> Any:
        """Return that class."""

    def build(self, start: Start) -> Any:
        outputs = start.outputs
        return self.load(
            start.folder,
            start.name,
            num_labels=len(outputs),
            id2label=dict(enumerate(outputs)),
            label2id={output: i for i, output in enumerate(outputs)},
            ignore_mismatched_sizes=True,
            **start.dropouts,
        )

    def load(self, folder: Path, name: str, **settings: Any) -> Any:
        encoders.read_config(folder, name)
        return encoders.load(self.kind(), folder, name, **settings)
