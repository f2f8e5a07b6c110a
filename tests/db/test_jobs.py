"""Jobs as their owners see them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import func, select

from db.errors import IdempotencyMismatch, InputDeleted, InvalidText, InvalidTransition, NotFound
from db.models import Job
from db.queries.claims import add_artifact, append_events, cancelled, claim_job, fail, heartbeat, succeed
from db.queries.jobs import (
    artifacts,
    attempts,
    cancel,
    create_job,
    events_after,
    get_artifact,
    get_job,
    get_report,
    list_jobs,
    retry,
    standing,
)
from db.queries.uploads import delete_dataset, delete_model
from modelpress.spec.event import Progress, StateChanged, Warned
from modelpress.spec.failure import Failure, FailureKind
from modelpress.spec.state import JobState
from tests.support.reports import a_report
from tests.support.rows import new_tenant, spec_for

FAILURE = Failure(kind=FailureKind.DIVERGED, message="the loss is not a number; lower the learning rate", step=0)


@pytest.fixture
def tenant(database):
    return new_tenant(database)


@pytest.fixture
def job(tenant):
    return tenant.submit(tenant.upload_model(), tenant.upload_dataset())


def _get(tenant, job):
    with tenant.database.session(read_only=True) as session:
        return get_job(session, tenant.team_id, job.id)


def _states(tenant, job):
    with tenant.database.session(read_only=True) as session:
        events = [row.event for row in events_after(session, job.id, 0, 1_000)]
    return [event.state for event in events if isinstance(event, StateChanged)]


def test_a_new_job_waits_and_says_so(tenant, job):
    found = _get(tenant, job)
    assert found.state is JobState.QUEUED
    assert found.name == found.spec.name == "a job"
    assert found.model_id == found.spec.model
    assert found.dataset_id == found.spec.dataset
    assert (found.attempt, found.progress, found.failure, found.started_at, found.finished_at) == (0, *[None] * 4)
    with tenant.database.session(read_only=True) as session:
        (event,) = events_after(session, job.id, 0, 10)
        assert (event.seq, event.attempt, event.kind) == (1, 0, "state")
        assert event.event == StateChanged(state="queued", attempt=0)
        assert attempts(session, job.id) == artifacts(session, job.id) == []
        assert get_report(session, found) is None


def test_inputs_must_be_there_and_ones_own(database, tenant):
    theirs = new_tenant(database, "theirs")
    model, dataset = tenant.upload_model(), tenant.upload_dataset()
    their_student = spec_for(model, dataset, students=[tenant.upload_model(), theirs.upload_model()])
    for wrong in (spec_for(theirs.upload_model()), spec_for(model, theirs.upload_dataset()), their_student):
        with pytest.raises(NotFound), database.session() as session:
            create_job(session, tenant.team_id, wrong)
    swapped = spec_for(model).model_copy(update={"model": dataset.id})
    with pytest.raises(NotFound, match="model"), database.session() as session:
        create_job(session, tenant.team_id, swapped)
    with database.session(read_only=True) as session:
        assert list_jobs(session, tenant.team_id, limit=10) == []


def test_another_teams_job_is_no_job(database, tenant, job):
    other = new_tenant(database, "other")
    with database.session() as session:
        assert get_job(session, other.team_id, job.id) is None
        assert standing(session, other.team_id, job.id) is None
        assert list_jobs(session, other.team_id, limit=10) == []
        for ask in (cancel, retry):
            with pytest.raises(NotFound):
                ask(session, other.team_id, job.id)
    assert _get(tenant, job).state is JobState.QUEUED


def test_lists_filter_and_page(database, tenant):
    one, two = tenant.upload_model(), tenant.upload_model()
    jobs = [tenant.submit(model).id for model in (one, two, one, two, one)]
    with database.session() as session:
        cancel(session, tenant.team_id, jobs[0])
        cancel(session, tenant.team_id, jobs[3])

    def ids(**filters):
        with database.session(read_only=True) as session:
            return [row.id for row in list_jobs(session, tenant.team_id, **{"limit": 10, **filters})]

    assert ids() == jobs[::-1]
    assert ids(limit=2) == [jobs[4], jobs[3]]
    assert ids(limit=2, after=jobs[3]) == [jobs[2], jobs[1]]
    assert ids(model=one.id) == [jobs[4], jobs[2], jobs[0]]
    assert ids(state=JobState.CANCELLED) == [jobs[3], jobs[0]]
    assert ids(state=JobState.QUEUED, model=two.id, after=jobs[4]) == [jobs[1]]
    assert ids(model="mdl_none") == []


class TestIdempotency:
    def _post(self, tenant, spec, key):
        with tenant.database.session() as session:
            job, created = create_job(session, tenant.team_id, spec, idempotency_key=key)
            return job.id, created

    def _count(self, tenant):
        with tenant.database.session(read_only=True) as session:
            return session.scalar(select(func.count()).select_from(Job))

    def test_the_same_key_gives_the_first_job_whatever_became_of_it(self, database, tenant):
        model = tenant.upload_model()
        spec = spec_for(model)
        first, created = self._post(tenant, spec, "k")
        assert created
        with database.session() as session:
            cancel(session, tenant.team_id, first)
            delete_model(session, tenant.team_id, model.id)
        assert self._post(tenant, spec, "k") == (first, False)
        assert self._count(tenant) == 1

    def test_the_same_key_for_another_spec_is_refused(self, tenant):
        model = tenant.upload_model()
        first, _ = self._post(tenant, spec_for(model), "k")
        with pytest.raises(IdempotencyMismatch, match=first):
            self._post(tenant, spec_for(model, sparsity=0.9), "k")
        assert self._count(tenant) == 1

    def test_keys_belong_to_a_team_and_none_is_no_key(self, database, tenant):
        other = new_tenant(database, "other")
        model = tenant.upload_model()
        self._post(tenant, spec_for(model), "k")
        assert self._post(other, spec_for(other.upload_model()), "k")[1]
        assert self._post(tenant, spec_for(model), None)[1]
        assert self._post(tenant, spec_for(model), None)[1]
        assert self._count(tenant) == 4

    def test_twenty_posts_at_once_make_one_job(self, tenant):
        spec = spec_for(tenant.upload_model())
        with ThreadPoolExecutor(20) as pool:
            answers = list(pool.map(lambda _: self._post(tenant, spec, "k"), range(20)))
        assert len({job_id for job_id, _ in answers}) == 1
        assert sorted(created for _, created in answers) == [False] * 19 + [True]
        assert self._count(tenant) == 1
        with tenant.database.session(read_only=True) as session:
            assert len(events_after(session, answers[0][0], 0, 100)) == 1

    def test_a_key_that_cannot_be_stored_is_refused(self, tenant):
        with pytest.raises(InvalidText, match="Idempotency-Key"):
            self._post(tenant, spec_for(tenant.upload_model()), "\x00")


class TestCancel:
    def _cancel(self, tenant, job):
        with tenant.database.session() as session:
            return cancel(session, tenant.team_id, job.id)

    def test_a_waiting_job_is_cancelled_at_once(self, database, tenant, job):
        answer = self._cancel(tenant, job)
        assert answer.state is JobState.CANCELLED
        assert answer.finished_at is not None
        with database.session() as session:
            assert claim_job(session, "w", 30) is None

    def test_a_running_job_is_stopped_by_its_worker(self, database, tenant, job):
        with database.session() as session:
            claim_job(session, "w", 30)
        assert self._cancel(tenant, job).state is JobState.CANCELLING
        assert self._cancel(tenant, job).state is JobState.CANCELLING
        with database.session() as session:
            assert heartbeat(session, job.id, 1, 30) is JobState.CANCELLING
            # The child may have come to its end just then: cancelled all the same.
            assert not succeed(session, job.id, 1, a_report())
            assert not fail(session, job.id, 1, FAILURE)
            assert cancelled(session, job.id, 1)
        assert _states(tenant, job) == ["queued", "running", "cancelling", "cancelled"]
        with database.session(read_only=True) as session:
            assert [row.outcome for row in attempts(session, job.id)] == ["cancelled"]
            assert get_report(session, job) is None

    def test_a_finished_job_cannot_be_cancelled(self, database, tenant, job):
        with database.session() as session:
            claim_job(session, "w", 30)
            assert succeed(session, job.id, 1, a_report())
        before = _get(tenant, job)
        with pytest.raises(InvalidTransition, match="succeeded"):
            self._cancel(tenant, job)
        assert _get(tenant, job).version == before.version


class TestRetry:
    def _fail(self, tenant, job):
        with tenant.database.session() as session:
            claim = claim_job(session, "w", 30)
            append_events(session, job.id, claim.attempt, [Progress(stage="loading", steps=1, fraction=0.1)])
            assert fail(session, job.id, claim.attempt, FAILURE, a_report())

    def test_a_failed_job_waits_again_as_if_it_were_new(self, database, tenant, job):
        self._fail(tenant, job)
        with database.session() as session:
            answer = retry(session, tenant.team_id, job.id)
        assert answer.state is JobState.QUEUED
        found = _get(tenant, job)
        assert (found.failure, found.progress, found.ratios, found.started_at, found.finished_at) == (None,) * 5
        assert found.queued_at > found.created_at
        with database.session() as session:
            assert get_report(session, found) is None
            assert claim_job(session, "w", 30).attempt == 2
        assert _states(tenant, job) == ["queued", "running", "failed", "queued", "running"]

    def test_it_goes_to_the_end_of_the_queue(self, database, tenant, job):
        self._fail(tenant, job)
        later = tenant.submit(tenant.upload_model())
        with database.session() as session:
            retry(session, tenant.team_id, job.id)
            assert [claim_job(session, "w", 30).id for _ in range(2)] == [later.id, job.id]

    def test_only_failed_and_cancelled_jobs_can_be_retried(self, database, tenant, job):
        def refused(state):
            with pytest.raises(InvalidTransition, match=state), database.session() as session:
                retry(session, tenant.team_id, job.id)

        refused("queued")
        with database.session() as session:
            claim_job(session, "w", 30)
        refused("running")
        with database.session() as session:
            cancel(session, tenant.team_id, job.id)
        refused("cancelling")
        with database.session() as session:
            cancelled(session, job.id, 1)
            assert retry(session, tenant.team_id, job.id).state is JobState.QUEUED
            claim_job(session, "w", 30)
            succeed(session, job.id, 2, a_report())
        refused("succeeded")

    def test_without_its_inputs_it_cannot_be_retried(self, database, tenant):
        for delete, which in ((delete_model, "model_id"), (delete_dataset, "dataset_id")):
            job = tenant.submit(tenant.upload_model(), tenant.upload_dataset())
            with database.session() as session:
                cancel(session, tenant.team_id, job.id)
                delete(session, tenant.team_id, getattr(job, which))
            with pytest.raises(InputDeleted, match="upload it again"), database.session() as session:
                retry(session, tenant.team_id, job.id)
            assert _get(tenant, job).state is JobState.CANCELLED

    def test_without_its_student_it_cannot_be_retried(self, database, tenant):
        student = tenant.upload_model()
        job = tenant.submit(tenant.upload_model(), tenant.upload_dataset(), students=[student])
        with database.session() as session:
            cancel(session, tenant.team_id, job.id)
        with database.session() as session:
            assert retry(session, tenant.team_id, job.id).state is JobState.QUEUED
            cancel(session, tenant.team_id, job.id)
            assert delete_model(session, tenant.team_id, student.id) == student.sha256
        with pytest.raises(InputDeleted, match=student.id), database.session() as session:
            retry(session, tenant.team_id, job.id)


def test_the_version_grows_with_everything_a_reader_can_see(database, tenant, job):
    seen = []

    def look():
        with database.session(read_only=True) as session:
            seen.append(standing(session, tenant.team_id, job.id)[0])

    look()
    with database.session() as session:
        claim_job(session, "w", 30)
    look()
    with database.session() as session:
        append_events(session, job.id, 1, [Progress(stage="loading", steps=1, fraction=0.0)])
    look()
    with database.session() as session:
        append_events(session, job.id, 1, [Warned(message="careful")])
    look()
    with database.session() as session:
        cancel(session, tenant.team_id, job.id)
    look()
    assert seen == sorted(set(seen))
    with database.session() as session:
        heartbeat(session, job.id, 1, 30)  # nothing to see: a long poll sleeps on
    look()
    assert seen[-1] == seen[-2]


def test_events_are_read_from_where_one_stopped(database, job):
    with database.session() as session:
        claim_job(session, "w", 30)
        append_events(session, job.id, 1, [Warned(message=str(number)) for number in range(5)])
    with database.session(read_only=True) as session:
        assert [row.seq for row in events_after(session, job.id, 0, 100)] == [1, 2, 3, 4, 5, 6, 7]
        assert [row.event.message for row in events_after(session, job.id, 4, 2)] == ["2", "3"]
        assert events_after(session, job.id, 7, 100) == []


def test_an_artifact_is_its_teams_own(database, tenant, job):
    other = new_tenant(database, "other")
    with database.session() as session:
        claim_job(session, "w", 30)
        add_artifact(
            session, job.id, 1, kind="log", filename="log.txt", size=3, sha256="b" * 64, content_type="text/plain"
        )
    with database.session(read_only=True) as session:
        (row,) = artifacts(session, job.id)
        assert get_artifact(session, tenant.team_id, row.id).sha256 == "b" * 64
        assert get_artifact(session, other.team_id, row.id) is None
        assert get_artifact(session, tenant.team_id, "art_none") is None
