"""A convolution as a vertical and a horizontal one (Tai et al. 2015; SlimNets, equations 2 to 5).

A kernel W (N, C, kh, kw) is approximated by W~[n, c] = sum over k of V[k, c] H[n, k]^T, outer products of vertical
filters V (K, C, kh, 1) and horizontal ones H (N, K, 1, kw). Reshaped to the matrix M[(c, y), (n, x)] = W[n, c, y, x],
the sum is a product of two matrices of rank K, and its best choice is the truncated SVD of M. With 4 channels in and
out and a 3x3 kernel M is 12 x 12: rank 12 is the kernel itself with 288 weights in place of 144, rank 3 has 72.

In G groups there are G matrices, of C / G and N / G channels, each of rank K. A depthwise 3x3 kernel is a 3 x 3 matrix
for each channel: of rank 1 it is a depthwise 3 x 1 and a depthwise 1 x 3 convolution, 6 weights in place of 9.
"""

from __future__ import annotations

from torch import Tensor, nn

from modelpress.engine.factorize.chain import Convolution, along
from modelpress.engine.factorize.rank import groups_of


def matrices(layer: nn.Module) -> Tensor:
    """The kernel (N, C / G, kh, kw) as one matrix by group, (G, C / G kh, N / G kw)."""
    weight, groups = layer.get_parameter("weight").detach(), groups_of(layer)
    outputs, inputs, height, width = weight.shape
    by_group = weight.view(groups, outputs // groups, inputs, height, width).permute(0, 2, 3, 1, 4)
    return by_group.reshape(groups, inputs * height, outputs // groups * width)


def kernels(first: Tensor, second: Tensor, layer: nn.Module) -> tuple[Tensor, Tensor]:
    """Kernels (G K, C / G, kh, 1) and (N, K, 1, kw) from halves (G, C / G kh, K) and (G, K, N / G kw)."""
    outputs, inputs, height, width = layer.get_parameter("weight").shape
    groups, rank = second.shape[:2]
    vertical = first.transpose(1, 2).reshape(groups * rank, inputs, height, 1)
    horizontal = second.view(groups, rank, outputs // groups, width).transpose(1, 2)
    return vertical, horizontal.reshape(outputs, rank, 1, width)


def layers(layer: nn.Linear | Convolution, rank: int) -> tuple[nn.Module, nn.Module]:
    """The two halves of a Conv2d, without their weights. Each strides, pads and dilates along its own axis."""
    if not isinstance(layer, nn.Conv2d):
        raise TypeError(f"a {type(layer).__name__} has no vertical and horizontal half")
    groups, between = layer.groups, layer.groups * rank
    vertical = along(layer, layer.in_channels, between, 0, groups=groups)
    return vertical, along(layer, between, layer.out_channels, 1, groups=groups, bias=layer.bias is not None)
