"""A network's structure apart from its weights: copies that cost next to nothing, to trace, to count, to narrow."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from modelpress.engine.prune_channels.narrow import Removal, edit_of, narrow_layers, remove


def outline(module: nn.Module) -> nn.Module:
    """A copy whose parameters and buffers have shapes alone, on the device `meta`; in evaluation mode."""
    return _copy_without(module, [*module.parameters(), *module.buffers()]).eval()


def narrowed(module: nn.Module, removals: Mapping[str, Removal]) -> nn.Module:
    """A copy of the network without these channels."""
    left = remove(module, removals)
    tensors: dict[str, Tensor] = dict(module.named_parameters(remove_duplicate=False))
    tensors |= dict(module.named_buffers(remove_duplicate=False))
    # What is narrowed is not copied first.
    copied = _copy_without(module, [tensors[name] for name in left])
    if removals:
        narrow_layers(copied, edit_of(module, removals))
    for name, tensor in left.items():
        owner, _, key = name.rpartition(".")
        layer = copied.get_submodule(owner)
        old = getattr(layer, key)
        setattr(layer, key, nn.Parameter(tensor, old.requires_grad) if isinstance(old, nn.Parameter) else tensor)
    return copied


def _copy_without(module: nn.Module, tensors: Iterable[Tensor]) -> nn.Module:
    """A copy in which shapes stand for these tensors of it."""
    shapes: dict[int, object] = {}
    for tensor in tensors:
        shape = torch.empty_like(tensor, device="meta", requires_grad=False)
        parameter = isinstance(tensor, nn.Parameter)
        shapes[id(tensor)] = nn.Parameter(shape, tensor.requires_grad) if parameter else shape
    return copy.deepcopy(module, shapes)
