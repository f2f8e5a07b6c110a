"""SIGSTOP past the lease, then SIGCONT: a machine that swaps, or that is moved to another host."""

from __future__ import annotations

import time
from random import Random

from db.database import FROZEN_SECONDS
from tests.faults.fault import Fault, Struck, clock
from tests.faults.load import Load
from tests.faults.member import is_gone
from tests.faults.site import Site
from tests.support.database_lock import is_locked
from tests.support.patience import comes_true

WORK_SECONDS = 20.0
NOTICE_SECONDS = 10.0


class FreezeWorker(Fault):
    """A worker that is thought dead wakes up; `check` asks that no attempt was written to after its end."""

    name = "freeze worker"
    holds = "its late writes change 0 rows; its child is dead before another takes the job"
    moments = 20
    in_ci = ("production",)

    def bound_seconds(self, site: Site) -> float:
        """Where it froze within a transaction, the database has to cut it off before its job can be taken."""
        return max(site.lease_seconds, FROZEN_SECONDS) + 10

    def strike(self, site: Site, load: Load, draw: Random) -> Struck | None:
        """Freeze a worker that holds a job until that job is another's, and let it go on."""
        worker = draw.choice(site.workers)
        if not comes_true(lambda: any(holder == worker.worker for *_, holder in site.held_jobs()), WORK_SECONDS):
            return None
        time.sleep(draw.uniform(0, 0.5))
        at, since = clock(), worker.log_size()
        worker.freeze()
        if is_locked(site.back_end.database_url):
            worker.thaw()
            return None
        wrong: list[str] = []
        try:
            children = worker.children()
            held = [(job_id, number) for job_id, number, holder in site.held_jobs() if holder == worker.worker]
            for job_id, number in held:
                if not comes_true(lambda: site.attempt(job_id, number + 1) is not None, self.bound_seconds(site)):  # noqa: B023
                    wrong.append(f"{job_id} of a frozen worker was taken by no other")
            if held:
                wrong += [f"{child} of a frozen worker lives" for child in children if not is_gone(child)]
            time.sleep(draw.uniform(0, 0.5))
        finally:
            worker.thaw()
        if held and not worker.await_words("outcome=lost", since, NOTICE_SECONDS):
            wrong.append("the worker went on as if it had not been frozen")
        return Struck(at, attempts=tuple(held), wrong=tuple(wrong))
