"""Head that scores each token as the start and as the end of an answer."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.models.families import Family
from pipeline.models.heads.base import Graph, Start, plain_graph
from pipeline.models.heads.classifier import Classifier


class SpanHead(Classifier):
    """Head of transformers' classes for question answering, with logits (batch, tokens, 2)."""

    def supports(self, family: Family) -> bool:
        return family.answers

    def kind(self) -> Any:
        from transformers import AutoModelForQuestionAnswering

        return AutoModelForQuestionAnswering

    def adopt(self, start: Start) -> Any:
        return self.load(start.folder, start.name)

    def load(self, folder: Path, name: str, **settings: Any) -> Any:
        model = super().load(folder, name, **settings)
        model.register_forward_hook(_stacked)
        return model

    def graph(self, model: Any, typed: bool) -> Graph:
        """Return the graph with transformers' two outputs."""
        from pipeline.models.span_export import SpanExport

        outputs = ["start_logits", "end_logits"]
        graph = plain_graph(model, typed, by_token=True)
        axes = dict.fromkeys((*graph.inputs, *outputs), graph.axes["input_ids"])
        module = SpanExport(model, graph.inputs).eval()
        return replace(graph, module=module, outputs=outputs, axes=axes)


def _stacked(_: Any, __: Any, output: Any) -> Any:
    import torch
    from transformers.modeling_outputs import TokenClassifierOutput

    return TokenClassifierOutput(logits=torch.stack([output.start_logits, output.end_logits], -1))


HEAD = SpanHead()
