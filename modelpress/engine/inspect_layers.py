"""What each layer with weights is, how a network calls it, and why nothing thinner can replace it where that is so."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from modelpress.engine.factorize.rank import full_rank, untreated_reason
from modelpress.engine.graphs.network import weights_of_operators
from modelpress.engine.measure import evaluating
from modelpress.engine.network import layer_type, weighted_layers
from modelpress.spec.inspection import LayerCall, LayerInspection


def inspect_layers(module: nn.Module, input_shape: tuple[int, int, int]) -> tuple[LayerInspection, ...]:
    """The weighted layers, in the order of `named_modules()`. `input_shape` is channels, height, width.

    Some networks read a layer's weight without calling it (windowed attention does), and some have heads for training
    only. Neither can be given another module in its place.
    """
    calls, read = layer_calls(module, input_shape), weights_of_operators(module)
    return tuple(
        _inspection(name, layer, calls[name], is_read=f"{name}.weight" in read)
        for name, layer in weighted_layers(module).items()
    )


def layer_calls(module: nn.Module, input_shape: tuple[int, int, int]) -> dict[str, tuple[LayerCall, ...]]:
    """How a forward pass of one image in evaluation mode calls each weighted layer."""
    layers = weighted_layers(module)
    calls: dict[str, list[LayerCall]] = {name: [] for name in layers}

    def note(layer: nn.Module, given: tuple[Any, ...], made: Tensor, *, name: str) -> None:
        calls[name].append(LayerCall(input_size=_size(layer, given[0]), output_size=_size(layer, made)))

    handles = [
        layer.register_forward_hook(lambda layer, given, made, name=name: note(layer, given, made, name=name))
        for name, layer in layers.items()
    ]
    parameter = next(module.parameters())
    try:
        with evaluating(module), torch.no_grad():
            module(torch.zeros(1, *input_shape, device=parameter.device, dtype=parameter.dtype))
    finally:
        for handle in handles:
            handle.remove()
    return {name: tuple(found) for name, found in calls.items()}


def _size(layer: nn.Module, images: Tensor) -> tuple[int, ...]:
    """Sizes without the channels or features, and without a batch of one."""
    if isinstance(layer, nn.Linear):
        sizes = images.shape[:-1]
    else:
        dimensions = layer.get_parameter("weight").ndim - 2
        sizes = images.shape[: -dimensions - 1] + images.shape[-dimensions:]
    return tuple(sizes[1:] if sizes[:1] == (1,) else sizes)


def _inspection(name: str, layer: nn.Module, calls: tuple[LayerCall, ...], *, is_read: bool) -> LayerInspection:
    untreated = untreated_reason(layer)
    if untreated is None and is_read:
        untreated = "the network also reads its weight without calling it"
    if untreated is None and not calls:
        untreated = "the network reads its weight without calling it, or uses it in training only"
    groups = getattr(layer, "groups", 1)
    return LayerInspection(
        name=name,
        type=layer_type(layer),
        weight_shape=tuple(layer.get_parameter("weight").shape),
        groups=groups,
        parameters=sum(parameter.numel() for parameter in layer.parameters(recurse=False)),
        calls=calls,
        prunable=True,
        full_rank=full_rank(layer) if untreated is None else None,
        untreated=untreated,
    )
