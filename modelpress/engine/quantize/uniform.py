"""Uniform steps: evenly spaced values around zero, with a scale for each channel."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from modelpress.engine.quantize.grid import Grid

# Below the smallest normal number, multiples of a scale would lose their last bits.
SMALLEST_SCALE = torch.finfo(torch.float32).tiny

# Clipping factors tried: 1, 0.92, 0.84, ... 0.1. Two bits of a long-tailed channel do best with about 0.2.
_FACTORS = 0.92 ** torch.arange(28)
_REFINEMENTS = 4


def uniform_levels(bits: int) -> Tensor:
    """The integers -Q ... Q with Q = 2^(bits - 1) - 1, float32 (2^bits - 1,): symmetric, so that zero is one."""
    most = 2 ** (bits - 1) - 1
    return torch.arange(-most, most + 1, dtype=torch.float32)


def uniform_grid(weight: Tensor, bits: int, calibration: Literal["mse", "max"]) -> Grid:
    """Steps for a weight (C, ...), a scale for each index of its first dimension.

    A channel of zeros takes the mean scale of the others, so that it can leave zero in a training.
    """
    levels = uniform_levels(bits)
    rows = weight.detach().float().reshape(weight.shape[0], -1)  # (C, N)
    largest = rows.abs().amax(1)
    scales = largest / levels[-1]
    if calibration == "mse":
        scales = least_squares_scales(rows, scales, float(levels[-1]))
    empty = largest == 0
    if bool(empty.any()):
        scales[empty] = scales[~empty].mean() if bool((~empty).any()) else 1.0
    return Grid(levels, scales.clamp_(min=SMALLEST_SCALE))


def least_squares_scales(rows: Tensor, scales: Tensor, most: float) -> Tensor:
    """Scales (C,) that make sum((w - s q)^2) small in each row (C, N), q the nearest integer in -most ... most.

    The best of 28 clipping factors on `scales`, which reach the largest magnitudes; then the scale that is best for
    these integers, s = sum(w q) / sum(q^2), and the integers for that scale, in turn. Neither of the two makes the
    error larger.
    """
    best = scales.clone()
    least = torch.full_like(scales, torch.inf)
    integers, error = torch.empty_like(rows), torch.empty_like(rows)

    def consider(candidate: Tensor) -> None:
        column = candidate.clamp(min=SMALLEST_SCALE).unsqueeze(1)
        torch.div(rows, column, out=integers).round_().clamp_(-most, most)
        torch.addcmul(rows, integers, column, value=-1, out=error)
        found = error.square_().sum(1)
        better = found < least
        best[better], least[better] = candidate[better], found[better]

    for factor in _FACTORS.tolist():
        consider(scales * factor)
    for _ in range(_REFINEMENTS):
        column = best.clamp(min=SMALLEST_SCALE).unsqueeze(1)
        torch.div(rows, column, out=integers).round_().clamp_(-most, most)
        inner = torch.mul(rows, integers, out=error).sum(1)
        squares = integers.square_().sum(1)
        consider(torch.where(squares > 0, inner / squares.clamp(min=1), best))
    return best


def rounded(weight: Tensor, grid: Grid) -> Tensor:
    """What `grid.nearest` gives for uniform steps, in the layout of the weight (C, ...) and many times faster.

    Of two equally near values it takes the even multiple, not the lower one.
    """
    most = float(grid.levels[-1])
    scales = grid.scales_of(weight)
    # Adding zero makes -0.0, which rounding leaves, the zero that the grid has.
    return torch.div(weight, scales).round_().clamp_(-most, most).mul_(scales).add_(0.0)
