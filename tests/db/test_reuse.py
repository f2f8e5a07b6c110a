"""A job that is the same as one that succeeded has its result; nothing else is the same."""

from __future__ import annotations

import pytest
from sqlalchemy import event, select, text

from benchmarks.finished_jobs import copy_finished, finish_one
from db.models import LOG_KIND, Job, Metric
from db.queries.claims import ClaimedJob, add_artifact, cancelled, claim_job, fail, succeed, succeed_as
from db.queries.jobs import artifacts, attempts, cancel, events_after, get_job, get_report, take_result
from db.queries.lineage import origin
from db.queries.reuse import find_twin
from db.queries.uploads import delete_model
from modelpress.spec.event import StateChanged
from modelpress.spec.failure import Failure, FailureKind
from modelpress.spec.state import JobState
from tests.support.reports import a_report
from tests.support.rows import any_sha256, new_tenant

MODEL, DATA = any_sha256(), any_sha256()
FILES = {"compact": any_sha256(), "safetensors": any_sha256()}


@pytest.fixture
def tenant(database):
    return new_tenant(database)


def _submit(tenant, **more) -> Job:
    """The same job each time, on uploads of its own."""
    return tenant.submit(tenant.upload_model(sha256=MODEL), tenant.upload_dataset(sha256=DATA), **more)


def _claim(database) -> ClaimedJob:
    with database.session() as session:
        claimed = claim_job(session, "w", 30.0)
    assert claimed is not None
    return claimed


def _run(database, tenant, **more) -> Job:
    """A job that was carried out."""
    job = _submit(tenant, **more)
    claimed = _claim(database)
    assert claimed.id == job.id
    with database.session() as session:
        for kind, sha256 in {**FILES, LOG_KIND: any_sha256()}.items():
            assert add_artifact(
                session, job.id, 1, kind=kind, filename=kind, size=7, sha256=sha256, content_type="text/plain"
            )
        assert succeed(session, job.id, 1, a_report())
    return job


def _twin(database, tenant, job):
    with database.session(read_only=True) as session:
        found = find_twin(session, tenant.team_id, get_job(session, tenant.team_id, job.id).identity)
    return None if found is None else found.job_id


def test_one_that_is_accepted_is_given_the_result_at_once(database, tenant):
    first = _run(database, tenant)
    second = _submit(tenant, priority=5)
    with database.session() as session:
        job = get_job(session, tenant.team_id, second.id)
        twin = find_twin(session, tenant.team_id, job.identity)
        assert (twin.job_id, set(twin.files)) == (first.id, set(FILES.values()))
        version = job.version
        assert take_result(session, tenant.team_id, job.id, twin) is job
        assert (job.state, job.reused_from, job.attempt) == (JobState.SUCCEEDED, first.id, 0)
        assert job.version > version
    with database.session(read_only=True) as session:
        job = get_job(session, tenant.team_id, second.id)
        assert (job.ratios, job.finished_at is not None, job.started_at) == (a_report().ratios, True, None)
        report = get_report(session, job)
        assert report.provenance.reused_from == first.id
        assert report.final == a_report().final
        assert {file.kind: file.sha256 for file in artifacts(session, second.id)} == FILES
        assert not {file.id for file in artifacts(session, second.id)} & {
            file.id for file in artifacts(session, first.id)
        }
        events = [row.event for row in events_after(session, second.id, 0, 10)]
        assert attempts(session, second.id) == []
        assert session.scalars(select(Metric.value).where(Metric.job_id == second.id)).all()
    assert [event.state for event in events] == ["queued", "succeeded"]
    assert events[1] == StateChanged(
        state="succeeded", attempt=0, reason=f"it is the same as {first.id}, and was given its result"
    )
    with database.session() as session:
        assert claim_job(session, "w", 30.0) is None
        # What the file comes from stays the job that made it.
        assert origin(session, tenant.team_id, FILES["compact"]).job == first.id
    # The next one is given that of the job that was run, too.
    assert _twin(database, tenant, _submit(tenant)) == first.id


def test_one_that_waited_meanwhile_is_given_it_when_it_is_claimed(database, tenant):
    first = _submit(tenant)
    assert _claim(database).twin is None
    second = _submit(tenant)
    with database.session() as session:
        assert succeed(session, first.id, 1, a_report())
    claimed = _claim(database)
    assert (claimed.id, claimed.twin.job_id) == (second.id, first.id)
    with database.session() as session:
        assert not succeed_as(session, second.id, 2, first.id)  # another attempt
        assert succeed_as(session, second.id, 1, first.id)
    with database.session(read_only=True) as session:
        job = get_job(session, tenant.team_id, second.id)
        (attempt,) = attempts(session, second.id)
    assert (job.state, job.reused_from, job.worker, job.lease_expires_at) == (
        JobState.SUCCEEDED,
        first.id,
        None,
        None,
    )
    assert (attempt.outcome, attempt.reason) == (
        "succeeded",
        f"it is the same as {first.id}, and was given its result",
    )


def test_one_that_is_being_cancelled_is_given_nothing(database, tenant):
    first, second = _submit(tenant), _submit(tenant)
    _claim(database)
    with database.session() as session:
        assert succeed(session, first.id, 1, a_report())
    assert _claim(database).twin is not None
    with database.session() as session:
        cancel(session, tenant.team_id, second.id)
    with database.session() as session:
        assert not succeed_as(session, second.id, 1, first.id)
        assert cancelled(session, second.id, 1)
        assert artifacts(session, second.id) == []


def test_what_is_not_the_same_is_run(database, tenant):
    first = _run(database, tenant)
    assert _twin(database, tenant, first) == first.id
    stranger = new_tenant(database, "others")
    for job, owner in (
        (_submit(stranger), stranger),
        (_submit(tenant, sparsity=0.75), tenant),
        (_submit(tenant, seed=1), tenant),
        (tenant.submit(tenant.upload_model(), tenant.upload_dataset(sha256=DATA)), tenant),
        (tenant.submit(tenant.upload_model(sha256=MODEL)), tenant),
    ):
        assert _twin(database, owner, job) is None


def test_what_was_asked_to_be_run_is_run(database, tenant):
    first = _run(database, tenant)
    forced = _submit(tenant, reuse=False)
    claimed = _claim(database)
    assert (claimed.id, claimed.twin, claimed.spec.reuse) == (forced.id, None, False)
    with database.session() as session:
        assert succeed(session, forced.id, 1, a_report())
    assert _twin(database, tenant, first) == forced.id  # the newest


def test_a_job_that_failed_has_nothing_to_give(database, tenant):
    job = _submit(tenant)
    _claim(database)
    missed = Failure(kind=FailureKind.GOAL_NOT_MET, message="it misses its goal")
    with database.session() as session:
        assert fail(session, job.id, 1, missed, a_report())
    assert _twin(database, tenant, job) is None


def test_a_result_outlives_its_inputs(database, tenant):
    first = _run(database, tenant)
    with database.session() as session:
        delete_model(session, tenant.team_id, first.model_id)
    second = _submit(tenant)
    assert _claim(database).twin.job_id == first.id
    with database.session() as session:
        assert succeed_as(session, second.id, 1, first.id)


def test_the_release_that_runs_a_job_gives_it_its_identity(database, tenant, monkeypatch):
    job = _submit(tenant)
    accepted = job.identity
    monkeypatch.setattr("modelpress.spec.identity.__version__", "the next one")
    _claim(database)
    with database.session() as session:
        assert succeed(session, job.id, 1, a_report())
        assert get_job(session, tenant.team_id, job.id).identity != accepted
        assert find_twin(session, tenant.team_id, accepted) is None


def test_the_version_before_reads_what_is_asked_for(database, tenant):
    """It knows no field `reuse`, and refuses what it does not know."""
    job, forced = _submit(tenant), _submit(tenant, reuse=False)
    with database.session(read_only=True) as session:
        stored = dict(session.execute(text("SELECT id, CAST(spec AS TEXT) FROM jobs")).tuples().all())
    assert '"reuse"' not in stored[job.id]
    assert '"reuse"' in stored[forced.id]


def test_a_twin_is_found_by_its_identity_however_many_jobs_are_over(database, tenant):
    """Of one that PostgreSQL takes for common it would look for the newest job through the whole history."""
    copy_finished(database, finish_one(tenant), 1, 2_000, [tenant.upload_model().id])
    statements = []

    def note(_connection, _cursor, statement, parameters, _context, _many):
        statements.append((statement, parameters))

    with database.session(read_only=True) as session:
        engine = session.get_bind()
        event.listen(engine, "before_cursor_execute", note)
        assert find_twin(session, tenant.team_id, any_sha256()) is None
        event.remove(engine, "before_cursor_execute", note)
        ((statement, parameters),) = [sent for sent in statements if "FROM jobs" in sent[0]]
        explain = "EXPLAIN QUERY PLAN" if database.dialect == "sqlite" else "EXPLAIN"
        plan = str(session.connection().exec_driver_sql(f"{explain} {statement}", parameters).all())
    assert "ix_jobs_identity_team_id" in plan
