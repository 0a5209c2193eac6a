"""From a PyTorch model to ONNX files with fused attention, whole and quantized.

The combination below is the one that fuses: the TorchScript exporter on eager attention, then
ONNX Runtime's BERT optimizer (https://onnxruntime.ai/docs/performance/transformers-optimization).
Others fuse nothing and say nothing, so the number of fused operators is asserted.
"""

import logging
import tempfile
import warnings
from collections import Counter
from pathlib import Path

from pipeline.adapters.pytorch import TorchModel

OPSET = 17
FUSED = (
    "Attention",
    "MultiHeadAttention",
    "EmbedLayerNormalization",
    "SkipLayerNormalization",
    "BiasGelu",
)


def export_fused(model: TorchModel, path: Path) -> dict[str, int]:
    """Write fp32 ONNX; `model` must use eager attention. Returns the fused operators' counts.

    Raises AssertionError where a layer's attention was not fused.
    """
    import onnx
    import torch
    from onnxruntime.transformers import optimizer
    from onnxruntime.transformers.fusion_options import FusionOptions

    logging.getLogger("onnxruntime.transformers").setLevel(logging.ERROR)
    logging.getLogger(optimizer.__name__).setLevel(logging.ERROR)
    config = model.model.config
    heads, width = config.num_attention_heads, config.hidden_size
    layers = config.num_hidden_layers
    example = torch.ones(2, 8, dtype=torch.int64, device=model.device)
    inputs = ["input_ids", "attention_mask", *(["token_type_ids"] if model.typed else [])]
    named = [*inputs, "logits"] if model.head == "token" else inputs
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "raw.onnx"
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                model.model,
                (example,) * len(inputs),
                str(raw),
                input_names=inputs,
                output_names=["logits"],
                dynamic_axes={name: {0: "batch", 1: "length"} for name in named},
                opset_version=OPSET,
                dynamo=False,
            )
        options = FusionOptions("bert")
        fused = optimizer.optimize_model(
            str(raw), "bert", num_heads=heads, hidden_size=width, optimization_options=options
        )
        fused.save_model_to_file(str(path))
    counts = Counter(node.op_type for node in onnx.load(path).graph.node)
    attention = counts["Attention"] + counts["MultiHeadAttention"]
    if attention != layers:
        raise AssertionError(f"{attention} of {layers} attention layers were fused")
    return {name: counts[name] for name in FUSED if counts[name]}


def quantize(source: Path, path: Path, *, per_channel: bool, reduce_range: bool) -> None:
    """Write int8 weights, with activations quantized as they come (dynamic quantization)."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    logging.getLogger().setLevel(logging.ERROR)  # quantize_dynamic warns on the root logger
    quantize_dynamic(
        str(source),
        str(path),
        per_channel=per_channel,
        reduce_range=reduce_range,
        weight_type=QuantType.QInt8,
        extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
    )
