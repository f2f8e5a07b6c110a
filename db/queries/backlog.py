"""How much work there is, over all teams: for figures, not for callers.

Jobs that are over are not counted: that would take longer with each of them, at every look.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from db.clock import now
from db.models import Job
from modelpress.spec.state import UNFINISHED_STATES, JobState


@dataclass(frozen=True)
class Backlog:
    """The jobs that are not over."""

    jobs: dict[JobState, int]  # number by state; states without jobs are left out
    oldest_waiting_seconds: float  # since when the next job in the queue waits; 0 when none does


def backlog(session: Session) -> Backlog:
    """The jobs that are not over at this moment."""
    unfinished = select(Job.state, func.count()).where(Job.state.in_(UNFINISHED_STATES)).group_by(Job.state)
    counts = session.execute(unfinished).tuples().all()
    oldest = select(func.min(Job.queued_at)).where(Job.state == JobState.QUEUED).scalar_subquery()
    since, present = session.execute(select(oldest, now())).tuples().one()
    waited = 0.0 if since is None else max(0.0, (present - since).total_seconds())
    return Backlog(jobs=dict(counts), oldest_waiting_seconds=waited)
