"""Old jobs go with their bytes, one after the other, and what stands in the way of one keeps none of the others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session
from structlog.testing import capture_logs

from db.clock import now_plus
from db.database import Database
from db.models import Job
from db.queries.uploads import hold_bytes
from service import deletion
from service.deletion import delete_job_and_bytes, delete_old_jobs
from storage.store import Store
from tests.support.finished import carry_out, end_before
from tests.support.rows import Tenant, new_tenant
from tests.support.stores import put

LIMIT = 7200.0


@pytest.fixture
def tenant(database: Database) -> Tenant:
    return new_tenant(database)


@pytest.fixture
def files(tenant: Tenant, store: Store) -> dict[str, str]:
    """Old jobs, and the hash of the file of each; the oldest first."""
    found = {}
    for number in range(4):
        job = tenant.submit(tenant.upload_model(), sparsity=0.1 * (number + 1))
        found[job.id] = put(store, f"weights {number}".encode())
        carry_out(tenant, job, {"model.onnx": found[job.id]}, "onnx")
        end_before(tenant, job, 2 * LIMIT - number)
    return found


def _never() -> bool:
    return False


def _left(tenant: Tenant) -> list[str]:
    with tenant.database.session(read_only=True) as session:
        return list(session.scalars(select(Job.id).order_by(Job.id)))


def test_all_that_are_too_old_go_with_their_bytes(
    tenant: Tenant, store: Store, files: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    few = deletion.jobs_ended_before
    monkeypatch.setattr(deletion, "jobs_ended_before", lambda *asked, **more: few(*asked, **more, limit=3))
    shared = tenant.upload_model(sha256=next(iter(files.values())))
    assert delete_old_jobs(tenant.database, store, 3 * LIMIT, _never) == 0
    assert _left(tenant) == sorted(files)
    assert delete_old_jobs(tenant.database, store, LIMIT, _never) == len(files)
    assert _left(tenant) == []
    assert {sha256 for sha256 in files.values() if store.exists(sha256)} == {shared.sha256}


def test_it_ends_when_it_is_told_to(tenant: Tenant, store: Store, files: dict[str, str]) -> None:
    answers = iter([False, False, True])
    assert delete_old_jobs(tenant.database, store, LIMIT, lambda: next(answers)) == 2
    assert _left(tenant) == sorted(files)[2:]


def test_one_that_cannot_be_deleted_keeps_none_of_the_others(
    tenant: Tenant, store: Store, files: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck = sorted(files)[1]
    delete = deletion.delete_job

    def delete_but_one(session: Session, team_id: str, job_id: str, **more: Any) -> list[str]:
        if job_id == stuck:
            raise OperationalError("SELECT", {}, Exception("canceling statement due to lock timeout"))
        return delete(session, team_id, job_id, **more)

    monkeypatch.setattr(deletion, "delete_job", delete_but_one)
    with capture_logs() as said:
        assert delete_old_jobs(tenant.database, store, LIMIT, _never) == len(files) - 1
    assert _left(tenant) == [stuck]
    assert [(line["event"], line["job_id"]) for line in said] == [("job_not_deleted", stuck)]


@pytest.mark.parametrize("how", ["deleted", "retried"])
def test_the_owner_may_be_first(
    tenant: Tenant, store: Store, files: dict[str, str], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    first = sorted(files)[0]
    delete = deletion.delete_job
    asked = []

    def owner_comes_between(session: Session, team_id: str, job_id: str, **more: Any) -> list[str]:
        if job_id == first and not asked:
            asked.append(job_id)
            if how == "deleted":
                delete(session, team_id, job_id)
            else:
                session.get_one(Job, first).finished_at = session.scalar(select(now_plus(0)))
                session.flush()
        return delete(session, team_id, job_id, **more)

    monkeypatch.setattr(deletion, "delete_job", owner_comes_between)
    with capture_logs() as said:
        assert delete_old_jobs(tenant.database, store, LIMIT, _never) == len(files) - 1
    assert said == []
    assert store.exists(files[first])


def test_a_database_that_is_away_is_not_asked_for_each(
    tenant: Tenant, store: Store, files: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    opened = tenant.database.session

    @contextmanager
    def away(**how: Any) -> Iterator[Session]:
        asked.append(how)
        if len(asked) > 1:
            raise OperationalError("BEGIN", {}, ConnectionError("it is gone"))
        with opened(**how) as session:
            yield session

    monkeypatch.setattr(tenant.database, "session", away)
    with pytest.raises(OperationalError):
        delete_old_jobs(tenant.database, store, LIMIT, _never)
    assert len(asked) == 3  # the list, the first job, and the list again


@pytest.mark.parametrize("dialect", ["postgresql"])  # a writer of SQLite holds all of it
def test_bytes_that_somebody_holds_keep_nobody(tenant: Tenant, store: Store, files: dict[str, str]) -> None:
    """Who is stuck before the store with them drops them or names them; else a sweep does."""
    job_id, sha256 = next(iter(files.items()))
    with tenant.database.session() as session:
        hold_bytes(session, sha256, to_drop=True)
        delete_job_and_bytes(tenant.database, store, tenant.team_id, job_id)
        assert store.exists(sha256)
    assert job_id not in _left(tenant)
