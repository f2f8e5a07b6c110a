"""Convolutions."""

from __future__ import annotations

import onnx

from modelpress.engine.graphs.onnx.node import Attributes, optional
from modelpress.engine.graphs.onnx.operators.padding import padded
from modelpress.engine.graphs.onnx.translation import Translation, Untranslatable


def conv(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
    name = node.input[1]
    found = on.constant(name)
    shape = list(found.shape) if found is not None else on.shape(name)
    if None in shape:
        raise Untranslatable("the size of its kernel is not known")
    dimensions = len(shape) - 2
    if not 1 <= dimensions <= 3:
        raise Untranslatable(f"it convolves over {dimensions} dimensions")
    kernel = [size for size in shape[2:] if size is not None]
    strides = list(given.get("strides", [1] * dimensions))
    value, padding = padded(on, node.input[0], given, kernel, strides, 0.0)
    weight = on.weight(name, "weight") if found is not None else on.tensor(name)
    bias = optional(node, 2)
    held = None if bias is None else on.weight(bias, "bias") if on.constant(bias) is not None else on.tensor(bias)
    dilation = tuple(given.get("dilations", [1] * dimensions))
    result = on.call(
        f"conv{dimensions}d.default",
        value,
        weight,
        held,
        tuple(strides),
        tuple(padding),
        dilation,
        given.get("group", 1),
    )
    on.gives(node.output[0], result)


def conv_transpose(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
    found = on.constant(node.input[1])
    if found is None or not 3 <= found.ndim <= 5:
        raise Untranslatable("its kernel is computed")
    dimensions = found.ndim - 2
    if given.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID") or "output_shape" in given:
        raise Untranslatable("its padding follows from the output's shape")
    pads = list(given.get("pads", [0] * 2 * dimensions))
    before, after = pads[:dimensions], pads[dimensions:]
    more = list(given.get("output_padding", [0] * dimensions))
    # What is cut off at one end alone is as much output that is not made there.
    more = [extra + first - last for extra, first, last in zip(more, before, after, strict=True)]
    strides = tuple(given.get("strides", [1] * dimensions))
    if any(not 0 <= extra < stride for extra, stride in zip(more, strides, strict=True)):
        raise Untranslatable("its padding differs between its ends")
    bias = optional(node, 2)
    overload = "default" if dimensions == 1 else "input"
    result = on.call(
        f"conv_transpose{dimensions}d.{overload}",
        on.tensor(node.input[0]),
        on.weight(node.input[1], "weight"),
        None if bias is None else on.weight(bias, "bias"),
        strides,
        tuple(before),
        tuple(more),
        given.get("group", 1),
        tuple(given.get("dilations", [1] * dimensions)),
    )
    on.gives(node.output[0], result)
