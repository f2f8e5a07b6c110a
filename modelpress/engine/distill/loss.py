"""The loss that a step `distill` asks for."""

from __future__ import annotations

from torch import nn

from modelpress.engine.distill.decoupled import DecoupledLoss
from modelpress.engine.distill.hinton import HintonLoss
from modelpress.engine.distill.logits import LogitLoss
from modelpress.engine.training import Loss
from modelpress.spec.steps.distillation_loss import Decoupled, DistillationLoss, Hinton


def distillation_loss(wanted: DistillationLoss, teacher: nn.Module, *, label_smoothing: float) -> Loss:
    """The loss as the training loop calls it; `teacher` is frozen and on the training's device."""
    if isinstance(wanted, Hinton):
        return HintonLoss(teacher, temperature=wanted.temperature, alpha=wanted.alpha, label_smoothing=label_smoothing)
    if isinstance(wanted, Decoupled):
        return DecoupledLoss(
            teacher,
            temperature=wanted.temperature,
            alpha=wanted.alpha,
            beta=wanted.beta,
            label_weight=wanted.label_weight,
            label_smoothing=label_smoothing,
        )
    return LogitLoss(teacher, label_weight=wanted.label_weight, label_smoothing=label_smoothing)
