"""Jobs as the workers that carry them out see them.

Every write carries the number of the attempt as a fence, and counts only while the job still is that attempt's: it
returns False, and changes nothing, once the job was given to another worker, cancelled or finished. Leases are judged
by the database's clock alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import func, or_, select, update
from sqlalchemy.orm import Session

from db.clock import now, now_plus
from db.ids import new_id
from db.models import Artifact, Attempt, Dataset, Event, Job, JobStudent, Metric, Model
from db.queries.checkpoints import KeptFile, checkpoint_of, keep_checkpoint
from db.queries.fence import held, write
from db.queries.inspections import (
    ClaimedInspection,
    claim_inspection,
    finish_inspection,
    has_waiting_inspections,
    lose_inspection,
    release_inspection,
    renew_inspection,
)
from db.queries.lineage import lineage
from db.queries.metrics import epoch_metrics, report_metrics
from db.queries.model_input import ModelInput
from db.queries.reaper import Reaped, lose_once_more, reap
from db.queries.reuse import Twin, find_twin, give_result, reason_of
from db.queries.step_results import FirstSteps, find_step_result
from db.queries.transitions import NOBODYS, WAITING, close_attempt, move
from db.queries.turns import await_turn, has_waiting_jobs, next_job, note_turn
from db.queries.uploads import hold_bytes
from modelpress.spec.cost import JobEstimate
from modelpress.spec.event import CheckpointPart, Progress, StageDone, StateChanged, Warned
from modelpress.spec.failure import Failure
from modelpress.spec.identity import Inputs, job_identity, step_fingerprints
from modelpress.spec.job import JobSpec
from modelpress.spec.needs import Capacity
from modelpress.spec.report import Report
from modelpress.spec.state import JobState

__all__ = [
    "ClaimedInspection",
    "ClaimedJob",
    "Reaped",
    "add_artifact",
    "append_events",
    "cancelled",
    "claim_inspection",
    "claim_job",
    "fail",
    "finish_inspection",
    "has_waiting_inspections",
    "has_waiting_jobs",
    "heartbeat",
    "keep_checkpoint",
    "last_told",
    "lose",
    "lose_inspection",
    "reap",
    "release",
    "release_inspection",
    "renew_inspection",
    "succeed",
    "succeed_as",
]

PROGRESS_SECONDS = 5.0  # between two rows of progress within one epoch: a day of work makes some 17,000


@dataclass(frozen=True)
class ClaimedJob:
    """A job that is this worker's to carry out, while it holds the attempt."""

    id: str
    team_id: str
    attempt: int  # the fence of every later write
    spec: JobSpec
    model: ModelInput
    dataset: str | None  # SHA-256 of its bytes
    students: Mapping[str, ModelInput] = field(default_factory=dict)  # by id
    checkpoint: Mapping[CheckpointPart, KeptFile] = field(default_factory=dict)  # of an earlier attempt
    fingerprints: tuple[str, ...] = ()  # modelpress.spec.identity.step_fingerprints
    twin: Twin | None = None  # the same job, whose result it can be given
    first_steps: FirstSteps | None = None  # of another job, with which this one can begin
    estimate: JobEstimate | None = None
    run_seconds: float = 0.0  # of earlier attempts, that count towards the limit for running


def claim_job(
    session: Session, worker: str, lease_seconds: float, capacity: Capacity | None = None
) -> ClaimedJob | None:
    """Take the job whose turn it is (`db.queries.turns`) of those that fit this worker; None when there is none.

    Without a capacity, every job fits. The lease is this worker's until it runs out.
    """
    await_turn(session)
    moved = move(
        session,
        JobState.QUEUED,
        JobState.RUNNING,
        Job.id == next_job(capacity),
        attempt=Job.attempt + 1,
        worker=worker,
        lease_expires_at=now_plus(lease_seconds),
        progress=None,
        progress_recorded_at=None,
        wait_expires_at=None,
        started_at=now(),
    )
    if not moved:
        return None
    checkpoint = checkpoint_of(session, moved[0].job_id)
    attempt = Attempt(
        job_id=moved[0].job_id,
        number=moved[0].attempt,
        worker=worker,
        continues=max((kept.attempt for kept in checkpoint.values()), default=None),
    )
    session.add(attempt)
    job, model, dataset = session.execute(
        select(Job, Model, Dataset.sha256)
        .join(Model, Model.id == Job.model_id)
        .outerjoin(Dataset, Dataset.id == Job.dataset_id)
        .where(Job.id == moved[0].job_id)
        .execution_options(populate_existing=True)
    ).one()
    note_turn(session, job.team_id)
    students = session.scalars(
        select(Model).join(JobStudent, JobStudent.model_id == Model.id).where(JobStudent.job_id == job.id)
    )
    given = ModelInput.of(model, lineage(session, model))
    beginnings = {student.id: ModelInput.of(student) for student in students}
    inputs = Inputs(given.given, dataset, {name: student.given for name, student in beginnings.items()})
    # Of this release, which carries it out, whichever accepted it.
    job.identity = job_identity(inputs, job.spec)
    fingerprints = step_fingerprints(inputs, job.spec)
    twin = find_twin(session, job.team_id, job.identity) if job.spec.reuse else None
    first_steps = None
    if job.spec.reuse and twin is None and not checkpoint:
        first_steps = find_step_result(session, job.team_id, fingerprints)
        attempt.continues = None if first_steps is None else 0
    session.flush()
    return ClaimedJob(
        job.id,
        job.team_id,
        job.attempt,
        job.spec,
        given,
        dataset,
        beginnings,
        checkpoint,
        fingerprints,
        twin,
        first_steps,
        job.estimate,
        job.run_seconds,
    )


def heartbeat(session: Session, job_id: str, attempt: int, lease_seconds: float) -> JobState | None:
    """Hold the job for longer. Returns its state (`cancelling`: stop the child); None when it is no longer ours."""
    return session.scalar(
        update(Job)
        .where(held(job_id, attempt))
        .values(lease_expires_at=now_plus(lease_seconds))
        .returning(Job.state)
        .execution_options(synchronize_session=False)
    )


def append_events(
    session: Session, job_id: str, attempt: int, events: Sequence[Progress | StageDone | Warned | StateChanged]
) -> int | None:
    """Write what the engine said; gives the number of the job's last event, None when it is no longer this attempt's.

    The newest progress goes to the job's row. A progress becomes an event when stage, step or epoch change, else at
    most every `PROGRESS_SECONDS`; everything else always does. What was last heard of an epoch becomes its metrics.
    """
    due = or_(Job.progress_recorded_at.is_(None), Job.progress_recorded_at < now_plus(-PROGRESS_SECONDS))
    row = session.execute(
        select(Job.last_seq, Job.progress, due).where(held(job_id, attempt)).with_for_update()
    ).one_or_none()
    if row is None:
        return None
    seq, progress, progress_due = row
    told: list[Progress | StageDone | Warned | StateChanged] = []
    figures: list[Metric] = []
    progress_told = False
    for event in events:
        if isinstance(event, Progress):
            moved_on = progress is None or _place(event) != _place(progress)
            if moved_on and progress is not None and progress.epoch is not None:
                figures += epoch_metrics(job_id, attempt, progress)
            progress = event
            if not moved_on and not (progress_due and not progress_told):
                continue
            progress_told = True
        told.append(event)
    recorded: dict[str, Any] = {"progress_recorded_at": now()} if progress_told else {}
    if not write(session, job_id, attempt, last_seq=seq + len(told), progress=progress, **recorded):
        return None
    session.add_all(
        Event(job_id=job_id, seq=number, attempt=attempt, kind=event.kind, event=event)
        for number, event in enumerate(told, start=seq + 1)
    )
    session.add_all(figures)
    session.flush()
    return int(seq) + len(told)


def last_told(session: Session, job_id: str, attempt: int, after: int) -> int | None:
    """The number of the last event behind `after` that the engine of this attempt told; None for none.

    Waits for a transaction whose COMMIT the server is still at, though its client has lost it.
    """
    session.execute(select(Job.id).where(Job.id == job_id).with_for_update())
    told = (Event.job_id == job_id, Event.seq > after, Event.attempt == attempt, Event.kind != "state")
    return session.scalar(select(func.max(Event.seq)).where(*told))


def add_artifact(
    session: Session,
    job_id: str,
    attempt: int,
    *,
    kind: str,
    filename: str,
    size: int,
    sha256: str,
    content_type: str,
) -> bool:
    """Write that a file lies in the store; the same file name again takes the place of the first.

    Put the bytes first. Someone may just then delete an upload of the very same bytes: when the session has ended,
    ask the store once more whether they are there.
    """
    if not write(session, job_id, attempt):
        return False
    hold_bytes(session, sha256)
    known = select(Artifact).where(
        Artifact.job_id == job_id, Artifact.attempt == attempt, Artifact.filename == filename
    )
    artifact = session.scalar(known)
    if artifact is None:
        artifact = Artifact(id=new_id("art"), job_id=job_id, attempt=attempt, filename=filename)
        session.add(artifact)
    artifact.kind, artifact.size, artifact.sha256, artifact.content_type = kind, size, sha256, content_type
    session.flush()
    return True


def succeed(session: Session, job_id: str, attempt: int, report: Report) -> bool:
    """The job is done. False as well when it is being cancelled: call `cancelled` then."""
    ended = _end(session, job_id, attempt, JobState.SUCCEEDED, report=report, ratios=report.ratios)
    if ended:
        session.add_all(report_metrics(job_id, attempt, report))
        session.flush()
    return ended


def succeed_as(session: Session, job_id: str, attempt: int, twin: str) -> bool:
    """The job is done with the result of its twin. False as well when it is being cancelled: call `cancelled` then.

    Raises NotFound when the twin was deleted meanwhile.
    """
    moved = give_result(session, job_id, JobState.RUNNING, twin, held(job_id, attempt))
    if moved is not None:
        close_attempt(session, moved, JobState.SUCCEEDED.value, reason_of(twin))
    return moved is not None


def fail(session: Session, job_id: str, attempt: int, failure: Failure, report: Report | None = None) -> bool:
    """The job has failed, with a report when it came to its end but missed its goal.

    False as well when it is being cancelled: call `cancelled` then.
    """
    ended = _end(session, job_id, attempt, JobState.FAILED, reason=failure.message, failure=failure, report=report)
    if ended and report is not None:
        session.add_all(report_metrics(job_id, attempt, report))
        session.flush()
    return ended


def cancelled(session: Session, job_id: str, attempt: int) -> bool:
    """The worker has stopped a job that was to be cancelled."""
    return _end(session, job_id, attempt, JobState.CANCELLED)


def release(session: Session, job_id: str, attempt: int, reason: str) -> bool:
    """Give the job back, to the place in the queue that it had; one that was being cancelled is cancelled."""
    moved = move(session, JobState.RUNNING, JobState.QUEUED, held(job_id, attempt), reason=reason, **WAITING)
    for job in moved:
        close_attempt(session, job, "released", reason)
    return bool(moved) or cancelled(session, job_id, attempt)


def lose(session: Session, job_id: str, attempt: int, failure: Failure, max_attempts: int, reason: str) -> bool:
    """The engine was killed: the job waits again, until that, or its worker, was lost too often; then it fails.

    One that was being cancelled is cancelled.
    """
    mine = held(job_id, attempt)
    moved = lose_once_more(session, mine, failure=failure, max_attempts=max_attempts, reason=reason)
    return any(moved) or cancelled(session, job_id, attempt)


def _end(
    session: Session, job_id: str, attempt: int, target: JobState, *, reason: str | None = None, **values: Any
) -> bool:
    source = JobState.CANCELLING if target is JobState.CANCELLED else JobState.RUNNING
    moved = move(
        session, source, target, held(job_id, attempt), reason=reason, finished_at=now(), **{**NOBODYS, **values}
    )
    for job in moved:
        close_attempt(session, job, target.value, reason)
    return bool(moved)


def _place(progress: Progress) -> tuple[str, int | None, int | None]:
    return progress.stage, progress.step, progress.epoch
