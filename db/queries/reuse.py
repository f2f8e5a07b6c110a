"""Jobs that are the same as one that succeeded: found by their identity, and given its result.

Its files are shared by their hash: bytes stay as long as one of the jobs does.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, String, select, type_coerce
from sqlalchemy.orm import Session

from db.clock import now
from db.errors import NotFound
from db.ids import new_id
from db.models import LOG_KIND, Artifact, Dataset, Job, Model
from db.queries.lineage import lineage
from db.queries.metrics import report_metrics
from db.queries.model_input import ModelInput
from db.queries.transitions import NOBODYS, Moved, move
from modelpress.spec.event import Progress
from modelpress.spec.identity import Inputs, job_identity
from modelpress.spec.job import JobSpec
from modelpress.spec.report import Report
from modelpress.spec.state import JobState
from modelpress.spec.steps import uploaded_students


@dataclass(frozen=True)
class Twin:
    """A job that was the same, was run, and succeeded."""

    job_id: str
    files: tuple[str, ...]  # hashes of what it made


def identity_of(session: Session, spec: JobSpec) -> str:
    """The identity of a job whose inputs are there."""
    return job_identity(_inputs_of(session, spec), spec)


def find_twin(session: Session, team_id: str, identity: str) -> Twin | None:
    """The team's newest job with this identity that was run and succeeded. Look whether its bytes are there."""
    row = session.execute(
        select(Job.id, Job.attempt)
        .where(Job.team_id == team_id, Job.identity == identity)
        # Few jobs are of one identity. The bare columns would lead elsewhere through a long history: SQLite by the
        # states of a team, PostgreSQL, where it thinks the identity common, from the newest job backwards.
        .where(type_coerce(Job.state, String) + "" == JobState.SUCCEEDED.value)
        .order_by((Job.id + "").desc())
        .limit(1)
    ).one_or_none()
    return None if row is None else Twin(row.id, tuple(file.sha256 for file in _files(session, row.id, row.attempt)))


def give_result(
    session: Session, job_id: str, source: JobState, twin: str, *where: ColumnElement[bool]
) -> Moved | None:
    """Let a job that is in `source` succeed with the result of its twin; None when it no longer is there.

    Raises NotFound when the twin was deleted since it was found.
    """
    # The lock keeps the twin from being deleted until these rows name its bytes, too.
    found = session.execute(
        select(Job.attempt, Job.spec, Job.report).where(Job.id == twin).with_for_update(read=True)
    ).one_or_none()
    if found is None:
        raise NotFound("job", twin)
    attempt, spec, report = found
    report = _report_for(session, job_id, report, twin)
    moved = move(
        session,
        source,
        JobState.SUCCEEDED,
        Job.id == job_id,
        *where,
        reason=reason_of(twin),
        ratios=report.ratios,
        report=report,
        progress=Progress(stage="done", steps=len(spec.steps), fraction=1.0, eta_seconds=0.0),
        reused_from=twin,
        identity=None,  # the next one is given that of the twin, too, however often it is asked for
        wait_expires_at=None,
        finished_at=now(),
        **NOBODYS,
    )
    if not moved:
        return None
    (job,) = moved
    session.add_all(report_metrics(job.job_id, job.attempt, report))
    session.add_all(
        Artifact(
            id=new_id("art"),
            job_id=job.job_id,
            attempt=job.attempt,
            kind=file.kind,
            filename=file.filename,
            size=file.size,
            sha256=file.sha256,
            content_type=file.content_type,
        )
        for file in _files(session, twin, attempt)
    )
    session.flush()
    return job


def reason_of(twin: str) -> str:
    """Why a job has succeeded that was not run."""
    return f"it is the same as {twin}, and was given its result"


def _report_for(session: Session, job_id: str, report: Report, twin: str) -> Report:
    model = session.scalars(select(Model).join(Job, Job.model_id == Model.id).where(Job.id == job_id)).one()
    own = {"lineage": lineage(session, model), "reused_from": twin}
    return report.model_copy(update={"provenance": report.provenance.model_copy(update=own)})


def _files(session: Session, job_id: str, attempt: int) -> list[Artifact]:
    # Not the log, which tells what was done: here nothing was.
    made = (Artifact.job_id == job_id, Artifact.attempt == attempt, Artifact.kind != LOG_KIND)
    return list(session.scalars(select(Artifact).where(*made).order_by(Artifact.id)))


def _inputs_of(session: Session, spec: JobSpec) -> Inputs:
    ids = {spec.model, *uploaded_students(spec.steps)}
    models = {row.id: ModelInput.of(row) for row in session.scalars(select(Model).where(Model.id.in_(ids)))}
    dataset = None
    if spec.dataset is not None:
        dataset = session.scalars(select(Dataset.sha256).where(Dataset.id == spec.dataset)).one()
    given = {model_id: model.given for model_id, model in models.items()}
    return Inputs(given[spec.model], dataset, given)
