"""Is a job accepted? Everything that can be known without starting it is checked here."""

from __future__ import annotations

from sqlalchemy.orm import Session

from api.refusals import NotReady, NotThere, UnfitSpec, UnusableUpload
from db.models import Dataset, Job, Model
from db.queries import jobs, uploads
from modelpress.spec.check import check
from modelpress.spec.job import JobSpec
from modelpress.spec.resources import FieldError
from modelpress.spec.state import UploadState


def submit(session: Session, team_id: str, spec: JobSpec, idempotency_key: str | None) -> tuple[Job, bool]:
    """The job, and True when it is new. Raises what `check_spec` raises, and what `db.queries.jobs.create_job` does.

    A replay is answered before the check: what was accepted stays accepted, whatever became of its inputs.
    """
    job, created = jobs.create_job(session, team_id, spec, idempotency_key=idempotency_key)
    if created:
        check_spec(session, team_id, spec)
    return job, created


def check_spec(session: Session, team_id: str, spec: JobSpec) -> None:
    """Raises NotThere, NotReady, UnusableUpload or UnfitSpec unless the job can be carried out."""
    model = uploads.get_model(session, team_id, spec.model)
    if model is None:
        raise NotThere("model", spec.model)
    dataset = None
    if spec.dataset is not None:
        dataset = uploads.get_dataset(session, team_id, spec.dataset)
        if dataset is None:
            raise NotThere("data set", spec.dataset)
    _require_ready("model", model)
    if dataset is not None:
        _require_ready("data set", dataset)
    inspection = model.inspection
    assert inspection is not None  # noqa: S101  # for the type checker: `ready` means inspected
    misfits = check(spec, inspection, dataset.inspection if dataset else None)
    if misfits:
        raise UnfitSpec([FieldError(where=misfit.where, message=misfit.message) for misfit in misfits])


def _require_ready(kind: str, upload: Model | Dataset) -> None:
    if upload.state is UploadState.INSPECTING:
        raise NotReady(f"the {kind} {upload.id!r} is still being inspected; ask again in a moment")
    if upload.state is UploadState.REJECTED:
        reason = upload.failure.message if upload.failure else "no reason was kept"
        raise UnusableUpload(f"the {kind} {upload.id!r} was rejected: {reason}")
