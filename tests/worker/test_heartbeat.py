"""The lease seen from the worker's side."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy.exc import OperationalError

from modelpress.spec.state import JobState
from tests.worker.conftest import wait_for
from worker.heartbeat import SAFE_SHARE, Heartbeat, Verdict

LEASE = 1.5


class _Database:
    """Answers to heartbeats as told."""

    def __init__(self) -> None:
        self.answer: JobState | Exception | None = JobState.RUNNING
        self.beats = 0
        self.hangs = threading.Event()

    def beat(self) -> JobState | None:
        self.beats += 1
        while self.hangs.is_set():
            threading.Event().wait(0.01)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def test_it_holds_for_many_leases():
    database = _Database()
    with Heartbeat(database.beat, LEASE) as heartbeat:
        wait_for(lambda: database.beats >= 8, "eight beats, which take longer than two leases")
        assert heartbeat.verdict() is Verdict.HELD
    beats = database.beats
    threading.Event().wait(LEASE)
    assert database.beats == beats


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [(JobState.CANCELLING, Verdict.CANCELLED), (None, Verdict.LOST), (ValueError(), Verdict.LOST)],
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_the_answer_of_the_database_decides(answer, verdict):
    database = _Database()
    with Heartbeat(database.beat, LEASE) as heartbeat:
        database.answer = answer
        wait_for(lambda: heartbeat.verdict() is verdict, verdict.value)


def test_a_failed_beat_is_no_end():
    database = _Database()
    database.answer = OperationalError("", {}, Exception())
    with Heartbeat(database.beat, 6 * LEASE) as heartbeat:
        wait_for(lambda: database.beats >= 2, "a second try")
        database.answer = JobState.RUNNING
        beats = database.beats
        wait_for(lambda: database.beats > beats + 1, "the next beats")
        assert heartbeat.verdict() is Verdict.HELD


@pytest.mark.parametrize("is_hanging", [True, False])
def test_without_a_database_it_is_lost_before_the_lease_ends(is_hanging, monkeypatch):
    database = _Database()
    clock = [1000.0]
    monkeypatch.setattr("worker.heartbeat.time.monotonic", lambda: clock[0])
    if is_hanging:
        database.hangs.set()
    else:
        database.answer = OperationalError("", {}, Exception())
    with Heartbeat(database.beat, LEASE) as heartbeat:
        clock[0] += LEASE * SAFE_SHARE - 0.01
        assert heartbeat.verdict() is Verdict.HELD
        clock[0] += 0.02
        assert heartbeat.verdict() is Verdict.LOST
        database.hangs.clear()
        database.answer = JobState.RUNNING
        clock[0] -= 1
        assert heartbeat.verdict() is Verdict.LOST  # once given up, for good
