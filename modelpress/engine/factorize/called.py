"""Which layers a network really calls."""

from __future__ import annotations

import torch
from torch import nn

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
