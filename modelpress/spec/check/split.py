"""The sizes of what a layer is split into, and what each rank of it costs.

A linear layer's weight has the shape (outputs, inputs), that of a Conv1d (outputs, inputs / groups, k) and that of a
Conv2d (outputs, inputs / groups, kh, kw). Each group is a matrix of its own; all are given the same rank.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from modelpress.spec.inspection import LayerCall, LayerInspection
from modelpress.spec.steps import ConvolutionScheme, Currency

Scheme = Literal["svd", "vertical_horizontal", "channel_svd", "tucker2", "cp"]

WEIGHT_BYTES = 4
COUNT_BYTES = 8  # A batch norm counts its batches.


def scheme_of(weight_shape: Sequence[int], convolutions: ConvolutionScheme) -> Scheme:
    """How a layer is split, when `convolutions` is the scheme of k x k convolutions."""
    kernel = tuple(weight_shape[2:])
    if math.prod(kernel) == 1:
        return "svd"
    # A kernel along one axis has no other half: seen as k x 1, vertical and horizontal is k and then 1.
    if len(kernel) == 1 and convolutions == "vertical_horizontal":
        return "channel_svd"
    return convolutions


def unsplit_reason(weight_shape: Sequence[int], groups: int, convolutions: ConvolutionScheme) -> str | None:
    """Why a layer cannot be split by that scheme, in words; None when it can."""
    scheme = scheme_of(weight_shape, convolutions)
    if scheme not in ("tucker2", "cp"):
        return None
    if groups != 1:
        return f"it is a convolution in {groups} groups; the scheme {scheme} splits ungrouped ones only"
    if len(weight_shape) != 4:
        return f"it is a Conv1d; the scheme {scheme} splits Conv2d layers only"
    return None


def matrix_shape(weight_shape: Sequence[int], groups: int, scheme: Scheme) -> tuple[int, int]:
    """Shape of the matrix that is split, of each group, as inputs x outputs.

    A kernel (N, C, kh, kw) is (C kh) x (N kw) by `vertical_horizontal`, and (C kh kw) x N by the others.
    """
    outputs, inputs, *kernel = weight_shape
    if scheme == "vertical_horizontal":
        height, width = kernel
        return inputs * height, outputs // groups * width
    return inputs * math.prod(kernel), outputs // groups


def full_rank(weight_shape: Sequence[int], groups: int, convolutions: ConvolutionScheme) -> int:
    """Largest rank that a layer can be given, at which what takes its place can be the layer itself."""
    scheme = scheme_of(weight_shape, convolutions)
    if scheme == "tucker2":
        return min(weight_shape[:2])
    if scheme == "cp":
        return math.prod(weight_shape) // max(weight_shape)
    return min(matrix_shape(weight_shape, groups, scheme))


@dataclass(frozen=True)
class RankCost:
    """What a layer costs as a pair of rank r, `fixed` + r `per_rank`, and what it costs `whole`."""

    per_rank: int
    whole: int
    most: int  # The largest rank that has fewer parameters than the layer and costs less; 0 where none does.
    fixed: int = 0

    def at(self, rank: int | None) -> int:
        """The cost at a rank; None for the whole layer."""
        return self.whole if rank is None else self.fixed + rank * self.per_rank

    @property
    def least(self) -> int:
        """The cost of the thinnest pair, or of the layer where no pair is cheaper."""
        return self.at(1) if self.most > 0 else self.whole


def pair_parameters(weight_shape: Sequence[int], groups: int, scheme: Scheme, *, batch_norm: bool) -> int:
    """Weights that a rank of a pair has, with the scales and shifts of a norm between; the biases are the layer's."""
    return groups * (sum(matrix_shape(weight_shape, groups, scheme)) + (2 if batch_norm and weight_shape[2:] else 0))


def rank_cost(
    layer: LayerInspection,
    convolutions: ConvolutionScheme,
    currency: Currency,
    *,
    batch_norm: bool,
    stored_bytes: int | None = None,
) -> RankCost | None:
    """What the ranks of a layer's pair cost; None for MACs of a layer whose calls are not known.

    `stored_bytes` are those of its weight in the compact file, 4 for each when None; the pair's weights are new, and
    take 4. Biases cost bytes alone, norms parameters and bytes.
    """
    shape, groups = layer.weight_shape, layer.groups
    scheme = scheme_of(shape, convolutions)
    weights = math.prod(shape)
    by_rank = pair_parameters(shape, groups, scheme, batch_norm=batch_norm)
    smaller = (weights - 1) // by_rank
    if currency == "parameters":
        return RankCost(by_rank, weights, smaller)
    if currency == "macs":
        if not layer.calls:
            return None
        by_rank = sum(_macs(shape, groups, scheme, call) for call in layer.calls)
        whole = weights * sum(math.prod(call.output_size) for call in layer.calls)
        return RankCost(by_rank, whole, min(smaller, (whole - 1) // by_rank))
    bias = WEIGHT_BYTES * (layer.parameters - weights)
    whole = bias + (WEIGHT_BYTES * weights if stored_bytes is None else stored_bytes)
    fixed = bias
    by_rank *= WEIGHT_BYTES
    if batch_norm and shape[2:]:
        by_rank += groups * 2 * WEIGHT_BYTES  # The running statistics.
        fixed += COUNT_BYTES
    return RankCost(by_rank, whole, max(0, min(smaller, (whole - fixed - 1) // by_rank)), fixed)


def _macs(shape: Sequence[int], groups: int, scheme: Scheme, call: LayerCall) -> int:
    """Multiply-accumulates of a rank in one call."""
    inputs, outputs = matrix_shape(shape, groups, scheme)
    places = math.prod(call.output_size)
    # The vertical half strides and pads along the height only: what it gives is as wide as the input.
    between = math.prod(call.output_size[:-1]) * call.input_size[-1] if scheme == "vertical_horizontal" else places
    return groups * (inputs * between + outputs * places)
