"""What counts towards a job's limit for running, over its attempts."""

from __future__ import annotations

import pytest
from sqlalchemy import update

from db.clock import now_plus
from db.models import Attempt, Checkpoint
from db.queries.checkpoints import keep_checkpoint
from db.queries.claims import claim_job, fail, lose, reap, release
from db.queries.jobs import attempts, get_job, retry
from modelpress.spec.failure import Failure, FailureKind
from tests.support.rows import any_sha256, new_tenant

FAILURE = Failure(kind=FailureKind.INTERNAL, message="it broke")


@pytest.fixture
def tenant(database):
    return new_tenant(database)


@pytest.fixture
def job(tenant):
    return tenant.submit(tenant.upload_model())


def _claim(database, *, ago: float, kept: float | None = None, lease: float = 30.0):
    """An attempt that began so many seconds ago, with a checkpoint that many seconds ago."""
    with database.session() as session:
        claimed = claim_job(session, "w", lease)
        assert claimed is not None
        session.execute(update(Attempt).where(Attempt.number == claimed.attempt).values(started_at=now_plus(-ago)))
        if kept is not None:
            assert keep_checkpoint(session, claimed.id, claimed.attempt, "steps", sha256=any_sha256(), size=3)
            session.execute(
                update(Checkpoint).where(Checkpoint.attempt == claimed.attempt).values(created_at=now_plus(-kept))
            )
    return claimed


def _counted(database, tenant, job):
    with database.session(read_only=True) as session:
        found = get_job(session, tenant.team_id, job.id)
        assert found is not None
        return found.run_seconds, [attempt.counted_seconds for attempt in attempts(session, job.id)]


def test_attempts_that_were_given_back_count_whole(database, tenant, job):
    for ago in (100, 50):
        claimed = _claim(database, ago=ago)
        with database.session() as session:
            assert release(session, claimed.id, claimed.attempt, "the worker was stopped")
    total, each = _counted(database, tenant, job)
    assert each == [pytest.approx(100, abs=5), pytest.approx(50, abs=5)]
    assert total == pytest.approx(sum(each))
    assert _claim(database, ago=0).run_seconds == pytest.approx(150, abs=10)


def test_an_attempt_that_was_lost_counts_up_to_its_last_checkpoint(database, tenant, job):
    _claim(database, ago=100, kept=40, lease=-1.0)
    with database.session() as session:
        assert reap(session, 5).requeued == [job.id]
    killed = _claim(database, ago=30)
    with database.session() as session:  # without any checkpoint of its own
        assert lose(session, killed.id, killed.attempt, FAILURE, 5, "the engine was killed")
    total, each = _counted(database, tenant, job)
    assert each == [pytest.approx(60, abs=5), 0.0]
    assert total == pytest.approx(60, abs=5)


def test_a_job_that_is_tried_again_has_its_whole_limit(database, tenant, job):
    claimed = _claim(database, ago=100)
    with database.session() as session:
        assert fail(session, claimed.id, claimed.attempt, FAILURE)
    assert _counted(database, tenant, job)[0] == pytest.approx(100, abs=5)
    with database.session() as session:
        retry(session, tenant.team_id, job.id)
    assert _claim(database, ago=0).run_seconds == 0.0
