"""The SVD that is best for a layer's outputs, not for its weights (Drone: Chen et al. 2021; SVD-LLM, 2403.07378).

With inputs X (one row each) and the matrix M (inputs x outputs) the error of the outputs is |X (M - M~)|^2. With the
second moment X^T X / n = Q diag(l) Q^T and the root S = diag(l)^(1/2) Q^T it is n |S M - S M~|^2, whose best M~ of
rank K is S^-1 times the truncated SVD of S M (Eckart and Young): the error is n times the discarded squared values.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modelpress.engine.factorize.svd import Decomposition, decompose
from modelpress.engine.network import Network
from modelpress.engine.recovery import preprocessing_of, training_data
from modelpress.engine.step import StepContext

# Directions that the inputs hardly take are damped, as dividing by their length would blow up rounding errors.
DAMPING = 1e-6  # Of the largest eigenvalue.

# The moments of VGG-19's layers would take over a gigabyte at once: layers whose moments fit in here go together.
MOST_ENTRIES = 2**26
BATCH_PIXELS = 2**16  # Patches hold each of them k x k times.


def whitened_decomposition(matrix: Tensor, moment: Tensor) -> Decomposition:
    """The decomposition of a matrix (inputs x outputs) whose cuts are best for inputs of this second moment.

    `values` are the singular values of the whitened matrix: their squares are what the outputs lose, by input.
    """
    lengths, directions = torch.linalg.eigh(moment.double())
    largest = float(lengths[-1])
    if largest <= 0:
        return decompose(matrix)  # The layer is given zeros only: every cut is as good for its outputs.
    root = lengths.clamp(min=DAMPING * largest).sqrt()
    inner = decompose(root[:, None] * (directions.T @ matrix.double()))
    left = directions @ (inner.left / root[:, None])
    return Decomposition(left.to(matrix.dtype), inner.values.to(matrix.dtype), inner.right.to(matrix.dtype))


@torch.no_grad()
def input_moments(
    module: nn.Module, layers: dict[str, nn.Module], batches: list[Tensor]
) -> Iterator[tuple[str, Tensor]]:
    """Name and second moment (inputs, inputs) of what each layer is given, over all batches (B, C, H, W).

    The module is in evaluation mode. A convolution is given patches, (C kh kw) numbers each, in the kernel's order.
    """
    for names in _in_turns(layers):
        sums: dict[str, Tensor] = {}
        counts = dict.fromkeys(names, 0)

        def note(layer: nn.Module, given: tuple[Any, ...], *, name: str) -> None:
            rows = layer_inputs(layer, given[0])
            sums[name] = sums.get(name, 0) + rows.T @ rows  # noqa: B023  # The hooks go before the next turn.
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
    """What a layer multiplies its matrix with, a row each: (rows, inputs)."""
    if not isinstance(layer, nn.Conv2d):
        return given.detach().flatten(0, -2)
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    padded = F.pad(given.detach(), layer._reversed_padding_repeated_twice, mode=mode)
    patches = F.unfold(padded, layer.kernel_size, dilation=layer.dilation, stride=layer.stride)  # (B, C kh kw, places)
    return patches.transpose(1, 2).flatten(0, 1)


def _in_turns(layers: dict[str, nn.Module]) -> Iterable[list[str]]:
    turn: list[str] = []
    entries = 0
    for name, layer in layers.items():
        size = layer.get_parameter("weight")[0].numel() ** 2
        if turn and entries + size > MOST_ENTRIES:
            yield turn
            turn, entries = [], 0
        turn.append(name)
        entries += size
    if turn:
        yield turn
