"""Operators that ask for shapes or change them."""

from __future__ import annotations

import math

import numpy as np
import onnx

from modelpress.engine.graphs.onnx.node import Attributes, optional
from modelpress.engine.graphs.onnx.translation import Places, Size, Translation, Untranslatable
from modelpress.spec.graph import Argument, ValueOf, WeightOf

_LARGEST_BLOCK = 64
_MOST_NEW = 8


def shape(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
    shape = on.shape(node.input[0])
    start, end, _ = slice(given.get("start", 0), given.get("end")).indices(len(shape))
    sizes: list[Size] = []
    for index in range(start, end):
        size = shape[index]
        # The batch's size is asked for each time: what was exported for one has to run for any.
        sizes.append(size if size is not None else on.call("sym_size.int", on.tensor(node.input[0]), index))
    on.gives_sizes(node.output[0], sizes)


def reshape(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
    sizes = on.sizes(node.input[1])
    if sizes is None:
        raise Untranslatable("the shape that it gives is computed from values")
    if on.sizes(node.input[0]) is not None and on.constant(node.input[0]) is None:
        on.same(node.output[0], node.input[0])  # a shape is a row of numbers, whatever shape it has
        return
    old = on.shape(node.input[0])
    new: list[Size] = []
    for index, size in enumerate(sizes):
        if size != 0 or given.get("allowzero", 0):
            new.append(size)
            continue
        # 0 stands for the input's own size there.
        if index >= len(old):
            raise Untranslatable("it copies a dimension that its input has not")
        own = old[index]
        new.append(own if own is not None else on.call("sym_size.int", on.tensor(node.input[0]), index))
    on.gives(node.output[0], on.call("reshape.default", on.tensor(node.input[0]), tuple(new)))


def flatten(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
    rank = len(on.shape(node.input[0]))
    axis = given.get("axis", 1)
    axis = axis + rank if axis < 0 else axis
    if axis == 1:
        on.gives(node.output[0], on.call("flatten.using_ints", on.tensor(node.input[0]), 1))
        return
    rows = on.shape(node.input[0])[axis:]
    if axis == 0 or None in rows:
        raise Untranslatable("it mixes the batch with what it flattens")
    length = math.prod(size for size in rows if size is not None)
    on.gives(node.output[0], on.call("reshape.default", on.tensor(node.input[0]), (-1, length)))


def transpose(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
    order = given.get("perm") or list(range(len(on.shape(node.input[0]))))[::-1]
    value: Argument = on.tensor(node.input[0])
    before = on.made_by(value)
    if before is not None and before.operator == "permute.default" and isinstance(before.arguments[1], tuple):
        # Two in a row are one; or none, where a network with channels last begins, and around each of its layers.
        order, value = [before.arguments[1][index] for index in order], before.arguments[0]
    if order == sorted(order) and isinstance(value, ValueOf):
        on.gives(node.output[0], value)
    else:
        on.gives(node.output[0], on.call("permute.default", value, tuple(order)))


def _axes(on: Translation, node: onnx.NodeProto, given: Attributes) -> list[int] | None:
    named = optional(node, 1)
    return given.get("axes") if named is None else on.numbers(named)


def squeeze(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
    if on.sizes(node.input[0]) is not None and on.constant(node.input[0]) is None:
        on.same(node.output[0], node.input[0])
        return
    axes = _axes(on, node, given)
    if axes is None:
        shape = on.shape(node.input[0])
        axes = [index for index, size in enumerate(shape) if size == 1]
    on.gives(node.output[0], on.call("squeeze.dims", on.tensor(node.input[0]), tuple(axes)))


def unsqueeze(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
    if on.sizes(node.input[0]) is not None and on.constant(node.input[0]) is None:
        on.same(node.output[0], node.input[0])
        return
    axes = _axes(on, node, given) or []
    if len(axes) > _MOST_NEW:
        raise Untranslatable(f"it adds more than {_MOST_NEW} dimensions")
    rank = len(on.shape(node.input[0])) + len(axes)
    value: ValueOf | WeightOf = on.tensor(node.input[0])
    for axis in sorted(axis % rank for axis in axes):
        value = on.call("unsqueeze.default", value, axis)
    on.gives(node.output[0], value if isinstance(value, ValueOf) else on.call("alias.default", value))
    places = on.places(node.input[0])
    if places is not None and min(axis % rank for axis in axes) > 0:
        within = np.expand_dims(places.within, tuple(axis % rank for axis in axes))
        on.gives_places(node.output[0], Places(places.count, places.step, within))


def expand(on: Translation, node: onnx.NodeProto, _given: Attributes) -> None:
    sizes = on.sizes(node.input[1])
    if sizes is None:
        raise Untranslatable("the shape that it gives is computed from values")
    old = on.shape(node.input[0])
    rank = max(len(old), len(sizes))
    before: list[int | None] = [*[None] * (rank - len(old)), *old]
    asked: list[Size] = [*[1] * (rank - len(sizes)), *sizes]
    # A 1, or the size that it has, leaves the input's own, which torch says by -1; not for a new dimension.
    shape = tuple(
        -1 if index >= rank - len(old) and size in (1, own) else size
        for index, (size, own) in enumerate(zip(asked, before, strict=True))
    )
    if len(old) == rank and set(shape) <= {-1}:
        on.same(node.output[0], node.input[0])
        return
    on.gives(node.output[0], on.call("expand.default", on.tensor(node.input[0]), shape))


def concat(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
    sizes = [on.sizes(name) for name in node.input]
    if any(on.constant(name) is None for name in node.input) and all(size is not None for size in sizes):
        on.gives_sizes(node.output[0], [number for size in sizes if size is not None for number in size])
        return
    values = tuple(on.tensor(name) for name in node.input)
    on.gives(node.output[0], on.call("cat.default", values, given["axis"]))


def split(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
    named, axis = optional(node, 1), given.get("axis", 0)
    if named is None and "split" in given:
        parts = list(given["split"])
    elif named is None:
        size = on.shape(node.input[0])[axis]
        if size is None:
            raise Untranslatable("the size of what it splits is not known")
        part = math.ceil(size / len(node.output))
        parts = [min(part, size - index * part) for index in range(len(node.output))]
    else:
        parts = on.numbers(named)
    on.call("split_with_sizes.default", on.tensor(node.input[0]), tuple(parts), axis, outputs=len(node.output))
    for name, value in zip(node.output, on.last_outputs(), strict=True):
        on.gives(name, ValueOf(value=value))


def tile(on: Translation, node: onnx.NodeProto, _given: Attributes) -> None:
    repeats = on.sizes(node.input[1])
    if repeats is None:
        raise Untranslatable("how often it repeats is computed from values")
    on.gives(node.output[0], on.call("repeat.default", on.tensor(node.input[0]), tuple(repeats)))


def depth_to_space(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
    value, block = on.tensor(node.input[0]), _block(given)
    if given.get("mode", "DCR") == "DCR":
        # torch takes the channels of a block to lie side by side (mode CRD), here they are far apart.
        channels = np.arange(_channels(on, node.input[0])).reshape(block, block, -1).transpose(2, 0, 1)
        value = on.call("index_select.default", value, 1, on.fixed_weight("channels", channels.reshape(-1)))
    on.gives(node.output[0], on.call("pixel_shuffle.default", value, block))


def space_to_depth(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
    block = _block(given)
    channels = np.arange(_channels(on, node.input[0]) * block**2).reshape(-1, block, block).transpose(1, 2, 0)
    value = on.call("pixel_unshuffle.default", on.tensor(node.input[0]), block)
    order = on.fixed_weight("channels", channels.reshape(-1))
    on.gives(node.output[0], on.call("index_select.default", value, 1, order))


def _block(given: Attributes) -> int:
    size: int = given["blocksize"]
    if not 1 <= size <= _LARGEST_BLOCK:
        raise Untranslatable(f"its blocks are of {size}; those of 1 to {_LARGEST_BLOCK} are known")
    return size


def _channels(on: Translation, name: str) -> int:
    channels = on.shape(name)[1]
    if channels is None:
        raise Untranslatable("the number of its channels is not known")
    return channels
