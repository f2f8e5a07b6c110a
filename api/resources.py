"""From rows to what is answered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from sqlalchemy.orm import Session

from db import models as rows
from db.queries import jobs
from db.queries.places import Place, places
from modelpress.spec.inspection import ModelFormat
from modelpress.spec.resources import Artifact, Attempt, Dataset, Job, JobEvent, Model


def to_model(row: rows.Model) -> Model:
    """An uploaded model."""
    return Model(
        id=row.id,
        name=row.name,
        state=row.state,
        size=row.size,
        sha256=row.sha256,
        created_at=row.created_at,
        failure=row.failure,
        format=cast(ModelFormat, row.format),
        architecture=row.architecture or (row.inspection and row.inspection.network.architecture),
        image_size=row.image_size,
        preprocessing=row.preprocessing,
        derived_from=row.derived_from,
        inspection=row.inspection,
    )


def to_dataset(row: rows.Dataset) -> Dataset:
    """An uploaded data set."""
    return Dataset(
        id=row.id,
        name=row.name,
        state=row.state,
        size=row.size,
        sha256=row.sha256,
        created_at=row.created_at,
        failure=row.failure,
        inspection=row.inspection,
    )


def to_job(session: Session, row: rows.Job) -> Job:
    """A job; asks for its place in the queue and for its attempts."""
    tries = tuple(to_attempt(each) for each in jobs.attempts(session, row.id))
    return _to_job(row, places(session, [row]).get(row.id), tries)


def to_jobs(session: Session, found: Sequence[rows.Job]) -> list[Job]:
    """Jobs of a list, without their attempts; asks for their places in the queue."""
    waiting = places(session, found)
    return [_to_job(row, waiting.get(row.id), ()) for row in found]


def _to_job(row: rows.Job, place: Place | None, attempts: tuple[Attempt, ...]) -> Job:
    return Job(
        id=row.id,
        name=row.name,
        state=row.state,
        spec=row.spec,
        estimate=row.estimate,
        run_seconds=row.run_seconds,
        progress=row.progress,
        queue_position=place and place.position,
        expected_start=place and place.expected_start,
        waiting=place and place.waiting,
        wait_expires_at=row.wait_expires_at if place else None,
        attempt=row.attempt,
        attempts=attempts,
        failure=row.failure,
        ratios=row.ratios,
        reused_from=row.reused_from,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
    )


def to_attempt(row: rows.Attempt) -> Attempt:
    """One try at a job."""
    return Attempt(
        number=row.number,
        worker=row.worker,
        started_at=row.started_at,
        finished_at=row.finished_at,
        outcome=row.outcome,
        reason=row.reason,
        seconds=None if row.finished_at is None else (row.finished_at - row.started_at).total_seconds(),
        continues=row.continues or None,
    )


def to_event(row: rows.Event) -> JobEvent:
    """One event of a job."""
    return JobEvent(id=row.seq, attempt=row.attempt, created_at=row.created_at, event=row.event)


def to_artifact(row: rows.Artifact) -> Artifact:
    """A file that a job made."""
    return Artifact(
        id=row.id,
        job=row.job_id,
        kind=row.kind,
        filename=row.filename,
        size=row.size,
        sha256=row.sha256,
        content_type=row.content_type,
        created_at=row.created_at,
    )
