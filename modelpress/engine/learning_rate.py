"""The learning rate over the steps of a training."""

from __future__ import annotations

import math

from modelpress.spec.training import Training


def learning_rate(training: Training, step: int, steps: int) -> float:
    """The learning rate of step `step` (from 0) of `steps`.

    It never is zero, neither at the first step nor at the last one: both shall move the weights.
    """
    peak = training.learning_rate
    if training.warm_up > 0:
        peak *= min(1.0, (step + 1) / max(1, round(training.warm_up * steps)))
    if training.schedule == "constant":
        return peak
    if training.schedule == "cosine":
        return peak * (1 + math.cos(math.pi * step / steps)) / 2
    if training.schedule == "step":
        passed = sum(step >= round(milestone * steps) for milestone in training.milestones)
        return float(peak * training.step_factor**passed)
    rising = max(1, round(steps / 10))
    if step < rising:
        return peak * (step + 1) / rising
    return peak * (steps - step) / (steps - rising + 1)
