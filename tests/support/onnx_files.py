"""ONNX files: of a few nodes, or written by the exporters of torch; and the networks that are read from them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from modelpress.engine.graphs.exported import lifted_network
from modelpress.engine.graphs.network import GraphNetwork
from modelpress.engine.graphs.onnx import reader

SEED = 0


def weights(*shape: int, low: float = -1.0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(SEED).uniform(low, 1.0, shape).astype(np.float32)


def write(
    path: Path,
    nodes: list[onnx.NodeProto],
    constants: dict[str, np.ndarray[Any, Any]],
    shape: tuple[int | str, ...] = ("batch", 4, 6, 6),
    opset: int = 17,
    output: str = "y",
) -> Path:
    """A model of these nodes on the input `x`."""
    graph = helper.make_graph(
        nodes,
        "model",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path)
    return path


def ints(*numbers: int) -> np.ndarray[Any, Any]:
    return np.array(numbers, dtype=np.int64)


def one(op_type: str, *inputs: str, **given: Any) -> list[onnx.NodeProto]:
    return [helper.make_node(op_type, ["x", *inputs], ["y"], **given)]


def network_of(path: Path) -> GraphNetwork:
    """The network of a file, shown to give what ONNX Runtime gives."""
    network = lifted_network(reader.read(path))
    reader.check_against_runtime(path, network)
    return network


def export(module: nn.Module, path: Path, images: Tensor, exporter: str) -> Path:
    """Write a module for batches of any size (`dynamo`) or by the older exporter for one image (`torchscript`)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if exporter == "dynamo":
            batch = torch.export.Dim("batch", min=1, max=4096)
            torch.onnx.export(
                module, (images,), path, dynamo=True, dynamic_shapes=({0: batch},), external_data=False, verbose=False
            )
        else:
            torch.onnx.export(module, (images[:1],), path, dynamo=False, opset_version=14)
    return path
