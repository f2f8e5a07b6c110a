"""What is asked often finds its rows by an index, however many jobs are over; `benchmarks.history` times it."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
from sqlalchemy import Engine, event

from db.queries.backlog import backlog
from db.queries.checkpoints import unneeded_checkpoints
from db.queries.claims import has_waiting_jobs
from db.queries.jobs import list_jobs
from modelpress.spec.state import JobState
from tests.support.rows import new_tenant


@pytest.fixture
def dialect():
    """SQLite alone: it plans by the indexes there are, and not by the number of rows."""
    return "sqlite"


@contextmanager
def _sent():
    statements = []

    def note(_connection, _cursor, statement, parameters, _context, _many):
        if "FROM jobs" in statement or "FROM checkpoints" in statement:
            statements.append((statement, parameters))

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def _listed(index, **which):
    return pytest.param(lambda session, team: list_jobs(session, team, limit=10, **which), index, id=index)


@pytest.mark.parametrize(
    ("ask", "index"),
    [
        _listed("ix_jobs_team_id_id"),
        _listed("ix_jobs_team_id_state_id", state=JobState.CANCELLED, after="job_x"),
        _listed("ix_jobs_team_id_model_id_id", model="mdl_x"),
        _listed("ix_jobs_team_id_model_id_state_id", model="mdl_x", state=JobState.FAILED),
        pytest.param(lambda session, _: has_waiting_jobs(session), "ix_jobs_state_queued_at_id", id="has_waiting_jobs"),
        pytest.param(lambda session, _: backlog(session), "ix_jobs_", id="backlog"),
        pytest.param(lambda session, _: unneeded_checkpoints(session), "sqlite_autoindex_jobs", id="checkpoints"),
    ],
)
def test_no_question_walks_through_the_jobs(database, ask, index):
    tenant = new_tenant(database)
    with database.session(read_only=True) as session, _sent() as statements:
        ask(session, tenant.team_id)
    assert statements
    with database.session(read_only=True) as session:
        for statement, parameters in statements:
            rows = session.connection().exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plan = [row.detail for row in rows]
            assert any(index in step for step in plan), plan
            assert not any(step.startswith(("SCAN jobs", "USE TEMP B-TREE FOR ORDER BY")) for step in plan), plan
