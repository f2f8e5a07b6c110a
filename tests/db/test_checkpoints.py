"""Checkpoints as rows: the newest counts, a dead attempt changes nothing, and nothing stays for ever."""

from __future__ import annotations

import pytest
from sqlalchemy import func, select

from db.models import Checkpoint
from db.queries.checkpoints import KeptFile, checkpoint_of, drop_checkpoint, keep_checkpoint, unneeded_checkpoints
from db.queries.claims import ClaimedJob, cancelled, claim_job, fail, lose, reap, release
from db.queries.jobs import attempts, cancel, events_after, get_job, retry
from db.queries.stored_bytes import is_needed
from db.queries.uploads import delete_model
from modelpress.spec.event import StateChanged
from modelpress.spec.failure import Failure, FailureKind
from modelpress.spec.state import JobState
from tests.support.rows import any_sha256, new_tenant

FAILURE = Failure(kind=FailureKind.OUT_OF_MEMORY, message="out of memory")
LAPSED = -1.0


@pytest.fixture
def tenant(database):
    return new_tenant(database)


@pytest.fixture
def job(tenant):
    return tenant.submit(tenant.upload_model())


def _claim(database, lease=30.0) -> ClaimedJob:
    with database.session() as session:
        claimed = claim_job(session, "w", lease)
    assert claimed is not None
    return claimed


def _keep(database, job, attempt, part, sha256=None) -> str:
    sha256 = sha256 or any_sha256()
    with database.session() as session:
        assert keep_checkpoint(session, job.id, attempt, part, sha256=sha256, size=3)
    return sha256


def _given(database, job):
    with database.session(read_only=True) as session:
        return checkpoint_of(session, job.id)


def _clear(database) -> set[str]:
    """Drop what is unneeded; the hashes whose bytes are to go."""
    with database.session() as session:
        return {sha256 for row_id, sha256 in unneeded_checkpoints(session) if drop_checkpoint(session, row_id, sha256)}


def _count(database) -> int:
    with database.session(read_only=True) as session:
        return session.scalar(select(func.count()).select_from(Checkpoint)) or 0


def test_the_next_attempt_is_given_the_newest_of_each_part(database, job):
    assert _claim(database).checkpoint == {}
    _keep(database, job, 1, "steps")
    steps = _keep(database, job, 1, "steps")
    _keep(database, job, 1, "training")
    training = _keep(database, job, 1, "training")
    with database.session() as session:
        assert release(session, job.id, 1, "stopped")
    claimed = _claim(database)
    assert claimed.checkpoint == {"steps": KeptFile(1, steps), "training": KeptFile(1, training)}
    assert list(claimed.checkpoint) == ["steps", "training"]
    with database.session(read_only=True) as session:
        first, second = attempts(session, job.id)
    assert (first.outcome, first.reason, first.continues) == ("released", "stopped", None)
    assert (second.outcome, second.continues) == (None, 1)


def test_behind_a_completed_step_its_training_is_over(database, job):
    _claim(database)
    first, training = _keep(database, job, 1, "steps"), _keep(database, job, 1, "training")
    steps = _keep(database, job, 1, "steps")
    assert _given(database, job) == {"steps": KeptFile(1, steps)}
    assert _clear(database) == {first, training}
    assert _count(database) == 1


def test_a_training_without_its_steps_is_of_no_use(database, job):
    _claim(database)
    _keep(database, job, 1, "training")
    assert _given(database, job) == {}


def test_an_attempt_that_is_over_keeps_nothing(database, job):
    _claim(database, lease=LAPSED)
    kept = _keep(database, job, 1, "steps")
    with database.session() as session:
        reap(session, 3)
    with database.session() as session:
        assert not keep_checkpoint(session, job.id, 1, "steps", sha256="0" * 64, size=1)
    assert _claim(database).attempt == 2
    with database.session() as session:
        assert not keep_checkpoint(session, job.id, 1, "training", sha256="0" * 64, size=1)
    assert _given(database, job) == {"steps": KeptFile(1, kept)}
    # The second goes on from there, and what it keeps is given to the third.
    newer = _keep(database, job, 2, "training")
    with database.session() as session:
        release(session, job.id, 2, "stopped")
    assert _claim(database).checkpoint == {"steps": KeptFile(1, kept), "training": KeptFile(2, newer)}
    with database.session(read_only=True) as session:
        assert [attempt.continues for attempt in attempts(session, job.id)] == [None, 1, 2]


@pytest.mark.parametrize("end", ["failed", "cancelled", "cancelled while it waits"])
def test_nothing_is_kept_of_a_job_that_is_over(database, tenant, job, end):
    _claim(database)
    kept = {_keep(database, job, 1, "steps"), _keep(database, job, 1, "training")}
    assert _clear(database) == set()
    with database.session() as session:
        if end == "cancelled while it waits":
            release(session, job.id, 1, "stopped")
            cancel(session, tenant.team_id, job.id)
        elif end == "cancelled":
            cancel(session, tenant.team_id, job.id)
            assert cancelled(session, job.id, 1)
        else:
            assert fail(session, job.id, 1, FAILURE)
    assert _clear(database) == kept
    assert _count(database) == 0
    assert _clear(database) == set()


def test_a_retried_job_starts_from_the_beginning(database, tenant, job):
    _claim(database)
    kept = _keep(database, job, 1, "steps")
    with database.session() as session:
        fail(session, job.id, 1, FAILURE)
    with database.session() as session:
        retry(session, tenant.team_id, job.id)  # before anybody came to drop it
    claimed = _claim(database)
    assert claimed.checkpoint == {}
    assert _clear(database) == {kept}


def test_bytes_that_something_else_needs_stay(database, tenant, job):
    _claim(database)
    sha256 = any_sha256()
    model = tenant.upload_model(sha256=sha256)
    _keep(database, job, 1, "steps", sha256)
    other = tenant.submit(tenant.upload_model())
    _claim(database)
    shared = _keep(database, other, 1, "steps", any_sha256())
    _keep(database, job, 1, "training", shared)
    with database.session() as session:
        delete_model(session, tenant.team_id, model.id)
        assert is_needed(session, sha256)  # the checkpoint still is the same bytes
    with database.session() as session:
        fail(session, job.id, 1, FAILURE)
    assert _clear(database) == {sha256}
    with database.session() as session:
        fail(session, other.id, 1, FAILURE)
    assert _clear(database) == {shared}


def test_a_killed_engine_is_tried_again_until_too_many_are(database, tenant, job):
    for attempt in (1, 2, 3):
        assert _claim(database).attempt == attempt
        with database.session() as session:
            assert lose(session, job.id, attempt, FAILURE, 3, "it was killed")
    with database.session(read_only=True) as session:
        found = get_job(session, tenant.team_id, job.id)
        assert (found.state, found.losses, found.failure) == (JobState.FAILED, 3, FAILURE)
        told = attempts(session, job.id)
        assert [(each.outcome, each.reason) for each in told] == [("lost", "it was killed")] * 3
        states = [row.event for row in events_after(session, job.id, 0, 100) if isinstance(row.event, StateChanged)]
    assert [event.state for event in states] == ["queued", *["running", "queued"] * 2, "running", "failed"]
    assert [event.reason for event in states if event.state == "queued"] == [None, "it was killed", "it was killed"]


def test_a_killed_engine_of_a_job_that_is_being_cancelled_ends_it(database, tenant, job):
    _claim(database)
    with database.session() as session:
        cancel(session, tenant.team_id, job.id)
    with database.session() as session:
        assert lose(session, job.id, 1, FAILURE, 3, "it was killed")
    with database.session(read_only=True) as session:
        assert get_job(session, tenant.team_id, job.id).state is JobState.CANCELLED
