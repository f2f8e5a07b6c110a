"""Jobs as workers see them: each claimed once, every write fenced, nothing lost with a worker."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select, update

from db.clock import now, now_plus
from db.models import Attempt, Checkpoint, Event, Job
from db.queries.claims import (
    ClaimedJob,
    Reaped,
    add_artifact,
    append_events,
    cancelled,
    claim_job,
    fail,
    has_waiting_jobs,
    heartbeat,
    keep_checkpoint,
    last_told,
    lose,
    reap,
    release,
    succeed,
)
from db.queries.jobs import artifacts, attempts, cancel, create_job, events_after, get_job, get_report, retry
from db.queries.metrics import metrics
from db.queries.model_input import ModelInput
from modelpress.spec.event import Progress, StageDone, StateChanged, Warned
from modelpress.spec.failure import Failure, FailureKind
from modelpress.spec.identity import Inputs, step_fingerprints
from modelpress.spec.state import JobState
from tests.support.reports import BASELINE, a_report
from tests.support.rows import ARCHITECTURE, PREPROCESSING, new_tenant, spec_for

FAILURE = Failure(kind=FailureKind.OUT_OF_MEMORY, message="out of memory; lower the batch size")
LAPSED = -1.0  # seconds of a lease that has run out as soon as it is given


@pytest.fixture
def tenant(database):
    return new_tenant(database)


@pytest.fixture
def job(tenant):
    return tenant.submit(tenant.upload_model())


def _claim(database, worker="w", lease=30.0):
    with database.session() as session:
        return claim_job(session, worker, lease)


def _get(tenant, job):
    with tenant.database.session(read_only=True) as session:
        return get_job(session, tenant.team_id, job.id)


def _events(database, job):
    with database.session(read_only=True) as session:
        return [row.event for row in events_after(session, job.id, 0, 1_000)]


def _step(fraction=0.1, epoch=1, step=0, **metrics):
    return Progress(stage="step", step=step, steps=2, fraction=fraction, epoch=epoch, epochs=9, metrics=metrics)


class TestClaim:
    def test_a_claim_tells_all_that_a_worker_needs(self, database, tenant):
        model, dataset = tenant.upload_model(), tenant.upload_dataset()
        job = tenant.submit(model, dataset)
        with database.session(read_only=True) as session:
            assert has_waiting_jobs(session)
        assert _claim(database, "worker-1") == ClaimedJob(
            id=job.id,
            team_id=tenant.team_id,
            attempt=1,
            spec=spec_for(model, dataset),
            model=ModelInput(
                sha256=model.sha256,
                format="safetensors",
                architecture=ARCHITECTURE,
                image_size=32,
                preprocessing=PREPROCESSING,
            ),
            dataset=dataset.sha256,
            fingerprints=step_fingerprints(
                Inputs(ModelInput.of(model).given, dataset.sha256), spec_for(model, dataset)
            ),
        )
        found = _get(tenant, job)
        assert (found.state, found.attempt, found.worker) == (JobState.RUNNING, 1, "worker-1")
        assert found.started_at is not None
        with database.session(read_only=True) as session:
            assert not has_waiting_jobs(session)
            (attempt,) = attempts(session, job.id)
        assert (attempt.number, attempt.worker, attempt.finished_at, attempt.outcome) == (1, "worker-1", None, None)
        assert _events(database, job) == [
            StateChanged(state="queued", attempt=0),
            StateChanged(state="running", attempt=1),
        ]

    def test_a_claim_tells_what_students_begin_as(self, database, tenant):
        one, two = tenant.upload_model(), tenant.upload_model()
        tenant.submit(tenant.upload_model(), tenant.upload_dataset(), students=[two, one, two])
        claimed = _claim(database)
        assert claimed.students == {one.id: ModelInput.of(one), two.id: ModelInput.of(two)}
        assert one.sha256 != two.sha256
        tenant.submit(one, tenant.upload_dataset())
        assert _claim(database).students == {}

    def test_the_lease_runs_by_the_databases_clock(self, database, job):
        _claim(database, lease=90.0)
        with database.session(read_only=True) as session:
            expires, present = session.execute(select(Job.lease_expires_at, now())).one()
        assert 80 < (expires - present).total_seconds() <= 90

    def test_nothing_waits(self, database):
        assert _claim(database) is None

    def test_the_job_that_waits_longest_comes_first(self, database, tenant):
        model = tenant.upload_model()
        jobs = [tenant.submit(model).id for _ in range(5)]
        assert [_claim(database).id for _ in range(5)] == jobs
        assert _claim(database) is None

    def test_eight_workers_claim_forty_jobs_each_once(self, database, tenant):
        model = tenant.upload_model()
        jobs = {tenant.submit(model).id for _ in range(40)}
        barrier = threading.Barrier(8)

        def work(number):
            barrier.wait()
            claims = []
            while (claim := _claim(database, f"w{number}")) is not None:
                claims.append(claim)
            return claims

        with ThreadPoolExecutor(8) as pool:
            claims = [claim for found in pool.map(work, range(8)) for claim in found]
        assert len(claims) == 40
        assert {claim.id for claim in claims} == jobs
        assert {claim.attempt for claim in claims} == {1}
        with database.session(read_only=True) as session:
            assert len(session.scalars(select(Attempt)).all()) == 40
            started = session.scalars(select(Event).where(Event.seq == 2)).all()
        assert {row.event.state for row in started} == {"running"}
        assert len(started) == 40

    def test_a_worker_waits_for_the_claim_of_another(self, database, tenant):
        """Not None, which would send it to sleep beside a job that waits; and not the same job."""
        jobs = [tenant.submit(tenant.upload_model()).id for _ in range(2)]
        asking = threading.Event()
        claims = []

        def ask():
            asking.set()
            claims.append(_claim(database))

        other = threading.Thread(target=ask)
        with database.session() as session:
            assert claim_job(session, "first", 30).id == jobs[0]
            other.start()
            asking.wait()
            other.join(timeout=0.5)
            assert not claims
        other.join()
        assert claims[0].id == jobs[1]

    def test_a_claim_that_is_not_committed_leaves_the_job_to_others(self, database, job):
        def claim_and_fail():
            with database.session() as session:
                assert claim_job(session, "w", 30) is not None
                raise KeyError

        with pytest.raises(KeyError):
            claim_and_fail()
        assert _claim(database, "other").attempt == 1


class TestFence:
    """A worker that lost its job changes nothing any more, whatever it writes."""

    WRITES = {
        "heartbeat": lambda session, job_id, attempt: heartbeat(session, job_id, attempt, 30),
        "append_events": lambda session, job_id, attempt: append_events(
            session, job_id, attempt, [Warned(message="late")]
        ),
        "append_nothing": lambda session, job_id, attempt: append_events(session, job_id, attempt, []),
        "add_artifact": lambda session, job_id, attempt: add_artifact(
            session, job_id, attempt, kind="log", filename="log.txt", size=1, sha256="0" * 64, content_type="text/plain"
        ),
        "keep_checkpoint": lambda session, job_id, attempt: keep_checkpoint(
            session, job_id, attempt, "steps", sha256="1" * 64, size=1
        ),
        "succeed": lambda session, job_id, attempt: succeed(session, job_id, attempt, a_report()),
        "lose": lambda session, job_id, attempt: lose(session, job_id, attempt, FAILURE, 3, "late"),
        "fail": lambda session, job_id, attempt: fail(session, job_id, attempt, FAILURE, a_report()),
        "cancelled": cancelled,
        "release": lambda session, job_id, attempt: release(session, job_id, attempt, "late"),
    }

    def _all(self, database):
        with database.session(read_only=True) as session:
            tables = (Job.__table__, Attempt.__table__, Event.__table__, Checkpoint.__table__)
            return [session.execute(select(table)).all() for table in tables], artifacts(
                session, session.scalar(select(Job.id))
            )

    @pytest.mark.parametrize("name", WRITES)
    def test_after_the_lease_ran_out_and_another_took_it(self, database, job, name):
        _claim(database, "slow", lease=LAPSED)
        with database.session() as session:
            reap(session, 3)
        assert _claim(database, "quick").attempt == 2
        before = self._all(database)
        with database.session() as session:
            assert not self.WRITES[name](session, job.id, 1)
        assert self._all(database) == before

    @pytest.mark.parametrize("name", WRITES)
    def test_while_it_waits_for_another(self, database, job, name):
        _claim(database, "slow", lease=LAPSED)
        with database.session() as session:
            reap(session, 3)
        before = self._all(database)
        with database.session() as session:
            assert not self.WRITES[name](session, job.id, 1)
        assert self._all(database) == before

    @pytest.mark.parametrize("name", WRITES)
    def test_after_it_was_finished(self, database, job, name):
        _claim(database)
        with database.session() as session:
            assert fail(session, job.id, 1, FAILURE)
        before = self._all(database)
        with database.session() as session:
            assert not self.WRITES[name](session, job.id, 1)
        assert self._all(database) == before

    def test_an_attempt_that_is_not_yet_writes_nothing(self, database, job):
        _claim(database)
        before = self._all(database)
        with database.session() as session:
            assert not any(write(session, job.id, 2) for write in self.WRITES.values())
            assert not any(write(session, "job_none", 1) for write in self.WRITES.values())
        assert self._all(database) == before

    def test_the_holder_of_the_attempt_may_do_each(self, database, tenant):
        """The tests above fail for the fence alone."""
        model = tenant.upload_model()
        for name, write in self.WRITES.items():
            job = tenant.submit(model)
            _claim(database)
            with database.session() as session:
                if name == "cancelled":
                    cancel(session, tenant.team_id, job.id)
                assert write(session, job.id, 1)
            with database.session() as session:
                if not get_job(session, tenant.team_id, job.id).state.final:
                    cancel(session, tenant.team_id, job.id)
                    cancelled(session, job.id, 1)


class TestEvents:
    def test_progress_goes_to_the_job_and_is_thinned(self, database, tenant, job):
        _claim(database)
        with database.session() as session:
            assert append_events(session, job.id, 1, [_step(0.01 * number) for number in range(50)])
        for number in range(50, 60):
            with database.session() as session:
                assert append_events(session, job.id, 1, [_step(0.01 * number)])
        assert _get(tenant, job).progress == _step(0.59)
        told = [event for event in _events(database, job) if isinstance(event, Progress)]
        assert told == [_step(0.0)]

    def test_an_old_progress_is_followed_by_one_more(self, database, job):
        _claim(database)
        with database.session() as session:
            append_events(session, job.id, 1, [_step(0.1)])
            session.execute(update(Job).values(progress_recorded_at=now_plus(-6)))
            append_events(session, job.id, 1, [_step(0.2), _step(0.3)])
            append_events(session, job.id, 1, [_step(0.4)])
        told = [event.fraction for event in _events(database, job) if isinstance(event, Progress)]
        assert told == [0.1, 0.2]

    def test_a_change_of_stage_step_or_epoch_is_always_told(self, database, job):
        _claim(database)
        loading = Progress(stage="loading", steps=2, fraction=0)
        changes = [
            loading,
            _step(epoch=1),
            _step(epoch=2),
            _step(epoch=2, step=1),
            Progress(stage="done", steps=2, fraction=1),
        ]
        with database.session() as session:
            append_events(session, job.id, 1, [event for event in changes for _ in range(3)])
        assert [event for event in _events(database, job) if isinstance(event, Progress)] == changes

    def test_everything_else_is_told_in_its_order(self, database, job):
        _claim(database)
        said = [Warned(message="a"), StageDone(stage="baseline", measurement=BASELINE), _step(), Warned(message="b")]
        with database.session() as session:
            append_events(session, job.id, 1, said)
        assert _events(database, job)[2:] == said
        with database.session(read_only=True) as session:
            rows = events_after(session, job.id, 0, 100)
        assert [row.seq for row in rows] == [1, 2, 3, 4, 5, 6]
        assert [row.kind for row in rows][2:] == ["warning", "stage_done", "progress", "warning"]

    def test_what_a_lost_client_left_to_the_server_is_waited_for(self, database, job):
        _claim(database)
        with ThreadPoolExecutor(1) as pool:
            with database.session() as session:
                last = append_events(session, job.id, 1, [Warned(message="on its way")])

                def look():
                    with database.session() as other:
                        return last_told(other, job.id, 1, last - 1)

                looked = pool.submit(look)
                with pytest.raises(TimeoutError):
                    looked.result(0.5)
            assert looked.result(30) == last

    def test_two_threads_never_give_one_number_twice(self, database, job):
        _claim(database)

        def say(name):
            for number in range(10):
                with database.session() as session:
                    assert append_events(session, job.id, 1, [Warned(message=f"{name}{number}")] * 2)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(say, "abcd"))
        with database.session(read_only=True) as session:
            assert [row.seq for row in events_after(session, job.id, 0, 100)] == list(range(1, 83))

    def test_a_new_attempt_begins_with_no_progress(self, database, tenant, job):
        _claim(database)
        with database.session() as session:
            append_events(session, job.id, 1, [_step(0.9)])
            release(session, job.id, 1, "shutdown")
        assert _get(tenant, job).progress is None
        _claim(database)
        with database.session() as session:
            append_events(session, job.id, 2, [_step(0.9)])
        assert [event for event in _events(database, job) if isinstance(event, Progress)] == [_step(0.9)] * 2


class TestMetrics:
    def _metrics(self, database, job):
        with database.session(read_only=True) as session:
            return [(m.attempt, m.stage, m.step, m.epoch, m.name, m.value) for m in metrics(session, job.id)]

    def test_an_epoch_leaves_the_last_that_was_heard_of_it(self, database, job):
        _claim(database)
        with database.session() as session:
            append_events(session, job.id, 1, [_step(epoch=1, loss=3.0, accuracy=0.1)])
        with database.session() as session:
            append_events(session, job.id, 1, [_step(epoch=1, loss=2.0, accuracy=0.2), _step(epoch=2, loss=1.5)])
        assert self._metrics(database, job) == [
            (1, "step 0", 0, 1, "accuracy", 0.2),
            (1, "step 0", 0, 1, "loss", 2.0),
        ]
        with database.session() as session:
            append_events(session, job.id, 1, [_step(epoch=1, step=1, loss=float("nan"), rate=0.5)])
            append_events(session, job.id, 1, [Progress(stage="artifacts", steps=2, fraction=0.9, metrics={"x": 1.0})])
            append_events(session, job.id, 1, [Progress(stage="verification", steps=2, fraction=0.95)])
        # A loss that is not a number has no row; what is said outside of an epoch is no figure.
        assert self._metrics(database, job)[2:] == [(1, "step 0", 0, 2, "loss", 1.5), (1, "step 1", 1, 1, "rate", 0.5)]

    @pytest.mark.parametrize("outcome", ["succeeded", "failed"])
    def test_a_report_becomes_figures(self, database, tenant, job, outcome):
        _claim(database)
        with database.session() as session:
            if outcome == "succeeded":
                succeed(session, job.id, 1, a_report())
            else:
                missed = Failure(kind=FailureKind.GOAL_NOT_MET, message="95% of the accuracy, not 96%")
                fail(session, job.id, 1, missed, a_report())
        figures = {(stage, name): value for _, stage, _, epoch, name, value in self._metrics(database, job)}
        assert figures == {
            ("baseline", "parameters"): 1_000,
            ("baseline", "nonzero_parameters"): 1_000,
            ("baseline", "macs"): 50_000,
            ("baseline", "stored_bytes.onnx"): 4_400,
            ("baseline", "stored_bytes.safetensors"): 4_000,
            ("baseline", "accuracy.top1"): 0.9,
            ("baseline", "accuracy.top5"): 0.99,
            ("baseline", "accuracy.loss"): 0.31,
            ("baseline", "latency.onnxruntime.fp32.1.p50_ms"): 2.0,
            ("baseline", "latency.onnxruntime.fp32.1.p90_ms"): 2.5,
            ("baseline", "peak_memory_bytes"): 123_456_789_012,
            ("step 0", "parameters"): 1_000,
            ("step 0", "nonzero_parameters"): 250,
            ("step 0", "macs"): 50_000,
            ("step 0", "accuracy.top1"): 0.88,
            ("step 0", "accuracy.top5"): 0.98,
            ("final", "parameters"): 1_000,
            ("final", "nonzero_parameters"): 250,
            ("final", "macs"): 50_000,
            ("final", "stored_bytes.compact"): 1_100,
            ("final", "ratio.stored_bytes"): 4_000 / 1_100,
            ("final", "ratio.parameters"): 1.0,
            ("final", "ratio.nonzero_parameters"): 4.0,
            ("final", "ratio.macs"): 1.0,
            ("final", "ratio.accuracy_retention"): 0.98,
        }


class TestEnd:
    def test_success_keeps_the_report_and_lets_go(self, database, tenant, job):
        _claim(database)
        with database.session() as session:
            assert succeed(session, job.id, 1, a_report())
        found = _get(tenant, job)
        assert (found.state, found.ratios) == (JobState.SUCCEEDED, a_report().ratios)
        assert (found.worker, found.lease_expires_at, found.failure) == (None, None, None)
        assert found.finished_at >= found.started_at
        with database.session(read_only=True) as session:
            assert get_report(session, found) == a_report()
            (attempt,) = attempts(session, job.id)
        assert attempt.outcome == "succeeded"
        assert attempt.finished_at >= attempt.started_at

    def test_a_failure_is_typed_and_told(self, database, tenant, job):
        _claim(database)
        with database.session() as session:
            assert fail(session, job.id, 1, FAILURE)
            found = get_job(session, tenant.team_id, job.id)
            assert get_report(session, found) is None
            assert [row.outcome for row in attempts(session, job.id)] == ["failed"]
        assert (found.state, found.failure, found.ratios) == (JobState.FAILED, FAILURE, None)
        assert _events(database, job)[-1] == StateChanged(state="failed", attempt=1, reason=FAILURE.message)

    def test_a_message_may_hold_any_character(self, database, tenant, job):
        _claim(database)
        odd = FAILURE.model_copy(update={"message": "a layer named '\0'"})
        with database.session() as session:
            assert fail(session, job.id, 1, odd)
        with database.session(read_only=True) as session:
            (attempt,) = attempts(session, job.id)
        assert attempt.reason == "a layer named '\ufffd'"
        assert _get(tenant, job).failure == odd

    def test_a_missed_goal_keeps_its_report(self, database, tenant, job):
        _claim(database)
        missed = Failure(kind=FailureKind.GOAL_NOT_MET, message="it kept 95% of the accuracy, not 96%")
        with database.session() as session:
            assert fail(session, job.id, 1, missed, a_report())
            found = get_job(session, tenant.team_id, job.id)
            assert get_report(session, found) == a_report()
            assert found.state is JobState.FAILED

    def test_a_released_job_keeps_its_place_in_the_queue(self, database, tenant, job):
        tenant.submit(tenant.upload_model())
        _claim(database)
        with database.session() as session:
            assert release(session, job.id, 1, "the worker shuts down")
            assert [row.outcome for row in attempts(session, job.id)] == ["released"]
        assert _events(database, job)[-1] == StateChanged(state="queued", attempt=1, reason="the worker shuts down")
        assert (_get(tenant, job).worker, _get(tenant, job).started_at) == (None, None)
        claim = _claim(database)
        assert (claim.id, claim.attempt) == (job.id, 2)

    def test_a_release_of_a_job_that_is_being_cancelled_cancels_it(self, database, tenant, job):
        _claim(database)
        with database.session() as session:
            cancel(session, tenant.team_id, job.id)
            assert release(session, job.id, 1, "the worker shuts down")
        assert _get(tenant, job).state is JobState.CANCELLED


class TestArtifacts:
    def _add(self, database, job, attempt, filename="model.mpz", sha256="a" * 64, size=5_000_000_000):
        with database.session() as session:
            return add_artifact(
                session,
                job.id,
                attempt,
                kind="compact",
                filename=filename,
                size=size,
                sha256=sha256,
                content_type="application/octet-stream",
            )

    def test_a_file_is_listed_and_replaced_by_its_name(self, database, job):
        _claim(database)
        assert self._add(database, job, 1)
        assert self._add(database, job, 1, filename="model.onnx")
        assert self._add(database, job, 1, sha256="b" * 64, size=7)
        with database.session(read_only=True) as session:
            rows = artifacts(session, job.id)
        assert [(row.filename, row.sha256, row.size) for row in rows] == [
            ("model.mpz", "b" * 64, 7),
            ("model.onnx", "a" * 64, 5_000_000_000),
        ]

    def test_leftovers_of_an_earlier_attempt_are_not_listed(self, database, job):
        _claim(database)
        self._add(database, job, 1)
        with database.session() as session:
            release(session, job.id, 1, "")
        _claim(database)
        with database.session(read_only=True) as session:
            assert artifacts(session, job.id) == []
        assert self._add(database, job, 2)
        with database.session(read_only=True) as session:
            assert [row.attempt for row in artifacts(session, job.id)] == [2]


class TestReap:
    def _reap(self, database, most=3):
        with database.session() as session:
            return reap(session, most)

    def test_a_living_worker_keeps_its_job(self, database, job):
        _claim(database, lease=60)
        assert self._reap(database) == Reaped()

    def test_a_heartbeat_saves_a_job_whose_lease_has_just_run_out(self, database, job):
        _claim(database, lease=LAPSED)
        with database.session() as session:
            assert heartbeat(session, job.id, 1, 60) is JobState.RUNNING
        assert self._reap(database) == Reaped()

    def test_a_lost_worker_gives_its_job_back_until_too_many_are_lost(self, database, tenant, job):
        for attempt in (1, 2):
            assert _claim(database, lease=LAPSED).attempt == attempt
            assert self._reap(database) == Reaped(requeued=[job.id])
            assert _get(tenant, job).state is JobState.QUEUED
        assert _claim(database, lease=LAPSED).attempt == 3
        assert self._reap(database) == Reaped(failed=[job.id])
        found = _get(tenant, job)
        assert (found.state, found.failure.kind) == (JobState.FAILED, FailureKind.WORKER_LOST)
        assert "3 workers" in found.failure.message
        assert (found.worker, found.lease_expires_at) == (None, None)
        assert found.finished_at is not None
        with database.session(read_only=True) as session:
            rows = attempts(session, job.id)
        assert [row.outcome for row in rows] == ["lost"] * 3
        assert all(row.finished_at is not None for row in rows)
        assert self._reap(database) == Reaped()

    def test_a_retry_and_a_release_do_not_count_as_losses(self, database, tenant, job):
        for _ in range(4):
            claim = _claim(database)
            with database.session() as session:
                release(session, job.id, claim.attempt, "shutdown")
        for _ in range(2):
            _claim(database, lease=LAPSED)
            self._reap(database, 2)
        assert _get(tenant, job).state is JobState.FAILED
        with database.session() as session:
            retry(session, tenant.team_id, job.id)
        _claim(database, lease=LAPSED)
        assert self._reap(database, 2) == Reaped(requeued=[job.id])

    def test_a_job_that_was_being_cancelled_is_cancelled(self, database, tenant, job):
        _claim(database, lease=LAPSED)
        with database.session() as session:
            cancel(session, tenant.team_id, job.id)
        assert self._reap(database) == Reaped(cancelled=[job.id])
        found = _get(tenant, job)
        assert (found.state, found.worker) == (JobState.CANCELLED, None)
        assert found.finished_at is not None

    def test_a_worker_lost_over_the_last_job_does_not_touch_the_others(self, database, tenant, job):
        others = [tenant.submit(tenant.upload_model()) for _ in range(3)]
        _claim(database, lease=LAPSED)
        _claim(database, lease=60)
        assert self._reap(database, 1) == Reaped(failed=[job.id])
        assert [_get(tenant, other).state.value for other in others] == ["running", "queued", "queued"]

    def test_reapers_at_once_take_each_job_once(self, database, tenant):
        model = tenant.upload_model()
        jobs = [tenant.submit(model).id for _ in range(20)]
        for _ in jobs:
            _claim(database, lease=LAPSED)
        barrier = threading.Barrier(4)

        def work(_):
            barrier.wait()
            return self._reap(database).requeued

        with ThreadPoolExecutor(4) as pool:
            taken = [job_id for found in pool.map(work, range(4)) for job_id in found]
        assert sorted(taken) == sorted(jobs)
        with database.session(read_only=True) as session:
            assert set(session.scalars(select(Job.losses))) == {1}


class TestWaitLimit:
    """A job that waited longer than its limit fails; what it runs does not count."""

    def _overdue(self, database, job):
        with database.session() as session:
            session.execute(
                update(Job)
                .where(Job.id == job.id, Job.wait_expires_at.is_not(None))
                .values(wait_expires_at=now_plus(-1))
            )

    def _reap(self, database):
        with database.session() as session:
            return reap(session, 3)

    def _left(self, database, job):
        with database.session(read_only=True) as session:
            expires, present = session.execute(select(Job.wait_expires_at, now()).where(Job.id == job.id)).one()
        return None if expires is None else (expires - present).total_seconds()

    def test_it_fails_and_says_what_to_do(self, database, tenant):
        job = tenant.submit(tenant.upload_model(), wait_limit_seconds=60)
        other = tenant.submit(tenant.upload_model())
        assert 50 < self._left(database, job) <= 60
        assert self._reap(database) == Reaped()
        self._overdue(database, job)
        self._overdue(database, other)
        assert self._reap(database) == Reaped(expired=[job.id])
        found = _get(tenant, job)
        assert (found.state, found.failure.kind, found.attempt) == (JobState.FAILED, FailureKind.TIMEOUT, 0)
        assert "wait_limit_seconds" in found.failure.message
        assert found.finished_at is not None
        assert _events(database, job)[-1] == StateChanged(state="failed", attempt=0, reason=found.failure.message)
        assert _get(tenant, other).state is JobState.QUEUED

    def test_no_worker_takes_it_before_it_is_reaped(self, database, tenant):
        self._overdue(database, job := tenant.submit(tenant.upload_model(), wait_limit_seconds=60))
        with database.session(read_only=True) as session:
            assert not has_waiting_jobs(session)
        assert _claim(database) is None
        assert self._reap(database).expired == [job.id]

    def test_while_it_runs_the_limit_rests_and_begins_anew_in_the_queue(self, database, tenant):
        job = tenant.submit(tenant.upload_model(), wait_limit_seconds=60)
        _claim(database)
        assert self._left(database, job) is None
        with database.session() as session:
            assert release(session, job.id, 1, "shutdown")
        assert 50 < self._left(database, job) <= 60
        _claim(database, lease=LAPSED)
        assert self._reap(database).requeued == [job.id]
        assert 50 < self._left(database, job) <= 60
        self._overdue(database, job)
        assert self._reap(database).expired == [job.id]
        with database.session() as session:
            assert retry(session, tenant.team_id, job.id).failure is None
        assert 50 < self._left(database, job) <= 60

    def test_the_services_limit_is_for_jobs_that_ask_for_none(self, database, tenant):
        model = tenant.upload_model()
        with database.session() as session:
            asked = create_job(session, tenant.team_id, spec_for(model, wait_limit_seconds=500), wait_limit_seconds=60)
            silent = create_job(session, tenant.team_id, spec_for(model), wait_limit_seconds=60)
        assert 490 < self._left(database, asked[0]) <= 500
        assert 50 < self._left(database, silent[0]) <= 60
        assert self._left(database, tenant.submit(model)) is None
