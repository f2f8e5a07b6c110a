"""How many cores this process has to compute with."""

from __future__ import annotations

import os
from pathlib import Path

CPU_LIMIT = Path("/sys/fs/cgroup/cpu.max")  # of a container, version 2: microseconds it may compute, of so many


def available_cores() -> int:
    """Cores that this process may run on, of a container with a limit as many whole ones as that comes to, at least 1.

    More threads than that are stopped for the rest of each period, in the midst of what the others wait for.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = CPU_LIMIT.read_text().split()
        return max(1, min(allowed, int(quota) // int(period)))
    except (OSError, ValueError):  # no limit: there is no such file, or it says "max"
        return allowed
