"""The step `prune`: the least important weights become zero and stay zero."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from modelpress.engine.layer_change import layer_change
from modelpress.engine.network import Network, layer_types, weighted_layers
from modelpress.engine.prune.criteria import importance
from modelpress.engine.prune.erk import erk_kept
from modelpress.engine.prune.lamp import lamp_scores
from modelpress.engine.prune.magnitude import size, zeros
from modelpress.engine.prune.masks import Masks
from modelpress.engine.prune.pattern import input_dimension, inputs_of, keep_pattern
from modelpress.engine.prune.schedule import Updates, cubic_sparsity, even_sparsity, rounds
from modelpress.engine.prune.scores import keep_highest
from modelpress.engine.recovery import recover, training_data
from modelpress.engine.step import StepContext, StepResult
from modelpress.spec.check import select_layers
from modelpress.spec.check.prune import no_layer_fits, own_sparsities
from modelpress.spec.failure import IncompatibleSpec
from modelpress.spec.report import SkippedLayer
from modelpress.spec.steps import Cubic, Iterative, OneShot, Pattern, Prune


@dataclass(frozen=True)
class _Group:
    """Layers whose weights are compared with one another, and how many of them are gone, at first and at the end."""

    names: tuple[str, ...]
    initial: int
    final: float  # not rounded, for the schedule's sake

    def removed(self, share: float, schedule: object) -> int:
        """How many of its weights are gone when the schedule is this far."""
        grown = even_sparsity if isinstance(schedule, Iterative) else cubic_sparsity
        return round(grown(self.initial, self.final, share))


def prune(network: Network, step: Prune, context: StepContext) -> StepResult:
    """Prune the chosen layers to exactly round(sparsity * weights) zeros, together or each by itself, or by a pattern.

    What is zero already stays so from the first step, be it masked or only found so in an uploaded file; a pattern may
    so leave more zeros than it asks for. Layers that a pattern does not fit are skipped.

    Raises IncompatibleSpec when no layer matches or fits, when layers are sparser already, or when data is needed and
    there is none; and Diverged.
    """
    if step.training is not None:
        training_data(context)
    pruned = copy.deepcopy(network)
    layers = weighted_layers(pruned.module)
    try:
        chosen = select_layers(layer_types(layers), step.layers)
        own = own_sparsities(step, chosen)
    except ValueError as error:
        raise IncompatibleSpec(str(error)) from error
    skipped = _skipped({name: layers[name] for name in chosen}, step.pattern)
    chosen = [name for name in chosen if name not in skipped]
    weights = {f"{name}.weight": layers[name].get_parameter("weight") for name in chosen}
    groups = _groups(weights, step, own) if step.pattern is None else []
    score = importance(pruned, step, context)
    pruned.module.to(context.device)
    # All of them are masked from the start, so that gradients are held too.
    masks = Masks(pruned.module, pruned.masks | _nonzero(weights, pruned.masks))

    def remove(share: float) -> None:
        masks.apply()  # behind an update of the optimiser, which moves what is pruned
        held = masks.kept()
        scores = score(weights)
        if step.pattern is not None:
            masks.update(_by_pattern(step.pattern, layers, scores, held))
            return
        if step.scope == "lamp":
            scores = {name: lamp_scores(magnitude) for name, magnitude in scores.items()}
        kept: dict[str, Tensor] = {}
        for group in groups:
            kept |= keep_highest(
                {name: scores[name] for name in group.names}, group.removed(share, step.schedule), held
            )
        masks.update(kept)

    summary = None
    if isinstance(step.schedule, Iterative):
        remove(1 / step.schedule.rounds)
    elif step.training is None or not isinstance(step.schedule, Cubic):
        remove(1.0)
        pruned.masks = masks.settle()
        pruned.module.to(torch.device("cpu"))
    if step.training is not None:
        summary = recover(pruned, step.training, context, masks=masks, after_step=_gradually(step.schedule, remove))
    return StepResult(
        pruned,
        layers=tuple(layer_change(name, layers[name], layers[name]) for name in chosen),
        skipped=tuple(SkippedLayer(name=name, reason=reason) for name, reason in skipped.items()),
        training=summary,
    )


def _skipped(layers: dict[str, nn.Module], pattern: Pattern | None) -> dict[str, str]:
    """Layers that a pattern does not fit, with the reason. Raises IncompatibleSpec when it fits none."""
    if pattern is None:
        return {}
    inputs = {name: inputs_of(layer) for name, layer in layers.items()}
    skipped = {
        name: f"each of its outputs sees {count} inputs, no multiple of the pattern's {pattern.m}"
        for name, count in inputs.items()
        if count % pattern.m != 0
    }
    if len(skipped) == len(layers):
        raise IncompatibleSpec(no_layer_fits(pattern))
    return skipped


def _by_pattern(
    pattern: Pattern, layers: dict[str, nn.Module], scores: dict[str, Tensor], held: dict[str, Tensor]
) -> dict[str, Tensor]:
    return {
        name: keep_pattern(score, pattern, held[name], input_dimension(layers[name.removesuffix(".weight")]))
        for name, score in scores.items()
    }


def _nonzero(weights: dict[str, nn.Parameter], masks: dict[str, Tensor]) -> dict[str, Tensor]:
    found = {name: (weight.detach() != 0).cpu() for name, weight in weights.items()}
    return {name: mask & masks[name] if name in masks else mask for name, mask in found.items()}


def _groups(weights: dict[str, nn.Parameter], step: Prune, own: dict[str, float]) -> list[_Group]:
    layers = {name: name.removesuffix(".weight") for name in weights}
    alone = [name for name in weights if step.scope == "layer" or layers[name] in own]
    groups = [
        _group({name: weights[name]}, own.get(layers[name], step.sparsity), f"layer {layers[name]!r}") for name in alone
    ]
    weights = {name: weight for name, weight in weights.items() if name not in alone}
    if not weights:
        return groups
    together = _group(weights, step.sparsity, "the chosen layers")
    if step.scope != "erk":
        return [*groups, together]
    gone = {name: zeros({name: weight}) for name, weight in weights.items()}
    kept = erk_kept(
        {name: tuple(weight.shape) for name, weight in weights.items()},
        size(weights) - round(together.final),
        {name: weight.numel() - gone[name] for name, weight in weights.items()},
    )
    return groups + [_Group((name,), gone[name], weight.numel() - kept[name]) for name, weight in weights.items()]


def _group(weights: dict[str, nn.Parameter], sparsity: float, where: str) -> _Group:
    gone, final = zeros(weights), sparsity * size(weights)
    if gone > round(final):
        raise IncompatibleSpec(
            f"{gone} of {size(weights)} weights of {where} are zero already ({gone / size(weights):.1%}), more than "
            f"`sparsity` {sparsity:g} asks for; ask for a higher one, or choose other layers"
        )
    return _Group(tuple(weights), gone, final)


def _gradually(
    schedule: OneShot | Cubic | Iterative, remove: Callable[[float], None]
) -> Callable[[int, int], None] | None:
    if isinstance(schedule, OneShot):
        return None

    def after_step(step: int, steps: int) -> None:
        if isinstance(schedule, Iterative):
            share = rounds(schedule, steps).get(step)
        else:
            share = Updates.of(schedule, steps).share(step)
        if share is not None:
            remove(share)

    return after_step
