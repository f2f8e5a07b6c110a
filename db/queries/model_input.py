"""A model as a worker needs it: its bytes' name, and what its owner said of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

from db.models import Model
from modelpress.spec.architecture import ArchitectureRef
from modelpress.spec.network import Preprocessing


@dataclass(frozen=True)
class ModelInput:
    """What is laid into a work folder for a model."""

    sha256: str
    format: Literal["safetensors", "pt"]
    architecture: ArchitectureRef
    image_size: int | None  # height and width, where not the architecture's default
    preprocessing: Preprocessing | None

    @classmethod
    def of(cls, row: Model) -> ModelInput:
        """Taken from the row of an upload."""
        return cls(
            sha256=row.sha256,
            format=cast(Literal["safetensors", "pt"], row.format),
            architecture=row.architecture,
            image_size=row.image_size,
            preprocessing=row.preprocessing,
        )
