"""Does a step `factorize` fit a model?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from modelpress.spec.check.layers import select_layers
from modelpress.spec.check.misfit import Misfit, listed
from modelpress.spec.inspection import LayerInspection
from modelpress.spec.steps import ConvolutionScheme, Factorize, RankBudget, RankNumber, RankPerLayer


def factorize_misfits(step: Factorize, layers: list[LayerInspection], where: str) -> list[Misfit]:
    """What keeps the step from the model's layers."""
    shapes = {
        layer.name: matrix_shape(layer.weight_shape, step.scheme) for layer in layers if layer.full_rank is not None
    }
    full_ranks = {
        layer.name: full_rank(layer.weight_shape, step.scheme) for layer in layers if layer.full_rank is not None
    }
    try:
        wanted = factorize_ranks(step, {layer.name: layer.type for layer in layers if layer.name in full_ranks})
    except ValueError as error:
        return [Misfit(where=f"{where}.layers", message=str(error))]
    kernels = {layer.name: layer.weight_shape for layer in layers}
    if reason := unwhitened_reason(step, {name: kernels[name] for name in wanted}):
        return [Misfit(where=f"{where}.whiten", message=reason)]
    if isinstance(step.rank, RankBudget):
        try:
            budget_weights(step.rank, [shapes[name] for name in wanted])
        except ValueError as error:
            return [Misfit(where=f"{where}.rank", message=str(error))]
    return [
        Misfit(
            where=f"{where}.rank",
            message=f"rank {rank} is above the full rank {full_ranks[name]} of layer {name!r}; "
            "lower it, exclude the layer, or use a `ratio`",
        )
        for name, rank in wanted.items()
        if rank is not None and rank > full_ranks[name]
    ]


def factorize_ranks(step: Factorize, layers: Mapping[str, str]) -> dict[str, int | None]:
    """Layers that a step treats, with the rank that the spec gives each (None where it follows from the weights).

    `layers` are those that can be factorized, names to types. Raises ValueError when a name, a pattern or a type
    matches none of them.
    """
    chosen = select_layers(layers, step.layers)
    if isinstance(step.rank, RankPerLayer):
        unknown = [name for name in step.rank.values if name not in layers]
        if unknown:
            raise ValueError(f"no layer {listed(unknown)} that can be factorized; these can: {listed(list(layers))}")
        return {name: step.rank.values[name] for name in chosen if name in step.rank.values}
    rank = step.rank.value if isinstance(step.rank, RankNumber) else None
    return dict.fromkeys(chosen, rank)


def matrix_shape(weight_shape: Sequence[int], scheme: ConvolutionScheme) -> tuple[int, int]:
    """Shape of the matrix that is split, as inputs x outputs.

    `weight_shape` is that of a linear layer (out, in) or of a convolution's kernel (N, C, kh, kw), which the scheme
    sees as (C kh) x (N kw) or as (C kh kw) x N.
    """
    if len(weight_shape) == 2:
        return weight_shape[1], weight_shape[0]
    outputs, inputs, height, width = weight_shape
    if scheme == "channel_svd":
        return inputs * height * width, outputs
    return inputs * height, outputs * width


def full_rank(weight_shape: Sequence[int], scheme: ConvolutionScheme) -> int:
    """Largest rank that a layer can be given, at which what takes its place can be the layer itself."""
    if _is_kernel(weight_shape) and scheme == "tucker2":
        return min(weight_shape[:2])
    if _is_kernel(weight_shape) and scheme == "cp":
        return math.prod(weight_shape) // max(weight_shape)
    return min(matrix_shape(weight_shape, scheme))


def unwhitened_reason(step: Factorize, shapes: dict[str, Sequence[int]]) -> str | None:
    """What keeps a step from whitening layers with weights of these shapes, in words."""
    kernels = [name for name, shape in shapes.items() if _is_kernel(shape)]
    if not step.whiten or step.scheme == "channel_svd" or not kernels:
        return None
    return (
        f"k x k convolutions are whitened by the scheme `channel_svd` only, as the halves of `{step.scheme}` share no "
        f"single input; set `scheme`, or exclude {listed(kernels)}"
    )


def factorize_data_misfits(step: Factorize, where: str) -> list[Misfit]:
    """What keeps a step that does not train from being done without a data set."""
    if not step.whiten:
        return []
    message = "`whiten` looks at training images, which needs a data set; give `dataset`, or drop it"
    return [Misfit(where=f"{where}.whiten", message=message)]


def _is_kernel(weight_shape: Sequence[int]) -> bool:
    return len(weight_shape) == 4 and tuple(weight_shape[2:]) != (1, 1)


def budget_weights(rank: RankBudget, shapes: Iterable[tuple[int, int]]) -> int:
    """Number of weights that a budget allows layers with matrices of these shapes.

    Raises ValueError when that is less than all of them have at rank 1.
    """
    shapes = list(shapes)
    total = sum(inputs * outputs for inputs, outputs in shapes)
    least = sum(min(inputs + outputs, inputs * outputs) for inputs, outputs in shapes)
    weights = math.floor(rank.parameters * total + 1e-6)  # As for ratios: 0.29 * 100 shall be 29.
    if weights < least:
        share = math.ceil(1000 * least / total) / 1000
        raise ValueError(
            f"a budget of {rank.parameters:g} is below the least that pairs can have: at rank 1 the chosen layers keep "
            f"{least} of {total} weights; give at least {share:g}, or exclude layers"
        )
    return weights
