"""Jobs that are deleted: first their rows, then the bytes that no other row names."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from db.database import Database
from db.errors import InvalidTransition, NotFound
from db.queries.deletion import delete_job, jobs_ended_before
from service.stored_bytes import drop_after_delete
from storage.store import Store


def delete_job_and_bytes(database: Database, store: Store, team_id: str, job_id: str) -> None:
    """Delete a job that is over, with its files. Raises NotFound, and InvalidTransition while it is not over."""
    with database.session() as session:
        hashes = delete_job(session, team_id, job_id)
    drop_after_delete(database, store, *hashes)


def delete_old_jobs(database: Database, store: Store, seconds: float, is_stopped: Callable[[], bool]) -> int:
    """Delete the jobs that ended so many seconds ago or longer, until there are none or it is told to stop; how many.

    Raises sqlalchemy's errors: what is left then is left to the next one who looks.
    """
    number = 0
    while old := _old_jobs(database, seconds):
        for team_id, job_id in old:
            if is_stopped():
                return number
            # Its owner was first, with a deletion or a retry.
            with suppress(NotFound, InvalidTransition):
                delete_job_and_bytes(database, store, team_id, job_id)
                number += 1
    return number


def _old_jobs(database: Database, seconds: float) -> list[tuple[str, str]]:
    with database.session(read_only=True) as session:
        return jobs_ended_before(session, seconds)
