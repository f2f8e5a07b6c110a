"""Each ONNX operator that is read: what ONNX Runtime gives, from operators and layers of torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from modelpress.engine.graphs.exported import lifted_network
from modelpress.engine.graphs.onnx import reader
from modelpress.spec.failure import InvalidModel
from tests.support.onnx_files import ints, one, weights, write

OPERATORS: dict[str, tuple[list[onnx.NodeProto], dict[str, np.ndarray[Any, Any]]]] = {
    "conv": (one("Conv", "w", "b", pads=[1, 1, 1, 1], strides=[2, 1]), {"w": weights(6, 4, 3, 3), "b": weights(6)}),
    "grouped conv": (one("Conv", "w", group=2, dilations=[2, 1]), {"w": weights(6, 2, 3, 3)}),
    "conv with pads of two kinds": (one("Conv", "w", pads=[0, 1, 1, 2]), {"w": weights(6, 4, 3, 3)}),
    "conv, same upper": (one("Conv", "w", auto_pad="SAME_UPPER", strides=[2, 2]), {"w": weights(6, 4, 2, 3)}),
    "conv, same lower": (one("Conv", "w", auto_pad="SAME_LOWER"), {"w": weights(6, 4, 2, 2)}),
    "transposed conv": (
        one("ConvTranspose", "w", "b", strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1]),
        {"w": weights(4, 3, 3, 3), "b": weights(3)},
    ),
    "transposed conv, cut at its ends": (
        one("ConvTranspose", "w", strides=[2, 2], pads=[1, 1, 0, 0], group=2),
        {"w": weights(4, 3, 3, 3)},
    ),
    "batch norm": (
        one("BatchNormalization", "s", "b", "m", "v", epsilon=1e-3),
        {"s": weights(4), "b": weights(4), "m": weights(4), "v": weights(4, low=0.1)},
    ),
    "instance norm": (one("InstanceNormalization", "s", "b"), {"s": weights(4), "b": weights(4)}),
    "layer norm": (one("LayerNormalization", "s", "b", axis=-2), {"s": weights(6, 6), "b": weights(6, 6)}),
    "matmul": (one("MatMul", "w"), {"w": weights(6, 5)}),
    "clip": (
        one("Clip", "low", "high"),
        {"low": np.float32(-0.5) * np.ones((), np.float32), "high": np.ones((), np.float32)},
    ),
    "clip from below": (one("Clip", "low"), {"low": np.zeros((), np.float32)}),
    "leaky relu": (one("LeakyRelu", alpha=0.2), {}),
    "prelu": (one("PRelu", "s"), {"s": weights(4, 1, 1)}),
    "prelu, a slope for each row": (one("PRelu", "s"), {"s": weights(6, 1)}),
    "selu": (one("Selu"), {}),
    "selu of other constants": (one("Selu", alpha=1.5, gamma=1.2), {}),
    "celu": (one("Celu", alpha=0.7), {}),
    "softsign": (one("Softsign"), {}),
    "local response norm": (one("LRN", size=3, alpha=0.2, beta=0.6, bias=1.1), {}),
    "reduce L1": (one("ReduceL1", axes=[1, 2]), {}),
    "reduce the logarithm of a sum of powers": (one("ReduceLogSumExp", axes=[3], keepdims=0), {}),
    "reduce a sum of squares": (one("ReduceSumSquare", axes=[1]), {}),
    **{name: (one(name), {}) for name in ("Acos", "Asin", "Atan", "Cosh", "Sinh", "Tan")},
    "elu": (one("Elu", alpha=0.7), {}),
    "hard sigmoid": (one("HardSigmoid"), {}),
    "hard sigmoid as torch has it": (one("HardSigmoid", alpha=1 / 6), {}),
    "hard swish": (one("HardSwish"), {}),
    "softplus": (one("Softplus"), {}),
    "softmax": (one("Softmax", axis=1), {}),
    "max pool": (one("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]), {}),
    "max pool with pads of two kinds": (one("MaxPool", kernel_shape=[2, 2], pads=[0, 0, 1, 1]), {}),
    "max pool, rounded up": (one("MaxPool", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1), {}),
    "average pool": (one("AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1]), {}),
    "average pool with its border": (
        one("AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1),
        {},
    ),
    "global average": (one("GlobalAveragePool"), {}),
    "global max": (one("GlobalMaxPool"), {}),
    "reduce mean": (one("ReduceMean", axes=[2, 3], keepdims=0), {}),
    "reduce sum": (one("ReduceSum", "a"), {"a": ints(1, -1)}),
    "reduce L2": (one("ReduceL2", axes=[1]), {}),
    "reshape": (one("Reshape", "s"), {"s": ints(0, -1, 12)}),
    "flatten": (one("Flatten"), {}),
    "transpose": (one("Transpose", perm=[0, 2, 3, 1]), {}),
    "squeeze": (
        [helper.make_node("Unsqueeze", ["x", "a"], ["u"]), helper.make_node("Squeeze", ["u", "a"], ["y"])],
        {"a": ints(1)},
    ),
    "split": (
        [
            helper.make_node("Split", ["x", "s"], ["p", "q"], axis=1),
            helper.make_node("Concat", ["q", "p"], ["y"], axis=1),
        ],
        {"s": ints(1, 3)},
    ),
    "slice": (
        one("Slice", "b", "e", "a", "s"),
        {"b": ints(1, 0), "e": ints(4, 2**40), "a": ints(1, -1), "s": ints(1, 2)},
    ),
    "gather one": (one("Gather", "i", axis=2), {"i": np.array(-1, dtype=np.int64)}),
    "gather some": (one("Gather", "i", axis=1), {"i": ints(3, 0, 1)}),
    "pad": (one("Pad", "p", "v"), {"p": ints(0, 0, 1, 2, 0, 0, 3, 0), "v": np.array(0.5, dtype=np.float32)}),
    "pad by reflection": (one("Pad", "p", mode="reflect"), {"p": ints(0, 0, 1, 1, 0, 0, 2, 2)}),
    "tile": (one("Tile", "r"), {"r": ints(1, 2, 1, 1)}),
    "resize, nearest": (
        one("Resize", "", "s", coordinate_transformation_mode="asymmetric", mode="nearest", nearest_mode="floor"),
        {"s": np.array([1, 1, 2, 2], dtype=np.float32)},
    ),
    "resize, linear": (
        one("Resize", "", "s", coordinate_transformation_mode="half_pixel", mode="linear"),
        {"s": np.array([1, 1, 2, 2], dtype=np.float32)},
    ),
    "depth to space": (one("DepthToSpace", blocksize=2, mode="CRD"), {}),
    "power": (one("Pow", "e"), {"e": np.array(2, dtype=np.float32)}),
    "minimum": (one("Min", "w", "v"), {"w": weights(4, 1, 1), "v": np.array(0.1, dtype=np.float32)}),
    "where": (
        [helper.make_node("Greater", ["x", "z"], ["c"]), helper.make_node("Where", ["c", "x", "z"], ["y"])],
        {"z": np.array(0.3, dtype=np.float32)},
    ),
    "expand": (one("Add", "w"), {"w": weights(2, 1, 4, 1, 1)[0]}),
    "einsum": ([helper.make_node("Einsum", ["x", "w"], ["y"], equation="nchw,cd->ndhw")], {"w": weights(4, 3)}),
    "constant": (
        [
            helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(weights(6))),
            helper.make_node("Sub", ["k", "x"], ["y"]),
        ],
        {},
    ),
    "conv, its kernel computed": (
        [helper.make_node("Transpose", ["w"], ["k"], perm=[1, 0, 2, 3]), helper.make_node("Conv", ["x", "k"], ["y"])],
        {"w": weights(4, 6, 3, 3)},
    ),
    "transposed conv, cut off more at its end": (
        one("ConvTranspose", "w", strides=[2, 2], pads=[0, 1, 1, 2]),
        {"w": weights(4, 3, 3, 3)},
    ),
    "transposed conv, same upper": (
        one("ConvTranspose", "w", strides=[2, 2], auto_pad="SAME_UPPER"),
        {"w": weights(4, 3, 3, 3)},
    ),
    "transposed conv of a given shape": (
        one("ConvTranspose", "w", strides=[2, 2], output_shape=[12, 11]),
        {"w": weights(4, 3, 3, 3)},
    ),
    "average pool, same upper": (
        one("AveragePool", kernel_shape=[3, 2], strides=[1, 2], auto_pad="SAME_UPPER"),
        {},
    ),
    "average pool with pads of two kinds": (one("AveragePool", kernel_shape=[2, 3], pads=[0, 1, 1, 0]), {}),
    "average pool with its border, of two kinds": (
        one("AveragePool", kernel_shape=[2, 2], pads=[0, 0, 1, 1], count_include_pad=1),
        {},
    ),
    "max pool, same lower": (one("MaxPool", kernel_shape=[2, 2], strides=[1, 1], auto_pad="SAME_LOWER"), {}),
    "max pool, padded by more than half": (one("MaxPool", kernel_shape=[3, 3], pads=[2, 2, 2, 2]), {}),
    "flatten from a later dimension": (one("Flatten", axis=2), {}),
    "flatten from the end": (one("Flatten", axis=-3), {}),
    "transposed twice": (
        [
            helper.make_node("Transpose", ["x"], ["t"], perm=[0, 2, 3, 1]),
            helper.make_node("Transpose", ["t"], ["u"], perm=[0, 2, 1, 3]),
            helper.make_node("Relu", ["u"], ["y"]),
        ],
        {},
    ),
    "slice backwards": (
        one("Slice", "b", "e", "a", "s"),
        {"b": ints(-1, 4), "e": ints(-(2**62), 0), "a": ints(1, 3), "s": ints(-1, -2)},
    ),
    "gather a table": (one("Gather", "i", axis=1), {"i": np.array([[3, 0], [-1, 2]])}),
    "gather from the end": (one("Gather", "i", axis=2), {"i": ints(-1, 0)}),
    "gather elements": (one("GatherElements", "i", axis=3), {"i": np.array([[[[1, -1]]]]).repeat(4, 1)}),
    "gather by places": (
        [
            helper.make_node("Transpose", ["x"], ["t"], perm=[1, 2, 3, 0]),
            helper.make_node("GatherND", ["t", "i"], ["y"]),
        ],
        {"i": np.array([[0, 1], [3, -1]])},
    ),
    "scatter by places": (
        [
            helper.make_node("Transpose", ["x"], ["t"], perm=[1, 2, 3, 0]),
            helper.make_node("Relu", ["t"], ["r"]),
            helper.make_node("Slice", ["r", "b", "e"], ["u"]),
            helper.make_node("ScatterND", ["t", "i", "u"], ["y"]),
        ],
        {"i": np.array([[3], [1]]), "b": ints(0), "e": ints(2)},
    ),
    "scatter elements": (
        [
            helper.make_node("Slice", ["x", "b", "e", "a"], ["u"]),
            helper.make_node("Expand", ["i", "s"], ["j"]),
            helper.make_node("ScatterElements", ["x", "j", "u"], ["y"], axis=2),
        ],
        {"b": ints(0), "e": ints(1), "a": ints(2), "i": ints(-2), "s": ints(3, 4, 1, 6)},
    ),
    "cumulative sum": (one("CumSum", "a"), {"a": np.array(2, dtype=np.int32)}),
    "triangle": (one("Trilu", "k", upper=0), {"k": np.array(1, dtype=np.int64)}),
    "depth to space, columns first": (one("DepthToSpace", blocksize=2), {}),
    "space to depth": (one("SpaceToDepth", blocksize=3), {}),
    "modulo": (one("Mod", "m", fmod=1), {"m": np.array(0.3, dtype=np.float32)}),
    "modulo of whole numbers": (
        [
            helper.make_node("Mul", ["x", "t"], ["s"]),
            helper.make_node("Cast", ["s"], ["i"], to=TensorProto.INT64),
            helper.make_node("Mod", ["i", "m"], ["r"]),
            helper.make_node("Div", ["i", "m"], ["q"]),
            helper.make_node("Sub", ["q", "r"], ["d"]),
            helper.make_node("Cast", ["d"], ["y"], to=TensorProto.FLOAT),
        ],
        {"t": np.array(10, dtype=np.float32), "m": np.array(3, dtype=np.int64)},
    ),
    "resize by the places of pixels' centres": (
        one("Resize", "", "s", coordinate_transformation_mode="half_pixel", mode="nearest"),
        {"s": np.array([1, 1, 3, 2], dtype=np.float32)},
    ),
    "resize, cubic": (
        one("Resize", "", "s", coordinate_transformation_mode="half_pixel", mode="cubic"),
        {"s": np.array([1, 1, 2, 1.5], dtype=np.float32)},
    ),
    "resize to a size": (
        one("Resize", "", "", "s", coordinate_transformation_mode="align_corners", mode="linear"),
        {"s": ints(3, 4, 9, 7)},
    ),
    "a mask that is computed from constants": (
        [
            helper.make_node("ConstantOfShape", ["s"], ["z"]),
            helper.make_node("ScatterND", ["z", "i", "o"], ["m"]),
            helper.make_node("Equal", ["m", "k"], ["e"]),
            helper.make_node("Where", ["e", "x", "m"], ["y"]),
        ],
        {"s": ints(6), "i": np.array([[1], [4]]), "o": np.ones(2, np.float32), "k": np.ones((), np.float32)},
    ),
    "a range of the batch's size": (
        [
            helper.make_node("Shape", ["x"], ["s"]),
            helper.make_node("Gather", ["s", "i"], ["n"]),
            helper.make_node("Range", ["i", "n", "o"], ["r"]),
            helper.make_node("Cast", ["r"], ["f"], to=TensorProto.FLOAT),
            helper.make_node("Reshape", ["f", "t"], ["c"]),
            helper.make_node("Mul", ["x", "c"], ["y"]),
        ],
        {"i": np.array(0), "o": np.array(1), "t": ints(-1, 1, 1, 1)},
    ),
    "as_strided, as exporters write it": (
        [
            helper.make_node("Shape", ["x"], ["s"], start=0, end=1),
            helper.make_node("Squeeze", ["s"], ["n"]),
            helper.make_node("Reshape", ["x", "f"], ["l"]),
            helper.make_node("Range", ["z", "n", "o"], ["r"]),
            helper.make_node("Mul", ["r", "k"], ["m"]),
            helper.make_node("Unsqueeze", ["m", "a"], ["u"]),
            helper.make_node("Add", ["u", "w"], ["p"]),
            helper.make_node("Gather", ["l", "p"], ["y"]),
        ],
        {
            "f": ints(-1),
            "z": np.array(0),
            "o": np.array(1),
            "k": np.array(144),
            "a": ints(1, 2),
            "w": (36 * np.arange(3).reshape(1, 3, 1) + 7 * np.arange(6)).astype(np.int64),
        },
    ),
    "dropout": (one("Dropout", "r"), {"r": np.array(0.4, dtype=np.float32)}),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_each_operator_gives_what_the_runtime_gives(name: str, tmp_path: Path) -> None:
    nodes, constants = OPERATORS[name]
    path = write(tmp_path / "model.onnx", nodes, constants)
    network = lifted_network(reader.read(path))
    images = weights(3, 4, 6, 6)
    (wanted,) = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"x": images})
    with torch.no_grad():
        found = network(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("nodes", "constants", "reason"),
    [
        (one("Resize", "", "s", mode="cubic", exclude_outside=1), {"s": np.ones(4, np.float32)}, "another cubic curve"),
        (one("DepthToSpace", blocksize=2**20), {}, "its blocks are of 1048576"),
        (one("Unsqueeze", "a"), {"a": ints(*range(4, 20))}, "adds more than 8 dimensions"),
        (one("Flatten", axis=0), {}, "mixes the batch"),
        (
            one("ScatterND", "i", "u", reduction="add"),
            {"i": ints(0).reshape(1, 1), "u": weights(1, 4, 6, 6)},
            "combines",
        ),
        (one("AveragePool", kernel_shape=[2, 2], dilations=[2, 2]), {}, "dilated window"),
        (one("CumSum", "a", reverse=1), {"a": ints(1)}, "backwards"),
    ],
)
def test_what_operators_of_torch_do_not_compute_is_refused(
    nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray[Any, Any]], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidModel, match=f"{nodes[0].op_type} .* cannot be read here: .*{reason}"):
        reader.read(write(tmp_path / "model.onnx", nodes, constants, opset=19))
