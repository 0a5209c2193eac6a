"""Head that scores a whole text from one pooled state."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.models import encoders
from pipeline.models.families import family_of
from pipeline.models.heads.base import Graph, Start, plain_graph
from pipeline.models.heads.classifier import Classifier, label_settings


class SequenceHead(Classifier):
    """Head on the state that the base was trained with: the first token's, in transformers' class
    of the family, or the mean of all, in modeling_mean_pooling.py."""

    pooled = True

    def kind(self) -> Any:
        from transformers import AutoModelForSequenceClassification

        return AutoModelForSequenceClassification

    def build(self, start: Start) -> Any:
        if encoders.pooling_of(start.folder) == "cls":
            return self._on_first_token(start)
        from transformers import AutoModel

        from pipeline.models import modeling_mean_pooling as mean_pooling

        encoder = encoders.load(AutoModel, start.folder, start.name, **start.dropouts)
        encoder.config.classifier_pooling = "mean"
        config = mean_pooling.MeanPoolingConfig(
            text_config=encoder.config, classifier_dropout=start.dropout, **label_settings(start)
        )
        return mean_pooling.MeanPoolingForSequenceClassification(config, encoder)

    def _on_first_token(self, start: Start) -> Any:
        first_token = family_of(encoders.read_config(start.folder, start.name)).first_token
        if first_token:
            settings = {**start.dropouts, "classifier_pooling": first_token}
            return super().build(replace(start, dropouts=settings))
        model = super().build(start)
        model.config.classifier_pooling = "cls"
        return model

    def adopt(self, start: Start) -> Any:
        model = super().adopt(start)
        if not encoders.is_mean_pooling(start.folder):
            model.config.classifier_pooling = own_pooling(model)
        return model

    def load(self, folder: Path, name: str, **settings: Any) -> Any:
        if not encoders.is_mean_pooling(folder):
            return super().load(folder, name, **settings)
        from pipeline.models.modeling_mean_pooling import MeanPoolingForSequenceClassification

        return encoders.load(MeanPoolingForSequenceClassification, folder, name, **settings)

    def architecture(self, model: Any) -> str:
        return str(self.kind()._model_mapping[type(encoders.encoder_config(model))].__name__)

    def graph(self, model: Any, typed: bool) -> Graph:
        first_token = encoders.pooling(model) == "cls"
        return plain_graph(model, typed, by_token=False, first_token=first_token)


def own_pooling(model: Any) -> str:
    """Return the pooling of one of transformers' own classes, whatever its base was trained with:
    that of its configuration if its family has the setting, else the first token's."""
    family = family_of(model.config)
    return str(model.config.classifier_pooling) if family.first_token else "cls"


HEAD = SequenceHead()
