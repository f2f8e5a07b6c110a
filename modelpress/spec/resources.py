"""What the API answers with: shared by the server that writes it and the client that reads it."""

from __future__ import annotations

from datetime import datetime
from typing import Generic, Literal, TypeVar

from pydantic import Field, JsonValue

from modelpress.spec.architecture import ArchitectureRef
from modelpress.spec.config import Resource
from modelpress.spec.cost import JobEstimate
from modelpress.spec.event import Event, Progress
from modelpress.spec.failure import Failure
from modelpress.spec.graph import GraphOutline
from modelpress.spec.inspection import DatasetInspection, ModelFormat, ModelInspection
from modelpress.spec.job import JobSpec
from modelpress.spec.network import Preprocessing
from modelpress.spec.report import Origin, Ratios
from modelpress.spec.state import JobState, UploadState
from modelpress.spec.waiting import Waiting


class Upload(Resource):
    """What an uploaded model and an uploaded data set have in common."""

    id: str = Field(description="Its id.")
    name: str = Field(description="A label of your own.")
    state: UploadState = Field(description="Where it stands.")
    size: int = Field(description="Bytes.")
    sha256: str = Field(description="SHA-256 of the file, hexadecimal.")
    created_at: datetime = Field(description="When it was uploaded, UTC.")
    failure: Failure | None = Field(default=None, description="Why it was rejected.")


class Model(Upload):
    """An uploaded model."""

    format: ModelFormat = Field(description="Format of the file.")
    architecture: ArchitectureRef | GraphOutline | None = Field(
        description="The network that its weights are for: as named with the upload or, where the file says it itself, "
        "as the inspection found it; null until then."
    )
    image_size: int | None = Field(default=None, description="Height and width, where not the architecture's default.")
    preprocessing: Preprocessing | None = Field(default=None, description="As given with the upload.")
    derived_from: Origin | None = Field(
        default=None,
        description="The artifact of one of the team's jobs that the file was when it was uploaded; null where it was "
        "none, or the job was deleted.",
    )
    inspection: ModelInspection | None = Field(default=None, description="Null until the state is `ready`.")


class Dataset(Upload):
    """An uploaded data set."""

    inspection: DatasetInspection | None = Field(default=None, description="Null until the state is `ready`.")


class Attempt(Resource):
    """One try of a worker at a job."""

    number: int = Field(description="1 is the first.")
    worker: str = Field(description="Name of the worker.")
    started_at: datetime = Field(description="When the worker took the job, UTC.")
    finished_at: datetime | None = Field(description="When it ended, UTC; null while it runs.")
    outcome: str | None = Field(description="succeeded, failed, cancelled, released or lost; null while it runs.")
    reason: str | None = Field(default=None, description="Why it ended so, where that is not plain.")
    seconds: float | None = Field(default=None, description="How long it took; null while it runs.")
    continues: int | None = Field(
        default=None,
        description="Number of the attempt from whose checkpoint it went on; null for one that began at the beginning.",
    )


class Job(Resource):
    """A job."""

    id: str = Field(description="Its id.")
    name: str = Field(description="A label of your own.")
    state: JobState = Field(description="Where it stands.")
    spec: JobSpec = Field(description="What was asked for, with every default filled in.")
    estimate: JobEstimate | None = Field(
        default=None,
        description="What it needs and how long it runs, as estimated when it was accepted; null where older versions "
        "inspected its inputs.",
    )
    run_seconds: float = Field(
        default=0.0, description="Seconds of its limit for running that attempts which ended have used up."
    )
    progress: Progress | None = Field(default=None, description="The newest progress; null before the first.")
    queue_position: int | None = Field(
        default=None,
        description="1 is taken next, of the jobs of all teams that are for the same kind of worker; null unless "
        "queued.",
    )
    expected_start: datetime | None = Field(
        default=None,
        description="Estimate, UTC, from the position, the workers that are alive and how long jobs ran of late; null "
        "unless queued, and where there is nothing to go by.",
    )
    waiting: Waiting | None = Field(default=None, description="What it waits for; null unless queued.")
    wait_expires_at: datetime | None = Field(
        default=None, description="When it fails if no worker has taken it until then, UTC; null where it may wait."
    )
    attempt: int = Field(description="Number of the newest attempt; 0 before the first.")
    attempts: tuple[Attempt, ...] = Field(
        default=(), description="Tries of workers at it, oldest first; empty in lists."
    )
    failure: Failure | None = Field(default=None, description="Why it failed.")
    ratios: Ratios | None = Field(default=None, description="Of a job that succeeded.")
    reused_from: str | None = Field(
        default=None,
        description="Id of the job that was the same and whose result this one was given, there or deleted since; null "
        "for one that is run.",
    )
    created_at: datetime = Field(description="When it was accepted, UTC.")
    started_at: datetime | None = Field(
        default=None,
        description="When its newest attempt began, UTC; null while it waits, and for a job that was given another's "
        "result at once. `attempts` has them all.",
    )
    finished_at: datetime | None = Field(default=None, description="When it reached a final state, UTC.")


class JobCheck(Resource):
    """Answer to a dry run: the job would be accepted."""

    accepted: Literal[True] = Field(
        default=True, description="Always true: a spec that does not fit is answered with a problem."
    )
    spec: JobSpec = Field(description="With every default filled in.")
    reused_from: str | None = Field(
        default=None,
        description="Id of the job that was the same and whose result it would be given at once; null where it would "
        "be run.",
    )
    estimate: JobEstimate | None = Field(
        default=None,
        description="What it would need, and how long it would run; null where older versions inspected its inputs.",
    )


class JobEvent(Resource):
    """One event of a job, as the event stream and the log show it."""

    id: int = Field(description="Grows with each event of the job; the Last-Event-ID to resume from.")
    attempt: int = Field(description="Number of the attempt that it belongs to.")
    created_at: datetime = Field(description="When it was recorded, UTC.")
    event: Event = Field(description="What happened.")


class Artifact(Resource):
    """A file that a job made."""

    id: str = Field(description="Its id.")
    job: str = Field(description="Id of the job that made it.")
    kind: str = Field(description="As the recipe's `artifacts` name it, or `model_card`.")
    filename: str = Field(description="Name to save it under.")
    size: int = Field(description="Bytes.")
    sha256: str = Field(description="SHA-256 of the file, hexadecimal.")
    content_type: str = Field(description="Media type.")
    created_at: datetime = Field(description="When it was stored, UTC.")


Item = TypeVar("Item")


class Page(Resource, Generic[Item]):
    """One page of a list, newest first."""

    items: list[Item] = Field(description="The items of this page.")
    next: str | None = Field(default=None, description="Value of `after` for the next page; null on the last.")


class FieldError(Resource):
    """One thing wrong with a request."""

    where: str = Field(description="Place in the body or the query, such as `steps.0.sparsity`.")
    message: str = Field(description="What is wrong with it.")


class Problem(Resource):
    """A problem document (RFC 9457)."""

    type: str = Field(description="Stable name of this kind of problem, a URI reference such as `/problems/not-found`.")
    title: str = Field(description="This kind of problem, in words.")
    status: int = Field(description="HTTP status code.")
    detail: str = Field(description="What is wrong here, and what to do about it.")
    instance: str | None = Field(default=None, description="Path of the request.")
    request_id: str | None = Field(default=None, description="Id to look for in the server's log.")
    errors: tuple[FieldError, ...] = Field(
        default=(), description="Each field of the request that is wrong; empty where it is about none."
    )
    extra: dict[str, JsonValue] = Field(default_factory=dict, description="More, by kind of problem.")
