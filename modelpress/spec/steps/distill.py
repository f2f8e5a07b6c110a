"""The step `distill`: which student, and what it learns from."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from modelpress.spec.architecture import ArchitectureRef
from modelpress.spec.config import Config
from modelpress.spec.training import Training


class Distill(Config):
    """Train another, smaller network to give the original's outputs (Hinton et al. 2015).

    Loss: alpha T^2 KL(teacher || student), both softened by the temperature T, plus (1 - alpha) cross-entropy.
    """

    kind: Literal["distill"] = "distill"
    student: ArchitectureRef = Field(
        description="The network to train. `num_classes` and `in_channels` are the original's unless given."
    )
    temperature: float = Field(default=4.0, gt=0, le=100, description="Softening T of both outputs.")
    alpha: float = Field(default=0.9, ge=0, le=1, description="Weight of the teacher's outputs against the labels.")
    training: Training = Field(description="The student's training.")
