"""N:M sparsity: of every m consecutive weights along a layer's inputs, n are kept (Mishra et al. 2021, 2:4)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from modelpress.spec.steps import Pattern

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def input_dimension(layer: nn.Module) -> int:
    """The dimension of a layer's weight along which its inputs lie: 1, or 0 where it is transposed."""
    return 0 if isinstance(layer, _TRANSPOSED) else 1


def inputs_of(layer: nn.Module) -> int:
    """How many inputs each output of a layer sees: those of one group of a convolution."""
    inputs = layer.get_parameter("weight").shape[input_dimension(layer)]
    return inputs // layer.groups if isinstance(layer, _TRANSPOSED) else inputs


def keep_pattern(score: Tensor, pattern: Pattern, kept: Tensor, dimension: int) -> Tensor:
    """The mask (True is kept) of one layer: in each group of m, the m - n weights of the lowest score go.

    `score` and `kept` have the weight's shape; its length along `dimension` is a multiple of m. What `kept` already
    removes goes first and stays removed, even where that leaves a group with fewer than n; of equal scores the first
    in memory goes first. 2:4 of [3, 1, 2, 4, 5, 8, 7, 6] keeps 3, 4, 8, 7.
    """
    held = score.masked_fill(~kept.to(score.device), -torch.inf).movedim(dimension, -1)
    groups = held.reshape(-1, pattern.m)
    order = groups.sort(dim=1, stable=True).indices
    keep = torch.ones_like(groups, dtype=torch.bool).scatter_(1, order[:, : pattern.m - pattern.n], False)
    return (keep & (groups > -torch.inf)).view(held.shape).movedim(-1, dimension)
