"""The broker loses, doubles and reorders messages, hangs, and dies: wake-ups are a hint, so every job must finish."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import cast

import redis

from service.wakeup import JOBS_QUEUE
from tests.faults.fault import Fault, Struck, clock
from tests.faults.load import Load
from tests.faults.site import Site
from tests.support.patience import comes_true

HOLDS = "all jobs finish, each once"
BACK_SECONDS = 20.0
CATCH_SECONDS = 5.0


class KillBroker(Fault):
    """The broker's server crashes (no word to its clients, all messages gone) and is back at its address later."""

    name = "kill broker"
    holds = HOLDS
    moments = 40
    in_ci = back_ends = ("production",)

    def strike(self, site: Site, load: Load, draw: Random) -> Struck:
        """Have Redis crash by its own command: its process closes every socket, stays away, and begins with nothing."""
        away, at, begin = draw.uniform(0.1, 2), clock(), time.monotonic()
        with _server(site) as server:
            # The answer is the end of the connection.
            with suppress(redis.ConnectionError):
                server.execute_command("DEBUG", "CRASH-AND-RECOVER", str(int(away * 1000)))
            load.submit(draw)
            is_back = comes_true(lambda: _answers(server), BACK_SECONDS)
        wrong = () if is_back else ("Redis did not come back",)
        return Struck(at, seconds=time.monotonic() - begin, wrong=wrong)


class PauseBroker(Fault):
    """The broker takes every request and answers none, for longer than a sender waits."""

    name = "pause broker"
    holds = HOLDS
    moments = 20
    few = 0  # it takes seconds; a broker that crashes is the harder case
    in_ci = back_ends = ("production",)

    def strike(self, site: Site, load: Load, draw: Random) -> Struck:
        """Pause Redis, and hand in a job meanwhile: that must be acknowledged all the same."""
        at, begin = clock(), time.monotonic()
        with _server(site) as server:
            server.client_pause(int(draw.uniform(500, 4000)))
        job_id = load.submit(draw)
        wrong = () if job_id else ("no job was accepted while the broker hung",)
        return Struck(at, seconds=time.monotonic() - begin, wrong=wrong)


class LoseMessages(Fault):
    """Every message that waits is gone."""

    name = "lose messages"
    holds = HOLDS
    moments = 40
    in_ci = ("embedded",)
    pause_seconds = (0.0, 0.5)

    def strike(self, site: Site, load: Load, draw: Random) -> Struck:
        """Flush Redis, or remove the files of the embedded broker, just after a job was handed in."""
        at = clock()
        load.submit(draw)
        if _is_server(site):
            with _server(site) as server:
                server.flushall()
        else:
            for path in _messages(site):
                path.unlink(missing_ok=True)
        return Struck(at)


class DoubleMessages(Fault):
    """Every message that waits comes again and again, the newest first."""

    name = "double messages"
    holds = HOLDS
    moments = 40
    copies = 5
    pause_seconds = (0.0, 0.3)

    def strike(self, site: Site, load: Load, draw: Random) -> Struck | None:
        """Catch messages on their way, put them in another order, and have each so many times."""
        at = clock()
        give_up = time.monotonic() + CATCH_SECONDS
        while time.monotonic() < give_up:
            load.submit(draw)
            if self._double(site, draw):
                return Struck(at)
        return None

    def _double(self, site: Site, draw: Random) -> bool:
        if not _is_server(site):
            found = _messages(site)
            draw.shuffle(found)
            with suppress(FileNotFoundError):  # a worker has taken it
                for path in found:
                    copy = path.with_name(f"partial-{uuid.uuid4()}")
                    shutil.copy(path, copy)
                    for number in range(self.copies):
                        # The name begins with the time: this is the order in which they are taken.
                        first = draw.randrange(1_000_000)
                        os.link(copy, path.with_name(f"{first}_{number}{uuid.uuid4()}.{JOBS_QUEUE}.msg"))
                    copy.unlink()
                return bool(found)
            return False
        with _server(site) as server, server.pipeline() as all_at_once:
            all_at_once.lrange(JOBS_QUEUE, 0, -1)
            all_at_once.delete(JOBS_QUEUE)
            found_there = cast("list[bytes]", all_at_once.execute()[0]) * self.copies
            draw.shuffle(found_there)
            if found_there:
                server.rpush(JOBS_QUEUE, *found_there)
            return bool(found_there)


def _is_server(site: Site) -> bool:
    return site.back_end.settings["broker_url"].startswith("redis://")


def _server(site: Site) -> redis.Redis:
    return redis.Redis.from_url(site.back_end.settings["broker_url"], socket_timeout=BACK_SECONDS)


def _answers(server: redis.Redis) -> bool:
    try:
        return bool(server.ping())
    except redis.ConnectionError:
        return False


def _messages(site: Site) -> list[Path]:
    return [path for path in (site.home / "broker" / "messages").iterdir() if path.name.endswith(f".{JOBS_QUEUE}.msg")]
