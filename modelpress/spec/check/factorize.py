"""Does a step `factorize` fit a model?"""

from __future__ import annotations

from modelpress.spec.check.layers import select_layers
from modelpress.spec.check.misfit import Misfit, listed
from modelpress.spec.inspection import LayerInspection
from modelpress.spec.steps import Factorize, RankNumber, RankPerLayer


def factorize_misfits(step: Factorize, layers: list[LayerInspection], where: str) -> list[Misfit]:
    """What keeps the step from the model's layers."""
    full_ranks = {layer.name: layer.full_rank for layer in layers if layer.full_rank is not None}
    try:
        wanted = factorize_ranks(step, list(full_ranks))
    except ValueError as error:
        return [Misfit(where=f"{where}.layers", message=str(error))]
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
