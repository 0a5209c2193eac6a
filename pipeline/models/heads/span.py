"""Head that scores each token as the start and as the end of an answer."""

from pathlib import Path
from typing import Any

from pipeline.models.heads.classifier import Classifier


class SpanHead(Classifier):
    """Head of transformers' classes for question answering, with logits (batch, tokens, 2)."""

    def kind(self) -> Any:
        from transformers import AutoModelForQuestionAnswering

        return AutoModelForQuestionAnswering

    def load(self, folder: Path, name: str, **settings: Any) -> Any:
        model = super().load(folder, name, **settings)
        model.register_forward_hook(_stacked)
        return model


def _stacked(_: Any, __: Any, output: Any) -> Any:
    import torch
    from transformers.modeling_outputs import TokenClassifierOutput

    return TokenClassifierOutput(logits=torch.stack([output.start_logits, output.end_logits], -1))


HEAD = SpanHead()
