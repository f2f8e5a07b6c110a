"""Figures of layers by type against closed forms."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from modelpress.engine.layer_types import figures_by_type, own_layers
from modelpress.engine.measure import count_layer_macs
from modelpress.spec.inspection import TypeFigures


class Tokens(nn.Module):
    """A parameter of its own, an attention, and one linear layer under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 1, 8))
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 8)
        self.tied = nn.Linear(8, 8)
        self.tied.weight = self.head.weight

    def forward(self, images: Tensor) -> Tensor:
        tokens = images.flatten(2).transpose(1, 2) + self.token
        return self.tied(self.head(self.norm(self.attention(tokens, tokens, tokens)[0]).mean(1)))


def test_every_parameter_counts_once() -> None:
    module = Tokens()
    layers = own_layers(module)
    _, macs = count_layer_macs(module, layers, (8, 2, 2))
    assert figures_by_type(layers, macs) == (
        TypeFigures(type="Tokens", layers=1, parameters=8, macs=0),
        # Three matrices and their biases; its products are in no layer.
        TypeFigures(type="MultiheadAttention", layers=1, parameters=3 * (64 + 8), macs=0),
        # The attention's projection, the two with one weight.
        TypeFigures(type="Linear", layers=3, parameters=64 + 8 + 64 + 8 + 8, macs=64 + 64),
        TypeFigures(type="LayerNorm", layers=1, parameters=16, macs=0),
    )


def test_layers_without_parameters_are_layers() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(), nn.ReLU()))
    layers = own_layers(module)
    _, macs = count_layer_macs(module, layers, (3, 8, 8))
    assert figures_by_type(layers, macs) == (
        TypeFigures(type="Conv2d", layers=1, parameters=3 * 4 * 9 + 4, macs=3 * 4 * 9 * 36),
        TypeFigures(type="BatchNorm2d", layers=1, parameters=8, macs=0),
        TypeFigures(type="ReLU", layers=2, parameters=0, macs=0),
    )
