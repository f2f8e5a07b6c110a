"""The SVD that is best for a layer's outputs, not for its weights (Drone: Chen et al. 2021; SVD-LLM, 2403.07378).

With inputs X (one row each) and the matrix M (inputs x outputs) the error of the outputs is |X (M - M~)|^2. With the
second moment X^T X / n = Q diag(l) Q^T and the root S = diag(l)^(1/2) Q^T it is n |S M - S M~|^2, whose best M~ of
rank K is S^-1 times the truncated SVD of S M (Eckart and Young): the error is n times the discarded squared values.
"""

from __future__ import annotations

import torch
from torch import Tensor

from modelpress.engine.factorize.svd import Decomposition, decompose

# Directions that the inputs hardly take are damped, as dividing by their length would blow up rounding errors.
DAMPING = 1e-6  # Of the largest eigenvalue.


def whitened_decomposition(matrices: Tensor, moments: Tensor) -> Decomposition:
    """The decompositions of matrices (groups, inputs, outputs) whose cuts are best for inputs of these second moments.

    `moments` are (groups, inputs, inputs). `values` are the singular values of the whitened matrices: their squares
    are what the outputs lose, by input.
    """
    lengths, directions = torch.linalg.eigh(moments.double())
    largest = lengths[:, -1:]
    # A group that is given zeros only: every cut is as good for its outputs, so its weights decide.
    lengths = torch.where(largest > 0, lengths.clamp(min=DAMPING * largest), 1.0)
    root = lengths.sqrt()[:, :, None]
    inner = decompose(root * (directions.mT @ matrices.double()))
    left = directions @ (inner.left / root)
    return Decomposition(left.to(matrices.dtype), inner.values.to(matrices.dtype), inner.right.to(matrices.dtype))
