"""Pools and reductions."""

from __future__ import annotations

import onnx

from modelpress.engine.graphs.onnx.node import Attributes, Converter, optional
from modelpress.engine.graphs.onnx.operators.padding import padded
from modelpress.engine.graphs.onnx.translation import Translation, Untranslatable
from modelpress.spec.graph import Argument


def pool(operator: str, fill: float) -> Converter:
    def convert(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
        kernel = list(given["kernel_shape"])
        strides = list(given.get("strides", [1] * len(kernel)))
        average = operator == "avg_pool"
        value, padding = padded(on, node.input[0], given, kernel, strides, fill)
        counted = bool(given.get("count_include_pad", 0))
        if any(2 * pad > width for pad, width in zip(padding, kernel, strict=True)):
            raise Untranslatable("it pads by more than half of its window")
        if average and value != on.tensor(node.input[0]) and not counted:
            raise Untranslatable("it averages over a border that differs between its ends")
        if len(node.output) > 1 or given.get("storage_order", 0):
            raise Untranslatable("it gives the places of its maxima")
        ceil = bool(given.get("ceil_mode", 0))
        if average:
            if any(size != 1 for size in given.get("dilations", [1])):
                raise Untranslatable("it averages over a dilated window")
            more: tuple[Argument, ...] = (ceil, counted)
        else:
            more = (tuple(given.get("dilations", [1] * len(kernel))), ceil)
        result = on.call(
            f"{operator}{len(kernel)}d.default", value, tuple(kernel), tuple(strides), tuple(padding), *more
        )
        on.gives(node.output[0], result)

    return convert


def global_average(on: Translation, node: onnx.NodeProto, _given: Attributes) -> None:
    dimensions = len(on.shape(node.input[0])) - 2
    value = on.call(f"adaptive_avg_pool{dimensions}d.default", on.tensor(node.input[0]), (1,) * dimensions)
    on.gives(node.output[0], value)


def global_max(on: Translation, node: onnx.NodeProto, _given: Attributes) -> None:
    dimensions = tuple(range(2, len(on.shape(node.input[0]))))
    on.gives(node.output[0], on.call("amax.default", on.tensor(node.input[0]), dimensions, True))


def reduction(operator: str) -> Converter:
    def convert(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
        named = optional(node, 1)
        axes = given.get("axes") if named is None else on.numbers(named)
        if not axes:
            if given.get("noop_with_empty_axes", 0):
                on.same(node.output[0], node.input[0])
                return
            axes = range(len(on.shape(node.input[0])))
        keep = bool(given.get("keepdims", 1))
        value = on.tensor(node.input[0])
        if operator == "linalg_vector_norm.default":
            on.gives(node.output[0], on.call(operator, value, 2, tuple(axes), keep))
        else:
            on.gives(node.output[0], on.call(operator, value, tuple(axes), keep))

    return convert
