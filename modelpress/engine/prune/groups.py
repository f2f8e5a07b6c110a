"""Layers that a step prunes together, and how many of their weights it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from modelpress.engine.prune.erk import erk_kept
from modelpress.engine.prune.magnitude import size, zeros
from modelpress.engine.prune.schedule import cubic_sparsity, even_sparsity
from modelpress.spec.failure import IncompatibleSpec
from modelpress.spec.steps import Iterative, Prune


@dataclass(frozen=True)
class Group:
    """Layers whose weights are compared with one another, and how many of them are gone, at first and at the end."""

    names: tuple[str, ...]
    initial: int
    final: float  # not rounded, for the schedule's sake

    def removed(self, share: float, schedule: object) -> int:
        """How many of its weights are gone when the schedule is this far."""
        grown = even_sparsity if isinstance(schedule, Iterative) else cubic_sparsity
        return round(grown(self.initial, self.final, share))


def groups_of(weights: Mapping[str, nn.Parameter], step: Prune, own: Mapping[str, float]) -> list[Group]:
    """The groups of a step's layers, given their weights by name (`features.0.weight`).

    `own` are the sparsities of layers that have one by themselves, each of which is a group. Raises IncompatibleSpec
    when layers are sparser already than asked for.
    """
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
    return groups + [Group((name,), gone[name], weight.numel() - kept[name]) for name, weight in weights.items()]


def _group(weights: Mapping[str, nn.Parameter], sparsity: float, where: str) -> Group:
    gone, final = zeros(weights), sparsity * size(weights)
    if gone > round(final):
        raise IncompatibleSpec(
            f"{gone} of {size(weights)} weights of {where} are zero already ({gone / size(weights):.1%}), more than "
            f"`sparsity` {sparsity:g} asks for; ask for a higher one, or choose other layers"
        )
    return Group(tuple(weights), gone, final)
