"""Which layers become pairs, by which scheme, and how thin.

A linear layer's weight is a matrix (out, in). A convolution's kernel (N, C, kh, kw) is seen as the matrix
(C kh) x (N kw) (SlimNets, equation 2; Tai et al. 2015), whose rank is the number of channels between the vertical
and the horizontal half; by the scheme `channel_svd` as (C kh kw) x N (Zhang et al. 2016), whose rank is the number
of channels between the k x k and the 1x1 half. A 1x1 convolution is a linear layer at every pixel.
"""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor, nn

from modelpress.engine.factorize.evbmf import evbmf_rank
from modelpress.spec.check.factorize import full_rank as rank_by_scheme
from modelpress.spec.check.factorize import matrix_shape as shape_by_scheme
from modelpress.spec.steps import ConvolutionScheme, RankEnergy, RankEvbmf, RankNumber, RankPerLayer, RankRatio

Scheme = Literal["svd", "vertical_horizontal", "channel_svd", "tucker2", "cp"]
DEFAULT_SCHEME: ConvolutionScheme = "vertical_horizontal"


def untreated_reason(layer: nn.Module) -> str | None:
    """Why a layer cannot be replaced by a pair, in words; None when it can."""
    # Subclasses are refused: what reads their weight (attention, say) or what their forward does is not known.
    if type(layer) is nn.Linear:
        return None
    if type(layer) is nn.Conv2d:
        if layer.groups != 1:
            return f"it is a convolution in {layer.groups} groups; only ungrouped ones are factorized"
        return None
    return f"layers of type {type(layer).__name__} are not factorized; only Linear and Conv2d are"


def matrix_shape(layer: nn.Module, convolutions: ConvolutionScheme = DEFAULT_SCHEME) -> tuple[int, int] | None:
    """Shape of the matrix that is split, as inputs x outputs; None for a layer that cannot be factorized."""
    if untreated_reason(layer) is not None:
        return None
    return shape_by_scheme(layer.get_parameter("weight").shape, convolutions)


def full_rank(layer: nn.Module, convolutions: ConvolutionScheme = DEFAULT_SCHEME) -> int | None:
    """Largest rank of a layer's pair, at which the pair is the layer itself; None where it cannot be factorized."""
    if untreated_reason(layer) is not None:
        return None
    return rank_by_scheme(layer.get_parameter("weight").shape, convolutions)


def scheme_of(layer: nn.Module, convolutions: ConvolutionScheme = DEFAULT_SCHEME) -> Scheme:
    """How a layer that can be factorized is split, when `convolutions` is the scheme of k x k convolutions."""
    if isinstance(layer, nn.Conv2d) and layer.kernel_size != (1, 1):
        return convolutions
    return "svd"


def largest_smaller_rank(layer: nn.Module, convolutions: ConvolutionScheme = DEFAULT_SCHEME) -> int:
    """Largest rank whose pair has fewer parameters than the layer; 0 when no pair is smaller."""
    shape = matrix_shape(layer, convolutions)
    if shape is None:
        return 0
    inputs, outputs = shape
    # A convolution's matrix holds each kernel once, so its size is that of the weight, as a linear layer's is. The
    # bias is the same on both sides.
    return (inputs * outputs - 1) // (inputs + outputs)


def choose_rank(
    rank: RankNumber | RankPerLayer | RankRatio | RankEnergy | RankEvbmf,
    name: str,
    singular_values: Tensor,
    shape: tuple[int, int],
) -> int:
    """The rank that a spec gives one layer; 0 where EVBMF finds nothing but noise.

    `singular_values` are those of the layer's matrix, largest first; their number is the full rank. `shape` is that
    of the matrix.
    """
    full = singular_values.numel()
    if isinstance(rank, RankNumber):
        return rank.value
    if isinstance(rank, RankPerLayer):
        return rank.values[name]
    if isinstance(rank, RankRatio):
        # 0.29 * 100 is 28.999999999999996 in floating point: a share that hits an integer shall give that integer.
        return max(1, math.floor(rank.value * full + 1e-9))
    if isinstance(rank, RankEvbmf):
        return evbmf_rank(singular_values, shape)
    energy = singular_values.double().square().cumsum(0)
    enough = energy >= rank.value * energy[-1]
    return int(enough.int().argmax()) + 1
