"""Batch norms between thinner layers, set by what training images give them (Tai et al. 2015, section 4).

A norm that divides by the deviation of its inputs and multiplies with it again changes nothing: it is put there for the
training. What that begins with should be the network as it was also in training mode, where a norm takes mean and
variance from the batch; so its scale and shift undo the statistics of the training images, gamma = sqrt(variance + eps)
and beta = mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from modelpress.engine.measure import evaluating

Norm = nn.BatchNorm1d | nn.BatchNorm2d


@torch.no_grad()
def set_statistics(module: nn.Module, norms: Mapping[str, Norm], batches: Sequence[Tensor]) -> None:
    """Give norms that change nothing the statistics of their inputs over all batches (B, C, H, W); they still do not.

    Norms that see fewer than two numbers by channel stay as they are.
    """
    sums = {name: torch.zeros(3, norm.num_features, dtype=torch.float64) for name, norm in norms.items()}

    def note(given: tuple[Any, ...], *, name: str) -> None:
        rows = given[0].double().transpose(0, 1).flatten(1)  # (channels, numbers)
        sums[name] += torch.stack([torch.full_like(rows[:, 0], rows.shape[1]), rows.sum(1), rows.square().sum(1)])

    handles = [
        norm.register_forward_pre_hook(lambda _, given, name=name: note(given, name=name))
        for name, norm in norms.items()
    ]
    try:
        with evaluating(module):
            for batch in batches:
                module(batch)
    finally:
        for handle in handles:
            handle.remove()
    for name, norm in norms.items():
        count, total, squares = sums[name]
        if float(count[0]) < 2:
            continue
        mean = total / count
        variance = ((squares - count * mean.square()) / (count - 1)).clamp(min=0)
        norm.get_buffer("running_mean").copy_(mean)
        norm.get_buffer("running_var").copy_(variance)
        norm.weight.copy_((norm.get_buffer("running_var") + norm.eps).sqrt())
        norm.bias.copy_(mean)
