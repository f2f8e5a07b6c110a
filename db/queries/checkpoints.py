"""What is kept of jobs at work, so that the next attempt goes on, and what of that is no longer needed.

The bytes are written first and seen by nobody; a row makes them the checkpoint. When they are superseded, or the job is
over, whoever looks next drops the bytes and then the row.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import delete, or_, select, update
from sqlalchemy.orm import Session

from db.ids import new_id
from db.models import Checkpoint, Job, StepResult
from db.queries.fence import held
from db.queries.stored_bytes import is_needed
from db.queries.uploads import hold_bytes
from modelpress.spec.event import CheckpointPart
from modelpress.spec.state import FINAL_STATES


@dataclass(frozen=True)
class KeptFile:
    """A file of a checkpoint."""

    attempt: int  # that wrote it
    sha256: str


def keep_checkpoint(
    session: Session, job_id: str, attempt: int, part: CheckpointPart, *, sha256: str, size: int
) -> bool:
    """Let these bytes take the place of the earlier ones; behind completed steps, that of the training in them too.

    False, and nothing changes, when the job is no longer this attempt's. Locks the hash until the session ends: let
    the store publish the bytes inside the same `with database.session()` block.
    """
    # The lock on the row keeps a reaper away until this is written.
    if session.scalar(select(Job.id).where(held(job_id, attempt)).with_for_update()) is None:
        return False
    hold_bytes(session, sha256)
    over = [Checkpoint.part == part, *([Checkpoint.part == "training"] if part == "steps" else [])]
    _supersede(session, Checkpoint.job_id == job_id, or_(*over))
    session.add(Checkpoint(id=new_id("ckp"), job_id=job_id, attempt=attempt, part=part, sha256=sha256, size=size))
    session.flush()
    return True


def checkpoint_of(session: Session, job_id: str) -> dict[CheckpointPart, KeptFile]:
    """What the next attempt at a job goes on from; empty where it starts from the beginning."""
    rows = session.scalars(select(Checkpoint).where(Checkpoint.job_id == job_id, ~Checkpoint.superseded))
    found = {row.part: KeptFile(row.attempt, row.sha256) for row in rows}
    parts: tuple[CheckpointPart, ...] = ("steps", "training")
    return {part: found[part] for part in parts if part in found and "steps" in found}


def supersede_checkpoints(session: Session, job_id: str) -> None:
    """Leave nothing for the next attempt at a job: it starts from the beginning."""
    _supersede(session, Checkpoint.job_id == job_id)


def unneeded_checkpoints(session: Session, limit: int = 100) -> list[tuple[str, str]]:
    """Ids and hashes of files that no attempt will ask for."""
    # From the checkpoints, of which there are few, to their jobs: a join may be made the other way about.
    state = select(Job.state).where(Job.id == Checkpoint.job_id).scalar_subquery()
    query = (
        select(Checkpoint.id, Checkpoint.sha256).where(or_(Checkpoint.superseded, state.in_(FINAL_STATES))).limit(limit)
    )
    return [(row_id, sha256) for row_id, sha256 in session.execute(query)]


def drop_checkpoint(session: Session, row_id: str, sha256: str) -> bool:
    """Remove the row of an unneeded file, as `drop_holder` does."""
    return drop_holder(session, Checkpoint, row_id, sha256)


def drop_holder(session: Session, table: type[Checkpoint] | type[StepResult], row_id: str, sha256: str) -> bool:
    """Remove a row that names bytes. True when nothing else needs them: then drop them, too.

    Hold the hash before (`hold_bytes_unless_held`), and drop the bytes inside the same `with database.session()` block:
    if that fails, the row is there for another try.
    """
    session.execute(delete(table).where(table.id == row_id).execution_options(synchronize_session=False))
    return not is_needed(session, sha256)


def _supersede(session: Session, *which: object) -> None:
    session.execute(
        update(Checkpoint)
        .where(*which, ~Checkpoint.superseded)  # type: ignore[arg-type]
        .values(superseded=True)
        .execution_options(synchronize_session=False)
    )
