"""How thin the convolutions become that take a kernel's place by Tucker-2 or CP."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from modelpress.engine.factorize.chain import cp_full_rank, cp_weights, tucker_weights
from modelpress.engine.factorize.cp import cp
from modelpress.engine.factorize.evbmf import evbmf_rank
from modelpress.engine.factorize.tucker import mode_values, tucker
from modelpress.spec.network import CpLayer, TuckerLayer
from modelpress.spec.report import SkippedLayer
from modelpress.spec.steps import AnyRank, RankEnergy, RankEvbmf, RankNumber, RankPerLayer, RankRatio


@dataclass(frozen=True)
class Chain:
    """What takes a convolution's place."""

    edit: TuckerLayer | CpLayer
    weights: tuple[Tensor, ...]  # kernels of its convolutions, in order
    rank: int  # what the report calls the layer's rank: of two, the larger


def find_chain(
    layer: nn.Conv2d, name: str, scheme: Literal["tucker2", "cp"], rank: AnyRank, seed: int
) -> Chain | SkippedLayer:
    """The chain of the rank asked for, or why the layer stays."""
    shape = layer.weight.shape
    if scheme == "cp":
        components = _share(rank, name, cp_full_rank(layer))
        if cp_weights(shape, components) >= layer.weight.numel():
            most = (layer.weight.numel() - 1) // sum(shape)
            return SkippedLayer(
                name=name, reason=_not_smaller(f"rank {components}", f"up to rank {most} they are" if most else None)
            )
        return Chain(CpLayer(layer=name, rank=components), cp(layer.weight, components, seed).weights(), components)
    inputs, outputs = tucker_ranks(rank, name, layer)
    if inputs == 0 or outputs == 0:
        return SkippedLayer(name=name, reason="none of its singular values is above the noise (EVBMF)")
    if tucker_weights(shape, inputs, outputs) >= layer.weight.numel():
        return SkippedLayer(name=name, reason=_not_smaller(f"ranks {inputs} and {outputs}", "lower ranks may be"))
    edit = TuckerLayer(layer=name, input_rank=inputs, output_rank=outputs)
    return Chain(edit, tucker(layer.weight, inputs, outputs).weights(), max(inputs, outputs))


def tucker_ranks(rank: AnyRank, name: str, layer: nn.Conv2d) -> tuple[int, int]:
    """Input and output rank that a spec gives a convolution; 0 where EVBMF finds nothing but noise."""
    if isinstance(rank, RankEvbmf):
        along_inputs, along_outputs = mode_values(layer.weight)
        shape = layer.weight.shape
        rest = layer.weight.numel()
        # Of each unfolding (channels x the rest), as Kim et al. do. An unfolding higher than wide has fewer values.
        sides = [(along_inputs, (shape[1], rest // shape[1])), (along_outputs, (shape[0], rest // shape[0]))]
        inputs, outputs = (evbmf_rank(values[: min(sizes)].float(), sizes) for values, sizes in sides)
        return inputs, outputs
    if isinstance(rank, RankEnergy):
        # The error of the truncated HOSVD is at most the sum of what both unfoldings discard: half to each.
        lost = (1 - rank.value) / 2
        inputs, outputs = (_kept(values, 1 - lost) for values in mode_values(layer.weight))
        return inputs, outputs
    return _share(rank, name, layer.in_channels), _share(rank, name, layer.out_channels)


def _share(rank: AnyRank, name: str, full: int) -> int:
    if isinstance(rank, RankNumber):
        return rank.value
    if isinstance(rank, RankPerLayer):
        return rank.values[name]
    if isinstance(rank, RankRatio):
        return max(1, math.floor(rank.value * full + 1e-9))
    raise TypeError(f"a rank of kind {rank.kind} gives no share")  # The spec refuses it.


def _kept(values: Tensor, share: float) -> int:
    energy = values.square().cumsum(0)
    return int((energy >= share * energy[-1]).int().argmax()) + 1


def _not_smaller(what: str, smaller: str | None) -> str:
    if smaller is None:
        return "no chain of convolutions is smaller than the layer"
    return f"convolutions of {what} would not be smaller; {smaller}"
