"""The fence around what a worker writes: it counts only while the job still is that attempt's."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, update
from sqlalchemy.orm import Session

from db.models import Job
from modelpress.spec.state import JobState

HELD = (JobState.RUNNING, JobState.CANCELLING)


def held(job_id: str, attempt: int) -> ColumnElement[bool]:
    """True for the row of a job that this attempt holds."""
    return (Job.id == job_id) & (Job.attempt == attempt) & Job.state.in_(HELD)


def write(session: Session, job_id: str, attempt: int, **values: Any) -> bool:
    """Write something that a reader sees, and lock the row; False when the job is no longer this attempt's."""
    written = session.scalar(
        update(Job)
        .where(held(job_id, attempt))
        .values(version=Job.version + 1, **values)
        .returning(Job.id)
        .execution_options(synchronize_session=False)
    )
    return written is not None
