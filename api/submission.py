"""Is a job accepted? Everything that can be known without starting it is checked here."""

from __future__ import annotations

import structlog
from sqlalchemy.orm import Session

from api.fit import require_fitting
from api.refusals import InvalidRequest, NotReady, NotThere, Refusal, UnfitSpec, UnusableUpload
from db.database import Database
from db.errors import NotFound
from db.models import Dataset, Job, Model
from db.queries import jobs, uploads
from db.queries.reuse import Twin, find_twin
from modelpress.spec.bounds import spec_errors
from modelpress.spec.check import check
from modelpress.spec.cost import JobEstimate, estimate_job
from modelpress.spec.inspection import DatasetInspection, ModelInspection
from modelpress.spec.job import JobSpec
from modelpress.spec.resources import FieldError
from modelpress.spec.state import UploadState
from modelpress.spec.steps import uploaded_students
from storage.store import StorageError, Store

log = structlog.stdlib.get_logger(__name__)


def check_size(spec: JobSpec) -> None:
    """Raises InvalidRequest for a spec that is too large to be kept, or holds what cannot be."""
    errors = spec_errors(spec)
    if errors:
        raise InvalidRequest(errors)


def judge(database: Database, team_id: str, spec: JobSpec) -> JobEstimate | Refusal | None:
    """What `check_spec` gives, or raises."""
    try:
        return check_spec(database, team_id, spec)
    except Refusal as refusal:
        return refusal


def submit(
    session: Session,
    team_id: str,
    spec: JobSpec,
    verdict: JobEstimate | Refusal | None,
    idempotency_key: str | None,
    wait_limit_seconds: float | None,
) -> tuple[Job, bool]:
    """The job, which waits, and True when it is new. `verdict` is what `judge` said of it a moment ago.

    Raises the verdict where it is a refusal, and what `db.queries.jobs.create_job` does.

    A replay is answered whatever the verdict: what was accepted stays accepted, whatever became of its inputs.
    """
    try:
        job, created = jobs.create_job(
            session, team_id, spec, idempotency_key=idempotency_key, wait_limit_seconds=wait_limit_seconds
        )
    except NotFound:
        if isinstance(verdict, Refusal):
            raise verdict from None  # says which field names what is missing
        raise
    if created:
        if isinstance(verdict, Refusal):
            raise verdict
        jobs.note_estimate(session, job, verdict)
    return job, created


def find_candidate(session: Session, team_id: str, spec: JobSpec, identity: str | None) -> Twin | None:
    """The job whose result one that was checked, and has this identity, is given if `has_files` says so."""
    return find_twin(session, team_id, identity) if spec.reuse and identity is not None else None


def has_files(store: Store, twin: Twin) -> bool:
    """Whether the bytes of a result are there; False where the store does not say.

    Outside of transactions: a store may take minutes not to answer, and a job that was accepted waits for a worker
    meanwhile, which looks again.
    """
    try:
        return all(map(store.exists, twin.files))
    except StorageError as error:
        log.warning("store_unreachable", error=str(error))
        return False


def check_spec(database: Database, team_id: str, spec: JobSpec) -> JobEstimate | None:
    """What the job will need; None where older versions inspected its inputs.

    Raises NotThere, NotReady, UnusableUpload or UnfitSpec unless the job can be carried out.
    """
    with database.session(read_only=True) as session:
        inspections, dataset = _inspections(session, team_id, spec)
    # Outside of transactions: it is the work of a processor, a second of it where layers and patterns are many.
    misfits = check(spec, inspections[spec.model], dataset, inspections)
    if misfits:
        raise UnfitSpec([FieldError(where=misfit.where, message=misfit.message) for misfit in misfits])
    estimate = estimate_job(spec, inspections[spec.model], dataset, inspections)
    with database.session(read_only=True) as session:
        return require_fitting(session, spec, estimate)


def _inspections(
    session: Session, team_id: str, spec: JobSpec
) -> tuple[dict[str, ModelInspection], DatasetInspection | None]:
    """Those of the model and the students by their ids, and that of the data set."""
    # Each model once, with the field that names it first: what the job compresses, and what its students begin as.
    places = {spec.model: "model"}
    for model_id, where in uploaded_students(spec.steps).items():
        places.setdefault(model_id, where)
    models = {model_id: _model(session, team_id, model_id, where) for model_id, where in places.items()}
    dataset = None
    if spec.dataset is not None:
        dataset = uploads.get_dataset(session, team_id, spec.dataset)
        if dataset is None:
            raise NotThere("data set", spec.dataset, "dataset")
    inspections = {model_id: _inspection(model, places[model_id]) for model_id, model in models.items()}
    if dataset is not None:
        _require_ready("data set", dataset, "dataset")
    return inspections, dataset.inspection if dataset else None


def _model(session: Session, team_id: str, model_id: str, where: str) -> Model:
    model = uploads.get_model(session, team_id, model_id)
    if model is None:
        raise NotThere("model", model_id, where)
    return model


def _inspection(model: Model, where: str) -> ModelInspection:
    _require_ready("model", model, where)
    assert model.inspection is not None  # noqa: S101  # for the type checker: `ready` means inspected
    return model.inspection


def _require_ready(kind: str, upload: Model | Dataset, where: str) -> None:
    if upload.state is UploadState.INSPECTING:
        raise NotReady(f"the {kind} {upload.id!r} is still being inspected; ask again in a moment", where)
    if upload.state is UploadState.REJECTED:
        reason = upload.failure.message if upload.failure else "no reason was kept"
        raise UnusableUpload(f"the {kind} {upload.id!r} was rejected: {reason}", where)
