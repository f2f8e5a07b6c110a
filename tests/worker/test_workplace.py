"""Work with a store that is slow, hangs, or is away."""

from __future__ import annotations

import threading

import pytest

from modelpress.spec.state import JobState
from storage.store import StoreUnavailable
from tests.worker.conftest import Site
from worker import workplace as module
from worker.heartbeat import Heartbeat
from worker.starter import Spawner
from worker.workplace import Interrupted, Stopped, Workplace

LEASE = 1.5


@pytest.fixture
def workplace(embedded_site: Site) -> Workplace:
    return Workplace(embedded_site.settings, embedded_site.database, embedded_site.store, Spawner(()), worker="w")


def _beating(*answers: JobState | None) -> Heartbeat:
    """A heartbeat that is answered so, the last answer again and again."""
    left = list(answers)
    return Heartbeat(lambda: left.pop(0) if len(left) > 1 else left[0], LEASE)


@pytest.mark.parametrize(
    ("answer", "reason"), [(JobState.CANCELLING, Stopped.CANCELLED), (None, Stopped.LOST)], ids=["cancelled", "lost"]
)
def test_a_store_that_hangs_keeps_no_job_from_its_end(workplace: Workplace, answer: JobState | None, reason: Stopped):
    hangs = threading.Event()
    with _beating(JobState.RUNNING, answer) as heartbeat, pytest.raises(Interrupted) as interrupted:
        workplace.reach_store(heartbeat, hangs.wait)
    hangs.set()
    assert interrupted.value.reason is reason


def test_a_store_that_hangs_keeps_no_worker_from_its_end(workplace: Workplace):
    hangs = threading.Event()
    threading.Timer(0.2, workplace.stop.set).start()
    with _beating(JobState.RUNNING) as heartbeat, pytest.raises(Interrupted) as interrupted:
        workplace.reach_store(heartbeat, hangs.wait)
    hangs.set()
    assert interrupted.value.reason is Stopped.SHUTDOWN


def test_a_store_that_comes_back_is_asked_again(workplace: Workplace, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.01)
    answers = iter([StoreUnavailable("away"), StoreUnavailable("away"), "there"])

    def action() -> str:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    with _beating(JobState.RUNNING) as heartbeat:
        assert workplace.reach_store(heartbeat, action) == "there"


def test_what_is_no_outage_is_raised(workplace: Workplace):
    with _beating(JobState.RUNNING) as heartbeat, pytest.raises(KeyError):
        workplace.reach_store(heartbeat, {}.popitem)
