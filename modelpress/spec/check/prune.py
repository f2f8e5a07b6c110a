"""Does a step `prune` fit a model?"""

from __future__ import annotations

from modelpress.spec.check.layers import select_layers
from modelpress.spec.check.misfit import Misfit
from modelpress.spec.inspection import LayerInspection
from modelpress.spec.steps import Prune


def prune_data_misfits(step: Prune, where: str) -> list[Misfit]:
    """What keeps a step that does not train from being done without a data set."""
    if not step.takes_gradients:
        return []
    message = (
        f"the criterion `{step.criterion}` takes gradients, which needs a data set; give `dataset`, or use `magnitude`"
    )
    return [Misfit(where=f"{where}.criterion", message=message)]


def prune_misfits(step: Prune, layers: list[LayerInspection], where: str) -> list[Misfit]:
    """What keeps the step from the model's layers."""
    names = [layer.name for layer in layers if layer.prunable]
    try:
        select_layers(names, step.layers)
    except ValueError as error:
        return [Misfit(where=f"{where}.layers", message=str(error))]
    return []
