"""A k x k convolution to fewer channels, and a 1 x 1 one back (Zhang et al. 2016, arXiv 1505.06798, without its data).

The kernel W (N, C, kh, kw) is the matrix M[(c, y, x), n], the filters side by side. Cut to rank K, its left half is a
kernel (K, C, kh, kw) and its right half mixes the K channels into N. With 4 channels in and out and a 3x3 kernel M is
36 x 4: rank 3 has 3 x 40 = 120 weights in place of 144. In G groups there are G matrices, of C / G and N / G channels.

A linear layer is the same with a kernel of no axes, and a 1 x 1 convolution is a linear layer at every pixel.
"""

from __future__ import annotations

from torch import Tensor, nn

from modelpress.engine.factorize.chain import Convolution, along
from modelpress.engine.factorize.rank import groups_of


def matrices(layer: nn.Module) -> Tensor:
    """The weight as one matrix by group, (G, C / G kh kw, N / G)."""
    weight, groups = layer.get_parameter("weight").detach(), groups_of(layer)
    return weight.reshape(groups, len(weight) // groups, -1).transpose(1, 2)


def kernels(first: Tensor, second: Tensor, layer: nn.Module) -> tuple[Tensor, Tensor]:
    """Weights (G K, C / G, kh, kw) and (N, K, 1, 1) from halves (G, C / G kh kw, K) and (G, K, N / G)."""
    outputs, *rest = layer.get_parameter("weight").shape
    ones = [1] * len(rest[1:])
    return first.transpose(1, 2).reshape(-1, *rest), second.transpose(1, 2).reshape(outputs, -1, *ones)


def layers(layer: nn.Linear | Convolution, rank: int) -> tuple[nn.Module, nn.Module]:
    """The two halves, without their weights."""
    if isinstance(layer, nn.Linear):
        return (
            nn.Linear(layer.in_features, rank, bias=False),
            nn.Linear(rank, layer.out_features, bias=layer.bias is not None),
        )
    # The first half has the layer's stride, so that the second works on the small image already.
    groups, between = layer.groups, layer.groups * rank
    first = along(layer, layer.in_channels, between, *range(len(layer.kernel_size)), groups=groups)
    # Nothing of the layer's is left along any axis.
    return first, along(layer, between, layer.out_channels, groups=groups, bias=layer.bias is not None)
