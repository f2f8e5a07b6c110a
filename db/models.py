"""The tables: the store of record.

    teams --< api_keys
          --< models    --< jobs --< attempts
          --< datasets  --<      --< events      (numbered per job)
                                 --< metrics
                                 --< checkpoints
                                 --< step_results   (of a team: what longer recipes begin with)
                                 --< artifacts
                      jobs >--< models           (job_students: what students begin as)
    workers                                      (what each has; jobs and attempts name them)

A row of `models` or `datasets` is deleted by setting `deleted_at`: jobs keep referring to it. A job is deleted with all
rows below it. `worker` and `lease_expires_at` are set while a worker holds a row, `attempt` is the fence: a worker's
write counts only while the attempt is still its own. `losses` counts the workers that were lost over it since it was
last asked for.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import BigInteger, Enum, Float, ForeignKey, Index, Integer, MetaData, String, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from db.clock import UtcTimestamp, now
from db.document import Document
from db.text import Text
from modelpress.spec.architecture import ArchitectureRef
from modelpress.spec.cost import JobEstimate
from modelpress.spec.event import EVENT, Progress, StageDone, StateChanged, Warned
from modelpress.spec.failure import Failure
from modelpress.spec.inspection import DatasetInspection, ModelInspection
from modelpress.spec.job import JobSpec
from modelpress.spec.network import Preprocessing
from modelpress.spec.report import Origin, Ratios, Report
from modelpress.spec.state import JobState, UploadState

ID_LENGTH = 40

NEWER_THAN_SERVED = (
    ("reuse", True),
    ("steps.*.teacher_view", "augmented"),
    ("steps.*.step_sizes", "fitted"),
    ("steps.*.rate", 0.0),
    ("steps.*.fold_norms", False),
    ("steps.*.vectors", "fp32"),
    ("steps.*.training.epoch_share", 1.0),
    ("steps.*.training.progressive_resizing", None),
    ("steps.*.training.teacher_view", "augmented"),
)
"""Fields of a job's spec that the code before the newest migration does not know. A job that asks for none of them is
one for all; one that does is read by newer workers alone, and an older one that it would fit takes nothing behind it
until one of these has taken it. Whoever adds a migration begins anew, with the fields since."""

LOG_KIND = "log"


def _words(enum: type[StrEnum]) -> Enum:
    # Plain text in the database: a new state then needs no migration of a type.
    return Enum(
        enum,
        native_enum=False,
        create_constraint=False,
        length=16,
        values_callable=lambda members: [member.value for member in members],
    )


class Base(DeclarativeBase):
    """What every table has in common: named constraints, so that a migration can name them too."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {
        datetime: UtcTimestamp(),
        JobState: _words(JobState),
        UploadState: _words(UploadState),
        str: Text(),
        float: Float(53),
        ArchitectureRef: Document(TypeAdapter(ArchitectureRef)),
        Preprocessing: Document(TypeAdapter(Preprocessing)),
        Origin: Document(TypeAdapter(Origin)),
        ModelInspection: Document(TypeAdapter(ModelInspection)),
        DatasetInspection: Document(TypeAdapter(DatasetInspection)),
        Failure: Document(TypeAdapter(Failure)),
        JobSpec: Document(TypeAdapter(JobSpec), unless=NEWER_THAN_SERVED),
        JobEstimate: Document(TypeAdapter(JobEstimate)),
        Progress: Document(TypeAdapter(Progress)),
        Ratios: Document(TypeAdapter(Ratios)),
        Report: Document(TypeAdapter(Report)),
        list[str]: Document(TypeAdapter(list[str])),
    }


def _id(**more: Any) -> Mapped[str]:
    return mapped_column(Text(ID_LENGTH), primary_key=True, **more)


def _refers_to(target: str, **more: Any) -> Mapped[Any]:
    return mapped_column(Text(ID_LENGTH), ForeignKey(target), **more)


class Compatibility(Base):
    """Which code these tables serve: one row, which `db/migrations/env.py` writes with each migration."""

    __tablename__ = "compatibility"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)  # always 1
    oldest_revision: Mapped[str] = mapped_column(String(32))  # that code may expect which goes on with them


class Team(Base):
    """Who owns rows. A caller sees the rows of its own team only."""

    __tablename__ = "teams"

    id: Mapped[str] = _id()
    name: Mapped[str]
    turn: Mapped[int | None] = mapped_column(BigInteger)  # grows over all teams with each claim; null before the first
    created_at: Mapped[datetime] = mapped_column(default=now())


class ApiKey(Base):
    """A key that a caller shows; only its SHA-256 is kept."""

    __tablename__ = "api_keys"

    id: Mapped[str] = _id()
    team_id: Mapped[str] = _refers_to("teams.id", index=True)
    name: Mapped[str]
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    scopes: Mapped[list[str]]  # of db.queries.teams.SCOPES, sorted
    created_at: Mapped[datetime] = mapped_column(default=now())
    last_used_at: Mapped[datetime | None]  # to the minute
    revoked_at: Mapped[datetime | None]


class Upload:
    """What the tables of models and of data sets have in common."""

    id: Mapped[str] = _id()
    team_id: Mapped[str] = _refers_to("teams.id")
    name: Mapped[str]
    sha256: Mapped[str] = mapped_column(String(64), index=True)  # the name of its bytes in the store
    size: Mapped[int] = mapped_column(BigInteger)  # bytes
    state: Mapped[UploadState] = mapped_column(default=UploadState.INSPECTING)
    failure: Mapped[Failure | None]  # why it was rejected
    attempt: Mapped[int] = mapped_column(default=0)  # of its inspection
    losses: Mapped[int] = mapped_column(default=0)
    worker: Mapped[str | None]
    lease_expires_at: Mapped[datetime | None]  # null while it waits for an inspector, and when it is inspected
    created_at: Mapped[datetime] = mapped_column(default=now())
    deleted_at: Mapped[datetime | None]


class Model(Upload, Base):
    """An uploaded model."""

    __tablename__ = "models"
    __table_args__ = (Index(None, "team_id", "id"), Index(None, "state", "created_at"))

    format: Mapped[str] = mapped_column(String(16))  # of modelpress.spec.inspection.ModelFormat
    architecture: Mapped[ArchitectureRef | None]  # null where the file says it itself
    image_size: Mapped[int | None]
    preprocessing: Mapped[Preprocessing | None]
    # No foreign key: models, jobs and artifacts would refer to each other in a circle. Null again when the job is
    # deleted.
    derived_from: Mapped[Origin | None]
    # Up to megabytes: never loaded along with the row. db.queries.uploads gives it to those who look at the model.
    inspection: Mapped[ModelInspection | None] = mapped_column(deferred=True, deferred_raiseload=True)


class Dataset(Upload, Base):
    """An uploaded data set."""

    __tablename__ = "datasets"
    __table_args__ = (Index(None, "team_id", "id"), Index(None, "state", "created_at"))

    # As that of a model.
    inspection: Mapped[DatasetInspection | None] = mapped_column(deferred=True, deferred_raiseload=True)


class Job(Base):
    """A job. `modelpress.spec.state` draws its states and the transitions between them."""

    __tablename__ = "jobs"
    __table_args__ = (
        UniqueConstraint("team_id", "idempotency_key"),
        # What lists are filtered by, and their order: a page is found at its place, however many jobs there are.
        Index(None, "team_id", "id"),
        Index(None, "team_id", "state", "id"),
        Index(None, "team_id", "model_id", "id"),
        Index(None, "team_id", "model_id", "state", "id"),
        Index(None, "state", "queued_at", "id"),
        Index(None, "finished_at"),
        Index(None, "state", "wait_expires_at"),
        Index(None, "identity", "team_id"),
    )

    id: Mapped[str] = _id()
    team_id: Mapped[str] = _refers_to("teams.id")
    name: Mapped[str]
    model_id: Mapped[str] = _refers_to("models.id")
    dataset_id: Mapped[str | None] = _refers_to("datasets.id")
    spec: Mapped[JobSpec]
    idempotency_key: Mapped[str | None]
    # modelpress.spec.identity.job_identity, by the release that accepted it, then by that which runs it; null for a job
    # that was given the result of another.
    identity: Mapped[str | None] = mapped_column(String(64))
    # The job whose result it was given, there or deleted since. No foreign key, which SQLite adds to no table that is
    # there.
    reused_from: Mapped[str | None] = mapped_column(String(ID_LENGTH))
    state: Mapped[JobState] = mapped_column(default=JobState.QUEUED)
    version: Mapped[int] = mapped_column(default=1)  # +1 in every write that a reader can see
    last_seq: Mapped[int] = mapped_column(default=0)  # of its events
    attempt: Mapped[int] = mapped_column(default=0)
    losses: Mapped[int] = mapped_column(default=0)
    # Of its spec, where the claim can ask for it. The server's default is for processes of the version before.
    priority: Mapped[int] = mapped_column(default=0, server_default="0")
    needs_device: Mapped[str] = mapped_column(String(16), default="any", server_default="any")
    needs_cores: Mapped[int] = mapped_column(default=1, server_default="1")
    needs_memory_bytes: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    needs_gpu_memory_bytes: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    estimate: Mapped[JobEstimate | None]  # when it was accepted; null where the inspection was too old for one
    # Of the estimate, where its owner named no need: main memory where it is computed on the processor, and where on
    # GPUs; memory of one GPU.
    least_cpu_memory_bytes: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    least_cuda_memory_bytes: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    least_gpu_memory_bytes: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    # Of attempts that ended since it was last asked for: what counts towards the limit for running.
    run_seconds: Mapped[float] = mapped_column(default=0.0, server_default="0")
    worker: Mapped[str | None]
    lease_expires_at: Mapped[datetime | None]
    progress: Mapped[Progress | None]  # the newest of the newest attempt
    progress_recorded_at: Mapped[datetime | None]  # when the last progress became a row of `events`
    failure: Mapped[Failure | None]
    ratios: Mapped[Ratios | None]  # of the report
    # Tens of kilobytes: never loaded along with the row; db.queries.jobs.get_report asks for it by itself.
    report: Mapped[Report | None] = mapped_column(deferred=True, deferred_raiseload=True)
    created_at: Mapped[datetime] = mapped_column(default=now())
    queued_at: Mapped[datetime] = mapped_column(default=now())  # its place in the queue; kept when a worker is lost
    wait_limit_seconds: Mapped[float | None]  # of its spec, or of the service when it was accepted; null for none
    wait_expires_at: Mapped[datetime | None]  # while it is queued and has such a limit
    started_at: Mapped[datetime | None]  # of the newest attempt
    finished_at: Mapped[datetime | None]


# What a claim asks: has this team a job that waits, how many are held, and which of those that wait is next?
# The last column is for the places in the queue, which are counted in the index alone.
Index("ix_jobs_turn", Job.state, Job.team_id, Job.priority.desc(), Job.queued_at, Job.id, Job.needs_device)


class Worker(Base):
    """A process that carries out jobs, and what it has for one (`modelpress.spec.needs.Capacity`)."""

    __tablename__ = "workers"

    name: Mapped[str] = mapped_column(primary_key=True)
    device: Mapped[str] = mapped_column(String(16))
    cores: Mapped[int]
    memory_bytes: Mapped[int] = mapped_column(BigInteger)
    gpu_memory_bytes: Mapped[int] = mapped_column(BigInteger)
    gpus: Mapped[int] = mapped_column(default=1, server_default="1")
    started_at: Mapped[datetime] = mapped_column(default=now())
    expires_at: Mapped[datetime]  # alive until then; it renews this


class JobStudent(Base):
    """An uploaded model that a student of a job begins as; once, however many steps name it."""

    __tablename__ = "job_students"

    job_id: Mapped[str] = _refers_to("jobs.id", primary_key=True)
    model_id: Mapped[str] = _refers_to("models.id", primary_key=True, index=True)


class Attempt(Base):
    """One try of a worker at a job."""

    __tablename__ = "attempts"

    job_id: Mapped[str] = _refers_to("jobs.id", primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    worker: Mapped[str]
    started_at: Mapped[datetime] = mapped_column(default=now())
    finished_at: Mapped[datetime | None]
    outcome: Mapped[str | None] = mapped_column(String(16))  # succeeded, failed, cancelled, released or lost
    reason: Mapped[str | None]  # why it ended so, where that is not plain
    continues: Mapped[int | None]  # the attempt whose checkpoint it was given; 0: first steps of another job
    counted_seconds: Mapped[float | None]  # towards the limit for running; null while it runs


class Checkpoint(Base):
    """A file by which the next attempt goes on; of each part, the newest that is not superseded.

    A row stays until its bytes are gone, so that whatever dies in between, nothing is left in the store for ever.
    """

    __tablename__ = "checkpoints"

    id: Mapped[str] = _id()
    job_id: Mapped[str] = _refers_to("jobs.id", index=True)
    attempt: Mapped[int]
    part: Mapped[str] = mapped_column(String(16))  # of modelpress.spec.event.CheckpointPart
    sha256: Mapped[str] = mapped_column(String(64), index=True)
    size: Mapped[int] = mapped_column(BigInteger)
    superseded: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[datetime] = mapped_column(default=now())


class StepResult(Base):
    """What the first steps of a recipe made: the bytes of a checkpoint, for longer recipes that begin alike.

    A row stays until its bytes are gone, so that whatever dies in between, nothing is left in the store for ever.
    """

    __tablename__ = "step_results"
    __table_args__ = (Index(None, "team_id", "fingerprint"),)

    id: Mapped[str] = _id()
    team_id: Mapped[str] = _refers_to("teams.id")
    job_id: Mapped[str] = _refers_to("jobs.id")  # that did them
    fingerprint: Mapped[str] = mapped_column(String(64))  # modelpress.spec.identity.step_fingerprints
    steps: Mapped[int]  # how many
    sha256: Mapped[str] = mapped_column(String(64), index=True)
    size: Mapped[int] = mapped_column(BigInteger)
    superseded: Mapped[bool] = mapped_column(default=False)  # by that of a job which was to run it all
    created_at: Mapped[datetime] = mapped_column(default=now())
    last_used_at: Mapped[datetime] = mapped_column(default=now())


class Event(Base):
    """What happened to a job, numbered from 1 within the job."""

    __tablename__ = "events"

    job_id: Mapped[str] = _refers_to("jobs.id", primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    attempt: Mapped[int]
    kind: Mapped[str] = mapped_column(String(16))
    event: Mapped[Progress | StageDone | Warned | StateChanged] = mapped_column(Document(EVENT))
    created_at: Mapped[datetime] = mapped_column(default=now())


class Metric(Base):
    """One figure: of an epoch of a training (`epoch` is set), or of a measured stage (`epoch` is null).

    Example: the result's accuracy over all jobs is `stage = 'final' AND name = 'accuracy.top1'`.
    """

    __tablename__ = "metrics"
    __table_args__ = (Index(None, "job_id", "name"),)

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer(), "sqlite"), primary_key=True)
    job_id: Mapped[str] = _refers_to("jobs.id")
    attempt: Mapped[int]
    stage: Mapped[str] = mapped_column(String(16))  # baseline, step 0, step 1, ..., final
    step: Mapped[int | None]
    epoch: Mapped[int | None]
    name: Mapped[str]
    value: Mapped[float]
    created_at: Mapped[datetime] = mapped_column(default=now())


class Artifact(Base):
    """A file that an attempt at a job made. Its log is one too (`kind` is LOG_KIND)."""

    __tablename__ = "artifacts"
    __table_args__ = (UniqueConstraint("job_id", "attempt", "filename"),)

    id: Mapped[str] = _id()
    job_id: Mapped[str] = _refers_to("jobs.id")
    attempt: Mapped[int]
    kind: Mapped[str] = mapped_column(String(16))
    filename: Mapped[str]
    size: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64), index=True)
    content_type: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=now())
