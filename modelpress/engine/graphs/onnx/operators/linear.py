"""Products of matrices, and linear layers among them."""

from __future__ import annotations

import onnx

from modelpress.engine.graphs.onnx.node import Attributes, optional
from modelpress.engine.graphs.onnx.operators import arithmetic
from modelpress.engine.graphs.onnx.translation import Translation, Untranslatable
from modelpress.spec.graph import ValueOf, WeightOf


def gemm(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
    weight, bias = on.constant(node.input[1]), optional(node, 2)
    if given.get("transA", 0) or weight is None or (given.get("alpha", 1.0), given.get("beta", 1.0)) != (1.0, 1.0):
        raise Untranslatable("it scales or transposes what it multiplies, or multiplies two values")
    held = on.weight(node.input[1], "weight") if given.get("transB", 0) else on.linear_weight(node.input[1], bias)
    outputs = weight.shape[0 if given.get("transB", 0) else 1]
    found = None if bias is None else on.constant(bias)
    if bias is None:
        on.gives(node.output[0], on.call("linear.default", on.tensor(node.input[0]), held))
    elif found is not None and found.shape == (outputs,):
        on.gives(node.output[0], on.call("linear.default", on.tensor(node.input[0]), held, on.weight(bias, "bias")))
    else:
        product = on.call("linear.default", on.tensor(node.input[0]), held)
        on.gives(node.output[0], on.call("add.Tensor", product, on.operand(bias)))


def matmul(on: Translation, node: onnx.NodeProto, _given: Attributes) -> None:
    matrix = on.constant(node.input[1])
    if matrix is None or matrix.ndim != 2 or on.uses[node.input[1]] > 1:
        on.gives(node.output[0], on.call("matmul.default", on.tensor(node.input[0]), on.tensor(node.input[1])))
        return
    # A constant row that is added to it, next, is the layer's bias.
    bias = next((name for name in on.added_to(node.output[0]) if on.constant(name) is not None), None)
    weight = on.linear_weight(node.input[1], bias)
    on.gives(node.output[0], on.call("linear.default", on.tensor(node.input[0]), weight))


def add(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
    """An addition or, where it adds a constant to what a linear layer alone gave it, that layer's bias."""
    for value, other in ((node.input[0], node.input[1]), (node.input[1], node.input[0])):
        bias, last = on.constant(other), on.nodes[-1] if on.nodes else None
        if (
            bias is None
            or bias.ndim != 1
            or last is None
            or last.operator != "linear.default"
            or len(last.arguments) != 2
        ):
            continue
        weight = last.arguments[1]
        if (
            isinstance(weight, WeightOf)
            and on.uses[value] == 1
            and on.operand(value) == ValueOf(value=last.outputs[0])
            and len(on.state[weight.weight]) == len(bias)
        ):
            on.scope = on.scopes.get(last.outputs[0], on.scope)
            on.nodes[-1] = last.model_copy(update={"arguments": (*last.arguments, on.weight(other, "bias"))})
            on.gives(node.output[0], ValueOf(value=last.outputs[0]))
            return
    if (
        on.constant(node.input[0]) is not None
        and on.constant(node.input[1]) is None
        and on.sizes(node.input[1]) is None
    ):
        on.gives(node.output[0], on.call("add.Tensor", on.tensor(node.input[1]), on.operand(node.input[0])))
        return
    arithmetic.binary("add.Tensor")(on, node, given)


def einsum(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
    on.gives(
        node.output[0], on.call("einsum.default", given["equation"], tuple(on.tensor(name) for name in node.input))
    )
