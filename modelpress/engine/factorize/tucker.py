"""A convolution as a 1 x 1, a thinner k x k and a 1 x 1 one (Tucker-2: Kim et al. 2016, arXiv 1511.06530, section 3).

A kernel W (N, C, kh, kw) is approximated by W~[n, c, y, x] = sum over p, q of A[n, p] G[p, q, y, x] B[c, q], with
orthonormal columns in A (N, output rank) and B (C, input rank): the kernel sees few mixtures of its inputs and makes
few outputs, which A mixes into N. With 8 channels in and out and a 3x3 kernel of 576 weights, ranks 4 and 4 have
8 * 4 + 4 * 4 * 9 + 4 * 8 = 208.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from modelpress.engine.factorize.chain import along, find_kernel, insert
from modelpress.engine.factorize.evbmf import evbmf_rank
from modelpress.engine.factorize.rank import choose_rank, rank_of_energy
from modelpress.engine.factorize.split import Ranks
from modelpress.spec.failure import InvalidModel
from modelpress.spec.network import TuckerLayer
from modelpress.spec.steps import AnyRank, RankEnergy, RankEvbmf

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


class TuckerSplit:
    """A convolution by Tucker-2; its ranks are those of its inputs and of its outputs."""

    def __init__(self, layer: nn.Module) -> None:
        self._kernel = layer.get_parameter("weight").detach()

    def ranks(self, rank: AnyRank, name: str) -> Ranks:
        outputs, inputs = self._kernel.shape[:2]
        chosen = choose_rank(rank, name, inputs), choose_rank(rank, name, outputs)
        if chosen[0] is not None and chosen[1] is not None:
            return chosen[0], chosen[1]
        along_inputs, along_outputs = mode_values(self._kernel)
        if isinstance(rank, RankEvbmf):
            # Of each unfolding (channels x the rest), as Kim et al. do. One higher than wide has fewer values.
            rest = self._kernel.numel()
            sides = [(along_inputs, (inputs, rest // inputs)), (along_outputs, (outputs, rest // outputs))]
            return tuple(evbmf_rank(values[: min(shape)].float(), shape) for values, shape in sides)
        if isinstance(rank, RankEnergy):
            # The error of the truncated HOSVD is at most the sum of what both unfoldings discard: half to each.
            lost = (1 - rank.value) / 2
            return rank_of_energy(along_inputs, 1 - lost), rank_of_energy(along_outputs, 1 - lost)
        raise TypeError(f"a rank of kind {rank.kind} is not defined for Tucker-2")  # The spec refuses it.

    def parameters(self, ranks: Ranks, *, batch_norm: bool) -> int:
        inputs, outputs = ranks
        return tucker_weights(self._kernel.shape, inputs, outputs) + (2 * (inputs + outputs) if batch_norm else 0)

    def edit(self, name: str, ranks: Ranks, *, batch_norm: bool) -> TuckerLayer:
        return TuckerLayer(layer=name, input_rank=ranks[0], output_rank=ranks[1], batch_norm=batch_norm)

    def weights(self, ranks: Ranks) -> tuple[Tensor, ...]:
        return tucker(self._kernel, *ranks).weights()


def tucker_weights(shape: Sequence[int], input_rank: int, output_rank: int) -> int:
    """Weights of the three convolutions in place of a kernel of this shape (N, C, kh, kw)."""
    outputs, inputs, *kernel = shape
    return inputs * input_rank + input_rank * output_rank * math.prod(kernel) + output_rank * outputs


def insert_tucker(module: nn.Module, edit: TuckerLayer) -> None:
    """Replace the convolution `edit.layer` by a 1 x 1, a k x k and a 1 x 1 one, in place, freshly initialised.

    They are named `<layer>.0` to `<layer>.2`; the bias belongs to the last. Raises InvalidModel when the layer is not
    there, is no such convolution, or has fewer channels than the ranks: edits also come from files that others wrote.
    """
    layer = find_kernel(module, edit.layer)
    for rank, channels, end in (
        (edit.input_rank, layer.in_channels, "input"),
        (edit.output_rank, layer.out_channels, "output"),
    ):
        if rank > channels:
            raise InvalidModel(f"{end} rank {rank} of layer {edit.layer!r} is above its {channels} {end} channels")
    row = (
        along(layer, layer.in_channels, edit.input_rank),
        along(layer, edit.input_rank, edit.output_rank, 0, 1),
        along(layer, edit.output_rank, layer.out_channels, bias=layer.bias is not None),
    )
    insert(module, edit.layer, row, batch_norm=edit.batch_norm)
