"""Which weights go: those of the smallest magnitude, counted to the weight."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from modelpress.engine.prune.scores import keep_highest


def zeros(weights: Mapping[str, Tensor]) -> int:
    """How many of the weights are zero."""
    return sum(int((weight == 0).sum()) for weight in weights.values())


def size(weights: Mapping[str, Tensor]) -> int:
    """How many weights there are."""
    return sum(weight.numel() for weight in weights.values())


def magnitudes(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """|w| of every weight."""
    return {name: weight.detach().abs() for name, weight in weights.items()}


def keep_largest(weights: Mapping[str, Tensor], removed: int, kept: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Masks (True is kept) that remove the `removed` weights of the smallest magnitude over all of `weights`.

    Weights that `kept` already removes go first. [3, -1, 1, 2] with 1 removed keeps [3, 1, 2].
    """
    return keep_highest(magnitudes(weights), removed, kept)
