"""Padding: ONNX's differs between the ends of a dimension, that of torch's layers does not."""

from __future__ import annotations

import math
from collections.abc import Sequence

import onnx

from modelpress.engine.graphs.onnx.node import Attributes, optional
from modelpress.engine.graphs.onnx.translation import Translation, Untranslatable
from modelpress.spec.graph import Argument, Infinite, ValueOf, WeightOf


def padded(
    on: Translation, name: str, given: Attributes, kernel: Sequence[int], strides: Sequence[int], fill: float
) -> tuple[ValueOf | WeightOf, list[int]]:
    """The input with what a layer of torch cannot pad itself, and the padding that it can."""
    dimensions = len(kernel)
    dilations = given.get("dilations", [1] * dimensions)
    pads = list(given.get("pads", [0] * 2 * dimensions))
    mode = given.get("auto_pad", "NOTSET")
    if mode == "VALID":
        pads = [0] * 2 * dimensions
    elif mode != "NOTSET":
        sizes = on.shape(name)[2:]
        totals = []
        for size, width, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
            if size is None:
                raise Untranslatable("auto_pad needs to know the size of its input")
            totals.append(max(0, (math.ceil(size / stride) - 1) * stride + dilation * (width - 1) + 1 - size))
        less, more = [total // 2 for total in totals], [total - total // 2 for total in totals]
        pads = less + more if mode == "SAME_UPPER" else more + less
    before, after = pads[:dimensions], pads[dimensions:]
    value = on.tensor(name)
    # torch pads pools by half of the window at most, and both sides alike.
    if before == after and all(pad >= 0 for pad in before):
        return value, before
    # Pairs from the last dimension to the first.
    listed = tuple(pad for pair in reversed(list(zip(before, after, strict=True))) for pad in pair)
    filled: Argument = fill if math.isfinite(fill) else infinite(fill)
    return on.call("constant_pad_nd.default", value, listed, filled), [0] * dimensions


def infinite(number: float) -> Argument:
    """An infinite number as an argument."""
    return Infinite.model_validate({"number": "inf" if number > 0 else "-inf"})


def pad(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
    pads, named = on.numbers(node.input[1]), optional(node, 2)
    fill = 0.0 if named is None else float(on.numbers(named)[0])
    mode, rank = given.get("mode", "constant"), len(on.shape(node.input[0]))
    if optional(node, 3) is not None and on.numbers(node.input[3]) != list(range(rank)):
        axes = [axis % rank for axis in on.numbers(node.input[3])]
        spread = [0] * 2 * rank
        for index, axis in enumerate(axes):
            spread[axis], spread[rank + axis] = pads[index], pads[len(axes) + index]
        pads = spread
    pairs = list(zip(pads[:rank], pads[rank:], strict=True))
    while pairs and pairs[0] == (0, 0):
        pairs.pop(0)
    listed = tuple(number for pair in reversed(pairs) for number in pair)
    if not listed:
        on.same(node.output[0], node.input[0])
        return
    names = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}
    if mode not in names:
        raise Untranslatable(f"it pads in mode {mode[:20]!r}")
    value = on.tensor(node.input[0])
    if mode == "constant":
        filled: Argument = fill if math.isfinite(fill) else infinite(fill)
        on.gives(node.output[0], on.call("constant_pad_nd.default", value, listed, filled))
    else:
        on.gives(node.output[0], on.call("pad.default", value, listed, names[mode]))
