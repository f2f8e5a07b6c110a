"""Does a step `factorize` fit a model?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from modelpress.spec.check.layers import select_layers
from modelpress.spec.check.misfit import Misfit, listed
from modelpress.spec.inspection import LayerInspection
from modelpress.spec.steps import ConvolutionScheme, Factorize, RankBudget, RankNumber, RankPerLayer


def factorize_misfits(step: Factorize, layers: list[LayerInspection], where: str) -> list[Misfit]:
    """What keeps the step from the model's layers."""
    shapes = {
        layer.name: matrix_shape(layer.weight_shape, step.scheme) for layer in layers if layer.full_rank is not None
    }
    full_ranks = {name: min(shape) for name, shape in shapes.items()}
    try:
        wanted = factorize_ranks(step, list(full_ranks))
    except ValueError as error:
        return [Misfit(where=f"{where}.layers", message=str(error))]
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


def factorize_ranks(step: Factorize, names: list[str]) -> dict[str, int | None]:
    """Layers that a step treats, with the rank that the spec gives each (None where it follows from the weights).

    `names` are the layers that can be factorized. Raises ValueError when a name or a pattern matches none of them.
    """
    chosen = select_layers(names, step.layers)
    if isinstance(step.rank, RankPerLayer):
        unknown = [name for name in step.rank.values if name not in names]
        if unknown:
            raise ValueError(f"no layer {listed(unknown)} that can be factorized; these can: {listed(names)}")
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
