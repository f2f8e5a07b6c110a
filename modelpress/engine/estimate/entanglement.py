"""How often channels are rearranged on their way through a network: what the time to trace them grows with."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from modelpress.engine.prune_channels.outline import outline

# Nodes of autograd's graph through which the dependency graph has to follow every index.
_REARRANGING = (
    "View",
    "UnsafeView",
    "Reshape",
    "Transpose",
    "Permute",
    "Expand",
    "Select",
    "Slice",
    "Split",
    "Unbind",
    "Roll",
)


def rearrangements(module: nn.Module, input_shape: Sequence[int]) -> int:
    """Views, transpositions, splits and the like in a forward pass, and the inputs of concatenations.

    Worked out from shapes alone. One in a ResNet, its flattening; 438 in ViT-B/16, some 2,000 in
    DenseNet-201.
    """
    outputs = outline(module).requires_grad_(True)(torch.empty(2, *input_shape, device="meta"))
    waiting, seen = [outputs.grad_fn], set()
    count = 0
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        following = [each for each, _ in node.next_functions]
        waiting += following
        if node.name().startswith("Cat"):
            count += len(following)
        elif node.name().startswith(_REARRANGING):
            count += 1
    return count
