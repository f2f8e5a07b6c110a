"""Operators that take elements out of tensors or put them in."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from modelpress.engine.graphs.onnx.node import Attributes, optional
from modelpress.engine.graphs.onnx.translation import Places, Size, Translation, Untranslatable
from modelpress.spec.graph import InputDevice, Item, ValueOf, WeightOf

_LONGEST_RANGE = 1 << 20


def slice_(on: Translation, node: onnx.NodeProto, _given: Attributes) -> None:
    starts, ends = on.sizes(node.input[1]), on.sizes(node.input[2])
    named, stepped = optional(node, 3), optional(node, 4)
    if starts is None or ends is None:
        raise Untranslatable("where it begins or ends is computed from values")
    axes = list(range(len(starts))) if named is None else on.numbers(named)
    steps = [1] * len(starts) if stepped is None else on.numbers(stepped)
    sizes = on.sizes(node.input[0])
    if sizes is not None and on.constant(node.input[0]) is None:
        if not isinstance(starts[0], int) or not isinstance(ends[0], int):
            raise Untranslatable("it takes a part of a shape that is not known")
        on.gives_sizes(node.output[0], sizes[slice(starts[0], ends[0], steps[0])])
        return
    value: ValueOf | WeightOf = on.tensor(node.input[0])
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step < 0:
            value = _backwards(on, value, on.shape(node.input[0])[axis], (start, end, axis, step))
        else:
            last = min(end, 2**62) if isinstance(end, int) else end
            value = on.call("slice.Tensor", value, axis, start, last, step)
    on.gives(node.output[0], value if isinstance(value, ValueOf) else on.call("alias.default", value))


def _backwards(
    on: Translation, value: ValueOf | WeightOf, size: int | None, along: tuple[Size, Size, int, int]
) -> ValueOf:
    """Every `step`th element from `start` down to `end`, which is left out: forwards in what is turned round."""
    start, end, axis, step = along
    if size is None or not isinstance(start, int) or not isinstance(end, int):
        raise Untranslatable("it goes backwards from a place that is not known")
    # ONNX counts from the end below 0, and stops before the first element for anything lower still.
    first = min(start + size if start < 0 else start, size - 1)
    last = max(end + size if end < 0 else end, -1)
    turned = on.call("flip.default", value, (axis,))
    return on.call("slice.Tensor", turned, axis, size - 1 - first, max(size - 1 - last, 0), -step)


def gather(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
    sizes, indices = on.sizes(node.input[0]), on.constant(node.input[1])
    if sizes is not None and on.constant(node.input[0]) is None and indices is not None:
        try:
            on.gives_sizes(node.output[0], [sizes[int(index)] for index in indices.reshape(-1)], indices.ndim)
        except IndexError as error:
            raise Untranslatable("it takes a size that its input has not") from error
        return
    axis = given.get("axis", 0)
    value = on.tensor(node.input[0])
    if _gather_of_all(on, node, value):
        return
    if indices is not None and indices.ndim == 0:
        on.gives(node.output[0], on.call("select.int", value, axis, int(indices)))
    elif axis == 0 and indices is None and on.constant(node.input[0]) is not None:
        weight = on.weight(node.input[0], "weight")
        on.gives(node.output[0], on.call("embedding.default", weight, on.tensor(node.input[1])))
    elif indices is not None and indices.ndim == 1 and (indices >= 0).all():
        on.gives(node.output[0], on.call("index_select.default", value, axis, on.tensor(node.input[1])))
    else:
        rank = len(on.shape(node.input[0]))
        before: tuple[Item, ...] = (None,) * (axis % rank)
        on.gives(node.output[0], on.call("index.Tensor", value, (*before, on.tensor(node.input[1]))))


def _gather_of_all(on: Translation, node: onnx.NodeProto, value: ValueOf | WeightOf) -> bool:
    """`as_strided` as exporters write it: elements of each image, by their places in the whole batch laid end to end.

    Said image by image, so that channels can be followed through it. Gives whether it was that.
    """
    before, places = on.made_by(value), on.places(node.input[1])
    if places is None or before is None or before.operator != "reshape.default" or before.arguments[1] != (-1,):
        return False
    shape, flat = places.within.shape[1:], places.within.reshape(-1)
    if flat.size == 0 or flat.min() < 0 or flat.max() >= places.step:
        return False
    if np.array_equal(flat, np.arange(places.step)):
        taken = on.call("reshape.default", before.arguments[0], (places.count, *shape))
    else:
        rows = on.call("reshape.default", before.arguments[0], (places.count, places.step))
        kept = on.call("index_select.default", rows, 1, on.fixed_weight("places", flat))
        taken = on.call("reshape.default", kept, (places.count, *shape))
    on.gives(node.output[0], taken)
    return True


def gather_elements(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
    axis, indices = given.get("axis", 0), _not_negative(on, node, given)
    on.gives(node.output[0], on.call("gather.default", on.tensor(node.input[0]), axis, indices))


def scatter_elements(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
    if given.get("reduction", "none") != "none":
        raise Untranslatable("it combines what it puts in with what is there")
    axis, indices = given.get("axis", 0), _not_negative(on, node, given)
    value, updates = on.tensor(node.input[0]), on.tensor(node.input[2])
    on.gives(node.output[0], on.call("scatter.src", value, axis, indices, updates))


def _not_negative(on: Translation, node: onnx.NodeProto, given: Attributes) -> ValueOf | WeightOf:
    """Indices along the axis counted from its start alone, as `gather` and `scatter` of torch take them."""
    indices, size = on.constant(node.input[1]), on.shape(node.input[0])[given.get("axis", 0)]
    if indices is None:
        return on.tensor(node.input[1])
    if (indices < 0).any() and size is None:
        raise Untranslatable("it counts from the end of a dimension of unknown size")
    return on.fixed_weight("indices", np.where(indices < 0, indices + (size or 0), indices).astype(np.int64))


def gather_nd(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
    if given.get("batch_dims", 0):
        raise Untranslatable("it takes other elements from each image (batch_dims)")
    indices = _columns(on, node.input[1])
    on.gives(node.output[0], on.call("index.Tensor", on.tensor(node.input[0]), indices))


def scatter_nd(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
    if given.get("reduction", "none") != "none":
        raise Untranslatable("it combines what it puts in with what is there")
    indices, updates = _columns(on, node.input[1]), on.tensor(node.input[2])
    on.gives(node.output[0], on.call("index_put.default", on.tensor(node.input[0]), indices, updates))


def _columns(on: Translation, name: str) -> tuple[Item, ...]:
    """Indices of each dimension by itself, of places whose indices lie in a last dimension."""
    found = on.constant(name)
    if found is not None:
        return tuple(on.fixed_weight("indices", found[..., column]) for column in range(found.shape[-1]))
    count = on.shape(name)[-1]
    if count is None:
        raise Untranslatable("in how many dimensions its indices point is not known")
    return tuple(on.call("select.int", on.tensor(name), -1, column) for column in range(count))


def range_(on: Translation, node: onnx.NodeProto, _given: Attributes) -> None:
    constants = [on.constant(name) for name in node.input]
    bounds: list[Any] = []
    for name, found in zip(node.input, constants, strict=True):
        sizes = on.sizes(name)
        if found is None and (sizes is None or len(sizes) != 1):
            raise Untranslatable("how far it counts is computed from values")
        bounds.append(found.reshape(-1)[0].item() if found is not None else sizes[0] if sizes else 0)
    start, end, step = bounds
    if all(isinstance(bound, int | float) for bound in bounds):
        if step == 0 or not abs((end - start) / step) <= _LONGEST_RANGE:
            raise Untranslatable("it counts for too long")
        dtype = next((found.dtype for found in constants if found is not None), np.dtype(np.int64))
        on.gives_constant(node.output[0], np.arange(start, end, step, dtype=dtype))
        return
    on.gives(node.output[0], on.call("arange.start_step", start, end, step, device=InputDevice()))
    if (start, step) == (0, 1):
        on.gives_places(node.output[0], Places(end, 1, np.zeros(1, dtype=np.int64)))


def cumulative_sum(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
    if given.get("exclusive", 0) or given.get("reverse", 0):
        raise Untranslatable("it sums up backwards, or leaves out the element itself")
    on.gives(node.output[0], on.call("cumsum.default", on.tensor(node.input[0]), int(on.numbers(node.input[1])[0])))


def triangle(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
    named = optional(node, 1)
    diagonal = 0 if named is None else int(on.numbers(named)[0])
    operator = "triu.default" if given.get("upper", 1) else "tril.default"
    on.gives(node.output[0], on.call(operator, on.tensor(node.input[0]), diagonal))
