"""Activations."""

from __future__ import annotations

import math

import onnx
import torch

from modelpress.engine.graphs.onnx.node import Attributes, Converter, optional
from modelpress.engine.graphs.onnx.translation import Translation
from modelpress.spec.graph import WeightOf

# Before this opset a softmax was one of a matrix.
_SOFTMAX_OF_ONE_AXIS = 13


def leaky_relu(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
    on.gives(node.output[0], on.call("leaky_relu.default", on.tensor(node.input[0]), given.get("alpha", 0.01)))


def elu(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
    on.gives(node.output[0], on.call("elu.default", on.tensor(node.input[0]), given.get("alpha", 1.0)))


def selu(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
    # Klambauer et al. 2017, equation 2.
    alpha, gamma = given.get("alpha", 1.67326319217681884765625), given.get("gamma", 1.05070102214813232421875)
    on.gives(node.output[0], on.call("elu.default", on.tensor(node.input[0]), alpha, gamma))


def celu(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
    on.gives(node.output[0], on.call("celu.default", on.tensor(node.input[0]), given.get("alpha", 1.0)))


def softsign(on: Translation, node: onnx.NodeProto, _given: Attributes) -> None:
    value = on.tensor(node.input[0])
    on.gives(node.output[0], on.call("div.Tensor", value, on.call("add.Tensor", on.call("abs.default", value), 1)))


def gelu(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
    kind = given.get("approximate", "none")
    on.gives(node.output[0], on.call("gelu.default", on.tensor(node.input[0]), approximate=kind))


def hard_sigmoid(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
    alpha, beta = given.get("alpha", 0.2), given.get("beta", 0.5)
    if math.isclose(alpha, 1 / 6, rel_tol=1e-6) and beta == 0.5:
        on.gives(node.output[0], on.call("hardsigmoid.default", on.tensor(node.input[0])))
        return
    line = on.call("add.Tensor", on.call("mul.Tensor", on.tensor(node.input[0]), alpha), beta)
    on.gives(node.output[0], on.call("clamp.default", line, 0, 1))


def prelu(on: Translation, node: onnx.NodeProto, _given: Attributes) -> None:
    slope = on.constant(node.input[1])
    channels = on.shape(node.input[0])[1]
    if slope is None or slope.size not in (1, channels) or (slope.ndim > 1 and slope.size != slope.shape[0]):
        # Slopes that are not one for each channel: max(x, 0) + slope * min(x, 0).
        value = on.tensor(node.input[0])
        below = on.call("mul.Tensor", on.call("clamp.default", value, None, 0), on.tensor(node.input[1]))
        on.gives(node.output[0], on.call("add.Tensor", on.call("relu.default", value), below))
        return
    name = on.new_weight(
        f"{on.scope}.weight" if on.scope else "prelu.weight", torch.from_numpy(slope.reshape(-1).copy())
    )
    on.gives(node.output[0], on.call("prelu.default", on.tensor(node.input[0]), WeightOf(weight=name)))


def clip(on: Translation, node: onnx.NodeProto, _given: Attributes) -> None:
    bounds = [None if (name := optional(node, index)) is None else on.numbers(name)[0] for index in (1, 2)]
    if None not in bounds and all(math.isfinite(bound) for bound in bounds if bound is not None):
        on.gives(node.output[0], on.call("hardtanh.default", on.tensor(node.input[0]), *bounds))
    else:
        kept = [bound if bound is not None and math.isfinite(bound) else None for bound in bounds]
        on.gives(node.output[0], on.call("clamp.default", on.tensor(node.input[0]), *kept))


def softmax(operator: str) -> Converter:
    def convert(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
        value, rank = on.tensor(node.input[0]), len(on.shape(node.input[0]))
        axis = given.get("axis", -1 if on.opset >= _SOFTMAX_OF_ONE_AXIS else 1) % rank
        if on.opset >= _SOFTMAX_OF_ONE_AXIS or axis == rank - 1:
            on.gives(node.output[0], on.call(operator, value, axis))
            return
        # Of all dimensions from the axis on, taken as one.
        flat = on.call(operator, on.call("flatten.using_ints", value, axis), -1)
        on.gives(node.output[0], on.call("view_as.default", flat, value))

    return convert
