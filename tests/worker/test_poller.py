"""What a worker sees to by itself, whatever the others are stuck with."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import update

from db.clock import now_plus
from db.database import Database
from db.models import Job
from db.queries.checkpoints import keep_checkpoint, unneeded_checkpoints
from db.queries.claims import claim_job
from db.queries.uploads import hold_bytes
from modelpress.spec.state import JobState
from service.settings import Settings
from storage.local import LocalStore
from tests.support.rows import Tenant, new_tenant
from worker.poller import Poller
from worker.starter import Spawner
from worker.workplace import Workplace
from worker.workshop import Workshop


class _Idle:
    is_busy = True  # so that it does not look for work


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@pytest.fixture
def poller(database: Database, store: LocalStore, tmp_path: Path) -> Poller:
    place = Workplace(Settings(home=tmp_path), database, store, Spawner(()), worker="w")
    return Poller(place, _Idle(), has_waiting=lambda _: False, wake=lambda: True)  # type: ignore[arg-type]


@pytest.fixture
def tenant(database: Database) -> Tenant:
    return new_tenant(database)


def _taken_back() -> float:
    return REGISTRY.get_sample_value("modelpress_worker_reaped_total") or 0.0


def _state(tenant: Tenant, database: Database, job: Job) -> JobState:
    with database.session(read_only=True) as session:
        found = session.get(Job, job.id)
        assert found is not None
        return found.state


def _lost_job(tenant: Tenant, database: Database) -> Job:
    """One whose worker is gone, and whose lease has run out."""
    lost = tenant.submit(tenant.upload_model())
    with database.session() as session:
        claim_job(session, "gone", 30)
        session.execute(update(Job).where(Job.id == lost.id).values(lease_expires_at=now_plus(-1)))
    return lost


def test_a_lease_that_ran_out_counts_as_a_lost_worker_and_a_wait_that_was_too_long_does_not(
    poller: Poller, database: Database, tenant: Tenant
) -> None:
    before = _taken_back()
    waits = tenant.submit(tenant.upload_model(), wait_limit_seconds=60)
    with database.session() as session:
        session.execute(update(Job).values(wait_expires_at=now_plus(-1)))
    poller.look()
    assert _state(tenant, database, waits) is JobState.FAILED
    assert _taken_back() == before
    lost = _lost_job(tenant, database)
    poller.look()
    assert _state(tenant, database, lost) is JobState.QUEUED
    assert _taken_back() == before + 1


def test_who_works_without_a_broker_still_takes_back_leases(
    database: Database, store: LocalStore, tenant: Tenant, tmp_path: Path
) -> None:
    place = Workplace(Settings(home=tmp_path), database, store, Spawner(()), worker="w")
    begun, done = threading.Event(), threading.Event()

    def take(_: Workplace) -> bool:
        begun.set()
        assert done.wait(60)
        return False

    poller = Poller(place, Workshop(place, take), has_waiting=lambda _: True, wake=lambda: False)
    poller.look()
    assert begun.wait(60)
    try:
        lost = _lost_job(tenant, database)
        poller.look()
        assert _state(tenant, database, lost) is JobState.QUEUED
    finally:
        done.set()
    assert poller._work is not None
    poller._work.join()


@pytest.mark.parametrize("dialect", ["postgresql"])  # a writer of SQLite holds all of it
def test_who_is_stuck_with_some_bytes_keeps_nobody_from_the_rest(
    poller: Poller, database: Database, store: LocalStore, tenant: Tenant, tmp_path: Path
) -> None:
    job = tenant.submit(tenant.upload_model())
    kept = []
    for content in (b"first", b"second", b"third"):
        path = tmp_path / "checkpoint"
        path.write_bytes(content)
        kept.append(store.put_file(path).sha256)
    with database.session() as session:
        claim_job(session, "w", 30)
        for sha256 in kept:
            assert keep_checkpoint(session, job.id, 1, "steps", sha256=sha256, size=5)
    with database.session() as stuck:
        hold_bytes(stuck, kept[0], to_drop=True)
        poller.look()
        assert [store.exists(sha256) for sha256 in kept] == [True, False, True]
        with database.session(read_only=True) as session:
            assert [sha256 for _, sha256 in unneeded_checkpoints(session)] == [kept[0]]
    poller.look()
    assert [store.exists(sha256) for sha256 in kept] == [False, False, True]
