"""Head that scores each token: tags of entities, ends of answers."""

from typing import Any

from pipeline.models.heads.classifier import Classifier


class TokenHead(Classifier):
    def kind(self) -> Any:
        from transformers import AutoModelForTokenClassification

        return AutoModelForTokenClassification


HEAD = TokenHead()
