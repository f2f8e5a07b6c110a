"""Weights counted, and scored by their magnitude."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


def zeros(weights: Mapping[str, Tensor]) -> int:
    """How many of the weights are zero."""
    return sum(int((weight == 0).sum()) for weight in weights.values())


def size(weights: Mapping[str, Tensor]) -> int:
    """How many weights there are."""
    return sum(weight.numel() for weight in weights.values())


def magnitudes(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """|w| of every weight."""
    return {name: weight.detach().abs() for name, weight in weights.items()}
