"""How much each channel of a group matters."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from modelpress.engine.network import Network
from modelpress.engine.prune.gradients import Gradients
from modelpress.engine.prune_channels.groups import Group
from modelpress.engine.prune_channels.narrow import NORMS
from modelpress.engine.recovery import preprocessing_of
from modelpress.engine.step import StepContext
from modelpress.spec.failure import IncompatibleSpec
from modelpress.spec.steps import PruneChannels


class Importance:
    """Importance of the channels of a network as it is now, by a step's criterion.

    A channel's importance is the mean over the layers that make it. Of one layer, with w the weights that make it:

    `l1`, `l2`: the norm of w (Li et al. 2017, arXiv 1608.08710). `bn_scale`: |gamma|, over its batch norms (Liu et al.
    2017, arXiv 1708.06519). `geometric_median`: the sum of the Euclidean distances from w to the weights of the
    layer's other channels, so that what others can stand in for goes first (He et al. 2019, arXiv 1811.00250,
    equation 6). `taylor`: (sum of g w)^2 with g the loss's gradient, what the loss changes by without the channel, to
    first order and squared (Molchanov et al. 2019, arXiv 1906.10771). `hessian`: the sum of h w^2 / 2, the second order
    of the same with the diagonal of the Hessian for the whole of it (LeCun et al. 1989, Optimal Brain Damage), where h
    is the mean over images of the squared gradient, the empirical Fisher information (Theis et al. 2018, arXiv
    1801.05787), which is never negative. `random`: uniform on 0..1.
    """

    def __init__(self, network: Network, step: PruneChannels, context: StepContext, groups: list[Group]) -> None:
        self._module, self._criterion = network.module, step.criterion
        self._taken: Mapping[str, Tensor] = {}
        if step.takes_gradients and groups:
            gradients = _gradients(network, step, context)
            weights = {
                name: layer.get_parameter("weight")
                for group in groups
                for name in group.makers
                if _has_weight(layer := network.module.get_submodule(name)) and not isinstance(layer, NORMS)
            }
            network.module.to(context.device)
            taken = gradients.of(weights) if step.criterion == "taylor" else gradients.squares_of(weights)
            self._taken = {name: tensor.cpu() for name, tensor in taken.items()}
            network.module.to(torch.device("cpu"))

    def of(self, group: Group, generator: torch.Generator) -> Tensor | None:
        """Importance of each channel, float64 (channels,); None when the criterion finds nothing to look at."""
        if self._criterion == "random":
            return torch.rand(group.channels, generator=generator, dtype=torch.float64)
        total = torch.zeros(group.channels, dtype=torch.float64)
        layers = 0
        for name in group.makers:
            layer = self._module.get_submodule(name)
            if isinstance(layer, NORMS) != (self._criterion == "bn_scale") or not _has_weight(layer):
                continue
            channels, indices = (torch.tensor(side) for side in zip(*group.outputs(name), strict=True))
            weight = layer.get_parameter("weight").detach()
            total.index_add_(0, channels, self._scores(name, weight)[indices])
            layers += 1
        return total / layers if layers else None

    def _scores(self, name: str, weight: Tensor) -> Tensor:
        """Of each channel that a layer makes by `weight` (channels, ...), float64 (channels,)."""
        rows = weight.flatten(1) if weight.ndim > 1 else weight[:, None]
        match self._criterion:
            case "geometric_median":
                return torch.cdist(rows.double(), rows.double()).sum(1)
            case "taylor":
                return (rows * self._taken[name].flatten(1)).sum(1, dtype=torch.float64).square()
            case "hessian":
                return (rows.square() * self._taken[name].flatten(1)).sum(1, dtype=torch.float64) / 2
        order = 2 if self._criterion == "l2" else 1
        norms: Tensor = rows.norm(p=order, dim=1)
        return norms.double()


def _has_weight(layer: nn.Module) -> bool:
    return getattr(layer, "weight", None) is not None


def _gradients(network: Network, step: PruneChannels, context: StepContext) -> Gradients:
    if context.data is None:
        raise IncompatibleSpec(
            f"the criterion `{step.criterion}` takes gradients, which needs a data set; give `dataset`, or use `l2`"
        )
    return Gradients(
        network.module,
        context.data,
        preprocessing_of(network, context),
        count=step.calibration_images,
        seed=context.seed,
        otherwise="l2",
    )
