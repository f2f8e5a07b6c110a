"""Whose turn it is: the rule by which workers take jobs.

0. Only jobs count whose needs the asking worker fulfils.
1. Of the teams with a job that waits, the one of which workers hold the fewest jobs comes first; of several, the one
   that was served longest ago.
2. Of its jobs, the one of the highest priority; of several, the one that waits longest.

So no team's hundred jobs delay another's first one, and where every team has work, each holds the same number of
workers. A priority orders the jobs of one team and says nothing to other teams.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, ScalarSelect, and_, exists, func, or_, select, true, update
from sqlalchemy.orm import Session, aliased

from db.clock import now
from db.models import Job, Team
from db.postgresql import is_postgresql
from db.queries.transitions import HELD
from modelpress.spec.needs import Capacity
from modelpress.spec.state import JobState

# Any number that no other lock on the server has.
_CLAIM_LOCK = 0x6D6F64656C636C6D  # "modelclm"


def await_turn(session: Session) -> None:
    """Let claims happen one after the other, until this session ends.

    Fifty workers that ask in the same moment would all find the same team to be next. One that freezes meanwhile is
    cut off (`db.database.FROZEN_SECONDS`). On SQLite a writing session is alone already.
    """
    if is_postgresql(session):
        session.execute(select(func.pg_advisory_xact_lock(_CLAIM_LOCK)))


def has_waiting_jobs(session: Session, capacity: Capacity | None = None) -> bool:
    """True when a job waits that a worker with this capacity can take (None: one that can take any)."""
    # In the order of an index: else PostgreSQL may look for the one row from the oldest job of all on.
    oldest = select(Job.id).where(_waits(Job, capacity)).order_by(Job.queued_at, Job.id).limit(1)
    return session.scalar(oldest) is not None


def next_job(capacity: Capacity | None = None) -> ScalarSelect[Any]:
    """Id of the job that is next for a worker with this capacity (None: one that can take any).

    A row that somebody is just writing (it may be cancelled) is left out.
    """
    waiting, held, candidate = aliased(Job), aliased(Job), aliased(Job)
    has_work = exists().where(waiting.team_id == Team.id, _waits(waiting, capacity))
    holding = select(func.count()).where(held.state.in_(HELD), held.team_id == Team.id).scalar_subquery()
    team = (
        select(Team.id).where(has_work).order_by(holding, func.coalesce(Team.turn, 0), Team.id).limit(1)
    ).scalar_subquery()
    return (
        select(candidate.id)
        .where(_waits(candidate, capacity), candidate.team_id == team)
        .order_by(candidate.priority.desc(), candidate.queued_at, candidate.id)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )


def note_turn(session: Session, team_id: str) -> None:
    """The team was served just now."""
    newest = select(func.coalesce(func.max(Team.turn), 0)).scalar_subquery()
    session.execute(
        update(Team).where(Team.id == team_id).values(turn=newest + 1).execution_options(synchronize_session=False)
    )


def _waits(job: type[Job], capacity: Capacity | None) -> ColumnElement[bool]:
    # One that has waited too long is the reaper's, even if no worker was there to reap it in time.
    in_time = or_(job.wait_expires_at.is_(None), job.wait_expires_at > now())
    return and_(job.state == JobState.QUEUED, in_time, true() if capacity is None else _fits(job, capacity))


def _fits(job: type[Job], capacity: Capacity) -> ColumnElement[bool]:
    # As `Capacity.lacks` has it.
    is_cuda = capacity.device == "cuda"
    return and_(
        job.needs_device.in_(("any", capacity.device)),
        job.needs_cores <= capacity.cores,
        job.needs_memory_bytes <= capacity.memory_bytes,
        job.needs_gpu_memory_bytes <= capacity.gpu_memory_bytes,
        (job.least_cuda_memory_bytes if is_cuda else job.least_cpu_memory_bytes) <= capacity.memory_bytes,
        job.least_gpu_memory_bytes <= capacity.all_gpu_memory_bytes if is_cuda else true(),
    )
