"""How databases are opened, and what a session promises."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time

import psycopg
import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError, InvalidRequestError, OperationalError

from db import database as database_module
from db.database import journal_mode, open_database
from db.errors import UnusableDatabase
from db.models import Job, Team
from db.queries.claims import claim_job, heartbeat
from db.queries.jobs import get_job
from db.queries.teams import create_key, create_team
from db.queries.uploads import hold_bytes
from tests.conftest import opened
from tests.support.database_lock import is_locked
from tests.support.rows import new_tenant


def _teams(database):
    with database.session(read_only=True) as session:
        return session.scalar(select(func.count()).select_from(Team))


def test_a_session_commits_at_its_end(database):
    with database.session() as session:
        team = create_team(session, "a")
    assert _teams(database) == 1
    assert team.name == "a"  # rows stay usable


def test_a_session_that_raises_leaves_nothing(database):
    def create_and_fail():
        with database.session() as session:
            create_team(session, "a")
            raise KeyError

    with pytest.raises(KeyError):
        create_and_fail()
    assert _teams(database) == 0


def test_a_connection_that_was_in_use_is_closed_when_it_comes_back(database):
    with database.session() as session:
        session.execute(text("SELECT 1"))
        connection = session.connection().connection.dbapi_connection
        database.dispose()
        session.execute(text("SELECT 1"))
    with pytest.raises((psycopg.OperationalError, sqlite3.ProgrammingError), match="closed"):
        connection.execute("SELECT 1")


def test_connections_are_kept_again_after_all_were_closed(database):
    database.dispose()
    connections = []
    for _ in range(2):
        with database.session(read_only=True) as session:
            connections.append(session.connection().connection.dbapi_connection)
    assert connections[0] is connections[1]


def test_a_read_only_session_cannot_write(database):
    with pytest.raises(DBAPIError), database.session(read_only=True) as session:
        create_team(session, "a")
    # The same connection writes again afterwards.
    with database.session() as session:
        create_team(session, "b")
    assert _teams(database) == 1


def test_a_reference_to_nothing_is_refused(database):
    with pytest.raises(IntegrityError), database.session() as session:
        create_key(session, "team_that_is_not", "a key", frozenset({"read"}))


def test_threads_that_read_before_they_write_wait_for_one_another(database):
    """On SQLite a deferred transaction would fail here at once with `database is locked`."""
    threads, rounds = 8, 10
    barrier = threading.Barrier(threads)
    errors: list[BaseException] = []

    def count_up() -> None:
        barrier.wait()
        try:
            for _ in range(rounds):
                with database.session() as session:
                    session.scalar(select(func.count()).select_from(Team))
                    create_team(session, "a")
        except BaseException as error:  # noqa: BLE001 (handed to the test's own thread)
            errors.append(error)

    running = [threading.Thread(target=count_up) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    assert errors == []
    assert _teams(database) == threads * rounds


def test_a_reader_sees_one_state_while_another_writes(database):
    new_tenant(database)
    with database.session(read_only=True) as reading:
        assert reading.scalar(select(func.count()).select_from(Team)) == 1
        assert get_job(reading, "team_x", "job_x") is None
    with database.session() as writing:
        create_team(writing, "b")
        with database.session(read_only=True) as reading:
            assert reading.scalar(select(func.count()).select_from(Team)) == 1
    assert _teams(database) == 2


def test_the_report_is_never_loaded_by_the_way(database):
    tenant = new_tenant(database)
    job = tenant.submit(tenant.upload_model())
    with database.session(read_only=True) as session:
        found = get_job(session, tenant.team_id, job.id)
        with pytest.raises(InvalidRequestError):
            _ = found.report


def test_ping_tells_the_truth(database, tmp_path):
    database.ping()
    gone = tmp_path / "folder"
    gone.mkdir()
    with opened(f"sqlite:///{gone / 'x.db'}") as other:
        gone.rmdir()
        with pytest.raises(DBAPIError):
            other.ping()


@pytest.mark.parametrize(
    ("version", "mode"),
    [
        ((3, 6, 23), "WAL"),
        ((3, 7, 0), "DELETE"),
        ((3, 40, 1), "DELETE"),
        ((3, 51, 2), "DELETE"),
        ((3, 51, 3), "WAL"),
        ((3, 52, 0), "WAL"),
    ],
)
def test_the_write_ahead_log_is_used_only_where_it_is_sound(version, mode):
    assert journal_mode(version) == mode


def test_sqlite_is_opened_safely_and_says_so(tmp_path, caplog):
    mode = journal_mode(sqlite3.sqlite_version_info)
    with caplog.at_level(logging.INFO, "db.database"), opened(f"sqlite:///{tmp_path / 'x.db'}") as database:
        assert f"journal {mode}" in caplog.text
        with database.session() as session:
            asked = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
            told = [session.scalar(text(f"PRAGMA {name}")) for name in asked]
    assert told == [mode.lower(), 2, 1, 30_000]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("sqlite://", "in memory"),
        ("sqlite:///:memory:", "in memory"),
        ("sqlite:////no/such/folder/x.db", "does not exist"),
        ("mysql://host/name", "mysql"),
        ("not a url", "not a URL"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused(url, words):
    with pytest.raises(UnusableDatabase, match=words):
        open_database(url)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_postgresql_is_reached_by_its_usual_names(scheme, postgres_url):
    with opened(scheme + postgres_url.removeprefix("postgresql")) as database:
        database.ping()
        assert database.dialect == "postgresql"


def test_who_freezes_within_a_transaction_keeps_nobody_waiting(request, monkeypatch):
    url = request.getfixturevalue("new_postgres_url")(request.getfixturevalue("postgres_template"))
    with opened(url) as patient:
        tenant = new_tenant(patient)
        job = tenant.submit(tenant.upload_model())
        with patient.session() as session:
            claim_job(session, "frozen", 30)
    monkeypatch.setattr(database_module, "FROZEN_SECONDS", 0.3)
    with opened(url) as frozen, opened(url) as other:

        def freeze():
            with frozen.session() as session:
                assert heartbeat(session, job.id, 1, 30)
                with other.session() as beside:  # waits for the row's lock, in the place of whoever would take the job
                    beside.execute(select(Job.id).where(Job.id == job.id).with_for_update())

        with pytest.raises(OperationalError):
            freeze()
        with frozen.session() as session:  # it goes on by a new connection
            assert heartbeat(session, job.id, 1, 30)


def test_who_drops_bytes_keeps_their_lock_however_slow_the_store_is(request, monkeypatch):
    monkeypatch.setattr(database_module, "FROZEN_SECONDS", 0.2)
    with opened(request.getfixturevalue("postgres_url")) as database, database.session() as session:
        hold_bytes(session, "0" * 64, to_drop=True)
        time.sleep(0.5)
        assert is_locked(request.getfixturevalue("postgres_url"))
        assert session.scalar(text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted")) >= 1
    assert not is_locked(request.getfixturevalue("postgres_url"))
