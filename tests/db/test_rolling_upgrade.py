"""Processes of the version before go on while the tables are changed, and afterwards."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import create_engine, inspect, text

from api.resources import to_jobs
from db import migrate
from db.queries import claims, jobs, metrics
from modelpress.spec.event import StateChanged
from modelpress.spec.state import JobState
from tests.conftest import opened
from tests.support.recorded_statements import FOLDER, bare_connection, contents, load, path_of, replay

FIRST_DECLARED = "0008"
SCRIPTS = sorted(migrate._scripts().walk_revisions(), key=lambda script: script.revision)
NEWEST = SCRIPTS[-1]


def _oldest_served():
    return migrate.compatible_from(NEWEST)


def _without_numbers(rows, columns):
    """Without the numbers that PostgreSQL gives to the rows of one statement, in an order of its own."""
    number = columns["metrics"].index("id")
    metrics = sorted((row[:number] + row[number + 1 :] for row in rows["metrics"]), key=repr)
    return {**rows, "metrics": metrics}


def test_each_migration_serves_at_least_the_code_before_it():
    for script in SCRIPTS:
        if script.revision >= FIRST_DECLARED:
            assert migrate.compatible_from(script) <= script.down_revision, script.revision


def test_the_statements_of_a_version_before_were_recorded(dialect):
    """Without, the test below would try nothing."""
    assert [path for path in FOLDER.glob(f"*.{dialect}.json") if _oldest_served() <= path.name[:4] < NEWEST.revision]


@pytest.mark.parametrize("revision", sorted({path.name[:4] for path in FOLDER.glob("*.json")}))
def test_what_the_version_before_sends_does_the_same_to_the_newest_tables(database_url, dialect, revision):
    """And this version reads it, and takes the work up."""
    if not _oldest_served() <= revision < NEWEST.revision:
        pytest.skip("the newest tables do not serve that code")
    recording = load(path_of(revision, dialect))
    with bare_connection(database_url) as connection:
        replay(connection, recording)
    with bare_connection(database_url) as connection:
        found = contents(connection, recording.columns)
    assert _without_numbers(found, recording.columns) == _without_numbers(recording.rows, recording.columns)
    assert [table for table, rows in found.items() if not rows] == ["checkpoints"]  # dropped with its job's end
    with opened(database_url) as database, database.session() as session:
        team_id = found["teams"][0][recording.columns["teams"].index("id")]
        listed = to_jobs(session, jobs.list_jobs(session, team_id, limit=10))
        by_state = {job.state: job for job in listed}  # the oldest of each
        assert set(by_state) == {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.QUEUED}
        done = by_state[JobState.SUCCEEDED].id
        assert jobs.get_report(session, jobs.get_job(session, team_id, done)) is not None
        assert metrics.metrics(session, done)
        last = jobs.events_after(session, done, 0, 100)[-1].event
        assert isinstance(last, StateChanged)
        assert last.state == "succeeded"
        waiting = by_state[JobState.QUEUED].id
        claimed = claims.claim_job(session, "a worker of this version", 60)
        assert claimed.id == waiting
        assert claimed.attempt == 2
        assert jobs.retry(session, team_id, by_state[JobState.FAILED].id).state is JobState.QUEUED


def test_a_step_back_says_what_the_tables_before_serve(empty_url):
    engine = create_engine(empty_url.replace("postgresql:", "postgresql+psycopg:"))
    try:
        with engine.begin() as connection:
            migrate.upgrade(connection)
            assert connection.scalar(text("SELECT oldest_revision FROM compatibility")) == _oldest_served()
            migrate.downgrade(connection, "-1")
            assert not inspect(connection).has_table("compatibility") or (
                connection.scalar(text("SELECT oldest_revision FROM compatibility"))
                == migrate.compatible_from(SCRIPTS[-2])
            )
    finally:
        engine.dispose()


def test_an_upgrade_keeps_no_writer_waiting_on_postgresql(new_postgres_url):
    """A transaction that holds the jobs does not let the upgrade through, and nobody waits behind it for long."""
    url = new_postgres_url()
    with bare_connection(url) as connection:
        migrate.upgrade(connection, SCRIPTS[-2].revision)
        connection.commit()
    done = threading.Event()

    def upgrade():
        with opened(url) as database:
            database.migrate()
        done.set()

    with bare_connection(url) as holder, bare_connection(url) as writer:
        holder.execute(text("UPDATE jobs SET version = version + 1"))
        thread = threading.Thread(target=upgrade)
        thread.start()
        writer.execute(text("SET lock_timeout = '20s'"))
        for _ in range(10):
            assert not done.wait(0.1)
            writer.execute(text("DELETE FROM jobs"))
            writer.commit()
        holder.rollback()
        thread.join(60)
    assert done.is_set()
    with opened(url) as database:
        assert database.revision() == migrate.head()


def test_an_upgrade_that_was_broken_off_is_carried_on(new_postgres_url):
    """An index that was made concurrently, and one that was not finished, are left by it."""
    url = new_postgres_url()
    with bare_connection(url) as connection:
        migrate.upgrade(connection, "0005")
        connection.execute(text("CREATE INDEX ix_jobs_team_id_state_id ON jobs (id)"))
        connection.execute(text("DROP INDEX ix_jobs_model_id"))
        connection.commit()
    with opened(url) as database:
        database.migrate()
        assert database.revision() == migrate.head()
    with bare_connection(url) as connection:
        indexes = {index["name"]: index["column_names"] for index in inspect(connection).get_indexes("jobs")}
    assert indexes["ix_jobs_team_id_state_id"] == ["team_id", "state", "id"]
