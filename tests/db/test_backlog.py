"""How much work there is."""

from __future__ import annotations

from sqlalchemy import update

from db.clock import now_plus
from db.models import Attempt, Job
from db.queries.backlog import Backlog, backlog
from db.queries.claims import claim_job, release
from modelpress.spec.state import JobState
from tests.support.rows import new_tenant


def test_jobs_are_counted_by_state_over_all_teams(database):
    with database.session(read_only=True) as session:
        assert backlog(session) == Backlog(jobs={}, oldest_waiting_seconds=0.0)
    for name in ("a", "b"):
        tenant = new_tenant(database, name)
        model = tenant.upload_model()
        tenant.submit(model), tenant.submit(model)
    with database.session() as session:
        claim_job(session, "w", 30)
        session.execute(update(Job).values(queued_at=now_plus(-3_600)))
        told = backlog(session)
    assert told.jobs == {JobState.QUEUED: 3, JobState.RUNNING: 1}
    assert 3_600 <= told.oldest_waiting_seconds < 3_700


def test_the_time_that_a_job_ran_is_not_waited(database):
    """It keeps its place in the queue when its worker is stopped, and waits from then on."""
    tenant = new_tenant(database)
    job = tenant.submit(tenant.upload_model())
    with database.session() as session:
        session.execute(update(Job).values(queued_at=now_plus(-3_600)))
        claim_job(session, "w", 30)
        release(session, job.id, 1, "the worker was stopped")
    with database.session(read_only=True) as session:
        assert 0 <= backlog(session).oldest_waiting_seconds < 60
    with database.session() as session:
        session.execute(update(Attempt).values(finished_at=now_plus(-100)))
        assert 100 <= backlog(session).oldest_waiting_seconds < 160
