"""Alembic, driven from the program: the scripts lie in `db/migrations`, there is no ini file."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import Script, ScriptDirectory
from sqlalchemy import Connection, text

from db.errors import UnusableDatabase

FOLDER = Path(__file__).parent / "migrations"
_LOCK = 0x6D6F64656C707265  # "modelpre": any number that no other program on the server uses


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Run the migrations up to `revision` inside the connection's transaction, alone.

    Raises UnusableDatabase when the database was migrated by a newer version of this program, or when a migration
    left a broken reference.
    """
    _lock(connection)
    found = current(connection)
    if found is not None and found not in {script.revision for script in _scripts().walk_revisions()}:
        raise UnusableDatabase(
            f"the database is at revision {found!r}, which this version does not know; run the version that wrote it, "
            "or a newer one"
        )
    command.upgrade(_config(connection), revision)
    _check_references(connection)


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


def _lock(connection: Connection) -> None:
    # SQLite's transaction has begun with BEGIN IMMEDIATE, which is such a lock.
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})


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
