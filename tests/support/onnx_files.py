"""ONNX files of a few nodes, as the tests of their readers write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

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
