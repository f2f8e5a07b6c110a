"""Places in the queue against the order in which jobs are then claimed, and expected starts against hand-made ones."""

from __future__ import annotations

from datetime import timedelta
from itertools import islice

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, select, text, update

from benchmarks.finished_jobs import copy_finished, finish_one
from db.clock import now, now_plus
from db.models import Attempt, Event, Job, Worker
from db.queries.claims import append_events, claim_job, has_waiting_jobs
from db.queries.jobs import cancel, get_job, list_jobs
from db.queries.places import places, starts
from db.queries.workers import renew_worker
from modelpress.spec.event import Progress
from modelpress.spec.needs import Capacity, Needs
from modelpress.spec.state import JobState
from modelpress.spec.waiting import WaitingReason
from tests.support.rows import new_tenant

TEAMS = 3
CPU = Capacity(device="cpu", cores=4, memory_bytes=1 << 33)
GPU = Capacity(device="cuda", cores=4, memory_bytes=1 << 33, gpu_memory_bytes=1 << 33)


def _places(database, jobs):
    with database.session(read_only=True) as session:
        return places(session, [session.get(Job, job) for job in jobs])


def _positions(database, jobs):
    return {job: place.position for job, place in _places(database, jobs).items()}


def _be_there(database, *workers):
    with database.session() as session:
        for name, capacity in workers:
            renew_worker(session, name, capacity, 600)


submissions = st.tuples(
    st.integers(0, TEAMS - 1), st.sampled_from([0, 0, 0, 1, -1]), st.sampled_from(["any", "any", "cpu", "cuda"])
)


@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    earlier=st.lists(submissions, max_size=10),
    claims=st.lists(st.sampled_from([CPU, GPU, None]), max_size=8),
    later=st.lists(submissions, min_size=1, max_size=8),
    worker=st.sampled_from([CPU, GPU]),
)
def test_a_job_is_claimed_when_its_position_says(database, earlier, claims, later, worker):
    with database.session() as session:
        for table in (Event, Attempt, Job, Worker):
            session.execute(delete(table))
    tenants = [new_tenant(database, str(number)) for number in range(TEAMS)]
    models = [tenant.upload_model() for tenant in tenants]

    def submit(team, priority, device):
        return tenants[team].submit(models[team], priority=priority, needs=Needs(device=device)).id

    jobs = [submit(*one) for one in earlier]
    with database.session() as session:
        for capacity in claims:
            claim_job(session, "before", 600, capacity)
    jobs += [submit(*one) for one in later]
    _be_there(database, ("w", worker))

    found = _positions(database, jobs)
    with database.session() as session:
        queued = session.scalars(select(Job.id).where(Job.state == JobState.QUEUED)).all()
        order = []
        while has_waiting_jobs(session, worker):
            order.append(claim_job(session, "w", 600, worker).id)
    assert set(found) == set(queued)
    assert [found[job] for job in order] == list(range(1, len(order) + 1))


def test_only_jobs_that_wait_have_a_place(database):
    one, other = new_tenant(database, "one"), new_tenant(database, "other")
    mine, theirs = one.upload_model(), other.upload_model()
    jobs = [one.submit(mine).id, one.submit(mine).id, one.submit(mine).id, other.submit(theirs).id]
    assert _positions(database, jobs) == {jobs[0]: 1, jobs[3]: 2, jobs[1]: 3, jobs[2]: 4}
    with database.session() as session:
        cancel(session, one.team_id, jobs[1])
        assert claim_job(session, "w", 30).id == jobs[0]
    assert _positions(database, jobs) == {jobs[3]: 1, jobs[2]: 2}
    with database.session(read_only=True) as session:
        assert set(places(session, list_jobs(session, one.team_id, limit=10))) == {jobs[2]}
        assert places(session, [get_job(session, one.team_id, jobs[0])]) == {}


def test_a_job_for_any_device_has_the_better_of_two_positions(database):
    tenant = new_tenant(database)
    model = tenant.upload_model()
    for _ in range(3):
        tenant.submit(model, needs=Needs(device="cuda"))
    tenant.submit(model, needs=Needs(device="cpu"))
    job = tenant.submit(model).id
    assert _positions(database, [job]) == {job: 2}
    _be_there(database, ("gpu", GPU))  # now only a worker with a GPU can take it
    assert _positions(database, [job]) == {job: 4}


class TestWaiting:
    def _waiting(self, database, job):
        return _places(database, [job.id])[job.id].waiting

    def test_what_it_waits_for(self, database):
        tenant = new_tenant(database)
        job = tenant.submit(tenant.upload_model(), needs=Needs(device="cuda", gpu_memory_bytes=1 << 33))
        assert self._waiting(database, job).reason is WaitingReason.NO_WORKER
        _be_there(database, ("cpu", CPU), ("small", GPU.model_copy(update={"gpu_memory_bytes": 1 << 32})))
        waiting = self._waiting(database, job)
        assert waiting.reason is WaitingReason.NO_FITTING_WORKER
        assert "lacks 8.0 GiB of GPU memory" in waiting.message
        _be_there(database, ("gpu", GPU))
        assert self._waiting(database, job).reason is WaitingReason.TURN


class TestExpectedStart:
    @pytest.mark.parametrize(
        ("free", "duration", "expected"),
        [
            ([], 10.0, []),
            ([0.0], None, [0.0]),
            ([0.0], 10.0, [0.0, 10.0, 20.0, 30.0, 40.0, 50.0]),
            ([3.0, 4.0], 10.0, [3.0, 4.0, 13.0, 14.0, 23.0, 24.0]),
            ([0.0, 25.0], 10.0, [0.0, 10.0, 20.0, 25.0, 30.0, 35.0]),
            ([float("inf"), 0.0], None, [0.0]),
            ([float("inf"), 0.0], 10.0, [0.0, 10.0, 20.0, 30.0, 40.0, 50.0]),
            ([float("inf")], 10.0, []),
        ],
    )
    def test_workers_take_the_jobs_ahead_one_after_the_other(self, free, duration, expected):
        assert list(islice(starts(free, duration), 6)) == expected

    def _seconds(self, database, jobs):
        found = _places(database, jobs)
        with database.session(read_only=True) as session:
            present = session.execute(select(now())).scalar_one()
        return [
            None if (start := found[job].expected_start) is None else (start - present) / timedelta(seconds=1)
            for job in jobs
        ]

    def test_from_how_long_jobs_ran_of_late_and_what_running_ones_say(self, database):
        tenant = new_tenant(database)
        model = tenant.upload_model()
        past = [tenant.submit(model).id for _ in range(4)]
        with database.session() as session:
            # Three ran 100, 200 and 900 seconds; what was cancelled says nothing of how long a job takes.
            for job, seconds, state in zip(
                past, (100, 200, 900, 5), (*3 * [JobState.SUCCEEDED], JobState.CANCELLED), strict=True
            ):
                session.execute(
                    update(Job)
                    .where(Job.id == job)
                    .values(state=state, started_at=now_plus(-seconds - 1000), finished_at=now_plus(-1000))
                )
        running = [tenant.submit(model) for _ in range(2)]
        with database.session() as session:
            for worker in ("a", "b"):
                claim_job(session, worker, 600, CPU)
            session.execute(update(Job).where(Job.id == running[0].id).values(started_at=now_plus(-50)))
            progress = Progress(stage="step", steps=1, fraction=0.5, eta_seconds=30.0)
            assert append_events(session, running[1].id, 1, [progress])
        waiting = [tenant.submit(model).id for _ in range(3)]
        assert self._seconds(database, waiting) == [None] * 3  # no worker is alive
        _be_there(database, ("a", CPU), ("b", CPU))
        # b is free in 30 s by its own word, a in 200 - 50 s.
        assert self._seconds(database, waiting) == pytest.approx([30, 150, 230], abs=5)
        _be_there(database, ("idle", CPU), ("gpu", GPU))
        assert self._seconds(database, waiting) == pytest.approx([0, 30, 150], abs=5)
        # The worker with the GPU is idle as well, and has a queue of its own.
        (start,) = self._seconds(database, [tenant.submit(model, needs=Needs(device="cuda"), priority=-1).id])
        assert start == pytest.approx(600, abs=5)

    def test_a_start_beyond_all_calendars_is_none(self, database):
        tenant = new_tenant(database)
        model = tenant.upload_model()
        running = tenant.submit(model)
        with database.session() as session:
            claim_job(session, "a", 600, CPU)
            said = Progress(stage="step", steps=1, fraction=0.5, eta_seconds=1e300)
            assert append_events(session, running.id, 1, [said])
        _be_there(database, ("a", CPU))
        assert self._seconds(database, [tenant.submit(model).id]) == [None]

    def test_nothing_to_go_by(self, database):
        tenant = new_tenant(database)
        model = tenant.upload_model()
        tenant.submit(model)
        with database.session() as session:
            claim_job(session, "a", 600, CPU)
        _be_there(database, ("a", CPU))
        assert self._seconds(database, [tenant.submit(model).id]) == [None]


def test_places_are_counted_without_a_look_at_finished_jobs(database):
    """The statements, caught on their way, read jobs by an index that finished ones are not in the way of."""
    tenant = new_tenant(database)
    # Of tables without rows PostgreSQL takes any index.
    copy_finished(database, finish_one(tenant), 1, 2_000, [tenant.upload_model().id])
    job = tenant.submit(tenant.upload_model())
    _be_there(database, ("a", CPU))
    said = []
    with database.session(read_only=True) as session:
        engine = session.get_bind()
        row = session.get(Job, job.id)
        execute = session.execute
        session.execute = lambda statement, *more: (said.append(statement), execute(statement, *more))[1]
        places(session, [row])
        session.execute = execute
        if database.dialect == "postgresql":
            session.execute(text("SET LOCAL enable_seqscan = off"))
        prefix = "EXPLAIN QUERY PLAN" if database.dialect == "sqlite" else "EXPLAIN"
        for statement in said:
            literal = statement.compile(engine, compile_kwargs={"literal_binds": True})
            plan = [" ".join(map(str, line)) for line in session.execute(text(f"{prefix} {literal}"))]
            scans = [
                line for line in plan if "jobs" in line and ("Index" in line or "SCAN" in line or "SEARCH" in line)
            ]
            indexes = ("ix_jobs_turn", "ix_jobs_state_", "ix_jobs_team_id_state_", "ix_jobs_finished_at")
            assert all(any(name in line for name in indexes) for line in scans), plan
            assert not any("Seq Scan on jobs" in line for line in plan), plan
    assert len(said) >= 5
