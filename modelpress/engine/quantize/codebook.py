"""Codebooks: a layer's own values, found by k-means (Han et al. 2016, Deep Compression, section 3)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from modelpress.engine.quantize.grid import Grid
from modelpress.engine.quantize.kmeans import Floats, kmeans, linear_start


def codebook_grid(weight: Tensor, bits: int) -> Grid:
    """At most 2^bits values for a weight of any shape, zero among them: k-means over the weights that are not zero.

    Zero stays where it is while the others move; weights nearer to it than to any other value become zero too.
    """
    values = weight.detach().cpu().flatten().numpy().astype(np.float64)
    kept = values[values != 0]
    if len(kept) == 0:
        return codebook(kept)
    start = linear_start(min(float(kept.min()), 0.0), max(float(kept.max()), 0.0), 2**bits)
    start[np.abs(start).argmin()] = 0.0
    return codebook(kmeans(kept, start, fixed=0.0))


def codebook(values: Floats) -> Grid:
    """The grid of these values and zero, as float32; one that the grid cannot tell from the one below is left out."""
    levels = torch.from_numpy(values.astype(np.float32))
    # Half-way between zero and a number below the smallest normal one there may be none.
    levels = levels[levels.abs() >= torch.finfo(torch.float32).tiny]
    levels = torch.unique(torch.cat((levels, torch.zeros(1))))
    between = (levels[1:] + levels[:-1]) / 2
    levels = torch.cat((levels[:1], levels[1:][between < levels[1:]]))
    if len(levels) == 1:  # of a layer of zeros; a grid has two levels at least
        levels = torch.tensor([0.0, 1.0])
    return Grid(levels, torch.ones(1))
