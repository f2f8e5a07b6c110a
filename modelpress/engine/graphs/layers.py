"""The layers that a graph may name, and how a call of each operator becomes one.

A rule looks at a call whose arguments are bound to the operator's own names, and says which layer of `torch.nn`
computes the same, with which of the call's weights as its own; None where none does, and the call stays a call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from modelpress.spec.graph import Infinite, Layer, ValueOf, WeightOf

LAYERS: dict[str, Callable[..., nn.Module]] = {
    layer.__name__: layer
    for layer in (
        *(nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Linear),
        *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.LayerNorm, nn.GroupNorm, nn.Embedding),
        *(nn.LSTM, nn.GRU, nn.RNN),
        *(nn.ReLU, nn.ReLU6, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, nn.SiLU, nn.GELU, nn.LeakyReLU, nn.ELU),
        *(nn.Sigmoid, nn.Tanh, nn.Mish, nn.Softplus, nn.PReLU, nn.Softmax, nn.LogSoftmax, nn.SELU),
        *(nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.Flatten),
        *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
        *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
    )
}
"""Classes of `torch.nn` by name. None of them takes code or opens anything."""

RECURRENT = (nn.LSTM, nn.GRU, nn.RNN)


@dataclass(frozen=True)
class Lifted:
    """A layer for a call: its inputs, and the weights that become its own, by their names within it."""

    layer: Layer
    inputs: tuple[ValueOf, ...]
    weights: dict[str, str] = field(default_factory=dict)


Shapes = Mapping[str, tuple[int, ...]]
"""Shapes of values and weights by name, of one run of the graph."""

Rule = Callable[[dict[str, Any], Shapes], Lifted | None]


def _weight(argument: object) -> str | None:
    return argument.weight if isinstance(argument, WeightOf) else None


def _weights(bound: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, str] | None:
    """Weights of a call by the layer's names for them; None where one is computed, and so no layer's own."""
    found = {}
    for within, argument in names.items():
        given = bound.get(argument)
        if given is None:
            continue
        weight = _weight(given)
        if weight is None:
            return None
        found[within] = weight
    return found


def _whole(value: object) -> Any:
    # Constructors take a number for all dimensions or one for each.
    return tuple(value) if isinstance(value, list | tuple) else value


def _has_values(arguments: Mapping[str, Any]) -> bool:
    """Whether a computed value or a special one is among arguments that a layer must know from the start."""
    items = [item for value in arguments.values() for item in (value if isinstance(value, tuple) else (value,))]
    return not all(item is None or isinstance(item, bool | int | float | str) for item in items)


def _layer(kind: str, bound: Mapping[str, Any], weights: dict[str, str] | None, **arguments: Any) -> Lifted | None:
    taken = bound.get("input", bound.get("self"))
    if weights is None or not isinstance(taken, ValueOf) or _has_values(arguments):
        return None
    return Lifted(Layer(type=kind, arguments=arguments), (taken,), weights)


_CONVOLVED = {"weight": "weight", "bias": "bias"}


def _convolution(dimensions: int, *, transposed: bool = False) -> Rule:
    def rule(bound: dict[str, Any], shapes: Shapes) -> Lifted | None:
        weights = _weights(bound, _CONVOLVED)
        if not weights or "weight" not in weights or not isinstance(bound["groups"], int) or bound["groups"] < 1:
            return None
        shape, groups = shapes[weights["weight"]], bound["groups"]
        if len(shape) != dimensions + 2 or len(shapes.get(_name(bound["input"]), ())) != dimensions + 2:
            return None  # an image without a batch
        inputs, outputs = (shape[0], shape[1] * groups) if transposed else (shape[1] * groups, shape[0])
        more = {"output_padding": _each(bound["output_padding"], dimensions)} if transposed else {}
        padding = bound["padding"]
        return _layer(
            f"Conv{'Transpose' if transposed else ''}{dimensions}d",
            bound,
            weights,
            in_channels=inputs,
            out_channels=outputs,
            kernel_size=tuple(shape[2:]),
            stride=_each(bound["stride"], dimensions),
            padding=padding if isinstance(padding, str) else _each(padding, dimensions),
            dilation=_each(bound["dilation"], dimensions),
            groups=groups,
            bias="bias" in weights,
            **more,
        )

    return rule


def _each(value: object, dimensions: int) -> Any:
    """One number for each dimension: operators take one number, or a list of one, for all of them."""
    listed = tuple(value) if isinstance(value, list | tuple) else (value,)
    return listed * dimensions if len(listed) == 1 else listed


def _name(argument: object) -> str:
    return argument.value if isinstance(argument, ValueOf) else ""


def _general_convolution(bound: dict[str, Any], shapes: Shapes) -> Lifted | None:
    weight = _weight(bound["weight"])
    if weight is None or not 3 <= len(shapes[weight]) <= 5:
        return None
    return _convolution(len(shapes[weight]) - 2, transposed=bool(bound["transposed"]))(bound, shapes)


def _linear(bound: dict[str, Any], shapes: Shapes) -> Lifted | None:
    weights = _weights(bound, _CONVOLVED)
    if not weights or "weight" not in weights or len(shapes[weights["weight"]]) != 2:
        return None
    outputs, inputs = shapes[weights["weight"]]
    return _layer("Linear", bound, weights, in_features=inputs, out_features=outputs, bias="bias" in weights)


STATISTICS = ("running_mean", "running_var")
"""What a batch norm holds beside its weights: buffers of the layer."""

_NORMED = {**_CONVOLVED, **{name: name for name in STATISTICS}}

# Torch's own. Statistics that are averaged over all batches (`momentum=None`) are written down as 0, which would keep
# them as they are for ever.
_MOMENTUM = 0.1


def _batch_norm(bound: dict[str, Any], shapes: Shapes) -> Lifted | None:
    weights = _weights(bound, _NORMED)
    dimensions = {2: 1, 3: 1, 4: 2, 5: 3}.get(len(shapes.get(_name(bound["input"]), ())))
    if dimensions is None or weights is None or not weights.keys() >= set(STATISTICS):
        return None
    affine = {"weight", "bias"} & weights.keys()
    if len(affine) == 1:
        return None
    return _layer(
        f"BatchNorm{dimensions}d",
        bound,
        weights,
        num_features=shapes[weights["running_mean"]][0],
        eps=bound["eps"],
        momentum=bound["momentum"] or _MOMENTUM,
        affine=bool(affine),
    )


def _layer_norm(bound: dict[str, Any], _shapes: Shapes) -> Lifted | None:
    weights = _weights(bound, _CONVOLVED)
    if weights is None or set(weights) == {"bias"}:
        return None
    affine = "weight" in weights
    return _layer(
        "LayerNorm",
        bound,
        weights,
        normalized_shape=_whole(bound["normalized_shape"]),
        eps=bound["eps"],
        elementwise_affine=affine,
        bias=not affine or "bias" in weights,
    )


def _group_norm(bound: dict[str, Any], shapes: Shapes) -> Lifted | None:
    weights = _weights(bound, _CONVOLVED)
    shape = shapes.get(_name(bound["input"]), ())
    if weights is None or len(weights) == 1 or len(shape) < 2:
        return None
    return _layer(
        "GroupNorm",
        bound,
        weights,
        num_groups=bound["num_groups"],
        num_channels=shape[1],
        eps=bound["eps"],
        affine=bool(weights),
    )


def _embedding(bound: dict[str, Any], shapes: Shapes) -> Lifted | None:
    weights = _weights(bound, {"weight": "weight"})
    if not weights or bound["scale_grad_by_freq"] or bound["sparse"] or not isinstance(bound["indices"], ValueOf):
        return None
    count, width = shapes[weights["weight"]]
    padding = None if bound["padding_idx"] == -1 else bound["padding_idx"]
    bound = {**bound, "input": bound["indices"]}
    return _layer("Embedding", bound, weights, num_embeddings=count, embedding_dim=width, padding_idx=padding)


def _prelu(bound: dict[str, Any], shapes: Shapes) -> Lifted | None:
    weights = _weights(bound, {"weight": "weight"})
    return _layer("PReLU", bound, weights, num_parameters=shapes[weights["weight"]][0]) if weights else None


def _recurrent(kind: str, states: int, **more: Any) -> Rule:
    def rule(bound: dict[str, Any], shapes: Shapes) -> Lifted | None:
        first = bound["hx"]
        first = tuple(first) if isinstance(first, list | tuple) else (first,)
        names = [_weight(parameter) for parameter in bound["params"]]
        if len(first) != states or None in names or not all(isinstance(state, ValueOf) for state in first):
            return None
        bidirectional, layers, biases = bound["bidirectional"], bound["num_layers"], bound["has_biases"]
        within = [
            f"{part}_l{layer}{suffix}"
            for layer in range(layers)
            for suffix in (("", "_reverse") if bidirectional else ("",))
            for part in ("weight_ih", "weight_hh", *(("bias_ih", "bias_hh") if biases else ()))
        ]
        if len(within) != len(names):
            return None  # an LSTM with projections
        lifted = _layer(
            kind,
            bound,
            {name: weight for name, weight in zip(within, names, strict=True) if weight is not None},
            input_size=shapes[names[0] or ""][1],
            hidden_size=shapes[names[1] or ""][1],
            num_layers=layers,
            bias=biases,
            batch_first=bound["batch_first"],
            dropout=bound["dropout"] if layers > 1 else 0.0,
            bidirectional=bidirectional,
            **more,
        )
        return lifted and Lifted(lifted.layer, (*lifted.inputs, *first), lifted.weights)

    return rule


def _plain(kind: str, *names: str, **renamed: str) -> Rule:
    """A layer without weights; its arguments are the operator's, those of `renamed` under another name."""

    def rule(bound: dict[str, Any], _shapes: Shapes) -> Lifted | None:
        arguments = {name: _whole(bound[name]) for name in names if name in bound}
        arguments |= {name: _whole(bound[argument]) for name, argument in renamed.items() if argument in bound}
        if any(isinstance(value, Infinite) for value in arguments.values()):
            return None
        return _layer(kind, bound, {}, **arguments)

    return rule


def _pool(kind: str, *names: str) -> Rule:
    plain = _plain(kind, *names)

    def rule(bound: dict[str, Any], shapes: Shapes) -> Lifted | None:
        # No stride is the kernel's to the operator, None to the constructor.
        return plain({**bound, "stride": bound["stride"] or None}, shapes)

    return rule


def _hardtanh(bound: dict[str, Any], shapes: Shapes) -> Lifted | None:
    if (bound["min_val"], bound["max_val"]) == (0, 6):
        return _layer("ReLU6", bound, {})
    return _plain("Hardtanh", "min_val", "max_val")(bound, shapes)


def _elu(bound: dict[str, Any], _shapes: Shapes) -> Lifted | None:
    return _layer("ELU", bound, {}, alpha=bound["alpha"]) if bound["scale"] == bound["input_scale"] == 1 else None


def _softmax(kind: str) -> Rule:
    def rule(bound: dict[str, Any], _shapes: Shapes) -> Lifted | None:
        return None if bound["dtype"] is not None else _layer(kind, bound, {}, dim=bound["dim"])

    return rule


_WINDOW = ("kernel_size", "stride", "padding")

RULES: dict[str, Rule] = {
    **{f"conv{n}d.{overload}": _convolution(n) for n in (1, 2, 3) for overload in ("default", "padding")},
    "conv_transpose1d.default": _convolution(1, transposed=True),
    "conv_transpose2d.input": _convolution(2, transposed=True),
    "conv_transpose3d.input": _convolution(3, transposed=True),
    "convolution.default": _general_convolution,
    "linear.default": _linear,
    "batch_norm.default": _batch_norm,
    "layer_norm.default": _layer_norm,
    "group_norm.default": _group_norm,
    "embedding.default": _embedding,
    "prelu.default": _prelu,
    "lstm.input": _recurrent("LSTM", 2),
    "gru.input": _recurrent("GRU", 1),
    "rnn_tanh.input": _recurrent("RNN", 1, nonlinearity="tanh"),
    "rnn_relu.input": _recurrent("RNN", 1, nonlinearity="relu"),
    "relu.default": _plain("ReLU"),
    "relu6.default": _plain("ReLU6"),
    "hardtanh.default": _hardtanh,
    "hardswish.default": _plain("Hardswish"),
    "hardsigmoid.default": _plain("Hardsigmoid"),
    "silu.default": _plain("SiLU"),
    "gelu.default": _plain("GELU", "approximate"),
    "leaky_relu.default": _plain("LeakyReLU", "negative_slope"),
    "elu.default": _elu,
    "selu.default": _plain("SELU"),
    "sigmoid.default": _plain("Sigmoid"),
    "tanh.default": _plain("Tanh"),
    "mish.default": _plain("Mish"),
    "softplus.default": _plain("Softplus", "beta", "threshold"),
    "softmax.int": _softmax("Softmax"),
    "log_softmax.int": _softmax("LogSoftmax"),
    "dropout.default": _plain("Dropout", "p"),
    "flatten.using_ints": _plain("Flatten", "start_dim", "end_dim"),
    **{f"max_pool{n}d.default": _pool(f"MaxPool{n}d", *_WINDOW, "dilation", "ceil_mode") for n in (1, 2, 3)},
    **{
        f"avg_pool{n}d.default": _pool(f"AvgPool{n}d", *_WINDOW, "ceil_mode", "count_include_pad", "divisor_override")
        for n in (1, 2, 3)
    },
    **{f"adaptive_avg_pool{n}d.default": _plain(f"AdaptiveAvgPool{n}d", output_size="output_size") for n in (1, 2, 3)},
}
"""By the operator, as `operators.OPERATORS` names it."""

# Layers with a form that works in place; the operator's name ends in an underscore then.
IN_PLACE = {
    "ReLU",
    "ReLU6",
    "Hardtanh",
    "Hardswish",
    "Hardsigmoid",
    "SiLU",
    "LeakyReLU",
    "ELU",
    "SELU",
    "Mish",
    "Dropout",
}


def lifted(operator: str, bound: dict[str, Any], shapes: Shapes) -> Lifted | None:
    """The layer that a call of `operator` with arguments `bound` by name stands for; None where it stays a call."""
    packet, _, overload = operator.partition(".")
    in_place = packet.endswith("_")
    rule = RULES.get(f"{packet.removesuffix('_')}.{overload}")
    found = rule(bound, shapes) if rule else None
    if found is None or not in_place:
        return found
    if found.layer.type not in IN_PLACE:
        return None
    layer = found.layer.model_copy(update={"arguments": {**found.layer.arguments, "inplace": True}})
    return Lifted(layer, found.inputs, found.weights)
