"""The trained weights as ONNX: whole with fused attention, and quantized to int8.

    python -m pipeline export news

Writes fp32.onnx, int8.onnx, what a server needs beside them (tokenizer.json, serving.json) and
parity.json: how far each file answers from PyTorch over real texts at several shapes.
"""

import shutil
from pathlib import Path

import numpy as np

from pipeline.core.errors import UserError
from pipeline.core.files import sha256_of, size_of, whole, write_json
from pipeline.core.log import Log, no_log
from pipeline.core.records import Export, Fit, Lengths, Parity, Validation
from pipeline.stages import artifacts
from pipeline.stages.export.params import ExportParams
from pipeline.tasks.base import Decision, Logits, Task
from pipeline.tasks.base.encoding import Encoder, Texts
from pipeline.tasks.base.runtime import Runtime

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
    """Write and compare both files.

    Raises UserError where the fp32 file does not answer as PyTorch does.
    """
    from pipeline.runtimes.onnx_runtime import OnnxModel
    from pipeline.runtimes.pytorch import TorchModel
    from pipeline.stages.export.onnx import export_fused
    from pipeline.stages.export.quantize import quantize

    model = TorchModel(finetune / "model", task, attention="eager")
    how = Lengths.read(tokenize / "lengths.json")
    classes = Validation.read(validate / "validation.json").labels
    decision = Fit.read(finetune / "fit.json").decision
    shutil.copyfile(tokenize / "tokenizer" / "tokenizer.json", _ready(out / "tokenizer.json"))
    serving = {
        "task": task.name,
        "classes": classes,
        "decision": decision,
        "max_length": how.maximum,
        "long_text": how.long_text,
        "overlap": how.overlap,
        "hide": how.hide,
        "padding": model.padding,
    }
    write_json(out / "serving.json", serving)
    with whole(out / "fp32.onnx") as temporary:
        fused = export_fused(model, temporary)
    log.say(f"fp32.onnx: {fused} fused")
    with whole(out / "int8.onnx") as temporary:
        quantize(
            out / "fp32.onnx",
            temporary,
            per_channel=params.per_channel,
            reduce_range=params.reduce_range,
        )

    rows = artifacts.kept_rows(validate, "validation")[: params.texts]
    shapes = [
        (artifacts.encoder(tokenize, task, length), batch)
        for length in sorted({max(8, how.maximum // 4), how.maximum})
        for batch in BATCHES
    ]
    texts = artifacts.texts_of(rows)
    expected = [_outcome(task, model, shape, texts, classes, decision) for shape in shapes]
    parities = []
    for name in ("fp32.onnx", "int8.onnx"):
        runtime = OnnxModel(out / name, model.padding)
        differences, flips = [], []
        for shape, (reference, said) in zip(shapes, expected, strict=True):
            logits, answers = _outcome(task, runtime, shape, texts, classes, decision)
            differences.append(
                max(
                    float(np.abs(task.comparable(a) - task.comparable(b)).max())
                    for a, b in zip(logits, reference, strict=True)
                )
            )
            flips.append(float(1 - task.agreement(answers, said).mean()))
        parity = Parity(
            file=name,
            sha256=sha256_of(out / name),
            bytes=size_of(out / name),
            largest_difference=max(differences),
            flips=float(np.mean(flips)),
            texts=len(texts),
            fused=fused if name == "fp32.onnx" else {},
        )
        log.say(
            f"{name}: {parity.bytes / 1e6:.0f} MB, logits within {parity.largest_difference:.2g}"
            f" of PyTorch's, {parity.flips:.2%} of answers flip"
        )
        parities.append(parity)
    if parities[0].largest_difference > params.largest_difference:
        raise UserError(
            f"{out / 'fp32.onnx'}: differs from PyTorch by {parities[0].largest_difference:.2g}"
            f" where export.largest_difference is {params.largest_difference:.2g}"
        )
    return Export(parities=parities).write(out / "parity.json")


def _outcome(
    task: Task,
    runtime: Runtime,
    shape: tuple[Encoder, int],
    texts: list[Texts],
    classes: list[str],
    decision: Decision,
) -> tuple[list[Logits], list[str]]:
    """The logits of every piece and the answer to every text, at one length and batch."""
    encoder, batch = shape
    pieces = encoder.pieces(texts)
    logits = task.run(runtime, pieces, batch, decision)
    answers = task.answers(logits, pieces, texts, classes, decision)
    return logits, [answer.label for answer in answers]


def _ready(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
