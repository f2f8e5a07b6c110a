"""Rearrangements counted by hand."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from modelpress.engine.estimate.entanglement import rearrangements


class Rearranging(nn.Module):
    """Transposes, flattens, and concatenates three branches, the last of which is none of them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 4, 1), nn.Linear(4 * 9 * 3, 2)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.first(images)
        joined = torch.cat([maps, maps.transpose(2, 3), maps.relu()], 1)
        return self.second(joined.flatten(1))


def test_each_view_and_each_input_of_a_concatenation_counts() -> None:
    # One transposition, three inputs, one flattening.
    assert rearrangements(Rearranging(), (2, 3, 3)) == 1 + 3 + 1


def test_layers_alone_rearrange_nothing() -> None:
    assert rearrangements(nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU()), (2, 8, 8)) == 0
