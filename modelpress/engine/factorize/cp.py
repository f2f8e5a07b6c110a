"""A convolution as a 1 x 1, two depthwise and a 1 x 1 one (CP: Lebedev et al. 2015, arXiv 1412.6553, section 3).

A kernel W (N, C, kh, kw) is approximated by a sum of R outer products of vectors, W~[n, c, y, x] =
sum over r of A[n, r] B[c, r] V[y, r] H[x, r]: R mixtures of the inputs, each filtered vertically, then horizontally,
then mixed into the outputs. With 8 channels in and out and a 3x3 kernel of 576 weights, rank 10 has
10 * (8 + 8 + 3 + 3) = 220. There is no closed form: the factors are found by alternating least squares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from modelpress.engine.factorize.chain import along, find_kernel, insert
from modelpress.engine.factorize.rank import choose_rank
from modelpress.engine.factorize.split import Ranks
from modelpress.spec.check.split import full_rank
from modelpress.spec.failure import InvalidModel
from modelpress.spec.network import CpLayer
from modelpress.spec.steps import AnyRank

SWEEPS = 100
LEAST_GAIN = 1e-5  # Of the relative error, in a sweep: below it the factors are taken as found.
DAMPING = 1e-9  # Of a Gram matrix's mean diagonal: components that become alike would make it singular.
AXES = "ncyx"


@dataclass(frozen=True)
class Cp:
    """Factors of a kernel, a column for each component; the columns of a component all have the same norm."""

    factors: tuple[Tensor, Tensor, Tensor, Tensor]  # (N, R), (C, R), (kh, R), (kw, R)
    relative_error: float  # norm of what is missing over the kernel's norm

    def kernel(self) -> Tensor:
        """The kernel (N, C, kh, kw) that the four layers make together."""
        return torch.einsum("nr,cr,yr,xr->ncyx", *self.factors)

    def weights(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Kernels of the four convolutions: (R, C, 1, 1), (R, 1, kh, 1), (R, 1, 1, kw), (N, R, 1, 1)."""
        outputs, inputs, vertical, horizontal = self.factors
        return (
            inputs.T[:, :, None, None],
            vertical.T[:, None, :, None],
            horizontal.T[:, None, None, :],
            outputs[:, :, None, None],
        )


def cp(kernel: Tensor, rank: int, seed: int) -> Cp:
    """CP of a kernel (N, C, kh, kw) by alternating least squares, in float64, from factors drawn by the seed."""
    kernel = kernel.detach().double().cpu()
    norm = float(kernel.norm())
    generator = torch.Generator().manual_seed(seed)
    factors = [torch.randn(size, rank, generator=generator, dtype=torch.float64) for size in kernel.shape]
    if norm == 0:
        return Cp(_tuple([torch.zeros_like(factor) for factor in factors]), 0.0)
    grams = [factor.T @ factor for factor in factors]
    error = 1.0
    for _ in range(SWEEPS):
        for axis in range(4):
            gram = torch.ones(rank, rank, dtype=torch.float64)
            for other in range(4):
                if other != axis:
                    gram = gram * grams[other]
            right = _projected(kernel, factors, axis)
            gram.diagonal().add_(DAMPING * gram.diagonal().mean())
            factors[axis] = torch.linalg.solve(gram, right.T).T
            if axis < 3:  # Lengths go to the last factor, so that none overflows.
                factors[axis] = factors[axis] / factors[axis].norm(dim=0).clamp(min=1e-30)
            grams[axis] = factors[axis].T @ factors[axis]
        # |W - W~|^2 = |W|^2 - 2 <W, W~> + |W~|^2, of what the last solution has at hand.
        product = float((right * factors[3]).sum())
        made = float((grams[0] * grams[1] * grams[2] * grams[3]).sum())
        before, error = error, max(norm**2 - 2 * product + made, 0.0) ** 0.5 / norm
        if before - error < LEAST_GAIN:
            break
    shares = [factor.norm(dim=0).clamp(min=1e-30) for factor in factors]
    common = torch.stack(shares).log().mean(dim=0).exp()
    balanced = _tuple([factor * (common / share) for factor, share in zip(factors, shares, strict=True)])
    missing = float((kernel - torch.einsum("nr,cr,yr,xr->ncyx", *balanced)).norm())
    return Cp(balanced, missing / norm)


def _projected(kernel: Tensor, factors: list[Tensor], axis: int) -> Tensor:
    """The kernel times the factors of all other axes, component by component: (size of the axis, R)."""
    # The largest axes first: each contraction leaves less for the next, and one matrix product takes the first.
    others = sorted((other for other in range(4) if other != axis), key=lambda other: -kernel.shape[other])
    left, indices = kernel, AXES
    for other in others:
        name = AXES[other]
        rest = indices.replace(name, "").replace("r", "") + "r"
        left, indices = torch.einsum(f"{indices},{name}r->{rest}", left, factors[other]), rest
    return left


def _tuple(factors: list[Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    outputs, inputs, vertical, horizontal = factors
    return outputs, inputs, vertical, horizontal


class CpSplit:
    """A convolution by CP, from factors that the seed draws."""

    def __init__(self, layer: nn.Module, seed: int) -> None:
        self._kernel, self._seed = layer.get_parameter("weight").detach(), seed

    def ranks(self, rank: AnyRank, name: str) -> Ranks:
        chosen = choose_rank(rank, name, full_rank(self._kernel.shape, 1, "cp"))
        if chosen is None:
            raise TypeError(f"a rank of kind {rank.kind} is not defined for CP")  # The spec refuses it.
        return (chosen,)

    def parameters(self, ranks: Ranks, *, batch_norm: bool) -> int:
        return cp_weights(self._kernel.shape, ranks[0]) + (3 * 2 * ranks[0] if batch_norm else 0)

    def edit(self, name: str, ranks: Ranks, *, batch_norm: bool) -> CpLayer:
        return CpLayer(layer=name, rank=ranks[0], batch_norm=batch_norm)

    def weights(self, ranks: Ranks) -> tuple[Tensor, ...]:
        return cp(self._kernel, ranks[0], self._seed).weights()


def cp_weights(shape: Sequence[int], rank: int) -> int:
    """Weights of the four convolutions in place of a kernel of this shape."""
    return rank * sum(shape)


def insert_cp(module: nn.Module, edit: CpLayer) -> None:
    """Replace the convolution `edit.layer` by a 1 x 1, a k x 1 and a 1 x k depthwise and a 1 x 1 one, in place.

    They are named `<layer>.0` to `<layer>.3`; the bias belongs to the last. Raises InvalidModel when the layer is not
    there or is no such convolution, or when the rank is above one at which CP can be any kernel.
    """
    layer = find_kernel(module, edit.layer)
    most = full_rank(layer.weight.shape, 1, "cp")
    if edit.rank > most:
        raise InvalidModel(f"rank {edit.rank} of layer {edit.layer!r} is above its full rank {most}")
    row = (
        along(layer, layer.in_channels, edit.rank),
        along(layer, edit.rank, edit.rank, 0, groups=edit.rank),
        along(layer, edit.rank, edit.rank, 1, groups=edit.rank),
        along(layer, edit.rank, layer.out_channels, bias=layer.bias is not None),
    )
    insert(module, edit.layer, row, batch_norm=edit.batch_norm)
