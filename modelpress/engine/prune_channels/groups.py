"""Channels that can only go together, by torch-pruning's dependency graph (Fang et al. 2023, arXiv 2301.12900)."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch_pruning as tp
from torch import nn

from modelpress.engine.network import weighted_layers
from modelpress.engine.prune_channels.narrow import NORMS, Removal, is_depthwise, sizes_of
from modelpress.engine.prune_channels.outline import outline
from modelpress.spec.failure import IncompatibleSpec

UNFIT = "torch-pruning cannot follow its channels through the network"
OUTPUTS = "its channels are the network's outputs"


@dataclass(frozen=True)
class Group:
    """Channels 0 ... `channels` - 1 of the layer `root`, and what each is in every layer that it runs through."""

    root: str
    channels: int
    members: tuple[tuple[str, bool, tuple[tuple[int, int], ...]], ...]  # layer, is its output, (channel, index) pairs

    def removals(self, channels: Iterable[int]) -> dict[str, Removal]:
        """What leaves each layer when these channels of the root go."""
        gone = set(channels)
        removals: dict[str, Removal] = {}
        for name, is_output, pairs in self.members:
            removal = removals.setdefault(name, Removal())
            side = removal.outputs if is_output else removal.inputs
            side.update(index for channel, index in pairs if channel in gone)
        return removals

    def outputs(self, name: str) -> list[tuple[int, int]]:
        """Pairs of a channel of the group and its index among the outputs of a layer."""
        return [pair for layer, is_output, pairs in self.members if layer == name and is_output for pair in pairs]

    @property
    def makers(self) -> tuple[str, ...]:
        """Layers whose outputs these channels are, norms too, each once."""
        return tuple(dict.fromkeys(name for name, is_output, _ in self.members if is_output))


def trace_groups(module: nn.Module, input_shape: tuple[int, int, int]) -> tuple[list[Group], dict[str, str]]:
    """Groups as the dependency graph has them, and the weighted layers whose outputs are in none, with the reason.

    The graph is read off the shapes alone. Raises IncompatibleSpec when the network cannot be traced.
    """
    traced = outline(module).requires_grad_(True)
    for layer in traced.modules():
        if isinstance(layer, NORMS):  # it passes each channel on; to work out the shapes of how takes most of the time
            layer.forward = torch.clone  # type: ignore[method-assign]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch-pruning's, about parameters of no layer; their groups are skipped
        try:
            images = torch.empty(2, *input_shape, device="meta")
            graph = tp.DependencyGraph().build_dependency(traced, images, verbose=False)
        except Exception as error:  # whatever a network's code makes of it
            raise IncompatibleSpec(f"the channels of this network cannot be traced: {error}") from error
        names = {layer: name for name, layer in traced.named_modules()}
        weighted = weighted_layers(traced)
        groups: list[Group] = []
        reasons: dict[str, str] = {}
        seen: set[str] = set()
        for name, layer in weighted.items():
            if name in seen or name in reasons:
                continue
            if is_depthwise(layer):  # it passes on the channels of the layer before it
                continue
            if sizes_of(layer) is None:
                reasons[name] = f"a {type(layer).__name__} of its kind is not narrowed"
                continue
            found = _group(graph, name, layer, names)
            if isinstance(found, Group):
                seen.update(found.makers)
                groups.append(found)
            else:
                seen.add(name)
                reasons[name] = found
    return groups, reasons


def _group(graph: tp.DependencyGraph, name: str, layer: nn.Module, names: dict[nn.Module, str]) -> Group | str:
    """The group of a layer's outputs, or why there is none."""
    channels = (sizes_of(layer) or (0, 0))[1]
    if layer not in graph.module2node:
        return "the network does not call it, or not in a way that can be traced"
    members = []
    ends = False  # whether what leaves the network is among its channels
    try:
        found = graph.get_pruning_group(
            layer, graph.get_pruner_of_module(layer).prune_out_channels, list(range(channels))
        )
        for item in found:
            node = item.dep.target
            target = node.module
            ends = ends or node.type == tp.ops.OPTYPE.OUTPUT
            if isinstance(target, nn.Parameter):
                return "its channels meet a parameter that is in no layer"
            if target not in names:  # what is between layers: additions, concatenations, views
                continue
            if sizes_of(target) is None:
                if any(True for _ in target.parameters(recurse=False)):
                    return (
                        f"its channels run through {names[target]!r}, a {type(target).__name__}, which is not narrowed"
                    )
                continue
            is_output = bool(graph.is_out_channel_pruning_fn(item.dep.handler)) or is_depthwise(target)
            ends = ends or (is_output and not node.outputs)
            if len(item.idxs) != len(item.root_idxs):
                return UNFIT
            members.append((names[target], is_output, tuple(zip(item.root_idxs, item.idxs, strict=True))))
    except Exception as error:  # noqa: BLE001  # its indices fail in many ways where it misreads a network
        return f"{UNFIT} ({type(error).__name__})"
    if channels < 2:
        return "it has a single channel"
    return OUTPUTS if ends else Group(name, channels, tuple(members))


def together(groups: Sequence[Group], gone: dict[str, list[int]]) -> dict[str, Removal]:
    """What leaves each layer when the channels `gone` (root to indices) go, of all groups together."""
    total: dict[str, Removal] = {}
    for group in groups:
        if not gone.get(group.root):
            continue
        for name, removal in group.removals(gone[group.root]).items():
            one = total.setdefault(name, Removal())
            one.inputs |= removal.inputs
            one.outputs |= removal.outputs
    return total
