"""A model as a worker needs it: its bytes' name, and what its owner said of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from db.models import Model
from modelpress.spec.architecture import ArchitectureRef
from modelpress.spec.identity import GivenModel
from modelpress.spec.inspection import ModelFormat
from modelpress.spec.network import Preprocessing
from modelpress.spec.report import Ancestor


@dataclass(frozen=True)
class ModelInput:
    """What is laid into a work folder for a model."""

    sha256: str
    format: ModelFormat
    architecture: ArchitectureRef | None  # None where the file says it itself
    image_size: int | None  # height and width, where not the architecture's default
    preprocessing: Preprocessing | None
    lineage: tuple[Ancestor, ...] = ()  # asked for where a job takes the model

    @property
    def given(self) -> GivenModel:
        """All that decides what is made of it."""
        return GivenModel(
            format=self.format,
            architecture=self.architecture,
            image_size=self.image_size,
            preprocessing=self.preprocessing,
            sha256=self.sha256,
        )

    @classmethod
    def of(cls, row: Model, lineage: tuple[Ancestor, ...] = ()) -> ModelInput:
        """Taken from the row of an upload."""
        return cls(
            sha256=row.sha256,
            format=cast(ModelFormat, row.format),
            architecture=row.architecture,
            image_size=row.image_size,
            preprocessing=row.preprocessing,
            lineage=lineage,
        )
