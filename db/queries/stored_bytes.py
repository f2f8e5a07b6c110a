"""Which rows name which bytes of the store: what the store keeps is needed as long as a row names it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sqlalchemy import ColumnElement, false, func, select, true, update
from sqlalchemy.orm import Session

from db.models import Artifact, Checkpoint, Dataset, Model, StepResult, Upload
from modelpress.spec.failure import Failure
from modelpress.spec.state import UploadState

# Every table whose `sha256` names bytes of the store, and its rows that still do: what was uploaded is deleted by a
# mark, all else by removing the row. Bytes of a table that is missing here would be dropped.
Holding = type[Model] | type[Dataset] | type[Artifact] | type[Checkpoint] | type[StepResult]
HolderKind = Literal["model", "dataset", "artifact", "checkpoint", "step_result"]
HOLDERS: dict[Holding, ColumnElement[bool]] = {
    Model: Model.deleted_at.is_(None),
    Dataset: Dataset.deleted_at.is_(None),
    Artifact: true(),
    Checkpoint: true(),
    StepResult: true(),
}


_KINDS: dict[type, HolderKind] = {
    Model: "model",
    Dataset: "dataset",
    Artifact: "artifact",
    Checkpoint: "checkpoint",
    StepResult: "step_result",
}


@dataclass(frozen=True)
class Holder:
    """A row that names bytes."""

    id: str
    kind: HolderKind
    is_rejected: bool  # an upload that no job will read any more
    sha256: str
    size: int  # bytes, as the row says


def holders(session: Session, begin: str) -> list[Holder]:
    """The rows that name bytes whose hash begins so, oldest first within their kind."""
    # "g" sorts after every hexadecimal digit. A range, other than LIKE, finds its way by the index on both databases.
    return [
        Holder(row.id, _KINDS[table], row.is_rejected, row.sha256, row.size)
        for table, holds in HOLDERS.items()
        for row in session.execute(
            select(table.id, table.sha256, table.size, _is_rejected(table).label("is_rejected"))
            .where(table.sha256 >= begin, table.sha256 < f"{begin}g", holds)
            .order_by(table.id)
        )
    ]


def named_beginnings(session: Session, length: int) -> set[str]:
    """The first `length` digits of all hashes that rows name."""
    return {
        begin
        for table, holds in HOLDERS.items()
        for begin in session.scalars(select(func.substr(table.sha256, 1, length)).where(holds).distinct())
    }


def _is_rejected(table: Holding) -> ColumnElement[bool]:
    return table.state == UploadState.REJECTED if issubclass(table, Upload) else false()


def is_needed(session: Session, sha256: str) -> bool:
    """True while a row names these bytes. To act upon the answer, hold them first (`hold_bytes`)."""
    return any(
        session.scalar(select(table.id).where(table.sha256 == sha256, holds).limit(1)) is not None
        for table, holds in HOLDERS.items()
    )


def reject_uploads(session: Session, sha256: str, failure: Failure) -> list[str]:
    """Reject the models and data sets that name these bytes, inspected or not; gives the ids of those that were not."""
    rejected: list[str] = []
    for table in (Model, Dataset):
        rejected += session.scalars(
            update(table)
            .where(table.sha256 == sha256, HOLDERS[table], table.state != UploadState.REJECTED)
            .values(state=UploadState.REJECTED, failure=failure, worker=None, lease_expires_at=None)
            .returning(table.id)
            .execution_options(synchronize_session=False)
        )
    return rejected
