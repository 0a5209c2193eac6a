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
        return self.load(
            start.folder,
            start.name,
            new_head=True,
            **label_settings(start),
            **start.dropouts,
        )

    def load(self, folder: Path, name: str, **settings: Any) -> Any:
        encoders.read_config(folder, name)
        return encoders.load(self.kind(), folder, name, **settings)


def label_settings(start: Start) -> dict[str, Any]:
    """Return the settings of a configuration that describe the outputs of a head."""
    return {
        "num_labels": len(start.outputs),
        "id2label": dict(enumerate(start.outputs)),
        "label2id": {output: i for i, output in enumerate(start.outputs)},
        "problem_type": start.problem_type,
    }
