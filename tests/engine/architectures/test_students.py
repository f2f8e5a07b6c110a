"""The students of SlimNets: sizes by closed form, shapes."""

from __future__ import annotations

import pytest
import torch

from modelpress.engine.architectures.students import CNN, SNN

CONVOLUTIONS = (25 * 3 * 6 + 6) + (25 * 6 * 16 + 16)


@pytest.mark.parametrize("hidden", [1_000, 10_000])
def test_snn_parameters(hidden: int) -> None:
    expected = CONVOLUTIONS + (400 * hidden + hidden) + (hidden * 10 + 10)
    assert sum(p.numel() for p in SNN(hidden).parameters()) == expected


@pytest.mark.parametrize("hidden", [1_000, 10_000])
def test_cnn_parameters(hidden: int) -> None:
    expected = CONVOLUTIONS + (400 * hidden + hidden) + (hidden * 84 + 84) + (84 * 10 + 10)
    assert sum(p.numel() for p in CNN(hidden).parameters()) == expected


@pytest.mark.parametrize("student", [SNN, CNN])
def test_shapes(student: type[SNN] | type[CNN]) -> None:
    module = student(50, num_classes=3, in_channels=1)
    images = torch.zeros(2, 1, 32, 32)
    assert module.features(images).shape == (2, 16, 5, 5)
    assert module(images).shape == (2, 3)
