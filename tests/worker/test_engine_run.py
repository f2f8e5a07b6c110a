"""The end of an engine's run."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from modelpress.spec.failure import Failure, FailureKind
from modelpress.spec.state import JobState
from modelpress.spec.task import FAILURE_FILE
from tests.worker.conftest import Site
from worker import engine_run as module
from worker.heartbeat import Heartbeat
from worker.starter import Spawner
from worker.workplace import Workplace


def test_a_reason_of_any_length_keeps_its_beginning_and_its_end(tmp_path: Path) -> None:
    whole = Failure(kind=FailureKind.INVALID_MODEL, message=f"the name {'x' * 2**20} is too long; shorten it")
    (tmp_path / FAILURE_FILE).write_text(whole.model_dump_json())
    found = module.read_failure(tmp_path, 3)
    assert found.kind is whole.kind
    assert len(found.message) < 4_100
    assert found.message.startswith("the name xxx")
    assert found.message.endswith("xxx is too long; shorten it")


class _Stuck:
    """A keeper in front of a store that does not answer."""

    def __init__(self) -> None:
        self.is_abandoned = False

    def finish(self) -> None:
        """Nothing more comes."""

    def finished(self, timeout: float) -> bool:
        """It never has."""
        time.sleep(timeout)
        return False

    def abandon(self) -> None:
        """Nobody waits for it."""
        self.is_abandoned = True


def test_a_worker_that_shall_end_does_not_wait_for_a_slow_store(
    embedded_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would be killed over it, and its job would count as lost."""
    monkeypatch.setattr(module, "CHECKPOINT_PATIENCE_SECONDS", 0.3)
    site, keeper = embedded_site, _Stuck()
    workplace = Workplace(site.settings, site.database, site.store, Spawner(()), worker="w")
    workplace.stop.set()
    with Heartbeat(lambda: JobState.RUNNING, 60) as heartbeat:
        module._finish(keeper, workplace, heartbeat)  # type: ignore[arg-type]
    assert keeper.is_abandoned
