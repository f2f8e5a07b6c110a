"""The work folder: what is laid into it for the engine's process, and what the engine leaves there.

    task.json        in   one of the three tasks below
    inputs/          in   the files that the task names
    checkpoint/      in   what an earlier attempt left, and out: what the next one goes on from
    checkpoint_wanted  in  laid when the engine is about to be stopped: it writes a checkpoint as soon as it can
    events.jsonl     out  one `EngineEvent` a line, appended and flushed as it happens
    log.txt          out  what the process printed (written by whoever started it)
    inspection.json  out  of an inspection
    artifacts/       out  of a compression: the files, named as `ArtifactProof.file`
    report.json      out  of a compression: `Report`
    model_card.md    out  of a compression: the report for people, with how to load the files
    failure.json     out  `Failure`, when it failed; the exit code is then 1

The engine's process is `python -m modelpress.engine FOLDER`. It exits with 0 when it did its task.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from modelpress.spec.architecture import ArchitectureRef
from modelpress.spec.config import Config
from modelpress.spec.event import CheckpointPart
from modelpress.spec.inspection import ModelFormat
from modelpress.spec.job import Recipe
from modelpress.spec.network import Preprocessing
from modelpress.spec.report import Ancestor

TASK_FILE = "task.json"
EVENTS_FILE = "events.jsonl"
LOG_FILE = "log.txt"
INSPECTION_FILE = "inspection.json"
REPORT_FILE = "report.json"
MODEL_CARD_FILE = "model_card.md"
FAILURE_FILE = "failure.json"
INPUTS_FOLDER = "inputs"
ARTIFACTS_FOLDER = "artifacts"
CHECKPOINT_FOLDER = "checkpoint"
CHECKPOINT_WANTED_FILE = "checkpoint_wanted"
CHECKPOINT_FILES: dict[CheckpointPart, str] = {"steps": "steps.safetensors", "training": "training.safetensors"}

MOST_PROCESSES = 64


class ModelFile(Config):
    """A model's file and what its owner said of it."""

    path: str = Field(description="Relative to the work folder.")
    format: ModelFormat = Field(description="Format of the file.")
    architecture: ArchitectureRef | None = Field(
        default=None, description="The network that its weights are for; null where the file itself says it."
    )
    image_size: int | None = Field(default=None, description="Height and width, where not the architecture's default.")
    preprocessing: Preprocessing | None = Field(
        default=None, description="What is done to pixels before the network; null where the owner did not say."
    )
    sha256: str = Field(description="SHA-256 of the file.")
    lineage: tuple[Ancestor, ...] = Field(default=(), description="The jobs that it comes from, the newest first.")


class DatasetFile(Config):
    """A data set's file."""

    path: str = Field(description="Relative to the work folder.")
    sha256: str = Field(description="SHA-256 of the file.")


class InspectModel(Config):
    """Say what a model is."""

    kind: Literal["inspect_model"] = "inspect_model"
    model: ModelFile = Field(description="The model.")


class InspectDataset(Config):
    """Say what a data set is."""

    kind: Literal["inspect_dataset"] = "inspect_dataset"
    dataset: DatasetFile = Field(description="The data set.")


class Compress(Config):
    """Carry out a recipe."""

    kind: Literal["compress"] = "compress"
    model: ModelFile = Field(description="The model.")
    dataset: DatasetFile | None = Field(default=None, description="The data set; null when no step needs one.")
    recipe: Recipe = Field(description="What to do.")
    students: dict[str, ModelFile] = Field(
        default_factory=dict, description="Uploaded models that students begin as, by the ids that the recipe names."
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="Where to train; `auto` takes a GPU where there is one."
    )
    threads: int | None = Field(default=None, ge=1, description="CPU threads for training; null for all cores.")
    processes: int | None = Field(
        default=None,
        ge=1,
        le=MOST_PROCESSES,
        description="Processes that share each batch of a training; null for one per GPU, and one on the CPU.",
    )
    checkpoint_seconds: float | None = Field(
        default=None,
        ge=0,
        description="Between two checkpoints of a training, seconds; null to keep none, not of completed steps either.",
    )


Task = Annotated[InspectModel | InspectDataset | Compress, Field(discriminator="kind")]
TASK: TypeAdapter[InspectModel | InspectDataset | Compress] = TypeAdapter(Task)
