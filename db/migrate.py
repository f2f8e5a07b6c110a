"""Alembic, driven from the program: the scripts lie in `db/migrations`, there is no ini file.

Each migration from 0008 on declares `compatible_from`, the oldest revision whose code goes on with its tables: at
least the one before it. The tables keep that word in `compatibility`, so that code which does not know their revision
yet can read it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import Script, ScriptDirectory
from sqlalchemy import Connection, Engine, inspect, select, text
from sqlalchemy.exc import OperationalError

from db.errors import UnusableDatabase
from db.index_migration import BESIDE_OTHERS
from db.models import Compatibility

FOLDER = Path(__file__).parent / "migrations"
LOCK_SECONDS = 2
"""How long a statement of an upgrade waits for a table. Whoever comes to the table meanwhile waits behind it."""

_TRIES = 60
_LOCK = 0x6D6F64656C707265  # "modelpre": any number that no other program on the server uses
_LOCK_NOT_AVAILABLE = "55P03"


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Run the migrations up to `revision` inside the connection's transaction, alone.

    Tables of a newer revision that serve this code are left as they are. Raises UnusableDatabase when they do not
    serve it, or when a migration left a broken reference.
    """
    _lock(connection)
    if _is_newer(connection):
        return
    command.upgrade(_config(connection), revision)
    _check_references(connection)


def upgrade_beside(engine: Engine) -> None:
    """Run all migrations on PostgreSQL while other processes work with the tables, alone.

    `engine` has `lock_timeout` set to LOCK_SECONDS. Each migration is a transaction of its own, and tried again where
    it met somebody who held a table for longer. Raises UnusableDatabase as `upgrade` does, or when a table was never
    free.
    """
    with _alone(engine):
        for left in reversed(range(_TRIES)):
            try:
                _upgrade_once(engine)
                return
            except OperationalError as error:
                if getattr(error.orig, "sqlstate", None) != _LOCK_NOT_AVAILABLE:
                    raise
                if not left:
                    raise UnusableDatabase(
                        "the tables could not be changed: for minutes a transaction held one of them. Find it in "
                        "pg_stat_activity (a backup, or a session that was forgotten), end it, and migrate again"
                    ) from error
            time.sleep(1)


def downgrade(connection: Connection, revision: str) -> None:
    """Undo the migrations down to `revision` (`base` for all), inside the connection's transaction, alone."""
    _lock(connection)
    command.downgrade(_config(connection), revision)
    _check_references(connection)


def write(connection: Connection, message: str, folder: Path = FOLDER) -> Path:
    """Write the migration from the connection's tables to those of the models, as a new script under `folder`."""
    number = int(head() or 0) + 1
    config = _config(connection)
    versions = folder / "versions"
    config.set_main_option("version_locations", f"{FOLDER / 'versions'}\n{versions}".replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    config.set_main_option("file_template", "%%(rev)s_%%(slug)s")
    script = command.revision(config, message, autogenerate=True, rev_id=f"{number:04d}", version_path=str(versions))
    if not isinstance(script, Script):
        raise TypeError(f"one migration was asked for, got {script!r}")
    return Path(script.path)


def current(connection: Connection) -> str | None:
    """Revision that the database is at; None when it is empty."""
    return MigrationContext.configure(connection).get_current_revision()


def head() -> str | None:
    """Revision that this code expects."""
    return _scripts().get_current_head()


def is_compatible(connection: Connection) -> bool:
    """True when this code can work with the tables: they are its own, or newer ones that say that they serve it."""
    found = current(connection)
    return found == head() or (found is not None and found not in _known() and _serves(connection))


def compatible_from(script: Script) -> str:
    """The oldest revision whose code goes on with the tables of this one."""
    declared: str = getattr(script.module, "compatible_from", script.revision)
    return declared


def _upgrade_once(engine: Engine) -> None:
    with engine.connect() as connection:
        if _is_newer(connection):
            return
        connection.rollback()  # of the look: Alembic begins its own transactions
        config = _config(connection)
        config.attributes[BESIDE_OTHERS] = True
        command.upgrade(config, "head")


def _is_newer(connection: Connection) -> bool:
    """True when the tables are of a later version and serve this code. Raises UnusableDatabase when they do not."""
    found = current(connection)
    if found is None or found in _known():
        return False
    if not _serves(connection):
        raise UnusableDatabase(
            f"the database is at revision {found!r}, which this version does not know and which does not serve it; "
            "run the version that wrote it, or a newer one"
        )
    return True


def _serves(connection: Connection) -> bool:
    if not inspect(connection).has_table(Compatibility.__tablename__):
        return False
    return connection.scalar(select(Compatibility.oldest_revision)) in _known()


def _known() -> set[str]:
    return {script.revision for script in _scripts().walk_revisions()}


def _lock(connection: Connection) -> None:
    # SQLite's transaction has begun with BEGIN IMMEDIATE, which is such a lock.
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})


@contextmanager
def _alone(engine: Engine) -> Iterator[None]:
    # By a connection of its own, and asked for again and again: one that waited for the lock inside a statement would
    # keep an index from being made concurrently, which waits for every statement that began before.
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        while not connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": _LOCK}):
            time.sleep(0.1)
        yield  # the lock goes with the connection


def _check_references(connection: Connection) -> None:
    # Foreign keys are off while SQLite's tables are rebuilt; nothing else would notice a row left without its parent.
    if connection.dialect.name == "sqlite":
        broken = connection.execute(text("PRAGMA foreign_key_check")).all()
        if broken:
            raise UnusableDatabase(f"the migration left {len(broken)} broken references, the first is {broken[0]}")


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def _scripts() -> ScriptDirectory:
    return ScriptDirectory(str(FOLDER))
