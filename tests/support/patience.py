"""Waiting for what happens elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable


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
