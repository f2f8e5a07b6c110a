"""What interrupted uploads and dead attempts left behind, and what is too old, is removed, by every worker."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta

import structlog

from service.deletion import delete_old_jobs
from service.store_owner import ForeignStore, require_own_store
from service.stored_bytes import GRACE_SECONDS, sweep_shard
from storage.store import StorageError
from worker import metrics
from worker.step_results import clear_step_results
from worker.work_folder import clear_leftovers
from worker.workplace import PASSING, Workplace

INTERVAL_SECONDS = 3600.0

# A little shorter, so that a worker alone finds its own turn to be over when it comes again.
_TURN_SECONDS = 0.9 * INTERVAL_SECONDS

# Of a turn, at most: where the limit is new, there may be jobs of years, and other things to tidy up.
_DELETING_SECONDS = 0.3 * INTERVAL_SECONDS

log = structlog.stdlib.get_logger(__name__)


class Housekeeper:
    """A thread that tidies up at once and then every hour.

    Not the poller's, which takes back leases: those must not wait until a large store is listed.
    """

    def __init__(self, workplace: Workplace) -> None:
        self._workplace = workplace
        self._thread = threading.Thread(target=self._run, name="housekeeper", daemon=True)

    def start(self) -> None:
        """Begin to tidy up."""
        self._thread.start()

    def join(self) -> None:
        """Wait for the thread's end, after the workplace's `stop` was set."""
        self._thread.join()

    def _run(self) -> None:
        while True:
            self.tidy()
            if self._workplace.stop.wait(INTERVAL_SECONDS):
                return

    def tidy(self) -> None:
        """Remove what is old enough and nobody's: on this machine, and in the store where it is our turn.

        Each part is tried whatever became of the others, and what goes wrong in it is logged.
        """
        self._try(self._clear_leftovers)
        self._try(self._sweep_uploads)
        if self._try(self._take_turn):
            self._try(self._delete_old_jobs)
            self._try(self._drop_step_results)
            self._try(self._sweep_store)

    def _try(self, part: Callable[[], bool | None]) -> bool:
        """Whether it said so."""
        try:
            return bool(part())
        except PASSING as error:
            metrics.DATABASE_ERRORS.inc()
            log.warning("database_unreachable", error=type(error).__name__)
        except ForeignStore as error:
            log.warning("store_not_own", error=str(error))
        except StorageError as error:
            log.warning("store_unreachable", error=str(error))
        except Exception:
            log.exception("housekeeper_broke")
        return False

    def _take_turn(self) -> bool:
        """Whether it is ours to tidy up in the store. Of another database's not even the turn is taken."""
        place = self._workplace
        require_own_store(place.database, place.store)
        return place.store.take_turn(_TURN_SECONDS)

    def _clear_leftovers(self) -> None:
        if cleared := clear_leftovers(self._workplace.settings.work_folder):
            log.warning("leftovers_cleared", folders=cleared)

    def _sweep_uploads(self) -> None:
        if swept := self._workplace.store.sweep(GRACE_SECONDS):
            log.warning("interrupted_uploads_removed", number=swept)

    def _delete_old_jobs(self) -> None:
        place, seconds = self._workplace, self._workplace.settings.job_retention_seconds
        if seconds is None:
            return
        give_up = time.monotonic() + _DELETING_SECONDS

        def is_stopped() -> bool:
            return place.stop.is_set() or time.monotonic() > give_up

        if deleted := delete_old_jobs(place.database, place.store, seconds, is_stopped):
            log.info("old_jobs_deleted", number=deleted)

    def _drop_step_results(self) -> None:
        place = self._workplace
        if dropped := clear_step_results(place.database, place.store, place.settings.step_results_limit_bytes):
            log.info("step_results_dropped", number=dropped)

    def _sweep_store(self) -> None:
        store = self._workplace.store
        put_before = store.now() - timedelta(seconds=GRACE_SECONDS)
        for shard in sorted(store.shards()):
            if self._workplace.stop.is_set():
                return
            if dropped := sweep_shard(self._workplace.database, store, shard, put_before):
                log.warning("unneeded_bytes_dropped", sha256=dropped)
