"""One service, the uploads, and the jobs handed in to it: by the public API alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from benchmarks.slimnets.budget import Data, Job
from benchmarks.slimnets.finished import Curve, Finished, dumped, key
from modelpress.client import Client
from modelpress.client.progress import JobBars
from modelpress.spec.event import Progress
from modelpress.spec.job import ArtifactKind, JobSpec
from modelpress.spec.resources import Dataset, Model
from modelpress.spec.state import JobState, UploadState

AnUpload = TypeVar("AnUpload", Model, Dataset)


def uploaded(there: Iterable[AnUpload], name: str, send: Callable[[], AnUpload]) -> AnUpload:
    """The upload of that name that the service has from an earlier run; else it is sent."""
    for upload in there:
        if upload.name == name and upload.state is UploadState.READY:
            return upload
    return send()


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
