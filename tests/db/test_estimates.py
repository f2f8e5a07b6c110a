"""Estimates in the queue: who takes a job, how long it runs by jobs before, when the next one starts."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import select, update

from db.clock import now, now_plus
from db.models import Attempt, Job
from db.queries import rates
from db.queries.claims import claim_job, succeed
from db.queries.jobs import cancel, note_estimate
from db.queries.places import places
from db.queries.rates import RECENT, with_durations
from db.queries.workers import live_workers, renew_worker, retire_worker
from modelpress.spec.cost import DEFAULT_RATES, Duration, JobEstimate
from modelpress.spec.needs import Capacity, Needs
from modelpress.spec.waiting import WaitingReason
from tests.support.reports import a_report
from tests.support.rows import new_tenant

GIB = 1 << 30
CPU = Capacity(device="cpu", cores=4, memory_bytes=8 * GIB)
GPU = Capacity(device="cuda", cores=4, memory_bytes=8 * GIB, gpu_memory_bytes=8 * GIB)
GPUS = GPU.model_copy(update={"gpus": 4})


def _estimate(*, cpu: int = 1, cuda: int = 1, gpu: int = 1, macs: int = 10**12) -> JobEstimate:
    return JobEstimate(
        cpu_memory_bytes=cpu * GIB,
        process_bytes=0,
        cuda_memory_bytes=cuda * GIB,
        gpu_memory_bytes=gpu * GIB,
        step=None,
        steps=(),
        macs=macs,
    )


@pytest.fixture
def tenant(database):
    return new_tenant(database)


@pytest.fixture
def model(tenant):
    return tenant.upload_model()


@pytest.fixture
def submit(database, tenant, model):
    def submit(estimate, of=model, **spec) -> Job:
        job = tenant.submit(of, **spec)
        with database.session() as session:
            note_estimate(session, session.get_one(Job, job.id), estimate)
        return job

    return submit


def _claims(database, capacity) -> str | None:
    with database.session() as session:
        claimed = claim_job(session, "w", 30.0, capacity)
        return None if claimed is None else claimed.id


def test_a_job_is_left_to_a_worker_that_has_what_the_estimate_says(database, submit):
    job = submit(_estimate(cpu=9, gpu=20))
    assert _claims(database, CPU) is None
    assert _claims(database, GPU) is None
    assert _claims(database, GPUS) == job.id


@pytest.mark.parametrize(("least", "able"), [({"cpu": 9}, GPU), ({"cuda": 9}, CPU), ({"gpu": 9}, CPU)])
def test_each_device_has_its_own_bound(database, submit, least, able):
    job = submit(_estimate(**least))
    assert _claims(database, GPU if able is CPU else CPU) is None
    assert _claims(database, able) == job.id


def test_a_need_that_was_named_counts_alone(database, submit):
    job = submit(_estimate(cpu=9), needs=Needs(memory_bytes=GIB))
    assert _claims(database, CPU) == job.id


def test_it_says_what_it_waits_for(database, submit):
    job = submit(_estimate(cpu=9))
    with database.session() as session:
        renew_worker(session, "w", CPU, 600)
    with database.session(read_only=True) as session:
        found = places(session, [session.get_one(Job, job.id)])[job.id]
    assert found.waiting.reason is WaitingReason.NO_FITTING_WORKER
    assert "9.0 GiB of memory" in found.waiting.message
    assert found.expected_start is None


def _durations(database, estimate, model_id, needs=Needs()):  # noqa: B008 - frozen
    with database.session(read_only=True) as session:
        known = live_workers(session).values()
        return with_durations(session, estimate, model_id, needs, known).durations


def _ran(database, submit, seconds, *, continues=None, **more) -> None:
    """A job that succeeded after so many seconds, on the worker `w`."""
    submit(_estimate(macs=4 * 10**12), **more)
    with database.session() as session:
        claimed = claim_job(session, "w", 30.0)
        assert claimed is not None
        session.execute(
            update(Attempt)
            .where(Attempt.job_id == claimed.id)
            .values(started_at=now_plus(-seconds), continues=continues)
        )
        assert succeed(session, claimed.id, claimed.attempt, a_report())


def test_durations_are_rough_until_jobs_have_ended(database, submit, tenant, model, monkeypatch):
    with database.session() as session:
        renew_worker(session, "w", CPU, 600)
        renew_worker(session, "gpu", GPU, 600)
    estimate = _estimate(macs=10**12)
    fixed = estimate.fixed_seconds
    rough = {each.device: each for each in _durations(database, estimate, model.id)}
    assert rough["cpu"].seconds == pytest.approx(fixed + 10**12 / DEFAULT_RATES["cpu"] / 4, abs=0.1)
    assert rough["cpu"].rough
    assert rough["cuda"].rough
    assert [each.device for each in _durations(database, estimate, model.id, Needs(device="cpu"))] == ["cpu"]
    # 4e12 in 1,000 seconds beside the fixed ones, on four cores.
    _ran(database, submit, 1000 + fixed)
    _ran(database, submit, fixed + 1)  # which tells nothing of the speed
    monkeypatch.setattr(rates, "RECENT", 3)
    for _ in range(3):
        _ran(database, submit, fixed + 100, continues=0)  # nor do those that another job has begun, however many
    learned = {each.device: each for each in _durations(database, estimate, model.id)}
    assert learned["cpu"].seconds == pytest.approx(fixed + 250, rel=0.05)
    assert (learned["cpu"].rough, learned["cuda"].rough) == (False, True)


def test_jobs_of_the_same_model_tell_more(database, submit, tenant, model):
    with database.session() as session:
        renew_worker(session, "w", CPU, 600)
    fixed = _estimate().fixed_seconds
    other = tenant.upload_model()
    _ran(database, submit, 1000 + fixed)
    for _ in range(2):
        _ran(database, submit, 4000 + fixed, of=other)
    found = {id_: _durations(database, _estimate(macs=10**12), id_)[0].seconds for id_ in (model.id, other.id, "mdl_x")}
    assert found[model.id] == pytest.approx(fixed + 250, rel=0.05)
    assert found[other.id] == pytest.approx(fixed + 1000, rel=0.05)
    assert found["mdl_x"] == found[other.id]


def test_a_start_is_expected_when_the_job_at_work_is_estimated_to_end(database, submit):
    with database.session() as session:
        renew_worker(session, "w", CPU, 600)
    at_work = _estimate().model_copy(update={"durations": (Duration(device="cpu", seconds=500, rough=True),)})
    submit(at_work)
    assert _claims(database, CPU) is not None
    second, third = submit(at_work), submit(at_work)
    with database.session(read_only=True) as session:
        found = places(session, [session.get_one(Job, job.id) for job in (second, third)])
        moment = session.execute(select(now())).scalar_one()
    expected = [found[job.id].expected_start for job in (second, third)]
    assert [round((start - moment) / timedelta(seconds=1), -1) for start in expected if start] == [500, 1000]


def test_what_was_cancelled_and_who_was_started_anew_hide_no_speed(database, submit, tenant, model):
    with database.session() as session:
        renew_worker(session, "w", CPU, 600)
    fixed = _estimate().fixed_seconds
    _ran(database, submit, 1000 + fixed)
    sweep = [submit(_estimate()).id for _ in range(RECENT)]
    with database.session() as session:
        for job in sweep:
            cancel(session, tenant.team_id, job)
        retire_worker(session, "w")
        renew_worker(session, "w2", CPU, 600)
    (found,) = _durations(database, _estimate(macs=10**12), model.id)
    assert not found.rough
    assert found.seconds == pytest.approx(fixed + 250, rel=0.05)
