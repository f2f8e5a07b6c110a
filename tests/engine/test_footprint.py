"""Memory for each image, against sums by hand."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from modelpress.engine.footprint import footprint


def test_a_small_network_by_hand():
    """Numbers of four bytes, one image of 3 x 8 x 8.

    A convolution keeps its input (192) for the gradient of its weights, ReLU its output (4 x 8 x 8 = 256), which is
    the linear layer's input too; the layer with most is ReLU: 256 in, 256 out.
    """
    module = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 10))
    found = footprint(module, (3, 8, 8))
    assert found is not None
    assert found.training_bytes == 4 * (192 + 256)
    assert found.forward_bytes == 4 * (256 + 256)


def test_it_leaves_the_network_as_it_is():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout()).eval()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    assert footprint(module, (3, 8, 8)) is not None
    assert not module.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert all(tensor.device.type == "cpu" for tensor in module.state_dict().values())


class Undecided(nn.Module):
    """Goes by a number that it has computed."""

    def forward(self, images: Tensor) -> Tensor:
        return images if bool(images.sum() > 0) else -images


def test_a_network_that_needs_numbers_has_none():
    assert footprint(Undecided(), (3, 8, 8)) is None
