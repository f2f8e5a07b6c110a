"""How much each channel of a group matters."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from modelpress.engine.prune_channels.groups import Group
from modelpress.engine.prune_channels.narrow import NORMS


def importance(module: nn.Module, group: Group, criterion: str, generator: torch.Generator) -> Tensor | None:
    """Importance of each channel of a group, float64 (channels,); None when the criterion finds nothing to look at.

    `l1` and `l2`: the norm of the weights that make the channel (Li et al. 2017, arXiv 1608.08710), the mean over the
    layers that make it. `bn_scale`: |gamma| (Liu et al. 2017, arXiv 1708.06519), the mean over its batch norms.
    `random`: uniform on 0..1.
    """
    if criterion == "random":
        return torch.rand(group.channels, generator=generator, dtype=torch.float64)
    total = torch.zeros(group.channels, dtype=torch.float64)
    layers = 0
    for name in group.makers:
        layer = module.get_submodule(name)
        if isinstance(layer, NORMS) != (criterion == "bn_scale") or layer.weight is None:
            continue
        channels, indices = (torch.tensor(side) for side in zip(*group.outputs(name), strict=True))
        weight = layer.get_parameter("weight").detach().double().flatten(1 if criterion != "bn_scale" else 0)
        scores = weight.abs() if criterion == "bn_scale" else weight.norm(p=int(criterion[1]), dim=1)
        total.index_add_(0, channels, scores[indices])
        layers += 1
    return total / layers if layers else None
