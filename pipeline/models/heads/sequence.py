"""Head that scores a whole text from one pooled state."""

from pathlib import Path
from typing import Any

from pipeline.models import encoders
from pipeline.models.heads.base import Graph, plain_graph
from pipeline.models.heads.classifier import Classifier


class SequenceHead(Classifier):
    """Head on the state that the configuration's `classifier_pooling` names, "cls" or "mean": the
    one that the base was trained with."""

    pooled = True

    def kind(self) -> Any:
        from transformers import AutoModelForSequenceClassification

        return AutoModelForSequenceClassification

    def load(self, folder: Path, name: str, **settings: Any) -> Any:
        return pooled(super().load(folder, name, **settings), folder)

    def graph(self, model: Any, typed: bool) -> Graph:
        first_token = encoders.pooling(model) == "cls"
        return plain_graph(model, typed, by_token=False, first_token=first_token)


def pooled(model: Any, folder: Path) -> Any:
    """Make a model's head read the pooling that its base was trained with; return the model."""
    from pipeline.models.pooling import by_mean

    model.config.classifier_pooling = encoders.pooling_of(folder)
    if encoders.pooling(model) == "mean":
        by_mean(model)
    return model


HEAD = SequenceHead()
