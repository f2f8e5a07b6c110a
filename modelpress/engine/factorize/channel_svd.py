"""A k x k convolution to fewer channels, and a 1 x 1 one back (Zhang et al. 2016, arXiv 1505.06798, without its data).

The kernel W (N, C, kh, kw) is the matrix M[(c, y, x), n], the filters side by side. Cut to rank K, its left half is a
kernel (K, C, kh, kw) and its right half mixes the K channels into N. With 4 channels in and out and a 3x3 kernel M is
36 x 4: rank 3 has 3 x 40 = 120 weights in place of 144.
"""

from __future__ import annotations

from torch import Tensor, nn


def channel_matrix(layer: nn.Conv2d) -> Tensor:
    """The kernel (N, C, kh, kw) as the matrix (C kh kw) x N."""
    return layer.weight.detach().flatten(1).T


def channel_weights(halves: tuple[Tensor, Tensor], layer: nn.Conv2d) -> tuple[Tensor, Tensor]:
    """Kernels of the first (K, C, kh, kw) and of the pointwise convolution (N, K, 1, 1)."""
    _, inputs, height, width = layer.weight.shape
    first, second = halves  # (C kh kw, K) and (K, N)
    return first.T.reshape(-1, inputs, height, width), second.T[:, :, None, None]
