"""Does a step `prune` fit a model?"""

from __future__ import annotations

import math

from modelpress.spec.check.layers import matching, select_layers
from modelpress.spec.check.misfit import Misfit
from modelpress.spec.inspection import DatasetInspection, LayerInspection
from modelpress.spec.name_pattern import Names
from modelpress.spec.steps import Pattern, Prune, RigL


def prune_data_misfits(step: Prune, dataset: DatasetInspection | None, where: str) -> list[Misfit]:
    """What keeps the step from the data set, or one that does not train from being done without any."""
    if dataset is None:
        if step.training is not None or not step.takes_gradients:
            return []  # what trains is told so whatever its kind
        message = (
            f"the criterion `{step.criterion}` takes gradients, which needs a data set; give `dataset`, or use "
            "`magnitude`"
        )
        return [Misfit(where=f"{where}.criterion", message=message)]
    if isinstance(step.schedule, RigL) and step.training is not None:
        # At most: images may be held out, or without a label to learn from.
        steps = step.training.epochs * math.ceil(
            step.training.images_of_epoch(dataset.train_examples) / step.training.batch_size
        )
        if not step.schedule.updates(steps):
            return [Misfit(where=f"{where}.schedule", message=never_exchanged(step.schedule, steps))]
    return []


def prune_misfits(step: Prune, layers: list[LayerInspection], where: str) -> list[Misfit]:
    """What keeps the step from the model's layers."""
    types = {layer.name: layer.type for layer in layers if layer.prunable}
    try:
        chosen = select_layers(types, step.layers)
    except ValueError as error:
        return [Misfit(where=f"{where}.layers", message=str(error))]
    try:
        own_sparsities(step, chosen)
    except ValueError as error:
        return [Misfit(where=f"{where}.per_layer", message=str(error))]
    picked = set(chosen)
    if step.pattern is not None and not any(
        _inputs(layer) % step.pattern.m == 0 for layer in layers if layer.name in picked
    ):
        return [Misfit(where=f"{where}.pattern", message=no_layer_fits(step.pattern))]
    return []


def own_sparsities(step: Prune, chosen: list[str]) -> dict[str, float]:
    """Those of the chosen layers that have a sparsity of their own, with it.

    Raises ValueError when a pattern matches none of them, or two match the same one.
    """
    names = Names(chosen)
    found: dict[str, tuple[str, float]] = {}
    for pattern, sparsity in step.per_layer.items():
        for name in matching(names, pattern):
            if name in found:
                raise ValueError(
                    f"both {found[name][0]!r} and {pattern!r} match layer {name!r}; name each layer by one pattern"
                )
            found[name] = pattern, sparsity
    return {name: sparsity for name, (_, sparsity) in found.items()}


def never_exchanged(schedule: RigL, steps: int) -> str:
    """What is said when a training of so many steps is too short for a single exchange of weights."""
    return (
        f"the schedule rigl exchanges weights every {schedule.frequency} steps, before step {schedule.last(steps)} of "
        f"the training's {steps}, so never; lower `frequency`, or train for more epochs"
    )


def no_layer_fits(pattern: Pattern) -> str:
    """What is said when a pattern fits none of the chosen layers."""
    return (
        f"none of the chosen layers has a number of inputs that is a multiple of {pattern.m}, which the pattern "
        f"{pattern.n}:{pattern.m} needs; choose other layers, or another pattern"
    )


def _inputs(layer: LayerInspection) -> int:
    if layer.type.startswith("ConvTranspose"):  # the only ones whose weight has those of all groups
        return layer.weight_shape[0] // layer.groups
    return layer.weight_shape[1]
