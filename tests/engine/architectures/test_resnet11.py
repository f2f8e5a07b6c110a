"""The residual network for few cores: its size in closed form, its width, and the images it takes."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from modelpress.engine.architectures.resnet11 import Residual, ResNet11


@pytest.mark.parametrize(("width", "channels"), [(1.0, (24, 48, 96, 192)), (0.5, (12, 24, 48, 96))])
def test_its_size_is_that_of_eleven_layers(width: float, channels: tuple[int, ...]) -> None:
    module = ResNet11(width=width)
    # The first convolution; in each group one that widens and two of the residual block; each with a norm; linear.
    pairs = [(3, channels[0]), *pairwise(channels)]
    count = sum(9 * inside * outside + 2 * outside for inside, outside in pairs)
    count += sum(2 * (9 * each**2 + 2 * each) for each in channels[1:])
    assert sum(p.numel() for p in module.parameters()) == count + channels[-1] * 10 + 10
    assert sum(isinstance(layer, nn.Conv2d | nn.Linear) for layer in module.modules()) == 11


def test_maps_are_small_behind_the_first_convolution() -> None:
    seen: dict[str, tuple[int, ...]] = {}
    module = ResNet11().eval()
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda _, __, out, name=name: seen.update({name: tuple(out.shape[2:])}))
    module(torch.zeros(1, 3, 32, 32))
    sizes = {"stem": (30, 30), "layer1": (15, 15), "layer2": (7, 7), "layer3": (3, 3)}
    assert {(name.split(".")[0], shape) for name, shape in seen.items()} == set(sizes.items())


def test_a_block_adds_to_what_comes_in() -> None:
    block = Residual(2).eval()
    nn.init.zeros_(block.conv2.conv.weight)
    x = torch.randn(1, 2, 4, 4)
    assert torch.equal(block(x), x)


def test_takes_other_image_sizes_channels_and_classes() -> None:
    module = ResNet11(num_classes=5, in_channels=1, width=0.001).eval()
    assert module(torch.zeros(2, 1, 40, 24)).shape == (2, 5)
    assert module(torch.zeros(2, 1, 10, 10)).shape == (2, 5)
