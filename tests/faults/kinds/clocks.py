"""The clock of a worker is wrong: leases are judged by the database's time, and held by time that only goes on."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

from sqlalchemy import func, select

from db.models import Attempt
from tests.faults.back_ends import BackEnd
from tests.faults.fault import Fault, Struck, clock
from tests.faults.load import Load
from tests.faults.site import Site
from tests.support.patience import comes_true

SHIFTED = Path(__file__).parents[1] / "shifted"
HOUR_SECONDS = 3600.0
WORK_SECONDS = 30.0


class ShiftClock(Fault):
    """A worker starts on a machine whose clock is an hour ahead or behind, and works beside one that is right."""

    name = "shift clock"
    holds = "no lease misjudged: no attempt is lost"
    moments = 20
    few = 0  # each moment starts two workers
    is_apart = True

    @contextmanager
    def around(self, back_end: BackEnd, home: Path) -> Iterator[BackEnd]:
        """Have every process of the service look for a file with the error of its clock, and only a worker obey it."""
        before = {name: os.environ.get(name) for name in ("PYTHONPATH", "FAULTS_CLOCK")}
        self._error = home / "clock-error"
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(SHIFTED), before["PYTHONPATH"]]))
        os.environ["FAULTS_CLOCK"] = str(self._error)
        try:
            yield back_end
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value

    def strike(self, site: Site, load: Load, draw: Random) -> Struck | None:
        """Start a worker anew with a wrong clock, until it has ended a job; then with a right one."""
        worker = draw.choice(site.workers)
        at, lost = clock(), _lost(site)
        error, since = draw.choice((-HOUR_SECONDS, HOUR_SECONDS)), worker.log_size()
        self._error.write_text(str(error))
        worker.terminate()
        worker.wait()
        worker.start()
        wrong, name = [], worker.worker
        if not comes_true(lambda: _succeeded(site, name), WORK_SECONDS):
            wrong.append("a worker whose clock is wrong does no job")
        if not worker.said(f"clock is off by {error:.0f} seconds", since):
            wrong.append("its clock was right")
        time.sleep(draw.uniform(0, site.lease_seconds))
        # Its sign of life is as good as that of the others.
        if (found := _lost(site)) > lost:
            wrong.append(f"{found - lost} attempts were lost, and nobody had died")
        self._error.unlink()
        worker.terminate()
        worker.wait()
        worker.start()
        return Struck(at, wrong=tuple(wrong))


def _lost(site: Site) -> int:
    with site.database.session(read_only=True) as session:
        return session.scalar(select(func.count()).where(Attempt.outcome == "lost")) or 0


def _succeeded(site: Site, worker: str) -> int:
    with site.database.session(read_only=True) as session:
        return session.scalar(select(func.count()).where(Attempt.worker == worker, Attempt.outcome == "succeeded")) or 0
