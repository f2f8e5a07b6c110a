"""Does a step `prune_channels` fit a model?"""

from __future__ import annotations

from modelpress.spec.check.layers import select_layers
from modelpress.spec.check.misfit import Misfit
from modelpress.spec.inspection import LayerInspection
from modelpress.spec.steps import PruneChannels


def prune_channels_data_misfits(step: PruneChannels, where: str) -> list[Misfit]:
    """What keeps a step that does not train from being done without a data set."""
    if not step.takes_gradients:
        return []
    message = f"the criterion `{step.criterion}` takes gradients, which needs a data set; give `dataset`, or use `l2`"
    return [Misfit(where=f"{where}.criterion", message=message)]


def prune_channels_misfits(step: PruneChannels, layers: list[LayerInspection], where: str) -> list[Misfit]:
    """What keeps the step from the model's layers."""
    try:
        select_layers({layer.name: layer.type for layer in layers}, step.layers)
    except ValueError as error:
        return [Misfit(where=f"{where}.layers", message=str(error))]
    return []
