"""Which layers can become thinner ones, and how thin."""

from __future__ import annotations

import math

from torch import Tensor, nn

from modelpress.engine.factorize.evbmf import evbmf_rank
from modelpress.spec.check.split import full_rank as rank_by_shape
from modelpress.spec.steps import AnyRank, ConvolutionScheme, RankEnergy, RankEvbmf, RankNumber, RankPerLayer, RankRatio


def untreated_reason(layer: nn.Module) -> str | None:
    """Why no scheme can replace a layer, in words; None when one can."""
    # Subclasses are refused: what reads their weight (attention, say) or what their forward does is not known.
    if type(layer) in (nn.Linear, nn.Conv1d, nn.Conv2d):
        return None
    return f"layers of type {type(layer).__name__} are not factorized; only Linear, Conv1d and Conv2d are"


def full_rank(layer: nn.Module, convolutions: ConvolutionScheme = "vertical_horizontal") -> int:
    """Largest rank of a layer that can be treated, at which what takes its place can be the layer itself."""
    return rank_by_shape(layer.get_parameter("weight").shape, groups_of(layer), convolutions)


def groups_of(layer: nn.Module) -> int:
    """Groups of a convolution; 1 for a linear layer."""
    return layer.groups if isinstance(layer, nn.Conv1d | nn.Conv2d) else 1


def choose_rank(rank: AnyRank, name: str, full: int) -> int | None:
    """The rank that a spec gives a layer of this full rank; None where it follows from the weights."""
    if isinstance(rank, RankNumber):
        return rank.value
    if isinstance(rank, RankPerLayer):
        return rank.values[name]
    if isinstance(rank, RankRatio):
        # 0.29 * 100 is 28.999999999999996 in floating point: a share that hits an integer shall give that integer.
        return max(1, math.floor(rank.value * full + 1e-9))
    return None


def rank_by_values(rank: AnyRank, values: Tensor, shape: tuple[int, int]) -> int:
    """The rank that a spec finds in the weights; 0 where EVBMF finds nothing but noise.

    `values` (groups, R) are the singular values of each group's matrix of this shape, largest first. Groups share one
    rank: the energy is that of all of them, and EVBMF sees the mean of their squares.
    """
    if isinstance(rank, RankEvbmf):
        return evbmf_rank((spectrum(values) / math.sqrt(len(values))).to(values.dtype), shape)
    if isinstance(rank, RankEnergy):
        return rank_of_energy(spectrum(values), rank.value)
    raise TypeError(f"a rank of kind {rank.kind} is not found in a layer's own weights")


def rank_of_energy(values: Tensor, share: float) -> int:
    """The smallest rank that keeps this share of the sum of squares of these singular values, largest first."""
    energy = values.double().square().cumsum(0)
    return int((energy >= share * energy[-1]).int().argmax()) + 1


def spectrum(values: Tensor) -> Tensor:
    """One value (R,) for each rank of all groups together: the root of the sum of squares over (groups, R), float64."""
    return values.double().square().sum(0).sqrt()
