"""What training images say about a network: the second moments of what its layers are given."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modelpress.engine.factorize.rank import groups_of
from modelpress.engine.network import Network
from modelpress.engine.recovery import preprocessing_of, training_data
from modelpress.engine.step import StepContext

# The moments of VGG-19's layers would take over a gigabyte at once: layers whose moments fit in here go together.
MOST_ENTRIES = 2**26
BATCH_PIXELS = 2**16  # Patches hold each of them k x k times.


@torch.no_grad()
def input_moments(
    module: nn.Module, layers: dict[str, nn.Module], batches: list[Tensor]
) -> Iterator[tuple[str, Tensor]]:
    """Name and second moments (groups, inputs, inputs) of what each layer is given, over all batches (B, C, H, W).

    The module is in evaluation mode. A convolution is given patches, (C kh kw) numbers each, in the kernel's order;
    each of its groups sees its own channels of them.
    """
    for names in _in_turns(layers):
        sums: dict[str, Tensor] = {}
        counts = dict.fromkeys(names, 0)

        def note(layer: nn.Module, given: tuple[Any, ...], *, name: str) -> None:
            rows = layer_inputs(layer, given[0])
            by_group = rows.view(len(rows), groups_of(layer), -1).transpose(0, 1)  # (groups, rows, inputs)
            sums[name] = sums.get(name, 0) + by_group.mT @ by_group  # noqa: B023  # The hooks go before the next turn.
            counts[name] += len(rows)  # noqa: B023

        handles = [
            layers[name].register_forward_pre_hook(lambda layer, given, name=name: note(layer, given, name=name))
            for name in names
        ]
        try:
            for batch in batches:
                module(batch)
        finally:
            for handle in handles:
                handle.remove()
        for name in names:
            yield name, sums.pop(name) / counts[name]


def calibration_batches(network: Network, context: StepContext, count: int) -> list[Tensor]:
    """At most that many training images, drawn by the seed, as the network takes them, in batches of few pixels."""
    images = training_data(context).train_images  # uint8 (N, C, H, W)
    chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(context.seed))[:count]
    preprocessing = preprocessing_of(network, context)
    mean, std = (torch.tensor(numbers)[:, None, None] for numbers in (preprocessing.mean, preprocessing.std))
    size = max(1, BATCH_PIXELS // (images.shape[2] * images.shape[3]))
    return [(images[part].float() / 255 - mean) / std for part in torch.split(chosen, size)]


def layer_inputs(layer: nn.Module, given: Tensor) -> Tensor:
    """What a layer multiplies its matrices with, a row each: (rows, inputs of all groups)."""
    given = given.detach()
    if not isinstance(layer, nn.Conv1d | nn.Conv2d):
        return given.flatten(0, -2)
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    padded = F.pad(given, layer._reversed_padding_repeated_twice, mode=mode)
    # A row of places is an image of height 1.
    flat = (1,) * (2 - len(layer.kernel_size))
    kernel, dilation, stride = ((*flat, *sizes) for sizes in (layer.kernel_size, layer.dilation, layer.stride))
    if flat:
        padded = padded[:, :, None]
    patches = F.unfold(padded, kernel, dilation=dilation, stride=stride)  # (B, C kh kw, places)
    return patches.transpose(1, 2).flatten(0, 1)


def _in_turns(layers: dict[str, nn.Module]) -> Iterable[list[str]]:
    turn: list[str] = []
    entries = 0
    for name, layer in layers.items():
        size = groups_of(layer) * layer.get_parameter("weight")[0].numel() ** 2
        if turn and entries + size > MOST_ENTRIES:
            yield turn
            turn, entries = [], 0
        turn.append(name)
        entries += size
    if turn:
        yield turn
