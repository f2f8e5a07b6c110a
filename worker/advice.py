"""What to do about a job whose engine took more memory than it may: in which step, and which batch would fit."""

from __future__ import annotations

from modelpress.spec.cost import JobEstimate
from modelpress.spec.failure import Failure, FailureKind
from modelpress.spec.job import Recipe
from modelpress.spec.needs import Device
from modelpress.spec.steps import step_training


def advised(
    failure: Failure, recipe: Recipe, step: int | None, estimate: JobEstimate | None, limit_bytes: int, device: Device
) -> Failure:
    """The failure with the step that was at work and, where that trains, the batch size that would fit.

    For memory of the machine that ran out: what the engine says itself of its end stays as it is.
    """
    if failure.kind is not FailureKind.OUT_OF_MEMORY or step is None or not 0 <= step < len(recipe.steps):
        return failure
    of_step = recipe.steps[step]
    training = step_training(of_step)
    said = f"step {step} ({of_step.kind}) was at work"
    if training is not None and device == "cpu":  # on a GPU, a batch takes none of the machine's memory
        fitting = None if estimate is None else estimate.fitting_batch(step, limit_bytes, device)
        # Without an estimate, half is the next to try.
        fitting = training.batch_size // 2 if fitting is None else min(fitting, training.batch_size // 2)
        if fitting > 0:
            said += f"; lower its `training.batch_size` from {training.batch_size} to {fitting}"
        else:
            said += "; not even a batch of one image fits beside the network"
    return failure.model_copy(update={"step": step, "message": f"{failure.message}. {said[0].upper()}{said[1:]}"})
