"""The trained weights as ONNX: whole with fused attention, and quantized to int8.

    python -m pipeline export news

Writes fp32.onnx, int8.onnx, what a server needs beside them (tokenizer.json, serving.json) and
parity.json: how far each file answers from PyTorch over real texts at several shapes.
"""

import shutil
from pathlib import Path

import numpy as np
from pydantic import Field

from pipeline.config import Settings
from pipeline.errors import UserError
from pipeline.files import sha256_of, size_of, whole, write_json
from pipeline.log import Log, no_log
from pipeline.records import Export, Lengths, Parity, Validation
from pipeline.stages import CHARACTERS_PER_TOKEN

BATCHES = (1, 8, 32)


class ExportParams(Settings):
    texts: int = Field(ge=1)
    """Validation texts on which each file is compared with PyTorch."""
    largest_difference: float = Field(gt=0)
    """Of fp32 logits from PyTorch's: more than this ends the line."""
    per_channel: bool
    """int8 weights scaled by output channel instead of by matrix."""
    reduce_range: bool
    """int8 weights in 7 bits: processors without VNNI overflow on 8."""


def export(
    params: ExportParams,
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
    from pipeline.adapters.onnx_export import export_fused, quantize
    from pipeline.adapters.onnx_runtime import OnnxClassifier
    from pipeline.adapters.pytorch import TorchClassifier
    from pipeline.adapters.tokens import read_tokens

    model = TorchClassifier(finetune / "model", attention="eager")
    maximum = Lengths.read(tokenize / "lengths.json").maximum
    shutil.copyfile(tokenize / "tokenizer" / "tokenizer.json", _ready(out / "tokenizer.json"))
    serving = {
        "labels": Validation.read(validate / "validation.json").labels,
        "max_length": maximum,
        "longest_text": maximum * CHARACTERS_PER_TOKEN,
        "padding": model.model.config.pad_token_id or 0,
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

    tokens = read_tokens(tokenize, "validation").tokens[: params.texts]
    shapes = [
        (batch, [row[:length] for row in tokens])
        for length in sorted({max(8, maximum // 4), maximum})
        for batch in BATCHES
    ]
    expected = [model.logits(rows, batch) for batch, rows in shapes]
    parities = []
    for name in ("fp32.onnx", "int8.onnx"):
        runtime = OnnxClassifier(out / name, out / "tokenizer.json", out / "serving.json")
        differences, flips = [], []
        for (batch, rows), reference in zip(shapes, expected, strict=True):
            answer = runtime.logits(rows, batch)
            differences.append(float(np.abs(answer - reference).max()))
            flips.append(float(np.mean(answer.argmax(1) != reference.argmax(1))))
        parity = Parity(
            file=name,
            sha256=sha256_of(out / name),
            bytes=size_of(out / name),
            largest_difference=max(differences),
            flips=float(np.mean(flips)),
            texts=len(tokens),
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


def _ready(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
