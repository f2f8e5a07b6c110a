"""What the engine says while it works: a line of JSON each in the work folder.

`Event` is what a job's owner reads, a row in the database. The engine tells of its checkpoints as well, which is
between it and whoever started it; states are the service's to tell.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, TypeAdapter

from modelpress.spec.config import Resource
from modelpress.spec.report import Measurement

CheckpointPart = Literal["steps", "training"]
"""The files of a checkpoint: what completed steps made, and the training at work behind them."""

StageName = Literal["waiting", "loading", "baseline", "step", "artifacts", "verification", "done"]


class Progress(Resource):
    """Where a job stands. Sent at most about twice a second; only the newest matters."""

    kind: Literal["progress"] = "progress"
    stage: StageName = Field(description="Phase of the job at work.")
    step: int | None = Field(default=None, description="Index of the step at work, from 0; null outside steps.")
    steps: int = Field(description="Number of steps in the recipe.")
    step_kind: str | None = Field(default=None, description="Kind of the step at work; null outside steps.")
    fraction: float = Field(ge=0, le=1, description="Of the whole job.")
    eta_seconds: float | None = Field(default=None, ge=0, description="Estimated time left; null while unknown.")
    epoch: int | None = Field(default=None, description="Epoch at work, from 1.")
    epochs: int | None = Field(default=None, description="Epochs of the training at work.")
    metrics: dict[str, float] = Field(
        default_factory=dict,
        description="step, epoch, loss, accuracy (of the training batches), validation_accuracy (after the latest "
        "epoch), learning_rate, sparsity, images_per_second, seconds_left (of the training), as they apply; or "
        "teacher_answers (0..1), before the first step.",
    )


class StageDone(Resource):
    """A stage is done and was measured: the baseline, a step or the final file."""

    kind: Literal["stage_done"] = "stage_done"
    stage: Literal["baseline", "step", "final"] = Field(description="What was measured.")
    step: int | None = Field(default=None, description="Index of the step, from 0; null outside steps.")
    step_kind: str | None = Field(default=None, description="Kind of the step; null outside steps.")
    reused_from: str | None = Field(
        default=None, description="Id of the job whose result of this step was taken; null for a step that was done."
    )
    measurement: Measurement = Field(description="Its figures.")


class Warned(Resource):
    """Something the user should know that does not stop the job."""

    kind: Literal["warning"] = "warning"
    message: str = Field(description="What to know, and what to do about it.")


class StateChanged(Resource):
    """The job's state changed. Written by the service, never by the engine."""

    kind: Literal["state"] = "state"
    state: str = Field(description="The new state.")
    attempt: int = Field(description="Number of the attempt that it belongs to.")
    reason: str | None = Field(default=None, description="Why, where that is not plain.")


class Checkpointed(Resource):
    """A file of the checkpoint was written, in the place of the one before."""

    kind: Literal["checkpoint"] = "checkpoint"
    part: CheckpointPart = Field(description="Which one. Behind `steps`, what there was of `training` is over.")
    steps: int = Field(
        default=0,
        ge=0,
        description="Of `steps`: how many of the recipe's the file is the result of, each as it was asked for.",
    )
    sha256: str | None = Field(
        default=None,
        description="Of `steps`, where there are any: SHA-256 of that file, by which it is told from the next one "
        "that may have taken its place.",
    )


Event = Annotated[Progress | StageDone | Warned | StateChanged, Field(discriminator="kind")]
EVENT: TypeAdapter[Progress | StageDone | Warned | StateChanged] = TypeAdapter(
    Event, config=ConfigDict(ser_json_inf_nan="strings")
)

EngineEvent = Annotated[Progress | StageDone | Warned | Checkpointed, Field(discriminator="kind")]
ENGINE_EVENT: TypeAdapter[Progress | StageDone | Warned | Checkpointed] = TypeAdapter(
    EngineEvent, config=ConfigDict(ser_json_inf_nan="strings")
)
