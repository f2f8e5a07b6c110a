"""Matrices as products of two thinner ones."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Decomposition:
    """matrices = left diag(values) right, values largest first. Any dimensions before the last two are a batch."""

    left: Tensor  # (..., M, R)
    values: Tensor  # (..., R)
    right: Tensor  # (..., R, N)

    def halves(self, rank: int) -> tuple[Tensor, Tensor]:
        """The best approximation of that rank as (M, rank) times (rank, N), singular values shared by square roots.

        The squared error is the sum of the squares of the values left out (Eckart and Young). With equal shares both
        halves have the same norm, which is kindest to a training that follows.
        """
        root = self.values[..., :rank].sqrt()
        return self.left[..., :rank] * root[..., None, :], root[..., None] * self.right[..., :rank, :]


def decompose(matrices: Tensor) -> Decomposition:
    """Singular value decomposition of matrices (..., M, N), R = min(M, N); in float32 or better."""
    if not matrices.is_floating_point() or matrices.dtype in (torch.float16, torch.bfloat16):
        matrices = matrices.float()
    return Decomposition(*torch.linalg.svd(matrices, full_matrices=False))
