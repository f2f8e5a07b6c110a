"""He initialisation: variance 2 / fan-in, zero biases."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from modelpress.engine.architectures.initialisation import initialise


@pytest.mark.parametrize(("layer", "fan_in"), [(nn.Linear(400, 500), 400), (nn.Conv2d(32, 64, 3), 32 * 9)])
def test_variance_is_two_over_fan_in(layer: nn.Linear | nn.Conv2d, fan_in: int) -> None:
    torch.manual_seed(0)
    initialise(nn.Sequential(layer))
    assert float(layer.weight.detach().var()) == pytest.approx(2 / fan_in, rel=0.05)
    assert not layer.bias.any()
