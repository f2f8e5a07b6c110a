"""What first steps made, as rows: the longest is found, the least used goes, and nothing stays for ever."""

from __future__ import annotations

import pytest
from sqlalchemy import func, select, update

from db.clock import now_plus
from db.models import StepResult
from db.queries.checkpoints import drop_checkpoint, keep_checkpoint, unneeded_checkpoints
from db.queries.claims import ClaimedJob, claim_job, release, succeed
from db.queries.jobs import attempts
from db.queries.step_results import (
    FirstSteps,
    drop_step_result,
    find_step_result,
    keep_step_result,
    unneeded_step_results,
)
from db.queries.stored_bytes import is_needed
from tests.support.reports import a_report
from tests.support.rows import any_sha256, new_tenant

MODEL, DATA, STUDENTS = any_sha256(), any_sha256(), (any_sha256(), any_sha256())
SIZE = 10


@pytest.fixture
def tenant(database):
    return new_tenant(database)


def _submit(tenant, **more):
    """A job of three steps: two students, then pruning."""
    students = [tenant.upload_model(sha256=sha256) for sha256 in STUDENTS]
    model, dataset = tenant.upload_model(sha256=MODEL), tenant.upload_dataset(sha256=DATA)
    return tenant.submit(model, dataset, students=students, **more)


def _claim(database) -> ClaimedJob:
    with database.session() as session:
        claimed = claim_job(session, "w", 30.0)
    assert claimed is not None
    return claimed


def _keep(database, job: ClaimedJob, steps: int, *, replace: bool = False, size: int = SIZE) -> str:
    sha256 = any_sha256()
    with database.session() as session:
        assert keep_checkpoint(session, job.id, job.attempt, "steps", sha256=sha256, size=size)
        made = FirstSteps(job.id, steps, sha256)
        keep_step_result(session, job.team_id, made, job.fingerprints[steps], size=size, replace=replace)
    return sha256


def _clear(database, limit_bytes: int = 1_000) -> set[str]:
    """Drop what is unneeded; the hashes whose bytes are to go."""
    gone = set()
    with database.session() as session:
        gone |= {sha256 for row_id, sha256 in unneeded_checkpoints(session) if drop_checkpoint(session, row_id, sha256)}
        for row_id, sha256 in unneeded_step_results(session, limit_bytes):
            if drop_step_result(session, row_id, sha256):
                gone.add(sha256)
    return gone


def _count(database) -> int:
    with database.session(read_only=True) as session:
        return session.scalar(select(func.count()).select_from(StepResult)) or 0


def test_a_longer_recipe_begins_with_the_longest(database, tenant):
    _submit(tenant)
    first = _claim(database)
    assert first.first_steps is None
    one, two = _keep(database, first, 1), _keep(database, first, 2)
    with database.session() as session:
        assert succeed(session, first.id, 1, a_report())
    assert _clear(database) == set()  # the checkpoints are over, and the bytes stay
    with database.session(read_only=True) as session:
        assert is_needed(session, one)
        assert is_needed(session, two)
    _submit(tenant, sparsity=0.9)
    longer = _claim(database)
    assert longer.first_steps == FirstSteps(first.id, 2, two)
    with database.session(read_only=True) as session:
        # It is no measure of what its whole estimate takes.
        assert [attempt.continues for attempt in attempts(session, longer.id)] == [0]
    assert longer.fingerprints[:3] == first.fingerprints[:3]
    assert longer.fingerprints[3] != first.fingerprints[3]


def test_only_the_same_team_and_seed_begin_alike(database, tenant):
    _submit(tenant)
    _keep(database, _claim(database), 2)
    _submit(new_tenant(database, "others"))
    assert _claim(database).first_steps is None
    _submit(tenant, seed=1)
    assert _claim(database).first_steps is None


def test_what_is_to_be_run_begins_at_the_beginning_and_replaces_what_was_kept(database, tenant):
    _submit(tenant)
    old = _keep(database, _claim(database), 2)
    _submit(tenant, reuse=False)
    forced = _claim(database)
    assert forced.first_steps is None
    new = _keep(database, forced, 2, replace=True)
    with database.session() as session:
        assert succeed(session, forced.id, 1, a_report())
        found = find_step_result(session, tenant.team_id, forced.fingerprints)
    assert found == FirstSteps(forced.id, 2, new)
    assert old not in _clear(database)  # the first job is at work, and its checkpoint
    assert _count(database) == 1


def test_what_is_known_is_kept_once(database, tenant):
    _submit(tenant)
    _submit(tenant)
    first, second = _claim(database), _claim(database)
    one = _keep(database, first, 1)
    _keep(database, second, 1)
    assert _count(database) == 1
    with database.session() as session:
        found = find_step_result(session, tenant.team_id, second.fingerprints)
    assert found == FirstSteps(first.id, 1, one)


def test_an_own_checkpoint_comes_first(database, tenant):
    _submit(tenant)
    _keep(database, _claim(database), 2)
    _submit(tenant, sparsity=0.9)
    job = _claim(database)
    assert job.first_steps is not None
    _keep(database, job, 2)
    with database.session() as session:
        assert release(session, job.id, 1, "stopped")
    again = _claim(database)
    assert (again.id, again.first_steps, set(again.checkpoint)) == (job.id, None, {"steps"})


def test_above_the_limit_the_least_used_go(database, tenant):
    _submit(tenant)
    job = _claim(database)
    kept = [_keep(database, job, steps) for steps in (1, 2, 3)]
    other = new_tenant(database, "others")
    _submit(other)
    theirs = _keep(database, _claim(database), 1)
    with database.session() as session:
        for age, sha256 in zip((1, 3, 2), kept, strict=True):
            session.execute(
                update(StepResult).where(StepResult.sha256 == sha256).values(last_used_at=now_plus(-100.0 * age))
            )
        assert succeed(session, job.id, 1, a_report())
    assert _clear(database, 3 * SIZE) == set()
    assert _clear(database, 3 * SIZE - 1) == {kept[1]}
    # To be found is to be used.
    with database.session() as session:
        assert find_step_result(session, tenant.team_id, job.fingerprints).sha256 == kept[2]
    assert _clear(database, SIZE) == {kept[0]}
    assert _clear(database, 0) == {kept[2]}  # that of the others is a checkpoint still
    assert _count(database) == 0
    with database.session(read_only=True) as session:
        assert is_needed(session, theirs)
