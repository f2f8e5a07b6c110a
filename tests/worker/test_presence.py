"""A real worker says that it is there, and takes what fits it."""

from __future__ import annotations

import signal

from db.queries.workers import known_capacities, live_workers
from modelpress.spec.needs import Needs
from modelpress.spec.state import JobState
from tests.worker.conftest import wait_for


def _live(site):
    with site.database.session(read_only=True) as session:
        return live_workers(session)


def test_a_worker_is_known_while_it_runs_and_takes_what_fits(site):
    for_gpu = site.tenant.submit(site.store_model(), needs=Needs(device="cuda"), priority=10)
    job = site.tenant.submit(site.store_model(b"others"), needs=Needs(device="cpu", memory_bytes=1 << 30))
    settings = {"device": "cpu", "threads": 1, "memory_limit_bytes": 1 << 30}
    with site.start_worker(engine_command=site.engine("succeed"), poll_seconds=0.2, **settings) as worker:
        site.wait_for_state(job, JobState.SUCCEEDED)
        ((name, capacity),) = _live(site).items()
        assert name.endswith(f"-jobs-{worker.pid}")
        assert (capacity.device, capacity.cores, capacity.memory_bytes) == ("cpu", 1, 1 << 30)
        assert site.job(for_gpu).state is JobState.QUEUED
        worker.send_signal(signal.SIGTERM)
        worker.wait(30)
    assert _live(site) == {}
    with site.database.session(read_only=True) as session:
        assert known_capacities(session) == [capacity]


def test_a_worker_that_was_killed_is_gone_when_its_row_runs_out(embedded_site):
    site = embedded_site
    with site.start_worker(engine_command=site.engine("succeed"), device="cpu", lease_seconds=1) as worker:
        wait_for(lambda: _live(site), "the worker's row")
        worker.kill()
        wait_for(lambda: not _live(site), "its end")
