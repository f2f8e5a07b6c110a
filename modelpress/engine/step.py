"""What a step is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch

from modelpress.engine.checkpoints.step import NO_CHECKPOINTS, StepCheckpoints
from modelpress.engine.data.dataset import ImageData
from modelpress.engine.distill.cache import KeptAnswers
from modelpress.engine.journal import TrainingProgress
from modelpress.engine.network import Network
from modelpress.engine.ranks.leader import ALONE, Ranks
from modelpress.spec.report import LayerChange, SkippedLayer, TrainingSummary


@dataclass(frozen=True)
class StepContext:
    """What a step may use beside the network it treats."""

    original: Network  # the uploaded model: the teacher; never altered
    data: ImageData | None
    seed: int
    device: torch.device
    on_progress: Callable[[TrainingProgress], None] | None = None
    students: Mapping[str, Network] = field(default_factory=dict)  # uploaded ones by id; never altered
    ranks: Ranks = ALONE  # who shares its trainings
    checkpoints: StepCheckpoints = NO_CHECKPOINTS
    accumulation: int = 1  # parts that each batch of its training is computed in
    answers: KeptAnswers = field(default_factory=KeptAnswers)  # of the original as a teacher, for all steps


@dataclass(frozen=True)
class StepResult:
    """What a step made; the network that went in is as it was."""

    network: Network  # in evaluation mode, on the CPU
    layers: tuple[LayerChange, ...] = ()
    skipped: tuple[SkippedLayer, ...] = ()
    training: TrainingSummary | None = None
