"""Why something failed: typed, with a sentence that says what to do.

CompressionError
+-- InvalidModel          the uploaded file is not a model that can be read
+-- InvalidDataset        the uploaded file is not a data set that can be read
+-- IncompatibleSpec      the recipe does not fit the model or the data
+-- OutOfMemory           memory of the machine or of the GPU ran out
+-- OutOfDisk             the work folder's disk is full
+-- Diverged              a loss became infinite or not a number
+-- GoalNotMet            the final model does not reach the goal
+-- VerificationFailed    a written file does not give the outputs it should
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from pydantic import Field

from modelpress.spec.config import Resource


class FailureKind(StrEnum):
    """The stable names of what can go wrong with a job or an upload."""

    INVALID_MODEL = "invalid_model"
    INVALID_DATASET = "invalid_dataset"
    INCOMPATIBLE_SPEC = "incompatible_spec"
    OUT_OF_MEMORY = "out_of_memory"
    OUT_OF_DISK = "out_of_disk"
    TIMEOUT = "timeout"
    WORKER_LOST = "worker_lost"
    DIVERGED = "diverged"
    GOAL_NOT_MET = "goal_not_met"
    VERIFICATION_FAILED = "verification_failed"
    INTERNAL = "internal"


class Failure(Resource):
    """What went wrong, and what to do about it."""

    kind: FailureKind
    message: str = Field(description="What is wrong, where, and what to do.")
    step: int | None = Field(default=None, description="Index of the recipe's step it happened in; null outside steps.")


class CompressionError(Exception):
    """The work cannot go on; carries a typed failure."""

    kind: ClassVar[FailureKind] = FailureKind.INTERNAL

    def __init__(self, message: str, *, step: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.step = step

    @property
    def failure(self) -> Failure:
        """The failure to record."""
        return Failure(kind=self.kind, message=self.message, step=self.step)


class InvalidModel(CompressionError):
    """The uploaded file is not a model that can be read."""

    kind = FailureKind.INVALID_MODEL


class InvalidDataset(CompressionError):
    """The uploaded file is not a data set that can be read."""

    kind = FailureKind.INVALID_DATASET


class IncompatibleSpec(CompressionError):
    """The recipe does not fit the model or the data."""

    kind = FailureKind.INCOMPATIBLE_SPEC


class OutOfMemory(CompressionError):
    """Memory of the machine or of the GPU ran out."""

    kind = FailureKind.OUT_OF_MEMORY


class OutOfDisk(CompressionError):
    """The work folder's disk is full."""

    kind = FailureKind.OUT_OF_DISK


class Diverged(CompressionError):
    """A loss became infinite or not a number."""

    kind = FailureKind.DIVERGED


class GoalNotMet(CompressionError):
    """The final model does not reach the goal."""

    kind = FailureKind.GOAL_NOT_MET


class VerificationFailed(CompressionError):
    """A written file does not give the outputs it should."""

    kind = FailureKind.VERIFICATION_FAILED
