"""A worker looks by itself: for leases of lost workers and what they left, and for work that no wake-up told of."""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog
from sqlalchemy.orm import Session

from db.queries import claims
from storage.store import StorageError
from worker import metrics
from worker.checkpoint_keeper import clear_checkpoints
from worker.workplace import PASSING, Workplace
from worker.workshop import Workshop

log = structlog.stdlib.get_logger(__name__)


class Poller:
    """A thread that looks every `poll_seconds`."""

    def __init__(
        self,
        workplace: Workplace,
        workshop: Workshop,
        *,
        has_waiting: Callable[[Session], bool],
        wake: Callable[[], bool],
    ) -> None:
        """`wake` sends a wake-up to this kind of worker; False when the broker did not take it."""
        self._workplace = workplace
        self._workshop = workshop
        self._has_waiting = has_waiting
        self._wake = wake
        self._thread = threading.Thread(target=self._run, name="poller", daemon=True)
        self._work: threading.Thread | None = None  # while the broker is away

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def join(self) -> None:
        """Wait for the thread's end, after the workplace's `stop` was set."""
        self._thread.join()
        if self._work is not None:
            self._work.join()

    def _run(self) -> None:
        while not self._workplace.stop.wait(self._workplace.settings.poll_seconds):
            try:
                self.look()
            except PASSING as error:
                metrics.DATABASE_ERRORS.inc()
                log.warning("database_unreachable", error=type(error).__name__)
            except Exception:
                log.exception("poller_broke")

    def look(self) -> None:
        """Take back leases that ran out, drop what is kept for nobody, and see to it that waiting work is done."""
        database = self._workplace.database
        with database.session() as session:
            reaped = claims.reap(session, self._workplace.settings.max_attempts)
        for outcome, ids in vars(reaped).items():
            if ids and outcome == "expired":  # no worker was lost over these
                log.warning("waited_too_long", ids=ids)
            elif ids:
                metrics.REAPED.inc(len(ids))
                log.warning("leases_ran_out", outcome=outcome, ids=ids)
        try:
            clear_checkpoints(database, self._workplace.store)
        except StorageError as error:
            log.warning("store_unreachable", error=str(error))
        if self._workshop.is_busy:
            return
        with database.session(read_only=True) as session:
            waits = self._has_waiting(session)
        if waits and not self._wake():
            # The broker is away: work all the same, beside this thread, which goes on taking back leases.
            self._work = threading.Thread(target=self._workshop.work, name="work", daemon=True)
            self._work.start()
