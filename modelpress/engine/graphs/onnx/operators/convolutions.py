"""Convolutions."""

from __future__ import annotations

import onnx

from modelpress.engine.graphs.onnx.node import Attributes, optional
from modelpress.engine.graphs.onnx.operators.padding import Ends, ends, halves, pad_ends
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
    before, after = ends(on, node.input[0], given, kernel, strides)
    value, padding = on.tensor(node.input[0]), before
    if before != after or min(before) < 0:
        value, padding = pad_ends(on, value, (before, after), 0.0), [0] * dimensions
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
    strides = tuple(given.get("strides", [1] * dimensions))
    more = list(given.get("output_padding", [0] * dimensions))
    before, after = _cut_off(on, node, given, list(found.shape[2:]))
    # Layers cut both ends alike; more output at the end is as good as less cut off there.
    more = [extra + max(first - last, 0) for extra, first, last in zip(more, before, after, strict=True)]
    late = [max(last - first, 0) for first, last in zip(before, after, strict=True)]
    dilations = tuple(given.get("dilations", [1] * dimensions))
    if min(before + after) < 0 or any(
        extra >= max(stride, dilation) for extra, stride, dilation in zip(more, strides, dilations, strict=True)
    ):
        raise Untranslatable("it cuts off its ends too differently")
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
        dilations,
    )
    for index, cut in enumerate(late):
        if cut:
            result = on.call("slice.Tensor", result, 2 + index, 0, -cut, 1)
    on.gives(node.output[0], result)


def _cut_off(on: Translation, node: onnx.NodeProto, given: Attributes, kernel: list[int]) -> Ends:
    """How much of the output is cut off at its ends, where it is said, or follows from the output's size."""
    dimensions = len(kernel)
    mode, shape = given.get("auto_pad", "NOTSET"), given.get("output_shape")
    if shape is None and mode in ("NOTSET", "VALID"):
        pads = list(given.get("pads", [0] * 2 * dimensions))
        return pads[:dimensions], pads[dimensions:]
    sizes = on.shape(node.input[0])[2:]
    strides, dilations = given.get("strides", [1] * dimensions), given.get("dilations", [1] * dimensions)
    more = given.get("output_padding", [0] * dimensions)
    totals = []
    for index, size in enumerate(sizes):
        if size is None:
            raise Untranslatable("its padding follows from the output's size, which is not known")
        whole = strides[index] * (size - 1) + more[index] + dilations[index] * (kernel[index] - 1) + 1
        totals.append(whole - (size * strides[index] if shape is None else shape[-dimensions:][index]))
    return halves(totals, mode)
