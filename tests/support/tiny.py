"""A network of a few hundred weights for 8 x 8 images: convolutions with norms, then linear layers."""

from __future__ import annotations

import torch
from torch import nn

from modelpress.engine.network import Network
from modelpress.spec.architecture import ArchitectureRef
from modelpress.spec.network import NetworkDescription, Preprocessing


def tiny_module(channels: int = 1, classes: int = 10, *, norm: bool = True, width: int = 8) -> nn.Sequential:
    """Layers 0 and 3 are 3x3 convolutions, 7 and 9 are linear."""
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1),
        nn.BatchNorm2d(width) if norm else nn.Identity(),
        nn.ReLU(),
        nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
        nn.BatchNorm2d(2 * width) if norm else nn.Identity(),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(2 * width * 16, 32),
        nn.ReLU(),
        nn.Linear(32, classes),
    )


def tiny_network(
    preprocessing: Preprocessing | None = None,
    *,
    channels: int = 1,
    classes: int = 10,
    norm: bool = True,
    seed: int = 0,
) -> Network:
    """The tiny module with weights drawn by the seed. Its architecture's name is in no registry."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = tiny_module(channels, classes, norm=norm).eval()
    description = NetworkDescription(
        architecture=ArchitectureRef(architecture="tiny"), input_shape=(channels, 8, 8), preprocessing=preprocessing
    )
    return Network(module, description)
