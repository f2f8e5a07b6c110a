"""What the first steps of jobs made: kept for longer recipes, up to a limit, and dropped behind it."""

from __future__ import annotations

from db.database import Database
from db.queries import step_results
from storage.store import Store
from worker.checkpoint_keeper import drop_each


def clear_step_results(database: Database, store: Store, limit_bytes: int) -> int:
    """Drop those that were superseded, and each team's least used ones above so many bytes; gives how many.

    Raises StorageError and sqlalchemy's errors: what is left then is left to the next one who looks.
    """
    number = 0
    while dropped := drop_each(database, store, _unneeded(database, limit_bytes), step_results.drop_step_result):
        number += dropped
    return number


def _unneeded(database: Database, limit_bytes: int) -> list[tuple[str, str]]:
    with database.session(read_only=True) as session:
        return step_results.unneeded_step_results(session, limit_bytes)
