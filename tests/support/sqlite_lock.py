"""SQLite's one lock, which a process that was frozen in the midst of a transaction keeps."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from sqlalchemy import make_url

# Any transaction of another process is done by then.
_LOCK_SECONDS = 2.0


def is_locked(database_url: str) -> bool:
    """Whether somebody keeps others from writing to SQLite: its one lock nobody can take from a living process.

    Without WAL a reader does so, too. Then nothing is written by anybody until it goes on; see docs/operations.md.
    PostgreSQL takes a lock back.
    """
    url = make_url(database_url)
    if url.get_backend_name() != "sqlite":
        return False
    with closing(sqlite3.connect(str(url.database), timeout=_LOCK_SECONDS, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN EXCLUSIVE")
            connection.execute("ROLLBACK")
        except sqlite3.OperationalError:
            return True
    return False
