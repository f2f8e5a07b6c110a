"""The step `prune`: the least important weights become zero and stay zero."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from modelpress.engine.layer_change import layer_change
from modelpress.engine.network import Network, weighted_layers
from modelpress.engine.prune.magnitude import keep_largest, size, zeros
from modelpress.engine.prune.masks import Masks
from modelpress.engine.prune.schedule import Updates, cubic_sparsity
from modelpress.engine.recovery import recover, training_data
from modelpress.engine.step import StepContext, StepResult
from modelpress.spec.check import select_layers
from modelpress.spec.failure import IncompatibleSpec
from modelpress.spec.steps import Cubic, Prune


@dataclass
class _Group:
    """Layers whose weights are compared with one another, and how sparse they are to begin with."""

    weights: dict[str, nn.Parameter]
    initial: float

    def removed(self, final: float, share: float) -> int:
        """How many of its weights are gone when the schedule is this far."""
        return round(cubic_sparsity(self.initial, final, share) * size(self.weights))


def prune(network: Network, step: Prune, context: StepContext) -> StepResult:
    """Prune the chosen layers to exactly round(sparsity * weights) zeros, together or each by itself.

    Raises IncompatibleSpec when no layer matches, when layers are sparser already, or when it trains without data; and
    Diverged.
    """
    if step.training is not None:
        training_data(context)
    pruned = copy.deepcopy(network)
    layers = weighted_layers(pruned.module)
    try:
        chosen = select_layers(list(layers), step.layers)
    except ValueError as error:
        raise IncompatibleSpec(str(error)) from error
    weights = {f"{name}.weight": layers[name].get_parameter("weight") for name in chosen}
    groups = _groups(weights, step)
    # All of them are masked from the start, by masks that let everything through, so that gradients are held too.
    everything: dict[str, Tensor] = {name: weight.detach() == weight.detach() for name, weight in weights.items()}
    masks = Masks(pruned.module, everything | pruned.masks)

    def remove(share: float) -> None:
        held = masks.kept()
        kept: dict[str, Tensor] = {}
        for group in groups:
            kept |= keep_largest(group.weights, group.removed(step.sparsity, share), held)
        masks.update(kept)

    summary = None
    # What is zero already stays so from the first step, be it masked or only found so in an uploaded file.
    remove(0.0)
    if step.training is None or not isinstance(step.schedule, Cubic):
        remove(1.0)
        pruned.masks = masks.settle()
    if step.training is not None:
        summary = recover(pruned, step.training, context, masks=masks, after_step=_gradually(step.schedule, remove))
    return StepResult(
        pruned,
        layers=tuple(layer_change(name, layers[name], layers[name]) for name in chosen),
        training=summary,
    )


def _groups(weights: dict[str, nn.Parameter], step: Prune) -> list[_Group]:
    parts = [weights] if step.scope == "global" else [{name: weight} for name, weight in weights.items()]
    groups = []
    for part in parts:
        gone = zeros(part)
        if gone > round(step.sparsity * size(part)):
            where = (
                "the chosen layers" if step.scope == "global" else f"layer {next(iter(part)).removesuffix('.weight')!r}"
            )
            raise IncompatibleSpec(
                f"{gone} of {size(part)} weights of {where} are zero already ({gone / size(part):.1%}), more than "
                f"`sparsity` {step.sparsity:g} asks for; ask for a higher one, or choose other layers"
            )
        groups.append(_Group(part, gone / size(part)))
    return groups


def _gradually(schedule: object, remove: Callable[[float], None]) -> Callable[[int, int], None] | None:
    if not isinstance(schedule, Cubic):
        return None

    def after_step(step: int, steps: int) -> None:
        share = Updates.of(schedule, steps).share(step)
        if share is not None:
            remove(share)

    return after_step
