"""ResNets for CIFAR: sizes of the paper's table 6, and the shortcut without parameters."""

from __future__ import annotations

import pytest
import torch

from modelpress.engine.architectures.resnet import Block, ResNet


# He et al. 2015, table 6: millions of parameters.
@pytest.mark.parametrize(("depth", "millions"), [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85), (110, 1.7)])
def test_sizes_are_the_papers(depth: int, millions: float) -> None:
    module = ResNet(depth)
    count = sum(p.numel() for p in module.parameters())
    n = (depth - 2) // 6
    # First convolution; n blocks of two convolutions per group, the first one of a group widening; norms; linear.
    convolutions = 9 * (3 * 16 + 2 * n * 16**2 + 16 * 32 + (2 * n - 1) * 32**2 + 32 * 64 + (2 * n - 1) * 64**2)
    norms = 2 * (16 + 2 * n * (16 + 32 + 64))
    assert count == convolutions + norms + 64 * 10 + 10
    assert round(count / 1e6, 1 if depth == 110 else 2) == millions
    weighted = [m for m in module.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
    assert len(weighted) == depth


def test_width_scales_every_channel_count_and_leaves_at_least_one() -> None:
    convolutions = [m for m in ResNet(20, width=0.5).modules() if isinstance(m, torch.nn.Conv2d)]
    assert [m.out_channels for m in convolutions] == [8] * 7 + [16] * 6 + [32] * 6
    thinnest = ResNet(20, width=0.001)
    assert {m.out_channels for m in thinnest.modules() if isinstance(m, torch.nn.Conv2d)} == {1}
    assert thinnest.eval()(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_shortcut_takes_every_other_pixel_and_adds_zero_channels() -> None:
    block = Block(2, 4, stride=2).eval()
    torch.nn.init.zeros_(block.conv2.weight)  # so that the block gives ReLU(shortcut) alone
    x = torch.arange(1.0, 33.0).view(1, 2, 4, 4)
    y = block(x)
    assert y.shape == (1, 4, 2, 2)
    assert y[0, 0].eq(0).all()
    assert y[0, 3].eq(0).all()
    assert y[0, 1].tolist() == [[1, 3], [9, 11]]
    assert y[0, 2].tolist() == [[17, 19], [25, 27]]


def test_takes_other_image_sizes_channels_and_classes() -> None:
    module = ResNet(20, num_classes=5, in_channels=1).eval()
    assert module(torch.zeros(2, 1, 40, 24)).shape == (2, 5)
