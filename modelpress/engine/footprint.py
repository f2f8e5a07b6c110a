"""Memory that a network's passes take for each image, found without computing anything.

A copy of the network on torch's meta device runs in training mode: shapes are there, numbers are not. What autograd
keeps for the backward pass is counted by its storage, each once, weights and buffers left out.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from modelpress.engine.layer_types import own_layers
from modelpress.spec.inspection import Footprint

LOG = logging.getLogger(__name__)

# Batch norm needs two images; the difference of two batches leaves out what is kept once for all images.
_BATCHES = (2, 4)


def footprint(module: nn.Module, input_shape: Sequence[int]) -> Footprint | None:
    """Memory for one image of `input_shape` (C, H, W); `module` stays as it is.

    None for a network that does not run on shapes alone, as one that decides by a number of its own.
    """
    try:
        twin = _on_meta(module).train()
        kept, passed = zip(*(_pass(twin, (count, *input_shape)) for count in _BATCHES), strict=True)
    # Whatever a network of anybody's raises there: it is an estimate's loss alone.
    except Exception as error:  # noqa: BLE001
        LOG.info("memory for each image is not known: %s", str(error).partition("\n")[0][:300])
        return None
    images = _BATCHES[1] - _BATCHES[0]
    return Footprint(
        forward_bytes=max(0, passed[1] - passed[0]) // images, training_bytes=max(0, kept[1] - kept[0]) // images
    )


def _on_meta(module: nn.Module) -> nn.Module:
    # Known to the copy beforehand, no weight is copied.
    memo: dict[int, Tensor] = {}
    for parameter in module.parameters():
        memo[id(parameter)] = nn.Parameter(torch.empty_like(parameter, device="meta"), parameter.requires_grad)
    for buffer in module.buffers():
        memo[id(buffer)] = torch.empty_like(buffer, device="meta")
    return copy.deepcopy(module, memo)


def _pass(module: nn.Module, shape: Sequence[int]) -> tuple[int, int]:
    """Bytes that a forward pass of a batch keeps, and of the largest input and output of one layer."""
    own = {tensor.untyped_storage()._cdata for tensor in (*module.parameters(), *module.buffers())}
    kept: dict[int, Tensor] = {}  # by storage; held, so that none is freed and its place taken by another
    largest = 0

    def keep(tensor: Tensor) -> Tensor:
        place = tensor.untyped_storage()._cdata
        if place not in own:
            kept[place] = tensor
        return tensor

    def look(_: nn.Module, inputs: object, outputs: object) -> None:
        nonlocal largest
        largest = max(largest, sum(tensor.nbytes for tensor in _tensors((inputs, outputs))))

    hooks = [layer.register_forward_hook(look) for layer in own_layers(module).values()]
    try:
        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            outputs = module(torch.empty(*shape, device="meta"))
    finally:
        for hook in hooks:
            hook.remove()
    del outputs
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values()), largest


def _tensors(found: object) -> list[Tensor]:
    if isinstance(found, Tensor):
        return [found]
    if isinstance(found, tuple | list):
        return [tensor for each in found for tensor in _tensors(each)]
    return []
