from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from modelpress.engine.prune.masks import Masks


def masked_layer() -> tuple[nn.Conv2d, Tensor]:
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 4, 3)
    return layer, torch.rand(layer.weight.shape) > 0.6


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_held_through_momentum_and_weight_decay(optimizer: str, channels_last: bool):
    layer, kept = masked_layer()
    if optimizer == "sgd":
        stepper: torch.optim.Optimizer = torch.optim.SGD(
            layer.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1
        )
    else:
        stepper = torch.optim.AdamW(layer.parameters(), lr=0.1, weight_decay=0.1)

    def step() -> None:
        stepper.zero_grad()
        layer(torch.randn(2, 3, 5, 5)).square().mean().backward()
        stepper.step()

    step()  # momentum is there before the masks are
    masks = Masks(layer, {"weight": kept})
    if channels_last:
        layer.weight.data = layer.weight.data.contiguous(memory_format=torch.channels_last)
    for _ in range(5):
        step()
        masks.apply()
        assert torch.equal(layer.weight == 0, ~kept)
    assert torch.equal(masks.settle()["weight"], kept)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_what_comes_back_has_no_momentum_and_the_others_keep_theirs(optimizer: str):
    layer, kept = masked_layer()
    masks = Masks(layer, {"weight": kept})
    if optimizer == "sgd":
        stepper: torch.optim.Optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)
    else:
        stepper = torch.optim.AdamW(layer.parameters(), lr=0.1)
    masks.follow(stepper)
    masks.update({"weight": kept})  # before the optimiser has seen a gradient
    layer(torch.randn(2, 3, 5, 5)).square().mean().backward()
    stepper.step()
    before = {key: moment.clone() for key, moment in stepper.state[layer.weight].items()}
    wider = kept.clone()
    wider[0] = True
    masks.update({"weight": wider})
    back = wider & ~kept
    for key, moment in stepper.state[layer.weight].items():
        if key == "step":
            assert torch.equal(moment, before[key])
            continue
        assert bool(before[key][back].all()), "gradients reach masked weights too"
        assert torch.equal(moment, torch.where(back, 0.0, before[key]))


def test_settled_zeros_are_all_the_same_bytes():
    layer, kept = masked_layer()
    masks = Masks(layer, {"weight": kept})
    assert bool((torch.signbit(layer.weight) & (layer.weight == 0)).any()), "multiplying leaves negative zeros"
    masks.settle()
    assert not bool((torch.signbit(layer.weight) & (layer.weight == 0)).any())


def test_sparsity_is_over_the_masked_weights():
    module = nn.Sequential(nn.Linear(4, 2), nn.Linear(2, 4))
    masks = Masks(module, {"0.weight": torch.tensor([[True, False, False, True]] * 2)})
    assert masks.names == ("0.weight",)
    assert masks.sparsity == 0.5
    masks.update({"1.weight": torch.zeros(4, 2, dtype=torch.bool)})
    assert masks.sparsity == 0.75
    assert Masks(module).sparsity == 0.0


def test_gradients_of_masked_weights_do_not_count():
    layer, kept = masked_layer()
    masks = Masks(layer, {"weight": kept})
    masks.apply_to_gradients()  # before there are any
    layer(torch.randn(2, 3, 5, 5)).square().mean().backward()
    assert layer.weight.grad is not None
    full = layer.weight.grad.clone()
    masks.apply_to_gradients()
    assert torch.equal(layer.weight.grad, torch.where(kept, full, torch.zeros(())))
