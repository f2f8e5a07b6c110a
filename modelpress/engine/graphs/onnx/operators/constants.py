"""Constants, types of numbers, and what passes its input on."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

from modelpress.engine.graphs.onnx.node import Attributes, optional
from modelpress.engine.graphs.onnx.translation import Translation, Untranslatable
from modelpress.spec.graph import DataType, InputDevice

_DTYPES = {
    onnx.TensorProto.FLOAT: "float32",
    onnx.TensorProto.FLOAT16: "float16",
    onnx.TensorProto.BFLOAT16: "bfloat16",
    onnx.TensorProto.DOUBLE: "float64",
    onnx.TensorProto.INT8: "int8",
    onnx.TensorProto.UINT8: "uint8",
    onnx.TensorProto.INT16: "int16",
    onnx.TensorProto.INT32: "int32",
    onnx.TensorProto.INT64: "int64",
    onnx.TensorProto.BOOL: "bool",
}


def constant(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
    match given:
        case {"value": onnx.TensorProto() as tensor}:
            on.gives_constant(node.output[0], numpy_helper.to_array(tensor))
        case {"value_float": number}:
            on.gives_constant(node.output[0], np.array(number, dtype=np.float32))
        case {"value_floats": numbers}:
            on.gives_constant(node.output[0], np.array(numbers, dtype=np.float32))
        case {"value_int": number} | {"value_ints": number}:
            on.gives_constant(node.output[0], np.array(number, dtype=np.int64))
        case _:
            raise Untranslatable("it holds something else than dense numbers")


def constant_of_shape(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
    sizes = on.sizes(node.input[0])
    fill = numpy_helper.to_array(given["value"]).reshape(-1) if "value" in given else np.zeros(1, np.float32)
    if sizes is None:
        raise Untranslatable("the shape that it gives is computed from values")
    dtype = DataType.model_validate({"dtype": str(fill.dtype)})
    on.gives(node.output[0], on.call("full.default", tuple(sizes), fill[0].item(), dtype=dtype, device=InputDevice()))


def same(on: Translation, node: onnx.NodeProto, _given: Attributes) -> None:
    on.same(node.output[0], node.input[0])


def dropout(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
    named = optional(node, 1)
    share = given.get("ratio", 0.5) if named is None else float(on.numbers(named)[0])
    training = optional(node, 2)
    if training is not None and (on.constant(training) is None or np.any(on.constant(training))):
        raise Untranslatable("it is in training; export the model with model.eval()")
    if len(node.output) > 1 and on.uses[node.output[1]]:
        raise Untranslatable("its mask is used")
    on.gives(node.output[0], on.call("dropout.default", on.tensor(node.input[0]), share, False))


def cast(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
    if given["to"] not in _DTYPES:
        raise Untranslatable("it makes numbers of a type that is not known here")
    if on.sizes(node.input[0]) is not None and on.constant(node.input[0]) is None:
        on.same(node.output[0], node.input[0])  # sizes stay whole numbers
        return
    constant = on.constant(node.input[0])
    if constant is not None:
        on.gives_constant(node.output[0], constant.astype(_DTYPES[given["to"]]))
        return
    dtype = DataType.model_validate({"dtype": _DTYPES[given["to"]]})
    on.gives(node.output[0], on.call("to.dtype", on.tensor(node.input[0]), dtype))
