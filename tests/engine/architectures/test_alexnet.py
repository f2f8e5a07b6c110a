"""AlexNet for 32x32 images: its size by closed form, its shapes."""

from __future__ import annotations

import torch

from modelpress.engine.architectures.alexnet import AlexNet


def test_parameters_follow_the_closed_form() -> None:
    plan = [(11, 3, 64), (5, 64, 192), (3, 192, 384), (3, 384, 256), (3, 256, 256)]
    expected = sum(k * k * i * o + o for k, i, o in plan) + 256 * 10 + 10
    assert round(expected / 1e6, 1) == 2.5
    assert sum(p.numel() for p in AlexNet().parameters()) == expected


def test_one_pixel_is_left() -> None:
    module = AlexNet(num_classes=4, in_channels=1).eval()
    images = torch.zeros(2, 1, 32, 32)
    assert module.features(images).shape == (2, 256, 1, 1)
    assert module(images).shape == (2, 4)
