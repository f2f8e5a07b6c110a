"""How each ONNX operator is said in ATen's (the ONNX operator specification, opsets 13 to 21)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper

from modelpress.engine.graphs.onnx.translation import Size, Translation, Untranslatable
from modelpress.spec.graph import Argument, DataType, Infinite, ValueOf, WeightOf

Attributes = dict[str, Any]
Converter = Callable[[Translation, onnx.NodeProto, Attributes], None]

_DTYPES = {
    onnx.TensorProto.FLOAT: "float32",
    onnx.TensorProto.FLOAT16: "float16",
    onnx.TensorProto.BFLOAT16: "bfloat16",
    onnx.TensorProto.DOUBLE: "float64",
    onnx.TensorProto.INT8: "int8",
    onnx.TensorProto.UINT8: "uint8",
    onnx.TensorProto.INT16: "int16",
    onnx.TensorProto.INT32: "int32",
    onnx.TensorProto.INT64: "int64",
    onnx.TensorProto.BOOL: "bool",
}

_LONGEST_RANGE = 1 << 20


def attributes(node: onnx.NodeProto) -> Attributes:
    """Attributes of a node by name, text as text."""
    found = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    return {
        name: value.decode("utf-8", "replace") if isinstance(value, bytes) else value for name, value in found.items()
    }


def _optional(node: onnx.NodeProto, index: int) -> str | None:
    return node.input[index] if len(node.input) > index and node.input[index] else None


def _unary(operator: str) -> Converter:
    def convert(on: Translation, node: onnx.NodeProto, _given: Attributes) -> None:
        on.gives(node.output[0], on.call(operator, on.tensor(node.input[0])))

    return convert


_SIZE_OPERATORS = {
    "add.Tensor": "size.add",
    "sub.Tensor": "size.sub",
    "mul.Tensor": "size.mul",
    "div.Tensor": "size.floordiv",
}


def _binary(operator: str) -> Converter:
    def convert(on: Translation, node: onnx.NodeProto, _given: Attributes) -> None:
        first, second = node.input[0], node.input[1]
        sizes = on.sizes(first), on.sizes(second)
        if operator in _SIZE_OPERATORS and sizes[0] is not None and sizes[1] is not None:
            on.gives_sizes(node.output[0], _on_sizes(on, _SIZE_OPERATORS[operator], sizes[0], sizes[1]))
            return
        name = operator
        if operator == "div.Tensor" and on.constant(second) is not None and on.constant(second).dtype.kind in "iu":  # type: ignore[union-attr]
            raise Untranslatable("it divides whole numbers")
        on.gives(node.output[0], on.call(name, on.tensor(first), on.operand(second)))

    return convert


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
        return first // second
    return on.call(operator, first, second)


def _comparison(operator: str) -> Converter:
    def convert(on: Translation, node: onnx.NodeProto, _given: Attributes) -> None:
        second = on.operand(node.input[1])
        kind = "Tensor" if isinstance(second, ValueOf | WeightOf) else "Scalar"
        on.gives(node.output[0], on.call(f"{operator}.{kind}", on.tensor(node.input[0]), second))

    return convert


def _many(operator: str) -> Converter:
    def convert(on: Translation, node: onnx.NodeProto, _given: Attributes) -> None:
        value: ValueOf | WeightOf = on.tensor(node.input[0])
        for name in node.input[1:]:
            value = on.call(operator, value, on.tensor(name))
        on.gives(node.output[0], value if isinstance(value, ValueOf) else on.call("alias.default", value))

    return convert


# Convolutions and linear layers


def _padded(
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
    filled: Argument = fill if math.isfinite(fill) else _infinite(fill)
    return on.call("constant_pad_nd.default", value, listed, filled), [0] * dimensions


def _infinite(number: float) -> Argument:
    return Infinite.model_validate({"number": "inf" if number > 0 else "-inf"})


def _conv(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
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
    value, padding = _padded(on, node.input[0], given, kernel, strides, 0.0)
    weight = on.weight(name, "weight") if found is not None else on.tensor(name)
    bias = _optional(node, 2)
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


def _conv_transpose(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
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
    bias = _optional(node, 2)
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


def _gemm(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
    weight, bias = on.constant(node.input[1]), _optional(node, 2)
    if given.get("transA", 0) or weight is None or (given.get("alpha", 1.0), given.get("beta", 1.0)) != (1.0, 1.0):
        raise Untranslatable("it scales or transposes what it multiplies, or multiplies two values")
    held = on.weight(node.input[1], "weight") if given.get("transB", 0) else on.linear_weight(node.input[1], bias)
    outputs = weight.shape[0 if given.get("transB", 0) else 1]
    found = None if bias is None else on.constant(bias)
    if bias is None:
        on.gives(node.output[0], on.call("linear.default", on.tensor(node.input[0]), held))
    elif found is not None and found.shape == (outputs,):
        on.gives(node.output[0], on.call("linear.default", on.tensor(node.input[0]), held, on.weight(bias, "bias")))
    else:
        product = on.call("linear.default", on.tensor(node.input[0]), held)
        on.gives(node.output[0], on.call("add.Tensor", product, on.operand(bias)))


def _matmul(on: Translation, node: onnx.NodeProto, _given: Attributes) -> None:
    matrix = on.constant(node.input[1])
    if matrix is None or matrix.ndim != 2 or on.uses[node.input[1]] > 1:
        on.gives(node.output[0], on.call("matmul.default", on.tensor(node.input[0]), on.tensor(node.input[1])))
        return
    # A constant row that is added to it, next, is the layer's bias.
    bias = next((name for name in on.added_to(node.output[0]) if on.constant(name) is not None), None)
    weight = on.linear_weight(node.input[1], bias)
    on.gives(node.output[0], on.call("linear.default", on.tensor(node.input[0]), weight))


def _add(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
    """An addition or, where it adds a constant to what a linear layer alone gave it, that layer's bias."""
    for value, other in ((node.input[0], node.input[1]), (node.input[1], node.input[0])):
        bias, last = on.constant(other), on.nodes[-1] if on.nodes else None
        if (
            bias is None
            or bias.ndim != 1
            or last is None
            or last.operator != "linear.default"
            or len(last.arguments) != 2
        ):
            continue
        weight = last.arguments[1]
        if (
            isinstance(weight, WeightOf)
            and on.uses[value] == 1
            and on.operand(value) == ValueOf(value=last.outputs[0])
            and len(on.state[weight.weight]) == len(bias)
        ):
            on.scope = on.scopes.get(last.outputs[0], on.scope)
            on.nodes[-1] = last.model_copy(update={"arguments": (*last.arguments, on.weight(other, "bias"))})
            on.gives(node.output[0], ValueOf(value=last.outputs[0]))
            return
    if (
        on.constant(node.input[0]) is not None
        and on.constant(node.input[1]) is None
        and on.sizes(node.input[1]) is None
    ):
        on.gives(node.output[0], on.call("add.Tensor", on.tensor(node.input[1]), on.operand(node.input[0])))
        return
    _binary("add.Tensor")(on, node, given)


# Norms


def _batch_norm(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
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


def _layer_norm(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
    scale, bias = on.constant(node.input[1]), _optional(node, 2)
    rank = len(on.shape(node.input[0]))
    axis = given.get("axis", -1) % rank
    if scale is None or scale.ndim != rank - axis or len(node.output) > 1:
        raise Untranslatable("its scale is computed, or is for other dimensions than it norms")
    value = on.call(
        "layer_norm.default",
        on.tensor(node.input[0]),
        tuple(scale.shape),
        on.weight(node.input[1], "weight", own_copy=True),
        None if bias is None else on.weight(bias, "bias", own_copy=True),
        given.get("epsilon", 1e-5),
    )
    on.gives(node.output[0], value)


def _group_norm(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
    channels = on.shape(node.input[0])[1]
    scale = on.constant(node.input[1])
    if scale is None or scale.shape != (channels,):
        raise Untranslatable("its scale is one of each group")
    held = on.weight(node.input[1], "weight", own_copy=True), on.weight(node.input[2], "bias", own_copy=True)
    epsilon = given.get("epsilon", 1e-5)
    value = on.call("group_norm.default", on.tensor(node.input[0]), given["num_groups"], *held, epsilon)
    on.gives(node.output[0], value)


def _instance_norm(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
    channels = on.shape(node.input[0])[1]
    held = on.weight(node.input[1], "weight", own_copy=True), on.weight(node.input[2], "bias", own_copy=True)
    # One channel in each group (Wu and He 2018, section 3).
    value = on.call("group_norm.default", on.tensor(node.input[0]), channels, *held, given.get("epsilon", 1e-5))
    on.gives(node.output[0], value)


# Activations


def _leaky_relu(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
    on.gives(node.output[0], on.call("leaky_relu.default", on.tensor(node.input[0]), given.get("alpha", 0.01)))


def _elu(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
    on.gives(node.output[0], on.call("elu.default", on.tensor(node.input[0]), given.get("alpha", 1.0)))


def _gelu(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
    kind = given.get("approximate", "none")
    on.gives(node.output[0], on.call("gelu.default", on.tensor(node.input[0]), approximate=kind))


def _hard_sigmoid(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
    alpha, beta = given.get("alpha", 0.2), given.get("beta", 0.5)
    if math.isclose(alpha, 1 / 6, rel_tol=1e-6) and beta == 0.5:
        on.gives(node.output[0], on.call("hardsigmoid.default", on.tensor(node.input[0])))
        return
    line = on.call("add.Tensor", on.call("mul.Tensor", on.tensor(node.input[0]), alpha), beta)
    on.gives(node.output[0], on.call("clamp.default", line, 0, 1))


def _prelu(on: Translation, node: onnx.NodeProto, _given: Attributes) -> None:
    slope = on.constant(node.input[1])
    channels = on.shape(node.input[0])[1]
    if slope is None or slope.size not in (1, channels) or (slope.ndim > 1 and slope.size != slope.shape[0]):
        raise Untranslatable("its slopes are not one for each channel")
    name = on.new_weight(
        f"{on.scope}.weight" if on.scope else "prelu.weight", torch.from_numpy(slope.reshape(-1).copy())
    )
    on.gives(node.output[0], on.call("prelu.default", on.tensor(node.input[0]), WeightOf(weight=name)))


def _clip(on: Translation, node: onnx.NodeProto, _given: Attributes) -> None:
    bounds = [None if (name := _optional(node, index)) is None else on.numbers(name)[0] for index in (1, 2)]
    if None not in bounds and all(math.isfinite(bound) for bound in bounds if bound is not None):
        on.gives(node.output[0], on.call("hardtanh.default", on.tensor(node.input[0]), *bounds))
    else:
        kept = [bound if bound is not None and math.isfinite(bound) else None for bound in bounds]
        on.gives(node.output[0], on.call("clamp.default", on.tensor(node.input[0]), *kept))


def _softmax(operator: str) -> Converter:
    def convert(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
        on.gives(node.output[0], on.call(operator, on.tensor(node.input[0]), given.get("axis", -1)))

    return convert


# Pools and reductions


def _pool(operator: str, fill: float) -> Converter:
    def convert(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
        kernel = list(given["kernel_shape"])
        strides = list(given.get("strides", [1] * len(kernel)))
        average = operator == "avg_pool"
        value, padding = _padded(on, node.input[0], given, kernel, strides, fill)
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


def _global_average(on: Translation, node: onnx.NodeProto, _given: Attributes) -> None:
    dimensions = len(on.shape(node.input[0])) - 2
    value = on.call(f"adaptive_avg_pool{dimensions}d.default", on.tensor(node.input[0]), (1,) * dimensions)
    on.gives(node.output[0], value)


def _global_max(on: Translation, node: onnx.NodeProto, _given: Attributes) -> None:
    dimensions = tuple(range(2, len(on.shape(node.input[0]))))
    on.gives(node.output[0], on.call("amax.default", on.tensor(node.input[0]), dimensions, True))


def _reduction(operator: str) -> Converter:
    def convert(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
        named = _optional(node, 1)
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


# Shapes


def _shape(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
    shape = on.shape(node.input[0])
    start, end, _ = slice(given.get("start", 0), given.get("end")).indices(len(shape))
    value = None if on.constant(node.input[0]) is not None else on.tensor(node.input[0])
    sizes: list[Size] = []
    for index in range(start, end):
        size = shape[index]
        if size is None and value is None:
            raise Untranslatable("it asks for the shape of a shape")
        # The batch's size is asked for each time: what was exported for one has to run for any.
        sizes.append(size if size is not None else on.call("sym_size.int", value, index))
    on.gives_sizes(node.output[0], sizes)


def _reshape(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
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


def _flatten(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
    rank = len(on.shape(node.input[0]))
    axis = given.get("axis", 1) % rank
    if axis != 1:
        raise Untranslatable("it mixes the batch with what it flattens")
    on.gives(node.output[0], on.call("flatten.using_ints", on.tensor(node.input[0]), 1))


def _transpose(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
    order = given.get("perm") or list(range(len(on.shape(node.input[0]))))[::-1]
    on.gives(node.output[0], on.call("permute.default", on.tensor(node.input[0]), tuple(order)))


def _axes(on: Translation, node: onnx.NodeProto, given: Attributes) -> list[int] | None:
    named = _optional(node, 1)
    return given.get("axes") if named is None else on.numbers(named)


def _squeeze(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
    if on.sizes(node.input[0]) is not None:
        on.same(node.output[0], node.input[0])
        return
    axes = _axes(on, node, given)
    if axes is None:
        shape = on.shape(node.input[0])
        axes = [index for index, size in enumerate(shape) if size == 1]
    on.gives(node.output[0], on.call("squeeze.dims", on.tensor(node.input[0]), tuple(axes)))


def _unsqueeze(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
    if on.sizes(node.input[0]) is not None:
        on.same(node.output[0], node.input[0])
        return
    axes = _axes(on, node, given) or []
    rank = len(on.shape(node.input[0])) + len(axes)
    value: ValueOf | WeightOf = on.tensor(node.input[0])
    for axis in sorted(axis % rank for axis in axes):
        value = on.call("unsqueeze.default", value, axis)
    if isinstance(value, ValueOf):
        on.gives(node.output[0], value)


def _expand(on: Translation, node: onnx.NodeProto, _given: Attributes) -> None:
    sizes = on.sizes(node.input[1])
    if sizes is None:
        raise Untranslatable("the shape that it gives is computed from values")
    # A 1 leaves the input's own size, which torch says by -1.
    shape: tuple[Size, ...] = tuple(-1 if size == 1 else size for size in sizes)
    rank = len(on.shape(node.input[0]))
    if rank > len(sizes):
        shape = (-1,) * (rank - len(sizes)) + shape
    shape = tuple(1 if size == -1 and index < len(shape) - rank else size for index, size in enumerate(shape))
    on.gives(node.output[0], on.call("expand.default", on.tensor(node.input[0]), shape))


def _concat(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
    sizes = [on.sizes(name) for name in node.input]
    if all(size is not None for size in sizes):
        on.gives_sizes(node.output[0], [number for size in sizes if size is not None for number in size])
        return
    values = tuple(on.tensor(name) for name in node.input)
    on.gives(node.output[0], on.call("cat.default", values, given["axis"]))


def _split(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
    named, axis = _optional(node, 1), given.get("axis", 0)
    if named is None:
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


def _slice(on: Translation, node: onnx.NodeProto, _given: Attributes) -> None:
    starts, ends = on.numbers(node.input[1]), on.numbers(node.input[2])
    named, stepped = _optional(node, 3), _optional(node, 4)
    axes = list(range(len(starts))) if named is None else on.numbers(named)
    steps = [1] * len(starts) if stepped is None else on.numbers(stepped)
    sizes = on.sizes(node.input[0])
    if sizes is not None:
        on.gives_sizes(node.output[0], sizes[slice(starts[0], ends[0], steps[0])])
        return
    value: ValueOf | WeightOf = on.tensor(node.input[0])
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step < 1:
            raise Untranslatable("it goes backwards")
        value = on.call("slice.Tensor", value, axis, start, min(end, 2**62), step)
    if isinstance(value, ValueOf):
        on.gives(node.output[0], value)


def _gather(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
    sizes, indices = on.sizes(node.input[0]), on.constant(node.input[1])
    if sizes is not None and indices is not None:
        try:
            on.gives_sizes(node.output[0], [sizes[int(index)] for index in indices.reshape(-1)])
        except IndexError as error:
            raise Untranslatable("it takes a size that its input has not") from error
        return
    axis = given.get("axis", 0)
    value = on.tensor(node.input[0])
    if indices is not None and indices.ndim == 0:
        on.gives(node.output[0], on.call("select.int", value, axis, int(indices)))
    elif axis == 0 and indices is None and on.constant(node.input[0]) is not None:
        weight = on.weight(node.input[0], "weight")
        on.gives(node.output[0], on.call("embedding.default", weight, on.tensor(node.input[1])))
    elif indices is not None and indices.ndim == 1:
        on.gives(node.output[0], on.call("index_select.default", value, axis, on.tensor(node.input[1])))
    else:
        raise Untranslatable("its indices are computed")


def _pad(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
    pads, named = on.numbers(node.input[1]), _optional(node, 2)
    fill = 0.0 if named is None else float(on.numbers(named)[0])
    mode, rank = given.get("mode", "constant"), len(on.shape(node.input[0]))
    if _optional(node, 3) is not None and on.numbers(node.input[3]) != list(range(rank)):
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
        filled: Argument = fill if math.isfinite(fill) else _infinite(fill)
        on.gives(node.output[0], on.call("constant_pad_nd.default", value, listed, filled))
    else:
        on.gives(node.output[0], on.call("pad.default", value, listed, names[mode]))


def _tile(on: Translation, node: onnx.NodeProto, _given: Attributes) -> None:
    repeats = on.sizes(node.input[1])
    if repeats is None:
        raise Untranslatable("how often it repeats is computed from values")
    on.gives(node.output[0], on.call("repeat.default", on.tensor(node.input[0]), tuple(repeats)))


def _resize(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
    mode, coordinates = given.get("mode", "nearest"), given.get("coordinate_transformation_mode", "half_pixel")
    shape = on.shape(node.output[0])[2:]
    scales, sizes = _optional(node, 2), _optional(node, 3)
    if len(shape) != 2 or None in shape:
        raise Untranslatable("the size that it gives is not known")
    factors: Argument = None
    if sizes is None and scales is not None:
        factors = tuple(float(scale) for scale in on.numbers(scales)[2:])
    size = None if factors is not None else tuple(on.numbers(sizes)[2:]) if sizes is not None else tuple(shape)
    value = on.tensor(node.input[0])
    if mode == "nearest" and coordinates == "asymmetric" and given.get("nearest_mode", "round_prefer_floor") == "floor":
        on.gives(node.output[0], on.call("upsample_nearest2d.vec", value, size, factors))
    elif mode == "linear" and coordinates in ("half_pixel", "pytorch_half_pixel", "align_corners"):
        corners = coordinates == "align_corners"
        on.gives(node.output[0], on.call("upsample_bilinear2d.vec", value, size, corners, factors))
    elif mode == "cubic" and coordinates in ("half_pixel", "pytorch_half_pixel", "align_corners"):
        corners = coordinates == "align_corners"
        on.gives(node.output[0], on.call("upsample_bicubic2d.vec", value, size, corners, factors))
    else:
        raise Untranslatable(f"it resizes in mode {mode} with {coordinates} coordinates")


def _depth_to_space(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
    if given.get("mode", "DCR") != "CRD":
        raise Untranslatable("it takes depth apart column by row (mode DCR)")
    on.gives(node.output[0], on.call("pixel_shuffle.default", on.tensor(node.input[0]), given["blocksize"]))


# Constants and the rest


def _constant(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
    match given:
        case {"value": onnx.TensorProto() as tensor}:
            on.gives_constant(node.output[0], numpy_helper.to_array(tensor))
        case {"value_float": number}:
            on.gives_constant(node.output[0], np.array(number, dtype=np.float32))
        case {"value_floats": numbers}:
            on.gives_constant(node.output[0], np.array(numbers, dtype=np.float32))
        case {"value_int": number} | {"value_ints": number}:
            on.gives_constant(node.output[0], np.array(number, dtype=np.int64))
        case _:
            raise Untranslatable("it holds something else than dense numbers")


def _range(on: Translation, node: onnx.NodeProto, _given: Attributes) -> None:
    start, end, step = (on.numbers(name)[0] for name in node.input)
    found = on.constant(node.input[0])
    if step == 0 or abs((end - start) / step) > _LONGEST_RANGE or found is None:
        raise Untranslatable("it counts for too long")
    on.gives_constant(node.output[0], np.arange(start, end, step, dtype=found.dtype))


def _constant_of_shape(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
    sizes = on.sizes(node.input[0])
    fill = numpy_helper.to_array(given["value"]).reshape(-1) if "value" in given else np.zeros(1, np.float32)
    if sizes is None:
        raise Untranslatable("the shape that it gives is computed from values")
    if fill.dtype.kind in "iu" and len(sizes) == 1 and isinstance(sizes[0], int) and sizes[0] <= 16:
        on.gives_sizes(node.output[0], [int(fill[0])] * sizes[0])
        return
    dtype = DataType.model_validate({"dtype": str(fill.dtype)})
    on.gives(node.output[0], on.call("full.default", tuple(sizes), fill[0].item(), dtype=dtype))


def _same(on: Translation, node: onnx.NodeProto, _given: Attributes) -> None:
    on.same(node.output[0], node.input[0])


def _dropout(on: Translation, node: onnx.NodeProto, _given: Attributes) -> None:
    named = _optional(node, 1)
    share = 0.5 if named is None else float(on.numbers(named)[0])
    if len(node.output) > 1 and on.uses[node.output[1]]:
        raise Untranslatable("its mask is used")
    on.gives(node.output[0], on.call("dropout.default", on.tensor(node.input[0]), share, False))


def _cast(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
    if given["to"] not in _DTYPES:
        raise Untranslatable("it makes numbers of a type that is not known here")
    if on.sizes(node.input[0]) is not None and on.constant(node.input[0]) is None:
        on.same(node.output[0], node.input[0])  # sizes stay whole numbers
        return
    constant = on.constant(node.input[0])
    if constant is not None:
        on.gives_constant(node.output[0], constant.astype(_DTYPES[given["to"]]))
        return
    dtype = DataType.model_validate({"dtype": _DTYPES[given["to"]]})
    on.gives(node.output[0], on.call("to.dtype", on.tensor(node.input[0]), dtype))


def _where(on: Translation, node: onnx.NodeProto, _given: Attributes) -> None:
    condition, sizes = on.constant(node.input[0]), [on.sizes(name) for name in node.input[1:3]]
    if condition is not None and sizes[0] is not None and sizes[1] is not None:
        pairs = zip(condition.reshape(-1), sizes[0], sizes[1], strict=True)
        chosen = [one if holds else other for holds, one, other in pairs]
        on.gives_sizes(node.output[0], chosen)
        return
    on.gives(node.output[0], on.call("where.self", *(on.tensor(name) for name in node.input)))


def _equal(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
    known = [on.constant(name) for name in node.input]
    if known[0] is not None and known[1] is not None:
        on.gives_constant(node.output[0], known[0] == known[1])
        return
    sizes = [on.sizes(name) for name in node.input]
    if sizes[0] is not None and sizes[1] is not None and len(sizes[0]) == len(sizes[1]):
        # Exporters ask whether a size is -1; one that is computed never is.
        pairs = zip(*sizes, strict=True)
        on.gives_constant(node.output[0], np.array([isinstance(one, int) and one == other for one, other in pairs]))
        return
    _comparison("eq")(on, node, given)


def _pow(on: Translation, node: onnx.NodeProto, _given: Attributes) -> None:
    exponent = on.constant(node.input[1])
    if exponent is not None and exponent.size == 1:
        on.gives(node.output[0], on.call("pow.Tensor_Scalar", on.tensor(node.input[0]), float(exponent.reshape(()))))
    else:
        on.gives(node.output[0], on.call("pow.Tensor_Tensor", on.tensor(node.input[0]), on.tensor(node.input[1])))


def _einsum(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
    on.gives(
        node.output[0], on.call("einsum.default", given["equation"], tuple(on.tensor(name) for name in node.input))
    )


CONVERTERS: dict[str, Converter] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "BatchNormalization": _batch_norm,
    "LayerNormalization": _layer_norm,
    "GroupNormalization": _group_norm,
    "InstanceNormalization": _instance_norm,
    "Relu": _unary("relu.default"),
    "LeakyRelu": _leaky_relu,
    "PRelu": _prelu,
    "Elu": _elu,
    "Gelu": _gelu,
    "Sigmoid": _unary("sigmoid.default"),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _unary("hardswish.default"),
    "Tanh": _unary("tanh.default"),
    "Mish": _unary("mish.default"),
    "Softplus": _unary("softplus.default"),
    "Clip": _clip,
    "Softmax": _softmax("softmax.int"),
    "LogSoftmax": _softmax("log_softmax.int"),
    **{
        name: _unary(f"{name.lower()}.default")
        for name in (
            "Abs",
            "Ceil",
            "Cos",
            "Erf",
            "Exp",
            "Floor",
            "Log",
            "Neg",
            "Reciprocal",
            "Round",
            "Sign",
            "Sin",
            "Sqrt",
        )
    },
    "Not": _unary("logical_not.default"),
    "Add": _add,
    "Sub": _binary("sub.Tensor"),
    "Mul": _binary("mul.Tensor"),
    "Div": _binary("div.Tensor"),
    "Pow": _pow,
    "Min": _many("minimum.default"),
    "Max": _many("maximum.default"),
    "Sum": _many("add.Tensor"),
    "And": _many("logical_and.default"),
    "Or": _many("logical_or.default"),
    "Equal": _equal,
    "Greater": _comparison("gt"),
    "GreaterOrEqual": _comparison("ge"),
    "Less": _comparison("lt"),
    "LessOrEqual": _comparison("le"),
    "Where": _where,
    "MaxPool": _pool("max_pool", -math.inf),
    "AveragePool": _pool("avg_pool", 0.0),
    "GlobalAveragePool": _global_average,
    "GlobalMaxPool": _global_max,
    "ReduceMean": _reduction("mean.dim"),
    "ReduceSum": _reduction("sum.dim_IntList"),
    "ReduceMax": _reduction("amax.default"),
    "ReduceMin": _reduction("amin.default"),
    "ReduceL2": _reduction("linalg_vector_norm.default"),
    "Shape": _shape,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Transpose": _transpose,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Expand": _expand,
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Gather": _gather,
    "Pad": _pad,
    "Tile": _tile,
    "Resize": _resize,
    "DepthToSpace": _depth_to_space,
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Range": _range,
    "Identity": _same,
    "Dropout": _dropout,
    "Cast": _cast,
    "Einsum": _einsum,
}
"""By the operator's name in the domain `ai.onnx`."""
