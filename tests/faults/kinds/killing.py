"""SIGKILL, as by the kernel when memory ends, or by a machine that loses its power: at 200 moments in all."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from random import Random

import httpx
import psutil
from sqlalchemy import func, select

from db.models import Model
from tests.faults.fault import Fault, Struck, clock
from tests.faults.load import Load
from tests.faults.member import Member
from tests.faults.site import READY_SECONDS, Site
from tests.support.patience import comes_true

# An engine is there soon on a service that is busy.
ENGINE_SECONDS = 20.0

# Of the moments at which a worker is killed, how many are within a job, about.
AT_WORK_SHARE = 0.8

PIECE = b"x" * (1 << 16)


class KillWorker(Fault):
    """A worker is gone in the midst of anything; another comes."""

    name = "kill worker"
    holds = "0 lost, 0 doubled; running again within lease + 10 s"
    moments = 80

    def strike(self, site: Site, load: Load, draw: Random) -> Struck:
        """Kill one of the workers, most often in the midst of a job, and start it again."""
        worker = draw.choice(site.workers)
        name = worker.worker
        # Else most of them would be killed before they had come up.
        if draw.random() < AT_WORK_SHARE and comes_true(lambda: _held_by(site, name), ENGINE_SECONDS):
            time.sleep(draw.uniform(0, 1))
        at = clock()
        worker.kill()
        held = _held_by(site, name)
        worker.start()
        return Struck(at, attempts=held)


class KillChild(Fault):
    """Of what a worker has started, the launcher or the engine is gone."""

    name = "kill child"
    holds = "0 lost, 0 doubled; running again within lease + 10 s"
    moments = 80

    def strike(self, site: Site, load: Load, draw: Random) -> Struck | None:
        """Kill the launcher or what it has started, of whichever worker has one first."""
        worker = draw.choice(site.workers)
        if not comes_true(worker.children, ENGINE_SECONDS):
            return None
        time.sleep(draw.uniform(0, 1))
        children, held, at = worker.children(), _held_by(site, worker.worker), clock()
        if not children:
            return None  # it was done before
        with suppress(psutil.NoSuchProcess):
            draw.choice(children).kill()
        return Struck(at, attempts=held)


class KillApi(Fault):
    """The API is gone while requests are answered and while an upload is under way."""

    name = "kill API"
    holds = "no 202 without a row; of a broken-off upload nothing stays"
    moments = 40
    in_ci = ("embedded",)

    def strike(self, site: Site, load: Load, draw: Random) -> Struck:
        """Kill an API in the midst of an upload, and start it again."""
        number = draw.randrange(len(site.apis))
        api, before = site.apis[number], self._models(site)
        uploading = threading.Thread(target=self._upload, args=(site, number), name="upload")
        uploading.start()
        time.sleep(draw.uniform(0, 0.5))
        at, begin = clock(), time.monotonic()
        api.kill()
        uploading.join()
        wrong = [] if self._models(site) == before else ["an upload that broke off has made a row"]
        return Struck(at, seconds=_start_again(site, number, api, begin), wrong=tuple(wrong))

    def _models(self, site: Site) -> int:
        with site.database.session(read_only=True) as session:
            return session.scalar(select(func.count()).select_from(Model)) or 0

    def _upload(self, site: Site, number: int) -> None:
        """Send a model whose end never comes."""

        def pieces() -> Iterator[bytes]:
            for _ in range(600):
                yield PIECE
                time.sleep(0.05)

        with suppress(httpx.TransportError):
            site.clients[number].post("/v1/models", params={"architecture": "snn_1k"}, content=pieces())


def _held_by(site: Site, worker: str) -> tuple[tuple[str, int], ...]:
    return tuple((job_id, attempt) for job_id, attempt, holder in site.held_jobs() if holder == worker)


def _start_again(site: Site, number: int, api: Member, begin: float) -> float:
    api.start()
    assert comes_true(lambda: site.is_ready(number) or not api.is_running, READY_SECONDS), api.tail()
    assert api.is_running, api.tail()
    return time.monotonic() - begin
