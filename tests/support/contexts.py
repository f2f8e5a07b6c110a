"""What a step is given, for tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from modelpress.engine.data.dataset import ImageData
from modelpress.engine.journal import TrainingProgress
from modelpress.engine.network import Network
from modelpress.engine.step import StepContext


def context(
    original: Network,
    data: ImageData | None = None,
    *,
    seed: int = 0,
    on_progress: Callable[[TrainingProgress], None] | None = None,
    students: Mapping[str, Network] | None = None,
) -> StepContext:
    """A context on the CPU."""
    return StepContext(original, data, seed, torch.device("cpu"), on_progress, students or {})
