"""How a job's work divides over its phases, estimated before it is done: what the time left is first taken from."""

from __future__ import annotations

import torch

from modelpress.engine.events import Phase
from modelpress.spec.cost import DEFAULT_RATES, training_macs
from modelpress.spec.job import Recipe
from modelpress.spec.steps import Distill

_PROCESS_SECONDS = 5.0  # a fresh process that loads torch and ONNX Runtime
_EXPORT_SECONDS = 5.0  # an ONNX export
_STEP_SECONDS = 0.5

# A step of which only the kind is known.
_UNKNOWN_SECONDS = 60.0


def first_phases(recipe: Recipe) -> list[Phase]:
    """Phases of a job of which only the recipe is known."""
    return [
        Phase("loading", 2.0),
        Phase("baseline", _PROCESS_SECONDS),
        *(Phase("step", _UNKNOWN_SECONDS, index, step.kind) for index, step in enumerate(recipe.steps)),
        Phase("artifacts", _EXPORT_SECONDS),
        Phase("verification", _PROCESS_SECONDS),
    ]


def plan_phases(
    recipe: Recipe, macs: int, train_examples: int, heldout_examples: int, device: torch.device, *, reused: int = 0
) -> list[Phase]:
    """Phases after loading, with their seconds on a nominal machine.

    A student counts as half of the original; later steps then work on that. The first `reused` steps, which
    another job has done, take no time.
    """
    # Enough to tell a training from the start of a process.
    rate = DEFAULT_RATES["cuda"] if device.type == "cuda" else DEFAULT_RATES["cpu"] * torch.get_num_threads()
    current = float(macs)
    phases = [Phase("baseline", _PROCESS_SECONDS + _EXPORT_SECONDS + heldout_examples * macs / rate)]
    for index, step in enumerate(recipe.steps):
        if isinstance(step, Distill) and step.replaces_network:
            current = macs / 2
        seconds = _STEP_SECONDS + heldout_examples * current / rate
        seconds += training_macs(step, train_examples, current, macs) / rate
        phases.append(Phase("step", 0.0 if index < reused else seconds, index, step.kind))
    phases.append(Phase("artifacts", _EXPORT_SECONDS))
    phases.append(Phase("verification", _PROCESS_SECONDS + 2.0 + heldout_examples * current / rate))
    return phases
