"""Which layers a network really calls, and so which can be replaced."""

from __future__ import annotations

import torch
from torch import nn

from modelpress.engine.factorize.rank import untreated_reason
from modelpress.engine.network import weighted_layers


def uncalled_layers(module: nn.Module, input_shape: tuple[int, int, int]) -> frozenset[str]:
    """Names of the weighted layers that a forward pass in evaluation mode does not call.

    Some networks read a layer's weight without calling it (windowed attention does), and some have heads for training
    only. Neither can be given another module in its place. `input_shape` is channels, height, width.
    """
    called: set[str] = set()
    handles = [
        layer.register_forward_hook(lambda *_, name=name: called.add(name))
        for name, layer in weighted_layers(module).items()
    ]
    training = module.training
    parameter = next(module.parameters())
    try:
        with torch.no_grad():
            module.eval()(torch.zeros(1, *input_shape, device=parameter.device, dtype=parameter.dtype))
    finally:
        module.train(training)
        for handle in handles:
            handle.remove()
    return frozenset(weighted_layers(module)) - called


def untreated_layers(module: nn.Module, input_shape: tuple[int, int, int]) -> dict[str, str]:
    """Weighted layers that nothing thinner can replace, each with the reason in words."""
    uncalled = uncalled_layers(module, input_shape)
    reasons = {}
    for name, layer in weighted_layers(module).items():
        reason = untreated_reason(layer)
        if reason is None and name in uncalled:
            reason = "the network reads its weight without calling it, or uses it in training only"
        if reason is not None:
            reasons[name] = reason
    return reasons
