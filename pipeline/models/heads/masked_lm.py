"""Heads that BERT is pretrained with: masked tokens and next-sentence prediction."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.core.errors import UserError
from pipeline.models import encoders
from pipeline.models.families import Family
from pipeline.models.heads.base import Graph, Start, plain_graph
from pipeline.models.heads.classifier import Classifier
from pipeline.tasks.base import IGNORED, Task
from pipeline.tasks.base.encoding import Piece

if TYPE_CHECKING:
    from pipeline.models.collation import Collator


class MaskedLMHead(Classifier):
    adapters = False

    def supports(self, family: Family) -> bool:
        return family.pretrains

    def check_base(self, folder: Path, name: str, task: Task) -> None:
        super().check_base(folder, name, task)
        if encoders.read_config(folder, name).get("type_vocab_size", 2) < 2:
            raise UserError(
                f"{name}: has no token types for two texts, which {task.name} needs: give a BERT"
            )

    def defaults(self, task: Task) -> Mapping[str, Any]:
        return {"gate": {"guardrails": {"flips": None}}}  # good models differ in their guesses

    def kind(self) -> Any:
        from pipeline.models.pretraining_heads import BertForPreTraining

        return BertForPreTraining

    def adopt(self, start: Start) -> Any:
        return self.load(start.folder, start.name)

    def load(self, folder: Path, name: str, **settings: Any) -> Any:
        model = super().load(folder, name, **settings)
        model.config.classifier_pooling = encoders.pooling_of(folder)
        return model

    def typed(self, config: Any, task: Task) -> bool:
        return (getattr(config, "type_vocab_size", None) or 0) > 1

    def collator(self, model: Any, typed: bool) -> "Collator":
        from pipeline.models.collation import MaskedLMCollator

        return MaskedLMCollator(model.config.pad_token_id or 0, typed)

    def extras(self, pieces: Sequence[Piece]) -> Mapping[str, tuple[list[list[int]], int]]:
        return {"targets": ([piece.targets for piece in pieces], IGNORED)}

    def graph(self, model: Any, typed: bool) -> Graph:
        return plain_graph(model, typed, by_token=True, extra=["targets"])


HEAD = MaskedLMHead()
