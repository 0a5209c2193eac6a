"""The contract of a head."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from pipeline.core.errors import UserError
from pipeline.models.encoders import ENCODERS, read_config
from pipeline.tasks.base import Task
from pipeline.tasks.base.encoding import Piece
from pipeline.tasks.base.runtime import Step

if TYPE_CHECKING:
    import torch

    from pipeline.models.collation import Collator

Axes = Mapping[str, Mapping[int, str]]


class Training(Protocol):
    """Requirements of a head on the settings of a training."""

    @property
    def metric(self) -> str: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def decoder(self) -> Any: ...
    @property
    def lora(self) -> Any: ...


@dataclass(frozen=True)
class Start:
    """Configuration that a model is built from, before training."""

    folder: Path
    """The base's."""
    name: str
    """Name of the base in messages."""
    outputs: Sequence[str]
    """Names of the head's outputs."""
    dropouts: Mapping[str, float]
    """Under the names that the base's family gives them."""
    tokenizer: Path
    """The folder of tokenizers."""
    decoder: Any = None
    """Settings of what writes a text, where something does."""


@dataclass(frozen=True)
class DecoderGraph:
    """One step of a decoder, exported beside the encoder that it reads."""

    module: Any
    examples: Callable[[Any], tuple[Any, ...]]
    """Inputs to trace it by, from what the encoder gives for two texts of eight tokens."""
    inputs: Sequence[str]
    outputs: Sequence[str]
    axes: Axes


@dataclass(frozen=True)
class Graph:
    """What a model is exported as: a module that holds a BERT of that configuration."""

    module: Any
    config: Any
    inputs: Sequence[str]
    output: str
    axes: Axes
    first_token: bool = False
    """True if nothing but the first token's state is read."""
    decoder: DecoderGraph | None = None


class Head(ABC):
    """Build, load, feed, export and check a model with this head."""

    families: ClassVar[tuple[str, ...]] = ENCODERS
    """The `model_type` of the encoders that it goes with."""
    pooled: ClassVar[bool] = False
    """Whether it reads one state of a text: of the first token, or the mean over all."""
    contrastive: ClassVar[bool] = False
    """True if it learns from texts of one class that share a batch."""
    embeds: ClassVar[bool] = False
    """True if its outputs are a text's place in a space."""
    generates: ClassVar[bool] = False
    """True if it writes a text, in tokens of a vocabulary of its own."""
    adapters: ClassVar[bool] = True
    """True if LoRA can train it."""
    packages: ClassVar[tuple[str, ...]] = ("torch", "transformers", "accelerate")
    """Distributions whose version a training depends on."""

    # checks

    def check(self, params: Training, task: Task) -> None:
        """Raises ValueError, beginning with the key, for settings that it has no use of."""
        if self.generates != bool(params.decoder):
            verb, what = (
                ("writes", "say what writes")
                if self.generates
                else ("writes nothing", "set it to null")
            )
            raise ValueError(f"decoder: {task.name} {verb}: {what}")
        if params.lora and not self.adapters:
            raise ValueError(f"lora: {task.name} learns all weights: set it to null")

    def check_base(self, folder: Path, name: str, task: Task) -> None:
        """Raises UserError for an encoder that it does not go with."""
        kind = read_config(folder, name)["model_type"]
        if kind not in self.families:
            raise UserError(
                f"{name}: is a {kind}, and {task.name} goes with {' or '.join(self.families)}:"
                " give another base"
            )

    def defaults(self, task: Task) -> Mapping[str, Any]:
        """What a new recipe says otherwise than the defaults."""
        return {}

    # building and loading

    @abstractmethod
    def build(self, start: Start) -> Any:
        """A model with a new head on a base's encoder. Raises UserError for broken weights."""

    @abstractmethod
    def load(self, folder: Path, name: str, **settings: Any) -> Any:
        """A trained model from its folder. Raises UserError for broken weights."""

    def save_extras(self, folder: Path, pooling: str, max_length: int) -> None:
        """Write what other libraries need beside a saved model."""
        return

    # running

    def typed(self, config: Any, task: Task) -> bool:
        """True if the model is told which of two texts a token is of."""
        return task.two_texts and (getattr(config, "type_vocab_size", None) or 0) > 1

    def collator(self, model: Any, typed: bool) -> "Collator":
        """What stacks rows of tokens and targets into a batch."""
        from pipeline.models.collation import Collator

        return Collator(model.config.pad_token_id or 0, typed)

    def extras(self, pieces: Sequence[Piece]) -> Mapping[str, tuple[list[list[int]], int]]:
        """Inputs besides tokens, mask and types: the rows of each by name, and what pads them."""
        return {}

    def generate(self, model: Any, ids: "torch.Tensor", mask: "torch.Tensor") -> "torch.Tensor":
        """What a model writes greedily, (texts, 1 + tokens)."""
        raise TypeError(f"{type(self).__name__} writes nothing")

    def steps(self, model: Any, ids: "torch.Tensor", mask: "torch.Tensor") -> Step:
        """One step of a decoder after another, about these texts."""
        raise TypeError(f"{type(self).__name__} writes nothing")

    # export

    def graph(self, model: Any, typed: bool) -> Graph:
        """What is exported of a model: by default itself, from token ids to logits."""
        inputs = ["input_ids", "attention_mask", *(["token_type_ids"] if typed else [])]
        return plain_graph(model, inputs, by_token=True)


def plain_graph(model: Any, inputs: Sequence[str], *, by_token: bool, **more: Any) -> Graph:
    """A model as it is, whose output is `logits`, of each token where `by_token`."""
    named = [*inputs, "logits"] if by_token else inputs
    axes = {name: {0: "batch", 1: "length"} for name in named}
    return Graph(model, model.config, inputs, "logits", axes, **more)
