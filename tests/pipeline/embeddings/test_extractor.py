"""Embeddings equal the hidden states of transformers, in PyTorch and in ONNX."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import transformers

from pipeline.core.errors import UserError
from pipeline.embeddings.embedder import Tokens
from pipeline.embeddings.extractor import TorchExtractor
from pipeline.models.families import FAMILIES
from pipeline.runtimes.onnx_runtime import OnnxModel
from pipeline.stages.export.onnx import export_fused
from pipeline.stages.export.quantize import quantize
from tests.conftest import tiny_config

TEXTS = [
    Tokens(np.array([2, *range(7, 7 + length), 3], np.int32), False, []) for length in (4, 9, 1, 6)
]


def saved(folder: Path, family: str) -> Path:
    transformers.AutoModel.from_config(tiny_config(family)).save_pretrained(folder)
    return folder


def expected(
    folder: Path, layers: Sequence[int], pooling: str | None, normalize: bool
) -> list[np.ndarray[Any, Any]]:
    """Compute embeddings from the hidden states of the whole encoder, one text at a time."""
    encoder = transformers.AutoModel.from_pretrained(folder).eval()
    found = []
    for text in TEXTS:
        ids = torch.as_tensor(text.ids.astype(np.int64))[None]
        with torch.inference_mode():
            states = encoder(input_ids=ids, output_hidden_states=True).hidden_states
        state = torch.stack([states[i][0] for i in layers]).mean(0).numpy()
        pooled = {"cls": state[0], "mean": state.mean(0), "max": state.max(0), None: state}[pooling]
        length = np.linalg.norm(pooled, axis=-1, keepdims=True) if normalize else 1
        found.append(pooled / length)
    return found


WANTED = [
    ((0, 1, 2), None, True),
    ((1,), "max", False),
    ((0,), "mean", True),
    ((2,), "mean", True),
    ((2,), "cls", False),
    ((0,), None, False),
    ((1, 2), "cls", True),
]


@pytest.mark.parametrize(
    ("family", "layers", "pooling", "normalize"),
    [
        (family, *wanted)
        for family in FAMILIES
        for wanted in WANTED[: None if family in ("bert", "distilbert") else 3]
    ],
)
def test_every_runtime_gives_the_encoders_own_states(
    family: str, layers: tuple[int, ...], pooling: str | None, normalize: bool, tmp_path: Path
) -> None:
    folder = saved(tmp_path / "base", family)
    wanted = expected(folder, layers, pooling, normalize)
    model = TorchExtractor(folder, family, layers, pooling, normalize)
    eager = TorchExtractor(folder, family, layers, pooling, normalize, attention="eager")
    fused = export_fused(eager, tmp_path / "fp32.onnx")
    unfused = FAMILIES[family].unfused
    assert fused.get("Attention", 0) == (0 if unfused is None else max(max(layers) - unfused, 0))
    quantize(tmp_path / "fp32.onnx", tmp_path / "int8.onnx", per_channel=True, reduce_range=True)
    whole = OnnxModel(tmp_path / "fp32.onnx", model.padding)
    small = OnnxModel(tmp_path / "int8.onnx", model.padding)
    runs = ((model, 1e-5, 1), (whole, 1e-5, 1), (small, 0.2, 0.999))
    for runtime, within, cosine in runs:
        for want, got in zip(wanted, runtime.logits(TEXTS, 3), strict=True):
            assert got.shape == want.shape
            assert np.abs(got - want).max() < within
            alike = (got * want).sum() / np.linalg.norm(got) / np.linalg.norm(want)
            assert alike > cosine - 1e-5


@pytest.mark.parametrize("family", [name for name in FAMILIES if FAMILIES[name].unfused == 0])
@pytest.mark.parametrize("spared", [0, 1])
def test_first_layers_can_be_spared_by_int8(family: str, spared: int, tmp_path: Path) -> None:
    folder = saved(tmp_path / "base", family)
    eager = TorchExtractor(folder, family, (2,), "mean", normalize=True, attention="eager")
    export_fused(eager, tmp_path / "fp32.onnx")
    small = tmp_path / "int8.onnx"
    quantize(tmp_path / "fp32.onnx", small, per_channel=True, reduce_range=True, spared=spared)
    nodes = onnx.load(small).graph.node
    whole = [node.name for node in nodes if node.op_type == "MatMul"]
    assert len(whole) == 3 * spared
    assert all("/layer.0/" in name for name in whole)
    assert sum(node.op_type == "QAttention" for node in nodes) == 2


def test_layers_above_the_highest_that_is_asked_for_are_not_there(tmp_path: Path) -> None:
    folder = saved(tmp_path / "base", "bert")
    model = TorchExtractor(folder, "base", (1,), "mean", normalize=True)
    assert len(model.model.encoder.encoder.layer) == 1
    assert model.model.encoder.pooler is None


@pytest.mark.parametrize("family", FAMILIES)
def test_the_encoder_of_a_fine_tuned_model_is_taken(family: str, tmp_path: Path) -> None:
    kind = transformers.AutoModelForSequenceClassification
    whole = kind.from_config(tiny_config(family)).eval()
    whole.save_pretrained(tmp_path / "model")
    whole.base_model.save_pretrained(tmp_path / "encoder")
    own, same = (
        TorchExtractor(tmp_path / name, name, (2,), "mean", normalize=True).logits(TEXTS)
        for name in ("model", "encoder")
    )
    assert np.array_equal(np.stack(own), np.stack(same))


def test_weights_that_are_not_there_are_not_made_up(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    file = saved(tmp_path / "base", "bert") / "model.safetensors"
    kept = {name: t for name, t in load_file(file).items() if "layer.1.output" not in name}
    save_file(kept, file, {"format": "pt"})
    with pytest.raises(
        UserError, match=r"lacks 4 of the weights that config\.json names, such as encoder\.layer"
    ):
        TorchExtractor(tmp_path / "base", "base", (2,), "mean", normalize=True)
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"base: model\.safetensors cannot be loaded"):
        TorchExtractor(tmp_path / "base", "base", (2,), "mean", normalize=True)
