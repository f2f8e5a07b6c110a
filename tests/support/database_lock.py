"""The locks of a process that was frozen in the midst of a transaction, where the database cannot take them back."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from sqlalchemy import make_url, text

from db.database import open_database
from db.queries.uploads import DROPPING
from tests.support.patience import comes_true

# Any transaction of another process is done by then.
_LOCK_SECONDS = 2.0


def is_locked(database_url: str) -> bool:
    """Whether somebody keeps others waiting until it goes on itself; see docs/operations.md.

    On SQLite that is anybody in the midst of a write, or, without WAL, of a read: its one lock nobody can take from a
    living process. On PostgreSQL it is whoever is dropping bytes, and those wait who would store the same.
    """
    url = make_url(database_url)
    return _is_locked_file(str(url.database)) if url.get_backend_name() == "sqlite" else _is_dropping(database_url)


def _is_locked_file(path: str) -> bool:
    with closing(sqlite3.connect(path, timeout=_LOCK_SECONDS, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN EXCLUSIVE")
            connection.execute("ROLLBACK")
        except sqlite3.OperationalError:
            return True
    return False


def _is_dropping(database_url: str) -> bool:
    database = open_database(database_url)
    query = text("SELECT count(*) FROM pg_stat_activity WHERE application_name = :name")

    def is_free() -> bool:
        with database.session(read_only=True) as session:
            return not session.scalar(query, {"name": DROPPING})

    try:
        return not comes_true(is_free, _LOCK_SECONDS)
    finally:
        database.dispose()
