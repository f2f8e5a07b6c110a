"""The one statement that changes a job's state.

It compares and sets, raises the version, and writes the event, so that no change of state is ever silent.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, case, func, select, update
from sqlalchemy.orm import Session

from db.clock import now, now_plus
from db.models import Attempt, Checkpoint, Event, Job
from modelpress.spec.event import StateChanged
from modelpress.spec.state import TRANSITIONS, JobState

HELD = (JobState.RUNNING, JobState.CANCELLING)  # by a worker

# Columns of a job that no worker holds, and of one that waits for the next.
NOBODYS: dict[str, Any] = {"worker": None, "lease_expires_at": None}
WAITING: dict[str, Any] = {
    **NOBODYS,
    "progress": None,
    "started_at": None,
    "wait_expires_at": case((Job.wait_limit_seconds.is_not(None), now_plus(Job.wait_limit_seconds))),
}


@dataclass(frozen=True)
class Moved:
    """A job whose state has changed."""

    job_id: str
    attempt: int


def move(
    session: Session,
    source: JobState,
    target: JobState,
    *where: ColumnElement[bool],
    reason: str | None = None,
    **values: Any,
) -> list[Moved]:
    """Move every job that is in `source` and fulfils `where` to `target`, set `values`, and write the events.

    Returns the jobs that were moved: none when another process was first. Raises ValueError when the state machine
    has no such transition.
    """
    if target not in TRANSITIONS[source]:
        raise ValueError(f"no job goes from {source.value} to {target.value}")
    changed = session.execute(
        update(Job)
        .where(Job.state == source, *where)
        .values(state=target, version=Job.version + 1, last_seq=Job.last_seq + 1, **values)
        .returning(Job.id, Job.attempt, Job.last_seq)
        .execution_options(synchronize_session=False)
    ).all()
    for job_id, attempt, seq in changed:
        write_event(session, job_id, seq, StateChanged(state=target.value, attempt=attempt, reason=reason))
    session.flush()
    return [Moved(job_id, attempt) for job_id, attempt, _ in changed]


def write_event(session: Session, job_id: str, seq: int, event: StateChanged) -> None:
    """Write a change of state under the number that the job's row has given it."""
    session.add(Event(job_id=job_id, seq=seq, attempt=event.attempt, kind=event.kind, event=event))


def close_attempt(session: Session, moved: Moved, outcome: str, reason: str | None = None) -> None:
    """Note how an attempt ended, and why, and what of it counts towards the job's limit for running.

    All of it does, but for one that was lost: then the time up to its last checkpoint. What was done behind that has
    to be done again, and counts then.
    """
    attempt = (Attempt.job_id == moved.job_id) & (Attempt.number == moved.attempt)
    until: ColumnElement[datetime] = now()
    if outcome == "lost":
        kept = select(func.max(Checkpoint.created_at)).where(
            Checkpoint.job_id == moved.job_id, Checkpoint.attempt == moved.attempt
        )
        until = func.coalesce(kept.scalar_subquery(), Attempt.started_at)
    row = session.execute(select(Attempt.started_at, until.label("until")).where(attempt)).one_or_none()
    counted = 0.0 if row is None else max(0.0, (row.until - row.started_at).total_seconds())
    session.execute(
        update(Attempt)
        .where(attempt)
        .values(finished_at=now(), outcome=outcome, reason=reason, counted_seconds=counted)
        .execution_options(synchronize_session=False)
    )
    session.execute(
        update(Job)
        .where(Job.id == moved.job_id)
        .values(run_seconds=Job.run_seconds + counted)
        .execution_options(synchronize_session=False)
    )
