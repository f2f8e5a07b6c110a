"""Hints: the student's feature maps, through learned regressors, near the teacher's (Romero et al. 2015)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modelpress.engine.distill.features import FeatureLoss
from modelpress.engine.distill.hinton import HintonLoss
from modelpress.spec.steps.distillation_loss import LayerPair


class HintLoss(FeatureLoss):
    """Hinton's loss, plus `weight` times the mean squared difference of feature maps, averaged over the pairs.

    Where the numbers of channels differ, a 1x1 convolution from the student's to the teacher's is learned along
    (FitNets, arXiv 1412.6550, equation 3, in one training in place of two stages); where the sizes do, the larger map
    is averaged down. `taught` and `learnt` hold the layers' outputs (B, C, H, W) of the latest pass by name.
    """

    def __init__(
        self,
        hinton: HintonLoss,
        taught: Mapping[str, Tensor],
        learnt: Mapping[str, Tensor],
        *,
        layers: Sequence[LayerPair],
        channels: Sequence[tuple[int, int]],  # of student and teacher, pair by pair
        weight: float,
        device: torch.device,
    ) -> None:
        super().__init__(hinton, taught, learnt)
        self._layers, self._weight = layers, weight
        self.regressors = nn.ModuleList(
            nn.Identity() if own == other else nn.Conv2d(own, other, 1) for own, other in channels
        ).to(device)

    def parameters(self) -> Iterator[nn.Parameter]:
        """What is trained along with the student, and is no part of it."""
        return self.regressors.parameters()

    def __call__(self, outputs: Tensor, labels: Tensor, images: Tensor) -> Tensor:
        """Mean loss of `outputs` (B, K)."""
        value = self._hinton(outputs, labels, images)
        for pair, regressor in zip(self._layers, self.regressors, strict=True):
            taught, learnt = self._taught[pair.teacher].float(), self._learnt[pair.student].float()
            size = min(taught.shape[2], learnt.shape[2]), min(taught.shape[3], learnt.shape[3])
            taught, learnt = F.adaptive_avg_pool2d(taught, size), F.adaptive_avg_pool2d(learnt, size)
            value = value + self._weight / len(self._layers) * F.mse_loss(regressor(learnt).float(), taught)
        return value
