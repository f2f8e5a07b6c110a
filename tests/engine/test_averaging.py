from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from modelpress.engine.averaging import WeightAverage
from tests.support.tiny import tiny_module


def left(module: nn.Module, average: WeightAverage) -> dict[str, Tensor]:
    result = copy.deepcopy(module)
    with average.in_place():
        result.load_state_dict(module.state_dict())
    return result.state_dict()


@pytest.mark.parametrize(("decay", "expected"), [(0.999, 372 / 143), (0.2, 0.2 * (0.2 * 9 / 11 + 0.8 * 2) + 0.8 * 3)])
def test_by_hand(decay: float, expected: float):
    """A weight that is 0 at first, then 1, 2, 3. Decays while warming up: 2/11, 3/12, 4/13.

    9/11; 1/4 9/11 + 3/4 2 = 75/44; 4/13 75/44 + 9/13 3 = 372/143. With a decay of 0.2 only the first warms up.
    """
    module = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(module.weight)
    average = WeightAverage(module, decay)
    for value in (1.0, 2.0, 3.0):
        nn.init.constant_(module.weight, value)
        average.update()
    assert float(left(module, average)["weight"]) == pytest.approx(expected)


def test_after_the_warm_up_it_is_torchs_own():
    """The 0.1 of a low decay is reached at once. torch's first update copies, and leaves out whole numbers."""
    module = tiny_module()
    average = WeightAverage(module, 0.1)
    reference = AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(0.1), use_buffers=True)
    reference.update_parameters(module)
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        for tensor in [*module.parameters(), *(buffer for buffer in module.buffers() if buffer.is_floating_point())]:
            tensor.data.add_(torch.randn(tensor.shape, generator=generator))
        average.update()
        reference.update_parameters(module)
    found, expected = left(module, average), reference.module.state_dict()
    assert list(found) == list(expected)
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[name])


def test_counters_are_the_latest_ones():
    module = tiny_module().train()
    average = WeightAverage(module, 0.999)
    for _ in range(3):
        module(torch.randn(4, 1, 8, 8))
        average.update()
    assert int(left(module, average)["1.num_batches_tracked"]) == 3


def test_weights_come_back_and_changes_to_the_averages_stay():
    module = nn.Linear(2, 2)
    before = copy.deepcopy(module.state_dict())
    average = WeightAverage(module, 0.9)
    with torch.no_grad():
        module.weight.add_(1.0)
    with average.in_place():
        assert torch.equal(module.weight, before["weight"])
        with torch.no_grad():
            module.weight[0].zero_()
    assert torch.equal(module.weight, before["weight"] + 1)
    average.leave()
    assert module.weight[0].tolist() == [0.0, 0.0]
    assert torch.equal(module.weight[1], before["weight"][1])


def test_a_weight_that_two_layers_share_is_averaged_once():
    module = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    module[1].weight = module[0].weight
    nn.init.zeros_(module[0].weight)
    average = WeightAverage(module, 0.9)
    nn.init.ones_(module[0].weight)
    average.update()
    average.leave()
    torch.testing.assert_close(module[0].weight.detach(), torch.full((2, 2), 9 / 11))
    assert module[1].weight is module[0].weight
