"""Magnitudes that can be compared between layers (LAMP: Lee et al. 2021, arXiv 2010.07611)."""

from __future__ import annotations

import torch
from torch import Tensor


def lamp_scores(magnitude: Tensor) -> Tensor:
    """score(u) = w_u^2 / sum of w_v^2 over the weights v of the same layer from u on, in ascending order (equation 2).

    `magnitude` is |w| of one layer; the scores have its shape, in float64, since a layer's sum has millions of terms.
    The largest weight of every layer scores 1, so that none is emptied before all others are. [1, -2, 3] gives
    [1/14, 4/13, 1]. Of equal weights the first in memory scores lower; zeros score zero.
    """
    squares, order = magnitude.detach().double().reshape(-1).square().sort(stable=True)
    sums = squares.flip(0).cumsum(0).flip(0)
    scores = torch.empty_like(squares)
    scores[order] = torch.where(squares > 0, squares / sums, 0.0)
    return scores.view(magnitude.shape)
