"""Weights at the start of a training, for the architectures written here."""

from __future__ import annotations

from torch import nn


def initialise(module: nn.Module) -> None:
    """Draw the weights of convolutions and linear layers after He et al. 2015 (arXiv 1502.01852, equation 10).

    Variance 2 / fan-in keeps the activations' scale through deep stacks of ReLUs, which the networks without batch
    normalisation need to train at all. Biases start at zero; norms keep PyTorch's ones and zeros.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
