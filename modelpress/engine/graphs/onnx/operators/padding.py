"""Padding: ONNX's differs between the ends of a dimension, that of torch's layers does not."""

from __future__ import annotations

import math
from collections.abc import Sequence

import onnx

from modelpress.engine.graphs.onnx.node import Attributes, optional
from modelpress.engine.graphs.onnx.translation import Translation, Untranslatable
from modelpress.spec.graph import Argument, Infinite, ValueOf, WeightOf

Ends = tuple[list[int], list[int]]
"""How much is added at the beginning and at the end of each of an image's dimensions."""


def ends(on: Translation, name: str, given: Attributes, kernel: Sequence[int], strides: Sequence[int]) -> Ends:
    """How a window's attributes have the image `name` padded. Raises Untranslatable where that depends on its size."""
    dimensions = len(kernel)
    dilations = given.get("dilations", [1] * dimensions)
    pads = list(given.get("pads", [0] * 2 * dimensions))
    mode = given.get("auto_pad", "NOTSET")
    if mode == "VALID":
        pads = [0] * 2 * dimensions
    elif mode != "NOTSET":
        totals = []
        for size, width, stride, dilation in zip(on.shape(name)[2:], kernel, strides, dilations, strict=True):
            if size is None:
                raise Untranslatable("auto_pad needs to know the size of its input")
            totals.append(max(0, (math.ceil(size / stride) - 1) * stride + dilation * (width - 1) + 1 - size))
        return halves(totals, mode)
    return pads[:dimensions], pads[dimensions:]


def halves(totals: Sequence[int], mode: str) -> Ends:
    """Padding of both ends together, the odd one at the end (SAME_UPPER) or at the beginning."""
    less, more = [total // 2 for total in totals], [total - total // 2 for total in totals]
    return (less, more) if mode == "SAME_UPPER" else (more, less)


def pad_ends(on: Translation, value: ValueOf | WeightOf, added: Ends, fill: float) -> ValueOf:
    """Images with `fill` around them."""
    # Pairs from the last dimension to the first.
    listed = tuple(pad for pair in reversed(list(zip(*added, strict=True))) for pad in pair)
    return on.call("constant_pad_nd.default", value, listed, fill if math.isfinite(fill) else infinite(fill))


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
