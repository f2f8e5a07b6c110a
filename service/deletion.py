"""Jobs that are deleted: first their rows, then the bytes that no other row names."""

from __future__ import annotations

from collections.abc import Callable

import structlog
from sqlalchemy.exc import SQLAlchemyError

from db.database import Database
from db.errors import InvalidTransition, NotFound
from db.queries.deletion import delete_job, jobs_ended_before
from service.stored_bytes import drop_after_delete
from storage.store import Store

log = structlog.stdlib.get_logger(__name__)


def delete_job_and_bytes(
    database: Database, store: Store, team_id: str, job_id: str, *, ended_seconds_ago: float | None = None
) -> None:
    """Delete a job that is over, with its files.

    Raises what `db.queries.deletion.delete_job` does.
    """
    with database.session() as session:
        hashes = delete_job(session, team_id, job_id, ended_seconds_ago=ended_seconds_ago)
    drop_after_delete(database, store, *hashes)


def delete_old_jobs(database: Database, store: Store, seconds: float, is_stopped: Callable[[], bool]) -> int:
    """Delete the jobs that ended so many seconds ago or longer, until there are none or it is told to stop; how many.

    One that cannot be deleted, as somebody holds a row of it, is left to the next one who looks. Raises sqlalchemy's
    errors when the database does not answer.
    """
    number = 0
    left: set[str] = set()
    while old := _old_jobs(database, seconds, left):
        for team_id, job_id in old:
            if is_stopped():
                return number
            try:
                delete_job_and_bytes(database, store, team_id, job_id, ended_seconds_ago=seconds)
                number += 1
            except (NotFound, InvalidTransition):
                left.add(job_id)  # its owner was first, with a deletion or a retry
            except SQLAlchemyError as error:
                log.warning("job_not_deleted", job_id=job_id, error=f"{type(error).__name__}: {error}")
                left.add(job_id)
                break  # it may be the database: that is seen by the next look
    return number


def _old_jobs(database: Database, seconds: float, left: set[str]) -> list[tuple[str, str]]:
    with database.session(read_only=True) as session:
        return jobs_ended_before(session, seconds, but=left)
