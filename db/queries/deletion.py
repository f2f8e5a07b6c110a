"""Jobs that are deleted, by their owner or because they ended long ago: their rows, and which bytes these named."""

from __future__ import annotations

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from db.clock import now_plus
from db.errors import InvalidTransition
from db.models import Artifact, Attempt, Checkpoint, Event, Job, JobStudent, Metric, Model, StepResult
from db.queries.jobs import locked_job

_NAMING_BYTES = (Artifact, Checkpoint, StepResult)
_BELOW = (*_NAMING_BYTES, Attempt, Event, Metric, JobStudent)


def delete_job(session: Session, team_id: str, job_id: str) -> list[str]:
    """Delete a job that is over, with everything that refers to it.

    Gives the hashes of its bytes: to be dropped after the session, unless another row names them. Jobs that were given
    its result keep it. Models that were uploaded from its files stay, and no longer say where they come from.

    Raises NotFound; InvalidTransition while the job is not over.
    """
    # Whoever gives its result to another job holds the row, too: the bytes are dropped when that one names them.
    job = locked_job(session, team_id, job_id)
    if not job.state.final:
        raise InvalidTransition(job.state, "deleted: wait for its end, or cancel it first")
    hashes = {
        sha256
        for table in _NAMING_BYTES
        for sha256 in session.scalars(select(table.sha256).where(table.job_id == job_id))
    }
    uploaded = session.execute(
        select(Model.id, Model.derived_from).where(
            Model.sha256.in_(hashes), Model.team_id == team_id, Model.derived_from.is_not(None)
        )
    )
    derived = [model_id for model_id, origin in uploaded if origin is not None and origin.job == job_id]
    session.execute(update(Model).where(Model.id.in_(derived)).values(derived_from=None), execution_options=_UNSEEN)
    for table in _BELOW:
        session.execute(delete(table).where(table.job_id == job_id), execution_options=_UNSEEN)
    session.expunge(job)
    session.execute(delete(Job).where(Job.id == job_id), execution_options=_UNSEEN)
    return sorted(hashes)


# Nothing of what these statements change is looked at again in their session.
_UNSEEN = {"synchronize_session": False}


def jobs_ended_before(session: Session, seconds: float, limit: int = 100) -> list[tuple[str, str]]:
    """Teams and ids of jobs that ended so many seconds ago or longer, the oldest first."""
    query = select(Job.team_id, Job.id).where(Job.finished_at < now_plus(-seconds)).order_by(Job.finished_at)
    return list(session.execute(query.limit(limit)).tuples())
