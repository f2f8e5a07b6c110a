"""Copies without weights, and copies with fewer of them."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from modelpress.engine.prune_channels.narrow import Removal
from modelpress.engine.prune_channels.outline import narrowed, outline
from tests.support.tiny import tiny_module


class Tied(nn.Module):
    """Two layers with one weight, and a buffer that no state dict has."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)
        self.second.weight = self.first.weight
        self.register_buffer("shift", torch.arange(4.0), persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        scores: Tensor = self.last(self.second(self.first(inputs)) + self.shift)
        return scores


def test_an_outline_has_every_shape_and_no_value() -> None:
    module = tiny_module().train()
    drawn = outline(module)
    assert not drawn.training
    assert module.training
    tensors = [*drawn.named_parameters(), *drawn.named_buffers()]
    assert {tensor.device.type for _, tensor in tensors} == {"meta"}
    wanted = [*module.named_parameters(), *module.named_buffers()]
    assert [(name, tensor.shape) for name, tensor in tensors] == [(name, tensor.shape) for name, tensor in wanted]
    assert drawn(torch.empty(5, 1, 8, 8, device="meta")).shape == (5, 10)


def test_what_is_narrowed_and_what_is_not_are_copies() -> None:
    module = tiny_module()
    before = copy.deepcopy(module.state_dict())
    removals = {"0": Removal(set(), {1, 3}), "1": Removal(set(), {1, 3}), "3": Removal({1, 3}, set())}
    made = narrowed(module, removals)
    kept = [0, 2, 4, 5, 6, 7]
    assert torch.equal(made.get_parameter("0.weight"), before["0.weight"][kept])
    assert torch.equal(made.get_buffer("1.running_var"), before["1.running_var"][kept])
    assert torch.equal(made.get_parameter("3.weight"), before["3.weight"][:, kept])
    assert all(parameter.requires_grad for parameter in made.parameters())
    with torch.no_grad():
        for tensor in made.state_dict().values():
            tensor.fill_(7)
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


def test_what_is_shared_stays_shared_and_no_buffer_is_lost() -> None:
    module = Tied()
    made = narrowed(module, {"last": Removal({0}, set())})
    assert made.get_parameter("first.weight") is made.get_parameter("second.weight")
    assert torch.equal(made.get_buffer("shift"), torch.arange(4.0))
