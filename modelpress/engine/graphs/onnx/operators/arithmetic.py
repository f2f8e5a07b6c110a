"""Operators on each element, on numbers of shapes too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx

from modelpress.engine.graphs.onnx.node import Attributes, Converter
from modelpress.engine.graphs.onnx.translation import Places, Size, Translation, Untranslatable
from modelpress.spec.graph import ValueOf, WeightOf


def unary(operator: str) -> Converter:
    def convert(on: Translation, node: onnx.NodeProto, _given: Attributes) -> None:
        on.gives(node.output[0], on.call(operator, on.tensor(node.input[0])))

    return convert


_SIZE_OPERATORS = {
    "add.Tensor": "size.add",
    "sub.Tensor": "size.sub",
    "mul.Tensor": "size.mul",
    "div.Tensor": "size.floordiv",
    "remainder.Tensor": "size.mod",
}
# These take no plain number where a tensor is due.
_OF_TENSORS = {"remainder.Tensor", "fmod.Tensor"}


def binary(operator: str) -> Converter:
    def convert(on: Translation, node: onnx.NodeProto, _given: Attributes) -> None:
        first, second = node.input[0], node.input[1]
        sizes = on.sizes(first), on.sizes(second)
        if operator in _SIZE_OPERATORS and sizes[0] is not None and sizes[1] is not None:
            ranks = [found.ndim for name in node.input if (found := on.constant(name)) is not None]
            result = _on_sizes(on, _SIZE_OPERATORS[operator], sizes[0], sizes[1])
            on.gives_sizes(node.output[0], result, max(ranks, default=1))
            return
        if operator == "div.Tensor" and on.is_integral(second):
            quotient = on.call("div.Tensor_mode", on.tensor(first), on.operand(second), rounding_mode="trunc")
            on.gives(node.output[0], quotient)
            return
        by = on.tensor(second) if operator in _OF_TENSORS else on.operand(second)
        on.gives(node.output[0], on.call(operator, on.tensor(first), by))
        for one, other in ((first, second), (second, first)):
            places, moved = on.places(one), on.constant(other)
            if places is not None and moved is not None and (operator == "add.Tensor" or moved.size == 1):
                _move(on, operator, node.output[0], places, moved)

    return convert


def _move(on: Translation, operator: str, name: str, places: Places, by: np.ndarray[Any, Any]) -> None:
    """Places further apart, or further on, as long as they are the same in each image."""
    if operator == "mul.Tensor" and by.size == 1:
        factor = int(by.reshape(()))
        on.gives_places(name, Places(places.count, places.step * factor, places.within * factor))
    elif operator == "add.Tensor" and by.ndim <= places.within.ndim and by.shape[:1] in ((), (1,)):
        on.gives_places(name, Places(places.count, places.step, places.within + by))


def _on_sizes(on: Translation, operator: str, one: Sequence[Size], other: Sequence[Size]) -> list[Size]:
    longest = max(len(one), len(other))
    if min(len(one), len(other)) not in (1, longest):
        raise Untranslatable("it computes with shapes of different lengths")
    pairs = zip(list(one) * (longest // len(one)), list(other) * (longest // len(other)), strict=True)
    return [_on_size(on, operator, first, second) for first, second in pairs]


def _on_size(on: Translation, operator: str, first: Size, second: Size) -> Size:
    if isinstance(first, int) and isinstance(second, int):
        match operator:
            case "size.add":
                return first + second
            case "size.sub":
                return first - second
            case "size.mul":
                return first * second
        if second == 0:
            raise Untranslatable("it divides by 0")
        if operator == "size.mod":
            return first % second
        quotient = abs(first) // abs(second)  # ONNX divides towards 0
        return quotient if (first < 0) == (second < 0) else -quotient
    return on.call(operator, first, second)


def comparison(operator: str) -> Converter:
    def convert(on: Translation, node: onnx.NodeProto, _given: Attributes) -> None:
        second = on.operand(node.input[1])
        kind = "Tensor" if isinstance(second, ValueOf | WeightOf) else "Scalar"
        on.gives(node.output[0], on.call(f"{operator}.{kind}", on.tensor(node.input[0]), second))

    return convert


def many(operator: str) -> Converter:
    def convert(on: Translation, node: onnx.NodeProto, _given: Attributes) -> None:
        value: ValueOf | WeightOf = on.tensor(node.input[0])
        for name in node.input[1:]:
            value = on.call(operator, value, on.tensor(name))
        on.gives(node.output[0], value if isinstance(value, ValueOf) else on.call("alias.default", value))

    return convert


def equal(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
    sizes = [on.sizes(name) for name in node.input]
    if sizes[0] is not None and sizes[1] is not None and len(sizes[0]) == len(sizes[1]):
        # Exporters ask whether a size is -1; one that is computed never is.
        pairs = zip(*sizes, strict=True)
        on.gives_constant(node.output[0], np.array([isinstance(one, int) and one == other for one, other in pairs]))
        return
    comparison("eq")(on, node, given)


def where(on: Translation, node: onnx.NodeProto, _given: Attributes) -> None:
    condition, sizes = on.constant(node.input[0]), [on.sizes(name) for name in node.input[1:3]]
    if condition is not None and sizes[0] is not None and sizes[1] is not None and condition.ndim < 2:
        pairs = np.broadcast(condition, np.array(sizes[0], dtype=object), np.array(sizes[1], dtype=object))
        on.gives_sizes(node.output[0], [one if holds else other for holds, one, other in pairs])
        return
    on.gives(node.output[0], on.call("where.self", *(on.tensor(name) for name in node.input)))


def modulo(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
    # With `fmod` the result has the sign of what is divided, else that of what it is divided by.
    binary("fmod.Tensor" if given.get("fmod", 0) else "remainder.Tensor")(on, node, given)


def pow_(on: Translation, node: onnx.NodeProto, _given: Attributes) -> None:
    exponent = on.constant(node.input[1])
    if exponent is not None and exponent.size == 1:
        on.gives(node.output[0], on.call("pow.Tensor_Scalar", on.tensor(node.input[0]), float(exponent.reshape(()))))
    else:
        on.gives(node.output[0], on.call("pow.Tensor_Tensor", on.tensor(node.input[0]), on.tensor(node.input[1])))
