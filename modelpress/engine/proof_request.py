"""What a job asks of the fresh process that proves its files, and what that answers."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from modelpress.spec.config import Config
from modelpress.spec.failure import Failure
from modelpress.spec.job import ArtifactKind
from modelpress.spec.network import Preprocessing
from modelpress.spec.report import ArtifactProof, Latency, Measurement
from modelpress.spec.task import LATENCY_SECONDS


class WrittenFile(Config):
    """A file to reload."""

    kind: ArtifactKind
    path: Path


class TimedFiles(Config):
    """One network as each runtime loads it, to be timed."""

    network: Path = Field(description="Compact or safetensors.")
    exported: dict[ArtifactKind, Path] = Field(description="For the other runtimes; those that could be made.")


class Request(Config):
    """What the fresh process is asked."""

    files: tuple[WrittenFile, ...] = Field(min_length=1, description="To be proven; the figures are of the first.")
    optional: tuple[ArtifactKind, ...] = Field(
        default=(), description="Nobody named these: one whose outputs are wrong is left out, and fails nothing."
    )
    network: Path = Field(description="Compact or safetensors: the file that is counted, layer by layer.")
    weights: str = Field(description="`hash_weights` of the network in memory.")
    probe: Path = Field(description="Images and the outputs that the network in memory gave for them, .npz.")
    heldout: Path | None = Field(default=None, description="Images and labels to measure accuracy on, .npz.")
    keep_outputs: Path | None = Field(default=None, description="Where outputs on the held-out images go, as .npy.")
    original_outputs: Path | None = Field(default=None, description="Those of the original, to agree with.")
    preprocessing: Preprocessing
    input_shape: tuple[int, int, int]
    timed: tuple[TimedFiles, TimedFiles] | None = Field(
        default=None, description="Original and result, to take turns; null while the original is measured."
    )
    latency_seconds: float = Field(default=LATENCY_SECONDS, gt=0, description="Of each network, for one image.")
    threads: int = Field(ge=1, description="CPU threads for all but the latency of one image, which has one.")
    device: str = Field(default="cpu", description="Where PyTorch measures accuracy.")


class Verified(Config):
    """What it answers."""

    proofs: tuple[ArtifactProof, ...] = Field(description="Of each file that is not left out, without ratios.")
    left_out: dict[ArtifactKind, str] = Field(default_factory=dict, description="Optional ones that failed, and why.")
    measurement: Measurement = Field(description="Of the first file, with the latencies of all.")
    original_latencies: tuple[Latency, ...] = Field(default=(), description="Taken in turns with the result's.")


class Answer(Config):
    """The answer or, in its place, the failure."""

    verified: Verified | None = None
    failure: Failure | None = None
