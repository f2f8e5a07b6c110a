"""The work folder: what is laid into it for the engine's process, and what the engine leaves there.

    task.json        in   one of the three tasks below
    inputs/          in   the files that the task names
    checkpoint/      in   what an earlier attempt left, and out: what the next one goes on from
    reused.safetensors  in  what the first steps of another job made, where this one has the same
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

from modelpress.spec.config import Config
from modelpress.spec.event import CheckpointPart
from modelpress.spec.identity import GivenModel, Inputs
from modelpress.spec.job import Recipe
from modelpress.spec.report import Ancestor

TASK_FILE = "task.json"
EVENTS_FILE = "events.jsonl"
LOG_FILE = "log.txt"
INSPECTION_FILE = "inspection.json"
MOST_INSPECTION_BYTES = 4 << 20
"""Longest inspection that is taken. Whoever looks at the upload is sent all of it; large networks' are 0.2 MB."""
REPORT_FILE = "report.json"
MODEL_CARD_FILE = "model_card.md"
FAILURE_FILE = "failure.json"
INPUTS_FOLDER = "inputs"
ARTIFACTS_FOLDER = "artifacts"
CHECKPOINT_FOLDER = "checkpoint"
REUSED_FILE = "reused.safetensors"
CHECKPOINT_WANTED_FILE = "checkpoint_wanted"
CHECKPOINT_FILES: dict[CheckpointPart, str] = {"steps": "steps.safetensors", "training": "training.safetensors"}

ENGINE_ENVIRONMENT = {
    # Else torch's threads wait for each other in busy loops, and a training beside any other work takes many times
    # as long.
    "OMP_WAIT_POLICY": "passive",
    # Else ONNX Runtime keeps a data base for its maker, open, with threads, in every process that imports it: an engine
    # forks, and a fork has the open file without the threads.
    "ORT_DISABLE_TELEMETRY": "1",
}
"""What whoever starts the engine's process sets in its environment."""

MOST_PROCESSES = 64

# Medians over so long hardly vary on a machine that does nothing else.
LATENCY_SECONDS = 0.3


class ModelFile(GivenModel):
    """A model's file and what its owner said of it."""

    path: str = Field(description="Relative to the work folder.")
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
    latency_seconds: float = Field(
        default=LATENCY_SECONDS, gt=0, description="For so long each network is run for each of its latencies, seconds."
    )
    reused_from: str | None = Field(
        default=None,
        description=f"Id of the job whose first steps are not done again: {REUSED_FILE} is what they made. Null for "
        "none.",
    )

    @property
    def inputs(self) -> Inputs:
        """What the recipe is carried out on."""
        return Inputs(self.model, None if self.dataset is None else self.dataset.sha256, self.students)


Task = Annotated[InspectModel | InspectDataset | Compress, Field(discriminator="kind")]
TASK: TypeAdapter[InspectModel | InspectDataset | Compress] = TypeAdapter(Task)
