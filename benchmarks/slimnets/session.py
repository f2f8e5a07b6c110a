"""One service, the uploads, and the jobs handed in to it: by the public API alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

import torch
from safetensors.torch import save_file

from benchmarks.slimnets.budget import Data, Job
from benchmarks.slimnets.finished import Curve, Finished, dumped, key
from modelpress.client import Client
from modelpress.client.progress import JobBars
from modelpress.engine.architectures.registry import build
from modelpress.spec.architecture import ArchitectureRef
from modelpress.spec.event import Progress
from modelpress.spec.job import ARTIFACT_FILES, ArtifactKind, JobSpec
from modelpress.spec.resources import Dataset, Model
from modelpress.spec.state import JobState, UploadState

AnUpload = TypeVar("AnUpload", Model, Dataset)


def uploaded(there: Iterable[AnUpload], name: str, send: Callable[[], AnUpload]) -> AnUpload:
    """The upload of that name that the service has from an earlier run; else it is sent."""
    for upload in there:
        if upload.name == name and upload.state is UploadState.READY:
            return upload
    return send()


def draw_weights(path: Path, ref: ArchitectureRef) -> None:
    """Write weights of a network that nobody has trained; a file that is there stays."""
    if not path.is_file():
        torch.manual_seed(0)
        save_file(build(ref).state_dict(), path)


def upload_weights(client: Client, path: Path, ref: ArchitectureRef, facts: Path) -> Model:
    """A file of plain weights as a model, once; `facts` tell the normalisation of its images."""
    stated = json.loads(facts.read_text())["preprocessing"]

    def send() -> Model:
        return client.upload_model(
            path, architecture=ref.architecture, arguments=ref.arguments, mean=stated["mean"], std=stated["std"]
        )

    return uploaded(client.models(), path.name, send)


def upload_result(client: Client, job_id: str, folder: Path) -> Model:
    """What a job has trained, as the model `original`, once; downloaded into `folder`."""
    name = "original"

    def send() -> Model:
        file = ARTIFACT_FILES[ArtifactKind.SAFETENSORS].filename
        path = next(path for path in client.job(job_id).download(folder) if path.name == file)
        return client.upload_model(path, name=name)

    return uploaded(client.models(), name, send)


class Session:
    """Jobs on one original."""

    def __init__(self, client: Client, model: str, datasets: dict[Data, str], folder: Path, bars: JobBars) -> None:
        self._client = client
        self._model = model
        self._datasets = datasets
        self._folder = folder  # for curves
        self._bars = bars

    def spec(self, job: Job, artifacts: tuple[ArtifactKind, ...]) -> JobSpec:
        """The body that is handed in."""
        return JobSpec.model_validate(
            {
                "name": f"{job.name} ({job.data}, seed {job.seed})",
                "model": self._model,
                "dataset": self._datasets[job.data],
                "seed": job.seed,
                "steps": dumped(job),
                "artifacts": artifacts,
            }
        )

    def perform(self, job: Job, artifacts: tuple[ArtifactKind, ...]) -> Finished:
        """Hand a job in, or find the one that a stopped run handed in, and wait for its end.

        What else a stopped run left, of a recipe that was changed since perhaps, is cancelled; it goes on when its turn
        comes. Raises JobFailed, JobCancelled and ApiError: what fails is tried again only in another run.
        """
        spec = self.spec(job, artifacts)
        said = json.dumps(spec.model_dump(mode="json"), sort_keys=True).encode()
        digest = hashlib.sha256(said).hexdigest()
        handle = self._client.submit(spec, idempotency_key=digest)
        if handle.state in (JobState.FAILED, JobState.CANCELLED):
            handle.retry()
        self._clear_for(handle.id)
        curve = Curve(self._folder / f"{key(job)}.{digest[:8]}.jsonl")
        line = f"{job.name} ({job.data}{f', seed {job.seed}' if job.seed else ''})"
        self._bars.say(line, "handed in")

        def watch(progress: Progress) -> None:
            self._bars.show(line, progress)
            curve.add(progress)

        done = handle.wait(on_progress=watch)
        report = handle.report
        reached = f"top-1 {100 * report.final.accuracy.top1:.2f}%" if report.final.accuracy else "no accuracy"
        self._bars.say(line, f"{done.state.value}, {reached}, {report.ratios.stored_bytes:.3g}x smaller")
        return Finished(
            name=job.name,
            data=job.data,
            seed=job.seed,
            steps=dumped(job),
            id=handle.id,
            report=report,
            curve=curve.samples(),
        )

    def _clear_for(self, job_id: str) -> None:
        for state in (JobState.QUEUED, JobState.RUNNING):
            for other in self._client.jobs(state=state):
                if other.id != job_id:
                    self._client.job(other.id).cancel()
