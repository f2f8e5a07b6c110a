"""A job as it is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from pydantic import Field, field_validator, model_validator

from modelpress.spec.config import Config
from modelpress.spec.needs import Needs
from modelpress.spec.steps import Step


class ArtifactKind(StrEnum):
    """The files a job can make of its final model."""

    COMPACT = "compact"
    SAFETENSORS = "safetensors"
    PT2 = "pt2"
    ONNX = "onnx"
    ONNX_INT8 = "onnx_int8"
    OPENVINO = "openvino"
    EXECUTORCH = "executorch"


Runtime = Literal["onnxruntime", "pytorch", "torch_export", "openvino", "executorch"]
"""What runs a network; `pytorch` is PyTorch eagerly, module by module."""

RUNTIME_NAMES: dict[Runtime, str] = {
    "onnxruntime": "ONNX Runtime",
    "pytorch": "eager PyTorch",
    "torch_export": "PyTorch by the graph of a `.pt2` file",
    "openvino": "OpenVINO",
    "executorch": "ExecuTorch",
}


@dataclass(frozen=True)
class ArtifactFile:
    """What the engine, the worker and the API have to agree on about a kind of artifact."""

    filename: str
    content_type: str
    runtime: Runtime
    precision: Literal["fp32", "int8"] = "fp32"  # what it computes in; only fp32 gives the network's own outputs
    extra: str | None = None  # of the distribution, and the package that it installs; None where `engine` has it all
    fixed_batch: bool = False  # takes one image at a time


ARTIFACT_FILES: dict[ArtifactKind, ArtifactFile] = {
    ArtifactKind.COMPACT: ArtifactFile("model.mpz", "application/vnd.modelpress.compact", "pytorch"),
    ArtifactKind.SAFETENSORS: ArtifactFile("model.safetensors", "application/vnd.safetensors", "pytorch"),
    ArtifactKind.PT2: ArtifactFile("model.pt2", "application/vnd.pytorch.pt2", "torch_export"),
    ArtifactKind.ONNX: ArtifactFile("model.onnx", "application/vnd.onnx", "onnxruntime"),
    ArtifactKind.ONNX_INT8: ArtifactFile("model.int8.onnx", "application/vnd.onnx", "onnxruntime", "int8"),
    ArtifactKind.OPENVINO: ArtifactFile("model.openvino.zip", "application/zip", "openvino", extra="openvino"),
    ArtifactKind.EXECUTORCH: ArtifactFile(
        "model.pte", "application/vnd.pytorch.executorch", "executorch", extra="executorch", fixed_batch=True
    ),
}


DEFAULT_ARTIFACTS = tuple(kind for kind, file in ARTIFACT_FILES.items() if file.extra is None)
"""Made where none are named, as far as they can be: all that need no further package."""


class Goal(Config):
    """What the final model must reach; a job whose model does not fails as `goal_not_met`, its files kept."""

    min_accuracy_retention: float | None = Field(
        default=None,
        gt=0,
        le=2,
        description="Least top-1 accuracy of every file, as a share of the original's. An `onnx_int8` that `artifacts` "
        "does not name may fall short; it then counts for no part of the goal.",
    )
    min_compression_ratio: float | None = Field(
        default=None, gt=0, description="Least ratio of the original's fp32 bytes to those of the smallest file."
    )
    min_speed_up: float | None = Field(
        default=None,
        gt=0,
        description="Least ratio of the original's latency to that of the fastest file in ONNX Runtime, for one image "
        "and with one thread.",
    )


class Recipe(Config):
    """What is done to a model, whichever model that is."""

    seed: int = Field(default=0, ge=0, lt=2**32, description="Seed of everything that is drawn at random.")
    steps: tuple[Step, ...] = Field(min_length=1, max_length=32, description="Done in this order.")
    goal: Goal | None = Field(default=None, description="What the result must reach; null for no demand.")
    artifacts: tuple[ArtifactKind, ...] | None = Field(
        default=None,
        min_length=1,
        description="Files to make of the final model; null for every one that can be made of it, but for `openvino` "
        "and `executorch`, which need the extra of that name where jobs run. `onnx_int8` computes in 8 bits and needs "
        "a data set.",
    )
    calibration_images: int = Field(
        default=256,
        ge=1,
        le=10_000,
        description="Training images that the ranges of `onnx_int8` are taken from, drawn by the seed; their labels "
        "are not used.",
    )

    @model_validator(mode="after")
    def _speed_is_measured(self) -> Recipe:
        timed = any(ARTIFACT_FILES[kind].runtime == "onnxruntime" for kind in self.wanted_artifacts)
        if self.goal is not None and self.goal.min_speed_up is not None and not timed:
            raise ValueError("the goal `min_speed_up` is about a file for ONNX Runtime: ask for `onnx` or `onnx_int8`")
        return self

    @field_validator("artifacts")
    @classmethod
    def _each_once(cls, value: tuple[ArtifactKind, ...] | None) -> tuple[ArtifactKind, ...] | None:
        if value is not None and len(set(value)) != len(value):
            raise ValueError("each kind of artifact can be asked for once")
        return value

    @property
    def wanted_artifacts(self) -> tuple[ArtifactKind, ...]:
        """The kinds of files to make or, where none were named, to try."""
        return DEFAULT_ARTIFACTS if self.artifacts is None else self.artifacts


class JobSpec(Recipe):
    """The body of `POST /v1/jobs`: a recipe, and the model and data set that it is for."""

    name: str = Field(default="", max_length=200, description="A label of your own.")
    model: str = Field(description="Id of an uploaded model.", examples=["mdl_0199f3c0a1b2c3d4"])
    dataset: str | None = Field(
        default=None,
        description="Id of an uploaded data set; may be left out when no step trains. Without it, no accuracy.",
    )
    priority: int = Field(
        default=0,
        ge=-10,
        le=10,
        description="Of the team's waiting jobs, one of a higher priority is taken first. It says nothing to other "
        "teams.",
    )
    needs: Needs = Field(default=Needs(), description="What the worker that carries it out must have.")
    reuse: bool = Field(
        default=True,
        description="Take the result of a job of the team's that was the same, and the results of the first steps of "
        "one that began alike, in place of computing them again; false to run it all.",
    )
    wait_limit_seconds: float | None = Field(
        default=None,
        ge=1,
        le=31_536_000,
        description="Longest time in the queue, each time that it is put there; then it fails as `timeout`. Null for "
        "the service's own limit, if it has one. What it runs does not count.",
    )
    run_limit_seconds: float | None = Field(
        default=None,
        ge=1,
        le=31_536_000,
        description="Longest time that it runs, all its attempts together; then it fails as `timeout`. Null for the "
        "service's own limit, which counts in any case. Waiting does not count, nor what is lost with a worker.",
    )
