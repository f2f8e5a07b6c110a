"""The step `prune`: the least important weights become zero and stay zero."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from modelpress.engine.layer_change import layer_change
from modelpress.engine.network import Network, layer_types, weighted_layers
from modelpress.engine.prune.criteria import Importance, importance
from modelpress.engine.prune.groups import groups_of
from modelpress.engine.prune.lamp import lamp_scores
from modelpress.engine.prune.masks import Masks
from modelpress.engine.prune.movement import Movement
from modelpress.engine.prune.pattern import input_dimension, inputs_of, keep_pattern
from modelpress.engine.prune.regrowth import Regrowth
from modelpress.engine.prune.schedule import Updates, complete_from, rounds
from modelpress.engine.prune.scores import keep_highest
from modelpress.engine.recovery import recover, training_data
from modelpress.engine.step import StepContext, StepResult
from modelpress.spec.check import select_layers
from modelpress.spec.check.prune import no_layer_fits, own_sparsities
from modelpress.spec.failure import IncompatibleSpec
from modelpress.spec.report import SkippedLayer
from modelpress.spec.steps import Cubic, Iterative, Pattern, Prune, RigL


def prune(network: Network, step: Prune, context: StepContext) -> StepResult:
    """Prune the chosen layers to exactly round(sparsity * weights) zeros, together or each by itself, or by a pattern.

    What is zero already goes first and stays so, be it masked or only found so in an uploaded file; a pattern may so
    leave more zeros than it asks for. Under the schedule `rigl` alone it may come back. Layers that a pattern does not
    fit are skipped.

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
    groups = groups_of(weights, step, own) if step.pattern is None else []
    score = importance(pruned, step, context)
    pruned.module.to(context.device)
    # All of them are masked from the start, so that gradients are held too.
    found = _nonzero(weights, pruned.masks)
    masks = Masks(pruned.module, pruned.masks | found)
    movement = score if isinstance(score, Movement) else None
    if movement is not None:
        movement.watch(weights)

    def remove(share: float) -> None:
        masks.apply()  # behind an update of the optimiser, which moves what is pruned
        held = masks.kept() if movement is None else found  # by movement, what went before may come back
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
        if movement is not None:
            movement.exchange(weights, kept)
        masks.update(kept)

    summary = None
    if isinstance(step.schedule, Iterative):
        if movement is None:
            remove(1 / step.schedule.rounds)
    elif not isinstance(step.schedule, Cubic):
        remove(1.0)
        pruned.masks = masks.settle()
        pruned.module.to(torch.device("cpu"))
    if step.training is not None:
        summary = recover(
            pruned,
            step.training,
            context,
            masks=masks,
            after_backward=_behind_backward(step, score, weights, masks),
            after_step=_gradually(step, remove),
            complete_from=partial(complete_from, step.schedule),
            beside={} if movement is None else {"movement": movement},
        )
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


def _behind_backward(
    step: Prune, score: Importance, weights: dict[str, nn.Parameter], masks: Masks
) -> Callable[[int, int], None] | None:
    if isinstance(score, Movement):
        return lambda *_: score.gather()
    if isinstance(step.schedule, RigL):
        return Regrowth(step.schedule, weights, masks)
    return None


def _gradually(step: Prune, remove: Callable[[float], None]) -> Callable[[int, int], None] | None:
    schedule = step.schedule
    if not isinstance(schedule, Cubic | Iterative):
        return None

    def after_step(at: int, steps: int) -> None:
        if isinstance(schedule, Iterative):
            share = rounds(schedule, steps, trained_first=step.criterion == "movement").get(at)
        else:
            share = Updates.of(schedule, steps).share(at)
        if share is not None:
            remove(share)

    return after_step
