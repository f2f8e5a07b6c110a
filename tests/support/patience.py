"""Waiting for what happens elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable

# A lease that a test waits out. Of a shorter one, a worker beside other tests loses its own now and then: its engine is
# killed after half of the lease without a sign of life, and a beat can be two seconds old. Whoever freezes a worker may
# keep it for as long again, to see whether it holds SQLite's lock.
SHORT_LEASE_SECONDS = 10.0


def until(true: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until this is true; fail when it is not by then."""
    assert comes_true(true, seconds), "it never became true"


def comes_true(true: Callable[[], object], seconds: float) -> bool:
    """Wait until this is true; False when it is not by then."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
