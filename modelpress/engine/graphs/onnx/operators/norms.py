"""Norms."""

from __future__ import annotations

import onnx

from modelpress.engine.graphs.onnx.node import Attributes, optional
from modelpress.engine.graphs.onnx.translation import Translation, Untranslatable

_MOST_NEIGHBOURS = 4096


def batch_norm(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
    if given.get("training_mode", 0):
        raise Untranslatable("it is in training; export the model with model.eval()")
    names = ("weight", "bias", "running_mean", "running_var")
    if any(on.constant(name) is None for name in node.input[1:5]):
        raise Untranslatable("its statistics are computed")
    held = [on.weight(name, role, own_copy=True) for name, role in zip(node.input[1:5], names, strict=True)]
    momentum = 1.0 - given.get("momentum", 0.9)
    epsilon = given.get("epsilon", 1e-5)
    value = on.call("batch_norm.default", on.tensor(node.input[0]), *held, False, momentum, epsilon, False)
    on.gives(node.output[0], value)


def layer_norm(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
    scale, bias = on.constant(node.input[1]), optional(node, 2)
    rank = len(on.shape(node.input[0]))
    axis = given.get("axis", -1) % rank
    if scale is None or scale.ndim != rank - axis:
        raise Untranslatable("its scale is computed, or is for other dimensions than it norms")
    if any(on.uses[name] for name in node.output[1:]):
        raise Untranslatable("its mean or its deviation is used")
    value = on.call(
        "layer_norm.default",
        on.tensor(node.input[0]),
        tuple(scale.shape),
        on.weight(node.input[1], "weight", own_copy=True),
        None if bias is None else on.weight(bias, "bias", own_copy=True),
        given.get("epsilon", 1e-5),
    )
    on.gives(node.output[0], value)


def group_norm(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
    channels = on.shape(node.input[0])[1]
    scale = on.constant(node.input[1])
    if scale is None or scale.shape != (channels,):
        raise Untranslatable("its scale is one of each group")
    held = on.weight(node.input[1], "weight", own_copy=True), on.weight(node.input[2], "bias", own_copy=True)
    epsilon = given.get("epsilon", 1e-5)
    value = on.call("group_norm.default", on.tensor(node.input[0]), given["num_groups"], *held, epsilon)
    on.gives(node.output[0], value)


def local_response_norm(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
    """Krizhevsky et al. 2012, section 3.3: each channel divided by a power of its neighbours' mean square."""
    size, value = given["size"], on.tensor(node.input[0])
    if len(on.shape(node.input[0])) != 4 or not 1 <= size <= _MOST_NEIGHBOURS:
        raise Untranslatable(f"it is of {size} channels, or not of images")
    squares = on.call("unsqueeze.default", on.call("mul.Tensor", value, value), 1)
    padded = on.call("constant_pad_nd.default", squares, (0, 0, 0, 0, (size - 1) // 2, size // 2), 0.0)
    means = on.call("squeeze.dims", on.call("avg_pool3d.default", padded, (size, 1, 1), (1, 1, 1)), (1,))
    scaled = on.call("add.Tensor", on.call("mul.Tensor", means, given.get("alpha", 1e-4)), given.get("bias", 1.0))
    on.gives(
        node.output[0],
        on.call("div.Tensor", value, on.call("pow.Tensor_Scalar", scaled, given.get("beta", 0.75))),
    )


def instance_norm(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
    channels = on.shape(node.input[0])[1]
    held = on.weight(node.input[1], "weight", own_copy=True), on.weight(node.input[2], "bias", own_copy=True)
    # One channel in each group (Wu and He 2018, section 3).
    value = on.call("group_norm.default", on.tensor(node.input[0]), channels, *held, given.get("epsilon", 1e-5))
    on.gives(node.output[0], value)
