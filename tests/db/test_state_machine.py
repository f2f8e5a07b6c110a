"""Whatever is done in whatever order, a job keeps to the drawn state machine, and late workers change nothing.

Every sequence of operations is done to the database and to a model of it in a dozen lines of plain Python.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, update

from db.clock import now_plus
from db.errors import InvalidTransition
from db.models import Artifact, Attempt, Event, Job, Metric
from db.queries.claims import append_events, cancelled, claim_job, fail, heartbeat, lose, reap, release, succeed
from db.queries.jobs import attempts, cancel, events_after, get_job, retry
from db.queries.transitions import move
from modelpress.spec.event import StateChanged, Warned
from modelpress.spec.failure import Failure, FailureKind
from modelpress.spec.state import TRANSITIONS, JobState
from tests.support.reports import a_report
from tests.support.rows import new_tenant

pytestmark = pytest.mark.slow

Q, R, X = JobState.QUEUED, JobState.RUNNING, JobState.CANCELLING
S, F, C = JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED
MOST_LOSSES = 2
JOBS = 3
FAILURE = Failure(kind=FailureKind.INTERNAL, message="an error")


@dataclass(frozen=True)
class Expected:
    """What a job should be."""

    state: JobState = Q
    attempt: int = 0
    losses: int = 0
    lapsed: bool = False  # its lease has run out


# What a worker does with an attempt: by the state it is in, the state it then is in. Missing: refused.
WORKER_MOVES = {
    "heartbeat": {R: R, X: X},
    "append": {R: R, X: X},
    "succeed": {R: S},
    "fail": {R: F},
    "cancelled": {X: C},
    "release": {R: Q, X: C},
    "lose": {R: Q, X: C},  # or failed, when it was lost too often
}
USER_MOVES = {"cancel": {Q: C, R: X, X: X, C: C}, "retry": {F: Q, C: Q}}
WORKER_CALLS = {
    "heartbeat": lambda session, job, attempt: heartbeat(session, job, attempt, 1_000),
    "append": lambda session, job, attempt: append_events(session, job, attempt, [Warned(message="")]),
    "succeed": lambda session, job, attempt: succeed(session, job, attempt, a_report()),
    "fail": lambda session, job, attempt: fail(session, job, attempt, FAILURE),
    "cancelled": cancelled,
    "release": lambda session, job, attempt: release(session, job, attempt, "shutdown"),
    "lose": lambda session, job, attempt: lose(session, job, attempt, FAILURE, MOST_LOSSES, "killed"),
}
USER_CALLS = {"cancel": cancel, "retry": retry}

operations = st.one_of(
    st.tuples(st.sampled_from(["claim", "claim", "claim", "reap", "reap"]), st.just(0), st.just(0)),
    st.tuples(st.sampled_from(["lapse", *USER_MOVES]), st.integers(0, JOBS - 1), st.just(0)),
    # The newest attempt mostly, else the one before or one that is not yet.
    st.tuples(st.sampled_from(list(WORKER_MOVES)), st.integers(0, JOBS - 1), st.sampled_from([0, 0, 0, 0, -1, 1])),
)


@settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(sequence=st.lists(operations, min_size=5, max_size=40))
def test_no_sequence_of_operations_leaves_the_state_machine(database, sequence):
    with database.session() as session:
        for table in (Event, Attempt, Metric, Artifact, Job):
            session.execute(delete(table))
    tenant = new_tenant(database)
    model = tenant.upload_model()
    jobs = [tenant.submit(model).id for _ in range(JOBS)]
    expected = dict.fromkeys(jobs, Expected())
    changes = {job: [Q] for job in jobs}

    for name, index, offset in sequence:
        before = dict(expected)
        with database.session() as session:
            _do(session, tenant.team_id, name, jobs[index], offset, expected)
        for job in jobs:
            if expected[job].state is not before[job].state:
                changes[job].append(expected[job].state)
        with database.session(read_only=True) as session:
            for job in jobs:
                _check(session, tenant.team_id, job, expected[job])

    with database.session(read_only=True) as session:
        for job in jobs:
            rows = events_after(session, job, 0, 10_000)
            assert [row.seq for row in rows] == list(range(1, len(rows) + 1))
            told = [JobState(row.event.state) for row in rows if isinstance(row.event, StateChanged)]
            assert told == changes[job]
            assert all(after in TRANSITIONS[earlier] for earlier, after in pairwise(told))


def _do(session, team, name, job, offset, expected):
    was = expected[job]
    if name == "claim":
        claim = claim_job(session, "w", 1_000)
        waiting = [other for other, state in expected.items() if state.state is Q]
        assert (claim is None) is (not waiting)
        if claim is not None:
            assert claim.id in waiting
            was = expected[claim.id]
            assert claim.attempt == was.attempt + 1
            expected[claim.id] = replace(was, state=R, attempt=was.attempt + 1, lapsed=False)
    elif name == "lapse":
        session.execute(update(Job).where(Job.id == job, Job.state.in_((R, X))).values(lease_expires_at=now_plus(-1)))
        expected[job] = replace(was, lapsed=was.state in (R, X))
    elif name == "reap":
        reaped = reap(session, MOST_LOSSES)
        for other, state in expected.items():
            if not state.lapsed:
                target = state
            elif state.state is X:
                target = replace(state, state=C, lapsed=False)
            elif state.losses + 1 >= MOST_LOSSES:
                target = replace(state, state=F, losses=state.losses + 1, lapsed=False)
            else:
                target = replace(state, state=Q, losses=state.losses + 1, lapsed=False)
            assert (other in reaped.cancelled, other in reaped.failed, other in reaped.requeued) == (
                state.lapsed and target.state is C,
                state.lapsed and target.state is F,
                state.lapsed and target.state is Q,
            )
            expected[other] = target
    elif name in USER_MOVES:
        target = USER_MOVES[name].get(was.state)
        if target is None:
            with pytest.raises(InvalidTransition):
                USER_CALLS[name](session, team, job)
            return
        assert USER_CALLS[name](session, team, job).state is target
        losses = 0 if name == "retry" else was.losses
        expected[job] = replace(was, state=target, losses=losses)
    else:
        target = WORKER_MOVES[name].get(was.state) if offset == 0 else None
        assert bool(WORKER_CALLS[name](session, job, was.attempt + offset)) is (target is not None)
        if target is not None:
            held = target in (R, X)
            losses = was.losses + (name == "lose" and target is Q)
            if losses > was.losses and losses >= MOST_LOSSES:
                target = F
            expected[job] = replace(
                was, state=target, losses=losses, lapsed=was.lapsed and held and name != "heartbeat"
            )


def _check(session, team, job, expected):
    row = get_job(session, team, job)
    assert (row.state, row.attempt, row.losses) == (expected.state, expected.attempt, expected.losses)
    held = expected.state in (R, X)
    assert (row.worker is not None, row.lease_expires_at is not None, row.started_at is not None or not held) == (
        held,
        held,
        True,
    )
    assert (row.finished_at is not None) is expected.state.final
    assert (row.failure is not None) is (expected.state is F)
    assert (row.ratios is not None) is (expected.state is S)
    tries = attempts(session, job)
    assert [attempt.number for attempt in tries] == list(range(1, expected.attempt + 1))
    ended = [attempt.outcome is not None and attempt.finished_at is not None for attempt in tries]
    assert ended == [not (held and attempt.number == expected.attempt) for attempt in tries]


@pytest.mark.parametrize("source", JobState)
@pytest.mark.parametrize("target", JobState)
def test_a_transition_that_is_not_drawn_is_refused_before_it_is_written(source, target, tmp_path):
    if target in TRANSITIONS[source]:
        return
    with pytest.raises(ValueError, match="no job goes from"):
        move(None, source, target)
