"""The levels and scales of a grid, as the compact container stores them.

plan:  levels - 1 (1 byte),  1 = levels are consecutive integers | 2 = a scale per channel | 4 = the one scale is 1
       (1 byte),  the first level (2 bytes, signed; only of consecutive integers)
pool:  the levels, unless they are consecutive integers;  the scales, unless there is one and it is 1
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from modelpress.engine.formats.packing import PackingError
from modelpress.engine.quantize.grid import Grid

Floats = npt.NDArray[np.float32]

_INTEGERS, _CHANNELS, _ONE = 1, 2, 4


@dataclass(frozen=True)
class StoredGrid:
    """What the plan says of a grid."""

    levels: int
    first: int | None  # of consecutive integers
    scales: int
    unit: bool  # the one scale is 1

    @property
    def pooled(self) -> int:
        """Numbers that it has in the pool."""
        return (self.levels if self.first is None else 0) + (0 if self.unit else self.scales)


def pack_levels(grid: Grid) -> tuple[bytes, Floats]:
    """A grid of at least two and at most 256 levels: its bytes in the plan, and its numbers for the pool."""
    levels, scales = grid.levels.cpu().numpy(), grid.scales.cpu().numpy()
    first = int(levels[0]) if abs(float(levels[0])) < 2**15 else 0
    integers = bool((levels == np.arange(first, first + len(levels), dtype=np.float32)).all())
    unit = len(scales) == 1 and float(scales[0]) == 1.0
    flags = _INTEGERS * integers | _CHANNELS * (len(scales) > 1) | _ONE * unit
    plan = struct.pack("<BB", len(levels) - 1, flags) + (struct.pack("<h", first) if integers else b"")
    numbers = [np.zeros(0, np.float32)] + ([] if integers else [levels]) + ([] if unit else [scales])
    return plan, np.concatenate(numbers)


def read_levels(plan: bytes, more: bytes, shape: Sequence[int]) -> StoredGrid:
    """What two bytes of the plan say of the grid of a weight of this shape; `more` has the two that may follow."""
    flags = plan[1]
    if not shape or flags > 7 or plan[0] < 1 or (flags & _CHANNELS and flags & _ONE):
        raise PackingError("a weight has a grid that cannot be")
    first = struct.unpack("<h", more)[0] if flags & _INTEGERS else None
    return StoredGrid(plan[0] + 1, first, shape[0] if flags & _CHANNELS else 1, bool(flags & _ONE))


def follows(plan: bytes) -> int:
    """How many bytes follow the first two in the plan."""
    return 2 if plan[1] & _INTEGERS else 0


def unpack_levels(stored: StoredGrid, numbers: Floats) -> Grid:
    """The grid whose numbers in the pool are these.

    Raises PackingError unless all are finite, the levels rise and the scales are above zero.
    """
    if stored.first is None:
        levels, scales = numbers[: stored.levels], numbers[stored.levels :]
    else:
        levels, scales = np.arange(stored.first, stored.first + stored.levels, dtype=np.float32), numbers
    if stored.unit:
        scales = np.ones(1, np.float32)
    if not (np.isfinite(levels).all() and np.isfinite(scales).all()):
        raise PackingError("a weight's grid is not of finite numbers")
    if not ((levels[1:] > levels[:-1]).all() and (scales > 0).all()):
        raise PackingError("a weight's levels do not rise, or its scales are not above zero")
    return Grid(torch.from_numpy(levels.copy()), torch.from_numpy(scales.copy()))
