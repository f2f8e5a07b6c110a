"""Servers that go away for a while: work waits or goes on, and is neither lost nor doubled."""

from __future__ import annotations

import pytest

from db.queries.jobs import attempts
from modelpress.spec.state import JobState
from service.settings import Settings
from service.wakeup import Wakeup
from tests.support.free_port import free_port
from tests.support.redis import redis_server
from tests.worker.conftest import wait_for

pytestmark = pytest.mark.slow

FINAL = (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)


def test_without_a_broker_work_goes_on_all_the_same(embedded_site):
    site = embedded_site
    site.broker_url = f"redis://127.0.0.1:{free_port()}/0"
    job = site.tenant.submit(site.store_model())
    with site.start_worker(engine_command=site.engine("succeed"), poll_seconds=0.2) as worker:
        assert site.wait_for_state(job, *FINAL).state is JobState.SUCCEEDED
        worker.terminate()  # ends in time although it never reached the broker
        assert worker.wait(25) == 0


def test_a_job_goes_back_when_a_worker_without_a_broker_is_stopped(embedded_site):
    site = embedded_site
    site.broker_url = f"redis://127.0.0.1:{free_port()}/0"
    job = site.tenant.submit(site.store_model())
    with site.start_worker(engine_command=site.engine("spawn"), poll_seconds=0.2) as worker:
        wait_for(lambda: site.work_files("pids"), "the engine", explain=site.log)
        worker.terminate()
        assert worker.wait(25) == 0
    assert site.job(job).state is JobState.QUEUED


def test_a_broker_that_comes_back_empty_costs_nothing(embedded_site):
    site = embedded_site
    with redis_server() as first:
        site.broker_url = first
        with site.start_worker(engine_command=site.engine("succeed"), poll_seconds=0.2):
            assert site.wait_for_state(site.submit(), *FINAL).state is JobState.SUCCEEDED
            lost = site.tenant.submit(site.store_model(b"another"))
    # Here its only message, if any, went with the first server.
    with redis_server() as second:
        site.broker_url = second
        with site.start_worker(engine_command=site.engine("succeed"), poll_seconds=0.2, log="second.log"):
            assert site.wait_for_state(lost, *FINAL).state is JobState.SUCCEEDED


def test_a_worker_waits_for_a_database_that_is_not_migrated_yet(embedded_site, tmp_path):
    site = embedded_site
    folder = tmp_path / "late"
    folder.mkdir()
    site.database_url = f"sqlite:///{folder}/modelpress.db"
    with site.start_worker() as worker:
        wait_for(lambda: "service.admin migrate" in site.log(), "the advice", explain=site.log)
        assert worker.poll() is None
        worker.terminate()
        assert worker.wait(25) == 0


def test_a_locked_database_delays_and_does_not_fail_a_job(embedded_site):
    site = embedded_site
    with site.start_worker(engine_command=site.engine("succeed"), poll_seconds=0.2, lease_seconds=60):
        job = site.submit()
        wait_for(lambda: site.job(job).state is not JobState.QUEUED, "the claim", explain=site.log)
        with site.database.session():  # holds SQLite's one write lock
            wait_for(lambda: "engine_started" in site.log(), "the engine", explain=site.log)
        assert site.wait_for_state(job, *FINAL).state is JobState.SUCCEEDED
    with site.database.session(read_only=True) as session:
        assert len(attempts(session, job.id)) == 1


def test_a_flood_of_wakeups_does_a_job_once(site):
    wakeup = Wakeup(Settings(home=site.home, broker_url=site.broker_url))
    for _ in range(50):
        wakeup.jobs()
    wakeup.close()
    with site.start_worker(engine_command=site.engine("succeed")):
        job = site.submit()
        assert site.wait_for_state(job, *FINAL).state is JobState.SUCCEEDED
    with site.database.session(read_only=True) as session:
        assert [attempt.outcome for attempt in attempts(session, job.id)] == ["succeeded"]
