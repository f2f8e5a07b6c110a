"""Regression of the teacher's logits (Ba and Caruana 2014, arXiv 1312.6184)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from modelpress.engine.distill.cache import Asking, TaughtLoss
from modelpress.engine.distill.hinton import label_loss


class LogitLoss(TaughtLoss):
    """Mean over images and classes of (student - teacher)^2, plus label_weight cross-entropy.

    The paper's equation 1 halves it and sums over the classes, which is this with another learning rate.
    """

    def __init__(
        self, teacher: nn.Module, *, label_weight: float, label_smoothing: float = 0.0, asking: Asking | None = None
    ) -> None:
        super().__init__(teacher, asking)
        self._label_weight = label_weight
        self._label_smoothing = label_smoothing

    def __call__(self, outputs: Tensor, labels: Tensor, images: Tensor) -> Tensor:
        """Mean loss of `outputs` (B, K)."""
        squared = F.mse_loss(outputs, self._teacher(images))
        if self._label_weight == 0:
            return squared
        return squared + self._label_weight * label_loss(outputs, labels, self._label_smoothing, self.labelled)
