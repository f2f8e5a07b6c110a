"""How much work there is, over all teams: for figures, not for callers.

Jobs that are over are not counted: that would take longer with each of them, at every look.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

from db.clock import now
from db.models import Attempt, Job
from modelpress.spec.state import UNFINISHED_STATES, JobState


@dataclass(frozen=True)
class Backlog:
    """The jobs that are not over."""

    jobs: dict[JobState, int]  # number by state; states without jobs are left out
    oldest_waiting_seconds: float  # that any job waits without a worker; 0 when none does


def backlog(session: Session) -> Backlog:
    """The jobs that are not over at this moment."""
    unfinished = select(Job.state, func.count()).where(Job.state.in_(UNFINISHED_STATES)).group_by(Job.state)
    counts = session.execute(unfinished).tuples().all()
    # `queued_at` is its place in the queue, which a job keeps when its worker is lost or stopped: it waits since then.
    waits_since = case((Attempt.finished_at > Job.queued_at, Attempt.finished_at), else_=Job.queued_at)
    oldest = (
        select(func.min(waits_since))
        .select_from(Job)
        .outerjoin(Attempt, (Attempt.job_id == Job.id) & (Attempt.number == Job.attempt))
        .where(Job.state == JobState.QUEUED)
        .scalar_subquery()
    )
    since, present = session.execute(select(oldest, now())).tuples().one()
    waited = 0.0 if since is None else max(0.0, (present - since).total_seconds())
    return Backlog(jobs=dict(counts), oldest_waiting_seconds=waited)
