"""Which weights go: those of the smallest magnitude, counted to the weight."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def zeros(weights: Mapping[str, Tensor]) -> int:
    """How many of the weights are zero."""
    return sum(int((weight == 0).sum()) for weight in weights.values())


def size(weights: Mapping[str, Tensor]) -> int:
    """How many weights there are."""
    return sum(weight.numel() for weight in weights.values())


def keep_largest(weights: Mapping[str, Tensor], removed: int, kept: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Masks (True is kept) that remove the `removed` weights of the smallest magnitude over all of `weights`.

    Weights that `kept` already removes go first, so that masks only ever grow, and of equal magnitudes the first in
    memory goes first, so that the count is met exactly. [3, -1, 1, 2] with 1 removed keeps [3, 1, 2].
    """
    scores = torch.cat([_score(weight, kept.get(name)) for name, weight in weights.items()])
    keep = torch.ones_like(scores, dtype=torch.bool)
    if removed > 0:
        threshold = scores.kthvalue(removed).values
        keep = scores > threshold
        # Of the weights at the threshold, as many go as are still missing.
        level = (scores == threshold).nonzero().squeeze(1)
        missing = removed - (scores.numel() - int(keep.sum()) - len(level))
        keep[level[missing:]] = True
    parts = torch.split(keep, [weight.numel() for weight in weights.values()])
    return {name: part.view(weight.shape) for (name, weight), part in zip(weights.items(), parts, strict=True)}


def _score(weight: Tensor, kept: Tensor | None) -> Tensor:
    magnitude = weight.detach().abs()
    if kept is not None:
        magnitude = magnitude.masked_fill(~kept.to(weight.device), -1.0)
    return magnitude.reshape(-1)
