"""Decoupled distillation: the label's class and the other classes apart (Zhao et al. 2022, arXiv 2203.08679)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modelpress.engine.data.labelled import UNLABELLED
from modelpress.engine.data.mixed_labels import leading_labels
from modelpress.engine.distill.cache import Asking, TaughtLoss
from modelpress.engine.distill.hinton import label_loss


class DecoupledLoss(TaughtLoss):
    """T^2 (alpha TCKD + beta NCKD) + label_weight cross-entropy, means over the batch (equation 7).

    Hinton's divergence is TCKD + (1 - p_t) NCKD (equation 6): a teacher that is sure, p_t near 1, hides what it knows
    of the other classes. T^2 keeps the gradients' size when the temperature changes, as in the authors' code.
    """

    def __init__(
        self,
        teacher: nn.Module,
        *,
        temperature: float,
        alpha: float,
        beta: float,
        label_weight: float,
        label_smoothing: float = 0.0,
        asking: Asking | None = None,
    ) -> None:
        super().__init__(teacher, asking)
        self._temperature = temperature
        self._alpha = alpha
        self._beta = beta
        self._label_weight = label_weight
        self._label_smoothing = label_smoothing

    def __call__(self, outputs: Tensor, labels: Tensor, images: Tensor) -> Tensor:
        """Mean loss of `outputs` (B, K).

        An image without a label has the teacher's largest output for its class, a mixed one its larger part's class.
        """
        taught = self._teacher(images)
        leading = leading_labels(labels)
        classes = torch.where(leading == UNLABELLED, taught.argmax(1), leading)
        target, others = decoupled_divergences(outputs / self._temperature, taught / self._temperature, classes)
        divergence = self._temperature**2 * (self._alpha * target + self._beta * others).mean()
        hard = label_loss(outputs, labels, self._label_smoothing, self.labelled)
        return divergence + self._label_weight * hard


def decoupled_divergences(student: Tensor, teacher: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """TCKD and NCKD of each image (B,), in nats, from softened logits (B, K) of two classes at least.

    TCKD = KL(b of the teacher || b of the student) with b = (p_t, 1 - p_t), p_t the probability of the label's class;
    NCKD the same of the other classes' probabilities, scaled to sum 1 among themselves (equations 4 to 6).
    """
    of_label = F.one_hot(labels, student.shape[1]).bool()
    divergences = [
        F.kl_div(of_student, of_teacher, reduction="none", log_target=True).sum(1)
        for of_student, of_teacher in zip(_split(student, of_label), _split(teacher, of_label), strict=True)
    ]
    return divergences[0], divergences[1]


def _split(logits: Tensor, of_label: Tensor) -> tuple[Tensor, Tensor]:
    """Logarithms of (p_t, 1 - p_t), (B, 2), and of the others among themselves, (B, K) with 0 at the label."""
    logarithms = F.log_softmax(logits, dim=1)
    others = logits.masked_fill(of_label, float("-inf"))
    # log(1 - p_t) as a sum over the others: 1 - p_t itself would be 0 in float32 where the network is sure.
    rest = others.logsumexp(1) - logits.logsumexp(1)
    binary = torch.stack([logarithms[of_label], rest], dim=1)
    return binary, F.log_softmax(others, dim=1).masked_fill(of_label, 0.0)
