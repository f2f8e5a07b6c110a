"""Training the network that the demo then compresses, by the engine's own loop."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file

from modelpress.engine.architectures.registry import build
from modelpress.engine.data.dataset import ImageData
from modelpress.engine.distill.hinton import LabelLoss
from modelpress.engine.journal import TrainingProgress
from modelpress.engine.training import train
from modelpress.spec.architecture import ArchitectureRef
from modelpress.spec.training import Training

TrainingReport = Callable[[TrainingProgress], None]


def train_original(
    architecture: ArchitectureRef, data: ImageData, training: Training, *, seed: int, path: Path, tell: TrainingReport
) -> None:
    """Train a network from nothing on `data` and write its weights to `path` (safetensors)."""
    torch.manual_seed(seed)
    module = build(architecture)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    train(module, data, data.statistics, training, loss=LabelLoss(), seed=seed, device=device, on_progress=tell)
    save_file({name: weight.cpu().contiguous() for name, weight in module.state_dict().items()}, path)
