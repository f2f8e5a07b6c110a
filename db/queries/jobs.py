"""Jobs as their owners see them: asked for, looked at, cancelled, tried again."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from db.clock import now, now_plus
from db.errors import IdempotencyMismatch, InputDeleted, InvalidTransition, NotFound
from db.ids import new_id
from db.models import Artifact, Attempt, Dataset, Event, Job, JobStudent, Model
from db.queries.checkpoints import supersede_checkpoints
from db.queries.reuse import Twin, give_result, identity_of
from db.queries.texts import storable
from db.queries.transitions import WAITING, move, write_event
from modelpress.spec.cost import JobEstimate
from modelpress.spec.event import StateChanged
from modelpress.spec.job import JobSpec
from modelpress.spec.report import Report
from modelpress.spec.state import JobState
from modelpress.spec.steps import uploaded_students


def create_job(
    session: Session,
    team_id: str,
    spec: JobSpec,
    *,
    idempotency_key: str | None = None,
    wait_limit_seconds: float | None = None,
) -> tuple[Job, bool]:
    """A new job in the queue, and True; or the job that this key has made before, and False.

    `wait_limit_seconds` is the limit of a job that asks for none.

    Raises NotFound when the model, the data set or a student is not there, IdempotencyMismatch when the key came
    before with another spec, InvalidText.
    """
    if idempotency_key is not None:
        storable("Idempotency-Key", idempotency_key)
        replayed = _replayed(session, team_id, spec, idempotency_key)
        if replayed is not None:
            return replayed, False
    students = uploaded_students(spec.steps)
    missing = _missing_input(session, team_id, (spec.model, *students), spec.dataset)
    if missing is not None:
        raise NotFound(*missing)
    wait_limit = spec.wait_limit_seconds or wait_limit_seconds
    job = Job(
        id=new_id("job"),
        team_id=team_id,
        name=storable("name", spec.name),
        model_id=spec.model,
        dataset_id=spec.dataset,
        spec=spec,
        idempotency_key=idempotency_key,
        identity=identity_of(session, spec),
        last_seq=1,
        wait_limit_seconds=wait_limit,
        wait_expires_at=None if wait_limit is None else now_plus(wait_limit),
        priority=spec.priority,
        **{f"needs_{name}": value for name, value in spec.needs.model_dump().items()},
    )
    try:
        with session.begin_nested():
            session.add(job)
    except IntegrityError:
        # Another request with the same key was first, between our look and our insert.
        replayed = None if idempotency_key is None else _replayed(session, team_id, spec, idempotency_key)
        if replayed is None:
            raise
        return replayed, False
    session.add_all(JobStudent(job_id=job.id, model_id=model_id) for model_id in students)
    write_event(session, job.id, 1, StateChanged(state=JobState.QUEUED.value, attempt=0))
    session.flush()
    return job, True


def take_result(session: Session, team_id: str, job_id: str, twin: Twin) -> Job:
    """Let a job that was accepted just now succeed with the result of its twin, unless a worker was quicker.

    Raises NotFound when the twin was deleted since.
    """
    give_result(session, job_id, JobState.QUEUED, twin.job_id)
    return _locked(session, team_id, job_id)


def note_estimate(session: Session, job: Job, estimate: JobEstimate | None) -> None:
    """What a new job needs by its estimate: workers that have less leave it to others. None where nothing is known."""
    job.estimate = estimate
    if estimate is not None:
        for name, least in estimate.least(job.spec.needs).model_dump().items():
            setattr(job, f"least_{name}", least)
    session.flush()


def get_job(session: Session, team_id: str, job_id: str) -> Job | None:
    """The team's job."""
    return session.scalar(select(Job).where(Job.id == job_id, Job.team_id == team_id))


def list_jobs(
    session: Session,
    team_id: str,
    *,
    state: JobState | None = None,
    model: str | None = None,
    after: str | None = None,
    limit: int,
) -> list[Job]:
    """The team's jobs, newest first; `after` is the last id of the page before."""
    query = select(Job).where(Job.team_id == team_id)
    if state is not None:
        query = query.where(Job.state == state)
    if model is not None:
        query = query.where(Job.model_id == model)
    if after is not None:
        query = query.where(Job.id < after)
    return list(session.scalars(query.order_by(Job.id.desc()).limit(limit)))


def attempts(session: Session, job_id: str) -> list[Attempt]:
    """The attempts at a job, first to last."""
    return list(session.scalars(select(Attempt).where(Attempt.job_id == job_id).order_by(Attempt.number)))


def versions(session: Session, job_ids: Collection[str]) -> dict[str, int]:
    """Of each of these jobs that is there, a number that grows with every change that a reader can see."""
    found = session.execute(select(Job.id, Job.version).where(Job.id.in_(job_ids))).tuples()
    return dict(found.all())


def standing(session: Session, team_id: str, job_id: str) -> tuple[int, JobState] | None:
    """A job's version and state, without anything else of it; None when there is no such job."""
    query = select(Job.version, Job.state).where(Job.id == job_id, Job.team_id == team_id)
    return session.execute(query).tuples().one_or_none()


def events_after(session: Session, job_id: str, after: int, limit: int) -> list[Event]:
    """Events of a job with numbers above `after` (0 for all), in order."""
    query = select(Event).where(Event.job_id == job_id, Event.seq > after).order_by(Event.seq).limit(limit)
    return list(session.scalars(query))


def artifacts(session: Session, job_id: str) -> list[Artifact]:
    """Files of the job's newest attempt, its log among them, in the order they were added."""
    newest = select(Job.attempt).where(Job.id == job_id).scalar_subquery()
    query = select(Artifact).where(Artifact.job_id == job_id, Artifact.attempt == newest).order_by(Artifact.id)
    return list(session.scalars(query))


def get_artifact(session: Session, team_id: str, artifact_id: str) -> Artifact | None:
    """A file of one of the team's jobs, of whichever attempt."""
    query = select(Artifact).join(Job, Job.id == Artifact.job_id)
    return session.scalar(query.where(Artifact.id == artifact_id, Job.team_id == team_id))


def get_report(session: Session, job: Job) -> Report | None:
    """The job's report; None while it has none. A job that missed its goal has one too."""
    return session.scalar(select(Job.report).where(Job.id == job.id))


def cancel(session: Session, team_id: str, job_id: str) -> Job:
    """Stop a job: at once when it waits, else its worker is told to. Asking again changes nothing.

    Raises NotFound; InvalidTransition when it has succeeded or failed.
    """
    job = _locked(session, team_id, job_id)
    if job.state is JobState.QUEUED:
        move(session, JobState.QUEUED, JobState.CANCELLED, Job.id == job_id, finished_at=now())
    elif job.state is JobState.RUNNING:
        move(session, JobState.RUNNING, JobState.CANCELLING, Job.id == job_id)
    elif job.state not in (JobState.CANCELLING, JobState.CANCELLED):
        raise InvalidTransition(job.state, "cancelled")
    session.refresh(job)
    return job


def retry(session: Session, team_id: str, job_id: str) -> Job:
    """Put a job that failed or was cancelled at the end of the queue again, as if it were new.

    Raises NotFound; InputDeleted when its model, its data set or a student is gone; InvalidTransition in any other
    state.
    """
    job = _locked(session, team_id, job_id)
    if job.state not in (JobState.FAILED, JobState.CANCELLED):
        raise InvalidTransition(job.state, "retried")
    students = session.scalars(select(JobStudent.model_id).where(JobStudent.job_id == job_id))
    missing = _missing_input(session, team_id, (job.model_id, *students), job.dataset_id)
    if missing is not None:
        raise InputDeleted(*missing)
    move(
        session,
        job.state,
        JobState.QUEUED,
        Job.id == job_id,
        reason="retried",
        queued_at=now(),
        losses=0,
        run_seconds=0.0,
        failure=None,
        ratios=None,
        report=None,
        finished_at=None,
        **WAITING,
    )
    supersede_checkpoints(session, job_id)  # whoever may not have come to drop them yet
    session.refresh(job)
    return job


def _locked(session: Session, team_id: str, job_id: str) -> Job:
    """The team's job, which nobody else changes until the session ends. Raises NotFound."""
    query = select(Job).where(Job.id == job_id, Job.team_id == team_id).with_for_update()
    job = session.scalar(query.execution_options(populate_existing=True))
    if job is None:
        raise NotFound("job", job_id)
    return job


def _missing_input(
    session: Session, team_id: str, model_ids: Iterable[str], dataset_id: str | None
) -> tuple[str, str] | None:
    # Shared locks: nobody deletes the inputs before this session ends. In order, as others take several, too.
    inputs: list[tuple[str, type[Model | Dataset], str]] = [("model", Model, each) for each in sorted(model_ids)]
    if dataset_id is not None:
        inputs.append(("data set", Dataset, dataset_id))
    for kind, table, row_id in inputs:
        query = select(table.id).where(table.id == row_id, table.team_id == team_id, table.deleted_at.is_(None))
        if session.scalar(query.with_for_update(read=True)) is None:
            return kind, row_id
    return None


def _replayed(session: Session, team_id: str, spec: JobSpec, key: str) -> Job | None:
    job = session.scalar(select(Job).where(Job.team_id == team_id, Job.idempotency_key == key))
    if job is not None and job.spec != spec:
        raise IdempotencyMismatch(key, job.id)
    return job
