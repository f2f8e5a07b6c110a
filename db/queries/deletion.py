"""Jobs that are deleted, by their owner or because they ended long ago: their rows, and which bytes these named."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from db.clock import now_plus
from db.errors import InvalidTransition, NotFound
from db.models import Artifact, Attempt, Checkpoint, Event, Job, JobStudent, Metric, Model, StepResult
from db.postgresql import is_postgresql, set_until_end
from modelpress.spec.state import FINAL_STATES

NAMING_BYTES = (Artifact, Checkpoint, StepResult)
_BELOW = (*NAMING_BYTES, Attempt, Event, Metric, JobStudent)

LOCK_SECONDS = 2
"""How long a deletion waits for a row on PostgreSQL. Whoever drops a checkpoint holds its row as long as the store
takes for the bytes, and whoever wants the job's result waits behind the deletion."""


def delete_job(session: Session, team_id: str, job_id: str, *, ended_seconds_ago: float | None = None) -> list[str]:
    """Delete a job that is over, with everything that refers to it.

    Gives the hashes of its bytes: to be dropped after the session, unless another row names them. Jobs that were given
    its result keep it. Models that were uploaded from its files stay, and no longer say where they come from.

    Raises NotFound, also when it ended later than `ended_seconds_ago`; InvalidTransition while it is not over;
    sqlalchemy's OperationalError when somebody holds one of its rows for too long.
    """
    if is_postgresql(session):
        set_until_end(session, lock_timeout=f"{LOCK_SECONDS}s")
    # Whoever gives its result to another job, or uploads one of its files, holds the row, too: the bytes are dropped
    # when that one's rows name them. The state alone is read, so that a spec of another version is in nobody's way.
    query = select(Job.state).where(Job.id == job_id, Job.team_id == team_id)
    if ended_seconds_ago is not None:
        query = query.where(Job.finished_at < now_plus(-ended_seconds_ago))
    state = session.scalar(query.with_for_update())
    if state is None:
        raise NotFound("job", job_id)
    if not state.final:
        raise InvalidTransition(state, "deleted: wait for its end, or cancel it first")
    hashes = {
        sha256
        for table in NAMING_BYTES
        for sha256 in session.scalars(select(table.sha256).where(table.job_id == job_id))
    }
    _forget_origin(session, team_id, job_id, hashes)
    for table in _BELOW:
        session.execute(delete(table).where(table.job_id == job_id).execution_options(synchronize_session=False))
    session.execute(delete(Job).where(Job.id == job_id).execution_options(synchronize_session=False))
    return sorted(hashes)


def jobs_ended_before(
    session: Session, seconds: float, *, but: Collection[str] = (), limit: int = 100
) -> list[tuple[str, str]]:
    """Teams and ids of jobs that ended so many seconds ago or longer, the oldest first, without those in `but`."""
    old = (Job.finished_at < now_plus(-seconds), Job.state.in_(FINAL_STATES), Job.id.not_in(but))
    return list(
        session.execute(select(Job.team_id, Job.id).where(*old).order_by(Job.finished_at).limit(limit)).tuples()
    )


def _forget_origin(session: Session, team_id: str, job_id: str, hashes: Collection[str]) -> None:
    # In the order in which a new job takes its models.
    uploaded = session.execute(
        select(Model.id, Model.derived_from)
        .where(Model.sha256.in_(hashes), Model.team_id == team_id, Model.derived_from.is_not(None))
        .order_by(Model.id)
        .with_for_update()
    )
    derived = [model_id for model_id, origin in uploaded if origin is not None and origin.job == job_id]
    session.execute(
        update(Model)
        .where(Model.id.in_(derived))
        .values(derived_from=None)
        .execution_options(synchronize_session=False)
    )
