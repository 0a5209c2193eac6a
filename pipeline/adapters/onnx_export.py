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
from typing import Any

import numpy as np

from pipeline.adapters.pytorch import TorchModel
from pipeline.adapters.transformers import pooling

OPSET = 17
FUSED = (
    "Attention",
    "MultiHeadAttention",
    "EmbedLayerNormalization",
    "BiasGelu",
)
TOKENWISE = {
    "Add",
    "BiasGelu",
    "FastGelu",
    "Gelu",
    "LayerNormalization",
    "MatMul",
    "Relu",
    "SkipLayerNormalization",
}
"""Operators that compute each token by itself, a MatMul where its second matrix is constant."""


def export_fused(model: TorchModel, path: Path) -> dict[str, int]:
    """Write fp32 ONNX; `model` must use eager attention. Returns the fused operators' counts.

    Under a head that reads the first token the last layer is computed for that token alone. Raises
    AssertionError where a layer's attention was not fused.
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
    if model.head == "guess":
        inputs.append("targets")
    named = inputs if model.head == "sequence" else [*inputs, "logits"]
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
        if model.head == "sequence" and pooling(model.model) == "cls":
            _for_first_token(fused)
        _split_skips(fused)
        fused.save_model_to_file(str(path))
    counts = Counter(node.op_type for node in onnx.load(path).graph.node)
    attention = counts["Attention"] + counts["MultiHeadAttention"]
    if attention != layers:
        raise AssertionError(f"{attention} of {layers} attention layers were fused")
    return {name: counts[name] for name in FUSED if counts[name]}


def _for_first_token(model: Any) -> None:
    """Let what stands between the last attention and the head see the first token alone.

    `model` is ONNX Runtime's wrapper of a fused graph, whose head gathers that token at the end.
    Here it is cut out in front of all nodes that compute each token by itself, and whose results
    nothing reads but that gathering.
    """
    from onnx import helper, numpy_helper

    constants = {tensor.name for tensor in model.model.graph.initializer}
    readers = Counter(name for node in model.nodes() for name in node.input)
    (gather,) = [
        node
        for node in model.get_nodes_by_op_type("Gather")
        if helper.get_node_attr_value(node, "axis") == 1
    ]
    if numpy_helper.to_array(model.get_initializer(gather.input[1])) != 0:
        raise AssertionError("the head reads another token than the first")
    narrow, read = [], Counter([gather.input[0]])
    model.topological_sort()
    for node in reversed(model.nodes()):
        by_token = node.op_type in TOKENWISE and (
            node.op_type != "MatMul" or node.input[1] in constants
        )
        if by_token and read[node.output[0]] == readers[node.output[0]] > 0:
            narrow.append(node)
            read.update(name for name in node.input if name not in constants)
    made = {node.output[0] for node in narrow}
    bounds = [numpy_helper.from_array(np.array([i]), f"first_token_{i}") for i in (0, 1)]
    for bound in bounds:
        model.add_initializer(bound)
    start, end = (bound.name for bound in bounds)
    for name in sorted({name for node in narrow for name in node.input} - made - constants):
        cut = f"{name}_first_token"
        model.add_node(helper.make_node("Slice", [name, start, end, end], [cut], name=cut))
        for node in narrow:
            node.input[:] = [cut if given == name else given for given in node.input]
    model.topological_sort()


def _split_skips(model: Any) -> None:
    """Add and normalize in two nodes what was fused into one.

    On a CPU the fused kernel sums a row number by number and takes longer than both (ONNX Runtime
    1.31), and a bias by itself is taken into an int8 product. A Sum stays, where an Add would be
    fused again.
    """
    from onnx import helper

    for fused in model.get_nodes_by_op_type("SkipLayerNormalization"):
        states, skip, *weights = fused.input
        (normal,) = fused.output
        if len(weights) == 3:
            model.add_node(helper.make_node("Add", [states, weights.pop()], [f"{normal}_biased"]))
            states = f"{normal}_biased"
        model.add_node(helper.make_node("Sum", [states, skip], [f"{normal}_sum"]))
        epsilon = helper.get_node_attr_value(fused, "epsilon")
        model.add_node(
            helper.make_node(
                "LayerNormalization", [f"{normal}_sum", *weights], [normal], epsilon=epsilon
            )
        )
        model.remove_node(fused)
    model.topological_sort()


def _apart(model: Any) -> Any:
    """A model in which no two kinds of operators share a matrix, for each wants it quantized in its
    own way: the embeddings of words that a head guesses words by."""
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    readers: dict[str, str] = {}
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            if name in tensors and readers.setdefault(name, node.op_type) != node.op_type:
                copied = f"{name}_{node.op_type}"
                if copied not in tensors:
                    tensors[copied] = model.graph.initializer.add()
                    tensors[copied].CopyFrom(tensors[name])
                    tensors[copied].name = copied
                node.input[place] = copied
    return model


def quantize(source: Path, path: Path, *, per_channel: bool, reduce_range: bool) -> None:
    """Write int8 weights, with activations quantized as they come (dynamic quantization)."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    logging.getLogger().setLevel(logging.ERROR)  # quantize_dynamic warns on the root logger
    quantize_dynamic(
        _apart(onnx.load(source)),
        str(path),
        per_channel=per_channel,
        reduce_range=reduce_range,
        weight_type=QuantType.QInt8,
        extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
    )
