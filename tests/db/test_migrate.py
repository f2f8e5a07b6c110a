"""The migrations make the tables that the code expects, on both databases."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, inspect, make_url, text

from db import migrate
from db.errors import UnusableDatabase
from db.models import Base
from db.queries.jobs import get_job
from db.queries.uploads import get_model
from tests.conftest import opened
from tests.support.rows import ARCHITECTURE, new_tenant


def _engine(url):
    parsed = make_url(url)
    return create_engine(parsed.set(drivername="postgresql+psycopg") if parsed.drivername == "postgresql" else parsed)


def _migrate_and_tell(url: str) -> str | None:
    with opened(url) as database:
        database.migrate()
        return database.revision()


@pytest.fixture
def fresh_url(empty_url):
    """URL of a migrated database whose tables a test may change."""
    _migrate_and_tell(empty_url)
    return empty_url


def test_an_empty_database_is_not_compatible(empty_url):
    with opened(empty_url) as database:
        assert database.revision() is None
        assert not database.is_compatible()
        database.migrate()
        assert database.is_compatible()
        assert database.revision() == migrate.head() == "0008"


def test_migrating_twice_changes_nothing(empty_url):
    assert _migrate_and_tell(empty_url) == _migrate_and_tell(empty_url) == migrate.head()


def test_migrated_tables_are_those_of_the_models(database_url):
    engine = _engine(database_url)
    try:
        with engine.connect() as connection:
            context = MigrationContext.configure(
                connection, opts={"compare_type": True, "compare_server_default": True}
            )
            assert compare_metadata(context, Base.metadata) == []
            # What the comparison above does not look at.
            found = inspect(connection)
            for table in Base.metadata.sorted_tables:
                assert found.get_pk_constraint(table.name)["constrained_columns"] == [c.name for c in table.primary_key]
                nullable = {column["name"]: column["nullable"] for column in found.get_columns(table.name)}
                assert nullable == {column.name: column.nullable for column in table.columns}
    finally:
        engine.dispose()


def test_a_missing_index_is_noticed(fresh_url):
    """The comparison above can fail."""
    engine = _engine(fresh_url)
    try:
        with engine.begin() as connection:
            connection.execute(text("DROP INDEX ix_jobs_state_queued_at_id"))
        with engine.connect() as connection:
            assert [kind for kind, *_ in compare_metadata(MigrationContext.configure(connection), Base.metadata)] == [
                "add_index"
            ]
    finally:
        engine.dispose()


def test_students_came_without_a_change_of_the_tables_before(empty_url):
    """Processes of the version before go on beside the migrated tables: they find all that they know."""
    engine = _engine(empty_url)

    def tables(connection):
        found = inspect(connection)
        return {
            name: [
                [(column["name"], str(column["type"]), column["nullable"]) for column in found.get_columns(name)],
                sorted(index["name"] for index in found.get_indexes(name)),
                sorted(key["name"] for key in found.get_foreign_keys(name)),
            ]
            for name in found.get_table_names()
        }

    try:
        with engine.begin() as connection:
            migrate.upgrade(connection, "0001")
        with engine.begin() as connection:
            before = tables(connection)
            migrate.upgrade(connection, "0002")
        with engine.connect() as connection:
            after = tables(connection)
        assert len(before) > 9
        assert {name: table for name, table in after.items() if name != "job_students"} == before
        assert after["job_students"][0] == [(name, "VARCHAR(40)", False) for name in ("job_id", "model_id")]
    finally:
        engine.dispose()


def test_models_that_were_there_before_files_described_themselves_are_kept(fresh_url):
    """And what refers to them: on SQLite the table is built anew."""
    with opened(fresh_url) as database:
        tenant = new_tenant(database)
        model = tenant.upload_model(sha256="a" * 64)
        job = tenant.submit(model)
    engine = create_engine(_engine(fresh_url).url)  # foreign keys are off, as in a migration
    try:
        with engine.begin() as connection:
            migrate.downgrade(connection, "0002")
            columns = {column["name"]: column["nullable"] for column in inspect(connection).get_columns("models")}
            assert "derived_from" not in columns
            assert not columns["architecture"]
    finally:
        engine.dispose()
    with opened(fresh_url) as database:
        database.migrate()
        with database.session(read_only=True) as session:
            found = get_model(session, tenant.team_id, model.id)
            assert (found.sha256, found.architecture, found.derived_from) == ("a" * 64, ARCHITECTURE, None)
            assert get_job(session, tenant.team_id, job.id).model_id == model.id


def test_processes_before_checkpoints_go_on_beside_them(empty_url):
    """They find all that they know as it was, and what they write is taken."""
    engine = create_engine(_engine(empty_url).url)

    def columns(connection):
        found = inspect(connection)
        return {
            name: [(column["name"], str(column["type"]), column["nullable"]) for column in found.get_columns(name)]
            for name in found.get_table_names()
        }

    try:
        with engine.begin() as connection:
            migrate.upgrade(connection, "0003")
        with engine.begin() as connection:
            before = columns(connection)
            migrate.upgrade(connection, "0004")
        with engine.connect() as connection:
            after = columns(connection)
        assert set(after) == {*before, "checkpoints"}
        assert after["attempts"] == [
            *before["attempts"],
            ("reason", "VARCHAR", True),
            ("continues", "INTEGER", True),
        ]
        assert {name: after[name] for name in before if name != "attempts"} == {
            name: table for name, table in before.items() if name != "attempts"
        }
        with opened(empty_url) as database:
            database.migrate()
            tenant = new_tenant(database)
            job = tenant.submit(tenant.upload_model(sha256="a" * 64))
        with engine.begin() as connection:  # the statement of the version before
            connection.execute(
                text("INSERT INTO attempts (job_id, number, worker, started_at) VALUES (:job, 1, 'old', :at)"),
                {"job": job.id, "at": "2026-01-31 12:00:00.000"},
            )
    finally:
        engine.dispose()


def test_processes_before_identical_work_go_on_beside_it(empty_url):
    """They find all that they know as it was; what they leave out may be left out."""
    engine = create_engine(_engine(empty_url).url)

    def columns(connection):
        found = inspect(connection)
        return {
            name: {column["name"]: (str(column["type"]), column["nullable"]) for column in found.get_columns(name)}
            for name in found.get_table_names()
        }

    try:
        with engine.begin() as connection:
            migrate.upgrade(connection, "0005")
        with engine.begin() as connection:
            before = columns(connection)
            migrate.upgrade(connection, "0006")
        with engine.connect() as connection:
            after = columns(connection)
    finally:
        engine.dispose()
    assert set(after) == {*before, "step_results"}
    more = {"identity": ("VARCHAR(64)", True), "reused_from": ("VARCHAR(40)", True)}
    assert after == before | {"jobs": before["jobs"] | more, "step_results": after["step_results"]}


def test_downgrade_leaves_no_table(fresh_url):
    engine = _engine(fresh_url)
    try:
        with engine.begin() as connection:
            migrate.downgrade(connection, "base")
        with engine.connect() as connection:
            assert inspect(connection).get_table_names() == ["alembic_version"]
    finally:
        engine.dispose()
    assert _migrate_and_tell(fresh_url) == migrate.head()


def test_processes_that_start_at_once_all_find_it_migrated(empty_url):
    with ProcessPoolExecutor(4, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert list(pool.map(_migrate_and_tell, [empty_url] * 4)) == [migrate.head()] * 4


def _be_newer(url, oldest):
    """Mark the tables as those of a later version."""
    engine = _engine(url)
    try:
        with engine.begin() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
            connection.execute(text("UPDATE compatibility SET oldest_revision = :oldest"), {"oldest": oldest})
    finally:
        engine.dispose()


@pytest.mark.parametrize("oldest", ["9999", "9998"])
def test_a_newer_database_that_does_not_serve_this_version_is_refused_and_left_alone(fresh_url, oldest):
    _be_newer(fresh_url, oldest)
    with opened(fresh_url) as database:
        assert not database.is_compatible()
        with pytest.raises(UnusableDatabase, match="9999"):
            database.migrate()
        assert database.revision() == "9999"


def test_a_newer_database_that_serves_this_version_is_worked_with_and_left_alone(fresh_url):
    _be_newer(fresh_url, migrate.head())
    with opened(fresh_url) as database:
        assert database.is_compatible()
        database.migrate()
        assert database.revision() == "9999"
        new_tenant(database)


def test_a_migration_that_fails_leaves_nothing_behind(tmp_path, monkeypatch):
    def broken(_connection):
        raise UnusableDatabase("a broken reference")

    url = f"sqlite:///{tmp_path / 'modelpress.db'}"
    monkeypatch.setattr(migrate, "_check_references", broken)
    with opened(url) as database:
        with pytest.raises(UnusableDatabase, match="broken reference"):
            database.migrate()
        assert database.revision() is None
    monkeypatch.undo()
    assert _migrate_and_tell(url) == migrate.head()
