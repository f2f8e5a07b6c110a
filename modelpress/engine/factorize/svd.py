"""A matrix as a product of two thinner ones, and a linear layer as two."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Decomposition:
    """matrix = left diag(values) right, values largest first."""

    left: Tensor  # (M, R)
    values: Tensor  # (R,)
    right: Tensor  # (R, N)

    def halves(self, rank: int) -> tuple[Tensor, Tensor]:
        """The best approximation of that rank as (M, rank) times (rank, N), singular values shared by square roots.

        The squared error is the sum of the squares of the values left out (Eckart and Young). With equal shares both
        halves have the same norm, which is kindest to a training that follows.
        """
        root = self.values[:rank].sqrt()
        return self.left[:, :rank] * root, root[:, None] * self.right[:rank]


def decompose(matrix: Tensor) -> Decomposition:
    """Singular value decomposition of a matrix (M, N), R = min(M, N); in float32 or better."""
    left, values, right = torch.linalg.svd(_precise(matrix), full_matrices=False)
    return Decomposition(left, values, right)


def singular_values(matrix: Tensor) -> Tensor:
    """The singular values of a matrix alone, largest first; in float32 or better."""
    values: Tensor = torch.linalg.svdvals(_precise(matrix))
    return values


def _precise(matrix: Tensor) -> Tensor:
    if not matrix.is_floating_point() or matrix.dtype in (torch.float16, torch.bfloat16):
        return matrix.float()
    return matrix


def linear_matrix(layer: nn.Linear) -> Tensor:
    """The weight of a linear layer as inputs x outputs."""
    return layer.weight.detach().T


def linear_weights(halves: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Weights of the two linear layers: (rank, inputs) and (outputs, rank)."""
    first, second = halves
    return first.T, second.T
