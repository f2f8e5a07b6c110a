"""Attention transfer: where in the image the layers are active (Zagoruyko and Komodakis 2017, arXiv 1612.03928)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modelpress.engine.distill.features import FeatureLoss
from modelpress.engine.distill.hinton import HintonLoss
from modelpress.spec.check.misfit import listed
from modelpress.spec.failure import IncompatibleSpec
from modelpress.spec.steps.distillation_loss import LayerPair


class AttentionLoss(FeatureLoss):
    """Hinton's loss, plus `weight` times the squared difference of attention maps, summed over the pairs of layers.

    The mean over images and pixels takes the place of the paper's norm (equation 2), as in the authors' code. `taught`
    and `learnt` hold the layers' outputs (B, C, H, W) of the latest forward pass by name.
    """

    def __init__(
        self,
        hinton: HintonLoss,
        taught: Mapping[str, Tensor],
        learnt: Mapping[str, Tensor],
        *,
        layers: Sequence[LayerPair],
        weight: float,
    ) -> None:
        super().__init__(hinton, taught, learnt)
        self._layers = layers
        self._weight = weight

    def __call__(self, outputs: Tensor, labels: Tensor, images: Tensor) -> Tensor:
        """Mean loss of `outputs` (B, K). Raises IncompatibleSpec when the maps of a pair differ in size."""
        value = self._hinton(outputs, labels, images)
        for pair in self._layers:
            taught, learnt = self._taught[pair.teacher], self._learnt[pair.student]
            if taught.shape[2:] != learnt.shape[2:]:
                raise IncompatibleSpec(
                    f"`loss.layers`: {pair.teacher!r} of the original gives maps of {_size(taught)} pixels, "
                    f"{pair.student!r} of the student {_size(learnt)}; pair layers at the same depth"
                )
            value = value + self._weight * F.mse_loss(attention_map(learnt), attention_map(taught))
        return value


def attention_map(activation: Tensor) -> Tensor:
    """Mean over the channels of the squared activation (B, C, H, W), scaled to norm 1: (B, H W), float32."""
    return F.normalize(activation.float().square().mean(1).flatten(1), dim=1)


def require_convolutions(module: nn.Module, names: Sequence[str], whose: str) -> None:
    """Raise IncompatibleSpec for a name that is not one of the network's convolutions, which are the ones with maps."""
    known = [name for name, layer in module.named_modules() if isinstance(layer, nn.Conv2d)]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise IncompatibleSpec(
            f"`loss.layers`: {whose} has no convolution {listed(unknown)}; its convolutions are {listed(known)}"
        )


def _size(activation: Tensor) -> str:
    return " x ".join(map(str, torch.Size(activation.shape[2:])))
