"""From scores of importance to masks, counted to the weight."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def keep_highest(scores: Mapping[str, Tensor], removed: int, kept: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Masks (True is kept) that remove the `removed` weights of the lowest score over all of `scores`.

    Weights that `kept` already removes go first, so that masks only ever grow, and of equal scores the first in
    memory goes first, so that the count is met exactly. [3, 1, 1, 2] with 1 removed keeps [3, 1, 2].
    """
    flat = torch.cat([_held(score, kept.get(name)) for name, score in scores.items()])
    keep = torch.ones_like(flat, dtype=torch.bool)
    if removed > 0:
        threshold = flat.kthvalue(removed).values
        keep = flat > threshold
        # Of the weights at the threshold, as many go as are still missing.
        level = (flat == threshold).nonzero().squeeze(1)
        missing = removed - (flat.numel() - int(keep.sum()) - len(level))
        keep[level[missing:]] = True
    parts = torch.split(keep, [score.numel() for score in scores.values()])
    return {name: part.view(score.shape) for (name, score), part in zip(scores.items(), parts, strict=True)}


def _held(score: Tensor, kept: Tensor | None) -> Tensor:
    if kept is not None:
        score = score.masked_fill(~kept.to(score.device), -torch.inf)
    return score.reshape(-1)
