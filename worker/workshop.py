"""The work of one process: one job or inspection at a time, until none waits."""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

from worker import metrics
from worker.workplace import PASSING, Workplace

log = structlog.stdlib.get_logger(__name__)


class Workshop:
    """Takes one piece of work after the other, whoever calls."""

    def __init__(self, workplace: Workplace, take: Callable[[Workplace], bool]) -> None:
        """`take` claims a piece of work and carries it out; False when none waits."""
        self._workplace = workplace
        self._take = take
        self._at_work = threading.Lock()

    @property
    def is_busy(self) -> bool:
        """True while something is at work."""
        return self._at_work.locked()

    def work(self) -> None:
        """Work until nothing waits or the process shall end; does nothing when already at work. Never raises."""
        if not self._at_work.acquire(blocking=False):
            return
        metrics.BUSY.set(1)
        try:
            while not self._workplace.stop.is_set() and self._take(self._workplace):
                pass
        except PASSING as error:
            # The row, if one was claimed, goes to another when its lease has run out.
            metrics.DATABASE_ERRORS.inc()
            log.warning("database_unreachable", error=type(error).__name__)
        except Exception:
            log.exception("work_broke")
        finally:
            metrics.BUSY.set(0)
            self._at_work.release()
