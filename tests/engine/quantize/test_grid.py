"""Grids by hand."""

from __future__ import annotations

import torch

from modelpress.engine.quantize.grid import Grid

GRID = Grid(levels=torch.tensor([-1.0, 0.0, 1.0]), scales=torch.tensor([0.5, 2.0]))


def test_each_channel_has_its_own_step():
    weight = torch.tensor([[[0.1, -0.3, 9.0]], [[0.9, 1.1, -2.4]]])
    assert GRID.indices(weight).tolist() == [[[1, 0, 2]], [[1, 2, 0]]]
    assert GRID.nearest(weight).tolist() == [[[0.0, -0.5, 0.5]], [[0.0, 2.0, -2.0]]]


def test_what_is_on_the_grid_stays():
    weight = torch.tensor([[-0.5, 0.0, 0.5], [2.0, 0.0, -2.0]])
    assert torch.equal(GRID.nearest(weight), weight)


def test_one_scale_serves_every_channel():
    codebook = Grid(levels=torch.tensor([-0.3, 0.0, 0.2, 0.7]), scales=torch.ones(1))
    weight = torch.tensor([[0.5], [-9.0], [0.1]])
    # 0.1 lies half-way between 0 and 0.2: the lower one is taken.
    assert codebook.nearest(weight).flatten().tolist() == torch.tensor([0.7, -0.3, 0.0]).tolist()
