"""How much work there is, over all teams: for figures, not for callers."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from db.clock import now
from db.models import Job
from modelpress.spec.state import JobState


@dataclass(frozen=True)
class Backlog:
    """The jobs there are."""

    jobs: dict[JobState, int]  # number of jobs by state; states without jobs are left out
    oldest_waiting_seconds: float  # since when the next job in the queue waits; 0 when none does


def backlog(session: Session) -> Backlog:
    """The jobs there are at this moment."""
    counts = session.execute(select(Job.state, func.count()).group_by(Job.state)).tuples().all()
    oldest = select(func.min(Job.queued_at)).where(Job.state == JobState.QUEUED).scalar_subquery()
    since, present = session.execute(select(oldest, now())).tuples().one()
    waited = 0.0 if since is None else max(0.0, (present - since).total_seconds())
    return Backlog(jobs=dict(counts), oldest_waiting_seconds=waited)
