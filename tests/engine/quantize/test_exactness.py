"""What every grid promises, over shapes, bits, sizes of weights and optimisers."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from modelpress.engine.prune.masks import Masks
from modelpress.engine.quantize.codebook import codebook_grid
from modelpress.engine.quantize.grid import Grid
from modelpress.engine.quantize.held import HeldGrids, refit
from modelpress.engine.quantize.uniform import uniform_grid

GRIDS = {
    "uniform": lambda weight, bits: uniform_grid(weight, bits, "mse"),
    "codebook": codebook_grid,
}


def check(grid: Grid, weight: torch.Tensor, bits: int) -> None:
    """The grid is one, and a weight on it stays, to the last bit, and comes back from its indices."""
    assert 2 <= len(grid.levels) <= 2**bits
    assert bool((grid.levels.diff() > 0).all())
    assert bool((grid.levels == 0).any())
    assert bool((grid.scales > 0).all())
    assert grid.scales.shape in ((1,), weight.shape[:1])
    on = grid.nearest(weight)
    assert torch.equal(grid.nearest(on), on)
    assert torch.equal(grid.values(grid.indices(on)), on)
    assert not bool(on[weight == 0].any())


@settings(max_examples=25, deadline=None)
@given(
    shape=st.lists(st.integers(1, 5), min_size=2, max_size=4),
    bits=st.integers(2, 8),
    magnitude=st.sampled_from([1e-36, 1e-6, 1.0, 1e6]),
    zeros=st.floats(0, 1),
    seed=st.integers(0, 100),
)
@pytest.mark.parametrize("scheme", GRIDS)
def test_weights_on_a_grid_stay_there(
    scheme: str, shape: list[int], bits: int, magnitude: float, zeros: float, seed: int
):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(shape, generator=generator) * magnitude
    weight[torch.rand(shape, generator=generator) < zeros] = 0
    grid = GRIDS[scheme](weight, bits)
    check(grid, weight, bits)
    moved = weight + 0.1 * magnitude * torch.randn(shape, generator=generator) * (weight != 0)
    check(refit(grid, moved), moved, bits)


@pytest.mark.parametrize("scheme", GRIDS)
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_masks_and_grids_hold_through_a_hundred_steps_in_any_layout(scheme: str, optimizer: str):
    torch.manual_seed(2)
    layer = nn.Conv2d(4, 6, 3)
    layer.weight.data = layer.weight.data.contiguous(memory_format=torch.channels_last)
    kept = torch.rand(layer.weight.shape) > 0.5
    masks = Masks(layer, {"weight": kept})
    held = HeldGrids(layer, {"weight": GRIDS[scheme](layer.weight, 3)})
    stepper: torch.optim.Optimizer = torch.optim.AdamW(layer.parameters(), lr=0.01, weight_decay=0.1)
    if optimizer == "sgd":
        stepper = torch.optim.SGD(layer.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01)
    images, targets = torch.randn(8, 4, 6, 6), torch.randn(8, 6, 4, 4)
    for step in range(1, 101):
        held.quantize()
        seen = layer.weight.detach().clone()
        if scheme == "codebook":
            assert len(seen.unique()) <= 8
        else:
            assert max(len(row.unique()) for row in seen) <= 7
        assert not bool(seen[~kept].any())
        stepper.zero_grad()
        (layer(images) - targets).square().mean().backward()
        held.restore()
        stepper.step()
        masks.apply()
        held.follow(step, 100)
    masks.settle()
    grid = held.settle()["weight"]
    check(grid, layer.weight.detach(), 3)
    assert torch.equal(grid.nearest(layer.weight), layer.weight)
    assert not bool(layer.weight[~kept].any())


def test_two_values_of_a_codebook_that_meet_become_one():
    grid = Grid(torch.tensor([0.0, 1.0, 2.0]), torch.ones(1))
    # All that was nearest to 1 is now 1.4999999, all that was nearest to 2 is 1.5000001: neighbours in float32.
    near = torch.tensor([[1.5, 1.5]])
    near[0, 1] = torch.nextafter(near[0, 1], torch.tensor(2.0))
    fitted = refit(grid, near)
    check(fitted, near, 2)
