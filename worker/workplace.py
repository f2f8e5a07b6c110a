"""What every part of one worker process shares."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeVar

import structlog
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from db.database import Database
from modelpress.spec.needs import Capacity
from service.settings import Settings
from storage.store import Store, StoreUnavailable
from worker import metrics
from worker.heartbeat import Heartbeat, Verdict
from worker.starter import Starter
from worker.store_call import StoreCall

Result = TypeVar("Result")

# What passes by itself: a server that is away, a lock held for too long. Anything else is a defect, and raised.
PASSING = (OperationalError, InterfaceError, PoolTimeout)

log = structlog.stdlib.get_logger(__name__)

# Between two tries while a server cannot be reached, seconds; for the store it doubles up to the longest.
RETRY_SECONDS = 1.0
LONGEST_WAIT_SECONDS = 4.0

# Between two looks whether the work shall go on, seconds.
TICK_SECONDS = 0.2

STORE_PATIENCE_SECONDS = 600.0


class Stopped(Enum):
    """Why work ends before its end."""

    CANCELLED = "cancelled"  # by the user
    LOST = "lost"  # it is no longer ours: nothing more may be written about it
    SHUTDOWN = "shutdown"  # this worker shall end


class Interrupted(Exception):
    """The work must not go on."""

    def __init__(self, reason: Stopped) -> None:
        super().__init__(reason.value)
        self.reason = reason


@dataclass(frozen=True)
class Workplace:
    """The settings and the servers of one worker process."""

    settings: Settings
    database: Database
    store: Store
    engine: Starter
    worker: str  # name of this process, as attempts show it
    capacity: Capacity | None = None  # what it has for a job; None in a process that takes no jobs
    stop: threading.Event = field(default_factory=threading.Event)  # set when the process shall end
    served: dict[str, None] = field(default_factory=dict)  # teams whose uploads it has inspected, the latest last

    def write(self, heartbeat: Heartbeat, transaction: Callable[[Session], Result]) -> Result:
        """Carry out a transaction, again and again while the database is away and the lease is ours.

        Raises Interrupted (lost) when the lease runs out meanwhile.
        """
        while True:
            try:
                with self.database.session() as session:
                    return transaction(session)
            except PASSING as error:
                metrics.DATABASE_ERRORS.inc()
                log.warning("database_unreachable", error=type(error).__name__)
                if heartbeat.verdict() is Verdict.LOST:
                    raise Interrupted(Stopped.LOST) from error
                time.sleep(RETRY_SECONDS)

    def reach_store(self, heartbeat: Heartbeat, action: Callable[[], Result]) -> Result:
        """Do something with the store, again and again for a while when it cannot be reached.

        An outage of minutes must not fail one job after the other, nor throw away hours of work. Raises Interrupted,
        also while the store is at work on it, and at last StoreUnavailable.
        """
        give_up = time.monotonic() + STORE_PATIENCE_SECONDS
        wait = RETRY_SECONDS
        while True:
            self.require_going_on(heartbeat)
            call = StoreCall(action)
            while not call.ended(TICK_SECONDS):
                self.require_going_on(heartbeat)
            try:
                return call.result()
            except StoreUnavailable as error:
                log.warning("store_unreachable", error=str(error))
                if time.monotonic() + wait > give_up:
                    raise
            self.stop.wait(wait)
            wait = min(2 * wait, LONGEST_WAIT_SECONDS)

    def require_going_on(self, heartbeat: Heartbeat) -> None:
        """Raises Interrupted when the work must not go on."""
        verdict = heartbeat.verdict()
        if verdict is Verdict.LOST:
            raise Interrupted(Stopped.LOST)
        if verdict is Verdict.CANCELLED:
            raise Interrupted(Stopped.CANCELLED)
        if self.stop.is_set():
            raise Interrupted(Stopped.SHUTDOWN)
