"""Head that generates text: a decoder that attends to the encoder's output."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from pipeline.core.config import Settings
from pipeline.core.files import write_json
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
    """Settings of the decoder, which starts from random weights and is as wide as the encoder."""

    layers: int = Field(ge=1)
    max_length: int = Field(ge=4)
    """Longest output in tokens, start and end tokens included."""
    num_beams: int = Field(ge=1)
    """Hypotheses that beam search follows at once."""
    length_penalty: float
    """Power of the length by which a hypothesis's log probability is divided: more makes longer
    texts (Wu et al. 2016)."""


class Seq2SeqHead(Head):
    generates = True
    adapters = False

    def defaults(self, task: Task) -> Mapping[str, Any]:
        return {
            "tokenize": {"vocabulary": {"size": 8000, "lower_case": False, "min_frequency": 2}},
            "finetune": {
                "decoder": {"layers": 3, "max_length": 128, "num_beams": 4, "length_penalty": 1.0},
                "label_smoothing": 0.1,
            },
            "gate": {"guardrails": {"flips": None}},  # good models differ in their wording
        }

    def build(self, start: Start) -> Any:
        from tokenizers import Tokenizer

        from pipeline.models import encoder_decoder

        target = Tokenizer.from_file(str(start.tokenizer / WRITTEN))
        return encoder_decoder.new(
            start.folder, start.name, start.decoder, target, start.dropouts, start.dropout
        )

    def load(self, folder: Path, name: str, **settings: Any) -> Any:
        from transformers import EncoderDecoderModel

        return encoders.load(EncoderDecoderModel, folder, name, **settings)

    def save_extras(self, folder: Path, pooling: str, max_length: int) -> None:
        """Write the code of a tokenizer that decodes with the target's vocabulary."""
        from pipeline.models import tokenization_translation as code

        file, name = Path(code.__file__), code.TranslationTokenizer.__name__
        shutil.copyfile(file, folder / file.name)
        path = folder / "tokenizer_config.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        auto = {"AutoTokenizer": [None, f"{file.stem}.{name}"]}
        write_json(path, config | {"tokenizer_class": name, "auto_map": auto})

    def collator(self, model: Any, typed: bool) -> "Collator":
        from pipeline.models.collation import Seq2SeqCollator

        config = model.decoder.config
        return Seq2SeqCollator(
            model.config.pad_token_id or 0,
            config.bos_token_id,
            config.pad_token_id,
            config.max_position_embeddings,
        )

    def generate(self, model: Any, ids: "torch.Tensor", mask: "torch.Tensor") -> "torch.Tensor":
        from pipeline.models import encoder_decoder

        return encoder_decoder.greedy(model, ids, mask)

    def steps(self, model: Any, ids: "torch.Tensor", mask: "torch.Tensor") -> Step:
        from pipeline.models import encoder_decoder

        return encoder_decoder.steps(model, ids, mask)

    def config(self, model: Any) -> dict[str, Any]:
        return dict(model.config.to_dict())

    def graph(self, model: Any, typed: bool) -> Graph:
        from pipeline.models import encoder_decoder

        decoder = DecoderGraph(
            encoder_decoder.DecoderExport(model).eval(),
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
            encoder_decoder.EncoderExport(model).eval(),
            model.encoder.config,
            ["input_ids", "attention_mask"],
            ["read"],
            {"input_ids": TEXTS, "attention_mask": TEXTS, "read": {1: "batch", 3: "length"}},
            decoder=decoder,
        )


HEAD = Seq2SeqHead()
