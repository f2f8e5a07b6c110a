"""What becomes of the work of lost workers. Any worker may ask; leases are judged by the database's clock alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from sqlalchemy import ColumnElement, and_, select
from sqlalchemy.orm import Session

from db.clock import now
from db.models import Job
from db.queries.inspections import reap_inspections
from db.queries.transitions import NOBODYS, WAITING, Moved, close_attempt, move
from modelpress.spec.failure import Failure, FailureKind
from modelpress.spec.state import JobState

WAITED_TOO_LONG = Failure(
    kind=FailureKind.TIMEOUT,
    message="it waited for a worker longer than its `wait_limit_seconds`, or the service's own limit, allow; retry it, "
    "submit it with a longer limit, a higher priority or fewer `needs`, or ask the operator for more workers",
)


@dataclass(frozen=True)
class Reaped:
    """What was taken back from workers whose lease ran out, and what has waited too long, by id."""

    requeued: list[str] = field(default_factory=list)  # jobs that wait again
    failed: list[str] = field(default_factory=list)  # jobs that lost too many workers
    expired: list[str] = field(default_factory=list)  # jobs that waited longer than their limit
    cancelled: list[str] = field(default_factory=list)  # jobs that were to be cancelled anyway
    requeued_uploads: list[str] = field(default_factory=list)  # models and data sets to be inspected again
    rejected_uploads: list[str] = field(default_factory=list)  # models and data sets that lost too many inspectors


def reap(session: Session, max_attempts: int) -> Reaped:
    """Take back what is held by workers whose lease ran out, and end what has waited longer than its limit.

    A lost worker's job waits again, until it has lost `max_attempts` workers since it was last asked for: then it
    fails.
    """
    failure = Failure(
        kind=FailureKind.WORKER_LOST,
        message=f"{max_attempts} workers were lost while they worked on this job, the last without a word; it may need "
        "more memory than they have. See the workers' logs, make the job smaller, or retry it",
    )
    reason = "the worker was lost"
    given_up, requeued = lose_once_more(
        session, _lapsed(JobState.RUNNING), failure=failure, max_attempts=max_attempts, reason=reason
    )
    stopped = move(
        session,
        JobState.CANCELLING,
        JobState.CANCELLED,
        _lapsed(JobState.CANCELLING),
        reason=reason,
        finished_at=now(),
        **NOBODYS,
    )
    for job in stopped:
        close_attempt(session, job, "lost", reason)
    expired = move(
        session,
        JobState.QUEUED,
        JobState.FAILED,
        _overdue(JobState.QUEUED, "wait_expires_at"),
        reason=WAITED_TOO_LONG.message,
        failure=WAITED_TOO_LONG,
        finished_at=now(),
    )
    requeued_uploads, rejected_uploads = reap_inspections(session, max_attempts)
    return Reaped(
        requeued=[job.job_id for job in requeued],
        failed=[job.job_id for job in given_up],
        expired=[job.job_id for job in expired],
        cancelled=[job.job_id for job in stopped],
        requeued_uploads=requeued_uploads,
        rejected_uploads=rejected_uploads,
    )


def lose_once_more(
    session: Session, which: ColumnElement[bool], *, failure: Failure, max_attempts: int, reason: str
) -> tuple[list[Moved], list[Moved]]:
    """Take running jobs back from attempts that were lost: those that fail for it, and those that wait again."""
    lost = {**NOBODYS, "losses": Job.losses + 1}
    given_up = move(
        session,
        JobState.RUNNING,
        JobState.FAILED,
        which,
        Job.losses + 1 >= max_attempts,
        reason=failure.message,
        failure=failure,
        finished_at=now(),
        **lost,
    )
    requeued = move(
        session,
        JobState.RUNNING,
        JobState.QUEUED,
        which,
        Job.losses + 1 < max_attempts,
        reason=reason,
        **{**WAITING, **lost},
    )
    for job in (*given_up, *requeued):
        close_attempt(session, job, "lost", reason)
    return given_up, requeued


def _lapsed(state: JobState) -> ColumnElement[bool]:
    return _overdue(state, "lease_expires_at")


def _overdue(state: JobState, deadline: Literal["lease_expires_at", "wait_expires_at"]) -> ColumnElement[bool]:
    # Rows that another reaper, a late heartbeat or a claim is just writing are left to it.
    jobs = Job.__table__
    candidate = jobs.alias()
    overdue = (
        select(candidate.c.id)
        .where(candidate.c.state == state, candidate.c[deadline] < now())
        .with_for_update(skip_locked=True)
    )
    return and_(Job.id.in_(overdue), jobs.c[deadline] < now())
