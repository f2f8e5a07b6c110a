"""Channels that can only go together, by torch-pruning's dependency graph (Fang et al. 2023, arXiv 2301.12900)."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch_pruning as tp
from torch import Tensor, nn
from torch.func import functional_call

from modelpress.engine.measure import evaluating
from modelpress.engine.network import weighted_layers
from modelpress.engine.prune_channels.narrow import (
    Removal,
    edit_of,
    is_depthwise,
    narrow_layers,
    remove,
    sizes_of,
    zeroed,
)
from modelpress.spec.failure import IncompatibleSpec

_UNFIT = "torch-pruning cannot follow its channels through the network"


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


def find_groups(module: nn.Module, input_shape: tuple[int, int, int]) -> tuple[list[Group], dict[str, str]]:
    """Groups that can be pruned, and the weighted layers whose outputs cannot, with the reason.

    Each group is tried: without one or two of its channels the network must give what it gives with their weights at
    zero. Raises IncompatibleSpec when the network cannot be traced.
    """
    module = copy.deepcopy(module).eval().requires_grad_(True)
    images = torch.randn(2, *input_shape, generator=torch.Generator().manual_seed(0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch-pruning's, about parameters of no layer; their groups are skipped
        try:
            graph = tp.DependencyGraph().build_dependency(module, images, verbose=False)
        except Exception as error:  # whatever a network's code makes of it
            raise IncompatibleSpec(f"the channels of this network cannot be traced: {error}") from error
        names = {layer: name for name, layer in module.named_modules()}
        groups: list[Group] = []
        reasons: dict[str, str] = {}
        seen: set[str] = set()
        for name, layer in weighted_layers(module).items():
            if name in seen or name in reasons:
                continue
            if sizes_of(layer) is None or is_depthwise(layer):
                # A depthwise convolution passes on the channels of the layer before it.
                if not is_depthwise(layer):
                    reasons[name] = f"a {type(layer).__name__} of its kind is not narrowed"
                continue
            found = _group(graph, name, layer, names)
            makers = found.makers if isinstance(found, Group) else (name,)
            seen.update(makers)
            reason = found if isinstance(found, str) else _misfit(module, found, images)
            if reason is None and isinstance(found, Group):
                groups.append(found)
            elif reason is not None:
                weighted = weighted_layers(module)
                reasons.update({maker: reason for maker in makers if maker in weighted and maker not in reasons})
    return groups, reasons


def _group(graph: tp.DependencyGraph, name: str, layer: nn.Module, names: dict[nn.Module, str]) -> Group | str:
    """The group of a layer's outputs, or why there is none."""
    channels = (sizes_of(layer) or (0, 0))[1]
    if layer not in graph.module2node:
        return "the network does not call it, or not in a way that can be traced"
    members = []
    try:
        found = graph.get_pruning_group(
            layer, graph.get_pruner_of_module(layer).prune_out_channels, list(range(channels))
        )
        for item in found:
            target = item.dep.target.module
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
            if len(item.idxs) != len(item.root_idxs):
                return _UNFIT
            members.append((names[target], is_output, tuple(zip(item.root_idxs, item.idxs, strict=True))))
    except Exception as error:  # noqa: BLE001  # its indices fail in many ways where it misreads a network
        return f"{_UNFIT} ({type(error).__name__})"
    return Group(name, channels, tuple(members))


@torch.no_grad()
def _misfit(module: nn.Module, group: Group, images: Tensor) -> str | None:
    """Why a group cannot be pruned, found by pruning a little of it; None when it can."""
    if group.channels < 2:
        return "it has a single channel"
    some = [0] if group.channels == 2 else [0, group.channels - 2]
    removals = group.removals(some)
    with evaluating(module):
        expected = module(images)
        try:
            outputs = narrowed(module, removals)(images)
        except Exception:  # noqa: BLE001  # shapes that do not fit, indices out of bounds, layers left empty
            return _UNFIT
        if outputs.shape != expected.shape:
            return "its channels are the network's outputs"
        expected = functional_call(module, zeroed(module, removals), (images,))
    scale = float(expected.abs().max())
    if not torch.allclose(outputs, expected, rtol=1e-3, atol=1e-3 * scale):
        return "without its channels the network does not give what it gives with their weights at zero"
    return None


def narrowed(module: nn.Module, removals: dict[str, Removal]) -> nn.Module:
    """A copy of the network without these channels."""
    copied = copy.deepcopy(module)
    narrow_layers(copied, edit_of(module, removals))
    copied.load_state_dict(remove(module, removals))
    return copied


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
