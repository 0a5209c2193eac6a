"""Export of the trained model to ONNX: in fp32 with fused attention, and quantized to int8.

    python -m pipeline export news

Writes a folder as the model hub's ONNX models are laid out, which transformers.js, optimum and
others open (https://huggingface.co/docs/transformers.js/custom_usage): onnx/model.onnx,
onnx/model_quantized.onnx, config.json and the tokenizer; serving.json, the rest that a server of
this project needs; and parity.json, the differences of each file from PyTorch on real texts at
several shapes.
"""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.core.errors import UserError
from pipeline.core.files import atomic_write, sha256_of, size_of, write_json
from pipeline.core.log import Log, no_log
from pipeline.core.records import Export, Fit, Lengths, Parity, Validation
from pipeline.stages import artifacts
from pipeline.stages.export.params import ExportParams
from pipeline.tasks.base import Decision, Logits, Task
from pipeline.tasks.base.encoding import Encoder, Texts
from pipeline.tasks.base.runtime import Runtime

if TYPE_CHECKING:
    from pipeline.runtimes.pytorch import TorchModel

FP32, INT8 = "onnx/model.onnx", "onnx/model_quantized.onnx"
BATCHES = (1, 8, 32)


def export(
    params: ExportParams,
    task: Task,
    validate: Path,
    tokenize: Path,
    finetune: Path,
    out: Path,
    *,
    log: Log = no_log,
) -> Export:
    """Write both files and compare them with PyTorch.

    Raises UserError if the logits of the fp32 file differ from PyTorch's by too much.
    """
    from pipeline.runtimes.pytorch import TorchModel

    model = TorchModel(finetune / "model", task, attention="eager")
    lengths = Lengths.read(tokenize / "lengths.json")
    classes = Validation.read(validate / "validation.json").labels
    decision = Fit.read(finetune / "fit.json").decision
    (out / FP32).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(finetune / "model" / "tokenizer.json", out / "tokenizer.json")
    write_json(out / "tokenizer_config.json", _tokenizer_config(finetune / "model", model.typed))
    write_json(out / "config.json", model.head.config(model.model))
    serving = {
        "task": task.name,
        "classes": classes,
        "decision": decision,
        "max_length": lengths.maximum,
        "long_text": lengths.long_text,
        "overlap": lengths.overlap,
        "masking": lengths.masking,
        "padding": model.padding,
    }
    write_json(out / "serving.json", serving)
    fused = _write_graphs(model, params, out, log)

    rows = artifacts.kept_rows(validate, "validation")[: params.texts]
    shapes = [
        (artifacts.encoder(tokenize, task, length), batch)
        for length in sorted({max(8, lengths.maximum // 4), lengths.maximum})
        for batch in BATCHES
    ]
    texts = artifacts.texts_of(rows)
    comparison = _Comparison(task, texts, shapes, classes, decision, reference=model)
    parities = [
        comparison.parity(out / name, model.padding, fused if name == FP32 else {}, log)
        for name in (FP32, INT8)
    ]
    if parities[0].max_difference > params.max_difference:
        raise UserError(
            f"{out / FP32}: differs from PyTorch by {parities[0].max_difference:.2g}"
            f" where export.max_difference is {params.max_difference:.2g}"
        )
    return Export(parities=parities).write(out / "parity.json")


def _tokenizer_config(folder: Path, typed: bool) -> dict[str, Any]:
    """Return the configuration of a model's tokenizer. If the model takes token types and the
    tokenizer is BERT's but for its class, name that class: transformers.js passes types of no
    other."""
    config: dict[str, Any] = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
    normalizer = json.loads((folder / "tokenizer.json").read_text("utf-8"))["normalizer"] or {}
    generic = config.get("tokenizer_class") == "PreTrainedTokenizerFast"
    if typed and generic and normalizer.get("type") == "BertNormalizer":
        config |= {
            "tokenizer_class": "BertTokenizer",
            "do_lower_case": normalizer["lowercase"],
            "strip_accents": normalizer["strip_accents"],
            "tokenize_chinese_chars": normalizer["handle_chinese_chars"],
        }
    return config


def _write_graphs(model: "TorchModel", params: ExportParams, out: Path, log: Log) -> dict[str, int]:
    """Write both ONNX files and return the counts of fused operators."""
    from pipeline.stages.export.onnx import export_fused
    from pipeline.stages.export.quantize import quantize

    with atomic_write(out / FP32) as temporary:
        fused = export_fused(model, temporary)
    log.info(f"{FP32}: {fused} fused")
    with atomic_write(out / INT8) as temporary:
        quantize(
            out / FP32,
            temporary,
            per_channel=params.per_channel,
            reduce_range=params.reduce_range,
        )
    return fused


class _Comparison:
    """Comparison of runtimes with a reference on the same texts at several shapes, which are pairs
    of an encoder (with its length) and a batch size."""

    def __init__(
        self,
        task: Task,
        texts: list[Texts],
        shapes: list[tuple[Encoder, int]],
        classes: list[str],
        decision: Decision,
        reference: Runtime,
    ) -> None:
        self.task, self.texts, self.shapes = task, texts, shapes
        self.classes, self.decision = classes, decision
        self.expected = [self._outcome(reference, *shape) for shape in shapes]

    def _outcome(
        self, runtime: Runtime, encoder: Encoder, batch: int
    ) -> tuple[list[Logits], list[str]]:
        """Return the logits of every piece and the answer to every text, at one shape."""
        pieces = encoder.pieces(self.texts)
        logits = self.task.run(runtime, pieces, batch, self.decision)
        answers = self.task.answers(logits, pieces, self.texts, self.classes, self.decision)
        return logits, [answer.label for answer in answers]

    def parity(self, file: Path, padding: int, fused: dict[str, int], log: Log) -> Parity:
        """Compare an ONNX file with the reference at all shapes."""
        from pipeline.runtimes.onnx_runtime import OnnxModel

        runtime, task, of = OnnxModel(file, padding), self.task, self.decision
        differences, flips = [], []
        for shape, (reference, expected) in zip(self.shapes, self.expected, strict=True):
            logits, answers = self._outcome(runtime, *shape)
            differences.append(
                max(
                    float(np.abs(task.comparable(a, of) - task.comparable(b, of)).max())
                    for a, b in zip(logits, reference, strict=True)
                )
            )
            flips.append(float(1 - task.agreement(answers, expected).mean()))
        parity = Parity(
            file=file.name,
            sha256=sha256_of(file),
            bytes=size_of(file),
            max_difference=max(differences),
            flips=float(np.mean(flips)),
            texts=len(self.texts),
            fused=fused,
        )
        log.info(
            f"{file.name}: {parity.bytes / 1e6:.0f} MB, logits within {parity.max_difference:.2g}"
            f" of PyTorch's, {parity.flips:.2%} of answers flip"
        )
        return parity
