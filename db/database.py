"""One database: SQLite in a file, or PostgreSQL; where sessions come from.

SQLite is opened so that it neither loses nor locks: a writing transaction begins with BEGIN IMMEDIATE (a deferred one
that later wants to write fails at once when another writes), every commit is synced to disk, and the write-ahead log
is used only with a library that has no known way to corrupt it.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, ExceptionContext, NullPool, create_engine, event, make_url, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, OperationalError
from sqlalchemy.orm import Session

from db import migrate
from db.errors import UnusableDatabase

log = logging.getLogger(__name__)

BUSY_SECONDS = 30.0  # how long SQLite waits for another process's transaction
_READ_ONLY = "modelpress_read_only"
# Made at need and then kept: those that overflow a pool are closed after each use, and many polls at once would open
# one each. The last one used comes first, so that what one rush needed lies idle after it.
_POOL: dict[str, Any] = {"pool_size": 32, "max_overflow": 0, "pool_use_lifo": True}

FROZEN_SECONDS = 10.0
"""A process that freezes within a transaction is cut off by PostgreSQL after so long, and its locks are free again."""

# A server whose machine or way is gone says nothing: the kernel asks a silent one for a sign of life, and gives it up
# within about half a minute. Else a process would wait for its answer for the two hours that Linux does.
_SILENCE: dict[str, int] = {
    "keepalives_idle": 10,  # seconds
    "keepalives_interval": 5,  # seconds
    "keepalives_count": 4,
    "tcp_user_timeout": 30_000,  # milliseconds
}

# SQLSTATE of what it then hears, once it goes on: idle_in_transaction_session_timeout.
_CUT_OFF = "25P03"


def journal_mode(version: tuple[int, int, int]) -> str:
    """Journal for this version of the SQLite library: WAL, or DELETE where WAL may corrupt the database.

    Versions 3.7.0 to 3.51.2 have a race at the reset of the log (https://sqlite.org/wal.html, "the WAL-reset bug").
    """
    return "DELETE" if (3, 7, 0) <= version <= (3, 51, 2) else "WAL"


class Database:
    """A database and its connections. One per process; safe to use from several threads."""

    def __init__(self, url: URL) -> None:
        self._url = url
        self._engine = _make_engine(url)
        self._reader = self._engine.execution_options(**{_READ_ONLY: True, "postgresql_readonly": True})

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return self._engine.dialect.name

    @contextmanager
    def session(self, *, read_only: bool = False) -> Iterator[Session]:
        """One transaction: committed at the end of the block, rolled back when it raises.

        Rows stay usable after it. A writing session holds SQLite's one write lock, and a reading one keeps a writer
        from committing: keep the block short. A write in a read-only session raises sqlalchemy.exc.DBAPIError.
        """
        with Session(self._reader if read_only else self._engine, expire_on_commit=False) as session, session.begin():
            yield session

    def migrate(self) -> None:
        """Bring the tables to the newest revision. Processes that start at once wait for one another.

        On PostgreSQL others may work with them meanwhile; on SQLite writers wait. Newer tables that serve this code
        are left as they are. Raises UnusableDatabase when they do not serve it.
        """
        engine = _make_engine(self._url, for_migration=True)
        try:
            if engine.dialect.name == "postgresql":
                migrate.upgrade_beside(engine)
                return
            with engine.begin() as connection:
                migrate.upgrade(connection)
        finally:
            engine.dispose()

    def revision(self) -> str | None:
        """Revision of the tables; None for an empty database."""
        with self._reader.connect() as connection:
            return migrate.current(connection)

    def is_compatible(self) -> bool:
        """True when this code can work with the tables: they are its own, or newer ones that say they serve it."""
        with self._reader.connect() as connection:
            return migrate.is_compatible(connection)

    def ping(self) -> None:
        """Ask the database for a sign of life. Raises sqlalchemy.exc.SQLAlchemyError when there is none."""
        with self._reader.connect() as connection:
            connection.execute(text("SELECT 1"))

    def dispose(self) -> None:
        """Close every connection; one that is in use, when it comes back. Whoever asks after that gets new ones."""
        pool = self._engine.pool
        self._engine.dispose()
        # It would keep what comes back, open, for nobody. Not before: the pool that takes its place listens alike.
        event.listen(pool, "checkin", _close)
        pool.dispose()  # of what came back in between


def _close(connection: DBAPIConnection | None, _record: object) -> None:
    if connection is not None:
        connection.close()


def open_database(url: str) -> Database:
    """Open the database at `url`: `sqlite:////path/to/file.db` or `postgresql://user:password@host/name`.

    Does not connect yet. Raises UnusableDatabase when the address cannot be used.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise UnusableDatabase("the database's address is not a URL such as postgresql://user@host/name") from error
    if parsed.drivername in ("postgres", "postgresql", "postgresql+psycopg"):
        return Database(parsed.set(drivername="postgresql+psycopg"))
    if parsed.drivername not in ("sqlite", "sqlite+pysqlite"):
        raise UnusableDatabase(f"{parsed.drivername!r} is no database this can use; use sqlite or postgresql")
    if not parsed.database or parsed.database == ":memory:":
        raise UnusableDatabase(
            "SQLite in memory cannot be shared by processes; name a file: sqlite:////path/to/file.db"
        )
    folder = Path(parsed.database).parent
    if not folder.is_dir():
        raise UnusableDatabase(f"the folder {str(folder)!r} of the SQLite file does not exist; make it first")
    mode = journal_mode(sqlite3.sqlite_version_info)
    log.info("SQLite %s, journal %s, synchronous FULL", sqlite3.sqlite_version, mode)
    return Database(parsed)


def _make_engine(url: URL, *, for_migration: bool = False) -> Engine:
    # One that migrates keeps no connection, and the next has settings of its own.
    pool: dict[str, Any] = {"poolclass": NullPool} if for_migration else _POOL
    if url.get_backend_name() == "sqlite":
        return _make_sqlite_engine(url, pool, foreign_keys=not for_migration)
    return _make_postgresql_engine(url, pool, for_migration=for_migration)


def _make_postgresql_engine(url: URL, pool: dict[str, Any], *, for_migration: bool) -> Engine:
    settings = {"options": f"-c lock_timeout={migrate.LOCK_SECONDS}s"} if for_migration else {}
    engine = create_engine(
        url,
        connect_args={"application_name": "modelpress", "connect_timeout": 10, **_SILENCE, **settings},
        pool_pre_ping=not for_migration,
        **pool,
    )
    if for_migration:
        return engine  # a migration may take its time between two statements

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: object) -> None:
        # Else a job whose worker froze in the midst of a write would stay locked, and be nobody's, until it goes on.
        connection.execute(f"SET idle_in_transaction_session_timeout = {FROZEN_SECONDS * 1000:.0f}")
        connection.commit()

    @event.listens_for(engine, "handle_error")
    def _as_lost_connection(context: ExceptionContext) -> OperationalError | None:
        # The driver has it as an internal error; to us it is one of those that pass when asked again.
        if getattr(context.original_exception, "sqlstate", None) != _CUT_OFF:
            return None
        context.is_disconnect = True
        return OperationalError(context.statement, None, context.original_exception)

    return engine


def _make_sqlite_engine(url: URL, pool: dict[str, Any], *, foreign_keys: bool) -> Engine:
    engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS}, **pool)
    mode = journal_mode(sqlite3.sqlite_version_info)

    @event.listens_for(engine, "connect")
    def _prepare(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # the driver begins no transaction of its own: _begin does
        connection.execute(f"PRAGMA journal_mode={mode}")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(f"PRAGMA foreign_keys={'ON' if foreign_keys else 'OFF'}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        read_only = connection.get_execution_options().get(_READ_ONLY, False)
        connection.exec_driver_sql(f"PRAGMA query_only={'ON' if read_only else 'OFF'}")
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    return engine
