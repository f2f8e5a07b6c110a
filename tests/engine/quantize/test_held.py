"""Grids through a training: the gradient, the fit, and what comes out."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from modelpress.engine.prune.masks import Masks
from modelpress.engine.quantize.grid import Grid
from modelpress.engine.quantize.held import HeldGrids, refit
from modelpress.engine.quantize.uniform import uniform_grid, uniform_levels


class StraightThrough(torch.autograd.Function):
    """Rounding as an autograd function of its own, whose gradient is the identity."""

    @staticmethod
    def forward(ctx, weight, grid):  # type: ignore[no-untyped-def]
        return grid.nearest(weight)

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        return gradient, None


def test_the_gradient_is_the_straight_through_estimators():
    torch.manual_seed(0)
    layer, images = nn.Linear(6, 4), torch.randn(5, 6)
    grid = uniform_grid(layer.weight, 3, "max")
    latent = layer.weight.detach().clone()
    twin = latent.clone().requires_grad_()
    expected = (images @ StraightThrough.apply(twin, grid).T + layer.bias).square().sum()
    expected.backward()

    held = HeldGrids(layer, {"weight": grid})
    held.quantize()
    assert not torch.equal(layer.weight, latent)
    loss = layer(images).square().sum()
    loss.backward()
    held.restore()
    assert loss.item() == expected.item()
    torch.testing.assert_close(layer.weight.grad, twin.grad)
    assert torch.equal(layer.weight, latent)


def test_steps_are_fitted_by_least_squares():
    weight = torch.tensor([[1.0, -2.2, 0.1], [0.0, 0.0, 0.0]])
    grid = Grid(uniform_levels(3), torch.tensor([1.0, 0.5]))
    # Integers 1, -2, 0: (1 + 4.4) / (1 + 4) = 1.08. Nothing is known of the second channel.
    torch.testing.assert_close(refit(grid, weight).scales, torch.tensor([1.08, 0.5]))


def test_values_of_a_codebook_become_means_and_zero_stays():
    grid = Grid(torch.tensor([-1.0, 0.0, 2.0, 9.0]), torch.ones(1))
    weight = torch.tensor([[-0.8, -0.9, 0.2], [1.9, 2.5, 0.1]])
    # Nothing is near 9, which stays.
    torch.testing.assert_close(refit(grid, weight).levels, torch.tensor([-0.85, 0.0, 2.2, 9.0]))


def test_masks_and_grids_hold_through_momentum_and_decay():
    torch.manual_seed(1)
    layer = nn.Linear(12, 8)
    kept = torch.rand(8, 12) > 0.5
    masks = Masks(layer, {"weight": kept})
    held = HeldGrids(layer, {"weight": uniform_grid(layer.weight, 4, "mse")})
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.05, momentum=0.9, weight_decay=0.01)
    images, targets = torch.randn(32, 12), torch.randn(32, 8)
    losses = []
    for step in range(1, 101):
        held.quantize()
        loss = (layer(images) - targets).square().mean()
        optimizer.zero_grad()
        loss.backward()
        held.restore()
        optimizer.step()
        masks.apply()
        held.follow(step, 100)
        losses.append(loss.item())
    masks.settle()
    grid = held.settle()["weight"]
    assert losses[-1] < losses[0]
    assert not bool(layer.weight[~kept].any())
    assert torch.equal(grid.nearest(layer.weight), layer.weight)
    assert max(len(row.unique()) for row in layer.weight) <= 15


@pytest.mark.parametrize("steps", [1, 7, 50, 210])
def test_grids_are_fixed_from_the_step_of_their_last_fit(steps: int):
    torch.manual_seed(0)
    layer = nn.Linear(6, 4)
    held = HeldGrids(layer, {"weight": uniform_grid(layer.weight, 3, "max")})
    moved = []
    for step in range(1, steps + 1):
        before = held._grids["weight"].scales.clone()
        with torch.no_grad():
            layer.weight.mul_(1.01)
        held.follow(step, steps)
        if not torch.equal(held._grids["weight"].scales, before):
            moved.append(step)
    assert held.fixed_from(steps) == max(moved, default=0)
    assert HeldGrids(layer, {}).fixed_from(steps) == 0


@pytest.mark.parametrize("bits", [4, 8])
def test_learned_steps_move_by_shares_of_themselves_whatever_the_optimiser(bits: int):
    """AdamW moves every number by about its rate: more than a step of eight bits is."""
    torch.manual_seed(0)
    layer, images = nn.Linear(32, 4), torch.randn(16, 32)
    grid = uniform_grid(layer.weight, bits, "max")
    held = HeldGrids(layer, {"weight": grid}, ["weight"])
    optimizer = torch.optim.AdamW([*layer.parameters(), *held.parameters()], lr=0.01, weight_decay=0)
    for step in range(1, 11):
        held.quantize()
        optimizer.zero_grad()
        layer(images).square().sum().backward()
        held.restore()
        held.find_gradients(step, 1000)
        optimizer.step()
        held.follow(step, 1000)
    moved = held["weight"].scales / grid.scales
    assert bool((moved != 1).any())
    assert float(moved.min()) > 0.85
    assert float(moved.max()) < 1.15


def test_a_checkpoint_holds_the_steps_that_were_fitted_elsewhere():
    torch.manual_seed(0)
    layer = nn.Linear(32, 4)
    grid = uniform_grid(layer.weight, 4, "max")
    there, here = (
        HeldGrids(layer, {"weight": Grid(grid.levels, s)}, ["weight"]) for s in (grid.scales, grid.scales * 1.08)
    )
    with torch.no_grad():
        there.parameters()[0].mul_(1.5)
    there.follow(1, 100)
    here.resume(there.snapshot())
    assert torch.equal(here["weight"].scales, there["weight"].scales)
    here.follow(2, 100)
    assert torch.equal(here["weight"].scales, grid.scales * 1.5)


def test_gradient_descent_moves_learned_steps_as_it_would_by_themselves():
    torch.manual_seed(0)
    layer, images = nn.Linear(32, 4), torch.randn(16, 32)
    grid = uniform_grid(layer.weight, 4, "max")
    held = HeldGrids(layer, {"weight": grid}, ["weight"])
    optimizer = torch.optim.SGD(held.parameters(), lr=1e-3)
    held.quantize()
    layer(images).square().sum().backward()
    held.restore()
    held.find_gradients(1, 1000)
    units = layer.weight.detach() / grid.scales[:, None]
    found = (layer.weight.grad * torch.where(units.abs() < 7, units.round() - units, units.clamp(-7, 7))).sum(1)
    optimizer.step()
    held.follow(1, 1000)
    torch.testing.assert_close(
        held["weight"].scales, grid.scales - 1e-3 * found / (32 * 7) ** 0.5, rtol=1e-5, atol=1e-9
    )
