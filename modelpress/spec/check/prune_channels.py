"""Does a step `prune_channels` fit a model?"""

from __future__ import annotations

from modelpress.spec.check.layers import select_layers
from modelpress.spec.check.misfit import Misfit
from modelpress.spec.inspection import LayerInspection
from modelpress.spec.steps import PruneChannels


def prune_channels_misfits(step: PruneChannels, layers: list[LayerInspection], where: str) -> list[Misfit]:
    """What keeps the step from the model's layers."""
    try:
        select_layers({layer.name: layer.type for layer in layers}, step.layers)
    except ValueError as error:
        return [Misfit(where=f"{where}.layers", message=str(error))]
    return []
