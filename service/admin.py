"""What an operator does on the command line: `python -m service.admin COMMAND`, with the service's own settings.

A key's text goes to standard output alone, and is shown this once: only its hash is kept.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from sqlalchemy.exc import OperationalError

from db.database import Database, open_database
from db.errors import DatabaseError
from db.queries.teams import SCOPES, create_key, find_or_create_team, find_team, list_keys, revoke_key
from service.logs import configure_logs
from service.settings import Settings, SettingsError, read_settings
from service.storage_check import check_storage
from service.store_owner import require_own_store, take_over_store
from service.stored_bytes import GRACE_SECONDS
from storage.open_store import open_store
from storage.store import StorageError

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Administration of a ModelPress service.")

# Exit code of `check-storage` when something is left to do; 1 and 2 say that it could not be carried out.
_LEFT = 3
_COLUMNS = "{:<8}  {:<64}  {:>14}  {:<40}  {}\n"

TeamName = Annotated[str, typer.Option("--team", help="Name of the team.")]


@app.command()
def migrate() -> None:
    """Bring the database to the newest revision; does nothing where it is already there."""
    with _database() as database:
        database.migrate()
        _say(f"the database is at revision {database.revision()}")


@app.command("create-key")
def make_key(
    team: TeamName,
    name: Annotated[str, typer.Option(help="A label for the key, such as who uses it.")] = "",
    scope: Annotated[
        list[str] | None, typer.Option(help="`read` or `write`; give it twice for both (default).")
    ] = None,
) -> None:
    """Make an API key of a team, and the team if there is none of that name."""
    with _database() as database, database.session() as session:
        owner = find_or_create_team(session, team)
        key, plaintext = create_key(session, owner.id, name, frozenset(scope or SCOPES))
        _say(f"key {key.id} of team {owner.name} ({owner.id}), scopes {', '.join(key.scopes)}")
    sys.stdout.write(f"{plaintext}\n")


@app.command("list-keys")
def show_keys(team: TeamName) -> None:
    """List a team's keys: id, scopes, last use, label."""
    with _database() as database:
        owner = _team_id(database, team)
        with database.session(read_only=True) as session:
            keys = list_keys(session, owner)
        for key in keys:
            used = key.last_used_at.isoformat(timespec="minutes") if key.last_used_at else "never used"
            sys.stdout.write(f"{key.id}  {','.join(key.scopes)}  {used}  {key.name}\n")


@app.command("revoke-key")
def end_key(team: TeamName, key: Annotated[str, typer.Argument(help="Id of the key.")]) -> None:
    """End an API key: from the next request on it is refused."""
    with _database() as database:
        owner = _team_id(database, team)
        with database.session() as session:
            revoke_key(session, owner, key)
        _say(f"key {key} is revoked")


@app.command("check-storage")
def compare_storage(
    repair: Annotated[
        bool, typer.Option("--repair", help="Remove what no row names; reject uploads whose bytes are gone.")
    ] = False,
    read: Annotated[bool, typer.Option("--read", help="Read every byte and compare hashes, not sizes alone.")] = False,
    grace_hours: Annotated[
        float, typer.Option(min=1, help="Bytes without a row count only when they are older than this, hours.")
    ] = GRACE_SECONDS / 3600,
    take_over: Annotated[
        bool, typer.Option("--take-over", help="Make the store this database's, whosever it was, before all else.")
    ] = False,
) -> None:
    """Compare rows with bytes: exit code 0 when they agree or are brought to, 3 when something is left to do."""
    found, left = 0, 0
    with _service() as (settings, database):
        store = open_store(
            settings.store_url, credentials=settings.s3_credentials, spool_folder=settings.home / "spool"
        )
        if take_over:
            _say(f"the store is that of the database with the team {take_over_store(database, store)} now")
        if repair:
            require_own_store(database, store)
        for finding in check_storage(database, store, grace_seconds=grace_hours * 3600, read=read, repair=repair):
            if not found:
                sys.stdout.write(_COLUMNS.format("fault", "sha256", "bytes", "named by", "what to do"))
            named_by = ",".join(holder.id for holder in finding.holders) or "-"
            size = "-" if finding.size is None else finding.size
            sys.stdout.write(_COLUMNS.format(finding.fault, finding.sha256, size, named_by, finding.advice))
            sys.stdout.flush()
            found, left = found + 1, left + (not finding.is_repaired)
    _say(f"{found} faults, {found - left} repaired, {left} left" if found else "rows and bytes agree")
    if left:
        raise typer.Exit(_LEFT)


@contextmanager
def _database() -> Iterator[Database]:
    """The database of the settings. Ends the program with a sentence when something is refused."""
    with _service() as (_, database):
        yield database


@contextmanager
def _service() -> Iterator[tuple[Settings, Database]]:
    """The settings and their database. Ends the program with a sentence when something is refused."""
    try:
        settings = read_settings()
        configure_logs(settings, "admin")
        settings.make_home()
        database = open_database(settings.database_url)
        try:
            yield settings, database
        finally:
            database.dispose()
    except (SettingsError, DatabaseError, StorageError, ValueError) as error:
        _say(str(error))
        raise typer.Exit(1) from None
    except OperationalError as error:
        _say(f"the database cannot be used: {error.orig}")
        raise typer.Exit(1) from None


def _team_id(database: Database, name: str) -> str:
    with database.session(read_only=True) as session:
        team = find_team(session, name)
    if team is None:
        raise ValueError(f"there is no team {name!r}; create-key makes it")
    return team.id


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    app()
