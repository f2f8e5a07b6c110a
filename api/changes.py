"""Waiting for a job to change, without holding a thread or a session meanwhile."""

from __future__ import annotations

import asyncio
import time

from sse_starlette.sse import AppStatus
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from db.database import Database
from db.queries import jobs

LOOK_SECONDS = 0.2
"""How often the database is asked for the job's version."""


async def wait_for_change(
    request: Request, database: Database, team_id: str, job_id: str, version: int, seconds: float
) -> None:
    """Return when the job has another version than this one, the time is up, or nobody waits any more."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        await asyncio.sleep(min(LOOK_SECONDS, left))
        if await run_in_threadpool(read_version, database, team_id, job_id) != version:
            return
        # The server waits for its requests before it stops: the event streams' library knows that it was told to.
        if AppStatus.should_exit or await request.is_disconnected():
            return


def read_version(database: Database, team_id: str, job_id: str) -> int | None:
    """The job's version; None when there is no such job."""
    with database.session(read_only=True) as session:
        return jobs.version(session, team_id, job_id)
