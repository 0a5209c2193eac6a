"""A text that a decoder writes of what the encoder has read."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from pipeline.core.config import Settings
from pipeline.models import encoders
from pipeline.models.heads.base import DecoderGraph, Graph, Head, Start
from pipeline.tasks.base import Task
from pipeline.tasks.base.encoding import WRITTEN
from pipeline.tasks.base.runtime import Step

if TYPE_CHECKING:
    import torch

    from pipeline.models.collation import Collator

TEXTS = {0: "batch", 1: "length"}


class Decoder(Settings):
    """What writes a text of what the encoder has read: of random weights, and as wide."""

    layers: int = Field(ge=1)
    max_length: int = Field(ge=4)
    """Tokens that it can write, those that begin and end a text included."""
    num_beams: int = Field(ge=1)
    """Hypotheses that are followed at once."""
    length_penalty: float
    """A hypothesis's log probability is divided by its length to this power: more makes longer
    texts (Wu et al. 2016)."""


class Seq2SeqHead(Head):
    families = ("bert", "camembert", "roberta", "xlm-roberta")
    generates = True
    adapters = False

    def defaults(self, task: Task) -> Mapping[str, Any]:
        return {
            "tokenize": {"vocabulary": {"size": 8000, "lower_case": False, "min_frequency": 2}},
            "finetune": {
                "decoder": {"layers": 3, "max_length": 128, "num_beams": 4, "length_penalty": 1.0},
                "label_smoothing": 0.1,
            },
            "gate": {"guardrails": {"flips": None}},  # equally good ones word things otherwise
        }

    def build(self, start: Start) -> Any:
        from tokenizers import Tokenizer

        from pipeline.models import encoder_decoder

        words = Tokenizer.from_file(str(start.tokenizer / WRITTEN))
        return encoder_decoder.new(start.folder, start.name, start.decoder, words, start.dropouts)

    def load(self, folder: Path, name: str, **settings: Any) -> Any:
        from transformers import EncoderDecoderModel

        return encoders.load(EncoderDecoderModel, folder, name, **settings)

    def collator(self, model: Any, typed: bool) -> "Collator":
        from pipeline.models.collation import Seq2SeqCollator

        own = model.decoder.config
        return Seq2SeqCollator(
            model.config.pad_token_id or 0,
            own.bos_token_id,
            own.pad_token_id,
            own.max_position_embeddings,
        )

    def generate(self, model: Any, ids: "torch.Tensor", mask: "torch.Tensor") -> "torch.Tensor":
        from pipeline.models import encoder_decoder

        return encoder_decoder.greedy(model, ids, mask)

    def steps(self, model: Any, ids: "torch.Tensor", mask: "torch.Tensor") -> Step:
        from pipeline.models import encoder_decoder

        return encoder_decoder.steps(model, ids, mask)

    def graph(self, model: Any, typed: bool) -> Graph:
        from pipeline.models import encoder_decoder

        decoder = DecoderGraph(
            encoder_decoder.Writing(model).eval(),
            encoder_decoder.examples,
            ["tokens", "of", "before", "past", "known", "mask"],
            ["logs", "now"],
            {
                **{name: {0: "hypotheses"} for name in ("tokens", "of", "before", "logs")},
                "past": {1: "old", 3: "written"},
                "known": {1: "batch", 3: "length"},
                "mask": TEXTS,
                "now": {1: "hypotheses", 3: "longer"},
            },
        )
        return Graph(
            encoder_decoder.Reading(model).eval(),
            model.encoder.config,
            ["input_ids", "attention_mask"],
            "read",
            {"input_ids": TEXTS, "attention_mask": TEXTS, "read": {1: "batch", 3: "length"}},
            decoder=decoder,
        )


HEAD = Seq2SeqHead()
