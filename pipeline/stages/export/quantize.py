"""Dynamic int8 quantization of an ONNX file."""

import logging
from pathlib import Path
from typing import Any

from pipeline.stages.export.onnx import optional


def quantize(
    source: Path, path: Path, *, per_channel: bool, reduce_range: bool, spared: int = 0
) -> None:
    """Write int8 weights; activations are quantized at run time (dynamic quantization).

    In the first `spared` layers, whose errors pass through all others, the matrices outside a fused
    attention stay in fp32.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    logging.getLogger().setLevel(logging.ERROR)  # quantize_dynamic warns on the root logger
    model = onnx.load(source)
    inputs = {each.name for each in model.graph.input}
    defaults = [tensor for tensor in model.graph.initializer if tensor.name in inputs]
    for tensor in defaults:
        model.graph.initializer.remove(tensor)
    layers = [f"/{name}.{layer}/" for name in ("layer", "layers") for layer in range(spared)]
    excluded = [
        node.name
        for node in model.graph.node
        if node.op_type == "MatMul" and any(layer in node.name for layer in layers)
    ]
    quantize_dynamic(
        _unshared(model),
        str(path),
        per_channel=per_channel,
        reduce_range=reduce_range,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=excluded,
        extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
    )
    if defaults:
        onnx.save(optional(onnx.load(path)), path)


def _unshared(model: Any) -> Any:
    """Copy each matrix that operators of two types share, since each type quantizes it in another
    way: word embeddings are also the output weights of masked-token heads."""
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    readers: dict[str, str] = {}
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            if name in tensors and readers.setdefault(name, node.op_type) != node.op_type:
                copy = f"{name}_{node.op_type}"
                if copy not in tensors:
                    tensors[copy] = model.graph.initializer.add()
                    tensors[copy].CopyFrom(tensors[name])
                    tensors[copy].name = copy
                node.input[place] = copy
    return model
