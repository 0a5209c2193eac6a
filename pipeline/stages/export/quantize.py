"""Dynamic int8 quantization of an ONNX file."""

import logging
from pathlib import Path
from typing import Any

from pipeline.stages.export.onnx import optional


def quantize(
    source: Path, path: Path, *, per_channel: bool, reduce_range: bool, spared: int = 0
) -> None:
    """Write int8 weights, with activations quantized as they come (dynamic quantization). In so
    many of the first layers, whose errors all others hand on, `spared`, what is behind the
    attention stays in fp32."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    logging.getLogger().setLevel(logging.ERROR)  # quantize_dynamic warns on the root logger
    model = onnx.load(source)
    inputs = {given.name for given in model.graph.input}
    defaults = [tensor for tensor in model.graph.initializer if tensor.name in inputs]
    for tensor in defaults:
        model.graph.initializer.remove(tensor)
    layers = tuple(f"/layer.{layer}/" for layer in range(spared))
    kept = [
        node.name
        for node in model.graph.node
        if node.op_type == "MatMul" and any(layer in node.name for layer in layers)
    ]
    quantize_dynamic(
        _apart(model),
        str(path),
        per_channel=per_channel,
        reduce_range=reduce_range,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=kept,
        extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
    )
    if defaults:
        onnx.save(optional(onnx.load(path)), path)


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
