"""What a job reports: the figures of the original, after each step, and of the file that is downloaded.

`baseline` and `final` are measured on files reloaded from disk in a fresh process. `stages` are measured between
steps on the network in memory and carry no stored bytes.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, JsonValue

from modelpress.spec.config import Resource
from modelpress.spec.job import ARTIFACT_FILES, ArtifactKind, Recipe, Runtime
from modelpress.spec.network import NetworkSummary


def gives_network_outputs(kind: str) -> bool:
    """True for kinds of files that compute what the network computes, but for rounding in fp32."""
    return kind in ARTIFACT_FILES and ARTIFACT_FILES[ArtifactKind(kind)].precision == "fp32"


class Accuracy(Resource):
    """How well a network does on the held-out images."""

    top1: float = Field(description="Share of images whose label is the largest output, 0..1.")
    top5: float = Field(description="Share whose label is among the five largest outputs (all, with fewer classes).")
    loss: float = Field(description="Mean cross-entropy, nats.")
    examples: int = Field(description="Number of held-out images.")


class Agreement(Resource):
    """How alike a network's outputs on the held-out images are to the original's."""

    top1: float = Field(description="Share of images for which both have the same largest output.")
    kl: float = Field(description="Mean KL divergence softmax(original) || softmax(this network), nats; 0 is the same.")
    examples: int = Field(description="Number of held-out images.")


class Latency(Resource):
    """Time of one forward pass."""

    runtime: Runtime = Field(
        description="What ran the network: `pytorch` eagerly, `torch_export` by the graph of its `.pt2` file, the "
        "others by the file that is theirs."
    )
    precision: Literal["fp32", "int8"] = Field(default="fp32", description="What it computed in.")
    threads: int = Field(description="CPU threads it had.")
    batch: int = Field(description="Images of one pass.")
    p50_ms: float = Field(description="Median, milliseconds.")
    p90_ms: float = Field(description="90th percentile, milliseconds.")


class LayerFigures(Resource):
    """The figures of one layer that has a matrix or a kernel."""

    name: str = Field(description="Name of the layer.")
    type: str = Field(description="Its class, such as `Conv2d`.")
    weight_shape: tuple[int, ...] = Field(description="Shape of its weight.")
    parameters: int = Field(description="Its parameters, with its bias.")
    sparsity: float = Field(description="Share of its weight's elements that are zero.")
    rank: int | None = Field(
        default=None, description="Rank of the factorization that it is part of, the lowest of several; else null."
    )
    macs: int = Field(description="Multiply-accumulates of its own calls for one image; 0 if it is never called.")
    time_share: float = Field(
        description="Share of the time of a forward pass of one image in eager PyTorch, one thread, 0..1."
    )


class Measurement(Resource):
    """The figures of one network."""

    measured_on: Literal["file", "memory"] = Field(description="A file that was reloaded, or the network in memory.")
    parameters: int = Field(description="Number of parameters.")
    nonzero_parameters: int = Field(description="Parameters that are not exactly zero.")
    macs: int = Field(description="Multiply-accumulates of one image; zeros are counted, as no runtime skips them.")
    stored_bytes: dict[str, int] = Field(default_factory=dict, description="Bytes by kind of artifact.")
    accuracy: Accuracy | None = Field(default=None, description="Null without a data set.")
    agreement: Agreement | None = Field(
        default=None, description="With the original, measured on the reloaded file; null elsewhere and without data."
    )
    latencies: tuple[Latency, ...] = Field(
        default=(),
        description="Of one image with one thread, and of a large batch with all threads of the job (ExecuTorch takes "
        "no batch), in eager PyTorch and in each runtime that a file was made for; original and result in turns. After "
        "a step, of one image in eager PyTorch alone.",
    )
    layers: tuple[LayerFigures, ...] = Field(default=(), description="Of each layer, in the network's order.")
    peak_memory_bytes: int | None = Field(default=None, description="Of the measuring process, or of the GPU.")

    @property
    def smallest_bytes(self) -> int | None:
        """Bytes of the smallest file that gives the network's outputs, of any where none does; None without files."""
        own = [size for kind, size in self.stored_bytes.items() if gives_network_outputs(kind)]
        return min(own or self.stored_bytes.values(), default=None)

    def latency_in(
        self, runtime: Runtime = "onnxruntime", precision: Literal["fp32", "int8"] = "fp32"
    ) -> Latency | None:
        """Latency of one image, by default in ONNX Runtime and fp32; None where it was not measured."""
        return next(
            (
                latency
                for latency in self.latencies
                if (latency.runtime, latency.precision, latency.batch) == (runtime, precision, 1)
            ),
            None,
        )


class LayerChange(Resource):
    """What a step did to one layer."""

    name: str = Field(description="Name of the layer.")
    parameters_before: int = Field(description="Its parameters before the step.")
    parameters_after: int = Field(description="Its parameters after the step.")
    nonzero_after: int = Field(description="Those of them that are not zero.")
    rank: int | None = Field(default=None, description="Rank of the pair that it became; null otherwise.")
    bits: int | None = Field(default=None, description="Bits of each of its weights, once quantized; null otherwise.")


class SkippedLayer(Resource):
    """A layer that a step left as it is, and why."""

    name: str = Field(description="Name of the layer.")
    reason: str = Field(description="Why it stayed as it is.")


class TrainingSummary(Resource):
    """What a training did."""

    epochs: int = Field(description="Epochs that were made.")
    epoch_share: float = Field(default=1.0, description="Share of the training images that each of them had.")
    steps: int = Field(description="Updates of the weights.")
    images_per_second: float = Field(description="Training images per second.")
    precision: Literal["fp32", "bf16"] = Field(description="Arithmetic that was used.")
    channels_last: bool = Field(description="Whether images lay in memory with their channels last.")
    accumulation: int = Field(
        default=1,
        description="Parts that each batch was computed in, one after the other: 2 where a whole one did not fit into "
        "the GPU's memory.",
    )
    device: str = Field(description="Where it ran.")
    threads: int | None = Field(default=None, description="Processor threads, where it ran on the processor.")
    processes: int = Field(
        default=1, description="Processes that shared each batch, one per GPU where there are several."
    )
    final_loss: float = Field(description="Mean loss of the last epoch.")
    stopped_early: bool = Field(default=False, description="Whether `patience` ended it before its last epoch.")
    best_epoch: int | None = Field(
        default=None, description="Epoch of the highest validation accuracy, from 1; null without `validation`."
    )
    best_validation_accuracy: float | None = Field(
        default=None, description="Top-1 accuracy on the validation images after that epoch; null without them."
    )


class Stage(Resource):
    """The network after one step."""

    index: int = Field(description="Index of the step in the recipe, from 0.")
    kind: str
    reused_from: str | None = Field(
        default=None,
        description="Id of the job that did this step, whose result was taken; null where this job did it. Times, "
        "latency and memory are then those of the machine and the hour of that job.",
    )
    seconds: float = Field(description="Time it took, with its training and measurement.")
    measurement: Measurement = Field(description="The network after it.")
    layers: tuple[LayerChange, ...] = Field(default=(), description="What it did to each layer that it changed.")
    skipped: tuple[SkippedLayer, ...] = Field(
        default=(), description="Layers that it was asked for and left as they are."
    )
    training: TrainingSummary | None = Field(default=None, description="Its training; null without one.")


class FileRatios(Resource):
    """Original over one file, like with like."""

    stored_bytes: float = Field(description="fp32 bytes of the original over bytes of the file.")
    latency: float | None = Field(
        description="One image, one thread, both in the file's runtime (eager PyTorch for what `modelpress.load` "
        "takes). Null when not measured."
    )
    accuracy_retention: float | None = Field(description="Top-1 of the file over top-1 of the original.")


class ArtifactProof(Resource):
    """What reloading one written file in a fresh process showed."""

    kind: str
    file: str = Field(description="Name of the file.")
    bytes: int = Field(description="Its size.")
    sha256: str = Field(description="Its SHA-256, hexadecimal.")
    largest_difference: float = Field(
        description="Largest absolute difference of outputs on the probe images: from those of the network in memory; "
        "of `onnx_int8` from those of its own graph computed in fp32, as rounding to 8 bits is meant to change them."
    )
    tolerance: float = Field(description="Largest difference that would have been accepted.")
    accuracy: Accuracy | None = Field(default=None, description="Of this file in its runtime, null without a data set.")
    agreement: Agreement | None = Field(default=None, description="Of this file with the original.")
    ratios: FileRatios | None = Field(default=None, description="Original over this file.")


class Ratios(Resource):
    """Original over result, like with like (1 is no change, 4 is four times smaller or faster).

    The result is the network itself: a file that computes something else (`onnx_int8`) has its own ratios beside its
    proof, and counts here only where no other file was asked for.
    """

    stored_bytes: float = Field(description="fp32 bytes of the original over bytes of the smallest file.")
    parameters: float = Field(description="Of the numbers of parameters.")
    nonzero_parameters: float = Field(description="Of the numbers of parameters that are not zero.")
    macs: float = Field(description="Of the multiply-accumulates for one image.")
    latency: float | None = Field(
        description="Of one image with one thread, both in `latency_runtime`. Null when not measured."
    )
    latency_runtime: Runtime = Field(
        default="onnxruntime",
        description="What both were timed in: ONNX Runtime where the job makes a file for it, else eager PyTorch.",
    )
    accuracy_retention: float | None = Field(description="Top-1 of the result over top-1 of the original.")


class Origin(Resource):
    """The artifact that an uploaded model is, byte by byte."""

    job: str = Field(description="Id of the job that made it.")
    artifact: str = Field(description="Id of the artifact.")


class Ancestor(Origin):
    """An artifact that a model comes from, with the hashes that tie it to what it was made of."""

    sha256: str = Field(description="SHA-256 of the artifact.")
    model_sha256: str = Field(description="SHA-256 of the uploaded model that the job made it of.")


class Provenance(Resource):
    """Where the result comes from: enough to make it again."""

    modelpress_version: str = Field(description="Version of ModelPress.")
    model_sha256: str = Field(description="SHA-256 of the uploaded model.")
    lineage: tuple[Ancestor, ...] = Field(
        default=(),
        description="Where that model is an artifact of a job: the job, then the one whose artifact that one began "
        "with, and so on. Empty for a model that came from elsewhere, and without a service.",
    )
    dataset_sha256: str | None = Field(description="SHA-256 of the uploaded data set; null without one.")
    student_sha256: dict[str, str] = Field(
        default_factory=dict, description="SHA-256 of each uploaded student, by the id that the recipe names it by."
    )
    recipe: Recipe = Field(description="What was done, with every default filled in.")
    versions: dict[str, str] = Field(description="Python, torch, torchvision, onnxruntime, numpy.")
    machine: dict[str, JsonValue] = Field(description="Processor, cores, memory, GPU, operating system.")
    started_at: str = Field(description="When it began, UTC.")
    seconds: float = Field(description="Time from the beginning to the report.")
    reused_from: str | None = Field(
        default=None,
        description="Id of the job that was the same and whose result this is, with its times and its machine; null "
        "for a job that was run.",
    )


class Report(Resource):
    """The report of a job that came to its end."""

    network: NetworkSummary = Field(description="The final network.")
    baseline: Measurement = Field(description="The original.")
    stages: tuple[Stage, ...] = Field(description="The network after each step.")
    final: Measurement = Field(description="The file that is downloaded.")
    ratios: Ratios = Field(description="Original over result.")
    proofs: tuple[ArtifactProof, ...] = Field(description="What reloading each file showed.")
    warnings: tuple[str, ...] = Field(default=(), description="What the user should know.")
    provenance: Provenance = Field(description="Where the result comes from.")
