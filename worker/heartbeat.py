"""The lease on a job or an inspection, held by a thread while the work goes on.

The lease is judged by the database's clock. This side only makes sure to stop before it can run out: a heartbeat
counts from the moment it was sent, and after `SAFE_SHARE` of the lease without one the work is given up as lost, even
while the database is away or hangs.
"""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable
from enum import Enum
from types import TracebackType
from typing import Self

import structlog
from sqlalchemy.exc import SQLAlchemyError

from modelpress.spec.state import JobState
from worker import metrics

# A cancelled job computes for at most about so long, seconds; the lease alone would allow a third of it.
LONGEST_INTERVAL_SECONDS = 2.0

# What is left of the lease is for killing the child.
SAFE_SHARE = 0.8

log = structlog.stdlib.get_logger(__name__)


class Verdict(Enum):
    """Whether the work may go on."""

    HELD = "held"
    CANCELLED = "cancelled"  # the user wants it stopped
    LOST = "lost"  # it is no longer ours


class Heartbeat:
    """Beats from entering to leaving its `with` block."""

    def __init__(self, beat: Callable[[], JobState | None], lease_seconds: float) -> None:
        """`beat` renews the lease and returns the state, None when it is lost; the lease was taken just now."""
        self._beat = beat
        self._lease_seconds = lease_seconds
        self._interval = min(lease_seconds / 3, LONGEST_INTERVAL_SECONDS)
        self._held_until = time.monotonic() + lease_seconds * SAFE_SHARE
        self._verdict = Verdict.HELD
        self._ended = threading.Event()
        self._thread = threading.Thread(
            target=contextvars.copy_context().run, args=(self._run,), name="heartbeat", daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join(self._interval)

    def verdict(self) -> Verdict:
        """Whether the work may go on, at this moment. Never blocks; once lost stays lost."""
        if self._verdict is not Verdict.LOST and time.monotonic() > self._held_until:
            log.error("lease_not_renewed", seconds=self._lease_seconds * SAFE_SHARE)
            self._verdict = Verdict.LOST
        return self._verdict

    def _run(self) -> None:
        while not self._ended.wait(self._interval) and self._verdict is not Verdict.LOST:
            sent = time.monotonic()
            try:
                state = self._beat()
            except SQLAlchemyError as error:
                metrics.HEARTBEAT_FAILURES.inc()
                log.warning("heartbeat_failed", error=type(error).__name__)
                continue
            if state is None:
                self._verdict = Verdict.LOST
            else:
                self._held_until = sent + self._lease_seconds * SAFE_SHARE
                if state is JobState.CANCELLING:
                    self._verdict = Verdict.CANCELLED
