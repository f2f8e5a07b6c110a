"""Where a model comes from: uploads that are artifacts of earlier jobs."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.models import Artifact, Job, Model
from modelpress.spec.job import ARTIFACT_FILES
from modelpress.spec.report import Ancestor, Origin

MOST_ANCESTORS = 100


def origin(session: Session, team_id: str, sha256: str) -> Origin | None:
    """The team's oldest artifact with this hash: a job that makes the same bytes again is not where they come from.

    In a session that writes: whoever deletes the job waits for its end.
    """
    query = select(Artifact).join(Job, Job.id == Artifact.job_id)
    row = session.scalar(
        query.where(Artifact.sha256 == sha256, Job.team_id == team_id, Artifact.kind.in_(list(ARTIFACT_FILES)))
        .order_by(Artifact.id)
        .limit(1)
        # The job is not deleted before the session ends.
        .with_for_update(read=True, key_share=True, of=Job)
    )
    return None if row is None else Origin(job=row.job_id, artifact=row.id)


def lineage(session: Session, model: Model) -> tuple[Ancestor, ...]:
    """The artifacts that a model comes from, the newest first; none for a model that came from elsewhere.

    A model is uploaded after the job that it comes from, so the chain ends. It is cut off after MOST_ANCESTORS, and
    where a job was deleted.
    """
    ancestors: list[Ancestor] = []
    while model.derived_from is not None and len(ancestors) < MOST_ANCESTORS:
        made_of = session.scalars(
            select(Model).join(Job, Job.model_id == Model.id).where(Job.id == model.derived_from.job)
        ).one_or_none()
        if made_of is None:
            break
        ancestors.append(
            Ancestor(
                job=model.derived_from.job,
                artifact=model.derived_from.artifact,
                sha256=model.sha256,
                model_sha256=made_of.sha256,
            )
        )
        model = made_of
    return tuple(ancestors)
