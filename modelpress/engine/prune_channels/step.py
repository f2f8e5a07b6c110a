"""The step `prune_channels`: the least important channels leave the network, and its layers become smaller."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from modelpress.engine.layer_change import layer_change
from modelpress.engine.measure import count_macs, count_parameters
from modelpress.engine.network import Network, layer_types, weighted_layers
from modelpress.engine.prune_channels.choice import least, most_removable, ranked, rounded
from modelpress.engine.prune_channels.groups import Group, find_groups, narrowed, together
from modelpress.engine.prune_channels.importance import importance
from modelpress.engine.prune_channels.narrow import Removal, cut, edit_of, kept
from modelpress.engine.quantize.grid import Grid
from modelpress.engine.recovery import recover, training_data
from modelpress.engine.step import StepContext, StepResult
from modelpress.spec.check import select_layers
from modelpress.spec.failure import IncompatibleSpec
from modelpress.spec.report import SkippedLayer
from modelpress.spec.steps import PruneChannels


def prune_channels(network: Network, step: PruneChannels, context: StepContext) -> StepResult:
    """Take out the least important channels, no more than reach the target.

    Masks and grids of narrowed weights are narrowed with them. Raises IncompatibleSpec when no layer matches, when the
    target cannot be reached, or when it trains without data; and Diverged.
    """
    if step.training is not None:
        training_data(context)
    layers = weighted_layers(network.module)
    try:
        chosen = select_layers(layer_types(layers), step.layers)
    except ValueError as error:
        raise IncompatibleSpec(str(error)) from error
    groups, scores, reasons = _treatable(network, step, set(chosen), context.seed)
    gone = _chosen_channels(network, step, groups, scores)
    removals = together(groups, gone)

    result = Network(narrowed(network.module, removals).eval(), network.description)
    edit = edit_of(network.module, removals)
    result.description = network.description.edited(edit)
    result.masks = {name: _cut_mask(network.module, name, mask, removals) for name, mask in network.masks.items()}
    result.grids = {name: _cut_grid(network.module, name, grid, removals) for name, grid in network.grids.items()}
    summary = recover(result, step.training, context) if step.training is not None else None
    return StepResult(
        result,
        layers=tuple(
            layer_change(name, layer, result.module.get_submodule(name))
            for name, layer in network.module.named_modules()
            if name in removals
        ),
        skipped=tuple(SkippedLayer(name=name, reason=reasons[name]) for name in chosen if name in reasons),
        training=summary,
    )


def _treatable(
    network: Network, step: PruneChannels, chosen: set[str], seed: int
) -> tuple[list[Group], dict[str, Tensor], dict[str, str]]:
    """Groups that may lose channels, the importance of their channels by their roots, and why other layers stay."""
    found, reasons = find_groups(network.module, network.description.input_shape)
    weighted = weighted_layers(network.module)
    generator = torch.Generator().manual_seed(seed)
    groups: list[Group] = []
    scores: dict[str, Tensor] = {}
    for group in found:
        makers = [name for name in group.makers if name in weighted]
        others = [name for name in makers if name not in chosen]
        score = importance(network.module, group, step.criterion, generator)
        if others:
            reason = f"it shares its channels with {others[0]!r}, which is not chosen"
        elif score is None:
            reason = f"nothing that `{step.criterion}` could compare makes its channels"
        elif not bool(torch.isfinite(score).all()):
            reason = "its weights are not finite numbers"
        elif most_removable(group.channels, step) == 0:
            reason = f"`max_layer_share` and `round_to` let none of its {group.channels} channels go"
        else:
            groups.append(group)
            scores[group.root] = score
            continue
        reasons.update(dict.fromkeys(makers, reason))
    return groups, scores, reasons


def _chosen_channels(
    network: Network, step: PruneChannels, groups: list[Group], scores: Mapping[str, Tensor]
) -> dict[str, list[int]]:
    """Root to the channels that go: the first so many of the ranking that reach the target."""
    order = ranked(scores, step)
    sizes = {group.root: group.channels for group in groups}

    def gone(count: int) -> dict[str, list[int]]:
        by_group: dict[str, list[int]] = {}
        for root, channel in order[:count]:
            by_group.setdefault(root, []).append(channel)
        return rounded(by_group, sizes, step.round_to)

    def removed(count: int) -> float:
        if step.target.kind == "channels":
            return sum(map(len, gone(count).values())) / sum(sizes.values())
        without = narrowed(network.module, together(groups, gone(count))) if gone(count) else network.module
        return 1 - _count(without, network, step.target.kind) / _count(network.module, network, step.target.kind)

    count = least(len(order), lambda count: removed(count) >= step.target.removed)
    if count is None:
        most = f"at most {removed(len(order)):.1%}" if order else "none"
        raise IncompatibleSpec(
            f"{most} of the {step.target.kind} can be removed from the chosen layers, `target` asks for "
            f"{step.target.removed:.1%}; lower it, choose more layers, or raise `max_layer_share`"
        )
    return gone(count)


def _count(module: nn.Module, network: Network, kind: str) -> int:
    return count_macs(module, network.description.input_shape) if kind == "macs" else count_parameters(module)


def _cut_mask(module: nn.Module, weight: str, mask: Tensor, removals: Mapping[str, Removal]) -> Tensor:
    name = weight.rpartition(".")[0]
    if name not in removals:
        return mask
    layer = module.get_submodule(name)
    return cut(mask, layer, *kept(layer, removals[name]))


def _cut_grid(module: nn.Module, weight: str, grid: Grid, removals: Mapping[str, Removal]) -> Grid:
    name = weight.rpartition(".")[0]
    if name not in removals or grid.scales.numel() == 1:
        return grid
    outputs = kept(module.get_submodule(name), removals[name])[1]
    return Grid(grid.levels, grid.scales[torch.tensor(outputs, device=grid.scales.device)])
