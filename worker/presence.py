"""A worker's row: that it is there, and what it has. Kept by a thread, also while a job runs."""

from __future__ import annotations

import threading
from contextlib import suppress

import structlog

from db.queries.workers import renew_worker, retire_worker
from modelpress.spec.needs import Capacity
from worker import metrics
from worker.workplace import PASSING, Workplace

log = structlog.stdlib.get_logger(__name__)


class Presence:
    """A thread that renews the row at a third of the lease, until the workplace's `stop` is set."""

    def __init__(self, workplace: Workplace, capacity: Capacity) -> None:
        self._workplace = workplace
        self._capacity = capacity
        self._thread = threading.Thread(target=self._run, name="presence", daemon=True)

    def start(self) -> None:
        """Write the row, and go on renewing it."""
        self._renew()
        self._thread.start()

    def end(self) -> None:
        """Say that this worker is gone, after the workplace's `stop` was set."""
        self._thread.join()
        # With the database away the row runs out by itself.
        with suppress(*PASSING), self._workplace.database.session() as session:
            retire_worker(session, self._workplace.worker)

    def _run(self) -> None:
        while not self._workplace.stop.wait(self._workplace.settings.lease_seconds / 3):
            self._renew()

    def _renew(self) -> None:
        try:
            with self._workplace.database.session() as session:
                renew_worker(session, self._workplace.worker, self._capacity, self._workplace.settings.lease_seconds)
        except PASSING as error:
            metrics.DATABASE_ERRORS.inc()
            log.warning("database_unreachable", error=type(error).__name__)
        except Exception:
            log.exception("presence_broke")
