"""Interface of a head."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from pipeline.core.errors import UserError
from pipeline.models.encoders import encoder_config, read_config
from pipeline.models.families import FAMILIES, Family, family_of
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
    """Input of `Head.build`: a base and the settings of the new model."""

    folder: Path
    """Folder of the base."""
    name: str
    """Name of the base in messages."""
    outputs: Sequence[str]
    """Names of the head's outputs."""
    dropouts: Mapping[str, Any]
    """Dropout probabilities under the names that the base's family uses."""
    tokenizer: Path
    """Folder of the tokenizers."""
    dropout: float = 0.0
    """Dropout probability of the head's input."""
    problem_type: str | None = None
    """Meaning of the outputs (`Task.problem_type`)."""
    decoder: Any = None
    """Settings of the decoder, for heads that generate text."""


@dataclass(frozen=True)
class DecoderGraph:
    """Export form of a decoding step, which stands in one file with its encoder."""

    module: Any
    examples: Callable[[Any], tuple[Any, ...]]
    """Function from the encoder's output for two texts of eight tokens to inputs for tracing."""
    inputs: Sequence[str]
    outputs: Sequence[str]
    axes: Axes


@dataclass(frozen=True)
class Graph:
    """Export form of a model: a module around a BERT with the configuration `config`."""

    module: Any
    config: Any
    inputs: Sequence[str]
    outputs: Sequence[str]
    axes: Axes
    first_token: bool = False
    """True if only the first token's state is used."""
    decoder: DecoderGraph | None = None


class Head(ABC):
    """Build, load, feed, export and check a model with this head."""

    pooled: ClassVar[bool] = False
    """True if it reads one state of a text: of the first token, or the mean over all."""
    contrastive: ClassVar[bool] = False
    """True if it learns from texts of one class that share a batch."""
    embeds: ClassVar[bool] = False
    """True if its outputs are text embeddings."""
    generates: ClassVar[bool] = False
    """True if it writes text, in tokens of its own vocabulary."""
    adapters: ClassVar[bool] = True
    """True if it can be trained with LoRA."""
    packages: ClassVar[tuple[str, ...]] = ("torch", "transformers", "accelerate")
    """Distributions whose versions affect training."""

    # checks

    def check(self, params: Training, task: Task) -> None:
        """Raise ValueError, beginning with the key, for settings that do not fit this head."""
        if self.generates and not params.decoder:
            raise ValueError(f"decoder: {task.name} writes text: give the decoder's settings")
        if params.decoder and not self.generates:
            raise ValueError(f"decoder: {task.name} writes no text: set it to null")
        if params.lora and not self.adapters:
            raise ValueError(f"lora: {task.name} trains all weights: set it to null")

    def check_base(self, folder: Path, name: str, task: Task) -> None:
        """Raise UserError for an encoder that this head does not support."""
        config = read_config(folder, name)
        if not self.supports(family_of(config)):
            usable = [kind for kind, family in FAMILIES.items() if self.supports(family)]
            raise UserError(
                f"{name}: is a {config['model_type']}, and {task.name} needs {' or '.join(usable)}:"
                " give another base"
            )

    def supports(self, family: Family) -> bool:
        """True for the families of encoders that it can be built on."""
        return True

    def defaults(self, task: Task) -> Mapping[str, Any]:
        """Return the values of a new recipe that differ from the general defaults."""
        return {}

    # building and loading

    @abstractmethod
    def build(self, start: Start) -> Any:
        """Build a model with a new head on a base. Raises UserError for broken weights."""

    @abstractmethod
    def load(self, folder: Path, name: str, **settings: Any) -> Any:
        """Load a trained model from its folder. Raises UserError for broken weights."""

    def adopt(self, start: Start) -> Any:
        """Load a model that was trained elsewhere, with its outputs in the order of `start`'s.

        Raises UserError for one without this head, and for other outputs.
        """
        raise UserError(
            f"{start.name}: a model with this head cannot be imported: set finetune.epochs to train"
        )

    def save_extras(self, folder: Path, pooling: str, max_length: int) -> None:
        """Write what other libraries need beside a saved model."""
        return

    # running

    def typed(self, config: Any, task: Task) -> bool:
        """True if the model takes token types, which tell two texts apart."""
        return task.two_texts and (getattr(config, "type_vocab_size", None) or 0) > 1

    def collator(self, model: Any, typed: bool) -> "Collator":
        """Return the collator that turns rows of tokens and targets into a batch."""
        from pipeline.models.collation import Collator

        return Collator(encoder_config(model).pad_token_id or 0, typed)

    def extras(self, pieces: Sequence[Piece]) -> Mapping[str, tuple[list[list[int]], int]]:
        """Return further inputs by name: the rows of each, and the value that pads them."""
        return {}

    def generate(self, model: Any, ids: "torch.Tensor", mask: "torch.Tensor") -> "torch.Tensor":
        """Return greedily decoded texts, (texts, 1 + tokens)."""
        raise TypeError(f"{type(self).__name__} writes no text")

    def steps(self, model: Any, ids: "torch.Tensor", mask: "torch.Tensor") -> Step:
        """Return the decoding step for these source texts."""
        raise TypeError(f"{type(self).__name__} writes no text")

    # export

    def config(self, model: Any) -> dict[str, Any]:
        """Return the config.json of the exported model, by which other programs know its family,
        class and outputs: a graph needs no code of ours."""
        encoder, own = encoder_config(model), model.config
        labels = {name: getattr(own, name) for name in ("id2label", "label2id", "problem_type")}
        return {**encoder.to_dict(), **labels, "architectures": [self.architecture(model)]}

    def architecture(self, model: Any) -> str:
        """Return the name of transformers' class that has the exported model's outputs."""
        return type(model).__name__

    def graph(self, model: Any, typed: bool) -> Graph:
        """Return the export form of a model: by default from token ids to logits of each token."""
        return plain_graph(model, typed, by_token=True)


def plain_graph(
    model: Any, typed: bool, *, by_token: bool, extra: Sequence[str] = (), first_token: bool = False
) -> Graph:
    """Return the export form of an unchanged model, with logits by token or by text."""
    inputs = ["input_ids", "attention_mask", *(["token_type_ids"] if typed else []), *extra]
    dynamic = [*inputs, "logits"] if by_token else inputs
    axes = {name: {0: "batch", 1: "length"} for name in dynamic}
    return Graph(model, encoder_config(model), inputs, ["logits"], axes, first_token)
