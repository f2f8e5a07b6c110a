"""Whose turn it is: every claim against the rule in a few lines of plain Python."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, select, text
from sqlalchemy.exc import DBAPIError

from benchmarks.finished_jobs import copy_finished, finish_one
from db import database as database_module
from db.models import Attempt, Event, Job, Metric
from db.queries.claims import claim_job, release, succeed
from db.queries.jobs import cancel
from db.queries.turns import next_job
from modelpress.spec.needs import Capacity
from tests.conftest import opened
from tests.support.reports import a_report
from tests.support.rows import new_tenant

TEAMS = 3
CAPACITY = Capacity(device="cuda", cores=8, memory_bytes=1 << 36, gpu_memory_bytes=1 << 35)


@dataclass
class Expected:
    """A team as the rule sees it; `waiting` holds (-priority, place in time, id)."""

    id: str
    waiting: list[tuple[int, int, str]] = field(default_factory=list)
    held: list[tuple[int, int, str]] = field(default_factory=list)
    turn: int = 0


def _next(teams):
    with_work = [team for team in teams if team.waiting]
    return min(with_work, key=lambda team: (len(team.held), team.turn, team.id)) if with_work else None


operations = st.one_of(
    st.tuples(st.just("submit"), st.integers(0, TEAMS - 1), st.sampled_from([0, 0, 0, 1, -1, 10])),
    st.tuples(st.just("claim"), st.just(0), st.just(0)),
    st.tuples(st.sampled_from(["finish", "release", "cancel"]), st.integers(0, TEAMS - 1), st.integers(0, 3)),
)


@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(sequence=st.lists(operations, min_size=10, max_size=40))
def test_every_claim_is_the_one_that_the_rule_names(database, sequence):
    with database.session() as session:
        for table in (Event, Attempt, Metric, Job):
            session.execute(delete(table))
    tenants = [new_tenant(database, str(number)) for number in range(TEAMS)]
    models = [tenant.upload_model() for tenant in tenants]
    teams = [Expected(tenant.team_id) for tenant in tenants]
    attempts = Counter()

    def claim(turn):
        team = _next(teams)
        with database.session() as session:
            claimed = claim_job(session, "w", 1_000)
        if team is None:
            assert claimed is None
            return
        job = min(team.waiting)
        assert (claimed.team_id, claimed.id) == (team.id, job[2])
        attempts[claimed.id] += 1
        team.waiting.remove(job)
        team.held.append(job)
        team.turn = turn

    for moment, (name, index, number) in enumerate(sequence, start=1):
        team = teams[index]
        if name == "submit":
            job = tenants[index].submit(models[index], priority=number)
            team.waiting.append((-number, moment, job.id))
        elif name == "claim":
            claim(moment)
        elif (rows := team.waiting if name == "cancel" else team.held)[number:]:
            job = rows.pop(number)
            with database.session() as session:
                if name == "cancel":
                    cancel(session, team.id, job[2])
                elif name == "finish":
                    assert succeed(session, job[2], attempts[job[2]], a_report())
                else:
                    assert release(session, job[2], attempts[job[2]], "shutdown")
            if name == "release":  # to its old place
                team.waiting.append(job)
    for moment in range(sum(len(team.waiting) for team in teams) + 1):
        claim(len(sequence) + 1 + moment)


def test_a_hundred_jobs_of_one_team_do_not_delay_anothers_first(database):
    busy, other = new_tenant(database, "busy"), new_tenant(database, "other")
    model = busy.upload_model()
    for _ in range(20):
        busy.submit(model)
    with database.session() as session:
        for _ in range(5):
            claim_job(session, "w", 30)
    job = other.submit(other.upload_model())
    with database.session() as session:
        assert claim_job(session, "w", 30).id == job.id


def test_workers_that_ask_at_once_do_not_all_serve_one_team(database):
    """Each must see what the one before took."""
    tenants = [new_tenant(database, str(number)) for number in range(3)]
    for tenant, jobs in zip(tenants, (20, 2, 20), strict=True):
        model = tenant.upload_model()
        for _ in range(jobs):
            tenant.submit(model)
    barrier = threading.Barrier(12)

    def ask(number):
        barrier.wait()
        with database.session() as session:
            return claim_job(session, f"w{number}", 30)

    with ThreadPoolExecutor(12) as pool:
        claims = list(pool.map(ask, range(12)))
    assert len({claim.id for claim in claims}) == 12
    assert Counter(claim.team_id for claim in claims) == dict(
        zip((tenant.team_id for tenant in tenants), (5, 2, 5), strict=True)
    )


def test_a_priority_is_the_teams_own_affair(database):
    one, other = new_tenant(database, "one"), new_tenant(database, "other")
    mine, theirs = one.upload_model(), other.upload_model()
    usual = one.submit(mine)
    plain = other.submit(theirs)
    urgent = one.submit(mine, priority=10)
    with database.session() as session:
        assert [claim_job(session, "w", 30).id for _ in range(3)] == [urgent.id, plain.id, usual.id]


@pytest.mark.parametrize("dialect", ["postgresql"], indirect=True)
def test_a_worker_that_freezes_in_its_claim_is_cut_off(database_url, monkeypatch):
    with opened(database_url) as patient:
        tenant = new_tenant(patient)
        job = tenant.submit(tenant.upload_model())
    monkeypatch.setattr(database_module, "FROZEN_SECONDS", 0.3)
    with opened(database_url) as database:

        def freeze():
            with database.session() as session, ThreadPoolExecutor(1) as pool:
                assert claim_job(session, "frozen", 30).id == job.id
                assert pool.submit(_claim, database, "other").result(timeout=30) == (job.id, 1)

        with pytest.raises(DBAPIError):
            freeze()


def test_a_claim_reads_no_job_but_by_an_index_of_states(database):
    """So finished jobs cost it nothing, however many there are."""
    tenant = new_tenant(database)
    # Of tables without rows PostgreSQL takes any index.
    copy_finished(database, finish_one(tenant), 1, 2_000, [tenant.upload_model().id])
    with database.session() as session:
        statement = select(next_job(CAPACITY)).compile(session.get_bind(), compile_kwargs={"literal_binds": True})
        if database.dialect == "sqlite":
            plan = [row.detail for row in session.execute(text(f"EXPLAIN QUERY PLAN {statement}"))]
            reads = [line for line in plan if "jobs" in line]
        else:
            plan = list(session.scalars(text(f"EXPLAIN {statement}")))
            reads = [line for line in plan if " on jobs" in line]
    assert len(reads) == 3, plan
    assert all(any(f"ix_jobs_{name}" in line for name in ("turn", "state", "team_id_state")) for line in reads), plan


def _claim(database, worker):
    with database.session() as session:
        claimed = claim_job(session, worker, 30)
        return claimed.id, claimed.attempt
