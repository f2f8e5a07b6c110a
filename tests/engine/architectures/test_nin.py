"""NIN: its size by closed form, and its scores."""

from __future__ import annotations

import torch

from modelpress.engine.architectures.nin import NIN


def test_parameters_follow_the_closed_form() -> None:
    # (kernel, in, out) of the nine convolutions, each with a bias.
    plan = [(5, 3, 192), (1, 192, 160), (1, 160, 96), (5, 96, 192), (1, 192, 192), (1, 192, 192)]
    plan += [(3, 192, 192), (1, 192, 192), (1, 192, 10)]
    expected = sum(k * k * i * o + o for k, i, o in plan)
    assert expected == 966_986  # "967k"
    assert sum(p.numel() for p in NIN().parameters()) == expected


def test_last_maps_are_8x8_and_averaged() -> None:
    torch.manual_seed(0)
    module = NIN().eval()
    images = torch.randn(2, 3, 32, 32)
    maps = module.features(images)
    assert maps.shape == (2, 10, 8, 8)
    torch.testing.assert_close(module(images), maps.sum((2, 3)) / 64)


def test_scores_may_be_negative() -> None:
    torch.manual_seed(0)
    scores = NIN().eval()(torch.randn(8, 3, 32, 32))
    assert (scores < 0).any()
    assert (scores > 0).any()
