"""What the first steps of recipes have made, kept for longer recipes that begin alike.

The bytes are those of a checkpoint, which a row here keeps when the job is over. A row stays until its bytes are gone,
so that whatever dies in between, nothing is left in the store for ever.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import delete, func, or_, select, update
from sqlalchemy.orm import Session

from db.clock import now
from db.ids import new_id
from db.models import StepResult
from db.queries.checkpoints import drop_holder


@dataclass(frozen=True)
class FirstSteps:
    """What the first steps of a job made, as a file."""

    job_id: str
    steps: int  # how many
    sha256: str


def keep_step_result(
    session: Session,
    team_id: str,
    made: FirstSteps,
    fingerprint: str,
    *,
    size: int,
    replace: bool,
) -> None:
    """Keep bytes that a checkpoint of the job names, under their lock; what is known already only if `replace`."""
    known = (StepResult.team_id == team_id, StepResult.fingerprint == fingerprint, ~StepResult.superseded)
    if replace:
        session.execute(
            update(StepResult).where(*known).values(superseded=True).execution_options(synchronize_session=False)
        )
    elif session.scalar(select(StepResult.id).where(*known).limit(1)) is not None:
        return
    session.add(
        StepResult(
            id=new_id("stp"),
            team_id=team_id,
            job_id=made.job_id,
            fingerprint=fingerprint,
            steps=made.steps,
            sha256=made.sha256,
            size=size,
        )
    )
    session.flush()


def find_step_result(session: Session, team_id: str, fingerprints: Sequence[str]) -> FirstSteps | None:
    """The longest that the team has; item n of `fingerprints` is that of n steps. It counts as used just now."""
    row = session.scalar(
        select(StepResult)
        .where(StepResult.team_id == team_id, StepResult.fingerprint.in_(fingerprints[1:]), ~StepResult.superseded)
        .order_by(StepResult.steps.desc(), StepResult.id.desc())
        .limit(1)
    )
    if row is None:
        return None
    session.execute(
        update(StepResult)
        .where(StepResult.id == row.id)
        .values(last_used_at=now())
        .execution_options(synchronize_session=False)
    )
    return FirstSteps(row.job_id, row.steps, row.sha256)


def unneeded_step_results(session: Session, limit_bytes: int, most: int = 100) -> list[tuple[str, str]]:
    """Ids and hashes of those that were superseded, and of each team's least used ones above so many bytes."""
    used = (
        select(
            StepResult.id.label("id"),
            func.sum(StepResult.size)
            .over(
                partition_by=StepResult.team_id,
                order_by=(StepResult.last_used_at.desc(), StepResult.id.desc()),
                rows=(None, 0),
            )
            .label("bytes"),
        )
        .where(~StepResult.superseded)
        .subquery()
    )
    above = select(used.c.id).where(used.c.bytes > limit_bytes)
    query = (
        select(StepResult.id, StepResult.sha256)
        .where(or_(StepResult.superseded, StepResult.id.in_(above)))
        .order_by(StepResult.id)
        .limit(most)
    )
    return [(row_id, sha256) for row_id, sha256 in session.execute(query)]


def drop_step_result(session: Session, row_id: str, sha256: str) -> bool:
    """As `db.queries.checkpoints.drop_checkpoint`, of an unneeded one."""
    return drop_holder(session, StepResult, row_id, sha256)


def forget_step_results(session: Session, sha256: str) -> None:
    """Remove the rows whose bytes are of no use to anybody: what they held is computed anew where it is wanted."""
    session.execute(delete(StepResult).where(StepResult.sha256 == sha256).execution_options(synchronize_session=False))
