"""What a fault is: something that is done to a running service at a moment, and what must hold all the same.

To add one: a class in a file of `tests/faults/kinds/`, and its line in `FAULTS` of `tests/faults/registry.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import ClassVar

from tests.faults.back_ends import BACK_ENDS, BackEnd
from tests.faults.load import Load
from tests.faults.site import Site


@dataclass(frozen=True)
class Struck:
    """One moment at which a fault hit."""

    at: datetime  # by this machine's clock, which is the databases' too
    attempts: tuple[tuple[str, int], ...] = ()  # job and number of those that it ended: each must run again in time
    seconds: float | None = None  # until what it hit worked again, where that is no attempt
    wrong: tuple[str, ...] = ()  # what should not have been, in words


class Fault:
    """A kind of fault. Each moment leaves the service whole: what was killed is started, what was cut is joined."""

    name: ClassVar[str]
    holds: ClassVar[str]  # what must hold, for the table
    moments: ClassVar[int]  # of a long run
    few: ClassVar[int] = 1  # of a run in CI; 0 to be left out there
    in_ci: ClassVar[tuple[str, ...]] = tuple(BACK_ENDS)  # the back ends that CI tries it on: each costs seconds
    back_ends: ClassVar[tuple[str, ...]] = tuple(BACK_ENDS)
    workers: ClassVar[int] = 2
    apis: ClassVar[int] = 1
    outstanding: ClassVar[int] = 3  # unfinished jobs, about, while it is at work
    pause_seconds: ClassVar[tuple[float, float]] = (0.0, 1.5)  # before each moment, drawn from this range

    # True where the service has to be built for it (`around`, `settings`): then nothing else shares that service.
    is_apart: ClassVar[bool] = False

    @contextmanager
    def around(self, back_end: BackEnd, home: Path) -> Iterator[BackEnd]:
        """Put into the service's way what the fault needs: servers of its own, proxies before them. Until the end."""
        yield back_end

    def settings(self, home: Path) -> dict[str, object]:
        """Settings of every process of the service, on top of the usual ones."""
        return {}

    def bound_seconds(self, site: Site) -> float:
        """Longest time to running again."""
        return site.lease_seconds + 10

    def strike(self, site: Site, load: Load, draw: Random) -> Struck | None:
        """Hit once, and make the service whole again. None when there was nothing to hit."""
        raise NotImplementedError

    def afterwards(self, site: Site, load: Load) -> list[str]:
        """What should not be, once every job is at its end: what this kind alone can tell."""
        return []


def clock() -> datetime:
    """This machine's time."""
    return datetime.now(UTC)
