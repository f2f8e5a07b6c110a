"""SIGTERM, as a rolling deploy sends it, in each state that a worker can be in."""

from __future__ import annotations

import time
from collections.abc import Callable
from random import Random

from tests.faults.fault import Fault, Struck, clock
from tests.faults.load import Load
from tests.faults.member import END_SECONDS, Member
from tests.faults.site import Site
from tests.support.patience import comes_true

STATE_SECONDS = 20.0


class _StopWorker(Fault):
    """Told to end, a worker hands its job over: released at once, with its checkpoint, and never lost."""

    holds = "handed over within seconds, nothing lost, the worker ends well"
    moments = 20

    def strike(self, site: Site, load: Load, draw: Random) -> Struck | None:
        """Wait until a worker is in the state, tell it to end, and start it again."""
        worker = draw.choice(site.workers)
        # Before it has come up there is nothing to hand over, and nobody to do it.
        if not comes_true(lambda: worker.has_said("ready."), STATE_SECONDS) or not self.reach(site, worker, draw):
            return None
        at = clock()
        held = [(job_id, number) for job_id, number, holder in site.held_jobs() if holder == worker.worker]
        worker.terminate()
        code, wrong = worker.wait(END_SECONDS), []
        if code != 0:
            wrong.append(f"told to end ({self.name}), a worker ended with {code}: {worker.tail(5)}")
        for job_id, number in held:
            attempt = site.attempt(job_id, number)
            if attempt is None or attempt.outcome in (None, "lost"):
                wrong.append(f"{job_id} was not handed over: its attempt {number} is {attempt and attempt.outcome}")
        worker.start()
        return Struck(at, attempts=tuple(held), wrong=tuple(wrong))

    def reach(self, site: Site, worker: Member, draw: Random) -> bool:
        """Wait until this worker is in the state; False when it does not come into it."""
        raise NotImplementedError


class StopIdle(_StopWorker):
    """While nothing is to be done."""

    name = "stop idle"
    outstanding = 0
    few = 0  # tests/worker/test_jobs.py has it

    def reach(self, site: Site, worker: Member, draw: Random) -> bool:
        """Idle once every job is done."""
        return comes_true(lambda: site.unfinished() == 0, STATE_SECONDS)


class StopLoading(_StopWorker):
    """Between the claim and the engine's first word."""

    name = "stop loading"
    in_ci = ("embedded",)
    pause_seconds = (0.0, 0.2)

    def reach(self, site: Site, worker: Member, draw: Random) -> bool:
        """Just after it has claimed a job."""
        is_there = worker.await_words("job_claimed", worker.log_size(), STATE_SECONDS)
        time.sleep(draw.uniform(0, 0.03))
        return is_there


class StopTraining(_StopWorker):
    """While the engine trains."""

    name = "stop training"
    few = 0  # tests/worker/test_checkpoints.py has it

    def reach(self, site: Site, worker: Member, draw: Random) -> bool:
        """Some time after the engine has begun, and before its end."""
        is_there = worker.await_words("engine_started", worker.log_size(), STATE_SECONDS)
        time.sleep(draw.uniform(0.1, 0.5))
        return is_there


class StopStoring(_StopWorker):
    """While it stores what the engine has made."""

    name = "stop storing"
    in_ci = ("production",)
    pause_seconds = (0.0, 0.2)

    def reach(self, site: Site, worker: Member, draw: Random) -> bool:
        """Just after the engine has ended."""
        is_there = worker.await_words("engine_ended", worker.log_size(), STATE_SECONDS)
        time.sleep(draw.uniform(0, 0.02))
        return is_there


class StopFinishing(_StopWorker):
    """While it writes the end of a job."""

    name = "stop finishing"
    few = 0  # as storing, from here
    pause_seconds = (0.0, 0.2)

    def reach(self, site: Site, worker: Member, draw: Random) -> bool:
        """When the last file of a job has come into the store."""
        if not worker.await_words("engine_ended", worker.log_size(), STATE_SECONDS):
            return False
        incoming: Callable[[], bool] = lambda: any((site.home / "store" / "incoming").iterdir())  # noqa: E731
        give_up = time.monotonic() + 1
        while not incoming() and time.monotonic() < give_up:
            time.sleep(0.001)
        while incoming() and time.monotonic() < give_up:
            time.sleep(0.001)
        time.sleep(draw.uniform(0, 0.01))
        return True
