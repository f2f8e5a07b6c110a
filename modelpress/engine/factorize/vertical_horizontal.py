"""A convolution as a vertical and a horizontal one (Tai et al. 2015; SlimNets, equations 2 to 5).

A kernel W (N, C, kh, kw) is approximated by W~[n, c] = sum over k of V[k, c] H[n, k]^T, outer products of vertical
filters V (K, C, kh, 1) and horizontal ones H (N, K, 1, kw). Reshaped to the matrix M[(c, y), (n, x)] = W[n, c, y, x],
the sum is a product of two matrices of rank K, and its best choice is the truncated SVD of M. With 4 channels in and
out and a 3x3 kernel M is 12 x 12: rank 12 is the kernel itself with 288 weights in place of 144, rank 3 has 72.
"""

from __future__ import annotations

from torch import Tensor, nn


def convolution_matrix(layer: nn.Conv2d) -> Tensor:
    """The kernel (N, C, kh, kw) as the matrix (C kh) x (N kw)."""
    outputs, inputs, height, width = layer.weight.shape
    return layer.weight.detach().permute(1, 2, 0, 3).reshape(inputs * height, outputs * width)


def convolution_weights(halves: tuple[Tensor, Tensor], layer: nn.Conv2d) -> tuple[Tensor, Tensor]:
    """Kernels of the vertical (K, C, kh, 1) and the horizontal convolution (N, K, 1, kw)."""
    outputs, inputs, height, width = layer.weight.shape
    first, second = halves  # (C kh, K) and (K, N kw)
    rank = first.shape[1]
    vertical = first.T.reshape(rank, inputs, height, 1)
    horizontal = second.reshape(rank, outputs, 1, width).transpose(0, 1)
    return vertical, horizontal
