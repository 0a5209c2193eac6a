"""Base of the heads whose model is one of transformers' classifiers."""

import re
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.core.errors import UserError
from pipeline.models import encoders
from pipeline.models.heads.base import Head, Start

GENERIC = re.compile(r"LABEL_\d+")  # transformers' names of classes that have none
SHOWN = 8  # names of classes in a message


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

    def adopt(self, start: Start) -> Any:
        model = self.load(start.folder, start.name)
        own = model.config.problem_type
        if own and start.problem_type and own != start.problem_type:
            raise UserError(
                f"{start.name}: config.json has problem_type {own!r}, and the recipe's task needs"
                f" {start.problem_type!r}: give another task"
            )
        _arrange(model, start)
        model.config.update(label_settings(start))
        return model

    def load(self, folder: Path, name: str, **settings: Any) -> Any:
        encoders.read_config(folder, name)
        return encoders.load(self.kind(), folder, name, **settings)


def _arrange(model: Any, start: Start) -> None:
    """Put the outputs of a model into the order of `start.outputs`, by the names of its classes."""
    from torch.nn import Linear

    own = [str(model.config.id2label[i]) for i in range(model.config.num_labels)]
    if all(GENERIC.fullmatch(name) for name in own):
        own = [name.removeprefix("LABEL_") for name in own]  # numbers
    wanted = list(start.outputs)
    if len(own) == len(wanted) == 1:
        return
    if sorted(own) != sorted(wanted):
        raise UserError(
            f"{start.name}: its outputs are {_shown(own)}, those of the rows {_shown(wanted)}:"
            " write the rows' names into id2label of its config.json, or list all in"
            " validate.labels"
        )
    order = [own.index(name) for name in wanted]
    encoder = set(model.base_model.modules())
    layers = [each for each in model.modules() if isinstance(each, Linear) and each not in encoder]
    output = [each for each in layers if each.out_features == len(own)][-1]
    for parameter in output.parameters():
        parameter.data = parameter.data[order].contiguous()


def _shown(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def label_settings(start: Start) -> dict[str, Any]:
    """Return the settings of a configuration that describe the outputs of a head."""
    return {
        "num_labels": len(start.outputs),
        "id2label": dict(enumerate(start.outputs)),
        "label2id": {output: i for i, output in enumerate(start.outputs)},
        "problem_type": start.problem_type,
    }
