"""An ONNX file as a program of ATen operators, and the proof that ONNX Runtime gives the same."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from google.protobuf.message import DecodeError
from torch import Tensor

from modelpress.engine.architectures.budget import MOST_ELEMENTS
from modelpress.engine.graphs.lift import Program, loose_weights
from modelpress.engine.graphs.network import GraphNetwork, graph_of
from modelpress.engine.graphs.onnx.convert import CONVERTERS
from modelpress.engine.graphs.onnx.folding import fold, without_unused
from modelpress.engine.graphs.onnx.node import attributes
from modelpress.engine.graphs.onnx.translation import INPUT, Translation, Untranslatable, scope_of
from modelpress.spec.failure import InvalidModel
from modelpress.spec.graph import MOST_NODES, Graph, TensorShape, ValueOf, WeightOf, items_of

OPSETS = range(11, 24)
# Of the outputs, or of the largest where that is above 1.
TOLERANCE = 1e-4

_AGAIN = "export it again: `torch.onnx.export(model.eval(), (images,), path, dynamo=True, external_data=False)`"
_FLOATS = {onnx.TensorProto.FLOAT: "float32", onnx.TensorProto.FLOAT16: "float16", onnx.TensorProto.DOUBLE: "float64"}
_RUNTIME_TYPES = {"tensor(float16)": np.float16, "tensor(double)": np.float64}
# Channels that images have: grey, red, green and blue, and these with transparency.
_COLOURS = (1, 3, 4)
_SHOWN = 12
_BATCH = 3


@dataclass(frozen=True)
class _Images:
    """The input of a model: its name, its shape with channels first, and whether the model has them last."""

    name: str
    shape: TensorShape
    channels_last: bool


def read(path: Path, note: Callable[[str], object] = lambda _: None) -> Program:
    """The program of an ONNX file, its weights in the file itself. `note` is told where images are taken otherwise.

    Raises InvalidModel for a file that is none, is damaged, keeps its weights elsewhere, is of another opset than 11 to
    23, or uses what is not known here; the message names the operators.
    """
    model = _checked(path)
    images = _images(model)
    if images.channels_last:
        note("The ONNX model has the channels of its images last; here they are given first, and brought there.")
    _refuse_unknown(model)
    try:
        on = Translation(model, images.shape)
    except (KeyError, TypeError, ValueError) as error:  # of numpy_helper: numbers that are not as many as are told
        raise InvalidModel(f"the ONNX model is damaged ({str(error)[:200]}); upload the whole file") from error
    given = ValueOf(value=INPUT)
    on.gives(images.name, on.call("permute.default", given, (0, 2, 3, 1)) if images.channels_last else given)
    for node in model.graph.node:
        _translate(on, node)
        if len(on.nodes) > MOST_NODES:
            raise InvalidModel(f"the ONNX model computes by more than {MOST_NODES:,} operators; {_AGAIN}")
    outputs = tuple(on.value_name(output.name) for output in model.graph.output)
    nodes = without_unused(on.nodes, outputs)
    used = {item.weight for call in nodes for item in items_of(call) if isinstance(item, WeightOf)}
    state = {name: tensor for name, tensor in on.state.items() if name in used}
    own = {name: tensor for name, tensor in state.items() if "running_" not in name and name not in on.fixed}
    trainable = {name for name, tensor in own.items() if tensor.is_floating_point()}
    graph = Graph(
        inputs={INPUT: images.shape}, weights=loose_weights(state, trainable), nodes=tuple(nodes), outputs=outputs
    )
    return Program(graph, state, on.scopes)


def check_against_runtime(path: Path, network: GraphNetwork) -> None:
    """Raise InvalidModel unless ONNX Runtime gives for random images what the network gives."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        taken = session.get_inputs()[0]
        batch = taken.shape[0] if isinstance(taken.shape[0], int) and taken.shape[0] > 0 else _BATCH
        shape = next(iter(graph_of(network).inputs.values())).shape
        images = torch.randn(batch, *shape[1:], generator=torch.Generator().manual_seed(0))
        given = images.numpy().astype(_RUNTIME_TYPES.get(taken.type, np.float32))
        if tuple(taken.shape[1:]) != tuple(shape[1:]):
            given = given.transpose(0, 2, 3, 1)  # see `_channels_last`
        wanted = session.run(None, {taken.name: given})
    except Exception as error:
        raise InvalidModel(f"ONNX Runtime does not run the file: {str(error)[:300]}; {_AGAIN}") from error
    with torch.no_grad():
        found = network(images)
    for one, other in zip(wanted, found if isinstance(found, tuple) else (found,), strict=True):
        _compare(torch.from_numpy(np.asarray(one, dtype=np.float64)), other.double(), taken.type == "tensor(float16)")


def _compare(wanted: Tensor, found: Tensor, half: bool) -> None:
    scale = max(1.0, float(wanted.abs().max())) if wanted.numel() else 1.0
    different = wanted.shape != found.shape or not torch.allclose(
        found, wanted, rtol=0, atol=(100 if half else 1) * TOLERANCE * scale, equal_nan=True
    )
    if different:
        largest = float((found - wanted).abs().max()) if wanted.shape == found.shape else float("inf")
        raise InvalidModel(
            f"the network that was read from the ONNX file gives outputs that differ by {largest:.3g} from "
            f"ONNX Runtime's, where {TOLERANCE:g} of the largest is allowed; {_AGAIN}, or export it by torch.export"
        )


def _checked(path: Path) -> onnx.ModelProto:
    try:
        model = onnx.load(path, load_external_data=False)
    except (DecodeError, ValueError, OSError, RecursionError) as error:
        raise InvalidModel("the file is no ONNX model, or it is cut off or damaged; upload it whole") from error
    tensors = [*model.graph.initializer, *(a.t for node in model.graph.node for a in node.attribute if a.HasField("t"))]
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data for tensor in tensors):
        raise InvalidModel(f"the ONNX model keeps its weights in other files, which are never opened; {_AGAIN}")
    if model.graph.sparse_initializer or model.functions or len(model.graph.node) > MOST_NODES:
        raise InvalidModel(f"the ONNX model holds sparse weights, functions of its own, or too many nodes; {_AGAIN}")
    if not model.graph.node or not model.graph.output:
        raise InvalidModel("the file holds no ONNX graph that gives something; upload the model itself")
    if not all(isinstance(name, str) for name in _names(model.graph)):
        raise InvalidModel("the ONNX model has names that are no UTF-8 text, so it is damaged; upload the whole file")
    elements = 0
    for tensor in tensors:
        elements += int(np.prod([max(size, 0) for size in tensor.dims], dtype=np.float64))
        if any(size < 0 for size in tensor.dims) or elements > MOST_ELEMENTS:
            raise InvalidModel(
                f"the ONNX model's weights have more than {MOST_ELEMENTS:,} elements, or a negative size"
            )
    versions = {entry.domain: entry.version for entry in model.opset_import}
    version = versions.get("", versions.get("ai.onnx", 0))
    if version not in OPSETS:
        raise InvalidModel(
            f"the ONNX model is of opset {version}; opsets {OPSETS[0]} to {OPSETS[-1]} are read. Give `opset_version` "
            "to the exporter"
        )
    return model


def _names(graph: onnx.GraphProto) -> Iterator[str | bytes]:
    """What the graph calls its parts: protobuf gives bytes for what is no UTF-8 text."""
    for node in graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        yield from (attribute.name for attribute in node.attribute)
    for named in (*graph.initializer, *graph.input, *graph.output):
        yield named.name


def _images(model: onnx.ModelProto) -> _Images:
    """What the model takes, as images with channels first."""
    held = {tensor.name for tensor in model.graph.initializer}
    inputs = [given for given in model.graph.input if given.name not in held]
    if len(inputs) != 1:
        raise InvalidModel(f"the ONNX model takes {len(inputs)} inputs; one batch of images is needed")
    kind = inputs[0].type.tensor_type
    sizes = [dimension.dim_value for dimension in kind.shape.dim]
    if kind.elem_type not in _FLOATS:
        known = kind.elem_type in onnx.TensorProto.DataType.values()
        called = onnx.TensorProto.DataType.Name(kind.elem_type).lower() if known else kind.elem_type
        raise InvalidModel(
            f"the ONNX model's input is of type {called}; images are given as floating numbers, normalised. Leave what "
            "makes them of pixels out of the export"
        )
    if len(sizes) < 2 or any(size < 1 for size in sizes[1:]):
        raise InvalidModel(
            f"the ONNX model's input has sizes {[size if size > 0 else '?' for size in sizes]}; only the batch's, the "
            "first, may be open: export it for one height and width of images"
        )
    name, batch = inputs[0].name, max(sizes[0], 0)
    last = _channels_last(model, name, sizes)
    shape = (batch, sizes[3], sizes[1], sizes[2]) if last else (batch, *sizes[1:])
    return _Images(
        name, TensorShape.model_validate({"shape": shape, "dtype": {"dtype": _FLOATS[kind.elem_type]}}), last
    )


def _channels_last(model: onnx.ModelProto, name: str, sizes: Sequence[int]) -> bool:
    """Whether images (batch, height, width, channels) are taken, as TensorFlow has them.

    Its exporter transposes them first of all. Where a model does not, there are 1, 3 or 4 channels.
    """
    if len(sizes) != 4 or sizes[3] >= min(sizes[1:3]):
        return False
    users = [node for node in model.graph.node if name in node.input and node.op_type != "Shape"]
    transposed = all(
        node.op_type == "Transpose" and list(attributes(node).get("perm", ())) == [0, 3, 1, 2] for node in users
    )
    convolved = any(node.op_type in ("Conv", "MaxPool", "AveragePool", "BatchNormalization") for node in users)
    return (transposed and bool(users)) or (sizes[3] in _COLOURS and not convolved)


def _refuse_unknown(model: onnx.ModelProto) -> None:
    unknown = sorted(
        {
            f"{node.domain}.{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type
            for node in model.graph.node
            if node.domain not in ("", "ai.onnx") or node.op_type not in CONVERTERS
        }
    )
    if unknown:
        more = f" and {len(unknown) - _SHOWN} more" if len(unknown) > _SHOWN else ""
        listed = ", ".join(re.sub(r"[^\w.]", "_", name)[:100] for name in unknown[:_SHOWN])
        raise InvalidModel(
            f"the ONNX model uses {listed}{more}, which cannot be read here; export the PyTorch module by torch.export "
            "instead, or replace them by operators that compute the same"
        )


def _translate(on: Translation, node: onnx.NodeProto) -> None:
    on.scope, before = scope_of(node), len(on.nodes)
    called = f"{node.op_type} {node.name[:100]!r}"
    try:
        CONVERTERS[node.op_type](on, node, attributes(node))
        fold(on, list(node.output), before)
    except Untranslatable as error:
        raise InvalidModel(f"the ONNX model's node {called} cannot be read here: {error}") from error
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise InvalidModel(f"the ONNX model's node {called} is not as ONNX describes it ({error!r:.100})") from error
