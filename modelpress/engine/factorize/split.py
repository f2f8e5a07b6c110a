"""What every scheme makes of a layer: the ranks, the edit and the weights of the thinner layers in its place."""

from __future__ import annotations

import bisect
from typing import Protocol

from torch import Tensor, nn

from modelpress.spec.network import CpLayer, FactorizedLayer, TuckerLayer
from modelpress.spec.steps import AnyRank

Ranks = tuple[int, ...]  # One number, or two where a scheme has an input and an output rank.
SplitEdit = FactorizedLayer | TuckerLayer | CpLayer


class Split(Protocol):
    """A layer to be split by a scheme. What is costly is done when it is asked for, and no more of it than that."""

    def ranks(self, rank: AnyRank, name: str) -> Ranks:
        """The ranks that a spec gives the layer of this name; 0 where EVBMF finds nothing but noise."""

    def parameters(self, ranks: Ranks, *, batch_norm: bool) -> int:
        """Weights of the thinner layers, and scales and shifts of the norms between them; biases stay what they are."""

    def edit(self, name: str, ranks: Ranks, *, batch_norm: bool) -> SplitEdit:
        """What changes in the structure; `modelpress.engine.network.EDITS` says how."""

    def weights(self, ranks: Ranks) -> tuple[Tensor, ...]:
        """Weights of the thinner layers, in order."""


def whole_reason(split: Split, layer: nn.Module, ranks: Ranks, *, batch_norm: bool) -> str | None:
    """Why the layer stays whole at these ranks, in words; None when what takes its place is smaller."""
    if 0 in ranks:
        return "none of its singular values is above the noise (EVBMF)"
    whole = layer.get_parameter("weight").numel()
    if split.parameters(ranks, batch_norm=batch_norm) < whole:
        return None
    if len(ranks) > 1:
        return f"thinner layers of ranks {' and '.join(map(str, ranks))} would not be smaller; lower ranks may be"
    most = bisect.bisect_left(
        range(1, ranks[0]), whole, key=lambda rank: split.parameters((rank,), batch_norm=batch_norm)
    )
    if most == 0:
        return "no thinner layers are smaller"
    return f"thinner layers of rank {ranks[0]} would not be smaller; up to rank {most} they are"
