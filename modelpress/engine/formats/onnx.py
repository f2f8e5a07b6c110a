"""The artifact `model.onnx`: the network as an ONNX graph of one file, for any runtime that reads ONNX.

Input `images`, fp32 (batch, C, H, W), normalised as the network's preprocessing says; output `scores`, fp32
(batch, classes). The batch is free.
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
import torch
from onnx import GraphProto, ModelProto

from modelpress.engine.exhaustion import exhaustion
from modelpress.engine.network import Network
from modelpress.spec.failure import IncompatibleSpec
from modelpress.spec.job import ArtifactKind

LOG = logging.getLogger(__name__)

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
    module = copy.deepcopy(network.module).cpu().float().eval()
    # With an example batch of 1 the exporter would fix the batch.
    example = torch.zeros(2, *network.description.input_shape)
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                module,
                (example,),
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=4096)},),
                dynamo=True,
                verbose=False,
            )
    except OSError:
        raise
    except Exception as error:  # the exporter's errors have no common class, and speak of its own insides
        ran_out = exhaustion(error, "exporting the network to ONNX")
        if ran_out is not None:
            raise ran_out from error
        LOG.exception("the exporter failed")
        raise IncompatibleSpec(
            f"this network cannot be exported to ONNX ({type(error).__name__}; the log has the exporter's own words); "
            "leave out what needs that: the artifacts `onnx` and `onnx_int8`, and the target `latency`"
        ) from error
    if program is None:
        raise RuntimeError("torch.onnx.export gave no program")
    model: ModelProto = program.model_proto
    _strip(model)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString(deterministic=True))


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter says of its own code, which a user can do nothing about."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)`", category=FutureWarning)
            yield
    finally:
        logger.setLevel(level)


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
