"""Resources as a service would answer them."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

from modelpress.spec.architecture import ArchitectureRef
from modelpress.spec.event import Progress
from modelpress.spec.job import JobSpec
from modelpress.spec.resources import Artifact, Job, Model
from modelpress.spec.state import JobState, UploadState
from modelpress.spec.steps import Prune

WHEN = datetime(2026, 1, 1, tzinfo=UTC)


def make_job(state: JobState, fraction: float | None = None) -> Job:
    """A job in this state, so far done."""
    progress = None if fraction is None else Progress(stage="step", step=0, steps=1, fraction=fraction)
    return Job(
        id="job_1",
        name="",
        state=state,
        spec=JobSpec(model="mdl_1", steps=(Prune(sparsity=0.5),)),
        progress=progress,
        attempt=0,
        created_at=WHEN,
    )


def make_model(state: UploadState = UploadState.READY) -> Model:
    """An uploaded model in this state."""
    return Model(
        id="mdl_1",
        name="m",
        state=state,
        size=1,
        sha256="0" * 64,
        created_at=WHEN,
        format="pt",
        architecture=ArchitectureRef(architecture="nin_cifar"),
    )


def make_artifact(content: bytes, filename: str = "model.mpz") -> Artifact:
    """An artifact of these bytes."""
    return Artifact(
        id="art_1",
        job="job_1",
        kind="compact",
        filename=filename,
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        content_type="application/octet-stream",
        created_at=WHEN,
    )
