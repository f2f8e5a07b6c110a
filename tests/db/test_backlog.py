"""How much work there is."""

from __future__ import annotations

from sqlalchemy import update

from db.clock import now_plus
from db.models import Job
from db.queries.backlog import Backlog, backlog
from db.queries.claims import claim_job
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
