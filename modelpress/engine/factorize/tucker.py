"""A convolution as a 1 x 1, a thinner k x k and a 1 x 1 one (Tucker-2: Kim et al. 2016, arXiv 1511.06530, section 3).

A kernel W (N, C, kh, kw) is approximated by W~[n, c, y, x] = sum over p, q of A[n, p] G[p, q, y, x] B[c, q], with
orthonormal columns in A (N, output rank) and B (C, input rank): the kernel sees few mixtures of its inputs and makes
few outputs, which A mixes into N. With 8 channels in and out and a 3x3 kernel of 576 weights, ranks 4 and 4 have
8 * 4 + 4 * 4 * 9 + 4 * 8 = 208.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

SWEEPS = 5  # Of the orthogonal iteration. Started from the truncated HOSVD, the first gains nearly all there is.


@dataclass(frozen=True)
class Tucker:
    """W ~ core, times `outputs` along its first axis, times `inputs` along its second."""

    outputs: Tensor  # (N, output rank), orthonormal columns
    core: Tensor  # (output rank, input rank, kh, kw)
    inputs: Tensor  # (C, input rank), orthonormal columns

    def kernel(self) -> Tensor:
        """The kernel (N, C, kh, kw) that the three layers make together."""
        return torch.einsum("np,pqyx,cq->ncyx", self.outputs, self.core, self.inputs)

    def weights(self) -> tuple[Tensor, Tensor, Tensor]:
        """Kernels of the three convolutions: (input rank, C, 1, 1), the core, (N, output rank, 1, 1)."""
        return self.inputs.T[:, :, None, None], self.core, self.outputs[:, :, None, None]


def tucker(kernel: Tensor, input_rank: int, output_rank: int) -> Tucker:
    """Tucker-2 of a kernel (N, C, kh, kw): truncated higher-order SVD, then a few sweeps of orthogonal iteration.

    Each sweep gives the best factor for the other one (De Lathauwer et al. 2000, HOOI), so that the error never grows.
    """
    kernel = kernel.detach().double()
    outputs = _leading(kernel.flatten(1), output_rank)
    inputs = _leading(kernel.transpose(0, 1).flatten(1), input_rank)
    for _ in range(SWEEPS):
        thin = torch.einsum("ncyx,np->cpyx", kernel, outputs)
        inputs = _leading(thin.flatten(1), input_rank)
        thin = torch.einsum("ncyx,cq->nqyx", kernel, inputs)
        outputs = _leading(thin.flatten(1), output_rank)
    core = torch.einsum("ncyx,np,cq->pqyx", kernel, outputs, inputs)
    return Tucker(outputs, core, inputs)


def mode_values(kernel: Tensor) -> tuple[Tensor, Tensor]:
    """Singular values of a kernel unfolded along its inputs (C) and along its outputs (N), largest first, float64.

    There are as many as channels; where the other axes hold fewer, the rest are zero.
    """
    kernel = kernel.detach().double()
    return _values(kernel.transpose(0, 1).flatten(1)), _values(kernel.flatten(1))


def _values(matrix: Tensor) -> Tensor:
    # By the small Gram matrix: the unfolding is far wider than high.
    squares: Tensor = torch.linalg.eigvalsh(matrix @ matrix.T)
    return squares.clamp(min=0).sqrt().flip(0)


def _leading(matrix: Tensor, rank: int) -> Tensor:
    """The first left singular vectors of a matrix, as columns."""
    vectors: Tensor = torch.linalg.eigh(matrix @ matrix.T).eigenvectors
    return vectors[:, -rank:].flip(1)
