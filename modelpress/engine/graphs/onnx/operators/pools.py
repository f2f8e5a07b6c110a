"""Pools and reductions."""

from __future__ import annotations

import onnx

from modelpress.engine.graphs.onnx.node import Attributes, Converter, optional
from modelpress.engine.graphs.onnx.operators.padding import ends, pad_ends
from modelpress.engine.graphs.onnx.translation import Translation, Untranslatable
from modelpress.spec.graph import Argument, ValueOf, WeightOf


def pool(operator: str, fill: float) -> Converter:
    def convert(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
        kernel = list(given["kernel_shape"])
        strides = list(given.get("strides", [1] * len(kernel)))
        average = operator == "avg_pool"
        before, after = ends(on, node.input[0], given, kernel, strides)
        images = on.tensor(node.input[0])
        value, padding = images, before
        counted = bool(given.get("count_include_pad", 0))
        # Layers pad both ends alike, and by half of the window at most.
        border = before != after or any(not 0 <= 2 * pad <= width for pad, width in zip(before, kernel, strict=True))
        if border:
            value, padding = pad_ends(on, images, (before, after), fill), [0] * len(kernel)
        if len(node.output) > 1 or given.get("storage_order", 0):
            raise Untranslatable("it gives the places of its maxima")
        ceil = bool(given.get("ceil_mode", 0))
        if average:
            if any(size != 1 for size in given.get("dilations", [1])):
                raise Untranslatable("it averages over a dilated window")
            more: tuple[Argument, ...] = (ceil, counted)
        else:
            more = (tuple(given.get("dilations", [1] * len(kernel))), ceil)
        window = (f"{operator}{len(kernel)}d.default", (tuple(kernel), tuple(strides), tuple(padding), *more))
        result = on.call(window[0], value, *window[1])
        if average and border and not counted:
            # The border was counted: divide by the share of each window that lies within the image.
            within = pad_ends(on, on.call("ones_like.default", images), (before, after), fill)
            result = on.call("div.Tensor", result, on.call(window[0], within, *window[1]))
        on.gives(node.output[0], result)

    return convert


def global_average(on: Translation, node: onnx.NodeProto, _given: Attributes) -> None:
    dimensions = len(on.shape(node.input[0])) - 2
    value = on.call(f"adaptive_avg_pool{dimensions}d.default", on.tensor(node.input[0]), (1,) * dimensions)
    on.gives(node.output[0], value)


def global_max(on: Translation, node: onnx.NodeProto, _given: Attributes) -> None:
    dimensions = tuple(range(2, len(on.shape(node.input[0]))))
    on.gives(node.output[0], on.call("amax.default", on.tensor(node.input[0]), dimensions, True))


def reduction(operator: str, *, order: int | None = None, squared: bool = False) -> Converter:
    """The converter of a reduction: by a norm of an `order`, or of the squares."""

    def convert(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
        named = optional(node, 1)
        axes = given.get("axes") if named is None else on.numbers(named)
        if not axes:
            if given.get("noop_with_empty_axes", 0):
                on.same(node.output[0], node.input[0])
                return
            axes = range(len(on.shape(node.input[0])))
        keep = bool(given.get("keepdims", 1))
        value: ValueOf | WeightOf = on.tensor(node.input[0])
        if squared:
            value = on.call("mul.Tensor", value, value)
        power = () if order is None else (order,)
        on.gives(node.output[0], on.call(operator, value, *power, tuple(axes), keep))

    return convert
