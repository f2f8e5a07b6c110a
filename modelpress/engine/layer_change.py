"""What a step did to one layer, in numbers."""

from __future__ import annotations

from torch import nn

from modelpress.spec.report import LayerChange


def layer_change(
    name: str, before: nn.Module, after: nn.Module, rank: int | None = None, bits: int | None = None
) -> LayerChange:
    """Compare a layer with what took its place; parameters include the bias."""
    return LayerChange(
        name=name,
        parameters_before=sum(parameter.numel() for parameter in before.parameters()),
        parameters_after=sum(parameter.numel() for parameter in after.parameters()),
        nonzero_after=sum(int(parameter.count_nonzero()) for parameter in after.parameters()),
        rank=rank,
        bits=bits,
    )
