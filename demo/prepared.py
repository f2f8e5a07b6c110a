"""What a demo compresses: a trained model and its data as files, and the held-out images to check results with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from modelpress.spec.architecture import ArchitectureRef
from modelpress.spec.network import Preprocessing


@dataclass(frozen=True)
class Prepared:
    """One demo's input."""

    title: str
    architecture: ArchitectureRef
    model: Path
    dataset: Path
    preprocessing: Preprocessing
    heldout_images: Tensor  # uint8 (N, C, H, W)
    heldout_labels: Tensor  # int64 (N,)
    train_examples: int
