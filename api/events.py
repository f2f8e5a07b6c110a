"""A job's events as a stream (server-sent events), resumable where it broke off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from api.changes import LOOK_SECONDS, read_version
from api.resources import says_final, to_event
from db.database import Database
from db.queries import jobs
from modelpress.spec.resources import JobEvent

HEARTBEAT_SECONDS = 15
"""A comment is sent this often, so that nothing on the way takes the connection for dead."""

_BATCH = 200


def event_stream(database: Database, team_id: str, job_id: str, after: int) -> EventSourceResponse:
    """The job's events with numbers above `after`, as they come; ends after the one with a final state."""
    return EventSourceResponse(
        _follow(database, team_id, job_id, after),
        ping=HEARTBEAT_SECONDS,
        sep="\n",
        headers={"Cache-Control": "no-store"},
    )


async def _follow(database: Database, team_id: str, job_id: str, after: int) -> AsyncIterator[ServerSentEvent]:
    version: int | None = -1
    while True:
        # The version first: what changes after this look is seen by the next.
        seen = await run_in_threadpool(read_version, database, team_id, job_id)
        if seen is None:
            return
        if seen == version:
            await asyncio.sleep(LOOK_SECONDS)
            continue
        version = seen
        while True:
            batch = await run_in_threadpool(_read_events, database, job_id, after)
            for event in batch:
                yield ServerSentEvent(id=str(event.id), event=event.event.kind, data=event.model_dump_json(), sep="\n")
                after = event.id
            if len(batch) < _BATCH:
                break
        if says_final(batch) or (not batch and await run_in_threadpool(_is_over, database, team_id, job_id, after)):
            return


def _read_events(database: Database, job_id: str, after: int) -> list[JobEvent]:
    with database.session(read_only=True) as session:
        return [to_event(row) for row in jobs.events_after(session, job_id, after, _BATCH)]


def _is_over(database: Database, team_id: str, job_id: str, after: int) -> bool:
    """True when the job is finished and its last event was sent before: somebody resumes at the very end."""
    with database.session(read_only=True) as session:
        row = jobs.get_job(session, team_id, job_id)
        return row is None or (row.state.final and row.last_seq <= after)
