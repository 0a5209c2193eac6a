"""Export of a PyTorch model to an ONNX file with fused attention, if its family has that.

Only this combination fuses: the TorchScript exporter on eager attention, then ONNX Runtime's BERT
optimizer (https://onnxruntime.ai/docs/performance/transformers-optimization). Others silently fuse
nothing, so the number of fused operators is asserted. Of families whose attention has another form
(`Family.unfused`), normalizations and activations alone are fused.
"""

import logging
import tempfile
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.models.families import family_of
from pipeline.models.heads.base import Axes, Graph
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
"""Operators that compute each token by itself (MatMul only if its second matrix is constant)."""


def export_fused(model: TorchModel, path: Path) -> dict[str, int]:
    """Write fp32 ONNX and return the counts of fused operators; `model` must use eager attention.

    If a head reads only the first token and attention is fused, the last layer is computed for that
    token only. A decoding step is a second graph in the same file: all inputs of both are optional,
    and callers request the outputs of one. Raises AssertionError if the attention of a layer was
    not fused that ONNX Runtime should fuse.
    """
    import onnx

    graph = model.head.graph(model.model, model.typed)
    fused = _fused(graph)
    unfused = family_of(graph.config).unfused
    if unfused is not None:
        _check(fused.model, unfused)
    if graph.first_token and unfused is not None:
        _keep_first_token(fused)
    _split_skips(fused)
    if graph.decoder is None:
        fused.save_model_to_file(str(path))
    else:
        _add_decoder(fused.model, graph)
        onnx.save(optional(fused.model), path)
    counts = Counter(node.op_type for node in fused.model.graph.node)
    return {name: counts[name] for name in FUSED if counts[name]}


def _fused(graph: Graph) -> Any:
    """Return ONNX Runtime's wrapper of the fused graph."""
    from onnxruntime.transformers import optimizer
    from onnxruntime.transformers.fusion_options import FusionOptions

    logging.getLogger("onnxruntime.transformers").setLevel(logging.ERROR)
    logging.getLogger(optimizer.__name__).setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "raw.onnx"
        example = (_example(graph),) * len(graph.inputs)
        _trace(graph.module, example, raw, graph.inputs, graph.outputs, graph.axes)
        return optimizer.optimize_model(
            str(raw),
            "bert",
            num_heads=graph.config.num_attention_heads,
            hidden_size=graph.config.hidden_size,
            optimization_options=FusionOptions("bert"),
        )


def _example(graph: Graph) -> Any:
    """Return two texts of eight tokens, on the module's device."""
    import torch

    device = next(graph.module.parameters()).device
    return torch.ones(2, 8, dtype=torch.int64, device=device)


def _trace(
    module: Any,
    examples: tuple[Any, ...],
    path: Path,
    inputs: Sequence[str],
    outputs: Sequence[str],
    axes: Axes,
) -> None:
    import torch

    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            examples,
            str(path),
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,
        )


def _check(model: Any, unfused: int) -> None:
    """Raise AssertionError if more than that many layers have attention that was not fused."""
    left = sum(node.op_type == "Softmax" for node in model.graph.node)
    if left > unfused:
        raise AssertionError(f"the attention of {left} layers was not fused")


def _add_decoder(encoder: Any, graph: Graph) -> None:
    """Add the graph of a decoding step to that of its encoder."""
    import onnx
    import torch
    from onnx import compose

    decoder = graph.decoder
    assert decoder is not None
    ids = _example(graph)
    with torch.inference_mode():
        read = graph.module(ids, ids)
    with tempfile.TemporaryDirectory() as folder:
        step = Path(folder) / "step.onnx"
        examples = decoder.examples(read)
        _trace(decoder.module, examples, step, decoder.inputs, decoder.outputs, decoder.axes)
        added = compose.add_prefix(
            onnx.load(step), "write/", rename_inputs=False, rename_outputs=False
        )
    for part in ("node", "initializer", "input", "output"):
        getattr(encoder.graph, part).extend(getattr(added.graph, part))


def optional(model: Any) -> Any:
    """Give each input of a model a default value, so that it can be left out; return the model."""
    from onnx import helper, numpy_helper

    for value in model.graph.input:
        tensor = value.type.tensor_type
        shape = [size.dim_value or 1 for size in tensor.shape.dim]
        dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        model.graph.initializer.append(numpy_helper.from_array(np.zeros(shape, dtype), value.name))
    return model


def _keep_first_token(model: Any) -> None:
    """Compute the nodes between the last attention and the head for the first token only.

    `model` is ONNX Runtime's wrapper of a fused graph, whose head gathers that token at the end.
    Here it is sliced out before all nodes that compute each token by itself and whose results only
    the Gather uses.
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
    """Replace each SkipLayerNormalization by a sum and a normalization.

    On a CPU the fused kernel sums rows number by number and takes longer than both (ONNX Runtime
    1.31), and a separate bias is merged into an int8 product. The sum is a Sum because an Add would
    be fused again.
    """
    from onnx import helper

    for fused in model.get_nodes_by_op_type("SkipLayerNormalization"):
        states, skip, *weights = fused.input
        normal, *more = fused.output
        total = more[-1] if more else f"{normal}_sum"  # which later layers read too
        if len(weights) == 3:
            model.add_node(helper.make_node("Add", [states, weights.pop()], [f"{normal}_biased"]))
            states = f"{normal}_biased"
        model.add_node(helper.make_node("Sum", [states, skip], [total]))
        epsilon = helper.get_node_attr_value(fused, "epsilon")
        model.add_node(
            helper.make_node("LayerNormalization", [total, *weights], [normal], epsilon=epsilon)
        )
        model.remove_node(fused)
    model.topological_sort()
