"""Uploads as the workers that inspect them see them.

inspecting, no lease  --claim-->  inspecting, leased  --finish-->  ready | rejected
        ^                                 |
        +--release------------------------+
        +--the lease ran out--------------+   (rejected as worker_lost after N losses)
        +--its engine was killed----------+   (rejected as out_of_memory after N losses)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeVar

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.orm import Session, aliased

from db.clock import now, now_plus
from db.models import Dataset, Model
from db.queries.model_input import ModelInput
from modelpress.spec.failure import Failure, FailureKind
from modelpress.spec.inspection import DatasetInspection, ModelInspection
from modelpress.spec.state import UploadState

UploadKind = Literal["model", "dataset"]
Row = TypeVar("Row", Model, Dataset)
_TABLES: dict[UploadKind, type[Model] | type[Dataset]] = {"model": Model, "dataset": Dataset}


@dataclass(frozen=True)
class ClaimedInspection:
    """An upload that is this worker's to inspect, while it holds the attempt."""

    kind: UploadKind
    id: str
    team_id: str
    attempt: int  # the fence of every later write
    sha256: str  # of its bytes
    model: ModelInput | None  # None for a data set


def has_waiting_inspections(session: Session) -> bool:
    """True when an upload waits for an inspector."""
    return any(
        session.scalar(select(table.id).where(_waiting(table)).limit(1)) is not None for table in _TABLES.values()
    )


def claim_inspection(
    session: Session, worker: str, lease_seconds: float, served: Sequence[str] = ()
) -> ClaimedInspection | None:
    """Take the upload, model or data set, whose turn it is; None when none waits.

    Of the teams that wait, the one of which workers inspect the fewest comes first; of several, one that is not among
    those `served` by this worker before, then the first of these, so that no team's thousand uploads delay another's
    first one; of its uploads the oldest.
    """
    for team_id, kind in _turns(session, served):
        row: Model | Dataset | None
        if kind == "model":
            row = _claim(session, Model, team_id, worker, lease_seconds)
        else:
            row = _claim(session, Dataset, team_id, worker, lease_seconds)
        if row is not None:
            model = ModelInput.of(row) if isinstance(row, Model) else None
            return ClaimedInspection(kind, row.id, row.team_id, row.attempt, row.sha256, model)
    return None


def renew_inspection(session: Session, kind: UploadKind, upload_id: str, attempt: int, lease_seconds: float) -> bool:
    """Hold the upload for longer. False when it is no longer this attempt's, or was deleted: stop."""
    return _write(session, kind, upload_id, attempt, lease_expires_at=now_plus(lease_seconds))


def finish_inspection(
    session: Session,
    kind: UploadKind,
    upload_id: str,
    attempt: int,
    result: ModelInspection | DatasetInspection | Failure,
) -> bool:
    """Make the upload ready with what was found, or rejected with the reason.

    False when it is no longer this attempt's. Raises ValueError for the inspection of the other kind.
    """
    done = {"worker": None, "lease_expires_at": None}
    if isinstance(result, Failure):
        return _write(session, kind, upload_id, attempt, state=UploadState.REJECTED, failure=result, **done)
    if isinstance(result, ModelInspection) is not (kind == "model"):
        raise ValueError(f"{type(result).__name__} is not what an inspection of a {kind} finds")
    return _write(session, kind, upload_id, attempt, state=UploadState.READY, inspection=result, **done)


def release_inspection(session: Session, kind: UploadKind, upload_id: str, attempt: int) -> bool:
    """Give the upload back to be inspected by another worker. False when it is no longer this attempt's."""
    return _write(session, kind, upload_id, attempt, worker=None, lease_expires_at=None)


def lose_inspection(
    session: Session, kind: UploadKind, upload_id: str, attempt: int, failure: Failure, max_attempts: int
) -> UploadState | None:
    """The engine was killed: the upload waits again, until that, or its inspector, was lost too often: then it is
    rejected with `failure`. Its state, or None when it is no longer this attempt's."""
    table = _TABLES[kind]
    done = {"losses": table.losses + 1, "worker": None, "lease_expires_at": None}
    rejected = {**done, "state": UploadState.REJECTED, "failure": failure}
    if _write(session, kind, upload_id, attempt, table.losses + 1 >= max_attempts, **rejected):
        return UploadState.REJECTED
    return UploadState.INSPECTING if _write(session, kind, upload_id, attempt, **done) else None


def reap_inspections(session: Session, max_attempts: int) -> tuple[list[str], list[str]]:
    """Take uploads back from workers whose lease ran out: ids to be inspected again, and ids that were rejected."""
    failure = Failure(
        kind=FailureKind.WORKER_LOST,
        message=f"{max_attempts} workers were lost while they inspected this file; it may need more memory than they "
        "have. See the workers' logs, then upload it again",
    )
    requeued: list[str] = []
    rejected: list[str] = []
    for table in _TABLES.values():
        lost = (table.state == UploadState.INSPECTING, table.deleted_at.is_(None), table.lease_expires_at < now())
        given_up = (
            update(table)
            .where(*lost, table.losses + 1 >= max_attempts)
            .values(
                state=UploadState.REJECTED, failure=failure, losses=table.losses + 1, worker=None, lease_expires_at=None
            )
        )
        again = update(table).where(*lost).values(losses=table.losses + 1, worker=None, lease_expires_at=None)
        for statement, ids in ((given_up, rejected), (again, requeued)):
            ids += session.scalars(statement.returning(table.id).execution_options(synchronize_session=False))
    return requeued, rejected


def _waiting(table: type[Model] | type[Dataset]) -> ColumnElement[bool]:
    return (table.state == UploadState.INSPECTING) & table.lease_expires_at.is_(None) & table.deleted_at.is_(None)


def _turns(session: Session, served: Sequence[str]) -> list[tuple[str, UploadKind]]:
    """Teams that wait, with the kind of their oldest upload first and the other one behind it."""
    held: Counter[str] = Counter()
    heads: list[tuple[datetime, str, UploadKind]] = []
    for kind, table in _TABLES.items():
        at_work = (table.state == UploadState.INSPECTING, table.lease_expires_at.is_not(None))
        for team_id, count in session.execute(
            select(table.team_id, func.count()).where(*at_work).group_by(table.team_id)
        ):
            held[team_id] += count
        oldest = select(func.min(table.created_at), table.team_id).where(_waiting(table)).group_by(table.team_id)
        heads += [(since, team_id, kind) for since, team_id in session.execute(oldest)]
    heads.sort()
    since = {team_id: created_at for created_at, team_id, _ in reversed(heads)}
    turn = {team_id: number for number, team_id in enumerate(served)}
    heads.sort(key=lambda head: (held[head[1]], turn.get(head[1], -1), since[head[1]]))
    return [(team_id, kind) for _, team_id, kind in heads]


def _claim(session: Session, table: type[Row], team_id: str, worker: str, lease_seconds: float) -> Row | None:
    candidate = aliased(table)
    oldest = (
        select(candidate.id)
        .where(_waiting(candidate), candidate.team_id == team_id)
        .order_by(candidate.created_at, candidate.id)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    claimed_id = session.scalar(
        update(table)
        .where(table.id == oldest, _waiting(table))
        .values(attempt=table.attempt + 1, worker=worker, lease_expires_at=now_plus(lease_seconds))
        .returning(table.id)
        .execution_options(synchronize_session=False)
    )
    return None if claimed_id is None else session.get_one(table, claimed_id, populate_existing=True)


def _write(
    session: Session, kind: UploadKind, upload_id: str, attempt: int, *where: ColumnElement[bool], **values: object
) -> bool:
    table = _TABLES[kind]
    written = session.scalar(
        update(table)
        .where(
            table.id == upload_id,
            table.attempt == attempt,
            table.state == UploadState.INSPECTING,
            table.lease_expires_at.is_not(None),
            table.deleted_at.is_(None),
            *where,
        )
        .values(**values)
        .returning(table.id)
        .execution_options(synchronize_session=False)
    )
    return written is not None
