"""What a job says and makes: events, log, report, artifacts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import StreamingResponse
from sqlalchemy.orm import Session
from sse_starlette import EventSourceResponse
from starlette.concurrency import run_in_threadpool

from api import examples
from api.dependencies import Reader, Services, ServicesParam
from api.errors import problems
from api.events import event_stream
from api.openapi import answer
from api.queries import EventsQuery
from api.refusals import MissingScope, NoKey, NoReport, NotThere
from api.resources import to_artifact, to_event
from api.transcript import transcript
from db.models import LOG_KIND, Job
from db.queries import jobs
from modelpress.spec.report import Report
from modelpress.spec.resources import Artifact, JobEvent
from storage.store import NotStored, StoreUnavailable

router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["jobs"])

_TEXT = "text/plain; charset=utf-8"
_EVENTS_PER_PAGE = 500
_USUAL = problems(NoKey, MissingScope, NotThere, RequestValidationError)
_LOG: dict[int | str, dict[str, Any]] = {
    200: {"description": "What the job printed.", "content": {"text/plain": {"schema": {"type": "string"}}}}
}
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Server-sent events: `id`, `event` (the kind), `data` (a `JobEvent`). Ends behind the last "
        "event of a job that is over; one that was tried again has a final state in the midst, too. A stream that ends "
        "otherwise broke off (the service stopped, the job was deleted): ask again with the last `id`.",
        "content": {
            "text/event-stream": {
                "schema": {"type": "string"},
                "example": f"id: {examples.EVENT.id}\nevent: {examples.EVENT.event.kind}\n"
                f"data: {examples.EVENT.model_dump_json()}\n\n",
            }
        },
    }
}


@router.get(
    "/events",
    summary="Stream a job's events",
    response_class=EventSourceResponse,
    responses=_STREAM | _USUAL,
)
async def stream_events(
    services: ServicesParam,
    caller: Reader,
    job_id: str,
    query: Annotated[EventsQuery, Query()],
    last_event_id: Annotated[
        int | None,
        Header(
            alias="Last-Event-ID",
            ge=0,
            lt=2**31,
            description="Only events after this one.",
        ),
    ] = None,
) -> EventSourceResponse:
    """Everything that happened to the job so far, then what happens, as it happens."""
    await run_in_threadpool(_require_job, services, caller.team_id, job_id)
    after = query.last_event_id if last_event_id is None else last_event_id
    return event_stream(services.database, services.watch, caller.team_id, job_id, after)


@router.get(
    "/log",
    summary="Read a job's log",
    response_class=Response,
    responses=_LOG | _USUAL | problems(NotStored, StoreUnavailable),
)
def get_log(services: ServicesParam, caller: Reader, job_id: str) -> Response:
    """What the newest attempt printed; while it runs, its events as lines."""
    with services.database.session(read_only=True) as session:
        _find(session, caller.team_id, job_id)
        log = next((row for row in jobs.artifacts(session, job_id) if row.kind == LOG_KIND), None)
    if log is None:
        return StreamingResponse(transcript(_all_events(services, job_id)), media_type=_TEXT)
    try:
        pieces = services.store.read(log.sha256)
    except NotStored:
        _require_job(services, caller.team_id, job_id)  # lost, unless the job was deleted since we looked
        raise
    return StreamingResponse(pieces, headers={"Content-Length": str(log.size)}, media_type=_TEXT)


@router.get(
    "/report",
    summary="Read a job's report",
    response_model=Report,
    responses=answer(200, "The report.", examples.REPORT) | _USUAL | problems(NoReport),
)
def get_report(services: ServicesParam, caller: Reader, job_id: str) -> Report:
    """The figures of the original, after each step, and of the files that can be downloaded."""
    with services.database.session(read_only=True) as session:
        job = _find(session, caller.team_id, job_id)
        report = jobs.get_report(session, job)
    if report is None:
        advice = "it will not have one" if job.state.final else "wait for it to succeed"
        raise NoReport(f"job {job_id!r} is {job.state.value} and has no report; {advice}")
    return report


@router.get(
    "/artifacts",
    summary="List a job's artifacts",
    response_model=list[Artifact],
    responses=answer(200, "The files of the newest attempt.", examples.ARTIFACTS) | _USUAL,
)
def list_artifacts(services: ServicesParam, caller: Reader, job_id: str) -> list[Artifact]:
    """The files that can be downloaded; none before the job is done."""
    with services.database.session(read_only=True) as session:
        _find(session, caller.team_id, job_id)
        return [to_artifact(row) for row in jobs.artifacts(session, job_id) if row.kind != LOG_KIND]


def _find(session: Session, team_id: str, job_id: str) -> Job:
    row = jobs.get_job(session, team_id, job_id)
    if row is None:
        raise NotThere("job", job_id)
    return row


def _require_job(services: Services, team_id: str, job_id: str) -> None:
    with services.database.session(read_only=True) as session:
        _find(session, team_id, job_id)


def _all_events(services: Services, job_id: str) -> Iterator[JobEvent]:
    after = 0
    while True:
        # A session per page: a reader that is slow to take the text holds none.
        with services.database.session(read_only=True) as session:
            page = [to_event(row) for row in jobs.events_after(session, job_id, after, _EVENTS_PER_PAGE)]
        yield from page
        if len(page) < _EVENTS_PER_PAGE:
            return
        after = page[-1].id
