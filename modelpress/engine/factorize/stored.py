"""What a weight takes in the compact file, by the order-0 entropy that the file comes close to."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from modelpress.engine.quantize.grid import Grid

WEIGHT_BITS = 32


def stored_bytes(weight: Tensor, grid: Grid | None) -> int:
    """Bytes of a weight: of a quantized one its values' entropy and its scales, of any other 4 for each that is not
    zero and the entropy of where the zeros are.
    """
    if grid is not None:
        counts = grid.indices(weight.detach()).flatten().bincount(minlength=len(grid.levels))
        fixed = WEIGHT_BITS * (len(grid.levels) + len(grid.scales))
    else:
        nonzero = int(weight.count_nonzero())
        counts = torch.tensor([nonzero, weight.numel() - nonzero])
        fixed = WEIGHT_BITS * nonzero
    return math.ceil((fixed + entropy_bits(counts)) / 8)


def entropy_bits(counts: Tensor) -> float:
    """Order-0 entropy of a text with these counts of its symbols, in bits."""
    some = counts[counts > 0].double()
    return float((some * (some.sum() / some).log2()).sum())
