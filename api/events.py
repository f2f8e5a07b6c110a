"""A job's events as a stream (server-sent events), resumable where it broke off."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from api.changes import Watch
from api.resources import to_event
from db.database import Database
from db.queries import jobs
from modelpress.spec.resources import JobEvent

HEARTBEAT_SECONDS = 15
"""A comment is sent this often, so that nothing on the way takes the connection for dead."""

_BATCH = 200


def event_stream(database: Database, watch: Watch, team_id: str, job_id: str, after: int) -> EventSourceResponse:
    """The job's events with numbers above `after`, as they come; ends with the one that ended the job."""
    return EventSourceResponse(
        _follow(database, watch, team_id, job_id, after),
        ping=HEARTBEAT_SECONDS,
        sep="\n",
        headers={"Cache-Control": "no-store"},
    )


async def _follow(
    database: Database, watch: Watch, team_id: str, job_id: str, after: int
) -> AsyncIterator[ServerSentEvent]:
    while True:
        found = await run_in_threadpool(_look, database, team_id, job_id, after)
        if found is None:
            return
        for event in found.events:
            yield ServerSentEvent(id=str(event.id), event=event.event.kind, data=event.model_dump_json(), sep="\n")
            after = event.id
        if found.is_over:
            return
        if len(found.events) < _BATCH:
            await watch.change(job_id, found.version)


@dataclass(frozen=True)
class _Found:
    """What one look finds."""

    version: int
    events: list[JobEvent]
    is_over: bool  # these are the last ones: a job that failed once may have been tried again since


def _look(database: Database, team_id: str, job_id: str, after: int) -> _Found | None:
    with database.session(read_only=True) as session:
        # The version first: what changes after this look is seen by the next.
        standing = jobs.standing(session, team_id, job_id)
        if standing is None:
            return None
        version, state = standing
        events = [to_event(row) for row in jobs.events_after(session, job_id, after, _BATCH)]
        return _Found(version, events, state.final and len(events) < _BATCH)
