"""A clock that is off, for a Python process that finds this folder on its path before it starts: imported by `site`.

The file that FAULTS_CLOCK names says by how many seconds; where there is none, the clock is right. Time that only goes
on (`time.monotonic`) is right in any case, as on a machine whose clock was set wrongly.
"""

from __future__ import annotations

import datetime
import os
import sys
import time
from datetime import datetime as RealDatetime
from pathlib import Path
from typing import Any

REAL_TIME, REAL_TIME_NS = time.time, time.time_ns


class _Looks(type):
    """Every point in time is one of this class, too."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, RealDatetime)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, RealDatetime)


def shift(seconds: float) -> None:
    """Have every clock of this process that can be set wrong by so much."""
    by = datetime.timedelta(seconds=seconds)

    class Shifted(RealDatetime, metaclass=_Looks):
        """As the real one, but for what it takes for now; of the same size too, as compiled modules ask."""

        __slots__ = ()

        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return RealDatetime.now(tz) + by

        @classmethod
        def utcnow(cls) -> Any:
            return RealDatetime.now(datetime.UTC).replace(tzinfo=None) + by

    Shifted.__name__ = Shifted.__qualname__ = "datetime"
    datetime.datetime = Shifted  # type: ignore[misc]
    time.time = lambda: REAL_TIME() + seconds
    time.time_ns = lambda: REAL_TIME_NS() + int(seconds * 1e9)


if "worker" in sys.orig_argv and (named := os.environ.get("FAULTS_CLOCK")) and Path(named).exists():
    shift(float(Path(named).read_text()))
    error = round((datetime.datetime.now(datetime.UTC) - RealDatetime.now(datetime.UTC)).total_seconds())
    sys.stderr.write(f"this clock is off by {error} seconds\n")
