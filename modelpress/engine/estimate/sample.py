"""Tensors by some of their rows: what an estimate looks at, so that its time does not grow with the network."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from modelpress.engine.quantize.grid import Grid

# Values that are looked at: of one tensor, and about as many of all together, of which each has its share.
_MOST_VALUES, _LEAST_VALUES = 2**14, 2**11
_ALL_VALUES = 2**19
# A few rows at the least, since the rows of a trained weight differ in scale.
_LEAST_ROWS = 4


@dataclass(frozen=True)
class Sample:
    """Rows of a float32 tensor that stand for all of it."""

    rows: Tensor  # (R, N): indices of the first dimension, evenly spaced, whole; a vector is one row
    size: int  # values of the whole tensor
    channels: int  # rows of the whole tensor
    grid: Grid | None = None  # that the rows are on, its scales theirs

    @property
    def factor(self) -> float:
        """Values that each value of the rows stands for."""
        return self.size / self.rows.numel()


def sample_tensors(tensors: Mapping[str, Tensor], grids: Mapping[str, Grid] | None = None) -> dict[str, Sample]:
    """Rows of each float32 tensor that has values, by its name, on its grid. A small tensor is all there."""
    grids = grids or {}
    floats = {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point() and tensor.numel()}
    large = sum(tensor.numel() > _LEAST_VALUES for tensor in floats.values())
    most = min(_MOST_VALUES, max(_LEAST_VALUES, _ALL_VALUES // max(1, large)))
    samples = {}
    for name, tensor in floats.items():
        rows = tensor.detach().reshape(len(tensor), -1) if tensor.ndim > 1 else tensor.detach().reshape(1, -1)
        count = rows_of(len(rows), rows.shape[1], most)
        chosen = [index * len(rows) // count for index in range(count)]
        grid = grids.get(name)
        if grid is not None and len(grid.scales) > 1:
            grid = Grid(grid.levels, grid.scales[chosen])
        samples[name] = Sample(rows[chosen], tensor.numel(), len(rows), grid)
    return samples


def rows_of(rows: int, columns: int, most: int = _MOST_VALUES) -> int:
    """How many of so many rows are looked at."""
    return min(rows, max(_LEAST_ROWS, math.ceil(most / columns)))
