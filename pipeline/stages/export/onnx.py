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

from pipeline.models.encoders import OF_WHOLE_TEXTS, pooling
from pipeline.runtimes.pytorch import TorchModel

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

    if model.head == "writer":
        return _export_translator(model.model, path)
    inputs = ["input_ids", "attention_mask", *(["token_type_ids"] if model.typed else [])]
    if model.head == "guess":
        inputs.append("targets")
    whole = model.head in OF_WHOLE_TEXTS
    named = inputs if whole else [*inputs, "logits"]
    axes = {name: {0: "batch", 1: "length"} for name in named}
    fused = _fused(model.model, model.model.config, inputs, "logits", axes)
    if whole and pooling(model.model) == "cls":
        _for_first_token(fused)
    _split_skips(fused)
    fused.save_model_to_file(str(path))
    return _counted(onnx.load(path), model.model.config.num_hidden_layers)


def _fused(
    module: Any, config: Any, inputs: list[str], output: str, axes: dict[str, dict[int, str]]
) -> Any:
    """ONNX Runtime's wrapper of the fused graph of a module that holds a BERT of that
    configuration."""
    import torch
    from onnxruntime.transformers import optimizer
    from onnxruntime.transformers.fusion_options import FusionOptions

    logging.getLogger("onnxruntime.transformers").setLevel(logging.ERROR)
    logging.getLogger(optimizer.__name__).setLevel(logging.ERROR)
    device = next(module.parameters()).device
    example = torch.ones(2, 8, dtype=torch.int64, device=device)
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "raw.onnx"
        _traced(module, (example,) * len(inputs), raw, inputs, [output], axes)
        return optimizer.optimize_model(
            str(raw),
            "bert",
            num_heads=config.num_attention_heads,
            hidden_size=config.hidden_size,
            optimization_options=FusionOptions("bert"),
        )


def _traced(
    module: Any,
    examples: tuple[Any, ...],
    path: Path,
    inputs: list[str],
    outputs: list[str],
    axes: dict[str, dict[int, str]],
) -> None:
    import torch

    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            examples,
            str(path),
            input_names=inputs,
            output_names=outputs,
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,
        )


def _counted(model: Any, layers: int) -> dict[str, int]:
    """How many of each fused operator a model has."""
    counts = Counter(node.op_type for node in model.graph.node)
    attention = counts["Attention"] + counts["MultiHeadAttention"]
    if attention != layers:
        raise AssertionError(f"{attention} of {layers} attention layers were fused")
    return {name: counts[name] for name in FUSED if counts[name]}


def _export_translator(model: Any, path: Path) -> dict[str, int]:
    """Reading and one step of writing, two graphs in one file: all inputs of both may be left out,
    and who runs it asks for the outputs of one."""
    import onnx
    import torch
    from onnx import compose

    from pipeline.models.heads import seq2seq

    axes = {0: "batch", 1: "length"}
    reading = seq2seq.Reading(model).eval()
    fused = _fused(
        reading,
        model.encoder.config,
        ["input_ids", "attention_mask"],
        "read",
        {"input_ids": axes, "attention_mask": axes, "read": {1: "batch", 3: "length"}},
    )
    _split_skips(fused)
    whole = fused.model
    device = model.device
    ids, place = (torch.ones(*size, dtype=torch.int64, device=device) for size in ((2, 8), (3,)))
    with torch.inference_mode():
        read = reading(ids, ids)
    with tempfile.TemporaryDirectory() as folder:
        step = Path(folder) / "step.onnx"
        _traced(
            seq2seq.Writing(model).eval(),
            (place, place, place, read[:, :, :, :3], read, ids),
            step,
            ["tokens", "of", "before", "past", "known", "mask"],
            ["logs", "now"],
            {
                **{name: {0: "hypotheses"} for name in ("tokens", "of", "before", "logs")},
                "past": {1: "old", 3: "written"},
                "known": {1: "batch", 3: "length"},
                "mask": axes,
                "now": {1: "hypotheses", 3: "longer"},
            },
        )
        writing = compose.add_prefix(
            onnx.load(step), "write/", rename_inputs=False, rename_outputs=False
        )
    for part in ("node", "initializer", "input", "output"):
        getattr(whole.graph, part).extend(getattr(writing.graph, part))
    onnx.save(_optional(whole), path)
    return _counted(whole, model.encoder.config.num_hidden_layers)


def _optional(model: Any) -> Any:
    """A model that can be run without some of its inputs, each having a value by default."""
    from onnx import helper, numpy_helper

    for given in model.graph.input:
        tensor = given.type.tensor_type
        shape = [size.dim_value or 1 for size in tensor.shape.dim]
        kind = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        model.graph.initializer.append(numpy_helper.from_array(np.zeros(shape, kind), given.name))
    return model


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
        onnx.save(_optional(onnx.load(path)), path)


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
