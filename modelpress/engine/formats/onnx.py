"""The artifact `model.onnx`: the network as an ONNX graph of one file, for any runtime that reads ONNX.

Input `images`, fp32 (batch, C, H, W), normalised as the network's preprocessing says; output `scores`, fp32
(batch, classes). The batch is free.
"""

from __future__ import annotations

from pathlib import Path

import onnx
import torch
from onnx import GraphProto, ModelProto

from modelpress.engine.formats.exporting import exportable, exporting, free_batch
from modelpress.engine.network import Network
from modelpress.spec.failure import IncompatibleSpec
from modelpress.spec.job import ArtifactKind

INPUT, OUTPUT = "images", "scores"
# A protobuf message, which a single ONNX file is, ends at 2 GiB.
_LARGEST = 2**31 - 1


def write(network: Network, path: Path) -> None:
    """Write the network, with weights inside. The same network always gives the same bytes.

    Raises IncompatibleSpec when it cannot be exported, or does not fit into one file, and OutOfMemory.
    """
    weights = sum(tensor.numel() * tensor.element_size() for tensor in network.module.state_dict().values())
    if weights > _LARGEST:
        raise IncompatibleSpec(
            f"the network's weights take {weights:,} bytes, and an ONNX file can hold {_LARGEST:,}; "
            f"ask for other artifacts ({ArtifactKind.COMPACT}, {ArtifactKind.SAFETENSORS})"
        )
    module, example = exportable(network)
    with exporting("ONNX", "leave out what needs that: the artifacts `onnx` and `onnx_int8`, and the target `latency`"):
        program = torch.onnx.export(
            module,
            (example,),
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=free_batch(),
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export gave no program")
    model: ModelProto = program.model_proto
    _strip(model)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString(deterministic=True))


def _strip(model: ModelProto) -> None:
    """Take out what the exporter says of itself: stack traces with the paths of this machine, and its names."""
    del model.metadata_props[:]
    model.ClearField("doc_string")
    _strip_graph(model.graph)
    for function in model.functions:
        del function.metadata_props[:]
        function.ClearField("doc_string")
        for node in function.node:
            del node.metadata_props[:]
            node.ClearField("doc_string")


def _strip_graph(graph: GraphProto) -> None:
    del graph.metadata_props[:]
    graph.ClearField("doc_string")
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del value.metadata_props[:]
        value.ClearField("doc_string")
    for node in graph.node:
        del node.metadata_props[:]
        node.ClearField("doc_string")
        for attribute in node.attribute:
            attribute.ClearField("doc_string")
            if attribute.HasField("g"):
                _strip_graph(attribute.g)
            for inner in attribute.graphs:
                _strip_graph(inner)
