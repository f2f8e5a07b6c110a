"""The values that a quantized weight may take."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

MOST_LEVELS = 256


@dataclass(frozen=True)
class Grid:
    """weight[c, ...] = levels[i] * scales[c], both float32, for some i of each weight.

    Uniform steps of b bits: levels are the integers -(2^(b-1) - 1) ... 2^(b-1) - 1, with one scale per channel. A
    codebook: levels are its values, with the one scale 1. Zero always is a level, so that pruned weights stay pruned.

    Example: levels (-1, 0, 1) and scales (0.5, 2) give the first channel's weights -0.5, 0, 0.5 and the second's
    -2, 0, 2.
    """

    levels: Tensor  # float32 (K,), rising, 2 <= K <= MOST_LEVELS
    scales: Tensor  # float32 (C,), above zero, one for each index of the weight's first dimension; or (1,) for all

    def indices(self, weight: Tensor) -> Tensor:
        """The level nearest to each weight: int64, of the weight's shape. Of two equally near, the lower one."""
        levels = self.levels.to(weight.device)
        between = (levels[1:] + levels[:-1]) / 2
        # Contiguous, since a search in channels-last order copies all the same, with a warning.
        return torch.bucketize((weight / self.scales_of(weight)).contiguous(), between)

    def values(self, indices: Tensor) -> Tensor:
        """The weight (C, ...) that these indices stand for; the same indices give the same bits everywhere."""
        return self.levels.to(indices.device)[indices] * self.scales_of(indices)

    def nearest(self, weight: Tensor) -> Tensor:
        """The weight (C, ...) with each value moved to the nearest that the grid has."""
        return self.values(self.indices(weight))

    def scales_of(self, weight: Tensor) -> Tensor:
        """The scales, to be broadcast over a weight (C, ...), on its device."""
        return self.scales.to(weight.device).view(-1, *[1] * (weight.ndim - 1))
