"""Workers say what they have, and jobs go to those that fit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select, update

from db.clock import now_plus
from db.models import Worker
from db.queries.claims import claim_job, has_waiting_jobs
from db.queries.workers import (
    KNOWN_SECONDS,
    REMEMBERED,
    known_capacities,
    live_workers,
    renew_worker,
    retire_worker,
)
from modelpress.spec.needs import Capacity, Needs
from tests.support.rows import new_tenant

GIB = 1 << 30
CPU = Capacity(device="cpu", cores=4, memory_bytes=8 * GIB)
GPU = Capacity(device="cuda", cores=16, memory_bytes=64 * GIB, gpu_memory_bytes=24 * GIB)


def _renew(database, name, capacity=CPU, seconds=30.0):
    with database.session() as session:
        renew_worker(session, name, capacity, seconds)


def _live(database):
    with database.session(read_only=True) as session:
        return live_workers(session)


def _known(database):
    with database.session(read_only=True) as session:
        return known_capacities(session)


def test_a_worker_is_alive_until_it_no_longer_says_so(database):
    assert (_live(database), _known(database)) == ({}, [])
    _renew(database, "cpu")
    _renew(database, "gpu", GPU)
    assert _live(database) == {"cpu": CPU, "gpu": GPU}
    _renew(database, "cpu", seconds=-1.0)
    assert _live(database) == {"gpu": GPU}
    assert _known(database) == [CPU, GPU]
    _renew(database, "cpu")
    assert _live(database) == {"cpu": CPU, "gpu": GPU}
    with database.session() as session:
        retire_worker(session, "gpu")
    assert _live(database) == {"cpu": CPU}
    assert _known(database) == [CPU, GPU]


def test_what_a_worker_says_later_counts(database):
    _renew(database, "w", CPU)
    _renew(database, "w", GPU)
    assert _live(database) == {"w": GPU}


def test_workers_that_are_started_anew_leave_some_rows_of_their_kind(database):
    _renew(database, "gpu", GPU, seconds=-1.0)
    for number in range(REMEMBERED + 5):
        _renew(database, f"cpu-{number}", seconds=number - 1000.0)
    with database.session(read_only=True) as session:
        names = set(session.scalars(select(Worker.name)))
    # The latest, by whose jobs it is known how fast such a worker is; and the one that is made.
    assert names == {"gpu", *(f"cpu-{number}" for number in range(4, REMEMBERED + 5))}
    assert _known(database) == [CPU, GPU]


def test_a_worker_that_went_long_ago_is_forgotten(database):
    _renew(database, "gpu", GPU)
    with database.session() as session:
        session.execute(update(Worker).values(expires_at=now_plus(-KNOWN_SECONDS - 1)))
    assert _known(database) == []
    _renew(database, "cpu")
    with database.session(read_only=True) as session:
        assert session.scalars(select(Worker.name)).all() == ["cpu"]


@pytest.mark.parametrize(
    ("needs", "takers"),
    [
        (Needs(), {"cpu", "gpu"}),
        (Needs(device="cpu"), {"cpu"}),
        (Needs(device="cuda"), {"gpu"}),
        (Needs(cores=4), {"cpu", "gpu"}),
        (Needs(cores=5), {"gpu"}),
        (Needs(memory_bytes=8 * GIB), {"cpu", "gpu"}),
        (Needs(memory_bytes=8 * GIB + 1), {"gpu"}),
        (Needs(device="cpu", memory_bytes=8 * GIB + 1), set()),
        (Needs(device="cuda", gpu_memory_bytes=24 * GIB), {"gpu"}),
        (Needs(device="cuda", gpu_memory_bytes=24 * GIB + 1), set()),
    ],
)
def test_a_job_goes_to_a_worker_that_fits(database, needs, takers):
    tenant = new_tenant(database)
    tenant.submit(tenant.upload_model(), needs=needs)
    for name, capacity in (("cpu", CPU), ("gpu", GPU)):
        assert (capacity.lacks(needs) == {}) is (name in takers)
        with database.session() as session:
            assert has_waiting_jobs(session, capacity) is (name in takers)
            claimed = claim_job(session, name, 30, capacity)
            assert (claimed is not None) is (name in takers)
            session.rollback()


def test_a_job_that_does_not_fit_is_passed_by_and_so_is_its_team(database):
    one, other = new_tenant(database, "one"), new_tenant(database, "other")
    mine, theirs = one.upload_model(), other.upload_model()
    large = one.submit(mine, priority=10, needs=Needs(device="cuda"))
    small = one.submit(mine)
    with database.session() as session:
        claim_job(session, "w", 30, CPU)  # the small one: now the other team would be next
    for_gpu = other.submit(theirs, needs=Needs(device="cuda"))
    last = one.submit(mine)
    with database.session() as session:
        assert claim_job(session, "cpu", 30, CPU).id == last.id
        assert claim_job(session, "cpu", 30, CPU) is None
        assert [claim_job(session, "gpu", 30, GPU).id for _ in range(2)] == [for_gpu.id, large.id]
        assert not has_waiting_jobs(session)
    assert small.id != last.id


sizes = st.integers(0, 4)


@given(needs=st.tuples(sizes, sizes, sizes), has=st.tuples(sizes, sizes, sizes))
def test_a_capacity_lacks_what_is_asked_for_above_it(needs, has):
    fields = ("cores", "memory_bytes", "gpu_memory_bytes")
    asked = Needs(device="cuda", cores=1 + needs[0], memory_bytes=needs[1], gpu_memory_bytes=needs[2])
    capacity = Capacity(device="cuda", cores=1 + has[0], memory_bytes=has[1], gpu_memory_bytes=has[2])
    assert set(capacity.lacks(asked)) == {
        field for field, want, have in zip(fields, needs, has, strict=True) if want > have
    }
