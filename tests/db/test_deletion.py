"""Jobs that are deleted: everything of theirs goes, nothing of others', and what is asked for meanwhile is told so."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import OperationalError

from db.database import Database
from db.errors import InvalidTransition, NotFound
from db.models import Attempt, Base, Job, Model
from db.queries import deletion
from db.queries.checkpoints import drop_checkpoint, unneeded_checkpoints
from db.queries.claims import (
    ClaimedJob,
    add_artifact,
    append_events,
    claim_job,
    fail,
    keep_checkpoint,
    succeed,
    succeed_as,
)
from db.queries.deletion import delete_job, jobs_ended_before
from db.queries.jobs import artifacts, cancel, create_job, get_job, list_jobs, retry, take_result
from db.queries.lineage import lineage, origin
from db.queries.reuse import find_twin
from db.queries.step_results import FirstSteps, find_step_result, keep_step_result
from db.queries.stored_bytes import HOLDERS
from db.queries.uploads import create_model
from modelpress.spec.event import Progress, Warned
from modelpress.spec.failure import Failure, FailureKind
from modelpress.spec.state import JobState
from tests.support.finished import carry_out, end_before
from tests.support.reports import a_report
from tests.support.rows import Tenant, any_sha256, new_tenant, spec_for


@pytest.fixture
def tenant(database: Database) -> Tenant:
    return new_tenant(database)


def _rows(database: Database) -> dict[str, int]:
    with database.session(read_only=True) as session:
        return {
            table.name: session.scalar(select(func.count()).select_from(table)) or 0
            for table in Base.metadata.sorted_tables
        }


def _claim(tenant: Tenant, job: Job) -> ClaimedJob:
    with tenant.database.session() as session:
        claimed = claim_job(session, "worker", 60)
    assert claimed is not None
    assert claimed.id == job.id
    return claimed


def _keep(tenant: Tenant, job: Job, sha256: str, filename: str = "model.mpz", attempt: int = 1) -> None:
    with tenant.database.session() as session:
        assert add_artifact(
            session,
            job.id,
            attempt,
            kind="compact",
            filename=filename,
            size=1,
            sha256=sha256,
            content_type="application/octet-stream",
        )


def _run(tenant: Tenant, job: Job, *hashes: str) -> None:
    """Carry the job out; its files have these hashes."""
    carry_out(tenant, job, {f"{number}": sha256 for number, sha256 in enumerate(hashes)})


def _delete(tenant: Tenant, job: Job) -> list[str]:
    with tenant.database.session() as session:
        return delete_job(session, tenant.team_id, job.id)


def test_every_row_of_it_goes_and_no_other(tenant: Tenant) -> None:
    database = tenant.database
    _run(tenant, tenant.submit(tenant.upload_model(), sparsity=0.1), any_sha256())
    student = tenant.upload_model()
    model, dataset = tenant.upload_model(), tenant.upload_dataset()
    before = _rows(database)
    job = tenant.submit(model, dataset, students=[student])
    # A first attempt that failed, with a file; a second one with everything that an attempt leaves.
    _claim(tenant, job)
    dead, kept, checkpoint, first = (any_sha256() for _ in range(4))
    _keep(tenant, job, dead)
    with database.session() as session:
        assert fail(session, job.id, 1, Failure(kind=FailureKind.INTERNAL, message="broken"))
        retry(session, tenant.team_id, job.id)
    _claim(tenant, job)
    with database.session() as session:
        told = (
            Progress(stage="step", step=0, steps=1, epoch=1, epochs=2, fraction=0.5, loss=1.0),
            Progress(stage="step", step=0, steps=1, epoch=2, epochs=2, fraction=0.6, loss=1.0),
            Warned(message="careful"),
        )
        assert append_events(session, job.id, 2, told)
        for part, sha256 in (("steps", checkpoint), ("training", any_sha256()), ("steps", checkpoint)):
            assert keep_checkpoint(session, job.id, 2, part, sha256=sha256, size=1)
        keep_step_result(session, tenant.team_id, FirstSteps(job.id, 1, first), "f" * 64, size=1, replace=False)
    _keep(tenant, job, kept, attempt=2)
    with database.session() as session:
        assert succeed(session, job.id, 2, a_report())
    grown = {name for name, number in _rows(database).items() if number > before[name]}
    below = {table.name for table in Base.metadata.sorted_tables if "job_id" in table.columns}
    assert grown == below | {"jobs"}

    hashes = _delete(tenant, job)
    assert {dead, kept, checkpoint, first} < set(hashes)
    assert len(hashes) == len(set(hashes)) == 5
    assert _rows(database) == before
    with database.session(read_only=True) as session:
        assert get_job(session, tenant.team_id, job.id) is None
        assert artifacts(session, job.id) == []
        assert find_step_result(session, tenant.team_id, ("", "f" * 64)) is None
    with pytest.raises(NotFound):
        _delete(tenant, job)


@pytest.mark.parametrize("state", [JobState.QUEUED, JobState.RUNNING, JobState.CANCELLING])
def test_one_that_is_not_over_is_left_alone(tenant: Tenant, state: JobState) -> None:
    job = tenant.submit(tenant.upload_model())
    with tenant.database.session() as session:
        if state is not JobState.QUEUED:
            assert claim_job(session, "worker", 60) is not None
        if state is JobState.CANCELLING:
            cancel(session, tenant.team_id, job.id)
    before = _rows(tenant.database)
    with pytest.raises(InvalidTransition, match=rf"{state.value} cannot be deleted: wait for its end, or cancel"):
        _delete(tenant, job)
    assert _rows(tenant.database) == before


def test_that_of_another_team_is_not_there(tenant: Tenant) -> None:
    job = tenant.submit(tenant.upload_model())
    _run(tenant, job)
    with pytest.raises(NotFound), tenant.database.session() as session:
        delete_job(session, new_tenant(tenant.database, "other").team_id, job.id)
    with tenant.database.session(read_only=True) as session:
        assert [row.id for row in list_jobs(session, tenant.team_id, limit=2)] == [job.id]


def test_its_key_is_free_again(tenant: Tenant) -> None:
    model = tenant.upload_model()
    with tenant.database.session() as session:
        first, _ = create_job(session, tenant.team_id, spec_for(model), idempotency_key="mine")
        cancel(session, tenant.team_id, first.id)
    _delete(tenant, first)
    with tenant.database.session() as session:
        second, created = create_job(session, tenant.team_id, spec_for(model), idempotency_key="mine")
    assert created
    assert second.id != first.id


def test_a_model_of_its_file_stays_and_begins_a_chain_of_its_own(tenant: Tenant) -> None:
    made, again = any_sha256(), any_sha256()
    first = tenant.submit(tenant.upload_model())
    _run(tenant, first, made)
    derived = tenant.upload_model(sha256=made)
    second = tenant.submit(derived, sparsity=0.9)
    _run(tenant, second, again)
    with tenant.database.session(read_only=True) as session:
        last = session.get_one(Model, tenant.upload_model(sha256=again).id)
        assert [ancestor.job for ancestor in lineage(session, last)] == [second.id, first.id]
    _delete(tenant, first)
    with tenant.database.session() as session:
        assert session.get_one(Model, derived.id).derived_from is None
        assert origin(session, tenant.team_id, made) is None
        assert [ancestor.job for ancestor in lineage(session, last)] == [second.id]
        assert last.derived_from.job == second.id
    third = tenant.submit(derived, sparsity=0.8)
    assert _claim(tenant, third).model.lineage == ()


def test_a_chain_ends_where_a_job_is_gone_that_a_model_still_names(tenant: Tenant) -> None:
    """An upload that was at its row when the job went."""
    made = any_sha256()
    job = tenant.submit(tenant.upload_model())
    _run(tenant, job, made)
    derived = tenant.upload_model(sha256=made)
    named = derived.derived_from
    _delete(tenant, job)
    with tenant.database.session() as session:
        session.get_one(Model, derived.id).derived_from = named
    with tenant.database.session(read_only=True) as session:
        assert lineage(session, session.get_one(Model, derived.id)) == ()


def test_who_was_given_its_result_keeps_it(tenant: Tenant) -> None:
    model, made = tenant.upload_model(), any_sha256()
    first = tenant.submit(model)
    _run(tenant, first, made)
    second = tenant.submit(model)
    with tenant.database.session() as session:
        twin = find_twin(session, tenant.team_id, second.identity)
        assert twin is not None
        take_result(session, tenant.team_id, second.id, twin)
    assert made in _delete(tenant, first)
    with tenant.database.session(read_only=True) as session:
        row = get_job(session, tenant.team_id, second.id)
        assert row is not None
        assert (row.state, row.reused_from) == (JobState.SUCCEEDED, first.id)
        assert [file.sha256 for file in artifacts(session, second.id)] == [made]
        # The next one is run.
        assert find_twin(session, tenant.team_id, first.identity) is None


def test_who_was_to_be_given_its_result_is_run(tenant: Tenant) -> None:
    model = tenant.upload_model()
    waiting = tenant.submit(model)
    first = _claim(tenant, waiting)
    second, third = tenant.submit(model), tenant.submit(model)
    with tenant.database.session() as session:
        assert succeed(session, first.id, 1, a_report())
        twin = find_twin(session, tenant.team_id, third.identity)
    assert twin is not None
    claimed = _claim(tenant, second)
    assert claimed.twin == twin
    _delete(tenant, waiting)
    with pytest.raises(NotFound), tenant.database.session() as session:
        succeed_as(session, second.id, 1, twin.job_id)
    with pytest.raises(NotFound), tenant.database.session() as session:
        take_result(session, tenant.team_id, third.id, twin)
    with tenant.database.session(read_only=True) as session:
        states = [session.get_one(Job, row.id).state for row in (second, third)]
        open_attempts = session.scalars(select(Attempt.job_id).where(Attempt.finished_at.is_(None))).all()
    assert states == [JobState.RUNNING, JobState.QUEUED]
    assert open_attempts == [second.id]


def test_it_waits_for_who_is_given_its_result_just_now(tenant: Tenant) -> None:
    """Its bytes are dropped behind it, and the other one's rows name them by then."""
    model, made = tenant.upload_model(), any_sha256()
    first = tenant.submit(model)
    _run(tenant, first, made)
    second = tenant.submit(model)
    gone: list[str] = []
    with tenant.database.session() as session:
        twin = find_twin(session, tenant.team_id, second.identity)
        assert twin is not None
        take_result(session, tenant.team_id, second.id, twin)
        deleting = threading.Thread(target=lambda: gone.extend(_delete(tenant, first)))
        deleting.start()
        deleting.join(0.3)
        assert not gone
    deleting.join(30)
    assert made in gone
    with tenant.database.session(read_only=True) as session:
        assert [file.sha256 for file in artifacts(session, second.id)] == [made]


@pytest.mark.parametrize("dialect", ["postgresql"])
def test_it_waits_for_an_upload_of_its_file(tenant: Tenant) -> None:
    """Else the model would name a job for ever that is gone."""
    made = any_sha256()
    job = tenant.submit(tenant.upload_model())
    _run(tenant, job, made)
    gone: list[str] = []
    with tenant.database.session() as session:
        model = create_model(
            session,
            tenant.team_id,
            name="again",
            format="safetensors",
            architecture=None,
            image_size=None,
            preprocessing=None,
            sha256=made,
            size=1,
        )
        assert model.derived_from is not None
        deleting = threading.Thread(target=lambda: gone.extend(_delete(tenant, job)))
        deleting.start()
        deleting.join(0.3)
        assert not gone
    deleting.join(30)
    assert gone == [made]
    with tenant.database.session(read_only=True) as session:
        assert session.get_one(Model, model.id).derived_from is None


@pytest.mark.parametrize("dialect", ["postgresql"])
def test_it_waits_for_nobody_for_long(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who drops a checkpoint holds its row while the store does not answer; others want the job's result meanwhile."""
    monkeypatch.setattr(deletion, "LOCK_SECONDS", 0.2)
    job = tenant.submit(tenant.upload_model())
    _claim(tenant, job)
    with tenant.database.session() as session:
        keep_checkpoint(session, job.id, 1, "steps", sha256=any_sha256(), size=1)
    with tenant.database.session() as session:
        assert succeed(session, job.id, 1, a_report())
    before = _rows(tenant.database)
    with tenant.database.session() as session:
        ((row_id, sha256),) = unneeded_checkpoints(session)
        drop_checkpoint(session, row_id, sha256)
        with pytest.raises(OperationalError, match="lock timeout"):
            _delete(tenant, job)
    assert _rows(tenant.database) == {**before, "checkpoints": 0}
    assert _delete(tenant, job) == []


def test_those_that_ended_long_ago_are_found(tenant: Tenant) -> None:
    model = tenant.upload_model()
    *jobs, waiting = (tenant.submit(model, sparsity=0.1 * number) for number in range(1, 5))
    for job in jobs:
        _run(tenant, job)
    # However it comes that a job has a time and is not over: it is not deleted, nor found again and again.
    for job, seconds in zip([*jobs, waiting], (7300, 7500, 7100, 7300), strict=True):
        end_before(tenant, job, seconds)
    with tenant.database.session(read_only=True) as session:
        old = jobs_ended_before(session, 7200)
        assert old == [(tenant.team_id, jobs[1].id), (tenant.team_id, jobs[0].id)]
        assert jobs_ended_before(session, 7200, limit=1) == old[:1]
        assert jobs_ended_before(session, 7200, but={jobs[1].id}) == old[1:]


def test_one_that_was_run_again_since_it_was_found_too_old_is_left_alone(tenant: Tenant) -> None:
    job = tenant.submit(tenant.upload_model())
    _claim(tenant, job)
    with tenant.database.session() as session:
        assert fail(session, job.id, 1, Failure(kind=FailureKind.INTERNAL, message="broken"))
    end_before(tenant, job, 7300)
    with tenant.database.session() as session:
        assert jobs_ended_before(session, 7200) == [(tenant.team_id, job.id)]
        retry(session, tenant.team_id, job.id)
    _claim(tenant, job)
    _keep(tenant, job, any_sha256(), attempt=2)
    with tenant.database.session() as session:
        assert succeed(session, job.id, 2, a_report())
    with pytest.raises(NotFound), tenant.database.session() as session:
        delete_job(session, tenant.team_id, job.id, ended_seconds_ago=7200)
    with tenant.database.session(read_only=True) as session:
        assert len(artifacts(session, job.id)) == 1


def test_what_names_bytes_is_deleted_by_their_names() -> None:
    with_bytes = {table for table in HOLDERS if "job_id" in table.__table__.columns}
    assert set(deletion.NAMING_BYTES) == with_bytes
