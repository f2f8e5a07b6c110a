"""Losses of a training: the labels alone, or a teacher's softened outputs too (Hinton et al. 2015)."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modelpress.engine.arithmetic import Arithmetic, lay_out
from modelpress.engine.data.labelled import UNLABELLED
from modelpress.engine.data.mixed_labels import labelled_share
from modelpress.engine.distill.cache import Asking, TaughtLoss
from modelpress.engine.loss import Loss, Origin


class LabelLoss(Loss):
    """Cross-entropy with the labels."""

    def __init__(self, label_smoothing: float = 0.0) -> None:
        self._label_smoothing = label_smoothing

    def __call__(self, outputs: Tensor, labels: Tensor, images: Tensor) -> Tensor:  # noqa: ARG002 - the shape of a loss
        """Mean cross-entropy of `outputs` (B, K)."""
        return label_loss(outputs, labels, self._label_smoothing, self.labelled)


class HintonLoss(TaughtLoss):
    """alpha T^2 KL(softmax(teacher / T) || softmax(student / T)) + (1 - alpha) cross-entropy with the labels.

    Gradients of the softened term shrink as 1 / T^2, so the factor T^2 keeps the balance of the two terms where it
    was when the temperature changes (Hinton et al. 2015, section 2).
    """

    def __init__(
        self,
        teacher: nn.Module,
        *,
        temperature: float,
        alpha: float,
        label_smoothing: float = 0.0,
        asking: Asking | None = None,
        is_watched: bool = False,
    ) -> None:
        """`is_watched` where somebody looks inside the teacher while it answers: it is asked whatever `alpha` is."""
        super().__init__(teacher, asking)
        self._temperature = temperature
        self._alpha = alpha
        self._label_smoothing = label_smoothing
        self._is_asked = alpha > 0 or is_watched

    def prepare(self, everything: Origin, arithmetic: Arithmetic) -> Iterator[float]:
        """Nothing where the teacher has no say."""
        return super().prepare(everything, arithmetic) if self._is_asked else iter(())

    def __call__(self, outputs: Tensor, labels: Tensor, images: Tensor) -> Tensor:
        """Mean loss of `outputs` (B, K); the teacher sees the same `images` or their plain form, under one autocast."""
        hard = label_loss(outputs, labels, self._label_smoothing, self.labelled)
        if not self._is_asked:
            return hard  # the teacher has no say, and a pass of it may cost more than all of the student's
        softened = softened_divergence(outputs, self._teacher(images), self._temperature)
        return self._alpha * softened + (1 - self._alpha) * hard


def label_loss(outputs: Tensor, labels: Tensor, label_smoothing: float = 0.0, labelled: Tensor | None = None) -> Tensor:
    """Mean cross-entropy of logits (B, K) over the images of the batch that have a label; zero when none has.

    `labelled` takes the place of their number (`Loss.follow`).

    `labels` (B,), UNLABELLED where there is none; or, where images are mixed, shares of the classes (B, K): a part
    without a label then counts for nothing, and is not counted in the mean either.
    """
    if labels.is_floating_point():
        spread = labels.sum(1, keepdim=True) / labels.shape[1]  # over all classes, of what is labelled of an image
        smoothed = torch.lerp(labels, spread.expand_as(labels), label_smoothing)
        total = F.cross_entropy(outputs, smoothed, reduction="sum")
    else:
        total = F.cross_entropy(
            outputs, labels, ignore_index=UNLABELLED, label_smoothing=label_smoothing, reduction="sum"
        )
    return total / (labelled_share(labels).clamp(min=1) if labelled is None else labelled)


def softened_divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 KL(softmax(teacher / T) || softmax(student / T)), mean over the batch; logits (B, K), in nats."""
    return temperature**2 * F.kl_div(
        F.log_softmax(student / temperature, dim=1),
        F.log_softmax(teacher / temperature, dim=1),
        reduction="batchmean",
        log_target=True,
    )


def frozen_teacher(original: nn.Module, device: torch.device) -> nn.Module:
    """A copy of the original to learn from: in evaluation mode, without gradients, laid out as training batches are."""
    teacher = copy.deepcopy(original).to(device).eval().requires_grad_(False)
    lay_out(teacher, torch.channels_last)
    return teacher
