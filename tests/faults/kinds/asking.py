"""What users do at a bad moment: cancel, and send the same request many times at once."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from random import Random

from sqlalchemy import func, select

from db.models import Job
from modelpress.spec.state import JobState
from tests.faults.fault import Fault, Struck, clock
from tests.faults.load import Load
from tests.faults.site import Site
from tests.support.patience import comes_true
from tests.support.processes import engine_processes

CANCEL_SECONDS = 5.0


class Cancel(Fault):
    """A job is cancelled at any moment of its life."""

    name = "cancel"
    holds = "final in 5 s, no process left"
    moments = 100
    few = 3
    pause_seconds = (0.0, 0.3)

    def bound_seconds(self, site: Site) -> float:
        """Whatever it is at."""
        return CANCEL_SECONDS

    def strike(self, site: Site, load: Load, draw: Random) -> Struck | None:
        """Cancel a job that runs, or else one that waits; it must be final, and its processes gone."""
        jobs = [job_id for job_id, *_ in site.held_jobs() if job_id not in load.ledger.cancelled]
        job_id = draw.choice(sorted(jobs)) if jobs else load.submit(draw)
        if job_id is None:
            return None
        time.sleep(draw.uniform(0, 0.3))
        at, begin = clock(), time.monotonic()
        if load.cancel(job_id, draw) is None:
            return None  # it had come to its end before
        comes_true(lambda: _state(site, job_id).final, 10 * CANCEL_SECONDS)
        seconds = time.monotonic() - begin
        wrong = [f"{job_id} is cancelled, and runs: {command}" for command in engine_processes(site.home, job_id)]
        return Struck(at, seconds=seconds, wrong=tuple(wrong))


class PostAtOnce(Fault):
    """Fifty clients send one request with one Idempotency-Key in the same moment."""

    name = "post at once"
    holds = "50 posts with one key make 1 job"
    in_ci = ("production",)
    moments = 20
    posts = 50

    def strike(self, site: Site, load: Load, draw: Random) -> Struck:
        """Send them; every one must be answered, with the same job."""
        at, begin, key = clock(), time.monotonic(), load.new_key("one step")
        draws = [Random(draw.random()) for _ in range(self.posts)]
        with ThreadPoolExecutor(self.posts) as clients:
            answers = list(clients.map(lambda one: load.send(key, one), draws))
        seconds, wrong = time.monotonic() - begin, []
        with site.database.session(read_only=True) as session:
            rows = session.scalar(select(func.count()).where(Job.idempotency_key == key))
        if len(set(answers)) != 1 or rows != 1:
            wrong.append(f"{self.posts} posts with one key were answered with {set(answers)} and made {rows} rows")
        return Struck(at, seconds=seconds, wrong=tuple(wrong))


def _state(site: Site, job_id: str) -> JobState:
    return JobState(site.client().get(f"/v1/jobs/{job_id}").raise_for_status().json()["state"])
