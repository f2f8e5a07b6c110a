"""Jobs: submitted, watched, cancelled, tried again, deleted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import structlog
from fastapi import APIRouter, BackgroundTasks, Body, Depends, Header, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BeforeValidator
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from api import examples
from api.changes import wait_for_change
from api.dependencies import Caller, KeyFirst, Reader, Services, ServicesParam, Writer, require_json
from api.errors import problems
from api.etags import matches
from api.openapi import answer, headers, request_examples
from api.paging import to_page
from api.queries import JobListQuery, JobQuery, SubmitQuery
from api.refusals import (
    BodyTooLarge,
    MissingScope,
    NoKey,
    NotReady,
    NotThere,
    OtherMediaType,
    UnfitSpec,
    UnusableUpload,
)
from api.resources import to_job, to_jobs
from api.submission import check_size, check_spec, find_candidate, has_files, judge, submit
from db.errors import IdempotencyMismatch, InputDeleted, InvalidTransition, NotFound
from db.queries import jobs
from db.queries.reuse import Twin, identity_of
from modelpress.spec.bounds import check_document
from modelpress.spec.job import JobSpec
from modelpress.spec.resources import Job, JobCheck, Page
from modelpress.spec.state import JobState
from service.deletion import delete_job_and_bytes

log = structlog.stdlib.get_logger(__name__)

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], route_class=KeyFirst)

_USUAL = problems(NoKey, MissingScope, RequestValidationError)

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        description="Any text of your own. Sent again with the same body, it is answered with the job that it made, as "
        "that stands now, and makes no second one: so a request whose answer was lost can be repeated. It holds until "
        "that job is deleted.",
    ),
]


@router.post(
    "",
    status_code=202,
    summary="Submit a job",
    response_model=Job | JobCheck,
    dependencies=[Depends(require_json)],
    responses=answer(
        202,
        "It waits for a worker, or has the result of one that was the same.",
        examples.QUEUED_JOB,
        "Location",
        "Idempotency-Replayed",
    )
    | answer(200, "To a dry run: it would be accepted.", examples.JOB_CHECK, model=JobCheck)
    | problems(
        NoKey,
        MissingScope,
        NotThere,
        NotReady,
        UnusableUpload,
        BodyTooLarge,
        OtherMediaType,
        RequestValidationError,
        UnfitSpec,
        IdempotencyMismatch,
    ),
)
def submit_job(
    response: Response,
    services: ServicesParam,
    caller: Writer,
    background: BackgroundTasks,
    query: Annotated[SubmitQuery, Query()],
    spec: Annotated[JobSpec, BeforeValidator(check_document), Body(openapi_examples=request_examples(examples.SPECS))],
    idempotency_key: IdempotencyKey = None,
) -> Job | JobCheck:
    """A recipe for a model, and the data set that it is trained and measured on.

    It is checked against the model, the data set and the models that students begin as now: a layer that does not
    exist, a rank that is too high, a student with other outputs or a step that needs data without data are refused,
    each by name.

    Where the team has a job that was the same (model, data set, students, recipe and seed, by their content, under the
    same version of ModelPress) and that succeeded, this one has succeeded at once with that one's report and files, and
    `reused_from` names it. `reuse: false` has it run all the same.
    """
    check_size(spec)
    if query.dry_run:
        estimate = check_spec(services.database, caller.team_id, spec)
        with services.database.session(read_only=True) as session:
            twin = find_candidate(session, caller.team_id, spec, identity_of(session, spec))
        response.status_code = 200
        is_there = twin is not None and has_files(services.store, twin)
        return JobCheck(spec=spec, estimate=estimate, reused_from=twin.job_id if twin and is_there else None)
    # Before the transaction: one that writes holds up all other writers.
    verdict = judge(services.database, caller.team_id, spec)
    wait_limit = services.settings.wait_limit_seconds
    with services.database.session() as session:
        row, created = submit(session, caller.team_id, spec, verdict, idempotency_key, wait_limit)
        twin = find_candidate(session, caller.team_id, spec, row.identity) if created else None
        job = to_job(session, row)
    if twin is not None:
        job = _with_result(services, caller, job, twin)
    if job.state is JobState.QUEUED:
        background.add_task(services.wakeup.jobs)
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    if not created:
        response.headers["Idempotency-Replayed"] = "true"
    return job


def _with_result(services: Services, caller: Caller, job: Job, twin: Twin) -> Job:
    """The job with the result of its twin; as it was where anything is in the way, since it is accepted."""
    try:
        if not has_files(services.store, twin):
            return job
        with services.database.session() as session:
            return to_job(session, jobs.take_result(session, caller.team_id, job.id, twin))
    except NotFound:  # deleted since
        return job
    except (OSError, SQLAlchemyError):
        log.exception("result_not_given", job_id=job.id)
        return job


@router.get(
    "",
    summary="List jobs",
    response_model=Page[Job],
    responses=answer(200, "A page of jobs, newest first.", examples.JOBS) | _USUAL,
)
def list_jobs(services: ServicesParam, caller: Reader, query: Annotated[JobListQuery, Query()]) -> Page[Job]:
    """The team's jobs, newest first. Their `attempts` are left out here."""
    with services.database.session(read_only=True) as session:
        rows = jobs.list_jobs(
            session, caller.team_id, state=query.state, model=query.model, after=query.after, limit=query.limit + 1
        )
        return to_page(to_jobs(session, rows), query.limit)


@router.get(
    "/{job_id}",
    summary="Look at a job, or wait for it to change",
    response_model=Job,
    responses=answer(200, "The job.", examples.RUNNING_JOB, "ETag")
    | {
        304: {
            "description": "Nothing has changed since the version that `If-None-Match` names.",
            "headers": headers("ETag"),
        }
    }
    | _USUAL
    | problems(NotThere),
)
async def get_job(
    request: Request,
    services: ServicesParam,
    caller: Reader,
    job_id: str,
    query: Annotated[JobQuery, Query()],
    if_none_match: Annotated[
        str | None, Header(alias="If-None-Match", description="`ETag` of the answer that the caller has.")
    ] = None,
) -> Response:
    """With `wait`, the answer comes at the next change of the job, of its progress or its state. Its place in the queue
    wakes nobody: a new one is seen when the time is up.

    To follow a job: ask with `wait=30` and the last `ETag` as `If-None-Match`, again and again; 304 says that nothing
    happened meanwhile.
    """
    asked = (services, caller.team_id, job_id, if_none_match)
    seen = await run_in_threadpool(_look, *asked)
    known = if_none_match is None or seen.body is None
    if query.wait and known and not seen.is_over:
        await wait_for_change(request, services.watch, job_id, seen.version, query.wait)
        seen = await run_in_threadpool(_look, *asked)
    sent = {"ETag": seen.etag, "Cache-Control": "private, no-cache"}
    if seen.body is None:
        return Response(status_code=304, headers=sent)
    return Response(seen.body, media_type="application/json", headers=sent)


@router.post(
    "/{job_id}/cancel",
    status_code=202,
    summary="Cancel a job",
    response_model=Job,
    responses=answer(202, "It is cancelled, or will be in a moment.", examples.CANCELLING_JOB)
    | _USUAL
    | problems(NotThere, InvalidTransition),
)
def cancel_job(services: ServicesParam, caller: Writer, job_id: str) -> Job:
    """At once when it waits; else its worker stops it within seconds. Doing so again changes nothing."""
    with services.database.session() as session:
        return to_job(session, jobs.cancel(session, caller.team_id, job_id))


@router.post(
    "/{job_id}/retry",
    status_code=202,
    summary="Try a job again",
    response_model=Job,
    responses=answer(202, "It waits for a worker again.", examples.QUEUED_JOB)
    | _USUAL
    | problems(NotThere, InputDeleted, InvalidTransition),
)
def retry_job(services: ServicesParam, caller: Writer, background: BackgroundTasks, job_id: str) -> Job:
    """A job that failed or was cancelled is put at the end of the queue, as it was asked for."""
    with services.database.session() as session:
        job = to_job(session, jobs.retry(session, caller.team_id, job_id))
    background.add_task(services.wakeup.jobs)
    return job


@router.delete(
    "/{job_id}",
    status_code=204,
    summary="Delete a job",
    responses=_USUAL | problems(NotThere, InvalidTransition),
)
def delete_job(services: ServicesParam, caller: Writer, job_id: str) -> None:
    """A job that is over, with its files, report, log, events, and what was kept of its first steps.

    Jobs that were given its result keep it. Models that were uploaded from its files stay; their `derived_from` is
    null then.
    """
    delete_job_and_bytes(services.database, services.store, caller.team_id, job_id)


@dataclass(frozen=True)
class _Seen:
    """A job as one look finds it."""

    body: str | None  # None when the caller has this version already
    version: int
    etag: str
    is_over: bool


def _look(services: Services, team_id: str, job_id: str, if_none_match: str | None) -> _Seen:
    """The job, written out in this thread and not in the server's one. Raises NotThere."""
    with services.database.session(read_only=True) as session:
        standing = jobs.standing(session, team_id, job_id) if if_none_match is not None else None
        if standing is not None:
            version, state = standing
            etag = _etag(version, None)
            # Most looks of those who poll: nothing of the job is read. Where it stands in the queue is another matter.
            if state is not JobState.QUEUED and matches(if_none_match, etag):
                return _Seen(None, version, etag, state.final)
        row = jobs.get_job(session, team_id, job_id)
        if row is None:
            raise NotThere("job", job_id)
        job = to_job(session, row)
    etag = _etag(row.version, job)
    body = None if matches(if_none_match, etag) else job.model_dump_json()
    return _Seen(body, row.version, etag, job.state.final)


def _etag(version: int, job: Job | None) -> str:
    # The place in the queue changes when other jobs do, and what it waits for with the workers, without a new version
    # of this one. The expected start moves with every look: it makes no new answer by itself.
    if job is None or job.waiting is None:
        return f'W/"{version}-0"'
    return f'W/"{version}-{job.queue_position}-{job.waiting.reason}"'
