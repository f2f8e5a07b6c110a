"""Waiting for jobs to change: one question to the database for all who wait, however many they are."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from sse_starlette.sse import AppStatus
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from db.database import Database
from db.queries import jobs

LOOK_SECONDS = 0.2
"""How often the database is asked for the versions of the jobs that somebody waits for."""

_GONE_SECONDS = 2.0  # between two looks whether who waits is still there
_LAST_ANSWER_SECONDS = 2.0  # a connection in use outlives the pool that the application then closes


@dataclass(eq=False)
class _Waiter:
    """Somebody who knows a version of a job, and waits for another."""

    job_id: str
    version: int
    woken: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Watch:
    """What one application's callers wait for. Asks while somebody waits, and holds no thread and no session between.

    All of it runs on the loop's thread but the question itself.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiters: set[_Waiter] = set()
        self._task: asyncio.Task[None] | None = None

    async def change(self, job_id: str, version: int) -> None:
        """Return when the job has another version than this one, is gone, or the process was told to stop.

        Raises sqlalchemy's errors when the database does not answer.
        """
        waiter = _Waiter(job_id, version)
        self._waiters.add(waiter)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._look())
        try:
            await waiter.woken
        finally:
            self._waiters.discard(waiter)

    async def close(self) -> None:
        """Ask no more; return when the last question is answered, or after a moment when the database is silent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=_LAST_ANSWER_SECONDS)

    async def _look(self) -> None:
        while self._waiters:
            await asyncio.sleep(LOOK_SECONDS)
            asked = {waiter.job_id for waiter in self._waiters}
            try:
                versions = await run_in_threadpool(self._versions, asked)
            except Exception as error:  # noqa: BLE001  # whatever it is, it is the answer to those who asked
                self._wake(dict.fromkeys((each for each in self._waiters if each.job_id in asked), error))
                continue
            # The server waits for its requests before it stops: the event streams' library knows that it was told to.
            self._wake(
                dict.fromkeys(
                    waiter
                    for waiter in self._waiters
                    if AppStatus.should_exit
                    or (waiter.job_id in asked and versions.get(waiter.job_id) != waiter.version)
                )
            )

    def _versions(self, job_ids: Collection[str]) -> dict[str, int]:
        with self._database.session(read_only=True) as session:
            return jobs.versions(session, job_ids)

    @staticmethod
    def _wake(waiters: Mapping[_Waiter, Exception | None]) -> None:
        for waiter, error in waiters.items():
            if waiter.woken.done():
                continue
            if error is None:
                waiter.woken.set_result(None)
            else:
                waiter.woken.set_exception(error)


async def wait_for_change(request: Request, watch: Watch, job_id: str, version: int, seconds: float) -> None:
    """Return when the job has another version than this one, the time is up, or nobody waits any more."""
    deadline = time.monotonic() + seconds
    change = asyncio.ensure_future(watch.change(job_id, version))
    try:
        while (left := deadline - time.monotonic()) > 0:
            done, _ = await asyncio.wait({change}, timeout=min(left, _GONE_SECONDS))
            if done:
                change.result()
                return
            if await request.is_disconnected():
                return
    finally:
        change.cancel()
