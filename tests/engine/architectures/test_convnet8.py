"""The network for few epochs: its size in closed form, its beginning, and the images it takes."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from modelpress.engine.architectures.convnet8 import ConvNet8


@pytest.mark.parametrize(("width", "channels"), [(1.0, (64, 256, 256)), (0.75, (48, 192, 192))])
def test_its_size_is_that_of_eight_layers(width: float, channels: tuple[int, ...]) -> None:
    module = ConvNet8(width=width)
    count = 3 * 2 * 2 * 24 + 24
    for inside, outside in pairwise((24, *channels)):
        count += 9 * inside * outside + 9 * outside**2 + 2 * 2 * outside
    assert sum(p.numel() for p in module.parameters()) == count + 10 * channels[-1]
    assert sum(isinstance(layer, nn.Conv2d | nn.Linear) for layer in module.modules()) == 8


def test_maps_are_those_of_the_paper() -> None:
    seen: dict[str, tuple[int, ...]] = {}
    module = ConvNet8().eval()
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda _, __, out, name=name: seen.update({name: tuple(out.shape[2:])}))
    module(torch.zeros(1, 3, 32, 32))
    groups = {f"group{group}.conv{place}": size for group in (1, 2, 3) for place, size in _sizes(group)}
    assert seen == {"stem.conv": (31, 31), **groups}


def _sizes(group: int) -> list[tuple[int, tuple[int, int]]]:
    """Before and behind the pooling of a group."""
    sides = (31, 15, 7, 3)
    return [(place, (side, side)) for place, side in enumerate(sides[group - 1 : group + 1], start=1)]


def test_a_group_begins_by_handing_its_input_on() -> None:
    group = ConvNet8().group1.eval()
    images = torch.rand(2, 24, 8, 8)
    expected = nn.functional.max_pool2d(images, 2)
    torch.testing.assert_close(group(images)[:, :24], expected, rtol=1e-4, atol=0.0)


def test_scores_are_a_ninth_of_the_last_layers_outputs() -> None:
    module = ConvNet8(width=0.1).eval()
    found: list[torch.Tensor] = []
    module.linear.register_forward_hook(lambda _, __, out: found.append(out))
    torch.testing.assert_close(module(torch.rand(2, 3, 32, 32)) * 9, found[0])


def test_takes_other_image_sizes_channels_and_classes() -> None:
    module = ConvNet8(num_classes=5, in_channels=1, width=0.001).eval()
    assert module(torch.zeros(2, 1, 40, 24)).shape == (2, 5)
    assert module(torch.zeros(2, 1, 9, 9)).shape == (2, 5)
